"""What runs on a worker for `sum`: the function's values at its parts, combined into one answer."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..contracts.answers import LARGEST_IN_FLOAT
from ..contracts.inputs import array_of
from ..errors import InvalidAnswer

LARGEST = int(np.iinfo(np.int64).max)  # the largest integer in a sum of integers


def are_integers(*arrays: Any) -> bool:
    """Whether all of these arrays, or dtypes, are of integers or booleans."""
    return all(getattr(array, "dtype", array).kind in "biu" for array in arrays)


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """The parts that one worker holds, and how their values are combined."""

    worker: int
    parts: tuple[tuple[int, tuple[Any, ...]], ...]
    """The number and the items of each of d parts; the function is called on each item."""
    coefficients: np.ndarray
    """(d, m): for each part, those of the m slices of its value."""
    narrow: bool
    """If True, answers are sent in the values' own precision; else in double precision."""


@dataclass(frozen=True, slots=True, eq=False)
class PartialSum:
    """A worker's answer: a linear combination of the slices of its parts' values."""

    values: np.ndarray
    """(ceil(l / m),) for a sum of l numbers."""
    shape: tuple[int, ...]
    """Shape of the sum."""
    dtype: np.dtype[Any]
    """Dtype of the function's values."""
    rounded: int = 0
    """The largest magnitude of an integer that was rounded to floating point; 0 if none was."""
    absolute: float = 0
    """An upper bound of the sum of absolute values that were added in any one entry; of integers a whole number."""


class CombinedFunction:
    """Calls a function of an item and ``args`` on all items of a shard, and combines its values; runs in the worker."""

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._fn = fn
        self._args = args
        functools.update_wrapper(self, fn, updated=())  # errors of engines name the function

    def __call__(self, shard: Shard) -> PartialSum:
        total: Any = None
        dtypes = set()
        # Python's integers, because they do not overflow.
        largest, absolute = 0, 0
        for value, row in self._values(shard):
            dtypes.add(value.dtype)
            size = largest_magnitude(value)
            absolute += np.abs(row).sum().item() * size
            exactly = are_integers(value, row) and absolute <= LARGEST
            if are_integers(value) and not exactly:
                largest = max(largest, size)
            slices = _slices(value, len(row), np.int64 if exactly else np.float64)
            with np.errstate(over="ignore", invalid="ignore"):
                combined = row @ slices
                total = combined if total is None else total + combined
        assert total is not None
        dtype = sum_dtype(dtypes)
        rounded = largest if largest > LARGEST_IN_FLOAT and are_integers(dtype) else 0
        if shard.narrow and dtype.kind in "fc":
            with np.errstate(over="ignore"):  # raises below
                total = total.astype(np.result_type(dtype, np.float32))
        if total.dtype.kind in "fc" and not np.isfinite(total).all():
            raise InvalidAnswer(
                f"on worker {shard.worker} the values of fn, combined, exceed the range of {total.dtype}: "
                "let fn return a wider dtype, or scale it"
            )
        return PartialSum(total, value.shape, dtype, rounded, absolute)

    def _values(self, shard: Shard) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The function's value at each item, and the coefficients of its slices."""
        first: tuple[int, tuple[int, ...]] | None = None
        args = read_only(self._args)
        for (part, items), row in zip(shard.parts, shard.coefficients, strict=True):
            for item in items:
                value = _checked_value(self._fn(read_only(item), *args), part, shard.worker)
                first = first or (part, value.shape)
                if value.shape != first[1]:
                    raise InvalidAnswer(
                        f"on worker {shard.worker} fn gave shape {first[1]} in part {first[0]} "
                        f"and {value.shape} in part {part}: return one shape for all, so that they can be added"
                    )
                yield value, row


def _checked_value(answer: Any, part: int, worker: int) -> np.ndarray:
    what = f"the {type(answer).__name__} that fn returned for part {part} on worker {worker}"
    step = "Return one array of numbers; join several into one"
    value = array_of(answer, what, InvalidAnswer, step)
    if value.dtype.kind not in "biufc":
        raise InvalidAnswer(
            f"on worker {worker} fn returned a {type(answer).__name__} of dtype {value.dtype} for part "
            f"{part}: return one array of numbers (integers of at most 64 bits), which can be added; join several into one"
        )
    if value.dtype.kind in "fc" and not np.isfinite(value).all():
        bad = int((~np.isfinite(value)).sum())
        raise InvalidAnswer(
            f"on worker {worker} fn gave {bad} of {value.size} numbers that are NaN or infinite for part "
            f"{part}, which have no sum: repair fn, or remove the invalid data from the part"
        )
    return value


def sum_dtype(dtypes: Collection[np.dtype[Any]]) -> np.dtype[Any]:
    """The dtype of a sum of numbers of these dtypes; int64 of integers, for which NumPy may take uint64 or float64."""
    return np.dtype(np.int64) if are_integers(*dtypes) else np.result_type(*dtypes)


def largest_magnitude(value: np.ndarray) -> Any:
    """The largest magnitude; of integers a Python integer, because NumPy's may overflow."""
    if not value.size:
        return 0
    if are_integers(value):
        return max(int(value.max()), -int(value.min()))
    with np.errstate(over="ignore"):
        return float(np.abs(value).max())


def _slices(value: np.ndarray, count: int, least: type[np.generic]) -> np.ndarray:
    """A value of l numbers as m slices (m, ceil(l / m)), padded with 0; integers in dtype ``least``, others in a wider one."""
    wide = np.dtype(least) if are_integers(value) else np.result_type(value.dtype, np.float64)
    flat = value.reshape(-1).astype(wide, copy=False)
    lacking = -flat.size % count
    return (np.pad(flat, (0, lacking)) if lacking else flat).reshape(count, -1)


def read_only(item: Any) -> Any:
    """The same item with read-only arrays: a change by fn would spoil all later sums."""
    if isinstance(item, np.ndarray):
        view = item.view()
        view.flags.writeable = False
        return view
    if type(item) is dict:
        return {key: read_only(value) for key, value in item.items()}
    if isinstance(item, tuple) and hasattr(item, "_fields"):
        return type(item)(*map(read_only, item))
    if type(item) in (tuple, list):
        return type(item)(map(read_only, item))
    return item
