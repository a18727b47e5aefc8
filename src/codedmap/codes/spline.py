"""LeTCC: a smoothing spline through the inputs encodes, one through the answers decodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..coding.operators import Operator
from ..coding.points import Points, task_points, worker_points
from ..coding.precision import Precision, curve_precision
from ..coding.spline import GCV_KNOTS, smoother, smoothing_by_gcv
from ..contracts.arguments import is_real
from ..errors import InvalidArgument
from .curves import CurveCode, Order

_STIFFEST = 1e100  # the largest smoothing; the spline is a line long before
Smoothing = float | Literal["gcv"]


@dataclass(frozen=True)
class SplineCode(CurveCode):
    """LeTCC (arXiv 2406.00300): works for any function; every value is an estimate.

    A smoothing spline u_e through the K inputs at the points α_k is evaluated at β_n for worker n;
    a smoothing spline u_d through the received answers, at their β_n, is evaluated at α_k. Both
    minimise ``(1/n) Σ (u(t_i) - y_i)² + λ ∫ u''²`` per coordinate. The code has no standard errors.

    It decodes from one answer on: one gives a constant, two a line. The paper's bound of the mean squared
    error is S³N⁻³ without noise, and S^{8/5}N^{-3/5} with noise and a suitable λ_d above 0.

    Parameters
    ----------
    tasks, workers, stragglers : int
        K inputs a group, N payloads, and S answers that the default stopping rule does not wait for.
    points : {"chebyshev", "uniform"}
        Positions of tasks and workers on [-1, 1]. Chebyshev points as in the paper's experiments.
    encoder_smoothing, decoder_smoothing : float or "gcv"
        λ_e and λ_d. 0 interpolates; ``"gcv"`` chooses one λ for all columns by generalised
        cross-validation, from the inputs or from the answers. For answers with noise of standard
        deviation σ the theory's λ_d is of the order N^{-4/5}; ``"gcv"`` finds it from the data, for at
        most 2,000 points.
    clip : (float, float), optional
        Payloads are kept within these bounds; a spline overshoots the range of its inputs.
    order : {"path"}, optional
        By default the curve takes the inputs of a group in the order given. With ``"path"``
        neighbouring rows share a group, and the curve follows a short path through them (the
        method ``arranged`` says which); `map` returns estimates in the order given. Takes 16·K² bytes.

    Notes
    -----
    With all answers and the identity for fn the inputs come back within 1.5 % of their range
    at N >= 3K, within 30 % at N >= 1.25K; exactly where an α_k and a β_n coincide.
    """

    tasks: int
    workers: int
    stragglers: int
    points: Points = "chebyshev"
    encoder_smoothing: Smoothing = 0.0
    decoder_smoothing: Smoothing = 0.0
    clip: tuple[float, float] | None = None
    order: Order | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_smoothing("encoder_smoothing", self.encoder_smoothing, self.tasks, "tasks")
        _check_smoothing("decoder_smoothing", self.decoder_smoothing, self.workers, "workers")
        task_points(1, self.points)

    def encoder(self, inputs: np.ndarray) -> Operator:
        """The (N, K) smoothing spline from α to β."""
        λ = self.encoder_smoothing
        if λ == "gcv":
            λ = smoothing_by_gcv(self._alpha, inputs)
        return self.kept(("encoder", λ), lambda: smoother(self._alpha, self._beta, λ))

    def decoder(self, answered: tuple[int, ...], answers: np.ndarray) -> Operator:
        """The (K, F) smoothing spline from the responders' β to α."""
        λ = self.decoder_smoothing
        if λ == "gcv":
            λ = smoothing_by_gcv(self._beta[list(answered)], answers)
        return self.kept(
            (answered, λ), lambda: smoother(self._beta[list(answered)], self._alpha, λ)
        )

    def precision(self, answered: tuple[int, ...]) -> Precision | None:
        """Precision of a curve over the task numbers, as the encoder takes these to the workers.

        Over the worker numbers the curve would bend at its ends: it is extrapolated beyond the outermost tasks.
        """
        return curve_precision(self._positions[list(answered)])

    @property
    def _positions(self) -> np.ndarray:
        """The position of each worker among the task numbers, (N,) ascending, with a mean distance of 1."""
        if min(self.tasks, self.workers) == 1:
            return np.arange(float(self.workers))

        def build() -> np.ndarray:
            encoder = self.kept(("encoder", 0.0), lambda: smoother(self._alpha, self._beta, 0.0))
            positions: np.ndarray = (encoder @ np.arange(float(self.tasks))[:, None])[:, 0]
            positions *= (self.workers - 1) / np.ptp(positions)
            return positions

        return self.kept("positions", build)

    @property
    def _alpha(self) -> np.ndarray:
        return self.kept("alpha", lambda: task_points(self.tasks, self.points))

    @property
    def _beta(self) -> np.ndarray:
        return self.kept("beta", lambda: worker_points(self.workers, self.points))


def _check_smoothing(name: str, value: Smoothing, knots: int, points: str) -> None:
    if isinstance(value, str) and value == "gcv":
        if knots > GCV_KNOTS:
            raise InvalidArgument(
                f'{name}="gcv" would solve a dense eigenproblem of {knots} {points}, and {GCV_KNOTS} are the most '
                "it accepts (some seconds): give a number, such as the choice for a part of them"
            )
        return
    number = is_real(value) and isinstance(value, (int, float, np.number))
    if not number or not 0.0 <= value <= _STIFFEST:
        raise InvalidArgument(
            f'{name}={value!r} must be a number from 0 to {_STIFFEST:g}, which gives a line, or "gcv"'
        )
