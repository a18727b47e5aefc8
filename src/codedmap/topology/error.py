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
        found = np.full(samples.shape, np.inf)
        most = target * (1.0 + 1e-12)  # rounding must not make it one too many
        if target <= self.floor or gap <= 0.0:
            return found
        able = self.error(samples, gap, _MOST) <= most
        samples = samples[able]
        low, high = np.zeros(len(samples)), np.ones(len(samples))
        while (short := self.error(samples, gap, high) > most).any():
            low, high = np.where(short, high, low), np.where(short, 32.0 * high, high)
        while (high - low > 1.0).any():
            middle = np.floor((low + high) / 2.0)
            enough = self.error(samples, gap, middle) <= most
            low, high = np.where(enough, low, middle), np.where(enough, middle, high)
        found[able] = high
        return found
