"""Where rows are lost more often than elsewhere: what is said, against counts and against likelihoods of SciPy."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from codedmap.estimation import losses
from codedmap.estimation.losses import dependence

from ..repeats import first

NAMES = ["a", "b", "c"]


def split_by_likelihood(points: np.ndarray, lost: np.ndarray) -> str | None:
    """The bound of one input by which lost and kept rows differ most surely, tried one by one."""
    values = [np.unique(column) for column in points.T]
    distinct = len(np.unique(points, axis=0)) / len(points)
    found, least = None, np.log(sum(map(len, values))) + 7.0
    for name, column, there in zip(NAMES, points.T, values, strict=True):
        for bound in (there[1:] + there[:-1]) / 2:
            sides = column <= bound, column > bound
            shares = [lost[side].mean() for side in sides]
            table = [[np.sum(side & rows) for rows in (lost, ~lost)] for side in sides]
            doubled = chi2_contingency(table, correction=False, lambda_="log-likelihood").statistic
            if abs(shares[1] - shares[0]) >= 0.1 and distinct * doubled / 2 > least:
                least = distinct * doubled / 2
                worst = int(shares[1] > shares[0])
                region = f"{name} {'>' if worst else '<='} {bound:.3g}"
                found = f"of the rows with {region} {shares[worst]:.0%} are lost, "
                found += f"of the others {shares[1 - worst]:.0%}"
    return found


@pytest.mark.parametrize(("rows", "repeats"), first(1, [(90, 1), (240, 3)]))
def test_the_bound_of_one_input_is_that_of_the_largest_likelihood_ratio(rows, repeats):
    rng = np.random.default_rng(repeats)
    said = []
    for _ in range(50):
        points = rng.integers(-4, 5, size=(rows // repeats, 3)) * [1.0, 0.25, 0.5]
        column = points[:, rng.integers(3)]
        chance = np.where(column > rng.normal(), *rng.uniform(size=2))
        points, chance = (np.repeat(all_of, repeats, axis=0) for all_of in (points, chance))
        lost = rng.random(rows) < chance
        if 8 <= lost.sum() <= rows - 8:
            said.append(dependence(points, lost, NAMES, 0, quick=True))
            assert said[-1] == split_by_likelihood(points, lost)
    assert 5 < sum(one is None for one in said) < 45


def inside(region: str, points: np.ndarray) -> np.ndarray:
    """Which rows are in a region, by what is said of it."""
    rows = np.ones(len(points), dtype=bool)
    for part in region.split(" and "):
        name = re.search("[abc]", part)[0]
        assert part.count(name) == 1
        column = points[:, NAMES.index(name)]
        low, high = re.search(r"(\S+) <", part), re.search(r"<= (\S+)", part)
        above = re.search(r"> (\S+)", part) or (low if part[0] not in NAMES else None)
        rows &= (column > float(above[1])) if above else True
        rows &= (column <= float(high[1])) if high else True
    return rows


@pytest.mark.parametrize("seed", range(8))
def test_the_shares_that_are_said_are_those_of_the_region(seed):
    rng = np.random.default_rng(seed)
    points = rng.integers(-5, 6, size=(400, 3)) * [1.0, 2.0, -1.0]
    low = rng.integers(-4, 0, size=3)
    middle = ((points > low) & (points <= low + 6)).sum(axis=1)
    lost = rng.random(400) < np.array([0.02, 0.05, 0.2, 1.0])[middle]
    said = dependence(points, lost, NAMES, 0)
    region, some, others = re.fullmatch(
        r"of the rows with (.*) (\d+)% are lost, of the others (\d+)%", said
    ).groups()
    rows = inside(region, points)
    assert rows.sum() >= max(3, lost.sum() // 10)
    assert (some, others) == (f"{100 * lost[rows].mean():.0f}", f"{100 * lost[~rows].mean():.0f}")
    assert lost[rows].mean() > lost[~rows].mean() + 0.1


def test_losses_that_no_single_input_tells_are_found_but_not_in_a_hurry():
    points = np.random.default_rng(0).uniform(-1, 1, size=(300, 3))
    lost = points[:, 0] * points[:, 1] > 0.1
    said = dependence(points, lost, NAMES, 0)
    assert said is not None
    assert "a" in said
    assert "b" in said
    assert dependence(points, lost, NAMES, 0, quick=True) is None


def test_a_difference_of_less_than_a_tenth_is_not_said_however_sure():
    rows = np.arange(4000)
    points = np.stack([rows % 2, rows // 2 % 2, rows], axis=1).astype(float)
    for one, other, said in ((0.02, 0.11, False), (0.02, 0.13, True), (0.6, 0.69, False)):
        lost = rows * 37 // 4 % 100 < 100 * np.where(points[:, 1] > 0, other, one)
        assert (dependence(points, lost, NAMES, 0, quick=True) is not None) == said


@pytest.mark.parametrize(("rows", "repeats"), [(25, 1), (100, 4), (1500, 1)])
def test_a_classifier_must_beat_chance_by_a_tenth_and_by_four_standard_errors(
    rows, repeats, monkeypatch
):
    rng = np.random.default_rng(0)
    points = np.repeat(rng.uniform(size=(rows, 2)), repeats, axis=0)
    few = rows * 2 // 5
    lost = np.repeat(np.arange(rows) < few, repeats)
    # The area under the curve of scores that are chance: the share of pairs in the right order.
    ranks = rng.random((20_000 if rows < 100 else 1000, rows)).argsort(axis=1)[:, :few]
    areas = (ranks.sum(axis=1) / few - (few - 1) / 2) / (rows - few)

    class Trees:
        def __init__(self, *given, **options):
            pass

        def fit(self, *given):
            return self

        def predict_proba(self, points):
            return np.zeros((len(points), 2))

    monkeypatch.setattr("sklearn.ensemble.ExtraTreesClassifier", Trees)
    low, high = 0.5, 1.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        monkeypatch.setattr("sklearn.metrics.roc_auc_score", lambda *_, now=middle: now)
        found = losses._predicted(points, lost, np.random.default_rng(0))
        low, high = (low, middle) if found else (middle, high)
    error = 0.01 if rows < 100 else 0.05
    assert low - 0.5 == pytest.approx(max(0.1, 4 * np.std(areas)), rel=error)


def test_a_classifier_is_tested_on_rows_whose_equals_it_has_not_seen(monkeypatch):
    tested = []

    class Trees:
        def __init__(self, *given, **options):
            pass

        def fit(self, points, lost):
            self.known = {*points[:, 0]}
            return self

        def predict_proba(self, points):
            assert not self.known & {*points[:, 0]}
            tested.extend(points[:, 0])
            return np.stack([1 - points[:, 0] / 200, points[:, 0] / 200], axis=1)

    monkeypatch.setattr("sklearn.ensemble.ExtraTreesClassifier", Trees)
    points = np.repeat(np.arange(100), 2)[:, None].astype(float)
    for lost, found in (
        (points[:, 0] > 70, True),
        (points[:, 0] < 30, False),
        (points[:, 0] % 3 == 0, False),
    ):
        tested.clear()
        assert losses._predicted(points, lost, np.random.default_rng(0)) is found
        assert sorted(tested) == points[:, 0].tolist()
    # No classifier is fitted to rows of one kind.
    alone = np.zeros(200, dtype=bool)
    alone[6:8] = True
    assert not losses._predicted(points, alone, np.random.default_rng(0))


@pytest.mark.parametrize("kept", [False, True])
def test_a_few_lost_or_kept_rows_say_nothing(kept):
    points = np.arange(60.0)[:, None]
    few, enough = ((points[:, 0] < count) != kept for count in (2, 3))
    assert dependence(points, few, ["a"], 0) is None
    assert dependence(points, enough, ["a"], 0) is not None
    assert dependence(points[:, :0], enough, [], 0) is None


@pytest.mark.parametrize("quick", [False, True])
def test_the_few_slowest_rows_are_in_a_region(quick):
    """A job that stops before its last rows loses those that take longest."""
    rng = np.random.default_rng(0)
    points = rng.random((300, 4))
    lost = np.zeros(300, dtype=bool)
    lost[np.argsort(points[:, 1])[-5:]] = True
    said = dependence(points, lost, list("abcd"), 0, quick=quick)
    assert said == "of the rows with b > 0.979 100% are lost, of the others 0%"
    by_chance = [
        dependence(points, rng.permutation(300) < count, list("abcd"), 0, quick=quick)
        for count in range(1, 8)
        for _ in range(20)
    ]
    assert by_chance == [None] * 140


@pytest.mark.slow
def test_of_very_many_inputs_those_that_decide_are_found_and_chance_is_not():
    """Each of 3,000 may seem to decide."""
    rng = np.random.default_rng(5)
    points = rng.random((400, 3000))
    names = [f"x{k}" for k in range(3000)]
    found = dependence(points, points[:, 1234] > 0.8, names, 0, quick=True)
    assert "x1234 > 0.8" in found
    by_chance = [dependence(points, rng.random(400) < 0.2, names, 0, quick=True) for _ in range(40)]
    assert by_chance == [None] * 40


@pytest.mark.parametrize("columns", [3, 100, 400, 3000])
def test_evidence_is_more_than_chance_gives_among_all_inputs(columns, monkeypatch):
    """Of which at most a hundred are looked at."""
    asked = []
    monkeypatch.setattr(losses, "_split", lambda *given: asked.append(given))
    rng = np.random.default_rng(0)
    points, lost = rng.random((50, columns)), rng.random(50) < 0.3
    dependence(points, lost, [f"x{k}" for k in range(columns)], 0, quick=True)
    ranks, _, names, values, chance = asked[0]
    looked = min(columns, 100)
    assert ranks.shape == (50, looked)
    assert len(names) == len(values) == looked
    every = np.log(50 * columns) + 7.0
    assert chance + np.log(sum(map(len, values))) == pytest.approx(every)


def test_rows_of_one_input_that_are_all_lost_do_not_tell_of_others():
    points = np.repeat(np.arange(30.0), 8)[:, None]
    assert dependence(points, points[:, 0] == 13.0, ["a"], 0) is None


@pytest.mark.parametrize(("lost", "least"), [(12, 3), (39, 3), (40, 4), (75, 7)])
def test_a_region_holds_three_rows_or_a_tenth_of_the_lost_ones(lost, least, monkeypatch):
    class Chosen(Exception):
        pass

    def tree(*, max_leaf_nodes, min_samples_leaf, random_state):
        raise Chosen(max_leaf_nodes, min_samples_leaf)

    monkeypatch.setattr("sklearn.tree.DecisionTreeClassifier", tree)
    points = np.arange(300.0)[:, None]
    with pytest.raises(Chosen, match=f"4, {least}"):
        dependence(points, points[:, 0] < lost, ["a"], 0)
