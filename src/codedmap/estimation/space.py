"""Inputs as distances between them are measured: in their own deviations, and in few dimensions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

MOST = 30  # columns up to which each has a length scale; and principal components of more, at most
_OWN = 100  # columns up to which each has a length scale at first
_PERHAPS = 1000  # columns up to which that is tried as the other space
_ORDERS = 100.0  # largest over smallest value of a column from which its logarithm may be more even
_TAIL = 0.02  # share of the values at either end of a column that may be far from all others
_SAMPLE = 2000  # rows that are moved at a time, at most
_WIDE = 1 << 23  # numbers that are moved at a time, at most
_FEWEST = 250  # rows that are moved at a time, at least


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """A map of inputs (n, d) to points (n, r).

    Each column that varies is divided by the deviation of its usual values. One that is positive and spans orders of
    magnitude goes by its logarithm if that is more even. Of more than 100 columns, or of more than 30 where there are fewer
    inputs, the principal components are taken, in one unit for all, unless their ranges differ by orders of magnitude.
    """

    columns: np.ndarray
    """(c,) int: those that vary."""
    units: np.ndarray
    """(c,): powers of two about as large as the numbers in each, so that no square overflows."""
    logarithms: np.ndarray
    """(c,) bool: columns of which the logarithm is taken."""
    centre: np.ndarray
    scale: np.ndarray
    directions: np.ndarray | None = None
    """(c, r)."""

    @property
    def wide(self) -> bool:
        """Whether there are many columns."""
        return len(self.columns) > MOST

    @property
    def has_other(self) -> bool:
        """Whether outputs may be smoother in another space of the same inputs."""
        return len(self.columns) <= _PERHAPS if self.wide else bool(self.logarithms.any())

    @classmethod
    def of(cls, inputs: np.ndarray, *, most: int = _OWN, other: bool = False) -> Space:
        """The space of known inputs (n, d).

        Beyond 30 columns, at most so many (``most``) are dimensions themselves. The ``other`` space of up to 30 columns has them
        as they are, and not by their logarithms. That of more has principal components where this has columns, or columns
        where this has components.
        """
        low, high = (end.astype(np.float64) for end in (inputs.min(axis=0), inputs.max(axis=0)))
        largest = np.maximum(np.abs(low), np.abs(high))
        with np.errstate(over="ignore"):
            columns = np.flatnonzero(high - low > 8.0 * np.finfo(float).eps * largest)
        units = np.ldexp(1.0, np.frexp(largest[columns])[1] - 1)
        narrow, own = len(columns) <= MOST, len(columns) <= min(most, len(inputs))
        if narrow or own != other:
            some = inputs[:, columns].astype(np.float64) / units
            orders = not (narrow and other)
            logarithms = np.array([orders and _by_orders(column) for column in some.T], dtype=bool)
            moved = _moved(some, logarithms)
            return cls(columns, units, logarithms, moved.mean(axis=0), _deviations(moved))
        ranges = 0.5 * high[columns] - 0.5 * low[columns]  # half of them: a number, however large
        narrowest, widest = np.quantile(ranges, [0.1, 0.9])
        # Either each is in a unit of its own, or all are in one.
        units = ranges if widest > _ORDERS * narrowest else np.full(len(columns), units.max())
        some = inputs[np.random.default_rng(0).permutation(len(inputs))[: rows_at_once(inputs)]]
        pixels = some[:, columns].astype(np.float64)
        del some  # wide ones are not copied twice
        pixels /= units
        centre = pixels.mean(axis=0)
        pixels -= centre
        directions = decomposed(pixels, MOST)[2].T
        along = pixels @ directions
        unit = max(float(np.sqrt((along**2).sum(axis=1).mean() / directions.shape[1])), 1e-300)
        none = np.zeros(len(columns), dtype=bool)
        return cls(columns, units, none, centre, np.array(unit), directions)

    def scaled(self, inputs: np.ndarray) -> np.ndarray:
        """The columns that vary, none of whose squares is too large for a number."""
        columns = inputs[:, self.columns].astype(np.float64, copy=False)  # indices have copied
        columns /= self.units
        return np.asarray(columns)

    def seen(self, inputs: np.ndarray) -> np.ndarray:
        """The points of inputs."""
        many = rows_at_once(inputs)
        if self.directions is not None and len(inputs) > many:
            parts = [inputs[at : at + many] for at in range(0, len(inputs), many)]
            return np.concatenate([self.seen(part) for part in parts])
        moved = _moved(self.scaled(inputs), self.logarithms)
        moved -= self.centre
        if self.directions is not None:
            moved = moved @ self.directions
        return np.asarray(moved / self.scale)


def rows_at_once(inputs: np.ndarray) -> int:
    """How many rows of inputs (n, d) are copied at a time: of wide ones 64 MB."""
    width: int = max(1, inputs.shape[1])
    return min(_SAMPLE, max(_FEWEST, _WIDE // width))


def decomposed(
    rows: np.ndarray, most: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The singular value decomposition of rows (n, c), at most so many values, none of them rounding.

    By the smaller of the Gram matrices, in a seventh of the time. It loses half of the digits of small values.
    """
    wide = rows.shape[0] < rows.shape[1]
    gram = rows @ rows.T if wide else rows.T @ rows
    last = len(gram) - 1
    first = max(0, last + 1 - (most or len(gram)))
    squares, vectors = scipy.linalg.eigh(gram, subset_by_index=[first, last])
    kept = squares > len(gram) * np.finfo(float).eps * squares[-1]
    sizes, vectors = np.sqrt(squares[kept])[::-1], vectors[:, kept][:, ::-1]
    others = (rows.T if wide else rows) @ vectors / sizes
    return (vectors, sizes, others.T) if wide else (others, sizes, vectors.T)


def _moved(inputs: np.ndarray, logarithms: np.ndarray) -> np.ndarray:
    """The same array (n, c), with some columns replaced by their logarithms."""
    if logarithms.any():
        inputs[:, logarithms] = np.log(np.maximum(inputs[:, logarithms], np.finfo(float).tiny))
    return inputs


def _deviations(moved: np.ndarray) -> np.ndarray:
    """The deviation of each column (n, c), to which a few values far from all others add little."""
    low, high = np.quantile(moved, [_TAIL, 1.0 - _TAIL], axis=0)
    usual = np.clip(moved, low - (high - low), high + (high - low)).std(axis=0)
    return np.asarray(np.where(usual > 0.0, usual, moved.std(axis=0)))


def _by_orders(column: np.ndarray) -> bool:
    low, high = column.min(), column.max()
    if low <= 0.0 or high < _ORDERS * low:
        return False
    return _unevenness(np.log(column)) < _unevenness(column)


def _unevenness(values: np.ndarray) -> float:
    """How far the middle is from halfway between the ends."""
    low, middle, high = np.quantile(values, [0.02, 0.5, 0.98])
    return abs(float((middle - low) - (high - middle))) / max(float(high - low), 1e-300)
