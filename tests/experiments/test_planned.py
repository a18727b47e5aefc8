"""The planned experiment: plans are judged on rows they have not seen, and so are standard errors."""

from __future__ import annotations

import dataclasses
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from experiments.harness import run

from experiments import functions, planned

QUICK = [name for name, function in functions.FUNCTIONS.items() if not function.slow]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def table(root: Path) -> pd.DataFrame:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CODEDMAP_DATA", str(root / "nothing"))
        return run(planned.EXPERIMENT, quick=True, seed=0, root=root)


def test_a_plan_is_never_worse_than_the_best_rival(table: pd.DataFrame) -> None:
    cells = table[table["what"] == "code"].set_index(["function", "code"])["relative"].unstack()
    best = cells[list(planned.RIVALS)].min(axis=1)
    assert len(cells) == 4
    assert (cells["planned"] < 1.05 * best + 1e-3).all()


def test_standard_errors_are_the_size_of_the_errors(table: pd.DataFrame) -> None:
    judged = table.query("what == 'code' and code == 'planned'")["calibration"].dropna()
    assert len(judged) > 2
    assert judged.between(0.6, 1.6).all()


def test_bins_hold_all_estimated_rows(table: pd.DataFrame) -> None:
    cells = table.query("what == 'code' and code == 'planned'").set_index("function")["estimated"]
    bins = table.query("what == 'bin' and code == 'planned'").groupby("function")["estimated"].sum()
    pd.testing.assert_series_equal(cells.sort_index(), bins.sort_index(), check_dtype=False)


def test_correct_standard_errors_are_distinguished_from_wrong_ones() -> None:
    rng = np.random.default_rng(0)
    stated = 10.0 ** rng.uniform(-2, 0, (10, 10, 10, 10))
    errors = stated * np.abs(rng.standard_normal(stated.shape))
    right = planned._calibrated(planned._Measured(errors**2, stated), 10, rng)
    assert 0.95 < right["calibration_low"] < 1.0 < right["calibration_high"] < 1.05
    assert 0.93 < right["within"] < 0.97
    assert abs(right["rank"] - right["rank_at_best"]) < 0.05
    mixed = rng.permutation(stated.ravel()).reshape(stated.shape)
    wrong = planned._calibrated(planned._Measured(errors**2, mixed), 10, rng)
    assert wrong["calibration"] > 3.0
    assert abs(wrong["rank"]) < 0.1 < wrong["rank_at_best"]


def test_few_estimated_rows_are_not_evaluated() -> None:
    stated = np.full((2, 5, 5, 5), np.nan)
    stated[0] = 1.0
    row = planned._calibrated(
        planned._Measured(np.ones(stated.shape), stated), 2, np.random.default_rng(0)
    )
    assert row == {"estimated": 125}


def test_the_seed_decides(tmp_path: Path) -> None:
    few = planned.Settings((("cubic", 6, 4, 1),), 3, 2, 6, True)
    small = dataclasses.replace(
        planned.EXPERIMENT, configure=lambda quick: few, plot=lambda *_: None
    )
    one, same, other = (
        run(small, quick=True, seed=seed, root=tmp_path / name)
        for seed, name in ((0, "one"), (0, "same"), (1, "other"))
    )
    pd.testing.assert_frame_equal(one, same)
    assert (one["relative"].dropna() != other["relative"].dropna()[: one["relative"].count()]).all()


@pytest.mark.parametrize("name", QUICK)
def test_functions_answer_row_by_row(name: str) -> None:
    call, inputs, truth = functions.load(name, True)
    assert np.isfinite(truth).all()
    assert len(truth) == len(inputs)
    alone = np.concatenate([call(inputs[at : at + 1]) for at in range(3)])
    np.testing.assert_allclose(alone, truth[:3], rtol=1e-4, atol=1e-5 * truth.std())
    # Mixtures may leave the range of the inputs.
    outside = 1.5 * inputs[:50] - 0.5 * inputs[50:100]
    assert np.isfinite(call(outside.astype(inputs.dtype))).all()


def test_the_words_are_complete(table: pd.DataFrame, root: Path) -> None:
    text = planned.EXPERIMENT.report(table)
    assert "**Question.**" in text
    assert "**Conclusion.**" in text
    assert "nan" not in text
    assert "{" not in text
    figure = (root / "quick" / "planned.png").read_bytes()
    assert struct.unpack(">II", figure[16:24]) == (1600, 1000)
