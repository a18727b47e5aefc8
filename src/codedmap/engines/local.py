"""Worker processes on this machine: the engine that comes with the library."""

from __future__ import annotations

import atexit
import os
import secrets
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Any

from ..contracts.arguments import check_whole
from ..errors import InvalidArgument
from .local_slot import Slot
from .main_guard import check_importable, refuse_inside_import, start_failure
from .process_limits import allow_open_files, check_process_limits
from .shield import Shield, get_interruptibly
from .slot_engine import SlotEngine, join
from .transport.descendants import end_descendants
from .transport.parcel import discard_all

__all__ = ["Local"]

_LOOK = 1.0  # seconds between two checks for calls that would never be answered


class Local(SlotEngine[Slot]):
    """N worker processes on this machine, each a pool of its own, so that they fail alone.

    * One crash costs one answer; a new process takes the worker's place.
    * A straggler delays neither the caller, nor the next call (beyond ``grace``), nor the end of
      the program. After ``grace`` seconds an abandoned call is ended together with its process;
      until then its slot is a straggler of the next wave as well.
    * Healthy workers keep running, with everything they have loaded.
    * Functions travel by cloudpickle (lambdas, closures and notebook functions work); arrays
      larger than 64 KB travel through shared memory on Linux, elsewhere through a pipe.
    * Each worker computes with one thread, unless OMP_NUM_THREADS says otherwise.
    * Workers ignore Ctrl-C, which is the caller's, and end when the caller ends or dies; processes
      that a function has started (a simulator, say) end with its worker, on Linux also in a session
      of their own. Only a daemon whose parent has ended may outlive it: if it was forked without an
      exec, or does not have the worker's environment.

    Two things it cannot do, because multiprocessing does not: if the fork server is killed, every
    worker counts as crashed; and a worker in C code that holds the interpreter lock outlives a caller
    that is killed, until that code returns.

    Processes are started by forkserver (spawn where there is none), so a script must create the
    engine under ``if __name__ == "__main__":``, and a module that workers import, because a function of it
    is called there, must not create one while it is imported.

    A worker takes 8 of the files that this process may have open. Where its soft limit (``ulimit -n``,
    often 1024) is too low for that many workers, it is raised, as far as the hard limit allows.

    Parameters
    ----------
    workers : int
        Number of processes.
    grace : float
        Seconds for which an abandoned call may still run before its process is ended.

    Raises
    ------
    MissingMainGuard
        If the script has no main guard. A worker that imports a module without one raises it there, and so
        it is what the call fails with.
    EngineError
        If a worker does not start, open files, processes or memory do not suffice for so many, or the
        script is no file that they could import.

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
            raise InvalidArgument("grace=None must be at least 0 seconds; math.inf is no limit")
        refuse_inside_import()
        check_importable()
        allow_open_files(workers)
        check_process_limits(workers)
        self._run = f"codedmap-{os.getpid()}-{secrets.token_hex(4)}"
        self._ending = threading.RLock()
        self._shield = Shield(self._look, _LOOK)
        super().__init__(grace)
        try:
            self._shield.start()
            self._start(workers)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End all workers now, also busy ones."""
        if not self._ours():
            return
        self._shield.do(self._close)
        self._shield.join()
        atexit.unregister(self._at_exit)

    def abandon(self, futures: Iterable[Future[Any]]) -> None:
        """Forget calls that have not begun; end those that still run after ``grace``."""
        if self._ours():
            self._shield.do(partial(super().abandon, list(futures)))

    def _close(self) -> None:
        with self._ending:  # closing twice would close files that have reused the numbers
            timers = self._begin_to_close() or ()
            workers = f"{self._run}:"
            end_descendants(workers, [slot.pid for slot in self._slots if slot.pid is not None])
            for slot in self._slots:
                slot.close()
            join(timers)
            for slot in self._slots:
                slot.join()
            end_descendants(workers)  # what was started in the meantime
            discard_all(self._run)
        self._shield.end()

    def _end(self, slot: Slot, future: Future[Any]) -> None:
        slot.end(future)

    def _look(self) -> None:
        for slot in tuple(self._slots):
            slot.look()

    def _start(self, workers: int) -> None:
        # The first alone: what keeps it from starting would keep all of them, and a script
        # without a main guard would otherwise be run once per worker.
        started: SimpleQueue[BaseException | None] = SimpleQueue()
        try:
            for numbers in (range(1), range(1, workers)):
                for number in numbers:
                    self._shield.do(partial(self._add, number, started))
                for _ in numbers:
                    error = get_interruptibly(started)
                    if error is not None:
                        raise error
        except Exception as error:
            raise start_failure(error) from None

    def _add(self, number: int, started: SimpleQueue[BaseException | None]) -> None:
        slot = Slot(number, self._run, self._shield, super().abandon)
        self._slots.append(slot)
        slot.started.add_done_callback(lambda done: started.put(done.exception()))
