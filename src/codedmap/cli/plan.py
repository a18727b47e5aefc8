"""The command ``plan``: which code, measured on a sample in one worker process."""

# ruff: noqa: RUF009  options are fields, also those that hold a Path
from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

import codedmap as cm

from .engines import engine_named
from .files import Save, rows_in, written
from .names import model_named
from .options import COUNT, PATH, SharedOptions, option, parameters
from .shell import Command, print_result, with_traceback

__all__ = ["plan"]

_FORMATS = (".png", ".pdf", ".svg")


@dataclass(frozen=True, kw_only=True)
class PlanOptions(SharedOptions):
    """Arguments and options of `plan`."""

    stragglers: int | None = option(
        click.IntRange(0),
        "S",
        "How many workers will be slow or lost. With --latency-csv by default the smallest number at "
        "which the 99th percentile of a wave's time is within a tenth of that of the first half of the "
        "answers.",
    )
    latency_csv: Path | None = option(
        PATH,
        "FILE.csv",
        "Measured seconds, a row for each round and a column for each worker, empty where no "
        "answer came: late workers are drawn from them, and times are printed.",
    )
    tasks: int | None = option(
        COUNT,
        "K",
        "How many inputs are coded together. By default chosen too: the most whose error is at "
        "most a tenth of the outputs' deviation.",
    )
    budget: float | None = option(
        click.FloatRange(1),
        "CALLS",
        "Worker calls an input, N / K, at most; 3 by default, where K is chosen.",
    )
    seed: int = option(click.IntRange(0), "SEED", "Of all random draws.", default=0)
    plot: Path | None = option(
        PATH, "FILE.png", "Draw it as well, as .png, .pdf or .svg; needs matplotlib."
    )

    @property
    def latency(self) -> cm.latency.Empirical | None:
        """The measured times, if there are any."""
        if self.latency_csv is None:
            return None
        try:
            measured = cm.latency.Empirical.from_csv(self.latency_csv)
        except OSError as error:
            raise cm.InvalidArgument(
                f"times {self.latency_csv} cannot be read ({error.strerror or error}): check the path"
            ) from error
        if measured.workers >= self.workers:
            return measured
        self.note(
            f"{self.latency_csv} has the times of {measured.workers} workers: each is used for several "
            f"of {self.workers}"
        )
        return cm.latency.Empirical(measured.times, reuse=True)


@click.command(cls=Command, params=parameters(PlanOptions))
def plan(**options: Any) -> int:
    """Measure on a sample which code has the smallest error, before many workers are used.

    MODEL is an ONNX file, or module:function in the current directory or on Python's path: it
    takes a batch of rows and returns one row each, of scores and not of labels. INPUTS is a .npy or
    .npz file with some rows like those to come, in a similar order; about 10 K of them are enough.

    MODEL computes in one worker process the rows of the sample and the mixtures that each code makes
    of them, some thousands of rows; how many is printed. "RMSE/sd" is the expected error in units of
    the outputs' deviation, p95 an error that 95 % of waves stay below, cost the worker calls an input.

    \b
    Example:
      codedmap plan net.onnx some.npy \\
        --workers 24 --stragglers 4
    """  # noqa: D301  click wants the backspace itself
    given = PlanOptions(**options)
    if given.stragglers is None and given.latency_csv is None:
        raise click.UsageError(
            "How many workers will be late? Give --stragglers S, or --latency-csv FILE.csv.",
            click.get_current_context(),
        )
    with with_traceback(given.traceback), _plot_file(given.plot, given.force) as write:
        found = _planned(given)
        if given.plot is not None:
            figure: Any = found.plot().figure
            kind = given.plot.suffix[1:]
            write(lambda file: figure.savefig(file, format=kind, dpi=150))
    # A table is as wide as the terminal, and unlimited in a pipe unless COLUMNS says otherwise.
    limited = sys.stdout.isatty() or "COLUMNS" in os.environ
    print_result(found.text(shutil.get_terminal_size().columns if limited else None))
    return 0


def _planned(options: PlanOptions) -> cm.Plan:
    latency = options.latency
    fn, rows = model_named(options.model, rows_in(options.inputs, options.key), options.note)
    with engine_named("local", 1)() as pool:
        try:
            return cm.plan(
                cm.engines.Resident(fn, pool),
                rows,
                workers=options.workers,
                tasks=options.tasks,
                stragglers=options.stragglers,
                latency=latency,
                budget=options.budget,
                seed=options.seed,
                engine=pool,
            )
        except cm.NotEnoughAnswers as error:  # the only worker has failed
            cause, where = error.__cause__ or error, f"for rows of {options.inputs}"
            if isinstance(cause, cm.errors.WorkerLost):
                problem = f"ended its process {where} ({cause}): call it on these rows in Python to see why"
            else:
                problem = f"raised {type(cause).__name__} {where}: {cause}"
            raise cm.InvalidAnswer(f"{options.model} {problem}") from error


@contextmanager
def _plot_file(path: Path | None, force: bool) -> Iterator[Callable[[Save], None]]:
    """A function that writes the plot, if there is to be one."""
    if path is None:
        yield lambda save: None
        return
    if path.suffix not in _FORMATS:
        raise cm.InvalidArgument(
            f"plot {path} will be a picture: give it a name ending in {', '.join(_FORMATS)}"
        )
    try:
        import matplotlib  # noqa: PLC0415  optional
    except ImportError as error:
        raise cm.InvalidArgument("--plot needs matplotlib: pip install matplotlib") from error
    matplotlib.use("agg")
    with written("plot", path, force) as write:
        yield write
