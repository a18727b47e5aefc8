"""Estimates by a Gaussian process, its errors on answers left out, and its variances far from all answers."""

from __future__ import annotations

import math

import numpy as np

from .candidates import Candidate, with_columns
from .gaussian import AGAIN, Fitted, Kernel, likeliest
from .models import overfit_factor, overfits
from .nearest import Nearest
from .points import EXACT, Points
from .transforms import NONE, Transform

EXACT_QUICKLY = 2000  # points that are solved for at once, where it is to be quick
NEAR = 5e-4  # seconds an estimate from the nearest points takes
_NEAR_OUTPUT = 1e-7  # seconds each output adds to that
_FEWEST = 30  # points from which a process is worth its time
_FEWEST_BESIDE = 1000  # points from which it is, beside one that sees the nearest points
_BESIDE = 3e10  # squared points times estimates, at most, of a process beside that
_FEW = 100  # answers up to which residuals may be small by chance
_PARTS = 8  # parts of the answers, each left out of processes with kernels that the others choose
_REFITTED = 300  # answers up to which this is done
_BEYOND = 2.0  # variance over the largest of answers left out, from which an estimate is far from all answers
_END = 0.2  # share of the answers that is estimated from the others at either end of a dimension
_ENDS = 4  # dimensions in which this is done
_DISTANCES = 5  # distances at which errors there are compared
_COMPARED = 100  # outputs, about, by which kernels are compared


def conditioned(
    known: Points, answers: np.ndarray, kernel: Kernel, seconds: float
) -> Candidate | None:
    """Estimates of outputs (n, q) by a process with this kernel; None if ``seconds`` are enough for too few answers only."""
    size, outputs = answers.shape
    estimated = len(known.wanted) + len(known.sample)

    def solvable(count: int) -> bool:
        return known.solving(count, outputs) < seconds / 2.0

    exactly, near = EXACT if known.thorough else EXACT_QUICKLY, NEAR + outputs * _NEAR_OUTPUT
    found, least = None, min(_FEWEST, size)
    if (size > exactly or not solvable(size)) and estimated * near < seconds / 2.0:
        fitted = Nearest(known.points, answers, kernel)
        found = _estimated(known, answers, fitted, fitted.left_out(known.sample), seconds)
        if not known.thorough:
            return found
        # Some of the answers at once say more than the nearest where these are far away, or noisy.
        size, least = min(size, exactly, int(math.sqrt(_BESIDE / estimated))), _FEWEST_BESIDE
    while size >= least and not solvable(size):
        size = int(0.8 * size)
    if size < least:
        return found
    some = np.sort(known.order[:size])
    whole = Fitted(known.points[some], answers[some], kernel)
    if known.thorough and len(answers) == size <= _REFITTED and overfits(kernel.scales, size):
        apart = _refitted(known, answers, kernel, seconds / 4.0)
        if apart is not None:
            return _estimated(known, answers, whole, apart, seconds)
    inside = np.isin(known.sample, some)
    off, sharp = np.empty((len(inside), outputs)), np.empty(len(inside))
    off[inside], sharp[inside] = whole.left_out(np.searchsorted(some, known.sample[inside]))
    outside = known.sample[~inside]
    means, sharp[~inside] = whole.predict(known.points[outside])
    off[~inside] = answers[outside] - means
    off *= overfit_factor(kernel.scales, size)
    other = _estimated(known, answers, whole, (off, sharp), seconds)
    return other if found is None else _nearer(found, other, answers[known.sample])


def _refitted(
    known: Points, answers: np.ndarray, kernel: Kernel, seconds: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """As `Fitted.left_out`, for answers (n, q) to the sample; None if there is no time.

    A part of the answers at a time is left out, and the others choose a kernel anew.
    """
    go_on = known.within(seconds)
    part = known.order % _PARTS
    off, variances = np.empty(answers.shape), np.empty(len(answers))
    for one in range(_PARTS):
        here, others = np.flatnonzero(part == one), np.flatnonzero(part != one)
        points, rest = known.points[others], answers[others]
        if not go_on():
            return None
        found = likeliest(points, rest, [kernel], steps=AGAIN, go_on=go_on)
        means, variances[here] = Fitted(points, rest, found).predict(known.points[here])
        off[here] = answers[here] - means
    return off[known.sample], variances[known.sample]


def _nearer(one: Candidate, other: Candidate, targets: np.ndarray) -> Candidate:
    """For each output the one of two candidates that is nearer to answers (l, q) left out."""
    better = other.squares(targets) < one.squares(targets)
    return with_columns(one, np.arange(len(better)), other, better)


def _estimated(
    known: Points,
    answers: np.ndarray,
    fitted: Fitted | Nearest,
    left_out: tuple[np.ndarray, np.ndarray],
    seconds: float,
) -> Candidate:
    """Estimates of outputs (n, q) by a process; ``left_out`` is what `Fitted.left_out` gives."""
    kernel, sample, (off, sharp) = fitted.kernel, known.sample, left_out
    # The process of the nearest points has no s² of its own: residuals estimate it for both kinds.
    variance = np.maximum((off**2 / sharp[:, None]).mean(axis=0), 1e-300)
    size = len(fitted.points)
    if size < _FEW and not (isinstance(fitted, Nearest) or overfits(kernel.scales, size)):
        variance = np.maximum(variance, fitted.variance)
    means, wide = fitted.predict(known.wanted)
    spread = wide[:, None] * variance
    nearest, few = float(sharp.max()), known.first
    needed = 2 * _ENDS * known.solving(len(few), answers.shape[1])
    if (wide > _BEYOND * nearest).any() and needed < seconds / 4.0:
        away, squares = _ends(known.points[few], answers[few], kernel)
        ratios = squares / (away[:, None] * variance)
        spread *= _widened(np.log(wide / nearest), np.log(away / nearest), ratios)
    means = np.concatenate([answers[sample] - off, means])
    variances = np.concatenate([sharp[:, None] * variance, spread])
    names = (name_of(kernel),) * answers.shape[1]
    return Candidate(names, kernel.scales, means, variances, kernel=kernel)


def _ends(points: np.ndarray, answers: np.ndarray, kernel: Kernel) -> tuple[np.ndarray, np.ndarray]:
    """Variances (e,), and squared errors (e, q), of answers at either end of a dimension, estimated from all others.

    In the dimensions that matter most. An answer that is left out alone has others around it. It does not tell how far
    off a process is where there are none.
    """
    size = max(2, int(_END * len(points)))
    variances, squares = [], []
    for dimension in np.argsort(-points.std(axis=0) * kernel.scales)[:_ENDS]:
        order = np.argsort(points[:, dimension], kind="stable")
        for end, rest in ((order[:size], order[size:]), (order[-size:], order[:-size])):
            means, away = Fitted(points[rest], answers[rest], kernel).predict(points[end])
            variances.append(away)
            squares.append((means - answers[end]) ** 2)
    return np.concatenate(variances), np.concatenate(squares)


def _widened(wanted: np.ndarray, known: np.ndarray, ratios: np.ndarray) -> np.ndarray:
    """Factors (m, q) of variances, at least 1, which grow with the distance from all answers.

    ``wanted`` (m,) and ``known`` (e,) are logarithms of distances; at 0 and below the factor is 1. ``ratios`` (e, q) are
    squared errors over variances.
    """
    outside = np.flatnonzero(known > 0.0)
    if len(outside) < _DISTANCES:
        return np.ones((len(wanted), ratios.shape[1]))
    parts = np.array_split(outside[np.argsort(known[outside])], _DISTANCES)
    places = [0.0, *(known[part].mean() for part in parts)]
    heights = [np.ones(ratios.shape[1]), *(ratios[part].mean(axis=0) for part in parts)]
    logs = np.log(np.maximum.accumulate(heights))
    factors = [np.exp(np.interp(wanted, places, one)) for one in logs.T]
    return np.stack(factors, axis=1)


def nearest_kernel(
    known: Points, scaled: np.ndarray, kernels: list[Kernel], drawn: np.ndarray
) -> Kernel:
    """The kernel under which the ``drawn`` answers to outputs (n, q), each left out, are nearest in all."""
    some = known.points[drawn], scaled[drawn, :: -(-scaled.shape[1] // _COMPARED)]
    return min(kernels, key=lambda one: float((Fitted(*some, one).left_out()[0] ** 2).sum()))


def name_of(kernel: Kernel, transform: Transform = NONE) -> str:
    """What users read of a process."""
    kind = "Gaussian" if kernel.smoothness == "gaussian" else "Matérn"
    return f"{kind} process" + (f" of the {transform.name}" if transform is not NONE else "")
