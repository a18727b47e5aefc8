"""The workers of a Dask cluster as an engine; imported only where it is used."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import signal
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import CancelledError
from typing import Any

import distributed
from dask.base import annotate
from dask.config import update_defaults
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.protocol.serialize import to_serialize
from distributed.scheduler import KilledWorker

from ..contracts.engine import Member
from ..contracts.memory import size
from ..errors import EngineError, InvalidArgument, NotStarted, WorkerCrashed, WorkerLost, many
from .cluster_engine import ClusterEngine, RemoteQueue, check_versions, weakly
from .failure_domains import Domains, check_domains, domain_of
from .limits import Limits, checked_limits
from .queue_engine import Call
from .transport.serve import forget, release, serve, versions

_PATIENCE = 30.0  # most seconds to wait for an answer of the scheduler
_SOON = 2.0  # most seconds to wait for a worker that may be stuck
_BUSY = 10.0  # most seconds to wait for a scheduler that may be busy, when the engine is closed
_AGAIN = 0.2  # seconds after which a client or worker that did not reach the scheduler tries again
_LOOK = 0.5  # seconds between checks of the connection
_LINGER = 0.1  # seconds for which the task of a worker waits for another call
_LOST_WORKERS = {"distributed": {"deploy": {"lost-worker-timeout": "1h"}}}
"""When a `LocalCluster` closes a nanny without a worker; by default it does if one crashes just 15 s after another."""


class Dask(ClusterEngine):
    """The worker processes of a Dask cluster, which may join and leave at any time.

    * One crash costs one call: a call is never run again by Dask, regardless of ``allowed-failures``. Calls that
      waited for the dead worker fail with `NotStarted`, and `codedmap.map` sends all of them to others. The process
      that a nanny starts in its place is a new worker, with a new number.
    * Calls run in Dask tasks. One named ``codedmap-call3-worker7-...`` runs the third call of worker 7 and those that
      follow, until there are no more or other tasks wait for the worker.
    * Functions travel by cloudpickle; what they import must be installed on the workers.
    * Neither the client nor the cluster is closed with the engine. An engine that nothing refers to any more, and that has
      no call without an answer, is closed, with a ResourceWarning.
    * If ``client.cluster`` is a ``LocalCluster``, the default of ``distributed.deploy.lost-worker-timeout`` is 1 h from then
      on: with Dask's 15 s the cluster loses workers for ever that crash again and again.
    * A worker computes one call at a time, also if it has several threads; a warning says so.

    Dask cannot end a running task: cancelling it only makes the scheduler send other tasks to the busy worker. So what
    happens to a straggler depends on ``grace``:

    * With ``grace=None``, the default, no worker is ever ended: a straggler, or a call that hangs, goes on and holds
      its worker, also after the engine has been closed. Jobs use the others until it is done.
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
        What each call needs. Workers without it are not used; a call waits while others use it.
    failure_domains : mapping or callable, optional
        What a worker fails with: a name, or a tuple from the widest group to the narrowest, such as
        ``("rack 1", "host 7")``. By address, name or host of the worker, or a function of its
        entry in ``client.scheduler_info()["workers"]``. By default the host, also of a worker that
        joins later and has no entry.

    Raises
    ------
    InvalidArgument
        If the client or the failure domains cannot be used, or workers that ``grace`` would end have no
        nanny.
    EngineError
        If there are no workers, or none that meets the limits, if the scheduler does not answer within 30 s, or if Python or
        codedmap differ between caller and cluster. Later also when the connection to the scheduler is lost.
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
                f"client={client!r} is not a Dask client: give distributed.Client(address)"
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
        self._limits = checked_limits(limits)
        self._client: Any = client
        if client.status == "connecting":  # in a task of Dask, another thread may have just made it
            with contextlib.suppress(TimeoutError):
                client.sync(_connected, client, callback_timeout=_PATIENCE)
        # A client that loses its scheduler connects anew. But the scheduler has then forgotten our tasks and topics.
        self._connection: Any = client.scheduler_comm
        self._check_open()
        if isinstance(self._client.cluster, distributed.LocalCluster):
            update_defaults(_LOST_WORKERS)
        loop: Any = client.loop
        super().__init__(workers, grace, loop.asyncio_loop)
        self._topic = f"codedmap-{self.run}"
        self._domains = failure_domains
        self.memory_limit: int | None = None
        self._least_memory: int | None = None  # the lowest limit of a worker, in bytes
        self._left: set[str] = set()  # addresses of workers
        self._calls: dict[str, tuple[str, Call]] = {}  # with their names, by worker
        self._tasks: dict[str, asyncio.Future[None]] = {}  # that run the calls, by worker
        self._unfinished: set[Any] = set()  # Dask tasks that may still run
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
        heard = weakly(self._on_event)  # the client keeps it, also when it unsubscribes
        client.subscribe_topic(self._topic, lambda event: heard(*event[1]))
        client.sync(self._known, 0)  # raises if the scheduler does not answer
        try:
            found_versions = client.run_on_scheduler(versions)
            client.register_plugin(Exchange(self._topic, client.id))
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
            needs = [f"{what}={need:g}" for what, need in self._limits.resources.items()]
            options = [f" --resources {','.join(needs)}"] if needs else []
            if self._limits.bytes:
                options.append(f" --memory-limit {self._limits.bytes}")
            raise EngineError(
                f"no worker of the Dask cluster has what {self._limits} asks for: start some with it, by "
                f"`dask worker{''.join(options)}`, say"
            )
        known = [info["memory_limit"] for info in found.values() if info["memory_limit"]]
        self._least_memory = min(known, default=None)
        self.memory_limit = self._limits.bytes or self._least_memory
        alone = [address for address, info in found.items() if not info.get("nanny")]
        if alone and self._grace is not None:
            raise InvalidArgument(
                f"grace={self._grace} would end stragglers with their workers, but {len(alone)} of "
                f"{len(found)} workers, such as {alone[0]}, have no nanny to start them anew: start "
                "workers as processes with nannies, or leave grace out"
            )
        members = {}
        for address, found_versions in client.run(versions, on_error="return").items():
            just_left = isinstance(found_versions, OSError)
            if address in found and not just_left:
                check_versions(f"worker {address}", found_versions)
                members[address] = self._member(address, found[address], late=False)
        # Workers that are threads of the caller print to its output.
        self.in_process = any(address.startswith("inproc://") for address in members)
        if not members:
            raise EngineError("no worker of the Dask cluster can be reached: are they running?")
        threads = sum(found[address]["nthreads"] for address in members)
        if threads > len(members):
            warnings.warn(
                f"the Dask cluster has {threads} threads in {many(len(members), 'worker')}, and a worker computes one call at a "
                "time: start more workers with one thread each (threads_per_worker=1, or `dask worker --nthreads 1`)",
                stacklevel=3,
            )
        return members

    async def _begin(self, found: Mapping[str, Member]) -> None:
        await super()._begin({a: member for a, member in found.items() if a not in self._left})
        self._look()

    def _look(self) -> None:
        """Check regularly that the scheduler is connected: without it every request would wait for 30 s."""
        if self._closed:
            return
        try:
            self._check_open()
        except EngineError as error:
            self._lose(str(error))
        else:
            self._loop.call_later(_LOOK, weakly(self._look))

    async def _known(self, count: int) -> dict[str, Any]:
        """So many of the scheduler's workers, -1: all. The client's own list may be out of date."""
        try:
            asking = self._client.scheduler.identity(n_workers=count)
            workers: dict[str, Any] = (await asyncio.wait_for(asking, _PATIENCE))["workers"]
            return workers
        except OSError as error:  # TimeoutError is one
            raise EngineError(
                f"the Dask scheduler at {self._client.scheduler.address} has not answered within "
                f"{_PATIENCE:g} s: is it stopped, overloaded or cut off?"
            ) from error

    def _on_event(self, what: str, address: str, call: str = "", answer: Any = None) -> None:
        name, running = self._calls.get(address, ("", None))
        if what == "answered":
            if running is not None and name == call:
                del self._calls[address]
                running.future.queue.answered(running, answer)
        elif what == "began":
            if name == call and address in self._named:
                self._named[address].note_wait(False)
        elif what == "joined":
            self._left.discard(address)
            self._do(self._admit(address))
        elif what == "paused":
            limit = f" of {size(self._least_memory)}" if self._least_memory else ""
            self._leave(
                address,
                NotStarted(
                    f"the Dask worker {address} is paused: near its memory limit{limit} it starts nothing until it takes less"
                ),
            )
            if not self.in_process:  # release the engine's kept values, which take memory as well
                self._do(self._run_on(forget, [address], self.run))
        else:
            self._left.add(address)
            error: WorkerLost = self._crash_error(address)
            if not call or name != call:
                error = NotStarted(f"the Dask worker {address} died or left before the call began")
            self._leave(address, error)

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

    def _crash_error(self, name: str) -> WorkerCrashed:
        limit = self._least_memory
        why = (
            f" (a nanny, if any, ends it near its memory limit, here {size(limit)})"
            if limit
            else ""
        )
        return WorkerCrashed(f"{super()._crash_error(name)}{why}")

    def _dismiss(self, name: str) -> None:
        self._fail_call(name, self._crash_error(name))
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()

    async def _end(self, name: str) -> None:
        await self._run_on(kill, [name], nanny=True)

    async def _forget(self, name: str, key: Hashable) -> None:
        await self._run_on(release, [name], key)

    async def _release(self, busy: list[str]) -> None:
        if self._grace is not None:
            for name in busy:
                self._dismiss(name)  # else its task would wait for ever for such a worker
            await asyncio.gather(*map(self._end, busy))
        with contextlib.suppress(Exception):
            idle = self._tasks.keys() - self._calls.keys()
            stopping = [self._ask("stop", name) for name in idle]
            # Wait for the tasks: a worker that is closed before its task has ended writes warnings.
            ending = [self._tasks[name] for name in idle]
            await asyncio.wait_for(asyncio.gather(*stopping, *ending), _SOON)
        with contextlib.suppress(Exception):
            self._client.unsubscribe_topic(self._topic)
            leaving = self._client.unregister_scheduler_plugin(self._topic)
            await asyncio.wait_for(leaving, _SOON)
        # If the scheduler forgot tasks that still run, their workers would count as free.
        if self._unfinished:
            keys = [task.key for task in self._unfinished]
            with contextlib.suppress(OSError, TimeoutError):
                holding = self._client.run_on_scheduler(hold_running, keys=keys)
                await asyncio.wait_for(holding, _BUSY)
        await self._run_on(forget, list(self._named), self.run)

    async def _run_on(
        self, fn: Callable[..., None], addresses: list[str], *arguments: Any, nanny: bool = False
    ) -> None:
        # KeyError: the scheduler has just lost the worker of this nanny.
        with contextlib.suppress(KeyError, OSError, TimeoutError):
            running = self._client.run(
                fn, *arguments, workers=addresses, nanny=nanny, on_error="ignore", asynchronous=True
            )
            await asyncio.wait_for(running, _SOON)

    # Calls.

    def _send(self, queue: RemoteQueue, call: Call) -> None:
        if self._named.get(queue.name) is not queue:
            raise self._crash_error(queue.name)
        name = f"codedmap-call{queue.begun}-worker{queue.number}-{self.run}"
        self._calls[queue.name] = name, call
        self._do(self._offer(queue, call, name))

    async def _offer(self, queue: RemoteQueue, call: Call, name: str) -> None:
        """Have a call run by the task of its worker, or by a new task."""
        address, request = queue.name, to_serialize(call.request)
        try:
            needed = await self._ask("offer", address, call=name, request=request)
        except Exception as error:
            self._fail_call(address, error)
        else:
            if needed and self._calls.get(address) == (name, call):
                queue.note_wait(True)
                self._tasks[address] = asyncio.ensure_future(self._run_task(address, name))

    async def _ask(self, do: str, address: str, **message: Any) -> Any:
        return await ask(
            self._client, self._is_open, topic=self._topic, do=do, worker=address, **message
        )

    def _fail_call(self, address: str, error: BaseException) -> None:
        _, call = self._calls.pop(address, ("", None))
        if call is None:
            return
        try:
            self._check_open()
        except EngineError as lost:
            error = lost
        call.future.queue.answered(call, None, error)

    async def _run_task(self, address: str, name: str) -> None:
        """Have a Dask task run this call of a worker and those that follow."""
        # On one worker only, so that no call is run again elsewhere, even if the caller's `dask.annotate` allows it.
        with annotate(resources=self._limits.resources, allow_other_workers=False):
            task = self._client.submit(
                run_calls, self._topic, key=name, workers=[address], pure=False
            )
        self._unfinished.add(task)
        try:
            error = await task.exception()
            if error is None and task.cancelled():
                error = CancelledError()
        finally:
            self._unfinished.discard(task)
            task.release()  # else it would run when a worker of this address comes back
            current = self._tasks.get(address) is asyncio.current_task()
            if current:
                del self._tasks[address]
        if error is not None and current:
            if isinstance(error, KilledWorker | CancelledError):
                error = self._crash_error(address)
            else:  # such as an answer that cannot be sent: the worker is alive
                with contextlib.suppress(OSError, RuntimeError):
                    await self._ask("stop", address)
            self._fail_call(address, error)


async def _connected(client: Any) -> None:
    while client.status == "connecting":
        await asyncio.sleep(_AGAIN)


async def ask(node: Any, is_open: Callable[[], bool], **message: Any) -> Any:
    """Ask the scheduler's plugin from a client or a worker, again and again while the connection is lost."""
    while True:
        try:
            return await node.scheduler.codedmap(**message)
        except OSError:
            if not is_open():
                raise
            await asyncio.sleep(_AGAIN)


def run_calls(topic: str) -> None:
    """Run the calls of the worker in which this runs, one after the other."""
    worker = distributed.get_worker()

    def is_open() -> bool:
        return bool(worker.status == distributed.Status.running)

    message: dict[str, Any] = {"topic": topic, "do": "answer", "worker": worker.address}
    taken = distributed.utils.sync(worker.loop, ask, worker, is_open, **message)
    while taken is not None:
        call, request = taken
        answer = to_serialize(serve(request))
        taken = distributed.utils.sync(
            worker.loop, ask, worker, is_open, call=call, answer=answer, **message
        )


class _Place:
    """What the scheduler knows of the calls of one worker."""

    def __init__(self) -> None:
        # Lists, because Dask does not deserialize what is in tuples for workers that are threads.
        self.offered: list[Any] | None = None
        """The name and the request of a call that no task has taken."""
        self.taken: list[Any] | None = None
        """The name and the request of the call that runs."""
        self.latest = self.first = self.answered = ""
        """Names of the last calls that were offered, that needed a new task, and that were answered."""
        self.served = False
        """Whether the worker has a task that takes calls."""
        self.news = asyncio.Event()  # set when the next call is offered, or the task is to end


class Exchange(SchedulerPlugin):
    """A plugin of the scheduler that passes calls to the tasks of workers and answers to the client.

    A worker gets its next call after its answer has come here, so that its death costs one call. A request that is
    repeated, because a connection was lost, is done once. Workers that join and leave are reported to the client as well.
    """

    def __init__(self, topic: str, client: str) -> None:
        self.name = self._topic = topic
        self._client = client

    async def start(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        self._places: defaultdict[str, _Place] = defaultdict(_Place)
        self._paused: set[str] = set()
        scheduler.handlers["codedmap"] = self.exchange

    def add_worker(self, scheduler: Any, worker: str) -> None:
        self._paused.discard(worker)
        scheduler.log_event(self._topic, ["joined", worker])

    def log_event(self, topic: str, msg: Any) -> None:
        """Called for all events of the scheduler: note that a worker is paused, or runs again."""
        if not isinstance(msg, dict) or msg.get("action") != "worker-status-change":
            return
        if msg["status"] == "running" and topic in self._paused:
            self.add_worker(self._scheduler, topic)
        elif msg["status"] == "paused" and topic in self._places:
            self._note_pause(topic, self._places[topic])

    def _note_pause(self, worker: str, place: _Place) -> None:
        """If a call waits for a new task of a paused worker, report the worker as left until it runs again."""
        if place.offered is not None and place.first == place.latest:
            place.offered = None
            del self._places[worker]
            self._paused.add(worker)
            self._scheduler.log_event(self._topic, ["paused", worker])

    def remove_worker(self, scheduler: Any, worker: str, **_: Any) -> None:
        taken = self._places.pop(worker, _Place()).taken
        scheduler.log_event(self._topic, ["left", worker, taken[0] if taken else ""])

    def remove_client(self, scheduler: Any, client: str) -> None:
        if client == self._client:
            scheduler.remove_plugin(self.name)
            # A caller that was killed has not released the values that its workers keep.
            run = self._topic.removeprefix("codedmap-")
            released = {"op": "run", "function": pickle.dumps(forget), "args": pickle.dumps((run,))}
            releasing = scheduler.broadcast(
                msg=released, workers=list(self._places), on_error="ignore"
            )
            self._releasing = asyncio.ensure_future(releasing)

    async def exchange(self, topic: str, do: str, worker: str, **message: Any) -> Any:
        """Handle a request of a client or a worker to the plugin of its engine, perhaps another than this."""
        plugin = self._scheduler.plugins.get(topic)
        if plugin is None or worker not in self._scheduler.workers:
            return None
        return await getattr(plugin, do)(worker, **message)

    async def offer(self, worker: str, call: str, request: Any) -> bool:
        """Take a call from the client; return whether it needs a task to run it."""
        place = self._places[worker]
        if call != place.latest:
            place.latest, place.offered = call, [call, request]
            place.news.set()
            if not place.served:
                place.first, place.served = call, True
                if self._scheduler.workers[worker].status is distributed.Status.paused:
                    self._note_pause(worker, place)
        return place.first == call and worker not in self._paused

    async def answer(self, worker: str, call: str = "", answer: Any = None) -> Any:
        """Take an answer from a worker's task, if it has one; return its next call, or None if the task is to end."""
        place = self._places[worker]
        if call and call != place.answered:
            place.answered, place.taken = call, None
            self._send(["answered", worker, call, answer])
            # If tasks of others wait for this worker, or for any, it is their turn.
            others = len(self._scheduler.workers[worker].processing) > 1
            place.served = not others and not self._scheduler.queued
        if not place.served:
            return None
        if place.taken is None and place.offered is None:
            place.news.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(place.news.wait(), _LINGER)
        if place.taken is None:
            place.taken, place.offered = place.offered, None
            if place.taken is not None and place.taken[0] == place.first:
                self._send(["began", worker, place.first])
        place.served = place.taken is not None
        return place.taken

    async def stop(self, worker: str) -> None:
        """Note that the task of a worker has failed, or is not to wait for more calls."""
        place = self._places[worker]
        place.taken, place.served = None, False
        place.news.set()

    def _send(self, event: list[Any]) -> None:
        """Send an event to the client, which the scheduler does not log, unlike those of `log_event`."""
        stream = self._scheduler.client_comms.get(self._client)
        if stream is not None:
            stream.recent_message_log.clear()  # it keeps messages, for debugging
            stream.send({"op": "event", "topic": self._topic, "event": [time.time(), event]})


def hold_running(keys: list[str], dask_scheduler: Any) -> None:
    """Have the scheduler keep tasks until they end; `distributed.fire_and_forget` would keep ended tasks for ever."""
    tasks = dask_scheduler.tasks
    running = [key for key in keys if key in tasks and tasks[key].state == "processing"]
    dask_scheduler.client_desires_keys(keys=running, client="fire-and-forget")


def kill(dask_worker: Any) -> None:
    """Kill the worker of the nanny in which this runs."""
    os.kill(dask_worker.pid, signal.SIGKILL)
