"""Wrong answers, found by what all the others say of them.

The residual of an answer, predicted by all others, over the standard deviation of that prediction
follows from one inverse. The most suspicious answer is dropped, which changes the inverse by a product,
and so on, since one lie also spoils the residuals of its neighbours. Equal answers to different inputs
may support each other (liars who agree on a constant), so they are judged together, by what the rest
says of all of them.

Then what was dropped has a second hearing. Residuals of honest answers may have a heavier tail than a
normal distribution, but a tail has no gap: the least suspicious answer is taken back if it is no further
off than the tail of those kept makes likely, which may lengthen the tail, and so on. So are two neighbours
that confirm each other: a peak of the function rather than two equal mistakes.

The scale is robust (a quantile of the residuals themselves), because lies would inflate any other.
Payloads may be equal, when inputs are. Their answers predict each other without any error, which tells
nothing of the scale, and that they are equal is no sign of collusion.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import fdtri, ndtr, stdtrit

from .elimination import Predicted, confirmed, diagonal, kept, predicted, without
from .evidence import chi2, quantile, residuals

__all__ = ["FEWEST", "Suspects"]

FEWEST = 5
"""Answers below which nobody is judged."""
_SMALL, _HARMLESS = 0.05, 0.1
"""Residuals, in robust deviations of the outputs, that are no reason to drop, or to keep out."""
_CLIQUE, _MERCY = 0.6, 0.8
"""Shares of the threshold for equal answers judged together, and for a second hearing."""
_CHANCE = 4.5
"""Deviations at which a few answers may be further off by chance than many."""
_TAIL = 2.0
"""How fast the limit grows with the tail: twice as long a tail goes four times as far."""
_WORTH = 4.0
"""Independent outputs that the outputs of an answer count for at most."""
_LONGEST = 100.0
"""Times its smallest value that the limit is at most, or one lie taken back would let in the next."""


@dataclass(slots=True, eq=False)
class Suspects:
    """The answers of some groups, and what a process makes of them.

    Parameters
    ----------
    projected : ndarray, shape (B, F, F)
        P, see `inverse`, of all answers used.
    answers : ndarray, shape (B, F, q)
        In robust deviations of their outputs, 0 where not used.
    used : ndarray, shape (B, F) bool
    same : ndarray, shape (B, F, F) bool, or None
        From `equal_answers`.
    twins : ndarray, shape (B, F, F) bool, or None
        Pairs of equal payloads.
    outputs : int
        How many the q columns stand for.
    threshold : float
        Residual, in standard deviations, from which an answer is dropped.
    flat : bool
        Whether a constant is unknown, so that without any answer nothing is predicted.
    """

    projected: np.ndarray
    answers: np.ndarray
    used: np.ndarray
    same: np.ndarray | None
    twins: np.ndarray | None
    outputs: int
    threshold: float
    flat: bool

    def predicted(
        self, told: np.ndarray, out: np.ndarray, groups: slice | np.ndarray = slice(None)
    ) -> Predicted:
        """What is out (B, F) of some groups as all others predict it; ``told`` is P y of these."""
        mute = self.flat & ~(self.used[groups] & ~out).any(axis=1)
        return predicted(self.projected[groups], told, out, mute)

    def peeled(self) -> np.ndarray:
        """Answers (B, F) that are contradicted, dropped one by one in all groups at once."""
        dropped = np.zeros_like(self.used)
        left = np.arange(len(self.used))
        projected, used = self.projected, self.used.copy()
        told = projected @ self.answers
        for _ in range(used.shape[1]):
            hit = self._worst(projected, told, used, left)
            # Where half of the answers do not fit, it is the process that does not.
            some = hit.any(axis=1) & (2 * used.sum(axis=1) > self.used[left].sum(axis=1))
            if not some.any():
                break
            left, hit = left[some], hit[some]
            dropped[left] |= hit
            projected, told, used = projected[some], told[some], used[some] & ~hit
            without(projected, told, hit)
        return dropped

    def _worst(
        self, projected: np.ndarray, told: np.ndarray, used: np.ndarray, left: np.ndarray
    ) -> np.ndarray:
        squares, precision = residuals(projected, told, used, self.outputs)
        scale, _ = self.scales(squares, used, left)
        ratio = np.where(squares > _SMALL**2 * precision, squares / scale[:, None], 0.0)
        worst = ratio.argmax(axis=1)
        top = ratio[np.arange(len(left)), worst]
        enough = used.sum(axis=1) >= FEWEST
        hit = np.zeros_like(used)
        alone = self._alone(projected, squares, told, used, left)
        hit[np.arange(len(left)), worst] = enough & (
            (top > self.threshold**2) | (alone & (top > 0))
        )
        if self.same is not None:
            for group in np.flatnonzero(enough & self.same[left].any(axis=(1, 2))):
                same = self.same[left[group]] & used[group] & used[group][:, None]
                members, size = self._clique(projected[group], told[group], same, used[group])
                # It goes before a single answer unless that is far worse by itself.
                least = (_CLIQUE * self.threshold) ** 2
                if size / scale[group] > max(least, 0.25 * top[group]):
                    hit[group] = members
        return hit

    def _alone(
        self, projected: np.ndarray, squares: np.ndarray, told: np.ndarray, used: np.ndarray,
        left: np.ndarray,
    ) -> np.ndarray:  # fmt: skip
        """In which groups (B,) the worst answer explains nearly all that does not fit.

        Where answers hang together over long distances, one lie spoils every residual, and so their
        median. But without it, what does not fit is its own square less: it is judged by the rest (the
        externally studentised residual), and the ratio has an F distribution. Its degrees of freedom
        are as many as the outputs are worth, which hang together: by the covariance of the rest.
        """
        freedom = np.maximum(used.sum(axis=1) - 2, 1)
        every, worst = np.arange(len(left)), squares.argmax(axis=1)
        most, own = squares[every, worst], told[every, worst]
        pivot = np.maximum(projected[every, worst, worst], 1e-300)
        spread = told.transpose(0, 2, 1) @ self.answers[left]
        power = np.einsum("bqq->b", spread) / self.outputs
        rest = np.maximum(power - most, 1e-14 * power + 1e-300)
        spread -= own[:, :, None] * (own / pivot[:, None])[:, None]
        with np.errstate(over="ignore"):
            worth = (self.outputs * rest) ** 2 / np.maximum((spread**2).sum(axis=(1, 2)), 1e-300)
        worth = np.clip(worth, 1.0, _WORTH)
        far = fdtri(worth, worth * freedom, 1.0 - 2.0 * ndtr(-self.threshold))
        alone: np.ndarray = most * freedom > far * rest
        if self.twins is not None:  # they fit each other without telling how well others should
            alone &= ~(self.twins[left] & used[:, None] & used[:, :, None]).any(axis=(1, 2))
        return alone

    def _clique(
        self, projected: np.ndarray, told: np.ndarray, same: np.ndarray, used: np.ndarray
    ) -> tuple[np.ndarray, float]:
        """The class of equal answers that the rest contradicts most, and its mean squared residual."""
        worst, most = np.zeros_like(used), 0.0
        seen = np.zeros_like(used)
        for first in np.flatnonzero(same.any(axis=1)):
            members = same[first].copy()
            members[first] = True
            if seen[first] or 3 * members.sum() > used.sum():
                continue  # what a third agrees on is more likely true
            seen |= members
            inside = projected[np.ix_(members, members)]
            error = np.linalg.lstsq(inside, told[members], rcond=None)[0]
            size = float((error * told[members]).sum() / self.outputs / members.sum())
            far = (error**2).sum() / self.outputs / members.sum() > _SMALL**2
            if size > most and far:
                worst, most = members, size
        return worst, most

    def cleared(self, dropped: np.ndarray) -> np.ndarray:
        """Which of the answers dropped (B, F) those that are left do not contradict after all."""
        cleared = np.zeros_like(dropped)
        left = np.flatnonzero(dropped.any(axis=1))
        most = np.full(len(dropped), np.inf)
        while len(left):
            back = self._taken_back(left, dropped[left] & ~cleared[left], most)
            cleared[left] |= back
            left = left[back.any(axis=1) & (dropped[left] & ~cleared[left]).any(axis=1)]
        return cleared

    def _taken_back(self, groups: np.ndarray, out: np.ndarray, most: np.ndarray) -> np.ndarray:
        """In each group the least suspicious answer that is out, or two that confirm each other.

        ``most`` (all groups) holds how large the limit may become; it is set at the first time.
        """
        projected = self.projected[groups]
        told = projected @ self.answers[groups]
        alone = self.predicted(told, out, groups)
        projected, told = kept(projected, told, alone)
        covariance, error, place, valid = alone
        limit = self._limit(projected, told, self.used[groups] & ~out, groups)
        most[groups] = np.minimum(most[groups], _LONGEST * limit)
        limit = np.minimum(limit, most[groups])
        squares = np.einsum("bwq,bwq->bw", error, error) / self.outputs
        ratio = squares / np.maximum(diagonal(covariance), 1e-300) / limit[:, None]
        ratio[squares < _HARMLESS**2] = 0.0
        ratio[~valid] = np.inf
        least = ratio.min(axis=1, keepdims=True)
        back = (ratio == least) & (least < 1.0)
        mates = confirmed(covariance, error / np.sqrt(self.outputs), limit)
        mates &= valid[:, :, None] & valid[:, None]
        if self.same is not None:
            same = np.take_along_axis(self.same[groups], place[:, :, None], axis=1)
            mates &= ~np.take_along_axis(same, place[:, None], axis=2)
        back |= mates.any(axis=1)
        result = np.zeros_like(out)
        np.put_along_axis(result, place, back & valid, axis=1)
        return result

    def _limit(
        self, projected: np.ndarray, told: np.ndarray, kept: np.ndarray, groups: np.ndarray
    ) -> np.ndarray:
        """The largest squared residual (B,) that the tail of those kept makes likely."""
        squares, _ = residuals(projected, told, kept, self.outputs)
        scale, tail = self.scales(squares, kept, groups)
        longer = np.maximum(1.0, tail / scale)
        limit: np.ndarray = (_MERCY * self.threshold) ** 2 * scale * longer**_TAIL
        return limit

    def scales(
        self, squares: np.ndarray, used: np.ndarray, groups: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The variance (B,) that the middle of these groups' residuals tells, and that which their tail tells."""
        alone = used
        if self.twins is not None:
            alone = used & ~(self.twins[groups] & used[:, None]).any(axis=2)
        count, sure = alone.sum(axis=1), np.ones(len(used))
        if self.twins is not None:
            # What is left may be few, and a quantile of these small by chance: a t distribution.
            far = -stdtrit(np.maximum(count - 2, 3), ndtr(-_CHANCE))
            sure = np.where(count < FEWEST, count, (far / _CHANCE) ** 2)
        scale, tail = (
            sure * quantile(squares, alone, share) / chi2(share, self.outputs)
            for share in (0.5, 0.9)
        )
        # Answers are in deviations of their outputs, so 1 is what a few of them can be taken to have.
        few = (count < FEWEST) & (used.sum(axis=1) >= FEWEST)
        return np.maximum(scale, np.where(few, 1.0, 1e-300)), tail
