"""The door `sum`: the exact sum of a function over all parts, from those workers that are fast."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import Any

from ..contracts.stopping import Decodable, Outcome, Progress, StoppingRule, best_case
from ..contracts.sum_code import SumCode
from ..engines import Engine, Resident
from ..errors import InvalidArgument, KeptLost, NotEnoughAnswers
from ..execution.collect import Collection
from ..execution.stream import checked_rule
from ..results.progress_bar import progress_bar
from ..results.sum_result import SumResult
from ..results.summary import advice, engine_error, facts
from ..sums.pieces import Pieces
from ..sums.shard import Combined
from .parts import CodedParts

__all__ = ["sum"]


def sum(
    fn: Callable[..., Any],
    parts: CodedParts | Any,
    *,
    args: tuple[Any, ...] = (),
    code: SumCode | None = None,
    engine: Engine | Executor | None = None,
    stop: StoppingRule | None = None,
    throw: bool = True,
    progress: bool = False,
) -> SumResult:
    """The sum of ``fn`` over all parts, exact, as soon as enough workers have answered.

    Every worker calls ``fn`` on each of its parts, combines the values, and sends one combination of
    the length of the sum, or of 1/m of it. From any N - S of these the sum is decoded.

    What travels: the parts once, when `CodedParts` places them; ``fn`` and ``args`` with every call, to
    every worker; back, one answer of each worker.

    Parameters
    ----------
    fn : callable
        A part, followed by ``args``, to one array (or number), of the same shape for all parts. Several
        arrays must be joined into one. It has to give the same value for the same part on every
        worker: random numbers must follow from the part and a seed in ``args``. Arrays in parts and
        ``args`` are not writable for it, also in tuples, lists and dicts.
    parts : CodedParts, or what `CodedParts` takes
        The latter with ``code`` and ``engine``, for a single sum.
    args : tuple
        What is the same for all parts and changes from call to call, such as a model's weights.
    code, engine
        As for `CodedParts`, if ``parts`` is none.
    stop : StoppingRule, optional
        When to stop waiting. By default ``Decodable()``: the sum is exact whichever answers it comes
        from. A worker that hangs without dying is waited for unless the rule contains a `Deadline`,
        or the others suffice.
    throw : bool
        Whether to raise when the sum cannot be decoded. If False, ``value`` is NaN then.
    progress : bool
        Draw a progress bar on the error stream, if that is a terminal.

    Returns
    -------
    SumResult

    Raises
    ------
    InvalidArgument
        If an argument cannot work; nothing has been computed then.
    CannotSend
        If ``fn``, ``args`` or a part cannot be pickled.
    NotEnoughAnswers
        If the answers do not give the sum; the first worker's exception is the cause. A value
        of ``fn`` that is not finite, or not of the shape of the others, is one.
    InvalidAnswer
        If the sum, or what a worker has added up of it, exceeds the range of its dtype; for integers
        and a code that multiplies, the range in which float64 holds all of them.
    """
    if not callable(fn) or isinstance(fn, Resident):
        raise InvalidArgument(
            f"fn={fn!r} must be a function: it is sent with every call, so what is large and stays "
            "the same belongs into the parts"
        )
    if not isinstance(args, (tuple, list)):
        raise InvalidArgument(
            f"args must be a tuple, as args=(weights,), not a {type(args).__name__}"
        )
    shards = _placed(parts, code, engine)
    rule = checked_rule(stop or Decodable(), shards.code)
    return _Call(shards, Combined(fn, tuple(args)), rule).result(throw=throw, progress=progress)


class _Call:
    """One sum while it is computed."""

    def __init__(self, shards: CodedParts, combined: Combined, stop: StoppingRule) -> None:
        self._shards = shards
        self._combined = combined
        self._stop = stop
        self._pieces = Pieces(shards.code, shards.coefficients)
        self._repaired: list[int] = []

    def result(self, *, throw: bool, progress: bool) -> SumResult:
        workers = self._shards.code.workers
        calls = Collection(
            self._shards.engine,
            self._stop,
            take=self._pieces.add,
            decodable=self._pieces.decodable,
            stderr=lambda: 0.0,
        )
        with progress_bar(progress) as show, calls:
            for worker in range(workers):
                calls.submit(worker, self._combined, self._shards.on(worker))
            for seen in calls:
                show(seen)
                if self._repair(calls):
                    continue
                outcome = self._outcome(seen)
                if outcome is not None:
                    told = self._told(outcome, seen, calls, throw=throw)
                    if told is not None:
                        return told
        raise AssertionError("when nobody is left running there is an outcome")

    def _repair(self, calls: Collection) -> bool:
        """Send the parts again to workers that turned out to have lost them, each once."""
        lost = [
            worker
            for worker, error in calls.failures.items()
            if isinstance(error, KeptLost) and worker not in self._repaired
        ]
        for worker in lost:
            self._repaired.append(worker)
            calls.submit(worker, self._combined, self._shards.on(worker))
        return bool(lost)

    def _outcome(self, seen: Progress) -> Outcome | None:
        verdict = self._stop.verdict(seen)
        if verdict is not None and (seen.decodable or self._is_over(verdict, seen)):
            return verdict
        if not seen.running:
            return verdict or Outcome.NONE_RUNNING
        best = seen.answered | seen.running
        ending = best_case(
            seen.asked, best, seen.failed, seen.seconds, self._pieces.decodable(best)
        )
        if not ending.decodable:
            return Outcome.UNSATISFIABLE
        out_of_reach = self._stop.verdict(ending) is None and self._stop.wake_after(ending) is None
        return Outcome.UNSATISFIABLE if out_of_reach and seen.decodable else None

    def _is_over(self, verdict: Outcome, seen: Progress) -> bool:
        """Whether time has had its say, so that no answer will be waited for."""
        return verdict is Outcome.DEADLINE or self._stop.wake_after(seen) == 0.0

    def _told(
        self, outcome: Outcome, seen: Progress, calls: Collection, *, throw: bool
    ) -> SumResult | None:
        """What it came to, or None if answers contradict each other and more may make up for it."""
        found, problem = None, "they do not tell the sum"
        if seen.decodable:
            try:
                found = self._pieces.decode(seen.answered)
            except NotEnoughAnswers as error:
                if seen.running and not self._is_over(outcome, seen):
                    return None
                problem = str(error)
        rejected = self._pieces.outvoted(seen.answered)
        if found is None and throw:
            failures = calls.failures
            raise engine_error(seen, failures) or self._not_enough(
                outcome, problem, seen, rejected, failures
            )
        value, exact = found or (self._pieces.unknown(), False)
        return SumResult(
            value=value,
            exact=exact,
            parts=len(self._shards),
            answered=tuple(sorted(seen.answered)),
            abandoned=tuple(sorted(seen.running)),
            failed=dict(calls.failures),
            rejected=rejected,
            repaired=tuple(self._repaired),
            outcome=outcome,
            seconds=calls.seconds,
            received=self._pieces.received,
        )

    def _not_enough(
        self,
        outcome: Outcome,
        problem: str,
        seen: Progress,
        rejected: Mapping[int, str],
        failures: Mapping[int, BaseException],
    ) -> NotEnoughAnswers:
        code = self._shards.code
        unusable = []
        if rejected:
            worker, why = next(iter(rejected.items()))
            unusable = [
                f"{len(rejected)} with what cannot be used or contradicts the others (worker {worker} "
                f"with {why})"
            ]
        needed = code.workers - code.stragglers
        enough = f"any {needed} would by {code!r}"
        if len(seen.answered) - len(rejected) >= needed and not seen.decodable:
            enough = f"{needed} are enough on paper, but by {code!r} these would enlarge rounding too much"
        error = NotEnoughAnswers(
            f"stopped after {seen.seconds:.2f} s because {outcome.value}: "
            f"{facts(seen, failures, *unusable)}; "
            f"{problem}, and {enough}"
            + advice(seen, outcome, failures, "call again (parts that were lost are sent again)")
        )
        error.__cause__ = next(iter(failures.values()), None)
        return error


def _placed(parts: Any, code: SumCode | None, engine: Engine | Executor | None) -> CodedParts:
    if isinstance(parts, CodedParts):
        if code not in (None, parts.code) or engine not in (None, parts.engine):
            raise InvalidArgument(
                "these parts are placed already, by another code or on another engine: leave code and "
                "engine out, or place them anew with CodedParts"
            )
        return parts
    if code is None or engine is None:
        raise InvalidArgument(
            "parts that are not placed need code= and engine=; to add them up more than once, place "
            "them with CodedParts(parts, code=..., engine=...)"
        )
    return CodedParts(parts, code=code, engine=engine)
