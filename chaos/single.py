"""Each fault alone: one worker of eight is struck, then all is well again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

import codedmap as cm
from codedmap.engines import Engine

from . import cgroups
from .afflicted import Afflicted
from .clusters import Cluster
from .faults import FAULTS, Fault
from .job import answers, rows

__all__ = ["CODE", "WAIT", "Outcome", "tried"]

CODE = cm.KernelCode(tasks=6, workers=8, stragglers=2)
ROWS, SLOT = 60, 3
WAIT = 2.0
"""Seconds that a wave may take."""
PATIENCE = 60.0
"""Seconds for everybody to be back."""
OFF = 1e-9
"""Error beyond which an answer is wrong."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one fault came to."""

    engine: str
    fault: str
    outcome: str
    """Why the wave ended."""
    seen: str
    """What the result says of the worker that was struck."""
    exact: int
    """Rows of 60."""
    estimated: int
    wrong: int
    """Rows that are marked exact and are not."""
    error: float
    """Largest error of an estimated row over its standard error; NaN without any."""
    seconds: float
    back: float
    """Seconds after that until all eight answer again."""


def tried(cluster: Cluster) -> Iterator[Outcome]:
    """Every fault that this machine can make, one after the other, on one engine."""
    with cluster.engine(CODE.workers) as engine:
        for fault in FAULTS:
            if fault.impossible() is None:
                yield _one(cluster, engine, fault)


def _one(cluster: Cluster, engine: Engine, fault: Fault) -> Outcome:
    inputs = rows(ROWS, seed=1)
    truth = answers(inputs)
    _everybody(engine, inputs)
    began = time.perf_counter()
    stop = cm.Everyone() | cm.Deadline(WAIT)
    result = cm.map(answers, inputs, code=CODE, engine=Afflicted(engine, {SLOT: fault}), stop=stop)
    seconds = time.perf_counter() - began
    back = _everybody(engine, inputs)
    cgroups.thaw()
    error = np.sqrt(((result.values - truth) ** 2).mean(axis=1))
    guessed = ~result.exact
    assert result.stderr is not None
    return Outcome(
        cluster.name,
        fault.name,
        result.outcome.value,
        _seen(result),
        int(result.exact.sum()),
        int(guessed.sum()),
        int((~(error[result.exact] <= OFF)).sum()),  # NaN is wrong, too
        float((error[guessed] / result.stderr[guessed]).max()) if guessed.any() else float("nan"),
        seconds,
        back,
    )


def _everybody(engine: Engine, inputs: np.ndarray) -> float:
    """Seconds until a wave is answered by all; raises if some never are back."""
    began = time.perf_counter()
    while True:
        stop = cm.Everyone() | cm.Deadline(WAIT)
        result = cm.map(answers, inputs, code=CODE, engine=engine, stop=stop, throw=False)
        passed = time.perf_counter() - began
        if len(result.answered) == CODE.workers:
            return passed
        if passed > PATIENCE:
            raise RuntimeError(f"after {passed:.0f} s still not all are back:\n{result}")


def _seen(result: cm.MapResult) -> str:
    if SLOT in result.failed:
        return f"failed: {type(result.failed[SLOT]).__name__}"
    if SLOT in result.abandoned:
        return "abandoned"
    return "rejected" if SLOT in result.rejected else "answered"
