"""Cluster engines, and the same calls with the libraries behind them, on the loopback interface."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from chaos.commands import START, scheduler, workers
from chaos.rays import ray_here

import codedmap as cm
from codedmap.engines import Engine

__all__ = ["Place", "dask", "ray"]

Fn = Callable[[np.ndarray], np.ndarray]


class Place(NamedTuple):
    """An engine, and its baseline."""

    engine: Engine
    bare: Callable[[Fn, Sequence[np.ndarray]], list[Any]] | None = None
    """Sends a call to each worker with the library alone and gathers the answers; None: with the engine."""
    settle: float = 0.0
    """Seconds that the cluster needs to release a wave."""


@contextmanager
def dask(count: int) -> Iterator[Place]:
    """Scheduler and workers as separate programs, called with ``submit`` and ``gather``."""
    from distributed import Client  # noqa: PLC0415  an extra

    with (
        TemporaryDirectory() as name,
        scheduler(Path(name)) as running,
        workers(Path(name), running.address, "--nworkers", str(count)),
        Client(running.address, set_as_default=False) as client,
    ):
        client.wait_for_workers(count, START)
        addresses = list(client.scheduler_info(-1)["workers"])

        def bare(fn: Fn, payloads: Sequence[np.ndarray]) -> list[Any]:
            futures = [
                client.submit(fn, payload, workers=[address], pure=False)
                for address, payload in zip(addresses, payloads, strict=True)
            ]
            return client.gather(futures)  # type: ignore[no-any-return]

        with cm.engines.Dask(client, workers=count) as engine:
            yield Place(engine, bare, settle=0.2)


@contextmanager
def ray(count: int) -> Iterator[Place]:
    """Ray on this machine, with plain actors."""
    with ray_here():
        import ray as library  # noqa: PLC0415  an extra

        class Plain:
            def call(self, fn: Fn, payload: np.ndarray) -> np.ndarray:
                return fn(payload)

        actors = [library.remote(Plain).options(num_cpus=0).remote() for _ in range(count)]

        def bare(fn: Fn, payloads: Sequence[np.ndarray]) -> list[Any]:
            calls = zip(actors, payloads, strict=True)
            return library.get([actor.call.remote(fn, payload) for actor, payload in calls])  # type: ignore[no-any-return]

        with cm.engines.Ray(count) as engine:
            yield Place(engine, bare)
