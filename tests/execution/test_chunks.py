"""Jobs with a code in virtual time: what holds whatever workers and payloads do."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from statistics import mean

import pytest
from hypothesis import strategies as st

from codedmap.contracts.stopping import Deadline, Decodable, Everyone, Outcome, Quorum
from codedmap.execution.chunks import ChunkScheduler, CodedJob
from codedmap.execution.events import (
    Abandon,
    Answered,
    CallFailed,
    Decode,
    Decoded,
    Ended,
    Joined,
    Kind,
    Loss,
    Start,
    Take,
    Tick,
    Withdraw,
)
from codedmap.execution.virtual import Ending, run_virtually

from ..repeats import drawn

seeds = st.integers(0, 10_000)


def coded(
    groups: int, tasks: int, slots: int, need: int, *, raw: bool = True, rule=None, **others
) -> CodedJob:
    """A code whose first payloads are raw, or that has mixtures only; ``need`` payloads can be decoded."""
    own = {k if raw else slots + k: k for k in range(tasks)}

    def decodable(chunk: int, answered: frozenset[int]) -> bool:
        payloads = sum(slot < slots for slot in answered)
        return payloads >= need or len({own[s] for s in answered if s in own}) == tasks

    return CodedJob(
        groups,
        slots=slots,
        tasks=tasks,
        own=own,
        decodable=decodable,
        rule=Quorum(need) & Decodable() if rule is None else rule,
        **{"ahead": 0, **others},
    )


class World:
    """Workers that are slow, stop or crash, and payloads that raise, all drawn."""

    def __init__(self, seed: int) -> None:
        rng = self.rng = random.Random(seed)
        self.slots = rng.choice([2, 4, 6, 12])
        self.tasks = rng.randint(1, self.slots)
        self.stragglers = rng.randint(0, self.slots - self.tasks)
        self.workers = rng.choice([1, 2, self.slots, self.slots, 2 * self.slots])
        self.groups = rng.choice([1, 2, 7, 40])
        self.raw = rng.random() < 0.5
        self.crashes = rng.choice([0.0, 0.0, 0.05, 0.2])
        self.raises = rng.choice([0.0, 0.0, 0.05])
        self.late = rng.choice([0.0, 0.05])
        self.speed = [rng.choice([1.0, 1.0, 1.0, 10.0]) for _ in range(self.workers)]
        self.size = rng.choice([None, None, self.groups, 2])

    def ending(self, call, now: float) -> Ending:
        seconds = sum(0.02 * math.exp(self.rng.gauss(0, 1)) for _ in range(call.groups))
        seconds = seconds * self.speed[call.worker] + 3.0 * (self.rng.random() < self.late)
        if self.rng.random() < self.crashes:
            return Ending(seconds * self.rng.random(), Loss.CRASHED)
        return Ending(seconds, Loss.RAISED if self.rng.random() < self.raises else None)

    def job(self, **others) -> CodedJob:
        need = self.slots - self.stragglers
        return coded(
            self.groups, self.tasks, self.slots, need, raw=self.raw, size=self.size, **others
        )


class Watch:
    """Checks after every event what must always hold."""

    def __init__(self) -> None:
        self.in_flight: set[int] = set()
        self.first: dict[int, set] = {}
        self.decoded: dict[int, Decode] = {}
        self.groups = 0
        self.events: list = []
        self.decisions: list = []

    def __call__(self, scheduler: ChunkScheduler, event, decisions) -> None:
        self.events.append(event)
        self.decisions.append([_plain(d) for d in decisions])
        if isinstance(event, Answered | CallFailed):
            self.in_flight.remove(event.call)
        for decision in decisions:
            if isinstance(decision, Start):
                self.in_flight.add(decision.call.number)
                if decision.call.kind is Kind.FIRST:
                    self._check_apart(scheduler, decision.call)
            elif isinstance(decision, Decode):
                assert decision.chunk not in self.decoded, "a chunk is decoded twice"
                self.decoded[decision.chunk] = decision
                chunk = scheduler.chunks[decision.chunk]
                self.groups += chunk.end - chunk.begin
                if decision.outcome is Outcome.QUORUM:
                    assert scheduler.job.rule.verdict(scheduler.seen(chunk.number, event.now))
        if scheduler.outcome is None and not (isinstance(event, Joined) and event.more):
            assert set(scheduler._calls) == self.in_flight
            for worker in scheduler._idle:
                for piece in scheduler._waiting:
                    assert not scheduler._may_run(worker, piece), "a worker idles"

    def _check_apart(self, scheduler: ChunkScheduler, call) -> None:
        """A worker gets one slot of a chunk, unless too few are free of abandoned calls or all others are late."""
        workers = self.first.setdefault(call.chunk, set())
        chunk = scheduler.chunks.get(call.chunk)
        if call.worker in workers and chunk is not None:
            few = len(scheduler._usable) < scheduler.job.slots
            assert few or call.slot in chunk.anywhere, "a worker has two slots of a chunk"
        workers.add(call.worker)


def _plain(decision) -> tuple:
    call = getattr(decision, "call", None)
    what = () if call is None else (call.number, call.worker, call.chunk, call.slot, call.kind)
    return (type(decision).__name__, *what, *[v for v in decision if v is not call])


@drawn(60, 300, seeds, st.sampled_from([None, 0.05]), st.sampled_from([0, 2]))
def test_every_chunk_is_decoded_once_and_no_call_is_lost(seed, hedge, retries):
    world, watch = World(seed), Watch()
    timeline = run_virtually(
        world.job(hedge=hedge, retries=retries), world.workers, world.ending, watch=watch
    )
    assert watch.groups == world.groups
    assert timeline.seconds < math.inf
    assert timeline.hedges <= (0 if hedge is None else max(8, 0.05 * timeline.calls) + 1)
    if world.crashes == world.raises == 0.0:
        outcomes = {decode.outcome for decode in watch.decoded.values()}
        assert outcomes <= {Outcome.QUORUM, Outcome.EXACT}


@drawn(25, 100, seeds)
def test_the_same_events_give_the_same_decisions(seed):
    world, watch = World(seed), Watch()
    job = world.job(hedge=0.05)
    run_virtually(job, world.workers, world.ending, watch=watch)
    again = ChunkScheduler(job)
    assert [[_plain(d) for d in again.handle(event)] for event in watch.events] == watch.decisions


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("seed", range(20))
def test_with_retries_crashes_cost_no_chunk(seed, raw):
    rng = random.Random(seed)

    def ending(call, now):
        return Ending(0.1 * rng.random(), Loss.CRASHED if rng.random() < 0.1 else None)

    watch = Watch()
    run_virtually(coded(30, 4, 6, 6, raw=raw, retries=8), 6, ending, watch=watch)
    assert {decode.outcome for decode in watch.decoded.values()} <= {Outcome.QUORUM, Outcome.EXACT}
    assert watch.groups == 30


@pytest.mark.parametrize("raw", [True, False])
def test_where_answers_were_not_enough_after_all_late_calls_are_hedged(raw):
    scheduler = ChunkScheduler(coded(1, 1, 4, 2, raw=raw, rule=Decodable(), hedge=0.05))
    for worker in range(5):
        scheduler.handle(Joined(0.0, worker))
    scheduler.handle(Answered(0.1, 1, 0.1))
    assert scheduler.handle(Answered(0.1, 2, 0.1))[-1] == Decode(0, Outcome.DECODABLE, False)
    assert scheduler.handle(Decoded(0.1, 0, enough=False)) == []
    decisions = []
    while not decisions:
        decisions = scheduler.handle(Tick(scheduler.wake))
    (hedge,) = decisions
    assert hedge.call.slot == (0 if raw else 4)
    assert scheduler.handle(Answered(9.0, hedge.call.number, 0.1))[-1].chunk == 0


@pytest.mark.parametrize("often", [1, 99])
def test_a_worker_that_has_had_a_task_gets_it_again_once_all_others_are_late(often):
    """Of four workers three have stopped, and the other has raised for the second of two tasks."""
    raised = []

    def ending(call, now):
        if call.worker != 1:
            return Ending(math.inf)
        if call.slot % 2 and len(raised) < often:
            raised.append(call)
            return Ending(0.01, Loss.RAISED)
        return Ending(0.01)

    job = replace(
        coded(1, 2, 4, 4, rule=Decodable(), hedge=0.05),
        own={slot: slot % 2 for slot in range(4)},
        decodable=lambda chunk, slots: len({slot % 2 for slot in slots}) == 2,
    )
    timeline = run_virtually(job, 4, ending)
    assert timeline.outcome is (Outcome.DECODABLE if often == 1 else Outcome.NONE_RUNNING)
    assert timeline.seconds < 10.0


@pytest.mark.parametrize("loss", [Loss.CRASHED, Loss.TIMED_OUT])
def test_a_slot_that_never_answers_is_not_hedged_for_ever(loss):
    """Its first call never ends, and all others are lost, after so long that there is always another one."""

    def ending(call, now):
        if call.slot:
            return Ending(0.05)
        lost = call.kind is not Kind.FIRST and loss is Loss.CRASHED
        return Ending(0.5 * (call.number % 3 + 1), loss) if lost else Ending(math.inf)

    job = coded(1, 2, 4, 4, hedge=200.0)
    if loss is Loss.TIMED_OUT:
        job = replace(job, call_timeout=5.0)
    timeline = run_virtually(job, 4, ending)
    assert timeline.outcome in (Outcome.NONE_RUNNING, Outcome.UNSATISFIABLE)
    assert timeline.hedges < 30
    assert timeline.seconds < 30.0


@pytest.mark.parametrize("need", [4, 6])
def test_without_retries_a_crash_is_a_missing_answer(need):
    def ending(call, now):
        return Ending(0.1, Loss.CRASHED if call.slot in (1, 3) else None)

    watch = Watch()
    timeline = run_virtually(coded(5, 2, 6, need, retries=0), 6, ending, watch=watch)
    enough = need == 4
    assert timeline.outcome is (Outcome.QUORUM if enough else Outcome.UNSATISFIABLE)
    assert all(decode.final for decode in watch.decoded.values())


def test_a_mixture_that_raises_is_not_made_again_but_inputs_are_sent():
    def ending(call, now):
        return Ending(0.1, Loss.RAISED if call.slot in (0, 1) else None)

    kinds = []

    def watch(scheduler, event, decisions):
        kinds.extend((d.call.kind, d.call.slot) for d in decisions if isinstance(d, Start))

    timeline = run_virtually(coded(1, 2, 6, 5, raw=False), 6, ending, watch=watch)
    assert timeline.outcome in (Outcome.QUORUM, Outcome.EXACT)
    assert kinds[6:] == [(Kind.RETRY, 6), (Kind.RETRY, 7)]


@pytest.mark.parametrize(("retries", "calls"), [(2, 6 + 2), (0, 6)])
def test_inputs_are_sent_once_where_the_function_fails_for_all_mixtures(retries, calls):
    watch = Watch()
    job = replace(coded(1, 2, 6, 4, raw=False), retries=retries)
    timeline = run_virtually(job, 6, lambda call, now: Ending(0.1, Loss.RAISED), watch=watch)
    assert timeline.outcome is Outcome.UNSATISFIABLE
    assert timeline.calls == calls


@pytest.mark.parametrize("stopped", [1, 3])
def test_stopped_workers_hold_up_no_chunk(stopped):
    def ending(call, now):
        # Its engine ends a worker whose call is abandoned, and starts it again.
        return Ending(math.inf if call.worker < stopped and call.number < 8 else 0.1)

    timeline = run_virtually(coded(200, 4, 8, 7), 8, ending)
    assert timeline.outcome in (Outcome.QUORUM, Outcome.EXACT)
    assert timeline.seconds < 24.0  # 200 chunks of 0.1 s


@pytest.mark.parametrize(("raw", "slot"), [(True, 2), (False, 2)])
def test_a_late_slot_is_sent_again_if_that_takes_fewer_calls_than_inputs(raw, slot):
    starts = []

    def ending(call, now):
        return Ending(60.0 if call.slot == slot and call.kind is Kind.FIRST else 0.1)

    def watch(scheduler, event, decisions):
        starts.extend(d.call for d in decisions if isinstance(d, Start))

    timeline = run_virtually(
        coded(1, 4, 4, 4, raw=raw, rule=Decodable(), hedge=0.05), 4, ending, watch=watch
    )
    assert timeline.outcome is Outcome.DECODABLE
    assert timeline.seconds < 5.0
    hedge = starts[-1]
    assert (hedge.kind, hedge.slot, timeline.hedges) == (Kind.HEDGE, slot, 1)
    assert hedge.worker != starts[slot].worker


@pytest.mark.slow
def test_over_many_draws_a_job_ends_no_later_with_hedges_than_without():
    def seconds(seed, hedge):
        rng = random.Random(seed)
        times = {}

        def ending(call, now):
            key = (call.begin, call.slot, call.kind)
            late = 3.0 * (rng.random() < 0.1)
            return Ending(times.setdefault(key, 0.1 + 0.1 * rng.random() + late))

        return run_virtually(coded(12, 4, 6, 5, size=1, hedge=hedge), 6, ending).seconds

    hedged = [seconds(seed, 0.05) for seed in range(200)]
    plain = [seconds(seed, None) for seed in range(200)]
    assert mean(hedged) < mean(plain)


def test_after_a_time_given_all_missing_inputs_are_sent_within_the_number_given():
    def ending(call, now):
        return Ending(60.0 if call.slot in (1, 2, 3) and call.kind is Kind.FIRST else 0.1)

    job = coded(1, 4, 4, 4, rule=Everyone(), after=1.0, most=2, hedge=None)
    hedges = []

    def watch(scheduler, event, decisions):
        calls = (d.call for d in decisions if isinstance(d, Start))
        hedges.extend((event.now, call.slot) for call in calls if call.kind is Kind.HEDGE)

    run_virtually(job, 6, ending, watch=watch)
    assert hedges == [(1.0, 1), (1.0, 2)]


def test_bound_slots_run_on_their_own_workers():
    seen = []

    def ending(call, now):
        seen.append((call.slot, call.worker))
        return Ending(0.1)

    run_virtually(coded(7, 2, 6, 6, bound=True, size=7), 4, ending)
    assert sorted(seen) == [(slot, slot % 4) for slot in range(6)]


def test_a_deadline_ends_every_chunk_and_starts_no_more():
    watch = Watch()
    timeline = run_virtually(
        coded(100, 2, 4, 4, size=1, rule=Quorum(4) & Decodable() | Deadline(1.05)),
        4,
        lambda call, now: Ending(0.5 if call.slot else 0.1),
        watch=watch,
    )
    assert timeline.outcome is Outcome.DEADLINE
    assert timeline.seconds == 1.05
    assert watch.groups < 100
    late = [d for d in watch.decoded.values() if d.outcome is Outcome.DEADLINE]
    assert late
    assert all(decode.final for decode in late)


def started(job: CodedJob, workers: int) -> tuple[ChunkScheduler, list]:
    scheduler, out = ChunkScheduler(job), []
    for worker in range(workers):
        out += scheduler.handle(Joined(0.0, worker, more=worker < workers - 1))
    return scheduler, [d.call for d in out if isinstance(d, Start)]


def test_a_first_call_is_late_by_what_came_before_that_of_another_worker():
    """Workers of a cluster import before the call itself begins, in which nothing takes time."""
    scheduler, calls = started(coded(1, 2, 4, 4, rule=Everyone()), 4)
    scheduler.handle(Answered(0.050, calls[0].number, 0.0, began=0.049))
    assert scheduler.wake > 0.1
    assert scheduler.handle(Tick(0.099)) == []
    hedges = [one for one in scheduler.handle(Tick(scheduler.wake)) if isinstance(one, Start)]
    assert [(one.call.worker, one.call.kind) for one in hedges] == [(0, Kind.HEDGE)]


def test_a_chunk_that_could_not_be_decoded_waits_for_more_answers():
    scheduler, calls = started(coded(1, 2, 4, 2, hedge=None), 4)
    out = [scheduler.handle(Answered(0.1, calls[slot].number, 0.1)) for slot in (0, 1)]
    assert isinstance(out[0][0], Take)
    assert out[1][-1] == Decode(0, Outcome.QUORUM, final=False)
    assert scheduler.handle(Decoded(0.2, 0, enough=False)) == []
    assert scheduler.handle(Tick(0.3)) == []  # not again for the same answers
    again = scheduler.handle(Answered(0.4, calls[2].number, 0.4))
    assert again[-1] == Decode(0, Outcome.QUORUM, final=False)
    last = scheduler.handle(Decoded(0.5, 0, enough=True))
    assert [type(d) for d in last] == [Abandon, Ended]
    assert last[-1].outcome is Outcome.QUORUM


def test_an_answer_that_is_not_used_counts_no_more_and_its_slot_is_sent_elsewhere():
    scheduler, calls = started(coded(1, 2, 4, 4, hedge=None, retries=2), 4)
    for slot in range(4):
        out = scheduler.handle(Answered(0.1, calls[slot].number, 0.1))
    assert isinstance(out[-1], Decode)
    out = scheduler.handle(Decoded(0.2, 0, enough=False, unused=frozenset({3})))
    [start] = out
    assert start.call.slot == 3
    assert start.call.worker != calls[3].worker


def test_a_slot_whose_answers_are_not_used_is_sent_again_as_often_as_one_that_crashes():
    scheduler, calls = started(coded(1, 2, 4, 4, hedge=None, retries=1), 6)
    for call in calls[:4]:
        scheduler.handle(Answered(0.1, call.number, 0.1))
    [again] = scheduler.handle(Decoded(0.2, 0, enough=False, unused=frozenset({3})))
    scheduler.handle(Answered(0.3, again.call.number, 0.1))
    out = scheduler.handle(Decoded(0.4, 0, enough=False, unused=frozenset({3})))
    assert [type(decision) for decision in out] == [Decode]
    assert out[0].final


def test_what_a_chunk_was_decoded_to_may_be_another_outcome():
    scheduler, calls = started(coded(1, 2, 4, 2, hedge=None), 4)
    for slot in (0, 1):
        scheduler.handle(Answered(0.1, calls[slot].number, 0.1))
    out = scheduler.handle(Decoded(0.2, 0, enough=True, outcome=Outcome.EXACT))
    assert out[-1].outcome is Outcome.EXACT


def test_slots_that_are_at_workers_run_there():
    seen = []

    def ending(call, now):
        seen.append((call.slot, call.worker))
        return Ending(0.1)

    run_virtually(coded(1, 2, 4, 4, where=lambda slot: 3 - slot), 4, ending)
    assert sorted(seen) == [(0, 3), (1, 2), (2, 1), (3, 0)]


def test_a_call_that_is_taken_back_does_not_go_to_the_same_worker_again():
    """Which has stopped, before it had the function."""
    scheduler, calls = started(coded(1, 3, 3, 3), 3)
    for call in (calls[0], calls[2]):
        scheduler.handle(Answered(0.1, call.number, 0.1))
    decisions = scheduler.handle(Tick(2.1, ((calls[1].number, 2.1),)))
    assert decisions == [Withdraw(calls[1])]
    (again,) = scheduler.handle(CallFailed(2.2, calls[1].number, Loss.NOT_STARTED))
    assert again.call.slot == calls[1].slot
    assert again.call.worker != calls[1].worker


def test_a_call_that_had_not_begun_runs_on_any_worker():
    scheduler, calls = started(coded(1, 2, 4, 4, hedge=None), 4)
    out = scheduler.handle(CallFailed(0.1, calls[2].number, Loss.NOT_STARTED))
    [start] = out
    assert (start.call.slot, start.call.worker) == (2, calls[2].worker)


@drawn(50, 200, seeds, st.sampled_from([1, 2, 5]))
def test_a_job_that_grows_decodes_every_group_once(seed, size):
    world = World(seed)
    rng, left, known = random.Random(seed + 1), world.groups, []

    def more(wanted):
        nonlocal left
        assert not known
        groups = min(left, wanted + rng.randint(0, 3))
        left -= groups
        known.extend([True] * (left == 0))
        return rng.choice([0.0, 0.5]), groups, left == 0

    sizes = []

    def watch(scheduler, event, decisions):
        sizes.extend(d.call.groups for d in decisions if isinstance(d, Start))

    job = replace(world.job(retries=2), groups=0, more=True, size=size)
    timeline = run_virtually(job, world.workers, world.ending, more=more, watch=watch)
    assert left == 0
    taken = {group for call in timeline.taken for group in range(call.begin, call.end)}
    if world.crashes == world.raises == 0.0:
        assert taken == set(range(world.groups))
    short = world.groups % size
    assert set(sizes) <= {size, short}, "a chunk waits until it is whole, but for the last"


@pytest.mark.parametrize("rule", [Everyone(), Quorum(4)])
def test_a_hedge_whose_worker_has_stopped_too_is_sent_again(rule):
    def ending(call, now):
        return Ending(math.inf if call.worker in (0, 4) else 0.1)

    timeline = run_virtually(coded(1, 4, 4, 4, rule=rule), 6, ending)
    assert timeline.hedges == 2
    assert timeline.seconds < 1.0


def test_everyone_is_waited_for_though_hedges_made_every_row_exact():
    def ending(call, now):
        late = call.slot == 4 or (call.slot == 0 and call.kind is Kind.FIRST)
        return Ending(3.0 if late else 0.1)

    timeline = run_virtually(coded(1, 4, 5, 3, rule=Everyone()), 7, ending)
    assert timeline.hedges
    assert (timeline.outcome, timeline.seconds) == (Outcome.EVERYONE, 3.0)


def test_a_rule_out_of_reach_ends_a_chunk_once_no_more_rows_may_come_exact():
    def ending(call, now):
        return Ending(60.0 if call.slot == 4 else 0.1, Loss.RAISED if call.slot == 0 else None)

    job = coded(1, 4, 5, 3, rule=Quorum(5), partial=True, retries=0, hedge=None)
    timeline = run_virtually(job, 5, ending)
    assert (timeline.outcome, timeline.seconds) == (Outcome.UNSATISFIABLE, 0.1)
