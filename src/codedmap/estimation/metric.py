"""Distances that count some directions of the inputs more than others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .process import Prior

__all__ = ["Metric", "Placed"]

_STEADY = 0.02
"""Of the mean variance along a direction: what each has besides its own."""
_LEAST = 1e-9
"""Of the largest variance: where rounding hides which direction it belongs to."""
_LAST = 3
"""Directions with the least variance, of which those that no known input shows are taken to be."""


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """A linear map: two inputs are as far apart as their images."""

    scales: np.ndarray | None
    """(d,): factors on the columns."""
    directions: np.ndarray | None = None
    """(r, d): orthonormal; None if all count alike."""
    factors: np.ndarray | None = None
    """(r,): on these directions."""
    rest: float = 1.0
    """On all others."""

    @classmethod
    def of(cls, prior: Prior | None, centred: np.ndarray | None) -> Metric | None:
        """That of a prior, None for the usual one.

        Parameters
        ----------
        prior : Prior or None
        centred : ndarray, shape (M, d), or None
            Known inputs less their mean, which a `Prior.power` refers to.
        """
        if prior is None or (prior.scales is None and prior.power == 0.0):
            return None
        scales = None if prior.scales is None else np.array(prior.scales)
        if prior.power == 0.0 or centred is None:
            return cls(scales)
        if scales is not None:
            centred = centred * scales
        variances, vectors = np.linalg.eigh(centred @ centred.T / len(centred))
        kept = variances > _LEAST * variances[-1]
        if not kept.any():  # all known inputs are equal
            return cls(scales)
        variances, vectors = variances[kept], vectors[:, kept]
        directions = (vectors / np.sqrt(variances * len(centred))).T @ centred
        factors = (variances + _STEADY * variances.mean()) ** (prior.power / 2.0)
        # What is typical of a distance stays what it is, and with it what a length means.
        factors *= np.sqrt(variances.sum() / (factors**2 @ variances))
        return cls(scales, directions, factors, float(np.median(factors[:_LAST])))

    def applied(self, rows: np.ndarray) -> np.ndarray:
        """The images (n, d) of rows (n, d)."""
        if self.scales is not None:
            rows = rows * self.scales
        if self.directions is None or self.factors is None:
            return rows
        along = rows @ self.directions.T
        moved: np.ndarray = (
            self.rest * rows + (along * (self.factors - self.rest)) @ self.directions
        )
        return moved


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """Known inputs as a metric sees them."""

    metric: Metric | None
    centre: np.ndarray
    """(d,): their mean, from which distances are best computed."""
    points: np.ndarray
    """(M, d): less that mean."""
    squared: np.ndarray
    """(M, M): squared distances between them."""

    @classmethod
    def of(cls, inputs: np.ndarray, prior: Prior) -> Placed:
        """Inputs (M, d) under the metric of a prior."""
        centre = inputs.mean(axis=0)
        points = inputs - centre
        metric = Metric.of(prior, points)
        if metric is not None:
            points = metric.applied(points)
        size = (points**2).sum(axis=1)
        squared = np.maximum(size[:, None] + size - 2.0 * (points @ points.T), 0.0)
        np.fill_diagonal(squared, 0.0)
        return cls(metric, centre, points, squared)

    def seen(self, rows: np.ndarray) -> np.ndarray:
        """Other inputs (n, d), from the mean of those known."""
        rows = rows - self.centre
        return rows if self.metric is None else self.metric.applied(rows)
