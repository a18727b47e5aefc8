"""One call of a door: its encodings, its answers, and what they are worth so far."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ._answers import Answers
from ._code import Arranging, Code, Estimate, Learning, Salvageable
from ._collect import Collection
from ._errors import InvalidAnswer, InvalidArgument, NotEnoughAnswers
from ._groups import cut, joined, spans
from ._memory import check_memory
from ._plan_table import Plan
from ._result import MapResult
from ._rules import Outcome, Progress, StopRule, asks_stderr, at_best
from .engines import Engine

__all__ = ["Wave", "no_stderr"]


class Wave:
    """Rows encoded by a code, and the answers to them.

    Parameters
    ----------
    code : Code
    rows : ndarray, shape (m, *x)
    plan : Plan, optional
        By which the code was chosen.

    Raises
    ------
    InvalidArgument
        If the code cannot encode such rows, or its arrangement of them leaves some out.
    NotEnoughMemory
        If the payloads would not fit.
    """

    def __init__(self, code: Code, rows: np.ndarray, plan: Plan | None = None) -> None:
        self._code, self._plan = code, plan
        order = code.arranged(rows) if isinstance(code, Arranging) else None
        self._place = None if order is None else self._places(order, len(rows))
        blocks = cut(rows if order is None else rows[order], code.tasks)
        self._rows = len(rows)
        self._spans = spans(blocks)
        self._groups = self._spans[-1][1]
        if code.workers > code.tasks:
            payloads = code.workers * self._groups * rows[:1].nbytes
            check_memory(payloads, rows.nbytes, code.tasks, code.workers)
        self._encodings = [code.encode(block) for block in blocks]
        self._answers = Answers(code.workers)
        self._estimate: Estimate | None = None

    def calls(self, engine: Engine, stop: StopRule) -> Collection:
        """A collection of calls whose answers come here."""

        def worst() -> float | None:
            estimate = self._tried()
            if estimate is not None and estimate.stderr is None and asks_stderr(stop):
                raise no_stderr(stop, self._code)
            return _largest(estimate)

        return Collection(engine, stop, take=self._take, decodable=self.decodable, stderr=worst)

    def payload(self, slot: int) -> np.ndarray:
        """The batch for one slot, (B, *x), not writable."""
        parts = [encoding.payloads[slot] for encoding in self._encodings]
        payload = parts[0].view() if len(parts) == 1 else np.concatenate(parts)
        # In an engine of threads fn sees this very memory, which may be the caller's inputs.
        payload.flags.writeable = False
        return payload

    def decodable(self, answered: frozenset[int]) -> bool:
        """Whether every group can be decoded from answers of these slots."""
        return all(encoding.decodable(answered) for encoding in self._encodings)

    def outcome(self, seen: Progress, stop: StopRule, *, throw: bool) -> Outcome | None:
        """Why to stop now: because the rule says so, or because no waiting can help any more.

        Without ``throw`` even answers that cannot be decoded are worth waiting for, as long as the
        rule may still be satisfied.
        """
        verdict = stop.verdict(seen)
        if verdict is not None or not seen.running:
            return verdict or Outcome.NOBODY_LEFT
        return Outcome.HOPELESS if seen.failed and self._hopeless(seen, stop, throw) else None

    def _hopeless(self, seen: Progress, stop: StopRule, throw: bool) -> bool:
        best = seen.answered | seen.running
        ending = at_best(seen.asked, best, seen.failed, seen.seconds, self.decodable(best))
        if throw and not ending.decodable:
            return True
        if stop.verdict(ending) is not None or stop.wake_after(ending) is not None:
            return False
        # The rule is out of reach; but if every row may still come exact, nobody minds the rule.
        return not ending.decodable or self._all_raw(seen.answered) or not self._all_raw(best)

    def so_far(self, seen: Progress, calls: Collection) -> MapResult | None:
        """What the wave has come to while it goes on, or None if it cannot be decoded after all."""
        estimate = self._tried()
        return None if estimate is None else self._told(estimate, Outcome.WAITING, seen, calls)

    def result(
        self, outcome: Outcome, seen: Progress, stop: StopRule, calls: Collection, *, throw: bool
    ) -> MapResult | None:
        """What the wave came to, or None if waiting on may still make it decodable.

        Raises
        ------
        NotEnoughAnswers
            With ``throw``, if it cannot be decoded, or ended before the stop rule was satisfied.
        """
        final = (
            outcome in (Outcome.DEADLINE, Outcome.HOPELESS)
            or not seen.running
            or stop.wake_after(seen) == 0.0  # time has had its say, so only answers could help
        )
        reason = None
        try:
            estimate = self._decode()
        except NotEnoughAnswers as error:
            if not final:
                return None  # lies were among them: others may still make up for those
            estimate, reason = self._salvage(), str(error)
        else:
            unmet = outcome is Outcome.HOPELESS or (
                outcome is Outcome.NOBODY_LEFT and stop.wake_after(seen) is None
            )
            if unmet and not estimate.exact.all():
                reason = f"the stop rule {stop} asks for more than could still come"
                worst = _largest(estimate)
                if asks_stderr(stop) and worst is not None:
                    reason += (
                        f" (the largest standard error is {worst:.3g}; with | Everyone() it would "
                        "take the best there is)"
                    )
        if throw and reason is not None:
            raise _not_enough(seen, outcome, reason, calls.failures)
        return self._told(estimate, outcome, seen, calls)

    def _told(
        self, estimate: Estimate, outcome: Outcome, seen: Progress, calls: Collection
    ) -> MapResult:
        self._estimate = None  # its arrays are the caller's now, who may write into them
        return MapResult(
            values=estimate.values,
            stderr=estimate.stderr,
            exact=estimate.exact,
            answered=tuple(sorted(seen.answered)),
            abandoned=tuple(sorted(seen.running)),
            failed=dict(calls.failures),
            rejected=estimate.rejected,
            outcome=outcome,
            seconds=calls.seconds,
            learned=first.learned if isinstance(first := self._encodings[0], Learning) else None,
            code=self._code,
            plan=self._plan,
        )

    def _take(self, slot: int, answer: Any) -> None:
        self._answers.add(slot, answer)
        self._estimate = None

    def _tried(self) -> Estimate | None:
        """An estimate, or None while lies hinder it: others may still make up for those."""
        try:
            return self._decode()
        except (NotEnoughAnswers, InvalidAnswer):
            return None

    def _decode(self) -> Estimate:
        if self._estimate is None:
            self._estimate = self._decoded()
        return self._estimate

    def _decoded(self) -> Estimate:
        sheet, others = self._answers.sheet(self._groups)
        parts = [
            encoding.decode(sheet.groups(*span))
            for encoding, span in zip(self._encodings, self._spans, strict=True)
        ]
        return self._joined(parts, others)

    def _salvage(self) -> Estimate:
        try:
            sheet, others = self._answers.sheet(self._groups)
        except NotEnoughAnswers:
            return self._joined([_nothing(self._code.tasks, (self._groups,))], ())
        parts = [
            encoding.salvage(sheet.groups(*span))
            if isinstance(encoding, Salvageable)
            else _nothing(self._code.tasks, sheet.groups(*span).block.shape[1:])
            for encoding, span in zip(self._encodings, self._spans, strict=True)
        ]
        return self._joined(parts, others)

    def _joined(self, parts: list[Estimate], others: tuple[int, ...]) -> Estimate:
        errors = [part.stderr for part in parts if part.stderr is not None]
        return Estimate(
            self._in_place([part.values for part in parts]),
            self._in_place([part.exact for part in parts]),
            self._in_place(errors) if len(errors) == len(parts) else None,
            tuple(sorted({*others, *(slot for part in parts for slot in part.rejected)})),
        )

    def _in_place(self, blocks: list[np.ndarray]) -> np.ndarray:
        rows = joined(blocks, self._rows)
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
                f"{type(self._code).__name__}.arranged must give each of the numbers 0 to {rows - 1} "
                "once, in any order, or None"
            )
        return places

    def _all_raw(self, answered: frozenset[int]) -> bool:
        """Whether every task's own input is among the payloads of these slots."""
        encoding = self._encodings[0]
        if not isinstance(encoding, Salvageable):
            return False
        return {encoding.raw[slot] for slot in answered} >= set(range(self._code.tasks))


def no_stderr(stop: StopRule, code: Code) -> InvalidArgument:
    """The error for a rule that asks for standard errors of a code that has none."""
    return InvalidArgument(
        f"the stop rule {stop} asks for standard errors, and {type(code).__name__} has none: use a "
        'code that has, such as Replication(..., fill="mean"), or stop by answers and time, as '
        "Quorum(20) | Deadline(2) does"
    )


def _largest(estimate: Estimate | None) -> float | None:
    if estimate is None or estimate.stderr is None:
        return None
    return float(estimate.stderr.max())


def _nothing(tasks: int, shape: tuple[int, ...]) -> Estimate:
    groups = shape[0]
    return Estimate(
        np.full((tasks, *shape), np.nan),
        np.zeros((tasks, groups), dtype=bool),
        np.full((tasks, groups), np.inf),
        (),
    )


def _not_enough(
    seen: Progress, outcome: Outcome, reason: str, failures: Mapping[int, BaseException]
) -> NotEnoughAnswers:
    counts = [f"{len(seen.answered)} of {len(seen.asked)} workers answered"]
    if seen.running:
        counts.append(f"{len(seen.running)} were still running")
    if failures:
        slot, first = next(iter(failures.items()))
        counts.append(
            f"{len(failures)} failed, worker {slot} first with {type(first).__name__}: {first}"
        )
    error = NotEnoughAnswers(
        f"stopped after {seen.seconds:.2f} s because {outcome.value}: {', '.join(counts)}; "
        f"{reason}. Mend fn if it raised; else wait longer, allow more stragglers, or take what "
        "there is with throw=False"
    )
    error.__cause__ = next(iter(failures.values()), None)
    return error
