"""The code of ``docs/extend.md`` added to a copy of the project, as the page says: one file and one line."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import codedmap as cm

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "extend.md"


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the project with that code."""
    place = tmp_path_factory.mktemp("project") / "copy"
    left_out = shutil.ignore_patterns(".*", "_build", "weights")
    shutil.copytree(ROOT, place, ignore=left_out)
    code, *lines = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    [base] = [line for line in lines if re.fullmatch(r"from \..* import LinearCode\n", line)]
    [row] = [line for line in lines if re.fullmatch(r"from \..* import PolylineCode .*\n", line)]
    code, found = re.subn(r"from codedmap.* import LinearCode\n", base, code)
    assert found == 1
    table = place / Path(cm.codes.__file__).relative_to(ROOT)
    (table.parent / "polyline.py").write_text(code)
    text = table.read_text()
    table.write_text(text.replace("\nfrom .", f"\n{row}from .", 1))
    return place


def run(place: Path, *words: str) -> str:
    """What a command prints in the copy; it must succeed."""
    source = place / Path(cm.__file__).parents[1].relative_to(ROOT)
    done = subprocess.run(
        [sys.executable, *words], cwd=place, env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-8000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_project_with_the_code_of_the_page_keeps_its_tests(copy):
    names = "codes estimates rooms face docs commands stored".split()
    files = [str(path) for name in names for path in (copy / "tests").rglob(f"test_{name}.py")]
    chosen = "polyline or in_a_table or room or face or api_page or narrow_terminal"
    printed = run(copy, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-k", chosen, *files)
    replayed = re.findall(r"::(test_\w+)\[polyline\S*\] PASSED", printed, re.IGNORECASE)
    assert {
        "test_shapes",
        "test_nan_in_an_answer_is_reported_unless_it_is_the_only_one_to_an_input",
    } <= set(replayed)
    assert "test_outputs_and_archives_have_the_same_code" in replayed
    for test in ("every_code_is_in_a_table", "api_page_names", "every_public_object_is_documented"):
        assert re.search(rf"{test}\w* PASSED", printed), test


@pytest.mark.slow
def test_plan_and_the_command_line_find_it(copy, tmp_path):
    np.save(tmp_path / "x.npy", np.linspace(-1, 1, 100)[:, None])
    at = ["-m", "codedmap"]
    numbers = ["--workers", "6", "--stragglers", "1", "--tasks", "3", "--budget", "30"]
    told = run(copy, *at, "plan", "numpy:tanh", str(tmp_path / "x.npy"), *numbers)
    assert re.search(r"PolylineCode +(< )?\d", told), told
    out = tmp_path / "out.npz"
    more = ["--code", "PolylineCode(3, 6, 1)", "--out", str(out)]
    run(copy, *at, "run", "numpy:tanh", str(tmp_path / "x.npy"), *more)
    with np.load(out) as made:
        assert str(made["code"]).startswith("PolylineCode(")
        error = np.abs(made["values"][:, 0] - np.tanh(np.linspace(-1, 1, 100)))
    assert error.max() < 0.3  # one of the outer workers may have been late
    assert "PolylineCode Piecewise linear interpolation on even points." in " ".join(
        run(copy, *at, "run", "--help").split()
    )
