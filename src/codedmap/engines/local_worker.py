"""A worker process of `Local`: how it is started, called and ended."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from concurrent.futures import Future
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

from pebble import ProcessPool

from ..errors import WorkerCrashed
from .transport.descendants import end_descendants
from .transport.serve import Request, hello, serve, start, worker_name

if sys.platform == "win32":
    from multiprocessing.context import SpawnContext as _Context
else:
    from multiprocessing import resource_tracker

    # Never fork: a child forked from threads, or under ONNX Runtime, deadlocks.
    from multiprocessing.context import ForkServerContext as _Context

__all__ = ["Worker", "start_server"]


def start_server() -> None:
    """Start what worker processes are forked from, so that neither Ctrl-C nor the end of its terminal reach it.

    Only for programs, not libraries: all processes that the fork server starts afterwards ignore Ctrl-C,
    as workers do.
    """
    if sys.platform != "win32":
        context = _Context()
        context.set_forkserver_preload([serve.__module__])
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # which is inherited
        try:
            # It begins with blocking Ctrl-C, and would end by letting it through.
            resource_tracker.ensure_running()
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            # The first process starts when the server has imported all it needs. If the program ended
            # sooner, a half-started process would print an error.
            with contextlib.suppress(OSError, EOFError):  # the first worker will raise it again
                context.Process(target=hello, daemon=True).start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _OneProcess(_Context):
    """Starts the one process of a pool, and no second.

    The pool would replace a process that ended, and where the exit code was 0 it would forget the
    call. Unable to, it breaks and says so, and what this process kept is known to be gone.
    """

    process: BaseProcess | None = None

    def Process(self, *args: Any, **kwargs: Any) -> BaseProcess:  # type: ignore[override]
        if self.process is not None:
            raise OSError("the only process of this pool has ended")
        self.process = super().Process(*args, **kwargs)
        return self.process


class Worker:
    """A process, and the pool through which it is called one call at a time."""

    def __init__(self, run: str) -> None:
        context = _OneProcess()
        if sys.platform != "win32":
            context.set_forkserver_preload([serve.__module__])
        self._pool = ProcessPool(max_workers=1, initializer=start, initargs=(run,), context=context)
        self._pending: Future[Any] = Future()
        self._doomed: Future[Any] | None = None
        try:
            self._pending = self._pool.schedule(hello)
        except (RuntimeError, OSError) as error:  # no process, thread or pipe could be created
            self._pending.set_exception(error)
        self.started: Future[None] = self._pending
        process = context.process
        self._process = process if process is not None and process.pid is not None else None
        self._handle = _handle(self._process.pid) if self._process is not None else None
        self._name = worker_name(run, (self._process.pid or 0) if self._process is not None else 0)
        if self.started.done() and self.started.exception() is not None:
            self.stop()  # half a pool would accept calls and never answer them

    @property
    def pid(self) -> int | None:
        """Of the process, or None if it has ended."""
        return self._process.pid if self._process is not None and not self.ended else None

    @property
    def ended(self) -> bool:
        """Whether the process has ended, which its pool notices only some time later."""
        if self._process is None:
            return True
        return bool(wait([self._process.sentinel if self._handle is None else self._handle], 0))

    def call(self, request: Request) -> Future[Any]:
        """Send a request for a `Parcel` or a `Failure`; RuntimeError if the pool is broken."""
        self._pending = self._pool.schedule(serve, args=(request,))
        return self._pending

    def overdue(self) -> Future[Any] | None:
        """A call that was pending at the last two looks, the process being gone.

        Its pool will not complete it: one that breaks while a call is on its way to it does not.
        """
        doomed, self._doomed = self._doomed, None
        if self._pending.done() or not self.ended:
            return None
        self._doomed = self._pending
        return self._pending if doomed is self._pending else None

    def stop(self) -> None:
        """Begin to end the process and its group; `join` waits for that."""
        self._pool.stop()
        if self._process is None or self.ended:  # its number may be another's by now
            return
        # SIGKILL, because no function can block or delay it.
        with contextlib.suppress(OSError):  # it has ended in the meantime
            if self._handle is None:
                self._process.kill()
            else:
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)
        if hasattr(os, "killpg"):
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid or 0, signal.SIGKILL)

    def end_descendants(self) -> None:
        """Kill what its function has started; to be called before `stop`, and once more after `join`."""
        end_descendants(self._name, [] if self.pid is None else [self.pid])

    def join(self) -> None:
        """Wait until the process and the threads of its pool have ended; give back its files."""
        self._pool.join()
        process, self._process = self._process, None
        if process is not None:
            process.close()
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def crash_error(self, number: int) -> WorkerCrashed:
        """The error of the call during which this process died."""
        process = self._process
        pid, code = (process.pid, process.exitcode) if process is not None else (None, None)
        return WorkerCrashed(
            f"worker {number} (process {pid}) died during the call, {_exit_description(code)}: "
            "its answer is lost, a new worker takes its place"
        )


def _handle(pid: int | None) -> int | None:
    # A pidfd stays valid after the process, or multiprocessing's fork server, has ended.
    if pid is not None and hasattr(os, "pidfd_open"):
        with contextlib.suppress(OSError):
            return os.pidfd_open(pid)
    return None


def _exit_description(code: int | None) -> str:
    if code is None:
        return "when its connection broke"
    if code >= 0:
        return f"with exit code {code}"
    try:
        return f"by signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"by signal {-code}"
