"""Large answers that lie apart in memory are decoded where they are."""

from __future__ import annotations

import numpy as np
import pytest

import codedmap as cm
from codedmap.codes.scattered import Loose, loose
from codedmap.contracts.answers import Answers

CODES = [
    cm.SplineCode(20, 100, 60),
    cm.SplineCode(20, 30, 10),  # an operator so small that one thread applies it
    cm.BerrutCode(20, 100, 60),
    cm.LagrangeCode(4, 100, 80, degree=2),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64])
@pytest.mark.parametrize("code", CODES, ids=repr)
@pytest.mark.parametrize("lie", [None, -50.0, np.nan])
def test_they_decode_as_they_do_side_by_side(code, dtype, lie):
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((code.tasks, 3, 5)).astype(dtype)
    encoding = code.encode(inputs)
    weights = rng.standard_normal((5, 40_000)).astype(dtype)
    slots = [int(slot) for slot in rng.permutation(code.workers)[: code.workers - 5]]
    answers = {slot: encoding.payloads[slot] @ weights for slot in slots}
    if lie is not None:
        answers[slots[3]] = answers[slots[3]] * np.dtype(dtype).type(lie)
    assert isinstance(loose(answers, 3)[1], Loose)
    arrived = Answers(code.workers)
    for slot, answer in answers.items():
        arrived.add(slot, answer)
    found, expected = encoding.decode(answers), encoding.decode(arrived.sheet(3)[0])
    size = np.abs(expected.values).max()
    np.testing.assert_allclose(found.values, expected.values, atol=1e3 * np.finfo(dtype).eps * size)
    np.testing.assert_array_equal(found.exact, expected.exact)
    assert found.rejected == expected.rejected == (() if lie is None else (slots[3],))


def test_what_is_small_is_put_side_by_side_and_what_is_large_comes_in_the_dtype_of_most():
    small = {slot: np.zeros((2, 10)) for slot in range(4)}
    assert isinstance(loose(small, 2)[1], np.ndarray)
    several = {
        slot: np.ones((2, 1_000_000), np.float32 if slot else np.float64) for slot in range(4)
    }
    large = loose(several, 2)[1]
    assert isinstance(large, Loose)
    assert large.dtype == np.float32
    assert {row.dtype for row in large.rows} == {np.dtype(np.float32)}
    assert loose({}, 2)[0] == ()
