"""How long calls take, and when one of them is late."""

from __future__ import annotations

import math
from collections import deque
from itertools import islice

_SAMPLES = 256
_REFRESH = 16  # answers after which quantiles are taken anew
_SHARE = 0.95
_FACTOR = 1.25
_CAUTION = 4.0  # divided by the number of calls seen
_BEYOND = 4  # longer times at least, for a time to be judged by them
_LEAST = 0.01  # seconds: what takes less is noise
_OVERHEADS = 4
_SHORTEST = 1e-9  # seconds, of a call
_NOISE = 0.1  # share of their time by which calls differ at least, as if known
_KNOWN = 2  # from so many others
COLD = 4  # times as long as others are first calls that compile or load something
_LOW = 0.1  # share of the calls that may be much shorter than what each takes by itself,
_DIFFER = 1.5  # times as long as the others at most
_FRAME = 1024  # bytes of a message that are none of its groups
_FITTED = 64  # last calls to which the time of a call itself, and of each of its groups, is fitted


class CallTimes:
    """Seconds a group and overheads of the last calls, and what follows for the next ones."""

    def __init__(self, *, batches: bool = False) -> None:
        self._calls: deque[tuple[int, float]] | None = deque(maxlen=_SAMPLES) if batches else None
        self._each: deque[float] = deque(maxlen=_SAMPLES)
        self._fit: tuple[float, float, float, float, float] | None = None
        self._unfitted = False
        self._judged = 0.0, 1.0  # as `_fit`, when quantiles were last taken
        self._raised: deque[float] = deque(maxlen=_SAMPLES)
        self._overhead = math.inf
        self._first: list[float] = [0.0, 0]  # seconds and groups of the first calls of workers,
        self._others: list[float] = [0.0, 0]  # and of all others
        self._stale = 0
        self._high = math.inf
        self.largest = 0
        """Groups in the largest call answered."""
        self.nbytes = 0.0
        """Of payload and answer, the most of a group so far."""

    def add(self, groups: int, seconds: float, overhead: float | None, nbytes: int = 0) -> None:
        """A call of so many groups has been answered.

        ``overhead``: seconds not spent in ``fn``, infinite if not known; None for the first call of a worker.
        """
        self._each.append(seconds / groups)
        if overhead is not None:
            self._overhead = min(overhead, self._overhead)
            if self._calls is not None and seconds < math.inf:  # as in virtual time
                self._calls.append((groups, seconds))
                self._unfitted = True
        sums = self._first if overhead is None else self._others
        sums[0] += max(seconds, _SHORTEST)
        sums[1] += groups
        self._stale -= 1
        self.nbytes = max(self.nbytes, (nbytes - _FRAME) / groups)
        self.largest = max(self.largest, groups)

    def add_raised(self, groups: int, seconds: float) -> None:
        """A call of so many groups has raised: that is how long calls take as long as none has an answer."""
        if not self._each:
            self._raised.append(seconds / groups)
            self._stale = 0

    @property
    def mean(self) -> float:
        """Seconds a group, infinite before the first answer.

        Without the first calls of workers if those took much longer than others, because they compile or load something.
        """
        (seconds, groups), (first, begun) = self._others, self._first
        if groups and first * groups > COLD * seconds * begun:
            return seconds / groups
        return (seconds + first) / (groups + begun) if groups + begun else math.inf

    @property
    def overhead(self) -> float:
        """Least seconds of a call that were not spent in ``fn``: what other work adds is no overhead."""
        return 0.0 if self._overhead == math.inf else self._overhead

    def fit(self, errors: float = 0.0) -> tuple[float, float] | None:
        """Seconds that a call takes by itself, and that each of its groups adds; None while calls had one size.

        Least squares of seconds a group, because what disturbs calls is in proportion to their time. A worker's first
        call, which imports what ``fn`` needs, is left out. Of what a call takes by itself so many standard ``errors``
        are given to its groups.
        """
        if self._unfitted:
            self._fit_anew()
        if self._fit is None:
            return None
        rise, error, share, mean, least = self._fit
        call = min(max(rise - errors * error, 0.0), mean / share, least)
        return call, max(mean - call * share, 0.0)

    def _fit_anew(self) -> None:
        self._unfitted = False
        calls = self._calls or ()
        last = list(islice(reversed(calls), _FITTED))
        shares = [1.0 / groups for groups, _ in last]
        if not last or min(shares) == max(shares):
            return
        each = [seconds / groups for groups, seconds in last]
        share, mean = sum(shares) / len(last), sum(each) / len(last)
        spread = sum((x - share) ** 2 for x in shares)
        pairs = [(x - share, y - mean) for x, y in zip(shares, each, strict=True)]
        rise = sum(x * y for x, y in pairs) / spread
        noise = _KNOWN * (_NOISE * mean) ** 2 + sum((y - rise * x) ** 2 for x, y in pairs)
        error = math.sqrt(noise / (len(last) - 2 + _KNOWN) / spread)
        # Slow rows that stand together make calls long, whatever their size; but all take what a call takes by itself.
        short = sorted(seconds for _, seconds in calls)[int(_LOW * len(calls))]
        self._fit = rise, error, share, mean, _DIFFER * short

    def late(self, groups: int) -> float:
        """Seconds after which a call of so many groups is late; infinite before the first answer or exception.

        1.25 times the 95th percentile of what a group took, or of `fit`, and more while few calls were seen:
        after one call five times what it took. Dean and Barroso, The Tail at Scale, Communications of the ACM
        56(2), 2013, hedge at the 95th percentile. Sooner if a second call would mostly end before the first.
        """
        known = self._each or self._raised
        if not known:
            return math.inf
        if self._stale <= 0:
            fit = self.fit()
            self._judged = call, group = fit if fit and sum(fit) else (0.0, 1.0)
            ordered = sorted(
                (seconds / (call + group * n) for n, seconds in self._calls)
                if call and self._calls
                else known
            )
            self._high = _late_after(ordered)
            self._stale = min(_REFRESH, len(ordered))
        call, group = self._judged
        usual = (call + group * groups) * self._high * (_FACTOR + _CAUTION / len(known))
        return max(usual, _LEAST) + _OVERHEADS * self.overhead


def _late_after(ordered: list[float]) -> float:
    """Of times in order, the 95th percentile, or the first after which a second call would mostly end sooner.

    That is the shortest above the median, with at least four longer ones, whose median is longer by another median.
    """
    usual, last = ordered[len(ordered) // 2], len(ordered) - 1
    percentile = min(int(_SHARE * len(ordered)), last)
    return next(
        (
            ordered[place]
            for place in range(len(ordered) // 2, min(percentile, last - _BEYOND))
            if ordered[(place + 1 + last) // 2] >= _FACTOR * ordered[place] + usual
        ),
        ordered[percentile],
    )
