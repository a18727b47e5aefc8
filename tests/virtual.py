"""Engines and jobs in a time that does not pass: it jumps to whatever happens next."""

from __future__ import annotations

import heapq
import math
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from itertools import count
from queue import Empty
from types import SimpleNamespace
from typing import Any

import codedmap as cm


class Clock:
    """Time in which jobs run, and the delays of `Scripted` engines: it jumps to what happens next."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], Any]]] = []
        self._numbers = count()

    def sleep(self, seconds: float) -> None:
        """Let so much time pass; in ``fn`` of `Virtual`, for its call."""
        self.now += seconds

    def at(self, when: float, happen: Callable[[], Any]) -> None:
        """Do this at a time."""
        heapq.heappush(self._events, (when, next(self._numbers), happen))

    def install(self, monkeypatch: Any) -> None:
        """Have jobs go by this time."""
        own = self

        class Queue(list):
            put = list.append

            def empty(self) -> bool:
                return not self

            def get(self, timeout: float = 0.0) -> Any:
                while not self:
                    if not own._events or own._events[0][0] > own.now + timeout:
                        # However short the time is, some passes.
                        own.now = max(own.now + timeout, math.nextafter(own.now, math.inf))
                        raise Empty
                    when, _, happen = heapq.heappop(own._events)
                    own.now = max(own.now, when)
                    happen()
                return self.pop(0)

        class Timer:
            def __init__(self, seconds: float, happen: Callable[[], None]) -> None:
                self._seconds, self._happen, self._alive = seconds, happen, False

            def start(self) -> None:
                self._alive = True
                own.at(own.now + self._seconds, self._end)

            def _end(self) -> None:
                if self._alive:
                    self._alive = False
                    self._happen()

            def cancel(self) -> None:
                self._alive = False

            def is_alive(self) -> bool:
                return self._alive

        monkeypatch.setattr("codedmap.execution.live.SimpleQueue", Queue)
        timers = SimpleNamespace(**{**vars(threading), "Timer": Timer})
        monkeypatch.setattr("codedmap.testing.threading", timers)
        read = lambda: own.now  # noqa: E731
        clock = SimpleNamespace(monotonic=read, perf_counter=read, thread_time=read, time=read)
        for module in ("execution.live", "execution.task", "api.map", "api.piloted", "api.plan"):
            monkeypatch.setattr(f"codedmap.{module}.time", clock)


class Virtual(Clock):
    """An engine whose workers take each call in turn, for as long as ``fn`` and ``seconds`` say.

    Parameters
    ----------
    workers : int
    seconds : callable
        How much longer than ``fn`` a call takes, given its worker and how many that worker has had
        before; infinite: for ever.
    """

    def __init__(
        self, workers: int, seconds: Callable[[int, int], float] = lambda worker, had: 0.0
    ) -> None:
        super().__init__()
        self.workers = workers
        self.calls: list[tuple[float, int]] = []
        """When each call was sent, and to which worker."""
        self._seconds = seconds
        self._had = [0] * workers
        self._sent: list[deque[tuple[Timed, Any, Any]]] = [deque() for _ in range(workers)]
        self._busy = [False] * workers

    def submit(self, slot: int, fn: Any, payload: Any) -> Future[Any]:
        future = Timed()
        self.calls.append((self.now, slot))
        self._sent[slot].append((future, fn, payload))
        if not self._busy[slot]:
            self._begin(slot)
        return future

    def _begin(self, slot: int) -> None:
        """The worker's next call that has not been withdrawn."""
        self._busy[slot] = False
        while self._sent[slot] and not self._busy[slot]:
            future, fn, payload = self._sent[slot].popleft()
            self._busy[slot] = future.set_running_or_notify_cancel()
        if not self._busy[slot]:
            return
        began = self.now
        future.begun.append(began)
        try:
            end = partial(future.set_result, fn.key(payload))
        except Exception as error:
            end = partial(future.set_exception, error)
        took, self.now = self.now - began, began
        took += self._seconds(slot, self._had[slot])
        self._had[slot] += 1
        if took < float("inf"):
            self.at(began + took, lambda: (end(), self._begin(slot)))

    def keep(self, slot: int, value: Any) -> cm.engines.Kept:
        return cm.engines.Kept(slot, value)

    def abandon(self, futures: Iterable[Future[Any]]) -> None:
        pass


class Timed(cm.engines.CallFuture):
    """Knows when it began."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[float] = []
