"""A Gaussian process over more points than can be solved for at once: each estimate from its nearest points.

Vecchia's approximation (1988) with the points ordered before what is estimated; batched, so that time and memory grow
with the number of estimates alone.
"""

from __future__ import annotations

import numpy as np
import scipy

from .gaussian import Kernel, sloped

_NEIGHBOURS = 80  # points that an estimate sees
_ROWS = 256  # estimates that are computed at once
_LEAF = 64  # points in a leaf of a tree
_EXACTLY = 5000  # points up to which exactly the nearest are found
_SLACK, _MUCH_SLACK = 0.5, 1.0  # share by which others may be further; in many dimensions
_MANY = 12  # dimensions beyond which there are many
_JITTER = 1e-9  # least noise, with which covariances can be solved


class Nearest:
    """As `Fitted`, a process of which each estimate sees the nearest points only."""

    def __init__(self, points: np.ndarray, answers: np.ndarray, kernel: Kernel) -> None:
        self.points, self.kernel, self._answers = points, kernel, answers
        self.noise = max(kernel.noise, _JITTER)
        self._moved = points * kernel.scales

    def left_out(self, sample: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `Fitted.left_out`."""
        means, variances = self.predict(self.points[sample], own=sample)
        return self._answers[sample] - means, variances

    def predict(
        self, wanted: np.ndarray, own: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `Fitted.predict`; ``own`` (m,) are points that estimates must not see, each its own."""
        moved = wanted * self.kernel.scales
        near = nearest(self._moved, moved, min(_NEIGHBOURS, len(self.points) - 1), own)
        weights, variances = np.empty(near.shape), np.empty(len(wanted))
        for begin in range(0, len(wanted), _ROWS):
            some = slice(begin, begin + _ROWS)
            weights[some], variances[some] = self._solved(moved[some], near[some])
        return weighted(near, weights, self._answers), variances

    def _solved(self, moved: np.ndarray, near: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights (m, count) of the answers near wanted points, and variances (m,)."""
        around = self._moved[near] - moved[:, None]
        count = near.shape[1]
        size = (around**2).sum(axis=2)
        among = size[:, :, None] + size[:, None, :] - 2.0 * (around @ around.swapaxes(1, 2))
        np.maximum(among, 0.0, out=among)
        at = np.arange(count)
        covariance = sloped(among, self.kernel.smoothness)[0]
        covariance[:, at, at] += self.noise
        cross = sloped(size, self.kernel.smoothness)[0]
        solved = np.linalg.solve(covariance, np.stack([cross, np.ones_like(cross)], axis=2))
        weights, ones = solved[:, :, 0], solved[:, :, 1]
        total = ones.sum(axis=1)
        short = 1.0 - weights.sum(axis=1)
        variance = 1.0 + self.noise - (weights * cross).sum(axis=1) + short**2 / total
        return weights + (short / total)[:, None] * ones, np.maximum(variance, self.noise)


def weighted(near: np.ndarray, weights: np.ndarray | float, answers: np.ndarray) -> np.ndarray:
    """Sums (m,) or (m, q) of the answers (n,) or (n, q) near each of some points (m, count), by their weights."""
    rows = np.arange(0, near.size + 1, near.shape[1])
    data = np.broadcast_to(weights, near.shape).ravel()
    shape = len(near), len(answers)
    return np.asarray(scipy.sparse.csr_array((data, near.ravel(), rows), shape=shape) @ answers)


def nearest(
    points: np.ndarray, wanted: np.ndarray, count: int, own: np.ndarray | None = None
) -> np.ndarray:
    """Numbers (m, count) of the points nearest to each wanted one, the nearest first.

    ``own`` (m,): the number of each wanted one itself, which is left out. Of more than 5,000 points others may be
    returned that are up to half as far again, or twice as far in more than 12 dimensions.
    """
    if not points.shape[1]:
        points, wanted = np.zeros((len(points), 1)), np.zeros((len(wanted), 1))
    slack = _SLACK if points.shape[1] <= _MANY else _MUCH_SLACK
    slack = slack if len(points) > _EXACTLY else 0.0
    tree = scipy.spatial.cKDTree(points, leafsize=_LEAF, balanced_tree=False)
    if own is None:
        return np.asarray(tree.query(wanted, k=np.arange(1, count + 1), eps=slack)[1])
    found = np.asarray(tree.query(wanted, k=np.arange(1, count + 2), eps=slack)[1])
    others = found != own[:, None]
    others[others.all(axis=1), -1] = False  # where as many points are at the same place
    return np.asarray(found[others]).reshape(len(wanted), count)
