"""How far off estimates are: by answers that were left out, and by losses that are replayed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from ..contracts.code import Code
from ..errors import CodedmapError
from ..estimation.gaussian import Fitted, Kernel, likeliest
from ..estimation.space import Space
from ..estimation.surrogate import estimates
from ..execution.encoded import EncodedRows
from .pilot import Pilot

__all__ = ["Errors", "shortest"]

_Kind = Literal["matern52", "gaussian"]

_FEWEST = 5
"""Answers from which errors are estimated."""
_SHARES = (0.75, 0.25, 0.5)
"""Of the answers that are kept where losses are replayed."""
_PLENTY, _QUICKLY = 1.0, 300
"""Seconds; if there are less, only so many answers are looked at."""
_KERNEL = 150
"""Answers by which it is judged how errors fall with more of them,"""
_POINTS = 600
"""and points at which."""
_STEPS = 20
_SEVERAL = 40
"""Answers from which two kinds of kernels are compared,"""
_EACH = 5
"""and, for each dimension, from which it has a length scale of its own."""
_ESTIMATING = 0.1
"""Of a job's time, for estimates."""
_HASTY, _SHORT = 0.1, 0.3
"""Seconds an output: in less there are means of neighbours only, and an estimate is no slower than a quick one."""
_GROUPS = 4
"""Groups on which codes with estimates of their own are tried."""


def shortest(outputs: int) -> float:
    """Seconds below which a job with a deadline leaves no time for estimates."""
    return _HASTY * outputs / _ESTIMATING


class Errors:
    """Errors of estimates of a job, in deviations of the outputs.

    Losses are replayed: a fourth of the answers is estimated from the others, three fourths from the rest, and halves from
    each other. How
    errors fall with more answers than there are follows from the variance that a Gaussian process, with the kernel
    that is likeliest by the answers, has among the job's own inputs.

    Parameters
    ----------
    pilot : Pilot
    seed : int
    seconds : float
        That the job takes; a tenth of these it has for estimates. Infinite: these are quick ones.
    time_left : callable
        Seconds that there are for it now.
    """

    def __init__(
        self, pilot: Pilot, seed: int, seconds: float, time_left: Callable[[], float]
    ) -> None:
        few = slice(None if time_left() > _PLENTY else _QUICKLY)
        order = np.sort(np.random.default_rng(seed).permutation(len(pilot.points))[few])
        self._points, self._answers = pilot.points[order], pilot.answers[order]
        self._seconds = _ESTIMATING * seconds
        self._seed, self._time_left = seed, time_left
        some = len(self._answers) > 0
        spread = self._answers.std(axis=0) if some else np.zeros(self._answers.shape[1])
        self._varied = spread > 1e-12 * np.abs(self._answers).max(axis=0, initial=0.0)
        self._spread = spread[self._varied]
        self.deviation = float(np.sqrt((spread**2).mean())) if some else math.nan
        self.replayed = 0
        """Answers that were left out and estimated."""
        self.fewest = 0.0
        """From which the error was measured."""
        self._sizes = np.zeros(0)
        self._errors = np.zeros(0)
        if len(self._points) >= _FEWEST and self._varied.any():
            self._replay()
            self._extrapolate(pilot.others)

    @property
    def known(self) -> bool:
        """Whether anything is known of errors."""
        return len(self._sizes) > 0 or (len(self._answers) >= _FEWEST and not self._varied.any())

    def of(self, answers: float) -> float:
        """Root mean square error of an estimate from so many answers; NaN if nothing is known."""
        if not len(self._sizes):
            return 0.0 if self.known else math.nan
        at = np.log(np.clip(answers, self._sizes[0], self._sizes[-1]))
        return float(np.exp(np.interp(at, np.log(self._sizes), np.log(self._errors))))

    def without_more(self, answers: float) -> float:
        """The same if errors do not fall with more answers than were looked at."""
        return self.of(min(answers, self._measured)) if len(self._sizes) else self.of(answers)

    # Replayed losses ----------------------------------------------------------------------------------

    def _replay(self) -> None:
        size = len(self._points)
        order = np.random.default_rng(self._seed).permutation(size)
        part = np.empty(size, dtype=int)
        part[order] = np.arange(size) % 4
        sizes: list[float] = []
        errors: list[float] = []
        for share in _SHARES:
            if int(share * size) < _FEWEST or (sizes and self._time_left() <= 0.0):
                break
            squares: list[np.ndarray] = []
            for turn in range(4 if share != 0.5 else 2):
                if squares and self._time_left() <= 0.0:
                    break
                kept = part % 2 == turn if share == 0.5 else (part != turn) == (share > 0.5)
                squares.append((self._off(kept) ** 2).mean(axis=1))
            every = np.concatenate(squares)
            self.replayed += len(every)
            sizes.append(share * size)
            errors.append(float(np.sqrt(every.mean())))
        if not sizes:
            return
        self._measured, self.fewest = sizes[0], min(sizes)
        # From two answers an estimate is about as good as the mean.
        order = np.argsort(sizes)
        self._sizes = np.append(2.0, np.array(sizes)[order])
        self._errors = np.maximum(np.append(1.0, np.array(errors)[order]), 1e-12)

    def _off(self, kept: np.ndarray) -> np.ndarray:
        answers = self._answers[:, self._varied]
        # As the job will do it, if that takes no longer than there is time for eight times.
        begun = time.perf_counter()
        seconds = min(self._seconds, max(2.0 * _HASTY * answers.shape[1], self._time_left() / 8.0))
        thorough = self._seconds < max(_SHORT * answers.shape[1], self._time_left() / 8.0)
        found = estimates(
            self._points[kept],
            answers[kept],
            self._points[~kept],
            seed=self._seed,
            thorough=thorough,
            time_left=lambda: max(0.0, seconds - time.perf_counter() + begun),
        )
        return np.asarray((found.values - answers[~kept]) / self._spread)

    def _extrapolate(self, others: np.ndarray) -> None:
        """Add sizes beyond those that were replayed."""
        points = np.concatenate([self._points, others])[: max(_POINTS, len(self._points))]
        if not len(self._sizes):
            return
        rng = np.random.default_rng(self._seed)
        few = rng.permutation(len(self._points))[:_KERNEL]
        space = Space.of(self._points)
        kinds: tuple[_Kind, ...] = ("matern52", "gaussian")
        several = len(few) >= _SEVERAL and self._time_left() > 0.0
        kernel = _kernel(
            space.seen(self._points[few]),
            self._answers[few][:, self._varied],
            kinds if several else kinds[:1],
        )
        seen = space.seen(points[rng.permutation(len(points))])
        last = self._measured

        def width(size: float) -> float:
            some = seen[: int(size)]
            return float(
                np.sqrt(Fitted(some, np.zeros((len(some), 1)), kernel).left_out()[1].mean())
            )

        begin = width(min(last, len(seen)))
        sizes, errors = [*self._sizes], [*self._errors]
        size, error = last, errors[-1]
        while size < len(seen) and (size == last or self._time_left() > 0.0):
            size = min(2.0 * size, float(len(seen)))
            error = min(errors[-1], self._errors[-1] * width(size) / begin)
            sizes.append(size)
            errors.append(error)
        if len(sizes) > len(
            self._sizes
        ):  # and as steeply once more, beyond the inputs that are known
            slope = math.log(errors[-2] / errors[-1]) / math.log(sizes[-1] / sizes[-2])
            sizes.append(10.0 * size)
            errors.append(errors[-1] * 10.0**-slope)
        self._sizes, self._errors = np.array(sizes), np.array(errors)

    # Codes with estimates of their own ----------------------------------------------------------------

    def decoded(
        self,
        code: Code,
        shape: tuple[int, ...],
        sets: np.ndarray,
        goes_on: Callable[[], bool],
    ) -> tuple[float, int]:
        """Error of all rows that a code decodes from answers of some slots, and how many sets there was time for.

        Answers to its payloads are estimated. NaN if it cannot be tried.
        """
        groups = min(_GROUPS, len(self._points) // code.tasks)
        if not groups or not self._varied.any():
            return math.nan, 0
        chosen = np.linspace(0, len(self._points) - 1, groups * code.tasks).astype(int)
        rows = self._points[chosen].reshape(-1, *shape)
        truth = self._answers[chosen][:, self._varied]
        squares: list[float] = []
        try:
            payloads = EncodedRows(code, rows)
            sent = [payloads.payload(slot).reshape(groups, -1) for slot in range(code.workers)]
            answers = estimates(
                self._points, self._answers[:, self._varied], np.concatenate(sent), thorough=False
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


def _kernel(points: np.ndarray, answers: np.ndarray, kinds: Sequence[_Kind]) -> Kernel:
    """The likeliest kernel, of several kinds that which errs least on answers left out."""
    answers = (answers - answers.mean(axis=0)) / np.maximum(answers.std(axis=0), 1e-300)
    dimensions = points.shape[1]
    start = Kernel(np.full(dimensions, 0.5 / math.sqrt(dimensions)), 1e-2, "matern52", False)
    tied = len(points) < _EACH * dimensions
    found = []
    for smoothness in kinds:
        kernel = likeliest(
            points, answers, [start], smoothness=smoothness, linear=False, steps=_STEPS, tied=tied
        )
        found.append((float((Fitted(points, answers, kernel).left_out()[0] ** 2).sum()), kernel))
    return min(found, key=lambda one: one[0])[1]
