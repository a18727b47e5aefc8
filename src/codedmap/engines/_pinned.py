"""What the engines of clusters share: slots that are placed on workers elsewhere, and the end."""

from __future__ import annotations

import atexit
import secrets

from ._pinning import Pinning, join
from ._remote import RemoteSlot

__all__ = ["Pinned"]


class Pinned(Pinning[RemoteSlot]):
    """An engine whose slots are queues in the caller, each placed on a worker elsewhere.

    A cluster says how a slot that has lost its worker gets another, how a worker is ended, and
    what to do at the end, in the methods that raise NotImplementedError here and in `Pinning`.

    Parameters
    ----------
    grace : float or None
        Seconds for which an abandoned call may still run before its worker is ended; None: for ever.
    """

    def __init__(self, grace: float | None) -> None:
        super().__init__(grace)
        self._run = secrets.token_hex(4)

    def close(self) -> None:
        """Take no more calls, and end what the engine has started; the cluster goes on."""
        timers = self._begin_to_close()
        if timers is None:
            return
        busy = [slot for slot in self._slots if slot.busy]
        for slot in self._slots:
            slot.close()
        try:
            self._leave(busy)
        finally:
            join(timers)
            atexit.unregister(self._at_exit)

    def _lost(self, slot: RemoteSlot) -> None:
        """A call has found the worker of this slot dead."""
        raise NotImplementedError

    def _leave(self, busy: list[RemoteSlot]) -> None:
        """Undo on the cluster what the engine has done there; these slots' workers are busy."""
        raise NotImplementedError
