"""What a selection of nodes and links comes to: gap, samples, seconds, iterations and cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from .cluster import Cluster

__all__ = ["Measured", "Numbers", "Structure", "slowest"]


@dataclass(frozen=True, slots=True, eq=False)
class Structure:
    """Learning nodes that cooperate, and the links between them."""

    nodes: np.ndarray
    """(n,), ascending."""
    links: frozenset[int]
    gap: float
    exchange: float
    """Seconds of the slowest of these links."""
    rate: float
    """Cost of an iteration, without what information nodes cost."""
    samples: float
    """The nodes' own, an iteration."""


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """A structure, which of its nodes each information node feeds, and what they come to."""

    structure: Structure
    feeds: np.ndarray
    """(I,), place among the structure's nodes, -1 for none."""
    samples: float
    iterations: float
    slowest: float
    """Seconds expected of the slowest node in an iteration."""
    shares: np.ndarray
    """(n,), the chance of each node to be that one."""
    rate: float
    """Cost of an iteration."""

    @property
    def each(self) -> float:
        """Seconds expected of an iteration."""
        return self.slowest + self.structure.exchange

    @property
    def seconds(self) -> float:
        """Of all iterations; infinite if they never reach the error, also where each takes no time."""
        return self.iterations * self.each if np.isfinite(self.iterations) else np.inf

    @property
    def cost(self) -> float:
        """Of all iterations, likewise."""
        return self.iterations * self.rate if np.isfinite(self.iterations) else np.inf


@dataclass(eq=False)
class Numbers:
    """A cluster in arrays, and the error it has to reach.

    Parameters
    ----------
    cluster : Cluster
    target : float
        Error.
    """

    cluster: Cluster
    target: float
    _gaps: dict[tuple[bytes, frozenset[int]], float] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        learning, information = self.cluster.learning, self.cluster.information
        place = {node.name: at for at, node in enumerate(learning)}
        source = {node.name: at for at, node in enumerate(information)}
        self.base = np.array([node.seconds for node in learning])
        self.each = np.array([node.seconds_per_sample for node in learning])
        self.jitter = np.array([node.jitter for node in learning])
        self.cost = np.array([node.cost for node in learning])
        self.own = np.array([node.samples for node in learning])
        self.samples = np.array([node.samples for node in information])
        shape = len(information), len(learning)
        self.feed_cost = np.full(shape, np.inf)
        self.feed_seconds = np.full(shape, np.inf)
        self.pairs: list[tuple[int, int]] = []
        """Places of the learning nodes of each link between two."""
        self.which: list[int] = []
        """Number of that link in the cluster."""
        for number, link in enumerate(self.cluster.links):
            ends = link.first, link.second
            if all(name in place for name in ends):
                self.pairs.append((place[ends[0]], place[ends[1]]))
                self.which.append(number)
            else:
                a, b = ends if ends[0] in source else ends[::-1]
                self.feed_cost[source[a], place[b]] = link.cost + information[source[a]].cost
                self.feed_seconds[source[a], place[b]] = link.seconds
        links = [self.cluster.links[number] for number in self.which]
        self.ends = np.array(self.pairs, dtype=int).reshape(-1, 2)
        self.link_seconds = np.array([link.seconds for link in links])
        self.link_cost = np.array([link.cost for link in links])

    def structure(self, nodes: np.ndarray, links: frozenset[int]) -> Structure:
        """These learning nodes and links, which connect them."""
        some = sorted(links)
        return Structure(
            nodes,
            links,
            self._gap(nodes, links),
            float(self.link_seconds[some].max(initial=0.0)),
            float(self.cost[nodes].sum() + self.link_cost[some].sum()),
            float(self.own[nodes].sum()),
        )

    def measured(self, structure: Structure, feeds: np.ndarray) -> Measured:
        """What it comes to if information nodes feed these places of the structure."""
        fed = np.flatnonzero(feeds >= 0)
        nodes, at = structure.nodes, structure.nodes[feeds[fed]]
        load = self.own[nodes] + np.bincount(feeds[fed], self.samples[fed], len(nodes))
        wait = np.zeros(len(nodes))
        np.maximum.at(wait, feeds[fed], self.feed_seconds[fed, at])
        samples = structure.samples + float(self.samples[fed].sum())
        iterations = self.cluster.error.iterations(self.target, np.array([samples]), structure.gap)
        finish = wait + self.base[nodes] + self.each[nodes] * load
        return Measured(
            structure,
            feeds,
            samples,
            float(iterations[0]),
            *slowest(finish, self.jitter[nodes]),
            structure.rate + float(self.feed_cost[fed, at].sum()),
        )

    def averaging(self, nodes: np.ndarray, links: frozenset[int]) -> np.ndarray:
        """With Metropolis weights: each link takes the share 1 / (1 + the larger degree of its ends)."""
        place = np.full(len(self.cost), -1)
        place[nodes] = np.arange(len(nodes))
        ends = place[self.ends[sorted(links)]]
        degree = np.bincount(ends.ravel(), minlength=len(nodes))
        share = 1.0 / (1.0 + degree[ends].max(axis=1))
        matrix = np.zeros((len(nodes), len(nodes)))
        matrix[ends[:, 0], ends[:, 1]] = matrix[ends[:, 1], ends[:, 0]] = share
        np.fill_diagonal(matrix, 1.0 - matrix.sum(axis=1))
        return matrix

    def _gap(self, nodes: np.ndarray, links: frozenset[int]) -> float:
        if len(nodes) == 1:
            return 1.0
        key = nodes.tobytes(), links
        if key not in self._gaps:
            values = np.linalg.eigvalsh(self.averaging(nodes, links))
            # Rounded, so that equal graphs whose nodes are numbered differently have equal gaps.
            self._gaps[key] = round(1.0 - float(max(values[-2], -values[0])), 12)
        return self._gaps[key]

    @cached_property
    def most(self) -> float:
        """Samples of all nodes in an iteration."""
        return float(self.own.sum() + self.samples.sum())


_RELATIVE = np.linspace(np.log(1e-7), np.log(60.0), 160)


def slowest(fixed: np.ndarray, jitter: np.ndarray) -> tuple[float, np.ndarray]:
    """The expected maximum of times, each fixed plus exponential of this mean (0 for none).

    And for each its chance to be the maximum, by which the expectation grows with its fixed part.
    """
    most = float(fixed.max())
    shares = np.zeros(len(fixed))
    some = jitter > 0.0
    if not some.any():
        shares[fixed.argmax()] = 1.0
        return most, shares
    # From the largest fixed part on, by the trapezoidal rule in the logarithm of the time, where the
    # chance that one is still running is smooth at all scales.
    x = _RELATIVE + np.log(float(jitter.max()))
    later, means = np.exp(x), jitter[some, None]
    alone = np.exp(-(most - fixed[some, None] + later) / means)
    done = np.prod(1.0 - alone, axis=0)
    running = (1.0 - done) * later
    last = alone / means * (done / np.maximum(1.0 - alone, 1e-300)) * later
    shares[some] = np.trapezoid(last, x, axis=1) + last[:, 0]
    shares[np.where(some, -np.inf, fixed).argmax()] += max(0.0, 1.0 - shares.sum())
    return most + float(np.trapezoid(running, x)) + float(running[0]), shares
