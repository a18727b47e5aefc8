"""The inner climb: which information nodes feed which learning nodes of a given structure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .selection import Problem, Selection, Structure

Objective = Callable[[Any, Any], Any]
"""From cost and seconds to what is minimised."""

IMPROVED = 1.0 - 1e-9
"""Below this share of the objective a change counts as an improvement; above it, as rounding."""

_DOUBT = 1.05
"""A change is evaluated exactly if its approximated objective is below this many times the current one."""
_FIRSTS = 18
"""Changes that are tried as the first of a pair."""


def climb_feeds(
    problem: Problem, structure: Structure, objective: Objective, feeds: np.ndarray
) -> Selection:
    """Climb from these feeds by the best of all single changes, until none improves.

    With a change, an information node begins to feed, stops, or feeds another learning node.
    """
    now = problem.selection(structure, feeds)
    value = float(objective(now.cost, now.seconds))
    for _ in range(4 * len(feeds)):
        change, _ = _best(_objectives_after(problem, now, objective))
        if change is None:
            break
        then = problem.selection(structure, _changed_feeds(now, change))
        after = float(objective(then.cost, then.seconds))
        closer = np.isinf(value) and np.isinf(after) and then.samples > now.samples
        if not (after < value * IMPROVED or closer):
            break
        now, value = then, after
    return now


def climb_pairs(problem: Problem, now: Selection, objective: Objective) -> Selection:
    """Climb on from where no single change improves, by pairs whose first change is promising."""
    for _ in range(len(now.feeds)):
        value = float(objective(now.cost, now.seconds))
        best, reached = value * IMPROVED, None
        for first in _promising(_objectives_after(problem, now, objective)):
            between = problem.selection(now.structure, _changed_feeds(now, first))
            second, expected = _best(_objectives_after(problem, between, objective))
            if second is not None and expected < value * _DOUBT:
                then = problem.selection(now.structure, _changed_feeds(between, second))
                after = float(objective(then.cost, then.seconds))
                if after < best:
                    best, reached = after, then
        if reached is None:
            break
        now = climb_feeds(problem, now.structure, objective, reached.feeds)
    return now


def _changed_feeds(now: Selection, change: tuple[int, int]) -> np.ndarray:
    """The feeds after a change: an information node, and the node that it feeds, n for none."""
    source, node = change
    feeds = now.feeds.copy()
    feeds[source] = node if node < len(now.structure.nodes) else -1
    return feeds


def _best(values: np.ndarray) -> tuple[tuple[int, int] | None, float]:
    """The change with the least objective, if any is finite, and this objective."""
    at = int(values.argmin()) if values.size else 0
    if not values.size or np.isinf(values.flat[at]):
        return None, np.inf
    source, node = divmod(at, values.shape[1])
    return (source, node), float(values.flat[at])


def _promising(values: np.ndarray) -> list[tuple[int, int]]:
    """The changes with the least objectives."""
    order = np.argsort(values.ravel(), kind="stable")[:_FIRSTS]
    return [divmod(int(at), values.shape[1]) for at in order if np.isfinite(values.flat[at])]


def _objectives_after(problem: Problem, now: Selection, objective: Objective) -> np.ndarray:
    """The objective after each change, (I, n + 1), the last column for feeding no node.

    Infinite where nothing changes. Times are those of `_seconds_after`, approximated from below.
    """
    feeds, count = now.feeds, len(now.structure.nodes)
    is_fed = feeds >= 0
    costs = problem.feed_cost[:, now.structure.nodes]
    paid = np.where(is_fed, costs[np.arange(len(feeds)), feeds], 0.0)
    rate = np.column_stack([now.rate + costs, np.full(len(feeds), now.rate)]) - paid[:, None]
    iterations = _iterations_after(problem, now)
    never = np.isinf(iterations) | np.isinf(rate)
    with np.errstate(invalid="ignore"):
        values: np.ndarray = objective(
            np.where(never, np.inf, iterations * rate),
            np.where(never, np.inf, iterations * _seconds_after(problem, now)),
        )
    values[is_fed, feeds[is_fed]] = np.inf
    values[~is_fed, count] = np.inf
    if np.isinf(values).all() and np.isinf(now.iterations):
        # No single change reaches the error: prefer the one that adds the most samples.
        able = ~is_fed[:, None] & np.isfinite(costs)
        values[:, :count] = np.where(able, -problem.samples[:, None], np.inf)
    return values


def _iterations_after(problem: Problem, now: Selection) -> np.ndarray:
    """Iterations after each change, (I, n + 1)."""
    without = now.samples - np.where(now.feeds >= 0, problem.samples, 0.0)
    samples = np.concatenate([without + problem.samples, without])
    counts = problem.cluster.error.iterations(problem.target, samples, now.structure.gap)
    feeding, stopped = np.split(counts, 2)
    return np.column_stack([np.tile(feeding[:, None], len(now.structure.nodes)), stopped])


def _seconds_after(problem: Problem, now: Selection) -> np.ndarray:
    """Seconds of an iteration after each change, (I, n + 1), approximated from below.

    The expected time of the slowest node is convex in the times of the nodes. So it is at least as large
    as its tangent, and as the largest mean. Where times are not random, the largest mean is exact.
    """
    times, relieved, loaded = _mean_times(problem, now)
    is_fed = now.feeds >= 0
    slowest = times.argmax()
    others = np.where(
        now.feeds == slowest, np.delete(times, slowest).max(initial=-np.inf), times[slowest]
    )
    without = np.where(is_fed, np.maximum(others, relieved), times[slowest])
    largest = np.column_stack([np.maximum(without[:, None], loaded), without])
    saved = np.where(is_fed, now.shares[now.feeds] * (times[now.feeds] - relieved), 0.0)
    added = np.where(np.isfinite(loaded), loaded - times, 0.0)
    left = now.slowest - saved
    tangent = np.column_stack([left[:, None] + now.shares * added, left])
    return np.asarray(np.maximum(largest, tangent) + now.structure.exchange)


def _mean_times(problem: Problem, now: Selection) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean seconds of each node, (n,), of each source's node without it, (I,), and with it, (I, n).

    A node waits for the slowest of its sources, then computes. The second array is only valid for
    sources that feed a node.
    """
    nodes, feeds = now.structure.nodes, now.feeds
    is_fed, samples = feeds >= 0, problem.samples
    waits = problem.feed_seconds[:, nodes]
    # Each node's waits, with two zeros so that there is a longest and a second longest.
    waited = np.zeros((len(feeds) + 2, len(nodes)))
    waited[:-2][is_fed, feeds[is_fed]] = waits[is_fed, feeds[is_fed]]
    second, longest = np.partition(waited, -2, axis=0)[-2:]
    is_longest = waited.argmax(axis=0)[feeds] == np.arange(len(feeds))
    wait_without = np.where(is_longest, second[feeds], longest[feeds])
    load = problem.own_samples[nodes] + np.bincount(feeds[is_fed], samples[is_fed], len(nodes))
    fixed = problem.seconds[nodes] + problem.jitter[nodes]
    each = problem.seconds_per_sample[nodes]
    return (
        longest + fixed + each * load,
        wait_without + fixed[feeds] + each[feeds] * (load[feeds] - samples),
        np.maximum(longest, waits) + fixed + each * (load + samples[:, None]),
    )
