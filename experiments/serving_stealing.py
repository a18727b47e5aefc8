"""A baseline without codedmap: many small tasks on a Dask cluster with work stealing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

__all__ = ["Stealing", "have_dask"]

PIECES = 5
"""Pieces per task; only pieces that have not started can be stolen."""


def have_dask() -> bool:
    """True if ``codedmap[dask]`` is installed."""
    try:
        import distributed  # noqa: F401, PLC0415
    except ImportError:
        return False
    return True


def _piece(number: int, seconds: dict[str, float]) -> int:
    from distributed import get_worker  # noqa: PLC0415  only on a cluster

    time.sleep(seconds[get_worker().address] / PIECES)
    return number


class Stealing:
    """A Dask cluster of K worker processes with one thread each."""

    def __init__(self, client: object, tasks: int) -> None:
        self._client = client
        self._tasks = tasks
        self._addresses = list(client.scheduler_info(n_workers=-1)["workers"])  # type: ignore[attr-defined]
        self._sent = 0

    @classmethod
    @contextmanager
    def cluster(cls, tasks: int) -> Iterator[Stealing]:
        """Context manager that starts and ends the cluster."""
        from distributed import Client, LocalCluster  # noqa: PLC0415

        options = {"processes": True, "dashboard_address": None, "memory_limit": 0}
        with (
            LocalCluster(n_workers=tasks, threads_per_worker=1, host="127.0.0.1", **options) as own,
            Client(own) as client,
        ):
            client.wait_for_workers(tasks)
            yield cls(client, tasks)

    def played(self, seconds: np.ndarray) -> float:
        """Seconds until K tasks are answered, if worker n takes ``seconds[n]`` per task."""
        of = dict(zip(self._addresses, seconds[: self._tasks].tolist(), strict=True))
        count = PIECES * self._tasks
        numbers = range(self._sent, self._sent + count)
        self._sent += count
        began = time.perf_counter()
        futures = self._client.map(_piece, numbers, seconds=of, pure=False)  # type: ignore[attr-defined]
        answers = self._client.gather(futures)  # type: ignore[attr-defined]
        elapsed = time.perf_counter() - began
        if list(answers) != list(numbers):
            raise AssertionError("the answers of the cluster are not in order")
        return elapsed
