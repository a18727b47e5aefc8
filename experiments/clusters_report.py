"""The clusters experiment in words, every figure taken from the table."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .stats import mean_interval, slope_interval

__all__ = ["LEAST", "TARGETS", "report"]

TARGETS = {"the fastest": 0.0, "+10 %": 0.1, "+40 %": 0.4, "none": np.inf}
"""Time targets: that of the fastest selection, plus a share of the way to that of the cheapest."""
LEAST = 1.0 + 1e-6

WORDS = """## Clusters: how far from the least cost does `plan_cluster` end?

**Question.** {count} random clusters of {sizes} learning and information nodes are small enough to measure
*all* their selections: every connected set of learning nodes, every set of links, every way to feed them (a
median of {selections:,.0f} that reach the error). Times, costs, samples, delays, links and the error model are drawn
anew for each. The time target is that of the fastest selection there is, or some of the way from there to that of
the cheapest one, or none. What does the plan cost, as a multiple of the least? All selections are measured
by a program that shares no formula with the library. The paper behind the idea states a bound of
1 + 1/|I| for its algorithm, with |I| the information nodes; the steps here are not the paper's, and nothing is proven
of them.

{table}

*Mean* with its 95 % interval and *worst* are over the plans that are in time. Beside them: the least cost at which
a single node can learn, where that is possible in time, and what it costs if all nodes learn over all links, fed by
everybody, likewise.

**Result.** {out}

**Every violation.** {violations}

**Growth.** {growth}

**Conclusion.** With time to spare the plan is the cheapest selection or next to it. Where the time target leaves only a
few selections of many, it may miss them all, and `Unreachable` then says *was found*, not *exists*. Allow a
little more time, or look at what it says can be had. {alone}
"""


def report(table: pd.DataFrame) -> str:
    """What was asked, what came out and what it means."""
    least, growth = table[table.part == "least"].copy(), table[table.part == "growth"]
    least["bound"] = 1.0 + 1.0 / least.information
    sizes = [
        f"{a} + {b}" for a, b in dict.fromkeys(zip(least.learning, least.information, strict=True))
    ]
    found = least.dropna(subset="ratio")
    missed, over = least[least.ratio.isna()], found[found.ratio > found.bound]
    return WORDS.format(
        count=len(least) // len(TARGETS),
        sizes=", ".join(sizes),
        selections=least.drop_duplicates(
            ["learning", "information", "block", "cluster"]
        ).selections.median(),
        table=_grid(least),
        out=(
            f"{(found.ratio <= LEAST).sum()} of {len(least)} plans are the cheapest selection there is, "
            f"{(found.ratio <= found.bound).sum()} are within 1 + 1/|I|; the worst plan in time costs "
            f"{found.ratio.max():.3f} times the least. {len(missed)} are not in time although a selection is."
        ),
        violations=_violations(missed, over),
        growth=_growth(growth),
        alone=_alone(least),
    )


def _grid(least: pd.DataFrame) -> str:
    lines = [
        "| time target | I | plans | cheapest of all | mean ratio | worst | 1 + 1/\\|I\\| | within it | not in time "
        "| one node alone | everybody |",
        "|---" * 11 + "|",
    ]
    for target in TARGETS:
        for sources, rows in least[least.target == target].groupby("information"):
            ratio = rows.ratio.dropna()
            mean = mean_interval(ratio.to_numpy())
            alone, everyone = (
                rows[name][np.isfinite(rows[name])] for name in ("alone", "everyone")
            )
            lines.append(
                f"| {target} | {sources} | {len(rows)} | {(ratio <= LEAST).mean():.0%} "
                f"| {mean.value:.4f} [{mean.low:.4f}, {mean.high:.4f}] | {ratio.max():.3f} | {1 + 1 / sources:.3f} "
                f"| {(ratio <= 1 + 1 / sources).sum()} | {rows.ratio.isna().sum()} "
                f"| {_other(alone, len(rows))} | {_other(everyone, len(rows))} |"
            )
    return "\n".join(lines)


def _other(ratios: pd.Series, count: int) -> str:
    if not len(ratios):
        return "never in time"
    return f"{ratios.mean():.2f}" + (f" ({len(ratios)} of {count})" if len(ratios) < count else "")


def _violations(missed: pd.DataFrame, over: pd.DataFrame) -> str:
    parts = []
    if len(over):
        told = "; ".join(
            f"{row.learning} + {row.information} nodes, target {row.target}: {row.ratio:.3f} against "
            f"{row.bound:.3f}, {row.differences:.0f} differences"
            for row in over.itertuples()
        )
        parts.append(f"{len(over)} plans in time cost more than 1 + 1/|I| times the least: {told}.")
    else:
        parts.append("No plan in time costs more than 1 + 1/|I| times the least.")
    if len(missed):
        told = "; ".join(
            f"{row.learning} + {row.information} nodes, target {row.target}: {row.too_slow:.1%} too slow, "
            f"{row.differences:.0f} differences"
            for row in missed.itertuples()
        )
        parts.append(
            f"{len(missed)} are not in time: {told}. *Differences* are the nodes, links and feeds in which the plan "
            "and the cheapest selection in time differ. The climb changes one of them at a time (of feeds two), so it "
            "stops where that helps no more although more changes at once would."
        )
    return " ".join(parts)


def _alone(least: pd.DataFrame) -> str:
    free, bound = least[least.target == "none"], least[least.target != "none"]
    return (
        f"Without a time target a single learning node is the cheapest in {(free.alone <= LEAST).sum()} of {len(free)} "
        f"clusters, with one in {(bound.alone <= LEAST).sum()} of {len(bound)}: in this error model cooperation buys time, and "
        "samples of nodes that one learning node does not reach, but by itself no smaller error."
    )


def _growth(growth: pd.DataFrame) -> str:
    slope = slope_interval(growth.all_nodes.to_numpy(), growth.planning_seconds.to_numpy())
    times = growth.groupby("all_nodes").agg(
        {"planning_seconds": "mean", "nodes": "mean", "fed_by": "mean"}
    )
    told = "; ".join(
        f"{n:.0f} nodes {row.planning_seconds:.1f} s ({row.nodes:.0f} + {row.fed_by:.0f} chosen)"
        for n, row in times.iterrows()
    )
    steps = np.diff(np.log(times.planning_seconds)) / np.diff(np.log(times.index.to_numpy(float)))
    between = ", ".join(f"{step:.1f}" for step in steps)
    verdict = "no faster than cubic" if slope.high <= 3.0 else "**not shown to be at most cubic**"
    return (
        f"Planning for clusters in which all learning nodes are linked, with 1.3 times the least time found, takes "
        f"(processor time, mean of {len(growth) // len(times)}): {told}. On logarithmic axes the slope is {slope}: "
        f"{verdict}. From each size to the next it is {between}."
    )
