"""A cluster as data: learning nodes, information nodes, and links between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy

from ..contracts.arguments import set_numbers
from ..errors import InvalidArgument
from .error import ErrorModel


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
        Of one iteration, in the unit of all costs.
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
        Of feeding them, in one iteration.
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
        Of its use in one iteration.
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
                f"{len(twice)} names belong to more than one node: {joined(twice)}"
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
                    f"link {link} names {unknown[0]!r}, which is no node of this cluster: it has "
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
        place = {node.name: at for at, node in enumerate(self.learning)}
        near = np.zeros((len(place), len(place)), dtype=bool)
        linked = set()
        for link in self.links:
            linked |= {link.first, link.second}
            if link.first in place and link.second in place:
                near[place[link.first], place[link.second]] = True
        part = scipy.sparse.csgraph.connected_components(near, directed=False)[1]
        apart = sorted(name for name, at in place.items() if part[at] != part[0])
        if apart:
            raise InvalidArgument(
                f"the links leave {len(apart)} of {len(place)} learning nodes unconnected with "
                f"{self.learning[0].name} ({joined(apart)}): add links, or plan for each connected part by itself"
            )
        alone = [node.name for node in self.information if node.name not in linked]
        if alone:
            raise InvalidArgument(
                f"{len(alone)} information nodes have no link to a learning node ({joined(alone)}): add one, "
                "or leave them out"
            )


def _all_of(name: str, kind: type, given: Any) -> tuple[Any, ...]:
    single = isinstance(given, kind) or getattr(given, "ndim", 1) == 0  # an array of no axis
    if single or not isinstance(given, Iterable):
        raise InvalidArgument(f"{name}={given!r} must be a sequence of {kind.__name__}")
    values = tuple(given)
    for value in values:
        if not isinstance(value, kind):
            raise InvalidArgument(f"{name} holds {value!r}, which is no {kind.__name__}")
    return values


def joined(items: Collection[object]) -> str:
    """The items for a message, the first ones if there are many."""
    shown = ", ".join(map(str, list(items)[:6]))
    return shown + (f" and {len(items) - 6} more" if len(items) > 6 else "")
