"""Gradient codes from any linear code, within groups (arXiv 2005.06184): stable for any N."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..coding.gradient import DrawnCode, best_drawn, too_few
from ..contracts.arguments import check_whole
from ..contracts.memory import check_counts, check_room
from ..errors import InvalidArgument


@dataclass(frozen=True)
class GroupedGradientCode:
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
        self._group_code.check(self, self.amplification, "smaller groups")

    @property
    def stragglers(self) -> int:
        """ℓ - m: answers that may be missing, whichever they are."""
        return self.group - self.reduction

    @property
    def load(self) -> int:
        """ℓ: parts that each worker holds."""
        return self.group

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
        return self._group_code.longest

    def held(self, worker: int) -> tuple[int, ...]:
        """The parts of the worker's group."""
        return tuple(range(worker % self.groups, self.workers, self.groups))

    def coefficients(self, worker: int) -> np.ndarray:
        """The same for all parts: the worker's row of the group's code, (ℓ, m)."""
        return np.tile(self._group_code.rows[worker // self.groups], (self.group, 1))

    def decodable(self, answered: frozenset[int]) -> bool:
        """Whether each group has m answers, or more if m of them would need too large weights."""
        each = self._members(answered)
        return all(self._group_code.weights(members) is not None for members in each)

    def weights(self, answered: frozenset[int]) -> Mapping[int, np.ndarray]:
        """The weights of each answer in the m slices of the sum: worker to (m,)."""
        found = {}
        for group, members in enumerate(self._members(answered)):
            weights = self._group_code.weights(members)
            if weights is None:
                every = ", ".join(map(str, range(group, self.workers, self.groups)))
                have = f"{len(members)} of the {self.reduction} that are needed"
                but = f"and of group {group} (workers {every}) {have}"
                raise too_few(answered, self.workers, but)
            for member in sorted(members):
                found[member * self.groups + group] = weights[:, member]
        return found

    def parity(self, answered: frozenset[int]) -> Mapping[int, float]:
        """Weights with which correct answers add up to 0, in groups with more than m answers."""
        found: dict[int, float] = {}
        for group, members in enumerate(self._members(answered)):
            if len(members) > self.reduction:
                weights = self._group_code.parity(members)
                found |= {int(i) * self.groups + group: float(weights[i]) for i in members}
        return found

    @cached_property
    def _group_code(self) -> DrawnCode:
        check_room(
            2 * 8 * self.group**2,
            f"the weights in a group of {self.group} of {self!r}",
            "Use smaller groups",
        )
        shape = self.group, self.reduction
        return best_drawn(
            lambda rng: rng.standard_normal(shape), np.eye(shape[1]), shape[1], self.seed
        )

    def _members(self, answered: frozenset[int]) -> list[frozenset[int]]:
        """The workers of each group that have answered, as numbers within the group."""
        groups: list[set[int]] = [set() for _ in range(self.groups)]
        for worker in answered:
            groups[worker % self.groups].add(worker // self.groups)
        return [frozenset(members) for members in groups]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_group_code"}
