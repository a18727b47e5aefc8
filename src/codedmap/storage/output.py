"""Where answers are written: arrays with slice assignment, among them .npy files."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..contracts.answers import cast_values
from ..errors import InvalidAnswer, InvalidArgument, many
from ..execution.job_rows import runs_of
from ..results.trees import blanked, in_dtype
from .digest import checksum
from .journal import writing
from .source import read_runs, write_runs

Columns = dict[str, np.ndarray]
"""The leaves of answers by name, with a row for each input; one array is called "values"."""
Form = dict[str, list[Any]]
"""For each column its dtype, as .npy files put it, and the shape of a row."""
Runs = Sequence[tuple[int, int]]  # rows, as `runs_of` gives them


def form_of(columns: Columns) -> Form:
    """The form of columns, as JSON can hold it."""
    return {
        name: [np.lib.format.dtype_to_descr(array.dtype), list(map(int, array.shape[1:]))]
        for name, array in columns.items()
    }


class Output:
    """An array of the caller, without status and journal; the base of outputs in files."""

    paths: tuple[Path, ...] = ()  # its files and folders; the first is the one that the caller gave

    form: Form | None = None  # of the columns, once it is open

    named = False
    """Whether answers are columns with names, so that a column "values" is not the only array."""

    def __init__(self, values: Any = None) -> None:
        self.arrays: dict[str, Any] = {} if values is None else {"values": values}
        """The values by the names of columns; of outputs in files empty until `open`."""
        self._rows = 0
        self.errors: dict[str, Any] = {}
        """Standard errors by the names of columns; empty until some are written, then 0 where none are."""

    def put_before(self, columns: Columns) -> None:
        """Keep columns of all rows, which a table has before those of the answers."""
        self.named = bool(columns)

    def open(self, form: Form, rows: int, *, new: bool) -> None:
        """Open the output for so many rows of this form; rows that it holds are kept unless ``new``."""
        check_one_array(form, "out is one array")
        self.form = form
        self.resize(rows)
        wanted, has = tuple(form["values"][1]), tuple(self.arrays["values"].shape)[1:]
        if wanted != has:
            raise InvalidAnswer(
                f"fn returned rows of shape {wanted}, and out has rows of shape {has}: give one that fits"
            )

    def resize(self, rows: int) -> None:
        """Make room for so many rows."""
        array, self._rows = self.arrays["values"], rows
        if not getattr(getattr(array, "flags", None), "writeable", True):
            raise InvalidArgument(
                "out cannot be written to: give a copy, or open its file with mode r+"
            )
        shape = tuple(array.shape)
        if not shape or shape[0] < rows:
            raise InvalidArgument(
                f"out has room for {many(shape[0] if shape else 0, 'row')}, and there are {rows:,}: give it a row for each "
                "input"
            )

    def check_fits(self, columns: Columns) -> None:
        """Raise `InvalidAnswer` if answers do not fit beside those that are written."""
        for name, values in columns.items():
            cast(name, values, self.arrays[name], rounds=not self.paths)

    def write(self, runs: Runs, columns: Columns) -> dict[str, Any]:
        """Write rows; returns what the journal notes of them, such as their checksum."""
        written = []
        with writing(*self.paths[:1]):
            for name, values in columns.items():
                array = self.arrays[name]
                written.append(cast(name, values, array, rounds=not self.paths))
                write_runs(array, runs, written[-1])
        return {"values": checksum(written)} if self.paths else {}

    def write_errors(self, runs: Runs, errors: Columns) -> None:
        """Write the standard errors of rows that are estimated."""
        with writing(*self.paths[:1]):
            if not self.errors:
                self.errors = {name: self._errors(name, column) for name, column in errors.items()}
            for name, values in errors.items():
                write_runs(self.errors[name], runs, values)

    def _errors(self, name: str, like: np.ndarray) -> Any:
        """Room for the standard errors of all rows of a column, each 0."""
        return np.zeros((self._rows, *like.shape[1:]), like.dtype)

    def blank(self, rows: np.ndarray) -> None:
        """Write NaN, or what stands for it, to rows without an answer."""
        assert self.form is not None
        columns = {}
        for name, (descr, shape) in self.form.items():
            dtype = getattr(self.arrays[name], "dtype", None)
            if not isinstance(dtype, np.dtype):
                dtype = np.lib.format.descr_to_dtype(descr)
            columns[name] = np.zeros((len(rows), *shape), dtype)
            if dtype.kind in "fcmMO":
                columns[name] = blanked(columns[name], np.ones(len(rows), dtype=bool))
        self.write(runs_of(rows), columns)
        if self.errors:
            infinite = {n: np.full(c.shape, np.inf, c.dtype) for n, c in columns.items()}
            self.write_errors(runs_of(rows), infinite)

    def check(self, runs: Runs, record: Mapping[str, Any]) -> bool:
        """Whether rows are still as they were written; may raise any exception if they are damaged."""
        return checksum(self._read(runs).values()) == str(record["values"])

    def clear(self, runs: Runs) -> None:
        """Prepare damaged rows for being written again."""

    def read(self, rows: np.ndarray) -> Columns:
        """Some rows that were written, by their numbers in ascending order."""
        return self._read(runs_of(rows))

    def _read(self, runs: Runs) -> Columns:
        return {name: read_runs(array, runs) for name, array in self.arrays.items()}

    def sync(self, status: np.ndarray) -> None:
        """Write the status of all rows, and return when everything is on disk."""
        for array in (*self.arrays.values(), *self.errors.values()):
            getattr(array, "flush", lambda: None)()

    def finish(self, status: np.ndarray) -> tuple[Any, Any]:
        """Complete the output; returns its values, and standard errors if there are any, opened for reading."""
        self.sync(status)
        return self.arrays["values"], self.errors.get("values")

    def seal(self) -> str:
        """A checksum of the finished output, if single rows cannot be checked any more after `discard`; else ""."""
        return ""

    def discard(self) -> None:
        """Remove files that are needed only to resume the job."""

    def close(self) -> None:
        """Close all files."""


class NpyOutput(Output):
    """A .npy file for the values of one array; two others for the status and standard errors."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.paths = (path, path.with_suffix(".status.npy"), path.with_suffix(".stderr.npy"))

    def open(self, form: Form, rows: int, *, new: bool) -> None:
        check_one_array(form, "a .npy file holds one array")
        self.form = form
        dtype = np.lib.format.descr_to_dtype(form["values"][0])
        if dtype.hasobject:
            raise InvalidAnswer(
                "answers are Python objects, which a .npy file cannot hold safely: return numbers (integers of at most "
                "64 bits), or give a path ending in .parquet, which holds text and times as well"
            )
        self.arrays = {
            "values": _NpyFile(self.paths[0], dtype, tuple(form["values"][1]), rows, new=new)
        }

    def resize(self, rows: int) -> None:
        for array in (*self.arrays.values(), *self.errors.values()):
            array.resize(rows)

    def sync(self, status: np.ndarray) -> None:
        super().sync(status)
        if not self.arrays:
            return
        # Written whole: status that is missing in a file would be 0, which is EXACT.
        with written_whole(self.paths[1]) as part, part.open("wb") as file:
            np.save(file, status)
            file.flush()
            os.fsync(file.fileno())

    def _errors(self, name: str, like: np.ndarray) -> Any:
        rows, shape = self.arrays[name].rows, like.shape[1:]
        return _NpyFile(_part(self.paths[2]), like.dtype, shape, rows, new=True)

    def finish(self, status: np.ndarray) -> tuple[Any, Any]:
        self.sync(status)
        with writing(self.paths[0]):
            if self.errors:
                _part(self.paths[2]).replace(self.paths[2])
            else:
                for path in (self.paths[2], _part(self.paths[2])):  # left by an earlier call
                    path.unlink(missing_ok=True)
            values, stderr = (
                np.load(path, mmap_mode="r", allow_pickle=False) if there else None
                for path, there in ((self.paths[0], True), (self.paths[2], self.errors))
            )
        return values, stderr

    def close(self) -> None:
        for array in (*self.arrays.values(), *self.errors.values()):
            array.close()
        self.arrays, self.errors = {}, {}


class _NpyFile:
    """A .npy file with slice assignment; not mapped into memory, so that it takes none."""

    def __init__(
        self, path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], rows: int, *, new: bool
    ) -> None:
        self.dtype, self._path, self._shape = dtype, path, shape
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
        self.rows = rows
        with writing(self._path):
            os.ftruncate(self._file, self._begin + rows * self._row)
            write_at(self._file, memoryview(self._header(rows)), 0)

    def __setitem__(self, at: slice, array: np.ndarray) -> None:
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        write_at(self._file, data, self._begin + at.start * self._row)

    def __getitem__(self, at: slice) -> np.ndarray:
        rows = at.stop - at.start
        data = read_at(self._file, rows * self._row, self._begin + at.start * self._row)
        return np.frombuffer(data, self.dtype).reshape(rows, *self._shape)

    def flush(self) -> None:
        with writing(self._path):
            os.fsync(self._file)

    def close(self) -> None:
        os.close(self._file)

    def _header(self, rows: int) -> bytes:
        # NumPy leaves room for the first axis to grow, so that the length of the header does not change.
        header = io.BytesIO()
        descr = np.lib.format.dtype_to_descr(self.dtype)
        fields = {"descr": descr, "fortran_order": False, "shape": (rows, *self._shape)}
        np.lib.format.write_array_header_2_0(header, fields)
        return header.getvalue()


def read_at(file: int, size: int, begin: int) -> bytes:
    """So many bytes of a file, or up to its end; one system call reads at most 2 GB."""
    parts = []
    while data := os.pread(file, size, begin):
        parts.append(data)
        size, begin = size - len(data), begin + len(data)
    return b"".join(parts)


def write_at(file: int, data: memoryview, begin: int) -> None:
    """Write all data from this byte of the file on; at the end of a file that was opened for appending."""
    while data.nbytes:
        written = os.pwrite(file, data, begin)
        data, begin = data[written:], begin + written


def _part(path: Path) -> Path:
    """The path of a file until it is complete; its name is no longer than that of the journal."""
    return path.with_suffix(".part")


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A path to write to, which is renamed to this one at the end, or removed on an error."""
    part = _part(path)
    try:
        with writing(path):
            yield part
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def check_one_array(form: Form, holds: str) -> None:
    """Raise `InvalidAnswer` if answers have several leaves."""
    if set(form) != {"values"}:
        raise InvalidAnswer(
            f"fn returned a dict of {', '.join(form)}, and {holds}: give a path ending in .zarr or .parquet"
        )


def cast(name: str, array: np.ndarray, output: Any, *, rounds: bool) -> np.ndarray:
    """An array in the dtype of an output; raises `InvalidAnswer` if that cannot hold its values; ``rounds``: it may round them."""
    dtype = getattr(output, "dtype", None)
    if array.dtype == dtype or not isinstance(dtype, np.dtype):
        return array
    if dtype.kind == "O":
        return in_dtype(array, dtype)
    rule: Literal["same_kind", "safe"] = "same_kind" if rounds and dtype.kind in "fc" else "safe"
    kinds = {array.dtype.kind, dtype.kind}
    exactly = (kinds <= set("iuf") and not rounds and array.dtype.kind != "f") or kinds == {"U"}
    # NumPy would match fields by their place, and turn numbers into text or durations.
    alike = array.dtype.names == dtype.names and (len(kinds) == 1 or kinds <= set("biufc"))
    for field in (alike and dtype.names) or ():
        cast(f"{name} {field!r}", array[field], np.empty(0, dtype[field].base), rounds=rounds)
    fits = alike and np.can_cast(array.dtype, dtype, rule)
    found = None
    if exactly or (fits and kinds <= set("mM")):
        found = cast_values(array, dtype)
    elif fits:
        with np.errstate(over="ignore", invalid="ignore"):
            found = array.astype(dtype)
        if kinds <= set("iufc") and not np.array_equal(np.isfinite(found), np.isfinite(array)):
            found = None
    if found is not None:
        return found
    raise InvalidAnswer(
        f"fn returned {name} of dtype {array.dtype}, and the output has dtype {dtype}, that of "
        f"{'the array given' if rounds else 'the first answers'}, which does not hold them: return the same dtype for "
        "every row, or give an array as out= that holds all"
    )
