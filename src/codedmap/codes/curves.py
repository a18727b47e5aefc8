"""Options of the codes that draw a curve through the inputs: bounded payloads, and tasks along a path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ..coding.ordering import neighbours_together, paths_through
from ..contracts.arguments import is_real
from ..contracts.code import Estimate
from ..errors import InvalidArgument
from .linear import LinearEncoding

__all__ = [
    "Order",
    "OrderedEncoding",
    "arranged",
    "check_clip",
    "check_order",
    "clip_payloads",
    "encode_along_path",
]

Order = Literal["path"]


def check_clip(clip: tuple[float, float] | None) -> None:
    """Raise `InvalidArgument` unless ``clip`` is None or (low, high) with low < high."""
    if clip is None:
        return
    pair = isinstance(clip, tuple) and len(clip) == 2 and all(map(is_real, clip))
    if not pair or not clip[0] < clip[1]:
        raise InvalidArgument(f"clip={clip!r} must be a pair (low, high) with low < high")


def clip_payloads(
    encoding: LinearEncoding, inputs: np.ndarray, clip: tuple[float, float] | None
) -> LinearEncoding:
    """The encoding with its payloads clipped in place to (low, high).

    Raises
    ------
    InvalidArgument
        If the inputs themselves exceed the bounds: then a raw payload would differ from its input.
    """
    if clip is None:
        return encoding
    if inputs.dtype.kind == "c":
        raise InvalidArgument(
            f"clip={clip} bounds real numbers, but the inputs are of dtype {inputs.dtype}: leave clip out, "
            "or give real and imaginary parts as numbers of their own (inputs.view(float))"
        )
    low, high = inputs.min(), inputs.max()
    if low < clip[0] or high > clip[1]:
        raise InvalidArgument(
            f"the inputs reach from {low:g} to {high:g}, beyond clip={clip!r}: "
            "widen clip to the range that fn accepts"
        )
    np.clip(encoding.payloads, clip[0], clip[1], out=encoding.payloads)
    return encoding


def check_order(order: Order | None) -> None:
    """Raise `InvalidArgument` unless ``order`` is "path" or None."""
    if order is not None and not (isinstance(order, str) and order == "path"):
        raise InvalidArgument(
            f'order={order!r} is not known: choose "path", which lays the curve along a short path '
            "through the inputs, or None, which takes them as they are given"
        )


def arranged(rows: np.ndarray, tasks: int, order: Order | None) -> np.ndarray | None:
    """The order of rows (m, *x) in which to cut them into groups of K; see `Arranging`."""
    return None if order is None else neighbours_together(rows, tasks)


def encode_along_path(
    encode: Callable[[np.ndarray], LinearEncoding], inputs: np.ndarray, order: Order | None
) -> LinearEncoding | OrderedEncoding:
    """Encode inputs (K, B, *x); with ``order`` the tasks of each group follow a short path.

    With ``order`` the inputs are copied.
    """
    if order is None or inputs.ndim < 2 or inputs.dtype.kind not in "fc" or not inputs.size:
        return encode(inputs)  # raises for a dtype that cannot be mixed
    tasks, groups = inputs.shape[:2]
    path = paths_through(inputs.reshape(tasks, groups, -1).swapaxes(0, 1)).T
    return OrderedEncoding(encode(inputs[path, np.arange(groups)]), path)


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
        """Tasks with an answer of their own, in the order given; see `Salvageable.salvage`."""
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
