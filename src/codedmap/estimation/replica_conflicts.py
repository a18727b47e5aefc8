"""Who is right where answers of one cell contradict each other: what all other cells say.

Two liars in a cell may confirm each other (the same bit flipped, the same stale file), and the honest
third then looks like the liar. So nobody in the cell is asked: its answers are predicted from all other
cells, worker by worker over all groups in which the cell quarrels. Whoever is further off than the honest
are in quiet cells, and much further than somebody else in the cell, is the liar.
"""

from __future__ import annotations

import numpy as np

__all__ = ["everywhere", "settled", "surely", "usual"]

_HEAVY = 4.0
"""Squared residual beyond which more of it hardly counts: residuals have heavy tails."""
_FEWEST = 8
"""Answers of quiet cells that tell what is usual."""
_FAR = 2.0
"""Deviations of a worker's mean from what is usual: of a liar."""
_FIRM = 15.0
"""Deviations by which they must be further off than somebody else in the cell, for those to lie who agree."""
_ENOUGH = 24
"""Answers of quiet cells that it takes to say so."""
_OFTEN = 0.25
"""Share of groups that a worker lies in, beyond which it is believed in none."""
_RARELY, _SEVERAL = 0.2, 2
"""Share of groups that a worker is contradicted in by a jump, and how many workers are, at least."""
_NEARER = 0.5
"""Share of the deviation of the liars in its cell, below which an unusual answer may be honest."""
_SMALL, _MARGIN = 0.7, 2.5
"""Deviations of the outputs, and times the largest of what is kept, below which an answer is usual."""
_LIKE, _MANY = 2.0, 20
"""Times the variance of an answer up to which others are compared with it, and how many at least."""
_SOUND = 0.85
"""Share of the answers of quiet cells that tell what is usual."""
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
    result, misfit, quiet = _divided(squares, home, used, dropped, _FAR)
    if len(quiet):
        result &= ~_jumps(misfit, quiet, result, np.isfinite(squares))
    return result


def surely(
    squares: np.ndarray, home: np.ndarray, used: np.ndarray, dropped: np.ndarray
) -> np.ndarray:
    """As `settled`, but for what takes far more to say: that those lie who agree with each other."""
    result, _, quiet = _divided(squares, home, used, dropped, _FIRM)
    # Of few answers it is not known well enough what is usual.
    return result if len(quiet) >= _ENOUGH else dropped.copy()


def _divided(
    squares: np.ndarray, home: np.ndarray, used: np.ndarray, dropped: np.ndarray, margin: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The lies (F, B), how badly all answers fit, and how badly those of quiet cells that are believed do.

    ``margin`` is by how many deviations a liar must be further off than somebody else in its cell.
    """
    groups = np.arange(used.shape[1])
    quarrels = np.zeros((int(home.max()) + 1, used.shape[1]), dtype=bool)
    quarrels[home[dropped], np.nonzero(dropped)[1]] = True
    there = quarrels[home, groups] & used
    known = np.isfinite(squares)
    misfit = np.log1p(np.where(known, squares, 0.0) / _HEAVY)
    quiet = misfit[used & known & ~there]
    if len(quiet) < _FEWEST:
        return dropped.copy(), misfit, quiet[:0]
    off = _off(misfit, there & known, quiet)
    result: np.ndarray = dropped.copy()
    liars = np.zeros(len(used), dtype=bool)
    for cell in np.flatnonzero(quarrels.any(axis=1)):
        members = there & (home == cell) & known
        best = np.where(members, off[:, None], np.inf).min(axis=0)
        lying = members & (off[:, None] > np.maximum(_FAR, best + margin))
        # Who contradicts somebody who stays is not cleared by a third one's lie.
        stays = (members & ~lying & ~dropped).any(axis=0)
        least = np.where(lying, off[:, None], np.inf).min(axis=0)
        likely = off[:, None] < np.maximum(_FAR, _NEARER * least)
        cleared = members & ~lying & likely & lying.any(axis=0) & ~stays
        result = (result | lying) & ~cleared
        liars |= lying.any(axis=1)
    # Two who lie alike outvote the honest third, and cells may not quarrel in all groups. Who fits worse over all
    # of these than anybody else lies in all.
    over_all = _off(misfit, used & known, quiet)
    liars &= over_all > np.where(liars | ~np.isfinite(over_all), -np.inf, over_all).max() + margin
    result |= liars[:, None] & used
    quiet = misfit[used & known & ~there & ~liars[:, None]]
    return result, misfit, quiet


def _off(misfit: np.ndarray, where: np.ndarray, quiet: np.ndarray) -> np.ndarray:
    """By how many deviations workers (F,) fit worse there (F, B) than is usual; infinity where nowhere."""
    # Lies that are not known yet make some of the honest look worse, so the worst of those do not count.
    sound = np.sort(quiet)[: int(np.ceil(_SOUND * len(quiet)))]
    count = where.sum(axis=1)
    mean = (misfit * where).sum(axis=1) / np.maximum(count, 1)
    spread = sound.std() * np.sqrt(1.0 / np.maximum(count, 1) + _STEADY)
    off: np.ndarray = (mean - sound.mean()) / np.maximum(spread, 1e-300)
    return np.where(count > 0, off, np.inf)


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


def usual(sizes: np.ndarray, variances: np.ndarray, dropped: np.ndarray) -> np.ndarray:
    """Answers (F, B) dropped that are small beside the outputs, and hardly beyond the largest of those kept.

    Where a function jumps its answers fit very well but for a few, which stand out in their own group as a lie
    does, though not among all groups.

    Parameters
    ----------
    sizes : ndarray, shape (F, B)
        How far each is from what those kept say, in deviations of the outputs; NaN where not known.
    variances : ndarray, shape (F, B)
        Of these predictions, but for a common factor.
    dropped : ndarray, shape (F, B) bool
    """
    found = dropped & (sizes < _SMALL)
    kept = ~dropped & np.isfinite(sizes)
    order = np.argsort(variances[kept])
    largest = np.maximum.accumulate(sizes[kept][order])
    like = np.searchsorted(variances[kept][order], _LIKE * variances[found])
    limit = np.where(like >= _MANY, _MARGIN * np.append(0.0, largest)[like], 0.0)
    found[found] = sizes[found] < limit
    # Who is contradicted for good in one group gets no such credit in the others.
    found &= ~(dropped & ~found).any(axis=1, keepdims=True)
    return found


def everywhere(dropped: np.ndarray, used: np.ndarray) -> np.ndarray:
    """The lies (F, B), and all else that those have answered who lie in more than a few groups.

    Whoever lies in some groups and fits in others by chance is no witness in these.
    """
    often = dropped.mean(axis=1, keepdims=True) > _OFTEN
    result: np.ndarray = dropped | often & used
    return result
