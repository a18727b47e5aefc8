"""How long each scheme waits, and how many calls it sends, given the times of the calls."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ..contracts.arguments import check_whole
from ..errors import InvalidArgument
from .models import check_share

__all__ = ["Waits", "copies", "hedged", "hedged_in_pool", "order_statistic", "quorum", "responders"]


class Waits(NamedTuple):
    """Time and calls of a scheme in many waves."""

    seconds: np.ndarray
    """(waves,), until a wave has the answers it needs; infinite if it never has."""
    calls: np.ndarray
    """(waves,), sent, including second calls."""

    def quantile(self, share: float) -> float:
        """The shortest time within which this share of the waves has the answers it needs."""
        return order_statistic(self.seconds, check_share(share))


def quorum(seconds: np.ndarray, answers: int) -> Waits:
    """Wait for the first ``answers`` answers, from any workers, as a code does.

    Parameters
    ----------
    seconds : ndarray, shape (waves, N)
    answers : int
        For example N - S.
    """
    seconds = _table("seconds", seconds)
    count, workers = seconds.shape
    last = _checked_count("answers", answers, workers) - 1
    return Waits(np.partition(seconds, last, axis=1)[:, last], np.full(count, workers))


def responders(seconds: np.ndarray, answers: int) -> np.ndarray:
    """The workers, ascending, whose answers end each wave that waits for a quorum.

    Of workers with equal times, finite or infinite, the first ones count.

    Parameters
    ----------
    seconds : ndarray, shape (waves, N)
    answers : int

    Returns
    -------
    ndarray of int, shape (waves, answers)
    """
    seconds = _table("seconds", seconds)
    _checked_count("answers", answers, seconds.shape[1])
    return np.sort(seconds.argsort(axis=1, kind="stable")[:, :answers], axis=1)


def copies(seconds: np.ndarray, tasks: int) -> Waits:
    """Wait until every task has an answer, where worker n computes task n mod K.

    With N = K this waits for all workers, as a plain map does.

    Parameters
    ----------
    seconds : ndarray, shape (waves, N)
    tasks : int
        K, at most N.
    """
    seconds = _table("seconds", seconds)
    count, workers = seconds.shape
    _checked_count("tasks", tasks, workers)
    first = seconds[:, :tasks].copy()
    for begin in range(tasks, workers, tasks):
        more = seconds[:, begin : begin + tasks]
        own = first[:, : more.shape[1]]
        np.minimum(own, more, out=own)
    return Waits(first.max(axis=1), np.full(count, workers))


def hedged(first: np.ndarray, second: np.ndarray, after: Any) -> Waits:
    """Send a second call for each task without an answer after a delay; the first answer counts.

    Parameters
    ----------
    first : ndarray, shape (waves, K)
        Seconds of the first calls.
    second : ndarray, shape (waves, K)
        Seconds of the second calls from when they are sent, on workers that are free.
    after : float, or ndarray of shape (waves,)
        Seconds until the second calls are sent.
    """
    first, second = _table("first", first), _table("second", second)
    count, tasks = first.shape
    if second.shape != first.shape:
        raise InvalidArgument(
            f"second calls of shape {second.shape} do not go with first calls of shape "
            f"{first.shape}: give one for each"
        )
    delay = _delays(after, count, first.dtype)
    late = first > delay
    return Waits(np.minimum(first, delay + second).max(axis=1), tasks + late.sum(axis=1))


def hedged_in_pool(calls: np.ndarray, tasks: int, after: Any) -> Waits:
    """Hedge among N workers, K of which have the first calls.

    Second calls go to idle workers: first to the N - K without a first call, then to those that have
    answered, the earliest first. Where no worker is idle, a second call waits for one. If the first answer
    comes meanwhile, the second call is not sent, and the worker takes the next one. A worker takes at most
    one second call.

    Parameters
    ----------
    calls : ndarray, shape (2, waves, N)
        Seconds of two calls of each worker, one after another, as `LatencyModel.calls` draws them.
    tasks : int
        K, at most N.
    after : float, or ndarray of shape (waves,)
        Seconds until a task without an answer gets a second call.
    """
    if np.ndim(calls) != 3 or len(calls) < 2:
        raise InvalidArgument(
            f"calls of shape {np.shape(calls)} must have two calls of each worker, (2, waves, N): "
            "draw them with model.calls(rng, waves, N, 2)"
        )
    own, again = (_table("calls", table) for table in calls[:2])
    count, workers = own.shape
    _checked_count("tasks", tasks, workers)
    first, spare = own[:, :tasks], own[:, tasks:]
    delay = _delays(after, count, first.dtype)
    order = first.argsort(axis=1, kind="stable")
    free = np.concatenate([np.zeros_like(spare), np.take_along_axis(first, order, axis=1)], axis=1)
    takes = np.concatenate([spare, np.take_along_axis(again[:, :tasks], order, axis=1)], axis=1)
    late = first > delay
    idle = (free <= delay).sum(axis=1, keepdims=True)
    helper = late.cumsum(axis=1) - 1
    sent = late & (helper < idle)
    helps = np.take_along_axis(takes, np.maximum(helper, 0), axis=1)
    second = np.where(sent, delay + helps, np.inf)
    queue = late & ~sent
    few = np.flatnonzero(queue.any(axis=1))
    if len(few):
        ends, begun = _queued(first[few], queue[few], free[few], takes[few], idle[few])
        second[few] = np.minimum(second[few], ends)
        sent[few] |= begun
    seconds = np.minimum(first, second.astype(first.dtype)).max(axis=1)
    return Waits(seconds, tasks + sent.sum(axis=1))


def _queued(
    first: np.ndarray, queue: np.ndarray, free: np.ndarray, takes: np.ndarray, idle: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """When second calls that had to wait for a worker end, and which of them are sent.

    One after another, as workers become free: the next task depends on which have an answer by then.
    """
    ends, sent = np.full(first.shape, np.inf), np.zeros(first.shape, dtype=bool)
    for place in range(idle.min(), free.shape[1]):
        begin = free[:, place, None]
        queue &= first > begin
        helped = queue & (queue.cumsum(axis=1) == 1) & (place >= idle)
        ends = np.where(helped, begin + takes[:, place, None], ends)
        sent |= helped
        queue &= ~helped
    return ends, sent


def order_statistic(values: np.ndarray, share: float) -> float:
    """The smallest value that this share of the values does not exceed."""
    at = min(max(math.ceil(share * values.size - 1e-9) - 1, 0), values.size - 1)
    return float(np.partition(values, at, axis=None)[at])


def _table(name: str, seconds: Any) -> np.ndarray:
    fits = isinstance(seconds, np.ndarray) and seconds.ndim == 2 and seconds.size > 0
    if not fits or seconds.dtype.kind not in "iuf":
        of = f" and dtype {seconds.dtype}" if fits else ""
        raise InvalidArgument(
            f"{name} of shape {np.shape(seconds)}{of} must be an array of seconds with waves as rows and "
            "workers as columns: draw it with model.sample(rng, waves, workers)"
        )
    if np.isnan(seconds.min()):
        raise InvalidArgument(
            f"{np.isnan(seconds).sum()} of {seconds.size} times in {name} are NaN: put infinity where no "
            "answer comes, as codedmap.latency.Empirical does"
        )
    # Integers cannot hold the infinite time of a call without an answer.
    table: np.ndarray = seconds if seconds.dtype.kind == "f" else seconds.astype(np.float64)
    return table


def _checked_count(name: str, value: Any, workers: int) -> int:
    if check_whole(name, value, 1) > workers:
        raise InvalidArgument(
            f"{name}={value} are more than the {workers} workers: use more of them"
        )
    return int(value)


def _delays(after: Any, count: int, dtype: np.dtype[Any]) -> np.ndarray:
    """The delay of each wave, (waves, 1) or (1, 1)."""
    delay = np.asarray(after)
    fits = delay.dtype.kind in "iuf" and delay.shape in ((), (count,)) and (delay >= 0).all()
    if not fits:
        raise InvalidArgument(
            f"after={after!r} must be at least 0 seconds, one number or one for each of the "
            f"{count} waves"
        )
    return delay.astype(dtype).reshape(-1, 1)
