"""Arguments that jobs with a code have in common, checked."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any

from ..contracts.code import Code
from ..contracts.engine import no_engine
from ..contracts.stopping import (
    Decodable,
    Quorum,
    Slower,
    StoppingRule,
    asks_stderr,
    best_case,
    is_rule,
    parts_of,
    tolerance_of,
)
from ..contracts.warning import warn_caller
from ..engines import Engine, FromExecutor, Resident
from ..engines.queue_engine import QueueEngine
from ..errors import InvalidArgument, many
from .coded import no_stderr


def checked_engine(engine: Any, fn: Any, workers: int = 8) -> Engine:
    """The engine, if it is one and ``fn`` can run there; an error suggests so many workers."""
    # A class has the attributes of its engines, so that isinstance takes it for one.
    if isinstance(engine, type) or not isinstance(engine, Engine):
        raise no_engine(engine, workers)
    if isinstance(fn, Resident) and fn.engine is not engine:
        raise InvalidArgument(
            "fn is resident on another engine than the one given: give engine=fn.engine"
        )
    if engine.workers < 1 and not hasattr(engine, "members"):  # others may be about to join
        raise InvalidArgument(f"engine={engine!r} has no workers: start some")
    if isinstance(engine, QueueEngine):
        engine.warn_of_reloaded()
    return engine


def engine_of_slots(engine: Any, fn: Any, slots: int) -> Engine:
    """The engine, or that of an executor, for a code with so many slots; warns if it has fewer workers, but some."""
    if isinstance(engine, Executor):
        engine = FromExecutor(engine, slots)
    found = checked_engine(engine, fn, slots)
    if 0 < found.workers < slots:
        warn_caller(
            f"the code has {many(slots, 'worker')} and the engine {found.workers}: one lost or slow "
            "worker takes several answers with it, which the code's stragglers do not allow for. Give an engine with "
            f"{many(slots, 'worker')}, or a code with {found.workers}"
        )
    return found


def check_unnamed(rule: StoppingRule) -> None:
    """Raise `InvalidArgument` if the rule has tolerances by the names of outputs, which only jobs of rows know."""
    tolerance = tolerance_of(rule)
    if tolerance is not None and tolerance.outputs:
        raise InvalidArgument(
            f"{tolerance} names outputs, and with a code a tolerance is one number, for all of them: give the smallest"
        )


def checked_rule(stop: StoppingRule | None, code: Any) -> StoppingRule:
    """The stopping rule of a job with a code; raises `InvalidArgument` if it does not suit the code, or never stops."""
    if stop is None:
        return Quorum(code.workers - code.stragglers) & Decodable()
    usual = f"Quorum({code.workers - code.stragglers})"
    if not is_rule(stop):
        raise InvalidArgument(f"stop={stop!r:.80} is not a stopping rule: give one such as {usual}")
    check_unnamed(stop)
    if asks_stderr(stop) and not getattr(code, "has_stderr", True):
        raise no_stderr(stop, code)
    everyone = frozenset(range(code.workers))
    ending = best_case(everyone, everyone, frozenset(), 0.0, True)
    instead = f"give {usual} or Deadline(2)"
    if isinstance(code, Code):  # and not one for a sum or a matrix
        instead += ", or leave out the code"
    if any(isinstance(part, Slower) for part in parts_of(stop)):
        raise InvalidArgument(
            f"{stop} compares the times of rows, which a code computes together: {instead}"
        )
    if stop.verdict(ending) is None and stop.wake_after(ending) is None:
        raise InvalidArgument(
            f"the stopping rule {stop} would not stop even when all {code.workers} workers have answered: {instead}"
        )
    return stop
