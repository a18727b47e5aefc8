"""The door `CodedMatrix`: a linear operator whose products survive stragglers and crashes."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator

from ..codes import Replication, Uncoded
from ..contracts.answers import all_finite
from ..contracts.code import Code
from ..contracts.matrix_code import MatrixCode
from ..contracts.memory import free_memory
from ..contracts.stopping import Decodable, StoppingRule
from ..engines import Engine
from ..errors import CannotSend, InvalidArgument, NotEnoughMemory
from ..execution.placed import Placed
from ..execution.stream import checked_engine, checked_rule
from ..matrices.blocks import Blocks, checked_matrix
from ..matrices.call import Call
from ..matrices.copies import Copies
from ..matrices.products import Products
from ..results.matrix_result import MatrixResult

__all__ = ["CodedMatrix"]

_LITTLE = 32 << 20
"""Bytes that are placed whatever is said to be free."""


class CodedMatrix(LinearOperator):  # type: ignore[misc]  # SciPy has no types
    """A matrix whose coded blocks live on workers; its products come from those that are fast.

    A ``scipy.sparse.linalg.LinearOperator``: ``A @ v``, ``A @ B``, ``A.T @ u``, and all solvers that
    take one (``cg``, ``lsmr``, ``eigsh``, ``svds``) run on it unchanged. The rows are cut into K blocks, the
    last of them filled up with zeros; worker n is sent its coded block once, and with each product
    only the columns.

    Products are exact, up to rounding, or raise. There are two exceptions, both asked for: a stop rule with a
    `Tolerance`, and ``throw=False``. Then `last` has the standard errors.

    Parameters
    ----------
    matrix : array-like or scipy.sparse matrix, shape (m, n)
        Integers and booleans are computed in float64, float16 in float32. Not copied, and looked at
        again when a lost block has to be made anew, so it must not be changed.
    code : MatrixCode, Uncoded or Replication
        Such as ``MDSCode(tasks=11, workers=16)``.
    engine : Engine or concurrent.futures.Executor
        An executor keeps nothing: there the blocks are sent with every call. With fewer workers than
        the code has, worker n is the engine's n mod workers, so losses come together: a
        warning says so.
    stop : StoppingRule, optional
        When to stop waiting; by default ``Decodable()``: as soon as the product can be had. A worker that
        hangs without dying is waited for if the others do not suffice, unless the rule contains a `Deadline`.
    throw : bool
        Whether to raise where the product cannot be had exactly. If False, take the estimate of a code that
        has one, such as `PolarCode`; else the blocks that came, and NaN for the others, as for those of
        which answers contradict one another and no majority tells which is right.
    symmetric : bool
        That the matrix equals its transpose, which is checked. Then ``A.T`` is ``A``. Otherwise
        ``A.T`` has an encoding of its own, made at its first use, which takes as much memory again.

    Raises
    ------
    InvalidArgument
        If an argument cannot work; a product raises it for columns that do not fit.
    NotEnoughMemory
        If the coded blocks would not fit into the free memory.

    Notes
    -----
    A product raises `NotEnoughAnswers` if too many workers failed, the first one's exception being the
    cause; `InvalidAnswer` if answers contradict one another and nothing tells which are wrong; and `EngineError`
    if the engine has been closed.

    Examples
    --------
    >>> import numpy as np, codedmap as cm
    >>> script = {0: cm.testing.never(), 2: cm.testing.crash()}
    >>> with cm.testing.Scripted(6, script) as engine:
    ...     A = cm.CodedMatrix([[1, 2], [3, 4], [5, 6]], code=cm.codes.MDSCode(3, 6), engine=engine)
    ...     product = A @ [1.0, -1.0]
    >>> product.round(12), A.last.abandoned, tuple(A.last.failed)
    (array([-1., -1., -1.]), (0,), (2,))
    """

    def __init__(
        self,
        matrix: Any,
        *,
        code: MatrixCode | Uncoded | Replication,
        engine: Engine | Executor,
        stop: StoppingRule | None = None,
        throw: bool = True,
        symmetric: bool = False,
    ) -> None:
        self._code = _checked_code(code)
        self._stop = checked_rule(stop or Decodable(), self._code)
        self._throw = throw
        array = checked_matrix(matrix)
        if symmetric:
            _check_symmetric(array)
        self._engine = checked_engine(engine, None, self._code.workers, depth=3)
        self._matrix = array
        self._blocks = Blocks(array, self._code)
        _check_memory(self._blocks, self._code)
        self._placed = Placed(self._engine, self._blocks.all(), self._blocks.again)
        self._transposed: CodedMatrix | None = self if symmetric else None
        self._last: MatrixResult | None = None
        super().__init__(array.dtype, array.shape)

    @property
    def last(self) -> MatrixResult | None:
        """How the last product came about, also one of the transpose made through this operator; None before."""
        return self._last

    @property
    def code(self) -> MatrixCode | Uncoded | Replication:
        """How the matrix is coded."""
        return self._code.code if isinstance(self._code, Copies) else self._code

    @property
    def engine(self) -> Engine:
        """Where the coded blocks are."""
        return self._engine

    def dot(self, x: Any) -> Any:
        """The product with a vector or columns, or with another operator."""
        _check_kind(x, "A @ B")  # SciPy drops the mask
        if np.ndim(x) > 2:
            _checked_columns(x, self.shape[1], "A @ B")
        return super().dot(x)

    def matvec(self, x: Any) -> np.ndarray:
        """The product with a vector, (n,) or (n, 1)."""
        x = _checked_columns(x, self.shape[1], "A @ v")
        result: np.ndarray = super().matvec(x)
        return result

    def matmat(self, X: Any) -> np.ndarray:
        """The product with columns, (n, c)."""
        X = _checked_columns(X, self.shape[1], "A @ B")
        return self._matmat(X)

    def rmatvec(self, x: Any) -> np.ndarray:
        """The product of the conjugate transpose with a vector, (m,) or (m, 1)."""
        x = _checked_columns(x, self.shape[0], "A.H @ u")
        result: np.ndarray = super().rmatvec(x)
        return result

    def rmatmat(self, X: Any) -> np.ndarray:
        """The product of the conjugate transpose with columns, (m, c)."""
        X = _checked_columns(X, self.shape[0], "A.H @ U")
        return self._rmatmat(X)

    def _matvec(self, x: np.ndarray) -> np.ndarray:
        return self._matmat(x.reshape(-1, 1))[:, 0]

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        dtype = np.result_type(self.dtype, X.dtype)
        columns = np.ascontiguousarray(X, dtype)
        shape = self._blocks.rows, columns.shape[1]
        if not columns.shape[1]:
            return np.zeros((self.shape[0], 0), dtype)
        products = Products(
            self._code,
            shape,
            dtype,
            self.dtype,
            added=lambda: self._blocks.longest_row * _lengths(columns),
        )
        call = Call(self._placed, products, self._stop, self.shape[0], throw=self._throw)
        values, self._last = call.result(self._code.workers, columns)
        return values

    def _rmatvec(self, x: np.ndarray) -> np.ndarray:
        return self._rmatmat(x.reshape(-1, 1))[:, 0]

    def _rmatmat(self, X: np.ndarray) -> np.ndarray:
        product = self._transpose()._matmat(np.conj(X))
        self._last = self._transpose()._last
        conjugate: np.ndarray = np.conj(product)
        return conjugate

    def _transpose(self) -> CodedMatrix:
        if self._transposed is None:
            self._blocks.check()
            self._transposed = CodedMatrix(
                self._matrix.T,
                code=self.code,
                engine=self._engine,
                stop=self._stop,
                throw=self._throw,
            )
            self._transposed._transposed = self
        return self._transposed

    def _adjoint(self) -> LinearOperator:
        return super()._adjoint() if self.dtype.kind == "c" else self._transpose()

    def __getstate__(self) -> Any:
        raise CannotSend(
            "a CodedMatrix belongs to the process and the engine where it was made, and cannot be pickled or "
            "copied: keep the matrix and the code, and make a new one of them"
        )

    def __repr__(self) -> str:
        rows, columns = self.shape
        return f"<CodedMatrix: {rows} x {columns}, {self.dtype}, by {self.code!r}>"


def _lengths(columns: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        lengths: np.ndarray = np.linalg.norm(columns, axis=0).astype(np.float64)
    return lengths


def _checked_code(code: Any) -> MatrixCode:
    if isinstance(code, (Uncoded, Replication)):
        return Copies(code)
    if isinstance(code, MatrixCode):
        return code
    kind = "a code for map" if isinstance(code, Code) else "no code for a matrix"
    raise InvalidArgument(
        f"code={code!r} is {kind}: give one such as MDSCode(tasks=11, workers=16), PolarCode(12, 16), or "
        "Replication(8, 16)"
    )


def _checked_columns(columns: Any, length: int, what: str) -> np.ndarray:
    _check_kind(columns, what)
    array = np.asarray(columns)
    if array.dtype.kind not in "biufc":
        raise InvalidArgument(
            f"{what}: what is multiplied has dtype {array.dtype}, but must be numbers"
        )
    if array.ndim not in (1, 2) or array.shape[0] != length:
        raise InvalidArgument(
            f"{what}: the operator takes vectors of length {length} or {length} x c columns, but what is "
            f"multiplied has shape {array.shape}"
        )
    if array.dtype.kind in "fc" and not all_finite(array):
        bad = ~np.isfinite(array)
        raise InvalidArgument(
            f"{what}: {bad.sum()} of {array.size} numbers that are multiplied are NaN or infinite. In a solver "
            "this means that it has diverged"
        )
    return array


def _check_kind(columns: Any, what: str) -> None:
    if np.ma.is_masked(columns):
        raise InvalidArgument(
            f"{what}: entries of what is multiplied are masked, and have no value: use its filled(0.0), say"
        )
    if sparse.issparse(columns):
        raise InvalidArgument(f"{what}: what is multiplied is sparse: use its toarray()")


def _check_symmetric(array: Any) -> None:
    if array.shape[0] != array.shape[1]:
        raise InvalidArgument(
            f"a matrix of shape {array.shape} is not symmetric: leave symmetric=True out"
        )
    off = abs(array - array.T).max()
    if off > np.finfo(array.dtype).eps * 8 * abs(array).max():
        raise InvalidArgument(
            f"the matrix differs from its transpose by up to {off:.3g}: symmetrise it, (M + M.T) / 2, or "
            "leave symmetric=True out"
        )


def _check_memory(blocks: Blocks, code: MatrixCode) -> None:
    free = free_memory()
    # Twice: here or in transit, and on the workers if they share the machine.
    if free is None or 2 * blocks.most_bytes <= max(free, _LITTLE):
        return
    bytes_ = blocks.least_bytes
    if 2 * bytes_ > max(free, _LITTLE):
        instead = (
            "use Replication, whose blocks stay as sparse as the matrix is"
            if blocks.sparse
            else "use fewer workers for as many tasks, or cast the matrix to float32"
        )
        raise NotEnoughMemory(
            f"{code.workers} coded blocks of a matrix cut into {code.tasks} take {bytes_ / 1e6:,.0f} MB, "
            f"and as much again on their way to the workers, but only {free / 1e6:,.0f} MB are free: {instead}"
        )
