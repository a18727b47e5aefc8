"""Estimates of a function where it has no answer, from all its answers elsewhere, with standard errors.

For each output the ways to estimate it are compared by what they give for answers that are left out: Gaussian
processes with a length scale for each dimension (`gaussian`, and for many points `nearest`), of the output or of its
logarithm; means of neighbours; boosted trees where these do poorly; the mean. The best is taken, or a weighted mean
of several. The same residuals calibrate the standard errors. Of many outputs the principal components are estimated.
Answers to equal points are left out together, or a copy would tell what is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import repeat
from typing import Any

import numpy as np
import scipy

from .calibration import calibrated
from .candidates import (
    COLUMNS,
    EXACT,
    FEWEST,
    FLOPS,
    LEFT_OUT,
    Candidate,
    Points,
    by_mean,
    by_neighbours,
    by_others,
    by_plane,
    combined,
)
from .gaussian import Fitted, Kernel, Smoothness, likeliest
from .nearest import Nearest
from .space import decomposed
from .threads import one_thread
from .transforms import NONE, Transform, transforms

_STEPS, _AGAIN, _LAST = 50, 30, 12  # of the search for a kernel: first, from another's, and last
_HASTY, _HASTY_STEPS = 100, 20  # points and steps where there is little time, or not to be much
_BEGIN, _HASTY_BEGIN = 15, 5  # steps from each of several starts
_SEARCH = 0.4  # of the time, for a search,
_TRIED, _REFINED = 60, 15  # of so many likelihoods, or so many where a kernel is refined
_EXACT_QUICKLY = 2000  # points that are solved for at once, where it is to be quick
_FEW = 100  # answers whose residuals may be small by chance
_EACH = 5  # answers for each dimension from which it surely has a length scale of its own;
_SURE = 10  # and up to which it is off by too little on the answers that have chosen it
_PARTS, _REFITTED = 8, 300  # in which so many answers, at most, are then left out
_ROTATED = 0.02  # of the deviation: from this error on other directions are looked for,
_ROTATED_ANSWERS = 50  # and from so many answers,
_ROTATIONS = 2  # so many times, without
_QUARTERS, _CHOSEN = 4, 225  # each of so many parts of the answers, of at most so many others,
_APART = 200  # or once where so many do not choose,
_IDLE = 0.02  # each beginning with at least so much of the largest scale
_TIED = 30  # dimensions that may have one length scale: of more few matter
_SEVERAL = 12  # and answers from which several kinds of processes are compared,
_SEVERAL_QUICKLY = 40  # or so many where it is to be quick, as for each wave of a few rows
_AT_MOST = 5.0  # times the variance of errors is larger because few answers have chosen a process
_FIXED = 3  # numbers of a process, besides its length scales
_PLANE = 4  # answers for each coefficient from which the mean may be a plane
_CLOSE = 1.5  # times the best error up to which a second process is looked at
_SURELY = 0.9  # times the error in a space, up to which it is better in another
_FAR = 2.0  # times the best error beyond which another method adds nothing to a mean of several
_POOR = 0.03  # of the deviation: from this error on trees and splines are tried,
_TREES = 80  # and from so many answers
_LATE = 0.3  # of the time that is left, for a solution after a search that ended late
_OTHERS = 2.0  # seconds for these, and some for each estimate,
_TREE_SECONDS = 5e-6  # and for each number of the inputs
_STARTS = ((0.5, 1e-5), (2.0, 1e-2), (6.0, 1e-5))  # length scales, in √d deviations, and noise
_SHORTER = 3.0  # times the scales of a Matérn process,
_NOISY = 1e-4  # and the least noise, where a Gaussian one begins
_MANY = 50  # outputs from which a quick estimate is not compared with means
_OUTPUTS = 8  # outputs, or principal components, that each have a kernel of their own,
_ALONE = 24  # and up to so many outputs where their components do poorly
_SHARED = 4  # of these kernels that the outputs themselves may have
_COMPARED = 100  # outputs by which a kernel is chosen for what components leave
_LITTLE = 0.055  # seconds an output, below which all share one kernel,
_MANY_LITTLE = 0.3  # and seconds a principal component,
_REST = 4.0  # or so many times those for what components leave of the outputs,
_BETTER = 0.12  # from which each has a kernel of its own also where there is no hurry,
_SOME, _ENOUGH = 1.0, 2.0  # and from which each has a plain, and a thorough search
_SEARCHING, _SEARCHED = 0.05, 0.6  # seconds, and share of them, that must be left after a search
_NEAR, _NEAR_OUTPUT = 5e-4, 1e-7  # seconds an estimate by the nearest points, and an output
_FEWEST_SOLVED = 30  # points from which a process is worth it,
_FEWEST_BESIDE = 1000  # and from which it is beside one of the nearest points;
_SOLVED_BESIDE = 3e10  # at most this, over the number of estimates, is the square of how many
_BEYOND = 2.0  # times the largest variance of an answer left out: what is wanted lies further away,
_END, _ENDS = 0.2, 4  # as this share of the answers at the ends of so many dimensions does
_DISTANCES = 5  # at which these are compared
_ROUNDED = 8.0 * np.finfo(float).eps  # of the largest answer: copies that are as near are equal
_NORMAL = 1.96  # the quantile of the normal distribution to which Student's is compared
_STDERR = 1e-9  # of an output's deviation, or of a constant output: the smallest standard error


@dataclass(frozen=True, slots=True, eq=False)
class Estimates:
    """What is estimated of some outputs at some points."""

    values: np.ndarray
    """(m, q)."""
    stderr: np.ndarray
    """(m, q): above 0."""
    left_out: np.ndarray
    """(q,): root mean square of what answers are off from estimates without them."""
    methods: tuple[str, ...]
    """q: by which methods."""


@np.errstate(under="ignore")  # a caller may have NumPy raise for it
def estimates(
    points: np.ndarray,
    answers: np.ndarray,
    wanted: np.ndarray,
    *,
    seed: int = 0,
    thorough: bool = True,
    time_left: Callable[[], float] = lambda: math.inf,
    each: Callable[..., Iterable[Any]] = map,
) -> Estimates:
    """Estimate outputs at points from those at others.

    Parameters
    ----------
    points : ndarray, shape (n, d)
        At least two. All numbers are finite, here and below.
    answers : ndarray, shape (n, q)
    wanted : ndarray, shape (m, d)
    seed : int
        By which points are drawn where there are many.
    thorough : bool
        If False, one kernel is chosen for all outputs, by few answers, in a small fraction of the time; outputs may also
        be near a plane, or a mean of neighbours.
    time_left : callable
        Seconds that there are still. What takes longer is left out: first a kernel for each output, then answers, then
        the process, and in the end everything but the mean.
    each : callable
        As `map`, by which outputs are estimated, perhaps at the same time.
    """
    first, which = _places(points)
    repeated = 1 < len(first) < len(points)
    some, outputs = points[first] if repeated else points, answers.shape[1]
    kept = 0.0  # seconds for another look

    def known(*, other: bool = False) -> Points:
        return Points(
            some, wanted, seed, lambda: time_left() - kept,
            thorough=thorough, each=each, outputs=outputs, other=other,
        )  # fmt: skip

    def made(known: Points) -> Estimates:
        if not repeated:
            return _estimates(known, answers)
        return _of_repeats(known, answers, which, _at(some, wanted))

    # The matrices are too small for several threads to help, and waiting for each other costs them most. What is
    # imported later brings a BLAS of its own, which would have them.
    import_what_is_used()
    with one_thread:
        begun, seconds = known(), time_left()
        twice = thorough and begun.space.has_other and len(some) <= EXACT
        if not twice or seconds < 2.0 * seconds_to_be_thorough(len(some), len(wanted), outputs):
            return made(begun)
        kept = 0.5 * seconds if seconds < math.inf else 0.0
        found = made(begun)
        kept = 0.0
        # Of many inputs neither space is the likelier one.
        surely = 1.0 if begun.space.wide else _SURELY
        return _better(found, made(known(other=True)), surely)


def _digests(points: np.ndarray) -> list[bytes]:
    rows = (np.add(row, 0.0, dtype=np.float64) for row in points)  # so that -0.0 is 0.0
    return [blake2b(row.tobytes(), digest_size=16).digest() for row in rows]


def _places(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first of all that are equal, (u,) int, ascending, and for each point which of these it equals, (n,)."""
    seen: dict[bytes, int] = {}
    which = np.array([seen.setdefault(digest, len(seen)) for digest in _digests(points)])
    return np.unique(which, return_index=True)[1], which


def _at(places: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Which place (u, d) each wanted point (m, d) equals, (m,) int; -1 if none."""
    number = {digest: at for at, digest in enumerate(_digests(places))}
    return np.array([number.get(digest, -1) for digest in _digests(wanted)], dtype=int)


def _better(one: Estimates, other: Estimates, surely: float) -> Estimates:
    """Of each output the better of two estimates, less certain where another that is nearly as good differs.

    The other if its error is less than so many times that of the one.
    """
    better = other.left_out < surely * one.left_out
    stderr = np.where(better, other.stderr, one.stderr)
    left_out = np.where(better, other.left_out, one.left_out)
    near = np.maximum(one.left_out, other.left_out) < _CLOSE * left_out
    with np.errstate(over="ignore"):
        apart = np.hypot(stderr, np.abs(0.5 * one.values - 0.5 * other.values) * math.sqrt(2.0))
    return Estimates(
        np.where(better, other.values, one.values),
        np.where(near & np.isfinite(apart), apart, stderr),
        left_out,
        tuple(np.where(better, other.methods, one.methods).tolist()),
    )


def _of_repeats(known: Points, answers: np.ndarray, which: np.ndarray, at: np.ndarray) -> Estimates:
    """Estimates from the means of answers (n, q) to equal points, so that what is left out is not known from a copy.

    ``which`` (n,) of the known, distinct points each answer is to; and ``at`` (m,) which a wanted point equals, -1 if none.
    """
    unit = np.maximum(np.abs(answers).max(axis=0), np.finfo(float).tiny)
    scaled, counts = answers / unit, np.bincount(which)[:, None]
    order, begins = np.argsort(which, kind="stable"), np.cumsum(counts) - counts[:, 0]
    means = np.add.reduceat(scaled[order], begins, axis=0) / counts
    off, repeats = scaled - means[which], len(answers) - len(counts)
    noise = (off**2).sum(axis=0) / repeats
    found = _estimates(known, means * unit)
    values, errors, left_out = found.values / unit, found.stderr / unit, found.left_out / unit
    # The next repeat may differ, though none did: one in so many, by as much as estimates are off.
    usual = np.maximum(left_out, errors.min(axis=0))
    here = np.flatnonzero(at >= 0)
    own = (noise * repeats + usual**2) / (repeats + 1.0) / counts[at[here]]
    # The process has seen the mean there too: what it is off by includes the noise of that.
    far = np.maximum(errors[here] ** 2 - noise / counts[at[here]], 1e-300)
    # Copies that never differ are the answer; what they are off by is rounding.
    trust = np.where(noise <= _ROUNDED**2, 1.0, far / (far + own))
    values[here] = trust * means[at[here]] + (1.0 - trust) * values[here]
    variance = errors**2 + noise * (1.0 - (1.0 / counts).mean())
    variance[here] = trust * own + noise
    alone = counts[which] == 1
    squares = np.where(
        alone, left_out**2, (off * counts[which] / np.maximum(counts[which] - 1, 1)) ** 2
    )
    errors = np.maximum(np.sqrt(variance), _STDERR * usual)
    return Estimates(
        _numbers(unit, values),
        np.maximum(_numbers(unit, errors), np.finfo(float).tiny),
        _numbers(unit, np.sqrt(squares.mean(axis=0))),
        found.methods,
    )


def seconds_to_be_thorough(answers: int, wanted: int, outputs: int) -> float:
    """Seconds from which thorough estimates are better than quick ones: enough to find a kernel for each output and use it."""
    estimated = wanted + min(answers, LEFT_OUT)
    solved = answers**2 * (answers + estimated) / FLOPS if answers <= EXACT else math.inf
    return min(outputs, _OUTPUTS + 1) * (_SOME + 2.0 * min(solved, estimated * _NEAR))


def seconds_to_do_better(answers: int, wanted: int, outputs: int) -> float:
    """Seconds in which thorough estimates are better than quick ones, however long these take."""
    if answers > _EXACT_QUICKLY:
        return seconds_to_be_thorough(answers, wanted, outputs)
    return min(outputs, _OUTPUTS + 1) * _BETTER


def import_what_is_used() -> None:
    """Have SciPy import the parts that quick estimates need, which it does at their first use and takes some tenths of a second."""
    for part in ("linalg", "optimize", "sparse", "spatial", "special"):
        getattr(scipy, part)


def _estimates(known: Points, answers: np.ndarray) -> Estimates:
    # Their squares may be too large, or too small, for a number, and their differences far below them. Both steps are exact.
    begun = known.time_left()
    unit = np.ldexp(1.0, np.frexp(np.abs(answers).max(axis=0))[1] - 1)
    level = answers[0] / unit
    scaled = answers / unit
    scaled -= level
    middle, spread = scaled.mean(axis=0), scaled.std(axis=0)
    varied = spread > 0.0
    spread[~varied] = 1.0
    scaled -= middle
    scaled /= spread
    middle += level
    known.reserve(begun, len(answers))
    outputs = int(varied.sum())
    if outputs < len(varied):
        scaled = scaled[:, varied]
    if len(answers) < FEWEST or not known.points.shape[1] or not outputs:
        found = by_mean(known, scaled)
    elif not known.thorough or known.time_left() < _least(known, outputs):
        found = _jointly(known, scaled)
    elif outputs > _OUTPUTS:
        found = _by_components(known, scaled)
        found = _poor_alone(known, scaled, (-middle / spread)[varied], found)
    else:
        parts = _each(known, scaled, outputs, (-middle / spread)[varied])
        found = _together(parts)
    targets = scaled[known.sample]
    left, values = np.split(found.means, [len(targets)])
    left_variance, variance = np.split(found.variances, [len(targets)])
    lengths = len(found.scales)
    # Few answers are judged by kernels that they have not chosen.
    few = _inflation(len(answers), lengths if len(answers) >= _SURE * lengths else 1)
    stderr = calibrated(
        known.points[known.sample] * found.scales, targets - left, left_variance,
        known.wanted * found.scales, variance, by_place=known.places,
    )  # fmt: skip
    left_out = _among(np.sqrt(found.squares(targets)), varied)
    methods = iter(found.names)
    values, stderr = _among(values, varied), _among(stderr, varied)
    values *= spread
    values += middle
    stderr *= few
    np.maximum(stderr, _STDERR, out=stderr)
    stderr *= spread
    np.maximum(stderr, np.finfo(float).eps * np.abs(middle), out=stderr)
    # What an input does that never varied is unknown: perhaps as much as all others do.
    apart = np.ix_(known.unseen, varied)
    stderr[apart] = np.hypot(stderr[apart], spread[varied])
    # The next answer may be another, though all are the same: one in so many.
    stderr[:, ~varied] = np.maximum(np.abs(middle[~varied]) / (len(answers) + 1.0), 1e-300)
    return Estimates(
        _numbers(unit, values),
        np.maximum(_numbers(unit, stderr), np.finfo(float).tiny),
        _numbers(unit, spread * left_out),
        tuple(next(methods) if one else "constant" for one in varied),
    )


def _least(known: Points, outputs: int) -> float:
    """Seconds from which so many outputs do not share one kernel."""
    if outputs <= _OUTPUTS:
        return _LITTLE * outputs
    return max(_MANY_LITTLE * (_OUTPUTS + 1), _REST * _for_rest(known, outputs))


def _among(numbers: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Columns (..., v) among others (..., q), which are 0; the same array if all are chosen (q,) bool."""
    if chosen.all():
        return numbers
    found = np.zeros((*numbers.shape[:-1], len(chosen)))
    found[..., chosen] = numbers
    return found


def _numbers(unit: np.ndarray, times: np.ndarray) -> np.ndarray:
    """A unit times numbers, or the largest that is no infinity; in their place, as they may be many."""
    largest = np.finfo(float).max
    with np.errstate(over="ignore"):
        times *= unit
    return np.clip(times, -largest, largest, out=times)


def _inflation(size: int, lengths: int) -> float:
    """By how much standard errors are larger because few answers have chosen the process, and calibrated it.

    By the degrees of freedom that are left, and the heavier tails of Student's distribution.
    """
    freedom = _freedom(size, lengths)
    return float(np.sqrt(size / freedom) * scipy.special.stdtrit(freedom, 0.975) / _NORMAL)


def _freedom(size: int, lengths: int) -> float:
    """As many as there are answers, less the numbers that the process has; but two, and a fifth of the answers, at least."""
    return max(2.0, size / _AT_MOST, float(size - _FIXED - lengths))


def _few(scales: np.ndarray, size: int) -> bool:
    """Whether a process is off by too little on so many answers because these have chosen its length scales (d,)."""
    return size < _SURE * len(scales) and scales.max() > scales.min()


def _larger(scales: np.ndarray, size: int) -> float:
    """Times that errors are larger than those of so many answers, which have chosen length scales (d,), if they are few."""
    return math.sqrt(size / _freedom(size, len(scales))) if _few(scales, size) else 1.0


@dataclass(frozen=True, slots=True, eq=False)
class _Model:
    """A process on some scale, and by how much it is off on the answers that chose it."""

    error: float
    answers: int
    """How many these are."""
    transform: Transform
    kernel: Kernel
    known: Points
    """In whose dimensions."""
    larger: float = 1.0
    """Times that its errors are larger than those for answers left out."""


def _name(kernel: Kernel, transform: Transform = NONE) -> str:
    kind = "Gaussian" if kernel.smoothness == "gaussian" else "Matérn"
    return f"{kind} process" + (f" of the {transform.name}" if transform is not NONE else "")


def _each(
    known: Points, scaled: np.ndarray, shares: int, zeros: Iterable[float] = repeat(math.nan)
) -> list[Candidate]:
    """The estimates of outputs (n, q), in which 0 has become ``zeros``; the time that is left is for so many shares."""
    planes: Iterable[Candidate | None] = repeat(None)
    if known.inputs is not None and known.time_left() / shares >= _ENOUGH:
        plane = by_plane(known, scaled, *known.inputs)
        planes = map(plane.column, range(scaled.shape[1]))
    left = range(shares, 0, -1)
    ways: list[tuple[list[Candidate], np.ndarray | None]]
    ways = known.each(_ways, repeat(known), scaled.T, zeros, left, planes)
    if any(scales is not None for _, scales in ways):
        # It imports much. Beside threads that compute, each would wait for the other.
        import sklearn.ensemble  # noqa: F401, PLC0415
    return known.each(_best, repeat(known), scaled.T, ways, left)


def _ways(
    known: Points, scaled: np.ndarray, zero: float, outputs: int, plane: Candidate | None = None
) -> tuple[list[Candidate], np.ndarray | None]:
    """Ways to estimate an output (n,), and if splines and trees are to be tried as well the scales (d,) of splines.

    ``zero`` is what 0 was; so many outputs share the time that is left.
    """
    seconds = known.time_left() / outputs
    if seconds < _LITTLE:
        return [_jointly(known, scaled[:, None]).column(0)], None
    thorough = seconds >= _ENOUGH
    targets = scaled[known.sample]
    models = sorted(_models(known, scaled, zero, seconds), key=lambda model: model.error)
    best = models[0]
    kind = best.kernel.smoothness, best.transform
    kinds = (m for m in models if (m.kernel.smoothness, m.transform) != kind)
    other = next(kinds, None) if thorough else None
    begun = min(known.time_left(), 1e9)
    seconds = begun / outputs
    both = other is not None and other.error < _CLOSE * best.error
    first = _process(scaled, best, seconds / (1 + both), known.last)
    candidates = [first] if first else []
    # By all answers it may be worse than by the few that chose it.
    error = max([best.error, *(one.error(targets) for one in candidates)])
    if other is not None and other.error < _CLOSE * error:
        seconds -= begun - min(known.time_left(), 1e9)
        second = _process(scaled, other, seconds, known.second)
        candidates += [second] if second else []
    candidates += _averages(known, scaled, best.kernel.scales)
    candidates += [plane] if plane is not None else []

    def least() -> float:
        return min(candidate.error(targets) for candidate in candidates)

    if thorough and least() > _ROTATED and known.time_left() / outputs >= _SOME:
        rotated = _rotated(known, scaled, best, known.time_left() / (2.0 * outputs))
        third = rotated and _process(scaled, rotated, known.time_left() / outputs, known.last)
        candidates += [third] if third else []
    poor = thorough and least() > _POOR and len(scaled) >= _TREES
    return candidates, best.kernel.scales if poor else None


def _best(
    known: Points,
    scaled: np.ndarray,
    ways: tuple[list[Candidate], np.ndarray | None],
    outputs: int,
) -> Candidate:
    """The best way to estimate an output (n,), or a mean of several."""
    (candidates, scales), targets = ways, scaled[known.sample]
    longest = _OTHERS + 3.0 * _NEAR * (len(known.wanted) + len(targets))
    longest += _TREE_SECONDS * len(scaled) * min(len(known.space.columns), COLUMNS)
    if scales is not None and known.time_left() / outputs > longest:
        most = _FAR * min(candidate.error(targets) for candidate in candidates)
        # Neighbours on a line or a plane, as on a grid, determine no spline.
        with suppress(np.linalg.LinAlgError):
            candidates.extend(by_others(known, scaled, scales, most))
    return combined(candidates, targets) if len(candidates) > 1 else candidates[0]


def _models(known: Points, scaled: np.ndarray, zero: float, seconds: float) -> Iterator[_Model]:
    """Processes of several kinds, each likeliest by a few of the answers, while there is time."""
    hasty = seconds < _ENOUGH
    few = known.first[: max(_HASTY, known.affordable(_SEARCH * seconds / _TRIED))]
    points, answers = known.points[few], scaled[few]
    dimensions = points.shape[1]
    tied = len(points) < _EACH * dimensions and dimensions <= _TIED
    several = _compares_kinds(known, len(points))
    plane = several and len(points) >= _PLANE * (dimensions + 1)
    kinds: list[tuple[Transform | None, Smoothness | None, bool]] = []
    if several:
        kinds.append((None, "gaussian", plane))
        kinds += [(transform, None, plane) for transform in transforms(scaled, zero)]
        kinds += [(None, None, False)] if plane else []
    end = known.time_left() - _SEARCH * seconds
    # Each kind is to have its turn, and the first, which begins from nowhere, two.
    go_on = known.within(2.0 * _SEARCH * seconds / (2 + len(kinds)))

    def model(begin: list[Kernel], transform: Transform, steps: int, *, tied: bool) -> _Model:
        moved = transform.there(answers)
        middle, unit = moved.mean(), moved.std() or 1.0  # these few may all be equal
        there = ((moved - middle) / unit)[:, None]
        each = _HASTY_BEGIN if hasty else _BEGIN
        kernel = likeliest(points, there, begin, steps=steps, begin=each, tied=tied, go_on=go_on)
        fitted = Fitted(points, there, kernel)
        off, variance = fitted.left_out()
        means = (there - off)[:, 0] * unit + middle
        back, _ = transform.back(means, variance * fitted.variance[0] * unit**2)
        error = _larger(kernel.scales, len(points)) * float(np.sqrt(((back - answers) ** 2).mean()))
        return _Model(error, len(points), transform, kernel, known)

    starts = [Kernel.begun(dimensions, *start, linear=plane) for start in _STARTS]
    screened = _screened(known, scaled[:, None])
    best = model(starts if tied else [*starts, *screened], NONE, _STEPS, tied=tied)
    yield best
    for number, (transform, smoothness, linear) in enumerate(kinds):
        go_on = known.within((known.time_left() - end) / (len(kinds) - number))
        if not go_on():
            return
        begin = _begun(best.kernel, smoothness, linear)
        other = model([begin], transform or best.transform, _AGAIN, tied=tied)
        yield other
        best = min(best, other, key=lambda m: m.error)
    go_on = known.within(known.time_left() - end)
    if several and tied and not hasty and go_on():
        yield model([best.kernel, *screened], best.transform, _STEPS, tied=False)


def _rotated(known: Points, scaled: np.ndarray, best: _Model, seconds: float) -> _Model | None:
    """The best process of an output (n,) with other directions as dimensions.

    They are the principal ones of its gradients, along which it changes most (an active subspace; Constantine, Dow and
    Wang 2014), found a few times. None if answers left out are not much nearer so, if answers are too few, or if there is
    no time.
    """
    (size, dimensions), few, go_on = known.points.shape, known.first, known.within(seconds)
    if dimensions < 2 or size < max(_ROTATED_ANSWERS, _EACH * dimensions):
        return None
    moved = best.transform.there(scaled)
    there = ((moved - moved.mean()) / moved.std())[:, None]

    def rotated(chosen: np.ndarray) -> tuple[Fitted, Points, Fitted]:
        """The process that has seen the answers chosen (c,) int, the directions that these choose, and the process along them."""
        points, fitted = known, Fitted(known.points[chosen], there[chosen], best.kernel)
        before = fitted
        for _ in range(_ROTATIONS):
            gradients, kernel = fitted.gradients(), fitted.kernel
            strengths, directions = np.linalg.eigh(gradients.T @ gradients)
            strengths = np.maximum(strengths, max(_IDLE**2 * strengths[-1], 1e-300))
            scales = np.sqrt(strengths / strengths.sum()) * np.linalg.norm(kernel.scales)
            begin = replace(kernel, scales=scales, noise=max(kernel.noise, _NOISY))
            points = points.rotated(directions)
            some = points.points[chosen]
            found = likeliest(some, there[chosen], [begin], steps=_AGAIN, go_on=go_on)
            fitted = Fitted(some, there[chosen], found)
        return before, points, fitted

    quarter, whole = np.arange(size) % _QUARTERS, size - len(few) >= _APART
    parts = [
        (known.order[quarter != one][:_CHOSEN], known.order[quarter == one])
        for one in range(_QUARTERS)
    ]
    if whole:
        parts = [(few, known.order[len(few) : 2 * len(few)])]
    squares: list[list[np.ndarray]] = [[], []]
    for chosen, others in parts:
        before, points, after = rotated(chosen)
        for off, place, fitted in zip(squares, (known, points), (before, after), strict=True):
            off.append((there[others] - fitted.predict(place.points[others])[0]) ** 2)
        was, now = (float(np.sqrt(np.concatenate(off).mean())) for off in squares)
        if not go_on() or (len(squares[0]) == _QUARTERS // 2 and now > was):
            return None
    if now > _SURELY * was:
        return None
    if not whole:
        before, points, after = rotated(few)
        if not go_on():
            return None
    # Answers that have chosen directions are nearer to the process than others.
    left_out = [float((fitted.left_out()[0] ** 2).mean()) for fitted in (before, after)]
    times = max(1.0, now / was * math.sqrt(left_out[0] / max(left_out[1], 1e-300)))
    return replace(
        best,
        error=best.error * now / was,
        answers=len(few),
        kernel=after.kernel,
        known=points,
        larger=1.0 + (times - 1.0) * len(few) / size,
    )


def _screened(known: Points, scaled: np.ndarray) -> list[Kernel]:
    """Where else a search for a kernel of outputs (n, q) begins: as if few inputs matter, if some surely do."""
    found = Kernel.screened(known.points[known.last], scaled[known.last])
    return [] if found is None else [found]


def _compares_kinds(known: Points, size: int) -> bool:
    """Whether so many answers choose among several kinds of processes."""
    return size >= (_SEVERAL if known.thorough else _SEVERAL_QUICKLY)


def _begun(kernel: Kernel, smoothness: Smoothness | None, linear: bool) -> Kernel:
    """Where the search for a kernel of another kind begins.

    A Gaussian process of the same answers is shorter. With the length scales and the little noise of another its
    covariances are so nearly singular that rounding decided what was found.
    """
    if smoothness != "gaussian":
        return replace(kernel, linear=linear)
    scales, noise = _SHORTER * kernel.scales, max(kernel.noise, _NOISY)
    return Kernel(scales, noise, smoothness, linear)


def _process(
    scaled: np.ndarray, model: _Model, seconds: float, drawn: np.ndarray
) -> Candidate | None:
    """A process that sees all answers, or as many as there is time for; None if these are too few.

    Its kernel is refined by the answers that are ``drawn`` for it, or as many of them as there is time for.
    """
    known, transform, kernel = model.known, model.transform, model.kernel
    moved = transform.there(scaled)
    middle, unit = moved.mean(), moved.std()
    there = ((moved - middle) / unit)[:, None]
    begun = min(known.time_left(), 1e9)
    longest = seconds / 4.0
    if seconds < _ENOUGH:  # nothing but the solution follows
        longest = 0.9 * seconds - min(3.0 * known.solving(len(there)), 0.6 * seconds)
    size = known.affordable(longest / _REFINED, len(drawn))
    if size > model.answers:
        some, go_on = drawn[:size], known.within(longest)
        refined = likeliest(known.points[some], there[some], [kernel], steps=_LAST, go_on=go_on)
        either = [kernel, refined]
        kernel = _nearest_kernel(known, there, either, some) if go_on() else refined
    still = known.time_left()
    # A search may end late, and without a solution it was for nothing.
    found = _conditioned(known, there, kernel, max(seconds - begun + still, _LATE * still))
    if found is None:
        return None
    means, variances = found.means[:, 0], found.variances[:, 0]
    own = there[known.sample, 0]
    means[: len(own)] = own - model.larger * (own - means[: len(own)])
    variances *= model.larger**2
    means, variances = transform.back(means * unit + middle, variances * unit**2)
    rotated = ", rotated inputs" if known.directions is not None else ""
    name = (_name(kernel, transform) + rotated,)
    scales = known.unrotated(found.scales)
    return replace(found, names=name, scales=scales, means=means, variances=variances)


def _conditioned(
    known: Points, answers: np.ndarray, kernel: Kernel, seconds: float
) -> Candidate | None:
    """Estimates of outputs (n, q) by a process, within so many seconds; None if too few answers can be used in these."""
    size, outputs = answers.shape
    estimated = len(known.wanted) + len(known.sample)

    def solvable(count: int) -> bool:
        return known.solving(count, outputs) < seconds / 2.0

    exactly, near = EXACT if known.thorough else _EXACT_QUICKLY, _NEAR + outputs * _NEAR_OUTPUT
    found, least = None, min(_FEWEST_SOLVED, size)
    if (size > exactly or not solvable(size)) and estimated * near < seconds / 2.0:
        fitted = Nearest(known.points, answers, kernel)
        found = _estimated(known, answers, fitted, fitted.left_out(known.sample), seconds)
        if not known.thorough:
            return found
        # Some of the answers at once say more than the nearest where these are far away, or noisy.
        size, least = min(size, exactly, int(math.sqrt(_SOLVED_BESIDE / estimated))), _FEWEST_BESIDE
    while size >= least and not solvable(size):
        size = int(0.8 * size)
    if size < least:
        return found
    some = np.sort(known.order[:size])
    whole = Fitted(known.points[some], answers[some], kernel)
    if known.thorough and len(answers) == size <= _REFITTED and _few(kernel.scales, size):
        apart = _refitted(known, answers, kernel, seconds / 4.0)
        if apart is not None:
            return _estimated(known, answers, whole, apart, seconds)
    inside = np.isin(known.sample, some)
    off, sharp = np.empty((len(inside), outputs)), np.empty(len(inside))
    off[inside], sharp[inside] = whole.left_out(np.searchsorted(some, known.sample[inside]))
    outside = known.sample[~inside]
    means, sharp[~inside] = whole.predict(known.points[outside])
    off[~inside] = answers[outside] - means
    off *= _larger(kernel.scales, size)
    other = _estimated(known, answers, whole, (off, sharp), seconds)
    return other if found is None else _nearer(found, other, answers[known.sample])


def _refitted(
    known: Points, answers: np.ndarray, kernel: Kernel, seconds: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """What answers (n, q) are off from processes of the others, and variances (n,) as of `Fitted.left_out`.

    A part of them at a time, by a kernel that the others choose. None if there is no time.
    """
    go_on = known.within(seconds)
    part = known.order % _PARTS
    off, variances = np.empty(answers.shape), np.empty(len(answers))
    for one in range(_PARTS):
        here, others = np.flatnonzero(part == one), np.flatnonzero(part != one)
        points, rest = known.points[others], answers[others]
        if not go_on():
            return None
        found = likeliest(points, rest, [kernel], steps=_AGAIN, go_on=go_on)
        means, variances[here] = Fitted(points, rest, found).predict(known.points[here])
        off[here] = answers[here] - means
    return off[known.sample], variances[known.sample]


def _nearer(one: Candidate, other: Candidate, targets: np.ndarray) -> Candidate:
    """Of two candidates for outputs (n, q) the one that is nearer to these, which are left out, for each."""
    better = other.squares(targets) < one.squares(targets)
    return _with_columns(one, np.arange(len(better)), other, better)


def _estimated(
    known: Points,
    answers: np.ndarray,
    fitted: Fitted | Nearest,
    left_out: tuple[np.ndarray, np.ndarray],
    seconds: float,
) -> Candidate:
    """Estimates by a process, and what it is off (l, q) on answers left out, with variances (l,) in its own unit."""
    kernel, sample, (off, sharp) = fitted.kernel, known.sample, left_out
    # As an estimate of s² the residuals do for both kinds.
    variance = np.maximum((off**2 / sharp[:, None]).mean(axis=0), 1e-300)
    # Which residuals of few answers may miss.
    size = len(fitted.points)
    if size < _FEW and not (isinstance(fitted, Nearest) or _few(kernel.scales, size)):
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
    names = (_name(kernel),) * answers.shape[1]
    return Candidate(names, kernel.scales, means, variances, kernel=kernel)


def _ends(points: np.ndarray, answers: np.ndarray, kernel: Kernel) -> tuple[np.ndarray, np.ndarray]:
    """Variances (e,), and squares (e, q) of what answers (n, q) are off, at the ends of the points estimated from the rest.

    In the dimensions that matter most. An answer that is left out alone has others around it, and does not tell how a
    process goes on where there are none.
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
    """Factors (m, q) of variances, at least 1 and the larger the further away, from squares (e, q) over their variances.

    ``wanted`` (m,) and ``known`` (e,) are logarithms of distances; up to 0 nothing is to be wider.
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


def _together(parts: list[Candidate]) -> Candidate:
    """Outputs beside each other."""
    scales = np.exp(np.mean([np.log(part.scales) for part in parts], axis=0))
    numbers = [part.means for part in parts], [part.variances for part in parts]
    names = tuple(part.names[0] for part in parts)
    return Candidate(names, scales, *(np.stack(some, axis=1) for some in numbers))


def _averages(known: Points, scaled: np.ndarray, scales: np.ndarray) -> list[Candidate]:
    """Means of neighbours, if there is time, and of all answers."""
    if known.hurried:
        return [by_mean(known, scaled)]
    return [by_neighbours(known, scaled, scales), by_mean(known, scaled)]


def _jointly(known: Points, scaled: np.ndarray) -> Candidate:
    """Several outputs (n, q) by one kernel, which takes the time of one: the best of a few kinds."""
    dimensions = known.points.shape[1]
    few, seconds = known.first[: max(_HASTY, _EACH * dimensions)], known.time_left()
    points, answers = known.points[few], scaled[few]
    size = len(points)
    fixed = size < _EACH * dimensions
    kernel = Kernel.begun(dimensions, *_STARTS[1])

    def go_on() -> bool:
        return known.time_left() >= max(_SEARCHING, _SEARCHED * seconds)

    screened = _screened(known, scaled[:, :: -(-scaled.shape[1] // _OUTPUTS)])
    tried: list[tuple[float, Kernel]] = []
    kinds: list[tuple[Smoothness | None, bool, bool]] = [("matern52", False, fixed)]
    if _compares_kinds(known, size):
        kinds.append(("gaussian", False, fixed))
        if size >= _PLANE * (dimensions + 1):
            kinds.append((None, True, fixed))
        if fixed:
            kinds.append((None, False, False))
    for smoothness, linear, tied in kinds:
        if not go_on():
            break
        begin = [_begun(kernel, smoothness, linear)]
        if not tied:
            begin, screened = [*begin, *screened], []
        kernel = likeliest(
            points, answers, begin, steps=_HASTY_STEPS, begin=_HASTY_BEGIN, tied=tied, go_on=go_on
        )
        off = Fitted(points, answers, kernel).left_out()[0]
        tried.append((_larger(kernel.scales, size) ** 2 * float((off**2).sum()), kernel))
        kernel = min(tried, key=lambda one: one[0])[1]  # with which the next kind begins
    process = _conditioned(known, scaled, kernel, known.time_left()) if tried else None
    many = scaled.shape[1] > _MANY
    if process is not None and many:
        return process
    ways = [] if process is None else [process]
    if known.inputs is not None and ways and go_on():
        ways.append(by_plane(known, scaled, *known.inputs))
    ways += _averages(known, scaled, kernel.scales)
    targets = scaled[known.sample]
    if many:
        return min(ways, key=lambda way: float(way.squares(targets).sum()))
    return _together(
        [
            combined([way.column(output) for way in ways], targets[:, output])
            for output in range(scaled.shape[1])
        ]
    )


def _by_components(known: Points, scaled: np.ndarray) -> Candidate:
    """Many outputs (n, q), by their principal components; what these leave of them shares one kernel.

    Those that are nearer without the others are estimated so.
    """
    directions = decomposed(scaled[known.second], _OUTPUTS)[2]
    components = scaled @ directions.T
    units = np.maximum(components.std(axis=0), 1e-300)
    # One share of the time is for what they leave, or more if that takes longer.
    needed, many = _for_rest(known, scaled.shape[1]), len(directions)
    later = math.ceil(many * needed / max(known.time_left() - needed, needed, 1e-300))
    parts = _each(known, components / units, many + max(1, later))
    found = _together(parts)
    rest = scaled - components @ directions
    kernels = [part.kernel for part in parts if part.kernel is not None]
    common = Kernel(found.scales, 1e-4, "matern52", False)
    kernel = _nearest_kernel(known, rest, [common, *kernels], known.first)
    left = _conditioned(known, rest, kernel, known.time_left()) or by_mean(known, rest)
    back = units[:, None] * directions
    kinds = ", ".join(dict.fromkeys(found.names))
    whole = Candidate(
        (f"{len(back)} components: {kinds}",) * scaled.shape[1],
        found.scales,
        found.means @ back + left.means,
        found.variances @ back**2 + left.variances,
    )
    if not kernels or known.time_left() < _ENOUGH * len(parts):
        return whole
    return _by_themselves(known, scaled, kernels, whole)


def _poor_alone(
    known: Points, scaled: np.ndarray, zeros: np.ndarray, whole: Candidate
) -> Candidate:
    """Outputs (n, q) that are off by much, each estimated by itself where that is nearer, if there is time and they are not many.

    Components mix outputs that are smooth with others that jump, and none is the logarithm of an output.
    """
    targets = scaled[known.sample]
    squares = whole.squares(targets)
    poor = np.flatnonzero(squares > _POOR**2)
    many = scaled.shape[1] > _ALONE or len(scaled) > _EXACT_QUICKLY
    if many or not len(poor) or known.time_left() < _ENOUGH * len(poor):
        return whole
    found = _together(_each(known, scaled[:, poor], len(poor), zeros[poor]))
    own = found.squares(targets[:, poor])
    nearer = own < squares[poor]
    # Where the other one is nearly as good, what both differ by may be missed.
    near = np.maximum(own, squares[poor]) < _CLOSE**2 * np.minimum(own, squares[poor])
    differences = 0.5 * (found.means - whole.means[:, poor]) ** 2 * near
    whole.variances[:, poor] += differences
    found.variances[:] += differences
    return _with_columns(whole, poor, found, nearer)


def _nearest_kernel(
    known: Points, scaled: np.ndarray, kernels: list[Kernel], drawn: np.ndarray
) -> Kernel:
    """The kernel under which answers (n, q) that are ``drawn``, left out, are nearest, of some outputs together."""
    some = known.points[drawn], scaled[drawn, :: -(-scaled.shape[1] // _COMPARED)]
    return min(kernels, key=lambda one: float((Fitted(*some, one).left_out()[0] ** 2).sum()))


def _for_rest(known: Points, outputs: int) -> float:
    """Seconds that a process takes for what principal components leave of so many outputs."""
    return 2.0 * known.solving(min(len(known.points), _EXACT_QUICKLY), outputs)


def _by_themselves(
    known: Points, scaled: np.ndarray, kernels: list[Kernel], whole: Candidate
) -> Candidate:
    """Outputs (n, q) with one of some kernels where that is nearer than the whole, or with one found from there.

    That one is the likeliest by all outputs for which the kernel that it was found from is best.
    """
    seconds = known.time_left() / (2.0 * len(kernels))
    targets = scaled[known.sample]
    for shared, columns in _shared(known, scaled, kernels):
        drawn = scaled[known.second][:, columns]
        points, go_on = known.points[known.second], known.within(seconds / 2.0)
        own = likeliest(points, drawn, [shared], steps=_AGAIN, go_on=go_on)
        some = known.points[known.first], drawn[: len(known.first)]
        both = [(Fitted(*some, one).left_out()[0] ** 2).mean(axis=0) for one in (shared, own)]
        for kernel, here in ((shared, both[0] <= both[1]), (own, both[0] > both[1])):
            chosen = columns[here]
            if not len(chosen):
                continue
            found = _conditioned(known, scaled[:, chosen], kernel, seconds / 2.0)
            if found is None:
                break
            nearer = found.squares(targets[:, chosen]) < whole.squares(targets)[chosen]
            whole = _with_columns(whole, chosen, found, nearer)
    return whole


def _with_columns(
    whole: Candidate, outputs: np.ndarray, found: Candidate, nearer: np.ndarray
) -> Candidate:
    """A candidate for all outputs, with what is found of some of them where that is nearer, bool; in its place."""
    names = np.array(whole.names, dtype=object)
    names[outputs[nearer]] = np.array(found.names, dtype=object)[nearer]
    whole.means[:, outputs[nearer]] = found.means[:, nearer]
    whole.variances[:, outputs[nearer]] = found.variances[:, nearer]
    return replace(whole, names=tuple(names))


def _shared(
    known: Points, scaled: np.ndarray, kernels: list[Kernel]
) -> list[tuple[Kernel, np.ndarray]]:
    """Of some kernels the few under which a few answers left out are nearest, each with the numbers of its outputs (n, q)."""
    points, answers = known.points[known.first], scaled[known.first]
    squares = [
        (Fitted(points, answers, kernel).left_out()[0] ** 2).mean(axis=0) for kernel in kernels
    ]
    often = np.bincount(np.argmin(squares, axis=0), minlength=len(kernels))
    few = np.argsort(-often, kind="stable")[:_SHARED]
    which = few[np.array(squares)[few].argmin(axis=0)]
    return [(kernels[one], np.flatnonzero(which == one)) for one in np.unique(which)]
