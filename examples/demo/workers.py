"""Late and crashing workers: calls sleep and workers are killed, as drawn from a latency model."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from codedmap.engines import Kept, Resident
from codedmap.errors import WorkerLost

__all__ = ["Call", "Subset", "Outcome", "Latency", "FaultyModel", "make_ready"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Delay and crash of one call."""

    seconds: float = 0.0
    """Seconds that the worker sleeps before it computes."""
    crash: bool = False
    """If True, the worker is killed after sleeping."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Time of a call: a shifted exponential; a share of the calls is slower by a factor."""

    base: float = 0.08
    spread: float = 0.03
    slow_share: float = 0.08
    slow_factor: float = 5.0

    def __str__(self) -> str:
        return (
            f"{self.base:g} s + Exp({self.spread:g} s), "
            f"and {self.slow_share:.0%} of the calls take {self.slow_factor:g} times as long"
        )

    def outcomes(self, seed: Sequence[int], workers: int, *, crash: bool) -> list[Outcome]:
        """Draw the delay and the crash of a call on each of ``workers`` workers.

        The delay of a worker does not depend on the number of workers, so that all schemes get the
        same delays. The crashing worker is drawn from the workers that take part.
        """
        random = np.random.default_rng(seed)
        crashing = int(random.random() * workers) if crash else None
        outcomes = []
        for worker, (late, slow) in enumerate(random.random((workers, 2))):
            seconds = self.base - self.spread * math.log1p(-late)
            if worker == crashing:
                outcomes.append(Outcome(seconds, crash=True))
            else:
                outcomes.append(
                    Outcome(seconds * (self.slow_factor if slow < self.slow_share else 1))
                )
        return outcomes

    def quantile(self, share: float) -> float:
        """The time within which this share of the calls answers."""
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
    """Rows of a call with its outcome."""

    batch: Any
    outcome: Outcome
    task: Any = None
    """What computes the batch, without the model; None: the model itself."""


@dataclass(frozen=True, slots=True)
class FaultyModel:
    """A model on the workers whose calls first sleep or crash, as their payload says."""

    model: Callable[[np.ndarray], np.ndarray]

    def __call__(self, payload: _Delayed) -> Any:
        """Sleep, then crash or answer."""
        time.sleep(payload.outcome.seconds)
        if payload.outcome.crash:
            os.kill(os.getpid(), signal.SIGKILL)
        if payload.task is None:
            return self.model(payload.batch)
        return replace(payload.task, fn=self.model)(payload.batch)


@dataclass(slots=True)
class Call:
    """One call, for the figure; times are those of ``time.perf_counter``."""

    worker: int
    began: float
    ended: float | None = None
    """Set when the worker answers or crashes, also after the call was abandoned."""
    crashed: bool = False
    again: bool = False
    """True if it repeats a call that gave no answer."""


class Subset:
    """An engine made of some workers of another engine, for one call of `codedmap.map`.

    Parameters
    ----------
    model : Resident
        A `FaultyModel`; its engine runs the calls.
    members : sequence of int
        Workers of the engine, by slot of the subset.
    outcomes : sequence of Outcome
        Delay and crash of the call on each slot.
    again : bool
        Marks the calls as repeated.
    """

    def __init__(
        self,
        model: Resident,
        members: Sequence[int],
        outcomes: Sequence[Outcome],
        *,
        again: bool = False,
    ) -> None:
        self._model, self._engine = model, model.engine
        self._members = members
        self._outcomes = outcomes
        self._again = again
        self._task: Any = None
        self.calls: list[Call] = []

    @property
    def workers(self) -> int:
        """Number of members."""
        return len(self._members)

    def submit(self, slot: int, fn: Any, payload: Any) -> Future[Any]:
        """Submit the payload with its outcome, and record when the call begins and ends."""
        call = Call(self._members[slot], time.perf_counter(), again=self._again)
        self.calls.append(call)

        def note(done: Future[Any]) -> None:
            call.ended = time.perf_counter()
            call.crashed = done.exception() is not None

        delayed = _Delayed(payload, self._outcomes[slot], self._task)
        future = self._engine.submit(self._members[slot], fn, delayed)
        future.add_done_callback(note)
        return future

    def keep(self, slot: int, value: Any) -> Kept:
        """The model that is already on the workers, so that no call opens it."""
        self._task = replace(value.fn, fn=None)
        return self._model.on(self._members[slot])

    def abandon(self, futures: Iterable[Future[Any]]) -> None:
        """Forward to the engine."""
        self._engine.abandon(futures)


def make_ready(model: Resident, batch: np.ndarray) -> None:
    """Wait until every worker is idle and has its model open, replacements of crashed ones included."""
    payload = _Delayed(batch, Outcome())
    todo = list(range(model.engine.workers))
    while todo:
        futures = {
            worker: model.engine.submit(worker, model.on(worker), payload) for worker in todo
        }
        # A worker abandoned in the last wave may crash only now, with the calls in its queue.
        lost = {w for w, future in futures.items() if isinstance(future.exception(), WorkerLost)}
        for worker in set(todo) - lost:
            futures[worker].result()
        todo = sorted(lost)
