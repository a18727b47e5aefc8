"""Decodes a sum from the workers' partial sums, and rejects answers that contradict the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Set
from itertools import combinations
from math import comb
from statistics import median_low
from typing import Any

import numpy as np

from ..contracts.answers import LARGEST_IN_FLOAT
from ..contracts.sum_code import SumCode
from ..errors import WAIT, InvalidAnswer, NotEnoughAnswers
from .shard import LARGEST, PartialSum, are_integers, largest_magnitude, sum_dtype

_EXACT = 1e-6  # error of weights that is rounding; with a larger one the sum is an estimate
_SETS = 5_000  # sets of workers are tried if there are no more of one size
_DOUBLE = 1e-12  # relative error of a number, below which it has double precision
_ROUNDING = 1e3 * float(np.finfo(np.float64).eps)
"""The largest error of adding up, over the sum of absolute values."""


class SumDecoder:
    """Collects answers, and decodes the sum from those of one shape; ``coefficients`` of each worker: as in its `Shard`."""

    def __init__(self, code: SumCode, coefficients: list[np.ndarray]) -> None:
        self._code = code
        self._coefficients = coefficients
        self._answers: dict[int, PartialSum] = {}
        self._largest: dict[int, float] = {}  # magnitude in each answer
        self._invalid: dict[int, str] = {}
        self.received = 0
        """Bytes of numbers in all answers."""

    def add(self, worker: int, answer: Any) -> None:
        problem = self._problem(answer)
        if problem is None:
            self._answers[worker] = answer
            self._largest[worker] = float(largest_magnitude(answer.values))
            self.received += answer.values.nbytes
        else:
            self._invalid[worker] = problem

    def decodable(self, answered: frozenset[int]) -> bool:
        """Whether the sum can be decoded from the usable ones of these workers' answers."""
        return self._code.decodable(self._usable(answered))

    estimable = decodable

    def worst(self) -> float:
        """The largest standard error of what can be decoded."""
        return 0.0

    def rejected(self, answered: frozenset[int]) -> dict[int, str]:
        """What is wrong with the answers that are not used, by worker."""
        return {
            worker: self._invalid.get(worker) or f"a sum of shape {self._answers[worker].shape}"
            for worker in sorted(answered - self._usable(answered))
        }

    def decode(self, answered: frozenset[int]) -> tuple[np.ndarray, bool]:
        """The sum, and whether it is exact.

        Raises `NotEnoughAnswers` if answers contradict each other, and it is not clear which is wrong, or too few others are
        left; `InvalidAnswer` if the sum exceeds the range of its dtype, or would be exact but for integers that were rounded.
        """
        self._reject_outliers(answered)
        weights = self._code.weights(self._usable(answered))
        partial = [self._answers[worker] for worker in weights]
        matrix = np.stack(list(weights.values()), axis=1)
        with np.errstate(over="ignore", invalid="ignore"):
            slices = matrix @ _stack(partial, matrix)
        shape = partial[0].shape
        value: np.ndarray = slices.reshape(-1)[: int(np.prod(shape, dtype=int))].reshape(shape)
        exact = self._is_exact(weights)
        dtype = sum_dtype([one.dtype for one in partial])
        if are_integers(dtype):
            if exact:
                size = sum(
                    int(np.abs(w).sum()) * self._answers[worker].absolute
                    for worker, w in weights.items()
                    if are_integers(w)
                )
                self._check_integers(value, size, max(one.rounded for one in partial))
            return value, exact
        with np.errstate(over="ignore"):
            value = value.astype(np.result_type(dtype, np.float32))
        if not np.isfinite(value).all():
            raise InvalidAnswer(
                f"the sum exceeds the range of {value.dtype}: let fn return a wider dtype"
            )
        return value, exact

    def nan(self) -> np.ndarray:
        """NaN in the shape of the sum, as far as an answer gives it."""
        answer = next(iter(self._answers.values()), None)
        return np.full(() if answer is None else answer.shape, np.nan)

    def _usable(self, answered: frozenset[int]) -> frozenset[int]:
        """The workers among these whose answer has the most frequent shape, or is still to come."""
        shapes = Counter(answer.shape for answer in self._answers.values())
        most = max(shapes.values(), default=0)
        frequent = [shape for shape, count in shapes.items() if count == most]
        return frozenset(
            worker
            for worker in answered - self._invalid.keys()
            if worker not in self._answers or [self._answers[worker].shape] == frequent
        )

    def _check_integers(self, value: np.ndarray, size: float, rounded: int) -> None:
        """Raise `InvalidAnswer` if integers were rounded in a sum, or have overflown: at most this ``size`` was added up."""
        if all(map(are_integers, self._coefficients)):
            if not are_integers(value) or size > LARGEST:
                raise InvalidAnswer(
                    f"the sum exceeds the range of int64, which ends at {LARGEST:.3e}: {size:.3e} is what its absolute values may add up to. Let fn "
                    "return float64, which rounds, or several smaller integers, such as quotients and remainders by "
                    "2**32"
                )
            return
        largest = max(float(np.abs(value).max(initial=0.0)), rounded)
        if largest > LARGEST_IN_FLOAT:
            raise InvalidAnswer(
                f"the sum exceeds the range in which float64, in which {type(self._code).__name__} adds, holds "
                f"all integers, which ends at {LARGEST_IN_FLOAT:.3e}: {largest:.3e} is the largest number in it, or in "
                "what a worker has added up. Use FractionalRepetition, with which integers stay integers, or let fn "
                "return float64 if rounding does no harm"
            )

    def _reject_outliers(self, answered: frozenset[int]) -> None:
        """Reject the answers that contradict the others; raise if it is not clear which.

        Workers that hold the same parts are compared with each other first, since any such group may have wrong
        answers. Where several could be the wrong ones, and no test separates them, all of them are rejected if
        the sum can be decoded without them: it is the same whichever are wrong.
        """
        usable = self._usable(answered)
        if self._contradiction(usable) is None:
            return
        everyone = range(self._code.workers)
        groups: dict[frozenset[int], set[int]] = {}
        for worker in everyone:
            groups.setdefault(frozenset(self._code.held(worker)), set()).add(worker)
        wrong: set[int] = set()
        sets: list[tuple[int, ...]] = []
        for group in (*groups.values(), set(everyone)):
            left = group & usable - wrong
            sets = self._outliers(left, self._code.stragglers - len(group - left))
            if len(sets) == 1:
                wrong.update(sets[0])
        invalid = dict.fromkeys(wrong, "an answer that contradicts the others")
        if len(sets) != 1:
            suspects = sorted({worker for one in sets for worker in one})
            which = "more than one"
            if suspects:
                least = "one" if len(sets[0]) == 1 else f"at least {len(sets[0])}"
                which = f"{least} of workers {', '.join(map(str, suspects))}"
            if not suspects or not self._code.decodable(usable - wrong - set(suspects)):
                raise NotEnoughAnswers(
                    f"the answers of {len(usable)} workers contradict each other, and {which} must be wrong",
                    WAIT,
                    "let fn give the same value for the same part on every worker (random numbers in it must "
                    "follow from the part and a seed in args)",
                )
            invalid |= dict.fromkeys(suspects, f"{which} must be wrong")
        self._invalid |= invalid

    def _outliers(self, workers: set[int], more: int) -> list[tuple[int, ...]]:
        """The smallest sets without whose answers the others do not contradict each other.

        ``more`` answers than needed identify half as many wrong ones: if two such sets were left out, the others would
        still be enough. In single precision one is looked for: among many sets some agree by chance.
        """
        entry = self._contradiction(workers)
        if entry is None:
            return [()]
        dtype = np.result_type(*(self._answers[worker].dtype for worker in workers))
        double = dtype.kind not in "fc" or np.finfo(dtype).eps < _DOUBLE
        for size in range(1, max(1, more // 2 if double else 1) + 1):
            if comb(len(workers), size) > _SETS:
                break
            rests = {one: workers.difference(one) for one in combinations(sorted(workers), size)}
            few = [one for one, rest in rests.items() if self._contradiction(rest, [entry]) is None]
            found = [one for one in few if self._contradiction(rests[one]) is None]
            if found:
                return found
        return []

    def _contradiction(self, workers: Set[int], entries: Any = slice(None)) -> int | None:
        """Where, among these entries, a combination of answers that must be 0 differs most from 0; None if only by rounding."""
        weights = self._code.parity(frozenset(workers)) if hasattr(self._code, "parity") else {}
        if not weights:
            return None
        partial = [self._answers[worker] for worker in weights]
        row = np.array(list(weights.values()))
        values = _stack(partial, row, entries)
        if are_integers(row, values):  # overflows cancel out in a combination that is 0
            differs = row @ values != 0
            return int(differs.argmax()) if differs.any() else None
        scale = max(self._largest[worker] for worker in weights)
        dtype = np.result_type(*(one.dtype for one in partial))
        # Numbers below the normal ones have fewer digits.
        tiny = float(np.finfo(np.result_type(dtype, np.float32)).tiny)
        if scale <= tiny:
            return None
        digits = np.finfo(dtype if dtype.kind in "fc" else np.float64).eps
        # Terms that cancelled in the answers have left their rounding in them. The median is used,
        # because a wrong answer may claim any magnitude.
        absolute = median_low(one.absolute for one in partial)
        least = max(float(np.sqrt(digits)) * scale, _ROUNDING * absolute, tiny)
        if not np.isfinite(least):  # numbers are near the end of the range
            least = float(np.sqrt(digits)) * scale
        misfit = np.abs(row @ (values / scale))
        worst = int(misfit.argmax())
        largest = float(misfit[worst]) * scale
        return worst if largest > least * float(np.abs(row).sum()) else None

    def _problem(self, answer: Any) -> str | None:
        """Why an answer cannot be used, or None."""
        if not isinstance(answer, PartialSum):
            return f"a {type(answer).__name__}"
        values, length = answer.values, int(np.prod(answer.shape, dtype=int))
        expected = (-(-length // self._code.reduction),)
        if not isinstance(values, np.ndarray) or values.dtype.kind not in "iufc":
            return "no numbers"
        if values.shape != expected:
            return f"{values.shape} numbers instead of {expected}"
        if values.dtype.kind in "fc" and not np.isfinite(values).all():
            return "NaN or infinity"
        return None

    def _is_exact(self, weights: Mapping[int, np.ndarray]) -> bool:
        """Whether each slice of each part has weight 1 in its own sum, and 0 in those of other slices."""
        m = self._code.reduction
        total = np.zeros((self._code.workers, m, m))
        for worker, weight in weights.items():
            held = list(self._code.held(worker))
            total[held] += weight[:, None] * self._coefficients[worker][:, None, :]
        return bool(np.abs(total - np.eye(m)).max() < _EXACT)


def _stack(
    partial: list[PartialSum], weights: np.ndarray, entries: Any = slice(None)
) -> np.ndarray:
    """These entries of the answers side by side, in a dtype in which they can be multiplied by the weights."""
    values = [one.values[entries] for one in partial]
    return np.stack(values, dtype=np.result_type(weights, *values))
