"""The workers of a Dask cluster as an engine; imported only where it is used."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from typing import Any

import distributed
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.scheduler import KilledWorker

from ..contracts.engine import Member
from ..errors import EngineError, InvalidArgument
from .cluster_engine import ClusterEngine, check_versions
from .failure_domains import Domains, check_domains, domain_of
from .limits import Limits
from .remote_queue import RemoteQueue
from .transport.serve import Request, forget, serve, versions

__all__ = ["Dask"]

_PATIENCE = 30.0  # seconds for which an answer of the scheduler is waited for
_SOON = 2.0  # seconds for which a worker that may be stuck is waited for
_LARGE = 8 << 20  # bytes of a request that goes to its worker at once, not with the task
_AGAIN = 0.2  # seconds until a worker that could not be reached is asked again for its answer
_LATER = 0.1  # seconds for which a task is still known after its answer has come


class Dask(ClusterEngine):
    """The worker processes of a Dask cluster, which may join and leave at any time.

    * One crash costs one call: a call is never run again by Dask, regardless of ``allowed-failures``. Calls that
      waited for the dead worker fail with `NotStarted`, and `codedmap.map` sends all of them to others. The process
      that a nanny starts in its place is a new worker, with a new number.
    * Calls are Dask tasks named ``codedmap-call3-worker7-...``: here the third call of worker 7.
    * Functions travel by cloudpickle; what they import must be installed on the workers.
    * Neither the client nor the cluster is closed with the engine.

    What becomes of a straggler depends on ``grace``, because Dask cannot end a running task: what
    it calls cancelling only makes its scheduler send other tasks to the busy worker.

    * With ``grace=None``, the default, no worker is ever ended: a straggler goes on and holds its worker, also after
      the engine has been closed. Jobs use the others until it is done.
    * With a number of seconds, the worker process of an abandoned call that still runs then is
      killed, and so is, when the engine is closed, that of any call that still runs; its nanny starts
      another, which takes some seconds. Everything else that the process held, also for other users of the
      cluster, is lost to Dask, which computes it again where it can.

    Parameters
    ----------
    client : distributed.Client
        Connected, and not asynchronous.
    workers : int, optional
        How many worker processes are used at a time, at most. By default all, also those that come later.
    grace : float, optional
        Seconds for which an abandoned call may still run before its worker is ended.
    limits : Limits, optional
        What each call needs: workers without it are not used, and what others use of it a call waits for.
    failure_domains : mapping or callable, optional
        With whom a worker fails: a name, or a tuple from the widest group to the narrowest, such as
        ``("rack 1", "host 7")``. By address, name or host of the worker, or a function of its
        entry in ``client.scheduler_info()["workers"]``. By default the host, also of a worker that
        joins later and has no entry.

    Raises
    ------
    InvalidArgument
        If the client or the failure domains cannot be used, or workers that ``grace`` would end have no
        nanny.
    EngineError
        If there are no workers, or none with what the limits say, the scheduler does not answer within 30 s, or Python or codedmap
        differ between caller and cluster. Later also when the connection to the scheduler is lost.
    """

    kind = "Dask"

    def __init__(
        self,
        client: distributed.Client,
        *,
        workers: int | None = None,
        grace: float | None = None,
        limits: Limits | None = None,
        failure_domains: Domains | None = None,
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
            failure_domains,
            "a worker's address, name or host",
            "its entry in client.scheduler_info()",
        )
        self._client: Any = client
        # A client that loses its scheduler connects anew, but our tasks and event topics are forgotten then.
        self._connection: Any = client.scheduler_comm
        self._check_open()
        loop: Any = client.loop
        super().__init__(workers, grace, loop.asyncio_loop)
        self._topic = f"codedmap-{self._run}"
        self._domains = failure_domains
        self._limits = limits or Limits()
        self.memory_limit: int | None = None
        self._left: set[str] = set()
        self._calls: dict[str, asyncio.Task[Any]] = {}
        self._unfinished: set[Any] = set()  # tasks that are not known to have ended
        try:
            self._wait(self._begin(self._find()))
        except BaseException:
            self.close()
            raise

    def _is_open(self) -> bool:
        same = self._client.scheduler_comm is self._connection
        return bool(self._client.status == "running" and same)

    def _check_open(self) -> None:
        if self._is_open():
            return
        if self._client.status in ("newly-created", "closing", "closed"):
            raise EngineError(
                f"the Dask client is {self._client.status}: make a new engine with one that is connected"
            )
        raise EngineError(
            f"the connection to the Dask scheduler at {self._client.scheduler.address} was lost, and with "
            "it every call: make a new engine when it runs and the client is connected again"
        )

    # Workers.

    def _find(self) -> dict[str, Member]:
        """Watch for workers that join and leave, and find those that are there."""
        client = self._client
        client.subscribe_topic(self._topic, lambda event: self._on_event(*event[1]))
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
        found = {address: info for address, info in found.items() if self._has_needed(info)}
        if not found:
            raise EngineError(
                f"no worker of the Dask cluster has what {self._limits} asks for: start some with it, such as "
                "`dask worker --resources GPU=1 --memory-limit 4GB`"
            )
        known = [info["memory_limit"] for info in found.values() if info["memory_limit"]]
        self.memory_limit = self._limits.bytes or min(known, default=None)
        alone = [address for address, info in found.items() if not info.get("nanny")]
        if alone and self._grace is not None:
            raise InvalidArgument(
                f"grace={self._grace} would end stragglers with their workers, but {len(alone)} of "
                f"{len(found)} workers, such as {alone[0]}, have no nanny to start them anew: start "
                "workers as processes with nannies, or leave grace out"
            )
        members = {}
        for address, found_versions in client.run(versions, on_error="return").items():
            if address in found and not isinstance(
                found_versions, OSError
            ):  # else it has just left
                check_versions(f"worker {address}", found_versions)
                members[address] = self._member(address, found[address], late=False)
        if not members:
            raise EngineError("no worker of the Dask cluster can be reached: are they running?")
        return members

    async def _begin(self, found: Mapping[str, Member]) -> None:
        await super()._begin({a: member for a, member in found.items() if a not in self._left})

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

    def _on_event(self, what: str, address: str) -> None:
        if what == "joined":
            self._left.discard(address)
            self._do(self._admit(address))
        else:
            self._left.add(address)
            self._leave(address, self._crash_error(address))

    async def _admit(self, address: str) -> None:
        """Use a worker that has joined, unless functions cannot travel there."""
        with contextlib.suppress(Exception):
            found_versions = await self._client.run(versions, workers=[address], asynchronous=True)
            check_versions(address, found_versions[address])
            info = (await self._known(-1))[address]
            if address not in self._left and self._has_needed(info):
                self._join(address, self._member(address, info, late=True))

    def _has_needed(self, info: Mapping[str, Any]) -> bool:
        """Whether a worker has what a call needs."""
        has, memory = info["resources"], info["memory_limit"] or float("inf")
        enough = all(has.get(what, 0) >= need for what, need in self._limits.resources.items())
        return enough and memory >= (self._limits.bytes or 0)

    def _member(self, address: str, info: Mapping[str, Any], *, late: bool) -> Member:
        host = info["host"]
        names = {"address": address, "name": info["name"], "host": host}
        entry = {"address": address, **info}
        return Member(domain_of(address, self._domains, names, entry, host, late=late), host)

    def _dismiss(self, name: str) -> None:
        call = self._calls.pop(name, None)
        if call is not None:
            call.cancel()

    async def _end(self, name: str) -> None:
        await self._run_on(kill, [name], nanny=True)

    async def _release(self, busy: list[str]) -> None:
        if self._grace is not None:
            for name in busy:
                self._dismiss(name)  # or its task would wait for ever for a worker of this address
            await asyncio.gather(*map(self._end, busy))
        with contextlib.suppress(Exception):
            self._client.unsubscribe_topic(self._topic)
            leaving = self._client.unregister_scheduler_plugin(self._topic)
            await asyncio.wait_for(leaving, _SOON)
        # The scheduler must not forget what still runs, or it would think those workers free.
        if self._unfinished:
            keys = [task.key for task in self._unfinished]
            with contextlib.suppress(OSError, TimeoutError):
                holding = self._client.run_on_scheduler(hold_running, keys=keys)
                await asyncio.wait_for(holding, _SOON)
        await self._run_on(forget, list(self._named), self._run)

    async def _run_on(
        self, fn: Callable[..., None], addresses: list[str], *arguments: Any, nanny: bool = False
    ) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            running = self._client.run(
                fn, *arguments, workers=addresses, nanny=nanny, on_error="ignore", asynchronous=True
            )
            await asyncio.wait_for(running, _SOON)

    # Calls.

    def _send(self, queue: RemoteQueue, request: Request, count: int) -> Future[Any]:
        try:
            self._check_open()
        except EngineError as error:
            future: Future[Any] = Future()
            future.set_exception(error)
            return future
        call = self._call(queue, request, f"codedmap-call{count}-worker{queue.number}-{self._run}")
        return asyncio.run_coroutine_threadsafe(call, self._loop)

    async def _call(self, queue: RemoteQueue, request: Request, key: str) -> Any:
        address = queue.name
        if self._named.get(address) is not queue:
            raise self._crash_error(address)
        call = asyncio.current_task()
        assert call is not None
        self._calls[address] = call
        try:
            return await self._serve(address, request, key)
        except (KilledWorker, CancelledError, asyncio.CancelledError) as error:
            self._check_open()
            raise self._crash_error(address) from error
        finally:
            if self._calls.get(address) is call:
                del self._calls[address]
            del (
                call
            )  # a reference cycle with the error would keep the payload until garbage collection

    async def _serve(self, address: str, request: Any, key: str) -> Any:
        """The answer to a request, which is served once, in a task with a name of its own."""
        if request.content.nbytes > _LARGE:
            [request] = await self._client.scatter(
                [request], workers=[address], hash=False, asynchronous=True
            )
        # Not pure, so that equal calls run twice; on one worker only, so that a call is not run again elsewhere.
        task = self._client.submit(
            serve, request, key=key, workers=[address], pure=False, resources=self._limits.resources
        )
        self._unfinished.add(task)
        try:
            error = await task.exception()
            if error is not None:
                raise error
            if task.cancelled():
                raise CancelledError
            answer = await self._fetch(key)
        except BaseException:
            task.release()  # or it would run when a worker of this address comes back
            raise
        finally:
            self._unfinished.discard(task)
            # The client keeps a log of what it has sent, for debugging: it would grow to gigabytes of payloads.
            self._connection.recent_message_log.clear()
        # Forgetting a task costs scheduler and worker time, which pending answers need now.
        self._loop.call_later(_LATER, task.release)
        return answer

    async def _fetch(self, key: str) -> Any:
        """The answer of a task that has ended."""
        # Not `Client.gather`, which joins concurrent requests into one that waits for the slowest.
        while True:
            self._check_open()
            with contextlib.suppress(OSError):  # the connection was lost
                reply = await self._client.scheduler.gather(keys=[key])
                if reply["status"] == "OK":
                    return reply["data"][key]
            await asyncio.sleep(_AGAIN)  # its worker may be back; if it has left, this is cancelled


class WorkerEvents(SchedulerPlugin):
    """A plugin of the scheduler that logs which workers join and leave, for the client."""

    def __init__(self, topic: str) -> None:
        self.name = self._topic = topic

    def add_worker(self, scheduler: Any, worker: str) -> None:
        scheduler.log_event(self._topic, ["joined", worker])

    def remove_worker(self, scheduler: Any, worker: str, **_: Any) -> None:
        scheduler.log_event(self._topic, ["left", worker])


def hold_running(keys: list[str], dask_scheduler: Any) -> None:
    """Have the scheduler keep tasks until they end; `distributed.fire_and_forget` keeps one that has ended for ever."""
    tasks = dask_scheduler.tasks
    running = [key for key in keys if key in tasks and tasks[key].state == "processing"]
    dask_scheduler.client_desires_keys(keys=running, client="fire-and-forget")


def kill(dask_worker: Any) -> None:
    """Kill the worker of this nanny, in which this runs."""
    os.kill(dask_worker.pid, signal.SIGKILL)
