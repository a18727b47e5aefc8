"""The same smoothing spline, fitted and evaluated by SciPy and by csaps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from csaps import csaps
from scipy.interpolate import make_smoothing_spline

__all__ = ["difference", "rival_fits"]

Fit = Callable[[], np.ndarray]


def rival_fits(knots: np.ndarray, y: np.ndarray, at: np.ndarray, λ: float) -> dict[str, Fit]:
    """Calls equivalent to a spline operator: fit, then evaluate.

    Parameters
    ----------
    knots, at : ndarray
        Ascending points of the given and the requested values.
    y : ndarray, shape (knots, columns)
    λ : float
        In the objective with 1/n before the sum.
    """
    lam = len(knots) * λ
    return {
        "SciPy make_smoothing_spline": lambda: make_smoothing_spline(knots, y, lam=lam)(at),
        "csaps": lambda: csaps(knots, y, at, smooth=1.0 / (1.0 + lam), axis=0),
    }


def difference(values: np.ndarray, rival: np.ndarray, knots: np.ndarray, at: np.ndarray) -> float:
    """Largest difference at points between the knots; outside, the rivals extrapolate as cubics."""
    inside = (at >= knots[0]) & (at <= knots[-1])
    return float(np.abs(values[inside] - rival[inside]).max())
