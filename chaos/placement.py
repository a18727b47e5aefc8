"""A host is lost: with neighbouring slots on different hosts, and with a host's slots side by side."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

import codedmap as cm
from codedmap.engines import Engine, Kept

from .job import answers, rows
from .sites import host, site

__all__ = ["CODES", "EACH", "HOSTS", "ROWS", "SETS", "Lost", "Reordered", "lost"]

HOSTS, EACH = 4, 4
TASKS = 12
CODES = {
    "KernelCode(12, 16, 4)": cm.KernelCode(TASKS, HOSTS * EACH, EACH),
    'SplineCode(12, 16, 4, order="path")': cm.SplineCode(TASKS, HOSTS * EACH, EACH, order="path"),
}
ROWS, SETS = 240, 6
"""Rows of a wave, and waves with other rows for each host that is lost."""
VARYING = (5, 1)
"""How many of the five inputs differ from row to row."""
DEADLINE = 10.0


@dataclass(frozen=True, slots=True)
class Lost:
    """What the loss of a host costs, over all hosts and sets of rows."""

    code: str
    varying: int
    """Inputs that differ from row to row."""
    placement: str
    estimated: float
    """Share of the rows."""
    rmse: float
    """Of the estimated rows' outputs."""
    worst: float
    """Root mean square over the outputs of the worst row, mean over the waves."""
    waves: int


class Reordered:
    """Another engine, whose slots come in another order.

    Parameters
    ----------
    engine : Engine
    order : sequence of int
        Its slot that is slot n here.
    """

    def __init__(self, engine: Engine, order: Sequence[int]) -> None:
        self._engine = engine
        self._order = order

    @property
    def workers(self) -> int:
        """As many as it has."""
        return self._engine.workers

    def submit(self, slot: int, fn: Any, payload: Any) -> Future[Any]:
        """As it does, elsewhere."""
        return self._engine.submit(self._order[slot], fn, payload)

    def keep(self, slot: int, value: Any) -> Kept:
        """Likewise."""
        return self._engine.keep(self._order[slot], value)

    def abandon(self, futures: Iterable[Future[Any]]) -> None:
        """As it does."""
        self._engine.abandon(futures)


def lost(sets: int = SETS) -> Iterator[Lost]:
    """For each code and placement."""
    found: dict[tuple[str, int, str], list[tuple[np.ndarray, np.ndarray]]] = {}
    with site(HOSTS, EACH) as made, cm.engines.Dask(made.client) as engine:
        hosts = [engine.submit(n, host, None).result(DEADLINE) for n in range(engine.workers)]
        together = sorted(range(engine.workers), key=lambda slot: hosts[slot])
        placements = {"spread": list(range(engine.workers)), "side by side": together}
        for away in made.hosts:
            _everybody(engine)
            with away.losing(1):
                for number, varying, name, placement in product(
                    range(sets), VARYING, CODES, placements
                ):
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
    """Which rows are exact, and every row's error, its root mean square over the outputs."""
    stop = cm.Quorum(HOSTS * EACH - EACH) | cm.Deadline(DEADLINE)
    result = cm.map(answers, inputs, code=code, engine=engine, stop=stop)
    if len(result.answered) != HOSTS * EACH - EACH:
        raise RuntimeError(f"not one host was lost, but:\n{result}")
    return result.exact, np.sqrt(((result.values - answers(inputs)) ** 2).mean(axis=1))


def _everybody(engine: Engine) -> None:
    until = time.monotonic() + 6 * DEADLINE
    calls = [engine.submit(slot, host, None) for slot in range(engine.workers)]
    for call in calls:
        call.result(until - time.monotonic())
