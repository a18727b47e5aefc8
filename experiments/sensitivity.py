"""Effect of LeTCC's parameters: both smoothings, the points, and the order of the inputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from .harness import Cell, Experiment, Row
from .models import load, reads_of_cell
from .papers import LeTCC
from .plots import figure
from .replay import grouped, played, straggler_sets
from .stats import mean_interval

__all__ = ["EXPERIMENT", "Settings"]

SMOOTHINGS = (0.0, 1e-12, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4)
ORDERS = ("random", "by the model's label", "by the first principal component")


@dataclass(frozen=True)
class Settings:
    """Cases and sample sizes."""

    cases: tuple[tuple[str, int, int, int], ...]
    """Model, N, K, S."""
    draws: int
    groups: int
    quick: bool


def _configure(quick: bool) -> Settings:
    if quick:
        return Settings((("lenet-mnist", 100, 20, 60),), 20, 20, quick)
    cases = (
        ("lenet-mnist", 100, 20, 60),
        ("lenet-mnist", 25, 20, 3),
        ("repvgg-cifar10", 60, 20, 20),
        ("tanh-network", 60, 20, 20),
        ("x-sin-x", 60, 20, 20),
    )
    return Settings(cases, 50, 50, quick)


def _cells(settings: Settings) -> list[Cell]:
    return [dict(zip(("model", "N", "K", "S"), case, strict=True)) for case in settings.cases]


def _compute(settings: Settings, cell: Cell, rng: np.random.Generator) -> Iterator[Row]:
    model = load(cell["model"], settings.quick)
    N, K, S = cell["N"], cell["K"], cell["S"]
    order = grouped(np.arange(len(model.inputs)), K, rng)[:, : settings.groups]
    inputs = model.inputs[order]
    truth = model.function(inputs.reshape(-1, *inputs.shape[2:]))
    spread = float(np.sqrt(np.mean(np.var(truth, axis=0, dtype=np.float64))))
    truth = truth.reshape(*inputs.shape[:2], *truth.shape[1:])
    sets = straggler_sets(N, S, settings.draws, rng)

    def row(what: str, value: str, code: LeTCC, place: np.ndarray | None = None) -> Row:
        def sorted_as(array: np.ndarray) -> np.ndarray:
            if place is None:
                return array
            return np.take_along_axis(
                array, place.reshape(*place.shape, *[1] * (array.ndim - 2)), 0
            )

        scores = played(model.function, code, sorted_as(inputs), sorted_as(truth), sets)
        mean = mean_interval(np.array([score.rmse for score in scores]) / spread)
        return {"title": model.title, "what": what, "value": value, "relative": mean.value,
                "relative_low": mean.low, "relative_high": mean.high}  # fmt: skip

    for smoothing in SMOOTHINGS:
        code = LeTCC(K, N, S, encoder_smoothing=smoothing)
        yield row("encoder smoothing", f"{smoothing:g}", code)
        code = LeTCC(K, N, S, decoder_smoothing=smoothing)
        yield row("decoder smoothing", f"{smoothing:g}", code)
    for points in ("chebyshev", "uniform"):
        yield row("points", points, LeTCC(K, N, S, points=points))
    for name, place in zip(ORDERS, _orders(inputs, truth), strict=True):
        yield row("order of the inputs", name, LeTCC(K, N, S), place)


def _orders(inputs: np.ndarray, truth: np.ndarray) -> Iterator[np.ndarray | None]:
    """For each order the positions (K, B) of the tasks, group by group."""
    yield None
    yield np.argsort(truth.reshape(*truth.shape[:2], -1).argmax(-1), axis=0, kind="stable")
    flat = inputs.reshape(*inputs.shape[:2], -1).astype(np.float64)
    centred = flat - flat.mean(axis=0)
    gram = np.einsum("kbd,lbd->bkl", centred, centred, optimize=True)
    # The first principal component's scores are the leading eigenvector of the Gram matrix.
    yield np.argsort(np.linalg.eigh(gram)[1][:, :, -1], axis=1).T


def _plot(table: pd.DataFrame, path: Path) -> None:
    table = table.assign(case=[f"{t} ({n}, {k}, {s})" for t, n, k, s in
                               zip(table.title, table.N, table.K, table.S, strict=True)])  # fmt: skip
    kinds = list(table.what.unique())
    with figure(path, 2, 2) as axes:
        for axis, what in zip(axes.ravel(), kinds, strict=True):
            for case, rows in table[table.what == what].groupby("case", sort=False):
                error = [rows.relative - rows.relative_low, rows.relative_high - rows.relative]
                axis.errorbar(rows.value, rows.relative, error, marker="o", capsize=4, label=case)
            axis.set_title(what)
            axis.set_ylabel("RMSE / outputs' sd")
            axis.set_ylim(bottom=0)
            if "smoothing" in what:
                axis.tick_params(axis="x", rotation=45)
        axes[0][0].legend(fontsize=11)


def _report(table: pd.DataFrame) -> str:
    lines = [
        "## Effect of the parameters of LeTCC",
        "",
        "**Question.** LeTCC has two smoothing parameters, a choice of points, and an order of the inputs "
        "along the curve. Which of them matters?",
        "",
        "**Result.** RMSE over the outputs' standard deviation for the default and for the best and the worst "
        "value tried (in parentheses):",
        "",
        "| model, (N, K, S) | parameter | default | best | worst |",
        "|---|---|---|---|---|",
    ]
    for (title, N, K, S, what), rows in table.groupby(["title", "N", "K", "S", "what"], sort=False):
        default, best = rows.iloc[0], rows.loc[rows.relative.idxmin()]
        worst = rows.loc[rows.relative.idxmax()]
        lines.append(
            f"| {title} ({N}, {K}, {S}) | {what} | {default.relative:.3g} ({default.value}) "
            f"| {best.relative:.3g} ({best.value}) | {worst.relative:.3g} ({worst.value}) |"
        )
    gain = table.groupby(["title", "N", "K", "S", "what"], sort=False).relative.agg(
        lambda r: 1 - r.min() / r.iloc[0]
    )
    by = gain.groupby("what", sort=False).max()
    lines += [
        "",
        f"**Conclusion.** The parameter with the largest effect is the {by.idxmax()}. Too much smoothing increases the error. The largest "
        "improvement over the default:",
        "",
        "| parameter | improvement |",
        "|---|---|",
        *(f"| {what} | {share:.0%} |" for what, share in by.items()),
        "",
    ]
    return "\n".join(lines)


EXPERIMENT = Experiment("sensitivity", _configure, _cells, _compute, _plot, _report, reads_of_cell)
