"""``python -m experiments sweeps``: Sobol indices of simulators some of whose runs are lost, and the time that it takes.

A design of Saltelli's has, for each of n points, d + 2 rows: two points, and those in which one input is exchanged. A
part of the rows is lost: at random; those of the workers that were slowest in a round of the AWS times; or
those of a region, in which the simulator fails. Indices from the rows that are left (complete points only), and from rows
filled in six ways, are compared with those of all rows.

The time is that of jobs in virtual time, with rows that take the AWS times.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import qmc
from threadpoolctl import threadpool_limits

import codedmap as cm
from codedmap.execution.events import Job
from codedmap.execution.virtual import run_virtually
from codedmap.latency.scheduled import in_turn

from . import held_out
from .cells import run_cells
from .harness import Row
from .rivals import RIVALS, unit_cube
from .services import Traces, have_traces, service
from .simulators import SIMULATORS

__all__ = ["Cell", "indices", "main", "measured", "report", "saltelli"]

SHARES = (0.05, 0.1, 0.2)
KINDS = ("random", "workers", "region")
WORKERS = 64
DRAWS = 100
WAYS = {"nearest": "nearest", "radial basis": "RBF", "Gaussian process": "GP"}
"""To the names of `rivals`."""
RULES = {
    "wait for all": (None, None),
    "hedging": (None, 0.05),
    "ert: Share(0.95) & Slower(1.25)": (cm.Share(0.95) & cm.Slower(1.25), None),
    "the same with hedging": (cm.Share(0.95) & cm.Slower(1.25), 0.05),
    "Share(0.95) with hedging": (cm.Share(0.95), 0.05),
    "Share(0.9) with hedging": (cm.Share(0.9), 0.05),
}
"""A stopping rule and a budget of hedges."""


class Cell(NamedTuple):
    """A simulator with n points of its design and a share of lost rows; or jobs of so many rows for each worker."""

    name: str
    points: int
    share: float
    kind: str


def saltelli(low: np.ndarray, high: np.ndarray, points: int, seed: int) -> np.ndarray:
    """The design (n (d + 2), d), without the rows of second-order indices (Saltelli 2002)."""
    d = len(low)
    both = qmc.Sobol(2 * d, rng=seed).random(points)
    first, second = both[:, :d], both[:, d:]
    rows = [first, *(np.where(np.arange(d) == i, second, first) for i in range(d)), second]
    return low + np.stack(rows, axis=1).reshape(-1, d) * (high - low)


def indices(answers: np.ndarray, inputs: int) -> np.ndarray:
    """First-order (Saltelli et al. 2010) and total indices (Jansen 1999) of each output, (2, d, q)."""
    blocks = (answers - answers.mean(axis=0)).reshape(-1, inputs + 2, answers.shape[1])
    first, changed, second = blocks[:, :1], blocks[:, 1:-1], blocks[:, -1:]
    variance = np.concatenate([first, second]).var(axis=(0, 1))
    own = (second * (changed - first)).mean(axis=0) / variance
    total = ((changed - first) ** 2).mean(axis=0) / (2.0 * variance)
    return np.stack([own, total])


def measured(cell: Cell, seed: int) -> list[Row]:
    """The rows of the table for a cell."""
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of simulators
        return _timed(cell, seed) if cell.kind == "time" else _filled(cell, seed)


def _filled(cell: Cell, seed: int) -> list[Row]:
    simulator = {**SIMULATORS, **held_out.SIMULATORS}[cell.name]
    design = saltelli(np.array(simulator.low), np.array(simulator.high), cell.points, seed)
    truth = np.asarray(simulator.call(design), np.float64).reshape(len(design), -1)
    rng = np.random.default_rng([seed, *cell.name.encode()])
    lost = _lost(design, cell, rng)
    inputs, kept = design.shape[1], np.where(lost[:, None], np.nan, truth)
    right = indices(truth, inputs)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        result = cm.fill(design, kept, seed=seed)
    warned = any("not lost at random" in str(one.message) for one in said)
    found = {
        "fill": result.values,
        "median": np.where(lost[:, None], np.nanmedian(kept, axis=0), truth),
    }
    unit = unit_cube(design)
    for way, rival in WAYS.items():
        found[way] = truth.copy()
        found[way][lost] = RIVALS[rival](unit[~lost], truth[~lost], unit[lost])
    whole = ~lost.reshape(-1, inputs + 2).any(axis=1)
    if whole.sum() > 1:
        found["drop"] = truth[np.repeat(whole, inputs + 2)]
    noise = rng.standard_normal((DRAWS, *truth.shape))
    drawn = np.stack([indices(result.values + result.stderr * one, inputs) for one in noise])
    covered = np.abs(indices(result.values, inputs) - right) <= 1.96 * drawn.std(axis=0)
    return [
        {
            **cell._asdict(), "rows": len(design), "way": way, "output": simulator.outputs[output],
            "error": np.sqrt(((indices(values, inputs) - right)[..., output] ** 2).mean()),
            "covered": covered[..., output].mean() if way == "fill" else np.nan,
            "warned": warned,
        }
        for way, values in found.items()
        for output in range(truth.shape[1])
    ]  # fmt: skip


def _lost(design: np.ndarray, cell: Cell, rng: np.random.Generator) -> np.ndarray:
    rows = len(design)
    if cell.kind == "random":
        return rng.permutation(rows) < cell.share * rows
    if cell.kind == "workers":  # rows are dealt to workers in turn
        slowest = np.argsort(_session(rng, 1)[0])[-max(1, round(cell.share * WORKERS)) :]
        return np.isin(np.arange(rows) % WORKERS, slowest)
    height = unit_cube(design) @ np.eye(design.shape[1])[:2].sum(axis=0)
    return height > np.quantile(height, 1.0 - cell.share)


def _session(rng: np.random.Generator, calls: int) -> np.ndarray:
    """Times of so many calls of each worker, (calls, N), one after another, over the median call."""
    traces = service("aws")
    assert isinstance(traces, Traces)
    times = traces.arrays[rng.integers(len(traces.arrays))]
    rounds = (rng.integers(len(times)) + np.arange(calls)) % len(times)
    return times[np.ix_(rounds, rng.permutation(times.shape[1])[:WORKERS])]


def _timed(cell: Cell, seed: int) -> list[Row]:
    """Jobs of as many rows for each worker as the cell has points."""
    rows, jobs = cell.points * WORKERS, round(cell.share)
    rng = np.random.default_rng(seed)
    found: list[Row] = []
    drawn = [_session(rng, 4 * cell.points) for _ in range(jobs)]
    for rule, (stop, hedge) in RULES.items():
        for job, times in enumerate(drawn):
            timeline = run_virtually(
                Job(rows, stop=stop, hedge=hedge, ahead=0, size=1), WORKERS, in_turn(times)[0]
            )
            found.append({
                **cell._asdict(), "rows": rows, "way": rule, "job": job,
                "times": timeline.seconds / cell.points, "calls": timeline.calls / rows,
                "left": 1.0 - sum(call.groups for call in timeline.taken) / rows,
            })  # fmt: skip
    return found


def report(table: pd.DataFrame) -> str:
    """The table in Markdown, every figure of which is made from rows of `measured`."""
    losses, times = table[table.kind != "time"], table[table.kind == "time"]
    errors = losses.pivot_table(
        index=["name", "share", "kind", "output"], columns="way", values="error"
    )
    best = errors[["radial basis", "Gaussian process"]].min(axis=1)
    random = errors[errors.index.get_level_values("kind") != "region"]
    covered = losses[(losses.way == "fill") & (losses.kind != "region")].covered
    regions = losses[(losses.way == "fill") & (losses.kind == "region")]
    least = 1e-4  # of an index: below, all are right

    def ratio(beside: pd.Series) -> pd.Series:
        return (random.fill + least) / (beside[random.index] + least)

    lines = [
        "# Sobol indices where runs are lost",
        "",
        (__doc__ or "").split("\n\n", 1)[1].strip(),
        "",
        f"{losses.name.nunique()} simulators, {len(errors)} outputs of cells. *Error* is the root mean square difference "
        "of the indices from those of all rows, over inputs and both kinds of indices.",
        "",
        "| error of `fill`, losses at random and by workers, over that of | wanted | median | largest | as wanted |",
        "|---|---|---|---|---|",
    ]
    for name, beside, wanted in (
        ("the median of the column", errors["median"], 0.5),
        ("the nearest row", errors.nearest, 0.5),
        ("the better of radial basis and Gaussian process", best, 1.05),
    ):
        over = ratio(beside)
        lines.append(
            f"| {name} | at most {wanted} | {over.median():.2f} | {over.max():.2f} | {(over <= wanted).mean():.0%} |"
        )
    lines += [
        "",
        f"Intervals of 1.96 standard deviations over {DRAWS} draws of the estimated rows cover {covered.mean():.1%} of the "
        f"indices (wanted: 90 to 98 %; by output of a cell {covered.quantile(0.05):.0%} to {covered.quantile(0.95):.0%} in nine of ten).",
        f"Where runs of a region are lost, `fill` warned in {regions.groupby(['name', 'share']).warned.first().mean():.0%} of the cells.",
        "",
        "| losses | share lost | fill | drop | median | nearest | radial basis | Gaussian process | covered |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    ways = ["fill", "drop", "median", "nearest", "radial basis", "Gaussian process"]
    for (kind, share), some in losses.groupby(["kind", "share"]):
        middle = some.groupby("way").error.median()
        cells = [f"{middle[way]:.2g}" if way in middle else "none left" for way in ways]
        own = some[some.way == "fill"].covered.mean()
        lines.append(f"| {kind} | {share:.0%} | " + " | ".join(cells) + f" | {own:.0%} |")
    lines += [
        "",
        "Errors are medians over outputs and simulators. At 10 % lost at random, by output:",
        "",
    ]
    lines += ["| simulator | output | " + " | ".join(ways) + " |", "|---|---|" + "---|" * len(ways)]
    for (name, share, kind, output), row in errors.iterrows():
        if share == 0.1 and kind == "random":
            cells = [
                f"{row[way]:.2g}" if way in row and row[way] == row[way] else "" for way in ways
            ]
            lines.append(f"| {name} | {output} | " + " | ".join(cells) + " |")
    if len(times):
        lines += [
            "",
            f"**Time.** Jobs of {times.rows.iloc[0]} rows on {WORKERS} workers, {times.job.nunique()} of them, over the time that "
            "they would take if every row took the median.",
            "",
            "| | p50 | p90 | p99 | calls a row | rows left |",
            "|---|---|---|---|---|---|",
        ]
        for way in RULES:
            some = times[times.way == way]
            p50, p90, p99 = some.times.quantile([0.5, 0.9, 0.99])
            lines.append(
                f"| {way} | {p50:.2f} | {p90:.2f} | {p99:.2f} | {some.calls.mean():.2f} | {some.left.mean():.1%} |"
            )
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    """Run the experiment; the exit code."""
    description = "Sobol indices where runs are lost."
    return run_cells("sweeps", description, arguments, _cells, measured, report)


def _cells(quick: bool) -> list[Cell]:
    if quick:
        return [Cell("ishigami", 32, 0.1, kind) for kind in ("random", "region")]
    simulators = {**SIMULATORS, **held_out.SIMULATORS}
    names = [name for name, one in simulators.items() if one.low and not one.lacking()]
    kinds = KINDS if have_traces() else ("random", "region")
    cells = [Cell(name, 64, share, kind) for name in names for share in SHARES for kind in kinds]
    return cells + [Cell("jobs", 10, 200.0, "time")] * have_traces()
