"""Who is right where the answers of one cell contradict each other."""

from __future__ import annotations

import numpy as np
import pytest

import codedmap as cm
from codedmap._kernel.quarrels import settled

from .test_kernel_lies import SEVERAL, constant, flipped, gross, swapped, tally, wave


@pytest.mark.parametrize("kind", [gross, constant, flipped, swapped])
@pytest.mark.parametrize("name", SEVERAL)
def test_copies_that_quarrel_are_settled_by_the_answers_to_other_inputs(name, kind):
    # Six liars among sixty often share a cell, and then outvote the honest one or leave no majority.
    told = tally(name, kind, groups=5, spread=0.0)
    # Two who swap the copies of one task do not lie.
    assert max(told.missed, default=0.0) < 1e-6
    assert told.accused <= 0.1
    assert told.error < 0.1


def test_a_prior_under_which_nothing_is_alike_does_not_hide_liars():
    # A plan gives one where copies are lost so rarely that their mean can stand in.
    for spread in (0.0, 0.2):
        told = tally("network", gross, groups=5, spread=spread, prior=cm.Prior(1e-100))
        assert told.caught == 1.0
        assert told.accused <= 0.1


@pytest.mark.parametrize("name", SEVERAL)
def test_of_two_copies_that_differ_the_gross_one_is_the_lie(name):
    caught = 0
    for seed in range(15):
        one = wave(name, seed, lying=0, workers=40, groups=3, spread=0.0)
        liar = 7 + 20 * (seed % 2)
        one.answers[liar] = one.answers[liar] + 20 * one.deviation
        estimate = one.encoding.decode(one.answers)
        caught += estimate.rejected == (liar,)
        assert not (estimate.exact & (np.abs(estimate.values - one.truth) > 1e-9).any(axis=2)).any()
    assert caught == 15


def test_two_copies_that_differ_by_little_are_both_doubted():
    one = wave("waves", 0, lying=0, workers=40, spread=0.0)
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


def test_a_function_that_jumps_makes_nobody_a_liar():
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


def test_where_no_cell_is_quiet_nothing_is_settled():
    squares, home = np.ones((6, 2)), np.repeat([0, 1, 2], 2)[:, None] * [1, 1]
    dropped = np.zeros((6, 2), dtype=bool)
    dropped[::2] = True
    np.testing.assert_array_equal(settled(squares, home, ~np.zeros_like(dropped), dropped), dropped)


def test_who_contradicts_somebody_honest_is_not_cleared_by_the_lie_of_a_third():
    squares = np.ones((30, 1))
    home = np.repeat(np.arange(10), 3)[:, None]
    used, dropped = np.ones((30, 1), dtype=bool), np.zeros((30, 1), dtype=bool)
    squares += np.linspace(0, 0.5, 30)[:, None]
    squares[0] = 1e4  # lies, and was believed
    dropped[1] = True  # contradicts 2, who stays
    result = settled(squares, home, used, dropped)
    assert np.flatnonzero(result[:, 0]).tolist() == [0, 1]
    dropped[2] = True  # now nobody stays: the two who are as usual were wronged
    result = settled(squares, home, used, dropped)
    assert np.flatnonzero(result[:, 0]).tolist() == [0]
