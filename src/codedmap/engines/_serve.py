"""A worker process: how it is started, called and ended, and what runs inside it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from concurrent.futures import Future
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

import cloudpickle
import threadpoolctl
from pebble import ProcessPool

from .._errors import CannotSend, KeptLost, WorkerCrashed
from ._parcel import Parcel, Received, discard_all, pack, receive

if sys.platform == "win32":
    from multiprocessing.context import SpawnContext as _Context
else:
    # Never fork: a child forked from threads, or under ONNX Runtime, deadlocks.
    from multiprocessing.context import ForkServerContext as _Context

__all__ = ["Failure", "KeptKey", "Request", "Worker", "WorkerTraceback"]

# The one place of state in a worker process: what `Engine.keep` left here, by key.
_kept: dict[int, Any] = {}


@dataclass(frozen=True, slots=True)
class KeptKey:
    """Stands in a request for a value that this worker keeps."""

    key: int


@dataclass(frozen=True, slots=True)
class Request:
    """A call, or with ``keep`` a value to leave here."""

    content: Parcel
    answer: str
    """Name for the answer's shared segment."""
    keep: int | None = None
    forget: tuple[int, ...] = ()


class WorkerTraceback(Exception):
    """The traceback of an exception raised in a worker, as text: the cause of that exception."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


@dataclass(frozen=True, slots=True)
class Failure:
    """An exception on its way back."""

    error: bytes | None
    description: str
    traceback: str

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Pickle the exception, or if it cannot make the journey and back, describe it."""
        try:
            pickled = cloudpickle.dumps(error)
            pickle.loads(pickled)
        except Exception:
            pickled = None
        description = "".join(traceback.format_exception_only(error)).strip()
        return cls(pickled, description, "".join(traceback.format_exception(error)))

    def revived(self) -> BaseException:
        """The exception, or one that describes it where it cannot be had."""
        error: BaseException = RuntimeError(self.description)
        if self.error is not None:
            with contextlib.suppress(Exception):  # what it needs may exist in the worker only
                error = pickle.loads(self.error)
        error.__cause__ = WorkerTraceback(self.traceback)
        return error


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
            context.set_forkserver_preload([__name__])
        self._pool = ProcessPool(
            max_workers=1, initializer=_start, initargs=(run,), context=context
        )
        self._pending: Future[Any] = Future()
        self._doomed: Future[Any] | None = None
        try:
            self._pending = self._pool.schedule(_hello)
        except (RuntimeError, OSError) as error:  # no process, thread or pipe could be had
            self._pending.set_exception(error)
        self.started: Future[None] = self._pending
        process = context.process
        self._process = process if process is not None and process.pid is not None else None
        self._handle = _handle(self._process.pid) if self._process is not None else None
        if self.started.done() and self.started.exception() is not None:
            self.stop()  # half a pool would take calls and not answer them

    @property
    def ended(self) -> bool:
        """Whether the process is gone, which its pool learns only some time later."""
        if self._process is None:
            return True
        return bool(wait([self._process.sentinel if self._handle is None else self._handle], 0))

    def call(self, request: Request) -> Future[Any]:
        """Send a request for a `Parcel` or a `Failure`; RuntimeError if the pool is broken."""
        self._pending = self._pool.schedule(_serve, args=(request,))
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
        """Begin to end the process, and what its function has started; `join` waits for that."""
        self._pool.stop()
        if self._process is None or self.ended:  # its number may be another's by now
            return
        # By the signal that no function can hold up, neither in Python nor deep in C.
        with contextlib.suppress(OSError):  # it has gone in the meantime
            if self._handle is None:
                self._process.kill()
            else:
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)
        if hasattr(os, "killpg"):
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid or 0, signal.SIGKILL)

    def join(self) -> None:
        """Wait until the process and the threads of its pool have ended; give back its files."""
        self._pool.join()
        process, self._process = self._process, None
        if process is not None:
            process.close()
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def crashed(self, number: int) -> WorkerCrashed:
        """What the call fails with that this process did not survive."""
        process = self._process
        pid, code = (process.pid, process.exitcode) if process is not None else (None, None)
        return WorkerCrashed(
            f"worker {number} (process {pid}) died during the call, {_how(code)}: "
            "its answer is lost, a new worker takes its place"
        )


def _handle(pid: int | None) -> int | None:
    # Where there is one, it stays good when the process, or multiprocessing's fork server, is gone.
    if pid is not None and hasattr(os, "pidfd_open"):
        with contextlib.suppress(OSError):
            return os.pidfd_open(pid)
    return None


def _how(code: int | None) -> str:
    if code is None:
        return "when its connection broke"
    if code >= 0:
        return f"with exit code {code}"
    try:
        return f"by signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"by signal {-code}"


# What follows runs inside the process.


def _start(run: str) -> None:
    """Prepare a new worker: called once, before its first request."""
    # A group of its own, so that what a function starts can be ended with it.
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    # N workers with a thread per core each would fight for the cores.
    threads = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    threads = threads if threads.isdecimal() and int(threads) > 0 else "1"
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, threads)
    threadpoolctl.threadpool_limits(int(threads))
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_outlive, args=(parent.sentinel, run), daemon=True).start()


def _hello() -> None:
    """Answer, to show that this worker has started."""


def _serve(request: Request) -> Parcel | Failure:
    """Compute one call and pack its answer, or whatever it raised."""
    for key in request.forget:
        _kept.pop(key, None)
    try:
        if request.keep is not None:
            _kept[request.keep] = _Unopened(receive(request.content))
            return pack(None, request.answer)
        fn, payload = receive(request.content).unpack()
        answer = _resolved(fn)(_resolved(payload))
        try:
            return pack(answer, request.answer)
        except CannotSend as error:
            raise CannotSend(f"the answer, a {type(answer).__name__}, {error}") from error
    except BaseException as error:  # also SystemExit: fn must not end the worker
        return Failure.of(error)


@dataclass(frozen=True, slots=True)
class _Unopened:
    """A kept value before its first use, so that what opening it raises reaches a caller."""

    content: Received


def _resolved(value: Any) -> Any:
    if not isinstance(value, KeptKey):
        return value
    try:
        kept = _kept[value.key]
    except KeyError:
        raise KeptLost(
            "the value kept on this worker died with an earlier process: keep it again"
        ) from None
    if isinstance(kept, _Unopened):
        kept = _kept[value.key] = kept.content.unpack()
    return kept


def _outlive(sentinel: int, run: str) -> None:
    # The caller may be killed without a chance to end its workers: then they end themselves,
    # with what their functions have started, and leave no segment behind.
    wait([sentinel])
    discard_all(run)
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
