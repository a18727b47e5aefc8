"""KeyboardInterrupt at every point of what a caller does with `Local`, and SIGINT at random times on every engine.

A program for a process of its own: ``python -m tests.interrupting signals Dask 200 0``.
"""

from __future__ import annotations

import gc
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from chaos.rays import ray_here

import codedmap as cm
from codedmap.engines import Local

from .clusters import dask_scheduler, dask_workers
from .processes import ANSWER, descriptors, eventually, nap, same, shm_names

LARGE = np.ones((4, 1 << 13))
LONG = 3.0
"""Seconds of some calls, more than an end may take."""
SETTLED = 5
"""Rounds after which threads and files of libraries are those that stay."""
SPARE = {"Local": 0, "Dask": 10, "Ray": 0}
"""Connections that a library opens when it needs more at once, and keeps."""


def interrupted(n: int, job: Callable[[], object]) -> str | None:
    """Where the n-th KeyboardInterrupt that is possible in a job was raised; None if there are fewer.

    Python raises it as a function begins, and when one that is written in C has returned. Left out is the beginning of
    ``__exit__``, without which a block can be left.
    """
    where = None

    def profile(frame: Any, event: str, _: Any) -> None:
        nonlocal n, where
        possible = event in ("c_return", "c_exception") or (
            event == "call" and frame.f_code.co_name != "__exit__"
        )
        if possible and frame.f_code is not here:
            n -= 1
            if n == 0:
                sys.setprofile(None)
                where = f"{event} in {frame.f_code.co_qualname}, line {frame.f_lineno}"
                raise KeyboardInterrupt

    here = interrupted.__code__
    try:
        sys.setprofile(profile)
        job()
        sys.setprofile(None)
    except KeyboardInterrupt:
        pass
    except RuntimeError as error:
        # Condition.wait had just released its lock, and the block around it could not.
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
    return where


class Case:
    """A use of an engine that is interrupted."""

    own = False
    """Whether each interruption needs an engine of its own."""

    def __init__(self) -> None:
        self.engine = Local(2, grace=0.05)

    def at(self, n: int) -> str | None:
        """Interrupt it at the n-th point."""
        return interrupted(n, self.job)

    def job(self) -> object:
        raise NotImplementedError

    def map(self, fn: Callable[[Any], Any], **options: Any) -> None:
        cm.map(fn, LARGE, code=cm.Replication(1, 2), engine=self.engine, **options)


class Submit(Case):
    def job(self) -> object:
        return self.engine.submit(0, same, LARGE)


class Keep(Case):
    def job(self) -> object:
        return self.engine.keep(0, LARGE)


class Use(Case):
    """What `submit` has returned."""

    def job(self) -> object:
        done: list[object] = []
        call = self.engine.submit(0, same, LARGE)
        call.add_done_callback(done.append)
        call.cancel()
        return call.done() or call.result(ANSWER)


class Map(Case):
    def job(self) -> object:
        return self.map(same)


class Stragglers(Case):
    """A map that abandons its calls."""

    def job(self) -> object:
        return self.map(lambda _: nap(60), stop=cm.Deadline(1e-3), on_error="record")


class Abandon(Case):
    def at(self, n: int) -> str | None:
        calls = [self.engine.submit(0, fn, 60) for fn in (nap, same)]
        where = interrupted(n, lambda: self.engine.abandon(calls))
        self.engine.abandon(calls)
        return where


class Close(Case):
    own = True

    def __init__(self) -> None:
        self.engine = Local(1)

    def at(self, n: int) -> str | None:
        for fn in (same, nap, same):
            self.engine.submit(0, fn, 60)
        where = interrupted(n, self.engine.close)
        self.engine.close()
        return where


class Start(Case):
    own = True

    def __init__(self) -> None:
        self.engines: list[Local] = []

    def at(self, n: int) -> str | None:
        where = interrupted(n, lambda: self.engines.append(Local(1)))
        for engine in self.engines:
            engine.close()
        return where


CASES = {
    case.__name__: case for case in (Submit, Keep, Use, Map, Stragglers, Abandon, Close, Start)
}


def sweep(name: str, step: int) -> None:
    """Interrupt a case at every ``step``-th point, check that nothing hangs or is left, and print how often."""
    case, n, where = CASES[name](), 0, "at the start"
    files = descriptors()
    while where is not None:
        n += step
        where = case.at(n)
        if not case.own:
            answers = [case.engine.submit(slot, same, slot).result(ANSWER) for slot in (0, 1)]
            assert answers == [0, 1], where
        else:
            assert eventually(lambda: threading.active_count() == 1), (where, threading.enumerate())
            case = CASES[name]()
        assert eventually(lambda: not shm_names()), (where, shm_names())
        # Abandoned answers are in cycles.
        assert eventually(lambda: descriptors() <= files or gc.collect() < 0), (where, files)
    if name != "Start":
        case.engine.close()
    assert eventually(lambda: threading.active_count() == 1), threading.enumerate()
    print(name, n // step, flush=True)


def work(batch: Any) -> Any:
    """Some calls take long."""
    time.sleep(LONG if random.random() < 0.02 else 0.03)
    return batch


def loop(engine: Callable[[], AbstractContextManager[Any]], delay: float) -> float:
    """Send SIGINT after this time to a loop of maps on an engine; the seconds until that has ended."""
    sent: list[float] = []

    def send() -> None:
        time.sleep(delay)
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        with engine() as opened:
            while True:
                cm.map(work, np.ones((40, 3000)), code=cm.Replication(2, 4), engine=opened)
    except KeyboardInterrupt:
        seconds = time.monotonic() - sent[0]
    sender.join()
    return seconds


Place = tuple[Callable[[], AbstractContextManager[Any]], Callable[[], object]]
"""How to make an engine, and what is left of engines."""


@contextmanager
def on_local() -> Iterator[Place]:
    yield lambda: Local(4), shm_names


@contextmanager
def on_dask() -> Iterator[Place]:
    from distributed import Client

    def tasks(dask_scheduler: Any) -> list[str]:
        names = (*dask_scheduler.tasks, *dask_scheduler.plugins)
        return [name for name in names if "codedmap" in name]

    with (
        TemporaryDirectory() as folder,
        dask_scheduler(Path(folder)) as address,
        dask_workers(Path(folder), address, 4),
        Client(address) as client,
    ):
        client.wait_for_workers(4)
        yield lambda: cm.engines.Dask(client), lambda: client.run_on_scheduler(tasks)


@contextmanager
def on_ray() -> Iterator[Place]:
    with ray_here(4):
        import ray
        from ray._private.state import actors

        def living() -> list[str]:
            return [name for name, actor in actors().items() if actor["State"] != "DEAD"]

        yield lambda: cm.engines.Ray(4), living
        began = time.monotonic()
        ray.shutdown()
        print("ray.shutdown took", time.monotonic() - began, file=sys.stderr)


PLACES = {"Local": on_local, "Dask": on_dask, "Ray": on_ray}


def held() -> tuple[int, int]:
    """Threads and open files of this process."""
    return threading.active_count(), descriptors()


def signals(place: str, count: int, seed: int) -> None:
    """Send SIGINT this often at random times, check that nothing is left, and print the seconds until each end."""
    rng = random.Random(seed)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
    with PLACES[place]() as (engine, left):
        with engine():
            pass
        for number in range(count):
            seconds = loop(engine, rng.uniform(0.01, 0.6 if place == "Local" else 1.5))
            gc.collect()  # abandoned answers, which are in cycles
            print(seconds, flush=True)
            assert eventually(lambda: not left()), left()
            if number == SETTLED:
                threads, files = held()
            if number > SETTLED:
                assert eventually(lambda: threading.active_count() <= threads), (number, held())  # noqa: B023
                assert eventually(lambda: descriptors() <= files + SPARE[place]), (number, held())  # noqa: B023


def main(*arguments: str) -> None:
    """Run cases, given as name:step, or ``signals``, an engine, a count and a seed."""
    with Local(1):
        pass  # what multiprocessing starts at its first use stays
    if arguments[0] == "signals":
        signals(arguments[1], int(arguments[2]), int(arguments[3]))
    else:
        for case, _, step in (argument.partition(":") for argument in arguments):
            sweep(case, int(step))


if __name__ == "__main__":
    main(*sys.argv[1:])
