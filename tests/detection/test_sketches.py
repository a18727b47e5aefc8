"""Answers reduced to sums of their outputs."""

from __future__ import annotations

import numpy as np
import pytest

from codedmap.detection.sketches import scaled, sketched


@pytest.mark.parametrize("outputs", [1, 3, 4])
def test_few_outputs_are_kept_as_they_are(outputs):
    answers = np.random.default_rng(0).standard_normal((5, 2, outputs))
    np.testing.assert_array_equal(sketched(answers, 4), answers)
    twice = sketched(answers * (1 + 2j), 2 * outputs)
    np.testing.assert_allclose(twice[..., ::2] + 1j * twice[..., 1::2], answers * (1 + 2j))


@pytest.mark.parametrize("directions", [4, 16])
@pytest.mark.parametrize("outputs", [17, 64, 65, 300, 1000])
def test_sums_have_random_signs_of_outputs_all_over_an_answer(directions, outputs):
    sums = sketched(np.eye(outputs)[:, None], directions)[:, 0]
    used = np.flatnonzero(sums.any(axis=1))
    assert len(used) == min(outputs, 16 * directions)
    assert set(np.abs(sums[used]).ravel()) == {1.0}
    balance = sums[used].T @ sums[used] / len(used)
    assert np.abs(balance - np.eye(directions)).max() < 0.9
    if outputs > 16 * directions:
        assert set(used * 8 // outputs) == set(range(8))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.complex64])
def test_sums_keep_the_precision_and_do_not_overflow(dtype):
    answers = np.full((3, 2, 50), 60_000.0, dtype=dtype)
    sums = sketched(answers, 4)
    assert sums.dtype == np.float32
    assert np.isfinite(sums).all()


def test_scaled_answers_are_in_units_of_a_middling_one_and_cut_off_far_above():
    rng = np.random.default_rng(0)
    y = rng.standard_normal((7, 9, 4))
    for unit in (2.0**-300, 1.0, 2.0**300):
        got = scaled(unit * y)
        np.testing.assert_allclose(np.median(np.abs(got).max(axis=2), axis=1), 1.0)
        np.testing.assert_allclose(got / got[:, :1], y / y[:, :1])
    y[0, 3] = np.inf, -np.inf, np.nan, 1e9
    assert scaled(y)[0, 3].tolist() == [1e4, -1e4, 1e4, 1e4]
    np.testing.assert_array_equal(scaled(np.zeros((9, 4))), 0.0)
    mostly = np.zeros((9, 4))
    mostly[2] = 0.25
    np.testing.assert_array_equal(scaled(mostly), mostly)
