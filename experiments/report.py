"""The page with all tables and figures, generated from the tables."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from . import times
from .harness import results_folder
from .registry import EXPERIMENTS

__all__ = ["draw", "page", "write"]

HEAD = """# The paper's experiments, and the baselines it left out

`make reproduce` generates this page from the tables beside it; no figure is typed by hand.

| name | code | paper |
|---|---|---|
| LeTCC | `codedmap.SplineCode` | arXiv 2406.00300 |
| BACC | `codedmap.BerrutCode` | arXiv 2009.08327 |
| LCC | `codedmap.LagrangeCode` | arXiv 1806.00939 |

K is the number of tasks, N the number of workers, S the number of stragglers. A *wave* is one round of N calls.
The numbers of the papers' own tables are not quoted: their networks and weights are not public. These are new
measurements of the same systems. In experiments without Byzantine workers the codes do not search for outliers,
as in the papers.
"""


def page(folder: Path) -> str:
    """The page as Markdown, with a section for each experiment whose table exists."""
    sections = [HEAD]
    for name, experiment in EXPERIMENTS.items():
        table = folder / f"{name}.csv"
        if table.exists():
            sections.append(experiment.report(pd.read_csv(table)))
            sections.append(f"![{name}]({name}.png)\n\nTable: `results/{name}.csv`\n")
    measured = folder / "times.csv"
    if measured.exists():
        sections.append(times.report(pd.read_csv(measured)))
    return "\n".join(sections)


def draw(root: Path, quick: bool) -> None:
    """Draw all figures again from their tables."""
    folder = results_folder(root, quick)
    for name, experiment in EXPERIMENTS.items():
        table = folder / f"{name}.csv"
        if table.exists():
            experiment.plot(pd.read_csv(table), folder / f"{name}.png")


def write(root: Path, quick: bool) -> Path:
    """Write the page beside the tables and return its path."""
    folder = results_folder(root, quick)
    path = folder / "README.md"
    path.write_text(page(folder))
    return path
