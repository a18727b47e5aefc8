"""AMSGrad, on gradients that workers add up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..api.sum import CodedParts
from ..api.sum import sum as added
from ..contracts.stopping import StoppingRule
from .moments import Moments, Rate
from .optimizer import Optimizer
from .step import Step

__all__ = ["AMSGrad"]


class AMSGrad(Optimizer):
    """AMSGrad (Reddi, Kale and Kumar, ICLR 2018, algorithm 2) on a mean over parts.

    m_t = β₁ m_{t-1} + (1 - β₁) g_t; v_t = β₂ v_{t-1} + (1 - β₂) g_t²; v̂_t = max(v̂_{t-1}, v_t);
    weights ← weights - α_t m_t / √v̂_t. There is no bias correction, as in the paper, and v starts at ε
    instead of 0, as in arXiv 2210.07454, so that `SketchedAMSGrad` differs by its sketch alone.

    Parameters
    ----------
    weights : array_like
        Where to start; float32 or float64, of any shape. It is copied.
    learning_rate : float, or callable
        α; or the number of the step, from 1 on, to α_t.
    betas : (float, float)
        β₁ and β₂.
    epsilon : float
        ε, which keeps the divisor from 0; in units of the squared gradient.

    Raises
    ------
    InvalidArgument
        If an argument cannot work.
    """

    def __init__(
        self,
        weights: Any,
        learning_rate: Rate,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
    ) -> None:
        super().__init__(Moments(weights, learning_rate, betas, epsilon))

    def __repr__(self) -> str:
        return f"<AMSGrad: {self._moments}>"

    def _made(
        self,
        gradient: Callable[..., Any],
        parts: CodedParts,
        sent: tuple[Any, ...],
        stop: StoppingRule | None,
    ) -> Step:
        result = added(gradient, parts, args=sent, stop=stop)
        self.update(result.value / len(parts))
        return Step(self.steps, (result,), np.arange(self.weights.size))

    def update(self, gradient: Any) -> None:
        """One step against a gradient that has come in another way.

        Raises
        ------
        InvalidAnswer
            If it is not of the weights' shape, or it or its squares are not finite.
        """
        moments = self._moments
        first, second, largest = moments.after(moments.flat(gradient))
        with np.errstate(over="ignore"):  # told when it is to be applied
            change = moments.rate * first / np.sqrt(largest)
        moments.move((first, second, largest), change)
