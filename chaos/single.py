"""Each fault alone, on one worker of eight; afterwards all workers must answer again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

import codedmap as cm
from codedmap.engines import Engine

from . import cgroups
from .clusters import Cluster
from .commands import eventually
from .faults import FAULTS, Fault
from .faulty_engine import FaultyEngine, numbers
from .job import ONCE, answers, rows

__all__ = ["CODE", "WAIT", "Outcome", "run_faults"]

CODE = cm.KernelCode(tasks=6, workers=8, stragglers=2)
ROWS, FAULTY = 60, 3
"""Rows of a wave, and the place of the faulty one among its workers."""
WAIT = 2.0
"""Deadline of a wave, in seconds."""
PATIENCE = 60.0
"""Seconds within which all workers must answer again."""
OFF = 1e-9
"""Error above which an answer is wrong."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of one fault."""

    engine: str
    fault: str
    outcome: str
    """Why the wave ended."""
    seen: str
    """State of the faulty worker in the result."""
    exact: int
    """Rows of 60."""
    estimated: int
    wrong: int
    """Rows wrongly marked exact."""
    error: float
    """Largest error of an estimated row over its standard error; NaN if there is none."""
    seconds: float
    back: float
    """Seconds after the wave until all eight workers answer again."""


def run_faults(cluster: Cluster) -> Iterator[Outcome]:
    """Run every fault that this machine allows, one after the other, on one engine."""
    with cluster.engine(CODE.workers) as engine:
        for fault in FAULTS:
            if fault.unavailable() is None:
                yield _one(cluster, engine, fault)


def _one(cluster: Cluster, engine: Engine, fault: Fault) -> Outcome:
    inputs = rows(ROWS, seed=1)
    truth = answers(inputs)
    _wait_for_all(engine, inputs)
    began = time.perf_counter()
    stop = cm.Everyone() | cm.Deadline(WAIT)
    faulty = FaultyEngine(engine, {numbers(engine)[FAULTY]: fault})
    result = cm.map(answers, inputs, code=CODE, engine=faulty, stop=stop, **ONCE)
    seconds = time.perf_counter() - began
    back = _wait_for_all(engine, inputs)
    cgroups.thaw()
    error = np.sqrt(((result.values - truth) ** 2).mean(axis=1))
    guessed = ~result.exact
    stderr = result.row_stderr()
    assert stderr is not None
    return Outcome(
        cluster.name,
        fault.name,
        result.outcome.value,
        _seen(result, *faulty.slots(result).items()),
        int(result.exact.sum()),
        int(guessed.sum()),
        int((~(error[result.exact] <= OFF)).sum()),  # NaN counts as wrong
        float((error[guessed] / stderr[guessed]).max()) if guessed.any() else float("nan"),
        seconds,
        back,
    )


def _wait_for_all(engine: Engine, inputs: np.ndarray) -> float:
    """Seconds until all workers answer a wave; raises after ``PATIENCE`` seconds."""
    began = time.perf_counter()
    while True:
        eventually(lambda: engine.workers == CODE.workers, PATIENCE)
        stop = cm.Everyone() | cm.Deadline(WAIT)
        result = cm.map(
            answers, inputs, code=CODE, engine=engine, stop=stop, on_error="record", **ONCE
        )
        passed = time.perf_counter() - began
        if len(result.answered) == CODE.workers:
            return passed
        if passed > PATIENCE:
            raise RuntimeError(f"after {passed:.0f} s some workers still do not answer:\n{result}")


def _seen(result: cm.MapResult, faulty: tuple[int, int]) -> str:
    slot, worker = faulty
    if slot in result.failed:
        return f"failed: {type(result.failed[slot]).__name__}"
    if slot in result.abandoned:
        return "abandoned"
    return "rejected" if worker in result.rejected else "answered"
