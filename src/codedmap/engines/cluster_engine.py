"""The base class of cluster engines, whose workers join and leave; a worker's number is never used again."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import secrets
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Coroutine, Hashable, Iterable, Mapping
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Any

from ..contracts.arguments import check_whole, check_worker
from ..contracts.engine import Kept, Member, Watched
from ..errors import Abandoned, CodedmapError, EngineError, NotStarted, WorkerCrashed, many
from .failure_domains import spread
from .queue_engine import MUCH, Answer, Call, CallQueue, QueueEngine, complete
from .transport.serve import Request, versions

_LOOK = 0.2  # seconds between checks whether a call has begun, if there is no grace
_SAME = "install the same versions of Python and codedmap for the caller and for all workers"


class RemoteQueue(CallQueue):
    """A queue of calls, of which the worker gets one at a time.

    A worker that dies therefore costs one call, and calls queued behind an abandoned one can still be dropped.
    """

    def __init__(self, engine: ClusterEngine, number: int, name: str, member: Member) -> None:
        super().__init__(engine, number)
        self._cluster = engine
        self.name, self.member = name, member
        self.begun = 0
        """Calls that the worker has been sent."""
        self._left: Callable[[], BaseException] | None = None  # error of calls once it has gone

    @property
    def busy(self) -> bool:
        """Whether a call is with the worker."""
        return self._running is not None

    def note_wait(self, waits: bool) -> None:
        """Note that the call at the worker waits there for tasks of others, or begins now."""
        call = self._running
        if call is not None:
            call.future.waits = waits
            if not waits:
                call.future.begun.append(time.monotonic())

    def leave(self, error: BaseException, waiting: Callable[[], BaseException]) -> None:
        """The worker has gone: the call there fails with ``error``, all others with an error that ``waiting`` makes."""
        with self._lock:
            running, self._running = self._running, None
            if running is not None and running.request.setup and isinstance(error, WorkerCrashed):
                error = self._set_up_error(error)
                waiting = waiting if isinstance(error, WorkerCrashed) else lambda: error
            self._left = waiting
            lost = None if running is None else self._lost_with(running)
            dropped = tuple(self._waiting)
            self._waiting.clear()
            self._lose_kept()
        if lost is not None:
            lost.fail(error)
        for call in dropped:
            call.fail(waiting(), lost=True)

    def _queue(
        self, value: Any, uses: tuple[Kept, ...] = (), sends: Kept | None = None
    ) -> Future[Any]:
        keep = None if sends is None else sends.key
        content = self._pack(value, None, keep)
        call = Call(Request(content, None, keep), Answer(self), uses)
        if sends is not None:
            call.sends = weakref.ref(sends)
            if content.nbytes >= MUCH:
                release = self._cluster._release_kept, self, keep
                weakref.finalize(sends, self._cluster._soon, *release).atexit = False
        with self._lock:
            self.refuse_if_closed()
            left = self._left
            if left is None:
                self._waiting.append(call)
        if left is not None:
            call.fail(left(), lost=True)
        # Not in the caller's thread: Ctrl-C could come when the call is taken and not yet sent.
        self._cluster._soon(self._advance)
        return call.future

    def _advance(self) -> None:
        """Give an idle worker its next call."""
        while (call := self._begin_next()) is not None:
            self.begun += 1
            try:
                self._cluster._send(self, call)
                return
            except CodedmapError as error:
                if not self._complete(call, None, error):
                    return

    def answered(self, call: Call, reply: Any, error: BaseException | None = None) -> None:
        """A call has an answer, or has failed with an error: complete it, and give the worker its next one."""
        if self._complete(call, reply, error):
            self._advance()

    def _complete(self, call: Call, reply: Any, error: BaseException | None) -> bool:
        """Complete a call; return whether the worker is free then."""
        if isinstance(error, WorkerCrashed):
            self._cluster._soon(self._cluster._end_dead, self, error)
            return False
        with self._lock:
            if self._running is not call:  # ended or closed in the meantime
                return False
            self._running = None
        if call.request.setup and error is None:
            self._cluster.setup_deaths = 0
        complete(call, reply, error)
        return True


class ClusterEngine(Watched, QueueEngine[RemoteQueue]):
    """The base class of engines whose workers are processes of a cluster, each with a queue in the caller.

    A subclass connects to the cluster and calls `_begin`, and from then on `_join`, `_leave` and `_lose`, all in the
    event loop, which runs in another thread. At most so many ``workers`` are used at a time; None: all.
    """

    kind: str
    """The name of the cluster's software, for messages."""

    def __init__(
        self, workers: int | None, grace: float | None, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._most = None if workers is None else check_whole("workers", workers, 1)
        super().__init__(grace, secrets.token_hex(4))
        self._loop = loop
        self._lock = threading.Lock()
        self._closing = threading.RLock()
        self._closed = self._failing = self._released = False
        self._all: list[RemoteQueue] = []  # by number, also of workers that have gone
        self._named: dict[str, RemoteQueue] = {}  # by the cluster's name of their worker
        self._spare: dict[str, Member] = {}  # workers beyond those that are used
        self.last_loss: BaseException | None = None
        """Why the last worker that has gone is not used any more."""
        self._doing: set[asyncio.Future[None]] = set()  # coroutines in the event loop
        self._at_exit = weakly(self.close)
        atexit.register(self._at_exit)

    def members(self) -> Mapping[int, Member]:
        """The living workers by their numbers, which are never used again; `EngineError` if the cluster was lost."""
        with self._lock:
            members = {number: queue.member for number, queue in self._queues.items()}
        if not members:
            self._check_usable()
        return members

    def watch(self, callback: Callable[[], object]) -> None:
        """From now on call this, in any thread, when ``members()`` has changed; `EngineError` if the cluster was lost."""
        self._check_usable()
        super().watch(callback)

    def close(self) -> None:
        """Take no more calls, and end what the engine has started; the cluster goes on.

        In a callback of a call this returns at once, and another thread does it.
        """
        if not self._ours():
            return
        if asyncio._get_running_loop() is self._loop:
            threading.Thread(target=self.close).start()  # the event loop would wait for itself
            return
        with self._closing:
            if not self._failing and not self._released:
                self._close()

    def _close(self) -> None:
        # Ctrl-C may interrupt this anywhere; then it is called again, and begins anew.
        with self._lock:
            self._closed = True
            queues = tuple(self._all)
        busy = [queue.name for queue in queues if queue.busy]
        self._failing = True  # callbacks of calls may close the engine as well
        try:
            for queue in queues:
                queue.fail(Abandoned("the engine was closed"))
        finally:
            self._failing = False
        try:
            if self._is_open():
                self._wait(self._release(busy))
        finally:
            self._disconnect()
            self._released = True
            atexit.unregister(self._at_exit)

    def __del__(self) -> None:
        if getattr(self, "_released", True) or not self._ours():
            return
        # Not here: this may be the event loop, for which `close` waits.
        threading.Thread(target=self.close, daemon=True).start()
        warnings.warn(
            f"an engine of {many(self.workers, f'{self.kind} worker')} was dropped, and never closed: use it in a with block",
            ResourceWarning,
            source=self,
            stacklevel=2,
        )

    def _drop(self, futures: Iterable[Future[Any]], grace: float | None) -> None:
        self._soon(super()._drop, list(futures), grace)

    def _queue_of(self, worker: int) -> RemoteQueue:
        check_worker(worker, len(self._all))
        return self._all[worker]  # if it has gone, it fails every call

    def _end_later(self, grace: float, queue: RemoteQueue, future: Future[object]) -> None:
        if grace < threading.TIMEOUT_MAX:
            self._soon(self._begin_grace, grace, queue, future)

    # What a subclass implements.

    def _is_open(self) -> bool:
        """Whether the caller is connected to the cluster."""
        raise NotImplementedError

    def _send(self, queue: RemoteQueue, call: Call) -> None:
        """Send a call to a worker, or raise a `CodedmapError`; later give the queue its answer, or `WorkerCrashed`."""
        raise NotImplementedError

    def _dismiss(self, name: str) -> None:
        """Do what is needed when a worker is not used any more."""
        raise NotImplementedError

    async def _end(self, name: str) -> None:
        """Kill a worker that was dismissed."""
        raise NotImplementedError

    async def _forget(self, name: str, key: Hashable) -> None:
        """Release the value that a worker keeps by this key."""
        raise NotImplementedError

    async def _release(self, busy: list[str]) -> None:
        """Undo what the engine has done to workers; ``busy`` ones still run its calls."""
        raise NotImplementedError

    def _disconnect(self) -> None:
        """Release everything else; called last."""

    # From here on everything runs in the event loop.

    async def _begin(self, found: Mapping[str, Member]) -> None:
        """Number the workers that are found at the start, neighbours in different failure domains."""
        names = list(found)
        for k in spread([member.domain for member in found.values()]):
            self._join(names[k], found[names[k]])

    def _join(self, name: str, member: Member) -> None:
        """Use a worker, or keep it as a spare one."""
        with self._lock:
            if self._closed or name in self._named:
                return
            if self._most is not None and len(self._queues) >= self._most:
                self._spare[name] = member
                return
            queue = RemoteQueue(self, len(self._all), name, member)
            self._all.append(queue)
            self._queues[queue.number] = self._named[name] = queue
        self._changed()

    def _leave(self, name: str, error: BaseException) -> None:
        """A worker has died or left; its call fails with this error."""
        with self._lock:
            self._spare.pop(name, None)
            queue = self._named.pop(name, None)
            if queue is None:
                return
            del self._queues[queue.number]
            self.last_loss = error
            spare = next(iter(self._spare), None)
            member = None if spare is None else self._spare.pop(spare)
        self._dismiss(name)
        if spare is not None and member is not None:
            self._join(spare, member)
        else:
            self._changed()
        why = f"worker {queue.number} died or left before the call began"
        if isinstance(error, NotStarted):  # it has not died
            why = str(error)
        queue.leave(error, partial(NotStarted, why))

    def _lose(self, why: str) -> None:
        """The whole cluster has gone."""
        with self._lock:
            queues = tuple(self._queues.values())
            for names in (self._queues, self._named, self._spare):
                names.clear()
        self._changed()
        for queue in queues:
            queue.leave(EngineError(why), partial(EngineError, why))

    def _end_dead(self, queue: RemoteQueue, error: WorkerCrashed) -> None:
        """Remove a worker that was found dead by a call."""
        if self._named.get(queue.name) is queue:
            self._leave(queue.name, error)

    def _release_kept(self, queue: RemoteQueue, key: Hashable) -> None:
        """Release a kept value that is needed no more: it may take most of the worker's memory."""
        if self._named.get(queue.name) is queue and not self._closed and self._is_open():
            self._do(self._forget(queue.name, key))

    def _begin_grace(self, grace: float, queue: RemoteQueue, future: Future[object]) -> None:
        timer = self._loop.call_later(grace, self._end_now, grace, queue, future)
        future.add_done_callback(lambda _: self._soon(timer.cancel))

    def _end_now(self, grace: float, queue: RemoteQueue, future: Future[object]) -> None:
        call = queue.running(future)
        if call is None:
            return
        # The worker still runs a task of others, or did so until a moment ago.
        if call.future.waits or time.monotonic() < call.future.begun[-1] + grace:
            self._begin_grace(self._grace or _LOOK, queue, future)
        else:
            name = queue.name
            self._leave(name, Abandoned(f"worker {queue.number} was ended: its call was abandoned"))
            self._do(self._end(name))

    def _crash_error(self, name: str) -> WorkerCrashed:
        return WorkerCrashed(
            f"the {self.kind} worker {name} died during the call, or left: its answer is lost"
        )

    # Calling from one thread to the other.

    def _do(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Future[None]:
        """Run this soon; only to be called in the event loop."""
        doing = asyncio.ensure_future(coroutine)
        self._doing.add(doing)
        doing.add_done_callback(self._doing.discard)
        return doing

    def _wait(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run this in the event loop and wait for it, without a lock that Ctrl-C might leave held."""
        ended: SimpleQueue[asyncio.Future[None]] = SimpleQueue()
        self._loop.call_soon_threadsafe(lambda: self._do(coroutine).add_done_callback(ended.put))
        ended.get().result()

    def _soon(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call this in the event loop; does nothing if that has ended."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)


def weakly(method: Callable[..., object]) -> Callable[..., None]:
    """A method of an engine, which it does not keep from being dropped."""
    held: Any = weakref.WeakMethod(method)

    def call(*arguments: Any) -> None:
        found = held()
        if found is not None:
            found(*arguments)

    return call


def check_versions(where: str, found: Any) -> None:
    """Raise `EngineError` unless ``found``, the versions there or an error, are the caller's versions."""
    if isinstance(found, BaseException):
        raise EngineError(
            f"{where} cannot run codedmap ({type(found).__name__}: {found}): {_SAME}"
        ) from found
    here = versions()
    if found != here:
        there, mine = (", ".join(map(" ".join, v.items())) for v in (found, here))
        raise EngineError(f"{where} has {there}, but the caller {mine}: {_SAME}")
