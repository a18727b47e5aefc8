"""`plan_cluster`: against all selections of small clusters, its errors, and what it prints."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from experiments.clusters_every import enumerate_selections
from experiments.clusters_random import small

import codedmap as cm
from codedmap.topology.selection import expected_maximum

from ..repeats import first

ERROR = 0.15


def two(**more) -> cm.topology.Cluster:
    given = {
        "learning": [
            cm.topology.LearningNode("a", seconds=0.5, cost=2.0),
            cm.topology.LearningNode("b", seconds=0.9, cost=1.0),
        ],
        "information": [
            cm.topology.InformationNode("i", samples=100),
            cm.topology.InformationNode("j", samples=400),
        ],
        "links": [
            cm.topology.Link("a", "b", 0.1, 0.5),
            cm.topology.Link("i", "a"),
            cm.topology.Link("j", "b", 0.2, 0.3),
        ],
        "error": cm.topology.ErrorModel(floor=0.01, statistical=2.0, optimisation=1.0),
    }
    return cm.topology.Cluster(**{**given, **more})


@pytest.mark.parametrize("seed", first(2, range(9)))
def test_the_plan_is_the_cheapest_without_a_time_limit_and_near_it_with_one(seed):
    cluster = small(((4, 4), (3, 5), (4, 3))[seed % 3], np.random.default_rng(seed))
    known = enumerate_selections(cluster, ERROR)
    plan = cm.topology.plan_cluster(cluster, error=ERROR, seconds=np.inf)
    assert plan.cost == pytest.approx(known.cost.min(), rel=1e-6)
    middle = known.fastest + 0.5 * (known.cheapest_seconds - known.fastest)
    plan = cm.topology.plan_cluster(cluster, error=ERROR, seconds=middle)
    assert plan.in_time
    assert plan.accurate
    assert plan.cost >= known.least(middle) * (1 - 1e-6)
    assert plan.cost <= known.least(middle) * 1.2
    # What it says of itself is what the other computation says of some selection.
    far = np.hypot(known.cost / plan.cost - 1, known.seconds / plan.seconds - 1)
    assert far.min() < 1e-6


@pytest.mark.slow
def test_units_of_cost_and_time_do_not_matter():
    cluster = small((4, 4), np.random.default_rng(3))
    known = enumerate_selections(cluster, ERROR)
    limit = known.fastest * 1.2
    plan = cm.topology.plan_cluster(cluster, error=ERROR, seconds=limit)

    def scaled(node):
        names = {"cost": 7.0, "seconds": 60.0, "seconds_per_sample": 60.0, "jitter": 60.0}
        return replace(
            node, **{k: getattr(node, k) * by for k, by in names.items() if hasattr(node, k)}
        )

    other = cm.topology.Cluster(
        *(map(scaled, group) for group in (cluster.learning, cluster.information, cluster.links)),
        cluster.error,
    )
    same = cm.topology.plan_cluster(other, error=ERROR, seconds=60 * limit)
    assert (same.learning, same.information) == (plan.learning, plan.information)
    assert same.cost == pytest.approx(7 * plan.cost)
    assert same.seconds == pytest.approx(60 * plan.seconds)


def test_a_plan_names_and_prints_its_nodes_and_links():
    plan = cm.topology.plan_cluster(two(), error=0.1, seconds=300)
    assert plan.learning == ("b",)
    assert plan.information == ("j",)
    assert plan.links == ()
    assert plan.feeds == (cm.topology.Link("j", "b", 0.2, 0.3),)
    assert plan.error <= 0.1
    assert two().error.error(400, 1.0, plan.iterations - 1) > 0.1
    assert plan.cost == pytest.approx(plan.iterations * 1.3)
    assert plan.seconds == pytest.approx(plan.iterations * 1.1)
    text = str(plan)
    assert "j-b" in text
    assert "target 0.1 holds" in text
    assert "target 300 s holds" in text
    assert pickle.loads(pickle.dumps(plan)) == plan
    with pytest.raises(AttributeError):
        plan.cost = 0.0


def test_two_learning_nodes_are_linked_where_one_is_not_enough():
    plan = cm.topology.plan_cluster(
        two(
            learning=[
                cm.topology.LearningNode("a", seconds=0.1, seconds_per_sample=0.01),
                cm.topology.LearningNode("b", seconds=0.1, seconds_per_sample=0.01),
            ],
            information=[
                cm.topology.InformationNode("i", samples=100),
                cm.topology.InformationNode("j", samples=100),
            ],
            links=[
                cm.topology.Link("a", "b", 0.01), *(cm.topology.Link(s, n) for s in "ij" for n in "ab")
            ],
            error=cm.topology.ErrorModel(statistical=30.0, optimisation=0.1),
        ),
        error=0.1,
        seconds=600,
    )  # fmt: skip
    assert plan.learning == ("a", "b")
    assert len(plan.links) == 1
    assert {(link.first, link.second) for link in plan.feeds} in (
        {("i", "a"), ("j", "b")},
        {("i", "b"), ("j", "a")},
    )


def test_too_small_an_error_says_what_the_floor_is():
    for throw in (True, False):
        with pytest.raises(
            cm.errors.Unreachable, match=r"an error of 0\.01.*floor of 0\.01"
        ) as raised:
            cm.topology.plan_cluster(two(), error=0.01, seconds=300, throw=throw)
        assert raised.value.error == 0.01
        assert raised.value.seconds == np.inf


def test_an_error_too_near_the_floor_says_so_whatever_the_time():
    slow = two(error=cm.topology.ErrorModel(floor=0.05, statistical=1e9, exponent=0.3))
    for seconds in (300, np.inf):
        with pytest.raises(cm.errors.Unreachable, match="within 1e15 iterations"):
            cm.topology.plan_cluster(slow, error=0.06, seconds=seconds)


def test_an_error_that_falls_too_slowly_is_reported_as_such():
    slow = cm.topology.ErrorModel(statistical=1e6, exponent=0.01, optimisation=0.0)
    alone = cm.topology.Cluster([cm.topology.LearningNode("a", 1.0, samples=1.0)], error=slow)
    with pytest.raises(cm.errors.Unreachable, match="or what is above that falls too slowly"):
        cm.topology.plan_cluster(alone, error=10.0, seconds=np.inf)


def test_too_little_time_names_the_best_error_and_time():
    with pytest.raises(
        cm.errors.Unreachable, match=r"within 60 s: the fastest .* takes \d"
    ) as raised:
        cm.topology.plan_cluster(two(), error=0.1, seconds=60)
    known = enumerate_selections(two(), 0.1)
    assert raised.value.seconds == pytest.approx(known.fastest)
    best = raised.value.error
    assert enumerate_selections(two(), best * 1.0001).fastest <= 60.0
    assert enumerate_selections(two(), best * 0.99).fastest > 60.0
    plan = cm.topology.plan_cluster(two(), error=0.1, seconds=60, throw=False)
    assert plan.seconds == pytest.approx(known.fastest)
    assert not plan.in_time
    assert plan.accurate
    assert "MISSED" in str(plan)


def test_no_time_for_one_iteration():
    with pytest.raises(
        cm.errors.Unreachable, match=r"even one iteration takes at least 0\.5 s"
    ) as raised:
        cm.topology.plan_cluster(two(), error=0.1, seconds=0.1)
    assert raised.value.error == np.inf


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: cm.topology.LearningNode("a", seconds=-1.0), "learning node a: seconds=-1.0"),
        (
            lambda: cm.topology.LearningNode("a", seconds=1.0, cost=np.nan),
            "learning node a: cost=nan",
        ),
        (lambda: cm.topology.LearningNode("", seconds=1.0), "name of learning node must be a text"),
        (
            lambda: cm.topology.InformationNode("i", samples=np.inf),
            "information node i: samples=inf",
        ),
        (
            lambda: cm.topology.InformationNode("i", samples="7"),
            "samples='7' must be a finite number",
        ),
        (lambda: cm.topology.Link("a", "b", cost=-0.1), "link a-b: cost=-0.1"),
        (lambda: cm.topology.ErrorModel(exponent=0), "exponent=0 must be a finite number above 0"),
        (
            lambda: two(links=[cm.topology.Link("a", "x")]),
            "names 'x', which is not a node of this cluster",
        ),
        (lambda: two(links=[cm.topology.Link("a", "a")]), "connects a node with itself"),
        (lambda: two(links=[cm.topology.Link("i", "j")]), "connects two information nodes"),
        (
            lambda: two(links=[cm.topology.Link("a", "b"), cm.topology.Link("b", "a")]),
            "link b-a is given twice",
        ),
        (
            lambda: two(links=[cm.topology.Link("i", "a"), cm.topology.Link("j", "b")]),
            "leave 1 of 2 .* unconnected",
        ),
        (
            lambda: two(links=[cm.topology.Link("a", "b"), cm.topology.Link("i", "a")]),
            r"1 information node without a link .* \(j\)",
        ),
        (lambda: two(learning=[]), "without a learning node"),
        (
            lambda: two(learning=cm.topology.LearningNode("a", 1.0)),
            "must be a sequence of LearningNode",
        ),
        (lambda: two(learning=np.array(3.0)), r"array\(3.\) must be a sequence of LearningNode"),
        (lambda: two(links=np.array(None)), "must be a sequence of Link"),
        (lambda: two(information=["i"]), "holds 'i', instead of InformationNode"),
        (
            lambda: two(information=[cm.topology.InformationNode("a", 1)]),
            r"more than one node has each of 1 name \(a\): rename",
        ),
        (lambda: two(error=0.1), "error=0.1 must be an ErrorModel"),
        (
            lambda: two(information=[], links=[cm.topology.Link("a", "b")]),
            "no node has any samples",
        ),
        (lambda: cm.topology.plan_cluster(None, error=0.1, seconds=1), "must be a Cluster"),
        (lambda: cm.topology.plan_cluster(two(), error=np.nan, seconds=1), "error=nan"),
        (lambda: cm.topology.plan_cluster(two(), error=0.1, seconds=0), "seconds=0"),
        (lambda: cm.topology.plan_cluster(two(), error=0.1, seconds=np.nan), "seconds=nan"),
    ],
)
def test_invalid_arguments_are_refused(make, said):
    with pytest.raises(cm.InvalidArgument, match=said):
        make()


def test_a_cluster_without_information_nodes_learns_from_its_own_samples():
    cluster = cm.topology.Cluster([cm.topology.LearningNode("a", seconds=1.0, cost=1.0, samples=4)])
    plan = cm.topology.plan_cluster(cluster, error=0.1, seconds=1000)
    assert plan.iterations == 225  # (1/√4 + 1)² / 0.1²
    assert plan.information == ()


def test_terms_that_are_switched_off():
    for model, iterations in (
        (cm.topology.ErrorModel(statistical=0.0, optimisation=1.0), 100),
        (cm.topology.ErrorModel(statistical=1.0, optimisation=0.0), 25),
        (cm.topology.ErrorModel(statistical=0.0, optimisation=0.0), 1),
        (cm.topology.ErrorModel(statistical=1.0, exponent=1.0, optimisation=0.0), 3),
    ):
        cluster = cm.topology.Cluster(
            [cm.topology.LearningNode("a", seconds=1.0, samples=4)], error=model
        )
        assert cm.topology.plan_cluster(cluster, error=0.1, seconds=1e6).iterations == iterations


def test_a_node_that_is_free_but_learns_nothing_is_not_the_cheapest():
    cluster = cm.topology.Cluster(
        [
            cm.topology.LearningNode("free", seconds=0.0),
            cm.topology.LearningNode("able", seconds=1.0, cost=1.0),
        ],
        [cm.topology.InformationNode("data", samples=4)],
        [cm.topology.Link("free", "able"), cm.topology.Link("able", "data")],
    )
    plan = cm.topology.plan_cluster(cluster, error=0.1, seconds=np.inf)
    assert plan.learning == ("able",)
    assert plan.cost == pytest.approx(enumerate_selections(cluster, 0.1).cost.min())


def test_the_expected_slowest_of_equal_nodes_is_a_harmonic_number():
    for count in (1, 3, 50):
        mean, shares = expected_maximum(np.full(count, 2.0), np.full(count, 0.5))
        assert mean == pytest.approx(2.0 + 0.5 * (1.0 / np.arange(1, count + 1)).sum(), rel=1e-5)
        assert shares == pytest.approx(np.full(count, 1.0 / count), rel=1e-4)


def test_the_expected_slowest_of_unequal_nodes_is_what_draws_say():
    fixed, jitter = np.array([1.0, 1.2, 0.3, 1.1]), np.array([0.5, 0.0, 1.0, 0.01])
    drawn = fixed + jitter * np.random.default_rng(0).standard_exponential((400_000, 4))
    mean, shares = expected_maximum(fixed, jitter)
    # Five standard errors of the draws.
    assert mean == pytest.approx(drawn.max(axis=1).mean(), abs=5 * drawn.max(axis=1).std() / 632)
    assert shares == pytest.approx(np.bincount(drawn.argmax(axis=1)) / 400_000, abs=0.005)


def test_where_no_term_depends_on_samples_a_node_without_any_counts_too():
    model = cm.topology.ErrorModel(0.0, statistical=0.0, optimisation=1.0)
    np.testing.assert_array_equal(model.iterations(0.1, np.array([0.0, 5.0]), 1.0), [100.0, 100.0])
