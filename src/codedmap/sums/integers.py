"""Sums of integers without rounding or overflow, and the dtype that holds the result."""

from __future__ import annotations

from typing import Any

import numpy as np

LARGEST_IN_FLOAT = 2**53
"""The largest number up to which float64 holds every integer."""
_INT64 = np.dtype(np.int64)
_UINT64 = np.dtype(np.uint64)
_LARGEST = np.iinfo(_INT64).max


def all_integers(*arrays: np.ndarray) -> bool:
    """Whether all arrays hold integers: NumPy's, or Python's where those are too small."""
    return all(array.dtype.kind in "iuO" for array in arrays)


def sum_dtype(*dtypes: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of a sum. Signed and unsigned integers give uint64, where NumPy gives float64."""
    dtype = np.result_type(*dtypes)
    if dtype.kind == "f" and all(one.kind in "biu" for one in dtypes):
        return _UINT64
    return dtype


def largest_magnitude(integers: np.ndarray) -> int:
    """The largest absolute value, as a Python integer: NumPy's may overflow."""
    return max(int(integers.max()), -int(integers.min())) if integers.size else 0


def weighted_sums(weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """``weights @ rows`` of integers, (m, k) and (k, l)."""
    if max(1, largest_magnitude(weights)) * sum(map(largest_magnitude, rows)) <= _LARGEST:
        product: np.ndarray = weights.astype(_INT64) @ rows.astype(_INT64, copy=False)
        return product
    return narrow(weights.astype(object) @ rows.astype(object))


def add(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """``first + second``; exact if both hold integers."""
    total: np.ndarray
    if not all_integers(first, second):
        total = _without_objects(first) + _without_objects(second)
    elif largest_magnitude(first) + largest_magnitude(second) <= _LARGEST:
        total = first.astype(_INT64, copy=False) + second.astype(_INT64, copy=False)
    else:
        total = narrow(first.astype(object) + second.astype(object))
    return total


def narrow(integers: np.ndarray) -> np.ndarray:
    """The same integers in int64, else in uint64, else unchanged."""
    low, high = int(integers.min(initial=0)), int(integers.max(initial=0))
    for dtype in (_INT64, _UINT64):
        limits = np.iinfo(dtype)
        if limits.min <= low and high <= limits.max:
            return integers.astype(dtype, copy=False)
    return integers


def fit(total: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray | None:
    """A sum in int64, or in uint64 if that is its `sum_dtype` and it is not negative; else None."""
    total = narrow(total)
    if total.dtype == _INT64 and dtype == _UINT64 and (total >= 0).all():
        return total.astype(_UINT64)
    return total if total.dtype in (_INT64, dtype) else None


def stack(rows: list[np.ndarray]) -> np.ndarray:
    """Rows of integers as one array; NumPy makes floats of int64 and uint64."""
    alike = all(row.dtype == rows[0].dtype for row in rows)
    return np.stack(rows) if alike else np.stack([row.astype(object) for row in rows])


def _without_objects(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64) if array.dtype.kind == "O" else array
