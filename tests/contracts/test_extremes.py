"""Answers far beyond all others, as of simulations that diverged: which they are, and that estimates do without them."""

from __future__ import annotations

import numpy as np
import pytest

from codedmap.contracts.extremes import described, extremes
from codedmap.estimation.surrogate import estimates

RNG = np.random.default_rng(0)
WITHOUT = {
    "uniform": RNG.random(300),
    "normal": RNG.standard_normal(300),
    "twenty orders of magnitude": np.exp(46.0 * RNG.random(300)),
    "a pole": 1.0 / (np.arange(300) - 149.7),
    "a resonance": 1.0 / ((np.linspace(0, 1, 300) - 0.5) ** 2 + 1e-6),
    "rare events": (np.arange(300) % 100 == 0) * 1e9,
    "a long tail": np.append(np.exp(23.0 * RNG.random(299)), 1e13),
    "eight times as far": np.append(RNG.uniform(-1.0, 1.0, 299), 8.0),
    "rare events of any size": np.concatenate([np.zeros(460), RNG.random(39), [1e9]]),
    "a few values": np.arange(300) % 3.0,
    "the largest floats": np.array([1.7e308, -1.7e308] * 150),
    "all equal": np.ones(300),
}


@pytest.mark.parametrize("answers", WITHOUT.values(), ids=WITHOUT)
def test_outputs_without_extremes(answers):
    assert (extremes(answers[:, None]) == -1).all()


@pytest.mark.parametrize("wild", [100.0, -9999.0, 1e30, -1.7e308])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("unit", [1.0, 1e-250, 1e250])
def test_answers_far_beyond_all_others(wild, count, unit):
    wild = max(wild, -1e50) * unit if unit != 1.0 else wild
    answers = np.random.default_rng(1).standard_normal((200, 3)) * unit
    answers[5 : 5 + count, 1] = wild * (1.0 - 0.1 * np.arange(count))
    answers[90, 2] = wild
    found = extremes(answers)
    assert np.flatnonzero(found >= 0).tolist() == [*range(5, 5 + count), 90]
    assert found[5] == 1
    assert found[90] == 2
    said = described(answers, found, lambda row: f"row {row}", ["a", "b", "c"])
    assert said is not None
    assert said.startswith(f"b of row 5 is {wild:.6g}, and all others are between -")
    assert f"; {count} further row" in said


def test_more_than_one_in_fifty_are_another_kind_of_answer():
    answers = np.random.default_rng(1).standard_normal((200, 5))
    for output in range(5):
        answers[output, output] = 1e6
    assert (extremes(answers) == -1).all()
    assert (extremes(answers[:, :4]) >= 0).sum() == 4


@pytest.mark.parametrize("size", [29, 30, 31, 45, 99])
def test_of_few_answers_one_is_far_beyond_all_others(size):
    answers = 300.0 + np.random.default_rng(1).standard_normal((size, 1))
    answers[3] = 400.0
    found = extremes(answers)
    assert np.flatnonzero(found >= 0).tolist() == ([3] if size >= 30 else [])
    said = described(answers, found, str, ["a"])
    assert (said is not None) == (size >= 30)
    assert "likewise" not in str(said)
    answers[4] = 200.0
    assert (extremes(answers) == -1).all()


@pytest.mark.parametrize("thorough", [True, False])
def test_estimates_are_as_good_with_one_as_without_it(thorough):
    rng = np.random.default_rng(2)
    points, wanted = rng.random((150, 3)), rng.random((50, 3))
    answers = np.sin(3.0 * points) @ np.ones((3, 1))
    without = estimates(
        np.delete(points, 7, axis=0), np.delete(answers, 7, axis=0), wanted, thorough=thorough
    )
    answers[7] = 1e30
    wanted[0] = points[7]
    found = estimates(points, answers, wanted, thorough=thorough)
    assert np.array_equal(found.values[1:], without.values[1:])
    nearest = ((wanted[:, None] - points) ** 2 / points.var(axis=0)).sum(axis=2).argmin(axis=1) == 7
    assert nearest[0]
    assert (found.stderr[nearest] > 0.9e30).all()
    assert (found.stderr[~nearest] < 1.0).all()
