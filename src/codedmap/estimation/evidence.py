"""The prior that answers speak for: the likeliest, and one that a few lies cannot mislead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .process import Prior, Smoothness, covariances, equal_payloads, inverse

__all__ = ["Evidence", "chi2", "quantile", "residuals"]

_LENGTHS = (0.3, 0.6, 1.0, 1.8, 3.2, 6.0, 12.0)
_NOISES = (1e-8, 1e-4, 1e-2)
_FINER = (0.7, 1.0, 1.4)
_REACH: dict[Smoothness, float] = {"matern32": 1.4, "matern52": 1.0, "gaussian": 0.7}
"""A smoother correlation of the same length reaches further."""

_WARY_LENGTHS = (0.3, 0.6, 1.2, 2.5, 5.0, 10.0)
_WARY_NOISES = (1e-5, 1e-2)
_TRUSTED = 0.75
"""Share of the answers of a group that a wary prior has to explain."""
_NEARLY = 0.2
"""Of twice a log density an answer: too little to prefer a prior for."""


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Answers of some groups, for a prior to be chosen by.

    Parameters
    ----------
    apart : ndarray, shape (B, F, F)
        Distances between payloads.
    answers : ndarray, shape (B, F, q)
        Finite, outputs on comparable scales; 0 where not used.
    outputs : int
        How many outputs these were; q may be fewer columns with the same inner products.
    unit : float
        A typical distance between inputs, in which length scales are tried.
    quietest : float
        The least noise that is tried.
    """

    apart: np.ndarray
    answers: np.ndarray
    outputs: int
    unit: float
    quietest: float = 1e-8

    def likeliest(self, used: np.ndarray) -> Prior:
        """The prior under which the answers used (B, F) are most likely, one for all.

        Maximises the restricted likelihood with s² replaced by its estimate,
        ``(n - 1) log(yᵀPy summed over outputs) + log det C + log 1ᵀC⁻¹1`` summed over the groups: on
        a grid of length scales and noises for the Matérn correlation 5/2, and then around its best
        for the others too.
        """
        best = self._best(
            [Prior(length * self.unit, noise) for noise in _NOISES for length in _LENGTHS], used
        )
        best = self._best(
            [
                Prior(best.length * finer * reach, best.noise, kind)
                for kind, reach in _REACH.items()
                for finer in _FINER
            ],
            used,
        )
        noises = {best.noise, max(self.quietest, best.noise / 100.0), min(0.1, best.noise * 10.0)}
        return self._best(
            [Prior(best.length, noise, best.smoothness) for noise in sorted(noises)], used
        )

    def wary(self, used: np.ndarray, likely: Prior) -> Prior:
        """The prior that predicts three quarters of the answers best, whatever the others are.

        Minimises the mean over the best-predicted three quarters of each group of minus twice the
        leave-one-out log density, with a robust scale. The likeliest prior is kept if it is nearly
        as good.
        """
        priors = [
            likely,
            *(
                Prior(length * self.unit, noise)
                for noise in _WARY_NOISES
                for length in _WARY_LENGTHS
            ),
        ]
        twins = equal_payloads(self.apart**2)
        if twins is not None:  # answers that others must predict whatever the prior
            used = used & ~(np.tril(twins) & used[:, None]).any(axis=2)
        loss = self._predicted(priors, used)
        best = int(np.argmin(loss))
        return likely if loss[0] < loss[best] + _NEARLY else priors[best]

    def _best(self, priors: Sequence[Prior], used: np.ndarray) -> Prior:
        return priors[int(np.argmin(self.scores(priors, used)))]

    def scores(self, priors: Sequence[Prior], used: np.ndarray) -> np.ndarray:
        """Minus twice the restricted log likelihoods under these priors, (P,), up to a constant."""
        groups, size = used.shape
        mask = used[:, :, None]
        right = np.concatenate([mask, np.where(mask, self.answers, 0.0)], axis=2)
        columns = right.shape[2]
        squares = (right[:, :, 1:] ** 2).sum(axis=(1, 2))
        # Of a Cholesky factor of [[C, R], [Rᵀ, M]] the rows below are (L⁻¹R)ᵀ, whatever M is.
        bordered = np.zeros((len(priors), groups, size + columns, size + columns))
        bordered[..., :size, :size] = covariances(self.apart, priors, used)
        bordered[..., size:, :size] = right.transpose(0, 2, 1)
        border = np.arange(size, size + columns)
        bordered[..., border, border] = 1e13 * (squares + size)[:, None]
        factor = np.linalg.cholesky(bordered)
        one, y = factor[..., size, :size], factor[..., size + 1 :, :size]
        total = np.maximum((one**2).sum(axis=2), np.finfo(float).tiny)
        along = (y @ one[..., None])[..., 0]
        power = (y**2).sum(axis=(2, 3)) - (along**2).sum(axis=2) / total
        at = np.arange(size)
        logdet = 2.0 * np.log(factor[..., at, at]).sum(axis=2)
        count = used.sum(axis=1)
        # A group whose answers are all equal says nothing about lengths.
        floor = 1e-24 * squares + np.finfo(float).tiny
        score = (count - 1) * np.log(np.maximum(power, floor)) + logdet + np.log(total)
        informative = (count > 2) & (power > floor).all(axis=0)
        scores: np.ndarray = (score * informative).sum(axis=1)
        return scores

    def _predicted(self, priors: Sequence[Prior], used: np.ndarray) -> np.ndarray:
        groups, size = used.shape
        covariance = covariances(self.apart, priors, used).reshape(-1, size, size)
        every = np.tile(used, (len(priors), 1))
        projected = inverse(covariance, every)[0].reshape(len(priors), groups, size, size)
        told = projected @ np.where(used[:, :, None], self.answers, 0.0)
        squares, precision = residuals(
            projected.reshape(-1, size, size), told.reshape(-1, size, told.shape[3]), every,
            self.outputs,
        )  # fmt: skip
        scale = np.maximum(quantile(squares, every, 0.5) / chi2(0.5, self.outputs), 1e-300)
        loss = np.where(
            every, np.log(scale[:, None] / precision) + squares / scale[:, None], np.inf
        )
        loss.sort(axis=1)
        trusted = np.maximum(1, (_TRUSTED * every.sum(axis=1)).astype(int))
        sums = np.where(np.arange(size) < trusted[:, None], loss, 0.0).sum(axis=1) / trusted
        means: np.ndarray = sums.reshape(len(priors), groups).mean(axis=1)
        return means


def residuals(
    projected: np.ndarray, told: np.ndarray, used: np.ndarray, outputs: int
) -> tuple[np.ndarray, np.ndarray]:
    """Squared leave-one-out residuals (B, F), standardised, mean over outputs; and precisions.

    A residual itself is ``(P y)_i / P_ii``, and its variance ``s² / P_ii`` (Rasmussen and Williams
    2006, equations 5.10 to 5.12).

    Parameters
    ----------
    projected : ndarray, shape (B, F, F)
        P, see `inverse`.
    told : ndarray, shape (B, F, q)
        P y.
    used : ndarray, shape (B, F) bool
    outputs : int
    """
    at = np.arange(used.shape[1])
    precision = np.where(used, projected[:, at, at], 1.0)
    precision = np.maximum(precision, 1e-300)
    squares = np.einsum("bfq,bfq->bf", told, told) / (precision * outputs)
    return np.where(used, squares, 0.0), precision


def quantile(squares: np.ndarray, used: np.ndarray, share: float) -> np.ndarray:
    """A quantile of the squares used in each group, (B,); 0 where none is."""
    ordered = np.sort(np.where(used, squares, np.inf), axis=1)
    place = np.maximum(0.0, share * (used.sum(axis=1) - 1))
    below = place.astype(int)
    here = np.arange(len(used))
    low = ordered[here, below]
    high = ordered[here, np.minimum(below + 1, ordered.shape[1] - 1)]
    low, high = np.where(np.isfinite(low), low, 0.0), np.where(np.isfinite(high), high, 0.0)
    value: np.ndarray = low + (place - below) * (high - low)
    return value


def chi2(share: float, outputs: int) -> float:
    """What a quantile of mean squares is of the variance."""
    # Outputs hang together, so ten of them are worth about two.
    return {0.5: 0.47 if outputs == 1 else 0.6, 0.9: 2.7 if outputs == 1 else 1.8}[share]
