"""The base of codes that draw a curve through the inputs: bounded payloads, and tasks along a path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ..coding.ordering import neighbours_together, paths_through
from ..coding.precision import Precision, Windows, curve_precision
from ..contracts.arguments import is_real
from ..contracts.code import Estimate, check_budget
from ..errors import InvalidArgument
from .linear import LinearCode, LinearEncoding

Order = Literal["path"]


class CurveCode(LinearCode):
    """A code that encodes by a curve through the inputs, and decodes by one through the answers."""

    clip: tuple[float, float] | None
    order: Order | None

    def check(self) -> None:
        """Raise `InvalidArgument` unless the fields that curves have in common are valid."""
        check_budget(self.tasks, self.workers, self.stragglers)
        if self.clip is not None:
            pair = isinstance(self.clip, tuple) and len(self.clip) == 2
            if not pair or not all(map(is_real, self.clip)) or not self.clip[0] < self.clip[1]:
                raise InvalidArgument(
                    f"clip={self.clip!r} must be a pair (low, high) with low < high"
                )
        if self.order is not None and not (isinstance(self.order, str) and self.order == "path"):
            raise InvalidArgument(
                f'order={self.order!r} is not known: choose "path", which lays the curve along a short path '
                "through the inputs, or None, which takes them as they are given"
            )

    def arranged(self, rows: np.ndarray) -> np.ndarray | None:
        """With ``order``, the order of rows (m, *x) in which neighbours share a group."""
        return None if self.order is None else neighbours_together(rows, self.tasks)

    def encode(  # type: ignore[override]  # another `Encoding` suffices
        self, inputs: np.ndarray
    ) -> LinearEncoding | OrderedEncoding:
        """Encode B groups of K tasks, (K, B, *x); see `LinearCode.encode`.

        With ``order`` the inputs are copied.
        """
        mixed = inputs.ndim >= 2 and inputs.dtype.kind in "fc" and inputs.size
        if self.order is None or not mixed:
            return self._encoded(inputs)  # raises for a dtype that cannot be mixed
        tasks, groups = inputs.shape[:2]
        path = paths_through(inputs.reshape(tasks, groups, -1).swapaxes(0, 1)).T
        return OrderedEncoding(self._encoded(inputs[path, np.arange(groups)]), path)

    def _encoded(self, inputs: np.ndarray) -> LinearEncoding:
        """The encoding along the curve, with its payloads clipped in place."""
        encoding = super().encode(inputs)
        if self.clip is None:
            return encoding
        if inputs.dtype.kind == "c":
            raise InvalidArgument(
                f"clip={self.clip} bounds real numbers, but the inputs are of dtype {inputs.dtype}: leave clip "
                "out, or give real and imaginary parts as numbers of their own (inputs.view(float))"
            )
        low, high = inputs.min(), inputs.max()
        if low < self.clip[0] or high > self.clip[1]:  # a raw payload would differ from its input
            raise InvalidArgument(
                f"the inputs reach from {low:g} to {high:g}, beyond clip={self.clip!r}: "
                "widen clip to the range that fn accepts"
            )
        np.clip(encoding.payloads, *self.clip, out=encoding.payloads)
        return encoding

    @property
    def looks_at_inputs(self) -> bool:
        """With ``order`` or ``clip``."""
        return self.order is not None or self.clip is not None

    def precision(self, answered: tuple[int, ...]) -> Precision | Windows | None:
        """Precision of a curve over the worker numbers, along which roughness is even."""
        return curve_precision(np.array(answered, float))

    def shortfall(self, answered: frozenset[int], dtype: np.dtype[Any]) -> str | None:
        """None from one answer on."""
        return None if answered else "it needs at least one answer"


@dataclass(frozen=True, slots=True, eq=False)
class OrderedEncoding:
    """Inputs encoded along one path per group; estimates are in the order given.

    Parameters
    ----------
    encoding : LinearEncoding
        Encoding of the inputs along the path.
    places : ndarray, shape (K, B), int
        Task at each position of the path.
    """

    encoding: LinearEncoding
    places: np.ndarray

    @property
    def payloads(self) -> np.ndarray:
        """Payloads, (N, B, *x)."""
        return self.encoding.payloads

    @property
    def raw(self) -> tuple[int | None, ...]:
        """For each slot the position on the path whose input is its payload; None for a mixture.

        The task at a position differs between groups. Slots with all positions have all tasks.
        """
        return self.encoding.raw

    def decodable(self, answered: frozenset[int]) -> bool:
        """Whether answers of these slots can be decoded."""
        return self.encoding.decodable(answered)

    def decode(self, answers: Mapping[int, Any]) -> Estimate:
        """Estimates of all tasks, in the order given; see `Encoding.decode`."""
        return self._in_given_order(self.encoding.decode(answers))

    def salvage(self, answers: Mapping[int, Any]) -> Estimate:
        """Tasks with an answer of their own, in the order given; see `Encoding`."""
        return self._in_given_order(self.encoding.salvage(answers))

    def _in_given_order(self, estimate: Estimate) -> Estimate:
        def reorder(along_path: np.ndarray) -> np.ndarray:
            given = np.empty_like(along_path)
            given[self.places, np.arange(self.places.shape[1])] = along_path
            return given

        return replace(
            estimate,
            values=reorder(estimate.values),
            exact=reorder(estimate.exact),
            stderr=None if estimate.stderr is None else reorder(estimate.stderr),
        )
