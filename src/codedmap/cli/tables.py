"""Tables in files: CSV, JSON lines and Parquet."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

import codedmap as cm

from ..api.command import check_commas, json_object, number_in
from ..api.sweep import as_numbers
from ..contracts.arguments import is_real
from ..errors import many
from ..results.summary import encodable
from ..storage.source import extra

Table = dict[str, list[Any]]
"""Columns of one length by name: numbers, texts, booleans, and None where there is nothing."""
_LEADING_ZERO = re.compile(r"[-+]?0\d")  # such as in 007, which is a name and no number
_INFINITE = {math.inf: "Infinity", -math.inf: "-Infinity"}
"""How numbers that JSON does not have are written in it; NaN is null."""


def check_table(name: str, path: Path) -> None:
    """Raise `InvalidArgument` if the ending of a file name is not that of a table."""
    if path.suffix not in _KINDS:
        raise cm.InvalidArgument(
            f"{name} {path} must end in {', '.join(_KINDS)}, which says how a table is kept in it"
        )
    if path.suffix == ".parquet":
        _parquet(f"{name} {path}")


def read_table(name: str, path: Path) -> Table:
    """The table in a file; raises `InvalidArgument` if there is none, or it has no rows."""
    check_table(name, path)
    with path.open("rb") as file:
        try:
            table = _KINDS[path.suffix][0](file)
        except Exception as error:  # a damaged file may raise anything
            hint = ": save it as UTF-8" if isinstance(error, UnicodeDecodeError) else ""
            raise cm.InvalidArgument(f"{name} {path} cannot be read: {error}{hint}") from error
    if not table or not next(iter(table.values())):
        raise cm.InvalidArgument(
            f"{name} {path} has no rows: give the names of columns, and a row for each run"
        )
    return table


def table_writer(path: Path, table: Mapping[str, Sequence[Any]]) -> Callable[[IO[bytes]], None]:
    """A function that writes a table as the name of the file says."""
    return lambda file: _KINDS[path.suffix][1](file, table)


def are_inputs(column: np.ndarray) -> bool:
    """Whether rows can be estimated from a column: it has finite numbers only, or few different texts."""
    rows = as_numbers({"": column})
    return bool(rows.numbers and np.isfinite(rows.points(np.arange(rows.rows))).all())


# CSV ------------------------------------------------------------------------------------------------------


def _read_csv(file: IO[bytes]) -> Table:
    text = file.read().decode("utf-8-sig")
    check_commas(text.lstrip("\r\n").partition("\n")[0].split(","))
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        rows = [(lines.line_num, row) for row in lines if row]
    except csv.Error as error:
        raise ValueError(f"line {lines.line_num}: {error}") from error
    names = [name.strip() for name in rows[0][1]] if rows else []
    _check_names(names)
    columns: list[list[str]] = [[] for _ in names]
    for number, row in rows[1:]:
        if len(row) != len(names):
            raise ValueError(
                f"line {number} has {many(len(row), 'entry')}, and the first {len(names)}"
            )
        for column, cell in zip(columns, row, strict=True):
            column.append(cell.strip())
    return dict(zip(names, map(_parsed, columns), strict=True))


def _parsed(cells: list[str]) -> list[Any]:
    """The entries of a column as integers, else as numbers, else as text: the first that changes none of them."""
    for kind in (_whole, _decimal):
        try:
            return [kind(cell) if cell else None for cell in cells]
        except ValueError:
            continue
    return [cell or None for cell in cells]


def _whole(cell: str) -> int:
    number = int(cell)
    if str(number) != cell:  # 007 and 1_000 are text
        raise ValueError
    return number


def _decimal(cell: str) -> float:
    if _LEADING_ZERO.match(cell):
        raise ValueError
    return number_in(cell)


def _write_csv(file: IO[bytes], table: Mapping[str, Sequence[Any]]) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline="")
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(table)
    lines.writerows(zip(*table.values(), strict=True))
    text.flush()
    text.detach()  # the file is not ours to close


# JSON lines -----------------------------------------------------------------------------------------------


def _read_lines(file: IO[bytes]) -> Table:
    rows = []
    for number, line in enumerate(file.read().decode("utf-8-sig").split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=json_object)
        except json.JSONDecodeError as error:
            raise ValueError(f"line {number}, column {error.colno}: {error.msg}") from error
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f"line {number} is not a JSON object")
        rows.append(row)
    names = list(dict.fromkeys(name for row in rows for name in row))
    _check_names(names)
    return {name: [_from_lines(row.get(name)) for row in rows] for name in names}


def _from_lines(cell: Any) -> Any:
    return float(cell) if cell in _INFINITE.values() else cell


def _write_lines(file: IO[bytes], table: Mapping[str, Sequence[Any]]) -> None:
    for row in zip(*table.values(), strict=True):
        cells = {
            name: _INFINITE.get(cell)
            if isinstance(cell, float) and not math.isfinite(cell)
            else cell
            for name, cell in zip(table, row, strict=True)
        }
        file.write(json.dumps(cells, default=str).encode() + b"\n")


# Parquet --------------------------------------------------------------------------------------------------


def _parquet(what: str = "a table") -> tuple[Any, Any]:
    return extra("pyarrow", what), extra("pyarrow.parquet", what)


def _read_parquet(file: IO[bytes]) -> Table:
    # Without threads: those of pyarrow can abort a short program as it ends.
    opened = _parquet()[1].ParquetFile(file, pre_buffer=False)
    _check_names(opened.schema_arrow.names)
    table: Table = opened.read(use_threads=False).to_pydict()
    return table


def _write_parquet(file: IO[bytes], table: Mapping[str, Sequence[Any]]) -> None:
    pa, parquet = _parquet()
    columns = {
        encodable(name): _parquet_column(list(map(encodable, column)))
        for name, column in table.items()
    }
    parquet.write_table(pa.table(columns), file)


def _parquet_column(column: Sequence[Any]) -> Any:
    """A column as an array of pyarrow; as text if no type holds its entries unchanged."""
    pa, parquet = _parquet()
    cells = _of_one_type(column)
    for kind in (None, pa.uint64()):  # uint64 holds integers beyond int64
        with suppress(OverflowError, TypeError, ValueError, NotImplementedError):
            made = pa.array(cells, kind)
            if pa.types.is_temporal(made.type) and made.to_pylist() != cells:  # without nanoseconds
                break
            if pa.types.is_nested(made.type):  # objects without entries cannot be written
                parquet.write_table(pa.table([made], [""]), io.BytesIO())
            return made
    return pa.array(_as_text(column))


def _of_one_type(column: Sequence[Any]) -> Sequence[Any]:
    """A column whose entries have one type: others become floats, or text if floats would change a number."""
    present = {type(cell) for cell in column if cell is not None}
    if len(present) < 2:
        return column
    if present == {int, float} and all(cell is None or is_real(cell) for cell in column):
        floats = [None if cell is None else float(cell) for cell in column]
        if all(f == c for f, c in zip(floats, column, strict=True) if type(c) is int):
            return floats
    return _as_text(column)


def _as_text(column: Sequence[Any]) -> list[str | None]:
    return [None if cell is None else str(cell) for cell in column]


def _check_names(names: list[str]) -> None:
    if "" in names:
        raise ValueError(f"column {names.index('') + 1} has no name")
    name, count = Counter(names).most_common(1)[0] if names else ("", 0)
    if count > 1:
        raise ValueError(f"two columns are named {name}")


_KINDS: dict[str, tuple[Callable[..., Table], Callable[..., None]]] = {
    ".csv": (_read_csv, _write_csv),
    ".jsonl": (_read_lines, _write_lines),
    ".parquet": (_read_parquet, _write_parquet),
}
