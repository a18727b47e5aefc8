"""Which calls hang: they run so long that the rows that wait for their workers would not be computed.

Where rows may be estimated, such a call is *parked*: its worker is ended, and its rows go to the end of the queue.
"""

from __future__ import annotations

import math

from .call_times import CallTimes
from .events import Call

HANGS = 50  # times as long as usual after which a call hangs; honest rows may take 20 times as long
_SURE = 60  # parked calls after which more do not shorten the wait


class Parking:
    """How long calls may run beyond what is usual before they are parked."""

    def __init__(self, times: CallTimes) -> None:
        self._times = times
        self._longest = 0.0  # seconds, beyond what is usual, of a call that was answered
        self._first = 0.0  # likewise of a worker's first call, from when it was sent
        self.unanswered = 0
        """Calls that were parked, less those of their rows that were answered after all."""

    def answered(self, call: Call, seconds: float, now: float, *, first: bool) -> None:
        """A call was answered after so many ``seconds``; ``first``: by a worker that had answered none."""
        if first:
            self._first = max(self._first, now - call.sent)
        elif seconds < math.inf and self._times.largest:
            self._longest = max(self._longest, seconds - self._base(call))
        self.unanswered -= call.wanted and call.piece.parked > 0

    def patience(self, call: Call) -> float:
        """Seconds beyond what is usual after which a call hangs; infinite before the first answer.

        At first 50 times the usual. Each parked call halves that, down to twice what the longest answered call took: how
        others have ended tells rows that hang from long ones.
        """
        patience = HANGS * self._times.usual(_unit(call))
        return max(patience / 2.0 ** min(self.unanswered, _SURE), 2.0 * self._longest)

    def due(self, call: Call, patience: float, *, first: bool) -> float:
        """When a call is to be parked that may run so many seconds longer than usual.

        Not before it is late. A row that was parked before may run twice as long as then; so may the ``first`` call of a
        worker, which imports what ``fn`` needs.
        """
        opening = max(0.0, self._first - self._times.usual(1)) if first else 0.0
        seconds = max(patience, 2.0 * call.piece.parked, 2.0 * opening)
        return call.started + max(self._base(call) + seconds, self._times.late(call.groups))

    def size(self, done: int) -> float:
        """Most groups of a call, so that most calls hold none that hangs, if so many groups are done."""
        return max(1.0, done / self.unanswered) if self.unanswered else math.inf

    def _base(self, call: Call) -> float:
        """Usual seconds of a call, or after which it ends early."""
        return self._times.usual(call.groups) if call.limit == math.inf else call.limit


def _unit(call: Call) -> int:
    """How many groups a call computes at a time."""
    return call.groups if call.limit == math.inf else call.step
