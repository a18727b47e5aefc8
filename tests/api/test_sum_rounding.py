"""Rounding is no wrong answer, however little of what was added up is left of it; what is not rounded has to be equal."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

import codedmap as cm
from codedmap.coding import gradient
from codedmap.testing import Scripted, corrupt

CODES = (
    cm.codes.CyclicGradientCode(3, 2),
    cm.codes.CyclicGradientCode(4, 3),
    cm.codes.CyclicGradientCode(6, 2),
    cm.codes.CyclicGradientCode(7, 4),
    cm.codes.PolynomialGradientCode(4, 1, 3),
    cm.codes.GroupedGradientCode(6, 6, 2),
    cm.codes.FractionalRepetition(6, 2),
)


def total(fn, code, script=None, args=()):
    parts = range(code.workers)
    with Scripted(code.workers, script or {}) as engine:
        return cm.sum(fn, parts, args=args, code=code, engine=engine, stop=cm.Everyone())


@pytest.mark.parametrize("code", CODES, ids=repr)
def test_gradients_that_cancel_out_at_the_minimum_are_no_wrong_answers(code):
    rng = np.random.default_rng(0)
    X, noise = rng.standard_normal((600, 4)), rng.standard_normal(600)
    y = X @ [1.0, -2.0, 0.5, 3.0] + noise
    rows = np.array_split(np.arange(600), code.workers)
    best = np.linalg.lstsq(X, y)[0]
    weights = np.zeros(4)

    def slope(part, weights):
        return X[rows[part]].T @ (X[rows[part]] @ weights - y[rows[part]])

    for _ in range(40):
        result = total(slope, code, args=(weights,))
        assert not result.rejected
        weights = weights - result.value / len(X)
    assert np.abs(weights - best).max() < 1e-9


@pytest.mark.parametrize("code", CODES, ids=repr)
@pytest.mark.parametrize("unit", [1.0, 1e-300, 1e-312, 1e300])
def test_values_of_any_size_that_cancel_out_in_every_worker(code, unit):
    waves = np.array([1.0, 0.1, 0.3]) * unit
    n = code.workers
    result = total(lambda j: np.cos(2 * np.pi * j / n) * waves, code)
    assert not result.rejected
    assert np.abs(result.value).max() < 1e-9 * unit


@pytest.mark.parametrize("byzantine", range(3))
def test_a_wrong_answer_among_what_cancelled_out_is_found(byzantine):
    code = cm.codes.CyclicGradientCode(3, 2)
    wrong = corrupt(lambda piece: replace(piece, values=piece.values + 1e-6))
    result = total(lambda j: np.cos(2 * np.pi * j / 3) * np.ones(2), code, {byzantine: wrong})
    assert set(result.rejected) == {byzantine}
    assert np.abs(result.value).max() < 1e-12


@pytest.mark.parametrize("off", [1, -3, 10**6])
@pytest.mark.parametrize("value", [10**9, 2**50, 2**58])
def test_integers_of_copies_have_to_be_equal(value, off):
    code = cm.codes.FractionalRepetition(6, 2)
    wrong = corrupt(lambda piece: replace(piece, values=piece.values + off))
    result = total(lambda j: np.int64(value) + np.arange(3), code, {4: wrong})
    assert set(result.rejected) == {4}
    assert result.value.tolist() == [6 * value, 6 * value + 6, 6 * value + 12]
    with pytest.raises(cm.NotEnoughAnswers, match="one of workers 1, 4 must be wrong"):
        total(lambda j: np.int64(value), cm.codes.FractionalRepetition(6, 1), {4: wrong})


def test_workers_that_add_the_same_integers_differently_do_not_contradict():
    values = [np.uint64(2**62), np.int64(-5), np.int8(3), np.uint64(1), np.int64(2**40), True]
    result = total(lambda j: values[j], cm.codes.FractionalRepetition(6, 2))
    assert int(result.value) == 2**62 - 5 + 3 + 1 + 2**40 + 1
    assert not result.rejected


def test_answers_that_would_enlarge_rounding_too_much_wait_for_one_more_and_say_so(monkeypatch):
    code = cm.codes.CyclicGradientCode(11, 4)
    lost = [list(some) for some in combinations(range(11), 4)]
    off = [code._made.solve(some)[1] for some in lost]
    # As if the worst of them, which among more workers might not have been tried, were too bad.
    monkeypatch.setattr(gradient, "TOLERANCE", sorted(off)[-2])
    missing = lost[int(np.argmax(off))]
    with pytest.raises(cm.NotEnoughAnswers, match="7 of 11 workers answered, which is enough on"):
        code.weights(frozenset(range(11)) - set(missing))
    crashed = dict.fromkeys(missing, cm.testing.crash())
    with pytest.raises(cm.NotEnoughAnswers, match="7 are enough on paper, but by Cyclic"):
        total(lambda j: np.ones(2) * j, code, crashed)
    del crashed[missing[0]]
    assert np.abs(total(lambda j: np.ones(2) * j, code, crashed).value - 55).max() < 1e-9


def test_what_is_added_without_signs_may_be_infinite_and_hides_no_wrong_answer():
    values = np.array([1, -1, 1, -1, 1, -1, 0]) * 7.5e307
    wrong = corrupt(lambda piece: replace(piece, values=piece.values / 2 + 1e307))
    code = cm.codes.CyclicGradientCode(7, 5)
    with np.errstate(over="raise"):
        result = total(lambda j: values[j], code, {0: wrong, 3: wrong})
        assert set(result.rejected) == {0, 3}
        assert abs(result.value) < 1e299
        with pytest.raises(cm.NotEnoughAnswers, match="contradict each"):
            total(lambda j: values[j], code, {0: wrong, 2: wrong, 3: wrong})


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_numbers_with_fewer_digits_contradict_no_answer(dtype):
    rng = np.random.default_rng(0)
    unit = float(np.finfo(dtype).smallest_subnormal) * 300
    code = cm.codes.PolynomialGradientCode(7, 5, 2)
    assert code.amplification < 100  # answers are sent in the values' precision
    for _ in range(20):
        values = (rng.standard_normal((8, 3, 2)) @ [1, 1j] * unit).astype(dtype)
        with np.errstate(all="raise", under="ignore"):
            result = total(lambda j, values=values: values[j], code)
        assert not result.rejected


@pytest.mark.parametrize("dtype", [np.int8, np.float32, np.longdouble])
@pytest.mark.parametrize("code", CODES, ids=repr)
def test_sums_of_nothing_contradict_no_answer(code, dtype):
    for shape in ((0,), (2,)):
        result = total(lambda j, shape=shape: np.zeros(shape, dtype), code)
        assert result.value.shape == shape
        assert not result.rejected
