"""The engines on which faults run: one function and one row of the table each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import codedmap as cm
from codedmap.engines import Engine

from .commands import START, scheduler, workers
from .rays import ray_here

__all__ = ["CLUSTERS", "Cluster"]


@dataclass(frozen=True, slots=True)
class Cluster:
    """An engine under test."""

    name: str
    engine: Callable[[int], AbstractContextManager[Engine]]
    """Maps the number of workers to a context that gives the engine."""
    needs: tuple[str, ...] = ()
    """Optional packages that it needs."""


@contextmanager
def _local(workers: int) -> Iterator[Engine]:
    with cm.engines.Local(workers, grace=0.5) as engine:
        yield engine


@contextmanager
def _dask(count: int) -> Iterator[Engine]:
    from distributed import Client  # noqa: PLC0415  (an extra)

    with (
        TemporaryDirectory() as name,
        scheduler(Path(name)) as running,
        workers(Path(name), running.address, "--nworkers", str(count)),
        Client(running.address) as client,
    ):
        client.wait_for_workers(count, START)
        with cm.engines.Dask(client, workers=count, grace=0.5) as engine:
            yield engine


@contextmanager
def _ray(workers: int) -> Iterator[Engine]:
    with ray_here(), cm.engines.Ray(workers, grace=0.5) as engine:
        yield engine


CLUSTERS: Mapping[str, Cluster] = {
    cluster.name: cluster
    for cluster in (
        Cluster("Local", _local),
        Cluster("Dask", _dask, ("distributed",)),
        Cluster("Ray", _ray, ("ray",)),
    )
}
