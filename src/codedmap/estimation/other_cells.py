"""What answers look like to others: to other cells, to all who are believed, to those whom nobody contests."""

from __future__ import annotations

import numpy as np

from .elimination import diagonal, kept
from .evidence import residuals
from .suspects import FEWEST, Suspects

__all__ = ["distances", "foreign", "versions"]


def foreign(suspects: Suspects, out: np.ndarray, home: np.ndarray) -> np.ndarray:
    """Squared residuals (B, F) of answers as other cells' predict them, standardised.

    Parameters
    ----------
    suspects : Suspects
    out : ndarray, shape (B, F) bool
        Who predicts nobody: the lies that are known.
    home : ndarray of int, shape (B, F)
        The cell of each answer.
    """
    told = suspects.projected @ suspects.answers
    squares = np.full(suspects.used.shape, np.nan)
    scale = _rest(suspects, out, told)[1]
    for cell in range(home.max() + 1):
        members = (home == cell) & suspects.used
        covariance, error, place, valid = suspects.predicted(told, out | members)
        size = np.einsum("bwq,bwq->bw", error, error) / suspects.outputs
        ratio = size / np.maximum(diagonal(covariance), 1e-300) / scale[:, None]
        inside = valid & np.take_along_axis(members, place, axis=1)
        group, column = np.nonzero(inside)
        squares[group, place[group, column]] = ratio[group, column]
    return squares


def distances(suspects: Suspects, out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far each answer is from what all that are not out say, and how well that is known.

    Parameters
    ----------
    suspects : Suspects
    out : ndarray, shape (B, F) bool

    Returns
    -------
    ndarray, shape (B, F)
        In deviations of the outputs, root mean square over them; NaN where not known.
    ndarray, shape (B, F)
        Variance of the prediction, in units of s².
    """
    told = suspects.projected @ suspects.answers
    known = suspects.predicted(told, out)
    projected, rest = kept(suspects.projected, told, known)
    at = np.arange(out.shape[1])
    stay = suspects.used & ~out
    precision = np.where(stay, np.maximum(projected[:, at, at], 1e-300), 1.0)
    variance = 1.0 / precision
    size = np.where(stay, np.einsum("bfq,bfq->bf", rest, rest), 0.0) * variance**2
    covariance, error, place, valid = known
    group, column = np.nonzero(valid)
    variance[group, place[group, column]] = diagonal(covariance)[group, column]
    size[group, place[group, column]] = np.einsum("bwq,bwq->bw", error, error)[group, column]
    stay[group, place[group, column]] = True
    return np.where(stay, np.sqrt(size / suspects.outputs), np.nan), variance


def versions(
    suspects: Suspects, contested: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Answers as others predict them, if contested ones predict nobody.

    Parameters
    ----------
    suspects : Suspects
    contested : ndarray, shape (B, F) bool

    Returns
    -------
    ndarray, shape (B, F)
        Squared residuals, standardised; NaN where too few predict.
    ndarray, shape (B, F, q)
        Residuals of contested answers, 0 elsewhere.
    ndarray, shape (B, F)
        Their variances; NaN where too few predict.
    """
    told = suspects.projected @ suspects.answers
    covariance, error, place, valid = suspects.predicted(told, contested)
    squares, scale = _rest(suspects, contested, told)
    # Few tell no scale: what they differ by may be rounding.
    scale[(suspects.used & ~contested).sum(axis=1) < FEWEST] = np.nan
    squares /= scale[:, None]
    group, column = np.nonzero(valid)
    at = group, place[group, column]
    errors, variances = np.zeros_like(suspects.answers), np.where(contested, np.nan, 1.0)
    errors[at] = error[group, column]
    variances[at] = (diagonal(covariance) * scale[:, None])[group, column]
    size = np.einsum("bfq,bfq->bf", errors, errors) / suspects.outputs
    return np.where(contested, size / np.maximum(variances, 1e-300), squares), errors, variances


def _rest(suspects: Suspects, out: np.ndarray, told: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Squared residuals (B, F) of who is not out, and their scale (B,)."""
    projected, rest = kept(suspects.projected, told, suspects.predicted(told, out))
    used = suspects.used & ~out
    squares, _ = residuals(projected, rest, used, suspects.outputs)
    return squares, suspects.scales(squares, used, np.arange(len(out)))[0]
