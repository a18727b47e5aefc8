"""An engine on whose workers faults happen, for one wave."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np

from codedmap.engines import Engine, Kept

from .faults import Answer, Fault

__all__ = ["Afflicted"]


@dataclass(frozen=True, slots=True)
class _Struck:
    fn: Answer
    fault: Fault

    def __call__(self, payload: np.ndarray) -> Any:
        return self.fault.happens(self.fn, payload)


class Afflicted:
    """Another engine, whose calls on some slots end as faults say.

    Parameters
    ----------
    engine : Engine
        Where the calls run.
    faults : mapping of int to Fault
        By slot.
    """

    def __init__(self, engine: Engine, faults: Mapping[int, Fault]) -> None:
        self._engine = engine
        self._faults = faults

    @property
    def workers(self) -> int:
        """As many as the engine has."""
        return self._engine.workers

    def submit(self, slot: int, fn: Any, payload: Any) -> Future[Any]:
        """Send the call together with its fault."""
        fault = self._faults.get(slot)
        return self._engine.submit(slot, fn if fault is None else _Struck(fn, fault), payload)

    def keep(self, slot: int, value: Any) -> Kept:
        """As the engine does."""
        return self._engine.keep(slot, value)

    def abandon(self, futures: Iterable[Future[Any]]) -> None:
        """As the engine does."""
        self._engine.abandon(futures)
