"""One slot of the `Local` engine: calls in order on a pool of one worker process."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future, InvalidStateError
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ..contracts.engine import Kept
from ..errors import Abandoned, CannotSend, KeptLost, WorkerCrashed
from .calls import Call, Calls, complete, read_reply
from .local_worker import Worker
from .shield import Answer, Shield
from .transport.parcel import culprit, discard, pack
from .transport.serve import Request

__all__ = ["Slot"]

_LOST = (BrokenProcessPool, OSError)  # pebble's ProcessExpired is one


@dataclass(slots=True, eq=False)
class _Call(Call):
    def fail(self, error: BaseException) -> None:
        """Complete the call with an error, and remove its shared segments."""
        self.discard()
        Call.fail(self, error)

    def discard(self) -> None:
        for segment in (self.request.content.segment, self.request.answer):
            if segment is not None:
                discard(segment)


class Slot(Calls[_Call]):
    """A queue of calls and the worker process that serves them one at a time.

    Process and pool are replaced whenever the process dies or is ended: one that was killed may
    have held a lock of its pipe, and nothing that it leaves there may reach a later call.

    Parameters
    ----------
    number : int
    run : str
        Names the engine, and with it what it keeps and its files.
    shield : Shield
        Runs what must not be interrupted in the main thread: everything but packing.
    abandon : callable
        As `Engine.abandon`.
    """

    def __init__(
        self, number: int, run: str, shield: Shield, abandon: Callable[[list[Future[Any]]], None]
    ) -> None:
        super().__init__(number, run)
        self._shield = shield
        self._abandon = abandon
        self._counter = itertools.count(1)
        self._retiring: list[threading.Thread] = []
        self._unretired: list[Worker] = []
        self._worker = Worker(run)
        self.started = self._worker.started

    @property
    def pid(self) -> int | None:
        """Of its worker's process, or None if that has ended."""
        return self._worker.pid

    def submit(self, fn: Any, payload: Any) -> Future[Any]:
        """Queue ``fn(payload)``."""
        uses, named = self._with_keys(fn, payload)
        return self._queue(named, uses).future

    def keep(self, value: Any) -> Kept:
        """Queue a value to be left on the worker."""
        kept = self._new_kept(next(self._counter))
        self._queue(value, (kept,), keep=kept.key)
        return kept

    def end(self, future: Future[Any]) -> None:
        """End the worker if it is still busy with this call."""
        with self._lock:
            call = self._running
            if call is None or call.future is not future:
                return
            self._running = None
            self._renew(after=call)
        call.fail(Abandoned(f"worker {self.number} was ended: its call was abandoned"))
        self._advance()

    def look(self) -> None:
        """Fail a call that its pool will not complete; to be called regularly."""
        with self._lock:
            overdue = None if self._closed else self._worker.overdue()
        if overdue is not None:
            with contextlib.suppress(InvalidStateError):
                overdue.set_exception(BrokenProcessPool("the process ended unnoticed"))

    def close(self) -> None:
        """Take no more calls and begin to end the worker; `join` waits for that."""
        with self._lock:
            dropped = self._close()
            self._worker.stop()
        for call in dropped:
            call.fail(Abandoned("the engine was closed"))

    def join(self) -> None:
        """Wait until every process and thread of this slot has ended."""
        for worker in (self._worker, *self._unretired):
            worker.join()
        for thread in self._retiring:
            thread.join()

    def _queue(self, value: Any, uses: tuple[Kept, ...], keep: Hashable = None) -> _Call:
        self._refuse_if_closed()
        name = f"{self._run}-{self.number}-{next(self._counter)}"
        future = Answer(self)
        try:
            content = pack(value, f"{name}-payload")
            call = _Call(Request(content, f"{name}-answer", keep), future, uses)
            self._shield.do(partial(self._append, call))
        except CannotSend as error:
            what = "the value to keep" if keep is not None else culprit(*value)
            raise CannotSend(f"{what} {error}") from error.__cause__
        except BaseException:  # KeyboardInterrupt, or the engine was closed in the meantime
            discard(f"{name}-payload")
            self._shield.soon(partial(self._abandon, [future]))
            raise
        return call

    def _append(self, call: _Call) -> None:
        with self._lock:
            self._refuse_if_closed()
            self._waiting.append(call)
        self._advance()

    def _advance(self) -> None:
        """Give an idle worker its next call."""
        while True:
            with self._lock:
                if self._running is not None or not self._waiting or self._closed:
                    return
                call = self._waiting.popleft()
                if not call.future.set_running_or_notify_cancel():
                    call.discard()
                    continue
                begun = self._begin(call)
            if isinstance(begun, Future):
                begun.add_done_callback(partial(self._arrived, call))
                return
            call.fail(begun)

    def _begin(self, call: _Call) -> Future[Any] | BaseException:
        """Send a call to the worker; return its future, or the error that prevented it."""
        problem = None
        for again in (False, True):
            if again or self._worker.ended:
                self._renew()
            if any(kept.lost for kept in call.uses):
                return KeptLost(f"{call.uses!r} died with its worker: keep it again")
            forget = self._take_forgotten()
            try:
                inner = self._worker.call(replace(call.request, forget=forget))
            except (RuntimeError, OSError) as error:  # its pool is broken, or could not start
                problem = error
            else:
                self._running = call
                self._kept.update((kept.key, kept) for kept in call.uses)
                return inner
        return WorkerCrashed(
            f"worker {self.number} has ended and no new one can be started ({problem}): "
            "is there memory left, are too many files open?"
        )

    def _arrived(self, call: _Call, inner: Future[Any]) -> None:
        answer: Any = None
        error: BaseException | None = None
        with self._lock:
            mine = self._running is call
            if mine:
                self._running = None
                if inner.cancelled() or isinstance(inner.exception(), _LOST):
                    error = self._worker.crash_error(self.number)
                    self._renew()
        if not mine:  # ended or closed in the meantime; the worker has ended, its names stay unused
            call.discard()
            return
        if error is None:
            answer, error = read_reply(inner)
        complete(call, answer, error)
        self._advance()

    def _renew(self, after: _Call | None = None) -> None:
        """Start a new worker, and end the old one in the background; what it kept is lost."""
        old = self._worker
        old.end_descendants()
        old.stop()
        self._lose_kept()

        def retire() -> None:
            old.join()
            old.end_descendants()
            if after is not None:
                after.discard()

        thread = threading.Thread(target=retire, daemon=True)
        self._retiring = [thread, *(other for other in self._retiring if other.is_alive())]
        try:
            thread.start()
        except RuntimeError:  # too many threads: it is joined when the slot is
            self._retiring.remove(thread)
            self._unretired.append(old)
        self._worker = Worker(self._run)
