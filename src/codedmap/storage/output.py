"""Where answers are written: .npy files, and arrays that the caller gives."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from ..errors import InvalidAnswer, InvalidArgument
from ..execution.order import runs_of
from .digest import checksum
from .journal import writing

__all__ = ["Columns", "Form", "GivenOutput", "NpyOutput", "Output", "Runs", "cast", "form_of"]

Columns = dict[str, np.ndarray]
"""The leaves of answers by name, with a row for each input; one array is called "values"."""
Form = dict[str, list[Any]]
"""For each column its dtype, as .npy files put it, and the shape of a row."""
Runs = Sequence[tuple[int, int]]
"""Rows, as `runs_of` gives them."""


class Output(Protocol):
    """What rows are written to, in any order."""

    paths: tuple[Path, ...]
    """What it consists of; the first is what the caller has given. Empty if that is no path."""

    def open(self, form: Form, rows: int, *, new: bool) -> None:
        """Make ready for so many rows of this form; what is there is kept unless ``new``."""
        ...

    def resize(self, rows: int) -> None:
        """There are more rows than were said."""
        ...

    def write(self, runs: Runs, columns: Columns) -> dict[str, Any]:
        """Write rows; what the journal notes of them, among it their checksum."""
        ...

    def check(self, runs: Runs, record: Mapping[str, Any]) -> bool:
        """Whether rows are still what was written; raises anything if they are damaged."""
        ...

    def read(self, rows: np.ndarray) -> Columns:
        """Some rows that were written, by their numbers in ascending order."""
        ...

    def sync(self, status: np.ndarray) -> None:
        """Write the status of all rows, and return when everything will outlive the machine."""
        ...

    def finish(self, status: np.ndarray, stderr: np.ndarray | None) -> tuple[Any, Any]:
        """Complete the output; its values and standard errors, opened for reading."""
        ...

    def seal(self) -> str:
        """A checksum of the finished output, if rows cannot be checked any more after `discard`; else nothing."""
        ...

    def discard(self) -> None:
        """Remove what only a job that goes on needs."""
        ...

    def close(self) -> None:
        """Close what is open."""
        ...


def form_of(columns: Columns) -> Form:
    """What columns look like, as JSON can hold it."""
    return {
        name: [np.lib.format.dtype_to_descr(array.dtype), list(map(int, array.shape[1:]))]
        for name, array in columns.items()
    }


def cast(name: str, array: np.ndarray, dtype: np.dtype[Any], *, rounds: bool) -> np.ndarray:
    """An array in the dtype of an output.

    Raises
    ------
    InvalidAnswer
        If that does not hold its values, or only rounded and not ``rounds``.
    """
    if array.dtype == dtype:
        return array
    rule: Literal["same_kind", "safe"] = "same_kind" if rounds and dtype.kind in "fc" else "safe"
    integers = {array.dtype.kind, dtype.kind} <= {"i", "u"} or array.dtype.kind == dtype.kind == "U"
    with np.errstate(over="ignore"):
        made = array.astype(dtype) if integers or np.can_cast(array.dtype, dtype, rule) else None
    if made is not None:
        same = made == array if integers else np.isfinite(made) == np.isfinite(array)
        if dtype.kind not in "iufcU" or array.dtype.kind not in "iufcU" or np.all(same):
            return made
    raise InvalidAnswer(
        f"fn returned {name} of dtype {array.dtype}, and the output has dtype {dtype}, that of "
        f"{'the array given' if rounds else 'the first answers'}, which does not hold them: return the same dtype for "
        "every row, or give an array as out= that holds all"
    )


class GivenOutput:
    """An array of the caller's with slice assignment: values only, and no journal.

    Parameters
    ----------
    array : array-like
    """

    paths: tuple[Path, ...] = ()

    def __init__(self, array: Any) -> None:
        self._array = array

    def open(self, form: Form, rows: int, *, new: bool) -> None:
        if set(form) != {"values"}:
            raise InvalidAnswer(
                f"fn returned a dict of {', '.join(form)}, and out is one array: give a path ending in .zarr or "
                ".parquet"
            )
        self.resize(rows)
        wanted, has = tuple(form["values"][1]), tuple(self._array.shape)[1:]
        if wanted != has:
            raise InvalidAnswer(
                f"fn returned rows of shape {wanted}, and out has rows of shape {has}: give one that fits"
            )

    def resize(self, rows: int) -> None:
        room = self._array.shape[0] if tuple(self._array.shape) else 0
        if room < rows:
            raise InvalidArgument(
                f"out has room for {room:,} rows, and there are {rows:,}: give it a row for each input"
            )

    def write(self, runs: Runs, columns: Columns) -> dict[str, Any]:
        values, at = columns["values"], 0
        dtype = getattr(self._array, "dtype", None)
        if isinstance(dtype, np.dtype) and dtype.kind != "O":
            values = cast("values", values, dtype, rounds=True)
        for begin, end in runs:
            self._array[begin:end] = values[at : at + end - begin]
            at += end - begin
        return {}

    def check(self, runs: Runs, record: Mapping[str, Any]) -> bool:
        raise AssertionError("an array of the caller's has no journal")

    def read(self, rows: np.ndarray) -> Columns:
        return {"values": np.concatenate([self._array[b:e] for b, e in runs_of(rows)])}

    def sync(self, status: np.ndarray) -> None:
        if hasattr(self._array, "flush"):
            self._array.flush()

    def finish(self, status: np.ndarray, stderr: np.ndarray | None) -> tuple[Any, Any]:
        return self._array, stderr

    def seal(self) -> str:
        return ""

    def discard(self) -> None:
        """There is nothing to remove."""

    def close(self) -> None:
        """It is the caller's."""


class NpyOutput:
    """A .npy file for the values of one array, and others beside it for the status and standard errors.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self.paths: tuple[Path, ...] = (
            path,
            path.with_suffix(".status.npy"),
            path.with_suffix(".stderr.npy"),
        )
        self._values: _NpyFile | None = None
        self._status: _NpyFile | None = None

    def open(self, form: Form, rows: int, *, new: bool) -> None:
        if set(form) != {"values"}:
            raise InvalidAnswer(
                f"fn returned a dict of {', '.join(form)}, and a .npy file holds one array: give a path ending in "
                ".zarr or .parquet"
            )
        descr, shape = form["values"]
        dtype = np.lib.format.descr_to_dtype(descr)
        if dtype.hasobject:
            raise InvalidAnswer(
                "answers are Python objects, which a .npy file cannot hold safely: return numbers or text, or give a path "
                "ending in .parquet for text"
            )
        self._values = _NpyFile(self.paths[0], dtype, tuple(shape), rows, new=new)
        self._status = _NpyFile(self.paths[1], np.dtype(np.int8), (), rows, new=True)

    def resize(self, rows: int) -> None:
        for file in (self._values, self._status):
            if file is not None:
                file.resize(rows)

    def write(self, runs: Runs, columns: Columns) -> dict[str, Any]:
        assert self._values is not None
        return {"values": checksum([self._values.write(runs, columns["values"])])}

    def check(self, runs: Runs, record: Mapping[str, Any]) -> bool:
        assert self._values is not None
        return checksum([self._values.read(runs)]) == str(record["values"])

    def read(self, rows: np.ndarray) -> Columns:
        assert self._values is not None
        return {"values": self._values.read(runs_of(rows))}

    def sync(self, status: np.ndarray) -> None:
        if self._values is not None and self._status is not None:
            self._values.sync()
            self._status.write([(0, len(status))], status)
            self._status.sync()

    def finish(self, status: np.ndarray, stderr: np.ndarray | None) -> tuple[Any, Any]:
        self.sync(status)
        if stderr is None:
            self.paths[2].unlink(missing_ok=True)
        else:
            file = _NpyFile(self.paths[2], stderr.dtype, stderr.shape[1:], len(stderr), new=True)
            file.write([(0, len(stderr))], stderr)
            file.sync()
            file.close()
        values = (
            None
            if self._values is None
            else np.load(self.paths[0], mmap_mode="r", allow_pickle=False)
        )
        return values, None if stderr is None else np.load(
            self.paths[2], mmap_mode="r", allow_pickle=False
        )

    def seal(self) -> str:
        return ""

    def discard(self) -> None:
        """There is nothing to remove."""

    def close(self) -> None:
        for file in (self._values, self._status):
            if file is not None:
                file.close()
        self._values = self._status = None


class _NpyFile:
    """A .npy file whose rows are written in any order; not mapped, so that it takes no memory."""

    def __init__(
        self, path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], rows: int, *, new: bool
    ) -> None:
        self._path, self._dtype, self._shape = path, dtype, shape
        self._row = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        self._begin = len(self._header(rows))
        with writing(path):
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | (os.O_TRUNC if new else 0), 0o666)
        try:
            self.resize(rows)
        except BaseException:
            self.close()
            raise

    def resize(self, rows: int) -> None:
        with writing(self._path):
            os.ftruncate(self._file, self._begin + rows * self._row)
            os.pwrite(self._file, self._header(rows), 0)

    def write(self, runs: Runs, array: np.ndarray) -> np.ndarray:
        """Write rows; what they have become."""
        array = cast(self._path.stem, array, self._dtype, rounds=False)
        data = memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        with writing(self._path):
            for begin, end in runs:
                size = (end - begin) * self._row
                self._write_at(data[:size], self._begin + begin * self._row)
                data = data[size:]
        return array

    def _write_at(self, data: memoryview, at: int) -> None:
        while data.nbytes:
            written = os.pwrite(self._file, data, at)
            data, at = data[written:], at + written

    def read(self, runs: Runs) -> np.ndarray:
        data = b"".join(
            os.pread(self._file, (e - b) * self._row, self._begin + b * self._row) for b, e in runs
        )
        return np.frombuffer(data, self._dtype).reshape(-1, *self._shape)

    def sync(self) -> None:
        with writing(self._path):
            os.fsync(self._file)

    def close(self) -> None:
        os.close(self._file)

    def _header(self, rows: int) -> bytes:
        # NumPy leaves room in it for the first axis to grow, so its length does not change.
        made = io.BytesIO()
        descr = np.lib.format.dtype_to_descr(self._dtype)
        header = {"descr": descr, "fortran_order": False, "shape": (rows, *self._shape)}
        np.lib.format.write_array_header_2_0(made, header)
        return made.getvalue()
