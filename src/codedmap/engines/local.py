"""Worker processes on this machine: the engine that comes with the library."""

from __future__ import annotations

import atexit
import os
import secrets
import sys
import tempfile
import threading
import warnings
import weakref
from collections.abc import Hashable, Iterable
from concurrent.futures import Future
from functools import partial
from types import FrameType
from typing import Any

from ..contracts.arguments import check_whole
from ..contracts.engine import Kept
from ..contracts.memory import cores
from ..errors import (
    Abandoned,
    EngineError,
    InvalidArgument,
    MissingMainGuard,
    WorkerCrashed,
    many,
)
from .limits import Limits, checked_limits
from .local_worker import Worker, end_started_by
from .loop import Loop
from .process_limits import allow_open_files, check_process_limits, limit_memory
from .queue_engine import MUCH, Answer, Call, CallQueue, QueueEngine, complete
from .transport.descendants import discard_all, discard_of, end_descendants, segments_of
from .transport.parcel import Parcel, discard
from .transport.serve import Request, serve

_OPENING = 60.0  # seconds, at least, that a worker has to open a function for abandoned calls
_IMPORTS = "<frozen importlib._bootstrap"  # where Python's own import statement runs


class Local(QueueEngine["_LocalQueue"]):
    """N worker processes on this machine, each with a pipe of its own, so that they fail alone.

    * One crash costs one answer; a new process takes the worker's place.
    * A straggler delays neither the caller, nor the next call (beyond ``grace``), nor the end of
      the program. After ``grace`` seconds an abandoned call is ended together with its process;
      until then it holds its worker.
    * Healthy workers keep running, with everything they have loaded.
    * Functions travel by cloudpickle (lambdas, closures and notebook functions work); arrays
      larger than 64 KB travel through shared memory on Linux, elsewhere through a pipe.
    * Each worker computes with one thread, unless OMP_NUM_THREADS says otherwise.
    * An engine that nothing refers to any more, and that has no call without an answer, ends as by `close`, with a
      ResourceWarning.
    * Workers ignore Ctrl-C, which is meant for the caller, and end when the caller ends or dies, on
      Linux also if they are stopped. Processes that a function has started (a simulator, say) end
      with its worker, on Linux also in a session of their own. Only a daemon whose parent has ended may
      outlive it: if it was forked without an exec, or does not have the worker's environment.

    It has two limitations, which are those of multiprocessing: if the fork server is killed, every
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
        Number of processes. By default the number of cores that this process may use, by its affinity and the CPU
        quotas of its control groups.
    grace : float
        Seconds for which an abandoned call may still run before its process is ended. A worker that still imports what
        the function needs has 60 s at least.
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
        workers = cores() if workers is None else check_whole("workers", workers, 1)
        if grace is None:
            raise InvalidArgument("grace=None must be at least 0 seconds; math.inf is no limit")
        if sys.platform == "win32":
            raise EngineError(
                "Local needs a fork server, which Windows does not have: give engine=ThreadPoolExecutor(8), "
                "ProcessPoolExecutor(8) or engines.Dask(client), say"
            )
        limits = checked_limits(limits)
        if limits.resources:
            raise InvalidArgument(
                f"Local counts no {' and no '.join(limits.resources)}: start as many workers as may use one at a "
                "time, or use Dask or Ray, which count them"
            )
        _refuse_inside_import()
        try:
            os.stat(f"{os.getcwd()}/.")  # noqa: PTH109, PTH116
        except OSError as error:
            raise EngineError(
                f"the working directory, where workers start, has been removed or cannot be entered ({error}): "
                "change to another one"
            ) from error
        self.memory_limit = limits.bytes
        allow_open_files(workers)
        check_process_limits(workers, self.memory_limit)
        super().__init__(grace, f"{segments_of(os.getpid())}{secrets.token_hex(4)}")
        self.processes = _Processes(self.run, self.setups, self._queues)
        """Its workers and threads, which do not refer to the engine itself."""
        if self.memory_limit is not None:
            self.setup(partial(limit_memory, self.memory_limit))
        try:
            self._begin(workers)
        except BaseException:
            self.close()
            raise

    def _drop(self, futures: Iterable[Future[Any]], grace: float | None) -> None:
        if self._ours():
            self.processes.loop.do(super()._drop, list(futures), grace)

    def close(self) -> None:
        """End all workers now, also busy ones."""
        self.processes.end()

    def __del__(self) -> None:
        processes: _Processes | None = getattr(self, "processes", None)
        if processes is not None and not processes.closing and self._ours():
            processes.loop.do(processes.close)
            warnings.warn(
                f"an engine of {many(self.workers, 'worker')} was dropped, and never closed: use it, or the Pool that "
                "made it, in a with block",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )

    def _begin(self, workers: int) -> None:
        try:
            self.processes.loop.start()
            self.processes.starter.start()
        except (OSError, RuntimeError) as error:
            raise EngineError(f"a thread of the engine cannot be started ({error})") from error
        self._queues.update((number, _LocalQueue(self, number)) for number in range(workers))
        # Any answer shows that a worker has started.
        for call in [queue.submit(bool, None) for queue in self._queues.values()]:
            failure = call.exception()
            if isinstance(failure, EngineError):
                raise failure
            if failure is not None:
                raise EngineError(
                    f"a worker process ended while it was starting ({failure}); what it printed stands above: "
                    "is there memory left?"
                )

    def _end_later(self, grace: float, queue: _LocalQueue, future: Future[Any]) -> None:
        processes, call = self.processes, queue.running(future)
        if call is not None and call.request.keep is not None:
            # What a function imports serves the next job too, which would have to begin anew.
            grace = max(grace, _OPENING)
        processes.loop.later(future, grace, partial(processes.end_soon, queue, future))


class _Processes:
    """The workers of an engine named ``run``, and the threads that serve them, which end with it."""

    def __init__(self, run: str, setups: list[Parcel], queues: dict[int, _LocalQueue]) -> None:
        self.run, self.setups, self._queues = run, setups, queues
        self.setup_deaths = 0
        self.closing = False
        self.environment = dict(os.environ)
        """The environment of all its processes; that of the fork server is as old as the first engine."""
        self.directory = os.getcwd()  # noqa: PTH109
        """The directory in which all its processes start, also those that replace others."""
        self.loop, self.starter = Loop(self._lost_files), Loop()
        self._soon = self.loop.do
        self._to_end: list[tuple[_LocalQueue, Future[Any]]] = []  # see `_end_all`
        self._left: list[Worker] = []  # see `end_left`
        self._owner = os.getpid()
        atexit.register(self.end)

    @property
    def workers(self) -> int:
        return len(self._queues)

    def end(self) -> None:
        """End all workers and threads, and wait for that."""
        if os.getpid() == self._owner:
            self.loop.do(self.close)
            self.loop.join()

    # From here on everything runs in the loop. Only workers are started in a thread of their own, because the first
    # start waits until the fork server has imported what it needs.

    def end_soon(self, queue: _LocalQueue, future: Future[Any]) -> None:
        self._to_end.append((queue, future))
        if len(self._to_end) == 1:
            self.loop.do(self._end_all)

    def _end_all(self) -> None:
        """End the workers that are still busy with calls that are due, together: their descendants are searched for once."""
        busy = [(queue, future) for queue, future in self._to_end if queue.running(future)]
        self._to_end.clear()
        if busy:
            end_started_by([queue.worker for queue, _ in busy if queue.worker is not None])
        for queue, future in busy:
            queue.end(future)

    def end_left(self, worker: Worker) -> None:
        """Soon kill the processes that an ended worker has left, together with those of other workers."""
        self._left.append(worker)
        if len(self._left) == 1:
            self.loop.do(self._end_left)

    def _end_left(self) -> None:
        ended, self._left = self._left, []
        end_descendants(*(worker.name for worker in ended))
        discard_of(*(worker.pid for worker in ended))

    def close(self) -> None:
        if self.closing:
            return
        self.closing = True
        self.starter.do(self.starter.end)
        try:
            for queue in self._queues.values():
                if queue.worker is not None:
                    queue.worker.stop()  # it might start again what has ended
            end_descendants(
                f"{self.run}:", pids=[pid for queue in self._queues.values() for pid in queue.pids]
            )
        finally:
            for queue in self._queues.values():
                queue.close()
            self.end_if_closed()

    def _lost_files(self, error: OSError) -> None:
        """End without files of the engine that the program has closed, as programs that become daemons do."""
        self.closing = True
        self.starter.do(self.starter.end)
        atexit.unregister(self.end)
        queues = self._queues.values()
        why = f"the program has closed files of the engine ({error}): create engines after that"
        for queue in queues:
            queue.fail(EngineError(why))
        end_descendants(f"{self.run}:", pids=[pid for queue in queues for pid in queue.pids])
        discard_all(self.run)

    def end_if_closed(self) -> None:
        """End the loop if the engine was closed and no process is left."""
        if self.closing and not any(queue.pids for queue in self._queues.values()):
            try:
                end_descendants(f"{self.run}:")  # those that were started in the meantime
                discard_all(self.run)
            finally:
                self.loop.end()
                atexit.unregister(self.end)


class _LocalQueue(CallQueue):
    """A queue of calls and the worker process that serves them one at a time.

    The process is replaced whenever it dies or is ended, and its pipe with it, so that nothing left in the pipe reaches
    a later call. `submit` and `keep` may be called in any thread, everything else only in the engine's loop.
    """

    def __init__(self, engine: Local, number: int) -> None:
        super().__init__(engine.processes, number)
        self._processes, self._loop = engine.processes, engine.processes.loop
        self._local = weakref.ref(engine)
        self.worker: Worker | None = None
        self._starting = False
        self._ending: dict[Worker, Call | None] = {}  # killed ones, and the calls that they had

    @property
    def pids(self) -> list[int]:
        """The process ids of its workers that have not ended."""
        workers = (*self._ending, *([self.worker] if self.worker else []))
        return [worker.pid for worker in workers]

    def drop(self, future: Future[Any]) -> Future[Any] | None:
        """As in `CallQueue`. A call may wait for the worker to open a kept value: then that is to be ended."""
        with self._lock:  # calls may be submitted in another thread
            call = next((call for call in self._waiting if call.future is future), None)
        held, running = super().drop(future), self._running
        if call is not None and running is not None and running.request.keep is not None:
            return running.future if running.sends_for(call) else None
        return held

    def end(self, future: Future[Any]) -> None:
        """End the worker, a process that is stopped already, if it is busy with this call."""
        call = self.running(future)
        if call is None:
            return
        self._running = None
        self._end_worker(call, descendants=False)
        self._start()
        self._advance()
        call.fail(Abandoned(f"worker {self.number} was ended: its call was abandoned"))

    def close(self) -> None:
        """Take no more calls, and kill the worker, without a search for its descendants."""
        running, dropped = self._running, self._close()
        self._end_worker(running)
        for call in dropped:
            self._loop.do(call.fail, Abandoned("the engine was closed"))

    def _queue(
        self, value: Any, uses: tuple[Kept, ...] = (), sends: Kept | None = None
    ) -> Future[Any]:
        engine = self._local()
        assert engine is not None
        self.refuse_if_closed()
        name = f"{self._run}-{self.number}-{next(self._counter)}"
        future, keep = Answer(self), None if sends is None else sends.key
        try:
            content = self._pack(value, f"{name}-payload", keep)
            call = Call(Request(content, f"{name}-answer", keep), future, uses, engine=engine)
            if sends is not None:
                call.sends = weakref.ref(sends)
                if content.nbytes >= MUCH:
                    weakref.finalize(sends, self._loop.do, self._release, keep).atexit = False
            with self._lock:
                self.refuse_if_closed()
                self._waiting.append(call)
            self._loop.do(self._advance)
        except BaseException:  # KeyboardInterrupt, or the engine was closed in the meantime
            discard(f"{name}-payload")
            engine.abandon([future])
            raise
        return future

    def _advance(self) -> None:
        """Send an idle worker its next call, or start a worker for it."""
        while self._running is None and self._waiting:
            if self.worker is None:
                self._start()
                return
            call = self._begin_next()
            if call is None:
                return
            try:
                if not self.worker.send(call.request):
                    self._loop.watch_writing(self.worker.pipe, True)
            except OSError:
                self._begin_again()
            except Exception as error:  # such as MemoryError
                self._running = None
                self._loop.do(call.fail, error)

    def _release(self, key: Hashable) -> None:
        """Have a worker that has no other call release a kept value, which may take most of the memory, by an empty one."""
        with self._lock:
            self._forget.append(key)
            if self.worker is not None and not self._waiting and not self._closed:
                empty = Request(self._pack((bool, None), None, None), None)
                self._waiting.append(Call(empty, Answer(self)))
        self._advance()

    def _begin_again(self) -> None:
        """Send the call to a new worker: the old one has ended without receiving it."""
        call, self._running = self._running, None
        if call is not None and call.request.keep is not None:
            self._kept.pop(call.request.keep, None)  # not lost: it is sent again
        self._end_worker()
        if call is None:
            return
        if call.request.keep is None:
            call = self._lost_with(call)
        if not call.restarted:
            call.restarted = True
            self._waiting.appendleft(call)
            return
        error = WorkerCrashed(f"worker {self.number} ends whenever it is started, before its call")
        self._loop.do(call.fail, error)

    def _start(self) -> None:
        """Start another worker soon; values that the earlier one kept are lost."""
        self._lose_kept()
        if not self._starting:
            self._starting = True
            self._processes.starter.do(self._launch)

    def _launch(self) -> None:
        """Start a worker, in the ``starter`` thread."""
        if self._closed:
            return
        started: Worker | Exception
        try:
            started = Worker(self._run, self._processes.environment, self._processes.directory)
        except Exception as error:
            started = error
        self._loop.do(self._started, started)

    def _started(self, worker: Worker | Exception) -> None:
        """Use the worker that was started, or fail the next call because none can be started."""
        self._starting = False
        if isinstance(worker, Worker):
            if self._closed:
                worker.kill(descendants=False)
                worker.close()
                return
            self.worker = worker
            self._loop.watch(worker.pipe, self._ready)
            self._loop.watch(worker.sentinel, partial(self._finish, worker))
        elif self._waiting:
            remedy = "is there memory left, are too many files open, or processes running?"
            if isinstance(worker, FileNotFoundError):
                remedy = "has the working directory been removed? Change to another one"
            if "what starts workers" in str(worker):
                remedy = "is it Python, which multiprocessing.set_executable may name, and is there memory left?"
            if "usable temporary directory" in str(worker):
                remedy = "set TMPDIR to a folder that can be written to"
            if "AF_UNIX path" in str(worker):  # the path of the fork server's socket
                remedy = f"set TMPDIR to a folder with a shorter path than {tempfile.gettempdir()}"
            error = EngineError(
                f"no process can be started for worker {self.number} ({worker}): {remedy}"
            )
            self._loop.do(self._waiting.popleft().fail, error)
        self._advance()

    def _ready(self) -> None:
        reply = self._receive()
        if reply is not None:
            self._answer(reply)

    def _receive(self) -> Any:
        """Write more of the request to the worker; return its reply, or None if there is none yet."""
        worker, call = self.worker, self._running
        assert worker is not None
        try:
            self._loop.watch_writing(worker.pipe, not worker.flush())
            reply = worker.receive()
        except ConnectionError:
            self._begin_again()
            self._advance()
        except Exception:  # the end of the connection, or a reply that cannot be unpickled
            self._end_worker(call)  # how the process ends is not known yet
        else:
            if call is not None:
                return reply
            if reply is not None:
                self._end_worker()
        return None

    def _answer(self, reply: Any) -> None:
        call, self._running = self._running, None
        assert call is not None
        self._loop.cancel(call.future)
        if call.request.setup:
            self._processes.setup_deaths = 0
        self._advance()  # before the answer is opened, which may take longer
        complete(call, reply)

    def _end_worker(self, call: Call | None = None, *, descendants: bool = True) -> None:
        """Kill the worker, which may have had a ``call``, and its ``descendants``."""
        worker, self.worker = self.worker, None
        self._set_up = 0
        if worker is None:
            return
        self._ending[worker] = call
        self._loop.forget(worker.pipe)
        worker.kill(descendants=descendants and not self._closed)

    def _finish(self, worker: Worker) -> None:
        """Clean up after a process that has ended."""
        reply = None
        if worker is self.worker:
            reply = self._receive()  # it may have answered before it ended
            if worker is self.worker:
                self._end_worker(self._running if reply is None else None)
        call = self._ending.pop(worker)
        setup = call is not None and call.request.setup
        error: BaseException = worker.crash_error(self.number, "its setup" if setup else "the call")
        if setup and not self._closed:
            error = self._set_up_error(error)
        self._loop.forget(worker.sentinel)
        try:
            if self._closed:
                discard_of(worker.pid)
            else:
                self._processes.end_left(worker)
            worker.close()
        finally:  # those may fail for lack of memory or files
            if reply is not None:
                self._answer(reply)
            elif call is not None and call is self._running:
                self._running = None
                self._loop.cancel(call.future)
                call = self._lost_with(call)
                self._start()
                self._advance()
                self._loop.do(call.fail, error)
            elif call is not None:
                call.discard()
            self._processes.end_if_closed()


def _refuse_inside_import() -> None:
    """Raise `MissingMainGuard` in a worker that is importing a module: workers that start workers would never end."""
    # A module may start its engine in another thread, and wait for that thread.
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
