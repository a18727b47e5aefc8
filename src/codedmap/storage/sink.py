"""Where the answers of a long run go: .npy files that grow, or arrays that are given."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..errors import InvalidAnswer, InvalidArgument
from .growing import Growing
from .schema import Columns, Form, entry, form_of

__all__ = ["Arrays", "Files", "Sink", "sink_for", "unusable"]


class Sink(Protocol):
    """Something that rows are written to, one wave after another."""

    given: bool
    """Whether it has a form already; else it takes that of the first waves."""
    names: list[str]
    """What it is called, for people."""

    def check_room(self, rows: int) -> None:
        """Raise `InvalidArgument` if so many rows cannot be written."""
        ...

    def form(self, columns: Columns) -> Form:
        """The form that whatever is written must have, if it begins with this wave."""
        ...

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

    given = False

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
        self._open: dict[str, Growing] = {}

    @property
    def existing(self) -> list[Path]:
        """Those of the files that exist."""
        return [path for path in self.paths.values() if os.path.lexists(path)]

    @property
    def journal(self) -> Path:
        """Where the journal is, unless another place is given."""
        return self.paths["values"].with_name(f"{self.paths['values'].name}.journal")

    def check_apart(self, other: Path | None, what: str) -> None:
        """Raise `InvalidArgument` if another file of the run is one of these."""
        same = [one for one in self.paths.values() if other is not None and _same(one, other)]
        if same:
            raise InvalidArgument(
                f"out={self.names[0]!r} would be written over {what}, {same[0]}: choose another name"
            )

    def check_journal(self, path: Path) -> None:
        """Raise `InvalidArgument` if this cannot be the journal of what there is."""
        self.check_apart(path, "the journal")
        if self.existing and not path.exists():
            raise InvalidArgument(
                f"output {self.existing[0]} exists, and no journal {path} tells that it is of an earlier run: "
                "choose another name, or remove it"
            )

    def check_room(self, rows: int) -> None:
        """Files grow."""

    def form(self, columns: Columns) -> Form:
        return form_of(columns)

    def open(self, form: Form, rows: int) -> None:
        for name, (descr, shape) in form.items():
            dtype = np.lib.format.descr_to_dtype(descr)
            if dtype.hasobject:
                raise InvalidAnswer(
                    "answers are Python objects, which a .npy file cannot hold safely: return numbers "
                    "or text, or give an array as out="
                )
            self._open[name] = Growing(self.paths[name], dtype, tuple(shape), rows)

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


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one of them is not there yet
        return one.absolute() == other.absolute()


class Arrays:
    """Anything with slice assignment and room for every row: memory maps, Zarr arrays, HDF5 data sets.

    Parameters
    ----------
    arrays : mapping of str to array-like
        "values", and "exact" and "stderr" if these are wanted.
    """

    given = True

    def __init__(self, arrays: Mapping[str, Any]) -> None:
        self._arrays = arrays
        self.names = sorted(arrays)

    def check_room(self, rows: int) -> None:
        for name, array in self._arrays.items():
            room = array.shape[0] if tuple(array.shape) else 0
            if room < rows:
                raise InvalidArgument(
                    f"out has room for {room:,} {name}, and these are rows up to {rows:,}: give it a row "
                    "for each row of the source"
                )

    def form(self, columns: Columns) -> Form:
        form = {}
        for name, array in self._arrays.items():
            if name not in columns:
                raise InvalidArgument(
                    f"out has a place for {name}, and this code has none: leave it out"
                )
            form[name] = entry(_dtype_of(array, columns[name].dtype), tuple(array.shape)[1:])
        return form

    def open(self, form: Form, rows: int) -> None:
        """They are open."""

    def write(self, begin: int, columns: Columns) -> np.ndarray:
        self.check_room(begin + len(columns["values"]))
        for name, array in self._arrays.items():
            array[begin : begin + len(columns[name])] = columns[name]
            flush: Callable[[], None] | None = getattr(array, "flush", None)
            if flush is not None:
                flush()
        return columns["values"]

    def read(self, begin: int, end: int) -> np.ndarray:
        return np.asarray(self._arrays["values"][begin:end])

    def close(self) -> None:
        """They are the caller's."""


def _dtype_of(array: Any, default: np.dtype[Any]) -> np.dtype[Any]:
    try:
        dtype: np.dtype[Any] = np.dtype(array.dtype)
    except (AttributeError, TypeError):  # it has dtypes of its own library, or none
        return default
    return np.dtype(object) if dtype.kind == "O" else dtype  # HDF5 has notes in its own
