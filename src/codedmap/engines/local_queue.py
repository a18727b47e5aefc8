"""The queue of one worker of the `Local` engine: calls in order on one process at a time."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..contracts.engine import Kept
from ..errors import Abandoned, KeptLost, WorkerCrashed
from .calls import Answer, Call, Calls, complete
from .local_worker import Worker
from .loop import Loop
from .transport.parcel import Parcel, discard
from .transport.serve import Request


@dataclass(slots=True, eq=False)
class _Call(Call):
    restarted: bool = False
    """Whether a worker has ended without receiving it."""

    def fail(self, error: BaseException) -> None:
        """Complete the call with an error, and remove its shared segments."""
        self.discard()
        Call.fail(self, error)

    def discard(self) -> None:
        for segment in (self.request.content.segment, self.request.answer):
            if segment is not None:
                discard(segment)


class LocalQueue(Calls[_Call]):
    """A queue of calls and the worker process that serves them one at a time.

    The process is replaced whenever it dies or is ended, and its pipe with it: nothing that it leaves there may reach
    a later call. `submit` and `keep` may be called in any thread, everything else only in the engine's loop.

    Parameters
    ----------
    number : int
    run : str
        Names the engine, and with it what it keeps and its files.
    setups : list of Parcel
        By which the worker is set up; it may grow.
    loop : Loop
    abandon : callable
        As `Engine.abandon`.
    ended : callable
        Called when a process has ended.
    """

    def __init__(
        self,
        number: int,
        run: str,
        setups: list[Parcel],
        *,
        loop: Loop,
        abandon: Callable[[list[Future[Any]]], object],
        ended: Callable[[], object],
    ) -> None:
        super().__init__(number, run, setups)
        self._loop = loop
        self._abandon = abandon
        self._ended = ended
        self._worker: Worker | None = None
        self._ending: dict[Worker, _Call | None] = {}  # killed, and the calls that they had

    @property
    def pids(self) -> list[int]:
        """Of all its processes that have not ended."""
        workers = (*self._ending, *([self._worker] if self._worker else []))
        return [worker.pid for worker in workers]

    def end(self, future: Future[Any]) -> None:
        """End the worker if it is still busy with this call."""
        call = self._running
        if call is None or call.future is not future:
            return
        self._running = None
        self._end_worker(call)
        self._start()
        self._advance()
        call.fail(Abandoned(f"worker {self.number} was ended: its call was abandoned"))

    def close(self) -> None:
        """Take no more calls, and kill the worker; what it has started is not searched for."""
        running, dropped = self._running, self._close()
        self._end_worker(running)
        for call in dropped:
            self._loop.do(call.fail, Abandoned("the engine was closed"))

    def _queue(self, value: Any, uses: tuple[Kept, ...], keep: Hashable = None) -> Future[Any]:
        self.refuse_if_closed()
        name = f"{self._run}-{self.number}-{next(self._counter)}"
        future = Answer(self)
        try:
            content = self._pack(value, f"{name}-payload", keep)
            self.refuse_if_closed()
            call = _Call(Request(content, f"{name}-answer", keep), future, uses)
            self._loop.do(self._append, call)
        except BaseException:  # KeyboardInterrupt, or the engine was closed in the meantime
            discard(f"{name}-payload")
            self._loop.do(self._abandon, [future])
            raise
        return future

    def _append(self, call: _Call) -> None:
        if self._closed:
            call.fail(Abandoned("the engine was closed"))
        else:
            self._waiting.append(call)
            self._advance()

    def _advance(self) -> None:
        """Give an idle worker its next call."""
        while self._running is None and self._waiting:
            setup = self._next_setup()
            call = self._waiting.popleft() if setup is None else _Call(setup, Answer(self))
            if call.future.running() or call.future.set_running_or_notify_cancel():
                self._begin(call)
            else:
                call.discard()

    def _begin(self, call: _Call) -> None:
        """Send a call to the worker, or fail it."""
        problem = None if self._worker is not None else self._start()
        if any(kept.lost for kept in call.uses):
            self._loop.do(call.fail, KeptLost(f"{call.uses!r} died with its worker: keep it again"))
            return
        if self._worker is None:
            error = WorkerCrashed(
                f"worker {self.number} has ended and no new one can be started ({problem}): "
                "is there memory left, are too many files open?"
            )
            self._loop.do(call.fail, error)
            return
        self._running = call
        self._note_kept(call)
        try:
            if not self._worker.send(self._sent(call.request)):
                self._loop.watch_writing(self._worker.pipe, True)
        except OSError:
            self._begin_again()
        except Exception as error:  # such as MemoryError
            self._running = None
            self._loop.do(call.fail, error)

    def _begin_again(self) -> None:
        """Have the call sent to a new worker, because the old one has ended and not received it."""
        call, self._running = self._running, None
        if call is not None and call.request.keep is not None:
            self._kept.pop(call.request.keep, None)  # not lost: it is sent again
        self._end_worker()
        if call is None:
            return
        call = self._lost_with(call)
        if not call.restarted:
            call.restarted = True
            self._waiting.appendleft(call)
            return
        error = WorkerCrashed(f"worker {self.number} ends whenever it is started, before its call")
        self._loop.do(call.fail, error)

    def _start(self) -> Exception | None:
        """Start a worker, where what an earlier one kept is lost; return what prevents that."""
        self._lose_kept()
        try:
            worker = Worker(self._run)
        except Exception as error:
            return error
        self._worker = worker
        self._loop.watch(worker.pipe, self._ready)
        self._loop.watch(worker.sentinel, partial(self._finish, worker))
        return None

    def _ready(self) -> None:
        reply = self._receive()
        if reply is not None:
            self._answer(reply)

    def _receive(self) -> Any:
        """Go on writing to the worker; return what it has sent, or None."""
        worker, call = self._worker, self._running
        assert worker is not None
        try:
            self._loop.watch_writing(worker.pipe, not worker.flush())
            reply = worker.receive()
        except ConnectionError:
            self._begin_again()
            self._advance()
        except Exception:  # the end of the connection, or what cannot be read
            self._end_worker(call)  # how the process ends is not known yet
        else:
            if call is not None:
                return reply
            if reply is not None:
                self._end_worker()
        return None

    def _answer(self, reply: Any) -> None:
        call, self._running = self._running, None
        assert call is not None
        self._loop.cancel(call.future)
        self._advance()  # before the answer is opened, which may take longer
        complete(call, reply)

    def _end_worker(self, call: _Call | None = None) -> None:
        """Kill the worker, which may have had a call."""
        worker, self._worker = self._worker, None
        self._set_up = 0
        if worker is None:
            return
        self._ending[worker] = call
        self._loop.forget(worker.pipe)
        worker.pipe.close()
        worker.kill(descendants=not self._closed)

    def _finish(self, worker: Worker) -> None:
        """Clean up after a process that has ended."""
        reply = None
        if worker is self._worker:
            reply = self._receive()  # it may have answered before
            if worker is self._worker:
                self._end_worker(self._running if reply is None else None)
        call = self._ending.pop(worker)
        setup = call is not None and call.request.setup
        error = worker.crash_error(self.number, "its setup" if setup else "the call")
        if not self._closed:
            worker.end_descendants()
        self._loop.forget(worker.sentinel)
        worker.close()
        if reply is not None:
            self._answer(reply)
        elif call is not None and call is self._running:
            self._running = None
            self._loop.cancel(call.future)
            call = self._lost_with(call)
            self._start()
            self._advance()
            self._loop.do(call.fail, error)
        elif call is not None:
            call.discard()
        self._ended()
