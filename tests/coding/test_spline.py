from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import CubicSpline, make_smoothing_spline

import codedmap as cm
from codedmap.coding import spline
from codedmap.coding.points import task_points, worker_points
from codedmap.coding.spline import BandedSmoother, smoother, smoothing_by_gcv

from .. import oracle
from ..repeats import crossed, first

SMOOTHINGS = (0.0, 1e-300, 1e-14, 1e-10, 1e-6, 1e-3, 1.0, 1e4, 1e8, 1e12)


def positions(knots: np.ndarray) -> np.ndarray:
    """Inside, on knots, and outside on both sides."""
    return np.concatenate([[-1.1], task_points(7), knots[[0, len(knots) // 2, -1]], [1.05]])


def gap(knots: np.ndarray, y: np.ndarray, smoothing: float) -> float:
    """Largest error against the oracle, relative to the largest value where that exceeds 1."""
    at = positions(knots)
    right = oracle.spline(knots, y, smoothing, at)
    error = np.abs(smoother(knots, at, smoothing) @ y[:, None] - right[:, None]).max()
    return float(error / max(1.0, np.abs(right).max()))


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize(
    ("n", "points"), crossed([21, 1, 2, 3, 4, 5, 8, 60, 100], ["chebyshev", "uniform"])
)
def test_operator_equals_the_oracle(n, points, smoothing):
    rng = np.random.default_rng(n)
    assert gap(worker_points(n, points), rng.standard_normal(n), smoothing) < 1e-9


@settings(max_examples=60)
@given(
    st.sets(st.integers(0, 99), min_size=1, max_size=60),
    st.floats(-16, 12),
    st.integers(0, 2**31),
)
def test_operator_equals_the_oracle_for_any_responders(slots, exponent, seed):
    knots = worker_points(100)[sorted(slots)]
    y = np.random.default_rng(seed).standard_normal(len(slots))
    assert gap(knots, y, 10.0**exponent) < 1e-9


@pytest.mark.parametrize("smoothing", [0.0, 1e-8, 1.0, 1e12])
@pytest.mark.parametrize("points", ["chebyshev", "uniform"])
def test_operator_equals_the_oracle_at_1000_knots(points, smoothing):
    y = np.random.default_rng(0).standard_normal(1000)
    assert gap(worker_points(1000, points), y, smoothing) < 1e-7


@pytest.mark.slow
@pytest.mark.parametrize("smoothing", first(1, [1e-4, 0.0]))
def test_operator_equals_the_oracle_at_10000_knots(smoothing):
    y = np.random.default_rng(0).standard_normal(10_000)
    assert gap(worker_points(10_000), y, smoothing) < 1e-6


@pytest.mark.parametrize("n", [5, 40, 300, 1000])
@pytest.mark.parametrize("weight", [1e-14, 1e-10, 1e-7])
def test_operator_equals_scipy_where_scipy_is_right(n, weight):
    knots, at = worker_points(n), task_points(17)
    y = np.random.default_rng(n).standard_normal(n)
    theirs = make_smoothing_spline(knots, y, lam=weight)(at)
    ours = smoother(knots, at, weight / n) @ y[:, None]
    np.testing.assert_allclose(ours[:, 0], theirs, atol=1e-9)


def test_no_smoothing_is_the_natural_interpolant():
    knots, at = worker_points(30), np.linspace(-1, 1, 50)
    y = np.random.default_rng(0).standard_normal((30, 2))
    natural = CubicSpline(knots, y, bc_type="natural")(at)
    np.testing.assert_allclose(smoother(knots, at, 0.0) @ y, natural, atol=1e-12)


def test_no_smoothing_passes_a_value_on_a_knot_through_untouched():
    knots = worker_points(9)
    operator = smoother(knots, knots[[0, 3, 4, 8]], 0.0)
    np.testing.assert_array_equal(operator, np.eye(9)[[0, 3, 4, 8]])


def test_one_and_two_knots_give_the_constant_and_the_line():
    at = np.array([-2.0, 0.0, 0.5, 3.0])
    for smoothing in SMOOTHINGS:
        np.testing.assert_array_equal(smoother(np.array([0.3]), at, smoothing), np.ones((4, 1)))
        line = smoother(np.array([0.0, 2.0]), at, smoothing) @ np.array([[1.0], [5.0]])
        np.testing.assert_allclose(line[:, 0], 1.0 + 2.0 * at)


@pytest.mark.parametrize("smoothing", [0.0, 1e-10, 1e-3, 1e5])
def test_the_banded_form_is_the_same_operator(smoothing, monkeypatch):
    knots, at = worker_points(200), positions(worker_points(200))
    dense = smoother(knots, at, smoothing)
    monkeypatch.setattr(spline, "DENSE_ENTRIES", 0)
    banded = smoother(knots, at, smoothing)
    assert isinstance(banded, BandedSmoother)
    assert banded.shape == dense.shape
    for dtype, tolerance in ((np.float64, 1e-9), (np.float32, 1e-4), (np.complex128, 1e-9)):
        y = np.random.default_rng(0).standard_normal((200, 40)).astype(dtype)
        if dtype is np.complex128:
            y += 1j
        got = banded @ y
        assert got.dtype == dtype
        np.testing.assert_allclose(got, dense @ y, atol=tolerance * max(1, np.abs(dense).max()))


def test_a_banded_operator_needs_memory_linear_in_the_knots():
    import tracemalloc

    peaks = []
    for n in (5_000, 10_000):
        y = np.ones((n, 4))
        tracemalloc.start()
        operator = smoother(worker_points(n), task_points(n // 5), 1e-12)
        assert isinstance(operator, BandedSmoother)
        np.testing.assert_allclose(operator @ y, 1.0, atol=1e-9)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 3 * peaks[0]
    assert peaks[1] < 10_000 * 2_000  # an eighth of a dense matrix of doubles


@pytest.mark.parametrize("noise", [0.0, 1e-3, 1e-1])
def test_gcv_comes_close_to_the_best_smoothing(noise):
    rng = np.random.default_rng(0)
    knots, at = worker_points(100), task_points(60)
    speed, phase = rng.uniform(1, 5, 30), rng.uniform(0, 6, 30)
    clean = np.sin(np.outer(knots, speed) + phase)
    truth = np.sin(np.outer(at, speed) + phase)
    y = clean + noise * rng.standard_normal(clean.shape)

    def error(smoothing: float) -> float:
        return float(np.sqrt(np.mean((smoother(knots, at, smoothing) @ y - truth) ** 2)))

    best = min(error(10.0**e) for e in range(-16, 3))
    assert error(smoothing_by_gcv(knots, y)) < 1.5 * best


def test_gcv_scales_with_the_cube_of_the_extent_and_not_with_the_values():
    rng = np.random.default_rng(1)
    knots = np.sort(rng.uniform(-1, 1, 50))
    y = np.sin(3 * knots)[:, None] + 0.1 * rng.standard_normal((50, 4))
    plain = smoothing_by_gcv(knots, y)
    for unit in (1e6, 1e200, 1e-200):
        assert smoothing_by_gcv(knots, unit * y) == pytest.approx(plain)
    assert smoothing_by_gcv(10 * knots, y) == pytest.approx(1000 * plain)


@settings(max_examples=40)
@given(st.integers(1, 300), st.integers(1, 300))
def test_task_and_worker_points_that_coincide_on_paper_coincide_in_floating_point(tasks, workers):
    alpha, beta = task_points(tasks), worker_points(workers)
    assert np.all(np.diff(alpha) > 0)
    assert np.all(np.diff(beta) > 0)
    np.testing.assert_array_equal(alpha, -alpha[::-1])
    k, n = np.arange(tasks, 0, -1), np.arange(workers - 1, -1, -1)
    if workers > 1:
        on_paper = (2 * k[:, None] - 1) * (workers - 1) == 2 * tasks * n
        np.testing.assert_array_equal(on_paper, alpha[:, None] == beta)
        np.testing.assert_allclose(alpha, np.cos((2 * k - 1) * np.pi / (2 * tasks)), atol=1e-15)
        np.testing.assert_allclose(beta, np.cos(n * np.pi / (workers - 1)), atol=1e-15)


def test_gcv_refuses_more_knots_than_a_dense_eigenproblem_can_take():
    with pytest.raises(cm.InvalidArgument, match=r"decoder.*3000 workers, and 2000 are the most"):
        cm.SplineCode(10, 3000, 0, decoder_smoothing="gcv")  # before 3000 answers are computed
    with pytest.raises(cm.InvalidArgument, match=r"encoder.*3000 tasks, and 2000 are the most"):
        cm.SplineCode(3000, 10, 0, encoder_smoothing="gcv")
