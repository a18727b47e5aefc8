"""Linear codes: two operators and a predicate."""

from __future__ import annotations

import abc
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, TypeVar

import numpy as np

from ..coding.operators import (
    Memory,
    Operator,
    apply,
    cast_operator,
    dense_row,
    unit_columns,
    values_dtype,
)
from ..coding.precision import Precision, Windows
from ..contracts.answers import Order, all_finite, matrix
from ..contracts.code import Estimate, check_tasks, reject_frequent
from ..detection.contradictions import exact_outliers
from ..detection.nonfinite import (
    column_patterns,
    nonfinite_answers,
    rejected_nonfinite,
    rejection_reasons,
    selected_slots,
)
from ..detection.outliers import find_lies
from ..errors import InvalidAnswer, InvalidArgument, NotEnoughAnswers

__all__ = ["LinearCode", "LinearEncoding", "Operator"]


Made = TypeVar("Made")


class LinearCode(abc.ABC):
    """A code made of two linear operators and one predicate; derive from it as a frozen dataclass.

    `encoder` and `decoder` see the data only so that adaptive codes may choose a parameter from
    it; what they return must act on every column alike, and is kept: it must not change afterwards.
    """

    tasks: int
    workers: int
    stragglers: int
    has_stderr: ClassVar[bool] = False
    """Its estimates have no standard errors."""
    determined: ClassVar[bool] = False
    """Whether answers that can be decoded tell what all others must be, so that NaN is no answer."""

    @abc.abstractmethod
    def encoder(self, inputs: np.ndarray) -> Operator:
        """The (N, K) operator for inputs (K, columns)."""

    @abc.abstractmethod
    def decoder(self, answered: tuple[int, ...], answers: np.ndarray) -> Operator:
        """The (K, F) operator for answers (F, columns) of these slots, ascending."""

    @abc.abstractmethod
    def shortfall(self, answered: frozenset[int], dtype: np.dtype[Any]) -> str | None:
        """Why answers of these slots and this dtype cannot be decoded, or None if they can."""

    def precision(self, answered: tuple[int, ...]) -> np.ndarray | Precision | Windows | None:
        """What tells liars among these slots, ascending: a symmetric (F, F) matrix P, or None.

        P is the inverse covariance of honest answers y, up to a factor: positive semidefinite, with
        yᵀPy small for what is plausible and 0 for what is perfectly so. None: nobody is suspected.
        """
        return None

    @property
    def looks_at_inputs(self) -> bool:
        """Whether `encoder` looks at the inputs, or the order of the rows does. NaN is searched for first then."""
        return True

    @property
    def looks_at_answers(self) -> bool:
        """Whether `decoder` looks at the answers. They are put in order for it then, which copies them."""
        return True

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
        check_tasks(inputs, self.tasks, self.workers)
        if inputs.dtype.kind not in "fc":
            raise InvalidArgument(
                f"inputs of dtype {inputs.dtype} cannot be mixed, as {type(self).__name__} must: "
                "cast them (inputs.astype(np.float32)) if they are quantities, put the code behind "
                "the model's embedding layer if they are tokens, or use a code that copies "
                "(Replication, Uncoded)"
            )
        columns = inputs.reshape(self.tasks, -1)
        operator, raw, telltale = self._known(self.encoder(columns), columns.dtype)
        with np.errstate(invalid="ignore"):  # infinite inputs are told by whoever looks for them
            payloads = apply(operator, columns, self._memory.payloads.array)
        payloads = payloads.reshape(self.workers, *inputs.shape[1:])
        whole = payloads[telltale] if isinstance(telltale, int) else None
        return LinearEncoding(self, payloads, raw, telltale=whole)

    def kept(self, key: Hashable, build: Callable[[], Made]) -> Made:
        """What ``build`` makes, such as an operator, remembered by ``key`` while this code object lives."""
        made: Made = self._memory.get(key, build)
        return made

    def _known(
        self, operator: Operator, dtype: np.dtype[Any]
    ) -> tuple[Operator, tuple[int | None, ...], int | slice]:
        """An encoder in the inputs' dtype, which payloads are inputs themselves, and which takes from all."""
        # Of an operator that is used again the answer is remembered beside it.
        known = self._memory.encoder
        if known[0] is not operator or known[1] != dtype:
            made: Operator = operator
            raw: tuple[int | None, ...] = (None,) * self.workers
            if isinstance(operator, np.ndarray):
                made, raw = cast_operator(operator, dtype), unit_columns(operator)
            known = self._memory.encoder = operator, dtype, made, raw, dense_row(operator)
        return known[2], known[3], known[4]

    def ready(self, operator: np.ndarray, dtype: np.dtype[Any]) -> tuple[np.ndarray, int | slice]:
        """A dense decoder in the answers' dtype, and which of its rows tells NaN."""
        known = self._memory.ready
        if known[0] is not operator or known[1] != dtype:
            made, telltale = cast_operator(operator, dtype), dense_row(operator)
            known = self._memory.ready = operator, dtype, made, telltale
        return known[2], known[3]

    def witness(self, answered: tuple[int, ...]) -> Precision | Windows | None:
        """`precision`, of the slots last asked for remembered; to keep it for many takes memory."""
        known, witness = self._memory.witness
        if known != answered:
            made = self.precision(answered)
            witness = Precision.of(made) if isinstance(made, np.ndarray) else made
            self._memory.witness = answered, witness
        return witness

    @cached_property
    def _memory(self) -> Memory:
        return Memory()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_memory"}


@dataclass(frozen=True, slots=True, eq=False)
class LinearEncoding:
    """Inputs encoded by a `LinearCode`."""

    code: LinearCode
    payloads: np.ndarray
    raw: tuple[int | None, ...]
    decodes_any_groups: ClassVar[bool] = True
    """Answers of a `Sheet` may be to any number of groups: what is decoded does not depend on the inputs."""
    telltale: np.ndarray | None = field(default=None, kw_only=True)
    """A payload, (B, *x), that takes from every input, so that NaN or infinity in any shows in it; None: there is none."""

    def decodable(self, answered: frozenset[int]) -> bool:
        """Whether answers of these slots can be decoded."""
        return self.code.shortfall(answered, self.payloads.dtype) is None

    def decode(self, answers: Mapping[int, Any]) -> Estimate:
        """Estimates of all tasks; see `Encoding.decode`.

        A non-finite entry in a mixed payload's answer is a lie, and so is what stands out from all
        other answers (`find_lies`): that worker is left out for that group, and for all groups if
        it lied in over half of them.
        """
        slots, stacked, rejected = matrix(answers, self.payloads.shape[1])
        self._check(slots, stacked.dtype)
        # NaN and infinity survive the product with a dense decoder, so a part of it tells of them.
        with np.errstate(invalid="ignore", over="ignore"):
            order = Order.of(slots)
            values, exact, usable = self._estimate(order, stacked)
        outliers = self._outliers(order, stacked) if usable else None
        if not usable or outliers is not None:
            values, exact, liars = self._without_lies(slots, stacked, outliers)
            rejected = tuple(sorted({*rejected, *liars}))
        return Estimate(values, exact, None, rejected)

    def salvage(self, answers: Mapping[int, Any]) -> Estimate:
        """What `Salvageable.salvage` says: here only points that a task and a worker share."""
        slots, stacked, rejected = matrix(answers, self.payloads.shape[1])
        shape = (self.code.tasks, stacked.shape[1])
        values = np.full((*shape, *stacked.shape[2:]), np.nan, values_dtype(stacked.dtype))
        exact = np.zeros(shape, dtype=bool)
        owners, broken = [self.raw[slot] for slot in slots], nonfinite_answers(stacked)
        lied = rejected_nonfinite(slots, stacked, broken, owners, None)
        sure = ~lied
        for row, task in enumerate(owners):
            if task is not None:
                values[task, sure[row]], exact[task, sure[row]] = stacked[row, sure[row]], True
        rejected = tuple(sorted({*rejected, *selected_slots(slots, np.asarray(lied.any(axis=1)))}))
        return Estimate(values, exact, np.where(exact, 0.0, np.inf), rejected)

    def _estimate(self, order: Order, stacked: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
        """Values, which of them are exact, and whether no answer has NaN or infinity."""
        if order.rows is not None and self.code.looks_at_answers:
            order, stacked = Order(order.ascending, order.ascending, None), stacked[order.rows]
        slots, (_, groups, *outputs) = order.slots, stacked.shape
        columns = stacked.reshape(len(slots), -1)
        operator = self.code.decoder(order.ascending, columns)
        if isinstance(operator, np.ndarray):
            operator, telltale = self.code.ready(operator, columns.dtype)
            if order.rows is not None:
                operator = operator.take(order.rows.argsort(), axis=1)
            values = apply(operator, columns)
            # Before answers that are passed through replace any.
            usable = all_finite(values[telltale])
        else:
            values = apply(operator, columns if order.rows is None else columns[order.rows])
            usable = all_finite(columns)  # factors need not take all of them into account
        values = values.reshape(self.code.tasks, groups, *outputs)
        exact = np.zeros(values.shape[:2], dtype=bool)
        if self.raw.count(None) < len(self.raw) and isinstance(operator, np.ndarray):
            # A row that passes one raw answer through and takes nothing of the others.
            for task, column in enumerate(unit_columns(operator)):
                if column is not None and self.raw[slots[column]] == task:
                    values[task], exact[task] = stacked[column], True
        return values, exact, usable

    def _outliers(self, order: Order, stacked: np.ndarray) -> np.ndarray | None:
        """Who stands out in which group, (F, B) bool; None if nobody does."""
        precision = self.code.witness(order.ascending) if order.slots else None
        if precision is None:
            return None
        flat = stacked.reshape(*stacked.shape[:2], -1)
        if isinstance(precision, Precision) and precision.exact:
            return exact_outliers(flat, precision, order.rows)
        return find_lies(flat, precision, order.rows)

    def _without_lies(
        self, slots: tuple[int, ...], stacked: np.ndarray, outliers: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, set[int]]:
        owners = [self.raw[slot] for slot in slots]
        broken = nonfinite_answers(stacked) if outliers is None else np.zeros_like(outliers)
        told = self.code.shortfall if self.code.determined else None
        lied = rejected_nonfinite(slots, stacked, broken, owners, told)
        if outliers is None:
            outliers = np.zeros_like(broken)
            for pattern, where in column_patterns(~reject_frequent(broken)):
                kept = selected_slots(slots, pattern)
                found = self._outliers(Order.of(kept), stacked[pattern][:, where])
                if found is not None:
                    outliers[np.ix_(pattern, where)] = found
        lies = reject_frequent(lied | outliers)
        # Nobody contradicts a raw answer of -inf, so it is returned; but it must not enter the
        # mixture that estimates the other tasks.
        usable = ~(lies | broken)
        why, remedy = rejection_reasons(bool(broken.any()), bool(outliers.any()))
        values = np.empty((self.code.tasks, *stacked.shape[1:]), values_dtype(stacked.dtype))
        exact = np.zeros(values.shape[:2], dtype=bool)
        passed = [(t, row, (broken & ~lies)[row]) for row, t in enumerate(owners) if t is not None]
        for task, _, where in passed:
            exact[task] |= where
        for pattern, where in column_patterns(usable):
            if exact[:, where].all():  # nobody has a number, and nobody contradicts that
                continue
            kept = selected_slots(slots, pattern)
            without = f", {len(slots) - len(kept)} left out because {why}"
            self._check(kept, stacked.dtype, without, remedy)
            part = self._estimate(Order.of(kept), stacked[pattern][:, where])
            values[:, where], exact[:, where], _ = part
        for task, row, where in passed:
            values[task, where], exact[task, where] = stacked[row, where], True
        return values, exact, {slots[row] for row in np.flatnonzero(lies.any(axis=1))}

    def _check(
        self, slots: tuple[int, ...], dtype: np.dtype[Any], without: str = "", remedy: str = ""
    ) -> None:
        name = type(self.code).__name__
        if slots and dtype.kind not in "fc":
            raise InvalidAnswer(
                f"answers of dtype {dtype} cannot be interpolated, as {name} must: return scores "
                "instead of labels, cast to float in fn if they are quantities, or use a code that "
                "copies (Replication, Uncoded)"
            )
        reason = self.code.shortfall(frozenset(slots), dtype)
        if reason is not None:
            raise NotEnoughAnswers(
                f"{len(slots)} of {self.code.workers} workers gave a usable answer{without}, and "
                f"{name} cannot decode from them: {reason}{remedy}"
            )
