"""``python -m experiments honest``: how many workers are rejected by `KernelCode` where all answers are correct?

Jobs of simulators and networks, from a single group of tasks to forty; and of functions of a hundred inputs, which nothing
predicts well, with up to three hundred groups. All workers answer, and each of them counts once a job: rejected if any of
its answers is. The inputs of a job are drawn anew from the first rows of a design.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

import codedmap as cm

from . import functions, held_out
from .cells import run_cells
from .harness import Row
from .replay import answers_of, cut_for
from .simulators import SIMULATORS, design

__all__ = ["Cell", "NETWORKS", "SIZES", "main", "measured", "report"]

NETWORKS = ("tanh-network", "lenet-mnist", "svm-digits", "pendulum", "quadratic")
SIZES = ((24, 20, 1), (60, 20, 1), (30, 10, 1), (24, 20, 3), (30, 10, 5), (12, 8, 10), (24, 20, 40))
"""Workers, tasks, and groups."""
ROWS = 1_000
"""Of a design, from which the inputs of jobs are drawn."""
WIDE: dict[str, functions.Call] = {
    "two of a hundred": lambda rows: rows[:, :2],
    "sum of sizes": lambda rows: np.abs(rows).sum(axis=1, keepdims=True),
    "extremes": lambda rows: np.stack([rows.max(axis=1), rows.min(axis=1)], axis=1),
    "exponential": lambda rows: np.exp(rows[:, :50].sum(axis=1, keepdims=True) / 5.0),
}
"""Functions of a hundred inputs with heavy tails."""
WIDE_SIZES = ((12, 10, 300), (24, 20, 150), (40, 20, 150))


class Cell(NamedTuple):
    """Jobs of one function and one size."""

    function: str
    workers: int
    tasks: int
    groups: int
    jobs: int
    spread: float = 0.2


def measured(cell: Cell, seed: int) -> list[Row]:
    """How many workers are rejected, as one row."""
    rng = np.random.default_rng([seed, *cell[1:5], *cell.function.encode()])
    call, inputs = _problem(cell.function)
    code = cm.KernelCode(cell.tasks, cell.workers, 0, spread=cell.spread)
    rejected = 0
    for _ in range(cell.jobs):
        rows = inputs[rng.choice(len(inputs), cell.tasks * cell.groups, replace=False)]
        encoding = code.encode(rows[cut_for(code, rows)])
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of simulators
            answers = np.asarray(answers_of(call, encoding.payloads), np.float64)
            rejected += len(encoding.judge(dict(enumerate(answers))).rejected)
    counts = {"worker_jobs": cell.jobs * cell.workers, "rejected": rejected}
    return [{**cell._asdict(), **counts}]


def _problem(name: str) -> tuple[functions.Call, np.ndarray]:
    """A function, and inputs on a common scale."""
    if name in WIDE:
        return WIDE[name], np.random.default_rng(0).standard_t(3, (6 * ROWS, 100))
    if name in NETWORKS:
        call, inputs, _ = functions.load(name, False)
        return call, inputs
    simulator = {**SIMULATORS, **held_out.SIMULATORS}[name]
    inputs = design(simulator, ROWS)
    mean, deviation = inputs.mean(axis=0), inputs.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1.0)

    def call(rows: np.ndarray) -> np.ndarray:
        return np.asarray(simulator.call(rows * deviation + mean))

    return call, (inputs - mean) / deviation


def report(table: pd.DataFrame) -> str:
    """The table in Markdown, every figure of which is made from rows of `measured`."""
    total, wrong = table.worker_jobs.sum(), table.rejected.sum()
    lines = [
        "# Correct workers that are rejected",
        "",
        f"{table.function.nunique()} functions, {table.jobs.sum():,} jobs of `KernelCode`, {total:,} workers of jobs, all of "
        f"whose answers are correct. {wrong} are rejected.",
        "",
        "| workers | tasks | groups | jobs | workers of jobs | rejected |",
        "|---|---|---|---|---|---|",
    ]
    for (groups, workers, tasks), some in table.groupby(["groups", "workers", "tasks"]):
        counts = some[["jobs", "worker_jobs", "rejected"]].sum()
        lines.append(
            f"| {workers} | {tasks} | {groups} | " + " | ".join(f"{n:,}" for n in counts) + " |"
        )
    if wrong:
        lines += ["", "Where any is rejected:", ""]
        lines += ["| function | workers | tasks | groups | rejected |", "|---|---|---|---|---|"]
    for row in table[table.rejected > 0].itertuples():
        lines.append(
            f"| {row.function} | {row.workers} | {row.tasks} | {row.groups} | {row.rejected} of {row.worker_jobs} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    """Run the experiment; the exit code."""
    return run_cells(
        "honest", "How many correct workers are rejected.", arguments, _cells, measured, report
    )


def _cells(quick: bool) -> list[Cell]:
    if quick:
        return [Cell(name, 24, 20, groups, 2) for name in ("ishigami", "sir") for groups in (1, 3)]
    simulators = {**SIMULATORS, **held_out.SIMULATORS}
    names = [name for name, one in simulators.items() if one.given is None and not one.lacking()]
    return [
        # As many workers a size, but at least six jobs.
        Cell(name, workers, tasks, groups, max(6, 240 // workers // groups))
        for name in (*NETWORKS, *names)
        for workers, tasks, groups in SIZES
    ] + [
        Cell(name, *size, 3, spread)
        for name in WIDE
        for size in WIDE_SIZES
        for spread in (0.2, 1.0)
    ]
