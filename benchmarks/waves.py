"""What `map` costs over the engine's own submit and gather of the very same payloads: one wave, all
answers awaited, a function that sleeps 20 ms and returns 10 numbers a row. *extra* is the difference
within a round. Below, the time to start and to close `Local` in a fresh interpreter (the first start
also starts the fork server), of which 11 runs are made.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np

import codedmap as cm
from codedmap.engines import Engine, FromExecutor, Local

from .harness import Row, interleaved, summary

__all__ = ["run"]

_ROWS = 10
_SIZES = {"10 KB": 10_000, "1 MB": 1_000_000, "8 MB": 8_000_000}
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
    rows = []
    for workers in (4, 8):
        with ExitStack() as stack:
            pool = stack.enter_context(ThreadPoolExecutor(workers))
            engines: dict[str, Engine] = {
                "Local": stack.enter_context(Local(workers)),
                "FromExecutor(ThreadPoolExecutor)": FromExecutor(pool, workers),
            }
            for name, engine in engines.items():
                for size, count in _SIZES.items():
                    case: Row = {"engine": name, "workers": workers, "payload": size}
                    rows += _wave(engine, workers, count, case, quick)
    for workers in (8, 25):
        rows += _starts(workers, 2 if quick else 11)
    return rows


def nap(batch: np.ndarray) -> np.ndarray:
    """Sleep 20 ms and return ten numbers a row."""
    time.sleep(0.02)
    return np.ascontiguousarray(batch[:, :10])


def _wave(engine: Engine, workers: int, count: int, case: Row, quick: bool) -> list[Row]:
    tasks = workers * 3 // 4
    code = cm.SplineCode(tasks, workers, workers - tasks)
    width = count // (4 * _ROWS)
    X = np.random.default_rng(0).standard_normal((tasks * _ROWS, width), dtype=np.float32)
    payloads = code.encode(X.reshape(tasks, _ROWS, width)).payloads

    def bare() -> list[np.ndarray]:
        futures = [engine.submit(slot, nap, payloads[slot]) for slot in range(workers)]
        return [future.result() for future in futures]

    calls: dict[str, Callable[[], object]] = {
        "submit and gather": bare,
        "map": lambda: cm.map(nap, X, code=code, engine=engine, stop=cm.Everyone()),
        "encode alone": lambda: code.encode(X.reshape(tasks, _ROWS, width)),
    }
    timings = interleaved(calls, quick=quick)
    rows = timings.rows(case, "submit and gather")
    for row, seconds in zip(rows, timings.seconds.values(), strict=True):
        if row["call"] == "map":
            extra = seconds - timings.seconds["submit and gather"]
            row.update(summary("extra ms", extra * 1e3))
    return rows


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
