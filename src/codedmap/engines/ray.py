"""Actors on a Ray cluster as an engine; imported only where it is used."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any

import ray

from ..contracts.arguments import check_whole, is_real
from ..contracts.engine import Member
from ..errors import EngineError, InvalidArgument
from .cluster_engine import ClusterEngine, check_versions
from .failure_domains import Domains, spread
from .ray_actors import Actors
from .ray_session import Session
from .remote_queue import RemoteQueue
from .transport.serve import Request

__all__ = ["Ray"]

_START = 60.0  # seconds without another actor starting after which no more are waited for
_LOOK = 1.0  # seconds between two looks at the cluster
_SUSPICION = 30.0  # seconds for which no actor is started on a node that did not answer
_AGAIN = 1.0  # seconds after which an actor that could not be started is tried again


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
    * Closing the engine kills its actors, also busy ones. Ray keeps running.

    Four things that it cannot do, because Ray does not:

    * A worker that is killed between two calls is found dead by the next, which it costs.
      A node that is lost then is noticed within a second after Ray knows.
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
    num_cpus, num_gpus : float
        What Ray reserves for each worker. By default nothing, so that any number fits on a small machine;
        on a cluster that others use as well, reserve what your function uses. Without ``num_gpus`` Ray
        may hide GPUs from it.
    resources : mapping of str to float, optional
        What else to reserve, by the names that Ray has for it, such as ``{"memory": 2e9}``.
    failure_domains : mapping or callable, optional
        With whom a worker fails: a name, or a tuple from the widest group to the narrowest, such as
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
        num_gpus: float = 0,
        resources: Mapping[str, float] | None = None,
        failure_domains: Domains | None = None,
    ) -> None:
        count = None if workers is None else check_whole("workers", workers, 1)
        needs = {"CPU": num_cpus, "GPU": num_gpus, **(resources or {})}
        for what, need in needs.items():
            if not is_real(need) or not 0 <= need < float("inf"):
                raise InvalidArgument(
                    f"{need!r} of {what} cannot be reserved for a worker: give a number, at least 0"
                )
        needs = {what: need for what, need in needs.items() if need}
        self._session = Session(failure_domains)
        super().__init__(None, grace, asyncio.new_event_loop())
        self._actors = Actors(self._session, self._run, needs, self._soon)
        self._nodes: dict[str, str] = {}
        self._suspects: set[str] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        try:
            self._wait(self._begin(self._start(count)))
            self._soon(self._look)
        except BaseException:
            self.close()
            raise

    def _is_open(self) -> bool:
        return self._session.open

    def _check_open(self) -> None:
        self._session.check_open()

    def _send(self, queue: RemoteQueue, request: Request, count: int) -> Future[Any]:
        # Not a name for each call, because Ray keeps statistics of every name.
        return self._actors.send(queue.name, request, f"codedmap-worker{queue.number}-{self._run}")

    def _start(self, wanted: int | None) -> dict[str, Member]:
        """Start the actors, and wait for those for which there is room."""
        nodes = self._session.members(late=False)
        count, room = self._actors.capacity(wanted)
        rounds = [
            (node, nodes[node].domain) for _ in range(-(-count // len(nodes))) for node in nodes
        ]
        order = [rounds[k][0] for k in spread([domain for _, domain in rounds])[:count]]
        late = {
            greeting: (name, node)
            for node in order
            for name, greeting in [self._actors.start(node)]
        }
        found: dict[str, Member] = {}
        while len(found) < room:
            arrived, _ = ray.wait(list(late), timeout=_START)
            if not arrived:
                break
            name, _ = late.pop(arrived[0])
            found[name] = self._greet(name, partial(ray.get, arrived[0]))
        if not found:
            raise EngineError(
                f"no Ray worker has started within {_START:g} s: are the CPUs of the cluster in use? "
                "see `ray status`; num_cpus=0 reserves none"
            )
        for greeting, (name, node) in late.items():
            self._actors.when(greeting, partial(self._greeted, name, node))
        return found

    def _greet(self, name: str, greeting: Callable[[], Any]) -> Member:
        """What an actor is as a worker, if it can be used."""
        try:
            found, node = greeting()
            check_versions("a Ray worker", found)
        except BaseException as error:
            self._actors.kill(name)
            if not isinstance(error, ray.exceptions.RayError):
                raise
            raise EngineError(
                f"a Ray worker has not started ({type(error).__name__}: {error}): is codedmap installed "
                "on its node, in the same version, and is there memory left?"
            ) from error
        self._nodes[name] = node
        return self._session.members(late=True).get(node, Member())

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
        if self._closed or not self._session.open:
            return
        try:
            alive = set(self._session.nodes())
            alive = alive - self._suspects or alive
            if node not in alive:
                node = min(alive, key=list(self._nodes.values()).count)
            name, greeting = self._actors.start(node)
        except Exception:  # the cluster has no node, or does not answer
            self._loop.call_later(_AGAIN, self._replace, node)
        else:
            self._actors.when(greeting, partial(self._greeted, name, node))

    def _dismiss(self, name: str) -> None:
        node = self._nodes.pop(name)
        if name in self._actors.unreachable:  # Ray may call its node alive for a while yet
            self._suspects.add(node)
            self._loop.call_later(_SUSPICION, self._suspects.discard, node)
        self._actors.kill(name)
        self._replace(node)

    async def _end(self, name: str) -> None:
        """Nothing is left to do: `_dismiss` has killed it."""

    def _look(self) -> None:
        """Check regularly for what Ray does not report: that it was shut down, or lost a node."""
        if not self._session.open:
            self._lose(self._session.shut)
            return
        self._loop.call_later(_LOOK, self._look)
        alive = self._session.nodes()
        for name, node in tuple(self._nodes.items()):
            if node not in alive:
                self._leave(name, self._crash_error(name))

    async def _release(self, busy: list[str]) -> None:
        self._actors.kill_all()

    def _disconnect(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
