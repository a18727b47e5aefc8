"""Room for the pipes and sockets of worker processes among the files that this process may open."""

from __future__ import annotations

import contextlib
import os
import sys
from types import ModuleType

from ..errors import EngineError

resource: ModuleType | None
try:
    import resource
except ImportError:  # Windows has neither the module nor the limit
    resource = None

__all__ = ["make_room"]

_WORKER = 8  # seven while it lives, and its last answer in shared memory
_BESIDES = 32  # what is open for a moment only, such as payloads being written
_UNKNOWN = 64  # open already, where nobody can tell


def make_room(workers: int) -> None:
    """See that so many workers can be started, and raise the soft limit if need be and allowed.

    Raises
    ------
    EngineError
        If the hard limit does not allow it.
    """
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = _opened()
    least = opened + _WORKER * workers + _BESIDES
    # All of them may be replaced at once, the old ones not having ended yet.
    wanted = least + _WORKER * workers
    endless = resource.RLIM_INFINITY
    if soft == endless or soft >= wanted:
        return
    for limit in (wanted, least) if hard == endless else (min(wanted, hard),):
        with contextlib.suppress(OSError, ValueError):  # the system has a limit of its own
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, limit), hard))
            _tell_fork_server(max(soft, limit), hard)
            break
    may = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if may != endless and may < least:
        fewer = (may - opened - _BESIDES) // _WORKER
        raise EngineError(
            f"{workers} workers need {_WORKER * workers + _BESIDES} open files, {_WORKER} each and "
            f"{_BESIDES} besides, and this process may open {may}, of which {opened} are in use: allow "
            f"more (`ulimit -n {least}` before it is started), or use "
            + (f"at most {fewer} workers" if fewer > 0 else "fewer workers")
        )


def _tell_fork_server(soft: int, hard: int) -> None:
    # One that was started before has the limit of then, and an end of a pipe for each worker.
    server = getattr(sys.modules.get("multiprocessing.forkserver"), "_forkserver", None)
    pid = getattr(server, "_forkserver_pid", None)
    if pid is not None and resource is not None and hasattr(resource, "prlimit"):
        with contextlib.suppress(OSError, ValueError):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


def _opened() -> int:
    for folder in ("/proc/self/fd", "/dev/fd"):
        with contextlib.suppress(OSError):
            return len(os.listdir(folder))  # noqa: PTH208
    return _UNKNOWN
