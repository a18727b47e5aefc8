"""Contract of every estimate: which answers are rejected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from scipy import sparse

import codedmap as cm

from ..repeats import crossed
from .codes import ROWS

every = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
mixing = pytest.mark.parametrize("row", [r for r in ROWS if not r.copies], ids=lambda row: row.name)
spare = pytest.mark.parametrize(
    "row", [r for r in ROWS if not r.name.startswith("uncoded")], ids=lambda row: row.name
)


def encoded(row, groups=4):
    code = row.make(3, 17, 2)
    inputs = np.random.default_rng(0).standard_normal((3, groups, 2))
    encoding = code.encode(inputs)
    return code, encoding, {n: encoding.payloads[n].copy() for n in range(code.workers)}


@pytest.mark.parametrize(
    ("row", "odd"),
    crossed(
        [row for row in ROWS if not row.name.startswith("uncoded")],
        [
            np.zeros((4, 3)),
            np.zeros((3, 2)),
            np.zeros((4, 2), complex),
            np.full((4, 2), "x"),
            (np.zeros((4, 2)),) * 2,
            {"scores": 1},
            None,
            1.0,
        ],
    ),
    ids=lambda value: getattr(value, "name", type(value).__name__),
)
def test_an_answer_of_another_shape_or_kind_is_rejected_and_not_used(row, odd):
    _, encoding, answers = encoded(row)
    without = encoding.decode({n: a for n, a in answers.items() if n != 5})
    estimate = encoding.decode({**answers, 5: odd})
    assert estimate.rejected == (5,)
    np.testing.assert_array_equal(estimate.values, without.values)
    np.testing.assert_array_equal(estimate.exact, without.exact)


@every
@pytest.mark.parametrize(
    ("answer", "remedy"),
    [
        ((np.zeros((4, 2)), np.zeros(4)), "a tuple.*concatenate"),
        ({"scores": np.zeros((4, 2))}, "a dict.*concatenate"),
        (None, "a NoneType.*one array"),
        (np.zeros((3, 2)), "3 rows .*payload of 4 rows"),
        (np.float64(3), "a single number.*itemwise"),
    ],
    ids=["tuple", "dict", "None", "rows", "scalar"],
)
def test_when_most_answers_have_no_usable_form_fn_is_at_fault(row, answer, remedy):
    code, encoding, _ = encoded(row)
    with pytest.raises(cm.InvalidAnswer, match=remedy):
        encoding.decode(dict.fromkeys(range(code.workers), answer))


@mixing
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_non_finite_entry_of_a_mixture_is_rejected_in_its_group_only(row, bad):
    _, encoding, answers = encoded(row)
    mixed = next(n for n in answers if encoding.raw[n] is None)
    answers[mixed][2, 1] = bad
    estimate = encoding.decode(answers)
    assert estimate.rejected == (mixed,)
    assert np.isfinite(estimate.values).all()
    without = encoding.decode({n: a for n, a in answers.items() if n != mixed})
    np.testing.assert_allclose(estimate.values[:, 2], without.values[:, 2], atol=1e-12)


@dataclass(frozen=True)
class Picking(cm.codes.LinearCode):
    """The inputs and their differences; its decoder takes nothing of the latter."""

    tasks: int = 3
    workers: int = 6
    stragglers: int = 0
    kind: Callable[[np.ndarray], Any] = np.asarray

    def encoder(self, inputs):
        return np.concatenate([np.eye(3), np.eye(3) - np.roll(np.eye(3), 1, axis=1)])

    def decoder(self, answered, answers):
        return self.kept(answered, lambda: self.kind(np.eye(3, len(answered))))

    def shortfall(self, answered, dtype):
        return None if answered >= {0, 1, 2} else "it needs all inputs"


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_is_reported_where_it_enters_no_estimate(kind, bad):
    inputs = np.random.default_rng(0).standard_normal((3, 4, 2))
    encoding = Picking(kind=kind).encode(inputs)
    given = {n: encoding.payloads[n].copy() for n in range(6)}
    given[4][2, 1] = bad
    estimate = encoding.decode(given)
    assert estimate.rejected == (4,)
    np.testing.assert_array_equal(estimate.values, inputs)


@mixing
def test_a_worker_that_is_wrong_in_over_half_of_its_groups_is_rejected_in_all(row):
    if row.adaptive:
        pytest.skip("its smoothing changes with the answers that are left out")
    _, encoding, answers = encoded(row)
    mixed = next(n for n in answers if encoding.raw[n] is None)
    answers[mixed][:3] = np.nan
    answers[mixed][3] = 1e9
    estimate = encoding.decode(answers)
    without = encoding.decode({n: a for n, a in answers.items() if n != mixed})
    assert estimate.rejected == (mixed,)
    np.testing.assert_allclose(estimate.values, without.values, atol=1e-12)


def rejected_for_most_groups(code, slot, *, left_out=False):
    """A call whose last two groups are padded, as 3 does not divide 25.

    One worker is wrong in all groups; that shows in the seven that are whole. ``left_out``: it never answers.
    """

    def wrong(answer):
        return np.concatenate([np.full_like(answer[:7], np.nan), 1.001 * answer[7:]])

    script = {slot: cm.testing.never() if left_out else cm.testing.corrupt(wrong)}
    stop = cm.Quorum(code.workers - left_out)
    X = np.random.default_rng(1).standard_normal((25, 2))
    with cm.testing.Scripted(code.workers, script) as engine:
        return cm.map(smooth, X, code=code, engine=engine, stop=stop), smooth(X)


def smooth(batch):
    return np.tanh(batch @ np.array([[0.5, 0.2], [-0.3, 0.4]]))


@mixing
def test_a_worker_rejected_for_most_groups_is_left_out_of_those_that_are_padded(row):
    code, encoding, answers = encoded(row)
    mixed = next(n for n in answers if encoding.raw[n] is None)
    result, _ = rejected_for_most_groups(code, mixed)
    without, _ = rejected_for_most_groups(code, mixed, left_out=True)
    assert result.rejected == (mixed,)
    np.testing.assert_allclose(result.values, without.values, atol=1e-12)
    np.testing.assert_array_equal(result.exact, without.exact)


@pytest.mark.parametrize("fill", [None, "mean"])
def test_a_copy_rejected_for_most_groups_has_no_vote_in_those_that_are_padded(fill):
    result, truth = rejected_for_most_groups(cm.Replication(3, 6, fill), 4)
    assert result.rejected == (4,)
    assert result.exact.all()
    np.testing.assert_array_equal(result.values, truth)


@pytest.mark.parametrize(("rows", "hedged", "seeds"), crossed([99, 100], [False, True], [1, 5]))
def test_no_row_of_a_worker_that_the_others_contradict_is_exact_in_any_group(rows, hedged, seeds):
    script = {
        0: cm.testing.corrupt(lambda a: 50 * np.sin(7 * np.arange(a.size).reshape(a.shape) + 1))
    }
    hedge = cm.Hedge(after=cm.Quorum(11)) if hedged else None
    for seed in range(seeds):
        X = np.random.default_rng(seed).standard_normal((rows, 6)) / 2
        with cm.testing.Scripted(12, script) as engine:
            for result in cm.stream(
                lambda b: np.tanh(b[:, :4] - b[:, 2:]), X, code=cm.KernelCode(10, 12, 1),
                engine=engine, stop=cm.Everyone(), hedge=hedge,
            ):  # fmt: skip
                last = result
        wrong = np.abs(last.values - np.tanh(X[:, :4] - X[:, 2:])).max(axis=1) > 1e-9
        assert last.rejected == (0,)
        assert not last.exact[wrong].any()


@mixing
def test_when_too_few_answers_are_left_the_error_says_so(row):
    _, encoding, answers = encoded(row)
    for n in answers:
        # An adaptive code estimates a group from the others too.
        answers[n][slice(None) if row.adaptive else 1] = np.nan
    if any(raw is not None for raw in encoding.raw):
        answers = {n: a for n, a in answers.items() if encoding.raw[n] is None}
    with pytest.raises(cm.NotEnoughAnswers, match=r"left out,? because .* not finite"):
        encoding.decode(answers)


def test_a_raw_answer_without_contradiction_is_returned_as_it_is():
    encoding = cm.Replication(2, 5).encode(np.ones((2, 3, 1)))
    scores = np.array([[-np.inf, 0.0]] * 3)
    estimate = encoding.decode({0: scores, 2: scores, 1: scores, 4: scores})
    np.testing.assert_array_equal(estimate.values, np.stack([scores, scores]))
    assert estimate.exact.all()
    assert estimate.rejected == ()


def test_a_raw_answer_on_a_shared_point_keeps_its_infinity_and_spoils_nothing_else():
    code = cm.SplineCode(4, 9, 2)
    encoding = code.encode(np.random.default_rng(0).standard_normal((4, 2, 3)))
    raw = {task: n for n, task in enumerate(encoding.raw) if task is not None}
    task, slot = next(iter(raw.items()))
    answers = {n: np.exp(encoding.payloads[n]) for n in range(9)}
    answers[slot][1, 0] = -np.inf
    estimate = encoding.decode(answers)
    assert estimate.rejected == ()
    np.testing.assert_array_equal(estimate.values[task, 1], answers[slot][1])
    assert estimate.exact[task].all()
    assert np.isfinite(np.delete(estimate.values, task, axis=0)).all()


def test_a_non_finite_copy_that_another_contradicts_is_rejected():
    encoding = cm.Replication(2, 4).encode(np.ones((2, 2, 1)))
    good, bad = np.ones((2, 3)), np.ones((2, 3))
    bad[1, 2] = np.nan
    estimate = encoding.decode({0: bad, 1: good, 2: good, 3: good})
    assert estimate.rejected == (0,)
    np.testing.assert_array_equal(estimate.values, np.ones((2, 2, 3)))
    assert estimate.exact.all()


def test_a_majority_of_copies_outvotes_a_wrong_one():
    encoding = cm.Replication(1, 3).encode(np.ones((1, 2, 1)))
    estimate = encoding.decode({0: np.full((2, 1), 9.0), 1: np.ones((2, 1)), 2: np.ones((2, 1))})
    assert estimate.rejected == (0,)
    assert estimate.exact.all()
    np.testing.assert_array_equal(estimate.values, np.ones((1, 2, 1)))


def test_two_copies_that_disagree_are_an_estimate_with_their_difference():
    encoding = cm.Replication(1, 2).encode(np.ones((1, 2, 1)))
    estimate = encoding.decode(
        {0: np.array([[1.0, 1.0]] * 2), 1: np.array([[1.0, 1.0], [4.0, 5.0]])}
    )
    assert estimate.exact.tolist() == [[True, False]]
    np.testing.assert_allclose(estimate.stderr, [[[0.0] * 2, [np.sqrt((9 + 16) / 2)] * 2]])
    assert estimate.rejected == ()


def test_copies_that_differ_by_rounding_agree():
    encoding = cm.Replication(1, 2).encode(np.ones((1, 1, 1)))
    one = np.array([[1e3, 1.0]], np.float32)
    estimate = encoding.decode({0: one, 1: one * np.float32(1 + 1e-6)})
    assert estimate.exact.all()


def test_text_that_disagrees_has_an_infinite_standard_error():
    encoding = cm.Replication(1, 2).encode(np.array([["a"]]))
    estimate = encoding.decode({0: np.array(["yes"]), 1: np.array(["no!"])})
    assert not estimate.exact.any()
    assert np.isinf(estimate.stderr).all()


def test_confirm_marks_exact_only_what_a_second_answer_agrees_with():
    code = cm.Replication(2, 6, confirm=2)
    assert code.stragglers == 1
    encoding = code.encode(np.ones((2, 1, 1)))
    one = np.ones((1, 1))
    estimate = encoding.decode({0: one, 2: one, 1: one})
    assert estimate.exact.tolist() == [[True], [False]]
    assert estimate.stderr.tolist() == [[[0.0]], [[np.inf]]]


def test_a_filled_task_gets_the_mean_and_its_standard_error():
    rng = np.random.default_rng(0)
    encoding = cm.Uncoded(5, fill="mean").encode(np.ones((5, 2, 1)))
    answers = {n: rng.standard_normal((2, 3)) for n in (0, 1, 3, 4)}
    estimate = encoding.decode(answers)
    known = np.stack(list(answers.values()))
    np.testing.assert_allclose(estimate.values[2], known.mean(axis=0))
    spread = np.sqrt((known.var(axis=0, ddof=1) * (1 + 1 / 4)).mean(axis=1))
    np.testing.assert_allclose(estimate.stderr[2], np.tile(spread[:, None], 3))
    assert estimate.exact[:, 0].tolist() == [True, True, False, True, True]


@pytest.mark.parametrize("same", [0.0, 3.5])
def test_a_filled_task_never_has_a_standard_error_of_zero(same):
    encoding = cm.Uncoded(3, fill="mean").encode(np.ones((3, 1, 1)))
    two = encoding.decode({0: np.full((1, 2), same), 1: np.full((1, 2), same)})
    assert (two.stderr[2, 0] > 0.0).all()
    assert (two.stderr[2, 0] < 1e-10).all()
    one = encoding.decode({0: np.full((1, 2), same)})
    assert np.isinf(one.stderr[1:]).all()


def test_a_fill_needs_answers_that_have_a_mean():
    encoding = cm.Uncoded(2, fill="mean").encode(np.array([["a"], ["b"]]))
    with pytest.raises(cm.NotEnoughAnswers, match="have no mean"):
        encoding.decode({0: np.array(["x"])})


def test_a_fill_is_the_mean_of_what_is_finite():
    encoding = cm.Uncoded(4, fill="mean").encode(np.ones((4, 1, 1)))
    answers = {0: np.array([[-np.inf]]), 1: np.array([[1.0]]), 2: np.array([[3.0]])}
    estimate = encoding.decode(answers)
    assert estimate.values[3, 0, 0] == 2.0
    assert np.isfinite(estimate.stderr[3, 0])
    assert estimate.values[0, 0, 0] == -np.inf
    alone = encoding.decode({0: np.array([[np.nan]]), 1: np.array([[1.0]])})
    assert np.isinf(alone.stderr[3, 0])


def test_two_shapes_with_equally_many_votes_decide_nothing():
    encoding = cm.Replication(2, 4).encode(np.ones((2, 3, 1)))
    answers = {0: np.ones((3, 2)), 1: np.ones((3, 2)), 2: np.ones(3), 3: np.ones(3)}
    with pytest.raises(cm.NotEnoughAnswers, match="it cannot be found which is right"):
        encoding.decode(answers)


def test_copies_that_are_wrong_in_different_rows_still_give_an_answer():
    encoding = cm.Replication(1, 3).encode(np.ones((1, 3, 1)))
    answers = {n: np.where(np.arange(3) == n, 1.0, np.nan) for n in range(3)}
    estimate = encoding.decode(answers)
    np.testing.assert_array_equal(estimate.values, np.ones((1, 3)))
    assert estimate.rejected == (0, 1, 2)


def test_copies_of_objects_are_compared_one_by_one():
    def objects(*things):
        array = np.empty(len(things), object)
        array[:] = things
        return array

    encoding = cm.Replication(1, 2).encode(np.ones((1, 2, 1)))
    same = encoding.decode({n: objects([1, 2], np.arange(3)) for n in range(2)})
    assert same.exact.all()
    other = encoding.decode({0: objects([1], "a"), 1: objects([1], "b")})
    assert other.exact.tolist() == [[True, False]]


class Stubborn:
    """Like a tensor that has to be detached first."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("requires grad")


@spare
def test_an_answer_that_is_no_array_is_rejected_and_when_most_are_the_remedy_is_named(row):
    code, encoding, answers = encoded(row)
    estimate = encoding.decode({**answers, 5: Stubborn()})
    assert estimate.rejected == (5,)
    with pytest.raises(cm.InvalidAnswer, match=r"a Stubborn.*detach\(\)"):
        encoding.decode(dict.fromkeys(range(code.workers), Stubborn()))


@every
def test_answers_that_hold_nothing_are_refused(row):
    code, encoding, _ = encoded(row)
    with pytest.raises(cm.InvalidAnswer, match="which hold nothing"):
        encoding.decode(dict.fromkeys(range(code.workers), np.ones((4, 0))))
