"""What the workers of the benchmark `rows` run: functions of one row that are slow, late, or end their worker.

Imports only the standard library, so that no engine waits for more.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Faulty", "Spin", "answer", "calls", "continue_stopped", "unended", "work"]


def answer(row: int) -> float:
    """What every function here returns for a row."""
    return 2.0 * row + 1.0


def work(seconds: float, *, computing: bool) -> None:
    """Sleep, or compute for so many seconds of processor time."""
    if not computing:
        time.sleep(seconds)
        return
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


@dataclass(frozen=True)
class Spin:
    """Compute for the same time for each row."""

    seconds: float

    def __call__(self, row: float) -> float:
        """The answer of a row."""
        work(self.seconds, computing=True)
        return answer(int(row))


@dataclass(frozen=True, kw_only=True)
class Faulty:
    """A function with faults; notes every call in a folder.

    What a call draws depends on the row and on how many calls of the row have begun before, so that
    the first calls of a row are the same on all engines.
    """

    folder: str
    seconds: tuple[float, ...]
    """By row."""
    seed: int = 0
    computing: bool = False
    slow: float = 1.0
    """How many times as long the worker takes that begins the first call."""
    stopping: int | None = None
    """The row whose first call stops its worker."""
    killing: float = 0.0
    """Share of the calls that kill their worker halfway."""
    late: float = 0.0
    """Share of the calls that take longer,"""
    late_by: float = 3.0
    """by so many seconds."""
    raising: frozenset[int] = field(default=frozenset())
    crashing: frozenset[int] = field(default=frozenset())
    """Rows that cause a segmentation fault."""

    def __call__(self, row: float) -> float:
        """The answer of a row."""
        row = int(row)
        mark = self._begin(row)
        try:
            return self._answer(row, mark)
        finally:
            with contextlib.suppress(OSError):  # the run may be over, and its folder gone
                Path(f"{mark}.ended").symlink_to("ended")

    def _answer(self, row: int, mark: str) -> float:
        drawn = random.Random(f"{self.seed} {Path(mark).name}")
        seconds = self.seconds[row]
        if drawn.random() < self.late:
            seconds += self.late_by
        if self.slow > 1 and self._first_worker():
            seconds *= self.slow
        if row == self.stopping and _claimed(f"{self.folder}/stopped"):
            os.kill(os.getpid(), signal.SIGSTOP)
        if row in self.raising:
            raise ValueError(f"no answer for row {row}")
        if row in self.crashing:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            os.kill(os.getpid(), signal.SIGSEGV)
        if drawn.random() < self.killing:
            work(seconds / 2, computing=self.computing)
            os.kill(os.getpid(), signal.SIGKILL)
        work(seconds, computing=self.computing)
        return answer(row)

    def _begin(self, row: int) -> str:
        number = 0
        while not _claimed(mark := f"{self.folder}/{row}.{number}"):
            number += 1
        return mark

    def _first_worker(self) -> bool:
        path = f"{self.folder}/slow"
        return _claimed(path) or _claimant(path) == os.getpid()


def _claimed(path: str) -> bool:
    """Claim a path for this process; one of several processes at most succeeds."""
    try:
        Path(path).symlink_to(str(os.getpid()))
    except FileExistsError:
        return False
    return True


def _claimant(path: str) -> int:
    """The process that has claimed a path."""
    return int(Path(path).readlink().name)


def calls(folder: str) -> int:
    """How many calls have begun."""
    return sum(path.name.count(".") == 1 for path in Path(folder).iterdir())


def unended(folder: str) -> bool:
    """Whether calls still run in processes that live."""
    names = {path.name for path in Path(folder).iterdir()}
    begun = [n for n in names if n.count(".") == 1 and f"{n}.ended" not in names]
    return any(_state(_claimant(f"{folder}/{name}")) not in "ZX" for name in begun)


def continue_stopped(folder: str) -> None:
    """Let the worker that was stopped go on, if it still exists."""
    with contextlib.suppress(OSError):
        pid = _claimant(f"{folder}/stopped")
        if _state(pid) == "T":
            os.kill(pid, signal.SIGCONT)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"
