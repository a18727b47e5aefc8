"""`CodedMatrix`, a linear operator whose products survive stragglers and crashes."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from types import MappingProxyType
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator

from ..codes import Replication, Uncoded
from ..contracts.answers import all_finite
from ..contracts.code import no_code
from ..contracts.inputs import array_of
from ..contracts.matrix_code import Decoded, MatrixCode
from ..contracts.memory import check_room, size
from ..contracts.stopping import Decodable, StoppingRule
from ..engines import Engine
from ..errors import WAIT, CannotSend, InvalidArgument, NotEnoughAnswers, many
from ..execution.checked import checked_rule, engine_of_slots
from ..execution.placed import Placed
from ..execution.task import Measured
from ..matrices.blocks import CodedBlock, CodedBlocks, check_integers, checked_matrix
from ..matrices.freivalds import BlockCheck
from ..matrices.product import ProductJob
from ..results.sum_result import MatrixResult
from ..results.trees import blanked

_OUTVOTED = "an answer that differs from its copies'"


class CodedMatrix(LinearOperator):  # type: ignore[misc]  # SciPy has no types
    """A matrix whose coded blocks are kept by workers; products are decoded from the answers of the fast ones.

    A ``scipy.sparse.linalg.LinearOperator``: ``A @ v``, ``A @ B``, ``A.T @ u``, and all solvers that
    take one (``cg``, ``lsmr``, ``eigsh``, ``svds``) run on it unchanged. The rows are cut into K blocks, the
    last of them padded with zeros; worker n is sent its coded block once, and with each product
    only the columns.

    Products are exact, up to rounding, or raise. There are two exceptions, both at the caller's request: a
    stopping rule with a `Tolerance`, and ``throw=False``. Then `last` has the standard errors.

    Every answer is tested by Freivalds' check: a random combination of the block's rows, which the caller keeps and no worker
    sees, must give the same combination of the answer, up to rounding. An answer that fails counts as lost, and its worker is
    ``rejected``: a code needs one spare worker for each that lies.

    Parameters
    ----------
    matrix : array-like or scipy.sparse matrix, shape (m, n)
        Integers and booleans are computed in float64, and their products rounded to it; float16 in float32. It is not
        copied, and is read again when a lost block is encoded again, so it must not be changed.
    code : MatrixCode, Uncoded or Replication
        Such as ``MDSCode(tasks=11, workers=16)``.
    engine : Engine or concurrent.futures.Executor
        An executor keeps nothing: the blocks are sent to it with every call. If an engine has fewer workers
        than the code, each keeps what several of the code's do, so losses come together: a warning says so.
    stop : StoppingRule, optional
        When to stop waiting; by default ``Decodable()``: as soon as the product can be decoded. A worker that
        hangs without dying is waited for if the product cannot be decoded without it, unless the rule
        contains a `Deadline`.
    throw : bool
        If True, raise where the product cannot be decoded exactly. If False, return the estimate of a code
        that has one, such as `PolarCode`; else the blocks that were answered, and NaN for the rest: those
        without an answer, and those whose answers contradict one another without a majority.
    symmetric : bool
        If True, the matrix equals its transpose, which is checked, and ``A.T`` is ``A``. If False,
        ``A.T`` has an encoding of its own, made at its first use, which takes as much memory again.
    verify : bool
        If True, answers are tested. If False, they are only compared with each other, where there are more than
        the code needs.

    Raises
    ------
    InvalidArgument
        If an argument is invalid, or the matrix has integers beyond 2**53, which float64 does not hold; a product raises it
        for columns that do not fit.
    NotEnoughMemory
        If the coded blocks would not fit into the free memory.

    Notes
    -----
    A product raises `NotEnoughAnswers` if too many workers failed or are rejected, the first one's exception being the
    cause; with ``verify=False`` `InvalidAnswer` if answers contradict one another and it is not clear which are wrong; and
    `EngineError` if the engine has been closed.

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
        verify: bool = True,
    ) -> None:
        self._code = _checked_code(code)
        self._stop = checked_rule(Decodable() if stop is None else stop, self._code)
        self._throw = throw
        array = checked_matrix(matrix)
        if symmetric:
            _check_symmetric(array)
        self.engine = engine_of_slots(engine, None, self._code.workers)
        """Where the coded blocks are."""
        self._matrix = array
        self._blocks = blocks = CodedBlocks(array, self._code)
        _check_room(blocks)
        rng = np.random.default_rng()  # which nobody can draw again
        checks: dict[int, BlockCheck] | None = {} if verify else None
        self._checks = checks

        # It does not refer to self, so that workers forget the blocks as soon as this is dropped.
        def checked(worker: int, block: CodedBlock) -> Measured:
            if checks is not None:
                checks[worker] = BlockCheck.of(block.array, rng)
            return Measured(block)

        self._placed = Placed(
            self.engine,
            itertools.starmap(checked, enumerate(blocks.encoded())),
            lambda worker: checked(worker, blocks.encoded_again(worker)),
        )
        # The transpose refers to this one weakly, so that workers forget both as soon as they are dropped.
        self._transposed: Callable[[], CodedMatrix | None] = (
            weakref.ref(self) if symmetric else lambda: None
        )
        self.last: MatrixResult | None = None
        """How the last product was computed, also one with the transpose by this operator; None before."""
        super().__init__(array.dtype, array.shape)

    @property
    def code(self) -> MatrixCode | Uncoded | Replication:
        """How the matrix is coded."""
        return self._code.copies if isinstance(self._code, _CopiesCode) else self._code

    @property
    def rejected(self) -> Mapping[int, str]:
        """Workers of the engine that are not called any more, by the matrix or its transpose, with what they had sent."""
        return MappingProxyType(self._placed.rejected)

    def readmit(self, worker: int) -> None:
        """Call a rejected worker again, from the next product on."""
        if worker not in self._placed.rejected:
            those = ", ".join(map(str, sorted(self._placed.rejected))) or "none"
            raise InvalidArgument(
                f"worker {worker!r:.80} is not rejected ({those}): readmit one of A.rejected"
            )
        del self._placed.rejected[worker]

    def dot(self, x: Any) -> Any:
        """The product with a vector or columns, with another operator, or with a number."""
        if _operator_or_number(x):
            return super().dot(x)
        x = _checked_columns(x, self.shape[1], "A @ B")
        return self._matvec(x) if x.ndim == 1 else self._matmat(x)

    def __rmul__(self, x: Any) -> Any:
        if _operator_or_number(x):
            return super().__rmul__(x)
        return self.T.dot(_as_array(x, "U @ A").T).T

    def matvec(self, x: Any) -> np.ndarray:
        """The product with a vector, (n,) or (n, 1)."""
        x = _checked_columns(x, self.shape[1], "A @ v")
        return np.asarray(super().matvec(x))

    def matmat(self, X: Any) -> np.ndarray:
        """The product with columns, (n, c)."""
        X = _checked_columns(X, self.shape[1], "A @ B")
        return np.asarray(super().matmat(X))

    def rmatvec(self, x: Any) -> np.ndarray:
        """The product of the conjugate transpose with a vector, (m,) or (m, 1)."""
        x = _checked_columns(x, self.shape[0], "A.H @ u")
        return np.asarray(super().rmatvec(x))

    def rmatmat(self, X: Any) -> np.ndarray:
        """The product of the conjugate transpose with columns, (m, c)."""
        X = _checked_columns(X, self.shape[0], "A.H @ U")
        return np.asarray(super().rmatmat(X))

    def _matvec(self, x: np.ndarray) -> np.ndarray:
        return self._matmat(x.reshape(-1, 1))[:, 0]

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        columns = np.ascontiguousarray(X, np.result_type(self.dtype, X.dtype))
        if not columns.shape[1]:
            return np.zeros((self.shape[0], 0), columns.dtype)
        job = ProductJob(
            self._placed, self._blocks, columns, self._stop, self._checks, throw=self._throw
        )
        values, self.last = job.run()
        return values

    def _rmatvec(self, x: np.ndarray) -> np.ndarray:
        return self._rmatmat(x.reshape(-1, 1))[:, 0]

    def _rmatmat(self, X: np.ndarray) -> np.ndarray:
        X = _checked_columns(X, self.shape[0], "A.H @ U")  # A.H of complex numbers is SciPy's
        product = self._transpose()._matmat(np.conj(X))
        self.last = self._transpose().last
        return np.asarray(np.conj(product))

    def _transpose(self) -> CodedMatrix:
        transposed = self._transposed()
        if transposed is None:
            self._blocks.check_unchanged()
            transposed = CodedMatrix(
                self._matrix.T,
                code=self.code,
                engine=self.engine,
                stop=self._stop,
                throw=self._throw,
                verify=self._checks is not None,
            )
            transposed._placed.rejected = self._placed.rejected
            transposed._transposed = weakref.ref(self)
            self._transposed = lambda: transposed
        return transposed

    def _adjoint(self) -> LinearOperator:
        return super()._adjoint() if self.dtype.kind == "c" else self._transpose()

    def __getstate__(self) -> Any:
        raise CannotSend(
            "a CodedMatrix belongs to the process and the engine where it was made, and cannot be pickled or "
            "copied: keep the matrix and the code, and make a new one from them"
        )

    def __repr__(self) -> str:
        rows, columns = self.shape
        return f"<CodedMatrix: {rows} x {columns}, {self.dtype}, by {self.code!r}>"


class _CopiesCode:
    """`Uncoded` or `Replication` as a matrix code: worker n keeps block n mod K, and copies are compared."""

    def __init__(self, copies: Uncoded | Replication) -> None:
        if copies.fill is not None:
            raise InvalidArgument(
                f"fill={copies.fill!r} cannot replace a lost block of a matrix, whose product does not follow "
                "from those of other blocks: leave it out"
            )
        self.copies = copies
        self.tasks, self.workers, self.stragglers = copies.tasks, copies.workers, copies.stragglers
        self._encoding = copies.encode(np.eye(copies.tasks)[:, None])

    def weights(self, worker: int) -> np.ndarray:
        return np.asarray(self._encoding.payloads[worker, 0])

    def decodable(self, answered: frozenset[int], dtype: np.dtype[Any]) -> bool:
        return not self._unconfirmed(answered)

    def decode(self, answers: Mapping[int, np.ndarray], dtype: np.dtype[Any]) -> Decoded:
        """The answers themselves; where copies differ, the majority's."""
        lacking = self._unconfirmed(frozenset(answers))
        if lacking:
            raise NotEnoughAnswers(
                f"{len(lacking)} of {many(self.tasks, 'block')} (the first is {lacking[0]}) without "
                f"{many(self._encoding.confirm, 'usable answer')}",
                WAIT,
            )
        estimate = self._encoding.decode({slot: answer[None] for slot, answer in answers.items()})
        disputed = np.flatnonzero(~estimate.exact[:, 0])
        if len(disputed):
            raise NotEnoughAnswers(
                f"copies of {many(len(disputed), 'block')} (the first is {disputed[0]}) gave different answers, and no "
                "majority shows which is right",
                WAIT,
                "use more copies",
            )
        return Decoded(estimate.values[:, 0], dict.fromkeys(estimate.rejected, _OUTVOTED))

    def salvage(self, answers: Mapping[int, np.ndarray]) -> Decoded:
        """Blocks of which enough copies agree; infinite standard errors for all others."""
        voted = self._encoding.salvage({slot: answer[None] for slot, answer in answers.items()})
        assert voted.stderr is not None
        # Where copies differ, their distance is the standard error; it is infinite for a single answer.
        differ = np.isfinite(voted.stderr) & ~voted.exact
        values = blanked(voted.values, differ)[:, 0]
        stderr = np.full(values.shape, np.inf)
        stderr[voted.exact[:, 0]] = 0.0
        return Decoded(values, dict.fromkeys(voted.rejected, _OUTVOTED), stderr)

    def _unconfirmed(self, answered: frozenset[int]) -> list[int]:
        """Blocks with fewer answers than must agree."""
        counts = np.bincount([self._encoding.raw[slot] for slot in answered], minlength=self.tasks)
        return [int(task) for task in np.flatnonzero(counts < self._encoding.confirm)]


def _checked_code(code: Any) -> MatrixCode:
    if isinstance(code, (Uncoded, Replication)):
        return _CopiesCode(code)
    if isinstance(code, MatrixCode):
        return code
    instead = "MDSCode(tasks=11, workers=16), PolarCode(12, 16), or Replication(8, 16)"
    raise no_code(code, f"one for a matrix, such as {instead}")


def _check_room(blocks: CodedBlocks) -> None:
    """Raise `NotEnoughMemory` if the coded blocks, on workers and on the way there, exceed the free memory."""
    coded, code = blocks.nbytes(), blocks.code
    check_room(
        2 * coded,
        f"{code.workers} coded blocks of a matrix cut into {code.tasks}, which take {size(coded)}, and as much again "
        "on the way to the workers,",
        "Use Replication, whose blocks stay as sparse as the matrix is"
        if blocks.sparse
        else "Use fewer workers for as many tasks, or cast the matrix to float32",
    )


def _operator_or_number(x: Any) -> bool:
    # To NumPy a text is a scalar too.
    return isinstance(x, LinearOperator) or (np.isscalar(x) and np.asarray(x).dtype.kind in "biufc")


def _as_array(columns: Any, what: str) -> np.ndarray:
    if sparse.issparse(columns):
        raise InvalidArgument(f"what is multiplied in {what} is sparse: use its toarray()")
    return array_of(columns, f"what is multiplied in {what}")


def _checked_columns(columns: Any, length: int, what: str) -> np.ndarray:
    array = _as_array(columns, what)
    if array.ndim not in (1, 2) or array.shape[0] != length:
        found = f"an array of shape {array.shape}" if array.ndim else repr(columns)
        raise InvalidArgument(
            f"{what}: the operator takes vectors of length {length} or {length} x c columns, but what is "
            f"multiplied is {found}"
        )
    if array.dtype.kind not in "biufc":
        raise InvalidArgument(
            f"what is multiplied in {what} has dtype {array.dtype}, but must be numbers"
        )
    check_integers(array, f"what is multiplied in {what}")
    if array.dtype.kind in "fc" and not all_finite(array):
        bad = ~np.isfinite(array)
        raise InvalidArgument(
            f"{what}: {bad.sum()} of {array.size} numbers that are multiplied are NaN or infinite. In a solver "
            "this means that it has diverged"
        )
    return array


def _check_symmetric(array: Any) -> None:
    if array.shape[0] != array.shape[1]:
        raise InvalidArgument(
            f"a matrix of shape {array.shape} is not symmetric: leave symmetric=True out"
        )
    difference = abs(array - array.T).max()
    if difference > np.finfo(array.dtype).eps * 8 * abs(array).max():
        raise InvalidArgument(
            f"the matrix of shape {array.shape} differs from its transpose by up to {difference:.3g}: symmetrise it, (M + M.T) / 2, "
            "or leave symmetric=True out"
        )
