"""Live waves with call times measured on AWS, and with slow workers, for the common schemes.

Workers are processes that sleep for the call times. The scheduler runs the same jobs in virtual time, on the same
times. All schemes run the same waves in turn.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

import codedmap as cm

from . import latency_live, models, serving_report
from .harness import Cell, Experiment, Reads, Row
from .services import TRACES, Drawn, have_traces, service
from .serving_stealing import Stealing, have_dask
from .serving_ways import Way, ways
from .stats import mean_interval

__all__ = ["EXPERIMENT", "Config"]

CREWS = 3
"""Engines used in turn, so that stragglers of one wave end during the next."""
EACH = 2
"""Calls that a worker makes in a wave, at most."""


@dataclass(frozen=True)
class Config:
    """Size of the experiment."""

    tasks: int
    """K."""
    waves: dict[str, int]
    """Live waves of each scheme, by part."""
    units: dict[str, float]
    """Seconds per unit of time of the service, by part; long compared with sending a wave."""
    simulated: int
    """Waves of the simulation."""
    quick: bool


PARTS = {"traces": ("aws", 24), "slow": ("bimodal", 25)}
"""By part: the service, and the workers for K = 20 tasks."""


def configure(quick: bool) -> Config:
    """Settings for a run of half a minute, or of less than half an hour."""
    if quick:
        return Config(8, {"traces": 6, "slow": 6}, {"traces": 0.05, "slow": 0.05}, 500, quick)
    return Config(20, {"traces": 1_000, "slow": 200}, {"traces": 0.2, "slow": 0.1}, 10_000, quick)


def cells(config: Config) -> list[Cell]:
    """One cell per part; quick runs skip the traces if their file is missing."""
    parts = [part for part in PARTS if part != "traces" or not config.quick or have_traces()]
    return [{"part": part} for part in parts]


def _reads(config: Config, cell: Cell) -> Reads:
    return (TRACES,) if cell["part"] == "traces" else ()


def compute(config: Config, cell: Cell, rng: np.random.Generator) -> Iterator[Row]:
    """The rows of one part."""
    name, workers = PARTS[cell["part"]]
    model, K, waves = service(name), config.tasks, config.waves[cell["part"]]
    unit = config.units[cell["part"]]
    N = round(workers * K / 20)
    many = _calls(model.waves(rng, config.simulated, EACH * 2 * K))
    some = _calls(model.waves(rng, waves, EACH * 2 * K))
    stealing = cell["part"] == "slow" and have_dask() and not config.quick
    live = _Live(ways(K, N), K, unit, stealing=stealing)
    live.run(some, rng)
    for at, way in enumerate(ways(K, N)):
        simulated, same = way.simulated(many, K), way.simulated(some, K)
        row = _timed(live.seconds[at] / unit) | _expected(simulated)
        row |= {"way": way.name, "waves": waves, "unit_ms": 1e3 * unit, "K": K}
        row |= {"N": N, "simulated_waves": config.simulated}
        row |= {"cost": live.calls[at].mean() / K, "simulated_cost": simulated.calls.mean() / K}
        for name_, statistic in latency_live.STATISTICS.items():
            expected = same.seconds.astype(float) * unit
            row |= latency_live.ratio(name_, statistic, live.seconds[at], expected, rng)
        error = mean_interval(live.errors[at])
        missing = 1.0 - live.exact[at].mean()
        yield row | {"error": np.sqrt(error.value), "error_low": np.sqrt(max(0.0, error.low)),
                     "error_high": np.sqrt(error.high), "estimated": missing}  # fmt: skip
    if stealing:
        row = _timed(live.stolen / unit)
        yield row | {"way": "Dask work stealing", "waves": waves, "unit_ms": 1e3 * unit,
                     "K": K, "N": N, "cost": 1.0, "error": 0.0, "estimated": 0.0}  # fmt: skip


def _calls(drawn: Drawn) -> np.ndarray:
    """Seconds of the calls of each worker, one after another: (each, waves, 2 K)."""
    return np.stack(np.split(drawn.seconds.astype(float), EACH, axis=1))


def _timed(units: np.ndarray) -> Row:
    row: Row = {"mean": units.mean()}
    return row | {f"p{100 * q:g}": float(np.quantile(units, q)) for q in (0.50, 0.99)}


def _expected(waits: cm.latency.Waits) -> Row:
    shares = {"p50": 0.5, "p99": 0.99, "p999": 0.999}
    return {f"simulated_{name}": waits.quantile(share) for name, share in shares.items()}


class _Live:
    """Measured times of every wave and scheme."""

    def __init__(self, chosen: tuple[Way, ...], K: int, unit: float, *, stealing: bool) -> None:
        self._ways, self._K, self._unit, self._stealing = chosen, K, unit, stealing

    def run(self, calls: np.ndarray, rng: np.random.Generator) -> None:
        """Run all schemes in each wave, so that other load on the machine affects them alike."""
        waves, K = calls.shape[1], self._K
        trial = models.load("tanh-network", True)
        spread = float(np.sqrt(np.var(trial.function(trial.inputs), axis=0).mean()))
        self.seconds, self.calls, self.errors, self.exact = np.empty((4, len(self._ways), waves))
        self.stolen = np.empty(waves)
        with contextlib.ExitStack() as stack:
            crews = [
                stack.enter_context(cm.engines.Local(2 * K, grace=latency_live.GRACE))
                for _ in range(CREWS)
            ]
            others = stack.enter_context(Stealing.cluster(K)) if self._stealing else None
            for turn, (wave, at) in enumerate(np.ndindex(waves, len(self._ways))):
                engine = crews[turn % CREWS]
                rows = trial.inputs[rng.choice(len(trial.inputs), K, replace=False)]
                latency_live.idle(engine)
                times = calls[:, wave] * self._unit
                result = self._ways[at].run(models.tanh_network, rows, engine, times)
                self.seconds[at, wave] = result.seconds
                self.calls[at, wave] = latency_live.sent(result)
                self.exact[at, wave] = result.exact.mean()
                off = (result.values - models.tanh_network(rows)) / spread
                self.errors[at, wave] = (off**2).mean()
                if others is not None and at == 0:
                    self.stolen[wave] = others.played(times[0])


EXPERIMENT = Experiment(
    "serving", configure, cells, compute, serving_report.plot, serving_report.report, _reads
)
