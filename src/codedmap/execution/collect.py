"""The waiting loop of sums and matrix products, whose calls are bound to workers that keep their parts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from queue import Empty, SimpleQueue
from typing import Any

from ..contracts.closing import Closing
from ..contracts.stopping import Progress, StoppingRule
from ..engines import Engine
from ..errors import Abandoned
from .budget import Budget

__all__ = ["Collection"]

_TICK = 1.0  # some systems deliver Ctrl-C only between waits
_LOOKING = 0.05  # the share of the time that `Progress.stderr` may take


class Collection(Closing):
    """The calls of one wave: submit them, iterate over what is known, leave when it is enough.

    Iterating yields a `Progress` at the start, after each batch of arrivals, and when the stop
    rule or a budget asked to be woken; it ends by itself when no call is left running. Leaving the
    ``with`` block abandons whatever still runs.

    Parameters
    ----------
    engine : Engine
        Where the calls run; with fewer workers than slots, slot n is worker n mod workers.
    stop : StoppingRule
        Asked only when to wake up; its verdict is the caller's business.
    take : callable
        Given slot and answer of each call that succeeds.
    decodable : callable
        Whether these slots' answers can be decoded.
    stderr : callable
        The largest standard error of an estimate made of what ``take`` was given; called only if
        that can be estimated, once for the same answers, and for at most 5 % of the time.
    estimable : callable, optional
        Whether there is an estimate from these slots' answers; by default, if they can be decoded.
    """

    def __init__(
        self,
        engine: Engine,
        stop: StoppingRule,
        *,
        take: Callable[[int, Any], None],
        decodable: Callable[[frozenset[int]], bool],
        stderr: Callable[[], float | None],
        estimable: Callable[[frozenset[int]], bool] | None = None,
    ) -> None:
        self._engine = engine
        self._stop = stop
        self._take = take
        self._decodable = decodable
        self._stderr = stderr
        self._estimable = decodable if estimable is None else estimable
        self._asked: set[int] = set()
        self._running: dict[Future[Any], int] = {}
        self._arrivals: SimpleQueue[Future[Any]] = SimpleQueue()
        self._answered: set[int] = set()
        self._began = time.monotonic()
        self._wake: float | None = None
        self._looking = Budget(self, _LOOKING)
        self._looked: tuple[int, float | None] = (0, None)
        self.failures: dict[int, BaseException] = {}
        """What went wrong, by slot, in the order of arrival."""

    def submit(self, slot: int, fn: Any, payload: Any) -> None:
        """Send the call of a slot; again, if it has failed before."""
        self.failures.pop(slot, None)
        future = self._engine.submit(slot % self._engine.workers, fn, payload)
        self._running[future] = slot  # first: `close` abandons it after a KeyboardInterrupt
        self._asked.add(slot)
        future.add_done_callback(self._arrivals.put)

    @property
    def seconds(self) -> float:
        """Since the collection was made."""
        return time.monotonic() - self._began

    @property
    def running(self) -> bool:
        """Whether any call may still answer."""
        return bool(self._running)

    def wake_at(self, seconds: float) -> None:
        """Yield again at this time, if nothing has arrived before."""
        self._wake = seconds if self._wake is None else min(self._wake, seconds)

    def __iter__(self) -> Iterator[Progress]:
        while True:
            self._wake = None
            answered = frozenset(self._answered)
            running = set(self._running.values())
            seen = Progress(
                asked=frozenset(self._asked),
                answered=answered,
                failed=frozenset(self._asked - answered - running),
                seconds=self.seconds,
                decodable=self._decodable(answered),
                stderr=self._worst,
            )
            yield seen
            # Nor has our caller sent anything more, or wants to look again.
            if not self.running and self._wake is None:
                return
            wake = self._stop.wake_after(seen)
            if wake is not None:
                self.wake_at(seen.seconds + wake)  # however long it took our caller to go on
            self._wait(self._wake)

    def close(self) -> None:
        """Abandon whatever still runs."""
        self._engine.abandon(list(self._running))

    def _worst(self) -> float | None:
        count = len(self._answered)
        if count != self._looked[0]:
            if not self._estimable(frozenset(self._answered)) or not self._looking.allows():
                return None
            with self._looking:
                self._looked = count, self._stderr()
        return self._looked[1]

    def _wait(self, until: float | None) -> None:
        while True:
            left = _TICK if until is None else min(_TICK, until - self.seconds)
            try:
                self._receive(self._arrivals.get(timeout=max(0.0, left)))
                break
            except Empty:
                if until is not None and self.seconds >= until:
                    break
        while not self._arrivals.empty():
            self._receive(self._arrivals.get())

    def _receive(self, future: Future[Any]) -> None:
        slot = self._running.pop(future)
        try:
            # Asked for, not raised: fn may have raised SystemExit, which is no reason for us to exit.
            error = future.exception()
        except CancelledError:
            error = Abandoned("the call was cancelled by somebody else")
        if error is not None:
            self.failures[slot] = error
            return
        self._take(slot, future.result())
        self._answered.add(slot)
