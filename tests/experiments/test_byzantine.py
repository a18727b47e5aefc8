"""The liars experiment: lies are what they are called, and what became of them is counted right."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from experiments.harness import run

import codedmap as cm
from experiments import liars


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def table(root: Path) -> pd.DataFrame:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CODEDMAP_DATA", str(root / "nothing"))
        return run(liars.EXPERIMENT, quick=True, seed=0, root=root)


@pytest.mark.parametrize("name", liars.LIES)
def test_every_liar_lies_in_every_group(name: str) -> None:
    rng = np.random.default_rng(0)
    answers = rng.standard_normal((12, 5, 3))
    who = np.array([1, 4, 7])
    told = liars.Honest(answers, who, answers.mean(axis=(0, 1)), answers.std(axis=(0, 1)))
    sent = liars.LIES[name](told, rng)
    assert sent.shape == (3, 5, 3)
    differs = ~(sent == answers[who]).all(axis=2)
    # Who is stuck at the first answer is right about the first group.
    assert differs[:, 1:].all()
    assert differs[:, 0].all() != (name == "stuck")


def test_caught_dropped_and_wrongly_exact_rows_are_counted() -> None:
    right = np.arange(8.0).reshape(4, 2)
    values = right.copy()
    values[0, 0], values[1, 1], values[2, 0] = 9.0, 1.0, np.nan
    exact = np.array([[True, True], [True, False], [True, True], [True, True]])
    estimate = cm.contracts.Estimate(values, exact, None, (0, 3, 5))
    caught, dropped, square, wrong, broken = liars._scored(estimate, right, (0, 1, 2, 3), 2.0)
    assert (caught, dropped, wrong, broken) == (0.5, 1.0, 2 / 8, 1 / 8)
    assert square == pytest.approx((4.5**2 + 1.0**2) / 7)


def test_what_no_function_answers_is_caught(table: pd.DataFrame) -> None:
    many = table[table["liars"] > 1].set_index(["lie", "code"])
    assert (many.loc[("not a number", "SplineCode"), "caught"] == 1.0).all()
    assert (many.loc[("gross noise", "KernelCode"), "caught"] > 0.9).all()


def test_honest_workers_are_left_alone(table: pd.DataFrame) -> None:
    honest = table[(table["lie"] == "nobody") & (table["code"] != "bisquare")]
    assert len(honest) > 10
    assert (honest["dropped"] < 0.5).all()
    assert (honest["wrong"] == 0.0).all()


def test_the_words_are_complete(table: pd.DataFrame, root: Path) -> None:
    words = liars.EXPERIMENT.report(table)
    assert "**Asked.**" in words
    assert "**Means.**" in words
    assert "nan" not in words
    assert "{" not in words
    figure = (root / "quick" / "liars.png").read_bytes()
    assert struct.unpack(">II", figure[16:24]) == (1600, 1000)
