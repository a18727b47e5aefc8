"""Gradient codes from any linear code, within groups (arXiv 2005.06184): stable for any N."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..coding.gradient import GradientCode
from ..contracts.arguments import check_whole
from ..contracts.memory import check_counts, check_room
from ..errors import InvalidArgument


@dataclass(frozen=True)
class GroupedGradientCode(GradientCode):
    """Groups hold the same parts, and each member sends 1/m of their sum, coded.

    From Kadhe, Koyluoglu and Ramchandran (arXiv 2005.06184): the sum over a group's parts is cut into m
    slices, and its ℓ members answer with combinations of these by an (ℓ, m) code, here a Gaussian
    one. Any m answers of each group give the sum. So any ℓ - m workers may straggle, and up to
    N/ℓ times as many if they are in different groups. What matters for rounding is ℓ, not N. Worker
    n is in group n mod N/ℓ.

    Parameters
    ----------
    workers, group, reduction : int
        N, ℓ and m; ℓ must divide N.
    seed : int
        Of the Gaussian code; the best of up to eight draws is taken.

    Raises
    ------
    InvalidArgument
        If ℓ does not divide N, or the group is so large that rounding would be enlarged too much.
    """

    workers: int
    group: int
    reduction: int
    seed: int = 0

    def __post_init__(self) -> None:
        check_whole("workers", self.workers, 1)
        check_whole("group", self.group, 1)
        check_whole("reduction", self.reduction, 1)
        check_whole("seed", self.seed, 0)
        check_counts(self.workers)
        if self.reduction > self.group:
            raise InvalidArgument(
                f"a group of {self.group} cannot send a sum in {self.reduction} slices: reduction "
                "must be at most the size of a group, and less if stragglers are allowed"
            )
        if self.workers % self.group:
            near = [g for g in range(self.reduction, self.workers + 1) if self.workers % g == 0]
            more = -(-self.workers // self.group) * self.group
            raise InvalidArgument(
                f"{self.workers} workers cannot be divided into groups of {self.group}: use {more} "
                f"workers, or groups of {' or '.join(map(str, near))}"
            )
        self.check()

    @property
    def stragglers(self) -> int:  # type: ignore[override]  # the base has a field
        """ℓ - m: answers that may be missing, whichever they are."""
        return self.group - self.reduction

    @property
    def groups(self) -> int:
        """N / ℓ."""
        return self.workers // self.group

    @property
    def amplification(self) -> float:
        """The factor by which rounding of the answers may be enlarged in the sum; 1 for a plain sum.

        The largest over all sets of ℓ - m stragglers in a group. If these are more than 500, over all sets of
        consecutive workers and 500 others.
        """
        return self._made.longest

    def held(self, worker: int) -> tuple[int, ...]:
        """The parts of the worker's group."""
        return tuple(range(worker % self.groups, self.workers, self.groups))

    def coefficients(self, worker: int) -> np.ndarray:
        """The same for all parts: the worker's row of the group's code, (ℓ, m)."""
        return np.tile(self._made.rows[worker // self.groups], (self.group, 1))

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Coefficients (ℓ, 1, m), the same for all parts of a group."""
        return rng.standard_normal((self.group, 1, self.reduction))

    def instead(self) -> str:
        """What is more stable, for a message."""
        return "smaller groups"

    def _lacking(self, group: int, answers: int) -> str:
        """Of which group how many answers are needed, for a message."""
        every = ", ".join(map(str, range(group, self.workers, self.groups)))
        have = f"{answers} of the {self.reduction} that are needed"
        return f"and of group {group} (workers {every}) {have}"

    def _check_room(self) -> None:
        """Raise `NotEnoughMemory` if the weights in a group do not fit."""
        check_room(
            2 * 8 * self.group**2,
            f"the weights in a group of {self.group} of {self!r}",
            "Use smaller groups",
        )
