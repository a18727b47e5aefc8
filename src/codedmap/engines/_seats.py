"""Which worker of a changing cluster each slot is on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from ._domains import Domain, clashes, spread

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
            del self._at[slot]
        return slots

    def fill(self, *, crowd: bool = False) -> dict[int, str]:
        """Place slots that have no worker, where there is room, or with ``crowd`` anywhere.

        Among the workers with the fewest slots those are preferred that fail with other domains
        than the slot's neighbours.
        """
        placed: dict[int, str] = {}
        for slot in self.empty():
            loads = dict.fromkeys(self._domains, 0)
            for name in self._at.values():
                loads[name] += 1
            room = [name for name in loads if crowd or loads[name] < self._share]
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
