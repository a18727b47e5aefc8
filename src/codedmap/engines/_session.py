"""A connection to a Ray cluster, which may be shut down at any time, and another take its place."""

from __future__ import annotations

import contextlib
from typing import Any

import ray
from ray.util import client

from .._errors import EngineError

__all__ = ["Session"]


class Session:
    """The connection that there is now, as opposed to any later one.

    Raises
    ------
    EngineError
        If there is none, or one by which actors cannot be watched.
    """

    def __init__(self) -> None:
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

    @property
    def open(self) -> bool:
        """Whether it has not been shut down."""
        # Asked first: almost whatever else is called would start a new cluster if it has.
        if not ray.is_initialized():
            return False
        with contextlib.suppress(Exception):  # while it is being shut down
            return _job() == self._job
        return False

    def nodes(self) -> dict[str, Any]:
        """The entries of ``ray.nodes()`` of those that are alive, by their ids; none if shut down."""
        nodes = ray.nodes() if self.open else ()
        return {node["NodeID"]: node for node in nodes if node["Alive"]}


def _job() -> tuple[str, str]:
    context = ray.get_runtime_context()
    return context.get_node_id(), context.get_job_id()
