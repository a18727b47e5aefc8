"""The page that shows all tables and figures: made from the tables, never typed."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from .harness import results_folder
from .registry import EXPERIMENTS

__all__ = ["page", "times", "write"]

HEAD = """# The paper's experiments, and the baselines it left out

Everything on this page is made by `make reproduce` from the tables beside it; no figure is typed.
LeTCC is `codedmap.SplineCode` (arXiv 2406.00300), BACC is `codedmap.BerrutCode` (2009.08327), LCC is
`codedmap.LagrangeCode` (1806.00939). N workers compute, K inputs are wanted, S workers are missing.
The numbers of the papers' own tables are not quoted here: their networks and weights are not public,
so these are new measurements of the same systems. Where nobody lies, the codes do not look for liars
either, as in the papers.
"""


def times(table: pd.DataFrame) -> str:
    """How long the experiments took, in words: the only table that is measured by hand.

    Parameters
    ----------
    table : DataFrame
        A row an experiment: ``seconds`` on the clock, ``processor_seconds`` on all cores together,
        and ``load``, the mean load average of the machine meanwhile.
    """
    lines = [
        "## How long it takes",
        "",
        f"These {len(table)} experiments took {table.seconds.sum() / 60:.0f} minutes on the clock and "
        f"{table.processor_seconds.sum() / 60:.0f} of processor time, one after the other and with "
        "nothing kept from earlier runs, on 2 cores of an AMD EPYC (Zen 5). Other programs shared the "
        "cores; where the load was far above 2, the time on the clock is several times that of an idle "
        "machine. Most of the latency experiment's time its workers really sleep.",
        "",
        "| experiment | minutes on the clock | minutes of processor time | mean load average |",
        "|---|---|---|---|",
        *(
            f"| {row.experiment} | {row.seconds / 60:.1f} | {row.processor_seconds / 60:.1f} "
            f"| {row.load:.1f} |"
            for row in table.itertuples()
        ),
        "",
        "Each line is `time python -m experiments NAME --results EMPTY_FOLDER` with `OMP_NUM_THREADS=1`. "
        "Table: `results/times.csv`",
        "",
    ]
    return "\n".join(lines)


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
        sections.append(times(pd.read_csv(measured)))
    return "\n".join(sections)


def write(root: Path, quick: bool) -> Path:
    """Write the page beside the tables, and say where."""
    folder = results_folder(root, quick)
    path = folder / "README.md"
    path.write_text(page(folder))
    return path
