"""Times and costs of each scheme from the times of its calls, and intervals of the quantiles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

import codedmap as cm

from .services import Drawn, Service
from .stats import Interval

__all__ = [
    "CHECKED",
    "SCHEMES",
    "Scheme",
    "Waves",
    "answering",
    "copies",
    "hedged",
    "quantile_intervals",
    "quantile_range",
    "quorum",
    "responders",
    "simulated",
]

CHUNK = 4_000_000
"""Calls drawn at a time; the arrays of one chunk take less than 200 MB."""


def quorum(seconds: np.ndarray, answers: int) -> cm.latency.Waits:
    """Wait for the first ``answers`` answers of each wave; seconds (waves, N)."""
    last = np.partition(seconds, answers - 1, axis=1)[:, answers - 1]
    return cm.latency.Waits(last, np.full(len(seconds), seconds.shape[1]))


def responders(seconds: np.ndarray, answers: int) -> np.ndarray:
    """The workers, ascending, whose answers end each wave that waits for a quorum, (waves, answers)."""
    return np.sort(seconds.argsort(axis=1, kind="stable")[:, :answers], axis=1)


def copies(seconds: np.ndarray, tasks: int) -> cm.latency.Waits:
    """Wait until every task has an answer, where worker n computes task n mod K."""
    first = seconds[:, :tasks].copy()
    for begin in range(tasks, seconds.shape[1], tasks):
        more = seconds[:, begin : begin + tasks]
        own = first[:, : more.shape[1]]
        np.minimum(own, more, out=own)
    return cm.latency.Waits(first.max(axis=1), np.full(len(seconds), seconds.shape[1]))


def hedged(first: np.ndarray, second: np.ndarray, after: np.ndarray | float) -> cm.latency.Waits:
    """Send a second call, on another worker, for each task without an answer after a delay; the first answer counts."""
    delay = np.asarray(after, first.dtype).reshape(-1, 1)
    late = first > delay
    seconds = np.minimum(first, delay + second).max(axis=1)
    return cm.latency.Waits(seconds, first.shape[1] + late.sum(axis=1))


@dataclass(frozen=True)
class Scheme:
    """A scheme for answering K tasks: its time and its cost.

    Parameters
    ----------
    name : str
        Name in the table.
    sent : float
        Calls sent at the start, in units of K.
    waits_for : float, optional
        Number of answers that end the wave, in units of K. None: every task needs an answer.
    hedged : float, optional
        When this share of calls has answered, each task without an answer is sent again.
    """

    name: str
    sent: float
    waits_for: float | None = None
    hedged: float | None = None

    @property
    def exact(self) -> bool:
        """True if every task has an answer of its own at the end."""
        return self.waits_for is None

    def workers(self, tasks: int) -> int:
        """Calls sent at the start."""
        return round(self.sent * tasks)

    def quorum(self, tasks: int) -> int:
        """Number of answers that end the wave, for schemes that count answers."""
        return round((self.waits_for or self.sent) * tasks)

    def play(self, seconds: np.ndarray, tasks: int, after: np.ndarray) -> cm.latency.Waits:
        """Time and number of calls of each wave.

        Parameters
        ----------
        seconds : ndarray, shape (waves, 2 K)
            Times of the first calls, then of the second ones; the same for all schemes.
        tasks : int
        after : ndarray, shape (waves,)
            Time at which hedges are sent, for schemes that hedge.
        """
        if self.hedged is not None:
            return hedged(seconds[:, :tasks], seconds[:, tasks:], after)
        sent = seconds[:, : self.workers(tasks)]
        if self.waits_for is not None:
            return quorum(sent, self.quorum(tasks))
        return copies(sent, tasks)


SCHEMES = (
    Scheme("wait for all", 1.0),
    Scheme("copies x2", 2.0),
    Scheme("hedge p90", 1.0, hedged=0.90),
    Scheme("hedge p95", 1.0, hedged=0.95),
    Scheme("first K of 1.25K", 1.25, 1.0),
    Scheme("first 1.5K of 2K", 2.0, 1.5),
    Scheme("first 1.25K of 2K", 2.0, 1.25),
)

CHECKED = (
    SCHEMES[0],
    Scheme("first K of 1.2K", 1.2, 1.0),
    Scheme("first 1.1K of 1.2K", 1.2, 1.1),
    SCHEMES[5],
    SCHEMES[1],
    SCHEMES[2],
)
"""Schemes for which an earlier simulation is known."""


@dataclass(frozen=True)
class Waves:
    """Times and numbers of calls of the waves of one scheme."""

    times: np.ndarray
    calls: np.ndarray


def simulated(
    model: Service,
    schemes: Sequence[Scheme],
    tasks: int,
    count: int,
    rng: np.random.Generator,
) -> tuple[list[Waves], Drawn]:
    """Simulate all schemes on the same waves.

    Returns
    -------
    list of Waves
        One per scheme.
    Drawn
        Arrays and rounds of the waves; its ``seconds`` are empty.
    """
    times = np.empty((len(schemes), count), np.float32)
    calls = np.empty((len(schemes), count), np.int32)
    array, rounds = np.empty(count, int), np.empty(count, int)
    for begin, end in _chunks(count, max(256, 2 * tasks)):
        drawn = model.waves(rng, end - begin, 2 * tasks)
        array[begin:end], rounds[begin:end] = drawn.array, drawn.round
        for row, scheme in enumerate(schemes):
            after = model.quantiles(scheme.hedged or 0.0)[drawn.array]
            played = scheme.play(drawn.seconds, tasks, after)
            times[row, begin:end], calls[row, begin:end] = played
    waves = [Waves(*pair) for pair in zip(times, calls, strict=True)]
    return waves, Drawn(np.empty((count, 0), np.float32), array, rounds)


def answering(scheme: Scheme, seconds: np.ndarray, tasks: int) -> list[np.ndarray]:
    """Slots, ascending, whose answers end each wave of a scheme that counts answers."""
    sent = seconds[:, : scheme.workers(tasks)]
    return list(responders(sent, scheme.quorum(tasks)))


def quantile_intervals(
    values: np.ndarray,
    shares: Sequence[float],
    drawn: Drawn | None = None,
    rng: np.random.Generator | None = None,
    resamples: int = 200,
) -> list[Interval]:
    """Quantiles with 95 % intervals.

    Parameters
    ----------
    values : ndarray, shape (waves,)
    shares : sequence of float
    drawn : Drawn, optional
        For waves from measured rounds. There are far fewer rounds than waves, so the interval is a
        bootstrap over the rounds of each array. Otherwise waves are independent, and the interval
        comes from order statistics, for any distribution.
    """
    order = np.argsort(values)
    ordered = values[order].astype(float)
    count = len(ordered)
    at = [min(count - 1, int(np.ceil(share * count)) - 1) for share in shares]
    if drawn is None:
        low = stats.binom.ppf(0.025, count, shares).astype(int) - 1
        high = stats.binom.ppf(0.975, count, shares).astype(int)
        bounds = np.stack([ordered[np.clip(edge, 0, count - 1)] for edge in (low, high)])
    else:
        assert rng is not None
        rounds = drawn.round[order].astype(np.int32)
        spans = _spans(drawn)
        places = []
        for _ in range(resamples):
            total = np.cumsum(_redrawn(spans, rng)[rounds])
            places.append(np.searchsorted(total, np.multiply(shares, total[-1])))
        again = ordered[np.minimum(places, count - 1)]
        bounds = np.quantile(again, [0.025, 0.975], axis=0)
    return [Interval(ordered[i], *edges) for i, edges in zip(at, bounds.T.tolist(), strict=True)]


def quantile_range(values: np.ndarray, share: float, waves: int) -> tuple[float, float]:
    """95 % range of the quantile of a sample of ``waves`` waves from the same distribution."""
    shares = stats.binom.ppf([0.025, 0.975], waves, share) / waves
    low, high = np.quantile(values, shares)
    return float(low), float(high)


def _spans(drawn: Drawn) -> list[tuple[int, int]]:
    """First round and number of rounds of each array."""
    groups = (drawn.round[drawn.array == array] for array in np.unique(drawn.array))
    return [(int(own.min()), int(np.ptp(own)) + 1) for own in groups]


def _redrawn(spans: list[tuple[int, int]], rng: np.random.Generator) -> np.ndarray:
    """Number of times each round occurs in one bootstrap sample of the rounds of each array."""
    times = np.zeros(sum(spans[-1]), np.float32)
    for first, rounds in spans:
        times[first : first + rounds] = rng.multinomial(rounds, np.full(rounds, 1.0 / rounds))
    return times


def _chunks(count: int, calls: int) -> Iterator[tuple[int, int]]:
    step = max(1, CHUNK // calls)
    for begin in range(0, count, step):
        yield begin, min(count, begin + step)
