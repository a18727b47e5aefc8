"""How long each scheme waits, and how many calls it sends, given how long the calls take."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from .._checks import check_whole
from .._errors import InvalidArgument
from ._models import check_share

__all__ = ["Waits", "copies", "hedged", "hedged_in_pool", "order_statistic", "quorum", "responders"]


class Waits(NamedTuple):
    """What a scheme makes of many waves."""

    seconds: np.ndarray
    """(waves,) until the wave can be answered; infinite: never."""
    calls: np.ndarray
    """(waves,) sent, second ones included."""

    def quantile(self, share: float) -> float:
        """The shortest time within which this share of the waves is answered."""
        return order_statistic(self.seconds, check_share(share))


def quorum(seconds: np.ndarray, answers: int) -> Waits:
    """Wait for this many answers, whichever come first: what a code does.

    Parameters
    ----------
    seconds : ndarray, shape (waves, N)
    answers : int
        N - S, say.
    """
    count, workers = _table("seconds", seconds).shape
    last = _at_most("answers", answers, workers) - 1
    return Waits(np.partition(seconds, last, axis=1)[:, last], np.full(count, workers))


def responders(seconds: np.ndarray, answers: int) -> np.ndarray:
    """The workers, ascending, whose answers end each wave that waits for a quorum.

    Parameters
    ----------
    seconds : ndarray, shape (waves, N)
    answers : int

    Returns
    -------
    ndarray of int, shape (waves, answers)
    """
    _at_most("answers", answers, _table("seconds", seconds).shape[1])
    return np.sort(seconds.argsort(axis=1)[:, :answers], axis=1)


def copies(seconds: np.ndarray, tasks: int) -> Waits:
    """Wait until every task has an answer, where worker n computes task n mod K.

    With N = K this is waiting for everybody, as a plain map does.

    Parameters
    ----------
    seconds : ndarray, shape (waves, N)
    tasks : int
        K, at most N.
    """
    count, workers = _table("seconds", seconds).shape
    _at_most("tasks", tasks, workers)
    first = seconds[:, :tasks].copy()
    for begin in range(tasks, workers, tasks):
        more = seconds[:, begin : begin + tasks]
        own = first[:, : more.shape[1]]
        np.minimum(own, more, out=own)
    return Waits(first.max(axis=1), np.full(count, workers))


def hedged(first: np.ndarray, second: np.ndarray, after: Any) -> Waits:
    """Send a second call for each task that has no answer after a while; the first answer counts.

    Parameters
    ----------
    first : ndarray, shape (waves, K)
        Seconds of the first calls.
    second : ndarray, shape (waves, K)
        Seconds of the second calls, from when they are sent, by workers that are free for them.
    after : float, or ndarray of shape (waves,)
        When the second calls are sent.
    """
    count, tasks = _table("first", first).shape
    if _table("second", second).shape != first.shape:
        raise InvalidArgument(
            f"second calls of shape {second.shape} do not go with first calls of shape "
            f"{first.shape}: give one for each"
        )
    delay = _delay(after, count, first.dtype)
    late = first > delay
    return Waits(np.minimum(first, delay + second).max(axis=1), tasks + late.sum(axis=1))


def hedged_in_pool(calls: np.ndarray, tasks: int, after: Any) -> Waits:
    """Hedge among N workers, K of which have the first calls.

    Second calls go to workers that have nothing to do: first to the N - K others, then to those that
    have answered, the earliest first. Where none is free, a second call waits for one, and it is not
    sent if the first answer comes meanwhile. A worker takes one second call at most.

    Parameters
    ----------
    calls : ndarray, shape (2, waves, N)
        Seconds of two calls of each worker, one after another, as `LatencyModel.calls` draws them.
    tasks : int
        K, at most N.
    after : float, or ndarray of shape (waves,)
        When a task without an answer gets a second call.
    """
    if np.ndim(calls) != 3 or len(calls) < 2:
        raise InvalidArgument(
            f"calls of shape {np.shape(calls)} must have two calls of each worker, (2, waves, N): "
            "draw them with model.calls(rng, waves, N, 2)"
        )
    count, workers = calls.shape[1:]
    _at_most("tasks", tasks, workers)
    first, spare = calls[0, :, :tasks], calls[0, :, tasks:]
    delay = _delay(after, count, first.dtype)
    order = first.argsort(axis=1, kind="stable")
    free = np.concatenate([np.zeros_like(spare), np.take_along_axis(first, order, axis=1)], axis=1)
    takes = np.concatenate([spare, np.take_along_axis(calls[1, :, :tasks], order, axis=1)], axis=1)
    late = first > delay
    helper = np.maximum(late.cumsum(axis=1) - 1, 0)
    begin = np.maximum(delay, np.take_along_axis(free, helper, axis=1))
    sent = late & (begin < first)
    second = np.where(sent, begin + np.take_along_axis(takes, helper, axis=1), np.inf)
    seconds = np.minimum(first, second.astype(first.dtype)).max(axis=1)
    return Waits(seconds, tasks + sent.sum(axis=1))


def order_statistic(values: np.ndarray, share: float) -> float:
    """The smallest value that this share of the values does not exceed."""
    at = min(max(math.ceil(share * values.size - 1e-9) - 1, 0), values.size - 1)
    return float(np.partition(values, at, axis=None)[at])


def _table(name: str, seconds: Any) -> np.ndarray:
    if not isinstance(seconds, np.ndarray) or seconds.ndim != 2 or seconds.size == 0:
        shape = np.shape(seconds)
        raise InvalidArgument(
            f"{name} of shape {shape} must be an array with waves as rows and workers as columns: "
            "draw it with model.sample(rng, waves, workers)"
        )
    return seconds


def _at_most(name: str, value: Any, workers: int) -> int:
    if check_whole(name, value, 1) > workers:
        raise InvalidArgument(
            f"{name}={value} are more than the {workers} workers: use more of them"
        )
    return int(value)


def _delay(after: Any, count: int, dtype: np.dtype[Any]) -> np.ndarray:
    """One a wave, (waves, 1) or (1, 1)."""
    delay = np.asarray(after)
    fits = delay.dtype.kind in "iuf" and delay.shape in ((), (count,)) and (delay >= 0).all()
    if not fits:
        raise InvalidArgument(
            f"after={after!r} must be at least 0 seconds, one number or one for each of the "
            f"{count} waves"
        )
    return delay.astype(dtype).reshape(-1, 1)
