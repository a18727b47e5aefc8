"""The schemes of the serving experiment, as they run live and in virtual time."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

import codedmap as cm

from .latency_live import TimedEngine

__all__ = ["Timed", "Way", "ways"]


@dataclass(frozen=True)
class Way:
    """A scheme for answering K tasks.

    Parameters
    ----------
    name : str
        Name in the table.
    workers : int
    code : Code, optional
        None: `codedmap.map` without a code.
    hedge : Hedge, optional
    """

    name: str
    workers: int
    code: cm.contracts.Code | None = None
    hedge: cm.Hedge | None = None

    @property
    def stop(self) -> cm.contracts.StoppingRule | None:
        """Copies need one answer to each task; the code waits for K answers."""
        return cm.Decodable() if isinstance(self.code, cm.Replication | cm.Uncoded) else None

    def simulated(self, calls: np.ndarray, tasks: int) -> cm.latency.Waits:
        """Jobs in virtual time; calls (each, waves, at least N)."""
        return cm.latency.scheduled(
            calls[:, :, : self.workers], tasks, code=self.code, stop=self.stop, hedge=self.hedge
        )

    def run(
        self, fn: Any, rows: np.ndarray, engine: cm.engines.Engine, times: np.ndarray
    ) -> cm.MapResult:
        """A live job; times (each, at least N)."""
        timed = Timed(engine, times[:, : self.workers])
        return cm.map(
            fn, rows, code=self.code, engine=timed, stop=self.stop, hedge=self.hedge, progress=False
        )


def ways(K: int, N: int) -> tuple[Way, ...]:
    """Schemes with N workers and at most N / K calls per task; one call per task, and two copies, beside them."""
    spare = cm.Hedge(budget=(N - K) / K)
    return (
        Way("wait for all", K, cm.Uncoded(K)),
        Way("exact, hedged", N, hedge=spare),
        Way(f"copies x{N / K:g}", N, cm.Replication(K, N)),
        Way("KernelCode", N, cm.KernelCode(K, N, N - K)),
        Way("copies x2", 2 * K, cm.Replication(K, 2 * K)),
    )


class Timed(TimedEngine):
    """An engine whose workers take the times of the simulation.

    Parameters
    ----------
    engine : Engine
        The engine that runs the calls.
    times : ndarray, shape (each, N)
        Seconds that the next calls of each worker take, one after another.
    """

    def __init__(self, engine: cm.engines.Engine, times: np.ndarray) -> None:
        super().__init__(engine)
        self._times = times
        self._made: Counter[int] = Counter()

    @property
    def workers(self) -> int:
        """N, of the engine's workers."""
        return self._times.shape[1]

    def seconds(self, worker: int, payload: Any) -> float:
        """The worker's next time."""
        self._made[worker] += 1
        return float(self._times[(self._made[worker] - 1) % len(self._times), worker])
