"""The door `map`: run a function on K inputs over N unreliable workers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._answers import all_finite
from ._code import Code
from ._display import shown
from ._errors import InvalidArgument
from ._result import MapResult
from ._rules import Decodable, Progress, Quorum, StopRule
from ._wave import Wave
from .engines import Engine, FromExecutor, Resident

__all__ = ["Itemwise", "itemwise", "map"]


def map(
    fn: Callable[[Any], Any] | Resident,
    inputs: Any,
    *,
    code: Code,
    engine: Engine | Executor,
    stop: StopRule | None = None,
    throw: bool = True,
    progress: bool = False,
) -> MapResult:
    """Run ``fn`` on every row of ``inputs``, done when the fast workers are done.

    The rows are cut into groups of K tasks; the code makes N payloads of each group, and worker n
    computes ``fn`` on one batch, its payload of every group. When the stop rule says so, all rows
    are decoded from the answers that came; what still runs is abandoned.

    Parameters
    ----------
    fn : callable
        Batch to batch, row by row: (b, *x) -> (b, *y), like a model's ``predict``; `itemwise` lifts
        a function of one input. Or a `codedmap.engines.Resident` on the same engine.
    inputs : array-like, shape (m, *x)
        m >= 1 rows; floating point for codes that mix. The dtype is kept.
    code : Code
        How tasks become payloads, and answers become estimates.
    engine : Engine or concurrent.futures.Executor
        Where payloads are computed. With fewer workers than the code has, slot n runs on worker
        n mod workers, so losses come together: a warning says so.
    stop : StopRule, optional
        When to stop waiting. By default ``Quorum(N - S) & Decodable()``. A worker that hangs
        without dying is waited for unless the rule contains a `Deadline`.
    throw : bool
        Whether to raise when the rows cannot be decoded, or the stop rule cannot be satisfied any
        more. If False, return what there is: rows that cannot be decoded are NaN with an infinite
        standard error, and ``outcome`` says why we stopped.
    progress : bool
        Draw a progress bar on the error stream, if that is a terminal.

    Returns
    -------
    MapResult

    Raises
    ------
    InvalidArgument
        If an argument cannot work; nothing has been computed then.
    NotEnoughMemory
        If the payloads would not fit into the free memory (N/K times the inputs, twice).
    CannotSend
        If ``fn`` cannot be pickled.
    NotEnoughAnswers
        If the answers cannot be decoded, or calls failed so often that the stop rule can never be
        satisfied; the first worker's exception is the cause.
    InvalidAnswer
        If ``fn`` does not return one array with a row per row of its payload.
    """
    rows = _checked_rows(inputs)
    if not isinstance(code, Code):
        raise InvalidArgument(f"code={code!r} is no code: give one such as Replication(8, 16)")
    if not callable(fn) and not isinstance(fn, Resident):
        raise InvalidArgument(f"fn={fn!r} cannot be called")
    engine = _checked_engine(engine, fn, code.workers)
    stop = _checked_rule(stop, code)
    wave = Wave(code, rows)
    with shown(progress, code.workers) as show, wave.calls(engine, stop) as calls:
        for slot in range(code.workers):
            call = fn.on(slot) if isinstance(fn, Resident) else fn
            calls.submit(slot, call, wave.payload(slot))
        for seen in calls:
            show(seen)
            outcome = wave.outcome(seen, stop, throw=throw)
            if outcome is None:
                continue
            result = wave.result(outcome, seen, stop, calls, throw=throw)
            if result is not None:
                return result
    raise AssertionError("a wave in which nobody is left running has a result or raises")


@dataclass(frozen=True)
class Itemwise:
    """A function of one input, applied to each row of a batch; made by `itemwise`."""

    fn: Callable[[Any], Any]

    def __call__(self, batch: Any) -> np.ndarray:
        return np.stack([np.asarray(self.fn(item)) for item in batch])


def itemwise(fn: Callable[[Any], Any]) -> Itemwise:
    """Lift a function of one input to one of a batch, as `map` needs it.

    Examples
    --------
    >>> import numpy as np, codedmap as cm
    >>> cm.itemwise(lambda x: x.sum())(np.array([[1.0, 2.0], [3.0, 4.0]]))
    array([3., 7.])
    """
    return Itemwise(fn)


def _checked_rows(inputs: Any) -> np.ndarray:
    try:
        rows = np.asarray(inputs)
    except Exception as error:
        raise InvalidArgument(
            f"inputs cannot be made an array: {error}. All rows must have the same shape"
        ) from error
    if rows.ndim == 0:
        raise InvalidArgument(
            f"inputs must be an array with a row per input, but this is a single {type(inputs).__name__}"
        )
    if rows.size == 0:
        raise InvalidArgument(
            f"inputs of shape {rows.shape} are empty: there is nothing to compute"
        )
    if rows.dtype.kind in "fc" and not all_finite(rows):
        broken = ~np.isfinite(rows.reshape(len(rows), -1)).all(axis=1)
        raise InvalidArgument(
            f"{broken.sum()} of {len(rows)} input rows hold NaN or infinity (the first is row "
            f"{broken.argmax()}), which a mixture would spread to every payload: "
            "drop or fill these rows"
        )
    return rows


def _checked_engine(engine: Any, fn: Any, slots: int) -> Engine:
    if isinstance(engine, Executor):
        engine = FromExecutor(engine, slots)
    if not isinstance(engine, Engine):
        raise InvalidArgument(
            f"engine={engine!r} is neither an engine nor an Executor: give one such as "
            "codedmap.engines.Local(workers=8)"
        )
    if isinstance(fn, Resident) and fn.engine is not engine:
        raise InvalidArgument("fn is resident on another engine than the one given")
    if engine.workers < slots:
        warnings.warn(
            f"the code has {slots} workers and the engine {engine.workers}: one lost or slow "
            "worker takes several answers with it, which the code's stragglers do not allow for",
            stacklevel=3,
        )
    return engine


def _checked_rule(stop: StopRule | None, code: Code) -> StopRule:
    if stop is None:
        return Quorum(code.workers - code.stragglers) & Decodable()
    if isinstance(stop, type) or not (hasattr(stop, "verdict") and hasattr(stop, "wake_after")):
        raise InvalidArgument(f"stop={stop!r} is no stop rule: give one such as Quorum(20)")
    everyone = frozenset(range(code.workers))
    ending = Progress(everyone, everyone, frozenset(), 0.0, True)
    if stop.verdict(ending) is None and stop.wake_after(ending) is None:
        raise InvalidArgument(
            f"the stop rule {stop} would not stop even when all {code.workers} workers have answered"
        )
    return stop
