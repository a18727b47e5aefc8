"""Inputs and outputs on the scales on which they are compared: against NumPy, SciPy and their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.stats import kurtosis, skew

from codedmap.estimation.space import Space, rows_at_once
from codedmap.estimation.transforms import Transform, transforms


def test_of_few_columns_those_that_vary_are_in_their_deviations():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(50, 6)) * [1e-200, 1.0, 1e200, 1.0, 1.0, 1.0]
    inputs[:, 3] = 7.0
    inputs[:, 4] = 1e9 + 1e-7 * (np.arange(50) % 2)  # which is the rounding of such numbers
    inputs[:, 5] = 1e9 + 1e-4 * (np.arange(50) % 2)
    space = Space.of(inputs)
    assert space.columns.tolist() == [0, 1, 2, 5]
    seen = space.seen(inputs)
    np.testing.assert_allclose(seen.mean(axis=0), 0.0, atol=0.01)
    np.testing.assert_allclose(seen.std(axis=0), 1.0, rtol=1e-5)
    np.testing.assert_allclose(
        seen[:, 1], (inputs[:, 1] - inputs[:, 1].mean()) / inputs[:, 1].std()
    )
    assert (np.abs(space.scaled(inputs)) < 2.0).all()
    assert np.isfinite(space.seen(3 * inputs)).all()


@pytest.mark.parametrize("unit", [5e-324, 1.7e308])
def test_inputs_may_be_the_smallest_and_the_largest_numbers(unit):
    columns = np.random.default_rng(0).integers(-4, 5, size=(30, 2)).astype(float)
    inputs = columns * unit if unit < 1.0 else columns / 4.0 * unit
    with np.errstate(all="raise", under="ignore"):
        seen = Space.of(inputs).seen(inputs)
    np.testing.assert_allclose(seen, (columns - columns.mean(axis=0)) / columns.std(axis=0))


def test_a_column_goes_by_its_logarithm_if_that_is_more_even_over_orders_of_magnitude():
    even = np.linspace(0.0, 1.0, 201)
    columns = {
        "orders": (10.0 ** (2.01 * even), True),
        "hardly two orders": (10.0 ** (1.99 * even), False),
        "even": (1.0 + 500.0 * even, False),
        "negative": (10.0 ** (3 * even) - 1.0, False),
        "zero": (np.where(even > 0.0, 10.0 ** (3 * even), 0.0), False),
        "downwards": (-(10.0 ** (3 * even)), False),
        "in small units": (1e-6 * 10.0 ** (2.5 * even**1.3), True),
        "one that is small": (np.where(even > 0.0, 100.0 + even, 1e-3), False),
    }
    space = Space.of(np.stack([column for column, _ in columns.values()], axis=1))
    assert dict(zip(columns, space.logarithms, strict=True)) == {
        name: goes for name, (_, goes) in columns.items()
    }
    # What is wanted may be negative nevertheless.
    wanted = -np.ones((1, len(columns)))
    assert np.isfinite(space.seen(wanted)).all()
    assert (wanted == -1.0).all()


@pytest.mark.parametrize(
    ("rows", "columns", "other"),
    [(30, 31, False), (20, 50, False), (130, 101, False), (90, 60, True), (40, 31, True)],
)
def test_of_many_columns_distances_are_those_of_the_first_30_principal_components(
    rows, columns, other
):
    rng = np.random.default_rng(0)
    inputs = 3.0 + rng.normal(size=(rows, columns)) @ rng.normal(size=(columns, columns))
    space = Space.of(inputs, other=other)
    seen = space.seen(inputs)
    left, sizes, _ = np.linalg.svd(inputs - inputs.mean(axis=0), full_matrices=False)
    components = (left * sizes)[:, : min(30, rows - 1)]
    assert seen.shape == components.shape
    unit = np.sqrt((components**2).mean())
    np.testing.assert_allclose(pdist(seen), pdist(components) / unit, rtol=1e-6)
    # The first matters most, as it varies most.
    assert (np.diff(seen.var(axis=0)) < 0).all()


@pytest.mark.parametrize(
    ("rows", "columns", "other"),
    [(31, 31, False), (100, 100, False), (200, 101, True), (9, 31, True)],
)
def test_other_many_columns_are_dimensions_themselves(rows, columns, other):
    inputs = np.random.default_rng(0).normal(size=(rows, columns))
    inputs[:, 0] = 10.0 ** np.linspace(-3, 0, rows)
    space = Space.of(inputs, other=other)
    expected = np.hstack([np.log(inputs[:, :1]), inputs[:, 1:]])
    np.testing.assert_allclose(
        space.seen(inputs), (expected - expected.mean(axis=0)) / expected.std(axis=0), atol=1e-9
    )


def test_where_another_space_may_suit_outputs_better():
    rng = np.random.default_rng(0)
    for columns, orders, wide, has_other in (
        (30, False, False, False),
        (30, True, False, True),
        (31, False, True, True),
        (1000, False, True, True),
        (1001, True, True, False),
    ):
        inputs = rng.normal(size=(50, columns))
        inputs[:, 3] = 10.0 ** np.linspace(-3, 0, 50) if orders else inputs[:, 3]
        space = Space.of(inputs)
        assert (space.wide, space.has_other) == (wide, has_other)
    few = rng.normal(size=(50, 30))
    few[:, 3] = 10.0 ** np.linspace(-3, 0, 50)
    assert Space.of(few).logarithms.any()
    assert not Space.of(few, other=True).logarithms.any()
    assert Space.of(few, other=True).directions is None


def test_many_columns_are_in_one_unit_unless_their_ranges_differ_by_orders_of_magnitude():
    rng = np.random.default_rng(0)
    inputs = rng.uniform(size=(200, 40)) + np.where(np.arange(40) % 2, 9.0, 0.0)
    for orders, alone in ((1.9, False), (3.0, True)):
        factors = 10.0 ** np.where(np.arange(40) < 10, orders, 0.0)
        varied = Space.of(inputs * factors, other=True).seen(inputs * factors).var(axis=0)
        assert (varied[9] > 10 * varied[10]) != alone
        huge = inputs * factors * 1e302
        seen = Space.of(huge, other=True).seen(huge)
        np.testing.assert_allclose(seen.var(axis=0), varied, rtol=1e-6)
    # Columns without variance, and directions without, are no dimensions.
    low = rng.normal(size=(200, 3)) @ rng.normal(size=(3, 50))
    space = Space.of(np.hstack([low, np.ones((200, 9))]), other=True)
    assert space.seen(np.hstack([low, low[:, :9]])).shape == (200, 3)


def test_wide_rows_are_moved_some_at_a_time():
    assert [rows_at_once(np.zeros((0, width))) for width in (0, 1, 4194, 4195, 33554, 33555, 10**6)] == [
        2000, 2000, 2000, 1999, 250, 250, 250,
    ]  # fmt: skip
    inputs = np.random.default_rng(0).normal(size=(4100, 35))
    space = Space.of(inputs, other=True)
    parts = [space.seen(inputs[at : at + 100]) for at in range(0, 4100, 100)]
    np.testing.assert_allclose(space.seen(inputs), np.concatenate(parts))
    np.testing.assert_allclose(space.seen(inputs[:2000]), space.seen(inputs)[:2000])
    assert np.sqrt((space.seen(inputs) ** 2).mean()) == pytest.approx(1.0, rel=0.03)


@pytest.mark.parametrize("sign", [1, -1])
def test_other_scales_are_for_skewness_of_one_or_excess_kurtosis_of_three(sign):
    even = (np.arange(400) + 0.5) / 400
    tried = set()
    for power in np.linspace(0.1, 6.0, 60):
        for values in (even**power, np.sign(even - 0.5) * np.abs(even - 0.5) ** power):
            needed = abs(skew(values)) >= 1.0 or kurtosis(values) >= 3.0
            found = [*transforms(sign * 7.0 * values + 3.0, -np.inf)]
            width = np.ptp(np.quantile(values, [0.25, 0.75])) / 2
            wide = needed and width > 1e-3 * values.std()
            assert bool(found) == wide
            tried.add((needed, wide))
            for one in found:
                assert one.name == "asinh"
                assert one.shift == pytest.approx(np.median(sign * 7.0 * values + 3.0))
                assert one.width == pytest.approx(7.0 * width)
    assert tried >= {(False, False), (True, True)}


def test_a_width_of_a_thousandth_of_the_deviation_is_enough():
    even = np.linspace(-1.0, 1.0, 401)
    for share, tried in ((0.95e-3, False), (1.05e-3, True)):
        values = np.append(1e-4 * even, [1.0, -1.0])
        values[:401] *= share * values.std() / (np.ptp(np.quantile(values, [0.25, 0.75])) / 2)
        assert bool([*transforms(values, -np.inf)]) == tried


def test_logarithms_are_for_what_is_positive_and_skewed_over_a_factor_of_four():
    values = np.exp(np.random.default_rng(0).normal(size=300))
    low, high = values.min(), values.max()
    for zero, tried in (
        (0.0, True),
        (low - 1.01 * (high - low) / 2, False),
        (low - 0.99 * (high - low) / 2, True),
        (low, False),
        (low + 1e-9, False),
    ):
        found = [one for one in transforms(values, zero) if one.name == "logarithm"]
        assert bool(found) == tried
        assert all(one.shift == zero for one in found)
    assert "logarithm" not in [one.name for one in transforms(high - values, -0.01)]
    # Hardly skewed, but heavy tails, which begin at a hundredth of their range.
    heavy = np.linspace(-1.0, 1.02, 400) ** 7
    assert 0.0 < skew(heavy) < 1.0
    assert kurtosis(heavy) > 3.0
    assert [one.name for one in transforms(heavy, heavy.min() - 0.02)] == ["logarithm", "asinh"]


@pytest.mark.parametrize("name", ["logarithm", "asinh"])
def test_beyond_a_variance_of_one_a_mean_comes_back_as_with_one(name):
    transform = Transform(name, 0.3, 0.7)
    means = np.array([-1.0, 0.0, 2.0])
    middle, variance = transform.back(means, np.ones(3))
    for wide in (1.5, 30.0, 1e6):
        found = transform.back(means, np.full(3, wide))
        np.testing.assert_allclose(found[0], middle)
        np.testing.assert_allclose(found[1], wide * variance)
    narrow = transform.back(means, np.full(3, 0.5))[1]
    assert (narrow < 0.6 * variance).all()
    assert np.isfinite(transform.back(np.array([-1e6, 1e6]), np.ones(2))).all()


def test_a_value_far_from_all_others_does_not_make_them_equal():
    values = np.random.default_rng(0).normal(size=(200, 1))
    inputs = np.vstack([values, [[1e6]]])
    assert Space.of(inputs).seen(values).std() == pytest.approx(1.0, rel=0.1)
    rare = np.r_[np.zeros(199), 1.0, 1.0][:, None]  # all usual ones are equal
    assert Space.of(rare).seen(rare).std() == pytest.approx(1.0)
