"""The scheduler over an engine: threads, futures and the clock."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError, Future
from queue import Empty, SimpleQueue
from typing import Any, Protocol

import numpy as np

from ..contracts.engine import Engine, Reply
from ..contracts.stopping import Outcome
from ..errors import Abandoned, KeptLost, NotStarted, WorkerCrashed
from ..results.calls import CallRecord
from .scheduler import (
    Abandon,
    Added,
    Answered,
    Call,
    CallFailed,
    Decision,
    Decode,
    Decoded,
    Event,
    FailRows,
    Joined,
    Loss,
    More,
    Scheduler,
    Start,
    Stop,
    Take,
    Tick,
    Withdraw,
)

__all__ = ["LiveJob", "Work"]

_LOG = logging.getLogger("codedmap")
_LONGEST_WAIT = 1.0  # seconds; some systems deliver Ctrl-C only between waits


class Work(Protocol):
    """What the calls of a job compute, and what their answers are taken for."""

    @property
    def error(self) -> BaseException | None:
        """Why the job cannot go on; raised by `LiveJob.run`."""
        ...

    def submit(self, engine: Engine, call: Call) -> Future[Any]:
        """Send a call to its worker."""
        ...

    def place(self, call: Call) -> tuple[range | np.ndarray, int, int]:
        """The rows, chunk and slot of a call, as `CallRecord` has them."""
        ...

    def answered(self, call: Call, reply: Reply) -> BaseException | tuple[int, ...]:
        """Groups of a call for which ``fn`` raised, counted from its first; or why it has no answer."""
        ...

    def lost(self, call: Call, error: BaseException, loss: Loss) -> Loss:
        """A call has no answer; the loss to report to the scheduler."""
        ...

    def take(self, call: Call) -> None:
        """The answer of this call counts."""
        ...

    def fail(self, decision: FailRows) -> None:
        """Rows are FAILED."""
        ...

    def decode(self, decision: Decode) -> Decoded:
        """Decode a chunk."""
        ...

    def more(self, decision: More) -> tuple[int, bool]:
        """Find more groups; how many there are, and whether they are the last."""
        ...


class LiveJob:
    """A job on an engine.

    Parameters
    ----------
    scheduler : Scheduler
    engine : Engine
    work : Work
    started : float
        When `map` was called, by `time.monotonic`.
    log : list, optional
        Gets every event, so that the job can be replayed.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        engine: Engine,
        work: Work,
        *,
        started: float | None = None,
        log: list[Event] | None = None,
    ) -> None:
        self.scheduler = scheduler
        self.calls: list[CallRecord] = []
        """That have ended."""
        self.worker_seconds = 0.0
        self.answers = 0
        """Calls whose answer was taken."""
        self._engine, self._work, self._log = engine, work, log
        self._began = time.monotonic() if started is None else started
        self._events: SimpleQueue[tuple[Call, Future[Any]]] = SimpleQueue()
        self._futures: dict[int, Future[Any]] = {}
        self._calls: dict[int, Call] = {}
        self._wake: float | None = None

    @property
    def seconds(self) -> float:
        """Since `map` was called."""
        return time.monotonic() - self._began

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """As `Scheduler.progress`."""
        return self.scheduler.progress

    @property
    def running(self) -> bool:
        """Whether calls are running whose answer is of use."""
        return any(call.wanted for call in self._calls.values())

    @property
    def busy(self) -> bool:
        """Whether something has happened that has not been dealt with."""
        return not self._events.empty()

    def wake_at(self, seconds: float) -> None:
        """Go on at this time of the job, if nothing happens before."""
        self._wake = seconds if self._wake is None else min(self._wake, seconds)

    def run(self, show: Callable[[LiveJob], None]) -> Generator[None, None, None]:
        """Run until the scheduler ends the job; yields when calls have been sent, and after each event.

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
            yield
            while self.scheduler.outcome is None:
                self._wait()
                show(self)
                yield
            if self._work.error is not None:
                raise self._work.error
        finally:
            for call in self._calls.values():
                self._note(call, max(0.0, self.seconds - call.started), "abandoned")
            left = [future for future in self._futures.values() if not future.done()]
            if left:
                self._engine.abandon(left)

    def _wait(self) -> None:
        wait = _LONGEST_WAIT
        for wake in (self.scheduler.wake, self._wake):
            wait = wait if wake is None else min(wait, wake - self.seconds)
        try:
            call, future = self._events.get(timeout=max(0.0, wait))
        except Empty:
            self._wake = None
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
        if self._work.error is not None and self.scheduler.outcome is None:
            self._handle(Stop(self.seconds, Outcome.UNSATISFIABLE))

    def _carry_out(self, decision: Decision) -> None:
        match decision:
            case Start(call):
                self._submit(call)
            case Take(call):
                self.answers += 1
                self._work.take(call)
            case Withdraw(call):
                self._futures[call.number].cancel()
            case Abandon(call):
                self._engine.abandon([self._futures[call.number]])
            case FailRows():
                self._work.fail(decision)
            case Decode():
                self._handle(self._work.decode(decision))
            case More():
                self._handle(Added(self.seconds, *self._work.more(decision)))

    # Calls --------------------------------------------------------------------------------------------

    def _submit(self, call: Call) -> None:
        future = self._work.submit(self._engine, call)
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
            reply: Reply = future.result()
            self.worker_seconds += reply.seconds
            for line in reply.output.splitlines():
                print(f"[worker {call.worker}] {line}")
            answer = self._work.answered(call, reply)
            if not isinstance(answer, BaseException):
                self._note(call, reply.seconds, "answered" if call.wanted else "late", reply.host)
                return Answered(now, call.number, reply.seconds, answer, self.busy)
            error = answer
        loss = self._work.lost(call, error, _loss(call, error))
        self._note(call, max(0.0, now - call.started), loss.name.lower().replace("_", " "))
        return CallFailed(now, call.number, loss, self.busy)

    def _note(self, call: Call, seconds: float, outcome: str, host: str = "") -> None:
        self.calls.append(
            CallRecord(
                *self._work.place(call),
                call.worker,
                host,
                call.started,
                seconds,
                outcome,
                call.kind.value,
            )
        )


def _loss(call: Call, error: BaseException) -> Loss:
    if isinstance(error, Abandoned | CancelledError | NotStarted | KeptLost):
        return Loss.NOT_STARTED if call.wanted else Loss.ABANDONED
    if isinstance(error, WorkerCrashed):
        return Loss.CRASHED if call.wanted else Loss.ABANDONED
    return Loss.RAISED
