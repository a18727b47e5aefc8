"""Which worker each slot gets, so that slots which are lost together are not neighbours.

A worker's *domain* says which workers fail together: a tuple of names from the widest group to the
narrowest, such as ``("rack 1", "host 7")``. Codes lose most where neighbouring slots are lost
together, so neighbours get different racks wherever possible, else different hosts.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence

__all__ = ["Domain", "as_domain", "clashes", "spread"]

Domain = tuple[Hashable, ...]
_Path = tuple[Hashable, ...]


def as_domain(name: Hashable) -> Domain:
    """A domain of one or more levels."""
    return name if isinstance(name, tuple) else (name,)


def spread(domains: Sequence[Domain], slots: int) -> list[int]:
    """The worker of each slot, as an index into ``domains``.

    Every worker gets as many slots as any other, or one more. If there are more workers than
    slots, those are used that make the domains as even as possible. Of neighbouring slots, as few
    as possible share the widest level of their domain, and a domain's slots are spread evenly.

    Parameters
    ----------
    domains : sequence of tuple
        One for each worker.
    slots : int
        How many to place.
    """
    rounds, rest = divmod(slots, len(domains))
    depth = max(map(len, domains))
    paths = [(*domain, *[None] * (depth - len(domain)), k) for k, domain in enumerate(domains)]
    some = [path for path, _ in zip(_take_turns(paths), range(rest), strict=False)]
    return [int(path[-1]) for path in _interleave(paths * rounds + some, 0)]  # type: ignore[call-overload]


def clashes(slot: int, domain: Domain, placed: Mapping[int, Domain]) -> int:
    """How many levels this domain would share with those of the two neighbours of a slot."""
    shared = 0
    for neighbour in (slot - 1, slot + 1):
        for mine, other in zip(domain, placed.get(neighbour, ()), strict=False):
            if mine != other:
                break
            shared += 1
    return shared


def _take_turns(paths: Sequence[_Path]) -> Iterator[_Path]:
    """One of each group in turn, and within each group likewise."""
    waiting = [
        iter(group) if len(group) == 1 else _below(group) for group in _group(paths, 0).values()
    ]
    while waiting:
        for turn in tuple(waiting):
            path = next(turn, None)
            if path is None:
                waiting.remove(turn)
            else:
                yield path


def _below(group: Sequence[_Path]) -> Iterator[_Path]:
    for path in _take_turns([path[1:] for path in group]):
        yield (group[0][0], *path)


def _interleave(paths: Sequence[_Path], level: int) -> list[_Path]:
    groups = _group(paths, level)
    if level == len(paths[0]) - 1:
        return _merge(list(groups.values()))
    return _merge([_interleave(group, level + 1) for group in groups.values()])


def _merge(groups: list[list[_Path]]) -> list[_Path]:
    """The groups' members in their order, each group spread evenly, with as few repetitions as possible.

    Smooth weighted round robin: at every step each group's credit grows by its size, and the group
    with the most credit is next. A group with more than half of the remaining members goes first,
    because it would otherwise have to follow itself later; it may follow itself.
    """
    left = [len(group) for group in groups]
    total = sum(left)
    credit = [0] * len(groups)
    last, order = -1, []
    for remaining in range(total, 0, -1):
        for k, group in enumerate(groups):
            credit[k] += len(group)
        large = [k for k, count in enumerate(left) if 2 * count > remaining]
        others = [k for k, count in enumerate(left) if count and k != last]
        eligible = large if large and large != [last] else others + large
        last = max(eligible, key=lambda k: (credit[k], -k))
        credit[last] -= total
        order.append(groups[last][len(groups[last]) - left[last]])
        left[last] -= 1
    return order


def _group(paths: Sequence[_Path], level: int) -> dict[Hashable, list[_Path]]:
    groups: dict[Hashable, list[_Path]] = {}
    for path in paths:
        groups.setdefault(path[level], []).append(path)
    return groups
