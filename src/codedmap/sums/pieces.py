"""Answers that have come for a sum, and what can be made of them."""

from __future__ import annotations

from statistics import median_low
from typing import Any

import numpy as np

from ..contracts.sum_code import Redundant, SumCode
from ..errors import InvalidAnswer, NotEnoughAnswers
from .integers import IN_FLOAT, common, fitting, integral, size, stacked, weighted
from .shard import Piece

__all__ = ["Pieces"]

_EXACT = 1e-6
"""Weights that miss the sum by more than this are no rounding, but meant as an estimate."""
_ROUNDED = 1e3 * float(np.finfo(np.float64).eps)
"""What adding up may be off by, as a share of what is added without signs."""
_TINY = float(np.finfo(np.float64).tiny)
"""Below which numbers have fewer digits."""


class Pieces:
    """Gathers answers; decodes from those of one shape.

    Parameters
    ----------
    code : SumCode
    coefficients : list of ndarray
        Of each worker, as its shard has them.
    """

    def __init__(self, code: SumCode, coefficients: list[np.ndarray]) -> None:
        self._code = code
        self._coefficients = coefficients
        self._good: dict[int, Piece] = {}
        self.odd: dict[int, str] = {}
        """What is wrong with an answer that is not used, by worker."""
        self.received = 0
        """Bytes of numbers in all answers."""

    def add(self, worker: int, answer: Any) -> None:
        """Take an answer."""
        problem = self._problem(answer)
        if problem is None:
            self._good[worker] = answer
            self.received += answer.values.nbytes
        else:
            self.odd[worker] = problem

    def decodable(self, answered: frozenset[int]) -> bool:
        """Whether the usable ones among these, or all that may still come as such, give the sum."""
        return self._code.decodable(self.usable(answered))

    def usable(self, answered: frozenset[int]) -> frozenset[int]:
        """Those of these workers whose answer has the most frequent shape, or has not come yet."""
        shapes: dict[tuple[int, ...], int] = {}
        for piece in self._good.values():
            shapes[piece.shape] = shapes.get(piece.shape, 0) + 1
        most = max(shapes.values(), default=0)
        common = [shape for shape, count in shapes.items() if count == most]
        return frozenset(
            worker
            for worker in answered - self.odd.keys()
            if worker not in self._good or [self._good[worker].shape] == common
        )

    def outvoted(self, answered: frozenset[int]) -> dict[int, str]:
        """What is wrong with the answers that are not used, by worker."""
        left = answered - self.usable(answered)
        return {
            worker: self.odd.get(worker) or f"a sum of shape {self._good[worker].shape}"
            for worker in sorted(left)
        }

    def decode(self, answered: frozenset[int]) -> tuple[np.ndarray, bool]:
        """The sum, and whether it is exact.

        Raises
        ------
        NotEnoughAnswers
            If answers contradict each other, and it is not clear which is wrong, or the others are too few.
        InvalidAnswer
            If the sum exceeds the range of its dtype, or would be exact but for integers that were rounded.
        """
        self._find_liar(answered)
        weights = self._code.weights(self.usable(answered))
        pieces = [self._good[worker] for worker in weights]
        matrix = np.stack(list(weights.values()), axis=1)
        exact = self._is_exact(weights)
        if integral(matrix, *(piece.values for piece in pieces)):
            slices = weighted(matrix, stacked([piece.values for piece in pieces]))
        else:
            with np.errstate(over="ignore", invalid="ignore"):
                slices = matrix @ np.stack(
                    [piece.values for piece in pieces], dtype=_wide(pieces, matrix)
                )
        shape = pieces[0].shape
        value: np.ndarray = slices.reshape(-1)[: int(np.prod(shape, dtype=int))].reshape(shape)
        dtype = common(*(piece.dtype for piece in pieces))
        if dtype.kind not in "fc":
            value = self._integers(value, dtype, pieces, exact=exact)
        else:
            with np.errstate(over="ignore"):
                value = value.astype(np.result_type(dtype, np.float32))
            if not np.isfinite(value).all():
                raise InvalidAnswer(
                    f"the sum exceeds the range of {value.dtype}: let fn return a wider dtype"
                )
        return value, exact

    def _integers(
        self, value: np.ndarray, dtype: np.dtype[Any], pieces: list[Piece], *, exact: bool
    ) -> np.ndarray:
        """A sum of integers in their own dtype, or in floating point if the code multiplies by such numbers."""
        fits = fitting(value, dtype) if integral(value) else None
        if fits is not None:
            return fits
        largest = size(value) if integral(value) else float(np.abs(value).max(initial=0.0))
        rounded = max(piece.rounded for piece in pieces)
        if not integral(value) and (not exact or (largest <= IN_FLOAT and not rounded)):
            return value
        largest = max(largest, rounded)
        told = f"{largest:.3e} is the largest number in it, or in what a worker has added up"
        if all(integral(coefficients) for coefficients in self._coefficients):
            kind = "uint64" if dtype == np.uint64 else "int64"
            raise InvalidAnswer(
                f"the sum exceeds the range of {kind}, which ends at {np.iinfo(kind).max:.3e}: {told}. Let fn "
                "return float64, which rounds, or several smaller integers, such as quotients and "
                "remainders by 2**32"
            )
        raise InvalidAnswer(
            f"the sum exceeds the range in which float64, in which {type(self._code).__name__} adds, holds "
            f"all integers, which ends at {IN_FLOAT:.3e}: {told}. Use FractionalRepetition, with which "
            "integers stay integers, or let fn return float64 if rounding does no harm"
        )

    def unknown(self) -> np.ndarray:
        """NaN in the shape of the sum, if any answer tells it."""
        piece = next(iter(self._good.values()), None)
        return np.full(() if piece is None else piece.shape, np.nan)

    def _find_liar(self, answered: frozenset[int]) -> None:
        """Leave out the answer that contradicts the others; raise if it is not clear which.

        Where several could be it, and no test tells them apart, the sum may still be had without any of
        them: then it is the same whichever it is.
        """
        usable = self.usable(answered)
        if not self._contradict(usable):
            return
        suspects = sorted(w for w in usable if not self._contradict(usable - {w}))
        if len(suspects) == 1:
            self.odd[suspects[0]] = "an answer that contradicts the others"
            return
        who = f"one of workers {', '.join(map(str, suspects))}" if suspects else "more than one"
        if suspects and self._code.decodable(usable - frozenset(suspects)):
            self.odd |= dict.fromkeys(suspects, f"{who} contradicts the others")
            return
        raise NotEnoughAnswers(
            f"the answers of {len(usable)} workers contradict each other, and {who} must be wrong: fn has "
            "to give the same value for the same part on every worker, so let random numbers in it "
            "follow from the part and a seed in args; further answers tell who is wrong"
        )

    def _contradict(self, workers: frozenset[int]) -> bool:
        """Whether a combination of these answers that must be 0 is not, beyond rounding."""
        if not isinstance(self._code, Redundant):
            return False
        weights = self._code.parity(workers)
        if not weights:
            return False
        pieces = [self._good[worker] for worker in weights]
        row = np.array(list(weights.values()))
        if integral(row, *(piece.values for piece in pieces)):
            return bool(weighted(row[None], stacked([piece.values for piece in pieces])).any())
        values = np.stack([piece.values for piece in pieces], dtype=_wide(pieces, row))
        if not values.size:
            return False
        scale = float(np.abs(values).max())
        if scale == 0:
            return False
        dtype = np.result_type(*(piece.dtype for piece in pieces))
        digits = np.finfo(dtype if dtype.kind in "fc" else np.float64).eps
        # What has cancelled out in the answers has left its rounding in them. The middle one, since
        # a liar's may be anything.
        unsigned = median_low(piece.added for piece in pieces)
        least = max(float(np.sqrt(digits)) * scale, _ROUNDED * unsigned, _TINY)
        if not np.isfinite(least):  # of numbers near the end of the range
            least = float(np.sqrt(digits)) * scale
        off = float(np.abs(row @ (values / scale)).max()) * scale
        return off > least * float(np.abs(row).sum())

    def _problem(self, answer: Any) -> str | None:
        if not isinstance(answer, Piece):
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

    def _is_exact(self, weights: Any) -> bool:
        """Whether the weighted coefficients are 1 for each slice of each part in itself, and else 0."""
        m = self._code.reduction
        made = np.zeros((self._code.workers, m, m))
        for worker, weight in weights.items():
            held = list(self._code.held(worker))
            made[held] += weight[:, None] * self._coefficients[worker][:, None, :]
        return bool(np.abs(made - np.eye(m)).max() < _EXACT)


def _wide(pieces: list[Piece], weights: np.ndarray) -> np.dtype[Any]:
    return np.result_type(weights, *(piece.values for piece in pieces))
