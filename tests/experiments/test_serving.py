"""The serving experiment: the formulas agree with `map`, and the report is complete."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from experiments.harness import run
from experiments.latency_live import Timed, idle, sent
from experiments.serving_ways import PATIENCE, Times, measured_ways, slow_ways

import codedmap as cm
from experiments import serving, serving_report


def some_times(waves: int, K: int, rng: np.random.Generator) -> Times:
    first = 0.01 * rng.random((waves, 2 * K))
    first[rng.random(first.shape) < 0.2] += 2.0
    return Times(first, 0.01 * rng.random((waves, K)), np.full(waves, 0.4))


@pytest.mark.parametrize("at", range(5))
def test_the_formulas_agree_with_map(at):
    rng = np.random.default_rng(at)
    K, waves = 4, 2
    times = some_times(waves, K, rng)
    way = measured_ways(K, 6)[at]
    seconds, calls = way.simulated(times)
    rows = rng.standard_normal((K, 3))
    with cm.engines.Local(2 * K) as engine:
        for wave in range(waves):
            idle(engine)
            late = float(times.late[wave])
            timed = Timed(engine, way.code.workers, times.first[wave], times.again[wave], rows)
            result = cm.map(
                np.tanh,
                rows,
                code=way.code,
                engine=timed,
                stop=way.stop(late),
                hedge=way.hedge(late),
            )
            assert sent(result) == calls[wave]
            assert result.exact.all() or way.name.startswith("KernelCode")
            assert seconds[wave] <= PATIENCE * late or way.deadline is None


def test_a_code_and_a_hedge_are_estimated_only_where_neither_call_came():
    K = 4
    times = Times(np.full((1, 8), 0.02), np.full((1, 4), 9.0), np.full(1, 0.1))
    times.first[0, 1] = 9.0
    way = measured_ways(K, 6)[4]
    assert way.simulated(times) == (pytest.approx(PATIENCE * 0.1), 7)
    times.again[0, 1] = 0.01
    assert way.simulated(times).seconds == pytest.approx(0.11)


def test_at_a_cost_of_a_quarter_more_no_way_sends_more_than_that_but_two_copies():
    times = some_times(200, 20, np.random.default_rng(0))
    for way in slow_ways(20, 25):
        assert way.simulated(times).calls.mean() <= (40 if way.name == "copies x2" else 25)


def test_the_table_has_a_row_for_each_way_and_the_report_is_complete(tmp_path):
    tiny = serving.Config(4, {"traces": 2, "slow": 2}, {"traces": 0.02, "slow": 0.02}, 500, True)
    experiment = serving.EXPERIMENT
    only = type(experiment)(
        experiment.name, lambda quick: tiny, lambda config: [{"part": "slow"}], experiment.compute,
        experiment.plot, experiment.report,
    )  # fmt: skip
    table = run(only, quick=True, seed=0, root=tmp_path)
    assert table["way"].tolist() == [way.name for way in slow_ways(4, 5)]
    assert (table.loc[table["estimated"] == 0, "error"] < 1e-5).all()
    text = serving_report.report(table)
    assert "**Question.**" in text
    assert "{" not in text
    assert "nan" not in text


def test_the_readme_shows_the_tables_of_the_full_run():
    root = Path(__file__).parents[2]
    table = pd.read_csv(root / "results" / "serving.csv")
    readme = (root / "README.md").read_text(encoding="utf-8")
    for part in ("traces", "slow"):
        assert serving_report.summary(table[table["part"] == part]) in readme
