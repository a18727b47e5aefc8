"""Rows encoded by a code, the answers to them, and what they decode to. No clock is read here."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from ..coding.groups import cut
from ..contracts.answers import Sheet, TwoForms, all_finite, as_array, matrix
from ..contracts.code import Code, Encoding, Estimate
from ..contracts.inputs import check_finite
from ..contracts.memory import check_memory
from ..errors import InvalidAnswer, InvalidArgument, NotEnoughAnswers
from .received import Received, compared, of_own_answers, overlaid

_REJECTED_SHARE = 0.1
"""All answers of a worker are rejected once a larger share of them is."""


class EncodedRows:
    """Rows encoded by a code, and the answers to them.

    The own inputs of tasks can be sent as well. They have the slots of the payloads that are equal to them. If some
    task's own input is no payload, slot N + k sends that of task k.

    Messages call the rows (m, *x) by these ``numbers``. Without ``estimates`` lost tasks may get the mean of the
    answers, because the job estimates them from all its answers. Raises `InvalidArgument` if rows are not finite, the
    code cannot encode them, or its arrangement leaves some out; `NotEnoughMemory` if the payloads would not fit.
    """

    def __init__(
        self,
        code: Code,
        rows: np.ndarray,
        *,
        numbers: Sequence[int] | np.ndarray | None = None,
        estimates: bool = True,
    ) -> None:
        self.code = code
        check_finite(rows, numbers)
        order = code.arranged(rows) if hasattr(code, "arranged") else None
        self._places = None if order is None else _order_places(code, order, len(rows))
        self._rows = len(rows)
        self.groups = -(-len(rows) // code.tasks)
        check_memory(len(rows), rows[:1].nbytes, code.tasks, code.workers)
        blocks = cut(rows if order is None else np.asarray(order), code.tasks)
        if order is not None:  # one block, since rows are copied here anyhow
            blocks = [rows[np.concatenate(blocks, axis=1)]]
        elif len(blocks) > 1 and not getattr(code, "decodes_any_groups", False):
            blocks = [np.concatenate(blocks, axis=1)]
        self._encodings: list[Any] = list(map(code.encode, blocks))
        # It decodes the answers to all groups, so that a worker rejected for most groups is rejected for those of the
        # other block as well.
        self._encoding = self._encodings[0]
        self._decode: Callable[[Sheet], Estimate] = self._encoding.decode
        if hasattr(self._encoding, "judge") and not estimates:
            self._decode = lambda sheet: self._encoding.judge(sheet, self.seconds)
        self.seconds = math.inf
        """Seconds that may be spent on finding wrong answers, if the job makes the estimates."""
        _check_decodable(code, self._encoding, rows.dtype)
        self._received = Received(code.workers)
        self._estimate: Estimate | None = None
        self._blocks: list[np.ndarray] = []
        raw = getattr(self._encoding, "raw", ())
        self.task_of: dict[int, int] = {s: task for s, task in enumerate(raw) if task is not None}
        """For each slot whose payload is the own input of a task, that task. Where a code arranges rows, tasks are
        counted in its order."""
        self.owner = self.task_of
        """The part of it by which each task's own input can be sent."""
        if set(self.owner.values()) != set(range(code.tasks)):
            self._blocks = blocks
            self.owner = {code.workers + task: task for task in range(code.tasks)}
            self.task_of |= self.owner
        self._rejected: set[tuple[int, int]] = set()  # answers, by slot and number: see `Received`
        self._raised: dict[tuple[int, int], frozenset[int]] = {}  # their groups that raised
        self._unfilled: set[int] = set()  # slots with a placeholder that no copy has replaced
        self.unanswered: set[int] = set()
        """Rows that hold a placeholder at the last decoding, because every answer to their own input raised."""
        self.unlike: set[int] = set()
        """Slots whose answers at the last decoding had another form than most."""

    def payload(self, slot: int) -> np.ndarray:
        """The batch for one slot, (B, *x)."""
        if slot < self.code.workers:
            parts = [
                encoding.payload(slot) if hasattr(encoding, "payload") else encoding.payloads[slot]
                for encoding in self._encodings
            ]
        else:
            parts = [block[self.owner[slot]] for block in self._blocks]
        return parts[0].view() if len(parts) == 1 else np.concatenate(parts)

    def take(
        self,
        slot: int,
        answer: Any,
        worker: int | None = None,
        *,
        again: bool = False,
        raised: Iterable[int] = (),
    ) -> None:
        """Keep an answer; a later one of the same slot only confirms or disputes the first.

        ``worker`` made it, by default that of the slot's number; ``again``: as a hedge or a retry. It holds
        placeholders for the groups that have ``raised``.
        """
        groups = frozenset(raised)
        if groups:
            self._raised[slot, self._received.count(slot)] = groups
        self._received.add(slot, answer, slot if worker is None else worker, again=again)
        self._estimate = None

    def decodable(self, answered: frozenset[int]) -> bool:
        """Whether every group can be decoded from answers of these slots."""
        payloads = frozenset(slot for slot in answered if slot < self.code.workers)
        if len(payloads) < len(answered) and self.owner.keys() <= answered:
            return True
        return bool(self._encoding.decodable(payloads))

    def decode(self) -> Estimate:
        """An estimate of all rows, from all answers so far; raises as `Encoding.decode`."""
        if self._estimate is None:
            self._received.left_out.clear()
            self._rejected.clear()
            estimate = self._decoded()
            while self._received.leave_out(self._rejected):
                estimate = self._decoded()
            self._estimate = estimate
        return self._estimate

    def tried(self) -> Estimate | None:
        """An estimate; None while too few answers are right, which later answers may change."""
        try:
            return self.decode()
        except (NotEnoughAnswers, InvalidAnswer):
            return None

    def salvage(self) -> Estimate:
        """An estimate from answers that cannot be decoded: NaN where nothing is known."""
        judged = set(self._rejected)  # by the attempt to decode
        estimate = self._salvaged()
        self._rejected |= judged
        while self._received.leave_out(self._rejected):
            estimate = self._salvaged()
            self._rejected |= judged
        return estimate

    def forget(self) -> None:
        """Drop the last estimate, whose arrays the caller may write into from now on."""
        self._estimate = None

    @property
    def rejected_workers(self) -> set[int]:
        """Workers with an answer that the last decoding rejected."""
        return {self._received.worker(*which) for which in self._rejected}

    def excuse(self, rows: set[int]) -> None:
        """Reject no worker for answers of another form to these rows: ``fn`` gives them that form on every worker."""
        due = {slot for slot in self.unlike if (own := self.rows_of(slot)) and own <= rows}
        self._rejected = {which for which in self._rejected if which[0] not in due}

    @property
    def workers(self) -> set[int]:
        """Workers that have answered."""
        return self._received.workers

    def usable(self, slot: int) -> bool:
        """Whether an answer of this slot is used: others are left out, as their workers answered wrongly elsewhere."""
        return bool(self._received.kept(slot))

    def count_rejected(self, exact: np.ndarray, counts: dict[Hashable, list[int]]) -> np.ndarray:
        """Add to the ``counts`` of each worker: its answers, and those rejected though finite and of the usual form.

        ``exact`` (m,) bool are the rows that are exact. A rejected answer to a mixture counts as wrong in all groups.
        Returns the only worker that answered each row (m,), as a place in ``counts``; -1 if there is none, or several.
        """
        in_order = np.ones(self.code.tasks * self.groups, dtype=bool)
        in_order[slice(self._rows) if self._places is None else self._places] = exact
        exact_groups = in_order.reshape(self.code.tasks, self.groups)
        sheet, which, _ = self._usable_sheet()
        places = {worker: place for place, worker in enumerate(counts)}
        answered = np.zeros((self.code.tasks, self.groups), dtype=int)
        by = np.full(answered.shape, -1)
        for slot in {*sheet, *(slot for slot in self.owner if slot >= self.code.workers)}:
            first = which.get(slot, 0)
            for n, answer in self._received.kept(slot):
                if n < first:
                    continue
                worker, wrong = self._received.worker(slot, n), (slot, n) in self._rejected
                kept = sheet[slot] if n == first and slot in sheet else as_array(answer)
                if wrong and not _comparable(kept, sheet):
                    continue
                task = self.task_of.get(slot)
                lost = self.groups if task is None else int((~exact_groups[task]).sum())
                places.setdefault(worker, len(places))
                count = counts.setdefault(worker, [0, 0])
                count[0] += self.groups
                count[1] += wrong * lost
                if task is not None and not wrong:
                    answered[task] += 1
                    by[task] = places[worker]
        by[answered != 1] = -1
        return np.asarray(self._by_rows(by))

    def mixtures(self, most: int) -> tuple[np.ndarray, np.ndarray]:
        """Payloads (n, *x) that are mixtures, and the answers (n, *y) to them, without slots whose answer is rejected.

        If the payloads hold more than ``most`` numbers, a random choice, with at least one payload of each slot.
        """
        sheet, which, _ = self._usable_sheet()
        slots = [
            slot
            for slot in sheet
            if slot not in self.task_of and (slot, which.get(slot, 0)) not in self._rejected
        ]
        if not slots:
            return np.zeros((0, 0)), np.zeros((0, 0))
        each = max(1, most // (len(slots) * max(1, self.payload(slots[0])[:1].size)))
        groups: slice | np.ndarray = slice(None)
        if each < self.groups:
            groups = np.sort(np.random.default_rng(0).permutation(self.groups)[:each])
        return (
            np.concatenate([self.payload(slot)[groups] for slot in slots]),
            np.concatenate([sheet[slot][groups] for slot in slots]),
        )

    def answered(self) -> np.ndarray:
        """Rows (m,) bool with an answer to their own input that is not rejected."""
        sheet, which, _ = self._usable_sheet()
        have = np.zeros((self.code.tasks, self.groups), dtype=bool)
        for slot in sheet:
            if slot in self.task_of and (slot, which.get(slot, 0)) not in self._rejected:
                have[self.task_of[slot]] = True
        for slot, task in self.owner.items():
            if slot >= self.code.workers and any(
                (slot, n) not in self._rejected for n, _ in self._received.kept(slot)
            ):
                have[task] = True
        rows = np.asarray(self._by_rows(have))
        rows[list(self.unanswered)] = False
        return rows

    def row(self, slot: int, group: int) -> int | None:
        """The row that this payload holds in this group; None if it is a mixture, or only fills up a group."""
        if slot not in self.task_of:
            return None
        place = self.task_of[slot] * self.groups + group
        if place >= self._rows:
            return None
        return place if self._places is None else int(self._row_at[place])

    def rows_of(self, slot: int) -> set[int]:
        """The rows that a payload holds; none if it is a mixture."""
        rows = (self.row(slot, group) for group in range(self.groups))
        return {row for row in rows if row is not None}

    @cached_property
    def _row_at(self) -> np.ndarray:
        """The row at each place of the code's order: the inverse of ``_places``."""
        return np.argsort(self._places if self._places is not None else np.arange(self._rows))

    def _decoded(self) -> Estimate:
        sheet: Sheet | None = None
        which: dict[int, int] = {}
        rejected: set[tuple[int, int]] = set()
        self._unfilled, self.unanswered = set(), set()
        try:
            sheet, which, rejected = self._sheet()
            sheet = self._filled(sheet, which)
            joint = _checked(self._decode(sheet), self.code, sheet.block.shape[1:])
        except NotEnoughAnswers:
            own = self._own_answers()
            if len(own) < self.code.tasks:
                raise
            alone = of_own_answers(own, self.code.tasks, self.groups)
            if not alone.exact.all():
                raise
            self._unmark_placeholders(alone)
            if sheet:  # answers that are not finite can be rejected without decoding
                broken = self._undecoded(sheet).rejected
                rejected |= {(slot, which.get(slot, 0)) for slot in broken}
            sheet, joint = _EMPTY, alone
        return self._joined(joint, sheet, which, rejected)

    def _salvaged(self) -> Estimate:
        self._unfilled, self.unanswered = set(), set()
        sheet, which, rejected = self._usable_sheet()
        sheet = self._filled(sheet, which)
        own = self._own_answers()
        if sheet or not own:
            return self._joined(self._undecoded(sheet), sheet, which, rejected)
        try:
            joint = of_own_answers(own, self.code.tasks, self.groups)
        except TwoForms:  # it is not known which is right: none is rejected
            return self._in_rows(self._undecoded(sheet))
        self._unmark_placeholders(joint)
        return self._joined(joint, sheet, which, rejected)

    def _undecoded(self, sheet: Sheet) -> Estimate:
        """An estimate without decoding: the encoding's ``salvage``, or NaN."""
        if hasattr(self._encoding, "salvage") and sheet:
            found: Estimate = self._encoding.salvage(sheet)
            return found
        shape = self.code.tasks, self.groups
        values = np.full((*shape, *sheet.block.shape[2:]), np.nan)
        return Estimate(values, np.zeros(shape, dtype=bool), np.full(shape, np.inf), ())

    def _own_answers(self) -> dict[int, tuple[int, Any]]:
        """The first answer of each task's extra slot, N + k, that is not left out, after its worker, by task."""
        return {
            task: (self._received.worker(slot, kept[0][0]), kept[0][1])
            for slot, task in self.owner.items()
            if slot >= self.code.workers and (kept := self._received.kept(slot))
        }

    def _usable_sheet(self) -> tuple[Sheet, dict[int, int], set[tuple[int, int]]]:
        """As `_sheet`; empty if answers have two forms and it is not known which is right."""
        try:
            return self._sheet()
        except NotEnoughAnswers:
            return _EMPTY, {}, set()

    def _sheet(self) -> tuple[Sheet, dict[int, int], set[tuple[int, int]]]:
        """Answers of the usual form; the numbers of those that are not their slot's first; and answers of another form.

        Where the first answer of a slot has another form, or is left out, the next one replaces it.
        """
        sheet, others = self._received.sheet(self.groups)
        self.unlike = set(others)
        rejected = {(slot, 0) for slot in others}
        out = {slot for slot, answer in self._received.left_out if answer == 0 and slot in sheet}
        if not out and self._received.several.isdisjoint(others):
            return sheet, {}, rejected
        kept: dict[int, Any] = {s: row for s, row in sheet.items() if s not in out}
        which = {}
        for slot in {*others, *out}:
            later = [(n, answer) for n, answer in self._received.kept(slot) if n > 0]
            if later:
                which[slot], kept[slot] = later[0]
        slots, block, others = matrix(kept, self.groups)
        self.unlike = set(others)
        rejected |= {(slot, which.get(slot, 0)) for slot in others}
        return Sheet(slots, block), which, rejected

    def _filled(self, sheet: Sheet, which: Mapping[int, int]) -> Sheet:
        """Answers in which the placeholders of rows that raised are replaced by answers of other copies, if there are any."""
        raised = {
            slot: groups
            for (slot, n), groups in self._raised.items()
            if slot in sheet and n == which.get(slot, 0)
        }
        if not raised:
            return sheet
        block = sheet.block.copy()
        at = {slot: place for place, slot in enumerate(sheet.slots)}
        raw = [slot for slot in at if slot in self.task_of]
        for slot, groups in raised.items():
            task = self.task_of[slot]
            for group in groups:
                good = (
                    other
                    for other in raw
                    if group not in raised.get(other, ()) and self.task_of[other] == task
                )
                copy = next(good, None)
                if copy is not None:
                    block[at[slot], group] = sheet.block[at[copy], group]
                    continue
                self._unfilled.add(slot)
                self._leave_unanswered(slot, group)
        return Sheet(sheet.slots, block)

    def _leave_unanswered(self, slot: int, group: int) -> None:
        row = self.row(slot, group)
        if row is not None:
            self.unanswered.add(row)

    def _unmark_placeholders(self, alone: Estimate) -> None:
        """Mark placeholders in answers to own inputs as not exact; `_joined` deals with their rows."""
        for (slot, _), groups in self._raised.items():
            if slot >= self.code.workers:
                alone.exact[self.owner[slot], list(groups)] = False

    def _without_placeholders(self, slot: int, n: int, answer: Any, known: np.ndarray) -> Any:
        """An answer whose placeholders are replaced by what is ``known`` (B, *y); one of another form as it is."""
        groups = list(self._raised.get((slot, n), ()))
        if not groups or getattr(answer, "shape", None) != known.shape:
            return answer
        answer = np.array(answer)
        answer[groups] = known[groups]
        return answer

    def _joined(
        self,
        joint: Estimate,
        sheet: Sheet,
        which: dict[int, int],
        rejected: set[tuple[int, int]],
    ) -> Estimate:
        """An estimate compared with further answers, those to own inputs and second ones, as one of the rows."""
        rejected |= {(slot, which.get(slot, 0)) for slot in joint.rejected}
        rejected -= {(slot, 0) for slot in self._unfilled}  # a placeholder is no wrong answer
        for slot, task in self.owner.items() if self._blocks else ():
            for n, own in self._received.kept(slot):
                for group in self._raised.get((slot, n), ()):
                    if not joint.exact[task, group]:
                        self._leave_unanswered(slot, group)
                answer = self._without_placeholders(slot, n, own, joint.values[task])
                if overlaid(joint, task, answer):
                    rejected.add((slot, n))
        for slot in self._received.several & sheet.keys() & self.task_of.keys():
            first, task = which.get(slot, 0), self.task_of[slot]
            for n, later in self._received.kept(slot):
                if n > first:
                    second = self._without_placeholders(slot, n, later, sheet[slot])
                    wrong = compared(joint, task, sheet[slot], second)
                    rejected |= {(slot, m) for m, out in ((first, wrong[0]), (n, wrong[1])) if out}
        # Answers that are left out keep their verdict.
        self._rejected = rejected | (self._rejected & self._received.left_out)
        return self._in_rows(joint)

    def _in_rows(self, joint: Estimate) -> Estimate:
        """An estimate of tasks as one of the rows."""
        return Estimate(
            self._by_rows(joint.values),
            self._by_rows(joint.exact),
            None if joint.stderr is None else self._by_rows(joint.stderr),
            tuple(sorted({slot for slot, _ in self._rejected})),
        )

    def _by_rows(self, values: np.ndarray) -> np.ndarray:
        """Results (K, B, ...) of tasks in the order of the rows, (m, ...)."""
        rows = values.reshape(-1, *values.shape[2:])[: self._rows]
        return rows if self._places is None else rows[self._places]


class Rejections:
    """Workers of a job whose answers are all rejected, and the rows that only they have answered.

    Counts the answers of each worker that were rejected, over all chunks of a job.
    """

    def __init__(self) -> None:
        self._by = np.zeros(0, np.int32)  # the only worker of each row: see `count_rejected`
        self._counts: dict[Hashable, list[int]] = {}

    def add(self, chunk: EncodedRows, rows: np.ndarray | slice, exact: np.ndarray) -> None:
        """Count the answers to a chunk with these rows of the job, of which some are ``exact`` (m,) bool."""
        by = chunk.count_rejected(exact, self._counts)
        end = rows.stop if isinstance(rows, slice) else int(rows.max()) + 1
        if end > len(self._by):
            more = max(end, 2 * len(self._by)) - len(self._by)
            self._by = np.append(self._by, np.full(more, -1, np.int32))
        self._by[rows] = by

    @property
    def workers(self) -> frozenset[Hashable]:
        """Workers of whose answers more than a tenth are rejected."""
        counts = self._counts.items()
        return frozenset(w for w, (answers, wrong) in counts if wrong > _REJECTED_SHARE * answers)

    def unsupported(self, rows: int) -> np.ndarray:
        """Rows (m,) bool that only one of these workers has answered."""
        workers = self.workers
        found = np.zeros(rows, dtype=bool)
        if workers:
            places = [place for place, worker in enumerate(self._counts) if worker in workers]
            found[: len(self._by)] = np.isin(self._by[:rows], places)
        return found


_EMPTY = Sheet((), np.empty((0, 0)))


def _check_decodable(code: Code, encoding: Encoding, dtype: np.dtype[Any]) -> None:
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


def _checked(found: Any, code: Code, shape: tuple[int, ...]) -> Estimate:
    """What a code has decoded, for answers of ``shape`` (B, *y); raises `InvalidArgument` if it is no valid `Estimate`."""
    groups, every = (code.tasks, shape[0]), (code.tasks, *shape)
    if not isinstance(found, Estimate):
        wrong = f"a {type(found).__name__}, and must return a codedmap.contracts.Estimate"
    elif not isinstance(found.values, np.ndarray) or found.values.shape != every:
        wrong = f"values of shape {np.shape(found.values)}, and not an array (K, B, ...) = {every}"
    elif np.shape(found.exact) != groups or np.asarray(found.exact).dtype != bool:
        wrong = f"an exact that is not a boolean array (K, B) = {groups}"
    elif found.stderr is not None and np.shape(found.stderr) not in (groups, every):
        wrong = f"a stderr of shape {np.shape(found.stderr)}, and not (K, B, ...) = {every}"
    elif found.stderr is not None and not (np.asarray(found.stderr)[~found.exact] > 0).all():
        wrong = "a stderr that is not above 0 for each value that is not exact"
    else:
        return replace(
            found, stderr=None if found.stderr is None else _writable(np.asarray(found.stderr))
        )
    raise InvalidArgument(f"decode of {type(code).__name__} returned {wrong}")


def _writable(stderr: np.ndarray) -> np.ndarray:
    """A copy of standard errors (K, B, *y), or (K, B) of them if `for_all_entries` made them the same for all outputs."""
    outputs = stderr.ndim - 2
    same = stderr.size and outputs and not any(stderr.strides[2:])
    return np.array(stderr.reshape(*stderr.shape[:2], -1)[:, :, 0] if same else stderr)


def _order_places(code: Code, order: Any, rows: int) -> np.ndarray:
    """Where each of the caller's rows stands in the order that a code has arranged.

    Raises `InvalidArgument` if that does not hold each row once.
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


def _comparable(answer: Any, sheet: Sheet) -> bool:
    """Whether an answer is finite, and of the form of the others."""
    if not isinstance(answer, np.ndarray) or answer.dtype.kind not in "biufc":
        return False
    return answer.shape == sheet.block.shape[1:] and all_finite(answer)
