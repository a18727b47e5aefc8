"""CPU quota and freezing of processes with cgroups of version 1 or 2; needs root."""

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
        return f"no {controller} cgroup can be created: {error}"
    return None


def no_quota() -> str | None:
    """The reason why no CPU quota can be set on this machine, or None."""
    reason = _missing("cpu")
    if reason is None:
        try:
            _limit(_folder("cpu"))
        except OSError as error:
            reason = f"no CPU quota can be set: {error}"
    _discard("cpu")
    return reason


def no_freezer() -> str | None:
    """The reason why no process can be frozen on this machine, or None."""
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
    """Limit this process, or ``pids``, to a tenth of a core, shared with all processes limited here.

    ``owner`` is the process whose group is used, by default this one.
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
    """Freeze this process, or ``pids``, until the owner calls `thaw`; frozen processes cannot be killed."""
    folder = _folder("freezer", owner)
    folder.mkdir(exist_ok=True)
    _move(pids or [os.getpid()], folder)
    if _modern():
        (folder / "cgroup.freeze").write_text("1")
    else:
        (folder / "freezer.state").write_text("FROZEN")


def thaw() -> None:
    """Let all frozen processes run again."""
    folder = _folder("freezer")
    if not folder.exists():
        return
    name, state = ("cgroup.freeze", "0") if _modern() else ("freezer.state", "THAWED")
    (folder / name).write_text(state)
    _move((folder / "cgroup.procs").read_text().split(), folder.parent)


def _move(pids: Iterable[int | str], folder: Path) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):  # the process has ended
            (folder / "cgroup.procs").write_text(str(pid))


def remove() -> None:
    """Remove the groups if they are empty."""
    thaw()
    for controller in ("cpu", "freezer"):
        _discard(controller)


def _discard(controller: str) -> None:
    with suppress(OSError):  # not empty, or does not exist
        _folder(controller).rmdir()
