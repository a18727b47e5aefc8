"""The function of the fault tests: a small smooth network with five inputs."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["ONCE", "answers", "rows"]

ONCE: dict[str, Any] = {"chunk": "all", "hedge": None, "retries": 0}
"""Options of `codedmap.map`: one call a worker, and none of them made again."""

_RNG = np.random.default_rng(11)
_FIRST, _SECOND = _RNG.normal(size=(5, 16)) / 2, _RNG.normal(size=(16, 4)) / 2
_SHIFT = _RNG.normal(size=16)


def answers(batch: np.ndarray) -> np.ndarray:
    """A batch (b, 5) to (b, 4)."""
    result: np.ndarray = np.tanh(batch @ _FIRST + _SHIFT) @ _SECOND
    return result


def rows(count: int, seed: int) -> np.ndarray:
    """Inputs (count, 5)."""
    return np.random.default_rng(seed).normal(size=(count, 5))
