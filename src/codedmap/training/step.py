"""What a step of an optimiser came to."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..results.sum_result import SumResult

__all__ = ["Step"]


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One step: its rounds of calls, and which weights it changed; print it for a line."""

    number: int
    """Counted from 1."""
    rounds: tuple[SumResult, ...]
    """One, or two where exact values were asked for as well."""
    changed: np.ndarray
    """Places of the changed weights, ascending, as if weights were flat."""

    def __str__(self) -> str:
        rounds = f"{len(self.rounds)} round{'s' if len(self.rounds) > 1 else ''} of calls"
        state = "exact" if self.exact else "not exact"
        return (
            f"step {self.number}: {rounds} in {self.seconds:.2f} s, sums {state}, {self.received:,} "
            f"bytes received, {self.changed.size:,} weights changed"
        )

    @property
    def received(self) -> int:
        """Bytes of numbers in all answers that came."""
        return sum(result.received for result in self.rounds)

    @property
    def seconds(self) -> float:
        """From the first call sent to the last sum decoded."""
        return math.fsum(result.seconds for result in self.rounds)

    @property
    def exact(self) -> bool:
        """Whether what was added up is so over all parts, up to rounding; a sketch of it then is the sketch."""
        return all(result.exact for result in self.rounds)
