"""Jobs without a code that are planned by their first rows: those of `plan`, and of `map` with ``code="auto"``."""

from __future__ import annotations

import math
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
from ..errors import NotEnoughAnswers, many
from ..execution.job import MapJob
from ..execution.job_rows import JobRows
from ..execution.task import Batch
from ..execution.threads import in_thread
from ..execution.uncoded import RowsJob
from ..planning.pilot import Pilot, Timed, warm
from ..planning.ways import LEAST, Question, budget_of, planned
from ..results.map_result import MapResult
from ..results.plan import Plan
from ..results.status import Status
from ..results.trees import leaves

_CALLS = 0.4  # share of the time for planning that goes to calls on the sample
_PLENTY, _PLENTY_CALLS = 1000, 200  # answered rows and calls that together are enough for any plan
_FIRST, _FEWEST = 0.05, 5  # share of all rows, and number of rows, answered before the first plan
_MORE = 2.0  # factor by which answered rows grow from one plan to the next
_PLANNING = 0.02  # share of the job's time that a plan may take while the job goes on
_SHARED = 4.0  # factor by which it may take longer if the processor does other work as well
_CLOSE = 1.05  # factor by which a planned number of answers must exceed the present one
_LAST = 0.6  # share of answered rows from which on no further plan is made
_POLL = 0.02  # seconds between two looks whether a plan is ready
_ALIKE = 1e-3  # standard deviations of an output by which two answers to one row may differ


class _Piloted(RowsJob):
    """Rows computed in random order, from whose answers and call times a plan is made."""

    def __init__(self, *given: Any, question: Question, **rest: Any) -> None:
        super().__init__(*given, shuffled=True, **rest)
        self._question = question
        self._began: float | None = None  # seconds until the first call began
        self._second_answer: tuple[int, Future[Reply]] | None = None
        """To a row that has an answer already: the row, and a call on another worker."""

    def happened(self) -> None:
        super().happened()
        if self.counts[0] and self.scheduler.outcome is None:
            if self._began is None:
                self._began = max(0.0, self.seconds - max(call.seconds for call in self.calls))
                self._compute_one_again()
            self._plan_if_due()

    def _plan_if_due(self) -> None:
        """Plan, or end the calls for a plan, if there are enough answers."""
        raise NotImplementedError

    @property
    def _elapsed(self) -> float:
        """Seconds since the first call began."""
        return 0.0 if self._began is None else self.seconds - self._began

    def _stop_calls(self) -> None:
        """End the calls."""
        done, rows = self.counts[0], len(self._rows.status)
        self._stop = Share((done - 0.5) / rows)
        self.scheduler.job = replace(self.scheduler.job, stop=self._stop)
        self.wake_at(self.seconds)

    def _compute_one_again(self) -> None:
        """Compute a row that has an answer again, if possible on a worker that has not computed it."""
        row = int(np.flatnonzero(self._rows.status == Status.EXACT)[0])
        before = {call.worker for call in self.calls if row in call.rows}
        workers = sorted(members_of(self.engine))
        if not workers:
            return
        worker = next((name for name in reversed(workers) if name not in before), workers[-1])
        at = slice(row, row + 1)
        batch = Batch(self._rows.inputs.batch(at), 1, range(row, row + 1))
        future = self.engine.submit(worker, self._tasks.on(worker), batch)
        self._second_answer = row, future
        self.beside.append(future)

    def _timed(self) -> list[Timed]:
        """The calls that have begun."""
        timed = [
            Timed(call.worker, len(call.rows), call.seconds, call.outcome in ("answered", "late"))
            for call in self.calls
            if call.outcome in ("answered", "late", "abandoned", "timed out") and len(call.rows)
        ]
        return timed + [
            Timed(call.worker, call.groups, seconds, False) for call, seconds in self.waiting
        ]

    def _loading(self) -> float:
        """Seconds that the first call of each worker took longer, because it loaded or compiled something."""
        return warm(self._timed())[1]

    def _pilot(self) -> Pilot:
        """The answers and call times so far."""
        exact = self._rows.status == Status.EXACT
        # NaN in rows without an answer would make floats of integers, which codes that mix do not take.
        values = self.values.values(np.zeros_like(exact))
        remark = self._disagreement(values, exact)
        remarks = [remark] if remark else []
        if self.crashed:
            remarks.append(
                f"{many(self.crashed, 'call')} crashed: the times leave out what such calls cost"
            )
        pilot = Pilot.of(
            self._rows.inputs,
            exact,
            values,
            self._timed(),
            overhead=self.scheduler.overhead,
            remarks=tuple(remarks),
            batches=self.scheduler.job.batches,
        )
        return replace(pilot, copied=False, mixed=False) if remark else pilot

    def _disagreement(self, values: Any, exact: np.ndarray) -> str:
        """A remark that two answers to one row differ; empty if they do not, or one is still to come."""
        if self._second_answer is None or not self._second_answer[1].done():
            return ""
        row, future = self._second_answer
        with suppress(Exception):  # a failed call says nothing of the answers
            reply = future.result()
            if reply.raised:
                return ""
            for leaf, other in zip(leaves(values), leaves(reply.values, values), strict=True):
                first, second = np.asarray(leaf)[row], np.asarray(other)[0]
                difference = _difference(first, second, np.asarray(leaf)[exact])
                if difference is not None:
                    return (
                        f"two answers to row {row} differ{difference}: fn draws at random, so that estimates are of its "
                        "mean, and codes that compare answers are left out; with seed= each run of a row draws the same"
                    )
        return ""


class Sample(_Piloted):
    """Rows of a sample, as many as ``budget`` seconds of planning allow, and the plan made from them."""

    def __init__(self, *given: Any, budget: float | None, **rest: Any) -> None:
        super().__init__(*given, **rest)
        self.otherwise = "leave it out of the sample"
        self._budget = budget

    def plan(self) -> Plan:
        """Compute rows and plan; raises `NotEnoughAnswers` if no row is answered, `RowFailed` if one fails."""
        for _ in self.steps():
            pass
        outcome, answered = self.scheduler.outcome, self.counts[0]
        if not answered or outcome is Outcome.NONE_RUNNING:
            assert outcome is not None
            raise NotEnoughAnswers(
                f"{answered} of {len(self._rows.status)} rows of the sample were answered, because {outcome.value}: "
                "start more workers, or call fn on these rows to see what is wrong"
            )
        loading = self._loading()
        begun, calls = time.perf_counter(), self._elapsed - loading
        budget = self._allowed(answered, calls)
        if self._second_answer is not None:
            with suppress(Exception):  # an answer that is late or failed is not compared
                self._second_answer[1].result(timeout=max(0.0, budget - calls) / 4.0)
        plan = planned(
            self._question,
            self._pilot(),
            budget=budget,
            spent=lambda: calls + time.perf_counter() - begun,
        )
        return replace(plan, seconds=plan.seconds + loading)

    def _allowed(self, answered: int, elapsed: float) -> float:
        """Seconds that planning may take, calls included, if so many rows were answered in the seconds that elapsed."""
        if self._budget is not None:
            return self._budget
        ask = self._question
        return budget_of(ask.rows, answered, elapsed * self.engine.workers / ask.workers)

    def _plan_if_due(self) -> None:
        answered = self.counts[0]
        due = _CALLS * self._allowed(answered, self._elapsed)
        plenty = answered >= _PLENTY and self.answers >= _PLENTY_CALLS
        if self._elapsed >= due or plenty:
            self._stop_calls()
        else:
            self.wake_at(self.seconds + due - self._elapsed)


class PlannedRows(_Piloted):
    """Rows without a code, until a plan recommends a code or estimates for the rest.

    Plans are made in a thread while calls run, and anew after more answers. ``coded`` makes the job for the rest from the
    code, these rows, the pair of answers and failures so far, and the plan.
    """

    def __init__(
        self, *given: Any, coded: Callable[[Code, JobRows, Any, Plan | None], MapJob], **rest: Any
    ) -> None:
        super().__init__(*given, **rest)
        self._coded = coded
        self._plan: Plan | None = None
        self._planning: Future[Plan] | None = None
        self._next = max(_FEWEST, math.ceil(_FIRST * self._question.rows))
        """Answered rows from which on the next plan is made."""
        self._last = max(_FEWEST, _LAST * self._question.rows)
        """Answered rows after which no further plan is made."""
        self._code: Code | None = None

    def then(self) -> MapJob | None:
        # After the deadline there is no time to wait for a plan.
        late = self.scheduler.outcome is Outcome.DEADLINE
        if self._plan is None:
            if self._planning is None and not late and self.counts[0]:
                self._planning = self._start_plan()
            if self._planning is not None and (self._planning.done() or not late):
                self._plan = self._planning.result()
        status = self._rows.status
        if self._code is None or not (status == Status.MISSING).any():
            return None
        values = self.values.values(np.zeros(len(status), dtype=bool))  # none blanked
        left = JobRows(self._rows.inputs, status=status.copy())
        # Rows that ran too long are tried again.
        failures = {row: e for row, e in self.failures.items() if row not in self.late}
        job = self._coded(self._code, left, (values, failures), self._plan)
        job.calls += self.calls
        job.worker_seconds += self.worker_seconds
        job.other_hedges = self.hedges
        return job

    def result(self) -> MapResult:
        """As `RowsJob.result`, with the plan."""
        return replace(super().result(), plan=self._plan)

    def _plan_if_due(self) -> None:
        if self._planning is None:
            if self._next <= self.counts[0] <= self._last:
                self._planning = self._start_plan()
        elif self._planning.done():
            plan, self._planning = self._planning.result(), None
            self._follow(plan, first=self._plan is None)
            self._plan = plan
            return
        if self._planning is not None:
            self.wake_at(self.seconds + _POLL)

    def _start_plan(self) -> Future[Plan]:
        answered, begun = self.counts[0], time.perf_counter()
        ask, pilot = self._question, self._pilot()
        expected = ask.rows * (self._elapsed - self._loading()) / max(1, answered)
        budget = max(LEAST, _PLANNING * expected)

        def plan() -> Plan:
            working = time.thread_time()

            def spent() -> float:  # a plan is of no use once the job has ended
                clock, processor = time.perf_counter() - begun, time.thread_time() - working
                return budget if self.ended else max(processor, clock / _SHARED)

            made = planned(ask, pilot, budget=budget, spent=spent)
            return replace(made, seconds=time.perf_counter() - begun)

        return in_thread(plan, name="codedmap-plan", daemon=True)

    def _follow(self, plan: Plan, *, first: bool) -> None:
        """Stop for a code, or for estimates, if the plan says so; else set when to plan again."""
        best, rows, answered = plan.rows[0], self._question.rows, self.counts[0]
        if best.code is not None and first:
            self._code = best.code
            self._stop_calls()
            return
        wanted = _MORE * plan.computed
        if best.deadline is not None and self._question.deadline is None:
            if best.exact * rows <= _CLOSE * answered:
                self._stop_calls()
                return
            wanted = min(wanted, best.exact * rows)
            self._last = rows  # what is recommended is done, or found to be not worth it
        self._next = math.ceil(max(wanted, _CLOSE * answered))


def _difference(first: np.ndarray, second: np.ndarray, answers: np.ndarray) -> str | None:
    """By how much two answers to a row differ, in words that may be none; None if they do not."""
    numbers = first.dtype.kind in "biufc" and second.dtype.kind in "biufc"
    if first.shape != second.shape or not numbers:
        return None if np.array_equal(first, second) else ""
    # Answers may be infinite, or so large that their squares are.
    with np.errstate(over="ignore", invalid="ignore"):
        spread = np.maximum(answers.std(axis=0), 1e-9 * np.abs(first))
        distances = np.abs(first - second) / np.where(spread > 0.0, spread, 1.0)
        largest = float(np.max(distances, initial=0.0))
    return f" by {largest:.2g} deviations of the outputs" if largest > _ALIKE else None
