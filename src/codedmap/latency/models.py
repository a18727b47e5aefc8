"""Models of how long calls take: the protocol, and three parametric families."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ..contracts.arguments import check_whole, is_real, set_numbers
from ..errors import InvalidArgument

_SHARE_MARGIN = 1e-9
"""Relative change of a share, so that rounding does not decide on which side of a gap in the times a quantile falls: if
exactly 5 % of the calls are slow, the 95th percentile is the time of a slow call."""


def check_share(share: Any) -> float:
    """The share as a float; raises `InvalidArgument` unless it is one."""
    if not is_real(share) or not 0.0 <= share <= 1.0:
        raise InvalidArgument(
            f"share={share!r} must be between 0 and 1, such as 0.99 for the 99th percentile"
        )
    return float(share)


def order_statistic(values: np.ndarray, share: float) -> float:
    """The smallest value that this share of the values does not exceed; checks the share."""
    at = min(max(math.ceil(check_share(share) * values.size - 1e-9) - 1, 0), values.size - 1)
    return float(np.partition(values, at, axis=None)[at])


def check_draw(rng: Any, waves: Any, workers: Any, each: Any) -> None:
    """Raise `InvalidArgument` where nothing can be drawn."""
    if not isinstance(rng, np.random.Generator):
        raise InvalidArgument(
            f"rng={rng!r} is not a numpy.random.Generator: give for example numpy.random.default_rng(0)"
        )
    check_whole("waves", waves, 1)
    check_whole("workers", workers, 1)
    check_whole("each", each, 1)


@runtime_checkable
class LatencyModel(Protocol):
    """How long calls take. A subclass gets `calls` with independent calls of each worker."""

    def sample(self, rng: np.random.Generator, waves: int, workers: int, /) -> np.ndarray:
        """Seconds of one call of each worker in each wave, (waves, workers); infinite: no answer."""

    def quantile(self, share: float, /) -> float:
        """The shortest time within which this share of all calls has answered."""

    def calls(self, rng: np.random.Generator, waves: int, workers: int, each: int) -> np.ndarray:
        """Seconds of several calls of each worker, one after another, (each, waves, workers).

        A hedge needs the second calls, because its worker may have had a call in this wave already.
        Here all calls are drawn independently.
        """
        check_draw(rng, waves, workers, each)
        return np.stack([self.sample(rng, waves, workers) for _ in range(each)])


class Family(LatencyModel):
    """All calls are drawn independently from one distribution."""

    @abstractmethod
    def survival(self, seconds: float) -> float:
        """The share of calls that take longer than this."""

    def sample(
        self,
        rng: np.random.Generator,
        waves: int,
        workers: int,
        dtype: Any = np.float64,
    ) -> np.ndarray:
        """Seconds of one call of each worker in each wave, (waves, workers).

        Parameters
        ----------
        rng : numpy.random.Generator
        waves, workers : int
        dtype : {numpy.float64, numpy.float32}
            float32 takes half the memory and time, and draws different numbers from the same generator.
        """
        check_draw(rng, waves, workers, 1)
        kind = np.dtype(dtype)
        if kind not in (np.float64, np.float32):
            raise InvalidArgument(f"dtype={kind} cannot be drawn: choose float64 or float32")
        # Times that overflow are infinite.
        with np.errstate(over="ignore"):
            return self._drawn(rng, (waves, workers), kind)

    @abstractmethod
    def _drawn(
        self, rng: np.random.Generator, shape: tuple[int, int], dtype: np.dtype[Any]
    ) -> np.ndarray:
        """`sample` with checked arguments."""


@dataclass(frozen=True)
class ShiftedExponential(Family):
    """A shortest time and a mild tail: shift + Exp(mean).

    Parameters
    ----------
    shift : float
        The shortest time, in seconds.
    mean : float
        Mean time of a call beyond the shortest.
    """

    shift: float = 1.0
    mean: float = 0.5

    def __post_init__(self) -> None:
        set_numbers(self, "shift", "mean")

    def survival(self, seconds: float) -> float:
        if seconds < self.shift:
            return 1.0
        return math.exp(-(seconds - self.shift) / self.mean) if self.mean else 0.0

    def quantile(self, share: float) -> float:
        if check_share(share) == 1.0:
            return math.inf if self.mean else self.shift
        return self.shift - self.mean * math.log1p(-share)

    def _drawn(
        self, rng: np.random.Generator, shape: tuple[int, int], dtype: np.dtype[Any]
    ) -> np.ndarray:
        return self.shift + self.mean * rng.standard_exponential(shape, dtype=dtype)


@dataclass(frozen=True)
class Pareto(Family):
    """A shortest time and a heavy tail: the share of calls longer than t is (1 + (t - shift)/scale)^-exponent.

    Parameters
    ----------
    shift : float
        The shortest time, in seconds.
    scale : float
        Scale of the time beyond the shortest, in seconds.
    exponent : float
        A smaller exponent gives a heavier tail. The mean, shift + scale / (exponent - 1), is infinite
        for exponents up to 1, the variance up to 2; quantiles are always finite.
    """

    shift: float = 1.0
    scale: float = 0.3
    exponent: float = 1.5

    def __post_init__(self) -> None:
        set_numbers(self, "shift", "scale")
        set_numbers(self, "exponent", above=True)

    def survival(self, seconds: float) -> float:
        if seconds < self.shift:
            return 1.0
        if self.scale == 0.0:
            return 0.0
        return float((1.0 + (seconds - self.shift) / self.scale) ** -self.exponent)

    def quantile(self, share: float) -> float:
        if self.scale == 0.0 or check_share(share) == 0.0:
            return self.shift
        power = math.inf if share == 1.0 else -math.log1p(-share) / self.exponent
        with np.errstate(over="ignore"):
            return self.shift + self.scale * float(np.expm1(power))

    def _drawn(
        self, rng: np.random.Generator, shape: tuple[int, int], dtype: np.dtype[Any]
    ) -> np.ndarray:
        powers = rng.standard_exponential(shape, dtype=dtype) * (1.0 / self.exponent)
        return self.shift + self.scale * np.expm1(powers)


@dataclass(frozen=True)
class Bimodal(Family):
    """Some calls are slower by a factor, independently of the worker.

    Parameters
    ----------
    base : ShiftedExponential, Pareto or Bimodal
        The model of a usual call.
    share : float
        Share of slow calls.
    factor : float
        How many times as long a slow call takes; at least 1.
    """

    base: Family = ShiftedExponential(1.0, 0.1)
    share: float = 0.05
    factor: float = 10.0

    def __post_init__(self) -> None:
        if not isinstance(self.base, Family):
            raise InvalidArgument(
                f"base={self.base!r} has no distribution: give ShiftedExponential, Pareto or Bimodal"
            )
        object.__setattr__(self, "share", check_share(self.share))
        set_numbers(self, "factor", least=1.0)

    def survival(self, seconds: float) -> float:
        slow = self.share * self.base.survival(seconds / self.factor)
        return (1.0 - self.share) * self.base.survival(seconds) + slow

    def quantile(self, share: float) -> float:
        if check_share(share) in (0.0, 1.0):
            slowed = self.share > 0.0 if share else self.share == 1.0
            return self.base.quantile(share) * (self.factor if slowed else 1.0)
        left = (1.0 - share) * (1.0 - _SHARE_MARGIN)
        low = self.base.quantile(1.0 - left)
        if self.survival(low) <= left:
            return low
        high = self.factor * low
        while high - low > 1e-12 * high:
            middle = (low + high) / 2.0
            low, high = (middle, high) if self.survival(middle) > left else (low, middle)
        return high

    def _drawn(
        self, rng: np.random.Generator, shape: tuple[int, int], dtype: np.dtype[Any]
    ) -> np.ndarray:
        times = self.base._drawn(rng, shape, dtype)
        times[rng.random(shape, dtype=dtype) < self.share] *= self.factor
        return times
