"""Error, time and cost of the common schemes, simulated and live.

All schemes answer the same K tasks and get the same call times. The first K times belong to the first
calls; the next K to the second copies, the hedges, or the other coded workers. A call on a mixture of
inputs is assumed to take as long as a call on an input.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

import codedmap as cm

from . import latency_live, latency_plot, latency_report
from .harness import Cell, Experiment, Reads, Row
from .latency_schemes import (
    CHECKED,
    SCHEMES,
    Scheme,
    Waves,
    answering,
    quantile_intervals,
    quantile_range,
    simulated,
)
from .models import load, reads
from .papers import BACC, LeTCC
from .replay import grouped, played
from .services import INDEPENDENT, MEASURED, TRACES, Drawn, Service, have_traces, service
from .stats import Interval, mean_interval

__all__ = ["EXPERIMENT", "Config"]

QUANTILES = {"p50": 0.50, "p99": 0.99, "p999": 0.999}
MEASURED_WORKERS = 256

EARLIER = {
    "exponential": ((4.85, 5.93), (2.42, 2.67), (2.96, 3.37), (2.03, 2.17), (2.90, 3.48), (3.98, 4.50)),
    "bimodal": ((14.7, 17.2), (1.50, 10.4), (10.9, 11.8), (1.25, 1.30), (10.8, 12.0), (11.4, 12.6)),
    "pareto": ((49.6, 191.0), (2.72, 3.53), (4.91, 8.32), (1.88, 2.13), (4.55, 10.1), (5.60, 9.34)),
}  # fmt: skip
"""p99 and p99.9 of the schemes in `CHECKED`, from an earlier simulation written independently."""
CHECK_TASKS, EARLIER_WAVES = 20, 20_000


@dataclass(frozen=True)
class Judge:
    """A function on which the errors of estimates are measured."""

    title: str
    model: str
    shipped: bool
    """True if its inputs come with a package."""
    ordered: bool = False
    """True if the inputs of a group are sorted in ascending order."""


JUDGES = {
    "digits": Judge("LeNet-5 on digits", "lenet-mnist", shipped=True),
    "pendulum": Judge("damped pendulum, 3 parameters", "pendulum", shipped=False),
    "curve": Judge("x sin x, inputs in order", "x-sin-x", shipped=False, ordered=True),
}


@dataclass(frozen=True)
class Config:
    """Sizes of the simulation and of the live runs."""

    quick: bool
    """Skip the measured traces if their file does not exist."""
    tasks: tuple[int, ...]
    """K."""
    waves: int
    """Simulated waves of each K and service."""
    accuracy_tasks: int
    groupings: int
    """Random cuts of the inputs into groups: the repetitions for the intervals of errors."""
    sets: int
    """Waves replayed on each grouping."""
    live: latency_live.Config


def configure(quick: bool) -> Config:
    """Settings for a run of less than a minute, or of less than 25 minutes."""
    if quick:
        short = {"exponential": (0.08, 10), "bimodal": (0.10, 10)}
        live = latency_live.Config(short, tasks=8, crews=2)
        return Config(True, (20, 100, 1000), 20_000, 20, 2, 10, live)
    services = {
        "exponential": (0.10, 200),
        "bimodal": (0.20, 100),
        "pareto": (0.12, 150),
        "aws": (0.15, 150),
    }
    live = latency_live.Config(services, tasks=8, crews=4)
    return Config(False, (20, 100, 1000, 5000), 100_000, 20, 10, 40, live)


def cells(config: Config) -> list[Cell]:
    """One cell per part, service and K; quick runs skip measured services whose traces are missing."""
    services = [*INDEPENDENT, *(() if config.quick and not have_traces() else MEASURED)]
    made: list[Cell] = [
        {"part": "time", "service": name, "tasks": tasks}
        for name in services
        for tasks in config.tasks
        if name in INDEPENDENT or 2 * tasks <= MEASURED_WORKERS
    ]
    made += [
        {"part": "accuracy", "service": name, "tasks": config.accuracy_tasks, "judge": judge}
        for name in services
        for judge in JUDGES
    ]
    made += [{"part": "check", "service": name, "tasks": CHECK_TASKS} for name in INDEPENDENT]
    made += [
        {"part": "live", "service": name, "tasks": config.live.tasks}
        for name in config.live.services
        if name in services
    ]
    return made


def _reads(config: Config, cell: Cell) -> Reads:
    judge = JUDGES.get(cell.get("judge", ""))
    return (
        *([TRACES] if cell["service"] in MEASURED else []),
        *(reads(judge.model, judge.shipped) if judge else ()),
    )


def compute(config: Config, cell: Cell, rng: np.random.Generator) -> Iterator[Row]:
    """The rows of one cell."""
    model = service(cell["service"])
    if cell["part"] == "time":
        waves, drawn = simulated(model, SCHEMES, cell["tasks"], config.waves, rng)
        for scheme, own in zip(SCHEMES, waves, strict=True):
            yield _timed(model, scheme, cell["tasks"], own, drawn, rng)
    elif cell["part"] == "check":
        waves, drawn = simulated(model, CHECKED, cell["tasks"], config.waves, rng)
        for scheme, own, before in zip(CHECKED, waves, EARLIER[model.name], strict=True):
            row = _timed(model, scheme, cell["tasks"], own, drawn, rng)
            row["earlier_waves"] = EARLIER_WAVES
            for name, value in zip(("p99", "p999"), before, strict=True):
                # Both samples are random: equivalent to one sample of this size against the truth.
                waves_of_both = round(1.0 / (1.0 / EARLIER_WAVES + 1.0 / config.waves))
                low, high = quantile_range(own.times, QUANTILES[name], waves_of_both)
                row |= {f"earlier_{name}": value, f"expected_{name}_low": low,
                        f"expected_{name}_high": high}  # fmt: skip
            yield row
    elif cell["part"] == "accuracy":
        yield from _accuracy(config, cell, model, rng)
    else:
        yield from latency_live.rows(config.live, model, rng)


def _timed(
    model: Service,
    scheme: Scheme,
    tasks: int,
    waves: Waves,
    drawn: Drawn,
    rng: np.random.Generator,
) -> Row:
    measured = drawn if model.name in MEASURED else None
    row: Row = {
        "scheme": scheme.name,
        "workers": scheme.workers(tasks),
        "waits_for": scheme.quorum(tasks) if not scheme.exact else None,
        "waves": len(waves.times),
        "cost": float(waves.calls.mean() / tasks),
    }
    intervals = quantile_intervals(waves.times, list(QUANTILES.values()), measured, rng)
    for name, interval in zip(QUANTILES, intervals, strict=True):
        row |= _columns(name, interval)
    return row


def _accuracy(
    config: Config, cell: Cell, model: Service, rng: np.random.Generator
) -> Iterator[Row]:
    K, judge = cell["tasks"], JUDGES[cell["judge"]]
    trial = load(judge.model, judge.shipped)
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for _ in range(config.groupings):
        inputs = grouped(trial.inputs, K, rng)
        if judge.ordered:
            inputs.sort(axis=0)
        truth = trial.function(inputs.reshape(-1, *inputs.shape[2:]))
        spread = float(np.sqrt(np.mean(np.var(truth, axis=0, dtype=np.float64))))
        truth = truth.reshape(*inputs.shape[:2], *truth.shape[1:])
        # The stragglers follow from the call times, as in the timed waves.
        seconds = model.waves(rng, config.sets, 2 * K).seconds
        for scheme in (one for one in SCHEMES if not one.exact):
            sets = answering(scheme, seconds, K)
            for name, code in _codes(K, scheme.workers(K)).items():
                scores = list(played(trial.function, code, inputs, truth, sets))
                mean = np.mean([(score.rmse / spread, score.agreement) for score in scores], axis=0)
                found.setdefault((scheme.name, name), []).append(tuple(mean))
    for (scheme_name, name), means in found.items():
        waves = config.sets * len(means)
        row: Row = {"scheme": scheme_name, "code": name, "title": judge.title, "waves": waves}
        errors, agreements = np.array(means).T
        row |= _columns("error", mean_interval(errors))
        yield row | (_columns("agreement", mean_interval(agreements)) if trial.scores else {})


def _columns(name: str, interval: Interval) -> Row:
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _codes(K: int, N: int) -> dict[str, cm.contracts.Code]:
    # The number of stragglers of a code only affects its default stopping rule.
    return {
        "BACC": BACC(K, N, 0),
        "LeTCC": LeTCC(K, N, 0),
        "copies, mean": cm.Replication(K, N, fill="mean"),
    }


EXPERIMENT = Experiment(
    "latency", configure, cells, compute, latency_plot.plot, latency_report.report, _reads
)
