"""Engines beside what their own libraries offer for the same calls, on loopback."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from chaos.commands import START, scheduler, workers

import codedmap as cm
from codedmap.engines import Engine

__all__ = ["Place", "dask", "ray"]

Fn = Callable[[np.ndarray], np.ndarray]


class Place(NamedTuple):
    """Where a wave is computed."""

    engine: Engine
    bare: Callable[[Fn, Sequence[np.ndarray]], list[Any]] | None = None
    """Sends a call to each worker by the library's own means and gathers the answers; None: by the engine's."""


@contextmanager
def dask(count: int) -> Iterator[Place]:
    """Scheduler and workers as programs of their own, called with ``submit`` and ``gather``."""
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
            yield Place(engine, bare)


@cache
def _token() -> str:
    """One a process, because Ray remembers the first that it has seen."""
    return secrets.token_hex(32)


@contextmanager
def ray(count: int) -> Iterator[Place]:
    """Ray on this machine; plain actors with a method for the call."""
    os.environ |= {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # its servers listen on loopback only then
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": _token(),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    import ray as library  # noqa: PLC0415  an extra

    class Plain:
        def call(self, fn: Fn, payload: np.ndarray) -> np.ndarray:
            return fn(payload)

    with TemporaryDirectory(prefix="ray") as name:
        library.init(
            include_dashboard=False, object_store_memory=1 << 30, _temp_dir=name,
            log_to_driver=False, logging_level="ERROR",
        )  # fmt: skip
        try:
            actors = [library.remote(Plain).options(num_cpus=0).remote() for _ in range(count)]

            def bare(fn: Fn, payloads: Sequence[np.ndarray]) -> list[Any]:
                calls = zip(actors, payloads, strict=True)
                return library.get([actor.call.remote(fn, payload) for actor, payload in calls])  # type: ignore[no-any-return]

            with cm.engines.Ray(count) as engine:
                yield Place(engine, bare)
        finally:
            library.shutdown()
