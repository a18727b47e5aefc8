"""How long jobs of `codedmap.map` take: its scheduler in virtual time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from typing import NamedTuple

import numpy as np

from ..contracts.arguments import check_whole
from ..contracts.code import Code, no_code
from ..contracts.inputs import array_of
from ..contracts.stopping import Outcome, StoppingRule, asks_stderr
from ..errors import InvalidArgument
from ..execution.checked import checked_rule
from ..execution.coded import coded_job
from ..execution.encoded import EncodedRows
from ..execution.events import Call, Job
from ..execution.hedge import Hedge, checked_hedge
from ..execution.virtual import Ending, run_virtually
from .models import order_statistic

_HEDGE = Hedge()


class Waits(NamedTuple):
    """Time and calls of many jobs."""

    seconds: np.ndarray
    """(waves,): seconds until each job has ended; infinite if it never does."""
    calls: np.ndarray
    """(waves,): calls of each job, hedges included."""

    def quantile(self, share: float) -> float:
        """The shortest time within which this share of the jobs has ended."""
        return order_statistic(self.seconds, share)


def scheduled(
    calls: np.ndarray,
    rows: int,
    *,
    code: Code | None = None,
    stop: StoppingRule | None = None,
    hedge: Hedge | None = _HEDGE,
) -> Waits:
    """Compute ``rows`` rows on N workers, as `codedmap.map` does.

    The scheduler that runs live jobs makes the same decisions here, on the times given. A call of several rows
    takes the time of one for each of them; with a code, of one for each group.

    Parameters
    ----------
    calls : ndarray, shape (each, waves, N)
        Seconds of several calls of each worker, one after another, as `LatencyModel.calls` draws them; a
        worker that makes more calls starts again with the first.
    rows : int
        Rows of each job.
    code : Code, optional
        As for `codedmap.map`.
    stop : StoppingRule, optional
        As for `codedmap.map`, with a code; rules that ask for standard errors are refused.
    hedge : Hedge, optional
        As for `codedmap.map`; None: no hedges.

    Returns
    -------
    Waits
        For each wave the seconds until the job has ended, infinite if some row never has an answer and the job no
        deadline; and the calls sent, counted in rows; with a code, in groups.
    """
    calls = array_of(calls, "calls")
    if (
        calls.ndim != 3
        or calls.size == 0
        or calls.dtype.kind not in "iuf"
        or not (calls >= 0).all()
    ):
        raise InvalidArgument(
            f"calls of shape {calls.shape} and dtype {calls.dtype} must be seconds of calls of each worker, (each, waves, "
            "N), none of them negative or NaN: draw them with model.calls(rng, waves, N, each)"
        )
    check_whole("rows", rows, 1)
    job = job_in_virtual_time(rows, code, stop, checked_hedge(hedge))
    waves, workers = calls.shape[1:]
    seconds, sent = np.empty(waves), np.empty(waves, dtype=int)
    for wave in range(waves):
        timeline = run_virtually(job, workers, in_turn(calls[:, wave]))
        ended = timeline.outcome is not Outcome.NONE_RUNNING
        seconds[wave] = timeline.seconds if ended else np.inf
        sent[wave] = sum(timeline.begun)
    return Waits(seconds, sent)


def in_turn(times: np.ndarray) -> Callable[[Call, float], Ending]:
    """When calls end whose rows take the times (each, N) of their worker in turn."""
    computed: Counter[Hashable] = Counter()  # rows of each worker

    def ending(call: Call, now: float) -> Ending:
        first = computed[call.worker]
        turns = np.arange(first, first + call.groups) % len(times)
        ending = one_by_one(call, times[turns, call.worker])  # type: ignore[index]  # workers are numbers here
        computed[call.worker] += ending.done or call.groups
        return ending

    return ending


def one_by_one(call: Call, seconds: np.ndarray) -> Ending:
    """When a call ends whose groups take these ``seconds``, and after how many of them if it is over its limit."""
    ends = seconds.cumsum()
    done = int(np.searchsorted(ends, call.limit)) + 1
    done = -(-done // call.step) * call.step
    if done < len(ends):
        return Ending(float(ends[done - 1]), done=done)
    return Ending(float(ends[-1]))


def job_in_virtual_time(
    rows: int, code: Code | None, stop: StoppingRule | None, hedge: Hedge | None
) -> Job:
    """The job of so many rows for the scheduler, which needs no inputs."""
    if code is None:
        if stop is not None:
            raise InvalidArgument(f"stop={stop} is for codes here: give one, or leave it out")
        if hedge is not None and hedge.after is not None:
            raise InvalidArgument(f"{hedge} is for codes: give Hedge() or Hedge(budget=0.1)")
        return Job(rows, hedge=None if hedge is None else hedge.budget, ahead=0)
    if not isinstance(code, Code):
        raise no_code(code, "one such as Replication(8, 16)")
    rule = checked_rule(stop, code)
    if asks_stderr(rule):
        raise InvalidArgument(
            f"{rule} asks for standard errors, and there are no answers here: give a Quorum or a Deadline"
        )
    encoded = EncodedRows(code, np.arange(float(code.tasks))[:, None])
    groups = -(-rows // code.tasks)
    enough = encoded.decodable
    return coded_job(
        code, groups, encoded.owner, lambda chunk, slots: enough(slots), stop=rule, hedge=hedge
    )
