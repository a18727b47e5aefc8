"""Answers of several dtypes, masked arrays and single values."""

from __future__ import annotations

import tracemalloc
import warnings

import numpy as np
import pytest

import codedmap as cm
from codedmap.contracts.answers import may_be_rounded, usable_answers
from codedmap.testing import Scripted, corrupt, crash, never

pytestmark = pytest.mark.usefixtures("virtual_time")

CODES = [
    cm.SplineCode(10, 30, 4),
    cm.BerrutCode(10, 30, 4),
    cm.Replication(10, 30),
    cm.Uncoded(10),
    cm.KernelCode(10, 30, 4),
]


@pytest.mark.parametrize("code", CODES, ids=lambda code: type(code).__name__)
@pytest.mark.parametrize(
    ("apart", "alike"),
    [
        (lambda x: max(0, x), lambda b: np.maximum(0.0, b)),
        (lambda x: 0 if x < 0.9 else x, lambda b: np.where(b < 0.9, 0.0, b)),
        (lambda x: x > 0.5 and x, lambda b: np.where(b > 0.5, b, 0.0)),
    ],
)
def test_integers_on_some_workers_and_floats_on_others_are_numbers(code, apart, alike):
    X = np.linspace(-1, 1, 60)
    with Scripted(code.workers) as engine:
        result = cm.map(cm.itemwise(apart), X, code=code, engine=engine)
    with Scripted(code.workers) as engine:
        expected = cm.map(alike, X, code=code, engine=engine)
    assert result.rejected == expected.rejected
    np.testing.assert_allclose(result.values, expected.values, atol=1e-12)
    np.testing.assert_array_equal(result.exact, expected.exact)


@pytest.mark.parametrize("out", [None, "out.npy"])
def test_the_dtype_of_most_stands_beside_a_row_that_fails(out, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def fn(batch):
        if 5 in batch:
            raise ValueError("five")
        return batch.astype("f8" if 12 in batch else "f4")

    with Scripted(6) as engine:
        options = {"code": cm.Replication(3, 6), "engine": engine, "chunk": 8}
        result = cm.map(fn, np.arange(24.0), on_error="record", out=out, **options)
    assert result.values.dtype == np.float32
    assert list(result.failures) == [5]


@pytest.mark.parametrize("chunk", [None, 2])
@pytest.mark.parametrize("fill", [None, "mean"])
def test_rows_of_which_it_is_not_known_which_answer_is_right_are_missing(fill, chunk):
    """With on_error="record" the job ended all the same, and a warning says why, unless they are estimated."""
    X, doubled = np.linspace(0, 1, 20), corrupt(lambda answer: np.stack([answer] * 2, 1))
    with Scripted(4, {0: [doubled], 1: [doubled]}) as engine:
        code = cm.Replication(2, 4, fill=fill)
        with warnings.catch_warnings(record=True, action="always") as told:
            result = cm.map(np.sin, X, code=code, engine=engine, on_error="record", chunk=chunk)
    missing = (result.status == cm.Status.MISSING).sum()
    assert [f"{missing} rows are MISSING: 2 of 4 workers answered" in str(one) for one in told] == (
        [True] if missing else []
    )
    lost = ~result.exact
    assert lost.sum() == (20 if chunk is None else 4)
    assert result.status[lost].min() == (
        cm.Status.ESTIMATED if fill and chunk else cm.Status.MISSING
    )
    np.testing.assert_array_equal(result.values[result.exact], np.sin(X)[result.exact])


@pytest.mark.parametrize(
    ("largest", "dtype"), [(2**62, "i8"), (2**63, "O"), (2**64 - 1, "O"), (2**70, "O")]
)
@pytest.mark.parametrize("usual", ["i2", "i8", "u8"])
def test_whole_numbers_are_neither_wrapped_nor_left_out(largest, dtype, usual):
    """What NumPy had as uint64 was another number, and what it had as an object left out."""
    large = np.array([[largest] * 3] * 2)
    kept, others = usable_answers({**of(usual, usual, value=7), 2: large}, 2)
    assert not others
    assert {array.dtype for array in kept.values()} == {kept[0].dtype}
    assert kept[2].tolist() == [[largest] * 3] * 2
    assert kept[0].tolist() == [[7] * 3] * 2
    if usual != "u8":
        assert kept[0].dtype == dtype


@pytest.mark.parametrize("code", [cm.Replication(12, 12), cm.KernelCode(12, 12, 0, spread=0)])
def test_a_whole_number_beyond_those_of_other_workers_is_not_wrapped(code):
    with Scripted(12) as engine:
        fn = cm.itemwise(lambda x: int(x) ** 40 if x == 3 else int(x))
        result = cm.map(fn, np.arange(12.0), code=code, engine=engine)
    assert result.exact.all()
    assert result.values.tolist() == [0, 1, 2, 3**40, *range(4, 12)]  # was -6289078614652622815


def of(*dtypes, value=1.5):
    return {slot: np.full((2, 3), value).astype(dtype) for slot, dtype in enumerate(dtypes)}


@pytest.mark.parametrize(
    ("dtypes", "dtype"),
    [
        (["f4", "f4", "f8"], "f4"),
        (["f4", "f4", np.longdouble], "f4"),
        (["f4", "f8"], "f8"),
        (["f4", "f4", "i8"], "f4"),
        (["i8", "i8", "f8"], "f8"),
        (["c8", "c16", "c8"], "c8"),
        (["?", "f4", "f4"], "f4"),
    ],
)
def test_the_dtype_is_that_of_most_or_one_that_holds_them_all(dtypes, dtype):
    answers = of(*dtypes)
    kept, others = usable_answers(answers, 2)
    assert others == ()
    assert {array.dtype for array in kept.values()} == {np.dtype(dtype)}
    for slot, array in kept.items():
        np.testing.assert_array_equal(array, answers[slot])


def test_large_integers_are_never_rounded_for_one_that_is_not_whole():
    answers = of("i8", "i8", "f8") | {0: np.full((2, 3), 2**60 + 1), 1: np.full((2, 3), 2**60 + 3)}
    kept, others = usable_answers(answers, 2)
    assert others == (2,)
    assert kept[0][0, 0] == 2**60 + 1
    whole = answers | {2: np.full((2, 3), 7.0)}
    kept, others = usable_answers(whole, 2)
    assert others == ()
    assert kept[2].dtype == np.int64


@pytest.mark.parametrize("value", [1e300, -1e300, 1e-300, 3e-45])
@pytest.mark.parametrize(("usual", "wide"), [("f4", "f8"), ("c8", "c16")])
def test_numbers_beyond_the_range_of_the_usual_dtype_keep_theirs(value, usual, wide):
    answers = of(usual, usual, wide) | {2: np.array([[value, np.nan, np.inf]] * 2, wide)}
    kept, others = usable_answers(answers, 2)
    assert others == ()
    for slot, array in kept.items():
        assert array.dtype == wide
        np.testing.assert_array_equal(array, answers[slot])


def test_a_rejected_answer_does_not_decide_the_dtype_of_the_others():
    X = np.random.default_rng(0).standard_normal((8, 2)).astype("f4")
    for code in (cm.Replication(3, 9), cm.SplineCode(3, 9, 0), cm.LagrangeCode(2, 9, 0, degree=1)):
        with Scripted(9, {1: corrupt(lambda a: a.astype(np.longdouble) + 3)}) as engine:
            result = cm.map(lambda b: 2 * b, X, code=code, engine=engine, stop=cm.Everyone())
        assert result.values.dtype == np.float32
        assert result.rejected == (1,)


def test_masked_inputs_are_refused_and_masked_answers_too():
    hidden = np.ma.masked_equal([1.0, 2.0, -999.0, 4.0], -999.0)
    for code in (cm.Uncoded(2), cm.SplineCode(2, 4, 1)):
        with Scripted(4) as engine:
            with pytest.raises(cm.InvalidArgument, match=r"1 of 4 numbers .* masked"):
                cm.map(lambda b: b, hidden, code=code, engine=engine)
            with pytest.raises(cm.InvalidAnswer, match=r"returned a masked array.*filled"):
                cm.map(lambda b: np.ma.masked_greater(b, 0.0), np.ones(4), code=code, engine=engine)
            shown = np.ma.array([1.0, 2.0, 3.0, 4.0])
            result = cm.map(np.ma.array, shown, code=code, engine=engine, stop=cm.Everyone())
            np.testing.assert_allclose(result.values, [1, 2, 3, 4], atol=0.3)
            assert type(result.values) is np.ndarray


@pytest.mark.parametrize(("answer", "match"), [("hello", "a single value"), (3, "a single number")])
def test_one_value_for_a_whole_payload(answer, match):
    with Scripted(4) as engine, pytest.raises(cm.InvalidAnswer, match=match):
        cm.map(lambda b: answer, np.ones(4), code=cm.Replication(2, 4), engine=engine)


def test_exact_integers_are_not_rounded_beside_a_mean():
    big, code = 2**60 + 1, cm.Replication(3, 6, fill="mean")
    with Scripted(6, {0: crash(), 3: crash()}) as engine:
        options = {"code": code, "engine": engine, "hedge": None, "retries": 0}
        with pytest.raises(cm.NotEnoughAnswers, match=r"2\*\*53"):
            cm.map(lambda b: np.full(len(b), big), np.arange(6.0), **options)
        stop = cm.Quorum(4)
        result = cm.map(lambda b: np.full(len(b), big), np.arange(6.0), stop=stop, **options)
        assert result.values[2:].tolist() == [big] * 4
        assert (result.status[:2] == cm.Status.MISSING).all()
        result = cm.map(lambda b: np.full(len(b), 7), np.arange(6.0), stop=stop, **options)
    np.testing.assert_array_equal(result.values, 7.0)
    assert (result.status[:2] == cm.Status.ESTIMATED).all()


def test_records_of_other_fields_are_not_put_side_by_side():
    """NumPy said that their field names mismatch."""
    ab, ba = np.zeros(2, [("a", "f8"), ("b", "f8")]), np.zeros(2, [("b", "f8"), ("a", "f8")])
    kept, others = usable_answers({0: ab, 1: ba, 2: ab}, 2)
    assert (sorted(kept), others) == ([0, 2], (1,))
    with pytest.raises(cm.NotEnoughAnswers, match="cannot be found which is right"):
        usable_answers({0: ab, 1: ba}, 2)


@pytest.mark.parametrize("number", [np.uint8(3), np.int8(3), np.uint64(3), np.int16(3)])
def test_numbers_that_would_overflow_are_refused(number):
    for make in (
        lambda: cm.SplineCode(number, 6, 1),
        lambda: cm.LagrangeCode(2, 60, 2, degree=number),
        lambda: cm.Uncoded(number),
    ):
        with pytest.raises(cm.InvalidArgument, match=r"overflow: use \w+=3"):
            make()
    assert cm.SplineCode(np.int64(3), 6, 1).tasks == 3


@pytest.mark.parametrize("other", [5, None, "Quorum", cm.Everyone])
def test_only_stop_rules_are_combined(other):
    with pytest.raises(TypeError, match="unsupported operand"):
        cm.Quorum(3) | other
    with pytest.raises(TypeError, match="unsupported operand"):
        cm.Quorum(3) & other


@pytest.mark.parametrize("whole", [int, float])
def test_a_hedge_of_integers_joins_floats(whole):
    def half(batch):
        return [whole(0) if x > 0 else float(x) for x in batch]

    X = np.array([-1.0, -2.0, 3.0, -4.0])
    with Scripted(4, {2: never()}) as engine:
        result = cm.map(half, X, code=cm.Uncoded(4), engine=engine, hedge=cm.Hedge(after=0.02))
    np.testing.assert_array_equal(result.values, [-1, -2, 0, -4])
    assert result.exact.all()
    assert result.rejected == ()


@pytest.mark.parametrize("code", [cm.Uncoded(2), cm.Replication(2, 4)], ids=repr)
def test_large_whole_numbers_in_lists_are_not_rounded(code):
    with Scripted(code.workers) as engine:
        found = cm.map(
            lambda b: [[2**53 + 1, 0.5] for _ in b], np.arange(6.0), code=code, engine=engine
        )
    assert found.values.tolist() == [[2**53 + 1, 0.5]] * 6


@pytest.mark.parametrize("mixed", [[1.0, "none"], [b"raw", "text"], [True, "yes"]], ids=repr)
def test_what_is_no_text_stays_what_it_is_beside_text_in_lists(mixed):
    with Scripted(4) as engine:
        result = cm.map(
            lambda b: mixed * (len(b) // 2), range(8), code=cm.Uncoded(2), engine=engine
        )
    assert [(type(value), value) for value in result.values] == [(type(v), v) for v in mixed * 4]
    assert result.exact.all()


@pytest.mark.parametrize(
    "dtype", [np.float16, np.float32, np.float64, np.longdouble, np.complex128]
)
def test_whether_numbers_may_be_rounded_needs_no_copy_and_passes_over_nan(dtype):
    large = 65504.0 * 8 if dtype is np.float16 else 2.0**53  # infinite in float16
    with np.errstate(over="ignore"):
        for one in (large, -large):
            assert may_be_rounded(np.array([[np.nan, 1.0], [one, 0.0]], dtype).T)
    assert not may_be_rounded(np.array([np.nan, 2.0**15, -(2.0**15)], dtype))
    assert not may_be_rounded(np.array([np.nan], dtype))
    assert not may_be_rounded(np.empty((0, 2), dtype))
    rows = np.ones((1 << 10, 1 << 10))
    tracemalloc.start()
    assert not may_be_rounded(rows)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
