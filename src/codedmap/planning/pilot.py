"""What is known of a job after some of its rows: inputs, answers, and how long calls took."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..execution.call_times import COLD
from ..execution.inputs import InputRows
from ..execution.missing import as_rows
from ..results.trees import leaves

_LOADING = 0.05  # seconds, at least, that a worker needs to load or compile something
_SEEN = 1000  # rows with an answer, and as many without, that are looked at, at most


class Timed(NamedTuple):
    """A call that was timed."""

    worker: Hashable
    rows: int
    seconds: float
    ended: bool = True  # if not, it still ran after these seconds


@dataclass(frozen=True, slots=True, eq=False)
class Pilot:
    """Answers and times of some rows of a job."""

    answered: int  # rows with an answer
    timed: Sequence[Timed]
    points: np.ndarray
    """(n, d): inputs that have an answer; n = 0 if inputs or answers are not all finite numbers."""
    answers: np.ndarray  # (n, q)
    shape: tuple[int, ...]  # of an input
    copied: bool  # whether codes that copy can be used
    mixed: bool  # whether codes that mix can be used
    overhead: float  # seconds of a call that are not spent in ``fn``
    remarks: tuple[str, ...]
    batches: bool  # whether part of a call's time may not depend on its rows

    @classmethod
    def of(
        cls,
        inputs: InputRows,
        exact: np.ndarray,
        values: Any,
        timed: Sequence[Timed],
        *,
        overhead: float,
        remarks: tuple[str, ...],
        batches: bool,
    ) -> Pilot:
        """The pilot of a job with answers ``values`` (m, *y), or a tree of these, to the rows ``exact`` (m,) bool."""
        rng = np.random.default_rng(0)
        rows, others = (
            np.sort(rng.permutation(np.flatnonzero(which))[:_SEEN]) for which in (exact, ~exact)
        )
        columns = [np.asarray(leaf)[rows] for leaf in leaves(values)] if len(rows) else []
        answers = as_rows(columns, len(rows))
        nothing = np.zeros((0, 0))
        points, other_points = (
            inputs.points(chosen).astype(np.float64) if inputs.numbers and len(chosen) else nothing
            for chosen in (rows, others)
        )
        finite = bool(np.isfinite(points).all() and np.isfinite(other_points).all())
        if answers is None or not finite or not len(points):
            points = answers = nothing
        sound = np.asarray(np.isfinite(answers).all(axis=1))
        if not sound.all():  # then answers that are still to come may not be finite either
            text = f"{(~sound).sum()} of {len(sound)} answers are not finite"
            remarks = (*remarks, text)
            points = answers = nothing
        timed, cold = warm(timed)
        if cold:
            text = f"the first call of each worker took {cold:.3g} s more than others, which is left out"
            remarks = (*remarks, text)
        dtype = inputs.dtype
        # A code takes one array of answers, with an output at least.
        one_array = not len(rows) or (isinstance(values, np.ndarray) and values.size > 0)
        return cls(
            answered=int(exact.sum()),
            timed=timed,
            points=points,
            answers=answers,
            shape=() if dtype is None else tuple(inputs.form[0][1]),
            copied=inputs.stackable and finite and one_array,
            mixed=dtype is not None
            and dtype.kind == "f"
            and [column.dtype.kind for column in columns] == ["f"]
            and len(points) > 0,
            overhead=overhead,
            remarks=remarks,
            batches=batches,
        )


def first_and_later(calls: Sequence[Timed]) -> tuple[list[Timed], list[Timed]]:
    """The first call of each worker, which imports what it needs, and the others."""
    workers: set[Hashable] = set()
    first: list[Timed] = []
    later: list[Timed] = []
    for call in calls:
        (later if call.worker in workers else first).append(call)
        workers.add(call.worker)
    return first, later


def warm(timed: Sequence[Timed]) -> tuple[Sequence[Timed], float]:
    """Calls without the first of each worker, if these load or compile something, and the seconds of that, else 0."""
    first, later = first_and_later(timed)
    each = [call.seconds / call.rows for call in later if call.ended]
    first = [call for call in first if call.ended]
    if not each or not first:
        return timed, 0.0
    row = float(np.median(each))
    longer = float(np.median([call.seconds - call.rows * row for call in first]))
    if longer < _LOADING or np.median([call.seconds / call.rows for call in first]) <= COLD * row:
        return timed, 0.0
    return later, longer
