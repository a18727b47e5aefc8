"""One product of a matrix whose coded blocks are on the workers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..contracts.stopping import Outcome, Progress, StoppingRule, asks_stderr, best_case
from ..errors import InvalidAnswer, NotEnoughAnswers, WorkerLost
from ..execution.collect import Collection
from ..execution.placed import Placed
from ..results.matrix_result import MatrixResult
from ..results.summary import engine_error, facts
from .products import Products

__all__ = ["Call"]


class Call:
    """Sends columns to all workers, and waits until the stop rule is satisfied.

    Parameters
    ----------
    placed : Placed
        The coded blocks, which are called with the columns.
    products : Products
        Takes the answers.
    stop : StoppingRule
    rows : int
        m, how many rows of what is decoded are the matrix's own.
    throw : bool
        Whether to raise where the product is not exact, and not good enough for the stop rule.
    """

    def __init__(
        self, placed: Placed, products: Products, stop: StoppingRule, rows: int, *, throw: bool
    ) -> None:
        self._placed = placed
        self._products = products
        self._stop = stop
        self._rows = rows
        self._throw = throw
        self._repaired: list[int] = []

    def result(self, workers: int, columns: np.ndarray) -> tuple[np.ndarray, MatrixResult]:
        """The product, (m, c), and how it came about."""
        calls = Collection(
            self._placed.engine,
            self._stop,
            take=self._products.add,
            decodable=self._products.decodable,
            stderr=self._products.worst,
            estimable=self._products.estimable,
        )
        with calls:
            # To make a block again takes a while, in which those who have theirs can work.
            for worker in sorted(range(workers), key=self._placed.lost):
                self._submit(worker, columns, calls)
            for seen in calls:
                if self._repair(seen, columns, calls):
                    continue
                outcome = self._outcome(seen)
                found = None if outcome is None else self._found(outcome, seen, calls)
                if outcome is not None and found is not None:
                    values, stderr = found
                    return values[: self._rows], self._told(outcome, stderr, values, seen, calls)
        raise AssertionError("when nobody is left running there is a product, or an error")

    def _submit(self, worker: int, columns: np.ndarray, calls: Collection) -> None:
        if self._placed.lost(worker):
            self._repaired.append(worker)
        calls.submit(worker, self._placed.on(worker), columns)

    def _repair(self, seen: Progress, columns: np.ndarray, calls: Collection) -> bool:
        """Place blocks again, each once, without which the product could not be had."""
        if self._products.decodable(seen.answered | seen.running):
            return False
        lost = [
            worker
            for worker, error in calls.failures.items()
            if isinstance(error, WorkerLost)
            and worker not in self._repaired
            and self._placed.lost(worker)
        ]
        for worker in lost:
            self._submit(worker, columns, calls)
        return bool(lost)

    def _outcome(self, seen: Progress) -> Outcome | None:
        verdict = self._stop.verdict(seen)
        if verdict is not None or not seen.running:
            return verdict or Outcome.NONE_RUNNING
        best = seen.answered | seen.running
        decodable = self._products.decodable(best)
        if self._throw and not decodable and not asks_stderr(self._stop):
            return Outcome.UNSATISFIABLE
        ending = best_case(seen.asked, best, seen.failed, seen.seconds, decodable)
        out_of_reach = self._stop.verdict(ending) is None and self._stop.wake_after(ending) is None
        return Outcome.UNSATISFIABLE if out_of_reach and seen.decodable else None

    def _found(
        self, outcome: Outcome, seen: Progress, calls: Collection
    ) -> tuple[np.ndarray, np.ndarray | None] | None:
        """The product and the standard errors it has, or None if waiting on may still help."""
        final = (
            outcome in (Outcome.DEADLINE, Outcome.UNSATISFIABLE)
            or not seen.running
            or self._stop.wake_after(seen) == 0.0
        )
        error: NotEnoughAnswers | InvalidAnswer
        try:
            return self._products.decode(), None
        except (NotEnoughAnswers, InvalidAnswer) as problem:
            error = problem
        within = outcome is Outcome.TOLERANCE and asks_stderr(self._stop)
        enough = within or (not self._throw and self._products.estimable(seen.answered))
        if not seen.decodable and enough:
            return self._products.estimate(error)
        if not final:
            return None
        if self._throw:
            failures = calls.failures
            told = engine_error(seen, failures) or self._failure(error, outcome, seen, failures)
            raise told from next(iter(failures.values()), None)
        return self._products.estimate(error)

    def _told(
        self,
        outcome: Outcome,
        stderr: np.ndarray | None,
        values: np.ndarray,
        seen: Progress,
        calls: Collection,
    ) -> MatrixResult:
        return MatrixResult(
            shape=(self._rows, values.shape[1]),
            stderr=None if stderr is None else stderr[: self._rows],
            answered=tuple(sorted(seen.answered)),
            abandoned=tuple(sorted(seen.running)),
            failed=dict(calls.failures),
            rejected=dict(self._products.rejected),
            repaired=tuple(self._repaired),
            outcome=outcome,
            seconds=calls.seconds,
        )

    def _failure(
        self,
        reason: NotEnoughAnswers | InvalidAnswer,
        outcome: Outcome,
        seen: Progress,
        failures: Mapping[int, BaseException],
    ) -> NotEnoughAnswers | InvalidAnswer:
        return type(reason)(
            f"stopped after {seen.seconds:.2f} s because {outcome.value}: "
            f"{facts(seen, failures)}; {reason}"
        )
