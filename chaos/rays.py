"""A Ray instance on this machine, on the loopback interface only."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from tempfile import TemporaryDirectory

__all__ = ["STORE", "ray_environment", "ray_here"]

STORE = 1 << 30
"""Bytes of the object store."""


@cache
def ray_environment() -> dict[str, str]:
    """Environment that keeps Ray on the loopback interface, private and silent; set it before importing Ray.

    The same at every call, because Ray keeps the first token that it reads.
    """
    return {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # then its servers listen on loopback only
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),  # else it writes one into the home folder
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # avoids a warning
    }


@contextmanager
def ray_here(cpus: int | None = None) -> Iterator[None]:
    """Connect this process to its own Ray instance, unless it is connected already.

    Parameters
    ----------
    cpus : int, optional
        Tasks that run at the same time; None: as many as this machine has cores.
    """
    os.environ |= ray_environment()
    import ray  # noqa: PLC0415  an extra

    if ray.is_initialized():
        yield
        return
    # A separate path, because the names of its sockets must be short.
    with TemporaryDirectory(prefix="ray") as name:
        ray.init(
            num_cpus=cpus, include_dashboard=False, object_store_memory=STORE, _temp_dir=name,
            log_to_driver=False, logging_level="ERROR",
        )  # fmt: skip
        try:
            yield
        finally:
            ray.shutdown()
