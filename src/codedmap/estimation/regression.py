"""From the answers of a few groups to estimates of their tasks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .geometry import Layout
from .known import Background
from .process import Prior, conditioned, correlation, equal_payloads, inverse

__all__ = ["Regression", "regression"]


@dataclass(frozen=True, slots=True, eq=False)
class Regression:
    """A Gaussian process on some groups before it has seen their answers."""

    covariance: np.ndarray
    """(B, F, F): of the answers, noise included, in units of s²."""
    cross: np.ndarray
    """(B, K, F): of the tasks with the answers."""
    own: np.ndarray
    """(B, K): of the tasks."""
    flat: bool
    """Whether a constant is unknown; known answers settle it."""
    noise: float
    at_payloads: np.ndarray | None
    """(B, F, q): mean before any answer, None for the unknown constant."""
    at_tasks: np.ndarray | None
    """(B, K, q)."""
    local_payloads: np.ndarray
    """(B, F): by how much variances differ from those of the process, see `Background.local`."""
    local_tasks: np.ndarray
    """(B, K)."""
    twins: np.ndarray | None
    """(B, F, F) bool: payloads that are equal, None if no two are."""

    def solved(self, used: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`inverse` of the covariance of the answers used."""
        return inverse(self.covariance.copy(), used, flat=self.flat)

    def operator(
        self, tasks: np.ndarray, used: np.ndarray, solved: tuple[np.ndarray, np.ndarray, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """From answers to estimates of these tasks, and variances in units of s²."""
        cross = self.cross[:, tasks] * used[:, None, :]
        operator, variance = conditioned(self.covariance, cross, self.own[:, tasks], solved)
        if self.flat:  # nobody tells the constant
            variance[~used.any(axis=1)] = np.inf
        return operator, np.maximum(variance, self.noise) * self.local_tasks[:, tasks]


def regression(layout: Layout, prior: Prior, background: Background | None) -> Regression:
    """The process of a prior, or of a prior and known answers, on a layout."""
    among, across = layout.squared()
    twins = equal_payloads(among)
    covariance, cross = correlation(among, prior), correlation(across, prior)
    groups, tasks, payloads = cross.shape
    own = np.ones((groups, tasks))
    local_payloads, local_tasks = np.ones((groups, payloads)), np.ones((groups, tasks))
    at = np.arange(payloads)
    means: list[np.ndarray | None] = [None, None]
    if background is not None and layout.products is not None and layout.size is not None:
        local_payloads = background.local(*layout.seen())
        local_tasks = background.local(layout.products, layout.size)
        to_payloads = background.whitened(*layout.seen())
        to_tasks = background.whitened(layout.products, layout.size)
        means = [near @ background.rest + background.mean for near in (to_payloads, to_tasks)]
        covariance -= to_payloads @ to_payloads.transpose(0, 2, 1)
        cross -= to_tasks @ to_payloads.transpose(0, 2, 1)
        own -= (to_tasks**2).sum(axis=2)
        # What is not known of the constant itself.
        total = background.ones @ background.ones
        short, short_tasks = (1.0 - near @ background.ones for near in (to_payloads, to_tasks))
        covariance += short[:, :, None] * short[:, None, :] / total
        cross += short_tasks[:, :, None] * short[:, None, :] / total
        own = np.maximum(own + short_tasks**2 / total, 0.0)
        covariance[:, at, at] = np.maximum(covariance[:, at, at], 0.0)
    covariance[:, at, at] += prior.noise
    flat = background is None
    return Regression(
        covariance, cross, own, flat, prior.noise, means[0], means[1],
        local_payloads, local_tasks, twins,
    )  # fmt: skip
