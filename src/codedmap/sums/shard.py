"""What a worker keeps and what it does with it: the function's values combined, and cut, before they travel."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InvalidAnswer
from .integers import IN_FLOAT, added, common, integral, size, weighted

__all__ = ["Combined", "Piece", "Shard"]


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """The parts that one worker holds, and what it makes of them."""

    worker: int
    parts: tuple[tuple[int, tuple[Any, ...]], ...]
    """Number and items of each; the function is called on each item."""
    coefficients: np.ndarray
    """(d, m), for each of the m slices of a part's value."""
    narrow: bool
    """Whether answers may travel in the values' own precision; else in double precision."""


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """What a worker answers."""

    values: np.ndarray
    """(ceil(l / m),) for a sum of l numbers."""
    shape: tuple[int, ...]
    """Of the sum."""
    dtype: np.dtype[Any]
    """Of the function's values."""
    rounded: int = 0
    """The largest integer, in size, that had to be rounded to floating point; 0 if none had."""
    added: float = 0.0
    """What was added up, without signs, in the entry where it is most; at most so much."""


class Combined:
    """Calls a function on all items of a shard, and combines its values; runs in the worker.

    Parameters
    ----------
    fn : callable
        Item and ``args`` to an array of numbers.
    args : tuple
    """

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._fn = fn
        self._args = args
        functools.update_wrapper(self, fn, updated=())  # engines tell by name what cannot travel

    def __call__(self, shard: Shard) -> Piece:
        first: tuple[int, np.ndarray] | None = None
        total: np.ndarray | None = None
        dtypes = set()
        largest, unsigned = 0, 0.0
        args = _read_only(self._args)
        for (part, items), row in zip(shard.parts, shard.coefficients, strict=True):
            for item in items:
                value = _value(self._fn(_read_only(item), *args), part, shard.worker)
                if first is None:
                    first = part, value
                elif value.shape != first[1].shape:
                    raise InvalidAnswer(
                        f"on worker {shard.worker} fn gave shape {first[1].shape} for part {first[0]} "
                        f"and {value.shape} for part {part}: all parts must give one shape to be added"
                    )
                dtypes.add(value.dtype)
                slices = _slices(value, len(row))
                with np.errstate(over="ignore", invalid="ignore"):
                    unsigned += float(np.abs(row).sum()) * _size(slices)
                    if slices.dtype.kind in "fc":
                        combined = row @ slices
                    elif integral(row):
                        combined = weighted(row[None], slices)[0]
                    else:
                        largest = max(largest, size(slices))
                        combined = row @ slices
                    total = combined if total is None else added(total, combined)
        assert first is not None
        assert total is not None
        dtype = common(*dtypes)
        if total.dtype.kind == "O":
            largest, total = size(total), total.astype(np.float64)
        rounded = largest if largest > IN_FLOAT and dtype.kind not in "fc" else 0
        if shard.narrow and dtype.kind in "fc":
            with np.errstate(over="ignore"):  # told below
                total = total.astype(np.result_type(dtype, np.float32))
        if total.dtype.kind in "fc" and not np.isfinite(total).all():
            raise InvalidAnswer(
                f"on worker {shard.worker} the values of fn, combined, exceed the range of {total.dtype}: "
                "let fn return a wider dtype, or scale it"
            )
        return Piece(total, first[1].shape, dtype, rounded, unsigned)


def _value(answer: Any, part: int, worker: int) -> np.ndarray:
    if np.ma.is_masked(answer):
        raise InvalidAnswer(
            f"on worker {worker} fn returned a masked array for part {part}, entries of which have no value to "
            "add: fill them in fn, with answer.filled(0.0), say"
        )
    try:
        value = np.asarray(answer)
    except Exception as error:
        raise InvalidAnswer(
            f"on worker {worker} fn returned a {type(answer).__name__} for part {part}, which cannot be "
            f"made an array: {error}. Return one array of numbers; join several into one"
        ) from error
    if value.dtype.kind not in "biufc":
        raise InvalidAnswer(
            f"on worker {worker} fn returned a {type(answer).__name__} of dtype {value.dtype} for part "
            f"{part}: return one array of numbers, which can be added; join several into one"
        )
    if value.dtype.kind in "fc" and not np.isfinite(value).all():
        odd = int((~np.isfinite(value)).sum())
        raise InvalidAnswer(
            f"on worker {worker} fn gave {odd} of {value.size} numbers that are NaN or infinite for part "
            f"{part}: no sum can be told from that; mend fn, or drop what is broken in the part"
        )
    return value


def _slices(value: np.ndarray, count: int) -> np.ndarray:
    """A value as (m, ceil(l / m)) in the widest precision of its kind, the last slice filled up with 0."""
    flat = value.reshape(-1)
    wide = np.result_type(flat.dtype, np.float64)
    if flat.dtype.kind in "biu":  # NumPy would widen uint64 and int64 to float64
        wide = flat.dtype.newbyteorder("=") if flat.dtype.itemsize == 8 else np.dtype(np.int64)
    length = -(-flat.size // count)
    if length * count == flat.size:
        return flat.astype(wide, copy=False).reshape(count, length)
    filled = np.zeros(count * length, wide)
    filled[: flat.size] = flat
    return filled.reshape(count, length)


def _size(slices: np.ndarray) -> float:
    if slices.dtype.kind == "f":  # without an array of absolute values
        return float(max(slices.max(initial=0.0), -slices.min(initial=0.0)))
    return float(size(slices) if integral(slices) else np.abs(slices).max(initial=0.0))


def _read_only(item: Any) -> Any:
    """The same item, its arrays not writable: what fn changed would be wrong in all later sums."""
    if isinstance(item, np.ndarray):
        view = item.view()
        view.flags.writeable = False
        return view
    if type(item) is dict:
        return {key: _read_only(one) for key, one in item.items()}
    if isinstance(item, tuple) and hasattr(item, "_fields"):
        return type(item)(*map(_read_only, item))
    if type(item) in (tuple, list):
        return type(item)(map(_read_only, item))
    return item
