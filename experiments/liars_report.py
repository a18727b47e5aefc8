"""The figure of the liars experiment and its words, from its table."""

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
    "bisquare": 'SplineCode, "bisquare"',
    "BerrutCode": "BerrutCode",
    "LagrangeCode": "LagrangeCode (quadratic)",
    "copies": "Replication x 3",
}
CAUGHT, ALONE, DROPPED, ERROR = 0.99, 0.75, 0.3, 0.1
"""What was wanted of KernelCode: shares caught, honest workers dropped a wave, RMSE over sd."""

WORDS = """## Liars: who is caught, and what it costs

**Asked.** All of N = {N} workers answer for K = {K} tasks, and {liars} of them lie in all of their answers, in one
of {kinds} ways: noise of five deviations; the sign flipped; NaN; all agreeing on one answer; the answers of
another worker; those of the group before; the first answer over and over; a bias of a tenth of a deviation.
Which codes catch them (`rejected`), how many honest workers go with them, how far are the rows then
from the truth, and how many are marked `exact` and are not? {functions} functions, {waves} waves of {groups}
groups each, cut as `codedmap.map` cuts them, the same rows and liars for every code; figures are means over functions. *Planned* is what
`codedmap.plan` recommends where as many workers are late as lie here.

**Came out.** Share of the liars caught:

{caught}

Honest workers dropped a wave:

{dropped}

RMSE over the outputs' standard deviation, of the rows that are finite, the median over the functions:

{error}

Share of rows marked exact that are not (a non-finite answer counts):

{wrong}

One liar among N = {N1}, K = {K1} that sends noise, nobody late; per function:

{alone}

Wanted of KernelCode: {want_caught:.0%} caught, fewer than {want_dropped} honest workers dropped a wave, an RMSE under a
tenth of a deviation; and {want_alone:.0%} caught in the second case. {verdict}

**Means.** {meaning}
"""


def report(table: pd.DataFrame) -> str:
    """What was asked, what came out and what it means for whom workers may lie to."""
    many, one = table[table["liars"] > 1], table[table["liars"] == 1]
    first, second = many.iloc[0], one.iloc[0]
    return WORDS.format(
        N=first["N"],
        K=first["K"],
        liars=first["liars"],
        N1=second["N"],
        K1=second["K"],
        kinds=many["lie"].nunique() - 1,
        functions=many["function"].nunique(),
        waves=table["waves"].max(),
        groups=table["groups"].max(),
        caught=_grid(many[many["lie"] != "nobody"], "caught", "{:.1%}"),
        dropped=_grid(many, "dropped", "{:.2f}"),
        error=_grid(many, "relative", "{:.2g}", "median"),
        wrong=_grid(many, "wrong", "{:.1%}"),
        alone=_alone(one),
        want_caught=CAUGHT,
        want_alone=ALONE,
        want_dropped=DROPPED,
        verdict=_verdict(many, one),
        meaning=_meaning(many),
    )


def _pivot(rows: pd.DataFrame, what: str, how: str = "mean") -> pd.DataFrame:
    grid = rows.pivot_table(index="lie", columns="code", values=what, aggfunc=how, sort=False)
    return grid[[code for code in NAMES if code in grid]]


def _grid(rows: pd.DataFrame, what: str, form: str, how: str = "mean") -> str:
    grid = _pivot(rows, what, how)
    lines = ["| lie | " + " | ".join(NAMES[code] for code in grid) + " |"]
    lines.append("|---" * (grid.shape[1] + 1) + "|")
    for lie, values in grid.iterrows():
        told = ["" if pd.isna(value) else form.format(value) for value in values]
        lines.append(f"| {lie} | " + " | ".join(told) + " |")
    return "\n".join(lines)


def _alone(rows: pd.DataFrame) -> str:
    caught = rows[rows["lie"] != "nobody"]
    grid = caught.pivot_table(index="title", columns="code", values="caught", sort=False)
    error = caught.pivot_table(index="title", columns="code", values="relative", sort=False)
    codes = [code for code in NAMES if code in grid]
    lines = ["| function | " + " | ".join(NAMES[code] for code in codes) + " |"]
    lines.append("|---" * (len(codes) + 1) + "|")
    for title in grid.index:
        told = [f"{grid[code][title]:.0%}, RMSE {error[code][title]:.2g}" for code in codes]
        lines.append(f"| {title} | " + " | ".join(told) + " |")
    return "\n".join(lines)


def _verdict(many: pd.DataFrame, one: pd.DataFrame) -> str:
    lies = many[many["lie"] != "nobody"]
    told = []
    for code in ("KernelCode", "planned"):
        rows, alone = lies[lies["code"] == code], one[(one["code"] == code) & one["caught"].notna()]
        caught, dropped = rows["caught"] >= CAUGHT, rows["dropped"] < DROPPED
        error = (rows["relative"] < ERROR) & (rows["broken"] == 0)
        text = (
            f"{NAMES[code]}: in {caught.sum()} of {len(rows)} cells (function and lie) enough are "
            f"caught, in {dropped.sum()} few enough dropped, in {error.sum()} the RMSE is small "
            f"enough, in {(caught & dropped & error).sum()} all three; alone, "
            f"{alone['caught'].mean():.0%} on average, {(alone['caught'] >= ALONE).sum()} of "
            f"{len(alone)} functions."
        )
        worst = rows[~caught].groupby("lie", sort=False)["caught"].agg(["size", "min"])
        if len(worst):
            text += " Short of it: " + "; ".join(
                f"{lie} on {row['size']:.0f} functions (least {row['min']:.0%})"
                for lie, row in worst.iterrows()
            ) + "."  # fmt: skip
        told.append(text)
    return "\n\n".join(told)


def _meaning(many: pd.DataFrame) -> str:
    nobody = many[many["lie"] == "nobody"]
    honest = nobody.set_index(["function", "code"])["dropped"].unstack()
    titles = nobody.groupby("function")["title"].first()
    lies = many[many["lie"] != "nobody"]
    caught = _pivot(lies, "caught")
    best = caught.mean().idxmax()
    error = _pivot(lies, "relative", "median")
    hard = caught["KernelCode"].idxmin()
    return (
        f"Over all lies {NAMES[best]} catches most ({caught[best].mean():.0%}; KernelCode "
        f"{caught['KernelCode'].mean():.0%}, SplineCode {caught['SplineCode'].mean():.0%}). What "
        f"KernelCode catches least is: {hard} ({caught['KernelCode'][hard]:.0%}), with an RMSE of "
        f"{error['KernelCode'][hard]:.2g} deviations. A lie that looks like an honest answer can only be "
        "found where the others say well enough what an honest one is: swapped and stale answers are "
        "answers of the function, to other inputs. NaN in the answer to a raw input that nobody "
        "contradicts is returned as it is, because some functions mean it: check "
        "`numpy.isfinite(result.values)`. Two copies that disagree do not tell who lies: the row is "
        "estimated and nobody is rejected, so planned copies put more right than they catch. When nobody "
        f"lies, KernelCode drops {honest['KernelCode'].mean():.2f} honest workers a wave "
        f"({honest['KernelCode'].max():.2f} on {titles[honest['KernelCode'].idxmax()]}), planned codes "
        f"{honest['planned'].mean():.2f}, and bisquare {honest['bisquare'].mean():.2f} "
        f"({honest['bisquare'].max():.2f} on {titles[honest['bisquare'].idxmax()]})."
    )


def plot(table: pd.DataFrame, path: Path) -> None:
    """Four grids of lies and codes: caught, dropped, errors, wrongly exact."""
    many = table[table["liars"] > 1]
    lies = many[many["lie"] != "nobody"]
    with figure(path, 2, 2) as axes:
        _heat(axes[0][0], _pivot(lies, "caught"), "Share of liars caught", "RdYlGn", (0.0, 1.0))
        _heat(
            axes[0][1], _pivot(many, "dropped"), "Honest workers dropped a wave", "Reds", (0.0, 2.0)
        )
        _heat(
            axes[1][0], _pivot(many, "relative", "median"),
            "RMSE / outputs' sd, median over functions", "Reds", (0.0, 1.0),
        )  # fmt: skip
        _heat(
            axes[1][1],
            _pivot(many, "wrong"),
            "Share of rows wrongly marked exact",
            "Reds",
            (0.0, 0.2),
        )


def _heat(
    axis: Axes, grid: pd.DataFrame, title: str, colours: str, between: tuple[float, float]
) -> None:
    values = grid.to_numpy(float)
    axis.imshow(values, cmap=colours, vmin=between[0], vmax=between[1], aspect="auto", alpha=0.75)
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            axis.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=11)
    names = [NAMES[code].replace(" (quadratic)", "").replace('SplineCode, "bisquare"', "bisquare")
             for code in grid]  # fmt: skip
    axis.set_xticks(range(len(names)), names, fontsize=10, rotation=20)
    axis.set_yticks(range(len(grid)), grid.index, fontsize=11)
    axis.set_title(title)
