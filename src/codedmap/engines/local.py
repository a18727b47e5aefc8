"""Worker processes on this machine: the engine that comes with the library."""

from __future__ import annotations

import atexit
import os
import secrets
import sys
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from functools import partial
from types import FrameType
from typing import Any

from ..contracts.arguments import check_whole
from ..errors import EngineError, InvalidArgument, MissingMainGuard
from .limits import Limits
from .local_queue import LocalQueue
from .loop import Loop
from .process_limits import allow_open_files, check_process_limits, limit_memory
from .queue_engine import QueueEngine
from .transport.descendants import end_descendants
from .transport.parcel import discard_all
from .transport.serve import hello, serve

_IMPORTS = "<frozen importlib._bootstrap"  # where Python's own import statement runs


class Local(QueueEngine[LocalQueue]):
    """N worker processes on this machine, each with a pipe of its own, so that they fail alone.

    * One crash costs one answer; a new process takes the worker's place.
    * A straggler delays neither the caller, nor the next call (beyond ``grace``), nor the end of
      the program. After ``grace`` seconds an abandoned call is ended together with its process;
      until then it holds its worker.
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

    Processes are started by forkserver, which Windows does not have. They do not import the caller's main module, so
    a script needs no ``if __name__ == "__main__":``; what it defines travels by value. A module that workers import,
    because a function of it is called there, must not create an engine while it is imported.

    What is attached to a future (``add_done_callback``) runs in the one thread that serves all workers: it must not
    wait for other calls.

    A worker takes 5 of the files that this process may have open. Where its soft limit (``ulimit -n``,
    often 1024) is too low for that many workers, it is raised, as far as the hard limit allows.

    Parameters
    ----------
    workers : int, optional
        Number of processes. By default the number of cores that this process may use.
    grace : float
        Seconds for which an abandoned call may still run before its process is ended.
    limits : Limits, optional
        What each call needs; only memory, which Linux limits.

    Raises
    ------
    InvalidArgument
        If an argument cannot be used, such as limits of GPUs or licences.
    MissingMainGuard
        If a worker is importing the module that creates it; it is what the worker's call fails with.
    EngineError
        If a worker does not start, or open files, processes or memory do not suffice for so many.

    Examples
    --------
    >>> import codedmap as cm
    >>> with cm.engines.Local(workers=2) as engine:
    ...     engine.submit(0, abs, -3).result()
    3
    """

    def __init__(
        self, workers: int | None = None, grace: float = 1.0, limits: Limits | None = None
    ) -> None:
        workers = _cores() if workers is None else check_whole("workers", workers, 1)
        if grace is None:
            raise InvalidArgument("grace=None must be at least 0 seconds; math.inf is no limit")
        if sys.platform == "win32":
            raise EngineError("Local needs a fork server, which Windows does not have: use Dask")
        if limits is not None and limits.resources:
            raise InvalidArgument(
                f"Local counts no {' and no '.join(limits.resources)}: start as many workers as may use one at a "
                "time, or use Dask or Ray, which count them"
            )
        _refuse_inside_import()
        self.memory_limit = None if limits is None else limits.bytes
        allow_open_files(workers)
        check_process_limits(workers, self.memory_limit)
        self._run = f"codedmap-{os.getpid()}-{secrets.token_hex(4)}"
        self._closing = False
        self._loop = Loop()
        super().__init__(grace)
        if self.memory_limit is not None:
            self.setup(partial(limit_memory, self.memory_limit))
        try:
            self._begin(workers)
        except BaseException:
            self.close()
            raise

    def abandon(self, futures: Iterable[Future[Any]]) -> None:
        """Forget calls that have not begun; end those that still run after ``grace``."""
        if self._ours():
            self._loop.do(super().abandon, list(futures))

    def close(self) -> None:
        """End all workers now, also busy ones."""
        if self._ours():
            self._loop.do(self._close)
            self._loop.join()
            atexit.unregister(self._at_exit)

    def _begin(self, workers: int) -> None:
        try:
            self._loop.start()
        except (OSError, RuntimeError) as error:
            raise EngineError(f"the thread of the engine cannot be started ({error})") from error
        abandon = super().abandon
        self._queues = {
            number: LocalQueue(
                number,
                self._run,
                self._setups,
                loop=self._loop,
                abandon=abandon,
                ended=self._end_if_closed,
            )
            for number in range(workers)
        }
        for call in [queue.submit(hello, None) for queue in self._queues.values()]:
            failure = call.exception()
            if failure is not None:
                raise EngineError(
                    f"a worker process ended while it was starting ({failure}); what it printed stands above: "
                    "is there memory left?"
                )

    # From here on everything runs in the loop.

    def _end_later(self, grace: float, queue: LocalQueue, future: Future[Any]) -> None:
        self._loop.later(future, grace, partial(queue.end, future))

    def _close(self) -> None:
        if self._closing:
            return
        self._closing = True
        end_descendants(
            f"{self._run}:", [pid for queue in self._queues.values() for pid in queue.pids]
        )
        for queue in self._queues.values():
            queue.close()
        self._end_if_closed()

    def _end_if_closed(self) -> None:
        if self._closing and not any(queue.pids for queue in self._queues.values()):
            try:
                end_descendants(f"{self._run}:")  # what was started in the meantime
                discard_all(self._run)
            finally:
                self._loop.end()


def _refuse_inside_import() -> None:
    """Refuse to start workers in a worker that imports what starts workers: that would never end."""
    # A module may have its engine started by another thread, and wait for that one.
    main = sys._current_frames().get(threading.main_thread().ident or 0)
    for frame in (sys._getframe(), main):
        module = _imported_for_call(frame)
        if module is not None:
            raise MissingMainGuard(
                f"importing the module {module} starts worker processes, and each of them imports it again "
                "to find the function that it shall call: start them in a function, or under "
                '`if __name__ == "__main__":`'
            )


def _imported_for_call(frame: FrameType | None) -> str | None:
    """The module that a worker is importing, at this frame, in order to serve a call."""
    module, importing = None, False
    while frame is not None:
        code = frame.f_code
        if code is serve.__code__:
            return (module or "of the function") if importing else None
        if code.co_name == "<module>":
            module = module or frame.f_globals.get("__name__")
        importing = importing or code.co_filename.startswith(_IMPORTS)
        frame = frame.f_back
    return None


def _cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
