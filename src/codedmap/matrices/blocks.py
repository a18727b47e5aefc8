"""A matrix cut into blocks of rows, and the combinations of these that workers keep."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import iadd
from typing import Any

import numpy as np
import scipy

from ..contracts.answers import LARGEST_IN_FLOAT, all_finite
from ..contracts.inputs import array_of
from ..contracts.matrix_code import MatrixCode
from ..errors import InvalidArgument


@dataclass(frozen=True, eq=False)
class CodedBlock:
    """A coded block as a worker keeps it; called with columns (n, c), it multiplies them."""

    array: Any
    """(b, n), dense or sparse."""

    def __call__(self, columns: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore", invalid="ignore"):  # the decoder rejects what is not finite
            product: np.ndarray = self.array @ columns
        return product


class CodedBlocks:
    """K blocks of equally many rows, the last ones padded with zeros, and their coded forms.

    The matrix (m, n), from `checked_matrix`, is not copied; checksums show whether it was changed since.
    """

    def __init__(self, matrix: Any, code: MatrixCode) -> None:
        self._matrix = matrix
        self.code = code
        self.shape: tuple[int, int] = matrix.shape
        """(m, n)."""
        self.dtype: np.dtype[Any] = matrix.dtype
        self.sparse = scipy.sparse.issparse(matrix)
        """Whether the blocks are sparse."""
        self.rows = -(-matrix.shape[0] // code.tasks)
        """b, rows of a block."""
        self._checksums: list[int] = []

    def nbytes(self) -> int:
        """Bytes of all coded blocks; a lower bound for sparse ones, unless entries cancel.

        A mixture of all blocks has an entry wherever one of them has, and a mixture of some has at least as many as the
        largest of them.
        """
        matrix, tasks, workers = self._matrix, self.code.tasks, self.code.workers
        if not self.sparse:
            return int(workers * self.rows * matrix.shape[1] * matrix.dtype.itemsize)
        entries = np.diff(matrix.indptr[[0, *(self._span(task).stop for task in range(tasks))]])
        mixtures = [self.code.weights(worker) != 0 for worker in range(workers)]
        of_all = 0
        if any(mixed.all() for mixed in mixtures):
            of_all = sum(self._padded(task).astype(bool) for task in range(tasks)).nnz
        stored = sum(of_all if m.all() else int(entries[m].max(initial=0)) for m in mixtures)
        return stored * int(matrix.dtype.itemsize + matrix.indices.dtype.itemsize)

    def absolute_sums(self, columns: np.ndarray) -> np.ndarray:
        """An upper bound (c,) of the sum of absolute values in any product of a row with each of the columns (n, c).

        It is at least the smallest normal number of the matrix's dtype, because smaller ones have fewer digits.
        """
        with np.errstate(over="ignore"):
            largest: np.ndarray = np.abs(columns).max(axis=0).astype(np.float64)
            return self._largest_row * largest

    @cached_property
    def _largest_row(self) -> float:
        parts = (self._matrix[self._span(task)] for task in range(self.code.tasks))
        with np.errstate(over="ignore"):
            sums = [float(abs(part).sum(axis=1).max()) for part in parts if part.shape[0]]
        return max(float(np.finfo(self.dtype).tiny), *sums)

    def encoded(self) -> Iterator[CodedBlock]:
        """The coded block of each worker."""
        self._checksums = [self._checksum(task) for task in range(self.code.tasks)]
        if hasattr(self.code, "coded") and not self.sparse:
            stack = np.stack([self._padded(task) for task in range(self.code.tasks)])
            yield from map(CodedBlock, self.code.coded(stack))
            return
        for worker in range(self.code.workers):
            yield CodedBlock(self._combined(self.code.weights(worker)))

    def encoded_again(self, worker: int) -> CodedBlock:
        """The coded block of a worker; raises as `check_unchanged`."""
        weights = self.code.weights(worker)
        self.check_unchanged(np.flatnonzero(weights).tolist())
        return CodedBlock(self._combined(weights))

    def check_unchanged(self, tasks: list[int] | None = None) -> None:
        """Raise `InvalidArgument` if the matrix has changed in one of these blocks, by default in any."""
        for task in range(self.code.tasks) if tasks is None else tasks:
            if self._checksum(task) != self._checksums[task]:
                rows = self._span(task)
                raise InvalidArgument(
                    f"the matrix was changed in rows {rows.start} to {rows.stop - 1} after it had been placed "
                    "on the workers, so the blocks that they keep are no longer of one matrix: make a new "
                    "CodedMatrix of it, and change only copies of a matrix that is in use"
                )

    def _span(self, task: int) -> slice:
        rows: int = self._matrix.shape[0]
        return slice(min(rows, task * self.rows), min(rows, (task + 1) * self.rows))

    def _padded(self, task: int) -> Any:
        part = self._matrix[self._span(task)]
        if part.shape[0] == self.rows:
            return part
        if self.sparse:
            part = part.copy()
            part.resize((self.rows, part.shape[1]))
            return part
        return np.pad(part, ((0, self.rows - len(part)), (0, 0)))

    def _combined(self, weights: np.ndarray) -> Any:
        tasks = np.flatnonzero(weights)
        if len(tasks) == 1 and weights[tasks[0]] == 1.0:
            return self._padded(int(tasks[0])).copy()  # an engine may keep it in this process
        parts = (self._padded(int(t)) * self._matrix.dtype.type(weights[t]) for t in tasks)
        return reduce(iadd, parts)

    def _checksum(self, task: int) -> int:
        part = self._matrix[self._span(task)]
        arrays = (part.data, part.indices, part.indptr) if self.sparse else (part,)
        checksum = 0
        for array in arrays:
            checksum = zlib.crc32(np.ascontiguousarray(array).view(np.uint8).data, checksum)
        return checksum


def checked_matrix(matrix: Any) -> Any:
    """The matrix in a dtype in which it can be coded; raises `InvalidArgument` unless it is two-dimensional, of finite numbers."""
    array: Any = (
        scipy.sparse.csr_array(matrix)
        if scipy.sparse.issparse(matrix)
        else array_of(matrix, "the matrix")
    )
    if array.ndim != 2:
        raise InvalidArgument(
            f"matrix is of type {type(matrix).__name__} and shape {array.shape}, and must be an array of two dimensions: "
            "reshape it, or for several matrices stack their rows"
        )
    if 0 in array.shape:
        raise InvalidArgument(
            f"a matrix of shape {array.shape} is empty: there is nothing to multiply"
        )
    check_integers(array.data if scipy.sparse.issparse(array) else array, "the matrix")
    array = array.astype(_coded_dtype(array.dtype), copy=False)
    if not all_finite(array.data if scipy.sparse.issparse(array) else array):
        raise InvalidArgument(_not_finite(array))
    return array


def check_integers(array: np.ndarray, what: str) -> None:
    """Raise `InvalidArgument` for integers that float64, in which products are computed and tested, does not hold."""
    if array.dtype.kind in "iu" and array.size:
        largest = max(int(array.max()), -int(array.min()))
        if largest > LARGEST_IN_FLOAT:
            raise InvalidArgument(
                f"{what} has integers beyond 2**53, up to {largest} in magnitude: products are computed and tested in float64, "
                "which would round them. Cast it to float64 if that does no harm"
            )


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


def _not_finite(array: Any) -> str:
    coo = scipy.sparse.coo_array(array)
    bad = ~np.isfinite(coo.data)
    rows, columns = coo.row[bad], coo.col[bad]
    return (
        f"{len(rows)} of the {array.shape[0]} x {array.shape[1]} entries of the matrix are NaN or infinite "
        f"(the first at row {rows[0]}, column {columns[0]}), which a mixture would spread to every worker: "
        "replace them"
    )
