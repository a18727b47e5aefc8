"""The scheduler with many workers, in virtual time: ``python -m benchmarks.row_scale WORKERS CALLS {job,events}``.

``job`` prints the seconds of a whole job and the largest memory in MB; ``events`` the seconds of the
scheduler alone, to which the events of a job are given again, and how many decisions it made.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

from codedmap.execution.events import Call, Decision, Event, Job
from codedmap.execution.scheduler import Scheduler
from codedmap.execution.virtual import Ending, run_virtually

__all__: list[str] = []


def _job(calls: int) -> Job:
    return Job(calls, ahead=0, size=1)  # as `map` has it, with a row a call


def _run(workers: int, calls: int) -> float:
    drawn = random.Random(0)

    def ending(call: Call, now: float) -> Ending:
        return Ending(drawn.lognormvariate(-1.8, 0.5))

    began = time.perf_counter()
    done = run_virtually(_job(calls), workers, ending)
    seconds = time.perf_counter() - began
    _check(sum(call.groups for call in done.taken), calls)
    return seconds


def _replay(workers: int, calls: int) -> tuple[float, int]:
    drawn, events = random.Random(0), []

    def ending(call: Call, now: float) -> Ending:
        return Ending(drawn.lognormvariate(-1.8, 0.5))

    def watch(scheduler: Scheduler, event: Event, decisions: list[Decision]) -> None:
        events.append(event)

    done = run_virtually(_job(calls), workers, ending, watch=watch)
    _check(sum(call.groups for call in done.taken), calls)
    scheduler, decisions = Scheduler(_job(calls)), 0
    began = time.perf_counter()
    for event in events:
        decisions += len(scheduler.handle(event))
    return time.perf_counter() - began, decisions


def _peak() -> float:
    """The largest memory of this process in MB; `resource` would count the one that started it, too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    [peak] = [line.split()[1] for line in lines if line.startswith("VmHWM")]
    return int(peak) / 1024


def _check(answered: int, calls: int) -> None:
    if answered != calls:
        raise RuntimeError(f"{answered} of {calls} rows are answered")


if __name__ == "__main__":
    if sys.argv[3] == "job":
        taken = _run(int(sys.argv[1]), int(sys.argv[2]))
        print(taken, _peak())
    else:
        print(*_replay(int(sys.argv[1]), int(sys.argv[2])))
