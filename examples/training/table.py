"""Results of the runs: a CSV file with one line per evaluation, and the tables of the page."""

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
"""Training losses whose time and cost are reported."""


@dataclass(frozen=True, slots=True)
class Run:
    """One training run."""

    model: str
    engine: str
    scheme: str
    seed: int
    looks: list[Look]

    def reached(self, target: float) -> Look | None:
        """The first evaluation with at most this training loss."""
        return next((look for look in self.looks if look.loss <= target), None)


def write(path: Path, runs: Iterable[Run]) -> None:
    """Write the runs as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["model", "engine", "scheme", "seed", *Look.__dataclass_fields__])
        for run in runs:
            for look in run.looks:
                values = (f"{v:.5g}" if isinstance(v, float) else v for v in asdict(look).values())
                table.writerow([run.model, run.engine, run.scheme, run.seed, *values])


def read(path: Path) -> list[Run]:
    """Read the file written by `write`."""
    runs: dict[tuple[str, str, str, int], Run] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            key = (row["model"], row["engine"], row["scheme"], int(row["seed"]))
            step, *others = (row[name] for name in Look.__dataclass_fields__)
            run = runs.setdefault(key, Run(*key, []))
            run.looks.append(Look(int(step), *map(float, others)))
    return list(runs.values())


def markdown(runs: Sequence[Run], model: str, engine: str) -> str:
    """One line per scheme: means over seeds, with standard deviations."""
    target = TARGETS[model]
    lines = [
        "| scheme | gradient | seconds per step | worker seconds per step | parts computed per step | "
        f"final training loss | held-out accuracy | seconds to loss {target:g} | worker seconds to loss {target:g} |",
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
    """The fastest and the cheapest schemes, and ratios of times and costs, as Markdown."""
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
        return f"No scheme reached loss {target:g} with every seed."
    exact = {s.name: spent[s.name] for s in SCHEMES if s.kind == "exact" and s.name in spent}
    lines = [
        f"| to loss {target:g} | scheme | next best |",
        "|---|---|---|",
        _best("least time", spent, 0, "s"),
        _best("least cost", spent, 1, "worker seconds"),
    ]
    if exact:
        lines.append(_best("least time, exact schemes", exact, 0, "s"))
    rivals = [name for name in ("ignore stragglers", "copies x2", "hedged") if name in spent]
    estimated = [name for name in ("LeTCC", "KernelCode") if name in spent]
    if rivals and estimated:
        lines += [
            "",
            f"Time (cost) to loss {target:g}, divided by that of other schemes:",
            "",
            "| | " + " | ".join(rivals) + " |",
            "|---" * (len(rivals) + 1) + "|",
        ]
    for name in estimated if rivals else ():
        ratios = (np.divide(spent[name], spent[rival]) for rival in rivals)
        lines.append(f"| {name} | " + " | ".join(f"{t:.2f} ({c:.2f})" for t, c in ratios) + " |")
    return "\n".join(lines)


def _best(what: str, spent: dict[str, tuple[float, float]], place: int, unit: str) -> str:
    ranked = sorted(spent, key=lambda name: spent[name][place])
    cells = [f"{name}, {spent[name][place]:.1f} {unit}" for name in ranked[:2]]
    return f"| {what} | " + " | ".join([*cells, ""][:2]) + " |"


def mean_sd(values: Sequence[float], digits: int) -> str:
    """Mean, and the standard deviation between seeds if there are several."""
    mean = f"{np.mean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {np.std(values, ddof=1):.{digits}f}"
