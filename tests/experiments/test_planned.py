"""The experiment of plans: what is expected is compared with what happens."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from experiments.harness import run

from experiments import planned

CELL = ("ishigami", "even", 120, 4, 0.2, 1.0)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    root = tmp_path_factory.mktemp("results")
    few = dataclasses.replace(
        planned.EXPERIMENT, configure=lambda quick: planned.Settings((CELL,), 1)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CODEDMAP_SURROGATES", str(root / "cache"))
        patch.setattr(planned, "JOBS", 10)
        found = run(few, quick=True, seed=0, root=root)
    assert (root / "quick" / "planned.png").exists()
    return found


def test_every_way_of_a_plan_is_run(table: pd.DataFrame) -> None:
    assert "exact with hedging" in set(table["way"])
    assert table["chosen"].sum() == 1
    exact = table[table["way"] == "exact with hedging"].iloc[0]
    assert exact["error"] == 0.0
    assert exact["p50"] <= exact["p99"]
    assert "| ishigami | even | 120 |" in planned.EXPERIMENT.report(table)


def test_goals_are_counted_by_cells() -> None:
    def row(
        way: str, chosen: bool, seconds: float, error: float, **more: float
    ) -> dict[str, object]:
        return {
            "simulator": "one", "law": "even", "rows": 10, "workers": 2, "asked": 0.05, "budget": 0.0, "way": way,
            "chosen": chosen, "timed": 300, "planning": 0.1, "expected_seconds": seconds, "seconds": seconds,
            "expected_exact": 1.0, "exact": 1.0, "expected_error": error, "error": error, "expected_p99": seconds,
            "low": np.nan, "high": np.nan, "p50": np.nan, "p99": np.nan, **more,
        }  # fmt: skip

    exact = row("exact with hedging", True, 4.0, 0.0, p50=5.0, p99=4.0)
    late = row("estimates at a deadline", False, 2.0, 0.04, expected_exact=0.9, expected_error=0.06)
    judged = {
        name: value for name, (value, _, _) in planned.judged(pd.DataFrame([exact, late])).items()
    }
    values = list(judged.values())
    assert values[0] == pytest.approx(1.5)
    assert values[2] == pytest.approx(1.25)
    assert values[3] == pytest.approx(1.0)
    assert values[5] == 0.0  # the other way was twice as fast, and exact enough
