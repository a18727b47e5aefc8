"""Answers known beforehand: which rows count, in which form they come, and what does not fit them."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest

from codedmap.errors import InvalidAnswer, InvalidArgument
from codedmap.estimation.known import Known, deviations, flat, known_pair

X = np.arange(12.0).reshape(4, 3)
Y = np.array([1.0, 2.0, 4.0, 8.0])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_rows_that_are_not_finite_are_left_out(bad):
    inputs, answers = X.copy(), np.stack([Y, -Y], axis=1)
    answers[1, 1] = bad
    known = Known(inputs, answers)
    assert len(known) == 3
    np.testing.assert_array_equal(known.inputs, X[[0, 2, 3]])
    np.testing.assert_array_equal(known.answers, answers[[0, 2, 3]])
    assert "3 answers" in repr(known)
    inputs[0, 2] = bad
    with pytest.raises(InvalidArgument, match="2 of 4 rows are finite, and at least 3"):
        Known(inputs, answers)
    masked = np.ma.array(np.arange(4), mask=[0, 0, 1, 0])
    assert Known(X, masked).answers.ravel().tolist() == [0, 1, 3]


def test_three_rows_are_enough_and_as_many_answers_are_needed():
    assert len(Known(X[:3], Y[:3])) == 3
    for inputs, answers in ((X[:2], Y[:2]), (X, Y[:3]), (X, 4.0), (4.0, Y)):
        with pytest.raises(InvalidArgument, match="the same number of rows, at least 3"):
            Known(inputs, answers)
    with pytest.raises(InvalidArgument, match="all rows must have the same shape"):
        Known([[1], [1, 2]], Y)


def test_what_is_known_cannot_be_changed_and_equals_its_copies():
    given = X.copy()
    known = Known(given, Y)
    given[:] = 0.0
    for one in (known, pickle.loads(pickle.dumps(known))):
        np.testing.assert_array_equal(one.inputs, X)
        assert one == known
        assert hash(one) == hash(known)
        for array in (one.inputs, one.answers):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 1.0
    others = [Known(X + 1.0, Y), Known(X, Y + 1.0), Known(X[:3], Y[:3]), Known(X[:, :2], Y), X]
    assert all(known != other for other in others)
    # The same numbers in another shape are something else.
    assert Known(np.arange(6.0).reshape(3, 2), Y[:3]) != Known(np.zeros((6, 0)), np.arange(6.0))


def test_complex_numbers_are_pairs_and_parts_are_columns():
    known = Known(X + 1j, {"a": Y, "b": 2 * Y})
    assert known.inputs.shape == (4, 6)
    np.testing.assert_array_equal(known.answers, np.stack([Y, 2 * Y], axis=1))
    np.testing.assert_array_equal(flat(np.array([1 + 2j])), [[1.0, 2.0]])
    assert flat(np.ones((2, 3, 4), np.float32)).dtype == np.float64
    for bad in (np.array(["a"]), np.array([None])):
        with pytest.raises(InvalidArgument, match="must be numbers"):
            flat(bad)


def test_answers_come_in_the_order_in_which_they_are_wanted():
    frame = pd.DataFrame({"flow": Y, "snow": Y > 3})
    known = Known(X, frame)
    np.testing.assert_array_equal(known.answers_for(["snow", "flow"]), known.answers[:, ::-1])
    np.testing.assert_array_equal(known.answers_for(["flow", "snow"]), known.answers)
    assert known.answers_for(["y0", "y1"]) is known.answers
    assert Known(X, Y).answers_for(["flow"]).shape == (4, 1)
    with pytest.warns(UserWarning, match="called flow, snow, and those of fn flow, ice"):
        assert known.answers_for(["flow", "ice"]) is None


def test_what_does_not_fit_is_refused():
    known = Known(X, np.stack([Y, Y], axis=1))
    known.check(np.zeros((2, 5, 3)))
    known.check(np.zeros((2, 5, 3, 1), dtype=bool))
    Known(np.zeros((3, 4)), Y[:3]).check(np.zeros((2, 5, 2), dtype=complex))
    for inputs, said in (
        (np.zeros((2, 5, 4)), "4 numbers each"),
        (np.zeros((2, 5, 3), complex), "6 numbers"),
        (np.array([["a"]]), "no distance"),
    ):
        with pytest.raises(InvalidArgument, match=said):
            known.check(inputs)
    known.check_answers(2)
    with pytest.raises(InvalidAnswer, match="3 numbers each"):
        known.check_answers(3)
    for pair in (X, 3, (X, Y, Y)):
        with pytest.raises(InvalidArgument, match="must be a pair"):
            known_pair(pair)
    assert known_pair((X, Y))[1] is Y
    inputs, answers = pd.DataFrame(X), pd.DataFrame({"flow": Y})
    assert known_pair((inputs, answers))[0] is inputs
    with pytest.raises(
        InvalidArgument, match="known inputs and answers have the same index in another order"
    ):
        known_pair((inputs, answers[::-1]))


def test_those_known_come_first():
    points, answers = Known(X, Y).joined(X[:1] + 5.0, np.array([[3.0]]))
    np.testing.assert_array_equal(points, np.vstack([X, X[:1] + 5.0]))
    np.testing.assert_array_equal(answers[:, 0], [*Y, 3.0])


@pytest.mark.parametrize("unit", [1e-300, 1.0, 1e300])
def test_deviations_of_numbers_of_any_size(unit):
    np.testing.assert_allclose(deviations(np.stack([Y, 0 * Y], axis=1) * unit), [Y.std() * unit, 0])
