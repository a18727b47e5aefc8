"""The scheduler in virtual time: what holds whatever workers and rows do."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from functools import partial
from itertools import accumulate
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from codedmap.contracts.stopping import Deadline, Outcome, Share, Slower
from codedmap.execution.call_times import CallTimes
from codedmap.execution.events import (
    Abandon,
    Added,
    Answered,
    Call,
    CallFailed,
    Ended,
    FailRows,
    Job,
    Joined,
    Kind,
    Left,
    Loss,
    More,
    Start,
    Stop,
    Take,
    Tick,
    Withdraw,
)
from codedmap.execution.scheduler import Scheduler
from codedmap.execution.virtual import Ending, Timeline, run_virtually
from codedmap.latency.scheduled import one_by_one

from ..repeats import drawn, first

seeds = st.integers(0, 10_000)


class World:
    """Rows that are slow, raise or crash, and workers that are slow, stop or die, all drawn."""

    def __init__(self, seed: int) -> None:
        rng = self.rng = random.Random(seed)
        self.workers = rng.choice([1, 2, 3, 5, 12])
        self.rows = rng.choice([1, 2, 7, 30, 120])
        self.times = [0.02 * math.exp(rng.gauss(0, 1)) for _ in range(self.rows)]
        if rng.random() < 0.5:
            for row in rng.sample(range(self.rows), max(1, self.rows // 30)):
                self.times[row] += 3.0
        share = rng.choice([0.0, 0.0, 0.05])
        self.raising = {row for row in range(self.rows) if rng.random() < share}
        self.crashing = {row for row in range(self.rows) if rng.random() < share} - self.raising
        self.by_row = rng.random() < 0.5
        self.chance = rng.choice([0.0, 0.0, 0.05, 0.2])
        self.speed = {w: rng.choice([1.0, 1.0, 1.0, 10.0]) for w in range(self.workers)}
        self.ahead = rng.choice([0, 1])
        self.hedge = rng.choice([None, 0.05])
        self.overhead = rng.choice([0.0, 0.05])  # with it, calls are sent ahead
        self.limits = rng.random() < 0.5

    def ending(self, call: Call, now: float) -> Ending:
        rows = range(call.begin, call.end)
        speed = self.speed.get(call.worker, 1.0)
        ends = list(accumulate(self.times[row] * speed for row in rows))
        seconds, done = ends[-1], None
        if self.limits and call.limit <= ends[-2:][0] and self.by_row:
            done = next(k for k, end in enumerate(ends, 1) if end >= call.limit)
            seconds, rows = ends[done - 1], rows[:done]
        if self.rng.random() < self.chance or not self.crashing.isdisjoint(rows):
            return Ending(seconds * self.rng.random(), Loss.CRASHED)
        bad = tuple(row - call.begin for row in rows if row in self.raising)
        if bad and not self.by_row:
            return Ending(seconds, Loss.RAISED)
        return Ending(seconds, None, bad, done)

    def run(self, job: Job, **others) -> Timeline:
        return run_virtually(job, self.workers, self.ending, overhead=self.overhead, **others)

    def job(self, **others) -> Job:
        return Job(self.rows, hedge=self.hedge, ahead=self.ahead, **others)


class Watch:
    """Checks after every event what must always hold."""

    def __init__(self) -> None:
        self.events: list = []
        self.decisions: list = []
        self.in_flight: set[int] = set()
        self.started = 0
        self.hedged: list = []
        """For each hedge the call that it is a part of, or else its own number."""

    def __call__(self, scheduler, event, decisions) -> None:
        self.events.append(event)
        self.decisions.append([_plain(d) for d in decisions])
        if isinstance(event, Answered | CallFailed):
            self.in_flight.remove(event.call)  # every call ends once
        for decision in decisions:
            if isinstance(decision, Start):
                assert decision.call.number == self.started
                self.in_flight.add(decision.call.number)
                self.started += 1
                if decision.call.kind is Kind.HEDGE:
                    self.hedged.append(decision.call.piece.whole or decision.call.number)
        if isinstance(event, Joined) and event.more:
            assert not decisions
        elif scheduler.outcome is None:
            assert set(scheduler._calls) == self.in_flight
            assert scheduler._unfinished > 0 or scheduler._more
            fresh = scheduler._next < scheduler.job.groups
            for worker in scheduler._idle:
                assert not fresh, "a worker idles while rows wait"
                for piece in scheduler._waiting:
                    assert worker in piece.held, "a worker idles while a call waits that it may run"


def _plain(decision) -> tuple:
    call = getattr(decision, "call", None)
    what = () if call is None else (call.number, call.worker, call.begin, call.end, call.kind)
    return (type(decision).__name__, *what, *[v for v in decision if v is not call])


def took(call) -> Take:
    """That all groups of a call count."""
    return Take(call, (range(call.begin, call.end),))


def outcome_of_rows(timeline, rows: int) -> tuple[list[int], dict[int, FailRows]]:
    """How often each row was taken, and why rows failed."""
    taken = [0] * rows
    for call in timeline.taken:
        for row in range(call.begin, call.end):
            taken[row] += 1
    failed = {}
    for failure in timeline.failed:
        for row in range(failure.begin, failure.end):
            assert row not in failed
            failed[row] = failure
    return taken, failed


@drawn(80, 300, seeds)
def test_every_row_ends_exact_or_failed_for_its_own_reason(seed):
    world, watch = World(seed), Watch()
    timeline = world.run(world.job(), watch=watch)
    taken, failed = outcome_of_rows(timeline, world.rows)
    assert timeline.outcome is (Outcome.COMPLETE if failed else Outcome.EXACT)
    # Where little is known of other calls, a row whose calls crash by chance may be blamed.
    blamed = set(failed) - world.raising - world.crashing
    assert len(blamed) <= (world.chance > 0.0)  # one in 26 of the 10,001 worlds
    assert all(failed[row].crashes >= 3 for row in blamed)
    assert set(failed) - blamed == world.raising | world.crashing
    for row in range(world.rows):
        by_itself = row in failed and failed[row].loss is Loss.RAISED and world.by_row
        assert taken[row] == (1 if row not in failed or by_itself else 0)
    for row in world.raising:
        assert failed[row].loss is Loss.RAISED
    for row in world.crashing:
        assert failed[row].loss is Loss.CRASHED
        assert failed[row].crashes >= 3


@drawn(50, 200, seeds)
def test_the_same_events_give_the_same_decisions(seed):
    world, watch = World(seed), Watch()
    world.run(world.job(), watch=watch)
    again = Scheduler(world.job())
    for event, decisions in zip(watch.events, watch.decisions, strict=True):
        assert [_plain(d) for d in again.handle(event)] == decisions


@pytest.mark.parametrize("began", [(), ((1, 0.1), (2, 0.1))])
def test_no_call_is_late_for_the_time_in_which_the_program_was_stopped(began):
    scheduler = Scheduler(Job(3, call_timeout=1.0, size=1))
    for event in (Joined(0.0, 0), Joined(0.0, 1), Joined(0.0, 2)):
        scheduler.handle(event)
    scheduler.handle(Answered(0.1, 0, 0.1))
    assert not scheduler.handle(Tick(9.9, began, 9.6))
    assert scheduler.wake is not None
    decisions = scheduler.handle(Tick(10.8))  # 0.3 s before it was stopped, and 0.9 after
    assert [type(d) for d in decisions[:2]] == [Abandon, FailRows]


@drawn(50, 200, seeds)
def test_workers_come_and_go(seed):
    world, watch = World(seed), Watch()
    world.raising, world.crashing, world.chance = set(), set(), 0.0
    rng = random.Random(seed)
    changes: list = []
    now = 0.0
    alive = list(range(world.workers))
    for number in range(rng.randrange(8)):
        now += rng.expovariate(3.0)
        if len(alive) > 1 and rng.random() < 0.6:
            changes.append(Left(now, alive.pop(rng.randrange(len(alive)))))
        else:
            alive.append(100 + number)
            changes.append(Joined(now, alive[-1]))
    timeline = world.run(world.job(), changes=changes, watch=watch)
    taken, failed = outcome_of_rows(timeline, world.rows)
    for row in range(world.rows):
        # Whoever dies during three calls of a row alone, in a job where little else dies, is blamed.
        assert taken[row] == (row not in failed)
        assert row not in failed or failed[row].crashes >= 3
    assert len(failed) <= 1


@drawn(50, 200, seeds)
def test_extra_calls_stay_within_the_budget(seed):
    world, watch = World(seed), Watch()
    world.hedge = 0.05
    timeline = world.run(world.job(), watch=watch)
    others = timeline.calls - timeline.hedges
    assert timeline.hedges <= max(8, 0.05 * others + 1)
    # The parts of a late call count as one hedge.
    assert len(set(watch.hedged)) <= timeline.hedges <= len(watch.hedged)


@settings(max_examples=100)
@given(seeds)
def test_copies_of_a_row_never_share_a_worker(seed):
    world = World(seed)
    world.hedge = 0.05

    def check(scheduler, event, decisions) -> None:
        for worker in scheduler._workers.values():
            pieces = [id(call.piece) for call in worker.calls]
            assert len(pieces) == len(set(pieces))

    world.run(world.job(), watch=check)


def late(seed: int, hedge: float | None) -> float:
    rng = random.Random(seed)
    draws: dict[int, float] = {}

    def ending(call, now):
        # The same first calls with and without hedges.
        if call.kind is Kind.FIRST and call.begin not in draws:
            draws[call.begin] = 0.2 + 3.0 * (random.Random(f"{seed} {call.begin}").random() < 0.05)
            return Ending(draws[call.begin])
        return Ending(0.2 + 3.0 * (rng.random() < 0.05))

    return run_virtually(Job(24, hedge=hedge, ahead=0, size=1), 12, ending).seconds


def test_jobs_end_sooner_with_hedges_than_without():
    pairs = [(late(seed, 0.05), late(seed, None)) for seed in range(200)]
    assert all(with_ <= without + 1e-9 for with_, without in pairs if without < 1.0)
    with_, without = (sum(column) / len(pairs) for column in zip(*pairs, strict=True))
    assert with_ < 0.5 * without


def test_a_row_that_crashes_is_told_from_chance():
    """Of 216 rows on workers of which 5 % crash, some row crashes twice in two runs of five."""
    for seed in range(40):
        rng = random.Random(seed)

        def ending(call, now, rng=rng):
            return Ending(0.1, Loss.CRASHED if rng.random() < 0.05 else None)

        timeline = run_virtually(Job(216, size=1), 12, ending)
        assert timeline.outcome is Outcome.EXACT


def test_where_every_call_crashes_rows_fail_after_their_retries():
    timeline = run_virtually(Job(5), 3, lambda call, now: Ending(0.01, Loss.CRASHED))
    assert timeline.outcome is Outcome.COMPLETE
    assert [f.crashes for f in timeline.failed] == [3] * 5


def test_where_every_call_crashes_the_first_row_fails_soon_however_many_there_are():
    timeline = run_virtually(Job(1_000), 4, lambda call, now: Ending(0.01, Loss.CRASHED))
    assert timeline.outcome is Outcome.COMPLETE
    assert timeline.failed[0].call.number < 40  # a worker may take seconds to start
    assert {f.crashes for f in timeline.failed} <= {3, 4}


def test_a_crash_soon_after_its_start_makes_no_other_call_late():
    def ending(call, now):
        return Ending(0.1, Loss.CRASHED) if call.number == 3 else Ending(60.0)

    timeline = run_virtually(Job(12, size=1, ahead=0), 24, ending)
    assert timeline.outcome is Outcome.EXACT
    assert timeline.hedges == 0


@pytest.mark.parametrize("ahead", [0, 1])
@pytest.mark.parametrize("broken", [1, 2])
def test_rows_of_workers_that_crash_at_once_wait_for_those_that_compute(ahead, broken):
    """As long as nothing is answered those may hang as well, but crashes say nothing of how long a call takes."""

    def ending(call, now):
        return Ending(0.1, Loss.CRASHED) if call.worker < broken else Ending(3600.0)

    timeline = run_virtually(Job(4, ahead=ahead), 4, ending)
    assert timeline.outcome is Outcome.EXACT
    assert timeline.seconds == pytest.approx(2 * 3600.0, abs=1.0)


@pytest.mark.parametrize(("broken", "workers", "rows"), [(3, 6, 6), (4, 12, 300), (30, 70, 100)])
@pytest.mark.parametrize("size", first(1, [1, None]))
def test_workers_that_always_crash_fail_no_row(broken, workers, rows, size):
    """They take call after call, before the others have answered their first."""

    def ending(call, now):
        return Ending(0.1, Loss.CRASHED) if call.worker < broken else Ending(10.0)

    timeline = run_virtually(Job(rows, size=size), workers, ending)
    assert timeline.outcome is Outcome.EXACT
    assert timeline.seconds < 10.0 * (rows / (workers - broken) + 3)


def test_rows_that_crash_fail_beside_workers_that_always_do():
    def ending(call, now):
        crashes = call.worker < 3 or call.begin == 20
        return Ending(0.1, Loss.CRASHED) if crashes else Ending(10.0)

    timeline = run_virtually(Job(60, size=1), 8, ending)
    _, failed = outcome_of_rows(timeline, 60)
    assert {row: f.loss for row, f in failed.items()} == {20: Loss.CRASHED}


def test_without_retries_no_row_is_sent_twice():
    calls = []

    def ending(call, now):
        calls.append((call.begin, call.end))
        return Ending(0.01, Loss.CRASHED if call.begin <= 20 < call.end else None)

    timeline = run_virtually(Job(60, retries=0, hedge=None), 3, ending)
    rows = [row for begin, end in calls for row in range(begin, end)]
    assert sorted(rows) == list(range(60))
    assert {f.loss for f in timeline.failed} == {Loss.CRASHED}


def test_a_call_that_never_ends_fails_alone_by_its_timeout():
    def ending(call, now):
        return Ending(math.inf if 33 in range(call.begin, call.end) else 0.01 * call.groups)

    timeline = run_virtually(Job(100, call_timeout=5.0), 4, ending)
    _, failed = outcome_of_rows(timeline, 100)
    assert set(failed) == {33}
    assert failed[33].loss is Loss.TIMED_OUT


def test_a_stopped_worker_is_worked_around():
    def ending(call, now):
        return Ending(math.inf if call.worker == 2 and now > 0.5 else 0.1 * call.groups)

    timeline = run_virtually(Job(100), 4, ending)
    assert timeline.outcome is Outcome.EXACT
    assert timeline.seconds < 1.3 * 100 * 0.1 / 3


@pytest.mark.parametrize("rows", [8, 200])
def test_a_call_behind_a_slow_row_is_taken_back(rows):
    """It is made next by the other worker, while rows are left to start and when none is."""

    def ending(call, now):
        return Ending(100.0 if call.begin == 4 else 0.1)

    job = Job(rows, ahead=1, size=1, hedge=None)
    timeline = run_virtually(job, 2, ending, grace=0.0, overhead=0.05)
    others = {call.begin: call for call in timeline.taken if call.begin > 4}
    assert {call.worker for call in others.values()} == {1 - timeline.taken[-1].worker}
    assert max(others[row].started for row in (5, 6, 7)) < 1.5


@pytest.mark.parametrize("seeds", first(1, [20, 100]))
def test_slow_rows_that_stand_together_do_not_wait_for_each_other(seeds):
    """One that was sent ahead behind another is begun once that is late; long rows are not sent ahead."""
    for seed in range(seeds):
        rng = random.Random(seed)
        times = [0.1 * math.exp(rng.gauss(0, 0.5)) for _ in range(216)]
        first = rng.randrange(211)
        for row in range(first, first + 6):
            times[row] += 3.0
        ending = partial(lambda times, call, now: Ending(times[call.begin]), times)
        for overhead, longer in ((0.001, 0.01), (0.02, 1.0)):
            ahead, others = (
                run_virtually(Job(216, size=1, ahead=n, hedge=None), 12, ending, overhead=overhead)
                for n in (1, 0)
            )
            assert ahead.seconds < others.seconds + longer


@pytest.mark.parametrize("batches", [False, True])
@pytest.mark.parametrize("slow", ["rows", "worker"])
def test_a_call_ends_at_its_limit_and_all_workers_share_the_rest(slow, batches):
    """Six rows of 3 s in one call took 18 s, and each call of a worker 50 times slower 10 s."""
    seconds = np.full(2000, 0.02)
    if slow == "rows":
        seconds[1000:1006] = 3.0

    def ending(call, now):
        speed = 50.0 if slow == "worker" and call.worker == 3 else 1.0
        return one_by_one(call, seconds[call.begin : call.end] * speed)

    job, watch = Job(2000, batches=batches), Watch()
    timeline = run_virtually(job, 4, ending, overhead=0.005, watch=watch)
    assert outcome_of_rows(timeline, 2000)[0] == [1] * 2000
    assert batches or max(call.groups for call in timeline.taken) == 10
    assert max(seconds[call.begin : call.end].sum() for call in timeline.taken) < 7.0
    ideal = seconds.sum() / 4 if slow == "rows" else seconds.sum() / 3
    assert timeline.seconds < 1.1 * ideal + (4.0 if batches else 2.0)
    assert sum(timeline.begun) < 2020
    again = Scheduler(job)
    for event, decisions in zip(watch.events, watch.decisions, strict=True):
        assert [_plain(d) for d in again.handle(event)] == decisions


@pytest.mark.parametrize(("batches", "each", "least"), [(False, 0.005, 290), (True, 0.02, 90)])
def test_calls_answer_before_the_deadline_with_what_they_have(batches, each, least):
    """What was computed in calls that ran at the deadline was lost: of 480 rows that fit in 136 were exact, of 120 72."""
    job = Job(5000, stop=Deadline(0.3), batches=batches)
    timeline = run_virtually(
        job, 8, lambda c, now: one_by_one(c, np.full(c.groups, each)), overhead=0.01
    )
    assert timeline.outcome is Outcome.DEADLINE
    assert sum(call.groups for call in timeline.taken) > least


@pytest.mark.parametrize("workers", [12, 24])
@pytest.mark.parametrize("first", [300, 1000, 1700])
def test_slow_neighbours_are_computed_at_the_same_time(first, workers):
    """Ten rows of a second in two or three calls: copies of these held workers that their rows waited for."""
    seconds = np.full(2000, 0.005)
    seconds[first : first + 10] = 1.0

    def ending(call, now):
        return one_by_one(call, seconds[call.begin : call.end])

    timeline = run_virtually(Job(2000), workers, ending, overhead=0.001)
    assert outcome_of_rows(timeline, 2000)[0] == [1] * 2000
    # After the other rows, or while they go on, each has a worker of its own; it was two seconds and more.
    assert timeline.seconds < {12: 1.1 + 1.3, 24: 0.5 + 1.3}[workers]


@pytest.mark.parametrize(
    ("late", "part", "from_late"),
    [
        ("slow", "slow", True),
        ("slow", "crashes", True),
        ("slow", "raises", True),
        ("crashes", "slow", False),
        ("raises", "slow", False),
        ("raises", "raises", None),
        ("hangs", "slow", False),
        ("hangs", "crashes", False),
        ("crashes", "raises before", None),
    ],
)
def test_the_first_answer_to_a_row_of_a_late_call_counts(late, part, from_late):
    """One row takes a second, in its call and in the call of a part of that."""
    row, begun = 1400, []

    def ending(call, now):
        if not call.begin <= row < call.end:
            return Ending(0.001 * call.groups)
        again = any(call.kind is other.kind for _, other in begun)
        begun.append((now, call))
        how = late if call.kind is Kind.FIRST else part
        place = row - call.begin
        if how == "crashes" and not again:
            return Ending(0.5, Loss.CRASHED)
        seconds = {"hangs": math.inf, "raises": 0.99, "raises before": 0.401}.get(how, 1.0)
        raised = (place,) if "raises" in how else ()
        return Ending(seconds, None, raised, place + 1)

    timeline = run_virtually(Job(2000), 8, ending, overhead=0.0001)
    (at, whole), (hedged_at, hedge), *_ = begun
    assert (whole.kind, hedge.kind) == (Kind.FIRST, Kind.HEDGE)
    assert hedge.end - hedge.begin < whole.piece.end - whole.begin
    taken, failed = outcome_of_rows(timeline, 2000)
    assert taken == [1] * 2000
    assert set(failed) == (set() if from_late is not None else {row})
    if from_late is not None:
        [counted] = [call for call in timeline.taken if call.begin <= row < call.end]
        assert (counted.number == whole.number) is from_late
    if from_late is not None and part != "crashes":
        assert timeline.seconds == pytest.approx((at if from_late else hedged_at) + 1.0, abs=0.01)


def test_a_late_call_is_given_up_once_its_parts_are_answered():
    """It never ends, and its worker may be needed."""
    begun, given_up = [], {}

    def ending(call, now):
        rows = range(call.begin, call.end)
        if 1400 in rows:
            begun.append((now, call))
            slow = math.inf if call.kind is Kind.FIRST else 1.0
            return Ending(slow, None, (), 1400 - call.begin + 1)
        return Ending(3.0 if 1999 in rows else 0.001 * call.groups)

    def watch(scheduler, event, decisions):
        given_up.update((d.call.number, event.now) for d in decisions if isinstance(d, Abandon))

    timeline = run_virtually(Job(2000), 8, ending, overhead=0.0001, watch=watch)
    (_, whole), (at, _), *_ = begun
    assert timeline.seconds > at + 1.5
    assert given_up[whole.number] == pytest.approx(at + 1.0, abs=0.01)


def test_copies_of_a_call_that_ended_at_its_limit_are_given_up():
    scheduler = Scheduler(Job(100, ahead=0))
    scheduler.handle(Joined(0.0, 0, more=True))
    scheduler.handle(Joined(0.0, 1))
    scheduler.handle(Answered(0.01, 0, 0.01))
    [late] = (call for call in scheduler._calls.values() if call.groups > 1)
    assert late.limit == pytest.approx(0.02 * late.groups)
    now = 0.01
    while not scheduler.hedges:  # the other worker computes all the rest
        now += 0.1
        others = [n for n, call in scheduler._calls.items() if call is not late]
        scheduler.handle(Answered(now, others[0], 0.01) if others else Tick(now))
    [copy] = (call for call in late.piece.copies if call is not late)
    decisions = scheduler.handle(Answered(now + 1.0, late.number, now, (0,), done=1))
    assert [type(d) for d in decisions] == [Abandon, Take, FailRows, Start]
    assert decisions[0].call is copy
    assert (decisions[2].begin, decisions[2].end) == (late.begin, late.end)
    assert late.groups == 1
    assert (decisions[3].call.begin, decisions[3].call.kind) == (late.end, Kind.FIRST)


@pytest.mark.parametrize(
    ("batches", "call", "overhead", "groups", "limit", "step"),
    [
        (True, 0.001, 0.0, 16, 2 * 0.321, 2),
        (True, 0.048, 0.0, 40, 2 * 0.848, 20),
        (True, 0.048, 0.0, 20, math.inf, 1),
        (False, 0.0, 0.0, 16, 2 * 0.32, 1),
        (False, 0.0, 0.1, 16, 1.0, 1),
    ],
)
def test_the_limit_of_a_call_and_the_parts_of_a_batch(batches, call, overhead, groups, limit, step):
    """Twice its usual time, or ten overheads; eight parts, each of eight times what a call takes by itself."""
    scheduler = Scheduler(Job(10_000, batches=batches))
    for rows in [1, 4] * 10:
        scheduler._times.add(rows, call + 0.02 * rows, overhead)
    assert scheduler._limit(groups) == (pytest.approx(limit), step)


def test_the_payload_of_a_call_that_ended_at_its_limit_was_that_of_more_groups():
    scheduler = Scheduler(Job(100, ahead=0))
    scheduler.handle(Joined(0.0, 0))
    scheduler.handle(Answered(0.01, 0, 0.01, nbytes=1031))
    scheduler.handle(Answered(0.5, 1, 0.4, nbytes=10**6, done=1))
    assert scheduler._times.nbytes == 7


@pytest.mark.parametrize(
    ("job", "call", "each"),
    [
        (Job(1000, size=10), 0.0, 0.01),
        (Job(1000, batches=True), 1.0, 0.001),
        (Job(100_000, batches=True), 1e-4, 1e-5),
    ],
    ids=["a size that is given", "a model", "arithmetic"],
)
def test_calls_without_a_limit(job, call, each):
    limits = []

    def ending(c, now):
        limits.append(c.limit)
        return Ending(call + each * c.groups)

    run_virtually(job, 2, ending)
    assert set(limits) == {math.inf}


def test_slow_rows_that_stand_together_are_no_time_of_a_call():
    """Single rows of 80 s had ended and calls of four had not: all would have taken 75 s, and the next 214 rows."""
    times = CallTimes(batches=True)
    for groups, seconds, count in ((1, 2.0, 40), (4, 8.0, 40), (1, 80.0, 30)):
        for _ in range(count):
            times.add(groups, seconds, 0.0)
    assert times.fit()[0] == pytest.approx(3.0)


def test_calls_are_not_sized_by_what_a_worker_compiles_in_its_first():
    """Each took 3 s; 1501 calls were made, of one row for seconds."""
    begun = set()

    def ending(call, now):
        first = call.worker not in begun
        begun.add(call.worker)
        return Ending(3.0 * first + 1e-4 * call.groups)

    timeline = run_virtually(Job(100_000), 4, ending, overhead=0.0005)
    assert timeline.calls < 400
    assert timeline.seconds < 1.1 * (3.0 + 2.5)


def test_short_calls_are_sent_ahead_and_long_ones_are_not():
    """Where the way to a worker takes as long as a call, or a hundredth of it."""
    for seconds, ahead in ((0.1, True), (10.0, False)):
        held = []

        def watch(scheduler, event, decisions, held=held):
            held.append(sum(len(worker.calls) == 2 for worker in scheduler._workers.values()))

        ending = partial(lambda seconds, call, now: Ending(seconds), seconds)
        run_virtually(Job(40, size=1), 4, ending, overhead=0.1, watch=watch)
        assert (max(held) == 4) is ahead
        assert (max(held) > 0) is ahead


def test_the_deadline_ends_the_job_and_its_calls():
    watch = Watch()
    timeline = run_virtually(
        Job(1000, stop=Deadline(2.0)), 4, lambda c, now: Ending(0.1 * c.groups), watch=watch
    )
    assert timeline.outcome is Outcome.DEADLINE
    assert timeline.seconds == pytest.approx(2.0)
    assert watch.decisions[-1][-1] == ("Ended", Outcome.DEADLINE)
    last = {d[1] for d in watch.decisions[-1] if d[0] == "Abandon"}
    assert last == watch.in_flight


def test_calls_grow_with_what_was_seen_and_shrink_towards_the_end():
    sizes = []

    def ending(call, now):
        sizes.append(call.groups)
        return Ending(1e-4 * call.groups)

    run_virtually(Job(20_000), 4, ending, overhead=1e-3)
    assert sizes[:4] == [1] * 4
    assert max(sizes) == pytest.approx(500, rel=0.2)  # 50 overheads
    assert sizes[-5] <= 100  # 10 overheads
    assert len(sizes) < 150


def test_an_answer_in_which_rows_raised_gives_way_to_a_copy():
    """If any copy answers, the row is exact."""
    scheduler = Scheduler(Job(3, size=1, ahead=0))
    for worker in range(3):
        scheduler.handle(Joined(0.0, worker))
    scheduler.handle(Answered(0.1, 1, 0.1))
    scheduler.handle(Answered(0.1, 2, 0.1))
    decisions = scheduler.handle(Tick(50.0))
    hedge = next(d.call for d in decisions if isinstance(d, Start))
    assert (hedge.kind, hedge.begin) == (Kind.HEDGE, 0)
    assert scheduler.handle(Answered(50.1, 0, 50.0, (0,))) == []
    decisions = scheduler.handle(Answered(50.2, hedge.number, 0.1))
    assert decisions == [took(hedge), Ended(Outcome.EXACT)]


def test_the_late_call_is_given_up_when_its_copy_answers():
    scheduler = Scheduler(Job(2, size=1, ahead=0))
    for worker in range(2):
        scheduler.handle(Joined(0.0, worker))
    scheduler.handle(Answered(0.1, 1, 0.1))
    [start] = scheduler.handle(Tick(50.0))
    decisions = scheduler.handle(Answered(50.1, start.call.number, 0.1))
    assert [type(d) for d in decisions] == [Abandon, Take, Ended]
    assert decisions[0].call.number == 0


def test_a_hedge_gives_way_to_a_call_that_must_be_sent_again():
    scheduler = Scheduler(Job(3, size=1, ahead=0))
    for worker in range(3):
        scheduler.handle(Joined(0.0, worker))
    scheduler.handle(Answered(0.1, 2, 0.1))
    [start] = scheduler.handle(Tick(50.0))
    assert start.call.kind is Kind.HEDGE
    other = 1 - start.call.begin
    # Its worker, which it has crashed, is the only one that is free.
    assert scheduler.handle(Left(50.1, other)) == []
    assert scheduler.handle(CallFailed(50.1, other, Loss.CRASHED)) == [Abandon(start.call)]
    [retry] = scheduler.handle(CallFailed(51.1, start.call.number, Loss.ABANDONED))
    assert (retry.call.kind, retry.call.begin, retry.call.worker) == (Kind.RETRY, other, 2)


def test_a_job_without_workers_ends():
    scheduler = Scheduler(Job(3, ahead=0))
    scheduler.handle(Joined(0.0, 0))
    scheduler.handle(Left(0.1, 0))
    decisions = scheduler.handle(CallFailed(0.1, 0, Loss.CRASHED))
    assert decisions[-1] == Ended(Outcome.NONE_RUNNING)


def test_after_the_end_nothing_is_decided():
    scheduler = Scheduler(Job(3, ahead=0))
    scheduler.handle(Joined(0.0, 0))
    assert scheduler.handle(Stop(0.1, Outcome.UNSATISFIABLE))[-1] == Ended(Outcome.UNSATISFIABLE)
    assert scheduler.handle(Answered(0.2, 0, 0.1)) == []


# Who is to blame for a crash ----------------------------------------------------------------------------


def crashing(times: dict[int, int], rows: int, **job):
    """Rows that crash so many times while they run, alone or with others, and why they fail."""
    left = dict(times)

    def ending(call, now):
        for row in range(call.begin, call.end):
            if left.get(row, 0) > 0:
                left[row] -= 1
                return Ending(0.01, Loss.CRASHED)
        return Ending(0.01 * call.groups)

    timeline = run_virtually(Job(rows, hedge=None, ahead=0, **job), 1, ending)
    return outcome_of_rows(timeline, rows)[1]


def needed(share: float) -> int:
    """Crashes in a row that are less likely than one in a million."""
    return next(n for n in range(3, 99) if share**n < 1e-6)


def test_where_nothing_else_crashes_three_crashes_suffice():
    failed = crashing({19: 99}, 20, size=1)
    assert {row: f.crashes for row, f in failed.items()} == {19: 3}


def test_where_other_calls_crash_as_well_more_are_needed():
    chance = dict.fromkeys(range(10), 1)
    failed = crashing({**chance, 19: 99}, 20, size=1)
    assert {row: f.crashes for row, f in failed.items()} == {19: needed(10 / 29)}
    assert needed(10 / 29) == 13


def test_rows_that_crash_twice_and_then_answer_did_so_by_chance():
    chance = {1: 2, 2: 2}
    failed = crashing({**chance, 19: 99}, 20, size=1)
    assert {row: f.crashes for row, f in failed.items()} == {19: needed(4 / 23)}


def test_a_row_that_crashes_thrice_early_is_judged_when_enough_other_calls_have_ended():
    chance = dict.fromkeys(range(60, 200, 20), 1)
    assert crashing({3: 3, **chance}, 200, size=1) == {}
    assert crashing({3: 99}, 200, size=1)[3].crashes == 3


def test_other_rows_that_seem_to_cause_crashes_do_not_count():
    failed = crashing({18: 99, 19: 99}, 20, size=1)
    assert failed[19].crashes <= 4
    assert failed[18].crashes <= 4


def test_there_is_a_limit_however_much_crashes():
    chance = dict.fromkeys(range(1, 19), 2)
    assert needed(36 / 55) > 20
    failed = crashing({**chance, 19: 99}, 20, size=1)
    assert failed[19].crashes == 20


def test_the_calls_in_which_a_row_crashed_with_others_are_its_own():
    failed = crashing({15: 99}, 16, size=8)
    assert {row: f.crashes for row, f in failed.items()} == {15: 3}


def test_a_call_of_several_rows_that_crashes_once_did_so_by_chance():
    # Two halves of the first call, then calls of rows 8 to 15 that are cut until row 15 is alone.
    failed = crashing({0: 1, 15: 99}, 16, size=8)
    assert {row: f.crashes for row, f in failed.items()} == {15: needed(1 / (2 + 3 + 1))}


def test_with_one_retry_two_crashes_suffice():
    assert crashing({19: 99}, 20, size=1, retries=1)[19].crashes == 2


# Single decisions ---------------------------------------------------------------------------------------


def hedged(rows: int = 3) -> tuple[Scheduler, Call]:
    """A scheduler in which the call of row 0 is late and was sent again, all others being done."""
    scheduler = Scheduler(Job(rows, size=1, ahead=0))
    for worker in range(rows):
        scheduler.handle(Joined(0.0, worker))
    for row in range(1, rows):
        scheduler.handle(Answered(0.1, row, 0.1))
    [start] = scheduler.handle(Tick(50.0))
    return scheduler, start.call


def test_an_answer_in_which_rows_raised_counts_if_the_copy_is_lost():
    scheduler, hedge = hedged()
    assert scheduler.handle(Answered(50.1, 0, 50.0, (0,))) == []
    decisions = scheduler.handle(CallFailed(50.2, hedge.number, Loss.RAISED))
    assert [type(d) for d in decisions] == [Take, FailRows, Ended]
    assert decisions[0].call.number == decisions[1].call.number == 0
    assert (decisions[1].begin, decisions[1].end, decisions[1].loss) == (0, 1, Loss.RAISED)


def test_a_call_that_raised_waits_for_its_copy():
    scheduler, hedge = hedged()
    assert scheduler.handle(CallFailed(50.1, 0, Loss.RAISED)) == []
    decisions = scheduler.handle(Answered(50.2, hedge.number, 0.1))
    assert decisions == [took(hedge), Ended(Outcome.EXACT)]


@pytest.mark.parametrize("partly", [False, True])
def test_a_copy_of_a_call_that_raised_is_waited_for_as_long_again_as_it_has_run(partly):
    """A call of 0.1 s is late after 0.325 s, and waited for four times as long at most."""
    scheduler, hedge = hedged()
    raised = CallFailed(60.0, hedge.number, Loss.RAISED)
    assert scheduler.handle(Answered(60.0, hedge.number, 10.0, (0,)) if partly else raised) == []
    assert 61.0 < scheduler.wake < 62.0 + 40.0 * partly  # where it answered, a call takes 10 s
    assert scheduler.handle(Tick(60.9)) == []
    decisions = scheduler.handle(Tick(scheduler.wake))
    kinds = [Abandon, Take, FailRows, Ended] if partly else [Abandon, FailRows, Ended]
    assert [type(d) for d in decisions] == kinds
    assert decisions[-2].call is hedge
    assert decisions[-1].outcome is Outcome.COMPLETE


@pytest.mark.parametrize("budget", [0.05, 0.0])
def test_where_a_copy_crashed_the_other_goes_on_beside_a_new_one(budget):
    scheduler, hedge = hedged(6)
    if not budget:  # the hedges are used up
        scheduler.hedges = 8
    decisions = scheduler.handle(CallFailed(60.0, hedge.number, Loss.CRASHED))
    decisions += scheduler.handle(Tick(65.0))
    assert {type(d) for d in decisions} == {Start}  # row 0 is not given up where it runs
    again = decisions[0].call
    assert (again.begin, again.kind) == (0, Kind.HEDGE if budget else Kind.RETRY)
    decisions = scheduler.handle(Answered(100.0, 0, 100.0))
    assert [d.call.number for d in decisions if isinstance(d, Take)] == [0]
    assert decisions[-1] == Ended(Outcome.EXACT)


@pytest.mark.parametrize("budget", [0.05, 0.0])
def test_where_a_copy_had_not_begun_the_other_is_not_waited_for_alone(budget):
    """Its worker left, say; the first call may never end."""
    scheduler, hedge = hedged(6)
    if not budget:
        scheduler.hedges = 8
    scheduler.handle(Left(60.0, hedge.worker))
    decisions = scheduler.handle(CallFailed(60.0, hedge.number, Loss.NOT_STARTED))
    decisions += scheduler.handle(Tick(65.0))
    assert {(type(d), d.call.begin) for d in decisions} == {(Start, 0)}


def test_a_copy_that_has_just_begun_has_the_time_of_a_usual_call():
    scheduler, _ = hedged()
    assert scheduler.handle(CallFailed(50.001, 0, Loss.RAISED)) == []
    while scheduler.outcome is None:
        assert scheduler.wake > 50.1
        decisions = scheduler.handle(Tick(scheduler.wake))
    assert decisions[-1] == Ended(Outcome.COMPLETE)
    assert scheduler.hedges <= 2


@drawn(80, 300, seeds)
def test_a_stopped_worker_holds_up_no_row_whatever_others_do(seed):
    """Others crash, raise and are slow. At least one call answers, or nothing is known of how long calls take."""
    rng = random.Random(seed)
    rows, workers = rng.choice([30, 120]), rng.choice([2, 3, 5])
    chance, share = rng.choice([0.0, 0.05, 0.2]), rng.choice([0.0, 0.1])
    raising = {row for row in range(1, rows) if rng.random() < share}
    begins, by_row = rng.choice([0.0, 0.05, 0.3]), rng.random() < 0.5

    def ending(call, now):
        bad = tuple(r - call.begin for r in range(call.begin, call.end) if r in raising)
        if call.worker == workers - 1 and now >= begins:
            return Ending(math.inf)
        if call.begin and rng.random() < chance:
            return Ending(0.01 * rng.random(), Loss.CRASHED)
        if bad and not by_row:
            return Ending(0.01 * call.groups, Loss.RAISED)
        return Ending(0.01 * call.groups, None, bad)

    timeline = run_virtually(Job(rows, hedge=1.0, ahead=rng.choice([0, 1])), workers, ending)
    assert timeline.seconds < 1e3
    taken, failed = outcome_of_rows(timeline, rows)
    assert raising <= set(failed)
    assert all(taken[row] == 1 for row in range(rows) if row not in failed)


@settings(max_examples=100)
@given(seeds, st.sampled_from([0, 2]), st.sampled_from([1, 3]))
def test_a_row_that_always_crashes_is_not_made_again_for_ever(seed, retries, size):
    """Its copies run so long that there is always another one."""
    rng = random.Random(seed)

    def ending(call, now):
        if call.begin <= 5 < call.end:
            return Ending(rng.uniform(0.5, 5.0), Loss.CRASHED)
        return Ending(0.01 * call.groups)

    job = Job(12, hedge=rng.choice([0.05, 1.0, 20.0]), retries=retries, size=size, ahead=0)
    timeline = run_virtually(job, rng.choice([3, 8, 12]), ending)
    _, failed = outcome_of_rows(timeline, 12)
    assert 5 in failed
    assert len(failed) <= (size if not retries else 1)
    assert timeline.calls - timeline.hedges < 60


@settings(max_examples=200)
@given(seeds, st.sampled_from([0.1, 0.5, 1.0]))
def test_rows_that_raise_beside_a_worker_that_has_stopped(seed, share):
    rng = random.Random(seed)
    rows, workers = rng.choice([5, 30, 120]), rng.choice([3, 5, 12])
    raising = {row for row in range(rows) if rng.random() < share}
    begins = rng.choice([0.0, 0.05])

    def ending(call, now):
        bad = tuple(r - call.begin for r in range(call.begin, call.end) if r in raising)
        if call.worker == 0 and now >= begins:
            return Ending(math.inf)
        return Ending(0.01 * call.groups, Loss.RAISED) if bad else Ending(0.01 * call.groups)

    timeline = run_virtually(Job(rows), workers, ending)
    taken, failed = outcome_of_rows(timeline, rows)
    assert set(failed) == raising
    assert taken == [int(row not in raising) for row in range(rows)]


def test_a_call_that_was_not_begun_may_go_to_the_same_worker_again():
    scheduler = Scheduler(Job(2, size=1, ahead=0))
    scheduler.handle(Joined(0.0, 0))
    [start] = scheduler.handle(CallFailed(0.1, 0, Loss.NOT_STARTED))
    assert (start.call.begin, start.call.worker) == (0, 0)


def test_a_worker_on_which_calls_never_begin_counts_as_crashed():
    scheduler = Scheduler(Job(1, ahead=0))
    scheduler.handle(Joined(0.0, 0))
    number, lost = 0, 0
    while scheduler.outcome is None:
        lost += 1
        decisions = scheduler.handle(CallFailed(0.1, number, Loss.NOT_STARTED))
        number += 1
        assert lost < 100
    assert isinstance(decisions[0], FailRows)
    assert decisions[0].loss is Loss.CRASHED
    assert 20 <= lost <= 22 + 3


def sending_ahead(rows, workers, **job):
    """A scheduler at 1 s and calls of so many rows: each worker runs one, 0, 2, 4, and holds the next.

    A row takes 0.1 s, and so does the way to a worker.
    """
    scheduler = Scheduler(Job(rows + 2, size=1, ahead=1, **job))
    scheduler.handle(Joined(0.0, 0))
    scheduler.handle(Answered(0.8, 0, 0.1))
    scheduler.handle(Answered(1.0, 1, 0.1))
    for worker in range(1, workers):
        scheduler.handle(Joined(1.0, worker))
    calls = sorted(scheduler._calls.values(), key=lambda call: call.begin)
    assert [call.worker for call in calls] == [row // 2 for row in range(rows)]
    return scheduler, calls


def test_a_call_that_is_taken_back_is_made_by_the_next_worker_that_is_free():
    scheduler, calls = sending_ahead(4, 2, hedge=None)
    assert scheduler.handle(Answered(1.2, calls[2].number, 0.1)) == [took(calls[2])]
    withdraw = Withdraw(calls[1])
    assert scheduler.handle(Answered(3.0, calls[3].number, 0.1)) == [took(calls[3]), withdraw]
    [start] = scheduler.handle(CallFailed(3.0, calls[1].number, Loss.NOT_STARTED))
    assert (start.call.piece, start.call.worker, start.call.kind) == (calls[1].piece, 1, Kind.FIRST)


def test_the_deadline_is_kept_where_nothing_happens():
    timeline = run_virtually(Job(5, stop=Deadline(2.0)), 2, lambda call, now: Ending(math.inf))
    assert timeline.outcome is Outcome.DEADLINE
    assert timeline.seconds == pytest.approx(2.0)


def test_a_share_of_the_rows():
    timeline = run_virtually(Job(100, size=1, stop=Share(0.5)), 4, lambda call, now: Ending(0.1))
    assert timeline.outcome is Outcome.SHARE
    assert 50 <= len(timeline.taken) <= 53


def test_the_last_hedges_wait_longer():
    begun = []

    def ending(call, now):
        if call.kind is Kind.HEDGE:
            begun.append(now)
        return Ending(math.inf if call.begin >= 16 and call.kind is Kind.FIRST else 0.1)

    timeline = run_virtually(Job(24, size=1, ahead=0), 24, ending)
    assert timeline.outcome is Outcome.EXACT
    late = 0.1 * (1.25 + 4.0 / 16)
    assert begun == pytest.approx([late] * 5 + [late * 4 / 3, late * 2, late * 4], rel=0.1)


def test_a_hedge_goes_to_another_failure_domain():
    scheduler = Scheduler(Job(4, size=1, ahead=0))
    for worker, domain in enumerate("aaab"):
        scheduler.handle(Joined(0.0, worker, domain))
    for row in (1, 2, 3):
        scheduler.handle(Answered(0.1, row, 0.1))
    [start] = scheduler.handle(Tick(50.0))
    assert (start.call.begin, start.call.worker) == (0, 3)


@pytest.mark.parametrize("hedge", [None, 0.05])
@pytest.mark.parametrize("size", [1, 2])
def test_rows_that_are_left_get_so_many_times_the_mean(hedge, size):
    """Of 20 rows on four workers 18 take 0.1 s, and two that are among the last never end."""

    def ending(call, now):
        return Ending(math.inf if call.begin >= 18 else 0.1 * call.groups)

    for times in (0.5, 1.25, 3.0):
        stop = Share(0.9) & Slower(times)
        job = Job(20, size=size, ahead=0, hedge=hedge, stop=stop)
        timeline = run_virtually(job, 4, ending)
        assert timeline.outcome is Outcome.SLOWER
        # The last calls begin at 0.4 s; where they have two rows, 0.5 times their time is over with the others'.
        assert timeline.seconds == pytest.approx(0.4 + max(times, 1.0) * 0.1 * size)
        assert sum(call.groups for call in timeline.taken) == 18


def test_rows_that_have_not_begun_are_waited_for():
    def ending(call, now):
        return Ending(1.0 if call.begin < 2 else 0.1)

    timeline = run_virtually(Job(12, size=1, ahead=1, stop=Slower(0.2)), 2, ending)
    assert timeline.outcome is Outcome.SLOWER
    assert len(timeline.taken) == 10


def test_nothing_is_looked_at_again_and_again_while_a_row_waits_behind_one_that_hangs():
    ticks = []

    def ending(call, now):
        return Ending(math.inf if call.begin >= 8 else 1e-5)

    def watch(scheduler, event, decisions):
        ticks.append(event)
        assert len(ticks) < 1000

    stop = Slower(2.0) | Deadline(60.0)
    timeline = run_virtually(Job(12, size=1, hedge=None, stop=stop), 2, ending, watch=watch)
    assert timeline.outcome is Outcome.DEADLINE


def test_rows_that_all_workers_were_sent_last_are_late_too():
    def ending(call, now):
        return Ending(math.inf if call.begin >= 8 else 0.1)

    job = Job(10, size=1, ahead=0, hedge=None, stop=Slower(2.0) | Deadline(60.0))
    timeline = run_virtually(job, 2, ending)
    assert timeline.outcome is Outcome.SLOWER
    assert timeline.seconds == pytest.approx(0.4 + 2 * 0.1)


def test_calls_that_take_no_time_end():
    timeline = run_virtually(Job(500), 3, lambda call, now: Ending(0.0), overhead=1e-3)
    assert timeline.outcome is Outcome.EXACT


def test_a_call_that_has_not_ended_says_nothing_of_the_time_of_calls():
    times = CallTimes(batches=True)
    for groups, seconds in ((1, 0.3), (2, 0.4), (4, 0.6)):
        times.add(groups, seconds, 0.0)
    call, group = times.fit()
    assert (call, group) == pytest.approx((0.2, 0.1))
    times.add(1, math.inf, 0.0)
    assert times.fit() == (call, group)


def test_a_call_is_late_where_a_second_one_would_mostly_end_sooner():
    usual, slow = [1.0 + i / 1000 for i in range(90)], [4.0 + i / 1000 for i in range(10)]
    times, alike = CallTimes(), CallTimes()
    for second in usual + slow:
        times.add(1, second, 0.0)
    for i in range(100):
        alike.add(1, math.exp(0.5 * NormalDist().inv_cdf((i + 0.5) / 100)), 0.0)
    assert times.late(1) < 1.5  # the 95th percentile is 4
    assert alike.late(1) == pytest.approx(1.29 * math.exp(0.5 * NormalDist().inv_cdf(0.955)))


@pytest.mark.parametrize(("later", "seconds"), [(2.2, 9.0), (2.3, 1.0)])
def test_a_second_call_ends_sooner_than_the_median_of_those_that_are_longer(later, seconds):
    """Thirteen calls: after one second, by 1.25 times that and a median, if the middle one of the rest takes 2.25."""
    times = CallTimes()
    for second in [1.0] * 7 + [2.0, 2.1, later, 3.0, 3.0, 9.0]:
        times.add(1, second, 0.0)
    assert times.late(1) == pytest.approx(seconds * (1.25 + 4.0 / 13))


def test_a_large_call_is_late_later():
    times = CallTimes(batches=True)
    for _ in range(40):
        for groups in (1, 2, 4):
            times.add(groups, 0.2 + 0.1 * groups, 0.0)
    assert times.late(40) / times.late(2) == pytest.approx(4.2 / 0.4, rel=0.01)


def test_progress_counts_rows():
    scheduler = Scheduler(Job(6, size=2, ahead=0))
    for worker in range(3):
        scheduler.handle(Joined(0.0, worker))
    scheduler.handle(Answered(0.1, 0, 0.1, (1,)))
    assert scheduler.progress == (1, 1, 4, 0)


def test_the_budget_is_a_share_of_the_calls():
    def ending(call, now):
        slow = call.begin >= 360 and call.kind is Kind.FIRST
        return Ending(math.inf if slow else 0.1)

    timeline = run_virtually(Job(400, size=1, ahead=0, stop=Deadline(60.0)), 400, ending)
    assert timeline.hedges == 20


def test_a_hedge_that_is_late_itself_is_sent_again():
    begun = []

    def ending(call, now):
        if call.begin == 19:
            begun.append(call.kind)
        return Ending(math.inf if call.begin == 19 and len(begun) < 3 else 0.1)

    timeline = run_virtually(Job(20, size=1, ahead=0), 20, ending)
    assert timeline.outcome is Outcome.EXACT
    assert begun == [Kind.FIRST, Kind.HEDGE, Kind.HEDGE]


def copies_of_row_30(last: float, hangs) -> list[float]:
    """When copies of a row of a job of 60 rows of 0.2 s begin, if this says which of them hang."""
    begun: list[float] = []

    def ending(call, now):
        if call.begin == 30:
            begun.append(now)
            return Ending(math.inf if hangs(len(begun)) else 0.2)
        return Ending(0.2)

    run_virtually(Job(60, size=1, stop=Deadline(last)), 12, ending)
    return begun


def test_a_row_that_hangs_does_not_take_all_workers():
    assert len(copies_of_row_30(5.0, lambda copy: True)) == 4
    assert len(copies_of_row_30(60.0, lambda copy: True)) == 5


def test_a_row_whose_copies_hang_because_of_their_workers_ends():
    begun = copies_of_row_30(math.inf, lambda copy: copy < 6)
    assert len(begun) == 6
    assert begun[-1] < 100.0


@pytest.mark.parametrize(("seconds", "most"), [(0.15, 1), (0.05, 4), (0.01, 20)])
def test_calls_of_several_rows_are_not_long(seconds, most):
    sizes = []

    def ending(call, now):
        sizes.append(call.groups)
        return Ending(seconds * call.groups)

    run_virtually(Job(5000), 4, ending, overhead=0.01)
    assert max(sizes) in (most - 1, most)  # overheads are measured


def test_calls_are_short_beside_their_timeout():
    sizes = []

    def ending(call, now):
        sizes.append(call.groups)
        return Ending(1e-3 * call.groups)

    run_virtually(Job(3000, call_timeout=0.04), 2, ending)
    assert max(sizes) == 10


@pytest.mark.parametrize(("memory", "expected"), [(math.inf, 8), (5e6, 5), (10.0, 1)])
def test_calls_take_at_most_as_much_memory_as_the_largest_so_far_allow(memory, expected):
    scheduler = Scheduler(Job(1000, memory=lambda: memory))
    scheduler.handle(Joined(0.0, "a"))
    out = scheduler.handle(Answered(1.0, 0, 1e-4, nbytes=10**6))
    sizes = [decision.call.groups for decision in out if isinstance(decision, Start)]
    assert max(sizes) == expected


@pytest.mark.parametrize(("groups", "expected"), [(1, 0), (2, 0), (3, 1)])
def test_memory_is_not_asked_for_where_a_call_can_only_have_one_group(groups, expected):
    asked = []
    scheduler = Scheduler(Job(groups, memory=lambda: asked.append(1) or math.inf))
    scheduler.handle(Joined(0.0, "a"))
    scheduler.handle(Answered(1.0, 0, 1e-4))
    assert len(asked) == expected


@pytest.mark.parametrize(("own", "least", "most"), [(0.0, 20, 32), (10.0, 500, 4000)])
def test_calls_take_at_most_32_megabytes_unless_they_take_a_time_of_their_own(own, least, most):
    scheduler = Scheduler(Job(4000, batches=True))
    running, now, sizes = [], 0.0, []
    decisions = scheduler.handle(Joined(0.0, "a"))
    while scheduler.outcome is None:
        running += [decision.call for decision in decisions if isinstance(decision, Start)]
        call = running.pop(0)
        sizes.append(call.groups)
        seconds = own + 1e-4 * call.groups
        now += seconds
        answer = Answered(now, call.number, seconds, nbytes=call.groups << 20)
        decisions = scheduler.handle(answer)
    assert least <= max(sizes) <= most


def test_the_newest_hedge_gives_way_first():
    scheduler = Scheduler(Job(6, size=1, ahead=0))
    for worker in range(6):
        scheduler.handle(Joined(0.0, worker))
    for row in (3, 4, 5):
        scheduler.handle(Answered(0.1, row, 0.1))
    hedges = [d.call for d in scheduler.handle(Tick(50.0)) if isinstance(d, Start)]
    assert [hedge.begin for hedge in hedges] == [0, 1, 2]
    scheduler.handle(Left(50.1, 0))
    assert scheduler.handle(CallFailed(50.1, 0, Loss.CRASHED)) == []  # its hedge still runs
    scheduler.handle(Left(50.2, hedges[0].worker))
    decisions = scheduler.handle(CallFailed(50.2, hedges[0].number, Loss.CRASHED))
    assert decisions == [Abandon(hedges[2])]


@pytest.mark.parametrize("crashes", [False, True])
def test_a_call_that_began_before_it_could_be_taken_back_delays_no_hedge(crashes):
    scheduler, calls = sending_ahead(4, 2)
    scheduler.handle(Answered(1.2, calls[2].number, 0.1))
    assert Withdraw(calls[1]) in scheduler.handle(Answered(3.0, calls[3].number, 0.1))
    scheduler.handle(Answered(3.0, calls[0].number, 0.1))  # which was before it
    if crashes:  # and is made again by the other worker, where it never ends
        (again,) = scheduler.handle(CallFailed(3.1, calls[1].number, Loss.CRASHED))
        assert again.call.worker == 1
    scheduler.handle(Tick(90.0))
    assert scheduler.hedges == 1


def test_a_job_without_workers_waits_as_long_as_it_is_to():
    job = Job(4, hedge=None, patience=30.0)
    changes = [Left(1.5, 0), Joined(20.0, 1)]
    timeline = run_virtually(job, 1, lambda call, now: Ending(1.0), changes=changes)
    assert timeline.outcome is Outcome.EXACT
    assert timeline.seconds == pytest.approx(20.0 + 3.0)
    alone = run_virtually(job, 1, lambda call, now: Ending(1.0), changes=changes[:1])
    assert alone.outcome is Outcome.NONE_RUNNING
    assert alone.seconds == pytest.approx(1.5 + 30.0)


def test_a_call_that_waits_for_those_of_other_jobs_is_neither_late_nor_timed_out():
    scheduler = Scheduler(Job(2, hedge=0.05, call_timeout=1.0, size=1, ahead=0))
    for worker in range(2):
        scheduler.handle(Joined(0.0, worker))
    for now in (0.9, 1.8, 2.7):
        assert scheduler.handle(Tick(now, ((0, now), (1, now)))) == []
    scheduler.handle(Answered(2.8, 0, 0.1, began=2.7))
    hedge, *others = scheduler.handle(Tick(3.3))  # call 1 runs since 2.7, and 0.1 s is usual
    assert isinstance(hedge, Start)
    assert hedge.call.kind is Kind.HEDGE
    assert not others
    assert [type(d) for d in scheduler.handle(Tick(3.71, ((2, 3.71),)))] == [Abandon]


def test_a_call_behind_one_of_another_job_is_taken_back_for_a_worker_that_is_free():
    scheduler = Scheduler(Job(1, hedge=None, size=1))
    (start,) = scheduler.handle(Joined(0.0, 0))
    assert scheduler.handle(Tick(1.0, ((0, 1.0),))) == []
    scheduler.handle(Joined(1.5, 1))
    assert scheduler.handle(Tick(1.9, ((0, 1.9),))) == []
    assert scheduler.handle(Tick(2.0, ((0, 2.0),))) == [Withdraw(start.call)]
    assert scheduler.handle(Tick(2.1, ((0, 2.1),))) == []
    (again,) = scheduler.handle(CallFailed(2.2, 0, Loss.NOT_STARTED))
    assert again.call.worker == 1
    for now in (3.0, 6.1):  # twice as long as before
        assert scheduler.handle(Tick(now, ((1, now),))) == []
    assert scheduler.handle(Tick(6.2, ((1, 6.2),))) == [Withdraw(again.call)]
    (again,) = scheduler.handle(CallFailed(6.2, 1, Loss.NOT_STARTED))
    assert again.call.worker == 0


def test_a_call_behind_others_goes_to_a_worker_that_computes_for_its_job():
    """The first row of an endless input waited for as long as a call of another job took: no worker was ever idle."""
    scheduler = Scheduler(Job(1000, hedge=None, size=1, ahead=0))
    scheduler.handle(Joined(0.0, 0))
    scheduler.handle(Joined(0.0, 1))
    for number in range(1, 20):
        scheduler.handle(Answered(0.1 * number, number, 0.1))
    assert scheduler.handle(Tick(1.95, ((0, 1.95),))) == []
    (withdraw,) = scheduler.handle(Tick(2.05, ((0, 2.05),)))
    assert withdraw == Withdraw(withdraw.call)
    scheduler.handle(CallFailed(2.06, 0, Loss.NOT_STARTED))
    assert not scheduler._workers[0].calls  # it has others
    *_, start = scheduler.handle(Answered(2.1, 20, 0.1))
    assert (start.call.begin, start.call.worker) == (0, 1)


def test_a_copy_of_a_call_that_ran_too_long_is_ended_at_once_too():
    """Though it began a little later than was thought: with ``grace=600`` it would hold its worker for as long."""
    scheduler = Scheduler(Job(2, hedge=0.05, call_timeout=1.0, size=1, ahead=0))
    for worker in range(2):
        scheduler.handle(Joined(0.0, worker))
    scheduler.handle(Answered(0.1, 1, 0.1))
    (hedge,) = scheduler.handle(Tick(0.7))
    assert scheduler.handle(Tick(1.0)) == [Abandon(scheduler._calls[0], at_once=True)]
    assert scheduler.handle(Tick(1.2, ((hedge.call.number, 0.8),))) == []
    abandon, *_ = scheduler.handle(Tick(1.7))
    assert abandon == Abandon(hedge.call, at_once=True)


def opening(now: float, *numbers: int) -> Tick:
    return Tick(now, tuple((number, now) for number in numbers), opening=frozenset(numbers))


def test_a_call_whose_function_is_being_opened_stays_where_it_is():
    """To open it took 5 s, and a job of one row 11 s: it went from one worker to the next."""
    scheduler = Scheduler(Job(1, hedge=None, size=1))
    (start,) = scheduler.handle(Joined(0.0, 0))
    scheduler.handle(Joined(0.0, 1))
    for now in (2.0, 30.0, 599.0):
        assert scheduler.handle(opening(now, 0)) == []
    assert scheduler.handle(opening(600.0, 0)) == [Withdraw(start.call)]  # it may never end


def test_a_function_that_is_opened_for_longer_than_elsewhere_is_opened_on_another_worker():
    scheduler = Scheduler(Job(2, hedge=None, size=1, ahead=0))
    for worker in range(2):
        scheduler.handle(Joined(0.0, worker, more=worker < 1))
    scheduler.handle(Answered(5.0, 0, 0.1))  # of which 4.9 s to open it
    assert scheduler.handle(opening(9.7, 1)) == []
    (withdraw,) = scheduler.handle(opening(9.8, 1))
    assert withdraw == Withdraw(withdraw.call)
    assert withdraw.call.worker == 1


def test_calls_that_are_taken_back_do_not_go_to_workers_that_others_hold_too():
    """With three of four workers held, a job of milliseconds took 14 s."""
    scheduler = Scheduler(Job(4, hedge=None, size=1, ahead=0))
    for worker in range(4):
        scheduler.handle(Joined(0.0, worker, more=worker < 3))
    scheduler.handle(Answered(0.1, 0, 0.1))
    decisions = scheduler.handle(Tick(2.0, tuple((number, 2.0) for number in (1, 2, 3))))
    withdrawn = [one.call.number for one in decisions if isinstance(one, Withdraw)]
    assert withdrawn == [1, 2, 3]
    started = []
    for number in withdrawn:
        decisions = scheduler.handle(CallFailed(2.0, number, Loss.NOT_STARTED, number < 3))
        started += [one.call for one in decisions if isinstance(one, Start)]
    while started:
        assert started[0].worker == 0
        decisions = scheduler.handle(Answered(2.1, started.pop(0).number, 0.01))
        started += [one.call for one in decisions if isinstance(one, Start)]
    assert scheduler.outcome is Outcome.EXACT


def test_no_call_behind_others_goes_where_one_has_failed():
    """A worker whose setup fails is free at once."""
    scheduler = Scheduler(Job(2, hedge=None, size=1, ahead=0, retries=0))
    for worker in range(2):
        scheduler.handle(Joined(0.0, worker, more=worker < 1))
    scheduler.handle(CallFailed(0.01, 0, Loss.RAISED))
    assert scheduler.handle(Tick(0.05, ((1, 0.05),), free=frozenset({0}))) == []


def test_as_many_calls_behind_others_go_to_workers_at_once_as_are_free():
    scheduler = Scheduler(Job(4, hedge=None, size=1, ahead=0))
    for worker in range(4):
        scheduler.handle(Joined(0.0, worker, more=worker < 3))
    for number in (2, 3):
        scheduler.handle(Answered(0.01, number, 0.01))
    behind = ((0, 0.05), (1, 0.05))
    assert scheduler.handle(Tick(0.05, behind)) == []
    free = frozenset({3})  # and worker 2 has been given calls of others in the meantime
    (withdraw,) = scheduler.handle(Tick(0.05, behind, free=free))
    assert withdraw == Withdraw(withdraw.call)
    (start,) = scheduler.handle(CallFailed(0.05, withdraw.call.number, Loss.NOT_STARTED))
    assert (start.call.begin, start.call.worker) == (withdraw.call.begin, 3)


@pytest.mark.parametrize(("began", "overhead"), [(None, 9.99), (10.0, 0.0)])
def test_time_in_the_queue_of_other_jobs_is_no_overhead(began, overhead):
    scheduler = Scheduler(Job(10, hedge=None, size=1))
    scheduler.handle(Joined(-1.0, 0))
    scheduler.handle(Answered(0.0, 0, 0.5))  # the first call of a worker tells nothing of overhead
    scheduler.handle(Answered(10.01, 1, 0.02, began=began))
    assert scheduler._times.overhead == pytest.approx(overhead)


def test_a_call_that_its_worker_takes_along_is_not_taken_back():
    """Its loss is reported after that of its worker."""
    scheduler, calls = sending_ahead(3, 2, hedge=None)
    scheduler.handle(Answered(1.2, calls[2].number, 0.1))
    assert scheduler.handle(Left(3.0, 0)) == []
    scheduler.handle(CallFailed(3.0, calls[0].number, Loss.CRASHED))
    scheduler.handle(CallFailed(3.0, calls[1].number, Loss.NOT_STARTED))
    assert {call.worker for call in scheduler._calls.values()} == {1}
    scheduler.handle(Answered(3.2, max(scheduler._calls), 0.1))
    assert {call.worker for call in scheduler._calls.values()} == {1}


def test_a_late_call_is_sent_again_where_it_was_once_all_others_are_late():
    scheduler = Scheduler(Job(6, size=1, ahead=0))
    for worker in range(3):
        scheduler.handle(Joined(0.0, worker))
    scheduler.handle(Answered(0.1, 2, 0.1))  # its worker runs row 3
    scheduler.handle(CallFailed(0.15, 0, Loss.CRASHED))  # and this one row 4
    _, again = scheduler.handle(Answered(0.2, 3, 0.1))
    assert (again.call.begin, again.call.worker) == (0, 2)  # it never ends
    scheduler.handle(Answered(0.25, 1, 0.1))  # its worker runs row 5, which never ends
    scheduler.handle(Answered(0.3, 4, 0.1))
    while scheduler.wake < 0.25 + 0.1 * (1.25 + 4.0 / 4):
        assert scheduler.handle(Tick(scheduler.wake)) == []
    (hedge, *_) = scheduler.handle(Tick(scheduler.wake))
    assert (hedge.call.kind, hedge.call.begin, hedge.call.worker) == (Kind.HEDGE, 0, 0)


@pytest.mark.parametrize(("again", "hedged"), [(True, 0), (False, 1)])
def test_of_hedges_that_give_way_one_remains_where_nothing_else_computes_the_row(again, hedged):
    scheduler = Scheduler(Job(4, size=1, ahead=0))
    for worker in range(5):
        scheduler.handle(Joined(0.0, worker))
    scheduler.handle(Answered(0.1, 3, 0.1))
    for row in (1, 2):
        scheduler.handle(CallFailed(0.3, row, Loss.CRASHED))
    rows = {call.begin: call for call in scheduler._calls.values()}
    first = scheduler.handle(Tick(0.53))
    if again:
        for row in (1, 2):
            scheduler.handle(CallFailed(0.57, rows[row].number, Loss.CRASHED))
        rows = {c.begin: c for c in scheduler._calls.values() if c.kind is not Kind.HEDGE}
    scheduler.handle(Left(0.6, 0))
    scheduler.handle(CallFailed(0.6, 0, Loss.CRASHED))
    second = scheduler.handle(Tick(1.06))
    assert [(d.call.kind, d.call.begin) for d in first] == [(Kind.HEDGE, 0)]
    # The call that has run for longest, also if a younger one has lost a copy.
    assert [(d.call.kind, d.call.begin) for d in second] == [(Kind.HEDGE, hedged)]
    if not again:
        return
    for row in (1, 2):
        scheduler.handle(Left(1.1, rows[row].worker))
    scheduler.handle(CallFailed(1.1, rows[1].number, Loss.CRASHED, more=True))
    decisions = scheduler.handle(CallFailed(1.1, rows[2].number, Loss.CRASHED))
    assert decisions == [Abandon(second[0].call)]


def test_a_row_that_always_takes_too_long_is_not_hedged_for_ever():
    timeline = run_virtually(
        Job(100, hedge=20.0, size=1, call_timeout=5.0),
        4,
        lambda call, now: Ending(math.inf if call.begin == 33 else 0.1),
    )
    _, failed = outcome_of_rows(timeline, 100)
    assert {row: f.loss for row, f in failed.items()} == {33: Loss.TIMED_OUT}
    assert timeline.hedges <= 2 * 4
    assert timeline.seconds < 3.0 + 2 * 5.0


def test_calls_that_run_too_long_have_no_grace():
    def ending(call, now):
        return Ending(math.inf)

    timeline = run_virtually(Job(10, size=1, call_timeout=2.0), 2, ending, grace=50.0)
    assert {f.loss for f in timeline.failed} == {Loss.TIMED_OUT}
    assert timeline.seconds == pytest.approx(5 * 2.0)


def test_a_call_that_waits_for_what_others_run_does_not_time_out():
    scheduler = Scheduler(Job(1, size=1, call_timeout=2.0))
    scheduler.handle(Joined(0.0, 0))
    waiting = frozenset({0})
    assert scheduler.handle(Tick(2.0, (), 0.0, waiting)) == []
    assert scheduler.handle(Tick(4.0, (), 0.0, waiting)) == []
    assert scheduler.handle(Tick(5.0, ((0, 4.5),))) == []  # it has begun
    decisions = scheduler.handle(Tick(6.5))
    assert [one.loss for one in decisions if isinstance(one, FailRows)] == [Loss.TIMED_OUT]


def test_a_copy_that_began_before_a_timeout_has_its_own():
    def ending(call, now):
        slow = call.begin == 5
        return Ending(math.inf if slow and call.kind is Kind.FIRST else 4.0 if slow else 1.0)

    timeline = run_virtually(Job(6, size=1, ahead=0, call_timeout=6.0), 6, ending)
    assert timeline.outcome is Outcome.EXACT


def test_hedges_of_several_rows_that_crash_do_not_use_up_the_budget():
    """The first call of theirs runs on a worker that has stopped."""

    def ending(call, now):
        if call.worker == 1:
            return Ending(math.inf)
        if call.begin <= 3 < call.end:
            return Ending(0.01, Loss.CRASHED)
        return Ending(0.05)

    timeline = run_virtually(Job(100, hedge=1.0, size=2, ahead=0), 3, ending)
    _, failed = outcome_of_rows(timeline, 100)
    assert {row: f.loss for row, f in failed.items()} == {3: Loss.CRASHED}
    assert timeline.hedges < 8


# Groups that are found while the job runs


class Found:
    """Groups that come in parts of drawn sizes, after drawn times, until there are so many."""

    def __init__(self, world: World, seed: int) -> None:
        self.rng = random.Random(seed + 1)
        self.left = world.rows
        self.slow = self.rng.choice([0.0, 0.01, 1.0])
        self.asked: list[int] = []
        self.first, _ = self.part(1)

    def part(self, wanted: int) -> tuple[int, bool]:
        groups = min(self.left, wanted + self.rng.randint(0, 5))
        self.left -= groups
        return groups, self.left == 0 and self.rng.random() < 0.5

    def __call__(self, wanted: int) -> tuple[float, int, bool]:
        self.asked.append(wanted)
        groups, last = self.part(wanted)
        return self.slow * self.rng.random(), groups, last or groups == 0


@drawn(80, 300, seeds)
@example(1157)  # a call of three rows, one of which crashes
def test_a_job_that_grows_ends_when_all_rows_have_and_not_before(seed):
    world, watch = World(seed), GrowingWatch()
    found = Found(world, seed)
    job = replace(world.job(), groups=found.first, more=True)
    timeline = world.run(job, more=found, watch=watch)
    taken, failed = outcome_of_rows(timeline, world.rows)
    assert timeline.outcome is (Outcome.COMPLETE if failed else Outcome.EXACT)
    assert found.left == 0
    for row in range(world.rows):
        assert taken[row] == 1 or row in failed
    assert watch.asking == 0


class GrowingWatch(Watch):
    """Checks that one thing is asked for at a time, and nothing once all is known."""

    asking = 0
    known = False

    def __call__(self, scheduler, event, decisions) -> None:
        if isinstance(event, Added):
            self.asking -= 1
            self.known |= event.last
        wanted = [d.groups for d in decisions if isinstance(d, More)]
        self.asking += len(wanted)
        assert all(groups > 0 for groups in wanted)
        assert self.asking <= 1
        assert not (self.known and wanted)
        if scheduler.outcome is None:
            assert self.known or self.asking or scheduler._next < scheduler.job.groups
            if not self.known:
                assert scheduler.hedges == 0, "hedges wait until nothing is left to start"
        super().__call__(scheduler, event, decisions)


def test_as_much_is_asked_for_as_the_workers_could_start():
    asked = []

    def more(wanted):
        asked.append(wanted)
        return 0.0, wanted, len(asked) == 50

    def ending(call, now):
        return Ending(0.001 * call.groups)

    timeline = run_virtually(Job(1, more=True, hedge=None), 4, ending, more=more)
    assert timeline.outcome is Outcome.EXACT
    assert len(asked) == 50
    assert max(asked) <= 4 * 70, "a call takes about 0.05 s"
    assert sum(call.groups for call in timeline.taken) == 1 + sum(asked)
    assert max(call.groups for call in timeline.taken) >= 40, "calls are no smaller for it"


def test_a_job_without_a_row_yet_goes_on_when_there_are_some():
    found = iter([(5.0, 0, False), (5.0, 3, True)])
    timeline = run_virtually(
        Job(0, more=True), 2, lambda call, now: Ending(1.0), more=lambda wanted: next(found)
    )
    assert timeline.outcome is Outcome.EXACT
    assert timeline.seconds == pytest.approx(12.0, abs=1.1)
    assert sum(call.groups for call in timeline.taken) == 3


def own_time(
    call: float, group: float, rows: int, *, batches: bool = True, stops: float = math.inf
):
    """A job on three workers whose calls take a time of their own, and how many rows each had."""
    sizes: list[int] = []

    def ending(piece: Call, now: float) -> Ending:
        sizes.append(piece.groups)
        hangs = piece.worker == 0 and now >= stops
        return Ending(math.inf if hangs else call + group * piece.groups)

    job = Job(rows, batches=batches)
    return run_virtually(job, 3, ending, overhead=0.0005), sizes


@pytest.mark.parametrize(("call", "group"), [(0.03, 5e-6), (0.1, 0.0), (1.0, 1e-3)])
def test_calls_that_take_a_time_of_their_own_grow(call, group):
    timeline, sizes = own_time(call, group, 3000)
    assert timeline.seconds < 40 * call  # rows one by one: 1000 calls a worker
    assert max(sizes) <= 1000
    assert sum(sizes) == 3000


def test_calls_whose_time_is_that_of_their_rows_stay_short():
    timeline, sizes = own_time(0.0, 0.1, 300)
    assert sizes.count(1) == len(sizes) - 3
    assert sizes.count(4) == 3  # to see whether it takes longer
    assert timeline.seconds < 10.2
    assert max(own_time(0.1, 0.0, 300, batches=False)[1]) == 1


def test_calls_grow_where_many_workers_have_few_rows_each():
    def ending(call, now):
        return Ending(5.0 + 1e-3 * call.groups)

    times = [
        run_virtually(Job(1000, batches=batches), 16, ending, overhead=0.0005).seconds
        for batches in (True, False)
    ]
    assert times[0] < 7 * 5.0  # it was 15 times
    assert times[1] > 60 * 5.0


def test_calls_of_rows_that_differ_widely_do_not_grow():
    """The last row may be a long one by chance, in 2 of 3,000 jobs for more than 1.25 times as long."""

    def seconds(seed, *, batches):
        rng = random.Random(seed)
        rows = [math.exp(rng.gauss(0, 1)) for _ in range(200)]

        def ending(call, now):
            return Ending(sum(rows[call.begin : call.end]))

        return run_virtually(Job(200, batches=batches, hedge=None), 8, ending).seconds

    ratios = sorted(
        seconds(seed, batches=True) / seconds(seed, batches=False) for seed in range(60)
    )
    assert ratios[30] < 1.02
    assert ratios[54] < 1.1
    assert ratios[-1] < 1.25


def test_batches_that_may_have_one_row_are_sent_ahead_as_others_are():
    """Four rows, by which it would be seen what a call takes by itself, take too much of ``call_timeout``."""
    ahead = []

    def watch(scheduler, event, decisions):
        ahead.append(len(scheduler._ahead))

    job = Job(100, batches=True, call_timeout=1.0)
    run_virtually(job, 3, lambda call, now: Ending(0.2 * call.groups), overhead=0.1, watch=watch)
    assert ahead.count(3) > 50


def test_a_large_call_is_late_by_the_time_of_its_own():
    timeline, _ = own_time(0.03, 5e-6, 3000, stops=0.2)
    assert timeline.outcome is Outcome.EXACT
    assert timeline.hedges >= 1
    assert timeline.seconds < 2.0  # by seconds a row of the first calls: more than 10
