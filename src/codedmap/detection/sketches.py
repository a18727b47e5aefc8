"""Answers reduced to a few sums of their outputs, in which outliers are searched for."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from ..coding.operators import as_real

GLANCE, CLOSER = 4, 16
"""Numbers of sums of the outputs with random signs: for all groups, and for groups with a suspect answer."""
_BLOCKS = 8  # blocks of neighbouring outputs, evenly spread, that are used
_EACH = 2  # outputs of a block that are used for each sum
_LARGE = 1e4  # larger answers are clipped to this many times the median answer


def sketched(answers: np.ndarray, directions: int) -> np.ndarray:
    """Sums of the outputs with random signs, (F, B, directions), which keep distances up to a factor."""
    answers = as_real(answers)
    if answers.dtype == np.float16:  # too coarse to sum in
        answers = answers.astype(np.float32)
    count, groups, outputs = answers.shape
    if outputs > directions:
        answers = _some(answers, directions)
        outputs = math.prod(answers.shape[2:])
        # As one matrix: else every row would be a product of its own.
        flat = answers.reshape(-1, outputs) @ _signs(outputs, directions, answers.dtype)
        answers = flat.reshape(count, groups, directions)
    return answers


def _some(answers: np.ndarray, directions: int) -> np.ndarray:
    """Answers with some blocks of their outputs; with all outputs if these are few."""
    *lead, outputs = answers.shape
    each = _EACH * directions
    if outputs <= _BLOCKS * each:
        return answers
    step = outputs // _BLOCKS
    return answers[..., : _BLOCKS * step].reshape(*lead, _BLOCKS, step)[..., :each]


@cache
def _signs(outputs: int, directions: int, dtype: np.dtype[Any]) -> np.ndarray:
    return np.random.default_rng(0).choice([-1.0, 1.0], (outputs, directions)).astype(dtype)


def scaled(y: np.ndarray) -> np.ndarray:
    """Answers (..., F, columns) in the unit of the median answer.

    Far larger ones are clipped: their rounding errors would exceed the other answers.
    """
    y = y.astype(float)
    sizes = np.abs(y).max(axis=-1)
    unit = np.median(sizes, axis=-1)[..., None, None]
    unit = np.where(unit > 0, unit, 1.0)
    return np.asarray(np.clip(np.nan_to_num(y / unit, nan=_LARGE), -_LARGE, _LARGE))
