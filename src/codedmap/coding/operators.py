"""Linear maps of columns: applied, remembered, and looked at for what they pass through."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Protocol

import numpy as np

from .buffer import Buffer
from .precision import Precision, Windows

__all__ = [
    "Memory",
    "Operator",
    "apply",
    "in_dtype",
    "telltale",
    "units",
    "values_dtype",
    "width_of",
]

_SMALL = 512  # entries of an operator that is applied by one thread
_ALONE = (1 << 19) - 1  # multiplications up to which OpenBLAS uses one, of real numbers
_WIDE = 1 << 13  # columns at a time where possible


class Operator(Protocol):
    """A linear map of columns: a dense matrix, or factors applied one after the other."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __matmul__(self, columns: Any, /) -> Any: ...


class Room(Protocol):
    """Memory for an array, such as `numpy.empty`."""

    def __call__(self, shape: tuple[int, ...], dtype: np.dtype[Any], /) -> np.ndarray: ...


class Memory:
    """The most recently used operators, at most a hundred, and the memory of the last payloads."""

    def __init__(self) -> None:
        self.payloads = Buffer()
        self._operators: OrderedDict[Hashable, Any] = OrderedDict()
        self.ready: tuple[Any, ...] = (None,)
        self.encoder: tuple[Any, ...] = (None,)
        self.witness: tuple[tuple[int, ...], Precision | Windows | None] = ((), None)

    def get(self, key: Hashable, build: Callable[[], Any]) -> Any:
        operator = self._operators.pop(key, None)
        if operator is None:
            operator = build()
        self._operators[key] = operator
        while len(self._operators) > 100:
            self._operators.popitem(last=False)
        return operator


def values_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Of estimates from answers of this dtype."""
    return dtype if dtype.kind in "fc" else np.dtype(np.float64)


def in_dtype(operator: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """A dense operator in which columns of this dtype are summed."""
    return operator.astype(np.float32 if dtype == np.float16 else dtype, copy=False)


def apply(operator: Operator, columns: np.ndarray, room: Room = np.empty) -> np.ndarray:
    """``operator @ columns`` in the columns' own dtype; a dense one's in a new array or in this room."""
    if columns.dtype == np.float16:  # no BLAS, and too coarse to sum in
        return apply(operator, columns.astype(np.float32)).astype(np.float16)
    if not isinstance(operator, np.ndarray):
        result: np.ndarray = operator @ columns
        return result
    operator = operator.astype(columns.dtype, copy=False)
    made = room((len(operator), *columns.shape[1:]), columns.dtype)
    if columns.ndim != 2 or columns.shape[1] <= width_of(operator):
        return np.matmul(operator, columns, out=made)
    rows, width = _tiles(operator)
    for start in range(0, columns.shape[1], width):
        block = slice(start, start + width)
        part = columns[:, block]
        for some in rows:
            np.matmul(operator[some], part, out=made[some, block])
    return made


def width_of(operator: np.ndarray) -> int:
    """Columns that a dense operator is applied to at a time.

    A small one takes as long as memory does, with one thread or many; but threads of OpenBLAS that
    have helped once keep their cores busy for some 20 ms afterwards, which the workers are waiting for.
    """
    return max(1, _ALONE // operator.size) if 0 < operator.size <= _SMALL else sys.maxsize


def _tiles(operator: np.ndarray) -> tuple[list[slice], int]:
    """Which rows of a small operator to apply together, and to how many columns: few to many.

    Memory is read faster in long stretches, and the columns are read again from the cache.
    """
    count, each = operator.shape
    parts = min(-(-operator.size * _WIDE // _ALONE), max(1, count // 2))
    ends = [count * part // parts for part in range(parts + 1)]
    return list(map(slice, ends, ends[1:])), _ALONE // (-(-count // parts) * each)


def telltale(operator: Operator) -> int | slice:
    """A task whose estimate takes from every answer, so that NaN in any shows; else all tasks."""
    if isinstance(operator, np.ndarray):
        full = operator.all(axis=1)
        if full.any():
            return int(full.argmax())
    return slice(None)


def units(operator: np.ndarray) -> tuple[int | None, ...]:
    """For each row the column of its single 1 among zeros, or None."""
    single = (operator != 0).sum(axis=1) == 1
    column = operator.argmax(axis=1)
    unit = single & (operator[np.arange(len(operator)), column] == 1.0)
    return tuple(int(c) if u else None for c, u in zip(column, unit, strict=True))
