"""The experiment of plans: what is expected is compared with what happens."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from experiments.harness import run

from experiments import planned

from ..repeats import first

CELLS = (
    ("ishigami", "even", 120, 4, 0.2, 0, 1.0),
    ("ishigami", "slow workers", 120, 4, 0.2, 60, 0.5),
)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    root = tmp_path_factory.mktemp("results")
    few = dataclasses.replace(
        planned.EXPERIMENT, configure=lambda quick: planned.Settings(CELLS, 1)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CODEDMAP_SURROGATES", str(root / "cache"))
        patch.setattr(planned, "JOBS", 10)
        found = run(few, quick=True, seed=0, root=root)
    assert (root / "quick" / "planned.png").exists()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("seen", first(1, [60, 0]))
def test_every_way_of_a_plan_is_run(table: pd.DataFrame, seen: int) -> None:
    cell = table[table["seen"] == seen]
    assert cell["chosen"].sum() == 1
    assert ("auto" in set(cell["way"])) == (seen == 0)
    exact = cell[cell["way"] == "exact with hedging"].iloc[0]
    assert exact["error"] == 0.0
    assert exact["p99"] > 0.0
    assert cell["error"].notna().all()
    assert f"| ishigami | {exact['law']} | 120 |" in planned.EXPERIMENT.report(table)


@pytest.mark.slow
def test_in_virtual_time_a_plan_sees_times_that_were_drawn(table: pd.DataFrame) -> None:
    [exact] = table[(table["seen"] == 60) & (table["way"] == "exact with hedging")].itertuples()
    assert exact.computed == 60
    assert exact.seconds / 2.0 < exact.expected_seconds < 2.0 * exact.seconds


def test_goals_are_counted_by_cells() -> None:
    def row(
        way: str, chosen: bool, seconds: float, error: float, **more: float
    ) -> dict[str, object]:
        return {
            "simulator": "one", "law": "even", "rows": 10, "workers": 2, "asked": 0.05, "seen": 60, "budget": 1.0,
            "way": way, "chosen": chosen, "timed": 300, "planning": 0.1, "processor": 0.1, "expected_seconds": seconds,
            "seconds": seconds, "expected_exact": 1.0, "exact": 1.0, "expected_error": error, "error": error,
            "expected_p99": seconds, "p99": seconds, "low": np.nan, "high": np.nan, "least_error": np.nan,
            "most_error": np.nan, **more,
        }  # fmt: skip

    exact = row("exact with hedging", True, 4.0, 0.0, expected_seconds=5.0)
    late = row("estimates at a deadline", False, 2.0, 0.04, expected_exact=0.9, expected_error=0.06)
    few = row("KernelCode", False, 6.0, 0.04, expected_exact=0.9, least_error=0.01, most_error=0.03)
    values = [value for value, _, _ in planned.judged(pd.DataFrame([exact, late, few])).values()]
    assert values[0] == pytest.approx(1.5)
    assert values[2] == 0.0  # 0.04 is not between 0.01 and 0.03
    assert values[3] == pytest.approx(3.0)
    assert values[5] == pytest.approx(1.25)
    assert values[6] == pytest.approx(1.0)
    assert values[8] == 0.0  # the other way was twice as fast, and exact enough
