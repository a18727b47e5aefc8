"""What optimisers on coded parts have in common: weights, and steps against sums."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

import numpy as np

from ..api.sum import CodedParts
from ..contracts.stopping import StoppingRule
from ..errors import InvalidArgument
from .moments import Moments
from .step import Step

__all__ = ["Optimizer"]


class Optimizer(abc.ABC):
    """Weights that move against the mean of the parts' gradients."""

    def __init__(self, moments: Moments) -> None:
        self._moments = moments

    @property
    def weights(self) -> np.ndarray:
        """The weights now, not writable."""
        return self._moments.shown

    @property
    def steps(self) -> int:
        """How many steps were made."""
        return self._moments.done

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
            A part, the weights and ``args`` to an array of the weights' shape; as ``fn`` of `codedmap.sum`.
        parts : CodedParts
        args : tuple
            What changes from step to step beside the weights, such as the step's number as a seed.
        stop : StoppingRule, optional
            As for `codedmap.sum`.

        Returns
        -------
        Step

        Raises
        ------
        NotEnoughAnswers, InvalidAnswer, CannotSend
            As `codedmap.sum`. No step has been made then: call it again.
        """
        _check(gradient, parts, args)
        return self._made(gradient, parts, (self.weights, *args), stop)

    @abc.abstractmethod
    def _made(
        self,
        gradient: Callable[..., Any],
        parts: CodedParts,
        sent: tuple[Any, ...],
        stop: StoppingRule | None,
    ) -> Step:
        """The step; ``sent`` goes to every part."""


def _check(gradient: Any, parts: Any, args: Any) -> None:
    """Raise `InvalidArgument` where a step could not be made."""
    if not callable(gradient):
        raise InvalidArgument(
            f"gradient={gradient!r} must be a function of a part, the weights and args"
        )
    if not isinstance(parts, CodedParts):
        raise InvalidArgument(
            f"parts must be placed once, as CodedParts(parts, code=..., engine=...), not be a "
            f"{type(parts).__name__}: every step uses them"
        )
    if not isinstance(args, (tuple, list)):
        raise InvalidArgument(
            f"args must be a tuple, as args=(number,), not a {type(args).__name__}"
        )
