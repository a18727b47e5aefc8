"""A polar code over the reals: decoded by additions alone, with estimates before it is decodable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy

from ..contracts.arguments import check_whole
from ..contracts.matrix_code import Decoded, check_consistent, check_matrix_budget, stacked
from ..errors import WAIT, InvalidArgument, NotEnoughAnswers, many

_DOUBLE = np.dtype(np.float64)
_EQUAL = 1e-9  # difference below which two shares are equal up to rounding
_COARSE = float(np.finfo(np.float32).eps)  # of the coarsest dtype that matrices are computed in
_NORMAL = 1.959964  # standard deviations to either side that hold 95 % of a normal distribution


@dataclass(frozen=True)
class PolarCode:
    """A randomised polar code (Bartan and Pilanci, arXiv 2309.00682), for many workers.

    The K blocks, with random signs, sit at the K most reliable of N positions, zeros at the others
    (*frozen*), and the coded blocks are their Walsh-Hadamard transform over √K, assigned to the
    workers at random. Which positions are reliable follows from the recursion of erasure
    probabilities, ``e → (2e - e², e²)`` from 1 - K/N. The sequential decoder takes O(N log N)
    additions of blocks and solves no system; whether it succeeds is known beforehand from as
    many operations on booleans.

    It needs more answers than an `MDSCode`: of random orders about 10 % more than K at K/N = 3/4, and about
    20 % at K/N = 1/2 (``python -m benchmarks polar``). Rounding is hardly amplified.

    Wrong answers are detected where the answers are redundant, but not located. With all N answers and
    K < N, each answer is part of that redundancy. With some missing, more than K answers are not enough:
    if the others do not determine an answer, a wrong one gives another product that fits all answers.
    In ``PolarCode(12, 16)`` each crash leaves one such worker.

    Before it can decode there is an estimate of each block's product: the mean of the answers, each
    with its sign. If the order of the answers is independent of their values, they are a random sample without
    replacement of all N, whose signed mean is the block's product. So the textbook's standard error holds. It is larger
    where the mixtures of the answers have much in common, and infinite where all are the same mixture up to sign, which
    has no spread. The error is that of a sketch, about ``√(K/m · (1 - m/N))`` times the
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
        Of the signs and of the assignment of coded blocks to workers.
    """

    tasks: int
    workers: int
    seed: int = 0

    def __post_init__(self) -> None:
        check_whole("seed", self.seed, 0)
        check_matrix_budget(self.tasks, self.workers)
        if self.workers & (self.workers - 1):
            above = 1 << self.workers.bit_length()
            below = f"{above // 2} or " if above // 2 >= self.tasks else ""
            raise InvalidArgument(
                f"workers={self.workers} is not a power of two, as a polar code needs: use {below}{above}, "
                "or an MDSCode, which takes any number"
            )

    @property
    def stragglers(self) -> int:
        """Answers that may be missing, whichever they are; of random ones many more may be."""
        # A position that p reliable steps of the recursion lead to is lost only with 2ᵖ answers.
        return int(min(1 << int(at).bit_count() for at in self._positions)) - 1

    def weights(self, worker: int) -> np.ndarray:
        """Weight of each block in this worker's coded block, (K,)."""
        odd = np.bitwise_count(self._positions & self._row[worker]) % 2
        return np.asarray(self._signs * (1.0 - 2.0 * odd) / self.tasks**0.5)

    def coded(self, blocks: np.ndarray) -> np.ndarray:
        """All coded blocks, (N, *x), from blocks (K, *x)."""
        shape = blocks.shape[1:]
        spread = np.zeros((self.workers, int(np.prod(shape))), blocks.dtype)
        for position, sign, block in zip(self._positions, self._signs, blocks, strict=True):
            spread[position] = sign * block.reshape(-1)
        _transform(spread)
        spread *= spread.real.dtype.type(self.tasks**-0.5)
        return np.asarray(spread[self._row].reshape(self.workers, *shape))

    def decodable(self, answered: frozenset[int], dtype: np.dtype[Any] = _DOUBLE) -> bool:
        """Whether the sequential decoder succeeds with these answers."""
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
                f"the sequential decoder does not get through from {many(len(answers), 'usable answer')} (it "
                f"needs at least {self.tasks}, and usually a tenth more)",
                WAIT,
            )
        slots, rows, shape = stacked(answers)
        values = np.zeros((self.workers, rows.shape[1]), rows.dtype)
        known = np.zeros(self.workers, dtype=bool)
        at = self._row[slots]
        values[at], known[at] = rows, True
        found = np.empty_like(values)
        again = _cancelled(values, known, self._frozen, found)
        if len(slots) > self.tasks:
            check_consistent(rows, again[at], dtype)
        blocks = found[self._positions]
        blocks *= (self._signs * self.tasks**0.5).astype(blocks.real.dtype)[:, None]
        return Decoded(blocks.reshape(self.tasks, *shape))

    def estimate(self, answers: Mapping[int, np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
        """Means of signed answers and their standard errors, each (K, *y); None of fewer than 2."""
        count = len(answers)
        if count < 2:
            return None
        slots, rows, shape = stacked(answers)
        spread = np.zeros((self.workers, rows.shape[1]), rows.dtype)
        spread[self._row[slots]] = rows * rows.real.dtype.type(self.tasks**0.5)
        _transform(spread)
        signs = self._signs.astype(rows.real.dtype)[:, None]
        values = spread[self._positions] * (signs / rows.real.dtype.type(count))
        stderr = self._stderr(slots, rows, values)
        limits = np.finfo(rows.dtype)
        stderr = np.maximum(stderr, limits.eps * np.abs(values).max(initial=0.0) + limits.tiny)
        return values.reshape(self.tasks, *shape), stderr.reshape(self.tasks, *shape)

    def _stderr(self, slots: list[int], rows: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Standard errors of means of signed answers, (K, outputs).

        Answers of the same mixture up to sign, or of mixtures with much in common, agree more than others, so that
        their spread underestimates the error. By how much follows from the inner products of their weights: if all
        values of the blocks are equally likely, the mean squares of the K errors and of the K deviations are in the
        ratio ``(s - 1/K)`` to ``(1 - s)``, s being the mean square of these products.
        """
        count, tasks, workers = len(slots), self.tasks, self.workers
        shared, mixtures = self._shared(slots)
        if shared - 1.0 / tasks < _EQUAL:  # as with all answers, where the other blocks cancel out
            return np.zeros(values.shape)
        if mixtures == 1:  # its answers have no spread, however many they are
            return np.full(values.shape, np.inf)
        size = np.abs(rows).max(axis=0).astype(np.float64)  # its square may overflow
        unit = np.where(size > 0.0, size, 1.0)
        # Signs do not change the sum of squares, so deviations need no second transform.
        square = tasks * ((np.abs(rows) / unit) ** 2).sum(axis=0) / count
        deviations = np.maximum(square - (np.abs(values) / unit) ** 2, 0.0)
        sampled = (workers - count) / (workers - 1) / count  # this ratio on average of samples
        own = deviations * max(sampled * count / (count - 1), (shared - 1 / tasks) / (1 - shared))
        # A few answers may agree by chance, such as where most blocks are 0. There the mean over all blocks
        # is used, which is 0 only if all blocks are 0.
        mean = square * max(sampled * (1 - 1 / tasks), shared - 1 / tasks)
        rounding = (tasks * _COARSE) ** 2 + tasks * np.finfo(rows.dtype).eps
        stderr: np.ndarray = unit * np.sqrt(np.where(deviations > rounding * square, own, mean))
        # The variance of few answers is itself uncertain: Student's distribution allows for it.
        stderr *= float(scipy.special.stdtrit(mixtures - 1, 0.975)) / _NORMAL
        # Outputs with no answer other than 0 show no spread, and get the largest error of the others.
        known = size > tasks * _COARSE * size.max(initial=0.0)
        stderr[:, ~known] = stderr[:, known].max() if known.any() else np.inf
        return stderr

    def _shared(self, slots: list[int]) -> tuple[float, int]:
        """The mean square of the inner products of each two of these workers' weights, as vectors of length 1, and the
        number of workers' mixtures that differ in more than their sign.
        """
        # Such a product follows from the exclusive or of two rows, so it is enough to count these.
        rows = self._row[slots]
        spectrum = np.zeros(self.workers)
        spectrum[rows] = 1.0
        _transform(spectrum)
        pairs = spectrum**2
        _transform(pairs)
        total = float(pairs @ self._alike**2) / self.workers
        equal = np.flatnonzero(self._alike == self.tasks)
        mixtures = len(np.unique((rows[:, None] ^ equal).min(axis=1)))
        return total / (len(slots) * self.tasks) ** 2, mixtures

    @cached_property
    def _frozen(self) -> np.ndarray:
        """The positions without a block, (N,) bool: the least reliable ones."""
        lost = np.array([1.0 - self.tasks / self.workers])
        while len(lost) < self.workers:
            lost = np.stack([2.0 * lost - lost**2, lost**2], axis=1).ravel()
        frozen = np.ones(self.workers, dtype=bool)
        frozen[np.argsort(lost, kind="stable")[: self.tasks]] = False
        return frozen

    @cached_property
    def _alike(self) -> np.ndarray:
        """K times the size of the inner product of two workers' weights, by the exclusive or of their rows."""
        sums = (~self._frozen).astype(np.float64)
        _transform(sums)
        return np.abs(sums)

    @cached_property
    def _positions(self) -> np.ndarray:
        """The positions of the K blocks, (K,)."""
        return np.flatnonzero(~self._frozen)

    @cached_property
    def _signs(self) -> np.ndarray:
        return self._random[0]

    @cached_property
    def _row(self) -> np.ndarray:
        """The row of the transform that each worker keeps, (N,)."""
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
