"""The one waiting loop of the library, and its only clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from ..contracts.closing import Closing
from ..contracts.stopping import Progress, StoppingRule
from ..engines import Engine
from ..errors import Abandoned, NotStarted, WorkerLost
from ..results.calls import CallRecord
from .budget import Budget

__all__ = ["Collection"]

_TICK = 1.0  # some systems deliver Ctrl-C only between waits
_LOOKING = 0.05  # the share of the time that `Progress.stderr` may take


class _Call(NamedTuple):
    slot: int
    worker: int
    again: bool


class Collection(Closing):
    """The calls of one wave: submit them, iterate over what is known, leave when it is enough.

    Iterating yields a `Progress` at the start, after each batch of arrivals, and when the stop
    rule or a budget asked to be woken; it ends by itself when nobody is left running. Leaving the
    ``with`` block abandons whatever still runs.

    Parameters
    ----------
    engine : Engine
        Where the calls run; with fewer workers than slots, slot n is worker n mod workers.
    stop : StoppingRule
        Asked only when to wake up; its verdict is the caller's business.
    take : callable
        Given slot and answer of each call that succeeds: of a slot whose call was sent again, both.
    decodable : callable
        Whether these slots' answers can be decoded.
    stderr : callable
        The largest standard error of an estimate made of what ``take`` was given; called only if
        that can be estimated, once for the same answers, and for at most 5 % of the time.
    estimable : callable, optional
        Whether there is an estimate from these slots' answers; by default, if they can be decoded.
    """

    def __init__(
        self,
        engine: Engine,
        stop: StoppingRule,
        *,
        take: Callable[[int, Any], None],
        decodable: Callable[[frozenset[int]], bool],
        stderr: Callable[[], float | None],
        estimable: Callable[[frozenset[int]], bool] | None = None,
    ) -> None:
        self._engine = engine
        self._stop = stop
        self._take = take
        self._decodable = decodable
        self._stderr = stderr
        self._estimable = decodable if estimable is None else estimable
        self._asked: set[int] = set()
        self._running: dict[Future[Any], tuple[_Call, float]] = {}
        self._arrivals: SimpleQueue[Future[Any]] = SimpleQueue()
        self._answered: set[int] = set()
        self._taken = 0
        self._unasked = set(range(engine.workers))
        self._proven: dict[int, None] = {}
        self._began = time.monotonic()
        self._wake: float | None = None
        self._looking = Budget(self, _LOOKING)
        self._looked: tuple[int, float | None] = (0, None)
        self.present: set[int] = set()
        """Slots whose own call has answered."""
        self.failures: dict[int, BaseException] = {}
        """What went wrong in slots' own calls, in the order of arrival."""
        self.again: dict[int, int] = {}
        """Slots that were sent again, and to which worker; without those since disowned."""
        self.saved: set[int] = set()
        """Those of them whose second call has answered, and was the first to do so."""
        self.hedges = 0
        """How many calls were sent again."""
        self.disowned = 0
        """How many slots lost their answer by `disown`."""
        self.records: list[CallRecord] = []
        """The calls that have ended."""
        self.taking: tuple[int, bool] = (0, False)
        """Whose answer ``take`` is being given: the worker, and whether it was sent again."""

    def submit(self, slot: int, fn: Any, payload: Any) -> None:
        """Send the call of a slot; again, if it has failed before."""
        self.failures.pop(slot, None)
        self._send(_Call(slot, slot % self._engine.workers, again=False), fn, payload)

    def submit_again(self, slot: int, worker: int, fn: Any, payload: Any) -> None:
        """Send a slot's call, which may have none yet, to this worker; its first answer counts."""
        self.again[slot] = worker
        self.hedges += 1
        self._send(_Call(slot, worker, again=True), fn, payload)

    def free(self) -> list[int]:
        """Workers with nothing to do: those that have answered, in turn, then those never asked."""
        busy = {call.worker for call, _ in self._running.values()}
        return [w for w in (*self._proven, *sorted(self._unasked)) if w not in busy]

    def disown(self, slot: int) -> bool:
        """Take no account of what a slot that was sent again has answered; it may be sent once more.

        Returns whether that slot has no answer now. Then what is known is yielded again at once.
        """
        if slot not in self.saved:
            return False  # its own call was first
        self.saved.remove(slot)
        del self.again[slot]
        if slot in self.present:
            return False
        self._answered.remove(slot)
        self.disowned += 1
        self.wake_at(0.0)
        return True

    @property
    def absent(self) -> set[int]:
        """Slots whose own call is still running."""
        return {call.slot for call, _ in self._running.values() if not call.again}

    @property
    def seconds(self) -> float:
        """Since the collection was made."""
        return time.monotonic() - self._began

    @property
    def running(self) -> bool:
        """Whether anybody may still answer for a slot that has no answer."""
        return bool(self._open() - self._answered)

    def wake_at(self, seconds: float) -> None:
        """Yield again at this time, if nothing has arrived before."""
        self._wake = seconds if self._wake is None else min(self._wake, seconds)

    def __iter__(self) -> Iterator[Progress]:
        while True:
            self._wake = None
            answered = frozenset(self._answered)
            seen = Progress(
                asked=frozenset(self._asked),
                answered=answered,
                failed=frozenset(self._asked - answered - self._open()),
                seconds=self.seconds,
                decodable=self._decodable(answered),
                stderr=self._worst,
            )
            yield seen
            # Nor has our caller sent anything more, or wants to look again.
            if not self.running and self._wake is None:
                return
            wake = self._stop.wake_after(seen)
            if wake is not None:
                self.wake_at(seen.seconds + wake)  # however long it took our caller to go on
            self._wait(self._wake)

    def close(self) -> None:
        """Abandon whatever still runs."""
        self._engine.abandon(list(self._running))

    def _send(self, call: _Call, fn: Any, payload: Any) -> None:
        start = self.seconds
        future = self._engine.submit(call.worker, fn, payload)
        self._running[future] = call, start  # first: `close` abandons it after a KeyboardInterrupt
        self._asked.add(call.slot)
        self._unasked.discard(call.worker)
        future.add_done_callback(self._arrivals.put)

    def _open(self) -> set[int]:
        return {call.slot for call, _ in self._running.values()}

    def _worst(self) -> float | None:
        count = self._taken
        if count != self._looked[0]:
            if not self._estimable(frozenset(self._answered)) or not self._looking.allows():
                return None
            with self._looking:
                self._looked = count, self._stderr()
        return self._looked[1]

    def _wait(self, until: float | None) -> None:
        while True:
            left = _TICK if until is None else min(_TICK, until - self.seconds)
            try:
                self._receive(self._arrivals.get(timeout=max(0.0, left)))
                break
            except Empty:
                if until is not None and self.seconds >= until:
                    break
        while not self._arrivals.empty():
            self._receive(self._arrivals.get())

    def _receive(self, future: Future[Any]) -> None:
        (slot, worker, again), start = self._running.pop(future)
        try:
            # Asked for, not raised: fn may have raised SystemExit, which is no reason for us to exit.
            error = future.exception()
        except CancelledError:
            error = Abandoned("the call was cancelled by somebody else")
        kind, seconds = "hedge" if again else "first", self.seconds - start
        self.records.append(
            CallRecord(range(0), 0, slot, worker, "", start, seconds, _outcome(error), kind)
        )
        if error is not None:
            self._proven.pop(worker, None)
            if not again:
                self.failures[slot] = error
            return
        self._proven.setdefault(worker)
        if not again:
            self.present.add(slot)
        elif slot not in self._answered:
            self.saved.add(slot)
        self.taking = worker, again
        self._take(slot, future.result())
        self._taken += 1
        self._answered.add(slot)


def _outcome(error: BaseException | None) -> str:
    """How a call ended, as a `CallRecord` says it."""
    kinds = {Abandoned: "abandoned", NotStarted: "not started", WorkerLost: "crashed"}
    if error is None:
        return "answered"
    return next((name for kind, name in kinds.items() if isinstance(error, kind)), "raised")
