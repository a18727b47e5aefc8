"""`map` and `stream`: run a function on K inputs over N unreliable workers."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..codes import Uncoded
from ..contracts.code import Code
from ..contracts.inputs import check_finite, shaped_rows
from ..contracts.stopping import StoppingRule
from ..contracts.sum_code import SumCode
from ..engines import Engine, Resident
from ..errors import InvalidArgument
from ..execution.hedge import Hedge, checked_hedge
from ..execution.stream import checked_engine, checked_rule, sent
from ..execution.wave import Wave
from ..planning.auto import auto
from ..results.map_result import MapResult
from ..results.progress_bar import progress_bar

__all__ = ["Itemwise", "itemwise", "map", "stream"]


def map(
    fn: Callable[[Any], Any] | Resident,
    inputs: Any,
    *,
    code: Code | Literal["auto"],
    engine: Engine | Executor,
    stop: StoppingRule | None = None,
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
    stop : StoppingRule, optional
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
    [result] = _results(
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


def stream(
    fn: Callable[[Any], Any] | Resident,
    inputs: Any,
    *,
    code: Code | Literal["auto"],
    engine: Engine | Executor,
    stop: StoppingRule | None = None,
    hedge: Hedge | None = None,
    throw: bool = True,
    progress: bool = False,
) -> Generator[MapResult, None, None]:
    """Run ``fn`` on every row of ``inputs``, with ever better results while answers come.

    The first result comes as soon as the answers can be decoded, and further ones after further
    answers, each decoded anew from all that has come. Their ``outcome`` is `Outcome.WAITING`, but
    for the last, which is what `map` would have returned. Decoding for those before the last takes
    at most a tenth of the time, so when answers come in quick succession some share a result.

    Parameters
    ----------
    fn, inputs, code, engine, stop, hedge, throw, progress
        As for `map`. Arguments are checked and payloads sent at the call, not at the first result.

    Returns
    -------
    generator of MapResult
        At least one. Closing it abandons whatever still runs, as leaving a loop over it does when
        nothing else refers to it; ``contextlib.closing`` makes sure. While the caller is busy with
        a result nothing else is decided: the stop rule is asked when the next one is wanted.

    Raises
    ------
    CodedmapError
        As `map`, in place of the last result where that would have been raised.
    """
    return _results(
        fn,
        inputs,
        code=code,
        engine=engine,
        stop=stop,
        hedge=hedge,
        throw=throw,
        progress=progress,
        early=True,
    )


def _results(
    fn: Callable[[Any], Any] | Resident,
    inputs: Any,
    *,
    code: Code | Literal["auto"],
    engine: Engine | Executor,
    stop: StoppingRule | None,
    hedge: Hedge | None,
    throw: bool,
    progress: bool,
    early: bool,
) -> Generator[MapResult, None, None]:
    """Check, encode and send; then give results as they get better if ``early``, and the last one."""
    rows, hedge = shaped_rows(inputs), checked_hedge(hedge)
    plan = None
    if isinstance(code, str) and code == "auto":
        if isinstance(engine, Engine):  # or it takes a plan to find out
            checked_rule(stop, Uncoded(engine.workers))
        check_finite(rows)
        plan = auto(fn, rows, engine, stop)
        code = plan.code
    if not isinstance(code, Code):
        kind = "a code for codedmap.sum" if isinstance(code, SumCode) else "no code"
        raise InvalidArgument(
            f'code={code!r} is {kind}: give one such as Replication(8, 16), or "auto"'
        )
    if not callable(fn) and not isinstance(fn, Resident):
        raise InvalidArgument(f"fn={fn!r} cannot be called")
    engine = checked_engine(engine, fn, code.workers)
    stop = checked_rule(stop, code)
    wave = Wave(code, rows, plan=plan, hedged=hedge is not None)
    return sent(
        wave,
        fn,
        engine=engine,
        stop=stop,
        hedge=hedge,
        throw=throw,
        showing=progress_bar(progress),
        early=early,
    )


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
