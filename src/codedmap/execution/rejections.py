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
        self._counts: dict[Hashable, list[int]] = {}

    def add(self, chunk: EncodedRows, rows: np.ndarray | slice, exact: np.ndarray) -> None:
        """Count the answers to a chunk that holds these rows of the job, of which some are exact, bool."""
        by = chunk.count_rejected(exact, self._counts)
        end = rows.stop if isinstance(rows, slice) else int(rows.max()) + 1
        if end > len(self._by):
            more = max(end, 2 * len(self._by)) - len(self._by)
            self._by = np.append(self._by, np.full(more, -1, np.int32))
        self._by[rows] = by

    @property
    def workers(self) -> frozenset[Hashable]:
        """Those of whose answers more than a tenth are rejected."""
        counts = self._counts.items()
        return frozenset(w for w, (answers, wrong) in counts if wrong > _FREQUENT * answers)

    def unsupported(self, rows: int) -> np.ndarray:
        """Rows (m,) bool that have the answer of such a worker, and no other."""
        workers = self.workers
        found = np.zeros(rows, dtype=bool)
        if workers:
            places = [place for place, worker in enumerate(self._counts) if worker in workers]
            found[: len(self._by)] = np.isin(self._by[:rows], places)
        return found
