"""Estimates of outputs where other outputs of the same row are known: these are inputs as well, where that is better."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from .known import deviations
from .space import MOST
from .surrogate import Estimates

_MOST = 8  # other outputs that are inputs, at most
_FEWEST = 20  # answers from which they are tried
_KNOWN = 0.75  # least share of the answers with which another output is known
_COVERED = (
    0.5  # least share of the rows still to be estimated in which all that are taken are known
)
_ROUNDS = 3  # choices of other outputs, each for rows in which one of those before is lost
_REST = 0.1  # share of the rows that is left to the inputs alone
_WELL = 1e-3  # error, in deviations of the output, from which others may help
_POWER = 4  # weights of estimates go by this power of their errors
_APART = 2.0  # standard errors by which two estimates may differ by chance
_LEAST = 0.25  # variance of the mean of two, over their mean variance, at least
_LARGEST = 1e150  # ratio whose square is a number
_ALONG = 1e-3  # share of its variance that an output must add to those chosen before it

Estimate = Callable[[np.ndarray, np.ndarray, np.ndarray], Estimates]


def with_other_outputs(
    found: Estimates,
    columns: np.ndarray,
    *,
    answers: np.ndarray,
    usable: np.ndarray,
    filled: np.ndarray,
    points: np.ndarray,
    estimate: Estimate,
) -> Estimates:
    """What was ``found`` of some outputs, or better estimates where other outputs of the same row are known.

    Parameters
    ----------
    found : Estimates
        Of the outputs in the rows that are ``filled``, from the inputs alone.
    columns : ndarray of int, shape (k,)
        These outputs.
    answers : ndarray, shape (n, q)
    usable : ndarray of bool, shape (n, q)
        Which answers are known. Those to ``columns`` are known in the same rows.
    filled : ndarray of bool, shape (n,)
        The rows that are estimated.
    points : ndarray, shape (n, d)
        The inputs.
    estimate : callable
        Estimates from points, answers, and where they are wanted.
    """
    used = usable[:, columns[0]]
    given = answers[np.ix_(used, columns)]
    room = min(_MOST, MOST - points.shape[1])
    if room < 1 or len(given) < _FEWEST or (found.left_out < _WELL * deviations(given)).all():
        return found
    target = _standard(given, np.ones_like(given, dtype=bool))
    candidates = np.flatnonzero(usable[used].mean(axis=0) >= _KNOWN)
    candidates = np.setdiff1d(candidates, columns)
    both = np.ix_(used, candidates)
    parts = _standard(answers[both], usable[both])
    values, stderr = found.values.copy(), found.stderr.copy()
    unit = np.maximum(found.left_out, np.finfo(float).tiny)
    squares, methods, left = np.ones(len(unit)), [], filled
    for _ in range(_ROUNDS):
        others = candidates[_telling(target, parts, usable[left][:, candidates], room)]
        known = np.asarray(usable[:, others].all(axis=1))
        here, there = left & known, used & known
        if not len(others) or there.sum() < _FEWEST:
            break
        inputs = np.concatenate([points, answers[:, others]], axis=1)
        other = estimate(inputs[there], answers[np.ix_(there, columns)], inputs[here])
        at = here[filled]
        part = replace(found, values=values[at], stderr=stderr[at])
        names = tuple(f"{name}, other outputs" for name in other.methods)
        mean = _mean_of(part, replace(other, methods=names), int(there.sum()))
        values[at], stderr[at] = mean.values, mean.stderr
        squares += at.mean() * ((mean.left_out / unit) ** 2 - 1.0)
        methods.append(mean.methods)
        left = left & ~known
        if (other.left_out >= found.left_out).all() or left.sum() < _REST * filled.sum():
            break
    left_out = unit * np.sqrt(np.maximum(squares, 0.0))
    return Estimates(values, stderr, left_out, methods[0] if methods else found.methods)


@np.errstate(over="ignore")  # differences of the largest numbers
def _mean_of(one: Estimates, other: Estimates, answers: int) -> Estimates:
    """The mean of two estimates from so many answers, with weights by their errors."""
    ratios = other.left_out / np.maximum(one.left_out, np.finfo(float).tiny)
    weights = 1.0 / (1.0 + ratios**_POWER)
    difference = other.values - one.values
    # By how much they differ says how independent their errors are. If it is more, they contradict each other.
    apart = np.minimum(np.abs(difference) / one.stderr, _LARGEST)
    spread = weights * np.minimum(other.stderr / one.stderr, _LARGEST) ** 2 + (1.0 - weights)
    squares = weights * (1.0 - weights) * apart**2
    # What no answer has shown to be wrong may be wrong once in so many.
    more = np.maximum(squares, apart**2 / (answers + 1.0))
    variances = np.where(
        apart > _APART, spread + more, np.maximum(spread - squares, _LEAST * spread)
    )
    left_out = np.hypot(np.sqrt(weights) * other.left_out, np.sqrt(1.0 - weights) * one.left_out)
    names = zip(weights, one.methods, other.methods, strict=True)
    return Estimates(
        one.values + weights * difference,
        one.stderr * np.sqrt(variances),
        left_out,
        tuple(first if weight < 0.5 else second for weight, first, second in names),
    )


def _telling(answers: np.ndarray, others: np.ndarray, known: np.ndarray, most: int) -> list[int]:
    """At most so many of the columns of ``others`` (n, c) that tell most of ``answers`` (n, k), each with those before it.

    All are ``known`` (r, c) bool in at least half of some rows. By orthogonal matching pursuit: the next has the largest
    correlation with what is left.
    """
    chosen: list[int] = []
    rows = np.ones(len(known), dtype=bool)
    while len(chosen) < most:
        sizes = (others**2).sum(axis=0)
        free = (sizes > _ALONG * len(others)) & (known[rows].sum(axis=0) >= _COVERED * len(known))
        if not free.any():
            break
        along = ((others.T @ answers) ** 2).sum(axis=1) / np.where(free, sizes, 1.0)
        best = int(np.where(free, along, -1.0).argmax())
        chosen.append(best)
        rows &= known[:, best]
        direction = others[:, best] / np.sqrt(sizes[best])
        answers = answers - np.outer(direction, direction @ answers)
        others = others - np.outer(direction, direction @ others)
    return chosen


def _standard(answers: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Answers (n, c), less their means, in their deviations; 0 where they are not ``known``."""
    counts = np.maximum(known.sum(axis=0), 1)
    unit = np.abs(np.where(known, answers, 0.0)).max(axis=0)
    rows = np.where(known, answers, 0.0) / np.where(unit > 0.0, unit, 1.0)
    rows = np.where(known, rows - rows.sum(axis=0) / counts, 0.0)
    spread = np.sqrt((rows**2).sum(axis=0) / counts)
    return np.asarray(rows / np.where(spread > 0.0, spread, 1.0))
