"""Ends what a worker has started; also a program, for a worker whose caller was killed."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Collection
from pathlib import Path

MARK = "CODEDMAP_WORKER"
"""A variable in the environment of all that a worker starts."""
_PROC = Path("/proc")


def end_descendants(name: str, pids: Collection[int] = ()) -> None:
    """Kill all descendants of these processes, and all processes whose mark begins with this name.

    A process in a session of its own is still a descendant of the one that started it, until that one ends; then it is
    found by its mark. Does nothing where there is no ``/proc``.
    """
    marked = f"\0{MARK}={name}".encode()
    children: dict[int, list[int]] = {}
    found = []
    entries: list[Path] = []
    with contextlib.suppress(OSError):  # too many open files: found when the engine is closed
        entries = list(_PROC.glob("[0-9]*"))
    for entry in entries:
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            parent = int((entry / "stat").read_bytes().rpartition(b")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
            if marked in b"\0" + (entry / "environ").read_bytes():
                found.append(int(entry.name))
    for pid in pids:
        found += children.get(pid, ())
    for pid in found:  # which grows
        found += children.pop(pid, ())
    for pid in set(found) - {os.getpid()}:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    end_descendants(sys.argv[1], [os.getpid()])
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
