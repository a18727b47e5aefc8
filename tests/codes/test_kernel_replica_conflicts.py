"""Who is right where the answers of one cell contradict each other."""

from __future__ import annotations

import numpy as np
import pytest

import codedmap as cm
from codedmap.estimation.replica_conflicts import everywhere, settled, usual

from .test_kernel_outliers import SEVERAL, constant, flipped, gross, swapped, tally, wave


@pytest.mark.parametrize("kind", [gross, constant, flipped, swapped])
@pytest.mark.parametrize("name", SEVERAL)
def test_conflicts_between_copies_are_decided_by_the_answers_to_other_inputs(name, kind):
    # Six Byzantine workers among sixty often share a cell, and then outvote the correct one or leave no majority.
    scores = tally(name, kind, groups=5, spread=0.0)
    # Two workers that swap the copies of one task are not wrong.
    assert max(scores.missed, default=0.0) < 1e-6
    assert scores.accused <= 0.1
    assert scores.error < 0.1


def test_a_prior_under_which_nothing_is_alike_does_not_hide_byzantine_workers():
    # A plan gives one where copies are lost so rarely that their mean can stand in.
    for spread in (0.0, 0.2):
        scores = tally("network", gross, groups=5, spread=spread, prior=cm.estimation.Prior(1e-100))
        assert scores.caught == 1.0
        assert scores.accused <= 0.1


@pytest.mark.parametrize("name", SEVERAL)
def test_of_two_copies_that_differ_the_gross_one_is_the_lie(name):
    caught = 0
    for seed in range(15):
        one = wave(name, seed, wrong_workers=0, workers=40, groups=3, spread=0.0)
        byzantine_worker = 7 + 20 * (seed % 2)
        one.answers[byzantine_worker] = one.answers[byzantine_worker] + 20 * one.deviation
        estimate = one.encoding.decode(one.answers)
        caught += estimate.rejected == (byzantine_worker,)
        assert not (estimate.exact & (np.abs(estimate.values - one.truth) > 1e-9).any(axis=2)).any()
    assert caught == 15


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


def test_where_no_cell_is_quiet_nothing_is_settled():
    squares, home = np.ones((6, 2)), np.repeat([0, 1, 2], 2)[:, None] * [1, 1]
    dropped = np.zeros((6, 2), dtype=bool)
    dropped[::2] = True
    np.testing.assert_array_equal(settled(squares, home, ~np.zeros_like(dropped), dropped), dropped)


def test_a_wrong_answer_stays_rejected_though_a_third_one_is_wrong():
    squares = np.ones((30, 1))
    home = np.repeat(np.arange(10), 3)[:, None]
    used, dropped = np.ones((30, 1), dtype=bool), np.zeros((30, 1), dtype=bool)
    squares += np.linspace(0, 0.5, 30)[:, None]
    squares[0] = 1e4  # wrong, and was kept
    dropped[1] = True  # contradicts 2, who stays
    result = settled(squares, home, used, dropped)
    assert np.flatnonzero(result[:, 0]).tolist() == [0, 1]
    dropped[2] = True  # now nobody stays: the two who are as usual were wronged
    result = settled(squares, home, used, dropped)
    assert np.flatnonzero(result[:, 0]).tolist() == [0]


def test_lies_that_are_not_known_yet_do_not_make_those_that_are_look_usual():
    # Of 30 quiet answers three are badly predicted, because wrong answers elsewhere were kept.
    squares, home = np.full((33, 1), 0.5), np.repeat(np.arange(11), 3)[:, None]
    squares[:30:10] = 200.0
    squares[30:32] = 60.0  # two that are wrong alike
    used, dropped = np.ones((33, 1), dtype=bool), np.zeros((33, 1), dtype=bool)
    dropped[32] = True
    result = settled(squares, home, used, dropped)
    assert np.flatnonzero(result[:, 0]).tolist() == [30, 31]


def test_small_contradictions_are_usual_where_others_are_nearly_as_large():
    sizes, variances = np.full((30, 3), 0.01), np.ones((30, 3))
    sizes[:5] = 0.1
    dropped = np.zeros((30, 3), dtype=bool)
    dropped[29, 0] = dropped[28, :2] = dropped[27, 1] = dropped[26, 2] = True
    sizes[29, 0] = 0.24  # at most two and a half times as far off as an answer that is kept
    sizes[28, :2] = 0.24, 0.26  # but this one is also contradicted for good
    sizes[27, 1], variances[27, 1] = 0.02, 0.4  # known better than any with which to compare it
    sizes[26, 2] = np.nan
    expected = np.zeros_like(dropped)
    expected[29, 0] = True
    np.testing.assert_array_equal(usual(sizes, variances, dropped), expected)
    dropped[27] = False
    sizes[:5] = 3.0  # whatever others are: this much is no small contradiction
    sizes[29, 0] = 0.8
    assert not usual(sizes, variances, dropped)[29].any()


def test_who_lies_in_over_a_quarter_of_the_groups_is_believed_in_none():
    dropped, used = np.zeros((3, 8), dtype=bool), np.ones((3, 8), dtype=bool)
    dropped[0, :2], dropped[1, :3], used[1, 7] = True, True, False
    result = everywhere(dropped, used)
    assert result.sum(axis=1).tolist() == [2, 7, 0]


@pytest.mark.parametrize(("groups", "most"), [(3, 0.7), (10, 0.2)])
def test_correct_workers_are_kept_where_the_function_jumps(groups, most):
    rng = np.random.default_rng(0)
    dropped = []
    for _ in range(40):
        # A sum of many steps, as forests are: a cell fits exactly, unless it lies across a step.
        steps, at, heights = rng.normal(size=(60, 4)), rng.normal(size=60), rng.normal(size=60)
        encoding = cm.KernelCode(20, 60, 0).encode(rng.normal(size=(20, groups, 4)))
        answers = {
            n: ((x @ steps.T > at) * heights).sum(axis=-1, keepdims=True)
            for n, x in enumerate(encoding.payloads)
        }
        dropped.append(len(encoding.decode(answers).rejected))
    assert np.mean(dropped) < most


def test_two_workers_wrong_alike_in_all_groups_are_found_though_copies_differ_in_few():
    rng = np.random.default_rng(0)
    squares, home = (
        rng.chisquare(4, (33, 10)) / 4,
        np.repeat(np.arange(11), 3)[:, None] + np.zeros(10, int),
    )
    squares[:2] = 150.0
    used, dropped = np.ones((33, 10), dtype=bool), np.zeros((33, 10), dtype=bool)
    dropped[2, :2] = True  # only there does the third one stand out
    result = settled(squares, home, used, dropped)
    assert result[:2].all()
    assert not result[2:].any()
