"""The scheduler of jobs with a code: chunks of groups, decoded from answers to some of their slots."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..contracts.stopping import Decodable, Outcome, Progress, StoppingRule, best_case
from .crashes import MOST_CRASHES
from .events import Call, Decision, Decode, Decoded, Event, Job, Loss, Piece, Take, Tick
from .scheduler import Scheduler, patience_after, patience_for, sooner

_CHUNKS_OPEN = 2  # most chunks in flight for each that fits on the workers, and for one more
_FIRST_OVERHEADS = 2  # longest first overheads that a worker's first call may take as well
_JOB_ENDS = {Outcome.DEADLINE, Outcome.SHARE}
"""Outcomes of a chunk after which no further chunk is begun."""


def _severity(outcome: Outcome) -> int:
    """Rank of a chunk's outcome: a job has the outcome of its chunks that ranks highest."""
    least = [Outcome.EXACT, Outcome.COMPLETE]
    most = [Outcome.SHARE, Outcome.DEADLINE, Outcome.NONE_RUNNING, Outcome.UNSATISFIABLE]
    if outcome in least:
        return least.index(outcome) - len(least)
    return most.index(outcome) + 1 if outcome in most else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CodedJob(Job):
    """What is to be run with a code: groups of K tasks, N calls for those of a chunk."""

    tasks: int
    """K."""
    own: Mapping[int, int]
    """For each slot whose payload is the own input of a task, that task. Slots from N on are not sent at
    first."""
    decodable: Callable[[int, frozenset[int]], bool]
    """Whether a chunk can be decoded from the answers of these slots."""
    rule: StoppingRule = field(default_factory=Decodable)
    """Evaluated for each chunk."""
    bound: bool = False
    """Whether slot n is computed by worker n."""
    after: float | StoppingRule | None = None
    """When the inputs of missing tasks are sent as hedges; None: when calls are late."""
    most: int | None = None
    """With ``after``: most hedges of a chunk; None: all missing tasks."""
    partial: bool = False
    """Whether a chunk that can only be decoded in part is a result."""
    where: Callable[[int], Hashable] | None = None
    """With ``bound``: the worker that keeps what slot n needs. Then ``decodable`` may depend on the answers."""
    out: frozenset[int] = frozenset()
    """Slots that are not sent."""


@dataclass(slots=True, eq=False)
class Chunk:
    """Groups that are decoded together."""

    number: int
    begin: int
    end: int
    began: float
    """Seconds of the job."""
    asked: set[int]
    """Slots whose payloads are sent, or are waiting to be."""
    answered: set[int] = field(default_factory=set)
    failed: dict[int, Loss] = field(default_factory=dict)
    pieces: dict[int, Piece] = field(default_factory=dict)
    """By slot."""
    workers: set[Hashable] = field(default_factory=set)
    """Those that have, or had, a slot of this chunk."""
    bound_to: dict[int, Hashable] = field(default_factory=dict)
    """The worker that computes a slot, where slots are bound to workers."""
    hedged: set[int] = field(default_factory=set)
    """Slots that were hedged, or added to those sent at first."""
    anywhere: set[int] = field(default_factory=set)
    """Slots that any worker may take, because all workers without a slot of this chunk are late."""
    due: bool = False
    """Whether calls are late: from now on it is enough that every row is exact."""
    outcome: Outcome = Outcome.WAITING
    decoding: bool = False
    refused: frozenset[int] | None = None
    """The answered slots at the last decoding, if that needs more answers."""
    decodable: dict[frozenset[int], bool] = field(default_factory=dict)
    """Cached: whether answers of these slots can be decoded."""

    def running(self) -> set[int]:
        """Slots that may still answer."""
        return self.asked - self.answered - self.failed.keys()


class ChunkScheduler(Scheduler):
    """Decides which payload of which chunk runs where, and when a chunk is decoded.

    Payloads of one chunk go to different workers while there are enough. A call that crashed is made again
    elsewhere; where slots are bound to workers, only if the rule cannot be satisfied without. A call that raised
    is not made again: its answer is missing. If the rule then cannot be satisfied, the inputs of missing tasks are
    sent.
    """

    job: CodedJob

    def __init__(self, job: CodedJob) -> None:
        super().__init__(job)
        self.chunks: dict[int, Chunk] = {}
        """Those that are not finished, by number."""
        self._opened = 0  # chunks, finished ones as well
        self._rejected: frozenset[Hashable] = frozenset()  # workers with rejected answers
        self._changed: dict[int, None] = {}  # chunks whose rule is to be evaluated
        self._worst: Outcome | None = None  # of finished chunks, by `_severity`
        self._ending = False  # whether no further chunk is begun
        self._usable: set[Hashable] = set()  # workers that run no abandoned call
        self._rule_wakes = type(job.rule).wake_after is not StoppingRule.wake_after
        self._hedging = job.hedge is not None or job.after is not None
        self._hedge_queues = None if job.hedge is None or job.after is not None else {}
        self._spread = False  # whether usable workers are in as many domains as there are slots
        self._own_slot: dict[int, int] = {}  # for each task the first slot with its own input
        for slot, task in job.own.items():
            self._own_slot.setdefault(task, slot)

    def handle(self, event: Event) -> list[Decision]:
        if isinstance(event, Tick):
            self._changed.update(dict.fromkeys(self.chunks))
        return super().handle(event)

    @property
    def progress(self) -> tuple[int, int, int, int]:
        """Answers that have come, have failed and are being computed, one for each group and slot; and hedges in flight."""
        done = (self._next - sum(c.end - c.begin for c in self.chunks.values())) * self.job.slots
        done += sum((c.end - c.begin) * len(c.answered) for c in self.chunks.values())
        failed = sum((c.end - c.begin) * len(c.failed) for c in self.chunks.values())
        running = sum(call.groups for call in self._running())
        return min(done, self.job.groups * self.job.slots), failed, running, len(self._hedged)

    def seen(self, number: int, now: float) -> Progress:
        """What is known of a chunk."""
        chunk = self.chunks[number]
        answered = frozenset(chunk.answered)
        last = not chunk.running()
        return Progress(
            frozenset(chunk.asked),
            answered,
            frozenset(chunk.failed),
            now,
            self._decodable(chunk, answered),
            lambda: self.job.stderr(number, last),
            rows=self.job.before + self.job.groups,
            done=self.job.before + self.job.groups - self._unfinished,
        )

    def _decodable(self, chunk: Chunk, slots: frozenset[int]) -> bool:
        known = chunk.decodable.get(slots)
        if known is None:
            known = chunk.decodable[slots] = self.job.decodable(chunk.number, slots)
        return known

    # Events -------------------------------------------------------------------------------------------

    def _accept(self, call: Call, raised: tuple[int, ...], now: float) -> None:
        chunk = self.chunks[call.chunk]
        chunk.answered.add(call.slot)
        chunk.failed.pop(call.slot, None)
        if self.job.where is not None:
            chunk.decodable.clear()
        self._changed[chunk.number] = None
        self._out.append(Take(call, (range(call.begin, call.end),)))

    def _wait_for_copies(self, call: Call, loss: Loss, now: float) -> None:
        if loss is not Loss.CRASHED:  # other copies are hedged when they are late
            super()._wait_for_copies(call, loss, now)

    def _awaits_copy(self, piece: Piece) -> bool:
        chunk = self.chunks.get(piece.chunk)
        return bool(piece.copies) and chunk is not None and piece.slot not in chunk.answered

    def _note_crash(self, call: Call) -> None:
        call.piece.crashes += 1

    def _requeue(self, call: Call, now: float) -> None:
        self.chunks[call.chunk].workers.discard(call.worker)
        super()._requeue(call, now)

    def _retry_or_fail(self, call: Call, loss: Loss) -> None:
        chunk, piece = self.chunks[call.chunk], call.piece
        self._changed[chunk.number] = None
        if call.slot in chunk.answered:
            return
        if piece.crashes >= MOST_CRASHES:
            self._drop_copies(piece)
        if piece.copies:
            self._queue_for_hedge(piece)
            return
        if loss is Loss.CRASHED and piece.crashes <= self.job.retries and not self.job.bound:
            self._waiting.append(piece)
        else:
            chunk.failed[call.slot] = loss

    def _on_decoded(self, event: Decoded) -> None:
        chunk = self.chunks[event.chunk]
        chunk.decoding = False
        self._rejected |= event.rejected
        if event.enough:
            chunk.outcome = event.outcome or chunk.outcome
            self._close(chunk)
            return
        for slot in event.unused & chunk.answered:
            chunk.answered.discard(slot)
            chunk.hedged.discard(slot)
            chunk.pieces[slot].crashes += 1
            if not chunk.pieces[slot].copies:
                chunk.failed[slot] = Loss.CRASHED
        chunk.refused = None if event.unused else frozenset(chunk.answered)
        self._changed[chunk.number] = None

    def _close(self, chunk: Chunk) -> None:
        del self.chunks[chunk.number]
        self._changed.pop(chunk.number, None)
        for piece in chunk.pieces.values():
            self._drop_copies(piece)
        self._waiting = deque(p for p in self._waiting if p.chunk != chunk.number)
        self._unfinished -= chunk.end - chunk.begin
        self._worst = max(chunk.outcome, self._worst or chunk.outcome, key=_severity)
        self._ending |= chunk.outcome in _JOB_ENDS

    # What to do next ----------------------------------------------------------------------------------

    def _decide(self, now: float) -> None:
        stuck = self._without_workers(now)
        if self._empty_since is not None:
            self._open_without_workers(now)
        for open_chunk in self.chunks.values() if stuck else ():  # slots that wait have failed
            open_chunk.failed.update(dict.fromkeys(open_chunk.running(), Loss.NOT_STARTED))
        due: list[Decode] = []
        for number in list(self.chunks if stuck else self._changed):
            chunk = self.chunks.get(number)
            decode = None if chunk is None else self._decode_if_due(chunk, now, stuck=stuck)
            if decode is not None:
                due.append(decode)
        self._changed.clear()
        complete = self._unfinished == 0 and not self._more
        if complete or (not self.chunks and (stuck or self._ending)):
            self._finish(self._worst or (Outcome.EXACT if complete else Outcome.NONE_RUNNING))
            return
        if self._waiting or self._next < self.job.groups or self._more or self._hedging:
            # A worker that still runs an abandoned call may never end it: no slot waits for it.
            self._usable = {n for n, w in self._workers.items() if not w.calls or w.calls[0].wanted}
            self._spread = len(self._domains(self._usable)) >= self.job.slots
            self._send(now)
            self._ask_for_more()
        wake = None if self._empty_since is None else self._empty_since + self.job.patience
        for chunk in self.chunks.values() if self._rule_wakes else ():
            if not chunk.decoding:
                after = self.job.rule.wake_after(self.seen(chunk.number, now))
                wake = sooner(wake, None if after is None else now + after)
        if self._idle and self._hedging:
            wake = sooner(wake, self._send_hedges(now))
        self.wake = sooner(wake, self._due_tick())
        self._out += due

    def _open_without_workers(self, now: float) -> None:
        """Open a chunk that no worker can compute, so that the rule, such as a deadline, is evaluated."""
        worst = self._worst or Outcome.EXACT
        if (
            not self.chunks
            and not self._ending
            and self._next < self.job.groups
            and _severity(worst) < _severity(Outcome.NONE_RUNNING)
        ):
            self._changed[self._opened] = None
            self._open(now)

    def _decode_if_due(self, chunk: Chunk, now: float, *, stuck: bool) -> Decode | None:
        """Decode a chunk if its rule is satisfied, or can no longer be; first send again what the rule needs."""
        if chunk.decoding:
            return None
        seen = self.seen(chunk.number, now)
        outcome = self.job.rule.verdict(seen)
        if outcome is None and (chunk.hedged or chunk.due) and self._all_own(chunk.answered):
            outcome = Outcome.EXACT
        final = outcome in _JOB_ENDS
        if not final and outcome is not None and chunk.refused == seen.answered:
            outcome = None
        if outcome is None:
            if not stuck and chunk.failed and not (seen.running and self._can_satisfy(chunk, seen)):
                self._recover(chunk, seen)
                seen = self.seen(chunk.number, now)
            ended = stuck or not seen.running
            lost = chunk.failed or self.job.where is not None
            if ended or (lost and self._hopeless(chunk, seen)):
                final = True
                outcome = self.job.rule.verdict(seen)
                if outcome is None and self._all_own(seen.answered):
                    outcome = Outcome.EXACT
                elif outcome is None:
                    outcome = Outcome.NONE_RUNNING if ended else Outcome.UNSATISFIABLE
        if outcome is None:
            return None
        chunk.decoding = True
        chunk.outcome = outcome
        return Decode(
            chunk.number, outcome, final or not (seen.running or self._crashed_slots(chunk))
        )

    def _all_own(self, slots: Iterable[int]) -> bool:
        """Whether every row is exact if these slots are answered."""
        return self._own_tasks(slots) == self.job.tasks

    def _own_tasks(self, slots: Iterable[int]) -> int:
        """How many tasks have their own input among the payloads of these slots."""
        own = self.job.own
        return len({own[slot] for slot in slots if slot in own})

    def _best_case(self, chunk: Chunk, seen: Progress, more: Iterable[int] = ()) -> Progress:
        """What is known in the end if all that runs, and these slots as well, have answered."""
        slots = frozenset(more)
        answered = seen.answered | seen.running | slots
        failed = seen.failed - slots
        decodable = self._decodable(chunk, answered)
        return best_case(seen.asked | slots, answered, failed, seen.seconds, decodable)

    def _can_satisfy(self, chunk: Chunk, seen: Progress, more: Sequence[int] = ()) -> bool:
        """Whether in the `_best_case` the rule is satisfied, or, where slots were sent again, every row exact."""
        best = self._best_case(chunk, seen, more)
        if not best.decodable:
            return False
        again = bool(chunk.hedged or more)
        return self.job.rule.verdict(best) is not None or (again and self._all_own(best.answered))

    def _hopeless(self, chunk: Chunk, seen: Progress) -> bool:
        """Whether the calls that run are not worth waiting for: they cannot satisfy the rule."""
        best, rule = self._best_case(chunk, seen), self.job.rule
        if not best.decodable and not self.job.partial:
            return True
        if rule.verdict(best) is not None or rule.wake_after(best) is not None:
            return False
        kept = self.job.where is not None
        if (self.job.partial or kept) and best.decodable and not seen.decodable:
            return False
        # The rule is out of reach. Calls are still waited for if all rows may come exact, or, where rows may be missing,
        # more rows.
        now, then = (self._own_tasks(slots) for slots in (seen.answered, best.answered))
        if self.job.partial:
            return now == then
        return not best.decodable or now == self.job.tasks or then < self.job.tasks

    def _recover(self, chunk: Chunk, seen: Progress) -> None:
        """Send again slots that crashed, then the inputs of missing tasks, as many as the rule needs."""
        again = self._crashed_slots(chunk)
        if self.job.retries:
            again += self._missing(chunk)
        needed = self._fewest(chunk, seen, again)
        if needed is None:
            again = self._crashed_slots(chunk)
        elif not seen.running:
            needed = len(again)
        self._waiting.extend([self._piece(chunk, slot) for slot in again[:needed]])

    def _crashed_slots(self, chunk: Chunk) -> list[int]:
        """Slots that failed by crashes and have retries left."""
        most = self.job.retries
        return [
            slot
            for slot, loss in chunk.failed.items()
            if loss is Loss.CRASHED and chunk.pieces[slot].crashes <= most and most
        ]

    def _fewest(self, chunk: Chunk, seen: Progress, slots: Sequence[int]) -> int | None:
        """How many of these slots, in this order, the rule needs; None if all are not enough."""
        if not self._can_satisfy(chunk, seen, slots):
            return None
        few, many = 0, len(slots)
        while few < many:
            middle = (few + many) // 2
            if self._can_satisfy(chunk, seen, slots[:middle]):
                many = middle
            else:
                few = middle + 1
        return many

    def _missing(self, chunk: Chunk) -> list[int]:
        """Slots with the own inputs of tasks for which no such slot has been sent."""
        own = self.job.own
        asked = {own[slot] for slot in chunk.asked if slot in own}
        return [slot for task, slot in self._own_slot.items() if task not in asked]

    def _piece(self, chunk: Chunk, slot: int) -> Piece:
        """The piece of this slot, which is asked for from now on."""
        piece = chunk.pieces.get(slot)
        if piece is None:
            piece = chunk.pieces[slot] = Piece(chunk.begin, chunk.end, chunk.number, slot)
        chunk.asked.add(slot)
        chunk.failed.pop(slot, None)
        if slot >= self.job.slots:
            chunk.hedged.add(slot)
        return piece

    # Which worker -------------------------------------------------------------------------------------

    def _piece_for(self, name: Hashable, now: float) -> Piece | None:
        for at, piece in enumerate(self._waiting):
            if self._may_run(name, piece):
                del self._waiting[at]
                self.chunks[piece.chunk].workers.add(name)
                return piece
        at_once = max(1, len(self._workers) // self.job.slots)
        full = len(self.chunks) >= _CHUNKS_OPEN * at_once + _CHUNKS_OPEN
        left = self.job.groups - self._next
        short = left == 0 or (self._more and left < self._size(unbounded=True))
        if short or full or self._ending:
            return None
        self._open(now)
        return self._piece_for(name, now)

    def _limit(self, groups: int) -> tuple[float, int]:
        return math.inf, 1

    def _sends_ahead(self) -> bool:
        return True

    def _open(self, now: float) -> None:
        begin = self._next
        self._next = begin + self._size()
        number = self._opened
        self._opened += 1
        asked = set(range(self.job.slots)) - self.job.out
        chunk = Chunk(number, begin, self._next, now, asked)
        self.chunks[number] = chunk
        names = list(self._workers)
        if self.job.bound and names:
            chunk.bound_to = {slot: names[slot % len(names)] for slot in chunk.asked}
        self._waiting.extend(self._piece(chunk, slot) for slot in sorted(chunk.asked))

    def _may_run(self, name: Hashable, piece: Piece) -> bool:
        chunk = self.chunks[piece.chunk]
        if chunk.decoding:
            return False
        if self.job.where is not None:
            return self.job.where(piece.slot) == name
        if piece.slot in chunk.anywhere:
            return True
        if piece.held or piece.slot >= self.job.slots:
            return name not in self._avoided(chunk, piece)
        return self._may_begin(name, chunk, piece)

    def _may_take(self, name: Hashable, piece: Piece) -> bool:
        bound = self.job.bound or self.job.where is not None
        return not bound and name not in self._avoided(self.chunks[piece.chunk], piece)

    def _may_begin(self, name: Hashable, chunk: Chunk, piece: Piece) -> bool:
        """Whether a worker may take a slot that no worker has had."""
        bound = chunk.bound_to.get(piece.slot)
        if bound in self._workers:
            return bound == name
        if self._spread:
            return not self._domains({name}) & self._domains(chunk.workers)
        if len(self._usable) >= self.job.slots:
            return name not in chunk.workers
        return name not in self._avoided(chunk, piece)

    def _avoided(self, chunk: Chunk, piece: Piece) -> set[Hashable]:
        """Workers that should not take this: `_holders`, and their failure domains if there are others."""
        holders = self._holders(chunk, piece)
        near = holders | self._domain_mates(holders)
        return holders if self._usable <= near else near

    def _domains(self, names: Iterable[Hashable]) -> set[Hashable]:
        """The failure domains of those of these workers that have not left."""
        workers = self._workers
        return {workers[name].domain for name in names if name in workers} - {None}

    def _holders(self, chunk: Chunk, piece: Piece) -> set[Hashable]:
        """Workers that have, or had, this slot or a copy of its task, and rejected ones; each if there are others."""
        own = self.job.own
        task = own.get(piece.slot)
        held = set(piece.held)
        if task is not None:
            copies = (p for slot, p in chunk.pieces.items() if own.get(slot) == task)
            held = held.union(*(copy.held for copy in copies))
        if not self._usable <= held | self._rejected:
            return held | self._rejected
        return set() if self._usable <= held else held

    def _domain_mates(self, names: Iterable[Hashable]) -> set[Hashable]:
        """All workers of the failure domains of these."""
        domains = self._domains(names)
        return {n for n, w in self._workers.items() if w.domain in domains} if domains else set()

    # Hedges -------------------------------------------------------------------------------------------

    def _send_hedges(self, now: float) -> float | None:
        wake = None
        if self._hedge_queues is not None and not self._waiting:
            assert self.job.hedge is not None
            due, _ = self._first_late(patience_after(self.hedges, self._budget(self.job.hedge)))
            if due is None or due > now:  # as it mostly is; to look at each slot takes long
                return due
        hedge = self._hedge_late if self.job.after is None else self._hedge_due
        for chunk in list(self.chunks.values()):
            if self._idle and not chunk.decoding:
                wake = sooner(wake, hedge(chunk, now))
        return wake

    def _hedge_late(self, chunk: Chunk, now: float) -> float | None:
        """Hedge what the rule needs, once calls that are not late cannot satisfy it."""
        assert self.job.hedge is not None
        budget = self._budget(self.job.hedge)
        patience = patience_after(self.hedges, budget)
        late, wake = set(), None
        for slot in chunk.running():
            due = self._late_at(chunk, slot, patience)
            if due <= now and not chunk.pieces[slot].copies:
                chunk.anywhere.add(slot)
            elif due <= now:
                late.add(slot)
            elif due < math.inf:
                wake = sooner(wake, due)
        if chunk.anywhere:
            self._send(now)
        prompt = frozenset(chunk.asked - chunk.failed.keys() - late)
        # A hedge would have to be sent what its slot needs: it is made only where nothing can be decoded without.
        if not late or (self.job.where is not None and self._decodable(chunk, prompt)):
            return wake
        seen = self.seen(chunk.number, now)
        soon = Progress(seen.asked - late, seen.answered, seen.failed, now, seen.decodable)
        if self._can_satisfy(chunk, soon) and chunk.refused != soon.answered | soon.running:
            best = replace(self._best_case(chunk, soon), asked=seen.asked)
            if self.job.rule.verdict(best) is None:
                # The rule waits for all calls that run, as `Everyone` does.
                again = self._send_again(chunk, sorted(late), budget, now, enough=False)
                return sooner(wake, again)
            # Where only late calls run, standard errors are too large, as a `Tolerance` says.
            if soon.running or self.job.rule.verdict(seen) is not None:
                return wake
        if self._all_own(chunk.answered) and chunk.refused != seen.answered:
            return self._call_due(chunk, now)
        if self.hedges >= budget:
            return wake
        own = self.job.own
        inputs = sorted(slot for slot in late if slot in own) + self._missing(chunk)
        needed = [
            slots[:fewest]
            for slots in (inputs, sorted(late))
            if (fewest := self._fewest(chunk, soon, slots)) is not None
        ]
        # If the rule is out of reach, late calls are hedged for the rows that they may give.
        slots = min(needed, key=len, default=sorted(late))
        slots = slots or inputs[:1] or sorted(late)[:1]  # the answers so far were refused: one more
        return sooner(wake, self._send_again(chunk, slots, budget, now))

    def _late_at(self, chunk: Chunk, slot: int, patience: float) -> float:
        """When a slot is late: by its last call, or, if it waits, by the calls of the workers that may take it."""
        piece = chunk.pieces[slot]
        if piece.copies:
            patience *= patience_for(len(piece.copies))
            return max(self._due(call, patience) for call in piece.copies)
        able = (w for name, w in self._workers.items() if w.calls and self._may_run(name, piece))
        return min((self._due(w.calls[0], patience) for w in able), default=math.inf)

    def _due(self, call: Call, patience: float) -> float:
        """When a call is late; the first of a worker takes longer, because it imports what ``fn`` needs."""
        worker = self._workers.get(call.worker)
        first = 0.0 if worker is None or worker.ready else _FIRST_OVERHEADS * self._first_overhead
        return call.started + first + patience * self._times.late(call.groups)

    def _hedge_due(self, chunk: Chunk, now: float) -> float | None:
        """Send the inputs of all missing tasks, once the time given by ``after`` has come."""
        after, wake = self.job.after, None
        seen = self.seen(chunk.number, now)
        if not chunk.due and isinstance(after, float):
            chunk.due, wake = now >= chunk.began + after, chunk.began + after
        elif not chunk.due and after is not None:
            assert not isinstance(after, float)
            chunk.due = after.verdict(seen) is not None
            seconds = after.wake_after(seen)
            wake = None if seconds is None else now + seconds
        if not chunk.due:
            return wake
        all_own = self._all_own(chunk.answered)
        if all_own and chunk.refused != seen.answered:
            return self._call_due(chunk, now)
        own = self.job.own
        done = {own[slot] for slot in chunk.answered | chunk.hedged if slot in own}
        missing = [slot for task, slot in self._own_slot.items() if task not in done]
        if all_own:  # and yet not exact: answers have to be confirmed, or contradict one another
            missing = sorted(chunk.running() - chunk.hedged)
        most = math.inf if self.job.most is None else self.job.most
        return self._send_again(chunk, missing, self.hedges + most - len(chunk.hedged), now)

    def _call_due(self, chunk: Chunk, now: float) -> float:
        """Have a chunk decoded now whose rows are all exact, without its late calls."""
        chunk.due = True
        self._changed[chunk.number] = None
        return now

    def _send_again(
        self,
        chunk: Chunk,
        slots: Sequence[int],
        budget: float,
        now: float,
        *,
        enough: bool = True,
    ) -> float | None:
        """Hedge these slots on idle workers; returns when these calls, or those that keep a slot from a worker, are late.

        ``enough``: whether from now on it is enough that every row is exact.
        """
        wake = None
        for slot in slots:
            if self.hedges >= budget:
                break
            piece = chunk.pieces.get(slot) or Piece(chunk.begin, chunk.end, chunk.number, slot)
            holders = self._holders(chunk, piece) | self._rejected
            able = [name for name in self._idle if name not in holders]
            able.sort(key=lambda name: self._workers[name].failed)
            if self._idle and not able:
                able = self._former_holders(piece, holders, now)
                wake = wake if able else self._next_stuck(now)
            if able:
                near = self._domain_mates(piece.held)
                name = next((name for name in able if name not in near), able[0])
                piece = self._piece(chunk, slot)
                if enough:
                    chunk.hedged.add(slot)
                self._hedge(piece, name, now)
                due = self._late_at(chunk, slot, 1.0)
                wake = sooner(wake, due if due < math.inf else None)
        return wake

    def _former_holders(self, piece: Piece, holders: set[Hashable], now: float) -> list[Hashable]:
        """Idle workers that have had a copy, if all others are late, and no copy that failed is waited for."""
        if any(call.piece is piece for _, _, call, _ in self._copy_waits):
            return []
        if not self._only_stuck(holders, now):
            return []
        return [name for name in self._idle if name not in self._rejected]
