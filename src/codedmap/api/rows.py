"""Jobs without a code: rows on an engine, and a plan that is made from the first of them."""

from __future__ import annotations

import math
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ..contracts.code import Code
from ..contracts.engine import Reply, members_of
from ..contracts.stopping import Deadline, Outcome, Share, tolerance_of
from ..contracts.warning import warn_caller
from ..engines import Engine
from ..engines.queue_engine import QueueEngine
from ..errors import NotEnoughAnswers, many
from ..estimation import Known
from ..execution.coded import CodedMap
from ..execution.events import Job
from ..execution.failures import Failures
from ..execution.inputs import InputRows
from ..execution.job import MapJob
from ..execution.job_rows import JobRows
from ..execution.live import LiveJob, Looking, call_memory, patience_of
from ..execution.missing import (
    COMPUTING,
    Effort,
    Estimates,
    estimate_missing,
    time_for_estimates,
    warn_of_losses,
)
from ..execution.rows import KeptTasks, RowsWork
from ..execution.scheduler import Scheduler
from ..execution.task import Batch, is_itemwise
from ..planning.pilot import Pilot, Timed
from ..planning.ways import LEAST, Question, budget_of, planned
from ..results.calls import CallTable
from ..results.map_result import MapResult
from ..results.plan import Plan
from ..results.status import Status
from ..results.trees import blankable, entries_of, for_all_entries, leaves, map_leaves
from ..storage.store import Store

_ENOUGH = 20  # answers from which standard errors are believed
_FEW = 2  # answers from which anything is estimated
_SOME = 1000  # rows that are looked at before all, or in place of all
_CALLS = 0.4  # of the budget, for calls
_PLENTY, _PLENTY_CALLS = 1000, 200  # rows and calls that are enough for any plan
_FIRST, _FEWEST = 0.05, 5  # share of the rows, and rows, after which a plan is made;
_MORE = 2.0  # times as many until the next one
_LOOK = 0.02  # of the job's time, for a plan while it goes on
_CLOSE = 1.05  # times the rows that there are: for so few more it does not go on
_ESTIMATING = 0.2  # seconds for estimates, if that is more than the rest of the time
_NUMBER = 1e-7  # seconds to read a number of the inputs, or to estimate one and write it, however cheaply,
_WRITING = 0.5  # but at most this share of a deadline for all
_LAST = 0.6  # of the rows: when more have an answer, no plan is made
_POLLED = 0.02  # seconds
_ALIKE = 1e-3  # of the outputs' deviation, by which two answers of one row may differ


class RowsJob(MapJob):
    """Rows on an engine, for whose workers the ``job`` is completed.

    ``started`` is when `map` was called, by `time.monotonic`, and ``deadline`` when estimates should be made, in seconds
    after it. ``show`` is called with the `LiveJob` after each event. From ``known`` answers rows are estimated too.
    Answers are kept in the ``store``, by default in memory. Rows are started in a random order if ``shuffled``, by
    default if the job may stop early. Rows that are EXACT by ``status`` (m,) are not computed.
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
        status: np.ndarray | None = None,
    ) -> None:
        self._deadline = deadline
        self._sized = deadline is None or inputs.numbers is None
        """Whether it is known how many numbers are estimated, or none are."""
        self._known = known
        self._engine, self._tasks, self._stop, self._store = engine, tasks, job.stop, store
        # What is missing when a job stops early must not be the last rows, or every estimate extrapolates.
        shuffled = job.stop is not None if shuffled is None else shuffled
        self._rows = rows = JobRows(inputs, store, shuffled=shuffled, status=status)
        self._record = record
        self._work = RowsWork(tasks, rows, record=record, call_timeout=job.call_timeout)
        self._tolerance = tolerance_of(job.stop)
        self._found: list[Estimates] = []
        """Of rows that were missing when standard errors were last looked at."""
        this = weakref.proxy(self)  # answers must not wait for the collector

        def worst(chunk: int, last: bool) -> float | None:
            worst: float | None = this._looking.worst(chunk, this.live.answers, last, this._worst)
            return worst

        job = replace(
            job,
            groups=rows.count,
            before=len(rows.status) - rows.count,
            # Where each worker has a queue, as in no executor, a call may wait for the one that runs.
            ahead=int(isinstance(engine, QueueEngine) or hasattr(engine, "members")),
            patience=patience_of(engine),
            memory=call_memory(engine),
            batches=not is_itemwise(tasks.task.fn),
            more=not rows.ended,
            stderr=worst,
        )
        super().__init__(LiveJob(Scheduler(job), engine, self._work, started=started), show)
        self._looking = Looking(self.live)

    def happened(self, live: LiveJob) -> None:
        super().happened(live)
        if not self._sized and self._deadline is not None and live.counts[0]:
            self._sized = True
            self._leave_time(self._deadline)

    def _leave_time(self, deadline: float) -> None:
        """Stop earlier where inputs and answers are so many numbers that the rest of the time is too short to estimate any."""
        status = self._rows.status
        answer = leaves(self._read(np.flatnonzero(status == Status.EXACT)[:1]))
        if any(leaf.dtype.kind not in "biuf" for leaf in answer):
            return  # and is not estimated
        each = sum(leaf.size for leaf in answer) + (self._rows.inputs.numbers or 0)
        needed = min(_NUMBER * len(status) * each, _WRITING * deadline)
        if needed > (1.0 - COMPUTING) * deadline and self._stop is not None:
            self._stop = self._stop | Deadline(deadline - needed)
            self.live.scheduler.job = replace(self.live.scheduler.job, stop=self._stop)
            self.live.wake_at(deadline - needed)

    def so_far(self) -> MapResult | None:
        return self._result(Outcome.WAITING) if self._store is None else None

    def result(self) -> MapResult:
        """What the job came to; raises `NotEnoughAnswers` if rows are missing and no stopping rule allows it."""
        live, status = self.live, self._rows.status
        outcome, missing = self._ended(partial=self._record), status == Status.MISSING
        self._rows.check_read(outcome)
        effort, time_left = time_for_estimates(live, self._deadline)
        estimates: Iterable[Estimates] = ()
        if outcome is Outcome.TOLERANCE:
            # Since it was looked at them, rows may have been answered or have failed.
            estimates = [found.of(missing) for found in self._found if missing[found.rows].any()]
        elif missing.any() and self._stop is not None:
            estimates = self._estimated(np.flatnonzero(missing), effort, time_left)
        before = status.copy()
        if self._store is None:
            result = self._result(outcome, list(estimates))
        else:
            for found in estimates:
                self._store.put_estimates(found.rows, found.values, found.stderr)
            values, stderr = self._store.finish()
            result = self._made(values, stderr, status, outcome)
        left = int((result.status == Status.MISSING).sum())
        if left and self._stop is not None and (reason := self._not_estimated(before)):
            warn_caller(
                f"{many(left, 'row')} without an answer {'is' if left == 1 else 'are'} MISSING: not estimated, because {reason}"
            )
        elif self._in_vain() and (reason := self._not_estimated(before)):
            warn_caller(f"no standard error was looked at, because {reason}")
        if (result.status == Status.ESTIMATED).any():
            warn_of_losses(self._rows.inputs, before, self._read, time_left)
        return result

    def _in_vain(self) -> bool:
        """Whether standard errors were asked for, and no row was ever estimated though answers had come."""
        enough = (self._rows.status == Status.EXACT).sum() >= _ENOUGH
        return self._tolerance is not None and bool(enough) and not self._found

    def _ended(self, *, partial: bool = False) -> Outcome:
        """Why the job has ended.

        If rows are missing and no stopping rule allows it, this raises `NotEnoughAnswers`; if what there is shall be
        returned, it warns.
        """
        outcome, missing = self.live.scheduler.outcome, self._rows.status == Status.MISSING
        assert outcome is not None
        if missing.any() and self._stop is None:
            last, crashed = self._last_loss, self.live.crashed
            ended = f"; {many(crashed, 'call')} ended their workers" if crashed else ""
            lost = "" if last is None else f". The last was lost with: {last}"
            problem = (
                f"{missing.sum()} of {len(missing)} rows are missing (the first is row {missing.argmax()}), because "
                f"no worker was left{ended}{lost}. Start more workers, or see what ends them"
            )
            if not partial:
                step = 'take what there is with on_error="record"'
                raise NotEnoughAnswers(f"{problem}, or {step}") from last
            warn_caller(problem)
        return outcome

    @property
    def _last_loss(self) -> BaseException | None:
        """Why a call was lost with its worker, or else a worker, perhaps before the job."""
        return self._work.last_loss or getattr(self._engine, "last_loss", None)

    def _worst(self) -> float | None:
        """The largest standard error of the rows that are missing, if they can be estimated."""
        status, self._found = self._rows.status, []
        missing = np.flatnonzero(status == Status.MISSING)
        if (status == Status.EXACT).sum() < _ENOUGH:
            return None
        worst = self._largest(missing[:: -(-len(missing) // _SOME) or 1])
        if worst is not None and worst <= (self._tolerance.largest if self._tolerance else 0.0):
            worst = self._largest(missing)
        return worst

    def _largest(self, missing: np.ndarray) -> float | None:
        self._found = found = list(self._estimated(missing, "quick", self._time_left))
        if sum(len(part.rows) for part in found) < len(missing):
            return None  # some can only be computed
        outputs = self._tolerance.outputs if self._tolerance else None
        return max((part.largest(outputs) for part in found), default=None)

    def _estimated(
        self, missing: np.ndarray, effort: Effort, time_left: Callable[[], float]
    ) -> Iterator[Estimates]:
        exact = np.flatnonzero(self._rows.status == Status.EXACT)
        more = None
        if self._known is not None and len(exact):
            answers = self._known.answers_for(list(entries_of(self._read(exact[:1]))))
            more = None if answers is None else (self._known.inputs, answers)
        return estimate_missing(
            self._rows.inputs,
            exact,
            missing,
            self._read,
            time_left,
            effort=effort,
            sample=self._store is not None,
            more=more,
        )

    def _not_estimated(self, status: np.ndarray) -> str:
        """Why rows that are missing cannot be estimated from those that are exact, and the next step; empty if they can."""
        inputs = self._rows.inputs
        answered, missing = (
            np.flatnonzero(status == one)[:_SOME] for one in (Status.EXACT, Status.MISSING)
        )
        if not inputs.numbers:
            return f"the inputs are not numbers. {inputs.encoding}"
        read = self._read(answered) if len(answered) else ()
        columns = leaves(read)
        other = [number for number, one in enumerate(columns) if one.dtype.kind not in "biuf"]
        if other:
            dtype = columns[other[0]].dtype
            kinds = "real and imaginary parts" if dtype.kind == "c" else "numbers"
            named = isinstance(read, dict) and len(read) == len(columns)
            which = f"{list(read)[other[0]]!r} is" if named else "they are"
            return f"the answers are not all real numbers: {which} of dtype {dtype}. Let fn return {kinds}"
        if len(answered) < _FEW:
            rows = "only one row was answered" if len(answered) else "no row was answered"
            gone, last = self.live.scheduler.outcome is Outcome.NONE_RUNNING, self._last_loss
            lost = "" if last is None else f". The last worker was lost with: {last}"
            return f"{rows} " + (
                f"before the workers were gone. Start more{lost}"
                if gone
                else f"in {self.live.seconds:.2g} s, which includes the start of workers. Allow more time, or give an "
                f"engine that has started{lost}"
            )
        those = (rows for rows in (answered, missing) if len(rows))
        if not all(np.isfinite(inputs.points(rows)).all() for rows in those):
            return "inputs are NaN or infinite. Give numbers, or leave these rows out"
        finite = [np.isfinite(one.reshape(len(one), -1)).sum(axis=0) for one in columns]
        if min(count.min(initial=_FEW) for count in finite) < _FEW:
            return "answers are NaN or infinite. Let fn return numbers"
        return ""

    def _read(self, rows: np.ndarray) -> Any:
        """Answers of rows that are exact."""
        if self._store is not None:
            return self._store.read(rows)
        values = self._work.answers.values(np.zeros(len(self._rows.status), dtype=bool))
        return map_leaves(lambda leaf: blankable(leaf[rows]), values)

    def _time_left(self) -> float:
        """Seconds until the deadline."""
        return math.inf if self._deadline is None else self._deadline - self.live.seconds

    def _result(self, outcome: Outcome, estimates: Sequence[Estimates] = ()) -> MapResult:
        status = self._rows.status.copy()
        values = self._work.answers.values(status != Status.EXACT)
        spread = np.where(status == Status.EXACT, 0.0, np.inf)
        stderr = map_leaves(lambda leaf: for_all_entries(spread, leaf.shape[1:]), values)
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
            failures=Failures(sorted(self._work.failures.items())),
            rejected=(),
            outcome=outcome,
            seconds=live.seconds,
            worker_seconds=live.worker_seconds,
            calls=CallTable(list(live.calls)),
            hedges=live.scheduler.hedges,
        )


class RowsApart(RowsJob):
    """Some rows of a job with a code, after that one, which has ended ``before``; their answers are put to its own."""

    def __init__(self, *given: Any, before: CodedMap, rows: np.ndarray, **rest: Any) -> None:
        inputs: InputRows = given[3]
        status = np.full(inputs.rows, Status.EXACT, np.int8)
        status[rows] = Status.MISSING
        super().__init__(*given, status=status, **rest)
        self._before, self._own = before, rows
        self._work.answers = before.work.values

    def so_far(self) -> MapResult | None:
        self._before.work.include(self._own, self._rows.status, self._work.failures)
        before = self._before.so_far()
        return None if before is None else self._with_calls(before)

    def result(self) -> MapResult:
        outcome = self._ended(partial=self._record)
        self._before.work.include(self._own, self._rows.status, self._work.failures)
        result = self._with_calls(self._before.result())
        if outcome is Outcome.EXACT and (result.status != Status.EXACT).any():
            return result
        return replace(result, outcome=outcome)

    def _with_calls(self, before: MapResult) -> MapResult:
        return replace(
            before,
            worker_seconds=before.worker_seconds + self.live.worker_seconds,
            calls=CallTable([*before.calls, *self.live.calls]),
            hedges=before.hedges + self.live.scheduler.hedges,
        )


class _Piloted(RowsJob):
    """Rows in a random order, whose answers and times tell how to run the job."""

    def __init__(self, *given: Any, question: Question, **rest: Any) -> None:
        super().__init__(*given, shuffled=True, **rest)
        self._question = question
        self._first: float | None = None
        self._again: tuple[int, Future[Reply]] | None = None
        """A row that has an answer, and the same by another worker."""

    def happened(self, live: LiveJob) -> None:
        super().happened(live)
        if live.counts[0] and live.scheduler.outcome is None:
            if self._first is None:
                self._first = max(0.0, live.seconds - max(call.seconds for call in live.calls))
                self._compute_again()
            self._look(live)

    def _look(self, live: LiveJob) -> None:
        """Plan, if it is time to; a subclass says when."""
        raise NotImplementedError

    @property
    def _elapsed(self) -> float:
        """Seconds since the first call began."""
        return 0.0 if self._first is None else self.live.seconds - self._first

    def _end(self) -> None:
        """Compute no more rows."""
        live = self.live
        # What is estimated in the end has the last tenth of the time.
        self._deadline = live.seconds + max(_ESTIMATING, live.seconds * (1.0 / COMPUTING - 1.0))
        done, rows = live.counts[0], len(self._rows.status)
        self._stop = Share((done - 0.5) / rows)
        live.scheduler.job = replace(live.scheduler.job, stop=self._stop)
        live.wake_at(live.seconds)

    def _compute_again(self) -> None:
        """Have a row that has an answer computed by another worker, if there is one."""
        row = int(np.flatnonzero(self._rows.status == Status.EXACT)[0])
        before = {call.worker for call in self.live.calls if row in call.rows}
        names = sorted(members_of(self._engine))
        if not names:
            return
        worker = next((name for name in reversed(names) if name not in before), names[-1])
        at = slice(row, row + 1)
        batch = Batch(self._rows.inputs.batch(at), 1, range(row, row + 1))
        future = self._engine.submit(worker, self._tasks.on(worker), batch)
        self._again = row, future
        self.live.beside.append(future)

    def _pilot(self) -> Pilot:
        """What is known by now."""
        exact = self._rows.status == Status.EXACT
        values = self._work.answers.values(~exact)
        calls = self.live.calls
        timed = [
            Timed(call.worker, len(call.rows), call.seconds, call.outcome in ("answered", "late"))
            for call in calls
            if call.outcome in ("answered", "late", "abandoned") and len(call.rows)
        ]
        timed += [
            Timed(call.worker, call.groups, seconds, False) for call, seconds in self.live.waiting
        ]
        differ = self._differ(values)
        pilot = Pilot.of(
            self._rows.inputs,
            exact,
            values,
            timed,
            overhead=self.live.scheduler.overhead,
            remarks=(differ,) if differ else (),
            batches=self.live.scheduler.job.batches,
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
        self._work.otherwise = "leave it out of the sample"
        self._budget = budget

    def plan(self) -> Plan:
        """Compute rows, and make a plan; raises `NotEnoughAnswers` if none was answered, `RowFailed` if one failed."""
        for _ in self.live.run(self.happened):
            pass
        outcome, answered = self.live.scheduler.outcome, self.live.counts[0]
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
        seconds = self._elapsed * self._engine.workers / ask.workers
        return budget_of(ask.rows, answered, seconds)

    def _look(self, live: LiveJob) -> None:
        answered = live.counts[0]
        due = _CALLS * self._allowed(answered)
        plenty = answered >= _PLENTY and live.answers >= _PLENTY_CALLS
        if self._elapsed >= due or plenty:
            self._end()
        else:
            live.wake_at(live.seconds + due - self._elapsed)


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
        late = self.live.scheduler.outcome is Outcome.DEADLINE
        if self._plan is None:
            if self._planning is None and not late and self.live.counts[0]:
                self._planning = self._start()
            if self._planning is not None and (self._planning.done() or not late):
                self._plan = self._planning.result()
        status = self._rows.status
        if self._code is None or not (status == Status.MISSING).any():
            return None
        values = self._work.answers.values(np.zeros(len(status), dtype=bool))  # in their own type
        left = JobRows(self._rows.inputs, status=status.copy())
        job = self._coded(self._code, left, (values, self._work.failures), self._plan)
        shown: Any = _InRows(job.live, self._code, status)
        job._show = lambda live: self._show(shown)
        job.live.calls += self.live.calls
        job.live.worker_seconds += self.live.worker_seconds
        return job

    def result(self) -> MapResult:
        """As `RowsJob.result`, with the plan."""
        return replace(super().result(), plan=self._plan)

    def _look(self, live: LiveJob) -> None:
        if self._planning is None:
            if self._next <= live.counts[0] <= max(_FEWEST, _LAST * self._question.rows):
                self._planning = self._start()
        elif self._planning.done():
            self._plan, self._planning = self._planning.result(), None
            self._follow(self._plan, live.counts[0])
            return
        if self._planning is not None:
            live.wake_at(live.seconds + _POLLED)

    def _start(self) -> Future[Plan]:
        answered, begun = self.live.counts[0], time.perf_counter()
        ask, pilot, live = self._question, self._pilot(), self.live
        expected = ask.rows * self._elapsed / max(1, answered)
        budget = max(LEAST, _LOOK * expected)

        def seconds() -> float:
            return time.perf_counter() - begun

        def spent() -> float:
            return budget if live.ended else seconds()  # then it is of no use

        return _in_thread(
            lambda: replace(planned(ask, pilot, budget=budget, spent=spent), seconds=seconds())
        )

    def _follow(self, plan: Plan, answered: int) -> None:
        """Go on as planned."""
        best, rows = plan.rows[0], self._question.rows
        first = self._next <= max(_FEWEST, math.ceil(_FIRST * rows))
        if best.code is not None and first:
            self._code = best.code
            self._end()
            return
        wanted = _MORE * plan.computed
        if best.deadline is not None and self._question.deadline is None:
            if best.exact * rows <= _CLOSE * answered:
                self._end()
                return
            wanted = min(wanted, best.exact * rows)
        self._next = math.ceil(max(wanted, _CLOSE * answered))


class _InRows:
    """A job with a code as one of rows, (m,), with the status that they had before."""

    def __init__(self, live: LiveJob, code: Code, status: np.ndarray) -> None:
        self._live, self._share = live, code.tasks / code.workers
        self._rows = len(status)
        self._before = [int((status == one).sum()) for one in (Status.EXACT, Status.FAILED)]

    @property
    def counts(self) -> tuple[int, int, int, int]:
        done, failed, running = (int(self._share * count) for count in self._live.counts[:3])
        exact, lost = self._before
        done = min(exact + done, self._rows - lost)  # the last group may lack some
        return done, lost + failed, running, self._live.counts[3]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._live, name)


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


def _put(rows: np.ndarray, leaf: np.ndarray, guesses: np.ndarray) -> None:
    leaf[rows] = guesses
