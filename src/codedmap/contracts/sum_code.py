"""The contract between a code and the `sum` door."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np

from ..errors import InvalidArgument
from .arguments import check_whole

__all__ = ["Redundant", "SumCode", "check_sum_budget"]


@runtime_checkable
class SumCode(Protocol):
    """N parts in, N workers; the sum of a function of all parts out, from the answers of some.

    Worker n holds some of the parts. It cuts the function's value at each into ``reduction`` slices
    of equal length, and answers with one linear combination of all these slices. Weights on the
    answers give back the sum of each slice.
    """

    @property
    def workers(self) -> int:
        """N, workers and parts."""
        ...

    @property
    def stragglers(self) -> int:
        """S: the sum can be had from any N - S answers; of many workers very seldom only from one more."""
        ...

    @property
    def reduction(self) -> int:
        """m: an answer has 1/m of the numbers of the sum."""
        ...

    @property
    def amplification(self) -> float:
        """How many times rounding in the answers may come back in the sum; 1 for a plain sum.

        The largest found, for stragglers of which there are too many sets to try.
        """
        ...

    def held(self, worker: int) -> tuple[int, ...]:
        """The d parts that this worker holds."""
        ...

    def coefficients(self, worker: int) -> np.ndarray:
        """Of each slice of each of these parts in this worker's answer, (d, m)."""
        ...

    def decodable(self, answered: frozenset[int]) -> bool:
        """Whether answers of these workers give the sum; more answers never hurt."""
        ...

    def weights(self, answered: frozenset[int]) -> Mapping[int, np.ndarray]:
        """Of each answer in the m slices of the sum: worker to (m,). Those of weight 0 may be left out.

        Raises
        ------
        NotEnoughAnswers
            Where `decodable` is false.
        """
        ...


@runtime_checkable
class Redundant(Protocol):
    """A code that knows what answers have in common where there are more than it needs."""

    def parity(self, answered: frozenset[int]) -> Mapping[int, float]:
        """Random weights with which honest answers add up to 0; none where any answers are possible.

        Where they and the answers are integers, they have to add up to 0 exactly.
        """
        ...


def check_sum_budget(workers: int, stragglers: int, reduction: int = 1) -> None:
    """Raise `InvalidArgument` unless N >= 1, S >= 0, m >= 1 and every worker can hold S + m of N parts."""
    check_whole("workers", workers, 1)
    check_whole("stragglers", stragglers, 0)
    check_whole("reduction", reduction, 1)
    if stragglers + reduction > workers:
        slices = f" and answers of 1/{reduction} of the sum" if reduction > 1 else ""
        raise InvalidArgument(
            f"{stragglers} stragglers{slices} need at least {stragglers + reduction} workers, since "
            f"each part is held by so many, but there are {workers}: use more workers, or fewer "
            "stragglers" + (", or a smaller reduction" if reduction > 1 else "")
        )
