"""Several answers to one input: what they agree on, and who lies."""

from __future__ import annotations

import pickle
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Verdict", "compare"]


class Verdict(NamedTuple):
    """What c answers of B rows to the same inputs say together."""

    values: np.ndarray
    """(B, *y)."""
    votes: np.ndarray
    """(B,): answers that agree with the value; 0 where no majority agrees on one."""
    stderr: np.ndarray
    """(B,): 0 where a majority agrees, else the root mean square of the widest difference."""
    lies: np.ndarray
    """(c, B) bool: outvoted, or not finite where another answer is."""


def compare(copies: np.ndarray, out: np.ndarray | None = None) -> Verdict:
    """Vote, row by row, on answers to the same inputs.

    Answers are the same if they are equal up to √eps of the row's largest entry, since different
    machines may round differently. The first one that agrees with the most others wins if it has
    more than half of the votes; an answer with an entry that is not finite where another's is has
    no vote. Without a majority the value is the first answer left.

    Parameters
    ----------
    copies : ndarray, shape (c, B, *y)
        Of any dtype.
    out : ndarray, shape (c, B) bool, optional
        Those known to be lies: they have no vote either.
    """
    count, groups = copies.shape[:2]
    flat = copies.reshape(count, groups, -1)
    values = copies[0]
    votes = np.full(groups, count)
    stderr = np.zeros(groups)
    lies = np.zeros((count, groups), dtype=bool)
    disputed = np.zeros(groups, dtype=bool)
    for other in flat[1:]:
        disputed |= ~_same(flat[0], other)
    if out is None:
        out = np.zeros_like(lies)
    disputed |= out.any(axis=0)
    if disputed.any():
        values = values.copy()
        settled = _settle(flat[:, disputed], out[:, disputed])
        winner, votes[disputed], stderr[disputed], lies[:, disputed] = settled
        values[disputed] = copies[winner, np.flatnonzero(disputed)]
    return Verdict(values, votes, stderr, lies)


def _settle(
    rows: np.ndarray, out: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    count, groups = rows.shape[:2]
    sound = _sound(rows) & ~out
    agree = np.zeros((count, count, groups), dtype=bool)
    spread = np.zeros(rows.shape[1:])
    for i in range(count):
        agree[i, i] = sound[i]
        for j in range(i):
            both = sound[i] & sound[j]
            agree[i, j] = agree[j, i] = both & _same(rows[i], rows[j])
            apart = np.where(both[:, None], _distance(rows[i], rows[j]), 0.0)
            spread = np.maximum(spread, apart)
    support = agree.sum(axis=1)
    best = support.argmax(axis=0)
    here = np.arange(groups)
    majority = 2 * support[best, here] > sound.sum(axis=0)
    winner = np.where(majority, best, sound.argmax(axis=0))
    lies = np.where(majority, ~agree[best, :, here].T, ~sound)
    votes = np.where(majority, support[best, here], 0)
    size = np.sqrt(np.mean(spread**2, axis=1)) if rows.shape[2] else np.zeros(groups)
    return winner, votes, np.where(majority, 0.0, np.where(np.isfinite(size), size, np.inf)), lies


def _sound(rows: np.ndarray) -> np.ndarray:
    if rows.dtype.kind not in "fc":
        return np.ones(rows.shape[:2], dtype=bool)
    finite = np.isfinite(rows)
    sound = (finite | ~finite.any(axis=0)).all(axis=2)
    return np.asarray(sound | ~sound.any(axis=0))


def _same(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.dtype.kind == "O":
        return np.asarray(_EQUAL(a, b).astype(bool).all(axis=-1))
    equal = a == b
    if a.dtype.kind in "mM":
        equal |= np.isnat(a) & np.isnat(b)
    if a.dtype.kind not in "fc" or equal.all():
        return np.asarray(equal.all(axis=-1))
    equal |= np.isnan(a) & np.isnan(b)
    with np.errstate(invalid="ignore"):
        size = np.maximum(np.abs(a), np.abs(b))
        largest = np.where(np.isfinite(size), size, 0).max(axis=-1, keepdims=True, initial=0)
        close = np.abs(a - b) <= np.sqrt(np.finfo(a.dtype).eps) * largest
    return np.asarray((equal | close).all(axis=-1))


def _distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.dtype.kind not in "biufc":
        return np.full(a.shape, np.inf)
    wide = np.result_type(a.dtype, float)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.abs(a.astype(wide) - b.astype(wide)))


def _equal(a: Any, b: Any) -> bool:
    try:
        return bool(a == b) or bool(a != a and b != b)  # noqa: PLR0124  NaN is not itself
    except Exception:  # arrays within, or what knows no equality
        return bool(pickle.dumps(a) == pickle.dumps(b))


_EQUAL = np.frompyfunc(_equal, 2, 1)
