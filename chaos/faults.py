"""What can befall a worker in the middle of a call; every fault happens in the worker itself."""

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
"""Seconds that a straggler takes: longer than anybody waits."""
WORK = 0.05
"""Seconds of computing that a starved worker has to do."""
SPARE = 64 << 20
"""Bytes that a worker may still take when its memory runs out."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One way in which a call goes wrong."""

    name: str
    happens: Callable[[Answer, np.ndarray], Any]
    """In the worker, instead of ``fn(payload)``."""
    lies: bool = False
    """Whether a wrong answer comes that looks like one."""
    impossible: Callable[[], str | None] = lambda: None
    """Why it cannot be tried on this machine, or None."""


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
    raise ValueError("a worker met a row that it cannot compute")


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


PLAUSIBLE = Fault("answers a little wrong", _plausible, lies=True)
"""What nobody can be sure to find where there is no second answer to the same input."""

FAULTS = (
    Fault("killed (SIGKILL)", _killed),
    Fault("crashes (SIGSEGV)", _crashes),
    Fault("ends itself (exit code 0)", _exits),
    Fault("hangs (SIGSTOP)", _stopped),
    Fault(
        "frozen (cgroup freezer)",
        partial(_frozen, owner=os.getpid()),
        impossible=cgroups.no_freezer,
    ),
    Fault("sleeps for a minute", _late),
    Fault("sleeps in C with the interpreter locked", _deaf),
    Fault(
        "has a tenth of its CPU (cgroup quota)",
        partial(_starved, owner=os.getpid()),
        impossible=cgroups.no_quota,
    ),
    Fault("raises", _raises),
    Fault("runs out of memory (RLIMIT_AS)", _out_of_memory),
    Fault("answers in another shape", _other_shape),
    Fault("answers NaN", _nan),
    Fault("answers noise", _noise, lies=True),
    Fault("answers with the sign flipped", _flipped, lies=True),
    Fault("answers a constant", _constant, lies=True),
    PLAUSIBLE,
)
