"""The command ``plan``: which code, measured on a sample in one worker process."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

import codedmap as cm

from .engines import engine_named
from .files import Save, rows_in, written
from .names import model_named
from .shell import Command, explained, show, warn

__all__ = ["plan"]

_DRAWN = (".png", ".pdf", ".svg")


@click.command(cls=Command)
@click.argument("model")
@click.argument("sample", type=click.Path(path_type=Path))
@click.option(
    "--workers",
    required=True,
    type=click.IntRange(1),
    metavar="N",
    help="Workers there will be; here one is started.",
)
@click.option(
    "--stragglers",
    type=click.IntRange(0),
    metavar="S",
    help="How many of them will be slow or lost. With --latency-csv by default as few as bring the "
    "99th percentile of a wave's time within a tenth of that of the first half of the answers.",
)
@click.option(
    "--latency-csv",
    type=click.Path(path_type=Path),
    metavar="FILE.csv",
    help="Measured seconds, a row for each round and a column for each worker, empty where no "
    "answer came: who is late is drawn from them, and times are told.",
)
@click.option(
    "--tasks",
    type=click.IntRange(1),
    metavar="K",
    help="How many inputs are coded together. By default chosen too: the most whose error is at "
    "most a tenth of the outputs' deviation.",
)
@click.option(
    "--budget",
    type=click.FloatRange(1),
    metavar="CALLS",
    help="Worker calls an input, N / K, at most; 3 by default, where K is chosen.",
)
@click.option("--seed", type=click.IntRange(0), default=0, metavar="SEED", help="Of all drawing.")
@click.option("--key", metavar="NAME", help="Which array of SAMPLE, if it is an .npz with several.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    metavar="FILE.png",
    help="Draw it as well, as .png, .pdf or .svg; needs matplotlib.",
)
@click.option("--force", is_flag=True, help="Replace the plot if it exists.")
@click.option("--traceback", "full", is_flag=True, help="Print errors in full.")
def plan(
    *,
    model: str,
    sample: Path,
    workers: int,
    stragglers: int | None,
    latency_csv: Path | None,
    tasks: int | None,
    budget: float | None,
    seed: int,
    key: str | None,
    plot: Path | None,
    force: bool,
    full: bool,
) -> int:
    """Measure on a sample which code loses least, before workers are spent on it.

    MODEL is an ONNX file, or module:function in the current directory or on Python's path: it
    takes a batch of rows and returns one row each, of scores and not of labels. SAMPLE is a .npy or
    .npz file with some rows like those to come, in an order like theirs; 10 K of them are used well.

    MODEL computes in one worker process the rows of the sample and the mixtures that each code makes
    of them, some thousands of rows; how many is told. "RMSE/sd" is the expected error in units of the
    outputs' deviation, p95 what 95 % of waves stay below, cost the worker calls an input.

    \b
    Example:
      codedmap plan net.onnx some.npy \\
        --workers 24 --stragglers 4
    """  # noqa: D301  click wants the backspace itself

    def note(text: str) -> None:
        warn(f"codedmap: note: {text}")

    if stragglers is None and latency_csv is None:
        raise click.UsageError(
            "How many workers will be late? Give --stragglers S, or --latency-csv FILE.csv.",
            click.get_current_context(),
        )
    with explained(full), _drawing(plot, force) as write:
        latency = None if latency_csv is None else _measured(latency_csv, workers, note)
        fn, rows = model_named(model, rows_in(sample, key), note)
        with engine_named("local", 1)() as pool:
            try:
                found = cm.plan(
                    cm.engines.Resident(fn, pool),
                    rows,
                    workers=workers,
                    tasks=tasks,
                    stragglers=stragglers,
                    latency=latency,
                    budget=budget,
                    seed=seed,
                    engine=pool,
                )
            except cm.NotEnoughAnswers as error:  # the one worker has failed
                raise _failed(model, sample, error) from error
        if plot is not None:
            figure: Any = found.plot().figure
            kind = plot.suffix[1:]
            write(lambda file: figure.savefig(file, format=kind, dpi=150))
    show(found.text(_columns()))
    return 0


def _failed(model: str, sample: Path, error: cm.NotEnoughAnswers) -> cm.InvalidAnswer:
    """What to say where MODEL gives no answer to the rows themselves."""
    cause = error.__cause__ or error
    if isinstance(cause, cm.errors.WorkerLost):
        return cm.InvalidAnswer(
            f"{model} ended its process for rows of {sample} ({cause}): call it on these rows in Python to "
            "see why"
        )
    return cm.InvalidAnswer(f"{model} raised {type(cause).__name__} for rows of {sample}: {cause}")


def _columns() -> int | None:
    """Of the terminal; None where there is none and nobody says how wide it shall be."""
    told = sys.stdout.isatty() or "COLUMNS" in os.environ
    return shutil.get_terminal_size().columns if told else None


@contextmanager
def _drawing(path: Path | None, force: bool) -> Iterator[Callable[[Save], None]]:
    """What writes the plot, if one is wanted."""
    if path is None:
        yield lambda save: None
        return
    if path.suffix not in _DRAWN:
        raise cm.InvalidArgument(
            f"plot {path} will be a picture: give it a name ending in {', '.join(_DRAWN)}"
        )
    try:
        import matplotlib  # noqa: PLC0415  optional
    except ImportError as error:
        raise cm.InvalidArgument("--plot needs matplotlib: pip install matplotlib") from error
    matplotlib.use("agg")
    with written("plot", path, force) as write:
        yield write


def _measured(path: Path, workers: int, note: Callable[[str], None]) -> cm.latency.Empirical:
    try:
        measured = cm.latency.Empirical.from_csv(path)
    except OSError as error:
        raise cm.InvalidArgument(
            f"times {path} cannot be read ({error.strerror or error}): check the path"
        ) from error
    if measured.workers >= workers:
        return measured
    note(
        f"{path} has the times of {measured.workers} workers: each stands for several of {workers}"
    )
    return cm.latency.Empirical(measured.times, reuse=True)
