"""The count sketch, and SketchedAMSGrad: workers send count sketches of gradients, the caller keeps the moments."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from ..contracts.arguments import check_whole
from ..contracts.inputs import array_of
from ..errors import InvalidArgument
from ..sums.shard import read_only
from .amsgrad import AMSGrad, Rate, flat_gradient

_WIDEST = 2**31  # columns, at most, from which 32 random bits choose evenly enough


@dataclass(frozen=True)
class CountSketch:
    """A vector of ``size`` numbers as a table of ``rows`` by ``columns``, linear in the vector.

    From Charikar, Chen and Farach-Colton (2002). Each row adds up all entries in its columns, with
    random signs: entry i is added to column b_r(i) with sign s_r(i). Each row gives an estimate of
    every entry, s_r(i) times the value of its column. It is unbiased over the random signs, with a
    standard deviation of at most ‖vector‖ / √columns. The median over the rows is the final estimate.
    It is symmetric around the entry, and large errors become rarer with more rows. Columns and signs
    are drawn independently, from the seed.

    The sketch is linear, so `codedmap.sum` adds sketches of gradients, with any code.

    Parameters
    ----------
    size : int
        d, the length of the vector.
    columns : int
        Several times the number of large entries that are to be found.
    rows : int
        About log d, so that no small entry shares its columns with large ones in most rows, and is
        mistaken for one of them.
    seed : int or tuple of int
        Only sketches with the same seed can be added.

    Examples
    --------
    >>> import numpy as np, codedmap as cm
    >>> vector = np.zeros(10_000)
    >>> vector[[7, 4321]] = 5.0, -3.0
    >>> sketch = cm.training.CountSketch(10_000, columns=50)
    >>> np.flatnonzero(np.abs(sketch.estimate(sketch(vector))) > 2.5), sketch.numbers
    (array([   7, 4321]), 250)
    """

    size: int
    columns: int
    rows: int = 5
    seed: int | tuple[int, ...] = 0

    def __post_init__(self) -> None:
        check_whole("size", self.size, 1)
        if check_whole("columns", self.columns, 1) > _WIDEST:
            raise InvalidArgument(f"columns={self.columns} must be at most {_WIDEST}")
        check_whole("rows", self.rows, 1)
        for part in self.seed if isinstance(self.seed, tuple) else (self.seed,):
            check_whole("seed", part, 0)

    @property
    def numbers(self) -> int:
        """Rows times columns: how many numbers are sent instead of d."""
        return self.rows * self.columns

    def __call__(self, vector: Any) -> np.ndarray:
        """The sketch of a vector.

        Parameters
        ----------
        vector : array_like, shape (d,)
            Of real numbers. NaN and infinity propagate to the sketch.

        Returns
        -------
        ndarray, shape (rows, columns)
            float32 for float32 or float16, else float64. Sums are computed in double precision.
        """
        given = _checked(vector, (self.size,), "vector")
        wide = given.astype(np.float64)  # -(-128) is beyond int8
        table = np.empty((self.rows, self.columns))
        for row, (columns, signs) in zip(table, self._hashes(), strict=True):
            row[:] = np.bincount(columns, weights=signs * wide, minlength=self.columns)
        with np.errstate(over="ignore"):  # `codedmap.sum` reports infinity
            return table.astype(_float_type(given.dtype), copy=False)

    def estimate(self, table: Any) -> np.ndarray:
        """An estimate of the vector from its sketch, or of a sum of vectors from the sum of their sketches.

        Parameters
        ----------
        table : array_like, shape (rows, columns)

        Returns
        -------
        ndarray, shape (d,)
            Of the table's dtype.
        """
        given = _checked(table, (self.rows, self.columns), "table")
        sums = given.astype(_float_type(given.dtype))
        by_row = np.empty((self.rows, self.size), sums.dtype)
        for estimates, row, (columns, signs) in zip(by_row, sums, self._hashes(), strict=True):
            np.multiply(row[columns], signs, out=estimates)
        estimate: np.ndarray = np.median(by_row, axis=0)
        return estimate.astype(sums.dtype, copy=False)

    def _hashes(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Column and sign of every entry, row by row; drawn at each use, so that they take no memory."""
        seed = self.seed if isinstance(self.seed, tuple) else (self.seed,)
        for row in range(self.rows):
            # Raw bits are the same in every version of NumPy; workers may have another version.
            drawn = np.random.PCG64((*seed, row)).random_raw(self.size)
            columns = ((drawn >> np.uint64(32)) * np.uint64(self.columns)) >> np.uint64(32)
            yield columns.astype(np.intp), 1 - 2 * (drawn & np.uint64(1)).astype(np.int8)


def _checked(values: Any, shape: tuple[int, ...], name: str) -> np.ndarray:
    given = array_of(values, f"the {name}")
    if given.shape != shape or given.dtype.kind not in "biuf":
        raise InvalidArgument(
            f"{name} of shape {given.shape} and dtype {given.dtype} does not fit this sketch: give "
            f"real numbers of shape {shape}"
        )
    return given


def _float_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(np.float32 if dtype in (np.float16, np.float32) else np.float64)


class SketchedAMSGrad(AMSGrad):
    """AMSGrad from count sketches of the gradients, a few weights at a step (arXiv 2210.07454).

    A worker sends ``sketch.numbers`` numbers instead of d. This works with every code of `codedmap.sum`,
    because sketches and codes are both linear. Step t, in the paper's symbols, on the mean g_t of the
    parts' gradients:

    1. S(g_t) is the sum of the workers' sketches, and g̃_t = U(S(g_t)) the gradient estimated from it.
    2. m_t = β₁ m_{t-1} + (1 - β₁) g̃_t; v_t = β₂ v_{t-1} + (1 - β₂) g̃_t²; v̂_t = max(v̂_{t-1}, v_t),
       from m₀ = 0 and v₀ = v̂₀ = ε.
    3. a_t = m_t + (α_{t-1} / α_t) e_{t-1}; Δ_t is a_t / √v̂_t at its k largest entries, 0 elsewhere.
    4. e_t = a_t - √v̂_t Δ_t is carried to the next step, so that nothing is lost:
       Σ α_s √v̂_s Δ_s + α_t e_t = Σ α_s m_s. Weights ← weights - α_t Δ_t.

    Of the paper, only the abstract and a catalogue's transcription of the variant that averages gradients
    were available. This implementation differs from them:

    - There each worker keeps its own m and e, and sends S(m_t + (α_{t-1} / α_t) e_{t-1}). Here workers
      keep no state, because several hold the same part and stragglers miss steps. The caller keeps m
      and e. The hashes of the sketch are drawn anew at every step, so that its errors do not add up in
      m and e. With fixed hashes, and m and e kept as sketches, which equals the paper's sum, training
      diverged in every experiment (docs/training.md).
    - The second moment's h_t, "the aggregated gradient coordinates", is g̃_t here.
    - The transcription subtracts Δ_t itself from e_t, although the two have different units: for entries
      with v̂ below 1/4 that grows without bound. Here √v̂_t Δ_t is subtracted.

    The weights travel to the workers in full with every call; only what comes back gets smaller.

    Parameters
    ----------
    weights : array_like
        Where to start; float32 or float64, of any shape, d numbers. It is copied.
    learning_rate : float, or callable
        α; or a function from the number of the step, from 1 on, to α_t.
    columns, rows : int
        The sketch's, as in `CountSketch`.
    k : int, optional
        How many weights change at a step. By default all of them; the error e_t is 0 then.
    betas, epsilon
        As in `AMSGrad`.
    seed : int
        Seeds the hashes.

    Raises
    ------
    InvalidArgument
        If an argument cannot work, or the sketch would be no shorter than the gradient.

    Examples
    --------
    >>> import numpy as np, codedmap as cm
    >>> target = np.zeros(1000)
    >>> target[:5] = 1.0, -2.0, 3.0, -4.0, 5.0
    >>> parts = [target + shift for shift in np.random.default_rng(0).standard_normal((6, 1000))]
    >>> code = cm.codes.CyclicGradientCode(workers=6, stragglers=1)
    >>> with cm.testing.Scripted(6, {3: cm.testing.never()}) as engine:
    ...     shards = cm.CodedParts(parts, code=code, engine=engine)
    ...     optimizer = cm.training.SketchedAMSGrad(np.zeros(1000), 0.01, columns=40, k=100)
    ...     for _ in range(200):
    ...         step = optimizer.step(lambda part, weights: weights - part, shards)
    >>> off = np.linalg.norm(optimizer.weights - np.mean(parts, axis=0)) / np.linalg.norm(target)
    >>> bool(off < 0.1), step.changed.size, step.sum.received
    (True, 100, 8000)
    """

    def __init__(
        self,
        weights: Any,
        learning_rate: Rate,
        *,
        columns: int,
        rows: int = 5,
        k: int | None = None,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        seed: int = 0,
    ) -> None:
        super().__init__(weights, learning_rate, betas=betas, epsilon=epsilon)
        size = self._weights.size
        self._seed = check_whole("seed", seed, 0)
        self._sketch = CountSketch(size, columns, rows)
        self._k = size if k is None else check_whole("k", k, 1)
        if self._k > size:
            raise InvalidArgument(f"k={k} is more than the {size} weights: use at most as many")
        sent = self._sketch.numbers
        if sent >= size:
            raise InvalidArgument(
                f"{rows} rows of {columns} columns are {sent} numbers, no fewer than the {size} of the gradient: use "
                "fewer, or AMSGrad, which sends it as it is"
            )
        self._error = np.zeros_like(self._weights)

    @property
    def error(self) -> np.ndarray:
        """e_t, the part of the moments that has not been applied yet: flat, read-only."""
        return np.asarray(read_only(self._error))

    @property
    def sketch(self) -> CountSketch:
        """The sketch of the next step, with hashes of that step."""
        return replace(self._sketch, seed=(self._seed, self.steps + 1))

    def __repr__(self) -> str:
        return (
            f"<SketchedAMSGrad: {self._summary()}; {self._sketch.numbers:,} numbers are sent, "
            f"{self._k:,} weights change at a step>"
        )

    def _summed(self, gradient: Callable[..., Any]) -> Callable[..., Any]:
        return partial(_sketched, gradient, self.sketch, self._shape)

    def _gradient_of(self, total: np.ndarray) -> np.ndarray:
        return self.sketch.estimate(total).reshape(self._shape)

    def _update(self, gradient: np.ndarray) -> np.ndarray:
        """Steps 2 to 4; the indices of the weights that changed."""
        moments = self._moments_after(gradient)
        first, _, largest = moments
        rate = self._next_rate
        before = self._rate_of(self.steps) if self.steps else rate
        carried = first + first.dtype.type(before / rate) * self._error  # a_t
        scaled = carried / np.sqrt(largest)
        changed = np.sort(np.argpartition(-np.abs(scaled), self._k - 1)[: self._k])
        change = np.zeros_like(carried)
        with np.errstate(over="ignore"):  # `_apply` raises where the weights become infinite
            change[changed] = rate * scaled[changed]
        self._apply(moments, change)
        carried[changed] = 0.0
        self._error = carried
        return changed


def _sketched(
    gradient: Callable[..., Any],
    sketch: CountSketch,
    shape: tuple[int, ...],
    part: Any,
    weights: np.ndarray,
    *args: Any,
) -> np.ndarray:
    """The sketch of a part's gradient; runs in the worker."""
    return sketch(flat_gradient(gradient(part, weights, *args), shape, weights.dtype))
