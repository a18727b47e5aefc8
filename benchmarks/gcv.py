"""Choosing one λ for all columns by generalised cross-validation at 100 knots. Compared with SciPy's
`make_smoothing_spline(lam=None)`, which chooses one λ for one column.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.interpolate import make_smoothing_spline

from codedmap.coding.points import worker_points
from codedmap.coding.spline import smoothing_by_gcv

from .harness import Row, interleaved, thread_counts, threads

__all__ = ["run"]


def run(*, quick: bool = False) -> list[Row]:
    """Rows of the table."""
    knots = worker_points(100)
    random = np.random.default_rng(0)
    shape = np.sin(3.0 * knots)[:, None] * random.standard_normal(1_000)
    y = shape + 0.1 * random.standard_normal((100, 1_000))
    rival = "SciPy lam=None, 1 column"
    calls: dict[str, Callable[[], object]] = {
        rival: lambda: make_smoothing_spline(knots, y[:, 0], lam=None)
    }
    for columns in (1, 10, 100, 1_000):
        calls[f"smoothing_by_gcv, {columns} columns"] = _choosing(knots, y[:, :columns])
    rows = []
    for count in thread_counts():
        with threads(count):
            rows += interleaved(calls, quick=quick).rows({"threads": count}, rival)
    return rows


def _choosing(knots: np.ndarray, y: np.ndarray) -> Callable[[], object]:
    y = np.ascontiguousarray(y)
    return lambda: smoothing_by_gcv(knots, y)
