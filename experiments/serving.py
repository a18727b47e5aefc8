"""Live waves with call times measured on AWS, and with slow workers, for the common schemes.

Workers are processes that sleep for the call times; the simulation uses the same times. All schemes run the
same waves in turn.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

import codedmap as cm

from . import latency_live, models, serving_report
from .harness import Cell, Experiment, Reads, Row
from .services import TRACES, Drawn, Service, have_traces, service
from .serving_stealing import Stealing, have_dask
from .serving_ways import Times, Way, measured_ways, slow_ways
from .stats import mean_interval

__all__ = ["EXPERIMENT", "Config"]

CREWS = 3
"""Engines used in turn, so that stragglers of one wave end during the next."""
LATE = 0.90
"""Share of all calls that have answered when hedges are sent."""


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


PARTS = {"traces": ("aws", 24, measured_ways), "slow": ("bimodal", 25, slow_ways)}
"""By part: the service, the workers of a coded wave, and the schemes."""


def configure(quick: bool) -> Config:
    """Settings for a run of half a minute, or of less than half an hour."""
    if quick:
        return Config(8, {"traces": 6, "slow": 6}, {"traces": 0.05, "slow": 0.05}, 5_000, quick)
    return Config(20, {"traces": 1_000, "slow": 200}, {"traces": 0.15, "slow": 0.1}, 100_000, quick)


def cells(config: Config) -> list[Cell]:
    """One cell per part; quick runs skip the traces if their file is missing."""
    parts = [part for part in PARTS if part != "traces" or not config.quick or have_traces()]
    return [{"part": part} for part in parts]


def _reads(config: Config, cell: Cell) -> Reads:
    return (TRACES,) if cell["part"] == "traces" else ()


def compute(config: Config, cell: Cell, rng: np.random.Generator) -> Iterator[Row]:
    """The rows of one part."""
    name, workers, choose = PARTS[cell["part"]]
    model, K, waves = service(name), config.tasks, config.waves[cell["part"]]
    unit = config.units[cell["part"]]
    N = round(workers * K / 20)
    ways = choose(K, N)
    many = _times(model, model.waves(rng, config.simulated, 3 * K), K)
    some = _times(model, model.waves(rng, waves, 3 * K), K)
    stealing = cell["part"] == "slow" and have_dask() and not config.quick
    live = _Live(ways, K, unit, stealing=stealing)
    live.run(some, rng)
    for at, way in enumerate(ways):
        simulated, same = way.simulated(many), way.simulated(some)
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


def _times(model: Service, drawn: Drawn, K: int) -> Times:
    late = model.quantiles(LATE)[drawn.array]
    return Times(drawn.seconds[:, : 2 * K], drawn.seconds[:, 2 * K :], late)


def _timed(units: np.ndarray) -> Row:
    row: Row = {"mean": units.mean()}
    return row | {f"p{100 * q:g}": float(np.quantile(units, q)) for q in (0.50, 0.99)}


def _expected(waits: cm.latency.Waits) -> Row:
    shares = {"p50": 0.5, "p99": 0.99, "p999": 0.999}
    return {f"simulated_{name}": waits.quantile(share) for name, share in shares.items()}


class _Live:
    """Measured times of every wave and scheme."""

    def __init__(self, ways: tuple[Way, ...], K: int, unit: float, *, stealing: bool) -> None:
        self._ways, self._K, self._unit, self._stealing = ways, K, unit, stealing

    def run(self, times: Times, rng: np.random.Generator) -> None:
        """Run all schemes in each wave, so that other load on the machine affects them alike."""
        waves, K = len(times.first), self._K
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
                first, again, late = (
                    part[wave] * self._unit for part in (times.first, times.again, times.late)
                )
                way = self._ways[at]
                timed = latency_live.Timed(engine, way.code.workers, first, again, rows)
                began = time.perf_counter()
                result = cm.map(
                    models.tanh_network, rows, code=way.code, engine=timed,
                    stop=way.stop(float(late)), hedge=way.hedge(float(late)), retries=0, chunk="all",
                )  # fmt: skip
                self.seconds[at, wave] = time.perf_counter() - began
                self.calls[at, wave] = latency_live.sent(result)
                self.exact[at, wave] = result.exact.mean()
                off = (result.values - models.tanh_network(rows)) / spread
                self.errors[at, wave] = (off**2).mean()
                if others is not None and at == 0:
                    self.stolen[wave] = others.played(first)


EXPERIMENT = Experiment(
    "serving", configure, cells, compute, serving_report.plot, serving_report.report, _reads
)
