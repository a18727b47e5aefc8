"""Savings and costs of sketches: SketchedAMSGrad against AMSGrad; no call takes any time."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import codedmap as cm
from codedmap.training import AMSGrad, CountSketch, SketchedAMSGrad

from .models import Logistic, Model
from .parts import Digits, Part, digits, minibatch
from .run import evaluate
from .table import mean_sd

__all__ = [
    "RATES",
    "STEPS",
    "VARIANTS",
    "setting",
    "Result",
    "compare",
    "markdown",
    "read",
    "write",
]

RATES = (0.001, 0.003, 0.01, 0.03, 0.1)
START = float(np.log(10))
"""The initial loss: with weights of 0 all classes are equally likely."""
STEPS = 100
TARGET = 0.3
"""Training loss whose number of steps is reported."""
LOOKS = 5
"""Steps between evaluations."""
EACH = 18
WORKERS = 2
CODE = cm.codes.FractionalRepetition(WORKERS, 1)


class InTheSketch:
    """The recursion of the paper as we read it: m and e are sketches, by linearity.

    The hashes are fixed, since sketches of different steps are added. The k entries that are applied
    are estimated from the sketch and then subtracted from it.
    """

    def __init__(
        self, weights: np.ndarray, rate: float, *, columns: int, k: int, seed: int
    ) -> None:
        self.weights = weights
        self._rate, self._k = rate, k
        self._sketch = CountSketch(weights.size, columns, seed=seed)
        self._first = np.zeros((self._sketch.rows, columns))
        self._error = self._first.copy()
        self._second = np.full(weights.size, 1e-8)
        self._largest = self._second.copy()

    def step(self, fn: Callable[..., Any], parts: cm.CodedParts, *, args: tuple[Any, ...]) -> Any:
        """One step, or FloatingPointError."""
        sketched = _Composed(self._sketch, fn)
        result = cm.sum(sketched, parts, args=(self.weights, *args))
        sketch = result.value / len(parts)
        seen = self._sketch.estimate(sketch)
        self._first = 0.9 * self._first + 0.1 * sketch
        self._second = 0.999 * self._second + 0.001 * seen**2
        self._largest = np.maximum(self._largest, self._second)
        carried = self._first + self._error
        estimate = self._sketch.estimate(carried)
        scaled = estimate / np.sqrt(self._largest)
        chosen = np.argpartition(-np.abs(scaled), self._k - 1)[: self._k]
        applied = np.zeros_like(estimate)
        applied[chosen] = estimate[chosen]
        self._error = carried - self._sketch(applied)
        weights = self.weights.astype(float)
        weights[chosen] -= self._rate * scaled[chosen]
        if not np.abs(weights).max() < 1e6:
            raise FloatingPointError("the weights have diverged")
        self.weights = weights.astype(np.float32)
        return cm.training.Step(0, result, np.sort(chosen))


class FixedHashes(SketchedAMSGrad):
    """A variant with the same hashes at every step."""

    @property
    def sketch(self) -> CountSketch:
        """The sketch of all steps."""
        return replace(super().sketch, seed=0)


@dataclass(frozen=True)
class _Composed:
    sketch: CountSketch
    fn: Callable[..., np.ndarray]

    def __call__(self, *args: Any) -> np.ndarray:
        return self.sketch(self.fn(*args))


@dataclass(frozen=True)
class Variant:
    """An optimiser with its parameters."""

    name: str
    make: Callable[[np.ndarray, float, int], Any]
    """Maps weights, learning rate and seed to the optimiser."""


def _sketched(columns: int, k: int | None) -> Callable[..., SketchedAMSGrad]:
    def made(weights: np.ndarray, rate: float, seed: int) -> SketchedAMSGrad:
        return SketchedAMSGrad(weights, rate, columns=columns, k=k, seed=seed)

    return made


def _fixed(columns: int, k: int | None) -> Callable[..., FixedHashes]:
    return lambda weights, rate, seed: FixedHashes(weights, rate, columns=columns, k=k)


def _in_the_sketch(columns: int, k: int) -> Callable[..., InTheSketch]:
    return lambda weights, rate, seed: InTheSketch(weights, rate, columns=columns, k=k, seed=seed)


VARIANTS = (
    Variant("AMSGrad", lambda weights, rate, seed: AMSGrad(weights, rate)),
    Variant("5 x 400, all weights", _sketched(400, None)),
    Variant("5 x 200, all weights", _sketched(200, None)),
    Variant("5 x 100, all weights", _sketched(100, None)),
    Variant("5 x 200, k = 785", _sketched(200, 785)),
    Variant("5 x 200, k = 78", _sketched(200, 78)),
    Variant("5 x 200, all weights, fixed hashes", _fixed(200, None)),
    Variant("in the sketch, 5 x 200, k = 78", _in_the_sketch(200, 78)),
    Variant("in the sketch, 5 x 400, k = 78", _in_the_sketch(400, 78)),
)


@dataclass(frozen=True, slots=True)
class Result:
    """One run; NaN if it diverged."""

    variant: str
    rate: float
    seed: int
    sent: int
    """Bytes that a worker sends per step."""
    reached: float
    """Steps to a training loss of `TARGET`; NaN if not reached."""
    loss: float
    accuracy: float


@dataclass(frozen=True)
class _Gradient:
    model: Model
    seed: int

    def __call__(self, part: Part, weights: np.ndarray, step: int) -> np.ndarray:
        return self.model.gradient(weights, *minibatch(part, self.seed, step, EACH))


def compare(seeds: int, steps: int, rates: Sequence[float] = RATES) -> Iterator[Result]:
    """All variants with all learning rates; one of the two workers never answers."""
    data = digits(WORKERS)
    for variant in VARIANTS:
        for rate in rates:
            for seed in range(seeds):
                yield _run(variant, rate, seed, steps, data)


def _run(variant: Variant, rate: float, seed: int, steps: int, data: Digits) -> Result:
    model = Logistic()
    optimizer = variant.make(model.start(seed), rate, seed)
    sent, reached = 0, float("nan")
    with cm.testing.Scripted(WORKERS, {1: cm.testing.never()}) as engine:
        shards = cm.CodedParts(data.parts, code=CODE, engine=engine)
        try:
            for step in range(steps):
                made = optimizer.step(_Gradient(model, seed), shards, args=(step,))
                sent = made.sum.received // len(made.sum.answered)
                if np.isnan(reached) and (step + 1) % LOOKS == 0:
                    loss, _ = evaluate(model, optimizer.weights, data)
                    reached = step + 1.0 if loss <= TARGET else reached
            loss, accuracy = evaluate(model, optimizer.weights, data)
        except (FloatingPointError, cm.InvalidAnswer, cm.NotEnoughAnswers):
            loss = accuracy = float("nan")
    return Result(variant.name, rate, seed, sent, reached, loss, accuracy)


def write(path: Path, results: Sequence[Result]) -> None:
    """Write the results as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(Result.__dataclass_fields__)
        for one in results:
            figures = (f"{value:.5g}" for value in (one.reached, one.loss, one.accuracy))
            table.writerow([one.variant, one.rate, one.seed, one.sent, *figures])


def read(path: Path) -> list[Result]:
    """Read the file written by `write`."""
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Result(
                row["variant"], float(row["rate"]), int(row["seed"]), int(row["sent"]),
                float(row["reached"]), float(row["loss"]), float(row["accuracy"]),
            )
            for row in csv.DictReader(file)
        ]  # fmt: skip


def setting(results: Sequence[Result]) -> str:
    """Description of the table."""
    rates = sorted({one.rate for one in results})
    seeds = len({one.seed for one in results})
    return (
        f"Logistic regression, {STEPS} steps, {seeds} seeds, minibatches of {EACH} digits of each class from each "
        f"of {WORKERS} parts, `{CODE!r}` with one worker that never answers. For each optimiser the table shows the "
        f"learning rate with the smallest loss, of {', '.join(f'{rate:g}' for rate in rates)}.\n\n"
        "| optimiser | meaning |\n|---|---|\n"
        "| 5 x 400 | a sketch with 5 rows and 400 columns |\n"
        "| k | number of weights that change per step |\n"
        "| fixed hashes | the same hashes at every step |\n"
        "| in the sketch | the recursion of the paper as we read it: momentum and error are sketches |"
    )


def markdown(results: Sequence[Result]) -> str:
    """One line per variant, with the learning rate of the smallest mean loss."""
    lines = [
        "| optimiser | bytes sent per worker and step | learning rate | training loss | held-out accuracy | "
        f"steps to loss {TARGET:g} | kB sent per worker until then | runs with a final loss above the initial one, "
        "all learning rates |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(one.variant for one in results):
        own = [one for one in results if one.variant == name]
        rates = {one.rate: [two for two in own if two.rate == one.rate] for one in own}
        whole = {rate: group for rate, group in rates.items() if _finite(group)}
        lost = sum(not one.loss <= START for one in own)
        sent = max(one.sent for one in own)
        if whole:
            rate = min(whole, key=lambda rate: np.mean([one.loss for one in whole[rate]]))
            figures = [
                f"{rate:g}",
                mean_sd([one.loss for one in whole[rate]], 3),
                mean_sd([100 * one.accuracy for one in whole[rate]], 1) + " %",
                *_until(whole[rate], sent),
            ]
        else:
            figures = ["none", "diverged", "", "", ""]
        lines.append(f"| {name} | {sent:,} | {' | '.join(figures)} | {lost} of {len(own)} |")
    return "\n".join(lines)


def _until(group: Sequence[Result], sent: int) -> tuple[str, str]:
    steps = [one.reached for one in group]
    if np.isnan(steps).any():
        return "not reached", ""
    return mean_sd(steps, 0), f"{np.mean(steps) * sent / 1000:,.0f}"


def _finite(group: Sequence[Result]) -> bool:
    return not any(np.isnan(one.loss) for one in group)
