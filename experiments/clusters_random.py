"""Random clusters: small ones whose selections can be enumerated, and large ones."""

from __future__ import annotations

import numpy as np

import codedmap as cm

__all__ = ["large", "small"]


def small(size: tuple[int, int], rng: np.random.Generator) -> cm.topology.Cluster:
    """Learning and information nodes with random parameters, sparsely or densely linked."""
    learners, sources = size
    dense = float(rng.choice([0.2, 0.5, 1.0]))

    def between(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    learning = [
        cm.topology.LearningNode(
            f"l{at}",
            seconds=between(0.1, 1.0),
            cost=between(0.1, 1.0),
            seconds_per_sample=between(0.0, 0.02),
            jitter=between(0.0, 0.5) * (rng.random() < 0.7),
            samples=float(rng.integers(1, 30)) * (rng.random() < 0.5),
        )
        for at in range(learners)
    ]
    information = [
        cm.topology.InformationNode(f"i{at}", float(rng.integers(5, 100)), between(0.0, 0.5))
        for at in range(sources)
    ]
    # A path connects the learning nodes; each information node has at least one link.
    links = [
        cm.topology.Link(f"l{a}", f"l{b}", between(0.02, 0.3), between(0.0, 0.1))
        for a in range(learners)
        for b in range(a)
        if b == a - 1 or rng.random() < dense
    ]
    links += [
        cm.topology.Link(f"i{i}", f"l{at}", between(0.02, 0.4), between(0.0, 0.1))
        for i in range(sources)
        for at in range(learners)
        if at == i % learners or rng.random() < dense
    ]
    exponent = float(rng.choice([0.4, 0.5, 0.7]))
    model = cm.topology.ErrorModel(0.01, between(8.0, 25.0), exponent, between(0.3, 1.0))
    return cm.topology.Cluster(learning, information, links, model)


def large(nodes: int, rng: np.random.Generator) -> cm.topology.Cluster:
    """Half of the nodes learn, fully linked; each information node is linked with three of them."""
    learners = nodes // 2

    def between(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    learning = [
        cm.topology.LearningNode(
            f"l{at}",
            seconds=between(0.1, 0.3),
            cost=between(0.1, 0.3),
            seconds_per_sample=between(0.01, 0.03),
            jitter=between(0.0, 0.05),
        )
        for at in range(learners)
    ]
    information = [
        cm.topology.InformationNode(f"i{at}", float(rng.integers(5, 30)), between(0.0, 0.02))
        for at in range(nodes - learners)
    ]
    links = [
        cm.topology.Link(f"l{a}", f"l{b}", between(0.02, 0.1), between(0.0, 0.02))
        for a in range(learners)
        for b in range(a)
    ]
    links += [
        cm.topology.Link(f"i{i}", f"l{at}", between(0.02, 0.1), between(0.0, 0.02))
        for i in range(nodes - learners)
        for at in rng.choice(learners, min(learners, 3), replace=False).tolist()
    ]
    # The samples needed grow with the number of nodes.
    return cm.topology.Cluster(
        learning, information, links, cm.topology.ErrorModel(0.01, 4.0 * nodes**0.5, 0.5, 0.3)
    )
