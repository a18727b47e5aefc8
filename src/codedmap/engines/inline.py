"""Calls in the caller's own thread."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any

from ..contracts.engine import Kept

__all__ = ["Inline"]


class Inline:
    """One worker that computes each call when it is submitted.

    `codedmap.map` without ``engine`` runs so inside a worker. Nothing is isolated: a call that ends its process
    ends the caller.
    """

    workers = 1
    in_process = True

    def submit(self, worker: int, fn: Any, payload: Any) -> Future[Any]:
        """Compute ``fn(payload)`` now."""
        fn, payload = (v.key if isinstance(v, Kept) else v for v in (fn, payload))
        future: Future[Any] = Future()
        try:
            future.set_result(fn(payload))
        except Exception as error:
            future.set_exception(error)
        return future

    def keep(self, worker: int, value: Any) -> Kept:
        """Keep a value."""
        return Kept(worker, value)

    def abandon(self, futures: Iterable[Future[Any]]) -> None:
        """Do nothing: every call has ended."""
