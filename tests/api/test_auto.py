"""``code="auto"``: a plan made from some of the rows, on the engine of the call."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import codedmap as cm
from codedmap.planning import auto as planning
from codedmap.planning import replays, sampling, schemes
from codedmap.testing import Scripted, crash, never

RNG = np.random.default_rng(3)
WEIGHTS = RNG.normal(size=(3, 2))
X = RNG.uniform(-1, 1, (300, 3))


def smooth(batch):
    return np.tanh(batch @ WEIGHTS)


@pytest.fixture(autouse=True)
def few_waves(monkeypatch):
    monkeypatch.setattr(sampling, "_WAVES", 12)
    monkeypatch.setattr(replays, "_REPLAYED", 12)
    monkeypatch.setattr(replays, "_OF_A_KIND", 2)
    monkeypatch.setattr(schemes, "_SCREENED", 6)


def test_map_chooses_a_code_and_says_which():
    result = cm.map(smooth, X, code="auto", engine=Scripted(8, {2: never()}))
    plan = result.plan
    assert result.code is plan.code
    assert (plan.workers, plan.stragglers) == (8, 2)  # a fifth, rounded up
    assert result.code.workers == 8
    assert 8 / result.code.tasks <= 3
    assert f"code       {plan.choice}" in str(result)
    assert plan.rows[0].scheme in plan.choice
    assert np.sqrt(np.mean((result.values - smooth(X)) ** 2)) < 0.1 * smooth(X).std()


def test_the_next_wave_needs_no_plan():
    engine = Scripted(8)
    first = cm.map(smooth, X, code="auto", engine=engine)
    before = len(engine.calls)
    again = cm.map(smooth, X, code=first.code, engine=engine)
    assert len(engine.calls) - before == 8
    assert again.plan is None
    assert "code  " not in str(again)


def test_stream_chooses_once_for_all_its_results():
    results = list(cm.stream(smooth, X, code="auto", engine=Scripted(8)))
    assert all(result.plan is results[0].plan for result in results)
    assert results[0].plan is not None
    assert "code  " in str(results[0])


def test_the_plan_is_computed_where_the_function_lives():
    here = os.getpid()

    def there(batch):
        assert os.getpid() != here, "the model is only on the workers"
        return np.tanh(batch[:, :2])

    with cm.engines.Local(workers=4) as engine:
        fn = cm.engines.Resident(there, engine)
        result = cm.map(fn, X, code="auto", engine=engine)
    assert len(result.values) == len(X)
    assert result.plan.computed > 0


def test_workers_that_are_lost_while_planning_cost_nothing():
    script = {1: never(), 4: crash()}
    result = cm.map(smooth, X, code="auto", engine=Scripted(8, script), stop=cm.Quorum(6))
    assert result.plan.rows[0].rmse < 0.2 * result.plan.deviation
    assert result.outcome is cm.Outcome.QUORUM


@pytest.mark.parametrize(
    ("stop", "late"),
    [
        (None, 2),
        (cm.Quorum(7), 1),
        (cm.Quorum(5) & cm.Decodable(), 3),
        (cm.Quorum(5) & cm.Quorum(6), 2),
        (cm.Quorum(5) | cm.Deadline(3.0), 3),
        (cm.Quorum(5) | cm.Quorum(6), 3),
        (cm.Deadline(3.0), 2),
        (cm.Everyone(), 2),
        (cm.Tolerance(0.5), 2),
        (cm.Quorum(99), 0),
    ],
)
def test_as_many_are_late_as_the_rule_goes_without(stop, late):
    assert planning._dispensable(stop, 8) == late


def test_a_single_worker_is_never_late():
    assert planning._dispensable(None, 1) == 0
    result = cm.map(smooth, X, code="auto", engine=Scripted(1))
    assert result.exact.all()


def test_a_tolerance_gets_a_code_with_standard_errors():
    def refuses(batch):
        return smooth(batch)

    result = cm.map(refuses, X, code="auto", engine=Scripted(8), stop=cm.Tolerance(1.0))
    assert result.stderr is not None
    assert result.outcome is cm.Outcome.TOLERANCE


@pytest.mark.parametrize("rows", [1, 2, 5, 17])
def test_few_rows(rows):
    result = cm.map(smooth, X[:rows], code="auto", engine=Scripted(8, {3: never()}))
    assert result.values.shape == (rows, 2)
    assert result.code.tasks <= rows


def test_a_rule_that_waits_for_everybody_gets_a_code_that_uses_everybody():
    result = cm.map(smooth, X[:5], code="auto", engine=Scripted(8), stop=cm.Quorum(8))
    assert result.code.workers == 8
    assert len(result.answered) == 8


def test_planning_takes_a_bounded_number_of_calls():
    for rows in (300, 3_000):
        data = RNG.uniform(-1, 1, (rows, 3))
        result = cm.map(smooth, data, code="auto", engine=Scripted(8))
        wave = result.code.workers * -(-rows // result.code.tasks)
        assert result.plan.computed <= 1.5 * wave
        assert result.plan.computed < 2_000


def test_text_is_copied():
    words = np.array(["a" * n for n in range(1, 41)])
    result = cm.map(
        lambda batch: np.array([float(len(word)) for word in batch]),
        words,
        code="auto",
        engine=Scripted(8),
    )
    assert result.exact.all()
    assert "only copies" in str(result.plan)


def test_what_cannot_work():
    with ThreadPoolExecutor(4) as pool:
        with pytest.raises(cm.InvalidArgument, match="FromExecutor"):
            cm.map(smooth, X, code="auto", engine=pool)
        engine = cm.engines.FromExecutor(pool, workers=4)
        assert cm.map(smooth, X, code="auto", engine=engine).plan.workers == 4
        with pytest.raises(cm.InvalidArgument, match='or "auto"'):
            cm.map(smooth, X, code="automatic", engine=engine)
        with pytest.raises(cm.InvalidArgument, match="cannot be called"):
            cm.map(3, X, code="auto", engine=engine)
        with pytest.raises(cm.InvalidArgument, match="no stop rule"):
            cm.map(smooth, X, code="auto", engine=engine, stop=3)
        other = cm.engines.Resident(smooth, Scripted(4))
        with pytest.raises(cm.InvalidArgument, match="resident"):
            cm.map(other, X, code="auto", engine=engine)


def test_an_argument_that_cannot_work_is_refused_before_anything_is_computed():
    engine = Scripted(8)
    for change in ({"stop": 3}, {"stop": cm.Quorum(9)}, {"hedge": 3}, {"inputs": X[:0]}):
        arguments = {"inputs": X, **change}
        with pytest.raises(cm.InvalidArgument):
            cm.map(smooth, arguments.pop("inputs"), code="auto", engine=engine, **arguments)
        assert not engine.calls, change


def test_a_bug_in_the_function_is_the_cause_of_what_is_raised():
    with pytest.raises(cm.NotEnoughAnswers) as caught:
        cm.map(lambda batch: 1 // 0, X, code="auto", engine=Scripted(8))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_labels_are_refused_with_what_to_do_instead():
    with pytest.raises(cm.InvalidAnswer, match="Replication"):
        cm.map(lambda batch: smooth(batch).argmax(axis=1), X, code="auto", engine=Scripted(8))
