"""LCC over the reals: exact for polynomial functions, by least squares in the Chebyshev basis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.polynomial import chebyshev

from ..coding.operators import Operator
from ..coding.points import barycentric, task_points, worker_points
from ..coding.precision import Precision
from ..contracts.arguments import check_whole, is_real
from ..contracts.code import check_budget
from ..contracts.memory import check_room
from ..errors import InvalidArgument, many
from .linear import LinearCode

_MOST = 1_000  # answers, at most, among which outliers are looked for, by a matrix of this size


@dataclass(frozen=True)
class LagrangeCode(LinearCode):
    """Lagrange coded computing (arXiv 1806.00939) over the reals, for a polynomial ``fn``.

    The polynomial of degree K - 1 through the inputs at α_k is evaluated at β_n; answers of a
    polynomial of total degree ``degree`` lie on one of degree (K - 1)·degree, which is fitted to
    *all* of them by least squares in the Chebyshev basis and evaluated at α_k.

    On paper any (K - 1)·degree + 1 answers suffice. In floating point they may not: sets of just
    that size can amplify rounding by ten decimal digits. So it decodes only where
    ``‖D‖₂ · eps`` is at most ``tolerance`` for the decoder D, and otherwise waits for more answers.
    The default tolerance allows a norm of 8 in float32, and of 4.5e9 in float64. The code has no
    standard errors. Its values are exact to ``tolerance`` for a polynomial of the stated degree, and
    meaningless for any other function.

    With two answers beyond the threshold for every wrong one, these are found and rejected. Near this
    limit some are missed if there are more than 20,000 sets of so many answers. Where answers
    contradict one another and so few wrong ones do not explain it, as where ``fn`` is noisy, none is
    rejected. If ``fn`` is no polynomial, and most of its answers are 0, correct ones may be rejected.

    Parameters
    ----------
    tasks, workers, stragglers : int
        K inputs a group, N payloads, and S answers that the default stopping rule does not wait for.
    degree : int
        Total degree of ``fn`` as a polynomial of its inputs, at least 1.
    tolerance : float
        Bound on the relative error that rounding of the answers may cause.

    Raises
    ------
    InvalidArgument
        If N - S is less than (K - 1)·degree + 1.
    """

    determined = True
    tasks: int
    workers: int
    stragglers: int
    degree: int
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        check_budget(self.tasks, self.workers, self.stragglers)
        check_whole("degree", self.degree, 1)
        if not is_real(self.tolerance) or not 0.0 < self.tolerance < 1.0:
            raise InvalidArgument(f"tolerance={self.tolerance!r} must be above 0 and below 1")
        if self.workers - self.stragglers < self.threshold:
            raise InvalidArgument(
                f"a polynomial of degree {self.degree} over {self.tasks} tasks needs "
                f"(K - 1)·degree + 1 = {self.threshold} answers, but {many(self.workers, 'worker')} with "
                f"{many(self.stragglers, 'straggler')} promise only {self.workers - self.stragglers}: "
                f"use at least {self.threshold + self.stragglers} workers, or fewer tasks"
            )

    @property
    def threshold(self) -> int:
        """(K - 1)·degree + 1, the fewest answers that determine the polynomial."""
        return (self.tasks - 1) * self.degree + 1

    def encoder(self, inputs: np.ndarray) -> Operator:
        """The (N, K) polynomial interpolant from α to β, in barycentric form."""
        return self.kept("encoder", self._encoder)

    def decoder(self, answered: tuple[int, ...], answers: np.ndarray) -> np.ndarray:
        """The (K, F) least-squares fit from the responders' β to α."""
        return self.kept(answered, lambda: self._decoder(answered))

    def shortfall(self, answered: frozenset[int], dtype: np.dtype[Any]) -> str | None:
        """Why these slots cannot be decoded: too few, or too ill-conditioned for this dtype."""
        if len(answered) < self.threshold:
            return f"{self.threshold} answers are needed for degree {self.degree}"
        growth = self._growth(tuple(sorted(answered)))
        rounding = float(np.finfo(dtype if dtype.kind in "fc" else np.float64).eps)
        if growth * rounding <= self.tolerance:
            return None
        return (
            f"{len(answered)} answers are enough on paper ({self.threshold} are needed), but from "
            f"these the decoder amplifies rounding by {growth:.2g}, which in {dtype} gives errors "
            f"of {growth * rounding:.2g}, above the tolerance of {self.tolerance:g}: "
            "use fewer tasks or more workers, or compute in float64"
        )

    def precision(self, answered: tuple[int, ...]) -> Precision | None:
        """The projection onto what the fitted polynomial leaves of the answers."""
        if not self.threshold < len(answered) <= _MOST:
            return None
        # The decoder amplifies errors of answers as it does rounding.
        slack = self.tolerance / self._growth(answered)
        return Precision.of_span(self._fit(answered), slack)

    def _growth(self, answered: tuple[int, ...]) -> float:
        return self.kept(
            (answered, "growth"), lambda: float(np.linalg.norm(self.decoder(answered, _NONE), 2))
        )

    def _encoder(self) -> np.ndarray:
        self._check_room(self.workers, self.tasks)
        nodes, at = task_points(self.tasks), worker_points(self.workers)
        # Barycentric weights of Chebyshev points of the first kind (Berrut and Trefethen 2004).
        angle = (2.0 * np.arange(self.tasks) + 1.0) * np.pi / (2 * self.tasks)
        weights = np.sin(angle) * (1.0 - 2.0 * (np.arange(self.tasks) % 2))
        return barycentric(nodes, at, weights)

    def _decoder(self, answered: tuple[int, ...]) -> np.ndarray:
        read = chebyshev.chebvander(task_points(self.tasks), self.threshold - 1)
        basis, upper = np.linalg.qr(self._fit(answered))
        coefficients = scipy.linalg.solve_triangular(upper, read.T, trans="T", lower=False)
        return np.asarray(coefficients.T @ basis.T)

    def _fit(self, answered: tuple[int, ...]) -> np.ndarray:
        self._check_room(len(answered), self.threshold)
        points = worker_points(self.workers)[list(answered)]
        return np.asarray(chebyshev.chebvander(points, self.threshold - 1))

    def _check_room(self, rows: int, columns: int) -> None:
        check_room(
            3 * 8 * rows * columns,  # the matrix, and twice as much to make it
            f"polynomials of degree {columns - 1} at {rows} points, for {self!r},",
            "Use fewer tasks or workers, or SplineCode, whose memory grows with their sum",
        )


_NONE = np.empty((0, 0))  # stands for answers where the decoder does not depend on them
