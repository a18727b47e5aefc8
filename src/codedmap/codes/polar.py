"""A polar code over the reals: decoded by additions alone, with an estimate before it can be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.special import stdtrit

from .._errors import InvalidArgument, NotEnoughAnswers
from .._matrices.code import Decoded, check_consistent, check_matrix_budget

__all__ = ["PolarCode"]

_DOUBLE = np.dtype(np.float64)
_NORMAL = 1.959964  # standard errors within which 95 % of a normal distribution lies


@dataclass(frozen=True)
class PolarCode:
    """A randomised polar code (Bartan and Pilanci, arXiv 2309.00682), for many workers.

    The K blocks, with random signs, sit at the K most reliable of N positions, zeros at the others
    (*frozen*), and the coded blocks are their Walsh-Hadamard transform over √K, dealt to the
    workers at random. Which positions are reliable follows from the recursion of erasure
    probabilities, ``e → (2e - e², e²)`` from 1 - K/N. The sequential decoder takes O(N log N)
    additions of blocks and solves no system; whether it will get through is known beforehand by as
    many operations on booleans.

    It needs more answers than an `MDSCode`: of random orders about 10 % more than K at K/N = 3/4, and about
    20 % at K/N = 1/2 (``python -m benchmarks polar``). Rounding is hardly amplified.

    Before it can decode there is an estimate of each block's product: the mean of the answers, each
    with its sign. Answers that come in an order that has nothing to do with their values are a
    random sample without replacement of all N, whose mean with all signs is the block's product, so
    the textbook's standard error holds. The error is that of a sketch, about ``√(K/m · (1 - m/N))`` times the
    size of the products from m answers: below 1 only from m = N K/(N + K) on.

    The kernel is ``[[1, 1], [1, -1]]``, not ``[[1, 1], [0, 1]]`` as in 1901.06811, which takes the same
    additions but amplifies rounding more, and has no such estimate.

    Parameters
    ----------
    tasks : int
        K blocks of the matrix, at most N.
    workers : int
        N, a power of two.
    seed : int
        Of the signs and of who keeps which coded block.
    """

    tasks: int
    workers: int
    seed: int = 0

    def __post_init__(self) -> None:
        check_matrix_budget(self.tasks, self.workers)
        if self.workers & (self.workers - 1):
            below = 1 << (self.workers.bit_length() - 1)
            raise InvalidArgument(
                f"workers={self.workers} is no power of two, as a polar code needs: use {below} or "
                f"{2 * below}, or an MDSCode, which takes any number"
            )

    @property
    def stragglers(self) -> int:
        """Whoever they are; of random ones many more may be missing."""
        # A position that is reached by p steps to the reliable side is lost only with 2ᵖ answers.
        return int(min(1 << int(at).bit_count() for at in self._places)) - 1

    def weights(self, worker: int) -> np.ndarray:
        """Of each block in this worker's, (K,)."""
        odd = np.bitwise_count(self._places & self._row[worker]) % 2
        weights: np.ndarray = self._signs * (1.0 - 2.0 * odd) / self.tasks**0.5
        return weights

    def coded(self, blocks: np.ndarray) -> np.ndarray:
        """All coded blocks, (N, *x), from blocks (K, *x)."""
        shape = blocks.shape[1:]
        spread = np.zeros((self.workers, int(np.prod(shape))), blocks.dtype)
        for place, sign, block in zip(self._places, self._signs, blocks, strict=True):
            spread[place] = sign * block.reshape(-1)
        _transform(spread)
        spread *= spread.real.dtype.type(self.tasks**-0.5)
        dealt: np.ndarray = spread[self._row].reshape(self.workers, *shape)
        return dealt

    def decodable(self, answered: frozenset[int], dtype: np.dtype[Any] = _DOUBLE) -> bool:
        """Whether the sequential decoder gets through from these."""
        if len(answered) < self.tasks:
            return False
        known = np.zeros(self.workers, dtype=bool)
        known[self._row[list(answered)]] = True
        half = self.workers // 2
        while half:
            pairs = known.reshape(-1, 2, half)
            first, second = pairs[:, 0] & pairs[:, 1], pairs[:, 0] | pairs[:, 1]
            pairs[:, 0], pairs[:, 1] = first, second
            half //= 2
        return bool((known | self._frozen).all())

    def decode(self, answers: Mapping[int, np.ndarray], dtype: np.dtype[Any] = _DOUBLE) -> Decoded:
        """The products of K blocks, (K, *y), by successive cancellation."""
        if not self.decodable(frozenset(answers)):
            raise NotEnoughAnswers(
                f"the sequential decoder does not get through from {len(answers)} usable answers (it "
                f"needs at least {self.tasks}, and usually a tenth more): wait for more"
            )
        slots, rows, shape = self._sheet(answers)
        values = np.zeros((self.workers, rows.shape[1]), rows.dtype)
        known = np.zeros(self.workers, dtype=bool)
        at = self._row[slots]
        values[at], known[at] = rows, True
        found = np.empty_like(values)
        again = _cancelled(values, known, self._frozen, found)
        if len(slots) > self.tasks:
            check_consistent(rows, again[at], dtype)
        blocks = found[self._places]
        blocks *= (self._signs * self.tasks**0.5).astype(blocks.real.dtype)[:, None]
        return Decoded(blocks.reshape(self.tasks, *shape))

    def estimate(self, answers: Mapping[int, np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
        """Means of signed answers and their standard errors, each (K, *y); None of fewer than 2."""
        count = len(answers)
        if count < 2:
            return None
        slots, rows, shape = self._sheet(answers)
        spread = np.zeros((self.workers, rows.shape[1]), rows.dtype)
        spread[self._row[slots]] = rows * rows.real.dtype.type(self.tasks**0.5)
        _transform(spread)
        signs = self._signs.astype(rows.real.dtype)[:, None]
        values = spread[self._places] * (signs / rows.real.dtype.type(count))
        # Signs do not change the sum of squares, so the variance needs no second transform.
        squares = self.tasks * (np.abs(rows).astype(np.float64) ** 2).sum(axis=0)
        variance = (squares - count * np.abs(values).astype(np.float64) ** 2) / (count - 1)
        missing = (self.workers - count) / (self.workers - 1)
        stderr = np.sqrt(np.maximum(variance, 0.0) * missing / count)
        # Of few answers the variance is itself uncertain, so that 1.96 standard errors would not do.
        stderr *= float(stdtrit(count - 1, 0.975)) / _NORMAL
        limits = np.finfo(rows.dtype)
        stderr = np.maximum(stderr, limits.eps * np.abs(values).max(initial=0.0) + limits.tiny)
        return values.reshape(self.tasks, *shape), stderr.reshape(self.tasks, *shape)

    def _sheet(
        self, answers: Mapping[int, np.ndarray]
    ) -> tuple[list[int], np.ndarray, tuple[int, ...]]:
        slots = sorted(answers)
        shape = answers[slots[0]].shape
        return slots, np.stack([answers[s] for s in slots]).reshape(len(slots), -1), shape

    @cached_property
    def _frozen(self) -> np.ndarray:
        lost = np.array([1.0 - self.tasks / self.workers])
        while len(lost) < self.workers:
            lost = np.stack([2.0 * lost - lost**2, lost**2], axis=1).ravel()
        frozen = np.ones(self.workers, dtype=bool)
        frozen[np.argsort(lost, kind="stable")[: self.tasks]] = False
        return frozen

    @cached_property
    def _places(self) -> np.ndarray:
        return np.flatnonzero(~self._frozen)

    @cached_property
    def _signs(self) -> np.ndarray:
        return self._random[0]

    @cached_property
    def _row(self) -> np.ndarray:
        return self._random[1]

    @cached_property
    def _random(self) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng((self.seed, self.tasks, self.workers))
        return rng.choice([-1.0, 1.0], self.tasks), rng.permutation(self.workers)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}


def _transform(rows: np.ndarray) -> None:
    """The Walsh-Hadamard transform along the first axis, in place."""
    half = len(rows) // 2
    while half:
        pairs = rows.reshape(-1, 2, half, *rows.shape[1:])
        difference = pairs[:, 0] - pairs[:, 1]
        pairs[:, 0] += pairs[:, 1]
        pairs[:, 1] = difference
        half //= 2


def _cancelled(
    values: np.ndarray, known: np.ndarray, frozen: np.ndarray, found: np.ndarray
) -> np.ndarray:
    """Decode rows of a transform, (n, w), 0 where not known; write what was transformed to ``found``.

    Returns all rows of the transform. The first half of a transform is the sum of those of its two
    halves, and the second the difference, so u = (a + b) / 2 where both are known, and then v
    is a - u, or u - b, or (a - b) / 2.
    """
    size = len(values)
    if frozen.all():
        found[:] = 0.0
        return np.zeros_like(values)
    if known.all():
        found[:] = values
        _transform(found)
        found /= found.real.dtype.type(size)
        if not frozen.any():
            return values
        found[frozen] = 0.0
        again = found.copy()
        _transform(again)
        return again
    half = size // 2
    a, b, has_a, has_b = values[:half], values[half:], known[:half], known[half:]
    u = _cancelled((a + b) * a.real.dtype.type(0.5), has_a & has_b, frozen[:half], found[:half])
    one = a.real.dtype.type(1.0)
    both = np.where(has_a & has_b, one / 2, one)[:, None]
    v = np.where(has_a[:, None], a - u, 0) + np.where(has_b[:, None], u - b, 0)
    v *= both
    v = _cancelled(v, has_a | has_b, frozen[half:], found[half:])
    return np.concatenate([u + v, u - v])
