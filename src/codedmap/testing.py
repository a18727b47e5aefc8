"""Engines for tests: one that follows a script without any process, one that adds faults to another.

>>> import numpy as np, codedmap as cm
>>> script = {0: cm.testing.never(), 3: cm.testing.crash(), 5: cm.testing.corrupt(lambda a: -a)}
>>> with cm.testing.Scripted(8, script) as engine:
...     result = cm.map(np.sin, np.ones((8, 2)), code=cm.Replication(2, 8), engine=engine,
...                     stop=cm.Quorum(6))
>>> result.answered, result.abandoned, tuple(result.failed), result.rejected
((1, 2, 4, 5, 6, 7), (0,), (3,), (5,))
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any

from .contracts.arguments import check_whole, check_worker, is_real
from .contracts.closing import Closing
from .contracts.engine import Engine, Kept, Member, Reply, Watched
from .errors import Abandoned, InvalidArgument, KeptLost, NotStarted, WorkerCrashed

__all__ = [
    "Act", "Faulty", "Scripted", "ScriptedCluster", "corrupt", "crash", "fail", "late", "never",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Act:
    """What one call does instead of just answering; the functions of this module make them."""

    seconds: float = 0.0
    """Delay before the answer; infinite: none ever comes."""
    error: BaseException | None = None
    """Raised instead of an answer."""
    crash: bool = False
    """The worker dies instead of answering."""
    change: Callable[[Any], Any] | None = None
    """Applied to the answer, which is wrong then."""

    def __post_init__(self) -> None:
        if not is_real(self.seconds) or not self.seconds >= 0:
            raise InvalidArgument(f"seconds={self.seconds!r} must be a number of at least 0")
        if self.error is not None and not isinstance(self.error, BaseException):
            raise InvalidArgument(
                f'error={self.error!r} cannot be raised: give an exception, such as OSError("no network")'
            )


def late(seconds: float) -> Act:
    """An act: the answer comes late.

    Parameters
    ----------
    seconds : float
        Delay, at least 0.
    """
    return Act(seconds=seconds)


def never() -> Act:
    """An act: the worker lives, but never answers."""
    return Act(seconds=float("inf"))


def crash(seconds: float = 0.0) -> Act:
    """An act: the worker dies during the call.

    Parameters
    ----------
    seconds : float
        Delay before it dies.
    """
    return Act(seconds=seconds, crash=True)


def fail(error: BaseException, seconds: float = 0.0) -> Act:
    """An act: the call raises.

    Parameters
    ----------
    error : BaseException
        The exception to raise, such as ``OSError("no network")``.
    seconds : float
        Delay before it is raised.
    """
    return Act(seconds=seconds, error=error)


def corrupt(change: Callable[[Any], Any], seconds: float = 0.0) -> Act:
    """An act: the answer is wrong.

    Parameters
    ----------
    change : callable
        From the right answer to the wrong one.
    seconds : float
        Delay before the answer.
    """
    return Act(seconds=seconds, change=change)


Script = Mapping[int, "Act | Sequence[Act]"]


def _acts(script: Script, engine: Engine) -> dict[int, Iterator[Act]]:
    """The acts of each worker's calls, in order; raises `InvalidArgument` for a script that cannot be followed."""
    if not isinstance(script, Mapping):
        raise InvalidArgument(
            f"script={script!r:.80} must be a mapping from workers to acts, such as {{0: codedmap.testing.crash()}}"
        )
    for worker, acts in script.items():
        if not hasattr(engine, "members"):  # workers that have not joined yet may have acts
            check_worker(worker, engine.workers)
        for act in acts if isinstance(acts, Sequence) else [acts]:
            if not isinstance(act, Act):
                raise InvalidArgument(
                    f"the script of worker {worker} has {act!r}, which is not an act: use "
                    "codedmap.testing.late(2.0) and its like, or a sequence of these"
                )
    return {w: repeat(acts) if isinstance(acts, Act) else iter(acts) for w, acts in script.items()}


class Scripted(Closing):
    """An engine without processes: calls are answered, delayed, corrupted or lost as a script says.

    Calls run in the caller's thread when they are submitted, and answer at once or after their
    delay. It passes the contract tests of engines but one: ``fn`` itself is not isolated from the caller, so it
    must neither end its process nor wait.

    Parameters
    ----------
    workers : int
        How many workers there are.
    script : mapping of int to Act, or to a sequence of Act
        By worker: what each of its calls does, or what its first, second, ... call does (calls
        after these just answer).
    """

    in_process = True

    def __init__(self, workers: int, script: Script | None = None) -> None:
        self._workers = check_whole("workers", workers, 1)
        self._acts = _acts(script or {}, self)
        self._kept: dict[int, list[Kept]] = {}
        self._pending: dict[Future[Any], tuple[int, threading.Timer | None]] = {}
        self.calls: list[tuple[int, Any]] = []
        """Worker and payload of every call, in order."""

    @property
    def workers(self) -> int:
        """How many workers there are."""
        return self._workers

    def submit(self, worker: int, fn: Any, payload: Any) -> Future[Any]:
        """Follow the script of this worker."""
        check_worker(worker, self._workers)
        future: Future[Any] = Future()
        self.calls.append((worker, payload))
        act = next(self._acts.get(worker, iter(())), Act())
        if any(isinstance(value, Kept) and value.lost for value in (fn, payload)):
            future.set_exception(KeptLost("the kept value died with its worker: keep it again"))
            return future
        fn, payload = (v.key if isinstance(v, Kept) else v for v in (fn, payload))
        if act.seconds == float("inf"):
            self._pending[future] = worker, None
            return future
        deliver = self._prepared(worker, act, future, fn, payload)
        if act.seconds > 0:
            timer = threading.Timer(act.seconds, deliver)
            timer.daemon = True
            self._pending[future] = worker, timer
            timer.start()
        else:
            deliver()
        return future

    def keep(self, worker: int, value: Any) -> Kept:
        """Keep a value until this worker crashes."""
        check_worker(worker, self._workers)
        kept = Kept(worker, value)
        self._kept.setdefault(worker, []).append(kept)
        return kept

    def abandon(self, futures: Iterable[Future[Any]]) -> None:
        """End delays that are still running, with `Abandoned`."""
        self._end(futures, Abandoned("the delay was ended: its call was abandoned"))

    def close(self) -> None:
        """End all delays."""
        timers = [timer for _, timer in tuple(self._pending.values()) if timer is not None]
        self.abandon(tuple(self._pending))
        for timer in timers:
            if timer.is_alive() and timer is not threading.current_thread():
                timer.join()

    def _end(self, futures: Iterable[Future[Any]], error: BaseException) -> None:
        for future in futures:
            pending = self._pending.pop(future, None)
            if pending is None:
                continue
            if pending[1] is not None:
                pending[1].cancel()
            with contextlib.suppress(InvalidStateError):  # it has just answered
                future.set_exception(error)

    def _die(self, worker: int) -> None:
        for kept in self._kept.pop(worker, []):
            kept.lost = True

    def _prepared(
        self, worker: int, act: Act, future: Future[Any], fn: Any, payload: Any
    ) -> Callable[[], None]:
        answer, error = None, act.error
        if act.crash:
            error = WorkerCrashed(f"worker {worker} crashed, as its script says")
        if error is None:
            try:
                answer = _answer(fn(payload), act)
            except (Exception, SystemExit) as raised:
                error = raised

        def deliver() -> None:
            self._pending.pop(future, None)
            if act.crash:
                self._die(worker)
            with contextlib.suppress(InvalidStateError):  # abandoned or cancelled just now
                if error is None:
                    future.set_result(answer)
                else:
                    future.set_exception(error)

        return deliver


class ScriptedCluster(Watched, Scripted):
    """A `Scripted` engine whose workers join and leave. One that crashes has left, and none takes its place.

    Parameters
    ----------
    domains : sequence of hashable
        The failure domain of each worker at the beginning, or None: workers of one domain fail together.
    script : mapping of int to Act, or to a sequence of Act
        As for `Scripted`, by numbers that are never used again.
    """

    def __init__(self, domains: Sequence[Hashable], script: Script | None = None) -> None:
        super().__init__(len(domains), script)
        self._living = {number: Member(domain) for number, domain in enumerate(domains)}

    @property
    def workers(self) -> int:
        """How many workers there are now."""
        return len(self._living)

    def members(self) -> Mapping[int, Member]:
        """The workers that there are now."""
        return dict(self._living)

    def join(self, domain: Hashable = None) -> int:
        """A worker joins; its number."""
        worker = self._workers
        self._workers += 1
        self._living[worker] = Member(domain)
        self._changed()
        return worker

    def leave(self, worker: int) -> None:
        """A worker dies, and with it its calls and what it kept."""
        self._die(worker)

    def submit(self, worker: int, fn: Any, payload: Any) -> Future[Any]:
        """Follow the script of this worker, if it has not left."""
        check_worker(worker, self._workers)
        if worker in self._living:
            sent = super().submit(worker, fn, payload)
            if worker not in self._living:  # it has left meanwhile, in another thread
                self._end([sent], _left(worker))
            return sent
        future: Future[Any] = Future()
        future.set_exception(NotStarted(f"worker {worker} had left before the call began"))
        return future

    def keep(self, worker: int, value: Any) -> Kept:
        """Keep a value until this worker leaves."""
        kept = super().keep(worker, value)
        kept.lost = worker not in self._living
        return kept

    def _die(self, worker: int) -> None:
        super()._die(worker)
        if self._living.pop(worker, None) is not None:
            self._changed()
            calls = [future for future, (at, _) in tuple(self._pending.items()) if at == worker]
            self._end(calls, _left(worker))


def _left(worker: int) -> WorkerCrashed:
    return WorkerCrashed(f"worker {worker} has left, as its script says")


class Faulty:
    """Another engine whose workers really sleep, die, raise and return wrong answers, as a script says.

    Parameters
    ----------
    engine : Engine
        Where the calls run; the caller closes it.
    script : mapping of int to Act, or to a sequence of Act
        As for `Scripted`; `corrupt` needs a function that the engine can send. Calls of values that
        are kept have their acts as well.
    """

    def __init__(self, engine: Engine, script: Script) -> None:
        self._engine = engine
        self._acts = _acts(script, engine)

    def __getattr__(self, name: str) -> Any:
        if name in (
            "members",
            "watch",
            "unwatch",
            "setup",
            "load",
            "last_loss",
            "memory_limit",
            "ends",
        ):
            return getattr(self._engine, name)
        raise AttributeError(f"Faulty has no attribute {name!r}")

    @property
    def workers(self) -> int:
        """As many as the engine has."""
        return self._engine.workers

    @property
    def in_process(self) -> bool:
        """As the engine."""
        return getattr(self._engine, "in_process", False)

    def submit(self, worker: int, fn: Any, payload: Any) -> Future[Any]:
        """Send the call with its act, which the worker performs."""
        if not hasattr(self._engine, "members"):
            check_worker(worker, self.workers)
        act = next(self._acts.get(worker, iter(())), Act())
        kept = isinstance(fn, Kept), isinstance(payload, Kept)
        if act == Act() and kept != (False, True):
            return self._engine.submit(worker, fn, payload)
        if kept == (True, True):
            raise InvalidArgument(
                "Faulty cannot add a fault to a call of a kept function on a kept payload: send one of "
                "them with the call"
            )
        if kept == (True, False):
            return self._engine.submit(worker, fn, _Sent(payload, act))
        return self._engine.submit(worker, _Sent(fn, act), payload)

    def keep(self, worker: int, value: Any) -> Kept:
        """Keep a value on the engine's worker, as something to which acts can be sent."""
        return self._engine.keep(worker, _Sent(value))

    def abandon(self, futures: Iterable[Future[Any]]) -> None:
        """As the engine does."""
        self._engine.abandon(futures)

    def end(self, futures: Iterable[Future[Any]]) -> None:
        """As the engine does."""
        getattr(self._engine, "end", self._engine.abandon)(futures)


@dataclass(frozen=True, slots=True)
class _Sent:
    """A function or a payload, kept or not, in a wrapper; one of the two carries the act of the call."""

    value: Any
    act: Act | None = None

    def __call__(self, payload: Any) -> Any:
        act = self.act
        if isinstance(payload, _Sent):
            payload, act = payload.value, act or payload.act
        act = act or Act()
        time.sleep(min(act.seconds, 3600.0))
        if act.crash:
            os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
        if act.error is not None:
            raise act.error
        return _answer(self.value(payload), act)


def _answer(answer: Any, act: Act) -> Any:
    """An answer as this act changes it; the act's delay counts as time of the function."""
    if isinstance(answer, Reply):
        answer = replace(answer, seconds=answer.seconds + act.seconds)
        return answer if act.change is None else answer.changed(act.change)
    return answer if act.change is None else act.change(answer)
