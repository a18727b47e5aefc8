"""A function that is kept on the workers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from ..contracts.engine import Engine, Kept
from .transport.parcel import PickledOnce


class Resident:
    """A function sent to each worker once, not with every call; give it to `codedmap.map` as ``fn``.

    For models and other functions that are large or slow to open: what the function sets up on its first
    call stays with it on the worker. A worker that is lost gets the function again in the next job.

    Parameters
    ----------
    fn : callable
        Batch to batch, as for `codedmap.map`.
    engine : Engine
        Where it is kept; `codedmap.map` must be given the same engine.
    """

    def __init__(self, fn: Any, engine: Engine) -> None:
        self.fn = fn
        """The function itself."""
        self.engine = engine
        """Where the function is kept."""
        self._made: dict[Any, tuple[PickledOnce, dict[int, Kept]]] = {}
        self._lock = threading.Lock()  # jobs of several threads may begin at once

    def on(self, worker: int, made: Callable[[Any], Any] | None = None) -> Kept:
        """The reference to the function on this worker, to which it is sent if it is not there yet.

        Parameters
        ----------
        worker : int
        made : callable, optional
            Called with the function: what is kept in its place. Hashable; by default the function itself is kept.
        """
        with self._lock:
            if made not in self._made:
                self._made[made] = PickledOnce(self.fn if made is None else made(self.fn)), {}
            value, kept = self._made[made]
            if worker not in kept or kept[worker].lost:
                kept[worker] = self.engine.keep(worker, value)
                # All workers have it; for one that takes another's place it is pickled again.
                if len(kept) >= self.engine.workers:
                    value.forget()
            return kept[worker]
