"""The command ``fill``: estimates of what is missing in a table."""

from __future__ import annotations

import csv
import reprlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

import codedmap as cm

from ..api.sweep import as_numbers, column_of
from ..contracts.arguments import is_real
from .files import check_apart, written
from .options import PATH, Options, argument, flag, option, parameters
from .shell import Command, print_result
from .tables import Table, are_inputs, check_table, read_table, table_writer

_STDERR = "_stderr"


def _names(text: str) -> tuple[str, ...]:
    # Read like the first line of a CSV file, because a name may be quoted.
    names = tuple(name.strip() for name in next(csv.reader([text], skipinitialspace=True), ()))
    if not names or "" in names or len(set(names)) < len(names):
        raise click.BadParameter(f"{text!r} must be names of different columns, such as a,b,c")
    return names


@dataclass(frozen=True, kw_only=True)
class FillOptions(Options):
    """Arguments and options of `fill`."""

    table: Path = argument(PATH)
    inputs: tuple[str, ...] = option(
        _names,
        "NAMES",
        "The columns from which others are estimated, such as a,b,c; a name that has a comma is quoted.",
        required=True,
    )
    outputs: tuple[str, ...] | None = option(
        _names,
        "NAMES",
        "The columns to fill; by default all other columns of numbers of which entries are missing.",
    )
    out: Path = option(
        PATH, "FILE", "File for the filled table: .csv, .jsonl or .parquet.", required=True
    )
    failed: bool = flag(
        "Estimate rows with status failed as well: if they failed for reasons that have nothing to do with their inputs."
    )
    force: bool = flag("Replace a file that exists.")
    quiet: bool = flag("Print nothing but errors.")
    traceback: bool = flag("Print errors in full.")


@click.command(
    cls=Command,
    params=parameters(FillOptions),
    short_help="Estimate what is missing in a table of runs.",
)
def fill(**options: Any) -> int:
    """Estimate the entries that are missing in a table of runs, with standard errors.

    TABLE is .csv, .jsonl or .parquet; an entry that is empty or NaN is missing. So is one that was estimated
    before, because its standard error in "y_stderr" is neither 0 nor empty. Rows whose "status" is failed, as
    codedmap sweep writes it, are left as they are.

    The output has the same columns, a standard error for each that was filled, such as "y_stderr" (0 where
    nothing was missing), and the "status" of each row. The exit code is 1 if something is still missing.

    \b
    Example:
      codedmap fill runs.csv \\
        --inputs a,b --out filled.csv
    """  # noqa: D301  click wants the backspace itself
    given = FillOptions(**options)
    check_table("output", given.out)
    check_apart(given.out, given.table)
    table = read_table("table", given.table)
    outputs = _outputs(given, table)
    status = _status(given, table)
    with written("output", given.out, given.force) as write:
        result = _filled(given, table, outputs, status)
        kept = _kept_status(given, table, outputs)
        write(table_writer(given.out, _with(result, table, outputs, kept)))
    if not given.quiet:
        print_result(f"{result}\noutput {given.out}", required=False)
    return int((result.status > cm.Status.ESTIMATED).any())


def _outputs(options: FillOptions, table: Table) -> tuple[str, ...]:
    """The columns to fill; raises `InvalidArgument` if inputs or outputs are missing, or cannot be used."""
    for name in (*options.inputs, *(options.outputs or ())):
        if name not in table:
            raise cm.InvalidArgument(
                f"table {options.table} has no column {name!r}; it has {', '.join(table)}: correct the name"
            )
    for name in options.inputs:
        if not are_inputs(column_of(name, table[name])):
            cells = table[name]
            bad = (row for row, cell in enumerate(cells) if not is_real(cell) or cell - cell != 0)
            first = min(bad, key=lambda row: cells[row] is not None)  # an empty one if any is
            raise cm.InvalidArgument(
                f"{_cell(options, table, name, first)}: inputs must be finite numbers, or text of at most 20 kinds, also "
                "of rows that were lost"
            )
    numbers = _numbers(options, table)
    for name in (f"{number}{_STDERR}" for number in numbers):
        for row in _not_a_number(table.get(name, [])):
            raise cm.InvalidArgument(
                f"{_cell(options, table, name, row)}: a standard error must be a number, or empty"
            )
    incomplete = (n for n in numbers if not n.endswith(_STDERR) and _missing(table, n).any())
    outputs = options.outputs or tuple(incomplete)
    wrong = [name for name in outputs if name not in numbers]
    if wrong or not outputs:
        reasons = [f"{name!r} is an input" for name in wrong if name in options.inputs]
        texts = ((name, _not_a_number(table[name])) for name in wrong or _others(options, table))
        reasons += [_cell(options, table, name, row) for name, rows in texts for row in rows]
        if not wrong:
            reasons.insert(0, "no number is missing")
        raise cm.InvalidArgument(
            f"there is nothing to fill in table {options.table}, because {'; '.join(reasons)}: name columns of numbers by "
            "--outputs, and leave entries empty that are missing"
        )
    for name in (f"{output}{_STDERR}" for output in outputs):
        if name in options.inputs:
            raise cm.InvalidArgument(
                f"{name!r} is an input, and the name of the standard errors of {name.removesuffix(_STDERR)!r}: rename it"
            )
    lacking = [name for name in outputs if f"{name}{_STDERR}" not in table]
    if lacking and "status" in table and _unexplained(table):
        raise cm.InvalidArgument(
            f"rows of table {options.table} have the status estimated, and there is no column {lacking[0]}{_STDERR} that "
            f"says which entries of {lacking[0]!r} are: give the table with its standard errors"
        )
    return outputs


def _cell(options: FillOptions, table: Table, name: str, row: int) -> str:
    shown = reprlib.repr(table[name][row])
    return f"row {row} of table {options.table} (counted from 0) has {shown} as {name!r}"


def _others(options: FillOptions, table: Table) -> list[str]:
    """The columns that may be outputs."""
    return [name for name in table if name not in (*options.inputs, "status", "error")]


def _numbers(options: FillOptions, table: Table) -> list[str]:
    """The columns of numbers that are no inputs."""
    return [n for n in _others(options, table) if not _not_a_number(table[n])]


def _unexplained(table: Table) -> bool:
    """Whether a row is ESTIMATED, and no column of standard errors says which entry of it is."""
    estimated = np.array(table["status"]) == "ESTIMATED"
    for name, cells in table.items():
        if name.endswith(_STDERR) and not _not_a_number(cells):
            estimated &= ~(_floats(cells) > 0.0)
    return bool(estimated.any())


def _kept_status(options: FillOptions, table: Table, outputs: tuple[str, ...]) -> np.ndarray:
    """The status (m,) int of rows in the columns of numbers that are not filled."""
    given = np.array([cm.Status[name] for name in _status(options, table)])
    kept = np.full_like(given, cm.Status.EXACT)
    for name in _numbers(options, table):
        if name not in outputs and not name.endswith(_STDERR):
            estimated = np.where(_missing(table, name), cm.Status.ESTIMATED, cm.Status.EXACT)
            empty = np.isnan(_floats(table[name]))
            kept = np.maximum(kept, np.where(empty, given, estimated))
    return kept


def _not_a_number(cells: list[Any]) -> list[int]:
    """The row of the first entry of a column that is not a number; none if all are."""
    rows = [row for row, cell in enumerate(cells) if not (cell is None or is_real(cell))]
    # In a CSV file one text makes the numbers of its column text as well, and is what to correct.
    return sorted(rows, key=lambda row: not str(cells[row]).strip("+-.0123456789eE"))[:1]


def _missing(table: Table, name: str) -> np.ndarray:
    """(m,) bool: the entries of a column that are missing, or were estimated."""
    values, status = _floats(table[name]), np.array(table.get("status", [""] * len(table[name])))
    errors = _floats(table.get(f"{name}{_STDERR}", [0.0] * len(values)))
    known = (errors == 0.0) | (np.isnan(errors) & (status != "ESTIMATED"))
    return np.asarray(np.isnan(values) | ~known)


def _floats(cells: list[Any]) -> np.ndarray:
    """A column of numbers, NaN where there is none."""
    return np.array(cells, dtype=np.float64)


def _status(options: FillOptions, table: Table) -> list[str]:
    """The status of each row, EXACT if the table has none; raises `InvalidArgument` for an unknown one."""
    known = {status.name for status in cm.Status}
    status = table.get("status", ["EXACT"] * len(table[options.inputs[0]]))
    for row, name in enumerate(status):
        if name not in known:
            raise cm.InvalidArgument(
                f"{_cell(options, table, 'status', row)}, which is none of {', '.join(sorted(known))}: correct it, or "
                "rename the column"
            )
    return status


class _Columns(np.ndarray):
    """An array with names of its columns, which `fill` takes like a data frame."""

    columns: tuple[str, ...]

    @classmethod
    def of(cls, names: tuple[str, ...], array: np.ndarray) -> _Columns:
        made = array.view(cls)
        made.columns = names
        return made


def _filled(
    options: FillOptions, table: Table, outputs: tuple[str, ...], status: list[str]
) -> cm.FillResult:
    answers = np.stack([_floats(table[name]) for name in outputs], axis=1)
    answers[np.stack([_missing(table, name) for name in outputs], axis=1)] = np.nan
    failed = np.array([name == "FAILED" and not options.failed for name in status])
    failed &= np.isnan(answers).all(axis=1)  # `fill` takes no answers of rows that failed
    with options.warnings_noted():
        inputs = as_numbers({n: column_of(n, table[n]) for n in options.inputs})
        points = inputs.points(np.arange(inputs.rows))
        names = tuple(inputs.names(points.shape[1]))
        return cm.fill(_Columns.of(names, points), _Columns.of(outputs, answers), failed=failed)


def _with(
    result: cm.FillResult, table: Table, outputs: tuple[str, ...], kept: np.ndarray
) -> dict[str, list[Any]]:
    """The filled table; a row has the worse of its status in ``result`` and the one it has ``kept``."""
    made: dict[str, list[Any]] = {}
    added = {f"{name}{_STDERR}" for name in outputs}
    for name, cells in table.items():
        if name in outputs:
            k = outputs.index(name)
            known = result.stderr[:, k] == 0.0
            values = result.values[:, k].tolist()
            made[name] = [
                cell if is_known else None if np.isnan(value) else value
                for cell, is_known, value in zip(cells, known, values, strict=True)
            ]
            errors = result.stderr[:, k].tolist()
            made[f"{name}{_STDERR}"] = [error if np.isfinite(error) else None for error in errors]
        elif name not in added and name not in ("status", "error"):
            made[name] = cells
    made["status"] = [cm.Status(one).name for one in np.maximum(result.status, kept).tolist()]
    if "error" in table:
        made["error"] = table["error"]
    return made
