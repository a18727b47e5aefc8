"""The rows of a job, in any form that `map` takes, and batches of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ..contracts.answers import array_of_numbers
from ..contracts.inputs import check_order, check_plain, no_rows
from ..errors import InvalidArgument
from ..results.trees import as_numpy, as_objects

_REAL = re.compile(r"(float\d*|double|u?int(8|16|32|64)|bool(ean)?)(\[pyarrow\])?")
"""Names of the types of columns that hold real numbers."""


@runtime_checkable
class RowSource(Protocol):
    """Rows that are read when they are needed.

    A source whose number of rows is known only at the end has more: ``ended``, whether ``rows`` is the number of all;
    ``read(rows)``, a future that reads at least so many rows more, unless the source ends before; ``add(read)``, which
    takes the result of that future and returns its number of rows; ``done(at)``, for rows that are not needed any more.
    ``block``, if there is one, is a number of neighbours that are read together.
    """

    rows: int
    form: Any
    """The dtype and shape of a row, or its columns, as JSON can hold them."""

    def take(self, at: slice | np.ndarray) -> Any:
        """Some rows, in memory."""


class InputRows:
    """Inputs of one length: an array, a list, a pandas or polars frame, a `RowSource`, or a tuple of these.

    ``names``: those of the numbers of a row, by default the columns of a frame, or "input 0" and so on. ``items``: whether
    ``fn`` takes single inputs; it then gets numbers of a list or range as those of Python, since whole numbers of NumPy
    overflow. ``like``: the same rows in another form, from which missing rows are estimated.

    Raises `InvalidArgument` if there are no rows, several inputs differ in length, or it is none of these.
    """

    def __init__(
        self,
        inputs: Any,
        names: Iterable[str] = (),
        *,
        items: bool = False,
        like: InputRows | None = None,
    ) -> None:
        self._names = list(names)
        self._like = like
        self.several = isinstance(inputs, tuple) and not hasattr(inputs, "_fields")
        """Whether ``fn`` takes several arguments."""
        given = inputs if self.several else (inputs,)
        self._parts = [_part(part, several=self.several) for part in given]
        self._batched = [  # the parts of which batches are made
            original
            if items and isinstance(original, list | range) and getattr(part, "ndim", 0) == 1
            else part
            for original, part in zip(given, self._parts, strict=True)
        ]
        if not self._parts:
            raise InvalidArgument("inputs=() is an empty tuple: give at least one array")
        lengths = [p.rows if isinstance(p, RowSource) else len(p) for p in self._parts]
        if len(set(lengths)) > 1:
            raise InvalidArgument(
                f"the inputs have {', '.join(map(str, lengths))} rows: several inputs are computed row by row, "
                "so all must have the same number. A list of inputs of different kinds is one input: give a list"
            )
        self.lazy = any(isinstance(part, RowSource) for part in self._parts)
        """Whether rows are read when they are needed."""
        self.block = max(getattr(part, "block", 1) for part in self._parts)
        """So many neighbours stay together in a random order."""
        check_order(self._parts, "several inputs")
        first = self._parts[0]
        self.growing: Any = (
            first if isinstance(first, RowSource) and hasattr(first, "ended") else None
        )
        if lengths[0] == 0:
            raise InvalidArgument("the inputs are empty: there is nothing to compute")

    @property
    def rows(self) -> int:
        """How many rows there are, as far as is known."""
        first = self._parts[0]
        return first.rows if isinstance(first, RowSource) else len(first)

    @property
    def form(self) -> list[Any]:
        """For each part as in `RowSource`."""
        return [_form(part) for part in self._parts]

    def batch(self, at: slice | np.ndarray) -> tuple[Any, ...]:
        """The arguments of ``fn`` for some rows."""
        return tuple(_take(part, at) for part in self._batched)

    def array(self, at: slice | np.ndarray) -> np.ndarray:
        """Some rows of inputs that are one array or list, as a code takes them."""
        part = _take(self._parts[0], at)
        return as_objects(part) if isinstance(part, list) else np.asarray(part)

    def as_given(self, payload: np.ndarray) -> Any:
        """The payload of a code as ``fn`` gets it: a list where batches are lists."""
        given = self._batched[0]
        listed = isinstance(given, list | range) and not isinstance(given[0], np.generic)
        return payload.tolist() if listed else payload

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """The type of the inputs, if they are one array."""
        form = self.form[0]
        return np.dtype(form[0]) if len(self._parts) == 1 and _is_array(form) else None

    @property
    def _seen(self) -> InputRows:
        """The rows in the form from which others are estimated."""
        return self if self._like is None else self._like

    @property
    def numbers(self) -> int | None:
        """How many real numbers a row holds, in arrays or columns of frames; None if it holds anything else."""
        counts = [_numbers(form) for form in self._seen.form]
        return None if None in counts else sum(count for count in counts if count is not None)

    @property
    def encoding(self) -> str:
        """The end of a message on inputs that are not numbers: which these are, and how they can be encoded."""
        if all(isinstance(part, list) and isinstance(part[0], dict) for part in self._seen._parts):
            return "A list of dicts of numbers is estimated as a data frame: give pandas.DataFrame(inputs)"
        which = "them" if self._odd is None else repr(self._odd)
        return f"Encode {which}, as by pandas.get_dummies(X), or as days since the first if these are dates"

    @property
    def _odd(self) -> str | None:
        """The name of the first column that is not a number."""
        at = 0
        for form, count in ((form, _numbers(form)) for form in self._seen.form):
            columns = [] if _is_array(form) else [c for c in form if isinstance(c, list)]
            odd = [name for name, kind in columns if not _is_real(kind)]
            if odd or count is None:
                return odd[0] if odd else next(iter(self._seen._names[at:]), None)
            at += count
        return None

    @property
    def stackable(self) -> bool:
        """Whether all rows are in memory as one array or list, as codes that copy rows take them."""
        part = self._parts[0]
        return len(self._parts) == 1 and isinstance(part, np.ndarray | list)

    def in_memory_of(self, array: Any) -> bool:
        """Whether this array has memory in common with the inputs."""
        if not isinstance(array, np.ndarray):
            return False
        parts = (getattr(part, "_array", part) for part in self._parts)  # of a memory map
        return any(isinstance(part, np.ndarray) and np.shares_memory(array, part) for part in parts)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of inputs that are one array."""
        assert self.dtype is not None
        return max(1, self.dtype.itemsize * int(np.prod(self.form[0][1], dtype=np.int64)))

    def names(self, count: int) -> list[str]:
        """Names for so many numbers of a row."""
        forms, names = self._seen.form, self._seen._names
        frames = [[name for name, _ in form] for form in forms if isinstance(form[0], list)]
        names = names or (frames[0] if len(frames) == len(forms) == 1 else [])
        return names if len(names) == count else [f"input {k}" for k in range(count)]

    def points(self, at: np.ndarray) -> np.ndarray:
        """Some rows of inputs that are numbers, as points (n, p); an array of floating point keeps its dtype."""
        columns = [
            _floats(part[name] if name is not None else part).reshape(len(at), -1)
            for part in (_take(part, at) for part in self._seen._parts)
            for name in (part.columns if hasattr(part, "columns") else (None,))
        ]
        return columns[0] if len(columns) == 1 else np.concatenate(columns, axis=1)


def _floats(part: Any) -> np.ndarray:
    if isinstance(part, np.ndarray) and part.dtype.kind == "f":
        return part  # a copy of many takes memory, and seconds
    return np.asarray(part, np.float64)


def _numbers(form: list[Any]) -> int | None:
    if _is_array(form):
        real = np.dtype(form[0]).kind in "biuf"
        return int(np.prod(form[1], dtype=int)) if real else None
    columns = [column for column in form if isinstance(column, list)]
    real = all(_is_real(kind) for _, kind in columns)
    return len(columns) if columns and real else None


def _is_array(form: list[Any]) -> bool:
    return len(form) == 2 and isinstance(form[0], str)


def _is_real(kind: str) -> bool:
    return bool(_REAL.fullmatch(kind.lower()))


def _part(part: Any, *, several: bool = False) -> Any:
    if isinstance(part, RowSource):
        return part
    if isinstance(part, list):
        array = array_of_numbers(part)
        return part if array is None else array
    check_plain(part)
    if hasattr(part, "iloc") or (hasattr(part, "slice") and hasattr(part, "columns")):
        name, count = next(iter(Counter(getattr(part, "columns", ())).most_common(1)), ("", 0))
        if count > 1:
            raise InvalidArgument(
                f"{count} columns of the data frame are called {name!r}: give each a name of its own"
            )
        return part  # a pandas frame or series, or a polars frame
    if isinstance(part, np.ndarray | memoryview) or hasattr(part, "__array__"):
        part = np.asarray(as_numpy(part))
    if getattr(part, "shape", None) == ():
        raise no_rows(part)
    if isinstance(part, np.ndarray):
        return part
    named = hasattr(part, "keys")  # a dict, or a group of a Zarr or HDF5 file
    if (
        hasattr(part, "__len__")
        and hasattr(part, "__getitem__")
        and not (named or isinstance(part, str | bytes))
    ):
        return _part([part[i] for i in range(len(part))])
    raise no_rows(part, several=several)


def _form(part: Any) -> list[Any]:
    if isinstance(part, RowSource):
        return list(part.form)
    if hasattr(part, "columns"):
        return [[str(name), str(part[name].dtype)] for name in part.columns]
    if hasattr(part, "iloc"):  # a pandas series
        return [[str(part.name or "x"), str(part.dtype)]]
    if isinstance(part, np.ndarray):
        return [part.dtype.str, list(part.shape[1:])]
    return [type(part).__name__]


def _take(part: Any, at: slice | np.ndarray) -> Any:
    # The quick tests come first: whether a protocol is met takes longer than taking the rows.
    if isinstance(part, np.ndarray):
        return part[at]
    if isinstance(part, list | range):
        return list(part[at]) if isinstance(at, slice) else [part[i] for i in at]
    if isinstance(part, RowSource):
        return part.take(at)
    return part.iloc[at] if hasattr(part, "iloc") else part[at]
