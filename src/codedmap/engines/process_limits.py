"""The system's limits of worker processes: open files, processes and threads, memory."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from ..contracts.memory import free_memory, group_limits, size
from ..errors import EngineError, many

resource: ModuleType | None
try:
    import resource
except ImportError:  # Windows has neither the module nor the limits
    resource = None

_ROOT = Path("/")
_FILES = 5  # open files for a worker: four while it lives, and one for an answer that is opened
_OTHER_FILES = 32  # files that are open for a moment only, such as payloads being written
_UNKNOWN_FILES = 64  # files that are assumed to be open if their number cannot be read
_THREADS = 2  # threads of a worker: its own, and one that watches the caller
_MEMORY = 4_000_000  # bytes of a worker before it has loaded anything


def allow_open_files(workers: int) -> None:
    """Raise the soft limit of open files if so many workers need it; `EngineError` if the hard limit does not allow it."""
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = _open_files()
    least = opened + _FILES * workers + _OTHER_FILES
    # All workers may be replaced at once, before the old ones have ended.
    wanted = least + _FILES * workers
    unlimited = resource.RLIM_INFINITY
    if soft == unlimited or soft >= wanted:
        return
    for limit in (wanted, least) if hard == unlimited else (min(wanted, hard),):
        with contextlib.suppress(OSError, ValueError):  # the system has a limit of its own
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, limit), hard))
            _limit_fork_server(max(soft, limit), hard)
            break
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if allowed != unlimited and allowed < least:
        fewer = (allowed - opened - _OTHER_FILES) // _FILES
        raise EngineError(
            f"{many(workers, 'worker')} would need {_FILES * workers + _OTHER_FILES} open files, {_FILES} each and "
            f"{_OTHER_FILES} besides, and this process may open {allowed}, of which {opened} are in use: allow "
            f"more (`ulimit -n {least}` before it is started)"
            + (f", or use at most {many(fewer, 'worker')}" if fewer > 0 else "")
        )


def check_process_limits(workers: int, memory: int | None = None) -> None:
    """Raise `EngineError` if limits of processes, threads or memory are too low for workers of ``memory`` bytes each."""
    most, needs = min(_capacities(memory or _MEMORY), default=(workers, ""))
    if most < workers:
        fewer = f"use at most {many(most, 'worker')}, or make more room"
        step = fewer if most else "make room for at least one"
        raise EngineError(f"{many(workers, 'worker')} would need {needs}: {step}")


def limit_memory(most: int) -> None:
    """Let this process allocate so many bytes at most; more raises `MemoryError`. Shared memory does not count."""
    if resource is not None:
        resource.setrlimit(
            resource.RLIMIT_DATA, (most, resource.getrlimit(resource.RLIMIT_DATA)[1])
        )


def _limit_fork_server(soft: int, hard: int) -> None:
    # The fork server holds one end of a pipe for each worker, and keeps its old limit if it runs already.
    server = getattr(sys.modules.get("multiprocessing.forkserver"), "_forkserver", None)
    pid = getattr(server, "_forkserver_pid", None)
    if pid is not None and resource is not None and hasattr(resource, "prlimit"):
        with contextlib.suppress(OSError, ValueError):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


def _open_files() -> int:
    for folder in ("/proc/self/fd", "/dev/fd"):
        with contextlib.suppress(OSError):
            return len(os.listdir(folder))  # noqa: PTH208
    return _UNKNOWN_FILES


def _capacities(memory: int = _MEMORY) -> Iterator[tuple[int, str]]:
    """For each limit: how many workers it allows, and in words what they need and what it allows."""
    each = f"{_THREADS} processes and threads each, and "
    found = [
        (limit - used, limit, f"the control group (/{file})")
        for limit, used, file in group_limits("pids", _ROOT)
    ]
    with contextlib.suppress(OSError, ValueError, IndexError):
        used = int((_ROOT / "proc/loadavg").read_text("utf-8").split()[3].partition("/")[2])
        for name in ("threads-max", "pid_max"):
            path = Path("/proc/sys/kernel", name)
            with contextlib.suppress(OSError, ValueError):
                limit = int((_ROOT / path.relative_to("/")).read_text("utf-8"))
                found.append((limit - used, limit, str(path)))
    for left, limit, where in found:
        yield (
            max(0, left) // _THREADS,
            f"{each}{where} allows {limit}, {max(0, left)} more than there are",
        )
    if resource is not None and hasattr(os, "geteuid") and os.geteuid() != 0:
        soft = resource.getrlimit(resource.RLIMIT_NPROC)[0]
        if soft != resource.RLIM_INFINITY:
            yield soft // _THREADS, f"{each}each user may have {soft} (`ulimit -u`)"
    free = free_memory()
    if free is not None:
        yield free // memory, f"{size(memory)} of memory each, and {size(free)} are free"
