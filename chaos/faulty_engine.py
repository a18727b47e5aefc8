"""An engine whose workers have faults, for one wave."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np

from codedmap.engines import Engine, Kept

from .faults import Answer, Fault

__all__ = ["FaultyEngine"]


@dataclass(frozen=True, slots=True)
class _FaultyCall:
    fn: Answer
    fault: Fault

    def __call__(self, payload: np.ndarray) -> Any:
        return self.fault.run(self.fn, payload)


class FaultyEngine:
    """Wraps an engine; the calls on some slots run a fault.

    Parameters
    ----------
    engine : Engine
        The engine that runs the calls.
    faults : mapping of int to Fault
        By slot.
    """

    def __init__(self, engine: Engine, faults: Mapping[int, Fault]) -> None:
        self._engine = engine
        self._faults = faults

    @property
    def workers(self) -> int:
        """Number of workers of the engine."""
        return self._engine.workers

    def submit(self, slot: int, fn: Any, payload: Any) -> Future[Any]:
        """Submit the call with its fault, if any."""
        fault = self._faults.get(slot)
        return self._engine.submit(slot, fn if fault is None else _FaultyCall(fn, fault), payload)

    def keep(self, slot: int, value: Any) -> Kept:
        """Forward to the engine."""
        return self._engine.keep(slot, value)

    def abandon(self, futures: Iterable[Future[Any]]) -> None:
        """Forward to the engine."""
        self._engine.abandon(futures)
