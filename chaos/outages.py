"""Faults of whole hosts, their network links and the scheduler, one at a time, on a Dask cluster of four hosts."""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

import codedmap as cm

from . import cgroups
from .commands import START, eventually, program
from .job import ONCE, answers, rows
from .sites import Site, site

__all__ = [
    "CODE",
    "EACH",
    "HOSTS",
    "OUTAGES",
    "ROWS",
    "WAIT",
    "Outage",
    "OutageOutcome",
    "run_outage",
    "run_outages",
]

HOSTS, EACH = 4, 2
CODE = cm.KernelCode(tasks=6, workers=HOSTS * EACH, stragglers=EACH)
ROWS = 60
FAULTY_HOST = 1
"""Index of the host with the fault."""
WORK, COMPUTING, WIDTH = 0.4, 0.05, 128
"""Seconds that a call sleeps, seconds that it computes, and copies of each output in its answer (40 kB)."""
AFTER = 0.2
"""Seconds from the start of the call to the fault."""
WAIT = 2.0
"""Deadline of a wave, in seconds."""
PATIENCE = 150.0
"""Seconds within which all workers must answer again."""
OFF = 1e-9
NONE = float("nan")


@dataclass(frozen=True, slots=True)
class Outage:
    """A fault of a host or of the scheduler."""

    name: str
    lasting: Callable[[Site], AbstractContextManager[None]]
    """Context manager during which the fault lasts."""
    seconds: float
    """Duration; infinite: it does not end before the engine is closed."""
    restarted: bool = False
    """True if the workers of the host are started again at the end."""
    unavailable: Callable[[], str | None] = lambda: None
    """The reason why it cannot run on this machine, or None."""


@dataclass(frozen=True, slots=True)
class OutageOutcome:
    """Result of one outage."""

    outage: str
    result: str
    """State of the workers of the host in the result."""
    others: int
    """Workers on other hosts without an answer."""
    exact: int
    """Rows of 60."""
    estimated: int
    wrong: int
    """Rows wrongly marked exact."""
    error: float
    """Largest error of an estimated row over its standard error; NaN if there is none."""
    seconds: float
    back: float
    """Seconds from the end of the fault, if it ends, until all eight slots answer again, on eight workers unless it never ends."""
    message: str
    """Message of the first failed call, or of the error."""

    @property
    def of_rows(self) -> bool:
        """True if there is a result with rows."""
        return self.exact + self.estimated > 0


def slowly(batch: np.ndarray) -> np.ndarray:
    """The answers after ``WORK`` seconds, with each output repeated."""
    time.sleep(WORK)
    until = time.thread_time() + COMPUTING
    while time.thread_time() < until:
        continue
    return np.repeat(answers(batch), WIDTH, axis=1)


@contextmanager
def _killed(site: Site) -> Iterator[None]:
    site.hosts[FAULTY_HOST].kill()
    yield


@contextmanager
def _frozen(site: Site) -> Iterator[None]:
    cgroups.freeze(site.hosts[FAULTY_HOST].processes())
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


PERMANENT = float("inf")

OUTAGES = (
    Outage("host killed (SIGKILL to all), started again", _killed, 0.0, restarted=True),
    Outage("host killed permanently", _killed, PERMANENT),
    Outage("host unplugged for 3 s", lambda s: s.hosts[FAULTY_HOST].unplugged(), 3.0),
    Outage("host cut off for 3 s (iptables)", lambda s: s.hosts[FAULTY_HOST].losing(1), 3.0),
    Outage("host cut off permanently", lambda s: s.hosts[FAULTY_HOST].losing(1), PERMANENT),
    Outage("host sends 128 kbit/s (tc tbf)", lambda s: s.hosts[FAULTY_HOST].slow("128kbit"), 3.0),
    Outage("host loses two fifths of all packets", lambda s: s.hosts[FAULTY_HOST].losing(0.4), 3.0),
    Outage("host with 200 ms latency (relay)", lambda s: s.hosts[FAULTY_HOST].delayed(0.2), 3.0),
    Outage(
        "host has a tenth of a CPU (cgroup quota)",
        lambda s: cgroups.starved(s.hosts[FAULTY_HOST].processes()), 3.0,
        unavailable=cgroups.no_quota,
    ),
    Outage("host frozen for 3 s (cgroup freezer)", _frozen, 3.0, unavailable=cgroups.no_freezer),
    Outage("scheduler stopped for 3 s (SIGSTOP)", _scheduler_stopped, 3.0),
)  # fmt: skip
"""All but the end of the scheduler, which ends the cluster."""


def run_outages() -> Iterator[OutageOutcome]:
    """Run all outages, then Ctrl-C, then the end of the scheduler."""
    with site(HOSTS, EACH) as made:
        for outage in OUTAGES:
            if outage.unavailable() is None:
                yield run_outage(made, outage)
        yield interrupt_caller(made)
        yield kill_scheduler(made)


def run_outage(site: Site, outage: Outage, wait: float = WAIT) -> OutageOutcome:
    """Run one outage during a call of `map`, and wait until all workers answer again."""
    inputs = rows(ROWS, seed=1)
    with cm.engines.Dask(site.client) as engine, ExitStack() as lasting:
        _wait_for_all(engine, inputs)
        faulty = site.hosts[FAULTY_HOST].address
        away = {worker for worker, member in engine.members().items() if member.host == faulty}
        started: list[float] = []

        def start() -> None:
            started.append(time.perf_counter())
            lasting.enter_context(outage.lasting(site))

        timer = threading.Timer(AFTER, start)
        timer.start()
        began = time.perf_counter()
        stop = cm.Everyone() | cm.Deadline(wait)
        result = cm.map(
            slowly, inputs, code=CODE, engine=engine, stop=stop, on_error="record", **ONCE
        )
        seconds = time.perf_counter() - began
        timer.join()
        if outage.seconds < PERMANENT:
            time.sleep(max(0.0, started[0] + outage.seconds - time.perf_counter()))
            lasting.close()
        if outage.restarted:
            site.start_workers(site.hosts[FAULTY_HOST])
        back = _wait_for_all(engine, inputs, 1 if outage.seconds == PERMANENT else CODE.workers)
    if outage.seconds == PERMANENT:
        site.start_workers(site.hosts[FAULTY_HOST])
        site.wait_for_workers()
    there = sorted({call.slot for call in result.calls if call.worker in away})
    return _outcome(outage, inputs, result, there, (seconds, back))


def interrupt_caller(site: Site) -> OutageOutcome:
    """Send Ctrl-C to a caller during a call of `map` whose workers run on for a while."""
    log = site.folder / "log.txt"
    with program(
        site.folder, "python", "-m", "chaos.interrupted", site.scheduler.address
    ) as caller:
        if not eventually(lambda: "started" in log.read_text(), START):
            raise RuntimeError(f"nothing to interrupt:\n{log.read_text()[-2000:]}")
        time.sleep(2 * AFTER)
        began = time.perf_counter()
        caller.send_signal(signal.SIGINT)
        caller.wait(START)
        seconds = time.perf_counter() - began
    message = next(line for line in reversed(log.read_text().splitlines()) if "Interrupt" in line)
    with cm.engines.Dask(site.client) as engine:
        back = _wait_for_all(engine, rows(ROWS, seed=1))
    left = [name for name in site.client.run_on_scheduler(_plugins) if name.startswith("codedmap")]
    seen = f"ends, and leaves {', '.join(left) or 'nothing'} on the scheduler"
    return OutageOutcome(
        "caller interrupted (Ctrl-C)", seen, 0, 0, 0, 0, NONE, seconds, back, message
    )


def kill_scheduler(site: Site) -> OutageOutcome:
    """Kill the scheduler during a call of `map`; the time includes closing the engine."""
    began = time.perf_counter()
    message = "nothing"
    with cm.engines.Dask(site.client) as engine:
        timer = threading.Timer(AFTER, site.scheduler.process.kill)
        timer.start()
        began = time.perf_counter()
        try:
            cm.map(slowly, rows(ROWS, seed=1), code=CODE, engine=engine, **ONCE)
        except cm.CodedmapError as error:
            message = f"{type(error).__name__}: {error}"
        timer.join()
    seconds = time.perf_counter() - began
    return OutageOutcome("scheduler killed", "raises", 0, 0, 0, 0, NONE, seconds, NONE, message)


def _plugins(dask_scheduler: Any) -> list[str]:
    return list(dask_scheduler.plugins)


def _outcome(
    outage: Outage,
    inputs: np.ndarray,
    result: cm.MapResult,
    there: list[int],
    took: tuple[float, float],
) -> OutageOutcome:
    truth = np.repeat(answers(inputs), WIDTH, axis=1)
    stderr = result.row_stderr()
    assert stderr is not None
    concerned = there if result.answered else range(CODE.workers)
    values = result.values if result.answered else np.full_like(truth, np.nan)
    error = np.sqrt(((values - truth) ** 2).mean(axis=1))
    guessed = ~result.exact & np.isfinite(stderr)
    failures = [f"{type(e).__name__}: {e}" for e in result.failed.values()]
    return OutageOutcome(
        outage.name,
        ", ".join(
            f"{n} {word}" for word, n in Counter(_word(result, slot) for slot in concerned).items()
        ),
        CODE.workers - len({*result.answered, *there}),
        int(result.exact.sum()),
        int(guessed.sum()),
        int((~(error[result.exact] <= OFF)).sum()),
        float((error[guessed] / stderr[guessed]).max()) if guessed.any() else NONE,
        *took,
        failures[0] if failures else "",
    )


def _word(result: cm.MapResult, slot: int) -> str:
    if slot in result.failed:
        return f"failed: {type(result.failed[slot]).__name__}"
    return "answered" if slot in result.answered else "abandoned"


def _wait_for_all(
    engine: cm.engines.Dask, inputs: np.ndarray, workers: int = CODE.workers
) -> float:
    """Seconds until all slots are answered, by at least so many workers; raises after ``PATIENCE`` seconds."""
    began = time.perf_counter()
    while True:
        eventually(lambda: engine.workers >= workers, PATIENCE)
        stop = cm.Everyone() | cm.Deadline(WAIT)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "the code has 8 workers and the engine")
            result = cm.map(
                answers, inputs, code=CODE, engine=engine, stop=stop, on_error="record", **ONCE
            )
        passed = time.perf_counter() - began
        if len(result.answered) == CODE.workers:
            return passed
        if passed > PATIENCE:
            raise RuntimeError(f"after {passed:.0f} s some workers still do not answer:\n{result}")
        time.sleep(0.05)
