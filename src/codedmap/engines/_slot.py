"""One slot of the `Local` engine: calls in order on a pool of one worker process."""

from __future__ import annotations

import pickle
import signal
import threading
import weakref
from collections import deque
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing.context import BaseContext
from typing import Any

from pebble import ProcessExpired, ProcessPool

from .._errors import Abandoned, CannotSend, EngineError, KeptLost, WorkerCrashed
from ._contract import Kept
from ._parcel import discard, pack, unpack
from ._serve import Failure, KeptKey, Request, hello, serve, start

__all__ = ["Slot", "WorkerTraceback"]


class WorkerTraceback(Exception):
    """The traceback of an exception raised in a worker, as text: the cause of that exception."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


@dataclass(slots=True, eq=False)
class _Call:
    request: Request
    uses: tuple[Kept, ...] = ()
    future: Future[Any] = field(default_factory=Future)

    def discard(self) -> None:
        if self.request.content.segment is not None:
            discard(self.request.content.segment)
        discard(self.request.answer)


class Slot:
    """A queue of calls and the worker process that serves them one at a time.

    The pool is replaced whenever its worker dies or is ended: a process that was killed may have
    held a lock of its pipe, and nothing that it leaves there may reach a later call.
    """

    def __init__(self, number: int, run: str, context: BaseContext) -> None:
        self._number = number
        self._run = run
        self._context = context
        self._lock = threading.RLock()
        self._waiting: deque[_Call] = deque()
        self._running: _Call | None = None
        self._kept: weakref.WeakValueDictionary[int, Kept] = weakref.WeakValueDictionary()
        self._forget: list[int] = []
        self._counter = 0
        self._closed = False
        self._retiring: list[threading.Thread] = []
        self._pool, self.started = self._new_pool()

    def submit(self, fn: Any, payload: Any) -> Future[Any]:
        """Queue ``fn(payload)``."""
        uses = tuple(value for value in (fn, payload) if isinstance(value, Kept))
        for kept in uses:
            if kept.slot != self._number:
                raise EngineError(f"{kept!r} was given to slot {self._number}, where it is not")
        fn, payload = (KeptKey(v.key) if isinstance(v, Kept) else v for v in (fn, payload))
        return self._queue((fn, payload), uses=uses).future

    def keep(self, value: Any) -> Kept:
        """Queue a value to be left on the worker."""
        with self._lock:
            self._counter += 1
            kept = Kept(self._number, self._counter)
            self._kept[kept.key] = kept
        weakref.finalize(kept, self._forget.append, kept.key).atexit = False
        self._queue(value, keep=kept.key)
        return kept

    def drop(self, future: Future[Any]) -> bool:
        """Forget a call that has not begun; tell whether it is still running."""
        with self._lock:
            for call in self._waiting:
                if call.future is future:
                    self._waiting.remove(call)
                    call.discard()
                    break
            else:
                return self._running is not None and self._running.future is future
        _fail(future, Abandoned("the call was abandoned before it began"))
        return False

    def end(self, future: Future[Any]) -> None:
        """End the worker if it is still busy with this call."""
        with self._lock:
            if self._running is None or self._running.future is not future:
                return
            self._renew()
        _fail(future, Abandoned(f"worker {self._number} was ended: nobody waited for its answer"))
        self._advance()

    def close(self) -> None:
        """Take no more calls and begin to end the worker; `join` waits for that."""
        with self._lock:
            self._closed = True
            dropped = [*self._waiting, *([self._running] if self._running else [])]
            self._waiting.clear()
            self._running = None
            self._pool.stop()
        for call in dropped:
            _fail(call.future, Abandoned("the engine was closed"))

    def join(self) -> None:
        """Wait until every process and thread of this slot has ended."""
        self._pool.join()
        for thread in self._retiring:
            thread.join()

    def _queue(self, value: Any, *, uses: tuple[Kept, ...] = (), keep: int | None = None) -> _Call:
        with self._lock:
            if self._closed:
                raise EngineError("the engine has been closed: create a new one")
            self._counter += 1
            name = f"{self._run}-{self._number}-{self._counter}"
        try:
            content = pack(value, f"{name}-payload")
        except CannotSend as error:
            what = "the value to keep" if keep is not None else f"the function {_named(value[0])}"
            raise CannotSend(f"{what} {error}") from error.__cause__
        call = _Call(Request(content, f"{name}-answer", keep), uses)
        with self._lock:
            self._waiting.append(call)
        self._advance()
        return call

    def _advance(self) -> None:
        with self._lock:
            while self._running is None and self._waiting and not self._closed:
                call = self._waiting.popleft()
                if any(kept.lost for kept in call.uses):
                    call.discard()
                    _fail(
                        call.future, KeptLost(f"{call.uses!r} died with its worker: keep it again")
                    )
                    continue
                self._running = call
                self._dispatch(call)

    def _dispatch(self, call: _Call) -> None:
        forget, self._forget[:] = tuple(self._forget), []
        request = Request(call.request.content, call.request.answer, call.request.keep, forget)
        try:
            inner = self._pool.schedule(serve, args=(request,))
        except RuntimeError:  # the worker died while it was idle
            self._renew(running=call)
            if any(kept.lost for kept in call.uses):
                self._settle(call, KeptLost(f"{call.uses!r} died with its worker: keep it again"))
                return
            inner = self._pool.schedule(serve, args=(request,))
        pool = self._pool
        inner.add_done_callback(lambda done: self._arrived(call, pool, done))

    def _arrived(self, call: _Call, pool: ProcessPool, inner: Future[Any]) -> None:
        with self._lock:
            if self._running is not call or self._pool is not pool:
                # Ended or closed in the meantime; the worker is gone, so this name stays unused.
                call.discard()
                return
            error = inner.exception() if not inner.cancelled() else Abandoned("cancelled")
            if error is not None:
                self._renew(running=call)
                self._settle(call, self._crash(error))
                return
        reply = inner.result()
        if isinstance(reply, Failure):
            self._settle(call, _revived(reply))
        else:
            try:
                answer = unpack(reply)
            except Exception as problem:
                self._settle(call, problem)
            else:
                self._settle(call, None, answer)

    def _settle(self, call: _Call, error: BaseException | None, answer: Any = None) -> None:
        with self._lock:
            if self._running is call:
                self._running = None
        if error is not None:
            call.discard()
            _fail(call.future, error)
        elif not call.future.done():
            call.future.set_result(answer)
        self._advance()

    def _new_pool(self) -> tuple[ProcessPool, Future[None]]:
        pool = ProcessPool(
            max_workers=1, initializer=start, initargs=(self._run,), context=self._context
        )
        return pool, pool.schedule(hello)

    def _renew(self, running: _Call | None = None) -> None:
        """A new pool, and the old one ended in the background; what was kept is lost."""
        old, ended = self._pool, self._running
        old.stop()
        for kept in self._kept.values():
            kept.lost = True
        self._kept.clear()

        def retire() -> None:
            old.join()
            if ended is not None:
                ended.discard()

        self._retiring = [thread for thread in self._retiring if thread.is_alive()]
        self._retiring.append(threading.Thread(target=retire, daemon=True))
        self._retiring[-1].start()
        self._running = running
        self._pool, _ = self._new_pool()

    def _crash(self, error: BaseException) -> BaseException:
        if isinstance(error, ProcessExpired):
            return WorkerCrashed(
                f"worker {self._number} (process {error.pid}) died during the call, "
                f"{_how(error.exitcode)}: its answer is lost, a new worker takes its place"
            )
        if isinstance(error, (BrokenProcessPool, OSError)):
            return WorkerCrashed(
                f"worker {self._number} died around the beginning of the call: its answer is lost, "
                "a new worker takes its place"
            )
        return error


def _fail(future: Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


def _revived(failure: Failure) -> BaseException:
    error: BaseException
    if failure.error is None:
        error = RuntimeError(f"{failure.name}: {failure.message}")
    else:
        error = pickle.loads(failure.error)
    error.__cause__ = WorkerTraceback(failure.traceback)
    return error


def _how(code: int) -> str:
    if code >= 0:
        return f"with exit code {code}"
    try:
        return f"by signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"by signal {-code}"


def _named(fn: Any) -> str:
    return getattr(fn, "__qualname__", None) or type(fn).__qualname__
