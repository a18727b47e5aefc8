"""Which code? Measured on a sample, before a cluster is spent on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ._checks import check_whole, is_real
from ._code import Code, check_budget
from ._errors import InvalidAnswer, InvalidArgument
from ._plan_table import Plan, PlanRow
from ._replays import Answer, Sample, answered
from ._rows import checked_rows
from ._schemes import Ground, Measured, measured, standard
from .codes import Replication, Uncoded
from .latency import LatencyModel, hedged_in_pool, quorum, responders

__all__ = ["plan"]

_GROUPS, _WAVES, _TIMED = 10, 60, 10_000
_GOOD_ENOUGH = 0.1
"""Error, in deviations of the outputs, that a plan which chooses K is content with."""
_CLEARLY = 0.95
"""A scheme without standard errors must be this much better to be recommended."""


def plan(
    fn: Callable[[Any], Any],
    sample: Any,
    *,
    workers: int,
    tasks: int | None = None,
    stragglers: int | None = None,
    latency: LatencyModel | None = None,
    codes: Mapping[str, Code] | Iterable[Code] | None = None,
    budget: float | None = None,
    seed: int = 0,
) -> Plan:
    """Measure on a sample which code loses least, and what copies and hedging would do instead.

    ``fn`` computes, in this process, the payloads that each scheme makes of the sample: some
    thousands of rows. Then straggler sets are replayed on these answers, the same ones for all
    schemes. Kernel codes are tried with several spreads, with and without leaning on the sample's
    own answers; those are never known of the rows that are being judged.

    Parameters
    ----------
    fn : callable
        Batch to batch, as in `map`.
    sample : array-like, shape (m, *x)
        Rows like those to come; 10 K of them are used well, K at least.
    workers : int
        N.
    tasks : int, optional
        K. By default chosen too: the largest whose error is at most a tenth of the outputs'
        deviation, or that with the least error.
    stragglers : int, optional
        S: how many answers a wave goes without. Needed unless there is a latency model, with
        which it is by default the smallest number that brings the p99 within a tenth of the best.
    latency : LatencyModel, optional
        How long calls take (``codedmap.latency``): the straggler sets are drawn from it, and the
        times until schemes are done are told.
    codes : mapping of str to Code, or iterable of Code, optional
        What to compare, instead of the usual: kernel codes, copies, splines, Berrut. Needs tasks.
    budget : float, optional
        Worker calls a task, at most, where K is chosen. 3 by default.
    seed : int
        Of groups, waves and times.

    Returns
    -------
    Plan
        Print it; ``plan.code`` is the recommended code, ready to use.

    Raises
    ------
    InvalidArgument
        If an argument cannot work, or the sample is too small.
    InvalidAnswer
        If fn returns anything but one floating-point array with a row per row.
    """
    rows = checked_rows(sample)
    check_budget(1, workers, stragglers or 0)
    if stragglers is None and latency is None:
        raise InvalidArgument(
            "plan needs to know how many workers will be late: give stragglers=, or a latency "
            "model of codedmap.latency to draw them from"
        )
    if budget is not None and (not is_real(budget) or not budget >= 1.0):
        raise InvalidArgument(f"budget={budget!r} must be at least 1 worker call a task")
    if tasks is not None:
        check_whole("tasks", tasks, 1)
    elif codes is not None:
        raise InvalidArgument("codes= are for one number of tasks: give tasks= as well")
    truth = _truth(fn, rows)
    seconds = None
    if latency is not None:
        seconds = latency.calls(np.random.default_rng([seed, 1]), _TIMED, workers, 2)
    late = stragglers if stragglers is not None else _late(seconds)
    choices = [tasks] if tasks is not None else _choices(workers, late, budget or 3.0, len(rows))
    ask = _Question(fn, rows, truth, workers, late, seconds, latency, codes, seed)
    plans = [_planned(ask, k) for k in choices]
    return plans[0] if len(plans) == 1 else _largest(plans)


@dataclass(frozen=True, slots=True, eq=False)
class _Question:
    """What is the same for all numbers of tasks."""

    fn: Answer
    rows: np.ndarray
    truth: np.ndarray
    workers: int
    stragglers: int
    seconds: np.ndarray | None
    latency: LatencyModel | None
    codes: Mapping[str, Code] | Iterable[Code] | None
    seed: int


def _planned(ask: _Question, tasks: int) -> Plan:
    workers, stragglers, seconds = ask.workers, ask.stragglers, ask.seconds
    ground = _ground(ask, tasks)
    compared = (
        standard(tasks, workers, stragglers) if ask.codes is None else _named(ask.codes, tasks)
    )
    found = [measured(scheme, code, ground) for scheme, code in compared]
    deviation = float(np.sqrt(ask.truth.reshape(len(ask.truth), -1).var(axis=0).mean())) or 1.0
    told = [_row(one, 1.0 - stragglers / workers, seconds) for one in found]
    able = [row for row in told if np.isfinite(row.rmse)]
    if not able:
        raise InvalidAnswer(f"no scheme could be tried: {told[0].note}")
    able.sort(key=lambda row: row.rmse)
    best = _recommended(able, deviation)
    able.remove(best)
    if seconds is not None and ask.latency is not None and workers >= tasks:
        able.append(_hedge(tasks, seconds, ask.latency))
    left_out = [row for row in told if not np.isfinite(row.rmse)]
    groups = sum(fold.inputs.shape[1] for fold in ground.folds)
    every = (best, *able, *left_out)
    advice = _advice(every, deviation)
    return Plan(every, workers, stragglers, deviation, groups, len(ground.sets), advice)


def _truth(fn: Answer, rows: np.ndarray) -> np.ndarray:
    truth = answered(fn, rows[:, None])[:, 0]
    if truth.dtype.kind not in "fc":
        raise InvalidAnswer(
            f"fn returns {truth.dtype}, and nothing can be estimated between labels: return scores, "
            "or use Replication, which only copies"
        )
    broken = ~np.isfinite(truth.reshape(len(truth), -1)).all(axis=1)
    if broken.any():
        raise InvalidAnswer(
            f"fn is not finite on {broken.sum()} of {len(rows)} sample rows (the first is row "
            f"{broken.argmax()}): leave them out of the sample"
        )
    return truth


def _ground(ask: _Question, tasks: int) -> Ground:
    rng = np.random.default_rng([ask.seed, 0])
    sets = _sets(rng, ask.workers, ask.stragglers, ask.seconds)
    rows, truth = ask.rows, ask.truth
    groups = min(_GROUPS, len(rows) // tasks)
    if groups == 0:
        raise InvalidArgument(
            f"a sample of {len(rows)} rows is less than one group of {tasks} tasks: give {tasks} "
            f"rows at least, {10 * tasks} to measure well"
        )
    order = rng.permutation(len(rows))
    parts = np.array_split(np.arange(groups), min(2, groups))
    folds, others = [], []
    for part in parts:
        inside = order[(part[:, None] * tasks + np.arange(tasks)).T]
        outside = np.setdiff1d(order, inside)
        folds.append(Sample(rows[inside], truth[inside]))
        others.append((rows[outside], truth[outside]))
    return Ground(ask.fn, tuple(folds), tuple(others), (rows[order], truth[order]), sets)


def _sets(
    rng: np.random.Generator, workers: int, stragglers: int, seconds: np.ndarray | None
) -> list[np.ndarray]:
    answers = workers - stragglers
    if seconds is not None:
        return list(responders(seconds[0][:_WAVES], answers))
    return [np.sort(rng.permutation(workers)[:answers]) for _ in range(_WAVES)]


def _late(seconds: np.ndarray | None) -> int:
    """The fewest stragglers that leave the p99 within a tenth of what half of the workers give."""
    assert seconds is not None
    workers = int(seconds.shape[2])
    least = quorum(seconds[0], max(1, workers // 2)).quantile(0.99)
    for late in range(workers // 2):
        if quorum(seconds[0], workers - late).quantile(0.99) <= 1.1 * least:
            return late
    return int(workers - max(1, workers // 2))


def _choices(workers: int, late: int, budget: float, rows: int) -> list[int]:
    """Numbers of tasks from the cheapest to the dearest."""
    most = min(workers - late, rows)
    least = max(1, -(-workers // int(np.floor(budget))) if budget >= 2 else int(workers / budget))
    tries = {most, round(workers / 1.5), workers // 2, workers // 3, least}
    return sorted({k for k in tries if least <= k <= most} or {most}, reverse=True)


def _named(codes: Mapping[str, Code] | Iterable[Code], tasks: int) -> list[tuple[str, Code]]:
    named = list(codes.items()) if isinstance(codes, Mapping) else [(repr(c), c) for c in codes]
    for name, code in named:
        if not isinstance(code, Code) or code.tasks != tasks:
            raise InvalidArgument(f"{name} is no code for {tasks} tasks")
    if not named:
        raise InvalidArgument("codes= is empty: there is nothing to compare")
    return named


def _row(found: Measured, answers: float, seconds: np.ndarray | None) -> PlanRow:
    code, outcomes = found.code, found.outcomes
    cost, nan = code.workers / code.tasks, float("nan")
    if outcomes is None:
        return PlanRow(
            found.scheme, None, code.tasks, cost, nan, nan, None, nan, None, None, found.note
        )
    p50 = p99 = None
    if seconds is not None:
        needed = max(1, round(answers * code.workers))
        waits = quorum(seconds[0][:, : code.workers], needed)
        p50, p99 = waits.quantile(0.5), waits.quantile(0.99)
    return PlanRow(
        found.scheme,
        code,
        code.tasks,
        cost,
        outcomes.rmse,
        outcomes.rmse_p95,
        outcomes.agreement,
        outcomes.exact,
        p50,
        p99,
        found.note,
    )


def _hedge(tasks: int, seconds: np.ndarray, latency: LatencyModel) -> PlanRow:
    """Every task once, and once more when 95 % of calls would have been back: exact, but no code."""
    waits = hedged_in_pool(seconds, tasks, latency.quantile(0.95))
    cost = float(waits.calls.mean()) / tasks
    p50, p99 = waits.quantile(0.5), waits.quantile(0.99)
    note = "every call that is not back after the p95 is made once more; not built in"
    return PlanRow("hedge after p95", None, tasks, cost, 0.0, 0.0, 1.0, 1.0, p50, p99, note)


def _recommended(able: list[PlanRow], deviation: float) -> PlanRow:
    """The row with the least error; one without error bars only if it is clearly better."""
    stated = [row for row in able if getattr(row.code, "has_stderr", False)]
    if not stated or able[0].rmse < _CLEARLY * stated[0].rmse - 1e-4 * deviation:
        return able[0]
    return stated[0]


def _advice(rows: tuple[PlanRow, ...], deviation: float) -> str:
    best, rest = rows[0], rows[1:]
    error = f"expected error {best.rmse / deviation:.2g} of the outputs' deviation"
    if isinstance(best.code, (Replication, Uncoded)) or getattr(best.code, "spread", 1.0) == 0.0:
        text = f"Do not code, copy: no mixture is better than {best.scheme} here ({error})."
    else:
        text = f"Use {best.scheme} ({error})."
    if best.note:
        text = f"{text[:-1].removesuffix(')')}, {best.note})."
    hedges = [row for row in rest if row.code is None and row.p99 is not None]
    for hedge in hedges:
        if best.p99 is not None and hedge.p99 is not None and hedge.p99 <= 1.1 * best.p99:
            text += (
                f" Hedging would be exact, as fast (p99 {hedge.p99:.3g} s against {best.p99:.3g} s) "
                f"and cost {hedge.cost:.2f} calls a task instead of {best.cost:.2f}."
            )
    return text


def _largest(plans: list[Plan]) -> Plan:
    """The plan with the most tasks that is good enough, with the best of the others beside it."""
    good = [one for one in plans if one.rows[0].rmse <= _GOOD_ENOUGH * one.deviation]
    chosen = good[0] if good else min(plans, key=lambda one: one.rows[0].rmse)
    beside = tuple(one.rows[0] for one in plans if one is not chosen)
    rows = (chosen.rows[0], *beside, *chosen.rows[1:])
    return replace(chosen, rows=rows)
