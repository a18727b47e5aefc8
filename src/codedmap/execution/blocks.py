"""Blocks of groups: encoded so that they are decoded together, and rows back where they came from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..contracts.answers import Sheet
from ..contracts.code import Code, Encoding, Estimate
from ..errors import InvalidArgument


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


def encoded(code: Code, blocks: Sequence[np.ndarray]) -> list[Any]:
    """Encodings of one or two blocks of groups, the first of which decodes the answers to all groups.

    Answers to all groups are decoded together, so that a worker rejected for most groups is rejected
    for those of the other block as well. Where that takes the inputs, the blocks are joined, which
    copies them.
    """
    last = code.encode(blocks[-1])
    if len(blocks) == 1:
        return [last]
    if getattr(last, "decodes_any_groups", False):
        return [*map(code.encode, blocks[:-1]), last]
    return [code.encode(np.concatenate(blocks, axis=1))]


def payload_of(encoding: Any, slot: int) -> np.ndarray:
    """The payload of a slot of an `Encoding`, (B, *x)."""
    payload: np.ndarray
    payload = encoding.payload(slot) if hasattr(encoding, "payload") else encoding.payloads[slot]
    return payload


def raw_alone(encoding: Any, sheet: Sheet, tasks: int, groups: int) -> Estimate:
    """What there is without decoding: see `Encoding`."""
    if hasattr(encoding, "salvage") and sheet:
        found: Estimate = encoding.salvage(sheet)
        return found
    return Estimate(
        np.full((tasks, groups, *sheet.block.shape[2:]), np.nan),
        np.zeros((tasks, groups), dtype=bool),
        np.full((tasks, groups), np.inf),
        (),
    )


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
