"""A job without a code: rows on an engine, and what is made of them in the end."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from ..contracts.stopping import Outcome
from ..engines import Engine
from ..errors import NotEnoughAnswers
from ..execution.inputs import InputRows
from ..execution.job import MapJob
from ..execution.live import LiveJob
from ..execution.rows import KeptTasks, RowsWork
from ..execution.scheduler import Job, Scheduler
from ..results.calls import CallTable
from ..results.map_result import MapResult
from ..results.status import Status
from ..results.trees import map_leaves
from .missing import Estimates, estimate_missing

__all__ = ["RowsJob"]

_LEAST, _SHARE = (
    5.0,
    0.1,
)  # seconds, and the share of a job's time, for estimates without a deadline


class RowsJob(MapJob):
    """Rows on an engine.

    Parameters
    ----------
    job : Job
    engine : Engine
    tasks : KeptTasks
    inputs : InputRows
    record : bool
        As for `RowsWork`.
    started : float
        When `map` was called, by `time.monotonic`.
    show : callable
        Called with the `LiveJob` after each event.
    deadline : float, optional
        When estimates should be made, in seconds after ``started``.
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
    ) -> None:
        self._deadline, self._computed = deadline, 0.0
        self._inputs, self._stop = inputs, job.stop
        # What is missing when a job stops early must not be the last rows, or every estimate extrapolates.
        order = None if job.stop is None else np.random.default_rng(0).permutation(inputs.rows)
        self._work = RowsWork(
            tasks, inputs, order=order, record=record, call_timeout=job.call_timeout
        )
        super().__init__(LiveJob(Scheduler(job), engine, self._work, started=started), show)

    def so_far(self) -> MapResult:
        """The rows answered so far."""
        return self._result(Outcome.WAITING, None)

    def result(self) -> MapResult:
        """What the job came to.

        Raises
        ------
        NotEnoughAnswers
            If rows are missing and no stopping rule allows it.
        """
        live, work = self.live, self._work
        outcome = live.scheduler.outcome
        assert outcome is not None
        missing = work.status == Status.MISSING
        if missing.any() and self._stop is None:
            raise NotEnoughAnswers(
                f"{missing.sum()} of {len(missing)} rows are missing (the first is row {missing.argmax()}) "
                f"because {outcome.value}: start more workers"
            )
        estimates = None
        if missing.any():
            self._computed = live.seconds
            estimates = estimate_missing(self._inputs, work.rows, work.status, self._time_left)
        return self._result(outcome, estimates)

    def _time_left(self) -> float:
        """Seconds that estimates may take: until the deadline, or without one a share of the job's time."""
        now = self.live.seconds
        if self._deadline is not None:
            return self._deadline - now
        return max(_LEAST, _SHARE * self._computed) - (now - self._computed)

    def _result(self, outcome: Outcome, estimates: Estimates | None) -> MapResult:
        live, work = self.live, self._work
        status = work.status.copy()
        if estimates is None:
            values = work.rows.values(status != Status.EXACT)
            unknown = np.where(status == Status.EXACT, 0.0, np.inf)
            stderr = map_leaves(partial(_row_by_row, unknown), values)
        else:
            values, stderr = estimates.values, estimates.stderr
            status[estimates.rows] = Status.ESTIMATED
        return MapResult(
            values=values,
            stderr=stderr,
            status=status,
            failures=dict(work.failures),
            rejected=(),
            outcome=outcome,
            seconds=live.seconds,
            worker_seconds=live.worker_seconds,
            calls=CallTable(list(live.calls)),
            hedges=live.scheduler.hedges,
        )


def _row_by_row(each: np.ndarray, leaf: np.ndarray) -> np.ndarray:
    """The same number for all entries of a row, in the shape of a leaf; read-only, because it takes no memory."""
    return np.broadcast_to(each.reshape(-1, *[1] * (leaf.ndim - 1)), leaf.shape)
