"""The engines on which faults are tried: one function and one table row each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import codedmap as cm
from codedmap.engines import Engine

__all__ = ["CLUSTERS", "Cluster"]


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where calls run."""

    name: str
    engine: Callable[[int], AbstractContextManager[Engine]]
    """For so many workers."""
    needs: tuple[str, ...] = ()
    """Packages beyond the library's own."""


@contextmanager
def _local(workers: int) -> Iterator[Engine]:
    with cm.engines.Local(workers, grace=0.5) as engine:
        yield engine


@contextmanager
def _dask(workers: int) -> Iterator[Engine]:
    from distributed import Client, LocalCluster  # noqa: PLC0415  (an extra)

    cluster = LocalCluster(
        n_workers=workers, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
    )
    with (
        cluster,
        Client(cluster) as client,
        cm.engines.Dask(client, workers=workers, grace=0.5) as engine,
    ):
        yield engine


CLUSTERS: Mapping[str, Cluster] = {
    cluster.name: cluster
    for cluster in (Cluster("Local", _local), Cluster("Dask", _dask, ("distributed",)))
}
