"""The result of `sum`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..contracts.stopping import Outcome
from .summary import heading, workers_lines

__all__ = ["SumResult"]


@dataclass(frozen=True, slots=True, eq=False)
class SumResult:
    """The sum, and which workers answered; print it for a summary."""

    value: np.ndarray
    """Of the shape that ``fn`` returns; NaN if it was not decoded, with ``throw=False``."""
    exact: bool
    """Whether it is the sum over all parts, up to rounding. False for `IgnoreStragglers`, unless all
    answered, and where ``value`` is NaN."""
    parts: int
    """How many parts were added; the number of items if they were given as a sequence."""
    answered: tuple[int, ...]
    """Workers whose answer had come when waiting ended."""
    abandoned: tuple[int, ...]
    """Workers that were still running when waiting ended, stragglers or merely the last."""
    failed: Mapping[int, BaseException]
    """What went wrong, by worker."""
    rejected: Mapping[int, str]
    """What was wrong with rejected answers, by worker."""
    repaired: tuple[int, ...]
    """Workers that had lost their parts and received them again during this call."""
    outcome: Outcome
    """Why waiting ended."""
    seconds: float
    """From the first call sent to the sum decoded."""
    received: int
    """Bytes of the numbers in all answers."""

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
