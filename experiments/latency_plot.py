"""Figure of the latency experiment: error against time per service, and live against simulated times."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from .latency_schemes import SCHEMES
from .plots import SCHEME_COLOURS, figure
from .services import INDEPENDENT, MEASURED

__all__ = ["plot"]

JUDGE = "digits"


class Mark(NamedTuple):
    """Style of a scheme or a code."""

    colour: str
    shape: str
    label: str


MARKS = {
    "wait for all": Mark("#666666", "s", "wait for all, 1x"),
    "hedge p95": Mark("#CC79A7", "v", "hedge after p95, 1.05x"),
    "hedge p90": Mark("#D55E00", "^", "hedge after p90, 1.1x"),
    "copies x2": Mark(SCHEME_COLOURS["copies"], "D", "two copies, 2x"),
    "BACC": Mark(SCHEME_COLOURS["BACC"], "o", "BACC"),
    "LeTCC": Mark(SCHEME_COLOURS["LeTCC"], "o", "LeTCC"),
    "copies, mean": Mark(SCHEME_COLOURS["copies"], "P", "copies, mean fill"),
}
EXACT = tuple(scheme.name for scheme in SCHEMES if scheme.exact)
LOWERED = "first 1.25K of 2K"
"""Its label goes below the mark, to keep it apart from a neighbour."""
ROW = 0.055
"""Height of the row of an exact scheme, below the axis of errors."""


def plot(table: pd.DataFrame, path: Path) -> None:
    """Draw the table into a file."""
    titles = {name: one.title for name, one in INDEPENDENT.items()} | MEASURED
    timed = table[table["part"] == "time"]
    tasks = timed["tasks"].min()
    timed = timed[timed["tasks"] == tasks]
    errors = table[(table["part"] == "accuracy") & (table["judge"] == JUDGE)]
    with figure(path, 2, 3) as axes:
        panels = list(axes.flat)
        live = panels.pop()
        for panel, (name, title) in zip(panels, titles.items(), strict=True):
            own = timed[timed["service"] == name].set_index("scheme")
            if own.empty:
                panel.text(0.5, 0.5, "traces not available", ha="center", transform=panel.transAxes)
                panel.set_axis_off()
                continue
            _trade(panel, own, errors[errors["service"] == name], tasks)
            unit = "the median call" if name in MEASURED else "the shortest call"
            panel.set_title(title, fontsize=14, fontweight="bold")
            panel.set_xlabel(f"time, in units of {unit}")
        for row in axes:
            row[0].set_ylabel("error of LeNet-5's scores / their sd", loc="top")
        _agreement(live, table[table["part"] == "live"])
        _legend(axes[0, 0].figure, tasks)


def _trade(panel: Any, own: pd.DataFrame, errors: pd.DataFrame, tasks: int) -> None:
    order = [name for name in MARKS if name in EXACT]
    for place, name in enumerate(order):
        _dumbbell(panel, own.loc[name], -ROW * (place + 1), MARKS[name])
    for row in errors.itertuples():
        _dumbbell(panel, own.loc[row.scheme], row.error, MARKS[row.code])
    top = errors["error"].max()
    for name, group in errors.groupby("scheme"):
        scheme, mixed = own.loc[name], group.loc[group["code"] != "copies, mean", "error"]
        panel.annotate(
            f"first {scheme['waits_for']:.0f} of {scheme['workers']:.0f}",
            (scheme["p99"], mixed.min() if name == LOWERED else mixed.max()),
            xytext=(11, 0),
            textcoords="offset points",
            va="top" if name == LOWERED else "center",
            fontsize=12,
        )
    panel.axhspan(-ROW * (len(order) + 0.8), -ROW * 0.2, color="#EEEEEE", zorder=0)
    panel.set_ylim(-ROW * (len(order) + 0.8), 1.12 * top)
    ticks = [0.2, 0.4, 0.6]
    panel.set_yticks([-ROW * (len(order) + 1) / 2, *ticks], ["exact", *(f"{t:g}" for t in ticks)])
    panel.set_xscale("log")
    low, high = own["p50"].min(), own["p99"].max()
    steps = [1, 1.5, 2, 3, 5, 10, 20, 50] if high < 100 else [1, 3, 10, 30, 100, 300, 1000]
    panel.set_xticks(steps, [f"{step:g}" for step in steps])
    panel.set_xticks([], minor=True)
    panel.set_xlim(low / (high / low) ** 0.08, high * (high / low) ** 0.12)
    panel.grid(axis="x", color="#DDDDDD", zorder=0)


def _dumbbell(panel: Any, times: pd.Series, height: float, mark: Mark) -> None:
    size = 75 * times["cost"]
    panel.plot(
        [times["p50"], times["p99"]], [height, height], color=mark.colour, alpha=0.25, zorder=1
    )
    look = {"color": mark.colour, "marker": mark.shape}
    panel.scatter(times["p50"], height, size / 2, alpha=0.3, lw=0, **look)
    panel.scatter(times["p99"], height, size, edgecolors="white", lw=0.8, zorder=3, **look)


def _agreement(panel: Any, live: pd.DataFrame) -> None:
    # Waves with estimates are decoded by BACC and LeTCC in turn; their decoding times are alike.
    colours = {name: mark.colour for name, mark in MARKS.items()}
    panel.axhspan(0.9, 1.1, color="#EEEEEE", zorder=0)
    panel.axhline(1.0, color="#999999", lw=1)
    for statistic, shape, size in (("p50", "o", 45), ("mean", "x", 45), ("p99", "D", 60)):
        panel.scatter(
            live[f"simulated_{statistic}"],
            live[f"ratio_{statistic}"],
            size,
            [colours.get(name, colours["LeTCC"]) for name in live["scheme"]],
            marker=shape,
            alpha=0.85,
            label=statistic,
            zorder=3,
        )
    panel.set_xscale("log")
    simulated = live[["simulated_p50", "simulated_p99"]].to_numpy()
    panel.set_xlim(simulated.min() / 1.2, simulated.max() * 1.2)
    steps = [step for step in (50, 100, 200, 500, 1000, 2000, 5000) if step < simulated.max()]
    panel.set_xticks(steps, [f"{step}" for step in steps])
    panel.set_xticks([], minor=True)
    spread = max(0.15, (live[["ratio_p50", "ratio_mean", "ratio_p99"]] - 1).abs().max().max() * 1.1)
    panel.set_ylim(1 - spread, 1 + spread)
    panel.set_title("Live against simulated", fontsize=14, fontweight="bold")
    panel.set_xlabel("simulated time of the same waves, ms")
    panel.set_ylabel("live / simulated")
    panel.text(0.98, 0.02, "grey: within 10 %", ha="right", transform=panel.transAxes, fontsize=11)
    panel.legend(loc="lower left", fontsize=11, frameon=False)


def _legend(drawing: Any, tasks: int) -> None:
    from matplotlib.lines import Line2D  # noqa: PLC0415 (only where a figure is drawn)

    handles = [
        Line2D([], [], color=mark.colour, marker=mark.shape, ls="", ms=10, label=mark.label)
        for mark in MARKS.values()
    ]
    drawing.legend(handles=handles, loc="outside lower center", ncols=7, frameon=False, fontsize=13)
    drawing.suptitle(
        f"{tasks:.0f} tasks: time, error and number of calls    "
        "(dark mark: p99, pale mark: p50; area of a mark: calls per task; lower left is better)",
        fontsize=15,
    )
