"""Which answers estimates are made without: those that others contradict, and none of the tail of a distribution."""

from __future__ import annotations

import numpy as np
import pytest

import codedmap as cm
from codedmap.estimation.set_aside import set_aside

from ..repeats import first

SMOOTH = (
    lambda x: np.sin(5 * x[0]) * np.cos(3 * x[1]) + x[2],
    lambda x: np.exp(2 * x[0] - x[1]) * (1 + x[2]),
    lambda x: (
        np.sin(2 * np.pi * (x[0] - 0.5)) * (1 + 10 * (x[2] - 0.5) ** 4) + 7 * np.sin(6 * x[1])
    ),
)

HEAVY = (
    lambda x, rng: np.exp(3 * x[0]),
    lambda x, rng: np.exp(2 * rng.normal(size=x.shape[1])),
    lambda x, rng: rng.standard_cauchy(x.shape[1]),
    lambda x, rng: np.sin(3 * x[0]) + 0.1 * rng.standard_t(2, x.shape[1]),
    lambda x, rng: 1 / (x[0] - 0.5),
    lambda x, rng: np.exp(-200 * ((x[:2] - 0.4) ** 2).sum(axis=0)),
)


def wrong(fn, seed: int, count: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, true answers, and which of the first 500 are 30 deviations off."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(size=(600, 3))
    return points, fn(points.T), rng.choice(500, count, replace=False)


@pytest.mark.parametrize("fn", SMOOTH)
@pytest.mark.parametrize(("seed", "count"), first(2, [(0, 1), (1, 5), (2, 1)]))
def test_answers_that_others_contradict_are_set_aside(fn, seed, count):
    points, answers, at = wrong(fn, seed, count)
    given = answers[:500].copy()
    given[at] += 30.0 * answers.std() * np.where(np.arange(count) % 2, -1.0, 1.0)
    both = np.stack([answers[:500], given], axis=1)
    found = set_aside(points[:500], both)
    assert sorted(np.flatnonzero(found >= 0)) == sorted(at)
    assert (found[at] == 1).all()


@pytest.mark.parametrize("fn", HEAVY)
@pytest.mark.parametrize("seed", first(1, range(4)))
def test_answers_of_a_heavy_tail_are_not(fn, seed):
    rng = np.random.default_rng(seed)
    points = rng.normal(0.5, 0.3, size=(500, 4))
    assert (set_aside(points, fn(points.T, rng)[:, None]) == -1).all()


@pytest.mark.parametrize("fn", SMOOTH)
def test_one_wrong_answer_makes_no_estimate_poor(fn):
    points, answers, [at] = wrong(fn, 0)
    given = answers.copy()
    given[at] += 30.0 * answers.std()
    given[500:] = np.nan
    with pytest.warns(UserWarning, match=f"y of row {at} is .*: estimates are made without it"):
        result = cm.fill(points, given)
    assert (result.values[at], result.stderr[at]) == (given[at], 0.0)
    assert result.status[at] == cm.Status.EXACT
    off = (result.values - answers)[500:]
    assert np.sqrt((off**2).mean()) < 0.02 * answers.std()


def test_several_answers_in_one_region_are_used():
    """A function that differs in a hundredth of its inputs."""
    points = np.random.default_rng(0).random((400, 3))
    answers = np.sin(3 * points[:, [0]]) + 8.0 * (points[:, [1]] > 0.985)
    assert 2 <= (points[:, 1] > 0.985).sum() <= 8
    assert (set_aside(points, answers) < 0).all()
    answers[:, 0] = np.sin(3 * points[:, 0])
    answers[[7, 90, 233], 0] += 8.0  # anywhere
    assert np.flatnonzero(set_aside(points, answers) == 0).tolist() == [7, 90, 233]
