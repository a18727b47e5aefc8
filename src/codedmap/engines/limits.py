"""What each call needs of its worker."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..contracts.arguments import is_real
from ..errors import InvalidArgument


@dataclass(frozen=True)
class Limits:
    """What each call needs of its worker, which runs one call at a time.

    * `Dask` uses only workers with enough of the resource ``GPU`` and of those named in ``licences``, and a memory limit
      that is large enough; the task of a call takes these resources while it runs.
    * `Ray` reserves all of them for each actor.
    * `Local` limits memory, on Linux: a call that allocates more fails with ``MemoryError``. It refuses other limits.

    Parameters
    ----------
    gpu : float
        How many GPUs; 0.5 is half of one.
    memory : int or str, optional
        Bytes, or a size such as ``"4 GB"`` or ``"512 MiB"``. Inputs and answers of a call of several rows take a quarter of
        it at most.
    licences : mapping of str to float
        How many of each resource of the cluster, by its name there, such as ``{"matlab": 1}``.

    Raises
    ------
    InvalidArgument
        If a number or a size cannot be used.

    Examples
    --------
    >>> import codedmap as cm
    >>> cm.Limits(memory="4 GB", licences={"matlab": 1}).resources
    {'matlab': 1}
    """

    gpu: float = 0
    memory: int | str | None = None
    licences: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.memory, str):
            object.__setattr__(self, "memory", _bytes(self.memory))
        if not isinstance(self.licences, Mapping):
            raise InvalidArgument(
                f'licences={self.licences!r} is not a mapping: give one such as {{"matlab": 1}}'
            )
        needs: Any = [("gpu", self.gpu), ("memory", self.memory or 0), *self.licences.items()]
        for what, need in needs:
            if not is_real(need) or not 0 <= need < float("inf"):
                raise InvalidArgument(
                    f"a call cannot need {need!r} of {what}: give a number, at least 0"
                )

    @property
    def resources(self) -> dict[str, float]:
        """All that is needed except memory, by the names that Dask and Ray use."""
        needs = {"GPU": self.gpu, **self.licences}
        return {what: need for what, need in needs.items() if need}

    @property
    def bytes(self) -> int | None:
        """Bytes of memory; None: no limit."""
        return int(self.memory) if self.memory else None


def checked_limits(limits: Any) -> Limits:
    """The argument of an engine; raises `InvalidArgument` if it is neither `Limits` nor None."""
    if limits is None:
        return Limits()
    if isinstance(limits, Limits):
        return limits
    raise InvalidArgument(
        f'limits={limits!r:.80} must be codedmap.Limits, such as Limits(memory="4 GB"), or None'
    )


def _bytes(size: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?) *([KMGT]?I?B)", size.strip().upper())
    if found is None:
        raise InvalidArgument(
            f'memory={size!r} is not a size: give bytes, or text such as "4 GB" or "512 MiB"'
        )
    number, unit = found.groups()
    base = 1024 if "I" in unit else 1000
    return int(float(number) * base ** " KMGT".index(unit[0].replace("B", " ")))
