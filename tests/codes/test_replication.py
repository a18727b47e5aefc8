"""Copies: what a majority says, whatever kind of answer it is."""

from __future__ import annotations

import numpy as np
import pytest

from codedmap.codes import Replication

KINDS = {
    "float": lambda x: x / 7.0,
    "integer": lambda x: x.astype(np.int64),
    "boolean": lambda x: x > 4.0,
    "text": lambda x: np.where(x > 4.0, "large", "small"),
    "date": lambda x: np.datetime64("2024-01-01") + x.astype(int),
    "object": lambda x: np.array([f"{v}" if v > 4.0 else None for v in x], dtype=object),
}


def encoded(workers, **options):
    inputs = np.arange(10.0).reshape(2, 5)
    encoding = Replication(2, workers, **options).encode(inputs)
    return encoding, inputs


@pytest.mark.parametrize("kind", KINDS)
def test_one_of_three_copies_is_outvoted(kind):
    fn = KINDS[kind]
    encoding, inputs = encoded(6)
    answers = {slot: fn(payload) for slot, payload in enumerate(encoding.payloads)}
    wrong = encoding.raw.index(1)
    answers[wrong] = np.array([*answers[wrong][:3], fn(np.array([1.0]))[0], answers[wrong][4]])
    estimate = encoding.decode(answers)
    assert estimate.rejected == (wrong,)
    assert estimate.exact.all()
    assert not np.any(estimate.stderr)
    np.testing.assert_array_equal(estimate.values, np.stack([fn(row) for row in inputs]))


@pytest.mark.parametrize(("kind", "apart"), [("float", 12.5), ("integer", 12.5), ("text", np.inf)])
def test_two_copies_that_differ_are_no_majority_and_their_difference_is_the_error(kind, apart):
    encoding, _ = encoded(4)
    answers = {
        slot: np.stack([KINDS[kind](payload)] * 2, axis=1)
        for slot, payload in enumerate(encoding.payloads)
    }
    changed = answers[3].copy()
    assert encoding.raw[3] == 1
    changed[2] = "other" if kind == "text" else changed[2] + np.array([3, -4])
    estimate = encoding.decode(answers | {3: changed})
    assert estimate.rejected == ()
    assert np.argwhere(~estimate.exact).tolist() == [[1, 2]]
    assert estimate.stderr[1, 2] == pytest.approx(np.sqrt(apart))


def test_a_confirmed_row_needs_so_many_equal_copies():
    encoding, inputs = encoded(6, confirm=2)
    answers = dict(enumerate(encoding.payloads))
    first, second, _ = (slot for slot, task in enumerate(encoding.raw) if task == 0)
    del answers[first]
    assert encoding.decode(answers).exact.all()
    answers[second] = answers[second] + np.array([0.0, 1.0, 0.0, 0.0, 0.0])
    assert np.argwhere(~encoding.decode(answers).exact).tolist() == [[0, 1]]
    del answers[second]
    estimate = encoding.decode(answers)
    assert np.argwhere(~estimate.exact).tolist() == [[0, group] for group in range(5)]
    np.testing.assert_array_equal(estimate.values, inputs)
    assert np.isinf(estimate.stderr[0]).all()


def test_a_mean_fills_what_has_no_copy_with_the_error_of_a_new_value():
    encoding = Replication(4, 4, fill="mean").encode(np.zeros((4, 1, 1)))
    seen = np.array([1.0, 2.0, 6.0])
    estimate = encoding.decode({slot: seen[slot : slot + 1] for slot in range(3)})
    assert estimate.values[:, 0].tolist() == [1.0, 2.0, 6.0, 3.0]
    assert estimate.exact[:, 0].tolist() == [True, True, True, False]
    assert estimate.stderr[3, 0] == pytest.approx(seen.std(ddof=1) * np.sqrt(1 + 1 / 3))
    alone = encoding.decode({0: seen[:1]})
    assert alone.values[:, 0].tolist() == [1.0] * 4
    assert np.isinf(alone.stderr[1:]).all()


def test_a_mean_leaves_out_infinite_complex_answers():
    answers = {0: np.array([[np.inf + 0j]]), 1: np.array([[1.0 + 1j]]), 2: np.array([[3.0 + 1j]])}
    estimate = Replication(4, 4, fill="mean").encode(np.zeros((4, 1, 1))).decode(answers)
    assert estimate.values[3, 0] == 2.0 + 1j
    assert 0 < estimate.stderr[3, 0] < 3


def test_whole_numbers_are_floats_beside_tasks_without_an_answer():
    """Memory that was not set decided whether they became objects."""
    encoding, _ = encoded(2)
    for _ in range(20):
        used = [np.random.default_rng(0).random((2, 5)) for _ in range(20)]
        del used
        values = encoding.salvage({0: np.arange(5)}).values
        np.testing.assert_array_equal(values, [np.arange(5.0), [np.nan] * 5])
