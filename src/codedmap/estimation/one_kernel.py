"""Quick estimates of several outputs by one kernel, which take the time of one output."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from .candidates import Candidate, averages, beside, by_plane, combined
from .conditioning import conditioned
from .gaussian import Fitted, Kernel, Smoothness, likeliest
from .models import (
    EACH,
    HASTY_BEGIN,
    PLANE,
    STARTS,
    begun,
    compares_kinds,
    hasty,
    overfit_factor,
    screened_start,
    short_start,
)
from .points import Points

_SOON = 1  # steps from each of several starts, near a kernel
_STEPS = 20  # steps of each search
_SEARCHING = 0.05  # seconds that must be left for a search
_SEARCHED = 0.6  # share of the time that must be left for a search
_MANY = 50  # outputs from which a process is not compared with means
_SEEN = 8  # outputs, about, that choose inputs which surely matter


def jointly(known: Points, scaled: np.ndarray, share: float = 1.0) -> Candidate:
    """Estimates of outputs (n, q) by a kernel of the best of a few kinds, or by means, for each output.

    They take such a ``share`` of the time that is left.
    """
    later = (1.0 - share) * min(known.time_left(), 1e9)
    seconds = known.time_left() - later

    def go_on() -> bool:
        return known.time_left() >= max(_SEARCHING, later + _SEARCHED * seconds)

    found = [kernel for _, kernel in kernels(known, scaled, go_on)]
    kernel = found[-1] if found else Kernel.begun(known.points.shape[1], *STARTS[1])
    left = known.time_left() - later
    process = conditioned(known, scaled, kernel, left) if found else None
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


def kernels(
    known: Points, scaled: np.ndarray, go_on: Callable[[], bool], near: Kernel | None = None
) -> Iterator[tuple[float, Kernel]]:
    """The best kernel of outputs (n, q) so far, after a search for each of a few kinds, while there is time.

    With what the few answers that choose it are off, each left out: the root mean square. The first search begins also
    ``near`` a kernel, and chooses sooner where it goes on.
    """
    few = hasty(known)
    points, answers = known.points[few], scaled[few]
    size, dimensions = points.shape
    few_each = size < EACH * dimensions
    kernel = Kernel.begun(dimensions, *STARTS[1])
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
            return
        begin = [begun(kernel, smoothness, linear)]
        if smoothness == "gaussian":
            begin.append(short_start(dimensions, smoothness, linear))
        if not tied:
            begin, screened = [*begin, *screened], []
        if near is not None and not tried:
            begin = [replace(near, smoothness="matern52", linear=False), *begin]
        steps = HASTY_BEGIN if near is None else _SOON
        kernel = likeliest(
            points, answers, begin, steps=_STEPS, begin=steps, tied=tied, go_on=go_on
        )
        off = Fitted(points, answers, kernel).left_out()[0]
        error = overfit_factor(kernel.scales, size) * float(np.sqrt((off**2).mean()))
        tried.append((error, kernel))
        # Where the search for the next kind begins.
        error, kernel = min(tried, key=lambda one: one[0])
        yield error, kernel
