"""Groups solved a few at a time, and what can be used again of it kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from ..contracts.memory import check_room
from .geometry import Geometry
from .known import Known
from .observations import Heard, centred
from .process import Prior
from .regression import Regression, regression

__all__ = ["WORKING", "Part", "Solver"]

WORKING = 6 << 20
"""Numbers held at a time: 48 MB."""
_KEPT = 16 << 20
"""Numbers in operators kept for the next decoding: 128 MB."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Some groups, solved."""

    process: Regression
    solved: tuple[np.ndarray, np.ndarray, np.ndarray]
    operator: np.ndarray
    variance: np.ndarray

    @property
    def size(self) -> int:
        return self.process.covariance.size * 2 + self.operator.size * 2


@dataclass(slots=True, eq=False)
class Solver:
    """Regressions on groups of K tasks.

    Parameters
    ----------
    geometry : Geometry
    known : Known or None
    """

    geometry: Geometry
    known: Known | None
    _parts: dict[object, Part] = field(default_factory=dict)

    def part(
        self, heard: Heard, groups: slice, used: np.ndarray, tasks: np.ndarray, prior: Prior
    ) -> Part:
        """Some groups solved; kept if every answer is used, so that the next wave need not."""
        mask = used[:, groups].T
        whole = bool(mask.all())
        key = (heard.slots.tobytes(), tasks.tobytes(), groups.start, groups.stop, prior)
        if whole and key in self._parts:
            return self._parts[key]
        process = regression(
            self.geometry.layout(heard.slots, groups),
            prior,
            self.known.under(prior) if self.known else None,
        )
        solved = process.solved(mask)
        part = Part(process, solved, *process.operator(tasks, mask, solved))
        if whole:
            if sum(other.size for other in self._parts.values()) + part.size > _KEPT:
                self._parts.clear()
            self._parts[key] = part
        return part

    def rest(
        self, heard: Heard, groups: slice, process: Regression, used: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Answers (B, F, columns) less what is expected of them, 0 where not used; and the mean of a
        group, which is what is expected if nothing is known.
        """
        rest, mask = heard.real(groups), used[:, groups].T
        if process.at_payloads is None:
            return centred(rest, mask)
        rest -= process.at_payloads
        return np.where(mask[:, :, None], rest, 0.0), np.zeros(1)

    def chunks(self, heard: Heard, tasks: int) -> Iterator[slice]:
        """All groups, as many at a time as there is room to work."""
        answers, groups = heard.used.shape
        size = self.geometry.inputs.shape[0] + answers
        each = 6 * answers * size + 4 * (answers + tasks) * heard.columns
        if self.known is not None:
            each += 3 * size * len(self.known)
        check_room(
            3 * 8 * answers * size,
            f"covariances of {answers} answers and {size - answers} tasks in a group",
            "Use fewer tasks and workers a group, or SplineCode, whose memory grows with their sum",
        )
        many = max(1, WORKING // each)
        for start in range(0, groups, many):
            yield slice(start, min(groups, start + many))
