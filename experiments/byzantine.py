"""Byzantine workers of eight kinds against every code that looks for outliers.

All workers answer; the Byzantine ones answer wrongly in every group. Each wave draws its rows and its
Byzantine workers anew. All codes and all kinds of faults get the same rows and the same workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import codedmap as cm

from . import functions
from .byzantine_report import plot, report
from .harness import Cell, Experiment, Row
from .replay import answers_of, cut_for
from .stats import mean_interval

__all__ = ["EXPERIMENT", "FAULTS", "Settings"]

SAME = 1e-6
"""In standard deviations of the outputs: an exact row with a larger error is wrongly marked."""


@dataclass(frozen=True)
class Settings:
    """Functions, budgets and sample sizes."""

    functions: tuple[str, ...]
    cases: tuple[tuple[int, int, int], ...]
    """N, K, and the number of Byzantine workers."""
    waves: int
    groups: int
    quick: bool


def _configure(quick: bool) -> Settings:
    if quick:
        return Settings(("tanh-network", "lenet-mnist"), ((24, 8, 3), (15, 12, 1)), 1, 3, quick)
    names = (
        "tanh-network",
        "tanh-5",
        "pendulum",
        "quadratic",
        "lenet-mnist",
        "svm-digits",
        "forest",
    )
    return Settings(names, ((60, 20, 6), (25, 20, 1)), 20, 10, quick)


def _cells(settings: Settings) -> list[Cell]:
    return [
        {"function": name, "N": N, "K": K, "byzantine": byzantine}
        for N, K, byzantine in settings.cases
        for name in settings.functions
    ]


def _stream(cell: Cell) -> list[Any]:
    # The committed table was drawn under these names; other names would seed other random numbers.
    return ["liars", {"liars" if key == "byzantine" else key: cell[key] for key in cell}]


class Wave(NamedTuple):
    """The correct answers of one wave, and its Byzantine workers."""

    answers: np.ndarray
    """(N, B, *y)."""
    byzantine: np.ndarray
    """Slots of the Byzantine workers."""
    mean: np.ndarray
    """(*y,): of the outputs."""
    deviation: np.ndarray
    """(*y,): standard deviation of the outputs."""


def _noise(wave: Wave, rng: np.random.Generator) -> np.ndarray:
    shape = wave.answers[wave.byzantine].shape
    return wave.mean + 5.0 * wave.deviation * rng.standard_normal(shape)


def _flipped(wave: Wave, rng: np.random.Generator) -> np.ndarray:
    return -wave.answers[wave.byzantine]


def _nan(wave: Wave, rng: np.random.Generator) -> np.ndarray:
    return np.full_like(wave.answers[wave.byzantine], np.nan)


def _colluding(wave: Wave, rng: np.random.Generator) -> np.ndarray:
    agreed = wave.mean + 2.0 * wave.deviation * rng.standard_normal(wave.mean.shape)
    return np.broadcast_to(agreed, wave.answers[wave.byzantine].shape)


def _swapped(wave: Wave, rng: np.random.Generator) -> np.ndarray:
    """Each sends the answers of another worker."""
    return wave.answers[(wave.byzantine + rng.integers(1, len(wave.answers))) % len(wave.answers)]


def _stale(wave: Wave, rng: np.random.Generator) -> np.ndarray:
    """Each is one group behind."""
    return np.roll(wave.answers[wave.byzantine], 1, axis=1)


def _stuck(wave: Wave, rng: np.random.Generator) -> np.ndarray:
    """Each sends its first answer for all groups."""
    own = wave.answers[wave.byzantine]
    return np.broadcast_to(own[:, :1], own.shape)


def _biased(wave: Wave, rng: np.random.Generator) -> np.ndarray:
    return wave.answers[wave.byzantine] + 0.1 * wave.deviation


FAULTS: dict[str, Callable[[Wave, np.random.Generator], np.ndarray]] = {
    "gross noise": _noise,
    "sign flipped": _flipped,
    "not a number": _nan,
    "collusion": _colluding,
    "swapped": _swapped,
    "stale": _stale,
    "stuck": _stuck,
    "small bias": _biased,
}
"""By name: the answers of the Byzantine workers, (workers, B, *y)."""
SPREADS = (0.0, 0.1, 0.2, 0.5, 1.0)
"""Of kernel codes, among which a plan chooses."""
SINGLE = ("gross noise",)
"""Faults of the case with one Byzantine worker."""


def _codes(cell: Cell, planned: cm.contracts.Code | None) -> dict[str, cm.contracts.Code]:
    N, K, byzantine = cell["N"], cell["K"], cell["byzantine"]
    codes: dict[str, cm.contracts.Code] = {
        "KernelCode": cm.KernelCode(K, N, 0),
        "planned": planned or cm.KernelCode(K, N, byzantine, 0.0),
        "SplineCode": cm.SplineCode(K, N, 0),
        "BerrutCode": cm.BerrutCode(K, N, 0),
        "copies": cm.Replication(K, N, fill="mean"),
    }
    if cell["function"] == "quadratic" and 2 * byzantine <= N - 2 * (K - 1) - 1:
        codes["LagrangeCode"] = cm.LagrangeCode(K, N, 0, degree=2)
    return codes


def _compute(settings: Settings, cell: Cell, rng: np.random.Generator) -> Iterator[Row]:
    call, inputs, truth = functions.load(cell["function"], settings.quick)
    N, K, byzantine = cell["N"], cell["K"], cell["byzantine"]
    order = rng.permutation(len(inputs))
    some = min(10 * K, len(order) // 2)
    # A rejected answer is as lost as that of a straggler.
    plan = cm.plan(
        call, inputs[order[:some]], workers=N, stragglers=byzantine, seed=int(rng.integers(2**31)), budget=1.0 if settings.quick else 60.0,
        codes={f"spread {spread:g}": cm.KernelCode(K, N, byzantine, spread) for spread in SPREADS},
        engine=cm.testing.Scripted(N),
    )  # fmt: skip
    planned = min((row for row in plan.rows if row.code is not None), key=lambda row: row.error)
    codes = _codes(cell, planned.code)
    mean, deviation = truth.mean(axis=0), truth.std(axis=0)
    unit = float(np.sqrt((deviation**2).mean()))
    kinds = FAULTS if byzantine > 1 else {name: FAULTS[name] for name in SINGLE}
    scores: dict[tuple[str, str], list[Score]] = {}
    for _ in range(settings.waves):
        chosen = rng.choice(order[some:], K * settings.groups, replace=False)
        slots = np.sort(rng.choice(N, byzantine, replace=False))
        seed = int(rng.integers(2**32))
        for name, code in codes.items():
            place = chosen[cut_for(code, inputs[chosen])]
            dtype = np.float64 if name == "LagrangeCode" else inputs.dtype
            encoding = code.encode(inputs[place].astype(dtype))
            if isinstance(code, cm.Replication):
                answers = truth[place][np.arange(N) % K]
            else:
                answers = np.asarray(answers_of(call, encoding.payloads), np.float64)
            wave = Wave(answers, slots, mean, deviation)
            for kind, fault in {"none": None, **kinds}.items():
                sent = answers.copy()
                if fault is not None:
                    sent[slots] = fault(wave, np.random.default_rng(seed))
                estimate = encoding.decode(dict(enumerate(sent)))
                scores.setdefault((name, kind), []).append(
                    _scored(estimate, truth[place], () if fault is None else tuple(slots), unit)
                )
    title = functions.FUNCTIONS[cell["function"]].title
    for (name, kind), waves in scores.items():
        yield {
            "title": title, "code": name, "fault": kind, "waves": len(waves),
            "groups": settings.groups,
            "chosen": planned.scheme if name == "planned" else "",
            **_summary(waves, faulty=kind != "none"),
        }  # fmt: skip


class Score(NamedTuple):
    """How one wave was decoded."""

    rejected: float
    """Share of the Byzantine workers that were rejected."""
    honest_rejected: float
    """Number of honest workers that were rejected."""
    square: float
    """Mean squared error of the finite rows."""
    wrongly_exact: float
    """Share of rows marked exact whose value is wrong."""
    not_finite: float
    """Share of rows that are not finite."""


def _summary(waves: list[Score], *, faulty: bool) -> Row:
    rejected, honest, square, wrong, broken = np.array(waves).T
    row: Row = {}
    if faulty:
        share = mean_interval(rejected)
        row |= {"rejected": share.value, "rejected_low": share.low, "rejected_high": share.high}
    count, error = mean_interval(honest), mean_interval(square)
    return row | {
        "honest_rejected": count.value, "honest_rejected_low": count.low,
        "honest_rejected_high": count.high, "relative": np.sqrt(square.mean()),
        "relative_low": np.sqrt(max(0.0, error.low)), "relative_high": np.sqrt(error.high),
        "wrongly_exact": wrong.mean(), "not_finite": broken.mean(),
    }  # fmt: skip


def _scored(
    estimate: cm.contracts.Estimate, truth: np.ndarray, byzantine: tuple[int, ...], unit: float
) -> Score:
    rejected = set(estimate.rejected)
    share = len(rejected & set(byzantine)) / max(1, len(byzantine))
    off = (np.asarray(estimate.values, np.float64) - truth) / unit
    square = (off.reshape(*truth.shape[:2], -1) ** 2).mean(axis=2)
    finite = np.isfinite(square)
    wrong = float((estimate.exact & ~(square <= SAME**2)).mean())
    honest = len(rejected - set(byzantine))
    return Score(share, honest, square[finite].mean(), wrong, (~finite).mean())


def _reads(settings: Settings, cell: Cell) -> tuple[str | Path, ...]:
    return functions.reads(cell["function"], settings.quick)


EXPERIMENT = Experiment("byzantine", _configure, _cells, _compute, plot, report, _reads, _stream)
