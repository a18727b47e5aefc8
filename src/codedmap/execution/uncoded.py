"""Jobs without a code: rows are exact or have failed, and those without an answer may be estimated."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Future
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np

from ..contracts.answers import holds_integers
from ..contracts.engine import Engine, Kept, Reply
from ..contracts.stopping import Deadline, Outcome, tolerance_of
from ..contracts.warning import warn_caller
from ..engines import Resident
from ..engines.queue_engine import QueueEngine
from ..engines.transport.failure import Failure
from ..errors import (
    CallTimeout,
    CodedmapError,
    EngineError,
    InvalidAnswer,
    NotEnoughAnswers,
    RowFailed,
    WorkerCrashed,
    WorkerLost,
    many,
)
from ..estimation import Known
from ..results.calls import CallTable
from ..results.map_result import MapResult
from ..results.status import Status
from ..results.summary import batches_made_from, short
from ..results.trees import (
    Rows,
    blankable,
    entries_of,
    for_all_entries,
    leaves,
    map_leaves,
)
from .events import Call, FailRows, Job, Loss, More, Take
from .failures import Failures, FirstErrors
from .inputs import InputRows
from .job import MapJob
from .job_rows import JobRows, named_rows, runs_of
from .live import LiveJob, call_memory, patience_of, weakly
from .missing import (
    COMPUTING,
    Effort,
    Estimates,
    check_named,
    estimate_missing,
    put,
    refilled,
    time_for_estimates,
    warn_of_losses,
)
from .parking import HANGS
from .scheduler import Scheduler
from .task import Batch, Itemwise, RowsTask, TaskOf, is_itemwise, raised_by_fn

_ENOUGH_ANSWERS = 20  # least answers for standard errors that a rule may trust
_LEAST_ANSWERS = 2  # least answers from which others are estimated
_HANGS = 10.0  # seconds, at least, after which it is said that calls hang
_HANGS_WITH_RULE = 1.0  # likewise where rows may be estimated
_SAMPLE = 1000  # rows that are tested before all rows, or in place of them
_NUMBER_SECONDS = 1e-7  # to read a number of the inputs, or to estimate and write one
_WRITING_SHARE = 0.5  # most of a deadline that is reserved for reading and writing numbers


class KeptTasks:
    """The function of a job on each worker, which is sent it with its first call; ``checked`` as for `RowsTask`."""

    def __init__(
        self,
        fn: Any,
        engine: Engine,
        *,
        kwargs: Mapping[str, Any] | None = None,
        seed: int | None = None,
        checked: bool = True,
    ) -> None:
        self._fn, self._engine = fn, engine
        resident = fn if isinstance(fn, Resident) else None
        plain = fn if resident is None else resident.fn
        capture = not getattr(engine, "in_process", False)
        self.task = RowsTask(plain, dict(kwargs or {}), seed, capture, checked)
        stays = resident is not None and not kwargs and seed is None
        self._task_of = TaskOf(capture, checked) if stays else None
        self._resident = resident if resident is not None and stays else Resident(self.task, engine)

    def checking(self) -> KeptTasks:
        """The same function, with its answers checked."""
        return KeptTasks(self._fn, self._engine, kwargs=self.task.kwargs, seed=self.task.seed)

    def on(self, worker: Any) -> Kept:
        """What stands for the task on this worker."""
        return self._resident.on(worker, self._task_of)


_RECORD = 'go on without such rows with on_error="record"'


class RowsJob(MapJob):
    """A job of rows on an engine; what the ``job`` lacks is set for the rows and the engine.

    ``started`` is when `map` was called, by `time.monotonic`, and ``deadline`` by when estimates should be made, in
    seconds after it. ``show`` is called with the `LiveJob` after each event. Rows are estimated from ``known`` answers
    as well, and so are those that ran too long if ``estimates_late``. If the first ``max_failures`` rows raise, the job
    stops. Answers are kept in the ``store``, by default in memory. Rows are started in a random order if ``shuffled``,
    by default if the job may stop early. Rows that are EXACT by ``status`` (m,) are not computed.
    """

    otherwise = _RECORD
    """The next step for a row that has failed, if its error cannot be corrected."""

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
        estimates_late: bool = False,
        max_failures: int | None = None,
    ) -> None:
        self._deadline, self._estimates_late = deadline, estimates_late
        self._first_errors = FirstErrors(max_failures if record else None)
        self.late: dict[int, Call] = {}
        """Rows that ran too long and are to be estimated, in which call."""
        self._seen = job.stop is None or inputs.numbers is None
        """Whether the first answer was looked at, or need not be: no row is estimated."""
        self._known = known
        self._tasks, self._stop, self._store, self._record = tasks, job.stop, store, record
        # If a job stopped early with its last rows missing, every estimate would extrapolate.
        shuffled = job.stop is not None if shuffled is None else shuffled
        in_memory = store is None and not inputs.lazy and inputs.growing is None
        self._deals = in_memory and not shuffled and job.size is None and is_itemwise(tasks.task.fn)
        self._rows = rows = JobRows(
            inputs, store, shuffled=shuffled, dealt=self._deals, status=status
        )
        self._tolerance = tolerance_of(job.stop)
        self._found: list[Estimates] = []
        """Those of missing rows, from when standard errors were last computed."""
        self.values = Rows(inputs.rows)
        """Answers in memory; empty where there is a store."""
        self.failures: dict[int, BaseException] = {}
        self.last_loss: WorkerLost | None = None
        """Why a call was lost with its worker: the last crash, if there was one."""
        self._replies: dict[int, Reply] = {}  # by call
        self._errors: dict[int, BaseException] = {}  # by call
        self._checksums: dict[int, str] = {}  # those of inputs, by call
        self._sent: dict[Any, Kept] = {}  # what stands for the function, by worker
        self._with_fn: set[int] = set()  # calls with which the function was sent
        self._odd_rows: set[int] = set()  # rows with an answer that does not fit those of others
        self._look_at = 0.0  # when to look again whether calls hang
        job = replace(
            job,
            groups=rows.count,
            before=len(rows.status) - rows.count,
            # Workers with a queue of their own, unlike those of an executor, can be sent a call ahead.
            ahead=int(isinstance(engine, QueueEngine) or hasattr(engine, "members")),
            patience=patience_of(engine),
            memory=cache(partial(call_memory, engine)),  # few rows start before a call is sized
            batches=not is_itemwise(tasks.task.fn),
            more=not rows.ended,
            stderr=weakly(self._worst),
            parks=job.stop is not None and getattr(engine, "ends", False),
        )
        super().__init__(Scheduler(job), engine, started=started, show=show)

    def happened(self) -> None:
        super().happened()
        if self.seconds >= self._look_at:
            self._warn_of_hanging()
        if not self._seen and self.counts[0]:
            self._seen = True
            first = self._read(np.flatnonzero(self._rows.status == Status.EXACT)[:1])
            if self._tolerance is not None and self._tolerance.outputs is not None:
                check_named(self._tolerance.outputs, first)
            if self._deadline is not None:
                self._leave_time(self._deadline, leaves(first))

    def _warn_of_hanging(self) -> None:
        """Warn once if calls that hang hold half of the workers, and are not ended."""
        if self.scheduler.job.parks:
            self._look_at = math.inf
            return
        least = _HANGS if self._stop is None else _HANGS_WITH_RULE
        self._look_at = self.seconds + least / 10
        running = [self.seconds - call.started for call in self.scheduler.hanging(self.seconds)]
        harmless = self._stop is not None and not self.scheduler.all_needed
        if (
            max(running, default=0.0) > least
            and 2 * len(running) >= self.engine.workers
            and not harmless
        ):
            self._look_at = math.inf
            warn_caller(
                f"calls that run more than {HANGS} times as long as usual, one for {max(running):.0f} s, hold {len(running)} of "
                f"{many(self.engine.workers, 'worker')}. If they hang: "
                + (
                    "give call_timeout=, which ends them, or deadline=, with which their rows are estimated"
                    if self._stop is None
                    else "this engine cannot end them, so rows that wait for their workers are estimated. "
                    "codedmap.engines.Local can, and Dask with grace="
                )
            )

    def _leave_time(self, deadline: float, answer: list[Any]) -> None:
        """Stop earlier if inputs and answers are so many numbers that the time reserved for estimates is too short."""
        status = self._rows.status
        if any(leaf.dtype.kind not in "biuf" for leaf in answer):
            return  # such answers are not estimated
        each = sum(leaf.size for leaf in answer) + (self._rows.inputs.numbers or 0)
        needed = min(_NUMBER_SECONDS * len(status) * each, _WRITING_SHARE * deadline)
        if needed > (1.0 - COMPUTING) * deadline and self._stop is not None:
            self._stop = self._stop | Deadline(deadline - needed)
            self.scheduler.job = replace(self.scheduler.job, stop=self._stop)
            self.wake_at(deadline - needed)

    def so_far(self) -> MapResult | None:
        return self._result(Outcome.WAITING) if self._store is None else None

    def result(self) -> MapResult:
        """The result of the job; raises `NotEnoughAnswers` if rows are missing and no stopping rule allows it."""
        status = self._rows.status
        outcome, missing = self._ended(partial=self._record), status == Status.MISSING
        self._rows.check_read(outcome)
        effort, time_left = time_for_estimates(self, self._deadline)
        if self._stop is None:
            missing = np.zeros(len(status), dtype=bool)
            missing[list(self.late)] = True
        estimates: Iterable[Estimates] = ()
        if outcome is Outcome.TOLERANCE:
            # Rows may have been answered, or have failed, since they were estimated.
            estimates = [found.of(missing) for found in self._found if missing[found.rows].any()]
        elif missing.any():
            estimates = self._estimated(np.flatnonzero(missing), effort, time_left)
        before, kept = status.copy(), []
        status[list(self.late)] = Status.FAILED  # unless they are estimated now
        for found in estimates:
            if self._store is None:
                kept.append(found)
                status[found.rows] = Status.ESTIMATED
            else:
                self._store.put_estimates(found.rows, found.values, found.stderr)
        self.failures |= self.late_errors(status, before)
        if self._store is None:
            result = self._result(outcome, kept)
        else:
            values, stderr = self._store.finish()
            result = self._build(values, stderr, status, outcome)
        left = int((result.status == Status.MISSING).sum())
        if left and self._stop is not None and (reason := self._not_estimated(before)):
            warn_caller(
                f"{many(left, 'row')} without an answer {'is' if left == 1 else 'are'} MISSING: not estimated, because {reason}"
            )
        elif self._never_estimated() and (reason := self._not_estimated(before)):
            warn_caller(f"no standard error was looked at, because {reason}")
        if (result.status == Status.ESTIMATED).any():
            warn_of_losses(self._rows.inputs, before, self._read, time_left)
        return result

    def late_errors(self, status: np.ndarray, before: np.ndarray) -> dict[int, BaseException]:
        """Why rows that ran too long are not estimated, by the status (m,) of rows now and ``before`` there were estimates.

        Raises `RowFailed` if no row may fail.
        """
        left = [row for row in sorted(self.late) if status[row] == Status.FAILED]
        reason = self._not_estimated(before) if left else ""
        reason = reason or "its inputs are not finite, or the output or code takes no estimates"
        errors: dict[int, BaseException] = {
            row: CallTimeout(f"{self.failures[row]}. It is not estimated, because {reason}")
            for row in left
        }
        if left and not self._record:
            raise self._row_failed(left[0], self.late[left[0]], errors[left[0]])
        return errors

    def _never_estimated(self) -> bool:
        """Whether standard errors were asked for, and no row was ever estimated though there were enough answers."""
        enough = (self._rows.status == Status.EXACT).sum() >= _ENOUGH_ANSWERS
        return self._tolerance is not None and bool(enough) and not self._found

    def _ended(self, *, partial: bool = False) -> Outcome:
        """Why the job has ended.

        If rows are missing and no stopping rule allows it, this raises `NotEnoughAnswers`; with ``partial`` it warns.
        """
        outcome, missing = self.scheduler.outcome, self._rows.status == Status.MISSING
        missing[list(self.late)] = False
        assert outcome is not None
        if missing.any() and self._stop is None:
            last, crashed = self._last_loss, self.crashed
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
        """Why a call was lost with its worker; or why the engine lost a worker, perhaps before the job."""
        return self.last_loss or getattr(self.engine, "last_loss", None)

    def _worst(self, chunk: int, last: bool) -> float | None:
        """The largest standard error of the rows that are missing; None if there is none yet, or no time to look."""
        return self.largest_stderr(chunk, self.answers, last, self._worst_of_missing)

    def _worst_of_missing(self) -> float | None:
        """See `_worst`. A sample shows whether it is worth while to estimate all."""
        status, self._found = self._rows.status, []
        missing = np.flatnonzero(status == Status.MISSING)
        if (status == Status.EXACT).sum() < _ENOUGH_ANSWERS:
            return None
        worst = self._largest(missing[:: -(-len(missing) // _SAMPLE) or 1])
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
        return estimate_missing(
            self._rows.inputs,
            exact,
            missing,
            self._read,
            time_left,
            effort=effort,
            sample=self._store is not None,
            more=self._more(self._rows.status),
        )

    def _more(self, status: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Points and answers that are known besides; None if there are none."""
        exact = np.flatnonzero(status == Status.EXACT)
        if self._known is None or not len(exact):
            return None
        answers = self._known.answers_for(list(entries_of(self._read(exact[:1]))))
        return None if answers is None else (self._known.inputs, answers)

    def _not_estimated(self, status: np.ndarray) -> str:
        """Why missing rows cannot be estimated from exact ones, and the next step; empty if they can."""
        inputs = self._rows.inputs
        answered = np.flatnonzero(status == Status.EXACT)[:_SAMPLE]
        missing = np.flatnonzero(status == Status.MISSING)[:_SAMPLE]
        if not inputs.numbers:
            return f"the inputs are not numbers. {inputs.encoding}"
        read = self._read(answered) if len(answered) else ()
        columns = leaves(read)
        unreal = [place for place, leaf in enumerate(columns) if leaf.dtype.kind not in "biuf"]
        if unreal:
            dtype = columns[unreal[0]].dtype
            kinds = "real and imaginary parts" if dtype.kind == "c" else "numbers"
            named = isinstance(read, dict) and len(read) == len(columns)
            which = f"{list(read)[unreal[0]]!r} is" if named else "they are"
            large = ""
            if holds_integers(columns[unreal[0]]):
                large, kinds = ", with integers beyond 2**53, which float64 does not hold", "floats"
            return f"the answers are not all real numbers: {which} of dtype {dtype}{large}. Let fn return {kinds}"
        if len(answered) < _LEAST_ANSWERS:
            rows = "only one row was answered" if len(answered) else "no row was answered"
            gone, last = self.scheduler.outcome is Outcome.NONE_RUNNING, self._last_loss
            lost = "" if last is None else f". The last worker was lost with: {last}"
            if gone:
                when = f" before the workers were gone. Start more{lost}"
            elif self._stop is None:
                when = f", and estimates need {_LEAST_ANSWERS}"
            else:
                when = (
                    f" in {self.seconds:.2g} s, which includes the start of workers, and waiting for what else runs there. "
                    f"Allow more time, or give an engine that has started, is free, and has imported what fn needs (engine.setup){lost}"
                )
            return rows + when
        if not all(np.isfinite(inputs.points(at)).all() for at in (answered, missing) if len(at)):
            return "inputs are NaN or infinite. Give numbers, or leave these rows out"
        finite = [np.isfinite(leaf.reshape(len(leaf), -1)).sum(axis=0) for leaf in columns]
        few = np.concatenate(finite) < _LEAST_ANSWERS
        if few.any():
            return (
                f"answers are NaN or infinite: fewer than {_LEAST_ANSWERS} of {len(answered):,} rows are finite in {few.sum():,} of "
                f"their {many(len(few), 'number')}, first in number {few.argmax()}. Let fn return numbers, or leave these out"
            )
        return ""

    def _read(self, rows: np.ndarray) -> Any:
        """Answers of rows that are exact."""
        if self._store is not None:
            return self._store.read(rows)
        values = self.values.values(np.zeros(len(self._rows.status), dtype=bool))
        return map_leaves(lambda leaf: blankable(leaf[rows]), values)

    def _time_left(self) -> float:
        """Seconds until the deadline."""
        return math.inf if self._deadline is None else self._deadline - self.seconds

    def _result(self, outcome: Outcome, estimates: Sequence[Estimates] = ()) -> MapResult:
        status = self._rows.status.copy()
        values = self.values.values(status != Status.EXACT)
        spread = np.where(status == Status.EXACT, 0.0, np.inf)
        stderr = map_leaves(lambda leaf: for_all_entries(spread, leaf.shape[1:]), values)
        if estimates:
            stderr = map_leaves(np.array, stderr)
        for found in estimates:
            put(found, values, stderr, status)
        result = self._build(values, stderr, status, outcome)
        if outcome is Outcome.WAITING or self._rows.inputs.lazy:
            return result
        again = partial(refilled, inputs=self._rows.inputs, more=self._more(status))
        return replace(result, hurried=any(e.hurried for e in estimates), _refill=again)

    def _build(self, values: Any, stderr: Any, status: np.ndarray, outcome: Outcome) -> MapResult:
        return MapResult(
            values=values,
            stderr=stderr,
            status=status,
            failures=Failures(sorted(self.failures.items())),
            rejected=(),
            outcome=outcome,
            seconds=self.seconds,
            worker_seconds=self.worker_seconds,
            calls=CallTable(self.calls),
            hedges=self.hedges,
        )

    # Calls --------------------------------------------------------------------------------------------

    def submit(self, call: Call) -> Future[Any]:
        if self._deals:
            self._rows.deal(call.begin, call.end, self.engine.workers)
        parts = self._rows.inputs.batch(self._at(call))
        if self._store is not None:
            self._checksums[call.number] = self._store.checksum(parts)
        batch = Batch(parts, call.groups, self._numbers(call), limit=call.limit, step=call.step)
        worker: Any = call.worker
        task = self._tasks.on(worker)
        if self._sent.get(worker) is not task and self._tasks.task.capture:
            self._with_fn.add(call.number)
        self._sent[worker] = task
        return self.engine.submit(worker, task, batch)

    def place(self, call: Call) -> tuple[range | np.ndarray, int, int]:
        """As in `LiveJob`; each call is a chunk of its own."""
        return self._numbers(call), call.number, 0

    def answered(self, call: Call, reply: Reply) -> tuple[int, ...] | BaseException:
        """Keep a reply; returns which of its rows raised, or have an answer that does not fit those of others.

        Returns an error if it is not known which rows these are. Raises `InvalidAnswer` if most rows have such answers.
        """
        if not call.wanted:
            self._checksums.pop(call.number, None)
        else:
            good = call.groups - len(reply.raised)
            error = self._unlike_others(reply) if good else None
            if error is not None and call.groups > 1:  # the answers of some of these rows may fit
                error._of_fn = True  # type: ignore[attr-defined]
                return error
            if error is not None:
                if self._record and self._most_are_odd(call):
                    first = int((self._rows.status == Status.EXACT).argmax())
                    raise InvalidAnswer(
                        f"row {self._numbers(call)[0]}: {error}. {len(self._odd_rows)} rows are unlike row {first}, which was answered "
                        "before them: correct fn, or leave that row out if most are unlike it"
                    )
                reply = replace(reply, values=None, raised={0: Failure.of(error)})
            self._replies[call.number] = reply
        return tuple(sorted(reply.raised))

    def _unlike_others(self, reply: Reply) -> InvalidAnswer | None:
        try:
            (self.values if self._store is None else self._store).check_alike(reply.values)
        except InvalidAnswer as error:
            return error
        return None

    def _most_are_odd(self, call: Call) -> bool:
        """Count the rows of a call as odd; whether more rows are odd than are exact: then ``fn`` is to blame."""
        self._odd_rows.update(self._numbers(call))  # a set: copies and halves hold the same rows
        return len(self._odd_rows) > int((self._rows.status == Status.EXACT).sum())

    def lost(self, call: Call, error: BaseException, loss: Loss) -> Loss:
        """Keep the reason; raises `EngineError` or `InvalidAnswer` if every other worker would fail as well."""
        by_fn = raised_by_fn(error)
        if isinstance(error, BrokenExecutor) and not by_fn:
            raise EngineError(
                f"the executor broke during call {call.number} ({error}): a crash in a "
                "ProcessPoolExecutor ends all its calls; use codedmap.engines.Local, where it costs one"
            ) from error
        if isinstance(error, InvalidAnswer) and not by_fn:
            if not self._record or self._most_are_odd(call):
                raise InvalidAnswer(f"{named_rows(runs_of(self._at(call)))}: {error}") from error
        elif isinstance(error, EngineError) and not by_fn:
            raise error
        crashed = isinstance(self.last_loss, WorkerCrashed)  # the most informative loss
        if isinstance(error, WorkerCrashed if crashed else WorkerLost) and not by_fn:
            self.last_loss = error
        self._errors[call.number] = error
        self._checksums.pop(call.number, None)
        return loss

    def take(self, decision: Take) -> None:
        """Store the answers of a call, whose rows are exact, except those that raised."""
        call, left = decision
        reply, at = self._replies[call.number], self._at(call)
        inputs = self._checksums.pop(call.number, None)
        good, values = call.groups - len(reply.raised), reply.values
        partly = sum(map(len, left)) < call.groups  # another call has answered some of its rows
        if good and (reply.raised or partly):
            answered = np.delete(np.arange(call.groups), list(reply.raised))
            kept = np.isin(call.begin + answered, np.concatenate(left))
            at = np.asarray(self._numbers(call))[answered[kept]]
            if partly:
                values, good = map_leaves(lambda leaf: leaf[kept], values), len(at)
        if good:
            whole = not (reply.raised or partly) and reply.done is None
            self._put(at, good, values, inputs if whole else None)
        if not reply.raised:
            del self._replies[call.number]

    def _put(self, at: slice | np.ndarray, count: int, answer: Any, inputs: str | None) -> None:
        rows = self._rows
        if self._store is None:
            self.values.put(at, count, answer)
        else:
            if inputs is None:
                inputs = self._store.checksum(rows.inputs.batch(at))
            self._store.put(at, count, answer, inputs)
        rows.status[at] = Status.EXACT
        rows.done(at)

    def fail(self, decision: FailRows) -> None:
        call = decision.call
        for place in range(decision.begin, decision.end):
            at: Any = self._rows.at(place, place + 1)
            row = int(at.start)
            error = self._reason(decision, place)
            self.failures[row] = error
            if self._estimates_late and decision.loss is Loss.TIMED_OUT:
                self.late[row] = call  # it is missing until it is estimated in the end
                self._first_errors.stop()
                continue
            self._rows.status[row] = Status.FAILED
            self._rows.done(at)
            if not self._record and self.error is None:
                rows = self._rows.at(decision.begin, decision.end)
                several = decision.end > decision.begin + 1
                together = named_rows(runs_of(rows)) if several else ""
                self.error = self._row_failed(row, call, error, together=together)
            if decision.loss is not Loss.RAISED or self.counts[0]:
                self._first_errors.stop()
            self._first_errors.add(row, error)
            self._check_first_errors()

    def _check_first_errors(self) -> None:
        """End the job if its first rows all raised."""
        only = only_errors(self._first_errors, self._rows, itemwise=self._itemwise)
        self.error = self.error or only

    @property
    def _itemwise(self) -> bool:
        return isinstance(self._tasks.task.fn, Itemwise)

    def _row_failed(
        self, row: int, call: Call, error: BaseException, together: str = ""
    ) -> RowFailed:
        otherwise = self.otherwise
        return row_failed(
            row, call, error, itemwise=self._itemwise, otherwise=otherwise, together=together
        )

    def read(self, decision: More) -> Future[Any]:
        return self._rows.read(decision.groups)

    def more(self, read: Any) -> tuple[int, bool]:
        rows = self._rows
        before = rows.count
        rows.add(read)
        self.values.resize(len(rows.status))
        self._check_first_errors()
        return rows.count - before, rows.ended

    def _at(self, call: Call) -> slice | np.ndarray:
        return self._rows.at(call.begin, call.end)

    def _numbers(self, call: Call) -> range | np.ndarray:
        at = self._at(call)
        return range(at.start, at.stop) if isinstance(at, slice) else at

    def _reason(self, decision: FailRows, place: int) -> BaseException:
        call, loss = decision.call, decision.loss
        if loss is Loss.RAISED:
            reply = self._replies.get(call.number)
            if reply is not None:
                error: BaseException = reply.raised[place - call.begin].to_exception()
                return error
            return self._errors[call.number]
        if loss is Loss.TIMED_OUT:
            first = call.number in self._with_fn and hasattr(self.engine, "setup")
            return CallTimeout(
                f"still running after call_timeout={self.scheduler.job.call_timeout:g} s"
                + (
                    f" in the first call of worker {call.worker}, in which imports that fn makes, and those of data frames, count"
                    if first
                    else ""
                )
                + ": allow more time, or "
                + ("import in engine.setup" if first else f"see what keeps worker {call.worker}")
            )
        crashed, rows = decision.crashes or 1, decision.end - decision.begin
        among = f" in a call of {rows} rows" if rows > 1 else ""
        last = self._errors[call.number]
        error = WorkerCrashed(
            f"ended its worker {crashed} time{'s' * (crashed > 1)}{among}, the last with: {last}"
        )
        error.__cause__ = last
        return error


def row_failed(
    row: int,
    call: Call | None,
    error: BaseException,
    *,
    itemwise: bool,
    otherwise: str = _RECORD,
    given: str = "",
    together: str = "",
    first: str = "",
) -> RowFailed:
    """The error that names a row which failed in this call, or the rows ``together``.

    ``given``: see `given_as`; ``first``: as of `FirstErrors.enough`.
    """
    which = "one of these inputs (with retries=1 it is found which)" if together else "this input"
    step = f"Correct fn or {which}" + batches_made_from(given, [error])
    if not itemwise and not isinstance(error, CodedmapError):  # these say themselves what to do
        step += ", lift a function of one input with codedmap.itemwise(fn)"
    if isinstance(error, ValueError) and "read-only" in short(error):
        step = "fn writes into its input: let it work on a copy (batch = batch.copy())"
    if isinstance(error, TypeError) and "keyword argument 'rng'" in short(error):
        step = "With a seed fn gets the keyword rng: let it take that, or leave the seed out"
    on = "" if call is None else f" on worker {call.worker}"
    failed = RowFailed(
        f"{first}{together or f'row {row}'} failed{on} with {short(error).rstrip('.')}. {step}, or {otherwise}",
        row=row,
    )
    failed.__cause__ = error
    return failed


def only_errors(
    first: FirstErrors, rows: JobRows, *, itemwise: bool, given: str = ""
) -> RowFailed | None:
    """The error if the first rows of a job all raised; ``given``: see `given_as`."""
    if rows.count < len(rows.status):  # some have an answer, of an earlier job
        first.stop()
    says = first.enough(rows.count if rows.ended else None)
    if first.last is None or not says:
        return None
    row, error = first.last
    otherwise = "go on with max_failures=None"
    return row_failed(
        row, None, error, itemwise=itemwise, otherwise=otherwise, given=given, first=says
    )
