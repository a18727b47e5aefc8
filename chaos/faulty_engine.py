"""An engine whose workers have faults, for one wave."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from codedmap import MapResult
from codedmap.engines import Engine, Kept

from .faults import Fault

__all__ = ["FaultyEngine", "numbers"]


def numbers(engine: Engine) -> list[int]:
    """The workers that an engine has now."""
    members = getattr(engine, "members", lambda: range(engine.workers))
    return sorted(members())


@dataclass(frozen=True, slots=True)
class _With:
    """Rows of a call, and the fault with which they are computed."""

    fault: Fault
    batch: Any


@dataclass(frozen=True, slots=True)
class _Task:
    """The task of a job, which also takes calls with a fault."""

    task: Any

    def __call__(self, sent: Any) -> Any:
        if not isinstance(sent, _With):
            return self.task(sent)
        faulty = partial(sent.fault.run, self.task.fn)
        return replace(self.task, fn=faulty)(sent.batch)


class FaultyEngine:
    """Wraps an engine; the calls on some workers run a fault.

    Parameters
    ----------
    engine : Engine
        The engine that runs the calls.
    faults : mapping of int to Fault
        By worker.
    """

    def __init__(self, engine: Engine, faults: Mapping[int, Fault]) -> None:
        self._engine = engine
        self.faults = faults

    def __getattr__(self, name: str) -> Any:
        if name in ("members", "watch", "unwatch"):
            return getattr(self._engine, name)
        raise AttributeError(name)

    @property
    def workers(self) -> int:
        """Number of workers of the engine."""
        return self._engine.workers

    def submit(self, worker: int, fn: Any, payload: Any) -> Future[Any]:
        """Submit the call with its fault, if any."""
        fault = self.faults.get(worker)
        return self._engine.submit(worker, fn, payload if fault is None else _With(fault, payload))

    def keep(self, worker: int, value: Any) -> Kept:
        """Keep the task of a job, so that calls of it may have a fault."""
        return self._engine.keep(worker, _Task(value))

    def slots(self, result: MapResult) -> dict[int, int]:
        """The slots of the code that workers with faults computed, and which workers."""
        calls = ((call.slot, int(str(call.worker))) for call in result.calls)
        return {slot: worker for slot, worker in calls if worker in self.faults}

    def abandon(self, futures: Iterable[Future[Any]]) -> None:
        """Forward to the engine."""
        self._engine.abandon(futures)
