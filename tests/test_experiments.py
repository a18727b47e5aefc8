from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from experiments import report
from experiments.harness import Experiment, run
from experiments.registry import EXPERIMENTS
from experiments.replay import grouped, straggler_sets
from experiments.stats import mean_interval, slope_interval

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Few:
    cells: int


def counting(calls: list, fail_at: int | None = None) -> Experiment:
    def compute(settings, cell, rng):
        if cell["n"] == fail_at:
            raise KeyboardInterrupt
        calls.append(cell["n"])
        yield {"drawn": rng.standard_normal()}

    return Experiment(
        "counting",
        lambda quick: Few(3 if quick else 5),
        lambda settings: [{"n": n} for n in range(settings.cells)],
        compute,
        lambda table, path: path.write_bytes(b"picture"),
        lambda table: f"{len(table)} rows",
    )


def test_an_interrupted_run_goes_on_where_it_was(tmp_path):
    calls: list = []
    with pytest.raises(KeyboardInterrupt):
        run(counting(calls, fail_at=3), quick=False, seed=0, root=tmp_path)
    assert calls == [0, 1, 2]
    table = run(counting(calls), quick=False, seed=0, root=tmp_path)
    assert calls == [0, 1, 2, 3, 4]
    assert table.n.tolist() == [0, 1, 2, 3, 4]


def test_the_same_seed_gives_the_same_table_and_another_seed_another(tmp_path):
    tables = [
        run(counting([]), quick=False, seed=seed, root=tmp_path / str(i))
        for i, seed in enumerate((0, 0, 1))
    ]
    pd.testing.assert_frame_equal(tables[0], tables[1])
    assert (tables[0].drawn != tables[2].drawn).all()


def test_quick_and_full_runs_do_not_touch_each_other(tmp_path):
    full = run(counting([]), quick=False, seed=0, root=tmp_path)
    quick = run(counting([]), quick=True, seed=0, root=tmp_path)
    assert (len(full), len(quick)) == (5, 3)
    assert len(pd.read_csv(tmp_path / "counting.csv")) == 5
    assert len(pd.read_csv(tmp_path / "quick" / "counting.csv")) == 3


@pytest.mark.parametrize("kind", ["random", "consecutive", "periodic"])
def test_straggler_sets_lose_as_many_as_they_say(kind):
    rng = np.random.default_rng(0)
    for workers, stragglers in ((20, 0), (20, 5), (21, 20)):
        for slots in straggler_sets(workers, stragglers, 20, rng, kind):
            assert len(slots) == workers - stragglers
            assert np.all(np.diff(slots) > 0)


def test_groups_hold_each_input_once():
    inputs = np.arange(103)
    groups = grouped(inputs, 10, np.random.default_rng(0))
    assert groups.shape == (10, 10)
    assert len(np.unique(groups)) == 100


def test_intervals_cover_as_often_as_they_say():
    rng = np.random.default_rng(0)
    covered = [
        (interval := mean_interval(rng.standard_normal(12))).low <= 0 <= interval.high
        for _ in range(600)
    ]
    assert 0.92 < np.mean(covered) < 0.98
    x = np.logspace(0, 3, 12)
    slopes = [slope_interval(x, x**-3 * np.exp(0.3 * rng.standard_normal(12))) for _ in range(600)]
    assert 0.92 < np.mean([slope.low <= -3 <= slope.high for slope in slopes]) < 0.98


@pytest.mark.parametrize("name", ["table", "stragglers", "sensitivity", "pictures"])
def test_a_quick_run_needs_no_data_folder_and_tells_what_came_out(name, tmp_path, monkeypatch):
    monkeypatch.setenv("CODEDMAP_DATA", str(tmp_path / "nothing"))
    table = run(EXPERIMENTS[name], quick=True, seed=0, root=tmp_path)
    assert len(table) > 10
    assert (tmp_path / "quick" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    text = EXPERIMENTS[name].report(table)
    assert "**Asked.**" in text
    assert "**Means.**" in text


def test_the_committed_page_is_what_the_committed_tables_say():
    assert (ROOT / "results" / "README.md").read_text() == report.page(ROOT / "results")


def test_a_missing_data_set_says_which_command_fetches_it_and_how_large_it_is(tmp_path):
    nothing = {
        "CODEDMAP_DATA": str(tmp_path),
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path),
    }
    command = [
        sys.executable,
        "-m",
        "experiments",
        "latency",
        "--results",
        str(tmp_path / "results"),
    ]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **nothing},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "MB" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_experiment_is_named():
    command = [sys.executable, "-m", "experiments", "tabel"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no experiment is called tabel: choose from" in done.stderr
