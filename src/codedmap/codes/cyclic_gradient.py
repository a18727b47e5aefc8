"""Cyclic gradient coding (arXiv 1612.03301): any number of workers, any of them may straggle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..coding.gradient import GradientCode
from ..contracts.arguments import check_whole
from ..contracts.sum_code import check_sum_budget


@dataclass(frozen=True)
class CyclicGradientCode(GradientCode):
    """Cyclic repetition of Tandon, Lei, Dimakis and Karampatziakis (arXiv 1612.03301, algorithm 2).

    Worker n holds parts n … n + S and answers with a combination of their values, as long as one of
    them. Where S + 1 divides N all coefficients are equal. Elsewhere they are drawn: an S x N matrix
    H is Gaussian with rows that sum to 0, and the coefficients of worker n are orthogonal to H. Of
    up to eight draws the one is taken whose `amplification` is least.

    Parameters
    ----------
    workers, stragglers : int
        N and S: the sum is exact from any N - S answers. Of many workers (50 and more, where S + 1 does not divide
        them) very few sets would enlarge rounding too much; there one more answer is waited for.
    seed : int
        Seeds the draws.

    Raises
    ------
    InvalidArgument
        If rounding errors would be enlarged more than 1e5 times.
    """

    workers: int
    stragglers: int
    seed: int = 0
    reduction: ClassVar[int] = 1  # type: ignore[misc]  # the base has a field
    """An answer is as long as the sum."""

    def __post_init__(self) -> None:
        check_sum_budget(self.workers, self.stragglers)
        check_whole("seed", self.seed, 0)
        self.check()

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Coefficients (N, N, 1)."""
        n, load = self.workers, self.load
        support = (np.arange(n)[:, None] + np.arange(load)) % n
        coefficients = np.zeros((n, n, 1))
        if n % load == 0:
            values = np.ones((n, load))
        else:
            H = rng.standard_normal((self.stragglers, n))
            H -= H.mean(axis=1, keepdims=True)
            # The last column of a complete Q is orthogonal to all others.
            values = np.linalg.qr(H[:, support].transpose(1, 2, 0), mode="complete")[0][:, :, -1]
        coefficients[np.arange(n)[:, None], support, 0] = values
        return coefficients

    def instead(self) -> str:
        """Codes whose weights are all 1, for a message."""
        n, load = self.workers, self.load
        return (
            f"{-(-n // load) * load} workers (a multiple of S + 1), with which this code and "
            "FractionalRepetition only add, or GroupedGradientCode"
        )
