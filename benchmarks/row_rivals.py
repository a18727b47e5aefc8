"""codedmap and its rivals in the benchmark `rows`: each computes a function on numbered rows.

``python -m benchmarks.row_rivals NAME WORKERS`` prints the seconds of a cold start.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from .row_functions import work

__all__ = ["RIVALS", "Codedmap", "Pool", "Rival", "TwoCopies"]

Fn = Callable[[Any], float]


class Rival:
    """A library with its workers.

    Parameters
    ----------
    workers : int
    """

    name = ""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.start()

    def start(self) -> None:
        """Start the workers."""
        raise NotImplementedError

    def run(
        self, fn: Fn, rows: int, answers: dict[int, float], errors: list[BaseException]
    ) -> None:
        """Compute all rows; add answers and errors as the caller of the library gets them."""
        raise NotImplementedError

    def reset(self) -> None:
        """Make ready again after a run that raised or did not end."""
        self.close()
        self.start()

    def close(self) -> None:
        """End the workers."""
        raise NotImplementedError

    def warm(self) -> None:
        """Have every worker compute something."""
        answers: dict[int, float] = {}
        errors: list[BaseException] = []
        self.run(nap, 4 * self.workers, answers, errors)
        if len(answers) < 4 * self.workers:
            raise RuntimeError(f"{self.name}: {len(answers)} answers, {errors}")


def nap(row: float) -> float:
    """Sleep 20 ms."""
    work(0.02, computing=False)
    return float(row)


def one(row: float) -> float:
    """Return the row."""
    return float(row)


class Codedmap(Rival):
    """`codedmap.map` on its own worker processes, with the default settings."""

    name = "codedmap"
    options: Mapping[str, Any] = {}
    failed = missing = 0
    """Rows of the last run, by their status."""

    def start(self) -> None:
        from codedmap.engines import Local  # noqa: PLC0415  its import is part of a cold start

        self.engine = Local(self.workers)

    def run(
        self, fn: Fn, rows: int, answers: dict[int, float], errors: list[BaseException]
    ) -> None:
        import numpy as np  # noqa: PLC0415

        import codedmap as cm  # noqa: PLC0415

        result = cm.map(
            cm.itemwise(fn), np.arange(rows), engine=self.engine, on_error="record", progress=False,
            **self.options,
        )  # fmt: skip
        exact = np.flatnonzero(result.status == cm.Status.EXACT)
        answers.update(zip(exact.tolist(), result.values[exact].tolist(), strict=True))
        errors += result.failures.values()
        self.failed = int((result.status == cm.Status.FAILED).sum())
        self.missing = int((result.status == cm.Status.MISSING).sum())

    def close(self) -> None:
        self.engine.close()


class WithoutHedges(Codedmap):
    """The same without hedges."""

    name = "codedmap, hedge=None"
    options: Mapping[str, Any] = {"hedge": None}


class Pool(Rival):
    """``ProcessPoolExecutor.map``; what comes after the first error is lost to its caller."""

    name = "ProcessPoolExecutor"
    chunksize = 1

    def start(self) -> None:
        import multiprocessing  # noqa: PLC0415
        from concurrent.futures import ProcessPoolExecutor  # noqa: PLC0415

        # Processes with threads, such as this one, must not fork.
        context = multiprocessing.get_context("forkserver")
        self.pool = ProcessPoolExecutor(self.workers, mp_context=context)

    def run(
        self, fn: Fn, rows: int, answers: dict[int, float], errors: list[BaseException]
    ) -> None:
        results = self.pool.map(fn, range(rows), chunksize=self.chunksize)
        try:
            answers.update(enumerate(results))  # keeps what comes before an error
        except Exception as error:  # whatever fn raises
            errors.append(error)

    def close(self) -> None:
        processes = list((self.pool._processes or {}).values())
        self.pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        for process in processes:
            process.join()


class TwoCopies(Pool):
    """Every row sent twice to a `ProcessPoolExecutor`, all rows before the second copies.

    The first answer counts. The other copy is cancelled, which has an effect only before it begins.
    """

    name = "two copies"

    def run(
        self, fn: Fn, rows: int, answers: dict[int, float], errors: list[BaseException]
    ) -> None:
        from concurrent.futures import as_completed  # noqa: PLC0415

        try:
            copies = [self.pool.submit(fn, row) for _ in range(2) for row in range(rows)]
            numbers = {future: at % rows for at, future in enumerate(copies)}
            for future in as_completed(copies):
                row = numbers[future]
                if row in answers or future.cancelled():
                    continue
                answers[row] = future.result()
                copies[row].cancel()
                copies[row + rows].cancel()
                if len(answers) == rows:
                    return
        except Exception as error:
            errors.append(error)


class Joblib(Rival):
    """`joblib.Parallel` over loky, a row a task."""

    name = "joblib"

    def start(self) -> None:
        import joblib  # noqa: PLC0415

        self.joblib = joblib

    def run(
        self, fn: Fn, rows: int, answers: dict[int, float], errors: list[BaseException]
    ) -> None:
        delayed = self.joblib.delayed(fn)
        parallel = self.joblib.Parallel(self.workers, batch_size=1, return_as="generator")
        try:
            answers.update(enumerate(parallel(delayed(row) for row in range(rows))))
        except Exception as error:
            errors.append(error)

    def close(self) -> None:
        from joblib.externals.loky import get_reusable_executor  # noqa: PLC0415

        get_reusable_executor(self.workers).shutdown(wait=True, kill_workers=True)


class Dask(Rival):
    """``client.map`` with stealing, as by default; workers of one thread, each with a nanny."""

    name = "Dask"

    def start(self) -> None:
        from chaos.commands import START, scheduler, workers  # noqa: PLC0415
        from distributed import Client  # noqa: PLC0415

        with ExitStack() as stack:
            folder = Path(stack.enter_context(TemporaryDirectory(ignore_cleanup_errors=True)))
            running = stack.enter_context(scheduler(folder))
            count = ("--nworkers", str(self.workers))
            stack.enter_context(workers(folder, running.address, *count))
            self.client = stack.enter_context(Client(running.address))
            self.client.wait_for_workers(self.workers, START)
            self._stack = stack.pop_all()

    def run(
        self, fn: Fn, rows: int, answers: dict[int, float], errors: list[BaseException]
    ) -> None:
        from distributed import as_completed  # noqa: PLC0415

        self.futures = self.client.map(fn, range(rows), pure=False)
        numbers = {future.key: row for row, future in enumerate(self.futures)}
        for future, value in as_completed(self.futures, with_results=True, raise_errors=False):
            if future.status == "finished":
                answers[numbers[future.key]] = value
            else:
                errors.append(future.exception())
        self.futures = []

    def reset(self) -> None:
        from chaos.commands import START  # noqa: PLC0415

        self.client.cancel(self.futures, force=True)
        self.futures = []
        self.client.wait_for_workers(self.workers, START)

    def close(self) -> None:
        self._stack.close()


class Ray(Rival):
    """A Ray task a row."""

    name = "Ray"

    def start(self) -> None:
        from chaos.rays import ray_here  # noqa: PLC0415

        with ExitStack() as stack:
            stack.enter_context(ray_here(self.workers))
            import ray  # noqa: PLC0415

            self.ray = ray
            self.call = ray.remote(_call)
            self._stack = stack.pop_all()

    def run(
        self, fn: Fn, rows: int, answers: dict[int, float], errors: list[BaseException]
    ) -> None:
        ray = self.ray
        self.pending = pending = [self.call.remote(fn, row) for row in range(rows)]
        numbers = {ref: row for row, ref in enumerate(pending)}
        while pending:
            done, pending = ray.wait(pending)
            for ref in done:
                try:
                    answers[numbers[ref]] = ray.get(ref)
                except Exception as error:
                    errors.append(error)
        self.pending = []

    def reset(self) -> None:
        for ref in self.pending:
            self.ray.cancel(ref, force=True)
        self.pending = []

    def close(self) -> None:
        self._stack.close()


class OnDask(Codedmap, Dask):
    """`codedmap.map` on the workers of a Dask cluster."""

    name = "codedmap on Dask"

    def start(self) -> None:
        import codedmap as cm  # noqa: PLC0415

        Dask.start(self)
        self.engine = cm.engines.Dask(self.client)

    def warm(self) -> None:
        self.client.wait_for_workers(self.workers)
        super().warm()

    def close(self) -> None:
        self.engine.close()
        Dask.close(self)


class OnRay(Codedmap, Ray):
    """`codedmap.map` on actors of a Ray cluster."""

    name = "codedmap on Ray"

    def start(self) -> None:
        import codedmap as cm  # noqa: PLC0415

        Ray.start(self)
        self.engine = cm.engines.Ray(self.workers)

    def warm(self) -> None:
        from chaos.commands import START, eventually  # noqa: PLC0415

        eventually(lambda: self.engine.workers == self.workers, START)
        super().warm()

    def close(self) -> None:
        self.engine.close()
        Ray.close(self)


def _call(fn: Fn, row: int) -> float:
    return fn(row)


RIVALS: dict[str, type[Rival]] = {
    kind.name: kind
    for kind in (Codedmap, WithoutHedges, Pool, TwoCopies, Joblib, Dask, Ray, OnDask, OnRay)
}


def _cold(name: str, workers: int) -> float:
    began = time.perf_counter()
    rival = RIVALS[name](workers)
    rival.run(one, workers, {}, [])
    seconds = time.perf_counter() - began
    rival.close()
    return seconds


if __name__ == "__main__":
    print(_cold(sys.argv[1], int(sys.argv[2])))
