"""Weights on combinations of which some are missing, and how far they carry rounding."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np

__all__ = ["Combiner", "straggler_sets"]

_EPS = float(np.finfo(np.float64).eps)
_NONE = 1e-9
"""Share of a direction below which it is taken for rounding."""
_TRIED = 500
"""Sets of stragglers that are looked at, if there are more."""


class Combiner:
    """Finds for rows c_1 … c_n weights w with Σ w_i c_i = target, that are 0 where a row is missing.

    With all rows the smallest weights come from the singular value decomposition. What may be added
    to them without changing the sum are combinations of the n - rank left null vectors, so to do
    without k rows is a least-squares problem of this size by k. Its solution has the smallest
    weights, which carry rounding least.

    Parameters
    ----------
    rows : ndarray, shape (n, q)
        Of unit length.
    target : ndarray, shape (m, q)
    rank : int
        Of the rows, known from how they were made.
    """

    def __init__(self, rows: np.ndarray, target: np.ndarray, rank: int) -> None:
        n, q = rows.shape
        left, singular, right = np.linalg.svd(rows, full_matrices=q < n)
        self._rows = rows
        self._target = target
        self._inverse = (right[:rank].T / singular[:rank]) @ left[:, :rank].T
        self._whole = target @ self._inverse
        self._free = left[:, rank:].T

    def weights(self, missing: list[int]) -> tuple[np.ndarray, float]:
        """Weights (m, n) without these rows, and by how much they miss the target or enlarge rounding.

        The latter is relative to the target: the largest error of an entry, and the length of the
        weights times the distance of two floating-point numbers.
        """
        weights = self._without(self._whole, missing)
        # Once again for what it misses, since the least squares are worse than their data.
        weights = weights + self._without(
            (self._target - weights @ self._rows) @ self._inverse, missing
        )
        off = np.abs(weights @ self._rows - self._target).max()
        return weights, float(off + _EPS * np.linalg.norm(weights, axis=1).max())

    def _without(self, weights: np.ndarray, missing: list[int]) -> np.ndarray:
        """The shortest weights that combine to the same, 0 for these rows."""
        if not missing:
            return weights
        gone = self._free[:, missing]
        step = np.linalg.lstsq(gone.T, -weights[:, missing].T, rcond=1e-13)[0]
        changed: np.ndarray = weights + step.T @ self._free
        changed[:, missing] = 0.0
        return changed

    def parity(self, missing: list[int]) -> np.ndarray:
        """Weights (n,) of length 1, 0 for these rows, with which the rows add up to 0; if none, all are 0."""
        mix = np.random.default_rng(0).standard_normal(len(self._free))
        if missing and len(mix):
            left, singular, _ = np.linalg.svd(self._free[:, missing], full_matrices=False)
            basis = left[:, singular > _NONE]
            mix -= basis @ (basis.T @ mix)
        weights: np.ndarray = mix @ self._free
        weights[missing] = 0.0
        length = np.linalg.norm(weights)
        return weights / length if length > _NONE else np.zeros_like(weights)

    def longest(self, sets: np.ndarray) -> tuple[float, float]:
        """The greatest length of weights without one of these sets of rows, (t, k), and their fault."""
        sizes = np.broadcast_to((self._whole**2).sum(axis=1), (len(sets), len(self._whole)))
        if sets.shape[1]:
            gone = self._free[:, sets].swapaxes(0, 1)
            lacking = self._whole[:, sets].swapaxes(0, 1)
            steps = lacking @ np.linalg.pinv(gone, rcond=1e-13)
            sizes = sizes + (steps**2).sum(axis=2)
        worst = sizes.max(axis=1).argmax()
        return float(np.sqrt(sizes[worst].max())), self.weights(sets[worst].tolist())[1]


def straggler_sets(workers: int, stragglers: int) -> np.ndarray:
    """All sets of so many workers, (t, stragglers), or if they are too many, runs and random ones."""
    if comb(workers, stragglers) <= _TRIED:
        return np.array(list(combinations(range(workers), stragglers)), dtype=int)
    runs = (np.arange(workers)[:, None] + np.arange(stragglers)) % workers
    rng = np.random.default_rng(workers)
    scattered = rng.random((_TRIED, workers)).argpartition(stragglers, axis=1)[:, :stragglers]
    return np.concatenate([runs, scattered])
