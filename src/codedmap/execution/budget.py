"""A share of a job's time for work that is not urgent."""

from __future__ import annotations

import weakref
from types import TracebackType

from .live import LiveJob

__all__ = ["Budget"]


class Budget:
    """Keeps some work, done in its ``with`` block, within a share of the time of a job.

    Parameters
    ----------
    job : LiveJob
    share : float
        Between 0 and 1.
    """

    def __init__(self, job: LiveJob, share: float) -> None:
        self._job = weakref.proxy(
            job
        )  # which has one itself: answers must not wait for the collector
        self._share = share
        self._spent = 0.0
        self._began = 0.0

    def allows(self) -> bool:
        """Whether to do it now: always when no call is running. If not, the job wakes up to do it."""
        again = self._spent / self._share
        if not self._job.running or self._job.seconds >= again:
            return True
        self._job.wake_at(again)
        return False

    def __enter__(self) -> None:
        self._began = self._job.seconds

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._spent += self._job.seconds - self._began
