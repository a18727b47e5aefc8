"""Standard errors that hold: calibrated by what answers are off from estimates without them."""

from __future__ import annotations

import numpy as np

from .nearest import nearest, weighted

_AROUND = 25  # residuals around a point that correct its variance
_FEW = 60  # residuals from which variances are corrected by place
# Weights of the mean of all residuals that are tried, as numbers of residuals.
_TRUST = (40.0, 10.0, 3.0)


def calibrated(
    points: np.ndarray,
    residuals: np.ndarray,
    said: np.ndarray,
    wanted: np.ndarray,
    variances: np.ndarray,
    *,
    by_place: bool = True,
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
    by_place : bool
        If False, everywhere by the same factor.
    """
    ratios = residuals**2 / np.maximum(said, 1e-300)
    # Residuals of few answers may be small by chance, and among many the next may be another: one in so many.
    least = (len(points) + 1.0) ** -2 if len(points) >= _FEW else 1.0
    mean = np.maximum(ratios.mean(axis=0), least)
    best = np.log(mean) + 1.0
    # A variance is corrected by a factor for all, and one times the mean of the ratios around it.
    whole, placed = mean.copy(), np.zeros_like(mean)
    if by_place and len(points) >= _FEW:
        near = nearest(points, points, _AROUND, np.arange(len(points)))
        around = weighted(near, 1.0 / _AROUND, ratios)
        for trust in _TRUST:
            local = (trust * mean + _AROUND * around) / (trust + _AROUND)
            factor = np.maximum((ratios / local).mean(axis=0), least / mean)
            score = np.log(local * factor).mean(axis=0) + 1.0
            better = score < best
            best[better] = score[better]
            factor = factor[better] / (trust + _AROUND)
            whole[better], placed[better] = trust * mean[better] * factor, _AROUND * factor
    corrected = variances * whole
    if placed.any():
        there = weighted(nearest(points, wanted, _AROUND), 1.0 / _AROUND, ratios)
        there *= placed
        there *= variances
        corrected += there
    return np.asarray(np.sqrt(corrected, out=corrected))
