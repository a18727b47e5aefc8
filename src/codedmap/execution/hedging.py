"""How long calls take, and when one of them is late."""

from __future__ import annotations

import math
from collections import deque

_SAMPLES = 256
_REFRESH = 16  # answers after which quantiles are taken anew
_SHARE = 0.95
_FACTOR = 1.25
_CAUTION = 4.0  # divided by the number of calls seen
_LEAST = 0.01  # seconds: what takes less is noise
_OVERHEADS = 4


class CallTimes:
    """Seconds a group and overheads of the last calls, and what follows for the next ones."""

    __slots__ = (
        "_each",
        "_groups",
        "_high",
        "_overhead",
        "_raised",
        "_seconds",
        "_stale",
        "largest",
        "nbytes",
    )

    def __init__(self) -> None:
        self._each: deque[float] = deque(maxlen=_SAMPLES)
        self._raised: deque[float] = deque(maxlen=_SAMPLES)
        self._overhead = math.inf
        self._seconds = 0.0
        self._groups = 0
        self._stale = 0
        self._high = math.inf
        self.largest = 0
        """Groups in the largest call answered."""
        self.nbytes = 0.0
        """Of payload and answer, the most of a group so far."""

    def add(self, groups: int, seconds: float, overhead: float | None, nbytes: int = 0) -> None:
        """A call of so many groups has been answered; ``overhead``: seconds not spent in ``fn``, if known."""
        self._each.append(seconds / groups)
        if overhead is not None:
            self._overhead = min(overhead, self._overhead)
        self._seconds += seconds
        self._groups += groups
        self._stale -= 1
        self.nbytes = max(self.nbytes, nbytes / groups)
        self.largest = max(self.largest, groups)

    def add_raised(self, groups: int, seconds: float) -> None:
        """A call of so many groups has raised: that is how long calls take as long as none has an answer."""
        if not self._each:
            self._raised.append(seconds / groups)
            self._stale = 0

    @property
    def mean(self) -> float:
        """Seconds a group, infinite before the first answer."""
        return self._seconds / self._groups if self._groups else math.inf

    @property
    def overhead(self) -> float:
        """Least seconds of a call that were not spent in ``fn``: what other work adds is no overhead."""
        return 0.0 if self._overhead == math.inf else self._overhead

    def late(self, groups: int) -> float:
        """Seconds after which a call of so many groups is late; infinite before the first answer or exception.

        1.25 times the 95th percentile of what a group took, and more while few calls were seen: after
        one call five times what it took. Dean and Barroso, The Tail at Scale, Communications of the ACM
        56(2), 2013, hedge at the 95th percentile.
        """
        known = self._each or self._raised
        if not known:
            return math.inf
        if self._stale <= 0:
            ordered = sorted(known)
            self._high = ordered[min(int(_SHARE * len(ordered)), len(ordered) - 1)]
            self._stale = min(_REFRESH, len(ordered))
        usual = groups * self._high * (_FACTOR + _CAUTION / len(known))
        return max(usual, _LEAST) + _OVERHEADS * self.overhead
