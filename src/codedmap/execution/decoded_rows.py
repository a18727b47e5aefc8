"""What is known of all rows of a job with a code: values, standard errors, status, and why rows failed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

import numpy as np

from ..contracts.code import Estimate
from ..errors import InvalidAnswer
from ..results.status import Status
from ..results.trees import Rows, blanked, for_all_entries, map_leaves
from .chunk_rows import ChunkRows
from .encoded import Rejections
from .failures import Failures
from .job_estimates import JobEstimates
from .job_rows import JobRows
from .missing import Effort, Estimates
from .uncoded import RowsJob


class DecodedRows:
    """The rows of a job, from the chunks that are decoded; answers are kept in its store, or in memory.

    ``whole``: all rows are one chunk, whose arrays are not copied. ``early``: the estimates that a stopping rule has
    seen are kept. ``record``: rows fail whose answers an output does not hold; else that is an error.
    """

    def __init__(
        self, rows: JobRows, estimates: JobEstimates, *, whole: bool, early: bool, record: bool
    ) -> None:
        self._rows, self._estimates = rows, estimates
        self._whole, self._early, self._record = whole, early, record
        self.values = Rows(len(rows.status))
        """Answers in memory; empty where there is a store."""
        self._stderr: np.ndarray | None = None
        self._without_stderr = False  # whether rows were estimated without a standard error
        self.failures: dict[int, BaseException] = {}
        self._rejected: set[Any] = set()  # workers
        self._rejections = Rejections()
        self._lost = np.full(len(rows.status), estimates.filling)
        """Rows without an answer of their own, which are estimated in the end; none of an iterator."""
        self._found: list[Estimates] = []  # early ones

    def keep(self, answers: Any, failures: Mapping[int, BaseException]) -> None:
        """Keep answers (m, *y) to the rows that are EXACT, and why others are FAILED."""
        exact = self._rows.status == Status.EXACT
        rows = np.flatnonzero(exact)
        self.values.put(rows, len(rows), map_leaves(lambda leaf: leaf[rows], answers))
        self._stderr = np.where(exact, 0.0, np.inf)
        self.failures.update(failures)

    def include(
        self, rows: np.ndarray, status: np.ndarray, failures: Mapping[int, BaseException]
    ) -> None:
        """Take over the ``status`` (m,) of rows that were computed without the code; their answers are stored already."""
        self._rows.status[rows] = status[rows]
        self.failures.update(failures)
        if self._stderr is not None:
            self._stderr = np.array(self._stderr)  # results that were streamed have this one
            errors = np.where(status[rows] == Status.EXACT, 0.0, np.inf)
            self._stderr[rows] = for_all_entries(errors, self._stderr.shape[1:])

    def add(self, chunk: ChunkRows, estimate: Estimate, *, apart: bool) -> bool:
        """Add a chunk and the estimate of it; returns whether rows failed. ``apart``: others are computed without the code."""
        chunk.encoded.forget()
        self._rejected |= chunk.encoded.rejected_workers
        if self._estimates.filling:
            self._rejections.add(chunk.encoded, chunk.rows, estimate.exact)
        estimate, status, failures = chunk.judged(estimate)
        self.failures |= failures
        if (status == Status.EXACT).all():  # a task that only fills up a group may have no answer
            estimate = replace(estimate, values=chunk.narrowed(estimate.values))
        if self._estimates.pooled:
            estimate = self._pooled(chunk, estimate, status)
        if self._rows.store is not None:
            self._write(self._rows.store, chunk, estimate, status)
            return bool((status == Status.FAILED).any())
        self._rows.status[chunk.rows] = status
        known = status < Status.FAILED
        if self._whole:  # there may be no room for a copy
            self._stderr = estimate.stderr
            self._without_stderr = estimate.stderr is None
            if known.any() or not apart:  # else rows computed later give the form
                self.values = Rows.of(estimate.values)
            return bool(failures)
        if known.any():
            rows = chunk.numbers[known]
            self.values.put(rows, len(rows), chunk.narrowed(estimate.values[known]))
        if estimate.stderr is not None:
            before = np.zeros(0) if self._stderr is None else self._stderr
            outputs = max(before.shape[1:], estimate.stderr.shape[1:], key=len)
            if self._stderr is None or before.shape != (len(self._rows.status), *outputs):
                self._stderr = np.full((len(self._rows.status), *outputs), np.inf)
                self._stderr[: len(before)] = _wide(before, outputs)
            self._stderr[chunk.rows] = _wide(estimate.stderr, outputs)
        self._without_stderr |= estimate.stderr is None and not estimate.exact.all()
        return bool(failures)

    def _pooled(self, chunk: ChunkRows, estimate: Estimate, status: np.ndarray) -> Estimate:
        """Keep answers of a chunk for estimates of other rows; returns its estimate, with early estimates in place."""
        exact = np.flatnonzero(status == Status.EXACT)
        if self._early:
            early = self._estimates.of_chunk(chunk, estimate, status)
            _mark(status, status == Status.MISSING, early)
            if self._rows.store is None:
                self._found += [part._replace(rows=chunk.numbers[part.rows]) for part in early]
            else:
                estimate = _with(estimate, early)
        lost = self._estimates.unknown(chunk, status)
        if not self._early:
            lost |= self._estimates.unanswered(chunk, estimate, status)
            if self._rows.store is not None:
                status[lost] = Status.MISSING
        if self._rows.inputs.growing is None:
            self._lost[chunk.rows] = lost
        self._estimates.add(chunk, exact if self._early else None, estimate.values)
        return estimate

    def _write(self, store: Any, chunk: ChunkRows, estimate: Estimate, status: np.ndarray) -> None:
        exact, estimated = status == Status.EXACT, status == Status.ESTIMATED
        rows = chunk.numbers[exact]
        try:
            if exact.all():
                store.put(chunk.rows, len(status), estimate.values, chunk.checksum)
            elif exact.any():
                inputs = store.checksum(self._rows.inputs.batch(rows))
                store.put(rows, len(rows), chunk.narrowed(estimate.values[exact]), inputs)
        except InvalidAnswer as error:  # the output does not hold these beside others
            if not self._record or not (self._rows.status == Status.EXACT).any():
                raise
            status[exact] = Status.FAILED
            self.failures.update(dict.fromkeys(rows.tolist(), error))
        if estimated.any():
            numbers, values = chunk.numbers[estimated], estimate.values[estimated]
            stderr = None if estimate.stderr is None else _like(values, estimate.stderr[estimated])
            if not store.put_estimates(numbers, values, stderr):
                status[estimated] = Status.MISSING
        self._rows.status[chunk.rows] = status  # not before they are written
        self._rows.done(chunk.rows)

    def with_chunk(self, chunk: ChunkRows, estimate: Estimate) -> dict[str, Any]:
        """The fields of a result of one chunk, of all rows, while further answers to it come."""
        chunk.encoded.forget()
        estimate, status, failures = chunk.judged(estimate)
        found = self._estimates.of_chunk(chunk, estimate, status)
        _mark(status, status == Status.MISSING, found)
        return _merged(estimate, found, status, failures, chunk.encoded.rejected_workers)

    def fields(
        self,
        effort: Effort,
        time_left: Callable[[], float],
        *,
        ended: bool,
        apart: RowsJob | None = None,
    ) -> dict[str, Any]:
        """The fields of the result; once the job has ``ended``, rows without an answer are estimated from all answers.

        So are those that ran too long in the job ``apart``, which has computed rows without the code, or they fail.
        """
        inputs, store = self._rows.inputs, self._rows.store
        status, failures = self._rows.status.copy(), dict(self.failures)
        unsupported = self._rejections.unsupported(len(status)) & (status == Status.EXACT)
        missing = status == Status.MISSING
        missing &= self._lost if ended and inputs.growing is None else False
        late = np.zeros(len(status), dtype=bool)
        late[[] if apart is None else [*apart.late]] = True
        lost = missing | unsupported | late
        if unsupported.any() or (self._early and missing.any()):
            # What was kept for estimates holds answers of rejected workers, and exact rows, which are read again.
            status[unsupported] = Status.MISSING
            self._estimates.restart()
        if not self._early:
            lost |= self._lost & (status == Status.ESTIMATED)
        if store is not None:
            store.withdraw(np.flatnonzero(unsupported))
            self._rows.status[late] = Status.FAILED  # unless they are estimated now
            for part in self._of_all(lost, status, effort, time_left):
                store.put_estimates(part.rows, part.values, part.stderr)
            if apart is not None:
                failures |= apart.late_errors(self._rows.status, status)
            values, stderr = store.finish()
            return _fields(values, stderr, self._rows.status.copy(), failures, self._rejected)
        values = self.values.values(status >= Status.FAILED)
        stderr = None if self._without_stderr else self._stderr
        if stderr is not None and (not self._whole or unsupported.any()):
            stderr = np.array(stderr)
            # Chunks may have none, of a code without them, beside others that failed.
            stderr[status == Status.EXACT] = 0.0
            stderr[unsupported] = np.inf
        estimate = Estimate(values, status == Status.EXACT, stderr, ())
        if stderr is None or not isinstance(values, np.ndarray):
            lost &= ~late
        found = [*self._found, *self._of_all(lost, status, effort, time_left)]
        before = status.copy()
        _mark(status, unsupported | missing | late, found)
        status[late & (status == Status.MISSING)] = Status.FAILED
        if apart is not None:
            failures |= apart.late_errors(status, before)
        return _merged(estimate, found, status, failures, self._rejected)

    def _of_all(
        self, lost: np.ndarray, status: np.ndarray, effort: Effort, time_left: Callable[[], float]
    ) -> Iterator[Estimates]:
        """Estimates of lost rows (m,) bool of all finished chunks."""
        store = self._rows.store
        values = self.values.values(np.zeros(len(status), dtype=bool))
        answers = (lambda at: values[at]) if store is None else store.read
        return self._estimates.of_job(
            lost, status, answers, effort, time_left, sample=store is not None
        )


def _merged(
    estimate: Estimate,
    found: Sequence[Estimates],
    status: np.ndarray,
    failures: Mapping[int, BaseException],
    rejected: Set[Any],
) -> dict[str, Any]:
    """The fields of a result in which some rows of an estimate are replaced by ``found`` ones."""
    estimate = _with(estimate, found)
    unknown, stderr = status >= Status.FAILED, estimate.stderr
    # The answers of rows that were computed without the code may have parts.
    values = map_leaves(lambda leaf: blanked(leaf, unknown), estimate.values)
    errors = None if stderr is None else map_leaves(lambda leaf: _like(leaf, stderr), values)
    fields = _fields(values, errors, status, failures, rejected)
    return fields | {"hurried": any(part.hurried for part in found)}


def _fields(
    values: Any,
    stderr: np.ndarray | None,
    status: np.ndarray,
    failures: Mapping[int, BaseException],
    rejected: Set[Any],
) -> dict[str, Any]:
    """What is known of all rows, as fields of `MapResult`."""
    return {
        "values": values,
        "stderr": _like(values, stderr),
        "status": status,
        "failures": Failures(sorted(failures.items())),
        "rejected": tuple(sorted(rejected)),
    }


def _mark(status: np.ndarray, lost: np.ndarray, found: Sequence[Estimates]) -> None:
    """Set the status (m,) of lost rows (m,) bool: ESTIMATED where there is an estimate, else MISSING."""
    status[lost] = Status.MISSING
    for part in found:
        status[part.rows[lost[part.rows]]] = Status.ESTIMATED


def _with(estimate: Estimate, found: Sequence[Estimates]) -> Estimate:
    """An estimate in which some rows are replaced by ``found`` ones, with a standard error for each output."""
    values, stderr = estimate.values, _like(estimate.values, estimate.stderr)
    if found and stderr is not None:
        values, stderr = np.array(values), np.array(stderr)
        for part in found:
            values[part.rows], stderr[part.rows] = part.values, part.stderr
    return replace(estimate, values=values, stderr=stderr)


def _like(values: Any, stderr: np.ndarray | None) -> np.ndarray | None:
    """Standard errors of rows, repeated for each of their outputs."""
    if stderr is None or not isinstance(values, np.ndarray):
        return stderr
    return _wide(stderr, values.shape[1:])


def _wide(stderr: np.ndarray, outputs: tuple[int, ...]) -> np.ndarray:
    """Standard errors (m,) or (m, *y) in the shape (m, *outputs)."""
    return stderr if stderr.shape[1:] == outputs else for_all_entries(stderr, outputs)
