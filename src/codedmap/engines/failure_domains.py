"""Failure domains of workers, and an order of workers in which neighbours are in different domains.

A worker's *domain* says which workers fail together: a name, or a tuple of names from the widest group to the
narrowest, such as ``("rack 1", "host 7")``.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

from ..errors import InvalidArgument

Domains = Mapping[Any, Hashable] | Callable[[Mapping[str, Any]], Hashable]


def check_domains(domains: Domains | None, keys: str, entry: str) -> None:
    """Raise `InvalidArgument` if these are neither a mapping nor a function nor None."""
    if not (domains is None or callable(domains) or isinstance(domains, Mapping)):
        raise InvalidArgument(
            f"failure_domains={domains!r:.80} must be a mapping from {keys}, or a function of {entry}"
        )


def domain_of(
    worker: str,
    domains: Domains | None,
    names: Mapping[str, Hashable],
    info: Mapping[str, Any],
    default: Hashable,
    *,
    late: bool = False,
) -> Hashable:
    """The domain of a worker that has several names, such as that of its host.

    Raises `InvalidArgument` if none of the names is in the mapping; with ``late`` the worker then has the default.
    """
    if late:
        with contextlib.suppress(Exception):
            return domain_of(worker, domains, names, info, default)
        return default
    if domains is None:
        return default
    if callable(domains):
        return domains(info)
    for name in names.values():
        if name in domains:
            return domains[name]
    known = " or ".join(f"its {what} {name!r}" for what, name in names.items())
    raise InvalidArgument(
        f"failure_domains has no entry for the worker {worker}: add one for {known}"
    )


def spread(domains: Sequence[Hashable]) -> list[int]:
    """An order of workers, as indices into their domains.

    As few neighbours as possible share the widest level of their domain, and the workers of a domain are spread evenly.
    The same holds for the narrower levels within a domain.
    """
    paths = [domain if isinstance(domain, tuple) else (domain,) for domain in domains]
    depth = max(map(len, paths), default=0)

    def interleaved(workers: Iterable[int], level: int) -> list[int]:
        if level == depth:
            return list(workers)
        groups: defaultdict[tuple[Hashable, ...], list[int]] = defaultdict(list)
        for worker in workers:
            groups[paths[worker][level : level + 1]].append(worker)  # () has no name at this level
        return _merge([interleaved(group, level + 1) for group in groups.values()])

    return interleaved(range(len(paths)), 0)


def _merge(groups: list[list[int]]) -> list[int]:
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
