"""Values that workers of a code keep, and jobs that call them there: sums and matrix products."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from ..contracts.engine import Reply, members_of
from ..contracts.stopping import Outcome, Progress, StoppingRule
from ..engines import Engine, Kept
from ..errors import EngineError, KeptLost, NotStarted
from .chunks import ChunkScheduler, CodedJob
from .events import Call, Decode, Decoded, Kind, Loss
from .failures import Failures
from .hedge import Hedge
from .live import Brief, LiveJob, in_order, patience_of, weakly

_POLLED = 0.05  # seconds between checks for workers


class Placed:
    """A value for each worker of a code, kept on a worker of the engine; if there are fewer, some keep several.

    ``again`` makes the value of a worker of the code once more, after it was lost.
    """

    def __init__(self, engine: Engine, values: Iterable[Any], again: Callable[[int], Any]) -> None:
        self.engine = engine
        """The engine whose workers keep the values."""
        self._again = again
        self._living = in_order(members_of(engine))
        until = time.monotonic() + patience_of(engine)
        while not self._living and time.monotonic() < until:  # others may be about to join
            time.sleep(_POLLED)
            self._living = in_order(members_of(engine))
        if not self._living:
            raise EngineError(f"all workers of {engine!r} have left: start some")
        self.rejected: dict[int, str] = {}
        """Workers of the engine that are not called, with the reason."""
        self._where: list[int] = []  # see `where`
        self.kept: list[Kept] = []
        """The reference to each value; some may be known to be lost."""
        for number, value in enumerate(values):
            around, place = divmod(number, len(self._living))
            # Shifted each time around: copies of a value, often N/2 slots apart, go to different workers.
            self._where.append(self._living[(place + around) % len(self._living)])
            self.kept.append(engine.keep(self._where[number], value))

    def __len__(self) -> int:
        return len(self.kept)

    def where(self, worker: int) -> int:
        """The worker of the engine that keeps the value of this worker of the code."""
        return self._where[worker]

    def out(self) -> frozenset[int]:
        """The workers of the code whose values are on rejected workers."""
        return frozenset(n for n, keeper in enumerate(self._where) if keeper in self.rejected)

    def move(self) -> None:
        """Move values from workers of the engine that have left, or keep more than their share, to others."""
        living = members_of(self.engine)
        if living.keys() == set(self._living):
            return
        self._living = in_order(living)
        load = dict.fromkeys((n for n in self._living if n not in self.rejected), 0)
        moved = []
        for worker, keeper in enumerate(self._where):
            if keeper in self.rejected and keeper in living:
                continue
            if keeper in load and load[keeper] < len(self._where) / len(load):
                load[keeper] += 1
            else:
                moved.append(worker)
        for worker in moved if load else ():
            self._where[worker] = least = min(load, key=load.__getitem__)
            load[least] += 1
            self.kept[worker].lost = True

    def on(self, worker: int) -> Kept:
        """The reference to this worker's value, which is sent once more if it was lost."""
        if self.kept[worker].lost:
            self.kept[worker] = self.engine.keep(self._where[worker], self._again(worker))
        return self.kept[worker]

    def copy(self, worker: int, keeper: int) -> Kept:
        """The reference to a second copy of this worker's value, on another worker of the engine."""
        return self.engine.keep(keeper, self._again(worker))


R = TypeVar("R")


class PlacedJob(LiveJob, Generic[R]):
    """One call of each worker of a code, on the value that it keeps, until the stopping rule is satisfied.

    The decoder takes answers (``add``), and says whether those of some workers give the result (``decodable``) or an
    estimate of it (``estimable``), and its largest standard error (``worst``). With ``throw`` a result that is neither
    exact nor good enough for the stopping rule is an error; ``partial`` as for `CodedJob`.
    """

    scheduler: ChunkScheduler
    costly = False
    """Whether a lost value is placed again only if nothing can be decoded without it, and none is copied while its worker
    is late."""

    def __init__(
        self,
        placed: Placed,
        decoder: Any,
        stop: StoppingRule,
        *,
        throw: bool,
        partial: bool,
        show: Callable[[LiveJob], None] = lambda job: None,
    ) -> None:
        self.placed, self.decoder = placed, decoder
        self._stop, self._throw = stop, throw
        self._failures: dict[int, BaseException] = {}
        self._repaired: dict[int, None] = {}  # workers whose value was placed again
        self._copies: list[Kept] = []  # second copies of values, of workers that are late
        self._taken = 0  # answers
        self._result: R | None = None
        placed.move()
        most = max(Counter(map(placed.where, range(len(placed)))).values())
        job = CodedJob(
            1,
            hedge=None if self.costly else Hedge().budget,
            retries=1,
            ahead=most - 1,  # a worker's calls are sent at once
            size=1,
            slots=len(placed),
            tasks=1,
            own={},
            decodable=lambda chunk, workers: decoder.decodable(workers),
            rule=stop,
            stderr=weakly(self._worst),
            bound=True,
            partial=partial,
            where=placed.where,
            out=placed.out(),
            patience=patience_of(placed.engine),
        )
        super().__init__(ChunkScheduler(job), placed.engine, show=show)

    def send(self, kept: Kept) -> Future[Any]:
        """Send a call of a kept value, whose answer is a `Reply`."""
        raise NotImplementedError

    def finish(self, outcome: Outcome, seen: Progress, *, last: bool) -> bool:
        """Make the result, or raise; returns False if it needs further answers, and these are not the ``last``."""
        raise NotImplementedError

    def record(self, outcome: Outcome, seen: Progress) -> dict[str, Any]:
        """The fields of results that say how calls have ended."""
        return {
            "answered": tuple(sorted(seen.answered)),
            "abandoned": tuple(sorted(seen.running - self._failures.keys())),
            "failed": Failures(self._failures),
            "repaired": tuple(self._repaired),
            "outcome": outcome,
            "seconds": seen.seconds,
        }

    def run(self) -> R:
        """Run the job to its end."""
        with Brief():
            for _ in self.steps():
                pass
        assert self._result is not None
        return self._result

    def workers_changed(self) -> None:
        self.placed.move()

    def _worst(self, chunk: int, last: bool) -> float | None:
        """The largest standard error; None if there is none yet, or no time to look."""

        def look() -> float | None:
            answered = frozenset(self.scheduler.chunks[chunk].answered)
            return self.decoder.worst() if self.decoder.estimable(answered) else None

        return self.largest_stderr(chunk, self._taken, last, look)

    def submit(self, call: Call) -> Future[Any]:
        """Call the value that the worker keeps; if it was lost, it is placed again. A hedge calls a copy of it elsewhere."""
        if call.kind is Kind.HEDGE:
            keeper: Any = call.worker
            self._copies.append(self.placed.copy(call.slot, keeper))
            return self.send(self._copies[-1])
        if self.placed.kept[call.slot].lost:
            self._repaired[call.slot] = None
        self._failures.pop(call.slot, None)
        kept = self.placed.on(call.slot)  # a job of another thread may have moved it just now
        return self.send(kept)

    def answered(self, call: Call, reply: Reply) -> tuple[int, ...]:
        if call.wanted:
            self.decoder.add(call.slot, reply.values)
            self._taken += 1
        return ()

    def lost(self, call: Call, error: BaseException, loss: Loss) -> Loss:
        """Keep the reason; a call whose value was lost is made again, if it is needed."""
        if call.kind is Kind.HEDGE:
            return loss
        if isinstance(error, KeptLost):
            self.placed.kept[call.slot].lost = True
            if self.costly or call.slot in self._repaired:
                loss = Loss.CRASHED
        if call.wanted:
            self._failures[call.slot] = error
        return loss

    def decode(self, decision: Decode) -> Decoded:
        number, outcome, final = decision
        seen = self.scheduler.seen(number, self.seconds)
        for slot in sorted(seen.failed - self._failures.keys()):
            self._failures[slot] = NotStarted("no worker was left that could make the call")
        over = final or outcome is Outcome.DEADLINE
        last = over or self._stop.wake_after(seen) == 0.0
        return Decoded(self.seconds, number, enough=self.finish(outcome, seen, last=last))
