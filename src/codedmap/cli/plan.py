"""The command ``plan``: how to run a job, measured on some of its rows in one worker process."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

import codedmap as cm

from ..errors import many
from .engines import engine_named
from .files import rows_in, written
from .names import model_named
from .options import COUNT, PATH, SharedOptions, duration, option, parameters
from .shell import Command, print_result

_FORMATS = (".png", ".pdf", ".svg")  # endings of the file of a plot


@dataclass(frozen=True, kw_only=True)
class PlanOptions(SharedOptions):
    """Arguments and options of `plan`."""

    workers: int = option(COUNT, "N", "Number of workers.", required=True)
    rows: int | None = option(
        COUNT, "M", "How many inputs the job has; by default as many as INPUTS."
    )
    error: float = option(
        click.FloatRange(0),
        "SHARE",
        "The largest root mean square error over all inputs that is allowed, in standard deviations of the "
        "outputs; 0: every input must be exact.",
        default=0.05,
    )
    deadline: float | None = option(
        duration,
        "TIME",
        "Time within which the job has to end, such as 10m. Then the way with the smallest error is recommended.",
    )
    stragglers: int | None = option(
        click.IntRange(0),
        "S",
        "How many workers may never answer, whichever they are. By default all workers answer, and codes do "
        "without a fifth of them.",
    )
    latency_csv: Path | None = option(
        PATH,
        "FILE.csv",
        "Measured times of calls in seconds, used instead of those that plan measures: a row for each round and a "
        "column for each worker, empty where no answer came.",
    )
    tasks: int | None = option(COUNT, "K", "How many inputs are coded together.")
    budget: float | None = option(
        duration,
        "TIME",
        "Time that planning may take, such as 30s; by default a tenth of the job's, or 0.15 s, whichever is more.",
    )
    seed: int = option(click.IntRange(0), "SEED", "Seed of all random draws.", default=0)
    plot: Path | None = option(
        PATH,
        "FILE.png",
        "Draw time and error of each way, as .png, .pdf or .svg; needs matplotlib.",
    )

    @property
    def latency(self) -> cm.latency.Empirical | None:
        """The measured times, if there are any."""
        if self.latency_csv is None:
            return None
        measured = cm.latency.Empirical.from_csv(self.latency_csv)
        if measured.workers >= self.workers:
            return measured
        self.note(
            f"{self.latency_csv} has the times of {many(measured.workers, 'worker')}: each is used for several "
            f"of {self.workers}"
        )
        return cm.latency.Empirical(measured.times, reuse=True)


@click.command(cls=Command, params=parameters(PlanOptions))
def plan(**options: Any) -> int:
    """Compare the ways to run a job, by some of its rows.

    MODEL is an ONNX file, file.py:function or module:function: it takes a batch of rows and returns one
    row each. INPUTS is a .npy or .npz file with the rows of the job, or some like those to come.

    MODEL computes rows of INPUTS in one worker process while there is time, and its calls are timed.
    The job is then run in virtual time: exactly with late calls sent again, with estimates of what is
    missing at a deadline, with copies, and with codes. "time" is the median, "error" the root mean square
    over all rows in standard deviations of the outputs, "calls" those that a row takes.

    \b
    Example:
      codedmap plan net.onnx some.npy \\
        --workers 24
    """  # noqa: D301  click wants the backspace itself
    given = PlanOptions(**options)
    path = given.plot
    if path is None:
        print_result(str(_planned(given)))
        return 0
    _check_plot(path)
    with written("plot", path, given.force) as write:
        found = _planned(given)
        figure: Any = found.plot().figure
        write(lambda file: figure.savefig(file, format=path.suffix[1:], dpi=150))
    print_result(str(found))
    return 0


def _planned(options: PlanOptions) -> cm.Plan:
    taken = inspect.signature(cm.plan).parameters.keys() & set(dir(options))
    given: Any = {name: getattr(options, name) for name in taken}
    fn, rows = model_named(options.model, rows_in(options.inputs, options.key), options.note)
    with engine_named("local", 1)() as pool:
        return cm.plan(cm.engines.Resident(fn, pool), rows, engine=pool, **given)


def _check_plot(path: Path) -> None:
    """Raise `InvalidArgument` if no picture can be drawn there."""
    if path.suffix not in _FORMATS:
        raise cm.InvalidArgument(
            f"plot {path} will be a picture: give it a name ending in {', '.join(_FORMATS)}"
        )
    if find_spec("matplotlib") is None:
        raise cm.InvalidArgument("--plot needs matplotlib: pip install matplotlib")
