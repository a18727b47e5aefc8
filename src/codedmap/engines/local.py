"""Worker processes on this machine: the engine that comes with the library."""

from __future__ import annotations

import atexit
import hashlib
import multiprocessing
import os
import secrets
import tempfile
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from .._checks import check_whole
from .._errors import EngineError, InvalidArgument, MissingMainGuard
from ._parcel import discard_all
from ._pinning import Pinning, join
from ._slot import Slot

__all__ = ["Local"]

_LOOK = 1.0  # seconds between two looks for calls that would never be answered


class Local(Pinning[Slot]):
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
        if grace is None:
            raise InvalidArgument("grace=None must be at least 0 seconds; math.inf is for ever")
        _refuse_inside_import()
        super().__init__(grace)
        self._run = f"codedmap-{os.getpid()}-{secrets.token_hex(4)}"
        self._watch = threading.Thread(target=self._look_after, daemon=True)
        try:
            self._watch.start()
            self._start(int(workers))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End all workers now, whatever they are doing."""
        timers = self._begin_to_close() or ()
        for slot in self._slots:
            slot.close()
        join((self._watch, *timers))
        for slot in self._slots:
            slot.join()
        discard_all(self._run)
        atexit.unregister(self._at_exit)

    def _end(self, slot: Slot, future: Future[Any]) -> None:
        slot.end(future)

    def _look_after(self) -> None:
        while not self._closed.wait(_LOOK):
            for slot in tuple(self._slots):
                slot.look()

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
