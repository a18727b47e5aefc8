"""Ye and Abbe's trade-off between parts computed, stragglers tolerated and numbers sent, and the time of a sum.

The time model is the paper's (arXiv 1802.03475): worker n takes d T + U / m, where T is the time to compute one part
and U the time to send a whole sum, both shifted exponentials. All schemes get the same draws.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

import codedmap as cm

from . import gradients_live
from .gradients_report import plot, report
from .harness import Cell, Experiment, Row
from .latency_schemes import hedged
from .stats import mean_interval

__all__ = ["EXPERIMENT", "REGIMES", "Settings"]

REGIMES = {
    "sending": (1.6, 0.8, 6.0, 0.1),
    "even": (4.0, 0.2, 4.0, 0.2),
    "computing": (6.0, 0.1, 1.6, 0.8),
}
"""t₁, λ₁ of computing a part and t₂, λ₂ of sending a sum; the first regime is the paper's example."""
HEDGED = 0.9


@dataclass(frozen=True)
class Settings:
    """Sizes of the simulation and of the live runs.

    Parameters
    ----------
    workers : int
        N.
    waves : int
        Simulated sums.
    values : int
        Random sums on which the error of ignoring stragglers is measured.
    live : Config
        Settings of the runs on processes that sleep.
    """

    workers: int
    waves: int
    values: int
    live: gradients_live.Config


def _configure(quick: bool) -> Settings:
    if quick:
        return Settings(12, 4_000, 50, gradients_live.Config(unit=0.004, waves=2))
    return Settings(12, 100_000, 1_000, gradients_live.Config(unit=0.015, waves=20))


def _cells(settings: Settings) -> list[Cell]:
    found: list[Cell] = [{"part": "time", "regime": name} for name in REGIMES]
    return [*found, {"part": "live", "regime": "sending"}]


def _compute(settings: Settings, cell: Cell, rng: np.random.Generator) -> Iterator[Row]:
    N, constants = settings.workers, REGIMES[cell["regime"]]
    if cell["part"] == "live":
        computing, sending = drawn(constants, (settings.live.waves, N), rng)
        yield from gradients_live.rows(settings.live, computing, sending)
        return
    computing, sending = drawn(constants, (settings.waves, N), rng)

    def row(scheme: str, times: np.ndarray, s: int, m: int, d: int, **more: object) -> Row:
        mean = mean_interval(times)
        return {
            "scheme": scheme, "S": s, "m": m, "parts": d, "calls": 1.0, "mean": mean.value,
            "mean_low": mean.low, "mean_high": mean.high, "p99": float(np.quantile(times, 0.99)),
            "error": 0.0, "waves": len(times), **more,
        }  # fmt: skip

    for d in range(1, N + 1):
        for m in range(1, d + 1):
            took = np.partition(d * computing + sending / m, N - d + m - 1, axis=1)
            code, refused = _made(N, d - m, m)
            yield row(
                "polynomial", took[:, N - d + m - 1], d - m, m, d,
                amplification=np.nan if code is None else code.amplification, refused=refused,
            )  # fmt: skip
            if N % d == 0:
                grouped = np.sort(_groups(d * computing + sending / m, d), axis=1)[:, m - 1]
                made = cm.codes.GroupedGradientCode(N, group=d, reduction=m)
                yield row(
                    "grouped", grouped.max(axis=1), d - m, m, d, amplification=made.amplification
                )
        if N % d == 0:
            copies = _groups(d * computing + sending, d).min(axis=1).max(axis=1)
            yield row("copies", copies, d - 1, 1, d, amplification=1.0)
    plain = computing + sending
    yield row("wait for all", plain.max(axis=1), 0, 1, 1, amplification=1.0)
    for s in range(1, 4):
        took = np.partition(plain, N - s - 1, axis=1)[:, N - s - 1]
        error = mean_interval(_left_out(N, s, settings.values, rng))
        yield row("ignore stragglers", took, s, 1, 1, error=error.value,
                  error_low=error.low, error_high=error.high)  # fmt: skip
    again = sum(drawn(constants, plain.shape, rng))
    waits = hedged(plain, again, float(np.quantile(plain, HEDGED)))
    yield row("hedge p90", waits.seconds, 0, 1, 1, calls=float(waits.calls.mean() / N))


def drawn(
    constants: tuple[float, float, float, float], shape: tuple[int, int], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Times of each worker to compute one part and to send a whole sum."""
    first, rate, second, other = constants
    return (
        first + rng.standard_exponential(shape) / rate,
        second + rng.standard_exponential(shape) / other,
    )


def _groups(times: np.ndarray, size: int) -> np.ndarray:
    """The times (waves, N) as (waves, size, N / size): worker n is in group n mod N / size."""
    return times.reshape(len(times), size, -1)


def _made(N: int, s: int, m: int) -> tuple[cm.codes.PolynomialGradientCode | None, bool]:
    try:
        return cm.codes.PolynomialGradientCode(N, s, m), False
    except cm.InvalidArgument:
        return None, True


def _left_out(N: int, s: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Relative error of the scaled sum of N - S parts; values have mean 1 and standard deviation 1."""
    values = 1.0 + rng.standard_normal((count, N, 100))
    total = values.sum(axis=1)
    code, errors = cm.codes.IgnoreStragglers(N, s), np.empty(count)
    for n in range(count):
        answered = frozenset(rng.permutation(N)[s:].tolist())
        estimate = sum(weight[0] * values[n, w] for w, weight in code.weights(answered).items())
        errors[n] = np.linalg.norm(estimate - total[n]) / np.linalg.norm(total[n])
    return errors


EXPERIMENT = Experiment("gradients", _configure, _cells, _compute, plot, report)
