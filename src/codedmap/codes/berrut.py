"""BACC: Berrut's rational interpolant encodes and decodes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..coding.operators import Operator
from ..coding.points import barycentric, task_points, worker_points
from ..coding.spline import DENSE_ENTRIES
from .curves import CurveCode, Order


@dataclass(frozen=True)
class BerrutCode(CurveCode):
    """Berrut approximated coded computing, BACC (arXiv 2009.08327): any function, no parameters.

    Both maps are ``r(z) = Σ w_i y_i / Σ w_i`` with ``w_i = (-1)^i / (z - t_i)``, through the inputs
    at α_k and through the answers at the responders' β_n. The signs alternate over the
    *responders* in order, which keeps the interpolant free of poles; a point on a node takes that
    node's value. The code has no standard errors. The paper's bound of the error falls as 1/N, that of the
    mean squared error as 1/N²; where answers are noisy it does not fall.

    Parameters
    ----------
    tasks, workers, stragglers : int
        K inputs a group, N payloads, and S answers that the default stopping rule does not wait for.
    clip : (float, float), optional
        Payloads are kept within these bounds.
    order : {"path"}, optional
        Neighbouring rows share a group, and the curve follows a short path through them, as in
        `SplineCode`.

    Notes
    -----
    With all answers and the identity for fn the inputs come back within 12 % of their range at
    N >= 3K, within 40 % at N >= 1.25K; exactly where an α_k and a β_n coincide.
    """

    tasks: int
    workers: int
    stragglers: int
    clip: tuple[float, float] | None = None
    order: Order | None = None

    def encoder(self, inputs: np.ndarray) -> Operator:
        """The (N, K) interpolant from α to β."""
        return self.kept(
            "encoder", lambda: _interpolant(task_points(self.tasks), worker_points(self.workers))
        )

    def decoder(self, answered: tuple[int, ...], answers: np.ndarray) -> Operator:
        """The (K, F) interpolant from the responders' β to α."""
        return self.kept(
            answered,
            lambda: _interpolant(
                worker_points(self.workers)[list(answered)], task_points(self.tasks)
            ),
        )


def _interpolant(nodes: np.ndarray, at: np.ndarray) -> Operator:
    if len(nodes) * len(at) <= DENSE_ENTRIES:
        return _weights(nodes, at)
    return _Interpolant(nodes, at)


@dataclass(frozen=True, slots=True, eq=False)
class _Interpolant:
    """An interpolant too large to keep: a few rows at a time are computed when it is applied."""

    nodes: np.ndarray
    at: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.at), len(self.nodes)

    def __matmul__(self, columns: np.ndarray) -> np.ndarray:
        out = np.empty((len(self.at), columns.shape[1]), columns.dtype)
        rows = max(1, DENSE_ENTRIES // len(self.nodes))
        for start in range(0, len(self.at), rows):
            weights = _weights(self.nodes, self.at[start : start + rows])
            out[start : start + rows] = weights.astype(columns.dtype) @ columns
        return out


def _weights(nodes: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Berrut's interpolant from values at ``nodes`` (ascending) to values ``at``, (p, n)."""
    return barycentric(nodes, at, 1.0 - 2.0 * (np.arange(len(nodes)) % 2))
