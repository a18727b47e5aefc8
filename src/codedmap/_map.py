"""The door `map`: run a function on K inputs over N unreliable workers."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ._code import Code
from ._hedge import Hedge
from ._result import MapResult
from ._rules import StopRule
from ._stream import results
from .engines import Engine, Resident

__all__ = ["Itemwise", "itemwise", "map"]


def map(
    fn: Callable[[Any], Any] | Resident,
    inputs: Any,
    *,
    code: Code | Literal["auto"],
    engine: Engine | Executor,
    stop: StopRule | None = None,
    hedge: Hedge | None = None,
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
    code : Code or "auto"
        How tasks become payloads, and answers become estimates. "auto": the one that `plan` finds
        best for some of the rows (at random) and the engine's workers, where a task may take up to
        3 worker calls, and as many workers are late as ``stop`` goes without, or a fifth of them if
        it counts no answers. The engine computes what the plan needs, each row twice for the case
        that a worker is lost: about as many calls as the rows themselves, at most a few thousand
        rows. ``result.plan`` tells; give ``code=result.code`` next time, and no plan is needed.
    engine : Engine or concurrent.futures.Executor
        Where payloads are computed. With fewer workers than the code has, slot n runs on worker
        n mod workers, so losses come together: a warning says so.
    stop : StopRule, optional
        When to stop waiting. By default ``Quorum(N - S) & Decodable()``. A worker that hangs
        without dying is waited for unless the rule contains a `Deadline`.
    hedge : Hedge, optional
        Send what is late once more. Then the wave is over as soon as every row is exact, too.
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
    EngineError
        If the engine has broken down: nothing else came of the calls.
    InvalidAnswer
        If ``fn`` does not return one array with a row per row of its payload.
    """
    [result] = results(
        fn,
        inputs,
        code=code,
        engine=engine,
        stop=stop,
        hedge=hedge,
        throw=throw,
        progress=progress,
        early=False,
    )
    return result


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
