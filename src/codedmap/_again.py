"""Answers that hedges brought, and what they make of an estimate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ._code import Estimate
from ._forms import agreed
from ._votes import compare

__all__ = ["confronted", "of_own_answers", "overlaid"]


def of_own_answers(own: Mapping[int, Any], tasks: int, groups: int) -> Estimate:
    """What answers (B, *y) to tasks' own inputs tell without any other: NaN for other tasks.

    Raises
    ------
    NotEnoughAnswers, InvalidAnswer
        As `agreed`.
    """
    kept, _ = agreed(own, groups)
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


def overlaid(estimate: Estimate, own: Mapping[int, Any]) -> tuple[int, ...]:
    """Put answers (B, *y) to tasks' own inputs into an estimate; tell whose have another form."""
    odd = []
    for task, answer in own.items():
        array = np.asarray(answer)
        row = estimate.values[task]
        if array.shape != row.shape or (array.dtype.kind != row.dtype.kind):
            odd.append(task)
            continue
        estimate.values[task], estimate.exact[task] = array, True
        if estimate.stderr is not None:
            estimate.stderr[task] = 0.0
    return tuple(odd)


def confronted(estimate: Estimate, task: int, first: Any, second: Any) -> tuple[bool, bool]:
    """Look at a second answer to a task's own input, and tell which of the two are lies.

    As with copies: where two answers differ the row is no longer exact, and its standard error is
    at least their difference; where one of them is not finite, it is the other that counts.

    Parameters
    ----------
    estimate : Estimate
        Made with the first answer only; changed.
    task : int
    first, second : array-like, shape (B, *y)
    """
    second = np.asarray(second)
    if second.shape != first.shape or second.dtype.kind != first.dtype.kind:
        return False, True
    verdict = compare(np.stack([first, second]))
    estimate.exact[task, verdict.votes == 0] = False
    if estimate.stderr is not None:
        estimate.stderr[task] = np.maximum(estimate.stderr[task], verdict.stderr)
    better = verdict.lies[0] & estimate.exact[task]
    estimate.values[task, better] = verdict.values[better]
    return bool(verdict.lies[0].any()), bool(verdict.lies[1].any())
