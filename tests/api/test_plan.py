"""`plan`: live, on engines."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest

import codedmap as cm
from codedmap.api import piloted
from codedmap.api.piloted import _difference
from codedmap.errors import NotEnoughAnswers, RowFailed, WorkerCrashed
from codedmap.execution import live
from codedmap.planning import ways
from codedmap.testing import Scripted, ScriptedCluster, never

from ..repeats import first
from ..virtual import Virtual

RNG = np.random.default_rng(7)
WEIGHTS = RNG.normal(size=(3, 2))
X = RNG.uniform(-1, 1, (300, 3))


def smooth(batch):
    return np.tanh(batch @ WEIGHTS)


def schemes_of(plan):
    return {row.scheme for row in plan.rows}


@pytest.fixture
def slow():
    """A function of rows that take 4 ms, and an engine of threads."""

    def fn(batch):
        time.sleep(0.004 * len(batch))
        return smooth(batch)

    with ThreadPoolExecutor(4) as pool:
        yield fn, cm.engines.FromExecutor(pool, 4)


def test_what_it_recommends_is_what_map_is_given(slow):
    fn, engine = slow
    plan = cm.plan(fn, X, engine=engine, budget=2.0)
    assert plan.workers == 4
    assert plan.tasks == 300
    assert plan.computed == 300
    result = cm.map(fn, X, engine=engine, **plan.options)
    off = (result.values - smooth(X)) / smooth(X).std(axis=0)
    assert np.sqrt((off**2).mean()) <= plan.asked


def test_it_takes_about_a_tenth_of_the_job_and_says_what_it_has_not_seen(slow):
    fn, engine = slow
    plan = cm.plan(fn, np.tile(X, (10, 1)), engine=engine)
    assert 10 < plan.computed < 600
    assert plan.remarks


@pytest.mark.parametrize(
    ("options", "computed"),
    first(
        2,
        [
            (
                {"rows": 1000},
                40,
            ),  # a job of 10 s: a tenth of it, of which four tenths are for calls
            ({"rows": 4000, "workers": 8}, 80),
            ({"budget": 1.0, "start": 5.0}, 40),  # of workers, which is not counted
            ({"budget": 50.0}, 200),  # enough for any plan
            (
                {"budget": 50.0, "_PLENTY": 50},
                160,
            ),  # by 150 calls, of which the first had several rows
            ({"rows": 4000}, 160),
            ({"budget": 1.0}, 40),
        ],
    ),
)
def test_so_many_rows_are_computed_as_there_is_time_for(options, computed, monkeypatch):
    options = dict(options)
    start = options.pop("start", 0.0)
    engine = Virtual(4, lambda worker, had: 0.0 if had else start)
    engine.install(monkeypatch)
    monkeypatch.setattr(ways, "_MOST", 2)
    monkeypatch.setattr(piloted, "_PLENTY", options.pop("_PLENTY", 200))
    monkeypatch.setattr(piloted, "_PLENTY_CALLS", 150)

    def fn(batch):
        engine.sleep(0.04 * len(batch))
        return smooth(batch)

    plan = cm.plan(fn, np.tile(X, (10, 1)), engine=engine, **options)
    assert abs(plan.computed - computed) <= 8
    assert plan.workers == options.get("workers", 4)
    one = cm.plan(fn, X[:1], engine=engine, workers=1, budget=1.0)
    assert (one.computed, one.workers) == (1, 1)
    assert one.seconds < 0.1  # of this time, in which planning takes none


@pytest.mark.parametrize("start", [0.0, 5.0])
def test_what_first_calls_load_allows_a_plan_no_more_time(start, monkeypatch):
    engine = Virtual(4)
    engine.install(monkeypatch)
    monkeypatch.setattr(ways, "_MOST", 2)
    budgets, real, first = [], piloted.planned, iter([start] * 4)

    def planned(*given, budget, spent):
        budgets.append((budget, spent()))
        return real(*given, budget=budget, spent=spent)

    def fn(batch):
        engine.sleep(0.04 * len(batch) + next(first, 0.0))
        return smooth(batch)

    monkeypatch.setattr(piloted, "planned", planned)
    plan = cm.plan(fn, X, engine=engine)
    [(budget, spent)] = budgets
    assert 0.3 <= budget <= 0.6  # the job takes 3 s
    assert spent < budget
    assert start <= plan.seconds < start + budget


def test_a_sample_ends_in_time_where_all_workers_stall(monkeypatch):
    engine = Virtual(4, lambda worker, had: 0.0 if had < 7 else 1e6)
    engine.install(monkeypatch)

    def fn(batch):
        engine.sleep(0.04)
        return smooth(batch)

    cm.plan(fn, X, engine=engine, budget=1.0)
    assert engine.now == pytest.approx(0.4, abs=0.05)


def test_the_job_may_have_more_rows_and_workers_than_the_sample_and_the_engine():
    with Scripted(2) as engine:
        plan = cm.plan(smooth, X, engine=engine, workers=24, rows=10_000)
    assert (plan.workers, plan.tasks) == (24, 10_000)
    assert "10,000 rows on 24 workers" in str(plan)


def test_a_worker_that_never_answers_does_not_hold_it_up():
    with Scripted(4, {1: never()}) as engine:
        plan = cm.plan(smooth, X, engine=engine)
    assert plan.rows[0].exact > 0


def test_it_runs_on_the_cores_of_this_machine_by_default():
    here = os.getpid()

    def there(batch):
        assert os.getpid() != here
        return np.tanh(batch)

    plan = cm.plan(there, X[:40], workers=3)
    assert plan.computed > 0


@pytest.mark.slow
def test_text_frames_and_records():
    records = [{"mass": float(a), "speed": float(b)} for a, b, _ in X[:40]]
    with Scripted(4) as engine:
        plan = cm.plan(
            lambda batch: np.array([row["mass"] * row["speed"] for row in batch]),
            records,
            engine=engine,
            budget=5.0,
        )
        assert schemes_of(plan) == {"exact with hedging", "copies"}
        plan = cm.plan(cm.itemwise(str.upper), ["a", "b", "cd"] * 9, engine=engine, budget=5.0)
        assert schemes_of(plan) == {"exact with hedging", "copies"}
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame(X, columns=["a", "b", "c"])
        plan = cm.plan(lambda batch: batch["a"] * batch["b"], frame, engine=engine, budget=5.0)
        assert schemes_of(plan) == {"exact with hedging"}  # a code would hand over arrays


def test_codes_that_mix_are_no_ways_where_answers_are_integers(monkeypatch):
    """Neither is any while some rows have no answer."""
    engine = Virtual(4)
    engine.install(monkeypatch)
    monkeypatch.setattr(ways, "_MOST", 10)

    def level(batch):
        engine.sleep(0.04 * len(batch))
        return np.rint(9 * batch[:, 0]).astype(int)

    plan = cm.plan(level, X, engine=engine)
    assert plan.computed < len(X)
    assert schemes_of(plan) == {"exact with hedging", "estimates at a deadline", "copies"}
    result = cm.map(level, X, code="auto", engine=engine)
    assert schemes_of(result.plan) <= schemes_of(plan)


def test_a_function_of_several_inputs():
    with Scripted(4) as engine:
        plan = cm.plan(lambda a, b: a + b, (X[:, 0], X[:, 1]), engine=engine)
    assert plan.rows[0].scheme == "exact with hedging"


def test_a_sample_of_one_row_says_what_it_could_not_learn():
    with Scripted(4) as engine:
        plan = cm.plan(smooth, X[:1], engine=engine, rows=100)
    assert plan.rows[0].scheme == "exact with hedging"
    assert any("1 answered: too few rows" in text for text in plan.remarks)


def test_a_function_that_answers_at_random_is_said_with_what_to_do():
    rng = np.random.default_rng(0)
    with Scripted(4) as engine:
        plan = cm.plan(
            lambda batch: smooth(batch) + rng.normal(size=(len(batch), 2)), X, engine=engine
        )
    [remark] = [text for text in plan.remarks if "at random" in text]
    assert "seed=" in remark
    assert schemes_of(plan) <= {"exact with hedging", "estimates at a deadline"}
    with Scripted(4) as engine:
        assert "at random" not in str(cm.plan(smooth, X, engine=engine))


@pytest.mark.parametrize(
    ("off", "apart"),
    [
        ([0.0, 0.0], None),
        ([3.0, 0.0], 1.5),
        ([-3.0, 1e-12], 1.5),
        ([0.0, 7e-9], 1),
        ([1e-13, 1e-13], None),  # rounding
    ],
)
def test_two_answers_to_a_row_differ_by_deviations_of_the_outputs(off, apart):
    """The first output has a deviation of 2; the other is always 7."""
    answers = np.array([[0.0, 7.0], [4.0, 7.0], [0.0, 7.0], [4.0, 7.0]])
    text = None if apart is None else f" by {apart} deviations of the outputs"
    assert _difference(answers[0], answers[0] + np.array(off), answers) == text


def test_answers_of_any_kind_may_differ():
    none = np.zeros((4, 2))
    assert _difference(none[0], np.array([0.0, 0.5]), none) == " by 0.5 deviations of the outputs"
    assert _difference(none[0] + np.inf, none[0] + np.inf, none + np.inf) is None
    text = np.array(["a", "b"])
    for two, apart in ((text, None), (text[::-1], ""), (text[:1], ""), (none[0], "")):
        assert _difference(text, two, text) == _difference(two, text, text) == apart


def test_calls_are_timed_by_those_that_have_an_answer():
    with Scripted(4) as engine:
        plan = cm.plan(smooth, X, engine=engine)
    assert 1 <= plan.timed <= plan.computed


def ends(batch):
    os._exit(3)


def test_a_function_that_ends_its_process_is_one_clear_error():
    with (
        cm.engines.Local(2) as engine,
        pytest.raises(RowFailed, match="ended its worker") as caught,
    ):
        cm.plan(ends, X[:5], engine=engine)
    assert isinstance(caught.value.__cause__, WorkerCrashed)


def test_calls_that_crashed_are_said():
    with Scripted(4, {0: [cm.testing.crash()]}) as engine:
        assert "1 call crashed: " in str(cm.plan(smooth, X, engine=engine))


def test_a_function_that_raises_is_named_with_its_row():
    def fails(batch):
        raise ValueError("no weights")

    with (
        Scripted(4) as engine,
        pytest.raises(
            RowFailed, match=r"row \d+ failed.*no weights.*, or leave it out of the sample$"
        ) as caught,
    ):
        cm.plan(fails, X, engine=engine)
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_sample_of_which_no_row_is_answered_is_one_clear_error(monkeypatch):
    monkeypatch.setattr(live, "_PATIENCE", 0.05)

    said = "0 of 300 rows of the sample were answered, because no call was left running.*: start more workers"
    with ScriptedCluster([None] * 2, {0: never(), 1: never()}) as engine:
        for worker in (0, 1):
            threading.Timer(0.2, engine.leave, [worker]).start()
        with pytest.raises(NotEnoughAnswers, match=said):
            cm.plan(smooth, X, engine=engine)


def test_a_sample_that_loses_its_workers_is_no_plan(monkeypatch):
    monkeypatch.setattr(live, "_PATIENCE", 0.05)
    computed = []

    def fn(batch):
        computed.extend(batch)
        if len(computed) > 20:
            for worker in list(engine.members()):
                engine.leave(worker)
        return smooth(batch)

    said = "[1-9][0-9]* of 300 rows of the sample were answered, because no call was left running"
    with ScriptedCluster([None] * 2) as engine, pytest.raises(NotEnoughAnswers, match=said):
        cm.plan(fn, X, engine=engine, budget=60.0)


class Unanswered(Future):
    """A call that has no answer, and how long it was waited for."""

    waited = 0.0

    def result(self, timeout=None):
        self.waited += timeout
        raise TimeoutError


def test_a_second_answer_to_a_row_is_waited_for_in_a_quarter_of_the_time(monkeypatch):
    second = Unanswered()

    class Silent(Virtual):
        seen = frozenset()

        def submit(self, worker, fn, payload):
            if self.seen & set(payload.numbers):
                return second
            self.seen |= set(payload.numbers)
            return super().submit(worker, fn, payload)

    engine = Silent(4)
    engine.install(monkeypatch)
    monkeypatch.setattr(ways, "_MOST", 2)

    def fn(batch):
        engine.sleep(0.04 * len(batch))
        return smooth(batch)

    cm.plan(fn, X, engine=engine, budget=2.0)
    assert second.waited == pytest.approx((2.0 - 0.8) / 4, abs=0.02)


def test_a_resident_function_has_its_engine():
    with Scripted(4) as engine:
        fn = cm.engines.Resident(smooth, engine)
        assert cm.plan(fn, X).workers == 4
        with Scripted(4) as other, pytest.raises(cm.InvalidArgument, match="another engine"):
            cm.plan(fn, X, engine=other)


@pytest.mark.parametrize("named", first(1, [True, False]))
def test_codes_of_ones_own(named, monkeypatch):
    monkeypatch.setattr(ways, "_MOST", 10)
    code = cm.KernelCode(6, 8, 2)
    with Scripted(8) as engine:
        codes = {"mine": code} if named else code
        found = schemes_of(cm.plan(smooth, X, engine=engine, codes=codes, budget=5.0))
    assert found - {"estimates at a deadline"} == {
        "exact with hedging", "mine" if named else repr(code),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"workers": 0}, "workers=0"),
        ({"rows": 0}, "rows=0"),
        ({"tasks": 0}, "tasks=0"),
        ({"seed": -1}, "seed=-1"),
        ({"error": -1}, "must be a finite number of at least 0"),
        ({"error": "small"}, "must be a finite number of at least 0"),
        ({"budget": 0}, "budget=0 must be a finite number above 0"),
        ({"deadline": 0}, "deadline=0 must be a finite number above 0"),
        ({"stragglers": 8}, "leave no worker"),
        ({"latency": 3}, "is not a latency model"),
        ({"latency": cm.latency.Pareto}, "is not a latency model"),
        ({"latency": cm.latency.Empirical([[1.0, 2.0]])}, "only 2 were measured"),
        ({"codes": "kernel"}, "is not a code"),
        ({"codes": []}, "is empty"),
        ({"codes": [3]}, "is not a code"),
        ({"codes": [cm.KernelCode(8, 9, 1)]}, "the plan is for 8: give workers=9, or leave"),
        ({"engine": 3}, "neither an engine nor an Executor"),
        ({"fn": 3}, "cannot be called"),
        ({"sample": X[:0]}, "empty"),
        ({"sample": iter([X])}, "iterator"),
    ],
)
def test_arguments_that_cannot_work(change, why):
    with Scripted(8) as engine:
        given = {"fn": smooth, "sample": X, "engine": engine, **change}
        with pytest.raises(cm.InvalidArgument, match=why):
            cm.plan(given.pop("fn"), given.pop("sample"), **given)
        assert not engine.calls


def test_calls_may_take_no_time():
    model = cm.latency.ShiftedExponential(0.0, 0.0)
    with Scripted(8) as engine:
        assert cm.plan(smooth, X, engine=engine, latency=model).rows[0].seconds == 0.0


def test_what_a_plan_needs_is_imported_before_its_time_begins():
    source = """if True:
        import sys
        import numpy as np, codedmap as cm

        def fn(batch):
            print("scipy.optimize" in sys.modules)
            return batch

        cm.plan(fn, np.ones((3, 1)), engine=cm.testing.Scripted(1))
        """
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[0] == "True"


def test_answers_may_be_as_large_as_numbers_can_be():
    with ThreadPoolExecutor(2) as pool:
        found = cm.plan(lambda x: 1e300 * np.sin(x), np.linspace(0, 3, 40)[:, None], engine=pool)
    assert "inf" not in str(found)
