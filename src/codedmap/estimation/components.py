"""Estimates of many outputs, by their principal components."""

from __future__ import annotations

import math

import numpy as np

from .candidates import Candidate, beside, by_mean, mixed
from .conditioning import EXACT_QUICKLY, conditioned, nearest_kernel
from .gaussian import AGAIN, Fitted, Kernel, likeliest
from .models import ENOUGH
from .one_output import POOR, each_alone
from .points import Points
from .space import decomposed

OUTPUTS = 8  # principal components, at most; and outputs that are estimated one by one instead
ALONE = 24  # outputs up to which those that components describe poorly are estimated alone
_SHARED = 4  # kernels of components that outputs may have


def by_components(known: Points, scaled: np.ndarray) -> Candidate:
    """Estimates of outputs (n, q): principal components one by one, and what these leave of the outputs by one kernel.

    If there is time, an output is estimated directly where that is nearer.
    """
    directions = decomposed(scaled[known.second], OUTPUTS)[2]
    components = scaled @ directions.T
    units = np.maximum(components.std(axis=0), 1e-300)
    # One share of the time is for what components leave, or more if that takes longer.
    needed, many = seconds_for_rest(known, scaled.shape[1]), len(directions)
    later = math.ceil(many * needed / max(known.time_left() - needed, needed, 1e-300))
    parts = each_alone(known, components / units, many + max(1, later))
    found = beside(parts)
    rest = scaled - components @ directions
    kernels = [part.kernel for part in parts if part.kernel is not None]
    common = Kernel(found.scales, 1e-4, "matern52", False)
    kernel = nearest_kernel(known, rest, [common, *kernels], known.first)
    left = conditioned(known, rest, kernel, known.time_left()) or by_mean(known, rest)
    back = units[:, None] * directions
    kinds = ", ".join(dict.fromkeys(found.names))
    whole = Candidate(
        (f"{len(back)} components: {kinds}",) * scaled.shape[1],
        found.scales,
        found.means @ back + left.means,
        found.variances @ back**2 + left.variances,
    )
    if not kernels or known.time_left() < ENOUGH * len(parts):
        return whole
    return _by_themselves(known, scaled, kernels, whole)


def poor_alone(
    known: Points, scaled: np.ndarray, zeros: np.ndarray, whole: Candidate, seconds: float
) -> Candidate:
    """The same estimates of outputs (n, q), but for those that are off by much and nearer if estimated alone.

    The worst, if there are not so many ``seconds`` for each. Components mix smooth outputs with others that jump, and none
    is the logarithm of an output. Nothing changes where outputs are many.
    """
    targets = scaled[known.sample]
    squares = whole.squares(targets)
    poor = np.argsort(-squares, kind="stable")[: np.count_nonzero(squares > POOR**2)]
    poor = poor[: int(max(0.0, min(known.time_left() / seconds, len(poor))))]
    many = scaled.shape[1] > ALONE or len(scaled) > EXACT_QUICKLY
    if many or not len(poor):
        return whole
    found = beside(each_alone(known, scaled[:, poor], len(poor), zeros[poor]))
    return mixed(whole, poor, found, targets)


def seconds_for_rest(known: Points, outputs: int) -> float:
    """Seconds that a process for what principal components leave of so many outputs takes."""
    return 2.0 * known.solving(min(len(known.points), EXACT_QUICKLY), outputs)


def _by_themselves(
    known: Points, scaled: np.ndarray, kernels: list[Kernel], whole: Candidate
) -> Candidate:
    """The same estimates of outputs (n, q), but for those that are nearer by a process with one of some kernels.

    Or with a kernel found from one of these, the likeliest by all outputs for which that is best.
    """
    seconds = known.time_left() / (2.0 * len(kernels))
    targets = scaled[known.sample]
    for shared, columns in _shared(known, scaled, kernels):
        drawn = scaled[known.second][:, columns]
        points, go_on = known.points[known.second], known.within(seconds / 2.0)
        own = likeliest(points, drawn, [shared], steps=AGAIN, go_on=go_on)
        some = known.points[known.first], drawn[: len(known.first)]
        both = [(Fitted(*some, one).left_out()[0] ** 2).mean(axis=0) for one in (shared, own)]
        for kernel, here in ((shared, both[0] <= both[1]), (own, both[0] > both[1])):
            chosen = columns[here]
            if not len(chosen):
                continue
            found = conditioned(known, scaled[:, chosen], kernel, seconds / 2.0)
            if found is None:
                break
            whole = mixed(whole, chosen, found, targets)
    return whole


def _shared(
    known: Points, scaled: np.ndarray, kernels: list[Kernel]
) -> list[tuple[Kernel, np.ndarray]]:
    """The few kernels that are best for most outputs (n, q), each with the numbers of the outputs for which it is."""
    points, answers = known.points[known.first], scaled[known.first]
    squares = [
        (Fitted(points, answers, kernel).left_out()[0] ** 2).mean(axis=0) for kernel in kernels
    ]
    often = np.bincount(np.argmin(squares, axis=0), minlength=len(kernels))
    few = np.argsort(-often, kind="stable")[:_SHARED]
    which = few[np.array(squares)[few].argmin(axis=0)]
    return [(kernels[one], np.flatnonzero(which == one)) for one in np.unique(which)]
