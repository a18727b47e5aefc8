"""An engine whose calls answer when the test says so, for what depends on the order of answers."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import codedmap as cm
from codedmap.contracts.engine import Reply


class ByHand:
    """Calls wait until they are answered or failed by hand."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.calls: dict[int, tuple[Future[Any], Any, Any]] = {}
        self.abandoned: tuple[int, ...] | None = None
        """Slots that were abandoned, once some have been."""

    def submit(self, slot: int, fn: Any, payload: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.calls[slot] = future, fn, payload
        return future

    def keep(self, slot: int, value: Any) -> cm.engines.Kept:
        return cm.engines.Kept(slot, value)

    def abandon(self, futures: Any) -> None:
        wanted = set(futures)
        self.abandoned = tuple(slot for slot, call in self.calls.items() if call[0] in wanted)

    def answer(self, *slots: int, change: Any = lambda answer: answer) -> None:
        for slot in slots:
            future, fn, payload = self.calls[slot]
            fn = fn.key if isinstance(fn, cm.engines.Kept) else fn
            answer = fn(payload)
            future.set_result(
                answer.changed(change) if isinstance(answer, Reply) else change(answer)
            )

    def fail(self, slot: int, error: BaseException) -> None:
        self.calls[slot][0].set_exception(error)
