"""Actors on a Ray cluster as an engine; imported only where it is used."""

from __future__ import annotations

import asyncio
import contextlib
import copyreg
import signal
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import partial
from typing import Any

import ray
from ray.util import client
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ..contracts.arguments import check_whole, is_real
from ..contracts.engine import Member
from ..errors import EngineError, InvalidArgument, WorkerCrashed
from .cluster_engine import ClusterEngine, RemoteQueue, check_versions, weakly
from .failure_domains import Domains, check_domains, domain_of, spread
from .limits import Limits, checked_limits
from .queue_engine import Call
from .transport.failure import Failure
from .transport.parcel import Parcel
from .transport.serve import Request, Terminated, release, serve, versions

_START = 60.0  # most seconds to wait for the next actor to start
_LOOK = 1.0  # seconds between checks of the cluster
_SUSPICION = 30.0  # seconds for which no actor is started on a node that did not answer
_FREED = 1.0  # most seconds until the resources of a killed actor are free
_AGAIN = 1.0  # seconds after which another actor is started in place of one that did not start
_SHUT = (
    "Ray has been shut down, and the engine's workers with it: call ray.init() and make a new "
    "engine"
)


class Ray(ClusterEngine):
    """Actors on a Ray cluster: worker processes that the engine starts, replaces and ends.

    * Ray must be initialised: ``ray.init()``.
    * One crash costs one call: Ray runs nothing again (``max_restarts`` and ``max_task_retries`` are 0). Calls that
      waited for the dead worker fail with `NotStarted`, and `codedmap.map` sends all of them to others. Another
      actor is started, which takes about a second; it is a new worker, with a new number.
    * After ``grace`` seconds the actor of an abandoned call that still runs is killed, also deep in C
      code, and another is started. Until then the call holds its worker.
    * Calls are named by their worker, ``codedmap-worker7-...``.
    * Functions travel by cloudpickle; what they import must be installed on the nodes.
    * Closing the engine kills its actors, also busy ones. Ray keeps running. An engine that nothing refers to any more, and
      that has no call without an answer, is closed, with a ResourceWarning.

    It has four limitations, which are those of Ray:

    * A worker that is killed between two calls is found dead by the next, which it costs.
      A node that is lost then is noticed within a second after Ray reports it.
    * Processes that a function has started may outlive its worker.
    * A worker that the system has stopped (SIGSTOP) ends only 5 s after it was killed.
    * In the caller, Ray keeps a little of every actor that has died: megabytes after a thousand crashes.

    Parameters
    ----------
    workers : int, optional
        How many actors are started and kept alive; by default one for each CPU of the cluster or, if they reserve
        something, as many as there is room for. With room for fewer, the others join when there is room.
    grace : float, optional
        Seconds for which an abandoned call may still run before its actor is killed; None: no limit.
    num_cpus : float
        CPUs that Ray reserves for each worker. By default none, so that any number fits on a small machine;
        on a cluster that others use as well, reserve what your function uses.
    limits : Limits, optional
        What else to reserve for each worker. Without GPUs Ray may hide them from it.
    failure_domains : mapping or callable, optional
        What a worker fails with: a name, or a tuple from the widest group to the narrowest, such as
        ``("rack 1", "host 7")``. By id, address or host name of its node, or a function of that node's
        entry in ``ray.nodes()``. By default the address and the node, also of a node that joins later and
        has no entry.

    Raises
    ------
    InvalidArgument
        If an argument cannot be used.
    EngineError
        If Ray is not initialised, there is no room for a worker, or Python or codedmap differ between
        caller and cluster.
    """

    kind = "Ray"

    def __init__(
        self,
        workers: int | None = None,
        *,
        grace: float | None = 1.0,
        num_cpus: float = 0,
        limits: Limits | None = None,
        failure_domains: Domains | None = None,
    ) -> None:
        count = None if workers is None else check_whole("workers", workers, 1)
        if not is_real(num_cpus) or not 0 <= num_cpus < float("inf"):
            raise InvalidArgument(f"num_cpus={num_cpus!r} must be a number, at least 0")
        limits = checked_limits(limits)
        needs = {"CPU": num_cpus, "memory": limits.bytes or 0, **limits.resources}
        check_domains(
            failure_domains, "a node's id, address or host name", "its entry in ray.nodes()"
        )
        if not ray.is_initialized():
            raise EngineError(
                "Ray is not initialised: call ray.init() first, which starts it on this machine or "
                'finds the cluster of this node, or ray.init(address="10.0.0.1:6379")'
            )
        if client.ray.is_connected():
            raise EngineError(
                "this is a Ray Client (ray://), by which actors cannot be watched: run the program on "
                'a node of the cluster, with ray.init("auto") or by `ray job submit`'
            )
        _register_refs()
        super().__init__(None, grace, asyncio.new_event_loop())
        self._job = _present_job()
        self.memory_limit = limits.bytes
        self._needs = {what: need for what, need in needs.items() if need}
        self._domains = failure_domains
        self._started = 0  # actors
        self._handles: dict[str, Any] = {}  # of actors, by name
        self._nodes: dict[str, str] = {}  # on which actors are, by name
        self._unreachable: set[str] = set()  # actors that did not answer, as their node may not
        self._suspects: set[str] = set()  # nodes of such actors
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        try:
            self._thread.start()
            self._wait(self._begin(self._start_all(count)))
            self._soon(self._look)
        except BaseException:  # also Ctrl-C, as the thread was about to start
            with contextlib.suppress(RuntimeError):
                self._thread.start()
            self.close()
            raise

    def _is_open(self) -> bool:
        # This comes first: if Ray has been shut down, almost any other function would start a new cluster.
        if not ray.is_initialized():
            return False
        with contextlib.suppress(Exception):  # while it is being shut down
            return _present_job() == self._job
        return False

    def _check_open(self) -> None:
        if not self._is_open():
            raise EngineError(_SHUT)

    # Nodes.

    def _living_nodes(self) -> dict[str, Any]:
        """The entries in ``ray.nodes()`` of nodes that are alive, by their ids."""
        nodes = ray.nodes() if self._is_open() else ()
        return {node["NodeID"]: node for node in nodes if node["Alive"]}

    def _member(self, node: Mapping[str, Any], *, late: bool) -> Member:
        identity, address, host = (
            node[key] for key in ("NodeID", "NodeManagerAddress", "NodeManagerHostname")
        )
        names = {"node id": identity, "address": address, "host name": host}
        where, default = f"on {identity}", (address, identity)
        return Member(domain_of(where, self._domains, names, node, default, late=late), host)

    def _room(self, nodes: Mapping[str, Any], wanted: int | None) -> int:
        """For how many actors there is room now; waits a moment for resources of an engine that was just closed."""

        def fit(resources: Mapping[str, float]) -> int:
            return min(int(resources.get(k, 0) / need + 1e-9) for k, need in self._needs.items())

        most = sum(fit(node["Resources"]) for node in nodes.values())
        until = time.monotonic() + _FREED
        while (room := min(most, fit(ray.available_resources()))) < min(most, wanted or most):
            if time.monotonic() > until:
                break
            time.sleep(_FREED / 20)
        if not room:
            raise EngineError(
                f"no node of the Ray cluster has {self._needs} free for a worker: ask for less "
                "(num_cpus=0 reserves no CPU), or wait for what uses it; see `ray status`"
            )
        return room

    # Actors.

    def _start_all(self, wanted: int | None) -> dict[str, Member]:
        """Start the actors, and wait for those for which there is room."""
        nodes = self._living_nodes()
        domains = {node: self._member(entry, late=False).domain for node, entry in nodes.items()}
        places = _by_cpus(nodes)
        room = self._room(nodes, wanted) if self._needs else wanted or len(places)
        count = wanted or room
        places *= -(-count // len(places))
        late = {}
        for k in spread([domains[node] for node in places])[:count]:
            name, greeting = self._start(places[k])
            late[greeting] = name, places[k]
        found: dict[str, Member] = {}
        while len(found) < min(room, count):
            # Not `ray.wait`, which Ctrl-C does not interrupt.
            arrived, _ = wait(late, _START, return_when=FIRST_COMPLETED)
            if not arrived:
                break
            for greeting in arrived:
                name, _ = late.pop(greeting)
                found[name] = self._greet(name, greeting.result)
        if not found:
            raise EngineError(
                f"no Ray worker has started within {_START:g} s: are the CPUs of the cluster in use? "
                "see `ray status`; num_cpus=0 reserves none"
            )
        for greeting, (name, node) in late.items():
            self._then(greeting, partial(self._greeted, name, node))
        return found

    def _start(self, node: str) -> tuple[str, Future[Any]]:
        """Start an actor on a node; returns its name, which is never used again, and a future of its `hello`."""
        name = f"codedmap-{self.run}-{self._started}"
        self._started += 1
        needs = dict(self._needs)
        # Not soft: Ray would then place some elsewhere though there is room, and neighbours together.
        on: Any = NodeAffinitySchedulingStrategy(node, soft=False)
        self._handles[name] = None  # so that `_kill` finds it if Ctrl-C interrupts the next line
        self._handles[name] = handle = _REMOTE.options(
            name=name,
            num_cpus=needs.pop("CPU", 0),
            num_gpus=needs.pop("GPU", 0),
            memory=needs.pop("memory", None),
            resources=needs,
            # An actor that reserves nothing fits on any node; for others Ray finds one with room.
            scheduling_strategy="SPREAD" if self._needs else on,
            max_restarts=0,
            max_task_retries=0,
        ).remote()
        return name, handle.hello.remote().future()

    def _greet(self, name: str, greeting: Callable[[], Any]) -> Member:
        """Host and failure domain of an actor that has started; kills it and raises an error if it cannot be used."""
        try:
            found, node = greeting()
            check_versions("a Ray worker", found)
        except BaseException as error:
            self._kill(name)
            if not isinstance(error, ray.exceptions.RayError):
                raise
            raise EngineError(
                f"a Ray worker has not started ({type(error).__name__}: {error}): is codedmap installed "
                "on its node, in the same version, and is there memory left?"
            ) from error
        self._nodes[name] = node
        entry = self._living_nodes().get(node)
        return Member() if entry is None else self._member(entry, late=True)

    def _then(self, future: Future[Any], then: Callable[[Future[Any]], None]) -> None:
        """Call a function in the event loop when a future of Ray is done; Ray's own thread must not block."""
        future.add_done_callback(partial(self._soon, then))

    def _kill(self, name: str) -> None:
        if name in self._handles and ray.is_initialized():
            with contextlib.suppress(Exception):  # Ray is being shut down, and the actor with it
                ray.kill(self._handles.pop(name) or ray.get_actor(name))

    # From here on everything runs in the event loop.

    def _greeted(self, name: str, node: str, greeting: Future[Any]) -> None:
        try:
            member = self._greet(name, greeting.result)
        except EngineError:
            self._loop.call_later(_AGAIN, self._replace, node)
        else:
            self._join(name, member)

    def _replace(self, node: str) -> None:
        """Start another actor in place of one that was on this node."""
        if self._closed or not self._is_open():
            return
        try:
            alive = set(_by_cpus(self._living_nodes()))
            alive = alive - self._suspects or alive
            if node not in alive:
                node = min(alive, key=list(self._nodes.values()).count)
            name, greeting = self._start(node)
        except Exception:  # the cluster has no node, or does not answer
            self._loop.call_later(_AGAIN, self._replace, node)
        else:
            self._then(greeting, partial(self._greeted, name, node))

    def _dismiss(self, name: str) -> None:
        node = self._nodes.pop(name)
        if name in self._unreachable:  # Ray may still report its node as alive
            self._suspects.add(node)
            self._loop.call_later(_SUSPICION, self._suspects.discard, node)
        self._kill(name)
        self._replace(node)

    async def _end(self, name: str) -> None:
        """Does nothing: `_dismiss` has killed the actor."""

    def _look(self) -> None:
        """Check regularly whether Ray was shut down, or lost a node, which it does not report."""
        if not self._is_open():
            self._lose(_SHUT)
            return
        self._loop.call_later(_LOOK, weakly(self._look))
        alive = self._living_nodes()
        for name, node in tuple(self._nodes.items()):
            if node not in alive:
                self._leave(name, self._crash_error(name))

    async def _forget(self, name: str, key: Hashable) -> None:
        if self._is_open() and name in self._handles:
            self._handles[name].release.remote(key)

    async def _release(self, busy: list[str]) -> None:
        for name in tuple(self._handles):
            self._kill(name)

    def _disconnect(self) -> None:
        self._soon(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # Calls.

    def _send(self, queue: RemoteQueue, call: Call) -> None:
        self._check_open()
        handle = self._handles.get(queue.name)
        if handle is None:  # the actor has just been killed
            raise self._crash_error(queue.name)
        # One name for all calls of a worker, because Ray keeps statistics of every name.
        name = f"codedmap-worker{queue.number}-{self.run}"
        try:
            sent = handle.serve.options(name=name).remote(call.request)
        except Exception as error:  # such as no room for the payload
            why = f"Ray has not sent the call ({type(error).__name__}: {error})"
            raise EngineError(why) from error
        self._then(sent.future(), partial(self._answered, queue, call))

    def _answered(self, queue: RemoteQueue, call: Call, done: Future[Any]) -> None:
        error, name = done.exception(), queue.name
        if error is None:
            queue.answered(call, done.result())
            return
        problem: Exception = self._crash_error(name)
        if isinstance(error, ray.exceptions.RayTaskError):  # alive, but it did not begin the call
            problem = EngineError(f"the Ray worker {name} cannot serve calls: {error}")
        elif isinstance(error, ray.exceptions.OutOfMemoryError):
            problem = WorkerCrashed(
                f"{problem} (its node was low on memory, and Ray ended it: use fewer workers on a node, as by reserving "
                'what a call takes with limits=Limits(memory="4 GB"))'
            )
        elif isinstance(error, ray.exceptions.ActorUnavailableError):
            self._unreachable.add(name)
        problem.__cause__ = error
        queue.answered(call, None, problem)


class Actor:
    """A worker, which computes one call at a time, in the order in which they were sent."""

    def __init__(self) -> None:
        # Ray's own handler raises a plain SystemExit, as a function may do as well.
        signal.signal(signal.SIGTERM, _terminate)
        _register_refs()

    def hello(self) -> tuple[dict[str, str], str]:
        """The versions of the worker, and the id of its node."""
        return versions(), ray.get_runtime_context().get_node_id()

    def serve(self, request: Request) -> Parcel | Failure:
        """Compute one call."""
        return serve(request)

    def release(self, key: Hashable) -> None:
        """Drop the value that is kept by a key."""
        release(key)


_REMOTE: Any = ray.remote(Actor)  # once, because Ray keeps every such class


def _by_cpus(nodes: Mapping[str, Any]) -> list[str]:
    """Nodes, each as often as it has CPUs. A node that is to run nothing, as head nodes often are, has none."""
    cpus = {node: int(entry["Resources"].get("CPU", 0)) for node, entry in nodes.items()}
    return [node for node, count in cpus.items() for _ in range(count)] or list(nodes)


def _register_refs() -> None:
    """Have pickle send references as Ray does: by itself it loses their owner, and `ray.get` would wait for ever."""
    copyreg.pickle(ray.ObjectRef, _reduce_ref)


def _reduce_ref(ref: ray.ObjectRef) -> Any:
    return ray.cloudpickle.loads, (ray.cloudpickle.dumps(ref),)


def _terminate(number: int, _: object) -> None:
    raise Terminated(f"the worker was terminated (signal {number})")


def _present_job() -> tuple[str, str]:
    context = ray.get_runtime_context()
    return context.get_node_id(), context.get_job_id()
