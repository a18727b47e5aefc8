"""A sum without coding: the stragglers' parts are left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..coding.gradient import too_few
from ..contracts.sum_code import check_sum_budget


@dataclass(frozen=True)
class IgnoreStragglers:
    """One part a worker; late answers are left out, and the sum of the others is scaled up.

    Not exact, unless all have answered (`SumResult.exact` says so), and without an error bar. If lateness
    does not depend on the parts, the sum is unbiased; if the same workers are always late, their
    parts are never counted. It is the baseline for gradient codes.

    Parameters
    ----------
    workers, stragglers : int
        N and S: the first N - S answers are added, times N / (N - S).
    """

    workers: int
    stragglers: int
    reduction: ClassVar[int] = 1
    """An answer is as long as the sum."""
    amplification: ClassVar[float] = 1.0
    """Rounding is that of a plain sum."""

    def __post_init__(self) -> None:
        check_sum_budget(self.workers, self.stragglers)

    def held(self, worker: int) -> tuple[int, ...]:
        """Its own part."""
        return (worker,)

    def coefficients(self, worker: int) -> np.ndarray:
        """1, (1, 1)."""
        return np.ones((1, 1))

    def decodable(self, answered: frozenset[int]) -> bool:
        """Whether N - S have answered."""
        return len(answered) >= self.workers - self.stragglers

    def weights(self, answered: frozenset[int]) -> Mapping[int, np.ndarray]:
        """N / F for each of F answers."""
        if not self.decodable(answered):
            needed = self.workers - self.stragglers
            raise too_few(answered, self.workers, f"and {needed} are needed")
        scale = self.workers / len(answered)
        return {worker: np.full(1, scale) for worker in sorted(answered)}
