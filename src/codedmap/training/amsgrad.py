"""AMSGrad on sums of gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..api.sum import CodedParts
from ..api.sum import sum as coded_sum
from ..contracts.arguments import check_number, is_real
from ..contracts.inputs import array_of
from ..contracts.stopping import StoppingRule
from ..errors import InvalidAnswer, InvalidArgument
from ..results.sum_result import SumResult
from ..sums.shard import read_only

Rate = float | Callable[[int], float]
Moments = tuple[np.ndarray, np.ndarray, np.ndarray]
"""m, v and v̂, (d,) each."""


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One step: its sum, and which weights it changed; print it for a line."""

    number: int
    """Number of the step, from 1."""
    sum: SumResult
    """Sum of the gradients, or of their sketches."""
    changed: np.ndarray
    """Indices of the changed weights, ascending, in the flattened weights."""

    def __str__(self) -> str:
        state = "exact" if self.sum.exact else "not exact"
        return (
            f"step {self.number}: {self.sum.seconds:.2f} s, sum {state}, {self.sum.received:,} bytes received, "
            f"{self.changed.size:,} weights changed"
        )


class AMSGrad:
    """AMSGrad (Reddi, Kale and Kumar, ICLR 2018, algorithm 2) on a mean over parts.

    m_t = β₁ m_{t-1} + (1 - β₁) g_t; v_t = β₂ v_{t-1} + (1 - β₂) g_t²; v̂_t = max(v̂_{t-1}, v_t);
    weights ← weights - α_t m_t / √v̂_t. There is no bias correction, as in the paper, and v₀ = v̂₀ = ε
    instead of 0, as in arXiv 2210.07454, so that `SketchedAMSGrad` differs by its sketch alone.

    Parameters
    ----------
    weights : array_like
        Where to start; float32 or float64, of any shape. It is copied.
    learning_rate : float, or callable
        α; or a function from the number of the step, from 1 on, to α_t.
    betas : (float, float)
        β₁ and β₂, in [0, 1).
    epsilon : float
        ε, which keeps the divisor from 0; in units of the squared gradient.

    Raises
    ------
    InvalidArgument
        If an argument is invalid.
    """

    def __init__(
        self,
        weights: Any,
        learning_rate: Rate,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
    ) -> None:
        start = _checked_start(weights)
        self._rate = learning_rate
        if not callable(learning_rate):
            self._rate_of(1)
        _check_betas(betas, start.dtype)
        _check_epsilon(epsilon, start.dtype)
        self._betas = betas
        self._shape = start.shape
        self._weights = start.flatten()
        first = np.zeros_like(self._weights)
        second = np.full_like(self._weights, epsilon)
        self._moments: Moments = first, second, second.copy()
        self._steps = 0

    @property
    def weights(self) -> np.ndarray:
        """The current weights, read-only."""
        return np.asarray(read_only(self._weights.reshape(self._shape)))

    @property
    def steps(self) -> int:
        """How many steps were made."""
        return self._steps

    def step(
        self,
        gradient: Callable[..., Any],
        parts: CodedParts,
        *,
        args: tuple[Any, ...] = (),
        stop: StoppingRule | None = None,
    ) -> Step:
        """One step against the mean of the parts' gradients.

        Parameters
        ----------
        gradient : callable
            From a part, the weights and ``args`` to an array of the weights' shape; the ``fn`` of
            `codedmap.sum`.
        parts : CodedParts
        args : tuple
            What changes from step to step besides the weights, such as the step's number as a seed.
        stop : StoppingRule, optional
            As for `codedmap.sum`.

        Returns
        -------
        Step

        Raises
        ------
        NotEnoughAnswers, InvalidAnswer, CannotSend
            As `codedmap.sum`. Nothing has changed then, and the step can be repeated.
        """
        if not callable(gradient):
            raise InvalidArgument(
                f"gradient={gradient!r:.80} must be a function of a part, the weights and args"
            )
        if not isinstance(parts, CodedParts):
            raise InvalidArgument(
                f"parts of type {type(parts).__name__} are not placed, and every step uses them: give "
                "CodedParts(parts, code=..., engine=...)"
            )
        if not isinstance(args, (tuple, list)):
            raise InvalidArgument(
                f"args is of type {type(args).__name__}, and must be a tuple, as args=(number,)"
            )
        result = coded_sum(self._summed(gradient), parts, args=(self.weights, *args), stop=stop)
        mean = self._gradient_of(result.value) / len(parts)
        changed = self._update(self._finite_gradient(mean))
        return Step(self.steps, result, changed)

    def update(self, gradient: Any) -> None:
        """One step against a gradient from another source.

        Raises
        ------
        InvalidAnswer
            If it is not of the weights' shape, or it or its squares are not finite.
        """
        self._update(self._finite_gradient(gradient))

    def _summed(self, gradient: Callable[..., Any]) -> Callable[..., Any]:
        """The function of a part and the weights whose sum the next step needs."""
        return gradient

    def _gradient_of(self, total: np.ndarray) -> np.ndarray:
        """The sum of the gradients, from the sum of the function that `_summed` returns."""
        return total

    def _update(self, gradient: np.ndarray) -> np.ndarray:
        """A step against a finite gradient (d,); returns the indices of the changed weights."""
        moments = self._moments_after(gradient)
        first, _, largest = moments
        with np.errstate(over="ignore"):  # `_apply` raises where the weights become infinite
            change = self._next_rate * first / np.sqrt(largest)
        self._apply(moments, change)
        return np.arange(self._weights.size)

    def _rate_of(self, number: int) -> float:
        """α_t of a step, counted from 1."""
        rate = self._rate(number) if callable(self._rate) else self._rate
        return check_number(f"step {number}: learning_rate", rate, above=True)

    @property
    def _next_rate(self) -> float:
        return self._rate_of(self._steps + 1)

    def _finite_gradient(self, gradient: Any) -> np.ndarray:
        flat = flat_gradient(gradient, self._shape, self._weights.dtype)
        bad = int((~np.isfinite(flat)).sum())
        if bad:
            raise InvalidAnswer(
                f"{bad} of {flat.size} numbers of the gradient are NaN or infinite in "
                f"{flat.dtype}: leave this step out, or scale the loss down"
            )
        return flat

    def _moments_after(self, gradient: np.ndarray) -> Moments:
        """m_t, v_t and v̂_t for a gradient of shape (d,), which are not stored yet; raises `InvalidAnswer` if its squares are infinite."""
        first, second, largest = self._moments
        decay, squared = (self._weights.dtype.type(beta) for beta in self._betas)
        first = decay * first + (1 - decay) * gradient
        with np.errstate(over="ignore", under="ignore"):
            second = squared * second + (1 - squared) * gradient**2
        bad = int(np.isinf(second).sum())
        if bad:  # such a weight would never move again
            raise InvalidAnswer(
                f"the squares of {bad} of {gradient.size} numbers of the gradient, the largest of which is "
                f"{np.abs(gradient).max():.2g}, exceed the range of {gradient.dtype}: scale the loss down"
                + (", or train in float64" if gradient.dtype == np.float32 else "")
            )
        return first, second, np.maximum(largest, second)

    def _apply(self, moments: Moments, change: np.ndarray) -> None:
        """Subtract a change from the weights, and store the moments.

        Raises `InvalidAnswer`, and stores nothing, if the weights would no longer be finite.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            weights = self._weights - change.astype(self._weights.dtype)
        if not np.isfinite(weights).all():
            raise InvalidAnswer(
                f"step {self._steps + 1} would make {(~np.isfinite(weights)).sum()} of {weights.size} weights "
                f"infinite: take a learning rate of less than {self._next_rate:g}"
            )
        self._moments = moments
        self._weights = weights
        self._steps += 1

    def __repr__(self) -> str:
        return f"<AMSGrad: {self._summary()}>"

    def _summary(self) -> str:
        return f"{self._weights.size:,} weights in {self._weights.dtype}, {self._steps} steps made"


def flat_gradient(gradient: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """A gradient in this dtype, (d,), if it has this shape."""
    given = array_of(gradient, "a gradient", InvalidAnswer, "Give one array of the weights' shape")
    if given.shape != shape or given.dtype.kind not in "biuf":
        raise InvalidAnswer(
            f"a gradient of shape {given.shape} and dtype {given.dtype} does not fit weights of shape "
            f"{shape} and dtype {dtype}: give one real number for each"
        )
    with np.errstate(over="ignore"):
        flat: np.ndarray = given.reshape(-1).astype(dtype)
    return flat


def _checked_start(weights: Any) -> np.ndarray:
    start = array_of(weights, "the weights", step="Join several arrays into one")
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
    return start


def _check_betas(betas: Any, dtype: np.dtype[Any]) -> None:
    decays = betas if isinstance(betas, tuple) and len(betas) == 2 else (math.nan,)
    if not all(is_real(beta) and 0 <= beta < 1 for beta in decays):
        raise InvalidArgument(
            f"betas={betas!r} must be a tuple of two numbers of at least 0 and below 1"
        )
    if max(map(dtype.type, decays)) == 1:
        raise InvalidArgument(
            f"betas={betas!r} are 1 in {dtype}, so that new gradients would have no weight: use smaller "
            "ones, or float64"
        )


def _check_epsilon(epsilon: Any, dtype: np.dtype[Any]) -> None:
    check_number("epsilon", epsilon, above=True)
    with np.errstate(over="ignore", under="ignore"):
        rounded = dtype.type(epsilon)
    if not 0 < rounded < np.inf:
        raise InvalidArgument(
            f"epsilon={epsilon!r} is {rounded:g} in {dtype}: use another, or float64"
        )
