"""What `map` costs over its engine's own submit and gather of the very same payloads: one wave, all
answers awaited, a function that sleeps and returns 10 numbers a row. On clusters *bare* is what their own libraries
offer (`client.submit` and `client.gather` of Dask; `ray.get` of calls of plain actors, one for each worker), beside
which the engine's own submit and gather stand too. *extra* is the difference to *bare* within a round; the goal is at
most 5 ms and 10 %. *over* is what there is beyond, compared with *bare*; *over engine* compares with the engine's own
submit and gather, which also do what its laws ask for, such as payloads that may be written; *over, encoding apart*
leaves out what it takes to make the payloads. On Dask each call is given 0.2 s after the one before,
whose tasks scheduler and workers are to forget. Below, the time to start and to close `Local` in a
fresh interpreter (the first start also starts the fork server), of which 11 runs are made.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import numpy as np

import codedmap as cm
from codedmap.engines import FromExecutor, Local

from .clusters import Fn, Place, dask, ray
from .harness import Row, interleaved, summary

__all__ = ["run"]

_ROWS = 10
_SIZES = {"10 KB": 10_000, "1 MB": 1_000_000, "8 MB": 8_000_000}
_CREWS = {4: tuple(_SIZES), 8: tuple(_SIZES), 24: ("10 KB", "1 MB")}
_STARTS = """
import sys, time
from codedmap.engines import Local
if __name__ == "__main__":
    for _ in range(2):
        began = time.perf_counter()
        engine = Local(int(sys.argv[1]))
        started = time.perf_counter()
        engine.close()
        print(started - began, time.perf_counter() - started)
"""


def run(*, quick: bool = False) -> list[Row]:
    """Rows of the table."""
    rows: list[Row] = []
    for workers, sizes in _CREWS.items():
        for name, place in _PLACES.items():
            with place(workers) as where:
                for task, fn in _TASKS.items() if workers == 4 else [("20 ms", nap)]:
                    for size in sizes:
                        count = _SIZES[size]
                        case: Row = {
                            "engine": name,
                            "workers": workers,
                            "task": task,
                            "payload": size,
                        }
                        rows += _wave(where, workers, fn, count, case=case, quick=quick)
    for workers in (8, 25):
        rows += _starts(workers, 2 if quick else 11)
    return rows


@contextmanager
def _local(workers: int) -> Iterator[Place]:
    with Local(workers) as engine:
        yield Place(engine)


@contextmanager
def _threads(workers: int) -> Iterator[Place]:
    with ThreadPoolExecutor(workers) as pool:
        yield Place(FromExecutor(pool, workers))


_PLACES = {"Local": _local, "FromExecutor(ThreadPoolExecutor)": _threads, "Dask": dask, "Ray": ray}


def nap(batch: np.ndarray) -> np.ndarray:
    """Sleep 20 ms and return ten numbers a row."""
    time.sleep(0.02)
    return np.ascontiguousarray(batch[:, :10])


def long_nap(batch: np.ndarray) -> np.ndarray:
    """Likewise after 100 ms."""
    time.sleep(0.1)
    return np.ascontiguousarray(batch[:, :10])


_TASKS = {"20 ms": nap, "100 ms": long_nap}


def _wave(place: Place, workers: int, fn: Fn, count: int, *, case: Row, quick: bool) -> list[Row]:
    tasks = workers * 3 // 4
    code = cm.SplineCode(tasks, workers, workers - tasks)
    width = count // (4 * _ROWS)
    X = np.random.default_rng(0).standard_normal((tasks * _ROWS, width), dtype=np.float32)
    payloads = code.encode(X.reshape(tasks, _ROWS, width)).payloads
    engine = place.engine

    def own() -> list[np.ndarray]:
        futures = [engine.submit(slot, fn, payloads[slot]) for slot in range(workers)]
        return [future.result() for future in futures]

    def made() -> None:  # and let go, as `map` does
        code.encode(X.reshape(tasks, _ROWS, width))

    calls: dict[str, Callable[[], object]] = {"bare": own}
    if place.bare is not None:
        calls = {"bare": partial(place.bare, fn, payloads), "submit and gather": own}
    calls["map"] = lambda: cm.map(fn, X, code=code, engine=engine, stop=cm.Everyone())
    calls["encode alone"] = made
    for call in calls.values():
        call()  # what is set up at the first call is no wave's
    timings = interleaved(calls, quick=quick, settle=place.settle)
    rows = timings.rows(case, "bare")
    for row in rows:
        if row["call"] == "map":
            bare, seconds = timings.seconds["bare"], timings.seconds["map"]
            row.update(summary("extra ms", (seconds - bare) * 1e3))
            row["over"] = _over(seconds - bare, bare)
            engine = timings.seconds.get("submit and gather", bare)
            row["over engine"] = _over(seconds - engine, engine)
            making = timings.seconds["encode alone"]
            row["over, encoding apart"] = _over(seconds - bare - making, bare)
    return rows


def _over(extra: np.ndarray, bare: np.ndarray) -> str:
    over = np.nanmedian(extra) - 0.1 * np.nanmedian(bare) - 5e-3
    return f"{over * 1e3:.1f} ms" if over > 0 else "none"


def _starts(workers: int, runs: int) -> list[Row]:
    command = [sys.executable, "-c", _STARTS, str(workers)]
    outputs = [
        subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        for _ in range(runs)
    ]
    figures = np.array(outputs, dtype=float).T * 1e3
    names = ("first start", "close", "second start", "close again")
    return [
        {
            "engine": "Local",
            "workers": workers,
            "call": name,
            **summary("ms", values),
            "rounds": runs,
        }
        for name, values in zip(names, figures, strict=True)
    ]
