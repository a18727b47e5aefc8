"""When late calls are sent once more."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..contracts.arguments import check_whole, is_real
from ..contracts.stopping import StoppingRule, asks_stderr, best_case
from ..errors import InvalidArgument, many

_SHARE = 0.05  # most hedges by default, as a share of the other calls


@dataclass(frozen=True, slots=True)
class Hedge:
    """Send late calls once more, to workers that are free; the first answer counts.

    Without a code: once nothing is left to start, calls that take longer than the others are made once
    more. With a code: once its stopping rule cannot be satisfied by calls that are about to end, the inputs
    of tasks without an answer of their own are sent, or late payloads once more, whichever are fewer. A row whose
    own input is answered is exact. No call is sent to a worker whose answer was rejected, nor, unless all others
    are late, to one that has had the same input.

    Parameters
    ----------
    after : float or StoppingRule, optional
        For codes only. The inputs of all tasks without an answer are sent at this time: seconds since the chunk began
        (at least 0), or a stopping rule, at the moment when it would stop. ``Quorum(18)`` with 20 workers is the
        90th percentile of this very chunk; ``Quorum(18) & Deadline(0.1)``, but not before 0.1 seconds. If every task
        has an answer, but some are not exact, payloads that still run are sent again. By default calls are late when
        they take longer than the others.
    budget : float, optional
        The share of calls that are made once more at most, by default 0.05 (of few calls, 8). With
        ``after``, how many inputs are sent in a chunk at most, a whole number; by default all.

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
    >>> result.exact.all(), result.hedges, len(result.calls), result.abandoned
    (np.True_, 1, 5, ())
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
            check_whole("Hedge with after: budget", self.budget, 1)
        after: Any = self.after
        if is_real(after) and 0 <= after < math.inf:
            object.__setattr__(self, "after", float(after))
        elif isinstance(after, type) or not hasattr(after, "verdict"):
            raise InvalidArgument(
                f"Hedge(after={after!r}) must be at least 0 seconds, or a stopping rule such as Quorum(18)"
            )
        elif asks_stderr(after):
            raise InvalidArgument(
                f"Hedge(after={after}) would wait until the estimates are good, and then nothing needs "
                "to be sent again: say when in seconds, or by a Quorum"
            )


def checked_hedge(hedge: Any) -> Hedge | None:
    """The argument of an entry point; raises `InvalidArgument` if it is neither a `Hedge` nor None."""
    if hedge is None or isinstance(hedge, Hedge):
        return hedge
    raise InvalidArgument(f"hedge={hedge!r:.80} must be a codedmap.Hedge, such as Hedge(), or None")


def check_begins(hedge: Hedge, slots: int) -> None:
    """Raise `InvalidArgument` if ``after`` is a rule that does not hold before all ``slots`` are answered, if ever."""
    rule = hedge.after
    if rule is None or isinstance(rule, float):
        return
    asked = frozenset(range(slots))
    if rule.verdict(best_case(asked, asked - {0}, frozenset(), math.inf, True)) is None:
        raise InvalidArgument(
            f"Hedge(after={rule}) would send nothing: the rule does not hold before the last of {many(slots, 'payload')} is "
            "answered. Say when in seconds"
            + (f", or by a rule such as Quorum({slots - 1})" if slots > 1 else "")
        )
