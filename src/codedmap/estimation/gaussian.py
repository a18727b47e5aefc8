"""One Gaussian process over many points, with a length scale for each input dimension.

The model of an output: an unknown constant, or a plane, with a flat prior, plus a process of variance s² and Matérn
or Gaussian correlation, plus independent noise of variance s² · noise. The plane is integrated out and s² estimated
(restricted maximum likelihood; Rasmussen and Williams 2006, sections 2.7 and 5.4.1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy

_SHORTEST, _LONGEST = 0.02, 100.0
"""Length scales that are tried, in deviations of an input."""
_QUIETEST, _LOUDEST = 1e-10, 3.0
"""Noise that is tried, as a share of the process."""
_SPREAD = 2.0
"""Deviation of the logarithm of a length scale before any answer is seen."""
_TIED_SPREAD = 0.7
"""The same where it is one for all dimensions, and there are few answers."""
_BEGIN = 15
"""Steps from each of several starts."""
_NEVER = 1e10
"""Stands for an infinite loss, which the line search could not leave."""


Smoothness = Literal["matern52", "gaussian"]


@dataclass(frozen=True, slots=True)
class Kernel:
    """How alike the outputs of two inputs are."""

    scales: np.ndarray
    """(d,): one over the length scale of each input dimension."""
    noise: float
    smoothness: Smoothness
    linear: bool
    """Whether the mean is a plane; if not, a constant."""

    def correlations(self, one: np.ndarray, other: np.ndarray | None = None) -> np.ndarray:
        """Between points (n, d) and others (m, d), without noise; None: among themselves."""
        return sloped(
            squared(one * self.scales, None if other is None else other * self.scales),
            self.smoothness,
        )[0]

    def basis(self, points: np.ndarray) -> np.ndarray:
        """What the mean is a combination of, (n, p)."""
        ones = np.ones((len(points), 1))
        return np.hstack([ones, points]) if self.linear else ones


def sloped(squares: np.ndarray, smoothness: Smoothness) -> tuple[np.ndarray, np.ndarray]:
    """Correlations at these squared distances, in length scales, and their derivatives by them; overwrites them."""
    if smoothness == "gaussian":
        squares *= -0.5
        alike = np.exp(squares, out=squares)
        return alike, -0.5 * alike
    squares *= 5.0
    away = np.sqrt(squares)
    decay = np.exp(-away)
    away += 1.0
    slopes = away * decay
    squares /= 3.0
    squares += away
    squares *= decay
    slopes *= -5.0 / 6.0
    return squares, slopes


def squared(one: np.ndarray, other: np.ndarray | None = None) -> np.ndarray:
    """Squared distances (n, m) between points."""
    same = other is None
    other = one if other is None else other
    size = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)
    size -= 2.0 * (one @ other.T)
    np.maximum(size, 0.0, out=size)
    if same:
        np.fill_diagonal(size, 0.0)
    return np.asarray(size)


class _Singular(Exception):
    """A covariance is singular to working precision."""


def _cholesky(matrix: np.ndarray) -> np.ndarray:
    (potrf,) = scipy.linalg.get_lapack_funcs(("potrf",), (matrix,))
    # Of a symmetric matrix: its transpose is in the order that LAPACK wants.
    lower, info = potrf(matrix.T, lower=True, clean=True, overwrite_a=True)
    if info:
        raise _Singular
    return np.asarray(lower)


def _inverse(lower: np.ndarray) -> np.ndarray:
    """The inverse of a matrix with this factor, which is overwritten."""
    (potri,) = scipy.linalg.get_lapack_funcs(("potri",), (lower,))
    inverse, _ = potri(lower, lower=True, overwrite_c=True)
    inverse += inverse.T  # above the diagonal there are zeros
    inverse[np.diag_indices(len(inverse))] *= 0.5
    return np.asarray(inverse.T)  # in the usual order


def _loss(
    place: np.ndarray, points: np.ndarray, answers: np.ndarray, smoothness: Smoothness, linear: bool
) -> tuple[float, np.ndarray]:
    """Minus twice the log likelihood of answers (n, q), and its gradient by the logarithms of scales and noise."""
    kernel = Kernel(np.exp(place[:-1]), float(np.exp(place[-1])), smoothness, linear)
    moved = points * kernel.scales
    correlations, slopes = sloped(squared(moved), smoothness)
    size, outputs = answers.shape
    correlations[np.diag_indices(size)] += kernel.noise
    try:
        lower = _cholesky(correlations)
        logdet = 2.0 * float(np.log(np.diag(lower)).sum())
        projected = _inverse(lower)
        basis = kernel.basis(points)
        solved = projected @ basis
        inner = np.linalg.cholesky(basis.T @ solved)
    except (_Singular, np.linalg.LinAlgError):
        return _NEVER, np.zeros_like(place)
    half = scipy.linalg.solve_triangular(inner, solved.T, lower=True)
    projected -= half.T @ half
    logdet += 2.0 * float(np.log(np.diag(inner)).sum())
    weighted = projected @ answers
    power = np.maximum((answers * weighted).sum(axis=0), 1e-300)
    free = size - basis.shape[1]
    away = place[:-1]
    score = free * np.log(power).sum() + outputs * (logdet + away @ away / _SPREAD**2)
    projected *= outputs
    projected -= (weighted * (free / power)) @ weighted.T
    trace = float(np.trace(projected))
    weights = np.multiply(projected, slopes, out=projected)
    # Sum of weights_ij (x_ik - x_jk)² for each k, twice over because of the logarithm.
    steepness = 4.0 * (weights.sum(axis=1) @ moved**2 - ((weights @ moved) * moved).sum(axis=0))
    steepness += outputs * 2.0 * away / _SPREAD**2
    return float(score), np.append(steepness, kernel.noise * trace)


def likeliest(
    points: np.ndarray,
    answers: np.ndarray,
    starts: list[Kernel],
    *,
    smoothness: Smoothness,
    linear: bool,
    steps: int,
    tied: bool = False,
    go_on: Callable[[], bool] = lambda: True,
) -> Kernel:
    """The kernel under which answers (n, q) at points (n, d) are likeliest, searched for from some starts.

    ``tied``: one length scale for all dimensions. ``go_on``: asked after each step whether there is time for more.
    """
    dimensions = points.shape[1]
    usual = -0.5 * np.log(dimensions)  # so that typical points are a few length scales apart

    def loss(place: np.ndarray) -> tuple[float, np.ndarray]:
        if not tied:
            return _loss(place, points, answers, smoothness, linear)
        whole = np.append(np.full(dimensions, place[0]), place[1])
        score, gradient = _loss(whole, points, answers, smoothness, linear)
        away = (place[0] - usual) / _TIED_SPREAD
        pull = np.array([gradient[:-1].sum() + 2.0 * away / _TIED_SPREAD, gradient[-1]])
        return score + away**2, pull

    free = 1 if tied else dimensions
    bounds = [(-np.log(_LONGEST), -np.log(_SHORTEST))] * free
    bounds += [(np.log(_QUIETEST), np.log(_LOUDEST))]

    def checked(intermediate_result: Any) -> None:
        if not go_on():
            raise StopIteration

    def descended(place: np.ndarray, most: int) -> Any:
        return scipy.optimize.minimize(
            loss,
            place,
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            callback=checked,
            options={"maxiter": most, "maxcor": 20},
        )

    places = [np.log(np.append(start.scales[:free], start.noise)) for start in starts]
    if len(places) > 1:  # the best start shows after a few steps
        begun = [descended(p, _BEGIN) for at, p in enumerate(places) if not at or go_on()]
        places = [min(begun, key=lambda one: float(one.fun)).x]
    best = descended(places[0], steps).x if go_on() else places[0]
    scales = np.broadcast_to(np.exp(best[:-1]), dimensions).copy()
    return Kernel(scales, float(np.exp(best[-1])), smoothness, linear)


class Fitted:
    """A process that has seen answers.

    Parameters
    ----------
    points : ndarray, shape (n, d)
    answers : ndarray, shape (n, q)
        Of outputs that share the kernel.
    kernel : Kernel
    """

    def __init__(self, points: np.ndarray, answers: np.ndarray, kernel: Kernel) -> None:
        self.kernel, self.points = kernel, points
        noise = kernel.noise
        while True:
            correlations = kernel.correlations(points)
            correlations[np.diag_indices(len(points))] += noise
            try:
                self._lower = _cholesky(correlations)
                break
            except _Singular:
                noise = max(10.0 * noise, 1e-12)
        self.noise = noise
        basis = kernel.basis(points)
        self._half_basis = scipy.linalg.solve_triangular(self._lower, basis, lower=True)
        self._orthogonal, self._upper = np.linalg.qr(self._half_basis)
        half = scipy.linalg.solve_triangular(self._lower, answers, lower=True)
        along = self._orthogonal.T @ half
        self._slopes = np.linalg.lstsq(self._upper, along, rcond=None)[0]
        rest = half - self._orthogonal @ along
        free = max(1, len(points) - basis.shape[1])
        self.variance = np.maximum((rest**2).sum(axis=0) / free, 1e-300)
        """(q,): s²."""
        self._weights = scipy.linalg.solve_triangular(self._lower, rest, lower=True, trans="T")

    def predict(self, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Means (m, q) at points (m, d), and variances (m,) of answers there in units of s²."""
        means = np.empty((len(wanted), self._weights.shape[1]))
        variances = np.empty(len(wanted))
        for begin in range(0, len(wanted), 1000):
            some = wanted[begin : begin + 1000]
            cross = self.kernel.correlations(some, self.points)
            basis = self.kernel.basis(some)
            means[begin : begin + 1000] = cross @ self._weights + basis @ self._slopes
            half = scipy.linalg.solve_triangular(self._lower, cross.T, lower=True)
            variance = 1.0 + self.noise - (half**2).sum(axis=0)
            short = basis - half.T @ self._half_basis
            across = np.linalg.lstsq(self._upper.T, short.T, rcond=None)[0]
            variances[begin : begin + 1000] = variance + (across**2).sum(axis=0)
        return means, np.maximum(variances, self.noise)

    def left_out(self, sample: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """What answers (l, q) are off from estimates by all others, and variances (l,) of that in units of s².

        Of all, or of a sample (l,) int.
        """
        size = len(self.points)
        across = scipy.linalg.solve_triangular(self._lower, self._orthogonal, lower=True, trans="T")
        if sample is None or 3 * len(sample) > size:
            sharpness = np.diag(_inverse(self._lower.copy())) - (across**2).sum(axis=1)
            sharpness = sharpness if sample is None else sharpness[sample]
        else:
            units = np.zeros((size, len(sample)))
            units[sample, np.arange(len(sample))] = 1.0
            half = scipy.linalg.solve_triangular(self._lower, units, lower=True)
            sharpness = (half**2).sum(axis=0) - (across[sample] ** 2).sum(axis=1)
        # Without a point that alone has a coefficient of the plane nothing is known there.
        sharpness = np.maximum(sharpness, 1e-100)
        weights = self._weights if sample is None else self._weights[sample]
        return weights / sharpness[:, None], 1.0 / sharpness
