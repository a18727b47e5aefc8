"""The scheduler over an engine: threads, futures and the clock."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Hashable
from concurrent.futures import BrokenExecutor, CancelledError, Future
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from ..contracts.engine import Engine, Kept, Reply
from ..contracts.stopping import Outcome
from ..errors import (
    Abandoned,
    CallTimeout,
    EngineError,
    InvalidAnswer,
    KeptLost,
    NotStarted,
    RowFailed,
    WorkerCrashed,
)
from ..results.calls import CallRecord
from ..results.status import Status
from ..results.trees import Rows
from .inputs import InputRows
from .scheduler import (
    Abandon,
    Answered,
    Call,
    CallFailed,
    Decision,
    Event,
    FailRows,
    Joined,
    Loss,
    Scheduler,
    Start,
    Stop,
    Take,
    Tick,
    Withdraw,
)
from .task import Batch, Itemwise, RowsTask

__all__ = ["LiveJob"]

_LOG = logging.getLogger("codedmap")
_LONGEST_WAIT = 1.0  # seconds; some systems deliver Ctrl-C only between waits


class LiveJob:
    """A job on an engine.

    Parameters
    ----------
    scheduler : Scheduler
    engine : Engine
    task : RowsTask
    inputs : InputRows
    order : ndarray, optional
        (m,) int: the order in which rows are started; None: as given.
    record : bool
        If True, go on after a row has failed; if False, raise.
    started : float
        When `map` was called, by `time.monotonic`.
    log : list, optional
        Gets every event, so that the job can be replayed.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        engine: Engine,
        task: RowsTask,
        inputs: InputRows,
        *,
        order: np.ndarray | None = None,
        record: bool = False,
        started: float | None = None,
        log: list[Event] | None = None,
    ) -> None:
        self.scheduler = scheduler
        self.rows = Rows(inputs.rows)
        self.status = np.full(inputs.rows, Status.MISSING, dtype=np.int8)
        self.failures: dict[int, BaseException] = {}
        self.calls: list[CallRecord] = []
        self.worker_seconds = 0.0
        self._engine, self._task, self._inputs = engine, task, inputs
        self._order, self._record, self._log = order, record, log
        self._began = time.monotonic() if started is None else started
        self._events: SimpleQueue[tuple[Call, Future[Any]]] = SimpleQueue()
        self._futures: dict[int, Future[Any]] = {}
        self._calls: dict[int, Call] = {}
        self._replies: dict[int, Reply] = {}
        self._errors: dict[int, BaseException] = {}
        self._kept: dict[Hashable, Kept] = {}
        self._failing: RowFailed | None = None

    @property
    def seconds(self) -> float:
        """Since `map` was called."""
        return time.monotonic() - self._began

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Rows answered, failed and running, and hedges in flight."""
        return self.scheduler.progress

    def run(self, show: Callable[[LiveJob], None]) -> Generator[None, None, None]:
        """Run until the scheduler ends the job; yields after each event.

        Raises
        ------
        RowFailed
            If a row failed and failures are not recorded.
        CannotSend, EngineError, InvalidAnswer
        """
        try:
            workers = self._engine.workers
            for worker in range(workers):
                self._handle(Joined(self.seconds, worker, more=worker < workers - 1))
            while self.scheduler.outcome is None:
                self._wait()
                show(self)
                yield
            if self._failing is not None:
                raise self._failing
        finally:
            for call in self._calls.values():
                self._note(call, max(0.0, self.seconds - call.started), "abandoned")
            left = [future for future in self._futures.values() if not future.done()]
            if left:
                self._engine.abandon(left)

    def _wait(self) -> None:
        wake = self.scheduler.wake
        wait = _LONGEST_WAIT if wake is None else min(_LONGEST_WAIT, wake - self.seconds)
        try:
            call, future = self._events.get(timeout=max(0.0, wait))
        except Empty:
            self._handle(Tick(self.seconds))
        else:
            self._handle(self._event(call, future))

    def _handle(self, event: Event) -> None:
        if self._log is not None:
            self._log.append(event)
        decisions = self.scheduler.handle(event)
        debug = _LOG.isEnabledFor(logging.DEBUG)
        for decision in decisions:
            if debug:
                _LOG.debug("%.3f s: %s", event.now, decision)
            self._carry_out(decision)
        if self._failing is not None and self.scheduler.outcome is None:
            self._handle(Stop(self.seconds, Outcome.UNSATISFIABLE))

    def _carry_out(self, decision: Decision) -> None:
        match decision:
            case Start(call):
                self._submit(call)
            case Take(call):
                self._take(call)
            case Withdraw(call):
                self._futures[call.number].cancel()
            case Abandon(call):
                self._engine.abandon([self._futures[call.number]])
            case FailRows():
                self._fail(decision)

    # Calls --------------------------------------------------------------------------------------------

    def _at(self, begin: int, end: int) -> slice | np.ndarray:
        return slice(begin, end) if self._order is None else self._order[begin:end]

    def _numbers(self, begin: int, end: int) -> range | np.ndarray:
        return range(begin, end) if self._order is None else self._order[begin:end]

    def _submit(self, call: Call) -> None:
        at = self._at(call.begin, call.end)
        numbers = self._numbers(call.begin, call.end)
        batch = Batch(self._inputs.batch(at), call.groups, numbers)
        worker: Any = call.worker
        kept = self._kept.get(worker)
        if kept is None or kept.lost:
            kept = self._kept[worker] = self._engine.keep(worker, self._task)
        future = self._engine.submit(worker, kept, batch)
        self._futures[call.number] = future
        self._calls[call.number] = call
        events = self._events
        future.add_done_callback(lambda done: events.put((call, done)))

    def _event(self, call: Call, future: Future[Any]) -> Event:
        """What the end of a call means, noted in the table of calls."""
        del self._futures[call.number], self._calls[call.number]
        now = self.seconds
        error = CancelledError() if future.cancelled() else future.exception()
        if error is None:
            reply = future.result()
            self.worker_seconds += reply.seconds
            self._show_output(call, reply)
            if call.wanted:
                self._replies[call.number] = reply
            self._note(call, reply.seconds, "answered" if call.wanted else "late", reply.host)
            return Answered(now, call.number, reply.seconds, tuple(sorted(reply.raised)))
        loss = self._loss(call, error)
        self._errors[call.number] = error
        self._note(call, max(0.0, now - call.started), loss.name.lower().replace("_", " "))
        return CallFailed(now, call.number, loss)

    def _loss(self, call: Call, error: BaseException) -> Loss:
        if isinstance(error, Abandoned | CancelledError | NotStarted | KeptLost):
            return Loss.NOT_STARTED if call.wanted else Loss.ABANDONED
        if isinstance(error, WorkerCrashed):
            return Loss.CRASHED if call.wanted else Loss.ABANDONED
        if isinstance(error, BrokenExecutor):
            raise EngineError(
                f"the executor broke during call {call.number} ({error}): a crash in a "
                "ProcessPoolExecutor ends all its calls; use codedmap.engines.Local, where it costs one"
            ) from error
        if isinstance(error, InvalidAnswer | EngineError):
            raise error
        return Loss.RAISED

    def _note(self, call: Call, seconds: float, outcome: str, host: str = "") -> None:
        self.calls.append(
            CallRecord(
                self._numbers(call.begin, call.end),
                call.number,
                0,
                call.worker,
                host,
                call.started,
                seconds,
                outcome,
                call.kind.value,
            )
        )

    def _show_output(self, call: Call, reply: Reply) -> None:
        for line in reply.output.splitlines():
            print(f"[worker {call.worker}] {line}")

    # Rows ---------------------------------------------------------------------------------------------

    def _take(self, call: Call) -> None:
        reply = self._replies[call.number]
        good = call.groups - len(reply.raised)
        if not good:
            return
        at: Any = self._at(call.begin, call.end)
        if reply.raised:
            places = np.delete(np.arange(call.groups), list(reply.raised))
            at = call.begin + places if isinstance(at, slice) else at[places]
        self.rows.put(at, good, reply.values)
        self.status[at] = Status.EXACT
        if not reply.raised:
            del self._replies[call.number]

    def _fail(self, decision: FailRows) -> None:
        call = decision.call
        for place in range(decision.begin, decision.end):
            row = place if self._order is None else int(self._order[place])
            error = self._reason(decision, place, row)
            self.failures[row] = error
            self.status[row] = Status.FAILED
            if not self._record and self._failing is None:
                self._failing = _named(
                    row, call, error, itemwise=isinstance(self._task.fn, Itemwise)
                )

    def _reason(self, decision: FailRows, place: int, row: int) -> BaseException:
        call, loss = decision.call, decision.loss
        if loss is Loss.RAISED:
            reply = self._replies.get(call.number)
            if reply is not None:
                error: BaseException = reply.raised[place - call.begin].to_exception()
                return error
            return self._errors[call.number]
        if loss is Loss.TIMED_OUT:
            limit = self.scheduler.job.call_timeout
            return CallTimeout(
                f"row {row} was still running after call_timeout={limit:g} s on worker {call.worker}: "
                "allow more time, or see what keeps it"
            )
        crashed = decision.crashes or 1
        last = self._errors[call.number]
        error = WorkerCrashed(
            f"row {row} ended its worker {crashed} time{'s' * (crashed > 1)}, the last with: {last}"
        )
        error.__cause__ = last
        return error


def _named(row: int, call: Call, error: BaseException, *, itemwise: bool) -> RowFailed:
    step = "Correct fn or this input"
    if not itemwise:
        step += ", lift a function of one input with codedmap.itemwise(fn)"
    if isinstance(error, ValueError) and "read-only" in str(error):
        step = "fn writes into its input: let it work on a copy (batch = batch.copy())"
    failed = RowFailed(
        f"row {row} failed on worker {call.worker} with {type(error).__name__}: {error}. {step}, or go on "
        'without such rows with on_error="record"',
        row=row,
    )
    failed.__cause__ = error
    return failed
