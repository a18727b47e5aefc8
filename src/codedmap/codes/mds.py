"""A systematic MDS code over the reals: any K of N workers give the product of a matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..coding.precision import MOST_ANSWERS, Precision
from ..contracts.arguments import check_whole
from ..contracts.matrix_code import (
    Decoded,
    check_consistent,
    check_matrix_budget,
    rounding,
    stacked,
)
from ..contracts.memory import check_room
from ..detection.contradictions import exact_outliers
from ..detection.outliers import coarsened, find_outliers
from ..errors import WAIT, NotEnoughAnswers, many

_DOUBLE = np.dtype(np.float64)
_MOST = 500  # answers, at most, among which all wrong ones that can be identified are searched: a few seconds


@dataclass(frozen=True)
class MDSCode:
    """Any K of N workers give the exact product of a matrix (maximum distance separable).

    The first K workers keep the K blocks of the matrix as they are, and each of the others, the
    parity workers, a mixture of all. The mixtures' weights are rows of random orthogonal matrices: of
    the weights tried these amplify rounding least, and unlike Chebyshev-Vandermonde weights, which are
    as good for few workers, they do so for any number (Fahim and Cadambe, arXiv 1903.08326).

    A few of the sets of K answers are so ill-conditioned that less than half of the digits would
    survive. They do not count as decodable, and one more answer is waited for; in float64 they are very rare, in float32 less so.

    With two answers beyond K for every wrong one, these are found and rejected. Near this limit some are only
    detected if there are more than 20,000 sets of so many answers, and so are all but a few of more than 500
    answers. With K + 1, or with more than 2,000, it is detected that some are wrong, in float32 with few exceptions.
    With K answers nothing can be detected.

    Parameters
    ----------
    tasks, workers : int
        K blocks of the matrix and N >= K.
    seed : int
        Of the weights.
    """

    tasks: int
    workers: int
    seed: int = 0

    def __post_init__(self) -> None:
        check_whole("seed", self.seed, 0)
        check_matrix_budget(self.tasks, self.workers)
        check_room(
            2 * 8 * self.stragglers * self.tasks,
            f"the (N - K) K weights of {self!r}",
            "Use fewer workers or tasks, or PolarCode, which has none",
        )

    @property
    def stragglers(self) -> int:
        """N - K, except for ill-conditioned sets."""
        return self.workers - self.tasks

    def weights(self, worker: int) -> np.ndarray:
        """The weight of each block in this worker's coded block, (K,)."""
        if worker < self.tasks:
            return np.asarray(np.eye(1, self.tasks, worker)[0])
        row: np.ndarray = self._parity[worker - self.tasks]
        return row

    def decodable(self, answered: frozenset[int], dtype: np.dtype[Any] = _DOUBLE) -> bool:
        """Whether these are K or more, and not ill-conditioned."""
        return self._shortfall(answered, np.dtype(dtype)) is None

    def decode(self, answers: Mapping[int, np.ndarray], dtype: np.dtype[Any] = _DOUBLE) -> Decoded:
        """The products of K blocks, (K, *y), by least squares from all answers."""
        self._check(sorted(answers), dtype)
        slots, rows, shape = stacked(answers)
        outliers = self._outliers(slots, rows, dtype)
        if outliers:
            rows = rows[[slot not in outliers for slot in slots]]
            slots = [slot for slot in slots if slot not in outliers]
            self._check(slots, dtype)
        values = self._products(slots, rows)
        if len(slots) > self.tasks:
            check_consistent(rows, self._rows(slots).astype(rows.dtype) @ values, dtype)
        return Decoded(values.reshape(self.tasks, *shape), outliers)

    def _check(self, slots: list[int], dtype: np.dtype[Any]) -> None:
        reason = self._shortfall(frozenset(slots), dtype)
        if reason is not None:
            raise NotEnoughAnswers(reason, WAIT)

    def _shortfall(self, answered: frozenset[int], dtype: np.dtype[Any]) -> str | None:
        if len(answered) < self.tasks:
            return f"{many(len(answered), 'usable answer')}, and {self.tasks} are needed"
        growth, *_ = self._inverse(sorted(answered))
        if growth * rounding(dtype) <= rounding(dtype) ** 0.5:
            return None
        return (
            f"{len(answered)} answers are enough on paper, but from these rounding is amplified by "
            f"{growth:.2g}, which in {dtype} leaves less than half of the digits"
        )

    def _products(self, slots: list[int], rows: np.ndarray) -> np.ndarray:
        _, missing, inverse = self._inverse(slots)
        have = [slot for slot in slots if slot < self.tasks]
        kind = rows.real.dtype
        known = self._parity_of(slots)[:, have].astype(kind) @ rows[: len(have)]
        values = np.empty((self.tasks, rows.shape[1]), rows.dtype)
        values[have] = rows[: len(have)]
        values[missing] = inverse.astype(kind) @ (rows[len(have) :] - known)
        return values

    def _inverse(self, slots: Sequence[int]) -> tuple[float, list[int], np.ndarray]:
        """How rounding grows with these workers, the missing blocks, and the inverse that gives them."""
        missing = sorted(set(range(self.tasks)) - set(slots))
        inverse = np.linalg.pinv(self._parity_of(slots)[:, missing], rcond=0.0)
        # The Frobenius norm bounds the 2-norm, is much faster, and does not grow with more rows either.
        return max(1.0, float(np.linalg.norm(inverse))), missing, inverse

    def _parity_of(self, slots: Sequence[int]) -> np.ndarray:
        return np.asarray(self._parity[[s - self.tasks for s in slots if s >= self.tasks]])

    def _outliers(self, slots: list[int], rows: np.ndarray, dtype: np.dtype[Any]) -> dict[int, str]:
        if len(slots) < self.tasks + 2 or len(slots) > MOST_ANSWERS:
            return {}
        precision = Precision.of_span(self._rows(slots))
        search = exact_outliers if len(slots) <= _MOST else find_outliers
        wrong = search(coarsened(rows, dtype)[:, None], precision)
        if wrong is None:
            return {}
        return {
            slots[at]: "an answer that does not fit the others'"
            for at in np.flatnonzero(wrong[:, 0])
        }

    def _rows(self, slots: list[int]) -> np.ndarray:
        return np.stack([self.weights(slot) for slot in slots])

    @cached_property
    def _parity(self) -> np.ndarray:
        rng = np.random.default_rng((self.seed, self.tasks, self.workers))
        left = self.workers - self.tasks
        rows = [np.empty((0, self.tasks))]
        while left > 0:
            basis, _ = np.linalg.qr(rng.standard_normal((self.tasks, min(left, self.tasks))))
            rows.append(basis.T)
            left -= self.tasks
        return np.concatenate(rows)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}
