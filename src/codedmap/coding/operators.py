"""Linear maps of columns, and how they are applied."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

_SMALL = 512  # an operator with no more entries is applied to blocks of columns
_ONE_THREAD = (1 << 19) - 1  # most real multiplications for which OpenBLAS uses one thread


class Operator(Protocol):
    """A linear map of columns: a dense matrix, or factors applied one after the other."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __matmul__(self, columns: Any, /) -> Any: ...


def values_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of estimates from answers of this dtype."""
    return dtype if dtype.kind in "fc" else np.dtype(np.float64)


def as_real(numbers: np.ndarray) -> np.ndarray:
    """Numbers, a complex one as two along the last axis."""
    if numbers.dtype.kind != "c":
        return numbers
    return np.ascontiguousarray(numbers).view(numbers.real.dtype)


@np.errstate(under="ignore")  # a caller may have NumPy raise for it
def apply(operator: Operator, columns: np.ndarray) -> np.ndarray:
    """``operator @ columns`` in the dtype of the columns; infinite where a number is beyond its range."""
    if columns.dtype == np.float16:  # BLAS does not know it, and it is too coarse to sum in
        return apply(operator, columns.astype(np.float32)).astype(np.float16)
    if not isinstance(operator, np.ndarray):
        return np.asarray(operator @ columns)
    operator = operator.astype(columns.dtype, copy=False)
    product = np.empty((len(operator), columns.shape[1]), columns.dtype)
    # The speed of a small operator is limited by memory, with one thread or many. And threads of OpenBLAS keep
    # cores busy for some 20 ms after they have helped, which the workers need. In the benchmark *wave*, `map` of
    # 8 MB on `Local` with 2 cores takes 1.6 to 1.8 times as long if BLAS chooses.
    small = 0 < operator.size <= _SMALL
    width = max(1, _ONE_THREAD // operator.size if small else columns.shape[1])
    for start in range(0, columns.shape[1], width):
        block = slice(start, start + width)
        np.matmul(operator, columns[:, block], out=product[:, block])
    return product


def unit_columns(operator: np.ndarray) -> tuple[int | None, ...]:
    """For each row the column of its 1 if all its other entries are 0; else None."""
    single = (operator != 0).sum(axis=1) == 1
    column = operator.argmax(axis=1)
    unit = single & (operator[np.arange(len(operator)), column] == 1.0)
    return tuple(int(c) if u else None for c, u in zip(column, unit, strict=True))
