"""Worker processes on this machine: the engine that comes with the library."""

from __future__ import annotations

import atexit
import hashlib
import multiprocessing
import os
import secrets
import tempfile
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any

from .._checks import check_whole, is_real
from .._errors import EngineError, InvalidArgument, MissingMainGuard
from ._contract import Kept
from ._parcel import discard_all
from ._slot import Slot

__all__ = ["Local"]

_LOOK = 1.0  # seconds between two looks for calls that would never be answered


class Local:
    """N worker processes on this machine, each a pool of its own, so that they fail alone.

    * One crash costs one answer; a new process takes the worker's place.
    * A straggler delays neither the caller, nor the next call (beyond ``grace``), nor the end of
      the program. After ``grace`` seconds an abandoned call is ended together with its process;
      until then its slot is a straggler of the next wave as well.
    * Healthy workers live on with whatever they have loaded.
    * Functions travel by cloudpickle (lambdas, closures and notebook functions work); arrays
      larger than 64 KB travel through shared memory on Linux, elsewhere through a pipe.
    * Each worker computes with one thread, unless OMP_NUM_THREADS says otherwise.
    * Workers ignore Ctrl-C, which is the caller's, and end when the caller ends or dies; processes
      that a function has started (a simulator, say) end with its worker.

    Two things it cannot do, because multiprocessing does not: if the fork server is killed, every
    worker counts as crashed; and a worker in C code that holds the interpreter lock outlives a caller
    that is killed, until that code returns.

    Processes are started by forkserver (spawn where there is none), so a script must create the
    engine under ``if __name__ == "__main__":``.

    Parameters
    ----------
    workers : int
        Number of processes.
    grace : float
        Seconds for which an abandoned call may still run before its process is ended.

    Raises
    ------
    MissingMainGuard
        If the script has no main guard.
    EngineError
        If a worker does not start.

    Examples
    --------
    >>> import codedmap as cm
    >>> with cm.engines.Local(workers=2) as engine:
    ...     engine.submit(0, abs, -3).result()
    3
    """

    def __init__(self, workers: int, grace: float = 1.0) -> None:
        workers = check_whole("workers", workers, 1)
        if not is_real(grace) or not grace >= 0:
            raise InvalidArgument(f"grace={grace!r} must be at least 0 seconds")
        _refuse_inside_import()
        self._grace = float(grace)
        self._run = f"codedmap-{os.getpid()}-{secrets.token_hex(4)}"
        self._slots: list[Slot] = []
        self._where: dict[Future[Any], Slot] = {}
        self._lock = threading.Lock()
        self._timers: set[threading.Timer] = set()
        self._closed = threading.Event()
        self._watch = threading.Thread(target=self._look_after, daemon=True)
        self._owner = os.getpid()
        atexit.register(self._at_exit)
        try:
            self._watch.start()
            self._start(int(workers))
        except BaseException:
            self.close()
            raise

    @property
    def workers(self) -> int:
        """Number of processes."""
        return len(self._slots)

    def submit(self, slot: int, fn: Any, payload: Any) -> Future[Any]:
        """Compute ``fn(payload)`` on a slot; see `Engine.submit`.

        Raises
        ------
        CannotSend
            If ``fn`` or the payload cannot be pickled.
        """
        future = self._slots[slot].submit(fn, payload)
        self._where[future] = self._slots[slot]
        future.add_done_callback(lambda done: self._where.pop(done, None))
        return future

    def keep(self, slot: int, value: Any) -> Kept:
        """Leave a value on a worker; it is unpickled there once, at its first use."""
        return self._slots[slot].keep(value)

    def abandon(self, futures: Iterable[Future[Any]]) -> None:
        """Forget calls that have not begun; end those that still run after ``grace``."""
        running = []
        for future in futures:
            slot = self._where.get(future)
            if slot is not None and slot.drop(future):
                running.append((slot, future))
        if running and self._grace < threading.TIMEOUT_MAX:
            self._end_later(running)

    def _end_later(self, running: list[tuple[Slot, Future[Any]]]) -> None:
        left = {future for _, future in running}

        def end() -> None:
            for slot, future in running:
                slot.end(future)
            self._timers.discard(timer)

        def arrived(future: Future[Any]) -> None:
            left.discard(future)
            if not left:
                timer.cancel()
                self._timers.discard(timer)

        timer = threading.Timer(self._grace, end)
        timer.daemon = True
        with self._lock:
            if self._closed.is_set():
                return
            self._timers.add(timer)
            timer.start()
        for future in tuple(left):
            future.add_done_callback(arrived)

    def close(self) -> None:
        """End all workers now, whatever they are doing."""
        with self._lock:
            self._closed.set()
            timers = tuple(self._timers)
        for timer in timers:
            timer.cancel()
        for slot in self._slots:
            slot.close()
        for thread in (self._watch, *timers):
            if thread.is_alive() and thread is not threading.current_thread():
                thread.join()
        for slot in self._slots:
            slot.join()
        discard_all(self._run)
        atexit.unregister(self._at_exit)

    def _look_after(self) -> None:
        while not self._closed.wait(_LOOK):
            for slot in tuple(self._slots):
                slot.look()

    def _at_exit(self) -> None:
        if os.getpid() == self._owner:  # not in a child that was forked off
            self.close()

    def __enter__(self) -> Local:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _start(self, workers: int) -> None:
        # The first alone: what keeps it from starting would keep all of them, and a script
        # without a main guard would otherwise be run once per worker.
        try:
            self._slots.append(Slot(0, self._run))
            self._slots[0].started.result()
            for number in range(1, workers):
                self._slots.append(Slot(number, self._run))
            for slot in self._slots:
                slot.started.result()
        except Exception as error:
            raise _start_failure(error) from None


def _refuse_inside_import() -> None:
    if not getattr(multiprocessing.current_process(), "_inheriting", False):
        return
    # A worker is importing the script that wants to start workers. The caller tells the user;
    # a traceback here would only be printed beside its message.
    _marker().touch()
    os._exit(1)


def _marker() -> Path:
    # Known to both sides, and to nobody else: multiprocessing hands its key to each new process.
    key = hashlib.sha256(bytes(multiprocessing.current_process().authkey)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"codedmap-{key}-no-main-guard"


def _start_failure(error: Exception) -> EngineError:
    if _marker().exists():
        _marker().unlink()
        return MissingMainGuard(
            "this script starts worker processes, and each of them begins by importing the script: "
            'put its code under `if __name__ == "__main__":`'
        )
    return EngineError(
        f"a worker process ended while it was starting ({error}); what it printed stands above: "
        "does the main script import without error, and is there memory left?"
    )
