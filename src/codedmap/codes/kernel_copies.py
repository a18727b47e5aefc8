"""Copies that disagree: who lies, as far as the answers to other inputs can tell."""

from __future__ import annotations

import numpy as np

from .._kernel.decoding import Decoder
from .._kernel.heard import Heard, finite
from .._votes import compare

__all__ = ["lies_among"]


def lies_among(decoder: Decoder, tasks: np.ndarray, copies: np.ndarray) -> np.ndarray | None:
    """Which copies (R, B) are lies; None where no two of them disagree.

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
        tied[rows] = (verdict.votes == 0) & ~verdict.lies
        out[rows] = verdict.lies
    sound = finite(copies)
    if not (tied | (out & sound)).any():
        return None
    whole = sound.reshape(*sound.shape, *(1,) * (copies.ndim - 2))
    heard = Heard(have, values, finite(values))
    judged = decoder.quarrels(heard, np.where(whole, copies, 0), held, out | tied)
    # A tie that stays one is for the regression.
    cleared = np.zeros((len(have), copies.shape[1]), dtype=bool)
    np.logical_or.at(cleared, held, tied & ~judged)
    return np.where(tied, judged & cleared[held], judged | (~sound & out))
