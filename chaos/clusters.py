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


CLUSTERS: Mapping[str, Cluster] = {cluster.name: cluster for cluster in (Cluster("Local", _local),)}
