"""What came of the runs: a CSV file with a line for each look, and the page's tables made from it."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from .run import Look
from .schemes import SCHEMES

__all__ = ["TARGETS", "Run", "markdown", "mean_sd", "read", "reading", "write"]

TARGETS = {"logistic": 0.3, "network": 0.5}
"""Training losses of which it is asked when they were reached."""


@dataclass(frozen=True, slots=True)
class Run:
    """One training run."""

    model: str
    engine: str
    scheme: str
    seed: int
    looks: list[Look]

    def reached(self, target: float) -> Look | None:
        """The first look with at most this training loss."""
        return next((look for look in self.looks if look.loss <= target), None)


def write(path: Path, runs: Iterable[Run]) -> None:
    """As CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["model", "engine", "scheme", "seed", *Look.__dataclass_fields__])
        for run in runs:
            for look in run.looks:
                values = (f"{v:.5g}" if isinstance(v, float) else v for v in asdict(look).values())
                table.writerow([run.model, run.engine, run.scheme, run.seed, *values])


def read(path: Path) -> list[Run]:
    """What `write` wrote."""
    runs: dict[tuple[str, str, str, int], Run] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            key = (row["model"], row["engine"], row["scheme"], int(row["seed"]))
            step, *others = (row[name] for name in Look.__dataclass_fields__)
            run = runs.setdefault(key, Run(*key, []))
            run.looks.append(Look(int(step), *map(float, others)))
    return list(runs.values())


def markdown(runs: Sequence[Run], model: str, engine: str) -> str:
    """One line a scheme: means over seeds, with standard deviations."""
    target = TARGETS[model]
    lines = [
        "| scheme | gradient | seconds a step | worker seconds a step | parts computed a step | "
        f"training loss in the end | held-out accuracy | seconds to loss {target:g} | worker seconds to it |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for scheme in SCHEMES:
        own = [
            run
            for run in runs
            if (run.model, run.engine, run.scheme) == (model, engine, scheme.name)
        ]
        if not own:
            continue
        ends = [run.looks[-1] for run in own]
        reached = [look for run in own if (look := run.reached(target)) is not None]
        cells = [
            scheme.name,
            scheme.kind,
            mean_sd([end.seconds / end.step for end in ends], 3),
            mean_sd([end.worker_seconds / end.step for end in ends], 2),
            f"{np.mean([end.parts / end.step for end in ends]):.1f}",
            mean_sd([end.loss for end in ends], 3),
            mean_sd([100 * end.accuracy for end in ends], 1) + " %",
            *(
                mean_sd([getattr(look, name) for look in reached], 1)
                + (f" ({len(reached)} of {len(own)} runs)" if len(reached) < len(own) else "")
                if reached
                else "not reached"
                for name in ("seconds", "worker_seconds")
            ),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def reading(runs: Sequence[Run], model: str, engine: str) -> str:
    """What the table says, made from the figures."""
    target = TARGETS[model]
    own = [run for run in runs if (run.model, run.engine) == (model, engine)]
    spent: dict[str, tuple[float, float]] = {}
    for scheme in SCHEMES:
        reached = [run.reached(target) for run in own if run.scheme == scheme.name]
        looks = [look for look in reached if look is not None]
        if looks and len(looks) == len(reached):
            spent[scheme.name] = (
                float(np.mean([look.seconds for look in looks])),
                float(np.mean([look.worker_seconds for look in looks])),
            )
    if not spent:
        return f"No scheme came to loss {target:g} with every seed."
    exact = {s.name: spent[s.name] for s in SCHEMES if s.kind == "exact" and s.name in spent}
    told = [
        f"To loss {target:g}, {_least(spent, 0, 's')} and {_least(spent, 1, 'worker seconds')}."
    ]
    if exact:
        told.append(f"Of the exact ones, {_least(exact, 0, 's')}.")
    rivals = [name for name in ("ignore stragglers", "copies x2", "hedged") if name in spent]
    for name in ("LeTCC", "KernelCode"):
        if name in spent and rivals:
            beside = ", ".join(
                f"{spent[name][0] / spent[rival][0]:.2f} and {spent[name][1] / spent[rival][1]:.2f} times "
                f"those of {rival}"
                for rival in rivals
            )
            told.append(f"{name}'s seconds and worker seconds to it are {beside}.")
    return " ".join(told)


def _least(spent: dict[str, tuple[float, float]], place: int, unit: str) -> str:
    ranked = sorted(spent, key=lambda name: spent[name][place])
    first = ranked[0]
    more = f" ({ranked[1]}: {spent[ranked[1]][place]:.1f})" if len(ranked) > 1 else ""
    return f"{first} takes the least {'time' if unit == 's' else 'cost'}, {spent[first][place]:.1f} {unit}{more}"


def mean_sd(values: Sequence[float], digits: int) -> str:
    """A mean, and the standard deviation between seeds if there are several."""
    mean = f"{np.mean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {np.std(values, ddof=1):.{digits}f}"
