"""One call of a door: what its answers are worth so far, when it is over, and what it came to."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np

from ..contracts.code import Code, Estimate
from ..contracts.stopping import Outcome, Progress, StoppingRule, asks_stderr, best_case
from ..engines import Engine
from ..errors import CodedmapError, InvalidArgument, NotEnoughAnswers
from ..results.calls import CallTable
from ..results.map_result import MapResult
from ..results.plan import Plan
from ..results.status import Status
from ..results.summary import (
    batches_are_arrays,
    engine_error,
    facts,
    failed_lookup,
    reason_and_steps,
)
from .batch import Batch
from .collect import Budget, Collection
from .hedge import Missing

__all__ = ["Wave", "no_stderr"]

_LOOKING = 0.05  # the share of the time that it may take to see whether every row is exact
_NONE: frozenset[int] = frozenset()


class Wave:
    """Rows encoded by a code, and how far their answers have got.

    Parameters
    ----------
    code : Code
    rows : ndarray, shape (m, *x)
    plan : Plan, optional
        By which the code was chosen.
    given : str
        What the rows were before they were made an array (`given_as`).
    partial : str
        The argument with which what there is would be taken.
    hedged, kind, begin
        As for `Batch`, which also tells what is raised.
    """

    def __init__(
        self,
        code: Code,
        rows: np.ndarray,
        *,
        plan: Plan | None = None,
        given: str = "",
        partial: str = 'on_error="record"',
        hedged: bool = False,
        kind: str = "input",
        begin: int = 0,
    ) -> None:
        self._code, self._plan, self._given, self._partial = code, plan, given, partial
        self._hedged = hedged
        self._batch = Batch(code, rows, hedged=hedged, kind=kind, begin=begin)
        self.payload = self._batch.payload
        self.slots = code.workers
        self._disowned: set[tuple[int, int]] = set()

    def calls(self, engine: Engine, stop: StoppingRule) -> Collection:
        """A collection of calls whose answers come here."""
        batch = self._batch  # and not self, which will hold the collection

        def worst() -> float | None:
            estimate = batch.tried()
            if estimate is not None and estimate.stderr is None and asks_stderr(stop):
                raise no_stderr(stop, batch.code)
            return _largest(estimate)

        def take(slot: int, answer: Any) -> None:
            worker, again = there.taking
            batch.take(slot, answer, worker, again=again)

        calls = Collection(engine, stop, take=take, decodable=batch.decodable, stderr=worst)
        there = weakref.proxy(calls)
        self._looking = Budget(calls, _LOOKING)
        return calls

    def missing(self, seen: Progress) -> list[Missing]:
        """The tasks whose own input has no answer."""
        slots: dict[int, list[int]] = {}
        for slot, task in self._batch.owner.items():
            slots.setdefault(task, []).append(slot)
        return [
            Missing(those[0], seen.failed.issuperset(those))
            for those in slots.values()
            if seen.answered.isdisjoint(those)
        ]

    def worst_first(self, missing: Sequence[Missing]) -> Sequence[Missing]:
        """Those with the largest standard errors first, if there are any."""
        estimate = self._batch.tried()
        if estimate is None or estimate.stderr is None:
            return missing
        worst = np.zeros(self._code.tasks)
        np.maximum.at(worst, self._batch.owner_of_row, estimate.stderr)
        return sorted(missing, key=lambda task: -float(worst[self._batch.owner[task.slot]]))

    def liars(self) -> Set[int]:
        """Workers that were judged liars when the answers were last decoded."""
        return self._batch.liars

    def disown(self, calls: Collection) -> bool:
        """Take back what liars answered to hedges; tell whether slots have no answer any more.

        Those may be sent once more.
        """
        news = self._batch.unbelieved - self._disowned
        self._disowned |= news
        return True in [calls.disown(slot) for slot, _ in sorted(news)]

    def outcome(
        self,
        seen: Progress,
        stop: StoppingRule,
        hedges: frozenset[int] = _NONE,
        *,
        throw: bool,
    ) -> Outcome | None:
        """Why to stop now: because the rule says so, or because no waiting can help any more.

        Without ``throw`` even answers that cannot be decoded are worth waiting for, as long as the
        rule may still be satisfied. ``hedges`` are slots that may still be sent once more.
        """
        verdict = stop.verdict(seen)
        if verdict is not None:
            return verdict
        if self._hedged and self._all_exact(seen):
            return Outcome.EXACT
        if not seen.running and not hedges:
            return Outcome.NONE_RUNNING
        hopeless = seen.failed and self._hopeless(seen, stop, hedges, throw)
        return Outcome.UNSATISFIABLE if hopeless else None

    def _all_exact(self, seen: Progress) -> bool:
        if not self._batch.all_raw(seen.answered) or not self._looking.allows():
            return False
        with self._looking:
            estimate = self._batch.tried()
        return estimate is not None and bool(estimate.exact.all())

    def _hopeless(
        self, seen: Progress, stop: StoppingRule, hedges: frozenset[int], throw: bool
    ) -> bool:
        best = seen.answered | seen.running | hedges
        asked, failed = seen.asked | hedges, seen.failed - hedges
        ending = best_case(asked, best, failed, seen.seconds, self._batch.decodable(best))
        if throw and not ending.decodable:
            return True
        if stop.verdict(ending) is not None or stop.wake_after(ending) is not None:
            return False
        # The rule is out of reach; but if every row may still come exact, nobody minds the rule.
        all_raw = self._batch.all_raw
        return not ending.decodable or all_raw(seen.answered) or not all_raw(best)

    def so_far(self, calls: Collection) -> MapResult | None:
        """What the wave has come to while it goes on, or None if it cannot be decoded after all."""
        estimate = self._batch.tried()
        return None if estimate is None else self._told(estimate, Outcome.WAITING, calls)

    def result(
        self,
        outcome: Outcome,
        seen: Progress,
        stop: StoppingRule,
        calls: Collection,
        hedges: frozenset[int] = _NONE,
        *,
        throw: bool,
    ) -> MapResult | None:
        """What the wave came to, or None if waiting on may still make it decodable.

        Raises
        ------
        NotEnoughAnswers
            With ``throw``, if it cannot be decoded, or ended before the stop rule was satisfied.
        """
        final = (
            outcome in (Outcome.DEADLINE, Outcome.UNSATISFIABLE)
            or not (seen.running or hedges)
            or stop.wake_after(seen) == 0.0  # time has had its say, so only answers could help
        )
        reason: CodedmapError | None = None
        try:
            estimate = self._batch.decode()
        except NotEnoughAnswers as error:
            if not final or (outcome is not Outcome.DEADLINE and self.disown(calls)):
                return None  # lies were among them: others may still make up for those
            estimate, reason = self._batch.salvage(), error
        else:
            if outcome is not Outcome.DEADLINE and self.disown(calls):
                return None  # the rule took these for answers
            unmet = outcome is Outcome.UNSATISFIABLE or (
                outcome is Outcome.NONE_RUNNING and stop.wake_after(seen) is None
            )
            if unmet and not estimate.exact.all():
                unmet_rule = f"the stop rule {stop} asks for more than could still come"
                worst = _largest(estimate)
                if asks_stderr(stop) and worst is not None:
                    unmet_rule += (
                        f" (the largest standard error is {worst:.3g}; with | Everyone() it would "
                        "take the best there is)"
                    )
                reason = NotEnoughAnswers(unmet_rule)
        if throw and reason is not None:
            raise engine_error(seen, calls.failures) or _not_enough(
                seen,
                outcome,
                reason,
                calls.failures,
                given=self._given,
                partial=self._partial,
            )
        return self._told(estimate, outcome, calls)

    def _told(self, estimate: Estimate, outcome: Outcome, calls: Collection) -> MapResult:
        self._batch.forget()
        saved = None
        if self._hedged:
            helped = np.zeros(self._code.tasks, dtype=bool)
            helped[[self._batch.owner[slot] for slot in calls.saved]] = True
            saved = helped[self._batch.owner_of_row] & estimate.exact
        return MapResult(
            values=estimate.values,
            stderr=estimate.stderr,
            status=_status(estimate),
            failures={},
            answered=tuple(sorted(calls.present)),
            abandoned=tuple(sorted(calls.absent)),
            failed=dict(calls.failures),
            rejected=self._batch.rejected,
            outcome=outcome,
            seconds=calls.seconds,
            worker_seconds=sum(record.seconds for record in calls.records),
            calls=CallTable(calls.records),
            learned=self._batch.learned,
            code=self._code,
            plan=self._plan,
            hedges=calls.hedges,
            saved=saved,
        )


def no_stderr(stop: StoppingRule, code: Code) -> InvalidArgument:
    """The error for a rule that asks for standard errors of a code that has none."""
    return InvalidArgument(
        f"the stop rule {stop} asks for standard errors, and {type(code).__name__} has none: use a "
        'code that has, such as Replication(..., fill="mean"), or stop by answers and time, as '
        "Quorum(20) | Deadline(2) does"
    )


def _status(estimate: Estimate) -> np.ndarray:
    """The status of each row; MISSING where nothing is known. Makes no array of wider numbers."""
    values = estimate.values.reshape(len(estimate.values), -1)
    status = np.full(len(values), Status.ESTIMATED, np.int8)
    if estimate.stderr is not None:
        status[~np.isfinite(estimate.stderr)] = Status.MISSING
    elif values.dtype.kind in "fc":
        status[np.isnan(values).any(axis=1)] = Status.MISSING
    status[estimate.exact] = Status.EXACT
    return status


def _largest(estimate: Estimate | None) -> float | None:
    if estimate is None or estimate.stderr is None:
        return None
    return float(estimate.stderr.max())


def _not_enough(
    seen: Progress,
    outcome: Outcome,
    reason: CodedmapError,
    failures: Mapping[int, BaseException],
    *,
    given: str,
    partial: str,
) -> NotEnoughAnswers:
    raised = "correct fn, which raised"
    if given and any(map(failed_lookup, failures.values())):
        raised += f" ({batches_are_arrays(given)})"
    error = NotEnoughAnswers(
        f"stopped after {seen.seconds:.2f} s because {outcome.value}: {facts(seen, failures)}; "
        + reason_and_steps(
            reason, seen, outcome, failures, f"take what there is with {partial}", raised=raised
        )
    )
    error.__cause__ = next(iter(failures.values()), None)
    return error
