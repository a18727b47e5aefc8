"""Engines and jobs in a time that does not pass: it jumps to whatever happens next."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from itertools import count
from queue import Empty
from types import SimpleNamespace
from typing import Any

import codedmap as cm


class Virtual:
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
        self.workers = workers
        self.now = 0.0
        self.calls: list[tuple[float, int]] = []
        """When each call was sent, and to which worker."""
        self._seconds = seconds
        self._had = [0] * workers
        self._sent: list[deque[tuple[Timed, Any, Any]]] = [deque() for _ in range(workers)]
        self._busy = [False] * workers
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    def sleep(self, seconds: float) -> None:
        """Let so much time pass; in ``fn``, for its call."""
        self.now += seconds

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
            self._at(began + took, lambda: (end(), self._begin(slot)))

    def _at(self, when: float, happen: Callable[[], Any]) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), happen))

    def keep(self, slot: int, value: Any) -> cm.engines.Kept:
        return cm.engines.Kept(slot, value)

    def abandon(self, futures: Iterable[Future[Any]]) -> None:
        pass

    def install(self, monkeypatch: Any) -> None:
        """Have jobs go by this engine's time."""
        engine = self

        class Queue(list):
            put = list.append

            def empty(self) -> bool:
                return not self

            def get(self, timeout: float = 0.0) -> Any:
                while not self:
                    if not engine._events or engine._events[0][0] > engine.now + timeout:
                        # However short the time is, some passes.
                        engine.now = max(engine.now + timeout, math.nextafter(engine.now, math.inf))
                        raise Empty
                    when, _, happen = heapq.heappop(engine._events)
                    engine.now = max(engine.now, when)
                    happen()
                return self.pop(0)

        monkeypatch.setattr("codedmap.execution.live.SimpleQueue", Queue)
        read = lambda: engine.now  # noqa: E731
        clock = SimpleNamespace(monotonic=read, perf_counter=read, time=read)
        for module in ("execution.live", "execution.task", "api.map", "api.rows"):
            monkeypatch.setattr(f"codedmap.{module}.time", clock)


class Timed(Future):
    """Knows when it began."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[float] = []
