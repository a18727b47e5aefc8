"""Estimates of one output at a time: the best of several processes, means, trees and splines, or a mean of these."""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from itertools import repeat

import numpy as np

from .candidates import COLUMNS, Candidate, averages, by_others, by_plane, combined
from .conditioning import NEAR, conditioned, name_of, nearest_kernel
from .gaussian import likeliest
from .models import ENOUGH, Model, models
from .points import Points
from .rotation import rotated
from .worst_first import alone

LITTLE = 0.055  # seconds an output, below which few answers choose its kernel
SOME = 1.0  # seconds an output from which its search may be more than hasty
_CLOSE = 1.5  # error over the best, up to which a second process is looked at
POOR = 0.03  # error, in deviations of the output, from which trees and splines are tried
_TREES = 80  # answers from which they are
_FAR = 2.0  # error over the best beyond which another method adds nothing to a mean of several
_OTHERS = 2.0  # seconds that trees and splines take, besides those for each estimate
_TREE_SECONDS = 5e-6  # seconds that trees take for each number of the inputs
_ROTATED = 0.02  # error, in deviations of the output, from which other directions are looked for
_STEPS = 12  # steps in which a kernel is refined
_REFINED = 15  # likelihoods that these compute, about
_LATE = 0.3  # share of the time left that a solution may take where its search ended late


def each_alone(
    known: Points, scaled: np.ndarray, shares: int, zeros: Iterable[float] = repeat(math.nan)
) -> list[Candidate]:
    """The estimates of each of some outputs (n, q), which take a part of as many ``shares`` of the time that is left.

    ``zeros`` are what 0 was in each output before it was scaled.
    """
    planes: Iterable[Candidate | None] = repeat(None)
    if known.inputs is not None and known.time_left() / shares >= ENOUGH:
        plane = by_plane(known, scaled, *known.inputs)
        planes = map(plane.column, range(scaled.shape[1]))
    left = range(shares, 0, -1)
    ways: list[tuple[list[Candidate], Model | None]]
    ways = known.each(_ways, repeat(known), scaled.T, zeros, left, planes)
    if any(
        best and _poor(known, one, found) for one, (found, best) in zip(scaled.T, ways, strict=True)
    ):
        # To import it beside threads that compute would take several times as long.
        import sklearn.ensemble  # noqa: F401, PLC0415
    return known.each(_best, repeat(known), scaled.T, ways, left)


def _ways(
    known: Points, scaled: np.ndarray, zero: float, outputs: int, plane: Candidate | None = None
) -> tuple[list[Candidate], Model | None]:
    """Ways to estimate an output (n,), and its best model; None if there is no time for more ways.

    ``zero`` is what 0 was before it was scaled. So many ``outputs`` share the time that is left.
    """
    seconds = known.time_left() / outputs
    if seconds < LITTLE:
        return alone(known, scaled[:, None], 1.0 / outputs), None
    thorough = seconds >= ENOUGH
    targets = scaled[known.sample]
    best, *others = sorted(models(known, scaled, zero, seconds), key=lambda model: model.error)
    kind = best.kernel.smoothness, best.transform
    kinds = (m for m in others if (m.kernel.smoothness, m.transform) != kind)
    other = next(kinds, None) if thorough else None
    begun = min(known.time_left(), 1e9)
    seconds = begun / outputs
    both = other is not None and other.error < _CLOSE * best.error
    first = _process(scaled, best, seconds / (1 + both), known.last)
    candidates = [first] if first else []
    # With all answers it may do worse than with the few that chose it.
    error = max([best.error, *(one.error(targets) for one in candidates)])
    if other is not None and other.error < _CLOSE * error:
        seconds -= begun - min(known.time_left(), 1e9)
        second = _process(scaled, other, seconds, known.second)
        candidates += [second] if second else []
    candidates += averages(known, scaled, best.kernel.scales)
    candidates += [plane] if plane is not None else []
    return candidates, best if thorough else None


def _poor(known: Points, scaled: np.ndarray, candidates: list[Candidate]) -> bool:
    """Whether all estimates of an output (n,) are off by so much that trees and splines are tried."""
    targets = scaled[known.sample]
    return len(scaled) >= _TREES and all(one.error(targets) > POOR for one in candidates)


def _best(
    known: Points, scaled: np.ndarray, ways: tuple[list[Candidate], Model | None], outputs: int
) -> Candidate:
    """The best way to estimate an output (n,), or a mean of several.

    With rotated inputs, trees and splines among them if they are poor and there is time.
    """
    (candidates, best), targets = ways, scaled[known.sample]
    if best is not None:
        least = min(candidate.error(targets) for candidate in candidates)
        if least > _ROTATED and known.time_left() / outputs >= SOME:
            along = rotated(known, scaled, best, known.time_left() / (2.0 * outputs))
            third = along and _process(scaled, along, known.time_left() / outputs, known.last)
            candidates += [third] if third else []
        longest = _OTHERS + 3.0 * NEAR * (len(known.wanted) + len(targets))
        longest += _TREE_SECONDS * len(scaled) * min(len(known.space.columns), COLUMNS)
        if _poor(known, scaled, candidates) and known.time_left() / outputs > longest:
            most = _FAR * min(candidate.error(targets) for candidate in candidates)
            # Neighbours on a line or a plane, as on a grid, determine no spline.
            with suppress(np.linalg.LinAlgError):
                candidates.extend(by_others(known, scaled, best.kernel.scales, most))
    return combined(candidates, targets) if len(candidates) > 1 else candidates[0]


def _process(
    scaled: np.ndarray, model: Model, seconds: float, drawn: np.ndarray
) -> Candidate | None:
    """A process that sees all answers to an output (n,), or as many as there is time for; None if these are too few.

    Its kernel is refined by the answers ``drawn`` (k,) int, or by as many of them as there is time for.
    """
    known, transform, kernel = model.known, model.transform, model.kernel
    moved = transform.there(scaled)
    middle, unit = moved.mean(), moved.std()
    there = ((moved - middle) / unit)[:, None]
    begun = min(known.time_left(), 1e9)
    longest = seconds / 4.0
    if seconds < ENOUGH:  # only the solution follows
        longest = 0.9 * seconds - min(3.0 * known.solving(len(there)), 0.6 * seconds)
    size = known.affordable(longest / _REFINED, len(drawn))
    if size > model.answers:
        some, go_on = drawn[:size], known.within(longest)
        refined = likeliest(known.points[some], there[some], [kernel], steps=_STEPS, go_on=go_on)
        either = [kernel, refined]
        kernel = nearest_kernel(known, there, either, some) if go_on() else refined
    still = known.time_left()
    # A search may end late, and without a solution it was for nothing.
    found = conditioned(known, there, kernel, max(seconds - begun + still, _LATE * still))
    if found is None:
        return None
    means, variances = found.means[:, 0], found.variances[:, 0]
    own = there[known.sample, 0]
    means[: len(own)] = own - model.overfit * (own - means[: len(own)])
    variances *= model.overfit**2
    means, variances = transform.back(means * unit + middle, variances * unit**2)
    rotated = ", rotated inputs" if known.directions is not None else ""
    name = (name_of(kernel, transform) + rotated,)
    scales = known.unrotated(found.scales)
    kernel = replace(kernel, scales=scales)  # other outputs may take it, along the inputs
    return replace(
        found, names=name, scales=scales, means=means, variances=variances, kernel=kernel
    )
