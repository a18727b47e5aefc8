"""Outliers among answers that are exact, such as those of polynomial functions to `LagrangeCode`.

The residuals of a fit to exact answers are rounding errors, unless an answer is wrong. With 2m
answers more than are needed, m wrong ones can be identified: if two sets of m could be left out such
that the rest fits, these rests would share enough answers to determine one polynomial. This is
Reed-Solomon decoding over the real numbers, in three steps. First comes the search that all codes
use, which sets the worst answer aside, then the next (`outliers`). Then all small sets are tried,
if they are few. Then the residuals are explained by as few answers as possible, with reweighted
least squares (Gorodnitsky and Rao 1997, IEEE Transactions on Signal Processing 45). If no set explains
them, none is rejected: fn is no polynomial, or noisy, or too many answers are wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from math import comb

import numpy as np

from ..coding.precision import TINY, Precision
from .outliers import find_outliers, half_precision, rejection_factor, relative_distances
from .residuals import residuals
from .sketches import CLOSER, GLANCE, scaled, sketched

_ROUNDING = 4096.0
"""Correct residuals are below this many units of rounding of the largest answer, at most half of the digits."""
_SETS = 20_000  # all sets of one size are tried if there are no more of them
_BEST = 3  # sets of one size that are tested: those that explain the most
_SWEEPS = 40  # sweeps of reweighted least squares
_RIDGE = 1e-14  # added to the diagonal to keep the system regular when most weights are almost 0
_SHARPER = 0.7  # factor to the size that counts as 0, at each sweep


def exact_outliers(answers: np.ndarray, precision: Precision) -> np.ndarray | None:
    """Which finite answers (F, B, outputs) are wrong, (F, B) bool; None if none is, or they cannot be identified."""
    if precision.freedom < 2:
        return None
    tolerance, least = _tolerance(answers, precision), half_precision(answers)
    misfit = _misfit(sketched(answers, GLANCE), precision)
    if (misfit <= min(tolerance, least)).all():
        return None
    outliers = find_outliers(answers, precision)
    outliers = np.zeros(answers.shape[:2], dtype=bool) if outliers is None else outliers
    found: list[np.ndarray] = []
    with np.errstate(all="ignore"):
        for group in np.flatnonzero(~(misfit <= tolerance)):
            sketch = sketched(answers[:, [group]], CLOSER)
            wrong = outliers[:, group]
            if wrong.any() and _rest_fits(sketch, precision, wrong, tolerance):
                continue
            y = scaled(sketch[:, 0])
            for wrong in _candidates(y, precision, found):
                if _rest_fits(sketch, precision, wrong, tolerance) and _clearly_wrong(
                    y, precision, wrong, least, answers.shape[1]
                ):
                    found.insert(0, wrong)
                    outliers[:, group] = wrong
                    break
    return outliers if outliers.any() else None


def _misfit(sketch: np.ndarray, precision: Precision) -> np.ndarray:
    """Root mean square of the residuals of a fit to (F, B, few), as a share of the largest answer, (B,)."""
    count, groups, _ = sketch.shape
    wide = sketch.astype(float)
    largest = np.abs(wide).max(axis=(0, 2), keepdims=True)
    with np.errstate(all="ignore"):
        wide /= np.where(largest > 0, largest, 1.0)  # so that no square overflows
        left = precision.matrices[0] @ wide.reshape(count, -1)
        squares = np.einsum("ij,ij->j", left, left).reshape(groups, -1).max(axis=1)
    return np.asarray(np.sqrt(squares / precision.freedom))


def _tolerance(answers: np.ndarray, precision: Precision) -> float:
    rounding = _ROUNDING * float(np.finfo(answers.dtype).eps)
    return max(min(rounding, half_precision(answers)), precision.slack)


def _rest_fits(
    sketch: np.ndarray, precision: Precision, wrong: np.ndarray, tolerance: float
) -> bool:
    """Whether the answers fit without the wrong ones."""
    return bool(_misfit(sketch[~wrong], precision.without(wrong))[0] <= tolerance)


def _clearly_wrong(
    y: np.ndarray, precision: Precision, wrong: np.ndarray, least: float, groups: int
) -> bool:
    """Whether each of the wrong answers is much further from the prediction by the rest than any of the rest."""
    matrix, freedom = precision.matrices[0], precision.freedom - int(wrong.sum())
    factor = rejection_factor(freedom, residuals(matrix, y, ~wrong)[~wrong], groups)
    return bool((relative_distances(y, matrix, wrong, least) > factor).all())


def _candidates(
    y: np.ndarray, precision: Precision, found: list[np.ndarray]
) -> Iterator[np.ndarray]:
    """Sets of answers that may be wrong, (F,) bool, small enough to be identified; first those ``found`` in other groups."""
    yield from found
    count, most = len(y), precision.freedom // 2
    projector = precision.matrices[0]
    left = projector @ y
    for size in range(1, most + 1):
        if comb(count, size) > _SETS:
            ranks = np.argsort(np.argsort(-_sparse_errors(y, precision)))
            yield from (ranks < few for few in range(size, most + 1))
            return
        sets = np.array(list(combinations(range(count), size)))
        inner = projector[sets[:, :, None], sets[:, None, :]] + TINY * np.eye(size)
        explained = (left[sets] * np.linalg.solve(inner, left[sets])).sum(axis=(1, 2))
        for best in np.argsort(-explained)[:_BEST]:
            yield np.isin(np.arange(count), sets[best])


def _sparse_errors(y: np.ndarray, precision: Precision) -> np.ndarray:
    """Size of the error of each answer if as few as possible are wrong, (F,)."""
    basis = np.linalg.eigh(precision.matrices[0])[1][:, -precision.freedom :]
    left = basis.T @ y
    weights, nothing = np.ones(len(y)), 1.0
    sizes = weights
    for _ in range(_SWEEPS):
        weighted = basis * weights[:, None]
        inner = basis.T @ weighted + _RIDGE * np.eye(len(left))
        sizes = np.linalg.norm(weighted @ np.linalg.solve(inner, left), axis=1)
        sizes = sizes / sizes.max()
        nothing *= _SHARPER
        weights = (sizes**2 + nothing**2) ** 0.75
    return np.asarray(sizes)
