"""Hedging: what is late is sent once more, to a worker that is free, and the first answer counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from ..contracts.arguments import check_whole, is_real
from ..contracts.stopping import Progress, StoppingRule, asks_stderr
from ..errors import InvalidArgument
from .collect import Collection

_SHARE = 0.05

__all__ = ["Hedge", "Hedging", "Missing", "checked_hedge", "timed_hedge"]


@dataclass(frozen=True, slots=True)
class Hedge:
    """Send the inputs of tasks that are still missing once more, to workers that are free.

    A task is missing as long as its own input has no answer: whoever holds its raw payload is late or
    has failed, or the code has sent mixtures only. It is sent to a worker that has answered in this
    wave, the earliest first, or that has had nothing to do; never to the one that is late. The
    first answer counts, and the row is exact. Each task is sent once more at most; again only if the
    worker that answered turns out to have lied elsewhere, for then its answer is not used.

    A task whose calls have all failed is sent again as soon as a worker is free, without waiting
    for ``after``.

    Without a code ``after`` is not given: once nothing is left to start, the calls that take longer
    than the others are made once more. With a code nothing is sent again without ``after``.

    Parameters
    ----------
    after : float or StoppingRule, optional
        When tasks that are missing are sent: seconds since the wave began (at least 0), or a stop
        rule, at the moment when it would stop. ``Quorum(18)`` with 20 workers is the 90th
        percentile of this very wave; ``Quorum(18) & Deadline(0.1)``, but not before 0.1 seconds.
    budget : float, optional
        With ``after``, how many tasks are sent once more in a wave at most, a whole number; those with
        the largest standard errors first, if the code has them. Without it, all that are missing.
        Without ``after``, the share of calls that are made once more at most, by default 0.05 (of few
        calls, 4).

    Notes
    -----
    The "hedged requests" of Dean and Barroso, The Tail at Scale, Communications of the ACM 56(2),
    2013, which come after the 95th percentile and cost about 5 % more calls.

    Examples
    --------
    >>> import numpy as np, codedmap as cm
    >>> with cm.testing.Scripted(4, {2: cm.testing.never()}) as engine:
    ...     result = cm.map(np.sin, np.ones(8), code=cm.Uncoded(4), engine=engine,
    ...                     hedge=cm.Hedge(after=cm.Quorum(3)))
    >>> result.exact.all(), result.hedges, len(result.calls), result.saved.sum(), result.abandoned
    (np.True_, 1, 4, np.int64(2), (2,))
    """

    after: float | StoppingRule | None = None
    budget: float | None = None

    def __post_init__(self) -> None:
        if self.after is None:
            budget = _SHARE if self.budget is None else self.budget
            if not is_real(budget) or not 0 < budget < math.inf:
                raise InvalidArgument(
                    f"Hedge(budget={budget!r}) must be a share of extra calls, such as 0.05"
                )
            object.__setattr__(self, "budget", float(budget))
            return
        if self.budget is not None:
            check_whole("budget", self.budget, 1)
        after: Any = self.after
        if is_real(after) and 0 <= after < math.inf:
            object.__setattr__(self, "after", float(after))
        elif isinstance(after, type) or not hasattr(after, "verdict"):
            raise InvalidArgument(
                f"Hedge(after={after!r}) must be at least 0 seconds, or a stop rule such as Quorum(18)"
            )
        elif asks_stderr(after):
            raise InvalidArgument(
                f"Hedge(after={after}) would wait until the estimates are good, and then nothing needs "
                "to be sent again: say when in seconds, or by a Quorum"
            )


def checked_hedge(hedge: Any) -> Hedge | None:
    """The argument of a door; raises `InvalidArgument` if it is neither a `Hedge` nor None."""
    if hedge is None or isinstance(hedge, Hedge):
        return hedge
    raise InvalidArgument(f"hedge={hedge!r} must be a codedmap.Hedge, such as Hedge(), or None")


def timed_hedge(hedge: Any) -> Hedge | None:
    """The hedge of coded calls: None without ``after``, for a code has spare answers already."""
    hedge = checked_hedge(hedge)
    return None if hedge is None or hedge.after is None else hedge


@dataclass(frozen=True, slots=True)
class Missing:
    """A task whose own input has no answer yet."""

    slot: int
    """For which its input would be sent again."""
    lost: bool
    """Whether nobody computes it any more."""


class Hedging:
    """The hedges of one wave.

    Parameters
    ----------
    hedge : Hedge or None
        None: never.
    calls : Collection
        Of the wave.
    missing : callable
        Which tasks are, given a `Progress`.
    send : callable
        Called with slot and worker.
    worst_first : callable
        Puts some of those that are missing in order, since there are not enough workers or calls.
    liars : callable
        Workers that have been judged liars so far: they are not asked.
    """

    def __init__(
        self,
        hedge: Hedge | None,
        calls: Collection,
        *,
        missing: Callable[[Progress], list[Missing]],
        send: Callable[[int, int], None],
        worst_first: Callable[[Sequence[Missing]], Sequence[Missing]],
        liars: Callable[[], Set[int]],
    ) -> None:
        self._hedge = hedge
        self._calls = calls
        self._missing = missing
        self._send = send
        self._worst_first = worst_first
        self._liars = liars
        self._possible: list[Missing] = []
        self._due = False

    def hopeful(self, news: Progress) -> tuple[Progress, frozenset[int]]:
        """What is known, and the slots that may still be sent once more, now or later.

        A call that has failed counts as running if it is to be sent again, so that no rule takes
        the wave for over meanwhile.
        """
        self._possible = self._missing(news) if self._may() else []
        self._possible = [task for task in self._possible if task.slot not in self._calls.again]
        lost = frozenset(task.slot for task in self._possible if task.lost)
        seen = replace(news, failed=news.failed - lost) if lost else news
        return seen, frozenset(task.slot for task in self._possible)

    def send(self, seen: Progress) -> None:
        """Send what is due, as far as workers are free and the budget allows it."""
        possible = self._possible
        if not possible:
            return
        # If nobody is running, there is nothing left to wait for.
        if not self._is_due(seen) and self._calls.running:
            possible = [task for task in possible if task.lost]
        free = self._free()[: self._left()]
        if not free and not self._calls.running:
            self._calls.wake_at(seen.seconds)  # those that were free have just been found to lie
        wanted = self._worst_first(possible) if len(possible) > len(free) > 0 else possible
        for task, worker in zip(wanted, free, strict=False):
            self._send(task.slot, worker)

    def _may(self) -> bool:
        if self._hedge is None or self._left() == 0:
            return False
        return self._calls.running or bool(self._free())

    def _free(self) -> list[int]:
        free, liars = self._calls.free(), self._liars()
        return [worker for worker in free if worker not in liars] if liars else free

    def _left(self) -> int | None:
        if self._hedge is None or self._hedge.budget is None:
            return None
        return int(self._hedge.budget) - self._calls.hedges

    def _is_due(self, seen: Progress) -> bool:
        if self._due or self._hedge is None:
            return self._due
        after = self._hedge.after
        assert after is not None
        if isinstance(after, float):
            self._due = seen.seconds >= after
            wake: float | None = after - seen.seconds
        else:
            self._due = after.verdict(seen) is not None
            wake = after.wake_after(seen)
        if not self._due and wake is not None:
            self._calls.wake_at(seen.seconds + wake)
        return self._due
