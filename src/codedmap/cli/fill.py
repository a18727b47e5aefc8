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
        "The columns to fill; by default all other columns of numbers of which entries are missing. Where one that is "
        "complete is named as well, the others are estimated from it, too.",
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
    _check_names(given, table)
    status, numbers = _status(given, table), _numbers(given, table)
    known = {name: _known(name, numbers, status) for name in numbers}
    values = [name for name in numbers if not name.endswith(_STDERR)]
    outputs = given.outputs or tuple(n for n in values if (known[n] > cm.Status.EXACT).any())
    _check_outputs(given, table, outputs, numbers, status)
    answers = {n: np.where(known[n] == cm.Status.EXACT, numbers[n], np.nan) for n in outputs}
    kept = np.zeros_like(status)
    for found in (known[name] for name in values if name not in outputs):
        kept = np.maximum(kept, np.where(found < cm.Status.MISSING, found, status))
    with written("output", given.out, given.force) as write:
        result = _filled(given, table, answers, status)
        write(table_writer(given.out, _with(result, table, outputs, kept)))
    if not given.quiet:
        print_result(f"{result}\noutput {given.out}", required=False)
    return int((result.status > cm.Status.ESTIMATED).any())


def _check_names(options: FillOptions, table: Table) -> None:
    """Raise `InvalidArgument` if inputs or outputs are missing, or inputs cannot be used."""
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


def _check_outputs(
    options: FillOptions,
    table: Table,
    outputs: tuple[str, ...],
    numbers: dict[str, np.ndarray],
    status: np.ndarray,
) -> None:
    """Raise `InvalidArgument` if these columns cannot be filled."""
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
    unexplained = status == cm.Status.ESTIMATED
    for errors in (column for name, column in numbers.items() if name.endswith(_STDERR)):
        unexplained &= ~(errors > 0.0)
    if lacking and unexplained.any():
        raise cm.InvalidArgument(
            f"rows of table {options.table} have the status estimated, and there is no column {lacking[0]}{_STDERR} that "
            f"says which entries of {lacking[0]!r} are: give the table with its standard errors"
        )


def _cell(options: FillOptions, table: Table, name: str, row: int) -> str:
    shown = reprlib.repr(table[name][row])
    return f"row {row} of table {options.table} (counted from 0) has {shown} as {name!r}"


def _others(options: FillOptions, table: Table) -> list[str]:
    """The columns that may be outputs."""
    return [name for name in table if name not in (*options.inputs, "status", "error")]


def _numbers(options: FillOptions, table: Table) -> dict[str, np.ndarray]:
    """The columns of numbers that are no inputs, NaN where there is none; raises `InvalidArgument` if a standard error is none."""
    names = [n for n in _others(options, table) if not _not_a_number(table[n])]
    for name in (f"{number}{_STDERR}" for number in names):
        for row in _not_a_number(table.get(name, [])):
            raise cm.InvalidArgument(
                f"{_cell(options, table, name, row)}: a standard error must be a number, or empty"
            )
    return {name: np.array(table[name], np.float64) for name in names}


def _not_a_number(cells: list[Any]) -> list[int]:
    """The row of the first entry of a column that is not a number; none if all are."""
    rows = [row for row, cell in enumerate(cells) if not (cell is None or is_real(cell))]
    # In a CSV file one text makes the numbers of its column text as well, and is what to correct.
    return sorted(rows, key=lambda row: not str(cells[row]).strip("+-.0123456789eE"))[:1]


def _known(name: str, numbers: dict[str, np.ndarray], status: np.ndarray) -> np.ndarray:
    """What is known of each entry of a column, (m,): EXACT, ESTIMATED, or MISSING if it is empty."""
    errors = numbers.get(f"{name}{_STDERR}", np.zeros(len(status)))
    exact = (errors == 0.0) | (np.isnan(errors) & (status != cm.Status.ESTIMATED))
    found = np.where(exact, cm.Status.EXACT, cm.Status.ESTIMATED)
    return np.where(np.isnan(numbers[name]), cm.Status.MISSING, found)


def _status(options: FillOptions, table: Table) -> np.ndarray:
    """The status (m,) of each row, EXACT if the table has none; raises `InvalidArgument` for an unknown one."""
    names = table.get("status", ["EXACT"] * len(table[options.inputs[0]]))
    for row, name in enumerate(names):
        if name not in cm.Status.__members__:
            raise cm.InvalidArgument(
                f"{_cell(options, table, 'status', row)}, which is none of {', '.join(sorted(cm.Status.__members__))}: "
                "correct it, or rename the column"
            )
    return np.array([cm.Status[name] for name in names])


class _Columns(np.ndarray):
    """An array with names of its columns, which `fill` takes like a data frame."""

    columns: tuple[str, ...]

    @classmethod
    def of(cls, names: tuple[str, ...], array: np.ndarray) -> _Columns:
        made = array.view(cls)
        made.columns = names
        return made


def _filled(
    options: FillOptions, table: Table, given: dict[str, np.ndarray], status: np.ndarray
) -> cm.FillResult:
    answers = np.stack(list(given.values()), axis=1)
    failed = (status == cm.Status.FAILED) & (not options.failed)
    failed &= np.isnan(answers).any(axis=1)  # those with all answers have nothing to fill
    with options.warnings_noted():
        inputs = as_numbers({n: column_of(n, table[n]) for n in options.inputs})
        points = inputs.points(np.arange(inputs.rows))
        names = tuple(inputs.names(points.shape[1]))
        return cm.fill(_Columns.of(names, points), _Columns.of((*given,), answers), failed=failed)


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
