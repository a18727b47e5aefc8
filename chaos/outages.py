"""Faults of whole hosts, of their lines and of the scheduler, each alone, on a Dask cluster of four hosts."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

import codedmap as cm

from . import cgroups
from .commands import START, eventually, program
from .job import answers, rows
from .sites import Site, host, site

__all__ = [
    "CODE",
    "EACH",
    "HOSTS",
    "OUTAGES",
    "ROWS",
    "WAIT",
    "Outage",
    "Seen",
    "befallen",
    "suffered",
]

HOSTS, EACH = 4, 2
CODE = cm.KernelCode(tasks=6, workers=HOSTS * EACH, stragglers=EACH)
ROWS = 60
STRUCK = 1
"""Which host it is."""
WORK, COMPUTING, WIDTH = 0.4, 0.05, 128
"""Seconds that a call sleeps and that it computes, and copies of each output in its answer of 40 kB."""
AFTER = 0.2
"""Seconds from the beginning of the call until the fault."""
WAIT = 2.0
"""Seconds that a wave may take."""
PATIENCE = 150.0
"""Seconds for everybody to be back."""
OFF = 1e-9
NONE = float("nan")


@dataclass(frozen=True, slots=True)
class Outage:
    """What befalls a host, or the scheduler."""

    name: str
    lasting: Callable[[Site], AbstractContextManager[None]]
    """It lasts while the context does."""
    seconds: float
    """How long; infinite: nobody mends it until all slots have workers on other hosts."""
    manned: bool = False
    """Whether somebody starts the host's workers anew at its end."""
    impossible: Callable[[], str | None] = lambda: None
    """Why it cannot be tried on this machine, or None."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one of them came to."""

    outage: str
    result: str
    """What it says of the workers of the host."""
    others: int
    """Workers elsewhere without an answer."""
    exact: int
    """Rows of 60."""
    estimated: int
    wrong: int
    """Rows that are marked exact and are not."""
    error: float
    """Largest error of an estimated row over its standard error; NaN without any."""
    seconds: float
    back: float
    """Seconds until all eight slots answer again, from the end of what befell, if it had one."""
    message: str
    """What the caller reads of the first call that failed, or of the error."""

    @property
    def of_rows(self) -> bool:
        """Whether there was a result with rows."""
        return self.exact + self.estimated > 0


def slowly(batch: np.ndarray) -> np.ndarray:
    """The answers, after a while and made wide."""
    time.sleep(WORK)
    until = time.thread_time() + COMPUTING
    while time.thread_time() < until:
        continue
    return np.repeat(answers(batch), WIDTH, axis=1)


@contextmanager
def _killed(site: Site) -> Iterator[None]:
    site.hosts[STRUCK].kill()
    yield


@contextmanager
def _frozen(site: Site) -> Iterator[None]:
    cgroups.freeze(site.hosts[STRUCK].processes())
    try:
        yield
    finally:
        cgroups.thaw()


@contextmanager
def _scheduler_stopped(site: Site) -> Iterator[None]:
    os.kill(site.scheduler.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(site.scheduler.process.pid, signal.SIGCONT)


FOR_GOOD = float("inf")

OUTAGES = (
    Outage("host killed (SIGKILL to all), started again", _killed, 0.0, manned=True),
    Outage("host killed, for good", _killed, FOR_GOOD),
    Outage("host unplugged for 3 s", lambda s: s.hosts[STRUCK].unplugged(), 3.0),
    Outage("host cut off for 3 s (iptables)", lambda s: s.hosts[STRUCK].losing(1), 3.0),
    Outage("host cut off for good", lambda s: s.hosts[STRUCK].losing(1), FOR_GOOD),
    Outage("host sends 128 kbit/s (tc tbf)", lambda s: s.hosts[STRUCK].slow("128kbit"), 3.0),
    Outage("host loses two fifths of all packets", lambda s: s.hosts[STRUCK].losing(0.4), 3.0),
    Outage("host 200 ms away, and back (relay)", lambda s: s.hosts[STRUCK].away(0.2), 3.0),
    Outage(
        "host has a tenth of a CPU (cgroup quota)",
        lambda s: cgroups.starved(s.hosts[STRUCK].processes()), 3.0,
        impossible=cgroups.no_quota,
    ),
    Outage("host frozen for 3 s (cgroup freezer)", _frozen, 3.0, impossible=cgroups.no_freezer),
    Outage("scheduler stopped for 3 s (SIGSTOP)", _scheduler_stopped, 3.0),
)  # fmt: skip
"""Beside the end of the scheduler, after which there is no cluster for more."""


def suffered() -> Iterator[Seen]:
    """One after the other, then Ctrl-C, and at last the end of the scheduler."""
    with site(HOSTS, EACH) as made:
        for outage in OUTAGES:
            if outage.impossible() is None:
                yield befallen(made, outage)
        yield interrupted(made)
        yield ended(made)


def befallen(site: Site, outage: Outage, wait: float = WAIT) -> Seen:
    """One of them, in the middle of a call of `map`; all is well again afterwards."""
    inputs = rows(ROWS, seed=1)
    with cm.engines.Dask(site.client) as engine, ExitStack() as lasting:
        where = [engine.submit(slot, host, None).result(WAIT * 5) for slot in range(CODE.workers)]
        there = [slot for slot, name in enumerate(where) if name == site.hosts[STRUCK].address]
        _everybody(engine, inputs)
        struck: list[float] = []

        def strike() -> None:
            struck.append(time.perf_counter())
            lasting.enter_context(outage.lasting(site))

        timer = threading.Timer(AFTER, strike)
        timer.start()
        began = time.perf_counter()
        stop = cm.Everyone() | cm.Deadline(wait)
        result = cm.map(slowly, inputs, code=CODE, engine=engine, stop=stop, throw=False)
        seconds = time.perf_counter() - began
        timer.join()
        if outage.seconds < FOR_GOOD:
            time.sleep(max(0.0, struck[0] + outage.seconds - time.perf_counter()))
            lasting.close()
        if outage.manned:
            site.man(site.hosts[STRUCK])
        back = _everybody(engine, inputs)
    if outage.seconds == FOR_GOOD:
        site.man(site.hosts[STRUCK])
        site.complete()
    return _told(outage, inputs, result, there, (seconds, back))


def interrupted(site: Site) -> Seen:
    """A caller gets Ctrl-C in the middle of a call of `map`, and the workers go on for a while."""
    log = site.folder / "log.txt"
    with program(
        site.folder, "python", "-m", "chaos.interrupted", site.scheduler.address
    ) as caller:
        if not eventually(lambda: "it has begun" in log.read_text(), START):
            raise RuntimeError(f"nothing to interrupt:\n{log.read_text()[-2000:]}")
        time.sleep(2 * AFTER)
        began = time.perf_counter()
        caller.send_signal(signal.SIGINT)
        caller.wait(START)
        seconds = time.perf_counter() - began
    message = next(line for line in reversed(log.read_text().splitlines()) if "Interrupt" in line)
    with cm.engines.Dask(site.client) as engine:
        back = _everybody(engine, rows(ROWS, seed=1))
    left = [name for name in site.client.run_on_scheduler(_plugins) if name.startswith("codedmap")]
    seen = f"ends, and leaves {', '.join(left) or 'nothing'} on the scheduler"
    return Seen("caller interrupted (Ctrl-C)", seen, 0, 0, 0, 0, NONE, seconds, back, message)


def ended(site: Site) -> Seen:
    """The scheduler is killed in the middle of a call of `map`; how long also closing the engine takes."""
    began = time.perf_counter()
    message = "nothing"
    with cm.engines.Dask(site.client) as engine:
        timer = threading.Timer(AFTER, site.scheduler.process.kill)
        timer.start()
        began = time.perf_counter()
        try:
            cm.map(slowly, rows(ROWS, seed=1), code=CODE, engine=engine)
        except cm.CodedmapError as error:
            message = f"{type(error).__name__}: {error}"
        timer.join()
    seconds = time.perf_counter() - began
    return Seen("scheduler killed", "raises", 0, 0, 0, 0, NONE, seconds, NONE, message)


def _plugins(dask_scheduler: Any) -> list[str]:
    return list(dask_scheduler.plugins)


def _told(
    outage: Outage,
    inputs: np.ndarray,
    result: cm.MapResult,
    there: list[int],
    took: tuple[float, float],
) -> Seen:
    truth = np.repeat(answers(inputs), WIDTH, axis=1)
    assert result.stderr is not None
    concerned = there if result.answered else range(CODE.workers)
    values = result.values if result.answered else np.full_like(truth, np.nan)
    error = np.sqrt(((values - truth) ** 2).mean(axis=1))
    guessed = ~result.exact & np.isfinite(result.stderr)
    failures = [f"{type(e).__name__}: {e}" for e in result.failed.values()]
    return Seen(
        outage.name,
        ", ".join(
            f"{n} {word}" for word, n in Counter(_word(result, slot) for slot in concerned).items()
        ),
        CODE.workers - len({*result.answered, *there}),
        int(result.exact.sum()),
        int(guessed.sum()),
        int((~(error[result.exact] <= OFF)).sum()),
        float((error[guessed] / result.stderr[guessed]).max()) if guessed.any() else NONE,
        *took,
        failures[0] if failures else "",
    )


def _word(result: cm.MapResult, slot: int) -> str:
    if slot in result.failed:
        return f"failed: {type(result.failed[slot]).__name__}"
    return "answered" if slot in result.answered else "abandoned"


def _everybody(engine: cm.engines.Dask, inputs: np.ndarray) -> float:
    """Seconds until a wave is answered by all; raises if some never are back."""
    began = time.perf_counter()
    while True:
        stop = cm.Everyone() | cm.Deadline(WAIT)
        result = cm.map(answers, inputs, code=CODE, engine=engine, stop=stop, throw=False)
        passed = time.perf_counter() - began
        if len(result.answered) == CODE.workers:
            return passed
        if passed > PATIENCE:
            raise RuntimeError(f"after {passed:.0f} s still not all are back:\n{result}")
        time.sleep(0.05)
