"""A matrix cut into blocks of rows, the combinations of them that workers keep, and their products."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import norm

from ..contracts.answers import all_finite
from ..contracts.matrix_code import AtOnce, MatrixCode
from ..errors import InvalidArgument

__all__ = ["Block", "Blocks", "checked_matrix"]


class Block:
    """A coded block as a worker keeps it; called with columns (n, c), it multiplies them.

    Parameters
    ----------
    array : ndarray or sparse array, shape (b, n)
    """

    def __init__(self, array: Any) -> None:
        self._array = array

    def __call__(self, columns: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore", invalid="ignore"):  # told by who decodes
            product: np.ndarray = self._array @ columns
        return product


class Blocks:
    """K blocks of equally many rows, the last ones filled up with zeros, and their coded forms.

    Parameters
    ----------
    matrix : ndarray or sparse array, shape (m, n)
        As `checked_matrix` gives it. Not copied, so that each time when a coded block is made again it is
        made sure that the matrix is still what it was.
    code : MatrixCode
    """

    def __init__(self, matrix: Any, code: MatrixCode) -> None:
        self._matrix = matrix
        self._code = code
        self._sparse = sparse.issparse(matrix)
        self.rows = -(-matrix.shape[0] // code.tasks)
        """b, rows of a block."""
        self._sums = [self._checksum(task) for task in range(code.tasks)]

    @property
    def most_bytes(self) -> int:
        """Of all coded blocks at most; for dense ones it is what they take."""
        if not self._sparse:
            dense: int = (
                self._code.workers * self.rows * self._matrix.shape[1] * self._matrix.dtype.itemsize
            )
            return int(dense)
        counts = self._entries()
        used = sum(counts[self._code.weights(n) != 0].sum() for n in range(self._code.workers))
        return int(used) * self._entry_bytes

    @property
    def least_bytes(self) -> int:
        """Of all coded blocks at least, unless entries cancel out; for dense ones it is what they take.

        A mixture of all blocks has entries wherever any of them has, and one of some at least as many
        as any of them.
        """
        if not self._sparse:
            return self.most_bytes
        counts = self._entries()
        pattern = self._padded(0).astype(bool)
        for task in range(1, self._code.tasks):
            pattern = pattern + self._padded(task).astype(bool)
        union = int(pattern.nnz)
        used = [self._code.weights(n) != 0 for n in range(self._code.workers)]
        return self._entry_bytes * sum(
            union if some.all() else int(counts[some].max(initial=0)) for some in used
        )

    @cached_property
    def longest_row(self) -> float:
        """The greatest Euclidean length of a row; infinite if its square would be."""
        lengths = norm if self._sparse else np.linalg.norm
        parts = (self._matrix[self._span(task)] for task in range(self._code.tasks))
        with np.errstate(over="ignore"):
            return max(float(lengths(part, axis=1).max()) for part in parts if part.shape[0])

    @property
    def sparse(self) -> bool:
        """Whether the blocks are sparse."""
        return bool(self._sparse)

    @property
    def _entry_bytes(self) -> int:
        return int(self._matrix.dtype.itemsize + self._matrix.indices.dtype.itemsize)

    def _entries(self) -> np.ndarray:
        """Of each of the K blocks, how many are stored."""
        ends = [self._span(task).stop for task in range(self._code.tasks)]
        stored: np.ndarray = np.diff(self._matrix.indptr[[0, *ends]])
        return stored

    def all(self) -> Iterator[Block]:
        """The coded block of each worker."""
        if isinstance(self._code, AtOnce) and not self._sparse:
            stack = np.stack([self._padded(task) for task in range(self._code.tasks)])
            yield from map(Block, self._code.coded(stack))
            return
        for worker in range(self._code.workers):
            yield Block(self._combined(self._code.weights(worker)))

    def again(self, worker: int) -> Block:
        """The coded block of a worker once more.

        Raises
        ------
        InvalidArgument
            If the matrix has been changed since.
        """
        weights = self._code.weights(worker)
        self.check(np.flatnonzero(weights).tolist())
        return Block(self._combined(weights))

    def check(self, tasks: list[int] | None = None) -> None:
        """Raise `InvalidArgument` if the matrix has changed in one of these blocks, by default in any."""
        for task in range(self._code.tasks) if tasks is None else tasks:
            if self._checksum(task) != self._sums[task]:
                rows = self._span(task)
                raise InvalidArgument(
                    f"the matrix was changed in rows {rows.start} to {rows.stop - 1} after it had been placed "
                    "on the workers, so what they keep no longer fits together: make a new "
                    "CodedMatrix of it, and change a copy where you have to"
                )

    def _span(self, task: int) -> slice:
        rows: int = self._matrix.shape[0]
        return slice(min(rows, task * self.rows), min(rows, (task + 1) * self.rows))

    def _padded(self, task: int) -> Any:
        part = self._matrix[self._span(task)]
        if part.shape[0] == self.rows:
            return part
        if self._sparse:
            part = part.copy()
            part.resize((self.rows, part.shape[1]))
            return part
        whole = np.zeros((self.rows, part.shape[1]), part.dtype)
        whole[: len(part)] = part
        return whole

    def _combined(self, weights: np.ndarray) -> Any:
        tasks = np.flatnonzero(weights)
        if len(tasks) == 1 and weights[tasks[0]] == 1.0:
            return self._padded(int(tasks[0]))
        total = None
        for task in tasks:
            weight = self._matrix.dtype.type(weights[task])
            if total is None:
                total = self._padded(int(task)) * weight
            elif self._sparse:
                total = total + self._padded(int(task)) * weight
            else:
                part = self._matrix[self._span(int(task))]
                total[: len(part)] += part * weight
        return total

    def _checksum(self, task: int) -> int:
        part = self._matrix[self._span(task)]
        arrays = (part.data, part.indices, part.indptr) if self._sparse else (part,)
        sum_ = 0
        for array in arrays:
            sum_ = zlib.crc32(np.ascontiguousarray(array).view(np.uint8).data, sum_)
        return sum_


def checked_matrix(matrix: Any) -> Any:
    """The matrix in a dtype in which it can be coded.

    Raises
    ------
    InvalidArgument
        If it is not two-dimensional, empty, not of numbers, or holds NaN or infinity.
    """
    if sparse.issparse(matrix):
        array = sparse.csr_array(matrix)
    elif np.ma.is_masked(matrix):
        raise InvalidArgument(
            "the matrix is a masked array, entries of which have no value: fill them, with "
            "matrix.filled(0.0), say"
        )
    else:
        try:
            array = np.asarray(matrix)
        except Exception as error:
            raise InvalidArgument(f"matrix cannot be made an array: {error}") from error
    if array.ndim != 2:
        raise InvalidArgument(
            f"matrix must have two dimensions, but its shape is {array.shape}: reshape it, or for "
            "several matrices stack their rows"
        )
    if 0 in array.shape:
        raise InvalidArgument(
            f"a matrix of shape {array.shape} is empty: there is nothing to multiply"
        )
    array = array.astype(_coded_dtype(array.dtype), copy=False)
    if not all_finite(array.data if sparse.issparse(array) else array):
        raise InvalidArgument(_where_broken(array))
    return array


def _coded_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.kind in "biu":
        return np.dtype(np.float64)
    if dtype == np.float16:
        return np.dtype(np.float32)  # there is no BLAS for it
    if dtype.kind in "fc" and dtype.itemsize <= (8 if dtype.kind == "f" else 16):
        return np.dtype(dtype.newbyteorder("="))
    raise InvalidArgument(
        f"a matrix of dtype {dtype} cannot be coded: cast it to float32, float64, complex64 or complex128"
    )


def _where_broken(array: Any) -> str:
    if sparse.issparse(array):
        coo = array.tocoo()
        bad = ~np.isfinite(coo.data)
        count, first = bad.sum(), (int(coo.row[bad.argmax()]), int(coo.col[bad.argmax()]))
    else:
        bad = ~np.isfinite(array)
        count = bad.sum()
        row, column = np.unravel_index(bad.argmax(), bad.shape)
        first = int(row), int(column)
    return (
        f"{count} of the {array.shape[0]} x {array.shape[1]} entries of the matrix are NaN or infinite "
        f"(the first at row {first[0]}, column {first[1]}), which a mixture would spread to every worker: "
        "replace them"
    )
