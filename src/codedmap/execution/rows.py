"""The work of a job without a code: rows, which are exact or have failed."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import BrokenExecutor, Future
from dataclasses import replace
from typing import Any

import numpy as np

from ..contracts.engine import Engine, Kept, Reply
from ..engines import Resident
from ..engines.transport.failure import Failure
from ..errors import (
    CallTimeout,
    EngineError,
    InvalidAnswer,
    InvalidArgument,
    RowFailed,
    WorkerCrashed,
    WorkerLost,
)
from ..results.status import Status
from ..results.summary import batches_made_from, short
from ..results.trees import Rows
from .events import Call, FailRows, Loss, More
from .job_rows import JobRows, named_rows, runs_of
from .live import Work
from .task import Batch, Itemwise, RowsTask, TaskOf, raised_by_fn


class KeptTasks:
    """The function of a job on each worker, where it is sent at its first call; ``checked`` as for `RowsTask`."""

    def __init__(
        self,
        fn: Any,
        engine: Engine,
        *,
        kwargs: Mapping[str, Any] | None = None,
        seed: int | None = None,
        checked: bool = True,
    ) -> None:
        self._fn, self._engine = fn, engine
        resident = fn if isinstance(fn, Resident) else None
        plain = fn if resident is None else resident.fn
        capture = not getattr(engine, "in_process", False)
        self.task = RowsTask(plain, dict(kwargs or {}), seed, capture, checked)
        stays = resident is not None and not kwargs and seed is None
        self._made = TaskOf(capture, checked) if stays else None
        self._resident = resident if resident is not None and stays else Resident(self.task, engine)

    def checking(self) -> KeptTasks:
        """The same function, whose answers are checked."""
        return KeptTasks(self._fn, self._engine, kwargs=self.task.kwargs, seed=self.task.seed)

    def on(self, worker: Any) -> Kept:
        """What stands for the task on this worker."""
        return self._resident.on(worker, self._made)


_RECORD = 'go on without such rows with on_error="record"'


class RowsWork(Work):
    """Rows, and the answers to them; ``record``: whether to go on after a row has failed."""

    otherwise = _RECORD
    """What can be done about a row that has failed but to correct it."""

    def __init__(
        self,
        tasks: KeptTasks,
        rows: JobRows,
        *,
        record: bool = False,
        call_timeout: float = np.inf,
    ) -> None:
        self.answers = Rows(rows.inputs.rows)
        """In memory; nothing where there is a store."""
        self.failures: dict[int, BaseException] = {}
        self.last_loss: WorkerLost | None = None
        """Why a call was lost with its worker: the last crash, if there was one."""
        self._tasks, self._rows, self._store = tasks, rows, rows.store
        self._record, self._timeout = record, call_timeout
        self._replies: dict[int, Reply] = {}
        self._errors: dict[int, BaseException] = {}
        self._checksums: dict[int, str] = {}
        self._sent: dict[Any, Kept] = {}  # what stands for the function, by worker
        self._first: set[int] = set()  # calls that came with it
        self._odd: set[int] = set()  # rows with an answer that cannot stand beside others

    def submit(self, engine: Engine, call: Call) -> Future[Any]:
        parts = self._rows.inputs.batch(self._at(call))
        if self._store is not None:
            self._checksums[call.number] = self._store.checksum(parts)
        batch = Batch(parts, call.groups, self._numbers(call))
        worker: Any = call.worker
        task = self._tasks.on(worker)
        if self._sent.get(worker) is not task and self._tasks.task.capture:
            self._first.add(call.number)
        self._sent[worker] = task
        return engine.submit(worker, task, batch)

    def place(self, call: Call) -> tuple[range | np.ndarray, int, int]:
        """Each call is a chunk of its own."""
        return self._numbers(call), call.number, 0

    def answered(self, call: Call, reply: Reply) -> tuple[int, ...] | BaseException:
        """Keep a reply; which of its rows raised, or have an answer that cannot stand beside others.

        An error if it is not known which of them have. Raises `InvalidAnswer` if more rows have such an answer than have not.
        """
        if not call.wanted:
            self._checksums.pop(call.number, None)
        else:
            good = call.groups - len(reply.raised)
            error = self._unlike(reply) if good else None
            if error is not None and call.groups > 1:  # of which some may be like the others
                error._of_fn = True  # type: ignore[attr-defined]
                return error
            if error is not None:
                if self._record and self._mostly_odd(call):
                    first = int((self._rows.status == Status.EXACT).argmax())
                    raise InvalidAnswer(
                        f"row {self._numbers(call)[0]}: {error}. {len(self._odd)} rows are unlike row {first}, which was answered "
                        "before them: correct fn, or leave that row out if most are unlike it"
                    )
                reply = replace(reply, values=None, raised={0: Failure.of(error)})
            self._replies[call.number] = reply
        return tuple(sorted(reply.raised))

    def _unlike(self, reply: Reply) -> InvalidAnswer | None:
        try:
            (self.answers if self._store is None else self._store).check_alike(reply.values)
        except InvalidAnswer as error:
            return error
        return None

    def _mostly_odd(self, call: Call) -> bool:
        """Whether more rows have answers that cannot stand beside others than have not: then fn is to blame."""
        self._odd.update(self._numbers(call))  # also of copies and of halves
        return len(self._odd) > int((self._rows.status == Status.EXACT).sum())

    def lost(self, call: Call, error: BaseException, loss: Loss) -> Loss:
        """Keep the reason; raises `EngineError` or `InvalidAnswer` if no other worker could do better."""
        own = raised_by_fn(error)
        if isinstance(error, BrokenExecutor) and not own:
            raise EngineError(
                f"the executor broke during call {call.number} ({error}): a crash in a "
                "ProcessPoolExecutor ends all its calls; use codedmap.engines.Local, where it costs one"
            ) from error
        if isinstance(error, InvalidAnswer) and not own:
            if not self._record or self._mostly_odd(call):
                raise InvalidAnswer(f"{named_rows(runs_of(self._at(call)))}: {error}") from error
        elif isinstance(error, EngineError) and not own:
            raise error
        crashed = isinstance(self.last_loss, WorkerCrashed)  # which says more than others
        if isinstance(error, WorkerCrashed if crashed else WorkerLost) and not own:
            self.last_loss = error
        self._errors[call.number] = error
        self._checksums.pop(call.number, None)
        return loss

    def take(self, call: Call) -> None:
        """Rows are exact, except those that raised."""
        reply = self._replies[call.number]
        good = call.groups - len(reply.raised)
        at: Any = self._at(call)
        if reply.raised and good:
            places = np.delete(np.arange(call.groups), list(reply.raised))
            at = (np.arange(at.start, at.stop) if isinstance(at, slice) else at)[places]
        if good:
            self._put(at, good, reply.values, None if reply.raised else call)
        if not reply.raised:
            del self._replies[call.number]

    def _put(self, at: slice | np.ndarray, count: int, answer: Any, call: Call | None) -> None:
        rows = self._rows
        if self._store is None:
            self.answers.put(at, count, answer)
        else:
            inputs = None if call is None else self._checksums.pop(call.number, None)
            if inputs is None:
                inputs = self._store.checksum(rows.inputs.batch(at))
            self._store.put(at, count, answer, inputs)
        rows.status[at] = Status.EXACT
        rows.done(at)

    def fail(self, decision: FailRows) -> None:
        call = decision.call
        for place in range(decision.begin, decision.end):
            at: Any = self._rows.at(place, place + 1)
            row = int(at.start)
            error = self._reason(decision, place)
            self.failures[row] = error
            self._rows.status[row] = Status.FAILED
            self._rows.done(at)
            if not self._record and self.error is None:
                itemwise = isinstance(self._tasks.task.fn, Itemwise)
                together = named_rows(runs_of(self._rows.at(decision.begin, decision.end)))
                self.error = row_failed(
                    row,
                    call,
                    error,
                    itemwise=itemwise,
                    otherwise=self.otherwise,
                    together=together if decision.end > decision.begin + 1 else "",
                )

    def read(self, decision: More) -> Future[Any]:
        return self._rows.read(decision.groups)

    def more(self, read: Any) -> tuple[int, bool]:
        rows = self._rows
        before = rows.count
        rows.add(read)
        self.answers.resize(len(rows.status))
        return rows.count - before, rows.ended

    def _at(self, call: Call) -> slice | np.ndarray:
        return self._rows.at(call.begin, call.end)

    def _numbers(self, call: Call) -> range | np.ndarray:
        at = self._at(call)
        return range(at.start, at.stop) if isinstance(at, slice) else at

    def _reason(self, decision: FailRows, place: int) -> BaseException:
        call, loss = decision.call, decision.loss
        if loss is Loss.RAISED:
            reply = self._replies.get(call.number)
            if reply is not None:
                error: BaseException = reply.raised[place - call.begin].to_exception()
                return error
            return self._errors[call.number]
        if loss is Loss.TIMED_OUT:
            first = call.number in self._first
            return CallTimeout(
                f"still running after call_timeout={self._timeout:g} s"
                + (
                    f" in the first call of worker {call.worker}, where imports count"
                    if first
                    else ""
                )
                + ": allow more time, or "
                + ("import in engine.setup" if first else f"see what keeps worker {call.worker}")
            )
        crashed = decision.crashes or 1
        last = self._errors[call.number]
        error = WorkerCrashed(
            f"ended its worker {crashed} time{'s' * (crashed > 1)}, the last with: {last}"
        )
        error.__cause__ = last
        return error


def row_failed(
    row: int,
    call: Call,
    error: BaseException,
    *,
    itemwise: bool,
    otherwise: str = _RECORD,
    given: str = "",
    together: str = "",
) -> RowFailed:
    """The error that names a row which failed in this call, or those ``together``; ``given``: see `given_as`."""
    which = "one of these inputs (with retries=1 it is found which)" if together else "this input"
    step = f"Correct fn or {which}" + batches_made_from(given, [error])
    if not itemwise and not isinstance(error, InvalidArgument):  # such as of an OnnxModel
        step += ", lift a function of one input with codedmap.itemwise(fn)"
    if isinstance(error, ValueError) and "read-only" in short(error):
        step = "fn writes into its input: let it work on a copy (batch = batch.copy())"
    failed = RowFailed(
        f"{together or f'row {row}'} failed on worker {call.worker} with {short(error).rstrip('.')}. {step}, or {otherwise}",
        row=row,
    )
    failed.__cause__ = error
    return failed
