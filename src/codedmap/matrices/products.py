"""Answers that have come for one product, and what they are worth so far."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular

from ..contracts.answers import all_finite
from ..contracts.matrix_code import Anytime, MatrixCode, Salvaging, disputed, rounding
from ..errors import InvalidAnswer, NotEnoughAnswers

__all__ = ["Products"]

_NOT_FINITE = "an array with NaN or infinity in it"
_ROUNDED = 100.0
"""Rounding of an answer, in that of what is added up in it without signs, at most."""


class Products:
    """Gathers answers, each the product of a coded block with c columns; decodes them.

    Parameters
    ----------
    code : MatrixCode
    shape : tuple of int
        (b, c) of an answer.
    dtype : dtype
        Of an answer.
    coarse : dtype
        Of the matrix: what is decoded is no more exact than that, whatever the answers' dtype.
    added : callable
        To what an entry of each column may be that is added up without signs, (c,).
    """

    def __init__(
        self,
        code: MatrixCode,
        shape: tuple[int, int],
        dtype: np.dtype[Any],
        coarse: np.dtype[Any],
        added: Callable[[], np.ndarray],
    ) -> None:
        self._code = code
        self._shape = shape
        self._dtype = dtype
        self._coarse = coarse
        self._added = added
        self._answers: dict[int, np.ndarray] = {}
        self._disputed = False
        self._estimate: tuple[np.ndarray, np.ndarray] | None = None
        self.rejected: dict[int, str] = {}
        """What is wrong with an answer that is not used, by worker."""

    def add(self, worker: int, answer: Any) -> None:
        """Take an answer."""
        problem = self._problem(answer)
        if problem is None:
            self._answers[worker] = answer
            self._estimate = None
        else:
            self.rejected[worker] = problem

    def decodable(self, answered: frozenset[int]) -> bool:
        """Whether the product can be had from these, of whom some may not have answered yet."""
        return self._code.decodable(answered - self.rejected.keys(), self._coarse)

    def estimable(self, answered: frozenset[int]) -> bool:
        """Whether there is an estimate with a standard error, or the product itself."""
        if self.decodable(answered):
            return True
        return isinstance(self._code, Anytime) and len(answered - self.rejected.keys()) > 1

    def decode(self) -> np.ndarray:
        """The products of all blocks, one below the other, (K·b, c); raises as `MatrixCode.decode`."""
        try:
            decoded = self._code.decode(self._answers, self._coarse)
        except (NotEnoughAnswers, InvalidAnswer) as error:
            blocks = self._but_for_rounding()
            if blocks is not None:
                return blocks
            if isinstance(error, InvalidAnswer) or not self.rejected:
                raise
            worker, problem = next(iter(self.rejected.items()))
            told = (
                f"{error}; {len(self.rejected)} could not be used: worker {worker} sent {problem}"
            )
            if not self._answers and problem == _NOT_FINITE:
                told += (
                    f". If the product exceeds the range of {self._dtype}, scale the matrix or what is "
                    "multiplied"
                )
            raise NotEnoughAnswers(told) from error
        if decoded.rejected:
            blocks = self._but_for_rounding()
            if blocks is not None:
                return blocks
        self.rejected |= decoded.rejected
        return self._stacked(decoded.values)

    def _but_for_rounding(self) -> np.ndarray | None:
        """The products, if answers contradict one another no more than rounding in what cancels out does.

        A code knows only what is left in the answers, of which that may be a large share.
        """
        if self._disputed or not self._code.decodable(frozenset(self._answers), self._coarse):
            return None
        weights, given = self._given()
        given = given.astype(np.complex128 if given.dtype.kind == "c" else np.float64)
        basis, upper = np.linalg.qr(weights)
        coordinates = basis.conj().T @ given
        if (np.abs(given - basis @ coordinates) > self._least()).any():
            self._disputed = True  # and further answers will not settle it
            return None
        return self._stacked(solve_triangular(upper, coordinates).astype(self._dtype))

    def _given(self) -> tuple[np.ndarray, np.ndarray]:
        """Weights of all answers, (F, K), and the answers, (F, b·c)."""
        workers = list(self._answers)
        weights = np.stack([self._code.weights(worker) for worker in workers])
        return weights, np.stack([self._answers[w] for w in workers]).reshape(len(workers), -1)

    def _least(self) -> np.ndarray:
        """What is rounding in any case, (b·c,)."""
        with np.errstate(over="ignore", invalid="ignore"):
            share = _ROUNDED * rounding(self._coarse) * self._added()
        share[~np.isfinite(share)] = 0.0
        return np.tile(np.maximum(share, np.finfo(self._coarse).tiny), self._shape[0])

    def worst(self) -> float | None:
        """The largest standard error of what could be had now."""
        if self.decodable(frozenset(self._answers)):
            return 0.0
        estimate = self._estimated()
        return None if estimate is None else float(estimate[1].max())

    def estimate(self, reason: NotEnoughAnswers | InvalidAnswer) -> tuple[np.ndarray, np.ndarray]:
        """What there is where `decode` has raised this: values (K·b, c), and each entry's standard error.

        An estimate if the code has one. Else the blocks of which a worker keeps the very rows, unless
        its answer is among some that contradict one another, and NaN with infinite standard errors for
        the others. Where decoding has found that answers contradict one another, none is used: the
        wrong one may be any.
        """
        whole = (self._code.tasks, *self._shape)
        values = np.full(whole, np.nan, self._dtype)
        stderr = np.full(whole, np.inf)
        if self._answers and not isinstance(reason, InvalidAnswer):
            estimate = self._estimated()
            if estimate is not None:
                values, stderr = estimate
            elif isinstance(self._code, Salvaging):
                partial = self._code.salvage(self._answers)
                values, stderr = partial.values, partial.stderr
                self.rejected |= partial.rejected
            else:
                self._fill(values, stderr)
        return self._stacked(values), self._stacked(stderr)

    def _fill(self, values: np.ndarray, stderr: np.ndarray) -> None:
        """Put blocks where they belong that an answer nobody contradicts gives as they are."""
        workers = list(self._answers)
        weights, given = self._given()
        doubted = disputed(weights, given, self._coarse, self._least())
        raw = (np.count_nonzero(weights, axis=1) == 1) & (weights.max(axis=1) == 1.0)
        for row in np.flatnonzero(raw & ~doubted):
            task = int(weights[row].argmax())
            values[task], stderr[task] = self._answers[workers[row]], 0.0

    def _estimated(self) -> tuple[np.ndarray, np.ndarray] | None:
        if self._estimate is None and isinstance(self._code, Anytime):
            self._estimate = self._code.estimate(self._answers)
        return self._estimate

    def _stacked(self, blocks: np.ndarray) -> np.ndarray:
        return blocks.reshape(-1, self._shape[1])

    def _problem(self, answer: Any) -> str | None:
        if not isinstance(answer, np.ndarray):
            return f"a {type(answer).__name__} instead of an array"
        if answer.shape != self._shape:
            return f"an array of shape {answer.shape} instead of {self._shape}"
        if answer.dtype != self._dtype:
            return f"an array of dtype {answer.dtype} instead of {self._dtype}"
        if not all_finite(answer):
            return _NOT_FINITE
        return None
