"""`plan`: how to run a job, measured on some of its rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from contextlib import ExitStack
from typing import Any

import numpy as np

from ..contracts.arguments import check_number, check_whole
from ..contracts.code import Code, check_budget, no_code
from ..engines import Engine, Resident
from ..errors import InvalidArgument, many
from ..estimation.surrogate import import_what_is_used
from ..execution.events import Job
from ..execution.uncoded import KeptTasks
from ..latency import LatencyModel
from ..planning.ways import ERROR, Question
from ..results.plan import Plan
from ..results.progress_bar import job_progress
from .map import engine_of, rows_of
from .piloted import Sample

Codes = Mapping[str, Code] | Iterable[Code]


def plan(
    fn: Callable[..., Any] | Resident,
    sample: Any,
    *,
    workers: int | None = None,
    rows: int | None = None,
    error: float = ERROR,
    deadline: float | None = None,
    tasks: int | None = None,
    stragglers: int | None = None,
    latency: LatencyModel | None = None,
    codes: Codes | None = None,
    budget: float | None = None,
    seed: int = 0,
    engine: Engine | Executor | None = None,
    progress: bool | None = None,
) -> Plan:
    """Compare the ways to run a job, by some of its rows: exactly, with estimates at a deadline, with copies, with codes.

    ``fn`` computes rows of the sample, in random order, while there is time, and each call is timed. Jobs are then run
    in virtual time, by the scheduler that runs them live, with calls that take as long as those that were timed. Errors
    are those of replayed losses: some of the answers are estimated from the others.

    Parameters
    ----------
    fn : callable
        Batch to batch, as in `map`; with ``engine`` also a `codedmap.engines.Resident` on it.
    sample : array-like, list, data frame or tuple of these
        Rows of the job, or rows like those to come.
    workers : int, optional
        N, the workers of the job. By default those of the engine.
    rows : int, optional
        Rows of the job. By default as many as the sample has.
    error : float
        The largest root mean square error, over all rows, that is allowed, in standard deviations of the outputs; 0:
        every row must be exact.
    deadline : float, optional
        Seconds within which the job has to end. Then the way with the smallest error is recommended.
    tasks : int, optional
        K of codes. By default N - S, and half of the workers for copies.
    stragglers : int, optional
        S: any S workers may never answer. Codes are tried without each set of S workers if these are at most 10,000,
        else without 10,000 that are drawn. By default, and with ``latency``, all workers answer, and codes tolerate a
        fifth of them, or S.
    latency : LatencyModel, optional
        How long a row takes (``codedmap.latency``), instead of what was timed.
    codes : mapping of str to Code, or iterable of Code, optional
        Codes to compare. By default copies, and every code of ``codedmap.codes`` whose only required arguments are
        K, N and S.
    budget : float, optional
        Seconds that planning may take, by default a tenth of the job's or 0.15, whichever is more. The plan says what
        there was no time to look at. Starting workers is not counted.
    seed : int
        Seeds all draws.
    engine : Engine or concurrent.futures.Executor, optional
        Where ``fn`` computes, as for `map`.
    progress : bool, optional
        As for `map`.

    Returns
    -------
    Plan
        Print it. ``map(fn, X, engine=engine, **plan.options)`` does what it recommends.

    Raises
    ------
    InvalidArgument
        If an argument is invalid; nothing has been computed then.
    RowFailed
        If a row of the sample fails: ``fn`` raises, or ends its process.
    NotEnoughAnswers
        If no row of the sample is answered because no worker is left.

    Notes
    -----
    `map` computes until nine tenths of a deadline have passed, and estimates in the rest. For many times as many answers
    as the sample has, errors are extrapolated: the plan then gives a range.
    """
    check_whole("seed", seed, 0)
    for name, value in (("workers", workers), ("rows", rows), ("tasks", tasks)):
        if value is not None:
            check_whole(name, value, 1)
    check_number("error", error)
    for name, seconds in (("budget", budget), ("deadline", deadline)):
        if seconds is not None:
            check_number(name, seconds, above=True)
    if isinstance(latency, type) or not isinstance(latency, LatencyModel | None):
        raise InvalidArgument(
            f"latency={latency!r} is not a latency model: give one of codedmap.latency, such as "
            "Pareto(0.1, 0.03)"
        )
    compared = None if codes is None else _named_codes(codes)
    with ExitStack() as stack:
        inputs = rows_of(fn, sample, stack)
        if inputs.growing is not None:
            raise InvalidArgument(
                "the sample is an iterator: give some of its rows as an array or a list, and rows= for how many there are"
            )
        used = engine_of(engine, fn, stack)
        workers = workers or used.workers
        check_budget(1, workers, 0 if stragglers is None else stragglers)
        if latency is not None:
            latency.calls(np.random.default_rng(seed), 1, workers, 1)  # raises if it has too few
        for name, code in compared or ():
            if code.workers > workers:
                raise InvalidArgument(
                    f"{name} has {many(code.workers, 'worker')}, but the plan is for {workers}: give workers={code.workers}, "
                    "or leave this code out"
                )
        question = Question(
            rows=rows or inputs.rows, workers=workers, error=error, deadline=deadline, tasks=tasks,
            stragglers=stragglers, latency=latency, codes=compared, seed=seed,
        )  # fmt: skip
        show = stack.enter_context(job_progress(progress, inputs.rows, "rows of the sample"))
        import_what_is_used()  # first, because it takes longer than a plan may
        return Sample(
            Job(inputs.rows),
            used,
            KeptTasks(fn, used),
            inputs,
            question=question,
            record=False,
            started=time.monotonic(),
            show=show,
            budget=budget,
        ).plan()


def _named_codes(codes: Any) -> list[tuple[str, Code]]:
    if isinstance(codes, Code) or not isinstance(codes, Iterable):
        codes = [codes]
    named = list(codes.items()) if isinstance(codes, Mapping) else [(repr(c), c) for c in codes]
    for _, code in named:
        if not isinstance(code, Code):
            raise no_code(code, "one such as Replication(8, 16)", "codes")
    if not named:
        raise InvalidArgument("codes= is empty: give codes to compare, or leave it out")
    return named
