"""What `Local` and the engines of clusters share: in the caller a queue of calls for each worker."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any, Generic, TypeVar

from ..contracts.arguments import check_worker, is_real
from ..contracts.closing import Closing
from ..contracts.engine import CallFuture, Kept
from ..contracts.warning import warn_caller
from ..errors import Abandoned, CannotSend, CodedmapError, EngineError, InvalidArgument, KeptLost
from .transport.failure import Failure
from .transport.parcel import Parcel, culprit, culprit_kept, discard, pack, pack_copy, receive
from .transport.serve import KeptKey, Request

_STANDARD = str(Path(os.__file__).parent)  # the standard library, whose modules are not edited
_DEATHS = 3  # deaths in setup, or two for each worker if that is more, after which it has failed
MUCH = 1 << 20
"""Kept values of at least so many bytes are released at once, and not with the next call."""


class _Condition(threading.Condition):
    # Entered and left by the methods of its lock, which are written in C; those of Condition are not.
    __enter__ = property(attrgetter("_lock.__enter__"))
    __exit__ = property(attrgetter("_lock.__exit__"))


class Answer(CallFuture):
    """The future of a call in a queue, whose lock is released even if Ctrl-C comes while the main thread holds it."""

    def __init__(self, queue: Any) -> None:
        super().__init__()
        self._condition = _Condition()
        self.queue = queue
        self.begun: list[float] = []

    def set_running_or_notify_cancel(self) -> bool:
        """As in `Future`; notes the time."""
        self.begun.append(time.monotonic())
        return super().set_running_or_notify_cancel()

    def cancel(self) -> bool:
        """As in `Future`; what the call would send does not wait for the worker, which a straggler may hold."""
        cancelled = super().cancel()
        if cancelled:
            self.queue._engine._soon(CallQueue.drop, self.queue, self)
        return cancelled


@dataclass(slots=True, eq=False)
class Call:
    """A request on its way to the worker, and its future."""

    request: Request
    future: Answer
    uses: tuple[Kept, ...] = ()
    """The kept values that it needs."""
    sends: weakref.ref[Kept] | None = None
    """The value that it sends to be kept; the call is of no use once nothing else refers to that."""
    restarted: bool = False
    """Whether a worker has ended without receiving it, and another was started for it."""
    engine: Any = None
    """Its engine: a reference that keeps it from ending before the call, though nothing else may refer to it."""

    @property
    def values(self) -> tuple[Kept, ...]:
        """The kept values that it needs, or sends."""
        sent = None if self.sends is None else self.sends()
        return self.uses if sent is None else (*self.uses, sent)

    @property
    def useless(self) -> bool:
        """Whether nothing refers to the value that it sends."""
        return self.sends is not None and self.sends() is None

    def sends_for(self, other: Call) -> bool:
        """Whether another call needs the value that it sends."""
        return any(kept.key == self.request.keep for kept in other.uses)

    def discard(self) -> None:
        """Remove its shared segments, if it has any."""
        for segment in (self.request.content.segment, self.request.answer):
            if segment is not None:
                discard(segment)

    def fail(self, error: BaseException, *, lost: bool = False) -> None:
        """Complete the future with an error; ``lost``: the kept values of the call are lost as well."""
        for kept in self.values if lost else ():
            kept.lost = True
        self.discard()
        self.engine = None  # the traceback of an error may refer to this call
        with contextlib.suppress(InvalidStateError):  # cancelled externally in the meantime
            self.future.set_exception(error)


class CallQueue:
    """A queue of calls, of which the worker gets one at a time.

    A call is taken out of ``_waiting`` or ``_running`` under the lock. Its future is completed after the lock is
    released, because that runs the callbacks attached to it.
    """

    def __init__(self, engine: Any, number: int) -> None:
        self.number, self._run, self._setups = number, engine.run, engine.setups
        self._engine = engine
        self._set_up = 0  # how many setups the worker has been sent
        self._lock = threading.RLock()
        self._waiting: deque[Call] = deque()
        self._running: Call | None = None
        self._kept: weakref.WeakValueDictionary[Any, Kept] = weakref.WeakValueDictionary()  # by key
        self._forget: deque[Any] = deque()  # keys of values that the worker can drop
        self._closed = False
        self._counter = itertools.count(1)  # for the keys of kept values, and names of segments

    def submit(self, fn: Any, payload: Any) -> Future[Any]:
        """Queue ``fn(payload)``; raises `EngineError` if one of them is kept on another worker."""
        uses = tuple(value for value in (fn, payload) if isinstance(value, Kept))
        for kept in uses:
            if kept.worker != self.number or kept.key[0] != self._run:
                raise EngineError(
                    f"{kept!r} was given to worker {self.number} of an engine where it is not: a kept "
                    "value stays on the worker where it was left"
                )
        named = (KeptKey(v.key) if isinstance(v, Kept) else v for v in (fn, payload))
        return self._queue(tuple(named), uses=uses)

    def keep(self, value: Any) -> Kept:
        """Queue a value to be kept on the worker."""
        kept = Kept(self.number, (self._run, self.number, next(self._counter)))
        weakref.finalize(kept, self._forget.append, kept.key).atexit = False
        self._queue(value, sends=kept)
        return kept

    def _queue(
        self, value: Any, uses: tuple[Kept, ...] = (), sends: Kept | None = None
    ) -> Future[Any]:
        """Queue a function and its payload, or a value to keep; ``uses`` and ``sends`` as for `Call`."""
        raise NotImplementedError

    def _pack(self, value: Any, segment: str | None, keep: Hashable) -> Parcel:
        """As `pack`; its error names the function or value that cannot be sent."""
        what = partial(culprit, *value) if keep is None else partial(culprit_kept, value)
        return pack(value, segment, what)

    @property
    def load(self) -> int:
        """How many calls have no answer yet. A value that is sent before the call that uses it counts as one with that call."""
        with self._lock:
            calls = [call for call in (self._running, *self._waiting) if call is not None]
        used = {kept.key for call in calls for kept in call.uses}
        return sum(call.request.keep is None or call.request.keep not in used for call in calls)

    def drop(self, future: Future[Any]) -> Future[Any] | None:
        """Drop a call that has not begun; if the worker has it, return the future to be ended after ``grace``."""
        with self._lock:
            call = next((call for call in self._waiting if call.future is future), None)
            if call is None:
                return None if self.running(future) is None else future
            useless = [other for other in self._waiting if other.useless]
            for dropped in (call, *useless):
                self._waiting.remove(dropped)
        for other in useless:
            other.discard()
        call.fail(Abandoned("the call was abandoned before it began"))
        return None

    def running(self, future: Future[Any]) -> Call | None:
        """The call of this future, if the worker has it."""
        call = self._running
        return call if call is not None and call.future is future else None

    def _begin_next(self) -> Call | None:
        """Make the next call, or a setup before it, the running one, and return it; None if there is none.

        Its request says which values the worker can drop, and which setup it needs. A call fails if a kept value that it
        uses is lost.
        """
        with self._lock:
            while self._running is None and self._waiting:
                if self._set_up < len(self._setups):
                    setup = Request(self._setups[self._set_up], None, setup=self._run)
                    call = Call(setup, Answer(self))
                    self._set_up += 1
                else:
                    call = self._waiting.popleft()
                if call.useless or not (
                    call.future.running() or call.future.set_running_or_notify_cancel()
                ):
                    call.discard()
                elif lost := [kept for kept in call.values if kept.lost]:
                    error = KeptLost(f"{lost[0]!r} died with its worker: keep it again")
                    self._engine._soon(call.fail, error)
                else:
                    self._running, request = call, call.request
                    for kept in call.values:
                        self._kept.setdefault(kept.key, kept)  # lost if the worker dies
                    request.after = self._run if self._set_up and request.setup is None else None
                    request.forget = tuple(self._forget.popleft() for _ in range(len(self._forget)))
                    return call
        return None

    def _lost_with(self, call: Call) -> Call:
        """The call that is lost if the worker dies during this one: the next call, if this one only prepares it."""
        if not self._waiting:
            return call
        # Otherwise a setup, or a value that the next call uses, would be sent for ever.
        opens = call.sends_for(self._waiting[0])
        return self._waiting.popleft() if opens or call.request.setup else call

    def _set_up_error(self, error: BaseException) -> BaseException:
        """The error for a worker that has died during its setup; `EngineError` if too many have."""
        engine = self._engine
        engine.setup_deaths += 1
        if engine.setup_deaths < max(_DEATHS, 2 * engine.workers):
            return error
        return EngineError(
            f"{engine.setup_deaths} workers have died during their setup and none has survived it, the last with: {error}. "
            "Correct the function given to setup, or let it need less memory, and make a new engine"
        )

    def _lose_kept(self) -> None:
        for held in self._kept.valuerefs():  # a list: other threads drop values meanwhile
            kept = held()
            if kept is not None:
                kept.lost = True
        self._kept.clear()

    def refuse_if_closed(self) -> None:
        if self._closed:
            raise EngineError("the engine has been closed: create a new one")

    def fail(self, error: CodedmapError) -> None:
        """Take no more calls, and fail those that have no answer."""
        for call in self._close():
            call.fail(error)

    def _close(self) -> tuple[Call, ...]:
        """Take no more calls; return those without an answer, which the caller of this is to fail."""
        with self._lock:
            self._closed = True
            dropped = (*self._waiting, *([self._running] if self._running else []))
            self._waiting.clear()
            self._running = None
        return dropped


def complete(call: Call, reply: Any, error: BaseException | None = None) -> None:
    """Complete a call with the answer in a worker's reply, or with an error."""
    answer = None
    try:
        if isinstance(reply, Failure):
            error = reply.to_exception(call.future.queue.number)
        elif error is None:
            answer = _opened(reply)
            call.future.nbytes = call.request.content.nbytes + reply.nbytes
    except BaseException as problem:  # an answer must not end the thread that delivers it
        error = problem
    if error is None:
        call.future.set_result(answer)
        return
    call.fail(error, lost=isinstance(error, KeptLost))


def _opened(reply: Parcel) -> Any:
    try:
        return receive(reply).unpack()
    except (ImportError, AttributeError) as error:  # its class is not known here
        raise CannotSend(
            f"the answer cannot be opened by the caller ({type(error).__name__}: {error}): install the module here, too, or "
            "return what any process can open, such as arrays and numbers"
        ) from error


def _spec(module: Any) -> Any:
    """The spec of a module, without loading one that is loaded at its first use."""
    with contextlib.suppress(AttributeError):
        return object.__getattribute__(module, "__spec__")
    return None


def _edited(spec: Any) -> float | None:
    """When the file of a module was edited last; None if it is not there."""
    with contextlib.suppress(OSError):
        return Path(str(getattr(spec, "origin", None))).stat().st_mtime
    return None


Q = TypeVar("Q", bound=CallQueue)


class QueueEngine(Closing, Generic[Q]):
    """The base class of engines in which each worker has a queue of calls in the caller.

    Subclasses implement how a worker is ended (`_end_later`) and how the engine is closed (``close``). ``grace`` is as
    in these, None: no limit. ``run`` names the engine, the values that it keeps, and its files.
    """

    def __init__(self, grace: float | None, run: str) -> None:
        if grace is not None and (not is_real(grace) or not grace >= 0):
            raise InvalidArgument(f"grace={grace!r} must be at least 0 seconds")
        self._grace = grace
        self.run = run
        self._queues: dict[int, Q] = {}
        self.setups: list[Parcel] = []
        """The functions given to `setup`."""
        self.setup_deaths = 0
        """Workers that have died during their setup since one survived it."""
        self._owner = os.getpid()
        self._modules = 0  # how many were loaded when the next attribute was updated
        self._specs: dict[str, Any] = {}  # of loaded modules that may be edited, and when that was

    def warn_of_reloaded(self) -> None:
        """Warn of modules that were reloaded here since an earlier job: workers do not reload them."""
        if self._modules != len(sys.modules):
            self._modules = len(sys.modules)
            for name, module in sys.modules.copy().items():
                spec = _spec(module)
                path = str(getattr(spec, "origin", None))
                installed = "-packages" in path or path.startswith(_STANDARD)
                if path.endswith(".py") and not installed and name != "__main__":
                    self._specs.setdefault(name, (spec, _edited(spec)))
        # IPython gives the functions of an edited file new code, and leaves the module's spec.
        in_place = "IPython.extensions.autoreload" in sys.modules
        for name, (spec, edited) in tuple(self._specs.items()):
            found = _spec(sys.modules.get(name))
            if found is not None and (found is not spec or (in_place and _edited(found) != edited)):
                self._specs[name] = found, _edited(found)
                warn_caller(
                    f"the module {name} was reloaded, and workers that have imported it go on with what it was: to run "
                    "what it is now, close the engine or pool and make another one"
                )

    @property
    def workers(self) -> int:
        """How many workers there are now."""
        return len(self._queues)

    def setup(self, fn: Callable[[], object]) -> None:
        """Have each worker call ``fn()`` once, before its next call; workers that start later, before their first.

        For what a worker process needs once, such as a licence or a model. If ``fn`` raises there, the calls of that
        worker fail with `EngineError`, whose cause is what it raised; so they do if no worker survives it. The time that
        it takes counts for no call.

        Raises
        ------
        CannotSend
            If ``fn`` cannot be pickled.
        EngineError
            If the engine was closed, or made by a process from which this one was forked.
        """
        self._check_usable()
        for queue in tuple(self._queues.values()):  # workers may join meanwhile
            queue.refuse_if_closed()
        if not callable(fn):
            raise InvalidArgument(f"setup({fn!r}): give a function without arguments")
        self.setups.append(pack_copy(fn))

    def submit(self, worker: int, fn: Any, payload: Any) -> Future[Any]:
        """Compute ``fn(payload)`` on a worker; see `Engine.submit`.

        Raises
        ------
        CannotSend
            If ``fn`` or the payload cannot be pickled.
        EngineError
            If the engine was closed, or made by a process from which this one was forked.
        """
        self._check_usable()
        return self._queue_of(worker).submit(fn, payload)

    def keep(self, worker: int, value: Any) -> Kept:
        """Keep a value on a worker, where it is unpickled once, at its first use."""
        self._check_usable()
        return self._queue_of(worker).keep(value)

    def load(self, worker: int) -> int:
        """How many calls a worker has, including those that wait for it."""
        queue = self._queues.get(worker)
        return 0 if queue is None else queue.load

    def abandon(self, futures: Iterable[Future[Any]]) -> None:
        """Drop calls that have not begun; end those that still run after ``grace``."""
        self._drop(futures, self._grace)

    def end(self, futures: Iterable[Future[Any]]) -> None:
        """As `abandon`, but end those that run at once, unless ``grace`` has no limit."""
        self._drop(futures, 0.0 if self.ends else None)

    @property
    def ends(self) -> bool:
        """Whether calls that run can be ended: unless ``grace`` has no limit."""
        return self._grace is not None and self._grace < math.inf

    def _drop(self, futures: Iterable[Future[Any]], grace: float | None) -> None:
        for future in futures:
            if isinstance(future, Answer):
                queue = future.queue
                living = self._queues.get(queue.number) is queue
                running = queue.drop(future) if living else None
                if running is not None and grace is not None:
                    self._end_later(grace, queue, running)

    def _queue_of(self, worker: int) -> Q:
        check_worker(worker, len(self._queues))
        return self._queues[worker]

    def _check_open(self) -> None:
        """Raise `EngineError` if calls cannot be taken any more; this does not."""

    def _end_later(self, grace: float, queue: Q, future: Future[Any]) -> None:
        """End the worker of this queue if it is still busy with this call after a time."""
        raise NotImplementedError

    def _ours(self) -> bool:
        """Whether this is the process that made the engine, and not one forked from it."""
        return os.getpid() == self._owner

    def _check_usable(self) -> None:
        if not self._ours():
            raise EngineError(
                f"the engine was made by process {self._owner}, from which this one was forked, and its workers "
                "do not serve this one: create a new one here"
            )
        self._check_open()

    def __reduce__(self) -> Any:
        raise TypeError(
            "an engine cannot be pickled, as it would be to send it to a worker: a map inside of a call computes there "
            "without engine="
        )
