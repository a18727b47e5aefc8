"""The figure of waves served live, and its table in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from .plots import figure
from .serving_ways import PATIENCE

__all__ = ["grid", "plot", "report"]

TITLES = {
    "traces": "times measured on AWS Lambda, N = {N}; 1 is the median call",
    "slow": "5 % of calls take 10 times as long, N = {N}; 1 is the shortest call",
}
NAMES = ("p50", "p99", "mean")
WANTED = 1.3
"""Times p50 that p99 was wanted to be at most, for an extra cost of a quarter."""

ASKED = """## Served live: what a wave takes, costs and gets wrong

**Question.** K = {K} tasks a wave, again and again, on worker processes that really sleep as long as the times
say: measured ones, of different workers of one round of an AWS array (256 workers), and made-up ones of which 5 % are ten
times longer. People wait for all; send everything twice; *hedge*, sending once more what is not back when
90 % of all calls are; or use a code. *KernelCode* sends the K raw inputs and N - K mixtures, and takes the
first K answers; *KernelCode + hedge* hedges as well, is exact if it can be, and lets the estimates stand in
after {patience:g} times the moment of hedging. {stealing}

All ways meet the same waves in turn, {waves} each. p50 and p99 are by the clock, with encoding, sending and
decoding in it; *simulated* figures come from {many} waves of the formulas in `codedmap.latency`. The ratio is
live over simulated for the very same waves, with the 95 % interval of drawing the waves again. Error: root mean
square over all rows of a 5-dimensional network's answers, in standard deviations of its outputs; what is
not estimated is exact."""

STEALING = """*Dask steals work* is what one gets who changes nothing: `Client.map` of five small tasks for each
of the K on K workers, of which some are slow throughout the wave; Dask gives what has not begun to others."""


def report(table: pd.DataFrame) -> str:
    """The table as Markdown."""
    waves = sorted(set(table["waves"]))
    stolen = table["way"].eq("Dask steals work").any()
    head = ASKED.format(
        K=table["K"].iloc[0],
        patience=PATIENCE,
        waves=" and ".join(f"{count:,}" for count in waves),
        many=f"{table['simulated_waves'].max():,.0f}",
        stealing=STEALING if stolen else "",
    )
    parts = [head]
    for part, title in TITLES.items():
        own = table[table["part"] == part]
        if len(own):
            parts += [f"**{_capital(title, own)}**", grid(own), _meaning(part, own)]
    parts.append(_agreement(table))
    return "\n\n".join(parts) + "\n"


def _capital(title: str, own: pd.DataFrame) -> str:
    told = title.format(N=own["N"].iloc[0])
    return told[0].upper() + told[1:]


def grid(own: pd.DataFrame) -> str:
    """One part of the table, as README shows it too."""
    lines = [
        "| | calls per task | p50 | p99 | p99 / p50 | simulated p50 | p99 | p99.9 | error | rows estimated |",
        "|---" * 10 + "|",
    ]
    for row in own.to_dict("records"):
        simulated = [
            f"{row[f'simulated_{name}']:.2f}" if np.isfinite(row[f"simulated_{name}"]) else ""
            for name in ("p50", "p99", "p999")
        ]
        error = f"{row['error']:.3f}" if row["estimated"] > 0 else "0"
        cells = [row["way"], f"{row['cost']:.2f}", f"{row['p50']:.2f}", f"{row['p99']:.2f}",
                 f"{row['p99'] / row['p50']:.2f}", *simulated, error, f"{row['estimated']:.1%}"]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _meaning(part: str, own: pd.DataFrame) -> str:
    ways = own.set_index("way")
    code, everyone, hedge = (ways.loc[name] for name in ("KernelCode", "wait for all", "hedge"))
    text = (
        f"**Conclusion.** Waiting for all has a p99 of {everyone['p99']:.2f}. A hedge brings it to "
        f"{hedge['p99']:.2f} for {hedge['cost']:.2f} calls a task, and every row is exact; KernelCode to "
        f"{code['p99']:.2f} for {code['cost']:.2f}, with {code['estimated']:.1%} of the rows estimated, and an "
        f"error of {code['error']:.3f} over all of them."
    )
    if part == "slow":
        ratio = code["p99"] / code["p50"]
        verdict = "is kept" if ratio <= WANTED else "is missed"
        return (
            f"{text} For a cost of at most 1.25 a p99 of {WANTED} times the p50 was wanted: with {ratio:.2f} that "
            f"{verdict} by KernelCode; the others have {_ratios(ways)}."
        )
    both, twice = ways.loc["KernelCode + hedge"], ways.loc["copies x2"]
    return (
        f"{text} With both, {both['estimated']:.1%} of the rows are estimated and the p99 is {both['p99']:.2f}, for "
        f"{both['cost']:.2f} calls a task; two copies of everything have {twice['p99']:.2f}."
    )


def _ratios(ways: pd.DataFrame) -> str:
    others = ways.drop(index="KernelCode")
    return ", ".join(f"{row['p99'] / row['p50']:.2f} ({name})" for name, row in others.iterrows())


def _agreement(table: pd.DataFrame) -> str:
    both = table.dropna(subset=["ratio_p50"])
    ratios = both[[f"ratio_{name}" for name in NAMES]]
    inside = int(((ratios - 1.0).abs() <= 0.1).sum().sum())
    lines = ["| | | " + " | ".join(f"live / simulated, {name}" for name in NAMES) + " |",
             "|---" * (2 + len(NAMES)) + "|"]  # fmt: skip
    for row in both.to_dict("records"):
        cells = [
            f"{row[f'ratio_{n}']:.3f} [{row[f'ratio_{n}_low']:.3f}, {row[f'ratio_{n}_high']:.3f}]"
            for n in NAMES
        ]
        lines.append("| " + " | ".join([row["part"], row["way"], *cells]) + " |")
    return (
        f"**Live against simulated**, for the same waves: {inside} of {ratios.size} ratios are within 10 % (1 is "
        f"{_units(both)}; nothing is subtracted).\n\n" + "\n".join(lines)
    )


def _units(table: pd.DataFrame) -> str:
    units = table.groupby("part", sort=False)["unit_ms"].first()
    return " and ".join(f"{unit:.0f} ms ({part})" for part, unit in units.items())


def plot(table: pd.DataFrame, path: Path) -> None:
    """Draw the table into a file."""
    parts = [part for part in TITLES if (table["part"] == part).any()]
    with figure(path, len(parts), 1) as axes:
        for panel, part in zip(axes.flat, parts, strict=True):
            own = table[table["part"] == part].reset_index(drop=True)
            place = np.arange(len(own))[::-1]
            known = own["simulated_p50"].notna()
            panel.hlines(
                place[known], own["simulated_p50"][known], own["simulated_p999"][known],
                color="#bbbbbb", lw=6, label="simulated, p50 to p99.9",
            )  # fmt: skip
            panel.plot(
                own["simulated_p99"], place, "|", color="#444444", ms=18, mew=2, label="its p99"
            )
            panel.plot(own["p50"], place, "o", color="#0072B2", ms=9, label="live, p50")
            panel.plot(own["p99"], place, "D", color="#D55E00", ms=9, label="live, p99")
            panel.set_xscale("log")
            low = own[["p50", "simulated_p50"]].min().min()
            high = own[["p99", "simulated_p999"]].max().max()
            panel.set_xlim(low / 1.1, high * 4.0)
            for at, row in zip(place, own.to_dict("records"), strict=True):
                told = "exact" if row["estimated"] == 0 else f"error {row['error']:.3f}"
                panel.text(high * 1.15, at, f"{row['cost']:.2f} calls a task, {told}", va="center")
            panel.set_yticks(place, own["way"])
            panel.set_ylim(-0.6, len(own) - 0.4)
            panel.set_title(_capital(TITLES[part], own), loc="left")
            ticks = [
                t for t in (1, 2, 3, 5, 10, 20, 50, 100, 200, 500) if low / 1.1 < t < high * 1.1
            ]
            panel.set_xticks(ticks, [str(t) for t in ticks])
            panel.minorticks_off()
            panel.set_xlabel("time of a wave")
        axes.flat[0].legend(
            loc="lower right", frameon=False, ncols=4, fontsize=11, bbox_to_anchor=(1.0, 1.0)
        )
