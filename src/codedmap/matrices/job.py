"""One product of a matrix whose coded blocks are on the workers."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import numpy as np

from ..contracts.stopping import Outcome, StoppingRule, asks_stderr
from ..engines import Engine, Kept
from ..errors import InvalidAnswer, NotEnoughAnswers
from ..execution.placed import Ended, Placed, run_placed
from ..results.sum_result import MatrixResult
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

    costly = True  # a lost block is encoded again

    def __init__(
        self,
        placed: Placed,
        blocks: CodedBlocks,
        columns: np.ndarray,
        stop: StoppingRule,
        *,
        throw: bool,
    ) -> None:
        self._placed, self._columns = placed, columns
        self._stop, self._throw = stop, throw
        self._rows = blocks.shape[0]
        self._decoder = ProductDecoder(blocks, columns)
        self._product: tuple[np.ndarray, MatrixResult] | None = None
        self.add, self.decodable = self._decoder.add, self._decoder.decodable
        self.estimable, self.worst = self._decoder.estimable, self._decoder.worst

    def result(self) -> tuple[np.ndarray, MatrixResult]:
        """The product, (m, c), and how it came about."""
        partial = not self._throw or asks_stderr(self._stop)
        run_placed(self._placed, self, self._stop, partial=partial)
        assert self._product is not None
        return self._product

    def send(self, engine: Engine, worker: int, kept: Kept) -> Future[Any]:
        """Multiply what a worker keeps with the columns."""
        return engine.submit(worker, kept, self._columns)

    def finish(self, ended: Ended) -> bool:
        """Decode the product; not while further answers may help."""
        seen, outcome = ended.seen, ended.outcome
        last = ended.final or outcome is Outcome.DEADLINE or self._stop.wake_after(seen) == 0.0
        try:
            values, stderr = self._decoder.decode(), None
        except (NotEnoughAnswers, InvalidAnswer) as error:
            within = outcome is Outcome.TOLERANCE and asks_stderr(self._stop)
            enough = within or (not self._throw and self._decoder.estimable(seen.answered))
            if seen.decodable or not enough:
                if not last:
                    return False
                if self._throw:
                    failure = engine_error(seen, ended.failures) or _failure(error, ended)
                    raise failure from next(iter(ended.failures.values()), None)
            values, stderr = self._decoder.estimate(error)
        record = MatrixResult(
            shape=(self._rows, self._columns.shape[1]),
            stderr=None if stderr is None else stderr[: self._rows],
            rejected=dict(self._decoder.rejected),
            **ended.record(),
        )
        self._product = values[: self._rows], record
        return True


def _failure(
    reason: NotEnoughAnswers | InvalidAnswer, ended: Ended
) -> NotEnoughAnswers | InvalidAnswer:
    seen, failures = ended.seen, ended.failures
    steps = reason_and_steps(
        reason,
        seen,
        ended.outcome,
        failures,
        "take what there is with throw=False",
        raised="see why the product raised",
    )
    return type(reason)(
        f"stopped after {seen.seconds:.2f} s because {ended.outcome.value}: {facts(seen, failures)}; {steps}"
    )
