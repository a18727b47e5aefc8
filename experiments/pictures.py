"""Coded images of each scheme, and their distance from real images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

import codedmap as cm

from .harness import Cell, Experiment, Row
from .models import load, reads_of_cell
from .plots import figure

__all__ = ["EXPERIMENT", "Settings"]

SHOWN = 6


@dataclass(frozen=True)
class Settings:
    """Model, budget and number of groups."""

    model: str
    K: int
    N: int
    groups: int
    quick: bool


def _configure(quick: bool) -> Settings:
    return Settings("lenet-mnist", 20, 100, 20 if quick else 50, quick)


def _cells(settings: Settings) -> list[Cell]:
    return [{"model": settings.model, "K": settings.K, "N": settings.N}]


def _compute(settings: Settings, cell: Cell, rng: np.random.Generator) -> Iterator[Row]:
    images = load(settings.model, settings.quick).inputs
    K, N = settings.K, settings.N
    chosen = rng.choice(len(images), (K, settings.groups), replace=False)
    inputs = images[chosen]
    for scheme, code in _codes(K, N).items():
        payloads = code.encode(inputs).payloads
        flat, raw = payloads.reshape(N, settings.groups, -1), inputs.reshape(K, settings.groups, -1)
        away = np.array([
            np.sqrt(((flat[n][None] - raw) ** 2).mean(axis=2)).min(axis=0).mean() for n in range(N)
        ])  # fmt: skip
        beyond = ((flat < raw.min()) | (flat > raw.max())).mean()
        for n in range(N):
            row = {"scheme": scheme, "worker": n, "away": away[n], "beyond": beyond}
            if n in _shown(N):
                pixels = payloads[n, 0].reshape(images.shape[-2:])
                row["picture"] = " ".join(f"{v:.2f}" for v in pixels.ravel())
            yield row
    for k in range(K // 2 - 1, K // 2 - 1 + SHOWN):
        pixels = " ".join(f"{v:.2f}" for v in inputs[k, 0].ravel())
        yield {"scheme": "inputs", "worker": k, "away": 0.0, "beyond": 0.0, "picture": pixels}


def _codes(K: int, N: int) -> dict[str, cm.contracts.Code]:
    return {
        "copies": cm.Replication(K, N),
        "BACC": cm.BerrutCode(K, N, 0),
        "LeTCC": cm.SplineCode(K, N, 0),
        "LeTCC, λ = 1e-5": cm.SplineCode(K, N, 0, encoder_smoothing=1e-5),
    }


def _shown(N: int) -> list[int]:
    """Workers from the middle of the line, where the points are farthest apart."""
    return [N // 2 + 2 * i for i in range(SHOWN)]


def _plot(table: pd.DataFrame, path: Path) -> None:
    schemes = ["inputs", *(s for s in table.scheme.unique() if s != "inputs")]
    with figure(path, len(schemes), SHOWN) as axes:
        for line, scheme in zip(axes, schemes, strict=True):
            rows = table[(table.scheme == scheme) & table.picture.notna()]
            for axis, row in zip(line, rows.itertuples(), strict=True):
                pixels = np.array(row.picture.split(), float)
                side = int(np.sqrt(len(pixels)))
                axis.imshow(pixels.reshape(side, side), cmap="gray", vmin=-0.3, vmax=1.3)
                axis.set_xticks([])
                axis.set_yticks([])
                name = f"input {row.worker}" if scheme == "inputs" else f"worker {row.worker}"
                axis.set_title(name, fontsize=11)
            line[0].set_ylabel(scheme, rotation=0, ha="right", va="center", labelpad=12)


def _report(table: pd.DataFrame) -> str:
    coded = table[table.scheme != "inputs"]
    by = coded.groupby("scheme", sort=False)
    lines = [
        "## Coded images: what the workers receive",
        "",
        "**Question.** A coded input is a mixture of inputs. How far is it from the nearest real input (root mean "
        "square over the pixels, mean over workers)? What share of its pixels is outside the range of the inputs?",
        "",
        "| scheme | distance to the nearest input | pixels out of range |",
        "|---|---|---|",
        *(
            f"| {scheme} | {rows.away.mean():.3f} | {rows.beyond.iloc[0]:.1%} |"
            for scheme, rows in by
        ),
        "",
        "**Conclusion.** The model receives inputs unlike those it was trained on. The farther they are from real "
        "inputs, the less information their answers carry.",
        "",
    ]
    return "\n".join(lines)


EXPERIMENT = Experiment("pictures", _configure, _cells, _compute, _plot, _report, reads_of_cell)
