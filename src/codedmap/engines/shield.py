"""Protection of shared state against KeyboardInterrupt.

Python raises KeyboardInterrupt in the main thread, after almost any bytecode: also when `threading.Condition` has
acquired its lock and the ``with`` block has not begun, or when it has released a waiter and not yet removed it. Another
thread that uses this condition, or a queue, event, future or thread built on it, may then wait for ever. Locks and
`SimpleQueue` are written in C, so each of their operations is done completely or not at all.
"""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from operator import attrgetter
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, TypeVar

__all__ = ["Answer", "Shield", "get_interruptibly"]

_TICK = 1.0  # some systems deliver Ctrl-C only between waits

T = TypeVar("T")


class Shield:
    """A thread that runs jobs of the main thread which must not be interrupted.

    Parameters
    ----------
    look : callable
        Called in this thread from time to time.
    every : float
        Seconds between two of these calls.
    """

    def __init__(self, look: Callable[[], None], every: float) -> None:
        self._look = look
        self._every = every
        self._jobs: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._lock = threading.RLock()
        self._living = threading.Lock()
        self._taking = False
        self._ending = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        begun: SimpleQueue[BaseException | None] = SimpleQueue()
        self._jobs.put(lambda: begun.put(None))

        def start() -> None:
            try:
                self._thread.start()
            except RuntimeError as error:
                begun.put(error)

        # Thread.start waits for a condition, so it is not called in the main thread either.
        _thread.start_new_thread(start, ())
        error = get_interruptibly(begun)
        if error is not None:
            raise error

    def do(self, job: Callable[[], T]) -> T:
        """Run a job, and return or raise what it does.

        If the main thread is interrupted while it waits, the job is completed nevertheless. Other threads run the job
        themselves, because they are never interrupted.
        """
        outcome: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()

        def run() -> None:
            try:
                result = job(), None
            except BaseException as error:
                outcome.put((None, error))
            else:
                outcome.put(result)

        if not self.soon(run):
            return job()
        value, error = get_interruptibly(outcome)
        if error is None:
            return value  # type: ignore[return-value]
        try:
            raise error
        finally:
            del error  # a reference cycle with this frame

    def soon(self, job: Callable[[], object]) -> bool:
        """Run a job without waiting for it; False, and nothing done, outside of the main thread or after the end."""
        if threading.current_thread() is not threading.main_thread():
            return False
        with self._lock:
            if self._taking:
                self._jobs.put(job)
            return self._taking

    def end(self) -> None:
        """End the thread when all its jobs are done."""
        self._ending = True
        self._jobs.put(lambda: None)

    def join(self) -> None:
        """Wait for its end."""
        if threading.current_thread() is not self._thread:
            with self._living:
                pass
            if self._thread.is_alive():
                self._thread.join()

    def _run(self) -> None:
        with self._living:
            try:
                self._taking = True
                due = monotonic() + self._every
                while not self._ending:
                    with suppress(Empty):
                        self._jobs.get(timeout=max(0.0, due - monotonic()))()
                    if monotonic() >= due:
                        self._look()
                        due = monotonic() + self._every
            finally:
                with self._lock:
                    self._taking = False
                while not self._jobs.empty():
                    self._jobs.get()()


class _Condition(threading.Condition):
    # Entered and left by the methods of its lock, which are written in C; those of Condition are not.
    __enter__ = property(attrgetter("_lock.__enter__"))
    __exit__ = property(attrgetter("_lock.__exit__"))


class Answer(Future[Any]):
    """A future whose lock is released even if the main thread is interrupted while it holds it.

    Parameters
    ----------
    slot : Calls
        The queue of its call.
    """

    def __init__(self, slot: Any) -> None:
        super().__init__()
        self._condition = _Condition()
        self.slot = slot


def get_interruptibly(queue: SimpleQueue[T]) -> T:
    """The next item of a queue; Ctrl-C is delivered while it waits."""
    while True:
        with suppress(Empty):
            return queue.get(timeout=_TICK)
