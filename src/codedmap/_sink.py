"""Where the answers of a long run go: .npy files that grow, or arrays that are given."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ._errors import InvalidAnswer, InvalidArgument

__all__ = ["Arrays", "Columns", "Files", "Form", "Sink", "form_of", "sink_for", "unusable"]

Columns = dict[str, np.ndarray]
"""What is written of each wave: values, exact, and stderr if the code has standard errors."""
Form = dict[str, list[Any]]
"""For each column its dtype, as .npy files put it, and the shape of a row."""


class Sink(Protocol):
    """Something that rows are written to, one wave after another."""

    names: list[str]
    """What it is called, for people."""

    def open(self, form: Form, rows: int) -> None:
        """Go on after so many rows, of this form."""
        ...

    def write(self, begin: int, columns: Columns) -> np.ndarray:
        """Write the next rows, and tell the values as they stand there now, safe from a crash."""
        ...

    def read(self, begin: int, end: int) -> np.ndarray:
        """Values that were written."""
        ...

    def close(self) -> None:
        """Let go of whatever is open."""
        ...


def sink_for(out: Any) -> Sink:
    """A sink for a path ending in .npy, an array, or a mapping of names to arrays.

    Raises
    ------
    InvalidArgument
        If nothing can be written to it.
    """
    if isinstance(out, (str, Path)):
        return Files(Path(out))
    if hasattr(out, "__setitem__") and hasattr(out, "shape"):
        return Arrays({"values": out})
    if hasattr(out, "keys") and "values" in out:
        return Arrays({name: out[name] for name in ("values", "exact", "stderr") if name in out})
    raise InvalidArgument(
        f"out={out!r} is neither the name of a .npy file, nor an array with room for a row per row of "
        'the source, nor a mapping with such an array under "values" (and "exact", "stderr")'
    )


def form_of(columns: Columns) -> Form:
    """What these columns look like, in a form that JSON can hold."""
    return {
        name: [np.lib.format.dtype_to_descr(array.dtype), list(array.shape[1:])]
        for name, array in columns.items()
    }


def unusable(path: Path) -> str | None:
    """Why there can be no file of this name, as far as names go; None if there can."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):  # there may be, once its directory is there
        return None
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            return error.strerror
        size = max(len(os.fsencode(part)) for part in path.parts)
        if size <= 255:
            return f"{error.strerror}: the path has {len(os.fsencode(path))} bytes in all"
        return f"{error.strerror}: {size} bytes, and most file systems take 255"
    return None


class Files:
    """A .npy file for each column, which at any time holds the rows that are done, and no others.

    Parameters
    ----------
    path : Path
        Of the values; the others stand beside it, as ``name.exact.npy`` and ``name.stderr.npy``.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix != ".npy":
            raise InvalidArgument(
                f"out={str(path)!r} will be a .npy file: give it a name ending in .npy"
            )
        others = {name: path.with_suffix(f".{name}.npy") for name in ("exact", "stderr")}
        for one in (path, *others.values()):
            problem = unusable(one)
            if problem is not None:
                raise InvalidArgument(
                    f"out={str(path)!r}: {one.name} cannot be written ({problem}): choose a shorter name, "
                    "or another directory"
                )
        if not path.parent.is_dir():
            raise InvalidArgument(
                f"out={str(path)!r}: there is no directory {path.parent}, create it first"
            )
        self.paths = {"values": path, **others}
        self.names = [str(path)]
        self._open: dict[str, _Growing] = {}

    @property
    def existing(self) -> list[Path]:
        """Those of the files that exist."""
        return [path for path in self.paths.values() if os.path.lexists(path)]

    def open(self, form: Form, rows: int) -> None:
        for name, (descr, shape) in form.items():
            dtype = np.lib.format.descr_to_dtype(descr)
            if dtype.hasobject:
                raise InvalidAnswer(
                    "answers are Python objects, which a .npy file cannot hold safely: return numbers "
                    "or text, or give an array as out="
                )
            self._open[name] = _Growing(self.paths[name], dtype, tuple(shape), rows)

    def write(self, begin: int, columns: Columns) -> np.ndarray:
        for name, file in self._open.items():
            file.append(columns[name])
        for file in self._open.values():
            file.settle()
        return columns["values"]

    def read(self, begin: int, end: int) -> np.ndarray:
        return self._open["values"].read(begin, end)

    def close(self) -> None:
        for file in self._open.values():
            file.close()
        self._open.clear()


class _Growing:
    """A .npy file whose header is brought up to date after the rows."""

    def __init__(self, path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], rows: int) -> None:
        self._path, self._dtype, self._shape, self._rows = path, dtype, shape, rows
        self._row = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        self._begin = len(self._header())
        flags = os.O_RDWR | (0 if rows else os.O_CREAT | os.O_TRUNC)
        try:
            self._file = os.open(path, flags, 0o666)
        except OSError as error:
            raise InvalidArgument(
                f"{path} cannot be written ({error.strerror}); {rows:,} rows of it had been"
            ) from error
        try:
            end = self._begin + rows * self._row
            if os.fstat(self._file).st_size < end and rows:
                raise InvalidArgument(
                    f"{path} is shorter than the {rows:,} rows that the journal says were written: put "
                    "it back, or remove the journal and the outputs to begin anew"
                )
            with _room_for(path):
                os.ftruncate(self._file, end)
                os.pwrite(self._file, self._header(), 0)
        except BaseException:
            os.close(self._file)
            raise

    def append(self, array: np.ndarray) -> None:
        data = memoryview(np.ascontiguousarray(array, self._dtype).reshape(-1).view(np.uint8).data)
        at = self._begin + self._rows * self._row
        with _room_for(self._path):
            while data.nbytes:
                written = os.pwrite(self._file, data, at)
                data, at = data[written:], at + written
        self._rows += len(array)

    def settle(self) -> None:
        """Rows first, and then the header that counts them: what it counts is there."""
        with _room_for(self._path):
            os.fsync(self._file)
            os.pwrite(self._file, self._header(), 0)

    def read(self, begin: int, end: int) -> np.ndarray:
        data = os.pread(self._file, (end - begin) * self._row, self._begin + begin * self._row)
        return np.frombuffer(data, self._dtype).reshape(-1, *self._shape)

    def close(self) -> None:
        os.close(self._file)

    def _header(self) -> bytes:
        # NumPy leaves room in it for the first axis to grow, so its length does not change.
        made = io.BytesIO()
        descr = np.lib.format.dtype_to_descr(self._dtype)
        shape = (self._rows, *self._shape)
        np.lib.format.write_array_header_2_0(
            made, {"descr": descr, "fortran_order": False, "shape": shape}
        )
        return made.getvalue()


@contextmanager
def _room_for(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InvalidArgument(
            f"{path} could not be written to ({error.strerror}): make room; what its journal tells of stands, "
            "and resume=True goes on from there"
        ) from error


class Arrays:
    """Anything with slice assignment and room for every row: memory maps, Zarr arrays, HDF5 data sets.

    Parameters
    ----------
    arrays : mapping of str to array-like
        "values", and "exact" and "stderr" if these are wanted.
    """

    def __init__(self, arrays: Mapping[str, Any]) -> None:
        self._arrays = arrays
        self.names = sorted(arrays)

    def open(self, form: Form, rows: int) -> None:
        for name, array in self._arrays.items():
            if name not in form:
                raise InvalidArgument(
                    f"out has a place for {name}, and this code has none: leave it out"
                )
            wanted, shape = tuple(form[name][1]), tuple(array.shape)
            if shape[1:] != wanted:
                raise InvalidAnswer(
                    f"{name} have rows of shape {wanted}, and out has shape {shape}: give it shape "
                    f"{(shape[0], *wanted)}"
                )

    def write(self, begin: int, columns: Columns) -> np.ndarray:
        for name, array in self._arrays.items():
            rows = columns[name]
            if array.shape[0] < begin + len(rows):
                raise InvalidArgument(
                    f"out has room for {array.shape[0]:,} {name}, and these are rows up to "
                    f"{begin + len(rows):,}: give it a row for each row of the source"
                )
            array[begin : begin + len(rows)] = rows
            flush: Callable[[], None] | None = getattr(array, "flush", None)
            if flush is not None:
                flush()
        dtype = getattr(self._arrays["values"], "dtype", columns["values"].dtype)
        return columns["values"].astype(dtype, copy=False)

    def read(self, begin: int, end: int) -> np.ndarray:
        return np.asarray(self._arrays["values"][begin:end])

    def close(self) -> None:
        """They are the caller's."""
