"""BACC: Berrut's rational interpolant encodes and decodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..coding.points import task_points, worker_points
from ..coding.precision import Precision, Windows, curve_precision
from ..coding.spline import DENSE_ENTRIES
from ..contracts.code import check_budget
from .curves import (
    Order,
    OrderedEncoding,
    arranged,
    check_clip,
    check_order,
    clip_payloads,
    encode_along_path,
)
from .linear import LinearCode, LinearEncoding, Operator

__all__ = ["BerrutCode"]


@dataclass(frozen=True)
class BerrutCode(LinearCode):
    """Berrut approximated coded computing, BACC (arXiv 2009.08327): any function, no parameters.

    Both maps are ``r(z) = Σ w_i y_i / Σ w_i`` with ``w_i = (-1)^i / (z - t_i)``, through the inputs
    at α_k and through the answers at the responders' β_n. The signs alternate over the
    *responders* in order, which keeps the interpolant free of poles; a point on a node takes that
    node's value. The code has no standard errors. The error falls as 1/N, but not where answers are
    noisy.

    Parameters
    ----------
    tasks, workers, stragglers : int
        K inputs a group, N payloads, and S answers that the default stopping rule does not wait for.
    clip : (float, float), optional
        Payloads are kept within these bounds.
    order : {"path"}, optional
        The curve follows a short path through the inputs of a group, and neighbouring rows share a
        group, as in `SplineCode`.

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

    def __post_init__(self) -> None:
        check_budget(self.tasks, self.workers, self.stragglers)
        check_clip(self.clip)
        check_order(self.order)

    def arranged(self, rows: np.ndarray) -> np.ndarray | None:
        """With ``order``, the order of rows (m, *x) in which neighbours share a group."""
        return arranged(rows, self.tasks, self.order)

    def encode(  # type: ignore[override]  # another `Encoding` suffices
        self, inputs: np.ndarray
    ) -> LinearEncoding | OrderedEncoding:
        """Encode B groups of K tasks, (K, B, *x); see `LinearCode.encode`."""
        return encode_along_path(self._encode, inputs, self.order)

    def _encode(self, inputs: np.ndarray) -> LinearEncoding:
        return clip_payloads(super().encode(inputs), inputs, self.clip)

    @property
    def looks_at_inputs(self) -> bool:
        """With ``order`` or ``clip``."""
        return self.order is not None or self.clip is not None

    @property
    def looks_at_answers(self) -> bool:
        """False."""
        return False

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

    def precision(self, answered: tuple[int, ...]) -> Precision | Windows | None:
        """Precision of a curve over the worker numbers, along which roughness is even."""
        return curve_precision(np.array(answered, float))

    def shortfall(self, answered: frozenset[int], dtype: np.dtype[Any]) -> str | None:
        """None from one answer on."""
        return None if answered else "it needs at least one answer"


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
    signs = 1.0 - 2.0 * (np.arange(len(nodes)) % 2)
    apart = at[:, None] - nodes
    on_node = apart == 0.0
    weights = signs / np.where(on_node, 1.0, apart)
    weights[on_node.any(axis=1)] = 0.0
    weights[on_node] = 1.0
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))
