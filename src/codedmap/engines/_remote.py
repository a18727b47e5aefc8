"""One slot of a cluster engine: calls in order, one at a time, on a worker that may be replaced."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, InvalidStateError
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from .._errors import Abandoned, CannotSend, EngineError, KeptLost, WorkerCrashed
from ._contract import Kept
from ._parcel import culprit, pack, receive
from ._serve import Failure, KeptKey, Request

__all__ = ["RemoteSlot", "Send"]

Send = Callable[[Request, str], "Future[Any]"]
"""Has a worker serve a request, under a name to show; fails with `WorkerCrashed` if it dies."""


@dataclass(slots=True, eq=False)
class _Call:
    request: Request
    uses: tuple[Kept, ...] = ()
    future: Future[Any] = field(default_factory=Future)

    def fail(self, error: BaseException) -> None:
        with contextlib.suppress(InvalidStateError):  # cancelled by its owner in the meantime
            self.future.set_exception(error)


class RemoteSlot:
    """A queue of calls, of which the worker where the slot is placed gets one at a time.

    So a worker that dies costs one answer, and one that is still busy with a call nobody waits for
    is known to be: what is queued behind that can be taken back. Whoever takes a call out of
    ``_waiting`` or ``_running``, under the lock, completes its future, without the lock.

    Parameters
    ----------
    number : int
    run : str
        Names the engine, and with it what it keeps.
    lost : callable
        Told when a call has found the worker dead: the slot needs another `place`.
    """

    def __init__(self, number: int, run: str, lost: Callable[[RemoteSlot], None]) -> None:
        self.number = number
        self._run = run
        self._lost = lost
        self._lock = threading.RLock()
        self._send: Send | None = None
        self._waiting: deque[_Call] = deque()
        self._running: _Call | None = None
        self._kept: weakref.WeakValueDictionary[Any, Kept] = weakref.WeakValueDictionary()
        self._forget: deque[Any] = deque()
        self._begun = 0
        self._numbered = 0
        self._closed = False

    @property
    def busy(self) -> bool:
        """Whether a call is with the worker."""
        return self._running is not None

    def submit(self, fn: Any, payload: Any) -> Future[Any]:
        """Queue ``fn(payload)``."""
        uses = tuple(value for value in (fn, payload) if isinstance(value, Kept))
        for kept in uses:
            if kept.slot != self.number or kept.key[0] != self._run:
                raise EngineError(
                    f"{kept!r} was given to slot {self.number} of an engine where it is not: a kept "
                    "value stays on the worker where it was left"
                )
        fn, payload = (KeptKey(v.key) if isinstance(v, Kept) else v for v in (fn, payload))
        try:
            content = pack((fn, payload), None)
        except CannotSend as error:
            raise CannotSend(f"{culprit(fn, payload)} {error}") from error.__cause__
        return self._queue(_Call(Request(content, None), uses))

    def keep(self, value: Any) -> Kept:
        """Queue a value to be left on the worker."""
        try:
            content = pack(value, None)
        except CannotSend as error:
            raise CannotSend(f"the value to keep {error}") from error.__cause__
        with self._lock:
            self._numbered += 1
            kept = Kept(self.number, (self._run, self.number, self._numbered))
        weakref.finalize(kept, self._forget.append, kept.key).atexit = False
        self._queue(_Call(Request(content, None, keep=kept.key), (kept,)))
        return kept

    def drop(self, future: Future[Any]) -> bool:
        """Forget a call that has not begun; tell whether it is with the worker."""
        with self._lock:
            call = next((call for call in self._waiting if call.future is future), None)
            if call is None:
                return self._running is not None and self._running.future is future
            self._waiting.remove(call)
        call.fail(Abandoned("the call was abandoned before it began"))
        return False

    def place(self, send: Send) -> None:
        """From now on this worker gets the calls."""
        with self._lock:
            self._send = send
        self._advance()

    def vacate(self, error: BaseException, future: Future[Any] | None = None) -> bool:
        """Take the slot off its worker: the call there fails with this error, the others wait.

        With a future, only if its call is the one there. Tells whether it was done.
        """
        with self._lock:
            call = self._running
            if future is not None and (call is None or call.future is not future):
                return False
            self._running, self._send = None, None
            for kept in self._kept.values():
                kept.lost = True
            self._kept.clear()
        if call is not None:
            call.fail(error)
        return True

    def give_up(self, error: BaseException) -> None:
        """There is no worker to be had: what waits for one fails."""
        with self._lock:
            dropped = tuple(self._waiting)
            self._waiting.clear()
        for call in dropped:
            call.fail(error)

    def close(self) -> None:
        """Take no more calls; all that have no answer yet fail."""
        with self._lock:
            self._closed = True
            dropped = [*self._waiting, *([self._running] if self._running else [])]
            self._waiting.clear()
            self._running = None
        for call in dropped:
            call.fail(Abandoned("the engine was closed"))

    def _queue(self, call: _Call) -> Future[Any]:
        with self._lock:
            if self._closed:
                raise EngineError("the engine has been closed: create a new one")
            self._waiting.append(call)
        self._advance()
        return call.future

    def _advance(self) -> None:
        """Give an idle worker its next call."""
        while True:
            with self._lock:
                if self._send is None or self._running is not None or not self._waiting:
                    return
                call, send = self._waiting.popleft(), self._send
                if not call.future.set_running_or_notify_cancel():
                    continue
                lost = any(kept.lost for kept in call.uses)
                if not lost:
                    self._running = call
                    self._begun += 1
                    self._kept.update((kept.key, kept) for kept in call.uses)
                    forget = tuple(self._forget.popleft() for _ in range(len(self._forget)))
                    name = f"codedmap-wave{self._begun}-slot{self.number}-{self._run}"
            if lost:
                call.fail(KeptLost(f"{call.uses!r} died with its worker: keep it again"))
                continue
            send(replace(call.request, forget=forget), name).add_done_callback(
                partial(self._arrived, call)
            )
            return

    def _arrived(self, call: _Call, inner: Future[Any]) -> None:
        try:
            error = inner.exception()
        except CancelledError:
            error = WorkerCrashed("the cluster dropped the call: is it still running?")
        if isinstance(error, WorkerCrashed):
            if self.vacate(error, call.future):
                self._lost(self)
            return
        answer: Any = None
        if error is None:
            try:
                reply = inner.result()
                if isinstance(reply, Failure):
                    error = reply.revived()
                else:
                    answer = receive(reply).unpack()
            except BaseException as problem:  # no answer may end the thread that brings it
                error = problem
        with self._lock:
            if self._running is not call:  # ended or closed in the meantime
                return
            self._running = None
        if error is None:
            call.future.set_result(answer)
        else:
            if isinstance(error, KeptLost):
                for kept in call.uses:
                    kept.lost = True
            call.fail(error)
        self._advance()
