"""Engines by their names on the command line."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import cloudpickle

import codedmap as cm

from ..engines.local_worker import start_server
from .shell import END_SIGNALS, flush_output

_TIMEOUT = 10.0  # seconds for a cluster to answer, and then for its first worker


@contextmanager
def _dask(workers: int | None, address: str) -> Iterator[cm.engines.Engine]:
    engine = cm.engines.Dask  # says how to install the extra if it is missing
    from distributed import Client  # noqa: PLC0415  an extra

    try:
        client: Any = Client(address, timeout=_TIMEOUT)
    except (OSError, ValueError) as error:
        raise cm.EngineError(
            f"no Dask scheduler answers at {address} ({error}): is it running?"
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=_TIMEOUT)
        except TimeoutError as error:
            raise cm.EngineError(
                f"the Dask cluster at {address} has no workers: start some with dask worker {address}"
            ) from error
        _send_modules_by_value()
        with engine(client, workers=workers) as pool:
            yield pool


@contextmanager
def _ray(workers: int | None, address: str = "") -> Iterator[cm.engines.Engine]:
    engine = cm.engines.Ray  # says how to install the extra if it is missing
    import ray  # noqa: PLC0415  an extra

    # No usage statistics where this command starts the cluster.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    _check_reachable(address)
    handlers = {number: signal.getsignal(number) for number in END_SIGNALS}
    try:
        ray.init(
            address or None,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = f"at {address}" if address else "here"
        raise cm.EngineError(f"Ray cannot be used {where}: {error}") from error
    try:
        for number, handler in handlers.items():  # Ray has replaced them by its own
            signal.signal(number, handler)
        _send_modules_by_value()
        with engine(workers) as pool:
            yield pool
    finally:
        ray.shutdown()


def _local(workers: int | None) -> cm.engines.Local:
    flush_output()  # else multiprocessing does, as it starts a process, and fails if it cannot
    start_server()
    return cm.engines.Local(workers)


ENGINES: dict[str, Callable[..., AbstractContextManager[Any]]] = {
    "local": _local,
    "dask": _dask,
    "ray": _ray,
}


def engine_named(words: str, workers: int | None) -> Callable[[], AbstractContextManager[Any]]:
    """A function that starts workers on an engine, such as "local", "ray" or "dask:tcp://10.0.0.1:8786"."""
    name, _, address = words.partition(":")
    if name not in ENGINES or (name == "local" and address) or (name == "dask" and not address):
        raise cm.InvalidArgument(
            f"--engine {words} must be local, dask:ADDRESS of a scheduler, such as dask:tcp://10.0.0.1:8786, ray, or "
            "ray:ADDRESS"
        )
    return partial(ENGINES[name], workers, *([address] if address else []))


def _check_reachable(address: str) -> None:
    # Ray itself would try for minutes to reach a cluster.
    host, colon, port = address.rpartition(":")
    if not (colon and port.isdecimal()) or "/" in host:
        if address not in ("", "auto"):
            raise cm.InvalidArgument(
                f"--engine ray:{address} must be ray:HOST:PORT, such as ray:10.0.0.1:6379"
            )
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _TIMEOUT).close()
    except (OSError, OverflowError) as error:
        raise cm.EngineError(
            f"no Ray cluster answers at {address} ({error}): is it running? --engine ray alone starts one"
        ) from error


def _send_modules_by_value() -> None:
    """Send modules of the current directory with their functions: workers of a cluster may not have them."""
    here = Path.cwd()
    for name, module in tuple(sys.modules.items()):
        file = Path(getattr(module, "__file__", None) or "")
        path = here.joinpath(*name.split("."))
        if name != "__main__" and file in (path.with_suffix(".py"), path / "__init__.py"):
            cloudpickle.register_pickle_by_value(module)
