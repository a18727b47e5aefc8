"""Residuals by which answers are judged, and what is evidence enough."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from scipy.stats import binom, t

from codedmap.detection import residuals as module
from codedmap.detection.residuals import (
    OFF,
    _leading,
    _unlike,
    _wrong_of_few,
    far_off,
    relative_sizes,
    residuals,
    set_aside,
    wrong_workers,
)

from ..repeats import first


def precision(points: np.ndarray) -> np.ndarray:
    covariance = np.exp(-((points[:, None] - points) ** 2)) + 1e-6 * np.eye(len(points))
    inverse = np.linalg.inv(covariance)
    ones = inverse.sum(axis=1)
    return inverse - np.outer(ones, ones) / ones.sum()


def predicted(points: np.ndarray, answers: np.ndarray, at: float) -> tuple[float, float]:
    """Mean and variance at a point of a process with an unknown mean."""
    covariance = np.exp(-((points[:, None] - points) ** 2)) + 1e-6 * np.eye(len(points))
    near, ones = np.exp(-((points - at) ** 2)), np.ones(len(points))
    total = ones @ np.linalg.solve(covariance, ones)
    mean = ones @ np.linalg.solve(covariance, answers) / total
    short = 1.0 - ones @ np.linalg.solve(covariance, near)
    value = mean + near @ np.linalg.solve(covariance, answers - mean)
    variance = 1.0 + 1e-6 - near @ np.linalg.solve(covariance, near) + short**2 / total
    return value, variance


@pytest.mark.parametrize("out", [[], [3], [2, 3, 9]])
def test_residuals_are_those_of_predictions_by_the_answers_that_are_kept(out):
    points = np.sort(np.random.default_rng(0).uniform(0, 8, 12))
    answers = np.random.default_rng(1).standard_normal((12, 1))
    kept = ~np.isin(np.arange(12), out)
    found = residuals(precision(points), answers, kept)
    for answer in range(12):
        others = kept & (np.arange(12) != answer)
        value, variance = predicted(points[others], answers[others, 0], points[answer])
        expected = (answers[answer, 0] - value) / np.sqrt(variance)
        np.testing.assert_allclose(found[answer, 0], expected, rtol=1e-5, atol=1e-5)


def test_wrong_answers_are_set_aside_and_few_others():
    points = np.linspace(0, 8, 40)
    answers = np.stack([np.sin(points), np.cos(points)], axis=1)
    answers[[5, 17, 30]] += 3.0
    kept = set_aside(precision(points), answers, np.ones(40, dtype=bool))
    assert not kept[[5, 17, 30]].any()
    assert kept.sum() >= 26  # a third is set aside at most


def test_the_answer_furthest_off_from_those_kept_is_set_aside_until_none_is_far():
    stopped = 0
    for seed in range(45):
        rng = np.random.default_rng(seed)
        points = np.sort(rng.uniform(0, 10, 30))
        answers = np.stack([np.sin(points), np.cos(points)], axis=1)
        answers += 1e-2 * rng.standard_normal((30, 2))
        wrong = rng.permutation(30)[: seed % 15]
        answers[wrong] += 10.0 ** rng.uniform(-1, 6, (len(wrong), 1)) * rng.choice([-1, 1], 2)
        kept = ~np.isin(np.arange(30), ([], [0, 11], np.arange(0, 30, 3))[seed % 3])
        # The residuals are worked out anew for each set that is kept, and the unit does not matter.
        expected = kept.copy()
        while (~expected).sum() < 10:
            sizes = relative_sizes(residuals(precision(points), answers, expected), expected)
            if sizes[expected].max() <= OFF * np.median(sizes[expected]):
                stopped += 1
                break
            expected[np.flatnonzero(expected)[sizes[expected].argmax()]] = False
        for unit in (1.0, 1e10):
            before = kept.copy()
            found = set_aside(precision(points) / unit**2, unit * answers, kept)
            assert found.tolist() == expected.tolist()
            assert kept.tolist() == before.tolist()
    assert 0 < stopped < 30  # in a third of them so many are set aside from the start


def test_where_no_answer_is_far_off_one_look_is_enough(monkeypatch):
    points, looked = np.linspace(0, 8, 30), []
    matrix = precision(points)
    usual = module.standardised
    monkeypatch.setattr(module, "standardised", lambda *given: looked.append(1) or usual(*given))
    sizes, vectors = np.linalg.eigh(matrix)
    some = sizes > 1e-9 * sizes[-1]  # others are rounding
    drawn = np.random.default_rng(0).normal(size=some.sum())
    answers = vectors[:, some] @ (drawn / np.sqrt(sizes[some]))
    everyone = np.ones(30, dtype=bool)
    assert set_aside(matrix, answers[:, None], everyone).all()
    assert len(looked) == 1
    answers[7] += 1.0
    assert set_aside(matrix, answers[:, None], everyone).sum() == 29
    assert len(looked) == 3


def test_answers_that_the_others_do_not_determine_are_no_reason():
    # The last two are known by a value of their own: no other answer says anything of them.
    matrix = np.zeros((14, 14))
    matrix[:12, :12] = precision(np.arange(12.0))
    answers = np.sin(np.arange(14.0))[:, None] * np.ones(2)
    answers[5] += 50.0
    answers[12:] = 1e6
    everyone = np.ones(14, dtype=bool)
    assert not set_aside(matrix, answers, everyone)[5]
    assert set_aside(matrix, answers, everyone)[12:].all()
    some = np.arange(14) != 12
    assert (set_aside(matrix, answers, some) == (set_aside(matrix, answers, everyone) & some)).all()
    found = residuals(matrix, answers, everyone)
    assert (found[12:] == 0.0).all()
    np.testing.assert_allclose(found[:12], residuals(matrix[:12, :12], answers[:12], everyone[:12]))


def test_sizes_are_in_units_of_what_is_usual_in_each_output():
    rng = np.random.default_rng(0)
    found, kept = rng.standard_normal((41, 3)), np.arange(41) < 31
    units = np.array([1e-6, 1.0, 1e6])
    by_hand = found / np.median(np.abs(found[kept]), axis=0)
    expected = np.sqrt((by_hand**2).sum(axis=1) / 3)
    np.testing.assert_allclose(relative_sizes(units * found, kept), expected)
    # Most are nearly 0, as of an output that is constant but for a few answers: these give the unit.
    found[:25, 1] *= 1e-9
    tenth = np.sort(np.abs(found[kept, 1]))[27]
    one = relative_sizes(found[:, 1:2], kept)
    np.testing.assert_allclose(one, np.abs(found[:, 1]) / (0.1 * tenth))
    # And the least is no smaller than rounding.
    np.testing.assert_allclose(
        relative_sizes(found[:, 1:2], kept, 10.0), np.abs(found[:, 1]) / 10.0
    )
    for size in (0.0, 1e-15):
        got = relative_sizes(np.full((9, 2), size), np.ones(9, dtype=bool))
        np.testing.assert_allclose(got, size / 1e-12)


@pytest.mark.parametrize("draw", ["standard_normal", "standard_cauchy", "lognormal"])
def test_correct_workers_are_kept_whatever_the_tails_of_their_residuals(draw):
    found = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        size = {"size": (24, 10)}
        sizes = rng.lognormal(sigma=2.0, **size) if draw == "lognormal" else np.abs(getattr(rng, draw)(**size))  # fmt: skip
        found += wrong_workers(sizes, 1e-4, np.zeros(len(sizes))).sum()
    assert found == 0


@pytest.mark.parametrize("draw", ["standard_normal", "standard_cauchy"])
def test_workers_that_are_off_in_most_groups_are_found(draw):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        sizes = np.abs(getattr(rng, draw)((30, 10)))
        byzantine = rng.permutation(30)[:6]
        sizes[byzantine] += 200.0
        assert np.flatnonzero(wrong_workers(sizes, 1e-4, np.zeros(len(sizes)))).tolist() == sorted(
            byzantine.tolist()
        )


@pytest.mark.parametrize("groups", [10, 100, 3000])
def test_correct_workers_need_not_be_off_equally_often(groups):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        sizes = np.abs(rng.standard_normal((24, groups))) * np.exp(
            0.3 * rng.standard_normal((24, 1))
        )
        assert not wrong_workers(sizes, 1e-4, np.zeros(24)).any()


def test_workers_are_judged_by_those_of_their_kind():
    rng = np.random.default_rng(0)
    sizes = np.abs(rng.standard_normal((24, 100)))
    kinds = np.arange(24) >= 20
    sizes[kinds] *= 20.0  # correct answers to mixtures, which the others do not predict
    assert not wrong_workers(sizes, 1e-4, kinds).any()
    assert np.flatnonzero(wrong_workers(sizes, 1e-4, np.zeros(24))).tolist() == [20, 21, 22, 23]
    sizes[[3, 21]] *= 50.0
    assert np.flatnonzero(wrong_workers(sizes, 1e-4, kinds)).tolist() == [3, 21]
    # Two others say nothing of what is usual, if they are as far off beside the other kind.
    sizes[kinds] *= 20.0
    assert not wrong_workers(
        np.delete(sizes, [3, 20], axis=0), 1e-4, np.delete(kinds, [3, 20])
    ).any()


@pytest.mark.parametrize("few", [2, 3, 4, 5, 7])
def test_of_few_workers_of_a_kind_those_far_off_in_most_groups_are_found(few):
    """Of 25 workers five compute mixtures, of whose wrong answers half were found, and none where two had not answered."""
    rng = np.random.default_rng(few)
    sizes = np.abs(rng.standard_normal((20 + few, 20)))
    kinds = np.arange(20 + few) >= 20
    assert not wrong_workers(sizes, 1e-3, kinds).any()
    wrong = np.arange(20, 20 + few - 1)  # all but one of them
    sizes[wrong] *= 100.0
    assert np.flatnonzero(wrong_workers(sizes, 1e-3, kinds)).tolist() == wrong.tolist()
    sizes[20:] *= 100.0  # then it is due to the kind
    assert not wrong_workers(sizes, 1e-3, kinds)[-1]


@pytest.mark.parametrize("share", first(2, [0.5, 0.9, 0.1, 0.3, 0.7]))
def test_few_workers_of_a_kind_may_all_be_far_off_in_a_share_of_their_groups(share):
    """As at mixtures that a function refuses, of which each worker has some."""
    rng = np.random.default_rng(0)
    kinds = np.arange(24) >= 20
    found = 0
    for _ in range(200):
        sizes = np.abs(rng.standard_normal((24, 10)))
        sizes[20:][rng.uniform(size=(4, 10)) < share] *= 1000.0
        found += wrong_workers(sizes, 1e-3, kinds).sum()
    assert found <= 2  # of 800


def test_the_only_worker_of_a_kind_is_not_judged():
    sizes = np.abs(np.random.default_rng(0).standard_normal((21, 20)))
    sizes[20] *= 100.0
    assert not wrong_workers(sizes, 1e-3, np.arange(21) >= 20).any()


def test_answers_that_are_not_judged_count_for_nothing():
    sizes = np.abs(np.random.default_rng(0).standard_normal((24, 10)))
    sizes[3, :8] = np.nan
    sizes[3, 8:] = 1e6  # in two groups, which are too few for a worker
    sizes[5] = np.nan
    assert not wrong_workers(sizes, 1e-4, np.zeros(len(sizes))).any()


def test_a_single_answer_is_far_off_only_if_the_tail_of_the_others_is_light():
    rng = np.random.default_rng(0)
    light = np.abs(rng.standard_normal((20, 5)))
    light[4, 2] = 100.0 * light.max()
    assert np.argwhere(far_off(light, 1e-3, 15.0)).tolist() == [[4, 2]]
    heavy = 1.0 / rng.uniform(size=(20, 5)) ** 2
    heavy[4, 2] = 100.0 * heavy.max()
    assert not far_off(heavy, 1e-3, 15.0).any()
    several = np.abs(rng.standard_normal((20, 5)))
    several[:3, 0] = 20.0 * several.max(), 30.0 * several.max(), 40.0 * several.max()
    assert np.argwhere(far_off(several, 1e-3, 15.0)).tolist() == [[0, 0], [1, 0], [2, 0]]
    assert not far_off(several, 1e-3, 100.0).any()


def test_three_groups_are_enough_to_judge_a_worker_and_four_workers_to_say_what_is_usual():
    rng = np.random.default_rng(0)
    sizes = np.abs(rng.standard_normal((60, 3)))
    sizes[7] += 100.0
    assert np.flatnonzero(wrong_workers(sizes, 1e-3, np.zeros(60))).tolist() == [7]
    assert not wrong_workers(sizes[:, :2], 1e-3, np.zeros(60)).any()
    sizes = np.abs(rng.standard_normal((4, 100)))
    sizes[2] += 100.0
    assert np.flatnonzero(wrong_workers(sizes, 1e-3, np.zeros(4))).tolist() == [2]
    assert not wrong_workers(sizes[1:], 1e-3, np.zeros(3)).any()


def test_a_quarter_of_the_workers_may_be_rejected_whatever_the_unit():
    for seed in range(10):
        rng = np.random.default_rng(seed)
        sizes = np.abs(rng.standard_normal((24, 30)))
        wrong = rng.permutation(24)[:6]
        sizes[wrong] += 30.0
        for unit in (1e-9, 1.0, 1e9):
            found = wrong_workers(unit * sizes, 1e-4, np.zeros(24))
            assert np.flatnonzero(found).tolist() == sorted(wrong.tolist())
        sizes[np.setdiff1d(np.arange(24), wrong)[0]] += 30.0
        assert wrong_workers(sizes, 1e-4, np.zeros(24)).sum() <= 6


def test_a_worker_off_less_than_twice_as_much_as_others_is_not_rejected():
    for seed in range(10):
        rng = np.random.default_rng(seed)
        sizes = np.abs(rng.standard_normal((24, 3000)))
        sizes[5] *= 1.8
        assert not wrong_workers(sizes, 1e-4, np.zeros(24)).any()
        sizes[5] *= 1.5
        assert np.flatnonzero(wrong_workers(sizes, 1e-4, np.zeros(24))).tolist() == [5]


@pytest.mark.parametrize("spread", [0.0, 0.3, 2.0, 1e3])
@pytest.mark.parametrize("workers", [2, 5, 24])
def test_correct_workers_differ_by_what_others_do_beyond_chance(workers, spread):
    """By one in a thousand of Student's distribution, and a fourth at least."""
    rng = np.random.default_rng(workers)
    logs = rng.standard_normal((workers, 12)) + spread * rng.standard_normal((workers, 1))
    logs[:, 3:][rng.random((workers, 9)) < 0.3] = np.nan
    each = [row[~np.isnan(row)].tolist() for row in logs]
    chance = statistics.mean(statistics.variance(row) / len(row) for row in each)
    chance *= 1.0 + math.sqrt(2.0 / (workers - 1))  # which has a deviation itself
    beyond = max(statistics.variance(map(statistics.mean, each)) - chance, 0.0)
    away = t.ppf(0.999, workers - 1) * math.sqrt(beyond)
    assert _unlike(logs) == pytest.approx(max(1.25, math.exp(min(away, 300.0))))


@pytest.mark.parametrize("workers", [9, 16, 60])
@pytest.mark.parametrize("groups", [3, 9])
def test_as_many_of_the_worst_workers_are_wrong_as_are_off_more_often_than_others_let_expect(
    workers, groups
):
    """Binomial chances of being beyond what one or three in a hundred of the others are, or 3 or 9 of them."""
    some, counts = workers // 4, set()
    for seed in range(25):
        rng = np.random.default_rng([seed, workers, groups])
        sizes = rng.lognormal(0.0, 0.5, (workers, groups))
        sizes[:some] *= np.sort(10.0 ** rng.uniform(0.0, 1.2, (some, 1)), axis=0)[::-1]
        sizes[:, 3:][rng.random((workers, groups - 3)) < 0.3] = np.nan
        rows = [row[~np.isnan(row)] for row in sizes]
        usual, logs = np.sort(np.concatenate(rows[some:])), np.log(sizes)
        least = max(0.01, 3.0 / len(usual))
        shares = [share for share in (least, 3.0 * least) if share <= 0.34]
        limits = [np.quantile(usual, 1.0 - share) * _unlike(logs[some:]) for share in shares]
        typical = [np.log(row).mean() for row in rows]
        expected = 0
        for row, middle in zip(rows[:some], typical, strict=False):
            chances = [
                binom.sf((row > limit).sum() - 1, len(row), share)
                for limit, share in zip(limits, shares, strict=True)
                if (row > limit).any()
            ]
            sure = min(chances, default=1.0) * len(shares) * workers < 1e-2
            if not (sure and middle >= np.mean(typical[some:]) + math.log(2.0)):
                break
            expected += 1
        found = _leading(np.arange(some), np.arange(some, workers), sizes, logs, 1e-2)
        assert found == expected
        counts.add(found)
    assert len(counts) > 1 or groups == 3


@pytest.mark.parametrize("workers", [1, 2, 4, 7])
def test_of_few_workers_those_are_wrong_that_are_far_off_in_half_and_more_often_than_the_others(
    workers,
):
    """Far is three times what nine in ten answers of another kind are within."""
    rng = np.random.default_rng(workers)
    others = np.abs(rng.standard_normal((20, 9)))
    others[rng.random((20, 9)) < 0.1] = np.nan
    limit = 3.0 * np.quantile(others[~np.isnan(others)], 0.9)
    counts = set()
    for chance in np.repeat([1e-1, 1e-3], 100):
        sizes = limit * rng.uniform(0.9, 1.0, (workers, 9))
        sizes[rng.random((workers, 9)) < rng.choice([0.02, 0.45, 0.7, 1.0], (workers, 1))] *= 1.2
        sizes[:, 3:][rng.random((workers, 6)) < 0.3] = np.nan
        groups = (~np.isnan(sizes)).sum(axis=1).tolist()
        beyond = (sizes > limit).sum(axis=1).tolist()
        far = [some > every / 2 for some, every in zip(beyond, groups, strict=True)]
        right = [(b, g) for b, g, off in zip(beyond, groups, far, strict=True) if not off]
        share = (sum(b for b, _ in right) + 3) / max(1, sum(g for _, g in right))
        expected = [
            off and share < 1.0 and binom.sf(b - 1, g, share) * workers < chance
            for b, g, off in zip(beyond, groups, far, strict=True)
        ]
        assert _wrong_of_few(sizes, others, chance).tolist() == expected
        counts.add(sum(expected))
    assert len(counts) > 1 or workers == 1


@pytest.mark.parametrize(
    ("workers", "others", "asked"), [(7, 8, True), (8, 30, False), (7, 7, False), (2, 20, True)]
)
def test_fewer_than_eight_of_a_kind_are_judged_beside_eight_of_other_kinds(
    workers, others, asked, monkeypatch
):
    seen = []

    def wrong(sizes, beside, chance):
        seen.append((sizes, beside, chance))
        return np.zeros(len(sizes), dtype=bool)

    monkeypatch.setattr(module, "_wrong_of_few", wrong)
    sizes = np.abs(np.random.default_rng(0).standard_normal((workers + others + 1, 9)))
    sizes[-1, 2:] = np.nan  # too few groups to be judged, or to say what is usual
    kinds = np.arange(workers + others + 1) >= workers
    wrong_workers(sizes, 1e-3, kinds)
    few = [(len(one), len(beside), chance) for one, beside, chance in seen if len(one) == workers]
    assert few == [(workers, others, 1e-3)] * asked
    if asked:
        np.testing.assert_array_equal(seen[0][0], sizes[:workers])
        np.testing.assert_array_equal(seen[0][1], sizes[workers:-1])


def test_workers_off_the_most_do_not_say_what_is_usual(monkeypatch):
    """Of the worst quarter those found at a chance of one in a hundred are judged by all others."""
    rng, asked = np.random.default_rng(0), []
    sizes = rng.lognormal(0.0, 2.0, (17, 6)) * rng.lognormal(0.0, 1.0, (17, 1))
    sizes[rng.random(sizes.shape) < 0.1] = np.nan
    logs = np.log(np.maximum(sizes, 0.1 * np.nanmedian(sizes)))
    worst = np.argsort(-np.nanmean(logs, axis=1))

    def leading(workers, others, given, small, chance):
        np.testing.assert_array_equal(given, sizes)
        np.testing.assert_allclose(small, logs)
        asked.append((workers.tolist(), sorted(others.tolist()), chance))
        return 3 if chance == 1e-2 else 2

    monkeypatch.setattr(module, "_leading", leading)
    found = module._wrong_of_a_kind(sizes, 1e-4)
    assert asked == [
        (worst[:4].tolist(), sorted(worst[4:].tolist()), 1e-2),
        (worst[:3].tolist(), sorted(worst[3:].tolist()), 1e-4),
    ]
    assert {*np.flatnonzero(found)} == {*worst[:2]}


def test_an_answer_is_far_off_about_as_often_as_the_chance_says_whatever_power_sizes_fall_by():
    # Of 21 answers only one can have twenty others.
    draws = np.random.default_rng(0).pareto(2.0, (4000, 21, 1)) + 1.0
    found = [far_off(sizes, 0.1, 1.0) for sizes in draws]
    assert abs(np.mean([one.any() for one in found]) - 0.15) < 0.025
    for sizes, one in zip(draws[:200], found, strict=False):
        for power in (0.25, 4.0):
            np.testing.assert_array_equal(far_off(sizes**power, 0.1, 1.0), one)


def test_answers_are_far_off_from_some_times_the_largest_of_twenty_others_on():
    others = np.linspace(1.0, 2.0, 20)

    def found(*some: float, rest: np.ndarray = others) -> list[int]:
        sizes = np.concatenate([rest, some])[:, None]
        return np.flatnonzero(far_off(sizes, 1e-2, 15.0)).tolist()

    for unit in (1e-9, 1.0, 1e9):
        assert found(29.9 * unit, rest=others * unit) == []
        assert found(30.1 * unit, rest=others * unit) == [20]
    assert found(1e3, rest=others[1:]) == []
    # Their geometric mean is, and each is by the root of that.
    assert found(7.8, 150.0) == [20, 21]
    assert found(7.8, 110.0) == []
    assert found(7.6, 150.0) == [21]
    # A quarter at most.
    assert found(*np.full(6, 1e3)) == [20, 21, 22, 23, 24, 25]
    assert found(*np.full(7, 1e3)) == []
    # NaN is no answer.
    assert found(np.nan, 1e3) == [21]
    assert found(np.nan, 1e3, rest=others[1:]) == []


def test_sizes_that_differ_by_hundreds_of_orders_are_no_obstacle():
    sizes = np.random.default_rng(0).uniform(1.0, 2.0, size=(12, 6))
    sizes[:7] *= 1e-250
    wrong_workers(sizes, 1e-3, np.zeros(12))
