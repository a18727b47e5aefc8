"""The workers of a Dask cluster as an engine; imported only where it is used."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Iterable
from concurrent.futures import Future
from functools import partial
from typing import Any

import distributed

from .._checks import check_whole
from .._errors import Abandoned, WorkerCrashed
from ._dask import Cluster, Domains, Worker, died
from ._pinned import Pinned
from ._remote import RemoteSlot
from ._seats import Seats

__all__ = ["Dask"]

_PATIENCE = 30.0  # seconds for which a slot whose worker has died waits for a new one


class Dask(Pinned):
    """The workers of a Dask cluster; each slot is pinned to one worker process of it.

    * One crash costs one answer: a call is never run again, whatever ``allowed-failures`` says.
      Its slot goes on with the worker that the nanny starts in place of the dead one, or with a
      spare one; if for 30 s there is neither, it shares another slot's worker.
    * Calls are Dask tasks named ``codedmap-wave3-slot7-...``: here the third call of slot 7.
    * Functions travel by cloudpickle; what they import must be installed on the workers.
    * Neither the client nor the cluster is closed with the engine.

    What becomes of a straggler depends on ``grace``, because Dask cannot end a running task: what
    it calls cancelling only makes its scheduler send other tasks to the busy worker.

    * With ``grace=None``, the default, no worker is ever ended: a straggler goes on and holds its worker,
      also after the engine has been closed. Until it is done its slot is a straggler of the next
      waves, which costs them no time but one answer each.
    * With a number of seconds, the worker process of an abandoned call that still runs then is
      killed, and so is, when the engine is closed, that of any call that still runs; its nanny starts
      another, which takes some seconds. Whatever else the process held, for other users of the cluster as
      well, is lost to Dask, which computes it again where it can.

    Parameters
    ----------
    client : distributed.Client
        Connected, and not asynchronous.
    workers : int, optional
        Number of slots; by default one for each worker process. With fewer processes than slots they
        are shared and losses come together: a warning says so.
    grace : float, optional
        Seconds for which an abandoned call may still run before its worker is ended.
    failure_domains : mapping or callable, optional
        With whom a worker fails: a name, or a tuple from the widest group to the narrowest, such as
        ``("rack 1", "host 7")``. By address, name or host of the worker, or a function of its
        entry in ``client.scheduler_info()["workers"]``. By default the host. Neighbouring slots are
        on different domains wherever possible.

    Raises
    ------
    InvalidArgument
        If the client or the failure domains cannot be used, or workers that shall be ended have no
        nanny.
    EngineError
        If there are no workers, or Python or codedmap differ between caller and cluster.
    """

    def __init__(
        self,
        client: distributed.Client,
        *,
        workers: int | None = None,
        grace: float | None = None,
        failure_domains: Domains | None = None,
    ) -> None:
        slots = None if workers is None else check_whole("workers", workers, 1)
        super().__init__(grace)
        self._early: list[tuple[str, str]] | None = []
        self._workers: dict[str, Worker] = {}
        try:
            self._cluster = Cluster(client, self._run, failure_domains)
            found = self._cluster.watch(self._hear, grace)
            slots = len(found) if slots is None else slots
            self._seats = Seats(found, slots)
            self._slots = [RemoteSlot(number, self._run, self._lost) for number in range(slots)]
            self._cluster.wait(self._begin, found)
        except BaseException:
            self.close()
            raise
        if slots > len(found):
            warnings.warn(
                f"{slots} slots share {len(found)} Dask workers: one lost or slow worker takes "
                "several answers with it, which the code's stragglers do not allow for",
                stacklevel=2,
            )

    def _check_open(self) -> None:
        self._cluster.check_open()

    def _end(self, slot: RemoteSlot, future: Future[Any]) -> None:
        self._cluster.soon(self._end_now, slot, future)

    def _leave(self, busy: list[RemoteSlot]) -> None:
        if hasattr(self, "_cluster") and self._cluster.open:
            self._cluster.wait(self._say_goodbye, busy)

    # From here on everything runs in the client's event loop, where also the news arrive.

    async def _begin(self, addresses: Iterable[str]) -> None:
        self._workers = {address: Worker(address) for address in addresses}
        for slot in self._slots:
            self._place(slot.number)
        early, self._early = self._early, None
        for news in early or ():
            self._hear(*news)

    def _hear(self, what: str, address: str) -> None:
        if self._early is not None:
            self._early.append((what, address))
        elif what == "came":
            self._cluster.do(self._welcome(address))
        else:
            self._depart(address)

    async def _welcome(self, address: str) -> None:
        domain = await self._cluster.admit(address)
        if domain is not None and address not in self._workers:
            self._workers[address] = Worker(address)
            self._seats.add(address, domain)
            self._fill()

    def _depart(self, address: str) -> None:
        worker = self._workers.pop(address, None)
        if worker is None:
            return
        worker.gone.set()
        for number in self._seats.remove(address):
            self._slots[number].vacate(died(address))
        self._fill()
        self._cluster.later(_PATIENCE, self._crowd)

    def _fill(self, *, crowd: bool = False) -> None:
        for number in self._seats.fill(crowd=crowd):
            self._place(number)

    def _crowd(self) -> None:
        self._fill(crowd=True)
        for number in self._seats.empty():
            self._slots[number].give_up(
                WorkerCrashed("the Dask cluster has had no worker for this slot: start workers")
            )
        if self._seats.empty() and not self._closed.is_set():
            self._cluster.later(_PATIENCE, self._crowd)

    def _place(self, number: int) -> None:
        worker = self._workers[self._seats.at(number) or ""]
        self._slots[number].place(partial(self._cluster.send, worker))

    def _lost(self, slot: RemoteSlot) -> None:
        address = self._seats.at(slot.number)
        if address is not None:
            self._depart(address)

    def _end_now(self, slot: RemoteSlot, future: Future[Any]) -> None:
        address = self._seats.at(slot.number)
        ended = Abandoned(f"the worker {address} was ended: nobody waited for its answer")
        if address is not None and slot.vacate(ended, future):
            self._depart(address)
            self._cluster.do(self._cluster.end(address))

    async def _say_goodbye(self, busy: list[RemoteSlot]) -> None:
        if self._grace is not None:
            ended = {address for slot in busy if (address := self._seats.at(slot.number))}
            for address in ended:
                self._depart(address)
            await asyncio.gather(*map(self._cluster.end, ended))
        await self._cluster.leave(list(self._workers))
