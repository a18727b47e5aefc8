"""A cluster as data: nodes that learn, nodes that give samples, links between them, with units."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ..errors import InvalidArgument
from .error import ErrorModel, check_amount

__all__ = ["Cluster", "InformationNode", "LearningNode", "Link"]


def _checked(node: Any, what: str, amounts: tuple[str, ...]) -> None:
    if not isinstance(node.name, str) or not node.name:
        raise InvalidArgument(f"the name of {what} must be a text that is not empty: {node.name!r}")
    for name in amounts:
        value = check_amount(f"{what} {node.name}: {name}", getattr(node, name))
        object.__setattr__(node, name, value)


@dataclass(frozen=True, slots=True)
class LearningNode:
    """A node that computes: in each iteration on the samples it gets, and then averages with its neighbours.

    Parameters
    ----------
    name : str
    seconds : float
        Of computing in an iteration, whatever the samples.
    cost : float
        Of taking part in one iteration, in any unit that all costs share.
    seconds_per_sample : float
        Of computing, on top.
    jitter : float
        Mean, in seconds, of an exponentially distributed delay on top of that, drawn in each
        iteration anew.
    samples : float
        Of its own, new ones in each iteration.
    """

    name: str
    seconds: float
    cost: float = 0.0
    seconds_per_sample: float = 0.0
    jitter: float = 0.0
    samples: float = 0.0

    def __post_init__(self) -> None:
        amounts = ("seconds", "cost", "seconds_per_sample", "jitter", "samples")
        _checked(self, "learning node", amounts)


@dataclass(frozen=True, slots=True)
class InformationNode:
    """A node that gives samples, to one learning node.

    Parameters
    ----------
    name : str
    samples : float
        New ones in each iteration.
    cost : float
        Of giving them, an iteration.
    """

    name: str
    samples: float
    cost: float = 0.0

    def __post_init__(self) -> None:
        _checked(self, "information node", ("samples", "cost"))


@dataclass(frozen=True, slots=True)
class Link:
    """Two nodes that may be connected, at least one of them a learning node.

    Parameters
    ----------
    first, second : str
        Their names, in any order.
    seconds : float
        That an exchange over it takes in an iteration: of models between two learning nodes, of samples
        from an information node.
    cost : float
        Of using it in one iteration.
    """

    first: str
    second: str
    seconds: float = 0.0
    cost: float = 0.0

    def __post_init__(self) -> None:
        for name in ("seconds", "cost"):
            value = check_amount(f"link {self.first}-{self.second}: {name}", getattr(self, name))
            object.__setattr__(self, name, value)

    def __str__(self) -> str:
        return f"{self.first}-{self.second}"


@dataclass(frozen=True, slots=True)
class Cluster:
    """What `plan_cluster` chooses from.

    Parameters
    ----------
    learning : sequence of LearningNode
    information : sequence of InformationNode
    links : sequence of Link
        That may be used. All learning nodes have to be connected by them, and each information node with
        some learning node.
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
            raise InvalidArgument(f"{len(twice)} names stand for more than one node: {_few(twice)}")

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
                    f"{_few(sorted(learning | information))}"
                )
            if link.first == link.second:
                raise InvalidArgument(f"link {link} connects a node with itself: leave it out")
            if not learning & set(ends):
                raise InvalidArgument(
                    f"link {link} connects two information nodes, which have nothing to exchange: "
                    "leave it out"
                )
            if frozenset(ends) in seen:
                raise InvalidArgument(f"link {link} is there twice: keep the one that is meant")
            seen.add(frozenset(ends))

    def _check_connected(self) -> None:
        learning = {node.name for node in self.learning}
        near: dict[str, set[str]] = {name: set() for name in learning}
        fed = set()
        for link in self.links:
            if link.first in learning and link.second in learning:
                near[link.first].add(link.second)
                near[link.second].add(link.first)
            fed |= {link.first, link.second} - learning
        reached, ahead = set(), [self.learning[0].name]
        while ahead:
            name = ahead.pop()
            if name not in reached:
                reached.add(name)
                ahead += near[name]
        if learning - reached:
            raise InvalidArgument(
                f"the links leave {len(learning - reached)} of {len(learning)} learning nodes unconnected "
                f"with {self.learning[0].name} ({_few(sorted(learning - reached))}): add links, or plan for "
                "each connected part by itself"
            )
        alone = [node.name for node in self.information if node.name not in fed]
        if alone:
            raise InvalidArgument(
                f"{len(alone)} information nodes have no link to a learning node ({_few(alone)}): add one, "
                "or leave them out"
            )


def _all_of(name: str, kind: type, given: Any) -> tuple[Any, ...]:
    if isinstance(given, kind) or not isinstance(given, Iterable):
        raise InvalidArgument(f"{name}={given!r} must be a sequence of {kind.__name__}")
    values = tuple(given)
    for value in values:
        if not isinstance(value, kind):
            raise InvalidArgument(f"{name} holds {value!r}, which is no {kind.__name__}")
    return values


def _few(names: Any) -> str:
    shown = list(names)
    return ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")
