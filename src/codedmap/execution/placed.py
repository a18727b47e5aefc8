"""What each worker of a code keeps, and keeps again when its process was lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..engines import Engine, Kept

__all__ = ["Placed"]


class Placed:
    """A value of its own on each worker of a code.

    Parameters
    ----------
    engine : Engine
        With fewer workers than the code has, worker n is the engine's n mod workers.
    values : iterable
        Of each worker of the code.
    again : callable
        Makes the value of a worker once more, when it was lost.
    """

    def __init__(self, engine: Engine, values: Iterable[Any], again: Callable[[int], Any]) -> None:
        self._engine = engine
        self._again = again
        self._kept = [self._keep(worker, value) for worker, value in enumerate(values)]

    @property
    def engine(self) -> Engine:
        """Where the values are."""
        return self._engine

    def lost(self, worker: int) -> bool:
        """Whether it is known that this worker's value is gone."""
        return self._kept[worker].lost

    def on(self, worker: int) -> Kept:
        """What stands for this worker's value; sends it there once more if it was lost."""
        if self.lost(worker):
            self._kept[worker] = self._keep(worker, self._again(worker))
        return self._kept[worker]

    def _keep(self, worker: int, value: Any) -> Kept:
        return self._engine.keep(worker % self._engine.workers, value)
