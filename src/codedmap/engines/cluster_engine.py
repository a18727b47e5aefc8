"""The base class of cluster engines: slots placed on workers, which join and leave."""

from __future__ import annotations

import atexit
import math
import secrets
import threading
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future
from functools import partial

from ..contracts.arguments import check_whole
from ..errors import Abandoned, EngineError, WorkerCrashed
from .cluster import Cluster
from .failure_domains import Domain, clashes, spread
from .remote_slot import RemoteSlot
from .slot_engine import SlotEngine

__all__ = ["ClusterEngine"]

_PATIENCE = 30.0  # seconds for which a slot whose worker has died waits for a new one
_AGAIN = 1.0  # seconds until another attempt to move busy slots that share a worker


class ClusterEngine(SlotEngine[RemoteSlot]):
    """The base class of engines whose slots are queues in the caller, each placed on a worker of a cluster.

    Parameters
    ----------
    cluster : callable
        Makes the cluster, given the name of the engine's run.
    workers : int or None
        Number of slots; None: one for each worker.
    grace : float or None
        Seconds for which an abandoned call may still run before its worker is ended; None: no limit.
    """

    def __init__(
        self, cluster: Callable[[str], Cluster], workers: int | None, grace: float | None
    ) -> None:
        slots = None if workers is None else check_whole("workers", workers, 1)
        super().__init__(grace)
        self._run = secrets.token_hex(4)
        self._lock = threading.Lock()
        self._closed = False
        self._early_events: list[tuple[str, str]] | None = []
        self._placement = Placement({}, 0)
        self._vacated: dict[int, list[int]] = {}
        try:
            self._cluster = cluster(self._run)
        except BaseException:
            atexit.unregister(self._at_exit)
            raise
        try:
            found = self._cluster.watch(self._on_event)
            slots = len(found) if slots is None else slots
            self._placement = Placement(found, slots)
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
        with self._lock:
            if self._closed:
                return
            self._closed = True
        busy = [slot.number for slot in self._slots if slot.busy]
        for slot in self._slots:
            slot.close()
        try:
            if self._cluster.open:
                self._cluster.wait(self._release(busy))
        finally:
            self._cluster.close()
            atexit.unregister(self._at_exit)

    def _check_open(self) -> None:
        self._cluster.check_open()

    def _end_later(self, grace: float, slot: RemoteSlot, future: Future[object]) -> None:
        if grace < threading.TIMEOUT_MAX:
            self._cluster.soon(self._begin_grace, grace, slot, future)

    # From here on everything runs in the cluster's event loop, where also the cluster's events arrive.

    async def _begin(self) -> None:
        for slot in self._slots:
            self._place(slot.number)
        early, self._early_events = self._early_events, None
        for event in early or ():
            self._on_event(*event)

    def _on_event(self, what: str, worker: str) -> None:
        if self._early_events is not None:
            self._early_events.append((what, worker))
        elif what == "joined":
            self._cluster.do(self._add_worker(worker))
        elif what == "left":
            self._remove_worker(worker)
        else:
            self._fail_all(worker)

    async def _add_worker(self, worker: str) -> None:
        domain = await self._cluster.admit(worker)
        if domain is not None and worker not in self._placement:
            self._placement.add(worker, domain)
            self._fill()
            self._end_sharing()

    def _remove_worker(self, worker: str) -> None:
        if worker not in self._placement:
            return
        self._cluster.dismiss(worker)
        vacated = self._placement.remove(worker)
        for number in vacated:
            self._slots[number].vacate(self._cluster.crash_error(worker))
            self._vacated[number] = vacated
        self._fill()
        self._cluster.later(_PATIENCE, self._share_workers, vacated)

    def _fail_all(self, why: str) -> None:
        for slot in self._slots:
            slot.vacate(EngineError(why))
            slot.fail_waiting(EngineError(why))

    def _fill(self, sharing: Collection[int] = ()) -> None:
        for number in self._placement.fill(sharing):
            self._place(number)

    def _share_workers(self, vacated: list[int]) -> None:
        # Slots that have had another worker since wait from then on.
        self._fill([number for number in vacated if self._vacated[number] is vacated])
        unplaced = [
            number for number in self._placement.unplaced() if self._vacated[number] is vacated
        ]
        for number in unplaced:
            self._slots[number].fail_waiting(WorkerCrashed(self._cluster.no_worker_message()))
        if unplaced and not self._closed:
            self._cluster.later(_PATIENCE, self._share_workers, vacated)

    def _end_sharing(self) -> None:
        """Move idle slots from oversubscribed workers to workers with fewer slots."""
        for number in self._placement.oversubscribed():
            if self._placement.oversubscribed() and self._slots[number].release_if_idle():
                self._placement.unassign(number)
                self._fill()
        if self._placement.oversubscribed() and not self._closed:
            self._cluster.later(_AGAIN, self._end_sharing)

    def _place(self, number: int) -> None:
        worker = self._placement.worker_of(number)
        if worker is not None:
            lost = partial(self._cluster.soon, self._remove_worker, worker)
            self._slots[number].place(self._cluster.sender(worker), lost)

    def _begin_grace(self, grace: float, slot: RemoteSlot, future: Future[object]) -> None:
        timer = self._cluster.later(grace, self._end_now, slot, future)
        future.add_done_callback(lambda _: self._cluster.soon(timer.cancel))

    def _end_now(self, slot: RemoteSlot, future: Future[object]) -> None:
        worker = self._placement.worker_of(slot.number)
        if worker is None:
            return
        ended = Abandoned(f"the worker {worker} was ended: its call was abandoned")
        if slot.vacate(ended, future):
            self._remove_worker(worker)
            self._cluster.do(self._cluster.end(worker))

    async def _release(self, busy: list[int]) -> None:
        working = {worker for number in busy if (worker := self._placement.worker_of(number))}
        await self._cluster.release(list(self._placement), working)


class Placement:
    """The worker of each slot; a slot keeps its worker while that lives.

    Parameters
    ----------
    workers : mapping of name to Domain
        The workers at the beginning.
    slots : int
    """

    def __init__(self, workers: Mapping[str, Domain], slots: int) -> None:
        self._domains: dict[str, Domain] = dict(workers)
        names = list(workers)
        order = spread(list(workers.values()), slots) if workers else []
        self._worker_of: dict[int, str] = {slot: names[k] for slot, k in enumerate(order)}
        self._slots = slots
        self._even_share = math.ceil(slots / max(1, len(names)))
        self._oversubscribed: set[int] = set()

    def __contains__(self, worker: object) -> bool:
        return worker in self._domains

    def __iter__(self) -> Iterator[str]:
        return iter(self._domains)

    def worker_of(self, slot: int) -> str | None:
        """The worker of a slot, or None while it has none."""
        return self._worker_of.get(slot)

    def unplaced(self) -> list[int]:
        """The slots that have no worker."""
        return [slot for slot in range(self._slots) if slot not in self._worker_of]

    def add(self, worker: str, domain: Domain) -> None:
        """Add a worker, which has no slot yet."""
        self._domains[worker] = domain

    def remove(self, worker: str) -> list[int]:
        """Remove a worker; return its slots."""
        self._domains.pop(worker, None)
        slots = [slot for slot, name in self._worker_of.items() if name == worker]
        for slot in slots:
            self.unassign(slot)
        return slots

    def unassign(self, slot: int) -> None:
        """Take a slot off its worker."""
        del self._worker_of[slot]
        self._oversubscribed.discard(slot)

    def oversubscribed(self) -> list[int]:
        """Slots placed on workers beyond an even share, if another worker has room for one."""
        room = any(load < self._even_share for load in self._loads().values())
        return sorted(self._oversubscribed) if room else []

    def fill(self, sharing: Collection[int] = ()) -> dict[int, str]:
        """Place slots without a worker where there is room; those of ``sharing`` also beyond an even share.

        Workers with the fewest slots are preferred, and among those the ones that share the fewest
        failure domains with the slot's neighbours.
        """
        placed: dict[int, str] = {}
        for slot in self.unplaced():
            loads = self._loads()
            room = [name for name, load in loads.items() if load < self._even_share]
            if not room and slot in sharing:
                room = list(loads)
                self._oversubscribed.update([slot] if room else [])
            if room:
                near = {
                    other: self._domains[self._worker_of[other]]
                    for other in (slot - 1, slot + 1)
                    if other in self._worker_of
                }
                placed[slot] = self._worker_of[slot] = min(
                    room, key=lambda name: (loads[name], clashes(slot, self._domains[name], near))
                )
        return placed

    def _loads(self) -> dict[str, int]:
        loads = dict.fromkeys(self._domains, 0)
        for name in self._worker_of.values():
            loads[name] += 1
        return loads
