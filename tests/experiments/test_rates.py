"""The rates experiment: it resumes, it repeats itself, and the error falls as proven."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from experiments.harness import Experiment, run
from experiments.rates_plot import fits

from experiments import rates

SMALL = rates.Config(
    groups=2,
    workers=(44,),
    stragglers=(2,),
    noisy_stragglers=(2,),
    straggler_counts=(),
    probabilities=(0.1,),
    repetitions=2,
    noisy_repetitions=2,
    grid=(1e-8, 1e-7),
    kernel_workers=0,
)
SMALLER = dataclasses.replace(rates.EXPERIMENT, configure=lambda quick: SMALL, plot=lambda *_: None)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def table(root: Path) -> pd.DataFrame:
    return run(rates.EXPERIMENT, quick=True, seed=0, root=root)


def counting(experiment: Experiment, computed: list[dict[str, Any]]) -> Experiment:
    """The same experiment, which also notes the cells it computes."""

    def compute(config: Any, cell: Any, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
        computed.append(cell)
        return iter(experiment.compute(config, cell, rng))

    return dataclasses.replace(experiment, compute=compute)


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    computed: list[dict[str, Any]] = []

    def table() -> pd.DataFrame:
        computed.clear()
        return run(counting(SMALLER, computed), quick=True, seed=0, root=tmp_path)

    first = table()
    pd.testing.assert_frame_equal(first, table())
    assert not computed
    cells = sorted((tmp_path / ".cells" / "rates").glob("*.json"))
    lost = cells[::4]
    assert 2 < len(lost) < len(cells)
    for path in lost:
        path.unlink()
    pd.testing.assert_frame_equal(first, table())
    assert len(computed) == len(lost)


@pytest.mark.slow
def test_the_seed_decides(tmp_path: Path) -> None:
    one, same, other = (
        run(SMALLER, quick=True, seed=seed, root=tmp_path / name)
        for seed, name in ((0, "one"), (0, "same"), (1, "other"))
    )
    pd.testing.assert_frame_equal(one, same)
    assert (one["mse"] != other["mse"]).all()


@pytest.mark.slow
def test_errors_fall_faster_than_proven(table: pd.DataFrame) -> None:
    slopes = fits(table).query("sweep == 'N' and function == 'wave' and kind == 'random'")
    slopes = slopes.set_index(["noise", "code", "smoothing"])["value"]
    assert slopes[0.0, "LeTCC", "none"] < -3.0
    assert slopes[0.0, "LeTCC", "none"] < slopes[0.0, "BACC", "none"]
    assert slopes[0.1, "LeTCC", "gcv"] < slopes[0.1, "BACC", "none"]


@pytest.mark.slow
def test_smoothing_helps_against_noise(table: pd.DataFrame) -> None:
    cells = table.query("noise > 0 and code == 'LeTCC' and in_fit")
    keys = ["sweep", "function", "kind", "workers", "stragglers", "smoothing"]
    mse = cells.set_index(keys)["mse"].unstack()
    assert (mse.div(mse["none"], axis=0)[["rule", "gcv", "oracle"]].median() < 0.7).all()
    assert mse["rule"].div(mse["oracle"]).median() < 1.3


def test_slopes_and_bounds_of_known_laws() -> None:
    workers = np.array([44, 68, 106, 168])
    common = {"function": "wave", "code": "LeTCC", "smoothing": "none", "in_fit": True}
    law = pd.DataFrame({"workers": workers, "mse": 5.0 * workers**-4.0, **common})
    exact = law.assign(sweep="N", noise=0.0, kind="random", stragglers=2.0, probability=np.nan)
    noisy = exact.assign(noise=0.1, smoothing="gcv", mse=workers**-0.5)
    found = fits(pd.concat([exact, noisy]))
    np.testing.assert_allclose(found["value"], [-4.0, -0.5])
    np.testing.assert_allclose(found["bound"], [-3.0, -0.6])


@pytest.mark.slow
def test_cells_out_of_the_fit_do_not_count(table: pd.DataFrame) -> None:
    shown = table[table["in_fit"]]
    assert shown["mse"].between(1e-20, 0.1).all()
    assert (shown.query("sweep != 'S'")["workers"] >= 4 * shown["tasks"].max()).all()
    spoilt = table.assign(mse=table["mse"].where(table["in_fit"], 1e30))
    pd.testing.assert_frame_equal(fits(table), fits(spoilt))


@pytest.mark.slow
def test_the_words_are_complete(table: pd.DataFrame) -> None:
    text = rates.EXPERIMENT.report(table)
    assert text.startswith("## ")
    assert "nan" not in text
    assert "{" not in text


@pytest.mark.slow
def test_table_and_figure_are_small(table: pd.DataFrame, root: Path) -> None:
    assert (root / "quick" / "rates.csv").stat().st_size < 300_000
    figure = (root / "quick" / "rates.png").read_bytes()
    assert struct.unpack(">II", figure[16:24]) == (1600, 1000)


def test_all_workers_are_off_the_tasks() -> None:
    for config in (rates.EXPERIMENT.configure(False), rates.EXPERIMENT.configure(True)):
        assert all(workers % 2 == 0 for workers in (*config.workers, config.fixed_workers))
