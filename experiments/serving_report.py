"""Figure and report of the serving experiment, both made from its table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from .plots import figure

__all__ = ["grid", "overhead", "plot", "report", "summary"]

TITLES = {
    "traces": "times measured on AWS Lambda, N = {N}; 1 is the median call",
    "slow": "5 % of calls take 10 times as long, N = {N}; 1 is the shortest call",
}
NAMES = ("p50", "p99", "mean")
WANTED = {"traces": 1.7, "slow": 1.3}
"""Goals: largest ratio of p99 to p50 of KernelCode."""

ASKED = """## Live waves: time, cost and error of each scheme

**Question.** How long does a wave of K = {K} tasks take live, how many calls does it need, and how large is its
error? The workers are processes that sleep for the call times. The times are measured ones (different workers of one
round of an AWS array of 256 workers) or synthetic ones, of which 5 % are ten times longer.

| scheme | description |
|---|---|
| wait for all | one call per task on K workers; the wave ends when all have answered |
| exact, hedged | `codedmap.map` without a code on N workers, with `Hedge(budget=(N - K) / K)`: late calls are sent again |
| copies | Replication on as many workers; the first answer to each task counts |
| KernelCode | K raw inputs and N - K mixtures; the wave ends after K answers |
{stealing}

All schemes run the same waves in turn, {waves} waves each. p50 and p99 are measured times, including encoding, sending
and decoding. *Simulated* figures come from {many} waves of the same scheduler in virtual time (`codedmap.latency.scheduled`). The ratio is
live over simulated for the same waves, with a 95 % bootstrap interval. The error is the root mean square over all rows, in
standard deviations of the outputs; the function is a network with five inputs. Rows that are not estimated are
exact."""

STEALING = (
    "| Dask work stealing | without codedmap: `Client.map` with five small tasks for each of the K, on K workers "
    "of which some are slow; Dask moves tasks that have not started |\n"
)


def report(table: pd.DataFrame) -> str:
    """The section of the page."""
    waves = sorted(set(table["waves"]))
    stolen = table["way"].eq("Dask work stealing").any()
    head = ASKED.format(
        K=table["K"].iloc[0],
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
    text = title.format(N=own["N"].iloc[0])
    return text[0].upper() + text[1:]


def grid(own: pd.DataFrame) -> str:
    """One part of the table."""
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


def summary(own: pd.DataFrame) -> str:
    """One part of the table in few columns, as in docs/measured.md."""
    lines = ["| | median | p99 | calls per task | rows estimated | RMSE / sd |", "|---" * 6 + "|"]
    for row in own.to_dict("records"):
        error = f"{row['error']:.2f}" if row["estimated"] > 0 else "0"
        cells = [row["way"], f"{row['p50']:.1f}", f"{row['p99']:.1f}", f"{row['cost']:.2f}",
                 f"{row['estimated']:.0%}", error]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def overhead(own: pd.DataFrame) -> str:
    """The seconds that a wave of KernelCode takes beyond its calls, at the median."""
    code = own.set_index("way").loc["KernelCode"]
    return f"{(code['p50'] - code['simulated_p50']) * code['unit_ms'] / 1e3:.2f} s"


def _meaning(part: str, own: pd.DataFrame) -> str:
    schemes = own.set_index("way")
    code, everyone, hedge = (
        schemes.loc[name] for name in ("KernelCode", "wait for all", "exact, hedged")
    )
    wanted = WANTED[part]
    ratio = code["p99"] / code["p50"]
    return (
        f"**Conclusion.** At no more calls than KernelCode, hedges lower the p99 from {everyone['p99']:.2f} to "
        f"{hedge['p99']:.2f}, and all rows are exact. KernelCode lowers it to {code['p99']:.2f} with "
        f"{code['estimated']:.1%} of the rows estimated. The goal was a p99 of at most {wanted} times the p50; KernelCode "
        f"{'meets' if ratio <= wanted else 'misses'} it with {ratio:.2f}. It spends "
        f"{overhead(own)} a wave on sending, decoding and estimating."
    )


def _agreement(table: pd.DataFrame) -> str:
    both = table.dropna(subset=["ratio_p50"])
    ratios = both[[f"ratio_{name}" for name in NAMES]]
    inside = int((ratios["ratio_p50"] - 1.0).abs().le(0.05).sum())
    tails = both["ratio_p99"] - 1.0
    slack = 0.1 + 5.0 / (both["p99"] / both["ratio_p99"] * both["unit_ms"])
    near = int(tails.abs().le(slack).sum())
    lines = ["| | | " + " | ".join(f"live / simulated, {name}" for name in NAMES) + " |",
             "|---" * (2 + len(NAMES)) + "|"]  # fmt: skip
    for row in both.to_dict("records"):
        cells = [
            f"{row[f'ratio_{n}']:.3f} [{row[f'ratio_{n}_low']:.3f}, {row[f'ratio_{n}_high']:.3f}]"
            for n in NAMES
        ]
        lines.append("| " + " | ".join([row["part"], row["way"], *cells]) + " |")
    return (
        f"**Live against simulated**, for the same waves: the p50 is within 5 % in {inside} of {len(both)} schemes, the "
        f"p99 within 10 % and 5 ms in {near}. The unit is {_units(both)}.\n\n" + "\n".join(lines)
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
                color="#bbbbbb", lw=6, label="simulated",
            )  # fmt: skip
            panel.plot(
                own["simulated_p99"],
                place,
                "|",
                color="#444444",
                ms=18,
                mew=2,
                label="simulated p99",
            )
            panel.plot(own["p50"], place, "o", color="#0072B2", ms=9, label="live p50")
            panel.plot(own["p99"], place, "D", color="#D55E00", ms=9, label="live p99")
            panel.set_xscale("log")
            low = own[["p50", "simulated_p50"]].min().min()
            high = own[["p99", "simulated_p999"]].max().max()
            panel.set_xlim(low / 1.1, high * 4.0)
            for at, row in zip(place, own.to_dict("records"), strict=True):
                text = "exact" if row["estimated"] == 0 else f"error {row['error']:.3f}"
                panel.text(
                    high * 1.15, at, f"{row['cost']:.2f} calls per task, {text}", va="center"
                )
            panel.set_yticks(place, own["way"])
            panel.set_ylim(-0.6, len(own) - 0.4)
            panel.set_title(_capital(TITLES[part], own), loc="left")
            ticks = [
                t for t in (1, 2, 3, 5, 10, 20, 50, 100, 200, 500) if low / 1.1 < t < high * 1.1
            ]
            panel.set_xticks(ticks, [str(t) for t in ticks])
            panel.minorticks_off()
            panel.set_xlabel("time of a wave (bars: simulated p50 to p99.9)")
        axes.flat[0].legend(
            loc="lower right", frameon=False, ncols=4, fontsize=11, bbox_to_anchor=(1.0, 1.0)
        )
