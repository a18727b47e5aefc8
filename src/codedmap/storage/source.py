"""Where the rows of a long run come from: an array that need not fit into memory, or an iterator of batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from ..contracts.arguments import check_whole
from ..contracts.inputs import check_unmasked, shaped_rows
from ..errors import InvalidArgument

__all__ = ["Source"]

_AT_ONCE = 32 << 20
"""Bytes of inputs in a wave, if nothing else is said."""


class Source:
    """Rows in their order, a wave at a time.

    Parameters
    ----------
    given : array-like or iterable of arrays
        With ``shape``, ``dtype`` and slices (NumPy, a memory map, Dask, Zarr, HDF5), or batches of rows.
    tasks : int
        K: waves of an array have a multiple of it, by default.
    rows : int, optional
        Of each wave. By default as many as take 32 MB, in whole chunks where the array has chunks; of
        an iterator, whatever a batch has.

    Raises
    ------
    InvalidArgument
        If it is neither, or has no rows.
    """

    def __init__(self, given: Any, tasks: int, rows: int | None) -> None:
        self.total: int | None = None
        """How many rows there are; None: an iterator will tell in the end."""
        self.form: dict[str, Any] | None = None
        """Shape and dtype of a row; None until an iterator's first batch is there."""
        self._given: Any = None
        self._batches: Iterator[Any] | None = None
        self._left: list[np.ndarray] = []
        self._at = 0
        self._each = None if rows is None else check_whole("rows", rows, 1)
        if isinstance(given, np.ndarray) or all(
            hasattr(given, name) for name in ("shape", "dtype", "__getitem__")
        ):
            shape = tuple(given.shape)
            if not all(isinstance(size, Integral) for size in shape):
                raise InvalidArgument(
                    f"the source has shape {shape}, and how many rows there are must be known: for a Dask "
                    "array call its compute_chunk_sizes() first, or give an iterator of batches"
                )
            if not shape or 0 in shape:
                raise InvalidArgument(
                    f"the source has shape {shape}: it must be an array with a row per input"
                )
            self._given, self.total = given, int(shape[0])
            self.form = _form(shape, given.dtype)
            self._each = self._each or _rows_of(given, tasks)
        elif isinstance(given, Iterable) and not isinstance(given, (str, bytes, dict)):
            self._batches = iter(given)
        else:
            raise InvalidArgument(
                f"source={type(given).__name__} is neither an array with shape, dtype and slices, nor "
                "an iterator of arrays with a row per input"
            )

    @property
    def seeks(self) -> bool:
        """Whether any rows can be read without those before."""
        return self._batches is None

    @property
    def file(self) -> Path | None:
        """Where the rows are, if they are mapped from a file."""
        if not isinstance(self._given, np.memmap) or not isinstance(
            self._given.filename, (str, Path)
        ):
            return None
        return Path(self._given.filename)

    def seek(self, row: int) -> None:
        """Go on reading at this row."""
        self._at = row

    def read(self, rows: int | None = None) -> np.ndarray | None:
        """The rows of the next wave, or so many; fewer at the end, and None after it."""
        wanted = rows or self._each
        if self._batches is None:
            end = min(self._at + (wanted or 1), self.total or 0)
            if end <= self._at:
                return None
            part = shaped_rows(self._given[self._at : end], "source")
            if len(part) != end - self._at:
                raise InvalidArgument(
                    f"rows {self._at:,} to {end - 1:,} of the source are {len(part):,} rows, and by its shape "
                    f"it has {self.total:,} in all: has it become shorter?"
                )
            self._at = end
            return part
        while wanted is None or sum(map(len, self._left)) < wanted:
            batch = next(self._batches, None)
            if batch is None:
                break
            if len(batch := self._checked(batch)):
                self._left.append(batch)
                if wanted is None:
                    break
        if not self._left:
            return None
        whole = self._left[0] if len(self._left) == 1 else np.concatenate(self._left)
        wanted = len(whole) if wanted is None else wanted
        self._left = [whole[wanted:]] if len(whole) > wanted else []
        return whole[:wanted]

    def _checked(self, batch: Any) -> np.ndarray:
        if not hasattr(batch, "shape") or not hasattr(batch, "dtype"):
            raise InvalidArgument(
                f"the source gave a {type(batch).__name__} as a batch, and each must be an array with a "
                "row per input: wrap it in numpy.asarray"
            )
        check_unmasked(batch, "source")
        array = np.asarray(batch)
        if array.ndim == 0:
            raise InvalidArgument("the source gave a single number as a batch: give arrays of rows")
        form = _form(array.shape, array.dtype)
        self.form = self.form or form
        if form != self.form:
            raise InvalidArgument(
                f"the source gave a batch of rows {_told(form)} after others {_told(self.form)}: all "
                "rows must have the same shape and dtype"
            )
        return array


def _form(shape: tuple[int, ...], dtype: Any) -> dict[str, Any]:
    try:
        name = np.dtype(dtype).str
    except TypeError as error:
        raise InvalidArgument(
            f"the source has dtype {dtype!r}, which NumPy does not know: give NumPy arrays, or an iterator of "
            "batches wrapped in numpy.asarray"
        ) from error
    return {"shape": list(map(int, shape[1:])), "dtype": name}


def _told(form: dict[str, Any]) -> str:
    return f"of shape {tuple(form['shape'])} and dtype {np.dtype(form['dtype'])}"


def _rows_of(given: Any, tasks: int) -> int:
    size = int(np.prod(given.shape[1:], dtype=np.int64)) * np.dtype(given.dtype).itemsize
    fits: int = max(1, _AT_ONCE // max(size, 1))
    chunks = getattr(given, "chunks", None)
    if chunks:  # Dask has the lengths of all, Zarr and HDF5 that of one
        chunk: int = max(chunks[0]) if isinstance(chunks[0], tuple) else chunks[0]
        return chunk * max(1, fits // chunk)
    return max(tasks, fits // tasks * tasks)
