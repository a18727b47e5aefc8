"""Jobs of rows in virtual time."""

from __future__ import annotations

import numpy as np
import pytest

import codedmap as cm
from codedmap.execution.events import Call, Kind, Piece
from codedmap.execution.virtual import Ending
from codedmap.latency import Pareto, scheduled
from codedmap.latency.scheduled import in_turn


def test_equal_times_take_as_many_rounds_as_there_are():
    calls = np.full((3, 4, 5), 0.2)
    waits = scheduled(calls, 12)
    np.testing.assert_allclose(waits.seconds, 0.6)
    np.testing.assert_array_equal(waits.calls, 12)


def test_a_late_call_is_hedged_and_the_first_answer_counts():
    calls = np.full((2, 1, 4), 0.2)
    calls[0, 0, 1] = 30.0
    assert scheduled(calls, 4, hedge=None).seconds == pytest.approx(30.0)
    waits = scheduled(calls, 4)
    assert waits.seconds[0] < 1.0
    assert waits.calls[0] == 5


def test_a_worker_that_never_answers_holds_up_the_job_only_without_hedges():
    calls = np.full((2, 1, 4), 0.2)
    calls[:, 0, 2] = np.inf
    assert np.isinf(scheduled(calls, 8, hedge=None).seconds[0])
    assert scheduled(calls, 8).seconds[0] < 2.0


def test_hedges_cut_the_tail_of_heavy_tailed_calls():
    calls = Pareto(0.1, 0.03, 1.5).calls(np.random.default_rng(0), 100, 10, 4)
    with_, without = scheduled(calls, 10), scheduled(calls, 10, hedge=None)
    assert with_.quantile(0.95) < 0.7 * without.quantile(0.95)
    assert (with_.calls >= without.calls).all()
    assert with_.calls.mean() < 1.4 * 10


@pytest.mark.parametrize(
    "calls",
    [
        np.ones((2, 3)),
        -np.ones((1, 1, 1)),
        np.full((1, 1, 1), np.nan),
        np.ones((1, 1, 1), complex),
        [[["one"]]],
    ],
)
def test_bad_times(calls):
    with pytest.raises(cm.InvalidArgument, match=r"model.calls"):
        scheduled(calls, 3)


def test_masked_times_are_refused_and_lists_taken():
    masked = np.ma.masked_less(np.ones((1, 1, 2)), 2.0)
    with pytest.raises(cm.InvalidArgument, match="2 of 2 numbers of calls are masked"):
        scheduled(masked, 3)
    assert scheduled([[[1.0, 1.0]]], 2).seconds == [1.0]  # type: ignore[arg-type]


@pytest.mark.parametrize(("step", "done", "seconds"), [(1, 3, 0.6), (2, 4, 1.0), (8, None, 1.5)])
def test_a_call_ends_at_its_limit_and_its_worker_goes_on_with_the_time_of_the_next_row(
    step, done, seconds
):
    ending = in_turn(np.array([[0.1], [0.2], [0.3], [0.4], [0.5], [7.0]]))
    call = Call(0, 0, 0, 5, Kind.FIRST, Piece(0, 5), limit=0.5, step=step)
    assert ending(call, 0.0) == Ending(pytest.approx(seconds), done=done)
    after = [0.4, 0.5, 7.0][{3: 0, 4: 1, None: 2}[done]]
    assert ending(Call(1, 0, 5, 6, Kind.FIRST, Piece(5, 6)), 1.0).seconds == pytest.approx(after)


def test_bad_hedge():
    with pytest.raises(cm.InvalidArgument, match="for codes"):
        scheduled(np.ones((1, 1, 1)), 3, hedge=cm.Hedge(after=1.0))


def test_codes_take_as_long_as_their_formulas_say():
    calls = Pareto(0.1, 0.03, 1.5).calls(np.random.default_rng(0), 60, 12, 2)
    plain = {"hedge": None}
    waits = scheduled(calls, 10, code=cm.SplineCode(10, 12, 2), **plain)
    np.testing.assert_allclose(waits.seconds, np.sort(calls[0], axis=1)[:, 9])
    np.testing.assert_array_equal(waits.calls, 12)
    waits = scheduled(calls, 6, code=cm.Replication(6, 12), stop=cm.Decodable(), **plain)
    np.testing.assert_allclose(
        waits.seconds, np.minimum(calls[0, :, :6], calls[0, :, 6:]).max(axis=1)
    )


def test_the_slowest_of_many_has_the_textbook_quantile():
    model = cm.latency.ShiftedExponential(1.0, 0.5)
    waits = scheduled(model.calls(np.random.default_rng(0), 2_000, 10, 1), 10, hedge=None)
    textbook = 1 - 0.5 * np.log(1 - 0.9 ** (1 / 10))
    assert np.mean(waits.seconds <= textbook) == pytest.approx(0.9, abs=0.03)
    assert waits.quantile(0.9) == pytest.approx(textbook, rel=0.05)


@pytest.mark.parametrize("seconds", [5.0, np.inf])
def test_a_deadline_ends_jobs_in_virtual_time(seconds):
    stop = cm.Everyone() | cm.Deadline(1.0)
    waits = scheduled(np.full((1, 1, 2), seconds), 4, code=cm.Uncoded(2), stop=stop)
    np.testing.assert_allclose(waits.seconds, 1.0)


def test_codes_and_rules_that_cannot_be_judged():
    with pytest.raises(cm.InvalidArgument, match="is for codes here"):
        scheduled(np.ones((1, 1, 1)), 3, stop=cm.Deadline(1.0))
    code = cm.Uncoded(2, fill="mean")
    with pytest.raises(cm.InvalidArgument, match="no answers here"):
        scheduled(np.ones((1, 1, 2)), 4, code=code, stop=cm.Tolerance(0.1))
    with pytest.raises(cm.InvalidArgument, match="code='auto' is not a code"):
        scheduled(np.ones((1, 1, 2)), 4, code="auto")
