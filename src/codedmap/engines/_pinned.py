"""What the engines of clusters share: slots, calls that nobody wants any more, and the end."""

from __future__ import annotations

import atexit
import os
import secrets
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

from .._checks import is_real
from .._errors import InvalidArgument
from ._contract import Kept
from ._remote import RemoteSlot

__all__ = ["Pinned"]


class Pinned:
    """An engine whose slots are queues in the caller, each placed on a worker elsewhere.

    A cluster says how a slot that has lost its worker gets another, how a worker is ended, and
    what to do at the end, in the methods that raise NotImplementedError here.

    Parameters
    ----------
    grace : float or None
        Seconds for which an abandoned call may still run before its worker is ended; None: for ever.
    """

    def __init__(self, grace: float | None) -> None:
        if grace is not None and (not is_real(grace) or not grace >= 0):
            raise InvalidArgument(f"grace={grace!r} must be at least 0 seconds, or None")
        self._grace = grace
        self._run = secrets.token_hex(4)
        self._slots: list[RemoteSlot] = []
        self._where: dict[Future[Any], RemoteSlot] = {}
        self._timers: set[threading.Timer] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._owner = os.getpid()
        atexit.register(self._at_exit)

    @property
    def workers(self) -> int:
        """Number of slots."""
        return len(self._slots)

    def submit(self, slot: int, fn: Any, payload: Any) -> Future[Any]:
        """Compute ``fn(payload)`` on a slot; see `Engine.submit`.

        Raises
        ------
        CannotSend
            If ``fn`` or the payload cannot be pickled.
        """
        self._check_open()
        future = self._slots[slot].submit(fn, payload)
        self._where[future] = self._slots[slot]
        future.add_done_callback(lambda done: self._where.pop(done, None))
        return future

    def keep(self, slot: int, value: Any) -> Kept:
        """Leave a value on a worker; it is unpickled there once, at its first use."""
        self._check_open()
        return self._slots[slot].keep(value)

    def abandon(self, futures: Iterable[Future[Any]]) -> None:
        """Forget calls that have not begun; end those that still run after ``grace``."""
        running = []
        for future in futures:
            slot = self._where.get(future)
            if slot is not None and slot.drop(future):
                running.append((slot, future))
        if running and self._grace is not None and self._grace < threading.TIMEOUT_MAX:
            self._end_later(self._grace, running)

    def close(self) -> None:
        """Take no more calls, and end what the engine has started; the cluster goes on."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            timers = tuple(self._timers)
        for timer in timers:
            timer.cancel()
        busy = [slot for slot in self._slots if slot.busy]
        for slot in self._slots:
            slot.close()
        try:
            self._leave(busy)
        finally:
            for timer in timers:
                if timer is not threading.current_thread():
                    timer.join()
            atexit.unregister(self._at_exit)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        """Raise `EngineError` if calls cannot be taken any more."""
        raise NotImplementedError

    def _lost(self, slot: RemoteSlot) -> None:
        """A call has found the worker of this slot dead."""
        raise NotImplementedError

    def _end(self, slot: RemoteSlot, future: Future[Any]) -> None:
        """End the worker of this slot if it is still busy with this call."""
        raise NotImplementedError

    def _leave(self, busy: list[RemoteSlot]) -> None:
        """Undo on the cluster what the engine has done there; these slots' workers are busy."""
        raise NotImplementedError

    def _end_later(self, grace: float, running: list[tuple[RemoteSlot, Future[Any]]]) -> None:
        left = {future for _, future in running}

        def end() -> None:
            for slot, future in running:
                if not future.done():
                    self._end(slot, future)
            self._timers.discard(timer)

        def arrived(future: Future[Any]) -> None:
            left.discard(future)
            if not left:
                timer.cancel()
                self._timers.discard(timer)

        timer = threading.Timer(grace, end)
        timer.daemon = True
        with self._lock:
            if self._closed:
                return
            self._timers.add(timer)
            timer.start()
        for future in tuple(left):
            future.add_done_callback(arrived)

    def _at_exit(self) -> None:
        if os.getpid() == self._owner:  # not in a child that was forked off
            self.close()
