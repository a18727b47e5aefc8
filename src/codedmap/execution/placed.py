"""What each worker of a code keeps, and jobs that call it there: sums and matrix products."""

from __future__ import annotations

import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Any, Generic, NamedTuple, TypeVar

from ..contracts.engine import Reply, members_of
from ..contracts.stopping import Outcome, Progress, StoppingRule
from ..engines import Engine, Kept
from ..errors import EngineError, KeptLost, NotStarted
from .chunks import ChunkScheduler, CodedJob
from .events import Call, Decode, Decoded, Loss
from .failures import Failures
from .live import LiveJob, Looking, Work, in_order, patience_of

_POLLED = 0.05  # seconds


class Placed:
    """A value of its own on each worker of a code; where the engine has fewer workers, some keep several.

    ``again`` makes the value of a worker once more, when it was lost.
    """

    def __init__(self, engine: Engine, values: Iterable[Any], again: Callable[[int], Any]) -> None:
        self.engine = engine
        """Where the values are."""
        self._again = again
        self._living = in_order(members_of(engine))
        until = time.monotonic() + patience_of(engine)
        while not self._living and time.monotonic() < until:  # they may be replaced just now
            time.sleep(_POLLED)
            self._living = in_order(members_of(engine))
        if not self._living:
            raise EngineError(f"all workers of {engine!r} have left: start some")
        self._where: list[int] = []
        self.kept: list[Kept] = []
        """What stands for each value; some may be known to be lost."""
        for number, value in enumerate(values):
            self._where.append(self._living[number % len(self._living)])
            self.kept.append(engine.keep(self._where[number], value))

    def __len__(self) -> int:
        return len(self.kept)

    def where(self, worker: int) -> int:
        """The worker of the engine that keeps the value of this worker of the code."""
        return self._where[worker]

    def move(self) -> None:
        """Have other workers of the engine keep the values of those that have left."""
        living = members_of(self.engine)
        if living.keys() == set(self._living):
            return
        self._living = in_order(living)
        load = dict.fromkeys(self._living, 0)
        for keeper in self._where:
            if keeper in load:
                load[keeper] += 1
        for worker, keeper in enumerate(self._where):
            if keeper not in load and load:
                self._where[worker] = other = min(load, key=load.__getitem__)
                load[other] += 1
                self.kept[worker].lost = True

    def on(self, worker: int) -> Kept:
        """What stands for this worker's value; sends it there once more if it was lost."""
        if self.kept[worker].lost:
            self.kept[worker] = self.engine.keep(self._where[worker], self._again(worker))
        return self.kept[worker]


class Ended(NamedTuple):
    """How calls have ended."""

    outcome: Outcome
    seen: Progress
    final: bool
    """Whether no further answer can come."""
    failures: Mapping[int, BaseException]
    repaired: tuple[int, ...]
    """Workers whose value was placed again."""
    seconds: float

    def record(self) -> dict[str, Any]:
        """What results say of it."""
        return {
            "answered": tuple(sorted(self.seen.answered)),
            "abandoned": tuple(sorted(self.seen.running - self.failures.keys())),
            "failed": Failures(self.failures),
            "repaired": self.repaired,
            "outcome": self.outcome,
            "seconds": self.seconds,
        }


R = TypeVar("R")


class PlacedJob(Work, Generic[R]):
    """One call of each worker of a code, on what it keeps, until the stopping rule is satisfied.

    The decoder takes answers (``add``), and says what can be made of those of some workers (``decodable``, ``estimable``,
    ``worst``: the largest standard error of a result from the answers so far). With ``throw`` a result that is neither
    exact nor good enough for the stopping rule is an error; ``partial`` as for `CodedJob`.
    """

    costly = False
    """Whether what was lost is placed again only if nothing can be decoded without."""

    def __init__(
        self, placed: Placed, decoder: Any, stop: StoppingRule, *, throw: bool, partial: bool
    ) -> None:
        self.placed, self.decoder = placed, decoder
        self._stop, self._throw, self._partial = stop, throw, partial
        self._failures: dict[int, BaseException] = {}
        self._repaired: dict[int, None] = {}
        self._taken = 0
        self._result: R | None = None

    def send(self, engine: Engine, worker: int, kept: Kept) -> Future[Any]:
        """Send a call, whose answer is a `Reply`."""
        raise NotImplementedError

    def finish(self, ended: Ended) -> bool:
        """Make the result, or raise; False: further answers are needed, and may come."""
        raise NotImplementedError

    def _is_last(self, ended: Ended) -> bool:
        """Whether no further answers are waited for."""
        over = ended.final or ended.outcome is Outcome.DEADLINE
        return over or self._stop.wake_after(ended.seen) == 0.0

    def run(self, show: Callable[[LiveJob], None] = lambda job: None) -> R:
        """Run the job to its end; ``show`` is called with the `LiveJob` after each event."""
        placed = self.placed
        placed.move()
        most = max(Counter(map(placed.where, range(len(placed)))).values())
        job = CodedJob(
            1,
            hedge=None,
            retries=1,
            ahead=most - 1,  # a worker's calls are sent at once
            size=1,
            slots=len(placed),
            tasks=1,
            own={},
            decodable=lambda chunk, workers: self.decoder.decodable(workers),
            rule=self._stop,
            stderr=self._worst,
            bound=True,
            partial=self._partial,
            where=placed.where,
            patience=patience_of(placed.engine),
        )
        scheduler = ChunkScheduler(job)
        live = LiveJob(scheduler, placed.engine, self, changed=placed.move)
        # Both refer to this, and the answers must not wait for the collector.
        self._scheduler, self._live = weakref.proxy(scheduler), weakref.proxy(live)
        self._looking = Looking(live)
        for _ in live.run(show):
            pass
        assert self._result is not None
        return self._result

    def _worst(self, chunk: int, last: bool) -> float | None:
        """The largest standard error; None if there is none yet, or no time to look."""

        def look() -> float | None:
            answered = frozenset(self._scheduler.chunks[chunk].answered)
            return self.decoder.worst() if self.decoder.estimable(answered) else None

        return self._looking.worst(chunk, self._taken, last, look)

    def submit(self, engine: Engine, call: Call) -> Future[Any]:
        """Call what the worker keeps; if it was lost, it is placed again."""
        if self.placed.kept[call.slot].lost:
            self._repaired[call.slot] = None
        self._failures.pop(call.slot, None)
        kept = self.placed.on(call.slot)  # a job of another thread may have moved it just now
        return self.send(engine, kept.worker, kept)

    def answered(self, call: Call, reply: Reply) -> tuple[int, ...]:
        if call.wanted:
            self.decoder.add(call.slot, reply.values)
            self._taken += 1
        return ()

    def lost(self, call: Call, error: BaseException, loss: Loss) -> Loss:
        """Keep the reason; a call of what was lost is made again, if it is needed."""
        if isinstance(error, KeptLost):
            self.placed.kept[call.slot].lost = True
            if self.costly or call.slot in self._repaired:
                loss = Loss.CRASHED
        if call.wanted:
            self._failures[call.slot] = error
        return loss

    def decode(self, decision: Decode) -> Decoded:
        seconds = self._live.seconds
        seen = self._scheduler.seen(decision.chunk, seconds)
        for slot in sorted(seen.failed - self._failures.keys()):
            self._failures[slot] = NotStarted("no worker was left that could make the call")
        ended = Ended(
            decision.outcome,
            seen,
            decision.final,
            dict(self._failures),
            tuple(self._repaired),
            seconds,
        )
        return Decoded(self._live.seconds, decision.chunk, enough=self.finish(ended))
