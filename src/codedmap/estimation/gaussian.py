"""One Gaussian process over many points, with a length scale for each input dimension.

The model of an output: an unknown constant, or a plane, with a flat prior, plus a process of variance s² and Matérn
or Gaussian correlation, plus independent noise of variance s² · noise. The plane is integrated out and s² estimated
(restricted maximum likelihood; Rasmussen and Williams 2006, sections 2.7 and 5.4.1).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import scipy

AGAIN = 30  # steps of a search that begins near what it looks for
NOISY = 1e-4  # least noise with which a search begins where less would make covariances singular
_SHORTEST, _LONGEST = 0.02, 1e4  # length scales that are tried, in deviations of an input
_QUIETEST, _LOUDEST = 1e-10, 3.0  # noise that is tried, as a share of the process's variance
# Prior deviations of the logarithm of a length scale below 1, and above: many inputs matter little.
_SHORT_PRIOR, _LONG_PRIOR = 2.0, 4.0
_MANY = 30  # inputs beyond which more of them make the prior of long scales no stronger
_TIED_PRIOR = 0.7  # prior deviation of the logarithm of one scale for all dimensions
# Share of a deviance below which a step ends a search: 0.01 where it is a thousand.
_NO_BETTER = 1e-5
# Share of a column outside the span of others below which it is their combination.
_DEPENDENT = 1e-6
_BLOCK = 64  # rows of a triangular matrix that are inverted at once
_OUTPUTS = 1000  # outputs, at most about, that choose a kernel
_RUNS = 8  # runs, at most, into which the values of an input are cut to see whether it matters
_RUN = 5  # values in each run, at least
_SURELY = 4.0  # deviations of what chance explains, beyond which an input surely matters
_LITTLE = 0.02  # scale of all other inputs where a search begins
_UNEXPLAINED = 0.01  # noise where such a search begins
_ROUNDED = 1e-30  # share of the squares of answers that a plane leaves, at least
_NEVER = 1e10  # stands for an infinite loss, which the line search could not leave


class _OutOfTime(Exception):
    """Ends a search."""


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

    @classmethod
    def begun(cls, dimensions: int, length: float, noise: float, *, linear: bool = False) -> Kernel:
        """Where a search begins: one length scale for all dimensions, for points at usual distances."""
        scale = 1.0 / (length * math.sqrt(dimensions or 1))
        return cls(np.full(dimensions, scale), noise, "matern52", linear)

    @classmethod
    def screened(cls, points: np.ndarray, answers: np.ndarray) -> Kernel | None:
        """Where a search begins if few inputs matter: those that alone explain more of answers (n, q) than chance does.

        An input explains the share of the variance that is between runs of its values (the correlation ratio). None if no
        input explains enough. A search that begins with equal length scales may end where what a few of many inputs do
        is taken for noise.
        """
        size, outputs = answers.shape
        runs = min(_RUNS, size // _RUN)
        if runs < 2:
            return None
        begins = np.arange(runs) * size // runs
        counts = np.diff(begins, append=size)[:, None]
        order, shares = np.argsort(points, axis=0, kind="stable"), np.zeros(points.shape[1])
        for answer in (answers - answers.mean(axis=0)).T:
            between = np.add.reduceat(answer[order], begins, axis=0) ** 2 / counts
            shares += between.sum(axis=0) / max(float(answer @ answer), 1e-300) / outputs
        chance = (runs - 1) / (size - 1)
        shares -= chance
        shares[shares < _SURELY * chance * math.sqrt(2.0 / (runs - 1))] = 0.0
        if not shares.any():
            return None
        scales = np.sqrt(shares / shares.sum())
        return cls(np.maximum(scales, _LITTLE), _UNEXPLAINED, "matern52", linear=False)

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

    def independent(self, points: np.ndarray) -> np.ndarray:
        """(p,) bool: which columns of the basis are no combinations of those before. Of columns for categories the last one is."""
        basis = self.basis(points)
        apart = np.abs(np.diag(np.linalg.qr(basis, mode="r")))
        return np.asarray(apart > _DEPENDENT * np.linalg.norm(basis, axis=0))


def sloped(
    squares: np.ndarray, smoothness: Smoothness, work: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Correlations at squared distances, in length scales, and their derivatives by these; overwrites the distances.

    ``work``: two arrays of the same shape, of which the first then holds the derivatives.
    """
    slopes, decay = np.empty((2, *squares.shape)) if work is None else work
    if smoothness == "gaussian":
        squares *= -0.5
        np.exp(squares, out=squares)
        return squares, np.multiply(squares, -0.5, out=slopes)
    squares *= 5.0
    np.sqrt(squares, out=slopes)
    np.negative(slopes, out=decay)
    np.exp(decay, out=decay)
    slopes += 1.0
    slopes *= decay
    squares /= 3.0
    squares *= decay
    squares += slopes
    slopes *= -5.0 / 6.0
    return squares, slopes


def squared(
    one: np.ndarray, other: np.ndarray | None = None, out: np.ndarray | None = None
) -> np.ndarray:
    """Squared distances (n, m) between points."""
    same = other is None
    other = one if other is None else other
    size = np.matmul(-2.0 * one, other.T, out=out)
    size += (one**2).sum(axis=1)[:, None]
    size += (other**2).sum(axis=1)
    np.maximum(size, 0.0, out=size)
    if same:
        np.fill_diagonal(size, 0.0)
    return np.asarray(size)


def _factors(
    covariance: np.ndarray, out: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The Cholesky factor of a covariance, and its inverse.

    By NumPy, which lets other threads go on meanwhile. SciPy's LAPACK does not.
    """
    lower = np.linalg.cholesky(covariance)
    inverse = np.empty_like(lower) if out is None else out
    inverse.fill(0.0)
    _invert(lower, inverse)
    return lower, inverse


def _invert(lower: np.ndarray, inverse: np.ndarray) -> None:
    """Invert a lower triangular matrix, by halves (Higham 2002, section 14.2.2)."""
    half = len(lower) // 2
    if len(lower) <= _BLOCK:
        inverse[:] = scipy.linalg.lapack.dtrtri(lower, lower=True)[0]
        return
    first, last = (slice(None, half),) * 2, (slice(half, None),) * 2
    _invert(lower[first], inverse[first])
    _invert(lower[last], inverse[last])
    below = slice(half, None), slice(None, half)
    np.matmul(-inverse[last] @ lower[below], inverse[first], out=inverse[below])


class Deviance:
    """Minus twice the log likelihood of answers (n, q) at points (n, d), and its gradient.

    Both by the logarithms of scales and noise. The arrays are kept: to fill new memory takes as long as the arithmetic.
    """

    def __init__(
        self, points: np.ndarray, answers: np.ndarray, smoothness: Smoothness, linear: bool
    ) -> None:
        self.points, self.answers = points, answers
        self.smoothness, self.linear = smoothness, linear
        self._work = np.empty((3, len(points), len(points)))
        plain = Kernel.begun(points.shape[1], 1.0, 1.0, linear=linear)
        self._basis = plain.basis(points)[:, plain.independent(points)]

    def __call__(self, place: np.ndarray) -> tuple[float, np.ndarray]:
        answers, (size, outputs) = self.answers, self.answers.shape
        kernel = Kernel(np.exp(place[:-1]), float(np.exp(place[-1])), self.smoothness, self.linear)
        moved = self.points * kernel.scales
        correlations, slopes = sloped(
            squared(moved, out=self._work[0]), self.smoothness, self._work[1:3]
        )
        correlations[np.diag_indices(size)] += kernel.noise
        basis = self._basis
        try:
            lower, factor = _factors(correlations, self._work[2])
            lifted = factor @ basis
            inner = np.linalg.cholesky(lifted.T @ lifted)
        except np.linalg.LinAlgError:
            return _NEVER, np.zeros_like(place)
        half = scipy.linalg.solve_triangular(inner, (factor.T @ lifted).T, lower=True)
        logdet = 2.0 * float(np.log(np.diag(lower)).sum() + np.log(np.diag(inner)).sum())
        plain = factor @ answers
        weighted = factor.T @ plain - half.T @ (half @ answers)
        # What a plane leaves may be lost by rounding.
        least = np.maximum(_ROUNDED * (plain**2).sum(axis=0), 1e-300)
        power = np.maximum((answers * weighted).sum(axis=0), least)
        free = size - basis.shape[1]
        many = math.sqrt(max(1.0, (len(place) - 1) / _MANY))
        spreads = np.where(place[:-1] > 0.0, _SHORT_PRIOR, many * _LONG_PRIOR)
        away = place[:-1] / spreads
        score = free * np.log(power).sum() + outputs * (logdet + away @ away)
        # The derivative by each correlation.
        weights = np.matmul(factor.T, factor, out=self._work[0])
        fitted = np.vstack([half, weighted.T])
        parts = np.append(np.full(len(half), outputs), free / power)
        weights *= outputs
        weights -= np.matmul(fitted.T * parts, fitted, out=self._work[2])
        trace = float(np.trace(weights))
        weights *= slopes
        # Sum of weights_ij (x_ik - x_jk)² for each k, twice over because of the logarithm.
        steepness = 4.0 * (weights.sum(axis=1) @ moved**2 - ((weights @ moved) * moved).sum(axis=0))
        steepness += outputs * 2.0 * away / spreads
        return float(score), np.append(steepness, kernel.noise * trace)


def likeliest(
    points: np.ndarray,
    answers: np.ndarray,
    starts: list[Kernel],
    *,
    steps: int,
    begin: int = 0,
    tied: bool = False,
    go_on: Callable[[], bool] = lambda: True,
) -> Kernel:
    """The kernel under which answers (n, q) at points (n, d) are likeliest, searched for from some starts of its kind.

    ``begin``: steps from each of several starts. ``tied``: one length scale for all dimensions. ``go_on``: asked before
    each likelihood, but the first, whether there is time for it.
    """
    dimensions = points.shape[1]
    answers = answers[:, :: -(-answers.shape[1] // _OUTPUTS)]  # of a field neighbours are alike
    # So that typical points are a few length scales apart; equal inputs have no dimension.
    usual = -0.5 * np.log(max(1, dimensions))
    smoothness, linear = starts[0].smoothness, starts[0].linear
    deviance = Deviance(points, answers, smoothness, linear)

    def loss(place: np.ndarray) -> tuple[float, np.ndarray]:
        if not tied:
            return deviance(place)
        whole = np.append(np.full(dimensions, place[0]), place[1])
        score, gradient = deviance(whole)
        away = (place[0] - usual) / _TIED_PRIOR
        pull = np.array([gradient[:-1].sum() + 2.0 * away / _TIED_PRIOR, gradient[-1]])
        return score + away**2, pull

    free = 1 if tied else dimensions
    bounds = [(-np.log(_LONGEST), -np.log(_SHORTEST))] * free
    bounds += [(np.log(_QUIETEST), np.log(_LOUDEST))]

    def descended(place: np.ndarray, most: int) -> tuple[float, np.ndarray]:
        best = math.inf, place

        def seen(place: np.ndarray) -> tuple[float, np.ndarray]:
            nonlocal best
            if best[0] < math.inf and not go_on():
                raise _OutOfTime
            score, slope = loss(place)
            if score < best[0]:
                best = score, place.copy()
            return score, slope

        options = {"maxiter": most, "maxcor": 20, "ftol": _NO_BETTER}
        with suppress(_OutOfTime):
            scipy.optimize.minimize(
                seen, place, jac=True, method="L-BFGS-B", bounds=bounds, options=options
            )
        return best

    places = [np.log(np.append(start.scales[:free], start.noise)) for start in starts]
    if len(places) > 1:  # the best start shows after a few steps
        begun = [descended(p, begin) for at, p in enumerate(places) if not at or go_on()]
        places = [min(begun, key=lambda one: one[0])[1]]
    best = descended(places[0], steps)[1] if go_on() else places[0]
    scales = np.broadcast_to(np.exp(best[:-1]), dimensions).copy()
    return Kernel(scales, float(np.exp(best[-1])), smoothness, linear)


class Fitted:
    """A process that has seen answers (n, q) at points (n, d), of outputs that share the kernel."""

    def __init__(self, points: np.ndarray, answers: np.ndarray, kernel: Kernel) -> None:
        self.kernel, self.points = kernel, points
        noise = kernel.noise
        while True:
            correlations = kernel.correlations(points)
            correlations[np.diag_indices(len(points))] += noise
            try:
                lower, self._factor = _factors(correlations)
                break
            except np.linalg.LinAlgError:
                noise = max(10.0 * noise, 1e-12)
        self.noise = noise
        self._columns = kernel.independent(points)
        basis = kernel.basis(points)[:, self._columns]
        # By substitution: of points in the order of a grid the inverse is less exact by orders of magnitude.
        solved = partial(scipy.linalg.solve_triangular, lower, lower=True, check_finite=False)
        self._half_basis = solved(basis)
        self._orthogonal, self._upper = np.linalg.qr(self._half_basis)
        half = solved(answers)
        along = self._orthogonal.T @ half
        self._slopes = np.linalg.lstsq(self._upper, along, rcond=None)[0]
        rest = half - self._orthogonal @ along
        free = max(1, len(points) - basis.shape[1])
        self.variance = np.maximum((rest**2).sum(axis=0) / free, 1e-300)
        """(q,): s²."""
        self._weights = solved(rest, trans="T")

    def predict(self, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Means (m, q) at points (m, d), and variances (m,) of answers there in units of s²."""
        means = np.empty((len(wanted), self._weights.shape[1]))
        variances = np.empty(len(wanted))
        for begin in range(0, len(wanted), 1000):
            some = wanted[begin : begin + 1000]
            cross = self.kernel.correlations(some, self.points)
            basis = self.kernel.basis(some)[:, self._columns]
            means[begin : begin + 1000] = cross @ self._weights + basis @ self._slopes
            half = cross @ self._factor.T
            variance = 1.0 + self.noise - (half**2).sum(axis=1)
            short = basis - half @ self._half_basis
            across = np.linalg.lstsq(self._upper.T, short.T, rcond=None)[0]
            variances[begin : begin + 1000] = variance + (across**2).sum(axis=0)
        return means, np.maximum(variances, self.noise)

    def gradients(self) -> np.ndarray:
        """Of the means of one output at the points, (n, d)."""
        moved = self.points * self.kernel.scales
        slopes = sloped(squared(moved), self.kernel.smoothness)[1] * self._weights[:, 0]
        rising = 2.0 * self.kernel.scales * (slopes.sum(axis=1)[:, None] * moved - slopes @ moved)
        if self.kernel.linear:
            rising[:, self._columns[1:]] += self._slopes[1:, 0]
        return np.asarray(rising)

    def left_out(self, sample: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """What answers (l, q) are off from estimates by all others, and variances (l,) of that in units of s².

        Of all, or of a sample (l,) int.
        """
        some = slice(None) if sample is None else sample
        across = self._factor[:, some].T @ self._orthogonal
        sharpness = (self._factor[:, some] ** 2).sum(axis=0) - (across**2).sum(axis=1)
        # Without a point that alone has a coefficient of the plane nothing is known there.
        sharpness = np.maximum(sharpness, 1e-100)
        return self._weights[some] / sharpness[:, None], 1.0 / sharpness
