"""Ever better results: those on the way, the last one, and leaving early."""

from __future__ import annotations

import gc
import io
import sys
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise, product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import codedmap as cm
from codedmap import Outcome
from codedmap.execution.live import Budget
from codedmap.testing import Faulty, Scripted, corrupt, crash, late, never

from ..byhand import ByHand
from ..contracts.codes import ROWS
from ..processes import children, eventually, shm_names, threads
from ..repeats import drawn
from .test_map import ONCE, affine, inputs

pytestmark = pytest.mark.usefixtures("virtual_time")

every = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)

MEAN = cm.Uncoded(6, fill="mean")
"""Decodable from one answer on, with standard errors."""


def begun(code: Any = MEAN, rows: int = 12, **options: Any):
    """An engine, and a stream on it."""
    engine = ByHand(code.workers)
    options = {"stop": cm.Everyone(), **ONCE, **options}
    return engine, cm.stream(affine, inputs(rows), code=code, engine=engine, **options)


# What it gives


@every
@drawn(2, 5, rows=st.integers(1, 30), tasks=st.integers(1, 5), seed=st.integers(0, 2**31))
def test_the_last_result_is_that_of_map_and_each_before_it_is_of_all_answers_so_far(
    row, rows, tasks, seed
):
    code = row.make(tasks, 3 * tasks + 2, 1)
    able = code.encode(np.zeros((tasks, 1, 3))).decodable
    rng = np.random.default_rng(seed)
    order = rng.permutation(code.workers).tolist()
    cuts = sorted({0, *rng.integers(0, code.workers, 4).tolist()})
    engine, results = begun(code, rows)
    kept = []
    for start, stop in pairwise(cuts):
        engine.answer(*order[start:stop])
        if able(frozenset(order[:stop])):
            result = next(results)
            assert result.outcome is Outcome.WAITING
            assert result.answered == tuple(sorted(order[:stop]))
            assert result.abandoned == tuple(sorted(order[stop:]))
            there = result.status < cm.Status.FAILED  # one answer says nothing of others
            np.testing.assert_array_equal(np.isfinite(result.values).all(axis=1), there)
            kept.append((result, result.values.copy()))
    engine.answer(*order[cuts[-1] :])
    [last] = results
    with Scripted(code.workers) as other:
        whole = cm.map(affine, inputs(rows), code=code, engine=other, stop=cm.Everyone())
    np.testing.assert_allclose(last.values, whole.values, atol=1e-9)
    np.testing.assert_array_equal(last.exact, whole.exact)
    assert (last.stderr is None) == (whole.stderr is None)
    for name in ("answered", "abandoned", "rejected", "outcome"):
        assert getattr(last, name) == getattr(whole, name)
    for result, values in kept:
        np.testing.assert_array_equal(result.values, values)


def test_where_all_answers_come_at_once_there_is_one_result():
    with Scripted(6) as engine:
        [result] = cm.stream(affine, inputs(12), code=MEAN, engine=engine)
    assert result.outcome is Outcome.QUORUM


def test_estimates_give_way_to_answers():
    engine, results = begun()
    engine.answer(0, 1, 2)
    assert next(results).exact.sum() == 6
    engine.answer(3, 4)
    assert next(results).exact.sum() == 10
    engine.answer(5)
    last = next(results)
    assert last.exact.all()
    assert last.outcome is Outcome.EVERYONE
    assert list(results) == []


def test_no_result_is_given_twice_and_writing_into_one_changes_no_other():
    engine, results = begun(stop=cm.Everyone() | cm.Deadline(0.3))
    engine.answer(0, 1, 2)
    first = next(results)
    expected = first.values[first.exact].copy()
    first.values[:] = 0
    engine.fail(4, OSError("disk"))  # news, but no answer
    [last] = results
    assert last.outcome is Outcome.DEADLINE
    assert set(last.failed) == {4}
    assert first.failed == {}
    np.testing.assert_array_equal(last.values[last.exact], expected)


def test_a_result_on_the_way_says_who_still_runs():
    engine, results = begun()
    engine.answer(0, 1, 2)
    text = str(next(results))
    assert "3 of 6 workers answered" in text
    assert "more answers may still come" in text
    assert "running    3: workers 3, 4, 5" in text
    assert "abandoned" not in text


def test_a_wrong_answer_that_comes_first_counts_until_others_outvote_it():
    engine, results = begun(cm.SplineCode(2, 6, 1))
    engine.answer(3, change=lambda answer: None)
    timer = threading.Timer(0.2, engine.answer, (0, 1, 2))
    timer.start()
    result = next(results)
    timer.join()
    assert {0, 3} <= set(result.answered)
    assert result.rejected == (3,)
    results.close()


# When it cannot be decoded


def test_what_map_raises_it_raises_in_place_of_the_last_result():
    engine, results = begun(cm.SplineCode(3, 8, 2), stop=None)
    engine.answer(0, 1, 2)
    assert next(results).outcome is Outcome.WAITING
    for slot in (5, 6, 7):
        engine.fail(slot, ValueError("bad weights"))
    with pytest.raises(cm.NotEnoughAnswers, match=r"2 still running.*bad weights.*Quorum"):
        next(results)
    assert engine.abandoned == (3, 4)
    assert list(results) == []


@pytest.mark.parametrize("on_error", ["raise", "record"])
def test_what_can_never_be_decoded_is_missing_as_by_map(on_error):
    args = {"code": cm.Uncoded(4), "stop": cm.Deadline(0.1), "on_error": on_error, **ONCE}
    with Scripted(4, {2: never()}) as engine:
        results = cm.stream(affine, inputs(8), engine=engine, **args)
        [result] = results
        same = cm.map(affine, inputs(8), engine=engine, **args)
    assert result.outcome is same.outcome is Outcome.DEADLINE
    np.testing.assert_array_equal(result.values, same.values)
    np.testing.assert_array_equal(result.exact, same.exact)


# At the call


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"inputs": []}, "nothing to compute"),
        ({"inputs": [np.nan]}, "NaN or infinity"),
        ({"inputs": ["a"]}, "cannot be mixed"),
        ({"fn": 3}, "cannot be called"),
        ({"code": 3}, "not a code"),
        ({"engine": 3}, "neither an engine nor an Executor"),
        ({"stop": 3}, "is not a stopping rule"),
        ({"stop": cm.Quorum(9)}, "would not stop"),
        ({"stop": cm.Tolerance(0.1)}, "has none"),
    ],
)
def test_arguments_are_checked_at_the_call(bad, message):
    engine = ByHand(4)
    good = {"fn": affine, "inputs": inputs(8), "code": cm.SplineCode(2, 4, 1), "engine": engine}
    args = good | bad
    with pytest.raises(cm.InvalidArgument, match=message):
        cm.stream(args.pop("fn"), args.pop("inputs"), **args)
    assert not engine.calls


def test_payloads_are_sent_at_the_call():
    engine, results = begun()
    assert sorted(engine.calls) == list(range(6))
    results.close()


@pytest.mark.parametrize("door", [cm.map, cm.stream])
def test_a_warning_names_the_line_of_the_call(door):
    with Scripted(2) as engine, pytest.warns(UserWarning, match="6 workers") as caught:
        door(affine, inputs(12), code=MEAN, engine=engine)
    assert caught[0].filename == __file__


# Leaving


def test_the_last_result_comes_when_no_call_runs_any_more():
    engine, results = begun(stop=cm.Quorum(4))
    engine.answer(0, 1, 2, 5)
    assert next(results).outcome is Outcome.QUORUM
    assert engine.abandoned == (3, 4)


def test_a_stream_that_is_left_abandons_what_still_runs():
    engine, results = begun()
    engine.answer(0, 1)
    next(results)
    results.close()
    assert engine.abandoned == (2, 3, 4, 5)

    engine, results = begun()  # not even begun
    results.close()
    assert engine.abandoned == (0, 1, 2, 3, 4, 5)

    engine, results = begun()
    engine.answer(0)
    with closing(results):
        next(results)
    assert engine.abandoned == (1, 2, 3, 4, 5)


@pytest.mark.parametrize("error", [None, ZeroDivisionError, KeyboardInterrupt])
def test_leaving_a_loop_leaves_the_stream(error):
    engine = Scripted(6, dict.fromkeys((2, 3, 4, 5), late(60)))

    def loop():
        for result in cm.stream(affine, inputs(12), code=MEAN, engine=engine):
            if error is not None:
                raise error
            return result
        return None

    before = threads()
    if error is None:
        assert loop().answered == (0, 1)
    else:
        with pytest.raises(error):
            loop()
    gc.collect()
    assert eventually(lambda: not threads() - before)


def test_a_stream_that_is_not_used_any_more_abandons_its_calls():
    engine, results = begun()
    del results
    gc.collect()
    assert engine.abandoned == (0, 1, 2, 3, 4, 5)


def test_leaving_early_leaves_no_thread():
    before = threads()
    with Scripted(6, {n: late(60) for n in (3, 4, 5)}) as engine:
        with closing(cm.stream(affine, inputs(12), code=MEAN, engine=engine)) as results:
            assert next(results).answered == (0, 1, 2)
        assert eventually(lambda: not threads() - before)


@pytest.mark.real_time
def test_leaving_early_leaves_no_process():
    before = set(children())
    began = time.monotonic()
    with cm.engines.Local(3, grace=0.2) as owner:
        engine = Faulty(owner, {2: late(60)})
        code = cm.Uncoded(3, fill="mean")
        with closing(cm.stream(affine, inputs(6), code=code, engine=engine)) as results:
            for result in results:
                if len(result.answered) == 2:
                    break
        again = cm.map(affine, inputs(6), code=code, engine=owner)
        assert again.exact.all()
    assert time.monotonic() - began < 12
    assert eventually(lambda: not set(children()) - before)
    assert eventually(lambda: not shm_names())


# Time


@dataclass(frozen=True)
class Slow:
    """A code that takes its time to decode."""

    seconds: float
    code: Any = MEAN

    tasks = workers = 6
    stragglers = 0

    def encode(self, block):
        encoding = self.code.encode(block)

        def decode(answers):
            time.sleep(self.seconds)
            return encoding.decode(answers)

        return SimpleNamespace(
            payloads=encoding.payloads, decodable=encoding.decodable, decode=decode
        )


class AnswersNext(cm.contracts.StoppingRule):
    """Everyone; when the answers of slots 0 and 1 are seen, slot 2 answers."""

    def verdict(self, seen):
        if seen.answered == {0, 1} and not self.engine.calls[2][0].done():
            self.engine.answer(2)
        return None if seen.running else Outcome.EVERYONE

    def wake_after(self, seen):
        return None


@pytest.mark.real_time
def test_answers_in_quick_succession_share_a_result_which_comes_though_nothing_else_arrives():
    stop = AnswersNext()
    stop.engine, results = begun(Slow(0.1), stop=stop)
    engine = stop.engine
    engine.answer(0)
    assert next(results).answered == (0,)
    engine.answer(1)
    second = next(results)
    assert second.answered == (0, 1, 2)
    assert second.seconds >= 1.0  # ten times what the first took to decode
    engine.answer(3, 4, 5)
    [last] = results
    assert last.outcome is Outcome.EVERYONE


@pytest.mark.real_time
def test_time_that_the_caller_takes_counts_for_the_stop_rule(monkeypatch):
    away = [0.0]
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + away[0])
    monkeypatch.setattr("codedmap.execution.live.time", clock)
    engine, results = begun(stop=cm.Everyone() | cm.Deadline(500))
    engine.answer(0, 1)
    assert next(results).outcome is Outcome.WAITING
    away[0] = 1000
    [last] = results  # at once
    assert last.outcome is Outcome.DEADLINE
    assert last.answered == (0, 1)


@given(
    st.floats(0.01, 1),
    st.lists(st.tuples(st.floats(0, 10), st.floats(0, 5)), min_size=1, max_size=30),
)
def test_a_budget_is_never_overdrawn_twice_and_says_when_it_is_free_again(share, steps):
    class Calls(SimpleNamespace):  # which can be referred to weakly
        pass

    calls = Calls(seconds=0.0, running=True, wakes=[])
    calls.wake_at = calls.wakes.append
    budget, spent = Budget(calls, share), 0.0
    for pause, cost in steps:
        calls.seconds += pause
        if not budget.allows():
            assert spent > share * calls.seconds * (1 - 1e-9)
            assert calls.wakes[-1] > calls.seconds
            calls.seconds = calls.wakes[-1]
        assert budget.allows()
        assert spent <= share * calls.seconds * (1 + 1e-9)
        with budget:
            calls.seconds += cost
        spent += cost
    calls.running = False
    assert budget.allows()


def test_progress_is_drawn_while_results_come(capsys):
    with Scripted(6, {3: late(0.3), 4: crash(), 5: corrupt(np.negative)}) as engine:
        results = list(
            cm.stream(
                affine, inputs(12), code=MEAN, engine=engine, stop=cm.Everyone(), progress=True
            )
        )
    assert [result.outcome for result in results] == [Outcome.WAITING, Outcome.EVERYONE]
    assert capsys.readouterr().out == ""


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("code", [MEAN, None], ids=repr)
def test_progress_is_drawn_on_a_terminal_unless_turned_off(code, monkeypatch):
    drawn = {}
    for stream, progress in product((Terminal, io.StringIO), (None, False)):
        monkeypatch.setattr(sys, "stderr", stream())
        with Scripted(6) as engine:
            cm.map(affine, inputs(12), code=code, engine=engine, progress=progress)
        drawn[stream, progress] = bool(sys.stderr.getvalue())
    assert [key for key, something in drawn.items() if something] == [(Terminal, None)]
