"""A function that is kept on the workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..contracts.engine import Engine, Kept


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
        self._kept: dict[tuple[int, Any], Kept] = {}

    def on(self, worker: int, made: Callable[[Any], Any] | None = None) -> Kept:
        """The handle of the function on this worker, to which it is sent if it is not there yet.

        Parameters
        ----------
        worker : int
        made : callable, optional
            Of the function, what is kept in its place; hashable. By default the function itself.
        """
        kept = self._kept.get((worker, made))
        if kept is None or kept.lost:
            value = self.fn if made is None else made(self.fn)
            kept = self._kept[worker, made] = self.engine.keep(worker, value)
        return kept
