"""Some of the same schemes on worker processes that sleep for the times drawn."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

import codedmap as cm

from .harness import Row

__all__ = ["Config", "TOLERANCE", "rows"]

TOLERANCE = 0.1
"""Relative difference allowed between the measured and the simulated mean."""
GRACE = 30.0
"""Long enough that no straggler is ended: the next wave starts when all have woken up."""


@dataclass(frozen=True)
class Config:
    """Size of the live runs.

    Parameters
    ----------
    unit : float
        Seconds per unit of time of the model.
    waves : int
    """

    unit: float
    waves: int


def _schemes(N: int) -> dict[tuple[str, int], cm.contracts.SumCode]:
    """By name and number of parts per worker."""
    return {
        ("wait for all", 1): cm.codes.FractionalRepetition(N, 0),
        ("copies", 2): cm.codes.FractionalRepetition(N, 1),
        ("polynomial", 3): cm.codes.PolynomialGradientCode(N, 1, 2),
        ("polynomial", 4): cm.codes.PolynomialGradientCode(N, 2, 2),
        ("grouped", 4): cm.codes.GroupedGradientCode(N, 4, 2),
    }


def rows(config: Config, computing: np.ndarray, sending: np.ndarray) -> Iterator[Row]:
    """One row per scheme, from the times of computing a part and of sending a sum, (waves, N)."""
    waves, N = computing.shape
    values = np.random.default_rng(0).standard_normal((4 * N, 50))
    schemes = _schemes(N)
    clocked = np.empty((len(schemes), waves))
    expected = np.empty((len(schemes), waves))
    off = 0.0
    with cm.engines.Local(N, grace=GRACE) as engine:
        # The first call of a process imports modules, which is no part of a later sum.
        first = cm.CodedParts(values, code=cm.codes.FractionalRepetition(N, 0), engine=engine)
        cm.sum(_total, first)
        for wave in range(waves):
            # All schemes in each wave, so that other load on the machine affects them alike.
            for at, ((_, parts), code) in enumerate(schemes.items()):
                seconds = config.unit * (parts * computing[wave] + sending[wave] / code.reduction)
                late = {n: cm.testing.late(float(seconds[n])) for n in range(N)}
                shards = cm.CodedParts(values, code=code, engine=cm.testing.Faulty(engine, late))
                _wait_until_idle(engine)
                began = time.perf_counter()
                result = cm.sum(_total, shards)
                clocked[at, wave] = time.perf_counter() - began
                expected[at, wave] = _decoding_time(code, seconds)
                off = max(off, float(np.abs(result.value - values.sum(axis=0)).max()))
    for ((name, parts), code), own, simulated in zip(
        schemes.items(), clocked, expected, strict=True
    ):
        yield {
            "scheme": name, "S": code.stragglers, "m": code.reduction, "parts": parts, "waves": waves,
            "unit_ms": 1e3 * config.unit, "live": 1e3 * own.mean(), "simulated": 1e3 * simulated.mean(),
            "ratio": own.mean() / simulated.mean(), "overhead_p50": 1e3 * float(np.median(own - simulated)),
            "off": off,
        }  # fmt: skip


def _total(rows: np.ndarray) -> np.ndarray:
    total: np.ndarray = rows.sum(axis=0)
    return total


def _decoding_time(code: cm.contracts.SumCode, seconds: np.ndarray) -> float:
    """The time at which the code can decode, if answers arrive at these times."""
    order = np.argsort(seconds)
    count = 1
    while not code.decodable(frozenset(order[:count].tolist())):
        count += 1
    return float(seconds[order[count - 1]])


def _wait_until_idle(engine: cm.engines.Local) -> None:
    # A slot runs its calls in order: when it answers this one, no other call is left.
    for future in [engine.submit(slot, np.tanh, 0.5) for slot in range(engine.workers)]:
        future.result()
