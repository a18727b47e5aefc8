"""Time to build the decoding operator of a set of responders that was not used before, for K = N/5 tasks. The goal is
1 ms at N = 100. *LagrangeCode, decodable*: this question needs the operator and its norm. The second table has
operators too large to be dense: banded factors of the spline (built with a new code object, and applied to 100
columns), and Berrut's interpolant, whose rows are computed when applied. *peak MB* is the peak of allocated memory
(tracemalloc), *dense MB* the size of the dense operator. The time of the factors should grow as N, that of Berrut's
interpolant as N·K.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from itertools import cycle

import numpy as np

import codedmap as cm

from .harness import Row, Timings, interleaved

__all__ = ["run"]

_SETS = 150  # more than a code object caches, so that none is reused


def run(*, quick: bool = False) -> list[Row]:
    """Rows of the table."""
    rows = []
    for workers in (20, 60, 100, 200) if quick else (20, 60, 100, 200, 1_000):
        for share in (0.4, 0.9):
            rows += _dense(workers, round(share * workers), quick)
    for workers in (10_000, 20_000):
        rows += _banded(workers, quick)
    return rows


def _dense(workers: int, answered: int, quick: bool) -> list[Row]:
    tasks = workers // 5
    spline = cm.SplineCode(tasks, workers, workers - answered)
    berrut = cm.BerrutCode(tasks, workers, workers - answered)
    calls = {
        "SplineCode": _building(spline, answered),
        "BerrutCode": _building(berrut, answered),
    }
    if workers == 100:
        lagrange = cm.LagrangeCode(tasks, workers, workers - answered, degree=2)
        fresh = cm.LagrangeCode(tasks, workers, workers - answered, degree=2)
        calls["LagrangeCode, degree 2"] = _building(lagrange, answered)
        calls["LagrangeCode, decodable"] = _asking(fresh, answered)
    target = "1 ms" if workers == 100 else ""
    return [
        {**row, "target": target}
        for row in _without_ratios(
            interleaved(calls, quick=quick),
            {"tasks": tasks, "workers": workers, "answers": answered},
        )
    ]


def _banded(workers: int, quick: bool) -> list[Row]:
    tasks, answered = workers // 5, workers * 4 // 5
    code = cm.SplineCode(tasks, workers, workers - answered, decoder_smoothing=1e-6)
    sets = _responders(workers, answered, 8)
    Y = np.random.default_rng(0).standard_normal((answered, 100))

    # A code object caches a hundred sets, which take too much memory at this size.
    def build() -> object:
        fresh = cm.SplineCode(tasks, workers, workers - answered, decoder_smoothing=1e-6)
        return fresh.decoder(next(sets), Y)

    factors = code.decoder(next(sets), Y)
    berrut = cm.BerrutCode(tasks, workers, workers - answered).decoder(next(sets), Y)
    calls: dict[str, Callable[[], object]] = {
        "SplineCode, banded: build": build,
        "SplineCode, banded: apply to 100 columns": lambda: factors @ Y,
        "BerrutCode: apply to 100 columns": lambda: berrut @ Y,
    }
    rows = _without_ratios(
        interleaved(calls, quick=quick),
        {"tasks": tasks, "workers": workers, "answers": answered},
    )
    for row, call in zip(rows, calls.values(), strict=True):
        row["peak MB"] = _peak(call) / 1e6
        row["dense MB"] = 8.0 * tasks * answered / 1e6
    return rows


def _building(code: cm.codes.LinearCode, answered: int) -> Callable[[], object]:
    sets = _responders(code.workers, answered, _SETS)
    nothing = np.empty((answered, 0))
    return lambda: code.decoder(next(sets), nothing)


def _asking(code: cm.codes.LinearCode, answered: int) -> Callable[[], object]:
    sets = _responders(code.workers, answered, _SETS)
    dtype = np.dtype(np.float64)
    return lambda: code.shortfall(frozenset(next(sets)), dtype)


def _responders(workers: int, answered: int, sets: int) -> cycle[tuple[int, ...]]:
    random = np.random.default_rng(workers + answered)
    chosen: dict[tuple[int, ...], None] = {}
    while len(chosen) < sets:  # random sets of 18 of 20 workers often repeat
        chosen[tuple(np.sort(random.permutation(workers)[:answered]).tolist())] = None
    return cycle(chosen)


def _without_ratios(timings: Timings, case: Row) -> list[Row]:
    first = next(iter(timings.seconds))
    return [
        {key: value for key, value in row.items() if not key.startswith("ratio")}
        for row in timings.rows(case, first)
    ]


def _peak(call: Callable[[], object]) -> float:
    gc.collect()
    tracemalloc.start()
    try:
        kept = call()
        peak = tracemalloc.get_traced_memory()[1]
        del kept
    finally:
        tracemalloc.stop()
    return float(peak)
