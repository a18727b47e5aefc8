"""Two nested climbs: which learning nodes cooperate over which links, and which information nodes feed them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import scipy

from .selection import Problem, Selection, Structure

Objective = Callable[[Any, Any], Any]
"""From cost and seconds to what is minimised."""

_IMPROVED = 1.0 - 1e-9  # relative objective above which a change is rounding and no improvement
_FEW = 2  # nodes or links of each ranking that are tried in a step, if not all are
_ALL = 6  # nodes or links, at most, that are all tried
_NEAR = 1.3  # the inner climb goes on with pairs of changes up to so many times the best objective
_DOUBT = 1.05  # approximate objective of a change, over the current, up to which it is evaluated
_FIRSTS = 18  # changes that are tried as the first of a pair

Change = tuple[np.ndarray, frozenset[int]]
"""Nodes and links of another structure."""


class Climb:
    """Climbs for one objective of cost and seconds; remembers which structures it has tried."""

    def __init__(self, problem: Problem, objective: Objective) -> None:
        self._problem = problem
        self._objective = objective
        self._least = np.inf
        self._known: dict[tuple[bytes, frozenset[int]], Selection] = {}
        # Ranks give each link one number that does not depend on the units of cost and time.
        cost, seconds = problem.link_cost, problem.link_seconds
        scale = seconds.mean() / cost.mean() if cost.any() and seconds.any() else 1.0
        self._rank = np.empty(len(cost))
        self._rank[np.argsort(cost * scale + seconds, kind="stable")] = np.arange(len(cost))

    @property
    def tried(self) -> list[Selection]:
        """All structures that were evaluated, with their best feeds."""
        return list(self._known.values())

    def climb_from_starts(self) -> None:
        """Climb from the best single nodes, and from all nodes together."""
        every = np.arange(len(self._problem.cost))
        singles = [self.evaluated(np.array([node]), frozenset()) for node in every]
        for start in sorted(singles, key=self.value)[:3]:
            self.climb(start)
        tree = self._connected(every, frozenset())
        if tree is not None and len(every) > 1:
            self.climb(self.evaluated(*tree))
            self.climb(self.evaluated(every, self._links_between(every)))

    def climb(self, start: Selection) -> None:
        """Take the best of all single changes of the structure, until none improves."""
        now = start
        for _ in range(24 * (1 + int(np.log2(len(self._problem.cost))))):
            best = min(
                (self.evaluated(*change, now) for change in self._changes(now)),
                key=self.value,
                default=now,
            )
            if not self.value(best) < self.value(now) * _IMPROVED:
                break
            now = best

    def value(self, selection: Selection) -> float:
        return float(self._objective(np.array(selection.cost), np.array(selection.seconds)))

    def evaluated(
        self, nodes: np.ndarray, links: frozenset[int], before: Selection | None = None
    ) -> Selection:
        """A structure with its best feeds, by an inner climb from the feeds of another selection."""
        key = nodes.tobytes(), links
        if key not in self._known:
            structure = self._problem.structure(nodes, links)
            feeds = self._feeds_kept(structure, before)
            found = self._climb_feeds(structure, feeds)
            if self.value(found) <= _NEAR * self._least:
                found = self._climb_pairs(found)
            self._least = min(self._least, self.value(found))
            self._known[key] = found
        return self._known[key]

    def _feeds_kept(self, structure: Structure, before: Selection | None) -> np.ndarray:
        """The feeds of another selection whose nodes are in this structure too."""
        feeds = np.full(len(self._problem.samples), -1)
        if before is not None:
            fed = before.feeds >= 0
            nodes = before.structure.nodes[before.feeds[fed]]
            feeds[fed] = self._problem.positions(structure.nodes)[nodes]
        return feeds

    def _changes(self, now: Selection) -> Iterator[Change]:
        """Structures with one node more, one less or one exchanged, then with one link more or less."""
        nodes, links = now.structure.nodes, now.structure.links
        added, dropped = self._nodes_to_add(now), self._nodes_to_drop(now)
        sets = [np.append(nodes, node) for node in added]
        if len(nodes) > 1:
            sets += [nodes[nodes != node] for node in dropped]
        if max(len(added), len(dropped)) > _ALL - 2:
            added, dropped = added[::_FEW], dropped[::_FEW]
        sets += [np.append(nodes[nodes != old], new) for old in dropped for new in added]
        for changed in sets:
            tree = self._connected(np.sort(changed), links)
            if tree is not None:
                yield tree
                yield tree[0], tree[1] | self._links_between(tree[0])
        yield from self._link_changes(now)

    def _nodes_to_add(self, now: Selection) -> list[int]:
        """Nodes outside that are linked to one inside, the most promising by any ranking."""
        ends, inside = self._problem.ends, self._inside(now.structure.nodes)
        across = inside[ends[:, 0]] != inside[ends[:, 1]]
        outside = np.unique(np.where(inside[ends[across, 0]], ends[across, 1], ends[across, 0]))
        return _best_by_any(self._rankings(now), outside)

    def _nodes_to_drop(self, now: Selection) -> list[int]:
        """Nodes inside, the most expensive, the slowest, and those with the fewest samples."""
        problem, nodes = self._problem, now.structure.nodes
        fed = now.feeds >= 0
        samples = np.bincount(now.feeds[fed], problem.samples[fed], len(nodes))
        rankings = (
            -problem.cost[nodes],
            -(problem.seconds + problem.jitter)[nodes],
            samples + problem.own_samples[nodes],
        )
        return [int(nodes[at]) for at in _best_by_any(rankings, np.arange(len(nodes)))]

    def _rankings(self, now: Selection) -> tuple[np.ndarray, ...]:
        """Rankings of all nodes, lower is better: cost less the savings on feeds, time, new samples (negative)."""
        problem, fed = self._problem, now.feeds >= 0
        paid = np.full(len(problem.samples), -np.inf)
        paid[fed] = problem.feed_cost[fed, now.structure.nodes[now.feeds[fed]]]
        saved = np.maximum(paid[:, None] - problem.feed_cost, 0.0)
        can_feed = ~fed[:, None] & np.isfinite(problem.feed_cost)
        new = np.where(can_feed, problem.samples[:, None], 0.0)
        load = now.samples / len(now.structure.nodes)
        return (
            problem.cost - saved.sum(axis=0),
            problem.seconds + problem.jitter + problem.seconds_per_sample * load,
            -(problem.own_samples + new.sum(axis=0)),
        )

    def _connected(self, nodes: np.ndarray, links: frozenset[int]) -> Change | None:
        """These nodes with those of the links that are between them, and the fewest more to connect them."""
        if len(nodes) == 1:
            return nodes, frozenset()
        position = self._problem.positions(nodes)
        between = np.array(sorted(self._links_between(nodes)), dtype=int)
        kept = np.isin(between, sorted(links))
        ends = position[self._problem.ends[between]].astype(np.int32)  # as SciPy 1.13 needs them
        # Weights are positive, because the tree would ignore a weight of zero.
        weight = np.where(kept, 1.0, 2.0 + self._rank[between])
        shape = (len(nodes), len(nodes))
        tree = scipy.sparse.csgraph.minimum_spanning_tree(
            scipy.sparse.coo_array((weight, ends.T), shape).tocsr()
        ).tocoo()
        if tree.nnz < len(nodes) - 1:
            return None
        number = dict(zip(map(frozenset, ends.tolist()), between.tolist(), strict=True))
        pairs = zip(tree.row.tolist(), tree.col.tolist(), strict=True)
        return nodes, frozenset(number[frozenset(pair)] for pair in pairs) | frozenset(
            between[kept].tolist()
        )

    def _link_changes(self, now: Selection) -> Iterator[Change]:
        """One link more, the cheapest and fastest, or one less, the most expensive and slowest."""
        nodes, links = now.structure.nodes, now.structure.links
        if len(nodes) < 3:
            return
        fresh = np.array(sorted(self._links_between(nodes) - links), dtype=int)
        for new in _best_by_any((self._rank,), fresh):
            yield nodes, links | {new}
        for old in _best_by_any((-self._rank,), np.array(sorted(links))):
            fewer = self._connected(nodes, links - {old})
            if fewer is not None and old not in fewer[1]:
                yield fewer

    def _inside(self, nodes: np.ndarray) -> np.ndarray:
        return self._problem.positions(nodes) >= 0

    def _links_between(self, nodes: np.ndarray) -> frozenset[int]:
        both = self._inside(nodes)[self._problem.ends].all(axis=1)
        return frozenset(np.flatnonzero(both).tolist())

    # Which information nodes feed which learning nodes of a structure ---------------------------------------

    def _climb_feeds(self, structure: Structure, feeds: np.ndarray) -> Selection:
        """Climb from these feeds by the best of all single changes, until none improves.

        With a change, an information node begins to feed, stops, or feeds another learning node.
        """
        now = self._problem.selection(structure, feeds)
        value = self.value(now)
        for _ in range(4 * len(feeds)):
            changes = _best(self._objectives_after(now), 1)
            if not changes:
                break
            then = self._after(now, changes[0])
            after = self.value(then)
            closer = np.isinf(value) and np.isinf(after) and then.samples > now.samples
            if not (after < value * _IMPROVED or closer):
                break
            now, value = then, after
        return now

    def _climb_pairs(self, now: Selection) -> Selection:
        """Climb on by pairs of changes, the first of them promising, where no single change improves."""
        for _ in range(len(now.feeds)):
            value = self.value(now)
            best, reached = value * _IMPROVED, None
            for first in _best(self._objectives_after(now), _FIRSTS):
                halfway = self._after(now, first)
                expected = self._objectives_after(halfway)
                for second in _best(expected, 1):
                    if expected[second] < value * _DOUBT:
                        then = self._after(halfway, second)
                        if self.value(then) < best:
                            best, reached = self.value(then), then
            if reached is None:
                break
            now = self._climb_feeds(now.structure, reached.feeds)
        return now

    def _after(self, now: Selection, change: tuple[int, int]) -> Selection:
        """The selection after a change: an information node, and the node that it feeds, n for none."""
        source, node = change
        feeds = now.feeds.copy()
        feeds[source] = node if node < len(now.structure.nodes) else -1
        return self._problem.selection(now.structure, feeds)

    def _objectives_after(self, now: Selection) -> np.ndarray:
        """The objective after each change, (I, n + 1), the last column for feeding no node.

        Infinite where nothing changes. Times are those of `_seconds_after`, approximated from below.
        """
        problem, feeds, count = self._problem, now.feeds, len(now.structure.nodes)
        is_fed = feeds >= 0
        costs = problem.feed_cost[:, now.structure.nodes]
        paid = np.where(is_fed, costs[np.arange(len(feeds)), feeds], 0.0)
        rate = np.column_stack([now.rate + costs, np.full(len(feeds), now.rate)]) - paid[:, None]
        iterations = _iterations_after(problem, now)
        never = np.isinf(iterations) | np.isinf(rate)
        with np.errstate(invalid="ignore"):
            values: np.ndarray = self._objective(
                np.where(never, np.inf, iterations * rate),
                np.where(never, np.inf, iterations * _seconds_after(problem, now)),
            )
        values[is_fed, feeds[is_fed]] = np.inf
        values[~is_fed, count] = np.inf
        if np.isinf(values).all() and np.isinf(now.iterations):
            # No single change reaches the error: prefer the one that adds the most samples.
            can_feed = ~is_fed[:, None] & np.isfinite(costs)
            values[:, :count] = np.where(can_feed, -problem.samples[:, None], np.inf)
        return values


def _best_by_any(rankings: tuple[np.ndarray, ...], among: np.ndarray) -> list[int]:
    """The first few of each ranking, lower is better, or all if there are only a few more."""
    if len(among) <= _ALL:
        return [int(number) for number in among]
    found: dict[int, None] = {}
    for ranking in rankings:
        best = among[np.argsort(ranking[among], kind="stable")][: _FEW * (1 + len(found))].tolist()
        found |= dict.fromkeys([number for number in best if number not in found][:_FEW])
    return list(found)


def _best(values: np.ndarray, count: int) -> list[tuple[int, int]]:
    """At most ``count`` changes with the least objectives that are finite, the best first."""
    order = np.argsort(values.ravel(), kind="stable")[:count]
    return [divmod(int(at), values.shape[1]) for at in order if np.isfinite(values.flat[at])]


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
