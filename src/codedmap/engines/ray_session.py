"""A connection to a Ray cluster, which may be shut down and replaced at any time."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import ray
from ray.util import client

from ..contracts.engine import Member
from ..errors import EngineError
from .failure_domains import Domains, check_domains, domain_of

__all__ = ["Session"]


class Session:
    """The present connection, as opposed to any later one.

    Parameters
    ----------
    domains
        See `Ray`.

    Raises
    ------
    InvalidArgument
        If these can be no failure domains.
    EngineError
        If there is no connection, or one by which actors cannot be watched.
    """

    shut = (
        "Ray has been shut down, and the engine's workers with it: call ray.init() and make a new "
        "engine"
    )

    def __init__(self, domains: Domains | None) -> None:
        check_domains(domains, "a node's id, address or host name", "its entry in ray.nodes()")
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
        self._job = _job()
        self._domains = domains

    @property
    def open(self) -> bool:
        """Whether it has not been shut down."""
        # Asked first: almost whatever else is called would start a new cluster if it has.
        if not ray.is_initialized():
            return False
        with contextlib.suppress(Exception):  # while it is being shut down
            return _job() == self._job
        return False

    def check_open(self) -> None:
        """Raise `EngineError` if it has been shut down."""
        if not self.open:
            raise EngineError(self.shut)

    def nodes(self) -> dict[str, Any]:
        """The entries of ``ray.nodes()`` of those that are alive, by their ids; none if shut down."""
        nodes = ray.nodes() if self.open else ()
        return {node["NodeID"]: node for node in nodes if node["Alive"]}

    def members(self, *, late: bool) -> dict[str, Member]:
        """What an actor on each of these nodes is as a worker.

        Raises
        ------
        InvalidArgument
            If one has no failure domain. With ``late`` it has the default then.
        """
        return {node: self._member(entry, late) for node, entry in self.nodes().items()}

    def _member(self, node: Mapping[str, Any], late: bool) -> Member:
        identity, address, host = (
            node[key] for key in ("NodeID", "NodeManagerAddress", "NodeManagerHostname")
        )
        names = {"node id": identity, "address": address, "host name": host}
        where, default = f"on {identity}", (address, identity)
        return Member(domain_of(where, self._domains, names, node, default, late=late), host)


def _job() -> tuple[str, str]:
    context = ray.get_runtime_context()
    return context.get_node_id(), context.get_job_id()
