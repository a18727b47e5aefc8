"""Training while the same three workers never answer; no call takes any time."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import codedmap as cm

from .models import Logistic
from .parts import Digits, digits
from .run import evaluate
from .schemes import SCHEMES, Scheme, Setting
from .table import mean_sd
from .workers import WORKERS

__all__ = ["STEPS", "Result", "compare", "markdown", "read", "setting", "write"]

LATE = (0, 1, 2)
STEPS = 60
KINDS = ("equal parts", "parts by class")
COMPARED = (
    "repetition, S = 2",
    "ignore stragglers",
    "LeTCC",
    "BACC",
    "KernelCode",
)


@dataclass(frozen=True, slots=True)
class Result:
    """One run."""

    parts: str
    scheme: str
    seed: int
    loss: float
    accuracy: float
    worst: float
    """Smallest accuracy of a class."""


def compare(seeds: int, steps: int) -> Iterator[Result]:
    """All schemes that work without three workers, on equal parts and on parts by class."""
    for kind in KINDS:
        data = digits(WORKERS, by_class=kind == "parts by class")
        for scheme in SCHEMES:
            if scheme.name in COMPARED:
                for seed in range(seeds):
                    yield _run(kind, data, scheme, seed, steps)


def _run(kind: str, data: Digits, scheme: Scheme, seed: int, steps: int) -> Result:
    model = Logistic()
    optimizer = cm.training.AMSGrad(model.start(seed), model.rate)
    with cm.testing.Scripted(WORKERS, dict.fromkeys(LATE, cm.testing.never())) as engine:
        gradient = scheme.gradient(Setting(model, data.parts, seed, 0.0), engine)
        for step in range(steps):
            optimizer.update(gradient(optimizer.weights, step))
    right = model.scores(optimizer.weights, data.held_out).argmax(axis=1) == data.held_out_labels
    worst = min(right[data.held_out_labels == kind].mean() for kind in np.unique(data.labels))
    return Result(kind, scheme.name, seed, *evaluate(model, optimizer.weights, data), float(worst))


def write(path: Path, results: Sequence[Result]) -> None:
    """Write the results as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(Result.__dataclass_fields__)
        for one in results:
            figures = (f"{value:.5g}" for value in (one.loss, one.accuracy, one.worst))
            table.writerow([one.parts, one.scheme, one.seed, *figures])


def read(path: Path) -> list[Result]:
    """Read the file written by `write`."""
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Result(
                row["parts"], row["scheme"], int(row["seed"]),
                float(row["loss"]), float(row["accuracy"]), float(row["worst"]),
            )
            for row in csv.DictReader(file)
        ]  # fmt: skip


def setting(results: Sequence[Result]) -> str:
    """Description of the table."""
    seeds = len({one.seed for one in results})
    late = ", ".join(map(str, LATE))
    return (
        f"Logistic regression, {STEPS} steps, {seeds} seeds. Workers {late} of {WORKERS} never answer; other calls take "
        "no time. *Equal parts* have the same number of digits of each class. *Parts by class* have digits of one or "
        "two classes, as if each worker had its own users."
    )


def markdown(results: Sequence[Result]) -> str:
    """One line per scheme and kind of parts."""
    lines = [
        "| parts | scheme | training loss | held-out accuracy | smallest accuracy of a class |",
        "|---|---|---|---|---|",
    ]
    for kind, name in dict.fromkeys((one.parts, one.scheme) for one in results):
        own = [one for one in results if (one.parts, one.scheme) == (kind, name)]
        cells = [
            kind,
            name,
            mean_sd([one.loss for one in own], 3),
            mean_sd([100 * one.accuracy for one in own], 1) + " %",
            mean_sd([100 * one.worst for one in own], 1) + " %",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
