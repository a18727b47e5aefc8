"""Answers with NaN or infinity: who has them, and which of these another answer contradicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

__all__ = ["broken_in", "contradicted", "disputed", "kept_of", "left_out_because", "patterns"]


def left_out_because(broken: bool, outliers: bool) -> tuple[str, str]:
    """Why answers are left out, some of which are not finite or contradict others, and what to do."""
    reasons = ["their answers are not finite"] * broken + ["they contradict the others"] * outliers
    remedy = (
        ". See what fn gives for inputs as they are: if NaN, mend it; if only mixtures are beyond what it "
        "accepts, bound them (clip= of SplineCode and BerrutCode), or use a code that copies "
        "(Replication, Uncoded)"
    )
    return " or ".join(reasons), remedy if broken else ""


def broken_in(answers: np.ndarray) -> np.ndarray:
    """Which answers (F, B, *y) have a non-finite entry in which group, (F, B) bool."""
    if answers.dtype.kind not in "fc":
        return np.zeros(answers.shape[:2], dtype=bool)
    return np.asarray(~np.isfinite(answers).all(axis=tuple(range(2, answers.ndim))))


def disputed(answers: np.ndarray, broken: np.ndarray, owners: Sequence[int | None]) -> np.ndarray:
    """Which broken answers (F, B) to an input itself another one contradicts, (F, B) bool.

    Another worker was given the same input, and has a number where this one has none. ``owners``
    says whose input each slot's payload is; None for a mixture, about which nothing is said here.
    """
    found = np.zeros_like(broken)
    for row in np.flatnonzero(broken.any(axis=1)).tolist():
        same = [
            other
            for other, owner in enumerate(owners)
            if owner is not None and owner == owners[row] and other != row
        ]
        if same:
            gaps = np.isfinite(answers[same]).any(axis=0) & ~np.isfinite(answers[row])
            found[row] = gaps.reshape(len(gaps), -1).any(axis=1)
    return found


def contradicted(
    slots: tuple[int, ...],
    answers: np.ndarray,
    broken: np.ndarray,
    owners: Sequence[int | None],
    shortfall: Callable[[frozenset[int], np.dtype[Any]], str | None] | None,
) -> np.ndarray:
    """Which broken answers are lies, (F, B) bool: see `disputed` for those to an input itself.

    An answer to a mixture always is. So is any where the others tell what it must be, which they do
    if there is no ``shortfall`` of them; None if they never do.
    """
    mixed = np.array([owner is None for owner in owners], dtype=bool)
    found = np.asarray(broken & mixed[:, None] | disputed(answers, broken, owners))
    if shortfall is None:
        return found
    for pattern, where in patterns(~broken):
        if shortfall(frozenset(kept_of(slots, pattern)), answers.dtype) is None:
            found[:, where] = broken[:, where]
    return found


def patterns(usable: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The different columns of (F, B) bool, and for each in which groups it stands, (B,) bool."""
    for pattern in np.unique(usable, axis=1).T:
        yield pattern, (usable == pattern[:, None]).all(axis=0)


def kept_of(slots: tuple[int, ...], pattern: np.ndarray) -> tuple[int, ...]:
    """The slots where a pattern (F,) is true."""
    return tuple(slot for slot, good in zip(slots, pattern, strict=True) if good)
