"""A job of `map` or `stream`: it runs, and makes results."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import ExitStack, aclosing
from contextvars import copy_context
from functools import partial
from typing import TypeVar, cast

from ..results.map_result import MapResult
from .live import Brief, Budget, LiveJob
from .threads import in_thread

T = TypeVar("T")

_SHOWING = 0.1  # the share of the time that results before the last may take


def apart(make: Callable[[], T]) -> asyncio.Future[T]:
    """What ``make`` returns, made in a thread of its own: those of the event loop may all be busy, or wait for this."""
    return asyncio.wrap_future(in_thread(partial(copy_context().run, make)))


class MapJob(LiveJob):
    """A job of `map`."""

    def so_far(self) -> MapResult | None:
        """The result so far, while the job goes on; None if nothing is known, or answers are written to a store."""
        raise NotImplementedError

    def result(self) -> MapResult:
        """The result of the job, which has ended."""
        raise NotImplementedError

    def then(self) -> MapJob | None:
        """Another job, which computes the rest, once this one has ended."""
        return None

    def run(self) -> MapResult:
        with Brief():
            for _ in self.steps():
                pass
            job = self.then()
            return self.result() if job is None else job.run()

    def stream(self, stack: ExitStack) -> Generator[MapResult, None, None]:
        """Results while the job runs, and the last one; the stack is closed at the end."""
        results = self._results(stack)
        next(results)  # starts the job; from then on closing it abandons
        return cast("Generator[MapResult, None, None]", results)

    async def arun(self) -> MapResult:
        """As `run`, while the event loop goes on."""
        with Brief():
            async with aclosing(self.asteps()) as steps:
                async for _ in steps:
                    pass
            job = self.then()
            return await (self._aresult() if job is None else job.arun())

    async def astream(self) -> AsyncGenerator[MapResult, None]:
        """As `stream`, while the event loop goes on."""
        improved = _Improved(self)
        with Brief():
            async with aclosing(self.asteps()) as steps:
                async for _ in steps:
                    if improved.due():
                        result = await apart(improved.result)
                        if result is not None:
                            yield result
            job = self.then()
            if job is None:
                yield await self._aresult()
                return
            async with aclosing(job.astream()) as results:
                async for result in results:
                    yield result

    async def _aresult(self) -> MapResult:
        """The result, made in another thread, which has ended when this returns or raises."""
        making = apart(self.result)
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:  # the store that it writes to must not be closed meanwhile
            await asyncio.wait([making])
            raise

    def _results(self, stack: ExitStack) -> Generator[MapResult | None, None, None]:
        with Brief(), stack:
            job: MapJob | None = self
            steps = self.steps()
            yield next(steps)
            while job is not None:
                improved = _Improved(job)
                for _ in steps:
                    result = improved.result() if improved.due() else None
                    if result is not None:
                        yield result
                last, job = job, job.then()
                if job is not None:
                    steps = job.steps()
            result = last.result()
        yield result


class _Improved:
    """Results before the last: after further answers, while they take a small share of the time."""

    def __init__(self, job: MapJob) -> None:
        self._job, self._budget, self._shown = job, Budget(job, _SHOWING), 0

    def due(self) -> bool:
        """Whether there are further answers, and time to make a result of them."""
        job = self._job
        ended = job.scheduler.outcome is not None
        if ended or job.busy or job.answers == self._shown or not self._budget.allows():
            return False
        self._shown = job.answers
        return True

    def result(self) -> MapResult | None:
        """The result so far, as `MapJob.so_far`."""
        with self._budget:
            return self._job.so_far()
