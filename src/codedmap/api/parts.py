"""Parts that are placed on workers once, each on as many as its code says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor
from itertools import pairwise
from numbers import Integral
from typing import Any

from scipy import sparse

from ..contracts.code import Code
from ..contracts.memory import check_parts
from ..contracts.sum_code import SumCode
from ..engines import Engine, Kept, Local
from ..errors import CannotSend, InvalidArgument
from ..execution.placed import Placed
from ..execution.stream import checked_engine
from ..sums.shard import Shard

__all__ = ["CodedParts"]

_NARROW = 100.0
"""The largest amplification with which single precision still leaves five digits."""


class CodedParts:
    """Parts placed on the workers once, for any number of calls of `sum`.

    Each worker is sent the parts that the code assigns to it, and keeps them. A worker that is lost
    gets its parts again in the next sum, or in the same one if it is noticed only then; so the
    parts stay referenced here as well.

    Parameters
    ----------
    parts : array or sequence
        Whatever has a ``shape`` (a NumPy array, a SciPy matrix) is cut along its first axis into N
        runs of rows, whose numbers differ by at most 1; ``fn`` is called on each run. Any other sequence
        is one of parts, of any type; ``fn`` is called on each. It may be longer than N: then a
        worker's part is a run of them. What belongs together is cut together:
        ``list(zip(np.array_split(X, N), np.array_split(y, N)))``.
    code : SumCode
        Such as `FractionalRepetition`.
    engine : Engine or concurrent.futures.Executor
        An executor keeps nothing: there the parts are sent with every call. With fewer workers than
        the code has, worker n is the engine's n mod workers, so losses come together: a
        warning says so.

    Raises
    ------
    InvalidArgument
        If there are fewer parts than workers, or an argument cannot work.
    CannotSend
        If a part cannot be pickled.
    NotEnoughMemory
        If the workers are processes of this machine (`engines.Local`, ``ProcessPoolExecutor``), and what they
        keep would not fit into the free memory. Counted is what says its size: arrays, sparse matrices,
        bytes, whatever has ``nbytes``, and sequences and mappings of these.

    Examples
    --------
    >>> import numpy as np, codedmap as cm
    >>> code = cm.codes.FractionalRepetition(workers=6, stragglers=2)
    >>> with cm.testing.Scripted(6, {0: cm.testing.never(), 5: cm.testing.crash()}) as engine:
    ...     shards = cm.CodedParts(np.arange(12.0), code=code, engine=engine)
    ...     result = cm.sum(lambda rows: (rows**2).sum(), shards)
    >>> float(result.value), result.abandoned, tuple(result.failed)
    (506.0, (0,), (5,))
    """

    def __init__(self, parts: Any, *, code: SumCode, engine: Engine | Executor) -> None:
        if not isinstance(code, SumCode):
            kind = "a code for map" if isinstance(code, Code) else "no code"
            raise InvalidArgument(
                f"code={code!r} is {kind}: give one for sums, such as FractionalRepetition(12, 2)"
            )
        self._bundles = _cut(parts, code.workers)
        self._code = code
        self._engine = checked_engine(engine, None, code.workers, depth=3)
        if isinstance(engine, (Local, ProcessPoolExecutor)):
            sizes = [_size(bundle) for bundle in self._bundles]
            held = sum(sizes[part] for n in range(code.workers) for part in code.held(n))
            check_parts(held, sum(sizes), code.workers)
        self._narrow = code.amplification <= _NARROW
        self.coefficients = [code.coefficients(worker) for worker in range(code.workers)]
        self._placed = Placed(self._engine, map(self._shard, range(code.workers)), self._shard)

    @property
    def code(self) -> SumCode:
        """Which worker holds what."""
        return self._code

    @property
    def engine(self) -> Engine:
        """Where the parts are."""
        return self._engine

    def __len__(self) -> int:
        """How many parts there are; runs of rows, for an array."""
        return sum(len(bundle) for bundle in self._bundles)

    def __getstate__(self) -> Any:
        raise CannotSend(
            "CodedParts belong to the process and the engine where they were placed, and cannot be pickled or "
            "copied: keep the parts and the code, and place them anew"
        )

    def __repr__(self) -> str:
        return f"<CodedParts: {len(self)} parts on {self._code.workers} workers by {self._code!r}>"

    def on(self, worker: int) -> Kept:
        """What stands for the shard of a worker; sends it there if it is not there (any more)."""
        return self._placed.on(worker)

    def _shard(self, worker: int) -> Shard:
        held = self._code.held(worker)
        return Shard(
            worker,
            tuple((part, self._bundles[part]) for part in held),
            self.coefficients[worker],
            self._narrow,
        )


def _size(item: Any) -> int:
    """Bytes of what is known to hold any."""
    if isinstance(item, (tuple, list)):
        return sum(map(_size, item))
    if isinstance(item, Mapping):
        return sum(map(_size, item.values()))
    if isinstance(item, (bytes, bytearray)):
        return len(item)
    if sparse.issparse(item):
        return sum(
            _size(getattr(item, name, ())) for name in ("data", "indices", "indptr", "coords")
        )
    size = getattr(item, "nbytes", 0)
    return int(size) if isinstance(size, Integral) else 0


def _cut(parts: Any, count: int) -> list[tuple[Any, ...]]:
    """The items of each of so many parts."""
    whole = hasattr(parts, "shape")
    if not whole:
        if isinstance(parts, (str, bytes, Mapping)) or not isinstance(parts, Iterable):
            raise InvalidArgument(
                f"parts must be an array or a sequence of parts, not a {type(parts).__name__}"
            )
        parts = list(parts)
    length = (parts.shape[0] if parts.shape else 0) if whole else len(parts)
    if length < count:
        raise InvalidArgument(
            f"{length} {'rows' if whole else 'parts'} are too few for the {count} workers of the code, "
            "each of which needs one: cut them finer, or use fewer workers. Arrays that belong "
            "together are cut together: list(zip(np.array_split(X, N), np.array_split(y, N)))"
        )
    ends = [length * number // count for number in range(count + 1)]
    runs = [slice(begin, end) for begin, end in pairwise(ends)]
    if not whole:
        return [tuple(parts[run]) for run in runs]
    try:
        return [(parts[run],) for run in runs]
    except (TypeError, NotImplementedError) as error:
        raise InvalidArgument(
            f"a {type(parts).__name__} of shape {parts.shape} cannot be cut along its first axis: {str(error) or 'it has no rows'}. "
            "Give a sequence of parts, or what can be cut, such as an array or a sparse matrix .tocsr()"
        ) from error
