"""One product of a matrix whose coded blocks are on the workers: calls, and what their answers decode to."""

from __future__ import annotations

from bisect import bisect_left
from concurrent.futures import Future
from typing import Any

import numpy as np

from ..contracts.answers import all_finite
from ..contracts.engine import Reply
from ..contracts.matrix_code import disputed, rounding, stacked
from ..contracts.stopping import Outcome, Progress, StoppingRule, asks_stderr
from ..engines import Kept
from ..errors import InvalidAnswer, NotEnoughAnswers, many
from ..execution.events import Call
from ..execution.placed import Placed, PlacedJob
from ..results.sum_result import MatrixResult
from ..results.summary import undecoded
from .blocks import CodedBlocks
from .freivalds import BlockCheck, ProductCheck

_NOT_FINITE = "an array with NaN or infinity in it"
_WRONG = "an array that is not the product of its block"
_ROUNDING = 100.0  # largest error of an answer, over that of rounding its sum of absolute values


class ProductJob(PlacedJob["tuple[np.ndarray, MatrixResult]"]):
    """Sends columns (n, c) to the workers that keep the coded blocks; makes the product (m, c) and its record.

    ``checks`` are those of the blocks that workers of the code keep now; None: answers are not tested.
    """

    costly = True  # a lost block is encoded again

    def __init__(
        self,
        placed: Placed,
        blocks: CodedBlocks,
        columns: np.ndarray,
        stop: StoppingRule,
        checks: dict[int, BlockCheck] | None,
        *,
        throw: bool,
    ) -> None:
        decoder = ProductDecoder(blocks, columns, verify=checks is not None)
        partial = not throw or asks_stderr(stop)
        super().__init__(placed, decoder, stop, throw=throw, partial=partial)
        self._columns, self._rows, self._checks = columns, blocks.shape[0], checks
        out = {n: placed.rejected[placed.where(n)] for n in sorted(placed.out())}
        self._out = {
            n: f"worker {placed.where(n)} was rejected: it had sent {why}" for n, why in out.items()
        }
        left = frozenset(range(len(placed))) - out.keys()
        if out and not partial and not decoder.decodable(left):
            raise NotEnoughAnswers(
                f"{many(len(out), 'answer')} of {len(placed)} cannot come, because {self._out[min(out)]}, and the other "
                f"{len(left)} are not enough",
                *self._readmit(),
            )

    def _readmit(self) -> list[str]:
        """The step that lets rejected workers answer again."""
        rejected = sorted(self.placed.rejected)
        return (
            [f"call readmit({rejected[0]}) of the matrix once that worker is repaired"]
            if rejected
            else []
        )

    def send(self, kept: Kept) -> Future[Any]:
        return self.engine.submit(kept.worker, kept, self._columns)

    def submit(self, call: Call) -> Future[Any]:
        sent = super().submit(call)
        if self._checks is not None:  # a block that is placed once more has another check
            self.decoder.checks[call.slot] = self._checks[call.slot]
        return sent

    def answered(self, call: Call, reply: Reply) -> tuple[int, ...]:
        raised = super().answered(call, reply)
        if call.slot in self.decoder.wrong:
            worker: Any = call.worker
            self.placed.rejected[worker] = self.decoder.rejected[call.slot]
        return raised

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
                    steps = take, *self._readmit()
                    failure = undecoded(error, seen, outcome, self._failures, *steps, raised=see)
                    raise failure from failure.__cause__
            values, stderr = self.decoder.estimate(error)
            stderr = stderr[: self._rows]
            stderr = stderr if stderr.any() else None  # only padding was estimated
        record = MatrixResult(
            shape=(self._rows, self._columns.shape[1]),
            stderr=stderr,
            rejected=self._out | self.decoder.rejected,
            **self.record(outcome, seen),
        )
        self._result = values[: self._rows], record
        return True


class ProductDecoder:
    """Collects answers, each the product of a coded block with columns (n, c), and decodes the product.

    The matrix's dtype limits the precision of the product whatever the answers' dtype, which is that of the columns.
    Each column is decoded in a unit of its own, so that a small one is judged as if it were alone.
    ``verify``: answers are tested by the ``checks`` of their blocks, and then do not contradict one another.
    """

    def __init__(self, blocks: CodedBlocks, columns: np.ndarray, *, verify: bool) -> None:
        self.checks: dict[int, BlockCheck] = {}
        """By worker of the code."""
        self._check = ProductCheck(columns) if verify else None
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
        self.wrong: set[int] = set()
        """Workers whose answers no correct worker would have sent; empty unless answers are tested."""

    def add(self, worker: int, answer: Any) -> None:
        problem = self._problem(answer)
        if self._check is not None:
            finite = problem is None and all_finite(answer)
            if finite and not self._check.passes(self.checks[worker], answer):
                problem = _WRONG
            if problem is not None or not (finite or self._exceeds()):
                self.wrong.add(worker)
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
            decoded = self._code.decode(self._enough(), self._precision)
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

    def _enough(self) -> dict[int, np.ndarray]:
        """The answers that are decoded: if they were tested no more than are needed, else all, so that they contradict wrong ones."""
        workers = sorted(self._answers)
        if self._check is None:
            return self._answers
        counts = range(1, len(workers) + 1)
        count = bisect_left(
            counts,
            True,
            key=lambda n: self._code.decodable(frozenset(workers[:n]), self._precision),
        )
        return {worker: self._answers[worker] for worker in workers[: count + 1]}

    def _least_squares(self) -> np.ndarray | None:
        """The product, if the answers contradict one another by no more than rounding; else None."""
        # The code compares contradictions with the size of the answers, which is small if terms cancelled in them.
        if not self._code.decodable(frozenset(self._answers), self._precision):
            return None
        _, weights, answers = self._stacked_answers()
        answers = answers.astype(np.complex128 if answers.dtype.kind == "c" else np.float64)
        blocks = np.linalg.lstsq(weights, answers)[0]
        off = np.abs(answers - weights @ blocks)
        if self._check is None and (off > self._tolerance()).any():
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
            workers = range(self._code.workers)
            weight = max(float(np.abs(self._code.weights(n)).sum()) for n in workers)
            return bool(sums.max() * weight > np.finfo(self._dtype).max)

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
        doubted = np.zeros(len(workers), dtype=bool)
        if self._check is None:
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
        if type(answer) is not np.ndarray:
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
