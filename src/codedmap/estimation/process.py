"""Gaussian-process regression on many small groups at once.

Everything is batched over groups: an answer that is missing, or not trusted, in one group is not
removed but uncoupled (its row and column of the covariance become those of the identity), so all
groups keep one shape and no Python loop runs over them.

The model of one output in one group: an unknown constant, with a flat prior, plus a Gaussian process
of variance s² and Matérn correlation, plus independent noise of variance s² · noise. The constant
is integrated out (generalised least squares; Rasmussen and Williams 2006, section 2.7), s² is
estimated from the answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..contracts.arguments import is_real
from ..errors import InvalidArgument

__all__ = [
    "Prior",
    "conditioned",
    "correlation",
    "covariances",
    "equal_payloads",
    "inverse",
    "sloped",
]

Smoothness = Literal["matern32", "matern52", "gaussian"]

_FAR = 700.0
"""Length scales beyond which a correlation is 0 in floating point."""
_LEAST = 1e-10
"""Noise below which rounding would make covariances singular."""

_EQUAL = 1e-12
"""Of the largest squared distance of a group: where rounding ends."""


@dataclass(frozen=True, slots=True)
class Prior:
    """What is assumed of a function before it has answered: how fast it varies, and how smoothly.

    Parameters
    ----------
    length : float
        Length scale, in the unit of the inputs: answers at this distance are still alike.
    noise : float
        Variance of what the process does not explain, as a share of its own.
    smoothness : {"matern32", "matern52", "gaussian"}
        Of the Matérn family: once, twice, or infinitely often differentiable.
    scales : tuple of float, optional
        A factor on each number of an input, before distances are taken: large where answers change
        fast. A complex number counts as two.
    power : float
        Between -1 and 1, for a code with known answers. Along each principal direction of the known
        inputs, distances count in proportion to their deviation along it to this power: above 0
        what inputs mostly differ in counts more, below 0 less than it does as it is.
    """

    length: float
    noise: float = 1e-8
    smoothness: Smoothness = "matern52"
    scales: tuple[float, ...] | None = None
    power: float = 0.0

    def __post_init__(self) -> None:
        if not is_real(self.length) or not 1e-140 < self.length < 1e140:
            raise InvalidArgument(f"length={self.length!r} of a prior must be a number above 0")
        if not is_real(self.noise) or not _LEAST <= self.noise < np.inf:
            raise InvalidArgument(
                f"noise={self.noise!r} of a prior must be a number of at least {_LEAST:g}"
            )
        if self.smoothness not in ("matern32", "matern52", "gaussian"):
            raise InvalidArgument(
                f'smoothness={self.smoothness!r} is unknown: choose "matern32", "matern52" or '
                '"gaussian"'
            )
        if self.scales is not None and not (
            isinstance(self.scales, tuple)
            and self.scales
            and all(is_real(one) and 0.0 < one < np.inf for one in self.scales)
        ):
            raise InvalidArgument(
                f"scales={self.scales!r} of a prior must be a tuple of numbers above 0"
            )
        if not is_real(self.power) or not -1.0 <= self.power <= 1.0:
            raise InvalidArgument(
                f"power={self.power!r} of a prior must be a number between -1 and 1"
            )

    def check(self, inputs: np.ndarray) -> None:
        """Raise `InvalidArgument` unless there is a scale for each number of inputs (K, B, *x)."""
        if self.scales is None:
            return
        if inputs.dtype.kind not in "biufc":
            raise InvalidArgument(
                f"inputs of dtype {inputs.dtype} have no distances for the scales of a prior to change"
            )
        numbers = int(np.prod(inputs.shape[2:], dtype=int)) * (2 if inputs.dtype.kind == "c" else 1)
        if numbers != len(self.scales):
            raise InvalidArgument(
                f"{len(self.scales)} scales of a prior do not fit inputs of {numbers} numbers each"
            )


def correlation(squared: np.ndarray, prior: Prior) -> np.ndarray:
    """Correlations of the answers at these squared distances, an array of the same shape."""
    return _alike(np.sqrt(squared) / prior.length, prior.smoothness)


def equal_payloads(squared: np.ndarray) -> np.ndarray | None:
    """Which pairs (B, F, F) are equal to within rounding, by their squared distances; None if none."""
    twins = squared <= _EQUAL * squared.max(axis=(1, 2), keepdims=True, initial=0.0)
    twins[:, np.arange(twins.shape[1]), np.arange(twins.shape[1])] = False
    return twins if twins.any() else None


def covariances(apart: np.ndarray, priors: Sequence[Prior], used: np.ndarray) -> np.ndarray:
    """Covariances of the answers, noise included, under several priors, (P, B, F, F).

    Parameters
    ----------
    apart : ndarray, shape (B, F, F)
        Distances between payloads.
    priors : sequence of Prior
        Those of equal length and smoothness share their correlations.
    used : ndarray, shape (B, F) bool
        Others are uncoupled.
    """
    every = np.empty((len(priors), *apart.shape))
    for kind in {prior.smoothness for prior in priors}:
        alike = [k for k, prior in enumerate(priors) if prior.smoothness == kind]
        lengths, which = np.unique([priors[k].length for k in alike], return_inverse=True)
        every[alike] = _alike(apart / lengths[:, None, None, None], kind)[which]
    at = np.arange(apart.shape[1])
    every[..., at, at] = 1.0 + np.array([prior.noise for prior in priors])[:, None, None]
    for covariance in every:
        _uncouple(covariance, used)
    return every


def _alike(scaled: np.ndarray, smoothness: Smoothness) -> np.ndarray:
    """Correlations at these distances, in length scales. Overwrites them."""
    np.minimum(scaled, _FAR, out=scaled)
    if smoothness == "gaussian":
        scaled *= scaled
        scaled *= -0.5
        return np.asarray(np.exp(scaled, out=scaled))
    scaled *= np.sqrt(3.0 if smoothness == "matern32" else 5.0)
    decay = np.exp(-scaled)
    if smoothness == "matern32":
        scaled += 1.0
    else:  # 1 + s + s²/3
        polynomial = scaled / 3.0
        polynomial += 1.0
        scaled *= polynomial
        scaled += 1.0
    scaled *= decay
    return scaled


def sloped(squared: np.ndarray, smoothness: Smoothness) -> tuple[np.ndarray, np.ndarray]:
    """Correlations at these squared distances, in length scales, and their derivatives by them."""
    if smoothness == "gaussian":
        alike = _alike(np.sqrt(squared), smoothness)
        return alike, -0.5 * alike
    scaled = np.sqrt((3.0 if smoothness == "matern32" else 5.0) * squared)
    decay = np.exp(-np.minimum(scaled, _FAR))
    if smoothness == "matern32":
        return (1.0 + scaled) * decay, -1.5 * decay
    return (1.0 + scaled + scaled**2 / 3.0) * decay, -5.0 / 6.0 * (1.0 + scaled) * decay


def inverse(
    covariance: np.ndarray, used: np.ndarray, *, flat: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What answers a mean and a residual: everything follows from these.

    Parameters
    ----------
    covariance : ndarray, shape (B, F, F)
        Of the answers, noise included, in units of s². Overwritten.
    used : ndarray, shape (B, F) bool
    flat : bool
        Whether a constant is unknown.

    Returns
    -------
    ndarray, shape (B, F, F)
        P = C⁻¹ - C⁻¹1 1ᵀC⁻¹ / 1ᵀC⁻¹1, zero where not used: ``P @ y`` is free of the constant. Where
        none is unknown, C⁻¹.
    ndarray, shape (B, F)
        C⁻¹1, zero where not used; 0 where no constant is unknown.
    ndarray, shape (B,)
        1ᵀC⁻¹1, at least the smallest normal number; infinite where no constant is unknown.
    """
    _uncouple(covariance, used)
    projected = np.linalg.inv(covariance)
    if not used.all():
        projected *= used[:, :, None] & used[:, None, :]
    if not flat:
        return projected, np.zeros(used.shape), np.full(len(used), np.inf)
    ones = projected.sum(axis=2)
    total = np.maximum(ones.sum(axis=1), np.finfo(float).tiny)
    projected -= ones[:, :, None] * (ones / total[:, None])[:, None, :]
    return projected, ones, total


def conditioned(
    covariance: np.ndarray,
    cross: np.ndarray,
    own: np.ndarray,
    solved: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """The operator from answers to estimates, and the estimates' variances in units of s².

    Parameters
    ----------
    covariance : ndarray, shape (B, F, F)
        Of the answers, noise included, those not used as well.
    cross : ndarray, shape (B, T, F)
        Covariance of what is estimated with the answers; zero where an answer is not used.
    own : ndarray, shape (B, T)
        Variance before any answer.
    solved
        From `inverse`.

    Returns
    -------
    ndarray, shape (B, T, F)
    ndarray, shape (B, T)
    """
    projected, ones, total = solved
    operator = cross @ projected
    operator += (ones / total[:, None])[:, None, :]
    # The variance of the error of exactly this operator w, k_0 - 2wᵀk + wᵀCw (Joseph's form), to which
    # the rounding in w contributes its square only. k_0 - kᵀC⁻¹k takes the whole of it, which is more
    # than there is left where the answers are alike.
    doubtful = operator @ covariance
    doubtful -= 2.0 * cross
    variance = own + np.einsum("btf,btf->bt", operator, doubtful)
    return operator, np.maximum(variance, 0.0)


def _uncouple(covariance: np.ndarray, used: np.ndarray) -> None:
    if used.all():
        return
    at = np.arange(used.shape[1])
    covariance *= used[:, :, None] & used[:, None, :]
    covariance[:, at, at] += ~used
