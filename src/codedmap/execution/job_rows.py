"""The rows of a job: their inputs, what is known of each, and the order in which they are started."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np

from ..contracts.stopping import Outcome
from ..errors import NotEnoughAnswers
from ..results.status import Status
from .inputs import InputRows

_BLOCKS = 4096  # blocks of rows whose order is random if rows or answers are in a file


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
    """Rows by their numbers, for messages; only the first five runs."""
    numbers = [f"{b:,} to {e - 1:,}" if e > b + 1 else f"{b:,}" for b, e in runs[:5]]
    more = ", ..." * (len(runs) > 5)
    return f"row{'s' * (sum(e - b for b, e in runs) > 1)} {', '.join(numbers)}{more}"


class Order:
    """The order of the rows of a job that are wanted, (m,) bool.

    With a seed the order of blocks of rows is random; rows of a block stay together. Blocks of one row can be dealt.
    """

    def __init__(
        self, wanted: np.ndarray, *, block: int | None = None, seed: int | None = None
    ) -> None:
        begins, ends = _runs(wanted, block)
        self._dealt = 0  # places
        if seed is not None:
            shuffled = np.random.default_rng(seed).permutation(len(begins))
            begins, ends = begins[shuffled], ends[shuffled]
        self._begins = begins
        self._places = np.r_[0, np.cumsum(ends - begins)]

    @property
    def count(self) -> int:
        """How many rows are wanted, as far as they are read."""
        return int(self._places[-1])

    def extend(self, begin: int, wanted: np.ndarray) -> None:
        """More rows, from ``begin`` on, come after the others."""
        begins, ends = _runs(wanted)
        if not len(begins):
            return
        begins, ends = begins + begin, ends + begin
        if len(self._begins) and begins[0] == self._begins[-1] + np.diff(self._places[-2:])[0]:
            self._places[-1] += ends[0] - begins[0]
            begins, ends = begins[1:], ends[1:]
        self._begins = np.r_[self._begins, begins]
        self._places = np.r_[self._places, self._places[-1] + np.cumsum(ends - begins)]

    def deal(self, begin: int, end: int, calls: int) -> None:
        """Deal the rows from ``begin`` on to so many calls like this one, unless it has rows that an earlier call had.

        Neighbours are then in different calls: slow rows are often neighbours, and would wait for each other. No row that
        a call has, or had, changes its place.
        """
        all_ends = begin + (end - begin) * calls
        if begin >= self._dealt and all_ends <= self.count:
            rows = self._begins[begin:all_ends]
            rows[:] = rows.reshape(-1, calls).T.ravel()
            self._dealt = all_ends
        self._dealt = max(self._dealt, end)

    def at(self, begin: int, end: int) -> slice | np.ndarray:
        """The rows at some places."""
        first, last = np.searchsorted(self._places, [begin, end - 1], side="right") - 1
        if first == last:
            row = int(self._begins[first] + begin - self._places[first])
            return slice(row, row + end - begin)
        which = np.arange(first, last + 1)
        places = np.clip(self._places[first : last + 2], begin, end)
        shifts = self._begins[which] - self._places[which]
        return np.asarray(np.arange(begin, end) + np.repeat(shifts, np.diff(places)))


class JobRows(Order):
    """The rows of a job, their status, and the order in which those that are MISSING are computed.

    Answers are kept in a `Store`, by default in memory. ``shuffled``: whether rows are started in a random order.
    ``dealt``: whether they can be dealt. ``status`` (m,): that of an earlier job.
    """

    def __init__(
        self,
        inputs: InputRows,
        store: Any = None,
        *,
        shuffled: bool = False,
        dealt: bool = False,
        status: np.ndarray | None = None,
    ) -> None:
        self.inputs, self.store = inputs, store
        if status is not None:
            self.status = status
        elif store is None:
            self.status = np.full(inputs.rows, Status.MISSING, np.int8)
        else:
            self.status = store.status
        self._room = self.status  # an array that grows by doubling; the status is its beginning
        block = max(1, inputs.rows // _BLOCKS) if inputs.lazy or store is not None else 1
        block = max(block, inputs.block)
        wanted = self.status == Status.MISSING
        cut = block if shuffled else 1 if dealt else None
        super().__init__(wanted, block=cut, seed=0 if shuffled else None)
        if inputs.growing is not None:
            inputs.growing.done(np.flatnonzero(~wanted))

    @property
    def ended(self) -> bool:
        """Whether all rows are read."""
        return self.inputs.growing is None or self.inputs.growing.ended

    def check_read(self, outcome: Outcome) -> None:
        """Raise `NotEnoughAnswers` if a job has ended before all rows of an iterator were read."""
        if not self.ended:
            raise NotEnoughAnswers(
                f"an iterator was read up to row {len(self.status) - 1:,} and has more, because {outcome.value}: start "
                "more workers"
            )

    def done(self, at: slice | np.ndarray) -> None:
        """Note that the inputs of these rows are not needed any more."""
        if self.inputs.growing is not None:
            self.inputs.growing.done(at)

    def read(self, rows: int) -> Future[Any]:
        """Begin to read so many rows more of an iterator, unless it ends before; `add` takes the result."""
        reading: Future[Any] = self.inputs.growing.read(rows)
        return reading

    def add(self, read: Any) -> None:
        """Add rows that were read."""
        source, begin = self.inputs.growing, len(self.status)
        assert source is not None
        end = begin + source.add(read)
        if end > len(self._room):
            self._room = np.full(max(end, 2 * begin), Status.MISSING, np.int8)
            self._room[:begin] = self.status
        self.status = self._room[:end]
        if self.store is not None:
            self.store.resize(self.status)
        wanted = self.status[begin:] != Status.EXACT
        self.extend(begin, wanted)
        source.done(begin + np.flatnonzero(~wanted))


def _runs(wanted: np.ndarray, block: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Where runs of wanted rows begin and end; no run crosses the border of two blocks."""
    begins = wanted & ~np.r_[False, wanted[:-1]]
    if block is not None:
        begins[::block] = wanted[::block]
    lasts = wanted & np.r_[(begins | ~wanted)[1:], True]
    return np.flatnonzero(begins), np.flatnonzero(lasts) + 1
