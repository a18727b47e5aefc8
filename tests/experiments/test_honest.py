"""The experiment with correct workers on tiny jobs."""

from __future__ import annotations

import pandas as pd
from experiments.honest import Cell, measured, report


def test_a_cell_counts_every_worker_of_every_job():
    [found] = measured(Cell("ishigami", 24, 20, 2, 3), 0)
    assert found["worker_jobs"] == 72
    assert 0 <= found["rejected"] <= 72
    assert [found] == measured(Cell("ishigami", 24, 20, 2, 3), 0)


def test_the_report_names_every_cell_with_a_rejected_worker():
    cells = [Cell("a", 24, 20, 1, 2), Cell("a", 24, 20, 3, 2), Cell("b", 24, 20, 1, 2)]
    rows = [
        {**cell._asdict(), "worker_jobs": 48, "rejected": wrong}
        for cell, wrong in zip(cells, (0, 0, 5), strict=True)
    ]
    text = report(pd.DataFrame(rows))
    assert "144 workers of jobs" in text
    assert "5 are rejected" in text
    assert "| 24 | 20 | 1 | 4 | 96 | 5 |" in text
    assert "| b | 24 | 20 | 1 | 5 of 48 |" in text
    assert "| a | 24" not in text
