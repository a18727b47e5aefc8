"""The base of codes that draw a curve through the inputs: bounded payloads, and tasks along a path."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from ..coding.ordering import along_paths
from ..coding.precision import MOST_ANSWERS, Precision, curve_precision, windows
from ..contracts.arguments import is_real
from ..contracts.code import check_budget
from ..errors import InvalidArgument
from .linear import LinearCode, LinearEncoding

Order = Literal["path"]


class CurveCode(LinearCode):
    """A code that encodes by a curve through the inputs, and decodes by one through the answers."""

    clip: tuple[float, float] | None
    order: Order | None

    def __post_init__(self) -> None:
        check_budget(self.tasks, self.workers, self.stragglers)
        if self.clip is not None:
            pair = isinstance(self.clip, tuple) and len(self.clip) == 2
            if not pair or not all(map(is_real, self.clip)) or not self.clip[0] < self.clip[1]:
                raise InvalidArgument(
                    f"clip={self.clip!r} must be a tuple (low, high) of numbers, with low < high"
                )
        if self.order is not None and not (isinstance(self.order, str) and self.order == "path"):
            raise InvalidArgument(
                f'order={self.order!r} is not known: choose "path", which lays the curve along a short path '
                "through the inputs, or None, which takes them as they are given"
            )

    def arranged(self, rows: np.ndarray) -> np.ndarray | None:
        """With ``order``, the order of rows (m, *x) in which neighbours share a group, along a short path."""
        if self.order is None or rows.dtype.kind not in "fc":
            return None
        return along_paths(rows, self.tasks)

    def encode(self, inputs: np.ndarray) -> LinearEncoding:
        """Encode B groups of K tasks, (K, B, *x), in the order given; see `LinearCode.encode`."""
        encoding = super().encode(inputs)
        if self.clip is None:
            return encoding
        if inputs.dtype.kind == "c":
            raise InvalidArgument(
                f"clip={self.clip} bounds real numbers, but the inputs are of dtype {inputs.dtype}: leave clip "
                "out, or give real and imaginary parts as numbers of their own (inputs.view(inputs.real.dtype))"
            )
        low, high = inputs.min(), inputs.max()
        if low < self.clip[0] or high > self.clip[1]:  # a raw payload would differ from its input
            raise InvalidArgument(
                f"the inputs reach from {low:g} to {high:g}, beyond clip={self.clip!r}: "
                "widen clip to the range that fn accepts"
            )
        np.clip(encoding.payloads, *self.clip, out=encoding.payloads)
        return encoding

    def precision(self, answered: tuple[int, ...]) -> Precision | None:
        """Precision of a curve over the worker numbers, along which roughness is even."""
        return curve_precision(np.array(answered, float))

    def outliers(self, answered: tuple[int, ...], answers: np.ndarray) -> np.ndarray | None:
        """As `LinearCode.outliers`, in windows of neighbouring answers; None if there are more than 2,000 answers."""
        found = np.zeros(answers.shape[:2], dtype=bool)
        for held, core in windows(len(answered)) if len(answered) <= MOST_ANSWERS else ():
            outliers = super().outliers(answered[held], answers[held])
            if outliers is not None:
                found[held][core] = outliers[core]
        return found if found.any() else None

    def shortfall(self, answered: frozenset[int], dtype: np.dtype[Any]) -> str | None:
        """None if there is an answer."""
        return None if answered else "it needs at least one answer"
