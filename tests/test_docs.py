"""Every example of the documentation is run, page by page, and its output is compared with the page.

In ``docs/*.md`` and ``README.md``, in the order of the page and in one namespace:

* a fence ``python`` is run, ``pycon`` is run as a doctest, and in ``console`` what follows a ``$``;
* a fence ``text`` directly after one of ``python`` is its output.

A comment on the line before a fence changes that:

* ``<!-- file: NAME -->`` saves it under this name instead, for later examples;
* ``<!-- varies: REASON -->`` runs it, but does not compare what it prints;
* ``<!-- not run: REASON -->`` does not run it.

Durations such as ``0.03 s`` are never compared, and ``...`` matches anything. Pages that start a cluster
or take long are run with ``-m slow``.
"""

from __future__ import annotations

import doctest
import inspect
import json
import os
import re
import runpy
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

import codedmap as cm

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
FACES = (cm, *(thing for name in cm.__all__ if inspect.ismodule(thing := getattr(cm, name))))

# The script that runs a page. Dask's processes import it as well; the guard keeps them from running it.
SCRIPT = r"""
if __name__ == "__main__":
    import contextlib as _contextlib, doctest as _doctest, io as _io, json as _json
    import pathlib as _pathlib, subprocess as _subprocess, sys as _sys

    _printed = []
    for _step in _json.loads(_pathlib.Path(_sys.argv[1]).read_text()):
        _out, _source = _io.StringIO(), _step["source"]
        if _step["kind"] == "file":
            _pathlib.Path(_step["note"]).write_text(_source)
        elif _step["kind"] == "python":
            # Empty lines give tracebacks the line numbers of the page.
            _code = compile("\n" * (_step["line"] - 1) + _source, _step["page"], "exec")
            with _contextlib.redirect_stdout(_out):
                exec(_code, globals())
        elif _step["kind"] == "pycon":
            _test = _doctest.DocTestParser().get_doctest(
                _source, {}, _step["page"], _step["page"], _step["line"] - 1
            )
            _test.globs = globals()
            _runner = _doctest.DocTestRunner(optionflags=_doctest.ELLIPSIS, verbose=False)
            if _runner.run(_test, clear_globs=False).failed:
                _sys.exit(1)
        elif _step["kind"] == "console":
            for _command in _step["commands"]:
                _run = _subprocess.run(
                    _command, shell=True, text=True,
                    stdout=_subprocess.PIPE, stderr=_subprocess.STDOUT,
                )
                _out.write(f"$ {_command}\n{_run.stdout}")
                if _run.returncode != 0:
                    _sys.exit(_out.getvalue())
        _printed.append(_out.getvalue())
    _pathlib.Path(_sys.argv[2]).write_text(_json.dumps(_printed))
"""


@dataclass
class Step:
    """One example."""

    kind: str
    source: str
    page: str
    line: int
    note: str = ""
    """The text of the comment before it."""
    prints: str | None = None
    """The output on the page, if there is one."""
    commands: tuple[str, ...] = ()


def steps(page: Path) -> list[Step]:
    """The examples of a page, in order."""
    found: list[Step] = []
    lines = page.read_text().splitlines()
    at, before = 0, None
    while at < len(lines):
        fence = re.fullmatch(r"(`{3,})(.*)", lines[at])
        if fence is None:
            before = None if lines[at].strip() else before
            at += 1
            continue
        end = lines.index(fence[1], at + 1)
        source = "\n".join([*lines[at + 1 : end], ""])
        comment = re.fullmatch(r"<!-- (file|varies|not run):(.*)-->", lines[at - 1]) if at else None
        word, note = (comment[1], comment[2].strip()) if comment else ("", "")
        step = Step(fence[2].strip(), source, str(page.relative_to(ROOT)), at + 2, note)
        assert note or not word, f"{step.page}:{at}: the comment needs a reason"
        if step.kind == "text" and before is not None:
            before.prints = source
        before = None
        if step.kind in ("python", "pycon", "console") and word != "not run":
            found.append(step)
            if word == "file":
                step.kind = "file"
            elif step.kind == "console":
                typed = re.findall(r"^\$ ((?:.*\\\n)*.*)", source, re.MULTILINE)
                step.commands = tuple(typed)
                step.prints = "..." if word == "varies" else source
            elif step.kind == "python":
                before = None if word == "varies" else step
                step.prints = "..." if word == "varies" else None
        at = end + 1
    return found


def run(todo: list[Step], folder: Path) -> list[str]:
    """The output of each example."""
    script, plan, printed = folder / "page.py", folder / "plan.json", folder / "printed.json"
    script.write_text(SCRIPT)
    plan.write_text(json.dumps([asdict(step) for step in todo]))
    place = folder / "place"
    place.mkdir()
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    environment.pop("COLUMNS", None)  # else tables are as narrow as the terminal
    done = subprocess.run(
        [sys.executable, "-W", "error", script, plan, printed],
        env={**environment, "PATH": path}, cwd=place, timeout=120,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stderr == ""
    answers: list[str] = json.loads(printed.read_text())
    return answers


def same(shown: str, printed: str) -> bool:
    """True if the outputs agree, except for durations and ``...``."""
    texts = [re.sub(r"\b\d+\.\d+ s\b", "some s", text) for text in (shown, printed)]
    return doctest.OutputChecker().check_output(*texts, doctest.ELLIPSIS)


LONG = "byzantine choose cli commands kernel latency plan pools sensitivity sweep training waiting".split()
"""Pages whose examples take seconds: what they use is tested elsewhere too."""


def takes_long(page: Path) -> bool:
    """Whether it starts a cluster, or is one of the longest of those that do not."""
    return page.stem in LONG or any(
        re.search(r"\bLocalCluster\(|\bray\.init\(", step.source) for step in steps(page)
    )


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.name, marks=[pytest.mark.slow] * takes_long(page))
        for page in PAGES
    ],
)
def test_examples_run_and_print_what_the_page_says(page, tmp_path):
    todo = steps(page)
    for step, printed in zip(todo, run(todo, tmp_path) if todo else [], strict=True):
        where = f"{step.page}:{step.line}"
        if step.prints is not None:
            assert same(step.prints, printed), f"{where} prints\n{printed}\nnot\n{step.prints}"
        elif page.parent == DOCS:
            assert not printed, f"{where} prints what the page does not show:\n{printed}"


def test_examples_in_docstrings_run(tmp_path):
    public = [*FACES, *(getattr(face, name) for face in FACES for name in face.__all__)]
    texts = {inspect.getdoc(thing) or "" for thing in public}
    imports = ">>> import numpy as np\n\n"
    todo = [Step("pycon", imports + text, text[:40], 1) for text in sorted(texts) if ">>>" in text]
    assert len(todo) >= 4
    run(todo, tmp_path)


def test_examples_with_local_have_no_main_guard():
    found = [step for page in PAGES for step in steps(page) if "engines.Local(" in step.source]
    assert len(found) >= 3
    assert not [f"{step.page}:{step.line}" for step in found if "__main__" in step.source]


def test_the_api_pages_name_all_that_is_public_under_its_public_name():
    other = runpy.run_path(str(DOCS / "conf.py"))["other_codes"]()
    pages = "".join(page.read_text() for page in sorted(DOCS.glob("api/*.md")))
    pages = pages.replace(".. all other codes", other)
    named = []
    for module, part in re.findall(r"currentmodule:: (\S+)\n(.*?)```", pages, re.DOTALL):
        names = re.findall(r"auto\w+:: ([\w.]+)", part)
        named += [name if "." in name else f"{module}.{name}" for name in names]
    public = [
        thing
        for face in FACES
        for name in face.__all__
        if not inspect.ismodule(thing := getattr(face, name))
    ]
    assert sorted(named) == sorted({f"{thing.__module__}.{thing.__qualname__}" for thing in public})


def test_the_tree_of_exceptions_on_its_page_is_that_of_the_code():
    drawn = re.search(r"```text\n(CodedmapError\n.*?)```", (DOCS / "results.md").read_text(), re.S)
    assert drawn is not None
    path: list[type] = []
    seen = set()
    for line in drawn[1].splitlines():
        name, builtin = re.search(r"(\w+)(?: \((\w+)\))?", line).groups()
        error = getattr(cm.errors, name)
        del path[line.index(name) // 4 :]
        bases = [path[-1].__name__ if path else "Exception", *([builtin] if builtin else [])]
        assert [base.__name__ for base in error.__bases__] == bases
        path.append(error)
        seen.add(name)
    assert seen == set(cm.errors.__all__)
