"""Many waves with faults of all kinds at once: does anything hang, get lost, or pile up?"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import codedmap as cm

from . import cgroups
from .afflicted import Afflicted
from .clusters import Cluster
from .faults import FAULTS, Fault
from .job import answers, rows

__all__ = ["CODE", "DEADLINE", "SHARE", "STOP", "Lie", "Wave", "soak"]

CODE = cm.KernelCode(tasks=20, workers=25, stragglers=5)
ROWS = 200
DEADLINE = 5.0
STOP = cm.Quorum(CODE.workers - CODE.stragglers) | cm.Deadline(DEADLINE)
SHARE = 0.1
"""Of the calls that a fault befalls."""
OFF = 1e-9
"""Error beyond which an answer is wrong."""


@dataclass(frozen=True, slots=True)
class Lie:
    """A wrong answer that came in time."""

    fault: str
    found: bool
    """In `rejected`."""
    exact: int
    """Wrong rows that were marked exact."""


@dataclass(frozen=True, slots=True)
class Wave:
    """What became of one wave, and what the caller's process holds after it."""

    number: int
    faults: int
    """Calls that a fault befell."""
    answered: int
    failed: int
    outcome: str
    seconds: float
    exact: int
    estimated: int
    lost: int
    """Rows without a value or a standard error where they need one, and without a word of it."""
    unexplained: int
    """Rows marked exact that are wrong though nobody lied about them."""
    honest_rejected: int
    """Workers judged liars that were none."""
    lies: tuple[Lie, ...]
    processes: int
    threads: int
    megabytes: float
    """Resident memory of the caller."""
    segments: int
    """Of the caller in shared memory."""
    load: float
    """Of the whole machine: processes that run or would like to, mean of a minute."""


def soak(cluster: Cluster, waves: int, seed: int) -> Iterator[Wave]:
    """Waves one after the other on one engine, each with its faults, as they end.

    Parameters
    ----------
    cluster : Cluster
    waves : int
    seed : int
        Of inputs, and of which faults befall whom.
    """
    possible = [fault for fault in FAULTS if fault.impossible() is None]
    with cluster.engine(CODE.workers) as engine:
        for number in range(waves):
            rng = np.random.default_rng([seed, number])
            struck = np.flatnonzero(rng.random(CODE.workers) < SHARE).tolist()
            faults = {slot: possible[rng.integers(len(possible))] for slot in struck}
            inputs = rows(ROWS, seed=int(rng.integers(1 << 30)))
            began = time.perf_counter()
            # Where nobody answers in time, the result says so.
            result = cm.map(
                answers, inputs, code=CODE, engine=Afflicted(engine, faults), stop=STOP, throw=False
            )
            seconds = time.perf_counter() - began
            cgroups.thaw()
            yield _told(number, faults, inputs, result, seconds)


def _told(
    number: int, faults: dict[int, Fault], inputs: np.ndarray, result: cm.MapResult, seconds: float
) -> Wave:
    assert result.stderr is not None
    truth = answers(inputs)
    # Where nobody answered, not even the shape of an answer is known.
    values = result.values if len(result.answered) else np.full_like(truth, np.nan)
    wrong = result.exact & ~(np.abs(values - truth).max(axis=1) <= OFF)
    lies = []
    # What a lie looks like tells whose it is; noise is the last to be held to account.
    for slot, fault in sorted(faults.items(), key=lambda item: item[1].name == "answers noise"):
        if slot in result.answered and (fault.lies or fault.name == "answers NaN"):
            his = wrong & _as_told(fault, values, truth)
            if slot >= CODE.tasks:  # he was asked for mixtures only
                his[:] = False
            his[np.flatnonzero(his)[ROWS // CODE.tasks :]] = False  # of another who lies likewise
            wrong &= ~his
            lies.append(Lie(fault.name, slot in result.rejected, int(his.sum())))
    return Wave(
        number,
        len(faults),
        len(result.answered),
        len(result.failed),
        result.outcome.value,
        seconds,
        int(result.exact.sum()),
        int((~result.exact).sum()),
        _lost(result),
        int(wrong.sum()),
        len(set(result.rejected) - set(faults)),
        tuple(lies),
        _children(),
        threading.active_count(),
        _resident(),
        len(list(Path("/dev/shm").glob(f"codedmap-{os.getpid()}-*"))),
        os.getloadavg()[0],
    )


def _as_told(fault: Fault, values: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Which rows are what this lie makes of the truth."""
    if fault.name == "answers noise":
        return ~np.isnan(values).any(axis=1)  # it could be anything
    lie = fault.happens(lambda _: truth, truth)
    same: np.ndarray = np.isclose(values, lie, rtol=0, atol=OFF, equal_nan=True).all(axis=1)
    return same


def _lost(result: cm.MapResult) -> int:
    assert result.stderr is not None
    guessed = ~result.exact
    nothing_known = np.isinf(result.stderr)
    stated = (result.stderr > 0) & np.isfinite(result.values.reshape(ROWS, -1)).all(axis=1)
    return int((guessed & ~(nothing_known | stated)).sum()) + ROWS - len(result.values)


def _children() -> int:
    """Processes below this one that live."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            rest = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if rest[0] not in "ZX":
            parents.setdefault(int(rest[1]), []).append(int(stat.parent.name))

    def below(pid: int) -> int:
        return sum(1 + below(child) for child in parents.get(pid, ()))

    return below(os.getpid())


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
