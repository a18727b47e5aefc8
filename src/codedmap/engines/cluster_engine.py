"""What the engines of clusters share: slots that are placed on workers elsewhere, which come and go."""

from __future__ import annotations

import atexit
import secrets
import warnings
from collections.abc import Callable, Collection
from concurrent.futures import Future
from functools import partial

from ..contracts.arguments import check_whole
from ..errors import Abandoned, EngineError, WorkerCrashed
from .cluster import Cluster
from .remote_slot import RemoteSlot
from .seats import Seats
from .slot_engine import Pinning, join

__all__ = ["Pinned"]

_PATIENCE = 30.0  # seconds for which a slot whose worker has died waits for a new one
_AGAIN = 1.0  # seconds until a slot that was too busy to get a worker of its own is looked at again


class Pinned(Pinning[RemoteSlot]):
    """An engine whose slots are queues in the caller, each placed on a worker of a cluster.

    Parameters
    ----------
    cluster : callable
        Makes the cluster, given the name of the engine's run and, or None, how many slots there shall be.
    workers : int or None
        Number of slots; None: one for each worker that there is.
    grace : float or None
        Seconds for which an abandoned call may still run before its worker is ended; None: for ever.
    """

    def __init__(
        self, cluster: Callable[[str], Cluster], workers: int | None, grace: float | None
    ) -> None:
        slots = None if workers is None else check_whole("workers", workers, 1)
        super().__init__(grace)
        self._run = secrets.token_hex(4)
        self._early: list[tuple[str, str]] | None = []
        self._seats = Seats({}, 0)
        self._emptied: dict[int, list[int]] = {}
        try:
            self._cluster = cluster(self._run)
        except BaseException:
            atexit.unregister(self._at_exit)
            raise
        try:
            found = self._cluster.watch(self._hear)
            slots = len(found) if slots is None else slots
            self._seats = Seats(found, slots)
            self._slots = [RemoteSlot(number, self._run) for number in range(slots)]
            self._cluster.wait(self._begin())
        except BaseException:
            self.close()
            raise
        if slots > len(found):
            warnings.warn(
                f"{slots} slots share {len(found)} {self._cluster.kind} workers: one lost or slow "
                "worker takes several answers with it, which the code's stragglers do not allow for",
                stacklevel=3,
            )

    def close(self) -> None:
        """Take no more calls, and end what the engine has started; the cluster goes on."""
        if not self._ours():
            return
        timers = self._begin_to_close()
        if timers is None:
            return
        busy = [slot.number for slot in self._slots if slot.busy]
        for slot in self._slots:
            slot.close()
        try:
            if self._cluster.open:
                self._cluster.wait(self._leave(busy))
        finally:
            self._cluster.close()
            join(timers)
            atexit.unregister(self._at_exit)

    def _check_open(self) -> None:
        self._cluster.check_open()

    def _end(self, slot: RemoteSlot, future: Future[object]) -> None:
        self._cluster.soon(self._end_now, slot, future)

    # From here on everything runs in the cluster's event loop, where also the news arrive.

    async def _begin(self) -> None:
        for slot in self._slots:
            self._place(slot.number)
        early, self._early = self._early, None
        for news in early or ():
            self._hear(*news)

    def _hear(self, what: str, worker: str) -> None:
        if self._early is not None:
            self._early.append((what, worker))
        elif what == "came":
            self._cluster.do(self._welcome(worker))
        elif what == "went":
            self._depart(worker)
        else:
            self._desert(worker)

    async def _welcome(self, worker: str) -> None:
        domain = await self._cluster.admit(worker)
        if domain is not None and worker not in self._seats:
            self._seats.add(worker, domain)
            self._fill()
            self._settle()

    def _depart(self, worker: str) -> None:
        if worker not in self._seats:
            return
        self._cluster.dismiss(worker)
        emptied = self._seats.remove(worker)
        for number in emptied:
            self._slots[number].vacate(self._cluster.died(worker))
            self._emptied[number] = emptied
        self._fill()
        self._cluster.later(_PATIENCE, self._crowd, emptied)

    def _desert(self, why: str) -> None:
        for slot in self._slots:
            slot.vacate(EngineError(why))
            slot.give_up(EngineError(why))

    def _fill(self, crowd: Collection[int] = ()) -> None:
        for number in self._seats.fill(crowd):
            self._place(number)

    def _crowd(self, emptied: list[int]) -> None:
        # Not those that have had another worker since.
        self._fill([number for number in emptied if self._emptied[number] is emptied])
        empty = [number for number in self._seats.empty() if self._emptied[number] is emptied]
        for number in empty:
            self._slots[number].give_up(WorkerCrashed(self._cluster.deserted()))
        if empty and not self._closed.is_set():
            self._cluster.later(_PATIENCE, self._crowd, emptied)

    def _settle(self) -> None:
        """Slots that share a worker for want of another, and are idle, get one where there is room."""
        for number in self._seats.guests():
            if self._seats.guests() and self._slots[number].leave():
                self._seats.leave(number)
                self._fill()
        if self._seats.guests() and not self._closed.is_set():
            self._cluster.later(_AGAIN, self._settle)

    def _place(self, number: int) -> None:
        worker = self._seats.at(number)
        if worker is not None:
            lost = partial(self._cluster.soon, self._depart, worker)
            self._slots[number].place(self._cluster.sender(worker), lost)

    def _end_now(self, slot: RemoteSlot, future: Future[object]) -> None:
        worker = self._seats.at(slot.number)
        if worker is None:
            return
        ended = Abandoned(f"the worker {worker} was ended: nobody waited for its answer")
        if slot.vacate(ended, future):
            self._depart(worker)
            self._cluster.do(self._cluster.end(worker))

    async def _leave(self, busy: list[int]) -> None:
        working = {worker for number in busy if (worker := self._seats.at(number))}
        await self._cluster.leave(list(self._seats), working)
