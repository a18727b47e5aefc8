"""Checks that turn the caller's inputs into an array of rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import CodedmapError, InvalidArgument
from .answers import PLAIN_NUMBERS, all_finite, is_masked, may_be_rounded, unit_of, unrounded
from .arguments import MOST_AXES

_OTHER_KINDS = {
    "dask.Bag": "{}.compute()",
    "dask.DataFrame": "{}.compute()",
    "dask.Delayed": "{}.compute()",
    "dask.DelayedLeaf": "{}.compute()",
    "dask.Series": "{}.compute()",
    "distributed.Future": "{}.result()",
    "polars.LazyFrame": "{}.collect()",
    "pyarrow.RecordBatch": "{}.to_pandas()",
    "pyarrow.Table": "{}.to_pandas()",
    "ray.Dataset": "{}.to_pandas()",
    "ray.MaterializedDataset": "{}.to_pandas()",
    "ray.ObjectRef": "ray.get({})",
    "xarray.Dataset": "{}.to_dataframe()",
}
"""How objects that are neither arrays nor data frames are made such."""
_OTHER_ROWS = {
    "dask.Delayed": "list(dask.compute(*{}))",
    "dask.DelayedLeaf": "list(dask.compute(*{}))",
    "distributed.Future": "client.gather({})",
}
"""How a list of references is made a list of values."""


def check_kind(given: Any, name: str = "inputs") -> None:
    """Raise `InvalidArgument` for objects that resemble an array or a data frame, and must be made one."""
    full = _kind(given)
    step = _OTHER_KINDS.get(full)
    row = _kind(given[0]) if isinstance(given, list) and given else ""
    if row in _OTHER_ROWS:
        full, step = f"a list of {row}", _OTHER_ROWS[row]
    if step is not None:
        pass
    elif hasattr(given, "nnz") and hasattr(given, "toarray"):
        step = "{}.toarray()"
    elif getattr(getattr(given, "dtype", None), "char", "") == "T":
        read = "" if isinstance(given, np.ndarray) else "[:]"  # as of a Zarr array
        full, step = "an array of StringDType", "{}" + read + ".astype(object)"
    if step is not None:
        raise InvalidArgument(
            f"{name} must be an array, a list or a data frame, and not {full}: give {step.format(name)}"
        )


def _kind(given: Any) -> str:
    return f"{type(given).__module__.partition('.')[0]}.{type(given).__name__}"


def check_columns(given: Any, known: Any, name: str = "inputs", other: str = "X0") -> None:
    """Raise `InvalidArgument` for two data frames with the same columns in another order: columns are matched by place."""
    first, second = (
        list(f if isinstance(f, dict) else getattr(f, "columns", ())) for f in (given, known)
    )
    if first != second and sorted(map(str, first)) == sorted(map(str, second)):
        one, two = next(pair for pair in zip(first, second, strict=True) if pair[0] != pair[1])
        raise InvalidArgument(
            f"{name} and {other} have the same columns in another order, {one!r} where the other has {two!r}: "
            f"give {other}[{name}.columns]"
        )


def plain_array(column: Any) -> Any:
    """A column of a data frame, or a value of one, as a NumPy array; of objects where NumPy has no such type.

    NumPy has no times with a zone. For whole numbers with a null it has floats, which may round them.
    """
    if getattr(column, "tzinfo", None) is not None:
        return column
    dtype = getattr(column, "dtype", None)
    objects = str(dtype).startswith(("Int128", "UInt128", "Struct("))
    if getattr(dtype, "time_zone", None) is not None or objects:
        return np.array(column.to_list(), dtype=object)
    array = column.to_numpy()
    floats = str(dtype).lower().startswith(("int", "uint")) and array.dtype.kind == "f"
    return np.array(column.to_list(), dtype=object) if floats and may_be_rounded(array) else array


def reordered(first: Any, second: Any) -> bool:
    """Whether pandas objects have the same labels of rows in another order: rows are matched by place."""
    a: Any = getattr(first, "index", None)
    b: Any = getattr(second, "index", None)
    if not hasattr(a, "sort_values") or not hasattr(b, "sort_values"):
        return False
    return len(a) == len(b) and not a.equals(b) and _counts(a) == _counts(b)


def _counts(labels: Any) -> Counter[Any]:
    """How often each label occurs; all NaN are equal."""
    return Counter(None if isinstance(x, float) and x != x else x for x in labels)  # noqa: PLR0124


def check_order(parts: Sequence[Any], what: str) -> None:
    """Raise `InvalidArgument` if pandas objects have the same rows in another order: rows are matched by place."""
    labelled = [part for part in parts if hasattr(getattr(part, "index", None), "sort_values")]
    if any(reordered(labelled[0], part) for part in labelled[1:]):
        raise InvalidArgument(
            f"{what} have the same index in another order, and rows go together by their place: bring them into one order, "
            "as by b.loc[a.index], or give arrays (a.to_numpy())"
        )


def check_plain(
    inputs: Any, what: str = "the inputs", error: type[CodedmapError] = InvalidArgument
) -> None:
    """Raise an error if the inputs have masked entries, or a unit, also in lists."""
    if is_masked(inputs):
        count = "some"
        if isinstance(inputs, np.ma.MaskedArray):
            hidden = np.ascontiguousarray(np.ma.getmaskarray(inputs)).view(bool)  # records by field
            count = f"{hidden.sum()} of {hidden.size}"
        raise error(
            f"{count} numbers of {what} are masked, and have no value to compute with: fill "
            "them (with filled(0.0), say), or leave them out"
        )
    unit = unit_of(inputs)
    if unit:
        raise error(f"the unit of {what}, {unit}, would be lost: {PLAIN_NUMBERS}")


def array_of(
    given: Any,
    what: str = "the inputs",
    error: type[CodedmapError] = InvalidArgument,
    step: str = "All rows must have the same shape",
) -> np.ndarray:
    """The given object as an array; raises an error if it has masked entries or cannot be one."""
    check_plain(given, what, error)
    try:
        return np.asarray(given)
    except Exception as reason:
        problem = str(reason).rstrip(".")
        raise error(f"{what} cannot be made an array: {problem}. {step}") from reason


def no_rows(given: Any, *, several: bool = False) -> InvalidArgument:
    """The error for inputs, or one of ``several``, that are no rows."""
    kind, step = f"of type {type(given).__name__}", ""
    if getattr(given, "shape", None) == ():
        kind = "a single value"
    elif isinstance(given, dict):
        step = ": give pandas.DataFrame(inputs), if these are columns"
    elif hasattr(given, "keys"):  # a group of a Zarr or HDF5 file
        step = ": give one of the arrays in it"
    elif hasattr(given, "__iter__"):
        step = ": give list(inputs)"
    elif several:
        step = ": give list(inputs), if the tuple has the inputs of one argument"
    elif isinstance(given, int):
        step = f": give range({given}), say"
    return InvalidArgument(
        "inputs must be an array, a list, a data frame, or a tuple of these with one for each argument of fn, and not "
        f"{kind}{step}"
    )


def shaped_rows(inputs: Any) -> np.ndarray:
    """Inputs as an array of rows (m, *x), m >= 1, finite or not; raises `InvalidArgument` if they cannot be one."""
    rows = unrounded(array_of(inputs), inputs)
    if rows.ndim == 0:
        raise no_rows(inputs)
    if rows.ndim > MOST_AXES:
        raise InvalidArgument(
            f"inputs have {rows.ndim} axes, and {MOST_AXES} are the most that can be cut into groups: put some "
            "together (inputs.reshape)"
        )
    if rows.size == 0:
        raise InvalidArgument(
            f"inputs of shape {rows.shape} are empty: there is nothing to compute"
        )
    return rows


def check_finite(rows: np.ndarray, numbers: Sequence[int] | np.ndarray | None = None) -> None:
    """Raise `InvalidArgument` unless all rows (m, *x) are finite. Messages call them by these ``numbers``, by default from 0."""
    if rows.dtype.kind in "fc" and not all_finite(rows):
        broken = ~np.isfinite(rows.reshape(len(rows), -1)).all(axis=1)
        first = int(broken.argmax())
        raise InvalidArgument(
            f"{broken.sum()} of {len(rows)} input rows hold NaN or infinity (the first is row "
            f"{first if numbers is None else numbers[first]}), which no code takes, as a mixture would spread it to "
            "every payload: drop or fill these rows, or leave out the code"
        )
