"""Jobs without a code: rows on an engine, and estimates of those that have no answer."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ..contracts.stopping import Deadline, Outcome, tolerance_of
from ..contracts.warning import warn_caller
from ..engines import Engine
from ..engines.queue_engine import QueueEngine
from ..errors import NotEnoughAnswers, many
from ..estimation import Known
from ..results.calls import CallTable
from ..results.map_result import MapResult
from ..results.status import Status
from ..results.trees import blankable, entries_of, for_all_entries, leaves, map_leaves
from .events import Job
from .failures import Failures
from .inputs import InputRows
from .job import MapJob
from .job_rows import JobRows
from .live import LiveJob, Looking, call_memory, patience_of
from .missing import (
    COMPUTING,
    Effort,
    Estimates,
    estimate_missing,
    time_for_estimates,
    warn_of_losses,
)
from .rows import KeptTasks, RowsWork
from .scheduler import Scheduler
from .task import is_itemwise

_ENOUGH = 20  # answers from which standard errors are believed
_FEW = 2  # answers from which anything is estimated
_SOME = 1000  # rows that are looked at before all, or in place of all
_NUMBER = 1e-7  # seconds to read a number of the inputs, or to estimate one and write it, however cheaply,
_WRITING = 0.5  # but at most this share of a deadline for all


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
        store: Any = None,
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


def _put(rows: np.ndarray, leaf: np.ndarray, guesses: np.ndarray) -> None:
    leaf[rows] = guesses
