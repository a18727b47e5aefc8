"""The base class of engines with a queue for each worker: submitting, abandoning and closing."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from ..contracts.arguments import check_worker, is_real
from ..contracts.closing import Closing
from ..contracts.engine import Kept
from ..errors import EngineError, InvalidArgument
from .calls import Answer, Calls, packed_setup
from .transport.parcel import Parcel

Q = TypeVar("Q", bound=Calls[Any])


class QueueEngine(Closing, Generic[Q]):
    """The base class of engines in which each worker has a queue of calls in the caller.

    Subclasses implement how a worker is ended (`_end_later`) and how the engine is closed (``close``).

    Parameters
    ----------
    grace : float or None
        Seconds for which an abandoned call may still run before its worker is ended; None: no limit.
    """

    def __init__(self, grace: float | None) -> None:
        if grace is not None and (not is_real(grace) or not grace >= 0):
            raise InvalidArgument(f"grace={grace!r} must be at least 0 seconds")
        self._grace = grace
        self._queues: dict[int, Q] = {}
        self._setups: list[Parcel] = []
        self._owner = os.getpid()
        atexit.register(self._at_exit)

    @property
    def workers(self) -> int:
        """How many workers there are now."""
        return len(self._queues)

    def setup(self, fn: Callable[[], object]) -> None:
        """Have each worker call ``fn()`` once, before its next call; workers that start later, before their first.

        For what a worker process needs once, such as a licence or a model. If ``fn`` raises there, the calls of that
        worker fail with `EngineError`, whose cause is what it raised. The time that it takes counts for no call.

        Raises
        ------
        CannotSend
            If ``fn`` cannot be pickled.
        EngineError
            If the engine was closed, or made by a process from which this one was forked.
        """
        self._check_ours()
        self._check_open()
        for queue in self._queues.values():
            queue.refuse_if_closed()
        if not callable(fn):
            raise InvalidArgument(f"setup({fn!r}): give a function without arguments")
        self._setups.append(packed_setup(fn))

    def submit(self, worker: int, fn: Any, payload: Any) -> Future[Any]:
        """Compute ``fn(payload)`` on a worker; see `Engine.submit`.

        Raises
        ------
        CannotSend
            If ``fn`` or the payload cannot be pickled.
        EngineError
            If the engine was closed, or made by a process from which this one was forked.
        """
        self._check_ours()
        self._check_open()
        return self._queue_of(worker).submit(fn, payload)

    def keep(self, worker: int, value: Any) -> Kept:
        """Leave a value on a worker; it is unpickled there once, at its first use."""
        self._check_ours()
        self._check_open()
        return self._queue_of(worker).keep(value)

    def abandon(self, futures: Iterable[Future[Any]]) -> None:
        """Forget calls that have not begun; end those that still run after ``grace``."""
        for future in futures:
            if isinstance(future, Answer):
                queue = future.queue
                here = self._queues.get(queue.number) is queue
                if here and queue.drop(future) and self._grace is not None:
                    self._end_later(self._grace, queue, future)

    def _queue_of(self, worker: int) -> Q:
        check_worker(worker, len(self._queues))
        return self._queues[worker]

    def _check_open(self) -> None:
        """Raise `EngineError` if calls cannot be taken any more; by default always open."""

    def _end_later(self, grace: float, queue: Q, future: Future[Any]) -> None:
        """End the worker of this queue if it is still busy with this call after a time."""
        raise NotImplementedError

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
