"""Estimates of rows without an answer, from the rows that have one."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..estimation.losses import dependence
from ..estimation.surrogate import estimates
from ..execution.inputs import InputRows
from ..results.status import Status
from ..results.trees import Rows, leaves, map_leaves

__all__ = ["Estimates", "estimate_missing"]

_TESTING = 2.0  # seconds that there must be to test whether losses depend on the inputs


class Estimates(NamedTuple):
    """Values of all rows, some of them estimated."""

    rows: np.ndarray
    """(e,) int: the rows that are estimated."""
    values: Any
    """A tree of arrays (m, *y)."""
    stderr: Any
    """Like ``values``: 0 where exact, infinite where nothing is known."""


def estimate_missing(
    inputs: InputRows, answers: Rows, status: np.ndarray, time_left: Callable[[], float]
) -> Estimates | None:
    """Estimate the rows that are MISSING from the exact ones.

    FAILED rows are not estimated: they failed because of their inputs. None if nothing can be estimated:
    the inputs are not one array of finite numbers, an output is not a number, or too few rows are exact.

    Parameters
    ----------
    inputs : InputRows
    answers : Rows
    status : ndarray, shape (m,)
    time_left : callable
        Seconds until estimates should be there.
    """
    array = inputs.array
    exact, missing = (np.flatnonzero(status == s) for s in (Status.EXACT, Status.MISSING))
    if array is None or len(exact) < 2 or not len(missing):
        return None
    points = array.reshape(len(array), -1).astype(np.float64)
    values = map_leaves(_as_floats, answers.values(status != Status.EXACT))
    columns = leaves(values)
    if not np.isfinite(points).all() or any(column.dtype.kind != "f" for column in columns):
        return None
    flat = np.concatenate([column[exact].reshape(len(exact), -1) for column in columns], axis=1)
    usable = np.isfinite(flat).all(axis=1)
    if usable.sum() < 2:
        return None
    found = estimates(
        points[exact][usable], flat[usable].astype(np.float64), points[missing], time_left=time_left
    )
    spreads: list[np.ndarray] = []
    begin = 0
    for column in columns:
        width = int(np.prod(column.shape[1:], dtype=int))
        part = slice(begin, begin + width)
        shape = (len(missing), *column.shape[1:])
        column[missing] = found.values[:, part].reshape(shape)
        spread = np.zeros(column.shape)
        spread[status == Status.FAILED] = np.inf
        spread[missing] = found.stderr[:, part].reshape(shape)
        spreads.append(spread)
        begin += width
    if time_left() > _TESTING:
        _warn(points, status)
    parts = iter(spreads)
    return Estimates(missing, values, map_leaves(lambda _: next(parts), values))


def _as_floats(leaf: np.ndarray) -> np.ndarray:
    """A leaf with room for estimates: NaN where rows are missing has made integers floats already."""
    return leaf.astype(np.float64) if leaf.dtype.kind in "biu" else leaf


def _warn(points: np.ndarray, status: np.ndarray) -> None:
    """Warn if which rows are missing depends on their inputs, as it does where these decide how long a call takes."""
    names = [f"input {k}" for k in range(points.shape[1])]
    losses = dependence(points, status == Status.MISSING, names, seed=0)
    if losses is not None:
        warnings.warn(
            f"rows are not missing at random: {losses}. Estimates there rest on few answers, or on none like them, and "
            "may be biased",
            stacklevel=5,
        )
