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

__all__ = ["Collection"]

_TICK = 1.0  # some systems deliver Ctrl-C only between waits


class Collection:
    """The calls of one wave: submit them, iterate over what is known, leave when it is enough.

    Iterating yields a `Progress` at the start, after each batch of arrivals, and when the stop
    rule asked to be woken; it ends by itself when nobody is left running. Leaving the ``with``
    block abandons whatever still runs.

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
        What `Progress.stderr` is; called for at most 5 % of the time, else it is the last one.
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
        self._decoding = 0.0
        self._last: float | None = None
        self.failures: dict[int, BaseException] = {}
        """What went wrong, by slot, in the order of arrival."""

    def submit(self, slot: int, fn: Any, payload: Any) -> None:
        """Send one call."""
        future = self._engine.submit(slot % self._engine.workers, fn, payload)
        self._asked.add(slot)
        self._running[slot] = future
        future.add_done_callback(lambda done: self._arrivals.put((slot, done)))

    @property
    def seconds(self) -> float:
        """Since the collection was made."""
        return time.monotonic() - self._began

    def __iter__(self) -> Iterator[Progress]:
        while True:
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
            if not seen.running:
                return
            self._wait(self._stop.wake_after(seen))

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
        if self._decoding <= 0.05 * self.seconds:
            began = time.monotonic()
            self._last = self._stderr()
            self._decoding += time.monotonic() - began
        return self._last

    def _wait(self, seconds: float | None) -> None:
        until = None if seconds is None else time.monotonic() + seconds
        while True:
            left = _TICK if until is None else until - time.monotonic()
            try:
                self._receive(*self._arrivals.get(timeout=max(0.0, min(left, _TICK))))
                break
            except Empty:
                if until is not None and time.monotonic() >= until:
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
