"""Ways to estimate outputs besides a process, and means of several, by what they give for answers that are left out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import scipy
from threadpoolctl import threadpool_limits

from .gaussian import Kernel
from .nearest import nearest, weighted
from .points import EXACT, Points
from .space import decomposed, rows_at_once

FEWEST = 5  # answers from which anything but means is tried
COLUMNS = 100  # columns, at most, that trees are given
FLOPS = 3e9  # floating-point operations a second, of linear algebra
_AVERAGED = 8  # neighbours of which a mean is taken
# Least squared distance between neighbours, over that from the point that is estimated.
_APART = 1e-6
_PLANE_SECONDS = 0.1  # seconds for a plane, or such a share of the time
# Penalties of slopes, in squares of the largest singular value.
_PENALTIES = 10.0 ** np.arange(-10, 2)
_AROUND = 50  # answers that a spline takes, at least
_SPLINED = 30  # dimensions up to which splines are tried
_FOLDS = 4  # parts of the answers, each left out of trees and splines
_BETTER = 0.98  # error of a weighted mean, over that of the best candidate, up to which it is taken
_NONE = 0.005  # weights below this are 0
_NEARLY = 1.5  # error over the best, up to which a process may be the right one


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """One way to estimate an output, or several, and what it gives for answers that are left out."""

    names: tuple[str, ...]
    scales: np.ndarray
    """(d,): in which inputs are near to each other, for what is said of errors."""
    means: np.ndarray
    """(l + m,) or (l + m, q): estimates of the answers that are left out, without them, and then of what is wanted."""
    variances: np.ndarray
    kernel: Kernel | None = field(default=None, kw_only=True)
    """If it is a process."""

    def column(self, output: int) -> Candidate:
        """The same of one of q outputs."""
        return Candidate(
            self.names[:1], self.scales, self.means[:, output], self.variances[:, output]
        )

    def squares(self, answers: np.ndarray) -> np.ndarray:
        """Mean squares, () or (q,), of what these answers, which are left out, are off."""
        return np.asarray(((self.means[: len(answers)] - answers) ** 2).mean(axis=0))

    def error(self, answers: np.ndarray) -> float:
        """The root of that, of one output."""
        return float(np.sqrt(self.squares(answers)))


def beside(parts: list[Candidate]) -> Candidate:
    """Candidates for one output each, as one for all."""
    scales = np.exp(np.mean([np.log(part.scales) for part in parts], axis=0))
    numbers = [part.means for part in parts], [part.variances for part in parts]
    names = tuple(part.names[0] for part in parts)
    return Candidate(names, scales, *(np.stack(some, axis=1) for some in numbers))


def with_columns(
    whole: Candidate, outputs: np.ndarray, found: Candidate, nearer: np.ndarray
) -> Candidate:
    """The ``whole`` (n, q), changed in place to what was ``found`` of some ``outputs`` (k,) int where that is ``nearer`` (k,) bool."""
    names = np.array(whole.names, dtype=object)
    names[outputs[nearer]] = np.array(found.names, dtype=object)[nearer]
    whole.means[:, outputs[nearer]] = found.means[:, nearer]
    whole.variances[:, outputs[nearer]] = found.variances[:, nearer]
    return replace(whole, names=tuple(names))


def mixed(
    whole: Candidate, outputs: np.ndarray, found: Candidate, targets: np.ndarray
) -> Candidate:
    """The ``whole`` (n, q), changed in place to a weighted mean of it and of what was ``found`` of some ``outputs`` (k,) int.

    The mean that is nearest to the ``targets`` (l, q), answers that are left out.
    """
    one = whole.means[:, outputs]
    apart = found.means - one
    along = apart[: len(targets)]
    sizes = np.maximum((along**2).sum(axis=0), 1e-300)
    off = targets[:, outputs] - one[: len(targets)]
    weights = (along * off).sum(axis=0) / sizes
    weights[weights < _NONE] = 0.0
    weights[weights > 1.0 - _NONE] = 1.0
    names = list(whole.names)
    for output, name, weight in zip(outputs.tolist(), found.names, weights.tolist(), strict=True):
        if weight == 1.0:
            names[output] = name
        elif weight:
            names[output] = f"{name} ({weight:.0%}) + {names[output]}"
    whole.means[:, outputs] += weights * apart
    whole.variances[:, outputs] *= 1.0 - weights
    whole.variances[:, outputs] += weights * (found.variances + (1.0 - weights) * apart**2)
    return replace(whole, names=tuple(names))


def averages(known: Points, scaled: np.ndarray, scales: np.ndarray) -> list[Candidate]:
    """Means of neighbours, if there is time, and of all answers."""
    if known.hurried:
        return [by_mean(known, scaled)]
    return [by_neighbours(known, scaled, scales), by_mean(known, scaled)]


def by_neighbours(known: Points, scaled: np.ndarray, scales: np.ndarray) -> Candidate:
    """Means of the nearest answers (n,) or (n, q), weighted by one over the distance."""
    points, wanted = known.points * scales, known.wanted * scales
    count = min(_AVERAGED, len(points) - 1)

    def average(there: np.ndarray, own: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        near = nearest(points, there, count, own)
        places = points[near]
        squares = ((places - there[:, None]) ** 2).sum(axis=2)
        weights = 1.0 / np.maximum(np.sqrt(squares), 1e-12)
        weights /= weights.sum(axis=1, keepdims=True)
        means = weighted(near, weights, scaled)
        variance = weighted(near, 1.0 / count, scaled**2)
        variance += means * (means - 2.0 * weighted(near, 1.0 / count, scaled))
        variance = np.maximum(variance, 0.0) + 0.01 * scaled.var(axis=0)
        # The mean is the further off, the more its neighbours are all on one side.
        squared = np.maximum(squares.mean(axis=1), 1e-300)
        apart = np.maximum(places.var(axis=1).sum(axis=1), _APART * squared)
        further = np.maximum(squared / apart, 1.0)
        return means, (variance.T * further).T

    parts = average(points[known.sample], known.sample), average(wanted, None)
    names = ("neighbours",) * math.prod(scaled.shape[1:])
    return Candidate(names, scales, *map(np.concatenate, zip(*parts, strict=True)))


def by_plane(
    known: Points, scaled: np.ndarray, inputs: np.ndarray, wanted: np.ndarray
) -> Candidate:
    """A plane over all inputs (n, c) for each output (n, q): ridge regression, with the penalty that answers left out choose.

    It is fitted to fewer answers if there is little time.
    """
    size, width = min(len(inputs), EXACT), len(known.space.columns)
    seconds = _PLANE_SECONDS * known.time_left() if known.thorough else _PLANE_SECONDS
    while 4.0 * min(size, width) ** 2 * max(size, width) > seconds * FLOPS and size > FEWEST:
        size = int(0.8 * size)
    some = np.sort(known.order[:size])
    rows = known.space.scaled(inputs[some])
    middle, mean, deviations = rows.mean(axis=0), scaled[some].mean(axis=0), rows.std(axis=0)
    deviations[deviations == 0.0] = 1.0
    left, sizes, right = decomposed(_standard(rows, middle, deviations))
    del rows  # which may be large
    along = left.T @ scaled[some]  # also less their mean: the rows have none
    penalties = sizes[0] ** 2 * _PENALTIES
    squares, heights = np.empty((len(penalties), scaled.shape[1])), left**2

    def residuals(penalty: float) -> np.ndarray:
        shrunk = sizes**2 / (sizes**2 + penalty)
        off = scaled[some] - mean - left @ (shrunk[:, None] * along)
        return np.asarray(off / np.maximum(1.0 - heights @ shrunk - 1.0 / size, 1e-12)[:, None])

    for place, penalty in enumerate(penalties):
        squares[place] = (residuals(penalty) ** 2).mean(axis=0)
    best = squares.argmin(axis=0)
    slopes = sizes[:, None] / (sizes[:, None] ** 2 + penalties[best]) * along

    def at(inputs: np.ndarray, rows: np.ndarray) -> np.ndarray:
        many = rows_at_once(inputs)
        parts = (inputs[rows[begin : begin + many]] for begin in range(0, len(rows), many))
        each = (_standard(known.space.scaled(part), middle, deviations) for part in parts)
        return np.asarray(mean + np.concatenate([part @ right.T for part in each]) @ slopes)

    left_out = at(inputs, known.sample)
    places, inside = np.searchsorted(some, known.sample), np.isin(known.sample, some)
    for penalty in np.unique(best):
        chosen = np.ix_(inside, best == penalty)
        off = residuals(penalties[penalty])[places[inside]][:, best == penalty]
        left_out[chosen] = scaled[known.sample][chosen] - off
    error = squares[best, np.arange(len(best))]
    means = np.concatenate([left_out, at(wanted, np.arange(len(wanted)))])
    ones = np.ones(known.points.shape[1])
    return Candidate(("plane",) * len(error), ones, means, np.broadcast_to(error, means.shape))


def _standard(rows: np.ndarray, middle: np.ndarray, deviations: np.ndarray) -> np.ndarray:
    """The same rows (n, c), less their means, and in their deviations."""
    rows -= middle
    rows /= deviations
    return rows


def by_mean(known: Points, scaled: np.ndarray) -> Candidate:
    """The mean of all answers (n,) or (n, q)."""
    size = len(scaled)
    left = (scaled.sum(axis=0) - scaled[known.sample]) / (size - 1)
    wanted = np.broadcast_to(scaled.mean(axis=0), (len(known.wanted), *left.shape[1:]))
    means = np.concatenate([left, wanted])
    variance = scaled.var(axis=0) * (1.0 + 1.0 / size)
    ones = np.ones(known.points.shape[1])
    names = ("mean",) * variance.size
    return Candidate(names, ones, means, np.broadcast_to(variance, means.shape))


def telling(points: np.ndarray, answers: np.ndarray) -> slice | np.ndarray:
    """Of many columns the 100 that, or whose squares, correlate most with answers (n,): trees take time for each column."""
    if points.shape[1] <= COLUMNS:
        return slice(None)
    unit = np.abs(points).max(axis=0)
    off, answers = points / np.where(unit > 0.0, unit, 1.0), answers - answers.mean()
    off -= off.mean(axis=0)
    found = []
    for one in (off, off**2 - (off**2).mean(axis=0)):
        spread = np.sqrt((one**2).sum(axis=0))
        found.append(np.abs(answers @ one) / np.where(spread > 0.0, spread, 1.0))
    return np.argsort(-np.maximum(*found), kind="stable")[:COLUMNS]


def by_others(
    known: Points, scaled: np.ndarray, scales: np.ndarray, most: float
) -> Iterator[Candidate]:
    """Boosted trees, which do better where a function jumps, and thin-plate splines of the nearest answers.

    Each is judged by answers, a fourth of which is left out at a time, and not returned if its error is above ``most``.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor  # noqa: PLC0415  a second to import

    def trees(points: np.ndarray, answers: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        some = telling(points, answers)
        fitted = HistGradientBoostingRegressor(random_state=0).fit(points[:, some], answers)
        return np.asarray(fitted.predict(wanted[:, some]))

    def splines(points: np.ndarray, answers: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        count = min(max(_AROUND, 2 * points.shape[1]), len(points))
        # Without smoothing equal points would make the spline singular.
        spline = scipy.interpolate.RBFInterpolator(
            points * scales, answers, neighbors=count, smoothing=1e-9
        )
        return np.asarray(spline(wanted * scales))

    sample = known.sample
    folds = np.random.default_rng(0).permutation(len(scaled)) % _FOLDS
    near = known.points, known.wanted
    every = near if known.inputs is None else tuple(map(known.space.scaled, known.inputs))
    ways = [("trees", trees, np.ones(len(scales)), every), ("radial basis", splines, scales, near)]
    for name, fitted, metric, (points, wanted) in ways[: 2 if len(scales) <= _SPLINED else 1]:
        off = np.empty(len(sample))
        with threadpool_limits(1, user_api="openmp"):  # which scikit-learn has just brought
            for fold in range(_FOLDS):
                at = folds[sample] == fold
                left = fitted(points[folds != fold], scaled[folds != fold], points[sample[at]])
                off[at] = scaled[sample[at]] - left
                if np.sqrt((off[folds[sample] <= fold] ** 2).mean()) > most:
                    break
            else:
                means = np.concatenate([scaled[sample] - off, fitted(points, scaled, wanted)])
                yield Candidate((name,), metric, means, np.full(len(means), (off**2).mean()))


def combined(candidates: list[Candidate], targets: np.ndarray) -> Candidate:
    """The best candidate, or a weighted mean of several if that is better."""
    best = min(candidates, key=lambda candidate: candidate.error(targets))
    means = np.stack([candidate.means for candidate in candidates], axis=1)
    heavy = 1e3 * math.sqrt(len(targets))  # so that the weights add up to one
    system = np.vstack([means[: len(targets)], np.full((1, len(candidates)), heavy)])
    try:
        weights, _ = scipy.optimize.nnls(system, np.append(targets, heavy))
    except (RuntimeError, np.linalg.LinAlgError):  # mostly in SciPy before 1.15
        return _less_certain(best, candidates, targets)
    weights[weights < _NONE * weights.sum()] = 0.0  # by which errors would only look larger
    weights /= weights.sum()
    mean = means @ weights
    spread = np.stack([c.variances for c in candidates], axis=1) + (means - mean[:, None]) ** 2
    names = [
        f"{candidate.names[0]} ({weight:.0%})"
        for candidate, weight in zip(candidates, weights, strict=True)
        if weight
    ]
    found = Candidate((" + ".join(names),), best.scales, mean, spread @ weights, kernel=best.kernel)
    if found.error(targets) > _BETTER * best.error(targets):
        return _less_certain(best, candidates, targets)
    return found


def _less_certain(best: Candidate, candidates: list[Candidate], targets: np.ndarray) -> Candidate:
    """The best candidate, less certain where other processes that are nearly as good differ from it.

    As in a mixture of them around it, in which each is as likely (Hoeting et al. 1999, Bayesian model averaging).
    """
    most = _NEARLY * best.error(targets)
    others = [c for c in candidates if c is not best and c.kernel and c.error(targets) < most]
    if not others:
        return best
    differences = sum((other.means - best.means) ** 2 for other in others) / (len(others) + 1)
    return replace(best, variances=best.variances + differences)
