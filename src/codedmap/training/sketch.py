"""The count sketch: a linear map to few numbers from which large entries of a vector can be told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..contracts.arguments import check_whole
from ..errors import InvalidArgument

__all__ = ["CountSketch"]

_WIDEST = 2**31
"""Columns that half of 64 random bits choose from evenly enough."""


@dataclass(frozen=True)
class CountSketch:
    """A vector of ``size`` numbers as a table of ``rows`` by ``columns``, linear in the vector.

    From Charikar, Chen and Farach-Colton (2002). Each row adds up all entries in its columns, with
    random signs: entry i comes to column b_r(i) with sign s_r(i). So each row has an estimate of
    every entry, s_r(i) times what stands in its column: right on average over the random signs,
    with a standard deviation of at most ‖vector‖ / √columns. The median over the rows is the
    estimate. It is symmetric around the entry as well, and far off seldom, the less the more rows
    there are. Columns and signs are drawn independently, from the seed.

    Since it is linear, sketches of gradients are added by `codedmap.sum`, through any code.

    Parameters
    ----------
    size : int
        d, of the vector.
    columns : int
        Wide enough for the entries that are looked for: several times as many as these.
    rows : int
        About log d, if no small entry shall be taken for a large one because it shares columns with
        such in most rows.
    seed : int or tuple of int
        Sketches can be added only if they have the same.

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
        """Rows times columns: how many are sent instead of d."""
        return self.rows * self.columns

    def __call__(self, vector: Any) -> np.ndarray:
        """The sketch of a vector.

        Parameters
        ----------
        vector : array_like, shape (d,)
            Of real numbers. NaN or infinity in it stands in the sketch too.

        Returns
        -------
        ndarray, shape (rows, columns)
            float32 for float32 or float16, else float64. Sums are made in double precision.
        """
        given = _real(vector, (self.size,), "vector")
        wide = given.astype(np.float64)  # small integers have no opposite of their least one
        table = np.empty((self.rows, self.columns))
        for row, (places, signs) in zip(table, self._hashes(), strict=True):
            row[:] = np.bincount(places, weights=signs * wide, minlength=self.columns)
        with np.errstate(over="ignore"):  # infinity is told by who adds up
            return table.astype(_kept(given.dtype), copy=False)

    def estimate(self, table: Any) -> np.ndarray:
        """What the vector behind a sketch, or a sum of sketches, is about.

        Parameters
        ----------
        table : array_like, shape (rows, columns)

        Returns
        -------
        ndarray, shape (d,)
            Of the table's dtype.
        """
        given = _real(table, (self.rows, self.columns), "table")
        found = np.empty((self.rows, self.size), _kept(given.dtype))
        for row, sums, (places, signs) in zip(
            found, given.astype(found.dtype), self._hashes(), strict=True
        ):
            np.multiply(sums[places], signs, out=row)
        estimate: np.ndarray = np.median(found, axis=0)
        return estimate.astype(found.dtype, copy=False)

    def _hashes(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Column and sign of every entry, row by row: drawn anew, to keep none of them in memory."""
        seed = self.seed if isinstance(self.seed, tuple) else (self.seed,)
        for row in range(self.rows):
            # Raw bits, which are the same in every version of NumPy, as workers may have another.
            drawn = np.random.PCG64((*seed, row)).random_raw(self.size)
            places = ((drawn >> np.uint64(32)) * np.uint64(self.columns)) >> np.uint64(32)
            yield places.astype(np.intp), 1 - 2 * (drawn & np.uint64(1)).astype(np.int8)


def _real(values: Any, shape: tuple[int, ...], name: str) -> np.ndarray:
    if np.ma.is_masked(values):
        raise InvalidArgument(
            f"{name} is a masked array, entries of which have no value: fill them, with {name}.filled(0.0), say"
        )
    given = np.asarray(values)
    if given.shape != shape or given.dtype.kind not in "biuf":
        raise InvalidArgument(
            f"{name} of shape {given.shape} and dtype {given.dtype} does not fit this sketch: give "
            f"real numbers of shape {shape}"
        )
    return given


def _kept(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(np.float32 if dtype in (np.float16, np.float32) else np.float64)
