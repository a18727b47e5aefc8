"""Any ``concurrent.futures.Executor`` as an engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import (
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from typing import Any

import cloudpickle

from .._checks import check_whole
from ._contract import Kept

__all__ = ["FromExecutor"]


class FromExecutor:
    """An executor wrapped as an engine; `codedmap.map` wraps one that it is given by itself.

    What it cannot keep of the engine laws, because an executor does not offer it:

    * Slots are not pinned to workers: a value "kept" is sent along with each call.
    * A straggler goes on and holds its worker. Calls that have not begun are cancelled on the
      standard library's pools only, since other executors cancel in name only or lose the worker.
    * The standard pools wait for stragglers when the program ends, and one crash in a
      ``ProcessPoolExecutor`` breaks the pool and costs every answer that is still pending. A
      thread that ends its process ends the caller's.

    Parameters
    ----------
    executor : Executor
        Not owned: closing it stays the caller's business.
    workers : int
        How many calls it really runs side by side.
    """

    def __init__(self, executor: Executor, workers: int) -> None:
        self._executor = executor
        self._workers = check_whole("workers", workers, 1)

    @property
    def workers(self) -> int:
        """As stated."""
        return self._workers

    def submit(self, slot: int, fn: Any, payload: Any) -> Future[Any]:
        """Compute ``fn(payload)`` somewhere."""
        fn, payload = (v.key if isinstance(v, Kept) else v for v in (fn, payload))
        try:
            return self._executor.submit(_Travelling(fn), payload)
        except BrokenExecutor as error:  # by an earlier call of the same wave, say
            future: Future[Any] = Future()
            future.set_exception(error)
            return future

    def keep(self, slot: int, value: Any) -> Kept:
        """A value that is sent along with each call."""
        return Kept(slot, value)

    def abandon(self, futures: Iterable[Future[Any]]) -> None:
        """Cancel what has not begun, on the standard library's pools."""
        if isinstance(self._executor, (ThreadPoolExecutor, ProcessPoolExecutor)):
            for future in futures:
                future.cancel()


class _Travelling:
    """A function that is pickled by cloudpickle, should the executor pickle it at all."""

    def __init__(self, fn: Callable[[Any], Any]) -> None:
        self._fn = fn

    def __call__(self, payload: Any) -> Any:
        return self._fn(payload)

    def __reduce__(self) -> tuple[Any, ...]:
        return _travelled, (cloudpickle.dumps(self._fn),)


def _travelled(pickled: bytes) -> _Travelling:
    return _Travelling(cloudpickle.loads(pickled))
