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
    """The scheduler runs on the switch, and on each host so many workers with nannies."""

    scheduler: Scheduler
    client: Any
    hosts: tuple[Host, ...]
    each: int
    folder: Path
    stack: ExitStack
    crews: dict[Host, subprocess.Popen[bytes]] = field(default_factory=dict)

    def man(self, host: Host) -> None:
        """Start the workers of a host anew, as whoever looks after it would."""
        if host in self.crews:
            end(self.crews[host])
        crew = workers(
            self.folder, self.scheduler.address, "--nworkers", str(self.each),
            host=host.address, inside=host.namespace,
        )  # fmt: skip
        self.crews[host] = self.stack.enter_context(crew)

    def complete(self) -> None:
        """Wait until all workers of all hosts are there, and no others."""
        until = time.monotonic() + START
        while self.count() != self.each * len(self.hosts):
            if time.monotonic() > until:
                raise RuntimeError(f"after {START:g} s there are {self.count()} workers")
            time.sleep(0.1)

    def count(self) -> int:
        """Workers that the scheduler knows."""
        return len(self.client.scheduler_info(n_workers=-1)["workers"])


@contextmanager
def site(hosts: int, each: int) -> Iterator[Site]:
    """So many hosts with so many workers each, for a time."""
    from distributed import Client  # noqa: PLC0415  (an extra)

    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        net = stack.enter_context(network(hosts))
        running = stack.enter_context(scheduler(folder, net.address, inside=net.namespace))
        client = stack.enter_context(Client(running.address, set_as_default=False))
        made = Site(running, client, net.hosts, each, folder, stack)
        for host in net.hosts:
            made.man(host)
        made.complete()
        yield made


def host(_: None) -> str:
    """Where a worker runs."""
    from distributed import get_worker  # noqa: PLC0415  (an extra)

    return str(get_worker().address.rpartition("//")[2].rpartition(":")[0])
