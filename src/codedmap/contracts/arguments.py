"""Checks of numeric arguments."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np

from ..errors import InvalidArgument

__all__ = ["check_whole", "is_real"]


def check_whole(name: str, value: Any, least: int) -> int:
    """The value as an int; raises `InvalidArgument` unless it is a whole number of at least this."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise InvalidArgument(f"{name}={value!r} must be a whole number of at least {least}")
    if isinstance(value, np.integer) and not isinstance(value, np.int64):
        # Codes keep the number as it is, and arithmetic with it would overflow.
        raise InvalidArgument(
            f"{name}={value!r} is a number of {value.dtype.itemsize} bytes"
            f"{' without a sign' if value.dtype.kind == 'u' else ''}, with which sums overflow: "
            f"use {name}={int(value)}"
        )
    return int(value)


def is_real(value: Any) -> bool:
    """Whether the value is a real number; True and False are not."""
    return isinstance(value, Real) and not isinstance(value, bool)
