"""Hedges and wrong answers: whose row an answer is, and that hedges of a rejected worker are not used."""

from __future__ import annotations

import threading
from contextlib import closing

import numpy as np
import pytest

import codedmap as cm
from codedmap import Outcome
from codedmap.testing import Act, Scripted, corrupt, crash, late, never

from ..api.test_map import affine, inputs
from ..processes import eventually
from .test_hedge import begun

pytestmark = pytest.mark.usefixtures("virtual_time")

SOON = cm.Hedge(after=0.0)


def sines(batch):
    return np.sin(batch).sum(axis=1)


def wrong(result, truth):
    apart = np.abs(result.values - truth).reshape(len(truth), -1)
    return ~(apart < 1e-9).all(axis=1)


# Whose row it is, where groups have an order of their own


ORDERED = [cm.BerrutCode(4, 9, 1, order="path"), cm.SplineCode(4, 9, 1, order="path")]


def second_answers(code, change, rows):
    """Worker 3 is late and lies, and so its task has two answers; worker 1 never answers."""
    X = np.random.default_rng(0).standard_normal((rows, 2))
    script = {1: never(), 3: [corrupt(change, 0.15)], 0: [Act(), late(0.35)], 2: [Act(), late(0.2)]}
    with Scripted(9, script) as engine:
        result = cm.map(
            sines,
            X,
            code=code,
            engine=engine,
            stop=cm.Everyone() | cm.Deadline(1),
            hedge=cm.Hedge(after=0.05),
        )
        asked = [payload.parts[0] for _, payload in engine.calls]
    # The rows that a slot computes, found by what it was sent.
    of_slot = [np.flatnonzero((X[:, None] == sent).all(axis=2).any(axis=1)) for sent in asked]
    return result, sines(X), of_slot


@pytest.mark.parametrize("rows", [24, 23, 6])
@pytest.mark.parametrize("code", ORDERED, ids=lambda code: type(code).__name__)
def test_in_an_order_answers_that_differ_cost_the_rows_that_they_tell_of(code, rows):
    result, truth, of_slot = second_answers(code, lambda answer: answer + 1, rows)
    np.testing.assert_array_equal(np.flatnonzero(~result.exact), of_slot[3])
    np.testing.assert_array_equal(np.flatnonzero(wrong(result, truth)), of_slot[3])


@pytest.mark.parametrize("rows", [24, 23, 6])
@pytest.mark.parametrize("code", ORDERED, ids=lambda code: type(code).__name__)
def test_in_an_order_the_answer_that_can_be_stands_in_its_own_rows(code, rows):
    result, truth, _ = second_answers(code, lambda answer: answer * np.nan, rows)
    assert not wrong(result, truth).any()
    assert result.exact.all()
    assert result.rejected == (3,)


def test_an_answer_to_a_hedge_does_not_outdo_one_that_is_exact():
    code = cm.BerrutCode(3, 5, 0)  # whose points meet those of the tasks in the middle
    X = inputs(9)
    changed = corrupt(lambda answer: answer + 1)
    with Scripted(5) as engine:
        before = cm.map(affine, X, code=code, engine=engine)
    np.testing.assert_array_equal(np.flatnonzero(before.exact), [3, 4, 5])
    # Slot 4 is late, so that all tasks are hedged; the one in the middle by worker 1, who lies.
    script = {1: [Act(), changed], 4: late(0.2)}
    with Scripted(5, script) as engine:
        result = cm.map(
            affine,
            X,
            code=code,
            engine=engine,
            stop=cm.Everyone() | cm.Deadline(5),
            hedge=cm.Hedge(0.05),
        )
    assert not (wrong(result, affine(X)) & result.exact).any()
    np.testing.assert_array_equal(result.exact, np.repeat([True, False, True], 3))


# Liars as hedges


def test_among_copies_a_byzantine_workers_hedge_is_not_used_and_another_worker_is_asked():
    X = np.arange(1.0, 17.0)
    script = dict.fromkeys((5, 13, 21), never()) | {0: corrupt(lambda answer: answer + 1)}
    with Scripted(24, script) as engine:
        result = cm.map(
            np.sqrt, X, code=cm.Replication(8, 24), engine=engine, hedge=cm.Hedge(after=0.05)
        )
        asked = [worker for worker, _ in engine.calls[24:]]
    assert result.rejected == (0,)
    assert not wrong(result, np.sqrt(X)).any()
    assert result.exact.all()
    assert asked == [0, 1]
    assert result.hedges == 2
    assert len(result.calls) == 26


@pytest.mark.real_time
def test_a_byzantine_worker_may_be_found_out_after_its_hedge():
    engine, results = begun(cm.Replication(3, 9), hedge=cm.Hedge(0.0), stop=cm.Quorum(9))
    changed = {0: lambda answer: answer + 1}
    engine.answer(0, change=changed[0])
    with closing(results):
        worker = threading.Thread(target=lambda: found.extend(results))
        found = []
        worker.start()
        assert eventually(lambda: engine.workers_of(9) == [0])
        engine.answer(
            9, change=changed[0]
        )  # for slot 1, and the last copy that is missing is slot 2's
        assert eventually(lambda: engine.workers_of(9) == [0, 0])
        engine.answer(3, 6)
        assert eventually(lambda: len(engine.sent) == 11)
        engine.answer(2)
        assert eventually(lambda: len(engine.sent) == 12)
        assert engine.workers_of(11) == [3]
        engine.answer(11)
        worker.join(10)
    last = found[-1]
    assert last.rejected == (0,)
    assert last.outcome is Outcome.EXACT
    np.testing.assert_array_equal(last.values, affine(inputs(12)))
    assert last.hedges == 3


@pytest.mark.parametrize("lost", [never(), late(0.3)])
@pytest.mark.parametrize("order", [None, "path"])
def test_among_mixtures_a_byzantine_workers_hedge_is_not_used(order, lost):
    X = np.linspace(0, 3, 200)[:, None]
    script = {0: corrupt(lambda answer: -answer), 30: lost}
    with Scripted(60, script) as engine:
        result = cm.map(
            np.cos,
            X,
            code=cm.SplineCode(20, 60, 10, order=order),
            engine=engine,
            hedge=SOON,
            stop=cm.Everyone() | cm.Deadline(5),
        )
        asked = [worker for worker, _ in engine.calls[60:]]
    assert 0 in result.rejected
    assert result.exact.all()
    assert not wrong(result, np.cos(X)).any()
    assert asked.count(0) <= 1


@pytest.mark.parametrize("stop", [cm.Decodable(), cm.Everyone(), cm.Quorum(5)])
def test_where_only_hedges_can_be_decoded_rejected_ones_are_sent_once_more(stop):
    X = np.arange(6.0).reshape(3, 2)
    script = {
        0: [corrupt(lambda answer: answer * np.nan)],
        2: [crash()],
        3: [crash()],
        4: [crash()],
    }
    with Scripted(5, script) as engine:
        result = cm.map(
            affine,
            X,
            code=cm.LagrangeCode(3, 5, 0, degree=1),
            engine=engine,
            stop=stop,
            hedge=SOON,
        )
    np.testing.assert_allclose(result.values, affine(X), atol=1e-9)
    assert result.rejected == (0,)


def test_what_a_byzantine_worker_answered_to_a_hedge_is_sent_to_another():
    X = np.linspace(0, 3, 60)[:, None]
    script = {0: corrupt(lambda answer: -answer), 20: late(0.2)}
    with Scripted(30, script) as engine:
        result = cm.map(
            np.cos,
            X,
            code=cm.SplineCode(10, 30, 5),
            engine=engine,
            hedge=cm.Hedge(0.0, budget=1),
            stop=cm.Everyone() | cm.Deadline(5),
        )
    assert result.hedges == 1
    assert result.rejected == (0,)
    assert not (wrong(result, np.cos(X)) & result.exact).any()
    assert np.abs(result.values - np.cos(X)).max() < 0.1


def test_a_worker_that_lied_in_few_groups_vouches_for_no_row_as_a_hedge():
    def partly(answer):
        changed = answer + 0.0
        changed[: len(answer) // 4] += 1
        return changed

    X = np.arange(1.0, 65.0)
    script = dict.fromkeys((5, 13, 21), never()) | {0: [corrupt(partly), corrupt(lambda a: a + 1)]}
    with Scripted(24, script) as engine:
        result = cm.map(
            np.sqrt, X, code=cm.Replication(8, 24), engine=engine, hedge=cm.Hedge(after=0.05)
        )
    assert result.rejected == (0,)
    assert not wrong(result, np.sqrt(X)).any()
    assert result.exact.all()


def test_where_only_byzantine_workers_are_free_the_wave_ends_as_without_their_answer():
    X = inputs(6)
    copies = {"code": cm.Replication(2, 6), "hedge": cm.Hedge(0.05, budget=1), "retries": 0}
    script = dict.fromkeys((1, 3, 5), crash()) | {0: corrupt(lambda answer: answer + 1)}
    with Scripted(6, script) as engine, pytest.raises(cm.NotEnoughAnswers, match="task 1"):
        cm.map(affine, X, engine=engine, **copies)
    with Scripted(6, script) as engine:
        result = cm.map(affine, X, engine=engine, on_error="record", **copies)
    assert result.rejected == (0,)
    assert result.exact[:3].all()
    assert np.isnan(result.values[3:]).all()
    assert np.isinf(result.stderr[3:]).all()


def found_out(first):
    """A wave in which worker 0 lies twice: in its own slot, and as a hedge of slot 1.

    That slot's own worker answers ``first``, if it does before the hedge.
    """
    engine, results = begun(
        cm.Replication(3, 9, fill="mean"), hedge=cm.Hedge(0.0, budget=1), stop=cm.Everyone()
    )
    engine.answer(0, change=lambda answer: answer + 1)
    next(results)
    assert engine.workers_of(9) == [0]  # nobody else has answered
    if first:
        engine.answer(1)
        next(results)
    engine.answer(9, change=lambda answer: answer + 1)
    if not first:
        next(results)
    engine.answer(3, 6)
    found = next(results)
    assert found.rejected == (0,)
    return engine, results, found


def test_the_straggler_may_still_answer_after_a_byzantine_workers_hedge_and_then_it_counts():
    engine, results, found = found_out(first=False)
    np.testing.assert_array_equal(np.flatnonzero(found.exact), [0, 1, 2, 3])
    engine.answer(1)
    found = next(results)
    np.testing.assert_array_equal(np.flatnonzero(found.exact), range(8))
    engine.answer(2, 4, 5, 7, 8)
    last = list(results)[-1]
    np.testing.assert_array_equal(last.values, affine(inputs(12)))
    assert last.exact.all()
    assert last.outcome is Outcome.EVERYONE
    assert last.answered == tuple(range(9))
    assert last.rejected == (0,)
    assert last.hedges == 1


def test_a_byzantine_worker_neither_vouches_for_nor_disputes_an_answer():
    _, results, found = found_out(first=True)
    np.testing.assert_array_equal(np.flatnonzero(found.exact), range(8))
    np.testing.assert_array_equal(found.values[:8], affine(inputs(12))[:8])
    results.close()


@pytest.mark.parametrize("chunk", [None, "all"])
def test_a_worker_of_several_slots_is_rejected_once(chunk):
    X = np.arange(1.0, 17.0)
    options = {"code": cm.Replication(4, 12), "stop": cm.Everyone(), "chunk": chunk}
    warned = pytest.warns(UserWarning, match="12 workers and the engine 6")
    with Scripted(6, {4: corrupt(lambda answer: answer + 1)}) as engine, warned:
        result = cm.map(np.sqrt, X, engine=engine, **options)
    assert result.rejected == (4,)
    assert result.exact.all()
    np.testing.assert_array_equal(result.values, np.sqrt(X))
