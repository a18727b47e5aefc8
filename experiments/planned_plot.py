"""Figure of the planned experiment, made from its table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from .plots import figure

__all__ = ["CODES", "LOOSE", "plot"]

CODES = {"planned": "planned", "KernelCode": "default KernelCode"}
KINDS = {
    "image classifier": "#0072B2",
    "kernel machine": "#CC79A7",
    "trees": "#009E73",
    "tanh network": "#E69F00",
    "simulator": "#D55E00",
    "polynomial, sine": "#000000",
}
LOOSE = 0.6, 1.6
"""Range of error over standard error that counts as calibrated."""
FEWEST = 50
"""Minimum number of rows of a bin that is drawn."""


def plot(table: pd.DataFrame, path: Path) -> None:
    """Four panels: errors relative to the best rival, and three views of the standard errors."""
    cells, bins = (table[table["what"] == what] for what in ("code", "bin"))
    with figure(path, 2, 2) as axes:
        _by_function(axes[0][0], cells, "ratio", "RMSE / RMSE of the best rival, per cell")
        axes[0][0].axvline(1.05, color="#444444", lw=1, ls="--")
        _reliability(axes[0][1], bins[bins["code"] == "planned"])
        _by_function(axes[1][0], cells, "calibration", "RMS of error / standard error, per cell")
        axes[1][0].axvspan(*LOOSE, color="#999999", alpha=0.2, lw=0)
        axes[1][0].set_xticks([0.5, 1, 2, 4])
        axes[1][0].minorticks_off()
        _ranks(axes[1][1], cells)


def _by_function(axis: Axes, cells: pd.DataFrame, what: str, label: str) -> None:
    titles = list(cells["title"].unique())[::-1]
    for code, name in CODES.items():
        rows = cells[(cells["code"] == code) & cells[what].notna()]
        for kind, colour in KINDS.items():
            some = rows[rows["kind"] == kind]
            at = [titles.index(title) for title in some["title"]]
            face = colour if code == "planned" else "none"
            axis.scatter(some[what], at, s=34, facecolors=face, edgecolors=colour, lw=1.1)
        axis.scatter([], [], s=34, facecolors="#444444" if code == "planned" else "none",
                     edgecolors="#444444", label=name)  # fmt: skip
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.set_yticks(range(len(titles)), titles, fontsize=10)
    axis.grid(axis="y", alpha=0.3)
    axis.set_title(label)
    axis.legend(frameon=False, fontsize=11, loc="best")


def _reliability(axis: Axes, bins: pd.DataFrame) -> None:
    ends = np.array([1e-5, 3.0])
    axis.plot(ends, ends, color="#444444", lw=1)
    axis.fill_between(ends, LOOSE[0] * ends, LOOSE[1] * ends, color="#999999", alpha=0.2, lw=0)
    for kind, colour in KINDS.items():
        rows = bins[bins["kind"] == kind]
        pooled = rows.groupby("bin").apply(_pooled, include_groups=False)
        if len(pooled) == 0:
            continue
        shown = pooled[pooled["rows"] >= FEWEST]
        axis.plot(shown["stated"], shown["error"], "o-", color=colour, ms=6, lw=1.5, label=kind)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("standard error / outputs' sd")
    axis.set_ylabel("RMS error / outputs' sd")
    axis.set_title("Planned codes: standard error and actual error")
    axis.legend(frameon=False, fontsize=11, loc="upper left")


def _pooled(rows: pd.DataFrame) -> pd.Series:
    weights = rows["estimated"]
    mean = {
        name: np.sqrt((weights * rows[name] ** 2).sum() / weights.sum())
        for name in ("stated", "error")
    }
    return pd.Series({**mean, "rows": weights.sum()})


def _ranks(axis: Axes, cells: pd.DataFrame) -> None:
    axis.plot([0, 1], [0, 1], color="#444444", lw=1)
    axis.axhline(0.6, color="#444444", lw=1, ls="--")
    for code in CODES:
        rows = cells[(cells["code"] == code) & cells["rank"].notna()]
        for kind, colour in KINDS.items():
            some = rows[rows["kind"] == kind]
            face = colour if code == "planned" else "none"
            axis.scatter(some["rank_at_best"], some["rank"], s=34, facecolors=face,
                         edgecolors=colour, lw=1.1)  # fmt: skip
    axis.set_xlim(0, 1)
    axis.set_ylim(min(-0.1, cells["rank"].min() - 0.05), 1)
    axis.set_xlabel("if every standard error were correct for its row")
    axis.set_ylabel("measured")
    axis.set_title("Rank correlation of standard errors and errors")
