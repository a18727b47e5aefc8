"""The count sketch: a linear map to few numbers from which large entries of a vector can be estimated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..contracts.arguments import check_whole
from ..contracts.inputs import array_of
from ..errors import InvalidArgument

_WIDEST = 2**31
"""Most columns from which 32 random bits choose evenly enough."""


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
        wide = given.astype(np.float64)  # the smallest int8 has no opposite in int8
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
