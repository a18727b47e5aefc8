"""Residuals by which answers are judged, and what is evidence enough."""

from __future__ import annotations

import numpy as np
import pytest

from codedmap.detection.residuals import (
    far_off,
    residuals,
    set_aside,
    wrong_workers,
)


def precision(points: np.ndarray) -> np.ndarray:
    covariance = np.exp(-((points[:, None] - points) ** 2)) + 1e-6 * np.eye(len(points))
    inverse = np.linalg.inv(covariance)
    ones = inverse.sum(axis=1)
    return inverse - np.outer(ones, ones) / ones.sum()


def predicted(points: np.ndarray, answers: np.ndarray, at: float) -> tuple[float, float]:
    """Mean and variance at a point of a process with an unknown mean."""
    covariance = np.exp(-((points[:, None] - points) ** 2)) + 1e-6 * np.eye(len(points))
    near, ones = np.exp(-((points - at) ** 2)), np.ones(len(points))
    total = ones @ np.linalg.solve(covariance, ones)
    mean = ones @ np.linalg.solve(covariance, answers) / total
    short = 1.0 - ones @ np.linalg.solve(covariance, near)
    value = mean + near @ np.linalg.solve(covariance, answers - mean)
    variance = 1.0 + 1e-6 - near @ np.linalg.solve(covariance, near) + short**2 / total
    return value, variance


@pytest.mark.parametrize("out", [[], [3], [2, 3, 9]])
def test_residuals_are_those_of_predictions_by_the_answers_that_are_kept(out):
    points = np.sort(np.random.default_rng(0).uniform(0, 8, 12))
    answers = np.random.default_rng(1).standard_normal((12, 1))
    kept = ~np.isin(np.arange(12), out)
    found = residuals(precision(points), answers, kept)
    for answer in range(12):
        others = kept & (np.arange(12) != answer)
        value, variance = predicted(points[others], answers[others, 0], points[answer])
        expected = (answers[answer, 0] - value) / np.sqrt(variance)
        np.testing.assert_allclose(found[answer, 0], expected, rtol=1e-5, atol=1e-5)


def test_wrong_answers_are_set_aside_and_few_others():
    points = np.linspace(0, 8, 40)
    answers = np.stack([np.sin(points), np.cos(points)], axis=1)
    answers[[5, 17, 30]] += 3.0
    kept = set_aside(precision(points), answers, np.ones(40, dtype=bool))
    assert not kept[[5, 17, 30]].any()
    assert kept.sum() >= 26  # a third is set aside at most


@pytest.mark.parametrize("draw", ["standard_normal", "standard_cauchy", "lognormal"])
def test_correct_workers_are_kept_whatever_the_tails_of_their_residuals(draw):
    found = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        size = {"size": (24, 10)}
        sizes = rng.lognormal(sigma=2.0, **size) if draw == "lognormal" else np.abs(getattr(rng, draw)(**size))  # fmt: skip
        found += wrong_workers(sizes, 1e-4, np.zeros(len(sizes))).sum()
    assert found == 0


@pytest.mark.parametrize("draw", ["standard_normal", "standard_cauchy"])
def test_workers_that_are_off_in_most_groups_are_found(draw):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        sizes = np.abs(getattr(rng, draw)((30, 10)))
        byzantine = rng.permutation(30)[:6]
        sizes[byzantine] += 200.0
        assert np.flatnonzero(wrong_workers(sizes, 1e-4, np.zeros(len(sizes)))).tolist() == sorted(
            byzantine.tolist()
        )


@pytest.mark.parametrize("groups", [10, 100, 3000])
def test_correct_workers_need_not_be_off_equally_often(groups):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        sizes = np.abs(rng.standard_normal((24, groups))) * np.exp(
            0.3 * rng.standard_normal((24, 1))
        )
        assert not wrong_workers(sizes, 1e-4, np.zeros(24)).any()


def test_workers_are_judged_by_those_of_their_kind():
    rng = np.random.default_rng(0)
    sizes = np.abs(rng.standard_normal((24, 100)))
    kinds = np.arange(24) >= 20
    sizes[kinds] *= 20.0  # correct answers to mixtures, which the others do not predict
    assert not wrong_workers(sizes, 1e-4, kinds).any()
    assert np.flatnonzero(wrong_workers(sizes, 1e-4, np.zeros(24))).tolist() == [20, 21, 22, 23]
    sizes[[3, 21]] *= 50.0
    assert np.flatnonzero(wrong_workers(sizes, 1e-4, kinds)).tolist() == [3, 21]
    # Two others say nothing of what is usual.
    assert not wrong_workers(
        np.delete(sizes, [3, 20], axis=0), 1e-4, np.delete(kinds, [3, 20])
    ).any()


def test_answers_that_are_not_judged_count_for_nothing():
    sizes = np.abs(np.random.default_rng(0).standard_normal((24, 10)))
    sizes[3, :8] = np.nan
    sizes[3, 8:] = 1e6  # in two groups, which are too few for a worker
    sizes[5] = np.nan
    assert not wrong_workers(sizes, 1e-4, np.zeros(len(sizes))).any()


def test_a_single_answer_is_far_off_only_if_the_tail_of_the_others_is_light():
    rng = np.random.default_rng(0)
    light = np.abs(rng.standard_normal((20, 5)))
    light[4, 2] = 100.0 * light.max()
    assert np.argwhere(far_off(light, 1e-3, 15.0)).tolist() == [[4, 2]]
    heavy = 1.0 / rng.uniform(size=(20, 5)) ** 2
    heavy[4, 2] = 100.0 * heavy.max()
    assert not far_off(heavy, 1e-3, 15.0).any()
    several = np.abs(rng.standard_normal((20, 5)))
    several[:3, 0] = 20.0 * several.max(), 30.0 * several.max(), 40.0 * several.max()
    assert np.argwhere(far_off(several, 1e-3, 15.0)).tolist() == [[0, 0], [1, 0], [2, 0]]
    assert not far_off(several, 1e-3, 100.0).any()
