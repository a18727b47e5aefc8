"""Sums of integers: exact, in a dtype that holds them, or an error that says what does not fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import codedmap as cm
from codedmap.contracts.answers import LARGEST_IN_FLOAT
from codedmap.testing import Scripted, corrupt, never

COPIES = cm.codes.FractionalRepetition(6, 1)
MIXING = (
    cm.codes.CyclicGradientCode(6, 1),
    cm.codes.CyclicGradientCode(5, 1),
    cm.codes.PolynomialGradientCode(6, 1, 2),
    cm.codes.GroupedGradientCode(6, 3, 2),
)


def total(values, code=COPIES, script=None, **options):
    with Scripted(code.workers, script) as engine:
        return cm.sum(lambda n: values[n], range(len(values)), code=code, engine=engine, **options)


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, ">i8", ">u8"])
@pytest.mark.parametrize("script", [None, {0: never(), 4: never()}])
def test_integers_beyond_what_floats_hold_stay_exact(dtype, script):
    values = np.full((6, 2), 2**60 + 1, dtype)
    result = total(values, script=script, stop=cm.Decodable())
    assert result.exact
    assert result.value.tolist() == [6 * (2**60 + 1)] * 2
    assert result.value.dtype == np.int64


@pytest.mark.parametrize(
    "value", [np.int64(2**62), np.int64(2**61), np.int64(-(2**62)), np.int64(-(2**63)), np.uint64(2**63)]
)  # fmt: skip
def test_an_integer_sum_beyond_its_range_is_an_error_with_numbers(value):
    with pytest.raises(cm.InvalidAnswer, match=r"exceeds the range of int64, .*float64"):
        total([value] * 6)
    assert total([np.float64(value)] * 6).value == 6 * float(value)


def test_the_last_integer_of_the_range_is_one_and_the_next_is_not():
    edge = 2**63 - 1
    assert int(total([np.int64(edge - 5), *[np.int64(1)] * 5]).value) == edge
    with pytest.raises(cm.InvalidAnswer, match="exceeds the range"):
        total([np.int64(edge - 4), *[np.int64(1)] * 5])


def test_large_integers_that_cancel_are_exact_or_refused():
    values = [np.array([2**59, -(2**60), 5]), np.array([-(2**59), 2**60 - 1, 5])] * 3
    assert total(values, cm.codes.FractionalRepetition(6, 5)).value.tolist() == [0, -3, 30]
    with pytest.raises(cm.InvalidAnswer, match="what its absolute values may add up to"):
        total([np.int64(2**62), np.int64(-(2**62))] * 3)


def test_signed_and_unsigned_integers_together_stay_integers():
    values = [np.int64(-5), np.uint64(2**60 + 1)] * 3
    result = total(values)
    assert int(result.value) == 3 * (2**60 - 4)
    assert result.value.dtype == np.int64
    assert int(total([np.int64(-5), np.uint64(1)] * 3).value) == -12


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint32, np.bool_])
def test_smaller_integers_are_added_in_int64(dtype):
    largest = 1 if dtype == np.bool_ else np.iinfo(dtype).max
    result = total(np.full((6, 3), largest, dtype))
    assert result.value.tolist() == [6 * int(largest)] * 3
    assert result.value.dtype == np.int64


@pytest.mark.parametrize("code", MIXING, ids=repr)
@pytest.mark.parametrize("value", [np.int64(2**60 + 1), np.uint64(2**53 + 2), np.int64(2**51)])
def test_a_code_that_adds_in_floating_point_refuses_integers_that_it_would_round(code, value):
    raises = pytest.raises(cm.InvalidAnswer, match=r"9\.007e\+15.*FractionalRepetition")
    with raises:
        total([value] * code.workers, code)
    if value.dtype == np.int64 and value > LARGEST_IN_FLOAT:
        with raises:
            total([value * (-1) ** n for n in range(code.workers)], code)
    assert total([np.float64(value)] * code.workers, code).exact
    small = total([np.int64(3)] * code.workers, code)
    assert small.exact
    np.testing.assert_allclose(small.value, 3 * code.workers)


def test_an_estimate_of_large_integers_is_none_the_less_an_estimate():
    code = cm.codes.IgnoreStragglers(6, 2)
    result = total([np.int64(2**60)] * 6, code, {0: never()})
    assert not result.exact
    assert result.value == 6 * 2.0**60


@pytest.mark.parametrize("wrong", [1e308, np.float64(2**60)])
def test_floats_that_are_said_to_be_integers_are_no_sum(wrong):
    false = corrupt(lambda piece: replace(piece, values=np.full_like(piece.values, wrong, float)))
    with pytest.raises(cm.InvalidAnswer, match="exceeds the range"):
        total([np.int64(1)] * 6, script=dict.fromkeys(range(6), false))


def test_floats_among_integers_make_a_sum_of_floats():
    result = total([np.int64(2**62), np.float64(0.5)] * 3)
    assert result.value == 3 * 2.0**62
    assert result.value.dtype == np.float64


def test_a_wrong_answer_among_large_integers_is_outvoted():
    script = {4: corrupt(lambda piece: replace(piece, values=-piece.values))}
    result = total(
        [np.int64(2**58)] * 6, cm.codes.FractionalRepetition(6, 2), script, stop=cm.Everyone()
    )
    assert int(result.value) == 6 * 2**58
    assert set(result.rejected) == {4}
