"""The interface of codes for `CodedMatrix`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import scipy

from ..errors import WAIT, InvalidAnswer, InvalidArgument, many
from .arguments import check_whole
from .memory import check_counts

_DEPENDENT = 1e-9  # size below which a number counts as rounding error, relative to the largest


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """The products of K blocks."""

    values: np.ndarray
    """(K, *y), NaN where nothing is known."""
    rejected: Mapping[int, str] = field(default_factory=dict)
    """What is wrong with rejected answers, by worker."""
    stderr: np.ndarray = field(default_factory=lambda: np.zeros(()))
    """(K, *y) or one number: 0 where exact, infinite where a value is not confirmed."""


@runtime_checkable
class MatrixCode(Protocol):
    """K blocks of rows in, N coded blocks out; products of some of them in, products of the K out.

    Worker n keeps one linear combination of the blocks, and answers with its product. Decoded
    products are exact up to rounding. A code may have three more methods:

    * ``coded(blocks)``: all coded blocks, (N, *x), from blocks (K, *x), faster than one by one;
    * ``estimate(answers)``: before the product can be decoded, estimates of the products of K blocks, (K, *y), and the
      standard error of each entry, 1.96 of which hold the true value in 95 % of cases; None if the answers are too few;
    * ``salvage(answers)``: as `decode`, of the blocks that these answers, at least one, determine.
    """

    @property
    def tasks(self) -> int:
        """K, blocks of rows that the matrix is cut into."""

    @property
    def workers(self) -> int:
        """N, workers, each with one coded block."""

    @property
    def stragglers(self) -> int:
        """S: any N - S answers give the product; often fewer do."""

    def weights(self, worker: int) -> np.ndarray:
        """Weights of the K blocks in this worker's coded block, (K,)."""

    def decodable(self, answered: frozenset[int], dtype: np.dtype[Any]) -> bool:
        """Whether answers of these workers can be decoded. True remains true with more answers.

        They can if rounding in ``dtype``, the matrix's, leaves half of its digits.
        """

    def decode(self, answers: Mapping[int, np.ndarray], dtype: np.dtype[Any]) -> Decoded:
        """The products of K blocks from finite answers of one shape and dtype, by worker.

        ``dtype`` is the matrix's. The blocks were coded in it, so that answers of a wider dtype are
        no more accurate.

        Raises
        ------
        NotEnoughAnswers
            Where `decodable` is false, or is false without the rejected answers.
        InvalidAnswer
            If the answers contradict one another, and it cannot be found which are wrong.
        """


def check_matrix_budget(tasks: int, workers: int) -> None:
    """Raise `InvalidArgument` unless 1 <= K <= N are whole numbers."""
    check_whole("tasks", tasks, 1)
    check_whole("workers", workers, 1)
    if tasks > workers:
        raise InvalidArgument(
            f"{tasks} tasks need at least as many workers, and not {workers}: cut the matrix into "
            f"at most {many(workers, 'block')}, fewer if some workers may be lost"
        )
    check_counts(workers, tasks)


def rounding(dtype: np.dtype[Any]) -> float:
    """The distance between 1 and the next number of this dtype."""
    return float(np.finfo(dtype).eps)


def stacked(
    answers: Mapping[int, np.ndarray],
) -> tuple[list[int], np.ndarray, tuple[int, ...]]:
    """Workers, ascending, their answers as rows (F, outputs), and the shape of one."""
    workers = sorted(answers)
    shape = answers[workers[0]].shape
    return workers, np.stack([answers[w] for w in workers]).reshape(len(workers), -1), shape


def check_consistent(given: np.ndarray, again: np.ndarray, dtype: np.dtype[Any]) -> None:
    """Raise `InvalidAnswer` unless answers (F, outputs) are equal to those computed from the decoded blocks, up to rounding.

    ``dtype`` is that of the matrix.
    """
    size = float(np.abs(given).max(initial=0.0))
    off = np.abs(given - again).max(initial=0.0)
    if off > size * rounding(dtype) ** 0.5:
        raise InvalidAnswer(
            f"{len(given)} answers contradict one another by {off:.2g}, where the largest number in them is "
            f"{size:.2g}; at least one worker has computed a wrong product, and it cannot be found which",
            WAIT,
            "compute it again",
        )


def disputed(
    weights: np.ndarray, given: np.ndarray, dtype: np.dtype[Any], least: np.ndarray | float = 0.0
) -> np.ndarray:
    """Which answers (F, outputs) belong to sets that contradict one another beyond rounding, (F,) bool.

    ``weights`` (F, K) are those of the blocks in the coded block of each answer, ``dtype`` is that of the matrix.
    Differences up to ``least``, (outputs,) or one number, count as rounding, however small the answers are.
    """
    left, singular, _ = np.linalg.svd(weights)
    rank = int((singular > _DEPENDENT * singular.max(initial=0.0)).sum())
    # Combinations of answers that are 0 if these are correct, whatever the blocks are.
    checks = left[:, rank:] @ left[:, rank:].T
    off = np.abs(checks.astype(given.real.dtype) @ given)
    beyond = np.maximum(np.abs(given).max(initial=0.0) * rounding(dtype) ** 0.5, least)
    wrong: np.ndarray = (off > beyond).any(axis=1)
    if not wrong.any():
        return wrong
    # An answer is in doubt if such combinations connect it with a wrong one.
    component = scipy.sparse.csgraph.connected_components(
        np.abs(checks) > _DEPENDENT, directed=False
    )[1]
    return np.isin(component, component[wrong])
