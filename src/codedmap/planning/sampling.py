"""What a plan is made from: sample rows cut into parts, numbers of tasks, and waves of arrivals."""

from __future__ import annotations

import math

import numpy as np

from ..errors import InvalidAnswer, InvalidArgument
from ..latency import LatencyModel, quorum
from .replays import Part, deviation
from .schemes import Ground, all_sets

__all__ = [
    "arrivals",
    "chosen",
    "drawn",
    "fewest_late",
    "ground",
    "numbers_of_tasks",
    "repeated",
    "sound",
    "unanswered",
]

_WAVES = 60
"""Sets of stragglers that are drawn, where there are too many to judge all."""
_TIMED = 10_000
"""Waves that are timed under a latency model."""
_TIMES = 10_000_000
"""Times that are drawn at most, of all these waves together."""
_AS_FAST = 1.1
"""Times a wave within this factor of another one takes about as long."""


def chosen(rows: np.ndarray, most: int, seed: int) -> np.ndarray:
    """At most so many of the rows, at random, in their own order."""
    if len(rows) <= most:
        return rows
    rng = np.random.default_rng([seed, 2])
    return rows[np.sort(rng.choice(len(rows), most, replace=False))]


def sound(
    rows: np.ndarray, answers: np.ndarray, workers: int, late: int, *, twice: bool = False
) -> tuple[Part, str]:
    """The rows whose answers can be used, and a remark on the others.

    If two workers have computed each row, NaN stands as well where they disagree.

    Raises
    ------
    InvalidAnswer
        If the answers are no floating-point numbers, or none of them is finite.
    """
    if answers.dtype.kind not in "fc":
        copied = workers // (late + 1)
        copy = f", or copy: codedmap.Replication({copied}, {workers}) has every answer, whichever "
        copy += f"{late} workers are late" if late != 1 else "worker is late"
        raise InvalidAnswer(
            f"fn returns {answers.dtype}, and nothing can be estimated between labels: return "
            "scores, or floating point if these are quantities" + copy * (copied > 0)
        )
    finite = np.isfinite(answers.reshape(len(answers), -1)).all(axis=1)
    if not finite.any():
        raise InvalidAnswer(
            f"on none of {len(rows)} sample rows fn is finite and the same on two workers: take chance out "
            "of fn (dropout, noise without a seed), mend it, or plan without engine="
            if twice
            else f"fn is not finite on any of {len(rows)} sample rows: mend fn, or give other rows"
        )
    if finite.all():
        return Part(rows, answers), ""
    differs = ", or not the same on two workers" * twice
    remark = (
        f"{(~finite).sum()} of {len(rows)} sample rows were left out, since fn is not finite{differs} "
        f"there (the first is row {finite.argmin()})"
    )
    return Part(rows[finite], answers[finite]), remark


def repeated(rows: np.ndarray) -> str:
    """A remark on rows that are there more than once."""
    again = len(rows) - len({row.tobytes() for row in rows})
    if not again:
        return ""
    return (
        f"{again} of {len(rows)} sample rows repeat others, from which they are easily told: on rows without "
        "such twins errors will be larger"
    )


def numbers_of_tasks(workers: int, late: int, budget: float, rows: int) -> list[int]:
    """Numbers of tasks to try, from the cheapest to the dearest."""
    least = math.ceil(workers / budget - 1e-9)
    most = min(rows, max(least, workers - late))
    if most < least:
        raise InvalidArgument(
            f"with {workers} workers and budget={budget:g} calls a task, groups have {least} tasks "
            f"or more, and the sample has {rows} rows: give more rows or a larger budget"
        )
    tries = {most, round(workers / 1.5), workers // 2, workers // 3, least}
    return sorted({k for k in tries if least <= k <= most}, reverse=True)


def drawn(latency: LatencyModel, workers: int, seed: int) -> np.ndarray:
    """Seconds of two calls of each worker in many waves, (2, waves, N).

    Raises
    ------
    InvalidArgument
        If what the model draws are no such times.
    """
    waves = max(10 * _WAVES, min(_TIMED, _TIMES // (2 * workers)))
    seconds = np.asarray(latency.calls(np.random.default_rng([seed, 1]), waves, workers, 2))
    if seconds.shape != (2, waves, workers) or seconds.dtype.kind not in "iuf":
        raise InvalidArgument(
            f"latency={latency!r} draws an array of shape {seconds.shape} and dtype {seconds.dtype} for two "
            f"calls of {workers} workers in {waves} waves, but it must draw seconds of shape "
            f"{(2, waves, workers)}: mend its sample or calls"
        )
    wrong = ~(seconds >= 0)
    if wrong.any():
        raise InvalidArgument(
            f"latency={latency!r} draws {wrong.sum()} times of {wrong.size} that are negative or NaN: draw "
            "seconds, and infinity where no answer comes"
        )
    return seconds.astype(np.float64, copy=False)


def arrivals(workers: int, late: int, seconds: np.ndarray | None, seed: int) -> np.ndarray:
    """The workers in the order of their answers, (waves, N): all straggler sets, or the waves of a latency model.

    Of more than 10,000 sets some are drawn. Equal times are in random order.
    """
    rng = np.random.default_rng([seed, 0])
    if seconds is None:
        every = all_sets(workers, late, seed)
        drawn = (rng.permutation(workers) for _ in range(_WAVES))
        return np.array(list(drawn)) if every is None else every
    # Waves that follow each other may be alike, so they are shuffled before some are chosen.
    times = rng.permutation(seconds[0])
    order = rng.permuted(np.tile(np.arange(workers), (len(times), 1)), axis=1)
    ranks = np.take_along_axis(times, order, axis=1).argsort(axis=1, kind="stable")
    return np.take_along_axis(order, ranks, axis=1)


def unanswered(seconds: np.ndarray | None, late: int) -> str:
    """A remark on waves in which more workers never answer than are gone without."""
    if seconds is None:
        return ""
    answers = np.isfinite(seconds[0]).sum(axis=1)
    share = (answers < seconds.shape[2] - late).mean()
    if not share:
        return ""
    return (
        f"in {share:.1%} of the waves fewer than {seconds.shape[2] - late} of {seconds.shape[2]} workers ever "
        "answer, and they are replayed as if the others had: allow more stragglers, or add a Deadline"
    )


def fewest_late(seconds: np.ndarray) -> int:
    """The fewest stragglers that bring the p99 to about what half of the workers need.

    Raises
    ------
    InvalidArgument
        If even the first answer does not come in 99 % of the waves.
    """
    workers = int(seconds.shape[2])
    half = max(1, workers // 2)
    least = quorum(seconds[0], half).quantile(0.99)
    for late in range(workers):
        needed = quorum(seconds[0], workers - late).quantile(0.99)
        if np.isfinite(needed) and needed <= _AS_FAST * least:
            return late
    raise InvalidArgument(
        "under this latency model more than 1 % of the waves get no answer at all: no code helps "
        "there; measure again, or give stragglers="
    )


def ground(
    sample: Part,
    tasks: int,
    most: int,
    waves: np.ndarray,
    *,
    late: int,
    seed: int,
    timed: bool = False,
) -> tuple[Ground, int]:
    """What schemes for this number of tasks are tried on, and of how many groups at most ``most``.

    The sample falls into two parts, both spread over all of it and in its order, since codes look
    at which rows follow each other.
    """
    rows = len(sample.rows)
    groups = min(most, rows // tasks)
    if groups == 0:
        raise InvalidArgument(
            f"a sample of {rows} usable rows is less than one group of {tasks} tasks: give {tasks} "
            f"rows at least, {most * tasks} to measure well"
        )
    rng = np.random.default_rng([seed, 3])
    inside = np.sort(rng.choice(rows, groups * tasks, replace=False))
    first = groups - groups // 2
    turns = np.arange(1, len(inside) + 1) * first // groups
    begins = np.diff(turns, prepend=0) > 0
    parts, others = [], []
    for mine in (inside[begins], inside[~begins]):
        if len(mine):
            rest = np.setdiff1d(np.arange(rows), mine)
            parts.append(Part(sample.rows[mine], sample.answers[mine]))
            others.append(Part(sample.rows[rest], sample.answers[rest]))
    unit = deviation(sample.answers) or float(np.abs(sample.answers).max()) or 1.0
    return Ground(tuple(parts), tuple(others), waves, late, unit, seed, timed), groups
