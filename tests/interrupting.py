"""KeyboardInterrupt at every point of what a caller does with `Local`; a program for a process of its own."""

from __future__ import annotations

import gc
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import codedmap as cm
from codedmap.engines import Local

from .processes import ANSWER, descriptors, eventually, nap, same, shm_names

LARGE = np.ones((4, 1 << 13))


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
    """Some workers take a minute."""
    time.sleep(60 if os.getpid() % 5 == 0 else 0.03)
    return batch


def loop(delay: float) -> float:
    """Send SIGINT after this time to a loop of maps; the seconds until that has ended."""
    sent: list[float] = []

    def send() -> None:
        time.sleep(delay)
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        with Local(4) as engine:
            while True:
                inputs = np.ones((40, 3000))
                cm.map(work, inputs, code=cm.Replication(2, 4), engine=engine)
    except KeyboardInterrupt:
        seconds = time.monotonic() - sent[0]
    sender.join()
    return seconds


def signals(count: int, seed: int) -> None:
    """Send SIGINT this often at random times, check that nothing is left, and print the seconds until each end."""
    rng, before = random.Random(seed), descriptors()
    for _ in range(count):
        seconds = loop(rng.uniform(0.01, 0.6))
        assert threading.active_count() == 1, threading.enumerate()
        gc.collect()  # abandoned answers, which are in cycles
        assert (shm_names(), descriptors()) == ([], before)
        print(seconds, flush=True)


def main(*arguments: str) -> None:
    """Run cases, given as name:step, or ``signals``, a count and a seed."""
    with Local(1):
        pass  # what multiprocessing starts at its first use stays
    if arguments[0] == "signals":
        signals(int(arguments[1]), int(arguments[2]))
    else:
        for case, _, step in (argument.partition(":") for argument in arguments):
            sweep(case, int(step))


if __name__ == "__main__":
    main(*sys.argv[1:])
