"""Soak test: many waves with faults of all kinds; nothing may hang, get lost or accumulate."""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import codedmap as cm

from . import cgroups
from .clusters import Cluster
from .faults import FAULTS, Fault
from .faulty_engine import FaultyEngine, numbers
from .job import ONCE, answers, rows

__all__ = ["CODE", "DEADLINE", "SHARE", "STOP", "Outlier", "Wave", "soak"]

CODE = cm.KernelCode(tasks=20, workers=25, stragglers=5)
ROWS = 200
DEADLINE = 5.0
STOP = cm.Quorum(CODE.workers - CODE.stragglers) | cm.Deadline(DEADLINE)
SHARE = 0.1
"""Share of calls with a fault."""
OFF = 1e-9
"""Error above which an answer is wrong."""


@dataclass(frozen=True, slots=True)
class Outlier:
    """A wrong answer that arrived in time."""

    fault: str
    rejected: bool
    """True if its worker is in `rejected`."""
    exact: int
    """Number of wrong rows marked exact."""


@dataclass(frozen=True, slots=True)
class Wave:
    """Result of one wave, and the resources of the caller's process after it."""

    number: int
    faults: int
    """Calls with a fault."""
    answered: int
    failed: int
    outcome: str
    seconds: float
    exact: int
    estimated: int
    lost: int
    """Estimated rows without a value or a standard error that do not say so."""
    unexplained: int
    """Wrong rows marked exact that no Byzantine answer explains."""
    honest_rejected: int
    """Honest workers that were rejected."""
    outliers: tuple[Outlier, ...]
    processes: int
    threads: int
    megabytes: float
    """Resident memory of the caller."""
    segments: int
    """Shared-memory segments of the caller."""
    load: float
    """Load average of the machine over one minute."""


def soak(cluster: Cluster, waves: int, seed: int) -> Iterator[Wave]:
    """Run waves with faults one after the other on one engine.

    Parameters
    ----------
    cluster : Cluster
    waves : int
    seed : int
        Of inputs and faults.
    """
    possible = [fault for fault in FAULTS if fault.unavailable() is None]
    with cluster.engine(CODE.workers) as engine:
        for number in range(waves):
            rng = np.random.default_rng([seed, number])
            places = np.flatnonzero(rng.random(CODE.workers) < SHARE).tolist()
            drawn = {place: possible[rng.integers(len(possible))] for place in places}
            workers = numbers(engine)  # fewer while some are being replaced
            faulty = FaultyEngine(
                engine, {workers[k]: fault for k, fault in drawn.items() if k < len(workers)}
            )
            inputs = rows(ROWS, seed=int(rng.integers(1 << 30)))
            began = time.perf_counter()
            # With no answer in time, the result is flagged instead of an exception.
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "the code has 25 workers and the engine")
                result = cm.map(
                    answers,
                    inputs,
                    code=CODE,
                    engine=faulty,
                    **ONCE,
                    stop=STOP,
                    on_error="record",
                )
            seconds = time.perf_counter() - began
            cgroups.thaw()
            yield _wave(number, faulty, inputs, result, seconds)


def _wave(
    number: int, faulty: FaultyEngine, inputs: np.ndarray, result: cm.MapResult, seconds: float
) -> Wave:
    assert result.stderr is not None
    truth = answers(inputs)
    # Without any answer the shape of answers is unknown.
    values = result.values if len(result.answered) else np.full_like(truth, np.nan)
    wrong = result.exact & ~(np.abs(values - truth).max(axis=1) <= OFF)
    outliers = []
    slots = faulty.slots(result)
    faults = {slot: faulty.faults[worker] for slot, worker in slots.items()}
    # Wrong rows are attributed to faults by their values; noise, which matches anything, comes last.
    for slot, fault in sorted(faults.items(), key=lambda item: item[1].name == "answers noise"):
        if slot in result.answered and (fault.outlier or fault.name == "answers NaN"):
            own = wrong & _matches(fault, values, truth)
            if slot >= CODE.tasks:  # this worker had mixtures only
                own[:] = False
            own[np.flatnonzero(own)[ROWS // CODE.tasks :]] = (
                False  # of another worker with this fault
            )
            wrong &= ~own
            outliers.append(Outlier(fault.name, slots[slot] in result.rejected, int(own.sum())))
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
        len(set(result.rejected) - set(faulty.faults)),
        tuple(outliers),
        _children(),
        threading.active_count(),
        _resident(),
        len(list(Path("/dev/shm").glob(f"codedmap-{os.getpid()}-*"))),
        os.getloadavg()[0],
    )


def _matches(fault: Fault, values: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Rows whose values are those that this fault would give."""
    if fault.name == "answers noise":
        return ~np.isnan(values).any(axis=1)  # noise matches any finite value
    faulty = fault.run(lambda _: truth, truth)
    same: np.ndarray = np.isclose(values, faulty, rtol=0, atol=OFF, equal_nan=True).all(axis=1)
    return same


def _lost(result: cm.MapResult) -> int:
    stderr = result.row_stderr()
    assert stderr is not None
    guessed = ~result.exact
    unknown = np.isinf(stderr)
    stated = (stderr > 0) & np.isfinite(result.values.reshape(ROWS, -1)).all(axis=1)
    return int((guessed & ~(unknown | stated)).sum()) + ROWS - len(result.values)


def _children() -> int:
    """Number of living descendants of this process."""
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
