"""``code="auto"``: a plan made from some of the rows of a call, on its own engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ..contracts.engine import engine_for, no_engine
from ..contracts.stopping import AllOf, AnyOf, Quorum, StoppingRule, asks_stderr
from ..engines import Engine, Resident
from ..errors import InvalidArgument
from ..results.plan import Plan, PlanRow
from .on_engine import computing
from .question import BUDGET, GROUPS, Question, planned
from .sampling import chosen, numbers_of_tasks

__all__ = ["auto"]

_LATE = 5
"""One worker in so many is counted on to be late, where the stop rule does not say."""
_FEWEST = 4
"""Groups that a plan is made from, if there are as many."""
_ROWS = 14
"""Rows of the call for each sample row, so that a plan takes about as many calls as the wave."""


def auto(
    fn: Callable[[Any], Any] | Resident,
    rows: np.ndarray,
    engine: Any,
    stop: StoppingRule | None,
    *,
    stragglers: int | None = None,
    tasks: int | None = None,
    given: str = "",
) -> Plan:
    """Which code to use for these rows; see `codedmap.map`.

    Parameters
    ----------
    fn, rows, engine, stop
        As `map` has them.
    stragglers, tasks : int, optional
        By default from the rule, and chosen.
    given : str
        As for `Wave`.

    Raises
    ------
    InvalidArgument
        If the engine does not say how many workers it has.
    CodedmapError
        As `plan`.
    """
    if not isinstance(engine, Engine):
        if engine_for(engine):
            raise no_engine(engine)
        raise InvalidArgument(
            f'code="auto" has to know how many workers there are, and engine={engine!r} does not '
            "say: give codedmap.engines.FromExecutor(executor, workers=8), say"
        )
    workers = engine.workers
    late = _dispensable(stop, workers) if stragglers is None else stragglers
    budget = max(BUDGET, workers / len(rows))  # a group has no more tasks than there are rows
    wanted = [tasks] if tasks else numbers_of_tasks(workers, late, budget, len(rows))
    groups = min(GROUPS, max(_FEWEST, len(rows) // (_ROWS * wanted[0])))
    sample = chosen(rows, groups * wanted[0], 0)
    ask = Question(computing(fn, engine, given), sample, workers, late, groups=groups)
    plan = planned(ask, wanted)
    fitting = [row for row in plan.rows if _fits(row, stop)]
    rest = [row for row in plan.rows if not _fits(row, stop)]
    return replace(plan, rows=(*fitting, *rest))


def _fits(row: PlanRow, stop: StoppingRule | None) -> bool:
    """Whether the rule can be satisfied with this code."""
    if row.code is None or stop is None:
        return row.code is not None
    told = getattr(row.code, "has_stderr", False) or not asks_stderr(stop)
    return told and row.code.workers >= (_counted(stop) or 0)


def _dispensable(stop: StoppingRule | None, workers: int) -> int:
    """How many answers the rule goes without; if it does not count them, a fifth of all."""
    count = _counted(stop)
    if count is not None:
        return max(0, workers - count)
    return -(-workers // _LATE) if workers > 1 else 0


def _counted(rule: StoppingRule | None) -> int | None:
    """The answers that a rule waits for, if it counts them."""
    if isinstance(rule, Quorum):
        return rule.answers
    if isinstance(rule, AllOf | AnyOf):
        found = [_counted(part) for part in (rule.first, rule.second)]
        counts = [count for count in found if count is not None]
        return (min if isinstance(rule, AnyOf) else max)(counts, default=None)
    return None
