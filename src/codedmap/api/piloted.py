"""Jobs without a code that are planned by their first rows: those of `plan`, and of `map` with ``code="auto"``."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from ..contracts.code import Code
from ..contracts.engine import Reply, members_of
from ..contracts.stopping import Outcome, Share
from ..errors import NotEnoughAnswers
from ..execution.job import MapJob
from ..execution.job_rows import JobRows
from ..execution.missing import COMPUTING
from ..execution.task import Batch
from ..execution.uncoded import RowsJob
from ..planning.pilot import Pilot, Timed
from ..planning.ways import LEAST, Question, budget_of, planned
from ..results.map_result import MapResult
from ..results.plan import Plan
from ..results.status import Status
from ..results.trees import leaves

_CALLS = 0.4  # of the budget, for calls
_PLENTY, _PLENTY_CALLS = 1000, 200  # rows and calls that are enough for any plan
_FIRST, _FEWEST = 0.05, 5  # share of the rows, and rows, after which a plan is made;
_MORE = 2.0  # times as many until the next one
_LOOK = 0.02  # of the job's time, for a plan while it goes on
_CLOSE = 1.05  # times the rows that there are: for so few more it does not go on
_ESTIMATING = 0.2  # seconds for estimates, if that is more than the rest of the time
_LAST = 0.6  # of the rows: when more have an answer, no plan is made
_POLLED = 0.02  # seconds
_ALIKE = 1e-3  # of the outputs' deviation, by which two answers of one row may differ


class _Piloted(RowsJob):
    """Rows in a random order, whose answers and times tell how to run the job."""

    def __init__(self, *given: Any, question: Question, **rest: Any) -> None:
        super().__init__(*given, shuffled=True, **rest)
        self._question = question
        self._first: float | None = None
        self._again: tuple[int, Future[Reply]] | None = None
        """A row that has an answer, and the same by another worker."""

    def happened(self) -> None:
        super().happened()
        if self.counts[0] and self.scheduler.outcome is None:
            if self._first is None:
                self._first = max(0.0, self.seconds - max(call.seconds for call in self.calls))
                self._compute_again()
            self._look()

    def _look(self) -> None:
        """Plan, if it is time to; a subclass says when."""
        raise NotImplementedError

    @property
    def _elapsed(self) -> float:
        """Seconds since the first call began."""
        return 0.0 if self._first is None else self.seconds - self._first

    def _compute_no_more(self) -> None:
        # What is estimated in the end has the last tenth of the time.
        self._deadline = self.seconds + max(_ESTIMATING, self.seconds * (1.0 / COMPUTING - 1.0))
        done, rows = self.counts[0], len(self._rows.status)
        self._stop = Share((done - 0.5) / rows)
        self.scheduler.job = replace(self.scheduler.job, stop=self._stop)
        self.wake_at(self.seconds)

    def _compute_again(self) -> None:
        """Have a row that has an answer computed by another worker, if there is one."""
        row = int(np.flatnonzero(self._rows.status == Status.EXACT)[0])
        before = {call.worker for call in self.calls if row in call.rows}
        names = sorted(members_of(self.engine))
        if not names:
            return
        worker = next((name for name in reversed(names) if name not in before), names[-1])
        at = slice(row, row + 1)
        batch = Batch(self._rows.inputs.batch(at), 1, range(row, row + 1))
        future = self.engine.submit(worker, self._tasks.on(worker), batch)
        self._again = row, future
        self.beside.append(future)

    def _pilot(self) -> Pilot:
        """What is known by now."""
        exact = self._rows.status == Status.EXACT
        values = self.values.values(~exact)
        timed = [
            Timed(call.worker, len(call.rows), call.seconds, call.outcome in ("answered", "late"))
            for call in self.calls
            if call.outcome in ("answered", "late", "abandoned") and len(call.rows)
        ]
        timed += [Timed(call.worker, call.groups, seconds, False) for call, seconds in self.waiting]
        differ = self._differ(values)
        pilot = Pilot.of(
            self._rows.inputs,
            exact,
            values,
            timed,
            overhead=self.scheduler.overhead,
            remarks=(differ,) if differ else (),
            batches=self.scheduler.job.batches,
        )
        return replace(pilot, copied=False, mixed=False) if differ else pilot

    def _differ(self, values: Any) -> str:
        """That two answers of a row differ, if they do."""
        if self._again is None or not self._again[1].done():
            return ""
        row, future = self._again
        with suppress(Exception):  # it says nothing then
            reply = future.result()
            if reply.raised:
                return ""
            for leaf, other in zip(leaves(values), leaves(reply.values, values), strict=True):
                one, two = np.asarray(leaf)[row], np.asarray(other)[0]
                apart = _apart(one, two, np.asarray(leaf)[self._rows.status == Status.EXACT])
                if apart is not None:
                    return (
                        f"two answers to row {row} differ{apart}: fn draws at random, so that estimates are of its "
                        "mean, and codes that compare answers are left out; with seed= each run of a row draws the same"
                    )
        return ""


class Sample(_Piloted):
    """Rows of a sample, as many as there is time for, and a plan, which may take ``budget`` seconds."""

    def __init__(self, *given: Any, budget: float | None, **rest: Any) -> None:
        super().__init__(*given, **rest)
        self.otherwise = "leave it out of the sample"
        self._budget = budget

    def plan(self) -> Plan:
        """Compute rows, and make a plan; raises `NotEnoughAnswers` if none was answered, `RowFailed` if one failed."""
        for _ in self.steps():
            pass
        outcome, answered = self.scheduler.outcome, self.counts[0]
        if not answered or outcome is Outcome.NONE_RUNNING:
            assert outcome is not None
            raise NotEnoughAnswers(
                f"{answered} of {len(self._rows.status)} rows of the sample were answered, because {outcome.value}: "
                "start more workers, or call fn on these rows to see what is wrong"
            )
        begun, calls = time.perf_counter(), self._elapsed
        budget = self._allowed(answered)
        if self._again is not None:
            with suppress(Exception):  # it is only looked at if it has come
                self._again[1].result(timeout=max(0.0, budget - calls) / 4.0)
        return planned(
            self._question,
            self._pilot(),
            budget=budget,
            spent=lambda: calls + time.perf_counter() - begun,
        )

    def _allowed(self, answered: int) -> float:
        """Seconds of planning."""
        if self._budget is not None:
            return self._budget
        ask = self._question
        seconds = self._elapsed * self.engine.workers / ask.workers
        return budget_of(ask.rows, answered, seconds)

    def _look(self) -> None:
        answered = self.counts[0]
        due = _CALLS * self._allowed(answered)
        plenty = answered >= _PLENTY and self.answers >= _PLENTY_CALLS
        if self._elapsed >= due or plenty:
            self._compute_no_more()
        else:
            self.wake_at(self.seconds + due - self._elapsed)


class PlannedRows(_Piloted):
    """Rows on an engine until a plan, made anew as more of them are answered, says what to do with the others.

    Plans are made in a thread, while calls run. ``coded`` makes a job for the rows that have no answer, of a code, these
    rows, answers to the others and why some have failed, and the plan.
    """

    def __init__(
        self, *given: Any, coded: Callable[[Code, JobRows, Any, Plan | None], MapJob], **rest: Any
    ) -> None:
        super().__init__(*given, **rest)
        self._coded = coded
        self._plan: Plan | None = None
        self._planning: Future[Plan] | None = None
        self._next = max(_FEWEST, math.ceil(_FIRST * self._question.rows))
        self._code: Code | None = None

    def then(self) -> MapJob | None:
        # After a deadline there is no time to wait for a plan.
        late = self.scheduler.outcome is Outcome.DEADLINE
        if self._plan is None:
            if self._planning is None and not late and self.counts[0]:
                self._planning = self._start()
            if self._planning is not None and (self._planning.done() or not late):
                self._plan = self._planning.result()
        status = self._rows.status
        if self._code is None or not (status == Status.MISSING).any():
            return None
        values = self.values.values(np.zeros(len(status), dtype=bool))  # in their own type
        left = JobRows(self._rows.inputs, status=status.copy())
        job = self._coded(self._code, left, (values, self.failures), self._plan)
        job.calls += self.calls
        job.worker_seconds += self.worker_seconds
        job.other_hedges = self.hedges
        return job

    def result(self) -> MapResult:
        """As `RowsJob.result`, with the plan."""
        return replace(super().result(), plan=self._plan)

    def _look(self) -> None:
        if self._planning is None:
            if self._next <= self.counts[0] <= max(_FEWEST, _LAST * self._question.rows):
                self._planning = self._start()
        elif self._planning.done():
            self._plan, self._planning = self._planning.result(), None
            self._follow(self._plan, self.counts[0])
            return
        if self._planning is not None:
            self.wake_at(self.seconds + _POLLED)

    def _start(self) -> Future[Plan]:
        answered, begun = self.counts[0], time.perf_counter()
        ask, pilot = self._question, self._pilot()
        expected = ask.rows * self._elapsed / max(1, answered)
        budget = max(LEAST, _LOOK * expected)

        def spent() -> float:  # all, where the job has ended and the plan is of no use
            return budget if self.ended else time.perf_counter() - begun

        def plan() -> Plan:
            made = planned(ask, pilot, budget=budget, spent=spent)
            return replace(made, seconds=time.perf_counter() - begun)

        return _in_thread(plan)

    def _follow(self, plan: Plan, answered: int) -> None:
        """Go on as planned."""
        best, rows = plan.rows[0], self._question.rows
        first = self._next <= max(_FEWEST, math.ceil(_FIRST * rows))
        if best.code is not None and first:
            self._code = best.code
            self._compute_no_more()
            return
        wanted = _MORE * plan.computed
        if best.deadline is not None and self._question.deadline is None:
            if best.exact * rows <= _CLOSE * answered:
                self._compute_no_more()
                return
            wanted = min(wanted, best.exact * rows)
        self._next = math.ceil(max(wanted, _CLOSE * answered))


def _apart(one: np.ndarray, two: np.ndarray, answers: np.ndarray) -> str | None:
    """By how much two answers differ, in words; None if they do not."""
    if one.shape != two.shape or one.dtype.kind not in "biufc" or two.dtype.kind not in "biufc":
        return None if np.array_equal(one, two) else ""
    # Answers may be as large as numbers can be, or infinite.
    with np.errstate(over="ignore", invalid="ignore"):
        spread = np.maximum(answers.std(axis=0), 1e-9 * np.abs(one))
        off = float(np.max(np.abs(one - two) / np.where(spread > 0.0, spread, 1.0), initial=0.0))
    return f" by {off:.2g} deviations of the outputs" if off > _ALIKE else None


def _in_thread(make: Callable[[], Plan]) -> Future[Plan]:
    """What is made in a thread that the end of the program does not wait for."""
    future: Future[Plan] = Future()

    def run() -> None:
        try:
            future.set_result(make())
        except BaseException as error:  # raised where the plan is taken
            future.set_exception(error)

    threading.Thread(target=run, name="codedmap-plan", daemon=True).start()
    return future
