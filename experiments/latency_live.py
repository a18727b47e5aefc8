"""The same schemes on real worker processes that really sleep, beside the simulation of the same waves."""

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

__all__ = ["GRACE", "STATISTICS", "Config", "Timed", "idle", "ratio", "rows"]

GRACE = 3.0
"""Seconds for which a straggler sleeps on: nearly all wake up by themselves until then. To end them
at once would have the machine start processes anew while the next wave is timed."""
PLAYED = tuple(scheme for scheme in SCHEMES if scheme.hedged != 0.95)
"""A second hedge would only differ by its delay, and take a fifth of the time."""
RESAMPLES = 1000
ALIKE = 1e-6


@dataclass(frozen=True)
class Config:
    """How much is run.

    Parameters
    ----------
    services : dict of str to (float, int)
        By service, the seconds that 1 of its times stands for, and the waves of each scheme. The
        seconds are long beside what sending a wave takes, and longest where all calls of a wave
        end close together.
    tasks : int
        K.
    crews : int
        Engines of 2 K workers each that take turns, so that stragglers sleep on meanwhile.
    """

    services: dict[str, tuple[float, int]]
    tasks: int
    crews: int


class Timed:
    """Another engine, whose calls take the times that the simulation is given.

    Parameters
    ----------
    engine : Engine
        Where calls run.
    first : int
        Calls that are made in any case: the one on slot n takes ``seconds[n]``.
    seconds : ndarray, shape (at least first,)
    again : ndarray, shape (K,)
    rows : ndarray, shape (K, columns)
        The inputs: they tell of which task n a call is that is made again, to whichever worker;
        it takes ``again[n]``.
    """

    def __init__(
        self,
        engine: cm.engines.Engine,
        first: int,
        seconds: np.ndarray,
        again: np.ndarray,
        rows: np.ndarray,
    ) -> None:
        self._engine = engine
        self._first = first
        self._seconds = seconds
        self._again = again
        self._rows = rows
        self._sent = 0

    @property
    def workers(self) -> int:
        """As many as the engine has."""
        return self._engine.workers

    def submit(self, slot: int, fn: Any, payload: Any) -> Future[Any]:
        """Send the call with its time."""
        if self._sent < self._first:
            seconds = float(self._seconds[slot])
        else:
            task = int(np.abs(self._rows - payload).sum(axis=1).argmin())
            seconds = float(self._again[task])
        self._sent += 1
        late = cm.testing.late(seconds)
        return cm.testing.Faulty(self._engine, {slot: late}).submit(slot, fn, payload)

    def keep(self, slot: int, value: Any) -> cm.engines.Kept:
        """As the engine does."""
        return self._engine.keep(slot, value)

    def abandon(self, futures: Iterable[Future[Any]]) -> None:
        """As the engine does."""
        self._engine.abandon(futures)


def rows(config: Config, service: Service, rng: np.random.Generator) -> Iterator[Row]:
    """One row a scheme: what the clock said, and what the simulation makes of the same times."""
    K, (unit, waves) = config.tasks, config.services[service.name]
    drawn = service.waves(rng, waves, 2 * K)
    afters = [service.quantiles(scheme.hedged or 0.0)[drawn.array] for scheme in PLAYED]
    clocked = np.empty((len(PLAYED), waves))
    calls = np.empty((len(PLAYED), waves))
    with contextlib.ExitStack() as stack:
        crews = [
            stack.enter_context(cm.engines.Local(2 * K, grace=GRACE)) for _ in range(config.crews)
        ]
        # Wave by wave, so that whatever else the machine does meets all schemes alike.
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
    """Live over simulated, with the 95 % interval of drawing the waves again, both alike."""
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
    """Wait until no worker has a call left, and have the garbage collector leave the next wave alone.

    In a process with so many modules it takes 0.1 s and more to look at everything, which is no scheme's doing.
    """
    gc.freeze()  # all that there is; what comes is soon looked at
    # A slot takes its calls in turn, so that it answers this one tells that it has no other left;
    # and a process that is new has made what is slow the first time.
    every = range(engine.workers)
    faulty = cm.testing.Faulty(engine, dict.fromkeys(every, cm.testing.late(0.0)))
    for future in [faulty.submit(slot, np.tanh, 0.5) for slot in every]:
        future.result()


def _played(
    scheme: Scheme,
    engine: cm.engines.Local,
    seconds: np.ndarray,
    K: int,
    after: float,
    wave: int,
) -> tuple[float, int]:
    """Seconds by the clock, encoding and decoding included, and calls sent."""
    inputs = np.linspace(-1.0, 1.0, 4 * K).reshape(K, 4)
    code, stop = _code(scheme, K, wave)
    hedge = None if scheme.hedged is None else cm.Hedge(after)
    timed = Timed(engine, code.workers, seconds, seconds[K:], inputs)
    began = time.perf_counter()
    result = cm.map(np.tanh, inputs, code=code, engine=timed, stop=stop, hedge=hedge)
    elapsed = time.perf_counter() - began
    if scheme.exact and not np.allclose(result.values, np.tanh(inputs), atol=ALIKE):
        raise AssertionError(f"the answers of {scheme.name} are not exact")
    return elapsed, result.calls


def _code(
    scheme: Scheme, K: int, wave: int
) -> tuple[cm.contracts.Code, cm.contracts.StoppingRule | None]:
    N = scheme.workers(K)
    if scheme.exact:
        return cm.Replication(K, N), cm.Decodable()
    made = cm.SplineCode if wave % 2 else cm.BerrutCode
    return made(K, N, N - scheme.quorum(K)), None
