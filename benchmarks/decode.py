"""Decoding with `SplineCode(20, 100, 60)` from 40 or 90 answers with the given number of columns; the operator exists
already. Compared with the BLAS product `D @ Y` of the stacked answers, and with SciPy and csaps (fit and evaluate;
float64 only). The product is timed twice; the second ratio shows the noise. The goal is 1.25 times the product.

| column | what is timed |
|---|---|
| decode, no outlier search | a code without a search for outliers: little more than the product |
| decode, as in map | answers are side by side already |
| decode, plain dict | separate arrays, which decoding must gather first |
| decode, among rivals | in one run with SciPy and csaps, which evict the caches; all others run with the product alone |

The operator alone meets the goal where the product takes 0.1 ms or more, the search included where it takes a
millisecond or more. Below, the overhead of the interpreter dominates.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import codedmap as cm
from codedmap.coding.points import task_points, worker_points
from codedmap.contracts.answers import Sheet

from .encode import COLUMNS, SMOOTHING
from .harness import Row, interleaved, thread_counts, threads
from .rivals import difference, rival_fits

__all__ = ["run"]


class _WithoutSearch(cm.SplineCode):
    """A code without a search for outliers, as any `LinearCode` without `precision`."""

    def precision(self, answered: tuple[int, ...]) -> None:
        return None


def run(*, quick: bool = False) -> list[Row]:
    """Rows of the table."""
    rows = []
    for count in thread_counts():
        for dtype in (np.float64, np.float32):
            for answered in (40, 90):
                for columns in COLUMNS[: 3 if quick else None]:
                    with threads(count):
                        rows += _case(answered, columns, np.dtype(dtype), count, quick)
    return rows


def _case(
    answered: int, columns: int, dtype: np.dtype[np.floating], count: int, quick: bool
) -> list[Row]:
    random = np.random.default_rng(answered)
    code = cm.SplineCode(20, 100, 60, decoder_smoothing=SMOOTHING)
    encoding = code.encode(np.zeros((20, 1, 1), dtype))
    slots = [int(slot) for slot in random.permutation(100)[:answered]]
    apart = {slot: random.standard_normal((1, columns)).astype(dtype) for slot in slots}
    ascending = tuple(sorted(slots))
    # `map` collects answers in this class; the public interface has no cheaper way to do so.
    arrived = Sheet(ascending, np.stack([apart[slot] for slot in ascending]))
    Y = np.concatenate([apart[slot] for slot in ascending])
    D = np.asarray(code.decoder(ascending, Y)).astype(dtype)
    plain = _WithoutSearch(20, 100, 60, decoder_smoothing=SMOOTHING)
    without_search = plain.encode(np.zeros((20, 1, 1), dtype))
    calls: dict[str, Callable[[], object]] = {
        "D @ Y": lambda: D @ Y,
        "D @ Y again": lambda: D @ Y,
        "decode, no outlier search": lambda: without_search.decode(arrived),
        "decode, as in map": lambda: encoding.decode(arrived),
        "decode, plain dict": lambda: encoding.decode(apart),
    }
    case: Row = {
        "threads": count,
        "dtype": dtype.name,
        "answers": answered,
        "columns": columns,
    }
    rows = interleaved(calls, quick=quick).rows(case, "D @ Y")
    if dtype == np.float64:
        knots, at = worker_points(100)[list(ascending)], task_points(20)
        fits = rival_fits(knots, Y, at, SMOOTHING)
        values = encoding.decode(apart).values[:, 0]
        notes = {
            name: f"differs by {difference(values, fit(), knots, at):.0e}"
            for name, fit in fits.items()
        }
        after = {"D @ Y": calls["D @ Y"], "decode, among rivals": calls["decode, as in map"]}
        beside = interleaved(after | fits, quick=quick).rows(case, "D @ Y", notes)
        rows += [row for row in beside if row["call"] != "D @ Y"]
    return rows
