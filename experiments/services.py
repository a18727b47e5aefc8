"""Distributions of call times: three synthetic families, and times measured on AWS Lambda."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple, Protocol

import numpy as np
from scipy.special import gammaln

import codedmap as cm

from .data import find, path_of

__all__ = [
    "INDEPENDENT",
    "MEASURED",
    "TRACES",
    "Drawn",
    "Independent",
    "Service",
    "Traces",
    "have_traces",
    "service",
    "worst_array",
]

TRACES = "aws-lambda-256-workers.npz"
RANKED_BY = 20
"""Calls per wave for ranking the arrays of the traces."""


Family = cm.latency.ShiftedExponential | cm.latency.Bimodal | cm.latency.Pareto


class Drawn(NamedTuple):
    """Call times of many waves."""

    seconds: np.ndarray
    """(waves, calls) float32, in the unit of the service."""
    array: np.ndarray
    """(waves,) index of the array of each wave; 0 for services without arrays."""
    round: np.ndarray
    """(waves,) index of the round, over all arrays; one per wave for independent services."""


class Service(Protocol):
    """A distribution of call times."""

    @property
    def name(self) -> str:
        """Name in the table."""
        ...

    @property
    def title(self) -> str:
        """Title in the figure."""
        ...

    def waves(self, rng: np.random.Generator, count: int, calls: int) -> Drawn:
        """Draw the calls of ``count`` waves."""
        ...

    def quantiles(self, share: float) -> np.ndarray:
        """Time within which this share of all calls answers, for each array."""
        ...


@dataclass(frozen=True)
class Independent:
    """Calls drawn independently from one distribution.

    Parameters
    ----------
    name, title : str
    model : one of `codedmap.latency`
        The distribution.
    """

    name: str
    title: str
    model: Family

    def waves(self, rng: np.random.Generator, count: int, calls: int) -> Drawn:
        """Draw the calls of ``count`` waves."""
        seconds = self.model.sample(rng, count, calls, dtype=np.float32)
        return Drawn(seconds, np.zeros(count, int), np.arange(count))

    def quantiles(self, share: float) -> np.ndarray:
        """The quantile of the distribution."""
        return np.array([self.model.quantile(share)])


INDEPENDENT: dict[str, Independent] = {
    one.name: one
    for one in (
        Independent(
            "exponential", "1 + Exp(0.5): mild tail", cm.latency.ShiftedExponential(1.0, 0.5)
        ),
        Independent(
            "bimodal",
            "1 + Exp(0.1), 5 % of calls 10x slower",
            cm.latency.Bimodal(cm.latency.ShiftedExponential(1.0, 0.1), 0.05, 10.0),
        ),
        Independent("pareto", "1 + 0.3 Pareto(1.5): heavy tail", cm.latency.Pareto(1.0, 0.3, 1.5)),
    )
}
"""By name; 1 is the shortest possible call."""


@dataclass(frozen=True)
class Traces:
    """Measured rounds: a wave is one round of one array; its calls are different workers.

    `codedmap.latency.Empirical` draws sessions of waves from one array. This class draws each wave
    independently and returns its round, which the bootstrap intervals need.

    Parameters
    ----------
    name, title : str
    arrays : tuple of ndarray, each (rounds, workers)
        In units of the median call of each array, because the workloads of the arrays differ by a
        factor of a hundred. Each wave chooses an array with equal probability.
    """

    name: str
    title: str
    arrays: tuple[np.ndarray, ...]

    def waves(self, rng: np.random.Generator, count: int, calls: int) -> Drawn:
        """Draw the calls of ``count`` waves."""
        array = rng.integers(len(self.arrays), size=count)
        lengths = np.array([len(times) for times in self.arrays])
        begins = np.cumsum(lengths) - lengths
        rounds = begins[array] + rng.integers(lengths[array])
        # A sort: a partition would leave the workers in a biased order.
        workers = rng.random((count, self.arrays[0].shape[1]), dtype=np.float32).argsort(axis=1)
        seconds = np.concatenate(self.arrays)[rounds[:, None], workers[:, :calls]]
        return Drawn(seconds, array, rounds)

    def quantiles(self, share: float) -> np.ndarray:
        """Of all calls of each array."""
        return np.array([np.quantile(times, share) for times in self.arrays])


MEASURED = {"aws": "AWS Lambda, all arrays", "aws-worst": "AWS Lambda, worst array"}
"""Titles of the services drawn from the traces, by name."""


def have_traces() -> bool:
    """True if the file of traces exists."""
    return find(TRACES) is not None


def service(name: str) -> Service:
    """The service of this name.

    Raises
    ------
    MissingData
        If it needs traces whose file is missing.
    """
    if name in INDEPENDENT:
        return INDEPENDENT[name]
    arrays = _arrays(str(path_of(TRACES)))
    chosen = list(arrays) if name == "aws" else [worst_array(arrays, RANKED_BY)]
    return Traces(
        name, MEASURED[name], tuple(arrays[key] / np.median(arrays[key]) for key in chosen)
    )


def worst_array(arrays: dict[str, np.ndarray], tasks: int) -> str:
    """The array with the largest p99 of waiting for all, in units of its median call."""
    return max(
        arrays, key=lambda k: slowest_quantile(arrays[k], tasks, 0.99) / np.median(arrays[k])
    )


def slowest_quantile(times: np.ndarray, tasks: int, share: float) -> float:
    """Exact quantile of the maximum of ``tasks`` different workers of a random round."""
    ordered = np.sort(times, axis=1)
    workers = ordered.shape[1]
    place = np.arange(tasks, workers + 1)
    within = np.zeros(workers + 1)
    within[tasks:] = np.exp(_log_choose(place, tasks) - _log_choose(workers, tasks))
    weights = np.tile(np.diff(within), len(ordered)) / len(ordered)
    order = ordered.ravel().argsort()
    at = int(np.searchsorted(np.cumsum(weights[order]), share))
    return float(ordered.ravel()[order][min(at, order.size - 1)])


@cache
def _arrays(path: str) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return {name: file[name].astype(np.float32) for name in file.files}


def _log_choose(n: np.ndarray | int, k: int) -> np.ndarray:
    n = np.asarray(n, float)
    return np.asarray(gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0))
