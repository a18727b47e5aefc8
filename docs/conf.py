"""Settings of the documentation. `make docs` builds it; every warning is an error."""

from __future__ import annotations

import enum
import os
import pkgutil
import re
import sys
from importlib import import_module
from inspect import ismodule
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.pycode import ModuleAnalyzer
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode

import codedmap
from codedmap.cli import cli

project = "codedmap"
author = "The codedmap developers"
project_copyright = author
version = release = codedmap.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
default_role = "py:obj"
nitpick_ignore_regex = [("py:.*", ".*")]  # `_found` reports missing names

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_google_docstring = False
napoleon_use_param = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"codedmap {version}"
html_static_path = ["_static"]
html_css_files = ["codedmap.css"]
html_copy_source = False
html_show_sphinx = False

_FACES = (
    "codedmap",
    *(f"codedmap.{name}" for name in codedmap.__all__ if ismodule(getattr(codedmap, name))),
)


def setup(app: Sphinx) -> None:
    _share_field_docstrings()
    app.add_directive("cli-help", _CliHelp)
    app.connect("source-read", _other_codes)
    app.connect("autodoc-process-docstring", _before_napoleon, priority=400)
    app.connect("autodoc-process-docstring", _after_napoleon, priority=600)
    app.connect("autodoc-process-signature", _no_signature_of_what_users_do_not_make)
    app.connect("missing-reference", _found)
    app.connect("doctree-read", _wrap_long_lines)


def _other_codes(app: Sphinx, docname: str, source: list[str]) -> None:
    if docname == "api/codes":
        source[0] = source[0].replace(".. all other codes", other_codes())


def other_codes() -> str:
    """The codes that no page of the API names itself."""
    pages = "".join(page.read_text() for page in sorted(Path(__file__).parent.glob("api/*.md")))
    named = re.findall(r"autoclass:: (?:[\w.]+\.)?(\w+)", pages)
    rest = [name for name in codedmap.codes.__all__ if name not in named]
    return "\n".join(f".. autoclass:: codedmap.codes.{name}" for name in rest)


class _CliHelp(SphinxDirective):
    """The output of ``codedmap ARGUMENTS --help``."""

    optional_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        words = (self.arguments or [""])[0].split()
        os.environ["COLUMNS"] = "80"
        shown = CliRunner().invoke(cli, [*words, "--help"], prog_name="codedmap")
        if shown.exit_code != 0:
            raise self.error(f"codedmap {' '.join(words)} --help: {shown.output}")
        return [nodes.literal_block(shown.output, shown.output, language="text")]


def _share_field_docstrings() -> None:
    # Public classes have the public module as `__module__`, but docstrings of fields are found by
    # reading source, so each public module gets those of the modules that define its classes.
    inner = [
        name
        for _, name, _ in pkgutil.walk_packages(codedmap.__path__, "codedmap.")
        if not name.endswith("__main__")
    ]
    for face in _FACES:
        module = import_module(face)
        analyzer = ModuleAnalyzer.for_module(face)
        analyzer.analyze()
        for name in inner:
            behind = ModuleAnalyzer.for_module(name)
            behind.analyze()
            for (owner, field), text in behind.attr_docs.items():
                ours = vars(module).get(owner)
                if ours is not None and getattr(sys.modules.get(name), owner, None) is ours:
                    analyzer.attr_docs.setdefault((owner, field), text)
            for member, place in behind.tagorder.items():
                analyzer.tagorder.setdefault(member, place)


_RESULTS = {
    f"codedmap.{name}"
    for name in (
        "FillResult", "MapResult", "MatrixResult", "Plan", "SumResult", "SweepResult", "results.CallRecord",
        "results.CallTable", "results.PlanRow", "topology.ClusterPlan", "training.Step",
    )
}  # fmt: skip
_fields: dict[str, list[str]] = {}


def _before_napoleon(app: Sphinx, what: str, name: str, *rest: Any) -> None:
    lines = rest[-1]
    # The star in a shape such as (m, *y) is not emphasis.
    lines[:] = [re.sub(r"(?<=[(, ])\*(?=[xy]\b)", r"\\*", line) for line in lines]
    _fields[name] = list(lines)


def _after_napoleon(app: Sphinx, what: str, name: str, *rest: Any) -> None:
    # Napoleon would take the text before a colon as the type of a field.
    if what in ("attribute", "property"):
        rest[-1][:] = _fields[name]


def _no_signature_of_what_users_do_not_make(
    app: Sphinx, what: str, name: str, it: Any, *rest: Any
) -> tuple[str, None] | None:
    # Users make neither protocols nor results.
    result = what == "class" and name in _RESULTS
    unmade = getattr(it, "_is_protocol", False) or isinstance(it, enum.EnumType) or result
    return ("", None) if what == "class" and unmade else None


def _wrap_long_lines(app: Sphinx, doctree: nodes.document) -> None:
    # Messages of one long line; tables and programs scroll instead.
    for block in doctree.findall(nodes.literal_block):
        lines = block.astext().splitlines()
        table = any(line.startswith("  ") for line in lines)
        if block.get("language") == "text" and max(map(len, lines)) > 100 and not table:
            block["classes"].append("wrapped")


def _found(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Node
) -> nodes.Node | None:
    """Resolve a name in `single backticks` to a public name; warn if there is none."""
    if node.get("reftype") != "obj" or node.get("refdomain") != "py":
        return None
    target = node["reftarget"].removesuffix("()")
    objects = env.domains.python_domain.objects
    for prefix in ("", *(f"{face}." for face in _FACES)):
        entry = objects.get(prefix + target)
        if entry is not None:
            return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, content)
    logging.getLogger(__name__).warning("`%s` is not documented", target, location=node)
    return None
