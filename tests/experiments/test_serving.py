"""The serving experiment: live jobs are those of virtual time, and the report is complete."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from experiments.harness import run
from experiments.latency_live import idle, sent
from experiments.serving_ways import ways

import codedmap as cm
from experiments import serving, serving_report

from ..repeats import first


def some_calls(waves: int, K: int, rng: np.random.Generator) -> np.ndarray:
    calls = 0.1 + 0.05 * rng.random((2, waves, 2 * K))
    calls[0][rng.random(calls[0].shape) < 0.2] += 2.0
    return calls


@pytest.mark.parametrize("at", first(1, range(5)))
def test_live_jobs_are_those_of_virtual_time(at):
    rng = np.random.default_rng(at)
    K, waves = 4, 2
    calls = some_calls(waves, K, rng)
    way = ways(K, 5)[at]
    waits = way.simulated(calls, K)
    rows = rng.standard_normal((K, 3))
    with cm.engines.Local(2 * K) as engine:
        for wave in range(waves):
            idle(engine)
            result = way.run(np.tanh, rows, engine, calls[:, wave])
            assert sent(result) == waits.calls[wave]
            assert result.exact.all() or way.name == "KernelCode"
            assert result.seconds >= waits.seconds[wave]


@pytest.mark.slow
def test_no_scheme_but_two_copies_sends_more_calls_than_the_code():
    calls = some_calls(200, 20, np.random.default_rng(0))
    for way in ways(20, 25):
        sent = way.simulated(calls, 20).calls
        most = {"copies x2": 40, "exact, hedged": 20 + 8}  # 8 hedges at most, and few on average
        assert sent.max() <= most.get(way.name, 25)
        assert sent.mean() <= (40 if way.name == "copies x2" else 25)


@pytest.mark.slow
def test_the_table_has_a_row_for_each_way_and_the_report_is_complete(tmp_path):
    tiny = serving.Config(4, {"traces": 2, "slow": 2}, {"traces": 0.02, "slow": 0.02}, 500, True)
    experiment = serving.EXPERIMENT
    only = type(experiment)(
        experiment.name, lambda quick: tiny, lambda config: [{"part": "slow"}], experiment.compute,
        experiment.plot, experiment.report,
    )  # fmt: skip
    table = run(only, quick=True, seed=0, root=tmp_path)
    assert table["way"].tolist() == [way.name for way in ways(4, 5)]
    assert (table.loc[table["estimated"] == 0, "error"] < 1e-5).all()
    text = serving_report.report(table)
    assert "**Question.**" in text
    assert "{" not in text
    assert "nan" not in text


def test_the_page_of_measurements_shows_the_tables_of_the_full_run():
    root = Path(__file__).parents[2]
    table = pd.read_csv(root / "results" / "serving.csv")
    page = (root / "docs" / "measured.md").read_text(encoding="utf-8")
    for part in ("traces", "slow"):
        own = table[table["part"] == part]
        assert serving_report.summary(own) in page
        assert f"it spends {serving_report.overhead(own)} a wave" in " ".join(page.split())
