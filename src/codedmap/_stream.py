"""The door `stream`: ever better results while answers come; `map` is the last of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator
from concurrent.futures import Executor
from typing import Any, Literal, cast

from ._code import Code
from ._collect import Budget
from ._display import Showing, shown
from ._errors import InvalidArgument
from ._hedge import Hedge, Hedging, checked_hedge
from ._planning.auto import auto
from ._result import MapResult
from ._rows import check_finite, shaped_rows
from ._rules import Decodable, Quorum, StopRule, asks_stderr, at_best
from ._sums.code import SumCode
from ._wave import Wave, no_stderr
from .codes import Uncoded
from .engines import Engine, FromExecutor, Resident

__all__ = ["checked_engine", "checked_rule", "results", "sent", "stream"]

_DECODING = 0.1  # the share of the time that results before the last may take


def stream(
    fn: Callable[[Any], Any] | Resident,
    inputs: Any,
    *,
    code: Code | Literal["auto"],
    engine: Engine | Executor,
    stop: StopRule | None = None,
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
    return results(
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


def results(
    fn: Callable[[Any], Any] | Resident,
    inputs: Any,
    *,
    code: Code | Literal["auto"],
    engine: Engine | Executor,
    stop: StopRule | None,
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
        showing=shown(progress),
        early=early,
    )


def sent(
    wave: Wave,
    fn: Callable[[Any], Any] | Resident,
    *,
    engine: Engine,
    stop: StopRule,
    hedge: Hedge | None,
    throw: bool,
    showing: Showing,
    early: bool,
) -> Generator[MapResult, None, None]:
    """Send a wave; then give results as they get better if ``early``, and the last one."""
    found = _found(
        wave,
        fn,
        engine=engine,
        stop=stop,
        hedge=hedge,
        throw=throw,
        showing=showing,
        early=early,
    )
    next(found)  # sends, and from then on closing it abandons
    return cast("Generator[MapResult, None, None]", found)


def _found(
    wave: Wave,
    fn: Callable[[Any], Any] | Resident,
    *,
    engine: Engine,
    stop: StopRule,
    hedge: Hedge | None,
    throw: bool,
    showing: Showing,
    early: bool,
) -> Generator[MapResult | None, None, None]:
    """None when everything is sent, then results."""
    with showing as show, wave.calls(engine, stop) as calls:

        def on(worker: int) -> Any:
            return fn.on(worker) if isinstance(fn, Resident) else fn

        for slot in range(wave.slots):
            calls.submit(slot, on(slot), wave.payload(slot))
        yield None
        decoding, told = Budget(calls, _DECODING), 0
        hedging = Hedging(
            hedge,
            calls,
            missing=wave.missing,
            send=lambda slot, worker: calls.submit_again(
                slot, worker, on(worker), wave.payload(slot)
            ),
            worst_first=wave.worst_first,
            liars=wave.liars,
        )
        for known in calls:
            seen, possible = hedging.hopeful(known)
            show(seen)
            outcome = wave.outcome(seen, stop, possible, throw=throw)
            if outcome is not None:
                last = wave.result(outcome, seen, stop, calls, possible, throw=throw)
                if last is not None:
                    break
            hedging.send(seen)
            heard = len(seen.answered) + calls.disowned
            news = outcome is None and seen.decodable and heard > told
            if early and news and decoding.allows():
                told = heard
                with decoding:
                    result = wave.so_far(calls)
                if result is not None:
                    yield result
            wave.disown(calls)
        else:
            raise AssertionError("a wave in which nobody is left running has a result or raises")
    yield last  # with nobody working any more


def checked_engine(engine: Any, fn: Any, slots: int, depth: int = 4) -> Engine:
    if isinstance(engine, Executor):
        engine = FromExecutor(engine, slots)
    # A class has the attributes of its engines, so it passes for one.
    if isinstance(engine, type) or not isinstance(engine, Engine):
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
            stacklevel=depth,
        )
    return engine


def checked_rule(stop: StopRule | None, code: Any) -> StopRule:
    if stop is None:
        return Quorum(code.workers - code.stragglers) & Decodable()
    if isinstance(stop, type) or not (hasattr(stop, "verdict") and hasattr(stop, "wake_after")):
        raise InvalidArgument(f"stop={stop!r} is no stop rule: give one such as Quorum(20)")
    if asks_stderr(stop) and not getattr(code, "has_stderr", True):
        raise no_stderr(stop, code)
    everyone = frozenset(range(code.workers))
    ending = at_best(everyone, everyone, frozenset(), 0.0, True)
    if stop.verdict(ending) is None and stop.wake_after(ending) is None:
        raise InvalidArgument(
            f"the stop rule {stop} would not stop even when all {code.workers} workers have answered"
        )
    return stop
