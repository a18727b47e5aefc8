"""Standard errors that hold: calibrated by what answers are off from estimates without them."""

from __future__ import annotations

import numpy as np
import scipy

from .nearest import nearest

_AROUND = 25  # residuals around a point
_FEW = 60  # residuals from which they are told apart by place
_TRUST = (40.0, 10.0, 3.0)  # residuals that the mean of all counts for, beside those around a point


def calibrated(
    points: np.ndarray,
    residuals: np.ndarray,
    said: np.ndarray,
    wanted: np.ndarray,
    variances: np.ndarray,
) -> np.ndarray:
    """Standard errors (m, q) from variances that are too small or too large, everywhere or around a point.

    Of several ways to correct them, more or less by the residuals around a point, each output takes the one under
    which its residuals are likeliest, none of them corrected by itself.

    Parameters
    ----------
    points : ndarray, shape (l, d)
        Of answers that were left out, where a distance of 1 is a length scale.
    residuals : ndarray, shape (l, q)
        What these are off.
    said : ndarray, shape (l, q)
        Variances that they should have.
    wanted : ndarray, shape (m, d)
    variances : ndarray, shape (m, q)
    """
    ratios = residuals**2 / np.maximum(said, 1e-300)
    least = 1e-12 if len(points) >= _FEW else 1.0  # residuals of few answers may be small by chance
    mean = np.maximum(ratios.mean(axis=0), least)
    best = np.log(mean) + 1.0
    factors = np.broadcast_to(mean, variances.shape).copy()
    if len(points) >= _FEW:
        count = min(_AROUND, len(points) - 1)
        itself = np.arange(len(points))
        around = _means(nearest(points, points, count, itself), len(points)) @ ratios
        there = _means(nearest(points, wanted, count), len(points)) @ ratios
        for trust in _TRUST:
            local = (trust * mean + count * around) / (trust + count)
            factor = np.maximum((ratios / local).mean(axis=0), least)
            score = np.log(local * factor).mean(axis=0) + 1.0
            better = score < best
            best = np.where(better, score, best)
            local_there = (trust * mean + count * there) / (trust + count) * factor
            factors = np.where(better, local_there, factors)
    return np.asarray(np.sqrt(np.maximum(variances * factors, np.finfo(float).tiny)))


def _means(near: np.ndarray, of: int) -> scipy.sparse.csr_array:
    """The operator that takes means over those near each point."""
    count = near.shape[1]
    weights = np.full(near.size, 1.0 / count)
    rows = np.arange(0, near.size + 1, count)
    return scipy.sparse.csr_array((weights, near.ravel(), rows), shape=(len(near), of))
