"""A job without a code: rows on an engine, and what is made of them in the end."""

from __future__ import annotations

import math
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ..contracts.stopping import Outcome, tolerance_of
from ..engines import Engine
from ..errors import NotEnoughAnswers
from ..estimation import Known
from ..estimation.surrogate import import_what_is_used
from ..execution.inputs import InputRows
from ..execution.job import MapJob
from ..execution.job_rows import JobRows
from ..execution.live import Budget, LiveJob
from ..execution.missing import (
    Effort,
    Estimates,
    estimate_missing,
    time_for_estimates,
    warn_of_losses,
)
from ..execution.rows import KeptTasks, RowsWork
from ..execution.scheduler import Job, Scheduler
from ..results.calls import CallTable
from ..results.map_result import MapResult
from ..results.status import Status
from ..results.trees import map_leaves
from ..storage.store import Store

_TESTING = 2.0  # seconds that there must be to test whether losses depend on the inputs
_LOOKING = 0.05  # the share of the time that standard errors may take while calls run
_ENOUGH = 20  # answers from which standard errors are believed
_SOME = 1000  # missing rows whose standard errors are looked at before those of all


class RowsJob(MapJob):
    """Rows on an engine.

    ``started`` is when `map` was called, by `time.monotonic`, and ``deadline`` when estimates should be made, in seconds
    after it. ``show`` is called with the `LiveJob` after each event. From ``known`` answers rows are estimated too.
    Answers are kept in the ``store``, by default in memory. Rows are started in a random order if ``shuffled``, by
    default if the job may stop early.
    """

    def __init__(
        self,
        job: Job,
        engine: Engine,
        tasks: KeptTasks,
        inputs: InputRows,
        *,
        record: bool,
        started: float,
        show: Callable[[LiveJob], None],
        deadline: float | None = None,
        store: Store | None = None,
        known: Known | None = None,
        shuffled: bool | None = None,
    ) -> None:
        self._deadline = deadline
        self._known = None if known is None else (known.inputs, known.answers)
        self._engine, self._tasks, self._stop, self._store = engine, tasks, job.stop, store
        # What is missing when a job stops early must not be the last rows, or every estimate extrapolates.
        self._shuffled = shuffled = job.stop is not None if shuffled is None else shuffled
        self._rows = rows = JobRows(inputs, store, shuffled=shuffled)
        self._work = RowsWork(tasks, rows, record=record, call_timeout=job.call_timeout)
        self._tolerance = tolerance_of(job.stop) or 0.0
        self._looked: tuple[int, float | None, list[Estimates]] = (0, None, [])
        this = weakref.proxy(self)  # answers must not wait for the collector

        def worst(chunk: int, last: bool) -> float | None:
            found: float | None = this._worst(last)
            return found

        job = replace(job, groups=rows.count, more=not rows.ended, stderr=worst)
        super().__init__(LiveJob(Scheduler(job), engine, self._work, started=started), show)
        self._looking = Budget(self.live, _LOOKING)

    def happened(self, live: LiveJob) -> None:
        super().happened(live)
        if self._shuffled:  # what estimates import must not take the time that they have
            import_what_is_used()

    def so_far(self) -> MapResult:
        """The rows answered so far."""
        return self._result(Outcome.WAITING)

    def result(self) -> MapResult:
        """What the job came to; raises `NotEnoughAnswers` if rows are missing and no stopping rule allows it."""
        live, status = self.live, self._rows.status
        outcome = live.scheduler.outcome
        assert outcome is not None
        missing = status == Status.MISSING
        if missing.any() and self._stop is None:
            raise NotEnoughAnswers(
                f"{missing.sum()} of {len(missing)} rows are missing (the first is row {missing.argmax()}) "
                f"because {outcome.value}: start more workers"
            )
        self._rows.check_read(outcome)
        estimates: Iterable[Estimates] = ()
        if outcome is Outcome.TOLERANCE:
            estimates = self._looked[2]
        elif missing.any():
            estimates = self._estimated(
                np.flatnonzero(missing), *time_for_estimates(live, self._deadline)
            )
        if missing.any() and not self._rows.inputs.numbers:
            warnings.warn(
                f"{missing.sum():,} rows without an answer are MISSING: they are not estimated, because the inputs are not "
                "numbers. Encode them, for example with pandas.get_dummies(X)",
                stacklevel=4,
            )
        before = status.copy()
        if self._store is None:
            result = self._result(outcome, list(estimates))
        else:
            for found in estimates:
                self._store.put_estimates(found.rows, found.values, found.row_stderr)
            values, stderr = self._store.finish()
            result = self._made(values, stderr, status, outcome)
        estimated = (result.status == Status.ESTIMATED).any()
        if estimated and self._time_left() > _TESTING:
            warn_of_losses(self._rows.inputs, before)
        return result

    def _worst(self, last: bool) -> float | None:
        """The largest standard error of the rows that are missing; None if there is none yet, or no time to look."""
        answers = self.live.answers
        if answers != self._looked[0]:
            if not (last or self._looking.allows()):
                return None
            status = self._rows.status
            missing = np.flatnonzero(status == Status.MISSING)
            worst: float | None = None
            found: list[Estimates] = []
            with self._looking:
                if (status == Status.EXACT).sum() >= _ENOUGH:
                    worst, found = self._largest(missing[:: -(-len(missing) // _SOME) or 1])
                if worst is not None and worst <= self._tolerance:
                    worst, found = self._largest(missing)
            self._looked = answers, worst, found
        return self._looked[1]

    def _largest(self, missing: np.ndarray) -> tuple[float | None, list[Estimates]]:
        found = list(self._estimated(missing, "quick", self._time_left))
        worst = max((part.largest for part in found), default=None)
        return worst, found

    def _estimated(
        self, missing: np.ndarray, effort: Effort, time_left: Callable[[], float]
    ) -> Iterator[Estimates]:
        return estimate_missing(
            self._rows.inputs,
            np.flatnonzero(self._rows.status == Status.EXACT),
            missing,
            self._exact if self._store is None else self._store.read,
            time_left,
            effort=effort,
            sample=self._store is not None,
            more=self._known,
        )

    def _exact(self, rows: np.ndarray) -> Any:
        values = self._work.answers.values(self._rows.status != Status.EXACT)
        return map_leaves(lambda leaf: leaf[rows], values)

    def _time_left(self) -> float:
        """Seconds until the deadline."""
        return math.inf if self._deadline is None else self._deadline - self.live.seconds

    def _result(self, outcome: Outcome, estimates: Sequence[Estimates] = ()) -> MapResult:
        status = self._rows.status.copy()
        values = self._work.answers.values(status != Status.EXACT)
        spread = np.where(status == Status.EXACT, 0.0, np.inf)
        stderr = map_leaves(partial(_row_by_row, spread), values)
        if estimates:
            stderr = map_leaves(np.array, stderr)
        for found in estimates:
            map_leaves(partial(_put, found.rows), values, found.values)
            map_leaves(partial(_put, found.rows), stderr, found.stderr)
            status[found.rows] = Status.ESTIMATED
        return self._made(values, stderr, status, outcome)

    def _made(self, values: Any, stderr: Any, status: np.ndarray, outcome: Outcome) -> MapResult:
        live = self.live
        return MapResult(
            values=values,
            stderr=stderr,
            status=status,
            failures=dict(self._work.failures),
            rejected=(),
            outcome=outcome,
            seconds=live.seconds,
            worker_seconds=live.worker_seconds,
            calls=CallTable(list(live.calls)),
            hedges=live.scheduler.hedges,
        )


def _put(rows: np.ndarray, leaf: np.ndarray, guesses: np.ndarray) -> None:
    leaf[rows] = guesses


def _row_by_row(each: np.ndarray, leaf: np.ndarray) -> np.ndarray:
    """The same number for all entries of a row, in the shape of a leaf; read-only, because it takes no memory."""
    return np.broadcast_to(each.reshape(-1, *[1] * (leaf.ndim - 1)), leaf.shape)
