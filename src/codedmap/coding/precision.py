"""What honest answers look like: their inverse covariance, up to a factor.

For answers on a curve it is that of a cubic smoothing spline (Wahba 1978, Journal of the Royal
Statistical Society B 40: its λ is a signal to noise ratio): Q (R + λ QᵀQ)⁻¹ Qᵀ with the banded Q and
R of Reinsch, for a few λ from a curve without noise to noise about a line.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
from scipy.linalg import cho_solve_banded, cholesky_banded

__all__ = ["LONGEST", "MOST", "TINY", "Precision", "Windows", "of_a_curve"]

MOST = 2_000
"""Among more answers than these nobody looks for liars: it would take more memory than decoding."""
LONGEST = 128
"""Answers that are judged together at most: the matrices are dense."""
_CORE, _MARGIN = 64, 16
"""Answers that a window judges, and neighbours on either side that only tell."""

TINY = 1e-12
"""An answer of which the others tell less than this, relative to the best known one, is not known."""

_CHOOSING = (
    3  # one answer in so many tells which matrix fits: all of them would take as long to read
)
_SMOOTHINGS = (0.0, 1.0, 30.0, 1e3, 1e5)


@dataclass(frozen=True, eq=False)
class Precision:
    """Inverse covariances of honest answers, up to a factor: one, or several to choose among.

    Parameters
    ----------
    matrices : ndarray, shape (J, F, F)
        Symmetric and positive semidefinite, with one common null space.
    logdets : ndarray, shape (J,)
        Logarithm of the product of the eigenvalues that are not 0, up to a common constant.
    nullity : int
        Dimension of the null space: what any answers can have without being implausible.
    exact : bool
        Honest answers lie in the null space, but for rounding.
    slack : float
        Share of the largest answer by which exact ones may be off it, should rounding explain less.
    """

    matrices: np.ndarray
    logdets: np.ndarray
    nullity: int
    exact: bool = False
    slack: float = 0.0

    @classmethod
    def of(cls, matrix: np.ndarray) -> Precision:
        """A single one, (F, F)."""
        rank = int(np.linalg.matrix_rank(matrix, hermitian=True))
        return cls(matrix[None], np.zeros(1), len(matrix) - rank)

    @property
    def freedom(self) -> int:
        """Residual degrees of freedom of one output."""
        return len(self.matrices[0]) - self.nullity

    @cached_property
    def standardising(self) -> np.ndarray:
        """Takes answers to their standardised residuals by each matrix, these one below another.

        In single precision, (J·F, F), since residuals as small as its rounding are no lies.
        """
        roots = np.sqrt(self._diagonals)
        return np.concatenate(self.matrices / roots[:, :, None]).astype(np.float32)

    @cached_property
    def choosing(self) -> np.ndarray:
        """The rows of `standardising` for every third answer: enough to choose a matrix by."""
        each = self.standardising.reshape(len(self.matrices), -1, self.matrices.shape[2])
        return np.ascontiguousarray(each[:, ::_CHOOSING]).reshape(-1, each.shape[2])

    @cached_property
    def scales(self) -> np.ndarray:
        """By each, the geometric mean of the variances 1 / P_ii of these answers given the others, (J,).

        The more probable answers are by a matrix, the smaller is this times their standardised
        residuals' sum of squares.
        """
        return np.asarray(np.exp(-np.log(self._diagonals[:, ::_CHOOSING]).mean(axis=1)))

    @property
    def _diagonals(self) -> np.ndarray:
        diagonals = self.matrices.diagonal(axis1=1, axis2=2)
        least = TINY * diagonals.max(axis=1, keepdims=True) + np.finfo(float).tiny
        return np.asarray(np.maximum(diagonals, least))

    def without(self, gone: np.ndarray) -> Precision:
        """Of the answers that remain without these rows, (F,) bool: nothing is known of those."""
        if not gone.any():
            return self
        stay = ~gone
        cross = self.matrices[:, gone][:, :, stay]
        inner = self.matrices[:, gone][:, :, gone]
        rest = self.matrices[:, stay][:, :, stay]
        rest = rest - cross.transpose(0, 2, 1) @ np.linalg.solve(inner, cross)
        logdets = self.logdets - np.linalg.slogdet(inner)[1]
        return replace(self, matrices=rest, logdets=logdets)


def of_a_curve(positions: np.ndarray) -> Precision | Windows | None:
    """Of answers on a curve over these positions, (F,) ascending; None if they can tell nothing."""
    n = len(positions)
    if not 4 <= n <= MOST:  # a line takes two, and one liar needs two witnesses
        return None
    if n > LONGEST:
        return Windows.along(positions)
    h = np.diff(positions)
    first, last = 1.0 / h[:-1], 1.0 / h[1:]
    middle = -first - last
    columns = np.zeros((n - 2, n))  # of Reinsch's Qᵀ; P is Q (R + λ QᵀQ)⁻¹ Qᵀ
    j = np.arange(n - 2)
    columns[j, j], columns[j, j + 1], columns[j, j + 2] = first, middle, last
    smoothing = np.array(_SMOOTHINGS)[:, None]
    # The systems of all λ as one, block after block: each call costs more than its arithmetic.
    band = np.zeros((3, len(smoothing), n - 2))
    band[0] = (h[:-1] + h[1:]) / 3.0 + smoothing * (first**2 + middle**2 + last**2)
    band[1, :, :-1] = h[1:-1] / 6.0
    band[1, :, :-1] += smoothing * (middle[:-1] * first[1:] + last[:-1] * middle[1:])
    band[2, :, :-2] = smoothing * last[:-2] * first[2:]
    factor = cholesky_banded(band.reshape(3, -1), lower=True, check_finite=False)
    right = np.tile(columns, (len(smoothing), 1))
    inner = cho_solve_banded((factor, True), right, overwrite_b=True, check_finite=False)
    inner = inner.reshape(len(smoothing), n - 2, n)
    matrices = np.zeros((len(smoothing), n, n))
    for offset, entries in enumerate((first, middle, last)):
        matrices[:, offset : offset + n - 2] += entries[:, None] * inner
    logdets = -2.0 * np.log(factor[0].reshape(len(smoothing), -1)).sum(axis=1)
    return Precision(matrices, logdets, 2)


@dataclass(frozen=True, eq=False)
class Windows:
    """Of many answers on a curve, some neighbours at a time: who is far away tells nothing of a lie.

    Time and memory are linear in the answers.
    """

    parts: tuple[tuple[slice, slice, Precision], ...]
    """Which answers, (F,) ascending, a window holds; which of these it judges; what is known of them."""

    @classmethod
    def along(cls, positions: np.ndarray) -> Windows:
        """Windows that overlap, so that nobody is judged without neighbours on either side."""
        n = len(positions)
        many = -(-(n - 2 * _MARGIN) // _CORE)
        edges = np.linspace(_MARGIN, n - _MARGIN, many + 1).astype(int)
        edges[0], edges[-1] = 0, n
        parts = []
        for start, stop in pairwise(edges.tolist()):
            low, high = max(0, start - _MARGIN), min(n, stop + _MARGIN)
            precision = of_a_curve(positions[low:high])
            assert isinstance(precision, Precision)
            parts.append((slice(low, high), slice(start - low, stop - low), precision))
        return cls(tuple(parts))
