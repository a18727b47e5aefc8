"""The record of a product of a `CodedMatrix`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..contracts.stopping import Outcome
from .summary import heading, workers_lines

__all__ = ["MatrixResult"]


@dataclass(frozen=True, slots=True, eq=False)
class MatrixResult:
    """The record of the last product of a `CodedMatrix`; print it for a summary."""

    shape: tuple[int, ...]
    """Shape of the product, (m, c)."""
    stderr: np.ndarray | None
    """(m, c): standard error of each entry, 0 where exact, infinite where nothing is known; None if
    all is exact, up to rounding."""
    answered: tuple[int, ...]
    """Workers whose answer had come when waiting ended."""
    abandoned: tuple[int, ...]
    """Workers that were still running when waiting ended, stragglers or merely the last."""
    failed: Mapping[int, BaseException]
    """What went wrong, by worker."""
    rejected: Mapping[int, str]
    """What was wrong with rejected answers, by worker."""
    repaired: tuple[int, ...]
    """Workers that had lost their block and received it again during this product."""
    outcome: Outcome
    """Why waiting ended."""
    seconds: float
    """From the first call sent to the product decoded."""

    @property
    def exact(self) -> bool:
        """Whether the whole product is exact, up to rounding."""
        return self.stderr is None

    def __str__(self) -> str:
        lines = [
            heading(self.answered, self.abandoned, self.failed, self.seconds, self.outcome),
            f"  product    {self._product()}",
        ]
        groups = {
            "abandoned": self.abandoned,
            "rejected": tuple(self.rejected),
            "repaired": self.repaired,
        }
        lines += workers_lines(groups, self.failed)
        return "\n".join(lines)

    def _product(self) -> str:
        size = " x ".join(map(str, self.shape))
        if self.stderr is None:
            return f"{size}, exact"
        known = self.stderr[np.isfinite(self.stderr)]
        text = f"{size}, estimated"
        if known.any():
            text += f" (standard error up to {known.max():.3g})"
        if known.size < self.stderr.size:
            text += f", nothing known of {self.stderr.size - known.size:,} entries"
        return text
