"""The scheduler over an engine: futures and the clock, in the caller's thread or in an event loop."""

from __future__ import annotations

import asyncio
import logging
import math
import time
import weakref
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import closing, suppress
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

from ..contracts.engine import Engine, Member, Reply, members_of, what_is_said
from ..contracts.memory import free_memory
from ..contracts.stopping import Outcome
from ..engines.failure_domains import spread
from ..engines.transport.failure import frames_of_fn
from ..errors import (
    Abandoned,
    EngineError,
    KeptLost,
    NotEnoughAnswers,
    NotStarted,
    WorkerCrashed,
)
from ..results.calls import CallRecord
from ..results.progress_bar import show_line
from . import events
from .events import Call, Decision, Event, Loss
from .scheduler import Scheduler
from .task import OUTPUT, raised_by_fn

T = TypeVar("T")

_STDERR_SHARE = 0.05  # share of a job's time for computing standard errors while calls run
_LOG = logging.getLogger("codedmap")
_LONGEST_WAIT = 1.0  # seconds; some systems deliver Ctrl-C only between waits
_POLL = 0.05  # seconds between checks whether a call still waits behind other jobs
_STOPPED = 0.5  # seconds of delay that show that this program was stopped, as by Ctrl-Z
_PATIENCE = 30.0  # seconds for which a worker is waited for when all have left
_MEMORY_SHARE = 0.25  # share of memory for a call: a worker has up to two, and fn needs some


class LiveJob:
    """A job on an engine; a subclass says what its calls compute, and what is done with their answers.

    ``started`` is when `map` was called, by `time.monotonic`; ``show`` is called with the job after each event.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        engine: Engine,
        *,
        started: float | None = None,
        show: Callable[[LiveJob], None] = lambda job: None,
    ) -> None:
        self.scheduler = scheduler
        self.calls: list[CallRecord] = []
        """Calls that have ended."""
        self.worker_seconds = 0.0
        self.other_hedges = 0
        """Hedges of jobs before or after this one that share its result."""
        self.answers = 0
        """Calls whose answer counts."""
        self.crashed = 0
        """Calls that ended their worker."""
        self.ended = False
        self.error: BaseException | None = None
        """Why the job cannot go on; raised at its end."""
        self.beside: list[Future[Any]] = []
        """Calls that the scheduler does not know of, abandoned at the end like the job's own."""
        self.engine, self._show = engine, show
        self._load: Callable[[Any], int] = getattr(engine, "load", _unloaded)
        self.started = time.monotonic() if started is None else started
        self._events: SimpleQueue[tuple[Call | events.More, Future[Any]] | None] = SimpleQueue()
        """Calls that have ended, and groups that were found; None: workers have joined or left."""
        self._over: set[Call | events.More] = set()
        """Those of which an event is still to be handled. `Future.done` takes a lock, which Ctrl-C might leave held."""
        self._timed_out: set[Call] = set()
        self._notify: Callable[[], None] = lambda: None  # called after each event is put
        self._members: dict[int, Member] = {}
        self._futures: dict[int, Future[Any]] = {}  # those of calls in flight, by number
        self._calls: dict[int, Call] = {}  # calls in flight, by number
        self._wake: float | None = None  # when the driver itself is to go on
        self._due_at = math.inf  # when to go on, if nothing happens before
        self._tick_at = 0.0  # when the queue of events was last found empty
        self._behind_at: float | None = None  # when calls were last seen behind other jobs
        self._stderr_budget = Budget(self, _STDERR_SHARE)
        self._stderr_seen: dict[int, tuple[int, float | None]] = {}
        """For each chunk its number of answers when standard errors were last computed, and the largest of them."""

    # What a subclass says ---------------------------------------------------------------------------------

    def submit(self, call: Call) -> Future[Any]:
        """Send a call to its worker."""
        raise NotImplementedError

    def place(self, call: Call) -> tuple[range | np.ndarray, int, int]:
        """The rows, chunk and slot of a call, as in `CallRecord`; a coded payload has no rows."""
        return range(0), call.chunk, call.slot

    def answered(self, call: Call, reply: Reply) -> BaseException | tuple[int, ...]:
        """Groups of a call for which ``fn`` raised, counted from its first; or why it has no answer."""
        raise NotImplementedError

    def lost(self, call: Call, error: BaseException, loss: Loss) -> Loss:
        """Keep why a call has no answer; returns the loss to report to the scheduler."""
        raise NotImplementedError

    def take(self, decision: events.Take) -> None:
        """The answer of a call counts."""

    def fail(self, decision: events.FailRows) -> None:
        """Rows are FAILED."""
        raise NotImplementedError

    def decode(self, decision: events.Decode) -> events.Decoded:
        """Decode a chunk."""
        raise NotImplementedError

    def read(self, decision: events.More) -> Future[Any]:
        """Begin to find more groups."""
        raise NotImplementedError

    def more(self, read: Any) -> tuple[int, bool]:
        """Add the groups that `read` has found; returns how many they are, and whether they are the last."""
        raise NotImplementedError

    def workers_changed(self) -> None:
        """Called when workers have joined or left, before the events that say so."""

    def happened(self) -> None:
        """Called after each event."""
        self._show(self)

    # What is known ----------------------------------------------------------------------------------------

    @property
    def seconds(self) -> float:
        """Seconds since `map` was called."""
        return time.monotonic() - self.started

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """As `Scheduler.progress`."""
        return self.scheduler.progress

    @property
    def hedges(self) -> int:
        """Calls that were late and made a second time."""
        return self.other_hedges + self.scheduler.hedges

    @property
    def running(self) -> bool:
        """Whether calls are running whose answer is of use."""
        return any(call.wanted for call in self._calls.values())

    @property
    def waiting(self) -> list[tuple[Call, float]]:
        """Calls that have begun and not ended, and for how many seconds each has run."""
        now = self.seconds
        begun = [call for call in self._calls.values() if call.started <= now]
        return [(call, now - call.started) for call in begun]

    @property
    def longest(self) -> tuple[str, float]:
        """The name of the row, or if there are several the worker, of the call that has run longest, and its seconds."""
        if not self.waiting:
            return "", 0.0
        call, seconds = max(self.waiting, key=lambda pair: pair[1])
        rows = self.place(call)[0]
        return f"row {rows[0]}" if len(rows) == 1 else f"worker {call.worker}", seconds

    @property
    def busy(self) -> bool:
        """Whether events wait to be handled."""
        return not self._events.empty()

    def wake_at(self, seconds: float) -> None:
        """Go on at this time of the job, if nothing happens before."""
        self._wake = seconds if self._wake is None else min(self._wake, seconds)

    def largest_stderr(
        self, chunk: int, answers: int, last: bool, look: Callable[[], float | None]
    ) -> float | None:
        """The largest standard error of a chunk, which ``look`` computes if the chunk has other ``answers`` than before.

        None if there is none yet, or if it would take more than a small share of the job's time and is not the ``last``.
        """
        before, worst = self._stderr_seen.get(chunk, (0, None))
        if before != answers:
            if not (last or self._stderr_budget.allows()):
                return None
            with self._stderr_budget:
                worst = look()
            self._stderr_seen[chunk] = answers, worst
        return worst

    # How it runs ------------------------------------------------------------------------------------------

    def steps(self, *, wait: bool = True) -> Generator[None, None, None]:
        """Run until the scheduler ends the job; yields when calls have been sent, and after each event.

        ``wait``: whether to wait for events.
        """
        try:
            getattr(self.engine, "watch", _unwatched)(self._members_changed)
            self._update_members()
            if not self._members:
                self._handle(events.Tick(self.seconds))
            yield
            while self.scheduler.outcome is None:
                self._step(self._longest_wait() if wait else 0.0)
                self.happened()
                yield
            if self.error is not None:
                raise self._taken_error()
        finally:
            self._end()

    async def asteps(self) -> AsyncGenerator[None, None]:
        """As `steps`, while the event loop goes on."""
        loop, woken = asyncio.get_running_loop(), asyncio.Event()

        def notify() -> None:
            with suppress(RuntimeError):  # the loop has been closed, and the job with it
                loop.call_soon_threadsafe(woken.set)

        self._notify = notify
        with closing(self.steps(wait=False)) as steps:
            for _ in steps:
                yield
                if self.scheduler.outcome is None:
                    wait = self._longest_wait() * (not self.busy)
                    with suppress(TimeoutError):
                        async with asyncio.timeout(wait):
                            await (woken.wait() if wait else asyncio.sleep(0))
                    woken.clear()

    def _taken_error(self) -> Any:
        """The error, without a reference to it from the job: its traceback refers to the job."""
        error, self.error = self.error, None
        return error

    def _end(self) -> None:
        self.ended = True
        getattr(self.engine, "unwatch", _unwatched)(self._members_changed)
        for call in self._calls.values():
            self._note(call, max(0.0, self.seconds - call.started), "abandoned")
        left = [f for f in (*self._futures.values(), *self.beside) if not f.done()]
        if left:
            self.engine.abandon(left)

    def _members_changed(self) -> None:
        self._events.put(None)
        self._notify()

    def _update_members(self) -> None:
        members = dict(members_of(self.engine))
        before, self._members = self._members, members
        if before.keys() != members.keys():
            self.workers_changed()
        for worker in sorted(before.keys() - members.keys()):
            self._handle(events.Left(self.seconds, worker))
        joined = {worker: member for worker, member in members.items() if worker not in before}
        names = in_order(joined)
        if not getattr(self.scheduler.job, "bound", False):
            # Workers with few calls of other jobs come first: otherwise many small jobs would all begin with the same.
            names.sort(key=self._load)
        for place, worker in enumerate(names, start=1):
            domain = joined[worker].domain
            self._handle(events.Joined(self.seconds, worker, domain, more=place < len(joined)))

    def _longest_wait(self) -> float:
        """Seconds until something is due, if nothing happens before."""
        wait = _LONGEST_WAIT
        for wake in (self.scheduler.wake, self._wake):
            wait = wait if wake is None else min(wait, float(wake - self.seconds))
        self._due_at = self.seconds + max(0.0, wait)
        return max(0.0, wait)

    def _step(self, wait: float) -> None:
        """Handle the next event, or a tick if there is none."""
        happened = []
        # What is due is not held up by events that never cease.
        if self.seconds < max(self._due_at, self._tick_at + _POLL):
            try:  # noqa: SIM105  a call, such as of `suppress`, is where Ctrl-C would be raised while Empty is handled
                happened = [self._events.get(timeout=wait)]
            except Empty:
                pass
        now = self.seconds
        self._tick_at = self._tick_at if happened else now
        late = now - self._due_at
        stopped = late + _LONGEST_WAIT if late > _STOPPED else 0.0
        if stopped or not happened:
            self._tick(now, stopped)
        if not happened:
            return
        if self._behind_at is not None:
            self.wake_at(self._behind_at + _POLL)
        if happened[0] is None:
            self._update_members()
            # An event before this one may have said that more follow, and no member may have changed.
            self._handle(events.Tick(self.seconds))
            return
        what, future = happened[0]
        self._over.discard(what)
        if isinstance(what, events.More):
            self._handle(events.Added(self.seconds, *self.more(future.result())))
        else:
            self._handle(self._event(what, future))

    def _tick(self, now: float, stopped: float) -> None:
        """Report the time to the scheduler, and which calls have not begun; ``stopped`` as in `Tick`."""
        self._wake = None
        began, futures = tuple(self._late_beginnings(now)), self._futures.items()
        waiting = frozenset(
            number
            for number, future in futures
            if what_is_said(future).waits or self._calls[number] in self._over
        )
        unbegun = [self._calls[number] for number, when in began if when == now]
        loads = {call.number: self._load(call.worker) for call in unbegun}
        waited = [now - call.sent for call in unbegun if loads[call.number] > 1]  # behind others
        self._behind_at = now if waited else None
        if waited:
            self.wake_at(now + max(_POLL, min(waited)))
        free = frozenset(n for n in self._members if not self._load(n)) if waited else frozenset()
        opening = frozenset(n for n, load in loads.items() if load == 1) - waiting
        self._handle(events.Tick(now, began, stopped, waiting, free, opening))

    def _late_beginnings(self, now: float) -> Iterator[tuple[int, float]]:
        """See `Tick.began`."""
        for number, call in self._calls.items():
            when = self._begun(self._futures[number], now)
            if when is not None and when > call.started:
                yield number, when

    def _begun(self, future: Future[Any], now: float) -> float | None:
        """When a call began, in seconds of the job, or now if it has not; None if that is not known."""
        begun = what_is_said(future).begun
        if begun is None:
            return None
        return begun[-1] - self.started if begun else now

    def _handle(self, event: Event) -> None:
        decisions = self.scheduler.handle(event)
        debug = _LOG.isEnabledFor(logging.DEBUG)
        for decision in decisions:
            if debug:
                _LOG.debug("%.3f s: %s", event.now, decision)
            self._carry_out(decision)
        if self.error is not None and self.scheduler.outcome is None:
            self._handle(events.Stop(self.seconds, Outcome.UNSATISFIABLE))

    def _carry_out(self, decision: Decision) -> None:
        match decision:
            case events.Start(call):
                if not call.ahead and self._load is not _unloaded:
                    self.wake_at(self.seconds + _POLL)  # it may be behind other jobs
                future = self.submit(call)
                self._calls[call.number], self._futures[call.number] = call, future
                self._await(call, future)
            case events.Take():
                self.answers += 1
                self.take(decision)
            case events.Withdraw(call):
                self._futures[call.number].cancel()
            case events.Abandon(call, at_once):
                abandon = self.engine.abandon
                if at_once:
                    self._timed_out.add(call)
                    abandon = getattr(self.engine, "end", abandon)
                abandon([self._futures[call.number]])
            case events.FailRows():
                self.fail(decision)
            case events.Decode():
                self._handle(self.decode(decision))
            case events.More():
                self._await(decision, self.read(decision))

    # Calls --------------------------------------------------------------------------------------------

    def _await(self, what: Call | events.More, future: Future[Any]) -> None:
        # A future keeps its callbacks: answers that are not taken must not wait for the garbage collector.
        found, over, notify = weakref.ref(self._events), self._over, self._notify

        def ended(future: Future[Any]) -> None:
            over.add(what)
            queue = found()
            if queue is not None:
                queue.put((what, future))
            notify()

        future.add_done_callback(ended)

    def _event(self, call: Call, future: Future[Any]) -> Event:
        """The event for the end of a call; notes the call in the table of calls."""
        del self._futures[call.number], self._calls[call.number]
        now = self.seconds
        error = CancelledError() if future.cancelled() else future.exception()
        if error is None:
            reply = future.result()
            if not isinstance(reply, Reply):
                raise EngineError(
                    f"a future of the engine or executor answered with an object of type {type(reply).__name__}, and not with "
                    "what fn(payload) returned: correct submit, which must change neither fn nor its answer"
                )
            self.worker_seconds += reply.seconds
            if reply.done is not None:
                call.end = call.begin + reply.done
            _show_output(call, reply.output)
            answer = self.answered(call, reply)
            if not isinstance(answer, BaseException):
                began = self._begun(future, now)
                call.started = max(call.started, began or 0.0)
                self._note(call, reply.seconds, "answered" if call.wanted else "late", reply.host)
                nbytes = what_is_said(future).nbytes
                return events.Answered(
                    now, call.number, reply.seconds, answer, self.busy, began, nbytes, reply.done
                )
            error = answer
        error.__traceback__ = frames_of_fn(error)
        _show_output(call, vars(error).pop(OUTPUT, ""))
        loss = self.lost(call, error, _loss(call, error))
        self.crashed += loss is Loss.CRASHED
        self._note(call, max(0.0, now - call.started), loss.name.lower().replace("_", " "))
        return events.CallFailed(now, call.number, loss, self.busy)

    def _note(self, call: Call, seconds: float, outcome: str, host: str = "") -> None:
        if outcome == "abandoned" and call in self._timed_out:
            outcome = "timed out"
        self.calls.append(
            CallRecord(
                *self.place(call),
                call.worker,
                host,
                call.started,
                seconds,
                outcome,
                call.kind.value,
            )
        )


class Brief:
    """Leaves its block, and what that has called, out of the traceback of a failure: users see what ``fn`` raised."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        if isinstance(error, NotEnoughAnswers):
            error.__traceback__ = None


class Budget:
    """Keeps work that is not urgent, done in its ``with`` block, within a share of the time of a job."""

    def __init__(self, job: LiveJob, share: float) -> None:
        # The job refers to this, and its answers must not wait for the garbage collector.
        self._job = weakref.proxy(job)
        self._share = share
        self._spent = 0.0
        self._began = 0.0

    def allows(self) -> bool:
        """Whether to do it now, as always when no call is running. If not, the job wakes up when there is time."""
        again = self._spent / self._share
        if not self._job.running or self._job.seconds >= again:
            return True
        self._job.wake_at(again)
        return False

    def __enter__(self) -> None:
        self._began = self._job.seconds

    def __exit__(self, *raised: object) -> None:
        self._spent += self._job.seconds - self._began


def weakly(method: Callable[..., T]) -> Callable[..., T]:
    """A method without a reference to its job, for the job's scheduler: answers must not wait for the garbage collector."""
    held: Any = weakref.WeakMethod(method)

    def ask(*arguments: Any) -> T:
        found: T = held()(*arguments)
        return found

    return ask


def _unwatched(callback: Callable[[], None]) -> None:
    """The ``watch`` of an engine whose workers neither join nor leave."""


def _unloaded(worker: int) -> int:
    """The ``load`` of an engine that does not say how many calls a worker has."""
    return 0


def _show_output(call: Call, text: str) -> None:
    for line in text.splitlines():
        show_line(f"[worker {call.worker}] {line}")


def _loss(call: Call, error: BaseException) -> Loss:
    if raised_by_fn(error):
        return Loss.RAISED
    if isinstance(error, Abandoned | CancelledError | NotStarted | KeptLost):
        return Loss.NOT_STARTED if call.wanted else Loss.ABANDONED
    if isinstance(error, WorkerCrashed):
        return Loss.CRASHED if call.wanted else Loss.ABANDONED
    return Loss.RAISED


def in_order(members: Mapping[int, Member]) -> list[int]:
    """Workers in an order in which neighbours are in different failure domains, where there are any."""
    if all(m.domain is None for m in members.values()):
        return sorted(members)
    names = sorted(members)
    return [names[k] for k in spread([members[name].domain for name in names])]


def call_memory(engine: Engine) -> float:
    """Bytes that payload and answer of a call may take: a share of what is free here, and of what a worker may use."""
    free, limit = free_memory(), getattr(engine, "memory_limit", None)
    each = math.inf if free is None else free / max(1, engine.workers)
    return _MEMORY_SHARE * min(each, limit or math.inf)


def patience_of(engine: Engine) -> float:
    """Seconds for which a job waits for a worker when all have left: none if no other can join."""
    return _PATIENCE if hasattr(engine, "members") else 0.0
