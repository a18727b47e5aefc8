"""The schemes of the serving experiment: each runs live and has a formula for its time and cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import codedmap as cm

__all__ = ["Times", "Way", "measured_ways", "slow_ways"]

PATIENCE = 1.5
"""Deadline of hedged codes, in multiples of the hedging delay; missing tasks are estimated then."""


@dataclass(frozen=True)
class Times:
    """Call times of many waves."""

    first: np.ndarray
    """(waves, N): the first calls."""
    again: np.ndarray
    """(waves, K): second calls, one per task."""
    late: np.ndarray
    """(waves,): the hedging delay."""


@dataclass(frozen=True)
class Way:
    """A scheme for answering K tasks.

    Parameters
    ----------
    name : str
        Name in the table.
    code : Code
    simulated : callable
        Maps `Times` to the time and number of calls of each wave.
    hedged : bool
        If True, late tasks are hedged.
    deadline : float, optional
        In multiples of the hedging delay. None: the default stopping rule of the code.
    """

    name: str
    code: cm.contracts.Code
    simulated: Callable[[Times], cm.latency.Waits]
    hedged: bool = False
    deadline: float | None = None

    def stop(self, late: float) -> cm.contracts.StoppingRule | None:
        """The stopping rule for a hedging delay of ``late`` seconds."""
        if self.deadline is None:
            return cm.Decodable() if isinstance(self.code, cm.Replication | cm.Uncoded) else None
        # On a busy machine the deadline may pass before the first answer; then wait for it.
        return cm.Quorum(self.code.workers) | cm.Deadline(self.deadline * late) & cm.Decodable()

    def hedge(self, late: float) -> cm.Hedge | None:
        """The hedge, if any."""
        return cm.Hedge(late) if self.hedged else None


def measured_ways(K: int, N: int) -> tuple[Way, ...]:
    """Schemes for the measured times: codes with N workers, copies with 2 K."""
    return (
        _all(K),
        _copies(K, 2 * K, "copies x2"),
        _hedged(K),
        _coded(K, N),
        _coded_and_hedged(K, N),
    )


def slow_ways(K: int, N: int) -> tuple[Way, ...]:
    """Schemes with at most N / K calls per task, and two copies of every task."""
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
