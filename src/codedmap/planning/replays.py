"""A job in virtual time, without a code and with one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations

import numpy as np

from ..contracts.code import Code
from ..contracts.stopping import Outcome
from ..execution.chunks import CodedJob
from ..execution.events import Job
from ..execution.hedge import Hedge
from ..execution.virtual import run_virtually
from ..latency.scheduled import job_in_virtual_time
from .times import Drawn, Measured

CALL = 0.05  # seconds of a call, at least: shorter rows are computed several in a call
_CALLS = 4
"""Last calls of each worker, which run in virtual time; rows before them are answered at an even rate."""
_MANY = 100_000  # rows in virtual time, at most, if the size of calls grows
_SETS = 10_000  # straggler sets, at most, of which all are compared


@dataclass(slots=True)
class Exact:
    """Jobs without a code that were run in virtual time: when they ended, and when their rows were answered."""

    rows: int
    rate: float = 0.0  # rows a second, before the last ones
    running: float = 0.0  # rows that are being computed at a time
    seconds: list[float] = field(default_factory=list)
    calls: list[float] = field(default_factory=list)  # calls a row
    ends: list[np.ndarray] = field(default_factory=list)
    """(r,): when each of the last rows was answered."""

    def answered(self, share: float) -> np.ndarray:
        """Seconds (jobs,) until this share of the rows has an answer."""
        wanted = math.ceil(share * self.rows)
        found = []
        for ends in self.ends:
            before = self.rows - len(ends)
            at = wanted - before
            # Rows are answered at an even rate until the last ones.
            even = (wanted + self.running) / self.rate
            found.append(ends[at - 1] if at > 0 else min(even, ends[0]))
        return np.array(found)


@dataclass(slots=True)
class Coded:
    """Jobs with a code that were run in virtual time."""

    seconds: list[float] = field(default_factory=list)
    calls: list[float] = field(default_factory=list)  # calls a row
    exact: list[float] = field(default_factory=list)  # share of rows whose raw input was answered
    mixtures: list[int] = field(default_factory=list)  # answers to mixtures
    own: Mapping[int, int] = field(default_factory=dict)
    """The task of each slot whose payload is a raw input."""
    decodable: Callable[[frozenset[int]], bool] = all  # whether the code decodes from these slots


def run_exact(found: Exact, times: Measured | Drawn, number: int) -> None:
    """Add a job, whose last calls run in virtual time, after rows that are answered at an even rate."""
    most = _CALLS * times.workers * max(1, round(CALL / times.mean))
    rows = min(found.rows, _MANY if times.batches else most)  # calls of batches grow
    job = Job(rows, batches=times.batches)
    timeline = run_virtually(job, times.workers, times.replay(number), overhead=times.overhead)
    found.rate = times.rate(max(timeline.begun))
    before = (found.rows - rows) / found.rate
    lost = timeline.outcome is Outcome.NONE_RUNNING
    taken = zip(timeline.times, timeline.taken, strict=True)
    ends = [at for at, call in taken for _ in range(call.groups)]
    ends += [math.inf] * (rows - len(ends))
    found.seconds.append(math.inf if lost else before + timeline.seconds)
    found.calls.append(sum(timeline.begun) / rows)
    found.ends.append(before + np.sort(ends))


def run_coded(found: Coded, code: Code, rows: int, times: Measured | Drawn, number: int) -> None:
    """Add a job with a code and its default stopping rule."""
    job = job_in_virtual_time(rows, code, None, Hedge())
    assert isinstance(job, CodedJob)
    timeline = run_virtually(job, times.workers, times.replay(number), overhead=times.overhead)
    lost = timeline.outcome is Outcome.NONE_RUNNING
    slots = {call.slot for call in timeline.taken}
    found.own = own = job.own
    found.decodable = partial(job.decodable, 0)
    found.seconds.append(math.inf if lost else timeline.seconds)
    found.calls.append(sum(timeline.begun) / rows)
    found.exact.append(len({own[slot] for slot in slots if slot in own}) / code.tasks)
    found.mixtures.append(len(slots - own.keys()) * job.groups)


def every_set(workers: int, late: int, seed: int) -> tuple[np.ndarray, int]:
    """Sets of workers that answer, (sets, N - S) int in random order, and how many such sets exist."""
    rng = np.random.default_rng(seed)
    total = math.comb(workers, late)
    if total <= _SETS:
        last = np.array(list(combinations(range(workers), workers - late)), dtype=int)
        return rng.permutation(last), total
    drawn = rng.random((_SETS, workers)).argsort(axis=1)[:, : workers - late]
    return np.sort(drawn, axis=1), total


def exact_share(own: Mapping[int, int], tasks: int, sets: np.ndarray) -> float:
    """The share of tasks whose raw input is answered, over all ``sets`` (sets, N - S) of answered slots."""
    answered = np.zeros((len(sets), tasks), dtype=bool)
    for slot, task in own.items():
        answered[:, task] |= (sets == slot).any(axis=1)
    return float(answered.mean())
