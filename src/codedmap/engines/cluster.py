"""The interface of a cluster: its workers, calls to them, their end, and an event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Hashable, Mapping
from typing import Any

from ..errors import EngineError, InvalidArgument, WorkerCrashed
from .failure_domains import Domain, as_domain
from .remote_slot import Send
from .transport.serve import versions

__all__ = ["Cluster", "Domains", "EventHandler", "check_domains", "check_versions", "domain_of"]

Domains = Mapping[Any, Hashable] | Callable[[Mapping[str, Any]], Hashable]
EventHandler = Callable[[str, str], None]
"""Called in the event loop with "joined" or "left" and a worker's name, or with "closed" and why."""

_SAME = "install the same versions of Python and codedmap for the caller and for all workers"


class Cluster:
    """Worker processes that join and leave, under names that are never used again.

    Coroutines run in an event loop in another thread, where also all events arrive.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
    """

    kind: str
    """Whose workers these are, for messages."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._doing: set[asyncio.Future[None]] = set()

    @property
    def open(self) -> bool:
        """Whether the caller is connected to it."""
        raise NotImplementedError

    def check_open(self) -> None:
        """Raise `EngineError` if the caller is not connected to it any more."""
        raise NotImplementedError

    def watch(self, on_event: EventHandler) -> dict[str, Domain]:
        """The workers and their domains; from now on ``on_event`` is called when one joins or leaves."""
        raise NotImplementedError

    async def admit(self, worker: str) -> Domain | None:
        """The domain of a worker that has joined, or None if it cannot be used."""
        raise NotImplementedError

    def sender(self, worker: str) -> Send:
        """Sends calls to a worker."""
        raise NotImplementedError

    def dismiss(self, worker: str) -> None:
        """Send a worker no more calls, and wait for none that it has."""
        raise NotImplementedError

    async def end(self, worker: str) -> None:
        """Kill a worker."""
        raise NotImplementedError

    async def release(self, workers: list[str], busy: set[str]) -> None:
        """Undo what was done to these workers; some of them are busy with calls of the engine."""
        raise NotImplementedError

    def close(self) -> None:
        """Release everything else; called last, and also if nothing else was called."""

    def crash_error(self, worker: str) -> WorkerCrashed:
        """The error of a call whose worker died."""
        return WorkerCrashed(
            f"the {self.kind} worker {worker} died during the call, or left: its answer is lost"
        )

    def no_worker_message(self) -> str:
        """Why a slot has no worker, and what to do about it."""
        return f"the {self.kind} cluster has had no worker for this slot: start workers"

    def do(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run this soon; to be called in the event loop."""
        doing = asyncio.ensure_future(coroutine)
        self._doing.add(doing)
        doing.add_done_callback(self._doing.discard)

    def wait(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run this in the event loop and wait for it."""
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def soon(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call this in the event loop, unless that has ended, and everything with it."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    def later(
        self, seconds: float, function: Callable[..., None], *arguments: Any
    ) -> asyncio.TimerHandle:
        """Call this in the event loop after a time; to be called there."""
        return self._loop.call_later(seconds, function, *arguments)


def check_versions(where: str, found: Any) -> None:
    """Raise `EngineError` unless the versions found there, or the error instead, are those of the caller."""
    if isinstance(found, BaseException):
        raise EngineError(
            f"{where} cannot run codedmap ({type(found).__name__}: {found}): {_SAME}"
        ) from found
    here = versions()
    if found != here:
        there, mine = (", ".join(map(" ".join, v.items())) for v in (found, here))
        raise EngineError(f"{where} has {there}, but the caller {mine}: {_SAME}")


def check_domains(domains: Domains | None, keys: str, entry: str) -> None:
    """Raise `InvalidArgument` if these can be no failure domains."""
    if not (domains is None or callable(domains) or isinstance(domains, Mapping)):
        raise InvalidArgument(
            f"failure_domains={domains!r} must be a mapping from {keys}, or a function of {entry}"
        )


def domain_of(
    worker: str,
    domains: Domains | None,
    names: Mapping[str, Hashable],
    info: Mapping[str, Any],
    default: Hashable,
) -> Domain:
    """The domain of a worker that is known under several names, such as its host's.

    Raises
    ------
    InvalidArgument
        If it is in the mapping under none of them.
    """
    if domains is None:
        return as_domain(default)
    if callable(domains):
        return as_domain(domains(info))
    for name in names.values():
        if name in domains:
            return as_domain(domains[name])
    known = " or ".join(f"its {what} {name!r}" for what, name in names.items())
    raise InvalidArgument(
        f"failure_domains has no entry for the worker {worker}: add one for {known}"
    )
