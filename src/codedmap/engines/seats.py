"""Which worker of a changing cluster each slot is on."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping

from .failure_domains import Domain, clashes, spread

__all__ = ["Seats"]


class Seats:
    """Slots placed on workers, which come and go; a slot stays where it is while its worker lives.

    Parameters
    ----------
    workers : mapping of name to Domain
        Those that are there at the beginning.
    slots : int
    """

    def __init__(self, workers: Mapping[str, Domain], slots: int) -> None:
        self._domains: dict[str, Domain] = dict(workers)
        names = list(workers)
        order = spread(list(workers.values()), slots) if workers else []
        self._at: dict[int, str] = {slot: names[k] for slot, k in enumerate(order)}
        self._slots = slots
        self._share = math.ceil(slots / max(1, len(names)))
        self._guests: set[int] = set()

    def __contains__(self, worker: object) -> bool:
        return worker in self._domains

    def __iter__(self) -> Iterator[str]:
        return iter(self._domains)

    def at(self, slot: int) -> str | None:
        """The worker of a slot, or None while it has none."""
        return self._at.get(slot)

    def empty(self) -> list[int]:
        """The slots that have no worker."""
        return [slot for slot in range(self._slots) if slot not in self._at]

    def add(self, worker: str, domain: Domain) -> None:
        """A worker has come; it has no slot yet."""
        self._domains[worker] = domain

    def remove(self, worker: str) -> list[int]:
        """A worker has gone: its slots have none now."""
        self._domains.pop(worker, None)
        slots = [slot for slot, name in self._at.items() if name == worker]
        for slot in slots:
            self.leave(slot)
        return slots

    def leave(self, slot: int) -> None:
        """A slot has no worker now."""
        del self._at[slot]
        self._guests.discard(slot)

    def guests(self) -> list[int]:
        """The slots that were crowded with others, if a worker has room for one now."""
        room = any(load < self._share for load in self._loads().values())
        return sorted(self._guests) if room else []

    def fill(self, crowd: Collection[int] = ()) -> dict[int, str]:
        """Place slots that have no worker, where there is room, or those of ``crowd`` anywhere.

        Among the workers with the fewest slots those are preferred that fail with other domains
        than the slot's neighbours.
        """
        placed: dict[int, str] = {}
        for slot in self.empty():
            loads = self._loads()
            room = [name for name, load in loads.items() if load < self._share]
            if not room and slot in crowd:
                room = list(loads)
                self._guests.update([slot] if room else [])
            if room:
                near = {
                    other: self._domains[self._at[other]]
                    for other in (slot - 1, slot + 1)
                    if other in self._at
                }
                placed[slot] = self._at[slot] = min(
                    room, key=lambda name: (loads[name], clashes(slot, self._domains[name], near))
                )
        return placed

    def _loads(self) -> dict[str, int]:
        loads = dict.fromkeys(self._domains, 0)
        for name in self._at.values():
            loads[name] += 1
        return loads
