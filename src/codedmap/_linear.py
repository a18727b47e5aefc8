"""Linear codes: two operators and a predicate."""

from __future__ import annotations

import abc
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeVar

import numpy as np

from ._answers import all_finite, matrix
from ._code import Estimate, check_tasks, left_out
from ._errors import InvalidAnswer, InvalidArgument, NotEnoughAnswers

__all__ = ["LinearCode", "LinearEncoding", "Operator"]


class Operator(Protocol):
    """A linear map of columns: a dense matrix, or factors applied one after the other."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __matmul__(self, columns: Any, /) -> Any: ...


Made = TypeVar("Made")


class LinearCode(abc.ABC):
    """A code made of two linear operators and one predicate; derive from it as a frozen dataclass.

    `encoder` and `decoder` see the data only so that adaptive codes may choose a parameter from
    it; what they return must act on every column alike.
    """

    tasks: int
    workers: int
    stragglers: int

    @abc.abstractmethod
    def encoder(self, inputs: np.ndarray) -> Operator:
        """The (N, K) operator for inputs (K, columns)."""

    @abc.abstractmethod
    def decoder(self, answered: tuple[int, ...], answers: np.ndarray) -> Operator:
        """The (K, F) operator for answers (F, columns) of these slots, ascending."""

    @abc.abstractmethod
    def shortfall(self, answered: frozenset[int], dtype: np.dtype[Any]) -> str | None:
        """Why answers of these slots and this dtype cannot be decoded, or None if they can."""

    def encode(self, inputs: np.ndarray) -> LinearEncoding:
        """Encode B groups of K tasks.

        Parameters
        ----------
        inputs : ndarray, shape (K, B, *x)
            Real or complex floating point; the dtype is kept.

        Raises
        ------
        InvalidArgument
            If the shape does not fit, or the dtype cannot be mixed.
        """
        check_tasks(inputs, self.tasks)
        if inputs.dtype.kind not in "fc":
            raise InvalidArgument(
                f"inputs of dtype {inputs.dtype} cannot be mixed, as {type(self).__name__} must: "
                "cast them (inputs.astype(np.float32)) if they are quantities, put the code behind "
                "the model's embedding layer if they are tokens, or use a code that copies "
                "(Replication, Uncoded)"
            )
        columns = inputs.reshape(self.tasks, -1)
        operator = self.encoder(columns)
        payloads = _apply(operator, columns).reshape(self.workers, *inputs.shape[1:])
        return LinearEncoding(self, payloads, self._raw(operator))

    def kept(self, key: Hashable, build: Callable[[], Made]) -> Made:
        """What ``build`` makes, such as an operator, remembered by ``key`` while this code object lives."""
        made: Made = self._memory.get(key, build)
        return made

    def _raw(self, operator: Operator) -> tuple[int | None, ...]:
        # Of an operator that is used again the answer is remembered beside it.
        known, raw = self._memory.raw
        if known is not operator:
            raw = (None,) * self.workers
            if isinstance(operator, np.ndarray):
                raw = tuple(_units(operator))
            self._memory.raw = operator, raw
        return raw

    def ready(self, operator: np.ndarray, dtype: np.dtype[Any]) -> tuple[np.ndarray, int | slice]:
        """A dense decoder in the answers' dtype, and which of its rows tells NaN."""
        known = self._memory.ready
        if known[0] is operator and known[1] == dtype:
            return known[2], known[3]
        made = operator.astype(np.float32 if dtype == np.float16 else dtype)
        telltale = _telltale(operator)
        self._memory.ready = operator, dtype, made, telltale
        return made, telltale

    @cached_property
    def _memory(self) -> _Memory:
        return _Memory()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_memory"}


@dataclass(frozen=True, slots=True, eq=False)
class LinearEncoding:
    """Inputs encoded by a `LinearCode`."""

    code: LinearCode
    payloads: np.ndarray
    raw: tuple[int | None, ...]

    def decodable(self, answered: frozenset[int]) -> bool:
        """Whether answers of these slots can be decoded."""
        return self.code.shortfall(answered, self.payloads.dtype) is None

    def decode(self, answers: Mapping[int, Any]) -> Estimate:
        """Estimates of all tasks; see `Encoding.decode`.

        A non-finite entry in a mixed payload's answer is a lie: that worker is left out for that
        group, and for all groups if it lied in over half of them.
        """
        groups = self.payloads.shape[1]
        slots, stacked, rejected = matrix(answers, groups)
        self._check(slots, stacked.dtype)
        # NaN and infinity survive the product, so a part of its result tells whether the answers,
        # which are many times larger, have to be searched for them.
        with np.errstate(invalid="ignore", over="ignore"):
            values, exact, telltale = self._estimate(slots, stacked)
        if not all_finite(values[telltale]):
            values, exact, liars = self._without_lies(slots, stacked)
            rejected = tuple(sorted({*rejected, *liars}))
        return Estimate(values, exact, None, rejected)

    def salvage(self, answers: Mapping[int, Any]) -> Estimate:
        """What `Salvageable.salvage` says: here only points that a task and a worker share."""
        groups = self.payloads.shape[1]
        slots, stacked, rejected = matrix(answers, groups)
        shape = (self.code.tasks, groups)
        values = np.full((*shape, *stacked.shape[2:]), np.nan, _values_dtype(stacked.dtype))
        exact = np.zeros(shape, dtype=bool)
        for row, slot in enumerate(slots):
            task = self.raw[slot]
            if task is not None:
                values[task], exact[task] = stacked[row], True
        if slots and stacked.dtype.kind in "fc":
            broken = ~np.isfinite(stacked.reshape(len(slots), -1)).all(axis=1)
            lied = {s for s, bad in zip(slots, broken, strict=True) if bad and self.raw[s] is None}
            rejected = tuple(sorted({*rejected, *lied}))
        return Estimate(values, exact, np.where(exact, 0.0, np.inf), rejected)

    def _estimate(
        self, slots: tuple[int, ...], stacked: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, int | slice]:
        groups, outputs = stacked.shape[1], stacked.shape[2:]
        columns = stacked.reshape(len(slots), -1)
        ascending = tuple(sorted(slots))
        operator = self.code.decoder(ascending, columns)
        if isinstance(operator, np.ndarray):
            operator, telltale = self.code.ready(operator, columns.dtype)
            if ascending != slots:
                operator = operator.take(np.searchsorted(ascending, slots), axis=1)
        else:
            telltale = slice(None)
            columns = columns if ascending == slots else columns[np.argsort(slots)]
        values = _apply(operator, columns).reshape(self.code.tasks, groups, *outputs)
        exact = np.zeros(values.shape[:2], dtype=bool)
        if self.raw.count(None) < len(self.raw) and isinstance(operator, np.ndarray):
            # A row that passes one raw answer through and takes nothing of the others.
            for task, column in enumerate(_units(operator)):
                if column is not None and self.raw[slots[column]] == task:
                    values[task], exact[task] = stacked[column], True
        return values, exact, telltale

    def _without_lies(
        self, slots: tuple[int, ...], stacked: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, set[int]]:
        groups = stacked.shape[1]
        mixed = np.array([self.raw[slot] is None for slot in slots])
        broken = ~np.isfinite(stacked.reshape(len(slots), groups, -1)).all(axis=2)
        lies = left_out(broken & mixed[:, None])
        # Nobody contradicts a raw answer of -inf, so it is returned; but it must not enter the
        # mixture that estimates the other tasks.
        usable = ~(lies | broken)
        values = np.empty((self.code.tasks, *stacked.shape[1:]), _values_dtype(stacked.dtype))
        exact = np.zeros(values.shape[:2], dtype=bool)
        for pattern in np.unique(usable, axis=1).T:
            where = (usable == pattern[:, None]).all(axis=0)
            kept = tuple(slot for slot, good in zip(slots, pattern, strict=True) if good)
            self._check(kept, stacked.dtype, len(slots) - len(kept))
            part = self._estimate(kept, stacked[pattern][:, where])
            values[:, where], exact[:, where], _ = part
        for row, slot in enumerate(slots):
            task = self.raw[slot]
            if task is not None and broken[row].any():
                values[task, broken[row]] = stacked[row, broken[row]]
                exact[task, broken[row]] = True
        return values, exact, {slots[row] for row in np.flatnonzero(lies.any(axis=1))}

    def _check(self, slots: tuple[int, ...], dtype: np.dtype[Any], lies: int = 0) -> None:
        name = type(self.code).__name__
        if slots and dtype.kind not in "fc":
            raise InvalidAnswer(
                f"answers of dtype {dtype} cannot be interpolated, as {name} must: return scores "
                "instead of labels, cast to float in fn if they are quantities, or use a code that "
                "copies (Replication, Uncoded)"
            )
        reason = self.code.shortfall(frozenset(slots), dtype)
        if reason is not None:
            without = f", {lies} left out because their answers are not finite" if lies else ""
            raise NotEnoughAnswers(
                f"{len(slots)} of {self.code.workers} workers gave a usable answer{without}, and "
                f"{name} cannot decode from them: {reason}"
            )


class _Memory:
    """The most recently used operators, at most a hundred."""

    def __init__(self) -> None:
        self._operators: OrderedDict[Hashable, Any] = OrderedDict()
        self.ready: tuple[Any, ...] = (None,)
        self.raw: tuple[Operator | None, tuple[int | None, ...]] = (None, ())

    def get(self, key: Hashable, build: Callable[[], Any]) -> Any:
        operator = self._operators.pop(key, None)
        if operator is None:
            operator = build()
        self._operators[key] = operator
        while len(self._operators) > 100:
            self._operators.popitem(last=False)
        return operator


def _values_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype if dtype.kind in "fc" else np.dtype(np.float64)


def _apply(operator: Operator, columns: np.ndarray) -> np.ndarray:
    """``operator @ columns`` in the columns' own dtype."""
    if columns.dtype == np.float16:  # no BLAS, and too coarse to sum in
        return _apply(operator, columns.astype(np.float32)).astype(np.float16)
    if isinstance(operator, np.ndarray) and operator.dtype != columns.dtype:
        operator = operator.astype(columns.dtype)
    result: np.ndarray = operator @ columns
    return result


def _telltale(operator: Operator) -> int | slice:
    """A task whose estimate takes from every answer, so that NaN in any shows; else all tasks."""
    if isinstance(operator, np.ndarray):
        full = operator.all(axis=1)
        if full.any():
            return int(full.argmax())
    return slice(None)


def _units(operator: np.ndarray) -> list[int | None]:
    """For each row the column of its single 1 among zeros, or None."""
    single = (operator != 0).sum(axis=1) == 1
    column = operator.argmax(axis=1)
    unit = single & (operator[np.arange(len(operator)), column] == 1.0)
    return [int(c) if u else None for c, u in zip(column, unit, strict=True)]
