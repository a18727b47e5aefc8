"""Freivalds' check (1979) of a product: one random combination of its rows, against the same combination of the block's.

As in "Adaptive Verifiable Coded Computing" (arXiv 2107.12958), but for floating-point numbers: what differs by no more
than rounding passes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy

_SURE = 6.0
"""Errors of rows, each with a random sign, exceed this many times the root of their sum of squares with a probability of
at most 3e-8 (Hoeffding), even if each is the largest possible. They are far smaller."""
_COMBINED = 4
"""Combinations of a block in single precision: one misses a wrong answer once in some hundred or thousand times."""
_GROWTH = 8.0  # errors of m additions in blocks grow with m at most, and with so many times √m
_MOST = 900  # largest exponent by which rows are scaled: beyond, numbers would leave the range
_EMPTY = 2.0 ** (_MOST + 1)  # the scale of rows of zeros
_FAR = 300  # largest exponent of columns that need not be scaled
_SQUARED = 1e100  # a sum of squares between this and its reciprocal has lost nothing but rounding
_LOW = 1e-100  # the same for columns of scaled rows
_TILE = 1 << 16  # numbers that stay in a processor's cache
_DOUBLE = np.finfo(np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class BlockCheck:
    """What the caller keeps of a block A, (b, n), and shows no worker: k random combinations r of its rows, and rᵀA."""

    random: np.ndarray
    """(k, b): random signs, and random magnitudes between 1/2 and 1 over the sizes of the rows, so that all count alike."""
    rows: np.ndarray
    """(k, n), rᵀA."""
    norms: np.ndarray
    """Upper bounds of the 2-norms of the columns of A with its rows over their sizes, (n,)."""
    growth: float
    """Rounding errors of a row's product, at most, over the precision and its sum of absolute values."""
    scales: float
    """The sum of one over the sizes, but of rows of zeros, whose products have no error."""

    @classmethod
    @np.errstate(over="ignore", under="ignore")
    def of(cls, block: Any, rng: np.random.Generator) -> BlockCheck:
        """The check of a dense or sparse block, which is read once."""
        (rows, columns), sparse = block.shape, scipy.sparse.issparse(block)
        shape = (_COMBINED if np.finfo(block.dtype).eps > _DOUBLE.eps else 1), rows
        random = rng.uniform(0.5, 1.0, shape) * rng.choice([-1.0, 1.0], shape)
        scales, squares, room = np.empty(rows), np.zeros(columns), None
        combined: Any = 0.0
        for at, part in _parts(block):
            if room is None and part.dtype == np.float64 and not sparse:
                room = np.empty(part.shape)  # new memory for each part takes as long as the rest
            square = _square(part) if room is None else np.square(part, room[: part.shape[0]])
            sums = square.sum(axis=1)
            if sums.min() > 1.0 / _SQUARED and sums.max() < _SQUARED:
                scales[at] = _reciprocals(np.sqrt(sums))
                squares += scales[at] ** 2 @ square
            else:
                scales[at] = _reciprocals(_largest(part))
                squares += _square(_scaled(part, scales[at])).sum(axis=0)
            random[:, at] *= scales[at]
            combined = combined + random[:, at] @ part
        norms = np.sqrt(squares)
        low = np.flatnonzero(squares < _LOW)
        if len(low):
            parts = (abs(_scaled(part, scales[at])[:, low]) for at, part in _parts(block))
            norms[low] = rows**0.5 * np.max([_dense(part.max(axis=0)) for part in parts], axis=0)
        # Sparse products add up one by one.
        growth = int(np.diff(block.indptr).max()) + 2.0 if sparse else _growth(columns)
        return cls(random, combined, norms, growth, float(scales[scales < _EMPTY].sum()))


class ProductCheck:
    """Tests answers, each the product of a block with columns (n, c)."""

    def __init__(self, columns: np.ndarray) -> None:
        parts = [columns] if columns.dtype.kind == "f" else [columns.real, columns.imag]
        largest = np.max([np.abs(part).max(axis=0) for part in parts], axis=0)
        exponents = np.frexp(largest)[1]
        self._exponents = np.where(np.abs(exponents) > _FAR, exponents, 0)
        self._columns = _divided(columns, self._exponents)
        self._sizes = np.abs(self._columns)
        limits = np.finfo(columns.dtype)
        self._eps, self._tiny = float(limits.eps), max(float(limits.tiny), float(_DOUBLE.tiny))
        self._complex = columns.dtype.kind == "c"

    @np.errstate(over="ignore", under="ignore", invalid="ignore")
    def passes(self, check: BlockCheck, answer: np.ndarray) -> bool:
        """Whether an answer (b, c) of the columns' dtype is the product of the block, up to rounding."""
        rows, terms = check.random.shape[1], check.rows.shape[1]
        high, low = np.maximum(self._exponents, 0), np.minimum(self._exponents, 0)
        combined = _divided(check.random @ _divided(answer, high), low)
        off = np.abs(combined - check.rows @ self._columns)
        own = float(_DOUBLE.eps) * (_growth(rows) + _growth(terms))
        relative = _SURE * (1 + self._complex) * (self._eps * check.growth + own)
        # Products of two numbers that are smaller than normal ones may be lost.
        units = (terms + 2) * check.scales + rows + terms
        lost = np.ldexp(units * self._tiny, -low) + rows * self._tiny * self._sizes.sum(axis=0)
        return bool((off <= relative * (check.norms @ self._sizes) + lost).all())  # NaN is not


def _growth(terms: int) -> float:
    return min(float(terms), _GROWTH * math.sqrt(terms)) + 2.0


def _parts(block: Any) -> Iterator[tuple[slice, Any]]:
    """The whole of a sparse block; of a dense one, a few rows at a time."""
    rows = block.shape[0]
    step = max(1, rows if scipy.sparse.issparse(block) else _TILE // block.shape[1])
    for begin in range(0, rows, step):
        at = slice(begin, min(begin + step, rows))
        yield at, block[at]


def _square(part: Any) -> Any:
    """Squares of magnitudes, in double precision."""
    if part.dtype.kind == "c":
        return _square(part.real) + _square(part.imag)
    part = part.astype(np.float64, copy=False)
    return part * part


def _largest(part: Any) -> np.ndarray:
    """The largest magnitude in each row, of complex numbers up to a factor of √2."""
    parts = [part] if part.dtype.kind == "f" else [part.real, part.imag]
    largest: np.ndarray = np.max([_dense(abs(one).max(axis=1)) for one in parts], axis=0)
    return largest


def _reciprocals(sizes: np.ndarray) -> np.ndarray:
    """One over the powers of two next to these numbers; `_EMPTY` for 0."""
    reciprocals = np.ldexp(1.0, -np.frexp(sizes)[1].clip(-_MOST, _MOST))
    return np.where(sizes > 0.0, reciprocals, _EMPTY)


def _scaled(part: Any, scales: np.ndarray) -> Any:
    """Rows times these numbers, in double precision."""
    if scipy.sparse.issparse(part):
        return scipy.sparse.csr_array(scipy.sparse.diags_array(scales) @ part)
    return part * scales[:, None]


def _dense(row: Any) -> np.ndarray:
    return np.asarray(row.toarray().ravel() if scipy.sparse.issparse(row) else row)


def _divided(array: np.ndarray, exponents: np.ndarray) -> np.ndarray:
    """Columns over powers of two, in double precision."""
    if exponents.any():
        if array.dtype.kind == "c":
            parts = (np.ldexp(part, -exponents) for part in (array.real, array.imag))
            array = np.stack(list(parts), axis=-1).view(array.dtype)[..., 0]
        else:
            array = np.ldexp(array, -exponents)
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64, copy=False)
