"""Quality of the choice of `codedmap.plan`, and calibration of the standard errors of `KernelCode`.

One cell is a function and a budget (N, K, S). The code is planned on a sample of 10 K rows. Then this code
and its rivals are measured on held-out rows, in blocks of groups, with the same random straggler sets for all
codes. The rows of a block are cut into groups as `codedmap.map` cuts them, so that codes which ask for it get
similar rows in one group. Blocks share no rows if there are enough rows; intervals are jackknife intervals over
blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

import codedmap as cm

from . import functions
from .harness import Cell, Experiment, Row
from .papers import BACC, LeTCC
from .planned_plot import plot
from .planned_report import report
from .replay import answers_of, cut_for, straggler_sets
from .stats import jackknife_interval

__all__ = ["EXPERIMENT", "Settings", "compute"]

RIVALS = ("LeTCC", "BACC", "copies")
BUDGETS = ((25, 20, 3), (60, 20, 20), (100, 20, 60))
"""Budgets of the paper's table, for every function."""
OTHERS = ((24, 8, 6), (40, 10, 10), (12, 6, 2), (30, 20, 5), (16, 16, 3))
"""Two of these per function, in turn."""
BINS = 10.0 ** np.arange(-5.0, 1.01, 0.25)
"""Edges of the bins of standard errors, in standard deviations of the outputs."""
ENOUGH = 500
"""Number of estimated rows from which standard errors are evaluated."""


@dataclass(frozen=True)
class Settings:
    """Cases and sample sizes."""

    cases: tuple[tuple[str, int, int, int], ...]
    """Function, N, K, S."""
    blocks: int
    """Maximum number of blocks of rows."""
    groups: int
    """Groups per block."""
    sets: int
    """Minimum number of straggler sets per cell."""
    quick: bool


def _configure(quick: bool) -> Settings:
    if quick:
        names = ("lenet-8x8", "tanh-network", "forest", "cubic")
        return Settings(tuple((name, 12, 10, 2) for name in names), 4, 10, 80, quick)
    cases = []
    for turn, (name, function) in enumerate(functions.FUNCTIONS.items()):
        more = [OTHERS[(2 * turn + i) % len(OTHERS)] for i in (0, 1)]
        budgets = BUDGETS[:2] if function.slow else (*BUDGETS, *more)
        cases += [(name, *budget) for budget in budgets]
    return Settings(tuple(cases), 10, 10, 200, quick)


def _cells(settings: Settings) -> list[Cell]:
    return [dict(zip(("function", "N", "K", "S"), case, strict=True)) for case in settings.cases]


@dataclass(frozen=True)
class _Measured:
    """Errors and standard errors of all waves of a code; the first axis is that of the blocks."""

    squares: np.ndarray
    """(blocks, waves, K, groups): squared errors, mean over the outputs."""
    stderr: np.ndarray
    """The same shape; NaN where exact, or where the code has no standard errors."""

    def rmse(self, blocks: np.ndarray) -> float:
        return float(np.sqrt(self.squares[blocks].mean()))

    def estimated(self, blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Errors and standard errors of the estimated rows."""
        stated = self.stderr[blocks]
        have = np.isfinite(stated)
        return np.sqrt(self.squares[blocks][have]), stated[have]


def compute(settings: Settings, cell: Cell, rng: np.random.Generator) -> Iterator[Row]:
    """One row per code, and one per bin of standard errors."""
    call, inputs, truth = functions.load(cell["function"], settings.quick)
    budget = N, K, S = cell["N"], cell["K"], cell["S"]
    order = rng.permutation(len(inputs))
    some = min(10 * K, len(order) // 2)
    sample, rest = order[:some], order[some:]
    size = settings.groups * K
    count = max(2, min(settings.blocks, len(rest) // size))
    # If there are too few rows, they are used again, in other groups.
    rows = [np.resize(rng.permutation(rest), size) for _ in range(count)]
    if len(rest) >= count * size:
        rows = list(rest[: count * size].reshape(count, size))
    waves = -(-settings.sets // count)
    sets = [straggler_sets(N, S, waves, rng) for _ in range(count)]
    plan = cm.plan(
        call, inputs[sample], workers=N, tasks=K, stragglers=S, seed=int(rng.integers(2**31))
    )
    codes: dict[str, cm.contracts.Code] = {
        "planned": plan.code,
        "KernelCode": cm.KernelCode(K, N, S),
        "LeTCC": LeTCC(K, N, S),
        "BACC": BACC(K, N, S),
        "copies": cm.Replication(K, N, fill="mean"),
    }
    measured = {
        name: _measured(call, code, inputs, truth, rows, sets) for name, code in codes.items()
    }
    kind = functions.FUNCTIONS[cell["function"]]
    deviation = float(np.sqrt(truth.reshape(len(truth), -1).var(axis=0).mean()))
    shared = {
        "title": kind.title, "kind": kind.kind, "outputs": int(np.prod(truth.shape[1:])),
        "budget": str(budget), "blocks": count, "waves": waves * count, "groups": settings.groups,
    }  # fmt: skip

    def ratio(name: str, rivals: tuple[str, ...]) -> Callable[[np.ndarray], float]:
        def of(blocks: np.ndarray) -> float:
            # Copies are exact if no task loses all its copies; then the ratio is undefined.
            best = min(measured[rival].rmse(blocks) for rival in rivals)
            return measured[name].rmse(blocks) / best if best else np.nan

        return of

    for name, one in measured.items():
        row: Row = {"what": "code", "code": name, **shared}
        row["relative"] = one.rmse(np.arange(count)) / deviation
        if name in ("planned", "KernelCode"):
            row["chosen"] = plan.rows[0].scheme if name == "planned" else "spread 0.2"
            row |= _interval("ratio", count, ratio(name, RIVALS))
            row |= _interval("letcc", count, ratio(name, ("LeTCC",)))
            row |= _calibrated(one, count, rng)
        yield row
    for name in ("planned", "KernelCode"):
        for at, errors, stated in _binned(measured[name], deviation):
            yield {
                "what": "bin", "code": name, **shared, "bin": at, "estimated": len(errors),
                "error": float(np.sqrt((errors**2).mean())),
                "stated": float(np.sqrt((stated**2).mean())),
            }  # fmt: skip


def _measured(
    call: functions.Call,
    code: cm.contracts.Code,
    inputs: np.ndarray,
    truth: np.ndarray,
    rows: list[np.ndarray],
    sets: list[list[np.ndarray]],
) -> _Measured:
    squares, stderr = [], []
    for chosen, waves in zip(rows, sets, strict=True):
        place = chosen[cut_for(code, inputs[chosen])]
        encoding = code.encode(inputs[place])
        right = truth[place]
        if isinstance(code, (cm.Replication, cm.Uncoded)):
            answers = right[np.arange(code.workers) % code.tasks]
        else:
            answers = answers_of(call, encoding.payloads)
        for slots in waves:
            # A plan may choose fewer workers than available.
            used = [int(slot) for slot in slots if slot < code.workers]
            estimate = encoding.decode({slot: answers[slot] for slot in used})
            off = (estimate.values - right).reshape(*place.shape, -1)
            squares.append((off**2).mean(axis=2))
            stated = np.full(place.shape, np.nan)
            if estimate.stderr is not None:
                unsure = ~estimate.exact & np.isfinite(estimate.stderr)
                stated[unsure] = estimate.stderr[unsure]
            stderr.append(stated)
    shape = (len(rows), len(sets[0]), *squares[0].shape)
    return _Measured(np.reshape(squares, shape), np.reshape(stderr, shape))


def _interval(name: str, count: int, statistic: Callable[[np.ndarray], float]) -> Row:
    found = jackknife_interval(count, statistic)
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}


def _calibrated(one: _Measured, count: int, rng: np.random.Generator) -> Row:
    errors, stated = one.estimated(np.arange(count))
    row: Row = {"estimated": len(errors)}
    if len(errors) < ENOUGH:
        return row

    def calibration(blocks: np.ndarray) -> float:
        off, stated = one.estimated(blocks)
        return float(np.sqrt(np.mean((off / stated) ** 2)))

    def rank(blocks: np.ndarray) -> float:
        off, stated = one.estimated(blocks)
        return _rank(stated, off)

    row |= _interval("calibration", count, calibration)
    row |= _interval("rank", count, rank)
    row["within"] = float(np.mean(errors <= 2.0 * stated))
    low, high = np.quantile(errors, (0.1, 0.9))
    row["spread"] = float(min(high / low, 1e6)) if low else 1e6
    # The rank correlation if each standard error were correct for its own row.
    row["rank_at_best"] = _rank(stated, stated * rng.permutation(errors / stated))
    return row


def _rank(one: np.ndarray, other: np.ndarray) -> float:
    if not np.ptp(one) or not np.ptp(other):
        return 0.0
    return float(spearmanr(one, other).statistic)


def _binned(one: _Measured, deviation: float) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """Centre of each bin, and its errors and standard errors in standard deviations of the outputs."""
    errors, stated = (part / deviation for part in one.estimated(np.arange(len(one.squares))))
    place = np.digitize(stated, BINS)
    for at in np.unique(place):
        middle = float(np.sqrt(BINS[max(at - 1, 0)] * BINS[min(at, len(BINS) - 1)]))
        yield middle, errors[place == at], stated[place == at]


def _reads(settings: Settings, cell: Cell) -> tuple[str | Path, ...]:
    return functions.reads(cell["function"], settings.quick)


EXPERIMENT = Experiment("planned", _configure, _cells, compute, plot, report, _reads)
