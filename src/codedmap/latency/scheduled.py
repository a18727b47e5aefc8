"""How long jobs of `codedmap.map` without a code take: its scheduler in virtual time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

import numpy as np

from ..contracts.arguments import check_whole
from ..contracts.stopping import Outcome
from ..errors import InvalidArgument
from ..execution.hedge import Hedge, checked_hedge
from ..execution.scheduler import Call, Job
from ..execution.virtual import Ending, run_virtually
from .waits import Waits

__all__ = ["scheduled"]

_HEDGE = Hedge()


def scheduled(calls: np.ndarray, rows: int, *, hedge: Hedge | None = _HEDGE) -> Waits:
    """Compute ``rows`` rows on N workers, as `codedmap.map` does without a code.

    The scheduler that runs live jobs makes the same decisions here, on the times given. A call of several rows
    takes the time of one for each of them.

    Parameters
    ----------
    calls : ndarray, shape (each, waves, N)
        Seconds of several calls of each worker, one after another, as `LatencyModel.calls` draws them; a
        worker that makes more calls starts again with the first.
    rows : int
        Of each job.
    hedge : Hedge, optional
        As for `codedmap.map`; None: no hedges.

    Returns
    -------
    Waits
        For each wave the seconds until every row has an answer, infinite if some row never has, and the
        calls sent.
    """
    if np.ndim(calls) != 3 or np.size(calls) == 0 or not (np.asarray(calls) >= 0).all():
        raise InvalidArgument(
            f"calls of shape {np.shape(calls)} must be seconds of calls of each worker, (each, waves, N): draw "
            "them with model.calls(rng, waves, N, each)"
        )
    check_whole("rows", rows, 1)
    hedge = checked_hedge(hedge)
    if hedge is not None and hedge.after is not None:
        raise InvalidArgument(f"{hedge} is for codes: give Hedge() or Hedge(budget=0.1)")
    job = Job(rows, hedge=None if hedge is None else hedge.budget, ahead=0)
    waves, workers = calls.shape[1:]
    seconds, sent = np.empty(waves), np.empty(waves, dtype=int)
    for wave in range(waves):
        times = calls[:, wave]
        made: Counter[Hashable] = Counter()

        def ending(
            call: Call, now: float, times: np.ndarray = times, made: Counter[Hashable] = made
        ) -> Ending:
            begin = made[call.worker]
            made[call.worker] += call.groups
            places = np.arange(begin, made[call.worker]) % len(times)
            return Ending(float(times[places, call.worker].sum()))  # type: ignore[index]  # workers are numbers here

        timeline = run_virtually(job, workers, ending)
        seconds[wave] = timeline.seconds if timeline.outcome is Outcome.EXACT else np.inf
        sent[wave] = sum(made.values())
    return Waits(seconds, sent)
