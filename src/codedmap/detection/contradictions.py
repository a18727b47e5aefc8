"""Liars among answers that must fit together exactly, as those of a polynomial do.

Where answers are exact, what the fit leaves of them is rounding, or somebody is wrong. With 2m
answers more than determine the rest, m wrong ones can be told: if two sets of m could be left out so
that the others fit, these would have enough answers in common to fit the same polynomial. It is the
decoding of Reed and Solomon over the reals. First the search that all codes share is tried, which
leaves out the worst one after the other (`_outliers`); then all small sets, while these are few; then
what is left over is explained by as few answers as possible, by reweighted least squares (Gorodnitsky
and Rao 1997, IEEE Transactions on Signal Processing 45). Where that explains nothing either, fn is no
polynomial or noisy, or too many lie: then nobody is blamed for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from math import comb

import numpy as np

from ..coding.precision import TINY, Precision
from .outliers import apart, convincing, find_lies
from .sketches import CLOSER, GLANCE, scaled, sketched

__all__ = ["contradict", "wrong_ones"]

_ROUNDING = 4096.0
"""Roundings of the largest answer that honest ones stay below, but half of the digits at most."""
_SETS = 20_000  # of one size that are all tried at most
_BEST = 3  # of these, those that explain most are looked at closely
_SWEEPS = 40
_RIDGE = 1e-14  # keeps a system soluble of which all but a few weights have gone
_SHARPER = 0.7  # from one sweep to the next, what counts as nothing


def contradict(some: np.ndarray, precision: Precision, order: np.ndarray | None = None) -> bool:
    """Whether `wrong_ones` has to look at all outputs, given those it looks at first, (F, B, few)."""
    if precision.freedom < 1 or not some.size:
        return False
    off = _off(sketched(some, GLANCE, order), precision)
    return bool((~(off <= min(_allowed(some, precision), _half(some)))).any())


def wrong_ones(
    answers: np.ndarray, precision: Precision, order: np.ndarray | None = None
) -> np.ndarray | None:
    """Who must be wrong in which group, (F, B) bool; None if all fit together.

    Parameters
    ----------
    answers : ndarray, shape (F, B, outputs)
        Real or complex floating point, finite.
    precision : Precision
        An exact one.
    order : ndarray, shape (F,), optional
        Puts the answers into the order in which ``precision`` has them.
    """
    if not contradict(answers, precision, order):
        return None
    lies = find_lies(answers, precision, order)
    lies = np.zeros(answers.shape[:2], dtype=bool) if lies is None else lies
    rows = np.arange(len(answers)) if order is None else order
    allowed, least = _allowed(answers, precision), _half(answers)
    off = _off(sketched(answers, GLANCE, order), precision)
    known: list[np.ndarray] = []
    with np.errstate(all="ignore"):
        for group in np.flatnonzero(~(off <= allowed)):
            sketch = sketched(answers[:, group : group + 1], CLOSER, order)
            said = lies[rows, group]
            if said.any() and _fit(sketch, precision, said, allowed):
                continue
            y = scaled(sketch[:, 0])
            for said in _candidates(y, precision, known):
                if _fit(sketch, precision, said, allowed) and _tells(
                    y, precision, said, least, answers.shape[1]
                ):
                    known.insert(0, said)
                    lies[rows, group] = said
                    break
    return lies if lies.any() else None


def _off(sketch: np.ndarray, precision: Precision) -> np.ndarray:
    """What the fit leaves of (F, B, few), of a degree of freedom, as share of the largest, (B,)."""
    count, groups, _ = sketch.shape
    wide = sketch.astype(float)
    largest = np.abs(wide).max(axis=(0, 2), keepdims=True)
    with np.errstate(all="ignore"):
        wide /= np.where(largest > 0, largest, 1.0)  # so that no square overflows
        left = precision.matrices[0] @ wide.reshape(count, -1)
        squares = np.einsum("ij,ij->j", left, left).reshape(groups, -1).max(axis=1)
    return np.asarray(np.sqrt(squares / precision.freedom))


def _half(answers: np.ndarray) -> float:
    """Share of the largest answer that is half of the digits."""
    return float(np.sqrt(np.finfo(answers.dtype).eps))


def _allowed(answers: np.ndarray, precision: Precision) -> float:
    rounding = _ROUNDING * float(np.finfo(answers.dtype).eps)
    return max(min(rounding, _half(answers)), precision.slack)


def _fit(sketch: np.ndarray, precision: Precision, said: np.ndarray, allowed: float) -> bool:
    """Whether the others, without those, are enough to tell and fit together."""
    rest = precision.without(said)
    return rest.freedom > 0 and bool(_off(sketch[~said], rest)[0] <= allowed)


def _tells(
    y: np.ndarray, precision: Precision, said: np.ndarray, least: float, groups: int
) -> bool:
    """Whether each of those is further from what the others predict than these are by far."""
    rest = precision.without(said)
    variances = rest.matrices[0].diagonal()
    variances = np.maximum(variances, TINY * variances.max())
    standardised = rest.matrices[0] @ y[~said] / np.sqrt(variances)[:, None]
    factor = convincing(rest.freedom, standardised, groups)
    return bool((apart(y, precision.matrices[0], said, least) > factor).all())


def _candidates(
    y: np.ndarray, precision: Precision, known: list[np.ndarray]
) -> Iterator[np.ndarray]:
    """Sets of answers that may be wrong, (F,) bool; no larger than can be told."""
    yield from known
    count, most = len(y), precision.freedom // 2
    projector = precision.matrices[0]
    left = projector @ y
    for size in range(1, most + 1):
        if comb(count, size) > _SETS:
            break
        sets = np.array(list(combinations(range(count), size)))
        inner = projector[sets[:, :, None], sets[:, None, :]] + TINY * np.eye(size)
        explained = (left[sets] * np.linalg.solve(inner, left[sets])).sum(axis=(1, 2))
        for best in np.argsort(-explained)[:_BEST]:
            yield np.isin(np.arange(count), sets[best])
    ranks = np.argsort(np.argsort(-_few(y, precision)))
    for size in range(1, most + 1):
        yield ranks < size


def _few(y: np.ndarray, precision: Precision) -> np.ndarray:
    """How wrong each would be if as few as possible were, (F,)."""
    basis = np.linalg.eigh(precision.matrices[0])[1][:, -precision.freedom :]
    left = basis.T @ y
    weights, nothing = np.ones(len(y)), 1.0
    sizes = weights
    for _ in range(_SWEEPS):
        weighted = basis * weights[:, None]
        inner = basis.T @ weighted + _RIDGE * np.eye(len(left))
        sizes = np.linalg.norm(weighted @ np.linalg.solve(inner, left), axis=1)
        if not sizes.max() > 0:
            break
        sizes = sizes / sizes.max()
        nothing *= _SHARPER
        weights = (sizes**2 + nothing**2) ** 0.75
    return np.asarray(sizes)
