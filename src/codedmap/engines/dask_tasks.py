"""Calls to the workers of a Dask cluster, as tasks that run once each, and their answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Any

import distributed
from distributed.scheduler import KilledWorker

from ..errors import EngineError, WorkerCrashed
from .remote_slot import Send
from .transport.parcel import Parcel
from .transport.serve import Request, serve

__all__ = ["Tasks"]

_LARGE = 8 << 20  # bytes of a request that goes to its worker at once, not with the task
_AGAIN = 0.2  # seconds until a worker that could not be reached is asked again for its answer
_SMALL = 64 << 10  # bytes of an answer that may be asked for together with others
_MOST, _FEW = 64, 8  # answers that are asked for together at most, and that take no longer than one
_SOON = 0.05  # seconds within which a small answer arrives from a worker that is not slow
_PATIENCE = 0.2  # seconds after which answers that were asked for together are asked for one by one
_LATER = 0.1  # seconds for which a task is still known after its answer has come


@dataclass(eq=False)
class _Worker:
    """A worker process, under the address it has while it lives."""

    address: str
    gone: bool = False
    calls: set[asyncio.Task[Any]] = field(default_factory=set)
    prompt: bool = False
    """Whether its last answer was small and arrived within `_SOON`."""


class Tasks:
    """The tasks of an engine.

    Parameters
    ----------
    client : distributed.Client
    check_open : callable
        Raises `EngineError` if its scheduler is not the same as at the beginning.
    crash_error : callable
        The error of a call whose worker, given by its address, died.
    """

    def __init__(
        self,
        client: Any,
        check_open: Callable[[], None],
        crash_error: Callable[[str], WorkerCrashed],
    ) -> None:
        self._client = client
        self._connection = client.scheduler_comm
        self._check_open = check_open
        self._crash_error = crash_error
        self._workers: dict[str, _Worker] = {}
        self._ready: dict[str, asyncio.Future[Any]] = {}
        self._asking: asyncio.Task[None] | None = None
        self.unfinished: set[distributed.Future[Any]] = set()
        """Those that are not known to have ended."""

    def sender(self, worker: str) -> Send:
        """Sends calls to a worker, each to be served once, in a task with a name of its own."""
        return partial(self._send, self._workers.setdefault(worker, _Worker(worker)))

    def dismiss(self, worker: str) -> None:
        """Wait no more for a worker, which has died or left; to be called in the event loop."""
        leaving = self._workers.pop(worker, None)
        if leaving is not None:
            leaving.gone = True
            for call in leaving.calls:
                call.cancel()

    def _send(self, worker: _Worker, request: Request, slot: str, number: int) -> Future[Any]:
        try:
            self._check_open()
        except EngineError as error:
            future: Future[Any] = Future()
            future.set_exception(error)
            return future
        call = self._call(worker, request, f"codedmap-wave{number}-{slot}")
        return asyncio.run_coroutine_threadsafe(call, self._client.loop.asyncio_loop)

    async def _call(self, worker: _Worker, request: Request, name: str) -> Any:
        if worker.gone:
            raise self._crash_error(worker.address)
        call = asyncio.current_task()
        assert call is not None
        worker.calls.add(call)
        try:
            return await self._serve(worker, request, name)
        except (KilledWorker, CancelledError, asyncio.CancelledError) as error:
            self._check_open()
            raise self._crash_error(worker.address) from error
        finally:
            worker.calls.discard(call)
            del (
                call
            )  # a reference cycle with the error would keep the payload until garbage collection

    async def _serve(self, worker: _Worker, request: Any, name: str) -> Any:
        on = [worker.address]
        if request.content.inline_bytes > _LARGE:
            [request] = await self._client.scatter(
                [request], workers=on, hash=False, asynchronous=True
            )
        # Not pure, so that equal calls run twice; on one worker only, so that a call is not run again elsewhere.
        task = self._client.submit(serve, request, key=name, workers=on, pure=False)
        self.unfinished.add(task)
        try:
            error = await task.exception()
            if error is not None:
                raise error
            if task.cancelled():
                raise CancelledError
            answer = await self._fetch(worker, name)
        except BaseException:
            task.release()  # or it would run when a worker of this address comes back
            raise
        finally:
            self.unfinished.discard(task)
            # The client keeps a log of what it has sent, for debugging: it would grow to gigabytes of payloads.
            self._connection.recent_message_log.clear()
        # Forgetting a task costs scheduler and worker time, which pending answers need now.
        asyncio.get_running_loop().call_later(_LATER, task.release)
        return answer

    async def _fetch(self, worker: _Worker, name: str) -> Any:
        """The answer of a task that has ended.

        Answers that are ready at the same time are asked for together, which costs scheduler and caller
        less than half. All of them arrive with the last one, so one unreachable host would delay the others.
        An answer is therefore asked for alone if the last one of its worker was large or late.
        """
        if worker.prompt:
            self._ready[name] = coming = asyncio.get_running_loop().create_future()
            if self._asking is None or self._asking.done():
                self._asking = asyncio.create_task(self._ask())
            found, soon = await coming
            worker.prompt = found is not None and soon and _is_small(found[name])
            if found is not None:
                return found[name]
        while not worker.gone:
            self._check_open()
            began = perf_counter()
            found = await self._gather([name])
            if found is not None:
                worker.prompt = _is_small(found[name]) and perf_counter() - began < _SOON
                return found[name]
            await asyncio.sleep(
                _AGAIN
            )  # its worker may be back; if it has left, `dismiss` is called
        raise CancelledError

    async def _ask(self) -> None:
        """Fetch what is ready, until nothing is; a result of None means: ask for it alone."""
        while self._ready:
            some = tuple(self._ready)[:_MOST]
            coming = {name: future for name in some if not (future := self._ready.pop(name)).done()}
            if not coming:
                continue
            began, found = perf_counter(), None
            # After an error each answer is asked for alone, which raises it again.
            with contextlib.suppress(Exception):
                found = await asyncio.wait_for(self._gather(list(coming)), _PATIENCE)
            soon = perf_counter() - began < _SOON * max(1.0, len(coming) / _FEW)
            for future in coming.values():
                if not future.done():  # its call was cancelled in the meantime
                    future.set_result((found, soon))

    async def _gather(self, names: list[str]) -> dict[str, Any] | None:
        # Not `Client.gather`, which joins concurrent requests into one that waits for the slowest.
        with contextlib.suppress(OSError):  # the connection was lost, which `check_open` finds
            reply = await self._client.scheduler.gather(keys=names)
            if reply["status"] == "OK":
                found: dict[str, Any] = reply["data"]
                return found
        return None


def _is_small(answer: Any) -> bool:
    return not isinstance(answer, Parcel) or answer.inline_bytes <= _SMALL
