"""Blocks of groups put together: their estimates side by side, and rows back where they came from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..contracts.answers import Sheet
from ..contracts.code import Code, Encoding, Estimate, Placing, Salvageable
from ..errors import InvalidArgument

__all__ = ["check_decodable", "order_places", "raw_alone", "tasks_at", "whole"]


def check_decodable(code: Code, encoding: Encoding, dtype: np.dtype[Any]) -> None:
    """Raise `InvalidArgument` if not even the answers of all workers could be decoded."""
    everyone = frozenset(range(code.workers))
    if encoding.decodable(everyone):
        return
    shortfall = getattr(code, "shortfall", None)  # of linear codes
    reason = shortfall(everyone, dtype) if shortfall else "its decodable says so"
    raise InvalidArgument(
        f"{type(code).__name__} could not decode answers to inputs of dtype {dtype} even if all "
        f"{code.workers} workers gave one: {reason}"
    )


def whole(parts: Sequence[Estimate]) -> Estimate:
    """Estimates of blocks of groups, side by side."""
    if len(parts) == 1:
        return parts[0]
    errors = [part.stderr for part in parts if part.stderr is not None]
    return Estimate(
        np.concatenate([part.values for part in parts], axis=1),
        np.concatenate([part.exact for part in parts], axis=1),
        np.concatenate(errors, axis=1) if len(errors) == len(parts) else None,
        tuple(slot for part in parts for slot in part.rejected),
    )


def raw_alone(
    encodings: Sequence[Any], spans: Sequence[tuple[int, int]], sheet: Sheet, tasks: int
) -> list[Estimate]:
    """What each block of groups has without decoding: see `Salvageable.salvage`."""
    return [
        encoding.salvage(sheet.groups(*span))
        if isinstance(encoding, Salvageable) and sheet
        else _nothing(tasks, (span[1] - span[0], *sheet.block.shape[2:]))
        for encoding, span in zip(encodings, spans, strict=True)
    ]


def order_places(code: Code, order: Any, rows: int) -> np.ndarray:
    """Where each of the caller's rows stands in the order that a code has arranged.

    Raises
    ------
    InvalidArgument
        If that does not hold each row once.
    """
    order = np.asarray(order)
    places = np.full(rows, -1)
    fits = order.shape == (rows,) and order.dtype.kind in "iu"
    if fits and order.min() >= 0 and order.max() < rows:
        places[order] = np.arange(rows)
    if (places < 0).any():
        raise InvalidArgument(
            f"{type(code).__name__}.arranged must give each of the numbers 0 to {rows - 1} "
            "once, in any order, or None"
        )
    return places


def tasks_at(encodings: Sequence[Any]) -> np.ndarray | None:
    """The task at each place in all blocks of groups, (K, B); None if ``raw`` tells tasks, not places."""
    places = [encoding.places for encoding in encodings if isinstance(encoding, Placing)]
    return np.concatenate(places, axis=1) if len(places) == len(encodings) else None


def _nothing(tasks: int, shape: tuple[int, ...]) -> Estimate:
    groups = shape[0]
    return Estimate(
        np.full((tasks, *shape), np.nan),
        np.zeros((tasks, groups), dtype=bool),
        np.full((tasks, groups), np.inf),
        (),
    )
