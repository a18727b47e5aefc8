"""What workers run in the contract tests of engines.

Workers import this module for it: that of the tests would take each of them half a second.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..processes import eventually, who

STRAGGLER = 150.0
"""Seconds that a straggler takes; nothing may wait for one."""


@dataclass(frozen=True)
class Held:
    fn: Callable[[Any], Any]
    path: Path

    def __call__(self, payload: Any) -> Any:
        assert eventually(self.path.exists, STRAGGLER)
        return self.fn(payload)


def told_to_end(_: Any) -> None:
    """What a machine that is being taken back tells its processes, in the middle of a call."""
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STRAGGLER)


class Unlucky(Exception):
    def __init__(self, number: int, reason: str) -> None:
        super().__init__(number, reason)
        self.number = number


def raise_unlucky(number):
    raise Unlucky(number, "a bug in fn")


@dataclass(frozen=True)
class Counting:
    """Writes a byte into a file for each call."""

    path: Path

    def __call__(self, payload: Any) -> Any:
        with self.path.open("ab", buffering=0) as file:
            file.write(b".")
        return payload

    @property
    def calls(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0


@dataclass(frozen=True)
class Logging:
    """Notes when a call begins and when it ends."""

    path: Path

    def __call__(self, payload: int) -> None:
        for word in ("begin", "end"):
            with self.path.open("a") as file:
                file.write(f"{word} {payload}\n")
            time.sleep(0.02)


def bump(counter):
    counter.append(len(counter))
    return len(counter)


class Opened:
    """Writes a byte into a file whenever it is unpickled."""

    def __init__(self, count: Counting) -> None:
        self.count = count

    def __reduce__(self) -> tuple[Any, ...]:
        return open_counted, (self.count,)

    def __call__(self, payload: Any) -> Any:
        return payload + 1


def open_counted(count: Counting) -> Opened:
    count(None)
    return Opened(count)


@dataclass(frozen=True)
class SetUp:
    """Notes each worker that it sets up, and fails there if it is to."""

    path: Path
    error: Exception | None = None

    def __call__(self) -> None:
        with self.path.open("a") as file:
            file.write(f"{who(None)}\n")
        if self.error is not None:
            raise self.error

    def done(self) -> list[str]:
        return self.path.read_text().splitlines() if self.path.exists() else []


@dataclass(frozen=True)
class EndsFirst:
    """Ends the first worker that it sets up."""

    path: Path

    def __call__(self) -> None:
        if not self.path.exists():
            self.path.touch()
            os.kill(os.getpid(), signal.SIGKILL)


def who_is_there() -> None:
    """A setup."""
