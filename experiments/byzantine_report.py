"""Figure and report of the experiment with Byzantine workers, both made from its table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from .plots import figure

__all__ = ["plot", "report"]

NAMES = {
    "KernelCode": "KernelCode",
    "planned": "planned",
    "SplineCode": "SplineCode",
    "BerrutCode": "BerrutCode",
    "LagrangeCode": "LagrangeCode (quadratic)",
    "copies": "Replication x 3",
}
REJECTED, SINGLE, HONEST, ERROR = 0.99, 0.75, 0.3, 0.1
"""Goals: shares rejected (many, one), honest workers rejected a wave, RMSE over the outputs' sd."""

WORDS = """## Byzantine workers: which codes reject them, and at what cost

**Question.** All of N = {N} workers answer for K = {K} tasks. {byzantine} of them are Byzantine: they answer
wrongly in every group, in one of {kinds} ways.

| fault | what a Byzantine worker sends |
|---|---|
| gross noise | noise of five standard deviations of the outputs |
| sign flipped | its answer with the other sign |
| not a number | NaN |
| collusion | one wrong answer that all Byzantine workers agree on |
| swapped | the answers of another worker |
| stale | the answers to the group before |
| stuck | its first answer, for every group |
| small bias | its answer plus a tenth of a standard deviation |

Which codes reject them? How many honest workers are rejected with them? How large is the error of the rows, and how
many rows are wrongly marked `exact`? {functions} functions, {waves} waves of {groups} groups each. Groups are cut as
`codedmap.map` cuts them. All codes get the same rows and the same Byzantine workers. Figures are means over
functions. *Planned* is the code that `codedmap.plan` recommends for as many stragglers as there are Byzantine
workers.

**Result.** Share of the Byzantine workers that are rejected:

{rejected}

Honest workers rejected per wave:

{honest}

RMSE of the finite rows over the outputs' standard deviation, median over the functions:

{error}

Share of rows wrongly marked exact (rows that are not finite count):

{wrong}

One Byzantine worker among N = {N1}, K = {K1} that sends gross noise; per function the share of waves in which it is
rejected, and the RMSE:

{single}

The goals were set before the measurement. A cell is one function and one fault.

{goals}

Cells below the first goal:

{short}

**Conclusion.** {meaning}
"""


def report(table: pd.DataFrame) -> str:
    """The section of the page."""
    many, one = table[table["byzantine"] > 1], table[table["byzantine"] == 1]
    first, second = many.iloc[0], one.iloc[0]
    return WORDS.format(
        N=first["N"],
        K=first["K"],
        byzantine=first["byzantine"],
        N1=second["N"],
        K1=second["K"],
        kinds=many["fault"].nunique() - 1,
        functions=many["function"].nunique(),
        waves=table["waves"].max(),
        groups=table["groups"].max(),
        rejected=_grid(many[many["fault"] != "none"], "rejected", "{:.1%}"),
        honest=_grid(many, "honest_rejected", "{:.2f}"),
        error=_grid(many, "relative", "{:.2g}", "median"),
        wrong=_grid(many, "wrongly_exact", "{:.1%}"),
        single=_single(one),
        goals=_goals(many, one),
        short=_short(many),
        meaning=_meaning(many),
    )


def _pivot(rows: pd.DataFrame, what: str, how: str = "mean") -> pd.DataFrame:
    grid = rows.pivot_table(index="fault", columns="code", values=what, aggfunc=how, sort=False)
    return grid[[code for code in NAMES if code in grid]]


def _grid(rows: pd.DataFrame, what: str, form: str, how: str = "mean") -> str:
    grid = _pivot(rows, what, how)
    lines = ["| fault | " + " | ".join(NAMES[code] for code in grid) + " |"]
    lines.append("|---" * (grid.shape[1] + 1) + "|")
    for fault, values in grid.iterrows():
        cells = ["" if pd.isna(value) else form.format(value) for value in values]
        lines.append(f"| {fault} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _single(rows: pd.DataFrame) -> str:
    faulty = rows[rows["fault"] != "none"]
    share = faulty.pivot_table(index="title", columns="code", values="rejected", sort=False)
    error = faulty.pivot_table(index="title", columns="code", values="relative", sort=False)
    codes = [code for code in NAMES if code in share]
    lines = ["| function | " + " | ".join(NAMES[code] for code in codes) + " |"]
    lines.append("|---" * (len(codes) + 1) + "|")
    for title in share.index:
        cells = [f"{share[code][title]:.0%}, RMSE {error[code][title]:.2g}" for code in codes]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _goals(many: pd.DataFrame, one: pd.DataFrame) -> str:
    columns: dict[str, list[str]] = {}
    for code in ("KernelCode", "planned"):
        rows = many[(many["fault"] != "none") & (many["code"] == code)]
        single = one[(one["code"] == code) & one["rejected"].notna()]
        goals = {
            f"at least {REJECTED:.0%} of the Byzantine workers rejected": rows["rejected"]
            >= REJECTED,
            f"fewer than {HONEST} honest workers rejected per wave": rows["honest_rejected"]
            < HONEST,
            f"RMSE below {ERROR} standard deviations, all rows finite": (rows["relative"] < ERROR)
            & (rows["not_finite"] == 0),
        }
        goals["all three"] = np.logical_and.reduce(list(goals.values()))
        for goal, met in goals.items():
            columns.setdefault(goal, []).append(f"{met.sum()} of {len(rows)} cells")
        met = single["rejected"] >= SINGLE
        columns.setdefault(f"one Byzantine worker rejected in at least {SINGLE:.0%} of waves", []).append(
            f"{met.sum()} of {len(single)} functions"
        )  # fmt: skip
    lines = ["| goal | KernelCode | planned |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {goal} | {' | '.join(cells)} |" for goal, cells in columns.items())])  # fmt: skip


def _short(many: pd.DataFrame) -> str:
    lines = ["| code | fault | functions | smallest share rejected |", "|---|---|---|---|"]
    for code in ("KernelCode", "planned"):
        rows = many[(many["code"] == code) & (many["rejected"] < REJECTED)]
        for fault, shares in rows.groupby("fault", sort=False)["rejected"]:
            lines.append(f"| {NAMES[code]} | {fault} | {len(shares)} | {shares.min():.0%} |")
    return "\n".join(lines)


def _meaning(many: pd.DataFrame) -> str:
    none = many[many["fault"] == "none"]
    honest = none.set_index(["function", "code"])["honest_rejected"].unstack()
    rejected = _pivot(many[many["fault"] != "none"], "rejected")
    error = _pivot(many[many["fault"] != "none"], "relative", "median")
    best = rejected.mean().idxmax()
    hard = rejected["KernelCode"].idxmin()
    return (
        f"Over all faults {NAMES[best]} rejects the largest share of Byzantine workers ({rejected[best].mean():.0%}; "
        f"KernelCode {rejected['KernelCode'].mean():.0%}, SplineCode {rejected['SplineCode'].mean():.0%}). "
        f"The smallest share for KernelCode is that of the fault *{hard}* ({rejected['KernelCode'][hard]:.0%}), whose "
        f"RMSE is {error['KernelCode'][hard]:.2g} standard deviations.\n\n"
        "- A wrong answer that looks like a correct one is found only where the other answers predict the correct "
        "one well. Swapped and stale answers are such answers: they are values of the function at other inputs.\n"
        "- NaN as the answer to a raw input is returned as it is unless another answer contradicts it, because NaN is "
        "the correct answer of some functions. Check `numpy.isfinite(result.values)`.\n"
        "- Two copies that disagree do not show which one is wrong. The row is estimated and no worker is rejected, so "
        "planned copies correct more rows than the rejected workers suggest.\n"
        f"- Without Byzantine workers KernelCode rejects {honest['KernelCode'].mean():.2f} honest workers per wave, and "
        f"planned codes {honest['planned'].mean():.2f}."
    )


def plot(table: pd.DataFrame, path: Path) -> None:
    """Four grids of faults and codes: workers rejected, honest ones rejected, errors, wrongly exact."""
    many = table[table["byzantine"] > 1]
    faulty = many[many["fault"] != "none"]
    with figure(path, 2, 2) as axes:
        _heat(
            axes[0][0], _pivot(faulty, "rejected"),
            "Share of Byzantine workers rejected", "RdYlGn", (0.0, 1.0),
        )  # fmt: skip
        _heat(
            axes[0][1], _pivot(many, "honest_rejected"),
            "Honest workers rejected per wave", "Reds", (0.0, 2.0),
        )  # fmt: skip
        _heat(
            axes[1][0], _pivot(many, "relative", "median"),
            "RMSE / outputs' sd, median over functions", "Reds", (0.0, 1.0),
        )  # fmt: skip
        _heat(
            axes[1][1], _pivot(many, "wrongly_exact"),
            "Share of rows wrongly marked exact", "Reds", (0.0, 0.2),
        )  # fmt: skip


def _heat(
    axis: Axes, grid: pd.DataFrame, title: str, colours: str, between: tuple[float, float]
) -> None:
    values = grid.to_numpy(float)
    axis.imshow(values, cmap=colours, vmin=between[0], vmax=between[1], aspect="auto", alpha=0.75)
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            axis.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=11)
    names = [NAMES[code].replace(" (quadratic)", "") for code in grid]
    axis.set_xticks(range(len(names)), names, fontsize=10, rotation=20)
    axis.set_yticks(range(len(grid)), grid.index, fontsize=11)
    axis.set_title(title)
