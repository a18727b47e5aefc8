"""`amap` and `astream`: `map` and `stream` in an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from concurrent.futures import Future, wait
from contextlib import ExitStack, aclosing, asynccontextmanager
from contextvars import copy_context
from functools import partial
from typing import Any

from ..engines import Resident
from ..execution.job import MapJob
from ..execution.threads import in_thread
from ..results.map_result import MapResult
from .map import map, options_of, takes_the_same


@takes_the_same(map)
async def amap(fn: Callable[..., Any] | Resident, inputs: Any, **arguments: Any) -> MapResult:
    """`map` in an event loop, which goes on while calls run.

    Cancelling the task abandons its calls. Many jobs on one engine take turns: each worker computes their calls in the
    order in which they were sent, and a job sends it one or two at a time.

    Parameters
    ----------
    fn, inputs
        As for `map`. ``fn`` runs on the workers and is an ordinary function.
    **arguments
        All further arguments of `map`.

    Returns
    -------
    MapResult

    Raises
    ------
    CodedmapError
        As `map`.

    Examples
    --------
    >>> import asyncio, numpy as np, codedmap as cm
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> async def main():
    ...     with ThreadPoolExecutor(4) as pool:
    ...         jobs = [cm.amap(np.sqrt, np.arange(3.0) * k, engine=pool) for k in (1, 4)]
    ...         return [result.values.tolist() for result in await asyncio.gather(*jobs)]
    >>> asyncio.run(main())
    [[0.0, 1.0, 1.4142135623730951], [0.0, 2.0, 2.8284271247461903]]
    """
    async with _job(fn, inputs, arguments) as job:
        return await job.arun()


@takes_the_same(map)
async def astream(
    fn: Callable[..., Any] | Resident, inputs: Any, **arguments: Any
) -> AsyncGenerator[MapResult, None]:
    """`stream` in an event loop, which goes on while calls run.

    The job begins with the first result that is asked for. Closing the generator abandons its calls, as does
    cancelling the task that waits for a result; ``contextlib.aclosing`` closes it when a loop is left early.

    Parameters
    ----------
    fn, inputs
        As for `map`.
    **arguments
        All further arguments of `stream`.

    Yields
    ------
    MapResult
        As `stream`.
    """
    async with _job(fn, inputs, arguments) as job, aclosing(job.astream()) as results:
        async for result in results:
            yield result


@asynccontextmanager
async def _job(fn: Any, inputs: Any, arguments: Mapping[str, Any]) -> AsyncIterator[MapJob]:
    """A job, with the engine that was made for it; both are made, and then closed, in another thread."""
    stack = ExitStack()
    making = in_thread(
        partial(copy_context().run, lambda: options_of(arguments).job(fn, inputs, stack))
    )
    raised: tuple[Any, ...] = (None, None, None)
    try:
        yield await asyncio.wrap_future(making)
    except BaseException as error:
        raised = type(error), error, error.__traceback__
        raise
    finally:
        made = making.done()
        closing = in_thread(partial(_close, stack, making, raised))
        del making, raised  # an error refers to this frame
        if made:  # else the task was cancelled, and does not wait
            await asyncio.shield(asyncio.wrap_future(closing))


def _close(stack: ExitStack, making: Future[MapJob], raised: tuple[Any, ...]) -> None:
    wait([making])
    stack.__exit__(*raised)
