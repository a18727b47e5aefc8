"""Cores and memory that the machine and its control groups allow, so that what cannot fit is refused at once."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ..errors import NotEnoughMemory, many

_FOLDER = Path("sys/fs/cgroup")
_V1_FILES = {"memory": ("memory.limit_in_bytes", "memory.usage_in_bytes")}
"""Files of version 1 that are named otherwise than in version 2: the limit, and how much of it is used."""

_LITTLE = 32 << 20  # bytes that are not checked: to find what is free takes longer than small jobs
_EACH = 100  # least bytes for each worker and task: its number, point, payload and call


def group_limits(controller: str, root: Path = Path("/")) -> Iterator[tuple[int, int, Path]]:
    """The limit, the use and the file of the limit, for each control group around this process that has a limit.

    Files are below ``root``.
    """
    for folder, first_version in _groups(controller, root):
        files = f"{controller}.max", f"{controller}.current"
        limit, used = _V1_FILES.get(controller, files) if first_version else files
        with suppress(OSError, ValueError):  # no such group, or "max"
            yield (
                int((root / folder / limit).read_text("utf-8")),
                int((root / folder / used).read_text("utf-8")),
                folder / limit,
            )


def _groups(controller: str, root: Path) -> list[tuple[Path, bool]]:
    """The folders of the control groups around this process, and whether each is of version 1."""
    groups = {(_FOLDER, False), (_FOLDER / controller, True)}
    with suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text("utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "" or controller in controllers.split(","):
                base = _FOLDER / (controller if controllers else "")
                group = Path(path.lstrip("/"))
                groups |= {(base / name, bool(controllers)) for name in (group, *group.parents)}
    return sorted(groups)


def cores(root: Path = Path("/")) -> int:
    """Cores that this process may use, within the quotas of its control groups. Files are below ``root``."""
    known = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    allowed = [float(known or 1)]
    for folder, first_version in _groups("cpu", root):
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if first_version else ("cpu.max",)
        with suppress(OSError, ValueError):  # no such group, or "max"
            text = " ".join((root / folder / name).read_text("utf-8") for name in names)
            quota, period = map(int, text.split())
            if quota > 0 and period > 0:  # -1 is no limit
                allowed.append(quota / period)
    return math.ceil(min(allowed))


def free_memory(root: Path = Path("/")) -> int | None:
    """Bytes that are free on the machine, and in the control groups of this process; None if unknown. Files: below ``root``."""
    free: int | None = None
    with suppress(OSError, StopIteration):
        lines = (root / "proc/meminfo").read_text("utf-8").splitlines()
        available = next(line for line in lines if line.startswith("MemAvailable:"))
        free = int(available.split()[1]) * 1024
    for limit, used, file in group_limits("memory", root):
        left = limit - used
        if free is None or left < free:
            left += _cached(root / file.parent)
            free = max(0, left if free is None else min(left, free))
    return free


def _cached(group: Path) -> int:
    """Bytes of files that a control group caches in memory: they count as used, and are given up when needed."""
    with suppress(OSError, ValueError):
        pairs = map(str.split, (group / "memory.stat").read_text("utf-8").splitlines())
        found = {name: int(count) for name, count in pairs}
        lists = "inactive_file", "active_file"  # in version 1 without groups within it
        return sum(found.get(f"total_{name}", found.get(name, 0)) for name in lists)
    return 0


def check_room(needed: int, what: str, remedy: str) -> None:
    """Raise `NotEnoughMemory` if fewer bytes are free than ``what`` (plural) take; ``remedy`` is a sentence."""
    free = None if needed < _LITTLE else free_memory()
    if free is not None and needed > free:
        raise NotEnoughMemory(
            f"{what} take {size(needed)}, but only {size(free)} are free. {remedy}"
        )


def check_counts(workers: int, tasks: int = 0) -> None:
    """Raise `NotEnoughMemory` if a code has more workers and tasks than could be listed.

    Every code calls it when it is made. The sizes of payloads and answers are not known then.
    """
    counted = many(workers, "worker") + (f" and {many(tasks, 'task')}" if tasks else "")
    remedy = "Use fewer of them" if tasks else "Use fewer"
    check_room(_EACH * (workers + tasks), f"{counted}, {_EACH} bytes each at least,", remedy)


def check_memory(rows: int, row: int, tasks: int, workers: int) -> None:
    """Raise `NotEnoughMemory` if payloads and their transport would exceed what is free; a row has ``row`` bytes."""
    groups = -(-rows // tasks)
    filled = tasks * groups - rows
    check_room(
        row * tasks * min(filled, groups),
        f"groups of K = {tasks} tasks, filled up where {filled} rows are lacking,",
        "Use a code of fewer tasks",
    )
    check_room(
        row * workers * groups * (2 if workers > tasks else 1),
        f"{workers} payloads for groups of K = {tasks}, N/K = {workers / tasks:.2f} times the inputs' "
        f"{size(row * rows)}, with what is on its way to the workers",
        "Call map on fewer rows at a time, with chunk=100 say, or cast them to float32",
    )


def size(count: float) -> str:
    """A number of bytes in words."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"
