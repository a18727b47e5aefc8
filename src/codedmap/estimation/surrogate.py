"""Estimates of a function where it has no answer, from all its answers elsewhere, with standard errors.

For each output the ways to estimate it are compared by what they give for answers that are left out: Gaussian
processes with a length scale for each dimension (`gaussian`, and for many points `nearest`), of the output or of its
logarithm; means of neighbours; boosted trees where these do poorly; the mean. The best is taken, or a weighted mean
of several. The same residuals calibrate the standard errors. Of many outputs the principal components are estimated.
Answers to equal points are left out together, or a copy would tell what is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from hashlib import blake2b
from importlib import import_module
from typing import Any

import numpy as np
import scipy

from .calibration import calibrated
from .candidates import FEWEST, FLOPS, Candidate, beside, by_mean
from .components import ALONE, OUTPUTS, by_components, poor_alone, seconds_for_rest
from .conditioning import EXACT_QUICKLY, NEAR
from .models import EACH_SURELY, ENOUGH, degrees_of_freedom
from .nearest import nearest
from .one_kernel import jointly
from .one_output import LITTLE, SOME, each_alone
from .points import EXACT, LEFT_OUT, Points
from .set_aside import set_aside
from .threads import one_thread
from .worst_first import worst_first

_BETTER = 0.12  # seconds an output from which thorough estimates are better than quick ones, without hurry
_COMPONENT_LITTLE = 0.3  # seconds a principal component, below which outputs share a kernel
_REST = 4.0  # times the seconds for what components leave, below which they do
_ASIDE = 0.9  # share of the time that must be left to look for answers that are set aside
_POWER = 4  # weights of two estimates go by this power of their errors
_APART = 2.0  # standard errors by which two estimates may differ by chance
_LEAST = 0.25  # variance of the mean of two, over their mean variance, at least
_FEW = 4  # estimates as many as which count as equal when the differences of two are judged
_LARGEST = 1e150  # ratio whose square is a number
_ROUNDED = 8.0 * np.finfo(float).eps  # of the largest answer: copies differ so by rounding
_BOUNDED = 20  # answers from which bounds of an output are looked for
_NEAR_SHARE = 0.05  # share of the answers that are near a bound
_NEAR_WIDTH = 0.05  # how far these are from the outermost, over how far the median is, at most
_FEW_BEYOND = 50  # estimates of which one may be pulled back though its output has no bound
_SURELY = 3.0  # standard errors by which an estimate is surely beyond a bound
_NORMAL = 1.96  # 97.5 % quantile of the normal distribution
_LABEL = 20  # answers for each different value from which these are labels
_STDERR = 1e-9  # smallest standard error, in deviations of the output, or over a constant output


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
    threads: int = 1,
) -> Estimates:
    """Estimate outputs at points from those at others.

    Parameters
    ----------
    points : ndarray, shape (n, d)
        At least two. All numbers are finite, here and below.
    answers : ndarray, shape (n, q)
        Those far beyond all others are not used, see `set_aside`.
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
    threads : int
        So many at the same time.
    """
    later = _ASIDE * time_left()
    outside = set_aside(points, answers, lambda: time_left() >= later) >= 0
    if outside.any():
        usual = ~outside
        found = estimates(
            points[usual], answers[usual], wanted,
            seed=seed, thorough=thorough, time_left=time_left, each=each, threads=threads,
        )  # fmt: skip
        places = Points(points, wanted, seed, time_left, thorough=False, each=each)
        return _wider(found, answers, outside, nearest(places.points, places.wanted, 1)[:, 0])
    first, which = _places(points)
    repeated = 1 < len(first) < len(points)
    some, outputs = points[first] if repeated else points, answers.shape[1]
    kept = 0.0  # seconds for another look

    def known(*, other: bool = False) -> Points:
        return Points(
            some, wanted, seed, lambda: time_left() - kept,
            thorough=thorough, each=each, outputs=outputs, other=other, threads=threads,
        )  # fmt: skip

    def made(answers: np.ndarray) -> Estimates:
        nonlocal kept
        seconds = time_left()
        twice = thorough and begun.space.has_other and len(some) <= EXACT
        if not twice or seconds < 2.0 * seconds_to_be_thorough(len(some), len(wanted), outputs):
            return _estimates(begun, answers)
        kept = 0.5 * seconds if seconds < math.inf else 0.0
        found = _estimates(begun, answers)
        kept = 0.0
        return mean_of(found, _estimates(known(other=True), answers), len(some))

    # The matrices are too small for several threads to help, and waiting for each other costs them most. What is
    # imported later brings a BLAS of its own, which would have them.
    import_what_is_used()
    with one_thread:
        begun = known()
        if not repeated:
            return made(answers)
        return _of_repeats(made, answers, which, _at(some, wanted))


def _wider(found: Estimates, answers: np.ndarray, outside: np.ndarray, at: np.ndarray) -> Estimates:
    """What was ``found`` without extreme answers, ``outside`` (n,) bool: what is nearest to one of them may be like it.

    ``at`` (m,) are the numbers of the answers that are nearest.
    """
    like = np.flatnonzero(outside[at])
    apart = np.abs(answers[at[like]] / 2.0 - found.values[like] / 2.0)
    stderr = found.stderr.copy()
    stderr[like] = np.maximum(stderr[like], 2.0 * np.minimum(apart, np.finfo(float).max / 2.0))
    return replace(found, stderr=stderr)


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


@np.errstate(over="ignore")  # of the largest numbers
def mean_of(one: Estimates, other: Estimates, answers: int) -> Estimates:
    """The mean of two estimates of the same from so many answers, with weights by their errors."""
    ratios = other.left_out / np.maximum(one.left_out, np.finfo(float).tiny)
    weights = 1.0 / (1.0 + ratios**_POWER)
    difference = np.abs(0.5 * other.values - 0.5 * one.values) * 2.0
    apart = np.minimum(difference / one.stderr, _LARGEST)
    wider = np.minimum(other.stderr / one.stderr, _LARGEST)
    spread = weights * wider**2 + (1.0 - weights)
    squares = weights * (1.0 - weights) * apart**2
    # By how much they differ on average says how independent their errors are.
    shares = np.minimum(squares / spread, 1.0).sum(axis=0) / (len(spread) + _FEW)
    variances = spread * np.maximum(1.0 - shares, _LEAST)
    # Where it is far more they contradict each other. What no answer has shown to be wrong may be wrong once in so many.
    contradict = apart > _APART * np.hypot(1.0, wider)
    more = np.maximum(squares, apart**2 / (answers + 1.0))
    variances = np.where(contradict, spread + more, variances)
    left_out = np.hypot(np.sqrt(weights) * other.left_out, np.sqrt(1.0 - weights) * one.left_out)
    names = zip(weights, one.methods, other.methods, strict=True)
    return Estimates(
        (1.0 - weights) * one.values + weights * other.values,
        np.minimum(one.stderr * np.sqrt(variances), np.finfo(float).max),
        left_out,
        tuple(first if weight < 0.5 else second for weight, first, second in names),
    )


def _of_repeats(
    made: Callable[[np.ndarray], Estimates], answers: np.ndarray, which: np.ndarray, at: np.ndarray
) -> Estimates:
    """Estimates ``made`` from the means of answers (n, q) to equal points, so that what is left out is not known from a copy.

    ``which`` (n,) of the known, distinct points each answer is to; and ``at`` (m,) which a wanted point equals, -1 if none.
    """
    unit = np.maximum(np.abs(answers).max(axis=0), np.finfo(float).tiny)
    scaled, counts = answers / unit, np.bincount(which)[:, None]
    order, begins = np.argsort(which, kind="stable"), np.cumsum(counts) - counts[:, 0]
    means = np.add.reduceat(scaled[order], begins, axis=0) / counts
    off, repeats = scaled - means[which], len(answers) - len(counts)
    noise = (off**2).sum(axis=0) / repeats
    found = made(means * unit)
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
    return min(outputs, OUTPUTS + 1) * (SOME + 2.0 * min(solved, estimated * NEAR))


def seconds_to_do_better(answers: int, wanted: int, outputs: int) -> float:
    """Seconds in which thorough estimates are better than quick ones, however long these take."""
    if answers > EXACT_QUICKLY:
        return seconds_to_be_thorough(answers, wanted, outputs)
    return min(outputs, OUTPUTS + 1) * _BETTER


def import_what_is_used() -> None:
    """Have SciPy import the parts that quick estimates need, which it does at their first use and takes some tenths of a second."""
    for part in ("linalg", "optimize", "sparse", "spatial", "special"):
        getattr(scipy, part)
    # An import that is made again after Ctrl-C does not name what the first one had loaded.
    scipy.linalg.lapack = import_module("scipy.linalg.lapack")


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
    if not varied.all():
        scaled = scaled[:, varied]
    found = _of_varied(known, scaled, (-middle / spread)[varied])
    targets = scaled[known.sample]
    left = found.means[: len(targets)]
    lengths = len(found.scales)
    # Few answers are judged by kernels that they have not chosen.
    few = _inflation(len(answers), lengths if len(answers) >= EACH_SURELY * lengths else 1)
    points = np.concatenate([known.points[known.sample], known.wanted])
    points *= found.scales
    stderr = calibrated(
        points[: len(left)], targets - left, found.variances[: len(left)],
        points, found.variances, by_place=known.places,
    )  # fmt: skip
    stderr *= few
    if len(answers) >= _BOUNDED:
        _pull_back(found.means, stderr, scaled, targets)
    stderr = stderr[len(left) :]
    np.maximum(stderr, _STDERR, out=stderr)
    left_out = _among(np.sqrt(found.squares(targets)), varied)
    values = found.means[len(left) :]
    methods = iter(found.names)
    values, stderr = _among(values, varied), _among(stderr, varied)
    values *= spread
    values += middle
    if scaled.shape[1] <= ALONE:
        # Labels do not show how near they are to a change: if none is wrong the next may be, one in so many.
        ranked = np.sort(answers, axis=0)
        labels = _LABEL * ((ranked[1:] != ranked[:-1]).sum(axis=0) + 1) <= len(answers)
        stderr[:, labels] = np.maximum(stderr[:, labels], (len(answers) + 1.0) ** -0.5)
    stderr *= spread
    np.maximum(stderr, np.finfo(float).eps * np.abs(middle), out=stderr)
    # What an input does that never varied is unknown: perhaps as much as all others do.
    apart = np.ix_(known.unseen, varied)
    stderr[apart] = np.hypot(stderr[apart], spread[varied])
    stderr[known.beyond] = np.finfo(float).max
    # The next answer may be another, though all are the same: one in so many.
    stderr[:, ~varied] = np.maximum(np.abs(middle[~varied]) / (len(answers) + 1.0), 1e-300)
    return Estimates(
        _numbers(unit, values),
        np.maximum(_numbers(unit, stderr), np.finfo(float).tiny),
        _numbers(unit, spread * left_out),
        tuple(next(methods) if one else "constant" for one in varied),
    )


def _of_varied(known: Points, scaled: np.ndarray, zeros: np.ndarray) -> Candidate:
    """Estimates of outputs (n, q) by what time there is; ``zeros`` (q,) are what 0 was before they were scaled."""
    outputs = scaled.shape[1]
    if len(scaled) < FEWEST or not known.points.shape[1] or not outputs:
        return by_mean(known, scaled)
    if not known.thorough:
        return jointly(known, scaled)
    if known.time_left() < _least(known, outputs):
        return poor_alone(known, scaled, zeros, worst_first(known, scaled), LITTLE)
    if outputs > OUTPUTS:
        whole = by_components(known, scaled)
        return poor_alone(known, scaled, zeros, whole, ENOUGH)
    return beside(each_alone(known, scaled, outputs, zeros))


def _pull_back(
    means: np.ndarray, stderr: np.ndarray, answers: np.ndarray, targets: np.ndarray
) -> None:
    """Pull estimates (l + m, q) beyond a bound of the answers (n, q) back to it, unless they are surely beyond.

    Shares, counts and concentrations have bounds that many answers are near to. An output has one if a twentieth of
    its answers is within a twentieth of the distance from the least answer, or the largest, to the median. The bound is
    as far beyond that answer as these are from it. If they are equal to it, no estimate is beyond.

    An output without such a bound is pulled back to where it is as far beyond the answers as these extend: in the unit
    of a logarithm an uncertain estimate may be anywhere. Not where this would be more than one estimate in fifty, as
    where the end of a growing function is lost.

    The first are of the ``targets`` (l, q), which were left out. What is gained there says by how much the standard
    errors of all that are pulled back become smaller.
    """
    few = max(1, (len(means) - len(targets)) // _FEW_BEYOND)
    low, high = answers.min(axis=0), answers.max(axis=0)
    for sign, end, furthest in ((1.0, low, means.min(axis=0)), (-1.0, high, means.max(axis=0))):
        tail = _NEAR_SHARE if sign > 0.0 else 1.0 - _NEAR_SHARE
        near, middle = np.abs(np.quantile(targets, [tail, 0.5], axis=0) - end)
        bounded = near <= _NEAR_WIDTH * middle
        reach = np.where(bounded, near, high - low)
        for output in np.flatnonzero(sign * (end - furthest) > reach):
            past = sign * (end[output] - means[:, output]) - reach[output]
            if not bounded[output] and np.count_nonzero(past[len(targets) :] > 0.0) > few:
                continue
            surely = _SURELY * stderr[:, output] if reach[output] else np.inf
            pulled = np.flatnonzero((past > 0.0) & (past < surely))
            known = pulled[pulled < len(targets)]
            before = ((means[known, output] - targets[known, output]) ** 2).sum()
            means[pulled, output] = end[output] - sign * reach[output]
            after = ((means[known, output] - targets[known, output]) ** 2).sum()
            if before > 0.0:
                # The next may gain nothing: one in so many.
                gain = (len(known) * after / before + 1.0) / (len(known) + 1.0)
                stderr[pulled, output] *= np.sqrt(min(gain, 1.0))


def _least(known: Points, outputs: int) -> float:
    """Seconds from which so many outputs do not share one kernel."""
    if outputs <= OUTPUTS:
        return LITTLE * outputs
    return max(_COMPONENT_LITTLE * (OUTPUTS + 1), _REST * seconds_for_rest(known, outputs))


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
    freedom = degrees_of_freedom(size, lengths)
    return float(np.sqrt(size / freedom) * scipy.special.stdtrit(freedom, 0.975) / _NORMAL)
