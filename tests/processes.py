"""Looking at processes, threads and shared memory from outside, and functions for workers to run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

APART = "CODEDMAP_TEST_CLUSTER"
"""In the environment of clusters that tests have started, which no engine need end."""
ANSWER = 30.0
"""Seconds within which an answer comes unless the engine hangs; no test waits them out."""


def eventually(predicate: Callable[[], Any], seconds: float = 10.0) -> Any:
    """What the predicate gives once it is true; its last value if it never is."""
    until = time.monotonic() + seconds
    while True:
        value = predicate()
        if value or time.monotonic() >= until:
            return value
        time.sleep(0.02)


def shm_names(pid: int | None = None) -> list[str]:
    """Segments in shared memory of the engines of one caller: by default, of this process."""
    return sorted(path.name for path in Path("/dev/shm").glob(f"codedmap-{pid or os.getpid()}-*"))


def children(of: int | None = None) -> dict[int, str]:
    """Command lines by pid of all processes below one; by default this, without what serves tests.

    That is multiprocessing's servants and clusters.
    """
    parents: dict[int, list[int]] = {}
    for pid in _pids():
        parents.setdefault(_parent(pid), []).append(pid)

    def below(pid: int) -> Iterator[int]:
        for child in parents.get(pid, ()):
            yield child
            yield from below(child)

    if of is not None:
        return {pid: _command(pid) for pid in below(of)}
    servants = {pid for pid in parents.get(os.getpid(), ()) if _is_servant(pid)}
    for pid in below(os.getpid()):
        if APART in _environment(pid):  # and what it has started, which may have changed its own
            servants |= {pid, *below(pid)}
    return {pid: _command(pid) for pid in below(os.getpid()) if pid not in servants}


def alive(pid: int) -> bool:
    """Whether a process exists and has not ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def kill_and_wait(pid: int) -> None:
    """Kill a worker, and wait until also multiprocessing's fork server knows that it is gone."""
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: not Path(f"/proc/{pid}").exists())
    time.sleep(0.1)


def threads() -> set[threading.Thread]:
    """All threads of this process."""
    return set(threading.enumerate())


def descriptors() -> int:
    """How many files this process has open."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


@dataclass
class Script:
    """A script that runs, or has run, in a process of its own."""

    process: subprocess.Popen[str]
    token: str
    began: float
    ended: float = 0.0
    out: str = ""
    err: str = ""

    @property
    def seconds(self) -> float:
        return self.ended - self.began

    def line(self) -> str:
        """The next line that it prints."""
        return self.process.stdout.readline().strip()

    def finish(self, timeout: float = 60.0) -> Script:
        """Wait for its end."""
        out, self.err = self.process.communicate(timeout=timeout)
        self.out += out
        self.ended = time.monotonic()
        return self

    def processes(self) -> dict[int, str]:
        """Whatever is alive of what it started, itself included."""
        return {
            pid: _command(pid) for pid in _pids() if self.token in _environment(pid) and alive(pid)
        }

    def shm_names(self) -> list[str]:
        return shm_names(self.process.pid)

    def nothing_is_left(self, seconds: float = 10.0) -> bool:
        """Whether soon there is neither a process nor a segment of it."""
        return eventually(lambda: not self.processes() and not self.shm_names(), seconds)


@contextmanager
def script(
    folder: Path, source: str, *arguments: str, **environment: str | None
) -> Iterator[Script]:
    """Start a script, its body under a main guard; what is left of it at the end is killed.

    Functions stand before a line ``# main``. A value of None takes a variable out of the environment.
    """
    head, _, body = textwrap.dedent(source).partition("# main\n")
    body = 'if __name__ == "__main__":\n' + textwrap.indent(body, "    ")
    path = folder / f"script_{uuid.uuid4().hex[:8]}.py"
    path.write_text(f"import os, signal, sys, time\nimport codedmap as cm\n{head}\n{body}")
    token = f"CODEDMAP_TEST_{uuid.uuid4().hex}"
    variables = {**os.environ, **environment, token: "1", "PYTHONUNBUFFERED": "1"}
    with _no_signal_ignored():
        process = subprocess.Popen(
            [sys.executable, str(path), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={name: value for name, value in variables.items() if value is not None},
            start_new_session=True,
        )
    running = Script(process, token, time.monotonic())
    try:
        yield running
    finally:
        for pid, command in running.processes().items():
            if "resource_tracker" not in command:  # it removes semaphores when all others are gone
                kill(pid)
        process.communicate()


def run_script(folder: Path, source: str, *arguments: str, **environment: str | None) -> Script:
    """Run a script to its end; nothing may be left of it."""
    with script(folder, source, *arguments, **environment) as running:
        running.finish()
        assert running.nothing_is_left(), (running.processes(), running.shm_names(), running.err)
    return running


@contextmanager
def started(*line: str) -> Iterator[subprocess.Popen[str]]:
    """The command line as a program, in a session of its own, where no signal is ignored."""
    with _no_signal_ignored():
        run = subprocess.Popen(
            [sys.executable, "-m", "codedmap", *line],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    with run:
        try:
            yield run
        finally:
            if run.poll() is None:
                run.kill()


@contextmanager
def _no_signal_ignored() -> Iterator[None]:
    """Where tests run in the background, or by nohup, programs that they start would ignore signals, too."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Send a signal to a process that may be gone."""
    if alive(pid):
        os.kill(pid, number)


# What workers run.


def same(value: Any) -> Any:
    return value


def who(_: Any) -> tuple[int, int]:
    """Which worker computes this."""
    return os.getpid(), threading.get_ident()


def pid(_: Any = None) -> int:
    return os.getpid()


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def straggle(begun: str | Path) -> None:
    """Say so, then answer not within a minute."""
    Path(begun).touch()
    time.sleep(60)


def hold(folder: Path) -> bool:
    """Occupy the worker until there is a file ``go on``."""
    (folder / f"begun {os.getpid()} {threading.get_ident()}").touch()
    while not (folder / "go on").exists():
        time.sleep(0.01)
    return True


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def _environment(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/environ").read_text(errors="replace")
    except OSError:
        return ""


def _is_servant(pid: int) -> bool:
    command = _command(pid)
    return any(f"multiprocessing.{name} " in command for name in ("forkserver", "resource_tracker"))
