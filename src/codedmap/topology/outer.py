"""The outer climb: which learning nodes cooperate over which links, each structure with its inner climb."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy

from .inner import IMPROVED, Objective, climb_feeds, climb_pairs
from .selection import Problem, Selection, Structure

_FEW = 2
"""Nodes or links of each ranking that are tried in a step."""
_ALL = 6
"""Up to this many nodes or links are all tried."""
_NEAR = 1.3
"""Up to this many times the best objective so far, the inner climb goes on with pairs of changes."""

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
            if not self.value(best) < self.value(now) * IMPROVED:
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
            found = climb_feeds(self._problem, structure, self._objective, feeds)
            if self.value(found) <= _NEAR * self._least:
                found = climb_pairs(self._problem, found, self._objective)
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
        """One node more, one less, one exchanged; then one link more or less."""
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
        return _best_by_any(self._rankings(now), outside, _FEW)

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
        return [int(nodes[at]) for at in _best_by_any(rankings, np.arange(len(nodes)), _FEW)]

    def _rankings(self, now: Selection) -> tuple[np.ndarray, ...]:
        """Rankings of all nodes, lower is better: cost less the savings on feeds, time, new samples (negative)."""
        problem, fed = self._problem, now.feeds >= 0
        paid = np.full(len(problem.samples), -np.inf)
        paid[fed] = problem.feed_cost[fed, now.structure.nodes[now.feeds[fed]]]
        saved = np.maximum(paid[:, None] - problem.feed_cost, 0.0)
        able = ~fed[:, None] & np.isfinite(problem.feed_cost)
        new = np.where(able, problem.samples[:, None], 0.0)
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
        """One link more, the cheapest and fastest, or one less, the dearest and slowest."""
        nodes, links = now.structure.nodes, now.structure.links
        if len(nodes) < 3:
            return
        fresh = np.array(sorted(self._links_between(nodes) - links), dtype=int)
        for new in _best_by_any((self._rank,), fresh, _FEW):
            yield nodes, links | {new}
        for old in _best_by_any((-self._rank,), np.array(sorted(links)), _FEW):
            fewer = self._connected(nodes, links - {old})
            if fewer is not None and old not in fewer[1]:
                yield fewer

    def _inside(self, nodes: np.ndarray) -> np.ndarray:
        return self._problem.positions(nodes) >= 0

    def _links_between(self, nodes: np.ndarray) -> frozenset[int]:
        both = self._inside(nodes)[self._problem.ends].all(axis=1)
        return frozenset(np.flatnonzero(both).tolist())


def _best_by_any(rankings: tuple[np.ndarray, ...], among: np.ndarray, few: int) -> list[int]:
    """The first few of each ranking, lower is better, or all if there are only a few more."""
    if len(among) <= _ALL:
        return [int(one) for one in among]
    found: dict[int, None] = {}
    for ranking in rankings:
        best = among[np.argsort(ranking[among], kind="stable")][: few * (1 + len(found))].tolist()
        found |= dict.fromkeys([one for one in best if one not in found][:few])
    return list(found)
