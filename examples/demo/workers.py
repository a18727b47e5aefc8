"""Workers that are late or die: real sleeps and a real kill, drawn from a stated model."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np

from codedmap.engines import Kept, Resident
from codedmap.errors import WorkerLost

__all__ = ["Call", "Crew", "Fate", "Latency", "Patient", "make_ready"]


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of one call."""

    seconds: float = 0.0
    """The worker sleeps this long before it computes."""
    crash: bool = False
    """It is killed then, and computes nothing."""


@dataclass(frozen=True, slots=True)
class Latency:
    """How long a call takes: a shifted exponential, and a share of the calls is slower by a factor."""

    base: float = 0.08
    spread: float = 0.03
    slow_share: float = 0.08
    slow_factor: float = 5.0

    def __str__(self) -> str:
        return (
            f"{self.base:g} s + Exp({self.spread:g} s), "
            f"and {self.slow_share:.0%} of the calls take {self.slow_factor:g} times as long"
        )

    def fates(self, seed: Sequence[int], workers: int, *, crash: bool) -> list[Fate]:
        """Draw what becomes of a call on each of ``workers`` workers.

        A worker has the same fate however many others there are, so that schemes of different
        width meet the same luck; only who crashes is drawn anew from those that take part.
        """
        random = np.random.default_rng(seed)
        crashing = int(random.random() * workers) if crash else None
        fates = []
        for worker, (late, slow) in enumerate(random.random((workers, 2))):
            seconds = self.base - self.spread * math.log1p(-late)
            if worker == crashing:
                fates.append(Fate(seconds, crash=True))
            else:
                fates.append(Fate(seconds * (self.slow_factor if slow < self.slow_share else 1)))
        return fates

    def quantile(self, share: float) -> float:
        """The time within which this share of the calls has answered."""
        low, high = 0.0, self.slow_factor * (self.base + 100 * self.spread)
        while high - low > 1e-6:
            middle = (low + high) / 2
            usual = self.slow_share * self._within(middle / self.slow_factor)
            if usual + (1 - self.slow_share) * self._within(middle) < share:
                low = middle
            else:
                high = middle
        return high

    def _within(self, seconds: float) -> float:
        return -math.expm1(-max(0.0, seconds - self.base) / self.spread)


@dataclass(frozen=True, slots=True)
class _Delayed:
    """A payload together with what shall become of its call."""

    batch: np.ndarray
    fate: Fate


@dataclass(frozen=True, slots=True)
class Patient:
    """A model whose calls sleep first, or die, as their payload says; it lives on the workers."""

    model: Callable[[np.ndarray], np.ndarray]

    def __call__(self, payload: _Delayed) -> np.ndarray:
        """Answer late, or never."""
        time.sleep(payload.fate.seconds)
        if payload.fate.crash:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.model(payload.batch)


@dataclass(slots=True)
class Call:
    """One call, for the picture; times on the clock of ``time.perf_counter``."""

    worker: int
    began: float
    ended: float | None = None
    """Set when the worker answers or dies, also if nobody waits for it any more."""
    crashed: bool = False
    again: bool = False
    """Whether it repeats a call that gave no answer."""


class Crew:
    """Some of an engine's workers, for one call of `codedmap.map`: an engine of its own.

    Parameters
    ----------
    model : Resident
        A `Patient`; where it lives is the engine behind this one.
    members : sequence of int
        Slot n of the crew is this worker of the engine.
    fates : sequence of Fate
        What becomes of the call on each slot.
    again : bool
        Marks the calls in the log.
    """

    def __init__(
        self, model: Resident, members: Sequence[int], fates: Sequence[Fate], *, again: bool = False
    ) -> None:
        self._engine = model.engine
        self._members = members
        self._fates = fates
        self._again = again
        self.calls: list[Call] = []

    @property
    def workers(self) -> int:
        """As many as it has members."""
        return len(self._members)

    def submit(self, slot: int, fn: Any, payload: Any) -> Future[Any]:
        """Send the payload with its fate, and note when the call begins and ends."""
        call = Call(self._members[slot], time.perf_counter(), again=self._again)
        self.calls.append(call)

        def note(done: Future[Any]) -> None:
            call.ended = time.perf_counter()
            call.crashed = done.exception() is not None

        delayed = _Delayed(payload, self._fates[slot])
        future = self._engine.submit(self._members[slot], fn, delayed)
        future.add_done_callback(note)
        return future

    def keep(self, slot: int, value: Resident) -> Kept:
        """Where a model is that already lives on the workers: no call pays for opening it."""
        return value.on(self._members[slot])

    def abandon(self, futures: Iterable[Future[Any]]) -> None:
        """As the engine behind it does."""
        self._engine.abandon(futures)


def make_ready(model: Resident, batch: np.ndarray) -> None:
    """Wait until every worker is idle and has its model open, a crashed one's successor as well."""
    payload = _Delayed(batch, Fate())
    todo = list(range(model.engine.workers))
    while todo:
        futures = {
            worker: model.engine.submit(worker, model.on(worker), payload) for worker in todo
        }
        # A worker left behind in the last wave may die only now, with what waits in its queue.
        lost = {w for w, future in futures.items() if isinstance(future.exception(), WorkerLost)}
        for worker in set(todo) - lost:
            futures[worker].result()
        todo = sorted(lost)
