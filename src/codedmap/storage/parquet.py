"""Answers in a Parquet file, which is written in the order of the rows at the end of a job."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InvalidAnswer, InvalidArgument
from ..results.status import Status
from ..results.trees import errors_name, from_arrow
from .digest import checksum
from .journal import writing
from .output import Columns, Form, Output, Runs, form_of, read_at, write_at, written_whole
from .source import extra

_GROUP = 1 << 17  # rows of a row group


class ParquetOutput(Output):
    """A Parquet file with a column for each leaf of the answers, "status", and standard errors if rows are estimated.

    Until the end answers are in a second file, ``name.parquet.spool``, as pieces of Arrow record batches.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.paths = (path, path.with_name(path.name + ".spool"))
        self._pa, self._pq = (
            extra(name, f"out={str(path)!r}") for name in ("pyarrow", "pyarrow.parquet")
        )
        self._file = -1
        self._schema: Any = None  # of all pieces together: a column of nulls alone has no type
        self._pieces: list[
            tuple[Runs, tuple[int, int]]
        ] = []  # rows, and place and size in the spool
        self._estimated: list[tuple[np.ndarray, Columns]] = []  # rows and standard errors
        self._before: Any = None  # a table of the columns before those of the answers

    def open(self, form: Form, rows: int, *, new: bool) -> None:
        self.form = form
        empty = {
            name: np.zeros((0, *shape), np.lib.format.descr_to_dtype(descr))
            for name, (descr, shape) in form.items()
        }
        self._encoded(empty)
        with writing(self.paths[1]):
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | (os.O_TRUNC if new else 0)
            self._file = os.open(self.paths[1], flags, 0o666)

    def resize(self, rows: int) -> None:
        """Does nothing: the spool grows by itself."""

    def blank(self, rows: np.ndarray) -> None:
        """Does nothing: rows without an answer are null, or arrays of nulls."""

    def put_before(self, columns: Columns) -> None:
        super().put_before(columns)
        arrays = {}
        for name, column in columns.items():
            try:
                arrays[name] = self._arrow(name, column)
            except InvalidAnswer as error:
                raise InvalidArgument(
                    f"column {name!r} of the design cannot be written to {self.paths[0].name} ({error.__cause__}): give "
                    "numbers, or text, in all rows, or a path ending in .zarr"
                ) from error
        self._before = self._pa.table(arrays) if arrays else None

    def write_errors(self, runs: Runs, errors: Columns) -> None:
        rows = np.concatenate([np.arange(begin, end) for begin, end in runs])
        self._estimated.append((rows, errors))

    def check_fits(self, columns: Columns) -> None:
        objects = any(column.dtype.hasobject for column in columns.values())
        if objects or form_of(columns) != self.form:
            self._encoded(columns)

    def write(self, runs: Runs, columns: Columns) -> dict[str, Any]:
        data = self._encoded(columns)
        with writing(self.paths[1]):
            begin = os.lseek(self._file, 0, os.SEEK_END)
            write_at(self._file, memoryview(data), begin)
        self._pieces.append((runs, (begin, len(data))))
        return {"values": _checksum(data), "at": [begin, len(data)]}

    def _encoded(self, columns: Columns) -> bytes:
        pa = self._pa
        arrays = [self._arrow(name, column) for name, column in columns.items()]
        table = pa.Table.from_arrays(arrays, names=list(columns))
        before = self._schema
        self._unify(table.schema)
        others = range(0 if self._schema == before else len(self._pieces))
        try:
            for piece in (table, *map(self._table, others)):
                piece.cast(self._schema)
        except pa.ArrowException as error:
            self._schema = before
            raise InvalidAnswer(
                f"some answers do not fit into the type of their column ({error}): return the same dtype for every row"
            ) from error
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        return bytes(sink.getvalue())

    def _unify(self, schema: Any) -> None:
        both = [schema] if self._schema is None else [self._schema, schema]
        try:
            merged = self._pa.unify_schemas(both, promote_options="permissive")
            for field in merged:
                if any(self._changes(old.field(field.name).type, field.type) for old in both):
                    raise self._pa.ArrowTypeError(f"{field.name} would become {field.type}")
            self._schema = merged
        except self._pa.ArrowException as error:
            raise InvalidAnswer(
                f"fn returned values that a column cannot hold beside others ({error}): return the same dtype for "
                "every row"
            ) from error

    def _changes(self, kind: Any, other: Any) -> bool:
        """Whether values of a type change in the other type, which Arrow uses for both."""
        types = self._pa.types
        text = types.is_string(kind) and types.is_binary(other)
        return bool(text or (types.is_decimal(kind) and types.is_floating(other)))

    def _arrow(self, name: str, column: np.ndarray) -> Any:
        pa, kind = self._pa, column.dtype.kind
        if kind in "mM":  # Arrow takes steps of 3 s for seconds
            column = column.astype(f"{kind}8[{np.datetime_data(column.dtype)[0]}]")
        try:
            name.encode()
            if column.ndim == 1:
                array = pa.array(column, from_pandas=column.dtype.hasobject)
                if pa.types.is_binary(array.type) and any(isinstance(v, str) for v in column):
                    raise TypeError("text beside bytes, which it would become")
                # Arrow rounds times among objects to microseconds.
                fine = kind == "O" and any(getattr(value, "nanosecond", 0) for value in column)
                if fine and pa.types.is_timestamp(array.type):
                    array = pa.array(column, pa.timestamp("ns", array.type.tz), from_pandas=True)
                return array
            rows = pa.array(np.ascontiguousarray(column).reshape(-1))
            for size in reversed(column.shape[1:]):
                rows = pa.FixedSizeListArray.from_arrays(rows, size)
            return rows
        except (pa.ArrowException, ArithmeticError, TypeError, ValueError) as error:
            raise InvalidAnswer(
                f"fn returned {name} of dtype {column.dtype}, with values that Parquet cannot hold ({error}): return real "
                "numbers (integers of at most 64 bits), times or text"
            ) from error

    def check(self, runs: Runs, record: Mapping[str, Any]) -> bool:
        begin, size = record["at"]
        data = read_at(self._file, size, begin)
        good = _checksum(data) == str(record["values"])
        if good:
            self._unify(self._pa.ipc.open_stream(data).schema)
            self._pieces.append((runs, (begin, size)))
        return good

    def read(self, rows: np.ndarray) -> Columns:
        table = self._taken(*self._index(int(rows[-1]) + 1), rows)
        return {name: from_arrow(table[name]) for name in self.form or ()}

    def _index(self, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """For each row the number of the piece that holds it, -1 if none does, and its place in that piece."""
        piece, place = np.full(rows, -1, np.int32), np.zeros(rows, np.int32)
        for number, (runs, _) in enumerate(self._pieces):
            at = 0
            for begin, end in runs:
                piece[begin:end] = number
                place[begin:end] = np.arange(at, at + end - begin)[: max(0, rows - begin)]
                at += end - begin
        return piece, place

    def _taken(self, piece: np.ndarray, place: np.ndarray, rows: Any) -> Any:
        """Rows as one table, with nulls for rows that no piece holds."""
        schema = self._schema
        numbers, which = np.unique(piece[rows], return_inverse=True)
        nothing = {field.name: _nothing(field.type) for field in schema}
        empty = self._pa.Table.from_pylist([nothing], schema=schema)
        tables = [self._table(n).cast(schema) if n >= 0 else empty for n in numbers.tolist()]
        firsts = np.r_[0, np.cumsum([len(table) for table in tables])]
        table = self._pa.concat_tables(tables)
        at = firsts[which] + np.where(piece[rows] < 0, 0, place[rows])
        neighbours = len(at) and (np.diff(at) == 1).all()  # they need not be copied
        return table.slice(at[0], len(at)) if neighbours else table.take(at)

    def _table(self, number: int) -> Any:
        begin, size = self._pieces[number][1]
        return self._pa.ipc.open_stream(read_at(self._file, size, begin)).read_all()

    def sync(self, status: np.ndarray) -> None:
        with writing(self.paths[1]):
            if self._file >= 0:
                os.fsync(self._file)

    def finish(self, status: np.ndarray) -> tuple[Any, Any]:
        if not self._pieces and not status.any():  # it was finished before
            return self._reading(), None
        with written_whole(self.paths[0]) as part:
            self._write_file(part, status)
        values = self._reading()
        return values, values if self._estimated else None

    def _reading(self) -> Any:
        return _reading(self.paths[0], () if self._before is None else self._before.column_names)

    def _write_file(self, part: Path, status: np.ndarray) -> None:
        piece, place = self._index(len(status))
        piece[status > Status.ESTIMATED] = -1
        with ExitStack() as stack:
            writer = None
            for begin in range(0, max(1, len(status)), _GROUP):
                group = slice(begin, begin + _GROUP)
                table = self._taken(piece, place, group)
                table = table.append_column("status", self._names(status[group]))
                for name, column in self._errors_of(status[group], begin).items():
                    table = table.append_column(name, self._arrow(name, column))
                if self._before is not None:
                    table = self._pa.table({**_columns(self._before[group]), **_columns(table)})
                if writer is None:
                    writer = stack.enter_context(self._pq.ParquetWriter(part, table.schema))
                writer.write_table(table)

    def _names(self, status: np.ndarray) -> Any:
        """The status of rows as text, as a dictionary, so that the file holds each name once."""
        return self._pa.DictionaryArray.from_arrays(status, [member.name for member in Status])

    def _errors_of(self, status: np.ndarray, begin: int) -> Columns:
        """The standard errors of each column for rows from ``begin`` on; empty if no row is estimated."""
        columns = {}
        unknown = status > Status.ESTIMATED
        for name, like in self._estimated[0][1].items() if self._estimated else ():
            stderr = np.zeros((len(status), *like.shape[1:]), like.dtype)
            stderr[unknown] = np.inf
            for rows, errors in self._estimated:
                inside = (rows >= begin) & (rows < begin + _GROUP)
                stderr[rows[inside] - begin] = errors[name][inside]
            columns[errors_name(name, self.named)] = stderr
        return columns

    def seal(self) -> str:
        if not self.paths[0].exists():
            return ""
        with self.paths[0].open("rb") as file:
            return hashlib.file_digest(file, "blake2b").hexdigest()[:16]

    def discard(self) -> None:
        self.close()
        self.paths[1].unlink(missing_ok=True)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1


def _reading(path: Path, before: Sequence[str]) -> Any:
    """A file whose first columns, ``before``, are no answers, opened for reading; it is pickled as its path."""
    parquet: Any = extra("pyarrow.parquet", "a Parquet file")

    class ParquetFile(parquet.ParquetFile):  # type: ignore[misc]  # pyarrow has no types
        def __reduce__(self) -> Any:
            return _reading, (path.absolute(), before)

    file = ParquetFile(path)
    file.before = before
    return file


def _nothing(kind: Any) -> Any:
    """Null, or a list of nulls: pyarrow before 26 cannot read a null among lists of one size."""
    return [_nothing(kind.value_type)] * kind.list_size if hasattr(kind, "list_size") else None


def _columns(table: Any) -> dict[str, Any]:
    return dict(zip(table.column_names, table.columns, strict=True))


def _checksum(data: bytes) -> str:
    return checksum([np.frombuffer(data, np.uint8)])
