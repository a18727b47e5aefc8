"""Hedges of codes: when, where, at what cost, and what becomes of two answers."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import codedmap as cm
from codedmap import Outcome
from codedmap.testing import Faulty, Scripted, crash, late, never

from ..api.test_map import ONCE, affine, inputs
from ..processes import children, eventually
from ..virtual import Virtual

pytestmark = pytest.mark.usefixtures("virtual_time")

SOON = cm.Hedge(after=0.0)


def sent_again(engine: Scripted, slots: int) -> list[int]:
    """The workers that got a second call."""
    return [slot for slot, _ in engine.calls[slots:]]


def sent(result: cm.MapResult) -> int:
    """All calls, those that were still running at the end included."""
    return len(result.calls)


# Plain hedged replication


def test_an_uncoded_task_that_is_late_is_sent_once_more_and_the_first_answer_counts():
    X = inputs(12)
    with Scripted(4, {2: never()}) as engine:
        result = cm.map(affine, X, code=cm.Uncoded(4), engine=engine, hedge=cm.Hedge(after=0.1))
        slot, payload = engine.calls[-1]
    np.testing.assert_array_equal(result.values, affine(X))
    np.testing.assert_array_equal(payload.parts[0], X[6:9])
    assert slot != 2
    assert len(engine.calls) == len(result.calls) == 5
    assert result.hedges == result.calls.count("hedge") == 1
    assert result.seconds >= 0.1
    assert result.exact.all()
    assert (result.stderr == 0).all()
    assert result.answered == (0, 1, 2, 3)
    assert result.abandoned == ()
    assert [call.outcome for call in result.calls if call.slot == 2] == ["answered", "abandoned"]
    assert "hedges     1" in str(result)


def test_where_rows_raised_no_mixture_that_is_late_is_waited_for():
    """Every input has been answered or has raised, and the hedges are for inputs only."""

    def one(row):
        if row[0] == 1.0:
            raise ValueError("one")
        return row

    given = {"code": cm.KernelCode(5, 9, 0), "hedge": cm.Hedge(after=0.02), "on_error": "record"}
    with Scripted(9, {7: never()}) as engine:
        result = cm.map(cm.itemwise(one), np.arange(10.0)[:, None], engine=engine, **given)
    assert result.outcome is Outcome.COMPLETE
    assert [*result.failures] == [1]
    assert result.exact.sum() == 9


def test_without_a_time_calls_are_late_that_take_longer_than_the_others():
    with Scripted(4, {2: never()}) as engine:
        result = cm.map(affine, inputs(8), code=cm.Uncoded(4), engine=engine)
    assert result.exact.all()
    assert result.hedges == 1
    with Scripted(4, {2: late(0.1)}) as engine:
        result = cm.map(affine, inputs(8), code=cm.Uncoded(4), engine=engine, hedge=None)
    assert result.hedges == 0


def test_a_code_whose_rule_is_about_to_be_satisfied_is_not_hedged():
    with Scripted(6, dict.fromkeys((1, 4), never())) as engine:
        result = cm.map(affine, inputs(8), code=cm.SplineCode(2, 6, 2), engine=engine)
    assert result.outcome is Outcome.QUORUM
    assert result.hedges == 0


@pytest.mark.parametrize("code", [cm.SplineCode(4, 6, 2), cm.Replication(3, 6)])
@pytest.mark.parametrize("chunk", [None, "all"])
def test_a_worker_that_never_answers_does_not_hold_up_everyone(code, chunk):
    """And as before copies are waited for where each row is exact without them."""
    with Scripted(6, {2: never()}) as engine:
        result = cm.map(
            affine,
            inputs(12),
            code=code,
            engine=engine,
            stop=cm.Everyone() | cm.Deadline(60.0),
            chunk=chunk,
        )
    assert result.outcome is Outcome.EVERYONE
    assert result.hedges == 1
    assert result.answered == tuple(range(6))


def test_nothing_is_sent_again_before_its_time():
    with Scripted(4, {2: late(0.2)}) as engine:
        result = cm.map(affine, inputs(8), code=cm.Uncoded(4), engine=engine, hedge=cm.Hedge(60.0))
    assert result.hedges == 0
    assert len(result.calls) == 4
    assert "hedges" not in str(result)


def test_the_first_answer_counts_also_if_it_is_that_of_the_straggler():
    engine, results = begun(cm.Uncoded(3), hedge=SOON, stop=cm.Everyone())
    engine.answer(0, 1, 2)
    [last] = results
    assert last.outcome is Outcome.EVERYONE

    hedge = cm.Hedge(cm.Quorum(2))
    engine, results = begun(cm.Uncoded(3, fill="mean"), hedge=hedge, stop=cm.Everyone())
    engine.answer(0, 1)
    assert next(results).exact.sum() == 8
    assert engine.workers_of(3) == [0]
    engine.answer(2)
    [last] = results
    assert last.hedges == 1
    assert last.answered == (0, 1, 2)
    assert last.abandoned == ()
    assert last.exact.all()


@pytest.mark.parametrize(
    ("after", "hedges"), [(cm.Quorum(3), 1), (cm.Quorum(3) & cm.Deadline(60), 0)]
)
def test_a_rule_says_when(after, hedges):
    with Scripted(4, {2: late(0.3)}) as engine:
        result = cm.map(
            affine, inputs(8), code=cm.Uncoded(4), engine=engine, hedge=cm.Hedge(after=after)
        )
    assert result.hedges == hedges


def test_a_rule_that_needs_time_wakes_the_wave():
    hedge = cm.Hedge(after=cm.Quorum(2) & cm.Deadline(0.1))
    with Scripted(4, {2: never()}) as engine:
        result = cm.map(affine, inputs(8), code=cm.Uncoded(4), engine=engine, hedge=hedge)
    assert result.hedges == 1
    assert result.exact.all()


@settings(max_examples=30)
@given(
    st.integers(2, 8).flatmap(
        lambda n: st.lists(
            st.lists(st.sampled_from(["ok", "never", "crash", "late"]), min_size=2, max_size=2),
            min_size=n,
            max_size=n,
        )
    )
)
def test_if_one_worker_is_sound_every_row_is_exact(plan):
    acts = {"ok": late(0.0), "never": never(), "crash": crash(), "late": late(0.01)}
    script = {slot: [acts[act] for act in each] for slot, each in enumerate(plan)}
    script[0] = late(0.0)
    # A worker that does not compute a hedge either ends that hope: only the first calls may go wrong.
    for slot in range(1, len(plan)):
        script[slot] = [script[slot][0]]
    X = inputs(2 * len(plan))
    with Scripted(len(plan), script) as engine:
        result = cm.map(affine, X, code=cm.Uncoded(len(plan)), engine=engine, hedge=SOON)
    np.testing.assert_array_equal(result.values, affine(X))
    wrong = sum(each[0] == "never" for each in plan[1:])
    assert wrong <= result.hedges <= wrong + sum(each[0] in ("late", "crash") for each in plan[1:])


# To whom


def test_those_that_answered_first_get_it_never_the_straggler_and_one_at_a_time(monkeypatch):
    times = {0: 3.0, 1: 2.0, 2: 1.0, 3: np.inf, 4: np.inf, 5: np.inf}
    engine = Virtual(6, lambda slot, had: 10.0 if had else times[slot])
    engine.install(monkeypatch)
    result = cm.map(affine, inputs(12), code=cm.Uncoded(6), engine=engine, hedge=cm.Hedge(1.5))
    assert engine.calls[6:] == [(1.5, 2), (2.0, 1), (3.0, 0), (11.5, 2)]
    assert result.seconds == 21.5


def test_workers_beyond_the_codes_help(monkeypatch):
    times = {0: 1.0, 1: np.inf, 2: np.inf, 3: np.inf}
    engine = Virtual(6, lambda slot, had: 1.0 if had or slot > 3 else times[slot])
    engine.install(monkeypatch)
    cm.map(affine, inputs(12), code=cm.Uncoded(4), engine=engine, hedge=cm.Hedge(2.0))
    assert sorted(engine.calls[4:]) == [(2.0, 0), (2.0, 4), (2.0, 5)]


def test_if_nobody_has_answered_it_waits_for_somebody(monkeypatch):
    engine = Virtual(2, lambda slot, had: 1.0 if had else 2.0 + 2.0 * slot)
    engine.install(monkeypatch)
    result = cm.map(affine, inputs(6), code=cm.Uncoded(2), engine=engine, hedge=cm.Hedge(0.5))
    assert engine.calls[2:] == [(2.0, 0)]
    assert result.seconds == 3.0


def test_with_fewer_workers_than_slots_calls_go_to_whichever_is_free(monkeypatch):
    engine = Virtual(2, lambda slot, had: np.inf if (slot, had) == (1, 0) else 1.0)
    engine.install(monkeypatch)
    with pytest.warns(UserWarning, match="4 workers and the engine 2"):
        result = cm.map(affine, inputs(8), code=cm.Uncoded(4), engine=engine, hedge=SOON)
    assert engine.calls[2:] == [(1.0, 0), (2.0, 0), (3.0, 0)]
    assert result.exact.all()


@pytest.mark.real_time
def test_an_executor_hedges_too():
    go_on, seen = threading.Event(), []

    def slow_once(batch):
        if batch[0, 0] == 7.0 and not seen:
            seen.append(batch)
            go_on.wait(60.0)
        return affine(batch)

    X = inputs(8)
    X[4] = 7.0
    with ThreadPoolExecutor(4) as pool:
        result = cm.map(slow_once, X, code=cm.Uncoded(4), engine=pool, hedge=cm.Hedge(0.1))
        go_on.set()
    assert [call.kind for call in result.calls if call.outcome == "abandoned"].count("first") == 1
    np.testing.assert_array_equal(result.values, affine(X))


def test_a_resident_function_is_used_where_the_hedge_goes():
    with Scripted(4, {1: never()}) as engine:
        fn = cm.engines.Resident(affine, engine)
        result = cm.map(fn, inputs(8), code=cm.Uncoded(4), engine=engine, hedge=SOON)
        assert sent_again(engine, 4) == [0]
        again = cm.map(fn, inputs(8), code=cm.Uncoded(4), engine=engine, hedge=SOON)
    assert result.exact.all()
    assert again.exact.all()


@pytest.mark.real_time
def test_processes_are_hedged_and_none_is_left():
    """Workers import nothing for this function: for one of a test that takes them seconds on a busy machine."""
    before = set(children())
    X = inputs(12)
    with cm.engines.Local(3, grace=0.2) as owner:
        engine = Faulty(owner, {1: [late(60)]})
        result = cm.map(np.negative, X, code=cm.Uncoded(3), engine=engine, hedge=cm.Hedge(0.1))
        assert result.seconds < 12
        assert [call.outcome for call in result.calls if call.worker == 1] == ["abandoned"]
        np.testing.assert_array_equal(result.values, np.negative(X))
        again = cm.map(np.negative, X, code=cm.Uncoded(3), engine=owner, hedge=cm.Hedge(0.1))
        np.testing.assert_array_equal(again.values, np.negative(X))
    assert eventually(lambda: not set(children()) - before)


# What it may cost


def test_no_task_is_sent_more_than_once_more_and_no_more_than_the_budget():
    script = dict.fromkeys((1, 2, 3, 4), never())
    for budget in (None, 2):
        with Scripted(6, script) as engine:
            result = cm.map(
                affine,
                inputs(12),
                code=cm.Uncoded(6, fill="mean"),
                engine=engine,
                stop=cm.Everyone() | cm.Deadline(0.3),
                hedge=cm.Hedge(0.05, budget),
            )
        assert result.hedges == (budget or 4)
        assert result.exact.sum() == 2 * (2 + result.hedges)


@pytest.mark.parametrize(
    "stop", [None, cm.Everyone(), cm.Quorum(6), cm.Decodable(), cm.Tolerance(0.0)]
)
def test_no_rule_takes_a_failed_call_for_final_that_is_to_be_sent_again(stop):
    with Scripted(6, {1: crash(), 4: crash(0.05)}) as engine:
        result = cm.map(
            affine, inputs(12), code=cm.Uncoded(6), engine=engine, stop=stop, hedge=cm.Hedge(1000)
        )
    assert result.exact.all()
    assert result.calls.count("retry") >= 2


@pytest.mark.parametrize(
    "code",
    [
        cm.Replication(3, 6, fill="mean"),
        cm.KernelCode(3, 6, 1),
        cm.KernelCode(3, 6, 0, spread=0, confirm=2),
    ],
    ids=repr,
)
def test_late_calls_that_a_tolerance_waits_for_are_hedged(code):
    """The answers so far could be decoded, which was taken for good enough: the job waited for ever."""
    X = inputs(9)
    with Scripted(6, {2: never(), 5: [never()]}) as engine:
        stop = cm.Tolerance(0.0) | cm.Deadline(60)
        result = cm.map(affine, X, code=code, engine=engine, stop=stop)
    assert result.outcome is not Outcome.DEADLINE
    assert 0 < result.hedges <= 4
    assert result.exact.all()
    np.testing.assert_array_equal(result.values, affine(X))


def test_at_the_time_of_hedges_copies_that_are_to_confirm_others_are_sent_again():
    """Every task had an answer, so nothing was sent, and the job waited for ever."""
    X, code = inputs(9), cm.Replication(3, 6, confirm=2)
    with Scripted(6, {3: never()}) as engine:
        stop = cm.Quorum(6) | cm.Deadline(60)
        result = cm.map(affine, X, code=code, engine=engine, stop=stop, hedge=cm.Hedge(after=0.1))
    assert result.exact.all()
    assert (result.hedges, result.outcome) == (1, Outcome.QUORUM)


def test_a_copy_that_fails_is_no_loss_while_another_runs():
    with Scripted(6, {1: crash(), 4: late(0.2)}) as engine:
        result = cm.map(
            affine, inputs(9), code=cm.Replication(3, 6), engine=engine, hedge=cm.Hedge(1000)
        )
    assert result.hedges == 0
    assert result.exact.all()


def test_a_bug_in_fn_is_told_at_once_and_not_sent_around():
    def broken(batch):
        return {}["no such key"]

    with Scripted(4) as engine:
        with pytest.raises(cm.NotEnoughAnswers, match="no such key") as caught:
            cm.map(broken, inputs(8), code=cm.Uncoded(4), engine=engine, hedge=cm.Hedge(1000))
        assert len(engine.calls) == 4
    assert isinstance(caught.value.__cause__, KeyError)


def test_an_input_that_raises_is_not_sent_again():
    def picky(batch):
        if (batch == 7.0).any():
            raise ValueError("seven")
        return affine(batch)

    X = inputs(8)
    X[3] = 7.0
    with Scripted(4) as engine, pytest.raises(cm.NotEnoughAnswers, match="seven"):
        cm.map(picky, X, code=cm.Uncoded(4), engine=engine, hedge=cm.Hedge(1000))
    assert len(engine.calls) == 4


def test_a_hedge_that_crashes_leaves_the_straggler_to_answer():
    with Scripted(3, {0: [late(0.0), crash()], 2: late(0.2)}) as engine:
        result = cm.map(affine, inputs(6), code=cm.Uncoded(3), engine=engine, hedge=SOON)
    assert result.hedges == 1
    assert result.answered == (0, 1, 2)
    assert result.failed == {}


# Codes


@pytest.mark.parametrize(
    "code",
    [cm.SplineCode(4, 12, 2), cm.BerrutCode(4, 12, 2)],
    ids=lambda code: type(code).__name__,
)
@pytest.mark.parametrize("rows", [24, 26])
def test_where_only_mixtures_were_sent_hedged_rows_are_exact_and_others_as_before(code, rows):
    X = inputs(rows)
    wave = {"code": code, "stop": cm.Quorum(12) | cm.Deadline(0.4)}
    with Scripted(12, {5: never()}) as engine:
        before = cm.map(affine, X, engine=engine, **wave, **ONCE)
        after = cm.map(affine, X, engine=engine, **wave, hedge=cm.Hedge(0.1, budget=2))
        assert len(engine.calls) == 12 + 14
    assert after.hedges == 2
    assert after.exact.sum() in (12, 13, 14)
    np.testing.assert_array_equal(after.values[after.exact], affine(X)[after.exact])
    np.testing.assert_array_equal(after.values[~after.exact], before.values[~after.exact])
    assert after.abandoned == (5,)
    assert after.answered == before.answered


def test_a_wave_of_mixtures_is_over_when_every_raw_answer_has_come():
    X = inputs(26)
    with Scripted(12, {5: never()}) as engine:
        result = cm.map(
            affine,
            X,
            code=cm.SplineCode(4, 12, 2),
            engine=engine,
            stop=cm.Quorum(16) | cm.Deadline(60),
            hedge=SOON,
        )
    assert result.outcome is Outcome.EXACT
    assert result.hedges == 4
    np.testing.assert_array_equal(result.values, affine(X))


def test_what_cannot_be_decoded_is_exact_when_every_raw_answer_has_come():
    X = inputs(26)
    code = cm.LagrangeCode(4, 12, 2, degree=2)
    script = {slot: crash() for slot in range(8)}
    with Scripted(12, script) as engine:
        with pytest.raises(cm.NotEnoughAnswers):
            cm.map(affine, X, code=code, engine=engine, **ONCE)
        result = cm.map(affine, X, code=code, engine=engine)
    np.testing.assert_allclose(result.values, affine(X), atol=1e-9)
    assert result.calls.count("crashed") >= 8


@pytest.mark.parametrize("answered", [True, False])
def test_without_throw_hedged_rows_are_among_what_there_is(answered):
    X = inputs(12)
    code = cm.LagrangeCode(4, 12, 2, degree=2)
    script = {slot: never() for slot in range(1, 12)}
    if not answered:  # only the raw inputs, on workers that got no payload
        script[0] = never()
    with Scripted(14, script) as engine:
        result = cm.map(
            affine,
            X,
            code=code,
            engine=engine,
            stop=cm.Deadline(0.3),
            hedge=cm.Hedge(0.0, budget=2),
            on_error="record",
        )
    assert result.exact.sum() == 6
    np.testing.assert_array_equal(result.values[result.exact], affine(X)[result.exact])
    assert np.isnan(result.values[~result.exact]).all()
    assert np.isinf(result.stderr[~result.exact]).all()


def test_a_kernel_code_decodes_with_what_a_hedge_brought():
    X = np.linspace(-1, 1, 40)[:, None]
    code = cm.KernelCode(8, 10, 2)
    script = dict.fromkeys((2, 3, 6), never())
    with Scripted(10, script) as engine:
        before = cm.map(np.sin, X, code=code, engine=engine, stop=cm.Quorum(7))
        after = cm.map(
            np.sin, X, code=code, engine=engine, stop=cm.Quorum(9), hedge=cm.Hedge(0.1, budget=2)
        )
    assert before.exact.sum() == 25
    assert after.exact.sum() == 35
    assert after.outcome is Outcome.QUORUM
    for result in (before, after):
        assert np.abs(result.values - np.sin(X)).max() < 1e-4
    assert after.stderr[~after.exact].max() < before.stderr[~before.exact].max()


def test_rows_in_another_order_are_exact_where_they_stand():
    X = np.random.default_rng(0).normal(size=(23, 3))
    code = cm.KernelCode(4, 6, 1)
    with Scripted(6, {2: never()}) as engine:
        result = cm.map(affine, X, code=code, engine=engine, stop=cm.Everyone(), hedge=SOON)
    np.testing.assert_array_equal(result.values, affine(X))
    assert result.exact.all()
    code = cm.SplineCode(4, 6, 1, order="path")
    with Scripted(6, {5: never()}) as engine:
        result = cm.map(
            affine,
            X,
            code=code,
            engine=engine,
            stop=cm.Everyone() | cm.Deadline(0.2),
            hedge=cm.Hedge(0.0, 2),
        )
    assert result.exact.sum() in (11, 12)
    np.testing.assert_array_equal(result.values[result.exact], affine(X)[result.exact])


def test_with_copies_the_wave_is_over_when_every_row_is_exact():
    code = cm.Replication(3, 6)
    with Scripted(6, dict.fromkeys((1, 4), never())) as engine:
        result = cm.map(affine, inputs(9), code=code, engine=engine, hedge=SOON)
    assert result.exact.all()
    assert result.hedges == 1
    with Scripted(6, dict.fromkeys((1, 3, 5), never())) as engine:
        for hedge in (SOON, cm.Hedge()):
            result = cm.map(affine, inputs(9), code=code, engine=engine, hedge=hedge)
            assert result.outcome is Outcome.EXACT
            assert result.hedges == 0


# Two answers to one input


class Hands:
    """An engine whose calls answer by hand, in whichever order, each once."""

    def __init__(self, workers):
        self.workers = workers
        self.sent = []

    def submit(self, slot, fn, payload):
        future = Future()
        self.sent.append((slot, future, fn, payload))
        return future

    def keep(self, slot, value):
        return cm.engines.Kept(slot, value)

    def abandon(self, futures):
        pass

    def answer(self, *calls, change=lambda answer: answer):
        for call in calls:
            _, future, fn, payload = self.sent[call]
            fn = fn.key if isinstance(fn, cm.engines.Kept) else fn
            future.set_result(fn(payload).changed(change))

    def fail(self, call, error):
        self.sent[call][1].set_exception(error)

    def workers_of(self, first):
        return [slot for slot, *_ in self.sent[first:]]


def begun(code, rows=12, **options):
    engine = Hands(code.workers)
    return engine, cm.stream(affine, inputs(rows), code=code, engine=engine, **options)


def two_answers(change, hedge_first, code=None):
    """The result when one of the two answers for slot 3 was changed: that of the hedge, on worker 0."""
    code = code or cm.Uncoded(4, fill="mean")
    engine, results = begun(code, hedge=cm.Hedge(cm.Quorum(2)), stop=cm.Everyone())
    engine.answer(0, 1)
    next(results)
    assert engine.workers_of(4) == [0, 1]
    [fourth], [again] = engine.sent[3][3].parts, engine.sent[5][3].parts
    np.testing.assert_array_equal(again, fourth)
    if hedge_first:
        engine.answer(5, change=change)
        next(results)
        engine.answer(3)
    else:
        engine.answer(3)
        next(results)
        engine.answer(5, change=change)
    engine.answer(2)
    [last] = results
    assert last.answered == (0, 1, 2, 3)
    assert last.hedges == 2
    return last, slice(9, 12), affine(inputs(12))


@pytest.mark.parametrize("hedge_first", [True, False])
def test_two_answers_that_agree_are_exact(hedge_first):
    last, _, truth = two_answers(lambda answer: answer * (1 + 1e-12), hedge_first)
    assert last.exact.all()
    assert last.rejected == ()
    np.testing.assert_allclose(last.values, truth)


@pytest.mark.parametrize("hedge_first", [True, False])
@pytest.mark.parametrize("code", [cm.Uncoded(4, fill="mean"), cm.KernelCode(4, 4, 0)])
def test_two_answers_that_differ_are_an_estimate_with_that_difference(hedge_first, code):
    last, row, truth = two_answers(lambda answer: answer + 3.0, hedge_first, code)
    assert last.exact.sum() == 9
    assert (last.stderr[~last.exact] >= 3.0 - 1e-9).all()
    if isinstance(code, cm.Uncoded):  # which leaves rows in their order
        assert last.exact[:9].all()
        np.testing.assert_array_equal(last.values[row], truth[row] + 3.0 * hedge_first)
        np.testing.assert_allclose(last.stderr[row], 3.0)
        assert last.rejected == ()


@pytest.mark.parametrize("hedge_first", [True, False])
@pytest.mark.parametrize("lie", [lambda a: a * np.nan, lambda a: a[:, :1], lambda a: None])
def test_of_two_answers_one_that_cannot_be_is_the_hedging_workers_wrong_answer(hedge_first, lie):
    last, _, truth = two_answers(lie, hedge_first)
    assert last.rejected == (1,)
    assert last.exact.all()
    np.testing.assert_array_equal(last.values, truth)


def test_a_straggler_that_wrong_answers_in_the_end_is_found_out_by_its_hedge():
    hedge = cm.Hedge(cm.Quorum(2))
    engine, results = begun(cm.Uncoded(4, fill="mean"), hedge=hedge, stop=cm.Everyone())
    engine.answer(0, 1)
    next(results)
    engine.answer(5)
    next(results)
    engine.answer(3, change=lambda answer: answer * np.nan)
    engine.answer(2)
    [last] = results
    assert last.rejected == (3,)
    assert last.exact.all()


def test_a_raw_answer_of_another_form_is_a_wrong_answer_among_mixtures():
    hedge, stop = cm.Hedge(0.0, 1), cm.Everyone() | cm.Deadline(60)
    engine, results = begun(cm.SplineCode(3, 6, 2), hedge=hedge, stop=stop)
    engine.answer(0)
    next(results)
    assert engine.workers_of(6) == [0]
    engine.answer(6, change=lambda answer: answer[:, :1])
    engine.answer(1, 2, 3, 4, 5)
    *_, last = results
    assert last.rejected == (0,)
    assert not last.exact.any()
    assert np.isfinite(last.values).all()


@pytest.mark.real_time
def test_both_calls_of_a_slot_may_fail_and_the_first_reason_is_told():
    engine, results = begun(cm.Uncoded(3), hedge=SOON)
    engine.answer(0, 1)
    with closing(results):
        worker = threading.Thread(target=lambda: raised.append(_raised(results)))
        raised = []
        worker.start()
        assert eventually(lambda: len(engine.sent) == 4)
        engine.fail(2, cm.errors.EngineError("disk"))
        engine.fail(3, cm.errors.EngineError("another disk"))
        worker.join()
    assert isinstance(raised[0], cm.NotEnoughAnswers)
    assert str(raised[0].__cause__) == "disk"


def _raised(results):
    try:
        return list(results)
    except cm.NotEnoughAnswers as error:
        return error


# Waves after another


def test_a_late_answer_of_an_earlier_wave_is_never_used_in_a_later_one(monkeypatch):
    seconds = {(0, 1): 0.15, (2, 0): 0.2}
    engine = Virtual(3, lambda worker, had: seconds.get((worker, had), 0.0))
    engine.install(monkeypatch)
    code, X = cm.Uncoded(3, fill="mean"), inputs(6)
    stop, hedge = cm.Everyone() | cm.Deadline(0.05), cm.Hedge(after=0.01)
    first = cm.map(affine, X, code=code, engine=engine, hedge=hedge, stop=stop)
    assert first.hedges == 1
    assert first.exact.sum() == 4
    for shift in range(1, 5):
        result = cm.map(affine, X + shift, code=code, engine=engine, hedge=SOON)
        np.testing.assert_array_equal(result.values, affine(X + shift))
        engine.sleep(0.06)
    assert engine.now > 0.2


# A stream


def test_a_stream_shows_rows_become_exact_by_hedges():
    hedge = cm.Hedge(cm.Quorum(2))
    engine, results = begun(cm.Uncoded(4, fill="mean"), hedge=hedge, stop=cm.Everyone())
    engine.answer(0, 1)
    assert next(results).hedges == 2
    engine.answer(5)
    result = next(results)
    assert result.outcome is Outcome.WAITING
    assert result.abandoned == (2,)
    results.close()


# Arguments


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cm.Hedge(after=-1), "at least 0 seconds"),
        (lambda: cm.Hedge(after=np.nan), "at least 0 seconds"),
        (lambda: cm.Hedge(after=np.inf), "at least 0 seconds"),
        (lambda: cm.Hedge(after="p95"), "at least 0 seconds, or a stopping rule"),
        (lambda: cm.Hedge(after=True), "at least 0 seconds"),
        (lambda: cm.Hedge(after=cm.Quorum), "a stopping rule such as Quorum"),
        (lambda: cm.Hedge(after=cm.Quorum(2) & cm.Tolerance(0.1)), "by a Quorum"),
        (lambda: cm.Hedge(after=1.0, budget=0), "budget=0 must be a whole number of at least 1"),
        (lambda: cm.Hedge(after=1.0, budget=0.1), "^Hedge with after: budget=0.1 must be a whole"),
        (lambda: cm.Hedge(budget=0), "budget=0.*a share of extra calls"),
        (lambda: cm.Hedge(budget=np.inf), "a share of extra calls"),
        (lambda: cm.Hedge(budget="few"), "a share of extra calls"),
    ],
)
def test_what_cannot_work_is_refused(make, message):
    with pytest.raises(cm.InvalidArgument, match=message):
        make()


def test_hedge_must_be_a_hedge():
    with Scripted(4) as engine:
        with pytest.raises(cm.InvalidArgument, match=r"hedge=0.5 must be a codedmap.Hedge"):
            cm.map(affine, inputs(8), code=cm.Uncoded(4), engine=engine, hedge=0.5)
        assert not engine.calls


@pytest.mark.parametrize(
    "after", [cm.Everyone(), cm.Quorum(4), cm.Share(0.5), cm.Slower(1.5) & cm.Deadline(1.0)]
)
def test_a_rule_that_holds_only_in_the_end_is_refused(after):
    with Scripted(4) as engine, pytest.raises(cm.InvalidArgument, match="would send nothing"):
        cm.map(affine, inputs(8), code=cm.Uncoded(4), engine=engine, hedge=cm.Hedge(after=after))


def test_no_rule_is_suggested_that_one_payload_cannot_meet():
    hedge = cm.Hedge(after=cm.Quorum(1))
    told = "of 1 payload is answered. Say when in seconds$"
    with Scripted(1) as engine, pytest.raises(cm.InvalidArgument, match=told):
        cm.map(affine, inputs(8), code=cm.Uncoded(1), engine=engine, hedge=hedge)


def test_a_hedge_is_a_value():
    assert cm.Hedge(after=np.float32(0.5)) == cm.Hedge(after=0.5)
    assert cm.Hedge() == cm.Hedge(budget=0.05)
    assert repr(cm.Hedge(after=1, budget=2)) == "Hedge(after=1.0, budget=2)"
