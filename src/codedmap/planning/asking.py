"""A function asked for what it makes of rows, in this process or on an engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..contracts.answers import as_array, too_many_axes
from ..contracts.arguments import MOST_AXES
from ..errors import EngineError, InvalidAnswer

__all__ = ["Answer", "answered", "answers_to"]

Answer = Callable[[np.ndarray], np.ndarray]

_BATCH = 1 << 25
"""Bytes of rows that fn is handed at a time."""


def answered(fn: Answer, rows: np.ndarray) -> np.ndarray:
    """``fn`` of rows (n, *x), (n, *y), a few of them at a time.

    Raises
    ------
    InvalidAnswer
        If it does not return one array with a row per row.
    """
    many = max(1, _BATCH // max(1, rows[:1].nbytes))
    parts = []
    for start in range(0, len(rows), many):
        # As workers have it: theirs to write on, and nothing they answer changes later.
        batch = rows[start : start + many].copy()
        parts.append(_copied(fn(batch), len(batch)))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _copied(answer: Any, rows: int) -> np.ndarray:
    """What fn has returned for so many rows; raises `InvalidAnswer` unless it is an array with as many."""
    if np.ma.is_masked(answer):
        raise InvalidAnswer(
            f"fn returned an array in which {np.ma.getmaskarray(answer).sum()} of {answer.size} numbers are "
            "masked and have no value: fill them in fn (with answer.filled(0.0), say)"
        )
    array = as_array(answer)
    if not isinstance(array, np.ndarray):
        raise InvalidAnswer(
            f"fn returned a {type(answer).__name__} for {rows} rows, but it must return one array with a row "
            "per row: concatenate several outputs along the last axis"
        )
    if array.ndim == 0 or len(array) != rows or array.size == 0:
        raise InvalidAnswer(
            f"fn returned an array of shape {array.shape} for {rows} rows, but it must return one row per "
            "row: wrap a function of one input in codedmap.itemwise"
        )
    if array.ndim > MOST_AXES:
        raise InvalidAnswer(f"fn returned {too_many_axes(array.ndim)}")
    return array.copy()


def answers_to(fn: Answer, asked: Sequence[np.ndarray]) -> list[np.ndarray | Exception]:
    """``fn`` of several batches in one go; if it refuses, each by itself, and what it raised.

    Raises
    ------
    EngineError
        If the engine has broken down, or was closed.
    """
    try:
        whole = answered(fn, np.concatenate(asked))
    except EngineError:
        raise
    except Exception as error:
        # fn may refuse mixtures in any way it likes; that is a fact about who mixed them.
        if len(asked) == 1:
            return [error]
        return [answers_to(fn, [batch])[0] for batch in asked]
    ends = np.cumsum([len(batch) for batch in asked])[:-1]
    return list(np.split(whole, ends))
