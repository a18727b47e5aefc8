"""Workers whose calls sleep for times drawn from a latency model."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np

import codedmap as cm

__all__ = ["LATENCY", "WORKERS", "Call", "Timed", "drawn"]

WORKERS = 12

LATENCY = cm.latency.Bimodal(cm.latency.ShiftedExponential(0.04, 0.01), share=0.05, factor=10)
"""Seconds per part, times `Model.slow`."""


def drawn(seed: int, steps: int) -> np.ndarray:
    """Seconds per part of two calls of each worker in each step, (2, steps, 12)."""
    return LATENCY.calls(np.random.default_rng((seed, steps)), steps, WORKERS, 2)


@dataclass(frozen=True, slots=True)
class Call:
    """A submitted call."""

    step: int
    seconds: float
    """Sleeping time."""
    parts: float
    """Number of parts that it computes."""
    future: Future[Any]


class Timed:
    """Wraps an engine; calls sleep before they compute.

    The c-th call of worker n in a step takes ``load`` times ``seconds[c, step, n]`` seconds. An abandoned
    call goes on, and its worker is free for the next one only when it ends.

    Parameters
    ----------
    engine : Engine
        The engine that runs the calls.
    seconds : ndarray, shape (calls, steps, N)
        Seconds per part; the same for all schemes.
    load : float
        Parts per call.
    """

    def __init__(self, engine: cm.engines.Engine, seconds: np.ndarray, load: float) -> None:
        self._engine = engine
        self._drawn = seconds
        self._load = load
        self._step = 0
        self._made: dict[int, int] = {}
        self.calls: list[Call] = []
        """All submitted calls."""

    @property
    def workers(self) -> int:
        """Number of workers of the engine."""
        return self._engine.workers

    def begin(self, step: int) -> None:
        """Start a step; the next calls belong to it."""
        self._step = step
        self._made = {}

    def submit(self, slot: int, fn: Any, payload: Any) -> Future[Any]:
        """Submit the call with its time."""
        made = self._made.get(slot, 0)
        self._made[slot] = made + 1
        own = self._drawn[min(made, len(self._drawn) - 1), self._step, slot]
        seconds = float(self._load * own)
        late = cm.testing.Faulty(self._engine, {slot: cm.testing.late(seconds)})
        future = late.submit(slot, fn, payload)
        self.calls.append(Call(self._step, seconds, self._load, future))
        return future

    def keep(self, slot: int, value: Any) -> cm.engines.Kept:
        """Forward to the engine."""
        return self._engine.keep(slot, value)

    def abandon(self, futures: Iterable[Future[Any]]) -> None:
        """Forward to the engine."""
        self._engine.abandon(futures)

    def cost(self, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Worker seconds and parts computed per step; waits until all calls have ended.

        Calls that were abandoned before they started cost nothing.
        """
        seconds, parts = np.zeros(steps), np.zeros(steps)
        for call in self.calls:
            while not call.future.done():
                time.sleep(0.01)
            if not call.future.cancelled() and call.future.exception() is None:
                seconds[call.step] += call.seconds
                parts[call.step] += call.parts
        return seconds, parts
