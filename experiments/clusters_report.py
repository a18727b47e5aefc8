"""Report of the clusters experiment, made from its table."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .stats import mean_interval, slope_interval

__all__ = ["LEAST", "TARGETS", "report"]

TARGETS = {"the fastest": 0.0, "+10 %": 0.1, "+40 %": 0.4, "none": np.inf}
"""Time targets: the fastest selection's time plus a share of the difference to the cheapest one's."""
LEAST = 1.0 + 1e-6

WORDS = """## Clusters: how close to the minimum cost are the plans of `plan_cluster`?

**Question.** What does a plan cost, as a multiple of the minimum? {count} random clusters of {sizes} learning +
information nodes are small enough to enumerate *all* selections: every connected set of learning nodes, every set of
links, every assignment of information nodes (a median of {selections:,.0f} that reach the error). Times, costs,
samples, delays, links and the error model are drawn anew for each cluster. The time target is the time of the fastest
selection, that time plus 10 % or 40 % of the difference to the time of the cheapest selection, or none.

The enumeration shares no formula with the library. The DoubleClimb paper states a bound of 1 + 1/|I| for its
algorithm, where |I| is the number of information nodes. The steps of `plan_cluster` are not those of the paper, and
no bound is proven for them.

{table}

*Mean* (with its 95 % interval) and *worst* are over the plans that meet the time target. *One node*: the minimum cost
of a selection with a single learning node, where one meets the target. *All nodes*: the cost if all nodes learn over
all links and all information nodes feed them, where that meets the target.

**Result.** {out}

**Violations.** {violations}

**Run time.** {growth}

**Conclusion.** Without a tight time target the plan is the cheapest selection or close to it. Where the target leaves
few of the selections, the plan may miss all of them: `Unreachable` means that none was *found*, not that none exists.
Then allow more time, or take the alternative that the error names. {alone}
"""


def report(table: pd.DataFrame) -> str:
    """The section of the page."""
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
            f"{(found.ratio <= LEAST).sum()} of {len(least)} plans have the minimum cost, "
            f"{(found.ratio <= found.bound).sum()} are within 1 + 1/|I| of it. The worst plan that meets the time "
            f"target costs {found.ratio.max():.3f} times the minimum. {len(missed)} plans miss a time target that "
            "some selection meets."
        ),
        violations=_violations(missed, over),
        growth=_growth(growth),
        alone=_alone(least),
    )


def _grid(least: pd.DataFrame) -> str:
    lines = [
        "| time target | I | plans | at minimum cost | mean ratio | worst | 1 + 1/\\|I\\| | within it | target missed "
        "| one node | all nodes |",
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
        return "none meets it"
    return f"{ratios.mean():.2f}" + (f" ({len(ratios)} of {count})" if len(ratios) < count else "")


def _violations(missed: pd.DataFrame, over: pd.DataFrame) -> str:
    text = "No plan that meets the time target costs more than 1 + 1/|I| times the minimum."
    if len(over):
        lines = [
            "| nodes | time target | cost over minimum | bound | differences |",
            "|---" * 5 + "|",
        ]
        lines += [
            f"| {row.learning} + {row.information} | {row.target} | {row.ratio:.3f} | {row.bound:.3f} "
            f"| {row.differences:.0f} |"
            for row in over.itertuples()
        ]
        text = f"{len(over)} plans that meet the target exceed the bound:\n\n" + "\n".join(lines)
    if not len(missed):
        return text
    lines = ["| nodes | time target | too slow by | differences |", "|---" * 4 + "|"]
    lines += [
        f"| {row.learning} + {row.information} | {row.target} | {row.too_slow:.1%} | {row.differences:.0f} |"
        for row in missed.itertuples()
    ]
    return (
        f"{text} These {len(missed)} plans miss the time target:\n\n"
        + "\n".join(lines)
        + "\n\n*Differences* are the nodes, links and feeds in which the plan and the cheapest selection within the "
        "target differ. The search changes one of them at a time (two for feeds). It stops where no single change "
        "improves the plan, even if several changes at once would."
    )


def _alone(least: pd.DataFrame) -> str:
    free, bound = least[least.target == "none"], least[least.target != "none"]
    return (
        f"A single learning node is the cheapest choice in {(free.alone <= LEAST).sum()} of {len(free)} clusters without "
        f"a time target, and in {(bound.alone <= LEAST).sum()} of {len(bound)} with one. In this error model cooperation "
        "saves time and gives access to the samples of more information nodes; by itself it does not lower the error."
    )


def _growth(growth: pd.DataFrame) -> str:
    slope = slope_interval(growth.all_nodes.to_numpy(), growth.planning_seconds.to_numpy())
    times = growth.groupby("all_nodes").agg(
        {"planning_seconds": "mean", "nodes": "mean", "fed_by": "mean"}
    )
    steps = np.diff(np.log(times.planning_seconds)) / np.diff(np.log(times.index.to_numpy(float)))
    lines = [
        "| nodes | seconds | chosen nodes (learning + information) | exponent from the size before |"
    ]
    lines.append("|---" * 4 + "|")
    for (n, row), step in zip(
        times.iterrows(), ["", *(f"{one:.1f}" for one in steps)], strict=True
    ):
        lines.append(
            f"| {n:.0f} | {row.planning_seconds:.1f} | {row.nodes:.0f} + {row.fed_by:.0f} | {step} |"
        )
    verdict = "no faster than cubic" if slope.high <= 3.0 else "**not shown to be at most cubic**"
    return (
        "Processor time of planning for clusters whose learning nodes are all linked, with a time target of 1.3 times "
        f"the shortest time found (mean of {len(growth) // len(times)}):\n\n"
        + "\n".join(lines)
        + f"\n\nThe time grows as a power of the nodes with exponent {slope}: {verdict}."
    )
