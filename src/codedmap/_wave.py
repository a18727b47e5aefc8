"""One call of a door: its encodings, its answers, and what they are worth so far."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ._answers import Answers
from ._code import Code, Estimate, Salvageable
from ._collect import Collection
from ._errors import NotEnoughAnswers
from ._groups import cut, joined, spans
from ._memory import check_memory
from ._result import MapResult
from ._rules import Outcome, Progress, StopRule
from .engines import Engine

__all__ = ["Wave"]


class Wave:
    """Rows encoded by a code, and the answers to them.

    Parameters
    ----------
    code : Code
    rows : ndarray, shape (m, *x)

    Raises
    ------
    InvalidArgument
        If the code cannot encode such rows.
    NotEnoughMemory
        If the payloads would not fit.
    """

    def __init__(self, code: Code, rows: np.ndarray) -> None:
        blocks = cut(rows, code.tasks)
        self._code = code
        self._rows = len(rows)
        self._spans = spans(blocks)
        self._groups = self._spans[-1][1]
        if code.workers > code.tasks:
            payloads = code.workers * self._groups * rows[:1].nbytes
            check_memory(payloads, rows.nbytes, code.tasks, code.workers)
        self._encodings = [code.encode(block) for block in blocks]
        self._answers = Answers(code.workers)

    def calls(self, engine: Engine, stop: StopRule) -> Collection:
        """A collection of calls whose answers come here."""
        return Collection(
            engine, stop, take=self._answers.add, decodable=self.decodable, stderr=self._worst
        )

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
        ending = Progress(seen.asked, best, seen.failed, seen.seconds, self.decodable(best))
        if throw and not ending.decodable:
            return True
        if stop.verdict(ending) is not None or stop.wake_after(ending) is not None:
            return False
        # The rule is out of reach; but if every row may still come exact, nobody minds the rule.
        return not ending.decodable or self._all_raw(seen.answered) or not self._all_raw(best)

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
        if throw and reason is not None:
            raise _not_enough(seen, outcome, reason, calls.failures)
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
        )

    def _decode(self) -> Estimate:
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
            joined([part.values for part in parts], self._rows),
            joined([part.exact for part in parts], self._rows),
            joined(errors, self._rows) if len(errors) == len(parts) else None,
            tuple(sorted({*others, *(slot for part in parts for slot in part.rejected)})),
        )

    def _all_raw(self, answered: frozenset[int]) -> bool:
        """Whether every task's own input is among the payloads of these slots."""
        encoding = self._encodings[0]
        if not isinstance(encoding, Salvageable):
            return False
        return {encoding.raw[slot] for slot in answered} >= set(range(self._code.tasks))

    def _worst(self) -> float | None:
        try:
            estimate = self._decode()
        except NotEnoughAnswers:
            return None
        return None if estimate.stderr is None else float(estimate.stderr.max())


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
