"""Answers of several parts: tuples, dicts and dataclasses of arrays."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..contracts.answers import (
    array_of_numbers,
    cast_values,
    has_units,
    may_be_rounded,
    unrounded,
)
from ..contracts.arguments import MOST_AXES
from ..contracts.inputs import check_plain, plain_array
from ..errors import InvalidAnswer, many

_LIST = "for every row, or call fn by the map of a codedmap.Pool, which returns a list"
_SAME_SHAPE = f"return the same shape {_LIST}"


def map_leaves(apply: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """The tree with each leaf replaced by ``apply`` of it and of the same leaves of other trees."""
    parts = parts_of(tree)
    other_parts: list[Any] = [parts_of(other) for other in others]
    for other, given in zip(others, other_parts, strict=True):
        alike = given is None
        if parts is not None:
            alike = type(other) is type(tree) and given.keys() == parts.keys()
        if not alike:
            raise InvalidAnswer(
                f"fn returned {_described(tree)} for some rows and {_described(other)} for others: return the "
                f"same parts {_LIST}"
            )
    if parts is None:
        return apply(tree, *others)
    made = {
        name: map_leaves(apply, part, *(its[name] for its in other_parts))
        for name, part in parts.items()
    }
    if isinstance(tree, tuple):
        return getattr(tree, "_make", tuple)(made.values())
    if not _is_dataclass(tree):
        return made
    # Without __init__, which takes single values, and may check or convert them.
    whole = object.__new__(type(tree))
    for name, part in made.items():
        object.__setattr__(whole, name, part)
    return whole


def _described(tree: Any) -> str:
    parts = parts_of(tree)
    return f"a {type(tree).__name__}" + ("" if parts is None else f" with the keys {list(parts)}")


def leaves(tree: Any, *like: Any) -> list[Any]:
    """The leaves of a tree, in order, or in that of a tree ``like`` it; raises `InvalidAnswer` if that has other parts."""
    found: list[Any] = []
    map_leaves(lambda *same: found.append(same[-1]), *like, tree)
    return found


def read_columns(file: Any, known: np.ndarray) -> dict[str, Any]:
    """Values (m, *y) in a ``pyarrow.parquet.ParquetFile`` that was written as output, of the rows ``known`` (m,) bool."""
    rows, columns = np.flatnonzero(known), {}
    for name in _columns(file):
        part = from_arrow(file.read([name])[name].take(rows))
        whole = np.zeros((len(known), *part.shape[1:]), part.dtype)
        whole[known] = part
        columns[name] = blanked(whole, ~known)
    return columns


def for_all_entries(rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers of rows (m,), or of groups (K, B), for all entries of outputs of this shape, (..., *y); read-only, because they take no memory."""
    return np.broadcast_to(rows.reshape(*rows.shape, *[1] * len(shape)), (*rows.shape, *shape))


def errors_name(name: str, named: bool) -> str:
    """The name of the standard errors of a column; ``named``: whether answers always have names, and are never one array."""
    return "stderr" if name == "values" and not named else f"{name}_stderr"


def _columns(file: Any) -> dict[str, str]:
    """The columns of answers in a Parquet file, with the names of their standard errors."""
    names = [name for name in file.schema_arrow.names if name not in file.before]
    errors = {name: errors_name(name, named=bool(file.before)) for name in names}
    rest = {"status", *errors.values()}
    return {name: errors[name] for name in names if name not in rest}


def from_arrow(column: Any) -> np.ndarray:
    """A column of an Arrow table, whose lists of one size are further axes."""
    column = column.combine_chunks() if hasattr(column, "chunks") else column
    shape = [len(column)]
    while hasattr(column.type, "list_size"):
        shape.append(column.type.list_size)
        column = column.flatten()
    array = np.asarray(column.to_numpy(zero_copy_only=False))
    # NumPy gets integers as floats if there is a null among them.
    floats = array.dtype.kind == "f" and "int" in str(column.type)
    if getattr(column.type, "tz", None) is not None or (floats and may_be_rounded(array)):
        array = np.array(column.to_pylist(), dtype=object)
    return array.reshape(shape)


def as_numpy(column: Any) -> Any:
    """A column of pandas, polars or pyarrow as an array; anything else as it is."""
    if not hasattr(column, "to_numpy"):
        return column
    return from_arrow(column) if hasattr(column, "type") else plain_array(column)


def error_leaves(stderr: Any) -> list[np.ndarray]:
    """Standard errors (m, *y) of each leaf, in memory, also of a file."""
    return [np.asarray(leaf) for leaf in leaves(read_errors(stderr))]


def read_errors(stderr: Any) -> Any:
    """Standard errors, those in a Parquet file as a dict of arrays (m, *y)."""
    if not hasattr(stderr, "read"):
        return stderr
    present = stderr.schema_arrow.names
    found = {n: error for n, error in _columns(stderr).items() if error in present}
    return {name: from_arrow(stderr.read([error])[error]) for name, error in found.items()}


def _is_dataclass(value: Any) -> bool:
    # Zarr's arrays are dataclasses.
    is_one = dataclasses.is_dataclass(value) and not isinstance(value, type)
    return is_one and not hasattr(value, "__array__")


def stacked(answers: Sequence[Any]) -> Any:
    """One tree of arrays from the answers to single inputs, each leaf with a row for each of them; raises `InvalidAnswer`."""
    if isinstance(answers[0], bool | int | float | complex | np.generic | np.ndarray):
        _check_plain(answers)
        with contextlib.suppress(ValueError, OverflowError):  # `_stack` says what does not fit
            together = np.array(answers)
            kind = together.dtype.kind
            if kind in "biu" or (kind in "fc" and not may_be_rounded(together)):
                return together
    check_parts(answers[0])
    return map_leaves(lambda *parts: _stack(parts), *answers)


def check_parts(answer: Any) -> None:
    """Raise `InvalidAnswer` if an answer has no parts at all, such as an empty dict or a frame without columns."""
    if not leaves(answer):
        raise InvalidAnswer(
            f"fn returned an empty {type(answer).__name__}: return a value for each input"
        )


def _check_plain(parts: Sequence[Any]) -> None:
    kinds = set(map(type, parts))
    if any(issubclass(kind, np.ma.MaskedArray) or has_units(kind) for kind in kinds):
        for part in parts:
            check_plain(part, "what fn returned", InvalidAnswer)


def _stack(parts: Sequence[Any]) -> np.ndarray:
    _check_plain(parts)
    arrays = [_single_answer(part) for part in parts]
    if not any(array.dtype.kind in "biufcmMV" for array in arrays):
        return as_objects(parts)
    shapes = sorted({str(array.shape) for array in arrays})
    if len(shapes) > 1:
        raise InvalidAnswer(f"fn returned answers of shapes {' and '.join(shapes)}: {_SAME_SHAPE}")
    return _alike([unrounded(*pair) for pair in zip(arrays, parts, strict=True)])


def _single_answer(part: Any) -> np.ndarray:
    """An answer to one input as an array; text, and lists of lists of different lengths, as a single object."""
    if isinstance(part, list):
        check_plain(part, "what fn returned", InvalidAnswer)
    try:
        return np.array(part, object) if isinstance(part, str | bytes) else np.asarray(part)
    except ValueError:
        if not isinstance(part, list):
            raise
        return as_objects([part]).reshape(())


def _alike(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Arrays of equal shape, stacked; as objects if a number would be rounded, or they have no dtype in common."""
    if len({array.dtype for array in arrays}) > 1:
        dtype = _common(arrays)
        arrays = [in_dtype(array, dtype) for array in arrays]
    return np.stack(arrays)


def _common(arrays: Sequence[np.ndarray]) -> np.dtype[Any]:
    """The dtype that holds all of these, of different dtypes, as they are; raises `InvalidAnswer` for records of other fields."""
    _check_fields(arrays)
    try:
        dtype = np.result_type(*{array.dtype for array in arrays})
    except TypeError:
        return np.dtype(object)
    if dtype.kind not in "biufc" and len({array.dtype.kind for array in arrays}) > 1:
        return np.dtype(object)  # numbers would become text, or times
    if dtype.kind in "fcmM":
        made = np.finfo(dtype).dtype if dtype.kind in "fc" else dtype
        whole = (array for array in arrays if array.dtype.kind in "iumM")
        if any(cast_values(array, made) is None for array in whole):
            return np.dtype(object)
    fields = {name: _common([array[name] for array in arrays]) for name in dtype.names or ()}
    kept = all(field.hasobject <= dtype[name].hasobject for name, field in fields.items())
    return dtype if kept else np.dtype(object)


def in_dtype(array: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """An array in this dtype; times and records as objects stay NumPy's, of which it would make numbers and tuples."""
    if dtype.kind != "O" or array.dtype.kind not in "mMV":
        return array.astype(dtype, copy=False)
    return as_objects(list(array.flatten())).reshape(array.shape)


def _check_fields(arrays: Sequence[np.ndarray]) -> None:
    """Raise `InvalidAnswer` if records differ in their fields."""
    fields = list(dict.fromkeys(array.dtype.names for array in arrays if array.dtype.names))
    if len(fields) > 1:  # as objects they would be tuples
        raise InvalidAnswer(
            f"fn returned records with the fields {', '.join(fields[0])} for some inputs and {', '.join(fields[1])} for "
            "others: return the same fields in the same order for every row"
        )


def as_objects(parts: Sequence[Any]) -> np.ndarray:
    """An array (n,) of these, whatever they are."""
    return np.fromiter(parts, dtype=object, count=len(parts))


def leaf_rows(leaf: Any, rows: int) -> np.ndarray:
    """A leaf of the answer to a batch as an array with a row for each row of the batch; raises `InvalidAnswer` if it has not."""
    _check_plain([leaf])
    if isinstance(leaf, list):
        numbers = array_of_numbers(leaf)
        array = as_objects(leaf) if numbers is None else numbers
    else:
        array = unrounded(np.asarray(leaf), leaf)
    if array.ndim == 0 or len(array) != rows:
        kind = f" of type {type(leaf).__name__}" if array.dtype.hasobject else ""
        got = f"a single value{kind}" if array.ndim == 0 else many(len(array), "row")
        raise InvalidAnswer(
            f"fn returned {got} for a batch of {rows}: it takes a batch of rows and returns a row for each; "
            "a function of one input is lifted by codedmap.itemwise(fn)"
        )
    if array.ndim > MOST_AXES:
        raise InvalidAnswer(
            f"fn returned an array of {array.ndim} axes: return at most {MOST_AXES}, as by answer.reshape(len(answer), -1)"
        )
    return array


def parts_of(answer: Any) -> dict[Any, Any] | None:
    """The parts of an answer by name: those of a tuple are "y_0", "y_1" and so on; None if it has no parts."""
    if _is_dataclass(answer):
        return {one.name: getattr(answer, one.name) for one in dataclasses.fields(answer)}
    if isinstance(answer, tuple):
        named = answer._asdict() if hasattr(answer, "_asdict") else None
        return named or {f"y_{number}": part for number, part in enumerate(answer)}
    return dict(answer) if isinstance(answer, Mapping) else None


def entries_of(tree: Any) -> dict[str, np.ndarray]:
    """Each entry (m,) of a tree of arrays (m, *y), by its name: that of a key or field, or "y"."""
    parts = parts_of(tree)
    found: dict[str, np.ndarray] = {}
    for name, part in {"y": tree}.items() if parts is None else parts.items():
        if parts_of(part) is not None:
            found |= {f"{name}_{own}": entry for own, entry in entries_of(part).items()}
        else:
            array = np.asarray(part)
            for at in np.ndindex(array.shape[1:]):
                found["_".join([str(name), *map(str, at)])] = array[(slice(None), *at)]
    return found


class Rows:
    """The values of m rows, filled in as answers come."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._tree: Any = None
        self._columns: list[np.ndarray] = []

    @classmethod
    def of(cls, values: np.ndarray) -> Rows:
        """All rows, from an array that is not copied: there may be no room for a copy."""
        rows = cls(len(values))
        rows._tree, rows._columns = np.empty(0), [values]
        return rows

    def put(self, at: np.ndarray | slice, count: int, answer: Any) -> None:
        """Take the answers to rows: a tree whose leaves have ``count`` rows, like those before."""
        if not self._columns:
            self._tree = map_leaves(lambda leaf: np.empty(0), answer)
        parts = [leaf_rows(leaf, count) for leaf in leaves(answer, self._tree)]
        if not self._columns:
            # Zeros, because rows may be cast before they are written.
            self._columns = [np.zeros((self._rows, *p.shape[1:]), p.dtype) for p in parts]
        self.check_alike(answer)
        for number, part in enumerate(parts):
            column = self._columns[number]
            if part.dtype != column.dtype:
                column = self._columns[number] = in_dtype(column, _common([column, part]))
            column[at] = in_dtype(part, column.dtype)

    def check_alike(self, answer: Any) -> None:
        """Raise `InvalidAnswer` if an answer has other parts, or rows of another shape, than earlier ones."""
        if not self._columns:
            return
        for column, part in zip(self._columns, leaves(answer, self._tree), strict=True):
            if np.shape(part)[1:] != column.shape[1:]:
                raise InvalidAnswer(
                    f"fn returned rows of shape {column.shape[1:]} for some inputs and of shape "
                    f"{np.shape(part)[1:]} for others: {_SAME_SHAPE}"
                )
            _check_fields([column, part] if isinstance(part, np.ndarray) else [column])

    def resize(self, rows: int) -> None:
        """Make room for more rows than were expected."""
        self._rows = rows
        for number, column in enumerate(self._columns):
            if len(column) < rows:
                larger = max(rows, 2 * len(column)), *column.shape[1:]
                self._columns[number] = np.zeros(larger, column.dtype)
                self._columns[number][: len(column)] = column

    def values(self, missing: np.ndarray) -> Any:
        """The tree of all rows, with NaN, or None in objects, in rows that are ``missing`` (m,) bool."""
        if not self._columns:
            return np.full(self._rows, np.nan)
        columns = iter([blanked(column[: self._rows], missing) for column in self._columns])
        return map_leaves(lambda _: next(columns), self._tree)


def blanked(column: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Values with NaN, NaT or None in the rows that are ``missing`` (m,) bool; no other is rounded."""
    if not missing.any():
        return column
    found = blankable(column)
    found = found.copy() if found is column else found
    kind = found.dtype.kind
    found[missing] = None if kind == "O" else np.nan if kind not in "mM" else "NaT"
    return found


def blankable(column: np.ndarray) -> np.ndarray:
    """Values in a dtype that has NaN, NaT or None; none is rounded."""
    if column.dtype.kind in "biu":
        real = cast_values(column, np.dtype(np.float64))
        return column.astype(object) if real is None else real
    return column if column.dtype.kind in "fcOmM" else in_dtype(column, np.dtype(object))
