"""`JoblibBackend`: joblib, and with it scikit-learn, on an engine."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from joblib.parallel import (
    AutoBatchingMixin,
    BatchedCalls,
    ParallelBackendBase,
    SequentialBackend,
)

from ..engines import Engine
from ..errors import InvalidArgument
from ..execution.hedge import Hedge
from .map import HEDGE
from .pool import Pool


class JoblibBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]  # joblib has no types
    """A backend of joblib: a crash costs one call, which is made again, and late calls are hedged.

    With it scikit-learn's searches, cross-validation and forests run on an engine. Parallel calls inside of a call run
    one after another.

    Parameters
    ----------
    engine : Engine or concurrent.futures.Executor
        Where calls run.
    hedge, retries, call_timeout
        As for `Pool`.

    Examples
    --------
    >>> import codedmap as cm, joblib
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> with ThreadPoolExecutor(4) as executor:
    ...     with joblib.parallel_config(backend=cm.JoblibBackend(executor)):
    ...         joblib.Parallel()(joblib.delayed(pow)(n, 2) for n in range(5))
    [0, 1, 4, 9, 16]
    """

    supports_retrieve_callback = True
    default_n_jobs = -1

    def __init__(
        self,
        engine: Engine | Executor,
        *,
        hedge: Hedge | None = HEDGE,
        retries: int = 2,
        call_timeout: float | None = None,
        nesting_level: int | None = None,
    ) -> None:
        super().__init__(nesting_level=nesting_level)
        if engine is None:
            raise InvalidArgument(
                "JoblibBackend needs an engine that lasts for several calls: give codedmap.engines.Local(), say"
            )
        self._pool = Pool(engine, hedge=hedge, retries=retries, call_timeout=call_timeout)

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many calls run at the same time."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        size = self._pool.size
        if n_jobs is None or n_jobs < 0:
            n_jobs = size + 1 + (n_jobs or -1)
        return max(1, min(n_jobs, size))  # a cluster may have no worker yet

    def submit(
        self, func: Callable[[], Any], callback: Callable[[Any], object] | None = None
    ) -> Future[Any]:
        """Compute a batch of calls; one by one if any of them ends its worker, or the batch takes too long."""
        nested, items = self.get_nested_backend(), getattr(func, "items", ())
        single = (BatchedCalls([item], nested) for item in items if len(items) > 1)
        call = self._pool._submit(func, *single)
        if callback is not None:
            call.add_done_callback(callback)
        return call

    apply_async = submit  # its name before joblib 1.5

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """The answers of a batch."""
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Abandon all calls."""
        self._pool._cancel()

    def get_nested_backend(self) -> tuple[SequentialBackend, None]:
        """What runs parallel calls inside of a call."""
        return SequentialBackend(nesting_level=(self.nesting_level or 0) + 1), None
