"""Checks of numeric arguments."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np

from ..errors import InvalidArgument

MOST_AXES = 60
"""Most axes of inputs and answers: NumPy allows 64, and groups and slots take some."""


def check_whole(name: str, value: Any, least: int) -> int:
    """The value as an int; raises `InvalidArgument` unless it is a whole number of at least this."""
    # To Python durations of NumPy are whole numbers.
    other = isinstance(value, bool | np.timedelta64) or not isinstance(value, Integral)
    if other or value < least:
        raise InvalidArgument(f"{name}={value!r:.80} must be a whole number of at least {least}")
    if isinstance(value, np.integer) and not isinstance(value, np.int64):
        # Codes keep the given number, and arithmetic with it would overflow.
        raise InvalidArgument(
            f"{name}={value!r} is a number of {value.dtype.itemsize} bytes"
            f"{' without a sign' if value.dtype.kind == 'u' else ''}, with which sums overflow: "
            f"use {name}={int(value)}"
        )
    return int(value)


def check_worker(worker: Any, workers: int) -> None:
    """Raise `InvalidArgument` unless a worker's number is below ``workers``, that of an engine."""
    if not isinstance(worker, Integral) or not 0 <= int(worker) < workers:
        raise InvalidArgument(
            f"worker={worker!r} does not exist: the workers of this engine are 0 to {workers - 1}"
        )


def check_number(name: str, value: Any, least: float = 0.0, *, above: bool = False) -> float:
    """The value as a float; raises `InvalidArgument` unless it is finite and at least (or above) this."""
    if not is_real(value) or not least <= value < np.inf or (above and value == least):
        bound = f"{'above' if above else 'of at least'} {least:g}"
        raise InvalidArgument(f"{name}={value!r:.80} must be a finite number {bound}")
    return float(value)


def set_numbers(
    frozen: Any, *names: str, least: float = 0.0, above: bool = False, of: str = ""
) -> None:
    """`check_number` fields of a frozen dataclass, and make them floats, so that equal ones compare and print alike."""
    for name in names:
        value = check_number(of + name, getattr(frozen, name), least, above=above)
        object.__setattr__(frozen, name, value)


def is_real(value: Any) -> bool:
    """Whether the value is a real number that a float can hold; True, False and durations are not."""
    if not isinstance(value, Real) or isinstance(value, bool | np.timedelta64):
        return False
    try:
        float(value)
    except OverflowError:
        return False
    return True
