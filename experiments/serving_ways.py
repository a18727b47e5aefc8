"""The ways to serve a wave that are compared: each live, and as a formula for its time and cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import codedmap as cm

__all__ = ["Times", "Way", "measured_ways", "slow_ways"]

PATIENCE = 1.5
"""Times the moment of hedging, at which the estimates stand in for what is still missing."""


@dataclass(frozen=True)
class Times:
    """Service times of the calls of many waves."""

    first: np.ndarray
    """(waves, N): of the workers that get a call at the start."""
    again: np.ndarray
    """(waves, K): of a second call for each task."""
    late: np.ndarray
    """(waves,): when a call is late, and what is hedged is sent again."""


@dataclass(frozen=True)
class Way:
    """A way to have K tasks answered.

    Parameters
    ----------
    name : str
        What it is called in the table.
    code : Code
    simulated : callable
        `Times` to the time and the calls of each wave.
    hedged : bool
        Whether what is late is sent once more.
    deadline : float, optional
        Times the moment of hedging. None: the code's own rule.
    """

    name: str
    code: cm.contracts.Code
    simulated: Callable[[Times], cm.latency.Waits]
    hedged: bool = False
    deadline: float | None = None

    def stop(self, late: float) -> cm.contracts.StoppingRule | None:
        """The rule of a wave in which a call is late after so many seconds."""
        if self.deadline is None:
            return cm.Decodable() if isinstance(self.code, cm.Replication | cm.Uncoded) else None
        # Whatever holds up the machine until then: there is nothing to end with before the first answer.
        return cm.Quorum(self.code.workers) | cm.Deadline(self.deadline * late) & cm.Decodable()

    def hedge(self, late: float) -> cm.Hedge | None:
        """What is sent once more, and when."""
        return cm.Hedge(late) if self.hedged else None


def measured_ways(K: int, N: int) -> tuple[Way, ...]:
    """With up to N workers, and twice K for plain copies."""
    return (
        _all(K),
        _copies(K, 2 * K, "copies x2"),
        _hedged(K),
        _coded(K, N),
        _coded_and_hedged(K, N),
    )


def slow_ways(K: int, N: int) -> tuple[Way, ...]:
    """At a cost of at most N / K, beside two copies of everything."""
    return (
        _all(K),
        _copies(K, N, f"copies x{N / K:g}"),
        _copies(K, 2 * K, "copies x2"),
        _hedged(K),
        _coded(K, N),
    )


def _all(K: int) -> Way:
    return Way("wait for all", cm.Uncoded(K), lambda t: cm.latency.copies(t.first[:, :K], K))


def _copies(K: int, N: int, name: str) -> Way:
    return Way(name, cm.Replication(K, N), lambda t: cm.latency.copies(t.first[:, :N], K))


def _hedged(K: int) -> Way:
    def simulated(times: Times) -> cm.latency.Waits:
        return cm.latency.hedged(times.first[:, :K], times.again, times.late)

    return Way("hedge", cm.Uncoded(K), simulated, hedged=True)


def _coded(K: int, N: int) -> Way:
    def simulated(times: Times) -> cm.latency.Waits:
        return cm.latency.quorum(times.first[:, :N], K)

    return Way("KernelCode", cm.KernelCode(K, N, N - K), simulated)


def _coded_and_hedged(K: int, N: int) -> Way:
    def simulated(times: Times) -> cm.latency.Waits:
        exact = cm.latency.hedged(times.first[:, :K], times.again, times.late)
        seconds = np.minimum(exact.seconds, PATIENCE * times.late)
        return cm.latency.Waits(seconds, exact.calls + N - K)

    code = cm.KernelCode(K, N, N - K)
    return Way("KernelCode + hedge", code, simulated, hedged=True, deadline=PATIENCE)
