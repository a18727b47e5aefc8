"""Copies of a `KernelCode` that disagree: what is exact, what is in doubt, and that rounding decides nothing."""

from __future__ import annotations

import numpy as np
import pytest

import codedmap as cm
from codedmap.testing import Scripted, corrupt

from ..repeats import crossed

GROUPS = 10


def ridge(x: np.ndarray) -> np.ndarray:
    return np.tanh(x.sum(axis=-1))


def conflicting_copies(tasks, copies, wrong_workers, seed, groups=GROUPS, **options):
    """Some copies are wrong in one group: the estimate, the truth, and the Byzantine workers."""
    rng = np.random.default_rng((seed, tasks, copies, wrong_workers))
    code = cm.KernelCode(tasks, copies * tasks, 0, **({"spread": 0.0} | options))
    encoding = code.encode(rng.standard_normal((tasks, groups, 3)))
    answers = {n: ridge(payload) for n, payload in enumerate(encoding.payloads)}
    byzantine = rng.permutation(tasks)[:wrong_workers] + tasks * rng.integers(
        copies, size=wrong_workers
    )
    for n in byzantine:
        answers[n] = answers[n].copy()
        answers[n][groups // 2] += 5 * rng.standard_normal()
    return encoding.decode(answers), ridge(encoding.payloads[:tasks]), set(byzantine.tolist())


def wrong(estimate, truth):
    return np.abs(estimate.values - truth) > 1e-9


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize(("tasks", "groups"), crossed([4, 1, 2, 3, 6], [1, 2, GROUPS]))
def test_where_all_copies_of_a_group_differ_none_is_exact(tasks, groups):
    accused, squares = 0, []
    for seed in range(8):
        estimate, truth, byzantine = conflicting_copies(tasks, 2, tasks, seed, groups)
        at = groups // 2
        assert not estimate.exact[:, at].any()
        assert np.delete(estimate.exact, at, axis=1).all()
        assert not wrong(estimate, truth)[estimate.exact].any()
        off = np.abs(estimate.values - truth)[:, at]
        assert (estimate.stderr[:, at] > 0).all() or not off.any()
        squares.append((off / np.maximum(estimate.stderr[:, at], 1e-300)) ** 2)
        accused += len(set(estimate.rejected) - byzantine)
    assert accused <= 1
    assert np.sqrt(np.mean(squares)) < 1.4


def test_neither_is_any_with_confirm():
    for seed in range(10):
        estimate, truth, byzantine = conflicting_copies(4, 2, 4, seed, confirm=2)
        assert not wrong(estimate, truth)[estimate.exact].any()
        assert not estimate.exact[:, GROUPS // 2].any()
        assert set(estimate.rejected) <= byzantine


@pytest.mark.parametrize(
    ("tasks", "copies", "wrong_workers"), crossed([4, 2, 3, 6], [2, 3], [1, -1, 0])
)
def test_no_row_that_is_exact_is_wrong(tasks, copies, wrong_workers):
    accused = 0
    for seed in range(4):
        some = wrong_workers if wrong_workers > 0 else tasks + wrong_workers
        estimate, truth, byzantine = conflicting_copies(tasks, copies, some, seed)
        assert not wrong(estimate, truth)[estimate.exact].any()
        assert (estimate.stderr[~estimate.exact] > 0).all()
        accused += len(set(estimate.rejected) - byzantine)
    # Six tasks are the fewest whose answers predict each other.
    assert accused <= (1 if tasks == 6 else 0)


@pytest.mark.parametrize("spread", [0.0, 0.2])
def test_a_single_task_with_two_answers_is_an_estimate_through_every_entry_point(spread):
    def once(answer):
        answer = answer.copy()
        answer[3] += 5
        return answer

    code = cm.KernelCode(1, 2, 0, spread=spread)
    for options in ({}, {"on_error": "record"}):
        with Scripted(2, {0: corrupt(once)}) as engine:
            result = cm.map(
                np.tanh, np.arange(10.0), code=code, engine=engine, stop=cm.Everyone(), **options
            )
        assert np.flatnonzero(~result.exact).tolist() == [3]
        assert result.stderr[3] == pytest.approx(5.0)
        assert result.rejected == ()
    with Scripted(2, {0: corrupt(once)}) as engine:
        *_, last = cm.stream(np.tanh, np.arange(10.0), code=code, engine=engine)
    assert np.flatnonzero(~last.exact).tolist() == [3]


@pytest.mark.slow
def test_with_known_answers_even_a_group_that_differs_everywhere_is_estimated():
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((60, 3))
    known = cm.estimation.Known(inputs, ridge(inputs))
    for seed in range(10):
        estimate, truth, _ = conflicting_copies(4, 2, 4, seed, known=known)
        assert not wrong(estimate, truth)[estimate.exact].any()
        off = np.abs(estimate.values - truth)[~estimate.exact]
        assert (off < 8 * estimate.stderr[~estimate.exact]).all()


def one_byzantine_worker(seed):
    """One worker of 21 is slightly wrong everywhere; two correct ones have the same task."""
    rng = np.random.default_rng(seed)
    X, slopes = rng.standard_normal((21, 3)), rng.standard_normal((3, 1))
    byzantine_worker = int(rng.integers(21))
    with Scripted(21, {byzantine_worker: corrupt(lambda answer: 1.5 * answer + 0.3)}) as engine:
        code = cm.KernelCode(7, 21, 0, spread=0.0)
        result = cm.map(lambda b: np.tanh(b @ slopes), X, code=code, engine=engine, stop=cm.Everyone())  # fmt: skip
    return result, np.tanh(X @ slopes), byzantine_worker


@pytest.mark.parametrize("seed", [36, 127, *range(20)])
def test_two_who_agree_are_not_outvoted_by_one_whom_others_make_likelier(seed):
    result, truth, byzantine_worker = one_byzantine_worker(seed)
    assert result.rejected == (byzantine_worker,)
    off = np.abs(result.values - truth).max(axis=1)
    assert off[result.exact].max() == 0
    assert (off[~result.exact] < 8 * result.stderr[~result.exact]).all()


def copied(workers):
    """Five groups of 20 tasks, and correct answers of so many workers."""
    rng = np.random.default_rng(0)
    slopes = rng.standard_normal((4, 6)) / 2
    encoding = cm.KernelCode(20, workers, 0, spread=0.0).encode(rng.standard_normal((20, 5, 4)))
    return encoding, {n: np.tanh(payload @ slopes) for n, payload in enumerate(encoding.payloads)}


def test_a_copy_that_overrules_a_majority_is_not_exact():
    encoding, answers = copied(60)
    truth = np.stack([answers[n] for n in range(20)])
    for n in (5, 25):
        answers[n] = 5.0 - answers[n]
    estimate = encoding.decode(answers)
    assert estimate.rejected == (5, 25)
    np.testing.assert_array_equal(estimate.values, truth)
    assert not estimate.exact[5].any()
    assert np.delete(estimate.exact, 5, axis=0).all()
    assert ((estimate.stderr[5] > 0) & (estimate.stderr[5] < 1)).all()


def test_of_two_copies_the_one_that_others_make_likelier_is_not_exact_either():
    encoding, answers = copied(40)
    truth = np.stack([answers[n] for n in range(20)])
    answers[25] = answers[25] + 20.0
    estimate = encoding.decode(answers)
    assert estimate.rejected == (25,)
    np.testing.assert_array_equal(estimate.values, truth)
    assert not estimate.exact[5].any()
    assert np.delete(estimate.exact, 5, axis=0).all()
    assert ((estimate.stderr[5] > 0) & (estimate.stderr[5] < 1)).all()


# Groups, or waves, whose answers are all equal


def test_equal_answers_of_a_group_are_no_more_certain_than_other_groups_make_them():
    def rare(x):
        return np.maximum(x[..., 0] - 1.5, 0.0)

    inputs = np.random.default_rng(0).uniform(-1, 1, (20, 5, 3))
    inputs[:, 4, 0] += 2.0  # the only group that shows anything but 0
    encoding = cm.KernelCode(20, 30, 8).encode(inputs)
    answers = {n: rare(encoding.payloads[n]) for n in range(30) if n % 4}
    estimate = encoding.decode(answers)
    lost = ~estimate.exact
    flat = np.array([answers[n][:4] for n in answers])
    assert (flat == 0).all()
    values, stderr = (part[:, :4][lost[:, :4]] for part in (estimate.values, estimate.stderr))
    assert 0.01 < np.sqrt(((values / stderr) ** 2).mean()) < 1.5  # of what should be 0


def test_known_answers_show_that_equal_answers_are_no_constant():
    def rare(x):
        return np.maximum(x[..., :1] - 2.3, 0.0)

    inputs = np.random.default_rng(0).uniform(-1, 1, (20, 5, 3))
    seen = np.random.default_rng(1).uniform(-3, 3, (60, 3))
    stated, off = [], []
    for known in (None, cm.estimation.Known(seen, rare(seen))):
        encoding = cm.KernelCode(20, 30, 8, known=known).encode(inputs)
        estimate = encoding.decode({n: rare(encoding.payloads[n]) for n in range(30) if n % 4})
        stated.append(estimate.stderr[~estimate.exact])
        off.append(np.abs(estimate.values[~estimate.exact]))  # of 0
    assert stated[0].max() <= 1e-300
    assert off[1].max() > 0
    assert (off[1] < 3.0 * stated[1]).all()


def twice(answer_of):
    """Two copies of 8 tasks along a smooth function; ``answer_of`` replaces the answers for task 3."""
    inputs = np.random.default_rng(0).uniform(-1, 1, (8, 1, 2))
    encoding = cm.KernelCode(8, 16, 0, spread=0.0).encode(inputs)
    answers = {n: np.sin(payload) for n, payload in enumerate(encoding.payloads)}
    answers[3], answers[11] = (answer_of(answers[slot], slot) for slot in (3, 11))
    return encoding.decode(answers), np.sin(inputs)


def test_copies_that_agree_are_exact_however_far_off_the_others_they_are():
    estimate, truth = twice(lambda answer, slot: answer + 50.0)
    assert estimate.exact.all()
    assert estimate.rejected == ()
    np.testing.assert_array_equal(estimate.values[3], truth[3] + 50.0)


def test_a_copy_without_a_finite_second_is_no_agreement():
    estimate, truth = twice(lambda answer, slot: answer * np.nan if slot == 3 else answer + 50.0)
    assert estimate.rejected == (3,)
    # Nothing nearby contradicts it, so it is believed.
    np.testing.assert_array_equal(estimate.values[3], truth[3] + 50.0)


def test_inputs_of_any_kind_are_taken_where_nothing_is_mixed():
    given = [{"a": 1.5 * n} for n in range(5)]
    with Scripted(3) as engine:
        code = cm.KernelCode(3, 3, 0)
        result = cm.map(lambda batch: [one["a"] for one in batch], given, code=code, engine=engine)
    assert result.exact.all()
    assert result.values.tolist() == [1.5 * n for n in range(5)]
