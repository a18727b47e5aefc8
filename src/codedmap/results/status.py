"""What is known of a row, and how results are shown: by their text, in a notebook as a table."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from html import escape
from typing import Self

import numpy as np

from ..errors import NotEnoughAnswers


class Status(enum.IntEnum):
    """What is known of a row."""

    EXACT = 0
    """Answered on its own input, and not rejected."""
    ESTIMATED = 1
    """Estimated from other answers, with a standard error."""
    FAILED = 2
    """It raised, ended its workers, or ran beyond ``call_timeout`` and is not estimated: see `MapResult.failures`."""
    MISSING = 3
    """No answer, and no estimate."""


def counts_in_words(status: np.ndarray) -> str:
    """How many rows have each `Status`, without those that no row has."""
    counts = ((one.name.lower(), int((status == one).sum())) for one in Status)
    return ", ".join(f"{count:,} {name}" for name, count in counts if count)


class Shown:
    """A result that notebooks show as a table: the columns of its text are two spaces apart, in indented lines."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        parts, rows = [], []
        for line in [*str(self).splitlines(), ""]:
            if line.startswith("  "):
                rows.append(_html_row(re.split(r" {2,}", line.strip())))
                continue
            if rows:
                parts.append(f"<table>{''.join(rows)}</table>")
                rows = []
            parts.append(f"<div>{escape(line)}</div>" if line else "")
        return "".join(parts)


def _html_row(cells: list[str]) -> str:
    # Notebooks align cells to the right, which suits columns of numbers only.
    left = '<td style="text-align: left">'
    first, *others = (escape(cell) for cell in cells)
    start = left if len(others) == 1 else "<td>"
    return f"<tr>{left}{first}</td>{''.join(f'{start}{cell}</td>' for cell in others)}</tr>"


class RowResult(Shown):
    """A result with a `Status` for each row, and why rows have failed."""

    __slots__ = ()
    status: np.ndarray
    failures: Mapping[int, BaseException]

    @property
    def exact(self) -> np.ndarray:
        """(m,) bool: answered on its own input, and not rejected."""
        return np.asarray(self.status == Status.EXACT)

    def check(self) -> Self:
        """The same result, if every row is exact or estimated.

        Raises
        ------
        NotEnoughAnswers
            If a row is FAILED or MISSING.
        """
        failed, missing = ((self.status == one).sum() for one in (Status.FAILED, Status.MISSING))
        if failed or missing:
            first = np.argmax(self.status >= Status.FAILED)
            steps = ["see failures"] * bool(failed) + ["allow more time"] * bool(missing)
            raise NotEnoughAnswers(
                f"{failed} of {len(self.status)} rows failed and {missing} are missing (the first is row {first})",
                *steps,
            ) from next(
                (e for row, e in self.failures.items() if self.status[row] >= Status.FAILED), None
            )
        return self
