"""How the error of learning falls with samples, with connections and with iterations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..contracts.arguments import set_numbers

_MOST = 1e15
"""Iterations; larger numbers are no longer exact in floating point, and count as infinite."""


@dataclass(frozen=True, slots=True)
class ErrorModel:
    """The error after a number of iterations, in the unit of the error target.

    ::

        floor + statistical · (iterations · samples)^-exponent + optimisation / √(gap · iterations)

    The first term remains however long the nodes learn. The second falls with the number of all samples
    seen so far, as learning curves do; ``samples`` is what the cluster takes in during one iteration. The
    third falls with the iterations, more slowly if the learning nodes are badly connected: ``gap`` is the
    spectral gap of their averaging matrix, 1 for a single node and for a complete graph. Its form is that
    of the bound on distributed dual averaging of Duchi, Agarwal and Wainwright (2012). Fit the parameters
    to a few runs of your own; none is universal.

    Parameters
    ----------
    floor : float
        At least 0.
    statistical : float
        The second term after one sample.
    exponent : float
        Above 0; 1/2 for means over independent samples.
    optimisation : float
        The third term after one iteration at a gap of 1.
    """

    floor: float = 0.0
    statistical: float = 1.0
    exponent: float = 0.5
    optimisation: float = 1.0

    def __post_init__(self) -> None:
        set_numbers(self, "floor", "statistical", "optimisation")
        set_numbers(self, "exponent", above=True)

    def error(self, samples: Any, gap: float, iterations: Any) -> Any:
        """The error with this many samples in an iteration, at this gap, after this many iterations."""
        with np.errstate(divide="ignore", invalid="ignore"):
            seen = np.asarray(iterations, float) * samples
            first = self.statistical * seen**-self.exponent if self.statistical else 0.0 * seen
            value = self.floor + first + self.optimisation / np.sqrt(gap * iterations)
        return float(value) if np.ndim(value) == 0 else value

    def iterations(self, target: float, samples: np.ndarray, gap: float) -> np.ndarray:
        """The fewest whole iterations to an error of at most ``target``, by samples; infinite if never."""
        samples = np.asarray(samples, float)
        if target <= self.floor or gap <= 0.0:
            return np.full(samples.shape, np.inf)
        able = samples > 0.0 if self.statistical else np.full(samples.shape, True)
        exponent = self._log_iterations(target - self.floor, np.where(able, samples, 1.0), gap)
        finite = able & (exponent < np.log(_MOST))
        count = np.where(finite, np.ceil(np.exp(np.minimum(exponent, 40.0))), np.inf)
        count = np.maximum(count, 1.0)
        if finite.any():  # rounding may have made it one too few or too many
            most, some, found = target * (1.0 + 1e-12), samples[finite], count[finite]
            found += self.error(some, gap, found) > most
            found -= (found > 1.0) & (self.error(some, gap, np.maximum(found - 1.0, 1.0)) <= most)
            count[finite] = found
        return count

    def _log_iterations(self, error: float, samples: np.ndarray, gap: float) -> np.ndarray:
        """The logarithm of the iterations after which the second and third term add up to ``error``.

        Each term is a line in it on a logarithmic scale, so the logarithm of their sum is convex, and
        Newton's method from the left of the root approaches it monotonically.
        """
        with np.errstate(divide="ignore"):
            first = np.log(self.statistical) - self.exponent * np.log(samples)
            second = np.log(self.optimisation) - 0.5 * np.log(gap)
        goal = np.log(error)
        at: np.ndarray = np.maximum((first - goal) / self.exponent, (second - goal) / 0.5)
        at = np.maximum(at, 0.0)
        for _ in range(40):
            one, two = first - self.exponent * at, np.full(samples.shape, second) - 0.5 * at
            height = np.logaddexp(one, two)
            if not np.isfinite(height).any():  # both terms are switched off: one iteration suffices
                break
            share = np.exp(one - height)
            step = (height - goal) / (share * self.exponent + (1.0 - share) * 0.5)
            at = at + np.maximum(step, 0.0)
            if (step <= 1e-13).all():
                break
        return at
