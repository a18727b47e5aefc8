"""Answers as they are received, also to hedges, and what a second answer changes in an estimate."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

import numpy as np

from ..contracts.answers import Sheet, as_array, convert_like, matrix, usable_answers
from ..contracts.code import Estimate
from ..detection.replicas import compare
from ..results.trees import blanked, for_all_entries


class Received:
    """The answers of each slot, their workers, and which answers to hedges are left out.

    An answer is identified by its slot and its number among the answers of that slot.
    """

    def __init__(self, payloads: int) -> None:
        self._payloads = payloads  # N; slots from N on are those of own inputs
        self._answers: dict[int, list[Any]] = {}  # by slot
        self._sheet: tuple[Sheet, tuple[int, ...]] | None = None  # see `sheet`
        self._workers: dict[tuple[int, int], int] = {}  # the worker of each answer
        self._hedges: set[tuple[int, int]] = set()  # answers to hedges and retries
        self.several: set[int] = set()
        """Slots with more than one answer."""
        self.left_out: set[tuple[int, int]] = set()
        """Answers to hedges whose worker has an answer rejected elsewhere."""

    def add(self, slot: int, answer: Any, worker: int, *, again: bool) -> None:
        """Add an answer of this worker; ``again``: to a hedge or a retry."""
        answers = self._answers.setdefault(slot, [])
        if answers:
            self.several.add(slot)
        elif slot < self._payloads:
            answer, self._sheet = as_array(answer), None
        which = slot, len(answers)
        answers.append(answer)
        self._workers[which] = worker
        if again:
            self._hedges.add(which)

    def sheet(self, rows: int) -> tuple[Sheet, tuple[int, ...]]:
        """The first answers to payloads that are usable, and the slots of the others; see `usable_answers`."""
        if self._sheet is None:
            given = {slot: a[0] for slot, a in self._answers.items() if slot < self._payloads}
            slots, block, others = matrix(
                given, rows, {slot: self.worker(slot, 0) for slot in given}
            )
            self._sheet = Sheet(slots, block), others
            if all(given[slot].dtype == block.dtype for slot in slots):
                for slot, row in self._sheet[0].items():
                    self._answers[slot][0] = row  # so that it is in memory only once
        return self._sheet

    def count(self, slot: int) -> int:
        """How many answers of a slot have been received."""
        return len(self._answers.get(slot, ()))

    def kept(self, slot: int) -> list[tuple[int, Any]]:
        """The answers of a slot that are not left out, each with its number."""
        answers = self._answers.get(slot, ())
        return [(n, answer) for n, answer in enumerate(answers) if (slot, n) not in self.left_out]

    @property
    def workers(self) -> set[int]:
        """Workers that have answered."""
        return set(self._workers.values())

    def worker(self, slot: int, which: int) -> int:
        return self._workers[slot, which]

    def leave_out(self, rejected: Set[tuple[int, int]]) -> bool:
        """Leave out answers to hedges whose worker has another answer rejected; True if any is new.

        The only rejected answer of a worker stays: where it was rejected it is not used anyhow.
        """
        new = {
            hedge
            for hedge in self._hedges - self.left_out
            if any(self.worker(*which) == self.worker(*hedge) for which in rejected - {hedge})
        }
        self.left_out |= new
        return bool(new)


def of_own_answers(own: Mapping[int, tuple[int, Any]], tasks: int, groups: int) -> Estimate:
    """The estimate from answers (B, *y) to tasks' own inputs alone: `blanked` for other tasks. Raises as `usable_answers`.

    ``own`` are a worker and its answer by task.
    """
    workers, answers = ({task: pair[part] for task, pair in own.items()} for part in (0, 1))
    kept, _ = usable_answers(answers, groups, workers)
    first = next(iter(kept.values()), np.zeros(groups))
    values = np.zeros((tasks, *first.shape), first.dtype)
    exact = np.zeros((tasks, groups), dtype=bool)
    for task, answer in kept.items():
        values[task], exact[task] = answer, True
    values = blanked(values, ~exact)
    return Estimate(values, exact, np.where(exact, 0.0, np.inf), ())


def overlaid(estimate: Estimate, task: int, answer: Any) -> bool:
    """Put an answer (B, *y) to a task's own input into an estimate; True if the answer is rejected.

    It is rejected if it has another form, or if `compared` rejects it where a row is exact already.
    """
    array = convert_like(answer, estimate.values[task])
    if array is None:
        return True
    known = estimate.exact[task].copy()
    unknown = ~known
    estimate.values[task, unknown], estimate.exact[task, unknown] = array[unknown], True
    if estimate.stderr is not None:
        estimate.stderr[task, unknown] = 0.0
    if not known.any():
        return False
    # Where no answer was known before, the two are equal now.
    return compared(estimate, task, estimate.values[task].copy(), array)[1]


def compared(estimate: Estimate, task: int, first: Any, second: Any) -> tuple[bool, bool]:
    """Compare a second answer (B, *y) to a task's own inputs with the first; returns which of the two are rejected.

    The estimate, which was made with the first answer, is changed as for copies: where the two differ, the row is no
    longer exact, and its standard error is at least their difference. Where one is not finite, the other is taken.
    """
    second = convert_like(second, first)
    if second is None:
        return False, True
    verdict = compare(np.stack([first, second]))
    exact = estimate.exact[task] & (verdict.votes > 0)
    estimate.exact[task] = exact
    if estimate.stderr is not None:
        known = estimate.stderr[task]
        known[:] = np.maximum(known, for_all_entries(verdict.stderr, known.shape[1:]))
    better = verdict.outliers[0] & exact
    estimate.values[task][better] = verdict.values[better]
    return bool(verdict.outliers[0].any()), bool(verdict.outliers[1].any())
