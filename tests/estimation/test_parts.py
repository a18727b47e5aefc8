"""What estimates are put together from, each part against its definition or the long way round."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.interpolate import RBFInterpolator
from sklearn.ensemble import HistGradientBoostingRegressor
from threadpoolctl import threadpool_info, threadpool_limits

from codedmap.estimation import candidates, components, conditioning, models, one_output, surrogate
from codedmap.estimation.candidates import Candidate, by_mean, by_others
from codedmap.estimation.gaussian import Fitted, Kernel, likeliest
from codedmap.estimation.models import Model
from codedmap.estimation.models import models as models_of
from codedmap.estimation.nearest import Nearest, nearest
from codedmap.estimation.points import Points
from codedmap.estimation.surrogate import estimates
from codedmap.estimation.transforms import NONE, Transform

from ..repeats import first
from .conftest import put
from .test_gaussian import dense

RNG = np.random.default_rng(3)


def points_of(rows: int = 60, columns: int = 3, wanted: int = 8, **options) -> Points:
    rng = np.random.default_rng(rows)
    inputs = rng.normal(size=(rows + wanted, columns))
    options = {"time_left": lambda: math.inf, "thorough": True, "each": map, "seed": 0} | options
    return Points(inputs[:rows], inputs[rows:], **options)


def waves(known: Points, outputs: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Answers (n, q) of deviation 1, and what is wanted."""
    slopes = np.linspace(0.4, 0.9, outputs)
    both = [
        np.sin(x[:, :1] * slopes + x[:, 1:2] * slopes[::-1]) for x in (known.points, known.wanted)
    ]
    middle, deviation = both[0].mean(axis=0), both[0].std(axis=0)
    return tuple((one - middle) / deviation for one in both)


# Repeats.


def test_repeats_that_agree_change_nothing_elsewhere():
    known = points_of(40)
    answers, _ = waves(known)
    points, wanted = known.points, np.vstack([known.wanted, known.points[:3]])
    wanted[-1] *= -1.0
    plain = estimates(points, answers, wanted)
    often = np.repeat(np.arange(40), 1 + np.arange(40) % 3)
    for order in (often, RNG.permutation(often)):
        both = estimates(points[order], answers[order], wanted)
        there = [*range(8), 10]
        # The same places, but in another order, by which a few are drawn.
        np.testing.assert_allclose(both.values[there], plain.values[there], atol=1e-3)
        np.testing.assert_allclose(both.stderr[there], plain.stderr[there], rtol=0.1)
        np.testing.assert_allclose(both.values[8:10], answers[:2], atol=1e-5)


def test_copies_of_what_is_known_exactly_have_small_errors():
    points = np.repeat(RNG.normal(size=(40, 2)), 2, axis=0)
    answers = points @ [[1.0, 3.0], [2.0, 1e-3]]
    found = estimates(points, answers, np.vstack([points[:4], points[:4] * 0.5]))
    assert (found.stderr < 1e-3 * answers.std(axis=0)).all()
    assert (found.stderr > 1e-14 * answers.std(axis=0)).all()


@pytest.mark.parametrize("unit", [1.0, 1e-200, 1e200])
def test_where_copies_are_known_the_error_is_that_of_their_mean_and_of_another_copy(unit):
    rng = np.random.default_rng(0)
    places = rng.permutation(40)[:, None] * 1.0
    counts = np.repeat([2, 20], 20)
    which = np.repeat(np.arange(40), counts)
    truth = 5.0 * rng.normal(size=(40, 1))
    answers = truth[which] + rng.normal(size=(440, 1))
    found = estimates(places[which], unit * answers, places)
    spread = np.array([answers[which == k].var() * counts[k] for k in range(40)]).sum() / 400
    expected = np.sqrt(spread * (1 + 1 / counts))
    np.testing.assert_allclose(found.stderr[:, 0] / unit, expected, rtol=0.05)
    means = np.array([answers[which == k].mean() for k in range(40)])
    assert np.abs(found.values[:, 0] / unit - means).max() < 0.5
    # Each answer is left out by itself: the others at its place say most.
    others = (means[which] * counts[which] - answers[:, 0]) / (counts[which] - 1)
    squares = (others - answers[:, 0]) ** 2
    assert found.left_out[0] / unit == pytest.approx(np.sqrt(squares.mean()))
    # One without a copy is left out as its place is: here it is about the mean of all then.
    more = np.append(places[which], [[99.0]], axis=0), np.append(answers, [[40.0]], axis=0)
    alone = estimates(more[0], unit * more[1], places).left_out[0] / unit
    assert alone**2 > 1.01 * squares.mean()


def test_copies_at_two_points_say_nothing_of_what_is_between_them():
    points = np.repeat([[0.0], [1.0]], 20, axis=0)
    answers = 10.0 * points + 0.1 * RNG.normal(size=(40, 1))
    found = estimates(points, answers, np.array([[0.0], [1.0], [0.5]]))
    np.testing.assert_allclose(found.values[:, 0], [0.0, 10.0, 5.0], atol=0.2)
    assert (found.stderr[:2] < 1.0).all()
    assert found.stderr[2] > 4.0
    assert found.methods == ("mean",)  # as of all fewer than five


def test_answers_to_one_point_alone_have_the_error_of_their_mean_whatever_is_added_to_them():
    points, answers = np.ones((30, 2)), RNG.normal(size=(30, 1))
    wanted = np.array([[1.0, 1.0], [2.0, 1.0]])
    for level in (0.0, 1e3, -1e3):
        found = estimates(points, answers + level, wanted)
        np.testing.assert_allclose(found.values, answers.mean() + level)
        own = answers.std() * math.sqrt(1 + 1 / 30)
        ratio = found.stderr[:, 0] / [own, math.hypot(own, answers.std())]
        assert 1.0 < ratio[0] < 1.2
        assert 1.0 < ratio[1] < 1.2
        assert found.methods == ("mean",)


@pytest.mark.parametrize("noise", [0.0, 1e-16, 1e-9, 0.7])
@pytest.mark.parametrize("unit", [1.0, 1e-200])
def test_means_of_copies_and_estimates_count_by_one_over_their_variances(noise, unit):
    """The answers are to five places, which are estimated to be 0, with errors from 0.1 to 9.

    Copies that agree, but for rounding, count alone.
    """
    counts = np.array([1, 2, 3, 1, 4])
    which, at = np.repeat(np.arange(5), counts), np.array([4, -1, 1, 0, 4, -1])
    rng = np.random.default_rng(0)
    answers = (rng.normal(size=5)[which] + noise * rng.normal(size=11))[:, None]
    means = np.bincount(which, answers[:, 0]) / counts
    errors, left_out = np.array([9.0, 2.0, 0.1, 0.5, 0.3, 4.0]), 0.6
    asked = []

    def estimated(given):
        asked.append(given / unit)
        numbers = np.zeros((6, 1)), unit * errors[:, None], np.array([unit * left_out])
        return surrogate.Estimates(*numbers, ("method",))

    found = surrogate._of_repeats(estimated, unit * answers, which, at)
    np.testing.assert_allclose(asked[0][:, 0], means)
    within = sum(((answers[which == k] - means[k]) ** 2).sum() for k in range(5)) / 6
    # One more repeat might be as far off as estimates are.
    own = (6 * within + left_out**2) / 7 / counts[at]
    far = np.maximum(errors**2 - within / counts[at], 1e-300) if noise > 1e-15 else np.inf
    here = at >= 0
    values = np.where(here, means[at] / own / (1 / own + 1 / far), 0.0)
    wide = errors**2 + within * (1 - (1 / counts).mean())
    variances = np.where(here, 1 / (1 / own + 1 / far) + within, wide)
    np.testing.assert_allclose(found.values[:, 0] / unit, values, atol=1e-12)
    expected = np.maximum(np.sqrt(variances), 1e-9 * left_out)
    np.testing.assert_allclose(found.stderr[:, 0] / unit, expected)
    squares = [left_out**2] * 2
    for k in np.flatnonzero(counts > 1):
        own = answers[which == k, 0]
        squares += [(own[j] - np.delete(own, j).mean()) ** 2 for j in range(counts[k])]
    np.testing.assert_allclose(found.left_out / unit, np.sqrt(np.mean(squares)), atol=1e-12)
    assert found.methods == ("method",)


@pytest.mark.parametrize("most", [2, 7])
def test_copies_of_a_smooth_function_with_noise_are_smoothed(most):
    """Also where there are answers, each of which the process has seen."""
    rng = np.random.default_rng(0)
    places = np.linspace(0.0, 6.0, 50)[:, None]
    which = np.repeat(np.arange(50), 2 + np.arange(50) % (most - 1))
    off, by_means, ratios = [], [], []
    for _ in range(3):
        answers = np.sin(places[which]) + rng.normal(size=(len(which), 1))
        wanted = np.vstack([places, places[:-1] + 0.06])
        found = estimates(places[which], answers, wanted)
        means = np.bincount(which, answers[:, 0]) / np.bincount(which)
        by_means.append(means - np.sin(places[:, 0]))
        off.append((found.values - np.sin(wanted))[:50])
        new = np.sin(wanted) + rng.normal(size=wanted.shape)
        ratios.append((new - found.values) / found.stderr)
    assert np.sqrt(np.mean(np.square(off))) < 0.6 * np.sqrt(np.mean(np.square(by_means)))
    for part in (slice(50), slice(50, None)):
        assert 0.75 < np.sqrt(np.mean([ratio[part] ** 2 for ratio in ratios])) < 1.25


def test_places_are_told_apart_by_their_numbers():
    points = RNG.integers(0, 3, size=(80, 2)) * [1.0, -1.0]  # with 0.0 and -0.0
    first, which = surrogate._places(points)
    assert (np.diff(first) > 0).all()
    np.testing.assert_array_equal(points[first][which], points)
    assert len(first) == len(np.unique(points + 0.0, axis=0))
    assert all((points[:at] != points[at]).any(axis=1).all() for at in first)
    np.testing.assert_array_equal(surrogate._places(1e-300 * points)[1], which)
    np.testing.assert_array_equal(surrogate._places(points.astype(np.float32))[1], which)
    wanted = np.vstack([points[5:9], [[7.0, 0.0]], points[:1]])
    np.testing.assert_array_equal(surrogate._at(points[first], wanted), [*which[5:9], -1, which[0]])


# A process.


@pytest.mark.parametrize("rows", [60, 130])
@pytest.mark.parametrize("drawn", [None, 20])
def test_answers_left_out_calibrate_a_process(rows, drawn):
    known = points_of(rows)
    answers = waves(known)[0] + 0.1 * np.random.default_rng(0).normal(size=(rows, 2))
    if drawn:
        known.sample = np.sort(np.random.default_rng(1).permutation(rows)[:drawn])
    kernel = Kernel(np.array([0.5, 0.5, 0.1]), 1e-2, "matern52", linear=False)
    found = conditioning.conditioned(known, answers, kernel, math.inf)
    means, variances, scale = dense(kernel, known.points, answers, known.wanted)
    off, sharp = [], []
    for row in known.sample:
        others = np.arange(rows) != row
        mean, wide, _ = dense(kernel, known.points[others], answers[others], known.points[[row]])
        off.append(answers[row] - mean[0])
        sharp.append(wide[0])
    off, sharp = np.array(off), np.array(sharp)
    spread = (off**2 / sharp[:, None]).mean(axis=0)
    if rows < 100:
        spread = np.maximum(spread, scale)
    left = len(known.sample)
    np.testing.assert_allclose(found.means[:left], answers[known.sample] - off, atol=1e-6)
    np.testing.assert_allclose(found.variances[:left], np.outer(sharp, spread), rtol=1e-5)
    np.testing.assert_allclose(found.means[left:], means, atol=1e-6)
    near = variances <= 2.0 * sharp.max()
    np.testing.assert_allclose(
        found.variances[left:][near], np.outer(variances, spread)[near], rtol=1e-5
    )
    assert (found.variances[left:] >= 0.999 * np.outer(variances, spread)).all()


@pytest.mark.parametrize(("seconds", "used"), [(1.0, 200), (0.02, 102), (0.001, None)])
def test_a_process_sees_as_many_answers_as_there_is_time_for(seconds, used, monkeypatch):
    """Seconds are such that 200 answers take half of 0.1 of them, and 102 half of 0.02."""
    monkeypatch.setattr(Points, "_timed", lambda _: 1.5e-8)
    known = points_of(200, time_left=lambda: 1e9)
    answers, _ = waves(known)
    kernel = Kernel(np.array([0.5, 0.5, 0.1]), 1e-2, "matern52", linear=False)
    found = conditioning.conditioned(known, answers, kernel, seconds)
    if used is None:
        assert found is None
        return
    some = known.order[:used]
    assert known.solving(used) < seconds / 2
    for row in (3, 17, 100, 199):
        others = some[some != row]
        mean, *_ = dense(kernel, known.points[others], answers[others], known.points[[row]])
        np.testing.assert_allclose(found.means[row], mean[0], atol=1e-6)
    means, *_ = dense(kernel, known.points[some], answers[some], known.wanted)
    np.testing.assert_allclose(found.means[200:], means, atol=1e-6)


@pytest.mark.parametrize(("thorough", "exactly"), first(1, [(False, False), (True, True)]))
def test_of_many_answers_a_quick_process_sees_the_nearest(thorough, exactly, solved):
    known = points_of(2100, columns=2, thorough=thorough)
    answers, truth = waves(known)
    kernel = Kernel(np.array([0.5, 0.5]), 1e-6, "matern52", linear=False)
    found = conditioning.conditioned(known, answers, kernel, math.inf)
    assert (2100 in solved) == exactly
    np.testing.assert_allclose(found.means[1000:], truth, atol=0.05)
    off = found.means[:1000] - answers[known.sample]
    np.testing.assert_allclose((off**2 / found.variances[:1000]).mean(axis=0), 1.0, rtol=0.2)


@pytest.mark.parametrize(("rows", "size"), [(30, 6), (14, 2), (7, 2)])
def test_the_ends_are_estimated_from_the_rest_in_the_dimensions_that_matter_most(rows, size):
    points, answers = RNG.normal(size=(rows, 6)), RNG.normal(size=(rows, 2))
    kernel = Kernel(np.array([0.5, 0.01, 0.4, 0.02, 0.6, 0.3]), 1e-2, "matern52", linear=False)
    away, squares = conditioning._ends(points, answers, kernel)
    assert (away.shape, squares.shape) == ((8 * size,), (8 * size, 2))
    at = 0
    for dimension in np.argsort(-points.std(axis=0) * kernel.scales)[:4]:
        order = np.argsort(points[:, dimension])
        for end in (order[:size], order[-size:]):
            rest = np.setdiff1d(order, end)
            means, variances, _ = dense(kernel, points[rest], answers[rest], points[end])
            here = slice(at, at + size)
            np.testing.assert_allclose(away[here], variances, rtol=1e-6)
            np.testing.assert_allclose(squares[here], (means - answers[end]) ** 2, atol=1e-8)
            at += size


def test_variances_are_wider_the_further_away_as_squares_at_the_ends_are():
    known = np.concatenate([np.repeat([0.5, 1.0, 1.5, 2.0, 2.5], 4), [-1.0, 0.0]])
    heights = np.array([1.0, 3.0, 2.0, 8.0, 4.0])
    ratios = np.stack([np.append(np.repeat(heights, 4), [99.0, 99.0]), np.full(22, 0.1)], axis=1)
    ratios[:20:2] *= 0.5
    ratios[1:20:2] *= 1.5
    order = RNG.permutation(22)
    wanted = np.array([-1.0, 0.0, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 9.0])
    found = conditioning._widened(wanted, known[order], ratios[order])
    expected = [1, 1, 1, math.sqrt(3), 3, 3, 3, 8, 8]
    np.testing.assert_allclose(found[:, 0], expected)
    np.testing.assert_allclose(found[:, 1], 1.0)
    few = conditioning._widened(wanted, known[:4], ratios[:4])
    np.testing.assert_array_equal(few, np.ones((9, 2)))


def test_a_search_for_a_gaussian_process_begins_shorter_and_with_some_noise():
    kernel = Kernel(np.array([0.5, 2.0]), 1e-8, "matern52", linear=True)
    begun = models.begun(kernel, "gaussian", False)
    np.testing.assert_array_equal(begun.scales, [1.5, 6.0])
    assert (begun.noise, begun.smoothness, begun.linear) == (1e-4, "gaussian", False)
    loud = Kernel(kernel.scales, 0.1, "matern52", linear=True)
    assert models.begun(loud, "gaussian", True).noise == 0.1
    other = models.begun(begun, None, True)
    assert (other.scales is begun.scales, other.smoothness, other.linear) == (
        True,
        "gaussian",
        True,
    )


@pytest.mark.parametrize(
    "transform", [NONE, Transform("logarithm", -4.0), Transform("asinh", 0.2, 0.5)]
)
def test_a_process_on_another_scale_comes_back_from_there(transform):
    known = points_of()
    answers = waves(known)[0][:, 0]
    kernel = Kernel(np.array([0.5, 0.5, 0.1]), 1e-2, "matern52", linear=False)
    model = Model(0.1, 1000, transform, kernel, known)
    found = one_output._process(answers, model, math.inf, known.second)
    there = transform.there(answers)[:, None]
    plain = conditioning.conditioned(known, there, kernel, math.inf)
    means, variances = transform.back(plain.means[:, 0], plain.variances[:, 0])
    np.testing.assert_allclose(found.means, means, atol=1e-8)
    np.testing.assert_allclose(found.variances, variances, rtol=1e-6)
    name = "" if transform is NONE else f" of the {transform.name}"
    assert found.names == (f"Matérn process{name}",)


@pytest.mark.parametrize("worse", [True, False])
def test_a_kernel_is_refined_if_answers_left_out_are_nearer(worse, monkeypatch):
    known = points_of(60)
    answers = waves(known)[0][:, 0]
    kernels = [Kernel(np.full(3, scale), 1e-6, "matern52", linear=False) for scale in (0.5, 50.0)]
    begun, refined = kernels if worse else kernels[::-1]
    put(monkeypatch, "likeliest", lambda *given, **options: refined)
    model = Model(0.1, 30, NONE, begun, known)
    found = one_output._process(answers, model, math.inf, known.last)
    assert found.kernel.scales[0] == 0.5


@pytest.mark.parametrize(
    ("seconds", "longest", "size"),
    [
        (8.0, 2.0, 500),  # a fourth, and a fifteenth of that for a likelihood of so many
        (80.0, 20.0, 700),
        (4.0, 1.0, 396),
        (1.5, 0.9 * 1.5 - 3 * 0.02, 432),  # what three solutions leave of nine tenths
        (0.08, 0.3 * 0.08, None),  # or three tenths: too little
    ],
)
@pytest.mark.parametrize("late", [0.0, 0.5, 0.9])
def test_a_process_is_refined_by_as_many_answers_as_there_is_time_for(
    seconds, longest, size, late, monkeypatch
):
    """What the search leaves of the time is for the solution, or three tenths of all that is left."""
    left = [3.0 * seconds]
    known = points_of(700, time_left=lambda: left[0])
    known.cubed = 2.0 / 15 / 500.01**3
    monkeypatch.setattr(known, "solving", lambda count: 0.02 * count / 700)
    searched, solved, limits = [], [], []

    def within(seconds):
        limits.append(seconds)
        return lambda: False

    monkeypatch.setattr(known, "within", within)

    def search(points, answers, starts, *, steps, go_on):
        left[0] -= late * left[0]
        searched.append((len(points), len(answers), starts))
        return "refined"

    put(monkeypatch, "likeliest", search)
    put(monkeypatch, "conditioned", lambda *given: solved.append(given[2:]))
    model = Model(0.1, 300, NONE, "first", known)
    answers, drawn = known.points[:, 0], known.last
    assert one_output._process(answers, model, seconds, drawn) is None
    if size is None:
        assert searched == []
        assert solved == [("first", pytest.approx(seconds))]
    else:
        assert searched == [(size, size, ["first"])]
        assert limits == [pytest.approx(longest)]
        rest = seconds - 3.0 * seconds * late
        expected = max(rest, 0.3 * left[0])
        assert solved == [("refined", pytest.approx(expected))]


@pytest.mark.parametrize(("rows", "kinds"), [(60, 6), (11, 1), (14, 6)])
def test_kinds_are_compared_by_what_they_give_for_answers_left_out(rows, kinds):
    known = points_of(rows)
    answers = np.exp(1.5 * waves(known)[0][:, 0])
    answers = (answers - answers.mean()) / answers.std()
    zero = answers.min() - 0.05
    models = [*models_of(known, answers, zero, math.inf)]
    assert len(models) == kinds
    points, answers = known.points[known.first], answers[known.first]
    for model in models:
        moved = model.transform.there(answers)
        left = []
        for row in range(rows):
            others = np.arange(rows) != row
            mean, wide, _ = dense(model.kernel, points[others], moved[others, None], points[[row]])
            *_, scale = dense(model.kernel, points, moved[:, None], points[[row]])
            left.append(model.transform.back(mean[0], wide * scale)[0][0])
        error = np.sqrt(((np.array(left) - answers) ** 2).mean())
        if rows == 14 and model is models[-1]:  # it has chosen as many numbers as there are inputs
            assert np.ptp(model.kernel.scales) > 0.0
            error *= math.sqrt(14 / (14 - 3 - 3))
        assert model.error == pytest.approx(error, rel=1e-3)
        assert model.answers == rows
    names = {model.transform.name for model in models}
    assert names == ({"none", "logarithm", "asinh"} if rows == 60 else {"none"} | names)


@pytest.mark.parametrize(
    ("rows", "wanted", "thorough", "cubed", "seconds", "nearest", "solved"),
    [
        (400, 8, True, 0.0, math.inf, False, 400),
        (6000, 8, False, 0.0, math.inf, True, None),
        (6000, 8, True, 0.0, math.inf, True, 5000),
        (6000, 3000, True, 0.0, math.inf, True, 2738),  # times 4,000 estimates, squared: 3e10
        (400, 8, True, 1e-6, 10.0, True, None),  # 22 s to solve for them, and beside 1,000 at least
        (3000, 8, True, 1e-9, 10.0, True, 2400),  # 6 s for all, and 3.3 s for so many
        (3000, 8, True, 1e-9, 1.02, True, None),  # 0.5041 s for 1,008 estimates from the nearest
        (3000, 8, True, 1e-9, 1.0, False, 982),
        (3000, 8, True, 1e-9, 1e-5, False, None),  # 25 points, which are fewer than 30
    ],
)
def test_answers_are_solved_for_or_the_nearest_taken_as_there_is_time(
    rows, wanted, thorough, cubed, seconds, nearest, solved, monkeypatch
):
    known = points_of(rows, 2, wanted, thorough=thorough)
    known.cubed = cubed
    seen = []

    class Process:
        def __init__(self, points, answers, kernel):
            seen.append((self.kind, len(points)))

        def left_out(self, sample):
            return np.zeros((len(sample), 1)), np.ones(len(sample))

        def predict(self, wanted):
            return np.zeros((len(wanted), 1)), np.ones(len(wanted))

    for kind in ("Nearest", "Fitted"):
        put(monkeypatch, kind, type(kind, (Process,), {"kind": kind}))
    put(monkeypatch, "_estimated", lambda *given: given[2].kind)
    put(monkeypatch, "_nearer", lambda one, other, targets: (one, other))
    kernel = Kernel(np.array([1.0, 2.0]), 1e-4, "matern52", False)
    found = conditioning.conditioned(known, known.points[:, :1], kernel, seconds)
    expected = [("Nearest", rows)] * nearest + [("Fitted", solved)] * (solved is not None)
    assert seen == expected
    kinds = [kind for kind, _ in expected]
    assert found == (tuple(kinds) if len(kinds) == 2 else (kinds or [None])[0])


@pytest.mark.parametrize(("outputs", "smoothness"), [(1, "gaussian"), (2, "matern52")])
def test_few_answers_are_left_out_of_the_choice_of_the_kernel_by_which_they_are_estimated(
    outputs, smoothness
):
    known = points_of(43, 5)
    answers = np.sin(known.points[:, :outputs]) + RNG.normal(size=(43, outputs)) / 4.0
    kernel = Kernel(np.array([1.0, 0.8, 0.6, 0.4, 0.2]), 1e-3, smoothness, True)
    off, variances = conditioning._refitted(known, answers, kernel, math.inf)
    for row in range(43):
        apart = known.order % 8 == known.order[row] % 8
        some = known.points[~apart], answers[~apart]
        own = likeliest(*some, [kernel], steps=30)
        means, variance, _ = dense(own, *some, known.points[[row]])
        np.testing.assert_allclose(off[row], answers[row] - means[0], rtol=1e-5, atol=1e-7)
        assert variances[row] == pytest.approx(float(variance[0]), rel=1e-4)
    found = conditioning.conditioned(known, answers, kernel, math.inf)
    np.testing.assert_allclose(found.means[:43], answers - off)
    tied = replace(kernel, scales=np.full(5, 0.5))
    found = conditioning.conditioned(known, answers, tied, math.inf)
    np.testing.assert_allclose(
        answers - found.means[:43], Fitted(known.points, answers, tied).left_out()[0], rtol=1e-6
    )


def test_errors_of_few_answers_are_larger_if_there_is_no_time_to_leave_them_out(monkeypatch):
    known = points_of(43, 5)
    answers = np.sin(known.points[:, :1])
    kernel = Kernel(np.array([1.0, 0.8, 0.6, 0.4, 0.2]), 1e-3, "gaussian", False)
    put(monkeypatch, "_refitted", lambda *_: None)
    found = conditioning.conditioned(known, answers, kernel, math.inf)
    off = Fitted(known.points, answers, kernel).left_out()[0] * math.sqrt(43 / (43 - 3 - 5))
    np.testing.assert_allclose(answers - found.means[:43], off, rtol=1e-6)


def test_no_time_to_find_kernels_for_parts_is_seen():
    known = points_of(43, 5)
    kernel = Kernel(np.array([1.0, 0.8, 0.6, 0.4, 0.2]), 1e-3, "gaussian", False)
    known._time_left = iter([1.0, *[-1.0] * 100]).__next__
    assert conditioning._refitted(known, known.points[:, :1], kernel, 1.0) is None


def test_of_two_processes_the_one_nearer_to_what_is_left_out_is_taken_for_each_output():
    targets = np.zeros((4, 2))
    one, two = (
        Candidate(("p",) * 2, np.ones(2), np.full((6, 2), off), np.full((6, 2), 1.0 + abs(off[0])))
        for off in (np.array([1.0, -3.0]), np.array([-2.0, 2.0]))
    )
    found = conditioning._nearer(one, two, targets)
    np.testing.assert_array_equal(found.means, np.tile([1.0, 2.0], (6, 1)))
    np.testing.assert_array_equal(found.variances, np.tile([2.0, 3.0], (6, 1)))


def test_a_plane_is_one_of_the_ways_and_of_two_ways_the_better_is_taken():
    known = points_of(30)
    answers = waves(known)[0][:, 0]
    plane = Candidate(("plane",), np.ones(3), np.zeros(38), np.ones(38))
    assert any(way is plane for way in one_output._ways(known, answers, math.nan, 1, plane)[0])
    assert all(way.names != plane.names for way in one_output._ways(known, answers, math.nan, 1)[0])
    good = replace(plane, means=np.append(answers[known.sample], np.zeros(8)))
    assert one_output._best(known, answers, ([plane, good], None), 1).error(answers) < 1e-3


@pytest.mark.parametrize(
    ("rows", "columns", "seconds"),
    # 2 s, 1.5 ms for each that is estimated or left out, and 5 µs for each number of a hundred columns at most.
    [(1000, 40, 2.0 + 1.512 + 0.2), (1000, 150, 2.0 + 1.512 + 0.5), (100, 40, 2.0 + 0.162 + 0.02)],
)
def test_trees_and_splines_are_tried_where_there_is_time_for_all_numbers(
    rows, columns, seconds, monkeypatch
):
    known, tried = points_of(rows, columns), []
    put(monkeypatch, "by_others", lambda *given: tried.append(given) or [])
    put(monkeypatch, "rotated", lambda *_: None)
    answers = known.points[:, 0]
    model = Model(1.0, rows, NONE, Kernel.begun(columns, 1.0, 1e-2), known)
    mean = by_mean(known, answers)
    for share, outputs in ((1.001, 1), (0.999, 1), (3.003, 3), (2.997, 3)):
        tried.clear()
        known._time_left = lambda share=share: share * seconds
        one_output._best(known, answers, ([mean], model), outputs)
        assert bool(tried) == (share > outputs)


# Several outputs.


def left_out_as_told(off: dict[float, list[float]]) -> type:
    """A process that is off on all answers by what is told for the noise of its kernel."""

    class Fitted:
        def __init__(self, points, answers, kernel):
            self.off = np.tile(off[kernel.noise], (len(points), 1))

        def left_out(self):
            return self.off, None

    return Fitted


def test_kernels_are_compared_by_squares(monkeypatch):
    one, two = (Kernel(np.ones(3), noise, "matern52", False) for noise in (1.0, 2.0))
    known = points_of(30)
    fitted = left_out_as_told({1.0: [-5.0, 1.0], 2.0: [2.0, -9.0]})
    put(monkeypatch, "Fitted", fitted)
    found = components._shared(known, known.points[:, :2], [one, two])
    assert [(kernel.noise, columns.tolist()) for kernel, columns in found] == [
        (1.0, [1]),
        (2.0, [0]),
    ]
    assert conditioning.nearest_kernel(known, known.points[:, :2], [two, one], known.first) is one


def test_the_four_kernels_that_are_best_for_most_outputs_are_shared(monkeypatch):
    best = np.array([5, 2, 2, 0, 3, 3, 5, 4, 0, 1, 5, 3])  # kernels 1 and 4 are best for one each
    offs = np.where(np.arange(6)[:, None] == best, 1.0, 3.0)
    offs[2, 7] = offs[5, 9] = 2.0
    fitted = left_out_as_told({float(k): off.tolist() for k, off in enumerate(offs)})
    put(monkeypatch, "Fitted", fitted)
    kernels = [Kernel(np.ones(3), float(k), "matern52", False) for k in range(6)]
    found = components._shared(points_of(30), np.zeros((30, 12)), kernels)
    assert [(kernel.noise, columns.tolist()) for kernel, columns in found] == [
        (0.0, [3, 8]),
        (2.0, [1, 2, 7]),
        (3.0, [4, 5, 11]),
        (5.0, [0, 6, 9, 10]),
    ]


def test_a_hundred_outputs_or_fewer_choose_the_kernel_for_what_components_leave(monkeypatch):
    known, seen = points_of(30), []

    class Fitted:
        def __init__(self, points, answers, kernel):
            seen.append(answers)

        def left_out(self):
            return seen[-1], None

    put(monkeypatch, "Fitted", Fitted)
    for outputs, step in ((99, 1), (100, 1), (101, 2), (201, 3)):
        scaled = RNG.normal(size=(30, outputs))
        conditioning.nearest_kernel(known, scaled, [None], known.first)
        np.testing.assert_array_equal(seen[-1], scaled[known.first, ::step])


@pytest.mark.parametrize("enough", [True, False])
def test_a_kernel_of_some_outputs_is_searched_for_from_the_one_that_they_share(enough, monkeypatch):
    """Each of two kernels has a fourth of 8 s, half for the search and half for each solution."""
    shared, own = (Kernel(np.ones(3), noise, "matern52", False) for noise in (1.0, 2.0))
    known = points_of(30, time_left=lambda: 8.0)
    fitted = left_out_as_told({1.0: [-5.0, 1.0], 2.0: [1.0, -5.0]})
    put(monkeypatch, "Fitted", fitted)
    put(monkeypatch, "_shared", lambda *_: [(shared, np.array([0, 2]))])
    monkeypatch.setattr(known, "within", lambda seconds: seconds)
    searched, solved = [], []

    def search(points, answers, starts, *, steps, go_on):
        searched.append((len(points), answers.shape, starts, go_on))
        return own

    def conditioned(known, scaled, kernel, seconds):
        solved.append((scaled[:, 0].tolist(), kernel, seconds))
        exact = np.concatenate([scaled[known.sample], np.ones((8, scaled.shape[1]))])
        names = (conditioning.name_of(kernel),) * scaled.shape[1]
        return Candidate(names, np.ones(3), exact, 0.5 + exact * 0.0) if enough else None

    put(monkeypatch, "likeliest", search)
    put(monkeypatch, "conditioned", conditioned)
    scaled = RNG.normal(size=(30, 3))
    whole = Candidate(("whole",) * 3, np.ones(3), np.zeros((38, 3)), np.ones((38, 3)))
    found = components._by_themselves(known, scaled, [shared, own], whole)
    assert searched == [(30, (30, 2), [shared], 1.0)]
    expected = [(scaled[:, 2].tolist(), shared, 1.0), (scaled[:, 0].tolist(), own, 1.0)]
    assert solved == (expected if enough else expected[:1])
    assert found.names == (("Matérn process", "whole", "Matérn process") if enough else whole.names)
    assert found.means[30:].tolist() == [[1.0, 0.0, 1.0] if enough else [0.0] * 3] * 8


def test_outputs_beside_each_other_keep_their_estimates():
    parts = [
        Candidate((f"m{k}",), np.array([1.0, 10.0**k]), RNG.normal(size=5), RNG.uniform(size=5))
        for k in range(3)
    ]
    found = candidates.beside(parts)
    assert found.names == ("m0", "m1", "m2")
    np.testing.assert_allclose(found.scales, [1.0, 10.0])  # as geometric means
    for k, part in enumerate(parts):
        np.testing.assert_array_equal(found.means[:, k], part.means)
        np.testing.assert_array_equal(found.variances[:, k], part.variances)


def kernels_of(count: int) -> list[Kernel]:
    return [Kernel(np.full(2, 0.3 * 4.0**k), 1e-6, "gaussian", False) for k in range(count)]


def test_each_output_shares_the_kernel_that_leaves_it_out_best():
    known = points_of(150, columns=2)
    kernels = kernels_of(3)
    outputs = []
    for kernel in (kernels[k] for k in (0, 1, 1, 2, 0, 1)):
        factor = np.linalg.cholesky(kernel.correlations(known.points) + 1e-6 * np.eye(150))
        outputs.append(factor @ RNG.normal(size=150))
    scaled = np.stack(outputs, axis=1)
    shared = components._shared(known, scaled, kernels)
    assert {[k is one for one in kernels].index(True): c.tolist() for k, c in shared} == {
        0: [0, 4],
        1: [1, 2, 5],
        2: [3],
    }
    # At most four kernels are shared, by most outputs, and every output has one.
    more = kernels_of(3)
    more += [Kernel(np.array([one.scales[0], 1e-3]), 1e-6, "gaussian", False) for one in more]
    drawn = []
    for kernel in (more[k] for k in (0, 0, 1, 1, 2, 2, 3, 4, 4, 5, 5)):
        factor = np.linalg.cholesky(kernel.correlations(known.points) + 1e-6 * np.eye(150))
        drawn.append(factor @ RNG.normal(size=150))
    shared = components._shared(known, np.stack(drawn, axis=1), more)
    assert len(shared) <= 4
    assert sorted(np.concatenate([columns for _, columns in shared])) == [*range(11)]


def test_outputs_are_estimated_by_themselves_where_that_is_nearer():
    known = points_of(150, columns=2, wanted=20)
    answers, truth = waves(known, 6)
    left = len(known.sample)
    rough = np.random.default_rng(0).normal(size=(170, 6))
    sizes = np.array([0.5, 1e-9, 0.5, 1e-9, 0.5, 0.5])
    means = np.concatenate([answers[known.sample], truth]) + rough * sizes
    whole = Candidate(("whole",) * 6, np.ones(2), means.copy(), np.full((170, 6), 0.25))
    found = components._by_themselves(known, answers, kernels_of(2), whole)
    for k in range(6):
        off = [np.sqrt(((one[left:, k] - truth[:, k]) ** 2).mean()) for one in (found.means, means)]
        if sizes[k] < 0.1:
            assert found.names[k] == "whole"
            np.testing.assert_array_equal(found.means[:, k], means[:, k])
            assert (found.variances[:, k] == 0.25).all()
        else:
            assert found.names[k] == "Gaussian process"
            assert off[0] < 0.1 * off[1]
            ratio = (found.means[:left, k] - answers[known.sample, k]) ** 2 / found.variances[
                :left, k
            ]
            assert 0.5 < ratio.mean() < 1.5


def test_principal_components_add_up_to_the_outputs(monkeypatch):
    """Twenty outputs of two waves and of noise, in a short time: a rotation of them is estimated by the same, rotated."""
    monkeypatch.setattr(Points, "_timed", lambda _: 1e-12)
    known = points_of(90, columns=2, time_left=lambda: 9.0)
    two, truth = waves(known, 2)
    mixed = RNG.normal(size=(2, 20))
    noise = 0.1 * RNG.normal(size=(90, 20))
    found = components.by_components(known, two @ mixed + noise)
    assert found.means.shape == found.variances.shape == (98, 20)
    assert np.sqrt(((found.means[90:] - truth @ mixed) ** 2).mean()) < 0.15
    off = found.means[:90] - two @ mixed - noise
    assert 0.7 < np.sqrt((off**2 / found.variances[:90]).mean()) < 1.3
    assert np.sqrt((off**2).mean()) < 0.2
    turn = np.linalg.qr(RNG.normal(size=(20, 20)))[0]
    turned = components.by_components(known, (two @ mixed + noise) @ turn)
    np.testing.assert_allclose(turned.means, found.means @ turn, atol=2e-3)
    assert len(found.names) == 20
    assert found.names[0].startswith("8 components: ")


def test_what_the_others_give_is_judged_by_a_fourth_left_out_at_a_time():
    known = points_of(120)
    answers = waves(known)[0][:, 0]
    scales = np.array([1.0, 1.0, 0.1])

    def trees(some, wanted):
        fitted = HistGradientBoostingRegressor(random_state=0).fit(
            known.points[some], answers[some]
        )
        return fitted.predict(wanted)

    def splines(some, wanted):
        spline = RBFInterpolator(
            known.points[some] * scales, answers[some], neighbors=50, smoothing=1e-9
        )
        return spline(wanted * scales)

    folds = np.random.default_rng(0).permutation(120) % 4
    found = {c.names[0]: c for c in by_others(known, answers, scales, math.inf)}
    assert [*found] == ["trees", "radial basis"]
    worst = {}  # after one, two, three or four folds
    for name, fitted in (("trees", trees), ("radial basis", splines)):
        left = np.empty(120)
        for fold in range(4):
            left[folds == fold] = fitted(folds != fold, known.points[folds == fold])
        every = fitted(np.ones(120, dtype=bool), known.wanted)
        np.testing.assert_allclose(found[name].means, np.append(left, every), atol=1e-8)
        np.testing.assert_allclose(found[name].variances, ((left - answers) ** 2).mean())
        squares = [((left - answers)[folds <= fold] ** 2).mean() for fold in range(4)]
        worst[name] = math.sqrt(max(squares))
    for most in np.outer([*worst.values()], [0.999, 1.001]).ravel():
        some = [c.names[0] for c in by_others(known, answers, scales, most)]
        assert some == [name for name, error in worst.items() if error < most]


@pytest.mark.parametrize(("rows", "columns", "count"), [(90, 3, 50), (90, 28, 56), (40, 3, 30)])
def test_splines_take_fifty_answers_or_two_for_each_dimension(rows, columns, count, monkeypatch):
    """Or all, of which three in four are left where a fourth is left out."""
    asked = []

    def spline(points, answers, *, neighbors, smoothing):
        asked.append((len(points), neighbors))
        assert smoothing > 0.0
        return lambda wanted: np.zeros(len(wanted))

    monkeypatch.setattr("scipy.interpolate.RBFInterpolator", spline)
    known = points_of(rows, columns)
    assert len([*by_others(known, waves(known)[0][:, 0], np.ones(columns), math.inf)]) == 2
    assert {neighbors for size, neighbors in asked[:4]} == {count}
    assert [size for size, _ in asked[4:]] == [rows]


def test_trees_have_one_thread_and_programs_theirs_again(monkeypatch):
    seen = []

    def threads():
        return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "openmp"}

    class Trees(HistGradientBoostingRegressor):
        def fit(self, *given):
            seen.append(threads())
            return super().fit(*given)

    monkeypatch.setattr("sklearn.ensemble.HistGradientBoostingRegressor", Trees)
    known = points_of(30)
    with threadpool_limits(3, user_api="openmp"):
        list(by_others(known, waves(known)[0][:, 0], np.ones(3), math.inf))
        assert seen == [{1}] * 5
        assert threads() == {3}


# Nearest points.


@pytest.mark.parametrize(("dimensions", "slack"), [(2, 1.5), (14, 2.0)])
def test_of_many_points_those_taken_are_hardly_further_than_the_nearest(dimensions, slack):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(6000, dimensions))
    wanted = np.concatenate([points[:20], rng.normal(size=(20, dimensions))])
    away = np.sqrt(((wanted[:, None] - points) ** 2).sum(axis=2))
    own = np.arange(20)
    for found, others in (
        (
            nearest(points, wanted[:20], 10, own),
            np.where(np.arange(6000) == own[:, None], np.inf, away[:20]),
        ),
        (nearest(points, wanted[20:], 10), away[20:]),
    ):
        assert all(len({*row}) == 10 for row in found)
        taken = np.take_along_axis(others, found, axis=1)
        assert (np.diff(taken, axis=1) >= 0).all()
        assert (taken <= slack * np.sort(others, axis=1)[:, :10]).all()


@pytest.mark.parametrize("smoothness", ["matern52", "gaussian"])
def test_an_estimate_from_the_nearest_is_that_of_a_process_of_them_alone(smoothness):
    rng = np.random.default_rng(0)
    points, wanted = rng.normal(size=(400, 2)), rng.normal(size=(300, 2))
    answers = np.sin(points)
    kernel = Kernel(np.array([0.9, 1.6]), 1e-3, smoothness, linear=False)
    near = Nearest(points, answers, kernel)
    values, wide = near.predict(wanted)
    off, sharp = near.left_out(np.arange(0, 400, 4))
    for row in (0, 7, 255, 256, 299):
        away = (((points - wanted[row]) * kernel.scales) ** 2).sum(axis=1)
        some = np.argsort(away)[:80]
        mean, variance, _ = dense(kernel, points[some], answers[some], wanted[[row]])
        np.testing.assert_allclose((*values[row], wide[row]), (*mean[0], *variance), rtol=1e-6)
    for row in (0, 7, 99):
        away = (((points - points[4 * row]) * kernel.scales) ** 2).sum(axis=1)
        some = np.argsort(away)[1:81]
        mean, variance, _ = dense(kernel, points[some], answers[some], points[[4 * row]])
        np.testing.assert_allclose(off[row], answers[4 * row] - mean[0], atol=1e-8)
        assert sharp[row] == pytest.approx(variance[0])
    often = Nearest(np.repeat(points, 3, axis=0), np.repeat(answers, 3, axis=0), kernel)
    assert np.isfinite(often.predict(wanted)[0]).all()
    few = Nearest(points[:30], answers[:30], kernel).predict(points[:30])
    assert np.isfinite(few[0]).all()
    assert (few[1] >= 1e-3).all()


def test_a_point_is_never_its_own_neighbour_also_among_copies_of_it():
    points = np.repeat(np.arange(4.0), 15)[:, None]
    own = np.arange(60)
    found = nearest(points, points, 10, own)
    assert found.shape == (60, 10)
    assert (found != own[:, None]).all()
    assert (points[found, 0] == points).all()
    assert nearest(points[:, :0], points[:5, :0], 3).shape == (5, 3)


# All together.


@pytest.mark.parametrize("unit", [5e-324, 1.7e308])
def test_the_smallest_and_the_largest_numbers_are_numbers(unit):
    points = np.random.default_rng(0).uniform(size=(40, 2))
    waves = np.sin(3.0 * points[:, :1])
    waves = np.round(waves) if unit < 1.0 else waves / np.abs(waves).max()
    with np.errstate(all="raise", under="ignore"):
        found = estimates(points[:30], waves[:30] * unit, points[30:], thorough=False)
    assert (np.abs(found.values / unit - waves[30:]) <= (1.0 if unit < 1.0 else 0.01)).all()
    assert (found.stderr >= np.finfo(float).tiny).all()


def test_without_a_difference_an_answer_may_yet_be_another_once_in_so_many():
    points = RNG.normal(size=(39, 2))
    for level in (7.0, -7e200, 0.0):
        found = estimates(points, np.full((39, 1), level), points[:4] + 0.1)
        assert (found.values == level).all()
        np.testing.assert_allclose(found.stderr, abs(level) / 40, atol=1e-300)
        assert (found.stderr > 0.0).all()
        assert found.left_out[0] == 0.0


@pytest.mark.parametrize("unit", [1.0, 1e-200, 1e200])
def test_what_is_estimated_in_deviations_comes_back_in_the_units_of_the_answers(unit, monkeypatch):
    """A constant output between two others, and an input that never varied but in one wanted point."""
    points = np.hstack([RNG.normal(size=(20, 2)), np.ones((20, 1))])
    wanted = points[:4] + np.array([0.1, 0.1, 0.0])
    wanted[3, 2] = 2.0
    answers = np.stack(
        [RNG.normal(size=20), np.full(20, -7.0), 3.0 + 1e-3 * RNG.normal(size=20)], axis=1
    )
    means, errors = RNG.normal(size=(24, 2)), np.full((4, 2), 0.3)
    errors[1] = 1e-12
    variances, seen = RNG.uniform(1, 2, (24, 2)), []
    scales = np.array([2.0, 0.5])

    def jointly(known, scaled):
        np.testing.assert_allclose(scaled.mean(axis=0), 0.0, atol=1e-8)
        np.testing.assert_allclose(scaled.std(axis=0), 1.0)
        return Candidate(("one", "two"), scales, means, variances)

    def correct(points, residuals, said, wanted, variances, *, by_place):
        assert by_place
        seen.extend([points, residuals, said, wanted, variances])
        return np.concatenate([np.ones((20, 2)), errors])  # first of what is left out

    put(monkeypatch, "jointly", jointly)
    put(monkeypatch, "calibrated", correct)
    put(monkeypatch, "_inflation", lambda *_: 2.0)
    found = estimates(points, unit * answers, wanted, thorough=False)
    middle, spread = answers.mean(axis=0)[::2], answers.std(axis=0)[::2]
    known = Points(points, wanted, 0, lambda: math.inf, thorough=False, each=map)
    standard = (answers[:, ::2] - middle) / spread
    places = np.concatenate([known.points, known.wanted]) * scales
    expected = places[:20], standard - means[:20], variances[:20], places, variances
    for one, other in zip(seen, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.values[:, ::2] / unit, middle + spread * means[20:])
    wide = np.full((4, 2), 0.6)
    wide[1] = 1e-9
    wide[3] = math.hypot(0.6, 1.0)
    np.testing.assert_allclose(found.stderr[:, ::2] / unit, spread * wide)
    off = np.sqrt(((standard - means[:20]) ** 2).mean(axis=0))
    np.testing.assert_allclose(found.left_out / unit, [spread[0] * off[0], 0.0, spread[1] * off[1]])
    assert (found.values[:, 1] == -7.0 * unit).all()
    np.testing.assert_allclose(found.stderr[:, 1] / unit, 7.0 / 21)
    assert found.methods == ("one", "constant", "two")


@pytest.mark.parametrize(
    ("rows", "dimensions", "lengths"), [(29, 3, 1), (30, 3, 3), (10, 3, 1), (50, 5, 5), (24, 25, 1)]
)
def test_errors_are_widened_by_the_numbers_that_answers_have_chosen(
    rows, dimensions, lengths, monkeypatch
):
    asked = []
    put(monkeypatch, "_inflation", lambda *given: asked.append(given) or 3.0)
    rng = np.random.default_rng(0)
    points = rng.normal(size=(rows + 5, dimensions))
    answers = rng.normal(size=(rows, 1))
    wide = estimates(points[:rows], answers, points[rows:])
    assert asked == [(rows, lengths)]
    put(monkeypatch, "_inflation", lambda *_: 1.0)
    narrow = estimates(points[:rows], answers, points[rows:])
    np.testing.assert_allclose(wide.stderr, 3.0 * narrow.stderr)


@pytest.mark.parametrize("rows", [2, 4, 5])
def test_fewer_than_five_answers_are_estimated_by_their_mean(rows):
    points = RNG.normal(size=(rows + 3, 2))
    answers = points[:rows, :1] * 2.0
    found = estimates(points[:rows], answers, points[rows:])
    assert (found.methods == ("mean",)) >= (rows < 5)
    if rows < 5:
        np.testing.assert_allclose(found.values, answers.mean())
        others = (answers.sum() - answers) / (rows - 1)
        assert found.left_out[0] == pytest.approx(np.sqrt(((others - answers) ** 2).mean()))


def test_of_very_many_answers_a_thousand_are_left_out():
    known = points_of(1200, columns=1)
    assert len(known.sample) == len({*known.sample}) == 1000
    found = by_mean(known, known.points)
    every = (known.points.sum() - known.points[known.sample]) / 1199
    np.testing.assert_allclose(found.means[:1000], every)


def test_a_process_of_as_few_points_as_columns_of_the_mean_is_no_obstacle():
    points = RNG.normal(size=(3, 2))
    fitted = Fitted(points, points[:, :1], Kernel(np.ones(2), 1e-6, "matern52", linear=True))
    assert np.isfinite(fitted.predict(points)[0]).all()
