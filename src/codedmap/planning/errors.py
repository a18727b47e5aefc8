"""How far off estimates are: by answers that were left out, and by losses that are replayed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from ..contracts.answers import root_mean_square
from ..contracts.code import Code
from ..errors import CodedmapError
from ..estimation.known import deviations
from ..estimation.surrogate import estimates
from ..execution.encoded import EncodedRows
from ..execution.missing import COMPUTING
from .pilot import Pilot

_FEWEST = 5  # answers from which errors are estimated
_SHARES = (0.75, 0.25, 0.5)  # of the answers that are kept where losses are replayed
_PARTS = 4
_EACH, _USUAL, _LEAST = 0.1, 0.1, 0.02
"""Of the time that there is, and seconds, for one replay, whichever is more; and seconds in which there is none."""
_THOROUGH, _LONGER = 0.4, 3.0
"""Of the time, for one replay as the job will estimate, if this takes so many times longer than a usual one."""
_BETTER = 2.5
"""By this factor thorough estimates may be better where there is no time to see it; by its cube if replays were cut short."""
_DAMPED, _STEEPEST, _FALLING = 0.8, 1.2, 0.05
"""How a power that errors fell by is continued: as so much of it, at most of this one, and a little more."""
_FASTER, _FEW = 1.2, 8.0
"""It may be so many times this power, and more where there are few answers: by this over the root of their number."""
_DEVIATIONS = 2.0  # of a measured error, to either side
_GROUPS, _SHARP = 4, 0.2
"""Groups on which codes with estimates of their own are tried, and the error of answers to mixtures up to which."""


class Expected(NamedTuple):
    """An error, and the ends between which 95 in 100 lie."""

    error: float
    low: float
    high: float

    def of_share(self, share: float) -> Expected:
        """The same of all rows, if this share of them is estimated."""
        return Expected(*(math.sqrt(share) * number for number in self))


class Errors:
    """Errors of estimates of a job, in deviations of the outputs.

    Found as docs/plan.md says: losses are replayed while there is time, and errors from more answers continue the power of
    their number by which they fell, damped, in a range whose width was chosen once (`experiments.planned`).

    A tenth of the ``seconds`` that the job takes is for estimates, in replays too; if they are infinite, these are quick ones.
    ``time_left`` gives the seconds that there are for it now.
    """

    def __init__(
        self, pilot: Pilot, seed: int, seconds: float, time_left: Callable[[], float]
    ) -> None:
        self._points, self._answers = pilot.points, pilot.answers
        self._seconds = (1.0 - COMPUTING) * seconds if seconds < math.inf else 0.0
        self._seed, self._time_left = seed, time_left
        some = self._answers.size > 0
        spread = deviations(self._answers) if some else np.zeros(self._answers.shape[1])
        self._varied = spread > 1e-12 * np.abs(self._answers).max(axis=0, initial=0.0)
        self._spread = spread[self._varied]
        self.deviation = float(root_mean_square(spread)) if some else math.nan
        self.fewest = 0.0  # from which the error was measured
        self.unseen = False  # whether there was no time for it
        self._sizes = self._errors = np.zeros(0)
        self._doubt = self._better = 1.0
        if len(self._points) >= _FEWEST and self._varied.any():
            self._replay()

    @property
    def known(self) -> bool:
        """Whether anything is known of errors."""
        return len(self._sizes) > 0 or (len(self._answers) >= _FEWEST and not self._varied.any())

    def of(self, answers: float) -> Expected:
        """Root mean square error of an estimate from so many answers; NaN if nothing is known."""
        if not len(self._sizes):
            none = 0.0 if self.known else math.nan
            return Expected(none, none, none)
        sizes, logs = np.log(self._sizes), np.log(self._errors)
        size = math.log(max(answers, 1.0))
        measured = float(np.exp(np.interp(size, sizes, logs)))
        further = max(0.0, size - float(sizes[-1]))
        # The power by which the error fell over all that was measured, and lately.
        before = [1 if len(logs) > 2 else 0, -2]
        powers = (logs[before] - logs[-1]) / (sizes[-1] - sizes[before])
        power = _DAMPED * min(float(np.clip(powers, 0.0, 3.0).mean()), _STEEPEST) + _FALLING
        steep = _FASTER * power + _FEW / math.sqrt(len(self._points))
        return Expected(
            measured * math.exp(-power * further),
            measured * math.exp(-steep * further) / self._doubt / self._better,
            measured * self._doubt,
        )

    # Replayed losses ----------------------------------------------------------------------------------

    def _replay(self) -> None:
        size = len(self._points)
        order = np.random.default_rng(self._seed).permutation(size)
        part = np.empty(size, dtype=int)
        part[order] = np.arange(size) % _PARTS
        squares: dict[float, list[np.ndarray]] = {}
        ratio, self._cut = 1.0, False
        for share, kept in _replays(part):
            if int(share * size) < _FEWEST:
                continue
            left = self._time_left()
            if left < (_USUAL if squares else _LEAST):
                self.unseen = not squares
                break
            first, each = not squares, min(left, max(_USUAL, _EACH * left))
            each = min(each, self._seconds or each)  # the job will not have more
            squares.setdefault(share, []).append(self._off(kept, each))
            if not first or self._seconds < _LONGER * each:
                continue
            # The job will make its estimates in more time than this replay had.
            thorough = min(self._seconds, _THOROUGH * self._time_left())
            if thorough > each:
                again = self._off(kept, thorough).mean()
                ratio = math.sqrt(max(again, 1e-24) / max(squares[share][0].mean(), 1e-24))
                ratio = min(1.2, max(1.0 / _BETTER**2, ratio))
            if thorough < self._seconds / _LONGER:
                self._better = _BETTER
        if self._cut:
            self._better = _BETTER**3
        if not squares:
            return
        every = {share: np.concatenate(parts) for share, parts in sorted(squares.items())}
        last = every[max(every)]
        error = float(last.std() / (2.0 * max(last.mean(), 1e-300) * math.sqrt(len(last))))
        # The deviation of the outputs is uncertain as well.
        self._doubt = math.exp(_DEVIATIONS * math.hypot(error, math.sqrt(0.5 / size)) + 0.05)
        self.fewest = min(every) * size
        # From two answers an estimate is about as good as the mean.
        self._sizes = np.array([2.0, *(share * size for share in every)])
        sizes = ratio * np.sqrt([part.mean() for part in every.values()])
        self._errors = np.maximum(np.append(1.0, sizes), 1e-12)

    def _off(self, kept: np.ndarray, seconds: float) -> np.ndarray:
        """Squares (l,) of what answers are off from estimates from those that are kept, made in so many seconds.

        Of the processor: on one that is busy with other work, as many seconds of the clock make poorer estimates.
        """
        answers = self._answers[:, self._varied]
        begun = time.thread_time()
        self._cut |= min(seconds, self._time_left()) < _USUAL

        def time_left() -> float:
            left = min(seconds - time.thread_time() + begun, self._time_left())
            self._cut |= left < 0.0
            return left

        found = estimates(
            self._points[kept], answers[kept], self._points[~kept], seed=self._seed, time_left=time_left
        )  # fmt: skip
        off = (found.values - answers[~kept]) / self._spread
        return np.asarray((off**2).mean(axis=1))

    # Codes with estimates of their own ----------------------------------------------------------------

    def decoded(
        self, code: Code, shape: tuple[int, ...], sets: np.ndarray, goes_on: Callable[[], bool]
    ) -> tuple[float, int]:
        """Error of all rows that a code decodes from answers of some slots, and how many sets there was time for.

        Answers to its payloads are estimated. NaN if it cannot be tried, or if these estimates are poor.
        """
        groups = min(_GROUPS, len(self._points) // code.tasks)
        if not groups or not self._varied.any() or not self.of(len(self._points)).error < _SHARP:
            return math.nan, 0
        chosen = np.linspace(0, len(self._points) - 1, groups * code.tasks).astype(int)
        rows = self._points[chosen].reshape(-1, *shape)
        truth = self._answers[chosen][:, self._varied]
        squares: list[float] = []
        try:
            payloads = EncodedRows(code, rows)
            sent = [payloads.payload(slot).reshape(groups, -1) for slot in range(code.workers)]
            answers = estimates(
                self._points,
                self._answers[:, self._varied],
                np.concatenate(sent),
                thorough=False,
                time_left=self._time_left,
            ).values.reshape(code.workers, groups, -1)
            for slots in sets:
                if squares and not goes_on():
                    break
                encoded = EncodedRows(code, rows)
                for slot in slots:
                    encoded.take(int(slot), answers[slot])
                off = (encoded.decode().values - truth) / self._spread
                squares.append(float((off**2).mean()))
        except CodedmapError:
            return math.nan, len(squares)
        return math.sqrt(np.mean(squares)), len(squares)


def _replays(part: np.ndarray) -> Iterator[tuple[float, np.ndarray]]:
    """Shares of the answers, and which of them (n,) bool are kept: each share once, then again with others."""
    for turn in range(_PARTS):
        for share in _SHARES:
            if share != 0.5:
                yield share, (part != turn) == (share > 0.5)
            elif turn < 2:
                yield share, part % 2 == turn
