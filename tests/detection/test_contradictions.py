"""Answers that fit exactly unless they are wrong: which are rejected."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import codedmap as cm
from codedmap.testing import Scripted, corrupt

X = np.random.default_rng(0).standard_normal((8, 2))


def affine(batch):
    return 2 * batch + 1


def square(batch):
    return batch * batch


def mapped(code, fn: Callable, wrong: dict, **options):
    with Scripted(code.workers, {slot: corrupt(how) for slot, how in wrong.items()}) as engine:
        return cm.map(fn, X, code=code, engine=engine, stop=cm.Everyone(), **options)


def nan(answer):
    return np.full_like(answer, np.nan)


def off_by(seed: int, size: float = 1.0):
    rng = np.random.default_rng(seed)
    return lambda answer: answer + size * rng.standard_normal(answer.shape)


# ---- NaN and infinity


@pytest.mark.parametrize("slot", range(7))
def test_nan_beside_copies_of_the_same_input_is_rejected(slot):
    for code in (cm.LagrangeCode(1, 7, 0, 1), cm.SplineCode(1, 7, 0), cm.BerrutCode(1, 7, 0)):
        result = mapped(code, affine, {slot: nan})
        np.testing.assert_allclose(result.values, affine(X), rtol=1e-12)
        assert result.rejected == (slot,)


@pytest.mark.parametrize("what", [np.nan, -np.inf])
@pytest.mark.parametrize("slot", range(9))
def test_of_a_polynomial_nan_is_rejected_on_a_raw_input_too(slot, what):
    code = cm.LagrangeCode(4, 9, 0, 2)  # 7 answers determine it
    result = mapped(code, square, {slot: lambda answer: np.full_like(answer, what)})
    np.testing.assert_allclose(result.values, square(X), atol=1e-9)
    assert result.rejected == (slot,)


def test_nan_in_a_single_entry_is_contradicted_by_the_entry():
    def one(answer):
        answer = answer.copy()
        answer[3, 1] = np.nan
        return answer

    result = mapped(cm.LagrangeCode(1, 7, 0, 1), affine, {1: one, 4: one})
    np.testing.assert_allclose(result.values, affine(X), rtol=1e-12)
    assert result.rejected == (1, 4)


@pytest.mark.parametrize("make", [cm.SplineCode, cm.BerrutCode])
def test_what_all_copies_agree_on_is_returned_though_it_is_infinite(make):
    result = mapped(make(1, 7, 0), lambda batch: np.full_like(batch, -np.inf), {})
    assert (result.values == -np.inf).all()
    assert result.exact.all()
    assert result.rejected == ()


def test_nan_on_a_raw_input_that_only_estimates_contradict_is_returned():
    code = cm.SplineCode(5, 31, 5)
    encoding = code.encode(np.linspace(0, 1, 5)[:, None, None])
    task, slot = next((t, n) for n, t in enumerate(encoding.raw) if t is not None)
    answers = {n: np.sin(encoding.payloads[n]) for n in range(31)} | {slot: np.full((1, 1), np.nan)}
    estimate = encoding.decode(answers)
    assert np.isnan(estimate.values[task]).all()
    assert estimate.exact[task].all()
    assert estimate.rejected == ()


# ---- contradictions


@pytest.mark.parametrize(
    ("tasks", "degree", "count"),
    [(1, 1, 1), (1, 1, 3), (2, 1, 1), (2, 1, 2), (3, 1, 2), (3, 2, 2), (5, 2, 2), (5, 2, 3)],
)
@pytest.mark.parametrize("seed", range(6))
def test_two_spare_answers_for_each_wrong_one_identify_them(tasks, degree, count, seed):
    workers = (tasks - 1) * degree + 1 + 2 * count
    who = np.random.default_rng(seed).choice(workers, count, replace=False).tolist()
    fn = affine if degree == 1 else square
    code = cm.LagrangeCode(tasks, workers, 0, degree)
    result = mapped(code, fn, {slot: off_by(10 * seed + slot) for slot in who})
    np.testing.assert_allclose(result.values, fn(X), atol=1e-8)
    assert result.rejected == tuple(sorted(who))


@pytest.mark.parametrize(("tasks", "degree"), [(2, 1), (3, 2), (5, 2)])
def test_with_one_spare_answer_none_is_rejected(tasks, degree):
    code = cm.LagrangeCode(tasks, (tasks - 1) * degree + 2, 0, degree)
    for seed in range(5):
        assert mapped(code, affine, {seed % code.workers: off_by(seed)}).rejected == ()


@pytest.mark.parametrize("fn", [square, lambda batch: batch + 1e-3 * np.sin(50 * batch)])
def test_of_a_function_that_is_no_polynomial_of_the_stated_degree_none_is_rejected(fn):
    result = mapped(cm.LagrangeCode(4, 14, 2, 1), fn, {})
    assert result.rejected == ()
    assert np.isfinite(result.values).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_correct_answers_of_polynomials_are_never_rejected(dtype):
    rng = np.random.default_rng(0)
    decoded = 0
    for tasks in (1, 2, 3, 5, 8, 16):
        for degree in (1, 2, 4):
            least = (tasks - 1) * degree + 1
            for workers in (least + 1, least + 3, 2 * least + 2):
                code = cm.LagrangeCode(tasks, workers, 0, degree)
                inputs = (10 + rng.standard_normal((tasks, 3, 5))).astype(dtype)
                encoding = code.encode(inputs)
                for lost in range(min(3, workers - least)):
                    slots = rng.permutation(workers)[lost:].tolist()
                    if not encoding.decodable(frozenset(slots)):
                        continue
                    weights = rng.standard_normal((degree, 5, 4)).astype(dtype)
                    answers = {n: np.prod(encoding.payloads[n] @ weights, axis=0) for n in slots}
                    assert encoding.decode(answers).rejected == ()
                    decoded += 1
    assert decoded > 40
