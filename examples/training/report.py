"""The page of results: tables made from the CSV files, and what they say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from . import always, sketched
from .models import MODELS
from .schemes import EACH, SCHEMES
from .table import Run, markdown, read, reading
from .workers import LATENCY, WORKERS, drawn

__all__ = ["page"]


def page(folder: Path) -> str:
    """All that is there, as Markdown."""
    parts = [
        "# Training, measured",
        f"Made by `python -m examples.training`, which needs the extras `train` and `dask`.\n\n{_setting()}",
    ]
    for name, title in (("logistic", "Logistic regression"), ("network", "A small network")):
        table = folder / f"{name}.csv"
        if table.exists():
            runs = read(table)
            parts += [f"## {title}", f"![{title}: loss and accuracy]({name}.png)"]
            for engine in dict.fromkeys(run.engine for run in runs):
                seeds = len({run.seed for run in runs if run.engine == engine})
                parts += [
                    f"### On {_ENGINES[engine]}, {seeds} seed{'s' if seeds > 1 else ''}",
                    markdown(runs, name, engine),
                    f"{reading(runs, name, engine)} {_checked(runs, name, engine)}",
                ]
    for name, title, made in (
        ("always", "Three workers that never answer", always),
        ("sketched", "Sketches", sketched),
    ):
        if (folder / f"{name}.csv").exists():
            results = made.read(folder / f"{name}.csv")
            parts += [f"## {title}", made.setting(results), made.markdown(results)]
    parts.append("")
    return "\n\n".join(parts)


_ENGINES = {"local": "`engines.Local`", "dask": "`engines.Dask`"}


def _checked(runs: Sequence[Run], model: str, engine: str) -> str:
    """What waiting for all should take by the draws alone, beside what it took."""
    ends = {
        run.seed: run.looks[-1]
        for run in runs
        if (run.model, run.engine, run.scheme) == (model, engine, SCHEMES[0].name)
    }
    expected = [
        MODELS[model].slow * drawn(seed, end.step)[0].max(axis=1).mean()
        for seed, end in ends.items()
    ]
    took = [end.seconds / end.step for end in ends.values()]
    return (
        f"By the draws alone, waiting for all would take {np.mean(expected):.3f} s a step, and it took "
        f"{np.mean(took):.3f} s: the rest is computing, sending, and whatever else the machine did."
    )


def _setting() -> str:
    schemes = "\n".join(
        f"| {one.name} | {one.kind} | {one.what} | {one.load:g} |" for one in SCHEMES
    )
    return (
        f"{WORKERS} worker processes; every call sleeps before it computes, for each part that it computes "
        f"the same time, drawn from `{LATENCY!r}`, and {MODELS['network'].slow:g} times as long for the network. All schemes meet the same draws, minibatches "
        f"({EACH} digits of each class from each of {WORKERS} parts) and optimiser (AMSGrad). A straggler is "
        "never ended: its worker is late for the next steps too.\n\n"
        "| scheme | gradient | how | parts a call computes |\n|---|---|---|---|\n" + schemes
    )
