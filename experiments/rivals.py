"""What anybody could fit to the answered rows with scikit-learn and SciPy; predictions are kept on disk."""

from __future__ import annotations

import contextlib
import time
import warnings
from functools import cache
from pathlib import Path

import numpy as np
from scipy.interpolate import RBFInterpolator
from scipy.linalg.lapack import dpotrf, dpotri, dpotrs
from scipy.optimize import minimize
from scipy.spatial import KDTree
from scipy.spatial.distance import pdist, squareform

from .simulators import digest, save

__all__ = ["RIVALS", "gaussian_process", "predictions", "unit_cube"]

VERSION = 1  # raised when a prediction changes
FITTED, STARTS = 600, 4
NEIGHBOURS = 50


def unit_cube(X: np.ndarray) -> np.ndarray:
    """Inputs scaled to 0..1 by their range; constant ones become 0."""
    low, width = X.min(axis=0), np.ptp(X, axis=0)
    return (X - low) / np.where(width > 0, width, 1.0)


def gaussian_process(X: np.ndarray, y: np.ndarray, seed: int):
    """scikit-learn's Gaussian process, fitted on up to 600 rows from 4 starts, conditioned on all.

    Its kernel's gradient is an array (n, n, d) made in Python. The likelihood is the same here, with a gradient by
    matrix products, which takes a tenth of the time.
    """
    from sklearn.gaussian_process import GaussianProcessRegressor  # noqa: PLC0415
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel  # noqa: PLC0415

    kernel = ConstantKernel(1.0, (1e-3, 1e4)) * Matern(
        np.full(X.shape[1], 0.5), (1e-2, 1e2), nu=2.5
    ) + WhiteKernel(1e-4, (1e-10, 1.0))
    some = np.random.default_rng(seed).permutation(len(X))[:FITTED]
    spread = y[some].std() or 1.0
    theta = _fitted(X[some], (y[some] - y[some].mean()) / spread, kernel, seed)
    for jitter in 10.0 ** np.arange(-10, -3):
        # Thousands of rows of a smooth function may need more than scikit-learn adds by itself.
        process = GaussianProcessRegressor(
            kernel.clone_with_theta(theta), alpha=jitter, optimizer=None, normalize_y=True
        )
        with contextlib.suppress(np.linalg.LinAlgError):
            return process.fit(X, y)
    raise np.linalg.LinAlgError(f"the covariance of {len(X)} rows is singular even with 1e-4 added")


def _fitted(X: np.ndarray, y: np.ndarray, kernel, seed: int) -> np.ndarray:
    """The logarithms of the parameters with the largest likelihood, over the starts that scikit-learn makes."""
    random = np.random.RandomState(seed)
    starts = [kernel.theta] + [random.uniform(*kernel.bounds.T) for _ in range(STARTS - 1)]
    best = min((_ascent(start, X, y, kernel, 1e-6) for start in starts), key=lambda one: one.fun)
    # Only the best start is followed to the tolerance that scikit-learn asks of all.
    return _ascent(best.x, X, y, kernel, 2.2e-9).x


def _ascent(start: np.ndarray, X: np.ndarray, y: np.ndarray, kernel, tolerance: float):
    return minimize(
        _loss, start, args=(X, y), jac=True, method="L-BFGS-B", bounds=kernel.bounds, options={"ftol": tolerance}
    )  # fmt: skip


def _loss(theta: np.ndarray, X: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Negative log likelihood and its gradient; the parameters are those of scikit-learn, in its order."""
    amplitude, noise = np.exp(theta[0]), np.exp(theta[-1])
    scaled = X / np.exp(theta[1:-1])
    away = np.sqrt(5.0) * pdist(scaled)
    decay = amplitude * np.exp(-away)
    smooth = decay * (1 + away + away**2 / 3)
    covariance = squareform(smooth)
    np.fill_diagonal(covariance, amplitude + noise + 1e-10)
    lower, failed = dpotrf(covariance.T, lower=True, overwrite_a=True)
    if failed:
        return np.inf, np.zeros_like(theta)
    weights, _ = dpotrs(lower, y, lower=True)
    value = 0.5 * y @ weights + np.log(np.diag(lower)).sum() + 0.5 * len(y) * np.log(2 * np.pi)
    inverse, _ = dpotri(lower, lower=True, overwrite_c=True)
    pairs = _pairs(len(y))
    inner = weights[pairs[0]] * weights[pairs[1]] - inverse.T[pairs]
    trace = weights @ weights - np.trace(inverse)
    # d k / d log l_j = 5/3 a (1 + r) exp(-r) (x_j - x'_j)² / l_j², summed over the pairs.
    steep = squareform(inner * (5.0 / 3.0) * decay * (1 + away))
    squares = 2 * (scaled**2).T @ steep.sum(axis=1) - 2 * ((steep @ scaled) * scaled).sum(axis=0)
    ends = 2 * inner @ smooth + amplitude * trace, noise * trace
    return float(value), -0.5 * np.array([ends[0], *squares, ends[1]])


@cache
def _pairs(count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.triu_indices(count, 1)


def _process(X: np.ndarray, y: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # parameters at a bound
        return np.stack([gaussian_process(X, one, 0).predict(wanted) for one in y.T], axis=1)


def _basis(X: np.ndarray, y: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    # Its linear part is singular with constant columns, or with fewer neighbours than columns.
    vary = np.ptp(X, axis=0) > 0
    neighbours = max(NEIGHBOURS, 2 * int(vary.sum()))
    try:
        return RBFInterpolator(X[:, vary], y, neighbours)(wanted[:, vary])
    except (np.linalg.LinAlgError, ValueError):
        return _nearest(X, y, wanted)


def _boosting(X: np.ndarray, y: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    from sklearn.ensemble import HistGradientBoostingRegressor  # noqa: PLC0415

    return np.stack(
        [HistGradientBoostingRegressor(random_state=0).fit(X, one).predict(wanted) for one in y.T],
        axis=1,
    )


def _nearest(X: np.ndarray, y: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    return y[KDTree(X).query(wanted)[1]]


def _mean(X: np.ndarray, y: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    return np.broadcast_to(y.mean(axis=0), (len(wanted), y.shape[1]))


RIVALS = {
    "GP": _process, "RBF": _basis, "boosting": _boosting, "nearest": _nearest, "mean": _mean,
}  # fmt: skip
"""By name: answered inputs (n, d) in the unit cube, answers (n, q), wanted inputs (e, d), to values (e, q)."""


def predictions(
    X: np.ndarray, y: np.ndarray, lost: np.ndarray, name: str, folder: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Values (5, e, q) of the lost rows by each rival, and the seconds (5,) each took.

    Parameters
    ----------
    X, y : ndarray
        Inputs (m, d) and answers (m, q) of all rows.
    lost : ndarray of bool, shape (m,)
    name : str
        Of the cell; part of the file's name.
    folder : Path
        Where predictions are kept.
    """
    path = folder / "rivals" / f"{name}-v{VERSION}-{digest(X, y, lost)}.npz"
    if path.exists():
        with np.load(path) as kept:
            return kept["values"], kept["seconds"]
    scaled = unit_cube(X)
    values, seconds = [], []
    for rival in RIVALS.values():
        began = time.perf_counter()
        values.append(rival(scaled[~lost], y[~lost], scaled[lost]))
        seconds.append(time.perf_counter() - began)
    found = np.stack(values), np.array(seconds)
    save(path, values=found[0], seconds=found[1])
    return found
