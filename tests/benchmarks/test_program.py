"""The benchmarks as a program."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_help_names_every_benchmark():
    """They use parts of the package that are not public, which may have moved."""
    asked = [sys.executable, "-m", "benchmarks", "--help"]
    run = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    files = {path.stem for path in (ROOT / "benchmarks" / "results").glob("*.csv")}
    shown = run.stdout.replace(",", " ").split()
    assert files <= set(shown)
