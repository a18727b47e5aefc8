"""Several answers to one input: the majority's value, and which answers are outliers."""

from __future__ import annotations

import pickle
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from ..contracts.answers import root_mean_square


class Verdict(NamedTuple):
    """The common value of c answers to the same B inputs."""

    values: np.ndarray
    """(B, *y)."""
    votes: np.ndarray
    """(B,): answers that agree with the value; 0 without a majority."""
    stderr: np.ndarray
    """(B,): 0 where a majority agrees, else the root mean square of the widest difference."""
    outliers: np.ndarray
    """(c, B) bool: outvoted, or not finite where another answer is."""


def compare(copies: np.ndarray, rejected: np.ndarray | None = None) -> Verdict:
    """Take the majority of answers (c, B, *y) to the same inputs, row by row.

    Answers agree if they are equal up to √eps of the row's largest entry, since machines may round
    differently. The answer that agrees with the most others, the first if there are several, wins if more than half of
    the votes agree with it. An answer has no vote if it is ``rejected`` (c, B) bool, or if an entry is not finite where
    that of another answer is. Without a majority the value is the first answer that has a vote.
    """
    count, groups = copies.shape[:2]
    flat = copies.reshape(count, groups, -1)
    values = copies[0]
    votes = np.full(groups, count)
    stderr = np.zeros(groups)
    outliers = np.zeros((count, groups), dtype=bool)
    disputed = np.zeros(groups, dtype=bool)
    for other in flat[1:]:
        disputed |= ~_rows_agree(flat[0], other)
    if rejected is None:
        rejected = np.zeros_like(outliers)
    disputed |= rejected.any(axis=0)
    if disputed.any():
        values = values.copy()
        majority = _majority(flat[:, disputed], rejected[:, disputed])
        winner, votes[disputed], stderr[disputed], outliers[:, disputed] = majority
        values[disputed] = copies[winner, np.flatnonzero(disputed)]
    return Verdict(values, votes, stderr, outliers)


def _majority(
    rows: np.ndarray, rejected: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Which answer wins (B,), and votes, stderr and outliers as in `Verdict`; for (c, B, outputs)."""
    count, groups = rows.shape[:2]
    voting = _as_finite_as_any(rows) & ~rejected
    agree = np.zeros((count, count, groups), dtype=bool)
    spread = np.zeros(rows.shape[1:])
    for i in range(count):
        agree[i, i] = voting[i]
        for j in range(i):
            both = voting[i] & voting[j]
            agree[i, j] = agree[j, i] = both & _rows_agree(rows[i], rows[j])
            apart = np.where(both[:, None], _distance(rows[i], rows[j]), 0.0)
            spread = np.maximum(spread, apart)
    support = agree.sum(axis=1)
    best = support.argmax(axis=0)
    each = np.arange(groups)
    majority = 2 * support[best, each] > voting.sum(axis=0)
    winner = np.where(majority, best, voting.argmax(axis=0))
    outliers = np.where(majority, ~agree[best, :, each].T, ~voting)
    votes = np.where(majority, support[best, each], 0)
    size = root_mean_square(spread) if rows.shape[2] else np.zeros(groups)
    stderr = np.where(majority, 0.0, np.where(np.isfinite(size), size, np.inf))
    return winner, votes, stderr, outliers


def _as_finite_as_any(rows: np.ndarray) -> np.ndarray:
    """Answers that are finite in all entries in which any answer is, (c, B) bool; all, if there is no such answer."""
    if rows.dtype.kind not in "fc":
        return np.ones(rows.shape[:2], dtype=bool)
    finite = np.isfinite(rows)
    complete = (finite | ~finite.any(axis=0)).all(axis=2)
    return np.asarray(complete | ~complete.any(axis=0))


def _rows_agree(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Which rows of two answers (B, outputs) are equal up to rounding, (B,) bool; NaN equals NaN."""
    if a.dtype.kind == "O":
        with np.errstate(invalid="ignore"):  # NumPy 2.5 warns of NaN among objects
            return np.asarray(_EQUAL(a, b).astype(bool).all(axis=-1))
    if a.dtype.names:
        fields = [(a[n].reshape(len(a), -1), b[n].reshape(len(a), -1)) for n in a.dtype.names]
        return np.asarray(np.all([_rows_agree(*two) for two in fields], axis=0))
    equal = a == b
    if a.dtype.kind in "mM":
        equal |= np.isnat(a) & np.isnat(b)
    if a.dtype.kind not in "fc" or equal.all():
        return np.asarray(equal.all(axis=-1))
    equal |= np.isnan(a) & np.isnan(b)
    with np.errstate(invalid="ignore", over="ignore"):
        size = np.maximum(np.abs(a), np.abs(b))
        largest = np.where(np.isfinite(size), size, 0).max(axis=-1, keepdims=True, initial=0)
        close = np.abs(a - b) <= np.sqrt(np.finfo(a.dtype).eps) * largest
    return np.asarray((equal | close).all(axis=-1))


def _distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.dtype.kind not in "biufc":
        return np.full(a.shape, np.inf)
    wide = np.result_type(a.dtype, float)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(np.abs(a.astype(wide) - b.astype(wide)))


def _equal(a: Any, b: Any) -> bool:
    with suppress(Exception):
        if a == b or (a != a and b != b):  # noqa: PLR0124  NaN is not itself
            return True
    with suppress(Exception):  # objects that contain NaN or arrays, or cannot be compared
        return bool(pickle.dumps(a) == pickle.dumps(b))
    return False


_EQUAL = np.frompyfunc(_equal, 2, 1)
