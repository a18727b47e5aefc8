"""Answers that hedges brought, and what they make of an estimate."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

import numpy as np

from ..contracts.answers import convert_like, usable_answers
from ..contracts.code import Estimate
from ..detection.replicas import compare


class Heard:
    """Which answers of each slot have come, from whom, and which of those to hedges are believed.

    An answer is told by its slot, and by how many of that slot had come before.
    """

    def __init__(self) -> None:
        self._answers: dict[int, list[Any]] = {}
        self._workers: dict[tuple[int, int], int] = {}
        self._hedges: set[tuple[int, int]] = set()
        self.several: set[int] = set()
        """Slots with more than one answer."""
        self.out: set[tuple[int, int]] = set()
        """Answers that are not believed, because who made them has lied elsewhere."""

    def __contains__(self, slot: int) -> bool:
        return slot in self._answers

    def add(self, slot: int, answer: Any, worker: int, *, again: bool) -> None:
        """An answer that this worker made; ``again``: of a slot that was sent to it again."""
        before = len(self._answers.get(slot, ()))
        if before:
            self._answers[slot].append(answer)
            self.several.add(slot)
        else:
            self._answers[slot] = [answer]
        if worker != slot or again:
            self._workers[slot, before] = worker
        if again:
            self._hedges.add((slot, before))

    def count(self, slot: int) -> int:
        """How many answers of a slot have come."""
        return len(self._answers.get(slot, ()))

    def believed(self, slot: int) -> list[tuple[int, Any]]:
        """The answers of a slot that are not left out, each with how many had come before."""
        answers = self._answers.get(slot, ())
        return [(n, answer) for n, answer in enumerate(answers) if (slot, n) not in self.out]

    def worker(self, slot: int, which: int) -> int:
        """Who made an answer."""
        return self._workers.get((slot, which), slot)

    def doubts(self, lied: Set[tuple[int, int]]) -> bool:
        """Leave out what workers answered to hedges if another answer of theirs is a lie; whether any is new.

        If it is only this one that is thought a lie, it has been dealt with where that was found.
        """
        if not self._hedges or not lied:
            return False
        lies: dict[int, set[tuple[int, int]]] = {}
        for which in lied:
            lies.setdefault(self.worker(*which), set()).add(which)
        new = {
            which
            for which in self._hedges - self.out
            if not lies.get(self.worker(*which), set()) <= {which}
        }
        self.out |= new
        return bool(new)


def of_own_answers(own: Mapping[int, Any], tasks: int, groups: int) -> Estimate:
    """What answers (B, *y) to tasks' own inputs tell without any other: NaN for other tasks.

    Raises
    ------
    NotEnoughAnswers, InvalidAnswer
        As `usable_answers`.
    """
    kept, _ = usable_answers(own, groups)
    shape, dtype = (groups,), np.dtype(float)
    if kept:
        some = next(iter(kept.values()))
        whole = len(kept) == tasks or some.dtype.kind in "fcO"
        shape, dtype = some.shape, some.dtype if whole else np.result_type(some.dtype, float)
    values = np.full((tasks, *shape), np.nan if len(kept) < tasks else 0, dtype)
    exact = np.zeros((tasks, groups), dtype=bool)
    for task, answer in kept.items():
        values[task], exact[task] = answer, True
    return Estimate(values, exact, np.where(exact, 0.0, np.inf), ())


def overlaid(estimate: Estimate, task: int, answer: Any) -> bool:
    """Put an answer (B, *y) to a task's own input into an estimate; tell whether it is a lie.

    It is one if it has another form, or by `confronted` with a row that is exact already.
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
    # Where it was not known the two are the same by now.
    return confronted(estimate, np.full(len(known), task), estimate.values[task].copy(), array)[1]


def confronted(estimate: Estimate, tasks: np.ndarray, first: Any, second: Any) -> tuple[bool, bool]:
    """Look at a second answer to tasks' own inputs, and tell which of the two are lies.

    As with copies: where two answers differ the row is no longer exact, and its standard error is
    at least their difference; where one of them is not finite, it is the other that counts.

    Parameters
    ----------
    estimate : Estimate
        Made with the first answer only; changed.
    tasks : ndarray, shape (B,), int
        Whose input it is, in each group.
    first, second : array-like, shape (B, *y)
    """
    second = convert_like(second, first)
    if second is None:
        return False, True
    verdict = compare(np.stack([first, second]))
    groups = np.arange(len(tasks))
    exact = estimate.exact[tasks, groups] & (verdict.votes > 0)
    estimate.exact[tasks, groups] = exact
    if estimate.stderr is not None:
        apart = np.maximum(estimate.stderr[tasks, groups], verdict.stderr)
        estimate.stderr[tasks, groups] = apart
    better = verdict.outliers[0] & exact
    estimate.values[tasks[better], groups[better]] = verdict.values[better]
    return bool(verdict.outliers[0].any()), bool(verdict.outliers[1].any())
