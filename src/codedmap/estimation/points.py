"""Where answers are and where estimates are wanted, and how much of the time is left."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from copy import copy
from typing import Any

import numpy as np

from .gaussian import Deviance
from .space import Space

EXACT = 5000  # points that are solved for at once
LEFT_OUT = 1000  # answers that are left out one by one
_FIRST = 300  # answers that choose kernels
_SECOND = 450  # answers that refine them
_LAST = 800  # answers that refine the best one
_SHARE = 4  # or one answer of so many, if these are more
_TIMED = 150  # points by which the time of a likelihood is measured
_SOLVED = 6.0  # time of a likelihood over that of solving for as many points
_AVERAGE = 3e-5  # seconds a mean of neighbours
_AVERAGED_OUTPUT = 2e-7  # seconds each output adds to that
_SCANNED = 6e-10  # seconds each number of the points adds to that, where a tree must look at all
_SCANNED_FROM = 10  # dimensions beyond which it must
_PLACING = 1e-5  # seconds an estimate to look for errors around it
_PLACED = 4.0  # time that is left, over what all of them take, from which this is done
_WRITING = 2.0  # time to write estimates, over that to read as many answers
_NO_TIME = 0.02  # seconds that means of neighbours may take anyway
_HURRIED = 50  # answers left out where there is no time: too few to tell errors apart by place
_FURTHEST = 1e100  # deviations from the mean: the squares of larger numbers may be none
_SAME = 1e-12  # share of a number by which equal ones may differ


class Points:
    """Where the answers are and where estimates are wanted, which answers choose and judge, and how much time is left."""

    def __init__(
        self,
        points: np.ndarray,
        wanted: np.ndarray,
        seed: int,
        time_left: Callable[[], float],
        *,
        thorough: bool,
        each: Callable[..., Iterable[Any]],
        outputs: int = 1,
        other: bool = False,
        threads: int = 1,
    ) -> None:
        self.space = space = Space.of(points, other=other)
        self.points, self.wanted = space.seen(points), space.seen(wanted)
        reach = np.maximum(np.abs(self.points).max(axis=0), _FURTHEST)
        self.beyond = (np.abs(self.wanted) > reach).any(axis=1)
        """(m,) bool: wanted points that are too far from the known ones to say anything of them."""
        for places in (self.points, self.wanted):
            np.clip(places, -_FURTHEST, _FURTHEST, out=places)
        self.directions: np.ndarray | None = None
        """(r, r): in the dimensions of the space, those of the points; None if they are the same."""
        self.inputs = (points, wanted) if space.wide else None
        """The known and wanted inputs themselves, if they have many columns."""
        # One pixel of many that is mostly black matters little.
        columns = np.arange(points.shape[1]) if self.inputs is None else space.columns
        still = np.setdiff1d(columns, space.columns)
        same = np.isclose(wanted[:, still], points[:1, still], rtol=_SAME, atol=0.0)
        self.unseen = ~same.all(axis=1)
        """(m,) bool: wanted points that differ from all known ones where these are all equal."""
        self.thorough = thorough
        self._time_left, self._each = time_left, each
        self.threads = threads
        """How many calls of ``each`` are made at the same time."""
        self._interrupted: list[bool] = []  # shared with `rotated` ones
        self._reserved = 0.0
        self.places = True
        """Whether there is time to calibrate standard errors by place."""
        self.order = order = np.random.default_rng(seed).permutation(len(points))
        self.first, self.second = order[:_FIRST], order[:_SECOND]
        self.last = order[: max(_LAST, min(len(points), EXACT) // _SHARE)]
        scanned = self.points.size if self.points.shape[1] > _SCANNED_FROM else 0
        average = _AVERAGE + _SCANNED * scanned + _AVERAGED_OUTPUT * outputs
        averages = average * (len(wanted) + min(len(points), LEFT_OUT))
        self.hurried = averages > max(_NO_TIME, time_left())
        """Whether there is no time for means of neighbours."""
        self.cubed = self._timed() if time_left() < math.inf else 0.0
        """Seconds that a likelihood takes, over the cube of its points."""
        chosen = order[:LEFT_OUT]
        if self.hurried:  # to look for those near each wanted point is to take a tenth of the time
            looked = int(max(0.0, time_left()) / 10.0 / (_SCANNED * max(1, self.wanted.size)))
            few = max(_HURRIED, min(LEFT_OUT, len(wanted) // 10, looked))
            chosen = order[-few:]  # so few should not have chosen the kernels that they judge
        self.sample = np.sort(chosen)
        """(l,) int: the answers that are left out, one by one."""

    def rotated(self, directions: np.ndarray) -> Points:
        """The same with other directions (r, r), which are orthogonal, as dimensions."""
        other = copy(self)
        other.points, other.wanted = self.points @ directions, self.wanted @ directions
        before = self.directions
        other.directions = directions if before is None else before @ directions
        return other

    def unrotated(self, scales: np.ndarray) -> np.ndarray:
        """One over the length scales (r,) of the dimensions of the space, from those of these dimensions."""
        return scales if self.directions is None else np.sqrt(self.directions**2 @ scales**2)

    def time_left(self) -> float:
        """Seconds until estimates should be there; raises if they are not wanted any more."""
        if self._interrupted:
            raise KeyboardInterrupt
        return self._time_left() - self._reserved

    def reserve(self, begun: float, answers: int) -> None:
        """Leave time to write what is estimated, by what it took since ``begun`` to read so many answers.

        And to calibrate it by place, if there is enough.
        """
        if begun < math.inf:
            estimated = len(self.wanted) + len(self.sample)
            placing = _PLACING * estimated
            self.places = _PLACED * placing < self._time_left()
            self._reserved = _WRITING * (begun - self._time_left()) * estimated / answers
            self._reserved += placing * self.places

    def each(self, fn: Callable[..., Any], *arguments: Iterable[Any]) -> list[Any]:
        """As `map`, in threads if so given; where one raises, such as for Ctrl-C here, the others soon end too."""
        try:
            return list(self._each(fn, *arguments))
        except BaseException:
            self._interrupted.append(True)
            raise

    def _timed(self) -> float:
        """As ``cubed``: what machines do in a second differs by orders of magnitude, and with what else runs on them."""
        some = self.points[self.order[:_TIMED]]
        size, dimensions = some.shape
        deviance = Deviance(some, np.ones((size, 1)), "matern52", linear=False)
        begun = self.time_left()
        for _ in range(2):
            deviance(np.zeros(dimensions + 1))
        return max((begun - self.time_left()) / 2.0, 1e-4) / float(size) ** 3

    def affordable(self, seconds: float, most: int = _SECOND) -> int:
        """By how many points, at most so many, a likelihood is computed in so many seconds."""
        cubed = seconds / self.cubed if self.cubed else math.inf
        return int(min(most, max(cubed, 0.0) ** (1.0 / 3.0)))

    def solving(self, count: int, outputs: int = 1) -> float:
        """Seconds that it takes to solve for so many points, and for all estimates of outputs from them."""
        estimated = len(self.wanted) + len(self.sample)
        wide = count + outputs - 1
        return float(count * wide * (count + estimated) * self.cubed / _SOLVED)

    def within(self, seconds: float) -> Callable[[], bool]:
        """Whether less than so many seconds have passed since now."""
        until = self.time_left() - seconds
        return lambda: not self.time_left() < until
