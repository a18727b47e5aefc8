"""The scheduler in virtual time: calls take drawn times, and no worker runs."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field, replace

from ..contracts.stopping import Outcome
from . import events
from .chunks import ChunkScheduler, CodedJob
from .events import Call, Decision, Event, Job, Loss
from .scheduler import Scheduler


@dataclass(frozen=True, slots=True)
class Ending:
    """How a call ends in virtual time."""

    seconds: float
    """Seconds until it ends; infinite if it never ends by itself."""
    loss: Loss | None = None
    """Why it has no answer; None if it has one."""
    raised: tuple[int, ...] = ()
    """As in `Answered`."""
    done: int | None = None
    """As in `Answered`."""


@dataclass(slots=True)
class Timeline:
    """The outcome and the course of a job in virtual time."""

    outcome: Outcome
    seconds: float
    calls: int
    hedges: int
    begun: list[int] = field(default_factory=list)
    """Groups of each call that a worker began."""
    taken: list[Call] = field(default_factory=list)
    """Calls whose answer counts, with the groups for which it does."""
    times: list[float] = field(default_factory=list)
    """When each call in ``taken`` ended."""
    failed: list[events.FailRows] = field(default_factory=list)


def run_virtually(
    job: Job,
    workers: int | Iterable[Hashable],
    ending: Callable[[Call, float], Ending],
    *,
    changes: Iterable[Event] = (),
    overhead: float = 0.0,
    grace: float = 1.0,
    more: Callable[[int], tuple[float, int, bool]] | None = None,
    watch: Callable[[Scheduler, Event, list[Decision]], None] | None = None,
) -> Timeline:
    """Run a job on workers whose calls end as drawn.

    Parameters
    ----------
    job : Job
    workers : int or iterable
        Workers at the start, by number or name.
    ending : callable
        Called with a call that begins, and the time in seconds of the job: how it ends.
    changes : iterable of Joined, Left
        In order of time.
    overhead, grace : float
        Seconds after an answer until its worker can begin the next call, and seconds that an abandoned call still runs.
    more : callable, optional
        Called with how many groups are asked for: the seconds until there are more, how many, and whether they are the last.
    watch : callable, optional
        Called with the scheduler, each event and the decisions that followed.
    """
    scheduler = ChunkScheduler(job) if isinstance(job, CodedJob) else Scheduler(job)
    clock = _Clock(scheduler, ending, overhead, grace, more, watch)
    names = list(range(workers) if isinstance(workers, int) else workers)
    for place, name in enumerate(names, start=1):
        clock.push(0.0, events.Joined(0.0, name, more=place < len(names)))
    for event in changes:
        clock.push(event.now, event)
    clock.run()
    return clock.result


@dataclass(eq=False)
class _Clock:
    """The events to come, in order of time, and the calls that each worker has."""

    scheduler: Scheduler
    ending: Callable[[Call, float], Ending]
    overhead: float
    grace: float
    more: Callable[[int], tuple[float, int, bool]] | None
    watch: Callable[[Scheduler, Event, list[Decision]], None] | None

    def __post_init__(self) -> None:
        self.result = Timeline(Outcome.NONE_RUNNING, 0.0, 0, 0)
        self._now = 0.0
        self._order = 0  # number of the last event
        self._events: list[tuple[float, int, Event, Call | None]] = []
        self._queues: dict[Hashable, deque[Call]] = {}
        self._latest_event: dict[int, int] = {}  # for each call in flight the event that ends it
        self._end_times: dict[int, float] = {}  # when running calls end

    def push(self, at: float, event: Event, call: Call | None = None) -> None:
        """Add an event; one that ends a call replaces an earlier one that was to end it."""
        self._order += 1
        heapq.heappush(self._events, (at, self._order, event, call))
        if call is not None:
            self._latest_event[call.number] = self._order

    def run(self) -> None:
        """Report events until the job has ended, or none is left."""
        scheduler, coming = self.scheduler, self._events
        while scheduler.outcome is None:
            wake = scheduler.wake
            if coming and (wake is None or coming[0][0] <= wake):
                self._now, order, event, call = heapq.heappop(coming)
                if call is None:
                    self._report(event)
                    if isinstance(event, events.Left):
                        self._leave(event.worker)
                elif self._latest_event.get(call.number) == order:
                    del self._latest_event[call.number]
                    self._end_times.pop(call.number, None)
                    self._report(event)
                    self._begin_next(call)
            elif wake is not None:
                self._now = max(self._now, wake)
                self._report(events.Tick(self._now))
            else:
                break
        result = self.result
        result.outcome = scheduler.outcome or Outcome.NONE_RUNNING
        result.seconds, result.calls = self._now, scheduler.started
        result.hedges = scheduler.hedges

    def _report(self, event: Event) -> None:
        decisions = self.scheduler.handle(event)
        decoded = []
        for decision in decisions:
            match decision:
                case events.Decode():
                    decoded.append(events.Decoded(self._now, decision.chunk, enough=True))
                case events.Start(call):
                    queue = self._queues.setdefault(call.worker, deque())
                    queue.append(call)
                    if len(queue) == 1:
                        self._begin(call)
                case events.Take(call, left):
                    for some in left:
                        # Mostly it is the whole, and a copy takes longer than a decision.
                        whole = len(some) == call.groups
                        part = call if whole else replace(call, begin=some.start, end=some.stop)
                        self.result.taken.append(part)
                        self.result.times.append(self._now)
                case events.FailRows():
                    self.result.failed.append(decision)
                case events.Abandon(call, at_once):
                    self._drop(call, 0.0 if at_once else self.grace)
                case events.Withdraw(call):
                    self._drop(call, self.grace)
                case events.More() if self.more is not None:
                    seconds, groups, last = self.more(decision.groups)
                    self.push(self._now + seconds, events.Added(self._now + seconds, groups, last))
        if self.watch is not None:
            self.watch(self.scheduler, event, decisions)
        for answer in decoded:
            self._report(answer)

    def _begin(self, call: Call) -> None:
        end = self.ending(call, self._now)
        self.result.begun.append(end.done or call.groups)
        at = self._now + end.seconds + self.overhead
        event: Event = (
            events.Answered(at, call.number, end.seconds, end.raised, done=end.done)
            if end.loss is None
            else events.CallFailed(at, call.number, end.loss)
        )
        self._end_times[call.number] = at
        self.push(at, event, call)

    def _drop(self, call: Call, grace: float) -> None:
        """Lose a call: at once if it has not begun, after the grace if it runs and is not wanted."""
        queue = self._queues.get(call.worker)
        if queue is None or call not in queue:
            return
        if queue[0] is not call:
            queue.remove(call)
            self.push(self._now, events.CallFailed(self._now, call.number, Loss.NOT_STARTED), call)
        elif not call.wanted and self._now + grace < self._end_times[call.number]:
            at = self._now + grace
            self.push(at, events.CallFailed(at, call.number, Loss.ABANDONED), call)

    def _begin_next(self, call: Call) -> None:
        queue = self._queues.get(call.worker)
        if queue and queue[0] is call:
            queue.popleft()
            if queue:
                self._begin(queue[0])

    def _leave(self, worker: Hashable) -> None:
        for place, call in enumerate(self._queues.pop(worker, ())):
            loss = Loss.NOT_STARTED if place else Loss.CRASHED
            self.push(self._now, events.CallFailed(self._now, call.number, loss), call)
