"""Outliers, against predictions that are solved for anew for every answer and every set that is left out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

import codedmap as cm
from codedmap.coding.precision import Precision, curve_precision
from codedmap.detection import outliers
from codedmap.detection.outliers import (
    find_outliers,
    rejection_factor,
    relative_distances,
    stepwise_outliers,
)

from ..repeats import crossed, first

SMOOTHINGS = (0.0, 1.0, 30.0, 1e3, 1e5)


@dataclass
class Model:
    """Answers are combinations of some columns (n, r), and deviations with one of some covariances (n, n)."""

    columns: np.ndarray
    covariances: list[np.ndarray]
    precision: Precision

    def predicted(self, which: int, y: np.ndarray, rows: np.ndarray, at: list[int]):
        """Answers (k, q) expected at some places by those of some rows, and the covariance of the errors."""
        near, cross = self.covariances[which][np.ix_(rows, rows)], np.ix_(rows, at)
        corner = np.zeros(2 * self.columns.shape[1:])
        system = np.block([[near, self.columns[rows]], [self.columns[rows].T, corner]])
        right = np.concatenate([self.covariances[which][cross], self.columns[at].T])
        weights = np.linalg.solve(system, right)[: len(rows)]
        shared = weights.T @ self.covariances[which][cross]
        errors = self.covariances[which][np.ix_(at, at)] - shared - shared.T
        return weights.T @ y[rows], errors + weights.T @ near @ weights

    def standardised(self, which: int, y: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """What each of some answers is off from a prediction by the others, over its deviation, (len(rows), q)."""
        found = []
        for row in rows.tolist():
            value, variance = self.predicted(which, y, rows[rows != row], [row])
            found.append((y[row] - value[0]) / np.sqrt(variance[0, 0]))
        return np.array(found)

    def times(self, which: int, y: np.ndarray, out: list[int]) -> np.ndarray:
        """How far some answers are off, over the largest residual of the rest, (len(out),)."""
        rest = np.setdiff1d(np.arange(len(y)), out)
        value, errors = self.predicted(which, y, rest, out)
        size = np.linalg.norm(y[out] - value, axis=1) / np.sqrt(np.diag(errors))
        return size / np.linalg.norm(self.standardised(which, y, rest), axis=1).max()

    def likeliest(self, y: np.ndarray, rows: np.ndarray, most: int) -> int:
        """By restricted likelihood: that of combinations which no column changes. Scales are free."""
        full = np.linalg.qr(self.columns[rows], mode="complete")[0]
        contrasts = full[:, self.columns.shape[1] :]
        found = []
        for covariance in self.covariances[: most + 1]:
            inner = contrasts.T @ covariance[np.ix_(rows, rows)] @ contrasts
            seen = contrasts.T @ y[rows]
            energy = (seen * np.linalg.solve(inner, seen)).sum() / y.shape[1]
            found.append(-np.linalg.slogdet(inner)[1] - len(inner) * np.log(energy))
        return int(np.argmax(found))

    def outliers(self, y: np.ndarray, groups: int, far: float) -> np.ndarray:
        """What the module promises: the furthest set aside one by one, and the largest set that is far from the rest."""
        count, freedom = self.columns.shape[0], self.columns.shape[0] - self.columns.shape[1]
        rows, which, aside, stages = np.arange(count), len(self.covariances) - 1, [], []
        while True:
            which = self.likeliest(y, rows, which)
            sizes = self.standardised(which, y, rows)
            if aside:
                value, errors = self.predicted(which, y, rows, aside[-1:])
                last = np.linalg.norm(y[aside[-1:]] - value) / np.sqrt(errors[0, 0])
                factor = rejection_factor(freedom - len(aside), sizes, groups)
                if last > factor * np.linalg.norm(sizes, axis=1).max():
                    stages.append((list(aside), which, factor))
            sizes = np.linalg.norm(sizes, axis=1)
            middle = np.sort(sizes)[(count + len(aside)) // 2 - len(aside)]
            if len(aside) == min(count // 4, freedom // 2) or sizes.max() <= far * middle:
                break
            aside.append(int(rows[sizes.argmax()]))
            rows = rows[rows != aside[-1]]
        for tested, which, factor in reversed(stages):
            times = self.times(which, y, tested)
            out = [row for row, far in zip(tested, times, strict=True) if far > factor]
            if out and (self.times(which, y, out) > factor).all():
                return np.isin(np.arange(count), out)
        return np.zeros(count, dtype=bool)


def line(n: int, degree: int = 1) -> Model:
    """Answers on a polynomial, with independent deviations."""
    columns = np.linspace(-1, 1, n)[:, None] ** np.arange(degree + 1)
    hat = columns @ np.linalg.pinv(columns)
    return Model(columns, [np.eye(n)], Precision.of(np.eye(n) - hat))


def curve(rng: np.random.Generator, n: int) -> Model:
    """Answers on a cubic spline, with noise or without: its covariance is |s - t|³ / 12 up to lines (Wahba 1990)."""
    at = np.cumsum(rng.uniform(0.5, 1.5, n))
    bends = np.abs(at[:, None] - at) ** 3 / 12.0
    covariances = [bends + λ * np.eye(n) for λ in SMOOTHINGS]
    return Model(np.stack([np.ones(n), at], axis=1), covariances, curve_precision(at))


def single(model: Model, rng: np.random.Generator, outputs: int, at: int, groups: int, ratio: float):  # fmt: skip
    """Noise, but for one answer that exceeds what is rejected by a ratio."""
    y = rng.standard_normal((len(model.columns), outputs))
    rest = np.flatnonzero(np.arange(len(y)) != at)
    found = model.standardised(0, y, rest)
    factor = rejection_factor(len(rest) - model.columns.shape[1], found, groups)
    value, errors = model.predicted(0, y, rest, [at])
    aside = rng.standard_normal(outputs)
    size = ratio * factor * np.linalg.norm(found, axis=1).max() * np.sqrt(errors[0, 0])
    y[at] = value[0] + size * aside / np.linalg.norm(aside)
    return y


# ---- a set of answers, and whether it is far from the rest


@pytest.mark.parametrize("out", [[4], [0, 1], [2, 7, 11]])
def test_distances_are_those_from_predictions_by_the_rest(out):
    rng = np.random.default_rng(0)
    for model in (line(12), curve(rng, 12)):
        y = rng.standard_normal((12, 3))
        y[out] += 5.0 * rng.standard_normal((len(out), 3))
        mask = np.isin(np.arange(12), out)
        for which, matrix in enumerate(model.precision.matrices):
            expected = model.times(which, y, out)
            np.testing.assert_allclose(relative_distances(y, matrix, mask, 0.0), expected, rtol=1e-6)  # fmt: skip
            rest = np.flatnonzero(~mask)
            off = np.linalg.norm(y[out] - model.predicted(which, y, rest, out)[0], axis=1) / 3**0.5
            for least in (0.999 * off.min(), 1.001 * off.min()):
                found = relative_distances(y, matrix, mask, least)
                np.testing.assert_allclose(found, np.where(off > least, expected, 0.0), rtol=1e-6)


def test_an_answer_that_the_others_do_not_determine_has_no_say():
    alone = line(10)
    columns = np.zeros((11, 3))
    columns[:10, :2], columns[10, 2] = alone.columns, 1.0
    matrix = np.eye(11) - columns @ np.linalg.pinv(columns)
    y = np.random.default_rng(0).standard_normal((11, 2))
    y[3] += 100.0
    y[10] = 1e3
    out = np.arange(11) == 3
    expected = alone.times(0, y[:10], [3])
    np.testing.assert_allclose(relative_distances(y, matrix, out, 0.0), expected, rtol=1e-9)
    assert np.flatnonzero(stepwise_outliers(y, Precision.of(matrix))).tolist() == [3]


def test_the_factor_is_5_for_many_outputs_and_10_for_one_and_grows_where_chance_may():
    rng = np.random.default_rng(0)
    one = rng.standard_normal((1000, 1))
    assert rejection_factor(10**6, one, 1) == pytest.approx(10.0, rel=1e-3)
    many = 1e-9 * rng.standard_normal((1000, 64))
    assert rejection_factor(10**6, many, 1) == pytest.approx(4.75, rel=1e-3)
    assert rejection_factor(10**6, rng.standard_normal((1000, 2)), 1) == pytest.approx(
        7.0, rel=1e-2
    )
    # Outputs that vary together are one; what they are measured in, and zeros, change nothing.
    for same in (one * np.arange(1.0, 8.0), 1e-9 * one, np.zeros((1000, 3))):
        assert rejection_factor(20, same, 1) == pytest.approx(rejection_factor(20, one, 1))
    assert rejection_factor(20, one, 1) == pytest.approx(10.0 * 1e4 ** (1 / 20))
    assert rejection_factor(4, one, 1) == pytest.approx(10.0 * 1e4 ** (1 / 4))
    assert rejection_factor(20, one, 32) == pytest.approx(2.0 * rejection_factor(20, one, 1))


# ---- the search


@pytest.mark.parametrize("seeds", first(1, [15, 40]))
@pytest.mark.parametrize(("n", "outputs"), crossed([16, 9, 25], [1, 3]))
def test_what_is_found_is_what_refitting_finds(n, outputs, seeds):
    found = 0
    for seed in range(seeds):
        rng = np.random.default_rng([seed, n, outputs])
        model = (line(n, 1 + seed % 2), curve(rng, n), curve(rng, n))[seed % 3]
        y = np.sin(np.arange(n)[:, None] * rng.uniform(0, 0.5, outputs))
        y += 10.0 ** rng.uniform(-6, 0) * rng.standard_normal((n, outputs))
        # Neighbours or not, all alike or not.
        count = rng.integers(0, n // 4 + 2)
        wrong = (rng.permutation(n) if rng.integers(2) else np.arange(n) + rng.integers(n - count))[:count]  # fmt: skip
        sizes = 10.0 ** rng.uniform(-1, 1, (count, 1)) * rng.standard_normal((count, outputs))
        y[wrong] += 10.0 ** rng.uniform(0, 3) * (sizes if rng.integers(2) else 1.0)
        groups, far = int(rng.integers(1, 9)), float(rng.choice([2.0, 4.0]))
        expected = model.outliers(y, groups, far)
        # Neither the unit of the answers nor that of their precision matters.
        for unit, scale in ((1.0, 1.0), (1e-7, 1.0), (1.0, 1e-9), (1.0, 1e9)):
            precision = replace(model.precision, matrices=scale * model.precision.matrices)
            got = stepwise_outliers(unit * y, precision, groups=groups, far=far)
            assert got.tolist() == expected.tolist()
        found += expected.any()
    assert 0 < found < seeds


@pytest.mark.parametrize("groups", [1, 2, 40])
@pytest.mark.parametrize("outputs", [1, 4])
@pytest.mark.parametrize("n", [12, 40])
def test_an_answer_is_an_outlier_from_the_factor_on(n, outputs, groups):
    rng = np.random.default_rng([n, outputs, groups])
    for at in (0, n // 2, n - 1):
        for ratio in (0.99, 1.01):
            y = single(line(n), rng, outputs, at, groups, ratio)
            expected = (np.arange(n) == at) & (ratio > 1.0)
            precision = line(n).precision
            got = stepwise_outliers(y, precision, **({"groups": groups} if groups > 1 else {}))
            assert got.tolist() == expected.tolist()
            answers = rng.standard_normal((n, groups, outputs))
            answers[:, -1] = y
            got = find_outliers(answers, precision)
            found = np.zeros((n, groups), dtype=bool) if got is None else got
            assert found[:, -1].tolist() == expected.tolist()
            assert not found[:, :-1].any()


def test_two_that_agree_at_an_end_are_rejected_and_no_neighbour_that_they_make_look_worse():
    rng = np.random.default_rng(0)
    for _ in range(20):
        precision = curve(rng, 20).precision
        y = rng.standard_normal((20, 8))
        y[:2] += 1e3
        assert np.flatnonzero(stepwise_outliers(y, precision)).tolist() == [0, 1]


def test_an_outlier_is_found_beside_answers_that_are_all_off_alike():
    # The median is then as large as the largest, and an outlier only a few times larger.
    n, outputs = 60, 4
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (n, 1, outputs))
    precision = Precision.of(np.eye(n) - 1.0 / n)
    for groups in (1, 3):
        answers = np.repeat(signs, groups, axis=1)
        answers[7, 0] *= 9.0
        expected = np.zeros((n, groups), dtype=bool)
        expected[7, 0] = True
        np.testing.assert_array_equal(find_outliers(answers, precision), expected)


@pytest.mark.parametrize(("together", "alone", "most"), [(40, 0, 10), (43, 0, 10), (5, 11, 2), (3, 6, 1), (3, 0, 1), (2, 0, 0), (2, 5, 0), (1, 4, 0), (240, 0, 50)])  # fmt: skip
def test_a_quarter_of_the_answers_is_found_if_two_others_remain_for_each(together, alone, most):
    """Answers with one common value, and others with a value of their own, which say nothing of them."""
    n = together + alone
    columns = np.eye(n)[:, together - 1 :]
    columns[:together, 0] = 1.0
    exact = Precision.of_span(columns)
    rng = np.random.default_rng(n)
    right = rng.standard_normal((n, 8))
    right[:together] = 7.0 + 1e-6 * rng.standard_normal((together, 8))
    wrong = rng.permutation(together)[: most + 1]
    # Three answers with one value are always within twice their median.
    for precision in (exact, replace(exact, exact=n == 3)):
        y = right.copy()
        y[wrong[:most]] += 1e3 * rng.standard_normal((most, 8))
        found = np.flatnonzero(stepwise_outliers(y, precision))
        assert found.tolist() == sorted(wrong[:most].tolist())
        if precision.exact:
            found = find_outliers(y[:, None], precision)
            assert ([] if found is None else np.flatnonzero(found).tolist()) == sorted(
                wrong[:most].tolist()
            )
        y[wrong[most:]] += 1e3 * rng.standard_normal(8)
        assert not stepwise_outliers(y, precision).any()


@pytest.mark.parametrize("zeros", [0, 1, 4])
@pytest.mark.parametrize("count", [7, 8])
def test_what_was_set_aside_does_not_count_for_the_median(count, zeros):
    values = np.random.default_rng(0).uniform(1, 2, (count, 3))
    values[1 : 1 + zeros] = 0.0
    rest = np.sort(np.delete(values, slice(1, 1 + zeros), axis=0), axis=0)
    np.testing.assert_array_equal(outliers._median(values, zeros), rest[len(rest) // 2])


def test_where_no_residual_stands_out_the_search_is_over(monkeypatch):
    looked, chosen = [], outliers._chosen
    monkeypatch.setattr(outliers, "_chosen", lambda *given: looked.append(given) or chosen(*given))
    answers, precision = noisy_curves(np.random.default_rng(0), 40, 1, 3)
    assert not stepwise_outliers(answers[:, 0], precision, far=4.0).any()
    assert len(looked) == 1
    answers[7] += 1.0
    assert stepwise_outliers(answers[:, 0], precision, far=4.0).sum() == 1
    assert len(looked) == 3


@pytest.mark.parametrize("unit", [1e-200, 1.0, 1e200])
def test_answers_are_no_more_precise_than_their_payloads_and_in_their_range(unit):
    answers = np.random.default_rng(0).standard_normal((5, 2, 3))
    answers /= np.abs(answers).max()
    for factor, coarse in ((1.0, np.float32), (1.0j, np.complex64)):
        found = outliers.coarsened(factor * unit * answers, np.dtype(np.float32))
        assert found.dtype == coarse
        np.testing.assert_allclose(found, factor * answers, atol=1e-7)
        same = (factor * answers).astype(coarse)
        assert outliers.coarsened(same, np.dtype(np.float64)) is same
        assert outliers.coarsened(same, np.dtype(np.complex64)) is same
    assert not outliers.coarsened(0.0 * answers, np.dtype(np.float32)).any()


# ---- many groups


@pytest.mark.parametrize("groups", [1, 9, 700])
def test_only_groups_in_which_a_residual_stands_out_are_looked_at(groups):
    """One of four times the median; or, in the sum of all groups in their medians, one of twice the median."""
    rng = np.random.default_rng(groups)
    model, hints = line(25), set()
    for factor in (1.0, 1.5, 2.0, 2.5, 4.0, 6.0, 8.0):
        answers = rng.standard_normal((25, groups, 3)) * 10.0 ** rng.uniform(-2, 2, (groups, 1))
        answers[rng.integers(25)] *= factor
        found, everywhere = outliers._suspect_groups(answers, model.precision)
        each = model.standardised(0, answers.reshape(25, -1), np.arange(25))
        squares = (each.reshape(answers.shape) ** 2).sum(axis=2)
        medians = np.median(squares, axis=0)
        np.testing.assert_array_equal(found, squares.max(axis=0) >= 16.0 * medians)
        sums = (squares / medians).sum(axis=1)
        assert everywhere == (sums.max() >= 4.0 * np.median(sums))
        hints |= {everywhere, *found.tolist()}
    assert hints == {False, True}


def noisy_curves(rng: np.random.Generator, n: int, groups: int, outputs: int, noise: float = 1e-2):
    """Answers along smooth curves with noise, (n, groups, outputs), and their precision."""
    at = np.linspace(0, 4, n)[:, None, None]
    turn, phase = rng.uniform(0.5, 2, (groups, outputs)), rng.uniform(0, 6, (groups, outputs))
    noisy = np.sin(turn * at + phase) + noise * rng.standard_normal((n, groups, outputs))
    return noisy, curve_precision(np.arange(float(n)))


DTYPES = [np.float16, np.float32, np.float64, np.complex64, np.complex128]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "groups", "outputs"), [(60, 300, 3), (40, 5, 100), (24, 2, 6)])
def test_a_wrong_answer_is_found_in_its_group_whatever_unit_and_dtype(n, groups, outputs, dtype):  # fmt: skip
    rng = np.random.default_rng(0)
    answers, precision = noisy_curves(rng, n, groups, outputs)
    expected = np.zeros((n, groups), dtype=bool)
    for group in {0, groups // 2, groups - 1}:
        expected[rng.permutation(n)[:2], group] = True
    signs = rng.choice([-1.0, 1.0], (expected.sum(), outputs))
    answers[expected] += signs * rng.uniform(10, 30, signs.shape)
    # float16 ends at 65,504.
    answers = answers * 2.0 ** (rng.integers(-4, 4, groups) if dtype == np.float16 else rng.integers(-40, 40, groups))[:, None]  # fmt: skip
    answers = answers.astype(dtype) * dtype(1 + 0.3j if dtype().dtype.kind == "c" else 1)
    np.testing.assert_array_equal(find_outliers(answers, precision), expected)
    right = np.where(expected[..., None], 0, answers)
    assert find_outliers(right[:, ~expected.any(axis=0)], precision) is None or groups < 3


def test_groups_are_looked_at_some_at_a_time(monkeypatch):
    seen, squares = [], outliers._squares
    monkeypatch.setattr(outliers, "_squares", lambda sketch, precision: seen.append(sketch.shape[1]) or squares(sketch, precision))  # fmt: skip
    answers = np.random.default_rng(0).standard_normal((25, 1400, 1))
    outliers._suspect_groups(answers, line(25).precision)
    assert seen == [656, 656, 88]  # 16,384 answers


def test_a_group_whose_answers_are_all_0_tells_nothing_of_others():
    answers = np.random.default_rng(0).standard_normal((25, 20, 3))
    answers[:, 4] = 0.0
    found, everywhere = outliers._suspect_groups(answers, line(25).precision)
    assert not found[4]
    assert not everywhere


@pytest.mark.parametrize("unit", [1e-20, 1.0, 1e20])
def test_groups_in_which_a_residual_may_be_rounding_are_not_looked_at(unit):
    rng = np.random.default_rng(0)
    for factor in (0.9, 1.1):
        lines = 1.0 + np.linspace(-1, 1, 25)[:, None, None] * rng.uniform(0, 1, (4, 1))
        least = np.abs(lines[:, 2]).max() * np.finfo(np.float32).eps ** 0.5
        lines[7, 2] += factor * least
        answers = (unit * lines).astype(np.float32)
        found, _ = outliers._suspect_groups(answers, line(25).precision)
        assert found[2] == (factor > 1.0)
        assert not np.delete(found, 2).any()


@pytest.mark.parametrize("groups", [7, 66, 150])
def test_a_worker_off_by_little_is_found_by_all_groups_together_if_in_more_than_half(groups):
    rng = np.random.default_rng(groups)
    n, precision = 40, curve_precision(np.arange(40.0))
    # Each group counts alike, whatever its noise and its unit.
    unit, noise = 10.0 ** rng.uniform(-6, 6, (groups, 1)), 10.0 ** rng.uniform(-3, -1, (groups, 1))
    lines = np.linspace(0, 1, n)[:, None, None] * rng.standard_normal((groups, 2)) + 1.0
    answers = unit * (lines + noise * rng.standard_normal(lines.shape))
    off = 15.0 * unit * noise * rng.choice([-1.0, 1.0], (groups, 2))
    for share, found in ((0.3, False), (0.7, True), (1.0, True)):
        wrong = answers.copy()
        where = rng.permutation(groups)[: round(share * groups)]
        wrong[17, where] += off[where]
        got = find_outliers(wrong, precision)
        assert (got is not None) == found
        if found:
            assert got[17].all()
            assert not np.delete(got, 17, axis=0).any()
    # A gross answer of another worker is looked for among those left.
    wrong[25, groups - 1] += 1e3 * off[groups - 1]
    got = find_outliers(wrong, precision)
    assert got[17].all()
    assert np.argwhere(np.delete(got, 17, axis=0)).tolist() == [[24, groups - 1]]


def test_one_gross_answer_at_an_end_does_not_condemn_its_worker_in_all_groups():
    rng = np.random.default_rng(0)
    for groups, end in ((2, 0), (50, 0), (50, -1)):
        answers, precision = noisy_curves(rng, 60, groups, 3, 1e-6)
        answers[end, 0] += 20.0
        expected = np.zeros((60, groups), dtype=bool)
        expected[end, 0] = True
        np.testing.assert_array_equal(find_outliers(answers, precision), expected)


@pytest.mark.parametrize("groups", [2, 20])
def test_answers_that_hide_each_other_in_a_group_are_found_by_all_groups_together(groups):
    wrong = [2, 7, 12, 17, 21]
    answers, precision = noisy_curves(np.random.default_rng(0), 24, groups, 3)
    answers[wrong] += 3.0
    for group in range(groups):
        assert find_outliers(answers[:, [group]], precision) is None
    found = find_outliers(answers, precision)
    np.testing.assert_array_equal(found, np.isin(np.arange(24), wrong)[:, None].repeat(groups, 1))


@pytest.mark.parametrize("noise", [1e-6, 0.03, 0.3, 3.0])
def test_a_worker_is_judged_in_each_group_by_the_curve_likeliest_without_it(noise, monkeypatch):
    rng, n, judged_by = np.random.default_rng(0), 24, []
    at = np.arange(float(n))
    bends = np.abs(at[:, None] - at) ** 3 / 12.0
    covariances = [bends + λ * np.eye(n) for λ in SMOOTHINGS]
    model = Model(np.stack([np.ones(n), at], axis=1), covariances, curve_precision(at))
    distances = outliers.relative_distances

    def counted(y, matrix, *given):
        judged_by.append(matrix)
        return distances(y, matrix, *given)

    monkeypatch.setattr(outliers, "relative_distances", counted)
    answers, _ = noisy_curves(rng, n, 30, 3, noise)
    answers[5] += 30.0 * (1.0 + noise)
    assert np.flatnonzero(outliers._in_most_groups(answers, model.precision)).tolist() == [5]
    rest = np.delete(np.arange(n), 5)
    which = model.likeliest(answers.reshape(n, -1), rest, 4)
    for matrix in judged_by[-30:]:
        np.testing.assert_array_equal(matrix, model.precision.matrices[which])


@pytest.mark.parametrize("wrong", [[3, 6], [0, 5], [4, 5]])
def test_two_gross_answers_are_found_among_ten_to_many_groups(wrong):
    answers, precision = noisy_curves(np.random.default_rng(0), 10, 20, 10, 0.3)
    answers[wrong] += 1e3
    found = find_outliers(answers, precision)
    np.testing.assert_array_equal(found, np.isin(np.arange(10), wrong)[:, None].repeat(20, 1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
@pytest.mark.parametrize("groups", [1, 20])
def test_what_may_be_rounding_is_no_outlier(dtype, groups):
    eps = np.finfo(dtype).eps
    rng = np.random.default_rng(0)
    for unit in (1e-9, 1.0, 1e9):
        lines = unit * (1.0 + np.linspace(0, 1, 40)[:, None, None] * rng.uniform(0, 1, (groups, 3)))
        lines *= 1.0 + eps * rng.standard_normal(lines.shape)
        answers = lines.astype(dtype)
        for size, found in ((0.2 * eps**0.5, False), (100.0 * eps**0.5, True)):
            wrong = answers.copy()
            wrong[11] += dtype(size * unit)
            for precision in (curve_precision(np.arange(40.0)), line(40).precision):
                got = find_outliers(wrong, precision)
                assert (got is not None) == found
                if found:
                    assert got[11].all()
                    assert got.sum() == groups


def test_of_many_answers_each_is_compared_with_its_neighbours():
    rng = np.random.default_rng(0)
    answers, _ = noisy_curves(rng, 700, 3, 4)
    code, slots = cm.SplineCode(4, 700, 0), tuple(range(700))
    wrong = np.arange(5, 700, 30)
    expected = np.zeros((700, 3), dtype=bool)
    expected[wrong, rng.integers(0, 3, len(wrong))] = True
    answers[expected] += 5.0
    np.testing.assert_array_equal(code.outliers(slots, answers), expected)
    answers[expected] -= 5.0
    assert code.outliers(slots, answers) is None


def test_answers_without_outputs_have_no_outliers():
    for groups in (1, 3):
        assert find_outliers(np.zeros((8, groups, 0)), line(8).precision) is None
