"""The page with all tables and figures, generated from the tables."""

from __future__ import annotations

import re
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


_SEEN = {
    "rates": "Lower is better. The dashed and dotted lines are the proven rates: compare the slopes. With noise (top right) "
    "the error of LeTCC goes on falling only with smoothing.",
    "table": "One group of bars for each model and (N, K, S). Copies (green) have a smaller error than the codes in nearly every group.",
    "planned": "A point for each way to run a job. On the line what happened is what the plan expected; above it the job took "
    "longer, or the error was larger. Errors below 0.001 are drawn at 0.001.",
    "byzantine": "A column for each code, a row for each kind of wrong answer. Top left, green is good: Byzantine workers are "
    "rejected. In the other three, pale is good: few honest workers rejected, small errors, few wrong rows marked exact.",
    "stragglers": "Top: lower is better. Copies (green) are exact at first, and then lose one task after the other. Bottom: the "
    "share of labels that are those of the model.",
    "sensitivity": "Lower is better. Smoothing of 1e-6 and more mostly raises the error. The points hardly matter. The order of "
    "the inputs matters most for x sin x.",
    "pictures": "Top row: the inputs. Below: what workers 50 to 60 receive from each code.",
    "latency": "A mark for each scheme, in one panel for each distribution of call times. Left is faster, lower has a smaller "
    "error, and schemes in the grey band are exact. The line from the pale to the dark mark goes from the median to the 99th "
    "percentile. Bottom right: live times over simulated ones.",
    "serving": "Left is faster. With the times of AWS Lambda, KernelCode and copies x2 have the earliest 99th percentile "
    "(orange); where 5 % of the calls are slow, KernelCode has.",
    "gradients": "Lower is faster; a column for each cost of sending. Top: short answers (m > 1) pay off only where sending "
    "dominates. Bottom: the best of each scheme, by the number of parts that a worker computes.",
    "polar": "Top left: how many answers more than K a polar code needs. Top right: above a thousand workers it decodes faster. "
    "Bottom left: its error before it can decode. Bottom right: the coverage of its standard errors, which should be 95 %.",
    "clusters": "Left: the share of clusters for which a plan has the minimum cost (green). Right: the time that planning takes, "
    "which grows more slowly than the cube of the number of nodes.",
}


def page(folder: Path) -> str:
    """The page as Markdown, with a section for each experiment whose table exists."""
    sections = [HEAD]
    for name, experiment in EXPERIMENTS.items():
        table = folder / f"{name}.csv"
        if table.exists():
            sections.append(experiment.report(pd.read_csv(table)))
            sections.append(
                f"![{name}]({name}.png)\n\n*{_SEEN[name]}*\n\nTable: `results/{name}.csv`\n"
            )
    measured = folder / "times.csv"
    if measured.exists():
        sections.append(times.report(pd.read_csv(measured)))
    sections.insert(1, _contents("\n".join(sections)))
    return "\n".join(sections)


def _contents(text: str) -> str:
    """Links to the sections."""
    titles = re.findall(r"^## (.*)", text, re.MULTILINE)
    anchors = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
    pairs = zip(titles, anchors, strict=True)
    return "".join(f"- [{title}](#{anchor})\n" for title, anchor in pairs)


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
