"""What `plan_cluster` chose, for reading."""

from __future__ import annotations

from dataclasses import dataclass

from .cluster import Cluster, Link
from .selection import Measured

__all__ = ["ClusterPlan"]


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """Which nodes cooperate over which links, for how many iterations, and what it comes to; print it.

    Made by `plan_cluster`.
    """

    learning: tuple[str, ...]
    """The learning nodes that cooperate."""
    information: tuple[str, ...]
    """The information nodes that feed them."""
    links: tuple[Link, ...]
    """Between learning nodes."""
    feeds: tuple[Link, ...]
    """From information nodes to learning nodes."""
    iterations: int
    """How many it takes."""
    error: float
    """Expected after these, by the cluster's error model."""
    error_target: float
    """What it had to be at most."""
    seconds: float
    """Expected of all iterations."""
    seconds_target: float
    """What they had to be at most."""
    cost: float
    """Of all iterations."""
    samples: float
    """In one iteration."""
    gap: float
    """Spectral gap of averaging over the links, 1 where all are connected with all."""
    tried: int
    """Structures that were looked at."""

    @classmethod
    def of(
        cls, cluster: Cluster, chosen: Measured, error: float, seconds: float, tried: int
    ) -> ClusterPlan:
        """The plan that a selection stands for."""
        structure, names = chosen.structure, [node.name for node in cluster.learning]
        sources = [node.name for node in cluster.information]
        fed = {
            frozenset((sources[source], names[structure.nodes[place]]))
            for source, place in enumerate(chosen.feeds.tolist())
            if place >= 0
        }
        inner = [link for link in cluster.links if not {link.first, link.second} & set(sources)]
        return cls(
            learning=tuple(names[node] for node in structure.nodes),
            information=tuple(sources[s] for s, place in enumerate(chosen.feeds) if place >= 0),
            links=tuple(link for at, link in enumerate(inner) if at in structure.links),
            feeds=tuple(
                link for link in cluster.links if frozenset((link.first, link.second)) in fed
            ),
            iterations=int(chosen.iterations),
            error=float(cluster.error.error(chosen.samples, structure.gap, chosen.iterations)),
            error_target=error,
            seconds=float(chosen.seconds),
            seconds_target=seconds,
            cost=float(chosen.cost),
            samples=chosen.samples,
            gap=structure.gap,
            tried=tried,
        )

    @property
    def accurate(self) -> bool:
        """Whether the error target holds."""
        return self.error <= self.error_target * (1.0 + 1e-9)

    @property
    def in_time(self) -> bool:
        """Whether the time target holds."""
        return self.seconds <= self.seconds_target

    def __str__(self) -> str:
        each = 1.0 / self.iterations
        rows = [
            ("learning nodes", f"{len(self.learning)}", _few(self.learning)),
            ("links", f"{len(self.links)}", _few(self.links)),
            ("information nodes", f"{len(self.information)}", _few(self.feeds)),
            ("iterations", f"{self.iterations:,}", f"{self.samples:,.6g} samples each, gap {self.gap:.3g}"),
            ("error", f"{self.error:.4g}", _target(self.error_target, "", self.accurate)),
            ("seconds", f"{self.seconds:.4g}", f"{_target(self.seconds_target, ' s', self.in_time)}; "
             f"{self.seconds * each:.3g} s an iteration"),
            ("cost", f"{self.cost:.4g}", f"{self.cost * each:.3g} an iteration"),
        ]  # fmt: skip
        width = max(len(value) for _, value, _ in rows)
        return "\n".join(
            f"{name:<18}{value:>{width}}  {note}".rstrip() for name, value, note in rows
        )


def _target(value: float, unit: str, holds: bool) -> str:
    return f"target {value:g}{unit} {'holds' if holds else 'MISSED'}"


def _few(items: tuple[object, ...], most: int = 6) -> str:
    shown = ", ".join(map(str, items[:most]))
    return shown + (f" and {len(items) - most} more" if len(items) > most else "")
