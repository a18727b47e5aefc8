"""Ray on this machine for a time, on loopback only."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from tempfile import TemporaryDirectory

__all__ = ["STORE", "ray_environment", "ray_here"]

STORE = 1 << 30
"""Bytes of shared memory for what travels."""


@cache
def ray_environment() -> dict[str, str]:
    """What keeps Ray on loopback, to itself, and silent; to be set before it is imported.

    The same at every call, because Ray remembers the first that it has seen.
    """
    return {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # then its servers listen on loopback only
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),  # else it writes one into the home folder
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # it warns of a default that will change
    }


@contextmanager
def ray_here() -> Iterator[None]:
    """Connect this process to a Ray of its own, unless it is connected already."""
    os.environ |= ray_environment()
    import ray  # noqa: PLC0415  an extra

    if ray.is_initialized():
        yield
        return
    # A path of its own, because its sockets' names must be short.
    with TemporaryDirectory(prefix="ray") as name:
        ray.init(
            include_dashboard=False, object_store_memory=STORE, _temp_dir=name,
            log_to_driver=False, logging_level="ERROR",
        )  # fmt: skip
        try:
            yield
        finally:
            ray.shutdown()
