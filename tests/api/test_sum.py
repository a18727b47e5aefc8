"""`sum`: parts, stop rules, failures, wrong answers and results, on scripted engines."""

from __future__ import annotations

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

import codedmap as cm
from codedmap.testing import Scripted, corrupt, crash, fail, late, never

pytestmark = pytest.mark.usefixtures("virtual_time")

CODES = (
    cm.codes.FractionalRepetition(12, 2),
    cm.codes.CyclicGradientCode(12, 2),
    cm.codes.CyclicGradientCode(11, 3),
    cm.codes.PolynomialGradientCode(12, 2, 3),
    cm.codes.GroupedGradientCode(12, 4, 2),
)
every = pytest.mark.parametrize("code", CODES, ids=repr)

X = np.random.default_rng(0).standard_normal((61, 5))
W = np.arange(5.0)


def gradient(rows, weights):
    return rows.T @ (rows @ weights)


async def asleep(rows):
    return rows


TRUE = gradient(X, W)


def off(result: cm.SumResult, true: np.ndarray = TRUE) -> float:
    assert result.value.shape == true.shape
    return float(np.abs(result.value - true).max() / np.abs(true).max())


def changed(change):
    """A wrong answer, in its numbers."""
    return corrupt(lambda piece: replace(piece, values=change(piece.values)))


@every
def test_the_sum_is_exact_with_as_many_stragglers_and_crashes_as_the_code_allows(code):
    script = dict.fromkeys(range(code.stragglers), never())
    script[code.stragglers - 1] = crash()
    with Scripted(code.workers, script) as engine:
        shards = cm.CodedParts(X, code=code, engine=engine)
        result = cm.sum(gradient, shards, args=(W,))
    assert off(result) < 1e-12
    assert result.exact
    assert result.outcome is cm.Outcome.DECODABLE
    assert result.abandoned == tuple(range(code.stragglers - 1))
    assert set(result.failed) == {code.stragglers - 1}
    assert result.rejected == {}
    assert result.parts == code.workers


@settings(max_examples=60)
@given(
    code=st.sampled_from(CODES),
    shape=st.lists(st.integers(0, 4), max_size=3).map(tuple),
    dtype=st.sampled_from([np.float16, np.float32, np.float64, np.complex64, np.int32, np.bool_]),
    parts=st.integers(12, 40),
    seed=st.integers(0, 2**31),
)
def test_any_shape_dtype_and_number_of_parts(code, shape, dtype, parts, seed):
    rng = np.random.default_rng(seed)
    values = (rng.standard_normal((parts, *shape)) * 3).astype(dtype)
    script = {int(w): never() for w in rng.permutation(code.workers)[: code.stragglers]}
    with Scripted(code.workers, script) as engine:
        result = cm.sum(
            lambda number: values[number],
            range(parts),
            code=code,
            engine=engine,
            stop=cm.Decodable() | cm.Deadline(20),
        )
    true = values.sum(axis=0, dtype=np.complex128 if dtype == np.complex64 else np.float64)
    assert result.value.shape == shape
    adds = isinstance(code, cm.codes.FractionalRepetition)
    kind = np.dtype(dtype).kind
    assert result.value.dtype.kind == (kind if kind in "fc" else "i" if adds else "f")
    eps = 1e-9 if np.dtype(dtype).kind in "ib" else 1e-9 + 1e3 * np.finfo(result.value.dtype).eps
    assert np.allclose(result.value, true, rtol=0, atol=eps * (1 + np.abs(values).sum()))
    assert result.parts == parts


def test_an_array_is_cut_into_runs_of_rows_and_a_sequence_into_runs_of_parts():
    calls = []

    def seen(part):
        calls.append(part)
        return len(part) if isinstance(part, np.ndarray) else part

    code = cm.codes.FractionalRepetition(4, 0)
    with Scripted(4) as engine:
        assert float(cm.sum(seen, np.ones((10, 2)), code=code, engine=engine).value) == 10
        assert sorted(part.shape for part in calls) == [(2, 2), (2, 2), (3, 2), (3, 2)]
        calls.clear()
        assert float(cm.sum(seen, range(10), code=code, engine=engine).value) == 45
        assert sorted(calls) == list(range(10))


def test_parts_may_be_anything_and_differ_in_shape():
    parts = [(X[a : a + n], n) for a, n in [(0, 1), (1, 20), (21, 5), (26, 30), (56, 4), (60, 1)]]
    code = cm.codes.CyclicGradientCode(6, 1)
    with Scripted(6, {3: never()}) as engine:
        shards = cm.CodedParts(parts, code=code, engine=engine)
        assert off(cm.sum(lambda part, w: gradient(part[0], w), shards, args=(W,))) < 1e-12


def test_parts_are_placed_once_and_the_function_travels_with_each_call():
    class Counting(Scripted):
        kept = 0

        def keep(self, slot, value):
            self.kept += 1
            return super().keep(slot, value)

    code = cm.codes.FractionalRepetition(6, 1)
    with Counting(6) as engine:
        shards = cm.CodedParts(X, code=code, engine=engine)
        for step in range(5):
            assert off(cm.sum(gradient, shards, args=(W + step,)), gradient(X, W + step)) < 1e-12
        assert off(cm.sum(lambda rows: rows.sum(axis=0), shards), X.sum(axis=0)) < 1e-12
        assert engine.kept == 6
        assert all(isinstance(payload, cm.engines.Kept) for _, payload in engine.calls)


def test_integers_stay_exact_where_nothing_is_multiplied():
    big = 2**53 + 1
    with Scripted(6, {1: never()}) as engine:
        code = cm.codes.FractionalRepetition(6, 1)
        result = cm.sum(lambda n: np.array([big, n]), range(6), code=code, engine=engine)
    assert result.value.tolist() == [6 * big, 15]
    assert result.value.dtype == np.int64


@pytest.mark.parametrize(
    ("code", "wire"),
    [
        (cm.codes.FractionalRepetition(12, 3), np.float32),
        (cm.codes.GroupedGradientCode(12, 4, 3), np.float32),
        (cm.codes.PolynomialGradientCode(24, 4, 4), np.float64),
    ],
)
def test_single_precision_travels_as_such_only_where_the_code_leaves_it_digits(code, wire):
    pieces = []

    def note(piece):
        pieces.append(piece.values)
        return piece

    values = np.random.default_rng(1).standard_normal((code.workers, 30)).astype(np.float32)
    with Scripted(code.workers, dict.fromkeys(range(code.workers), corrupt(note))) as engine:
        result = cm.sum(lambda n: values[n], range(code.workers), code=code, engine=engine)
    assert {piece.dtype for piece in pieces} == {np.dtype(wire)}
    assert {piece.shape for piece in pieces} == {
        (30 // code.reduction + (30 % code.reduction > 0),)
    }
    assert result.value.dtype == np.float32
    assert off(result, values.sum(axis=0, dtype=np.float64)) < 1e-5


@every
def test_it_stops_as_soon_as_the_answers_suffice_or_when_the_rule_says_so(code):
    script = {code.workers - 1: [never(), late(0.3)]}
    with Scripted(code.workers, script) as engine:
        shards = cm.CodedParts(X, code=code, engine=engine)
        early = cm.sum(gradient, shards, args=(W,))
        everyone = cm.sum(gradient, shards, args=(W,), stop=cm.Everyone())
    assert early.abandoned == (code.workers - 1,)
    assert everyone.seconds >= 0.3
    assert everyone.abandoned == ()
    assert everyone.outcome is cm.Outcome.EVERYONE
    assert off(early) < 1e-12
    assert off(everyone) < 1e-12


def test_a_quorum_that_cannot_be_decoded_is_waited_on_and_a_deadline_is_not():
    code = cm.codes.CyclicGradientCode(11, 3)
    with Scripted(11, dict.fromkeys(range(5), late(0.2))) as engine:
        shards = cm.CodedParts(X, code=code, engine=engine)
        result = cm.sum(gradient, shards, args=(W,), stop=cm.Quorum(2))
        assert off(result) < 1e-12
        assert len(result.answered) >= 8
    # The others are too late for a second call of those that do not answer.
    script = dict.fromkeys(range(5), never()) | dict.fromkeys(range(5, 11), late(0.09))
    with Scripted(11, script) as engine:
        shards = cm.CodedParts(X, code=code, engine=engine)
        stop = cm.Decodable() | cm.Deadline(0.1)
        with pytest.raises(cm.NotEnoughAnswers, match=r"deadline passed: 6 of 11.*any 8 would"):
            cm.sum(gradient, shards, args=(W,), stop=stop)
        result = cm.sum(gradient, shards, args=(W,), stop=stop, throw=False)
    assert result.outcome is cm.Outcome.DEADLINE
    assert not result.exact
    assert result.value.shape == (5,)
    assert np.isnan(result.value).all()
    assert "unknown" in str(result)


@pytest.mark.parametrize(
    "script",
    [
        {0: late(12), 4: [crash()]},
        {0: late(12), 4: crash()},
        {0: late(12), 4: [crash(0.5)]},
        {0: late(12), 4: late(12)},
        {0: never(), 4: never(), 1: never(), 5: [crash()]},
    ],
    ids=str,
)
def test_a_part_that_no_prompt_worker_has_is_computed_again_elsewhere(script):
    others = {n: late(0.1) for n in range(8) if n not in script}
    with Scripted(8, others | script) as engine:
        code = cm.codes.FractionalRepetition(8, 1)
        shards = cm.CodedParts(np.arange(16.0), code=code, engine=engine)
        for _ in range(2):
            result = cm.sum(np.sum, shards)
            assert float(result.value) == 120.0
            assert result.exact
            assert result.seconds < 2.0  # of 12
        # Copies are no new home of the parts.
        assert [shards.placed.where(n) for n in range(8)] == list(range(8))


def test_no_part_is_computed_again_while_a_prompt_worker_has_it():
    for stop in (cm.Everyone(), cm.Decodable() & cm.Quorum(8)):
        with Scripted(8, {0: late(12)}) as engine:
            code = cm.codes.FractionalRepetition(8, 1)
            result = cm.sum(np.sum, np.arange(16.0), code=code, engine=engine, stop=stop)
        assert result.seconds >= 12.0
        assert len(engine.calls) == 8


def test_a_rule_out_of_reach_does_not_keep_a_sum_that_is_there():
    with Scripted(12, {3: crash(), 4: never()}) as engine:
        code = cm.codes.CyclicGradientCode(12, 2)
        shards = cm.CodedParts(X, code=code, engine=engine)
        result = cm.sum(gradient, shards, args=(W,), stop=cm.Quorum(12))
    assert result.outcome is cm.Outcome.UNSATISFIABLE
    assert off(result) < 1e-12


@pytest.mark.parametrize("stop", [cm.Quorum(3), cm.Everyone()], ids=str)
def test_a_call_that_crashed_is_made_again_where_the_rule_is_satisfied_but_no_sum_is_there(stop):
    with Scripted(6, {3: [crash()]}) as engine:
        code = cm.codes.FractionalRepetition(6, 0)
        result = cm.sum(gradient, cm.CodedParts(X, code=code, engine=engine), args=(W,), stop=stop)
    assert off(result) < 1e-12
    assert result.repaired == (3,)


def test_calls_of_more_workers_than_stragglers_that_crash_are_made_once_more():
    code = cm.codes.CyclicGradientCode(6, 1)
    for crashes, repaired in ((1, (0, 1, 2)), (2, None)):
        with Scripted(6, dict.fromkeys(range(3), [crash()] * crashes)) as engine:
            shards = cm.CodedParts(np.arange(12.0), code=code, engine=engine)
            if repaired is None:
                with pytest.raises(cm.NotEnoughAnswers, match=r"3 failed.* or call again"):
                    cm.sum(np.sum, shards)
            else:
                assert cm.sum(np.sum, shards).repaired == repaired
            assert cm.sum(np.sum, shards).value == pytest.approx(66.0)


def test_a_worker_that_crashed_and_is_to_be_called_again_is_not_running():
    script = {0: crash(), 1: fail(OSError("disk")), 2: fail(OSError("disk"))}
    code = cm.codes.CyclicGradientCode(4, 1)
    raises = pytest.raises(cm.NotEnoughAnswers, match="1 of 4 workers answered, 3 failed")
    with Scripted(4, script) as engine, raises:
        cm.sum(np.sum, np.arange(8.0), code=code, engine=engine)


def test_a_worker_that_crashed_and_is_asked_again_is_not_abandoned_too():
    script = {0: [*[late(0.0)] * 4, never(), crash(), crash()]}
    with Scripted(1, script) as engine:
        with pytest.warns(UserWarning, match="engine 1"):
            parts = cm.CodedParts(X, code=cm.codes.FractionalRepetition(6, 0), engine=engine)
        stop = cm.Decodable() | cm.Deadline(0.15)
        result = cm.sum(gradient, parts, args=(W,), stop=stop, throw=False)
    assert set(result.failed) == {5}
    assert result.abandoned == (4,)
    assert result.answered == (0, 1, 2, 3)


@every
def test_too_many_losses_are_an_error_with_the_first_as_its_cause(code):
    script = dict.fromkeys(range(code.workers), fail(OSError("disk full")))
    script[0] = never()
    with Scripted(code.workers, script) as engine:
        shards = cm.CodedParts(X, code=code, engine=engine)
        with pytest.raises(cm.NotEnoughAnswers, match="worker 1 first with OSError: disk") as error:
            cm.sum(gradient, shards, args=(W,))
        assert isinstance(error.value.__cause__, OSError)


@every
def test_what_a_crash_took_is_placed_again_in_the_next_sum(code):
    with Scripted(code.workers, {2: [crash()], 1: [crash()]}) as engine:
        shards = cm.CodedParts(X, code=code, engine=engine)
        kept = shards.placed.on(2)
        first = cm.sum(gradient, shards, args=(W,))
        assert set(first.failed) == {1, 2}
        assert kept.lost
        second = cm.sum(gradient, shards, args=(W,), stop=cm.Everyone())
        assert shards.placed.on(2) is not kept
    assert len(second.answered) == code.workers
    assert off(first) < 1e-12
    assert off(second) < 1e-12


def test_parts_found_lost_only_by_the_call_are_placed_again_within_it():
    lost = fail(cm.errors.KeptLost("the process is a new one"))
    with Scripted(6, {1: [lost], 4: [lost, lost]}) as engine:
        shards = cm.CodedParts(X, code=cm.codes.CyclicGradientCode(6, 1), engine=engine)
        result = cm.sum(gradient, shards, args=(W,), stop=cm.Everyone())
    assert result.repaired == (1, 4)
    assert set(result.failed) == {4}  # it lost them twice, and is not asked for ever
    assert isinstance(result.failed[4], cm.errors.KeptLost)
    assert off(result) < 1e-12
    assert "repaired   2: workers 1, 4" in str(result)


@every
@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_a_part_whose_value_is_not_finite_is_an_error_that_names_it(code, broken):
    rows = X.copy()
    rows[30, 2] = broken
    part = next(p for p in range(code.workers) if (p + 1) * 61 // code.workers > 30)
    quiet, raises = np.errstate(invalid="ignore"), pytest.raises(cm.NotEnoughAnswers)
    with Scripted(code.workers) as engine, quiet, raises as error:
        cm.sum(gradient, rows, args=(W,), code=code, engine=engine)
    assert isinstance(error.value.__cause__, cm.InvalidAnswer)
    assert f"NaN or infinite for part {part}" in str(error.value)
    assert "on worker" in str(error.value)


@every
@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (changed(lambda v: np.where(np.arange(len(v)) == 0, np.nan, v)), "NaN or infinity"),
        (changed(lambda v: v[:-1]), "numbers instead of"),
        (changed(lambda v: v.astype(str)), "no numbers"),
        (corrupt(lambda piece: "what?"), "a str"),
        (corrupt(lambda piece: replace(piece, shape=(5, 1))), r"a sum of shape \(5, 1\)"),
    ],
)
def test_an_answer_that_cannot_be_meant_is_left_out(code, wrong, why):
    script = {0: wrong, 1: wrong} if code.stragglers > 1 else {0: wrong}
    with Scripted(code.workers, script) as engine:
        shards = cm.CodedParts(X, code=code, engine=engine)
        result = cm.sum(gradient, shards, args=(W,), stop=cm.Everyone())
        assert sorted(result.rejected) == [0, 1]
        assert off(result) < 1e-12
        assert "rejected   2: workers 0, 1" in str(result)
    with Scripted(code.workers, dict.fromkeys(range(code.workers - 1), wrong)) as engine:
        shards = cm.CodedParts(X, code=code, engine=engine)
        if "shape" not in why:
            with pytest.raises(cm.NotEnoughAnswers, match=why) as error:
                cm.sum(gradient, shards, args=(W,), stop=cm.Everyone())
            assert f"any {code.workers - code.stragglers} would be enough" in str(error.value)


def test_two_shapes_that_are_equally_frequent_are_an_error():
    reshaped = corrupt(lambda piece: replace(piece, shape=(5, 1)))
    with Scripted(6, {0: reshaped, 1: reshaped, 2: reshaped}) as engine:
        code = cm.codes.FractionalRepetition(6, 1)
        with pytest.raises(cm.NotEnoughAnswers, match=r"6 with what .* shape \(5, 1\)"):
            cm.sum(gradient, X, args=(W,), code=code, engine=engine, stop=cm.Everyone())


@pytest.mark.parametrize(
    "code",
    [
        cm.codes.FractionalRepetition(12, 3),
        cm.codes.CyclicGradientCode(11, 3),
        cm.codes.PolynomialGradientCode(12, 3, 2),
        cm.codes.GroupedGradientCode(12, 6, 3),
    ],
    ids=repr,
)
@pytest.mark.parametrize("byzantine", [0, 7])
def test_a_wrong_answer_is_found_where_more_have_answered_than_the_code_needs(code, byzantine):
    lied = changed(lambda values: values + 0.01 * np.abs(values).max())
    with Scripted(code.workers, {byzantine: lied}) as engine:
        shards = cm.CodedParts(X, code=code, engine=engine)
        result = cm.sum(gradient, shards, args=(W,), stop=cm.Everyone())
    assert result.rejected == {byzantine: "an answer that contradicts the others"}
    assert off(result) < 1e-9


@pytest.mark.parametrize(
    ("code", "byzantine"),
    [
        (cm.codes.FractionalRepetition(12, 2), (1, 6, 7)),  # of groups 1, 2, 3
        (cm.codes.FractionalRepetition(10, 4), (0, 1, 2, 5)),  # two in each group
        (cm.codes.GroupedGradientCode(12, 4, 2), (1, 6, 11)),
        (cm.codes.CyclicGradientCode(11, 5), (2, 3)),
        (cm.codes.PolynomialGradientCode(12, 4, 2), (0, 7)),
    ],
    ids=repr,
)
def test_one_of_two_further_answers_may_be_wrong_in_every_group(code, byzantine):
    script = {n: changed(lambda values, n=n: values - 3.0 - n) for n in byzantine}
    with Scripted(code.workers, script) as engine:
        shards = cm.CodedParts(X, code=code, engine=engine)
        result = cm.sum(gradient, shards, args=(W,), stop=cm.Everyone())
    assert result.rejected == dict.fromkeys(byzantine, "an answer that contradicts the others")
    assert off(result) < 1e-9


def test_a_group_whose_copies_differ_is_named_where_others_are_outvoted():
    script = {n: changed(lambda values, n=n: values - 3.0 - n) for n in (1, 2, 6)}
    code = cm.codes.FractionalRepetition(12, 2)
    with Scripted(12, script | {10: fail(OSError("no network"))}) as engine:
        shards = cm.CodedParts(X, code=code, engine=engine)
        with pytest.raises(cm.NotEnoughAnswers, match="and one of workers 2, 6 must be wrong"):
            cm.sum(gradient, shards, args=(W,), stop=cm.Everyone())


@pytest.mark.parametrize(("copies", "silent"), [(4, ()), (5, (9,))])
def test_wrong_answers_of_half_the_copies_of_a_group_raise(copies, silent):
    code = cm.codes.FractionalRepetition(2 * copies, copies - 1)
    script = {n: changed(lambda values, n=n: values - 3.0 - n) for n in (1, 3)}
    script |= {n: fail(OSError("no network")) for n in silent}
    with Scripted(code.workers, script) as engine:
        shards = cm.CodedParts(X, code=code, engine=engine)
        with pytest.raises(cm.NotEnoughAnswers, match="more than one must be wrong"):
            cm.sum(gradient, shards, args=(W,), stop=cm.Everyone())


def test_two_wrong_answers_are_not_searched_among_more_than_100_workers():
    script = {n: changed(lambda values, n=n: values - 3.0 - n) for n in (3, 20)}
    code = cm.codes.FractionalRepetition(101, 100)
    raises = pytest.raises(cm.NotEnoughAnswers, match="more than one must be wrong")
    with Scripted(101, script) as engine, raises:
        cm.sum(np.sum, np.ones(101), code=code, engine=engine, stop=cm.Everyone())


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_in_single_precision_several_wrong_answers_are_not_told_from_others(dtype):
    """Of 60 sums of one number 24 were wrong, and nothing said so."""
    code, parts = cm.codes.CyclicGradientCode(13, 6), np.arange(1.0, 14.0)
    for seed in range(6):
        rng = np.random.default_rng(seed)
        change = {int(n): rng.normal() for n in rng.choice(13, 3, replace=False)}
        script = {n: changed(lambda value, by=by: value + by * 50) for n, by in change.items()}
        with Scripted(13, script) as engine:
            fn = lambda part: part.sum(dtype=dtype)  # noqa: E731
            if dtype is np.float64:
                result = cm.sum(fn, parts, code=code, engine=engine, stop=cm.Everyone())
                assert abs(result.value - 91.0) < 1e-6
                assert set(result.rejected) == set(change)
            else:
                with pytest.raises(cm.NotEnoughAnswers, match="more than one must be wrong"):
                    cm.sum(fn, parts, code=code, engine=engine, stop=cm.Everyone())


def test_a_wrong_answer_that_could_be_that_of_several_is_an_error_until_more_answers_tell():
    lied = changed(lambda values: 1.5 * values)
    code = cm.codes.CyclicGradientCode(11, 3)
    script = {4: lied, 8: never(), 9: never()}
    with Scripted(11, script) as engine:
        shards = cm.CodedParts(X, code=code, engine=engine)
        with pytest.raises(cm.NotEnoughAnswers, match="9 workers contradict each other, and one"):
            cm.sum(gradient, shards, args=(W,), stop=cm.Quorum(9) | cm.Deadline(0.2))
    with Scripted(11, {4: lied, 8: late(0.1), 9: late(0.2)}) as engine:
        shards = cm.CodedParts(X, code=code, engine=engine)
        result = cm.sum(gradient, shards, args=(W,), stop=cm.Quorum(9))
    assert tuple(result.rejected) == (4,)
    assert off(result) < 1e-9


@every
def test_a_function_that_answers_at_random_is_an_error_when_everybody_has_answered(code):
    rng = np.random.default_rng(0)

    def at_random(rows):
        return rows[rng.integers(0, len(rows))]

    raises = pytest.raises(cm.NotEnoughAnswers, match=r"contradict each other.*seed in args")
    with Scripted(code.workers) as engine, raises:
        cm.sum(at_random, X, code=code, engine=engine, stop=cm.Everyone())


def test_ignoring_stragglers_scales_what_came_and_says_that_it_is_not_exact():
    code = cm.codes.IgnoreStragglers(4, 1)
    with Scripted(4, {1: never()}) as engine:
        result = cm.sum(float, [1, 2, 3, 4], code=code, engine=engine)
        assert float(result.value) == pytest.approx((1 + 3 + 4) * 4 / 3)
        assert not result.exact
        assert "not exact, of 4 parts" in str(result)
    with Scripted(4) as engine:
        result = cm.sum(float, [1, 2, 3, 4], code=code, engine=engine)
        assert float(result.value) == 10
        assert result.exact


def test_parts_are_not_writable_for_the_function():
    def centre(rows):
        rows -= 1.0
        return rows.sum()

    def centre_pair(pair):
        pair[0][0] = 0
        return 1.0

    pairs = [(rows, 1) for rows in np.array_split(X, 3)]
    before = X.copy()
    for fn, parts in ((centre, X), (centre_pair, pairs)):
        with Scripted(3) as engine, pytest.raises(cm.NotEnoughAnswers, match="read-only"):
            cm.sum(fn, parts, code=cm.codes.FractionalRepetition(3, 0), engine=engine)
    np.testing.assert_array_equal(X, before)


def test_parts_of_unequal_values_are_an_error_that_names_both():
    with Scripted(3) as engine:
        code = cm.codes.FractionalRepetition(3, 2)
        with pytest.raises(
            cm.NotEnoughAnswers, match=r"\(20, 5\) in part 0 and \(21, 5\) in part 2"
        ):
            cm.sum(lambda rows: rows, X, code=code, engine=engine)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("text", "of dtype <U4 for part"),
        (None, "of dtype object for part"),
        ({"a": 1.0}, "a dict of dtype object"),
        ([np.ones(2), np.ones(3)], "list that fn returned for part .*cannot be made an array"),
    ],
)
def test_what_cannot_be_added_is_an_error(answer, why):
    with Scripted(3) as engine, pytest.raises(cm.NotEnoughAnswers, match=why):
        cm.sum(
            lambda part: answer, range(3), code=cm.codes.FractionalRepetition(3, 0), engine=engine
        )


@pytest.mark.parametrize("value", [np.float64(1.7e308), np.float32(3.4e38)])
@pytest.mark.parametrize(
    "code", [cm.codes.FractionalRepetition(3, 0), cm.codes.IgnoreStragglers(3, 0)]
)
def test_a_sum_beyond_the_range_of_its_dtype_is_an_error(value, code):
    raises = pytest.raises(cm.InvalidAnswer, match=f"exceeds the range of {value.dtype}")
    with Scripted(3) as engine, raises:
        cm.sum(lambda part: value, range(3), code=code, engine=engine)


def test_floats_that_exceed_the_range_on_a_worker_are_its_failure():
    code = cm.codes.FractionalRepetition(4, 1)
    with Scripted(4) as engine, pytest.raises(cm.NotEnoughAnswers) as error:
        cm.sum(lambda part: 1e308, range(4), code=code, engine=engine)
    assert isinstance(error.value.__cause__, cm.InvalidAnswer)


def test_a_half_precision_sum_is_told_in_single_precision():
    with Scripted(6) as engine:
        code = cm.codes.FractionalRepetition(6, 1)
        result = cm.sum(lambda part: np.float16(60000), range(6), code=code, engine=engine)
    assert result.value.dtype == np.float32
    assert float(result.value) == 360_000


def test_to_call_again_is_no_step_where_fn_gave_what_cannot_be_added():
    code = cm.codes.FractionalRepetition(6, 2)  # three workers compute the part that has no sum
    raises = pytest.raises(cm.NotEnoughAnswers, match=r"3 failed.*repair fn.*stragglers=2\)$")
    with cm.testing.Scripted(6) as engine, raises:
        cm.sum(
            lambda rows: np.where(rows < 1, np.nan, rows), np.arange(6.0), code=code, engine=engine
        )


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda e: cm.sum(gradient, X, args=(W,)), "need code= and engine="),
        (lambda e: cm.sum(3, X, code=CODES[0], engine=e), "fn=3 cannot be called"),
        (lambda e: cm.sum(list(range(999)), X, code=CODES[0], engine=e), "^fn=.{80} cannot be called"),
        (lambda e: cm.sum(asleep, X, code=CODES[0], engine=e), "fn is async"),
        (lambda e: cm.sum(cm.engines.Resident(gradient, e), X, code=CODES[0], engine=e), "give fn itself"),
        (lambda e: cm.sum(gradient, X, args=W, code=CODES[0], engine=e), "must be a tuple"),
        (lambda e: cm.sum(gradient, X[:7], code=CODES[0], engine=e), "7 rows for the 12 workers"),
        (lambda e: cm.sum(gradient, (X, W), code=CODES[0], engine=e), "2 parts for the 12 workers"),
        (lambda e: cm.sum(gradient, X[:1], code=CODES[0], engine=e), "^1 row for the 12 workers"),
        (lambda e: cm.sum(gradient, "text", code=CODES[0], engine=e), "of type str cannot be cut"),
        (lambda e: cm.sum(gradient, {}, code=CODES[0], engine=e), "of type dict cannot be cut"),
        (lambda e: cm.sum(gradient, 7, code=CODES[0], engine=e), "of type int cannot be cut"),
        (lambda e: cm.sum(gradient, np.float64(7), code=CODES[0], engine=e), "0 rows for the 12 workers"),
        (lambda e: cm.sum(gradient, X, code=cm.Replication(2, 12), engine=e), "is a code for codedmap.map"),
        (lambda e: cm.sum(gradient, X, code=cm.codes.MDSCode(2, 12), engine=e), "is a code for codedmap.CodedMatrix"),
        (lambda e: cm.sum(gradient, X, code=12, engine=e), "is not a code"),
        (lambda e: cm.sum(gradient, X, code=CODES[0], engine=12), "neither an engine nor"),
        (lambda e: cm.sum(gradient, X, code=CODES[0], engine=e, stop=3), "is not a stopping rule"),
        (lambda e: cm.sum(gradient, X, code=CODES[0], engine=e, stop=0), "is not a stopping rule"),
        (
            lambda e: cm.sum(gradient, X, code=CODES[0], engine=e, stop=cm.Quorum(13)),
            r"would not stop even when all 12 workers have answered: give Quorum\(\d+\) or Deadline\(2\)$",
        ),
        (lambda e: cm.map(np.sin, X, code=CODES[0], engine=e), "is a code for codedmap.sum"),
        (lambda e: cm.map(np.sin, X, code=cm.codes.MDSCode(2, 12), engine=e), "is a code for codedmap.CodedMatrix"),
        (
            lambda e: cm.sum(gradient, cm.CodedParts(X, code=CODES[0], engine=e), code=CODES[1]),
            "placed already",
        ),
        (lambda e: cm.codes.FractionalRepetition(12, 4), r"groups of S \+ 1 = 5: use 10 or 15 workers, 3 or 5"),
        (lambda e: cm.codes.FractionalRepetition(12, 12), "at least 13 workers are needed"),
        (lambda e: cm.codes.CyclicGradientCode(12, -1), "at least 0"),
        (lambda e: cm.codes.CyclicGradientCode(12, 2, seed=-1), "seed=-1"),
        (lambda e: cm.codes.PolynomialGradientCode(12, 8, 5), "at least 13 workers are needed"),
        (lambda e: cm.codes.PolynomialGradientCode(12, 2, 0), "reduction=0"),
        (lambda e: cm.codes.PolynomialGradientCode(12, 2, 2, "hilbert"), "gaussian"),
        (lambda e: cm.codes.GroupedGradientCode(12, 5, 2), "15 workers, or groups of 2 or 3 or 4 or 6 or 12"),
        (lambda e: cm.codes.GroupedGradientCode(12, 4, 5), "a group of 4 cannot"),
        (lambda e: cm.codes.IgnoreStragglers(4, 4), "at least 5 workers are needed"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_before_anything_is_computed(call, why):
    with Scripted(12) as engine:
        with pytest.raises(cm.InvalidArgument, match=why):
            call(engine)
        assert engine.calls == []


@pytest.mark.parametrize(
    ("sizes", "instead"),
    [((20, 3, 3), "GroupedGradientCode"), ((30, 5, 4), "gaussian"), ((40, 6, 6), "gaussian")],
)
def test_the_papers_vandermonde_matrix_is_refused_where_it_loses_the_sum(sizes, instead):
    with pytest.raises(cm.InvalidArgument, match=f"enlarge rounding errors .*{instead}"):
        cm.codes.PolynomialGradientCode(*sizes, matrix="vandermonde")
    assert cm.codes.PolynomialGradientCode(*sizes).amplification < 1e5


def test_a_cyclic_code_that_would_lose_the_sum_is_refused_with_one_that_does_not():
    with pytest.raises(cm.InvalidArgument, match=r"use 217 workers \(a multiple of S \+ 1\)"):
        cm.codes.CyclicGradientCode(200, 30)
    assert cm.codes.CyclicGradientCode(217, 30).amplification == pytest.approx(1)


@pytest.mark.filterwarnings("ignore:the code has 8 workers and the engine 4")
def test_copies_go_to_different_workers_of_an_engine_with_fewer():
    with Scripted(4, {1: [never()] * 2}) as engine:
        code = cm.codes.FractionalRepetition(8, 1)
        assert off(cm.sum(gradient, X, args=(W,), code=code, engine=engine)) < 1e-12


def test_an_engine_with_fewer_workers_is_warned_of_and_still_exact():
    with Scripted(4) as engine:
        with pytest.warns(UserWarning, match="a code with 4$") as warned:
            shards = cm.CodedParts(X, code=cm.codes.FractionalRepetition(12, 2), engine=engine)
        assert [w.filename for w in warned] == [__file__]
        assert off(cm.sum(gradient, shards, args=(W,))) < 1e-12


@pytest.mark.real_time
def test_an_executor_will_do():
    with ThreadPoolExecutor(6) as pool:
        shards = cm.CodedParts(X, code=cm.codes.CyclicGradientCode(6, 2), engine=pool)
        for _ in range(3):
            assert off(cm.sum(gradient, shards, args=(W,))) < 1e-12


@pytest.mark.real_time
def test_calls_from_several_threads_do_not_mix():
    results = {}

    def work(number):
        results[number] = cm.sum(gradient, shards, args=(W + number,))

    with ThreadPoolExecutor(6) as pool:
        shards = cm.CodedParts(X, code=cm.codes.CyclicGradientCode(6, 2), engine=pool)
        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(results) == list(range(8))
    for number, result in results.items():
        assert off(result, gradient(X, W + number)) < 1e-12


def test_what_it_prints():
    with Scripted(12, {0: never(), 5: crash()}) as engine:
        shards = cm.CodedParts(X, code=cm.codes.PolynomialGradientCode(12, 2, 2), engine=engine)
        result = cm.sum(gradient, shards, args=(W,), progress=True)
    lines = str(result).splitlines()
    assert lines[0].startswith("10 of 12 workers answered in ")
    assert lines[1] == "  sum        exact, of 12 parts: shape (5,), float64; 240 bytes received"
    assert lines[2] == "  abandoned  1: worker 0"
    assert lines[3].startswith("  failed     1: worker 5; the first, 5, with WorkerCrashed")
    assert repr(shards).startswith("<CodedParts: 12 parts on 12 workers by PolynomialGradientCode(")


def test_a_result_pickles():
    with Scripted(3) as engine:
        result = cm.sum(float, range(3), code=cm.codes.FractionalRepetition(3, 0), engine=engine)
    assert str(pickle.loads(pickle.dumps(result))) == str(result)


def equal(stragglers: int = 2, wrong: tuple[int, ...] = (7,), silent: tuple[int, ...] = ()):
    """A sum by a cyclic code of equal coefficients, with Byzantine and silent workers."""
    code = cm.codes.CyclicGradientCode(12, stragglers)
    script = {n: changed(lambda values, n=n: values + 3.0 + n) for n in wrong}
    script |= {n: fail(OSError("no network")) for n in silent}
    with Scripted(12, script) as engine:
        return cm.sum(
            gradient, X, args=(W,), code=code, engine=engine, stop=cm.Quorum(12 - len(silent))
        )


def test_a_wrong_answer_among_equal_coefficients_is_narrowed_down_and_the_sum_right():
    for byzantine in range(12):
        result = equal(wrong=(byzantine,))
        assert off(result) < 1e-12
        assert result.exact
        suspects = {n for n in range(12) if n % 3 == byzantine % 3}
        assert set(result.rejected) == suspects
        said = f"one of workers {', '.join(map(str, sorted(suspects)))} must be wrong"
        assert set(result.rejected.values()) == {said}


def test_several_wrong_answers_in_one_such_group_are_left_out_with_it():
    result = equal(wrong=(1, 4, 10))
    assert set(result.rejected) == {1, 4, 7, 10}
    assert off(result) < 1e-12
    result = equal(stragglers=5, wrong=(1, 2))
    said = "at least 2 of workers 1, 2, 7, 8 must be wrong"
    assert result.rejected == dict.fromkeys((1, 2, 7, 8), said)
    assert off(result) < 1e-12


def test_wrong_answers_in_two_such_groups_or_too_few_groups_raise():
    with pytest.raises(cm.NotEnoughAnswers, match="more than one must be wrong"):
        equal(wrong=(1, 2))
    # Of two sums that differ nothing tells which is wrong.
    for options in ({"stragglers": 1, "wrong": (5,)}, {"wrong": (5,), "silent": (0,)}):
        with pytest.raises(cm.NotEnoughAnswers, match="contradict each other, and one of workers"):
            equal(**options)
    # With four of them one may be incomplete.
    result = equal(stragglers=3, wrong=(5,), silent=(0,))
    assert set(result.rejected) == {1, 5, 9}
    assert off(result) < 1e-12


@pytest.mark.real_time
def test_parts_that_do_not_fit_into_memory_as_often_as_they_are_held(monkeypatch):
    monkeypatch.setattr("codedmap.contracts.memory.free_memory", lambda: 1 << 20)
    monkeypatch.setattr("codedmap.contracts.memory._LITTLE", 0)
    code = cm.codes.FractionalRepetition(4, 1)
    parts = [(np.ones(50_000), {"more": [b"x" * 100_000]}) for _ in range(4)]  # 2 MB
    with cm.engines.Local(4) as engine:
        with pytest.raises(
            cm.errors.NotEnoughMemory,
            match=r"4 workers .* keep 2\.00 times the parts' 2 MB, .* 8 MB, but only 1\.05 MB are",
        ):
            cm.CodedParts(parts, code=code, engine=engine)
        # What fits, or does not say its size, is placed.
        cm.CodedParts([b"x" * 1000] * 4, code=code, engine=engine)
        cm.CodedParts(["a path"] * 4, code=code, engine=engine)
    # Threads share what there is.
    with ThreadPoolExecutor(4) as pool:
        cm.CodedParts(parts, code=code, engine=pool)


@pytest.mark.real_time
def test_sparse_parts_count_what_they_hold(monkeypatch):
    monkeypatch.setattr("codedmap.contracts.memory.free_memory", lambda: 1 << 20)
    monkeypatch.setattr("codedmap.contracts.memory._LITTLE", 0)
    whole = sparse.random(4000, 100, 0.5, format="csr", random_state=np.random.default_rng(0))
    with (
        cm.engines.Local(4) as engine,
        pytest.raises(cm.errors.NotEnoughMemory, match=r"the parts' 2\.4\d MB"),
    ):
        cm.CodedParts(whole, code=cm.codes.FractionalRepetition(4, 1), engine=engine)
