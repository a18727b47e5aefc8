"""Workers of a job whose answers are all rejected, and the rows that only they have answered."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from .encoded import EncodedRows

_FREQUENT = 0.1
"""Share of a worker's answers that are rejected, beyond which all of them are."""


class Rejections:
    """Counts the answers of each worker that were rejected, over all chunks of a job."""

    def __init__(self) -> None:
        self._by = np.zeros(0, np.int32)
        self._numbers: dict[Hashable, int] = {}
        self._answers: list[int] = []
        self._rejected: list[int] = []

    def add(self, chunk: EncodedRows, rows: np.ndarray | slice, exact: np.ndarray) -> None:
        """Count the answers to a chunk that holds these rows of the job, of which some are exact, bool."""
        by, accounts = chunk.accounts(exact)
        end = rows.stop if isinstance(rows, slice) else int(rows.max()) + 1
        if end > len(self._by):
            more = max(end, 2 * len(self._by)) - len(self._by)
            self._by = np.append(self._by, np.full(more, -1, np.int32))
        numbers = []
        for account in accounts:
            number = self._numbers.setdefault(account.worker, len(self._numbers))
            if number == len(self._answers):
                self._answers.append(0)
                self._rejected.append(0)
            self._answers[number] += account.answers
            self._rejected[number] += account.rejected
            numbers.append(number)
        self._by[rows] = np.array([*numbers, -1], np.int32)[by]

    @property
    def workers(self) -> frozenset[Hashable]:
        """Those of whose answers more than a tenth are rejected."""
        return frozenset(
            worker
            for worker, number in self._numbers.items()
            if self._rejected[number] > _FREQUENT * self._answers[number]
        )

    def unsupported(self, rows: int) -> np.ndarray:
        """Rows (m,) bool that have the answer of such a worker, and no other."""
        numbers = [self._numbers[worker] for worker in self.workers]
        found = np.zeros(rows, dtype=bool)
        if numbers:
            found[: len(self._by)] = np.isin(self._by[:rows], numbers)
        return found
