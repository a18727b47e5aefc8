"""Means, slopes and their confidence intervals."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import stats

__all__ = ["Interval", "jackknife_interval", "mean_interval", "slope_interval"]


class Interval(NamedTuple):
    """An estimate and its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def mean_interval(values: np.ndarray) -> Interval:
    """Mean with Student's interval over independent repetitions."""
    values = np.asarray(values, float)
    mean = float(values.mean())
    if len(values) < 2:
        return Interval(mean, np.nan, np.nan)
    half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return Interval(mean, mean - half, mean + half)


def slope_interval(x: np.ndarray, y: np.ndarray) -> Interval:
    """Least-squares slope of log y against log x, with Student's interval."""
    fit = stats.linregress(np.log(x), np.log(y))
    half = float(stats.t.ppf(0.975, len(x) - 2) * fit.stderr)
    return Interval(float(fit.slope), float(fit.slope - half), float(fit.slope + half))


def jackknife_interval(count: int, statistic: Callable[[np.ndarray], float]) -> Interval:
    """Jackknife interval of a statistic of independent blocks.

    Parameters
    ----------
    count : int
        Number of blocks.
    statistic : callable
        Maps indices of blocks to a number.
    """
    every = np.arange(count)
    value = float(statistic(every))
    if count < 2:
        return Interval(value, np.nan, np.nan)
    without = np.array([statistic(np.delete(every, left)) for left in every])
    error = np.sqrt((count - 1) * np.var(without))
    half = float(stats.t.ppf(0.975, count - 1) * error)
    return Interval(value, value - half, value + half)
