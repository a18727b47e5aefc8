"""Rows that are encoded and decoded together, their answers, and why their calls failed."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor, CancelledError
from typing import Any

import numpy as np

from ..contracts.answers import as_array, cast_values
from ..contracts.code import Estimate
from ..contracts.engine import Reply
from ..errors import CallTimeout, EngineError, NotStarted, RowFailed, WorkerCrashed
from ..results.status import Status
from ..results.trees import blanked
from .encoded import EncodedRows
from .events import Call, Kind, Loss
from .missing import Estimates
from .task import raised_by_fn
from .uncoded import row_failed


class ChunkRows:
    """The rows of a chunk by their numbers in the job, the answers to them, and why calls were lost."""

    def __init__(self, encoded: EncodedRows, rows: np.ndarray | slice, checksum: str = "") -> None:
        self.encoded, self.rows, self.checksum = encoded, rows, checksum
        self.taken = 0
        """Answers so far."""
        self.errors: dict[int, BaseException] = {}
        """By slot, why it has no answer."""
        self.found: tuple[int, list[Estimates]] = 0, []
        """Early estimates of its rows, after the number of answers from which they were made."""
        self._dtypes: set[np.dtype[Any]] = set()  # of answers to own inputs
        # Rows for whose own input ``fn`` raised, and in which call.
        self._raised: dict[int, tuple[Call, BaseException]] = {}
        # Rows of a batch of own inputs for which ``fn`` raised, perhaps because of another row.
        self._batches: dict[int, BaseException] = {}

    @property
    def numbers(self) -> np.ndarray:
        """The numbers of its rows in the job."""
        rows = self.rows
        return np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows

    def number_of(self, place: int) -> int:
        """The number in the job of one of its rows."""
        rows = self.rows
        return rows.start + place if isinstance(rows, slice) else int(rows[place])

    def number_at(self, slot: int, group: int) -> int:
        """The number of the row that a payload holds in a group; 0 for a row that only fills up the group."""
        place = self.encoded.row(slot, group)
        return 0 if place is None else self.number_of(place)

    def take(self, call: Call, reply: Reply) -> BaseException | None:
        """Keep an answer, with placeholders for rows that raised; or return why there is none.

        If a mixture raised for some groups, the whole answer counts as none.
        """
        answer, raw = reply.values, call.slot in self.encoded.task_of
        if reply.raised:
            errors: dict[int, BaseException] = {
                place: raised.to_exception() for place, raised in reply.raised.items()
            }
            for place, error in errors.items():
                row = self.encoded.row(call.slot, place)
                if row is not None:
                    self._raised.setdefault(row, (call, error))
            good = call.groups - len(errors)
            if answer is None or not good or not raw:
                return next(iter(errors.values()))
            answer = as_array(answer)
            # An answer that is no array, or has too few rows, is rejected when it is decoded.
            if isinstance(answer, np.ndarray) and answer.shape[:1] == (good,):
                answer = _with_placeholders(answer, call.groups, list(errors))
        array = as_array(answer)
        if isinstance(array, np.ndarray) and raw:
            self._dtypes.add(array.dtype)
        worker: Any = call.worker
        again = call.kind is not Kind.FIRST
        self.encoded.take(call.slot, answer, worker, again=again, raised=reply.raised)
        self.taken += 1
        self.errors.pop(call.slot, None)
        return None

    def lose(self, call: Call, error: BaseException, loss: Loss, *, record: bool) -> None:
        """Keep why a call has no answer; with ``record`` a row that raised alone has failed."""
        # A call that had not begun says nothing about the next call of its slot.
        if isinstance(self.errors.get(call.slot), CancelledError | NotStarted):
            del self.errors[call.slot]
        self.errors.setdefault(call.slot, error)
        by_fn = raised_by_fn(error) or not isinstance(error, BrokenExecutor | EngineError)
        if loss is Loss.RAISED and by_fn and call.slot in self.encoded.task_of:
            for row in self.encoded.rows_of(call.slot):
                if call.groups == 1 and record:
                    self._raised.setdefault(row, (call, error))
                else:
                    self._batches.setdefault(row, error)

    def lost_calls(self) -> set[int]:
        """Rows of the chunk whose own input was in a call that crashed, ran too long, or has an answer of another form.

        So are those of a batch that raised as a whole, perhaps because of another row: from now on they are missing.
        """
        ended = WorkerCrashed, CallTimeout
        lost = {slot for slot, error in self.errors.items() if isinstance(error, ended)}
        rows = set(self._batches)
        self._batches.clear()
        return rows.union(*map(self.encoded.rows_of, lost | self.encoded.unlike))

    def first_failed(self, *, itemwise: bool, given: str) -> RowFailed | None:
        """The error that names the first row for whose own input ``fn`` raised."""
        if not self._raised:
            return None
        place = min(self._raised)
        call, error = self._raised[place]
        return row_failed(self.number_of(place), call, error, itemwise=itemwise, given=given)

    def judged(self, estimate: Estimate) -> tuple[Estimate, np.ndarray, dict[int, BaseException]]:
        """An estimate in which failed rows are blank, the status of each row, and why rows failed, by number."""
        status = _status(estimate)
        failed: dict[int, BaseException] = {}
        for place, (_, error) in self._raised.items():
            if place in self.encoded.unanswered or status[place] != Status.EXACT:
                failed[place] = error
        for place, error in self._batches.items():
            if status[place] == Status.MISSING:
                failed.setdefault(place, error)
        status[list(failed)] = Status.FAILED
        lost = status == Status.FAILED
        if lost.any():
            stderr = estimate.stderr
            if stderr is not None:
                stderr = np.array(stderr)
                stderr[lost] = np.inf
            values = blanked(estimate.values, lost)
            estimate = Estimate(values, estimate.exact & ~lost, stderr, estimate.rejected)
        reasons = {self.number_of(place): failed[place] for place in sorted(failed)}
        return estimate, status, reasons

    def narrowed(self, values: np.ndarray) -> np.ndarray:
        """Answers in the dtype that ``fn`` gave them: rows without an answer may have widened it."""
        kinds = {dtype.kind for dtype in self._dtypes}
        text_beside_others = len(kinds) > 1 and bool(kinds & {"S", "U"})  # NumPy makes text of all
        if values.dtype in self._dtypes or text_beside_others:
            return values
        try:
            narrow = cast_values(values, np.result_type(*self._dtypes)) if self._dtypes else None
        except TypeError:  # the answers have no common dtype
            narrow = None
        return values if narrow is None else narrow


def _with_placeholders(answer: np.ndarray, groups: int, raised: list[int]) -> np.ndarray:
    """An answer to so many groups, with placeholders for those that raised."""
    empty: Any = np.nan if answer.dtype.kind in "fc" else np.zeros((), answer.dtype)[()]
    whole = np.full((groups, *answer.shape[1:]), empty, answer.dtype)
    whole[np.delete(np.arange(groups), raised)] = answer
    return whole


def _status(estimate: Estimate) -> np.ndarray:
    """The status of each row (m,): EXACT, ESTIMATED, or MISSING if a value or standard error is not known."""
    values = estimate.values.reshape(len(estimate.values), -1)
    status = np.full(len(values), Status.ESTIMATED, np.int8)
    if estimate.stderr is not None:
        finite = np.isfinite(estimate.stderr).reshape(len(values), -1)
        status[~finite.all(axis=1)] = Status.MISSING
    elif values.dtype.kind in "fc":
        status[np.isnan(values).any(axis=1)] = Status.MISSING
    status[estimate.exact] = Status.EXACT
    return status
