"""Who is right where answers of one cell contradict each other: what all other cells say.

Two liars in a cell may confirm each other (the same bit flipped, the same stale file), and the honest
third then looks like the liar. So nobody in the cell is asked: its answers are predicted from all other
cells, worker by worker over all groups in which the cell quarrels. Whoever is further off than the honest
are in quiet cells, and much further than somebody else in the cell, is the liar.
"""

from __future__ import annotations

import numpy as np

__all__ = ["settled"]

_HEAVY = 4.0
"""Squared residual beyond which more of it hardly counts: residuals have heavy tails."""
_FEWEST = 8
"""Answers of quiet cells that tell what is usual."""
_FAR = 2.5
"""Deviations of a worker's mean from what is usual: of a liar."""
_OFTEN = 0.3
"""Share of groups that a worker lies in, and two at least, beyond which it is believed in none."""
_RARELY, _SEVERAL = 0.2, 2
"""Share of groups that a worker is contradicted in by a jump, and how many workers are, at least."""
_NEARER = 0.5
"""Share of the deviation of the liars in its cell, below which an unusual answer may be honest."""
_STEADY = 0.02
"""Share of the variance that no number of groups averages away."""


def settled(
    squares: np.ndarray, home: np.ndarray, used: np.ndarray, dropped: np.ndarray
) -> np.ndarray:
    """Which answers (F, B) are lies, after the quarrels within cells.

    Parameters
    ----------
    squares : ndarray, shape (F, B)
        Squared residuals of answers as other cells predict them, standardised, mean over outputs;
        NaN where not known.
    home : ndarray of int, shape (F, B)
        The cell that each answer is in.
    used : ndarray, shape (F, B) bool
    dropped : ndarray, shape (F, B) bool
        The lies as each group by itself tells.
    """
    groups = np.arange(used.shape[1])
    quarrels = np.zeros((int(home.max()) + 1, used.shape[1]), dtype=bool)
    quarrels[home[dropped], np.nonzero(dropped)[1]] = True
    there = quarrels[home, groups] & used
    known = np.isfinite(squares)
    misfit = np.log1p(np.where(known, squares, 0.0) / _HEAVY)
    quiet = misfit[used & known & ~there]
    if len(quiet) < _FEWEST:
        return dropped
    count = (there & known).sum(axis=1)
    mean = (misfit * (there & known)).sum(axis=1) / np.maximum(count, 1)
    spread = quiet.std() * np.sqrt(1.0 / np.maximum(count, 1) + _STEADY)
    off = np.where(count > 0, (mean - quiet.mean()) / np.maximum(spread, 1e-300), np.inf)
    result: np.ndarray = dropped.copy()
    for cell in np.flatnonzero(quarrels.any(axis=1)):
        members = there & (home == cell) & known
        best = np.where(members, off[:, None], np.inf).min(axis=0)
        lying = members & (off[:, None] > np.maximum(_FAR, best + _FAR))
        # Who contradicts somebody who stays is not cleared by a third one's lie.
        stays = (members & ~lying & ~dropped).any(axis=0)
        least = np.where(lying, off[:, None], np.inf).min(axis=0)
        likely = off[:, None] < np.maximum(_FAR, _NEARER * least)
        cleared = members & ~lying & likely & lying.any(axis=0) & ~stays
        result = (result | lying) & ~cleared
    result &= ~_jumps(misfit, quiet, result, known)
    # Whoever lies in some groups and fits in others by chance is no witness in these.
    often = result.sum(axis=1) > np.maximum(2, _OFTEN * result.shape[1])
    result |= often[:, None] & used
    return result


def _jumps(
    misfit: np.ndarray, quiet: np.ndarray, dropped: np.ndarray, known: np.ndarray
) -> np.ndarray:
    """Answers (F, B) dropped that may as well be honest.

    Liars lie often. Where many workers are contradicted in a few groups each, it is the function that
    jumps, as trees and votes do; then an answer that would be usual elsewhere is no lie.
    """
    often = _RARELY * dropped.shape[1]
    times = dropped.sum(axis=1)
    rarely = (times > 0) & (times <= often)
    if rarely.sum() < _SEVERAL:
        return np.zeros_like(dropped)
    jumps: np.ndarray = dropped & rarely[:, None] & known & (misfit <= quiet.max())
    return jumps
