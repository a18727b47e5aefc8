"""The prior that answers speak for, compared with its definitions written down once more."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from codedmap.estimation import Prior
from codedmap.estimation.evidence import Evidence, chi2, quantile, residuals
from codedmap.estimation.process import inverse

KINDS = ("matern32", "matern52", "gaussian")


def places(groups=2, size=9, seed=0):
    return np.random.default_rng(seed).uniform(0, 3, (groups, size, 2))


def distances(x):
    return np.linalg.norm(x[:, :, None] - x[:, None], axis=3)


def covariance(x, prior):
    """Of one group, (F, F), by the formulas of Rasmussen and Williams (2006), chapter 4."""
    r = distances(x[None])[0] / prior.length
    alike = {
        "matern32": (1 + np.sqrt(3) * r) * np.exp(-np.sqrt(3) * r),
        "matern52": (1 + np.sqrt(5) * r + 5 * r**2 / 3) * np.exp(-np.sqrt(5) * r),
        "gaussian": np.exp(-(r**2) / 2),
    }
    return alike[prior.smoothness] + prior.noise * np.eye(len(x))


def drawn(x, prior, outputs, seed=1):
    """Answers of a process with this prior about a constant, (B, F, outputs)."""
    rng = np.random.default_rng(seed)
    roots = (np.linalg.cholesky(covariance(group, prior)) for group in x)
    return np.stack([7.0 + root @ rng.standard_normal((len(root), outputs)) for root in roots])


def some_used(groups=2, size=9):
    used = np.ones((groups, size), dtype=bool)
    used[0, 2] = used[1, [0, 5, 6]] = False
    return used


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_restricted_likelihoods(kind):
    x, used = places(), some_used()
    y = np.where(used[:, :, None], drawn(x, Prior(1.0, 1e-2, kind), 3), 0.0)
    priors = [Prior(0.5, 1e-2, kind), Prior(1.5, 1e-2, kind), Prior(1.5, 1e-3, kind)]
    expected = np.zeros(3)
    for group in range(2):
        here, one = y[group][used[group]], np.ones(used[group].sum())
        for k, prior in enumerate(priors):
            C = covariance(x[group][used[group]], prior)
            total = one @ np.linalg.solve(C, one)
            left = here - one[:, None] * (one @ np.linalg.solve(C, here)) / total
            power = (left * np.linalg.solve(C, left)).sum()
            expected[k] += (len(one) - 1) * np.log(power) + np.linalg.slogdet(C)[1] + np.log(total)
    scores = Evidence(distances(x), y, 3, 1.0).scores(priors, used)
    np.testing.assert_allclose(np.diff(scores), np.diff(expected), rtol=1e-6)


def test_groups_of_two_answers_or_of_equal_ones_say_nothing():
    x, used = places(3), np.ones((3, 9), dtype=bool)
    used[1, 2:] = False
    y = drawn(x, Prior(1.0, 1e-2), 2)
    y[2] = 4.0
    y[~used] = 0.0
    priors = [Prior(0.5, 1e-2), Prior(1.5, 1e-2)]
    scores = Evidence(distances(x), y, 2, 1.0).scores(priors, used)
    alone = Evidence(distances(x[:1]), y[:1], 2, 1.0).scores(priors, used[:1])
    np.testing.assert_allclose(np.diff(scores), np.diff(alone), rtol=1e-6)


@pytest.mark.parametrize("length", [0.4, 1.0, 4.0])
@pytest.mark.parametrize("unit", [0.01, 1.0])
def test_the_likeliest_prior_has_the_length_that_the_answers_were_drawn_with(length, unit):
    x = places(6, 30) * unit
    y = drawn(x, Prior(length * unit, 1e-4), 8)
    found = Evidence(distances(x), y, 8, unit).likeliest(np.ones((6, 30), dtype=bool))
    assert 0.6 < found.length / (length * unit) < 1.7
    assert found.noise <= 1e-2


def test_noise_is_not_taken_for_a_rough_function():
    x = places(6, 30)
    y = drawn(x, Prior(1.0, 1e-1), 8)
    found = Evidence(distances(x), y, 8, 1.0).likeliest(np.ones((6, 30), dtype=bool))
    assert 1e-2 <= found.noise <= 1e-1
    assert found.length > 0.5


def test_a_wary_prior_is_that_of_the_three_quarters_that_fit_together():
    x, used = places(6, 30), np.ones((6, 30), dtype=bool)
    y = drawn(x, Prior(1.2, 1e-5), 4)
    honest = Evidence(distances(x), y, 4, 1.0)
    likely = honest.likeliest(used)
    assert honest.wary(used, likely) == likely
    y[:, ::15] += 3 * np.random.default_rng(3).standard_normal((6, 2, 4))
    misled = Evidence(distances(x), y, 4, 1.0)
    assert misled.likeliest(used).length > 10
    assert misled.wary(used, misled.likeliest(used)) == Prior(1.2, 1e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_residuals_are_those_of_predictions_without_the_answer(kind):
    x, used, prior = places(), some_used(), Prior(1.0, 1e-2, kind)
    y = np.where(used[:, :, None], drawn(x, prior, 3), 0.0)
    C = np.stack([covariance(group, prior) for group in x])
    projected = inverse(C.copy(), used)[0]
    squares, precision = residuals(projected, projected @ y, used, 3)
    for group in range(2):
        for i in np.flatnonzero(used[group]):
            rest = [j for j in np.flatnonzero(used[group]) if j != i]
            inner, one, k = C[group][np.ix_(rest, rest)], np.ones(len(rest)), C[group, i, rest]
            weights, ones = np.linalg.solve(inner, k), np.linalg.solve(inner, one)
            mean = ones @ y[group, rest] / ones.sum()
            predicted = mean + weights @ (y[group, rest] - mean)
            variance = C[group, i, i] - weights @ k + (1 - ones @ k) ** 2 / ones.sum()
            off = ((y[group, i] - predicted) ** 2).mean() / variance
            assert squares[group, i] == pytest.approx(off, rel=1e-6)
            assert precision[group, i] == pytest.approx(1 / variance, rel=1e-6)
    assert (squares[~used] == 0).all()


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9, 1.0])
def test_quantiles_are_of_what_is_used(share):
    squares, used = np.random.default_rng(0).uniform(1, 2, (3, 7)), np.ones((3, 7), dtype=bool)
    used[1, [1, 4]] = used[2] = False
    found = quantile(squares, used, share)
    expected = [np.quantile(squares[group][used[group]], share) for group in (0, 1)]
    np.testing.assert_allclose(found, [*expected, 0.0])


def test_quantiles_of_one_output_are_chi_squared_and_of_several_between_that_and_of_as_many():
    for share in (0.5, 0.9):
        exact = [stats.chi2(count).ppf(share) / count for count in (1, 10)]
        assert chi2(share, 1) == pytest.approx(exact[0], rel=0.05)
        assert min(exact) < chi2(share, 10) < max(exact)
        assert chi2(share, 2) == chi2(share, 10)
