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
from typing import Any, TypeVar

import numpy as np

from ..contracts.engine import Engine, Member, Reply, members_of
from ..contracts.memory import free_memory
from ..contracts.stopping import Outcome
from ..engines.failure_domains import spread
from ..errors import Abandoned, EngineError, KeptLost, NotStarted, WorkerCrashed
from ..results.calls import CallRecord
from ..results.progress_bar import show_line
from . import events
from .events import Call, Decision, Event, Loss
from .scheduler import Scheduler
from .task import raised_by_fn

T = TypeVar("T")

_LOOKING = 0.05  # of the time, for standard errors while calls run
_LOG = logging.getLogger("codedmap")
_LONGEST_WAIT = 1.0  # seconds; some systems deliver Ctrl-C only between waits
_FREED = 0.05  # seconds until calls behind those of others are looked at, and later as long again, or after an answer
_STOPPED = 0.5  # seconds too late to go on that show that this program was stopped, as by Ctrl-Z
_PATIENCE = 30.0  # seconds for which a worker is waited for when all have left
_SHARE = 0.25  # of memory; there are up to two calls for each worker, and fn needs some


class LiveJob:
    """A job on an engine; a subclass says what its calls compute, and what their answers are taken for.

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
        """That have ended."""
        self.worker_seconds = 0.0
        self.other_hedges = 0
        """Of jobs before or after this one, of which it makes the result."""
        self.answers = 0
        """Calls whose answer was taken."""
        self.crashed = 0
        """Calls that ended their worker."""
        self.ended = False
        self.error: BaseException | None = None
        """Why the job cannot go on; raised at its end."""
        self.beside: list[Future[Any]] = []
        """Further calls, given up at the end as the job's own."""
        self.engine, self._show = engine, show
        self._load: Callable[[Any], int] = getattr(engine, "load", _unloaded)
        self.started = time.monotonic() if started is None else started
        self._events: SimpleQueue[tuple[Call | events.More, Future[Any]] | None] = SimpleQueue()
        """Calls that have ended, and groups that were found; None: workers have joined or left."""
        self._notify: Callable[[], None] = lambda: None
        self._members: dict[int, Member] = {}
        self._futures: dict[int, Future[Any]] = {}
        self._calls: dict[int, Call] = {}
        self._wake: float | None = None
        self._due = math.inf  # when to go on, if nothing happens before
        self._ticked = 0.0  # when nothing had happened last
        self._behind: float | None = None  # when calls were last seen behind those of others
        self._looking = Budget(self, _LOOKING)
        self._looked: dict[int, tuple[int, float | None]] = {}
        """Of each chunk the answers that it had when its standard errors were last looked at, and the largest."""

    # What a subclass says ---------------------------------------------------------------------------------

    def submit(self, call: Call) -> Future[Any]:
        """Send a call to its worker."""
        raise NotImplementedError

    def place(self, call: Call) -> tuple[range | np.ndarray, int, int]:
        """The rows, chunk and slot of a call, as `CallRecord` has them; of a payload no row."""
        return range(0), call.chunk, call.slot

    def answered(self, call: Call, reply: Reply) -> BaseException | tuple[int, ...]:
        """Groups of a call for which ``fn`` raised, counted from its first; or why it has no answer."""
        raise NotImplementedError

    def lost(self, call: Call, error: BaseException, loss: Loss) -> Loss:
        """A call has no answer; the loss to report to the scheduler."""
        raise NotImplementedError

    def take(self, call: Call) -> None:
        """The answer of this call counts."""

    def fail(self, decision: events.FailRows) -> None:
        """Rows are FAILED."""
        raise NotImplementedError

    def decode(self, decision: events.Decode) -> events.Decoded:
        """Decode a chunk."""
        raise NotImplementedError

    def read(self, decision: events.More) -> Future[Any]:
        """Have more groups found."""
        raise NotImplementedError

    def more(self, read: Any) -> tuple[int, bool]:
        """Take what `read` has come to: how many groups more there are, and whether they are the last."""
        raise NotImplementedError

    def moved(self) -> None:
        """Workers have joined or left; the scheduler hears of it next."""

    def happened(self) -> None:
        """An event has been dealt with."""
        self._show(self)

    # What is known ----------------------------------------------------------------------------------------

    @property
    def seconds(self) -> float:
        """Since `map` was called."""
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
        """Calls that have begun and not ended, and for how long they have run."""
        now = self.seconds
        begun = [call for call in self._calls.values() if call.started <= now]
        return [(call, now - call.started) for call in begun]

    @property
    def longest(self) -> tuple[str, float]:
        """The call that has run longest, by its row if it is alone, or its worker, and for how long."""
        if not self.waiting:
            return "", 0.0
        call, seconds = max(self.waiting, key=lambda one: one[1])
        rows = self.place(call)[0]
        return f"row {rows[0]}" if len(rows) == 1 else f"worker {call.worker}", seconds

    @property
    def busy(self) -> bool:
        """Whether something has happened that has not been dealt with."""
        return not self._events.empty()

    def wake_at(self, seconds: float) -> None:
        """Go on at this time of the job, if nothing happens before."""
        self._wake = seconds if self._wake is None else min(self._wake, seconds)

    def looked_at(
        self, chunk: int, answers: int, last: bool, look: Callable[[], float | None]
    ) -> float | None:
        """The largest standard error of a chunk, looked at if it has other ``answers`` than before, for a small share of the time.

        None if there is none yet, or no time to look.
        """
        before, worst = self._looked.get(chunk, (0, None))
        if before != answers:
            if not (last or self._looking.allows()):
                return None
            with self._looking:
                worst = look()
            self._looked[chunk] = answers, worst
        return worst

    # How it runs ------------------------------------------------------------------------------------------

    def steps(self, *, wait: bool = True) -> Generator[None, None, None]:
        """Run until the scheduler ends the job; yields when calls have been sent, and after each event.

        ``wait``: whether to wait for events.
        """
        try:
            self._begin()
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
        """The error, which with its traceback holds the job, and must not be held by it."""
        error, self.error = self.error, None
        return error

    def _begin(self) -> None:
        getattr(self.engine, "watch", _unwatched)(self._members_changed)
        self._update_members()
        if not self._members:
            self._handle(events.Tick(self.seconds))

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
            self.moved()
        for worker in sorted(before.keys() - members.keys()):
            self._handle(events.Left(self.seconds, worker))
        joined = {worker: member for worker, member in members.items() if worker not in before}
        names = in_order(joined)
        if not getattr(self.scheduler.job, "bound", False):
            # Those first that have the fewest calls of other jobs: many small jobs would all begin with the same.
            names.sort(key=self._load)
        for place, worker in enumerate(names, start=1):
            domain = joined[worker].domain
            self._handle(events.Joined(self.seconds, worker, domain, more=place < len(joined)))

    def _free(self, now: float, behind: list[float]) -> frozenset[int]:
        """Workers without any call, if calls have waited for those of others for so long."""
        self._behind = now if behind else None
        if self._behind is None:
            return frozenset()
        self.wake_at(now + max(_FREED, min(behind)))
        return frozenset(name for name in self._members if not self._load(name))

    def _longest_wait(self) -> float:
        """Seconds until something is to be done, if nothing happens before."""
        wait = _LONGEST_WAIT
        for wake in (self.scheduler.wake, self._wake):
            wait = wait if wake is None else min(wait, float(wake - self.seconds))
        self._due = self.seconds + max(0.0, wait)
        return max(0.0, wait)

    def _step(self, wait: float) -> None:
        """Deal with the next event, or with the time if there is none."""
        happened = []
        # Events that never cease do not hold up what is due.
        if self.seconds < max(self._due, self._ticked + _FREED):
            with suppress(Empty):
                happened = [self._events.get(timeout=wait)]
        now = self.seconds
        self._ticked = self._ticked if happened else now
        late = now - self._due
        stopped = late + _LONGEST_WAIT if late > _STOPPED else 0.0
        if stopped or not happened:
            self._wake = None
            began, futures = tuple(self._late_beginnings(now)), self._futures.items()
            waiting = frozenset(n for n, future in futures if getattr(future, "waits", False))
            unbegun = [self._calls[number] for number, when in began if when == now]
            loads = {call.number: self._load(call.worker) for call in unbegun}
            free = self._free(now, [now - call.sent for call in unbegun if loads[call.number] > 1])
            opening = frozenset(n for n, load in loads.items() if load == 1) - waiting
            self._handle(events.Tick(now, began, stopped, waiting, free, opening))
        if not happened:
            return
        if self._behind is not None:
            self.wake_at(self._behind + _FREED)
        if happened[0] is None:
            self._update_members()
            # The event before announced another, and workers may be those that there were.
            self._handle(events.Tick(self.seconds))
            return
        what, future = happened[0]
        if isinstance(what, events.More):
            self._handle(events.Added(self.seconds, *self.more(future.result())))
        else:
            self._handle(self._event(what, future))

    def _late_beginnings(self, now: float) -> Iterator[tuple[int, float]]:
        for number, call in self._calls.items():
            when = self._begun(self._futures[number], now)
            if when is not None and when > call.started:
                yield number, when

    def _begun(self, future: Future[Any], now: float) -> float | None:
        """When a call began, in seconds of the job, or now if it has not; None if that is not known."""
        begun: list[float] | None = getattr(future, "begun", None)
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
                    self.wake_at(self.seconds + _FREED)  # it may be behind those of others
                future = self.submit(call)
                self._calls[call.number], self._futures[call.number] = call, future
                self._await(call, future)
            case events.Take(call):
                self.answers += 1
                self.take(call)
            case events.Withdraw(call):
                self._futures[call.number].cancel()
            case events.Abandon(call, at_once):
                abandon = self.engine.abandon
                if at_once:
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
        queue, notify = self._events, self._notify

        def ended(future: Future[Any]) -> None:
            queue.put((what, future))
            notify()

        future.add_done_callback(ended)

    def _event(self, call: Call, future: Future[Any]) -> Event:
        """What the end of a call means, noted in the table of calls."""
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
            for line in reply.output.splitlines():
                show_line(f"[worker {call.worker}] {line}")
            answer = self.answered(call, reply)
            if not isinstance(answer, BaseException):
                began = self._begun(future, now)
                call.started = max(call.started, began or 0.0)
                self._note(call, reply.seconds, "answered" if call.wanted else "late", reply.host)
                nbytes = getattr(future, "nbytes", 0)
                return events.Answered(
                    now, call.number, reply.seconds, answer, self.busy, began, nbytes, reply.done
                )
            error = answer
        loss = self.lost(call, error, _loss(call, error))
        self.crashed += loss is Loss.CRASHED
        self._note(call, max(0.0, now - call.started), loss.name.lower().replace("_", " "))
        return events.CallFailed(now, call.number, loss, self.busy)

    def _note(self, call: Call, seconds: float, outcome: str, host: str = "") -> None:
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


class Budget:
    """Keeps work that is not urgent, done in its ``with`` block, within a share of the time of a job."""

    def __init__(self, job: LiveJob, share: float) -> None:
        # The job has one itself, and answers must not wait for the collector.
        self._job = weakref.proxy(job)
        self._share = share
        self._spent = 0.0
        self._began = 0.0

    def allows(self) -> bool:
        """Whether to do it now: always when no call is running. If not, the job wakes up to do it."""
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
    """A method that does not hold its job, as what the job's scheduler asks: answers must not wait for the collector."""
    held: Any = weakref.WeakMethod(method)

    def ask(*arguments: Any) -> T:
        found: T = held()(*arguments)
        return found

    return ask


def _unwatched(callback: Callable[[], None]) -> None:
    """Of an engine whose workers neither join nor leave."""


def _unloaded(worker: int) -> int:
    """Of an engine that does not say how many calls a worker has."""
    return 0


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
    """Bytes that payload and answer of a call may take, of what each worker may use and of what is free here."""
    free, limit = free_memory(), getattr(engine, "memory_limit", None)
    here = math.inf if free is None else free / max(1, engine.workers)
    return _SHARE * min(here, limit or math.inf)


def patience_of(engine: Engine) -> float:
    """Seconds for which a job waits for a worker when all have left: some if others may join."""
    return _PATIENCE if hasattr(engine, "members") else 0.0
