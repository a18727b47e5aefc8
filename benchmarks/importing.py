"""Importing codedmap in a fresh interpreter. Compared with importing NumPy, and with importing nothing. *extra* is the
difference to the former within a round. Parts of SciPy are imported when they are first used.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

from .harness import Row, interleaved, summary

__all__ = ["run"]

_BASE = "import numpy"


def run(*, quick: bool = False) -> list[Row]:
    """Rows of the table."""
    calls = {code: _running(code) for code in (_BASE, "import codedmap", "pass")}
    timings = interleaved(calls, quick=quick, rounds=15, few=15)
    rows = timings.rows({}, _BASE)
    for row, seconds in zip(rows, timings.seconds.values(), strict=True):
        row.update(summary("extra ms", (seconds - timings.seconds[_BASE]) * 1e3))
    return rows


def _running(code: str) -> Callable[[], object]:
    command = [sys.executable, "-c", code]
    return lambda: subprocess.run(command, check=True)
