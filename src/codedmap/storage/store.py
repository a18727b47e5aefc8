"""A sink with its journal: what is done is written, put down, and found again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import InvalidArgument
from ..results.map_result import MapResult
from ..results.totals import Totals, record_of
from .digest import digest
from .journal import Journal
from .schema import Columns, Form, formed, nothing_known
from .sink import Sink
from .source import Source

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
        self._held: list[tuple[dict[str, Any], Columns]] = []
        told = [] if journal is None else journal.records
        self._before = [record for record in told if "rows" in record]
        self._last = self._before[-1:]
        self.totals = Totals.of(self._before)
        """What all waves that are done came to."""
        self.finished = any("finished" in record for record in told)

    @property
    def rows(self) -> int:
        """How many are done."""
        return _end(self._last)

    @property
    def seen(self) -> int:
        """How many are done, or wait to be written until it is known what answers look like."""
        return _end([record for record, _ in self._held[-1:]]) or self.rows

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
        elif self.finished and source.read() is not None:
            raise InvalidArgument(
                f"{self._where()}the source had {self.rows:,} rows in all, and has more now: go on with the "
                "same source, or remove the journal and the outputs to begin anew"
            )
        if not self._before or self._sink is None:
            return
        last, form = self._before[-1], self._before[0]["form"]
        self._form = form
        self._sink.open(form, self.rows)
        written = self._sink.read(last["begin"], self.rows)
        if len(written) != last["rows"] or digest(written) != last["values"]:
            raise InvalidArgument(
                f"{self._where()}rows {_span(last)} of {', '.join(self._sink.names)} are not what was "
                "written there before: put it back, or remove the journal and the outputs to begin anew"
            )

    def keep(self, rows: np.ndarray, result: MapResult) -> dict[str, Any]:
        """Write a wave, and then put it down; what is returned has been both.

        But for the first waves while not one answer has come: they are written with the next.
        """
        record = {"begin": self.seen, **record_of(result), "inputs": digest(rows)}
        columns: Columns = {}
        if self._sink is not None:
            columns = {"values": result.values, "exact": result.exact}
            if result.stderr is not None:
                columns["stderr"] = result.stderr
        if self._sink is None or self._sink.given or self._form or not nothing_known(columns):
            self._held.append((record, columns))
            self._settle()
        else:
            kept = {name: array.copy() for name, array in columns.items()}  # they are the caller's
            self._held.append((record, kept))
        return record

    def finish(self) -> None:
        """Put down that there are no more rows."""
        self._settle()
        if not self.finished and self._journal is not None:
            self._journal.add({"finished": True})
        self.finished = True

    def _settle(self) -> None:
        """Write all that is held, in the form of the last."""
        while self._held:
            record, columns = self._held[0]
            if self._sink is not None:
                if self._form is None:
                    self._form = self._sink.form(self._held[-1][1])
                made = formed(columns, self._form, record["begin"], given=self._sink.given)
                if not self._last:
                    record["form"] = self._form
                    self._sink.open(self._form, 0)
                record["values"] = digest(self._sink.write(record["begin"], made))
            if self._journal is not None:
                self._journal.add(record)
            self._last = [record]
            self.totals = self.totals.plus(record)
            del self._held[0]

    def close(self) -> None:
        """Let go of the files."""
        for part in (self._sink, self._journal):
            if part is not None:
                part.close()

    def told(self) -> str | None:
        """For people, where rows are and how to go on; None where nothing is written."""
        if self._sink is None or self._journal is None or not self.rows:
            return None
        return (
            f"the {self.rows:,} rows before are in {', '.join(self._sink.names)}, and the same call with "
            "resume=True goes on from there"
        )

    def _looked_at(self, source: Source) -> Iterator[dict[str, Any]]:
        """All that are done, where there is no way around reading them, else some."""
        if not source.seeks:
            yield from self._before
        elif self._before:
            last = len(self._before) - 1
            for at in sorted({round(last * i / (_LOOKED_AT - 1)) for i in range(_LOOKED_AT)}):
                yield self._before[at]

    def _where(self) -> str:
        return "" if self._journal is None else f"{self._journal.path}: "


def _end(records: list[dict[str, Any]]) -> int:
    return records[-1]["begin"] + records[-1]["rows"] if records else 0


def _span(record: dict[str, Any]) -> str:
    return f"{record['begin']:,} to {record['begin'] + record['rows'] - 1:,}"
