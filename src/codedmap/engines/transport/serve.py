"""The code that runs in a worker: it serves calls one at a time, and keeps values for later ones."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import pickle
import signal
import socket
import sys
import threading
import uuid
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from typing import Any

import threadpoolctl

from ...errors import CannotSend, EngineError, KeptLost
from . import descendants
from .descendants import MARK, discard_all, end_descendants
from .failure import Failure
from .parcel import Parcel, Received, pack, receive

if sys.platform == "linux":
    from multiprocessing import forkserver

_IMPORT = (
    "install what this imports where the workers run, in the same version, make a new engine if sys.path was changed "
    "since this one was made, or have it travel by value: define it in the main script, or call "
    "cloudpickle.register_pickle_by_value(module)"
)
_PR_SET_PDEATHSIG = 1  # an option of Linux's prctl: a signal to this process when its parent ends
REPLY = b"codedmap"
"""How a reply begins, which tells it from what a function writes to a wrong file."""
HEADER = len(REPLY) + 8
"""Bytes before a reply: this, and its length."""

# All state of a worker process.
_kept: dict[Hashable, list[Any]] = {}  # values of `Engine.keep`, by key, each in a list of its own
_set_up: dict[Hashable, Failure | None] = {}  # for each engine why its setup failed, if it did


@dataclass(slots=True)  # not frozen: a frozen one takes twice as long to pickle
class KeptKey:
    """The placeholder in a request for a value that this worker keeps."""

    key: Any


@dataclass(slots=True)
class Request:
    """A call; with ``keep`` a value to keep; with ``setup`` a function to call once."""

    content: Parcel
    answer: str | None
    """The name of the answer's shared segment; None for no segment."""
    keep: Hashable = None
    """The key of the value."""
    setup: str | None = None
    """The engine for whose calls the function sets up the worker."""
    after: str | None = None
    """The engine whose setup must have succeeded."""
    forget: tuple[Hashable, ...] = ()
    """Keys of values that are not needed any more."""


class Terminated(SystemExit):
    """Raised in a worker that is terminated: not a failure of the function that it interrupts."""


def work(pipe: socket.socket, run: str, environment: Mapping[str, str]) -> None:
    """Serve the calls that arrive through a pipe, until the caller ends."""
    _continue_with_server()
    os.environ.clear()
    os.environ.update(environment)
    watching = _prepare(run)
    # It would not block if the caller had a default timeout for sockets, or sockets of gevent.
    pipe = socket.socket(fileno=pipe.detach())
    pipe.setblocking(True)
    pipe.set_inheritable(False)
    ended = EOFError, ConnectionError, pickle.UnpicklingError  # the last in the middle of a request
    with pipe.makefile("rb") as requests, contextlib.suppress(*ended):
        while True:
            _answer(pickle.load(requests), pipe)
    watching.join()


def _continue_with_server() -> None:
    """Have a stopped process continue when the fork server ends, as it does with the caller."""
    if sys.platform == "linux":
        # This descriptor, which each process of the server has, would keep the server alive.
        server: Any = forkserver._forkserver
        os.close(server._forkserver_alive_fd)
        server._forkserver_alive_fd = None
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGCONT)


def _prepare(run: str) -> threading.Thread:
    """Prepare a new worker; returns the thread that ends it with the caller."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's
    # A process group and a mark, by which the processes that a function starts can be ended with the worker. In the session
    # of a terminal, those that read from it or set it would be stopped, because the group is not in its foreground.
    os.setsid()
    if sys.stdin is not None:  # as multiprocessing has replaced it
        os.dup2(sys.stdin.fileno(), 0)
    os.environ[MARK] = worker_name(run, os.getpid())
    # SIGHUP of a terminal does not reach this group. Processes that a function starts must have neither blocked.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGHUP})
    # N workers with a thread per core each would compete for the cores.
    threads = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    threads = threads if threads.isdecimal() and int(threads) > 0 else "1"
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, threads)
    threadpoolctl.threadpool_limits(int(threads))
    caller = multiprocessing.parent_process()
    assert caller is not None
    ends = [caller.sentinel]  # a process that the caller has forked keeps this open
    if hasattr(os, "pidfd_open") and caller.pid is not None:
        with contextlib.suppress(OSError):
            ends.append(os.pidfd_open(caller.pid))
    watching = threading.Thread(target=_end_with, args=(ends, run), daemon=True)
    watching.start()
    return watching


def worker_name(run: str, pid: int) -> str:
    """The name by which the descendants of a worker are found."""
    return f"{run}:{pid}:"


def environment_of_its_own() -> tuple[str, dict[str, str]]:
    """A name for `end_descendants`, and an environment that gives this name to processes.

    In a worker the name begins with that of the worker, so that these processes end with it.
    """
    name = f"{os.environ.get(MARK, '')}{uuid.uuid4().hex}:"
    return name, {**os.environ, MARK: name}


def _answer(request: Request, pipe: socket.socket) -> None:
    try:
        reply = pickle.dumps(serve(request), protocol=5)
    except MemoryError as error:
        reply = pickle.dumps(Failure.of(error))
    pipe.sendall(REPLY + len(reply).to_bytes(HEADER - len(REPLY)) + reply)


def serve(request: Request) -> Parcel | Failure:
    """Compute one call and pack its answer, or the exception it raised."""
    for key in request.forget:
        _kept.pop(key, None)
    try:
        if request.setup is not None:
            _set_up_for(request.setup, request.content)
            return pack(None, request.answer)
        if request.after is not None:
            failed = _set_up[request.after]
            if failed is not None:
                return failed
        if request.keep is not None:
            _kept[request.keep] = [receive(request.content)]
            _resolve(KeptKey(request.keep))  # now, so that its imports count for no call
            return pack(None, request.answer)
        fn, payload = _open(receive(request.content))
        with OnlyHere():
            answer = _resolve(fn)(_resolve(payload))
        try:
            return pack(answer, request.answer)
        except CannotSend as error:
            why = error.__cause__
            raise CannotSend(
                f"the answer cannot be sent to another process: {type(why).__name__}: {why}. "
                "Return what can be pickled, such as a list in place of a generator"
            ) from why
    except Terminated:
        raise
    except BaseException as error:  # also SystemExit: fn must not end the worker
        return Failure.of(error)


class OnlyHere:
    """Ends a process that was forked in the ``with`` block when it leaves the block, so that it does not answer."""

    def __enter__(self) -> None:
        self._here = os.getpid()

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if os.getpid() != self._here:
            failed = error is not None and (not isinstance(error, SystemExit) or error.code)
            os._exit(bool(failed))


def _set_up_for(run: str, content: Parcel) -> None:
    """Call a function that sets this worker up, unless an earlier such function has failed."""
    if _set_up.setdefault(run, None) is not None:
        return
    name = "the function given to setup"
    try:
        fn = _open(receive(content))
        name = getattr(fn, "__qualname__", None) or type(fn).__qualname__
        with OnlyHere():
            fn()
    except Terminated:
        raise
    except BaseException as error:
        _set_up[run] = replace(Failure.of(error), setup=name, host=socket.gethostname())


def release(key: Hashable) -> None:
    """Drop the value that is kept in this process by a key."""
    _kept.pop(key, None)


def forget(run: str) -> None:
    """Drop all values that a cluster's engine has kept in this process."""
    _set_up.pop(run, None)
    for key in tuple(_kept):
        if isinstance(key, tuple) and key[0] == run:
            _kept.pop(key, None)


def versions() -> dict[str, str]:
    """The versions that must be the same on both sides for functions to travel."""
    return {
        "Python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "codedmap": sys.modules[__package__.partition(".")[0]].__version__,
    }


def _resolve(value: Any) -> Any:
    if not isinstance(value, KeptKey):
        return value
    try:
        kept = _kept[value.key]
    except KeyError:
        raise KeptLost(
            "the value kept on this worker died with an earlier process: keep it again"
        ) from None
    if isinstance(kept[0], Received):  # also after a failure, so that each call gets the error
        # In its list: meanwhile it may be released, by another thread in a worker of Dask.
        kept[0] = open_function(kept[0], f"worker {value.key[1]}")
    return kept[0]


def open_function(content: Received, where: str) -> Any:
    """Unpickle a function, or another value for many calls; raises `EngineError`, as every call would fail."""
    try:
        return content.unpack()
    except EngineError:  # such as for a module that starts workers
        raise
    except Exception as error:
        raise EngineError(
            f"{where}, on {socket.gethostname()}, cannot open fn, or what else is kept there ({type(error).__name__}: {error}): {_IMPORT}"
        ) from error


def _open(content: Received) -> Any:
    try:
        return content.unpack()
    except (ImportError, AttributeError) as error:  # pickled by a name that is not known here
        raise CannotSend(
            f"a worker cannot open what it was sent ({type(error).__name__}: {error}): {_IMPORT}"
        ) from error


def _end_with(caller: list[int], run: str) -> None:
    """End this worker, its descendants and its segments once the caller has ended, perhaps killed."""
    wait(caller)
    name = worker_name(run, os.getpid())
    end_descendants(name, pids=[os.getpid()])
    # The program that replaces this one starts and writes nothing: it finds what the function has just started.
    with contextlib.suppress(OSError):
        os.execv(sys.executable, [sys.executable, "-I", "-S", descendants.__file__, name])
    discard_all(run)
    os._exit(1)
