"""What workers sent back, put side by side and checked for shape before any code sees it."""

from __future__ import annotations

import cmath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .answer_types import agreed, as_array

__all__ = ["Answers", "Order", "Sheet", "all_finite", "finite", "matrix", "stacked"]


class Sheet(Mapping[int, np.ndarray]):
    """Answers of equal shape by slot, side by side in one array.

    Parameters
    ----------
    slots : tuple of int
        Whose answers, in the block's order.
    block : ndarray, shape (slots, B, *y)
    """

    def __init__(self, slots: tuple[int, ...], block: np.ndarray) -> None:
        self.slots = slots
        self.block = block

    @cached_property
    def _row(self) -> dict[int, int]:
        return {slot: row for row, slot in enumerate(self.slots)}

    def groups(self, start: int, stop: int) -> Sheet:
        """The answers to these groups only."""
        return Sheet(self.slots, self.block[:, start:stop])

    def __getitem__(self, slot: int) -> np.ndarray:
        answer: np.ndarray = self.block[self._row[slot]]
        return answer

    def __iter__(self) -> Iterator[int]:
        return iter(self.slots)

    def __len__(self) -> int:
        return len(self.slots)


class Answers:
    """Answers as they arrive; those of equal shape and dtype are copied into one block at once.

    Decoding is a matrix product over the answers, and gathering them takes longer than the
    product. Copying each one on arrival hides that in the time spent waiting for the others.

    Parameters
    ----------
    workers : int
        N: how many answers there may be.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._block: np.ndarray | None = None
        self._slots: list[int] = []
        self._apart: dict[int, Any] = {}

    def add(self, slot: int, answer: Any) -> None:
        """Take the answer of one slot; a slot answers once."""
        array = as_array(answer)
        if not isinstance(array, np.ndarray) or array.ndim == 0:
            self._apart[slot] = array
            return
        if self._block is None:
            try:
                self._block = np.empty((self._workers, *array.shape), array.dtype)
            except (MemoryError, ValueError):  # surely not what the others will send
                self._apart[slot] = array
                return
        if array.shape == self._block.shape[1:] and array.dtype == self._block.dtype:
            self._block[len(self._slots)] = array
            self._slots.append(slot)
        else:
            self._apart[slot] = array

    def sheet(self, rows: int) -> tuple[Sheet, tuple[int, ...]]:
        """All answers of the usual shape, and the slots of the others; raises as `agreed`."""
        usable = self._block is not None and self._block.shape[1] == rows and self._block.size
        if self._block is not None and usable and not self._apart:
            return Sheet(tuple(self._slots), self._block[: len(self._slots)]), ()
        everything = dict(self._apart)
        if self._block is not None:
            everything |= zip(self._slots, self._block, strict=False)
        slots, block, others = matrix(everything, rows)
        return Sheet(slots, block), others


@dataclass(frozen=True, slots=True)
class Order:
    """Slots as their answers arrived, and as decoders take them."""

    slots: tuple[int, ...]
    ascending: tuple[int, ...]
    rows: np.ndarray | None
    """Puts arrivals in ascending order; None if they are."""

    @classmethod
    def of(cls, slots: tuple[int, ...]) -> Order:
        given = np.array(slots, dtype=np.intp)
        rows = given.argsort()
        ascending = tuple(given[rows].tolist())
        return cls(slots, ascending, None if ascending == slots else rows)


def all_finite(array: np.ndarray) -> bool:
    """Whether no entry is NaN or infinite, in one pass and without a mask of the array's size."""
    with np.errstate(invalid="ignore", over="ignore"):
        return finite(array)


def finite(array: np.ndarray) -> bool:
    """As `all_finite`, for callers who have silenced NumPy about invalid values and overflow."""
    # NaN and infinity survive a sum; a sum may also overflow, so only then look closer.
    return cmath.isfinite(array.sum()) or bool(np.isfinite(array).all())


def matrix(
    answers: Mapping[int, Any], rows: int
) -> tuple[tuple[int, ...], np.ndarray, tuple[int, ...]]:
    """Slots, their answers as one array (slots, rows, ...), and the slots of other shapes.

    Raises
    ------
    InvalidAnswer
        As `agreed`.
    """
    if isinstance(answers, Sheet):
        return answers.slots, answers.block, ()
    kept, others = agreed(answers, rows)
    if not kept:
        return (), np.empty((0, rows)), others
    return tuple(kept), stacked(list(kept.values())), others


def stacked(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Arrays of one shape (B, ...) as one, (F, B, ...): what `numpy.stack` does, in two thirds of the time."""
    return np.concatenate(arrays).reshape(len(arrays), *arrays[0].shape)
