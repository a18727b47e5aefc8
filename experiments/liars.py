"""Who catches whom: liars of eight kinds against every code that looks for them.

All workers answer; some of them lie, in all of their answers. A wave draws its rows and its liars
anew, and all codes and kinds of lies meet the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

import codedmap as cm

from . import functions
from .harness import Cell, Experiment, Row
from .liars_report import plot, report
from .replay import answers_of, cut_for
from .stats import mean_interval

__all__ = ["EXPERIMENT", "LIES", "Settings"]

SAME = 1e-6
"""Of the outputs' deviation: a row marked exact that is further off was marked wrongly."""


@dataclass(frozen=True)
class Settings:
    """What is tried, and how often."""

    functions: tuple[str, ...]
    cases: tuple[tuple[int, int, int], ...]
    """N, K, and how many lie."""
    waves: int
    groups: int
    quick: bool


def _configure(quick: bool) -> Settings:
    if quick:
        return Settings(("tanh-network", "lenet-mnist"), ((60, 20, 6), (25, 20, 1)), 3, 3, quick)
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
        {"function": name, "N": N, "K": K, "liars": liars}
        for N, K, liars in settings.cases
        for name in settings.functions
    ]


class Honest(NamedTuple):
    """What would have been answered, and who does not say so."""

    answers: np.ndarray
    """(N, B, *y)."""
    liars: np.ndarray
    """Their slots."""
    middle: np.ndarray
    """(*y,): the outputs' mean."""
    deviation: np.ndarray
    """(*y,): and deviation."""


def _noise(told: Honest, rng: np.random.Generator) -> np.ndarray:
    return told.middle + 5.0 * told.deviation * rng.standard_normal(told.answers[told.liars].shape)


def _flipped(told: Honest, rng: np.random.Generator) -> np.ndarray:
    return -told.answers[told.liars]


def _nan(told: Honest, rng: np.random.Generator) -> np.ndarray:
    return np.full_like(told.answers[told.liars], np.nan)


def _colluding(told: Honest, rng: np.random.Generator) -> np.ndarray:
    agreed = told.middle + 2.0 * told.deviation * rng.standard_normal(told.middle.shape)
    return np.broadcast_to(agreed, told.answers[told.liars].shape)


def _swapped(told: Honest, rng: np.random.Generator) -> np.ndarray:
    """Each gives the answers of another worker."""
    return told.answers[(told.liars + rng.integers(1, len(told.answers))) % len(told.answers)]


def _stale(told: Honest, rng: np.random.Generator) -> np.ndarray:
    """Each is one group behind."""
    return np.roll(told.answers[told.liars], 1, axis=1)


def _stuck(told: Honest, rng: np.random.Generator) -> np.ndarray:
    """Each gives its first answer to all groups."""
    own = told.answers[told.liars]
    return np.broadcast_to(own[:, :1], own.shape)


def _biased(told: Honest, rng: np.random.Generator) -> np.ndarray:
    return told.answers[told.liars] + 0.1 * told.deviation


LIES: dict[str, Callable[[Honest, np.random.Generator], np.ndarray]] = {
    "gross noise": _noise,
    "sign flipped": _flipped,
    "not a number": _nan,
    "collusion": _colluding,
    "swapped": _swapped,
    "stale": _stale,
    "stuck": _stuck,
    "small bias": _biased,
}
"""By name: what the liars send instead, (liars, B, *y)."""
ALONE = ("gross noise",)
"""Of the case with one liar."""


def _codes(cell: Cell, plan: cm.Plan) -> dict[str, cm.contracts.Code]:
    N, K, liars = cell["N"], cell["K"], cell["liars"]
    codes: dict[str, cm.contracts.Code] = {
        "KernelCode": cm.KernelCode(K, N, 0),
        "planned": plan.code,
        "SplineCode": cm.SplineCode(K, N, 0),
        "bisquare": cm.SplineCode(K, N, 0, decoder_smoothing="gcv", decoder_loss="bisquare"),
        "BerrutCode": cm.BerrutCode(K, N, 0),
        "copies": cm.Replication(K, N, fill="mean"),
    }
    if cell["function"] == "quadratic" and 2 * liars <= N - 2 * (K - 1) - 1:
        codes["LagrangeCode"] = cm.LagrangeCode(K, N, 0, degree=2)
    return codes


def _compute(settings: Settings, cell: Cell, rng: np.random.Generator) -> Iterator[Row]:
    call, inputs, truth = functions.load(cell["function"], settings.quick)
    N, K, liars = cell["N"], cell["K"], cell["liars"]
    order = rng.permutation(len(inputs))
    some = min(10 * K, len(order) // 2)
    # A liar that is caught is an answer that is lost, as a straggler's is.
    plan = cm.plan(
        call, inputs[order[:some]], workers=N, tasks=K, stragglers=liars,
        seed=int(rng.integers(2**31)),
    )  # fmt: skip
    codes = _codes(cell, plan)
    middle, deviation = truth.mean(axis=0), truth.std(axis=0)
    unit = float(np.sqrt((deviation**2).mean()))
    kinds = LIES if liars > 1 else {name: LIES[name] for name in ALONE}
    found: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    for _ in range(settings.waves):
        chosen = rng.choice(order[some:], K * settings.groups, replace=False)
        who = np.sort(rng.choice(N, liars, replace=False))
        seed = int(rng.integers(2**32))
        for name, code in codes.items():
            place = chosen[cut_for(code, inputs[chosen])]
            exact = np.float64 if name == "LagrangeCode" else inputs.dtype
            encoding = code.encode(inputs[place].astype(exact))
            if isinstance(code, cm.Replication):
                answers = truth[place][np.arange(N) % K]
            else:
                answers = np.asarray(answers_of(call, encoding.payloads), np.float64)
            for kind, lie in {"nobody": None, **kinds}.items():
                sent = answers.copy()
                told = Honest(answers, who, middle, deviation)
                if lie is not None:
                    sent[who] = lie(told, np.random.default_rng(seed))
                estimate = encoding.decode(dict(enumerate(sent)))
                found.setdefault((name, kind), []).append(
                    _scored(estimate, truth[place], () if lie is None else tuple(who), unit)
                )
    title = functions.FUNCTIONS[cell["function"]].title
    for (name, kind), waves in found.items():
        caught, dropped, square, wrong, broken = np.array(waves).T
        rmse = np.sqrt(square.mean())
        row: Row = {"title": title, "code": name, "lie": kind, "waves": len(waves)}
        row["groups"] = settings.groups
        row["chosen"] = plan.rows[0].scheme if name == "planned" else ""
        if kind != "nobody":
            share = mean_interval(caught)
            row |= {"caught": share.value, "caught_low": share.low, "caught_high": share.high}
        honest = mean_interval(dropped)
        row |= {"dropped": honest.value, "dropped_low": honest.low, "dropped_high": honest.high}
        error = mean_interval(square)
        row |= {"relative": rmse, "relative_low": np.sqrt(max(0.0, error.low)),
                "relative_high": np.sqrt(error.high), "wrong": wrong.mean(),
                "broken": broken.mean()}  # fmt: skip
        yield row


def _scored(
    estimate: cm.contracts.Estimate, right: np.ndarray, liars: tuple[int, ...], unit: float
) -> tuple[float, float, float, float, float]:
    """Share of liars caught, honest workers dropped, mean squared error of what is finite, shares of
    rows wrongly marked exact and of rows that are not finite.
    """
    rejected = set(estimate.rejected)
    caught = len(rejected & set(liars)) / max(1, len(liars))
    off = (np.asarray(estimate.values, np.float64) - right) / unit
    square = (off.reshape(*right.shape[:2], -1) ** 2).mean(axis=2)
    finite = np.isfinite(square)
    wrong = float((estimate.exact & ~(square <= SAME**2)).mean())
    return caught, len(rejected - set(liars)), square[finite].mean(), wrong, (~finite).mean()


def _reads(settings: Settings, cell: Cell) -> tuple[str | Path, ...]:
    return functions.reads(cell["function"], settings.quick)


EXPERIMENT = Experiment("liars", _configure, _cells, _compute, plot, report, _reads)
