"""The contract between a code and the `map` door, and the linear codes that keep it with two operators."""

from __future__ import annotations

import abc
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from ._answers import matrix
from ._errors import InvalidAnswer, InvalidArgument, NotEnoughAnswers

__all__ = [
    "Code",
    "Encoding",
    "Estimate",
    "LinearCode",
    "LinearEncoding",
    "Operator",
    "Salvageable",
    "check_budget",
    "check_tasks",
    "left_out",
]


@runtime_checkable
class Code(Protocol):
    """K tasks in, N payloads out; answers of some in, K estimates out."""

    @property
    def tasks(self) -> int:
        """K, tasks in a group."""
        ...

    @property
    def workers(self) -> int:
        """N, payloads made of a group."""
        ...

    @property
    def stragglers(self) -> int:
        """S, answers that may be missing when the default stop rule stops."""
        ...

    def encode(self, inputs: np.ndarray) -> Encoding:
        """Encode B groups of K tasks, (K, B, *x)."""
        ...


class Encoding(Protocol):
    """One use of a code on given inputs; knows how to decode."""

    @property
    def payloads(self) -> np.ndarray:
        """What each worker is sent, (N, B, *x)."""
        ...

    def decodable(self, answered: frozenset[int]) -> bool:
        """Whether answers of these slots can be decoded; more answers never hurt."""
        ...

    def decode(self, answers: Mapping[int, np.ndarray]) -> Estimate:
        """K estimates from answers by slot, each (B, *y).

        Raises
        ------
        NotEnoughAnswers
            Where `decodable` is false, or becomes so when lies are left out.
        InvalidAnswer
            If most answers are not one array with B rows.
        """
        ...


@runtime_checkable
class Salvageable(Protocol):
    """An encoding that can tell what it knows where it cannot decode."""

    def salvage(self, answers: Mapping[int, np.ndarray]) -> Estimate:
        """Raw inputs that were answered; all else NaN, with an infinite standard error."""
        ...


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a code makes of the answers of K tasks in B groups."""

    values: np.ndarray
    """(K, B, *y)."""
    exact: np.ndarray
    """(K, B) bool: answered on its own raw input, and not rejected."""
    stderr: np.ndarray | None
    """(K, B): standard error of the root mean square over a row's outputs; 0 where exact, never 0
    where estimated; None if the code has none."""
    rejected: tuple[int, ...]
    """Slots with at least one answer judged a lie."""


class Operator(Protocol):
    """A linear map of columns: a dense matrix, or factors applied one after the other."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __matmul__(self, columns: Any, /) -> Any: ...


Made = TypeVar("Made", bound=Operator)


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
        raw: tuple[int | None, ...] = (None,) * self.workers
        if isinstance(operator, np.ndarray):
            raw = tuple(_units(operator))
        return LinearEncoding(self, payloads, raw)

    def kept(self, key: Hashable, build: Callable[[], Made]) -> Made:
        """The operator made by ``build``, remembered by ``key`` while this code object lives."""
        made: Made = self._memory.get(key, build)
        return made

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
        # NaN and infinity survive the product, so its small result tells whether the answers,
        # which are many times larger, have to be searched for them.
        with np.errstate(invalid="ignore", over="ignore"):
            values, exact = self._estimate(slots, stacked)
            finite = np.isfinite(values.sum())
        if not finite:
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
        return Estimate(values, exact, np.where(exact, 0.0, np.inf), rejected)

    def _estimate(
        self, slots: tuple[int, ...], stacked: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        groups, outputs = stacked.shape[1], stacked.shape[2:]
        columns = stacked.reshape(len(slots), -1)
        ascending = tuple(sorted(slots))
        operator = self.code.decoder(ascending, columns)
        if ascending != slots:
            operator, columns = _reordered(operator, columns, ascending, slots)
        values = _apply(operator, columns).reshape(self.code.tasks, groups, *outputs)
        exact = np.zeros(values.shape[:2], dtype=bool)
        if any(self.raw[slot] is not None for slot in slots) and isinstance(operator, np.ndarray):
            # A row that passes one raw answer through and takes nothing of the others.
            for task, column in enumerate(_units(operator)):
                if column is not None and self.raw[slots[column]] == task:
                    values[task], exact[task] = stacked[column], True
        return values, exact

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
            values[:, where], exact[:, where] = self._estimate(kept, stacked[pattern][:, where])
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


def check_tasks(inputs: np.ndarray, tasks: int) -> None:
    """Raise `InvalidArgument` unless inputs are (tasks, B, *x) with B >= 1."""
    if inputs.ndim < 2 or inputs.shape[0] != tasks or inputs.shape[1] == 0:
        raise InvalidArgument(
            f"encode takes inputs of shape (K, B, ...) with K = {tasks} tasks and B >= 1 groups, "
            f"but got {inputs.shape}: codedmap.map cuts any number of rows into such groups"
        )


def check_budget(tasks: int, workers: int, stragglers: int) -> None:
    """Raise `InvalidArgument` unless K >= 1, N >= 1 and 0 <= S < N are whole numbers."""
    for name, value, least in (
        ("tasks", tasks, 1),
        ("workers", workers, 1),
        ("stragglers", stragglers, 0),
    ):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise InvalidArgument(f"{name}={value!r} must be a whole number of at least {least}")
    if stragglers >= workers:
        raise InvalidArgument(
            f"{stragglers} stragglers of {workers} workers would leave nobody to answer: "
            f"stragglers must be at most {workers - 1}"
        )


def left_out(lies: np.ndarray) -> np.ndarray:
    """Lies (slots, groups), with a worker that lied in over half of its groups left out of all."""
    whole: np.ndarray = lies | (lies.mean(axis=1, keepdims=True) > 0.5)
    return whole


class _Memory:
    """The most recently used operators, at most a hundred."""

    def __init__(self) -> None:
        self._operators: OrderedDict[Hashable, Any] = OrderedDict()

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


def _reordered(
    operator: Operator, columns: np.ndarray, ascending: tuple[int, ...], slots: tuple[int, ...]
) -> tuple[Operator, np.ndarray]:
    """The same product with the operator's columns, or else the answers, in the other order."""
    if isinstance(operator, np.ndarray):
        place = {slot: column for column, slot in enumerate(ascending)}
        return operator[:, [place[slot] for slot in slots]], columns
    return operator, columns[np.argsort(slots)]


def _units(operator: np.ndarray) -> list[int | None]:
    """For each row the column of its single 1 among zeros, or None."""
    single = (operator != 0).sum(axis=1) == 1
    column = operator.argmax(axis=1)
    unit = single & (operator[np.arange(len(operator)), column] == 1.0)
    return [int(c) if u else None for c, u in zip(column, unit, strict=True)]
