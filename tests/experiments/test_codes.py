"""The experiments on gradient codes, polar codes and clusters run, and their numbers are right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from experiments.clusters_every import enumerate_selections
from experiments.clusters_random import small
from experiments.harness import run

import codedmap as cm
from experiments import clusters, gradients, polar


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


def reported(experiment, root: Path) -> tuple[pd.DataFrame, str]:
    table = run(experiment, quick=True, seed=0, root=root)
    assert (root / "quick" / f"{experiment.name}.png").read_bytes().startswith(b"\x89PNG")
    text = experiment.report(table)
    assert "**Question.**" in text
    assert "**Conclusion.**" in text
    return table, text


@pytest.mark.slow
def test_times_of_sums_are_order_statistics(root):
    table, _ = reported(gradients.EXPERIMENT, root)
    chosen = table[
        (table.part == "time") & (table.regime == "even") & (table.scheme != "ignore stragglers")
    ]
    timed = chosen.set_index(["scheme", "parts", "m"])["mean"].sort_index()
    assert timed["polynomial", 1, 1] == timed["wait for all", 1, 1] == timed["copies", 1, 1]
    assert timed["grouped", 4, 1] == timed["copies", 4, 1]
    assert np.allclose(timed["grouped", 12], timed["polynomial", 12], rtol=1e-9)
    live = table[table.part == "live"]
    assert (live.off < 1e-9).all()
    # It cannot be faster than what it sleeps.
    assert (live.ratio > 0.999).all()


@pytest.mark.parametrize(
    "code",
    [
        cm.codes.PolynomialGradientCode(12, 2, 2),
        cm.codes.GroupedGradientCode(12, 4, 2),
        cm.codes.FractionalRepetition(12, 3),
    ],
)
def test_simulated_sums_end_when_the_code_can_decode(code):
    times = np.random.default_rng(0).exponential(size=(50, 12))
    expected = [gradients.gradients_live._decoding_time(code, wave) for wave in times]
    if isinstance(code, cm.codes.PolynomialGradientCode):
        found = np.sort(times, axis=1)[:, 9]
    else:
        groups = np.sort(gradients._groups(times, code.load), axis=1)
        found = groups[:, code.reduction - 1].max(axis=1)
    assert found.tolist() == expected


@pytest.mark.slow
def test_a_polar_code_needs_more_answers_and_its_error_bars_hold(root):
    table, text = reported(polar.EXPERIMENT, root)
    needed = table[table.part == "needed"].set_index(["scheme", "N", "K"]).sort_index()
    assert (needed.loc["MDS", "over"] < 0.01).all()
    assert (needed.loc["polar", "over"] > 0.0).all()
    estimated = table[(table.part == "anytime") & (table.estimated >= 10)]
    assert estimated.covered.between(0.9, 0.99).all()
    exact = table[(table.part == "anytime") & (table.decodable == 1.0)]
    assert (exact.error < 1e-9).all()
    assert "python -m benchmarks polar" in text


@pytest.mark.slow
def test_plans_of_clusters_are_never_below_the_least(root):
    table, text = reported(clusters.EXPERIMENT, root)
    least = table[table.part == "least"]
    assert (least.ratio.dropna() > 1 - 1e-6).all()
    assert (least.alone >= 1 - 1e-9).all()
    assert least[least.target == "none"].ratio.notna().all()
    assert "exponent" in text


def test_all_selections_are_as_many_as_can_be_counted():
    cluster = small((3, 2), np.random.default_rng(1))
    dense = cm.topology.Cluster(
        cluster.learning,
        cluster.information,
        [
            *(cm.topology.Link(a, b) for a, b in (("l0", "l1"), ("l0", "l2"), ("l1", "l2"))),
            *(cm.topology.Link(i, n) for i in ("i0", "i1") for n in ("l0", "l1", "l2")),
        ],
        cluster.error,
    )
    known = enumerate_selections(dense, 10.0)
    # 3 alone in 2² ways, 3 pairs in 3², 4 connected triples in 4²; without samples nothing is learned.
    without = sum(
        sum(node.samples for node in dense.learning if node.name in names) == 0
        for names, _ in known.structures
    )
    assert len(known.cost) == 3 * 4 + 3 * 9 + 4 * 16 - without
    assert len(known.structures) == 10
