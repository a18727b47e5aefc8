"""Outputs that are lost where others of the same row are known."""

from __future__ import annotations

import numpy as np
import pytest

import codedmap as cm
from codedmap.estimation.other_outputs import _telling

from ..repeats import first

X = np.random.default_rng(0).random((150, 3))
ROUGH = np.random.default_rng(1).standard_normal(150)  # nothing that the inputs tell
SMOOTH = np.sin(2.0 * ROUGH) + X[:, 0]
LOST = np.arange(150) % 5 == 0


def without(column: np.ndarray, lost: np.ndarray = LOST) -> np.ndarray:
    return np.where(lost, np.nan, column)


def test_an_output_is_estimated_from_one_that_is_known():
    result = cm.fill(X, np.stack([ROUGH, without(SMOOTH)], axis=1))
    off = np.abs(result.values[:, 1] - SMOOTH)[LOST]
    assert off.max() < 0.1
    assert (off < 3.0 * result.stderr[LOST, 1]).mean() > 0.9
    assert result.methods[1].endswith(", other outputs")
    assert result.left_out[1] < 0.05
    alone = cm.fill(X, without(SMOOTH))
    assert np.abs(alone.values - SMOOTH)[LOST].max() > 0.5
    assert not alone.methods[0].endswith("other outputs")


@pytest.mark.slow
def test_rows_without_the_other_output_are_estimated_from_the_inputs():
    both = np.arange(150) % 10 == 0
    result = cm.fill(X, np.stack([without(ROUGH, both), without(SMOOTH)], axis=1))
    alone = cm.fill(X, without(SMOOTH))
    np.testing.assert_array_equal(result.values[both, 1], alone.values[both])
    np.testing.assert_array_equal(result.stderr[both, 1], alone.stderr[both])
    assert np.abs(result.values[:, 1] - SMOOTH)[LOST & ~both].max() < 0.1
    # Half of the rows have the error of either estimate.
    mean = np.sqrt(np.mean([alone.left_out[0] ** 2, 0.0]))
    assert result.left_out[1] == pytest.approx(mean, rel=0.05)


@pytest.mark.slow
def test_where_one_output_is_lost_another_is_taken():
    first, second = (np.arange(150) % 15 == k for k in (0, 5))
    others = np.stack([without(ROUGH, first), without(np.exp(ROUGH), second)], axis=1)
    result = cm.fill(X, np.column_stack([others, without(SMOOTH)]))
    off = np.abs(result.values[:, 2] - SMOOTH)
    assert off[first].max() < 0.2
    assert off[second].max() < 0.2


@pytest.mark.slow
@pytest.mark.parametrize(
    "other",
    first(1, [np.random.default_rng(2).standard_normal(150), np.ones(150), X[:, 0]]),
    ids=["noise", "constant", "an input"],
)
def test_an_output_that_tells_nothing_does_no_harm(other):
    smooth = np.sin(5.0 * X[:, 0]) + np.abs(X[:, 1] - 0.4)
    result = cm.fill(X, np.stack([other, without(smooth)], axis=1))
    alone = cm.fill(X, without(smooth))
    errors = [
        ((values - smooth)[LOST] ** 2).mean() for values in (result.values[:, 1], alone.values)
    ]
    assert errors[0] < 1.05 * errors[1]
    if np.ptp(other) == 0.0:
        np.testing.assert_array_equal(result.values[:, 1], alone.values)


@pytest.mark.slow
def test_a_row_with_an_unlike_output_is_less_certain():
    other = ROUGH.copy()
    other[0] = 5.0
    result = cm.fill(X, np.stack([other, without(SMOOTH)], axis=1))
    alone = cm.fill(X, without(SMOOTH))
    assert result.stderr[0, 1] > 10.0 * np.median(result.stderr[LOST, 1])
    assert np.abs(result.values[0, 1] - SMOOTH[0]) < 4.0 * max(result.stderr[0, 1], alone.stderr[0])


@pytest.mark.slow
@pytest.mark.parametrize("diverged", first(1, [np.inf, 1e20, -1e160, np.finfo(float).max]))
def test_an_output_far_from_all_others_tells_nothing(diverged):
    other = ROUGH.copy()
    other[0] = diverged
    result = cm.fill(X, np.stack([other, without(SMOOTH)], axis=1))
    alone = cm.fill(X, without(SMOOTH))
    assert (result.values[0, 1], result.stderr[0, 1]) == (alone.values[0], alone.stderr[0])
    assert np.abs(result.values[:, 1] - SMOOTH).max() < 4.0 * alone.stderr[0]


def test_runs_from_elsewhere_are_used_with_their_outputs():
    y = np.stack([ROUGH, without(SMOOTH)], axis=1)
    known = X[50:], np.stack([ROUGH, SMOOTH], axis=1)[50:]
    result = cm.fill(X[:50], y[:50], known=known)
    assert np.abs(result.values[:, 1] - SMOOTH[:50])[LOST[:50]].max() < 0.1


def test_many_inputs_leave_no_room_for_outputs():
    wide = np.random.default_rng(3).random((150, 30))
    result = cm.fill(wide, np.stack([ROUGH, without(SMOOTH)], axis=1))
    assert not result.methods[1].endswith("other outputs")


@pytest.mark.slow
def test_few_answers_beside_those_of_a_cheaper_model():
    dear = np.arange(150) % 12 == 0
    result = cm.fill(X, np.stack([ROUGH, without(ROUGH + X[:, 0], ~dear)], axis=1))
    assert np.abs(result.values[:, 1] - ROUGH - X[:, 0]).max() < 0.1
    # Of many columns of noise one is like 13 answers by chance.
    noise = np.random.default_rng(5).standard_normal((150, 30))
    result = cm.fill(X, np.column_stack([noise, without(ROUGH, ~dear)]))
    assert not result.methods[-1].endswith("other outputs")


@pytest.mark.slow
def test_few_rows_with_scattered_gaps():
    rows = np.arange(34)
    others = [without(y[:34], rows % 5 == k) for k, y in enumerate([ROUGH, *X.T[1:]], start=1)]
    target = np.exp(ROUGH[:34])
    result = cm.fill(X[:34, :1], np.column_stack([*others, without(target, rows % 5 == 0)]))
    assert np.abs(result.values[:, 3] - target)[::5].max() < 0.2
    assert result.methods[3].endswith("other outputs")


def test_the_error_of_an_exact_relation_is_not_zero():
    balance = np.stack([ROUGH, X[:, 0], without(ROUGH + X[:, 0])], axis=1)
    assert 0.0 < cm.fill(X[:, 1:], balance).left_out[2] < 1e-9


def test_a_constant_output_needs_no_others():
    result = cm.fill(X, np.stack([ROUGH, without(np.full(150, 2.0))], axis=1))
    assert result.methods[1] == "constant"


def chosen(
    answers: np.ndarray,
    others: np.ndarray,
    known: np.ndarray,
    most: int,
    there: np.ndarray | None = None,
    least: float = 0.0,
) -> list[int]:
    there = np.ones(others.shape, dtype=bool) if there is None else there
    return _telling(answers[:, None], others, there, known, most=most, least=least)


def test_outputs_are_chosen_that_tell_most_together():
    rng = np.random.default_rng(4)
    one, two, noise = rng.standard_normal((3, 500))
    others = np.stack([noise, one, one + 1e-3 * noise, two], axis=1)
    everywhere = np.ones((10, 4), dtype=bool)
    answers = 2.0 * one + two
    assert sorted(chosen(answers, others, everywhere, 2)) in ([1, 3], [2, 3])
    # The same again adds nothing.
    assert len(chosen(answers, others[:, [1, 1, 1]], everywhere[:, :3], 3)) == 1
    # Together they are known in half of the rows, or more.
    known = everywhere.copy()
    known[:6, 3] = False
    assert 3 not in chosen(answers, others, known, 2)
    # The first one explains 0.8, and the next one all that is left.
    assert len(chosen(answers, others, everywhere, 2, least=0.75)) == 2
    assert not chosen(answers, others, everywhere, 2, least=0.85)


def test_outputs_that_cost_rows_have_to_tell_more():
    rng = np.random.default_rng(4)
    one, two, noise = rng.standard_normal((3, 500))
    known = np.ones((10, 2), dtype=bool)
    known[:3, 1] = False
    others = np.stack([one, noise], axis=1)
    assert chosen(one + 0.1 * two, others, known, 2) == [0]
    assert chosen(one + 0.1 * noise, others, known, 2) == [0, 1]
    # The first one may be unknown in some rows, too: the others are compared where it is there.
    there = rng.random((500, 2)) < 0.75
    other = np.ones((10, 2), dtype=bool)
    other[:3, 0], other[3:6, 1] = False, False
    assert chosen(one, np.where(there, one[:, None], 0.0), other, 2, there) in ([0], [1])
