"""Which process describes an output best: kernels of several kinds, each searched for by a few of the answers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from .gaussian import AGAIN, NOISY, Fitted, Kernel, Smoothness, likeliest
from .points import Points
from .transforms import NONE, Transform, transforms

# Where the first search begins: length scales, in √d deviations, and noise.
STARTS = (0.5, 1e-5), (2.0, 1e-2), (6.0, 1e-5)
HASTY = 100  # answers, at least, by which a kernel is chosen where there is little time
HASTY_BEGIN = 5  # steps from each of several starts where there is little time
EACH = 5  # answers for each dimension from which each dimension has a length scale of its own
ENOUGH = 2.0  # seconds for an output from which its search is thorough
_BEGIN = 15  # steps from each of several starts
_STEPS = 50  # steps of the first search, from the best start
_SEARCH = 0.4  # share of an output's time that the search takes
_TRIED = 60  # likelihoods that the search computes, about
_TIED = 30  # dimensions up to which few answers choose one length scale for all: of more dimensions few matter
_SEVERAL = 12  # answers from which several kinds of processes are compared
_SEVERAL_QUICKLY = 40  # the same where it is to be quick
PLANE = 4  # answers for each coefficient from which the mean may be a plane
_SHORTER = 3.0  # length scales of a Matérn process over those of a Gaussian one of the same answers
# Answers for each dimension from which the answers that chose a kernel also tell its errors.
EACH_SURELY = 10
_FIXED = 3  # numbers of a process besides its length scales
_AT_MOST = 5.0  # factor, at most, by which the variance of errors is larger because few answers have chosen the process


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A process of an output on some scale, chosen by a few answers."""

    error: float
    """Root mean square of what these answers are off from estimates without them."""
    answers: int
    """How many these are."""
    transform: Transform
    kernel: Kernel
    known: Points
    """The points, in the dimensions of the kernel."""
    overfit: float = 1.0
    """Factor by which other answers are further off than those left out."""


def models(known: Points, scaled: np.ndarray, zero: float, seconds: float) -> Iterator[Model]:
    """Processes of several kinds of an output (n,), while there is time; ``zero`` is what 0 was before it was scaled."""
    hasty = seconds < ENOUGH
    few = known.first[: max(HASTY, known.affordable(_SEARCH * seconds / _TRIED))]
    points, answers = known.points[few], scaled[few]
    dimensions = points.shape[1]
    tied = len(points) < EACH * dimensions and dimensions <= _TIED
    several = compares_kinds(known, len(points))
    plane = several and len(points) >= PLANE * (dimensions + 1)
    kinds: list[tuple[Transform | None, Smoothness | None, bool, Kernel | None]] = []
    if several:
        kinds.append((None, "gaussian", plane, None))
        if not hasty:
            kinds.append((None, "gaussian", plane, short_start(dimensions, "gaussian", plane)))
        kinds += [(transform, None, plane, None) for transform in transforms(scaled, zero)]
        kinds += [(None, None, False, None)] if plane else []
    end = known.time_left() - _SEARCH * seconds
    # Each kind is to have its turn, and the first, which begins from nowhere, two.
    go_on = known.within(2.0 * _SEARCH * seconds / (2 + len(kinds)))

    def model(begin: list[Kernel], transform: Transform, steps: int, *, tied: bool) -> Model:
        moved = transform.there(answers)
        middle, unit = moved.mean(), moved.std() or 1.0  # these few may all be equal
        there = ((moved - middle) / unit)[:, None]
        each = HASTY_BEGIN if hasty else _BEGIN
        kernel = likeliest(points, there, begin, steps=steps, begin=each, tied=tied, go_on=go_on)
        fitted = Fitted(points, there, kernel)
        off, variance = fitted.left_out()
        means = (there - off)[:, 0] * unit + middle
        back, _ = transform.back(means, variance * fitted.variance[0] * unit**2)
        error = float(np.sqrt(((back - answers) ** 2).mean()))
        error *= overfit_factor(kernel.scales, len(points))
        return Model(error, len(points), transform, kernel, known)

    starts = [Kernel.begun(dimensions, *start, linear=plane) for start in STARTS]
    screened = screened_start(known, scaled[:, None])
    best = model(starts if tied else [*starts, *screened], NONE, _STEPS, tied=tied)
    yield best
    for number, (transform, smoothness, linear, start) in enumerate(kinds):
        go_on = known.within((known.time_left() - end) / (len(kinds) - number))
        if not go_on():
            return
        begin = start or begun(best.kernel, smoothness, linear)
        other = model([begin], transform or best.transform, AGAIN, tied=tied)
        yield other
        best = min(best, other, key=lambda m: m.error)
    go_on = known.within(known.time_left() - end)
    if several and tied and not hasty and go_on():
        yield model([best.kernel, *screened], best.transform, _STEPS, tied=False)


def hasty(known: Points) -> np.ndarray:
    """The answers (k,) int that choose a kernel where there is little time."""
    return known.first[: max(HASTY, EACH * known.points.shape[1])]


def screened_start(known: Points, scaled: np.ndarray) -> list[Kernel]:
    """One more kernel from which to search, of outputs (n, q) of which few inputs surely matter; else none."""
    found = Kernel.screened(known.points[known.last], scaled[known.last])
    return [] if found is None else [found]


def short_start(dimensions: int, smoothness: Smoothness, linear: bool) -> Kernel:
    """Where else a search begins: at short length scales, with little noise.

    A process that is likeliest if few inputs matter, and noise explains the rest, may be far from answers left out.
    """
    kernel = Kernel.begun(dimensions, *STARTS[0], linear=linear)
    return replace(kernel, smoothness=smoothness, noise=max(kernel.noise, NOISY))


def compares_kinds(known: Points, size: int) -> bool:
    """Whether so many answers choose among several kinds of processes."""
    return size >= (_SEVERAL if known.thorough else _SEVERAL_QUICKLY)


def begun(kernel: Kernel, smoothness: Smoothness | None, linear: bool) -> Kernel:
    """Where the search for a kernel of another kind begins.

    A Gaussian process of the same answers has shorter length scales. With those of a Matérn one, and little noise, its
    covariances are so nearly singular that rounding decides what is found.
    """
    if smoothness != "gaussian":
        return replace(kernel, linear=linear)
    scales, noise = _SHORTER * kernel.scales, max(kernel.noise, NOISY)
    return Kernel(scales, noise, smoothness, linear)


def overfits(scales: np.ndarray, size: int) -> bool:
    """Whether so few answers have chosen a process with length scales (d,) that they are nearer to it than others are."""
    return size < EACH_SURELY * len(scales) and scales.max() > scales.min()


def overfit_factor(scales: np.ndarray, size: int) -> float:
    """By what to multiply errors of so many answers, left out of a process that they have chosen."""
    return (
        math.sqrt(size / degrees_of_freedom(size, len(scales))) if overfits(scales, size) else 1.0
    )


def degrees_of_freedom(size: int, lengths: int) -> float:
    """Degrees of freedom that so many answers leave to the errors of a process with so many length scales; at least 2."""
    return max(2.0, size / _AT_MOST, float(size - _FIXED - lengths))
