"""From what was measured of each scheme to rows of a table, and to a recommendation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..codes import Replication, Uncoded
from ..contracts.code import Code
from ..latency import LatencyModel, Waits, copies, hedged_in_pool, quorum
from ..results.plan import PlanRow
from .replays import Outcomes, counts
from .schemes import Ground, Measured

__all__ = ["advice", "exact_ones", "recommended", "row"]

_AS_GOOD = 1.02
"""Errors within this factor of the least are called equal,"""
_NOTHING = 5e-4
"""and those that differ by less than this share of the outputs' deviation."""
_USELESS = 0.7
"""Error, in deviations of the outputs, from which a scheme tells hardly anything."""
_AS_FAST = 1.1
"""A p99 within this factor of another one is about the same."""
_WAITED = 1_000
"""Waves in which is found out when a code can be decoded, if that takes more answers."""
_HEDGED = (0.95, 0.9, 0.75, 0.5)
"""Shares of calls that have answered when the others are hedged, from the cheapest on: the first is
taken whose p99 is about that of the fastest."""


def row(found: Measured, ground: Ground, seconds: np.ndarray | None) -> PlanRow:
    """What was measured of a scheme; times from ``seconds`` (2, waves, N)."""
    code, outcomes, note = found.code, found.outcomes, found.note
    if outcomes is None:
        return left_out(found.scheme, code, note)
    _, late = ground.waves(code)
    if outcomes.waiting:
        wait = (
            f"waits for more than {code.workers - late} answers in {outcomes.waiting:.0%} of waves"
        )
        note = f"{note}; {wait}" if note else wait
    p50 = p99 = None
    if seconds is not None:
        waits = _waits(code, ground, seconds[0][:, : code.workers], late, bool(outcomes.waiting))
        p50, p99 = waits.quantile(0.5), waits.quantile(0.99)
    return PlanRow(
        found.scheme, code, code.tasks, code.workers / code.tasks, outcomes.rmse,
        outcomes.rmse_p95, outcomes.agreement, outcomes.exact, p50, p99, outcomes.waiting, note, _copies(code),
    )  # fmt: skip


def left_out(scheme: str, code: Code, note: str) -> PlanRow:
    """A scheme that cannot be used."""
    nan, cost = float("nan"), code.workers / code.tasks
    return PlanRow(scheme, None, code.tasks, cost, nan, nan, None, nan, None, None, nan, note)


def _waits(code: Code, ground: Ground, seconds: np.ndarray, late: int, waiting: bool) -> Waits:
    needed = code.workers - late
    if not waiting:
        return quorum(seconds, needed)
    part = ground.parts[0]
    seconds = seconds[:_WAITED]
    order = seconds.argsort(axis=1)
    inputs = part.rows[: code.tasks, None]
    last = counts(code, inputs, order, late) - 1
    ends = np.take_along_axis(seconds, order, axis=1)[np.arange(len(seconds)), last]
    return Waits(ends, np.full(len(seconds), code.workers))


def exact_ones(
    tasks: int, ground: Ground, seconds: np.ndarray, latency: LatencyModel
) -> list[PlanRow]:
    """What waits until every answer is there: a plain map, copies, and second calls for late ones."""
    answers, workers = ground.parts[0].answers, ground.arrivals.shape[1]
    agreement = 1.0 if answers[0].size > 1 and answers.dtype.kind == "f" else None
    first = seconds[0]
    counted = quorum(first, workers - ground.late).seconds
    ways: list[tuple[str, Code, Waits, str]] = [
        ("wait for all", Uncoded(tasks), copies(first[:, :tasks], tasks), "")
    ]
    if workers >= 2 * tasks:
        ways.append(("wait for a copy", Replication(tasks, workers), copies(first, tasks), ""))
    if hedge := _hedge(tasks, seconds, latency):
        share, after, waits = hedge
        note = f"with hedge=Hedge({after:.3g}): what is late is sent once more"
        ways.append((f"hedge after p{100 * share:g}", Uncoded(tasks), waits, note))
    found = []
    for name, code, waits, note in ways:
        cost = float(waits.calls.mean()) / tasks
        p50, p99 = waits.quantile(0.5), waits.quantile(0.99)
        waiting = float((waits.seconds > counted).mean())
        found.append(
            PlanRow(name, code, tasks, cost, 0.0, 0.0, agreement, 1.0, p50, p99, waiting, note)
        )
    return found


def _hedge(
    tasks: int, seconds: np.ndarray, latency: LatencyModel
) -> tuple[float, float, Waits] | None:
    """The share of answers after which to hedge, when that is, and how long it takes; None: never."""
    when = [(share, latency.quantile(share)) for share in _HEDGED]
    tried = [
        (share, after, hedged_in_pool(seconds, tasks, after))
        for share, after in when
        if np.isfinite(after)
    ]
    least = min((waits.quantile(0.99) for _, _, waits in tried), default=np.inf)
    return next((one for one in tried if one[2].quantile(0.99) <= _AS_FAST * least), None)


def recommended(
    able: Sequence[tuple[PlanRow, Outcomes]], workers: int, stragglers: int, deviation: float
) -> PlanRow:
    """The row to use: of those that are as good as the best, the one that is trusted most.

    As good is what differs by less than 2 %, or by less than twice the standard error of the
    difference (as in the rule by which Breiman et al. prune trees, Classification and Regression
    Trees, 1984, section 3.4.3). Trusted most is the one with error bars, then with the most exact rows, then the cheapest. Codes
    that wait for more answers than were counted on come last.
    """
    ready = [one for one in able if not one[0].waiting] or list(able)
    _, best = min(ready, key=lambda one: one[1].rmse)
    enough = _AS_GOOD * best.rmse + _NOTHING * deviation
    good = [row for row, it in ready if it.rmse <= enough or it.as_good_as(best)]

    def rank(one: PlanRow) -> tuple[bool, bool, float, float, float]:
        code = one.code
        assert code is not None
        late = -(-stragglers * code.workers // workers)
        blind = not getattr(code, "has_stderr", False)
        return code.stragglers < late, blind, -round(one.exact, 3), one.cost, one.rmse

    return min(good, key=rank)


def advice(best: PlanRow, exact: Sequence[PlanRow], deviation: float) -> str:
    """A sentence or two: what to use, and whether something exact is as good."""
    if best.rmse <= _NOTHING * deviation:
        error = "no error worth mentioning"
    else:
        error = f"expected error {best.rmse / (deviation or 1.0):.2g} of the outputs' deviation"
        if best.rmse > _USELESS * deviation > 0.0:
            error += ", little better than their mean"
    if isinstance(best.code, Uncoded):
        text = f"Do not code: {best.scheme} is as good as any other ({error})."
    elif best.copying:
        text = f"Do not code, copy: no mixture is clearly better than {best.scheme} here ({error})."
    else:
        text = f"Use {best.scheme} ({error})."
    as_fast = [
        one
        for one in exact
        if best.p99 is not None and one.p99 is not None and one.p99 <= _AS_FAST * best.p99
        if np.isfinite(one.p99)
    ]
    if as_fast and best.exact < 1.0:
        one = min(as_fast, key=lambda one: one.cost)
        slow = best.p99 == np.inf
        speed, this = (
            ("faster", "not never") if slow else ("about as fast", f"not {best.p99:.3g} s")
        )
        text += (
            f" But to {one.scheme} is exact, {speed} (p99 {one.p99:.3g} s, {this}), "
            f"and takes {one.cost:.2f} calls a task, not {best.cost:.2f}."
        )
    return text


def _copies(code: Code) -> bool:
    """Whether no payload is a mixture."""
    return isinstance(code, Replication | Uncoded) or getattr(code, "spread", None) == 0.0
