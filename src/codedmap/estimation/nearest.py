"""A Gaussian process over more points than can be solved for at once: each estimate from its nearest points.

Vecchia's approximation (1988) with the points ordered before what is estimated; batched, so that time and memory grow
with the number of estimates alone.
"""

from __future__ import annotations

import numpy as np

from .gaussian import Kernel
from .process import sloped

__all__ = ["Nearest", "nearest"]

_NEIGHBOURS = 80
_ROWS = 256  # estimated at once
_SEARCHED = 1024  # whose neighbours are searched for at once
_JITTER = 1e-9


class Nearest:
    """A process of which each estimate sees the nearest points only; see `Fitted` for the arguments.

    Parameters
    ----------
    points : ndarray, shape (n, d)
    answers : ndarray, shape (n, q)
    kernel : Kernel
    """

    def __init__(self, points: np.ndarray, answers: np.ndarray, kernel: Kernel) -> None:
        self.points, self.kernel, self._answers = points, kernel, answers
        self.noise = max(kernel.noise, _JITTER)
        self._moved = points * kernel.scales

    def predict(self, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `Fitted.predict`."""
        return self._estimated(wanted)

    def left_out(self, sample: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `Fitted.left_out`."""
        means, variances = self._estimated(self.points[sample], own=sample)
        return self._answers[sample] - means, variances

    def _estimated(
        self, wanted: np.ndarray, own: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        moved = wanted * self.kernel.scales
        near = nearest(self._moved, moved, min(_NEIGHBOURS, len(self.points) - 1), own)
        means = np.empty((len(wanted), self._answers.shape[1]))
        variances = np.empty(len(wanted))
        for begin in range(0, len(wanted), _ROWS):
            some = slice(begin, begin + _ROWS)
            means[some], variances[some] = self._solved(moved[some], near[some])
        return means, variances

    def _solved(self, moved: np.ndarray, near: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        around = self._moved[near] - moved[:, None]
        count = near.shape[1]
        size = (around**2).sum(axis=2)
        among = size[:, :, None] + size[:, None, :] - 2.0 * (around @ around.swapaxes(1, 2))
        np.maximum(among, 0.0, out=among)
        at = np.arange(count)
        among[:, at, at] = 0.0
        covariance = sloped(among, self.kernel.smoothness)[0]
        covariance[:, at, at] += self.noise
        cross = sloped(size, self.kernel.smoothness)[0]
        answers = self._answers[near]
        right = np.concatenate([cross[:, :, None], np.ones((len(near), count, 1)), answers], axis=2)
        solved = np.linalg.solve(covariance, right)
        weights, ones = solved[:, :, 0], solved[:, :, 1]
        total = ones.sum(axis=1)
        level = (ones[:, :, None] * answers).sum(axis=1) / total[:, None]
        short = 1.0 - weights.sum(axis=1)
        means = (weights[:, :, None] * answers).sum(axis=1) + short[:, None] * level
        variance = 1.0 + self.noise - (weights * cross).sum(axis=1) + short**2 / total
        return means, np.maximum(variance, self.noise)


def nearest(
    points: np.ndarray, wanted: np.ndarray, count: int, own: np.ndarray | None = None
) -> np.ndarray:
    """The nearest points (m, count) of each wanted one, nearest first; ``own``: its own number, which is left out."""
    found = np.empty((len(wanted), count), dtype=np.intp)
    narrow = points.astype(np.float32)
    size = (narrow**2).sum(axis=1)
    for begin in range(0, len(wanted), _SEARCHED):
        some = wanted[begin : begin + _SEARCHED].astype(np.float32)
        away = size - 2.0 * (some @ narrow.T)
        rows = np.arange(len(some))
        if own is not None:
            away[rows, own[begin : begin + _SEARCHED]] = np.inf
        some_near = np.argpartition(away, count - 1, axis=1)[:, :count]
        order = np.argsort(away[rows[:, None], some_near], axis=1)
        found[begin : begin + _SEARCHED] = some_near[rows[:, None], order]
    return found
