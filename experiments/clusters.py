"""`codedmap.topology.plan_cluster` against all selections of small clusters, and its run time on large ones."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

import codedmap as cm

from .clusters_every import enumerate_selections
from .clusters_random import large, small
from .clusters_report import LEAST, TARGETS, report
from .harness import Cell, Experiment, Row
from .plots import figure
from .stats import slope_interval

__all__ = ["EXPERIMENT", "Settings"]

ERROR = 0.15
KINDS = {
    "minimum cost": "#009E73",
    "within 1 + 1/|I| of the minimum": "#56B4E9",
    "above": "#E69F00",
    "not in time": "#999999",
}


@dataclass(frozen=True)
class Settings:
    """Sizes and numbers of clusters.

    Parameters
    ----------
    sizes : tuple of (int, int)
        Learning and information nodes of small clusters.
    blocks, each : int
        Cells of each size, and clusters in each.
    nodes : tuple of int
        Sizes of large clusters, both kinds of nodes together.
    repetitions : int
        Large clusters of each size.
    """

    sizes: tuple[tuple[int, int], ...]
    blocks: int
    each: int
    nodes: tuple[int, ...]
    repetitions: int


def _configure(quick: bool) -> Settings:
    if quick:
        return Settings(((3, 3), (2, 4)), 1, 3, (4, 6, 8), 1)
    return Settings(((4, 4), (3, 6), (5, 3), (4, 5)), 5, 8, (8, 16, 32, 64), 3)


def _cells(settings: Settings) -> list[Cell]:
    found: list[Cell] = [
        {"part": "least", "learning": learners, "information": sources, "block": block}
        for learners, sources in settings.sizes
        for block in range(settings.blocks)
    ]
    found += [
        {"part": "growth", "learning": n // 2, "information": n - n // 2, "block": block}
        for n in settings.nodes
        for block in range(settings.repetitions)
    ]
    return found


def _compute(settings: Settings, cell: Cell, rng: np.random.Generator) -> Iterator[Row]:
    if cell["part"] == "growth":
        yield _timed(cell["learning"] + cell["information"], rng)
        return
    for number in range(settings.each):
        cluster = small((cell["learning"], cell["information"]), rng)
        known = enumerate_selections(cluster, ERROR)
        alone, everyone = known.alone, known.everyone
        for target, share in TARGETS.items():
            limit = known.fastest + share * (known.cheapest_seconds - known.fastest)
            # Rounding must not exclude the fastest selection.
            limit = np.inf if np.isinf(share) else limit * (1.0 + 1e-9)
            plan = cm.topology.plan_cluster(cluster, error=ERROR, seconds=limit, throw=False)
            least = known.least(limit)
            yield {
                "cluster": number,
                "target": target,
                "selections": len(known.cost),
                "least": least,
                "ratio": plan.cost / least if plan.in_time else np.nan,
                "too_slow": plan.seconds / limit - 1.0 if not plan.in_time else 0.0,
                "differences": len(_used(plan) ^ known.best(limit)),
                "nodes": len(plan.learning),
                "alone": known.least(limit, alone) / least,
                "everyone": known.least(limit, everyone) / least,
            }


def _used(plan: cm.topology.ClusterPlan) -> frozenset[str]:
    links = {"-".join(sorted((link.first, link.second))) for link in plan.links}
    return frozenset({*plan.learning, *links, *(f"{k.first}-{k.second}" for k in plan.feeds)})


def _timed(nodes: int, rng: np.random.Generator) -> Row:
    cluster = large(nodes, rng)
    fast = cm.topology.plan_cluster(cluster, error=ERROR, seconds=1e-9, throw=False)
    began = time.process_time()
    plan = cm.topology.plan_cluster(cluster, error=ERROR, seconds=1.3 * fast.seconds)
    return {
        "planning_seconds": time.process_time() - began,
        "structures": plan.tried,
        "nodes": len(plan.learning),
        "fed_by": len(plan.information),
        "all_nodes": nodes,
    }


def _plot(table: pd.DataFrame, path: Path) -> None:
    least, growth = table[table.part == "least"], table[table.part == "growth"]
    bound = 1.0 + 1.0 / least.information
    with figure(path, 1, 2) as ((left, right),):
        ratios = {
            "plan_cluster": least.ratio,
            "one node": least.alone,
            "all nodes": least.everyone,
        }
        places, labels = [], []
        for row, (target, (name, ratio)) in enumerate(product(TARGETS, ratios.items())):
            own, limit = ratio[least.target == target], bound[least.target == target]
            found = own[np.isfinite(own)]
            counts = (
                (found <= LEAST).sum(),
                ((found > LEAST) & (found <= limit[found.index])).sum(),
                (found > limit[found.index]).sum(),
                len(own) - len(found),
            )
            place, begin = row + row // len(ratios), 0.0
            for (kind, colour), count in zip(KINDS.items(), counts, strict=True):
                share = 100.0 * count / len(own)
                left.barh(place, share, 0.9, begin, color=colour, label=kind if row == 0 else None)
                begin += share
            places.append(place)
            labels.append(f"{name}, time: {target}" if name == "plan_cluster" else name)
        left.set_yticks(places, labels)
        left.invert_yaxis()
        left.set_xlim(0, 100)
        left.set_xlabel("share of clusters, %")
        left.legend(ncols=2, loc="lower center", bbox_to_anchor=(0.4, 1.0), frameon=False)
        right.loglog(growth.all_nodes, growth.planning_seconds, "o", color="#0072B2", ms=8)
        if growth.all_nodes.nunique() > 2:
            slope = slope_interval(growth.all_nodes.to_numpy(), growth.planning_seconds.to_numpy())
            at = np.array([growth.all_nodes.min(), growth.all_nodes.max()], float)
            middle = np.exp(np.log(growth.planning_seconds).mean())
            centre = np.exp(np.log(growth.all_nodes).mean())
            for power, style, label in (
                (slope.value, "-", f"fitted: {slope}"),
                (3.0, "--", "cubic"),
            ):
                line = middle * (at / centre) ** power
                right.loglog(at, line, style, color="#444444", label=label)
        right.set_xlabel("nodes (half of them learning nodes)")
        right.set_ylabel("planning, seconds of processor time")
        right.legend()


EXPERIMENT = Experiment("clusters", _configure, _cells, _compute, _plot, report)
