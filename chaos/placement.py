"""Loss of a host, with neighbouring workers on different hosts and with the workers of a host adjacent."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from itertools import chain, product
from typing import Any

import numpy as np

import codedmap as cm
from codedmap.engines import Engine, Kept

from .job import ONCE, answers, rows
from .sites import host, site

__all__ = ["CODES", "EACH", "HOSTS", "ROWS", "SETS", "Lost", "Reordered", "measure_placement"]

HOSTS, EACH = 4, 4
TASKS = 12
CODES = {
    "KernelCode(12, 16, 4)": cm.KernelCode(TASKS, HOSTS * EACH, EACH),
    'SplineCode(12, 16, 4, order="path")': cm.SplineCode(TASKS, HOSTS * EACH, EACH, order="path"),
}
ROWS, SETS = 240, 6
"""Rows per wave, and waves with different rows per lost host."""
VARYING = (5, 1)
"""Number of the five inputs that vary between rows."""
DEADLINE = 10.0


@dataclass(frozen=True, slots=True)
class Lost:
    """Effect of the loss of a host, over all hosts and sets of rows."""

    code: str
    varying: int
    """Number of inputs that vary between rows."""
    placement: str
    estimated: float
    """Share of estimated rows."""
    rmse: float
    """Root mean square error of the estimated rows."""
    worst: float
    """Root mean square error of the worst row of a wave, mean over the waves."""
    waves: int


class Reordered:
    """Wraps an engine with workers in a certain order, as an engine of just these.

    Parameters
    ----------
    engine : Engine
    order : sequence of int
        Workers of the engine, by worker of this one.
    """

    def __init__(self, engine: Engine, order: Sequence[int]) -> None:
        self._engine = engine
        self._order = order

    @property
    def workers(self) -> int:
        """Number of workers of the engine."""
        return len(self._order)

    def submit(self, worker: int, fn: Any, payload: Any) -> Future[Any]:
        """Submit to the reordered worker."""
        return self._engine.submit(self._order[worker], fn, payload)

    def keep(self, worker: int, value: Any) -> Kept:
        """Keep on the reordered worker."""
        return self._engine.keep(self._order[worker], value)

    def abandon(self, futures: Iterable[Future[Any]]) -> None:
        """Forward to the engine."""
        self._engine.abandon(futures)


def measure_placement(sets: int = SETS) -> Iterator[Lost]:
    """One result per code, number of varying inputs and placement."""
    found: dict[tuple[str, int, str], list[tuple[np.ndarray, np.ndarray]]] = {}
    with site(HOSTS, EACH) as made, cm.engines.Dask(made.client) as engine:
        # A worker that is cut off for 30 s ends itself: a host is cut off for a few waves at a time.
        for away, number in product(made.hosts, range(sets)):
            hosts = _wait_for_all(engine)
            adjacent = sorted(hosts, key=lambda worker: hosts[worker])
            turns = (adjacent[k::EACH] for k in range(EACH))
            placements = {"spread": [*chain.from_iterable(turns)], "adjacent": adjacent}
            with away.losing(1):
                for varying, name, placement in product(VARYING, CODES, placements):
                    inputs = rows(ROWS, seed=number)
                    inputs[:, varying:] = 0.0
                    wave = _wave(CODES[name], Reordered(engine, placements[placement]), inputs)
                    found.setdefault((name, varying, placement), []).append(wave)
    for (name, varying, placement), waves in found.items():
        guessed = np.concatenate([error[~exact] for exact, error in waves])
        yield Lost(
            name,
            varying,
            placement,
            float(np.mean([~exact for exact, _ in waves])),
            float(np.sqrt((guessed**2).mean())),
            float(np.mean([error.max() for _, error in waves])),
            len(waves),
        )


def _wave(code: Any, engine: Engine, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which rows are exact, and the root mean square error of every row."""
    stop = cm.Quorum(HOSTS * EACH - EACH) | cm.Deadline(DEADLINE)
    result = cm.map(answers, inputs, code=code, engine=engine, stop=stop, **ONCE)
    if len(result.answered) != HOSTS * EACH - EACH:
        raise RuntimeError(f"not exactly one host was lost:\n{result}")
    return result.exact, np.sqrt(((result.values - answers(inputs)) ** 2).mean(axis=1))


def _wait_for_all(engine: cm.engines.Dask) -> dict[int, str]:
    """The host of each worker, when all are there and answer."""
    until = time.monotonic() + 6 * DEADLINE
    while True:
        calls = {worker: engine.submit(worker, host, None) for worker in engine.members()}
        wait(calls.values(), until - time.monotonic())
        if len(calls) == HOSTS * EACH and not any(map(Future.exception, calls.values())):
            return {worker: call.result() for worker, call in calls.items()}
        if time.monotonic() > until:
            raise RuntimeError(
                f"after {6 * DEADLINE:g} s some workers still do not answer: {calls}"
            )
