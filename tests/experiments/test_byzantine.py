"""The experiment with Byzantine workers: the faults are as named, and the scores are counted correctly."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from experiments.harness import run

import codedmap as cm
from experiments import byzantine


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def table(root: Path) -> pd.DataFrame:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CODEDMAP_DATA", str(root / "nothing"))
        return run(byzantine.EXPERIMENT, quick=True, seed=0, root=root)


@pytest.mark.parametrize("name", byzantine.FAULTS)
def test_a_byzantine_worker_answers_wrongly_in_every_group(name: str) -> None:
    rng = np.random.default_rng(0)
    answers = rng.standard_normal((12, 5, 3))
    slots = np.array([1, 4, 7])
    wave = byzantine.Wave(answers, slots, answers.mean(axis=(0, 1)), answers.std(axis=(0, 1)))
    sent = byzantine.FAULTS[name](wave, rng)
    assert sent.shape == (3, 5, 3)
    differs = ~(sent == answers[slots]).all(axis=2)
    # A worker that is stuck at its first answer is right about the first group.
    assert differs[:, 1:].all()
    assert differs[:, 0].all() != (name == "stuck")


def test_rejected_workers_and_wrongly_exact_rows_are_counted() -> None:
    truth = np.arange(8.0).reshape(4, 2)
    values = truth.copy()
    values[0, 0], values[1, 1], values[2, 0] = 9.0, 1.0, np.nan
    exact = np.array([[True, True], [True, False], [True, True], [True, True]])
    estimate = cm.contracts.Estimate(values, exact, None, (0, 3, 5))
    score = byzantine._scored(estimate, truth, (0, 1, 2, 3), 2.0)
    assert (score.rejected, score.honest_rejected) == (0.5, 1.0)
    assert (score.wrongly_exact, score.not_finite) == (2 / 8, 1 / 8)
    assert score.square == pytest.approx((4.5**2 + 1.0**2) / 7)


@pytest.mark.slow
def test_answers_that_no_function_gives_are_rejected(table: pd.DataFrame) -> None:
    many = table[table["byzantine"] > 1].set_index(["fault", "code"])
    assert (many.loc[("not a number", "SplineCode"), "rejected"] == 1.0).all()
    assert (many.loc[("gross noise", "KernelCode"), "rejected"] > 0.9).all()


@pytest.mark.slow
def test_honest_workers_are_not_rejected(table: pd.DataFrame) -> None:
    honest = table[table["fault"] == "none"]
    assert len(honest) > 10
    assert (honest["honest_rejected"] < 0.5).all()
    assert (honest["wrongly_exact"] == 0.0).all()


@pytest.mark.slow
def test_the_report_is_complete(table: pd.DataFrame, root: Path) -> None:
    text = byzantine.EXPERIMENT.report(table)
    assert "**Question.**" in text
    assert "**Conclusion.**" in text
    assert "nan" not in text
    assert "{" not in text
    figure = (root / "quick" / "byzantine.png").read_bytes()
    assert struct.unpack(">II", figure[16:24]) == (1600, 1000)


def test_the_committed_table_comes_from_the_same_random_numbers() -> None:
    # The experiment and a column were renamed; the seeds of the cells were not.
    (cell,) = byzantine.EXPERIMENT.cells(
        byzantine.Settings(("tanh-network",), ((60, 20, 6),), 1, 1, True)
    )
    assert byzantine._stream(cell) == [
        "liars", {"function": "tanh-network", "N": 60, "K": 20, "liars": 6}
    ]  # fmt: skip
