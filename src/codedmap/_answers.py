"""What workers sent back, put side by side and checked for shape before any code sees it."""

from __future__ import annotations

import cmath
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ._errors import InvalidAnswer, NotEnoughAnswers

__all__ = ["Answers", "Order", "Sheet", "agreed", "all_finite", "finite", "matrix", "stacked"]


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
        array = _as_array(answer)
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


def agreed(answers: Mapping[int, Any], rows: int) -> tuple[dict[int, np.ndarray], tuple[int, ...]]:
    """Answers of the shape and dtype kind that most workers sent, and the slots of the others.

    Parameters
    ----------
    answers : mapping of int to array-like
        Answer by slot.
    rows : int
        B, the rows each answer must have.

    Returns
    -------
    dict of int to ndarray
        The answers to use, by slot, ascending.
    tuple of int
        The slots whose answer has another shape or kind: liars.

    Raises
    ------
    InvalidAnswer
        If what most workers sent is not one array with ``rows`` rows: then ``fn`` is at fault.
    NotEnoughAnswers
        If two usable forms have equally many votes.
    """
    arrays = {slot: _as_array(answers[slot]) for slot in sorted(answers)}
    if _as_they_should(list(arrays.values()), rows):
        return arrays, ()
    forms = {slot: _form(array) for slot, array in arrays.items()}
    if not forms:
        return {}, ()
    count = Counter(forms.values())
    usual = max(count, key=lambda form: (count[form], form[1][:1] == (rows,)))
    kind, shape = usual
    rivals = [form for form in count if count[form] == count[usual] and form[1][:1] == (rows,)]
    if len(rivals) > 1:
        raise NotEnoughAnswers(
            f"{count[usual]} of {len(forms)} workers answered with {_told(rivals[0])} and as many "
            f"with {_told(rivals[1])}, and nothing tells which is right: wait for more answers"
        )
    if len(kind) > 1 or shape[:1] != (rows,) or 0 in shape:
        raise InvalidAnswer(_fault(kind, shape, rows, count[usual], len(forms)))
    kept = {slot: array for slot, array in arrays.items() if forms[slot] == usual}
    return kept, tuple(slot for slot in arrays if slot not in kept)


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


def _as_they_should(arrays: list[Any], rows: int) -> bool:
    """Whether all are arrays of one shape and dtype, with so many rows and something in each."""
    if not arrays or not isinstance(arrays[0], np.ndarray):
        return False
    shape, dtype = arrays[0].shape, arrays[0].dtype
    alike = all(
        isinstance(array, np.ndarray) and array.shape == shape and array.dtype == dtype
        for array in arrays
    )
    return alike and shape[:1] == (rows,) and 0 not in shape


def _as_array(answer: Any) -> Any:
    if isinstance(answer, np.ndarray):
        return answer
    if answer is None or isinstance(answer, (tuple, dict, set)):
        return answer
    try:
        array = np.asarray(answer)
    except Exception:  # a ragged list, or a tensor that has to be detached or moved first
        return answer
    return answer if array.ndim == 0 and array.dtype.hasobject else array


def _form(array: Any) -> tuple[str, tuple[int, ...]]:
    if isinstance(array, np.ndarray):
        return array.dtype.kind, array.shape
    return type(array).__name__, ()


def _told(form: tuple[str, tuple[int, ...]]) -> str:
    return f"shape {form[1]} of kind {form[0]!r}"


def _fault(kind: str, shape: tuple[int, ...], rows: int, votes: int, total: int) -> str:
    head = f"{votes} of {total} workers returned "
    if len(kind) > 1:
        return (
            head + f"a {kind}, but fn must return one array with a row per row of its payload: "
            "return one of them, or concatenate them along the last axis and split after map; of a "
            "tensor return its NumPy array (tensor.detach().cpu().numpy())"
        )
    if shape[:1] == (rows,):
        return (
            head + f"arrays of shape {shape}, which hold nothing: return at least one output a row"
        )
    if not shape:
        return (
            head + "a single number, but fn must return one row per row of its payload: "
            "wrap a function of one input in codedmap.itemwise"
        )
    return (
        head + f"{shape[0]} rows (shape {shape}) for a payload of {rows} rows, but fn must return "
        "one row per row: check for filtering or reshaping in fn, or wrap a function of one input "
        "in codedmap.itemwise"
    )
