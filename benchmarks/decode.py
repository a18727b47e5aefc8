"""Decoding 40 or 90 of 100 answers of so many columns to 20 tasks with `SplineCode(20, 100, 60)`,
the operator already built, beside the bare BLAS product `D @ Y` with Y already stacked, and beside
SciPy and csaps (fit and evaluate on the stacked answers; float64 only). *as map does it*: the
answers were put side by side as they arrived, in random order, while others were waited for. *nobody
suspected*: the same by a code that does not look for liars, which is the operator applied and little else.
*order not seen before*: from the same responders, arriving in another order each time, as they do wave
after wave. *plain dict*: separate arrays, which decoding must gather first, or a few columns at a time
if they are large. *among rivals*: in a run with SciPy and csaps, which leave nothing of ours in the
processor's caches; all else is timed beside the product alone. The product is timed twice: its second
ratio is the noise. The goal is 1.25 times the product. The operator applied meets it from 10,000 columns on,
where the product takes 0.1 ms or more; below, the interpreter's own time rules. With the search for liars it is
met where the product takes a millisecond or more: the search adds some 20 to 45 microseconds, up to 0.14 ms for
10,000 columns, which fill the processor's caches.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle

import numpy as np

import codedmap as cm
from codedmap.coding.points import task_points, worker_points
from codedmap.contracts.answers import Answers, Sheet

from .encode import COLUMNS, SMOOTHING
from .harness import Row, interleaved, thread_counts, threads
from .rivals import difference, rival_fits

__all__ = ["run"]


class _Trusting(cm.SplineCode):
    """Does not look for liars, as a code derived from `LinearCode` does not unless it has a `precision`."""

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
    # The door keeps answers so; its own class is used because the face has no cheaper way in.
    arrived = Answers(100)
    for slot, answer in apart.items():
        arrived.add(slot, answer)

    block = arrived.sheet(1)[0].block
    orders = cycle([tuple(random.permutation(slots).tolist()) for _ in range(64)])

    ascending = tuple(sorted(slots))
    Y = np.concatenate([apart[slot] for slot in ascending])
    D = np.asarray(code.decoder(ascending, Y)).astype(dtype)
    trusting = _Trusting(20, 100, 60, decoder_smoothing=SMOOTHING)
    unsuspecting = trusting.encode(np.zeros((20, 1, 1), dtype))
    calls: dict[str, Callable[[], object]] = {
        "D @ Y": lambda: D @ Y,
        "D @ Y again": lambda: D @ Y,
        "decode, nobody suspected": lambda: unsuspecting.decode(arrived.sheet(1)[0]),
        "decode, as map does it": lambda: encoding.decode(arrived.sheet(1)[0]),
        "decode, order not seen before": lambda: encoding.decode(Sheet(next(orders), block)),
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
        after = {"D @ Y": calls["D @ Y"], "decode, among rivals": calls["decode, as map does it"]}
        beside = interleaved(after | fits, quick=quick).rows(case, "D @ Y", notes)
        rows += [row for row in beside if row["call"] != "D @ Y"]
    return rows
