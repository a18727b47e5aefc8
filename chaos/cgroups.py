"""Processes on a tenth of a CPU, or on ice; cgroups of version 1 or 2, as root."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["freeze", "no_freezer", "no_quota", "remove", "starved", "thaw"]

ROOT = Path("/sys/fs/cgroup")
NAME = "codedmap-chaos"
PERIOD, SHARE = 100_000, 0.1


def _modern() -> bool:
    return (ROOT / "cgroup.controllers").exists()


def _folder(controller: str, owner: int | None = None) -> Path:
    root = ROOT if _modern() else ROOT / controller
    return root / f"{NAME}-{owner or os.getpid()}-{controller}"


def _missing(controller: str) -> str | None:
    try:
        _folder(controller).mkdir(exist_ok=True)
        parent = _folder(controller).parent
        if _modern() and controller == "cpu":
            (parent / "cgroup.subtree_control").write_text("+cpu")
    except OSError as error:
        return f"no {controller} cgroup can be made here: {error}"
    return None


def no_quota() -> str | None:
    """Why no CPU quota can be set here, or None."""
    reason = _missing("cpu")
    if reason is None:
        try:
            _limit(_folder("cpu"))
        except OSError as error:
            reason = f"no CPU quota can be set here: {error}"
    _discard("cpu")
    return reason


def no_freezer() -> str | None:
    """Why nothing can be frozen here, or None."""
    reason = _missing("freezer")
    _discard("freezer")
    return reason


def _limit(folder: Path) -> None:
    quota = int(SHARE * PERIOD)
    if _modern():
        (folder / "cpu.max").write_text(f"{quota} {PERIOD}")
    else:
        (folder / "cpu.cfs_period_us").write_text(str(PERIOD))
        (folder / "cpu.cfs_quota_us").write_text(str(quota))


@contextmanager
def starved(pids: Collection[int] = (), *, owner: int | None = None) -> Iterator[None]:
    """Have, or let others have, a tenth of a core in all, with whoever else this process starves.

    A process that starves itself for another says for which.
    """
    folder = _folder("cpu", owner)
    folder.mkdir(exist_ok=True)
    _limit(folder)
    _move(pids or [os.getpid()], folder)
    try:
        yield
    finally:
        _move(pids or [os.getpid()], folder.parent)


def freeze(pids: Collection[int] = (), *, owner: int | None = None) -> None:
    """Stop, or stop others, until this process, or the owner, calls `thaw`; nor does a kill reach them."""
    folder = _folder("freezer", owner)
    folder.mkdir(exist_ok=True)
    _move(pids or [os.getpid()], folder)
    if _modern():
        (folder / "cgroup.freeze").write_text("1")
    else:
        (folder / "freezer.state").write_text("FROZEN")


def thaw() -> None:
    """All go on that were frozen."""
    folder = _folder("freezer")
    if not folder.exists():
        return
    name, state = ("cgroup.freeze", "0") if _modern() else ("freezer.state", "THAWED")
    (folder / name).write_text(state)
    _move((folder / "cgroup.procs").read_text().split(), folder.parent)


def _move(pids: Iterable[int | str], folder: Path) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):  # it has ended
            (folder / "cgroup.procs").write_text(str(pid))


def remove() -> None:
    """Take the groups away again, if nobody is in them."""
    thaw()
    for controller in ("cpu", "freezer"):
        _discard(controller)


def _discard(controller: str) -> None:
    with suppress(OSError):  # somebody is in it, or it does not exist
        _folder(controller).rmdir()
