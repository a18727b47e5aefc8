"""Jobs of `cm.map` without a code, live and as `cm.latency.scheduled` predicts them, on the same draws: 24 rows on 12 threads
that sleep. The k-th row that a worker is given takes the k-th time drawn for it, live and in virtual time. Times are the
median job and the 90th and 99th percentile, in ms; × is live over predicted, job by job. Predicted jobs have no overhead.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

import codedmap as cm
from codedmap.contracts.engine import Kept

from .harness import Row

__all__ = ["run"]

_WORKERS, _ROWS, _EACH = 12, 24, 24

MODELS = {
    "shifted exponential": cm.latency.ShiftedExponential(0.05, 0.05),
    "5 % of the calls six times slower": cm.latency.Bimodal(
        cm.latency.ShiftedExponential(0.05, 0.02), 0.05, 6.0
    ),
    "Pareto": cm.latency.Pareto(0.05, 0.015, 1.5),
}


def run(*, quick: bool = False) -> list[Row]:
    """Rows of the table."""
    jobs = 20 if quick else 300
    rows: list[Row] = []
    for name, model in MODELS.items():
        calls = model.calls(np.random.default_rng(0), jobs, _WORKERS, _EACH)
        for hedge in (cm.Hedge(), None):
            predicted = cm.latency.scheduled(calls, _ROWS, hedge=hedge)
            seconds, sent = _live(calls, hedge)
            case: Row = {"call times": name, "hedges": "no" if hedge is None else "yes"}
            rows.append({**case, "call": "predicted", **_summary(*predicted)})
            quartiles = np.quantile(seconds / predicted.seconds, [0.5, 0.25, 0.75])
            ratio = dict(zip(("ratio", "ratio q1", "ratio q3"), map(float, quartiles), strict=True))
            rows.append({**case, "call": "live", **_summary(seconds, sent), **ratio})
    return rows


def _summary(seconds: np.ndarray, sent: np.ndarray) -> Row:
    p50, p90, p99 = (float(value) for value in 1e3 * np.quantile(seconds, [0.5, 0.9, 0.99]))
    each = float(np.mean(sent)) / _ROWS
    return {"ms": p50, "p90": p90, "p99": p99, "calls a row": each, "jobs": len(seconds)}


class _Sleeping:
    """Threads of which each sleeps for the next of its times; calls given up end at once."""

    workers = _WORKERS
    in_process = True

    def __init__(self) -> None:
        self._threads = [ThreadPoolExecutor(1) for _ in range(_WORKERS)]
        self._times = np.empty((0, _WORKERS))
        self._made: Counter[int] = Counter()
        self._ends: dict[Future[Any], threading.Event] = {}

    def begin(self, times: np.ndarray) -> None:
        """Start a job; times are (each, N)."""
        self._times, self._made, self._ends = times, Counter(), {}

    def submit(self, worker: int, fn: Any, payload: Any) -> Future[Any]:
        """Sleep, and then compute."""
        places = np.arange(self._made[worker], self._made[worker] + payload.rows) % len(self._times)
        self._made[worker] += payload.rows
        seconds, ended = float(self._times[places, worker].sum()), threading.Event()

        def call() -> Any:
            ended.wait(seconds)
            return replace(fn.key(payload), seconds=seconds)

        future = self._threads[worker].submit(call)
        self._ends[future] = ended
        return future

    def keep(self, worker: int, value: Any) -> Kept:
        """Keep a value."""
        return Kept(worker, value)

    def abandon(self, futures: Iterable[Future[Any]]) -> None:
        """End these calls."""
        for future in futures:
            future.cancel()
            self._ends[future].set()

    def close(self) -> None:
        """End the threads."""
        for thread in self._threads:
            thread.shutdown()


def _live(calls: np.ndarray, hedge: cm.Hedge | None) -> tuple[np.ndarray, np.ndarray]:
    """Seconds and calls of each job."""
    engine = _Sleeping()
    inputs = np.arange(_ROWS)
    seconds, sent = np.empty(calls.shape[1]), np.empty(calls.shape[1])
    for job in range(calls.shape[1]):
        engine.begin(calls[:, job])
        result = cm.map(lambda batch: batch, inputs, engine=engine, hedge=hedge, progress=False)
        assert result.exact.all()
        seconds[job] = result.seconds
        sent[job] = sum(len(record.rows) for record in result.calls)
    engine.close()
    return seconds, sent
