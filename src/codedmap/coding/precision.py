"""The inverse covariance of correct answers, up to a factor.

For answers on a curve it is that of a cubic smoothing spline (Wahba 1978, Journal of the Royal
Statistical Society B 40; λ is a ratio of noise to signal): Q (R + λ QᵀQ)⁻¹ Qᵀ with the banded Q and R
of Reinsch, for a few λ from a curve without noise to noise about a line.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np

from .spline import reinsch

MOST_ANSWERS = 2_000
"""Among more answers outliers are not searched for: that would take more memory than decoding."""
MOST_TOGETHER = 128
"""Most answers that are compared with each other: the matrices are dense."""
_CORE = 64  # answers of a window that are tested
_MARGIN = 16  # neighbours on either side of a window's tested answers

TINY = 1e-12
"""Precisions below this, relative to the largest, count as 0: the other answers do not determine such an answer."""

_CHOOSING = 3  # a matrix is chosen by one answer in this many, few of which may be wrong
_SMOOTHINGS = (0.0, 1.0, 30.0, 1e3, 1e5)  # λ of each matrix


@dataclass(frozen=True, eq=False)
class Precision:
    """Inverse covariances of correct answers, up to a factor: one, or several to choose from."""

    matrices: np.ndarray
    """(J, F, F): symmetric and positive semidefinite, with one null space, whose vectors are equally plausible."""
    logdets: np.ndarray
    """(J,): logarithms of the product of the eigenvalues that are not 0, up to a common constant."""
    nullity: int
    """Dimension of the null space."""
    exact: bool = False
    """Whether correct answers lie in the null space, up to rounding."""
    slack: float = 0.0
    """Share of the largest answer by which correct answers may be off the null space, if rounding is less."""

    @classmethod
    def of(cls, matrix: np.ndarray) -> Precision:
        """The precision with a single matrix, (F, F)."""
        rank = int(np.linalg.matrix_rank(matrix, hermitian=True))
        return cls(matrix[None], np.zeros(1), len(matrix) - rank)

    @classmethod
    def of_span(cls, vectors: np.ndarray, slack: float = 0.0) -> Precision:
        """The precision of exact answers that are combinations of these columns, (F, r)."""
        basis, _ = np.linalg.qr(vectors)
        matrix = np.eye(len(basis)) - basis @ basis.T
        return cls(matrix[None], np.zeros(1), basis.shape[1], exact=True, slack=slack)

    @property
    def freedom(self) -> int:
        """Residual degrees of freedom of one output."""
        return len(self.matrices[0]) - self.nullity

    @cached_property
    def standardising(self) -> np.ndarray:
        """Matrices that multiply answers to give their standardised residuals, (J, F, F), in single precision."""
        # Single precision is enough: residuals as small as its rounding are never rejected.
        roots = np.sqrt(self._diagonals)
        return np.asarray((self.matrices / roots[:, :, None]).astype(np.float32))

    @cached_property
    def choosing(self) -> np.ndarray:
        """The rows of `standardising` for every third answer, which are enough to choose a matrix."""
        return np.concatenate(self.standardising[:, ::_CHOOSING])

    @cached_property
    def scales(self) -> np.ndarray:
        """The geometric mean of the variances 1 / P_ii of these answers given the others, by each matrix, (J,).

        The smaller the product of this and the sum of squares of the standardised residuals, the more
        probable the answers are by a matrix.
        """
        return np.asarray(np.exp(-np.log(self._diagonals[:, ::_CHOOSING]).mean(axis=1)))

    @property
    def _diagonals(self) -> np.ndarray:
        diagonals = self.matrices.diagonal(axis1=1, axis2=2)
        least = TINY * diagonals.max(axis=1, keepdims=True) + np.finfo(float).tiny
        return np.asarray(np.maximum(diagonals, least))

    def without(self, gone: np.ndarray) -> Precision:
        """The inverse covariances of the answers without these rows, (F,) bool."""
        stay = ~gone
        cross = self.matrices[:, gone][:, :, stay]
        inner = self.matrices[:, gone][:, :, gone]
        rest = self.matrices[:, stay][:, :, stay]
        rest = rest - cross.transpose(0, 2, 1) @ np.linalg.solve(inner, cross)
        logdets = self.logdets - np.linalg.slogdet(inner)[1]
        return replace(self, matrices=rest, logdets=logdets)


def curve_precision(positions: np.ndarray) -> Precision | None:
    """The precision of answers on a curve at these positions, (F,) ascending; None of fewer than 4."""
    if len(positions) < 4:  # two determine a line, and two more are needed to identify an outlier
        return None
    q, r = reinsch(positions)
    systems = r + np.array(_SMOOTHINGS)[:, None, None] * (q.T @ q)
    return Precision(q @ np.linalg.solve(systems, q.T), -np.linalg.slogdet(systems)[1], 2)


def windows(count: int) -> list[tuple[slice, slice]]:
    """Overlapping runs of neighbours among so many answers on a curve, and which answers of each run are tested.

    Answers far away have no influence on a residual, so that time and memory can be linear in the answers.
    """
    if count <= MOST_TOGETHER:
        return [(slice(0, count), slice(0, count))]
    many = -(-(count - 2 * _MARGIN) // _CORE)
    edges = np.linspace(_MARGIN, count - _MARGIN, many + 1).astype(int)
    edges[0], edges[-1] = 0, count
    found = []
    for start, stop in pairwise(edges.tolist()):
        low, high = max(0, start - _MARGIN), min(count, stop + _MARGIN)
        found.append((slice(low, high), slice(start - low, stop - low)))
    return found
