"""Actors on a Ray cluster as an engine; imported only where it is used."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from ..contracts.arguments import check_whole, is_real
from ..errors import InvalidArgument
from .cluster import Domains
from .cluster_engine import ClusterEngine
from .ray_cluster import RayCluster

__all__ = ["Ray"]


class Ray(ClusterEngine):
    """Actors on a Ray cluster, one for each slot: worker processes that the engine starts and ends.

    * Ray must be initialised: ``ray.init()``.
    * One crash costs one answer: nothing is run again (``max_restarts`` and ``max_task_retries`` are 0).
      Another actor is started in place of the dead one, which takes about a second.
    * After ``grace`` seconds the actor of an abandoned call that still runs is killed, also deep in C
      code, and another is started. Until then its slot is a straggler of the next waves as well.
    * Calls are named by their slot, ``codedmap-slot7-...``.
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
        Number of slots; by default one for each CPU of the cluster or, if they reserve something, as
        many as there is room for. With room for fewer actors than slots they are shared and losses come
        together: a warning says so.
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
        entry in ``ray.nodes()``. By default the address and the node. Neighbouring slots are on different
        domains wherever possible.

    Raises
    ------
    InvalidArgument
        If an argument cannot be used.
    EngineError
        If Ray is not initialised, there is no room for a worker, or Python or codedmap differ between
        caller and cluster.
    """

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
        super().__init__(
            partial(RayCluster, workers=count, needs=needs, domains=failure_domains), count, grace
        )
