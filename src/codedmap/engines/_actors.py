"""Actors on the nodes of a Ray cluster: how many there is room for, how one is started and killed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from .._errors import EngineError
from ._parcel import Parcel
from ._serve import Failure, Request, serve, versions

__all__ = ["Actors", "job", "nodes_alive"]


class Worker:
    """What an actor does: one call at a time, in the order in which they were sent."""

    def hello(self) -> tuple[dict[str, str], str]:
        """Tell its versions, and the node where it is."""
        return versions(), ray.get_runtime_context().get_node_id()

    def serve(self, request: Request) -> Parcel | Failure:
        """Compute one call."""
        return serve(request)


class Actors:
    """The actors that an engine has started, under names that are never used again.

    Parameters
    ----------
    run : str
        Names the engine.
    needs : mapping of str to float
        What Ray shall reserve for each, by the names that Ray has for it; without zeros.
    """

    def __init__(self, run: str, needs: Mapping[str, float]) -> None:
        self._run = run
        self._needs = dict(needs)
        self._handles: dict[str, Any] = {}
        self._started = 0

    def __getitem__(self, worker: str) -> Any:
        return self._handles[worker]

    def room(self, nodes: Mapping[str, Any], wanted: int | None) -> int:
        """How many to start: as many as wanted, by default one for each CPU, if they fit.

        Raises
        ------
        EngineError
            If there is no room for any.
        """
        if not self._needs:
            cpus = int(sum(node["Resources"].get("CPU", 0) for node in nodes.values()))
            return max(1, cpus) if wanted is None else wanted
        room = sum(self._fit(node["Resources"]) for node in nodes.values())
        room = min(room, self._fit(ray.available_resources()))
        if not room:
            raise EngineError(
                f"no node of the Ray cluster has {self._needs} free for a worker: ask for less "
                "(num_cpus=0 reserves no CPU), or wait for what uses it; `ray status` tells"
            )
        return room if wanted is None else min(room, wanted)

    def start(self, node: str) -> tuple[str, Any]:
        """Start one on a node: its name, and a reference to its greeting."""
        worker = f"codedmap-{self._run}-{self._started}"
        self._started += 1
        needs = dict(self._needs)
        on: Any = NodeAffinitySchedulingStrategy(node, soft=True)
        actor: Any = ray.remote(Worker)
        self._handles[worker] = handle = actor.options(
            name=worker,
            num_cpus=needs.pop("CPU", 0),
            num_gpus=needs.pop("GPU", 0),
            memory=needs.pop("memory", None),
            resources=needs,
            # What needs nothing fits on any node; else Ray knows where there is room.
            scheduling_strategy="SPREAD" if self._needs else on,
            max_restarts=0,
            max_task_retries=0,
        ).remote()
        return worker, handle.hello.remote()

    def kill(self, worker: str) -> None:
        """Kill one, whatever it is doing; if it was killed before, nothing happens."""
        handle = self._handles.pop(worker, None)
        if handle is not None:
            ray.kill(handle)

    def kill_all(self) -> None:
        """Kill whatever was started and not killed yet."""
        for worker in tuple(self._handles):
            self.kill(worker)

    def _fit(self, resources: Mapping[str, float]) -> int:
        return min(int(resources.get(what, 0) / need + 1e-9) for what, need in self._needs.items())


def job() -> tuple[str, str]:
    """What distinguishes this connection to this cluster from any other; Ray must be initialised."""
    context = ray.get_runtime_context()
    return context.get_node_id(), context.get_job_id()


def nodes_alive() -> dict[str, Any]:
    """The entries of ``ray.nodes()`` of those that are alive, by their ids."""
    return {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
