"""Rows as runs of neighbours, and the order in which a job starts them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def runs_of(at: slice | np.ndarray) -> list[tuple[int, int]]:
    """Rows as runs (begin, end) of neighbours, in the order in which they are given."""
    if isinstance(at, slice):
        return [(at.start, at.stop)]
    if not len(at):
        return []
    cuts = np.flatnonzero(np.diff(at) != 1) + 1
    begins = at[np.r_[0, cuts]].tolist()
    ends = (at[np.r_[cuts - 1, len(at) - 1]] + 1).tolist()
    return list(zip(begins, ends, strict=True))


def named_rows(runs: Sequence[tuple[int, int]]) -> str:
    """Rows by their numbers, those of the first five runs."""
    numbers = [f"{b:,} to {e - 1:,}" if e > b + 1 else f"{b:,}" for b, e in runs[:5]]
    more = ", ..." * (len(runs) > 5)
    return f"row{'s' * (sum(e - b for b, e in runs) > 1)} {', '.join(numbers)}{more}"


class Order:
    """Which of the rows that are wanted, (m,) bool, has which place in a job.

    With a seed the order is random, but for blocks of rows that stay together.
    """

    def __init__(self, wanted: np.ndarray, *, block: int = 1, seed: int | None = None) -> None:
        begins, ends = _runs(wanted, len(wanted) if seed is None else block)
        if seed is not None:
            shuffled = np.random.default_rng(seed).permutation(len(begins))
            begins, ends = begins[shuffled], ends[shuffled]
        self._begins = begins
        self._places = np.r_[0, np.cumsum(ends - begins)]

    @property
    def rows(self) -> int:
        """How many rows are computed."""
        return int(self._places[-1])

    def extend(self, begin: int, wanted: np.ndarray) -> None:
        """More rows, from ``begin`` on, come after the others."""
        begins, ends = _runs(wanted, len(wanted))
        if not len(begins):
            return
        begins, ends = begins + begin, ends + begin
        if len(self._begins) and begins[0] == self._begins[-1] + np.diff(self._places[-2:])[0]:
            self._places[-1] += ends[0] - begins[0]
            begins, ends = begins[1:], ends[1:]
        self._begins = np.r_[self._begins, begins]
        self._places = np.r_[self._places, self._places[-1] + np.cumsum(ends - begins)]

    def at(self, begin: int, end: int) -> slice | np.ndarray:
        """The rows at some places."""
        if len(self._begins) == 1:
            row = int(self._begins[0])
            return slice(row + begin, row + end)
        first, last = np.searchsorted(self._places, [begin, end - 1], side="right") - 1
        if first == last:
            row = int(self._begins[first] + begin - self._places[first])
            return slice(row, row + end - begin)
        which = np.arange(first, last + 1)
        places = np.clip(self._places[first : last + 2], begin, end)
        shifts = self._begins[which] - self._places[which]
        return np.asarray(np.arange(begin, end) + np.repeat(shifts, np.diff(places)))


def _runs(wanted: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray]:
    """Where runs of wanted rows begin and end, none of which goes on in another block."""
    cut = np.zeros(len(wanted) + 1, dtype=bool)
    cut[:: max(1, block)] = True
    beside = np.r_[False, wanted, False]
    begins = np.flatnonzero(wanted & (cut[:-1] | ~beside[:-2]))
    return begins, np.flatnonzero(wanted & (cut[1:] | ~beside[2:])) + 1
