"""Any ``concurrent.futures.Executor`` as an engine, and calls in the caller's own thread."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import (
    BrokenExecutor,
    Executor,
    Future,
    InvalidStateError,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from contextlib import suppress
from functools import partial
from typing import Any

from ..contracts.arguments import check_whole
from ..contracts.engine import CallFuture, Kept
from ..errors import EngineError, InvalidArgument
from .transport.failure import Failure, WorkerTraceback, frames_of_fn
from .transport.parcel import Parcel, pack_copy, receive
from .transport.serve import Terminated, open_function


class FromExecutor:
    """An executor wrapped as an engine. `codedmap.map` wraps an executor by itself.

    It differs from other engines:

    * Calls are not pinned to workers: a value "kept" is sent along with each call.
    * A straggler goes on and holds its worker. So does a call that hangs, also before a deadline. Calls that have not
      begun are cancelled on the standard library's pools only, since other executors cancel in name only or lose the
      worker.
    * Executors wait for stragglers when the program ends. To end their processes is up to the caller, also when a
      deadline has passed.
    * One crash in a ``ProcessPoolExecutor``, loky's too, breaks the pool and costs every answer that is still pending.
      A thread that ends its process ends the caller's. A crash in mpi4py ends all processes of MPI, the caller's too. What
      crashes in Parsl and executorlib fails with an exception of theirs, and is not sent again.
    * executorlib drops the traceback of an exception.
    * If Ctrl-C comes while one of the standard pools is given a call, Python may leave a lock of the
      pool held: then the pool hangs when it is closed or used again. It is rare, and `Local` has no
      such lock.

    Parameters
    ----------
    executor : Executor
        The caller closes it.
    workers : int
        How many calls it runs at the same time.

    Raises
    ------
    InvalidArgument
        If this is no executor.
    """

    def __init__(self, executor: Executor, workers: int) -> None:
        if (
            isinstance(executor, type)
            or hasattr(executor, "keep")
            or not hasattr(executor, "submit")
        ):
            raise InvalidArgument(
                f"executor={executor!r:.80} is not an executor: give one such as ProcessPoolExecutor({workers}), and "
                "engines to map itself"
            )
        self._executor = executor
        self.workers = check_whole("workers", workers, 1)
        """How many calls run at the same time, as stated."""

    @property
    def in_process(self) -> bool:
        """Whether calls may run in the caller's process."""
        return not isinstance(self._executor, ProcessPoolExecutor)

    @property
    def runs_here(self) -> bool:
        """Whether this is a thread of the executor: if all of them waited for calls, none would be free to run these."""
        if not isinstance(self._executor, ThreadPoolExecutor):
            return False
        # The lock is held until a thread that has been started is in the set.
        with self._executor._shutdown_lock:
            return threading.current_thread() in self._executor._threads

    def submit(self, worker: int, fn: Any, payload: Any) -> Future[Any]:
        """Compute ``fn(payload)`` in the executor; at once, if this is one of its threads.

        Raises
        ------
        EngineError
            If the executor has been shut down, or cannot start what would run the call.
        CannotSend
            If the executor is a ``ProcessPoolExecutor`` and ``fn`` cannot be pickled.
        """
        fn, payload = (v.key if isinstance(v, Kept) else v for v in (fn, payload))
        sent = _Sent(fn)
        if self.runs_here:
            return Inline().submit(sent, payload)
        pickles = isinstance(self._executor, ProcessPoolExecutor)
        # Now; else such an executor would pickle it later, in a thread of its own.
        call = sent.packed() if pickles else sent
        try:
            # The same function every time: Parsl keeps all that it is given.
            future = self._executor.submit(_run, call, payload)
        except BrokenExecutor as error:  # such as by an earlier call of the same job
            broken: Future[Any] = Future()
            broken.set_exception(error)
            return broken
        except (RuntimeError, OSError) as error:
            raise EngineError(
                f"the executor takes no more calls ({error}): create a new one, and leave it open until the "
                "call returns"
            ) from error
        if not isinstance(future, Future):
            raise EngineError(
                f"the executor's submit returned an object of type {type(future).__name__}, and no concurrent.futures.Future: "
                "wrap the executor in an object whose submit returns one"
            )
        threads = isinstance(self._executor, ThreadPoolExecutor)
        return _Copy(future, sent.begun if threads else None, cancels=threads or pickles)

    def keep(self, worker: int, value: Any) -> Kept:
        """A reference to a value, which is sent along with each call."""
        return Kept(worker, value)

    def abandon(self, futures: Iterable[Future[Any]]) -> None:
        """Cancel calls that have not begun, on the standard library's pools."""
        if isinstance(self._executor, (ThreadPoolExecutor, ProcessPoolExecutor)):
            for future in futures:
                future.cancel()


class Inline(Executor):
    """An executor that computes each call when it is submitted.

    `codedmap.map` without ``engine`` uses it inside a worker. Nothing is isolated: a call that ends its process
    ends the caller.
    """

    _max_workers = 1

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Compute the call now."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except (KeyboardInterrupt, Terminated):  # no exceptions of fn
            raise
        except BaseException as error:
            future.set_exception(error)
        return future


class _Copy(CallFuture):
    """The future of a call; of the executor's own, whose attributes may be anything, only the end is used."""

    def __init__(self, future: Future[Any], begun: list[float] | None, *, cancels: bool) -> None:
        super().__init__()
        self.begun = begun
        self._theirs = future if cancels else None
        future.add_done_callback(self._ended)

    def cancel(self) -> bool:
        """As in `Future`; cancels the call in the executor, if that can be done."""
        theirs = self._theirs
        return super().cancel() if theirs is None else theirs.cancel()

    def running(self) -> bool:
        """As in `Future`."""
        theirs = self._theirs
        return super().running() if theirs is None else theirs.running()

    def _ended(self, future: Future[Any]) -> None:
        self._theirs = None  # it refers to this
        if future.cancelled():
            super().cancel()
            self.set_running_or_notify_cancel()
            return
        error = future.exception()
        with suppress(InvalidStateError):  # this was cancelled before
            if error is None:
                self.set_result(future.result())
            else:
                self.set_exception(error)


def _run(call: Callable[[Any], Any], payload: Any) -> Any:
    return call(payload)


class _Sent:
    """A function that an executor is given: it is packed by this package if the executor pickles it."""

    def __init__(self, fn: Callable[[Any], Any]) -> None:
        self._fn = fn
        self.begun: list[float] = []  # as in `Engine.submit`

    def __call__(self, payload: Any) -> Any:
        self.begun.append(time.monotonic())
        return self._fn(payload)

    def __reduce__(self) -> Any:
        return self.packed().__reduce__()

    def packed(self) -> Callable[[Any], Any]:
        """What it is in another process; raises `CannotSend` if the function cannot be pickled."""
        return partial(_call, pack_copy(self._fn))


def _call(packed: Parcel, payload: Any) -> Any:
    """Call a function that this process was sent."""
    try:
        # Opened here and not when it arrives: what cannot be unpickled then breaks a ProcessPoolExecutor.
        return open_function(receive(packed), "a process of the executor")(payload)
    except BaseException as error:
        error.__traceback__ = frames_of_fn(error)  # the executor sends it as text
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            name, lines = f"{type(error).__name__}: {error}", Failure.of(error).traceback
        else:
            raise
    # An exception that cannot be unpickled breaks the whole ProcessPoolExecutor. So would its cause or context, which are
    # pickled as well once Dask is imported.
    raise RuntimeError(name) from WorkerTraceback(lines)
