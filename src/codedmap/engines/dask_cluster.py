"""A Dask cluster for the engine `Dask`: events of its workers, calls to them, their end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping
from typing import Any

import distributed
from distributed.diagnostics.plugin import SchedulerPlugin

from ..errors import EngineError, InvalidArgument
from .cluster import Cluster, Domains, EventHandler, check_domains, check_versions, domain_of
from .dask_tasks import Tasks
from .failure_domains import Domain
from .remote_slot import Send
from .transport.serve import forget, versions

__all__ = ["DaskCluster"]

_PATIENCE = 30.0  # seconds for which an answer of the scheduler is waited for
_SOON = 2.0  # seconds for which a worker that may be stuck is waited for


class DaskCluster(Cluster):
    """A Dask cluster as its client sees it; a worker's name is its address.

    Parameters
    ----------
    run : str
        Names the engine.
    client : distributed.Client
    grace, domains
        See `Dask`.

    Raises
    ------
    InvalidArgument
        If this is no client that can be used.
    EngineError
        If it is closed.
    """

    kind = "Dask"

    def __init__(
        self, run: str, *, client: Any, grace: float | None, domains: Domains | None
    ) -> None:
        if not isinstance(client, distributed.Client):
            raise InvalidArgument(
                f"client={client!r} is no Dask client: give distributed.Client(address)"
            )
        if client.asynchronous:
            raise InvalidArgument(
                "the Dask client is asynchronous, and map blocks: give one that was made without "
                "asynchronous=True, and call map outside of its event loop"
            )
        check_domains(
            domains, "a worker's address, name or host", "its entry in client.scheduler_info()"
        )
        self._client: Any = client
        # A client that loses its scheduler connects anew, but our tasks and event topics are forgotten then.
        self._connection: Any = client.scheduler_comm
        self.check_open()
        loop: Any = client.loop
        super().__init__(loop.asyncio_loop)
        self._run = run
        self._topic = f"codedmap-{run}"
        self._grace = grace
        self._domains = domains
        self._workers: set[str] = set()
        self._tasks = Tasks(client, self.check_open, self.crash_error)

    @property
    def open(self) -> bool:
        """Whether the client is connected as it was at the beginning."""
        same = self._client.scheduler_comm is self._connection
        return bool(self._client.status == "running" and same)

    def check_open(self) -> None:
        """Raise `EngineError` if the client was closed, or has lost its scheduler."""
        if self.open:
            return
        if self._client.status in ("newly-created", "closing", "closed"):
            raise EngineError(
                f"the Dask client is {self._client.status}: make a new engine with one that is connected"
            )
        raise EngineError(
            f"the connection to the Dask scheduler at {self._client.scheduler.address} was lost, and with "
            "it every call: make a new engine when it runs and the client is connected again"
        )

    def watch(self, on_event: EventHandler) -> dict[str, Domain]:
        """The workers and their domains; from now on ``on_event`` is called when one joins or leaves.

        Raises
        ------
        InvalidArgument
            If a worker has no domain, or with a grace no nanny.
        EngineError
            If there are no workers, or functions cannot travel to them, or the scheduler does not answer.
        """
        client = self._client
        client.subscribe_topic(self._topic, lambda event: on_event(*event[1]))
        client.sync(self._known, 0)  # it answers
        try:
            found_versions = client.run_on_scheduler(versions)
            client.register_plugin(WorkerEvents(self._topic))
        except Exception as error:
            found_versions = error
        check_versions("the scheduler", found_versions)
        found = client.sync(self._known, -1)
        if not found:
            raise EngineError(
                "the Dask cluster has no workers: start some, and wait for them with "
                "client.wait_for_workers(1)"
            )
        alone = [address for address, info in found.items() if not info.get("nanny")]
        if alone and self._grace is not None:
            raise InvalidArgument(
                f"grace={self._grace} would end stragglers with their workers, but {len(alone)} of "
                f"{len(found)} workers, such as {alone[0]}, have no nanny to start them anew: start "
                "workers as processes with nannies, or leave grace out"
            )
        domains = {}
        for address, found_versions in client.run(versions, on_error="return").items():
            if address in found and not isinstance(
                found_versions, OSError
            ):  # else it has just left
                check_versions(f"worker {address}", found_versions)
                domains[address] = self._domain(address, found[address])
        if not domains:
            raise EngineError("no worker of the Dask cluster can be reached: are they running?")
        self._workers = set(domains)
        return domains

    async def _known(self, count: int) -> dict[str, Any]:
        """A number of the scheduler's workers, -1: all. What the client remembers may be older."""
        try:
            asking = self._client.scheduler.identity(n_workers=count)
            workers: dict[str, Any] = (await asyncio.wait_for(asking, _PATIENCE))["workers"]
            return workers
        except OSError as error:  # also when the time is up
            raise EngineError(
                f"the Dask scheduler at {self._client.scheduler.address} has not answered within "
                f"{_PATIENCE:g} s: is it stopped, overloaded or cut off?"
            ) from error

    async def admit(self, worker: str) -> Domain | None:
        """The domain of a worker that has joined, or None if it has left or functions cannot travel there."""
        try:
            found_versions = await self._client.run(versions, workers=[worker], asynchronous=True)
            check_versions(worker, found_versions[worker])
            domain = self._domain(worker, (await self._known(-1))[worker])
        except Exception:
            return None
        self._workers.add(worker)
        return domain

    def sender(self, worker: str) -> Send:
        """Sends calls to a worker, each to be served once, in a task with a name of its own."""
        return self._tasks.sender(worker)

    def dismiss(self, worker: str) -> None:
        """Send a worker no more calls, and wait for none that it has."""
        self._workers.discard(worker)
        self._tasks.dismiss(worker)

    async def end(self, worker: str) -> None:
        """Kill a worker, which its nanny then starts anew."""
        await self._run_on(kill, [worker], nanny=True)

    async def release(self, workers: list[str], busy: set[str]) -> None:
        """Watch no more events, and have these workers forget what they keep."""
        if self._grace is not None:
            await asyncio.gather(*map(self.end, busy))
        self._client.unsubscribe_topic(self._topic)
        with contextlib.suppress(Exception):
            leaving = self._client.unregister_scheduler_plugin(self._topic)
            await asyncio.wait_for(leaving, _SOON)
        # The scheduler must not forget what still runs, or it would think those workers free.
        for task in self._tasks.unfinished:
            distributed.fire_and_forget(task)
        await self._run_on(
            forget, [worker for worker in workers if worker in self._workers], self._run
        )

    async def _run_on(
        self, fn: Callable[..., None], addresses: list[str], *arguments: Any, nanny: bool = False
    ) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            running = self._client.run(
                fn, *arguments, workers=addresses, nanny=nanny, on_error="ignore", asynchronous=True
            )
            await asyncio.wait_for(running, _SOON)

    def _domain(self, address: str, info: Mapping[str, Any]) -> Domain:
        names = {"address": address, "name": info["name"], "host": info["host"]}
        entry = {"address": address, **info}
        return domain_of(address, self._domains, names, entry, default=info["host"])


class WorkerEvents(SchedulerPlugin):
    """A plugin of the scheduler that logs which workers join and leave, for the client."""

    def __init__(self, topic: str) -> None:
        self.name = self._topic = topic

    def add_worker(self, scheduler: Any, worker: str) -> None:
        scheduler.log_event(self._topic, ["joined", worker])

    def remove_worker(self, scheduler: Any, worker: str, **_: Any) -> None:
        scheduler.log_event(self._topic, ["left", worker])


def kill(dask_worker: Any) -> None:
    """Kill the worker of this nanny, in which this runs."""
    os.kill(dask_worker.pid, signal.SIGKILL)
