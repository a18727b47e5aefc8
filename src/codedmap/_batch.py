"""Rows encoded by a code, the answers to them, and what they decode to. No clock here."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._again import confronted, of_own_answers, overlaid
from ._answers import Answers, Sheet, all_finite, matrix
from ._code import Arranging, Code, Estimate, Learning, Salvageable
from ._errors import InvalidAnswer, InvalidArgument, NotEnoughAnswers
from ._groups import cut, joined, spans
from ._memory import check_memory
from ._rows import check_finite

__all__ = ["Batch"]


class Batch:
    """Rows encoded by a code, and the answers to them.

    Parameters
    ----------
    code : Code
    rows : ndarray, shape (m, *x)
    hedged : bool
        Whether tasks' own inputs may be sent as well. A task's own input has the slots of the
        payloads that are the same; or, where some task's is nobody's payload, slot N + k.
    kind : str
        What the rows are called in messages.

    Raises
    ------
    InvalidArgument
        If rows are not finite, the code cannot encode them, or its arrangement leaves some out.
    NotEnoughMemory
        If the payloads would not fit.
    """

    def __init__(self, code: Code, rows: np.ndarray, *, hedged: bool, kind: str = "input") -> None:
        self.code = code
        first = getattr(code, "looks_at_inputs", True)
        if first:
            check_finite(rows, kind)
        order = code.arranged(rows) if isinstance(code, Arranging) else None
        self._place = None if order is None else self._places(order, len(rows))
        blocks = cut(rows if order is None else rows[order], code.tasks)
        self._rows = len(rows)
        self._spans = spans(blocks)
        self._groups = self._spans[-1][1]
        payloads = code.workers * self._groups * rows[:1].nbytes
        check_memory(payloads, rows.nbytes, code.tasks, code.workers)
        self._encodings = [code.encode(block) for block in blocks]
        # A payload that takes from every input tells of them all, and is read in a fraction of the time.
        if not (first or all(map(_surely_finite, self._encodings))):
            check_finite(rows, kind)
        self._answers = Answers(code.workers)
        self._came: set[int] = set()
        self._estimate: Estimate | None = None
        self._blocks: list[np.ndarray] = []
        self.owner = self._owners(self._encodings[0])
        """For each slot whose payload is the own input of a task, that task."""
        if hedged and set(self.owner.values()) != set(range(code.tasks)):
            self._blocks = blocks
            self.owner = {code.workers + task: task for task in range(code.tasks)}
        self._own: dict[int, Any] = {}
        self._second: dict[int, Any] = {}
        self.lied: set[tuple[int, int]] = set()
        """Slots with an answer judged a lie, and which of their answers it was, 0 or 1."""

    def payload(self, slot: int) -> np.ndarray:
        """The batch for one slot, (B, *x), not writable."""
        if slot < self.code.workers:
            parts = [encoding.payloads[slot] for encoding in self._encodings]
        else:
            parts = [block[self.owner[slot]] for block in self._blocks]
        payload = parts[0].view() if len(parts) == 1 else np.concatenate(parts)
        # In an engine of threads fn sees this very memory, which may be the caller's inputs.
        payload.flags.writeable = False
        return payload

    def take(self, slot: int, answer: Any) -> None:
        """An answer has come; the second of a slot only confirms or disputes the first."""
        if slot >= self.code.workers:
            self._own[slot] = answer
        elif slot in self._came:
            self._second[slot] = answer
        else:
            self._came.add(slot)
            self._answers.add(slot, answer)
        self._estimate = None

    def decodable(self, answered: frozenset[int]) -> bool:
        """Whether every group can be decoded from answers of these slots."""
        payloads = frozenset(slot for slot in answered if slot < self.code.workers)
        if len(payloads) < len(answered) and self.all_raw(answered):
            return True
        return all(encoding.decodable(payloads) for encoding in self._encodings)

    def all_raw(self, answered: frozenset[int]) -> bool:
        """Whether every task's own input is among the payloads of these slots."""
        have = {task for slot, task in self.owner.items() if slot in answered}
        return len(have) == self.code.tasks

    def decode(self) -> Estimate:
        """An estimate of all rows, from all answers so far.

        Raises
        ------
        NotEnoughAnswers, InvalidAnswer
            As `Encoding.decode`.
        """
        if self._estimate is None:
            try:
                sheet, others = self._sheet()
                parts = [
                    encoding.decode(sheet.groups(*span))
                    for encoding, span in zip(self._encodings, self._spans, strict=True)
                ]
            except NotEnoughAnswers:
                if len(self._own) < self.code.tasks:
                    raise
                sheet, others, parts = Sheet((), np.empty((0, 0))), (), [self._own_alone()]
                if not parts[0].exact.all():
                    raise
            self._estimate = self._joined(parts, sheet, others)
        return self._estimate

    def tried(self) -> Estimate | None:
        """An estimate, or None while lies hinder it: others may still make up for those."""
        try:
            return self.decode()
        except (NotEnoughAnswers, InvalidAnswer):
            return None

    def salvage(self) -> Estimate:
        """What there is though it cannot be decoded: NaN where nothing is known."""
        try:
            sheet, others = self._sheet()
        except NotEnoughAnswers:
            sheet, others = Sheet((), np.empty((0, 0))), ()
        if not sheet and self._own:
            return self._joined([self._own_alone()], sheet, others)
        parts = [
            encoding.salvage(sheet.groups(*span))
            if isinstance(encoding, Salvageable) and sheet
            else _nothing(self.code.tasks, (span[1] - span[0], *sheet.block.shape[2:]))
            for encoding, span in zip(self._encodings, self._spans, strict=True)
        ]
        return self._joined(parts, sheet, others)

    def forget(self) -> None:
        """The arrays of the last estimate are the caller's now, who may write into them."""
        self._estimate = None

    @property
    def learned(self) -> Any:
        """What the code has learned from the answers."""
        first = self._encodings[0]
        return first.learned if isinstance(first, Learning) else None

    @property
    def task_of_row(self) -> np.ndarray:
        """For each of the caller's rows its task, (m,)."""
        place = np.arange(self._rows) if self._place is None else self._place
        tasks: np.ndarray = place // self._groups
        return tasks

    def _owners(self, encoding: Any) -> dict[int, int]:
        raw = encoding.raw if isinstance(encoding, Salvageable) else ()
        return {slot: task for slot, task in enumerate(raw) if task is not None}

    def _own_alone(self) -> Estimate:
        own = {self.owner[slot]: answer for slot, answer in self._own.items()}
        return of_own_answers(own, self.code.tasks, self._groups)

    def _sheet(self) -> tuple[Sheet, tuple[int, ...]]:
        """Answers of the usual form, and slots that gave another; a second answer replaces it."""
        sheet, others = self._answers.sheet(self._groups)
        again = {slot: self._second[slot] for slot in others if slot in self._second}
        if not again:
            return sheet, others
        slots, block, _ = matrix(dict(sheet) | again, self._groups)
        return Sheet(slots, block), others

    def _joined(self, parts: list[Estimate], sheet: Sheet, others: tuple[int, ...]) -> Estimate:
        whole = _whole(parts)
        self.lied = {(slot, 0) for slot in (*others, *whole.rejected)}
        for slot in overlaid(whole, {self.owner[s]: answer for s, answer in self._own.items()}):
            self.lied.add((self.code.workers + slot, 0))
        for slot, second in self._second.items():
            if slot in sheet and slot not in others:
                lies = confronted(whole, self.owner[slot], sheet[slot], second)
                self.lied |= {(slot, which) for which in (0, 1) if lies[which]}
        return Estimate(
            self._in_place(whole.values),
            self._in_place(whole.exact),
            None if whole.stderr is None else self._in_place(whole.stderr),
            tuple(sorted({slot for slot, _ in self.lied})),
        )

    def _in_place(self, values: np.ndarray) -> np.ndarray:
        rows = joined([values], self._rows)
        return rows if self._place is None else rows[self._place]

    def _places(self, order: np.ndarray, rows: int) -> np.ndarray:
        """Where each of the caller's rows stands in this order."""
        order = np.asarray(order)
        places = np.full(rows, -1)
        fits = order.shape == (rows,) and order.dtype.kind in "iu"
        if fits and order.min() >= 0 and order.max() < rows:
            places[order] = np.arange(rows)
        if (places < 0).any():
            raise InvalidArgument(
                f"{type(self.code).__name__}.arranged must give each of the numbers 0 to {rows - 1} "
                "once, in any order, or None"
            )
        return places


def _surely_finite(encoding: Any) -> bool:
    telltale = getattr(encoding, "telltale", None)
    return telltale is not None and all_finite(telltale)


def _whole(parts: list[Estimate]) -> Estimate:
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


def _nothing(tasks: int, shape: tuple[int, ...]) -> Estimate:
    groups = shape[0]
    return Estimate(
        np.full((tasks, *shape), np.nan),
        np.zeros((tasks, groups), dtype=bool),
        np.full((tasks, groups), np.inf),
        (),
    )
