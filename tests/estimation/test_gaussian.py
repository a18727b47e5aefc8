"""One process over many points: its formulas against others that are slower, its kernel against what is known."""

from __future__ import annotations

import numpy as np
import pytest
import scipy
from scipy.linalg import null_space
from scipy.stats import multivariate_normal

from codedmap.estimation.gaussian import Deviance, Fitted, Kernel, _factors, likeliest
from codedmap.estimation.nearest import Nearest, nearest, weighted

KINDS = ["matern52", "gaussian"]


def drawn(rows: int = 40, dimensions: int = 3, outputs: int = 2, seed: int = 0):
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((rows, dimensions))
    answers = np.sin(2 * points[:, :1]) + points @ rng.standard_normal((dimensions, outputs))
    return points, answers + 0.1 * rng.standard_normal(answers.shape)


def dense(kernel: Kernel, points: np.ndarray, answers: np.ndarray, wanted: np.ndarray):
    """Means, variances and s² as in Rasmussen and Williams (2006), equations 2.41 and 2.42."""

    def correlations(one, other):
        away = np.sqrt((((one[:, None] - other) * kernel.scales) ** 2).sum(axis=2))
        if kernel.smoothness == "gaussian":
            return np.exp(-(away**2) / 2)
        return (1 + np.sqrt(5) * away + 5 * away**2 / 3) * np.exp(-np.sqrt(5) * away)

    def basis(rows):
        return (
            np.hstack([np.ones((len(rows), 1)), rows]) if kernel.linear else np.ones((len(rows), 1))
        )

    inverse = np.linalg.inv(correlations(points, points) + kernel.noise * np.eye(len(points)))
    plane, there = basis(points), basis(wanted)
    inner = np.linalg.inv(plane.T @ inverse @ plane)
    slopes = inner @ plane.T @ inverse @ answers
    rest = answers - plane @ slopes
    cross = correlations(wanted, points)
    short = there - cross @ inverse @ plane
    variance = 1 + kernel.noise - np.einsum("mn,nk,mk->m", cross, inverse, cross)
    variance += np.einsum("mp,pq,mq->m", short, inner, short)
    scale = np.einsum("nq,nk,kq->q", rest, inverse, rest) / (len(points) - plane.shape[1])
    return there @ slopes + cross @ inverse @ rest, variance, scale


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("smoothness", KINDS)
@pytest.mark.parametrize("rows", [40, 150])
def test_the_gradient_is_that_of_the_deviance(smoothness, linear, rows):
    points, answers = drawn(rows)
    deviance = Deviance(points, answers, smoothness, linear)
    place = np.log([0.7, 0.2, 1.5, 1e-3])
    _, gradient = deviance(place)
    for k in range(4):
        step = np.zeros(4)
        step[k] = 1e-5
        up, down = (deviance(place + s)[0] for s in (step, -step))
        assert gradient[k] == pytest.approx((up - down) / 2e-5, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("smoothness", KINDS)
def test_the_deviance_is_that_of_contrasts_of_the_answers_and_of_the_scales(smoothness, linear):
    """Contrasts do not know the plane; each output has the variance under which it is likeliest."""
    points, answers = drawn()
    plane = np.hstack([np.ones((40, 1)), points]) if linear else np.ones((40, 1))
    contrasts = null_space(plane.T).T @ answers

    def expected(place):
        kernel = Kernel(np.exp(place[:3]), np.exp(place[3]), smoothness, linear)
        covariance = kernel.correlations(points) + kernel.noise * np.eye(40)
        inner = null_space(plane.T).T @ covariance @ null_space(plane.T)
        size, found = len(inner), 0.0
        for one in contrasts.T:
            variance = one @ np.linalg.solve(inner, one) / size
            found -= 2 * multivariate_normal(np.zeros(size), variance * inner).logpdf(one)
        wide = np.where(place[:3] > 0, 2.0, 4.0)  # long ones are likelier than short ones
        return found + 2 * (place[:3] ** 2 / wide**2).sum()

    places = np.log([[0.7, 0.2, 1.5, 1e-2], [3.0, 0.5, 0.4, 1e-1], [1.0, 1.0, 1.0, 1e-3]])
    deviance = Deviance(points, answers, smoothness, linear)
    found = [deviance(place)[0] for place in places]
    np.testing.assert_allclose(np.diff(found), np.diff([expected(p) for p in places]), rtol=1e-8)
    singular = Deviance(np.zeros((3, 1)), np.ones((3, 1)), "gaussian", linear)
    assert singular(np.array([0.0, -100.0]))[0] == 1e10


@pytest.mark.parametrize(("inputs", "wide"), [(20, 4.0), (120, 8.0)])
def test_that_many_scales_are_long_costs_no_more_than_that_thirty_are(inputs, wide):
    points = np.zeros((40, inputs))
    points[:, 0] = np.linspace(-1, 1, 40)  # the scales of the others change no covariance
    deviance = Deviance(points, points[:, :1] ** 2, "matern52", False)
    place = np.zeros(inputs + 1)
    place[-1] = -5.0
    before = deviance(place)[0]
    place[1:-1] = -3.0
    assert deviance(place)[0] - before == pytest.approx((inputs - 1) * (3.0 / wide) ** 2)


@pytest.mark.parametrize("tied", [False, True])
def test_no_kernel_nearby_is_likelier(tied):
    points, answers = drawn(rows=12 if tied else 60)  # of few the usual length scale counts too
    starts = [Kernel.begun(3, length, 1e-2) for length in (0.2, 2.0, 8.0)]
    kernel = likeliest(points, answers, starts, steps=200, begin=5, tied=tied)
    assert (np.ptp(kernel.scales) == 0.0) == tied
    assert kernel.scales.shape == (3,)
    deviance = Deviance(points, answers, "matern52", False)

    def loss(place):
        pull = ((place[0] + 0.5 * np.log(3)) / 0.7) ** 2 if tied else 0.0
        return deviance(place)[0] + pull

    best = np.log([*kernel.scales, kernel.noise])
    steps = [[1, 1, 1, 0], [0, 0, 0, 1]] if tied else np.eye(4)
    for step in 0.1 * np.array(steps):
        assert loss(best) < min(loss(best + step), loss(best - step))


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_starts_the_one_likelier_after_a_few_steps_is_followed(order):
    points, answers = drawn()
    starts = [Kernel.begun(3, length, noise) for length, noise in ((2.0, 1e-2), (0.1, 1.0))]
    deviance = Deviance(points, answers, "matern52", False)
    begun = [likeliest(points, answers, [one], steps=2) for one in starts]
    best = min(begun, key=lambda one: deviance(np.log([*one.scales, one.noise]))[0])
    expected = likeliest(points, answers, [best], steps=3)
    kernel = likeliest(points, answers, starts[::order], steps=3, begin=2)
    np.testing.assert_allclose(
        [*kernel.scales, kernel.noise], [*expected.scales, expected.noise], rtol=1e-6
    )


@pytest.mark.parametrize("tied", [False, True])
def test_the_gradient_of_a_search_is_that_of_what_it_makes_small(tied, monkeypatch):
    searched = []
    monkeypatch.setattr(scipy.optimize, "minimize", lambda fn, *given, **_: searched.append(fn))
    points, answers = drawn()
    likeliest(points, answers, [Kernel.begun(3, 2.0, 1e-2)], steps=5, tied=tied)
    place = np.log([3.0, 1e-2] if tied else [3.0, 0.4, 1.0, 1e-2])
    for at in range(len(place)):
        step = 1e-5 * (np.arange(len(place)) == at)
        slope = (searched[0](place + step)[0] - searched[0](place - step)[0]) / 2e-5
        assert searched[0](place)[1][at] == pytest.approx(slope, rel=1e-4, abs=1e-4)


def test_a_search_ends_when_it_is_to_but_not_before_its_first_likelihood():
    points, answers = drawn(rows=60)
    starts = [Kernel.begun(3, length, 1e-2) for length in (0.2, 2.0, 8.0)]
    asked = []

    def go_on():
        asked.append(len(asked))
        return len(asked) < most

    found = []
    for most in (0, 1, 5, 30, 10**9):
        asked.clear()
        kernel = likeliest(points, answers, starts, steps=50, begin=5, go_on=go_on)
        assert len(asked) <= most + 4 or most == 10**9
        place = np.log([*kernel.scales, kernel.noise])
        found.append(Deviance(points, answers, "matern52", False)(place)[0])
    assert (np.diff(found) <= 0).all()
    assert found[-1] < found[0] - 1.0
    assert np.isfinite(found).all()


@pytest.mark.parametrize("size", [5, 64, 65, 200])
def test_factors_are_those_of_the_inverse(size):
    root = np.random.default_rng(0).normal(size=(size, size))
    covariance = root @ root.T + np.eye(size)
    lower, inverse = _factors(covariance)
    np.testing.assert_allclose(inverse.T @ inverse, np.linalg.inv(covariance), atol=1e-8)
    assert (np.triu(inverse, 1) == 0.0).all()
    np.testing.assert_allclose(lower @ lower.T, covariance)


@pytest.mark.parametrize("length", [0.03, 0.3])
def test_estimates_from_a_grid_are_those_from_its_points_in_another_order(length):
    """The inverse of a factor is least exact in the order of a grid: estimates were off by 1e-4, and their errors 1e-7."""
    points = np.linspace(0.0, 1.0, 400)[:, None]
    answers, wanted = np.sin(9.0 * points), points[:-1] + 1e-3
    kernel = Kernel(np.array([1.0 / length]), 1e-10, "gaussian", linear=True)
    order = np.random.default_rng(0).permutation(len(points))
    one = Fitted(points, answers, kernel).predict(wanted)[0]
    other = Fitted(points[order], answers[order], kernel).predict(wanted)[0]
    np.testing.assert_allclose(one, other, atol=1e-9)


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("smoothness", KINDS)
@pytest.mark.parametrize("rows", [40, 150])
def test_estimates_are_those_of_the_textbook(smoothness, linear, rows):
    points, answers = drawn(rows)
    wanted = drawn(rows=7, seed=1)[0]
    kernel = Kernel(np.array([0.7, 0.2, 1.5]), 1e-2, smoothness, linear)
    means, variances, scale = dense(kernel, points, answers, wanted)
    fitted = Fitted(points, answers, kernel)
    found, wide = fitted.predict(wanted)
    np.testing.assert_allclose(found, means, rtol=1e-8)
    np.testing.assert_allclose(wide, variances, rtol=1e-8)
    np.testing.assert_allclose(fitted.variance, scale, rtol=1e-8)


@pytest.mark.parametrize(("rows", "linear"), [(2, False), (3, False), (5, True), (6, True)])
def test_of_hardly_more_answers_than_the_mean_has_numbers_the_variance_is_that_of_the_textbook(
    rows, linear
):
    points, answers = drawn(rows)
    kernel = Kernel(np.array([0.7, 0.2, 1.5]), 1e-2, "matern52", linear)
    *_, scale = dense(kernel, points, answers, points)
    np.testing.assert_allclose(Fitted(points, answers, kernel).variance, scale, rtol=1e-6)


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("sample", [None, [3, 17]])
def test_what_is_left_out_is_estimated_without_it(linear, sample):
    points, answers = drawn()
    kernel = Kernel(np.array([0.7, 0.2, 1.5]), 1e-2, "matern52", linear)
    off, variances = Fitted(points, answers, kernel).left_out(
        None if sample is None else np.array(sample)
    )
    for place, row in enumerate(range(40) if sample is None else sample):
        others = np.arange(40) != row
        means, wide, _ = dense(kernel, points[others], answers[others], points[row : row + 1])
        np.testing.assert_allclose(off[place], answers[row] - means[0], rtol=1e-7, atol=1e-10)
        assert variances[place] == pytest.approx(wide[0], rel=1e-7)


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("smoothness", ["matern52", "gaussian"])
def test_gradients_are_those_of_the_means(smoothness, linear):
    points, answers = drawn(40, 3, 1)
    # A column that follows from others has no slope of its own.
    points = np.column_stack([points, points[:, 0] + points[:, 1]])
    kernel = Kernel(np.array([0.3, 1.0, 0.5, 0.2]), 1e-2, smoothness, linear)
    process = Fitted(points, answers, kernel)
    step = 1e-5
    for dimension, found in enumerate(process.gradients().T):
        moved = np.eye(4)[dimension] * step
        ends = [process.predict(points + sign * moved)[0][:, 0] for sign in (1, -1)]
        np.testing.assert_allclose(found, (ends[0] - ends[1]) / (2 * step), atol=1e-6)


def test_a_dimension_that_does_not_matter_has_a_long_scale():
    points, _ = drawn(rows=150)
    answers = np.sin(3 * points[:, 1])[:, None]
    start = Kernel(np.ones(3), 1e-4, "gaussian", False)
    kernel = likeliest(points, answers, [start], steps=50)
    assert kernel.scales[1] > 10 * max(kernel.scales[0], kernel.scales[2])


def test_a_search_may_begin_with_the_inputs_that_matter_alone():
    points = np.random.default_rng(0).standard_normal((200, 50))
    answers = np.stack([np.abs(points[:, 3]), points[:, 7]], axis=1)
    kernel = Kernel.screened(points, answers)
    assert set(np.argsort(-kernel.scales)[:2]) == {3, 7}
    assert np.sort(kernel.scales)[-2] > 10 * np.sort(kernel.scales)[-3]


@pytest.mark.parametrize(("rows", "answers"), [(200, "noise"), (200, "constant"), (9, "the first")])
def test_a_search_does_not_begin_so_where_no_input_surely_matters(rows, answers):
    rng = np.random.default_rng(1)
    points = rng.standard_normal((rows, 5))
    given = {
        "noise": rng.standard_normal(rows),
        "constant": np.ones(rows),
        "the first": points[:, 0],
    }
    assert Kernel.screened(points, given[answers][:, None]) is None


def test_inputs_that_do_not_matter_are_no_noise():
    points = np.random.default_rng(0).uniform(-1.7, 1.7, size=(120, 10))
    answers = np.sin(points[:80, :1]) * points[:80, 1:2]
    start = Kernel(np.full(10, 0.2), 1e-2, "matern52", False)
    kernel = likeliest(points[:80], answers, [start], steps=50)
    values, _ = Fitted(points[:80], answers, kernel).predict(points[80:])
    off = values[:, 0] - np.sin(points[80:, 0]) * points[80:, 1]
    assert np.sqrt((off**2).mean()) < 0.004


def test_noise_is_found():
    rng = np.random.default_rng(0)
    points = rng.standard_normal((300, 2))
    answers = np.sin(points[:, :1]) + 0.3 * rng.standard_normal((300, 1))
    start = Kernel(np.ones(2), 1e-4, "matern52", False)
    kernel = likeliest(points, answers, [start], steps=50)
    scale = Fitted(points, answers, kernel).variance[0]
    assert np.sqrt(kernel.noise * scale) == pytest.approx(0.3, rel=0.15)


@pytest.mark.parametrize(
    ("noise", "found"), [(0.0, [0.0, 1e-12, 1e-11]), (1e-3, [1e-3, 1e-2, 0.1])]
)
def test_covariances_that_are_singular_are_solved_with_ten_times_the_noise(
    noise, found, monkeypatch
):
    tried = []

    def factors(covariance):
        tried.append(covariance[3, 3] - 1.0)
        if len(tried) < 3:
            raise np.linalg.LinAlgError
        return _factors(covariance)

    monkeypatch.setattr("codedmap.estimation.gaussian._factors", factors)
    fitted = Fitted(*drawn(), Kernel(np.ones(3), noise, "matern52", False))
    np.testing.assert_allclose(tried, found, atol=1e-15)
    assert fitted.noise == pytest.approx(found[-1])


@pytest.mark.parametrize("linear", [False, True])
def test_any_number_of_estimates_are_those_of_each(linear):
    wanted = drawn(rows=2100, seed=1)[0]
    fitted = Fitted(*drawn(12), Kernel(np.ones(3), 1e-2, "matern52", linear))
    each = [fitted.predict(wanted[at : at + 100]) for at in range(0, 2100, 100)]
    for whole, parts in zip(fitted.predict(wanted), zip(*each, strict=True), strict=True):
        np.testing.assert_allclose(whole, np.concatenate(parts), rtol=1e-9)


@pytest.mark.parametrize(
    ("rows", "dimensions", "slack"),
    [(5000, 2, 0.0), (5001, 2, 0.5), (5001, 12, 0.5), (5001, 13, 1.0), (5000, 13, 0.0)],
)
def test_of_more_than_five_thousand_points_about_the_nearest_are_taken(
    rows, dimensions, slack, monkeypatch
):
    asked = []

    class Tree:
        def __init__(self, points, **options):
            pass

        def query(self, wanted, k, eps):
            asked.append(eps)
            return None, np.tile(np.arange(1, len(k) + 1), (len(wanted), 1))

    monkeypatch.setattr(scipy.spatial, "cKDTree", Tree)
    points = np.zeros((rows, dimensions))
    assert nearest(points, points[:4], 7).shape == (4, 7)
    assert nearest(points, points[:4], 7, np.arange(4)).shape == (4, 7)
    assert asked == [slack, slack]


def test_equal_points_are_no_obstacle():
    points, answers = drawn()
    points, answers = np.concatenate([points, points]), np.concatenate([answers, answers])
    fitted = Fitted(points, answers, Kernel(np.ones(3), 1e-10, "gaussian", False))
    means, variances = fitted.predict(points[:5])
    assert np.isfinite(means).all()
    assert (variances > 0).all()


@pytest.mark.parametrize("count", [1, 4])
def test_sums_are_those_of_the_answers_nearby_by_their_weights(count):
    rng = np.random.default_rng(0)
    near, weights = rng.integers(0, 9, (5, count)), rng.uniform(size=(5, count))
    for answers in (rng.normal(size=9), rng.normal(size=(9, 2))):
        for one in (weights, 0.25):
            expected = [
                (np.broadcast_to(one, near.shape)[row] @ answers[near[row]]) for row in range(5)
            ]
            np.testing.assert_allclose(weighted(near, one, answers), expected)


def test_the_nearest_points_are_those_nearest():
    rng = np.random.default_rng(0)
    points, wanted = rng.standard_normal((500, 4)), rng.standard_normal((30, 4))
    away = ((wanted[:, None] - points) ** 2).sum(axis=2)
    np.testing.assert_array_equal(nearest(points, wanted, 10), np.argsort(away, axis=1)[:, :10])
    itself = np.arange(30)
    found = nearest(points, points[:30], 10, itself)
    assert not (found == itself[:, None]).any()


@pytest.mark.parametrize("smoothness", KINDS)
def test_of_few_points_the_nearest_are_all(smoothness):
    points, answers = drawn()
    wanted = drawn(rows=300, seed=1)[0]
    kernel = Kernel(np.array([0.7, 0.2, 1.5]), 1e-2, smoothness, False)
    near, everything = (
        Nearest(np.vstack([points, points[:1] + 9]), np.vstack([answers, answers[:1]]), kernel),
        Fitted(np.vstack([points, points[:1] + 9]), np.vstack([answers, answers[:1]]), kernel),
    )
    inside = (
        np.abs(wanted).max(axis=1) < 1.0
    )  # the point that is left out, the farthest, does not matter here
    for one, other in zip(
        near.predict(wanted[inside]), everything.predict(wanted[inside]), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize("smoothness", KINDS)
@pytest.mark.parametrize("rows", [60, 300])
def test_an_estimate_from_the_nearest_is_that_of_a_process_that_has_seen_no_others(
    rows, smoothness
):
    points, answers = drawn(rows)
    wanted = drawn(rows=300, seed=1)[0]  # more than are estimated at once
    kernel = Kernel(np.array([0.7, 0.2, 1.5]), 1e-2, smoothness, False)
    near = Nearest(points, answers, kernel)

    def expected(at, others):
        away = (((points[others] - at) * kernel.scales) ** 2).sum(axis=1)
        some = others[np.argsort(away)[: min(80, rows - 1)]]
        mean, variance, _ = dense(kernel, points[some], answers[some], at[None])
        return mean[0], variance[0]

    found = near.predict(wanted)
    for row in (0, 100, 255, 256, 299):
        mean, variance = expected(wanted[row], np.arange(rows))
        np.testing.assert_allclose(found[0][row], mean, rtol=1e-6, atol=1e-8)
        assert found[1][row] == pytest.approx(variance, rel=1e-6)
    sample = np.array([3, 17, 59])
    off, variances = near.left_out(sample)
    for at, row in enumerate(sample):
        mean, variance = expected(points[row], np.delete(np.arange(rows), row))
        np.testing.assert_allclose(off[at], answers[row] - mean, rtol=1e-6, atol=1e-8)
        assert variances[at] == pytest.approx(variance, rel=1e-6)


def test_many_points_are_as_good_by_their_nearest():
    rng = np.random.default_rng(0)
    points = rng.uniform(-1.5, 1.5, (2000, 3))
    answers = (np.sin(2 * points[:, 0]) * points[:, 1] + points[:, 2] ** 2)[:, None]
    kernel = Kernel(np.array([0.6, 0.4, 0.4]), 1e-6, "matern52", False)
    wanted = rng.uniform(-1.5, 1.5, (300, 3))
    truth = np.sin(2 * wanted[:, 0]) * wanted[:, 1] + wanted[:, 2] ** 2
    errors = [
        np.sqrt(((model(points, answers, kernel).predict(wanted)[0][:, 0] - truth) ** 2).mean())
        for model in (Fitted, Nearest)
    ]
    assert errors[1] < 2.0 * errors[0]
    assert errors[1] < 0.01


def test_a_point_that_alone_has_a_coefficient_is_left_out_without_overflow():
    points = np.random.default_rng(0).uniform(size=(20, 2))
    points[:, 1] = 0.0
    points[3, 1] = 1.0
    fitted = Fitted(points, points[:, :1] ** 2, Kernel(np.ones(2), 1e-6, "matern52", True))
    off, variance = fitted.left_out()
    assert np.isfinite(off**2).all()
    assert variance[3] > 1e6 * np.median(variance)


@pytest.mark.parametrize("smoothness", KINDS)
def test_a_column_that_follows_from_others_changes_nothing(smoothness):
    """One for each category: the last is one less the others. Which is named last does not matter either."""
    rng = np.random.default_rng(4)
    categories = np.eye(3)[rng.integers(0, 3, 100)]
    points = np.hstack([rng.uniform(-1, 1, (100, 2)), categories])
    points = (points - points.mean(axis=0)) / points.std(axis=0)
    answers = points[:, :1] ** 2 + points[:, 2:3]
    kernel = Kernel(np.full(5, 0.4), 1e-8, smoothness, linear=True)
    fitted = Fitted(points[:60], answers[:60], kernel)
    means, variances = fitted.predict(points[60:])
    turned = Fitted(points[:60, ::-1], answers[:60], kernel).predict(points[60:, ::-1])
    np.testing.assert_allclose(turned[0], means, atol=1e-7)
    np.testing.assert_allclose(turned[1], variances, rtol=1e-4)
    off, _ = fitted.left_out()
    others = np.arange(60)[:, None] != np.arange(60)
    apart = [Fitted(points[:60][o], answers[:60][o], kernel) for o in others]
    alone = [one.predict(points[n : n + 1])[0][0] for n, one in enumerate(apart)]
    np.testing.assert_allclose(answers[:60] - off, alone, atol=1e-7)


def test_a_search_among_planes_goes_on_where_a_column_follows_from_others():
    points, answers = drawn(60, 2)
    points = np.hstack([points, points.sum(axis=1, keepdims=True)])
    start = Kernel.begun(3, 2.0, 1e-2, linear=True)
    found = likeliest(points, answers, [start], steps=30)
    deviance = Deviance(points, answers, "matern52", linear=True)
    before, after = (deviance(np.log([*k.scales, k.noise]))[0] for k in (start, found))
    assert after < before - 1.0


def test_what_a_plane_leaves_is_not_below_rounding():
    rng = np.random.default_rng(0)
    points = rng.standard_normal((60, 1)) + 1e-5 * rng.standard_normal((60, 5))  # nearly equal
    deviance = Deviance(points, points.sum(axis=1, keepdims=True), "gaussian", True)
    for noise in (-8.0, -13.0, -18.0, -23.0):
        score, slope = deviance(np.append(np.full(5, -7.0), noise))
        assert score > -5000.0
        assert np.isfinite(slope).all()
