"""The command ``run``: a model on every row of a file, written at the end or as answers come."""

# ruff: noqa: RUF009  options are fields, also those that hold a Path
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click
import numpy as np

import codedmap as cm

from ..storage.store import output_at
from .engines import engine_named
from .files import archive_of, check_apart, check_name, rows_in, written
from .names import CODE_OPTIONS, CODES, code_named, hedge_named, model_named, rule_named
from .options import COUNT, PATH, SharedOptions, flag, option, parameters
from .shell import EPILOG, Command, print_error, print_summary, with_traceback


def _smoothing(text: str) -> float | Literal["gcv"]:
    try:
        return "gcv" if text == "gcv" else float(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is neither a number nor gcv") from None


@dataclass(frozen=True, kw_only=True)
class RunOptions(SharedOptions):
    """Arguments and options of `run`."""

    code: str = option(
        click.Choice(list(CODES)),
        "CODE",
        "How work is spread so that answers may be missing. "
        + " ".join(f"{name}: {row.summary}" for name, row in CODES.items()),
        required=True,
    )
    stragglers: int = option(
        click.IntRange(0),
        "S",
        "How many workers may be slow or lost: the command stops waiting once N - S have answered, if "
        "the code can decode.",
        required=True,
    )
    output: Path = option(
        PATH,
        "FILE",
        "File for the answers: .npz, written at the end, or .npy, .zarr or .parquet, written as they come.",
        required=True,
    )
    chunk: int | None = option(
        COUNT,
        "N",
        "Groups of K inputs that are coded together, and rows of a call; by default all, and for "
        "outputs that are written as answers come as many as take 32 MB.",
    )
    resume: bool = flag("Continue a run that was interrupted; not for .npz.")
    tasks: int | None = option(
        COUNT,
        "K",
        "How many inputs are coded together. By default N - S; for replication N // (S + 1), so that "
        "any S workers may be lost; for uncoded N; for lagrange as many as the degree allows; "
        "not for auto.",
    )
    fill: str | None = option(
        click.Choice(["mean"]),
        "mean",
        "uncoded, replication: estimate lost answers by the mean of the others, instead of waiting "
        "for them.",
    )
    spread: float | None = option(
        click.FloatRange(0, 1),
        "SHARE",
        "kernel: how far mixtures reach towards their neighbours, from 0 (copies) to 1 (an even "
        "path); default 0.2.",
    )
    degree: int | None = option(
        COUNT, "D", "lagrange: total degree of MODEL as a polynomial of its inputs."
    )
    points: str | None = option(
        click.Choice(["chebyshev", "uniform"]), "NAME", "spline: chebyshev (default) or uniform."
    )
    encoder_smoothing: float | Literal["gcv"] | None = option(
        _smoothing,
        "LAMBDA",
        "spline: a number (default 0: interpolate), or gcv to choose it from the inputs.",
    )
    decoder_smoothing: float | Literal["gcv"] | None = option(
        _smoothing,
        "LAMBDA",
        "spline: a number (default 0), or gcv to choose it from the answers; for noisy ones.",
    )
    order: str | None = option(
        click.Choice(["path"]),
        "path",
        "spline, berrut: order the rows along a short path through the inputs, if they have no order "
        "of their own.",
    )
    engine: str = option(
        str,
        "NAME[:ADDRESS]",
        "Where workers run; local: processes on this machine; dask:ADDRESS of a scheduler; ray: a "
        "cluster of which this machine is a node, or else one that is started here; ray:ADDRESS.",
        default="local",
        show_default=True,
    )
    quorum: int | None = option(COUNT, "Q", "Wait for this many answers instead of N - S.")
    tolerance: float | None = option(
        click.FloatRange(0),
        "STDERR",
        "Wait until every standard error is at most this, in the units of the outputs, instead of "
        "for N - S answers; for codes that have standard errors.",
    )
    deadline: float | None = option(
        click.FloatRange(0, min_open=True),
        "SECONDS",
        "Wait no longer than this, and decode the answers that have come. Without it, the command "
        "waits for a worker that hangs if it needs its answer.",
    )
    hedge_after: str | None = option(
        str,
        "WHEN",
        "Send tasks without an answer once more, to idle workers, and take the first answer: after "
        "so many seconds, such as 0.5, or once a share of the workers has answered, such as 90%.",
    )
    partial: bool = flag(
        "When there are not enough answers, write those that came (NaN for the rest) before exiting "
        "with 1."
    )
    quiet: bool = flag("Print nothing but errors.")

    @property
    def promised(self) -> int:
        """Answers that always come, if no more than S workers are slow or lost."""
        return self.workers - self.stragglers

    def call(self) -> dict[str, Any]:
        """Arguments of `codedmap.map`."""
        given = {name: getattr(self, name) for name in CODE_OPTIONS}
        given = {name: value for name, value in given.items() if value is not None}
        code = code_named(self.code, self.workers, self.stragglers, self.tasks, given)
        common = {
            "chunk": self.chunk,
            "progress": not self.quiet,
            "on_error": "record" if self.partial else "raise",
        }
        hedge = hedge_named(code, self.hedge_after)
        if self.code == "auto":
            for name in ("tasks", "quorum", "hedge_after"):
                if getattr(self, name) is not None:
                    raise cm.InvalidArgument(
                        f"--{name.replace('_', '-')} is what --code auto chooses: leave it out, or name a code"
                    )
            return {
                "code": "auto",
                "deadline": self.deadline,
                "tolerance": self.tolerance,
                **common,
            }
        stop = rule_named(code, self.stragglers, self.quorum, self.tolerance, self.deadline)
        return {"code": code, "stop": stop, "hedge": hedge, **common}

    def model_for(
        self, code: cm.contracts.Code | str, rows: Any
    ) -> tuple[Callable[[Any], Any], Any]:
        """The function, and the rows as it takes them."""
        fn, rows = model_named(self.model, rows, self.note, remote=self.engine != "local")
        if isinstance(code, str):
            return fn, rows
        code.encode(np.zeros((code.tasks, 1), rows.dtype))  # raises if it cannot mix such rows
        return fn, rows

    def note(self, text: str) -> None:
        """Print a note, unless ``quiet``."""
        if not self.quiet:
            super().note(text)

    def summarise(self, result: str) -> None:
        """Print what was computed and where it was written, unless ``quiet``."""
        if not self.quiet:
            print_summary(f"{result}\n  output     {self.output}")

    def falls_short(self, exact: bool, unknown: bool, outcome: str) -> bool:
        """Whether rows are missing, or the stopping rule was not satisfied."""
        ended = outcome == cm.Outcome.NONE_RUNNING.value and self.deadline is None
        failed = unknown or ended or outcome == cm.Outcome.UNSATISFIABLE.value
        return not exact and failed


@click.command(cls=Command, params=parameters(RunOptions), epilog=EPILOG)
def run(**options: Any) -> int:
    """Run MODEL on every row of INPUTS over worker processes, here or on a cluster.

    MODEL is an ONNX file, or module:function in the current directory or on Python's path: it
    takes a batch of rows and returns one row each. INPUTS is a .npy or .npz file; its first axis
    counts the rows.

    An .npz output holds the answers as "values", a row for each row of INPUTS; whether each is
    "exact" and, where the code has them, its standard errors "stderr"; and which workers answered,
    were abandoned, failed or were rejected.

    \b
    Examples:
      codedmap run net.onnx images.npy \\
        --code spline --workers 24 \\
        --stragglers 4 --output out.npz
    \b
      codedmap run physics:energy x.npy \\
        --code replication --workers 9 \\
        --stragglers 2 --output out.npz
    """  # noqa: D301  click wants the backspace itself
    given = RunOptions(**options)
    with with_traceback(given.traceback):
        check_apart(given.output, given.inputs, given.model)
        if given.output.suffix in (".npy", ".zarr", ".parquet"):
            return _run_stored(given)
        return _run_at_once(given)


def _run_at_once(options: RunOptions) -> int:
    """Write all answers at the end."""
    if options.output.suffix != ".npz":
        raise cm.InvalidArgument(
            f"output {options.output}: give it a name ending in .npz, or in .npy, .zarr or .parquet to have it written "
            "as answers come"
        )
    if options.resume:
        raise cm.InvalidArgument(
            f"--resume is for outputs that are written as answers come, and {options.output} is written at the end: "
            "give it a name ending in .npy, or leave the option out"
        )
    with written("output", options.output, options.force) as write:
        start, call = engine_named(options.engine, options.workers), options.call()
        fn, rows = options.model_for(call["code"], rows_in(options.inputs, options.key))
        with start() as pool:
            kept = cm.engines.Resident(fn, pool) if isinstance(fn, cm.OnnxModel) else fn
            result = cm.map(kept, rows, engine=pool, **call)
        if not options.partial:
            _check_none_missing(result)
        arrays = archive_of(result, result.code)
        write(lambda file: np.savez(file, **arrays))
    options.summarise(str(result))
    return _exit_code(options, result)


def _exit_code(options: RunOptions, result: cm.MapResult) -> int:
    """The exit code of a run; prints a note on estimates without error bars."""
    if result.stderr is None and len(result.answered) < options.promised and not result.exact.all():
        options.note(
            f"only {len(result.answered)} of the {options.promised} answers that --stragglers "
            f"{options.stragglers} counts on had come: {options.code} has no error bars, and these "
            "estimates may be far off"
        )
    unknown = bool((result.status >= cm.Status.FAILED).any())
    return int(options.falls_short(bool(result.exact.all()), unknown, result.outcome.value))


def _check_none_missing(result: cm.MapResult) -> None:
    missing = result.status >= cm.Status.FAILED
    if missing.any():
        raise cm.NotEnoughAnswers(
            f"{missing.sum():,} of {len(missing):,} rows have no answer because {result.outcome.value}: allow more "
            "time, or write what there is with --partial"
        )


def _run_stored(options: RunOptions) -> int:
    """Write answers as they come; what is done can be resumed."""
    journal = options.output.with_name(f"{options.output.name}.journal")
    check_name("output", options.output)
    check_name(f"output {options.output}: its journal,", journal)
    if options.force:
        raise cm.InvalidArgument(
            f"--force is for .npz outputs: remove {options.output} and its journal to begin anew"
        )
    output_at(options.output, resume=options.resume)
    start, call = engine_named(options.engine, options.workers), options.call()
    if options.code == "auto":
        raise cm.InvalidArgument(
            "--code auto is for .npz outputs: codedmap plan says which code to use for others"
        )
    if options.resume and not journal.exists():
        options.note(
            f"there is no journal {journal}, so there is nothing to resume: this run begins"
        )
    rows = _Rows(rows_in(options.inputs, options.key, mapped=True))
    fn, rows = options.model_for(call["code"], rows)
    with _notes_printed(), start() as pool:
        resident = cm.engines.Resident(fn, pool)
        result = cm.map(
            resident, rows, engine=pool, out=options.output, resume=options.resume, **call
        )
    options.summarise(str(result))
    if not options.partial:
        _check_none_missing(result)
    return _exit_code(options, result)


@contextmanager
def _notes_printed() -> Iterator[None]:
    """If a run ends early, say how to go on with it."""
    try:
        yield
    except BaseException as error:
        for note in getattr(error, "__notes__", ()):
            text = note.replace("the same call with resume=True", "the same command with --resume")
            print_error(f"codedmap: {text}")
        raise


class _Rows:
    """Rows of a file, cast when they are read and not before: all of them may not fit into memory."""

    def __init__(self, rows: Any, dtype: Any = None) -> None:
        self._rows, self.shape = rows, rows.shape
        self.dtype = np.dtype(rows.dtype if dtype is None else dtype)

    def astype(self, dtype: Any) -> _Rows:
        return _Rows(self._rows, dtype)

    def __getitem__(self, which: slice) -> np.ndarray:
        with np.errstate(over="ignore"):  # `map` reports rows that became infinite
            return np.asarray(self._rows[which]).astype(self.dtype, copy=False)
