"""Who is right where the answers of one cell contradict each other."""

from __future__ import annotations

import numpy as np
import pytest

import codedmap as cm

from ..repeats import first
from .test_kernel_outliers import SEVERAL, constant, flipped, gross, swapped, tally, wave


@pytest.mark.parametrize(
    ("name", "kind"),
    first(
        2,
        [
            ("network", gross),
            ("wide network", constant),
            ("quadratic", flipped),
            ("pendulum", swapped),
            ("waves", gross),
            ("pendulum", constant),
            ("waves", flipped),
            ("network", swapped),
            ("wide network", swapped),
        ],
    ),
)
def test_conflicts_between_copies_are_decided_by_the_answers_to_other_inputs(name, kind):
    # Six Byzantine workers among sixty often share a cell, and then outvote the correct one or leave no majority.
    scores = tally(name, kind, groups=5, spread=0.0)
    # Two workers that swap the copies of one task are not wrong.
    assert sum(size > 1e-6 for size in scores.missed) <= 1
    assert scores.accused <= 0.1
    assert scores.error < 0.1


@pytest.mark.parametrize("name", first(1, SEVERAL))
def test_of_two_copies_that_differ_the_gross_one_is_the_wrong_answer(name):
    caught = 0
    for seed in range(8):
        one = wave(name, seed, wrong_workers=0, workers=40, groups=3, spread=0.0)
        byzantine_worker = 7 + 20 * (seed % 2)
        one.answers[byzantine_worker] = one.answers[byzantine_worker] + 20 * one.deviation
        estimate = one.encoding.decode(one.answers)
        caught += estimate.rejected == (byzantine_worker,)
        assert not (estimate.exact & (np.abs(estimate.values - one.truth) > 1e-9).any(axis=2)).any()
    assert caught == 8


def test_two_copies_that_differ_by_little_are_both_inexact():
    one = wave("waves", 0, wrong_workers=0, workers=40, spread=0.0)
    one.answers[7] = one.answers[7] + 0.01 * one.deviation
    estimate = one.encoding.decode(one.answers)
    assert estimate.rejected == ()
    assert not estimate.exact[7].any()
    assert (estimate.stderr[7] > 0).all()


def test_equal_answers_of_a_function_that_saturates_are_no_collusion():
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((20, 4, 3))
    encoding = cm.KernelCode(20, 60, 0, spread=0.0).encode(inputs)
    answers = {n: np.maximum(encoding.payloads[n] @ np.ones((3, 4)), 0.0) for n in range(60)}
    answers[3] = answers[3] + 50.0
    estimate = encoding.decode(answers)
    assert estimate.rejected == (3,)
    assert estimate.exact.all()


@pytest.mark.slow
def test_a_function_that_jumps_rejects_no_worker():
    # Scores with a vote in them: a step of 1 wherever two classes change places.
    rng = np.random.default_rng(0)
    slopes = rng.standard_normal((6, 8))

    def scores(x):
        margins = x @ slopes
        return margins / 10 + margins.argsort(axis=-1).argsort(axis=-1)

    dropped = 0
    for _ in range(10):
        encoding = cm.KernelCode(20, 60, 0).encode(rng.standard_normal((20, 20, 6)))
        answers = {n: scores(encoding.payloads[n]) for n in range(60)}
        dropped += len(encoding.decode(answers).rejected)
    assert dropped <= 3
    answers[11] = answers[11][::-1]
    answers[44] = -answers[44]
    assert {11, 44} <= set(encoding.decode(answers).rejected)


@pytest.mark.parametrize(("groups", "most"), first(1, [(3, 0.7), (10, 0.2)]))
def test_correct_workers_are_kept_where_the_function_jumps(groups, most):
    rng = np.random.default_rng(0)
    dropped = []
    for _ in range(15):
        # A sum of many steps, as forests are: a cell fits exactly, unless it lies across a step.
        steps, at, heights = rng.normal(size=(60, 4)), rng.normal(size=60), rng.normal(size=60)
        encoding = cm.KernelCode(20, 60, 0).encode(rng.normal(size=(20, groups, 4)))
        answers = {
            n: ((x @ steps.T > at) * heights).sum(axis=-1, keepdims=True)
            for n, x in enumerate(encoding.payloads)
        }
        dropped.append(len(encoding.decode(answers).rejected))
    assert np.mean(dropped) < most


@pytest.mark.parametrize(
    ("tasks", "workers", "stragglers", "seed"), [(20, 25, 5, 1), (8, 24, 4, 3)]
)
def test_correct_workers_are_kept_where_the_function_is_smoother_in_the_middle(
    tasks, workers, stragglers, seed
):
    # In the middle answers predict each other to a few roundings, and at the ends not nearly as well.
    rng = np.random.default_rng([seed, tasks])
    inputs = np.sort(rng.normal(size=13 * tasks)).reshape(13, tasks, 1).swapaxes(0, 1)
    encoding = cm.KernelCode(tasks, workers, stragglers).encode(inputs)
    lost = rng.choice(workers, size=stragglers, replace=False)
    answers = {
        n: np.concatenate([np.sin(2 * x), np.exp(-(x**2) / 2)], axis=1)
        for n, x in enumerate(encoding.payloads)
        if n not in lost
    }
    assert not encoding.decode(answers).rejected
