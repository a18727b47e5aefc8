"""A Ray cluster for the engine `Ray`: its actors are called, watched, and replaced when they die."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any

import ray

from ..errors import EngineError, InvalidArgument
from .cluster import Cluster, Domains, EventHandler, check_versions
from .failure_domains import Domain, spread
from .ray_actors import Actors
from .ray_session import Session
from .remote_slot import Send

__all__ = ["RayCluster"]

_START = 60.0  # seconds without another actor starting after which no more are waited for
_LOOK = 1.0  # seconds between two looks at the cluster
_SUSPICION = 30.0  # seconds for which no actor is started on a node that did not answer
_AGAIN = 1.0  # seconds after which an actor that could not be started is tried again


class RayCluster(Cluster):
    """A Ray cluster; its workers are the actors that the engine has started.

    Parameters
    ----------
    run : str
        Names the engine.
    workers : int or None
        How many actors to start, if there is room; None: one for each CPU of the cluster.
    needs : mapping of str to float
        What Ray reserves for each.
    domains
        See `Ray`; also for what is raised.
    """

    kind = "Ray"

    def __init__(
        self, run: str, *, workers: int | None, needs: Mapping[str, float], domains: Domains | None
    ) -> None:
        self._session = Session(domains)
        super().__init__(asyncio.new_event_loop())
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._actors = Actors(self._session, run, needs, self.soon)
        self._count = workers
        self._nodes: dict[str, str] = {}
        self._suspects: set[str] = set()
        self._leaving = False
        self._trouble = "they are being started"

    @property
    def open(self) -> bool:
        """Whether the connection to Ray is still that of the beginning."""
        return self._session.open

    def check_open(self) -> None:
        """Raise `EngineError` if Ray has been shut down."""
        self._session.check_open()

    def watch(self, on_event: EventHandler) -> dict[str, Domain]:
        """Start the actors; from now on ``on_event`` is called when one joins or leaves.

        Raises
        ------
        InvalidArgument
            If a node has no domain.
        EngineError
            If there is no room for an actor, or functions cannot travel to them.
        """
        self._on_event = on_event
        self._thread.start()
        domains = self._session.domains()
        order = spread(list(domains.values()), self._actors.capacity(self._count))
        starting = dict(map(self._actors.start, (list(domains)[k] for k in order)))
        late = {greeting: worker for worker, greeting in starting.items()}
        while late:
            arrived, _ = ray.wait(list(late), timeout=_START)
            if not arrived:
                break
            self._greet(late.pop(arrived[0]), partial(ray.get, arrived[0]))
        for worker in late.values():
            self._actors.kill(worker)
        if not self._nodes:
            raise EngineError(
                f"no Ray worker has started within {_START:g} s: are the CPUs of the cluster in use? "
                "see `ray status`; num_cpus=0 reserves none"
            )
        self.soon(self._look)
        domains |= self._session.domains()  # also of nodes that have joined meanwhile
        where = {worker: self._nodes.get(worker) for worker in starting}
        return {worker: domains[node] for worker, node in where.items() if node}

    async def admit(self, worker: str) -> Domain | None:
        """The domain of a worker that has joined, or None if it has left."""
        try:
            return self._session.domains().get(self._nodes.get(worker, ""))
        except InvalidArgument:  # a new node that is in no domain
            return None

    def sender(self, worker: str) -> Send:
        """Sends calls to a worker, each to be computed once, under the name of its slot."""
        return partial(self._actors.send, worker)

    def dismiss(self, worker: str) -> None:
        """Kill a worker, and start another."""
        node = self._nodes.pop(worker)
        if worker in self._actors.unreachable:  # Ray may call its node alive for a while yet
            self._suspects.add(node)
            self.later(_SUSPICION, self._suspects.discard, node)
        self._actors.kill(worker)
        self._replace(node)

    async def end(self, worker: str) -> None:
        """Kill a worker, which `dismiss` has done."""

    async def release(self, workers: list[str], busy: set[str]) -> None:
        """Kill all actors."""
        self._leaving = True
        self._actors.kill_all()

    def close(self) -> None:
        """End the event loop."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()

    def no_worker_message(self) -> str:
        """Why a slot has no worker, and what to do about it."""
        return f"Ray has started no worker for this slot ({self._trouble}): see `ray status`"

    def _replace(self, node: str) -> None:
        """Start another actor in place of one that was on this node."""
        if self._leaving or not self.open:
            return
        try:
            alive = set(self._session.nodes())
            alive = alive - self._suspects or alive
            if node not in alive:
                node = min(alive, key=list(self._nodes.values()).count)
            worker, greeting = self._actors.start(node)
        except Exception as error:  # the cluster has no node, or does not answer
            self._try_again(node, error)
        else:
            self._actors.when(greeting, partial(self._greeted, worker, node))

    def _greeted(self, worker: str, node: str, greeting: Future[Any]) -> None:
        try:
            self._greet(worker, greeting.result)
        except EngineError as error:
            self._try_again(node, error)
        else:
            self._on_event("joined", worker)

    def _try_again(self, node: str, error: Exception) -> None:
        self._trouble = str(error) or repr(error)
        self.later(_AGAIN, self._replace, node)

    def _greet(self, worker: str, greeting: Callable[[], Any]) -> None:
        try:
            found, node = greeting()
            check_versions("a Ray worker", found)
        except BaseException as error:
            self._actors.kill(worker)
            if not isinstance(error, ray.exceptions.RayError):
                raise
            raise EngineError(
                f"a Ray worker has not started ({type(error).__name__}: {error}): is codedmap installed "
                "on its node, in the same version, and is there memory left?"
            ) from error
        self._nodes[worker] = node

    def _look(self) -> None:
        """Check regularly for what Ray does not report: that it was shut down, or lost a node."""
        if not self.open:
            self._on_event("closed", self._session.shut)
            return
        self.later(_LOOK, self._look)
        alive = self._session.nodes()
        for worker, node in tuple(self._nodes.items()):
            if node not in alive:
                self._on_event("left", worker)
