"""A few of the same schemes on worker processes that really sleep for the times drawn."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

import codedmap as cm

from .harness import Row

__all__ = ["Config", "TOLERANCE", "rows"]

TOLERANCE = 0.1
"""By how much the mean on the clock may differ from the simulated one."""
GRACE = 30.0
"""Stragglers sleep on while they are waited for between waves: nobody is ended."""


@dataclass(frozen=True)
class Config:
    """How much is run.

    Parameters
    ----------
    unit : float
        Seconds that 1 of the model's times stands for.
    waves : int
    """

    unit: float
    waves: int


def _schemes(N: int) -> dict[tuple[str, int], cm.contracts.SumCode]:
    """By name and parts of each worker."""
    return {
        ("wait for all", 1): cm.codes.FractionalRepetition(N, 0),
        ("copies", 2): cm.codes.FractionalRepetition(N, 1),
        ("polynomial", 3): cm.codes.PolynomialGradientCode(N, 1, 2),
        ("polynomial", 4): cm.codes.PolynomialGradientCode(N, 2, 2),
        ("grouped", 4): cm.codes.GroupedGradientCode(N, 4, 2),
    }


def rows(config: Config, computing: np.ndarray, sending: np.ndarray) -> Iterator[Row]:
    """One row a scheme, from the times of computing a part and of sending a sum, (waves, N)."""
    waves, N = computing.shape
    values = np.random.default_rng(0).standard_normal((4 * N, 50))
    schemes = _schemes(N)
    clocked = np.empty((len(schemes), waves))
    expected = np.empty((len(schemes), waves))
    off = 0.0
    with cm.engines.Local(N, grace=GRACE) as engine:
        # The first call of a process loads what it needs, which is no part of a later sum.
        first = cm.CodedParts(values, code=cm.codes.FractionalRepetition(N, 0), engine=engine)
        cm.sum(_total, first)
        for wave in range(waves):
            # Wave by wave, so that whatever else the machine does meets all schemes alike.
            for at, ((_, parts), code) in enumerate(schemes.items()):
                seconds = config.unit * (parts * computing[wave] + sending[wave] / code.reduction)
                late = {n: cm.testing.late(float(seconds[n])) for n in range(N)}
                shards = cm.CodedParts(values, code=code, engine=cm.testing.Faulty(engine, late))
                _wait_until_idle(engine)
                began = time.perf_counter()
                result = cm.sum(_total, shards)
                clocked[at, wave] = time.perf_counter() - began
                expected[at, wave] = _enough(code, seconds)
                off = max(off, float(np.abs(result.value - values.sum(axis=0)).max()))
    for ((name, parts), code), own, told in zip(schemes.items(), clocked, expected, strict=True):
        yield {
            "scheme": name, "S": code.stragglers, "m": code.reduction, "parts": parts, "waves": waves,
            "unit_ms": 1e3 * config.unit, "live": 1e3 * own.mean(), "simulated": 1e3 * told.mean(),
            "ratio": own.mean() / told.mean(), "overhead_p50": 1e3 * float(np.median(own - told)),
            "off": off,
        }  # fmt: skip


def _total(rows: np.ndarray) -> np.ndarray:
    total: np.ndarray = rows.sum(axis=0)
    return total


def _enough(code: cm.contracts.SumCode, seconds: np.ndarray) -> float:
    """When the code can decode, if answers come at these times."""
    order = np.argsort(seconds)
    count = 1
    while not code.decodable(frozenset(order[:count].tolist())):
        count += 1
    return float(seconds[order[count - 1]])


def _wait_until_idle(engine: cm.engines.Local) -> None:
    # A slot takes its calls in turn, so that it answers this one tells that it has no other left.
    for future in [engine.submit(slot, np.tanh, 0.5) for slot in range(engine.workers)]:
        future.result()
