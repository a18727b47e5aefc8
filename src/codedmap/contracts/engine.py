"""What the doors need of a place where payloads are computed."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any, Protocol, runtime_checkable

__all__ = ["Engine", "Kept"]


class Kept:
    """Stands for a value that stays on one worker: give it to `Engine.submit` as fn or payload.

    Parameters
    ----------
    slot : int
        Where the value is.
    key : object
        How the engine finds it.
    """

    __slots__ = ("__weakref__", "key", "lost", "slot")

    def __init__(self, slot: int, key: Any) -> None:
        self.slot = slot
        self.key = key
        self.lost = False
        """Set by the engine when it learns that the worker has died."""

    def __repr__(self) -> str:
        return f"<Kept on slot {self.slot}{', lost' if self.lost else ''}>"


@runtime_checkable
class Engine(Protocol):
    """N slots that compute ``fn(payload)``, one call at a time each, failing independently."""

    @property
    def workers(self) -> int:
        """How many slots there are."""
        ...

    def submit(self, slot: int, fn: Any, payload: Any) -> Future[Any]:
        """Compute ``fn(payload)`` on a slot: the same worker while it lives. Never blocks for long.

        The future fails with what ``fn`` raised, `WorkerCrashed` or `KeptLost`.
        """
        ...

    def keep(self, slot: int, value: Any) -> Kept:
        """Leave a value on a slot's worker for later calls, which fail with `KeptLost` if it dies."""
        ...

    def abandon(self, futures: Iterable[Future[Any]]) -> None:
        """These answers are no longer wanted. Returns at once and kills nobody by itself."""
        ...
