"""What runs inside of Dask for the engine `Dask`: in its scheduler, and in the nannies of its workers."""

from __future__ import annotations

import os
import signal
from typing import Any

from distributed.diagnostics.plugin import SchedulerPlugin

__all__ = ["News", "kill"]


class News(SchedulerPlugin):
    """Tells the client which workers come and go, as soon as the scheduler knows."""

    def __init__(self, topic: str) -> None:
        self.name = self._topic = topic

    def add_worker(self, scheduler: Any, worker: str) -> None:
        scheduler.log_event(self._topic, ["came", worker])

    def remove_worker(self, scheduler: Any, worker: str, **_: Any) -> None:
        scheduler.log_event(self._topic, ["went", worker])


def kill(dask_worker: Any) -> None:
    """Kill the worker of this nanny."""
    os.kill(dask_worker.pid, signal.SIGKILL)
