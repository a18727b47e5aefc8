from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from experiments.data import MissingData
from experiments.harness import Experiment, check, run
from experiments.registry import EXPERIMENTS
from experiments.replay import cut_for, grouped, straggler_sets
from experiments.stats import jackknife_interval, mean_interval, slope_interval

import codedmap as cm
from experiments import __main__ as start
from experiments import models, program, report, times

from ..repeats import first

ROOT = Path(__file__).parents[2]


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


def test_all_missing_data_is_reported_before_the_first_cell(tmp_path, monkeypatch):
    monkeypatch.setenv("CODEDMAP_DATA", str(tmp_path / "nothing"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    needed = {0: (), 1: ("cifar10-jpeg.zip",), 4: ("vit-s14-saliency.onnx", "cifar10-jpeg.zip")}
    calls: list = []
    experiment = dataclasses.replace(
        counting(calls), reads=lambda settings, cell: needed.get(cell["n"], ())
    )
    with pytest.raises(MissingData) as raised:
        run(experiment, quick=False, seed=0, root=tmp_path)
    assert calls == []
    found = str(raised.value).splitlines()[1:-1]
    assert [line.split(":")[0] for line in found] == [
        "  cifar10-jpeg.zip (62 MB)",
        "  vit-s14-saliency.onnx (97 MB)",
    ]
    assert "`python -m experiments.prepare cifar10`" in found[0]
    assert "`python -m experiments.prepare vit`" in found[1]
    # The quick configuration has no cell 4.
    with pytest.raises(MissingData) as raised:
        run(experiment, quick=True, seed=0, root=tmp_path)
    assert "vit" not in str(raised.value)


def test_the_full_run_names_every_file_it_needs_and_the_quick_one_needs_none(tmp_path, monkeypatch):
    monkeypatch.setenv("CODEDMAP_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    check(EXPERIMENTS.values(), quick=True)
    with pytest.raises(MissingData) as raised:
        check(EXPERIMENTS.values(), quick=False)
    found = [line.split()[0] for line in str(raised.value).splitlines()[1:-1]]
    # MNIST has a stand-in that packages ship; what a missing file is made of comes before it.
    assert found == [
        "cifar10-jpeg.zip",
        "imagenet-samples-224.zip",
        "aws-lambda-256-workers.npz",
        "resnet20-cifar10.pt",
        "resnet20-cifar10.onnx",
        "efficientnet-lite0.onnx",
        "vit-s14-saliency.onnx",
    ]


def reading(calls: list, path: Path) -> Experiment:
    return dataclasses.replace(counting(calls), reads=lambda settings, cell: (path,))


def test_a_cell_is_not_used_again_for_other_content_of_what_it_reads(tmp_path):
    weights, calls = tmp_path / "weights.onnx", []
    for content, computed in ((b"one", 5), (b"one", 5), (b"two", 10), (b"one", 10)):
        weights.write_bytes(content)
        run(reading(calls, weights), quick=False, seed=0, root=tmp_path)
        assert len(calls) == computed


def test_digits_in_place_of_mnist_are_not_taken_for_it(tmp_path, monkeypatch):
    monkeypatch.setenv("CODEDMAP_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    calls: list = []
    experiment = dataclasses.replace(
        counting(calls), reads=lambda settings, cell: models.reads("lenet-mnist", quick=False)
    )
    run(experiment, quick=False, seed=0, root=tmp_path)
    assert len(calls) == 5
    (tmp_path / "mnist.npz").write_bytes(b"all of MNIST")
    first = run(experiment, quick=False, seed=0, root=tmp_path)
    assert len(calls) == 10
    # What is drawn for a cell does not hang on the data, so that tables stay what they were.
    (tmp_path / "mnist.npz").unlink()
    again = run(experiment, quick=False, seed=0, root=tmp_path)
    assert len(calls) == 10
    pd.testing.assert_frame_equal(first, again)


@pytest.mark.parametrize("name", ["table", "stragglers", "sensitivity", "pictures", "latency"])
def test_each_experiment_on_lenet_distinguishes_full_mnist_from_its_replacement(
    name, tmp_path, monkeypatch
):
    monkeypatch.setenv("CODEDMAP_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    experiment = EXPERIMENTS[name]
    config = experiment.configure(False)
    before = [experiment.reads(config, cell) for cell in experiment.cells(config)]
    (tmp_path / "mnist.npz").write_bytes(b"all of MNIST")
    after = [experiment.reads(config, cell) for cell in experiment.cells(config)]
    assert any(models.LENET in files for files in before)
    for files, more in zip(before, after, strict=True):
        # The latency experiment always takes the digits that packages ship.
        full = models.LENET in files and name != "latency"
        assert set(more) - set(files) == ({"mnist.npz"} if full else set())


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
    blocks = rng.exponential(size=(600, 20))
    covered = [
        (interval := jackknife_interval(20, lambda some, row=row: np.sqrt(row[some].mean()))).low
        <= 1
        <= interval.high
        for row in blocks
    ]
    assert 0.9 < np.mean(covered) < 0.98
    x = np.logspace(0, 3, 12)
    slopes = [slope_interval(x, x**-3 * np.exp(0.3 * rng.standard_normal(12))) for _ in range(600)]
    assert 0.92 < np.mean([slope.low <= -3 <= slope.high for slope in slopes]) < 0.98


@pytest.mark.slow
@pytest.mark.parametrize("name", first(1, ["stragglers", "table", "sensitivity", "pictures"]))
def test_a_quick_run_needs_no_data_folder_and_reports_its_result(name, tmp_path, monkeypatch):
    monkeypatch.setenv("CODEDMAP_DATA", str(tmp_path / "nothing"))
    table = run(EXPERIMENTS[name], quick=True, seed=0, root=tmp_path)
    assert len(table) > 10
    assert (tmp_path / "quick" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    text = EXPERIMENTS[name].report(table)
    assert "**Question.**" in text
    assert "**Conclusion.**" in text


def test_the_committed_page_is_made_from_the_committed_tables():
    assert (ROOT / "results" / "README.md").read_text() == report.page(ROOT / "results")


@pytest.mark.slow
def test_report_draws_the_figures_again_from_the_tables(tmp_path, monkeypatch):
    shutil.copy(ROOT / "results" / "pictures.csv", tmp_path)
    monkeypatch.setattr(sys, "argv", ["experiments", "report", "--results", str(tmp_path)])
    assert program.run_named() == 0
    assert (tmp_path / "pictures.png").read_bytes().startswith(b"\x89PNG")
    assert "![pictures](pictures.png)" in (tmp_path / "README.md").read_text()


@pytest.mark.slow
def test_a_run_without_stored_cells_records_its_time(tmp_path, monkeypatch):
    def ran(*line):
        monkeypatch.setattr(sys, "argv", ["experiments", *line, "--results", str(tmp_path)])
        assert program.run_named() == 0
        return pd.read_csv(tmp_path / "times.csv") if (tmp_path / "times.csv").exists() else None

    whole = EXPERIMENTS["pictures"]
    small = dataclasses.replace(whole, configure=lambda quick: whole.configure(True))
    monkeypatch.setitem(EXPERIMENTS, "pictures", small)
    monkeypatch.setenv("CODEDMAP_DATA", str(tmp_path / "nothing"))
    assert ran("pictures", "--quick") is None
    assert ran("pictures") is None  # finished cells of the quick run were there
    shutil.rmtree(tmp_path / ".cells")
    recorded = ran("pictures")
    assert list(recorded.experiment) == ["pictures"]


def test_the_page_shows_how_long_it_takes(tmp_path):
    times.record(tmp_path, "rates", 359.4)
    times.record(tmp_path, "table", 30.0)
    times.record(tmp_path, "table", 600.0)
    text = times.report(pd.read_csv(tmp_path / "times.csv"))
    assert "These 2 experiments took 16 minutes" in text
    assert "| rates | 6.0 |" in text
    assert "| table | 10.0 |" in text
    # Only what there is has a time.
    measured = pd.read_csv(ROOT / "results" / "times.csv")
    assert set(measured.experiment) <= set(EXPERIMENTS)


@pytest.mark.slow
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
    assert "aws-lambda-256-workers.npz (0.6 MB): `python -m experiments.prepare aws`" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_extra_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(start, "EXTRA", ("numpy", "no_such_module"))
    assert start.main() == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "the experiments need no_such_module: run `make reproduce`" in said


def test_ctrl_c_is_one_line_from_the_first_moment_on(monkeypatch, capsys):
    class Loading:
        @property
        def run_named(self):
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "experiments.program", Loading())
    assert start.main() == 130
    assert capsys.readouterr().err.strip().startswith("interrupted: the finished cells are stored")


def test_an_unknown_experiment_is_named(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["experiments", "tabel"])
    with pytest.raises(SystemExit) as error:
        start.main()
    assert error.value.code == 2
    assert "no experiment is called tabel: choose from" in capsys.readouterr().err


def test_rows_are_cut_as_map_cuts_them():
    rows = np.random.default_rng(0).standard_normal((40, 2))
    plain = cut_for(cm.BerrutCode(8, 10, 1), rows)
    assert plain.tolist() == np.arange(40).reshape(8, 5).tolist()
    alike = cut_for(cm.KernelCode(8, 10, 1), rows)
    assert sorted(alike.ravel().tolist()) == list(range(40))
    inside, anywhere = (np.mean([rows[group].var() for group in cut.T]) for cut in (alike, plain))
    assert inside < 0.8 * anywhere
