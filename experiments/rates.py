"""Convergence rates: the error against the number of workers and of stragglers, with and without noise.

The error is the mean squared error of the estimates û_d(α_k) of f(x_k), divided by the variance of
the outputs of f over its inputs. The encoder interpolates (λ_e = 0), so u_e(α_k) = x_k and the error
is that of the decoder alone. Every N is even, so that no β_n coincides with an α_k.

Each repetition draws B groups of K inputs, one straggler set (shared by the groups, as in a wave of
`codedmap.map`) and the noise, independently of all others. All codes and smoothings of a cell get the
same draws.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
from scipy.interpolate import CubicSpline

import codedmap as cm

from .harness import Cell, Experiment, Row
from .papers import BACC, LeTCC
from .rates_plot import CEILING, FLOOR, RESOLVED, plot
from .rates_report import report
from .replay import played, straggler_sets
from .stats import mean_interval

__all__ = ["EXPERIMENT", "FUNCTIONS", "Config", "Function"]


@dataclass(frozen=True)
class Function:
    """A test function and the distribution of its inputs."""

    call: Callable[[np.ndarray], np.ndarray]
    """(b, *x) to (b, *y)."""
    draw: Callable[[int, int, np.random.Generator], np.ndarray]
    """Maps K, B and a generator to inputs (K, B, *x)."""

    def grouped(self, inputs: np.ndarray) -> np.ndarray:
        """The answers (a, b, *y) to inputs (a, b, *x)."""
        answers = self.call(inputs.reshape(-1, *inputs.shape[2:]))
        return answers.reshape(*inputs.shape[:2], *answers.shape[1:])


@dataclass(frozen=True)
class Config:
    """Settings of the experiment.

    Parameters
    ----------
    tasks, groups : int
        K, and B, the number of groups in one repetition.
    workers, stragglers, noisy_stragglers : tuple of int
        N for the curves against N, and S without and with noise.
    fixed_workers : int
    straggler_counts : tuple of int
        N for the curves against S, and S.
    probabilities : tuple of float
        Probability that a worker is slow, in the probabilistic regime.
    noise : float
        Standard deviation of the noise of answers, in standard deviations of the outputs.
    repetitions, noisy_repetitions : int
        Repetitions per cell.
    grid : tuple of float
        Values of λ_d from which the oracle chooses.
    kernel_workers : int
        Largest N for `codedmap.KernelCode`, whose time is cubic in N. It is measured in the curves
        against N with the most stragglers at random positions.
    """

    tasks: int = 9
    groups: int = 8
    workers: tuple[int, ...] = (8, 12, 18, 28, 44, 68, 106, 168, 264, 414, 652, 1024)
    stragglers: tuple[int, ...] = (2, 6)
    noisy_stragglers: tuple[int, ...] = (6,)
    fixed_workers: int = 128
    straggler_counts: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
    probabilities: tuple[float, ...] = (0.1, 0.3)
    noise: float = 0.1
    repetitions: int = 200
    noisy_repetitions: int = 20
    grid: tuple[float, ...] = tuple(np.logspace(-10, -2, 25).tolist())
    kernel_workers: int = 264


def configure(quick: bool) -> Config:
    """The full settings, or settings that take seconds."""
    if not quick:
        return Config()
    return Config(
        groups=4,
        workers=(18, 44, 84, 160, 256),
        stragglers=(2,),
        noisy_stragglers=(2,),
        straggler_counts=(1, 3, 8, 24),
        probabilities=(0.1,),
        repetitions=10,
        noisy_repetitions=3,
        grid=tuple(np.logspace(-8, -5, 7).tolist()),
        kernel_workers=18,
    )


def _line(tasks: int, groups: int, rng: np.random.Generator) -> np.ndarray:
    """One random point in each of K equal cells of [-10, 10], ascending, so that the curve is smooth."""
    places = np.arange(tasks)[:, None] + rng.random((tasks, groups))
    return 20.0 * places / tasks - 10.0


def _line_through_kink(tasks: int, groups: int, rng: np.random.Generator) -> np.ndarray:
    """The same with 0 as the middle task: the error at the kink decays within a few workers."""
    inputs = _line(tasks, groups, rng)
    inputs[tasks // 2] = 0.0
    return inputs


def _box(tasks: int, groups: int, rng: np.random.Generator) -> np.ndarray:
    """Unordered random points of [-1, 1]⁵."""
    return rng.uniform(-1.0, 1.0, (tasks, groups, 5))


def _wave(x: np.ndarray) -> np.ndarray:
    result: np.ndarray = x * np.sin(x)
    return result


def _kink(x: np.ndarray) -> np.ndarray:
    result: np.ndarray = np.abs(x) ** 1.6
    return result


def _network(*widths: int) -> Callable[[np.ndarray], np.ndarray]:
    rng = np.random.default_rng(2406)
    layers = [
        (1.5 / np.sqrt(n) * rng.standard_normal((n, m)), 0.5 * rng.standard_normal(m))
        for n, m in pairwise(widths)
    ]

    def call(x: np.ndarray) -> np.ndarray:
        for weights, bias in layers[:-1]:
            x = np.tanh(x @ weights + bias)
        result: np.ndarray = x @ layers[-1][0] + layers[-1][1]
        return result

    return call


FUNCTIONS: dict[str, Function] = {
    "wave": Function(_wave, _line),
    "network": Function(_network(5, 16, 16, 3), _box),
    "kink": Function(_kink, _line_through_kink),
}
"""x sin x, the papers' benchmark; a smooth network of five inputs and three outputs; and |x|^1.6, which
is just within the theorem's class H²: its second derivative |x|^-0.4 is square integrable, that of
|x|^1.5 is not. Its rate is therefore close to the slowest that the theorem allows: a gap of width h at
the kink causes an error of about h^1.6, squared h^3.2, and the theorem guarantees h³."""

KINDS = ("random", "consecutive", "periodic")


@cache
def variance(name: str) -> float:
    """The variance of a function's outputs over its inputs, from a fixed sample."""
    answers = FUNCTIONS[name].grouped(FUNCTIONS[name].draw(9, 4096, np.random.default_rng(0)))
    return float(answers.reshape(9 * 4096, -1).var(axis=0).mean())


def cells(config: Config) -> list[Cell]:
    """Per function: against N and against S, without and with noise, and against N with probability p."""
    found: list[Cell] = []
    for name in FUNCTIONS:
        for noise in (0.0, config.noise):
            counts = config.noisy_stragglers if noise else config.stragglers
            budgets = [("N", n, s) for s in counts for n in config.workers if 2 * s <= n]
            budgets += [("S", config.fixed_workers, s) for s in config.straggler_counts]
            shared = {"function": name, "noise": noise}
            found += [
                {"sweep": sweep, **shared, "kind": kind, "workers": n, "stragglers": s}
                for kind in KINDS
                for sweep, n, s in budgets
            ]
        shared = {"sweep": "p", "function": name, "noise": 0.0, "kind": "independent"}
        found += [
            {**shared, "workers": n, "probability": p}
            for p in config.probabilities
            for n in config.workers
        ]
    return found


class _Draw(NamedTuple):
    """The random quantities of one repetition."""

    inputs: np.ndarray
    answered: np.ndarray
    noise: int  # seed, so that each code gets the same noise


def _draws(config: Config, cell: Cell, rng: np.random.Generator) -> Iterator[_Draw]:
    for _ in range(config.noisy_repetitions if cell["noise"] else config.repetitions):
        inputs = FUNCTIONS[cell["function"]].draw(config.tasks, config.groups, rng)
        if cell["sweep"] == "p":
            answered = _independent(cell["workers"], cell["probability"], rng)
        else:
            (answered,) = straggler_sets(
                cell["workers"], cell["stragglers"], 1, rng, kind=cell["kind"]
            )
        yield _Draw(inputs, answered, int(rng.integers(2**32)))


def _independent(workers: int, probability: float, rng: np.random.Generator) -> np.ndarray:
    answered = np.flatnonzero(rng.random(workers) >= probability)
    # With few workers, possibly none answers. Such a wave has no error and is drawn again.
    return answered if len(answered) else _independent(workers, probability, rng)


def compute(config: Config, cell: Cell, rng: np.random.Generator) -> Iterator[Row]:
    """One row per code and smoothing, all on the same draws."""
    draws = list(_draws(config, cell, rng))
    budget = config.tasks, cell["workers"], cell.get("stragglers", 0)
    spline = LeTCC(*budget)

    def row(code: str, smoothing: str, λ: float, errors: np.ndarray) -> Row:
        mean = mean_interval(errors)
        fits = FLOOR < mean.value < CEILING
        if cell["sweep"] != "S":
            fits &= cell["workers"] >= RESOLVED * config.tasks
        return {
            "tasks": config.tasks,
            "code": code,
            "smoothing": smoothing,
            "lambda": λ,
            "repetitions": len(errors),
            "mse": mean.value,
            "low": mean.low,
            "high": mean.high,
            "in_fit": fits,
        }

    def smoothed(λ: float | Literal["gcv"]) -> np.ndarray:
        return _errors(cell, draws, dataclasses.replace(spline, decoder_smoothing=λ))

    yield row("BACC", "none", np.nan, _errors(cell, draws, BACC(*budget)))
    yield row("LeTCC", "none", 0.0, smoothed(0.0))
    if cell["noise"]:
        λ = _by_theory(cell, np.concatenate([draw.inputs for draw in draws], axis=1))
        yield row("LeTCC", "rule", λ, smoothed(λ))
        yield row("LeTCC", "gcv", np.nan, smoothed("gcv"))
        tried = {λ: smoothed(λ) for λ in config.grid}
        best = min(tried, key=lambda λ: float(tried[λ].mean()))
        yield row("LeTCC", "oracle", best, tried[best])
    if _with_kernel(config, cell):
        yield row("KernelCode", "none", np.nan, _errors(cell, draws, cm.KernelCode(*budget)))


def _with_kernel(config: Config, cell: Cell) -> bool:
    counts = config.noisy_stragglers if cell["noise"] else config.stragglers
    return (
        cell["sweep"] == "N"
        and cell["kind"] == "random"
        and cell["stragglers"] == max(counts)
        and config.tasks <= cell["workers"] <= config.kernel_workers
    )


def _errors(cell: Cell, draws: list[_Draw], code: cm.contracts.Code) -> np.ndarray:
    function, unit = FUNCTIONS[cell["function"]], variance(cell["function"])
    errors = []
    for inputs, answered, seed in draws:
        truth, rng = function.grouped(inputs), np.random.default_rng(seed)
        noise = cell["noise"] * unit**0.5
        (score,) = played(function.call, code, inputs, truth, [answered], noise, rng)
        errors.append(score.rmse**2 / unit)
    return np.array(errors)


def _by_theory(cell: Cell, inputs: np.ndarray) -> float:
    """The decoder's λ by the theory's rule, λ_d = (σ² / (N J))^{4/5} with J = ∫ (f∘u_e)''².

    The paper has an error of order S^{8/5} N^{-3/5} for λ_d of order N^{-4/5}. The rest is derived
    here. With gaps of up to Δ ~ S/N on the curve, energy and sampling inequalities bound the
    decoder's bias b and the noise v of its output over the curve::

        ∫b² ≲ S λ J,            ∫b''² ≲ J
        ∫v² ≲ S σ² / (N λ^¼),   ∫v''² ≲ σ² / (N λ^{5/4})

    as long as S λ ≥ Δ⁴; at a single point h² ≲ (∫h²)^¾ (∫h''²)^¼, so that

        error ≲ S^¾ (λ^¾ J + σ² / (N λ^½)).

    Both terms have the same power of S, so the λ that balances them does not depend on S, and the
    error is of order S^{3/4} N^{-3/5}, within the paper's bound. J is measured on the curves of all
    repetitions, without noise. Users know neither J nor, usually, σ.
    """
    function, fine = FUNCTIONS[cell["function"]], 513
    curves = function.grouped(LeTCC(len(inputs), fine, 0).encode(inputs).payloads)
    at = -np.cos(np.pi * np.arange(fine) / (fine - 1))
    bend = CubicSpline(at, curves.reshape(fine, -1))(at, 2)
    bending = float(np.trapezoid(bend**2, at, axis=0).mean())
    noise = cell["noise"] ** 2 * variance(cell["function"])
    return float((noise / (cell["workers"] * bending)) ** 0.8)


EXPERIMENT = Experiment("rates", configure, cells, compute, plot, report)
