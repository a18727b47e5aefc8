"""The rows of a job, however they are given, and batches of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..contracts.inputs import check_unmasked
from ..errors import InvalidArgument

__all__ = ["InputRows"]


class InputRows:
    """Inputs of one length: an array, a list, a data frame, or a tuple of these.

    Parameters
    ----------
    inputs : array-like, list, pandas or polars frame, or tuple of these

    Raises
    ------
    InvalidArgument
        If there are no rows, several inputs differ in length, or it is none of these.
    """

    def __init__(self, inputs: Any) -> None:
        self.several = isinstance(inputs, tuple) and not hasattr(inputs, "_fields")
        """Whether ``fn`` takes several arguments."""
        self._parts = [_part(part) for part in (inputs if self.several else (inputs,))]
        if not self._parts:
            raise InvalidArgument("inputs=() is an empty tuple: give at least one array")
        lengths = [len(part) for part in self._parts]
        if len(set(lengths)) > 1:
            raise InvalidArgument(
                f"the inputs have {', '.join(map(str, lengths))} rows: several inputs are computed row by row, "
                "so all must have the same number. A list of inputs of different kinds is one input: give a list"
            )
        self.rows = lengths[0]
        if self.rows == 0:
            raise InvalidArgument("the inputs are empty: there is nothing to compute")

    def batch(self, at: slice | np.ndarray) -> tuple[Any, ...]:
        """The arguments of ``fn`` for some rows."""
        return tuple(_take(part, at) for part in self._parts)

    @property
    def array(self) -> np.ndarray | None:
        """The inputs, if they are one array of numbers."""
        part = self._parts[0]
        single = len(self._parts) == 1 and isinstance(part, np.ndarray)
        return part if single and part.dtype.kind in "biuf" else None


def _part(part: Any) -> Any:
    check_unmasked(part)
    if hasattr(part, "iloc") or (hasattr(part, "slice") and hasattr(part, "columns")):
        return part  # a pandas frame or series, or a polars frame
    if isinstance(part, list):
        return _from_list(part)
    if isinstance(part, np.ndarray) or hasattr(part, "__array__"):
        array = np.asarray(part)
        if array.ndim == 0:
            raise InvalidArgument(
                f"inputs must be an array with a row per input, but this is a single {type(part).__name__}"
            )
        return array
    if (
        hasattr(part, "__len__")
        and hasattr(part, "__getitem__")
        and not isinstance(part, str | bytes | dict)
    ):
        return _from_list([part[i] for i in range(len(part))])
    hint = "list(inputs)" if hasattr(part, "__iter__") else "[inputs]"
    raise InvalidArgument(
        f"inputs are a {type(part).__name__}: give an array, a list, a data frame, or a tuple of these, such as "
        f"{hint}"
    )


def _from_list(part: list[Any]) -> Any:
    """The array that a list of numbers or of equal rows is, or else the list."""
    try:
        array = np.asarray(part)
    except ValueError:  # of different shapes
        return part
    return array if array.dtype.kind in "biufc" else part


def _take(part: Any, at: slice | np.ndarray) -> Any:
    if isinstance(part, np.ndarray):
        return part[at]
    if isinstance(part, list):
        return part[at] if isinstance(at, slice) else [part[i] for i in at]
    return part.iloc[at] if hasattr(part, "iloc") else part[at]
