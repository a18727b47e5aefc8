"""Which answers of a code are wrong: each part against its definition, and the whole on waves with known wrong ones."""

from __future__ import annotations

import numpy as np
import pytest

from codedmap.estimation import judging
from codedmap.estimation.gaussian import Fitted, Kernel
from codedmap.estimation.judging import judged
from codedmap.estimation.space import Space

from ..repeats import first


@pytest.mark.parametrize("noise", [0.0, 1e-2])
def test_what_the_others_expect_of_an_answer_is_what_a_process_without_it_does(noise):
    rng = np.random.default_rng(0)
    points, answers = rng.normal(size=(30, 2)), rng.normal(size=(30, 2))
    kernel = Kernel(np.array([2.0, 3.0]), noise, "matern52", linear=False)
    precision = judging._precision(points, kernel)
    off, variances = Fitted(points, answers, kernel).left_out()
    sharp = np.diag(precision)
    np.testing.assert_allclose(precision @ answers / sharp[:, None], off, atol=1e-5)
    np.testing.assert_allclose(1.0 / sharp, variances, rtol=1e-5)
    np.testing.assert_allclose(precision.sum(axis=1), 0.0, atol=1e-8)
    # Answers to equal points are compared as well.
    assert np.isfinite(judging._precision(np.repeat(points, 2, axis=0), kernel)).all()


@pytest.mark.parametrize("each", [1, 40, 150, 299, 300, 301, 650, 1000])
def test_blocks_hold_whole_groups_of_up_to_300_answers_together(each):
    groups = np.repeat(np.arange(20), each)[: 4000 - 7]
    blocks = judging._blocks(groups)
    np.testing.assert_array_equal(
        np.concatenate([np.arange(len(groups))[b] for b in blocks]), np.arange(len(groups))
    )
    sizes = np.array([block.stop - block.start for block in blocks])
    assert sizes.max() <= 300
    if each <= 300:
        whole = 300 // each * each
        assert (sizes[:-1] == whole).all()
        assert 0 < sizes[-1] <= whole
    else:
        begins = np.flatnonzero(np.diff(groups)) + 1
        assert {*begins} <= {block.start for block in blocks}
        parts = -(-each // 300)
        assert (np.abs(sizes[:parts] - each / parts) < 1).all()


def test_a_minority_of_wrong_answers_does_not_change_the_unit():
    rng = np.random.default_rng(0)
    answers = 5.0 + 3.0 * rng.normal(size=(1001, 4))
    for size in (1.0, 1e6, 1e25, 1e160):
        wrong = answers.copy()
        wrong[:50] += size * rng.normal(size=(50, 4))
        found = judging._scaled(wrong)[50:]
        np.testing.assert_allclose(found.std(axis=0), 1.0, rtol=0.2)
        np.testing.assert_allclose(np.median(found, axis=0), 0.0, atol=0.2)
        assert np.abs(judging._scaled(wrong)).max() <= 1e4
    many = answers.copy()
    many[:300] *= 1e30  # squares of the others must stay numbers beside theirs
    for unit in (1.0, 1e-6):
        assert np.median(np.abs(judging._scaled(unit * many)[300:])) > 1e-22
    np.testing.assert_allclose(
        judging._scaled(answers * [1e-200, 1e200, 7.0, -1.0] + 1e-250) * [1, 1, 1, -1],
        judging._scaled(answers),
        rtol=1e-9,
        atol=1e-9,
    )


def test_of_outputs_that_are_mostly_one_value_the_others_are_the_unit():
    answers = np.zeros((100, 3))
    answers[:40, 0] = 3.0 + np.arange(40)
    answers[:3, 1] = 7.0
    found = judging._scaled(answers)
    ninety = np.quantile(answers[:, 0], 0.9)
    np.testing.assert_allclose(found[:, 0], answers[:, 0] / (0.1 * ninety))
    np.testing.assert_allclose(found[:, 1], answers[:, 1] / 7.0)
    assert (found[:, 2] == 0.0).all()


def test_outputs_of_few_values_or_mostly_one_are_not_judged():
    numbers = np.arange(100.0)
    columns = [
        (numbers % 9, True),  # 9 values: eight steps
        (numbers % 8, False),
        (np.where(numbers < 79, 0.0, numbers), True),
        (np.where(numbers < 81, 0.0, numbers), False),
        (np.where(numbers > 20, 1e3, numbers), True),
        (np.where(numbers > 18, 1e3, numbers), False),
        (np.zeros(100), False),
    ]
    shuffled = np.random.default_rng(0).permuted(np.stack([c for c, _ in columns], axis=1), axis=0)
    np.testing.assert_array_equal(judging._varied(shuffled), [wanted for _, wanted in columns])


def test_answers_that_are_off_are_alone_where_fewer_than_two_others_or_none_far_less_off_is_near():
    rng = np.random.default_rng(0)
    homes = rng.integers(0, 4, (12, 30))
    usable, off = rng.random((12, 30)) < 0.8, rng.random((12, 30)) < 0.6
    sizes = 10.0 ** rng.integers(0, 6, (12, 30))
    found = judging._alone(homes, usable, off, sizes)
    for row, group in np.ndindex(found.shape):
        cell = (homes[:, group] == homes[row, group]) & usable[:, group]
        right = cell & ~off[:, group]
        alike = sizes[row, group] <= 1000 * sizes[cell, group].min(initial=np.inf)
        alone = cell.sum() < 3 or (not right.any() and alike)
        assert found[row, group] == (usable[row, group] and off[row, group] and alone)


def test_answers_to_equal_payloads_count_once_and_a_majority_outvotes():
    payloads = np.array([[0.0, 1.0, 2.0], [1.0, 1.0, 3.0], [0.0, 5.0, 1.0], [1.0, 6.0, 7.0]])
    answers = np.array([[5.0, 8.0, 2.0], [8.0, 8.0, 3.0], [4.0, 1.0, 9.0], [8.0, 6.0, 7.0]])
    # Payload 0 twice, with two answers; 1 five times, with 8 four times and 9 once; the others once.
    usable = np.ones((4, 3), dtype=bool)
    usable[3, 2] = False
    contested = np.zeros((4, 3), dtype=bool)
    contested[1, 2] = True

    def points_of(slots, groups):
        return payloads[slots - 10, groups][:, None]

    slots = np.arange(10, 14)
    single, outvoted = judging._compared(points_of, slots, answers[..., None], usable, contested)
    assert [*zip(*np.nonzero(outvoted), strict=True)] == [(2, 2)]
    expected = usable.copy()
    for repeated in ((1, 0), (1, 1), (3, 0), (2, 2)):
        expected[repeated] = False
    np.testing.assert_array_equal(single, expected)
    # Two of one answer are one as well; contested ones are not compared.
    usable[:, 1:] = False
    usable[1, 1] = True
    single, outvoted = judging._compared(points_of, slots, answers[..., None], usable, contested)
    assert not outvoted.any()
    contested[1, 0] = contested[3, 0] = True
    single, outvoted = judging._compared(points_of, slots, answers[..., None], usable, contested)
    np.testing.assert_array_equal(single, usable)
    answers[2, 0] = 5.0  # as the other one to payload 0
    single, outvoted = judging._compared(points_of, slots, answers[..., None], usable, contested)
    assert [*zip(*np.nonzero(usable & ~single), strict=True)] == [(2, 0)]
    assert not outvoted.any()


@pytest.mark.parametrize("columns", [3, 40])
def test_points_are_those_of_the_payloads_in_their_space(columns):
    rng = np.random.default_rng(0)
    payloads = rng.normal(size=(4, 50, columns)) @ rng.normal(size=(columns, columns))
    slots, groups = np.repeat(np.arange(4), 50), np.tile(np.arange(50), 4)
    points = judging._points(lambda *at: payloads[at], slots, groups)
    flat = payloads[slots, groups]
    expected = Space.of(flat[np.random.default_rng(0).permutation(200)], most=0).seen(flat)
    np.testing.assert_allclose(points, expected)


def held(groups: np.ndarray, columns: int = 3) -> judging._Answers:
    """Answers that go by the first column alone, with little noise."""
    rng = np.random.default_rng(0)
    payloads = rng.normal(size=(len(groups), columns))
    answers = np.sin(3 * payloads[:, :1]) + 1e-3 * rng.normal(size=(len(groups), 2))
    numbers = np.arange(len(groups))
    points = judging._points(lambda slots, _: payloads[slots], numbers, groups)
    return judging._Answers(points, judging._scaled(answers), groups, 1e-8)


def test_the_process_is_chosen_by_whole_groups_where_these_are_small():
    small, large = held(np.repeat(np.arange(40), 24)), held(np.repeat(np.arange(2), 400))
    assert len(small._sample) == len(large._sample) == len({*large._sample}) == 150
    assert sorted(np.bincount(small._sample // 24, minlength=40))[-7:] == [6, *[24] * 6]
    # Answers of a large group, which are in order, are drawn from all of it.
    parts = np.bincount(large._sample // 100, minlength=8)
    assert (parts.min(), parts.max()) > (9, 0)
    assert sorted(held(np.repeat(np.arange(2), 75))._sample) == [*range(150)]
    for each, some in ((149, 2), (150, 1), (151, 2)):  # one group is enough, or a few of the next
        sample = held(np.repeat(np.arange(2), each))._sample
        counts = np.bincount(sample // each, minlength=2)
        assert (counts > 0).sum() == some
        assert (counts.min() < 2) == (each < 151)


@pytest.mark.parametrize(("answers", "free"), [(15, True), (14, False), (150, True)])
def test_each_input_has_a_length_scale_of_its_own_from_five_answers_on(answers, free):
    known = held(np.zeros(answers, dtype=int))
    scales = known.kernel(np.ones(answers, dtype=bool), None).scales
    assert (np.ptp(scales) > 0) == free
    if answers == 150:
        assert scales[0] > 10 * scales[1:].max()


def test_wrong_answers_do_not_choose_the_process():
    known = held(np.zeros(150, dtype=int))
    right = known.kernel(np.ones(150, dtype=bool), None)
    kept = np.arange(150) % 5 > 0
    known._answers[~kept] = 1e4 * np.random.default_rng(1).normal(size=(30, 2))
    np.testing.assert_allclose(known.kernel(kept, right).scales[0], right.scales[0], rtol=0.2)
    # All do, if few are left; and none of them at first more than by four deviations.
    few = np.arange(150) < 5
    spoilt = known.kernel(few, right)
    np.testing.assert_array_equal(spoilt.scales, known.kernel(np.ones(150, bool), right).scales)
    known._answers[:] = np.where(kept[:, None], known._answers, np.sign(known._answers) * 4.0)
    clipped = known.kernel(np.ones(150, bool), None)
    known._answers[~kept] *= 1e3
    np.testing.assert_array_equal(known.kernel(np.ones(150, bool), None).scales, clipped.scales)


def test_what_is_within_rounding_is_not_off():
    known = held(np.zeros(100, dtype=int))
    kernel = Kernel(np.full(3, 1e-2), 1e-8, "matern52", linear=False)
    exactly = known._points[:] @ [[1.0, 0.5], [0.3, 0.2], [0.0, 1.0]]
    known._answers = exactly + np.where(np.arange(100) == 7, 0.3, 0.0)[:, None]
    begin = np.ones(100, dtype=bool)
    for least, off in ((1e-12, True), (0.3, False)):
        known._least = least
        sizes = known.judged(kernel, begin)[1]
        assert (sizes[7] > 4.0) == off
        assert (np.delete(sizes, 7) < 4.0).sum() > 90


def wave(groups: int, columns: int = 2, workers: int = 24, seed: int = 0, outputs: int = 2):
    """Payloads of workers on cells of 8 tasks, in which they are the tasks or near to them, and answers."""
    rng = np.random.default_rng(seed)
    inputs = np.sort(rng.normal(size=(8, groups, columns)), axis=0)
    homes = np.broadcast_to((np.arange(workers) % 8)[:, None], (workers, groups))
    payloads = inputs[homes, np.arange(groups)]
    payloads = (
        payloads + 0.1 * rng.normal(size=payloads.shape) * (np.arange(workers) >= 8)[:, None, None]
    )
    answers = np.stack([np.sin(payloads.sum(axis=2) + k) for k in range(outputs)], axis=2)
    return payloads, homes, answers


def judge(payloads, homes, answers, *, neighbours=None, usable=None, contested=None, rounding=2e-16):  # fmt: skip
    shape = homes.shape
    return judged(
        lambda slots, groups: payloads[slots, groups],
        np.arange(shape[0]),
        answers,
        np.ones(shape, dtype=bool) if usable is None else usable,
        np.zeros(shape, dtype=bool) if contested is None else contested,
        homes=homes,
        neighbours=homes if neighbours is None else neighbours,
        ranks=homes,
        kinds=np.arange(shape[0]) >= 8,
        rounding=rounding,
    )


@pytest.mark.parametrize("groups", first(1, [3, 12]))
def test_a_worker_that_is_wrong_in_all_groups_is_found_and_no_other(groups):
    payloads, homes, answers = wave(groups)
    assert not judge(payloads, homes, answers).wrong.any()
    answers[13] = np.random.default_rng(1).normal(size=answers[13].shape)
    found = judge(payloads, homes, answers)
    expected = np.zeros(homes.shape, dtype=bool)
    expected[13] = True
    np.testing.assert_array_equal(found.wrong, expected)
    assert np.median(found.sizes[13]) > 10 * np.quantile(np.delete(found.sizes, 13, axis=0), 0.9)
    # Neither units nor the order of the outputs matter, nor what is added to all.
    other = judge(payloads * 1e5, homes, 1e-9 * answers[..., ::-1] + 7e-9)
    np.testing.assert_array_equal(found.wrong, other.wrong)


@pytest.mark.parametrize(
    ("groups", "dropped", "disputed", "rounds"),
    [
        (2, [None], False, 1),
        (2, [0, 0], False, 2),
        (2, [0, 1, 2, 3], False, 3),
        (6, [0, 1, 2], False, 1),
        (6, [0, 1, 2], True, 3),
    ],
)
def test_a_process_is_chosen_until_the_same_answers_are_kept(
    groups, dropped, disputed, rounds, monkeypatch
):
    """Three times at most, and once where of three groups or more no answer is far off, or contested."""
    payloads, homes, answers = wave(groups)
    chosen, drop = [], iter(dropped)

    def by(self, kept, before):
        chosen.append((kept, before))
        return f"round {len(chosen)}"

    def judged_by(self, kernel, begin):
        return np.arange(len(begin)) != next(drop), np.zeros(len(begin))

    monkeypatch.setattr(judging._Answers, "kernel", by)
    monkeypatch.setattr(judging._Answers, "judged", judged_by)
    contested = np.zeros(homes.shape, dtype=bool)
    contested[:2, 0] = disputed
    assert not judge(payloads, homes, answers, contested=contested).wrong.any()
    assert [before for _, before in chosen] == [None, "round 1", "round 2"][:rounds]
    for (kept, _), out in zip(chosen[1:], dropped, strict=False):
        assert np.flatnonzero(~kept).tolist() == [out]


def test_without_a_wrong_worker_the_others_are_judged_anew(monkeypatch):
    """By a process that neither its answers have chosen, nor others that were set aside."""
    payloads, homes, answers = wave(12)
    answers[13] = np.random.default_rng(1).normal(size=answers[13].shape)
    answers[10, 2] += 100.0
    placed, chosen, kept = [], [], []
    points = judging._points
    kernel, judged_by = judging._Answers.kernel, judging._Answers.judged

    def points_of(payloads_of, slots, groups):
        placed.append(slots)
        return points(payloads_of, slots, groups)

    def by(self, some, before):
        chosen.append((some.copy(), before))
        return kernel(self, some, before)

    def judged_anew(self, process, begin):
        kept.append((process, begin.copy(), judged_by(self, process, begin)))
        return kept[-1][2]

    monkeypatch.setattr(judging, "_points", points_of)
    monkeypatch.setattr(judging._Answers, "kernel", by)
    monkeypatch.setattr(judging._Answers, "judged", judged_anew)
    assert judge(payloads, homes, answers).wrong[13].all()
    some, before = chosen[-1]
    others, (process, _, (expected, _)) = placed[0] != 13, kept[-2]
    assert before is process
    np.testing.assert_array_equal(some, expected & others)
    assert some.sum() < others.sum()
    np.testing.assert_array_equal(kept[-1][1], others)


def test_a_single_answer_is_rejected_if_it_is_far_off_and_others_are_near():
    payloads, homes, answers = wave(6)
    answers[10, 2] += 100.0
    found = judge(payloads, homes, answers).wrong
    assert [*zip(*np.nonzero(found), strict=True)] == [(10, 2)]
    homes = homes.copy()
    homes[[2, 18], 2] = 7  # none but it in its cell: the function may be another there
    assert not judge(payloads, homes, answers).wrong.any()


@pytest.mark.parametrize("groups", first(1, [2, 3, 6]))
def test_several_answers_beside_jumps_are_rejected_only_where_workers_are_not_judged(groups):
    payloads, homes, answers = wave(groups)
    neighbours = homes.copy()
    neighbours[13, 1] = 0

    def rejected():
        found = judge(payloads, homes, answers, neighbours=neighbours).wrong
        return list(zip(*map(np.ndarray.tolist, np.nonzero(found)), strict=True))

    answers[[10, 18], 0] += [[100.0], [101.0]]  # two of one cell alike
    assert rejected() == ([] if groups > 2 else [(10, 0), (18, 0)])
    answers[13, 1] = answers[0, 1] + 0.01  # the input that it is mixed with is beyond the jump
    jumps = [] if groups > 2 else [(10, 0), (13, 1), (18, 0)]
    assert rejected() == jumps
    answers[20, 0] -= 90.0  # nothing near it is alike
    assert rejected() == sorted([*jumps, (20, 0)])


def test_answers_that_nothing_near_contradicts_do_not_hide_others_that_are_off():
    """Some correct ones, on a rough function, are off by as much as a tenth of these."""
    payloads, homes, answers = wave(12)
    answers[13] += 0.03 * np.random.default_rng(1).choice([-1, 1], answers[13].shape)
    answers[10, 2] += 0.03
    found = judge(payloads, homes, answers)
    expected = np.zeros(homes.shape, dtype=bool)
    expected[13] = expected[10, 2] = True
    np.testing.assert_array_equal(found.wrong, expected)
    assert np.sort(found.sizes[~expected])[-1] > 0.1 * found.sizes[10, 2]


def test_answers_that_are_contested_or_not_usable_say_nothing_of_others():
    payloads, homes, answers = wave(6)
    some = np.random.default_rng(0).random(homes.shape) < 0.1
    plain = judge(payloads, homes, answers, usable=~some)
    assert np.isnan(plain.sizes[some]).all()
    assert np.isfinite(plain.sizes[~some]).all()
    wrong = np.where(some[..., None], 1e3, answers)
    assert not judge(payloads, homes, wrong, usable=~some).wrong.any()
    off = judge(payloads, homes, wrong, contested=some)
    assert not off.wrong[~some].any()
    assert np.isfinite(off.sizes).all()
    assert off.sizes[some].min() > off.sizes[~some].max()


def test_too_few_answers_are_not_judged():
    payloads, homes, answers = wave(1)
    for few, enough in ((5, False), (6, True)):
        contested = np.arange(24)[:, None] >= few
        found = judge(payloads, homes, answers, contested=contested)
        assert np.isfinite(found.sizes).any() == enough
    assert np.isnan(judge(payloads, homes, np.ones_like(answers)).sizes).all()
