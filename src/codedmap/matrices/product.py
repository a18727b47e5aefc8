"""One product of a matrix whose coded blocks are on the workers: calls, and what their answers decode to."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import numpy as np

from ..contracts.answers import all_finite
from ..contracts.matrix_code import disputed, rounding, stacked
from ..contracts.stopping import Outcome, Progress, StoppingRule, asks_stderr
from ..engines import Kept
from ..errors import InvalidAnswer, NotEnoughAnswers
from ..execution.placed import Placed, PlacedJob
from ..results.sum_result import MatrixResult
from ..results.summary import undecoded
from .blocks import CodedBlocks

_NOT_FINITE = "an array with NaN or infinity in it"
_ROUNDING = 100.0  # largest error of an answer, over that of rounding its sum of absolute values


class ProductJob(PlacedJob["tuple[np.ndarray, MatrixResult]"]):
    """Sends columns (n, c) to the workers that keep the coded blocks; makes the product (m, c) and its record."""

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

    def send(self, kept: Kept) -> Future[Any]:
        return self.engine.submit(kept.worker, kept, self._columns)

    def finish(self, outcome: Outcome, seen: Progress, *, last: bool) -> bool:
        """Decode the product, unless it cannot be decoded yet and further answers may help."""
        try:
            values, stderr = self.decoder.decode(), None
        except (NotEnoughAnswers, InvalidAnswer) as error:
            within = outcome is Outcome.TOLERANCE and asks_stderr(self._stop)
            enough = within or (not self._throw and self.decoder.estimable(seen.answered))
            if seen.decodable or not enough:
                if not last:
                    return False
                if self._throw:
                    take, see = "take what there is with throw=False", "see why the product raised"
                    failure = undecoded(error, seen, outcome, self._failures, take, raised=see)
                    raise failure from failure.__cause__
            values, stderr = self.decoder.estimate(error)
            stderr = stderr[: self._rows]
            stderr = stderr if stderr.any() else None  # only padding was estimated
        record = MatrixResult(
            shape=(self._rows, self._columns.shape[1]),
            stderr=stderr,
            rejected=dict(self.decoder.rejected),
            **self.record(outcome, seen),
        )
        self._result = values[: self._rows], record
        return True


class ProductDecoder:
    """Collects answers, each the product of a coded block with columns (n, c), and decodes the product.

    The matrix's dtype limits the precision of the product whatever the answers' dtype, which is that of the columns.
    Each column is decoded in a unit of its own, so that a small one is judged as if it were alone.
    """

    def __init__(self, blocks: CodedBlocks, columns: np.ndarray) -> None:
        self._code = blocks.code
        self._blocks = blocks
        self._units = _units(columns)
        self._columns = columns / self._units
        self._shape = blocks.rows, columns.shape[1]
        self._dtype = columns.dtype
        self._precision = blocks.dtype
        self._answers: dict[int, np.ndarray] = {}
        self._estimate: tuple[np.ndarray, np.ndarray] | None = None
        self.rejected: dict[int, str] = {}
        """What is wrong with an answer that is not used, by worker."""

    def add(self, worker: int, answer: Any) -> None:
        problem = self._problem(answer)
        if problem is None:
            with np.errstate(over="ignore", invalid="ignore"):
                answer = answer / self._units
            problem = None if all_finite(answer) else _NOT_FINITE
        if problem is None:
            self._answers[worker] = answer
            self._estimate = None
        else:
            self.rejected[worker] = problem

    def decodable(self, answered: frozenset[int]) -> bool:
        """Whether the product can be decoded from these workers' answers, some of which may be to come."""
        return self._code.decodable(answered - self.rejected.keys(), self._precision)

    def estimable(self, answered: frozenset[int]) -> bool:
        """Whether there is an estimate with a standard error, or the product itself."""
        if self.decodable(answered):
            return True
        return hasattr(self._code, "estimate") and len(answered - self.rejected.keys()) > 1

    def decode(self) -> np.ndarray:
        """The products of all blocks, one below the other, (K·b, c); raises as `MatrixCode.decode`."""
        try:
            decoded = self._code.decode(self._answers, self._precision)
        except (NotEnoughAnswers, InvalidAnswer) as error:
            blocks = self._least_squares()
            if blocks is not None:
                return blocks
            if isinstance(error, InvalidAnswer) or not self.rejected:
                raise
            worker, problem = next(iter(self.rejected.items()))
            message = f"{error.problem}; {len(self.rejected)} could not be used: worker {worker} sent {problem}"
            steps = error.steps
            if problem == _NOT_FINITE and self._exceeds():
                steps += (
                    "scale the matrix or what is multiplied, if the product exceeds the range of "
                    f"{self._dtype}",
                )
            raise NotEnoughAnswers(message, *steps) from error
        if decoded.rejected:
            blocks = self._least_squares()
            if blocks is not None:
                return blocks
        self.rejected |= decoded.rejected
        return self._stacked(decoded.values)

    def _least_squares(self) -> np.ndarray | None:
        """The product, if the answers contradict one another by no more than rounding; else None."""
        # The code compares contradictions with the size of the answers, which is small if terms cancelled in them.
        if not self._code.decodable(frozenset(self._answers), self._precision):
            return None
        _, weights, answers = self._stacked_answers()
        answers = answers.astype(np.complex128 if answers.dtype.kind == "c" else np.float64)
        blocks = np.linalg.lstsq(weights, answers)[0]
        if (np.abs(answers - weights @ blocks) > self._tolerance()).any():
            return None
        return self._stacked(blocks.astype(self._dtype))

    def _stacked_answers(self) -> tuple[list[int], np.ndarray, np.ndarray]:
        """Workers, the weights of their answers, (F, K), and these, (F, b·c)."""
        workers, answers, _ = stacked(self._answers)
        return workers, np.stack([self._code.weights(worker) for worker in workers]), answers

    def _exceeds(self) -> bool:
        """Whether correct answers may exceed the range of their dtype."""
        with np.errstate(over="ignore"):
            sums = self._blocks.absolute_sums(self._columns) * self._units
            return bool(sums.max() * self._code.tasks**0.5 > np.finfo(self._dtype).max)

    def _tolerance(self) -> np.ndarray:
        """The largest difference in each entry that rounding can cause, (b·c,)."""
        with np.errstate(over="ignore", invalid="ignore"):
            sums = self._blocks.absolute_sums(self._columns)
            errors = _ROUNDING * rounding(self._precision) * sums
        errors[~np.isfinite(errors)] = 0.0
        return np.tile(np.maximum(errors, np.finfo(self._dtype).tiny), self._shape[0])

    def worst(self) -> float | None:
        """The largest standard error of the product or its estimate from the answers so far."""
        if self.decodable(frozenset(self._answers)):
            return 0.0
        estimate = self._estimated()
        return None if estimate is None else float((estimate[1] * self._units).max())

    def estimate(self, reason: NotEnoughAnswers | InvalidAnswer) -> tuple[np.ndarray, np.ndarray]:
        """Values (K·b, c) and their standard errors where `decode` has raised ``reason``.

        These are the code's estimate if it has one. Else they are the products of blocks that a worker keeps
        uncoded, unless its answer contradicts others; all other blocks are NaN with infinite standard errors. If
        ``reason`` is that answers contradict one another, none is used, because any may be wrong.
        """
        shape = (self._code.tasks, *self._shape)
        values = np.full(shape, np.nan, self._dtype)
        stderr = np.full(shape, np.inf)
        if self._answers and not isinstance(reason, InvalidAnswer):
            estimate = self._estimated()
            if estimate is not None:
                values, stderr = estimate
            elif hasattr(self._code, "salvage"):
                partial = self._code.salvage(self._answers)
                values, stderr = partial.values, partial.stderr
                self.rejected |= partial.rejected
            else:
                self._fill_uncoded(values, stderr)
        return self._stacked(values), self._stacked(stderr)

    def _fill_uncoded(self, values: np.ndarray, stderr: np.ndarray) -> None:
        """Fill in the answers of workers that keep an uncoded block, if no other answer contradicts them."""
        workers, weights, answers = self._stacked_answers()
        doubted = disputed(weights, answers, self._precision, self._tolerance())
        raw = (np.count_nonzero(weights, axis=1) == 1) & (weights.max(axis=1) == 1.0)
        for row in np.flatnonzero(raw & ~doubted):
            task = int(weights[row].argmax())
            values[task], stderr[task] = self._answers[workers[row]], 0.0

    def _estimated(self) -> tuple[np.ndarray, np.ndarray] | None:
        if self._estimate is None and hasattr(self._code, "estimate"):
            self._estimate = self._code.estimate(self._answers)
        return self._estimate

    def _stacked(self, blocks: np.ndarray) -> np.ndarray:
        stacked: np.ndarray = blocks.reshape(-1, self._shape[1]) * self._units
        return stacked

    def _problem(self, answer: Any) -> str | None:
        if not isinstance(answer, np.ndarray):
            return f"a {type(answer).__name__} instead of an array"
        if answer.shape != self._shape:
            return f"an array of shape {answer.shape} instead of {self._shape}"
        if answer.dtype != self._dtype:
            return f"an array of dtype {answer.dtype} instead of {self._dtype}"
        return None


def _units(columns: np.ndarray) -> np.ndarray:
    """The unit of each of the columns (n, c): a power of two, 1 for the largest column, (c,)."""
    largest = np.maximum(np.abs(columns.real), np.abs(columns.imag)).max(axis=0)
    exponents = np.frexp(largest)[1]
    least = np.finfo(largest.dtype).minexp
    units: np.ndarray = np.ldexp(
        largest.dtype.type(1), np.maximum(exponents - exponents.max(), least)
    )
    return units
