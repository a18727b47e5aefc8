"""The results of `sum` and of products of a `CodedMatrix`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..contracts.stopping import Outcome
from ..errors import many
from .status import Shown
from .summary import heading, workers_lines


@dataclass(frozen=True, slots=True, eq=False, repr=False, kw_only=True)
class _Answered(Shown):
    """Which workers answered; print it for a summary."""

    answered: tuple[int, ...]
    """Workers whose answer had come when waiting ended; in a sum, for one that was late, perhaps from another worker."""
    abandoned: tuple[int, ...]
    """Workers that were still running when waiting ended, stragglers or merely the last."""
    failed: Mapping[int, BaseException]
    """Workers whose calls failed, with their exceptions."""
    rejected: Mapping[int, str]
    """Workers whose answers were rejected, with the reason."""
    repaired: tuple[int, ...]
    """Workers that received what they keep again during this call, because it was lost, or moved as workers of the
    engine have left or joined."""
    outcome: Outcome
    """Why waiting ended."""
    seconds: float
    """Seconds from the first call to the decoded result."""

    def _summary(self, what: str) -> str:
        groups = {
            "abandoned": self.abandoned,
            "rejected": tuple(self.rejected),
            "repaired": self.repaired,
        }
        return "\n".join([heading(self), what, *workers_lines(groups, self.failed)])


@dataclass(frozen=True, slots=True, eq=False, repr=False, kw_only=True)
class SumResult(_Answered):
    """The sum, and which workers answered; print it for a summary."""

    value: np.ndarray
    """The sum, of the shape that ``fn`` returns; NaN if it was not decoded, with ``throw=False``."""
    exact: bool
    """Whether it is the sum over all parts, up to rounding. False for `IgnoreStragglers`, unless all
    answered, and where ``value`` is NaN."""
    parts: int
    """How many parts were added; the number of items if they were given as a sequence."""
    received: int
    """Bytes of the numbers in all answers."""

    def __str__(self) -> str:
        state = "exact" if self.exact else "not exact"
        if self.value.dtype.kind in "fc" and np.isnan(self.value).all() and self.value.size:
            state = "unknown"
        return self._summary(
            f"  sum        {state}, of {many(self.parts, 'part')}: shape {self.value.shape}, "
            f"{self.value.dtype}; {self.received:,} bytes received"
        )


@dataclass(frozen=True, slots=True, eq=False, repr=False, kw_only=True)
class MatrixResult(_Answered):
    """The record of the last product of a `CodedMatrix`; print it for a summary."""

    shape: tuple[int, ...]
    """Shape of the product, (m, c)."""
    stderr: np.ndarray | None
    """(m, c): standard error of each entry, 0 where exact, infinite where nothing is known; None if
    all is exact, up to rounding."""

    @property
    def exact(self) -> bool:
        """Whether the whole product is exact, up to rounding."""
        return self.stderr is None

    def __str__(self) -> str:
        text = f"  product    {' x '.join(map(str, self.shape))}, "
        if self.stderr is None:
            return self._summary(f"{text}exact")
        known = self.stderr[np.isfinite(self.stderr)]
        text += "estimated"
        if known.any():
            text += f" (standard error up to {known.max():.3g})"
        if known.size < self.stderr.size:
            text += f", nothing known of {many(self.stderr.size - known.size, 'entry')}"
        return self._summary(text)
