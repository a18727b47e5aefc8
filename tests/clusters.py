"""Clusters for tests, started as users start them: from the command line, on loopback only."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

from .processes import APART, alive, children, eventually

T = TypeVar("T")
ROOT = Path(__file__).parents[1]
START = 60.0
"""Seconds within which a cluster stands, on a machine however busy."""
DASK = {
    # Nannies that fork from a server start a worker in a tenth of the time.
    "DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD": "forkserver",
    # An idle cluster of four workers takes 4 % of a core; where it profiles itself, 14 %.
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
    "DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": "500ms",
    "DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__INTERVAL": "5s",
}
"""Configuration of Dask, in the environment."""
RAY = {"RAY_prestart_worker_first_driver": "0", "RAY_enable_worker_prestart": "0"}
"""Configuration of Ray, in the environment: no worker starts that no test uses."""
_stack = ExitStack()
_standing: dict[str, object] = {}


def standing(name: str, start: Callable[[], AbstractContextManager[T]]) -> T:
    """What ``start`` gives, started once and shared by all tests that follow until `end_clusters`."""
    if name not in _standing:
        _standing[name] = _stack.enter_context(start())
    return _standing[name]


def end_clusters() -> None:
    """End all that stands, the last one first."""
    _standing.clear()
    _stack.close()


@contextmanager
def command(folder: Path, *arguments: str, **more: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program of the environment that these tests run in; ended with all that it has started.

    Its environment is ours and ``more``. If the tests are killed so is it, and what it has started ends when it finds it gone.
    """
    program = Path(sys.executable).parent / arguments[0]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", APART: "1", **more}
    with (folder / "log.txt").open("ab") as log:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", program, *arguments[1:]], stdout=log, stderr=log,
            env=environment, start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        below = set(children(process.pid))
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        process.kill()
        process.wait()
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: not any(map(alive, below)))


@contextmanager
def dask_scheduler(folder: Path) -> Iterator[str]:
    """A Dask scheduler; its address."""
    file = folder / "scheduler.json"
    where = ("--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0")
    with command(folder, "dask", "scheduler", *where, "--scheduler-file", str(file), **DASK):
        assert eventually(lambda: file.exists() and file.read_text(), START)
        yield json.loads(file.read_text())["address"]


@contextmanager
def dask_workers(
    folder: Path, address: str, workers: int, *options: str
) -> Iterator[subprocess.Popen[bytes]]:
    """So many Dask worker processes of one thread each."""
    where = (
        "--host",
        "127.0.0.1",
        "--dashboard-address",
        "127.0.0.1:0",
        "--local-directory",
        str(folder),
    )
    count = ("--nworkers", str(workers), "--nthreads", "1")
    with command(folder, "dask", "worker", address, *where, *count, *options, **DASK) as process:
        yield process


@contextmanager
def ray_head(folder: Path, cpus: int) -> Iterator[str]:
    """A Ray cluster of one node; its address."""
    # A path of its own, because that of tmp_path is too long for its sockets.
    with tempfile.TemporaryDirectory(prefix="ray") as temporary:
        file = Path(temporary) / "ray_current_cluster"
        options = {
            "port": 0, "num-cpus": cpus, "object-store-memory": 150 << 20, "temp-dir": temporary,
            "include-dashboard": "false", "include-log-monitor": "false",
        }  # fmt: skip
        words = [f"--{name}={value}" for name, value in options.items()]
        with command(folder, "ray", "start", "--head", "--block", *words, **RAY):
            assert eventually(lambda: file.exists() and file.read_text(), START)
            yield file.read_text()
