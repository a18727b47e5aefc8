"""Room for worker processes among all that this system takes, and in its memory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from ..contracts.memory import free_memory
from ..errors import EngineError

resource: ModuleType | None
try:
    import resource
except ImportError:  # Windows has neither the module nor the limit
    resource = None

__all__ = ["check_room"]

_ROOT = Path("/")
_WORKER = 5  # its process with a thread that watches the caller, and three threads in the caller
_LEAST = 4 << 20  # bytes of a worker's own, before it has loaded anything


def check_room(workers: int) -> None:
    """See that the system can have so many workers at all.

    Raises
    ------
    EngineError
        If it cannot, as far as is known.
    """
    room, what = min(_rooms(), default=(workers, ""))
    if room < workers:
        fewer = f"use at most {room} workers" if room else "there is no room for one"
        raise EngineError(f"{workers} workers need {what}: {fewer}, or make more room")


def _rooms() -> Iterator[tuple[int, str]]:
    """How many workers each limit has room for, and what they need and the limit is, in words."""
    each = f"{_WORKER} processes and threads each, and "
    for left, limit, name in _limits():
        yield (
            max(0, left) // _WORKER,
            f"{each}{name} allows {limit}, {max(0, left)} more than there are",
        )
    if resource is not None and hasattr(os, "geteuid") and os.geteuid() != 0:
        soft = resource.getrlimit(resource.RLIMIT_NPROC)[0]
        if soft != resource.RLIM_INFINITY:
            yield soft // _WORKER, f"{each}each user may have {soft} (`ulimit -u`)"
    free = free_memory()
    if free is not None:
        yield free // _LEAST, f"{_LEAST >> 20} MB of memory each, and {free >> 20:,} MB are free"


def _limits() -> Iterator[tuple[int, int, str]]:
    """What is left of a number of processes and threads, that number, and who sets it."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        there = int((_ROOT / "proc/loadavg").read_text().split()[3].partition("/")[2])
        for name in ("threads-max", "pid_max"):
            path = Path("/proc/sys/kernel", name)
            with contextlib.suppress(OSError, ValueError):
                limit = int((_ROOT / path.relative_to("/")).read_text())
                yield limit - there, limit, str(path)
    for folder in _groups():
        with contextlib.suppress(OSError, ValueError):  # no such group, or "max"
            limit = int((_ROOT / folder / "pids.max").read_text())
            there = int((_ROOT / folder / "pids.current").read_text())
            yield limit - there, limit, f"the control group (/{folder}/pids.max)"


def _groups() -> Iterator[Path]:
    """Folders of the control groups that hold this process, and of those that hold them."""
    found = {Path("sys/fs/cgroup"), Path("sys/fs/cgroup/pids")}
    with contextlib.suppress(OSError, ValueError):
        for line in (_ROOT / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "" or "pids" in controllers.split(","):
                base = Path("sys/fs/cgroup", "pids" if controllers else "")
                group = Path(path.lstrip("/"))
                found |= {base / one for one in (group, *group.parents)}
    yield from sorted(found)
