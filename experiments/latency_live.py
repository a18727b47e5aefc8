"""The same schemes on worker processes that sleep, compared with the simulation of the same waves."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import codedmap as cm

from .harness import Row
from .latency_schemes import SCHEMES, Scheme
from .services import Service

__all__ = ["GRACE", "STATISTICS", "Config", "Timed", "TimedEngine", "idle", "ratio", "rows", "sent"]

GRACE = 3.0
"""Seconds for which a straggler may run on. Nearly all end by themselves within it; ending them at once
would start new processes while the next wave is timed."""
PLAYED = tuple(scheme for scheme in SCHEMES if scheme.hedged != 0.95)
"""A second hedge would differ only by its delay."""
RESAMPLES = 1000
ALIKE = 1e-6


@dataclass(frozen=True)
class Config:
    """Size of the live runs.

    Parameters
    ----------
    services : dict of str to (float, int)
        By service, the seconds per unit of its times, and the waves of each scheme. The seconds are
        long compared with sending a wave, and longest where all calls of a wave end close together.
    tasks : int
        K.
    crews : int
        Engines of 2 K workers each, used in turn, so that stragglers of one wave end meanwhile.
    """

    services: dict[str, tuple[float, int]]
    tasks: int
    crews: int


class TimedEngine:
    """An engine whose calls take given times; `seconds` says which.

    Parameters
    ----------
    engine : Engine
        The engine that runs the calls.
    """

    def __init__(self, engine: cm.engines.Engine) -> None:
        self._engine = engine

    @property
    def workers(self) -> int:
        """Number of workers of the engine."""
        return self._engine.workers

    def seconds(self, worker: int, payload: Any) -> float:
        """The time of the next call of a worker."""
        raise NotImplementedError

    def submit(self, worker: int, fn: Any, payload: Any) -> Future[Any]:
        """Submit the call with its time."""
        late = cm.testing.late(self.seconds(worker, payload))
        return cm.testing.Faulty(self._engine, {worker: late}).submit(worker, fn, payload)

    def keep(self, worker: int, value: Any) -> cm.engines.Kept:
        """Keep a value to which times can be sent."""
        return cm.testing.Faulty(self._engine, {}).keep(worker, value)

    def abandon(self, futures: Iterable[Future[Any]]) -> None:
        """Forward to the engine."""
        self._engine.abandon(futures)


class Timed(TimedEngine):
    """An engine whose calls take the times of the simulation.

    Parameters
    ----------
    engine : Engine
        The engine that runs the calls.
    first : int
        Number of first calls: the one on slot n takes ``seconds[n]``.
    seconds : ndarray, shape (at least first,)
    again : ndarray, shape (K,)
    rows : ndarray, shape (K, columns)
        The inputs, which identify the task n of a hedge; a hedge of task n takes ``again[n]``.
    """

    def __init__(
        self,
        engine: cm.engines.Engine,
        first: int,
        seconds: np.ndarray,
        again: np.ndarray,
        rows: np.ndarray,
    ) -> None:
        super().__init__(engine)
        self._first = first
        self._seconds = seconds
        self._again = again
        self._rows = rows
        self._sent = 0

    def seconds(self, worker: int, payload: Any) -> float:
        """That of the slot, or of the task whose input is sent again."""
        self._sent += 1
        if self._sent <= self._first:
            return float(self._seconds[worker])
        [inputs] = payload.parts
        return float(self._again[np.abs(self._rows - inputs).sum(axis=1).argmin()])


def rows(config: Config, service: Service, rng: np.random.Generator) -> Iterator[Row]:
    """One row per scheme: measured times, and the simulation of the same call times."""
    K, (unit, waves) = config.tasks, config.services[service.name]
    drawn = service.waves(rng, waves, 2 * K)
    afters = [service.quantiles(scheme.hedged or 0.0)[drawn.array] for scheme in PLAYED]
    clocked = np.empty((len(PLAYED), waves))
    calls = np.empty((len(PLAYED), waves))
    with contextlib.ExitStack() as stack:
        crews = [
            stack.enter_context(cm.engines.Local(2 * K, grace=GRACE)) for _ in range(config.crews)
        ]
        # All schemes in each wave, so that other load on the machine affects them alike.
        for turn, (wave, at) in enumerate(np.ndindex(waves, len(PLAYED))):
            engine = crews[turn % len(crews)]
            idle(engine)
            seconds, after = drawn.seconds[wave] * unit, float(afters[at][wave]) * unit
            clocked[at, wave], calls[at, wave] = _played(
                PLAYED[at], engine, seconds, K, after, wave
            )
    for scheme, after, own, sent in zip(PLAYED, afters, clocked, calls, strict=True):
        expected, expected_calls = scheme.play(drawn.seconds, K, after)
        expected = expected.astype(float) * unit
        row: Row = {
            "scheme": scheme.name,
            "workers": scheme.workers(K),
            "waits_for": None if scheme.exact else scheme.quorum(K),
            "waves": waves,
            "unit_ms": 1e3 * unit,
            "cost": float(sent.mean() / K),
            "simulated_cost": float(expected_calls.mean() / K),
            "overhead_p50_ms": float(1e3 * np.quantile(own - expected, 0.50)),
            "overhead_p99_ms": float(1e3 * np.quantile(own - expected, 0.99)),
        }
        for name, statistic in STATISTICS.items():
            row |= {
                f"live_{name}": 1e3 * float(statistic(own, axis=0)),
                f"simulated_{name}": 1e3 * float(statistic(expected, axis=0)),
            } | ratio(name, statistic, own, expected, rng)
        yield row


STATISTICS: dict[str, Callable[..., Any]] = {
    "p50": partial(np.quantile, q=0.50),
    "p99": partial(np.quantile, q=0.99),
    "mean": np.mean,
}


def ratio(
    name: str,
    statistic: Callable[..., Any],
    live: np.ndarray,
    simulated: np.ndarray,
    rng: np.random.Generator,
) -> Row:
    """Live over simulated, with the 95 % bootstrap interval over waves."""
    again = rng.integers(len(live), size=(len(live), RESAMPLES))
    ratios = statistic(live[again], axis=0) / statistic(simulated[again], axis=0)
    low, high = np.quantile(ratios, [0.025, 0.975])
    value = statistic(live, axis=0) / statistic(simulated, axis=0)
    return {
        f"ratio_{name}": float(value),
        f"ratio_{name}_low": float(low),
        f"ratio_{name}_high": float(high),
    }


def idle(engine: cm.engines.Local) -> None:
    """Wait until no worker has a call left, and keep the garbage collector from interrupting the next wave.

    With as many modules as here, one full collection takes 0.1 s and more.
    """
    gc.freeze()  # existing objects are not scanned again
    # A slot runs its calls in order: when it answers this one, no other call is left. In a new process
    # this call also pays for the imports of a first call.
    every = range(engine.workers)
    faulty = cm.testing.Faulty(engine, dict.fromkeys(every, cm.testing.late(0.0)))
    for future in [faulty.submit(slot, np.tanh, 0.5) for slot in every]:
        future.result()


def sent(result: cm.MapResult) -> int:
    """Calls of a wave, those that were still running at its end included."""
    return len(result.calls)


def _played(
    scheme: Scheme,
    engine: cm.engines.Local,
    seconds: np.ndarray,
    K: int,
    after: float,
    wave: int,
) -> tuple[float, int]:
    """Measured seconds, encoding and decoding included, and calls sent."""
    inputs = np.linspace(-1.0, 1.0, 4 * K).reshape(K, 4)
    code, stop = _code(scheme, K, wave)
    hedge = None if scheme.hedged is None else cm.Hedge(after)
    timed = Timed(engine, code.workers, seconds, seconds[K:], inputs)
    began = time.perf_counter()
    result = cm.map(
        np.tanh, inputs, code=code, engine=timed, stop=stop, hedge=hedge, retries=0, chunk="all"
    )
    elapsed = time.perf_counter() - began
    if scheme.exact and not np.allclose(result.values, np.tanh(inputs), atol=ALIKE):
        raise AssertionError(f"the answers of {scheme.name} are not exact")
    return elapsed, sent(result)


def _code(
    scheme: Scheme, K: int, wave: int
) -> tuple[cm.contracts.Code, cm.contracts.StoppingRule | None]:
    N = scheme.workers(K)
    if scheme.exact:
        return cm.Replication(K, N), cm.Decodable()
    made = cm.SplineCode if wave % 2 else cm.BerrutCode
    return made(K, N, N - scheme.quorum(K)), None
