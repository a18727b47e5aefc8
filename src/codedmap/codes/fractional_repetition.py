"""Fractional repetition (arXiv 1612.03301): groups of workers that hold the same parts and add them up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..coding.gradient import too_few
from ..contracts.sum_code import check_sum_budget
from ..errors import InvalidArgument


@dataclass(frozen=True)
class FractionalRepetition:
    """Groups of S + 1 workers hold the same S + 1 parts; one answer of each group gives the sum.

    From Tandon, Lei, Dimakis and Karampatziakis (arXiv 1612.03301). Nothing is multiplied: integers
    stay exact, and rounding is that of a plain sum. Worker n is in group n mod N/(S + 1), so that
    neighbours, which often fail together, are not copies of each other. Often fewer than N - S
    answers suffice.

    Parameters
    ----------
    workers, stragglers : int
        N and S; S + 1 must divide N. With S = 0 each worker has a part of its own, and all are
        waited for.
    """

    workers: int
    stragglers: int
    reduction: ClassVar[int] = 1
    """An answer is as long as the sum."""
    amplification: ClassVar[float] = 1.0
    """Rounding is that of a plain sum."""

    def __post_init__(self) -> None:
        check_sum_budget(self.workers, self.stragglers)
        if self.workers % self.load:
            more = -(-self.workers // self.load) * self.load
            raise InvalidArgument(
                f"{self.workers} workers cannot be divided into groups of S + 1 = {self.load}: use "
                f"{more - self.load} or {more} workers, {self._near()} stragglers, or "
                f"CyclicGradientCode({self.workers}, {self.stragglers})"
            )

    @property
    def load(self) -> int:
        """S + 1: parts that each worker holds."""
        return self.stragglers + 1

    @property
    def groups(self) -> int:
        """N / (S + 1)."""
        return self.workers // self.load

    def held(self, worker: int) -> tuple[int, ...]:
        """The parts of the worker's group."""
        return tuple(range(worker % self.groups, self.workers, self.groups))

    def coefficients(self, worker: int) -> np.ndarray:
        """Ones, (S + 1, 1)."""
        return np.ones((self.load, 1), dtype=np.int64)

    def decodable(self, answered: frozenset[int]) -> bool:
        """Whether every group has an answer."""
        return len({worker % self.groups for worker in answered}) == self.groups

    def weights(self, answered: frozenset[int]) -> Mapping[int, np.ndarray]:
        """1 for the first worker of each group that has answered."""
        first = {worker % self.groups: worker for worker in sorted(answered, reverse=True)}
        if len(first) < self.groups:
            lacking = sorted(set(range(self.groups)) - set(first))
            every = ", ".join(map(str, range(lacking[0], self.workers, self.groups)))
            but = f"and none of workers {every}, which hold the same parts"
            raise too_few(answered, self.workers, but)
        return {worker: np.ones(1, dtype=np.int64) for worker in first.values()}

    def parity(self, answered: frozenset[int]) -> Mapping[int, int]:
        """Random whole numbers that add up to 0 in each group with more than one answer."""
        rng = np.random.default_rng(0)
        found: dict[int, int] = {}
        for group in range(self.groups):
            members = sorted(worker for worker in answered if worker % self.groups == group)
            if len(members) > 1:
                # Whole numbers, so that sums of integers are compared to the last digit.
                weights = rng.integers(2**15, 2**16, len(members))
                weights[0] = -weights[1:].sum()
                found |= zip(members, weights.tolist(), strict=True)
        return found

    def _near(self) -> str:
        """The nearest numbers of stragglers for which S + 1 divides N."""
        sizes = [size for size in range(1, self.workers + 1) if self.workers % size == 0]
        below = max(size for size in sizes if size < self.load)
        return f"{below - 1} or {min(size for size in sizes if size > self.load) - 1}"
