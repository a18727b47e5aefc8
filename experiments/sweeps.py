"""``python -m experiments sweeps``: Sobol indices of simulators some of whose runs are lost, and the time that it takes.

A design of Saltelli's has, for each of n points, d + 2 rows: two points, and those in which one input is exchanged. A
part of the rows is lost: at random; those of the workers that were slowest in a round of the AWS times; or
those of a region, in which the simulator fails. Indices from the rows that are left (complete points only), and from rows
filled in six ways, are compared with those of all rows.

The time is that of jobs in virtual time, with rows that take the AWS times.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import qmc
from threadpoolctl import threadpool_limits

import codedmap as cm
from codedmap.execution.events import Job
from codedmap.execution.virtual import run_virtually
from codedmap.latency.scheduled import in_turn
from codedmap.results.sobol import drawn_rows

from . import held_out
from .cells import run_cells
from .harness import Row
from .rivals import RIVALS, gaussian_process, unit_cube
from .services import Traces, have_traces, service
from .simulators import SIMULATORS

__all__ = ["Cell", "indices", "main", "measured", "report", "saltelli"]

SHARES = (0.05, 0.1, 0.2)
KINDS = ("random", "workers", "region")
WORKERS = 64
DRAWS = 100
SMALL = 0.05
"""A standard error that is wanted, in deviations of the output."""
SURELY = 2
"""Standard errors beyond which rows differ surely."""
WAYS = {"nearest": "nearest", "radial basis": "RBF"}
"""To the names of `rivals`."""
DRAWN = {
    "covered": "Student's distribution with 5 degrees of freedom, the scale the same for all rows: as `sobol` draws",
    "normal": "normal distributions, independently of each other",
    "alike": "a normal distribution, with the correlations that the Gaussian process says",
}
"""Columns of the table, and from what errors are drawn."""
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
    posteriors = [
        gaussian_process(unit[~lost], one, 0).predict(unit[lost], return_cov=True)
        for one in truth[~lost].T
    ]
    found["Gaussian process"] = truth.copy()
    found["Gaussian process"][lost] = np.stack([means for means, _ in posteriors], axis=1)
    whole = ~lost.reshape(-1, inputs + 2).any(axis=1)
    if whole.sum() > 1:
        found["drop"] = truth[np.repeat(whole, inputs + 2)]
    got = indices(result.values, inputs)
    drawn = _drawn(result.values, result.stderr, lost, [two for _, two in posteriors], rng)
    covered = {
        name: np.abs(got - right)
        <= 1.96 * np.sqrt(np.mean([(indices(one, inputs) - got) ** 2 for one in some], axis=0))
        for name, some in drawn.items()
    }
    squares = {way: ((values - truth)[lost] ** 2) for way, values in found.items() if way != "drop"}
    of_fill = [
        {
            **{name: some[..., output].mean() for name, some in covered.items()},
            "square": (squares["fill"] / result.stderr[lost] ** 2)[:, output].mean(),
            "small": (result.stderr[lost] <= SMALL * truth.std(axis=0))[:, output].mean(),
        }
        for output in range(truth.shape[1])
    ]
    return [
        {
            **cell._asdict(), "rows": len(design), "way": way, "output": simulator.outputs[output],
            "error": np.sqrt(((indices(values, inputs) - right)[..., output] ** 2).mean()),
            "sure": np.nan if way in ("fill", "drop")
            else _sure(squares["fill"][:, output] - squares[way][:, output]),
            "warned": warned,
            **(of_fill[output] if way == "fill" else {}),
        }
        for way, values in found.items()
        for output in range(truth.shape[1])
    ]  # fmt: skip


def _drawn(
    values: np.ndarray,
    stderr: np.ndarray,
    lost: np.ndarray,
    posteriors: list[np.ndarray],
    rng: np.random.Generator,
) -> dict[str, Iterable[np.ndarray]]:
    """Draws (m, q) of all rows, for each way to draw; the posterior covariances of lost rows are (e, e) for each output."""
    normal = rng.standard_normal((DRAWS, *values.shape))
    alike = normal.copy()
    for output, covariance in enumerate(posteriors):
        variance = np.diag(covariance)
        spread = np.sqrt(np.maximum(variance, 1e-9 * variance.max()))
        correlation = np.clip(covariance / spread / spread[:, None], -1.0, 1.0)
        sizes, vectors = np.linalg.eigh(correlation)  # rounding may make it singular
        root = vectors * np.sqrt(np.maximum(sizes, 0.0))
        alike[:, lost, output] = normal[:, lost, output] @ root.T
    return {
        "covered": drawn_rows(values, stderr, DRAWS, rng),
        "normal": (values + stderr * one for one in normal),
        "alike": (values + stderr * one for one in alike),
    }


def _sure(differences: np.ndarray) -> float:
    """A mean over its standard error."""
    error = differences.std(ddof=1) / np.sqrt(len(differences))
    return float(differences.mean() / error) if error > 0 else 0.0


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
                Job(rows, stop=stop, hedge=hedge, ahead=0, size=1), WORKERS, in_turn(times)
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
    keys = ["name", "share", "kind", "output"]
    errors = losses.pivot_table(index=keys, columns="way", values="error")
    sure = losses.pivot_table(index=keys, columns="way", values="sure")
    names = ["radial basis", "Gaussian process"]
    random = errors.index.get_level_values("kind") != "region"
    if not random.any():
        random[:] = True
    errors_of, sure_of = errors[random], sure[random]
    best = errors_of[names].idxmin(axis=1)
    regions = losses[(losses.way == "fill") & (losses.kind == "region")]
    least = 1e-4  # of an index: below, all are right

    def ratio(way: str, beside: pd.Series) -> pd.Series:
        return (errors_of[way] + least) / (beside + least)

    def chosen(of: pd.DataFrame) -> pd.Series:
        return of["radial basis"].where(best == "radial basis", of["Gaussian process"])

    lines = [
        "# Sobol indices where runs are lost",
        "",
        (__doc__ or "").split("\n\n", 1)[1].strip(),
        "",
        f"{losses.name.nunique()} simulators, {len(errors)} outputs of cells. *Error* is the root mean square difference "
        "of the indices from those of all rows, over inputs and both kinds of indices.",
        "",
        "| error of `fill`, losses at random and by workers, over that of | wanted | median | largest | as wanted | rows surely worse | rows surely better |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, beside, certain, wanted in (
        ("the median of the column", errors_of["median"], sure_of["median"], 0.5),
        ("the nearest row", errors_of.nearest, sure_of.nearest, 0.5),
        ("the better of radial basis and Gaussian process", chosen(errors_of), chosen(sure_of), 1.05),
    ):  # fmt: skip
        over = ratio("fill", beside)
        lines.append(
            f"| {name} | at most {wanted} | {over.median():.2f} | {over.max():.2f} | {(over <= wanted).mean():.0%} "
            f"| {(certain > SURELY).mean():.0%} | {(certain < -SURELY).mean():.0%} |"
        )
    alone = {
        way: (ratio(way, errors_of[["fill", *set(names) - {way}]].min(axis=1)) <= 1.05).mean()
        for way in names
    }
    far = (ratio("fill", errors_of["median"]) > 0.5) | (ratio("fill", errors_of.nearest) > 0.5)
    missed = ratio("fill", chosen(errors_of)) > 1.05
    small = losses[losses.way == "fill"].set_index(keys).small.reindex(errors_of.index)
    lines += [
        "",
        f"*Surely*: the mean squared error of the lost rows differs by more than {SURELY} standard errors. An error of indices comes "
        "from the few rows with the largest errors, and the better of two is known afterwards only: of the radial basis "
        f"{alone['radial basis']:.0%}, and of the Gaussian process {alone['Gaussian process']:.0%}, of the errors are at most 1.05 times the "
        f"better of the other and `fill`. `fill` is surely worse in {(chosen(sure_of)[missed] > SURELY).sum()} of the {missed.sum()} cells above "
        f"1.05{_listed(missed & (chosen(sure_of) > SURELY))}.{_hard(far, small)}",
        "",
        _coverage(losses),
        f"Where runs of a region are lost, `fill` warned in {regions.groupby(['name', 'share']).warned.first().mean():.0%} of the cells.",
        "",
        "| losses | share lost | fill | drop | median | nearest | radial basis | Gaussian process | covered | stderr at most 5 % |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    ways = ["fill", "drop", "median", "nearest", "radial basis", "Gaussian process"]
    for (kind, share), some in losses.groupby(["kind", "share"]):
        middle = some.groupby("way").error.median()
        cells = [f"{middle[way]:.2g}" if way in middle else "none left" for way in ways]
        own = some[some.way == "fill"][["covered", "small"]].mean()
        lines.append(
            f"| {kind} | {share:.0%} | "
            + " | ".join(cells)
            + f" | {own.covered:.0%} | {own.small:.0%} |"
        )
    lines += [
        "",
        "Errors are medians over outputs and simulators. The last column is the share of the lost rows whose standard error "
        "is at most 5 % of the deviation of the output. At 10 % lost at random, by output:",
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
            "they would take if every row took the median. *As wanted*: exact, or estimated with a standard error of at most 5 % of the "
            "deviation, as in the table above at the next larger share lost by workers.",
            "",
            "| | p50 | p90 | p99 | calls a row | rows left | as wanted |",
            "|---|---|---|---|---|---|---|",
        ]
        small = losses[(losses.way == "fill") & (losses.kind == "workers")]
        for way in RULES:
            some = times[times.way == way]
            p50, p90, p99 = some.times.quantile([0.5, 0.9, 0.99])
            left = some.left.mean()
            share = min((one for one in SHARES if one >= left - 1e-3), default=SHARES[-1])
            wanted = 1.0 - left * (1.0 - small[small.share == share].small.mean()) if left else 1.0
            lines.append(
                f"| {way} | {p50:.2f} | {p90:.2f} | {p99:.2f} | {some.calls.mean():.2f} | {left:.1%} | {wanted:.1%} |"
            )
    return "\n".join(lines) + "\n"


def _coverage(losses: pd.DataFrame) -> str:
    """How often intervals hold, as a table and what it means."""
    fill = losses[losses.way == "fill"]
    where = list(
        fill[["kind", "share"]]
        .drop_duplicates()
        .sort_values(["kind", "share"])
        .itertuples(index=False)
    )
    own = fill[fill.kind != "region"]
    unused = own[own.name.isin(held_out.SIMULATORS)]
    lines = [
        f"Intervals of 1.96 times the root mean square of what {DRAWS} draws of the estimated rows are off from an index "
        "cover so many of the indices (wanted: 90 to 98 %), with errors drawn from",
        "",
        "| | " + " | ".join(f"{kind} {share:.0%}" for kind, share in where) + " | random and workers | held-out simulators |",
        "|---|" + "---|" * (len(where) + 2),
    ]  # fmt: skip
    for column, name in DRAWN.items():
        cells = [
            fill[(fill.kind == kind) & (fill.share == share)][column].mean()
            for kind, share in where
        ]
        cells += [own[column].mean(), unused[column].mean()]
        lines.append(
            f"| {name} | "
            + " | ".join("" if np.isnan(one) else f"{one:.1%}" for one in cells)
            + " |"
        )
    low, middle, high = fill[fill.kind != "region"]["square"].quantile([0.05, 0.5, 0.95])
    if not np.isnan(middle):
        lines += [
            "",
            f"The mean square of errors of rows over their standard errors is {middle:.2f} at the median over outputs of cells, and {low:.2f} to "
            f"{high:.1f} in nine of ten: how far the estimates of an output are off in all is not known better. The squares of Student's "
            "scales are 0.45 to 4.4 in nine of ten.",
        ]
    return "\n".join(lines) + "\n"


def _hard(far: pd.Series, small: pd.Series) -> str:
    """Of cells in which `fill` is not far better than nothing, which they are, in words."""
    if not far.any() or far.all():
        return ""
    return (
        f" It is above half of the median or nearest where little can be said of a lost row: {small[far].mean():.0%} of the rows have a "
        f"standard error of at most 5 % of the deviation there, and {small[~far].mean():.0%} elsewhere{_listed(far)}."
    )


def _listed(cells: pd.Series) -> str:
    """Outputs of simulators, and in how many cells, in words."""
    counts = cells[cells].groupby(level=["name", "output"]).size().sort_values(ascending=False)
    words = ", ".join(f"{name} {output} ({n})" for (name, output), n in counts.items())
    return f": {words}" if words else ""


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
