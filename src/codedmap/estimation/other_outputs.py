"""Estimates of outputs where other outputs of the same row are known: these are inputs as well, where that is better."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from .known import deviations
from .space import MOST
from .surrogate import Estimates, mean_of

_MOST = 8  # other outputs that are inputs, at most
_EACH = 5  # answers for each of them, at least
_FEWEST = 10  # answers from which they are tried
_FEW = 20  # answers below which some outputs are like another by chance
_SURELY = 0.75  # share of its variance that they have to explain then
_COVERED = 0.5  # least share of the answers, and of the rows to be estimated, in which all that are taken are known
_LITTLE = 0.5  # variance of an output that is left, below which others have to be worth the rows that they cost
_ROUNDS = 3  # choices of other outputs, each for rows in which one of those before is lost
_REST = 0.1  # share of the rows that is left to the inputs alone
_WELL = 1e-3  # error, in deviations of the output, from which others may help
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
    room = min(_MOST, MOST - points.shape[1], len(given) // _EACH)
    if room < 1 or len(given) < _FEWEST or (found.left_out < _WELL * deviations(given)).all():
        return found
    usable = usable & _near(answers, usable & used[:, None])
    target = _standard(given, np.ones_like(given, dtype=bool))
    candidates = np.flatnonzero(usable[used].mean(axis=0) >= _COVERED)
    candidates = np.setdiff1d(candidates, columns)
    both = np.ix_(used, candidates)
    parts = _standard(answers[both], usable[both])
    values, stderr = found.values.copy(), found.stderr.copy()
    unit = np.maximum(found.left_out, np.finfo(float).tiny)
    squares, methods, left = np.zeros(len(unit)), [], filled
    least = _SURELY if len(given) < _FEW else 0.0
    for _ in range(_ROUNDS):
        known = usable[np.ix_(left, candidates)]
        others = candidates[_telling(target, parts, usable[both], known, most=room, least=least)]
        while len(others) and (used & usable[:, others].all(axis=1)).sum() < min(_FEW, len(given)):
            others = others[:-1]
        if not len(others):
            break
        known = np.asarray(usable[:, others].all(axis=1))
        here, there = left & known, used & known
        inputs = np.concatenate([points, answers[:, others]], axis=1)
        other = estimate(inputs[there], answers[np.ix_(there, columns)], inputs[here])
        at = here[filled]
        part = replace(found, values=values[at], stderr=stderr[at])
        names = tuple(f"{name}, other outputs" for name in other.methods)
        mean = mean_of(part, replace(other, methods=names), int(there.sum()))
        values[at], stderr[at] = mean.values, mean.stderr
        squares += at.mean() * (mean.left_out / unit) ** 2
        methods.append(mean.methods)
        left = left & ~known
        if (other.left_out >= found.left_out).all() or left.sum() < _REST * filled.sum():
            break
    left_out = unit * np.sqrt(squares + left[filled].mean())
    return Estimates(values, stderr, left_out, methods[0] if methods else found.methods)


@np.errstate(over="ignore")  # differences of the largest numbers
def _near(answers: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Which answers (n, q) are no further from those of their output that are ``known`` than these reach."""
    low = np.where(known, answers, np.inf).min(axis=0)
    high = np.where(known, answers, -np.inf).max(axis=0)
    return np.asarray((answers >= low - (high - low)) & (answers <= high + (high - low)))


def _telling(
    answers: np.ndarray,
    others: np.ndarray,
    there: np.ndarray,
    known: np.ndarray,
    *,
    most: int,
    least: float,
) -> list[int]:
    """At most so many of the columns of ``others`` (n, c) that tell most of ``answers`` (n, k), each with those before it.

    By orthogonal matching pursuit, in the rows in which those before are ``there`` (n, c) bool: the next explains the
    largest share of what is left, less the share that it costs of these rows, or of others in which all are ``known``
    (r, c) bool. It explains more than the ``least`` share, and all are known in at least half of the others. As long as
    most is not explained by lines, others may still tell it, and what they cost does not count.
    """
    chosen: list[int] = []
    rows = np.ones(len(known), dtype=bool)
    while len(chosen) < most:
        sizes = (others**2).sum(axis=0)
        kept = known[rows].sum(axis=0)
        free = (sizes > _ALONG * len(others)) & (kept >= _COVERED * len(known))
        if not free.any():
            break
        along = ((others.T @ answers) ** 2).sum(axis=1) / np.where(free, sizes, 1.0)
        shares = along / max((answers**2).sum(), np.finfo(float).tiny)
        stay = np.minimum(kept / rows.sum(), there.mean(axis=0))
        gains = np.where(free, shares + stay - 1.0, -1.0)
        best = int(gains.argmax())
        explained = (answers**2).mean() < _LITTLE
        if shares[best] <= least or (explained and gains[best] < 0.0):
            break
        chosen.append(best)
        rows &= known[:, best]
        direction = others[:, best] / np.sqrt(sizes[best])
        answers = answers - np.outer(direction, direction @ answers)
        others = others - np.outer(direction, direction @ others)
        answers, others, there = (part[there[:, best]] for part in (answers, others, there))
    return chosen


def _standard(answers: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Answers (n, c), less their means, in their deviations; 0 where they are not ``known``."""
    counts = np.maximum(known.sum(axis=0), 1)
    unit = np.abs(np.where(known, answers, 0.0)).max(axis=0)
    rows = np.where(known, answers, 0.0) / np.where(unit > 0.0, unit, 1.0)
    rows = np.where(known, rows - rows.sum(axis=0) / counts, 0.0)
    spread = np.sqrt((rows**2).sum(axis=0) / counts)
    return np.asarray(rows / np.where(spread > 0.0, spread, 1.0))
