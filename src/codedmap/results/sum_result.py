"""What a call of `sum` came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..contracts.stopping import Outcome
from .summary import heading, workers_lines

__all__ = ["SumResult"]


@dataclass(frozen=True, slots=True, eq=False)
class SumResult:
    """The sum, and what became of the workers; print it for a summary."""

    value: np.ndarray
    """Of the shape that ``fn`` gives; NaN where ``throw=False`` let an undecodable sum through."""
    exact: bool
    """Whether it is the sum over all parts, up to rounding. False for `IgnoreStragglers`, unless all
    answered, and where ``value`` is NaN."""
    parts: int
    """How many parts were added: items, where they were given as a sequence."""
    answered: tuple[int, ...]
    """Workers whose answer had come when we stopped."""
    abandoned: tuple[int, ...]
    """Workers that were still running when we stopped: stragglers, or merely last."""
    failed: Mapping[int, BaseException]
    """What went wrong, by worker."""
    rejected: Mapping[int, str]
    """What was wrong with answers that were not used, by worker."""
    repaired: tuple[int, ...]
    """Workers that had lost their parts and were given them again during this call."""
    outcome: Outcome
    """Why we stopped."""
    seconds: float
    """From the first call sent to the sum decoded."""
    received: int
    """Bytes of numbers in the answers that came."""

    def __str__(self) -> str:
        state = "exact" if self.exact else "not exact"
        if self.value.dtype.kind in "fc" and np.isnan(self.value).all() and self.value.size:
            state = "unknown"
        lines = [
            heading(self.answered, self.abandoned, self.failed, self.seconds, self.outcome),
            f"  sum        {state}, of {self.parts:,} parts: shape {self.value.shape}, "
            f"{self.value.dtype}; {self.received:,} bytes received",
        ]
        groups = {
            "abandoned": self.abandoned,
            "rejected": tuple(self.rejected),
            "repaired": self.repaired,
        }
        lines += workers_lines(groups, self.failed)
        return "\n".join(lines)
