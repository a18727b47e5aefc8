"""The command ``run``: a model on every row of a file, written at the end or as answers come."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

import codedmap as cm

from ..storage.store import output_at
from .engines import engine_named
from .files import archive_of, check_apart, check_archivable, rows_in, written
from .names import CODES, HEDGES, RULES, in_python, model_named, summary_of
from .options import (
    COUNT,
    PATH,
    SharedOptions,
    duration,
    flag,
    max_failures,
    on_timeout,
    option,
    parameters,
)
from .shell import EPILOG, Command, print_error, print_result, with_options


@dataclass(frozen=True, kw_only=True)
class RunOptions(SharedOptions):
    """Arguments and options of `run`."""

    code: str | None = option(
        str,
        "CODE",
        "A code, written as in Python, such as 'SplineCode(20, 24, 4)'; or auto: chosen by the first answers. By "
        "default no code is used: a worker that is free gets the next rows, and all are exact. The codes are below.",
    )
    workers: int | None = option(
        COUNT, "N", "Number of workers; by default as many as the code has, or as there are cores."
    )
    out: Path = option(
        PATH,
        "FILE",
        "File for the answers: .npz, written at the end, or .npy, .zarr or .parquet, written as they come.",
        required=True,
    )
    chunk: int | None = option(
        COUNT,
        "N",
        "With a code, groups of K inputs that are coded together; without one, rows of a call. By default all groups, "
        "or as many as take 32 MB if answers are written as they come.",
    )
    resume: bool = flag("Continue a run that was interrupted; not for .npz.")
    engine: str = option(
        str,
        "NAME[:ADDRESS]",
        "Where workers run. local: processes on this machine; dask:ADDRESS: the cluster of this scheduler; "
        "ray:ADDRESS: this cluster; ray: the cluster of this machine, or one that is started for this run.",
        default="local",
    )
    stop: str | None = option(
        str,
        "RULE",
        "When to stop waiting, written as in Python, such as 'Quorum(20) | Deadline(2)'. With a code by default "
        f"'Quorum(N - S) & Decodable()'. The rules are {', '.join(RULES)}.",
    )
    tolerance: float | None = option(
        click.FloatRange(0),
        "STDERR",
        "Stop when every standard error is at most this, in the units of the outputs; for codes that have standard "
        "errors, and without a code.",
    )
    deadline: float | None = option(
        duration,
        "TIME",
        "Wait no longer than this, such as 10m. Then the answers so far are decoded, or, without a code, the missing "
        "rows are estimated. Without a deadline the command waits for a worker that hangs if it needs its answer.",
    )
    timeout: float | None = option(
        duration, "TIME", "How long a row may run; its worker is then ended, and the row fails."
    )
    on_timeout: str = on_timeout()
    hedge: str | None = option(
        str,
        "HEDGE",
        "How late calls are sent again, written as in Python, such as 'Hedge(budget=0.1)', or with a code "
        "'Hedge(after=Quorum(20))'.",
    )
    partial: bool = flag(
        "When there are not enough answers, write those that came (NaN for the rest) before exiting "
        "with 1."
    )
    max_failures: int | None = max_failures("With --partial: if")
    quiet: bool = flag("Print nothing but errors.")

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of `codedmap.map`."""
        given: dict[str, Any] = {
            "code": self.code,
            "deadline": self.deadline,
            "tolerance": self.tolerance,
            "chunk": self.chunk,
            "progress": not self.quiet,
            "on_error": "record" if self.partial else "raise",
            "call_timeout": self.timeout,
            "on_timeout": self.on_timeout,
            "max_failures": self.max_failures,
        }
        if self.code not in (None, "auto"):
            given["code"] = in_python("--code", str(self.code), CODES, "SplineCode(20, 24, 4)")
        if self.stop is not None:
            given["stop"] = in_python("--stop", self.stop, RULES, "Quorum(20) | Deadline(2)")
        if self.hedge is not None:
            given["hedge"] = in_python("--hedge", self.hedge, HEDGES, "Hedge(budget=0.1)")
        return given


def _codes() -> str:
    lines = []
    for name in CODES:
        lines += [f"  {name}", *textwrap.wrap(summary_of(name), 44)]
    text = "\n".join(line if line.startswith("  ") else f"    {line}" for line in lines)
    return f"\b\nCodes (K tasks, N workers, S may be slow or lost):\n{text}\n"


@click.command(
    cls=Command,
    params=parameters(RunOptions),
    short_help="Run a model or function on every row of a file.",
    epilog=f"{_codes()}\n{EPILOG}",
)
def run(**options: Any) -> int:
    """Run MODEL on every row of INPUTS over worker processes, here or on a cluster.

    MODEL is an ONNX file, file.py:function or module:function: it takes a batch of rows and returns one
    row each. INPUTS is a .npy or .npz file; its first axis counts the rows.

    An .npz output holds the answers as "values", a row for each row of INPUTS; whether each is
    "exact" and, where the code has them, its standard errors "stderr"; and which workers answered,
    were abandoned, failed or were rejected.

    \b
    Examples:
      codedmap run net.onnx images.npy \\
        --workers 8 --out out.npz

    \b
      codedmap run net.onnx images.npy \\
        --code "SplineCode(20, 24, 4)" \\
        --out out.npz

    \b
      codedmap run physics:energy x.npy \\
        --code "Replication(3, 9)" \\
        --out out.npz
    """  # noqa: D301  click wants the backspace itself
    given = RunOptions(**options)
    check_apart(given.out, given.inputs, given.model)
    given.check_timeouts()
    stored = given.out.suffix in (".npy", ".zarr", ".parquet")
    result = (_run_stored if stored else _run_at_once)(given)
    if not given.quiet:
        print_result(f"{result}\n  output     {given.out}", required=False)
    if stored and not given.partial:
        _check_none_missing(result, "allow more time with --resume; the output keeps what there is")
    return _exit_code(given, result)


def _run_at_once(options: RunOptions) -> cm.MapResult:
    """Write all answers at the end."""
    if options.out.suffix != ".npz" or options.resume:
        raise cm.InvalidArgument(
            f"output {options.out}: give it a name ending in .npz and leave out --resume, or one in .npy, .zarr or .parquet "
            "to have it written as answers come"
        )
    with written("output", options.out, options.force) as write:
        result = _mapped(options, rows_in(options.inputs, options.key), run=_map_to_archive)
        if not options.partial:
            _check_none_missing(result, "allow more time, or write what there is with --partial")
        arrays = archive_of(result)
        write(lambda file: np.savez(file, **arrays))
    return result


def _run_stored(options: RunOptions) -> cm.MapResult:
    """Write answers as they come; what is done can be resumed."""
    if options.force:
        raise cm.InvalidArgument("--force is for .npz outputs: leave it out")
    _, journal = output_at(options.out, resume=options.resume)
    if options.resume and not journal.exists():
        options.note(
            f"there is no journal {options.out}.journal, so there is nothing to resume: this run begins"
        )
    rows = _Rows(rows_in(options.inputs, options.key, mapped=True))
    try:
        return _mapped(options, rows, out=options.out, resume=options.resume)
    except BaseException as error:
        for note in getattr(error, "__notes__", ()):  # how to go on with the run
            print_error(f"codedmap: {with_options(note)}")
        raise


def _map_to_archive(fn: Any, rows: Any, *, code: Any, **arguments: Any) -> cm.MapResult:
    """As `cm.map`; raises `InvalidAnswer` with the first answers that an .npz output cannot hold, not after the last."""
    if code is not None:  # then answers are arrays of numbers
        return cm.map(fn, rows, code=code, **arguments)
    for result in cm.stream(fn, rows, **arguments):
        check_archivable(result)
    return result


def _mapped(
    options: RunOptions, rows: Any, run: Callable[..., cm.MapResult] = cm.map, **stored: Any
) -> cm.MapResult:
    arguments = options.arguments()
    code = arguments["code"]
    start = engine_named(options.engine, options.workers or getattr(code, "workers", None))
    fn, rows = model_named(options.model, rows, options.note, remote=options.engine != "local")
    if isinstance(code, cm.contracts.Code):
        code.encode(np.zeros((code.tasks, 1), rows.dtype))  # raises if it cannot mix such rows
    with start() as pool, options.warnings_noted():
        return run(cm.engines.Resident(fn, pool), rows, engine=pool, **arguments, **stored)


def _exit_code(options: RunOptions, result: cm.MapResult) -> int:
    """1 if rows are missing, or the stopping rule was not satisfied; notes estimates without error bars."""
    if result.exact.all():
        return 0
    code, answered = result.code, len(result.answered)
    if code is not None and result.stderr is None and answered < code.workers - code.stragglers:
        options.note(
            f"only {answered} of the {code.workers - code.stragglers} answers that {code!r} counts on had come: it has "
            "no error bars, and these estimates may be far off"
        )
    unknown = bool((result.status >= cm.Status.FAILED).any())
    ended = result.outcome is cm.Outcome.NONE_RUNNING and options.deadline is None
    return int(unknown or ended or result.outcome is cm.Outcome.UNSATISFIABLE)


def _check_none_missing(result: cm.MapResult, step: str) -> None:
    missing = result.status >= cm.Status.FAILED
    if missing.any():
        raise cm.NotEnoughAnswers(
            f"{missing.sum():,} of {len(missing):,} rows have no answer because {result.outcome.value}: {step}"
        )


class _Rows:
    """Rows of a file that may not fit into memory: they are cast as they are read."""

    def __init__(self, rows: Any, dtype: Any = None) -> None:
        self._rows, self.shape = rows, rows.shape
        self.dtype = np.dtype(rows.dtype if dtype is None else dtype)

    def astype(self, dtype: Any) -> _Rows:
        return _Rows(self._rows, dtype)

    def __getitem__(self, which: slice) -> np.ndarray:
        with np.errstate(over="ignore"):  # `map` reports rows that became infinite
            return np.asarray(self._rows[which]).astype(self.dtype, copy=False)
