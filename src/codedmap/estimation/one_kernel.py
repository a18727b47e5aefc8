"""Quick estimates of several outputs by one kernel, which take the time of one output."""

from __future__ import annotations

import numpy as np

from .candidates import Candidate, averages, beside, by_plane, combined
from .conditioning import conditioned
from .gaussian import Fitted, Kernel, Smoothness, likeliest
from .models import (
    EACH,
    HASTY,
    HASTY_BEGIN,
    PLANE,
    STARTS,
    begun,
    compares_kinds,
    overfit_factor,
    screened_start,
    short_start,
)
from .points import Points

_STEPS = 20  # steps of each search
_SEARCHING = 0.05  # seconds that must be left for a search
_SEARCHED = 0.6  # share of the time that must be left for a search
_MANY = 50  # outputs from which a process is not compared with means
_SEEN = 8  # outputs, about, that choose inputs which surely matter


def jointly(known: Points, scaled: np.ndarray) -> Candidate:
    """Estimates of outputs (n, q) by a kernel of the best of a few kinds, or by means, for each output."""
    dimensions = known.points.shape[1]
    few, seconds = known.first[: max(HASTY, EACH * dimensions)], known.time_left()
    points, answers = known.points[few], scaled[few]
    size = len(points)
    few_each = size < EACH * dimensions
    kernel = Kernel.begun(dimensions, *STARTS[1])

    def go_on() -> bool:
        return known.time_left() >= max(_SEARCHING, _SEARCHED * seconds)

    screened = screened_start(known, scaled[:, :: -(-scaled.shape[1] // _SEEN)])
    tried: list[tuple[float, Kernel]] = []
    kinds: list[tuple[Smoothness | None, bool, bool]] = [("matern52", False, few_each)]
    if compares_kinds(known, size):
        kinds.append(("gaussian", False, few_each))
        if size >= PLANE * (dimensions + 1):
            kinds.append((None, True, few_each))
        if few_each:
            kinds.append((None, False, False))
    for smoothness, linear, tied in kinds:
        if not go_on():
            break
        begin = [begun(kernel, smoothness, linear)]
        if smoothness == "gaussian":
            begin.append(short_start(dimensions, smoothness, linear))
        if not tied:
            begin, screened = [*begin, *screened], []
        kernel = likeliest(
            points, answers, begin, steps=_STEPS, begin=HASTY_BEGIN, tied=tied, go_on=go_on
        )
        off = Fitted(points, answers, kernel).left_out()[0]
        tried.append((overfit_factor(kernel.scales, size) ** 2 * float((off**2).sum()), kernel))
        kernel = min(tried, key=lambda one: one[0])[1]  # where the search for the next kind begins
    process = conditioned(known, scaled, kernel, known.time_left()) if tried else None
    many = scaled.shape[1] > _MANY
    if process is not None and many:
        return process
    ways = [] if process is None else [process]
    if known.inputs is not None and ways and go_on():
        ways.append(by_plane(known, scaled, *known.inputs))
    ways += averages(known, scaled, kernel.scales)
    targets = scaled[known.sample]
    if many:
        return min(ways, key=lambda way: float(way.squares(targets).sum()))
    return beside(
        [
            combined([way.column(output) for way in ways], targets[:, output])
            for output in range(scaled.shape[1])
        ]
    )
