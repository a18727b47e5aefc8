"""Dask clusters started from the command line, each part as a separate program."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = [
    "START",
    "Scheduler",
    "alive",
    "below",
    "end",
    "eventually",
    "program",
    "scheduler",
    "workers",
]

ROOT = Path(__file__).parents[1]
START = 60.0
"""Seconds within which a program starts, even on a busy machine."""


@dataclass(frozen=True, slots=True)
class Scheduler:
    """A running Dask scheduler."""

    process: subprocess.Popen[bytes]
    address: str


@contextmanager
def program(
    folder: Path, *arguments: str, inside: int | None = None, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A program of this environment; it is ended together with all its descendants.

    If this process is killed, the program ends as well.

    Parameters
    ----------
    folder : Path
        Folder of its log.
    *arguments : str
    inside : int, optional
        A process in whose network namespace the program runs.
    **environment : str
        Environment variables in addition to those of this process.
    """
    enter = [] if inside is None else ["nsenter", "--net", "--target", str(inside)]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with (folder / "log.txt").open("ab") as log:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *enter, Path(sys.executable).parent / arguments[0], *arguments[1:]],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **environment},
        )  # fmt: skip
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a program and all its descendants."""
    pids = [process.pid, *below(process.pid)]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    eventually(lambda: not any(map(alive, pids)))


@contextmanager
def scheduler(
    folder: Path, host: str = "127.0.0.1", *, inside: int | None = None
) -> Iterator[Scheduler]:
    """A Dask scheduler."""
    file = folder / "scheduler.json"
    where = ("--host", host, "--port", "0", "--no-dashboard")
    arguments = ("dask", "scheduler", *where, "--scheduler-file", str(file))
    with program(folder, *arguments, inside=inside) as process:
        if not eventually(lambda: file.exists() and file.read_text(), START):
            raise RuntimeError(
                f"no scheduler after {START:g} s: {(folder / 'log.txt').read_text()}"
            )
        yield Scheduler(process, json.loads(file.read_text())["address"])


@contextmanager
def workers(
    folder: Path,
    address: str,
    *options: str,
    host: str = "127.0.0.1",
    inside: int | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """The command `dask worker`: one worker, or several with nannies, with one thread each."""
    where = ("--host", host, "--no-dashboard", "--local-directory", str(folder))
    small = ("--nthreads", "1", "--memory-limit", "0")
    # With a fork server nannies start workers much faster.
    quick = {"DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD": "forkserver"}
    arguments = ("dask", "worker", address, *where, *small, *options)
    with program(folder, *arguments, inside=inside, **quick) as process:
        yield process


def eventually(predicate: Callable[[], Any], seconds: float = 10.0) -> Any:
    """Poll the predicate until it is true; return its last value."""
    until = time.monotonic() + seconds
    while not (value := predicate()) and time.monotonic() < until:
        time.sleep(0.02)
    return value


def alive(pid: int) -> bool:
    """True if a process exists and has not ended."""
    return _stat(pid)[0] not in "ZX"


def below(pid: int) -> list[int]:
    """Living descendants of a process."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        state, parent = _stat(int(path.name))
        if state not in "ZX":
            parents.setdefault(parent, []).append(int(path.name))

    def walk(one: int) -> Iterator[int]:
        for child in parents.get(one, ()):
            yield child
            yield from walk(child)

    return list(walk(pid))


def _stat(pid: int) -> tuple[str, int]:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "X", 0
    return fields[0], int(fields[1])
