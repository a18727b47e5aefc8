"""How long the calls of a job take in virtual time: drawn from calls that were timed, or from a model."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence

import numpy as np

from ..execution.call_times import CallTimes
from ..execution.events import Call
from ..execution.virtual import Ending
from ..latency import LatencyModel
from ..latency.scheduled import in_turn, one_by_one
from .pilot import Timed, first_and_later

_EACH = 16  # calls of a worker that are drawn from a model; later ones repeat their times
_SLOWER = 10.0  # factor by which rows may be slower than usual ones though none was timed
_UNSEEN = 3.0  # slow rows among as many as were timed, at most, at 95 % confidence if none was
_ERRORS = 2.0  # standard errors that are subtracted from the fitted time of a call itself
_PART = 0.1  # share of a row's time that the time of a call itself must exceed to be counted
_SPREAD = 1.4826  # standard deviation of a normal distribution over its median absolute deviation

Times = Callable[[Call, float], Ending]


class Measured:
    """Times drawn from calls that were timed; each worker has its own speed.

    If a call still runs after the usual time of its rows, one of them is taken to be slow. It needs as long as the slow rows
    of ended calls that took longer do on average, or twice its time so far if there are none. Workers have different speeds
    as far as they differ beyond chance: medians of few calls are shrunk towards that of all. With
    ``batches`` a call may take a time of its own, whatever its rows, like a call of a model. If it does, times of calls are
    drawn, and else times of rows.

    At least one call was timed. Of N workers ``lost`` never answer; ``overhead`` are the seconds of a call that are not
    spent in the function.
    """

    def __init__(
        self,
        timed: Sequence[Timed],
        workers: int,
        lost: int,
        seed: int,
        overhead: float,
        *,
        batches: bool = False,
    ) -> None:
        self.overhead = overhead
        ended = [call for call in timed if call.ended]
        _, self._later = first_and_later(ended)
        self._call, self._row = _fitted(self._later, _ERRORS) if batches else (0.0, 1.0)
        self.batches = self._call > 0.0  # whether calls take a time of their own
        each = np.array([max(call.seconds, 1e-9) / self._usual(call.rows) for call in ended])
        known = [*ended, *_running(timed, each, self._usual)]
        each = np.append(
            each, [call.seconds / self._usual(call.rows) for call in known[len(ended) :]]
        )
        self._known = known
        self._rows = np.array([1.0 if self.batches else float(call.rows) for call in known])
        self._speeds, own = _speeds([call.worker for call in known], each)
        self._each = each / own
        self.workers, self._lost, self._seed = workers, lost, seed
        mean = float((self._each * self._rows).sum() / self._rows.sum())
        self.mean = max(mean * self._row, 1e-9)  # seconds that a row adds to a call
        self.doubt = 2.0 * float(self._each.std()) / mean / math.sqrt(len(known))
        """Two standard errors of ``mean``, as a share of it."""
        slow = _SLOWER * float(np.quantile(self._each, 0.9)) / mean
        self.unseen = _UNSEEN * slow / (self._rows.sum() + _UNSEEN)
        """The share by which ``mean`` may be larger because of slow rows of which none was timed."""
        self._answering = (workers - lost) * float((1.0 / self._speeds).mean()) / mean

    def rate(self, rows: int) -> float:
        """Rows a second, of all workers, in calls of so many rows."""
        return self._answering * rows / self._usual(rows)

    def replay(self, number: int) -> Times:
        """Times of one job. Each job resamples the calls, so that few calls make jobs differ more."""
        rng = np.random.default_rng([self._seed, number])
        size = len(self._each)
        calls = rng.integers(size, size=size)
        each, rows = self._each[calls], self._rows[calls]
        own, row = self._call, self._row
        if self.batches:  # the fit, by which larger calls are extrapolated, is uncertain as well
            again = rng.integers(len(self._later), size=len(self._later))
            own, row = _fitted([self._later[k] for k in again], 0.0)
            each = each / [
                (own + row * self._known[k].rows) / self._usual(self._known[k].rows) for k in calls
            ]
        share = np.cumsum(rows / rows.sum())
        enough = len(self._speeds) >= self.workers
        speeds = rng.choice(self._speeds, self.workers, replace=not enough)
        speeds[rng.permutation(self.workers)[: self._lost]] = np.inf

        def ending(call: Call, now: float) -> Ending:
            count = 1 if self.batches else call.groups
            drawn = each[np.minimum(np.searchsorted(share, rng.random(count)), size - 1)]
            usual = own + row * call.groups if self.batches else 1.0
            return one_by_one(call, drawn * usual * speeds[call.worker])  # type: ignore[call-overload]

        return ending

    def _usual(self, rows: int) -> float:
        """The unit of a call's time: its usual seconds if calls take a time of their own, else its number of rows."""
        return self._call + self._row * rows


class Drawn:
    """Times of rows, drawn from a latency model for so many ``jobs``."""

    def __init__(self, latency: LatencyModel, workers: int, seed: int, jobs: int) -> None:
        rng = np.random.default_rng(seed)
        self.overhead = self.doubt = self.unseen = 0.0  # a model is certain
        self._calls = latency.calls(rng, jobs, workers, _EACH)
        self.mean = max(float(self._calls[np.isfinite(self._calls)].mean()), 1e-9)
        self.workers = workers
        self.batches = False

    def rate(self, rows: int) -> float:
        """As `Measured.rate`."""
        return self.workers / self.mean

    def replay(self, number: int) -> Times:
        """Times of one job."""
        return in_turn(self._calls[:, number % self._calls.shape[1]])


def _fitted(calls: Sequence[Timed], errors: float) -> tuple[float, float]:
    """Seconds that a call itself takes, and that each of its rows adds; (0, 1) if the first are too few.

    They are too few unless, less so many standard ``errors``, they exceed a share of the second.
    """
    times = CallTimes(batches=True)
    for call in calls:
        times.add(call.rows, call.seconds, 0.0)
    fit, least = times.fit(), times.fit(errors)
    return fit if fit and least and least[0] > _PART * least[1] else (0.0, 1.0)


def _running(
    timed: Sequence[Timed], each: np.ndarray, usual: Callable[[int], float]
) -> Iterator[Timed]:
    """The slow row of each call that still runs after the usual time of its rows; ``each``: times of ended calls.

    Left out, or counted by the time so far, it would make rows seem faster the earlier one looks (Kaplan and Meier,
    Nonparametric Estimation from Incomplete Observations, JASA 53(282), 1958).
    """
    middle = float(np.median(each)) if len(each) else 0.0
    rests = np.array([call.seconds - (usual(call.rows) - usual(1)) * middle for call in timed])
    ended = rests[[call.ended for call in timed]]
    for call, rest in zip(timed, rests.tolist(), strict=True):
        if not call.ended and rest > middle * usual(1):
            longer = ended[ended > rest]
            yield Timed(call.worker, 1, float(longer.mean()) if len(longer) else 2.0 * rest)


def _speeds(workers: Sequence[Hashable], each: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The factor by which each worker is slower than the median, and the same for the worker of each call."""
    logs = np.log(each)
    middle = float(np.median(logs))
    numbers = {worker: number for number, worker in enumerate(dict.fromkeys(workers))}
    worker_of = np.array([numbers[worker] for worker in workers])
    counts = np.bincount(worker_of)
    medians = np.array([np.median(logs[worker_of == number]) for number in range(len(counts))])
    within = _SPREAD * float(np.median(np.abs(logs - medians[worker_of])))
    # The variance of a median is π/2 that of a mean.
    chance = np.pi / 2.0 * within**2 / counts
    between = (
        max(0.0, float(((medians - middle) ** 2 - chance).mean())) if counts.min() > 1 else 0.0
    )
    kept = between / (between + chance) if between else np.zeros(len(counts))
    speeds = np.exp(kept * (medians - middle))
    return speeds, speeds[worker_of]
