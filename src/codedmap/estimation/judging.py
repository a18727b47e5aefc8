"""Which answers of a code are wrong, by what a Gaussian process expects of each from all others.

The process is of the kind that estimates are made with, chosen by some of the answers. Wrong ones make a function look
rougher than it is, so it is chosen anew without those that were set aside, a few times. What is evidence enough does
not depend on how well the process fits: see `detection.residuals`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise

import numpy as np

from ..detection.replicas import compare
from ..detection.residuals import OFF, far_off, relative_sizes, residuals, set_aside, wrong_workers
from ..detection.sketches import CLOSER, sketched
from .gaussian import Kernel, likeliest
from .space import Space, rows_at_once
from .threads import one_thread

_TOGETHER = 300  # answers of neighbouring groups that predict each other
_NUMBERS = 1 << 23  # numbers of inverses that are kept, at most; others are computed again
_SAMPLE = 150  # answers that choose a process
_STEPS = 20  # steps of the search for it
_ROUNDS = 3  # times, at most, that it is chosen anew without the answers set aside
_FEWEST = 6  # answers from which they are judged
_EACH = 5  # answers for each dimension from which each has a length scale of its own
_CHANCE = 1e-3  # chance of rejecting a correct worker
_SINGLE = 3e-4  # chance of rejecting a correct answer
_HINT = 0.1  # either chance from which a closer look is taken
_FURTHER = 15.0  # how many times further off than all others a single answer must be to be rejected
_GROUPS = 3  # groups by which a worker is judged
_CELL = 3  # answers of a cell from which one or two of them may be rejected
_SIMILAR = 1e3  # ratio of the residuals of a cell up to which the function may be another there
_QUIETEST = 1e-8  # least noise: answers to equal payloads may differ by rounding
_CUT = 4.0  # deviations to which answers are cut before a process is known
_LARGE = 1e4  # deviations to which they are cut, so that their squares keep the digits of others
_WIDEST = 1e20  # unit of answers over their usual deviation, at most
_LEVELS = 8  # values that an output takes, at least, to be judged
_MOSTLY = 0.8  # share of answers with one value from which the others are rare events


PointsOf = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """What the answers of F slots to B groups say of each other."""

    wrong: np.ndarray
    """(F, B) bool: rejected."""
    sizes: np.ndarray
    """(F, B): distance of an answer from what others predict, over the usual one; NaN if not judged."""


def judged(
    points_of: PointsOf,
    slots: np.ndarray,
    answers: np.ndarray,
    usable: np.ndarray,
    contested: np.ndarray,
    *,
    homes: np.ndarray,
    neighbours: np.ndarray,
    ranks: np.ndarray,
    kinds: np.ndarray,
    rounding: float,
) -> Judgement:
    """Judge answers by each other.

    Parameters
    ----------
    points_of : callable
        Payloads of slots (n,) in groups (n,) as real numbers (n, d) of any dtype.
    slots : ndarray, shape (F,) int
        Those that have answered.
    answers : ndarray, shape (F, B, q)
        Real floating point.
    usable, contested : ndarray, shape (F, B) bool
        Finite answers; and those that others to the same task contradict, which say nothing of others.
    homes, neighbours : ndarray, shape (F, B) int
        In whose cell a payload is, and the slot of the input that it is mixed with.
    ranks : ndarray, shape (F, B)
        Orders the payloads of a group so that those near to each other are alike.
    kinds : ndarray, shape (F,)
        As for `wrong_workers`.
    rounding : float
        Of the answers, as a share of them.
    """
    sizes = np.full(usable.shape, np.nan)
    count, groups = usable.shape
    usable, outvoted = _compared(points_of, slots, answers, usable, contested)
    none = Judgement(outvoted, sizes)
    order = np.lexsort((ranks.ravel(), np.tile(np.arange(groups), count)))
    order = order[usable.ravel()[order]]
    kept = ~contested.ravel()[order]
    if kept.sum() < _FEWEST:
        return none
    flat = answers.reshape(count * groups, -1)[order]
    flat = flat[:, _varied(flat)]
    if not flat.shape[1]:
        return none
    points = _points(points_of, slots[order // groups], order % groups)
    flat = sketched(flat[:, None], CLOSER)[:, 0]
    with one_thread, np.errstate(over="ignore", under="ignore", invalid="ignore"):
        flat = _scaled(flat)
        known = _Answers(points, flat, order % groups, math.sqrt(rounding))
        kernel: Kernel | None = None
        for _ in range(_ROUNDS):
            kernel = known.kernel(kept, kernel)
            before = kept
            kept, sizes.ravel()[order] = known.judged(kernel, ~contested.ravel()[order])
            if (before == kept).all():
                break
            # In few groups wrong answers may hide each other at first, and a closer look takes little time. Where
            # copies differ, their sizes decide.
            hint = groups < _GROUPS or contested.any() or wrong_workers(sizes, _HINT, kinds).any()
            if not (hint or far_off(sizes, _HINT, 1.0).any()):
                return none
        wrong = np.zeros_like(usable)
        for _ in range(_ROUNDS):
            more = wrong_workers(np.where(wrong, np.nan, sizes), _CHANCE, kinds)
            if not more.any():
                break
            wrong |= usable & more[:, None]
            # They may have made correct answers near theirs look wrong, and wrong ones correct.
            right = ~(wrong | contested).ravel()[order]
            kept, sizes.ravel()[order] = known.judged(known.kernel(kept & right, kernel), right)
        off = usable.copy()
        off.ravel()[order] = ~kept
        alone = _alone(homes, usable, off, sizes)
        single = far_off(np.where(wrong | alone, np.nan, sizes), _SINGLE, _FURTHER)
        # Not all that are far off have been set aside.
        single &= ~_alone(homes, usable, off | single, sizes)
        once = single & (single.sum(axis=1, keepdims=True) == 1)
        # Those of several workers may be jumps of the function. In fewer groups nothing else finds wrong workers.
        if groups >= _GROUPS and once.sum() > 1:
            placed = np.full((*usable.shape, flat.shape[1]), np.nan)
            placed.reshape(count * groups, -1)[order] = flat
            for row, group in np.argwhere(once).tolist():
                near = homes[:, group] == homes[row, group]
                near |= slots == neighbours[row, group]
                near &= usable[:, group]
                near[row] = False
                single[row, group] = _isolated(placed[row, group], placed[near, group])
        wrong |= single | outvoted
    return Judgement(wrong, sizes)


def _compared(
    points_of: PointsOf,
    slots: np.ndarray,
    answers: np.ndarray,
    usable: np.ndarray,
    contested: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Answers (F, B) bool without those that repeat another one to an equal payload, and those that a majority outvotes."""
    single, outvoted = usable.copy(), np.zeros_like(usable)
    alike: dict[bytes, list[tuple[int, int]]] = {}
    for row, where in enumerate(usable & ~contested):
        groups = np.flatnonzero(where)
        points = points_of(np.full(len(groups), slots[row]), groups)
        for group, point in zip(groups.tolist(), points, strict=True):
            payload = blake2b(point.tobytes(), digest_size=16).digest()
            alike.setdefault(payload, []).append((row, group))
    for places in alike.values():
        if len(places) > 1:
            at = tuple(np.array(places).T)
            vote = compare(answers[at][:, None])
            if vote.votes[0]:
                wrong = vote.outliers[:, 0]
                outvoted[at] = wrong
                single[at] = np.arange(len(wrong)) == np.flatnonzero(~wrong)[0]
    return single, outvoted


def _alone(homes: np.ndarray, usable: np.ndarray, off: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Answers (F, B) bool that are off, but that none nearby contradicts for sure.

    Where all answers of a cell are off by similar ``sizes``, the function is another there. Of two, either may be wrong.
    """
    found = np.zeros_like(off)
    for home in range(homes.max() + 1):
        here = (homes == home) & usable
        count, right = here.sum(axis=0), (here & ~off).sum(axis=0)
        least = np.where(here, sizes, np.inf).min(axis=0)
        found |= here & off & ((count < _CELL) | ((right == 0) & ~(sizes > _SIMILAR * least)))
    return found


def _isolated(answer: np.ndarray, near: np.ndarray) -> bool:
    """Whether an answer (q,) is further from all answers near it, (n, q), than these are from each other.

    If it is not, the function jumps there, or is steep.
    """
    apart = np.linalg.norm(near[:, None] - near, axis=2).max()
    return bool(np.linalg.norm(near - answer, axis=1).min() > apart)


def _points(points_of: PointsOf, slots: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Points (n, r) of the payloads of slots (n,) in groups (n,)."""
    many = rows_at_once(points_of(slots[:1], groups[:1]))
    some = np.random.default_rng(0).permutation(len(slots))[:many]
    # With a length scale for each pixel of an image, correct answers were rejected more often.
    space = Space.of(points_of(slots[some], groups[some]), most=0)
    parts = [slice(i, i + many) for i in range(0, len(slots), many)]
    return np.concatenate([space.seen(points_of(slots[part], groups[part])) for part in parts])


class _Answers:
    """Answers (n, q) at points (n, r), so ordered that neighbours can predict each other, and their groups (n,)."""

    def __init__(
        self, points: np.ndarray, answers: np.ndarray, groups: np.ndarray, least: float
    ) -> None:
        self._points, self._answers, self._least = points, answers, least
        self._blocks = _blocks(groups)
        rng = np.random.default_rng(0)
        whole = len(points) <= _SAMPLE * (groups.max() + 1)
        turn = rng.permutation(groups.max() + 1)[groups] if whole else rng.permutation(len(points))
        self._sample = np.argsort(turn, kind="stable")[:_SAMPLE]

    def kernel(self, kept: np.ndarray, before: Kernel | None) -> Kernel:
        """The process that the answers kept make likeliest, near to one before."""
        some = self._sample[kept[self._sample]]
        if len(some) < _FEWEST:
            some = self._sample
        points, answers = self._points[some], self._answers[some]
        if before is None:
            answers = np.clip(answers, -_CUT, _CUT)
            before = Kernel.begun(points.shape[1], 2.0, 1e-2)
        answers = answers - answers.mean(axis=0)
        tied = len(points) < _EACH * points.shape[1]
        return likeliest(points, answers, [before], steps=_STEPS, tied=tied)

    def judged(self, kernel: Kernel, begin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which answers (n,) bool are expected, and how far each is off, (n,); ``begin`` are those that may be."""
        kept, found = np.empty_like(begin), np.empty_like(self._answers)
        sharp = np.empty(len(begin))
        precisions: list[np.ndarray] = []
        few = len(begin) * _TOGETHER <= _NUMBERS
        for block in self._blocks:
            precision = _precision(self._points[block], kernel)
            if few:
                precisions.append(precision)
            kept[block] = set_aside(precision, self._answers[block], begin[block])
            found[block] = residuals(precision, self._answers[block], kept[block])
            sharp[block] = np.sqrt(np.diag(precision))
        least = self._least * float(np.median(sharp))
        before, sizes = kept, relative_sizes(found, kept, least)
        # Correct answers may have been set aside before wrong ones.
        kept = begin & (sizes <= OFF * np.median(sizes[before]))
        for number, block in enumerate(self._blocks):
            nearest = np.argsort(np.where(begin[block], sizes[block], np.inf))
            kept[block][nearest[: -(-2 * int(begin[block].sum()) // 3)]] = True
            if (kept[block] != before[block]).any():
                precision = precisions[number] if few else _precision(self._points[block], kernel)
                found[block] = residuals(precision, self._answers[block], kept[block])
        return kept, relative_sizes(found, kept, least)


def _blocks(groups: np.ndarray) -> list[slice]:
    """Runs of answers of whole groups, as many as fit; or parts of a group that does not."""
    ends = np.append(np.flatnonzero(np.diff(groups)) + 1, len(groups))
    blocks, begin, before = [], 0, 0
    for end in ends.tolist():
        if end - begin > _TOGETHER and before > begin:
            blocks.append(slice(begin, before))
            begin = before
        before = end
    blocks.append(slice(begin, len(groups)))
    parts = []
    for block in blocks:
        cuts = np.linspace(block.start, block.stop, -(-(block.stop - block.start) // _TOGETHER) + 1)
        parts += [slice(int(a), int(b)) for a, b in pairwise(cuts)]
    return parts


def _precision(points: np.ndarray, kernel: Kernel) -> np.ndarray:
    """The inverse covariance of answers at points, up to s², whose mean is not known."""
    covariance = kernel.correlations(points)
    covariance[np.diag_indices(len(points))] += max(kernel.noise, _QUIETEST)
    inverse = np.linalg.inv(covariance)
    ones = inverse.sum(axis=1)
    inverse -= np.outer(ones, ones / ones.sum())
    return np.asarray(inverse)


def _scaled(answers: np.ndarray) -> np.ndarray:
    """Answers (n, q) in deviations that a minority of wrong ones does not change, and none too large."""
    off = answers - np.median(answers, axis=0)
    size = np.abs(off)
    usual, most = np.median(size, axis=0), 0.1 * np.quantile(size, 0.9, axis=0)
    # The squares of the usual ones must not vanish beside those of wrong ones.
    most = np.where(usual > 0.0, np.minimum(most, _WIDEST * usual), most)
    unit = np.maximum(1.4826 * usual, most)
    unit = np.where(unit > 0.0, unit, np.maximum(size.max(axis=0), np.finfo(float).tiny))
    return np.asarray(np.clip(np.nan_to_num(off / unit, nan=_LARGE), -_LARGE, _LARGE))


def _varied(answers: np.ndarray) -> np.ndarray:
    """Outputs (q,) bool of answers (n, q) that take many values, none of them mostly: others are labels, or rare events."""
    ranked = np.sort(answers, axis=0)
    changes = (ranked[1:] != ranked[:-1]).sum(axis=0)
    apart = int(_MOSTLY * len(ranked))
    mostly = (ranked[apart:] == ranked[:-apart]).any(axis=0)
    return np.asarray((changes >= _LEVELS) & ~mostly)
