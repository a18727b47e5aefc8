"""Time several calls in interleaved rounds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from .machine import cores

__all__ = ["Row", "Timings", "interleaved", "summary", "thread_counts", "threads"]

Row = dict[str, object]
"""One line of a table: column to value."""

_SAMPLE = 3e-3  # shorter calls are repeated within a sample, to exceed the resolution of the clock
_SHORT = 1e-2  # shorter calls are preceded by an untimed one, which fills the caches
_SLOW = 0.25  # longer calls take part in few rounds


@dataclass(frozen=True)
class Timings:
    """Seconds by name and round; NaN where a call took no part.

    Parameters
    ----------
    seconds : dict of str to ndarray, each (rounds,)
    skipped : dict of str to float
        Calls that were left out, and their time.
    """

    seconds: dict[str, np.ndarray]
    skipped: dict[str, float]

    def rows(self, case: Row, against: str, notes: Mapping[str, str] | None = None) -> list[Row]:
        """One row per call: median and quartiles in ms, and as a ratio to one of them.

        Ratios are taken within each round, in which the machine was in the same state for both calls.

        Parameters
        ----------
        case : dict
            Columns that come first.
        against : str
            The call whose ratio is 1.
        notes : mapping, optional
            Notes by call.
        """
        base = self.seconds[against]
        rows = []
        for name, seconds in self.seconds.items():
            row = {**case, "call": name, **summary("ms", seconds * 1e3)}
            row |= summary("ratio", seconds / base)
            row["rounds"] = took = int(np.isfinite(seconds).sum())
            row["note"] = (notes or {}).get(name, "")
            if took < len(seconds):
                row["note"] = f"{row['note']}, {took} rounds".removeprefix(", ")
            rows.append(row)
        for name, once in self.skipped.items():
            note = f"skipped: {once:.1f} s a run"
            rows.append({**case, "call": name, "note": note})
        return rows


def interleaved(
    calls: Mapping[str, Callable[[], object]],
    *,
    quick: bool = False,
    rounds: int = 31,
    few: int = 7,
    longest: float = 2.0,
    settle: float = 0.0,
) -> Timings:
    """Time calls in rounds, each in another random order.

    Calls shorter than a few milliseconds are repeated within a round, and their mean is taken. Calls
    longer than a quarter of a second take part in few rounds, calls longer than `longest` in none.
    The result of a call is kept until its time is taken, so that its output is fresh memory.

    Parameters
    ----------
    calls : mapping of str to callable
    quick : bool
        5 rounds.
    rounds : int
        Rounds of calls that are not slow.
    few : int
        Rounds of slow calls.
    longest : float
        Seconds.
    settle : float
        Seconds to wait before each sample, for background work of the previous one.
    """
    rounds = 5 if quick else rounds
    skipped, repeats, parts, warm = {}, {}, {}, {}
    for name, call in calls.items():
        once = _sample(call, 1)
        if once > longest:
            skipped[name] = once
            continue
        once = min(_sample(call, 1) for _ in range(2 if once > _SHORT else 5))
        repeats[name] = max(1, int(_SAMPLE / once))
        parts[name] = min(rounds, few) if once > _SLOW else rounds
        warm[name] = once <= _SHORT
    seconds = {name: np.full(rounds, np.nan) for name in repeats}
    order = list(repeats)
    random = np.random.default_rng(0)
    for turn in range(rounds):
        random.shuffle(order)
        for name in order:
            if turn < parts[name]:
                time.sleep(settle)
                seconds[name][turn] = _sample(calls[name], repeats[name], warm=warm[name])
    return Timings(seconds, skipped)


def thread_counts() -> list[int]:
    """Numbers of BLAS threads to measure: one, and one per core."""
    return sorted({1, cores()})


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Context manager that limits the BLAS threads."""
    with threadpool_limits(count, user_api="blas"):
        yield


def summary(name: str, values: np.ndarray) -> Row:
    """Median and quartiles, as columns."""
    low, middle, high = np.nanpercentile(values, [25, 50, 75])
    return {name: float(middle), f"{name} q1": float(low), f"{name} q3": float(high)}


def _sample(call: Callable[[], object], repeats: int, *, warm: bool = False) -> float:
    if warm:
        kept = call()
    began = time.perf_counter()
    for _ in range(repeats):
        kept = call()
    seconds = time.perf_counter() - began
    del kept  # releasing memory is not part of the call
    return seconds / repeats
