"""Clusters for tests, started as users start them: from the command line, on loopback only."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .processes import APART, alive, children, eventually

ROOT = Path(__file__).parents[1]
START = 60.0
"""Seconds within which a cluster stands, on a machine however busy."""


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
    with command(folder, "dask", "scheduler", *where, "--scheduler-file", str(file)):
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
    # Nannies that fork from a server start a worker in a tenth of the time.
    quick = {"DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD": "forkserver"}
    with command(folder, "dask", "worker", address, *where, *count, *options, **quick) as process:
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
        with command(folder, "ray", "start", "--head", "--block", *words):
            assert eventually(lambda: file.exists() and file.read_text(), START)
            yield file.read_text()
