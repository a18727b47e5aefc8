"""`plan_cluster`: which nodes should learn together, and for how long, at the least cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..contracts.arguments import check_number
from ..errors import InvalidArgument, Unreachable
from .climb import Climb, Objective
from .cluster import Cluster, Link, joined
from .selection import Problem, Selection

_PRICES = 1.0, 0.25, 4.0
"""Prices of a second that are tried, over the one at which the cheapest and the fastest selection are equally good."""


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """Which nodes cooperate over which links, for how many iterations, at what cost; print it.

    Made by `plan_cluster`.
    """

    learning: tuple[str, ...]
    """The learning nodes that cooperate."""
    information: tuple[str, ...]
    """The information nodes that feed them."""
    links: tuple[Link, ...]
    """Links between learning nodes."""
    feeds: tuple[Link, ...]
    """Links from information nodes to learning nodes."""
    iterations: int
    """Number of iterations."""
    error: float
    """Expected error after these iterations, by the cluster's error model."""
    error_target: float
    """The largest error allowed."""
    seconds: float
    """Expected time of all iterations in seconds."""
    seconds_target: float
    """The longest time allowed, in seconds."""
    cost: float
    """Cost of all iterations."""
    samples: float
    """Samples in one iteration."""
    gap: float
    """Spectral gap of averaging over the links, 1 for a complete graph."""
    tried: int
    """Number of selections that were evaluated."""

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
            ("learning nodes", f"{len(self.learning)}", joined(self.learning)),
            ("links", f"{len(self.links)}", joined(self.links)),
            ("information nodes", f"{len(self.information)}", joined(self.feeds)),
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


def plan_cluster(
    cluster: Cluster, *, error: float, seconds: float, throw: bool = True
) -> ClusterPlan:
    r"""Choose nodes, links and iterations that meet an error and a time target at little cost.

    Some of the learning nodes cooperate: in each iteration each of them computes on the samples it
    gets, and averages its model with those of its neighbours. Some of the information nodes each feed
    samples to one of these. The plan says which, and how many iterations they need.

    Parameters
    ----------
    cluster : Cluster
    error : float
        The largest expected error allowed, by the cluster's `ErrorModel`.
    seconds : float
        The longest expected time of all iterations together; infinite for no limit.
    throw : bool
        If True, raise when no selection was found that meets the time target. If False, return the
        fastest that reaches the error; `ClusterPlan.in_time` is False then.

    Returns
    -------
    ClusterPlan
        Print it.

    Raises
    ------
    InvalidArgument
        If an argument cannot work.
    Unreachable
        If no number of iterations reaches the error, also with ``throw=False``; or if no selection was
        found that meets both targets. The exception holds the best error and time found.

    Notes
    -----
    After DoubleClimb of Malandrino, Chiasserini, Molner and de la Oliva (arXiv 2102.03394, IEEE/ACM
    Transactions on Networking 2022).

    *From the paper's abstract*: learning nodes and information nodes; the task, to choose which of them
    cooperate and the number of iterations, at the least cost under a target error and a target time; and
    the statement that its algorithm is 1 + 1/\|I\| competitive, with I the information nodes, in cubic
    time at worst. *From summaries of the paper, not checked*: that it is two nested climbs, an outer one
    over links between learning nodes and an inner one over links from information nodes. *Our own*, because
    the paper's formulas and steps were not available, and therefore not covered by its proofs:

    - The `ErrorModel`, and that samples of one information node count once, so that it feeds one node.
    - The time of an iteration: each learning node waits for its slowest source, then computes. An iteration
      takes the expected time of the slowest node, and then that of the slowest link between two.
    - The averaging matrix: Metropolis weights, link weight 1 / (1 + the larger degree of its ends).
    - The steps. The outer climb starts from single learning nodes, and from all with a spanning tree. It goes
      to the best of the structures that differ in a node (one more, one less, one exchanged) or
      in a link (one more, one less), and stops where none is better. Rankings choose which changes are tried. For each
      structure the inner climb does the same with information nodes. Both minimise the cost. If that takes too long, they
      minimise the seconds, and then the cost plus the seconds times three prices about that at which both selections
      are as good; a last climb minimises the cost among the selections in time.

    It finds a local optimum, without a proven bound. ``python -m experiments clusters`` compares it with
    all selections of small clusters, and measures how its run time grows.

    Examples
    --------
    >>> import codedmap as cm
    >>> cluster = cm.topology.Cluster(
    ...     learning=[cm.topology.LearningNode("a", seconds=0.5, cost=2.0), cm.topology.LearningNode("b", seconds=0.9, cost=1.0)],
    ...     information=[cm.topology.InformationNode("i", samples=100), cm.topology.InformationNode("j", samples=400)],
    ...     links=[cm.topology.Link("a", "b", 0.1, 0.5), cm.topology.Link("i", "a"), cm.topology.Link("j", "b", 0.2, 0.3)],
    ...     error=cm.topology.ErrorModel(statistical=2.0, optimisation=1.0),
    ... )
    >>> plan = cm.topology.plan_cluster(cluster, error=0.1, seconds=300)
    >>> plan.learning, plan.information, plan.iterations, round(plan.cost, 1)
    (('b',), ('j',), 121, 157.3)
    """
    if not isinstance(cluster, Cluster):
        raise InvalidArgument(f"cluster={cluster!r} must be a Cluster")
    error = check_number("error", error, above=True)
    if seconds != np.inf:
        seconds = check_number("seconds", seconds, above=True)
    floor = cluster.error.floor
    if error <= floor:
        raise Unreachable(
            f"no selection reaches an error of {error:g}: whatever the nodes and the iterations, it stays "
            f"above the error model's floor of {floor:g}. Allow a larger error",
            error=floor,
            seconds=np.inf,
        )
    best, evaluated = _search(Problem(cluster, error), seconds)
    if np.isinf(best.iterations):
        raise Unreachable(
            f"no selection reaches an error of {error:g} within 1e15 iterations, for it is too near the error "
            f"model's floor of {floor:g}, or what is above that falls too slowly. Allow a larger error",
            error=floor,
            seconds=np.inf,
        )
    if throw and best.seconds > seconds:
        raise _too_slow(cluster, error, seconds, best, evaluated)
    return _plan_of(cluster, best, error, seconds, len(evaluated))


def _plan_of(
    cluster: Cluster, best: Selection, error: float, seconds: float, tried: int
) -> ClusterPlan:
    """The plan of a selection, with the names of its nodes and links."""
    structure, names = best.structure, [node.name for node in cluster.learning]
    sources = {node.name for node in cluster.information}
    fed = [
        (node.name, names[structure.nodes[at]])
        for node, at in zip(cluster.information, best.feeds.tolist(), strict=True)
        if at >= 0
    ]
    feeds = {frozenset(pair) for pair in fed}
    between = [link for link in cluster.links if not {link.first, link.second} & sources]
    return ClusterPlan(
        learning=tuple(names[node] for node in structure.nodes),
        information=tuple(source for source, _ in fed),
        links=tuple(between[number] for number in sorted(structure.links)),
        feeds=tuple(x for x in cluster.links if frozenset((x.first, x.second)) in feeds),
        iterations=int(best.iterations),
        error=float(cluster.error.error(best.samples, structure.gap, best.iterations)),
        error_target=error,
        seconds=float(best.seconds),
        seconds_target=seconds,
        cost=float(best.cost),
        samples=best.samples,
        gap=structure.gap,
        tried=tried,
    )


def _search(problem: Problem, seconds: float) -> tuple[Selection, list[Selection]]:
    """The cheapest selection in time, or if there is none the fastest; and all that were evaluated."""
    evaluated: list[Selection] = []

    def climb(objective: Objective, start: Selection | None = None) -> Selection:
        climb = Climb(problem, objective)
        if start is None:
            climb.climb_from_starts()
        else:
            climb.climb(climb.evaluated(start.structure.nodes, start.structure.links, start))
        evaluated.extend(climb.tried)
        return min(climb.tried, key=climb.value)

    def cheapest() -> Selection:
        in_time = [
            one for one in evaluated if one.seconds <= seconds and np.isfinite(one.iterations)
        ]
        return min(in_time, key=lambda one: (one.cost, one.seconds))

    cheap = climb(lambda cost, _: cost)
    if np.isinf(cheap.iterations):  # no selection reaches the error: all costs are infinite
        return cheap, evaluated
    if cheap.seconds > seconds:
        climb(lambda _, seconds: seconds)
        fast = min(evaluated, key=lambda one: (one.seconds, one.cost))
        if fast.seconds > seconds:
            return fast, evaluated
        # Above this price of a second the fast selection has the lower objective of the two.
        price = (fast.cost - cheap.cost) / (cheap.seconds - fast.seconds)
        for share in _PRICES if price > 0.0 else ():
            climb(_priced(share * price))
    climb(lambda cost, took: np.where(took <= seconds, cost, np.inf), cheapest())
    return cheapest(), evaluated


def _priced(price: float) -> Objective:
    return lambda cost, seconds: cost + price * seconds


def _too_slow(
    cluster: Cluster, error: float, seconds: float, fast: Selection, evaluated: list[Selection]
) -> Unreachable:
    least = np.inf  # error of any selection after as many iterations as the time allows
    for one in evaluated:
        each = one.iteration_seconds
        count = np.floor(seconds / each) if each else np.inf
        if 1.0 <= count < np.inf:
            least = min(least, cluster.error.error(one.samples, one.structure.gap, count))
    fewest = min(one.iteration_seconds for one in evaluated)
    in_time = (
        f"the smallest error found within that time is {least:.3g}"
        if np.isfinite(least)
        else f"and even one iteration takes at least {fewest:.3g} s"
    )
    return Unreachable(
        f"no selection was found that reaches an error of {error:g} within {seconds:g} s: the fastest "
        f"of {len(evaluated):,} that were evaluated takes {fast.seconds:.4g} s ({fast.iterations:,.0f} iterations "
        f"of {fast.iteration_seconds:.3g} s), {in_time}. Allow more time or a larger error, or give the cluster more",
        error=float(least),
        seconds=float(fast.seconds),
    )
