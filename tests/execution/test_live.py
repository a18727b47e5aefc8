"""The scheduler over engines: what a live run records can be replayed."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from queue import Empty
from types import SimpleNamespace

import numpy as np
import pytest

import codedmap as cm
from codedmap.contracts.engine import Reply
from codedmap.execution import events, live
from codedmap.execution.events import Call, Job, Kind, Piece, Take
from codedmap.execution.inputs import InputRows
from codedmap.execution.job_rows import JobRows
from codedmap.execution.live import LiveJob
from codedmap.execution.scheduler import Scheduler
from codedmap.execution.task import Itemwise
from codedmap.execution.uncoded import KeptTasks, RowsJob
from codedmap.testing import Scripted, crash, fail, late

from ..virtual import Virtual


def slow_at_three(x):
    time.sleep(0.3 if x == 3 else 0.002)
    if x == 11:
        raise ValueError(11)
    return x


def run(engine, job: Job, fn, rows: int, **options) -> tuple[RowsJob, JobRows, list]:
    inputs, tasks = InputRows(np.arange(float(rows))), KeptTasks(fn, engine)
    job_ = RowsJob(
        job,
        engine,
        tasks,
        inputs,
        record=True,
        started=time.monotonic(),
        show=lambda job: None,
        **options,
    )
    job_.scheduler.job = replace(job_.scheduler.job, ahead=job.ahead)
    log = logged(job_)
    for _ in job_.steps():
        pass
    work = job_._rows
    if fn is np.sin:
        np.testing.assert_array_equal(
            job_.values.values(work.status > 0), np.sin(np.arange(float(rows)))
        )
    return job_, work, log


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("raised", [(), (1,), (0, 5)])
def test_of_an_answer_only_rows_count_that_no_other_call_has_answered(raised, stored, tmp_path):
    """Of a late call that was hedged in parts: the third to seventh of its rows were answered by others."""
    rows, engine, put = np.arange(20.0), Scripted(1), []
    inputs, tasks = InputRows(rows), KeptTasks(cm.itemwise(np.sin), engine)
    job = RowsJob(Job(20), engine, tasks, inputs, record=True, started=0.0, show=lambda job: None)
    if stored:
        job._store = SimpleNamespace(
            checksum=lambda parts: parts[0].tolist(), put=lambda *what: put.append(what)
        )
    call = Call(3, 0, 4, 10, Kind.FIRST, Piece(4, 10))
    good = np.delete(rows[4:10], list(raised))
    job._checksums[3] = "of six rows"
    job._replies[3] = Reply(np.sin(good), 0.1, 0.0, "", 1, dict.fromkeys(raised, "failure"))
    job.take(Take(call, (range(4, 6), range(9, 10))))
    counted = sorted({4, 5, 9} - {call.begin + place for place in raised})
    assert np.flatnonzero(job._rows.status == cm.Status.EXACT).tolist() == counted
    if stored:
        [(at, count, values, checksum)] = put
        assert (at.tolist(), count, checksum) == (counted, len(counted), rows[counted].tolist())
        np.testing.assert_array_equal(values, np.sin(rows[counted]))
    else:
        found = job.values.values(job._rows.status != cm.Status.EXACT)
        np.testing.assert_array_equal(found[counted], np.sin(rows[counted]))


def logged(job: LiveJob) -> list:
    """The events that a job's scheduler is handed from now on."""
    log: list = []
    handle = job.scheduler.handle
    job.scheduler.handle = lambda event: log.append(event) or handle(event)
    return log


def plain(decision) -> tuple:
    call = getattr(decision, "call", None)
    what = () if call is None else (call.number, call.worker, call.begin, call.end, call.kind)
    return (type(decision).__name__, *what)


@pytest.mark.parametrize("ahead", [0, 1])
def test_a_live_run_replayed_gives_the_same_decisions(ahead):
    job = Job(60, hedge=0.05, ahead=ahead)
    with ThreadPoolExecutor(3) as pool:
        live, _, log = run(cm.engines.FromExecutor(pool, 3), job, Itemwise(slow_at_three), 60)
    one, two = Scheduler(live.scheduler.job), Scheduler(live.scheduler.job)
    replayed, again = ([who.handle(event) for event in log] for who in (one, two))
    assert [[plain(d) for d in ds] for ds in replayed] == [[plain(d) for d in ds] for ds in again]
    assert one.outcome is live.scheduler.outcome
    assert one.started == live.scheduler.started == len(live.calls)
    calls = [d.call for ds in replayed for d in ds if isinstance(d, events.Start)]
    starts = {(call.number, call.worker, call.groups) for call in calls}
    made = {(c.chunk, c.worker, len(c.rows)) for c in live.calls}
    assert starts == made


def test_every_call_is_in_the_table_once():
    script = {0: [crash(), late(0.2)], 1: [fail(ValueError("once"))]}
    with Scripted(3, script) as engine:
        live, _, _ = run(engine, Job(30, hedge=0.05, size=3, ahead=0), np.sin, 30)
    assert sorted(record.chunk for record in live.calls) == list(range(live.scheduler.started))
    answered = [r for r in live.calls if r.outcome == "answered"]
    rows = sorted(row for record in answered for row in record.rows)
    assert rows == list(range(30))


def test_calls_that_were_lost_before_they_began_cost_nothing():
    class Losing(Scripted):
        """Loses what is kept on worker 0 once, without a crash during a call."""

        lost = False

        def submit(self, slot, fn, payload):
            if slot == 0 and not self.lost:
                self.lost = fn.lost = True
            return super().submit(slot, fn, payload)

    with Losing(2) as engine:
        live, work, _ = run(engine, Job(10, size=1, retries=0, hedge=None, ahead=0), np.sin, 10)
    assert (work.status == cm.Status.EXACT).all()
    assert [r.outcome for r in live.calls].count("not started") == 1


def test_the_order_in_which_rows_start_is_shuffled_if_that_is_wanted():
    with Scripted(1) as engine:
        job = Job(20, size=4, ahead=0)
        live, _, _ = run(engine, job, np.sin, 20, shuffled=True)
    order = np.random.default_rng(0).permutation(20)
    np.testing.assert_array_equal(np.concatenate([list(r.rows) for r in live.calls]), order)


def test_a_program_that_was_stopped_blames_no_row_for_it(monkeypatch):
    engine = Virtual(1, lambda worker, had: 61.5)
    engine.install(monkeypatch)
    get, stops = live.SimpleQueue.get, [60.0]

    def stopped_once(queue, timeout=0.0):
        if not stops:
            return get(queue, timeout)
        engine.now += timeout + stops.pop()
        raise Empty

    monkeypatch.setattr(live.SimpleQueue, "get", stopped_once)
    assert cm.map(np.sin, [1.0], engine=engine, call_timeout=1.0).exact.all()


def test_answers_that_never_cease_hold_up_no_timeout(monkeypatch):
    ended = []

    class Ending(Virtual):
        def abandon(self, futures):
            ended.append(self.now)
            super().abandon(futures)

    engine = Ending(2)
    engine.install(monkeypatch)
    get = live.SimpleQueue.get

    def slow(queue, timeout=0.0):
        """Dealing with an answer takes as long as it takes to come."""
        engine.now += 0.002
        return get(queue, timeout)

    monkeypatch.setattr(live.SimpleQueue, "get", slow)
    fn = cm.itemwise(lambda x: engine.sleep(60.0 if x == 0 else 0.001) or x)
    given = {"chunk": 1, "call_timeout": 0.5, "hedge": None, "on_error": "record"}
    result = cm.map(fn, np.arange(2000.0), engine=engine, **given)
    assert list(result.failures) == [0]
    assert ended[0] < 2.0
    assert result.seconds > 3.0


def test_a_row_that_was_answered_while_another_was_written_has_not_timed_out():
    """The time was looked at before the answer, and the row had failed as still running."""
    writing, answered = threading.Event(), threading.Event()

    class Slow(np.ndarray):
        def __setitem__(self, at, values):
            writing.set()
            answered.wait(60.0)
            time.sleep(0.7)
            super().__setitem__(at, values)

    def fn(batch):
        if batch[0] == 1.0:
            writing.wait(60.0)
            answered.set()
        return batch

    given = {"chunk": 1, "call_timeout": 0.5, "hedge": None, "out": np.zeros(2).view(Slow)}
    with ThreadPoolExecutor(2) as pool:
        assert cm.map(fn, np.arange(2.0), engine=pool, **given).exact.all()


@pytest.mark.parametrize(("rows", "freed"), [(4, 0.0), (1, 0.3), (8, 0.0), (1, 3.0)])
def test_no_row_waits_for_a_call_of_another_job_while_a_worker_is_free(rows, freed, monkeypatch):
    """It waited for 2 s, whatever it takes itself."""

    class Loaded(Virtual):
        def load(self, worker):
            return len(self._sent[worker]) + self._busy[worker]

    engine = Loaded(4)
    engine.install(monkeypatch)
    for worker, seconds in enumerate((60.0, freed, freed, freed)):
        for _ in range(bool(seconds)):
            engine.submit(worker, engine.keep(worker, engine.sleep), seconds)
    result = cm.map(cm.itemwise(lambda x: engine.sleep(0.01) or x), np.zeros(rows), engine=engine)
    assert result.exact.all()
    assert engine.now < freed + 0.15 + 0.5 * freed


@pytest.mark.parametrize("rule", [cm.Deadline(np.float32(0.2)), cm.Slower(np.float16(2))])
def test_seconds_of_a_rule_may_be_of_any_kind_of_real_number(rule):
    with ThreadPoolExecutor(2) as pool:
        result = cm.map(cm.itemwise(slow_at_three), np.arange(9.0), engine=pool, stop=rule)
    assert not result.exact[3]
    assert result.outcome in (cm.Outcome.DEADLINE, cm.Outcome.SLOWER)


def test_free_memory_is_read_once_and_only_for_jobs_that_size_calls(monkeypatch):
    """It was read for each `Pool.submit`, which took a tenth of its time."""
    read = []
    monkeypatch.setattr(live, "free_memory", lambda: read.append(1) or 1 << 40)
    with Scripted(2) as engine:
        for rows, times in ((1, 0), (2, 0), (3, 0), (100, 1)):
            run(engine, Job(rows), np.sin, rows)
            assert len(read) == times
