"""The queue of one worker of a cluster: calls in order, one at a time, until the worker dies or leaves."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from concurrent.futures import CancelledError, Future
from functools import partial
from typing import Any

from ..contracts.engine import Kept, Member
from ..errors import Abandoned, KeptLost, WorkerCrashed
from .calls import Answer, Call, Calls, complete
from .transport.parcel import Parcel
from .transport.serve import Request


class RemoteQueue(Calls[Call]):
    """A queue of calls, of which the worker gets one at a time.

    A worker that dies therefore costs one call, and calls queued behind an abandoned one can still be dropped.

    Parameters
    ----------
    number : int
    run : str
        Names the engine, and with it what it keeps.
    setups : list of Parcel
        By which the worker is set up; it may grow.
    name : str
        By which the cluster knows the worker.
    member : Member
    send : callable
        Sends a request to the worker of a queue, given how many it has been sent; the future that it returns fails
        with `WorkerCrashed` if the worker dies.
    died : callable
        Is given a queue, and the error by which it found its worker dead; must call its `leave` soon.
    """

    def __init__(
        self,
        number: int,
        run: str,
        setups: list[Parcel],
        *,
        name: str,
        member: Member,
        send: Send,
        died: Callable[[RemoteQueue, WorkerCrashed], None],
    ) -> None:
        super().__init__(number, run, setups)
        self.name = name
        self.member = member
        self._send = send
        self._died = died
        self._begun = 0
        self._left: Callable[[], BaseException] | None = None

    @property
    def busy(self) -> bool:
        """Whether a call is with the worker."""
        return self._running is not None

    def runs(self, future: Future[Any]) -> bool:
        """Whether this call is with the worker."""
        call = self._running
        return call is not None and call.future is future

    def leave(self, error: BaseException, waiting: Callable[[], BaseException]) -> None:
        """The worker has gone: the call there fails with the error, those that wait or come with another each."""
        with self._lock:
            self._left = waiting
            running, self._running = self._running, None
            lost = None if running is None else self._lost_with(running)
            dropped = tuple(self._waiting)
            self._waiting.clear()
            self._lose_kept()
        if lost is not None:
            lost.fail(error)
        for call in dropped:
            _fail_unsent(call, waiting())

    def close(self) -> None:
        """Take no more calls; fail all that have no answer yet."""
        with self._lock:
            dropped = self._close()
        for call in dropped:
            call.fail(Abandoned("the engine was closed"))

    def _queue(self, value: Any, uses: tuple[Kept, ...], keep: Hashable = None) -> Future[Any]:
        content = self._pack(value, None, keep)
        call = Call(Request(content, None, keep), Answer(self), uses)
        with self._lock:
            self.refuse_if_closed()
            left = self._left
            if left is None:
                self._waiting.append(call)
        if left is not None:
            _fail_unsent(call, left())
        self._advance()
        return call.future

    def _advance(self) -> None:
        """Give an idle worker its next call."""
        while True:
            with self._lock:
                if self._running is not None or not self._waiting:
                    return
                setup = self._next_setup()
                call = self._waiting.popleft() if setup is None else Call(setup, Answer(self))
                if not call.future.set_running_or_notify_cancel():
                    continue
                missing = any(kept.lost for kept in call.uses)
                if not missing:
                    self._running = call
                    self._begun += 1
                    self._note_kept(call)
                    begun, request = self._begun, self._sent(call.request)
            if missing:
                call.fail(KeptLost(f"{call.uses!r} died with its worker: keep it again"))
                continue
            sent = self._send(self, request, begun)
            if not sent.done():
                sent.add_done_callback(partial(self._arrived, call))
                return
            if not self._complete(
                call, sent
            ):  # here, because callbacks would be nested once a call
                return

    def _arrived(self, call: Call, inner: Future[Any]) -> None:
        if self._complete(call, inner):
            self._advance()

    def _complete(self, call: Call, inner: Future[Any]) -> bool:
        """Give a call what has become of it; return whether the worker is free then."""
        try:
            error = inner.exception()
        except CancelledError:
            error = WorkerCrashed("the cluster dropped the call: is it still running?")
        if isinstance(error, WorkerCrashed):
            self._died(self, error)
            return False
        with self._lock:
            if self._running is not call:  # ended or closed in the meantime
                return False
            self._running = None
        complete(call, inner.result() if error is None else None, error)
        return True


Send = Callable[[RemoteQueue, Request, int], "Future[Any]"]


def _fail_unsent(call: Call, error: BaseException) -> None:
    for kept in call.uses:
        kept.lost = True
    call.fail(error)
