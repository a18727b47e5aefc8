"""`plan`: which code to use, measured on a sample of the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from ..contracts.arguments import check_whole, is_real
from ..contracts.code import Code, check_budget
from ..contracts.inputs import checked_rows
from ..engines import Engine, Resident
from ..errors import InvalidArgument
from ..latency import LatencyModel
from ..planning.on_engine import computing
from ..planning.question import BUDGET, GROUPS, Question, planned
from ..planning.sampling import drawn, fewest_late, numbers_of_tasks
from ..results.plan import Plan
from ..results.summary import batches_are_arrays, failed_lookup, given_as

__all__ = ["plan"]

Codes = Mapping[str, Code] | Iterable[Code]


def plan(
    fn: Callable[[Any], Any] | Resident,
    sample: Any,
    *,
    workers: int,
    tasks: int | None = None,
    stragglers: int | None = None,
    latency: LatencyModel | None = None,
    codes: Codes | None = None,
    budget: float | None = None,
    seed: int = 0,
    engine: Engine | None = None,
) -> Plan:
    """Measure on a sample which code has the smallest error, and compare it with copies and hedging.

    ``fn`` computes the sample and the payloads that each scheme makes from it; then straggler sets
    are replayed on these answers, the same sets for all schemes: all sets if there are at most
    10,000, else some drawn at random. Exact rows are counted over all of them; errors are measured on
    some 60 or more. Kernel codes are tried with several
    spreads, with and without the sample's own answers as known ones; the answers of the rows that are
    being estimated are never among them. Schemes whose errors are equal, within 2 % or within twice the
    standard error of the difference over the sample's rows, are ranked by error bars, then by the share
    of exact rows, then by cost.

    ``fn`` computes at most 10 K + 256 rows of the sample, and at most 10 (7 N - 4 K) mixtures for each
    number of tasks that is tried.

    Parameters
    ----------
    fn : callable
        Batch to batch, as in `map`; with ``engine`` also a `codedmap.engines.Resident` on it.
    sample : array-like, shape (m, *x)
        Rows like those to come, in an order like theirs; at least K, better 10 K.
    workers : int
        N.
    tasks : int, optional
        K. By default it is chosen: the largest whose error is at most a tenth of the outputs' standard
        deviation; if there is none, the one with the smallest error.
    stragglers : int, optional
        S: how many answers are not waited for. Required without a latency model. With one, it is by
        default the smallest number with which the 99th percentile of the time is within a tenth of that
        of the first half of the answers.
    latency : LatencyModel, optional
        How long calls take (``codedmap.latency``). Straggler sets are drawn from it, and the plan also
        reports how long each scheme takes, exact ones included.
    codes : mapping of str to Code, or iterable of Code, optional
        Codes to compare, all with K tasks and at most N workers. By default kernel codes, copies, splines,
        Berrut, and every other code of ``codedmap.codes`` whose only required arguments are K, N and S.
    budget : float, optional
        The largest number of worker calls a task, N / K. 3 by default, where K is chosen.
    seed : int
        Seeds the draws of groups, straggler sets and times.
    engine : Engine, optional
        Where ``fn`` computes, each row twice in case a worker is lost. By default in this process.

    Returns
    -------
    Plan
        Print it; ``plan.code`` is the recommended code, ready to use.

    Raises
    ------
    InvalidArgument
        If an argument is invalid, or the sample is too small.
    InvalidAnswer
        If fn does not return one floating-point array with a row per row, or no scheme could be tried.
    Exception
        Any exception that fn raises for the sample's own rows. One that it raises only for mixtures is
        reported in the plan.
    """
    rows = checked_rows(sample, "sample")
    check_whole("seed", seed, 0)
    check_budget(1, workers, 0 if stragglers is None else stragglers)
    if isinstance(latency, type) or not isinstance(latency, LatencyModel | None):
        raise InvalidArgument(
            f"latency={latency!r} is no latency model: give one of codedmap.latency, such as "
            "Pareto(0.1, 0.03)"
        )
    if stragglers is None and latency is None:
        raise InvalidArgument(
            "plan needs to know how many workers will be late: give stragglers=, or a latency "
            "model of codedmap.latency to draw them from"
        )
    if budget is not None and (not is_real(budget) or not 1.0 <= budget < np.inf):
        raise InvalidArgument(f"budget={budget!r} must be at least 1 worker call a task")
    compared = None if codes is None else _named_codes(codes, workers)
    if compared is not None and tasks is None:
        tasks = compared[0][1].tasks
    if tasks is not None:
        _check_tasks(tasks, workers, budget, len(rows), compared or [])
    seconds = None if latency is None else drawn(latency, workers, seed)
    late = stragglers or 0
    if stragglers is None and seconds is not None:
        late = fewest_late(seconds)
    numbers = [tasks] if tasks else numbers_of_tasks(workers, late, budget or BUDGET, len(rows))
    given = given_as(sample)
    answer = computing(fn, engine, given)
    question = Question(answer, rows, workers, late, seconds, latency, compared, seed)
    try:
        return planned(question, numbers)
    except Exception as error:
        if given and failed_lookup(error):  # raised by fn in this process
            error.add_note(f"codedmap.plan: fn raised, and {batches_are_arrays(given)}")
        raise


def _named_codes(codes: Any, workers: int) -> list[tuple[str, Code]]:
    if isinstance(codes, Code):
        codes = [codes]
    if isinstance(codes, str) or not isinstance(codes, Iterable):
        raise InvalidArgument(
            f"codes={codes!r} are no codes: give codes such as [Replication(8, 16)]"
        )
    named = list(codes.items()) if isinstance(codes, Mapping) else [(repr(c), c) for c in codes]
    for name, code in named:
        if not isinstance(code, Code):
            raise InvalidArgument(f"codes={code!r} is no code: give one such as Replication(8, 16)")
        if code.workers > workers:
            raise InvalidArgument(
                f"{name} has {code.workers} workers, but the plan is for {workers}"
            )
    if not named:
        raise InvalidArgument("codes= is empty: there is nothing to compare")
    return named


def _check_tasks(
    tasks: int, workers: int, budget: float | None, rows: int, codes: list[tuple[str, Code]]
) -> None:
    check_whole("tasks", tasks, 1)
    for name, code in codes:
        if code.tasks != tasks:
            raise InvalidArgument(f"{name} has {code.tasks} tasks, but the plan is for {tasks}")
    if rows < tasks:
        raise InvalidArgument(
            f"a sample of {rows} rows is less than one group of {tasks} tasks: give {tasks} rows at "
            f"least, {GROUPS * tasks} to measure well"
        )
    if budget is not None and workers > budget * tasks * (1.0 + 1e-9):
        raise InvalidArgument(
            f"{workers} workers for {tasks} tasks are {workers / tasks:.3g} calls a task, more than "
            f"budget={budget:g}: use more tasks, fewer workers, or a larger budget"
        )
