"""The experiment with Sobol indices of runs that are lost."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from experiments.services import have_traces
from experiments.sweeps import Cell, indices, measured, report, saltelli

from experiments import sweeps

LOW, HIGH = np.full(3, -np.pi), np.full(3, np.pi)


def test_indices_are_those_of_theory():
    """Ishigami's, by integration: a = 7, b = 0.1."""
    x = saltelli(LOW, HIGH, 4096, 0)
    y = np.sin(x[:, 0]) + 7 * np.sin(x[:, 1]) ** 2 + 0.1 * x[:, 2] ** 4 * np.sin(x[:, 0])
    own, total = indices(np.stack([y, -3 * y], axis=1), 3)
    np.testing.assert_allclose(own[:, 0], [0.314, 0.442, 0.0], atol=0.02)
    np.testing.assert_allclose(total[:, 0], [0.558, 0.442, 0.244], atol=0.02)
    np.testing.assert_allclose(own[:, 1], own[:, 0])


def test_in_each_row_of_a_point_one_input_is_exchanged():
    x = saltelli(LOW, HIGH, 8, 0).reshape(8, 5, 3)
    first, second = x[:, 0], x[:, -1]
    for i in range(3):
        other = np.arange(3) != i
        np.testing.assert_array_equal(x[:, 1 + i, other], first[:, other])
        np.testing.assert_array_equal(x[:, 1 + i, i], second[:, i])


@pytest.mark.slow
def test_six_ways_are_compared():
    rows = pd.DataFrame(
        row for kind in ("random", "region") for row in measured(Cell("ishigami", 32, 0.1, kind), 0)
    )
    ways = {"fill", "median", "nearest", "radial basis", "Gaussian process"}
    for kind, some in rows.groupby("kind"):
        assert set(some.way) >= ways
        assert set(some.warned) == {kind == "region"}
    assert (rows.error > 0).all()
    own = rows[rows.way == "fill"]
    assert own[["covered", "normal", "alike", "small"]].stack().between(0, 1).all()
    assert (own.covered >= own.normal).all()
    assert (own.square > 0).all()
    assert rows[(rows.way == "median") & (rows.kind == "random")].sure.max() < -2
    text = report(rows)
    assert "| random | 10% |" in text
    assert "| region | 10% |" in text
    assert "nan" not in text


def test_jobs_are_stopped_as_their_rule_says(monkeypatch):
    if not have_traces():
        monkeypatch.setattr(
            sweeps, "_session", lambda rng, calls: rng.lognormal(0.0, 0.5, (calls, 64))
        )
    rows = pd.DataFrame(measured(Cell("jobs", 2, 2.0, "time"), 0)).set_index("way")
    assert (rows.loc["wait for all", "left"] == 0).all()
    assert (rows.loc["Share(0.9) with hedging", "left"].between(0.05, 0.1 + 1e-9)).all()
    assert (rows.loc["hedging", "calls"] >= 1).all()
