"""What Adam-type optimisers keep: weights, their moments, and which step comes next."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..contracts.arguments import is_real
from ..errors import InvalidAnswer, InvalidArgument

__all__ = ["Moments", "Rate", "flattened"]

Rate = float | Callable[[int], float]


class Moments:
    """Weights and moments of AMSGrad, v₀ = v̂₀ = ε; arrays only.

    Parameters
    ----------
    weights : array_like
        float32 or float64, of any shape.
    learning_rate : float, or callable
        The latter: number of the step, from 1 on, to α_t.
    betas : (float, float)
        β₁ and β₂, in [0, 1).
    epsilon : float
        ε, more than 0.
    """

    def __init__(
        self, weights: Any, learning_rate: Rate, betas: tuple[float, float], epsilon: float
    ) -> None:
        if np.ma.is_masked(weights):
            raise InvalidArgument(
                "weights are a masked array, entries of which have no value: start from "
                "weights.filled(0.0), say"
            )
        try:
            start = np.asarray(weights)
        except ValueError as error:
            raise InvalidArgument(
                f"weights are no array: {error}; join several arrays into one"
            ) from error
        if start.dtype not in (np.float32, np.float64) or not start.size:
            raise InvalidArgument(
                f"weights of shape {start.shape} and dtype {start.dtype} cannot be trained: give at "
                "least one number, in float32 or float64"
            )
        if not np.isfinite(start).all():
            raise InvalidArgument(
                f"{(~np.isfinite(start)).sum()} of {start.size} weights are NaN or infinite: start "
                "from finite ones"
            )
        if not callable(learning_rate):
            _checked_rate(learning_rate, 1)
        if not isinstance(betas, tuple) or len(betas) != 2 or not all(map(_is_decay, betas)):
            raise InvalidArgument(f"betas={betas!r} must be two numbers of at least 0 and below 1")
        if not is_real(epsilon) or not 0 < epsilon < math.inf:
            raise InvalidArgument(f"epsilon={epsilon!r} must be a finite number of more than 0")
        _check_kept(start.dtype, betas, epsilon)
        self._rate = learning_rate
        self.betas = betas
        self.shape = start.shape
        self.weights = start.flatten()
        self.first = np.zeros_like(self.weights)
        self.second = np.full_like(self.weights, epsilon)
        self.largest = self.second.copy()
        self.done = 0

    @property
    def rate(self) -> float:
        """α_t of the step that comes next."""
        return self.rate_of(self.done + 1)

    @property
    def shown(self) -> np.ndarray:
        """The weights in their own shape, not writable."""
        view = self.weights.reshape(self.shape)
        view.flags.writeable = False
        return view

    def __str__(self) -> str:
        return f"{self.weights.size:,} weights in {self.weights.dtype}, {self.done} steps made"

    def rate_of(self, number: int) -> float:
        """α_t of a step, counted from 1."""
        given = self._rate(number) if callable(self._rate) else self._rate
        return _checked_rate(given, number)

    def flat(self, gradient: Any) -> np.ndarray:
        """A gradient in the weights' dtype, (d,), if it is one and finite."""
        flat = flattened(gradient, self.shape, self.weights.dtype)
        odd = int((~np.isfinite(flat)).sum())
        if odd:
            raise InvalidAnswer(
                f"{odd} of {flat.size} numbers of the gradient are NaN or infinite in "
                f"{flat.dtype}: no step can be made with it"
            )
        return flat

    def after(self, gradient: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """m_t, v_t and v̂_t from a gradient of shape (d,); nothing is kept yet.

        Raises
        ------
        InvalidAnswer
            If its squares are infinite.
        """
        decay, squared = (self.weights.dtype.type(beta) for beta in self.betas)
        first = decay * self.first + (1 - decay) * gradient
        with np.errstate(over="ignore", under="ignore"):
            second = squared * self.second + (1 - squared) * gradient**2
        odd = int(np.isinf(second).sum())
        if odd:  # such a weight would never move again
            raise InvalidAnswer(
                f"the squares of {odd} of {gradient.size} numbers of the gradient, the largest of which is "
                f"{np.abs(gradient).max():.2g}, exceed the range of {gradient.dtype}: scale the loss down"
                + (", or train in float64" if gradient.dtype == np.float32 else "")
            )
        return first, second, np.maximum(self.largest, second)

    def move(self, moments: tuple[np.ndarray, np.ndarray, np.ndarray], change: np.ndarray) -> None:
        """Subtract a change from the weights, and keep the moments.

        Raises
        ------
        InvalidAnswer
            If weights were no longer finite; nothing is kept then.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            weights = self.weights - change.astype(self.weights.dtype)
        if not np.isfinite(weights).all():
            raise InvalidAnswer(
                f"step {self.done + 1} would make {(~np.isfinite(weights)).sum()} of {weights.size} weights "
                f"infinite: take a learning rate of less than {self.rate:g}"
            )
        self.first, self.second, self.largest = moments
        self.weights = weights
        self.done += 1


def flattened(gradient: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """A gradient in this dtype, (d,), if it has this shape."""
    if np.ma.is_masked(gradient):
        raise InvalidAnswer(
            "a gradient is a masked array, entries of which have no value: fill them, with "
            "gradient.filled(0.0), say"
        )
    given = np.asarray(gradient)
    if given.shape != shape or given.dtype.kind not in "biuf":
        raise InvalidAnswer(
            f"a gradient of shape {given.shape} and dtype {given.dtype} is none for weights of shape "
            f"{shape} and dtype {dtype}: give one real number for each"
        )
    with np.errstate(over="ignore"):
        flat: np.ndarray = given.reshape(-1).astype(dtype)
    return flat


def _check_kept(dtype: np.dtype[Any], betas: tuple[float, float], epsilon: float) -> None:
    """Raise `InvalidArgument` where this precision makes 1 of a decay, or 0 or infinity of ε."""
    with np.errstate(over="ignore", under="ignore"):
        kept = dtype.type(epsilon)
    if not 0 < kept < np.inf:
        raise InvalidArgument(
            f"epsilon={epsilon!r} is {kept:g} in {dtype}: use another, or float64"
        )
    if max(map(dtype.type, betas)) == 1:
        raise InvalidArgument(
            f"betas={betas!r} are 1 in {dtype}, with which nothing new would count: use smaller ones, or float64"
        )


def _is_decay(value: Any) -> bool:
    return is_real(value) and 0 <= value < 1


def _checked_rate(value: Any, number: int) -> float:
    if not is_real(value) or not 0 < value < math.inf:
        raise InvalidArgument(
            f"the learning rate of step {number} is {value!r}: it must be a finite number of more than 0"
        )
    return float(value)
