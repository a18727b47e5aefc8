"""The thread that owns the state of a `Local` engine. Ctrl-C cannot interrupt it.

Python raises KeyboardInterrupt in the main thread, after almost any bytecode: also when `threading.Condition` has
acquired its lock and the ``with`` block has not begun, or when it has released a waiter and not yet removed it. Another
thread that uses this condition, or a queue, event, future or thread built on it, may then wait for ever. Locks,
`SimpleQueue` and sockets are written in C, so each of their operations is done completely or not at all.
"""

from __future__ import annotations

import _thread
import socket
import sys
import threading
from collections.abc import Callable, Hashable
from contextlib import suppress
from queue import Empty, SimpleQueue
from selectors import EVENT_READ, EVENT_WRITE, DefaultSelector
from time import monotonic
from typing import Any

_TICK = 1.0  # most seconds until a job is run whose wake-up Ctrl-C has prevented


class Loop:
    """A thread that runs jobs, and calls back when files are ready and when times have passed.

    Only `start`, `do` and `join` are for other threads. ``failed`` is called with the error if it can watch no file any
    more; then the thread ends.
    """

    def __init__(self, failed: Callable[[OSError], object] = lambda error: None) -> None:
        self._failed = failed
        self._jobs: SimpleQueue[tuple[Callable[..., object], tuple[Any, ...]]] = SimpleQueue()
        self._begun: SimpleQueue[BaseException | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._living = threading.Lock()
        self._launched = self._ending = self._ended = False
        self._woken = False  # whether it is about to look for jobs
        self._timers: dict[Hashable, tuple[float, Callable[[], object]]] = {}

    def start(self) -> None:
        """Start the thread; raises `OSError` or `RuntimeError` if there are too many open files or threads."""

        def start() -> None:
            try:
                self._thread.start()
            except RuntimeError as error:
                self._finish(error)

        # Thread.start waits for a condition, so it is not called in the main thread.
        self._living.acquire()
        self._launched = bool(_thread.start_new_thread(start, ()))
        error = self._begun.get()
        if error is not None:
            raise error

    def do(self, job: Callable[..., object], *arguments: Any) -> None:
        """Run a job in the thread soon; in the caller's if the thread has ended."""
        self._jobs.put((job, arguments))
        if self._ended:
            self._do_all()
        elif not self._woken:
            self._woken = True
            with suppress(OSError, AttributeError):  # full, closed, or not there yet
                self._waker.send(b"\0")

    def join(self) -> None:
        """Wait for the end of the thread; returns at once in the thread itself."""
        if self._launched and threading.current_thread() is not self._thread:
            with self._living:
                pass
            if self._thread.is_alive():
                self._thread.join()

    def end(self) -> None:
        self._ending = True

    def watch(self, file: Any, ready: Callable[[], object]) -> None:
        """Call ``ready`` whenever the file has something to read."""
        self._selector.register(file, EVENT_READ, ready)

    def watch_writing(self, file: Any, writing: bool) -> None:
        """Set whether ``ready`` of a watched file is also called when it can be written to."""
        key = self._selector.get_key(file)
        events = EVENT_READ | EVENT_WRITE if writing else EVENT_READ
        if key.events != events:
            self._selector.modify(file, events, key.data)

    def forget(self, file: Any) -> None:
        """Stop watching a file; to be called before the file is closed."""
        self._selector.unregister(file)

    def later(self, key: Hashable, seconds: float, job: Callable[[], object]) -> None:
        """Run a job after a time, unless it is cancelled; does nothing if there is a job of this key."""
        self._timers.setdefault(key, (monotonic() + seconds, job))

    def cancel(self, key: Hashable) -> None:
        """Do not run the job of this key."""
        self._timers.pop(key, None)

    def _run(self) -> None:
        try:
            self._selector = DefaultSelector()
            wakes, self._waker = socket.socketpair()
        except OSError as error:
            self._finish(error)
            return
        try:
            with self._selector, wakes, self._waker:
                wakes.setblocking(False)
                self._waker.setblocking(False)
                self.watch(wakes, lambda: wakes.recv(4096))
                self._begun.put(None)
                self._do_all()
                while not self._ending:
                    self._step()
        except OSError as error:
            _call(self._failed, error)
        self._finish(None)

    def _finish(self, error: BaseException | None) -> None:
        self._ended = True
        self._do_all()
        self._living.release()
        self._begun.put(error)

    def _step(self) -> None:
        wait = _TICK
        if self._timers:
            now = monotonic()
            for key, (due, job) in tuple(self._timers.items()):
                wait = min(wait, due - now)
                if due <= now:
                    self.cancel(key)
                    _call(job)
        for ready, _ in self._selector.select(max(0.0, wait)):
            # A file may have been forgotten in the meantime, and its number be that of another.
            if self._selector.get_map().get(ready.fd) is ready:
                _call(ready.data)
        self._woken = False
        self._do_all()

    def _do_all(self) -> None:
        with suppress(Empty):
            while True:
                job, arguments = self._jobs.get_nowait()
                _call(job, *arguments)


def _call(job: Callable[..., object], *arguments: Any) -> None:
    """Run a job; an exception is printed, and does not end the thread."""
    try:
        job(*arguments)
    except BaseException:
        hook = threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread()))
        threading.excepthook(hook)
