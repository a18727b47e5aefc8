"""The mixtures experiment on tiny problems."""

from __future__ import annotations

import pandas as pd
import pytest
from experiments.mixtures import SCHEMES, Cell, measured, report


@pytest.mark.slow
def test_a_cell_has_a_row_for_each_scheme_whose_exact_rows_count_as_no_error():
    found = pd.DataFrame(measured(Cell("ishigami", 60, 0.4), 0))
    assert tuple(found["scheme"]) == SCHEMES
    assert (found["error"] < found["estimated"]).all()
    assert (found["error"] > 0).all()


def test_the_report_compares_with_no_more_calls():
    rows = [
        {"simulator": name, "dimensions": dimensions, "rows": 60, "loss": 0.4, "output": 0, "scheme": scheme,
         "error": 0.1 * factor, "estimated": 0.2}
        for name, dimensions in (("a", 3), ("b", 9))
        for scheme, factor in zip(SCHEMES, (1.0, 0.5, 0.8, 0.25), strict=True)
    ]  # fmt: skip
    lines = report(pd.DataFrame(rows)).splitlines()
    every = next(line for line in lines if line.startswith("| all"))
    ratios = [float(cell.split()[0]) for cell in every.split("|")[3:6]]
    assert ratios == pytest.approx([0.5, 0.8, 0.26], abs=0.011)
    assert every.split("|")[6].strip() == "100%"
