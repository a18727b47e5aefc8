"""Answers that fit exactly unless they are wrong: which are rejected."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest

import codedmap as cm
from codedmap.coding.precision import Precision
from codedmap.detection import contradictions
from codedmap.detection.contradictions import exact_outliers
from codedmap.detection.outliers import rejection_factor
from codedmap.testing import Scripted, corrupt

from ..repeats import crossed
from .test_outliers import line

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


# ---- the set that is found, against all sets


def combined(rng: np.random.Generator, count: int, needed: int, groups: int, outputs: int):
    """Answers (F, B, outputs) that some of them determine, and their precision."""
    columns = rng.standard_normal((count, needed))
    exact = np.einsum("fr,rbo->fbo", columns, rng.standard_normal((needed, groups, outputs)))
    return exact, columns, Precision.of_span(columns)


def smallest_set(columns: np.ndarray, answers: np.ndarray, most: int) -> list[int]:
    """The first of the smallest sets without which the rest are combinations of the columns."""
    for size in range(most + 1):
        for out in combinations(range(len(answers)), size):
            rest = np.setdiff1d(np.arange(len(answers)), out)
            fit = columns[rest] @ np.linalg.lstsq(columns[rest], answers[rest], rcond=None)[0]
            if np.abs(fit - answers[rest]).max() < 1e-9 * np.abs(answers).max():
                return list(out)
    return []


@pytest.mark.parametrize(
    ("numbers", "dtype"),
    crossed(
        [(3, 2), (1, 1), (4, 1), (1, 2), (1, 3), (4, 3)], [np.float64, np.float32, np.complex128]
    ),
)
def test_the_smallest_set_that_explains_a_group_is_found_in_it(numbers, dtype):
    needed, most = numbers
    for seed in range(5):
        rng = np.random.default_rng([seed, needed, most])
        count = needed + 2 * most
        answers, columns, precision = combined(rng, count, needed, 7, 3)
        # Wrong at random; by little; and on another combination of the same columns.
        for group, size in ((1, 1.0), (2, 1e3 * np.finfo(dtype).eps ** 0.5), (3, 0.0)):
            wrong = rng.permutation(count)[:most]
            if group == 3:
                answers[wrong, group] = columns[wrong] @ rng.standard_normal((needed, 3))
            answers[wrong, group] += size * rng.uniform(1, 2, (most, 3))
        answers *= 10.0 ** rng.integers(*((-15, 15) if dtype is np.float32 else (-250, 250)))
        given = answers.astype(dtype) * dtype(1 + 0.5j if dtype is np.complex128 else 1)
        expected = np.zeros((count, 7), dtype=bool)
        for group in range(7):
            expected[smallest_set(columns, answers[:, group], most), group] = True
        assert (expected.sum(axis=0) == [0, most, most, most, 0, 0, 0]).all()
        np.testing.assert_array_equal(exact_outliers(given, precision), expected)


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e150])
def test_the_misfit_is_that_of_least_squares_as_a_share_of_the_largest_answer(outputs, unit):
    rng = np.random.default_rng(outputs)
    answers, columns, precision = combined(rng, 9, 3, 4, outputs)
    answers += rng.standard_normal(answers.shape)
    found = contradictions._misfit(unit * answers, precision)
    for group in range(4):
        y = answers[:, group]
        off = y - columns @ np.linalg.lstsq(columns, y, rcond=None)[0]
        worst = np.sqrt((off**2).sum(axis=0).max() / 6)
        assert found[group] == pytest.approx(worst / np.abs(y).max())


@pytest.mark.parametrize(("count", "needed", "tried"), [(9, 3, 3), (10, 3, 3), (30, 20, 3), (30, 19, 3), (12, 11, 0)])  # fmt: skip
def test_of_the_sets_of_each_size_those_without_which_the_rest_fits_best_are_candidates(
    count, needed, tried
):
    """Or one in which the errors are largest, of sizes of which there are more than 20,000 sets."""
    rng = np.random.default_rng(count)
    answers, columns, precision = combined(rng, count, needed, 1, 2)
    y = answers[:, 0] + rng.standard_normal((count, 2))
    first = rng.random(count) < 0.2
    given = [*contradictions._candidates(y, precision, [first])]
    assert given.pop(0) is first
    most = (count - needed) // 2
    sizes = [int(one.sum()) for one in given]
    assert sizes == [*np.repeat(np.arange(1, tried + 1), 3), *range(tried + 1, most + 1)]
    order = np.argsort(-contradictions._sparse_errors(y, precision))
    for size in range(tried + 1, most + 1):
        assert {*np.flatnonzero(given[sizes.index(size)])} == {*order[:size]}
    for size in range(1, min(tried, 3 if count < 20 else 2) + 1):
        every = []
        for out in combinations(range(count), size):
            rest = np.delete(np.arange(count), out)
            fit = columns[rest] @ np.linalg.lstsq(columns[rest], y[rest], rcond=None)[0]
            every.append((((fit - y[rest]) ** 2).sum(), out))
        best = [out for _, out in sorted(every)[:3]]
        found = [tuple(np.flatnonzero(one)) for one in given if one.sum() == size]
        assert found == best


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e4])
def test_where_few_are_wrong_the_sizes_of_their_errors_are_found(unit):
    rng = np.random.default_rng(0)
    for _ in range(5):
        answers, _, precision = combined(rng, 30, 6, 1, 3)
        errors = np.zeros((30, 3))
        errors[rng.permutation(30)[:8]] = rng.uniform(1, 9, (8, 3)) * rng.choice([-1, 1], (8, 3))
        found = contradictions._sparse_errors(unit * (answers[:, 0] + errors), precision)
        size = np.linalg.norm(errors, axis=1)
        np.testing.assert_allclose(found, size / size.max(), atol=1e-6)


@pytest.mark.parametrize("groups", [1, 40])
@pytest.mark.parametrize("out", [[4], [0, 7]])
def test_wrong_answers_are_clearly_so_from_the_factor_on(out, groups):
    rng = np.random.default_rng(groups)
    model, wrong = line(14), np.isin(np.arange(14), out)
    y = rng.standard_normal((14, 2))
    rest = np.flatnonzero(~wrong)
    factor = rejection_factor(12 - len(out), model.standardised(0, y, rest), groups)
    value, _ = model.predicted(0, y, rest, out)
    y[out] = value + rng.standard_normal((len(out), 2))
    times = model.times(0, y, out)
    for ratio in (0.99, 1.01):
        far = y.copy()
        far[out] = value + (y[out] - value) * (ratio * factor / times)[:, None]
        assert contradictions._clearly_wrong(far, model.precision, wrong, 0.0, groups) == (
            ratio > 1
        )
        least = np.linalg.norm(far[out] - value, axis=1).min() / np.sqrt(2)
        for share in (0.99, 1.01):
            found = contradictions._clearly_wrong(
                far, model.precision, wrong, share * least, groups
            )
            assert found == (ratio > 1 > share)


@pytest.mark.parametrize(("count", "needed", "wrong"), [(24, 4, 10), (30, 6, 10), (40, 10, 12)])
def test_more_than_a_quarter_are_found_though_there_are_too_many_sets_to_try(count, needed, wrong):
    for seed in range(5):
        rng = np.random.default_rng([seed, count])
        answers, _, precision = combined(rng, count, needed, 1, 3)
        expected = np.isin(np.arange(count), rng.permutation(count)[:wrong])
        answers[expected] += rng.standard_normal((wrong, 1, 3))
        np.testing.assert_array_equal(exact_outliers(answers, precision)[:, 0], expected)


@pytest.mark.parametrize(("count", "needed", "wrong"), [(24, 4, 10), (40, 10, 15)])
def test_of_a_single_output_most_such_sets_are_found(count, needed, wrong):
    found = 0
    for seed in range(20):
        rng = np.random.default_rng([seed, count])
        answers, _, precision = combined(rng, count, needed, 1, 1)
        expected = np.isin(np.arange(count), rng.permutation(count)[:wrong])
        answers[expected] += rng.standard_normal((wrong, 1, 1))
        got = exact_outliers(answers, precision)
        assert got is None or (got[:, 0] == expected).all()
        found += got is not None
    assert found >= 16


def test_answers_may_be_off_by_the_slack_of_their_precision():
    rng = np.random.default_rng(0)
    answers, columns, _ = combined(rng, 9, 3, 2, 4)
    answers += 1e-5 * rng.standard_normal(answers.shape)
    precision = Precision.of_span(columns, slack=1e-3)
    assert exact_outliers(answers, precision) is None
    answers[4, 1] += 1.0
    expected = np.zeros((9, 2), dtype=bool)
    expected[4, 1] = True
    np.testing.assert_array_equal(exact_outliers(answers, precision), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64])
def test_what_may_be_rounding_contradicts_nothing(dtype):
    eps = float(np.finfo(dtype).eps)
    rng = np.random.default_rng(0)
    for size, found in ((10.0 * eps, False), (0.1 * eps**0.5, False), (100.0 * eps**0.5, True)):
        answers, _, precision = combined(rng, 12, 3, 2, 4)
        answers /= np.abs(answers).max()
        answers[5, 1] += size
        got = exact_outliers(answers.astype(dtype), precision)
        assert (got is not None) == found
        assert got is None or np.argwhere(got).tolist() == [[5, 1]]


def test_answers_that_are_all_0_fit(monkeypatch):
    def searched(*given):
        raise AssertionError

    monkeypatch.setattr("codedmap.detection.contradictions.find_outliers", searched)
    answers, _, precision = combined(np.random.default_rng(0), 12, 3, 4, 4)
    answers[:, [0, 2]] = 0.0
    assert exact_outliers(answers, precision) is None


def test_of_noisy_answers_none_is_rejected():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        answers, _, precision = combined(rng, 11, 3, 2, 1 + seed % 4)
        answers += 10.0 ** rng.uniform(-6, 0) * rng.standard_normal(answers.shape)
        assert exact_outliers(answers, precision) is None


@pytest.mark.parametrize(("needed", "each"), [(1, 2), (1, 4), (2, 4), (3, 5), (4, 6)])
def test_of_two_functions_that_as_many_answers_agree_with_neither_is_rejected(needed, each):
    for seed in range(5):
        rng = np.random.default_rng([seed, needed])
        answers, columns, precision = combined(rng, 2 * each, needed, 1, 3)
        answers[each:, 0] = columns[each:] @ rng.standard_normal((needed, 3))
        assert exact_outliers(answers, precision) is None
        # One more of the first decides, if enough are spare.
        columns = np.concatenate([rng.standard_normal((needed, needed)), columns])
        first = columns[needed : needed + each]
        kept = np.linalg.lstsq(first, answers[:each, 0], rcond=None)[0]
        more = np.concatenate([columns[:needed] @ kept, answers[:, 0]])[:, None]
        found = exact_outliers(more, Precision.of_span(columns))
        assert np.flatnonzero(found[:, 0]).tolist() == list(range(needed + each, needed + 2 * each))


def test_with_fewer_than_two_spare_answers_none_is_rejected():
    rng = np.random.default_rng(0)
    for spare in (0, 1):
        answers, _, precision = combined(rng, 5 + spare, 5, 2, 3)
        answers[2] += 10.0
        assert exact_outliers(answers, precision) is None


def test_correct_answers_are_off_by_rounding_or_the_slack_but_not_by_half_of_the_digits():
    columns = np.random.default_rng(0).standard_normal((9, 3))
    for dtype, rounding in (
        (np.float64, 4096 * 2.0**-52),
        (np.float32, 2.0**-11.5),
        (np.complex64, 2.0**-11.5),
    ):
        for slack in (0.0, 1e-14, 1e-2):
            precision = Precision.of_span(columns, slack=slack)
            found = contradictions._tolerance(np.ones((9, 1, 1), dtype), precision)
            assert found == pytest.approx(max(rounding, slack))


def test_sets_that_were_found_are_tried_first_in_other_groups(monkeypatch):
    rng, tried = np.random.default_rng(0), []
    candidates = contradictions._candidates

    def counted(y, precision, found):
        tried.append([np.flatnonzero(one).tolist() for one in found])
        return candidates(y, precision, found)

    monkeypatch.setattr(contradictions, "_candidates", counted)
    monkeypatch.setattr(contradictions, "find_outliers", lambda *_: None)
    answers, _, precision = combined(rng, 9, 3, 4, 3)
    for group, wrong in enumerate(([1, 2], [5], [1, 2], [7])):
        answers[wrong, group] += rng.standard_normal((len(wrong), 3))
    exact_outliers(answers, precision)
    assert tried == [[], [[1, 2]], [[5], [1, 2]], [[1, 2], [5], [1, 2]]]
