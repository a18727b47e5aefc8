"""The inner climb: which information nodes feed which learning nodes of a given structure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .selection import Measured, Numbers, Structure

__all__ = ["BETTER", "Merit", "chained", "fed"]

Merit = Callable[[Any, Any], Any]
"""Cost and seconds to what is to be made small."""

BETTER = 1.0 - 1e-9
"""Less than this share of the merit counts as better; the rest is rounding."""


_DOUBT = 1.05
"""Up to this many times the merit, what was only approximated is computed."""
_CHAINS = 6
"""Changes of each kind that are tried although they do not help by themselves."""


def fed(numbers: Numbers, structure: Structure, merit: Merit, feeds: np.ndarray) -> Measured:
    """Climb from these feeds: the best of all single changes, until none is better.

    A change is that an information node begins to feed, stops, or feeds another learning node.
    """
    now = numbers.measured(structure, feeds)
    value = float(merit(now.cost, now.seconds))
    for _ in range(4 * len(feeds)):
        at, _ = _best(_changes(numbers, now, merit))
        if at is None:
            break
        then = numbers.measured(structure, _changed(now, at))
        after = float(merit(then.cost, then.seconds))
        first = np.isinf(value) and np.isinf(after) and then.samples > now.samples
        if not (after < value * BETTER or first):
            break
        now, value = then, after
    return now


def chained(numbers: Numbers, now: Measured, merit: Merit) -> Measured:
    """Climb on from where no single change is better, by two at once of which the first is promising."""
    structure, count = now.structure, len(now.structure.nodes)
    for _ in range(len(now.feeds)):
        value = float(merit(now.cost, now.seconds))
        values = _changes(numbers, now, merit)
        begins = np.where((now.feeds < 0)[:, None], values, np.inf)
        moves = np.where((now.feeds >= 0)[:, None], values, np.inf)
        stops = moves[:, count:].copy()
        moves[:, count] = np.inf
        firsts = [divmod(at, count + 1) for kind in (begins, moves) for at in _lowest(kind)]
        firsts += [(at, count) for at in _lowest(stops)]
        best, reached = value * BETTER, None
        for first in firsts:
            between = numbers.measured(structure, _changed(now, first))
            at, expected = _best(_changes(numbers, between, merit))
            if at is not None and expected < value * _DOUBT:
                then = numbers.measured(structure, _changed(between, at))
                after = float(merit(then.cost, then.seconds))
                if after < best:
                    best, reached = after, then
        if reached is None:
            break
        now = fed(numbers, structure, merit, reached.feeds)
    return now


def _changed(now: Measured, change: tuple[int, int]) -> np.ndarray:
    feeds = now.feeds.copy()
    feeds[change[0]] = change[1] if change[1] < len(now.structure.nodes) else -1
    return feeds


def _best(values: np.ndarray) -> tuple[tuple[int, int] | None, float]:
    at = int(values.argmin()) if values.size else 0
    if not values.size or np.isinf(values.flat[at]):
        return None, np.inf
    source, place = divmod(at, values.shape[1])
    return (source, place), float(values.flat[at])


def _lowest(values: np.ndarray) -> list[int]:
    flat = values.ravel()
    order = np.argsort(flat, kind="stable")[:_CHAINS]
    return [int(at) for at in order if np.isfinite(flat[at])]


def _changes(numbers: Numbers, now: Measured, merit: Merit) -> np.ndarray:
    """The merit after each change, (I, n + 1), the last column for feeding nobody.

    Where times are random, that of the slowest node is approximated from below: it is convex in the
    times of the nodes, so by its tangent, and by the largest mean.
    """
    structure, feeds = now.structure, now.feeds
    nodes, count = structure.nodes, len(structure.nodes)
    samples, sources = numbers.samples, np.arange(len(feeds))
    is_fed = feeds >= 0
    at = np.where(is_fed, feeds, 0)
    waits = numbers.feed_seconds[:, nodes]
    own = waits[sources, at]
    longest, second, who = _two_longest(feeds, own, count)
    load = numbers.own[nodes] + np.bincount(feeds[is_fed], samples[is_fed], count)
    fixed, each = numbers.base[nodes] + numbers.jitter[nodes], numbers.each[nodes]
    times = longest + fixed + each * load
    # How long the slowest takes once the source no longer feeds where it does.
    order = np.argsort(times)
    most = times[order[-1]]
    others = np.where(at == order[-1], times[order[-2]] if count > 1 else -np.inf, most)
    without = np.where(who[at] == sources, second[at], longest[at])
    relieved = without + fixed[at] + each[at] * (load[at] - samples)
    rest = np.where(is_fed, np.maximum(others, relieved), most)
    loaded = np.maximum(longest, waits) + fixed + each * (load + samples[:, None])
    slow = np.concatenate([np.maximum(rest[:, None], loaded), rest[:, None]], axis=1)
    shares = now.shares
    left = now.slowest - np.where(is_fed, shares[at] * (times[at] - relieved), 0.0)[:, None]
    more_time = np.where(np.isfinite(loaded), loaded - times, 0.0)
    tangent = np.concatenate([left + shares * more_time, left], axis=1)
    seconds = np.maximum(slow, tangent) + structure.exchange

    costs = numbers.feed_cost[:, nodes]
    rate = np.full((len(feeds), count + 1), now.rate)
    rate[:, :count] += costs
    rate -= np.where(is_fed, costs[sources, at], 0.0)[:, None]

    model, gap = numbers.cluster.error, structure.gap
    kept = now.samples - np.where(is_fed, samples, 0.0)
    more = kept + samples
    counts = model.iterations(numbers.target, np.concatenate([more, kept]), gap)
    iterations = np.repeat(counts[: len(feeds), None], count + 1, axis=1)
    iterations[:, count] = counts[len(feeds) :]
    never = np.isinf(iterations) | np.isinf(rate)
    with np.errstate(invalid="ignore"):
        values: np.ndarray = merit(
            np.where(never, np.inf, iterations * rate),
            np.where(never, np.inf, iterations * seconds),
        )
    values[sources[is_fed], feeds[is_fed]] = np.inf
    values[~is_fed, count] = np.inf
    if np.isinf(values).all() and np.isinf(now.iterations):
        # Nothing helps yet: take what brings the most samples.
        reachable = np.where(is_fed[:, None], np.inf, costs)
        values[:, :count] = np.where(np.isinf(reachable), np.inf, -samples[:, None])
    return values


def _two_longest(
    feeds: np.ndarray, waits: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each node the longest and the second longest wait for its sources, and for whom it is longest."""
    longest, second, who = np.zeros(count), np.zeros(count), np.full(count, -1)
    fed_by = np.flatnonzero(feeds >= 0)
    order = fed_by[np.lexsort((waits[fed_by], feeds[fed_by]))]
    ends = np.flatnonzero(np.diff(feeds[order], append=-1))
    longest[feeds[order[ends]]] = waits[order[ends]]
    who[feeds[order[ends]]] = order[ends]
    before = ends - 1
    good = (before >= 0) & (feeds[order[before]] == feeds[order[ends]])
    second[feeds[order[ends[good]]]] = waits[order[before[good]]]
    return longest, second, who
