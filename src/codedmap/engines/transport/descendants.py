"""Ends the descendants of workers and removes their files; also a program, for a worker whose caller was killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path

MARK = "CODEDMAP_WORKER"
"""An environment variable of a worker and its descendants, which holds the worker's name."""
SHARED = Path("/dev/shm")
"""The folder of shared segments, whose names begin with `segments_of` the process that has the engine."""
_PROC = Path("/proc")
_SEARCHES = 5  # most searches for descendants: threads of the caller may go on to start others


def segments_of(pid: int) -> str:
    """The beginning of the names of shared segments of all engines of a process.

    It holds the process's namespace, because containers that share memory may number their processes alike.
    """
    numbers = 0
    with contextlib.suppress(OSError):  # not Linux
        numbers = (_PROC / "self/ns/pid").stat().st_ino
    return f"codedmap-{pid}-{numbers}-"


def discard_all(*prefixes: str) -> None:
    """Remove all segments whose names begin with one of these."""
    for path in SHARED.glob("codedmap-*"):
        if path.name.startswith(prefixes):
            path.unlink(missing_ok=True)


def discard_of(*pids: int) -> None:
    """Remove what ended processes have left: segments as callers, those of joblib, whose tracker has ended too, and the
    directories of programs that they ran (`codedmap.command`).
    """
    begins = tuple(map(segments_of, pids))
    discard_all(*begins)
    with contextlib.suppress(OSError):  # there is no such folder
        for path in Path(tempfile.gettempdir()).glob("codedmap-*"):
            if path.name.startswith(begins):
                shutil.rmtree(path, ignore_errors=True)
    for pid in pids:
        for path in SHARED.glob(f"sem.loky-{pid}-*"):
            path.unlink(missing_ok=True)
        for path in SHARED.glob(f"joblib_memmapping_folder_{pid}_*"):
            shutil.rmtree(path, ignore_errors=True)


def end_descendants(*names: str, pids: Collection[int] = ()) -> None:
    """Kill all descendants of these processes, and all processes whose mark begins with a name; discard their segments.

    A process in a session of its own is a descendant of the process that started it until that one ends. From then on
    it is found by its mark. Does nothing where there is no ``/proc``.
    """
    marked = tuple(name.encode() for name in names)
    ended: dict[int, None] = {}
    # All are stopped first: a program whose child was killed would go on, and might answer without it. A search takes
    # tenths of a second among many processes; the next one finds what they have started meanwhile.
    for _ in range(_SEARCHES):
        new = [pid for pid in _found(marked, {*pids, *ended}) if pid not in ended]
        if not new:
            break
        _send(new, signal.SIGSTOP)
        ended |= dict.fromkeys(new)
    if ended:
        _send(ended, signal.SIGKILL)
        discard_of(*ended)


def _found(marked: tuple[bytes, ...], pids: Collection[int]) -> list[int]:
    """The marked processes, their descendants, and those of ``pids``."""
    children: dict[int, list[int]] = {}
    found = []
    entries: list[Path] = []
    with contextlib.suppress(OSError):  # too many open files: found when the engine is closed
        entries = list(_PROC.glob("[0-9]*"))
    for entry in entries:
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            parent = int((entry / "stat").read_bytes().rpartition(b")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
            environ = b"\0" + (entry / "environ").read_bytes()
            if environ.partition(f"\0{MARK}=".encode())[2].startswith(marked):
                found.append(int(entry.name))
    for pid in pids:
        found += children.get(pid, ())
    for pid in found:  # the list grows meanwhile
        found += children.pop(pid, ())
    return [pid for pid in dict.fromkeys(found) if pid != os.getpid()]


def _send(pids: Collection[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, number)


if __name__ == "__main__":
    end_descendants(sys.argv[1], pids=[os.getpid()])
    discard_all(sys.argv[1].partition(":")[0])
    discard_of(os.getpid())
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
