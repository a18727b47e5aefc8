"""`SplineCode(20, 100, 60).encode(X)` for inputs with the given number of columns. Compared with the BLAS product `E @ X`
of the same dtype with a fresh output, and with SciPy and csaps (fit and evaluate; float64 only). The product is timed
twice; the second ratio shows the noise. The goal is 1.25 times the product where the product takes 0.1 ms or more.
Below, the overhead of the interpreter dominates. With as many threads as cores, BLAS waits for whole time slices when
the machine has other work; then only the rows of one thread are meaningful.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import codedmap as cm
from codedmap.coding.points import task_points, worker_points

from .harness import Row, interleaved, thread_counts, threads
from .rivals import difference, rival_fits

__all__ = ["COLUMNS", "SMOOTHING", "run"]

COLUMNS = (10, 100, 1_000, 10_000, 150_000)
SMOOTHING = 1e-6


def run(*, quick: bool = False) -> list[Row]:
    """Rows of the table."""
    rows = []
    for count in thread_counts():
        for dtype in (np.float64, np.float32):
            for columns in COLUMNS[: 3 if quick else None]:
                with threads(count):
                    rows += _case(columns, np.dtype(dtype), count, quick)
    return rows


def _case(columns: int, dtype: np.dtype[np.floating], count: int, quick: bool) -> list[Row]:
    code = cm.SplineCode(20, 100, 60, encoder_smoothing=SMOOTHING)
    X = np.random.default_rng(0).standard_normal((20, columns)).astype(dtype)
    E = np.asarray(code.encoder(X)).astype(dtype)
    inputs = X[:, None]
    calls: dict[str, Callable[[], object]] = {
        "E @ X": lambda: E @ X,
        "E @ X again": lambda: E @ X,
        "encode": lambda: code.encode(inputs),
    }
    notes = {}
    if dtype == np.float64:
        knots, at = task_points(20), worker_points(100)
        fits = rival_fits(knots, X, at, SMOOTHING)
        payloads = code.encode(inputs).payloads[:, 0]
        calls |= fits
        notes = {
            name: f"differs by {difference(payloads, fit(), knots, at):.0e}"
            for name, fit in fits.items()
        }
    case: Row = {"threads": count, "dtype": dtype.name, "columns": columns}
    return interleaved(calls, quick=quick).rows(case, "E @ X", notes)
