"""The page of results, made from the CSV files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from . import missing, sketched
from .models import MODELS
from .schemes import EACH, SCHEMES
from .table import Run, markdown, read, reading
from .workers import LATENCY, WORKERS, drawn

__all__ = ["page"]


def page(folder: Path) -> str:
    """All results of a folder, as Markdown."""
    parts = [
        "# Training, measured",
        f"`python -m examples.training` generates this page; it needs the extras `train` and `dask`.\n\n{_setting()}",
    ]
    for name, title in (("logistic", "Logistic regression"), ("network", "A small network")):
        table = folder / f"{name}.csv"
        if table.exists():
            runs = read(table)
            parts += [f"## {title}", f"![{title}: loss and accuracy]({name}.png)", _SEEN]
            for engine in dict.fromkeys(run.engine for run in runs):
                seeds = len({run.seed for run in runs if run.engine == engine})
                parts += [
                    f"### On {_ENGINES[engine]}, {seeds} seed{'s' if seeds > 1 else ''}",
                    markdown(runs, name, engine),
                    reading(runs, name, engine),
                    _overhead(runs, name, engine),
                ]
    for name, title, made in (
        ("missing", "Three workers that never answer", missing),
        ("sketched", "Sketches", sketched),
    ):
        if (folder / f"{name}.csv").exists():
            results = made.read(folder / f"{name}.csv")
            parts += [f"## {title}", made.setting(results), made.markdown(results)]
    parts.append("")
    return "\n\n".join(parts)


_SEEN = (
    "*Top: training loss, lower is better. Bottom: accuracy on held-out digits. Left: against time. Right: against the cost, "
    "the seconds that all workers together compute. A curve that ends further left is cheaper; the bands are standard "
    "deviations over the seeds.*"
)
_ENGINES = {"local": "`engines.Local`", "dask": "`engines.Dask`"}


def _overhead(runs: Sequence[Run], model: str, engine: str) -> str:
    """Simulated and measured time per step of waiting for all."""
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
        f"Waiting for all takes {np.mean(expected):.3f} s per step for the drawn times alone; measured were "
        f"{np.mean(took):.3f} s, which include computing, sending and other load on the machine."
    )


def _setting() -> str:
    schemes = "\n".join(
        f"| {one.name} | {one.kind} | {one.what} | {one.load:g} |" for one in SCHEMES
    )
    return (
        f"{WORKERS} worker processes. Every call sleeps before it computes. Its time per part is drawn from "
        f"`{LATENCY!r}`, times {MODELS['network'].slow:g} for the network. All schemes get the same times, minibatches "
        f"({EACH} digits of each class from each of {WORKERS} parts) and optimiser (AMSGrad). Stragglers are never ended, "
        "so their workers may be late for the next steps as well. The cost is in *worker seconds*: the seconds that all workers together compute.\n\n"
        "| scheme | gradient | method | parts per call |\n|---|---|---|---|\n" + schemes
    )
