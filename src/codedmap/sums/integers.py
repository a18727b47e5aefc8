"""Integers added without rounding and without overflow, and what can hold the result."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = [
    "IN_FLOAT",
    "added",
    "common",
    "fitting",
    "integral",
    "narrowed",
    "size",
    "stacked",
    "weighted",
]

IN_FLOAT = 2**53
"""The largest number up to which float64 holds every integer."""
_LARGEST = 2**63 - 1
_INT64 = np.dtype(np.int64)
_UINT64 = np.dtype(np.uint64)


def integral(*arrays: np.ndarray) -> bool:
    """Whether all are integers, as NumPy's or, where these cannot hold them, as Python's."""
    return all(array.dtype.kind in "iuO" for array in arrays)


def common(*dtypes: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of sums; of integers that is one of integers, unlike NumPy's for signed and unsigned ones."""
    dtype = np.result_type(*dtypes)
    if dtype.kind == "f" and all(one.kind in "biu" for one in dtypes):
        return _UINT64
    return dtype


def size(integers: np.ndarray) -> int:
    """The largest absolute value, which NumPy's integers may not hold."""
    return max(int(integers.max()), -int(integers.min())) if integers.size else 0


def weighted(weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """``weights @ rows`` of integers, (m, k) and (k, l)."""
    if max(1, size(weights)) * sum(map(size, rows)) <= _LARGEST:
        product: np.ndarray = _as(_INT64, weights) @ _as(_INT64, rows)
        return product
    return narrowed(weights.astype(object) @ rows.astype(object))


def added(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """``first + second``; exact if both are integers."""
    total: np.ndarray
    if first.dtype.kind in "fc" or second.dtype.kind in "fc":
        total = _known(first) + _known(second)
    elif size(first) + size(second) <= _LARGEST:
        total = _as(_INT64, first) + _as(_INT64, second)
    else:
        total = narrowed(first.astype(object) + second.astype(object))
    return total


def narrowed(integers: np.ndarray) -> np.ndarray:
    """In int64, or else in uint64, or else as they are."""
    low, high = int(integers.min()), int(integers.max())
    for dtype in (_INT64, _UINT64):
        limits = np.iinfo(dtype)
        if limits.min <= low and high <= limits.max:
            return integers.astype(dtype)
    return integers


def fitting(total: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray | None:
    """A sum in int64, or in uint64 where `common` said so and it is not negative; None if it does not fit."""
    total = narrowed(total) if total.size else _as(_INT64, total)
    if total.dtype == _INT64 and dtype == _UINT64 and (total >= 0).all():
        return _as(_UINT64, total)
    fits = total.dtype == _INT64 or (total.dtype == _UINT64 and dtype == _UINT64)
    return total if fits else None


def stacked(rows: list[np.ndarray]) -> np.ndarray:
    """Integers side by side; NumPy would make floats of int64 and uint64."""
    alike = all(row.dtype == rows[0].dtype for row in rows)
    return np.stack(rows) if alike else np.stack([row.astype(object) for row in rows])


def _known(array: np.ndarray) -> np.ndarray:
    """In floating point, if they are Python's integers."""
    return array.astype(np.float64) if array.dtype.kind == "O" else array


def _as(dtype: np.dtype[Any], integers: np.ndarray) -> np.ndarray:
    return integers.astype(dtype, copy=False)
