"""A cluster as data: learning nodes, information nodes, links between them, and how the error of learning falls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy

from ..contracts.arguments import set_numbers
from ..errors import InvalidArgument, many

_MOST = 1e15  # iterations: larger numbers are not exact in floating point, and count as infinite


def _check_node(node: Any, what: str, *amounts: str) -> None:
    if not isinstance(node.name, str) or not node.name:
        raise InvalidArgument(f"the name of {what} must be a text that is not empty: {node.name!r}")
    set_numbers(node, *amounts, of=f"{what} {node.name}: ")


@dataclass(frozen=True, slots=True)
class LearningNode:
    """A node that computes on samples in each iteration, and then averages its model with its neighbours.

    Parameters
    ----------
    name : str
    seconds : float
        Computing time of an iteration, independent of the samples.
    cost : float
        Cost of one iteration; all costs have one unit.
    seconds_per_sample : float
        Additional computing time for each sample.
    jitter : float
        Mean, in seconds, of an additional exponential delay, drawn independently in each iteration.
    samples : float
        Its own new samples in each iteration.
    """

    name: str
    seconds: float
    cost: float = 0.0
    seconds_per_sample: float = 0.0
    jitter: float = 0.0
    samples: float = 0.0

    def __post_init__(self) -> None:
        amounts = ("seconds", "cost", "seconds_per_sample", "jitter", "samples")
        _check_node(self, "learning node", *amounts)


@dataclass(frozen=True, slots=True)
class InformationNode:
    """A node that feeds samples to one learning node.

    Parameters
    ----------
    name : str
    samples : float
        New samples in each iteration.
    cost : float
        Cost of feeding them in one iteration.
    """

    name: str
    samples: float
    cost: float = 0.0

    def __post_init__(self) -> None:
        _check_node(self, "information node", "samples", "cost")


@dataclass(frozen=True, slots=True)
class Link:
    """A possible connection of two nodes, at least one of them a learning node.

    Parameters
    ----------
    first, second : str
        The nodes' names, in any order.
    seconds : float
        Time of an exchange in one iteration: of models between two learning nodes, of samples from an
        information node.
    cost : float
        Cost of using it in one iteration.
    """

    first: str
    second: str
    seconds: float = 0.0
    cost: float = 0.0

    def __post_init__(self) -> None:
        set_numbers(self, "seconds", "cost", of=f"link {self}: ")

    def __str__(self) -> str:
        return f"{self.first}-{self.second}"


@dataclass(frozen=True, slots=True)
class ErrorModel:
    """The error after a number of iterations, in the unit of the error target.

    ::

        floor + statistical · (iterations · samples)^-exponent + optimisation / √(gap · iterations)

    The first term remains however long the nodes learn. The second falls with the number of all samples
    seen so far, as learning curves do; ``samples`` is what the cluster takes in during one iteration. The
    third falls with the iterations, more slowly if the learning nodes are badly connected: ``gap`` is the
    spectral gap of their averaging matrix, 1 for a single node and for a complete graph. Its form is that
    of the bound on distributed dual averaging of Duchi, Agarwal and Wainwright (2012), without its logarithm.
    Fit the parameters to a few runs of your own; none is universal.

    Parameters
    ----------
    floor : float
        At least 0.
    statistical : float
        The second term after one sample.
    exponent : float
        Above 0; 1/2 for means over independent samples.
    optimisation : float
        The third term after one iteration at a gap of 1.
    """

    floor: float = 0.0
    statistical: float = 1.0
    exponent: float = 0.5
    optimisation: float = 1.0

    def __post_init__(self) -> None:
        set_numbers(self, "floor", "statistical", "optimisation")
        set_numbers(self, "exponent", above=True)

    def error(self, samples: Any, gap: float, iterations: Any) -> Any:
        """The error with this many samples in an iteration, at this gap, after this many iterations."""
        with np.errstate(divide="ignore", invalid="ignore"):
            seen = np.asarray(iterations, float) * samples
            first = self.statistical * seen**-self.exponent if self.statistical else 0.0 * seen
            value = self.floor + first + self.optimisation / np.sqrt(gap * iterations)
        return float(value) if np.ndim(value) == 0 else value

    def iterations(self, target: float, samples: np.ndarray, gap: float) -> np.ndarray:
        """The fewest whole iterations to an error of at most ``target``, by samples; infinite if never."""
        samples = np.asarray(samples, float)
        found = np.full(samples.shape, np.inf)
        most = target * (1.0 + 1e-12)  # rounding must not add an iteration
        if target <= self.floor or gap <= 0.0:
            return found
        able = self.error(samples, gap, _MOST) <= most
        samples = samples[able]
        low, high = np.zeros(len(samples)), np.ones(len(samples))
        while (short := self.error(samples, gap, high) > most).any():
            low, high = np.where(short, high, low), np.where(short, 32.0 * high, high)
        while (high - low > 1.0).any():
            middle = np.floor((low + high) / 2.0)
            enough = self.error(samples, gap, middle) <= most
            low, high = np.where(enough, low, middle), np.where(enough, middle, high)
        found[able] = high
        return found


@dataclass(frozen=True, slots=True)
class Cluster:
    """The nodes and links that `plan_cluster` chooses from.

    Parameters
    ----------
    learning : sequence of LearningNode
    information : sequence of InformationNode
    links : sequence of Link
        They must connect all learning nodes, and each information node with some learning node.
    error : ErrorModel
    """

    learning: tuple[LearningNode, ...]
    information: tuple[InformationNode, ...] = ()
    links: tuple[Link, ...] = ()
    error: ErrorModel = field(default_factory=ErrorModel)

    def __post_init__(self) -> None:
        kinds = {"learning": LearningNode, "information": InformationNode, "links": Link}
        for name, kind in kinds.items():
            object.__setattr__(self, name, _all_of(name, kind, getattr(self, name)))
        if not isinstance(self.error, ErrorModel):
            raise InvalidArgument(f"error={self.error!r} must be an ErrorModel")
        if not self.learning:
            raise InvalidArgument(
                "a cluster without a learning node cannot learn: give at least one"
            )
        self._check_names()
        self._check_links()
        self._check_connected()
        samples = [node.samples for node in self.learning]
        samples += [node.samples for node in self.information]
        if self.error.statistical and not any(samples):
            raise InvalidArgument(
                "no node has any samples: give some to information nodes, or to learning nodes of their own"
            )

    def _check_names(self) -> None:
        names = [node.name for node in self.learning] + [node.name for node in self.information]
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        if twice:
            raise InvalidArgument(
                f"more than one node has each of {many(len(twice), 'name')} ({joined(twice)}): rename all but one"
            )

    def _check_links(self) -> None:
        learning = {node.name for node in self.learning}
        information = {node.name for node in self.information}
        seen = set()
        for link in self.links:
            ends = link.first, link.second
            unknown = [name for name in ends if name not in learning | information]
            if unknown:
                raise InvalidArgument(
                    f"link {link} names {unknown[0]!r}, which is not a node of this cluster: it has "
                    f"{joined(sorted(learning | information))}"
                )
            if link.first == link.second:
                raise InvalidArgument(f"link {link} connects a node with itself: leave it out")
            if not learning & set(ends):
                raise InvalidArgument(
                    f"link {link} connects two information nodes, which exchange nothing: leave it out"
                )
            if frozenset(ends) in seen:
                raise InvalidArgument(f"link {link} is given twice: keep one of them")
            seen.add(frozenset(ends))

    def _check_connected(self) -> None:
        number = {node.name: at for at, node in enumerate(self.learning)}
        linked_pairs = np.zeros((len(number), len(number)), dtype=bool)
        linked = set()
        for link in self.links:
            linked |= {link.first, link.second}
            if link.first in number and link.second in number:
                linked_pairs[number[link.first], number[link.second]] = True
        part = scipy.sparse.csgraph.connected_components(linked_pairs, directed=False)[1]
        apart = sorted(name for name, at in number.items() if part[at] != part[0])
        if apart:
            raise InvalidArgument(
                f"the links leave {len(apart)} of {len(number)} learning nodes unconnected with "
                f"{self.learning[0].name} ({joined(apart)}): add links, or plan for each connected part by itself"
            )
        alone = [node.name for node in self.information if node.name not in linked]
        if alone:
            raise InvalidArgument(
                f"{many(len(alone), 'information node')} without a link to a learning node ({joined(alone)}): add one "
                "for each, or leave it out"
            )


def _all_of(name: str, kind: type, given: Any) -> tuple[Any, ...]:
    single = isinstance(given, kind) or getattr(given, "ndim", 1) == 0  # an array without axes
    if single or not isinstance(given, Iterable):
        raise InvalidArgument(f"{name}={given!r} must be a sequence of {kind.__name__}")
    values = tuple(given)
    for value in values:
        if not isinstance(value, kind):
            raise InvalidArgument(f"{name} holds {value!r}, instead of {kind.__name__}")
    return values


def joined(items: Collection[object]) -> str:
    """The items for a message, the first ones if there are many."""
    shown = ", ".join(map(str, list(items)[:6]))
    return shown + (f" and {len(items) - 6} more" if len(items) > 6 else "")
