"""The work of a job with a code: payloads of chunks, and what is decoded from the answers."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Future
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..contracts.answers import as_array, cast_values
from ..contracts.code import Code, Estimate
from ..contracts.engine import Engine, Reply
from ..contracts.inputs import check_finite
from ..contracts.stopping import Outcome, Progress, StoppingRule, asks_stderr
from ..errors import (
    CallTimeout,
    CodedmapError,
    EngineError,
    InvalidArgument,
    NotEnoughAnswers,
    RowFailed,
    WorkerCrashed,
    WorkerLost,
)
from ..estimation import Known
from ..results.calls import CallTable
from ..results.map_result import MapResult
from ..results.plan import Plan
from ..results.status import Status
from ..results.summary import many, undecoded
from ..results.trees import Rows, blanked, for_all_entries, map_leaves
from .chunks import ChunkScheduler, CodedJob
from .encoded import EncodedRows
from .events import Call, Decode, Decoded, Event, Kind, Loss, More
from .failures import Failures
from .hedge import Hedge
from .inputs import InputRows
from .job import MapJob
from .job_rows import JobRows
from .live import LOOKING, Budget, LiveJob, Work, patience_of
from .missing import (
    Effort,
    Estimates,
    estimate_missing,
    time_for_estimates,
    warn_of_losses,
    warn_other_answers,
)
from .rejections import Rejections
from .rows import KeptTasks, row_failed
from .task import Batch, Itemwise, raised_by_fn

_FEWEST = 2  # answers from which others are estimated
_SHORTEST = 0.1  # seconds for estimates from all answers, which are no better in less
_NUMBERS = 1 << 22  # in payloads that are mixtures, of those that are used at a time
_POOL = 1000  # answers to mixtures, and to rows of other chunks, that are kept to estimate from


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is run and how: arguments of `map`, checked."""

    code: Code
    tasks: KeptTasks
    engine: Engine
    stop: StoppingRule
    hedge: Hedge | None
    retries: int
    record: bool
    """Whether a row that fails is no error."""
    partial: bool
    """Whether rows may be missing in the end."""
    bound: bool
    """Whether slot n is computed by worker n."""
    size: int | None = None
    """Groups of a chunk; None: all."""
    together: bool = False
    """Whether rows of a chunk are neighbours, which are read together."""
    deadline: float | None = None
    """When estimates should be made, in seconds of the job."""
    known: Known | None = None
    """Further answers, from which rows are estimated too."""
    call_timeout: float = math.inf
    """Seconds that a row may take; a payload of B rows may take B times as long."""
    apart: Callable[[MapResult, np.ndarray], MapJob] | None = None
    """Makes a job without the code for rows whose calls were lost, from the result with the others."""


def coded_job(
    code: Code,
    groups: int,
    own: Mapping[int, int],
    decodable: Callable[[int, frozenset[int]], bool],
    *,
    stop: StoppingRule,
    hedge: Hedge | None,
    retries: int = 2,
    size: int | None = None,
    bound: bool = False,
    call_timeout: float = math.inf,
) -> CodedJob:
    """What is to be scheduled for a code; ``own`` and ``decodable`` as for `CodedJob`, ``call_timeout`` of one row."""
    timed = hedge is not None and hedge.after is not None
    return CodedJob(
        groups,
        hedge=None if hedge is None or timed else hedge.budget,
        retries=retries,
        call_timeout=call_timeout * (size or groups),
        ahead=0,
        size=size or groups,
        slots=code.workers,
        tasks=code.tasks,
        own=own,
        decodable=decodable,
        rule=stop,
        bound=bound,
        after=None if hedge is None else hedge.after,
        most=int(hedge.budget) if hedge is not None and timed and hedge.budget else None,
    )


class CodedMap(MapJob):
    """A job of `map` with a code.

    ``before`` holds the answers to rows that are EXACT before, and why rows are FAILED, and ``given`` is what the rows were
    before they were made an array (`given_as`). Others as for `LiveJob` and `MapJob`.
    """

    def __init__(
        self,
        settings: Settings,
        rows: JobRows,
        *,
        started: float | None = None,
        show: Callable[[LiveJob], None],
        before: tuple[Any, Mapping[int, BaseException]] | None = None,
        plan: Plan | None = None,
        given: str = "",
        log: list[Event] | None = None,
    ) -> None:
        self._settings, self._rows, self._plan = settings, rows, plan
        self._work = work = _CodedWork(settings, rows, given=given)
        if before is not None:
            work.keep(*before)
        job = replace(
            coded_job(
                settings.code,
                work.groups,
                work.own,
                work.decodable,
                stop=settings.stop,
                hedge=settings.hedge,
                retries=settings.retries,
                size=settings.size,
                bound=settings.bound,
                call_timeout=settings.call_timeout,
            ),
            before=(len(rows.status) - rows.count) // settings.code.tasks,
            stderr=work.worst,
            partial=settings.partial,
            patience=patience_of(settings.engine),
            more=not rows.ended,
        )
        scheduler = ChunkScheduler(job)
        live = LiveJob(scheduler, settings.engine, work, started=started, log=log)
        super().__init__(live, show)
        work.joins(scheduler, live)

    def so_far(self) -> MapResult | None:
        known = self._work.known()
        return None if known is None else self._result(known, Outcome.WAITING)

    def result(self) -> MapResult:
        outcome = self.live.scheduler.outcome
        assert outcome is not None
        self._rows.check_read(outcome)
        effort, time_left = time_for_estimates(self.live, self._settings.deadline)
        if outcome is Outcome.TOLERANCE:  # what is returned are the estimates that met it
            effort = "quick"
        known = self._work.done(effort, time_left)
        if outcome is Outcome.EXACT:
            if not np.isin(known.status, (Status.EXACT, Status.FAILED)).all():
                outcome = Outcome.NONE_RUNNING  # a worker was rejected that some rows rest on
            elif known.failures:  # before
                outcome = Outcome.COMPLETE
        self._work.warn_of_losses(known)
        return self._result(known, outcome)

    def then(self) -> MapJob | None:
        """A job for rows whose calls were lost: of several rows in a call, one may be the cause."""
        lost, apart = self._work.lost_calls, self._settings.apart
        return apart(self.result(), np.sort(lost)) if lost and apart is not None else None

    def _result(self, known: _Known, outcome: Outcome) -> MapResult:
        work, live = self._work, self.live
        slots = range(self._settings.code.workers)
        answered = tuple(sorted(work.present))
        failed = {s: e for s, e in work.slot_failures.items() if s not in work.present}
        return MapResult(
            values=known.values,
            stderr=_like(known.values, known.stderr),
            status=known.status,
            failures=Failures(known.failures),
            rejected=tuple(sorted(known.rejected)),
            outcome=outcome,
            seconds=live.seconds,
            worker_seconds=live.worker_seconds,
            calls=CallTable(list(live.calls)),
            answered=answered,
            abandoned=tuple(s for s in slots if s not in work.present and s not in failed),
            failed=Failures(failed),
            code=self._settings.code,
            plan=self._plan,
            hedges=live.scheduler.hedges,
        )


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of all rows."""

    values: np.ndarray
    stderr: np.ndarray | None
    status: np.ndarray
    failures: dict[int, BaseException]
    rejected: set[Any]

    @classmethod
    def of(
        cls,
        estimate: Estimate,
        status: np.ndarray,
        failures: dict[int, BaseException],
        rejected: set[Any],
        found: Sequence[Estimates],
    ) -> _Known:
        """An estimate, with others in place of some of its rows."""
        values, stderr = estimate.values, _like(estimate.values, estimate.stderr)
        if found and stderr is not None:
            values, stderr = np.array(values), np.array(stderr)
            for part in found:
                values[part.rows], stderr[part.rows] = part.values, part.stderr
        values = blanked(values, status >= Status.FAILED)
        return cls(values, stderr, status, failures, rejected)


class _Pool:
    """Points and answers there: known beforehand, of mixtures, or of rows of other chunks; only some, if there are many."""

    def __init__(self, known: Iterable[Known]) -> None:
        self._parts = [(one.inputs, one.answers) for one in known]
        self._rng = np.random.default_rng(0)

    def add(self, points: np.ndarray, answers: np.ndarray) -> None:
        """Add points (n, *x) and answers (n, *y)."""
        self._parts = self._alike(_real((points, answers)))
        if sum(len(part) for part, _ in self._parts) > 2 * _POOL:
            all_points, all_answers = map(np.concatenate, zip(*self._parts, strict=True))
            some = self._rng.permutation(len(all_points))[:_POOL]
            self._parts = [(all_points[some], all_answers[some])]

    def joined(self, *more: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
        """All points (n, p) and answers (n, q), and further ones; None if there are none."""
        parts = self._alike(_real(*more))
        if not parts:
            return None
        return np.concatenate([p for p, _ in parts]), np.concatenate([a for _, a in parts])

    def _alike(
        self, more: list[tuple[np.ndarray, np.ndarray]]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Further parts before those that there are, without known ones that have other answers."""
        parts = [*more, *self._parts]
        columns = [answers.shape[1] for _, answers in parts]
        odd = next((count for count in columns if count != columns[0]), None)
        if odd is not None:
            warn_other_answers(odd, columns[0])
            self._parts = [part for part in self._parts if part[1].shape[1] == columns[0]]
        return [*more, *self._parts]


class _CodedWork(Work):
    """Rows, the chunks they are encoded in, and the answers to these."""

    def __init__(self, settings: Settings, rows: JobRows, *, given: str) -> None:
        code, inputs = settings.code, rows.inputs
        self._settings, self._given, self._rows = settings, given, rows
        self._inputs, self._store = inputs, rows.store
        self.groups = -(-rows.count // code.tasks)
        self.present: set[int] = set()
        """Slots that have answered, in any chunk."""
        self.slot_failures: dict[int, BaseException] = {}
        """The first error of each slot."""
        self.own: Mapping[int, int] = {}
        self._chunks: dict[int, _Chunk] = {}
        self._status = rows.status
        self._values = Rows(len(rows.status))
        at_once = settings.size is None or settings.size >= self.groups
        self._whole = at_once and not settings.together
        every = slice(0, len(rows.status))
        if not (at_once or settings.together):
            check_finite(inputs.array(every))
        self._pooled = getattr(code, "job_estimates", False) and bool(inputs.numbers)
        """Whether rows are estimated from answers of the whole job."""
        self._estimating = self._pooled and getattr(code, "fill", "mean") is not None
        """Whether rows may be estimates."""
        if self._whole:
            self._chunks[0] = _Chunk(self._encoded(inputs.array(every)), every)
            self.own = self._chunks[0].encoded.owner
        elif self.groups:
            self.own = self._encode(0, 1).encoded.owner
        mixtures = any(slot not in self.own for slot in range(code.workers))
        if self.groups and mixtures and settings.tasks.task.seed is not None:
            raise InvalidArgument(
                f"seed={settings.tasks.task.seed} gives each row random numbers of its own, and {code!r} sends mixtures "
                "of rows: leave it out, or send copies, as Replication does"
            )
        if not rows.ended:  # what is left over of a group waits
            self.groups = rows.count // code.tasks
        self._stderr: np.ndarray | None = None
        self._failures: dict[int, BaseException] = {}
        self.lost_calls: list[int] = []
        """Rows that are missing because of what the calls with their own input came to: see `_Chunk.lost_calls`."""
        self._rejected: set[Any] = set()
        self._alone: tuple[_Chunk, Estimate] | None = None
        # Where a rule has seen estimates they are kept, and where inputs are read once they cannot wait.
        self._early = not self._whole and (asks_stderr(settings.stop) or inputs.growing is not None)
        self._lost = np.full(len(self._status), self._estimating)
        """Rows without an answer of their own, which are estimated in the end; none of an iterator."""
        before = (getattr(code, "known", None), settings.known)
        self._before = [known for known in before if known is not None]
        self._pool = _Pool(self._before)
        self._found: list[Estimates] = []
        self._rejections = Rejections()
        self._without_stderr = False  # whether rows were estimated without a standard error

    def keep(self, answers: Any, failures: Mapping[int, BaseException]) -> None:
        """Take answers (m, *y) to the rows that are EXACT, and why others are FAILED."""
        exact = self._status == Status.EXACT
        rows = np.flatnonzero(exact)
        self._values.put(rows, len(rows), map_leaves(lambda leaf: leaf[rows], answers))
        self._stderr = np.where(exact, 0.0, np.inf)
        self._failures.update(failures)

    def joins(self, scheduler: ChunkScheduler, live: LiveJob) -> None:
        """Which scheduler asks, and which job runs."""
        # Both refer to this, and the answers must not wait for the collector.
        self._scheduler, self._live = weakref.proxy(scheduler), weakref.proxy(live)
        self._looking = Budget(live, LOOKING)

    # What the scheduler asks --------------------------------------------------------------------------

    def decodable(self, number: int, slots: frozenset[int]) -> bool:
        """Whether a chunk can be decoded from answers of these slots."""
        return self._chunk(number).encoded.decodable(slots)

    def worst(self, number: int, last: bool) -> float | None:
        """The largest standard error of a chunk; None if there is none yet, or no time to look."""
        chunk, stop = self._chunk(number), self._settings.stop
        count = chunk.taken
        if chunk.looked[0] != count:
            answered = frozenset(self._scheduler.chunks[number].answered)
            if not chunk.encoded.decodable(answered) or not (last or self._looking.allows()):
                return None
            with self._looking:
                estimate = chunk.encoded.tried()
                if estimate is not None and estimate.stderr is None and asks_stderr(stop):
                    raise no_stderr(stop, self._settings.code)
                chunk.looked = count, self._largest(chunk, estimate)
        return chunk.looked[1]

    def _largest(self, chunk: _Chunk, estimate: Estimate | None) -> float | None:
        if estimate is None or estimate.stderr is None:
            return None
        estimate, status, _ = self._judged(chunk, estimate)
        stderr = np.array(estimate.stderr)
        stderr[status == Status.FAILED] = 0.0
        largest = 0.0
        for found in self._estimates(chunk, estimate, status):
            stderr[found.rows] = 0.0
            largest = max(largest, found.largest())
        return max(largest, float(stderr.max()))

    # Calls --------------------------------------------------------------------------------------------

    def submit(self, engine: Engine, call: Call) -> Future[Any]:
        chunk, settings = self._chunk(call.chunk), self._settings
        encoded = chunk.encoded
        payload = self._inputs.as_given(encoded.payload(call.slot))
        numbers: Any = range(len(payload))
        if settings.tasks.task.seed is not None:
            numbers = np.array([chunk.number_at(call.slot, group) for group in numbers])
        batch = Batch((payload,), len(payload), numbers)
        # That a mixture raises says nothing of rows.
        if settings.retries and encoded.is_raw(call.slot):
            batch = replace(batch, halve="all" if settings.record else "first")
        worker: Any = call.worker
        return engine.submit(worker, settings.tasks.on(worker), batch)

    def answered(self, call: Call, reply: Reply) -> BaseException | tuple[int, ...]:
        """Keep the answer; rows that raised are not a number, unless the payload is a mixture."""
        chunk = self._chunks.get(call.chunk)
        if not call.wanted or chunk is None:
            return ()
        answer = reply.values
        if reply.raised:
            errors = {place: raised.to_exception() for place, raised in reply.raised.items()}
            rows = {place: chunk.encoded.row(call.slot, place) for place in errors}
            for place, row in rows.items():
                if row is not None:
                    chunk.raised.setdefault(row, (call, errors[place]))
            first: BaseException = next(iter(errors.values()))
            good = call.groups - len(errors)
            if answer is None or not good or not chunk.encoded.is_raw(call.slot):
                return first
            answer = as_array(answer)
            # What is none, or has other rows, is said when it is decoded.
            if isinstance(answer, np.ndarray) and answer.shape[:1] == (good,):
                answer = _with_placeholders(answer, call.groups, list(errors))
        # Here and not in `take`: the scheduler asks about standard errors in between.
        array = as_array(answer)
        if isinstance(array, np.ndarray) and chunk.encoded.is_raw(call.slot):
            chunk.dtypes.add(array.dtype)
        worker: Any = call.worker
        again = call.kind is not Kind.FIRST
        chunk.encoded.take(call.slot, answer, worker, again=again, raised=reply.raised)
        chunk.taken += 1
        chunk.errors.pop(call.slot, None)
        if call.slot < self._settings.code.workers:
            self.present.add(call.slot)
        return ()

    def lost(self, call: Call, error: BaseException, loss: Loss) -> Loss:
        chunk = self._chunks.get(call.chunk)
        if call.wanted and chunk is not None:
            chunk.errors.setdefault(call.slot, error)
            if call.slot < self._settings.code.workers and loss is not Loss.NOT_STARTED:
                self.slot_failures.setdefault(call.slot, error)
            own = raised_by_fn(error) or not isinstance(error, BrokenExecutor | EngineError)
            if loss is Loss.RAISED and own and chunk.encoded.is_raw(call.slot):
                for group in range(call.groups):
                    row = chunk.encoded.row(call.slot, group)
                    if row is not None and call.groups == 1 and self._settings.record:
                        chunk.raised.setdefault(row, (call, error))
                    elif row is not None:
                        chunk.batches.setdefault(row, error)
        return loss

    # Decoding -----------------------------------------------------------------------------------------

    def decode(self, decision: Decode) -> Decoded:
        """Decode a chunk from the answers so far.

        Raises `NotEnoughAnswers` if it cannot be decoded, or its stopping rule not be satisfied, and rows may not be missing.
        """
        number, outcome, final = decision
        chunk = self._chunks[number]
        rows = chunk.encoded
        final = final or outcome in (Outcome.DEADLINE, Outcome.UNSATISFIABLE)
        seen = self._scheduler.seen(number, self._live.seconds)
        self._note_timeouts(number)
        reason: CodedmapError | None = None
        estimate: Estimate | None = None
        try:
            estimate = rows.decode()
        except NotEnoughAnswers as error:
            reason = error
        unused = frozenset(slot for slot in seen.answered if not rows.usable(slot))
        again = bool(unused) and outcome is not Outcome.DEADLINE
        # All inputs may have an answer and rows not be exact, because answers differ; or because they raised.
        early = outcome is Outcome.EXACT and estimate is not None and not estimate.exact.all()
        if early and estimate is not None and not any(map(rows.is_raw, seen.running)):
            status = self._judged(chunk, estimate)[1]
            early = not np.isin(status, (Status.EXACT, Status.FAILED)).all()
        if again or (not final and (estimate is None or early)):
            rejected = frozenset(rows.rejected_workers)
            now = self._live.seconds
            return Decoded(now, number, enough=False, unused=unused, rejected=rejected)
        if estimate is None:
            estimate = rows.salvage()
        elif not estimate.exact.all() and _unmet(outcome, seen, self._settings.stop):
            rule = self._settings.stop
            reason = NotEnoughAnswers(f"the stop rule {rule} asks for more than could still come")
        settings = self._settings
        raised = any(not isinstance(e, WorkerLost | CallTimeout) for e in chunk.errors.values())
        undecodable = reason is not None and not seen.decodable
        allowed = settings.record or (settings.partial and not (raised and undecodable))
        if settings.apart is not None and (chunk.errors or rows.unlike):
            missing = set(
                np.flatnonzero(self._judged(chunk, estimate)[1] == Status.MISSING).tolist()
            )
            lost = missing & chunk.lost_calls()
            rows.excuse(lost)
            self.lost_calls += map(chunk.number_of, lost)
            allowed |= bool(lost) and lost == missing
        if reason is not None and not allowed:
            raise self._first_failed(chunk) or undecoded(
                NotEnoughAnswers(reason.problem, *reason.steps),
                seen,
                outcome,
                chunk.errors,
                'take what there is with on_error="record"',
                given=self._given,
            )
        failed = self._finish(chunk, estimate)
        del self._chunks[number]
        if outcome is Outcome.EXACT and failed:
            outcome = Outcome.COMPLETE
        elif outcome is Outcome.EXACT and not estimate.exact.all():
            outcome = Outcome.NONE_RUNNING
        rejected = frozenset(rows.rejected_workers)
        return Decoded(self._live.seconds, number, enough=True, rejected=rejected, outcome=outcome)

    def _note_timeouts(self, number: int) -> None:
        """Keep for the slots of a chunk that ran too long that they did."""
        chunk, each = self._chunks[number], self._settings.call_timeout
        rows = chunk.encoded.groups
        for slot, loss in self._scheduler.chunks[number].failed.items():
            if loss is Loss.TIMED_OUT:
                error = CallTimeout(
                    f"{many(rows, 'row')} {'was' if rows == 1 else 'were'} still running after {rows} times call_timeout={each:g} "
                    "s: allow more time, or see what keeps it"
                )
                self.slot_failures.setdefault(slot, chunk.errors.setdefault(slot, error))

    def _first_failed(self, chunk: _Chunk) -> RowFailed | None:
        """The error that names the first row for whose own input ``fn`` raised."""
        if not chunk.raised:
            return None
        place = min(chunk.raised)
        call, error = chunk.raised[place]
        itemwise = isinstance(self._settings.tasks.task.fn, Itemwise)
        return row_failed(chunk.number_of(place), call, error, itemwise=itemwise, given=self._given)

    def _finish(self, chunk: _Chunk, estimate: Estimate) -> bool:
        """Put what a chunk came to where the job's rows are; whether rows failed."""
        chunk.encoded.forget()
        self._rejected |= chunk.encoded.rejected_workers
        if self._estimating:
            self._rejections.add(chunk.encoded, chunk.rows, estimate.exact)
        estimate, status, failures = self._judged(chunk, estimate)
        self._failures |= failures
        if (status == Status.EXACT).all():  # a task that only fills up a group may have no answer
            estimate = replace(estimate, values=_narrowed(estimate.values, chunk.dtypes))
        if failures and not self._settings.record and chunk.raised:
            self.error = self._first_failed(chunk)
        if self._whole:
            self._status[chunk.rows] = status
            self._alone = chunk, estimate
            return bool(failures)
        if self._pooled:
            estimate = self._pool_answers(chunk, estimate, status)
        if self._store is not None:
            self._write(self._store, chunk, estimate, status)
            return bool(failures)
        self._status[chunk.rows] = status
        known = status < Status.FAILED
        if known.any():
            rows = chunk.numbers[known]
            self._values.put(rows, len(rows), _narrowed(estimate.values[known], chunk.dtypes))
        if estimate.stderr is not None:
            if self._stderr is None or len(self._stderr) < len(self._status):
                before = () if self._stderr is None else self._stderr
                self._stderr = np.full(len(self._status), np.inf)
                self._stderr[: len(before)] = before
            self._stderr[chunk.rows] = estimate.stderr
        self._without_stderr |= estimate.stderr is None and not estimate.exact.all()
        return bool(failures)

    def _pool_answers(self, chunk: _Chunk, estimate: Estimate, status: np.ndarray) -> Estimate:
        """Keep what a chunk shows of others; its estimate, with those from all answers so far if they are made now."""
        exact = np.flatnonzero(status == Status.EXACT)
        if self._early:
            made = self._estimates(chunk, estimate, status)
            _mark(status, status == Status.MISSING, made)
            if self._store is None:
                self._found += [one._replace(rows=chunk.numbers[one.rows]) for one in made]
            else:
                values, stderr = estimate.values, _like(estimate.values, estimate.stderr)
                for found in made:
                    values, stderr = np.array(values), np.array(stderr)
                    values[found.rows], stderr[found.rows] = found.values, found.stderr
                estimate = replace(estimate, values=values, stderr=stderr)
            self._pool.add(self._rows_of(chunk)[exact], estimate.values[exact])
            lost = self._unknown(chunk, status)
        else:
            lost = self._unknown(chunk, status) | self._unanswered(chunk, estimate, status)
            if self._store is not None:
                status[lost] = Status.MISSING
        if self._inputs.growing is None:
            self._lost[chunk.rows] = lost
        self._pool.add(*chunk.encoded.mixtures(_NUMBERS))
        return estimate

    def _write(self, store: Any, chunk: _Chunk, estimate: Estimate, status: np.ndarray) -> None:
        exact, estimated = (status == one for one in (Status.EXACT, Status.ESTIMATED))
        if exact.all():
            store.put(chunk.rows, len(status), estimate.values, chunk.checksum)
        elif exact.any():
            rows = chunk.numbers[exact]
            inputs = store.checksum(self._inputs.batch(rows))
            store.put(rows, len(rows), _narrowed(estimate.values[exact], chunk.dtypes), inputs)
        if estimated.any():
            stderr = None if estimate.stderr is None else estimate.stderr[estimated]
            numbers, values = chunk.numbers[estimated], estimate.values[estimated]
            if not store.put_estimates(numbers, values, stderr):
                status[estimated] = Status.MISSING
        self._status[chunk.rows] = status  # not before they are written
        self._rows.done(chunk.rows)

    def _judged(
        self, chunk: _Chunk, estimate: Estimate
    ) -> tuple[Estimate, np.ndarray, dict[int, BaseException]]:
        """The estimate without rows that failed, the status of each row, and why rows failed."""
        status = _status(estimate)
        failed: dict[int, BaseException] = {}
        for place, (_, error) in chunk.raised.items():
            if place in chunk.encoded.unanswered or status[place] != Status.EXACT:
                failed[place] = error
        for place, error in chunk.batches.items():
            if status[place] == Status.MISSING:
                failed.setdefault(place, error)
        status[list(failed)] = Status.FAILED
        lost = status == Status.FAILED
        if lost.any():
            stderr = estimate.stderr
            if stderr is not None:
                stderr = np.where(lost, np.inf, stderr)
            values = blanked(estimate.values, lost)
            estimate = Estimate(values, estimate.exact & ~lost, stderr, estimate.rejected)
        reasons = {chunk.number_of(place): failed[place] for place in sorted(failed)}
        return estimate, status, reasons

    def known(self) -> _Known | None:
        """What is known while the job goes on."""
        if not self._whole:
            return self.done() if (self._status < Status.FAILED).any() else None
        chunk = self._chunks[0]
        estimate = None
        if chunk.encoded.decodable(frozenset(self._scheduler.chunks[0].answered)):
            estimate = chunk.encoded.tried()
        if estimate is None:
            return None
        chunk.encoded.forget()
        estimate, status, failures = self._judged(chunk, estimate)
        found = self._estimates(chunk, estimate, status)
        _mark(status, status == Status.MISSING, found)
        return _Known.of(estimate, status, failures, chunk.encoded.rejected_workers, found)

    def done(
        self, effort: Effort = "quick", time_left: Callable[[], float] = lambda: math.inf
    ) -> _Known:
        """What is known of the chunks that are finished; rows without an own answer are estimated from all others."""
        status, failures = self._status.copy(), dict(self._failures)
        unsupported = self._rejections.unsupported(len(status)) & (status == Status.EXACT)
        if self._alone is not None:
            chunk, estimate = self._alone
            if unsupported.any():
                estimate = self._without(chunk, estimate, unsupported)
                status[unsupported] = Status.ESTIMATED
            found = self._estimates(chunk, estimate, status, effort, time_left)
            if found or unsupported.any():
                _mark(status, unsupported | (status == Status.MISSING), found)
            return _Known.of(estimate, status, failures, self._rejected, found)
        missing = np.zeros(len(status), dtype=bool)
        if self._inputs.growing is None and self._scheduler.outcome is not None:
            missing = self._lost & (status == Status.MISSING)
        lost = missing | unsupported
        if unsupported.any() or (self._early and missing.any()):
            # Mixtures that these workers answered are in the pool as well, and exact rows where estimates are made early.
            status[unsupported], self._pool = Status.MISSING, _Pool(self._before)
        if not self._early:
            lost |= self._lost & (status == Status.ESTIMATED)
        if self._store is not None:
            self._store.withdraw(np.flatnonzero(unsupported))
            for part in self._of_all(lost, status, effort, time_left):
                self._store.put_estimates(part.rows, part.values, part.stderr)
            values, stderr = self._store.finish()
            return _Known(values, stderr, self._status.copy(), failures, self._rejected)
        values = self._values.values(status >= Status.FAILED)
        stderr = None if self._stderr is None or self._without_stderr else self._stderr.copy()
        if stderr is not None:
            stderr[unsupported] = np.inf
        estimate = Estimate(values, status == Status.EXACT, stderr, ())
        found = [*self._found, *self._of_all(lost, status, effort, time_left)]
        _mark(status, unsupported | missing, found)
        return _Known.of(estimate, status, failures, set(self._rejected), found)

    def _without(self, chunk: _Chunk, estimate: Estimate, unsupported: np.ndarray) -> Estimate:
        """The estimate of a chunk without rows that only rejected workers have answered."""
        chunk.encoded.excluded, chunk.found = self._rejections.workers, (None, [])
        stderr = None if estimate.stderr is None else np.where(unsupported, np.inf, estimate.stderr)
        values = blanked(estimate.values, unsupported)
        return Estimate(values, estimate.exact & ~unsupported, stderr, estimate.rejected)

    def _unanswered(self, chunk: _Chunk, estimate: Estimate, status: np.ndarray) -> np.ndarray:
        """Rows (m,) bool of a chunk that are estimated because they have no answer of their own."""
        if not self._pooled or estimate.values.dtype.kind != "f" or estimate.stderr is None:
            return np.zeros(len(status), dtype=bool)
        return np.asarray((status == Status.ESTIMATED) & ~chunk.encoded.answered())

    def _unknown(self, chunk: _Chunk, status: np.ndarray) -> np.ndarray:
        """Rows (m,) bool of a chunk of which nothing is known, and that answers of others may tell of."""
        unknown = (status == Status.MISSING) & self._estimating
        return np.asarray(unknown & ~chunk.encoded.answered() if unknown.any() else unknown)

    def _estimates(
        self,
        chunk: _Chunk,
        estimate: Estimate,
        status: np.ndarray,
        effort: Effort = "quick",
        time_left: Callable[[], float] = lambda: math.inf,
    ) -> list[Estimates]:
        """Estimates of rows of a chunk from its answers and those of finished ones; the same until there are more."""
        if not self._pooled:
            return []
        if chunk.found[0] != (chunk.taken, effort):
            found: list[Estimates] = []
            lost = self._unanswered(chunk, estimate, status)
            unknown = self._unknown(chunk, status) & (estimate.values.dtype.kind == "f")
            wanted = lost | unknown
            more = self._pool.joined(chunk.encoded.mixtures(_NUMBERS)) if wanted.any() else None
            answers = np.count_nonzero(status == Status.EXACT) + (
                0 if more is None else len(more[0])
            )
            if lost.any() and answers < _FEWEST:  # one answer says nothing of others
                values = estimate.values[lost]
                found = [Estimates(np.flatnonzero(lost), values, np.full_like(values, np.inf))]
            elif unknown.any() or (
                lost.any() and (effort != "thorough" or time_left() >= _SHORTEST)
            ):
                found = list(
                    estimate_missing(
                        InputRows(self._rows_of(chunk)),
                        np.flatnonzero(status == Status.EXACT),
                        np.flatnonzero(wanted),
                        lambda at: estimate.values[at],
                        time_left,
                        effort=effort,
                        more=more,
                    )
                )
            chunk.found = (chunk.taken, effort), found
        return chunk.found[1]

    def _of_all(
        self, lost: np.ndarray, status: np.ndarray, effort: Effort, time_left: Callable[[], float]
    ) -> Iterator[Estimates]:
        """Estimates of lost rows (m,) bool of all finished chunks, from those that are exact."""
        known = (status[lost] == Status.ESTIMATED).all()
        if known and (not lost.any() or (effort == "thorough" and time_left() < _SHORTEST)):
            return iter(())
        store = self._store
        values = self._values.values(np.zeros(len(status), dtype=bool))
        return estimate_missing(
            self._inputs,
            np.flatnonzero(status == Status.EXACT),
            np.flatnonzero(lost),
            (lambda at: values[at]) if store is None else store.read,
            time_left,
            effort=effort,
            sample=store is not None,
            more=self._pool.joined(),
        )

    def warn_of_losses(self, known: _Known) -> None:
        """Warn if rows that failed, or have answers that are not finite, have something in common."""
        inputs, values = self._inputs, known.values
        estimated = known.stderr is not None and (known.status == Status.ESTIMATED).any()
        kept = isinstance(values, np.ndarray) and not inputs.lazy  # in memory
        if estimated and inputs.numbers and kept:
            warn_of_losses(inputs, known.status, lambda at: values[at], lambda: 0.0)

    # Chunks -------------------------------------------------------------------------------------------

    def _rows_of(self, chunk: _Chunk) -> np.ndarray:
        """The inputs of a chunk."""
        return self._inputs.array(chunk.rows)

    def _chunk(self, number: int) -> _Chunk:
        chunk = self._chunks.get(number)
        if chunk is None:
            there = self._scheduler.chunks[number]
            chunk = self._chunks[number] = self._encode(there.begin, there.end)
        return chunk

    def _encode(self, begin: int, end: int) -> _Chunk:
        """Groups of rows: task k of group b is row k·B + b, as if all groups were one chunk, unless neighbours are together."""
        tasks, count = self._settings.code.tasks, self._rows.count
        if self._settings.together:
            at = self._rows.at(begin * tasks, min(end * tasks, count))
            given = self._inputs.array(at)
            numbers = range(at.start, at.stop) if isinstance(at, slice) else at
            checksum = ""
            if self._store is not None:
                parts = (given,) if self._inputs.lazy else self._inputs.batch(at)
                checksum = self._store.checksum(parts)
            return _Chunk(self._encoded(given, numbers), at, checksum)
        rows = (np.arange(tasks)[:, None] * self.groups + np.arange(begin, end)).ravel()
        rows = rows[rows < count]
        return _Chunk(self._encoded(self._inputs.array(rows)), rows)

    def _encoded(
        self, rows: np.ndarray, numbers: Sequence[int] | np.ndarray | None = None
    ) -> EncodedRows:
        return EncodedRows(self._settings.code, rows, numbers=numbers, estimates=not self._pooled)

    def read(self, decision: More) -> Future[Any]:
        wanted = (self.groups + decision.groups) * self._settings.code.tasks
        return self._rows.read(wanted - self._rows.count)

    def more(self, read: Any) -> tuple[int, bool]:
        """Take rows that were read; what is left over of a group waits for the next."""
        rows, tasks, before = self._rows, self._settings.code.tasks, self.groups
        rows.add(read)
        self._status = rows.status
        self._values.resize(len(self._status))
        self.groups = -(-rows.count // tasks) if rows.ended else rows.count // tasks
        return self.groups - before, rows.ended


class _Chunk:
    """Rows that are encoded and decoded together."""

    def __init__(self, encoded: EncodedRows, rows: np.ndarray | slice, checksum: str = "") -> None:
        self.encoded, self.rows, self.checksum = encoded, rows, checksum
        self.taken = 0
        self.dtypes: set[np.dtype[Any]] = set()
        """Of answers to own inputs."""
        self.looked: tuple[int, float | None] = (0, None)
        self.found: tuple[tuple[int, Effort] | None, list[Estimates]] = (None, [])
        """Estimates of its rows, from so many of its answers."""
        self.errors: dict[int, BaseException] = {}
        """By slot, without an answer since."""
        self.raised: dict[int, tuple[Call, BaseException]] = {}
        """Rows of the chunk for whose own input ``fn`` raised, and in which call."""
        self.batches: dict[int, BaseException] = {}
        """Rows of a batch of own inputs for which ``fn`` raised, one of which may be the cause."""

    @property
    def numbers(self) -> np.ndarray:
        """Of its rows among those of the job."""
        rows = self.rows
        return np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows

    def lost_calls(self) -> set[int]:
        """Rows of the chunk with whose own input a call has crashed, run too long, or given an answer unlike others."""
        ended = WorkerCrashed, CallTimeout
        lost = {slot for slot, error in self.errors.items() if isinstance(error, ended)}
        return set().union(*map(self.encoded.rows_of, lost | self.encoded.unlike))

    def number_at(self, slot: int, group: int) -> int:
        """The number of the row that a payload holds in a group; 0 for what only fills it up."""
        place = self.encoded.row(slot, group)
        return 0 if place is None else self.number_of(place)

    def number_of(self, place: int) -> int:
        """The number of one of its rows among those of the job."""
        rows = self.rows
        return rows.start + place if isinstance(rows, slice) else int(rows[place])


def _mark(status: np.ndarray, lost: np.ndarray, found: Sequence[Estimates]) -> None:
    """Lost rows are ESTIMATED where there is an estimate, MISSING elsewhere."""
    status[lost] = Status.MISSING
    for part in found:
        status[part.rows[lost[part.rows]]] = Status.ESTIMATED


def _like(values: Any, stderr: np.ndarray | None) -> np.ndarray | None:
    """Standard errors of rows as those of each of their outputs."""
    if stderr is None or not isinstance(values, np.ndarray) or stderr.ndim == values.ndim:
        return stderr
    return for_all_entries(stderr, values.shape[1:])


def _real(*pairs: tuple[np.ndarray, np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs of points (n, *x) and answers (n, *y) as rows of numbers; none that are not real, or empty."""
    return [
        (flat[0], flat[1])
        for pair in pairs
        if len(pair[0]) and all(part.dtype.kind in "biuf" for part in pair)
        for flat in [[np.asarray(part, np.float64).reshape(len(part), -1) for part in pair]]
    ]


def no_stderr(stop: StoppingRule, code: Code) -> InvalidArgument:
    """The error for a rule that asks for standard errors of a code that has none."""
    return InvalidArgument(
        f"the stop rule {stop} asks for standard errors, and {type(code).__name__} has none: use a "
        'code that has, such as Replication(..., fill="mean"), or stop by answers and time, as '
        "Quorum(20) | Deadline(2) does"
    )


def _unmet(outcome: Outcome, seen: Progress, stop: StoppingRule) -> bool:
    if outcome is Outcome.NONE_RUNNING:
        return stop.wake_after(seen) is None
    return outcome is Outcome.UNSATISFIABLE


def _with_placeholders(answer: np.ndarray, groups: int, raised: list[int]) -> np.ndarray:
    """An answer with placeholders in the rows that raised."""
    empty: Any = np.nan if answer.dtype.kind in "fc" else np.zeros((), answer.dtype)[()]
    whole = np.full((groups, *answer.shape[1:]), empty, answer.dtype)
    whole[np.delete(np.arange(groups), raised)] = answer
    return whole


def _narrowed(values: np.ndarray, dtypes: set[np.dtype[Any]]) -> np.ndarray:
    """Answers in their own type, where rows beside them that have none have made it a wider one."""
    if values.dtype in dtypes:
        return values
    try:
        made = cast_values(values, np.result_type(*dtypes)) if dtypes else None
    except TypeError:  # they have nothing in common
        made = None
    return values if made is None else made


def _status(estimate: Estimate) -> np.ndarray:
    """The status of each row; MISSING where nothing is known. Makes no array of wider numbers."""
    values = estimate.values.reshape(len(estimate.values), -1)
    status = np.full(len(values), Status.ESTIMATED, np.int8)
    if estimate.stderr is not None:
        status[~np.isfinite(estimate.stderr)] = Status.MISSING
    elif values.dtype.kind in "fc":
        status[np.isnan(values).any(axis=1)] = Status.MISSING
    status[estimate.exact] = Status.EXACT
    return status
