"""Calls that hang where rows may be estimated: they are parked, and their workers compute other rows."""

from __future__ import annotations

import math
import random
import time
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import strategies as st

import codedmap as cm
from codedmap.contracts.stopping import Deadline, Outcome, Share, Slower
from codedmap.execution.events import Abandon, Job, Kind
from codedmap.execution.virtual import Ending, Timeline, run_virtually
from codedmap.latency.scheduled import one_by_one

from ..repeats import drawn
from .test_scheduler import Watch

seeds = st.integers(0, 10_000)


@dataclass
class Rows:
    """Rows of about ``each`` seconds, of which a share hangs and a share takes 20 times as long."""

    rows: int
    hang: float
    seed: int = 0
    each: float = 1.0
    long: float = 0.0
    spread: float = 0.3

    def __post_init__(self) -> None:
        rng = random.Random(self.seed)
        self.seconds = np.array(
            [self.each * math.exp(rng.gauss(0.0, self.spread)) for _ in range(self.rows)]
        )
        # The first rows do not hang: before an answer nothing is known of what is usual.
        late = rng.sample(range(min(64, self.rows // 2), self.rows), round(self.hang * self.rows))
        self.good = np.setdiff1d(np.arange(self.rows), late)
        self.seconds[rng.sample(self.good.tolist(), round(self.long * self.rows))] *= 20
        self.work = float(self.seconds[self.good].sum())
        self.seconds[late] = math.inf

    def ending(self, call, now) -> Ending:
        seconds = self.seconds[call.begin : call.end]
        before = seconds[: int(np.isinf(seconds).argmax())]
        if np.isinf(seconds).any() and before.sum() < call.limit:
            return Ending(math.inf)
        return one_by_one(call, seconds)

    def run(self, workers: int, stop, *, parks: bool = True, **others) -> Timeline:
        job = Job(self.rows, stop=stop, parks=parks, **others)
        return run_virtually(job, workers, self.ending, overhead=0.001, watch=Watch())

    def missing(self, timeline: Timeline) -> int:
        """Good rows without an answer; no row is answered twice."""
        taken = np.zeros(self.rows, dtype=int)
        for call in timeline.taken:
            taken[call.begin : call.end] += 1
        assert taken.max() == 1
        return int((taken[self.good] == 0).sum())


@drawn(30, 300, seeds, st.floats(0.0, 0.5), st.integers(1, 64))
def test_rows_that_hang_cost_no_other_row(seed, hang, workers):
    """Four fifths of the time suffice for the good rows, and for three times the usual for each that hangs."""
    rows = Rows(400, hang, seed, spread=0.1)
    waits = 3.0 * (rows.rows - len(rows.good))
    timeline = rows.run(workers, Deadline(1.25 * (rows.work + waits) / workers + 3.0))
    assert rows.missing(timeline) == 0


@drawn(10, 100, seeds, st.sampled_from([1, 2, 4, 16]))
def test_long_rows_lose_nothing_where_there_is_time(seed, workers):
    """A tenth of the rows takes 20 times as long as the others."""
    rows = Rows(300, 0.0, seed, long=0.1)
    deadline = Deadline(1.5 * rows.work / workers + 30.0)
    timeline, without = (rows.run(workers, deadline, parks=parks) for parks in (True, False))
    assert rows.missing(timeline) == rows.missing(without) == 0
    assert timeline.seconds <= 1.25 * without.seconds  # a long row that was parked begins again


@pytest.mark.parametrize(
    ("rows", "each", "hang", "workers", "stop"),
    [
        (300, 0.04, 0.05, 2, Deadline(22.5)),
        (200, 0.03, 0.15, 3, Deadline(18.0)),
        (3000, 0.002, 0.01, 8, Deadline(5.0)),  # many rows in a call
    ],
)
def test_of_rows_before_a_deadline_only_those_that_hang_are_missing(
    rows, each, hang, workers, stop
):
    for seed in range(5):
        job = Rows(rows, hang, seed, each)
        assert job.missing(job.run(workers, stop)) == 0
        assert job.missing(job.run(workers, stop, parks=False)) > 0.1 * rows


def test_a_share_of_the_rows_does_not_wait_for_those_that_hang():
    rows = Rows(160, 0.025, 1, each=0.02)
    timeline = rows.run(4, Share(0.9) | Deadline(13.5))
    assert timeline.outcome is Outcome.SHARE
    assert timeline.seconds < 3.0  # 50 times 0.02 s until the first is parked, and 0.8 s of work


def test_a_parked_row_is_tried_again_when_nothing_else_is_left():
    """It took a hundred times as long as the others, and has twice the time then."""
    rows = Rows(100, 0.0, spread=0.0)
    rows.seconds[40] = 100.0
    timeline = rows.run(1, Deadline(400.0))
    assert rows.missing(timeline) == 0
    assert [(call.begin, call.kind) for call in timeline.taken[-1:]] == [(40, Kind.RETRY)]
    assert timeline.seconds == pytest.approx(99 + 51 + 100, rel=0.05)


def test_without_retries_a_parked_row_is_not_tried_again():
    rows = Rows(100, 0.02, spread=0.0)
    timeline = rows.run(2, Deadline(400.0), retries=0, hedge=None)
    assert rows.missing(timeline) == 0
    assert (timeline.outcome, sum(timeline.begun)) == (Outcome.NONE_RUNNING, 100)


def test_where_nothing_was_answered_one_worker_tries_another_row():
    """An eighth of the time is lost, then a quarter, and not all of it."""
    rows = Rows(100, 0.0, spread=0.0)
    rows.seconds[:2] = math.inf
    rows.good = np.arange(2, 100)
    assert rows.missing(rows.run(1, Deadline(200.0))) == 0
    assert rows.missing(rows.run(2, Deadline(100.0))) == 0


def test_slower_counts_how_long_a_row_ran_before_it_was_parked():
    rows = Rows(100, 0.0, spread=0.0)
    rows.seconds[[10, 20, 30]] = math.inf
    rows.good = np.delete(np.arange(100), [10, 20, 30])
    timeline = rows.run(2, Slower(30.0))
    assert (timeline.outcome, rows.missing(timeline)) == (Outcome.SLOWER, 0)


@drawn(20, 100, seeds)
def test_nothing_is_parked_without_a_rule(seed):
    rows, ended = Rows(60, 0.0, seed, long=0.1), []

    def watch(scheduler, event, decisions) -> None:
        ended.extend(d for d in decisions if isinstance(d, Abandon) and d.at_once)

    run_virtually(Job(60), 3, rows.ending, watch=watch)
    assert not ended


def hang(x: float) -> float:
    time.sleep(3600.0 if x in (3.0, 30.0, 60.0, 90.0) else 0.01)
    return float(x)


@pytest.mark.real_time
def test_a_worker_with_a_row_that_hangs_is_replaced():
    with cm.engines.Local(2) as engine:
        result = cm.map(cm.itemwise(hang), np.arange(100.0), engine=engine, stop=cm.Share(0.96))
    assert np.flatnonzero(~result.exact).tolist() == [3, 30, 60, 90]
    assert (result.status[~result.exact] == cm.Status.ESTIMATED).all()


@pytest.mark.parametrize("options", [{}, {"deadline": 10.0}])
def test_what_cannot_be_ended_is_said_once(virtual_time, options):
    usual = [cm.testing.late(0.01)]
    script = {0: usual * 10 + [cm.testing.late(20.0)], 1: usual * 20 + [cm.testing.late(20.0)]}
    with cm.testing.Scripted(2, script) as engine:
        said = "call_timeout=.*deadline=" if not options else "cannot end them"
        with pytest.warns(UserWarning, match=said) as found:
            cm.map(np.sin, np.arange(50.0), engine=engine, chunk=1, hedge=None, **options)
    assert sum("usual" in str(one.message) for one in found) == 1
