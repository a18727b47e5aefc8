"""Copies that disagree: who lies, as far as the answers to other inputs can tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..detection.replicas import compare
from ..estimation.decoding import Decoder
from ..estimation.observations import Heard, finite

__all__ = ["Quarrel", "quarrel_among"]


@dataclass(frozen=True, slots=True, eq=False)
class Quarrel:
    """What is to be made of copies that disagree."""

    lies: np.ndarray
    """(R, B) bool."""
    tasks: np.ndarray
    """(T,): those there are copies of."""
    apart: np.ndarray
    """(T, B): how far copies are apart, the widest difference, where nothing settles who is right: answers
    to other inputs contradict a majority, or tell copies that differ apart, though not by much. 0 elsewhere.
    """
    overruled: np.ndarray
    """(T, B) bool: where they do by so much that it is the one copy left which is believed."""


def quarrel_among(decoder: Decoder, tasks: np.ndarray, copies: np.ndarray) -> Quarrel | None:
    """Who lies among copies; None where no two of them disagree.

    Parameters
    ----------
    decoder : Decoder
    tasks : ndarray of int, shape (R,)
        Whose copies these are.
    copies : ndarray, shape (R, B, *y)
    """
    if copies.dtype.kind not in "fc":
        return None
    have, held = np.unique(tasks, return_inverse=True)
    values = np.empty((len(have), *copies.shape[1:]), copies.dtype)
    out, tied = np.zeros((2, *copies.shape[:2]), dtype=bool)
    for task in range(len(have)):
        rows = np.flatnonzero(held == task)
        verdict = compare(copies[rows])
        values[task] = verdict.values
        tied[rows] = (verdict.votes == 0) & ~verdict.outliers
        out[rows] = verdict.outliers
    sound = finite(copies)
    if not (tied | (out & sound)).any():
        return None
    whole = sound.reshape(*sound.shape, *(1,) * (copies.ndim - 2))
    heard = Heard(have, values, finite(values))
    likely, firm = decoder.quarrels(heard, np.where(whole, copies, 0), held, out | tied)
    # A majority is overruled by hardly anything; of two copies the likelier one is taken.
    judged = np.where(tied, likely, firm)
    apart = np.zeros((len(have), copies.shape[1]))
    overruled = np.zeros(apart.shape, dtype=bool)
    for task in range(len(have)):
        rows = np.flatnonzero(held == task)
        left = tied[rows] & ~judged[rows]
        # A tie that stays one is for the regression.
        judged[rows] &= ~tied[rows] | left.any(axis=0)
        decided = (judged[rows] & tied[rows]).any(axis=0)
        dissenting = out[rows] & sound[rows] & ~tied[rows].any(axis=0)
        against = dissenting.any(axis=0) & (firm[rows] | out[rows]).all(axis=0)
        overruled[task] = against & (dissenting & ~firm[rows]).any(axis=0)
        overruled[task] |= decided & (likely[rows] == firm[rows]).all(axis=0)
        unlikely = dissenting.any(axis=0) & (likely[rows] | out[rows]).all(axis=0)
        doubted = (decided | against | unlikely) & ~overruled[task]
        if doubted.any():
            apart[task, doubted] = _widest(copies[rows][:, doubted], sound[rows][:, doubted])
    return Quarrel(np.where(tied, judged, judged | (~sound & out)), have, apart, overruled)


def _widest(copies: np.ndarray, sound: np.ndarray) -> np.ndarray:
    """The widest difference (B,) between the sound ones of copies (c, B, *y), root mean square."""
    flat = copies.reshape(*copies.shape[:2], -1)
    most = np.zeros(flat.shape[1:])
    with np.errstate(over="ignore", invalid="ignore"):
        for one in range(1, len(flat)):
            for other in range(one):
                both = (sound[one] & sound[other])[:, None]
                most = np.maximum(most, np.where(both, np.abs(flat[one] - flat[other]), 0.0))
        size = np.sqrt(np.mean(most**2, axis=1))
    limit = np.finfo(np.float64)
    widest: np.ndarray = np.clip(size, limit.tiny, limit.max)
    return widest
