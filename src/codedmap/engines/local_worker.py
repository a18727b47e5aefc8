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
from .transport.serve import HEADER, Request, work, worker_name

if sys.platform != "win32":
    from multiprocessing import forkserver, resource_tracker

    # Never fork: a child forked from threads, or under ONNX Runtime, deadlocks.
    from multiprocessing.context import ForkServerProcess
    from multiprocessing.popen_forkserver import Popen

_FLAGS = threading.Lock()  # held while those that multiprocessing starts Python with are replaced
_PART = 64 << 10  # bytes read at once
_LOADED = [work.__module__, "numpy.ma"]
"""Modules that workers share with what they are forked from: each would load what its first call needs by itself."""


def start_server() -> None:
    """Start what worker processes are forked from, so that neither Ctrl-C nor the end of its terminal reach it.

    Only for programs, not libraries: all processes that the fork server starts afterwards ignore Ctrl-C,
    as workers do.
    """
    if sys.platform != "win32":
        before = _unblocked()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # which is inherited
        try:
            # It begins with blocking Ctrl-C, and would end by letting it through.
            _track()
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            forkserver.set_forkserver_preload(_LOADED)
            # The first worker will raise it again.
            with contextlib.suppress(OSError), _importing_nothing_here():
                forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Worker:
    """A process of the engine named ``run``, and the pipe through which it is called one call at a time.

    It starts with this environment and, if that is still there, in this directory.

    Raises `OSError` if no process or pipe can be created.
    """

    def __init__(self, run: str, environment: Mapping[str, str], directory: str) -> None:
        self.pipe, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = _start(directory, theirs, run, environment)
        except BaseException as error:
            self.pipe.close()
            # The fork server has ended, or there is no program to start it.
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
        """By which what it has started is found."""
        self._unsent = memoryview(b"")
        self._received = bytearray()

    def send(self, request: Request) -> bool:
        """Send a request; return whether all of it is on its way, or `flush` must be called.

        Raises `OSError` if the process has ended: it has not received the request.
        """
        self._unsent = memoryview(pickle.dumps(request, protocol=5))
        return self.flush()

    def flush(self) -> bool:
        """Send more of a request without waiting for the process to receive it."""
        while self._unsent:
            try:
                self._unsent = self._unsent[self.pipe.send(self._unsent) :]
            except BlockingIOError:
                return False
        return True

    def receive(self) -> Any:
        """The `Parcel` or `Failure` that the process has sent, or None while it is not complete.

        Raises `ConnectionResetError` if the process has ended before it received the request, `EOFError` if after that.
        """
        while True:
            try:
                part = self.pipe.recv(_PART)
            except BlockingIOError:
                return None
            if not part:
                raise EOFError
            self._received += part
            head, message = self._received[:HEADER], memoryview(self._received)[HEADER:]
            if len(head) == HEADER and len(message) >= int.from_bytes(head):
                self._received = bytearray()
                return pickle.loads(message)
            message.release()  # which may not grow before

    def kill(self, descendants: bool) -> None:
        """Close its pipe; kill the process, its group, and maybe all that it has started; soon its sentinel is ready."""
        self.pipe.close()
        if self._ended:  # its number may be another's by now
            return
        if descendants:
            end_started_by([self])
        self._send(signal.SIGKILL)  # which no function can block or delay
        with contextlib.suppress(OSError):
            os.killpg(self.pid, signal.SIGKILL)

    def stop(self) -> None:
        """Let it run no further."""
        if not self._ended:
            self._send(signal.SIGSTOP)

    def _send(self, number: signal.Signals) -> None:
        with contextlib.suppress(OSError):  # it has ended in the meantime
            if self._handle is None:
                os.kill(self.pid, number)
            else:
                signal.pidfd_send_signal(self._handle, number)

    def close(self) -> None:
        """Give back the files of a process that has ended."""
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
    """Kill all that these have started, which is searched for among all processes; they are stopped, to answer none without it."""
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
            vars(sys.modules["__main__"]).setdefault("__spec__", None)  # which pdb removes
            preparation = spawn.get_preparation_data(process.name)
            for main in ("init_main_from_name", "init_main_from_path"):
                preparation.pop(main, None)
            if Path(directory).is_dir():
                preparation["dir"] = directory
            if preparation["start_method"] not in get_all_start_methods():  # of joblib's workers
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
            # Both are open as long as the caller lives, which the process sees by the second.
            self.finalizer = util.Finalize(self, _close, (self.sentinel, sending))
            try:
                # Not `getbuffer`: where a traceback keeps it, the garbage collector of Python 3.12 crashes.
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
    """Have what multiprocessing starts import nothing from the working directory, where a file may be named as a module is."""
    with _FLAGS:
        of_python: Any = util
        before = of_python._args_from_interpreter_flags
        of_python._args_from_interpreter_flags = lambda: ["-P", *before()]
        try:
            yield
        finally:
            of_python._args_from_interpreter_flags = before


def _track() -> None:
    with _importing_nothing_here():
        resource_tracker.ensure_running()
    # Python 3.13 would wait for its end when the program ends; it ends with the last worker, and a worker that is just
    # starting ends with the program. Without its number it is taken for a parent's.
    tracker: Any = resource_tracker._resource_tracker
    tracker._pid = None


def _start(directory: str, *arguments: Any) -> _Process:
    before = _unblocked()
    try:
        os.getcwd()  # noqa: PTH109  that it was removed is no fault of the fork server
        _track()
        forkserver.set_forkserver_preload(_LOADED)
        util.get_temp_dir()  # for the sockets of workers, too: one of their own would be left behind
        process = ForkServerProcess(target=work, args=arguments, daemon=False)
        try:
            return _Process(process, directory)
        except (ChildProcessError, ConnectionError, EOFError, FileNotFoundError) as error:
            # The fork server is that of a process from which this one was forked, or has ended, or the folder of its
            # socket was removed.
            server: Any = forkserver._forkserver
            if server._forkserver_alive_fd is not None:
                os.close(server._forkserver_alive_fd)
            server._forkserver_alive_fd = server._forkserver_pid = None
            if isinstance(error, FileNotFoundError):
                here: Any = current_process()
                here._config["tempdir"] = None
            return _Process(process, directory)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _unblocked() -> set[int]:
    """Let the signal through by which the fork server, which inherits this, sees that workers end; returns what was blocked."""
    return signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})


def _handle(pid: int) -> int | None:
    # A pidfd stays valid after the process, or multiprocessing's fork server, has ended.
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
