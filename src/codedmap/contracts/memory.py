"""How much memory is free, so that what cannot fit is refused before it begins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..errors import NotEnoughMemory
from .control_groups import group_limits

_LITTLE = 32 << 20  # finding out what is free takes longer than many a small job
_EACH = 100  # bytes held of each worker and task at least: its number, point, payload and call


def free_memory() -> int | None:
    """Bytes that this process may still use: the machine's, or its control group's; None if unknown."""
    known = [max(0, group.limit - group.used) for group in group_limits("memory")]
    machine = _machine()
    return min(known if machine is None else [*known, machine], default=None)


def check_room(needed: int, what: str, remedy: str) -> None:
    """Raise `NotEnoughMemory` if this many bytes are not free; ``what`` (plural) takes them, ``remedy`` is a sentence."""
    free = _lacking(needed)
    if free is not None:
        raise NotEnoughMemory(
            f"{what} take {_size(needed)}, but only {_size(free)} are free. {remedy}"
        )


def check_counts(workers: int, tasks: int = 0) -> None:
    """Raise `NotEnoughMemory` if a code has more workers and tasks than could be listed.

    Every code calls it when it is made. What they are sent and answer is not known then.
    """
    counted = f"{workers} workers" + (f" and {tasks} tasks" if tasks else "")
    remedy = "Use fewer of them" if tasks else "Use fewer"
    check_room(_EACH * (workers + tasks), f"{counted}, {_EACH} bytes each at least,", remedy)


def check_memory(rows: int, row: int, tasks: int, workers: int) -> None:
    """Raise `NotEnoughMemory` if payloads for rows of ``row`` bytes, in groups of K, and their transport exceed what is free."""
    groups = -(-rows // tasks)
    lacking = tasks * groups - rows
    check_room(
        row * tasks * min(lacking, groups),
        f"groups of K = {tasks} tasks, filled up where {lacking} rows are lacking,",
        "Use a code of fewer tasks",
    )
    check_room(
        row * workers * groups * (2 if workers > tasks else 1),
        f"{workers} payloads for groups of K = {tasks}, N/K = {workers / tasks:.2f} times the inputs' "
        f"{_size(row * rows)}, with what is on its way to the workers",
        "Call map on fewer rows at a time, with chunk=100 say, or cast them to float32",
    )


def check_parts(held: int, parts: int, workers: int) -> None:
    """Raise `NotEnoughMemory` if ``held`` bytes on N workers here, of ``parts`` bytes in all, and their transport do not fit."""
    check_room(
        2 * held,
        f"{workers} workers on this machine, which keep {held / max(parts, 1):.2f} times the parts' {_size(parts)}, "
        "with as much on its way to them",
        "Let each part be what fn opens on the worker, such as a path or a range of rows of a file, allow fewer "
        "stragglers, or cast to float32",
    )


def check_blocks(nbytes: Callable[..., int], tasks: int, workers: int, *, sparse: bool) -> None:
    """Raise `NotEnoughMemory` if coded blocks, and their transport, exceed what is free.

    ``nbytes`` gives their bytes: with ``at_most=True`` an upper bound that is cheap, else at least.
    """
    if _lacking(2 * nbytes(at_most=True)) is None:
        return
    instead = (
        "Use Replication, whose blocks stay as sparse as the matrix is"
        if sparse
        else "Use fewer workers for as many tasks, or cast the matrix to float32"
    )
    coded = nbytes()
    check_room(
        2 * coded,
        f"{workers} coded blocks of a matrix cut into {tasks}, which take {_size(coded)}, and as much again on the way "
        "to the workers,",
        instead,
    )


def _lacking(needed: int) -> int | None:
    """What is free, if it is less than needed."""
    if needed < _LITTLE:
        return None
    free = free_memory()
    return None if free is None or needed <= free else free


def _machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _size(count: float) -> str:
    for unit in ("bytes", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"
