"""The figure: loss and accuracy against time and against cost, with a band over the seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from .table import Run

__all__ = ["draw"]

# Okabe and Ito's palette, suited to colour-blind readers.
DRAWN = {
    "wait for all": ("#000000", "-"),
    "hedged": ("#999999", "-"),
    "copies x2": ("#009E73", "-"),
    "repetition, S = 2": ("#0072B2", "-"),
    "ignore stragglers": ("#E69F00", "-"),
    "LeTCC": ("#D55E00", "--"),
    "BACC": ("#CC79A7", "--"),
    "KernelCode": ("#56B4E9", "--"),
}
POINTS = 200


def draw(path: Path, runs: Sequence[Run], title: str) -> None:
    """Draw 1600 x 1100 pixels from the runs of one model on one engine."""
    figure = Figure(figsize=(16, 11), dpi=100, layout="constrained")
    axes = figure.subplots(2, 2, sharey="row", sharex="col")
    ways = (("seconds", "seconds"), ("worker_seconds", "cost: worker seconds"))
    for column, (over, label) in enumerate(ways):
        for row, what in enumerate(("loss", "accuracy")):
            _curves(axes[row, column], runs, over, what)
            axes[row, column].spines[["top", "right"]].set_visible(False)
            axes[row, column].grid(alpha=0.25)
            axes[row, column].tick_params(labelsize=14)
        axes[1, column].set_xlabel(label, size=16)
    axes[0, 0].set_yscale("log")
    axes[0, 0].yaxis.set_major_locator(FixedLocator([0.1, 0.2, 0.3, 0.5, 1, 2]))
    axes[0, 0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes[0, 0].yaxis.set_minor_locator(NullLocator())
    axes[0, 0].set_ylabel("training loss", size=16)
    axes[1, 0].set_ylabel("held-out accuracy", size=16)
    best = max(look.accuracy for run in runs for look in run.looks)
    axes[1, 0].set_ylim(best - 0.15, best + 0.005)
    seeds = len({run.seed for run in runs})
    note = f"mean and standard deviation of {seeds} seeds" if seeds > 1 else "one seed"
    figure.suptitle(f"{title}; {note}", size=19)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=15, frameon=False)
    figure.savefig(path, metadata={"Software": None})


def _curves(axes: Axes, runs: Sequence[Run], over: str, what: str) -> None:
    for name, (colour, style) in DRAWN.items():
        own = [run for run in runs if run.scheme == name]
        if not own:
            continue
        ends = [getattr(run.looks[-1], over) for run in own]
        grid = np.linspace(0, min(ends), POINTS)
        curves = np.array(
            [
                np.interp(
                    grid,
                    [getattr(look, over) for look in run.looks],
                    [getattr(look, what) for look in run.looks],
                )
                for run in own
            ]
        )
        mean, spread = curves.mean(axis=0), curves.std(axis=0, ddof=min(1, len(own) - 1))
        axes.plot(grid, mean, color=colour, linestyle=style, linewidth=2.2, label=name)
        axes.plot(grid[-1], mean[-1], "o", color=colour, markersize=8)
        low = np.maximum(mean - spread, mean / 10) if what == "loss" else mean - spread
        axes.fill_between(grid, low, mean + spread, color=colour, alpha=0.15, linewidth=0)
