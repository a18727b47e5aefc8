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
from ..execution.stream import Settings, checked_engine, checked_rule, send
from ..execution.wave import Wave
from ..planning.auto import auto
from ..results.map_result import MapResult
from ..results.progress_bar import progress_bar
from ..results.summary import given_as

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
    """Run ``fn`` on every row of ``inputs``; finish when enough workers have answered.

    The rows are cut into groups of K tasks; the code makes N payloads of each group, and worker n
    computes ``fn`` on one batch, its payload of every group. When the stopping rule is satisfied, all rows
    are decoded from the answers so far; calls that still run are abandoned.

    Parameters
    ----------
    fn : callable
        Batch to batch, row by row: (b, *x) -> (b, *y), like a model's ``predict``; `itemwise` lifts
        a function of one input. Or a `codedmap.engines.Resident` on the same engine.
    inputs : array-like, shape (m, *x)
        m >= 1 rows; floating point for codes that mix. The dtype is kept.
    code : Code or "auto"
        How payloads are made from tasks, and estimates from answers. "auto": the code that `plan` finds
        best for a random sample of the rows and the engine's workers, with at most 3 worker calls a
        task. The number of late workers it plans for is the number that ``stop`` does not wait for, or a
        fifth of them if the rule counts no answers. The engine computes what the plan needs, each row
        twice in case a worker is lost: about as many calls as the rows themselves, at most a few
        thousand rows. ``result.plan`` describes it; give ``code=result.code`` next time to skip planning.
    engine : Engine or concurrent.futures.Executor
        Where payloads are computed. With fewer workers than the code has, slot n runs on worker
        n mod workers, so losses come together: a warning says so.
    stop : StoppingRule, optional
        When to stop waiting. By default ``Quorum(N - S) & Decodable()``. A worker that hangs
        without dying is waited for unless the rule contains a `Deadline`.
    hedge : Hedge, optional
        Send late tasks once more. The job then also ends as soon as every row is exact.
    throw : bool
        If True, raise when the rows cannot be decoded, or the stopping rule cannot be satisfied any
        more. If False, return what there is: rows that cannot be decoded are NaN with an infinite
        standard error, and ``outcome`` says why waiting ended.
    progress : bool
        If True, draw a progress bar on the error stream if that is a terminal.

    Returns
    -------
    MapResult

    Raises
    ------
    InvalidArgument
        If an argument is invalid; nothing has been computed then.
    NotEnoughMemory
        If the payloads would not fit into the free memory (N/K times the inputs, twice).
    CannotSend
        If ``fn`` cannot be pickled.
    NotEnoughAnswers
        If the answers cannot be decoded, or calls failed so often that the stopping rule can never be
        satisfied; the first worker's exception is the cause.
    EngineError
        If no call was answered because the engine has broken down.
    InvalidAnswer
        If ``fn`` does not return one array with a row per row of its payload.
    """
    wave, settings = _encoded(fn, inputs, code, engine, stop=stop, hedge=hedge, throw=throw)
    [result] = send(wave, settings, progress_bar(progress))
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
    """Run ``fn`` on every row of ``inputs``, and give results that improve as answers come.

    The first result comes as soon as the answers can be decoded, and further ones after further
    answers, each decoded from all answers so far. Their ``outcome`` is `Outcome.WAITING`, except
    for the last result, which is the one that `map` would have returned. Decoding the results before the
    last takes at most a tenth of the time, so answers in quick succession may share a result.

    Parameters
    ----------
    fn, inputs, code, engine, stop, hedge, throw, progress
        As for `map`. Arguments are checked and payloads sent at the call, not at the first result.

    Returns
    -------
    generator of MapResult
        At least one. Closing the generator abandons the calls that still run, and so does leaving a
        loop over it if nothing else refers to it; ``contextlib.closing`` makes sure. The stopping rule is
        evaluated only while the caller waits for the next result.

    Raises
    ------
    CodedmapError
        As `map`, in place of the last result.
    """
    wave, settings = _encoded(fn, inputs, code, engine, stop=stop, hedge=hedge, throw=throw)
    return send(wave, settings, progress_bar(progress), early=True)


def _encoded(
    fn: Callable[[Any], Any] | Resident,
    inputs: Any,
    code: Code | Literal["auto"],
    engine: Engine | Executor,
    *,
    stop: StoppingRule | None,
    hedge: Hedge | None,
    throw: bool,
) -> tuple[Wave, Settings]:
    """Check the arguments, choose a code if "auto", and encode the inputs."""
    rows, hedge = shaped_rows(inputs), checked_hedge(hedge)
    plan = None
    if isinstance(code, str) and code == "auto":
        if isinstance(engine, Engine):  # before a plan is made
            checked_rule(stop, Uncoded(engine.workers))
        check_finite(rows)
        plan = auto(fn, rows, engine, stop, given=given_as(inputs))
        code = plan.code
    if not isinstance(code, Code):
        kind = "a code for codedmap.sum" if isinstance(code, SumCode) else "no code"
        raise InvalidArgument(
            f'code={code!r} is {kind}: give one such as Replication(8, 16), or "auto"'
        )
    if not callable(fn) and not isinstance(fn, Resident):
        raise InvalidArgument(f"fn={fn!r} cannot be called")
    engine = checked_engine(engine, fn, code.workers)
    settings = Settings(fn, engine, checked_rule(stop, code), hedge, throw)
    return (
        Wave(code, rows, plan=plan, given=given_as(inputs), hedged=hedge is not None),
        settings,
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
