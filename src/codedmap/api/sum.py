"""`sum`, the exact sum of a function over all parts, and `CodedParts`, parts that stay on the workers."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from itertools import pairwise
from numbers import Integral
from typing import Any

import scipy

from ..contracts.code import no_code
from ..contracts.memory import check_room, size
from ..contracts.stopping import Decodable, Outcome, Progress, StoppingRule
from ..contracts.sum_code import SumCode
from ..engines import Engine, Kept, Local, Resident
from ..errors import (
    CannotSend,
    CodedmapError,
    InvalidAnswer,
    InvalidArgument,
    NotEnoughAnswers,
    many,
)
from ..execution.checked import checked_rule, engine_of_slots
from ..execution.live import LiveJob
from ..execution.placed import Placed, PlacedJob
from ..execution.task import Measured
from ..results.progress_bar import job_progress
from ..results.sum_result import SumResult
from ..results.summary import undecoded
from ..sums.decoder import SumDecoder
from ..sums.shard import CombinedFunction, Shard
from .map import check_fn

_NARROW = 100.0  # the largest amplification with which single precision still leaves five digits


def sum(
    fn: Callable[..., Any],
    parts: CodedParts | Any,
    *,
    args: tuple[Any, ...] = (),
    code: SumCode | None = None,
    engine: Engine | Executor | None = None,
    stop: StoppingRule | None = None,
    throw: bool = True,
    progress: bool = False,
) -> SumResult:
    """The sum of ``fn`` over all parts, exact, as soon as enough workers have answered.

    Every worker calls ``fn`` on each of its parts, combines the values, and sends one combination of
    the length of the sum, or of 1/m of it. From any N - S of these the sum is decoded.

    The parts are sent once, when `CodedParts` places them; ``fn`` and ``args`` are sent with every call,
    to every worker; each worker sends one answer.

    Parameters
    ----------
    fn : callable
        A part, followed by ``args``, to one array (or number), of the same shape for all parts. Several
        arrays must be joined into one. It has to give the same value for the same part on every
        worker: random numbers must follow from the part and a seed in ``args``. Arrays in parts and
        ``args`` are read-only for it, also in tuples, lists and dicts.
    parts : CodedParts, or what `CodedParts` takes
        The latter with ``code`` and ``engine``, for a single sum.
    args : tuple
        What is the same for all parts and changes from call to call, such as a model's weights.
    code, engine
        As for `CodedParts`; needed only if ``parts`` is not one.
    stop : StoppingRule, optional
        When to stop waiting. By default ``Decodable()``: the sum is exact whichever answers it is decoded
        from. If it cannot be decoded without workers that are late, their parts are computed again elsewhere, and the first
        answer counts.
    throw : bool
        If True, raise when the sum cannot be decoded. If False, ``value`` is NaN then.
    progress : bool
        If True, draw a progress bar on the error stream if that is a terminal.

    Returns
    -------
    SumResult

    Raises
    ------
    InvalidArgument
        If an argument is invalid; nothing has been computed then.
    CannotSend
        If ``fn``, ``args`` or a part cannot be pickled.
    NotEnoughAnswers
        If the sum cannot be decoded from the answers; the first worker's exception is the cause. A worker
        fails if a value of ``fn`` is not finite, or not of the shape of the others, or if floats that it
        adds up exceed the range of their dtype.
    InvalidAnswer
        If the sum exceeds the range of its dtype; for integers and a code that multiplies, the range in
        which float64 holds all of them, also on a worker.
    """
    if isinstance(fn, Resident):
        raise InvalidArgument(
            "fn is resident, and sum sends it with every call: give fn itself, and put what is large and stays the same "
            "into the parts"
        )
    check_fn(fn)
    if not isinstance(args, (tuple, list)):
        raise InvalidArgument(
            f"args is of type {type(args).__name__}, and must be a tuple, as args=(weights,)"
        )
    shards = _coded_parts(parts, code, engine)
    rule = checked_rule(Decodable() if stop is None else stop, shards.code)
    function = CombinedFunction(fn, tuple(args))
    with job_progress(None if progress else False, shards.code.workers, "answers") as show:
        return _SumJob(shards, function, rule, throw=throw, show=show).run()


class CodedParts:
    """Parts placed on the workers once, for any number of calls of `sum`.

    Each worker is sent the parts that the code assigns to it, and keeps them. A worker that is lost
    is sent its parts again in the next sum, or in the same one if that needs its answer; for this
    the parts stay referenced here as well, and must not be changed.

    Parameters
    ----------
    parts : array or sequence
        Anything with a ``shape`` (a NumPy array, a SciPy matrix) is cut along its first axis into N
        runs of rows, whose numbers differ by at most 1; ``fn`` is called on each run. Any other sequence
        is one of parts, of any type; ``fn`` is called on each. It may be longer than N: then a
        worker's part is a run of them. Cut together what belongs together:
        ``list(zip(np.array_split(X, N), np.array_split(y, N)))``.
    code : SumCode
        Such as `FractionalRepetition`.
    engine : Engine or concurrent.futures.Executor
        An executor keeps nothing: the parts are sent to it with every call. If an engine has fewer workers
        than the code, each keeps what several of the code's do, so losses come together: a warning says so.

    Raises
    ------
    InvalidArgument
        If there are fewer parts than workers, or an argument is invalid.
    CannotSend
        If a part cannot be pickled.
    NotEnoughMemory
        If the workers are processes of this machine (`engines.Local`, ``ProcessPoolExecutor``), and what they
        keep would not fit into the free memory. Counted are arrays, sparse matrices,
        bytes, objects with ``nbytes``, and sequences and mappings of these.

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
            raise no_code(code, "one for sums, such as FractionalRepetition(12, 2)")
        self._parts = cut = _cut(parts, code.workers)
        self.code = code
        """Which worker holds which parts."""
        self.engine = engine_of_slots(engine, None, code.workers)
        """Where the parts are."""
        if isinstance(engine, (Local, ProcessPoolExecutor)):
            sizes = [_bytes(part) for part in self._parts]
            held = builtins.sum(sizes[part] for n in range(code.workers) for part in code.held(n))
            total = builtins.sum(sizes)
            check_room(
                2 * held,
                f"{code.workers} workers on this machine, which keep {held / max(total, 1):.2f} times the parts' "
                f"{size(total)}, with as much on its way to them",
                "Let each part be what fn opens on the worker, such as a path or a range of rows of a file, allow fewer "
                "stragglers, or cast to float32",
            )
        narrow = code.amplification <= _NARROW
        coefficients = [code.coefficients(worker) for worker in range(code.workers)]
        self.coefficients = coefficients

        # It does not refer to self, so that workers forget the parts as soon as these are dropped.
        def shard(worker: int) -> Shard:
            held = tuple((part, cut[part]) for part in code.held(worker))
            return Shard(worker, held, coefficients[worker], narrow)

        self.placed = Placed(self.engine, map(shard, range(code.workers)), shard)

    def __len__(self) -> int:
        """How many parts there are; runs of rows, for an array."""
        return builtins.sum(map(len, self._parts))

    def __getstate__(self) -> Any:
        raise CannotSend(
            "CodedParts belong to the process and the engine where they were placed, and cannot be pickled or "
            "copied: keep the parts and the code, and place them anew"
        )

    def __repr__(self) -> str:
        return f"<CodedParts: {many(len(self), 'part')} on {many(self.code.workers, 'worker')} by {self.code!r}>"


class _SumJob(PlacedJob[SumResult]):
    """One sum while it is computed."""

    def __init__(
        self,
        shards: CodedParts,
        function: CombinedFunction,
        stop: StoppingRule,
        *,
        throw: bool,
        show: Callable[[LiveJob], None],
    ) -> None:
        decoder = SumDecoder(shards.code, shards.coefficients)
        super().__init__(shards.placed, decoder, stop, throw=throw, partial=not throw, show=show)
        self._shards, self._function = shards, Measured(function)

    def send(self, kept: Kept) -> Future[Any]:
        return self.engine.submit(kept.worker, self._function, kept)

    def finish(self, outcome: Outcome, seen: Progress, *, last: bool) -> bool:
        """Decode the sum; not if answers are too few or contradict each other, and further ones may help."""
        value, exact = self.decoder.nan(), False
        try:
            if not seen.decodable:
                raise self._too_few(seen)
            value, exact = self.decoder.decode(seen.answered)
        except NotEnoughAnswers as reason:
            if not last:
                return False
            if self._throw:
                failure = self._undecoded(reason, outcome, seen)
                raise failure from failure.__cause__
        self._result = SumResult(
            value=value,
            exact=exact,
            parts=len(self._shards),
            rejected=self.decoder.rejected(seen.answered),
            **self.record(outcome, seen),
            received=self.decoder.received,
        )
        return True

    def _too_few(self, seen: Progress) -> NotEnoughAnswers:
        code = self._shards.code
        needed = code.workers - code.stragglers
        enough = f"any {needed} would be enough by {code!r}"
        if len(seen.answered) - len(self.decoder.rejected(seen.answered)) >= needed:
            enough = f"{needed} are enough on paper, but by {code!r} these would enlarge rounding too much"
        return NotEnoughAnswers(f"the sum cannot be decoded from them, and {enough}")

    def _undecoded(
        self, reason: NotEnoughAnswers, outcome: Outcome, seen: Progress
    ) -> CodedmapError:
        rejected = self.decoder.rejected(seen.answered)
        unusable = [
            f"{len(rejected)} with what cannot be used or contradicts the others (worker {worker}: {why})"
            for worker, why in list(rejected.items())[:1]
        ]
        wrong = any(isinstance(error, InvalidAnswer) for error in self._failures.values())
        again = [] if wrong else ["call again (parts that were lost are sent again)"]
        return undecoded(reason, seen, outcome, self._failures, *again, unusable=unusable)


def _coded_parts(parts: Any, code: SumCode | None, engine: Engine | Executor | None) -> CodedParts:
    if isinstance(parts, CodedParts):
        if code not in (None, parts.code) or engine not in (None, parts.engine):
            raise InvalidArgument(
                "these parts are placed already, by another code or on another engine: leave code and "
                "engine out, or place them anew with CodedParts"
            )
        return parts
    if code is None or engine is None:
        raise InvalidArgument(
            "parts that are not placed need code= and engine=; to add them up more than once, place "
            "them with CodedParts(parts, code=..., engine=...)"
        )
    return CodedParts(parts, code=code, engine=engine)


def _cut(parts: Any, count: int) -> list[tuple[Any, ...]]:
    """The items of each of ``count`` parts; raises `InvalidArgument` if they cannot be cut into so many."""
    is_array = hasattr(parts, "shape")
    if not is_array:
        if isinstance(parts, (str, bytes, Mapping)) or not isinstance(parts, Iterable):
            raise InvalidArgument(
                f"parts of type {type(parts).__name__} cannot be cut: give an array or a sequence of parts"
            )
        parts = list(parts)
    length = (parts.shape[0] if parts.shape else 0) if is_array else len(parts)
    if length < count:
        raise InvalidArgument(
            f"{many(length, 'row' if is_array else 'part')} for the {count} workers of the code, each of which needs "
            "one: cut them finer, or use fewer workers. Arrays that belong "
            "together are cut together: list(zip(np.array_split(X, N), np.array_split(y, N)))"
        )
    ends = [length * number // count for number in range(count + 1)]
    runs = [slice(begin, end) for begin, end in pairwise(ends)]
    if not is_array:
        return [tuple(parts[run]) for run in runs]
    rows = getattr(parts, "iloc", parts)  # a pandas index of floats may be cut by its labels
    try:
        return [(rows[run],) for run in runs]
    except (TypeError, NotImplementedError) as error:
        raise InvalidArgument(
            f"a {type(parts).__name__} of shape {parts.shape} cannot be cut along its first axis: "
            f"{str(error) or 'it has no rows'}. Give a sequence of parts, or what can be cut, such as an "
            "array or a sparse matrix .tocsr()"
        ) from error


def _bytes(item: Any) -> int:
    """Bytes of an item, as far as its arrays and bytes tell them."""
    if isinstance(item, (tuple, list)):
        return builtins.sum(map(_bytes, item))
    if isinstance(item, Mapping):
        return builtins.sum(map(_bytes, item.values()))
    if isinstance(item, (bytes, bytearray)):
        return len(item)
    if scipy.sparse.issparse(item):
        names = ("data", "indices", "indptr", "coords")
        return builtins.sum(_bytes(getattr(item, name, ())) for name in names)
    size = getattr(item, "nbytes", 0)
    return int(size) if isinstance(size, Integral) else 0
