"""The base class of engines with a queue for each slot: submitting, abandoning and closing."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any, Generic, Protocol, TypeVar

from ..contracts.arguments import is_real
from ..contracts.closing import Closing
from ..contracts.engine import Kept
from ..errors import EngineError, InvalidArgument
from .shield import Answer

__all__ = ["SlotEngine", "Queue", "join"]


class Queue(Protocol):
    """The calls of one slot, in order."""

    def submit(self, fn: Any, payload: Any) -> Future[Any]:
        """Queue ``fn(payload)``."""
        ...

    def keep(self, value: Any) -> Kept:
        """Queue a value to be left on the worker."""
        ...

    def drop(self, future: Future[Any]) -> bool:
        """Drop a call that has not begun; return whether the worker has it."""
        ...


S = TypeVar("S", bound=Queue)


class SlotEngine(Closing, Generic[S]):
    """The base class of engines in which slot n is always the same queue of calls.

    Subclasses implement how a worker is ended (`_end`) and how the engine is closed (``close``).

    Parameters
    ----------
    grace : float or None
        Seconds for which an abandoned call may still run before its worker is ended; None: no limit.
    """

    def __init__(self, grace: float | None) -> None:
        if grace is not None and (not is_real(grace) or not grace >= 0):
            raise InvalidArgument(f"grace={grace!r} must be at least 0 seconds")
        self._grace = grace
        self._slots: list[S] = []
        self._timers: set[threading.Timer] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
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
        EngineError
            If the engine was closed, or made by a process from which this one was forked.
        """
        self._check_ours()
        self._check_open()
        return self._slots[slot].submit(fn, payload)

    def keep(self, slot: int, value: Any) -> Kept:
        """Leave a value on a worker; it is unpickled there once, at its first use."""
        self._check_ours()
        self._check_open()
        return self._slots[slot].keep(value)

    def abandon(self, futures: Iterable[Future[Any]]) -> None:
        """Forget calls that have not begun; end those that still run after ``grace``."""
        running: list[tuple[S, Future[Any]]] = []
        for future in futures:
            if isinstance(future, Answer):
                slot = future.slot
                if slot in self._slots[slot.number : slot.number + 1] and slot.drop(future):
                    running.append((slot, future))
        if running and self._grace is not None and self._grace < threading.TIMEOUT_MAX:
            self._end_later(self._grace, running)

    def _check_open(self) -> None:
        """Raise `EngineError` if calls cannot be taken any more; by default always open."""

    def _end(self, slot: S, future: Future[Any]) -> None:
        """End the worker of this slot if it is still busy with this call."""
        raise NotImplementedError

    def _end_later(self, grace: float, running: list[tuple[S, Future[Any]]]) -> None:
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
            if self._closed.is_set():
                return
            self._timers.add(timer)
            timer.start()
        for future in tuple(left):
            future.add_done_callback(arrived)

    def _begin_to_close(self) -> tuple[threading.Timer, ...] | None:
        """Cancel the timers that would end workers, and return them for `join`; None if already closing."""
        with self._lock:
            if self._closed.is_set():
                return None
            self._closed.set()
            timers = tuple(self._timers)
        for timer in timers:
            timer.cancel()
        return timers

    def _ours(self) -> bool:
        """Whether this is the process that made the engine, and not a child that was forked off."""
        return os.getpid() == self._owner

    def _check_ours(self) -> None:
        if not self._ours():
            raise EngineError(
                f"the engine was made by process {self._owner}, from which this one was forked, and its workers "
                "do not serve this one: create a new one here"
            )

    def _at_exit(self) -> None:
        if self._ours():
            self.close()


def join(threads: Iterable[threading.Thread]) -> None:
    """Wait for all threads that are alive, except the current one."""
    for thread in threads:
        if thread.is_alive() and thread is not threading.current_thread():
            thread.join()
