"""Which nodes should learn together, and for how long, at least cost?"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from ..errors import InvalidArgument, Unreachable
from .cluster import Cluster
from .error import check_amount
from .inner import Merit
from .outer import Climb
from .selection import Measured, Numbers
from .table import ClusterPlan

__all__ = ["plan_cluster"]

_PRICES = 4
"""Prices of a second that are tried between none and one at which the time is short enough."""


def plan_cluster(
    cluster: Cluster, *, error: float, seconds: float, throw: bool = True
) -> ClusterPlan:
    r"""Choose nodes, links and iterations such that error and time targets hold at little cost.

    Of the learning nodes some cooperate: in each iteration each of them computes on the samples it
    gets, and averages what it has learned with its neighbours. Of the information nodes some each
    feed samples to one of these. The plan says which, and how many iterations they take.

    Parameters
    ----------
    cluster : Cluster
    error : float
        The largest expected error that will do, by the cluster's `ErrorModel`.
    seconds : float
        The longest expected time of all iterations together; infinite if it does not matter.
    throw : bool
        Whether to raise where the targets are not met. If False, the best that was found is returned,
        which reaches the error in the least time; `ClusterPlan.in_time` is False then.

    Returns
    -------
    ClusterPlan
        Print it.

    Raises
    ------
    InvalidArgument
        If an argument cannot work.
    Unreachable
        If the error is below the floor that no number of iterations gets under, also with
        ``throw=False``; or if no selection was found that meets both targets. It tells the best
        values.

    Notes
    -----
    After DoubleClimb of Malandrino, Chiasserini, Molner and de la Oliva (arXiv 2102.03394, IEEE/ACM
    Transactions on Networking 2022).

    *The paper's*, by its abstract: learning nodes and information nodes; the task, to choose which of them
    cooperate and the number of iterations, at least cost under a target error and a target time; and the
    statement that its algorithm is 1 + 1/\|I\| competitive, with I the information nodes, in cubic time at
    worst. *By summaries of the paper, not checked*: that it is two nested climbs, an outer one over
    links between learning nodes and an inner one over links from information nodes. *Ours*, because the
    paper's formulas and steps were not at hand, and so no part of what it proves:

    - the `ErrorModel`, and that samples of one information node count once, so that it feeds one node;
    - the time of an iteration: a learning node waits for its slowest source, then computes; the expected
      slowest of them, and after that the slowest link between two, make the iteration;
    - the averaging matrix: Metropolis weights, link share 1 / (1 + the larger degree of its ends);
    - the steps. The outer climb goes from single learning nodes, and from all with a spanning tree, to the best
      of structures that differ in a node or a link (one more, one less, one exchanged, or an eighth more), and
      stops where none is better; the most promising changes by a few rankings are tried. For each structure
      the inner climb does the same with information nodes. What they make small is the cost plus a price
      times the seconds. The price is 0 first, and if that takes too long, the least is sought by halving
      at which it does not; a last climb makes the cost small among those in time.

    It finds a local optimum, and there is no proof of a bound for it. ``python -m experiments clusters``
    compares it with all selections of small clusters, and measures how its time grows.

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
    error = check_amount("error", error, above=True)
    if seconds != np.inf:
        seconds = check_amount("seconds", seconds, above=True)
    numbers = Numbers(cluster, error)
    if error <= cluster.error.floor:
        raise Unreachable(
            f"no selection reaches an error of {error:g}: whatever the nodes and the iterations, it stays "
            f"above the error model's floor of {cluster.error.floor:g}. Allow a larger error",
            error=cluster.error.floor,
            seconds=np.inf,
        )
    found, looked = _found(numbers, seconds)
    if np.isinf(found.iterations):
        raise Unreachable(
            f"no selection reaches an error of {error:g} within 1e15 iterations, for it is too near the error "
            f"model's floor of {cluster.error.floor:g}, or what is above that falls too slowly. Allow a larger "
            "error",
            error=cluster.error.floor,
            seconds=np.inf,
        )
    if throw and found.seconds > seconds:
        raise _too_slow(cluster, error, seconds, found, looked)
    return ClusterPlan.of(cluster, found, error, seconds, len(looked))


def _found(numbers: Numbers, seconds: float) -> tuple[Measured, list[Measured]]:
    """The cheapest selection in time, or if there is none the fastest, and all that were looked at."""
    looked: list[Measured] = []

    def climbed(merit: Merit, start: Measured | None = None) -> Measured:
        climb = Climb(numbers, merit)
        if start is None:
            climb.from_starts()
        else:
            climb.on_from(start)
        looked.extend(climb.tried)
        return min(climb.tried, key=climb.value)

    cheap = climbed(lambda cost, _: cost)
    if np.isinf(cheap.iterations):  # then none reaches the error, since its cost is infinite too
        return cheap, looked
    if cheap.seconds > seconds:
        climbed(lambda _, seconds: seconds)
        if not _in_time(looked, seconds):
            return _fastest(looked), looked
        _between(climbed, cheap, _fastest(looked), seconds)
    best = _cheapest(looked, seconds)
    for _ in range(_PRICES):
        climbed(lambda cost, took: np.where(took <= seconds, cost, np.inf), best)
        then = _cheapest(looked, seconds)
        if then.cost >= best.cost:
            break
        best = then
    return best, looked


def _between(
    climbed: Callable[[Merit], Measured], cheap: Measured, fast: Measured, seconds: float
) -> None:
    """Climb at several prices of a second, ever nearer to the least at which the time is kept."""
    # Beyond this price the fast selection is the better of the two.
    price = (fast.cost - cheap.cost) / max(cheap.seconds - fast.seconds, 1e-300)
    low, high = 0.0, np.inf
    for _ in range(_PRICES):
        if price <= 0.0 or not np.isfinite(price):
            return
        then = climbed(_priced(price))
        if then.seconds <= seconds:
            high = price
        else:
            low = price
        price = 4.0 * low if np.isinf(high) else (low + high) / 2.0 if low else high / 4.0


def _priced(price: float) -> Merit:
    return lambda cost, seconds: cost + price * seconds


def _in_time(looked: Iterable[Measured], seconds: float) -> list[Measured]:
    return [one for one in looked if one.seconds <= seconds and np.isfinite(one.iterations)]


def _cheapest(looked: list[Measured], seconds: float) -> Measured:
    return min(_in_time(looked, seconds), key=lambda one: (one.cost, one.seconds))


def _fastest(looked: list[Measured]) -> Measured:
    return min(looked, key=lambda one: (one.seconds, one.cost))


def _too_slow(
    cluster: Cluster, error: float, seconds: float, fast: Measured, looked: list[Measured]
) -> Unreachable:
    # What could be had in the time: a few iterations fewer, of all that were looked at.
    least = np.inf
    for one in looked:
        count = np.floor(seconds / one.each) if one.each else np.inf
        if 1.0 <= count < np.inf:
            least = min(least, cluster.error.error(one.samples, one.structure.gap, count))
    fewest = min(one.each for one in looked)
    could = (
        f"the smallest error found within that time is {least:.3g}"
        if np.isfinite(least)
        else f"and even one iteration takes at least {fewest:.3g} s"
    )
    return Unreachable(
        f"no selection was found that reaches an error of {error:g} within {seconds:g} s: the fastest "
        f"of {len(looked):,} that were looked at takes {fast.seconds:.4g} s ({fast.iterations:,.0f} iterations of "
        f"{fast.each:.3g} s), {could}. Allow more time or a larger error, or give the cluster more",
        error=float(least),
        seconds=float(fast.seconds),
    )
