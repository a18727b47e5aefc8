"""What is written of a wave, and the form it takes: that of the waves before, or of the arrays that take it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import InvalidAnswer

__all__ = ["Columns", "Form", "entry", "form_of", "formed", "nothing_known"]

Columns = dict[str, np.ndarray]
"""What is written of each wave: values, exact, and stderr if the code has standard errors."""
Form = dict[str, list[Any]]
"""For each column its dtype, as .npy files put it, and the shape of a row."""


def form_of(columns: Columns) -> Form:
    """What these columns look like, in a form that JSON can hold."""
    return {name: entry(array.dtype, array.shape[1:]) for name, array in columns.items()}


def entry(dtype: np.dtype[Any], shape: tuple[int, ...]) -> list[Any]:
    """What a `Form` has for a column of this dtype, and rows of this shape."""
    return [np.lib.format.dtype_to_descr(dtype), list(map(int, shape))]


def nothing_known(columns: Columns) -> bool:
    """Whether not one answer came, so that not even the form of answers is known."""
    values = columns["values"]
    if columns["exact"].any() or values.ndim != 1 or values.dtype.kind != "f":
        return False
    return bool(np.isnan(values).all())


def formed(columns: Columns, form: Form, begin: int, *, given: bool) -> Columns:
    """The columns in this form.

    Parameters
    ----------
    columns : Columns
    form : Form
    begin : int
        Their first row, for the message.
    given : bool
        Whether the form is that of the caller's arrays, which may be less precise, and not that of waves before.

    Raises
    ------
    InvalidAnswer
        If they do not fit into it.
    """
    made, rows, lost = {}, len(columns["exact"]), nothing_known(columns)
    for name, (descr, shape) in form.items():
        dtype, wanted = np.lib.format.descr_to_dtype(descr), (rows, *shape)
        array = columns.get(name)
        if array is None:  # standard errors, of which a wave that could be decoded has none
            array = np.where(columns["exact"], 0.0, np.nan)
        if name == "values" and lost and dtype.kind in "fcO":
            array = np.full(wanted, np.nan, dtype)
        fits = None
        if array.shape == wanted:
            fits = _cast(array, dtype, rounds=given or name == "stderr")
        if fits is None:
            has = f"dtype {dtype} and shape {tuple(shape)}"
            raise InvalidAnswer(
                f"the {name} of rows {begin:,} to {begin + rows - 1:,} have dtype {array.dtype} and rows "
                f"of shape {array.shape[1:]}, and "
                + (
                    f"those that out takes have {has}: give it one that holds them"
                    if given
                    else f"those before {has}: have fn return the same for all rows, or give an array as "
                    "out= that takes both"
                )
            )
        made[name] = fits
    return made


def _cast(array: np.ndarray, dtype: np.dtype[Any], *, rounds: bool) -> np.ndarray | None:
    """The array in this dtype; None if that does not hold it, or only rounded, unless ``rounds``."""
    numbers = dtype.kind in "biufcO" or dtype.kind == array.dtype.kind
    if not np.can_cast(array.dtype, dtype, "same_kind" if rounds and numbers else "safe"):
        return None
    with np.errstate(over="ignore"):
        cast = array.astype(dtype, copy=False)
    if array.dtype == dtype:
        return cast
    if dtype.kind in "fc":
        kept = np.isfinite(cast) == np.isfinite(array)
    elif {dtype.kind, array.dtype.kind} <= {"i", "u"} or dtype.kind in "SU":
        kept = cast == array
    else:
        return cast
    return cast if kept.all() else None
