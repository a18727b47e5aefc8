"""`Pool`: workers behind the interface of ``multiprocessing.Pool``, for libraries that take one."""

from __future__ import annotations

import asyncio
import math
import os
import threading
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future
from contextlib import ExitStack, aclosing, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import numpy as np

from ..contracts.arguments import check_whole
from ..engines import Engine, Resident
from ..engines.executor import Inline
from ..engines.transport.parcel import PickledOnce
from ..errors import (
    CannotSend,
    EngineError,
    InvalidArgument,
    NotEnoughAnswers,
    RowFailed,
    WorkerLost,
)
from ..execution.hedge import Hedge
from ..execution.task import itemwise, own_copy
from ..results.map_result import MapResult
from ..results.summary import short
from ..storage.source import Batches, single
from .map import HEDGE, Options, check_fn, check_hedge_of_rows, engine_of, options_of

_SHORT_JOB = 0.05  # seconds: the inputs of a shorter job are shared out at once


class Pool:
    """Workers with methods of ``multiprocessing.Pool``: a list of answers, each exact, or an exception.

    Each call is a job of `codedmap.map`: what crashes is made again, and what is late is sent to a second worker.
    Nothing is ever estimated. Functions take one input and return anything that can be pickled; lambdas and
    functions of a notebook can be sent, too. They may run more than once for an input. A function whose pickle equals
    that of the call before is not sent again: an optimiser sends its objective, with the data in it, once.

    SciPy, emcee, dynesty and other libraries take a pool, or its `map`; the pool itself may be called in its place.

    Parameters
    ----------
    engine : Engine or concurrent.futures.Executor, optional
        Where calls run; it is not closed with the pool. By default worker processes on the cores of this machine,
        which end with the pool.
    hedge : Hedge, optional
        How late calls are sent again; None: never.
    retries : int
        How often an input that runs alone may end its worker and be sent again.
    call_timeout : float, optional
        Seconds that a function may run; then `CallTimeout` is raised.

    Raises
    ------
    InvalidArgument
        If an argument is invalid.

    Examples
    --------
    >>> import codedmap as cm
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> with ThreadPoolExecutor(4) as executor, cm.Pool(executor) as pool:
    ...     pool.map(abs, [-2, 3]), pool.starmap(pow, [(2, 3), (3, 2)]), pool.submit(sum, [1, 2]).result()
    ([2, 3], [8, 9], 3)
    """

    def __init__(
        self,
        engine: Engine | Executor | None = None,
        *,
        hedge: Hedge | None = HEDGE,
        retries: int = 2,
        call_timeout: float | None = None,
    ) -> None:
        Options(hedge=hedge, retries=retries, call_timeout=call_timeout)
        check_hedge_of_rows(hedge)
        self._stack = ExitStack()
        self._engine = engine_of(engine, None, self._stack)
        self._options: dict[str, Any] = {
            "engine": self._engine,
            "hedge": hedge,
            "retries": retries,
            "call_timeout": call_timeout,
            "progress": False,
        }
        self._last: _Last | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: Callable[[], object] = lambda: None
        """Ends the loop and its threads; so does dropping the pool."""
        self._calls: set[Future[Any]] = set()
        """Those of `submit` without an answer."""
        self._lock = threading.Lock()
        self._closing = threading.RLock()  # held by the thread that waits for the calls
        self._owner = os.getpid()
        self._closed = False

    @property
    def size(self) -> int:
        """The number of workers."""
        return int(self._engine.workers)

    def map(
        self,
        fn: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[Any], object] | None = None,
    ) -> list[Any]:
        """The answers to all inputs, in their order.

        Parameters
        ----------
        fn : callable
            Of one input.
        iterable : iterable
            The inputs. All are read before the first is computed.
        chunksize : int, optional
            Inputs of a call. By default as many as take 0.05 to 0.2 s, judged by earlier calls. Where all took less than
            0.05 s in the last `map` of this function, each worker begins with a call of its share of them.
        callback : callable, optional
            Called here with each answer, in the order of their arrival.

        Returns
        -------
        list

        Raises
        ------
        Exception
            What ``fn`` raised, with a note that names the input; the calls of all others are abandoned.
        RowFailed
            If ``fn`` raised what would end the caller, such as SystemExit, or an objective of SciPy's returned None.
        WorkerCrashed
            If an input ends its workers.
        CallTimeout
            If one runs longer than ``call_timeout``.
        NotEnoughAnswers
            If no worker is left.
        """
        return self._map(_Task(fn), iterable, chunksize, callback)

    def __call__(self, fn: Callable[[Any], Any], iterable: Iterable[Any]) -> list[Any]:
        """As `map`."""
        return self.map(fn, iterable)

    def starmap(
        self,
        fn: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[Any], object] | None = None,
    ) -> list[Any]:
        """As `map`, of a function of several arguments: each input is an iterable of them."""
        return self._map(_Task(fn, star=True), _arguments(iterable), chunksize, callback)

    def imap(
        self, fn: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> Iterator[Any]:
        """The answers in the order of the inputs, each as soon as it and all before it are there.

        Calls are sent before the first answer is asked for. What has no length, such as a generator, is read in another
        thread as workers need inputs, and may be endless. Closing the iterator abandons the calls that still run. What
        ``fn`` raised for an input is raised in its place, after the answers to all before it.
        """
        return _in_order(self._arrivals(_Task(fn), iterable, chunksize, ordered=True))

    def imap_unordered(
        self, fn: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> Iterator[Any]:
        """As `imap`, in the order in which answers arrive; what ``fn`` raised is raised when that arrives."""
        return (answer for _, answer in self._arrivals(_Task(fn), iterable, chunksize))

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Compute ``fn(*args, **kwargs)`` on a worker.

        Returns
        -------
        concurrent.futures.Future
            Cancelling it abandons the call, also one that runs.
        """
        return self._submit(partial(fn, *args, **kwargs))

    def _submit(self, fn: Callable[[], Any], *parts: Callable[[], list[Any]]) -> Future[Any]:
        """Compute ``fn()``; if it ends its worker or takes too long, each of its ``parts``, whose lists are joined.

        Without retries parts are not computed, because ``fn()`` may have run some of them.
        """
        if getattr(self._engine, "runs_here", False):
            return Inline().submit(fn)
        with self._lock:
            self._check_open()
            if self._loop is None:
                loop = asyncio.new_event_loop()
                # Ctrl-C may come while the thread starts, so its end is arranged before, and the loop is kept after.
                stop = weakref.finalize(self, loop.call_soon_threadsafe, loop.stop)
                self._stop, stop.atexit = stop, False
                threading.Thread(target=_serve, args=(loop,), daemon=True).start()
                self._loop = loop
            task = _Task(fn, star=True)
            call = asyncio.run_coroutine_threadsafe(self._one(task, *parts), self._loop)
            self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        return call

    def close(self) -> None:
        """Wait for the calls that were submitted, and end the workers that the pool has started.

        In a callback of a call this returns at once, and another thread does it.
        """
        self._close(cancel=False)

    join = close

    def terminate(self) -> None:
        """Abandon the calls that were submitted, and end the workers that the pool has started."""
        self._close(cancel=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self._close(cancel=error is not None)

    def __reduce__(self) -> Any:
        raise CannotSend(
            "a Pool cannot be pickled, as it would be to send it to a worker: the function that a worker computes must "
            "not hold one"
        )

    def _close(self, *, cancel: bool) -> None:
        if os.getpid() != self._owner:  # a fork of the process has none of the pool's threads
            return
        with self._lock:
            self._closed = True
        if cancel:  # also while another thread waits for them
            self._cancel()
        if self._loop is not None and asyncio._get_running_loop() is self._loop:
            # In a callback of a call, which is to end before the loop can.
            threading.Thread(target=self._close, kwargs={"cancel": cancel}).start()
            return
        with self._closing:
            try:
                if self._loop is not None:
                    try:
                        asyncio.run_coroutine_threadsafe(_ended(), self._loop).result()
                    except BaseException:  # Ctrl-C
                        self._cancel()
                        asyncio.run_coroutine_threadsafe(_ended(), self._loop).result()
                        raise
            finally:
                self._loop = None
                self._stop()
                self._stack.close()

    def _cancel(self) -> None:
        for call in tuple(self._calls):
            call.cancel()

    def _map(
        self,
        task: _Task,
        iterable: Iterable[Any],
        chunksize: int | None,
        callback: Callable[[Any], object] | None,
    ) -> list[Any]:
        items = list(iterable)
        answers = [None] * len(items)
        for position, answer in self._arrivals(task, items, chunksize):
            answers[position] = answer
            if callback is not None:
                callback(answer)
        return answers

    def _arrivals(
        self, task: _Task, iterable: Iterable[Any], chunksize: int | None, *, ordered: bool = False
    ) -> Iterator[tuple[int, Any]]:
        """The position of each input and its answer, as answers arrive; the calls are sent now."""
        self._check_open()
        if chunksize is not None:
            check_whole("chunksize", chunksize, 1)
        # For the answers before a failure, and for what fn raised as it is.
        options = self._options | {"on_error": "record", "max_failures": None}
        if hasattr(iterable, "__len__"):
            items = list(iterable)
            if not items:
                return iter(())
            inputs: Any = [_Sealed(item) for item in items]
        else:
            with _own_exceptions():
                inputs = Batches((_Sealed(item) for item in iterable), single)
            if not inputs.rows:
                inputs.close()
                return iter(())
            items = None
        kept = self._kept(task)
        count = None if items is None else len(items)
        first = 1 if kept is None or count is None else kept.first(count, self.size)
        job = replace(options_of(options | {"chunk": chunksize}), first=first)
        fn, stack = itemwise(task) if kept is None else kept.fn, ExitStack()
        try:
            results = job.job(fn, inputs, stack).stream(stack)
        except BaseException:
            stack.close()
            raise
        return self._arriving(results, count, ordered, kept)

    async def _one(self, task: _Task, *parts: Callable[[], list[Any]]) -> Any:
        # Not by amap, whose threads take longer to start than a short call: this thread does nothing else.
        try:
            with ExitStack() as stack:
                job = options_of(self._options).job(itemwise(task), [_Sealed(())], stack)
                async with aclosing(job.asteps()) as steps:
                    async for _ in steps:
                        pass
                return job.result().values[0].value
        except RowFailed as failed:
            cause = _to_raise(0, failed.__cause__, 1)
            if not (parts and self._options["retries"] and isinstance(cause, WorkerLost)):
                raise cause from cause.__cause__
        return [answer for part in parts for answer in await self._one(_Task(part, star=True))]

    def _kept(self, task: _Task) -> _Last | None:
        """The task as a function that workers keep: that of the call before, if both have the same pickle."""
        if getattr(self._engine, "in_process", False):
            return None
        fn = itemwise(task)
        try:
            digest = PickledOnce(fn).digest()
        except Exception:  # the first call says what cannot be sent
            return None
        last = self._last  # read once: another thread may call the pool as well
        if last is None or last.digest != digest:
            last = self._last = _Last(digest, Resident(fn, self._engine))
        return last

    def _arriving(
        self,
        results: Generator[MapResult, None, None],
        items: int | None,
        ordered: bool,
        kept: _Last | None,
    ) -> Iterator[tuple[int, Any]]:
        """As `_arrivals`, of a job with so many ``items``, None if not known; raises at a failure."""
        seen = np.array([], dtype=bool)
        with closing(results):
            try:
                with _own_exceptions():
                    for result in results:
                        seen = np.r_[seen, np.zeros(len(result.exact) - len(seen), dtype=bool)]
                        for position in np.flatnonzero(result.exact & ~seen):
                            sealed = result.values[position]
                            yield int(position), sealed.value
                            del sealed.value  # the job would keep it in memory
                        seen |= result.exact
                        row = min(result.failures, default=None)
                        if row is not None and (not ordered or seen[:row].all()):
                            break
                    else:
                        if not seen.all():
                            raise NotEnoughAnswers(
                                f"{(~seen).sum():,} of {len(seen):,} inputs have no answer, and no worker is left",
                                "start more workers",
                            )
                        if kept is not None:
                            kept.seconds = result.seconds / len(seen)
                        return
            except EngineError as error:
                if not self._closed:
                    raise
                raise EngineError(
                    "the pool was closed while answers were still to come: take them all before it is closed, or its with "
                    "block is left"
                ) from error
            cause = _to_raise(row, result.failures[row], items)
            raise cause from cause.__cause__

    def _check_open(self) -> None:
        if os.getpid() != self._owner:
            raise EngineError(
                f"the pool was made by process {self._owner}, from which this one was forked: make another one here"
            )
        if self._closed:
            raise InvalidArgument("the pool is closed: make another one")


@dataclass(slots=True)
class _Last:
    """The function of the last call."""

    digest: bytes
    """That of its pickle."""
    fn: Resident
    """The function itself, kept on the workers."""
    seconds: float = math.inf
    """Seconds of its last job, divided by the inputs."""

    def first(self, items: int, workers: int) -> int:
        """Inputs of the first calls of a job with so many: of a short one all, since trials would take longer than the job."""
        return 1 if self.seconds * items > _SHORT_JOB else -(-items // max(1, workers))


class _Sealed:
    """An input or an answer in a wrapper, so that nothing on the way makes an array of it."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class _Task:
    """The caller's function, with sealed inputs and answers; ``star``: an input holds all arguments."""

    def __init__(self, fn: Callable[..., Any], *, star: bool = False) -> None:
        check_fn(fn)
        if isinstance(fn, Resident):
            raise InvalidArgument("fn is resident: give the function itself, which a pool keeps")
        self.fn, self.star = fn, star

    def __call__(self, item: _Sealed) -> _Sealed:
        answer = self.fn(*item.value) if self.star else self.fn(item.value)
        # SciPy itself would only say "'<' not supported between NoneType and float".
        if answer is None and type(self.fn).__module__.startswith("scipy."):
            raise _NoNumber
        return _Sealed(own_copy(answer))


class _NoNumber(Exception):
    """An objective of SciPy's returned None."""


def _arguments(iterable: Iterable[Iterable[Any]]) -> list[tuple[Any, ...]]:
    """The arguments of each call of `starmap`; raises `InvalidArgument` for an input that is no iterable."""
    items: list[tuple[Any, ...]] = []
    for item in iterable:
        if not np.iterable(item):
            raise InvalidArgument(
                f"input {len(items)} of starmap is of type {type(item).__name__}, and must be a tuple of the arguments "
                "of fn: give (x,) for one argument, or take map"
            )
        items.append(tuple(item))
    return items


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    """Run an event loop, for calls that were submitted, until it is stopped."""
    loop.run_forever()
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


async def _ended() -> None:
    """Wait until all other tasks of this event loop have ended."""
    await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()}, return_exceptions=True)


@contextmanager
def _own_exceptions() -> Iterator[None]:
    """Raise what an iterator of inputs has raised, instead of the error that it has caused."""
    try:
        yield
    except InvalidArgument as error:
        cause = error.__cause__ or error
        raise cause from cause.__cause__


def _in_order(arrivals: Iterator[tuple[int, Any]]) -> Iterator[Any]:
    waiting: dict[int, Any] = {}
    due = 0
    for position, answer in arrivals:
        waiting[position] = answer
        while due in waiting:
            yield waiting.pop(due)
            due += 1


def _to_raise(row: int, cause: BaseException | None, items: int | None) -> BaseException:
    """The exception for input ``row`` of so many ``items``, with its number; ``cause``: why the row failed."""
    assert cause is not None
    of = "" if items is None else f" of {items}"
    name = f"input {row}{of}" if items != 1 else "the input"
    if isinstance(cause, _NoNumber):
        return RowFailed(
            f"the function that SciPy was given returned None for {name}",
            "let it return a number",
            row=row,
        )
    if not isinstance(cause, Exception) or isinstance(cause, StopIteration):
        ended = RowFailed(
            f"{name} raised {short(cause)}, which is not raised here because it may end the program, or a loop",
            "correct the function or this input",
            row=row,
        )
        ended.__cause__ = cause
        return ended
    if items != 1:
        cause.add_note(f"for {name}")
    return cause
