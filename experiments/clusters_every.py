"""All selections of a small cluster, implemented from the description of `codedmap.topology.plan_cluster` alone.

Only the `Cluster` is shared with the library. The spectral gap, the expected slowest node (here by inclusion and
exclusion) and the number of iterations (by bisection) are implemented a second time, so that the comparison checks
them as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, combinations, product

import numpy as np

import codedmap as cm

__all__ = ["Selections", "enumerate_selections"]


Part = tuple[str, ...]


@dataclass(frozen=True)
class Selections:
    """Cost and seconds of all selections that reach the error.

    Parameters
    ----------
    cost, seconds : ndarray, (count,)
    structure : ndarray of int, (count,)
        Index into ``structures``.
    structures : list of (names, links)
        Connected sets of learning nodes and links.
    feeds : list of ndarray, each (ways, I)
        For each structure all assignments of sources: the index of the node that each source feeds, or -1.
    way : ndarray of int, (count,)
        Index into ``feeds``.
    """

    cost: np.ndarray
    seconds: np.ndarray
    structure: np.ndarray
    structures: list[tuple[Part, tuple[cm.topology.Link, ...]]]
    feeds: list[np.ndarray]
    way: np.ndarray
    sources: Part

    def least(self, seconds: float, among: np.ndarray | bool = True) -> float:
        """Minimum cost within this time; infinite if no selection is that fast."""
        return float(self.cost[(self.seconds <= seconds) & among].min(initial=np.inf))

    def best(self, seconds: float) -> frozenset[str]:
        """Names of the nodes, links and feeds of the cheapest selection within this time."""
        at = int(np.where(self.seconds <= seconds, self.cost, np.inf).argmin())
        names, links = self.structures[self.structure[at]]
        fed = self.feeds[self.structure[at]][self.way[at]]
        used = {
            f"{s}-{names[n]}" for s, n in zip(self.sources, fed.astype(int), strict=True) if n >= 0
        }
        return frozenset(used | set(names) | {"-".join(sorted((k.first, k.second))) for k in links})

    @property
    def alone(self) -> np.ndarray:
        """True where a single node learns."""
        return np.array([len(names) == 1 for names, _ in self.structures])[self.structure]

    @property
    def everyone(self) -> np.ndarray:
        """True where all nodes learn over all links and all sources feed."""
        size = [(len(names), len(links)) for names, links in self.structures]
        whole = np.array([one == max(size) for one in size])[self.structure]
        most = np.array(
            [(self.feeds[s][w] >= 0).all() for s, w in zip(self.structure, self.way, strict=True)]
        )
        return whole & most

    @property
    def fastest(self) -> float:
        """The shortest time in which the error is reached."""
        return float(self.seconds.min(initial=np.inf))

    @property
    def cheapest_seconds(self) -> float:
        """The time of the cheapest selection."""
        return float(self.seconds[self.cost.argmin()])


def enumerate_selections(cluster: cm.topology.Cluster, error: float) -> Selections:
    """Cost and time of all selections; their number grows exponentially with the cluster."""
    structures = list(_structures(cluster))
    measured = [_measured(cluster, nodes, links, error) for nodes, links in structures]
    cost = np.concatenate([one[0] for one in measured])
    seconds = np.concatenate([one[1] for one in measured])
    counts = [len(one[0]) for one in measured]
    able = np.isfinite(cost)
    return Selections(
        cost[able],
        seconds[able],
        np.repeat(np.arange(len(structures)), counts)[able],
        structures,
        [one[2] for one in measured],
        np.concatenate([np.arange(count) for count in counts])[able],
        tuple(source.name for source in cluster.information),
    )


def _structures(
    cluster: cm.topology.Cluster,
) -> Iterator[tuple[tuple[str, ...], tuple[cm.topology.Link, ...]]]:
    names = [node.name for node in cluster.learning]
    for nodes in chain.from_iterable(combinations(names, n) for n in range(1, len(names) + 1)):
        inner = [link for link in cluster.links if {link.first, link.second} <= set(nodes)]
        for count in range(len(nodes) - 1, len(inner) + 1):
            for links in combinations(inner, count):
                if _connected(nodes, links):
                    yield nodes, links


def _connected(nodes: tuple[str, ...], links: tuple[cm.topology.Link, ...]) -> bool:
    group = {name: {name} for name in nodes}
    for link in links:
        joined = group[link.first] | group[link.second]
        group |= dict.fromkeys(joined, joined)
    return len(group[nodes[0]]) == len(nodes)


def _measured(
    cluster: cm.topology.Cluster,
    names: tuple[str, ...],
    links: tuple[cm.topology.Link, ...],
    error: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cost and seconds of each assignment of information nodes to these learning nodes, and the assignments."""
    nodes = [node for node in cluster.learning if node.name in names]
    sources = cluster.information
    ends = {frozenset((link.first, link.second)): link for link in cluster.links}
    ways: list[list[tuple[int, float, float]]] = []  # of each source: (node or -1, seconds, cost)
    for source in sources:
        own = [(-1, 0.0, 0.0)]
        for at, node in enumerate(nodes):
            link = ends.get(frozenset((source.name, node.name)))
            if link is not None:
                own.append((at, link.seconds, link.cost + source.cost))
        ways.append(own)
    chosen = list(product(*(range(len(way)) for way in ways)))
    picks = np.array(chosen, dtype=int).reshape(len(chosen), len(sources))
    at, wait, cost = _columns(ways, picks)
    given = np.array([source.samples for source in sources])
    used = at >= 0
    samples = sum(node.samples for node in nodes) + used @ given
    finish = np.empty((len(picks), len(nodes)))
    for n, node in enumerate(nodes):
        mine = at == n
        longest = np.where(mine, wait, 0.0).max(axis=1, initial=0.0)
        load = node.samples + mine @ given
        finish[:, n] = longest + node.seconds + node.seconds_per_sample * load
    slowest = _expected_maximum(finish, np.array([node.jitter for node in nodes]))
    exchange = max((link.seconds for link in links), default=0.0)
    rate = sum(node.cost for node in nodes) + sum(link.cost for link in links) + cost.sum(axis=1)
    iterations = _iterations(cluster.error, error, samples, _gap(names, links))
    with np.errstate(invalid="ignore"):
        return iterations * rate, iterations * (slowest + exchange), at


def _columns(
    ways: list[list[tuple[int, float, float]]], picks: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    shape = (3, *picks.shape)
    table = np.zeros(shape)
    for source, own in enumerate(ways):
        table[:, :, source] = np.array(own)[picks[:, source]].T
    return table[0], table[1], table[2]


def _gap(names: tuple[str, ...], links: tuple[cm.topology.Link, ...]) -> float:
    n = len(names)
    degree = {name: sum(name in (link.first, link.second) for link in links) for name in names}
    W = np.eye(n)
    for link in links:
        i, j = names.index(link.first), names.index(link.second)
        share = 1.0 / (1.0 + max(degree[link.first], degree[link.second]))
        W[[i, j], [j, i]] += share
        W[[i, j], [i, j]] -= share
    # The largest factor by which one averaging step shrinks deviations from the mean.
    return 1.0 - float(np.linalg.norm(W - 1.0 / n, 2))


def _expected_maximum(fixed: np.ndarray, jitter: np.ndarray) -> np.ndarray:
    most = fixed.max(axis=1)
    total = most.copy()
    random = np.flatnonzero(jitter)
    for size in range(1, len(random) + 1):
        for some in map(list, combinations(random, size)):
            running = np.exp(-((most[:, None] - fixed[:, some]) / jitter[some]).sum(axis=1))
            total -= (-1.0) ** size * running / (1.0 / jitter[some]).sum()
    return total


def _iterations(
    model: cm.topology.ErrorModel, target: float, samples: np.ndarray, gap: float
) -> np.ndarray:
    def error(count: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            first = (
                model.statistical * (count * samples) ** -model.exponent
                if model.statistical
                else 0.0
            )
        return model.floor + first + model.optimisation * (gap * count) ** -0.5

    low, high = np.ones(len(samples)), np.full(len(samples), 2.0**40)
    never = error(high) > target
    for _ in range(41):
        middle = np.floor((low + high) / 2.0)
        good = error(middle) <= target * (1.0 + 1e-12)
        high, low = np.where(good, middle, high), np.where(good, low, middle + 1.0)
        low = np.minimum(low, high)
    return np.where(never, np.inf, high)
