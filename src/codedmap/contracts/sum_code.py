"""The interface of codes for `sum`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np

from ..errors import InvalidArgument, many
from .arguments import check_whole
from .memory import check_counts


@runtime_checkable
class SumCode(Protocol):
    """N parts in, N workers; the sum of a function of all parts out, from the answers of some.

    Worker n holds some of the parts. It cuts the function's value at each part into ``reduction``
    slices of equal length, and answers with one linear combination of all these slices. The sum of
    each slice is a weighted sum of the answers.

    A code that can check answers against each other, when there are more than it needs, has a method
    ``parity(answered)``: random weights by worker with which correct answers add up to 0, exactly if weights and answers
    are integers; empty if any answers are possible.
    """

    @property
    def workers(self) -> int:
        """N, workers and parts."""

    @property
    def stragglers(self) -> int:
        """S: any N - S answers give the sum; with many workers, rarely, one more is needed."""

    @property
    def reduction(self) -> int:
        """m: an answer has 1/m as many numbers as the sum."""

    @property
    def amplification(self) -> float:
        """The factor by which rounding errors of the answers may grow in the sum; 1 for a plain sum.

        If there are too many sets of stragglers to try them all, the largest factor that was found.
        """

    def held(self, worker: int) -> tuple[int, ...]:
        """The d parts that this worker holds."""

    def coefficients(self, worker: int) -> np.ndarray:
        """Coefficients of each slice of each of these parts in this worker's answer, (d, m)."""

    def decodable(self, answered: frozenset[int]) -> bool:
        """Whether answers of these workers give the sum. True remains true with more answers."""

    def weights(self, answered: frozenset[int]) -> Mapping[int, np.ndarray]:
        """Weights of each answer in the m slices of the sum: worker to (m,).

        Workers whose weights are 0 may be left out.

        Raises
        ------
        NotEnoughAnswers
            Where `decodable` is false.
        """


def check_sum_budget(workers: int, stragglers: int, reduction: int = 1) -> None:
    """Raise `InvalidArgument` unless N >= 1, S >= 0, m >= 1 and every worker can hold S + m of N parts."""
    check_whole("workers", workers, 1)
    check_whole("stragglers", stragglers, 0)
    check_whole("reduction", reduction, 1)
    if stragglers + reduction > workers:
        slices = f" and answers of 1/{reduction} of the sum" if reduction > 1 else ""
        raise InvalidArgument(
            f"for {many(stragglers, 'straggler')}{slices} at least {stragglers + reduction} workers are needed, since "
            f"each part is held by so many, and not {workers}: use more workers, or fewer "
            "stragglers" + (", or a smaller reduction" if reduction > 1 else "")
        )
    check_counts(workers)
