"""Keeping mixed payloads within the range that a function accepts."""

from __future__ import annotations

import numpy as np

from ..contracts.arguments import is_real
from ..errors import InvalidArgument
from .linear import LinearEncoding

__all__ = ["check_clip", "clipped"]


def check_clip(clip: tuple[float, float] | None) -> None:
    """Raise `InvalidArgument` unless ``clip`` is None or (low, high) with low < high."""
    if clip is None:
        return
    pair = isinstance(clip, tuple) and len(clip) == 2 and all(map(is_real, clip))
    if not pair or not clip[0] < clip[1]:
        raise InvalidArgument(f"clip={clip!r} must be a pair (low, high) with low < high")


def clipped(
    encoding: LinearEncoding, inputs: np.ndarray, clip: tuple[float, float] | None
) -> LinearEncoding:
    """The encoding with its payloads clipped in place to (low, high).

    Raises
    ------
    InvalidArgument
        If the inputs themselves exceed the bounds: then a raw payload would not be its input.
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
