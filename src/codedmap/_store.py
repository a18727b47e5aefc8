"""A sink with its journal: what is done is written, put down, and found again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ._digest import digest
from ._errors import InvalidAnswer, InvalidArgument
from ._journal import Journal
from ._result import MapResult
from ._sink import Columns, Form, Sink, form_of
from ._source import Source
from ._totals import record_of

__all__ = ["Store"]

_LOOKED_AT = 4
"""Waves of an array that are read again when a run is resumed, to tell whether it is the same."""


class Store:
    """Where the waves of a run are kept.

    Parameters
    ----------
    sink : Sink or None
        None: results are not written.
    journal : Journal or None
        None: what is done is not put down.
    """

    def __init__(self, sink: Sink | None, journal: Journal | None) -> None:
        self._sink = sink
        self._journal = journal
        self._form: Form | None = None
        self.records = [] if journal is None else [r for r in journal.records if "rows" in r]
        """Of each wave that is done."""
        self.finished = journal is not None and any("finished" in r for r in journal.records)

    @property
    def rows(self) -> int:
        """How many are done."""
        last = self.records[-1:]
        return sum(last[0][name] for name in ("begin", "rows")) if last else 0

    def catch_up(self, source: Source) -> None:
        """Go on after the rows that are done.

        Raises
        ------
        InvalidArgument
            If the source or what was written are not what they were.
        """
        for record in self._looked_at(source):
            if source.seeks:
                source.seek(record["begin"])
            rows = source.read(record["rows"])
            if rows is None or digest(rows) != record["inputs"]:
                raise InvalidArgument(
                    f"{self._where()}rows {_span(record)} of the source are not those that were computed "
                    "before: go on with the same source, or remove the journal and the outputs to begin "
                    "anew"
                )
        if source.seeks:
            source.seek(self.rows)
        if not self.records or self._sink is None:
            return
        last, form = self.records[-1], self.records[0]["form"]
        self._form = form
        self._sink.open(form, self.rows)
        written = self._sink.read(last["begin"], self.rows)
        if len(written) != last["rows"] or digest(written) != last["values"]:
            raise InvalidArgument(
                f"{self._where()}rows {_span(last)} of {', '.join(self._sink.names)} are not what was "
                "written there before: put it back, or remove the journal and the outputs to begin anew"
            )

    def keep(self, rows: np.ndarray, result: MapResult) -> dict[str, Any]:
        """Write a wave, and then put it down; what is returned has been both."""
        begin = self.rows
        record = {"begin": begin, **record_of(result), "inputs": digest(rows)}
        if self._sink is not None:
            columns: Columns = {"values": result.values, "exact": result.exact}
            if result.stderr is not None:
                columns["stderr"] = result.stderr
            if self._form is None:
                record["form"] = self._form = form_of(columns)
                self._sink.open(self._form, 0)
            columns = _formed(columns, self._form, begin)
            record["values"] = digest(self._sink.write(begin, columns))
        if self._journal is not None:
            self._journal.add(record)
        self.records.append(record)
        return record

    def finish(self) -> None:
        """Put down that there are no more rows."""
        if not self.finished and self._journal is not None:
            self._journal.add({"finished": True})
        self.finished = True

    def close(self) -> None:
        """Let go of the files."""
        for part in (self._sink, self._journal):
            if part is not None:
                part.close()

    def told(self) -> str | None:
        """For people, where rows are and how to go on; None where nothing is written."""
        if self._sink is None or self._journal is None:
            return None
        return (
            f"the {self.rows:,} rows before are in {', '.join(self._sink.names)}, and the same call with "
            "resume=True goes on from there"
        )

    def _looked_at(self, source: Source) -> Iterator[dict[str, Any]]:
        """All that are done, where there is no way around reading them, else some."""
        if not source.seeks:
            yield from self.records
        elif self.records:
            last = len(self.records) - 1
            for at in sorted({round(last * i / (_LOOKED_AT - 1)) for i in range(_LOOKED_AT)}):
                yield self.records[at]

    def _where(self) -> str:
        return "" if self._journal is None else f"{self._journal.path}: "


def _formed(columns: Columns, form: Form, begin: int) -> Columns:
    """The columns in the form that the first ones had."""
    formed, rows = {}, len(columns["exact"])
    for name, (descr, shape) in form.items():
        dtype, wanted = np.lib.format.descr_to_dtype(descr), (rows, *shape)
        array = columns.get(name)
        if array is None:  # standard errors, of which a wave that could be decoded has none
            array = np.where(columns["exact"], 0.0, np.nan)
        if array.shape != wanted and not columns["exact"].any() and array.dtype.kind == "f":
            array = np.full(wanted, np.nan)  # not one answer came, so its shape is unknown
        if array.shape != wanted or not np.can_cast(array.dtype, dtype, "safe"):
            raise InvalidAnswer(
                f"the {name} of rows {begin:,} to {begin + rows - 1:,} have dtype {array.dtype} and rows "
                f"of shape {array.shape[1:]}, and those before dtype {dtype} and shape {tuple(shape)}: "
                "have fn return the same for all rows, or give an array as out= that takes both"
            )
        formed[name] = array.astype(dtype, copy=False)
    return formed


def _span(record: dict[str, Any]) -> str:
    return f"{record['begin']:,} to {record['begin'] + record['rows'] - 1:,}"
