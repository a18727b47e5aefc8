"""The page that shows all tables and figures: made from the tables, never typed."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from . import times
from .harness import results_folder
from .registry import EXPERIMENTS

__all__ = ["page", "write"]

HEAD = """# The paper's experiments, and the baselines it left out

Everything on this page is made by `make reproduce` from the tables beside it; no figure is typed.
LeTCC is `codedmap.SplineCode` (arXiv 2406.00300), BACC is `codedmap.BerrutCode` (2009.08327), LCC is
`codedmap.LagrangeCode` (1806.00939). N workers compute, K inputs are wanted, S workers are missing.
The numbers of the papers' own tables are not quoted here: their networks and weights are not public,
so these are new measurements of the same systems. Where nobody lies, the codes do not look for liars
either, as in the papers.
"""


def page(folder: Path) -> str:
    """The page as Markdown, with a section for each experiment whose table is there."""
    sections = [HEAD]
    for name, experiment in EXPERIMENTS.items():
        table = folder / f"{name}.csv"
        if table.exists():
            sections.append(experiment.report(pd.read_csv(table)))
            sections.append(f"![{name}]({name}.png)\n\nTable: `results/{name}.csv`\n")
    measured = folder / "times.csv"
    if measured.exists():
        sections.append(times.told(pd.read_csv(measured)))
    return "\n".join(sections)


def write(root: Path, quick: bool) -> Path:
    """Write the page beside the tables, and say where."""
    folder = results_folder(root, quick)
    path = folder / "README.md"
    path.write_text(page(folder))
    return path
