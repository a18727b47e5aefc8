"""``code="auto"``: planned from the first answers, while rows are computed."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import codedmap as cm
from codedmap.api import map as options
from codedmap.api import piloted as jobs
from codedmap.execution import missing
from codedmap.planning import errors, ways
from codedmap.results import progress_bar
from codedmap.testing import Scripted, ScriptedCluster, never

from ..processes import eventually
from ..repeats import first
from ..virtual import Virtual

RNG = np.random.default_rng(3)
WEIGHTS = RNG.normal(size=(3, 1)) / 3
X = RNG.uniform(-1, 1, (400, 3))


def smooth(batch):
    return np.tanh(batch @ WEIGHTS)


@pytest.fixture
def slow(monkeypatch):
    """A function of rows that take 40 ms, an engine, and the rows computed: in virtual time.

    Plans take none of it, and what is planned does not depend on the machine.
    """
    computed, engine = [], Virtual(4)
    engine.install(monkeypatch)

    def fn(batch):
        engine.sleep(0.04 * len(batch))
        computed.extend(batch[:, 0].tolist())
        return smooth(batch)

    def at_once(make, **_):
        plan = Future()
        plan.set_result(make())
        return plan

    monkeypatch.setattr(jobs, "in_thread", at_once)
    monkeypatch.setattr(ways, "_MOST", 10)
    return fn, engine, computed


@pytest.fixture
def threads():
    """A function of rows that take 40 ms, an engine of threads, and the rows computed."""
    computed = []

    def fn(batch):
        time.sleep(0.04 * len(batch))
        computed.extend(batch[:, 0].tolist())
        return smooth(batch)

    with ThreadPoolExecutor(4) as pool:
        yield fn, cm.engines.FromExecutor(pool, 4), computed


def error(result):
    return np.sqrt((((result.values - smooth(X)) / smooth(X).std()) ** 2).mean())


class Silent(Scripted):
    """Does not answer the call by which two answers of a row are compared."""

    def submit(self, worker, fn, payload):
        if any(row in batch.numbers for _, batch in self.calls for row in payload.numbers):
            self._acts = {worker: iter([never()])}
        return super().submit(worker, fn, payload)


def test_the_comparison_ends_with_a_job_that_fails():
    def fn(batch):
        if len(engine.calls) > 60:
            raise ValueError("a row")
        return smooth(batch)

    with Silent(3) as engine:
        with pytest.raises(cm.errors.RowFailed):
            cm.map(fn, X, code="auto", engine=engine, chunk=1)
        assert engine._acts  # it was compared
        assert not engine._pending
    assert eventually(lambda: "codedmap-plan" not in {t.name for t in threading.enumerate()})


def test_a_first_answer_may_be_the_last_of_all_workers():
    with ScriptedCluster([None] * 2) as engine:

        def fn(batch):
            if len(engine.calls) == 1:
                for worker in engine.members():
                    threading.Timer(0.05, engine.leave, [worker]).start()
                time.sleep(0.2)
                threading.Timer(0.2, engine.join).start()
            return smooth(batch)

        result = cm.map(fn, X[:40], code="auto", engine=engine)
    assert result.exact.all()


def test_rows_that_are_not_worth_their_time_are_estimated(slow):
    fn, engine, _ = slow
    result = cm.map(fn, X, code="auto", engine=engine)
    assert result.plan.rows[0].scheme == "estimates at a deadline"
    assert result.exact.sum() < 100
    assert (result.status <= cm.Status.ESTIMATED).all()
    assert (result.row_stderr()[~result.exact] > 0).all()
    # Products of matrices of another number of rows round differently.
    np.testing.assert_allclose(result.values[result.exact], smooth(X[result.exact]), rtol=1e-12)
    assert error(result) < 0.05
    assert result.plan.choice in str(result)


@pytest.fixture
def plans(monkeypatch):
    """The rows, calls and seconds of which each plan is made, and what it says."""
    made, real = [], jobs.planned

    def planned(ask, pilot, *, budget, spent):
        assert spent() < 1e-6
        plan = real(ask, pilot, budget=budget, spent=spent)
        made.append(SimpleNamespace(pilot=pilot, budget=budget, plan=plan))
        return plan

    monkeypatch.setattr(jobs, "planned", planned)
    return made


@pytest.mark.slow
def test_plans_are_made_anew_by_twice_as_many_rows(slow, plans, monkeypatch):
    """The first by a twentieth of the rows, and none when most are computed."""
    monkeypatch.setattr(ways, "_MOST", 1)
    fn, engine, _ = slow
    result = cm.map(fn, X, code="auto", engine=engine, hedge=None, tolerance=0.0)
    assert result.exact.all()
    assert [made.pilot.answered for made in plans] == [20, 40, 80, 160]
    assert result.plan.computed == 160
    for made in plans:
        timed = made.pilot.timed
        assert sum(call.rows for call in timed if call.ended) == made.pilot.answered
        assert {call.worker for call in timed if not call.ended} == {0, 1, 2, 3}


def test_rows_are_computed_until_there_are_as_many_as_a_plan_wants(slow, plans):
    fn, engine, _ = slow
    result = cm.map(fn, X, code="auto", engine=engine, hedge=None)
    assert result.outcome is cm.Outcome.SHARE
    wanted = result.plan.rows[0].exact * len(X)
    assert wanted <= 1.05 * result.plan.computed < 1.1 * wanted
    assert result.plan.computed <= result.exact.sum() <= result.plan.computed + 2 * 4
    # The last plan is made when there are as many, and not only when there are twice as many as for the one before.
    last, before = plans[-1].pilot.answered, plans[-2].pilot.answered
    assert before < last == result.plan.computed < 2 * before


def test_a_plan_is_followed_while_calls_still_run(monkeypatch):
    """All workers stall after some rows, and the plan is content with these."""
    engine = Virtual(4, lambda worker, had: 0.04 if had < 8 else 1e6)
    engine.install(monkeypatch)
    real, made = jobs.planned, Future()

    def content(*given, **named):
        plan = real(*given, **named)
        best = replace(plan.rows[0], scheme="content", code=None, deadline=1.0, exact=0.05)
        return replace(plan, rows=(best,))

    def later(make, **_):
        engine.at(engine.now + 1.0, lambda: made.set_result(make()))
        return made

    monkeypatch.setattr(jobs, "planned", content)
    monkeypatch.setattr(jobs, "in_thread", later)
    result = cm.map(smooth, X, code="auto", engine=engine, hedge=None, chunk=1)
    assert result.outcome is cm.Outcome.SHARE
    assert 1.0 < engine.now < 2.0


@pytest.mark.slow
@pytest.mark.parametrize("share", first(1, [0.65, 0.9]))
def test_a_plan_that_wants_most_rows_is_followed_as_well(share, slow, plans, monkeypatch):
    """Not only one that wants at most three fifths of them, after which else no plan is made."""
    real = jobs.planned

    def wanting(*given, **named):
        plan = real(*given, **named)
        best = replace(plan.rows[0], scheme="wanting", code=None, deadline=1.0, exact=share)
        return replace(plan, rows=(best,))

    monkeypatch.setattr(jobs, "planned", wanting)
    fn, engine, _ = slow
    result = cm.map(fn, X, code="auto", engine=engine, hedge=None, chunk=1)
    assert result.outcome is cm.Outcome.SHARE
    assert 0.95 * share <= result.exact.mean() <= share + 0.03
    assert [made.pilot.answered for made in plans][:4] == [20, 40, 80, 160]


@pytest.mark.slow
@pytest.mark.parametrize("slower", first(1, [20, 200]))
def test_estimates_have_the_time_of_a_job_without_a_deadline(slow, slower, monkeypatch):
    fn, engine, _ = slow
    monkeypatch.setattr(ways, "_MOST", 2)
    times, real = [], missing.estimates

    def estimates(*given, time_left, **options):
        times.append(time_left())
        return real(*given, time_left=time_left, **options)

    def slower_fn(batch):
        engine.sleep(0.04 * len(batch) * (slower - 1))
        return fn(batch)

    monkeypatch.setattr(missing, "estimates", estimates)
    result = cm.map(slower_fn, X, code="auto", engine=engine, hedge=None)
    taken = result.seconds
    assert times == [pytest.approx(max(0.1 * taken, min(0.25 * taken, 0.5)))]


@pytest.mark.slow
def test_plans_take_a_fiftieth_of_the_time(slow, plans, monkeypatch):
    fn, engine, _ = slow
    monkeypatch.setattr(ways, "_MOST", 2)

    def slower(batch):
        engine.sleep(4.0 * len(batch))
        return fn(batch)

    cm.map(slower, X, code="auto", engine=engine, hedge=None)
    assert [made.budget for made in plans] == [pytest.approx(0.02 * 4.04 * 100, rel=0.3)] * len(
        plans
    )
    assert plans


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_one_row_is_computed_again_by_another_worker_if_there_is_one(workers):
    with Scripted(workers) as engine:
        cm.map(smooth, X[:60], code="auto", engine=engine, hedge=None, chunk=3, tolerance=0.0)
    by, again = {}, []
    for worker, batch in engine.calls:
        again += [(row, worker, len(batch.numbers)) for row in batch.numbers if row in by]
        by |= dict.fromkeys(batch.numbers, worker)
    ((row, worker, rows),) = again
    assert rows == 1
    assert (worker != by_first(engine, row)) == (workers > 1)
    assert len(by) == 60


def by_first(engine, row):
    """The worker that was the first to be sent a row."""
    return next(worker for worker, batch in engine.calls if row in batch.numbers)


def test_an_error_of_planning_is_raised(monkeypatch):
    def planned(*given, **named):
        assert threading.current_thread().daemon  # the end of a program does not wait for it
        raise ZeroDivisionError

    monkeypatch.setattr(jobs, "planned", planned)
    with Scripted(4) as engine, pytest.raises(ZeroDivisionError):
        cm.map(smooth, X, code="auto", engine=engine)


@pytest.mark.slow
def test_no_row_is_computed_for_the_plan_alone(slow, monkeypatch):
    fn, engine, computed = slow
    monkeypatch.setattr(jobs, "budget_of", lambda *seen: 0.0)
    result = cm.map(fn, X, code="auto", engine=engine, hedge=None, tolerance=0.0)
    assert result.exact.all()
    assert len(computed) <= len(X) + 1  # one of them twice, to see whether answers differ


def test_a_job_that_is_over_before_a_plan_is_exact_and_has_one_still():
    for rows in (1, 2, 5, 17):
        with Scripted(8, {2: never()}) as engine:
            result = cm.map(smooth, X[:rows], code="auto", engine=engine)
        assert result.exact.all()
        assert result.plan.tasks == rows


def test_the_plan_of_a_job_that_is_over_takes_no_time(monkeypatch):
    def replayed(*_, **__):
        raise AssertionError("no losses are replayed for a plan that is not used")

    monkeypatch.setattr(errors, "estimates", replayed)
    result = cm.map(smooth, X, code="auto", engine=Scripted(4), chunk="all")
    assert result.exact.all()
    assert 0.0 < result.plan.seconds < np.inf


def test_a_tolerance_is_kept(slow):
    fn, engine, _ = slow
    result = cm.map(fn, X, code="auto", engine=engine, tolerance=0.05)
    assert result.exact.sum() < 100
    assert np.sqrt(((result.values - smooth(X))[~result.exact] ** 2).mean()) < 0.05


def test_a_deadline_is_kept(slow, monkeypatch):
    fn, engine, _ = slow
    monkeypatch.setattr(jobs, "budget_of", lambda *seen: 0.0)
    result = cm.map(fn, X, code="auto", engine=engine, deadline=1.0)
    assert result.outcome is cm.Outcome.DEADLINE
    assert 80 < result.exact.sum() <= 90
    assert result.seconds <= 1.0


def test_after_a_deadline_there_is_no_time_to_wait_for_a_plan(slow, monkeypatch):
    class Unready(Future):
        def result(self, timeout=None):
            raise AssertionError("waited for")

    fn, engine, _ = slow
    monkeypatch.setattr(jobs, "in_thread", lambda make, **_: Unready())
    result = cm.map(fn, X, code="auto", engine=engine, deadline=1.0)
    assert result.outcome is cm.Outcome.DEADLINE
    assert (result.status == cm.Status.ESTIMATED).any()
    assert result.plan is None


def test_a_job_that_ends_while_a_plan_is_made_has_that_one(slow, monkeypatch):
    made = []

    class Unready(Future):
        def result(self, timeout=None):
            return made[0]()

    monkeypatch.setattr(jobs, "in_thread", lambda make, **_: made.append(make) or Unready())
    fn, engine, _ = slow
    result = cm.map(fn, X[:60], code="auto", engine=engine, hedge=None)
    assert result.exact.all()
    assert len(made) == 1
    assert result.plan.computed < 20


def forced(monkeypatch, code):
    """Have plans recommend a code."""
    real = jobs.planned

    def with_code(*given, **named):
        plan = real(*given, **named)
        return replace(plan, rows=(replace(plan.rows[0], scheme="forced", code=code), *plan.rows))

    monkeypatch.setattr(jobs, "planned", with_code)
    monkeypatch.setattr(jobs, "budget_of", lambda *seen: 0.0)


@pytest.mark.parametrize(
    ("code", "rows"),
    first(
        2,
        [(cm.KernelCode(3, 4, 1), 100), (cm.SplineCode(3, 4, 1), 100), (cm.Replication(2, 4), 400)],
    ),
)
def test_a_code_gets_the_rows_that_have_no_answer_yet(slow, code, rows, monkeypatch):
    fn, engine, computed = slow
    forced(monkeypatch, code)
    some = X[:rows]
    result = cm.map(fn, some, code="auto", engine=engine)
    assert result.code == code
    assert result.plan.rows[0].scheme == "forced"
    assert result.values.shape == smooth(some).shape
    exact = result.exact
    assert exact.any()
    np.testing.assert_allclose(result.values[exact], smooth(some[exact]), rtol=1e-12)
    assert len(result.calls) > 4
    if isinstance(code, cm.Replication):
        assert exact.all()
        assert len(computed) < 2 * rows


def test_calls_before_a_code_are_counted_too(slow, monkeypatch):
    """Hedges were those of the code alone."""
    engine = Virtual(24, lambda worker, had: 10.0 if 4 <= worker < 12 else 0.04)
    engine.install(monkeypatch)
    forced(monkeypatch, cm.Replication(2, 4))
    result = cm.map(smooth, X[:12], code="auto", engine=engine)
    assert result.code is not None
    assert min(call.start for call in result.calls if call.kind == "hedge") < 1.0
    assert result.hedges == sum(call.kind == "hedge" for call in result.calls)
    assert result.worker_seconds == sum(c.seconds for c in result.calls if c.outcome == "answered")


def test_streams_and_event_loops(threads, monkeypatch):
    fn, engine, _ = threads
    forced(monkeypatch, cm.Replication(2, 4))
    some = X[:80]
    *_, last = cm.stream(fn, some, code="auto", engine=engine)
    assert last.exact.all()

    async def main():
        result = await cm.amap(fn, some, code="auto", engine=engine)
        found = [part async for part in cm.astream(fn, some, code="auto", engine=engine)]
        return result, found[-1]

    for result in asyncio.run(main()):
        assert result.exact.all()
        assert result.plan.rows[0].scheme == "forced"
    assert not [thread for thread in threading.enumerate() if thread.name == "codedmap-plan"]


def test_without_an_engine_it_runs_on_this_machine():
    result = cm.map(smooth, X[:40], code="auto")
    assert (result.status <= cm.Status.ESTIMATED).all()


def test_records_text_and_seeds():
    words = ["a" * (1 + number % 7) for number in range(40)]
    with Scripted(4) as engine:
        assert cm.map(cm.itemwise(len), words, code="auto", engine=engine).exact.all()
        records = [{"mass": float(a), "speed": float(b)} for a, b, _ in X[:40]]
        result = cm.map(
            cm.itemwise(lambda row: row["mass"] * row["speed"]), records, code="auto", engine=engine
        )
        np.testing.assert_array_equal(result.values, X[:40, 0] * X[:40, 1])
        drawn = cm.map(
            lambda batch, rng: np.array([one.normal() for one in rng]),
            X,
            code="auto",
            engine=engine,
            seed=1,
        )
        assert not any("at random" in text for text in drawn.plan.remarks)


def test_progress_is_shown_from_the_first_row(threads, capsys, monkeypatch):
    monkeypatch.setattr(progress_bar, "_is_shown", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    fn, engine, _ = threads
    cm.map(fn, X[:60], code="auto", engine=engine, progress=True)
    assert capsys.readouterr().err


@pytest.mark.parametrize("rows", first(1, [399, 400]))
def test_progress_with_a_code_is_of_rows_too(slow, rows, monkeypatch):
    """It began anew, and went on to the number of answers, more than there are rows."""
    failing = np.arange(rows) % 5 == 2
    shown = []

    @contextmanager
    def progress(wanted, total, *unit):
        yield lambda job: shown.append((total, *job.counts))

    monkeypatch.setattr(options, "job_progress", progress)
    forced(monkeypatch, cm.Replication(2, 4))
    fn, engine, _ = slow

    def some(batch):
        if np.isin(batch[:, 0], X[:rows][failing, 0]).any():
            raise ValueError
        return fn(batch)

    result = cm.map(some, X[:rows], code="auto", engine=engine, hedge=None, on_error="record")
    assert result.code is not None
    np.testing.assert_array_equal(result.status == cm.Status.FAILED, failing)
    totals, done, failed, running, hedged = zip(*shown, strict=True)
    assert set(totals) == {rows}
    assert list(done) == sorted(done)
    assert done[0] < 20  # before the code
    assert list(failed) == sorted(failed)
    assert 0 < failed[-1] <= failing.sum()
    assert max(running) <= rows
    assert set(hedged) == {0}
    assert rows / 4 < done[-1] <= rows - failed[-1]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"stop": cm.Quorum(3)}, "may use none: give one, or stop by Deadline or Share"),
        ({"out": "answers.npy"}, "without out"),
        ({"tolerance": -1}, "at least 0"),
        ({"code": "automatic"}, 'or "auto"'),
        ({"hedge": cm.Hedge(0.1)}, "without a code"),
    ],
)
def test_arguments_that_cannot_work(change, why):
    with Scripted(4) as engine:
        with pytest.raises(cm.InvalidArgument, match=why):
            cm.map(smooth, X, **{"code": "auto", "engine": engine, **change})
        assert not engine.calls


def test_a_stopping_rule_ends_it_as_well():
    noise = np.random.default_rng(0).normal(size=(len(X), 1))
    rows = {row.tobytes(): answer for row, answer in zip(X, noise, strict=True)}

    def random(batch):
        return np.array([rows[row.tobytes()] for row in batch])

    with Scripted(4) as engine:
        result = cm.map(random, X, code="auto", engine=engine, stop=cm.Share(0.7), chunk=1)
    assert result.outcome is cm.Outcome.SHARE
    assert 0.7 <= result.exact.mean() < 0.75
    assert (result.status <= cm.Status.ESTIMATED).all()


def test_a_function_that_raises_is_named_with_its_row():
    with Scripted(4) as engine, pytest.raises(cm.errors.RowFailed) as caught:
        cm.map(lambda batch: 1 // 0, X, code="auto", engine=engine)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_batches_grow_where_a_call_takes_a_time_of_its_own():
    def model(batch):
        time.sleep(0.06)
        return smooth(batch)

    with ThreadPoolExecutor(2) as pool:
        result = cm.map(model, X, engine=pool, code="auto", tolerance=1e-9)
    np.testing.assert_allclose(result.values, smooth(X), rtol=1e-12)
    assert len(result.calls) < 100


@pytest.mark.parametrize(
    ("given", "of_one"),
    [
        (list(range(1, 201)), lambda number: number**30),
        (range(1, 201), lambda number: number > 100),
        ([{"mass": number / 7} for number in range(200)], lambda row: row["mass"]),
        (["a" * (1 + number % 7) for number in range(200)], str.upper),
        ([[1.0] * (1 + number % 3) for number in range(200)], sum),
    ],
    ids=["integers", "booleans", "records", "text", "lists"],
)
def test_a_code_gets_lists_as_they_are(slow, given, of_one, monkeypatch):
    """They were no arrays, which ended the job; and whole numbers and booleans became floats."""
    _, engine, _ = slow
    forced(monkeypatch, cm.Replication(2, 4))

    def fn(item):
        engine.sleep(0.04)
        return of_one(item)

    result = cm.map(cm.itemwise(fn), given, code="auto", engine=engine)
    assert result.code is not None
    assert result.exact.all()
    assert result.values.tolist() == [of_one(item) for item in given]
    assert result.values.dtype == cm.itemwise(of_one)(given).dtype


def test_rows_that_have_failed_before_a_code_are_not_computed_again(slow, monkeypatch):
    _, engine, _ = slow
    forced(monkeypatch, cm.Replication(2, 4))
    computed = []

    def fn(batch):
        engine.sleep(0.04 * len(batch))
        computed.extend(batch.tolist() if len(batch) == 1 else ())
        if (batch % 5 == 0).any():
            raise ValueError("a fifth")
        return batch

    given = np.arange(200)
    result = cm.map(fn, given, code="auto", engine=engine, on_error="record")
    assert result.code is not None
    assert sorted(result.failures) == list(range(0, 200, 5))
    assert (result.status[list(result.failures)] == cm.Status.FAILED).all()
    alone = (call for call in result.calls if call.outcome == "raised" and len(call.rows) == 1)
    before = {int(call.rows[0]) for call in alone}
    assert before
    assert all(computed.count(row) == 1 for row in before)
