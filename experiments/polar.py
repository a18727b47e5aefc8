"""Polar against MDS codes: answers needed, decoding time, and estimates before decoding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

import codedmap as cm

from .harness import Cell, Experiment, Reads, Row
from .polar_report import plot, report
from .stats import mean_interval

__all__ = ["EXPERIMENT", "Settings"]

DECODING = Path(__file__).parents[1] / "benchmarks" / "results" / "polar.csv"
"""Times measured by ``python -m benchmarks polar``."""
RATES = (0.875, 0.75, 0.625, 0.5)
KINDS = ("alike", "uneven")


@dataclass(frozen=True)
class Settings:
    """Sizes of the experiment.

    Parameters
    ----------
    workers : dict of int to int
        N, and the number of random orders of its answers.
    budgets : tuple of (int, int)
        N and K for the estimates.
    repetitions : int
        Random matrices and orders per error.
    counts : int
        How many different numbers of answers are measured.
    """

    workers: dict[int, int]
    budgets: tuple[tuple[int, int], ...]
    repetitions: int
    counts: int


def _configure(quick: bool) -> Settings:
    if quick:
        return Settings({64: 40, 256: 20}, ((64, 32),), 20, 8)
    orders = {64: 1000, 256: 1000, 1024: 400, 4096: 100}
    return Settings(orders, ((64, 32), (64, 48), (256, 192)), 300, 16)


def _cells(settings: Settings) -> list[Cell]:
    found: list[Cell] = [
        {"part": "needed", "N": workers, "K": round(rate * workers)}
        for workers in settings.workers
        for rate in RATES
    ]
    found.append({"part": "decoding"})
    found += [
        {"part": "anytime", "N": workers, "K": tasks, "kind": kind}
        for workers, tasks in settings.budgets
        for kind in KINDS
    ]
    return found


def _reads(settings: Settings, cell: Cell) -> Reads:
    return (DECODING,) if cell["part"] == "decoding" else ()


def _compute(settings: Settings, cell: Cell, rng: np.random.Generator) -> Iterator[Row]:
    if cell["part"] == "decoding":
        yield from _benchmarked()
    elif cell["part"] == "needed":
        yield from _needed(cell["N"], cell["K"], settings.workers[cell["N"]], rng)
    else:
        yield from _anytime(settings, cell, rng)


def _benchmarked() -> Iterator[Row]:
    for row in pd.read_csv(DECODING).itertuples():
        yield {"N": row.N, "K": row.K, "columns": row.columns, "scheme": row.call, "ms": row.ms,
               "date": row.date, "cpu": row.cpu}  # fmt: skip


def _needed(N: int, K: int, orders: int, rng: np.random.Generator) -> Iterator[Row]:
    codes: dict[str, cm.codes.PolarCode | cm.codes.MDSCode] = {"polar": cm.codes.PolarCode(K, N)}
    if N <= 256:  # decodable() of an MDS code decomposes its system
        codes["MDS"] = cm.codes.MDSCode(K, N)
    drawn = [rng.permutation(N).tolist() for _ in range(orders)]
    for name, code in codes.items():
        counts = np.array([_answers_needed(code.decodable, order, K) for order in drawn])
        over = mean_interval(counts / K - 1.0)
        yield {
            "scheme": name, "orders": orders, "over": over.value, "over_low": over.low,
            "over_high": over.high, "over_p95": float(np.quantile(counts, 0.95)) / K - 1.0,
        }  # fmt: skip


def _answers_needed(
    decodable: Callable[[frozenset[int]], bool], order: list[int], least: int
) -> int:
    """Number of answers in this order that suffice, by bisection: decodable is monotone."""
    low, high = least, len(order)
    while low < high:
        middle = (low + high) // 2
        if decodable(frozenset(order[:middle])):
            high = middle
        else:
            low = middle + 1
    return low


def _anytime(settings: Settings, cell: Cell, rng: np.random.Generator) -> Iterator[Row]:
    N, K = cell["N"], cell["K"]
    polar, mds, rows = cm.codes.PolarCode(K, N), cm.codes.MDSCode(K, N), 4
    weights = np.stack([polar.weights(n) for n in range(N)])
    counts = np.unique(np.linspace(2, N, settings.counts + 1).round().astype(int))
    error = {(name, m): [] for name in ("polar", "MDS", "copies") for m in counts}  # type: ignore[var-annotated]
    covered = {m: [] for m in counts}  # type: ignore[var-annotated]
    through = {(name, m): 0 for name in ("polar", "MDS", "copies") for m in counts}
    for _ in range(settings.repetitions):
        truth = rng.standard_normal((K, rows))
        if cell["kind"] == "uneven":
            truth[rng.permutation(K)[: K // 8]] *= 10.0
        answers, order = weights @ truth, rng.permutation(N)
        size = np.sqrt(np.mean(truth**2))
        for m in counts:
            first = order[:m].tolist()
            came = frozenset(first)
            known = {n: answers[n] for n in first}
            if polar.decodable(came):
                values = polar.decode(known).values
                through["polar", m] += 1
            else:
                estimate = polar.estimate(known)
                assert estimate is not None
                values, stderr = estimate
                covered[m].append(float(np.mean(np.abs(values - truth) <= 1.96 * stderr)))
            error["polar", m].append(_off(values, truth, size))
            whole = mds.decodable(came)
            through["MDS", m] += whole
            kept = np.array([whole or k in came for k in range(K)])
            error["MDS", m].append(_off(np.where(kept[:, None], truth, 0.0), truth, size))
            copied = np.isin(np.arange(K), np.array(first) % K)
            through["copies", m] += bool(copied.all())
            error["copies", m].append(_off(np.where(copied[:, None], truth, 0.0), truth, size))
    for (name, m), errors in error.items():
        mean = mean_interval(np.array(errors))
        row: Row = {
            "scheme": name, "answers": int(m), "error": mean.value, "error_low": mean.low,
            "error_high": mean.high, "decodable": through[name, m] / settings.repetitions,
            "repetitions": settings.repetitions,
        }  # fmt: skip
        if name == "polar" and len(covered[m]) > 1:
            share = mean_interval(np.array(covered[m]))
            row |= {"covered": share.value, "covered_low": share.low, "covered_high": share.high,
                    "estimated": len(covered[m])}  # fmt: skip
        yield row


def _off(values: np.ndarray, truth: np.ndarray, size: float) -> float:
    return float(np.sqrt(np.mean((values - truth) ** 2)) / size)


EXPERIMENT = Experiment("polar", _configure, _cells, _compute, plot, report, _reads)
