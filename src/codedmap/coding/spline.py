"""A cubic smoothing spline as a linear operator.

The spline through the points (t_i, y_i) minimises ``(1/n) Σ (u(t_i) - y_i)² + λ ∫ u''²``. It is
natural, so linear outside the knots, and *linear in y*: values at fixed positions are ``A @ y``.

With g = u(t), γ = u''(t_2..t_{n-1}), a = nλ and the banded matrices Q and R of Reinsch (Green and
Silverman 1994, section 2.3) it solves ``g + a Q γ = y``, ``Qᵀ g = R γ``. Eliminating g gives the
usual pentadiagonal system ``(R + a QᵀQ) γ = Qᵀ y``, which squares the condition number: at 10,000
Chebyshev knots it leaves four digits. Here both unknowns stay, scaled symmetrically and
interleaved into one banded system that is solved with pivoting, which leaves eleven.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

DENSE_ENTRIES = 1_000_000
"""Operators with up to this many entries are dense matrices, larger ones banded factors."""

GCV_KNOTS = 2_000
"""Most knots for `smoothing_by_gcv`: for so many its eigenproblem takes 2.7 s and 256 MB, and time grows as the cube."""

_BAND = 3  # bands of the interleaved system, below and above the diagonal
_TINY = 1e-300  # stands for a = 0: dividing by its root and multiplying by it again is exact
_NOTHING = 1e-100  # smaller entries are zeros that a = _TINY has changed
_BLOCK_BYTES = 8 << 20  # working memory of one block of columns


def smoother(knots: np.ndarray, at: np.ndarray, smoothing: float) -> np.ndarray | BandedSmoother:
    """The operator (p, n) from values at ``knots`` (n,), ascending, to values of the smoothing spline ``at`` (p,).

    Positions may be outside the knots; 1 knot gives the constant, 2 the line. ``smoothing`` is λ >= 0 of the objective
    above, with its 1/n; SciPy's ``make_smoothing_spline`` calls nλ ``lam``. 0 interpolates, infinity is the
    least-squares line. Where p·n exceeds `DENSE_ENTRIES` the operator is banded; then time and memory are linear in
    p + n.
    """
    n = len(knots)
    if n == 1:
        return np.ones((len(at), 1))
    if n == 2:
        right = (at - knots[0]) / (knots[1] - knots[0])
        return np.stack([1.0 - right, right], axis=1)
    banded = _banded(knots, at, smoothing)
    if len(at) * n > DENSE_ENTRIES:
        return banded
    return banded.dense()


@dataclass(frozen=True, slots=True, eq=False)
class BandedSmoother:
    """A smoothing spline as banded factors that are applied to columns: ``self @ y``."""

    _factors: np.ndarray
    _pivots: np.ndarray
    _values: np.ndarray  # the places of g among the unknowns
    _readout: scipy.sparse.csr_array  # from the unknowns to the positions

    @property
    def shape(self) -> tuple[int, int]:
        """(positions, knots)."""
        return self._readout.shape[0], len(self._values)

    def __matmul__(self, y: np.ndarray) -> np.ndarray:
        out = np.empty((self.shape[0], y.shape[1]), dtype=np.result_type(y.dtype, np.float32))
        width = max(1, _BLOCK_BYTES // (8 * self._readout.shape[1]))
        for start in range(0, y.shape[1], width):
            block = y[:, start : start + width]
            if np.iscomplexobj(block):
                real, imag = self._apply(block.real), self._apply(block.imag)
                out[:, start : start + width] = real + 1j * imag
            else:
                out[:, start : start + width] = self._apply(block)
        return out

    def dense(self) -> np.ndarray:
        """The same operator as a matrix."""
        # The system is symmetric, so that its solution for the transposed readout is the operator's
        # transpose. That takes a right-hand side for each position, which are fewer than the knots.
        solved = self._solve(self._readout.toarray().T)[self._values]
        operator = np.ascontiguousarray(solved.T)
        operator[np.abs(operator) < _NOTHING] = 0.0
        return operator

    def _apply(self, y: np.ndarray) -> np.ndarray:
        right = np.zeros((self._readout.shape[1], y.shape[1]), order="F")
        right[self._values] = y
        return np.asarray(self._readout @ self._solve(right))

    def _solve(self, right: np.ndarray) -> np.ndarray:
        solved, _ = scipy.linalg.lapack.dgbtrs(
            self._factors, _BAND, _BAND, right, self._pivots, overwrite_b=True
        )
        return np.asarray(solved)


def _banded(knots: np.ndarray, at: np.ndarray, smoothing: float) -> BandedSmoother:
    """Factor the system in g and η, with γ = scale · η / root, interleaved as g₁ g₂ η₂ g₃ η₃ … gₙ."""
    n = len(knots)
    h = np.diff(knots)
    weight = max(n * smoothing, _TINY)
    root = np.sqrt(weight)
    q0, q2 = 1.0 / h[:-1], 1.0 / h[1:]
    q1 = -q0 - q2
    r0, r1 = (h[:-1] + h[1:]) / 3.0, h[1:-1] / 6.0
    # The unit of each η makes the larger of its two kinds of entries about 1.
    scale = 1.0 / np.maximum(-root * q1, np.sqrt(r0))
    order = 2 * n - 2
    curvatures = 2 * np.arange(1, n - 1)
    values = np.concatenate([[0], curvatures - 1, [order - 1]])
    band = np.zeros((3 * _BAND + 1, order), order="F")

    def put(rows: np.ndarray, columns: np.ndarray, entries: np.ndarray | float) -> None:
        band[2 * _BAND + rows - columns, columns] = entries

    put(values, values, 1.0)
    for offset, q in enumerate((q0, q1, q2)):
        rows, entries = values[offset : offset + n - 2], root * scale * q
        put(rows, curvatures, entries)
        put(curvatures, rows, entries)
    put(curvatures, curvatures, -scale * scale * r0)
    beside = -scale[:-1] * scale[1:] * r1
    put(curvatures[:-1], curvatures[1:], beside)
    put(curvatures[1:], curvatures[:-1], beside)
    factors, pivots, _ = scipy.linalg.lapack.dgbtrf(band, _BAND, _BAND, overwrite_ab=True)
    gamma, where = np.pad(scale / root, 1), np.pad(curvatures, 1)
    i, entries = _evaluated(knots, at, gamma)
    columns = np.stack([values[i], values[i + 1], where[i], where[i + 1]], axis=1).ravel()
    rows, keep = np.repeat(np.arange(len(at)), 4), entries.ravel() != 0.0
    readout = scipy.sparse.csr_array(
        (entries.ravel()[keep], (rows[keep], columns[keep])), shape=(len(at), order)
    )
    return BandedSmoother(factors, pivots, values, readout)


def _evaluated(
    knots: np.ndarray, at: np.ndarray, gamma: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The interval (p,) of each position, and weights (p, 4) of g and η at its two ends; γ is ``gamma`` times η."""
    i = np.clip(np.searchsorted(knots, at, side="right") - 1, 0, len(knots) - 2)
    h = knots[i + 1] - knots[i]
    after, before = at - knots[i], knots[i + 1] - at
    inside = (after >= 0) & (before >= 0)
    bend = np.where(inside, -after * before / 6.0, 0.0)
    # Beyond an end the spline is a line with the slope at the end, which depends on the one
    # curvature of the outermost interval.
    left, right = (
        np.where(inside, bend * (1.0 + away / h), np.where(away < 0, away * h / -6.0, 0.0))
        for away in (before, after)
    )
    return i, np.stack([before / h, after / h, left * gamma[i], right * gamma[i + 1]], axis=1)


def reinsch(knots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The dense matrices Q (n, n - 2) and R (n - 2, n - 2) of Reinsch, for n >= 3 knots (n,), ascending."""
    n, h = len(knots), np.diff(knots)
    q = np.zeros((n, n - 2))
    j = np.arange(n - 2)
    q[j, j], q[j + 2, j] = 1.0 / h[:-1], 1.0 / h[1:]
    q[j + 1, j] = -q[j, j] - q[j + 2, j]
    r = np.diag((h[:-1] + h[1:]) / 3.0) + np.diag(h[1:-1] / 6.0, 1) + np.diag(h[1:-1] / 6.0, -1)
    return q, r


def smoothing_by_gcv(knots: np.ndarray, y: np.ndarray) -> float:
    """λ by generalised cross-validation (Craven and Wahba 1979), one for all columns of y (n, columns).

    Minimises ``n · ‖(I - A)y‖² / tr(I - A)²``, the residuals summed over the columns, on a
    logarithmic grid of 91 values relative to the cube of the knots' extent. So the choice does not
    depend on the unit of the positions. 0 for fewer than 3 knots, where every λ gives the same spline.
    """
    n = len(knots)
    if n < 3:
        return 0.0
    q, r = reinsch(knots)
    # The penalty's eigenvalues 1/c span twenty decades, and the smooth modes with the smallest
    # ones matter most. So the eigenproblem is solved for c, of which they are the largest.
    basis, upper = np.linalg.qr(q)
    half = scipy.linalg.lapack.dtrtrs(upper, r, lower=0, trans=1)[0]
    c, modes = np.linalg.eigh(
        scipy.linalg.lapack.dtrtrs(upper, np.asfortranarray(half.T), lower=0, trans=1)[0]
    )
    c = np.maximum(c, np.finfo(float).tiny)
    sizes = np.abs((basis @ modes).T @ y)
    largest = sizes.max(initial=0.0)  # y is scaled, as its square may overflow
    energy = ((sizes / largest if largest > 0 else sizes) ** 2).sum(axis=1)
    grid = (knots[-1] - knots[0]) ** 3 * np.logspace(-16, 2, 91)
    lost = 1.0 / (1.0 + c / (n * grid[:, None]))  # share of each mode that smoothing removes
    score = (lost**2 @ energy) / lost.sum(axis=1) ** 2
    return float(grid[np.argmin(score)])
