"""Estimates of several outputs in little time, most of which goes to those that are worst.

Each output has a kernel of its own, which few answers choose. As long as there is time, the output that is furthest off
by these answers, each left out, has a kernel of the next kind.
"""

from __future__ import annotations

import math
from itertools import islice

import numpy as np

from .candidates import Candidate, beside, by_mean, mixed
from .conditioning import conditioned
from .gaussian import Kernel
from .models import hasty
from .one_kernel import jointly, kernels
from .points import Points

_LIKELIHOODS = (
    40  # as long as these takes, at least, to search for the kernel of an output and to use it
)
_TOGETHER = (
    0.5  # share of the time for one kernel of all outputs, if there is no time for one of each
)
_LEAST = 2.5  # seconds for a solution, at least, over those that as few answers take as a search
_SOLVED = 0.4  # share of the time in which kernels are used; in the rest they are searched for


def worst_first(known: Points, scaled: np.ndarray) -> Candidate:
    """Estimates of outputs (n, q): by one kernel, or by means, and of as many as there is time for by kernels of their own.

    Of the worst first.
    """
    if known.hurried:  # too few answers are left out to tell what is worst
        return jointly(known, scaled)
    outputs, each = scaled.shape[1], _LIKELIHOODS * known.cubed * float(len(hasty(known))) ** 3
    alike = known.inputs is not None or known.time_left() < outputs * each
    whole = jointly(known, scaled, _TOGETHER if alike else 0.0)
    targets, count = scaled[known.sample], int(max(0.0, known.time_left()) / each)
    worst = np.argsort(-whole.squares(targets), kind="stable")[:count]
    if not len(worst):
        return whole
    return mixed(whole, worst, beside(alone(known, scaled[:, worst])), targets)


def alone(known: Points, scaled: np.ndarray, share: float = 1.0) -> list[Candidate]:
    """Estimates of each of some outputs (n, q), the worst first, by kernels of their own; by the mean if there is no time.

    They take such a ``share`` of the time that is left.
    """
    begun, count = min(known.time_left(), 1e9), scaled.shape[1]
    later = (1.0 - share) * begun
    searched = until = later + _SOLVED * share * begun

    def go_on() -> bool:
        return known.time_left() >= until

    # Threads would not help: by so few answers a search is mostly Python.
    best: dict[int, tuple[float, Kernel]] = {}
    near = None
    if count > 1:  # where there is no time for a search, one kernel of all is better than none
        until = begun - (begun - searched) / (count + 1)
        for of_all in islice(kernels(known, scaled, go_on), 1):
            best, near = dict.fromkeys(range(count), of_all), of_all[1]
    searches = [kernels(known, scaled[:, [output]], go_on, near) for output in range(count)]
    for output, search in enumerate(searches):
        now = known.time_left()
        until = now - (now - searched) / (count - output)
        found = next(search, None)
        if found is not None:
            best[output] = found
    until, going = searched, dict(best)
    while going and go_on():
        worst = max(going, key=lambda output: best[output][0])
        found = next(searches[worst], None)
        if found is None:
            del going[worst]
        else:
            best[worst] = found

    def solved(output: int) -> Candidate:
        turns = math.ceil((count - output) / known.threads)
        answers, found = scaled[:, [output]], best.get(output)
        # A search that ended late was for nothing without a solution, if only for as many answers.
        least = _LEAST * known.solving(len(hasty(known)))
        seconds = max((known.time_left() - later) / turns, least)
        process = conditioned(known, answers, found[1], seconds) if found else None
        return (process or by_mean(known, answers)).column(0)

    return known.each(solved, range(count))
