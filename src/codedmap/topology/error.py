"""How the error of learning falls with samples, with connections and with iterations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..contracts.arguments import is_real
from ..errors import InvalidArgument

__all__ = ["MOST", "ErrorModel", "check_amount"]

MOST = 1e15
"""Iterations; more count as never, and are no longer whole numbers in floating point."""


def check_amount(name: str, value: Any, *, above: bool = False) -> float:
    """The value as a float; raises `InvalidArgument` unless it is finite and at least (or above) 0."""
    if not is_real(value) or not 0.0 <= value < np.inf or (above and value == 0.0):
        least = "above 0" if above else "of at least 0"
        raise InvalidArgument(f"{name}={value!r} must be a finite number {least}")
    return float(value)


@dataclass(frozen=True, slots=True)
class ErrorModel:
    """The error after so many iterations, in the unit of the error target.

    ::

        floor + statistical · (iterations · samples)^-exponent + optimisation / √(gap · iterations)

    The first term is what remains however long one learns. The second falls with all samples seen so
    far, as learning curves do; ``samples`` is what the cluster takes in during one iteration. The third
    falls with the iterations, and the slower the worse the learning nodes are connected: ``gap`` is the
    spectral gap of their averaging matrix, 1 for a single node and where all are connected with all.
    Its form is that of the bound on distributed dual averaging of Duchi, Agarwal and Wainwright (2012).
    Fit the numbers to a few runs of your own; none is universal.

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
        for name in ("floor", "statistical", "optimisation"):
            object.__setattr__(self, name, check_amount(name, getattr(self, name)))
        object.__setattr__(self, "exponent", check_amount("exponent", self.exponent, above=True))

    def error(self, samples: Any, gap: float, iterations: Any) -> Any:
        """The error with so many samples an iteration, at this gap, after so many iterations."""
        with np.errstate(divide="ignore", invalid="ignore"):
            seen = np.asarray(iterations, float) * samples
            first = self.statistical * seen**-self.exponent if self.statistical else 0.0 * seen
            value = self.floor + first + self.optimisation / np.sqrt(gap * iterations)
        return float(value) if np.ndim(value) == 0 else value

    def iterations(self, target: float, samples: np.ndarray, gap: float) -> np.ndarray:
        """The fewest whole iterations to an error of at most ``target``, by samples; infinite if never."""
        samples = np.asarray(samples, float)
        never = np.full(samples.shape, np.inf)
        left = target - self.floor
        if left <= 0.0 or gap <= 0.0:
            return never
        # In the logarithm of the iterations each term is a line, and so the logarithm of their sum is
        # convex: Newton's method from the left of its root comes nearer with each step.
        first, able = np.full(samples.shape, -np.inf), np.full(samples.shape, True)
        with np.errstate(divide="ignore"):
            if self.statistical:
                able = samples > 0.0
                first = np.log(self.statistical) - self.exponent * np.log(
                    np.where(able, samples, 1.0)
                )
            second = np.log(self.optimisation) - 0.5 * np.log(gap)
        goal = np.log(left)
        at = np.maximum((first - goal) / self.exponent, (second - goal) / 0.5)
        at = np.maximum(at, 0.0)
        for _ in range(40):
            one, two = first - self.exponent * at, np.full(samples.shape, second) - 0.5 * at
            height = np.logaddexp(one, two)
            if not np.isfinite(height).any():  # no term at all: one iteration does
                break
            share = np.exp(one - height)
            step = (height - goal) / (share * self.exponent + (1.0 - share) * 0.5)
            at = at + np.maximum(step, 0.0)
            if (step <= 1e-13).all():
                break
        count = np.where(able & (at < np.log(MOST)), np.ceil(np.exp(np.minimum(at, 40.0))), np.inf)
        count = np.maximum(count, 1.0)
        finite = np.isfinite(count)
        if finite.any():
            most, some = target * (1.0 + 1e-12), samples[finite]
            found = count[finite]
            found += self.error(some, gap, found) > most
            found -= (found > 1.0) & (self.error(some, gap, np.maximum(found - 1.0, 1.0)) <= most)
            count[finite] = found
        return np.where(finite, count, never)
