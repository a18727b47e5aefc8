"""Answers that are unlike all others, such as those of a run that went wrong: estimates are made without them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..contracts.extremes import extremes
from .gaussian import Fitted, Kernel, likeliest
from .models import EACH, HASTY, STARTS
from .space import Space
from .threads import one_thread

_FAR = 10.0  # distance from the median, in usual deviations, from which an answer may be unlike all others
_USUAL = 1.4826  # usual deviation over the median distance from the median
_ONE_IN = 50  # answers of which at most one may be
_ANSWERS = 300  # others, at most, that say what it should be
_FURTHER = 10.0  # how many times as far off as all others
_CHANCE = 0.1  # of answers that lie so close together by one input that they are a region of it
_OUTPUTS = 8  # outputs, at most, that are looked at
_STEPS = 20  # steps of the search for the process by which they do


def set_aside(
    points: np.ndarray, answers: np.ndarray, go_on: Callable[[], bool] = lambda: True
) -> np.ndarray:
    """An output in which a row of answers (n, q) at points (n, d) is unlike all others, (n,) int; -1 if there is none.

    It is far beyond all others (`extremes`), or ten deviations off from what others say of it, and ten times as far as any
    of these, unless such answers lie together. The output that extends furthest is looked at, and a few more while there is time, as ``go_on`` says.
    """
    found = extremes(answers)
    if len(answers) < _ONE_IN:
        return found
    scaled = answers / np.maximum(np.abs(answers).max(axis=0), np.finfo(float).tiny)
    apart = np.abs(scaled - np.median(scaled, axis=0))
    far = apart > _FAR * _USUAL * np.median(apart, axis=0)
    far &= (found < 0)[:, None]
    counts = far.sum(axis=0)
    usual = np.median(apart, axis=0)
    some = np.flatnonzero((counts > 0) & (counts <= len(answers) // _ONE_IN) & (usual > 0.0))
    if not len(some):
        return found
    furthest = np.argsort(-apart.max(axis=0)[some] / usual[some], kind="stable")[:_OUTPUTS]
    space = Space.of(points)
    places = space.seen(points)
    with one_thread:
        for output in some[furthest]:
            suspects = np.flatnonzero(far[:, output])
            others = np.flatnonzero(~far[:, output] & (found < 0))
            odd = suspects[_unlike(places, scaled[:, output], suspects, others)]
            if not _in_a_region(points, odd):
                found[odd] = output
            if not go_on():
                break
    return found


def _in_a_region(points: np.ndarray, odd: np.ndarray) -> bool:
    """Whether these rows (o,) of points (n, d) are closer by one input than chance has it: a function may differ there."""
    if len(odd) < 2:
        return False
    ranks = np.argsort(np.argsort(points, axis=0, kind="stable"), axis=0, kind="stable")[odd]
    widths = (np.ptp(ranks, axis=0) + 1.0) / len(points)
    return bool(points.shape[1] * len(odd) * widths.min() ** (len(odd) - 1) < _CHANCE)


def _unlike(
    places: np.ndarray, answers: np.ndarray, suspects: np.ndarray, others: np.ndarray
) -> np.ndarray:
    """Which of the suspects (s,) int are further off from what others (o,) int say than any of these, (s,) bool.

    Of what they are off with the other suspects, and without, the lesser counts: those of the tail of a distribution
    explain each other.
    """
    drawn, dimensions = np.random.default_rng(0).permutation(others)[:_ANSWERS], places.shape[1]
    level, unit = answers[drawn].mean(), answers[drawn].std()
    some = drawn[: max(HASTY, EACH * dimensions)]
    start, tied = Kernel.begun(dimensions, *STARTS[1]), len(some) < EACH * dimensions
    known = ((answers - level) / unit)[:, None]
    kernel = likeliest(places[some], known[some], [start], steps=_STEPS, tied=tied)
    fitted, every = Fitted(places[drawn], known[drawn], kernel), np.append(suspects, drawn)
    without = known[suspects] - fitted.predict(places[suspects])[0]
    beside = Fitted(places[every], known[every], kernel).left_out()[0][: len(suspects)]
    off = np.minimum(np.abs(without), np.abs(beside))[:, 0]
    ranked = np.append(np.sort(off)[::-1], np.abs(fitted.left_out()[0]).max())
    beyond = np.flatnonzero(ranked[:-1] > _FURTHER * np.maximum.accumulate(ranked[::-1])[::-1][1:])
    least = _FAR * _USUAL * float(np.median(np.abs(known[drawn] - np.median(known[drawn]))))
    return np.asarray(off >= max(least, ranked[beyond.max()] if len(beyond) else np.inf))
