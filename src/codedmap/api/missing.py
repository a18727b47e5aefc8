"""Estimates of rows without an answer, from the rows that have one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial import KDTree

from ..codes import KernelCode
from ..errors import CodedmapError
from ..estimation import Prior
from ..execution.inputs import InputRows
from ..results.status import Status
from ..results.trees import Rows, leaves, map_leaves

__all__ = ["Estimates", "estimate_missing"]

_TOGETHER = 40  # rows estimated together
_NEAREST = 30  # answered rows for each
_MOST = 150  # answered rows for all of them
_NEIGHBOURS = 8  # where there is no time
_NEVER = 1e9  # standard deviations: no honest answer is rejected


class Estimates(NamedTuple):
    """Values of all rows, some of them estimated."""

    rows: np.ndarray
    """(e,) int: the rows that are estimated."""
    values: Any
    """A tree of arrays (m, *y)."""
    stderr: Any
    """Like ``values``: 0 where exact, infinite where nothing is known."""


def estimate_missing(
    inputs: InputRows, answers: Rows, status: np.ndarray, in_time: Callable[[], bool]
) -> Estimates | None:
    """Estimate the rows that are MISSING by Gaussian-process regression on the nearest exact ones.

    FAILED rows are not estimated: they failed because of their inputs. None if nothing can be estimated:
    the inputs are not one array of finite numbers, an output is not a number, or too few rows are exact.

    Parameters
    ----------
    inputs : InputRows
    answers : Rows
    status : ndarray, shape (m,)
    in_time : callable
        Asked before each step of the regression; if not, the rest are weighted means of neighbours.
    """
    array = inputs.array
    exact, missing = (np.flatnonzero(status == s) for s in (Status.EXACT, Status.MISSING))
    if array is None or len(exact) < 2 or not len(missing):
        return None
    points = array.reshape(len(array), -1).astype(np.float64)
    values = answers.values(status != Status.EXACT)
    columns = leaves(values)
    if not np.isfinite(points).all() or any(column.dtype.kind != "f" for column in columns):
        return None
    flat = np.concatenate([column[exact].reshape(len(exact), -1) for column in columns], axis=1)
    usable = np.isfinite(flat).all(axis=1)
    exact, flat = exact[usable], flat[usable]
    if len(exact) < 2:
        return None
    try:
        guesses, errors = _regressed(points[exact], flat, points[missing], in_time)
    except CodedmapError:
        return None
    placed: list[np.ndarray] = []
    begin = 0
    for column in columns:
        width = int(np.prod(column.shape[1:], dtype=int))
        part = guesses[:, begin : begin + width]
        column[missing] = part.reshape(len(missing), *column.shape[1:])
        spread = np.zeros(column.shape)
        spread[status == Status.FAILED] = np.inf
        spread[missing] = errors.reshape(-1, *[1] * (column.ndim - 1))
        placed.append(spread)
        begin += width
    parts = iter(placed)
    return Estimates(missing, values, map_leaves(lambda _: next(parts), values))


def _regressed(
    known: np.ndarray, answers: np.ndarray, wanted: np.ndarray, in_time: Callable[[], bool]
) -> tuple[np.ndarray, np.ndarray]:
    """Values (e, q) and standard errors (e,) at points, from answers (n, q) at others."""
    scale = known.std(axis=0)
    scale[scale == 0.0] = 1.0
    tree = KDTree(known / scale)
    values, errors = _averaged(tree, answers, wanted / scale)
    along = np.argsort((wanted / scale) @ _longest(known / scale), kind="stable")
    prior = None
    for begin in range(0, len(along), _TOGETHER):
        if not in_time():
            break
        some = along[begin : begin + _TOGETHER]
        near = tree.query(wanted[some] / scale, k=min(_NEAREST, len(known)))[1].reshape(
            len(some), -1
        )
        used = list(dict.fromkeys(near.T.ravel().tolist()))[:_MOST]
        values[some], errors[some], prior = _group(known[used], answers[used], wanted[some], prior)
    return values, errors


def _averaged(
    tree: KDTree, answers: np.ndarray, wanted: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Inverse-distance means of neighbours, with the deviation of these as standard error."""
    count = min(_NEIGHBOURS, len(answers))
    distances, near = tree.query(wanted, k=count)
    weights = 1.0 / np.maximum(distances.reshape(-1, count), 1e-12)
    weights /= weights.sum(axis=1, keepdims=True)
    around = answers[near.reshape(-1, count)]
    values = np.einsum("ec,ecq->eq", weights, around)
    deviation = np.sqrt(((around - values[:, None]) ** 2).mean(axis=(1, 2)))
    everywhere = float(answers.std(axis=0).max()) or 1.0
    return values, np.maximum(deviation, 1e-6 * everywhere)


def _longest(points: np.ndarray) -> np.ndarray:
    """The direction in which points vary most."""
    centred = points - points.mean(axis=0)
    return np.asarray(np.linalg.svd(centred[:2000], full_matrices=False)[2][0])


def _group(
    known: np.ndarray, answers: np.ndarray, wanted: np.ndarray, prior: Prior | None
) -> tuple[np.ndarray, np.ndarray, Prior | None]:
    """Values and standard errors at points, and the prior, which is chosen if none is given."""
    tasks = len(known) + len(wanted)
    code = KernelCode(tasks, tasks, 0, spread=0.0, suspicion=_NEVER, prior=prior)
    encoding = code.encode(np.concatenate([known, wanted])[:, None, :])
    slot_of = {task: slot for slot, task in enumerate(encoding.raw) if task is not None}
    given = {slot_of[task]: answer[None] for task, answer in enumerate(answers)}
    estimate = encoding.decode(given)
    assert estimate.stderr is not None
    values, errors = estimate.values[len(known) :, 0], estimate.stderr[len(known) :, 0]
    return values, errors, prior or encoding.learned
