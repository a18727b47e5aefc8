"""A worker process of `Local`: how it is started, called and ended."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import signal
import socket
import sys
import threading
from collections.abc import Collection, Iterator, Mapping
from multiprocessing import current_process, get_all_start_methods, reduction, spawn, util
from multiprocessing.connection import wait
from multiprocessing.context import set_spawning_popen
from pathlib import Path
from typing import Any

from ..errors import WorkerCrashed
from .transport.descendants import end_descendants
from .transport.serve import HEADER, REPLY, Request, work, worker_name

if sys.platform != "win32":
    from multiprocessing import forkserver, resource_tracker

    # Never fork: a child forked from threads, or under ONNX Runtime, deadlocks.
    from multiprocessing.context import ForkServerProcess
    from multiprocessing.popen_forkserver import Popen

_LOCKS: dict[int, Any] = {}  # see `_alone`
_PART = 64 << 10  # most bytes that are read at once
_LOADED = [work.__module__, "numpy.ma"]
"""Modules that the fork server imports, so that workers share them and need not load them for their first call."""


def start_server() -> None:
    """Start the fork server so that neither Ctrl-C nor the end of its terminal reach it.

    Only for programs, not libraries: all processes that the fork server starts afterwards ignore Ctrl-C,
    as workers do.
    """
    if sys.platform != "win32":
        before = _unblocked()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # the server inherits this
        try:
            # This first blocks Ctrl-C, and lets it through at its end.
            _track()
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            forkserver.set_forkserver_preload(_LOADED)
            # An error here is raised again by the first worker.
            with contextlib.suppress(OSError), _importing_nothing_here():
                forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Worker:
    """A process of the engine named ``run``, and the pipe through which it is sent one call at a time.

    It starts with this environment and, if it still exists, in this directory.

    Raises `OSError` if no process or pipe can be created.
    """

    def __init__(self, run: str, environment: Mapping[str, str], directory: str) -> None:
        self.pipe, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = _start(directory, theirs, run, environment)
        except BaseException as error:
            self.pipe.close()
            # The fork server has ended, or the program that it runs does not exist.
            if isinstance(error, EOFError | ConnectionError | TypeError):
                python = os.fsdecode(spawn.get_executable() or "None")
                raise OSError(f"what starts workers, {python}, has ended") from error
            raise
        self.pipe.setblocking(False)
        self.pid: int = self._process.pid
        self.sentinel: int = self._process.sentinel
        """A file that is ready to be read when the process has ended."""
        self._handle = _handle(self.pid)
        self.name = worker_name(run, self.pid)
        """The name by which its descendants are found."""
        self._unsent = memoryview(b"")
        self._received = bytearray()

    def send(self, request: Request) -> bool:
        """Send a request; return whether all of it is sent. If not, `flush` must be called.

        Raises `OSError` if the process has ended without receiving the request.
        """
        self._unsent = memoryview(pickle.dumps(request, protocol=5))
        return self.flush()

    def flush(self) -> bool:
        """Send more of a request, without waiting for the process; return whether all of it is sent."""
        while self._unsent:
            try:
                self._unsent = self._unsent[self.pipe.send(self._unsent) :]
            except BlockingIOError:
                return False
        return True

    def receive(self) -> Any:
        """The `Parcel` or `Failure` that the process has sent; None while it is not complete.

        Raises `ConnectionResetError` if the process ended before it received the request, `EOFError` if it ended later,
        or has sent what is no reply.
        """
        while True:
            try:
                part = self.pipe.recv(_PART)
            except BlockingIOError:
                return None
            if not part:
                raise EOFError
            self._received += part
            if not self._received.startswith(REPLY[: len(self._received)]):
                raise EOFError
            size = self._received[len(REPLY) : HEADER]
            message = memoryview(self._received)[HEADER:]
            if len(self._received) >= HEADER and len(message) >= int.from_bytes(size):
                self._received = bytearray()
                return pickle.loads(message)
            message.release()  # while there is a view of it, the bytearray cannot grow

    def kill(self, descendants: bool) -> None:
        """Close the pipe; kill the process, its group, and its ``descendants``. Soon the sentinel is ready."""
        self.pipe.close()
        if self._ended:  # its number may be that of another process by now
            return
        if descendants:
            end_started_by([self])
        self._send(signal.SIGKILL)  # no function can block or delay it
        with contextlib.suppress(OSError):
            os.killpg(self.pid, signal.SIGKILL)

    def stop(self) -> None:
        """Stop the process; it does not continue."""
        if not self._ended:
            self._send(signal.SIGSTOP)

    def _send(self, number: signal.Signals) -> None:
        with contextlib.suppress(OSError):  # it has ended in the meantime
            if self._handle is None:
                os.kill(self.pid, number)
            else:
                signal.pidfd_send_signal(self._handle, number)

    def close(self) -> None:
        """Close the files of a process that has ended."""
        if self._handle is not None:
            wait([self._handle], 1.0)  # the fork server may have ended first
            os.close(self._handle)
        self._process.close()

    def crash_error(self, number: int, during: str) -> WorkerCrashed:
        """The error of the call that is lost with this process."""
        return WorkerCrashed(
            f"worker {number} (process {self.pid}) died during {during}, "
            f"{_exit_description(self._process.poll())}: its answer is lost, a new worker takes its place"
        )

    @property
    def _ended(self) -> bool:
        return bool(wait([self.sentinel if self._handle is None else self._handle], 0))


def end_started_by(workers: Collection[Worker]) -> None:
    """Kill all descendants of workers, and stop the workers, so that none answers without its descendants."""
    for worker in workers:
        worker.stop()
    end_descendants(*(worker.name for worker in workers), pids=[worker.pid for worker in workers])


if sys.platform != "win32":

    class _Process(Popen):
        """A process of the fork server that does not import the caller's main module."""

        def __init__(self, process: ForkServerProcess, directory: str) -> None:
            self.returncode: int | None = None
            self._fds: list[int] = []
            data = io.BytesIO()
            vars(sys.modules["__main__"]).setdefault("__spec__", None)  # pdb removes it
            preparation = spawn.get_preparation_data(process.name)
            for main in ("init_main_from_name", "init_main_from_path"):
                preparation.pop(main, None)
            if Path(directory).is_dir():
                preparation["dir"] = directory
            if preparation["start_method"] not in get_all_start_methods():  # in a worker of joblib
                del preparation["start_method"]
            set_spawning_popen(self)
            try:
                reduction.dump(preparation, data)
                reduction.dump(process, data)
            finally:
                set_spawning_popen(None)
            with _importing_nothing_here():
                forkserver.ensure_running()
            self.sentinel, sending = forkserver.connect_to_new_process(self._fds)
            # Both are open as long as the caller lives. By the second the process sees that it does.
            self.finalizer = util.Finalize(self, _close, (self.sentinel, sending))
            try:
                # Not `getbuffer`: if a traceback refers to it, the garbage collector of Python 3.12 crashes.
                left = memoryview(data.getvalue())
                while left:
                    left = left[os.write(sending, left) :]
                self.pid = forkserver.read_signed(self.sentinel)
            except BaseException:
                self.close()
                raise


def _close(*files: int) -> None:
    for file in files:
        os.close(file)


@contextlib.contextmanager
def _importing_nothing_here() -> Iterator[None]:
    """Keep processes of multiprocessing from importing from the working directory: a file may have the name of a module."""
    with _alone():
        of_python: Any = util
        before = of_python._args_from_interpreter_flags
        of_python._args_from_interpreter_flags = lambda: ["-P", *before()]
        try:
            yield
        finally:
            of_python._args_from_interpreter_flags = before


def _alone() -> Any:
    """The lock of a thread that changes how multiprocessing starts processes; a fork may have begun while its parent held it."""
    return _LOCKS.setdefault(os.getpid(), threading.RLock())


def _track() -> None:
    """Start the resource tracker, and have this process forget its number."""
    with _importing_nothing_here():
        resource_tracker.ensure_running()
    # By its number Python 3.13 would wait for its end when the program ends. But it ends with the last worker, and a
    # worker that is just starting ends with the program. Without its number it counts as that of a parent.
    tracker: Any = resource_tracker._resource_tracker
    tracker._pid = None


def _start(directory: str, *arguments: Any) -> _Process:
    before = _unblocked()
    try:
        with _alone():
            return _started(directory, *arguments)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _started(directory: str, *arguments: Any) -> _Process:
    os.getcwd()  # noqa: PTH109  raises here if it was removed, before the fork server is blamed
    _track()
    forkserver.set_forkserver_preload(_LOADED)
    util.get_temp_dir()  # also for sockets of workers, which would leave folders of their own
    process = ForkServerProcess(target=work, args=arguments, daemon=False)
    try:
        return _Process(process, directory)
    except (ChildProcessError, ConnectionError, EOFError, FileNotFoundError) as error:
        # The fork server has ended, or belongs to the process from which this one was forked, or the folder of its
        # socket was removed: start another one.
        server: Any = forkserver._forkserver
        if server._forkserver_alive_fd is not None:
            os.close(server._forkserver_alive_fd)
        server._forkserver_alive_fd = server._forkserver_pid = None
        if isinstance(error, FileNotFoundError):
            here: Any = current_process()
            here._config["tempdir"] = None
        return _Process(process, directory)


def _unblocked() -> set[int]:
    """Unblock SIGCHLD, by which the fork server, which inherits this, sees workers end; returns the mask before."""
    return signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})


def _handle(pid: int) -> int | None:
    """A pidfd, which stays valid after the process, or the fork server, has ended; None where there is no such file."""
    if hasattr(os, "pidfd_open"):
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
