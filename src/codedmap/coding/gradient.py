"""Gradient codes that are one array of coefficients."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from ..errors import InvalidArgument, NotEnoughAnswers
from .combining import Combiner, straggler_sets

__all__ = ["TOLERANCE", "Drawn", "GradientCode", "best_drawn"]

TOLERANCE = 1e-9
"""How far weights may miss the sum or enlarge the rounding of float64, relative to it."""
_DRAWS = 8
_CONTENT = 1e3


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """Coefficients, what finds weights for them, and the longest weights that were found."""

    coefficients: np.ndarray
    combiner: Combiner
    longest: float
    off: float
    """By how much these miss the target or enlarge rounding, relative to it."""


def best_drawn(
    draw: Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]],
    target: np.ndarray,
    rank: int,
    seed: int,
    draws: int = _DRAWS,
) -> Drawn:
    """Of several draws of coefficients, and the same as rows of unit length, that of the shortest weights."""
    best: Drawn | None = None
    for number in range(draws):
        coefficients, rows = draw(np.random.default_rng((seed, number)))
        combiner = Combiner(rows, target, rank)
        longest, off = combiner.longest(straggler_sets(len(rows), len(rows) - rank))
        if best is None or longest < best.longest:
            best = Drawn(coefficients, combiner, longest, off)
        if longest <= _CONTENT:
            break
    assert best is not None
    return best


class GradientCode(abc.ABC):
    """A sum code with coefficients in which any N - S workers' span the sum.

    Derive from it as a frozen dataclass with the fields ``workers``, ``stragglers``, ``reduction``
    (or a property) and ``seed``, and call `check` when it is made.
    """

    workers: int
    stragglers: int
    reduction: int
    seed: int

    random: ClassVar[bool] = True

    @abc.abstractmethod
    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Coefficients (N, N, m): of slice v of part j in the answer of worker n."""

    @abc.abstractmethod
    def instead(self) -> str:
        """What to use where this code is refused."""

    @property
    def load(self) -> int:
        """S + m: parts that each worker holds, the fewest possible."""
        return self.stragglers + self.reduction

    @property
    def amplification(self) -> float:
        """How many times rounding in the answers may come back in the sum, ‖a‖/√N; 1 for a plain sum.

        ‖a‖ is the length of the weights, worker n's coefficients being of length 1. The largest of
        all sets of S stragglers, or where there are more than 500 of all runs and 500 others.
        """
        return self._made.longest / math.sqrt(self.workers)

    def held(self, worker: int) -> tuple[int, ...]:
        """Parts n, n + 1, … n + d - 1, counted around."""
        return tuple((worker + step) % self.workers for step in range(self.load))

    def coefficients(self, worker: int) -> np.ndarray:
        """Of each slice of each of these parts in this worker's answer, (d, m)."""
        return self._made.coefficients[worker, list(self.held(worker))]

    def decodable(self, answered: frozenset[int]) -> bool:
        """Whether answers of these workers give the sum, without too large weights."""
        return self._weights(answered) is not None

    def weights(self, answered: frozenset[int]) -> Mapping[int, np.ndarray]:
        """Of each answer in the m slices of the sum: worker to (m,)."""
        found = self._weights(answered)
        if found is None:
            told = f"{len(answered)} of {self.workers} workers answered, "
            if len(answered) < self.workers - self.stragglers:
                told += f"and {type(self).__name__} needs {self.workers - self.stragglers}"
            else:
                told += "which is enough on paper, but these would enlarge rounding too much"
            raise NotEnoughAnswers(f"{told}: wait longer, or allow more stragglers")
        return {worker: found[:, worker] for worker in sorted(answered)}

    def parity(self, answered: frozenset[int]) -> Mapping[int, float]:
        """Weights with which honest answers add up to 0, if there are more than N - S."""
        missing = sorted(set(range(self.workers)) - answered)
        weights = self._made.combiner.parity(missing)
        return {worker: float(weights[worker]) for worker in np.flatnonzero(weights).tolist()}

    def check(self) -> None:
        """Raise `InvalidArgument` if rounding would be enlarged too much."""
        off = self._made.off
        if off > TOLERANCE / 3:  # those who straggle need not be among the sets that were tried
            raise InvalidArgument(
                f"{self!r} would enlarge rounding errors {self.amplification:.1e} times for some "
                f"stragglers, and miss the sum by {off:.0e} of it: use {self.instead()}"
            )

    @cached_property
    def _made(self) -> Drawn:
        n, m = self.workers, self.reduction

        def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
            drawn = self.draw(rng)
            drawn = drawn / np.linalg.norm(drawn, axis=(1, 2), keepdims=True)
            return drawn, drawn.reshape(n, n * m)

        target = np.tile(np.eye(m), n)
        return best_drawn(
            draw, target, n - self.stragglers, self.seed, _DRAWS if self.random else 1
        )

    @cached_property
    def _known(self) -> dict[frozenset[int], np.ndarray | None]:
        return {}

    def _weights(self, answered: frozenset[int]) -> np.ndarray | None:
        known = self._known
        if len(known) >= 1024:
            known = self.__dict__["_known"] = {}  # and not cleared, as other threads may read it
        if answered not in known:
            missing = sorted(set(range(self.workers)) - answered)
            weights, off = self._made.combiner.weights(missing)
            known[answered] = weights if off <= TOLERANCE else None
        return known[answered]

    def __getstate__(self) -> dict[str, Any]:
        return {
            name: value for name, value in vars(self).items() if name not in ("_made", "_known")
        }
