"""The scheduler: which call runs where, which is sent again, and when a job has ended.

A state machine without input or output. `Scheduler.handle` takes an event and gives back decisions; it
knows no clock, thread, array or socket. A driver carries decisions out and reports events: `live` over an
engine, `virtual` over drawn times.
"""

from __future__ import annotations

import math
from bisect import insort
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from ..contracts.stopping import Outcome, Progress
from . import events
from .call_sizes import CallSizes
from .call_times import CallTimes
from .crashes import SUSPECT, Crashes
from .events import Call, Decision, Event, Job, Kind, Lineage, Loss, Piece
from .parking import HANGS, Parking

_NEVER_BEGUN = 20  # a call that is lost this often before it begins counts as crashed
_MARGIN_OVERHEADS = 2  # overheads between the latest end of a call and the end of the job
_LEAST_HEDGES = 8  # hedges that each job may make
_SPARED_SHARE = 0.5  # share of the hedges that is kept for calls that are much later
_MOST_PATIENCE = 8.0  # how many times as late a call must be for the last hedge as for the first
_COPIES = 4  # copies in flight from which hedges of a row are rare: the row hangs, not its workers
_RARER = 16.0  # how many times as long as before each further copy is waited for
_COPY_WAIT = 4  # a failed call waits for its copies at most this many times what makes calls late
_QUEUED = 2.0  # seconds that a call waits behind other jobs before another worker may have it
_OPENED = 2  # longest first overheads that a call waits while its worker opens ``fn``
_OPENING = 600.0  # seconds that a call waits for the same if no call has been answered yet
_WITHOUT_ANSWER = 0.125  # share of a job's time after which, without an answer, a call is parked


@dataclass(slots=True, eq=False)
class _Worker:
    domain: Hashable
    calls: deque[Call] = field(default_factory=deque)
    """In flight; the first is running."""
    crashes: int = 0
    """How many of its calls crashed. A second crash of a worker that has never answered says nothing of the row."""
    ready: bool = False
    """Whether it has answered a call; the first takes longer, because it imports what ``fn`` needs."""
    failed: bool = False
    """Whether a call has failed there and none was answered since."""
    taken_until: float = -math.inf
    """When it is expected to be free of other jobs, for which a call of this job has waited there."""


class Scheduler:
    """Decides which call runs where, from what has happened so far; the same events give the same decisions."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.started = 0
        """Calls started, of every kind."""
        self.hedges = 0
        self.wake: float | None = None
        """When the next `Tick` is needed, if nothing else happens."""
        self.outcome: Outcome | None = None
        self._more, self._asked = job.more, False  # whether more groups may come, and are asked for
        self._next = 0  # the first group that no call has held
        self._unfinished = job.groups  # groups neither answered nor failed
        self._failed = 0  # groups
        self._waiting: deque[Piece] = deque()  # pieces to be sent; without a code, again
        self._parked: deque[Piece] = deque()  # those that are sent again when nothing else is left
        self._workers: dict[Hashable, _Worker] = {}
        self._idle: dict[Hashable, None] = {}  # workers without a call
        self._with_room: dict[Hashable, None] = {}  # busy workers that may be sent a call ahead
        self._calls: dict[int, Call] = {}  # calls in flight, by number
        self._ahead: dict[int, Call] = {}  # calls sent ahead that have not begun
        self._withdrawn: set[int] = set()  # calls taken back, until they begin or end
        self._hedged: dict[int, Call] = {}  # hedges in flight and wanted
        self._hedge_queues: dict[tuple[int, int], deque[Call]] | None = None
        """Calls by their groups and copies, in the order in which they began; None until nothing is left to start."""
        self._timeouts: deque[tuple[float, int]] = deque()  # when calls time out, in order
        self._copy_waits: list[tuple[float, int, Call, Loss]] = []
        """In order of time: until when copies of a call that failed are waited for."""
        self._times = CallTimes(batches=job.batches)
        self._sizes = CallSizes(job, self._times)
        self._first_overhead = 0.0  # seconds; the longest overhead of a worker's first call
        self._answered = 0  # calls
        self._crashes = Crashes(job.retries)
        self._parking = Parking(self._times)
        self._look_at = 0.0  # when to look again for calls that hang
        self._first_parked = 0.0  # when a call was parked before the first answer
        self._empty_since: float | None = None  # when the last worker left
        self._out: list[Decision] = []  # decisions that follow from the event in hand
        self._now = 0.0  # when that happened, in seconds of the job

    def handle(self, event: Event) -> list[Decision]:
        """Take in an event; the decisions that follow from it."""
        out: list[Decision] = []
        self._out, self._now = out, event.now
        if self.outcome is not None:
            return out
        match event:
            case events.Answered():
                self._on_answer(event)
            case events.CallFailed():
                self._on_failure(event)
            case events.Tick():
                self._on_tick(event)
            case events.Joined():
                self._on_joined(event)
            case events.Left():
                self._on_left(event)
            case events.Decoded():
                self._on_decoded(event)
            case events.Added():
                self._on_added(event)
            case events.Stop():
                self._finish(event.outcome)
        if self.outcome is None and not getattr(event, "more", False):
            self._decide(event.now)
        return out

    @property
    def progress(self) -> tuple[int, int, int, int]:
        """Groups answered, failed, in calls that run, and hedges in flight."""
        running = sum(call.groups for call in self._running())
        done = self.job.groups - self._unfinished - self._failed
        return done, self._failed, running, len(self._hedged)

    @property
    def overhead(self) -> float:
        """Least seconds of a call that were not spent in ``fn``."""
        return self._times.overhead

    def _on_decoded(self, event: events.Decoded) -> None:
        raise AssertionError("without a code nothing is decoded")

    # Events -------------------------------------------------------------------------------------------

    def _on_joined(self, event: events.Joined) -> None:
        if event.worker not in self._workers:
            self._workers[event.worker] = _Worker(event.domain)
            self._idle[event.worker] = None

    def _on_left(self, event: events.Left) -> None:
        self._workers.pop(event.worker, None)
        self._idle.pop(event.worker, None)
        self._with_room.pop(event.worker, None)

    def _on_added(self, event: events.Added) -> None:
        self.job = replace(self.job, groups=self.job.groups + event.groups)
        self._unfinished += event.groups
        self._more, self._asked = not event.last, False

    def _on_answer(self, event: events.Answered) -> None:
        call = self._end(event.call, event.now)
        if call is None:
            return
        self._answered += 1
        self._look_at = self._look_at if self._answered > 1 else 0.0
        call.started = max(call.started, event.began or 0.0)
        worker = self._workers.get(call.worker)
        overhead = None
        if worker is not None:
            self._parking.answered(call, event.seconds, event.now, first=not worker.ready)
            if not worker.ready:  # from when it was sent: what is imported may come before the call
                first = event.now - call.sent - event.seconds
                self._first_overhead = max(first, self._first_overhead)
            elif call.ahead:
                overhead = math.inf
            else:
                overhead = max(0.0, event.now - call.started - event.seconds)
            worker.ready, worker.failed = True, False
        if event.done is not None:
            call.end = call.begin + event.done
        nbytes = event.nbytes if event.done is None else 0  # else they are those of more groups
        self._times.add(call.groups, event.seconds, overhead, nbytes)
        if call.wanted:
            piece = call.piece
            piece.copies.remove(call)
            if piece.parts is not None and event.raised:
                raised = [call.begin + place for place in event.raised]
                # A call of a part may still answer for what raised in the call of the whole.
                self._let_go(piece, lambda part: any(part.begin <= r < part.end for r in raised))
            if call.end < piece.end:
                self._share_rest(piece, call.end)
            self._accept(call, event.raised, event.now)

    def _share_rest(self, piece: Piece, begin: int) -> None:
        """Share out among all workers the groups that a call, which ended early, has not computed."""
        self._let_go(piece, lambda part: part.begin >= begin)
        for rest in piece.unanswered:
            if rest.end > begin:
                self._drop_copies(rest)
                size = -(-(rest.end - begin) // max(1, len(self._workers)))
                for end in range(rest.end, begin, -size):
                    first = max(begin, end - size)
                    self._waiting.appendleft(Piece(first, end, lineage=piece.lineage))

    def _accept(self, call: Call, raised: tuple[int, ...], now: float) -> None:
        """Count the answer of a wanted call, or wait for copies if groups of it ``raised``."""
        piece = call.piece
        if raised and self._awaits_copy(piece):
            piece.partial = call, raised
            self._wait_for_copies(call, Loss.RAISED, now)
        else:
            self._take(piece, call, raised)

    def _take(self, piece: Piece, call: Call, raised: tuple[int, ...]) -> None:
        """Count the answer of this call; groups that ``raised`` have failed."""
        self._detach(piece)
        parts = piece.unanswered
        left = tuple(range(part.begin, min(part.end, call.end)) for part in parts)
        for part in parts:
            self._drop_copies(part)
            self._crashes.answered(part)
        if left:
            self._out.append(events.Take(call, left))
        self._unfinished -= sum(map(len, left))
        for group in (call.begin + place for place in raised):
            if any(group in some for some in left):
                self._fail(call, group, group + 1, Loss.RAISED)

    def _detach(self, piece: Piece, *, into: Sequence[Piece] = ()) -> None:
        """Have the late call that this is a part of, if any, answer it no more, but the parts ``into`` which it is cut."""
        whole, piece.whole = piece.whole, None
        if whole is not None and whole.parts is not None:
            whole.parts.remove(piece)
            whole.parts.extend(into)
            if not whole.parts:
                self._drop_copies(whole)

    def _let_go(self, piece: Piece, chosen: Callable[[Piece], bool] = lambda part: True) -> None:
        """Have ``chosen`` parts of a late call answered by their own calls alone."""
        for part in list(filter(chosen, piece.parts or ())):
            self._detach(part)
            if part.partial is not None:
                self._take(part, *part.partial)

    def _on_failure(self, event: events.CallFailed) -> None:
        withdrawn = event.call in self._withdrawn
        call = self._end(event.call, event.now)
        if call is None:
            return
        piece, loss = call.piece, event.loss
        if loss is Loss.NOT_STARTED:
            piece.never_begun += 1
            if withdrawn or piece.never_begun < _NEVER_BEGUN:
                if call.wanted:
                    piece.copies.remove(call)
                    if not withdrawn or math.isnan(call.started):
                        piece.held.discard(call.worker)
                    elif call.worker in self._workers:  # it may be stuck
                        self._mark_taken(call.worker, call, event.now)
                    self._requeue(call, event.now)
                return
            loss = Loss.CRASHED
        if call.worker in self._workers:
            self._workers[call.worker].failed = True
        if loss is Loss.CRASHED:
            self._note_crash(call)
        elif loss is Loss.RAISED and not math.isnan(call.started):
            self._times.add_raised(call.groups, event.now - call.started)
        if call.wanted:
            self._on_loss(call, loss, event.now)

    def _on_loss(self, call: Call, loss: Loss, now: float) -> None:
        piece = call.piece
        piece.copies.remove(call)
        if piece.parts is not None:
            self._let_go(piece)
            return
        self._retry_or_fail(call, loss)
        if piece.copies and self._awaits_copy(piece):
            self._wait_for_copies(call, loss, now)

    def _wait_for_copies(self, call: Call, loss: Loss, now: float) -> None:
        """Wait for copies of a call that failed: as long again as the first of them has run, within limits.

        After a timeout: until all copies that run now have timed out as well.
        """
        begun = [c.started for c in call.piece.copies if c.started <= now] or [now]
        if loss is Loss.TIMED_OUT:
            until = max(begun) + self.job.call_timeout
        else:
            late = self._times.late(call.groups)
            until = now + min(max(now - min(begun), late), _COPY_WAIT * late)
        insort(self._copy_waits, (until, call.number, call, loss))

    def _wait_no_longer(self, call: Call, loss: Loss) -> None:
        """The time to wait for copies is over. A row alone that crashed is sent again beside them; others give them up."""
        piece = call.piece
        # Several rows are halved: whole, they would crash for ever by the same row.
        if loss is not Loss.CRASHED or (call.groups > 1 and self.job.retries):
            self._drop_copies(piece, at_once=loss is Loss.TIMED_OUT)
            self._retry_or_fail(call, loss)
        elif not piece.again:
            piece.again = True
            self._waiting.append(piece)

    def _drop_copies(self, piece: Piece, *, at_once: bool = False) -> None:
        """Give up all calls of this piece."""
        for copy in piece.copies:
            self._give_up(copy, at_once=at_once)
        piece.copies.clear()
        if piece.again:
            piece.again = False
            self._waiting.remove(piece)

    def _awaits_copy(self, piece: Piece) -> bool:
        """Whether a copy in flight may still answer for this."""
        return bool(piece.copies or (piece.whole is not None and piece.whole.copies))

    def _requeue(self, call: Call, now: float) -> None:
        """Let another worker make a call that had not begun; first wait for its copies, if there are any in flight."""
        piece = call.piece
        if piece.copies:
            self._queue_for_hedge(piece)
            self._wait_for_copies(call, Loss.CRASHED, now)
        elif piece.parts is not None:
            self._let_go(piece)
        elif not piece.again:
            piece.again = piece.whole is not None
            self._waiting.appendleft(piece)

    def _note_crash(self, call: Call) -> None:
        """Count a crash, for its row and for the chance of crashes."""
        worker, excused = self._workers.get(call.worker), False
        if worker is not None:
            worker.crashes += 1
            excused = worker.crashes > 1 and not worker.ready
        self._crashes.add(call, self._now - call.started, excused=excused)

    def _on_tick(self, event: events.Tick) -> None:
        timeout = self.job.call_timeout
        # A worker on which calls have failed, such as by its setup, is not offered others.
        free = {n for n in event.free if n in self._workers and not self._workers[n].failed}
        for number, when in event.began:
            self._correct_start(number, when)
            if when == event.now:
                self._take_back(number, event, free)
            else:
                self._withdrawn.discard(number)
        if event.stopped:
            for running in self._calls.values():
                running.started = min(running.started + event.stopped, event.now)
            begun = [c for c in self._calls.values() if c.started <= event.now]
            if timeout < math.inf:
                self._timeouts = deque(sorted((c.started + timeout, c.number) for c in begun))
        while self._timeouts and self._timeouts[0][0] <= event.now:
            number = self._timeouts.popleft()[1]
            call = self._calls.get(number)
            if number in event.waiting:
                self._timeouts.append((event.now + timeout, number))
            elif call is not None and call.wanted and call.started + timeout <= event.now:
                self._give_up(call, at_once=True)
                self._on_loss(call, Loss.TIMED_OUT, event.now)
        while self._copy_waits and self._copy_waits[0][0] <= event.now:
            _, _, call, loss = self._copy_waits.pop(0)
            if self._awaits_copy(call.piece):
                self._wait_no_longer(call, loss)
        if self.job.parks and event.now >= self._look_at:
            self._park_hanging(list(self._may_park()), event.now)

    @property
    def _rows_wait(self) -> bool:
        """Whether rows wait for a worker."""
        return bool(self._waiting or self._parked or self._next < self.job.groups)

    @property
    def all_needed(self) -> bool:
        """Whether rows wait for a worker, and none is idle."""
        return self._rows_wait and not self._idle

    def _may_park(self) -> Iterator[Call]:
        """Calls on workers that are needed, and those of several rows, of which some may only wait for one that hangs."""
        needed = self.all_needed
        return (call for call in self._running() if call.wanted and (needed or call.groups > 1))

    def hanging(self, now: float) -> list[Call]:
        """Running calls that hang by what is usual."""
        return [c for c in self._running() if now - c.started > HANGS * self._times.usual(c.groups)]

    def _park_hanging(self, calls: list[Call], now: float) -> None:
        """Park those of these calls that hang.

        Until one was parked they may be long: they must hold half of the workers, or leave no time for the rows that wait.
        """
        left = (self._due_stop(now) or math.inf) - now
        if not calls:
            return
        if not self._answered:
            self._park_first(calls, now, _WITHOUT_ANSWER * (now + left))
            return
        parking, spare = self._parking, self._spare_seconds(calls, left, now)
        first = {call: not self._workers[call.worker].ready for call in calls}
        dues = {c: parking.due(c, parking.patience(c), first=first[c]) for c in calls}
        hang = sum(due <= now for due in dues.values())
        sure = parking.unanswered or 2 * hang >= len(self._workers)
        after = math.inf
        for call, due in dues.items():
            pressing = parking.due(call, spare, first=first[call])
            if (due if sure else math.inf) <= now or pressing <= now:
                self._park(call, now)
            else:
                after = min(after, due, pressing)
        late = self._times.late(1)  # calls that begin from now on are not parked before
        self._look_at = now + min(max(after - now, late / 2), late)

    def _spare_seconds(self, running: list[Call], left: float, now: float) -> float:
        """How long each call that hangs may hold its worker so that what waits is computed in the time that is ``left``."""
        times = self._times
        pieces = (p for p in (*self._waiting, *self._parked) if not p.parked)
        waiting = self.job.groups - self._next + sum(p.end - p.begin for p in pieces)
        if not waiting or left == math.inf:
            return math.inf
        late = sum(now > call.started + times.late(call.groups) for call in running)
        lost = late + self._parking.unanswered
        done = self.job.groups - self._unfinished
        hang = late + waiting * max(0, lost - 1) / (lost + done)
        spare = (left - times.mean) * len(self._workers) - waiting * times.mean
        return max(0.0, spare / max(hang, 1.0) - times.usual(1))

    def _park_first(self, calls: list[Call], now: float, seconds: float) -> None:
        """Park the longest call if for so many ``seconds`` nothing was answered, and no other parked; each time twice as long."""
        call = min(calls, key=lambda call: call.started)
        seconds *= 2**self._parking.unanswered
        self._look_at = max(call.started, self._first_parked) + seconds
        if now >= self._look_at:
            self._park(call, now)
            self._first_parked, self._look_at = now, now + 2 * seconds

    def _park(self, call: Call, now: float) -> None:
        """End a call that hangs. Its rows are computed again when nothing else is left, those of several first."""
        piece = call.piece
        self._give_up(call, at_once=True)
        self._workers[call.worker].ready = False
        piece.copies.remove(call)
        if piece.parts is not None:
            self._let_go(piece)
        elif piece.copies:
            self._queue_for_hedge(piece)
        elif piece.partial is not None:
            self._take(piece, *piece.partial)
        else:
            self._parking.unanswered += not piece.parked
            self._detach(piece)
            if call.groups == 1:
                piece.parked = max(now - call.started, math.ulp(0.0))
                piece.held.clear()
                self._parked.append(piece)
                return
            parts = math.isqrt(call.groups - 1) + 1  # parked again, each is cut into as many
            bounds = [piece.begin + call.groups * place // parts for place in range(parts + 1)]
            piece.lineage = piece.lineage or Lineage()
            self._parked.extendleft(reversed(piece.cut(bounds, set(), None)))

    def _take_back(self, number: int, event: events.Tick, free: set[Hashable]) -> None:
        """Withdraw a call that has not begun, and perhaps never will, if another worker may have it.

        If it waits behind another job, one of the ``free`` workers has it at once. If none is known to be free, or if its
        worker is opening ``fn``, any other has it after a time, which doubles each time.
        """
        call, now = self._calls.get(number), event.now
        if call is None or number in self._withdrawn or not call.wanted:
            return
        opening, patience = number in event.opening, _QUEUED
        if opening:
            patience = max(_QUEUED, _OPENED * self._first_overhead) if self._answered else _OPENING
        early = now - call.sent < patience * 2 ** min(call.piece.never_begun, _NEVER_BEGUN)
        if early and (opening or not free):
            return
        able = [name for name in self._idle if self._may_take(name, call.piece)]
        taker = next((name for name in able if name in free and not opening), None)
        if taker is not None:
            free.remove(taker)
            for name in self._idle.keys() - event.free:
                self._mark_taken(name, call, now)
        elif early:
            return
        if able or any(self._may_take(name, call.piece) for name in self._computing(event)):
            self._withdrawn.add(number)
            self._out.append(events.Withdraw(call))

    def _computing(self, event: events.Tick) -> Iterator[Hashable]:
        """Workers that run a call of this job."""
        waiting = {number for number, when in event.began if when == event.now}
        for name, worker in self._workers.items():
            if worker.calls and worker.calls[0].number not in waiting:
                yield name

    def _mark_taken(self, name: Hashable, call: Call, now: float) -> None:
        """Expect a worker to be busy with other jobs for as long again as this call has waited there."""
        worker = self._workers[name]
        worker.taken_until = max(worker.taken_until, 2 * now - call.sent)

    def _may_take(self, name: Hashable, piece: Piece) -> bool:
        """Whether a worker may compute this: it has not had it before, or all workers have."""
        return name not in piece.held or piece.held.issuperset(self._workers)

    def _correct_start(self, number: int, when: float) -> None:
        """Note that a call began later than when its worker was free of this job's calls."""
        call = self._calls.get(number)
        if call is None or math.isnan(call.started):
            return
        call.started = when
        if self.job.call_timeout < math.inf:
            insort(self._timeouts, (when + self.job.call_timeout, number))
        for late in (self._hedge_queues or {}).values():
            if call in late:
                late.remove(call)
                insort(late, call, key=lambda c: c.started)

    # Calls --------------------------------------------------------------------------------------------

    def _running(self) -> Iterator[Call]:
        """The call that each busy worker runs."""
        return (worker.calls[0] for worker in self._workers.values() if worker.calls)

    def _end(self, number: int, now: float) -> Call | None:
        """Take a call out of flight, and begin the next one of its worker; None if it was not in flight."""
        call = self._calls.pop(number, None)
        if call is None:
            return None
        self._ahead.pop(number, None)
        self._withdrawn.discard(number)
        self._hedged.pop(number, None)
        worker = self._workers.get(call.worker)
        if worker is not None:
            running = worker.calls[0] is call
            worker.calls.remove(call)
            if running and worker.calls:
                self._begin(worker.calls[0], now)
            self._note_room(call.worker, worker)
        return call

    def _note_room(self, name: Hashable, worker: _Worker) -> None:
        """Note whether a worker is idle, or may be sent a call ahead."""
        self._idle.pop(name, None)
        self._with_room.pop(name, None)
        if not worker.calls:
            self._idle[name] = None
        elif len(worker.calls) <= self.job.ahead and worker.calls[0].wanted:
            self._with_room[name] = None

    def _begin(self, call: Call, now: float) -> None:
        call.started = now
        self._ahead.pop(call.number, None)
        self._withdrawn.discard(call.number)
        if self.job.call_timeout < math.inf:
            self._timeouts.append((now + self.job.call_timeout, call.number))
        self._hedge_queue(call).append(call)

    def _start(self, piece: Piece, name: Hashable, now: float, kind: Kind) -> None:
        call = Call(self.started, name, piece.begin, piece.end, kind, piece, sent=now)
        call.limit, call.step = self._limit(call.groups)
        if call.limit < math.inf:
            call.limit = min(call.limit, self._time_left(self._workers[name], call.step))
        self.started += 1
        self._calls[call.number] = call
        piece.copies.append(call)
        piece.held.add(name)
        piece.again = False
        if kind is Kind.HEDGE:
            self._hedged[call.number] = call
        worker = self._workers[name]
        worker.calls.append(call)
        if len(worker.calls) == 1:
            self._begin(call, now)
        else:
            call.ahead, self._ahead[call.number] = True, call
        self._note_room(name, worker)
        self._out.append(events.Start(call))

    def _give_up(self, call: Call, *, at_once: bool = False) -> None:
        call.wanted = False
        self._hedged.pop(call.number, None)
        self._with_room.pop(call.worker, None)  # it is not known when it will be free
        self._out.append(events.Abandon(call, at_once))

    def _retry_or_fail(self, call: Call, loss: Loss) -> None:
        """Wait for copies of a lost call, send its groups again, or fail them."""
        piece, retries = call.piece, self.job.retries
        blamed = loss is Loss.CRASHED and self._to_blame(piece)
        if piece.copies and not blamed:
            if loss is not Loss.RAISED:
                self._queue_for_hedge(piece)
            return
        self._drop_copies(piece)
        if piece.partial is not None:
            self._take(piece, *piece.partial)
        elif retries and call.groups > 1:
            middle = (piece.begin + piece.end) // 2
            # A worker on which fn raised may have the halves: it is not to blame.
            held = set() if loss is Loss.RAISED else piece.held
            piece.lineage = piece.lineage or Lineage()
            halves = piece.cut([piece.begin, middle, piece.end], held, piece.whole)
            self._detach(piece, into=halves)
            self._waiting.extendleft(reversed(halves))
        elif loss is Loss.CRASHED and not blamed:
            piece.again = piece.whole is not None
            self._waiting.append(piece)
        else:
            self._detach(piece)
            self._unfinished -= call.groups
            self._fail(call, piece.begin, piece.end, loss)

    def _queue_for_hedge(self, piece: Piece) -> None:
        """Have the copies that still run, after another has ended, hedged when they are late."""
        for copy in piece.copies:
            if not math.isnan(copy.started):
                insort(self._hedge_queue(copy), copy, key=lambda call: call.started)

    def _hedge_queue(self, call: Call) -> deque[Call]:
        """The queue of running calls that are late after as long as this one; not kept while groups are left to start."""
        if self._hedge_queues is None:
            return deque()
        return self._hedge_queues.setdefault((call.groups, len(call.piece.copies)), deque())

    def _to_blame(self, piece: Piece) -> bool:
        """As `Crashes.caused_by`."""
        workers, running = len(self._workers), self._running()
        return self._crashes.caused_by(piece, self._answered, workers, running, self._now)

    def _fail(self, call: Call, begin: int, end: int, loss: Loss) -> None:
        self._failed += end - begin
        self._out.append(events.FailRows(call, begin, end, loss, call.piece.crashes))

    # What to do next ----------------------------------------------------------------------------------

    def _decide(self, now: float) -> None:
        """End the job, or start calls and set when to wake up."""
        stop = self.job.stop
        if self._unfinished == 0 and not self._more:
            self._finish(Outcome.COMPLETE if self._failed else Outcome.EXACT)
            return
        outcome = None if stop is None else stop.verdict(self._seen(now))
        if outcome is not None:
            self._finish(outcome)
            return
        only_parked = self._parked and not (self.job.retries or self._calls or self._more)
        if self._without_workers(now) or (only_parked and self._next == self.job.groups):
            self._finish(Outcome.NONE_RUNNING)
            return
        if self._empty_since is not None:
            self.wake = sooner(self._due_stop(now), self._empty_since + self.job.patience)
            return
        self._withdraw_from_stuck(now)
        self._send(now)
        self._ask_for_more()
        wake = self._due_stop(now)
        if self._idle and self._next == self.job.groups and not self._more:
            wake = sooner(wake, self._send_hedges(now))
        elif self._waiting and not self._idle:
            self._make_room()
        if self.job.parks and self._look_at < math.inf and any(self._may_park()):
            wake = sooner(wake, self._look_at)
        self.wake = sooner(wake, self._due_tick())

    def _due_stop(self, now: float) -> float | None:
        """When the stopping rule is to be evaluated again, if nothing happens before."""
        stop = self.job.stop
        after = None if stop is None else stop.wake_after(self._seen(now))
        return None if after is None else now + after

    def _due_tick(self) -> float | None:
        """When the next call times out, or the next wait for copies ends."""
        return min((due[0][0] for due in (self._timeouts, self._copy_waits) if due), default=None)

    def _without_workers(self, now: float) -> bool:
        """Whether there has been no worker, and no call, for longer than the job is to wait."""
        if self._workers or self._calls:
            self._empty_since = None
            return False
        if self._empty_since is None:
            self._empty_since = now
        return now >= self._empty_since + self.job.patience

    def _ask_for_more(self) -> None:
        """Ask for groups, unless each worker could be given another call."""
        unstarted = self.job.groups - self._next
        calls = -(-len(self._workers) // self.job.slots)
        wanted = self._size(unbounded=True) * calls if self._more else 0
        if unstarted < wanted and not self._asked:
            self._asked = True
            self._out.append(events.More(wanted - unstarted))

    def _seen(self, now: float) -> Progress:
        return Progress(
            frozenset({0}),
            frozenset(),
            frozenset(),
            now,
            False,
            lambda: self.job.stderr(0, not self._calls),
            rows=self.job.before + self.job.groups,
            done=self.job.before + self.job.groups - self._unfinished,
            slower_in=lambda times: self._slower_in(times, now),
        )

    def _slower_in(self, times: float, now: float) -> float | None:
        """As `Progress.slower_in`."""
        if not self._answered or self._waiting or self._next < self.job.groups or self._more:
            return None
        # Rows that were parked after so long need not run so long again.
        if any(piece.parked < times * self._times.mean for piece in self._parked):
            return None
        left = 0.0
        for piece in (call.piece for call in self._calls.values() if call.wanted):
            begun = [call.started for call in piece.copies if call.started <= now]
            if not begun:
                return None
            usual = self._times.mean * (piece.end - piece.begin)
            if piece.parked < times * usual:
                left = max(left, min(begun) + times * usual - now)
        return left

    def _finish(self, outcome: Outcome) -> None:
        for call in self._calls.values():
            if call.wanted:
                call.wanted = False
                self._out.append(events.Abandon(call))
        self.outcome, self.wake = outcome, None
        self._out.append(events.Ended(outcome))

    def _send(self, now: float) -> None:
        """Start calls on idle workers, then send calls ahead to busy ones."""
        for names in (self._idle, self._with_room):
            ahead = names is self._with_room
            if ahead and not self._sends_ahead():
                return
            for name in list(names) if self._rows_wait else ():
                if ahead and self._stuck(name, now):
                    continue
                taken = self._workers[name].taken_until > now
                if taken and any(w.taken_until <= now for w in self._workers.values()):
                    continue
                piece = self._piece_for(name, now)
                if piece is not None:
                    again = piece.lineage or piece.crashes or piece.held or piece.parked
                    retry = bool(again) or piece.slot >= self.job.slots
                    kind = Kind.RETRY if retry else Kind.FIRST
                    self._start(piece, name, now, Kind.HEDGE if piece.whole else kind)
                elif not self._waiting:
                    return

    def _piece_for(self, name: Hashable, now: float) -> Piece | None:
        """What this worker computes next: pieces that wait before new groups, but none that it has had."""
        # A row that may have caused its crashes waits until it is known how many calls crash by chance.
        none_left = self._next == self.job.groups
        early = not none_left and not self._crashes.chance_is_known(self._answered)
        for at, piece in enumerate(self._waiting):
            if early and piece.crashes >= SUSPECT:
                continue
            if any(copy.worker == name for copy in piece.copies):
                continue
            if piece.whole is not None and self._workers[name].calls:
                continue  # the worker may be busy with another part of it, as slow
            if self._may_take(name, piece) or (none_left and self._only_stuck(piece.held, now)):
                del self._waiting[at]
                return piece
        if none_left:
            again = self.job.retries and not self._more and not self._workers[name].calls
            return self._parked.popleft() if self._parked and again else None
        begin = self._next
        self._next = begin + self._size()
        return Piece(begin, self._next)

    def _withdraw_from_stuck(self, now: float) -> None:
        """Withdraw a call that was sent ahead to a stuck worker, for the next worker that is free.

        Only the call sent first is looked at: mostly the one before it, on its worker, began first as well.
        """
        for number, call in self._ahead.items():
            if number not in self._withdrawn:
                if self._stuck(call.worker, now) and len(self._workers) > 1 and call.wanted:
                    self._withdrawn.add(number)
                    self._out.append(events.Withdraw(call))
                return

    def _only_stuck(self, held: set[Hashable], now: float) -> bool:
        """Whether all workers but these are stuck."""
        return all(self._stuck(name, now) for name in self._workers if name not in held)

    def _stuck(self, name: Hashable, now: float) -> bool:
        """Whether a worker runs a call that is late, or not wanted any more: it may never end."""
        worker = self._workers.get(name)  # None: gone, and its calls will be reported
        running = next(iter(worker.calls), None) if worker is not None else None
        if running is None:
            return False
        return not running.wanted or now > running.started + self._times.late(running.groups)

    def _next_stuck(self, now: float) -> float | None:
        """When the next worker is stuck, if it answers no more."""
        late = (call.started + self._times.late(call.groups) for call in self._running())
        after = min((time for time in late if time >= now), default=math.inf)
        # Then it has been late for a moment.
        return None if after == math.inf else math.nextafter(after, math.inf)

    def _size(self, *, unbounded: bool = False) -> int:
        """Groups of the next call; ``unbounded``: as if the job had no end."""
        left = None if unbounded else self.job.groups - self._next
        size = self._sizes.next(left, len(self._workers), self.started, more=self._more)
        most = self._parking.size(self.job.groups - self._unfinished)
        return size if self.job.size is not None else int(min(size, most))

    def _limit(self, groups: int) -> tuple[float, int]:
        """As `CallSizes.limit`."""
        return self._sizes.limit(groups)

    def _time_left(self, worker: _Worker, step: int) -> float:
        """Seconds that a worker's next call may run to answer before the stopping rule may end the job."""
        due, times = self._due_stop(self._now), self._times
        if due is None:
            return math.inf
        # The worker's other calls come first, and the call ends up to one step after its limit.
        groups = sum(call.groups for call in worker.calls) + step
        left = due - self._now - groups * times.mean - _MARGIN_OVERHEADS * times.overhead
        return max(0.0, left)

    def _sends_ahead(self) -> bool:
        """Whether busy workers are sent calls ahead; at first not, because the first answers are those of short rows."""
        workers = len(self._workers)
        return self._answered >= workers and self._sizes.sent_ahead(workers, self.started)

    def _send_hedges(self, now: float) -> float | None:
        """With nothing left to start, hedge late calls; returns when the next one is late."""
        if self._withdrawn:
            return None
        stuck = self._next_stuck(now) if self._ahead or self._waiting else None
        if self.job.hedge is None:
            return stuck
        if self._hedge_queues is None:
            self._hedge_queues = {}
            for running in sorted(self._calls.values(), key=lambda call: call.started):
                self._hedge_queue(running).append(running)
        budget = self._budget(self.job.hedge)
        while self._idle and self.hedges < budget:
            due, late = self._first_late(patience_after(self.hedges, budget))
            if late is None or due is None or due > now:
                return sooner(due, stuck)
            name = self._worker_for_hedge(late.piece, now)
            if name is None:
                return self._next_stuck(now)
            self._hedge_queue(late).popleft()
            parts = self._parts(late.piece)
            if parts > 1:
                self._hedge_in_parts(late.piece, parts)
                self._send(now)
            else:
                self._hedge(late.piece, name, now)
        return stuck

    def _parts(self, piece: Piece) -> int:
        """How many parts a late call is hedged in; several if it was made once, because one slow group holds up the others."""
        job, again = self.job, piece.whole is not None or len(piece.held) > 1
        if again or job.batches or job.size is not None or not job.retries:
            return 1
        return min(piece.end - piece.begin, len(self._workers) - 1)

    def _hedge_in_parts(self, piece: Piece, parts: int) -> None:
        """Hedge a late call by calls of parts of it. Its own answer counts for the parts that have none by then."""
        self.hedges += 1
        size = piece.end - piece.begin
        bounds = [piece.begin + size * place // parts for place in range(parts + 1)]
        piece.lineage = piece.lineage or Lineage()
        piece.parts = piece.cut(bounds, piece.held, piece)
        self._waiting.extend(reversed(piece.parts))  # a call that is late has not reached the last

    def _budget(self, share: float) -> float:
        """Hedges that the job may make in all, by what it has started so far."""
        return max(_LEAST_HEDGES, share * (self.started - self.hedges))

    def _hedge(self, piece: Piece, name: Hashable, now: float) -> None:
        self.hedges += 1
        self._start(piece, name, now, Kind.HEDGE)

    def _first_late(self, patience: float) -> tuple[float | None, Call | None]:
        """When the next running call is late, and which it is; ``patience``: see `patience_after`."""
        first: tuple[float, Call] | None = None
        for (groups, copies), calls in (self._hedge_queues or {}).items():
            while calls and (
                calls[0].number not in self._calls
                or not calls[0].wanted
                or calls[0].piece.parts is not None
                or len(calls[0].piece.copies) != copies
            ):
                calls.popleft()
            if calls:
                due = calls[0].started + patience_for(copies) * patience * self._times.late(groups)
                if first is None or due < first[0]:
                    first = due, calls[0]
        return first or (None, None)

    def _worker_for_hedge(self, piece: Piece, now: float) -> Hashable | None:
        """An idle worker that has had no copy, best of another failure domain; if all others are stuck, any idle one."""
        domains = {self._workers[w].domain for w in piece.held if w in self._workers} - {None}
        found = None
        for name in self._idle:
            if name not in piece.held:
                if self._workers[name].domain not in domains:
                    return name
                found = name if found is None else found
        if found is None and self._only_stuck(piece.held, now):
            return next(iter(self._idle))
        return found

    def _make_room(self) -> None:
        """Give up hedges, the last first, on workers that calls which are sent again need."""
        room = sum(piece.whole is None for piece in self._waiting)
        for hedge in list(self._hedged.values())[::-1]:
            if room and len(hedge.piece.copies) > 1:
                room -= 1
                hedge.piece.copies.remove(hedge)
                self._give_up(hedge)
                self._queue_for_hedge(hedge.piece)


def patience_after(hedges: int, budget: float) -> float:
    """How many times as late a call must be for a hedge. It grows as hedges run out, to leave some for calls that never end."""
    left = (1.0 - hedges / budget) / _SPARED_SHARE
    return 1.0 / min(max(left, 1.0 / _MOST_PATIENCE), 1.0)


def patience_for(copies: int) -> float:
    """How many times as long a call is waited for if so many copies of it run."""
    return _RARER ** max(0, copies - _COPIES + 1)


def sooner(first: float | None, second: float | None) -> float | None:
    """The earlier of two times, either of which may be unknown."""
    if first is None or second is None:
        return second if first is None else first
    return min(first, second)
