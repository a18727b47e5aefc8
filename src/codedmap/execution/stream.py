"""The waiting loop of `map`, `stream` and `waves`: ever better results while answers come."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, cast

from ..contracts.engine import no_engine
from ..contracts.stopping import Decodable, Quorum, StoppingRule, asks_stderr, best_case
from ..engines import Engine, FromExecutor, Resident
from ..errors import InvalidArgument
from ..results.map_result import MapResult
from ..results.progress_bar import ProgressDisplay
from .collect import Budget
from .hedge import Hedge, Hedging
from .wave import Wave, no_stderr

__all__ = ["Settings", "checked_engine", "checked_rule", "send"]

_DECODING = 0.1  # the share of the time that results before the last may take


@dataclass(frozen=True, slots=True)
class Settings:
    """What is run and how, the same for all waves of a job: arguments of `map`, checked."""

    fn: Callable[[Any], Any] | Resident
    engine: Engine
    stop: StoppingRule
    hedge: Hedge | None
    throw: bool


def send(
    wave: Wave, settings: Settings, showing: ProgressDisplay, *, early: bool = False
) -> Generator[MapResult, None, None]:
    """Send a wave; the generator gives results as they improve if ``early``, and the last one."""
    results = _results(wave, settings, showing, early)
    next(results)  # sends; from then on closing it abandons
    return cast("Generator[MapResult, None, None]", results)


def _results(
    wave: Wave, settings: Settings, showing: ProgressDisplay, early: bool
) -> Generator[MapResult | None, None, None]:
    """None when all calls are sent, then results."""
    fn, stop, throw = settings.fn, settings.stop, settings.throw
    with showing as show, wave.calls(settings.engine, stop) as calls:

        def on(worker: int) -> Any:
            return fn.on(worker) if isinstance(fn, Resident) else fn

        for slot in range(wave.slots):
            calls.submit(slot, on(slot), wave.payload(slot))
        yield None
        decoding, told = Budget(calls, _DECODING), 0
        hedging = Hedging(
            settings.hedge,
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
        raise no_engine(engine, "neither an engine nor an Executor")
    if isinstance(fn, Resident) and fn.engine is not engine:
        raise InvalidArgument("fn is resident on another engine than the one given")
    if engine.workers < slots:
        warnings.warn(
            f"the code has {slots} workers and the engine {engine.workers}: one lost or slow "
            "worker takes several answers with it, which the code's stragglers do not allow for",
            stacklevel=depth,
        )
    return engine


def checked_rule(stop: StoppingRule | None, code: Any) -> StoppingRule:
    if stop is None:
        return Quorum(code.workers - code.stragglers) & Decodable()
    if isinstance(stop, type) or not (hasattr(stop, "verdict") and hasattr(stop, "wake_after")):
        raise InvalidArgument(f"stop={stop!r} is no stop rule: give one such as Quorum(20)")
    if asks_stderr(stop) and not getattr(code, "has_stderr", True):
        raise no_stderr(stop, code)
    everyone = frozenset(range(code.workers))
    ending = best_case(everyone, everyone, frozenset(), 0.0, True)
    if stop.verdict(ending) is None and stop.wake_after(ending) is None:
        raise InvalidArgument(
            f"the stop rule {stop} would not stop even when all {code.workers} workers have answered"
        )
    return stop
