"""Linear codes: an encoder, a decoder and a condition for decoding."""

from __future__ import annotations

import abc
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from typing import Any, ClassVar, TypeVar

import numpy as np

from ..coding.operators import Operator, apply, unit_columns, values_dtype
from ..coding.precision import Precision
from ..contracts.answers import all_finite, check_slots, matrix
from ..contracts.code import (
    Estimate,
    check_interpolable,
    check_mixable,
    check_tasks,
    reject_frequent,
)
from ..detection.contradictions import exact_outliers
from ..detection.nonfinite import (
    column_patterns,
    nonfinite_answers,
    rejected_nonfinite,
    rejection_reasons,
)
from ..detection.outliers import coarsened, find_outliers
from ..errors import NotEnoughAnswers

Made = TypeVar("Made")
_KEPT = 100  # operators and precision matrices that a code keeps, at most


class LinearCode(abc.ABC):
    """A code made of two linear operators and one predicate; derive from it as a frozen dataclass.

    `encoder` and `decoder` take the data so that adaptive codes may choose a parameter from it. The
    operators that they return must act on every column alike, and are cached: they must not change
    afterwards.
    """

    tasks: int
    workers: int
    stragglers: int
    has_stderr: ClassVar[bool] = False
    """Its estimates have no standard errors."""
    determined: ClassVar[bool] = False
    """Whether decodable answers determine all others, so that NaN is rejected."""
    decodes_any_groups: ClassVar[bool] = True
    """Whether decoding does not depend on the inputs, so that answers to any number of groups are decoded together."""

    @abc.abstractmethod
    def encoder(self, inputs: np.ndarray) -> Operator:
        """The (N, K) operator for inputs (K, columns)."""

    @abc.abstractmethod
    def decoder(self, answered: tuple[int, ...], answers: np.ndarray) -> Operator:
        """The (K, F) operator for answers (F, columns) of these slots, ascending."""

    @abc.abstractmethod
    def shortfall(self, answered: frozenset[int], dtype: np.dtype[Any]) -> str | None:
        """Why answers of these slots and this dtype cannot be decoded, or None if they can."""

    def precision(self, answered: tuple[int, ...]) -> np.ndarray | Precision | None:
        """Precision matrix of answers of these slots, ascending: symmetric (F, F), or None.

        P is the inverse covariance of correct answers y, up to a factor: positive semidefinite, with
        yᵀPy small for plausible answers, and 0 for answers that fit perfectly. Outliers are found
        with it. None: no answer is rejected as an outlier.
        """
        return None

    def encode(self, inputs: np.ndarray) -> LinearEncoding:
        """Encode B groups of K tasks, (K, B, *x), of real or complex floating point; see `Code.encode`."""
        check_tasks(inputs, self.tasks, self.workers)
        check_mixable(inputs, f"{type(self).__name__} must", "Replication, Uncoded")
        columns = inputs.reshape(self.tasks, -1)
        operator = self.encoder(columns)
        raw: tuple[int | None, ...] = (None,) * self.workers
        if isinstance(operator, np.ndarray):
            raw = unit_columns(operator)
        with np.errstate(invalid="ignore"):  # infinite inputs are reported elsewhere
            payloads = apply(operator, columns)
        return LinearEncoding(self, payloads.reshape(self.workers, *inputs.shape[1:]), raw)

    def kept(self, key: Hashable, build: Callable[[], Made]) -> Made:
        """Result of ``build``, such as an operator, cached by ``key``: the last 100, while this code object lives."""
        memory, none = self._memory, object()
        made: Made = memory.get(key, none)
        if made is none:
            made = build()
            while len(memory) >= _KEPT:
                memory.pop(next(iter(tuple(memory)), None), None)  # others change it meanwhile
            memory[key] = made
        return made

    def outliers(self, answered: tuple[int, ...], answers: np.ndarray) -> np.ndarray | None:
        """Outliers among answers (F, B, outputs) of these slots, (F, B) bool; None if there are none."""

        def build() -> Precision | None:
            made = self.precision(answered)
            return Precision.of(made) if isinstance(made, np.ndarray) else made

        # Without this cache decoding takes 1.9 to 3.5 times as long.
        precision = self.kept((answered, "precision"), build)
        if precision is None:
            return None
        return (exact_outliers if precision.exact else find_outliers)(answers, precision)

    @cached_property
    def _memory(self) -> dict[Hashable, Any]:
        return {}

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
        return self._shortfall(answered, self.payloads.dtype) is None

    def decode(self, answers: Mapping[int, Any]) -> Estimate:
        """Estimates of all tasks; see `Encoding.decode`.

        An answer to a mixed payload with a non-finite entry is wrong, and so is an outlier among
        the answers (`find_outliers`). It is rejected in its group, and in all groups if the worker's
        answers are wrong in over half of them.
        """
        check_slots(answers, len(self.raw))
        slots, stacked, rejected = matrix(answers, self.payloads.shape[1])
        self._check(slots, stacked.dtype)
        usable = all_finite(stacked)
        outliers = self._outliers(slots, stacked) if usable else None
        if usable and outliers is None:
            values, exact = self._estimate(slots, stacked)
        else:
            values, exact, wrong = self._estimate_with_rejection(slots, stacked, outliers)
            rejected = tuple(sorted({*rejected, *wrong}))
        return Estimate(values, exact, None, rejected)

    def salvage(self, answers: Mapping[int, Any]) -> Estimate:
        """Tasks with an answer of their own: those whose point is also a worker's."""
        slots, stacked, rejected = matrix(answers, self.payloads.shape[1])
        shape = (self.code.tasks, stacked.shape[1])
        values = np.full((*shape, *stacked.shape[2:]), np.nan, values_dtype(stacked.dtype))
        exact = np.zeros(shape, dtype=bool)
        owners, broken = [self.raw[slot] for slot in slots], nonfinite_answers(stacked)
        wrong = rejected_nonfinite(slots, stacked, broken, owners, None)
        kept = ~wrong
        for row, task in enumerate(owners):
            if task is not None:
                values[task, kept[row]], exact[task, kept[row]] = stacked[row, kept[row]], True
        found = {*rejected, *(slots[row] for row in np.flatnonzero(wrong.any(axis=1)))}
        return Estimate(values, exact, np.where(exact, 0.0, np.inf), tuple(sorted(found)))

    def _estimate(
        self, slots: tuple[int, ...], stacked: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Values, and which of them are exact."""
        columns = stacked.reshape(len(slots), -1)
        operator = self.code.decoder(slots, columns)
        with np.errstate(invalid="ignore", over="ignore"):
            values = apply(operator, columns)
        values = values.reshape(self.code.tasks, *stacked.shape[1:])
        exact = np.zeros(values.shape[:2], dtype=bool)
        if self.raw.count(None) < len(self.raw) and isinstance(operator, np.ndarray):
            # A row of the decoder may copy one answer to a raw input.
            for task, column in enumerate(unit_columns(operator)):
                if column is not None and self.raw[slots[column]] == task:
                    values[task], exact[task] = stacked[column], True
        return values, exact

    def _outliers(self, slots: tuple[int, ...], stacked: np.ndarray) -> np.ndarray | None:
        """Outliers, (F, B) bool; None if there are none."""
        if not slots:
            return None
        if self.code.determined:
            stacked = coarsened(stacked, self.payloads.dtype)
        return self.code.outliers(slots, stacked.reshape(*stacked.shape[:2], -1))

    def _estimate_with_rejection(
        self, slots: tuple[int, ...], stacked: np.ndarray, outliers: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, set[int]]:
        """Values, which of them are exact, and the slots whose answers are rejected somewhere."""
        owners = [self.raw[slot] for slot in slots]
        broken = nonfinite_answers(stacked) if outliers is None else np.zeros_like(outliers)
        shortfall = self._shortfall if self.code.determined else None
        nonfinite = rejected_nonfinite(slots, stacked, broken, owners, shortfall)
        if outliers is None:
            outliers = np.zeros_like(broken)
            for pattern, where in column_patterns(~reject_frequent(broken)):
                kept = tuple(compress(slots, pattern))
                found = self._outliers(kept, stacked[pattern][:, where])
                if found is not None:
                    outliers[np.ix_(pattern, where)] = found
        rejected = reject_frequent(nonfinite | outliers)
        # An answer of -inf to a raw input that no other answer contradicts is returned, but not used for
        # estimates of other tasks.
        usable = ~(rejected | broken)
        why, remedy = rejection_reasons(bool(broken.any()), bool(outliers.any()))
        values = np.empty((self.code.tasks, *stacked.shape[1:]), values_dtype(stacked.dtype))
        exact = np.zeros(values.shape[:2], dtype=bool)
        passed = [
            (t, row, (broken & ~rejected)[row]) for row, t in enumerate(owners) if t is not None
        ]
        for task, _, where in passed:
            exact[task] |= where
        for pattern, where in column_patterns(usable):
            if exact[:, where].all():  # no answer is finite, and none contradicts another
                continue
            kept = tuple(compress(slots, pattern))
            without = f", {len(slots) - len(kept)} left out because {why}"
            self._check(kept, stacked.dtype, without, remedy)
            part = self._estimate(kept, stacked[pattern][:, where])
            values[:, where], exact[:, where] = part
        for task, row, where in passed:
            values[task, where], exact[task, where] = stacked[row, where], True
        return values, exact, {slots[row] for row in np.flatnonzero(rejected.any(axis=1))}

    def _shortfall(self, answered: frozenset[int], dtype: np.dtype[Any]) -> str | None:
        """`LinearCode.shortfall` for the coarser dtype of payloads and answers."""
        coarser = max(self.payloads.dtype, dtype, key=lambda kind: np.finfo(kind).eps)
        return self.code.shortfall(answered, coarser)

    def _check(
        self, slots: tuple[int, ...], dtype: np.dtype[Any], without: str = "", remedy: str = ""
    ) -> None:
        name = type(self.code).__name__
        if slots:
            check_interpolable(dtype, f"{name} must", "Replication, Uncoded")
        reason = self._shortfall(frozenset(slots), dtype)
        if reason is not None:
            raise NotEnoughAnswers(
                f"{len(slots)} of {self.code.workers} workers gave a usable answer{without}, and "
                f"{name} cannot decode from them: {reason}{remedy}"
            )
