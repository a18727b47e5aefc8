"""The one waiting loop of the library, and its only clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any

from ._errors import Abandoned
from ._rules import Progress, StopRule
from .engines import Engine

__all__ = ["Budget", "Collection"]

_TICK = 1.0  # some systems deliver Ctrl-C only between waits
_LOOKING = 0.05  # the share of the time that `Progress.stderr` may take


class Collection:
    """The calls of one wave: submit them, iterate over what is known, leave when it is enough.

    Iterating yields a `Progress` at the start, after each batch of arrivals, and when the stop
    rule or a budget asked to be woken; it ends by itself when nobody is left running. Leaving the
    ``with`` block abandons whatever still runs.

    Parameters
    ----------
    engine : Engine
        Where the calls run; with fewer workers than slots, slot n is worker n mod workers.
    stop : StopRule
        Asked only when to wake up; its verdict is the caller's business.
    take : callable
        Given slot and answer of each call that succeeds.
    decodable : callable
        Whether these slots' answers can be decoded.
    stderr : callable
        The largest standard error of an estimate made of what ``take`` was given; called only if
        that is decodable, once for the same answers, and for at most 5 % of the time.
    """

    def __init__(
        self,
        engine: Engine,
        stop: StopRule,
        *,
        take: Callable[[int, Any], None],
        decodable: Callable[[frozenset[int]], bool],
        stderr: Callable[[], float | None],
    ) -> None:
        self._engine = engine
        self._stop = stop
        self._take = take
        self._decodable = decodable
        self._stderr = stderr
        self._asked: set[int] = set()
        self._running: dict[int, Future[Any]] = {}
        self._arrivals: SimpleQueue[tuple[int, Future[Any]]] = SimpleQueue()
        self._answered: set[int] = set()
        self._began = time.monotonic()
        self._wake: float | None = None
        self._looking = Budget(self, _LOOKING)
        self._looked: tuple[int, float | None] = (0, None)
        self.failures: dict[int, BaseException] = {}
        """What went wrong, by slot, in the order of arrival."""

    def submit(self, slot: int, fn: Any, payload: Any) -> None:
        """Send one call; again, if it has failed before."""
        future = self._engine.submit(slot % self._engine.workers, fn, payload)
        self._asked.add(slot)
        self.failures.pop(slot, None)
        self._running[slot] = future
        future.add_done_callback(lambda done: self._arrivals.put((slot, done)))

    @property
    def seconds(self) -> float:
        """Since the collection was made."""
        return time.monotonic() - self._began

    @property
    def running(self) -> bool:
        """Whether anybody may still answer."""
        return bool(self._running)

    def wake_at(self, seconds: float) -> None:
        """Yield again at this time, if nothing has arrived before."""
        self._wake = seconds if self._wake is None else min(self._wake, seconds)

    def __iter__(self) -> Iterator[Progress]:
        while True:
            self._wake = None
            answered = frozenset(self._answered)
            seen = Progress(
                asked=frozenset(self._asked),
                answered=answered,
                failed=frozenset(self.failures),
                seconds=self.seconds,
                decodable=self._decodable(answered),
                stderr=self._worst,
            )
            yield seen
            if not self._running:  # also of what was submitted after a look at this
                return
            wake = self._stop.wake_after(seen)
            if wake is not None:
                self.wake_at(seen.seconds + wake)  # however long it took our caller to go on
            self._wait(self._wake)

    def __enter__(self) -> Collection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._engine.abandon(list(self._running.values()))

    def _worst(self) -> float | None:
        count = len(self._answered)
        if count != self._looked[0]:
            if not self._decodable(frozenset(self._answered)) or not self._looking.allows():
                return None
            with self._looking:
                self._looked = count, self._stderr()
        return self._looked[1]

    def _wait(self, until: float | None) -> None:
        while True:
            left = _TICK if until is None else min(_TICK, until - self.seconds)
            try:
                self._receive(*self._arrivals.get(timeout=max(0.0, left)))
                break
            except Empty:
                if until is not None and self.seconds >= until:
                    break
        while not self._arrivals.empty():
            self._receive(*self._arrivals.get())

    def _receive(self, slot: int, future: Future[Any]) -> None:
        del self._running[slot]
        try:
            # Asked for, not raised: fn may have raised SystemExit, which is no reason for us to exit.
            error = future.exception()
        except CancelledError:
            error = Abandoned("the call was cancelled by somebody else")
        if error is None:
            self._take(slot, future.result())
            self._answered.add(slot)
        else:
            self.failures[slot] = error


class Budget:
    """Keeps some work, done in its ``with`` block, within a share of the time of a collection.

    Parameters
    ----------
    calls : Collection
    share : float
        Between 0 and 1.
    """

    def __init__(self, calls: Collection, share: float) -> None:
        self._calls = calls
        self._share = share
        self._spent = 0.0
        self._began = 0.0

    def allows(self) -> bool:
        """Whether to do it now: always when nobody is left running. If not, we wake up to do it."""
        again = self._spent / self._share
        if not self._calls.running or self._calls.seconds >= again:
            return True
        self._calls.wake_at(again)
        return False

    def __enter__(self) -> None:
        self._began = self._calls.seconds

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._spent += self._calls.seconds - self._began
