"""The rows of a job: their inputs, what is known of each, and the order in which they are started."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import numpy as np

from ..contracts.stopping import Outcome
from ..errors import NotEnoughAnswers
from ..results.status import Status
from .inputs import InputRows
from .order import Order

_BLOCKS = 4096  # runs of rows that are started in a random order, where they are read from or written to a file


class JobRows:
    """Rows by their places in a job, which computes those that are not done.

    Answers are kept in a `Store`, by default in memory. ``shuffled``: whether rows are started in a random order;
    ``status`` (m,) is what is known of rows that were computed before.
    """

    def __init__(
        self,
        inputs: InputRows,
        store: Any = None,
        *,
        shuffled: bool = False,
        status: np.ndarray | None = None,
    ) -> None:
        self.inputs, self.store = inputs, store
        if status is not None:
            self.status = status
        elif store is None:
            self.status = np.full(inputs.rows, Status.MISSING, np.int8)
        else:
            self.status = store.status
        self._room = self.status  # that grows by doubling
        block = max(1, inputs.rows // _BLOCKS) if inputs.lazy or store is not None else 1
        wanted = self.status == Status.MISSING
        self._order = Order(wanted, block=block, seed=0 if shuffled else None)
        if inputs.growing is not None:
            inputs.growing.done(np.flatnonzero(~wanted))

    @property
    def count(self) -> int:
        """How many are computed, as far as is known."""
        return self._order.rows

    @property
    def ended(self) -> bool:
        """Whether no more can come."""
        return self.inputs.growing is None or self.inputs.growing.ended

    def check_read(self, outcome: Outcome) -> None:
        """Raise `NotEnoughAnswers` if a job has ended before all rows of an iterator were read."""
        if not self.ended:
            raise NotEnoughAnswers(
                f"an iterator was read up to row {len(self.status) - 1:,} and has more, because {outcome.value}: start "
                "more workers"
            )

    def at(self, begin: int, end: int) -> slice | np.ndarray:
        """The rows at some places."""
        return self._order.at(begin, end)

    def done(self, at: slice | np.ndarray) -> None:
        """The inputs of rows are not needed any more."""
        if self.inputs.growing is not None:
            self.inputs.growing.done(at)

    def read(self, rows: int) -> Future[Any]:
        """Have so many rows more of an iterator read, unless it ends before; `add` takes what it comes to."""
        reading: Future[Any] = self.inputs.growing.read(rows)
        return reading

    def add(self, read: Any) -> None:
        """Take rows that were read."""
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
        self._order.extend(begin, wanted)
        source.done(begin + np.flatnonzero(~wanted))
