"""Answers known beforehand, from which others are estimated as well."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

import numpy as np

from ..coding.operators import as_real
from ..contracts.inputs import check_order, check_plain
from ..contracts.warning import warn_caller
from ..errors import InvalidAnswer, InvalidArgument, many
from ..results.trees import entries_of, leaves, map_leaves, parts_of


class Known:
    """Inputs whose answers are known.

    Parameters
    ----------
    inputs : array-like, shape (M, *x), or tuple of these
    answers : array-like, shape (M, *y), or tuple, dict or dataclass of these
        What the function gives for them; rows that are not finite, or masked, are left out.

    Raises
    ------
    InvalidArgument
        If these are not arrays of numbers of equal length, or fewer than 3 rows are finite.
    """

    def __init__(self, inputs: Any, answers: Any) -> None:
        try:
            (_, rows), (names, given) = _array(inputs), _array(answers)
        except InvalidArgument:
            raise
        except ValueError as error:
            raise InvalidArgument(
                "known inputs and answers must be arrays: all rows must have the same shape"
            ) from error
        if rows.ndim == 0 or given.ndim == 0 or len(rows) != len(given) or len(rows) < 3:
            raise InvalidArgument(
                f"known inputs of shape {rows.shape} and answers of shape {given.shape} must have the "
                "same number of rows, at least 3: give an answer for each, or leave known out"
            )
        points, values = flat(rows), flat(given)
        sound = np.isfinite(points).all(axis=1) & np.isfinite(values).all(axis=1)
        if sound.sum() < 3:
            raise InvalidArgument(
                f"{sound.sum()} of {len(rows)} rows are finite, and at least 3 are needed: give more known answers, or "
                "leave known out"
            )
        self.inputs = np.array(points[sound])
        """(M, d) float64, complex numbers as pairs."""
        self.answers = np.array(values[sound])
        """(M, q) float64."""
        self.names = names
        """Of the answers, if they are a frame or have parts."""
        self.inputs.flags.writeable = self.answers.flags.writeable = False

    def __len__(self) -> int:
        return len(self.inputs)

    def __repr__(self) -> str:
        return f"<Known: {many(len(self), 'answer')}>"

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
                f"inputs of {many(numbers, 'number')} each do not fit the {len(self)} known ones of "
                f"{self.inputs.shape[1]}: give known inputs that are like the inputs, or leave known out"
            )

    def check_answers(self, columns: int) -> None:
        """Raise `InvalidAnswer` unless answers have as many real numbers as those known."""
        if columns != self.answers.shape[1]:
            raise InvalidAnswer(
                f"answers of {many(columns, 'number')} each do not fit the {len(self)} known ones of "
                f"{self.answers.shape[1]}: give answers of the function that is mapped, or leave known out"
            )

    def answers_for(self, outputs: Sequence[str]) -> np.ndarray | None:
        """The answers in the order of these outputs; None, with a warning, if only some names are the same."""
        if not {*outputs} & {*self.names}:
            return self.answers
        if sorted(outputs) == sorted(self.names):
            return self.answers[:, [self.names.index(name) for name in outputs]]
        warn_caller(
            f"known answers are called {', '.join(self.names)}, and those of fn {', '.join(outputs)}: they are not used. "
            "Give them the same names, or leave known out"
        )
        return None

    def joined(self, points: np.ndarray, answers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points (n, d) and answers (n, q) after those known."""
        return np.concatenate([self.inputs, points]), np.concatenate([self.answers, answers])

    def __getstate__(self) -> dict[str, Any]:
        return {"inputs": self.inputs, "answers": self.answers, "names": self.names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.inputs.flags.writeable = self.answers.flags.writeable = False


def _array(given: Any) -> tuple[tuple[str, ...], np.ndarray]:
    """What is given as an array, NaN where it is masked; and the names of its columns, if they have names."""
    if parts_of(given) is not None:
        columns = entries_of(map_leaves(lambda leaf: _array(leaf)[1], given))
        return tuple(columns), np.stack(list(columns.values()), axis=1)
    if np.ma.is_masked(given):
        given = given.astype(np.result_type(given.dtype, np.float16)).filled(np.nan)
    check_plain(given, "known inputs or answers")
    array, names = np.asarray(given), tuple(map(str, getattr(given, "columns", ())))
    with suppress(TypeError, ValueError):  # a frame of floats and flags, say
        array = array.astype(np.float64) if names else array
    return names, array


@np.errstate(under="ignore")
def deviations(answers: np.ndarray) -> np.ndarray:
    """The standard deviation of each output (n, q), whose squares may be too large, or small, for a number."""
    unit = np.maximum(np.abs(answers).max(axis=0), np.finfo(float).tiny)
    return np.asarray((answers / unit).std(axis=0) * unit)


def known_pair(known: Any) -> tuple[Any, Any]:
    """Inputs and answers as ``known=`` is given; raises `InvalidArgument` if these are no pair."""
    try:
        inputs, answers = known
    except (TypeError, ValueError) as error:
        raise InvalidArgument(
            f"known is of type {type(known).__name__}, and must be a pair (X0, y0) of inputs and answers"
        ) from error
    check_order([*leaves(inputs), *leaves(answers)], "known inputs and answers")
    return inputs, answers


def flat(array: np.ndarray) -> np.ndarray:
    """An array (n, ...) as (n, columns) of float64, complex numbers as pairs of columns."""
    if array.dtype.kind not in "fbiuc":
        raise InvalidArgument(
            f"known inputs and answers must be numbers, and an array of them has dtype {array.dtype}: encode them, as by "
            "pandas.get_dummies, or leave known out"
        )
    return as_real(array.reshape(len(array), -1)).astype(np.float64)
