"""Error and label agreement against the number of stragglers, from 0 to N - 2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

import codedmap as cm

from .harness import Cell, Experiment, Row
from .models import Model, load, reads_of_cell
from .papers import BACC, LeTCC
from .plots import SCHEME_COLOURS, figure
from .replay import grouped, played, straggler_sets
from .stats import mean_interval

__all__ = ["EXPERIMENT", "Settings"]


@dataclass(frozen=True)
class Settings:
    """Cases and sample sizes."""

    cases: tuple[tuple[str, int, int], ...]
    """Model, N, K."""
    draws: int
    step: int
    groups: int
    quick: bool


def _configure(quick: bool) -> Settings:
    if quick:
        return Settings((("lenet-mnist", 100, 20), ("tanh-network", 60, 20)), 20, 6, 25, quick)
    cases = (("lenet-mnist", 100, 20), ("repvgg-cifar10", 60, 20), ("tanh-network", 60, 20))
    return Settings(cases, 50, 1, 100, quick)


def _cells(settings: Settings) -> list[Cell]:
    return [{"model": model, "N": N, "K": K} for model, N, K in settings.cases]


@lru_cache(maxsize=1)
def _model(name: str, quick: bool) -> tuple[Model, np.ndarray]:
    model = load(name, quick)
    return model, model.function(model.inputs)


def _compute(settings: Settings, cell: Cell, rng: np.random.Generator) -> Iterator[Row]:
    model, outputs = _model(cell["model"], settings.quick)
    N, K = cell["N"], cell["K"]
    order = grouped(np.arange(len(outputs)), K, rng)[:, : settings.groups]
    inputs, truth = model.inputs[order], outputs[order]
    spread = float(np.sqrt(np.mean(np.var(outputs, axis=0, dtype=np.float64))))
    counts = sorted({*range(0, N - 1, settings.step), N - 2})
    sets = {S: straggler_sets(N, S, settings.draws, rng) for S in counts}
    everything = [one for S in counts for one in sets[S]]
    codes = {
        "BACC": (model.function, BACC(K, N, N - 2)),
        "LeTCC": (model.function, LeTCC(K, N, N - 2)),
        "copies": (None, cm.Replication(K, N, fill="mean")),
    }
    for scheme, (function, code) in codes.items():
        scores = list(played(function, code, inputs, truth, everything))
        for i, S in enumerate(counts):
            part = scores[i * settings.draws : (i + 1) * settings.draws]
            rmse = mean_interval(np.array([score.rmse for score in part]) / spread)
            same = mean_interval(np.array([score.agreement for score in part]))
            yield {
                "title": model.title, "scheme": scheme, "S": S,
                "relative": rmse.value, "relative_low": rmse.low, "relative_high": rmse.high,
                "agreement": same.value if model.scores else np.nan,
                "agreement_low": same.low if model.scores else np.nan,
                "agreement_high": same.high if model.scores else np.nan,
                "sets": settings.draws, "rows": order.size,
            }  # fmt: skip


def _plot(table: pd.DataFrame, path: Path) -> None:
    models = list(table.title.unique())
    with figure(path, 2, len(models)) as axes:
        for column, title in enumerate(models):
            rows = table[table.title == title]
            _panel(axes[0][column], rows, "relative", "RMSE / outputs' sd")
            axes[0][column].set_yscale("log")
            axes[0][column].set_title(f"{title}\nN = {rows.N.iloc[0]}, K = {rows.K.iloc[0]}")
            if rows.agreement.notna().any():
                _panel(axes[1][column], rows, "agreement", "label agreement with the model")
            else:
                axes[1][column].axis("off")
        axes[0][0].legend()


def _panel(axis: Axes, rows: pd.DataFrame, what: str, label: str) -> None:
    for scheme, line in rows.groupby("scheme", sort=False):
        colour = SCHEME_COLOURS[scheme]
        axis.plot(line.S, line[what], color=colour, label=scheme)
        axis.fill_between(
            line.S, line[f"{what}_low"], line[f"{what}_high"], color=colour, alpha=0.25, lw=0
        )
    axis.set_xlabel("stragglers S")
    axis.set_ylabel(label)


def _report(table: pd.DataFrame) -> str:
    lines = [
        "## Error against the number of stragglers",
        "",
        "**Question.** How does the error grow with the number of stragglers, from 0 to N - 2? Means over random "
        "straggler sets, with 95 % bands.",
        "",
        "**Result.** The largest number of stragglers at which the error is below half of the outputs' standard "
        "deviation:",
        "",
        "| model | N, K | " + " | ".join(table.scheme.unique()) + " |",
        "|---|---|" + "---|" * table.scheme.nunique(),
    ]
    for title, rows in table.groupby("title", sort=False):
        entries = []
        for _, line in rows.groupby("scheme", sort=False):
            good = line.S[(line.relative < 0.5).cummin()]
            entries.append(str(int(good.max())) if len(good) else "none")
        N, K = rows.N.iloc[0], rows.K.iloc[0]
        lines.append(f"| {title} | {N}, {K} | " + " | ".join(entries) + " |")
    none = table[table.S == 0].set_index(["title", "scheme"]).relative
    schemes = ("BACC", "LeTCC", "copies")
    lines += [
        "",
        "**Conclusion.** The codes give estimates even without stragglers. Copies are exact at S = 0 and lose single "
        "tasks as S grows. RMSE over the outputs' standard deviation at S = 0:",
        "",
        "| model | " + " | ".join(schemes) + " |",
        "|---" * (len(schemes) + 1) + "|",
        *(
            f"| {title} | " + " | ".join(f"{none[title, scheme]:.2g}" for scheme in schemes) + " |"
            for title in table.title.unique()
        ),
        "",
    ]
    return "\n".join(lines)


EXPERIMENT = Experiment("stragglers", _configure, _cells, _compute, _plot, _report, reads_of_cell)
