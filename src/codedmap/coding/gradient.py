"""Gradient codes that consist of one array of coefficients."""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping, Sized
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np

from ..contracts.memory import check_room
from ..errors import WAIT, InvalidArgument, NotEnoughAnswers

TOLERANCE = 1e-9
"""Most that weights may miss the sum, or enlarge the rounding of float64, as a share of the sum."""
_DRAWS = 8  # most random draws of coefficients
_ACCEPTED = 1e3  # a draw is good enough if no weights are longer
_TRIED = 500  # random sets of stragglers that are tried if there are more than these
_TOGETHER = 50  # sets of stragglers that are computed together
_EPS = float(np.finfo(np.float64).eps)
_DEPENDENT = 1e-9  # a direction whose singular value is smaller counts as rounding error


class DrawnCode:
    """Coefficients as rows c_1 … c_n of length 1, and weights w with Σ w_i c_i = target, 0 where a row is missing.

    With all rows the smallest weights come from the singular value decomposition. Combinations of the
    n - rank left null vectors may be added to them, so that weights without k rows solve a least-squares
    problem of n - rank by k. Its shortest solution enlarges rounding least.

    ``rows`` are (n, q), ``target`` is (m, q). ``rank`` is that of the rows, which is known from how they were made; any
    n - rank rows may be missing.
    """

    def __init__(self, rows: np.ndarray, target: np.ndarray, rank: int) -> None:
        n, q = rows.shape
        left, singular, right = np.linalg.svd(rows, full_matrices=q < n)
        self.rows = rows
        self._target = target
        self._factors = right[:rank].T / singular[:rank], left[:, :rank].T
        self._whole = self._spanned(target)
        self._free = left[:, rank:].T
        sets = straggler_sets(n, n - rank)
        parts = (sets[begin : begin + _TOGETHER] for begin in range(0, len(sets), _TOGETHER))
        lengths = np.concatenate([self._lengths(part) for part in parts])
        self.longest = float(lengths.max())
        """The greatest length of weights, over the sets of missing rows that were tried."""
        self.worst: list[int] = sets[lengths.argmax()].tolist()
        """The set for which they are."""

    def weights(self, answered: frozenset[int]) -> np.ndarray | None:
        """Weights (m, n) of these rows; None if they would miss the target or enlarge rounding too much."""
        weights, off = self.solve(self._missing(answered))
        return weights if off <= TOLERANCE else None

    def parity(self, answered: frozenset[int]) -> np.ndarray:
        """Random weights (n,) of length 1 with which these rows add up to 0; all 0 if there are none."""
        missing = self._missing(answered)
        mix = np.random.default_rng(0).standard_normal(len(self._free))
        if missing and len(mix):
            left, singular, _ = np.linalg.svd(self._free[:, missing], full_matrices=False)
            basis = left[:, singular > _DEPENDENT]
            mix -= basis @ (basis.T @ mix)
        weights: np.ndarray = mix @ self._free
        weights[missing] = 0.0
        length = np.linalg.norm(weights)
        return weights / length if length > _DEPENDENT else np.zeros_like(weights)

    def solve(self, missing: list[int]) -> tuple[np.ndarray, float]:
        """Weights (m, n) without these rows, and how much they miss the target or enlarge rounding.

        The latter, relative to the target, is the largest error of an entry plus the length of the weights times
        the distance between 1 and the next number.
        """
        weights = self._without(self._whole, missing)
        # A second step for the remaining error, since least squares are less accurate than their data.
        rest = self._spanned(self._target - weights @ self.rows)
        weights = weights + self._without(rest, missing)
        off = np.abs(weights @ self.rows - self._target).max()
        return weights, float(off + _EPS * np.linalg.norm(weights, axis=1).max())

    def _spanned(self, target: np.ndarray) -> np.ndarray:
        """The shortest weights of all rows that combine to a target (m, q)."""
        return np.asarray(target @ self._factors[0] @ self._factors[1])

    def _missing(self, answered: frozenset[int]) -> list[int]:
        return sorted(set(range(len(self.rows))) - answered)

    def _without(self, weights: np.ndarray, missing: list[int]) -> np.ndarray:
        """The shortest weights that combine to the same target and are 0 for these rows."""
        if not missing:
            return weights
        gone = self._free[:, missing]
        step = np.linalg.lstsq(gone.T, -weights[:, missing].T, rcond=1e-13)[0]
        changed: np.ndarray = weights + step.T @ self._free
        changed[:, missing] = 0.0
        return changed

    def _lengths(self, sets: np.ndarray) -> np.ndarray:
        """The greatest length of weights without each of these sets of rows, (t, k): (t,)."""
        sizes = np.broadcast_to((self._whole**2).sum(axis=1), (len(sets), len(self._whole)))
        if sets.shape[1]:
            gone = self._free[:, sets].swapaxes(0, 1)
            lacking = self._whole[:, sets].swapaxes(0, 1)
            steps = lacking @ np.linalg.pinv(gone, rcond=1e-13)
            sizes = sizes + (steps**2).sum(axis=2)
        return np.asarray(np.sqrt(sizes.max(axis=1)))


def straggler_sets(workers: int, stragglers: int) -> np.ndarray:
    """All sets of so many workers, (t, stragglers); if these are too many, random sets and all runs of neighbours."""
    if math.comb(workers, stragglers) <= _TRIED:
        return np.array(list(combinations(range(workers), stragglers)), dtype=int)
    runs = (np.arange(workers)[:, None] + np.arange(stragglers)) % workers
    rng = np.random.default_rng(workers)
    scattered = rng.random((_TRIED, workers)).argpartition(stragglers, axis=1)[:, :stragglers]
    return np.concatenate([scattered, runs])


def too_few(answered: Sized, workers: int, but: str) -> NotEnoughAnswers:
    """The error for answers that do not give the sum; ``but`` says why."""
    return NotEnoughAnswers(
        f"{len(answered)} of {workers} workers answered, {but}", WAIT, "allow more stragglers"
    )


class GradientCode(abc.ABC):
    """A sum code with drawn coefficients: in each of its groups, those of any n - S of the n workers span the sum.

    Here all workers are one group. Derive from it as a frozen dataclass with the fields ``workers``, ``stragglers``,
    ``reduction`` (or properties) and ``seed``, and call `check` when it is made.
    """

    workers: int
    stragglers: int
    reduction: int
    seed: int

    @abc.abstractmethod
    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Coefficients of the n workers of a group, (n, parts, m): of slice v of part j in the answer of worker i."""

    @abc.abstractmethod
    def instead(self) -> str:
        """What to use if this code is refused, for the message."""

    @property
    def groups(self) -> int:
        """How many groups there are; worker n is in group n modulo this."""
        return 1

    @property
    def load(self) -> int:
        """S + m: parts that each worker holds, the fewest possible."""
        return self.stragglers + self.reduction

    @property
    def amplification(self) -> float:
        """The factor by which rounding errors of the answers may grow in the sum, ‖a‖/√N; 1 for a plain sum.

        ‖a‖ is the length of the weights, with each worker's coefficients of length 1. It is the largest
        of all sets of S stragglers, or if there are more than 500, of 500 random ones and all runs.
        """
        return self._made.longest / math.sqrt(self.workers)

    def held(self, worker: int) -> tuple[int, ...]:
        """Parts n, n + 1, … n + d - 1, modulo N."""
        return tuple((worker + step) % self.workers for step in range(self.load))

    def coefficients(self, worker: int) -> np.ndarray:
        """Coefficients of each slice of each of these parts in this worker's answer, (d, m)."""
        row = self._made.rows[worker].reshape(self.workers, -1)
        return np.asarray(row[list(self.held(worker))])

    def decodable(self, answered: frozenset[int]) -> bool:
        """Whether answers of these workers give the sum, without too large weights."""
        return all(self._made.weights(members) is not None for members in self._members(answered))

    def weights(self, answered: frozenset[int]) -> Mapping[int, np.ndarray]:
        """Weights of each answer in the m slices of the sum: worker to (m,)."""
        found: dict[int, np.ndarray] = {}
        for group, members in enumerate(self._members(answered)):
            weights = self._made.weights(members)
            if weights is None:
                raise too_few(answered, self.workers, self._lacking(group, len(members)))
            found |= {i * self.groups + group: weights[:, i] for i in sorted(members)}
        return found

    def _lacking(self, group: int, answers: int) -> str:
        """Why so many answers of a group do not give the sum, for the message."""
        if answers < self.workers - self.stragglers:
            return f"and {type(self).__name__} needs {self.workers - self.stragglers}"
        return "which is enough on paper, but these would enlarge rounding too much"

    def parity(self, answered: frozenset[int]) -> Mapping[int, float]:
        """Weights with which correct answers add up to 0, in groups with more than n - S."""
        found: dict[int, float] = {}
        for group, members in enumerate(self._members(answered)):
            weights = self._made.parity(members)
            places = np.flatnonzero(weights).tolist()
            found |= {i * self.groups + group: float(weights[i]) for i in places}
        return found

    def check(self) -> None:
        """Raise `InvalidArgument` if rounding would be enlarged too much."""
        _, off = self._made.solve(self._made.worst)
        if off > TOLERANCE / 3:  # other sets of stragglers than those tried may be worse
            raise InvalidArgument(
                f"{self!r} would enlarge rounding errors at least {self.amplification:.1e} times for some "
                f"stragglers, and miss the sum by {off:.0e} of it: use {self.instead()}"
            )

    def _check_room(self) -> None:
        """Raise `NotEnoughMemory` if the coefficients, and what decodes them, do not fit."""
        n, m = self.workers, self.reduction
        check_room(
            4 * 8 * n * n * m,
            f"N² m = {n * n * m:.3g} coefficients of {self!r}",
            "Use fewer workers, or FractionalRepetition, which has none",
        )

    @cached_property
    def _made(self) -> DrawnCode:
        self._check_room()
        n, m = self.workers // self.groups, self.reduction
        best: DrawnCode | None = None
        for number in range(_DRAWS):
            rows = self.draw(np.random.default_rng((self.seed, number))).reshape(n, -1)
            rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
            drawn = DrawnCode(rows, np.tile(np.eye(m), rows.shape[1] // m), n - self.stragglers)
            if best is None or drawn.longest < best.longest:
                best = drawn
            if drawn.longest <= _ACCEPTED:
                break
        assert best is not None
        return best

    def _members(self, answered: frozenset[int]) -> list[frozenset[int]]:
        """The workers of each group that have answered, as numbers within the group."""
        groups: list[set[int]] = [set() for _ in range(self.groups)]
        for worker in answered:
            groups[worker % self.groups].add(worker // self.groups)
        return [frozenset(members) for members in groups]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_made"}
