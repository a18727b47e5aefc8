"""The interface of engines, which run the calls."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

from ..errors import InvalidArgument


@dataclass(slots=True, eq=False, repr=False, weakref_slot=True)
class Kept:
    """A reference to a value that stays on one worker, for `Engine.submit` as fn or payload."""

    worker: int
    """The worker that holds the value."""
    key: Any
    """The engine finds the value by it."""
    lost: bool = False
    """True after the engine has found that the worker died."""

    def __repr__(self) -> str:
        return f"<Kept on worker {self.worker}{', lost' if self.lost else ''}>"


class CallFuture(Future[Any]):
    """A future of `Engine.submit` that says more of its call than that it has ended."""

    begun: list[float] | None = None
    """The times (``time.monotonic()``) when the worker was sent the call. None if that is not known: then a call that waits
    for those of other jobs counts as late."""
    waits: bool = False
    """True while the worker runs something that the engine has not sent, before this call. The time is added to ``begun``
    again when the call begins."""
    nbytes: int = 0
    """Bytes of the payload and the answer, by which calls are kept within the free memory."""


def what_is_said(future: Future[Any]) -> CallFuture | type[CallFuture]:
    """The future, if it is a `CallFuture`; others say nothing, though some answer any attribute."""
    return future if isinstance(future, CallFuture) else CallFuture


@dataclass(slots=True)  # not frozen: a frozen one takes twice as long to pickle
class Reply:
    """The answer to a batch of rows; where, when and how it was computed."""

    values: Any
    """A tree of arrays with a row for each input that did not raise, in order."""
    seconds: float
    """Seconds that ``fn`` took."""
    began: float
    """When ``fn`` was called, in seconds since the epoch by the worker's clock."""
    host: str
    process: int
    raised: Mapping[int, Any] = field(default_factory=dict)
    """By place in the batch: the `Failure` of an input for which ``fn`` raised."""
    output: str = ""
    """What ``fn`` printed."""
    done: int | None = None
    """How many inputs were computed, from the first on, if the call ended early, at its limit."""

    def changed(self, change: Callable[[Any], Any]) -> Reply:
        """The reply of a faulty worker, which returns ``change(values)``."""
        return replace(self, values=change(self.values))


@dataclass(frozen=True, slots=True)
class Member:
    """A worker of an engine whose workers join and leave."""

    domain: Hashable = None
    """Its failure domain, whose workers fail together: a name, or a tuple from the widest group to the narrowest."""
    host: str = ""


@runtime_checkable
class Engine(Protocol):
    """Workers that compute ``fn(payload)``, one call at a time each, failing independently.

    They are 0 to ``workers - 1``, and one that dies is replaced by another of its number. An engine whose workers join
    and leave has three more methods:

    * ``members()``: a mapping of each living worker's number, which is never used again, to its domain and host (``Member``);
    * ``watch(callback)``: from now on call ``callback()``, in any thread, when ``members()`` has changed;
    * ``unwatch(callback)``: stop doing so.

    Other attributes are optional:

    * ``memory_limit``: bytes of each worker, if they are limited; calls are sized by it;
    * ``end(futures)``: as ``abandon``, but at once; it is used for calls that hang, or run beyond their timeout;
    * ``ends``: whether ``end`` ends a call that runs, and its worker is replaced;
    * ``load(worker)``: how many calls a worker has, waiting ones included. By it small jobs at the same time begin with
      different workers.
    """

    @property
    def workers(self) -> int:
        """How many workers there are now."""

    def submit(self, worker: int, fn: Any, payload: Any, /) -> Future[Any]:
        """Compute ``fn(payload)`` on a worker. Either may be a `Kept`, which stands for the kept value.

        Does not block for long. The future fails with what ``fn`` raised, `WorkerCrashed` if the worker died during
        the call, `NotStarted` if it died or had left before, or `KeptLost`. It may be a `CallFuture`.
        """

    def keep(self, worker: int, value: Any, /) -> Kept:
        """Keep a value on a worker for later calls, which fail with `KeptLost` if it dies."""

    def abandon(self, futures: Iterable[Future[Any]]) -> None:
        """Give up these calls. Returns at once, and ends no worker by itself."""


class Watched:
    """``watch`` and ``unwatch`` for an engine whose workers join and leave."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._watchers: list[Callable[[], object]] = []

    def watch(self, callback: Callable[[], object]) -> None:
        """As in `Engine`."""
        self._watchers.append(callback)

    def unwatch(self, callback: Callable[[], object]) -> None:
        """As in `Engine`."""
        with suppress(ValueError):
            self._watchers.remove(callback)

    def _changed(self) -> None:
        for callback in tuple(self._watchers):
            callback()


def members_of(engine: Engine) -> Mapping[int, Member]:
    """The living workers of an engine."""
    members: Callable[[], Mapping[int, Member]] | None = getattr(engine, "members", None)
    if members is None:
        return dict.fromkeys(range(engine.workers), Member())
    return members()


def engine_for(given: Any) -> str | None:
    """The expression that makes an engine of a client, a cluster or Ray; None for anything else."""
    for kind in (given if isinstance(given, type) else type(given)).__mro__:
        package = kind.__module__.partition(".")[0]
        if package == "distributed" and kind.__name__ in ("Client", "ClientExecutor", "Cluster"):
            client = "cluster.get_client()" if kind.__name__ == "Cluster" else "client"
            return f"codedmap.engines.Dask({client})"
        if package == "ray":
            return "codedmap.engines.Ray()"
    return "codedmap.engines.Ray()" if getattr(given, "__name__", None) == "ray" else None


def no_engine(given: Any, workers: int = 8) -> InvalidArgument:
    """The error for an ``engine`` argument that is not an engine, which names one with so many workers."""
    known = engine_for(given)
    if known is not None:
        return InvalidArgument(f"engine={given!r:.80} is not an engine: give {known}")
    if given is None:
        return InvalidArgument(
            f"an engine is needed: give one, such as engine=codedmap.engines.Local(workers={workers})"
        )
    return InvalidArgument(
        f"engine={given!r:.80} is neither an engine nor an Executor: give one such as codedmap.engines.Local(workers={workers}), or "
        f"codedmap.engines.FromExecutor(executor, workers={workers})"
    )
