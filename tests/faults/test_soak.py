"""Many waves with faults of all kinds at once."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import pytest
from chaos import cgroups
from chaos.clusters import CLUSTERS
from chaos.report import soak_page, violations
from chaos.soak import CODE, Wave, soak

TRIED = [
    "Local",
    *(pytest.param(name, marks=pytest.mark.slow) for name in CLUSTERS if name != "Local"),
]


@pytest.mark.slow
@pytest.mark.parametrize("name", TRIED)
def test_nothing_hangs_is_lost_or_accumulates(name):
    cluster = CLUSTERS[name]
    lacking = [package for package in cluster.needs if importlib.util.find_spec(package) is None]
    if lacking:
        pytest.skip(f"{', '.join(lacking)} is not installed")
    waves = list(soak(cluster, 25, seed=3))
    cgroups.remove()
    assert violations(waves) == []
    assert sum(wave.faults for wave in waves) > 25
    assert sum(wave.exact for wave in waves) > 25 * 100
    assert f"{len(waves)} waves" in soak_page(cluster.name, waves)


def test_violations_of_the_guarantees_are_found():
    good = Wave(
        0, 2, 23, 0, "enough workers had answered", 0.1, 180, 20, 0, 0, 0, (), 26, 80, 90.0, 0, 1.0
    )
    waves = [replace(good, number=n) for n in range(CODE.workers + 10)]
    assert violations(waves) == []
    for change, said in (
        ({"lost": 3}, "lost 3 rows"),
        ({"unexplained": 2}, "marked 2 wrong rows exact"),
        ({"answered": 12}, "did not say that answers were missing"),
        ({"seconds": 60.0}, "took 60.0 s"),
    ):
        assert said in " ".join(violations([*waves, replace(good, **change)]))
    grown = [replace(wave, processes=26 + wave.number) for wave in waves]
    assert any("processes grew" in line for line in violations(grown))
