"""Estimates of rows without an answer, from the rows that have one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial import KDTree

from ..codes import KernelCode
from ..errors import CodedmapError
from ..estimation import Prior
from ..execution.inputs import InputRows
from ..results.status import Status
from ..results.trees import leaves, map_leaves

__all__ = ["Estimates", "estimate_missing"]

_TOGETHER = 40  # rows estimated together
_NEAREST = 30  # answered rows for each
_MOST = 150  # answered rows for all of them
_NEIGHBOURS = 8  # where there is no time
_SAMPLE = 4096  # answered rows, where they are in a file
_BLOCK = 1 << 16  # rows estimated at a time
_NEVER = 1e9  # standard deviations: no honest answer is rejected


class Estimates(NamedTuple):
    """Estimates of some rows."""

    rows: np.ndarray
    """(e,) int, ascending."""
    values: Any
    """A tree of arrays (e, *y)."""
    stderr: np.ndarray
    """(e,)."""


def estimate_missing(
    inputs: InputRows,
    status: np.ndarray,
    answers: Callable[[np.ndarray], Any],
    in_time: Callable[[], bool],
    *,
    sample: bool = False,
) -> Iterator[Estimates]:
    """Estimate the rows that are MISSING by Gaussian-process regression on the nearest exact ones, some at a time.

    FAILED rows are not estimated: they failed because of their inputs. Nothing if nothing can be estimated:
    the inputs are not one array of finite numbers, an output is not a number, or too few rows are exact.

    Parameters
    ----------
    inputs : InputRows
    status : ndarray, shape (m,)
    answers : callable
        The answers of some rows.
    in_time : callable
        Asked before each step of the regression; if not, the rest are weighted means of neighbours.
    sample : bool
        Whether to use some of the answers only, so that they need not fit into memory.
    """
    exact, missing = (np.flatnonzero(status == s) for s in (Status.EXACT, Status.MISSING))
    if sample and len(exact) > _SAMPLE:
        exact = np.sort(np.random.default_rng(0).choice(exact, _SAMPLE, replace=False))
    if not inputs.numeric or len(exact) < 2 or not len(missing):
        return
    points, tree = inputs.points(exact), answers(exact)
    columns = leaves(tree)
    if not np.isfinite(points).all() or any(column.dtype.kind != "f" for column in columns):
        return
    flat = np.concatenate([column.reshape(len(exact), -1) for column in columns], axis=1)
    usable = np.isfinite(flat).all(axis=1)
    points, flat = points[usable], flat[usable]
    if len(points) < 2:
        return
    for begin in range(0, len(missing), _BLOCK):
        rows = missing[begin : begin + _BLOCK]
        wanted = inputs.points(rows)
        if not np.isfinite(wanted).all():
            return
        try:
            guesses, errors = _regressed(points, flat, wanted, in_time)
        except CodedmapError:
            return
        yield Estimates(rows, _unflattened(guesses, tree), errors)


def _unflattened(flat: np.ndarray, tree: Any) -> Any:
    """Rows of numbers as a tree like another."""
    begin = 0

    def leaf(like: np.ndarray) -> np.ndarray:
        nonlocal begin
        begin, end = begin + int(np.prod(like.shape[1:], dtype=int)), begin
        return flat[:, end:begin].reshape(len(flat), *like.shape[1:]).astype(like.dtype)

    return map_leaves(leaf, tree)


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
