"""One product of a matrix whose coded blocks are on the workers."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import numpy as np

from ..contracts.stopping import Outcome, StoppingRule, asks_stderr
from ..engines import Engine, Kept
from ..errors import InvalidAnswer, NotEnoughAnswers
from ..execution.placed import Ended, Placed, PlacedJob
from ..results.sum_result import MatrixResult
from ..results.summary import engine_error, facts, reason_and_steps
from .blocks import CodedBlocks
from .decoder import ProductDecoder

__all__ = ["ProductJob"]


class ProductJob(PlacedJob["tuple[np.ndarray, MatrixResult]"]):
    """Sends columns to all workers; the result is the product, (m, c), and how it came about.

    Parameters
    ----------
    placed : Placed
        The coded blocks on the workers, which are called with the columns.
    blocks : CodedBlocks
        The same here.
    columns : ndarray, shape (n, c)
    stop, throw
        As for `PlacedJob`.
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
        decoder, partial = ProductDecoder(blocks, columns), not throw or asks_stderr(stop)
        super().__init__(placed, decoder, stop, throw=throw, partial=partial)
        self._columns, self._rows = columns, blocks.shape[0]

    def send(self, engine: Engine, worker: int, kept: Kept) -> Future[Any]:
        """Multiply what a worker keeps with the columns."""
        return engine.submit(worker, kept, self._columns)

    def finish(self, ended: Ended) -> bool:
        """Decode the product; not while further answers may help."""
        seen, outcome = ended.seen, ended.outcome
        last = self._is_last(ended)
        try:
            values, stderr = self.decoder.decode(), None
        except (NotEnoughAnswers, InvalidAnswer) as error:
            within = outcome is Outcome.TOLERANCE and asks_stderr(self._stop)
            enough = within or (not self._throw and self.decoder.estimable(seen.answered))
            if seen.decodable or not enough:
                if not last:
                    return False
                if self._throw:
                    failure = engine_error(seen, ended.failures) or _failure(error, ended)
                    raise failure from next(iter(ended.failures.values()), None)
            values, stderr = self.decoder.estimate(error)
        record = MatrixResult(
            shape=(self._rows, self._columns.shape[1]),
            stderr=None if stderr is None else stderr[: self._rows],
            rejected=dict(self.decoder.rejected),
            **ended.record(),
        )
        self._result = values[: self._rows], record
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
