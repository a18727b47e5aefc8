"""The interface of engines, which run the calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

from ..errors import InvalidArgument

__all__ = ["Engine", "Kept", "Reply", "engine_for", "no_engine"]


class Kept:
    """A reference to a value that stays on one worker, for `Engine.submit` as fn or payload.

    Parameters
    ----------
    slot : int
        The slot that holds the value.
    key : object
        By which the engine finds it.
    """

    __slots__ = ("__weakref__", "key", "lost", "slot")

    def __init__(self, slot: int, key: Any) -> None:
        self.slot = slot
        self.key = key
        self.lost = False
        """True after the engine has found that the worker died."""

    def __repr__(self) -> str:
        return f"<Kept on slot {self.slot}{', lost' if self.lost else ''}>"


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a batch of rows, and how it came about."""

    values: Any
    """A tree of arrays with a row for each input that did not raise, in order."""
    seconds: float
    """That ``fn`` took."""
    began: float
    """When, in seconds since the epoch by the worker's clock."""
    host: str
    process: int
    raised: Mapping[int, Any] = field(default_factory=dict)
    """By place in the batch: the `Failure` of an input for which ``fn`` raised."""
    output: str = ""
    """What ``fn`` printed."""

    def changed(self, change: Callable[[Any], Any]) -> Reply:
        """The reply of a worker that returns ``change`` of the right values."""
        return replace(self, values=change(self.values))


@runtime_checkable
class Engine(Protocol):
    """N slots that compute ``fn(payload)``, one call at a time each, failing independently."""

    @property
    def workers(self) -> int:
        """How many slots there are."""
        ...

    def submit(self, slot: int, fn: Any, payload: Any) -> Future[Any]:
        """Compute ``fn(payload)`` on a slot, which is one worker as long as that lives.

        Does not block for long. The future fails with what ``fn`` raised, `WorkerCrashed` or
        `KeptLost`.
        """
        ...

    def keep(self, slot: int, value: Any) -> Kept:
        """Keep a value on a slot's worker for later calls, which fail with `KeptLost` if it dies."""
        ...

    def abandon(self, futures: Iterable[Future[Any]]) -> None:
        """Give up these calls. Returns at once, and ends no worker by itself."""
        ...


def engine_for(given: Any) -> str | None:
    """How an engine is made of something that is none, if that is known."""
    for kind in (given if isinstance(given, type) else type(given)).__mro__:
        package = kind.__module__.partition(".")[0]
        if package == "distributed" and kind.__name__ in ("Client", "Cluster"):
            client = "client" if kind.__name__ == "Client" else "cluster.get_client()"
            return f"codedmap.engines.Dask({client})"
        if package == "ray":
            return "codedmap.engines.Ray()"
    return "codedmap.engines.Ray()" if getattr(given, "__name__", None) == "ray" else None


def no_engine(given: Any, wanted: str = "no engine") -> InvalidArgument:
    """The error for something that is given as an engine and is none; ``wanted``: what it is not."""
    known = engine_for(given)
    if known is not None:
        return InvalidArgument(f"engine={given!r} is no engine itself: give {known}")
    return InvalidArgument(
        f"engine={given!r} is {wanted}: give one such as codedmap.engines.Local(workers=8), or "
        "codedmap.engines.FromExecutor(executor, workers=8)"
    )
