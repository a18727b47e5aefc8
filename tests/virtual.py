"""Engines and waves in a time that does not pass: it jumps to whatever happens next."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from itertools import count
from queue import Empty
from types import SimpleNamespace
from typing import Any

import codedmap as cm


class Virtual:
    """An engine whose workers take each call in turn, for as long as ``seconds`` says.

    Parameters
    ----------
    workers : int
    seconds : callable
        How long a call takes, given its worker and how many that worker has had before;
        infinite: for ever.
    """

    def __init__(self, workers: int, seconds: Callable[[int, int], float]) -> None:
        self.workers = workers
        self.now = 0.0
        self.calls: list[tuple[float, int]] = []
        """When each call was sent, and to which worker."""
        self._seconds = seconds
        self._had = [0] * workers
        self._until = [0.0] * workers
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    def submit(self, slot: int, fn: Any, payload: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.calls.append((self.now, slot))
        ends = max(self.now, self._until[slot]) + self._seconds(slot, self._had[slot])
        self._had[slot] += 1
        self._until[slot] = ends
        if ends < float("inf"):
            event = ends, next(self._numbers), lambda: future.set_result(fn.key(payload))
            heapq.heappush(self._events, event)
        return future

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
                        engine.now += timeout
                        raise Empty
                    engine.now, _, happen = heapq.heappop(engine._events)
                    happen()
                return self.pop(0)

        monkeypatch.setattr("codedmap.execution.live.SimpleQueue", Queue)
        clock = SimpleNamespace(monotonic=lambda: engine.now)
        monkeypatch.setattr("codedmap.execution.live.time", clock)
        monkeypatch.setattr("codedmap.api.map.time", clock)
