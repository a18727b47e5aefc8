"""One product of a matrix whose coded blocks are on the workers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..contracts.stopping import Outcome, Progress, StoppingRule, asks_stderr, best_case
from ..errors import InvalidAnswer, NotEnoughAnswers, WorkerLost
from ..execution.collect import Collection
from ..execution.placed import Placed
from ..results.matrix_result import MatrixResult
from ..results.summary import engine_error, facts, reason_and_steps
from .blocks import CodedBlocks
from .decoder import ProductDecoder

__all__ = ["ProductJob"]


class ProductJob:
    """Sends columns to all workers, and waits until the stopping rule is satisfied.

    Parameters
    ----------
    placed : Placed
        The coded blocks on the workers, which are called with the columns.
    blocks : CodedBlocks
        The same here.
    columns : ndarray, shape (n, c)
    stop : StoppingRule
    throw : bool
        If True, raise where the product is neither exact nor good enough for the stopping rule.
    """

    def __init__(
        self,
        placed: Placed,
        blocks: CodedBlocks,
        columns: np.ndarray,
        stop: StoppingRule,
        *,
        throw: bool,
    ) -> None:
        self._placed = placed
        self._decoder = ProductDecoder(blocks, columns)
        self._workers = blocks.code.workers
        self._rows = blocks.shape[0]
        self._columns = columns
        self._stop = stop
        self._throw = throw
        self._repaired: list[int] = []

    def result(self) -> tuple[np.ndarray, MatrixResult]:
        """The product, (m, c), and how it came about."""
        calls = Collection(
            self._placed.engine,
            self._stop,
            take=self._decoder.add,
            decodable=self._decoder.decodable,
            stderr=self._decoder.worst,
            estimable=self._decoder.estimable,
        )
        with calls:
            # Encoding a lost block again takes a while, in which workers that have theirs can work.
            for worker in sorted(range(self._workers), key=self._placed.lost):
                self._submit(worker, calls)
            for known in calls:
                if self._repair(known, calls):
                    continue
                outcome = self._outcome(known)
                product = None if outcome is None else self._product(outcome, known, calls)
                if outcome is not None and product is not None:
                    values, stderr = product
                    return values[: self._rows], self._described(outcome, stderr, known, calls)
        raise AssertionError("when no call is left running there is a product, or an error")

    def _submit(self, worker: int, calls: Collection) -> None:
        if self._placed.lost(worker):
            self._repaired.append(worker)
        calls.submit(worker, self._placed.on(worker), self._columns)

    def _repair(self, seen: Progress, calls: Collection) -> bool:
        """Place lost blocks again, each once, if the product cannot be decoded without them."""
        if self._decoder.decodable(seen.answered | seen.running):
            return False
        lost = [
            worker
            for worker, error in calls.failures.items()
            if isinstance(error, WorkerLost)
            and worker not in self._repaired
            and self._placed.lost(worker)
        ]
        for worker in lost:
            self._submit(worker, calls)
        return bool(lost)

    def _outcome(self, seen: Progress) -> Outcome | None:
        verdict = self._stop.verdict(seen)
        if verdict is not None or not seen.running:
            return verdict or Outcome.NONE_RUNNING
        best = seen.answered | seen.running
        decodable = self._decoder.decodable(best)
        if self._throw and not decodable and not asks_stderr(self._stop):
            return Outcome.UNSATISFIABLE
        ending = best_case(seen.asked, best, seen.failed, seen.seconds, decodable)
        out_of_reach = self._stop.verdict(ending) is None and self._stop.wake_after(ending) is None
        return Outcome.UNSATISFIABLE if out_of_reach and seen.decodable else None

    def _product(
        self, outcome: Outcome, seen: Progress, calls: Collection
    ) -> tuple[np.ndarray, np.ndarray | None] | None:
        """The product and its standard errors, or None if further answers may still help."""
        final = (
            outcome in (Outcome.DEADLINE, Outcome.UNSATISFIABLE)
            or not seen.running
            or self._stop.wake_after(seen) == 0.0
        )
        reason: NotEnoughAnswers | InvalidAnswer
        try:
            return self._decoder.decode(), None
        except (NotEnoughAnswers, InvalidAnswer) as error:
            reason = error
        within = outcome is Outcome.TOLERANCE and asks_stderr(self._stop)
        enough = within or (not self._throw and self._decoder.estimable(seen.answered))
        if seen.decodable or not enough:
            if not final:
                return None
            if self._throw:
                failures = calls.failures
                failure = engine_error(seen, failures) or _failure(reason, outcome, seen, failures)
                raise failure from next(iter(failures.values()), None)
        return self._decoder.estimate(reason)

    def _described(
        self, outcome: Outcome, stderr: np.ndarray | None, seen: Progress, calls: Collection
    ) -> MatrixResult:
        return MatrixResult(
            shape=(self._rows, self._columns.shape[1]),
            stderr=None if stderr is None else stderr[: self._rows],
            answered=tuple(sorted(seen.answered)),
            abandoned=tuple(sorted(seen.running)),
            failed=dict(calls.failures),
            rejected=dict(self._decoder.rejected),
            repaired=tuple(self._repaired),
            outcome=outcome,
            seconds=calls.seconds,
        )


def _failure(
    reason: NotEnoughAnswers | InvalidAnswer,
    outcome: Outcome,
    seen: Progress,
    failures: Mapping[int, BaseException],
) -> NotEnoughAnswers | InvalidAnswer:
    return type(reason)(
        f"stopped after {seen.seconds:.2f} s because {outcome.value}: "
        f"{facts(seen, failures)}; "
        + reason_and_steps(
            reason,
            seen,
            outcome,
            failures,
            "take what there is with throw=False",
            raised="see why the product raised",
        )
    )
