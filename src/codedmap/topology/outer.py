"""The outer climb: which learning nodes cooperate over which links, each structure with its inner climb."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import minimum_spanning_tree

from .inner import BETTER, Merit, chained, fed
from .selection import Measured, Numbers, Structure

__all__ = ["Climb"]

_FEW = 2
"""Nodes or links of each ranking that are tried in a step; all, if there are only a few more."""
_ALL = 6
_NEAR = 1.3
"""Up to this many times the best merit so far, a structure's feeds are looked at more closely."""
_BATCH = 8
"""A step adds an eighth of what is there, so that their number grows as the logarithm of the nodes'."""


class Climb:
    """Climbs for one merit; remembers what it has tried.

    Parameters
    ----------
    numbers : Numbers
    merit : callable
        Cost and seconds to what is to be made small.
    """

    def __init__(self, numbers: Numbers, merit: Merit) -> None:
        self._numbers = numbers
        self._merit = merit
        self._least = np.inf
        self._known: dict[tuple[bytes, frozenset[int]], Measured] = {}
        # Ranks, so that links are told apart by one number, whatever the units of cost and time.
        cost, seconds = numbers.link_cost, numbers.link_seconds
        scale = seconds.mean() / cost.mean() if cost.any() and seconds.any() else 1.0
        self._rank = np.empty(len(cost))
        self._rank[np.argsort(cost * scale + seconds, kind="stable")] = np.arange(len(cost))

    @property
    def tried(self) -> list[Measured]:
        """All structures that were looked at, with their best feeds."""
        return list(self._known.values())

    def from_starts(self) -> None:
        """Climb from the best single nodes, and from all nodes together."""
        numbers = self._numbers
        cheapest = numbers.feed_cost.min(axis=0, initial=np.inf)
        cheapest = np.where(np.isfinite(cheapest), cheapest, numbers.cost.max() + 1.0)
        rankings = (
            numbers.cost + cheapest,
            numbers.base + numbers.jitter,
            -np.isfinite(numbers.feed_cost).sum(axis=0) - numbers.own / (1.0 + numbers.own.max()),
        )
        chosen = _best_of(rankings, np.arange(len(numbers.cost)), 4)
        singles = [self._solved(np.array([node]), frozenset(), None) for node in chosen]
        singles.sort(key=self.value)
        for start in singles[:3]:
            self.climb(start)
        every = self._joined(np.arange(len(numbers.cost)), frozenset())
        if every is not None and len(numbers.cost) > 1:
            self.climb(self._solved(*every, None))
            self.climb(self._solved(every[0], self._between(every[0]), None))

    def on_from(self, start: Measured) -> None:
        """Climb from what another merit led to."""
        self.climb(self._solved(start.structure.nodes, start.structure.links, start))

    def climb(self, start: Measured) -> Measured:
        """The best of all single changes of the structure, until none is better."""
        now = start
        for _ in range(24 * (1 + int(np.log2(len(self._numbers.cost))))):
            best = min(
                (self._solved(*change, now) for change in self._changes(now)),
                key=self.value,
                default=now,
            )
            if not self.value(best) < self.value(now) * BETTER:
                break
            now = best
        return now

    def value(self, selection: Measured) -> float:
        """The merit of a selection."""
        return float(self._merit(np.array(selection.cost), np.array(selection.seconds)))

    def _solved(
        self, nodes: np.ndarray, links: frozenset[int], before: Measured | None
    ) -> Measured:
        key = nodes.tobytes(), links
        if key not in self._known:
            structure = self._numbers.structure(nodes, links)
            feeds = self._carried(structure, before)
            found = fed(self._numbers, structure, self._merit, feeds)
            if self.value(found) <= _NEAR * self._least:
                found = chained(self._numbers, found, self._merit)
            self._least = min(self._least, self.value(found))
            self._known[key] = found
        return self._known[key]

    def _carried(self, structure: Structure, before: Measured | None) -> np.ndarray:
        """The feeds of another structure, as far as their nodes are still there."""
        feeds = np.full(len(self._numbers.samples), -1)
        if before is not None:
            place = np.full(len(self._numbers.cost), -1)
            place[structure.nodes] = np.arange(len(structure.nodes))
            was = before.feeds >= 0
            feeds[was] = place[before.structure.nodes[before.feeds[was]]]
        return feeds

    def _changes(self, now: Measured) -> Iterator[tuple[np.ndarray, frozenset[int]]]:
        nodes, links = now.structure.nodes, now.structure.links
        inside = np.zeros(len(self._numbers.cost), dtype=bool)
        inside[nodes] = True
        added, dropped = self._near(inside, now), self._doubtful(now)
        sets = [np.append(nodes, node) for node in added]
        if len(nodes) >= _BATCH:
            sets += self._batches(inside, now)
        if len(nodes) > 1:
            sets += [nodes[nodes != node] for node in dropped]
        first = (
            slice(None) if max(len(added), len(dropped)) <= _ALL - 2 else slice(None, None, _FEW)
        )
        sets += [
            np.append(nodes[nodes != old], new) for old in dropped[first] for new in added[first]
        ]
        for changed in sets:
            joined = self._joined(np.sort(changed), links)
            if joined is not None:
                yield joined
                yield joined[0], joined[1] | self._between(joined[0])
        yield from self._links(now, inside)

    def _near(self, inside: np.ndarray, now: Measured) -> list[int]:
        """Nodes outside that are linked to one inside, the most promising by any ranking."""
        numbers = self._numbers
        ends = numbers.ends
        across = inside[ends[:, 0]] != inside[ends[:, 1]]
        outside = np.unique(np.where(inside[ends[across, 0]], ends[across, 1], ends[across, 0]))
        return _best_of(self._rankings(now), outside, _FEW)

    def _rankings(self, now: Measured) -> tuple[np.ndarray, ...]:
        """What speaks for a node outside: its cost, its speed, what information nodes would save or add."""
        numbers, fed_by = self._numbers, now.feeds >= 0
        paid = np.full(len(numbers.samples), np.inf)
        nodes = now.structure.nodes[now.feeds[fed_by]]
        paid[fed_by] = numbers.feed_cost[fed_by, nodes]
        with np.errstate(invalid="ignore"):
            saved = np.where(
                fed_by[:, None], np.maximum(paid[:, None] - numbers.feed_cost, 0.0), 0.0
            )
        new = np.where(
            fed_by[:, None], 0.0, numbers.samples[:, None] * np.isfinite(numbers.feed_cost)
        )
        return (
            numbers.cost - saved.sum(axis=0),
            numbers.base + numbers.jitter + numbers.each * (now.samples / len(now.structure.nodes)),
            -(numbers.own + new.sum(axis=0)),
        )

    def _batches(self, inside: np.ndarray, now: Measured) -> list[np.ndarray]:
        numbers, nodes = self._numbers, now.structure.nodes
        outside = np.flatnonzero(~inside)
        size = min(len(nodes) // _BATCH, len(outside))
        if not size:
            return []
        found = [outside[np.argsort(r[outside], kind="stable")[:size]] for r in self._rankings(now)]
        batches = [np.append(nodes, batch) for batch in found]
        order = nodes[np.argsort(numbers.cost[nodes], kind="stable")]
        return [*batches, order[: len(nodes) - size]]

    def _doubtful(self, now: Measured) -> list[int]:
        """Nodes inside that could be done without: the dearest, the slowest, those that are fed least."""
        numbers, nodes = self._numbers, now.structure.nodes
        share = np.bincount(now.feeds[now.feeds >= 0], numbers.samples[now.feeds >= 0], len(nodes))
        rankings = (
            -numbers.cost[nodes],
            -(numbers.base + numbers.jitter)[nodes],
            share + numbers.own[nodes],
        )
        return [int(nodes[at]) for at in _best_of(rankings, np.arange(len(nodes)), _FEW)]

    def _joined(
        self, nodes: np.ndarray, links: frozenset[int]
    ) -> tuple[np.ndarray, frozenset[int]] | None:
        """These nodes with those of the links that are between them, and the fewest more to connect them."""
        if len(nodes) == 1:
            return nodes, frozenset()
        numbers = self._numbers
        place = np.full(len(numbers.cost), -1)
        place[nodes] = np.arange(len(nodes))
        both = np.flatnonzero((place[numbers.ends] >= 0).all(axis=1))
        kept = np.isin(both, sorted(links))
        weight = np.where(kept, 1.0, 2.0 + self._rank[both])
        ends, shape = place[numbers.ends[both]], (len(nodes), len(nodes))
        # Positions of links instead of zeros, which the tree would take for none.
        tree = minimum_spanning_tree(coo_array((weight, ends.T), shape).tocsr()).tocoo()
        if tree.nnz < len(nodes) - 1:
            return None
        number = dict(zip(map(frozenset, ends.tolist()), both.tolist(), strict=True))
        found = {
            number[frozenset(pair)]
            for pair in zip(tree.row.tolist(), tree.col.tolist(), strict=True)
        }
        return nodes, frozenset(found) | frozenset(both[kept].tolist())

    def _between(self, nodes: np.ndarray) -> frozenset[int]:
        """All links between these nodes."""
        inside = np.zeros(len(self._numbers.cost), dtype=bool)
        inside[nodes] = True
        return frozenset(np.flatnonzero(inside[self._numbers.ends].all(axis=1)).tolist())

    def _links(
        self, now: Measured, inside: np.ndarray
    ) -> Iterator[tuple[np.ndarray, frozenset[int]]]:
        """One link more, many links more, one less, or one in place of another."""
        numbers, nodes, links = self._numbers, now.structure.nodes, now.structure.links
        if len(nodes) < 3:
            return
        both = inside[numbers.ends].all(axis=1)
        have = np.zeros(len(numbers.ends), dtype=bool)
        have[sorted(links)] = True
        fresh = np.flatnonzero(both & ~have)
        # Where a link adds most: between nodes that are far apart in the slowest mode of averaging.
        vectors = np.linalg.eigh(numbers.averaging(nodes, links))[1]
        mode = np.zeros(len(numbers.cost))
        mode[nodes] = vectors[:, -2]
        apart = (mode[numbers.ends[:, 0]] - mode[numbers.ends[:, 1]]) ** 2
        more = _best_of((-apart, self._rank, -apart / (1.0 + self._rank)), fresh, _FEW)
        less = _best_of((apart, -self._rank, -numbers.link_seconds), np.array(sorted(links)), _FEW)
        for new in more:
            yield nodes, links | {new}
        size = len(links) // _BATCH
        if size > 1:
            for ranking in (-apart, self._rank):
                order = fresh[np.argsort(ranking[fresh], kind="stable")]
                yield nodes, links | frozenset(order[:size].tolist())
        if len(fresh):
            yield nodes, links | frozenset(fresh.tolist())
        for old in less:
            fewer = self._joined(nodes, links - {old})
            if fewer is not None and old not in fewer[1]:
                yield fewer
            for new in more:
                other = self._joined(nodes, links - {old} | {new})
                if other is not None:
                    yield other


def _best_of(rankings: tuple[np.ndarray, ...], among: np.ndarray, few: int) -> list[int]:
    """The first few of each ranking, lower is better, or all of a few."""
    if len(among) <= _ALL:
        return [int(one) for one in among]
    found: dict[int, None] = {}
    for ranking in rankings:
        order = among[np.argsort(ranking[among], kind="stable")]
        new = [one for one in order[: few * (1 + len(found))].tolist() if one not in found]
        found |= dict.fromkeys(new[:few])
    return list(found)
