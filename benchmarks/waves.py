"""Overhead of `map` over submitting and gathering the same payloads: one wave, all answers awaited, a function that sleeps
and returns 10 numbers per row. The goal is at most 5 ms plus 10 %.

| column | what is timed |
|---|---|
| bare | the engine's library alone: `client.submit` and `client.gather` of Dask, `ray.get` on plain actors; else the engine's own submit and gather |
| submit and gather | the engine's own submit and gather, which also keep the engine contract, such as writable payloads |
| map | the whole call |
| encode alone | making the payloads |

*extra* is the difference to *bare* within a round. *over* is what exceeds the goal; *over engine* compares with the
engine's submit and gather; *over, encoding apart* excludes the encoding. On Dask calls are 0.2 s apart, so that
scheduler and workers can release the previous tasks. Below: the time to start and to close `Local` in a fresh
interpreter, 11 runs. The first start includes starting the fork server.
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
    """Sleep 20 ms and return ten numbers per row."""
    time.sleep(0.02)
    return np.ascontiguousarray(batch[:, :10])


def long_nap(batch: np.ndarray) -> np.ndarray:
    """The same after 100 ms."""
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

    def made() -> None:  # and release it, as `map` does
        code.encode(X.reshape(tasks, _ROWS, width))

    calls: dict[str, Callable[[], object]] = {"bare": own}
    if place.bare is not None:
        calls = {"bare": partial(place.bare, fn, payloads), "submit and gather": own}
    calls["map"] = lambda: cm.map(fn, X, code=code, engine=engine, stop=cm.Everyone())
    calls["encode alone"] = made
    for call in calls.values():
        call()  # the first call includes one-time work
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
