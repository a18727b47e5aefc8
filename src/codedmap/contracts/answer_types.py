"""In which form workers answered: shape and kind of number are put to the vote, dtypes are made one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ..errors import InvalidAnswer, NotEnoughAnswers

__all__ = ["agreed", "as_array", "fitted", "same_in"]

_REAL = "biuf"
_MASKED = object()
"""Stands for an array with masked entries, which have no value."""


class _Form(NamedTuple):
    """What answers must have in common to be decoded together."""

    kind: str
    """That of its dtype, one for all real numbers; of what is no array, its type's name."""
    shape: tuple[int, ...] | None
    """None of what is no array."""

    def fits(self, rows: int) -> bool:
        return self.shape is not None and self.shape[:1] == (rows,)

    def __str__(self) -> str:
        if self.shape is None:
            return f"a {self.kind}"
        return f"shape {self.shape}" + ("" if self.kind == "real" else f" of kind {self.kind!r}")


def agreed(answers: Mapping[int, Any], rows: int) -> tuple[dict[int, np.ndarray], tuple[int, ...]]:
    """Answers of the shape and kind that most workers sent, and the slots of the others.

    A function may return integers for one payload and floats for another (lists often do): real
    numbers come in the dtype of most, rounded where that is coarser, or in a wider one where it could
    not hold what the others say.

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
    arrays = {slot: as_array(answers[slot]) for slot in sorted(answers)}
    if _as_they_should(list(arrays.values()), rows):
        return arrays, ()
    forms = {slot: _form(array) for slot, array in arrays.items()}
    if not forms:
        return {}, ()
    count = Counter(forms.values())
    usual = max(count, key=lambda form: (count[form], form.fits(rows)))
    rivals = [form for form in count if count[form] == count[usual] and form.fits(rows)]
    if len(rivals) > 1:
        raise NotEnoughAnswers(
            f"{count[usual]} of {len(forms)} workers answered with {rivals[0]} and as many "
            f"with {rivals[1]}, and nothing tells which is right: wait for more answers"
        )
    if not usual.fits(rows) or 0 in (usual.shape or ()):
        raise InvalidAnswer(_fault(usual, rows, count[usual], len(forms)))
    kept = {slot: array for slot, array in arrays.items() if forms[slot] == usual}
    if usual.kind in ("real", "c"):
        kept = _in_one_dtype(kept)
    return kept, tuple(slot for slot in arrays if slot not in kept)


def as_array(answer: Any) -> Any:
    """An answer as an array where it is one, or can be made one without doubt; else as it is."""
    if type(answer) is np.ndarray or answer is None or isinstance(answer, (tuple, dict, set)):
        return answer
    if np.ma.is_masked(answer):
        return _MASKED
    try:
        array = np.asarray(answer)
    except Exception:  # a ragged list, or a tensor that has to be detached or moved first
        return answer
    return answer if array.ndim == 0 and array.dtype.hasobject else array


def fitted(answer: Any, like: np.ndarray) -> np.ndarray | None:
    """An answer as an array of this shape and dtype; None if it has another form."""
    array = as_array(answer)
    if not isinstance(array, np.ndarray) or _form(array) != _form(like):
        return None
    return same_in(array, like.dtype) if array.dtype.kind in _REAL + "c" else array


def _in_one_dtype(arrays: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
    """Numbers in one dtype; without those that it cannot hold, if that is what most have and need."""
    count = Counter(array.dtype for array in arrays.values())
    most = max(count.values())
    usual = np.result_type(*(dtype for dtype, votes in count.items() if votes == most))
    made = {slot: same_in(array, usual) for slot, array in arrays.items()}
    odd = [slot for slot, array in made.items() if array is None]
    if odd:
        wide = np.result_type(usual, *(arrays[slot].dtype for slot in odd))
        wider = {slot: same_in(array, wide) for slot, array in arrays.items()}
        if all(array is not None for array in wider.values()):
            made = wider
    return {slot: array for slot, array in made.items() if array is not None}


def same_in(array: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray | None:
    """The same numbers in this dtype, floats rounded; None if they are not the same ones."""
    if array.dtype == dtype:
        return array
    with np.errstate(all="ignore"):
        made = array.astype(dtype)
        rounded = array.dtype.kind in "fc" and dtype.kind in "fc"
        return made if rounded or np.array_equal(made.astype(array.dtype), array) else None


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


def _form(array: Any) -> _Form:
    if array is _MASKED:
        return _Form("masked array", None)
    if isinstance(array, np.ndarray):
        kind = "real" if array.dtype.kind in _REAL else array.dtype.kind
        return _Form(kind, array.shape)
    return _Form(type(array).__name__, None)


def _fault(form: _Form, rows: int, votes: int, total: int) -> str:
    head = f"{votes} of {total} workers returned "
    if form.shape is None:
        if form.kind == "masked array":
            return (
                head + "a masked array, entries of which have no value: fill them in fn (with "
                "answer.filled(0.0), say), or leave their columns out"
            )
        return (
            head
            + f"a {form.kind}, but fn must return one array with a row per row of its payload: "
            "return one of them, or concatenate them along the last axis and split after map; of a "
            "tensor return its NumPy array (tensor.detach().cpu().numpy())"
        )
    if form.fits(rows):
        return (
            head
            + f"arrays of shape {form.shape}, which hold nothing: return at least one output a row"
        )
    if not form.shape:
        return (
            head
            + f"a single {'number' if form.kind in ('real', 'c') else 'value'}, but fn must return "
            "one row per row of its payload: wrap a function of one input in codedmap.itemwise"
        )
    return (
        head
        + f"{form.shape[0]} rows (shape {form.shape}) for a payload of {rows} rows, but fn must "
        "return one row per row: check for filtering or reshaping in fn, or wrap a function of one "
        "input in codedmap.itemwise"
    )
