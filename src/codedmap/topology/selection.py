"""The figures of a selection of nodes and links: gap, samples, seconds, iterations and cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .cluster import Cluster


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
    """Cost of an iteration, without that of information nodes."""
    samples: float
    """The nodes' own samples in an iteration."""


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """A structure, which of its nodes each information node feeds, and the resulting figures."""

    structure: Structure
    feeds: np.ndarray
    """(I,), index into the structure's nodes, -1 for none."""
    samples: float
    iterations: float
    slowest: float
    """Expected seconds of the slowest node in an iteration."""
    shares: np.ndarray
    """(n,), the probability of each node to be the slowest."""
    rate: float
    """Cost of an iteration."""

    @property
    def iteration_seconds(self) -> float:
        """Expected seconds of an iteration."""
        return self.slowest + self.structure.exchange

    @property
    def seconds(self) -> float:
        """Seconds of all iterations; infinite if they never reach the error, even if each takes no time."""
        return self.iterations * self.iteration_seconds if np.isfinite(self.iterations) else np.inf

    @property
    def cost(self) -> float:
        """Cost of all iterations; infinite if they never reach the error."""
        return self.iterations * self.rate if np.isfinite(self.iterations) else np.inf


@dataclass(eq=False)
class Problem:
    """A cluster as arrays, and the error it has to reach."""

    cluster: Cluster
    target: float

    def __post_init__(self) -> None:
        learning, information = self.cluster.learning, self.cluster.information
        self.seconds = np.array([node.seconds for node in learning])
        self.seconds_per_sample = np.array([node.seconds_per_sample for node in learning])
        self.jitter = np.array([node.jitter for node in learning])
        self.cost = np.array([node.cost for node in learning])
        self.own_samples = np.array([node.samples for node in learning])
        self.samples = np.array([node.samples for node in information])
        learner = {node.name: at for at, node in enumerate(learning)}
        source = {node.name: at for at, node in enumerate(information)}
        self.feed_cost = np.full((len(information), len(learning)), np.inf)
        self.feed_seconds = self.feed_cost.copy()
        between = []
        for link in self.cluster.links:
            a, b = link.first, link.second
            if a in learner and b in learner:
                between.append(link)
            else:
                a, b = (a, b) if a in source else (b, a)
                cell = source[a], learner[b]
                self.feed_cost[cell] = link.cost + information[source[a]].cost
                self.feed_seconds[cell] = link.seconds
        ends = [(learner[link.first], learner[link.second]) for link in between]
        self.ends = np.array(ends, dtype=int).reshape(-1, 2)
        """The two ends of each link between learning nodes, (L, 2)."""
        self.link_seconds = np.array([link.seconds for link in between])
        self.link_cost = np.array([link.cost for link in between])

    def structure(self, nodes: np.ndarray, links: frozenset[int]) -> Structure:
        """These learning nodes and links, which connect them."""
        chosen = sorted(links)
        return Structure(
            nodes,
            links,
            self._gap(nodes, links),
            float(self.link_seconds[chosen].max(initial=0.0)),
            float(self.cost[nodes].sum() + self.link_cost[chosen].sum()),
            float(self.own_samples[nodes].sum()),
        )

    def selection(self, structure: Structure, feeds: np.ndarray) -> Selection:
        """The structure with information nodes that feed its nodes, ``feeds`` (I,) as in `Selection`."""
        fed = np.flatnonzero(feeds >= 0)
        nodes, at = structure.nodes, structure.nodes[feeds[fed]]
        load = self.own_samples[nodes] + np.bincount(feeds[fed], self.samples[fed], len(nodes))
        wait = np.zeros(len(nodes))
        np.maximum.at(wait, feeds[fed], self.feed_seconds[fed, at])
        samples = structure.samples + float(self.samples[fed].sum())
        iterations = self.cluster.error.iterations(self.target, np.array([samples]), structure.gap)
        finish = wait + self.seconds[nodes] + self.seconds_per_sample[nodes] * load
        return Selection(
            structure,
            feeds,
            samples,
            float(iterations[0]),
            *expected_maximum(finish, self.jitter[nodes]),
            structure.rate + float(self.feed_cost[fed, at].sum()),
        )

    def positions(self, nodes: np.ndarray) -> np.ndarray:
        """For each learning node its index in ``nodes``, -1 if it is not among them."""
        positions = np.full(len(self.cost), -1)
        positions[nodes] = np.arange(len(nodes))
        return positions

    def _gap(self, nodes: np.ndarray, links: frozenset[int]) -> float:
        """The spectral gap of averaging with Metropolis weights: 1 / (1 + the larger degree of a link's ends)."""
        if len(nodes) == 1:
            return 1.0
        ends = self.positions(nodes)[self.ends[sorted(links)]]
        degree = np.bincount(ends.ravel(), minlength=len(nodes))
        weight = 1.0 / (1.0 + degree[ends].max(axis=1))
        matrix = np.zeros((len(nodes), len(nodes)))
        matrix[ends[:, 0], ends[:, 1]] = matrix[ends[:, 1], ends[:, 0]] = weight
        np.fill_diagonal(matrix, 1.0 - matrix.sum(axis=1))
        values = np.linalg.eigvalsh(matrix)
        # Rounded, so that equal graphs with differently numbered nodes have equal gaps.
        return round(1.0 - float(max(values[-2], -values[0])), 12)


_RELATIVE = np.linspace(np.log(1e-7), np.log(60.0), 160)  # logarithms of multiples of a jitter


def expected_maximum(fixed: np.ndarray, jitter: np.ndarray) -> tuple[float, np.ndarray]:
    """The expected maximum of times, each a fixed one plus an exponential one with the mean ``jitter`` (0: none).

    The second value is each time's probability to be the maximum. It is also the derivative of the
    expectation with respect to the time's fixed part.
    """
    largest = float(fixed.max())
    shares = np.zeros(len(fixed))
    random = jitter > 0.0
    if not random.any():
        shares[fixed.argmax()] = 1.0
        return largest, shares
    # By the trapezoidal rule from the largest fixed part on, in the logarithm of the time, where the
    # probability that some time is not over yet is smooth at all scales.
    x = _RELATIVE + np.log(float(jitter.max()))
    later, means = np.exp(x), jitter[random, None]
    survival = np.exp(-(largest - fixed[random, None] + later) / means)
    done = np.prod(1.0 - survival, axis=0)
    not_over = (1.0 - done) * later
    last = survival / means * (done / np.maximum(1.0 - survival, 1e-300)) * later
    shares[random] = np.trapezoid(last, x, axis=1) + last[:, 0]
    shares[np.where(random, -np.inf, fixed).argmax()] += max(0.0, 1.0 - shares.sum())
    return largest + float(np.trapezoid(not_over, x)) + float(not_over[0]), shares
