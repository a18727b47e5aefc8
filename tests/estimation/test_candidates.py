"""The ways to estimate an output, each against its definition, and which of them are tried."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t
from sklearn.linear_model import Ridge

from codedmap.estimation import candidates, gaussian
from codedmap.estimation.calibration import calibrated
from codedmap.estimation.candidates import (
    Candidate,
    by_mean,
    by_neighbours,
    by_plane,
    combined,
    mixed,
)
from codedmap.estimation.gaussian import Kernel, squared
from codedmap.estimation.points import Points
from codedmap.estimation.space import Space
from codedmap.estimation.surrogate import _inflation, estimates
from codedmap.estimation.transforms import transforms

from ..repeats import first
from .conftest import put

RNG = np.random.default_rng(5)
POINTS = RNG.normal(size=(40, 3))
WANTED = RNG.normal(size=(6, 3))
ANSWERS = RNG.normal(size=40)


def known() -> Points:
    return Points(POINTS, WANTED, 0, lambda: math.inf, thorough=True, each=map)


def test_rotated_points_are_as_far_apart_and_length_scales_come_back():
    plain, dimensions = known(), POINTS.shape[1]
    rng = np.random.default_rng(0)
    one, other = (np.linalg.qr(rng.standard_normal((dimensions, dimensions)))[0] for _ in range(2))
    rotated = plain.rotated(one).rotated(other)
    np.testing.assert_allclose(squared(rotated.points), squared(plain.points), atol=1e-9)
    np.testing.assert_allclose(rotated.wanted, plain.wanted @ one @ other, atol=1e-12)
    # The inverse squares of length scales are the diagonal of the metric.
    scales = rng.uniform(0.5, 2.0, dimensions)
    back = one @ other @ np.diag(scales**2) @ (one @ other).T
    np.testing.assert_allclose(rotated.unrotated(scales), np.sqrt(np.diag(back)))
    assert plain.unrotated(scales) is scales


def test_where_one_thread_is_interrupted_rotated_points_are_too():
    plain = known()
    rotated = plain.rotated(np.eye(POINTS.shape[1]))

    def interrupted(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plain.each(interrupted, [0])
    with pytest.raises(KeyboardInterrupt):
        rotated.time_left()


def test_the_mean_without_an_answer_is_that_of_the_others():
    found = by_mean(known(), ANSWERS)
    np.testing.assert_allclose(found.means[:40], [np.delete(ANSWERS, k).mean() for k in range(40)])
    np.testing.assert_allclose(found.means[40:], np.full(6, ANSWERS.mean()))
    np.testing.assert_allclose(found.variances, np.full(46, ANSWERS.var() * (1 + 1 / 40)))


@pytest.mark.parametrize("columns", [35, 90])
def test_a_plane_over_many_inputs_is_a_ridge_regression(columns):
    rng = np.random.default_rng(columns)
    points = rng.normal(size=(60, columns)) * 10.0 ** rng.integers(-6, 6, columns)
    answers = points @ (rng.normal(size=columns) / points.std(axis=0)) + rng.normal(size=60)
    more = 1.5 * points[:3] - points[3:6]
    seen = Points(points, more, 0, lambda: math.inf, thorough=True, each=map)
    found = by_plane(seen, answers[:, None], *seen.inputs).column(0)

    def left_out(penalty: float) -> np.ndarray:
        unit = points.std(axis=0)
        centred = (points - points.mean(axis=0)) / unit
        system = centred.T @ centred + penalty * np.eye(columns)
        hat = centred @ np.linalg.solve(system, centred.T) + 1 / 60
        return (hat @ answers - np.diag(hat) * answers) / (1 - np.diag(hat))

    largest = np.linalg.norm((points - points.mean(axis=0)) / points.std(axis=0), 2) ** 2
    every = [left_out(largest * penalty) for penalty in candidates._PENALTIES]
    squares = [((left - answers) ** 2).sum() for left in every]
    best = every[np.argmin(squares)]
    np.testing.assert_allclose(found.means[:60], best, rtol=1e-5, atol=1e-6)
    ridge = Ridge(largest * candidates._PENALTIES[np.argmin(squares)])
    ridge.fit((points - points.mean(axis=0)) / points.std(axis=0), answers)
    expected = ridge.predict((more - points.mean(axis=0)) / points.std(axis=0))
    np.testing.assert_allclose(found.means[60:], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.variances, ((best - answers) ** 2).mean(), rtol=1e-5)


def test_neighbours_count_by_one_over_their_distance():
    scales = np.array([1.0, 3.0, 0.2])
    found = by_neighbours(known(), ANSWERS, scales)
    seen = known()

    def average(there, points, answers):
        away = np.sqrt((((points - there) * scales) ** 2).sum(axis=1))
        near = np.argsort(away)[:8]
        weights = 1 / away[near] / (1 / away[near]).sum()
        mean = weights @ answers[near]
        spread = ((answers[near] - mean) ** 2).mean() + 0.01 * ANSWERS.var()
        apart = (points[near] * scales).var(axis=0).sum()
        return mean, spread * (away[near] ** 2).mean() / apart

    for row in range(6):
        expected = average(seen.wanted[row], seen.points, ANSWERS)
        np.testing.assert_allclose((found.means[40 + row], found.variances[40 + row]), expected)
    for row in range(40):
        others = np.arange(40) != row
        expected = average(seen.points[row], seen.points[others], ANSWERS[others])
        np.testing.assert_allclose((found.means[row], found.variances[row]), expected)


def test_neighbours_that_are_all_to_one_side_are_further_off_the_further_they_are():
    points = np.arange(40.0)[:, None]
    wanted = np.array([[20.5], [60.0], [80.0]])
    some = Points(points, wanted, 0, lambda: math.inf, thorough=True, each=map)
    near, far, farther = by_neighbours(some, points[:, 0], np.ones(1)).variances[40:]
    assert far > 50.0 * near
    assert 3.0 < farther / far < 5.0


def candidate(left, values, variance=1.0) -> Candidate:
    means = np.concatenate([left, values])
    return Candidate((f"{variance:g}",), np.ones(1), means, np.full(len(means), variance))


def test_of_many_outputs_each_has_its_own_weighted_mean_of_two_estimates():
    """Estimates that are as good, but whose errors differ, are nearer together; one that is far better is taken alone."""
    rng = np.random.default_rng(0)
    targets, sizes = rng.normal(size=(400, 4)), np.array([0.3, 0.3, 1e-6, 0.3])
    one = Candidate(
        ("one",) * 4,
        np.ones(3),
        np.vstack([targets + sizes * rng.normal(size=(400, 4)), np.zeros((6, 4))]),
        np.full((406, 4), 0.09),
    )
    outputs, others = np.array([3, 1, 2]), np.array([0.3, 1e-6, 0.3])
    means = np.vstack([targets[:, outputs] + others * rng.normal(size=(400, 3)), np.ones((6, 3))])
    other = Candidate(("other",) * 3, np.ones(3), means.copy(), np.full((406, 3), 0.16))
    before = one.means.copy()
    found = mixed(one, outputs, other, targets)
    assert found.names[:3] == ("one", "other", "one")
    weight = found.means[-1, 3]
    assert 0.4 < weight < 0.6
    assert found.names[3] == f"other ({weight:.0%}) + one"
    np.testing.assert_allclose(
        found.means[:, 3], weight * means[:, 0] + (1.0 - weight) * before[:, 3]
    )
    np.testing.assert_array_equal(found.means[:, [0, 2]], before[:, [0, 2]])
    np.testing.assert_allclose(found.means[:, 1], means[:, 1])
    assert (found.variances[:, :3] == [0.09, 0.16, 0.09]).all()
    # As in a mixture of both: less certain where they differ.
    spread = weight * 0.16 + (1.0 - weight) * 0.09
    spread += weight * (1.0 - weight) * (means[:, 0] - before[:, 3]) ** 2
    np.testing.assert_allclose(found.variances[:, 3], spread)
    assert np.sqrt(found.squares(targets)[3]) < 0.8 * 0.3


def test_candidates_whose_errors_differ_are_combined():
    targets = RNG.normal(size=400)
    off = RNG.normal(size=(2, 400))
    one, two = (candidate(targets + off[k], np.array([k, 3.0]), k + 1.0) for k in (0, 1))
    found = combined([one, two], targets)
    weight = float(found.means[400])  # that of the second, whose value is 1
    assert weight == pytest.approx(0.5, abs=0.1)
    np.testing.assert_allclose(found.means[401], 3.0, rtol=1e-5)
    np.testing.assert_allclose(
        found.means[:400], targets + (1 - weight) * off[0] + weight * off[1], rtol=1e-4
    )
    apart = (1 - weight) * weight
    np.testing.assert_allclose(found.variances[400:], [1 + weight + apart, 1 + weight], rtol=1e-4)
    np.testing.assert_allclose(
        found.variances[:400], 1 + weight + apart * (off[0] - off[1]) ** 2, rtol=1e-3
    )
    share = round(100 * weight)
    assert found.names == (f"1 ({100 - share}%) + 2 ({share}%)",)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Maximum number of iterations reached."),
        np.linalg.LinAlgError("Matrix is singular."),
    ],
)
def test_where_no_weights_are_found_the_best_candidate_is_taken(error, monkeypatch):
    def fails(*given):
        raise error

    targets = RNG.normal(size=40)
    good, worse = (
        candidate(targets + off, np.zeros(1)) for off in RNG.normal(size=(2, 40)) * [[1], [2]]
    )
    monkeypatch.setattr("scipy.optimize.nnls", fails)
    assert combined([worse, good], targets) is good


def test_a_candidate_that_adds_nothing_is_left_out():
    targets = RNG.normal(size=400)
    off = 0.1 * RNG.normal(size=400)
    good, same = (candidate(targets + factor * off, np.zeros(1)) for factor in (1.0, 3.0))
    assert combined([same, good], targets) is good


def test_a_candidate_of_hardly_any_weight_makes_no_error_larger():
    targets = RNG.normal(size=400)
    good, mean = (
        candidate(1.0001 * targets, np.ones(1), 1e-8),
        candidate(0.0 * targets, np.zeros(1)),
    )
    assert combined([good, mean], targets) is good


def test_where_a_process_nearly_as_good_differs_the_best_is_less_certain():
    targets = RNG.normal(size=400)
    off = 0.1 * RNG.normal(size=400)
    kernel = Kernel(np.ones(3), 1e-3, "matern52", linear=False)

    def process(factor, values, kernel=kernel):
        made = candidate(targets + factor * off, np.array(values), 0.01)
        return replace(made, kernel=kernel)

    best, near = process(1.0, [0.0, 5.0]), process(1.4, [0.3, 5.0])
    far, mean = process(1.6, [9.0, 9.0]), process(1.4, [9.0, 9.0], kernel=None)
    found = combined([far, near, mean, best], targets)
    assert found.means is best.means
    np.testing.assert_allclose(found.variances[400:], [0.01 + 0.3**2 / 2, 0.01])
    np.testing.assert_allclose(found.variances[:400], 0.01 + (0.4 * off) ** 2 / 2)
    assert combined([far, mean, best], targets) is best


def test_standard_errors_are_wider_by_the_numbers_that_few_answers_have_chosen():
    for size, lengths in ((30, 6), (29, 1), (200, 3), (4, 1)):
        free = max(2, size - 3 - lengths)
        expected = math.sqrt(size / free) * t.ppf(0.975, free) / 1.96
        assert _inflation(size, lengths) == pytest.approx(expected)


@pytest.fixture
def searches(monkeypatch):
    """What is searched for: points, starts, smoothness, whether the mean is a plane, whether scales are tied."""
    made = []
    search = gaussian.likeliest

    def counted(points, answers, starts, *, steps, tied=False, **options):
        kind = starts[0].smoothness, starts[0].linear
        made.append((len(points), len(starts), *kind, tied))
        return search(points, answers, starts, steps=min(steps, 3), tied=tied, **options)

    put(monkeypatch, "likeliest", counted)
    return made


def sample(rows: int, outputs: int = 1, dimensions: int = 3):
    points = np.random.default_rng(1).uniform(size=(rows + 20, dimensions))
    waves = [
        np.sin((3 + k % 3) * points[:, k % dimensions] + k) + points[:, 1] for k in range(outputs)
    ]
    answers = np.stack(waves, axis=1)
    return points[:rows], answers[:rows], points[rows:], answers[rows:]


@pytest.mark.parametrize(
    ("rows", "expected"),
    first(
        4,
        [
            (11, [("matern52", False, True)]),
            (
                12,
                [
                    ("matern52", False, True),
                    *[("gaussian", False, True)] * 2,
                    ("gaussian", False, False),
                ],
            ),
            (15, [("matern52", False, False), *[("gaussian", False, False)] * 2]),
            (
                16,
                [
                    ("matern52", True, False),
                    *[("gaussian", True, False)] * 2,
                    ("gaussian", False, False),
                ],
            ),
            (
                700,
                [
                    ("matern52", True, False),
                    *[("gaussian", True, False)] * 2,
                    ("matern52", False, False),
                ],
            ),
        ],
    ),
)
def test_more_kinds_are_tried_with_more_answers(rows, expected, searches):
    points, answers, wanted, _ = sample(rows)
    estimates(points, answers, wanted)
    # The first from three places, and with many answers also where only the inputs that surely matter do.
    starts = [3 + (rows == 700), *[1] * (len(expected) - 1)]
    chosen = [
        (min(rows, 300), *one) for one in zip(starts, *zip(*expected, strict=True), strict=True)
    ]
    assert searches[: len(expected)] == chosen
    refined = [size for size, *_ in searches[len(expected) :]]
    # The best by more answers than another; and parts of few are estimated by the others.
    sizes = [size for size in refined if size >= rows or rows == 700]
    assert sizes == ([700, 450][: len(sizes)] if rows == 700 else [])
    assert bool(sizes) == (rows == 700)


def test_a_plane_needs_four_answers_for_each_of_its_numbers(searches):
    for rows, plane in ((51, False), (52, True)):
        searches.clear()
        points, answers, wanted, _ = sample(rows, dimensions=12)
        estimates(points, answers, wanted)
        assert searches[0][3] is plane


@pytest.mark.parametrize(
    ("seconds", "sizes"),
    first(3, [(0.03, {100}), (0.2, {162, 248}), (1.0, {280, 559}), (1e3, {300, 450, 700})]),
)
def test_less_is_searched_in_less_time(seconds, sizes, searches, monkeypatch):
    monkeypatch.setattr(Points, "_timed", lambda _: 3e-10)  # 8 ms for 300 points
    points, answers, wanted, truth = sample(700)
    found = estimates(points, answers, wanted, time_left=lambda: seconds)
    assert {search[0] for search in searches} == sizes
    assert np.sqrt(((found.values - truth) ** 2).mean()) < 0.5 * answers.std()


@pytest.mark.parametrize("seconds", first(3, [0.0, 0.3, 1.0, 5.0]))
def test_of_many_outputs_each_has_a_method_however_little_time_there_is(seconds):
    points, answers, wanted, truth = sample(200, 2000)
    found = estimates(points, answers, wanted, time_left=lambda: seconds)
    assert len(found.methods) == 2000
    assert (found.stderr > 0.0).all()
    off = np.sqrt(((found.values - truth) ** 2).mean())
    assert off < (1.2 if seconds == 0.0 else 0.2) * answers.std()


def test_without_time_and_inputs_that_vary_the_mean_is_estimated():
    answers = np.random.default_rng(0).normal(size=(1500, 1))
    found = estimates(np.ones((1500, 2)), answers, np.ones((9, 2)), time_left=lambda: -1.0)
    np.testing.assert_allclose(found.values, answers.mean())


def test_many_outputs_take_as_much_time_as_they_are_numbers(monkeypatch):
    """Where it takes long to read answers, as many estimates are not begun as are written later."""
    monkeypatch.setattr(Points, "_timed", lambda _: 3e-10)
    points, _, wanted, _ = sample(200)
    known = Points(points, wanted, 0, lambda: 10.0, thorough=True, each=map)
    assert known.solving(200, 1001) == pytest.approx(6.0 * known.solving(200))
    known.reserve(12.0, len(points))  # reading took 2 s
    assert known.time_left() == pytest.approx(10.0 - 2.0 * 2.0 * (20 + 200) / 200 - 220e-5)


@pytest.mark.parametrize(
    ("seconds", "places"), first(2, [(0.05, True), (0.04, False), (math.inf, True)])
)
def test_errors_are_told_apart_by_place_if_that_takes_less_than_a_fourth_of_the_time(
    seconds, places, monkeypatch
):
    """Of 1,120 points it takes 0.0112 s."""
    given = []
    put(monkeypatch, "calibrated", lambda *_, by_place: given.append(by_place) or np.ones((1120, 1)))  # fmt: skip
    points = np.random.default_rng(0).random((1120, 3))
    estimates(points[:1000], np.sin(points[:1000, :1]), points[1000:], time_left=lambda: seconds)
    assert given == [places]


@pytest.mark.slow
def test_what_components_leave_is_estimated_by_a_process_that_suits_it():
    """With noise, or too short, it would be further off than without components."""
    points = np.random.default_rng(0).random((300, 8))
    answers = np.sin(points @ np.random.default_rng(1).random((8, 100)))
    known, truth = (points[:250], answers[:250], points[250:]), answers[250:]

    def off(**how):
        return ((estimates(*known, **how).values - truth) ** 2).mean()

    assert off(time_left=lambda: 6.0) < 1.2 * off(thorough=False)


def test_a_search_that_takes_all_the_time_of_an_output_still_leaves_it_a_process(monkeypatch):
    left = 0.5
    search = gaussian.likeliest

    def late(*given, **rest):
        nonlocal left
        left -= 0.15
        return search(*given, **rest)

    put(monkeypatch, "likeliest", late)
    points, answers, wanted, truth = sample(200, outputs=2)
    found = estimates(points, answers, wanted, time_left=lambda: max(left, 0.01))
    assert "process" in found.methods[0]
    assert np.sqrt(((found.values - truth) ** 2).mean(axis=0))[0] < 0.1


@pytest.mark.parametrize("outputs", [1, 9, 60])
def test_one_search_for_each_kind_where_it_is_to_be_quick(outputs, searches):
    points, answers, wanted, truth = sample(200, outputs)
    found = estimates(points, answers, wanted, thorough=False)
    assert [search[:3] for search in searches[:2]] == [(100, 2, "matern52"), (100, 2, "gaussian")]
    assert [search[3] for search in searches] == [False, False, True]  # a plane for the mean
    assert len(found.methods) == outputs
    assert found.values.shape == found.stderr.shape == (20, outputs)
    if outputs > 50:  # they are not compared with others
        assert set(found.methods) in ({"Matérn process"}, {"Gaussian process"})
    off = np.sqrt(((found.values - truth) ** 2).mean(axis=0))
    assert (off < 0.3 * answers.std(axis=0)).all()
    ratio = np.sqrt((((found.values - truth) / found.stderr) ** 2).mean())
    assert 0.5 < ratio < 1.8


def test_quick_estimates_of_many_inputs_try_free_length_scales_and_planes(searches):
    """60 answers of 25 inputs, and a plane of 150: neither is near enough to be seen by one length scale."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(260, 25))
    answers = np.sin(2 * points[:, :1])
    estimates(points[:60], answers[:60], points[60:], thorough=False)
    assert [search[4] for search in searches] == [True, True, False]
    searches.clear()
    estimates(points[:200], np.sin(2 * points[:200, :1]), points[200:], thorough=False)
    assert searches[0][0] == 125  # five answers for each input choose the kernel
    points = rng.normal(size=(300, 150))
    answers = points @ rng.normal(size=(150, 3)) + rng.normal(size=3)
    found = estimates(points[:200], answers[:200], points[200:], thorough=False)
    np.testing.assert_allclose(found.values, answers[200:], atol=1e-5)
    assert (found.stderr > 0).all()


def test_a_quick_plane_of_very_many_inputs_is_fitted_to_fewer_answers():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(400, 1500))
    answers = points.mean(axis=1, keepdims=True) + 3.0
    for thorough, most in ((True, 400), (False, 223)):
        seen = Points(points, points, 0, lambda: math.inf, thorough=thorough, each=map)
        found = by_plane(seen, answers, *seen.inputs)
        # What an answer is estimated by without itself is what the plane is there, unless it has been fitted to it.
        left, values = np.split(found.means, [len(seen.sample)])
        fitted = ~np.isclose(left, values[seen.sample], rtol=1e-9)
        assert 0.5 * most < fitted.sum() <= most
        assert np.sqrt(((left - answers[seen.sample]) ** 2).mean()) < answers.std()


def test_in_a_hurry_noise_gets_the_mean():
    points, answers, wanted, _ = sample(200, 2)
    answers[:, 1] = np.random.default_rng(0).normal(size=200)
    found = estimates(points, answers, wanted, thorough=False)
    assert "process" in found.methods[0]
    assert found.methods[1] not in ("Matérn process", "Gaussian process")
    np.testing.assert_allclose(found.stderr[:, 1], answers[:, 1].std(), rtol=0.3)


def test_many_outputs_that_have_little_in_common_are_estimated_as_well(searches):
    """Eight components leave some of their variance, which is judged by what is left out too."""
    points = np.random.default_rng(0).uniform(size=(160, 2))
    directions = np.random.default_rng(1).normal(size=(2, 30))
    answers = np.sin(3 * points @ directions + np.arange(30))
    found = estimates(points[:130], answers[:130], points[130:])
    off = np.sqrt(((found.values - answers[130:]) ** 2).mean(axis=0))
    assert (off < 0.3 * answers.std(axis=0)).mean() > 0.9
    ratio = np.sqrt((found.left_out**2).mean() / (off**2).mean())
    assert 0.6 < ratio < 1.7
    assert 0.6 < np.sqrt((((found.values - answers[130:]) / found.stderr) ** 2).mean()) < 1.5


def test_how_skewed_and_heavy_an_output_must_be_to_change_its_scale():
    half = np.abs(np.random.default_rng(0).standard_t(2, 300))
    even = np.concatenate([half, -half])
    [heavy] = transforms(even, 0.0)
    assert heavy.name == "asinh"
    low, middle, high = np.quantile(even, [0.25, 0.5, 0.75])
    assert (heavy.shift, heavy.width) == (middle, pytest.approx((high - low) / 2))
    skewed = np.exp(np.random.default_rng(0).standard_normal(300))
    assert [one.name for one in transforms(skewed, 0.0)] == ["logarithm", "asinh"]
    assert [one.name for one in transforms(-skewed, 0.0)] == ["logarithm", "asinh"]
    assert [one.name for one in transforms(1.0 - skewed, 0.0)] == ["asinh"]
    assert [one.name for one in transforms(skewed - 1.0, 0.0)] == ["asinh"]
    assert [one.name for one in transforms(skewed + 100.0, 0.0)] == ["asinh"]
    assert not list(transforms(np.random.default_rng(0).uniform(size=300), 0.0))


def test_with_few_residuals_standard_errors_are_not_made_smaller():
    points, wanted = POINTS[:, :2], WANTED[:, :2]
    small, large = (np.full((40, 1), size) for size in (0.1, 3.0))
    said, wide = np.ones((40, 1)), np.full((6, 1), 4.0)
    np.testing.assert_allclose(calibrated(points, small, said, wanted, wide), 2.0)
    np.testing.assert_allclose(calibrated(points, large, said, wanted, wide), 6.0)
    more = np.random.default_rng(0).normal(size=(60, 2))
    less = calibrated(more, np.full((60, 1), 0.1), np.ones((60, 1)), wanted, wide)
    np.testing.assert_allclose(less, 0.2)


def test_standard_errors_are_corrected_by_what_makes_other_residuals_likeliest():
    rng, corrections = np.random.default_rng(1), set()
    points, wanted = rng.uniform(size=(80, 1)), rng.uniform(size=(5, 1))
    spreads = (0.1, 0.5, 0.6, 0.7, 0.8, 1.0)
    wide = np.stack([np.where(points[:, 0] < 0.5, low, 1.0) for low in spreads], axis=1)
    residuals = wide * rng.standard_normal((80, 6))
    said, variances = rng.uniform(1, 2, (80, 6)), rng.uniform(1, 2, (5, 6))
    found = calibrated(points, residuals, said, wanted, variances)
    for output in range(6):
        correction = 0.0
        ratios = residuals[:, output] ** 2 / said[:, output]
        mean = ratios.mean()
        best, factors = math.log(mean) + 1.0, np.full(5, mean)
        for trust in (40.0, 10.0, 3.0):

            def local(there, trust=trust, ratios=ratios, mean=mean, own=None):
                away = np.abs(points[:, 0] - there)
                if own is not None:
                    away[own] = np.inf
                return (trust * mean + ratios[np.argsort(away)[:25]].sum()) / (trust + 25)

            inside = np.array([local(points[k, 0], own=k) for k in range(80)])
            factor = (ratios / inside).mean()
            score = np.log(inside * factor).mean() + 1.0
            if score < best:
                best, factors = score, factor * np.array([local(w[0]) for w in wanted])
                correction = trust
        corrections.add(correction)
        np.testing.assert_allclose(found[:, output], np.sqrt(variances[:, output] * factors))
    assert len(corrections) >= 3, corrections


def test_points_have_no_distance_from_themselves():
    far = 1e8 + np.random.default_rng(0).normal(size=(50, 3))
    assert (np.diag(squared(far)) == 0.0).all()


def test_searches_begin_at_short_middling_and_long_scales(monkeypatch):
    begun = []
    search = gaussian.likeliest

    def counted(points, answers, starts, **options):
        begun.append([start.scales for start in starts])
        return search(points, answers, starts, **(options | {"steps": 2}))

    put(monkeypatch, "likeliest", counted)
    points, answers, wanted, _ = sample(50)
    estimates(points, answers, wanted)
    equal = [np.full(3, 1 / (length * math.sqrt(3))) for length in (0.5, 2.0, 6.0)]
    np.testing.assert_allclose(begun[0][:3], equal)
    assert begun[0][3][2] < 0.05 < begun[0][3][:2].min()  # the third input does not matter
    estimates(points, answers, wanted, thorough=False)
    np.testing.assert_allclose(begun[-3], [equal[1], begun[0][3]])


@pytest.mark.parametrize(("seconds", "exactly"), first(1, [(3.0, False), (10.0, True)]))
def test_what_takes_too_long_to_solve_is_estimated_from_the_nearest(
    seconds, exactly, searches, solved, monkeypatch
):
    """1,500 answers, of which 1,000 are left out: 5.7e9 operations, at 3e9 a second, in half of the time."""
    monkeypatch.setattr(Points, "_timed", lambda _: 2e-9)
    points, answers, wanted, _ = sample(1500)
    estimates(points, answers, wanted, time_left=lambda: seconds)
    assert (1500 in solved) is exactly


def test_blas_has_one_thread_also_where_scipy_is_imported_only_now():
    """SciPy brings a BLAS of its own, whose threads would wait for each other."""
    code = textwrap.dedent(
        """
        import numpy as np
        from threadpoolctl import threadpool_info
        from codedmap.estimation import candidates, gaussian, surrogate

        seen = []

        def each(fn, *given):
            done = list(map(fn, *given))
            seen.append([one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"])
            return done

        points = np.random.default_rng(0).random((60, 2))
        surrogate.estimates(points, points[:, :1] ** 2, points[:5] + 0.1, each=each)
        assert len(seen[-1]) > 1, "SciPy has been imported"
        assert all(set(threads) == {1} for threads in seen), seen
        """
    )
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "4", "OMP_NUM_THREADS": "4"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_trees_are_given_the_columns_that_tell_most():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(300, 400))
    answers = np.where(points[:, 250] > 0.0, 1.0, 0.0) + points[:, 300] ** 2
    some = candidates.telling(points, answers)
    assert len(some) == candidates.COLUMNS
    assert {250, 300} <= set(some.tolist())
    assert candidates.telling(points[:, :100], answers) == slice(None)
    correlations = [
        np.abs([np.corrcoef(column, answers)[0, 1] for column in one.T])
        for one in (points - points.mean(axis=0), (points - points.mean(axis=0)) ** 2)
    ]
    order = np.argsort(-np.maximum(*correlations))
    np.testing.assert_array_equal(some, order[: candidates.COLUMNS])
    for same in (1.0, 0.0):
        constant = np.hstack([np.full((300, 200), same), points])
        assert 450 in candidates.telling(constant, answers)


def test_wide_inputs_have_a_deviation_of_one_in_each_direction_on_average():
    wide = 7.0 * np.random.default_rng(2).normal(size=(200, 60))
    space = Space.of(wide, other=True)
    assert space.directions is not None
    assert np.sqrt((space.seen(wide) ** 2).mean()) == pytest.approx(1.0)


@pytest.mark.slow
def test_some_of_many_answers_at_once_say_more_than_the_nearest_where_these_are_far(monkeypatch):
    """The process of the nearest 80 alone is off by ten times as much in eight dimensions."""
    monkeypatch.setattr(Points, "_timed", lambda _: 1e-8)  # 3,000 take too long
    points = np.random.default_rng(0).random((3100, 8))
    answers = np.sin(points @ np.linspace(0.3, 1.5, 8))[:, None]
    known = points[:3000], answers[:3000], points[3000:]
    found = estimates(*known, time_left=lambda: 20.0)
    off = np.sqrt(((found.values - answers[3000:]) ** 2).mean())
    assert off < 0.005 * answers.std()
    assert 0.5 < np.sqrt((((found.values - answers[3000:]) / found.stderr) ** 2).mean()) < 1.5
