"""Distances that count some directions of the inputs more than others, and how they are learned."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

import codedmap as cm
from codedmap.estimation.known import Background, Known
from codedmap.estimation.metric import Metric, Placed
from codedmap.estimation.process import sloped


def rows(count: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, columns))


def along_the_first(x: np.ndarray) -> np.ndarray:
    value: np.ndarray = np.sin(3.0 * x[:, 0]) + 0.1 * x[:, 1]
    return value


def alike(x: np.ndarray) -> np.ndarray:
    value: np.ndarray = np.exp(-0.5 * (x**2).sum(axis=1))
    return value


def decoded(code, inputs, fn, lost):
    encoding = code.encode(inputs)
    return encoding.decode({n: fn(encoding.payloads[n]) for n in range(code.workers) if n != lost})


@pytest.mark.parametrize("leaning", [False, True])
def test_scales_are_as_if_the_inputs_had_been_stretched(leaning):
    scales = (0.5, 1.0, 4.0)
    there, inputs = rows(30, 3), rows(10, 3, 1).reshape(5, 2, 3)
    known = cm.estimation.Known(there, along_the_first(there)) if leaning else None
    prior = cm.estimation.Prior(2.0, 1e-4)
    code = cm.KernelCode(5, 7, 2, 0.0, replace(prior, scales=scales), known)
    one = decoded(code, inputs, along_the_first, 3)
    stretched = np.array(scales)
    if known is not None:
        known = cm.estimation.Known(there * stretched, known.answers)
    other = decoded(
        cm.KernelCode(5, 7, 2, 0.0, prior, known),
        inputs * stretched,
        lambda x: along_the_first(x / stretched),
        3,
    )
    np.testing.assert_allclose(one.values, other.values, atol=1e-9)
    np.testing.assert_allclose(one.stderr, other.stderr, rtol=1e-6)
    assert not one.exact[3].any()


def test_scales_count_a_complex_number_as_two():
    inputs = (rows(10, 2, 1) + 1j * rows(10, 2, 2)).reshape(5, 2, 2)
    pairs = inputs.view(np.float64)
    prior = cm.estimation.Prior(2.0, 1e-4, scales=(1.0, 2.0, 3.0, 4.0))
    code = cm.KernelCode(5, 7, 2, 0.0, prior)
    one = decoded(code, inputs, lambda x: along_the_first(np.ascontiguousarray(x).view(float)), 3)
    other = decoded(code, pairs, along_the_first, 3)
    np.testing.assert_allclose(one.values, other.values, atol=1e-12)
    np.testing.assert_allclose(one.stderr, other.stderr, rtol=1e-9)


@pytest.mark.parametrize("shape", [(40, 3), (20, 60)])
@pytest.mark.parametrize("power", [-0.5, 0.25, 1.0])
def test_a_power_stretches_each_principal_direction_by_its_deviation(shape, power):
    inputs = rows(*shape) * np.geomspace(10.0, 0.5, shape[1])
    centred = inputs - inputs.mean(axis=0)
    metric = Metric.of(cm.estimation.Prior(1.0, power=power), centred)
    assert metric is not None
    deviations, directions = np.linalg.svd(centred, full_matrices=False)[1:]
    some = deviations > 0.3 * deviations[0]
    stretched = np.linalg.norm(metric.applied(directions[some]), axis=1)
    expected = deviations[some] ** power
    np.testing.assert_allclose(stretched / stretched[0], expected / expected[0], rtol=0.1)
    usual, seen = (
        Placed.of(inputs, prior).squared
        for prior in (cm.estimation.Prior(1.0), cm.estimation.Prior(1.0, power=power))
    )
    assert np.isclose(seen.mean(), usual.mean())


def test_slopes_are_those_of_the_correlations():
    squared, step = np.linspace(0.01, 9.0, 40), 1e-6
    for kind in ("matern32", "matern52", "gaussian"):
        _, slopes = sloped(squared.copy(), kind)
        above, below = (sloped(squared + one, kind)[0] for one in (step, -step))
        np.testing.assert_allclose(slopes, (above - below) / (2 * step), rtol=1e-5, atol=1e-9)


def test_columns_that_tell_nothing_are_found_and_estimates_are_the_better_for_it():
    there, fresh = rows(150, 5), rows(50, 5, 1).reshape(5, 10, 5)
    known = cm.estimation.Known(there, along_the_first(there))
    prior = known.likeliest
    assert prior.scales is not None
    assert prior.scales[0] > 5.0 * max(prior.scales[2:])

    def error(code):
        found = decoded(code, fresh, along_the_first, 2)
        truth = along_the_first(fresh[2])
        return np.sqrt(np.mean((found.values[2] - truth) ** 2))

    learned = cm.KernelCode(5, 5, 1, 0.0, known=known)
    assert learned.prior == prior
    plain = replace(learned, prior=cm.estimation.Prior(1.5, 1e-8, "gaussian"))
    assert error(learned) < 0.2 * error(plain)


def test_many_columns_get_a_power_where_little_varies_with_most_of_them():
    rng = np.random.default_rng(0)
    wide = rng.standard_normal((100, 200)) * np.geomspace(3.0, 0.3, 200)
    turned = wide @ np.linalg.qr(rng.standard_normal((200, 200)))[0]
    prior = cm.estimation.Known(turned, np.tanh(wide[:, :3])).likeliest
    assert prior.scales is None
    assert prior.power > 0.0


@pytest.mark.parametrize(
    ("inputs", "fn"),
    [
        (rows(150, 3), alike),  # no direction is like another, but none counts more
        (rows(15, 3), along_the_first),  # too few to tell
        (rows(150, 1), lambda x: np.sin(x[:, 0])),
        (rows(150, 3), lambda x: np.ones(len(x))),
        (np.ones((150, 3)), lambda x: rows(len(x), 1)[:, 0]),
    ],
    ids=["alike", "few", "one column", "constant", "equal inputs"],
)
def test_the_usual_metric_is_kept_where_nothing_speaks_for_another(inputs, fn):
    prior = cm.estimation.Known(inputs, fn(inputs)).likeliest
    assert prior.scales is None
    assert prior.power == 0.0


def test_columns_of_very_different_size_are_told_apart():
    there = rows(150, 3) * (1.0, 1e4, 1e-4)
    known = cm.estimation.Known(there, np.sin(there @ np.array([1.0, 1e-4, 1e4])))
    scales = known.likeliest.scales
    assert scales is not None
    np.testing.assert_allclose(np.log10(np.array(scales) / scales[0]), (0.0, -4.0, 4.0), atol=0.7)


@pytest.mark.parametrize("constant", [0.1, 0.7, 1000.1])
def test_a_column_that_never_varies_counts_as_the_others_do(constant):
    """Its mean is rounded, and so is not quite what it is; by that it must not be stretched."""
    there = rows(60, 3)
    wide = np.column_stack([there, np.full(60, constant)])
    zero = np.column_stack([there, np.zeros(60)])
    answers = along_the_first(there)
    assert wide.std(axis=0)[3] > 0.0
    found = Known(wide, answers).likeliest
    assert found == Known(zero, answers).likeliest
    assert found.scales is not None
    assert found.scales[3] == 1.0


@pytest.mark.parametrize("answers", [np.ones(60), rows(60, 1)[:, 0]])
def test_known_inputs_that_are_all_equal_speak_for_no_metric(answers):
    prior = Known(np.tile([[0.1, 0.7, 1.1]], (60, 1)), answers).likeliest
    assert (prior.scales, prior.power) == (None, 0.0)


def test_answers_of_any_size_speak_for_the_same_metric():
    there = rows(60, 3)
    usual = Known(there, along_the_first(there)).likeliest
    for size in (1e-170, 1e-300, 1e170):
        assert Known(there, size * along_the_first(there)).likeliest == usual


def test_a_wave_keeps_what_it_learned_of_directions():
    X = rows(300, 5)
    with cm.testing.Scripted(25, {3: cm.testing.never()}) as engine:
        result = cm.map(along_the_first, X, code=cm.KernelCode(20, 25, 1), engine=engine)
    code = cm.KernelCode(20, 25, 1)
    first = code.fitted(result, X)
    assert first.prior == first.known.likeliest
    assert first.prior.scales is not None
    assert first.fitted(result, X).prior == first.prior
    assert code.fitted(result).prior == result.learned
    assert pickle.loads(pickle.dumps(first)) == first


def test_variances_of_many_known_answers_are_what_they_are_off_from_what_the_others_predict():
    there = rows(25, 2)
    answers, prior = there[:, 0] ** 3, cm.estimation.Prior(1.5, 1e-3)
    background = Background.of(Known(there, answers), prior)
    squares = []
    for one in range(25):
        rest = np.arange(25) != one
        other = Background.of(Known(there[rest], answers[rest]), prior)
        point = other.placed.seen(there[one : one + 1])
        size = (point**2).sum(axis=1)
        near = other.whitened((point @ other.placed.points.T)[None], size[None])[0]
        off = answers[one] - (near @ other.rest + other.mean)[0, 0]
        short = 1.0 - (near @ other.ones)[0]
        expected = 1.0 + prior.noise - (near**2).sum() + short**2 / (other.ones @ other.ones)
        squares.append(off**2 / expected)
    np.testing.assert_allclose(background.variance[0], np.mean(squares), rtol=1e-6)


def test_equal_known_inputs_do_not_make_variances_small():
    there = rows(25, 2)
    twice, answers = np.repeat(there, 2, axis=0), np.repeat(there[:, 0] ** 3, 2)
    one = Background.of(Known(there, there[:, 0] ** 3), cm.estimation.Prior(1.5, 1e-6)).variance
    two = Background.of(Known(twice, answers), cm.estimation.Prior(1.5, 1e-6)).variance
    assert two > 0.2 * one


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: cm.estimation.Prior(1.0, scales=()), "tuple of numbers above 0"),
        (lambda: cm.estimation.Prior(1.0, scales=[1.0, 2.0]), "tuple of numbers above 0"),
        (lambda: cm.estimation.Prior(1.0, scales=(1.0, 0.0)), "tuple of numbers above 0"),
        (lambda: cm.estimation.Prior(1.0, scales=(1.0, np.nan)), "tuple of numbers above 0"),
        (lambda: cm.estimation.Prior(1.0, power=2.0), "between -1 and 1"),
        (lambda: cm.estimation.Prior(1.0, power="a"), "between -1 and 1"),
        (
            lambda: cm.KernelCode(2, 3, 1, prior=cm.estimation.Prior(1.0, power=0.5)),
            "give known= as well",
        ),
        (
            lambda: cm.KernelCode(
                2, 3, 1, prior=cm.estimation.Prior(1.0, scales=(1.0, 2.0))
            ).encode(np.zeros((2, 1, 3))),
            "2 scales of a prior do not fit inputs of 3 numbers each",
        ),
        (
            lambda: cm.KernelCode(2, 3, 1, 0.0, cm.estimation.Prior(1.0, scales=(1.0, 2.0))).encode(
                np.array([["a"], ["b"]])
            ),
            "no distances for the scales",
        ),
    ],
)
def test_what_cannot_be_a_metric_is_an_error(make, told):
    with pytest.raises(cm.InvalidArgument, match=told):
        make()
