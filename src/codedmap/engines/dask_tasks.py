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
_SOON = 0.05  # seconds in which small answers come from workers that hold nobody up
_PATIENCE = 0.2  # seconds after which answers that were asked for together are asked for one by one
_LATER = 0.1  # seconds for which a task is still known after its answer has come


@dataclass(eq=False)
class _Worker:
    """A worker process, under the address it has while it lives."""

    address: str
    gone: bool = False
    calls: set[asyncio.Task[Any]] = field(default_factory=set)
    prompt: bool = False
    """Whether its last answer was small and came soon."""


class Tasks:
    """The tasks of an engine.

    Parameters
    ----------
    client : distributed.Client
    check_open : callable
        Raises `EngineError` if its scheduler is not who it was.
    died : callable
        What a call fails with whose worker, of this address, did not survive it.
    """

    def __init__(
        self,
        client: Any,
        check_open: Callable[[], None],
        died: Callable[[str], WorkerCrashed],
    ) -> None:
        self._client = client
        self._connection = client.scheduler_comm
        self._check_open = check_open
        self._died = died
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
            raise self._died(worker.address)
        call = asyncio.current_task()
        assert call is not None
        worker.calls.add(call)
        try:
            return await self._served(worker, request, name)
        except (KilledWorker, CancelledError, asyncio.CancelledError) as error:
            self._check_open()
            raise self._died(worker.address) from error
        finally:
            worker.calls.discard(call)
            del call  # which refers to the error, and that to us: its payload shall not wait for the collector

    async def _served(self, worker: _Worker, request: Any, name: str) -> Any:
        on = [worker.address]
        if request.content.inline_bytes > _LARGE:
            [request] = await self._client.scatter(
                [request], workers=on, hash=False, asynchronous=True
            )
        # Not pure: the same call twice shall run twice. And only there: it shall not run again.
        task = self._client.submit(serve, request, key=name, workers=on, pure=False)
        self.unfinished.add(task)
        try:
            error = await task.exception()
            if error is not None:
                raise error
            if task.cancelled():
                raise CancelledError
            answer = await self._fetched(worker, name)
        except BaseException:
            task.release()  # or it would run when a worker of this address comes back
            raise
        finally:
            self.unfinished.discard(task)
            # The client logs what it has sent, for Dask's developers: a gigabyte of payloads, in time.
            self._connection.recent_message_log.clear()
        # To forget a task is work for scheduler and worker, of which others are waiting for answers now.
        asyncio.get_running_loop().call_later(_LATER, task.release)
        return answer

    async def _fetched(self, worker: _Worker, name: str) -> Any:
        """The answer of a task that has ended.

        What is there at the same time is asked for together, which costs scheduler and caller less than
        half. But then all come as late as the last of them, and one host that is cut off would hold up the
        others: an answer from where the last one was large, or not there at once, is asked for alone.
        """
        if worker.prompt:
            self._ready[name] = coming = asyncio.get_running_loop().create_future()
            if self._asking is None or self._asking.done():
                self._asking = asyncio.create_task(self._ask())
            found, soon = await coming
            worker.prompt = found is not None and soon and _small(found[name])
            if found is not None:
                return found[name]
        while not worker.gone:
            self._check_open()
            began = perf_counter()
            found = await self._gathered([name])
            if found is not None:
                worker.prompt = _small(found[name]) and perf_counter() - began < _SOON
                return found[name]
            await asyncio.sleep(_AGAIN)  # its worker may be back; if it has gone, we shall hear
        raise CancelledError

    async def _ask(self) -> None:
        """Fetch what is ready, until nothing is; None comes of what is to be asked for alone."""
        while self._ready:
            some = tuple(self._ready)[:_MOST]
            coming = {name: future for name in some if not (future := self._ready.pop(name)).done()}
            if not coming:
                continue
            began, found = perf_counter(), None
            # Whatever is wrong, those who are waiting will find out when they ask by themselves.
            with contextlib.suppress(Exception):
                found = await asyncio.wait_for(self._gathered(list(coming)), _PATIENCE)
            soon = perf_counter() - began < _SOON * max(1.0, len(coming) / _FEW)
            for future in coming.values():
                if not future.done():  # its call was cancelled in the meantime
                    future.set_result((found, soon))

    async def _gathered(self, names: list[str]) -> dict[str, Any] | None:
        # Not by `Client.gather`, which puts what is asked for at the same time together, however late.
        with contextlib.suppress(OSError):  # the scheduler has gone, as we are about to notice
            reply = await self._client.scheduler.gather(keys=names)
            if reply["status"] == "OK":
                found: dict[str, Any] = reply["data"]
                return found
        return None


def _small(answer: Any) -> bool:
    return not isinstance(answer, Parcel) or answer.inline_bytes <= _SMALL
