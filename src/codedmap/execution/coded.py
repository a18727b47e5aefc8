"""The work of a job with a code: payloads of chunks, and what is decoded from the answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ..contracts.answers import TwoForms
from ..contracts.code import Code, Estimate
from ..contracts.engine import Engine, Reply
from ..contracts.inputs import check_finite
from ..contracts.stopping import Outcome, StoppingRule, asks_stderr
from ..contracts.warning import warn_caller
from ..errors import (
    WAIT,
    CallTimeout,
    CodedmapError,
    InvalidAnswer,
    InvalidArgument,
    NotEnoughAnswers,
    RowFailed,
    WorkerLost,
    either,
    many,
)
from ..estimation import Known
from ..results.calls import CallTable
from ..results.map_result import MapResult
from ..results.plan import Plan
from ..results.status import Status
from ..results.summary import undecoded
from .chunk_rows import ChunkRows
from .chunks import ChunkScheduler, CodedJob
from .decoded_rows import DecodedRows
from .encoded import EncodedRows
from .events import Call, Decode, Decoded, Job, Loss, More
from .failures import Failures, FirstErrors
from .hedge import Hedge, check_begins
from .job import MapJob
from .job_estimates import JobEstimates
from .job_rows import JobRows
from .live import LiveJob, patience_of, weakly
from .missing import refilled, time_for_estimates, warn_of_losses
from .task import Batch, Itemwise
from .uncoded import KeptTasks, RowsJob, only_errors

_JUDGING = 0.5  # most of the time until the deadline that is spent on finding wrong answers


def coded_job(
    code: Code,
    groups: int,
    own: Mapping[int, int],
    decodable: Callable[[int, frozenset[int]], bool],
    *,
    stop: StoppingRule,
    hedge: Hedge | None,
    size: int | None = None,
    call_timeout: float = math.inf,
    **more: Any,
) -> CodedJob:
    """The job that is scheduled for a code; ``call_timeout`` is that of one row, the rest is as in `CodedJob`."""
    timed = hedge is not None and hedge.after is not None
    if hedge is not None:
        check_begins(hedge, code.workers)
    return CodedJob(
        groups,
        hedge=None if hedge is None or timed else hedge.budget,
        call_timeout=call_timeout * (size or groups),
        ahead=0,
        size=size or groups,
        slots=code.workers,
        tasks=code.tasks,
        own=own,
        decodable=decodable,
        rule=stop,
        after=None if hedge is None else hedge.after,
        most=int(hedge.budget) if hedge is not None and timed and hedge.budget else None,
        **more,
    )


class CodedMap(MapJob):
    """A job of `map` with a code.

    ``record``: a row that fails is no error. ``together``: the rows of a chunk are neighbours, and are read together.
    ``apart``: rows whose calls were lost are computed without the code in the end, but not those of an iterator. A chunk
    has ``size`` groups, by default all, and a row may take ``call_timeout`` seconds. Estimates should be made by the
    ``deadline``, in seconds of the job, also from ``known`` answers. ``before``: the answers to rows that an earlier job
    made EXACT, and why others are FAILED. ``given``: what the rows were before they were made an array (`given_as`).
    ``estimates_late`` and ``max_failures`` are as for `RowsJob`, the others as for `LiveJob` and `coded_job`.
    """

    scheduler: ChunkScheduler

    def __init__(
        self,
        code: Code,
        engine: Engine,
        tasks: KeptTasks,
        rows: JobRows,
        *,
        stop: StoppingRule,
        record: bool,
        show: Callable[[LiveJob], None],
        size: int | None = None,
        together: bool = False,
        apart: bool = False,
        call_timeout: float = math.inf,
        deadline: float | None = None,
        known: Known | None = None,
        started: float | None = None,
        before: tuple[Any, Mapping[int, BaseException]] | None = None,
        plan: Plan | None = None,
        given: str = "",
        estimates_late: bool = False,
        max_failures: int | None = None,
        **scheduled: Any,
    ) -> None:
        inputs = rows.inputs
        self.code, self.tasks, self.rows, self.record = code, tasks, rows, record
        self.call_timeout, self._size, self._deadline = call_timeout, size, deadline
        self.estimates_late = estimates_late
        self._first_errors = FirstErrors(max_failures)
        self._together, self._apart, self._plan, self._given = together, apart, plan, given
        self._inputs = inputs
        self.groups = -(-rows.count // code.tasks)
        self.present: set[int] = set()
        """Slots that have answered, in any chunk."""
        self.slot_failures: dict[int, BaseException] = {}
        """The first error of each slot."""
        self._chunks: dict[int, ChunkRows] = {}
        at_once = size is None or size >= self.groups
        self._whole = at_once and not together
        every = slice(0, len(rows.status))
        if not (at_once or together):
            check_finite(inputs.array(every))
        pooled = getattr(code, "job_estimates", False) and bool(inputs.numbers)
        self._estimates = JobEstimates(
            inputs,
            [answers for answers in (getattr(code, "known", None), known) if answers is not None],
            pooled=pooled,
            filling=pooled and getattr(code, "fill", "mean") is not None,
        )
        self.own = self._own_slots(every)
        if not rows.ended:  # the rows of an incomplete group wait for further ones
            self.groups = rows.count // code.tasks
        self.lost_calls: list[int] = []
        """Rows that are missing because a call with their own input was lost: see `ChunkRows.lost_calls`."""
        # The rows of chunks whose answers have two forms, and the error that names these.
        self._undecided: list[tuple[slice | np.ndarray, CodedmapError]] = []
        self.decoded = DecodedRows(
            rows,
            self._estimates,
            whole=self._whole,
            # Inputs that are read only once cannot be estimated in the end.
            early=asks_stderr(stop) or inputs.growing is not None,
            record=record,
        )
        self._counted: list[int] | None = None
        """How many rows were EXACT and FAILED before, if progress counts rows; None if it counts answers."""
        if before is not None:
            self._counted = [int((rows.status == s).sum()) for s in (Status.EXACT, Status.FAILED)]
            self.decoded.keep(*before)
        job = coded_job(
            code,
            self.groups,
            self.own,
            weakly(self.decodable),
            stop=stop,
            size=size,
            call_timeout=call_timeout,
            before=(len(rows.status) - rows.count) // code.tasks,
            stderr=weakly(self.worst),
            patience=patience_of(engine),
            more=not rows.ended,
            **scheduled,
        )
        super().__init__(ChunkScheduler(job), engine, started=started, show=show)

    def _own_slots(self, every: slice) -> Mapping[int, int]:
        """Slots by which each task's own input can be sent; raises `InvalidArgument` if ``fn`` gets mixtures and has a seed."""
        inputs, seed = self._inputs, self.tasks.task.seed
        own: Mapping[int, int] = {}
        if self._whole:
            self._chunks[0] = ChunkRows(self._encoded(inputs.array(every)), every)
            own = self._chunks[0].encoded.owner
        elif self.groups:
            own = self._encode(0, 1).encoded.owner
        elif not self.rows.ended:  # no row is read yet that is not done: zeros have the same slots
            own = self._encoded(np.zeros((1, *inputs.form[0][1]), inputs.dtype)).owner
        mixtures = any(slot not in own for slot in range(self.code.workers))
        if own and mixtures and seed is not None:
            raise InvalidArgument(
                f"seed={seed} gives each row random numbers of its own, and {self.code!r} sends mixtures "
                "of rows: leave it out, or send copies, as Replication does"
            )
        return own

    @property
    def counts(self) -> tuple[int, int, int, int]:
        counts = super().counts
        if self._counted is None:
            return counts
        exact, lost = self._counted
        share = self.code.tasks / self.code.workers
        done, failed, running = (int(share * count) for count in counts[:3])
        done = min(exact + done, len(self.rows.status) - lost)  # the last group may lack some
        return done, lost + failed, running, counts[3]

    def result(self, apart: RowsJob | None = None) -> MapResult:
        """The result; ``apart``: the job that has computed rows without the code."""
        outcome = self.scheduler.outcome
        assert outcome is not None
        self.rows.check_read(outcome)
        effort, time_left = time_for_estimates(self, self._deadline)
        if outcome is Outcome.TOLERANCE:  # what is returned are the estimates that met it
            effort = "quick"
        fields = self.decoded.fields(effort, time_left, ended=True, apart=apart)
        result = self._result(fields)
        if outcome in (Outcome.EXACT, Outcome.COMPLETE):
            if not _settled(result.status):
                outcome = Outcome.NONE_RUNNING  # a worker was rejected that some rows rest on
            elif result.failures:  # before
                outcome = Outcome.COMPLETE
        self.warn_of_losses(result, [] if apart is None else [*apart.late])
        self.warn_of_undecided(result.status)
        size = min(self._size or self.groups, self.groups)
        nothing = (result.status == Status.MISSING).all()
        if outcome is Outcome.DEADLINE and nothing:
            smaller = "give as chunk= a number of rows that takes a small part of that, or "
            warn_caller(
                f"no payload, of {many(size, 'row')} each, was answered in {self.seconds:.2g} s: "
                f"{smaller if size > 1 else ''}allow more time"
            )
        return replace(result, outcome=outcome, _refill=self._refill())

    def _refill(self) -> Callable[[MapResult], MapResult] | None:
        """What makes thorough estimates later; None if inputs or answers are not in memory."""
        if self._inputs.lazy or self.rows.store is not None:
            return None
        return partial(refilled, inputs=self._inputs, more=self._estimates.more())

    def then(self) -> MapJob | None:
        """A job without the code for rows whose calls were lost, perhaps because of another row of the call."""
        return _Apart(self, np.sort(self.lost_calls)) if self.lost_calls else None

    def _result(self, fields: Mapping[str, Any]) -> MapResult:
        """The result, from the `DecodedRows.fields` of it."""
        slots = range(self.code.workers)
        answered = tuple(sorted(self.present))
        failed = {s: e for s, e in self.slot_failures.items() if s not in self.present}
        return MapResult(
            **fields,
            outcome=Outcome.WAITING,
            seconds=self.seconds,
            worker_seconds=self.worker_seconds,
            calls=CallTable(self.calls),
            answered=answered,
            abandoned=tuple(s for s in slots if s not in self.present and s not in failed),
            failed=Failures(failed),
            code=self.code,
            plan=self._plan,
            hedges=self.hedges,
        )

    # What the scheduler asks --------------------------------------------------------------------------

    def decodable(self, number: int, slots: frozenset[int]) -> bool:
        """Whether a chunk can be decoded from answers of these slots."""
        return self._chunk(number).encoded.decodable(slots)

    def worst(self, number: int, last: bool) -> float | None:
        """The largest standard error of a chunk; None if there is none yet, or no time to look."""
        chunk = self._chunk(number)
        return self.largest_stderr(number, chunk.taken, last, lambda: self._largest(number, chunk))

    def _largest(self, number: int, chunk: ChunkRows) -> float | None:
        answered, stop = frozenset(self.scheduler.chunks[number].answered), self.scheduler.job.rule
        estimate = chunk.encoded.tried() if chunk.encoded.decodable(answered) else None
        if estimate is None:
            return None
        if estimate.stderr is None:
            if asks_stderr(stop):
                raise no_stderr(stop, self.code)
            return None
        estimate, status, _ = chunk.judged(estimate)
        stderr = np.array(estimate.stderr)
        stderr[status == Status.FAILED] = 0.0
        largest = 0.0
        for found in self._estimates.of_chunk(chunk, estimate, status):
            stderr[found.rows] = 0.0
            largest = max(largest, found.largest())
        return max(largest, float(stderr.max()))

    # Calls --------------------------------------------------------------------------------------------

    def submit(self, call: Call) -> Future[Any]:
        chunk, tasks = self._chunk(call.chunk), self.tasks
        encoded = chunk.encoded
        payload = self._inputs.as_given(encoded.payload(call.slot))
        numbers: Any = range(len(payload))
        if tasks.task.seed is not None:
            numbers = np.array([chunk.number_at(call.slot, group) for group in numbers])
        batch = Batch((payload,), len(payload), numbers)
        # A mixture that raises says nothing of its rows: they are not looked for.
        if self.scheduler.job.retries and call.slot in encoded.task_of:
            batch = replace(batch, halve="all" if self.record else "first")
        worker: Any = call.worker
        return self.engine.submit(worker, tasks.on(worker), batch)

    def answered(self, call: Call, reply: Reply) -> BaseException | tuple[int, ...]:
        """Keep the answer; an own input that raised costs its row, a mixture that raised the whole answer."""
        chunk = self._chunks.get(call.chunk)
        if not call.wanted or chunk is None:
            return ()
        error = chunk.take(call, reply)
        if error is not None:
            return error
        if call.slot < self.code.workers:
            self.present.add(call.slot)
        return ()

    def lost(self, call: Call, error: BaseException, loss: Loss) -> Loss:
        chunk = self._chunks.get(call.chunk)
        if call.wanted and chunk is not None:
            chunk.lose(call, error, loss, record=self.record)
            if call.slot < self.code.workers and loss is not Loss.NOT_STARTED:
                self.slot_failures.setdefault(call.slot, error)
        return loss

    # Decoding -----------------------------------------------------------------------------------------

    def decode(self, decision: Decode) -> Decoded:
        """Decode a chunk from the answers so far.

        Raises `NotEnoughAnswers` if no row may be missing, and it cannot be decoded or its stopping rule not be satisfied.
        """
        number, outcome, final = decision
        chunk, rule = self._chunks[number], self.scheduler.job.rule
        encoded = chunk.encoded
        final = final or outcome in (Outcome.DEADLINE, Outcome.UNSATISFIABLE)
        if self._deadline is not None:
            encoded.seconds = _JUDGING * max(0.0, self._deadline - self.seconds)
        seen = self.scheduler.seen(number, self.seconds)
        self._note_timeouts(number)
        reason: CodedmapError | None = None
        estimate: Estimate | None = None
        try:
            estimate = encoded.decode()
        except NotEnoughAnswers as error:
            reason = error
        except InvalidAnswer:
            only = frozenset(encoded.workers)
            if final or len(only) > 1:
                raise
            # That worker may be wrong, and not fn: others say.
            return Decoded(self.seconds, number, enough=False, unused=seen.answered, rejected=only)
        unused = frozenset(slot for slot in seen.answered if not encoded.usable(slot))
        replaced = bool(unused) and outcome is not Outcome.DEADLINE
        # Rows whose own inputs are answered need not be exact: answers may differ, or rows have raised.
        early = unknown = False
        if outcome is Outcome.EXACT and estimate is not None and not estimate.exact.all():
            status = chunk.judged(estimate)[1]
            early = not _settled(status) or bool(seen.running & encoded.task_of.keys())
            unknown = bool((status >= Status.FAILED).any())
        if replaced or (not final and (estimate is None or early)):
            rejected = frozenset(encoded.rejected_workers)
            now = self.seconds
            return Decoded(now, number, enough=False, unused=unused, rejected=rejected)
        if estimate is None:
            estimate = encoded.salvage()
            if isinstance(reason, TwoForms):
                self._undecided.append((chunk.rows, reason))
        elif not estimate.exact.all() and (
            unknown
            or outcome is Outcome.UNSATISFIABLE
            or (outcome is Outcome.NONE_RUNNING and rule.wake_after(seen) is None)
        ):
            reason = NotEnoughAnswers(
                f"the stopping rule {rule} asks for more than could still come"
            )
        undecodable = reason is not None and not seen.decodable
        allowed = self._allows_missing(chunk, estimate, undecodable=undecodable)
        if reason is not None and not allowed:
            every = frozenset(range(self.code.workers))  # tasks' own inputs have further slots
            raise self._first_failed(chunk) or undecoded(
                NotEnoughAnswers(reason.problem, *reason.steps),
                replace(
                    seen,
                    asked=seen.asked & every,
                    answered=seen.answered & every,
                    failed=seen.failed & every,
                ),
                Outcome.NONE_RUNNING if unknown else outcome,
                {slot: error for slot, error in chunk.errors.items() if slot in every},
                'take what there is with on_error="record"',
                given=self._given,
            )
        failed = self.decoded.add(chunk, estimate, apart=bool(self.lost_calls))
        if failed and not self.record:
            self.error = self._first_failed(chunk) or self.error
        self._note_first_errors(chunk)
        del self._chunks[number]
        if outcome is Outcome.EXACT and (failed or not estimate.exact.all()):
            outcome = Outcome.COMPLETE if failed else Outcome.NONE_RUNNING
        rejected = frozenset(encoded.rejected_workers)
        return Decoded(self.seconds, number, enough=True, rejected=rejected, outcome=outcome)

    def _note_first_errors(self, chunk: ChunkRows) -> None:
        """Note which rows of a finished chunk raised; see `FirstErrors`."""
        if not self.record or (self.rows.status[chunk.rows] != Status.FAILED).any():
            self._first_errors.stop()
            return
        for row in chunk.numbers:
            self._first_errors.add(int(row), self.decoded.failures[row])
            self._check_first_errors()

    def _check_first_errors(self) -> None:
        """End the job if its first rows all raised."""
        itemwise = isinstance(self.tasks.task.fn, Itemwise)
        only = only_errors(self._first_errors, self.rows, itemwise=itemwise, given=self._given)
        self.error = self.error or only

    def _allows_missing(self, chunk: ChunkRows, estimate: Estimate, *, undecodable: bool) -> bool:
        """Whether rows of a chunk may be missing; notes those that are to be computed without the code."""
        raised = any(not isinstance(e, WorkerLost | CallTimeout) for e in chunk.errors.values())
        allowed = self.record or (self.scheduler.job.partial and not (raised and undecodable))
        if self._apart and self._inputs.growing is None and (chunk.errors or chunk.encoded.unlike):
            lost = chunk.lost_calls()
            missing = set(np.flatnonzero(chunk.judged(estimate)[1] == Status.MISSING).tolist())
            lost &= missing
            chunk.encoded.excuse(lost)
            self.lost_calls += map(chunk.number_of, lost)
            allowed |= bool(lost) and lost == missing
        return allowed

    def _note_timeouts(self, number: int) -> None:
        """Keep a `CallTimeout` as the reason for slots of a chunk whose calls ran too long."""
        chunk, each = self._chunks[number], self.call_timeout
        rows = chunk.encoded.groups
        for slot, loss in self.scheduler.chunks[number].failed.items():
            if loss is Loss.TIMED_OUT:
                error = CallTimeout(
                    f"{many(rows, 'row')} {'was' if rows == 1 else 'were'} still running after {rows} times call_timeout={each:g} "
                    "s: allow more time, or see what keeps it"
                )
                self.slot_failures.setdefault(slot, chunk.errors.setdefault(slot, error))

    def _first_failed(self, chunk: ChunkRows) -> RowFailed | None:
        itemwise = isinstance(self.tasks.task.fn, Itemwise)
        return chunk.first_failed(itemwise=itemwise, given=self._given)

    def so_far(self) -> MapResult | None:
        if self.rows.store is not None:
            return None
        chunk = self._chunks.get(0) if self._whole else None
        if chunk is None:
            if not (self.rows.status < Status.FAILED).any():
                return None
            ended = self.scheduler.outcome is not None
            return self._result(self.decoded.fields("quick", lambda: math.inf, ended=ended))
        estimate = None
        if chunk.encoded.decodable(frozenset(self.scheduler.chunks[0].answered)):
            estimate = chunk.encoded.tried()
        return None if estimate is None else self._result(self.decoded.with_chunk(chunk, estimate))

    def warn_of_losses(self, result: MapResult, late: Sequence[int] = ()) -> None:
        """Warn if which rows failed, were ``late``, or have answers that are not finite, depends on the inputs."""
        inputs, values, status = self._inputs, result.values, result.status.copy()
        estimated = result.stderr is not None and (result.status == Status.ESTIMATED).any()
        in_memory = isinstance(values, np.ndarray) and not inputs.lazy
        if estimated and inputs.numbers and in_memory:
            status[late] = Status.MISSING
            warn_of_losses(inputs, status, lambda at: values[at], lambda: 0.0)

    def warn_of_undecided(self, status: np.ndarray) -> None:
        """Warn of rows, by their status (m,), that are MISSING because their answers have two forms."""
        left = int(sum(np.sum(status[at] == Status.MISSING) for at, _ in self._undecided))
        if left:
            reason = self._undecided[0][1]
            steps = [step for step in reason.steps if step != WAIT]
            first = f"{many(left, 'row')} {'is' if left == 1 else 'are'} MISSING: {reason.problem}"
            warn_caller(": ".join([first, either(steps)] if steps else [first]))

    # Chunks -------------------------------------------------------------------------------------------

    def _chunk(self, number: int) -> ChunkRows:
        chunk = self._chunks.get(number)
        if chunk is None:
            bounds = self.scheduler.chunks[number]
            chunk = self._chunks[number] = self._encode(bounds.begin, bounds.end)
        return chunk

    def _encode(self, begin: int, end: int) -> ChunkRows:
        """Some groups, encoded. Task k of group b is row k·B + b, as if all groups were one chunk, unless neighbours are together."""
        tasks, count = self.code.tasks, self.rows.count
        if self._together:
            at = self.rows.at(begin * tasks, min(end * tasks, count))
            given = self._inputs.array(at)
            numbers = range(at.start, at.stop) if isinstance(at, slice) else at
            checksum = ""
            if self.rows.store is not None:
                parts = (given,) if self._inputs.lazy else self._inputs.batch(at)
                checksum = self.rows.store.checksum(parts)
            return ChunkRows(self._encoded(given, numbers), at, checksum)
        rows = (np.arange(tasks)[:, None] * self.groups + np.arange(begin, end)).ravel()
        rows = rows[rows < count]
        return ChunkRows(self._encoded(self._inputs.array(rows)), rows)

    def _encoded(
        self, rows: np.ndarray, numbers: Sequence[int] | np.ndarray | None = None
    ) -> EncodedRows:
        return EncodedRows(self.code, rows, numbers=numbers, estimates=not self._estimates.pooled)

    def read(self, decision: More) -> Future[Any]:
        wanted = (self.groups + decision.groups) * self.code.tasks
        return self.rows.read(wanted - self.rows.count)

    def more(self, read: Any) -> tuple[int, bool]:
        """Add rows that were read; those of an incomplete group wait for the next ones."""
        rows, tasks, before = self.rows, self.code.tasks, self.groups
        rows.add(read)
        self.decoded.values.resize(len(rows.status))
        self.groups = -(-rows.count // tasks) if rows.ended else rows.count // tasks
        self._check_first_errors()
        return self.groups - before, rows.ended


class _Apart(RowsJob):
    """Computes some rows of a job with a code, which has ended ``before``, without the code; puts their answers there."""

    def __init__(self, before: CodedMap, rows: np.ndarray) -> None:
        job, inputs = before.scheduler.job, before.rows.inputs
        status = np.full(inputs.rows, Status.EXACT, np.int8)
        status[rows] = Status.MISSING
        super().__init__(
            Job(
                inputs.rows,
                hedge=job.hedge,
                retries=job.retries,
                call_timeout=before.call_timeout,
            ),
            before.engine,
            before.tasks.checking(),
            inputs,
            record=before.record,
            started=before.started,
            show=lambda live: None,  # it would not count answers, as the bar does
            store=before.rows.store,
            status=status,
            estimates_late=before.estimates_late,
        )
        self._before, self._own = before, rows
        self.values, self.calls = before.decoded.values, before.calls

    def so_far(self) -> MapResult | None:
        self._before.decoded.include(self._own, self._rows.status, self.failures)
        return self._before.so_far()

    def result(self) -> MapResult:
        outcome, before = self._ended(partial=self._record), self._before
        before.decoded.include(self._own, self._rows.status, self.failures)
        before.worker_seconds += self.worker_seconds
        before.other_hedges += self.hedges
        result = before.result(self)
        if outcome is Outcome.EXACT and (result.status != Status.EXACT).any():
            return result
        return replace(result, outcome=outcome)


def _settled(status: np.ndarray) -> bool:
    """Whether all rows are exact, or have failed."""
    return bool(np.isin(status, (Status.EXACT, Status.FAILED)).all())


def no_stderr(stop: StoppingRule, code: Code) -> InvalidArgument:
    """The error for a rule that asks for standard errors of a code that has none."""
    return InvalidArgument(
        f"the stopping rule {stop} asks for standard errors, and {type(code).__name__} has none: use a "
        'code that has, such as Replication(..., fill="mean"), or stop by answers and time instead, as '
        f"Quorum({code.workers - code.stragglers}) | Deadline(2) does"
    )
