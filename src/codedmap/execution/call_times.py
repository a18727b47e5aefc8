"""How long calls take, and when one of them is late."""

from __future__ import annotations

import math
from collections import deque
from itertools import islice

_SAMPLES = 256  # last calls that are kept
_REFRESH = 16  # answers after which the percentile of the times of calls is taken anew
_PERCENTILE = 0.95  # quantile of the times of calls, by which lateness is judged
_FACTOR = 1.25  # a call is late after this many times the percentile
_CAUTION = 4.0  # added to _FACTOR, divided by the number of calls seen
_BEYOND = 4  # least longer times for a call to be late before the percentile
_LEAST = 0.01  # seconds: a call is not late before, because shorter times are noise
_OVERHEADS = 4  # overheads for which a call is waited for in addition
_SHORTEST = 1e-9  # least seconds of a call
_NOISE = 0.1  # share of its time by which a call is assumed to vary, before calls show it
_KNOWN = 2  # calls that the assumed noise counts for in a fit
COLD = 4  # first calls that take this many times as long as others compile or load something
_SHORT = 0.1  # quantile of the seconds of calls, which bounds the fixed seconds
_EXCESS = 1.5  # most fixed seconds of a call, as a multiple of the _SHORT quantile
_FRAME = 1024  # bytes of a message that are not of its groups
_FITTED = 64  # last calls to which the fixed seconds and those of a group are fitted


class CallTimes:
    """Times of the last calls and their overheads, and how long the next calls may take."""

    def __init__(self, *, batches: bool = False) -> None:
        self._calls: deque[tuple[int, float]] | None = deque(maxlen=_SAMPLES) if batches else None
        """Groups and seconds of calls."""
        self._each: deque[float] = deque(maxlen=_SAMPLES)  # seconds a group
        self._fit: tuple[float, float, float, float, float] | None = None  # see `_fit_anew`
        self._unfitted = False  # whether a call has been answered since
        self._fit_of_high = 0.0, 1.0  # fixed seconds, and seconds a group, that `_high` multiplies
        self._raised: deque[float] = deque(maxlen=_SAMPLES)  # seconds a group
        self._overhead = math.inf
        self._first: list[float] = [0.0, 0]  # seconds and groups of the first calls of workers
        self._others: list[float] = [0.0, 0]  # seconds and groups of all other calls
        self._refresh_in = 0  # answers until `_high` is taken anew
        self._high = math.inf  # percentile of the times of calls, in multiples of their fit
        self._median = math.inf  # likewise their median
        self.largest = 0
        """Groups in the largest call answered."""
        self.nbytes = 0.0
        """Bytes of payload and answer for each group, the most so far."""

    def add(self, groups: int, seconds: float, overhead: float | None, nbytes: int = 0) -> None:
        """A call of so many groups has been answered.

        ``overhead``: seconds not spent in ``fn``, infinite if not known; None for the first call of a worker.
        """
        self._each.append(seconds / groups)
        if overhead is not None:
            self._overhead = min(overhead, self._overhead)
            if self._calls is not None and seconds < math.inf:  # it may be infinite in virtual time
                self._calls.append((groups, seconds))
                self._unfitted = True
        sums = self._first if overhead is None else self._others
        sums[0] += max(seconds, _SHORTEST)
        sums[1] += groups
        self._refresh_in -= 1
        self.nbytes = max(self.nbytes, (nbytes - _FRAME) / groups)
        self.largest = max(self.largest, groups)

    def add_raised(self, groups: int, seconds: float) -> None:
        """A call of so many groups has raised. While no call is answered, lateness is judged by such calls."""
        if not self._each:
            self._raised.append(seconds / groups)
            self._refresh_in = 0

    @property
    def mean(self) -> float:
        """Seconds a group, infinite before the first answer.

        The first calls of workers are left out if they took much longer than others, because they compile or load something.
        """
        (seconds, groups), (first, begun) = self._others, self._first
        if groups and first * groups > COLD * seconds * begun:
            return seconds / groups
        return (seconds + first) / (groups + begun) if groups + begun else math.inf

    @property
    def overhead(self) -> float:
        """Least seconds of a call that were not spent in ``fn``. The least, because other work adds to them."""
        return 0.0 if self._overhead == math.inf else self._overhead

    def fit(self, errors: float = 0.0) -> tuple[float, float] | None:
        """The fixed seconds of a call, and those that each group adds; None while all calls had one size.

        Least squares of the seconds a group, because noise is in proportion to the time of a call. A worker's first
        call, which imports what ``fn`` needs, is left out. The fixed seconds are lowered by so many standard ``errors``,
        and those of a group raised accordingly.
        """
        if self._unfitted:
            self._fit_anew()
        if self._fit is None:
            return None
        slope, error, share, mean, most = self._fit
        fixed = min(max(slope - errors * error, 0.0), mean / share, most)
        return fixed, max(mean - fixed * share, 0.0)

    def _fit_anew(self) -> None:
        """Regress the seconds a group on 1 / groups: the slope is the fixed seconds of a call."""
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
        slope = sum(x * y for x, y in pairs) / spread
        noise = _KNOWN * (_NOISE * mean) ** 2 + sum((y - slope * x) ** 2 for x, y in pairs)
        error = math.sqrt(noise / (len(last) - 2 + _KNOWN) / spread)
        # Neighbouring slow rows make calls long, whatever their size. But no call is shorter than its fixed seconds.
        short = sorted(seconds for _, seconds in calls)[int(_SHORT * len(calls))]
        self._fit = slope, error, share, mean, _EXCESS * short

    def late(self, groups: int) -> float:
        """Seconds after which a call of so many groups is late; infinite before the first answer or exception.

        1.25 times the 95th percentile of the seconds a group, or of multiples of `fit`, and more while few calls were
        seen: after one call five times what it took. Dean and Barroso, The Tail at Scale, Communications of the ACM
        56(2), 2013, hedge at the 95th percentile. Sooner if a second call would mostly end before the first.
        """
        known = self._each or self._raised
        if not known:
            return math.inf
        self._refresh(known)
        fixed, group = self._fit_of_high
        late = (fixed + group * groups) * self._high * (_FACTOR + _CAUTION / len(known))
        return max(late, _LEAST) + _OVERHEADS * self.overhead

    def usual(self, groups: int) -> float:
        """Median seconds of a call of so many groups; infinite before the first answer or exception."""
        known = self._each or self._raised
        if not known:
            return math.inf
        self._refresh(known)
        fixed, group = self._fit_of_high
        return (fixed + group * groups) * self._median

    def _refresh(self, known: deque[float]) -> None:
        if self._refresh_in > 0:
            return
        fit = self.fit()
        self._fit_of_high = fixed, group = fit if fit and sum(fit) else (0.0, 1.0)
        ordered = sorted(
            (seconds / (fixed + group * n) for n, seconds in self._calls)
            if fixed and self._calls
            else known
        )
        self._high, self._median = _late_after(ordered), ordered[len(ordered) // 2]
        self._refresh_in = min(_REFRESH, len(ordered))


def _late_after(ordered: list[float]) -> float:
    """The 95th percentile of ascending times; or a shorter one after which a second call would mostly end sooner.

    That is the first from the median on for which the median of the longer times, at least four, is longer by the
    time of a second call: 1.25 times as much plus the median of all.
    """
    median, last = ordered[len(ordered) // 2], len(ordered) - 1
    percentile = min(int(_PERCENTILE * len(ordered)), last)
    return next(
        (
            ordered[place]
            for place in range(len(ordered) // 2, min(percentile, last - _BEYOND))
            if ordered[(place + 1 + last) // 2] >= _FACTOR * ordered[place] + median
        ),
        ordered[percentile],
    )
