"""The command ``sweep``: a program, or a function of a row's values, on every row of a table."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

import codedmap as cm

from ..api.command import WHY, Program
from ..api.sweep import (
    ADDED,
    as_numbers,
    check_call,
    check_columns,
    check_names,
    column_of,
    count_equal,
    signature_of,
)
from ..contracts.arguments import is_real
from ..contracts.memory import cores
from ..errors import many
from ..estimation.surrogate import import_what_is_used
from ..execution.missing import COMPUTING, estimate_missing, time_for_estimates, warn_of_losses
from ..results.status import Status, counts_in_words
from ..results.summary import first_line, outputs_lines, short
from ..storage.digest import fingerprint
from ..storage.journal import Journal, add_record
from ..storage.store import check_begun
from .engines import engine_named
from .files import check_apart, written
from .names import function_named
from .options import (
    COUNT,
    PATH,
    Options,
    argument,
    duration,
    flag,
    max_failures,
    on_timeout,
    option,
    parameters,
)
from .shell import SHARED_EXIT_CODES, Command, print_error, print_result
from .tables import Table, are_inputs, check_table, read_table, table_writer

_REASONS = 5  # reasons of failures that the summary lists, at most
_NUMBER = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?")  # left out where reasons are counted

EPILOG = f"""
\b
Exit codes:
  0    every row is exact, or estimated
       as --deadline or --on-timeout
       allows
  1    rows have failed, or are missing
{SHARED_EXIT_CODES}

Rows that were done stay in the journal beside the output, also after kill -9: the same command with --resume
goes on.
"""


@dataclass(frozen=True, kw_only=True)
class SweepOptions(Options):
    """Arguments and options of `sweep`."""

    given: tuple[str, ...] = argument(nargs=-1, metavar="[MODEL] DESIGN")
    command: str | None = option(
        str,
        "TEXT",
        "A program and its arguments, in place of MODEL. {name} is replaced by the row's value in the column of "
        "this name, {{ is a brace. No shell is used, and each run has a directory of its own.",
    )
    read: str | None = option(
        str,
        "WHAT",
        "What a run of the program gives: stdout.json (the default), a JSON object, list or number on stdout; "
        "stdout, numbers or lines name=value; or a file that it writes in its directory, ending in .json, .csv or "
        ".txt.",
    )
    out: Path = option(
        PATH, "FILE", "File for the table of results: .csv, .jsonl or .parquet.", required=True
    )
    workers: int | None = option(
        COUNT, "N", "How many runs at the same time; by default as many as there are cores."
    )
    deadline: float | None = option(
        duration,
        "TIME",
        "Stop after this time, such as 10m, and estimate the rows that are missing, with standard errors. Without it "
        "nothing is estimated.",
    )
    timeout: float | None = option(
        duration,
        "TIME",
        "How long a run may take; then it is ended, with all that it has started, and the row has failed.",
    )
    on_timeout: str = on_timeout()
    max_failures: int | None = max_failures("If")
    retries: int = option(
        click.IntRange(0),
        "N",
        "How often a run that a signal ended, or whose worker died, is made again. Those that end by an exit code "
        "are not.",
        default=2,
    )
    keep_runs: Path | None = option(
        PATH,
        "DIR",
        "Keep the directories of all runs here, DIR/0 for the first row. By default those of runs that failed are kept, "
        "in a directory named like the output with .runs after it.",
    )
    resume: bool = flag("Go on with a sweep that was interrupted; failed rows are run again.")
    force: bool = flag("Replace an output that exists, and forget what was done before.")
    quiet: bool = flag("Print nothing but errors.")
    traceback: bool = flag("Print errors in full.")

    @property
    def estimating(self) -> str:
        """The option by which rows are estimated, if there is one."""
        if self.deadline is not None:
            return "--deadline"
        return "--on-timeout" if self.on_timeout == "estimate" else ""

    @property
    def design(self) -> Path:
        """The table of inputs."""
        return Path(self.given[-1])

    @property
    def journal(self) -> Path:
        """The file that records the rows that are done."""
        return self.out.with_name(self.out.name + ".journal")

    @property
    def runs(self) -> Path:
        """Where the directories of runs are."""
        return self.keep_runs or self.out.with_name(self.out.name + ".runs")


@click.command(
    cls=Command,
    params=parameters(SweepOptions),
    short_help="Run a program or function on every row of a table.",
    epilog=EPILOG,
)
def sweep(**options: Any) -> int:
    """Run a program, or a Python function, once for every row of a table.

    DESIGN is a table of inputs: .csv, .jsonl (JSON lines) or .parquet. MODEL is file.py:function or
    module:function; it takes the values of a row by the names of the columns, and returns a number, or a
    dict of several. With --command it is left out.

    The output has the columns of DESIGN, the outputs, and for every row its "status" (EXACT, ESTIMATED,
    FAILED or MISSING) and the "error" for which it failed; with --deadline or --on-timeout also a standard
    error for each output, such as "y_stderr".

    \b
    Examples:
      codedmap sweep design.csv \\
        --command "./model --a {a} --b {b}" \\
        --read stdout.json --out runs.csv \\
        --timeout 30

    \b
      codedmap sweep model.py:simulate \\
        design.csv --out runs.parquet
    """  # noqa: D301  click wants the backspace itself
    return _Sweep(SweepOptions(**options)).run()


# What runs in a worker -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Run:
    """Computes a row by its number, and writes its outputs to the journal: nothing that is done is lost."""

    fn: Callable[..., Any] | Program
    columns: Table  # those that ``fn`` takes
    journal: Path
    identity: tuple[int, int]  # of the journal

    def __call__(self, number: str) -> float:
        row, began = int(number), time.perf_counter()
        values = {name: column[row] for name, column in self.columns.items()}
        if isinstance(self.fn, Program):
            answer = self.fn.run(values, str(row))
        else:
            answer = self.fn(**values)
        outputs = _outputs(answer)
        seconds = time.perf_counter() - began
        record = {"row": row, "inputs": _digest(values), "seconds": seconds, "outputs": outputs}
        add_record(self.journal, record, self.identity)
        return seconds


def _digest(values: Mapping[str, Any]) -> str:
    """A checksum of a row, in which 1 equals 1.0: a row added to a CSV file may make a column of integers one of floats."""
    equal = {
        name: float(value) if is_real(value) and value == float(value) else value
        for name, value in values.items()
    }
    text = json.dumps(equal, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _outputs(answer: Any) -> dict[str, Any]:
    if answer is None:
        raise cm.InvalidAnswer("the function returned None: return a number, or a dict of them")
    found: dict[str, Any] = {}
    for name, value in _flat(answer):
        if name in found:
            raise cm.InvalidAnswer(f"two outputs are named {name}: rename one")
        found[name] = value
    if not found:
        raise cm.InvalidAnswer("no outputs were returned: return a number, or a dict of them")
    return found


def _flat(answer: Any, name: str = "") -> Iterable[tuple[str, Any]]:
    """The outputs of an answer by name: "y" is a number alone, and "y_0" the first of several."""
    if is_dataclass(answer) and not isinstance(answer, type):
        answer = asdict(answer)
    if hasattr(answer, "to_dict"):  # of pandas
        answer = answer.to_dict()
    if isinstance(answer, np.ndarray | np.generic):
        answer = answer.tolist()
    if isinstance(answer, Mapping):
        for key, value in answer.items():
            yield from _flat(value, f"{name}_{key}" if name else str(key))
    elif isinstance(answer, list | tuple):
        for number, value in enumerate(answer):
            yield from _flat(value, f"{name or 'y'}_{number}")
    elif answer is None or isinstance(answer, bool | int | float | str):
        yield name or "y", float("nan") if answer is None else answer
    else:
        raise cm.InvalidAnswer(
            f"an output is of type {type(answer).__name__}: return numbers and text, alone or in dicts and lists"
        )


# The command ---------------------------------------------------------------------------------------------------


@dataclass
class _Sweep:
    """A sweep: its table, the records of rows that are done, and why others have failed."""

    options: SweepOptions
    done: dict[int, dict[str, Any]] = field(default_factory=dict)  # records of rows that are exact
    errors: dict[int, BaseException] = field(default_factory=dict)  # why rows have failed
    failed: Collection[int | None] = ()
    """The rows that have failed; if the sweep was interrupted, those of which a run had failed by then."""
    result: cm.MapResult | None = None

    @property
    def seconds(self) -> float:
        """Those since it has begun."""
        return time.monotonic() - self.begun

    def run(self) -> int:
        """Compute the rows, write the table and print a summary; the exit code."""
        self.begun = time.monotonic()
        options = self.options
        self._check_files()
        self.table = read_table("design", options.design)
        self.rows = len(next(iter(self.table.values())))
        self.fn, shown = self._function()
        self.columns = self._columns()
        with written("output", options.out, options.force or options.resume):
            pass  # raises before anything is computed if the output cannot be written
        job = {
            "version": cm.__version__,
            "fn": [shown, fingerprint(self.fn)],
            "row": list(self.columns),
        }
        with ExitStack() as stack:
            journal = Journal(options.journal, job, anew=options.force)
            stack.callback(journal.close)
            self._restore(journal)
            try:
                self._compute(journal)
                journal.sync()
                columns = self._results()
                with written("output", options.out, force=True) as write:
                    write(table_writer(options.out, columns))
            except BaseException:
                self._say_how_to_resume(journal)
                raise
        kept = self._remove_directories(self.errors)
        if not options.quiet:
            print_result(self._summary(kept), required=False)
        return int((self.status > Status.ESTIMATED).any())

    def _check_files(self) -> None:
        options = self.options
        program = options.command is not None
        if len(options.given) != (1 if program else 2):
            raise click.UsageError(
                "with --command there is one argument, DESIGN, and without it there are two, MODEL and DESIGN: "
                f"{len(options.given)} given",
                click.get_current_context(),
            )
        if options.command is None:
            for name in ("read", "keep_runs"):
                if getattr(options, name) is not None:
                    raise cm.InvalidArgument(
                        f"--{name.replace('_', '-')} is for programs: leave it out, or give one by --command"
                    )
        options.check_timeouts()
        check_table("output", options.out)
        check_apart(options.out, *options.given)
        if options.resume and options.force:
            raise cm.InvalidArgument(
                "--resume goes on, and --force begins anew: leave out one of them"
            )
        if not options.force:
            anew = "begin anew with --force"
            check_begun([options.out], options.journal, resume=options.resume, anew=anew)
        if options.resume and not options.journal.exists():
            options.note(f"there is no {options.journal} to resume from, so this sweep begins")

    def _function(self) -> tuple[Callable[..., Any] | Program, str]:
        options = self.options
        if options.command is None:
            name = options.given[0]
            return function_named(name), name
        with options.warnings_noted():
            program = Program(
                options.command,
                options.read or "stdout.json",
                timeout=options.timeout,
                retries=options.retries,
                runs=options.runs,
                keep=options.keep_runs is not None,
            )
        return program, f"{options.command} (read from {program.reads})"

    def _columns(self) -> Table:
        """The columns that the function takes."""
        options, table = self.options, self.table
        check_names(list(table))
        if isinstance(self.fn, Program):
            taken = list(self.fn.names)
            missing = [name for name in taken if name not in table]
            if missing:
                raise cm.InvalidArgument(
                    f"design {options.design} has no column {missing[0]!r}; it has {', '.join(table)}: rename one, or correct "
                    "--command (a brace is written {{)"
                )
        else:
            takes, taken = signature_of(self.fn), list(table)
            if takes is not None:
                if all(p.kind is not p.VAR_KEYWORD for p in takes.parameters.values()):
                    taken = [name for name in takes.parameters if name in table]
                check_call(takes, taken, ())
        columns = {name: table[name] for name in taken}
        arrays = {name: column_of(name, column) for name, column in columns.items()}
        if arrays:
            check_columns(arrays)
            if isinstance(self.fn, Program):
                self.fn.line({name: column[0] for name, column in columns.items()})
            equal = count_equal(arrays)
            if equal:
                which = ", ".join(columns)
                options.note(
                    f"rows whose {which} equal those of an earlier row: {equal:,}; they are run as well"
                )
        for name, column in arrays.items():
            if options.estimating and not are_inputs(column):
                raise cm.InvalidArgument(
                    f"{options.estimating} estimates rows from columns that are finite numbers, or text of at most 20 kinds, and "
                    f"{name!r} of design {options.design} has others: encode them, or leave out {options.estimating}"
                )
        return columns

    # Computing ---------------------------------------------------------------------------------------------

    def _restore(self, journal: Journal) -> None:
        """Take the records of the journal; raises `InvalidArgument` if their inputs are not those of the design."""
        for record in journal.records:
            row = record["row"]
            if row < self.rows:
                values = {name: column[row] for name, column in self.columns.items()}
                if record["inputs"] == _digest(values):
                    continue
            now = "" if row < self.rows else f", which has {many(self.rows, 'row')} now"
            raise cm.InvalidArgument(
                f"{journal.path} has row {row} with other values than design {self.options.design}{now}: go on with the "
                "design as it was (rows may be added at its end), or begin anew with --force"
            )
        self._take(journal.records)

    def _take(self, records: Iterable[dict[str, Any]]) -> None:
        """Keep records of rows; a row without an output that most rows have is failed."""
        self.done = {}
        for record in records:
            self.done.setdefault(record["row"], record)
        counts = Counter(name for record in self.done.values() for name in record["outputs"])
        common = [name for name, count in counts.items() if 2 * count > len(self.done)]
        for row, record in tuple(self.done.items()):
            absent = [name for name in common if name not in record["outputs"]]
            if absent:
                del self.done[row]
                self.errors[row] = cm.InvalidAnswer(
                    f"there is no output {absent[0]}: most rows have it, and this one {', '.join(record['outputs'])}"
                )

    def _compute(self, journal: Journal) -> None:
        """Run the rows that are not done."""
        options = self.options
        self.before = len(self.done)
        rows = [str(row) for row in range(self.rows) if row not in self.done]
        self._remove_directories(())
        if rows:
            if options.command is not None:
                options.runs.mkdir(parents=True, exist_ok=True)
            if options.estimating:
                import_what_is_used()  # now, because the time for estimates is short
            path = options.journal.absolute()
            run = _Run(self.fn, self.columns, path, journal.identity)
            start = engine_named("local", min(options.workers or cores(), len(rows)))
            with start() as engine, options.warnings_noted():
                # The inputs that `map` gets are row numbers, from which it cannot estimate, as it warns.
                warnings.filterwarnings("ignore", "[0-9,]+ rows without an answer are MISSING")
                try:
                    self.result = cm.map(
                        cm.itemwise(run),
                        rows,
                        engine=engine,
                        deadline=self._time_left(COMPUTING),
                        retries=options.retries,
                        call_timeout=options.timeout if options.command is None else None,
                        on_error="record",
                        max_failures=None if self.done else options.max_failures,
                        progress=not options.quiet,
                    )
                except BaseException:
                    # Now: closing the engine makes the runs that go on fail as well.
                    self.failed = {_row_of(why.parent) for why in options.runs.glob(f"*/{WHY}")}
                    raise
            self.failed = self.errors = {int(rows[at]): e for at, e in self.result.failures.items()}
        for error in self.errors.values():
            if isinstance(error, cm.errors.OutputError):
                raise error
        self._take(journal.read())
        for row in self.done:
            self.errors.pop(row, None)

    def _time_left(self, share: float = 1.0) -> float | None:
        deadline = self.options.deadline
        if deadline is None:
            return None
        return max(0.05, share * deadline - self.seconds)

    def _say_how_to_resume(self, journal: Journal) -> None:
        """Print after an error how to go on; if no row is done, remove the journal that this sweep has made."""
        if not journal.in_place:  # another sweep may have made one, and the directories of runs
            return
        self.done = {record["row"]: record for record in journal.read()}
        done = len(self.done)
        if done:
            print_error(
                f"codedmap: {many(done, 'row')} {'is' if done == 1 else 'are'} done and in {journal.path}: the same command with --resume goes on from there"
            )
        elif journal.new:
            journal.path.unlink(missing_ok=True)
        self._remove_directories(set(self.failed) - self.done.keys())

    # Results -----------------------------------------------------------------------------------------------

    def _results(self) -> dict[str, list[Any]]:
        """The table of results; rows without an answer are estimated if there is a deadline."""
        rows, done = range(self.rows), self.done
        names = list(dict.fromkeys(n for record in done.values() for n in record["outputs"]))
        outputs = {
            n: [done[r]["outputs"].get(n) if r in done else None for r in rows] for n in names
        }
        stderr: dict[str, list[Any]] = {}
        self.status = np.full(self.rows, Status.MISSING, np.int8)
        self.status[list(self.errors)] = Status.FAILED
        self.status[list(done)] = Status.EXACT
        late = [
            row for row, error in self.errors.items() if isinstance(error, cm.errors.CallTimeout)
        ]
        if self.options.on_timeout == "fail":
            late = []
        self.status[late] = Status.MISSING
        if self.options.estimating:
            stderr = self._estimate(outputs, late)
        for row in late:
            if self.status[row] == Status.MISSING:
                self.status[row] = Status.FAILED
                few = "fewer than 2 rows have an answer" if stderr else "no output is a number"
                reason = f"{self.errors[row]}. It is not estimated, because {few}"
                self.errors[row] = cm.errors.CallTimeout(reason)
        self.lines = outputs_lines(_arrays(outputs), _arrays(stderr), self.status)
        table: dict[str, list[Any]] = dict(self.table)
        # Even if y has no standard errors: `codedmap fill` would read an output named y_stderr as these.
        taken = {*table, *ADDED, *(f"{name}_stderr" for name in names)}
        for name in names:
            column = name
            while column in taken or f"{column}_stderr" in self.table:
                column += "_out"
            taken.add(column)
            table[column] = outputs[name]
            if name in stderr:
                table[f"{column}_stderr"] = stderr[name]
        table["status"] = [Status(one).name for one in self.status.tolist()]
        lines = {row: " ".join(short(error).split()) for row, error in self.errors.items()}
        table["error"] = [lines.get(row) for row in rows]
        return table

    def _estimate(
        self, outputs: dict[str, list[Any]], late: Collection[int]
    ) -> dict[str, list[Any]]:
        """Estimate the numbers of missing rows in ``outputs``, without a deadline those that ran too long; standard errors."""
        before = self.status.copy()
        done, missing = (np.flatnonzero(before == one) for one in (Status.EXACT, Status.MISSING))
        if self.options.deadline is None:
            missing = np.array(sorted(late), dtype=int)
        numbers = [n for n, cells in outputs.items() if all(is_real(cells[r]) for r in self.done)]
        stderr = {n: [0.0 if r in self.done else None for r in range(self.rows)] for n in numbers}
        texts = [name for name in outputs if name not in numbers]
        if texts and len(missing):
            self.options.note(
                f"{', '.join(texts)} cannot be estimated, and {'are' if len(texts) > 1 else 'is'} empty in rows without an answer"
            )
        if not (numbers and self.columns):
            return stderr
        inputs = as_numbers({n: column_of(n, cells) for n, cells in self.columns.items()})
        answers = np.array([outputs[name] for name in numbers], dtype=np.float64).T
        known = answers.__getitem__
        effort, time_left = time_for_estimates(self, self.options.deadline)
        for found in estimate_missing(inputs, done, missing, known, time_left, effort=effort):
            for row, values, errors in zip(found.rows, found.values, found.stderr, strict=True):
                self.status[row] = Status.ESTIMATED
                for name, value, error in zip(numbers, values, errors, strict=True):
                    outputs[name][row], stderr[name][row] = float(value), float(error)
        if (self.status == Status.ESTIMATED).any():
            with self.options.warnings_noted():
                warn_of_losses(inputs, before, known, time_left)
        return stderr

    def _remove_directories(self, failed: Collection[int | None]) -> bool:
        """Remove directories of runs, except of failed runs of the rows ``failed``; whether any are left."""
        options = self.options
        if options.command is None or options.keep_runs is not None:
            return bool(options.keep_runs)
        for directory in options.runs.glob("*"):
            row = _row_of(directory)
            # A run that was ended at a deadline may have a file with a reason, and its row has not failed.
            kept = row in failed and (directory / WHY).exists()
            if row is not None and not kept:
                shutil.rmtree(directory, ignore_errors=True)
        with suppress(OSError):  # it is not empty, or there is none
            options.runs.rmdir()
        return options.runs.exists()

    def _summary(self, kept: bool) -> str:
        options = self.options
        before = f" ({self.before:,} of them before)" if self.before else ""
        lines = [
            f"{many(self.rows, 'row')} in {self.seconds:.2f} s: {counts_in_words(self.status)}{before}"
        ]
        if self.result is not None:
            lines.append(f"  calls      {self.result.calls}")
        failed = {row: e for row, e in self.errors.items() if self.status[row] == Status.FAILED}
        lines += [*self.lines, *_reasons(failed)]
        if self.done:
            slowest = max(self.done.values(), key=lambda record: record["seconds"])
            lines.append(f"  slowest    row {slowest['row']}, {slowest['seconds']:.2f} s")
        lines.append(f"  output     {options.out}")
        if kept:
            which = "all runs" if options.keep_runs else "the runs that failed"
            lines.append(f"  runs       {options.runs}/ has the files of {which}")
        return "\n".join([*lines, *(f"  next       {step}" for step in self._next_steps())])

    def _next_steps(self) -> list[str]:
        """What can be done about rows that are not exact."""
        steps = []
        late = sum(isinstance(error, cm.errors.CallTimeout) for error in self.errors.values())
        if late:
            steps.append(
                f"{many(late, 'row')} ran too long: allow more with --timeout and --resume"
            )
        if len(self.errors) > late:
            steps.append(
                "see the column error; --resume runs the failed rows again, if the cause is outside the program"
            )
        rest = np.isin(self.status, (Status.ESTIMATED, Status.MISSING))
        rest[list(self.errors)] = False
        if rest.any():
            steps.append("--resume and a later --deadline, or none, make the rest exact")
        return steps


def _row_of(path: Path) -> int | None:
    """The row of the run that a path is the directory of; None if it was made for no run."""
    name = path.name.partition(".")[0]
    files = [file.name for file in path.iterdir()] if path.is_dir() else [""]
    of_run = not files or WHY in files or "stdout" in files
    return int(name) if name.isdecimal() and of_run else None


def _arrays(columns: Table) -> dict[str, np.ndarray]:
    """Columns as arrays (m,), with NaN in empty cells."""
    return {
        name: column_of(name, [np.nan if cell is None else cell for cell in cells])
        for name, cells in columns.items()
    }


def _reasons(errors: Mapping[int, BaseException]) -> list[str]:
    """A line for each of the most frequent reasons for which rows have failed."""
    groups: dict[str, list[int]] = {}
    for row, error in sorted(errors.items()):
        reason = _reason(error)
        own = isinstance(error, cm.CodedmapError)
        groups.setdefault(reason if own else _NUMBER.sub("#", reason), []).append(row)
    most = sorted(groups.values(), key=lambda rows: -len(rows))
    lines = [
        f"{len(rows):,}: {_reason(errors[rows[0]])} (row {rows[0]}{', ...' if len(rows) > 1 else ''})"
        for rows in most[:_REASONS]
    ]
    if len(most) > _REASONS:
        rest = sum(map(len, most[_REASONS:]))
        lines.append(f"{rest:,} for {many(len(most) - _REASONS, 'other reason')}")
    return [f"  {'failed' if k == 0 else '':<10} {line}" for k, line in enumerate(lines)]


def _reason(error: BaseException) -> str:
    """Why a row has failed, in words."""
    if isinstance(error, cm.errors.WorkerCrashed):
        return "ended its worker"
    if isinstance(error, cm.CodedmapError):
        return re.split("[:;\n]", str(error))[0]
    return first_line(error)[:100]
