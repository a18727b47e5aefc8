"""Answers known beforehand, which stand behind every later group."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular

from ..errors import InvalidAnswer, InvalidArgument
from .directions import likeliest
from .metric import Placed
from .observations import condensed
from .process import Prior, correlation, equal_payloads

__all__ = ["Background", "Known", "flat"]

_TELLING = 256
"""Answers that tell a prior."""
_MANY = 20
"""Known answers from which their leave-one-out residuals tell a variance."""
_AROUND, _STEADY = 6, 2.0
"""Known answers that a local scale reaches to, and how many the scale of all is worth beside them."""


class Known:
    """Inputs whose answers are known, for a code to start from.

    Parameters
    ----------
    inputs : array-like, shape (M, *x)
    answers : array-like, shape (M, *y)
        What the function gives for them; rows that are not finite are left out.
    """

    def __init__(self, inputs: Any, answers: Any) -> None:
        try:
            rows, given = np.asarray(inputs), np.asarray(answers)
        except ValueError as error:
            raise InvalidArgument(
                "known inputs and answers must be arrays: all rows must have the same shape"
            ) from error
        if rows.ndim == 0 or given.ndim == 0 or len(rows) != len(given) or len(rows) < 3:
            raise InvalidArgument(
                f"inputs of shape {rows.shape} and answers of shape {given.shape} must have the "
                "same number of rows, at least 3"
            )
        points, values = flat(rows), flat(given)
        sound = np.isfinite(points).all(axis=1) & np.isfinite(values).all(axis=1)
        if sound.sum() < 3:
            raise InvalidArgument(
                f"{sound.sum()} of {len(rows)} rows are finite, and at least 3 are needed"
            )
        self.inputs = np.array(points[sound])
        """(M, d) float64, complex numbers as pairs."""
        self.answers = np.array(values[sound])
        """(M, q) float64."""
        self.inputs.flags.writeable = self.answers.flags.writeable = False

    def __len__(self) -> int:
        return len(self.inputs)

    def __repr__(self) -> str:
        return f"<Known: {len(self)} answers>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Known) and self._digest == other._digest

    def __hash__(self) -> int:
        return hash(self._digest)

    @cached_property
    def _digest(self) -> bytes:
        digest = hashlib.blake2b(repr((self.inputs.shape, self.answers.shape)).encode())
        digest.update(self.inputs.tobytes())
        digest.update(self.answers.tobytes())
        return digest.digest()

    def placed(self, prior: Prior) -> Placed:
        """The inputs in the metric of a prior."""
        cache: dict[object, Placed] = self.__dict__.setdefault("_placed", {})
        metric = prior.scales, prior.power
        if metric not in cache:
            if len(cache) > 1:
                cache.clear()
            cache[metric] = Placed.of(self.inputs, prior)
        return cache[metric]

    def check(self, inputs: np.ndarray) -> None:
        """Raise `InvalidArgument` unless inputs (K, B, *x) have as many numbers as those known."""
        if inputs.dtype.kind not in "biufc":
            raise InvalidArgument(
                f"inputs of dtype {inputs.dtype} have no distance from the {len(self)} known ones: "
                "leave known out"
            )
        numbers = int(np.prod(inputs.shape[2:], dtype=int)) * (2 if inputs.dtype.kind == "c" else 1)
        if numbers != self.inputs.shape[1]:
            raise InvalidArgument(
                f"inputs of {numbers} numbers each do not fit the {len(self)} known ones of "
                f"{self.inputs.shape[1]}: they must be of the same function"
            )

    def check_answers(self, columns: int) -> None:
        """Raise `InvalidAnswer` unless answers have as many real numbers as those known."""
        if columns != self.answers.shape[1]:
            raise InvalidAnswer(
                f"answers of {columns} numbers each do not fit the {len(self)} known ones of "
                f"{self.answers.shape[1]}: known answers must be of the function that is mapped"
            )

    @cached_property
    def likeliest(self) -> Prior:
        """The prior under which these answers are most likely."""
        some = slice(None, None, -(-len(self) // _TELLING))
        answers = self.answers[some] - self.answers[some].mean(axis=0)
        answers /= np.maximum(
            np.abs(answers).max(axis=0), np.finfo(float).tiny
        )  # squares of tiny ones are 0
        deviation = answers.std(axis=0)
        answers = condensed((answers / np.where(deviation > 0.0, deviation, 1.0))[None])
        return likeliest(self.inputs[some], answers, self.answers.shape[1])

    @classmethod
    def of(cls, result: Any, inputs: Any, before: Known | None = None, most: int = 256) -> Known:
        """The exact rows of a result, the newest ``most`` together with those known before."""
        rows = np.asarray(inputs)
        if len(rows) != len(result.values):
            raise InvalidArgument(
                f"{len(rows)} inputs do not belong to a result of {len(result.values)} rows"
            )
        sure = np.flatnonzero(result.exact)[-most:]
        points, values = flat(rows[sure]), flat(result.values[sure])
        if before is not None:
            before.check(rows[:, None])
            points = np.concatenate([before.inputs, points])[-most:]
            values = np.concatenate([before.answers, values])[-most:]
        return cls(points, values)

    def under(self, prior: Prior) -> Background:
        """What these answers say of all others, under a prior."""
        cache: dict[Prior, Background] = self.__dict__.setdefault("_backgrounds", {})
        if prior not in cache:
            if len(cache) > 1:  # lies may be judged under another prior than estimates are made
                cache.clear()
            cache[prior] = Background.of(self, prior)
        return cache[prior]

    def __getstate__(self) -> dict[str, Any]:
        return {"inputs": self.inputs, "answers": self.answers}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.inputs.flags.writeable = self.answers.flags.writeable = False


@dataclass(frozen=True, slots=True, eq=False)
class Background:
    """A Gaussian process conditioned on known answers: the mean and covariance it leaves."""

    placed: Placed
    prior: Prior
    whitener: np.ndarray
    """(M, M): L⁻¹ of C = LLᵀ."""
    ones: np.ndarray
    """(M,): L⁻¹1."""
    rest: np.ndarray
    """(M, q): L⁻¹(y - mean)."""
    mean: np.ndarray
    """(q,): the constant."""
    variance: np.ndarray
    """(q,): s² of each output. Of many answers the mean of what each is off from what the others
    predict, squared, over what was to be expected: where a process is not quite what the function
    is, this is nearer to the errors to come than the likeliest s² (Bachoc 2013, Cross validation and
    maximum likelihood estimations of hyper-parameters of Gaussian processes with model
    misspecification). Equal inputs, which predict each other, would make it too small."""
    surprise: np.ndarray
    """(M,): squared error of each answer as the others predict it, over what was to be expected; the
    mean over the outputs, relative to that of all answers."""

    @classmethod
    def of(cls, known: Known, prior: Prior) -> Background:
        placed = known.placed(prior)
        covariance = correlation(placed.squared, prior)
        covariance[np.diag_indices(len(known))] = 1.0 + prior.noise
        # Differences of numbers near 1 come of what follows: with L⁻¹ they lose half the digits
        # that they would lose with C⁻¹.
        factor = np.linalg.cholesky(covariance)
        whitener = solve_triangular(factor, np.eye(len(known)), lower=True)
        ones = whitener.sum(axis=1)
        whitened = whitener @ known.answers
        mean = ones @ whitened / (ones @ ones)
        rest = whitened - ones[:, None] * mean
        precision = (whitener**2).sum(axis=0) - (whitener.T @ ones) ** 2 / (ones @ ones)
        precision = np.maximum(precision, np.finfo(float).eps * precision.max())
        squares = (whitener.T @ rest) ** 2 / precision[:, None]
        surprise = squares.mean(axis=1)
        variance = (rest**2).sum(axis=0) / (len(known) - 1)
        if len(known) >= _MANY and equal_payloads(placed.squared[None]) is None:
            variance = squares.mean(axis=0)
        usual = surprise.mean()
        surprise = surprise / usual if usual > 0.0 else np.ones(len(known))
        return cls(placed, prior, whitener, ones, rest, mean, variance, surprise)

    def whitened(self, products: np.ndarray, size: np.ndarray) -> np.ndarray:
        """L⁻¹k (B, P, M) of points given by their products with the known inputs and |x|²."""
        near = correlation(self._squared(products, size), self.prior)
        whitened: np.ndarray = near @ self.whitener.T
        return whitened

    def local(self, products: np.ndarray, size: np.ndarray) -> np.ndarray:
        """How much larger or smaller variances are around these points, (B, P).

        One process has one variance, but functions are steep in some places and flat in others. A
        mean of the known answers' `surprise`, with Gaussian weights that reach to the nearest few,
        steadied by 1.
        """
        squared = self._squared(products, size)
        few = min(_AROUND, squared.shape[2]) - 1
        reach = np.partition(squared, few, axis=2)[:, :, few, None]
        with np.errstate(over="ignore"):
            squared /= np.maximum(reach, np.finfo(float).tiny)
        weights = np.exp(-np.minimum(squared, 700.0))
        steadied: np.ndarray = (_STEADY + weights @ self.surprise) / (_STEADY + weights.sum(axis=2))
        return steadied

    def _squared(self, products: np.ndarray, size: np.ndarray) -> np.ndarray:
        there = (self.placed.points**2).sum(axis=1)
        squared = size[:, :, None] + there - 2.0 * products
        return np.asarray(np.maximum(squared, 0.0, out=squared))


def flat(array: np.ndarray) -> np.ndarray:
    """An array (n, ...) as (n, columns) of float64, complex numbers as pairs of columns."""
    rows = array.reshape(len(array), -1)
    if rows.dtype.kind == "c":
        return np.ascontiguousarray(rows, np.complex128).view(np.float64)
    if rows.dtype.kind not in "fbiu":
        raise InvalidArgument(
            f"an array of dtype {array.dtype} has no distances or means: numbers are needed"
        )
    return rows.astype(np.float64)
