"""How many groups a call computes, when it ends early, and whether calls are sent ahead.

A call takes fixed seconds, and seconds for each of its groups (`CallTimes.fit`).
"""

from __future__ import annotations

import math

from .call_times import CallTimes
from .events import Job

_LEAST_OVERHEADS = 10  # least overheads of a call, also at the end of the job
_MIN_SECONDS = 0.05  # least seconds of a call
_OVERHEADS = 50  # least overheads of a call, unless these are longer than _LONG
_LONG = 0.2  # seconds: fast rows wait for slow ones of their call
_DRIVER_SECONDS = 0.004  # least seconds of a call for each worker: one driver serves them all
_MOST_BYTES = 32 << 20  # most of payload and answer; beyond, malloc takes new memory each time
_SHARES = 8  # calls for each worker that are left at least, so that all workers end together
_AHEAD_OVERHEADS = 20  # rows that take fewer overheads are sent ahead to busy workers
_FIXED_RATIO = 4  # the groups of a batch take from 1/4 to 4 times the fixed seconds of its call
_TRIAL_GROUPS = 4  # groups of every other batch, while the fixed seconds are not known
_FIXED_ERRORS = 2.0  # standard errors that are subtracted from the fixed seconds, to be cautious
_GROWTH = 8  # most groups of a call, as a multiple of the largest call answered so far
_LIMIT_FACTOR = 2  # a call ends early after this many times the expected seconds
_LEAST_LIMIT = 0.01  # least seconds after which a call ends early
_STEPS = 8  # parts in which a batch is computed, so that it can end early
_SHORT_ROW = 1e-4  # seconds: batches of rows that take less are computed whole
_UNBOUNDED = 1 << 62  # groups, more than any job has


class CallSizes:
    """The sizes of the calls of a job, by the times of those that have ended."""

    def __init__(self, job: Job, times: CallTimes) -> None:
        self._job, self._times = job, times

    def next(self, left: int | None, workers: int, started: int, *, more: bool) -> int:
        """Groups of the next call: many compared with its overhead, and fewer towards the end of the job.

        Parameters
        ----------
        left : int, optional
            Groups that no call has held; None: as if the job had no end.
        workers, started : int
            How many workers there are, and calls that were started.
        more : bool
            Whether there may be more groups than are known.
        """
        job, times, bounded = self._job, self._times, left is not None
        left = _UNBOUNDED if left is None else left
        if job.size is not None:
            return min(job.size, left)
        if not times.largest or left == 1:
            return min(job.first, left)
        enough = max(min(_OVERHEADS * times.overhead, _LONG), _LEAST_OVERHEADS * times.overhead)
        seconds = max(_MIN_SECONDS, enough, _DRIVER_SECONDS * workers)
        seconds = min(seconds, job.call_timeout / 4)
        fair = left if more else -(-left * job.slots // (_SHARES * workers))
        if times.mean * fair < _LEAST_OVERHEADS * times.overhead:
            fair = min(left, math.ceil(_LEAST_OVERHEADS * times.overhead / times.mean))
        most = min(_GROWTH * times.largest, fair)
        if times.mean * most > seconds:
            most = int(seconds / times.mean)
        most = min(most, int(_MOST_BYTES / max(times.nbytes, 1.0)))
        if job.batches and bounded:
            most = max(most, self._batch(left, workers, started))
        memory = job.memory()
        if times.nbytes * most > memory:
            most = int(memory / times.nbytes)
        return min(left, max(1, most))

    def _batch(self, left: int, workers: int, started: int) -> int:
        """Groups of a batch, whose fixed seconds are to be a small part of its time."""
        times = self._times
        fit = times.fit(_FIXED_ERRORS)
        if fit is None:
            # Calls of two sizes show whether calls take fixed seconds.
            most = min(_TRIAL_GROUPS, -(-left // workers) - 1) if started % 2 else 1
            fixed, group = 0.0, times.mean
        else:
            fixed, group = fit
            worth = min(fixed / group, left) if group else left  # groups that take as long
            # To share out what is left in ever smaller parts would take longer than what these save.
            most = max(-(-left // workers), math.ceil(worth / _FIXED_RATIO))
            most = min(most, math.ceil(_FIXED_RATIO * worth), _GROWTH * times.largest, left)
        timeout = self._job.call_timeout / 4
        return most if fixed + group * most <= timeout else 1

    def limit(self, groups: int) -> tuple[float, int]:
        """Seconds after which a call ends early, and how many groups it computes at a time."""
        times, step, fixed, each = self._times, 1, 0.0, self._times.mean
        if self._job.batches:
            fixed, each = times.fit() or (0.0, 0.0)
            step = groups
            if each > _SHORT_ROW:  # each step costs the fixed seconds again
                step = max(math.ceil(groups / _STEPS), math.ceil(_STEPS * fixed / each))
        if step >= groups or self._job.size is not None:
            return math.inf, 1
        limit = _LIMIT_FACTOR * (fixed + each * groups)
        return max(_LEAST_LIMIT, _LEAST_OVERHEADS * times.overhead, limit), step

    def sent_ahead(self, workers: int, started: int) -> bool:
        """Whether busy workers are sent calls ahead. Long rows would gain little by it, and might wait for slow ones."""
        job, times = self._job, self._times
        first = started < _TRIAL_GROUPS * workers
        if first and job.batches and job.size is None and times.fit() is None:
            return False  # once the fixed seconds are known, which is soon, calls are larger
        return times.mean < max(_MIN_SECONDS, _AHEAD_OVERHEADS * times.overhead)
