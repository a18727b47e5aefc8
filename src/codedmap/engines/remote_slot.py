"""One slot of a cluster engine: calls in order, one at a time, on a worker that may be replaced."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from dataclasses import replace
from functools import partial
from typing import Any

from ..contracts.engine import Kept
from ..errors import Abandoned, CannotSend, KeptLost, WorkerCrashed
from .calls import Answer, Call, Calls, complete, read_reply
from .transport.parcel import culprit, culprit_kept, pack
from .transport.serve import Request

__all__ = ["RemoteSlot", "Send"]

Send = Callable[[Request, str, int], "Future[Any]"]
"""Sends a request to a worker, given the name of the slot and the number of its calls begun so far; the future
fails with `WorkerCrashed` if the worker dies."""


class RemoteSlot(Calls[Call]):
    """A queue of calls, of which the worker where the slot is placed gets one at a time.

    A worker that dies therefore costs one answer, and calls queued behind an abandoned one can still be
    dropped.

    Parameters
    ----------
    number : int
    run : str
        Names the engine, and with it what it keeps.
    """

    def __init__(self, number: int, run: str) -> None:
        super().__init__(number, run)
        self._send: Send | None = None
        self._lost: Callable[[], None] = lambda: None
        self._begun = 0
        self._numbered = 0

    @property
    def busy(self) -> bool:
        """Whether a call is with the worker."""
        return self._running is not None

    def submit(self, fn: Any, payload: Any) -> Future[Any]:
        """Queue ``fn(payload)``."""
        uses, (fn, payload) = self._with_keys(fn, payload)
        try:
            content = pack((fn, payload), None)
        except CannotSend as error:
            raise CannotSend(f"{culprit(fn, payload)} {error}") from error.__cause__
        return self._queue(Call(Request(content, None), Answer(self), uses))

    def keep(self, value: Any) -> Kept:
        """Queue a value to be left on the worker."""
        try:
            content = pack(value, None)
        except CannotSend as error:
            raise CannotSend(f"{culprit_kept(value)} {error}") from error.__cause__
        with self._lock:
            self._numbered += 1
            kept = self._new_kept(self._numbered)
        self._queue(Call(Request(content, None, keep=kept.key), Answer(self), (kept,)))
        return kept

    def place(self, send: Send, lost: Callable[[], None]) -> None:
        """Send the calls to this worker from now on; ``lost`` is called, in any thread, by a call that finds it dead."""
        with self._lock:
            self._send, self._lost = send, lost
        self._advance()

    def vacate(self, error: BaseException, future: Future[Any] | None = None) -> bool:
        """Take the slot off its worker: the call there fails with this error, the others wait.

        With a future, only if its call is the one there. Returns whether it was done.
        """
        with self._lock:
            call = self._running
            if future is not None and (call is None or call.future is not future):
                return False
            self._running, self._send = None, None
            self._lose_kept()
        if call is not None:
            call.fail(error)
        return True

    def release_if_idle(self) -> bool:
        """Take an idle slot off its worker, and with it what is kept there; return whether it was idle."""
        with self._lock:
            if self._running is not None:
                return False
            self._send = None
            self._lose_kept()
        return True

    def fail_waiting(self, error: BaseException) -> None:
        """Fail all calls that wait for a worker."""
        with self._lock:
            dropped = tuple(self._waiting)
            self._waiting.clear()
        for call in dropped:
            call.fail(error)

    def close(self) -> None:
        """Take no more calls; fail all that have no answer yet."""
        with self._lock:
            dropped = self._close()
        for call in dropped:
            call.fail(Abandoned("the engine was closed"))

    def _queue(self, call: Call) -> Future[Any]:
        with self._lock:
            self._refuse_if_closed()
            self._waiting.append(call)
        self._advance()
        return call.future

    def _advance(self) -> None:
        """Give an idle worker its next call."""
        while True:
            with self._lock:
                if self._send is None or self._running is not None or not self._waiting:
                    return
                call, send, lost = self._waiting.popleft(), self._send, self._lost
                if not call.future.set_running_or_notify_cancel():
                    continue
                missing = any(kept.lost for kept in call.uses)
                if not missing:
                    self._running = call
                    self._begun += 1
                    self._kept.update((kept.key, kept) for kept in call.uses)
                    forget = self._take_forgotten()
                    begun = self._begun
            if missing:
                call.fail(KeptLost(f"{call.uses!r} died with its worker: keep it again"))
                continue
            name = f"slot{self.number}-{self._run}"
            send(replace(call.request, forget=forget), name, begun).add_done_callback(
                partial(self._arrived, call, lost)
            )
            return

    def _arrived(self, call: Call, lost: Callable[[], None], inner: Future[Any]) -> None:
        try:
            error = inner.exception()
        except CancelledError:
            error = WorkerCrashed("the cluster dropped the call: is it still running?")
        if isinstance(error, WorkerCrashed):
            if self.vacate(error, call.future):
                lost()
            return
        answer, error = (None, error) if error is not None else read_reply(inner.result())
        with self._lock:
            if self._running is not call:  # ended or closed in the meantime
                return
            self._running = None
        complete(call, answer, error)
        self._advance()
