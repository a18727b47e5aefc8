"""Answers that hold NaN or infinity, and which of them are rejected."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import compress
from typing import Any

import numpy as np


def rejection_reasons(broken: bool, outliers: bool) -> tuple[str, str]:
    """Why answers are rejected, for a message, and the next step; ``broken``: some are not finite."""
    reasons = ["their answers are not finite"] * broken + ["they contradict the others"] * outliers
    remedy = (
        ". See what fn gives for inputs as they are: if NaN, correct it; if only mixtures are beyond what it "
        "accepts, bound them (clip= of SplineCode and BerrutCode), or use a code that copies "
        "(Replication, Uncoded)"
    )
    return " or ".join(reasons), remedy if broken else ""


def nonfinite_answers(answers: np.ndarray) -> np.ndarray:
    """Which answers (F, B, *y) have an entry that is not finite, (F, B) bool."""
    if answers.dtype.kind not in "fc":
        return np.zeros(answers.shape[:2], dtype=bool)
    return np.asarray(~np.isfinite(answers).all(axis=tuple(range(2, answers.ndim))))


def _contradicted_by_copies(
    answers: np.ndarray, broken: np.ndarray, owners: Sequence[int | None]
) -> np.ndarray:
    """Answers to raw inputs that are not finite where another answer to the same input is, (F, B) bool."""
    found = np.zeros_like(broken)
    for owner in {owners[row] for row in np.flatnonzero(broken.any(axis=1)).tolist()} - {None}:
        rows = [row for row, other in enumerate(owners) if other == owner]
        finite = np.isfinite(answers[rows])
        gaps = finite.any(axis=0) & ~finite
        found[rows] = gaps.reshape(*gaps.shape[:2], -1).any(axis=2)
    return found


def rejected_nonfinite(
    slots: tuple[int, ...],
    answers: np.ndarray,
    broken: np.ndarray,
    owners: Sequence[int | None],
    shortfall: Callable[[frozenset[int], np.dtype[Any]], str | None] | None,
) -> np.ndarray:
    """Which of the ``broken`` answers (F, B, *y), those that are not finite, are to be rejected, (F, B) bool.

    The owner of an answer is the task whose raw input it is for, None for a mixture. Rejected are all answers to
    mixtures, and those to raw inputs if another answer to the same input is finite, or if the finite answers have no
    ``shortfall`` and so determine all others (None: they never do).
    """
    mixed = np.array([owner is None for owner in owners], dtype=bool)
    found = np.asarray(broken & mixed[:, None] | _contradicted_by_copies(answers, broken, owners))
    if shortfall is None:
        return found
    for pattern, where in column_patterns(~broken):
        if shortfall(frozenset(compress(slots, pattern)), answers.dtype) is None:
            found[:, where] = broken[:, where]
    return found


def column_patterns(usable: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The distinct columns of (F, B) bool, each with the groups that have it, (B,) bool."""
    for pattern in np.unique(usable, axis=1).T:
        yield pattern, (usable == pattern[:, None]).all(axis=0)
