"""Answers of the workers: those of the most frequent shape and kind, in one array."""

from __future__ import annotations

import cmath
from collections import Counter
from collections.abc import Mapping
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np

from ..errors import WAIT, InvalidAnswer, InvalidArgument, NotEnoughAnswers, many
from .arguments import MOST_AXES

LARGEST_IN_FLOAT = 2**53
"""float64 holds every integer up to this number."""
PLAIN_NUMBERS = (
    "convert to one unit, and give the numbers, which are .value of a quantity of astropy or unyt, and .magnitude of one "
    "of pint"
)
_REAL = "biuf"  # kinds of dtypes


class Sheet(dict[int, np.ndarray]):
    """Answers by slot, ascending, of equal shape: rows of one array, ``block`` (slots, B, *y)."""

    def __init__(self, slots: tuple[int, ...], block: np.ndarray) -> None:
        super().__init__(zip(slots, block, strict=True))
        self.slots = slots
        self.block = block


def all_finite(array: np.ndarray) -> bool:
    """Whether no entry is NaN or infinite, in one pass and without a mask of the array's size."""
    with np.errstate(invalid="ignore", over="ignore"):
        # NaN and infinity survive a sum. A sum of finite numbers may overflow: then each is tested.
        return cmath.isfinite(array.sum()) or bool(np.isfinite(array).all())


def check_slots(answers: Any, workers: int) -> None:
    """Raise `InvalidArgument` unless answers are a dict whose keys are slots from 0 to N - 1."""
    if not isinstance(answers, Mapping):
        raise InvalidArgument(
            f"decode takes a dict from slots, 0 to {workers - 1}, to answers, but got a {type(answers).__name__}"
        )
    for slot in answers:
        if not isinstance(slot, Integral) or not 0 <= int(slot) < workers:
            raise InvalidArgument(
                f"slot {slot!r} does not exist: the slots of this code are 0 to {workers - 1}"
            )


def matrix(
    answers: Mapping[int, Any], rows: int, workers: Mapping[int, int] | None = None
) -> tuple[tuple[int, ...], np.ndarray, tuple[int, ...]]:
    """Slots of usable answers, the answers (slots, rows, ...), and slots of the other ones; raises as `usable_answers`."""
    if isinstance(answers, Sheet):
        return answers.slots, answers.block, ()
    kept, others = usable_answers(answers, rows, workers)
    if not kept:
        return (), np.empty((0, rows)), others
    return tuple(kept), np.stack(list(kept.values())), others


class _Form(NamedTuple):
    """What answers must have in common to be decoded together."""

    kind: str
    """The kind of the dtype, the same for all real numbers; or its fields; or, if there is no array, the type's name."""
    shape: tuple[int, ...] | None
    """None without an array."""

    def fits(self, rows: int) -> bool:
        if self.shape is None or len(self.shape) > MOST_AXES:
            return False
        return self.shape[:1] == (rows,)

    def __str__(self) -> str:
        if self.shape is None:
            return f"a {self.kind}"
        return f"shape {self.shape}" + ("" if self.kind == "real" else f" of kind {self.kind!r}")


_MASKED = _Form("masked array", None)
"""Stands for an array with masked entries, which have no value."""
_QUANTITY = _Form("quantity", None)
"""Stands for a quantity with a unit, which would be lost."""


class TwoForms(NotEnoughAnswers):
    """Two shapes or kinds of answers are equally frequent."""


def usable_answers(
    answers: Mapping[int, Any], rows: int, workers: Mapping[int, int] | None = None
) -> tuple[dict[int, np.ndarray], tuple[int, ...]]:
    """Answers by slot of the shape and kind that most workers sent, ascending, and the slots of all others.

    By default each slot has another of the ``workers``.

    A function may return integers for one payload and floats for another, as lists often do. Real
    numbers get the most frequent dtype, and are rounded where it is coarser; they get a wider one
    where it cannot hold some of them, such as those beyond its range. Raises `InvalidAnswer` if most
    workers did not send one array with ``rows`` rows, which is an error of ``fn``, and
    `NotEnoughAnswers` if two usable forms are equally frequent.
    """
    arrays = {slot: as_array(answers[slot]) for slot in sorted(answers)}
    forms = {slot: _form_of(array) for slot, array in arrays.items()}
    if not forms:
        return {}, ()
    by = {slot: slot if workers is None else workers[slot] for slot in forms}
    pairs = dict.fromkeys((form, by[slot]) for slot, form in forms.items())  # in order
    count, each = Counter(form for form, _ in pairs), len(set(by.values()))
    usual = max(count, key=lambda form: (count[form], form.fits(rows)))
    rivals = [form for form in count if count[form] == count[usual] and form.fits(rows)]
    if len(rivals) > 1:
        raise TwoForms(
            f"{count[usual]} of {each} workers answered with {rivals[0]} and as many "
            f"with {rivals[1]}, and it cannot be found which is right",
            WAIT,
            "let fn return one shape and kind on every worker",
        )
    if not usual.fits(rows) or 0 in (usual.shape or ()):
        raise InvalidAnswer(_form_error(usual, rows, count[usual], each))
    kept = {slot: array for slot, array in arrays.items() if forms[slot] == usual}
    if usual.kind in ("real", "c"):
        kept = _in_one_dtype(kept)
    return kept, tuple(slot for slot in arrays if slot not in kept)


def as_array(answer: Any) -> Any:
    """An answer as an array if it can be converted unambiguously; else the answer itself."""
    if type(answer) is np.ndarray or answer is None or isinstance(answer, (tuple, dict, set)):
        return answer
    if is_masked(answer):
        return _MASKED
    if unit_of(answer):
        return _QUANTITY
    try:
        array = unrounded(np.asarray(answer), answer)
    except Exception:  # a ragged list, or a tensor that has to be detached or moved first
        return answer
    return answer if array.ndim == 0 and array.dtype.hasobject else array


def is_masked(given: Any) -> bool:
    """Whether an array, or one in a list, has masked entries, of records in any field, for which NumPy's function raises."""
    if isinstance(given, list | tuple):
        kinds = set(map(type, given))
        some = any(issubclass(kind, list | tuple | np.ma.MaskedArray) for kind in kinds)
        return some and any(map(is_masked, given))
    if isinstance(given, np.ma.MaskedArray) and given.dtype.names:
        return any(is_masked(given[name]) for name in given.dtype.names)
    return bool(np.ma.is_masked(given))


def may_be_rounded(array: np.ndarray) -> bool:
    """Whether floats may have been made from whole numbers that they cannot hold."""
    with np.errstate(all="ignore"):
        if array.dtype.kind != "f" or not array.size:
            return bool((np.abs(array) >= LARGEST_IN_FLOAT).any())
        # `abs` would copy, which takes three times as long for large arrays. These two pass over NaN.
        largest = np.fmax.reduce(array, axis=None), -np.fmin.reduce(array, axis=None)
        return max(map(float, largest)) >= LARGEST_IN_FLOAT


def unrounded(array: np.ndarray, given: Any) -> np.ndarray:
    """The array of a given list; of objects if NumPy has rounded whole numbers, or made text of what is not text."""
    if hasattr(given, "dtype"):
        return array
    if array.dtype.kind in "SU":
        exact, kind = np.array(given, dtype=object), str if array.dtype.kind == "U" else bytes
        return array if all(isinstance(entry, kind) for entry in exact.flat) else exact
    if array.dtype.kind not in "fc" or not may_be_rounded(array):
        return array
    exact = np.array(given, dtype=object)
    # Whole numbers of NumPy would be rounded to be compared with floats, those of Python are not.
    numbers = [x.item() if isinstance(x, np.generic) else x for x in exact.flat]
    pairs = zip(numbers, array.astype(object).flat, strict=True)
    same = all(x == y or y != y for x, y in pairs)  # noqa: PLR0124  NaN is not itself
    return array if same else exact


def array_of_numbers(given: Any) -> np.ndarray | None:
    """The array of a list of numbers, or of rows of them; None if it is ragged, or holds anything else, such as units or masks."""
    if has_text(given) or unit_of(given) or is_masked(given):
        return None
    try:
        array = np.asarray(given)
    except ValueError:  # rows of different shapes
        return None
    return unrounded(array, given) if array.dtype.kind in "biufc" else None


def has_units(kind: type) -> bool:
    """Whether values of this type may have a unit, of which NumPy makes plain numbers: those of astropy, pint and unyt."""
    quantities = issubclass(kind, np.ndarray) or hasattr(kind, "magnitude")
    return quantities and any(hasattr(kind, name) for name in ("unit", "units", "in_units"))


def unit_of(given: Any) -> str:
    """The unit of a quantity, or of the first one in a list, or in lists in it; "" without one, or if it is dimensionless."""
    if isinstance(given, list | tuple):
        kinds = set(map(type, given))
        some = any(issubclass(kind, list | tuple) or has_units(kind) for kind in kinds)
        return next(filter(None, map(unit_of, given)), "") if some else ""
    if not has_units(type(given)):
        return ""
    unit = str(getattr(given, "units", getattr(given, "unit", "")))
    return "" if unit == "dimensionless" else unit


def has_text(given: Any) -> bool:
    """Whether a list, or lists in it, hold text: NumPy would make every entry as wide as the longest."""
    kinds = set(map(type, given))
    if any(issubclass(kind, str | bytes) for kind in kinds):
        return True
    nested = any(issubclass(kind, list | tuple) for kind in kinds)
    return nested and any(has_text(row) for row in given if isinstance(row, list | tuple))


def convert_like(answer: Any, like: np.ndarray) -> np.ndarray | None:
    """An answer as an array with the shape and dtype of another; None if it has another form."""
    array = as_array(answer)
    if not isinstance(array, np.ndarray) or _form_of(array) != _form_of(like):
        return None
    return cast_values(array, like.dtype) if _form_of(like).kind in ("real", "c") else array


def _in_one_dtype(arrays: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
    """Numbers cast to the most frequent dtype, or a wider one; those that neither can hold are left out."""
    count = Counter(array.dtype for array in arrays.values())
    most = max(count.values())
    usual = np.result_type(*(dtype for dtype, votes in count.items() if votes == most))
    cast = {slot: cast_values(array, usual) for slot, array in arrays.items()}
    lost = [slot for slot, array in cast.items() if array is None]
    if lost:
        wide = np.result_type(usual, *(arrays[slot].dtype for slot in lost))
        floats = any(array.dtype.kind == "f" for array in arrays.values())
        if wide.kind == "f" and not floats:  # NumPy's common dtype of int64 and uint64
            wide = np.dtype(object)
        wider = {slot: cast_values(array, wide) for slot, array in arrays.items()}
        mixable = not (floats and wide.hasobject)
        if mixable and all(array is not None for array in wider.values()):
            cast = wider
    return {slot: array for slot, array in cast.items() if array is not None}


def cast_values(array: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray | None:
    """The same numbers or times in this dtype, floats rounded; None if it cannot hold them."""
    if array.dtype == dtype:
        return array
    with np.errstate(all="ignore"):
        try:
            cast = array.astype(dtype)
            back = cast.astype(array.dtype)
        except (OverflowError, ValueError):  # of times, since NumPy 2.5, also of those without unit
            return None
        if dtype.names and array.dtype.kind == "O":  # records
            pairs = zip(cast.astype(object).flat, array.flat, strict=True)
            return cast if all(_same_fields(tuple(x), tuple(y)) for x, y in pairs) else None
        held = back == array
        if array.dtype.kind in "fc" and dtype.kind in "fc":
            off = np.abs(back - array)
            held |= (off <= np.finfo(dtype).eps * np.abs(array)) | np.isnan(array)
        elif {array.dtype.kind, dtype.kind} == set("iu"):  # these wrap around, and back again
            held &= (cast < 0) == (array < 0)
        elif array.dtype.kind in "mM":
            held |= np.isnat(array)
        return cast if held.all() else None


def _same_fields(first: tuple[Any, ...], second: tuple[Any, ...]) -> bool:
    pairs = zip(first, second, strict=True)
    return all(np.all((a == b) | ((a != a) & (b != b))) for a, b in pairs)  # noqa: PLR0124  NaN is not itself


def _form_of(array: Any) -> _Form:
    if isinstance(array, _Form):
        return array
    if isinstance(array, np.ndarray):
        kind = "real" if array.dtype.kind in _REAL or holds_integers(array) else array.dtype.kind
        return _Form(str(array.dtype.names or kind), array.shape)
    return _Form(type(array).__name__, None)


def holds_integers(array: np.ndarray) -> bool:
    """Whether an array of objects holds only whole numbers, such as those beyond int64."""
    return array.dtype == object and all(isinstance(entry, Integral) for entry in array.flat)


def _form_error(form: _Form, rows: int, votes: int, total: int) -> str:
    if form.kind == "masked array":
        what = (
            "a masked array, entries of which have no value: fill them in fn (with answer.filled(0.0), say), or leave "
            "their columns out"
        )
    elif form.kind == "quantity":
        what = f"a quantity with a unit, which would be lost: {PLAIN_NUMBERS}"
    elif form.shape is None:
        what = (
            f"a {form.kind}, but fn must return one array with a row per row of its payload: return one of them, or "
            "concatenate them along the last axis and split after map; of a tensor return its NumPy array "
            "(tensor.detach().cpu().numpy())"
        )
    elif len(form.shape) > MOST_AXES:
        what = (
            f"arrays of {len(form.shape)} axes, and {MOST_AXES} are the most that can be decoded: combine some in fn "
            "(for instance answer.reshape(len(answer), -1))"
        )
    elif form.fits(rows):
        what = f"arrays of shape {form.shape}, which hold nothing: return at least one output a row"
    elif not form.shape:
        what = (
            f"a single {'number' if form.kind in ('real', 'c') else 'value'}, but fn must return one row per row of its "
            "payload: wrap a function of one input in codedmap.itemwise"
        )
    else:
        what = (
            f"{many(form.shape[0], 'row')} (shape {form.shape}) for a payload of {many(rows, 'row')}, but fn must return one row per "
            "row: check for filtering or reshaping in fn, or wrap a function of one input in codedmap.itemwise"
        )
    return f"{votes} of {total} workers returned {what}"


def rounding(values: np.ndarray) -> np.ndarray:
    """Rounding errors (K, B) of values (K, B, *y) in their dtype; no standard error is smaller."""
    limits = np.finfo(values.dtype if values.dtype.kind in "fc" else np.float64)
    size = np.abs(np.nan_to_num(values.reshape(*values.shape[:2], -1))).max(axis=2, initial=0)
    return np.asarray((limits.eps * size + limits.tiny).astype(np.float64))


def root_mean_square(errors: np.ndarray) -> np.ndarray:
    """The root mean square over the last axis, of numbers that are at least 0; 0 of none. No square overflows, or becomes 0."""
    unit = errors.max(axis=-1, keepdims=True, initial=0.0)
    unit = np.where(np.isfinite(unit), np.maximum(unit, np.finfo(float).tiny), 1.0)
    mean = ((errors / unit) ** 2).sum(axis=-1) / max(1, errors.shape[-1])
    return np.asarray(np.sqrt(mean) * unit[..., 0])
