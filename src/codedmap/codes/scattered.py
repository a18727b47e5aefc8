"""Answers that lie apart in memory, multiplied where they are: to put them side by side takes twice as long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..coding.operators import column_width
from ..contracts.answers import Sheet, matrix, stacked, usable_answers
from ..detection.sketches import looked_at

__all__ = ["Loose", "loose", "side_by_side"]

_LARGE = 8 << 20  # bytes from which answers are left where they are
_BLOCK = 3 << 20  # bytes gathered at a time, which stay in the processor's cache


@dataclass(frozen=True, slots=True, eq=False)
class Loose:
    """Arrays of one shape and dtype, (B, *y), that stand for one of shape (F, B, *y)."""

    rows: tuple[np.ndarray, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.rows), *self.rows[0].shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.rows[0].dtype

    @property
    def columns(self) -> np.ndarray:
        """None of them, (F, 0), for an operator that does not look at them."""
        return np.empty((len(self.rows), 0), self.dtype)

    def __getitem__(self, row: int) -> np.ndarray:
        return self.rows[row]

    def times(self, operator: np.ndarray) -> np.ndarray:
        """``operator @ columns``, (K, columns), gathered a few columns at a time."""
        flat = [row.reshape(-1) for row in self.rows]
        made = np.empty((len(operator), flat[0].size), self.dtype)
        width = min(column_width(operator), max(1, _BLOCK // (len(flat) * self.dtype.itemsize)))
        block = np.empty(len(flat) * min(width, flat[0].size), self.dtype)
        for start in range(0, flat[0].size, width):
            some = [row[start : start + width] for row in flat]
            part = np.concatenate(some, out=block[: len(flat) * some[0].size])
            np.matmul(operator, part.reshape(len(flat), -1), out=made[:, start : start + width])
        return made

    def glance(self) -> np.ndarray:
        """The few outputs that are looked at first for lies, (F, B, few)."""
        return stacked([looked_at(row.reshape(len(row), -1)) for row in self.rows])


def side_by_side(answers: np.ndarray | Loose) -> np.ndarray:
    """As one array, (F, B, *y); copied if they lie apart."""
    return stacked(answers.rows) if isinstance(answers, Loose) else answers


def loose(
    answers: Mapping[int, Any], rows: int
) -> tuple[tuple[int, ...], np.ndarray | Loose, tuple[int, ...]]:
    """As `matrix`, but large answers of equal dtype are left where they are."""
    if isinstance(answers, Sheet):
        return matrix(answers, rows)
    kept, others = usable_answers(answers, rows)
    arrays = tuple(kept.values())
    alike = len({array.dtype for array in arrays}) == 1 and arrays[0].dtype.char in "fdFD"
    if alike and sum(array.nbytes for array in arrays) >= _LARGE:
        return tuple(kept), Loose(arrays), others
    whole = stacked(arrays) if arrays else np.empty((0, rows))
    return tuple(kept), whole, others
