"""Faults of a worker during a call; every fault happens in the worker process itself."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from . import cgroups

__all__ = ["FAULTS", "Fault", "PLAUSIBLE"]

Answer = Callable[[np.ndarray], np.ndarray]

LONG = 60.0
"""Seconds that a straggler takes, longer than any deadline here."""
WORK = 0.05
"""Seconds of computation of a worker with a CPU quota."""
SPARE = 64 << 20
"""Bytes that a worker may still allocate before it runs out of memory."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of fault."""

    name: str
    run: Callable[[Answer, np.ndarray], Any]
    """Runs in the worker instead of ``fn(payload)``."""
    outlier: bool = False
    """True if the fault returns a finite wrong answer of the right shape."""
    unavailable: Callable[[], str | None] = lambda: None
    """The reason why it cannot run on this machine, or None."""


def _killed(fn: Answer, payload: np.ndarray) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def _crashes(fn: Answer, payload: np.ndarray) -> Any:
    ctypes.string_at(0)


def _exits(fn: Answer, payload: np.ndarray) -> Any:
    os._exit(0)


def _stopped(fn: Answer, payload: np.ndarray) -> Any:
    os.kill(os.getpid(), signal.SIGSTOP)
    return fn(payload)


def _frozen(fn: Answer, payload: np.ndarray, *, owner: int) -> Any:
    cgroups.freeze(owner=owner)
    return fn(payload)


def _late(fn: Answer, payload: np.ndarray) -> Any:
    time.sleep(LONG)
    return fn(payload)


def _deaf(fn: Answer, payload: np.ndarray) -> Any:
    # Holds the interpreter lock in C, so no signal handler of Python runs.
    ctypes.PyDLL(None).sleep(int(LONG))
    return fn(payload)


def _starved(fn: Answer, payload: np.ndarray, *, owner: int) -> Any:
    with cgroups.starved(owner=owner):
        until = time.thread_time() + WORK
        while time.thread_time() < until:
            answer = fn(payload)
        return answer


def _raises(fn: Answer, payload: np.ndarray) -> Any:
    raise ValueError("the function cannot compute this row")


def _out_of_memory(fn: Answer, payload: np.ndarray) -> Any:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
        taken = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + SPARE, hard))
    try:
        return fn(payload) + np.ones(4 * SPARE).sum()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _other_shape(fn: Answer, payload: np.ndarray) -> Any:
    return fn(payload)[:, :1]


def _nan(fn: Answer, payload: np.ndarray) -> Any:
    answer = fn(payload).copy()
    answer[:, 0] = np.nan
    return answer


def _noise(fn: Answer, payload: np.ndarray) -> Any:
    answer = fn(payload)
    return np.random.default_rng().normal(scale=10.0, size=answer.shape)


def _flipped(fn: Answer, payload: np.ndarray) -> Any:
    return -fn(payload)


def _constant(fn: Answer, payload: np.ndarray) -> Any:
    return np.full_like(fn(payload), 3.0)


def _plausible(fn: Answer, payload: np.ndarray) -> Any:
    return fn(payload) + 0.05


PLAUSIBLE = Fault("answers with a small bias", _plausible, outlier=True)
"""A fault that cannot be found reliably without a second answer to the same input."""

FAULTS = (
    Fault("killed (SIGKILL)", _killed),
    Fault("crashes (SIGSEGV)", _crashes),
    Fault("exits (exit code 0)", _exits),
    Fault("hangs (SIGSTOP)", _stopped),
    Fault(
        "frozen (cgroup freezer)",
        partial(_frozen, owner=os.getpid()),
        unavailable=cgroups.no_freezer,
    ),
    Fault("sleeps for a minute", _late),
    Fault("sleeps in C, holding the interpreter lock", _deaf),
    Fault(
        "has a tenth of its CPU (cgroup quota)",
        partial(_starved, owner=os.getpid()),
        unavailable=cgroups.no_quota,
    ),
    Fault("raises", _raises),
    Fault("runs out of memory (RLIMIT_AS)", _out_of_memory),
    Fault("answers in another shape", _other_shape),
    Fault("answers NaN", _nan),
    Fault("answers noise", _noise, outlier=True),
    Fault("answers with the sign flipped", _flipped, outlier=True),
    Fault("answers a constant", _constant, outlier=True),
    PLAUSIBLE,
)
