"""`map` and `stream`: run a function on many inputs, exactly, or with a code over unreliable workers."""

from __future__ import annotations

import inspect
import math
import operator
import time
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass, field, fields, replace
from functools import reduce, wraps
from typing import Any, Literal, ParamSpec, TypeVar

import numpy as np

from ..contracts.answers import has_text
from ..contracts.arguments import check_whole, is_real
from ..contracts.code import Code, no_code
from ..contracts.engine import engine_for, no_engine
from ..contracts.inputs import check_columns, check_kind, shaped_rows
from ..contracts.stopping import (
    Deadline,
    Decodable,
    Quorum,
    StoppingRule,
    Tolerance,
    asks_stderr,
    is_rule,
    parts_of,
)
from ..engines import Engine, FromExecutor, Local, Resident
from ..engines.executor import Inline
from ..errors import InvalidArgument, many
from ..estimation.known import Known, known_pair
from ..estimation.surrogate import import_what_is_used
from ..execution.checked import check_unnamed, checked_engine, checked_rule, engine_of_slots
from ..execution.coded import CodedMap
from ..execution.events import Job
from ..execution.hedge import Hedge, checked_hedge
from ..execution.inputs import InputRows, RowSource
from ..execution.job import MapJob
from ..execution.job_rows import JobRows
from ..execution.missing import COMPUTING
from ..execution.task import Itemwise, in_worker, is_itemwise
from ..execution.uncoded import KeptTasks, RowsJob
from ..planning.ways import ERROR, Question
from ..results.map_result import MapResult
from ..results.plan import Plan
from ..results.progress_bar import job_progress
from ..results.status import Status
from ..results.summary import given_as
from ..storage.digest import fingerprint
from ..storage.source import opened
from ..storage.store import Store, store_for
from .piloted import PlannedRows

P = ParamSpec("P")
R = TypeVar("R")

HEDGE = Hedge()
MAX_FAILURES = 20
_SHORTEST = 0.5  # seconds: code="auto" estimates no rows of a shorter job: there is no time
_CHUNK_BYTES = 32 << 20  # inputs in a chunk, for a job with a code that need not fit into memory


def takes_the_same(other: Callable[P, Any]) -> Callable[[Callable[..., R]], Callable[P, R]]:
    """Give a function with keyword arguments the signature of another, for type checkers."""
    return lambda function: function


def check_other_names(arguments: Mapping[str, Any]) -> None:
    """Raise `TypeError` for arguments of other libraries, which says what to write here."""
    if "workers" in arguments:
        raise TypeError(
            f"no argument workers: give engine=codedmap.engines.Local(workers={arguments['workers']!r:.80})"
        )
    if "timeout" in arguments:
        seconds = f"{arguments['timeout']!r:.80}"
        raise TypeError(
            f"no argument timeout: give deadline={seconds}, after which missing rows are estimated, or "
            f"call_timeout={seconds}, the longest that a row may run"
        )


def knows_other_names(function: Callable[P, R]) -> Callable[P, R]:
    """The function; see `check_other_names`."""

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        check_other_names(kwargs)
        return function(*args, **kwargs)

    return checked


@knows_other_names
def map(
    fn: Callable[..., Any] | Resident,
    inputs: Any,
    *,
    code: Code | Literal["auto"] | None = None,
    engine: Engine | Executor | None = None,
    deadline: float | None = None,
    tolerance: float | Mapping[str, float] | None = None,
    stop: StoppingRule | None = None,
    hedge: Hedge | None = HEDGE,
    retries: int = 2,
    call_timeout: float | None = None,
    on_timeout: Literal["fail", "estimate"] = "fail",
    on_error: Literal["raise", "record"] = "raise",
    max_failures: int | None = MAX_FAILURES,
    kwargs: Mapping[str, Any] | None = None,
    seed: int | None = None,
    known: tuple[Any, Any] | None = None,
    chunk: int | Literal["all"] | None = None,
    out: Any = None,
    resume: bool = False,
    version: str | int | None = None,
    progress: bool | None = None,
) -> MapResult:
    """Run ``fn`` on every row of ``inputs``.

    Without ``code``, ``deadline``, ``tolerance`` and ``stop`` every row is exact, or `map` raises. A
    call whose worker dies is made again elsewhere, and a late one is also sent to a second worker. With
    ``deadline`` rows that have no answer in time are estimated from the others, and marked ESTIMATED.

    With a ``code`` the rows are cut into groups of K tasks, and the code makes N payloads of each group. A call
    computes ``fn`` on one payload of every group of a chunk, on whichever worker is free; payloads of a chunk go to
    different workers while there are N. When the stopping rule is satisfied, the rows of a chunk are decoded from the
    answers so far, and its calls that still run are abandoned.

    Parameters
    ----------
    fn : callable
        Batch to batch, row by row: (b, *x) -> (b, *y), like a model's ``predict``; `itemwise` lifts
        a function of one input. It may run more than once for a row, and must not write into its input.
        Answers are arrays or numbers, with codes that copy also strings and objects; without a code also
        tuples, dicts and dataclasses of arrays, and data frames, which are dicts of their columns. Or a
        `codedmap.engines.Resident` on the same engine.
    inputs : array-like, list, data frame, path, tuple of these, or iterator
        m >= 1 rows. Memory maps, Zarr and Dask arrays, HDF5 data sets and Parquet files (given by their path) are read
        as they are needed; so are the batches of an iterator, each an array of rows. ``fn`` gets batches of the same kind: of several inputs, given as a tuple, one
        argument each. A code takes one array, or what can be made one, and ``fn`` gets arrays of its rows; codes
        that mix take floating-point numbers.
    code : Code or "auto", optional
        How payloads are made from tasks, and estimates from answers. "auto": what `plan` recommends, from the
        first answers while rows are computed, and again when there are more. Then every row is exact, or some rows are
        estimated. The expected error over all rows is at most 5 % of the outputs' standard deviation, or that of
        estimated rows at most ``tolerance``; with a ``deadline`` it is as small as there is time for. With ``stop`` the
        job ends no later than the rule says. ``result.plan`` is the plan.
    engine : Engine or concurrent.futures.Executor, optional
        Where calls run. With a code it has to be given. By default worker processes on the cores of this
        machine, for this call; inside a call of `map`, the same process.
    deadline : float, optional
        Seconds after which to stop, the start of workers included. The first such call of a program takes about half a
        second more, because it imports SciPy. Calls run for nine tenths of the time; the last one is for estimates.
        With ``deadline``, ``tolerance`` or ``stop``, and without a code, a call that hangs is ended when rows wait for its
        worker. Its rows are tried again after all others, if there is time, and estimated otherwise. Engines that cannot
        end a call warn instead.
    tolerance : float or dict, optional
        Stop when no standard error is larger, the same as ``| Tolerance(tolerance)`` at the end of ``stop``; a dict
        has a number for each named output. Rows without an answer are estimated then, so inputs have to be numbers, and
        a code, if there is one, has to have standard errors. With a code the job also ends by the default rule, even if
        standard errors are larger; ``stop=Tolerance(tolerance)`` waits for them.
    stop : StoppingRule, optional
        When to stop waiting. With a code by default ``Quorum(N - S) & Decodable()``.
    hedge : Hedge, optional
        How late calls are sent again; None: never.
    retries : int
        How often a row that runs alone may end its worker and be sent again. After that it is FAILED,
        unless so many other calls crash that it may be chance. 0: no row is sent twice. With a code: how often a
        payload whose call crashed is sent again. If ``fn`` raises for a batch of inputs, halves of it are computed until
        the rows are found that it raises for. If it raises for too many mixtures, the inputs are sent. Rows of which
        every call crashed, ran too long or gave an answer of another form are computed in the end without the code; not
        with ``stop``, ``deadline`` or ``tolerance``, nor those of an iterator. With 0 none of these is done.
    call_timeout : float, optional
        Seconds that a row may run; rows that run longer fail. With a code a payload of b rows may run b times as long.
        Imports that ``fn`` makes as it runs, and those of data frames, count in the first call of a worker, unless
        ``engine.setup`` has made them.
        Imports that unpickling ``fn`` makes do not count.
    on_timeout : {"fail", "estimate"}
        What becomes of rows that run longer than ``call_timeout``. "fail": they fail. "estimate": all other rows are
        computed, and then these are estimated from the exact ones, and marked ESTIMATED; ``result.failures`` has their
        `CallTimeout`. Where they cannot be estimated, as if answers are not numbers, they fail, and the reason says why.
    on_error : {"raise", "record"}
        What to do if a row fails because ``fn`` raises, ends its worker or runs too long. "raise": stop,
        and name the row. "record": its status is FAILED, ``result.failures`` has the reason, and all
        other rows are computed. If all workers are lost, the answers so far are returned with a warning, and the
        other rows are MISSING.
    max_failures : int, optional
        With ``on_error="record"``: if ``fn`` raised exceptions of one type for the first so many rows that end, or for all
        if there are fewer, and no row has an answer, the job stops and raises `RowFailed`. None: it goes on.
    kwargs : mapping, optional
        Further keyword arguments of ``fn``.
    seed : int, optional
        Gives ``fn`` a keyword ``rng``: a list with a ``numpy.random.Generator`` for each row of the batch
        (with `itemwise` one generator), the same in every run of the row. Not with codes that send mixtures.
    known : tuple of array-like, optional
        (X0, y0): inputs and answers from elsewhere, from which rows are estimated too, once a row of the job has an
        answer. With a code that estimates from all answers of the job, such as `KernelCode`, or without one. They have no
        effect if no row may be estimated.
    chunk : int or "all", optional
        Rows of a call. By default as many as take 0.05 to 0.2 s, judged by earlier calls. They are more where a call
        takes most of that time whatever its rows, like a model that needs 0.1 s for any batch. A call that takes more
        than twice the expected time answers with the rows that it has computed, and the others go to any worker; for
        that a batch of rows of 0.1 ms and more is computed in up to eight parts. If ``fn`` takes one input, by `itemwise`,
        and inputs and answers are in memory, neighbours are in different calls, because slow rows are often neighbours. With a code by default all rows are one chunk, for as many workers
        as the code has: give a number of rows to use more. "all" also binds payload n to worker n, as in the papers.
        Chunks are decoded apart: a slow call holds up its own only, and wrong answers are judged within theirs.
    out : path or array-like, optional
        Where answers are written, so that they need not fit into memory; ``result.values`` is what has been written,
        opened for reading. A path ending in .npy (with ``name.status.npy`` and, if rows are estimated,
        ``name.stderr.npy`` beside it), .zarr (a group with an array for each leaf) or .parquet (a column for each
        leaf, text included); or an array with slice assignment and m rows.
    resume : bool
        Go on with the job in the journal beside ``out``, if there is one. Rows that are exact are not
        computed again.
    version : str or int, optional
        Compared on resuming; change it when what ``fn`` computes changes in a way that its code does not show.
    progress : bool, optional
        Whether to show progress on the error stream: as a bar on a terminal, and in a notebook that has ipywidgets;
        elsewhere a line every 10 s. By default on a terminal and in a notebook.

    Returns
    -------
    MapResult

    Raises
    ------
    InvalidArgument
        If an argument is invalid; nothing has been computed then.
    RowFailed
        If a row fails, with ``on_error="raise"``, or the first ``max_failures`` rows; what ``fn`` raised is the cause.
    NotEnoughAnswers
        If rows are missing without a ``deadline``, ``tolerance`` or ``stop``, and ``on_error`` is "raise"; with a code
        also with one of these, if the answers cannot be decoded because ``fn`` raised.
    NotEnoughMemory
        If a code's payloads would not fit into the free memory (N/K times the inputs, twice).
    CannotSend
        If ``fn`` cannot be pickled.
    EngineError
        If the engine was closed or has broken down.
    InvalidAnswer
        If ``fn`` does not return a row for each row of its batch, or if more answers differ from the first in shape or
        keys than agree with it. As long as fewer differ, their rows have failed, as if ``fn`` had raised.

    Examples
    --------
    >>> import numpy as np, codedmap as cm
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> with ThreadPoolExecutor(4) as pool:
    ...     result = cm.map(np.sqrt, np.arange(5.0), engine=pool)
    >>> result.values
    array([0.        , 1.        , 1.41421356, 1.73205081, 2.        ])
    """
    options = options_from(locals())
    with ExitStack() as stack:
        return options.job(fn, inputs, stack).run()


@takes_the_same(map)
def stream(
    fn: Callable[..., Any] | Resident, inputs: Any, **arguments: Any
) -> Generator[MapResult, None, None]:
    """Run ``fn`` on every row of ``inputs``, and give results that improve as answers come.

    Without a code each result holds the rows answered so far, and the others are MISSING. With a code the
    first result comes as soon as the answers can be decoded, and further ones after further answers, each
    decoded from all answers so far. Their ``outcome`` is `Outcome.WAITING`, except for the last result,
    which is the one that `map` would have returned. Making the results before the last takes at most a
    tenth of the time, so answers in quick succession may share a result.

    Parameters
    ----------
    fn, inputs
        As for `map`.
    **arguments
        All further arguments of `map`. They are checked, and payloads sent, at the call and not at the first result. With
        ``out`` answers are written as they come, and the last result is the only one.

    Returns
    -------
    generator of MapResult
        At least one. Closing the generator abandons the calls that still run, and so does leaving a
        loop over it if nothing else refers to it; ``contextlib.closing`` makes sure. The stopping rule is
        evaluated only while the caller waits for the next result.

    Raises
    ------
    CodedmapError
        As `map`, in place of the last result.
    """
    options = options_of(arguments)
    stack = ExitStack()
    try:
        return options.job(fn, inputs, stack).stream(stack)
    except BaseException:
        stack.close()
        raise


_INTERNAL = {"before", "like", "first"}  # options that only `sweep` and `Pool` give


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The arguments of `map` besides the function and the inputs."""

    code: Code | Literal["auto"] | None = None
    engine: Engine | Executor | None = None
    deadline: float | None = None
    tolerance: float | Mapping[str, float] | None = None
    stop: StoppingRule | None = None
    hedge: Hedge | None = HEDGE
    retries: int = 2
    call_timeout: float | None = None
    on_timeout: str = "fail"
    on_error: str = "raise"
    max_failures: int | None = MAX_FAILURES
    kwargs: Mapping[str, Any] | None = None
    seed: int | None = None
    known: Any = None
    chunk: int | Literal["all"] | None = None
    progress: bool | None = None
    out: Any = None
    resume: bool = False
    version: str | int | None = None
    before: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Columns (m,) that are written before the answers."""
    first: int = 1  # rows of a call as long as none was answered
    like: InputRows | None = None  # the rows as numbers, for estimates; by default the inputs

    def __post_init__(self) -> None:
        if self.resume and self.out is None:
            raise InvalidArgument(
                "resume=True goes on with what was written, and nothing is without out: give its path"
            )
        if self.version is not None and not isinstance(self.version, str | int):
            raise InvalidArgument(f"version={self.version!r:.80} must be text or a whole number")
        checked_hedge(self.hedge)
        check_whole("retries", self.retries, 0)
        self._check_failures()
        if self.seed is not None:
            check_whole("seed", self.seed, 0)
        if isinstance(self.chunk, str):
            if self.chunk != "all":
                raise InvalidArgument(f'chunk={self.chunk!r} must be a number of rows or "all"')
        elif self.chunk is not None:
            object.__setattr__(self, "chunk", check_whole("chunk", self.chunk, 1))
        named = isinstance(self.kwargs, Mapping) and all(isinstance(n, str) for n in self.kwargs)
        if self.kwargs is not None and not named:
            raise InvalidArgument(
                f"kwargs={self.kwargs!r:.80} must be a mapping of names to values, such as {{'rtol': 1e-6}}"
            )
        if self.seed is not None and "rng" in (self.kwargs or ()):
            raise InvalidArgument(
                "kwargs has a value for 'rng', which seed gives a generator for each row: leave out one of the two"
            )

    def _check_failures(self) -> None:
        """Raise `InvalidArgument` for arguments that say invalidly what becomes of rows that fail."""
        timeout = self.call_timeout
        if timeout is not None and not (is_real(timeout) and timeout > 0):
            raise InvalidArgument(f"call_timeout={timeout!r} must be more than 0 seconds, or None")
        if self.on_timeout not in ("fail", "estimate"):
            raise InvalidArgument(f'on_timeout={self.on_timeout!r} must be "fail" or "estimate"')
        if self.estimates_late and timeout is None:
            raise InvalidArgument(
                'on_timeout="estimate" estimates rows that run longer than call_timeout, which is not given: give it in '
                "seconds, or deadline= to stop the whole job"
            )
        if self.max_failures is not None:
            check_whole("max_failures", self.max_failures, 1)
        if self.on_error not in ("raise", "record"):
            raise InvalidArgument(f'on_error={self.on_error!r} must be "raise" or "record"')

    @property
    def estimates_late(self) -> bool:
        """Whether rows that run longer than ``call_timeout`` are estimated."""
        return self.on_timeout == "estimate"

    def job(self, fn: Any, inputs: Any, stack: ExitStack) -> MapJob:
        """The job; the stack closes an engine that is made for it."""
        estimating = self.code, self.deadline, self.tolerance, self.stop
        if self.estimates_late or any(one is not None for one in estimating):
            import_what_is_used()  # before the clock of the deadline starts
        if self.code is None or (isinstance(self.code, str) and self.code == "auto"):
            return self._rows_job(fn, inputs, stack, auto=self.code is not None)
        return self._coded_job(fn, inputs, stack)

    def _rows_job(self, fn: Any, inputs: Any, stack: ExitStack, *, auto: bool) -> RowsJob:
        started = time.monotonic()
        check_hedge_of_rows(self.hedge)
        rows = rows_of(fn, inputs, stack, self.like)
        if auto:
            self._check_auto(rows)
        options = replace(self, tolerance=None) if auto else self  # the plan keeps the tolerance
        rule = _rule(options, "auto" if auto else None, share=COMPUTING if rows.numbers else 1.0)
        self._check_all_are_read(rows, rule)
        if self.chunk == "all" and rows.growing is not None:
            raise InvalidArgument(
                'chunk="all" computes all rows in one call, and the inputs are an iterator, which is read as rows are '
                "computed: give a number of rows, or an array"
            )
        if rule is not None and asks_stderr(rule) and not rows.numbers:
            raise InvalidArgument(
                f"{rule} asks for standard errors of rows without an answer, which are estimated from inputs that are "
                f"numbers, and these are not. {rows.encoding}, or stop by Deadline or Share"
            )
        store = None if self.out is None else stack.enter_context(self._store(fn, rows, None))
        total = rows.rows if rows.growing is None or rows.growing.ended else None
        if total is not None and store is not None:
            total -= int((store.status == Status.EXACT).sum())
        show = stack.enter_context(job_progress(self.progress, total))
        engine = engine_of(self.engine, fn, stack)
        job = Job(
            rows.rows,
            hedge=None if self.hedge is None else self.hedge.budget,
            retries=self.retries,
            call_timeout=self.call_timeout or math.inf,
            stop=rule,
            size=rows.rows if self.chunk == "all" else self.chunk,
            first=self.first,
        )
        known = self._known(rows.numbers, inputs)
        given: dict[str, Any] = {"started": started, "show": show, "known": known}
        common = given | {
            "record": self.on_error == "record",
            "deadline": self.deadline,
            "estimates_late": self.estimates_late,
            "max_failures": self.max_failures,
        }
        tasks = self._tasks(fn, engine, checked=True)
        if not auto:
            return RowsJob(job, engine, tasks, rows, store=store, **common)

        def coded(code: Code, left: JobRows, before: Any, plan: Plan | None) -> CodedMap:
            stop = _rule(options, code, share=COMPUTING)
            if options.stop is not None and stop is not None:
                stop = stop | checked_rule(None, code)
            more = given | {"before": before, "plan": plan}
            return options._coded_map(code, fn, engine, left, stop, together=True, **more)

        question = self._question(rows.rows, max(1, engine.workers))
        return PlannedRows(job, engine, tasks, rows, question=question, coded=coded, **common)

    def _check_all_are_read(self, inputs: InputRows, rule: StoppingRule | None) -> None:
        """Raise `InvalidArgument` if a rule may stop before an iterator has ended, or its rows would be estimated."""
        if inputs.growing is None:
            return
        if rule is not None:
            raise InvalidArgument(
                f"the inputs are an iterator, and {rule} may stop before all are read, so that it is not known how many are "
                "missing: give an array, or leave it out"
            )
        if self.estimates_late:
            raise InvalidArgument(
                'the inputs are an iterator, whose rows are not kept, and on_timeout="estimate" estimates from them: give '
                "an array, or leave it out"
            )

    def _question(self, rows: int, workers: int) -> Question:
        """What a plan for so many rows and workers is to find."""
        return Question(
            rows=rows,
            workers=workers,
            error=ERROR,
            tolerance=None if self.tolerance is None else Tolerance(self.tolerance).largest,
            deadline=self.deadline,
            shortest=_SHORTEST,
            coded=self.seed is None,
        )

    def _check_auto(self, rows: InputRows) -> None:
        """Raise `InvalidArgument` for what a plan cannot be made for."""
        if self.out is not None or rows.lazy:
            raise InvalidArgument(
                'code="auto" plans by some of the rows, which have to be in memory, and answers without out: let '
                "codedmap.plan find from some of the rows how to run it, and give what it recommends"
            )
        if self.tolerance is not None:
            check_unnamed(Tolerance(self.tolerance))

    def _coded_map(
        self,
        code: Code,
        fn: Any,
        engine: Engine,
        rows: JobRows,
        stop: StoppingRule | None,
        *,
        size: int | None = None,
        **more: Any,
    ) -> CodedMap:
        """A job with a code. ``size``: groups of a chunk if ``chunk`` is no number. Others as for `CodedMap`."""
        record = self.on_error == "record"
        return CodedMap(
            code,
            engine,
            self._tasks(fn, engine, checked=False),
            rows,
            stop=checked_rule(stop, code),
            record=record,
            size=size if self.chunk in (None, "all") else int(self.chunk),
            apart=stop is None and self.retries > 0,
            call_timeout=self.call_timeout or math.inf,
            deadline=self.deadline,
            hedge=self.hedge,
            retries=self.retries,
            bound=self.chunk == "all",
            partial=record or stop is not None,
            estimates_late=self.estimates_late,
            max_failures=self.max_failures,
            **more,
        )

    def _store(self, fn: Any, rows: InputRows, code: Code | None) -> Store:
        """Where answers are written."""
        stops = any(rule is not None for rule in (self.deadline, self.tolerance, self.stop))
        if (
            stops or self.estimates_late or getattr(code, "job_estimates", False)
        ) and rows.in_memory_of(self.out):
            raise InvalidArgument(
                "out is the memory of the inputs, from which rows are estimated: give a copy of the inputs"
            )
        inner = fn
        while hasattr(inner, "fn"):  # of Itemwise, Resident, or the task of a sweep
            inner = inner.fn
        name = getattr(inner, "__qualname__", getattr(inner, "__name__", type(inner).__qualname__))
        job = {
            "fn": [name, fingerprint(fn, dict(self.kwargs or {}), self.seed)],
            "code": [repr(code), fingerprint(code)],
            "given": self.version,
        }
        return store_for(self.out, rows, job, dict(self.before), resume=self.resume)

    def _known(self, width: int | None, inputs: Any) -> Known | None:
        """Answers from elsewhere. ``width``: numbers in an input of the job, None if inputs are no numbers."""
        if self.known is None:
            return None
        pair = known_pair(self.known)
        check_columns(inputs, pair[0])
        known = Known(*pair)
        if width != known.inputs.shape[1]:
            raise InvalidArgument(
                f"the known inputs have {many(known.inputs.shape[1], 'number')} a row, and the inputs "
                f"{'no numbers' if width is None else width}: give known inputs that are like the inputs, or leave known out"
            )
        return known

    def _tasks(self, fn: Any, engine: Engine, *, checked: bool) -> KeptTasks:
        return KeptTasks(fn, engine, kwargs=self.kwargs, seed=self.seed, checked=checked)

    def _coded_job(self, fn: Any, inputs: Any, stack: ExitStack) -> CodedMap:
        """A job with a code."""
        code = self.code
        pooled = getattr(code, "job_estimates", False)
        stop = _rule(self, code, share=COMPUTING if pooled else 1.0)
        _check_kind(inputs)
        source = opened(inputs, stack)
        lazy = self.out is not None or isinstance(source, RowSource)
        if not isinstance(code, Code):
            raise no_code(code, 'one such as Replication(8, 16), or "auto"')
        if isinstance(inputs, tuple):
            raise InvalidArgument(
                f"a code takes one array of inputs, and a tuple is {len(inputs)} of them, one for each argument of fn: "
                "put them side by side in one array (numpy.column_stack), or leave out the code"
            )
        check_fn(fn)
        started = time.monotonic()
        engine = engine_of_slots(self.engine, fn, code.workers)
        if lazy:
            work = self._lazy_rows(fn, source, code, stop, stack)
            chunk = max(1, _CHUNK_BYTES // (code.tasks * work.inputs.row_bytes))
        else:
            work, chunk = JobRows(_one_array(inputs, fn, objects=True)), None
        total = work.count if work.ended else None
        fills = pooled and getattr(code, "fill", "mean") is not None
        if self.known is not None and (lazy or not fills):
            raise InvalidArgument(
                "known= helps to estimate rows from all answers of a job in memory, which this code does not do: leave "
                'it out, or take KernelCode or a code with fill="mean"'
            )
        known = self._known(work.inputs.numbers, inputs)
        answers = None if total is None else code.workers * -(-total // code.tasks)
        show = stack.enter_context(job_progress(self.progress, answers, "answers"))
        more = {"started": started, "show": show, "known": known, "given": given_as(inputs)}
        return self._coded_map(code, fn, engine, work, stop, size=chunk, together=lazy, **more)

    def _lazy_rows(
        self, fn: Any, source: Any, code: Code, stop: StoppingRule | None, stack: ExitStack
    ) -> JobRows:
        """Rows that are read and encoded a chunk at a time."""
        if self.chunk == "all":
            raise InvalidArgument(
                'chunk="all" encodes all rows at once, and with out, or inputs larger than memory, they are encoded '
                "a chunk at a time: give a number of rows, or leave it out"
            )
        lazy = isinstance(source, RowSource)
        inputs = InputRows(source) if lazy else _one_array(source, fn, objects=False)
        if inputs.dtype is None or inputs.dtype.hasobject:
            raise InvalidArgument(
                "a code takes inputs that are one array of numbers, and these are data frames or objects: leave out "
                "the code"
            )
        self._check_all_are_read(inputs, stop)
        store = None
        if self.out is not None:
            store = stack.enter_context(self._store(fn, inputs, code))
        # What is missing when the job stops must not be the last rows, or every estimate extrapolates.
        estimates = getattr(code, "job_estimates", False)
        return JobRows(inputs, store, shuffled=estimates and stop is not None)


def options_from(arguments: Mapping[str, Any], **more: Any) -> Options:
    """The options among the arguments of an entry point, and more of them."""
    names = {option.name for option in fields(Options)}
    return Options(**{name: arguments[name] for name in names & arguments.keys()}, **more)


def options_of(arguments: Mapping[str, Any]) -> Options:
    """Keyword arguments of `map`; raises `TypeError` for others."""
    check_other_names(arguments)
    unknown = arguments.keys() - ({option.name for option in fields(Options)} - _INTERNAL)
    if unknown:
        raise TypeError(f"no argument {', '.join(sorted(unknown))}: see codedmap.map")
    return Options(**arguments)


def rows_of(fn: Any, inputs: Any, stack: ExitStack, like: InputRows | None = None) -> InputRows:
    """The rows of a job without a code, which the stack closes; raises `InvalidArgument` if there are none."""
    check_fn(fn)
    _check_kind(inputs)
    return InputRows(opened(inputs, stack), items=is_itemwise(fn), like=like)


def _one_array(inputs: Any, fn: Any, *, objects: bool) -> InputRows:
    """The rows of a job with a code, which are one array; raises `InvalidArgument` if they cannot be.

    ``objects``: whether text, and rows of different shapes, are taken, as an array of objects.
    """
    text = objects and isinstance(inputs, list) and has_text(inputs)
    try:
        rows = shaped_rows(np.array(inputs, dtype=object) if text else inputs)
    except InvalidArgument as error:
        if objects and isinstance(inputs, list) and isinstance(error.__cause__, ValueError):
            return InputRows(inputs, items=is_itemwise(fn))  # rows of different shapes
        raise
    single = isinstance(inputs, list | range) and rows.ndim == 1
    items = is_itemwise(fn) and single and (objects or rows.dtype.kind in "biufc")
    return InputRows(inputs if items else rows, items=items)


def engine_of(engine: Any, fn: Any, stack: ExitStack) -> Engine:
    """Where ``fn`` runs; the stack closes an engine that is made for it."""
    if engine is None and isinstance(fn, Resident):
        engine = fn.engine
    elif engine is None:
        engine = Inline() if in_worker() else stack.enter_context(Local())
    if isinstance(engine, Executor):
        workers = getattr(engine, "_max_workers", None)
        if engine_for(engine) is not None:
            raise no_engine(engine)
        if not isinstance(workers, int):
            raise InvalidArgument(
                f"engine={engine!r} does not say how many calls it runs at the same time: give "
                "codedmap.engines.FromExecutor(executor, workers=8), say"
            )
        engine = FromExecutor(engine, workers)
    return checked_engine(engine, fn)


def _rule(options: Options, code: Any, *, share: float) -> StoppingRule | None:
    """The stopping rule of the arguments; calls have this ``share`` of the deadline."""
    stop, deadline, tolerance = options.stop, options.deadline, options.tolerance
    rules: list[StoppingRule] = []
    if stop is not None:
        if not is_rule(stop):
            raise InvalidArgument(
                f"stop={stop!r} is not a stopping rule: give one such as Deadline(20)"
            )
        counting = any(isinstance(part, Quorum | Decodable) for part in parts_of(stop))
        if counting and not isinstance(code, Code):
            none = "there is no code" if code is None else f"code={code!r} may use none"
            raise InvalidArgument(
                f"stop={stop} counts the answers of a code's workers, and {none}: give one, or stop by Deadline or Share"
            )
        rules.append(stop)
    elif isinstance(code, Code) and (deadline is not None or tolerance is not None):
        rules.append(Quorum(code.workers - code.stragglers) & Decodable())
    if deadline is not None:
        rules.append(_Until(Deadline(deadline).seconds * share, share))
    if tolerance is not None:
        rules.append(Tolerance(tolerance))
    return reduce(operator.or_, rules) if rules else None


@dataclass(frozen=True, slots=True)
class _Until(Deadline):
    """The time when calls end: a share of a deadline, whose rest is for estimates. Shown as the whole deadline."""

    share: float

    def __str__(self) -> str:
        return f"Deadline({self.seconds / self.share:g})"


def check_hedge_of_rows(hedge: Hedge | None) -> None:
    """Raise `InvalidArgument` for a hedge that needs a code."""
    if hedge is not None and hedge.after is not None:
        raise InvalidArgument(
            f"{hedge} says when a code's tasks are sent again; without a code calls are late when they "
            "take longer than the others: give Hedge() or Hedge(budget=0.1)"
        )


def check_fn(fn: Any) -> None:
    """Raise `InvalidArgument` for what workers cannot call."""
    called = fn
    while isinstance(called, Itemwise | Resident):
        called = called.fn
        if isinstance(called, Resident):
            raise InvalidArgument(
                "fn is resident, and it must be lifted before: give Resident(itemwise(fn), engine)"
            )
    if not callable(called):
        raise InvalidArgument(f"fn={fn!r:.80} cannot be called: give a function")
    is_async = inspect.iscoroutinefunction
    if is_async(called) or is_async(type(called).__call__):
        raise InvalidArgument(
            "fn is async, and workers call ordinary functions: give one that runs it by asyncio.run"
        )


def _check_kind(inputs: Any) -> None:
    """Raise `InvalidArgument` for inputs that look like rows, and are none."""
    for part in inputs if isinstance(inputs, tuple) else (inputs,):
        check_kind(part)
