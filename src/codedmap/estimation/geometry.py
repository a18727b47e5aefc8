"""How payloads and tasks lie to each other, and to known inputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..coding.ordering import centred_gram
from .cells import Cells
from .known import Known, flat
from .metric import Metric
from .process import Prior, equal_payloads

__all__ = ["Geometry", "Layout"]


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """How the payloads and tasks of some groups lie: all that distances follow from."""

    gram: np.ndarray
    """(B, K, K): of the inputs, seen from the mean of their group."""
    mixing: np.ndarray
    """(B, F, K): payloads as mixtures of inputs."""
    products: np.ndarray | None = None
    """(B, K, M): of the inputs with known ones, seen from the mean of those."""
    size: np.ndarray | None = None
    """(B, K): squared distances from the inputs to that mean."""

    def squared(self) -> tuple[np.ndarray, np.ndarray]:
        """Squared distances between payloads (B, F, F), and from tasks to payloads (B, K, F)."""
        to_tasks = self.mixing @ self.gram
        among = to_tasks @ self.mixing.transpose(0, 2, 1)
        size = np.diagonal(among, axis1=1, axis2=2).copy()
        own = np.diagonal(self.gram, axis1=1, axis2=2)
        among *= -2.0
        among += size[:, :, None]
        among += size[:, None, :]
        across = -2.0 * to_tasks.transpose(0, 2, 1)
        across += own[:, :, None]
        across += size[:, None, :]
        at = np.arange(among.shape[1])
        among[:, at, at] = 0.0
        return np.maximum(among, 0.0, out=among), np.maximum(across, 0.0, out=across)

    def seen(self) -> tuple[np.ndarray, np.ndarray]:
        """Products (B, F, M) of the payloads with known inputs, and their squared distances (B, F)
        from the mean of those.
        """
        assert self.products is not None
        assert self.size is not None
        own = np.diagonal(self.gram, axis1=1, axis2=2)
        inside = np.einsum("bfk,bfk->bf", self.mixing @ self.gram, self.mixing)
        # How much nearer a mixture is to any point than its parts are on average does not depend
        # on the point.
        nearer = (self.mixing @ own[:, :, None])[..., 0] - inside
        size = (self.mixing @ self.size[:, :, None])[..., 0] - nearer
        return self.mixing @ self.products, np.maximum(size, 0.0)


@dataclass(slots=True, eq=False)
class Geometry:
    """The inputs (K, B, *x) of all groups, measured when a distance is first asked for."""

    inputs: np.ndarray
    cells: Cells
    known: Known | None
    prior: Prior | None
    """Whose metric it is; None for the usual one."""
    _whole: Layout | None = None

    def layout(self, slots: np.ndarray, groups: slice) -> Layout:
        """Of what these slots computed in some groups."""
        if self._whole is None:
            self._whole = self._measured()
        whole, mixing = self._whole, self.cells.mixing(slots, groups)
        if whole.products is None or whole.size is None:
            return Layout(whole.gram[groups], mixing)
        return Layout(whole.gram[groups], mixing, whole.products[groups], whole.size[groups])

    def first(self, slots: np.ndarray, groups: slice) -> np.ndarray:
        """Which of these slots computed a payload (B, F) that none before them did."""
        squared = self.layout(slots, groups).squared()[0]
        twins = equal_payloads(squared)
        first = np.ones(squared.shape[:2], dtype=bool)
        return first if twins is None else first & ~np.tril(twins).any(axis=2)

    def unit(self, groups: slice) -> float:
        """A typical distance between the inputs of a group; 1 if they are all equal."""
        gram = self.layout(np.zeros(0, dtype=int), groups).gram
        tasks = gram.shape[1]
        if tasks < 2:
            return 1.0
        norms = np.diagonal(gram, axis1=1, axis2=2)
        one, other = np.triu_indices(tasks, 1)
        squared = norms[:, one] + norms[:, other] - 2.0 * gram[:, one, other]
        # Many inputs may be equal, and none of them tells a distance then.
        apart = squared > 1e-12 * norms.max(axis=1, keepdims=True)
        unit = float(np.sqrt(np.median(squared[apart]))) if apart.any() else 1.0
        return unit if unit > 1e-130 else 1.0

    def _measured(self) -> Layout:
        tasks, groups = self.inputs.shape[:2]
        none = np.zeros((groups, 0, tasks))
        points = self.inputs.reshape(tasks, groups, -1).swapaxes(0, 1)
        if points.dtype.kind not in "biufc":
            # Nothing tells which of them are alike: all are equally far from each other.
            return Layout(np.broadcast_to(0.5 * np.eye(tasks), (groups, tasks, tasks)), none)
        placed = self.known.placed(self.prior) if self.known and self.prior else None
        metric = placed.metric if placed else Metric.of(self.prior, None)
        gram = np.empty((groups, tasks, tasks)) if metric else centred_gram(points)
        if placed is None and metric is None:
            return Layout(gram, none)
        products = np.empty((groups, tasks, len(placed.points) if placed else 0))
        size = np.empty((groups, tasks))
        for group in range(groups):
            rows = flat(points[group])
            if placed:
                rows = placed.seen(rows)
                size[group] = (rows**2).sum(axis=1)
                products[group] = rows @ placed.points.T
            elif metric:
                rows = metric.applied(rows)
            if metric:
                gram[group] = centred_gram(rows[None])[0]
        return Layout(gram, none, products, size) if placed else Layout(gram, none)
