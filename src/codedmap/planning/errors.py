"""How large errors of estimates are, found by replaying losses: answers are left out and estimated from the others."""

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
from ..estimation.set_aside import set_aside
from ..estimation.surrogate import estimates
from ..execution.encoded import EncodedRows
from ..execution.missing import COMPUTING
from .pilot import Pilot

_FEWEST = 5  # answers, at least, from which errors are found
_SHARES = (0.75, 0.25, 0.5)  # shares of the answers that replays keep, in their order
_PARTS = 4  # parts of the answers, of which replays keep one, two or three
_EACH = 0.1  # share of the time left that one replay may take
_USUAL = 0.1  # seconds that one replay may take at least
_LEAST = 0.02  # seconds of time left below which no replay is made at all
_THOROUGH = 0.4  # share of the time left for one replay as thorough as the estimates of the job
_LONGER = 3.0  # ratio of the job's time for estimates to a replay's from which one is thorough
_BETTER = 2.5  # factor by which the job's estimates may be better than replays in less time
_DAMPED = 0.8  # share of the measured power of errors with which they are extrapolated
_STEEPEST = 1.2  # largest measured power that is trusted
_FALLING = 0.05  # power by which extrapolated errors fall in any case
_FASTER = 1.2  # factor of the extrapolated power at the lower end of its range
_FEW = 8.0  # added to the power of the lower end, over the root of the number of answers
_DEVIATIONS = 2.0  # standard errors of a measured error between it and an end of its range
_GROUPS = 4  # groups, at most, on which a code with estimates of its own is tried
_SHARP = (
    0.2  # error of estimated answers to rows, or to mixtures, above which such a code is not tried
)


class Expected(NamedTuple):
    """An error, and the ends of a range that holds the true one in 95 of 100 cases."""

    error: float
    low: float
    high: float

    def of_share(self, share: float) -> Expected:
        """The error of all rows, if this share of them is estimated and the others are exact."""
        return Expected(*(math.sqrt(share) * number for number in self))


class Errors:
    """Errors of estimates of a job, in standard deviations of the outputs; docs/plan.md explains them.

    Losses are replayed while there is time. The measured error falls with a power of the number of answers. For more
    answers it is extrapolated with this power, damped, in a range whose width was chosen once (`experiments.planned`).

    A job of so many ``seconds`` has a tenth of them for its estimates, and so has a replay; if they are infinite, estimates
    are quick. ``time_left`` gives the seconds that replays still have.
    """

    def __init__(
        self, pilot: Pilot, seed: int, seconds: float, time_left: Callable[[], float]
    ) -> None:
        usual = set_aside(pilot.points, pilot.answers) < 0  # estimates are made without the others
        self._points, self._answers = pilot.points[usual], pilot.answers[usual]
        self._seconds = (1.0 - COMPUTING) * seconds if seconds < math.inf else 0.0
        self._seed, self._time_left = seed, time_left
        numbers = self._answers.size > 0
        spread = deviations(self._answers) if numbers else np.zeros(self._answers.shape[1])
        self._varied = spread > 1e-12 * np.abs(self._answers).max(axis=0, initial=0.0)
        self._spread = spread[self._varied]
        self.deviation = float(root_mean_square(spread)) if numbers else math.nan
        self.fewest = 0.0  # answers from which the error was measured
        self.no_time = False  # whether there was none to measure it
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
            constant = 0.0 if self.known else math.nan
            return Expected(constant, constant, constant)
        sizes, logs = np.log(self._sizes), np.log(self._errors)
        size = math.log(max(answers, 1.0))
        measured = float(np.exp(np.interp(size, sizes, logs)))
        further = max(0.0, size - float(sizes[-1]))
        # The powers of the error from the fewest, and from the second most answers, to the most.
        earlier = [1 if len(logs) > 2 else 0, -2]
        powers = (logs[earlier] - logs[-1]) / (sizes[-1] - sizes[earlier])
        power = _DAMPED * min(float(np.clip(powers, 0.0, 3.0).mean()), _STEEPEST) + _FALLING
        steep = _FASTER * power + _FEW / math.sqrt(len(self._points))
        return Expected(
            measured * math.exp(-power * further),
            measured * math.exp(-steep * further) / self._doubt / self._better,
            measured * self._doubt,
        )

    # Replayed losses ----------------------------------------------------------------------------------

    def _replay(self) -> None:
        """Measure errors from some shares of the answers, as many as there is time for."""
        size = len(self._points)
        order = np.random.default_rng(self._seed).permutation(size)
        part = np.empty(size, dtype=int)
        part[order] = np.arange(size) % _PARTS
        squares: dict[float, list[np.ndarray]] = {}
        ratio, self._cut_short = 1.0, False
        for share, kept in _replays(part):
            if int(share * size) < _FEWEST:
                continue
            left = self._time_left()
            if left < (_USUAL if squares else _LEAST):
                self.no_time = not squares
                break
            first, each = not squares, min(left, max(_USUAL, _EACH * left))
            each = min(each, self._seconds or each)  # the job itself has no more
            squares.setdefault(share, []).append(self._squared_errors(kept, each))
            if not first or self._seconds < _LONGER * each:
                continue
            # The job will make its estimates in more time than this replay had.
            thorough = min(self._seconds, _THOROUGH * self._time_left())
            if thorough > each:
                mean = self._squared_errors(kept, thorough).mean()
                ratio = math.sqrt(max(mean, 1e-24) / max(squares[share][0].mean(), 1e-24))
                ratio = min(1.2, max(1.0 / _BETTER**2, ratio))
            if thorough < self._seconds / _LONGER:
                self._better = _BETTER
        if self._cut_short:
            self._better = _BETTER**3  # these replays had very little time
        if not squares:
            return
        measured = {share: np.concatenate(parts) for share, parts in sorted(squares.items())}
        last = measured[max(measured)]
        error = float(last.std() / (2.0 * max(last.mean(), 1e-300) * math.sqrt(len(last))))
        # The deviation of the outputs is uncertain as well.
        self._doubt = math.exp(_DEVIATIONS * math.hypot(error, math.sqrt(0.5 / size)) + 0.05)
        self.fewest = min(measured) * size
        # From two answers an estimate is about as good as the mean, whose error is 1.
        self._sizes = np.array([2.0, *(share * size for share in measured)])
        errors = ratio * np.sqrt([part.mean() for part in measured.values()])
        self._errors = np.maximum(np.append(1.0, errors), 1e-12)

    def _squared_errors(self, kept: np.ndarray, seconds: float) -> np.ndarray:
        """Mean squared errors (l,) of rows that are not kept, estimated from those that are in so many ``seconds``.

        The seconds are of the processor: while it does other work as well, those of the clock make poorer estimates.
        """
        answers = self._answers[:, self._varied]
        begun = time.thread_time()
        self._cut_short |= min(seconds, self._time_left()) < _USUAL

        def time_left() -> float:
            left = min(seconds - time.thread_time() + begun, self._time_left())
            self._cut_short |= left < 0.0
            return left

        found = estimates(
            self._points[kept], answers[kept], self._points[~kept], seed=self._seed, time_left=time_left
        )  # fmt: skip
        errors = (found.values - answers[~kept]) / self._spread
        return np.asarray((errors**2).mean(axis=1))

    # Codes with estimates of their own ----------------------------------------------------------------

    def decoded(
        self, code: Code, shape: tuple[int, ...], sets: np.ndarray, goes_on: Callable[[], bool]
    ) -> tuple[float, int]:
        """Error of all rows that a code decodes from the answers of ``sets`` of slots, and how many sets were tried.

        Answers to its payloads are estimated. The error is NaN if the code cannot be used, or if these estimates are poor.
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
            found = estimates(
                self._points,
                self._answers[:, self._varied],
                np.concatenate(sent),
                thorough=False,
                time_left=self._time_left,
            )
            if not root_mean_square((found.stderr / self._spread).ravel()) < _SHARP:
                return math.nan, 0
            answers = found.values.reshape(code.workers, groups, -1)
            for slots in sets:
                if squares and not goes_on():
                    break
                encoded = EncodedRows(code, rows)
                for slot in slots:
                    encoded.take(int(slot), answers[slot])
                errors = (encoded.decode().values - truth) / self._spread
                squares.append(float((errors**2).mean()))
        except CodedmapError:
            return math.nan, len(squares)
        return math.sqrt(np.mean(squares)), len(squares)


def _replays(part: np.ndarray) -> Iterator[tuple[float, np.ndarray]]:
    """Shares of the answers, and which (n,) bool are kept: each share once, then again with other answers."""
    for turn in range(_PARTS):
        for share in _SHARES:
            if share != 0.5:
                yield share, (part != turn) == (share > 0.5)
            elif turn < 2:
                yield share, part % 2 == turn
