"""A plan for each number of tasks that is tried, and the first of them that is good enough."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from ..contracts.code import Code
from ..errors import InvalidAnswer, InvalidArgument
from ..latency import LatencyModel
from ..results.plan import Plan, PlanRow
from .asking import Answer, answered
from .on_engine import computes_twice
from .replays import Part, deviation
from .sampling import arrivals, chosen, ground, repeated, sound, unanswered
from .schemes import MOST_KNOWN, measured, standard
from .verdict import advice, exact_ones, recommended, row

__all__ = ["BUDGET", "GROUPS", "Question", "planned"]

GROUPS = 10
"""Groups of sample rows that schemes are tried on."""
_GOOD_ENOUGH = 0.1
"""Error, in deviations of the outputs, that a plan which chooses K is content with."""
BUDGET = 3.0
"""Worker calls a task, where none are said."""


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """What is the same for all numbers of tasks."""

    fn: Answer
    rows: np.ndarray
    workers: int
    stragglers: int
    seconds: np.ndarray | None = None
    latency: LatencyModel | None = None
    codes: list[tuple[str, Code]] | None = None
    seed: int = 0
    groups: int = GROUPS


def planned(ask: Question, wanted: list[int]) -> Plan:
    """The plan for the first number of tasks that is good enough, or else for the best one."""
    begin = time.perf_counter()
    rows = chosen(ask.rows, ask.groups * max(wanted) + MOST_KNOWN, ask.seed)
    answers, twice = answered(ask.fn, rows), computes_twice(ask.fn)
    sample, remark = sound(rows, answers, ask.workers, ask.stragglers, twice=twice)
    size = deviation(sample.answers)
    waves = arrivals(ask.workers, ask.stragglers, ask.seconds, ask.seed)
    told = (remark, repeated(sample.rows), unanswered(ask.seconds, ask.stragglers))
    plans: list[Plan] = []
    for tasks in wanted:
        plans.append(_for(tasks, ask, sample, waves, size))
        if plans[-1].rows[0].rmse <= _GOOD_ENOUGH * size:
            break
    best = plans[-1]
    if not best.rows[0].rmse <= _GOOD_ENOUGH * size:
        best = min(plans, key=lambda one: one.rows[0].rmse)
    beside = tuple(one.rows[0] for one in plans if one is not best)
    return replace(
        best,
        rows=(best.rows[0], *beside, *best.rows[1:]),
        computed=len(rows) + sum(one.computed for one in plans),
        seconds=time.perf_counter() - begin,
        remarks=(*filter(None, told), *best.remarks),
    )


def _for(tasks: int, ask: Question, sample: Part, waves: np.ndarray, size: float) -> Plan:
    """The plan for one number of tasks."""
    workers, stragglers = ask.workers, ask.stragglers
    timed = ask.seconds is not None
    there, groups = ground(
        sample, tasks, ask.groups, waves, late=stragglers, seed=ask.seed, timed=timed
    )
    mixes = sample.rows.dtype.kind in "fc"
    remarks = (
        () if mixes else (f"inputs of {sample.rows.dtype} cannot be mixed: only copies were tried",)
    )
    schemes = ask.codes or standard(tasks, workers, stragglers, mixes=mixes)
    if not schemes:
        raise InvalidArgument(
            f"inputs of {sample.rows.dtype} cannot be mixed, and {workers} workers cannot hold a copy of "
            f"each of {tasks} tasks: use {workers} tasks at most"
        )
    found, computed = measured(schemes, ask.fn, there)
    told = [row(one, there, ask.seconds) for one in found]
    tried = [
        (one, it.outcomes) for one, it in zip(told, found, strict=True) if it.outcomes is not None
    ]
    if not tried:
        raise InvalidAnswer(f"no scheme could be tried: {told[0].scheme} was {told[0].note}")
    best = recommended(tried, workers, stragglers, size)
    able = sorted((one for one, _ in tried if one is not best), key=lambda one: one.rmse)
    exact: list[PlanRow] = []
    if ask.latency is not None and ask.seconds is not None and workers >= tasks:
        exact = exact_ones(tasks, there, ask.seconds, ask.latency)
    rest = [one for one in told if one.code is None]
    return Plan(
        (best, *able, *exact, *rest),
        workers,
        stragglers,
        size,
        groups,
        len(waves),
        advice(best, exact, size),
        computed,
        remarks=remarks,
    )
