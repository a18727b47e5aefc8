"""Inputs put along a short path before a curve is laid through them, and their estimates put back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ..coding.ordering import neighbours_together, paths_through
from ..contracts.code import Estimate
from ..errors import InvalidArgument
from .linear import LinearEncoding

__all__ = ["Order", "OrderedEncoding", "arranged", "check_order", "in_order"]

Order = Literal["path"]


def check_order(order: Order | None) -> None:
    """Raise `InvalidArgument` unless ``order`` is "path" or None."""
    if order is not None and not (isinstance(order, str) and order == "path"):
        raise InvalidArgument(
            f'order={order!r} is not known: choose "path", which lays the curve along a short path '
            "through the inputs, or None, which takes them as they are given"
        )


def arranged(rows: np.ndarray, tasks: int, order: Order | None) -> np.ndarray | None:
    """In which order rows (m, *x) should be cut into groups of K; see `Arranging`."""
    return None if order is None else neighbours_together(rows, tasks)


def in_order(
    encode: Callable[[np.ndarray], LinearEncoding], inputs: np.ndarray, order: Order | None
) -> LinearEncoding | OrderedEncoding:
    """Encode inputs (K, B, *x), each group along a short path through it if asked for.

    For that the inputs are copied.
    """
    if order is None or inputs.ndim < 2 or inputs.dtype.kind not in "fc" or not inputs.size:
        return encode(inputs)  # which refuses what it cannot mix
    tasks, groups = inputs.shape[:2]
    places = paths_through(inputs.reshape(tasks, groups, -1).swapaxes(0, 1)).T
    return OrderedEncoding(encode(inputs[places, np.arange(groups)]), places)


@dataclass(frozen=True, slots=True, eq=False)
class OrderedEncoding:
    """Inputs encoded in an order that each group has for itself; estimates are in the order given.

    Parameters
    ----------
    encoding : LinearEncoding
        Of the inputs in their order.
    places : ndarray, shape (K, B), int
        Which task stands at each place.
    """

    encoding: LinearEncoding
    places: np.ndarray

    @property
    def payloads(self) -> np.ndarray:
        """What each worker is sent, (N, B, *x)."""
        return self.encoding.payloads

    @property
    def raw(self) -> tuple[int | None, ...]:
        """For each slot the *place* whose input is its payload, or None for a mixture.

        Which task that is differs from group to group; but slots with all places have all tasks.
        """
        return self.encoding.raw

    def decodable(self, answered: frozenset[int]) -> bool:
        """Whether answers of these slots can be decoded."""
        return self.encoding.decodable(answered)

    def decode(self, answers: Mapping[int, Any]) -> Estimate:
        """Estimates of all tasks, in the order given; see `Encoding.decode`."""
        return self._put_back(self.encoding.decode(answers))

    def salvage(self, answers: Mapping[int, Any]) -> Estimate:
        """What `Salvageable.salvage` says, in the order given."""
        return self._put_back(self.encoding.salvage(answers))

    def _put_back(self, estimate: Estimate) -> Estimate:
        def back(ordered: np.ndarray) -> np.ndarray:
            given = np.empty_like(ordered)
            given[self.places, np.arange(self.places.shape[1])] = ordered
            return given

        return replace(
            estimate,
            values=back(estimate.values),
            exact=back(estimate.exact),
            stderr=None if estimate.stderr is None else back(estimate.stderr),
        )
