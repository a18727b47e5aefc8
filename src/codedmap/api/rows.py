"""A job without a code: rows on an engine, and what is made of them in the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import ExitStack
from functools import partial
from typing import cast

import numpy as np

from ..contracts.stopping import Outcome
from ..engines import Engine
from ..errors import NotEnoughAnswers
from ..execution.inputs import InputRows
from ..execution.live import LiveJob
from ..execution.scheduler import Job, Scheduler
from ..execution.task import RowsTask
from ..results.calls import CallTable
from ..results.map_result import MapResult
from ..results.status import Status
from ..results.trees import map_leaves
from .missing import Estimates, estimate_missing

__all__ = ["RowsJob"]

_SHOWING = 0.1  # the share of the time that results before the last may take


class RowsJob:
    """Rows on an engine.

    Parameters
    ----------
    job : Job
    engine : Engine
    task : RowsTask
    inputs : InputRows
    record : bool
        As for `LiveJob`.
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
        task: RowsTask,
        inputs: InputRows,
        *,
        record: bool,
        started: float,
        show: Callable[[LiveJob], None],
        deadline: float | None = None,
    ) -> None:
        self._deadline, self._stepped = deadline, 0.0
        self._inputs, self._stop = inputs, job.stop
        # What is missing when a job stops early must not be the last rows, or every estimate extrapolates.
        order = None if job.stop is None else np.random.default_rng(0).permutation(inputs.rows)
        self._live = LiveJob(
            Scheduler(job), engine, task, inputs, order=order, record=record, started=started
        )
        self._show = show

    def run(self) -> Generator[None, None, None]:
        """Run the job; yields after each event."""
        return self._live.run(self._show)

    def stream(self, stack: ExitStack) -> Generator[MapResult, None, None]:
        """Results while the job runs, and the last one."""
        results = self._results(stack)
        next(results)  # starts the job
        return cast("Generator[MapResult, None, None]", results)

    def _results(self, stack: ExitStack) -> Generator[MapResult | None, None, None]:
        with stack:
            spent, begun, shown = 0.0, False, 0
            for _ in self.run():
                if not begun:
                    begun = True
                    yield None
                live = self._live
                done = len(live.calls)
                if (
                    done > shown
                    and live.scheduler.outcome is None
                    and spent <= _SHOWING * live.seconds
                ):
                    before = time.monotonic()
                    result = self._result(Outcome.WAITING, None)
                    spent += time.monotonic() - before
                    shown = done
                    yield result
            if not begun:
                yield None
            yield self.result()

    def result(self) -> MapResult:
        """What the job came to.

        Raises
        ------
        NotEnoughAnswers
            If rows are missing and no stopping rule allows it.
        """
        live = self._live
        outcome = live.scheduler.outcome
        assert outcome is not None
        missing = live.status == Status.MISSING
        if missing.any() and self._stop is None:
            raise NotEnoughAnswers(
                f"{missing.sum()} of {len(missing)} rows are missing (the first is row {missing.argmax()}) "
                f"because {outcome.value}: start more workers"
            )
        estimates = None
        if missing.any():
            self._stepped = live.seconds
            estimates = estimate_missing(self._inputs, live.rows, live.status, self._in_time)
        return self._result(outcome, estimates)

    def _in_time(self) -> bool:
        """Whether there is time for another step that takes as long as the last."""
        now = self._live.seconds
        last, self._stepped = now - self._stepped, now
        return self._deadline is None or now + last < self._deadline

    def _result(self, outcome: Outcome, estimates: Estimates | None) -> MapResult:
        live = self._live
        status = live.status.copy()
        if estimates is None:
            values = live.rows.values(status != Status.EXACT)
            unknown = np.where(status == Status.EXACT, 0.0, np.inf)
            stderr = map_leaves(partial(_row_by_row, unknown), values)
        else:
            values, stderr = estimates.values, estimates.stderr
            status[estimates.rows] = Status.ESTIMATED
        return MapResult(
            values=values,
            stderr=stderr,
            status=status,
            failures=dict(live.failures),
            rejected=(),
            outcome=outcome,
            seconds=live.seconds,
            worker_seconds=live.worker_seconds,
            calls=CallTable(live.calls),
            hedges=live.scheduler.hedges,
        )


def _row_by_row(each: np.ndarray, leaf: np.ndarray) -> np.ndarray:
    """The same number for all entries of a row, in the shape of a leaf; read-only, because it takes no memory."""
    return np.broadcast_to(each.reshape(-1, *[1] * (leaf.ndim - 1)), leaf.shape)
