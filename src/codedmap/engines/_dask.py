"""What the engine `Dask` needs of a Dask cluster: news of its workers, calls to them, their end.

Coroutines run in the client's event loop, where also all news arrive.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Coroutine, Hashable, Mapping
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import Any

import distributed
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.scheduler import KilledWorker

from .._errors import EngineError, InvalidArgument, WorkerCrashed
from ._domains import Domain, as_domain
from ._serve import Request, forget, serve, versions

__all__ = ["Cluster", "Domains", "Worker", "died"]

Domains = Mapping[Any, Hashable] | Callable[[Mapping[str, Any]], Hashable]

_LARGE = 8 << 20  # bytes of a request that goes to its worker at once, not with the task
_SOON = 2.0  # seconds for which a worker that may be stuck is waited for
_AGAIN = 0.2  # seconds until a worker that could not be reached is asked again for its answer
_SAME = "install the same versions of Python and codedmap for the caller, scheduler and workers"


@dataclass(eq=False)
class Worker:
    """A worker process, under the address it has while it lives."""

    address: str
    gone: asyncio.Event = field(default_factory=asyncio.Event)


class _News(SchedulerPlugin):
    """Tells the client which workers come and go, as soon as the scheduler knows."""

    def __init__(self, topic: str) -> None:
        self.name = self._topic = topic

    def add_worker(self, scheduler: Any, worker: str) -> None:
        scheduler.log_event(self._topic, ["came", worker])

    def remove_worker(self, scheduler: Any, worker: str, **_: Any) -> None:
        scheduler.log_event(self._topic, ["went", worker])


class Cluster:
    """A Dask cluster through the eyes of a client.

    Parameters
    ----------
    client : distributed.Client
    run : str
        Names the engine.
    domains : mapping, callable or None
        See `Dask`.

    Raises
    ------
    InvalidArgument
        If this is no client that can be used.
    EngineError
        If it is closed.
    """

    def __init__(self, client: Any, run: str, domains: Domains | None) -> None:
        if not isinstance(client, distributed.Client):
            raise InvalidArgument(
                f"client={client!r} is no Dask client: give distributed.Client(address)"
            )
        if client.asynchronous:
            raise InvalidArgument(
                "the Dask client is asynchronous, and map blocks: give one that was made without "
                "asynchronous=True, and call map outside of its event loop"
            )
        if not (domains is None or callable(domains) or isinstance(domains, Mapping)):
            raise InvalidArgument(
                f"failure_domains={domains!r} must be a mapping from a worker's address, name or host, "
                "or a function of its entry in client.scheduler_info()"
            )
        self._client: Any = client
        self._run = run
        self._topic = f"codedmap-{run}"
        self._domains = domains
        self._doing: set[asyncio.Future[None]] = set()
        self._unfinished: set[distributed.Future[Any]] = set()
        self.check_open()

    @property
    def open(self) -> bool:
        """Whether the client is connected."""
        return bool(self._client.status == "running")

    def check_open(self) -> None:
        """Raise `EngineError` if the client is closed."""
        if not self.open:
            raise EngineError(
                f"the Dask client is {self._client.status}: make a new engine with one that is connected"
            )

    def watch(self, hear: Callable[[str, str], None], grace: float | None) -> dict[str, Domain]:
        """The workers and their domains; from now on hear "came" or "went" with an address.

        Raises
        ------
        InvalidArgument
            If a worker has no domain, or with a grace no nanny.
        EngineError
            If there are no workers, or functions cannot travel to them.
        """
        client = self._client
        client.subscribe_topic(self._topic, lambda event: hear(*event[1]))
        try:
            told = client.run_on_scheduler(versions)
            client.register_plugin(_News(self._topic))
        except Exception as error:
            told = error
        _check_versions("the scheduler", told)
        found = client.scheduler_info(n_workers=-1)["workers"]
        if not found:
            raise EngineError(
                "the Dask cluster has no workers: start some, and wait for them with "
                "client.wait_for_workers(1)"
            )
        alone = [address for address, info in found.items() if not info.get("nanny")]
        if alone and grace is not None:
            raise InvalidArgument(
                f"grace={grace} would end stragglers with their workers, but {len(alone)} of "
                f"{len(found)} workers, such as {alone[0]}, have no nanny to start them anew: start "
                "workers as processes with nannies, or leave grace out"
            )
        domains = {}
        for address, told in client.run(versions, on_error="return").items():
            if address in found and not isinstance(told, OSError):  # else it has just gone
                _check_versions(f"worker {address}", told)
                domains[address] = self._domain(address, found[address])
        if not domains:
            raise EngineError("no worker of the Dask cluster can be reached: are they running?")
        return domains

    async def admit(self, address: str) -> Domain | None:
        """The domain of a worker that came, or None if it has gone or functions cannot travel there."""
        try:
            told = await self._client.run(versions, workers=[address], asynchronous=True)
            _check_versions(address, told[address])
            found = await self._client.scheduler.identity(n_workers=-1)
            return self._domain(address, found["workers"][address])
        except Exception:
            return None

    def send(self, worker: Worker, request: Request, name: str) -> Future[Any]:
        """Have a worker serve a request, once, in a task of this name."""
        if not self.open:
            future: Future[Any] = Future()
            future.set_exception(EngineError("the Dask client was closed"))
            return future
        return asyncio.run_coroutine_threadsafe(self._call(worker, request, name), self._loop)

    async def _call(self, worker: Worker, request: Request, name: str) -> Any:
        answer = asyncio.ensure_future(self._served(worker, request, name))
        gone = asyncio.ensure_future(worker.gone.wait())
        try:
            await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise died(worker.address)
            return answer.result()
        except (KilledWorker, CancelledError, asyncio.CancelledError) as error:
            self.check_open()
            raise died(worker.address) from error
        finally:
            answer.cancel()
            gone.cancel()

    async def _served(self, worker: Worker, request: Any, name: str) -> Any:
        if request.content.inline_bytes > _LARGE:
            [request] = await self._client.scatter(
                [request], workers=[worker.address], hash=False, asynchronous=True
            )
        # Not pure: the same call twice shall run twice. And only there: it shall not run again.
        task = self._client.submit(serve, request, key=name, workers=[worker.address], pure=False)
        self._unfinished.add(task)
        try:
            await distributed.wait(task)
        finally:
            self._unfinished.discard(task)
        if task.status == "error":
            return await task  # which raises
        return await self._fetched(task.key)

    async def _fetched(self, key: str) -> Any:
        # Not by ``await task``: that asks for several answers at once and gets all or none, so one
        # host that is slow, or cut off, would hold up the answers of others.
        while True:
            reply = await self._client.scheduler.gather(keys=[key])
            if reply["status"] == "OK":
                return reply["data"][key]
            await asyncio.sleep(_AGAIN)  # its worker may be back; if it has gone, we shall hear

    async def end(self, address: str) -> None:
        """Kill a worker, which its nanny then starts anew."""
        await self._bid(_kill, [address], nanny=True)

    async def leave(self, addresses: list[str]) -> None:
        """Hear no more news, and have these workers forget what they keep."""
        self._client.unsubscribe_topic(self._topic)
        with contextlib.suppress(Exception):
            await self._client.unregister_scheduler_plugin(self._topic)
        # The scheduler must not forget what still runs, or it would think those workers free.
        for task in self._unfinished:
            distributed.fire_and_forget(task)
        await self._bid(forget, addresses, self._run)

    def do(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run this soon."""
        doing = asyncio.ensure_future(coroutine)
        self._doing.add(doing)
        doing.add_done_callback(self._doing.discard)

    def wait(self, function: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> None:
        """Run this in the event loop and wait for it."""
        self._client.sync(function, *arguments)

    def soon(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call this in the event loop."""
        self._loop.call_soon_threadsafe(function, *arguments)

    def later(self, seconds: float, function: Callable[[], None]) -> None:
        """Call this in the event loop after a time."""
        self._loop.call_later(seconds, function)

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        loop: asyncio.AbstractEventLoop = self._client.loop.asyncio_loop
        return loop

    async def _bid(
        self, fn: Callable[..., None], addresses: list[str], *arguments: Any, nanny: bool = False
    ) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            bidding = self._client.run(
                fn, *arguments, workers=addresses, nanny=nanny, on_error="ignore", asynchronous=True
            )
            await asyncio.wait_for(bidding, _SOON)

    def _domain(self, address: str, info: Mapping[str, Any]) -> Domain:
        host = info["host"]
        if self._domains is None:
            return as_domain(host)
        if callable(self._domains):
            return as_domain(self._domains({"address": address, **info}))
        for key in (address, info["name"], host):
            if key in self._domains:
                return as_domain(self._domains[key])
        raise InvalidArgument(
            f"failure_domains has no entry for the worker {address}: add one for this address, its "
            f"name {info['name']!r} or its host {host!r}"
        )


def died(address: str) -> WorkerCrashed:
    """What a call fails with whose worker did not survive it."""
    return WorkerCrashed(
        f"the Dask worker {address} died during the call, or left: its answer is lost"
    )


def _check_versions(where: str, told: dict[str, str] | BaseException) -> None:
    if isinstance(told, BaseException):
        raise EngineError(
            f"{where} cannot run codedmap ({type(told).__name__}: {told}): {_SAME}"
        ) from told
    here = versions()
    if told != here:
        there, mine = (", ".join(map(" ".join, v.items())) for v in (told, here))
        raise EngineError(f"{where} has {there}, but the caller {mine}: {_SAME}")


def _kill(dask_worker: Any) -> None:
    os.kill(dask_worker.pid, signal.SIGKILL)
