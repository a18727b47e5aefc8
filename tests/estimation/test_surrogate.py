"""Estimates from all answers: as good as others', in any units, with standard errors that hold."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
import scipy
from hypothesis import strategies as st
from scipy.interpolate import RBFInterpolator
from sklearn.ensemble import HistGradientBoostingRegressor

from codedmap.estimation import gaussian
from codedmap.estimation.calibration import calibrated
from codedmap.estimation.losses import dependence
from codedmap.estimation.points import Points
from codedmap.estimation.space import Space
from codedmap.estimation.surrogate import estimates
from codedmap.estimation.transforms import NONE, Transform, transforms

from ..repeats import drawn, first


def wave(x):
    return np.sin(4 * x[:, 0]) + x[:, 1] * x[:, 2]


def jump(x):
    return np.where(x[:, 0] + 0.5 * x[:, 1] > 0.8, 3.0, 0.0) + x[:, 2]


def orders(x):
    return np.exp(6 * x[:, 0]) * (1 + x[:, 1])


def noisy(x):
    return x[:, 0] + 0.3 * np.random.default_rng(9).standard_normal(len(x))


def friedman(x):
    return np.sin(np.pi * x[:, 0] * x[:, 1]) + 2 * (x[:, 2] - 0.5) ** 2 + x[:, 3] + 0.5 * x[:, 4]


FUNCTIONS = [wave, jump, orders, noisy]


def split(fn, rows: int = 300, dimensions: int = 4, seed: int = 0):
    rng = np.random.default_rng(seed)
    points = rng.uniform(size=(rows, dimensions))
    answers = fn(points)
    lost = rng.random(rows) < 0.2
    return points[~lost], answers[~lost][:, None], points[lost], answers[lost][:, None]


def error(found: np.ndarray, truth: np.ndarray) -> float:
    return float(np.sqrt(((found - truth) ** 2).mean()))


@pytest.mark.parametrize("fn", first(2, FUNCTIONS))
def test_it_is_as_good_as_the_best_of_others(fn):
    points, answers, wanted, truth = split(fn)
    found = estimates(points, answers, wanted)
    near = ((wanted[:, None] - points) ** 2).sum(axis=2).argmin(axis=1)
    others = [
        np.full_like(truth, answers.mean()),
        answers[near],
        RBFInterpolator(points, answers, neighbors=50)(wanted),
        HistGradientBoostingRegressor(random_state=0)
        .fit(points, answers[:, 0])
        .predict(wanted)[:, None],
    ]
    assert error(found.values, truth) < 1.1 * min(error(other, truth) for other in others)


@pytest.mark.parametrize("fn", first(1, FUNCTIONS))
def test_standard_errors_hold(fn):
    ratios = []
    for seed in range(3):
        points, answers, wanted, truth = split(fn, seed=seed)
        found = estimates(points, answers, wanted)
        ratios.append((found.values - truth) / found.stderr)
        assert (found.stderr > 0).all()
    ratio = np.concatenate(ratios)
    assert 0.6 < np.sqrt((ratio**2).mean()) < 1.5
    assert 0.88 < (np.abs(ratio) < 2).mean() < 0.995


def test_standard_errors_widen_outside_the_sample():
    points, answers, wanted, _ = split(wave)
    inside, outside = (estimates(points, answers, w).stderr for w in (wanted, wanted + 2.0))
    assert np.median(outside) > 10 * np.median(inside)


def test_few_answers_tell_which_inputs_matter():
    rng = np.random.default_rng(0)
    points = rng.uniform(size=(50, 4))
    answers = np.exp(2.0 * points[:, :1])
    found = estimates(points[:15], answers[:15], points[15:])
    assert error(found.values, answers[15:]) < 0.1 * answers.std()


@pytest.mark.parametrize(
    ("fn", "bounds"),
    first(
        2,
        [
            (lambda total: np.maximum(0.0, total - 1.0), (0.0, np.inf)),
            (lambda total: (total > 1.0) * 1.0, (0.0, 1.0)),
            (lambda total: np.floor(np.maximum(0.0, 5.0 * total - 4.0)), (0.0, np.inf)),
            (lambda total: 1.0 / (1.0 + np.exp(20.0 * (1.0 - total))), (-1e-4, 1.0 + 1e-4)),
        ],
    ),
    ids=["part of a plane", "0 and 1", "counts", "a share"],
)
def test_estimates_keep_to_bounds_that_many_answers_are_near_to(fn, bounds):
    points = np.random.default_rng(0).random((300, 2))
    found = estimates(points[:200], fn(points[:200].sum(axis=1, keepdims=True)), points[200:])
    assert bounds[0] <= found.values.min() <= found.values.max() <= bounds[1]


def test_standard_errors_are_smaller_where_estimates_are_pulled_back_to_a_bound():
    def melt(x):
        return np.maximum(0.0, np.sin(4.0 * x[:, 0]) + x[:, 1] - x[:, 2])

    points, answers, wanted, truth = split(melt, 400, 3)
    found = estimates(points, answers, wanted)
    at, off = found.values == 0.0, np.abs(found.values - truth) / found.stderr
    assert 5.0 * np.median(found.stderr[at]) < np.median(found.stderr[~at])
    assert (off[at] < 2.0).mean() > 0.88
    assert 0.88 < (off[~at] < 2.0).mean() < 0.995


def test_estimates_are_beyond_such_bounds_where_that_is_certain():
    points = np.linspace(-0.05, 1.0, 106)[:, None]
    answers = points**3  # of those from 0 on many are near 0
    found = estimates(points[5:], answers[5:], points[:5])
    assert found.values[0, 0] < 0.5 * answers[0, 0] < 0.0


def test_a_single_uncertain_estimate_is_not_further_beyond_the_answers_than_these_extend():
    """Of a logarithm it was once 11 times so far, and its standard error half of that."""
    rng = np.random.default_rng(8)
    points = rng.uniform(-1.0, 1.0, (90, 5))
    waves, slope = (points @ rng.normal(size=(5, 1)) for _ in range(2))
    answers = np.exp(4.0 * np.sin(1.5 * waves) + 3.0 * slope)
    found = estimates(points[:60], answers[:60], points[60:])
    highest, extent = answers[:60].max(), np.ptp(answers[:60])
    at = found.values.argmax()
    assert found.values[at, 0] == pytest.approx(highest + extent)
    assert found.stderr[at, 0] > 0.5 * (answers[60 + at, 0] - found.values[at, 0])


def test_where_the_end_of_a_growing_function_is_lost_estimates_go_on():
    points = np.linspace(0.0, 1.0, 60)[:, None]
    answers = points**8
    found = estimates(points[:50], answers[:50], points[50:])
    assert found.values.max() > 2.5 * answers[:50].max()


@pytest.mark.parametrize("curve", [np.sin, lambda x: np.exp(x / 3.0)])
def test_standard_errors_hold_where_the_end_of_a_grid_is_lost(curve):
    points = np.linspace(0.0, 6.0, 200)[:, None]
    answers = curve(points)
    found = estimates(points[:160], answers[:160], points[160:])
    off = (found.values - answers[160:]) / found.stderr
    assert 0.3 < np.sqrt((off**2).mean()) < 2.0
    # Between answers nothing changes: each has others around it, as those that are left out have.
    assert estimates(points[::2], answers[::2], points[1:-1:2]).stderr.max() < 1e-4 * answers.std()


def test_an_input_that_never_varied_may_matter_as_much_as_all_others():
    rng = np.random.default_rng(0)
    kinds = np.eye(3)[np.arange(90) // 30]
    points = np.hstack([rng.uniform(size=(90, 2)), kinds])
    answers = points[:, :1] ** 2 + kinds @ [[0.0], [1.0], [3.0]]
    found = estimates(points[:60], answers[:60], points[60:])
    off = (found.values - answers[60:]) / found.stderr
    assert np.abs(off).max() < 5.0
    assert (found.stderr > answers[:60].std()).all()


@drawn(3, 10, st.integers(0, 100), st.floats(-9, 9), st.floats(-9, 9), st.floats(-3, 3))
def test_units_do_not_matter(seed, inputs, outputs, shift):
    points, answers, wanted, truth = split(wave, rows=60, seed=seed)
    plain = estimates(points, answers, wanted)
    factors = 10.0 ** np.array([inputs, -inputs, 0.0, 1.0])
    unit = 10.0**outputs
    other = estimates(points * factors, unit * (answers + shift), wanted * factors)
    spread = answers.std()
    assert error(other.values / unit - shift, plain.values) < 0.02 * spread
    assert np.median(other.stderr / unit / plain.stderr) == pytest.approx(1.0, rel=0.2)
    assert 0.1 < np.sqrt((((plain.values - truth) / plain.stderr) ** 2).mean()) < 3.0


@pytest.mark.slow
def test_several_outputs_each_have_a_kernel_of_their_own():
    points, _, wanted, _ = split(wave)
    answers = np.stack([wave(points), np.sin(9 * points[:, 3])], axis=1)
    found = estimates(points, answers, wanted)
    truth = np.stack([wave(wanted), np.sin(9 * wanted[:, 3])], axis=1)
    for column in range(2):
        alone = estimates(points, answers[:, column : column + 1], wanted)
        np.testing.assert_allclose(
            found.values[:, column], alone.values[:, 0], rtol=1e-6, atol=1e-8
        )
        assert error(found.values[:, column], truth[:, column]) < 0.02


@pytest.mark.slow
def test_an_output_is_estimated_as_well_beside_a_dozen_others():
    rng = np.random.default_rng(0)
    points = rng.random((120, 3))
    first = np.exp(5 * np.sin(2 * points[:, :1]) + 3 * points[:, 1:2] * points[:, 2:])
    others = np.sin(2 * points @ rng.normal(size=(3, 12)))
    answers = np.hstack([first, others])
    found = estimates(points[:90], answers[:90], points[90:])
    assert np.abs(found.values - answers[90:])[:, 0].max() < 0.003 * first.std()
    assert "logarithm" in found.methods[0]


@pytest.mark.slow
def test_many_outputs_by_their_components():
    points, _, wanted, _ = split(wave)
    along = np.linspace(0, 1, 50)

    def profile(x):
        return wave(x)[:, None] * along + np.cos(3 * x[:, 1:2] + along) + 0.01 * x[:, 3:] * along**2

    found = estimates(points, profile(points), wanted)
    truth = profile(wanted)
    assert found.values.shape == truth.shape
    ratio = (found.values - truth) / found.stderr
    assert error(found.values, truth) < 0.01 * truth.std()
    assert 0.5 < np.sqrt((ratio**2).mean()) < 1.6


@pytest.mark.slow
def test_many_columns_by_their_directions():
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal((300, 3))
    points = hidden @ rng.standard_normal((3, 200)) + 0.01 * rng.standard_normal((300, 200))
    answers = np.sin(hidden[:, :1]) + hidden[:, 1:2]
    found = estimates(points[:250], answers[:250], points[250:])
    assert error(found.values, answers[250:]) < 0.1


@pytest.mark.parametrize("rows", first(1, [250, 700]))
def test_a_function_of_a_few_combinations_of_its_inputs_is_estimated_along_these(rows):
    along = np.random.default_rng(4).standard_normal((8, 2))

    def ridges(x):
        one, other = ((x - 0.5) @ along).T
        return np.sin(2 * one) + 0.3 * other**2

    points, answers, wanted, truth = split(ridges, rows, 8)
    found = estimates(points, answers, wanted)
    assert "rotated inputs" in found.methods[0]
    # A process with a length scale for each input is off by 0.11 and 0.03 of the deviation.
    assert error(found.values, truth) < 0.01 * truth.std()
    ratios = (found.values - truth) / found.stderr
    assert 0.4 < np.sqrt((ratios**2).mean()) < 1.6


@pytest.mark.parametrize("seed", first(1, range(3)))
def test_directions_that_answers_have_chosen_make_no_standard_error_too_small(seed):
    def rectified(x):
        return np.maximum(0.0, np.sin(3 * x[:, 0]) + x[:, 1] - x[:, 2] - 0.6)

    points, answers, wanted, truth = split(rectified, 1000, 5, seed)
    few = slice(150)
    found = estimates(points[few], answers[few], np.concatenate([points[150:], wanted]))
    assert "rotated inputs" in found.methods[0]
    off = found.values - np.concatenate([answers[150:], truth])
    assert np.sqrt(((off / found.stderr) ** 2).mean()) < 1.4
    assert 0.6 < error(off, 0.0) / found.left_out[0] < 1.6


@pytest.mark.parametrize(
    ("rows", "inputs", "used"), [(49, 4, False), (50, 4, True), (59, 12, False)]
)
def test_too_few_answers_choose_no_directions(rows, inputs, used, monkeypatch):
    rotated, plain = [], Points.rotated
    monkeypatch.setattr(Points, "rotated", lambda *given: rotated.append(1) or plain(*given))
    points = np.random.default_rng(0).uniform(size=(rows, inputs))
    answers = np.sin(3.0 * points.sum(axis=1))[:, None]
    estimates(points, answers, points[:1] + 0.01)
    assert bool(rotated) == used


@pytest.mark.parametrize("fn", first(1, [friedman, noisy]))
def test_inputs_that_matter_each_by_itself_are_not_rotated(fn):
    points, answers, wanted, _ = split(fn, 200, 10)
    assert "rotated" not in estimates(points, answers, wanted).methods[0]


def test_few_answers_of_many_inputs_of_which_some_matter():
    points = np.random.default_rng(0).random((290, 20))
    answers = np.sin(np.pi * points[:, :1] * points[:, 1:2]) + 2 * (points[:, 2:3] - 0.5) ** 2
    answers += points[:, 3:4]
    found = estimates(points[:90], answers[:90], points[90:])  # fewer than five an input
    assert error(found.values, answers[90:]) < 0.3 * answers.std()
    ratio = (found.values - answers[90:]) / found.stderr
    assert 0.5 < np.sqrt((ratio**2).mean()) < 1.6


@pytest.mark.slow
@pytest.mark.parametrize(("inputs", "rows"), first(1, [(60, 200), (35, 200), (150, 300)]))
def test_a_few_of_many_inputs_matter(inputs, rows):
    """Principal components say nothing of inputs that do not go together."""
    points = np.random.default_rng(0).random((rows + 200, inputs))
    answers = np.sin(3 * points[:, :1]) * points[:, 7:8] + points[:, 31:32] ** 2
    found = estimates(points[:rows], answers[:rows], points[rows:])
    assert error(found.values, answers[rows:]) < 0.05 * answers.std()
    ratio = (found.values - answers[rows:]) / found.stderr
    assert 0.2 < np.sqrt((ratio**2).mean()) < 1.6


@pytest.mark.parametrize(("thorough", "most"), first(1, [(False, 0.5), (True, 0.3)]))
def test_a_function_that_winds_along_a_few_of_many_inputs_is_no_noise(thorough, most):
    """A search that begins with equal length scales for all 20 ends where noise explains the answers."""
    points = np.random.default_rng(8).uniform(-np.pi, np.pi, (400, 20))
    first, second, third = points[:, :3].T
    answers = (np.sin(first) + 7 * np.sin(second) ** 2 + 0.1 * third**4 * np.sin(first))[:, None]
    found = estimates(points[:200], answers[:200], points[200:], thorough=thorough)
    assert error(found.values, answers[200:]) < most * answers.std()


def test_what_all_of_several_inputs_do_is_no_noise():
    """A Matérn process is likeliest where two inputs explain the answers and noise does the rest: 0.47 deviations off."""
    points = np.random.default_rng(3).uniform(0.0, 2.0 * np.pi, (400, 4))
    first, second, third, fourth = points.T
    answers = np.cos(first - second) + 0.5 * np.cos(third + fourth - 2.0 * first)
    found = estimates(points[:200], answers[:200, None], points[200:])
    assert error(found.values, answers[200:, None]) < 0.1 * answers.std()


@pytest.mark.parametrize("rows", first(1, [300, 1000]))
def test_standard_errors_hold_where_a_smooth_function_has_many_answers(rows):
    """The covariance is nearly singular: a product with its inverse was off by a thousand standard errors."""
    points = np.sort(np.random.default_rng(5).uniform(0, 30, (rows + 200, 1)), axis=0)
    answers = np.sin(points) * np.exp(-points / 20)
    lost = np.random.default_rng(0).permutation(rows + 200)[:200]
    kept = np.setdiff1d(np.arange(rows + 200), lost)
    found = estimates(points[kept], answers[kept], points[lost])
    ratio = (found.values - answers[lost]) / found.stderr
    assert error(found.values, answers[lost]) < 1e-5 * answers.std()
    assert 0.5 < np.sqrt((ratio**2).mean()) < 2.0


@pytest.mark.slow
def test_many_inputs_in_units_of_their_own():
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal((200, 35))
    points = hidden * 10.0 ** rng.integers(-6, 6, 35)
    smooth, stepped = hidden[:, :5].sum(axis=1), np.where(hidden[:, 7] > 0, 3.0, 0.0)
    answers = np.stack([smooth, stepped], axis=1)
    found = estimates(points[:150], answers[:150], points[150:])
    assert error(found.values[:, 0], smooth[150:]) < 0.01  # a plane
    assert error(found.values[:, 1], stepped[150:]) < 0.5  # trees, which see the inputs themselves


@pytest.mark.parametrize("rows", [2, 3, 4, 5, 7, 12])
def test_few_answers(rows):
    points, answers, wanted, _ = split(wave)
    found = estimates(points[:rows], answers[:rows], wanted)
    assert np.isfinite(found.values).all()
    assert (found.stderr > 0).all()
    assert np.isfinite(found.stderr).all()


@pytest.mark.parametrize("unit", first(2, [1e-300, 1e300, 1e-12, 1e12]))
def test_numbers_of_any_size(unit):
    points, answers, wanted, truth = split(wave)
    found = estimates(points, unit * answers, wanted)
    assert error(found.values / unit, truth) < 0.05
    assert (found.stderr > 0).all()


def test_constant_outputs_and_equal_inputs():
    points, answers, wanted, _ = split(wave)
    found = estimates(points, np.full_like(answers, 7.0), wanted)
    np.testing.assert_allclose(found.values, 7.0)
    assert (found.stderr > 0).all()
    assert found.methods == ("constant",)
    found = estimates(np.ones_like(points), answers, np.ones_like(wanted))
    np.testing.assert_allclose(found.values, answers.mean())
    np.testing.assert_allclose(found.stderr, answers.std(), rtol=0.1)


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("lost", [2, 6])
def test_a_level_without_an_answer_is_not_known_from_copies_of_others(lost, noise):
    rng = np.random.default_rng(lost)
    levels = np.repeat(np.arange(7.0), 20)[:, None]
    answers = levels**2 + noise * rng.standard_normal((140, 1))
    kept = levels[:, 0] != lost
    found = estimates(levels[kept], answers[kept], np.array([[float(lost)], [3.0]]))
    off = np.abs(found.values[:, 0] - [lost**2, 9.0])
    assert (off < 3.0 * found.stderr[:, 0]).all()
    assert off[1] < 0.1


def test_repeats_without_a_pattern_are_known_from_their_copies_alone():
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 3, size=(300, 3)).astype(float)
    truth = rng.standard_normal(27)[levels.astype(int) @ [1, 3, 9]]
    answers = np.stack([truth, truth + 0.1 * rng.standard_normal(300)], axis=1)
    found = estimates(levels[:200], answers[:200], levels[200:])
    off = found.values - answers[200:]
    assert np.sqrt((off[:, 0] ** 2).mean()) < 0.01
    assert 0.7 < np.sqrt(((off / found.stderr)[:, 1] ** 2).mean()) < 1.4
    assert found.left_out[0] < 0.01
    assert 0.08 < found.left_out[1] < 0.13


def test_where_copies_agree_a_standard_error_is_that_of_the_value_returned():
    """It was a billionth of a deviation, beside the value of a process that was off by more; the copies are exact."""
    rng = np.random.default_rng(1)
    points = rng.integers(0, 6, size=(120, 3)).astype(float)
    truth = np.sin(points[:, :1]) * points[:, 1:2]
    found = estimates(points[:84], truth[:84], points[84:])
    off = np.abs(found.values - truth[84:])
    assert (off < 5.0 * found.stderr).all()
    again = (points[84:, None] == points[:84]).all(axis=2).any(axis=1)
    assert again.sum() > 3
    assert off[again].max() < 1e-14
    assert off[~again].min() > 1e-14


def test_copies_of_all_answers_change_no_estimate():
    """The inputs as they are were preferred to their logarithms: copies made both seem free of errors."""
    points = 10.0 ** np.random.default_rng(0).uniform(-3.0, 3.0, size=(60, 2))
    answers = points[:, :1] / points.sum(axis=1, keepdims=True)
    known, given = points[:48], answers[:48]
    alone = estimates(known, given, points[48:]).values
    copied = estimates(np.tile(known, (2, 1)), np.tile(given, (2, 1)), points[48:]).values
    np.testing.assert_allclose(copied, alone, rtol=0.0, atol=1e-6)


def test_the_next_label_may_be_wrong_where_none_was():
    """Trees knew each level that was left out, and standard errors were a millionth of the error at the next jump."""
    points = np.random.default_rng([1, 90]).random((150, 5))
    levels = np.floor(3.0 * points[:, :1])
    found = estimates(points[:90], levels[:90], points[90:])
    assert found.left_out[0] < 0.01
    assert np.sqrt((((found.values - levels[90:]) / found.stderr) ** 2).mean()) < 3.0


@pytest.mark.slow
def test_few_answers_that_differ_from_all_others_may_not_be_among_those_that_choose():
    points = np.random.default_rng(0).uniform(size=(420, 2))
    answers = np.zeros((400, 1))
    answers[np.random.default_rng(0).permutation(400)[-1]] = 1.0
    found = estimates(points[:400], answers, points[400:])
    assert np.abs(found.values).max() < 0.5
    assert (found.stderr > 0).all()


@pytest.mark.parametrize("level", first(1, [1e9, -1e-200]))
def test_what_varies_little_has_a_standard_error_of_its_own_size(level):
    points, answers, wanted, truth = split(wave)
    for size in (1e-5 * abs(level), 1e-15 * abs(level)):  # and about as much as numbers are rounded
        found = estimates(points, level + size * answers, wanted)
        rounding = np.finfo(float).eps * abs(level)
        assert (found.stderr > 0.9 * rounding).all()
        assert (found.stderr < 0.5 * size * answers.std() + 10 * rounding).all()
        assert error(found.values, level + size * truth) < 0.2 * size * answers.std() + rounding


@pytest.mark.slow
def test_of_many_outputs_smooth_ones_are_not_estimated_by_those_that_are_rough():
    rng = np.random.default_rng(0)
    inputs = rng.uniform(size=(160, 3))
    phases = np.linspace(0.0, 12.0, 30)
    answers = np.sin(inputs @ np.outer([1.0, 0.5, 0.7], phases**1.5) + phases)
    found = estimates(inputs[:120], answers[:120], inputs[120:])
    off = np.sqrt(((found.values - answers[120:]) ** 2).mean(axis=0))
    assert off[:4].max() < 0.03


@pytest.mark.slow
def test_outputs_that_share_no_kernel_with_a_component_have_one_of_their_own():
    inputs = np.random.default_rng(1).uniform(size=(160, 3))
    phases = np.linspace(0.0, 12.0, 40)
    answers = np.sin(inputs @ np.outer([1.0, 0.5, 0.7], phases**1.5) + phases)
    found = estimates(inputs[:120], answers[:120], inputs[120:])
    off = np.sqrt(((found.values - answers[120:]) ** 2).mean(axis=0))
    assert off[:6].max() < 3e-3


def test_constant_outputs_of_many_inputs():
    points = np.random.default_rng(0).uniform(size=(60, 40))
    found = estimates(points, np.full((60, 1), 7.0), points + 0.1)
    assert found.methods == ("constant",)


def test_a_spline_that_is_singular_is_left_out(monkeypatch):
    asked = []

    def singular(*arguments, **options):
        asked.append(arguments)
        raise np.linalg.LinAlgError("the nearest answers lie in a plane")

    monkeypatch.setattr("scipy.interpolate.RBFInterpolator", singular)
    points, answers, wanted, truth = split(jump, rows=120)
    found = estimates(points, answers, wanted)
    assert asked
    assert error(found.values, truth) < 0.5 * answers.std()
    assert (found.stderr > 0).all()


def test_without_time_there_are_means_of_neighbours():
    points, answers, wanted, truth = split(wave)
    found = estimates(points, answers, wanted, time_left=lambda: 0.0)
    assert "neighbours" in found.methods[0]
    assert error(found.values, truth) < answers.std()
    ratio = (found.values - truth) / found.stderr
    assert 0.6 < np.sqrt((ratio**2).mean()) < 1.5


def test_the_same_answers_give_the_same_estimates():
    points, answers, wanted, _ = split(wave, rows=200)
    one, two = (estimates(points, answers, wanted, seed=3) for _ in range(2))
    np.testing.assert_array_equal(one.values, two.values)
    np.testing.assert_array_equal(one.stderr, two.stderr)


def test_an_output_that_is_smooth_in_inputs_over_orders_is_estimated_in_these():
    """A line over three orders of magnitude was off by a tenth of its deviation."""
    rng = np.random.default_rng(0)
    points = 10.0 ** rng.uniform(0, 3, size=(80, 2))
    orders = np.log10(points)
    answers = np.stack([points @ [1.0, 2.0], np.sin(3 * orders[:, 0]) * orders[:, 1]], axis=1)
    found = estimates(points[:60], answers[:60], points[60:])
    off = np.abs(found.values - answers[60:])
    assert (off < 1e-3 * answers.std(axis=0)).all()
    assert (off < 5.0 * found.stderr).all()
    assert (found.left_out < 1e-2 * answers.std(axis=0)).all()


def test_a_column_over_orders_of_magnitude_goes_by_its_logarithm():
    rng = np.random.default_rng(0)
    points = np.stack([10.0 ** rng.uniform(-6, 0, 200), rng.uniform(1, 200, 200)], axis=1)
    seen = Space.of(points).seen(points)
    logarithm = np.log10(points[:, 0])
    np.testing.assert_allclose(seen[:, 0], (logarithm - logarithm.mean()) / logarithm.std())
    np.testing.assert_allclose(
        seen[:, 1], (points[:, 1] - points[:, 1].mean()) / points[:, 1].std()
    )


@pytest.mark.parametrize("transform", [NONE, Transform("logarithm"), Transform("asinh", 0.3, 0.7)])
def test_means_and_variances_come_back_from_another_scale(transform):
    values = np.array([0.5, 1.0, 4.0])
    there = transform.there(values)
    means, variances = transform.back(there, np.full(3, 1e-12))
    np.testing.assert_allclose(means, values, rtol=1e-9)
    draws = there + 0.4 * np.random.default_rng(0).standard_normal((400_000, 3))
    if transform.name == "logarithm":
        back = np.exp(draws)
    elif transform.name == "asinh":
        back = np.sinh(draws) * 0.7 + 0.3
    else:
        back = draws
    means, variances = transform.back(there, np.full(3, 0.16))
    np.testing.assert_allclose(means, back.mean(axis=0), rtol=0.01)
    np.testing.assert_allclose(variances, back.var(axis=0), rtol=0.03)


@pytest.mark.parametrize("name", ["logarithm", "asinh"])
def test_of_an_output_and_its_negative_one_is_estimated_as_the_other(name):
    values = np.exp(np.random.default_rng(0).standard_normal(50)) + 0.2
    [one] = [t for t in transforms(values, 0.1) if t.name == name]
    [other] = [t for t in transforms(-values, -0.1) if t.name == name]
    there = one.there(values)
    mirrored = other.there(-values)
    np.testing.assert_array_equal(mirrored, there if name == "logarithm" else -there)
    means, variances = one.back(there, np.full(50, 0.2))
    negative, same = other.back(mirrored, np.full(50, 0.2))
    np.testing.assert_allclose(negative, -means, rtol=1e-12)
    np.testing.assert_allclose(same, variances, rtol=1e-12)


def test_losses_are_estimated_as_well_as_gains():
    rng = np.random.default_rng(0)
    points = rng.random((120, 3))
    gains = np.exp(5 * np.sin(2 * points[:, :1]) + 3 * points[:, 1:2] * points[:, 2:])
    for sign in (1.0, -1.0):
        found = estimates(points[:90], sign * gains[:90], points[90:])
        off = np.abs(found.values - sign * gains[90:]).max()
        assert off < 0.003 * gains.std()
        assert "logarithm" in found.methods[0]


def test_other_scales_are_tried_for_skewed_outputs_only():
    rng = np.random.default_rng(0)
    assert [t.name for t in transforms(rng.standard_normal(500), 0.0)] == []
    assert "logarithm" in [t.name for t in transforms(np.exp(2 * rng.standard_normal(500)), 0.0)]
    assert [t.name for t in transforms(rng.standard_t(2, 500), 0.0)] == ["asinh"]


def test_errors_are_calibrated_around_a_point():
    rng = np.random.default_rng(0)
    points = rng.uniform(size=(800, 1))
    spread = np.where(points[:, 0] < 0.5, 0.1, 1.0)
    residuals = (spread * rng.standard_normal(800))[:, None]
    wanted = np.array([[0.25], [0.75]])
    said, wide = np.full((800, 1), 4.0), np.full((2, 1), 4.0)
    low, high = calibrated(points, residuals, said, wanted, wide)[:, 0]
    assert high > 3 * low
    even = calibrated(points, rng.standard_normal((800, 1)), said, wanted, wide)
    np.testing.assert_allclose(even, 1.0, rtol=0.15)


def test_residuals_of_nothing_are_no_obstacle():
    points = np.random.default_rng(0).uniform(size=(80, 1))
    said = np.ones((80, 1))
    assert (calibrated(points, np.zeros((80, 1)), said, points[:5], said[:5]) > 0).all()


@pytest.mark.parametrize("seed", range(3))
def test_losses_in_a_region_are_named(seed):
    rng = np.random.default_rng(seed)
    points = rng.uniform(size=(300, 5))
    lost = (points[:, 2] > 0.7) & (points[:, 4] < 0.6)
    said = dependence(points, lost, list("abcde"), 0)
    assert said is not None
    assert "c > 0.7" in said
    assert "e <= 0.6" in said or "e <= 0.5" in said
    assert "100% are lost" in said


@pytest.mark.parametrize("quick", first(1, [True, False]))
def test_losses_at_random_are_not_remarked(quick):
    remarks = 0
    for seed in range(60 if quick else 6):
        rng = np.random.default_rng(seed)
        points = rng.uniform(size=(200, 5))
        remarks += (
            dependence(points, rng.random(200) < 0.2, list("abcde"), 0, quick=quick) is not None
        )
        often = np.repeat(points[:50], 4, axis=0)
        lost = np.repeat(rng.random(50) < 0.2, 4)
        remarks += dependence(often, lost, list("abcde"), 0, quick=quick) is not None
    assert remarks == 0


@pytest.mark.parametrize("quick", [False, True])
def test_losses_of_a_small_region_among_others_are_named(quick):
    rng = np.random.default_rng(0)
    points = rng.uniform(size=(200, 5))
    lost = (points[:, 2] > 0.93) | (rng.random(200) < 0.1)
    assert "rows with c > 0.9" in (dependence(points, lost, list("abcde"), 0, quick=quick) or "")


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize(
    ("flag", "name", "region"),
    [(1, "kind = q", "kind = q"), (0, "kind = q", "kind != q"), (1, "on", "on > 0.5")],
)
def test_a_region_of_text_is_named_by_the_text(flag, name, region, quick):
    rng = np.random.default_rng(0)
    points = np.stack([rng.random(200), rng.integers(0, 2, 200)], axis=1)
    lost = (points[:, 1] == flag) | (rng.random(200) < 0.1)
    said = dependence(points, lost, ["a", name], 0, quick=quick)
    assert said is not None
    assert said.startswith(f"of the rows with {region} 100% are lost")


def test_a_search_ends_when_its_share_of_the_time_is_over(monkeypatch):
    points, answers, wanted, _ = split(wave, rows=1500)
    clock, steps = [100.0], []

    class Slow(gaussian.Deviance):
        def __call__(self, place):
            steps.append(clock[0])
            clock[0] -= 10.0
            return super().__call__(place)

    monkeypatch.setattr(gaussian, "Deviance", Slow)
    found = estimates(points, answers, wanted, time_left=lambda: clock[0])
    assert len(steps) <= 12
    assert np.isfinite(found.values).all()
    assert math.isfinite(found.left_out[0])


@pytest.mark.slow
@pytest.mark.parametrize("outputs", first(1, [1, 30]))
def test_in_a_fifth_of_the_time_there_are_cheaper_estimates(outputs):
    rng = np.random.default_rng(0)
    inputs = rng.uniform(size=(6000, 5))
    answers = np.sin(inputs @ rng.normal(size=(5, outputs)))

    def seconds(allowed: float) -> tuple[float, np.ndarray]:
        begun = time.thread_time()
        found = estimates(
            inputs[:3000],
            answers[:3000],
            inputs[3000:],
            time_left=lambda: allowed - time.thread_time() + begun,
        )
        return time.thread_time() - begun, found.values

    seconds(0.2)  # also what is imported
    whole = seconds(3.0)[0]
    took, values = seconds(whole / 5.0)
    assert took < whole / 2.0
    assert error(values, answers[3000:]) < 0.2 * answers.std()


@pytest.mark.slow
def test_a_positive_output_of_many_orders_is_estimated_by_its_logarithm():
    rng = np.random.default_rng(0)
    inputs = rng.uniform(size=(200, 3))
    answers = np.exp(4.0 * np.sin(3.0 * inputs[:, :1]) + 3.0 * inputs[:, 1:2])
    for shift in (0.0, -answers.min()):
        found = estimates(inputs[:150], answers[:150] + shift, inputs[150:])
        assert ("of the logarithm" in found.methods[0]) == (shift == 0.0)
    found = estimates(inputs[:150], answers[:150], inputs[150:])
    assert error(found.values, answers[150:]) < 1e-4 * answers.std()


def test_estimates_are_made_after_an_import_that_was_interrupted(monkeypatch):
    """Ctrl-C in the first half second: what SciPy had loaded is no attribute of what is imported the next time."""
    monkeypatch.delattr(scipy.linalg, "lapack")
    x = np.random.default_rng(0).random((40, 3))
    assert np.isfinite(estimates(x, wave(x)[:, None], x[:5] + 0.01).values).all()
