"""A Dask cluster on several hosts, started from the command line; see `hosts`."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from .commands import START, Scheduler, end, scheduler, workers
from .hosts import Host, network

__all__ = ["Site", "host", "site"]


@dataclass(frozen=True, slots=True)
class Site:
    """A Dask cluster: the scheduler on the switch, ``each`` workers with nannies on each host."""

    scheduler: Scheduler
    client: Any
    hosts: tuple[Host, ...]
    each: int
    folder: Path
    stack: ExitStack
    crews: dict[Host, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start_workers(self, host: Host) -> None:
        """Start the workers of a host again, as a service manager would."""
        if host in self.crews:
            end(self.crews[host])
        crew = workers(
            self.folder, self.scheduler.address, "--nworkers", str(self.each),
            host=host.address, inside=host.namespace,
        )  # fmt: skip
        self.crews[host] = self.stack.enter_context(crew)

    def wait_for_workers(self) -> None:
        """Wait until the scheduler knows all workers of all hosts, and no others."""
        until = time.monotonic() + START
        while self.count() != self.each * len(self.hosts):
            if time.monotonic() > until:
                raise RuntimeError(f"after {START:g} s there are {self.count()} workers")
            time.sleep(0.1)

    def count(self) -> int:
        """Number of workers that the scheduler knows."""
        return len(self.client.scheduler_info(n_workers=-1)["workers"])


@contextmanager
def site(hosts: int, each: int) -> Iterator[Site]:
    """Context manager of a cluster of ``hosts`` hosts with ``each`` workers each."""
    from distributed import Client  # noqa: PLC0415  (an extra)

    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        net = stack.enter_context(network(hosts))
        running = stack.enter_context(scheduler(folder, net.address, inside=net.namespace))
        client = stack.enter_context(Client(running.address, set_as_default=False))
        made = Site(running, client, net.hosts, each, folder, stack)
        for host in net.hosts:
            made.start_workers(host)
        made.wait_for_workers()
        yield made


def host(_: None) -> str:
    """The host of a worker."""
    from distributed import get_worker  # noqa: PLC0415  (an extra)

    return str(get_worker().address.rpartition("//")[2].rpartition(":")[0])
