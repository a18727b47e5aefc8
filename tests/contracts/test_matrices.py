"""Contract tests of every matrix code in the table."""

from __future__ import annotations

import pickle
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import codedmap as cm
from codedmap.api.matrix import _checked_code
from codedmap.contracts.matrix_code import MatrixCode

from ..repeats import crossed, drawn, first
from .matrix_codes import ROWS

every = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
lawful = settings(max_examples=25)
DTYPES = [np.float32, np.float64, np.complex64, np.complex128]


@st.composite
def sizes(draw: st.DrawFn) -> tuple[int, int]:
    workers = 2 ** draw(st.integers(1, 5))
    return draw(st.integers(1, workers // 2)), workers


def case(row, size, seed, dtype=np.float64, outputs=(3, 2)):
    """A code, products of its blocks (K, *outputs), those of its coded blocks (N, *outputs), and a generator."""
    code = _checked_code(row.make(*size))
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((code.tasks, *outputs))
    if np.dtype(dtype).kind == "c":
        values = values + 1j * rng.standard_normal(values.shape)
    values = values.astype(dtype)
    return code, values, coded(code, values), rng


def coded(code, values):
    weights = np.stack([code.weights(worker) for worker in range(code.workers)])
    return np.tensordot(weights.astype(values.real.dtype), values, 1)


def some(answers, workers):
    return {int(worker): answers[worker] for worker in workers}


def order(code, rng):
    return [int(worker) for worker in rng.permutation(code.workers)]


def enough(code, order, dtype):
    """The first of these workers from whom it can be decoded."""
    dtype = np.dtype(dtype)
    return next(
        order[:count]
        for count in range(1, len(order) + 1)
        if code.decodable(frozenset(order[:count]), dtype)
    )


def tolerance(dtype, values):
    return (
        np.finfo(dtype).eps ** 0.5 * np.linalg.norm(values.reshape(len(values), -1), axis=0).max()
    )


@every
@lawful
@given(sizes(), st.integers(0, 2**31), st.sampled_from(DTYPES))
def test_what_is_decoded_is_exact_within_half_of_the_digits(row, size, seed, dtype):
    code, values, answers, rng = case(row, size, seed, dtype)
    given = some(answers, enough(code, order(code, rng), dtype))
    decoded = code.decode(given, np.dtype(dtype))
    assert decoded.values.dtype == dtype
    assert decoded.values.shape == values.shape
    assert np.abs(decoded.values - values).max() <= tolerance(dtype, values)
    assert not decoded.rejected


@every
@pytest.mark.parametrize("size", [(1, 2), (2, 4), (3, 8), (4, 8)])
def test_every_set_that_can_be_decoded_is(row, size):
    code, values, answers, _ = case(row, size, 0)
    found = 0
    for count in range(code.workers + 1):
        for workers in combinations(range(code.workers), count):
            if code.decodable(frozenset(workers), np.dtype(float)):
                decoded = code.decode(some(answers, workers), np.dtype(float)).values
                assert np.abs(decoded - values).max() <= tolerance(float, values), workers
                found += 1
            else:
                assert count < code.workers - code.stragglers, workers
                with pytest.raises(cm.NotEnoughAnswers):
                    code.decode(some(answers, workers), np.dtype(float))
    assert found


@every
@drawn(8, 25, sizes(), st.integers(0, 2**31), st.sampled_from([np.float32, np.float64]))
def test_more_answers_never_make_it_undecodable_and_without_enough_nothing_is_returned(
    row, size, seed, dtype
):
    code, _, answers, rng = case(row, size, seed, dtype)
    workers = order(code, rng)
    before = False
    for count in range(code.workers + 1):
        now = code.decodable(frozenset(workers[:count]), np.dtype(dtype))
        assert now >= before
        before = now
        if now:
            code.decode(some(answers, workers[:count]), np.dtype(dtype))
        else:
            with pytest.raises(cm.NotEnoughAnswers):
                code.decode(some(answers, workers[:count]), np.dtype(dtype))
    assert before


@every
@drawn(8, 25, sizes(), st.integers(0, 2**31))
def test_the_order_of_answers_is_irrelevant(row, size, seed):
    code, _, answers, rng = case(row, size, seed)
    workers = enough(code, order(code, rng), float)
    one = code.decode(some(answers, workers), np.dtype(float))
    other = code.decode(some(answers, rng.permutation(workers)), np.dtype(float))
    np.testing.assert_array_equal(one.values, other.values)


@every
@drawn(8, 25, sizes(), st.integers(0, 2**31))
def test_columns_are_independent(row, size, seed):
    code, _, answers, rng = case(row, size, seed)
    workers = enough(code, order(code, rng), float)
    whole = code.decode(some(answers, workers), np.dtype(float)).values
    alone = code.decode(some(answers[:, :, 1:], workers), np.dtype(float)).values
    np.testing.assert_allclose(alone, whole[:, :, 1:], atol=1e-9)


@every
def test_a_code_pickles_and_equals_its_copy(row):
    public = row.make(4, 16)
    code, _, answers, _ = case(row, (4, 16), 0)
    code.decode(some(answers, range(code.workers)), np.dtype(float))
    copy = pickle.loads(pickle.dumps(public))
    assert copy == public
    assert hash(copy) == hash(public)
    assert repr(copy) == repr(public)
    again = _checked_code(copy)
    for worker in range(code.workers):
        np.testing.assert_array_equal(again.weights(worker), code.weights(worker))
    with pytest.raises(AttributeError):
        public.tasks = 5


@every
@lawful
@given(sizes(), st.integers(0, 2**31))
def test_blocks_coded_at_once_are_those_coded_one_by_one(row, size, seed):
    code, values, answers, _ = case(row, size, seed)
    assert isinstance(code, MatrixCode)
    assert np.isfinite(answers).all()
    if hasattr(code, "coded"):
        np.testing.assert_allclose(code.coded(values), answers, atol=1e-12)


@every
@drawn(8, 25, sizes(), st.integers(0, 2**31))
def test_only_answers_of_wrong_workers_are_rejected(row, size, seed):
    code, values, answers, rng = case(row, size, seed)
    wrong = int(rng.integers(code.workers))
    answers[wrong] += 1e3
    try:
        decoded = code.decode(some(answers, range(code.workers)), np.dtype(float))
    except (cm.InvalidAnswer, cm.NotEnoughAnswers):
        return  # a wrong answer is noticed, and nothing is returned
    if set(decoded.rejected) == {wrong}:
        assert np.abs(decoded.values - values).max() <= tolerance(float, values)
    else:
        assert not decoded.rejected
        uncontradicted = code.workers == code.tasks or (
            # the only copy of its block, which no other has a share in
            sum(
                code.weights(n)[np.abs(code.weights(wrong)).argmax()] != 0
                for n in range(code.workers)
            )
            == 1
        )
        assert uncontradicted


@pytest.mark.parametrize("row", [r for r in ROWS if r.anytime], ids=lambda row: row.name)
@lawful
@given(sizes(), st.integers(0, 2**31), st.sampled_from(DTYPES))
def test_estimates_have_errors_and_all_answers_give_the_product(row, size, seed, dtype):
    code, values, answers, rng = case(row, size, seed, dtype)
    assert hasattr(code, "estimate")
    workers = order(code, rng)
    for count in range(code.workers + 1):
        estimate = code.estimate(some(answers, workers[:count])) if count else None
        if count < 2:
            assert estimate is None
            continue
        assert estimate[0].shape == estimate[1].shape == values.shape
        assert estimate[0].dtype == dtype
        assert (estimate[1] > 0).all()
    np.testing.assert_allclose(estimate[0], values, atol=tolerance(dtype, values))
    assert estimate[1].max() < tolerance(dtype, values)


@pytest.mark.parametrize(
    ("dtype", "tail"),
    crossed([np.float32, np.float64, np.complex128], ["normal", "one block dominates", "heavy"]),
)
@pytest.mark.parametrize(
    ("tasks", "workers", "count"), first(2, [(12, 16, 5), (48, 64, 20), (48, 64, 50)])
)
def test_error_bars_cover_95_percent(tasks, workers, count, tail, dtype):
    rng = np.random.default_rng(count)
    within = []
    for seed in range(60):
        code = cm.codes.PolarCode(tasks, workers, seed)
        values = rng.standard_normal((tasks, 40))
        if tail == "one block dominates":
            values[rng.integers(tasks)] *= 30
        elif tail == "heavy":
            values = rng.standard_t(2, values.shape)
        if dtype == np.complex128:
            values = values + 1j * rng.standard_normal(values.shape)
        answers = coded(code, values.astype(dtype))
        estimate, stderr = code.estimate(some(answers, rng.permutation(workers)[:count]))
        within.append(np.abs(estimate - values) < 1.96 * stderr)
    share = np.mean(within)
    # Of a complex number both parts would have to be far off, so the bars are too wide.
    assert 0.935 <= share <= (0.99 if dtype == np.complex128 else 0.975)
