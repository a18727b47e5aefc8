"""Answers as a regression takes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["Heard", "Scale", "centred", "condensed", "equal_answers", "finite"]

_COMPARED = 16
"""Outputs that are looked at first, to tell whether any takes but a few values."""
_DISCRETE = 0.8
"""Share of answers that another one equals in an output, from which that output is not judged."""
_WILDEST = 1e6
"""Deviations beyond which it does not matter how far an answer is off."""


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """Answers, one for each input or mixture that was computed."""

    slots: np.ndarray
    """(F,): what was computed, as slots."""
    answers: np.ndarray
    """(F, B, *y)."""
    used: np.ndarray
    """(F, B) bool: finite, and not disputed."""

    @property
    def columns(self) -> int:
        """Real numbers in an answer."""
        each = int(np.prod(self.answers.shape[2:], dtype=int))
        return 2 * each if self.answers.dtype.kind == "c" else each

    def mask(self, groups: slice) -> np.ndarray:
        """Which answers of these groups are used, (B, F)."""
        return self.used[:, groups].T

    def real(self, groups: slice, some: slice = slice(None)) -> np.ndarray:
        """Some answers of these groups as (B, F, columns) of float64, a copy."""
        part = self.answers[some, groups]
        rows = part.reshape(*part.shape[:2], -1).swapaxes(0, 1)
        if rows.dtype.kind == "c":
            return np.array(rows, np.complex128, order="C").view(np.float64)
        return np.array(rows, np.float64, order="C")


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """What makes outputs comparable: robust middles and deviations, and which take but few values."""

    middle: np.ndarray
    """(columns,)."""
    deviation: np.ndarray
    """(columns,); infinite for outputs that are not judged, and never 0."""

    @classmethod
    def of(cls, heard: Heard, groups: slice, first: Callable[[], np.ndarray]) -> Scale:
        """From the answers of some groups.

        Parameters
        ----------
        heard : Heard
        groups : slice
        first : callable
            Tells which answers (B, F) are the first to their payload: others must equal those.
        """
        answers, used = heard.real(groups), heard.mask(groups)
        kept = answers[used]
        if not len(kept):
            return cls(np.zeros(answers.shape[2]), np.ones(answers.shape[2]))
        middle = np.median(kept, axis=0)
        with np.errstate(over="ignore"):
            apart = np.abs(kept - middle)
            deviation = 1.5 * np.median(apart, axis=0)
            if not deviation.all():
                deviation = np.where(deviation > 0.0, deviation, np.sqrt((apart**2).mean(axis=0)))
        deviation = np.where((deviation > 0.0) & np.isfinite(deviation), deviation, 1.0)
        some = slice(None, None, -(-len(middle) // _COMPARED))
        if _discrete(answers[:, :, some], used).any():
            deviation[_discrete(answers, used & first())] = np.inf
        return cls(middle, deviation)

    @property
    def judged(self) -> bool:
        """Whether any output is."""
        return bool(np.isfinite(self.deviation).any())

    def applied(self, answers: np.ndarray, used: np.ndarray) -> np.ndarray:
        """Answers (B, F, columns) in deviations from the mean of their group, 0 where not used."""
        with np.errstate(over="ignore"):
            scaled = (answers - self.middle) / self.deviation
        np.clip(scaled, -_WILDEST, _WILDEST, out=scaled)
        return centred(scaled, used)[0]


def centred(answers: np.ndarray, used: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Answers (B, F, q) less the mean of those used in each group, 0 elsewhere; and the means."""
    mask = used[:, :, None]
    kept = answers if used.all() else np.where(mask, answers, 0.0)
    mean = kept.sum(axis=1, keepdims=True) / np.maximum(mask.sum(axis=1, keepdims=True), 1)
    rest: np.ndarray = kept - mean
    if not used.all():
        rest *= mask
    return rest, mean


def condensed(answers: np.ndarray) -> np.ndarray:
    """Answers (B, F, q) with at most F columns that have the same inner products."""
    if answers.shape[2] <= answers.shape[1]:
        return answers
    triangle = np.asarray(np.linalg.qr(answers.swapaxes(1, 2), mode="r"))
    return triangle.swapaxes(1, 2)


def equal_answers(
    answers: np.ndarray, used: np.ndarray, twins: np.ndarray | None = None
) -> np.ndarray | None:
    """Which pairs (B, F, F) of answers (B, F, q) to different payloads are equal, if any are: to within
    rounding, in up to 16 outputs.
    """
    first = np.sort(np.where(used, answers[:, :, 0], np.nan), axis=1)
    if not np.isclose(first[:, 1:], first[:, :-1], rtol=1e-7, atol=0.0).any():
        return None
    some = answers[:, :, :: -(-answers.shape[2] // _COMPARED)]
    apart = np.abs(some[:, :, None] - some[:, None]).max(axis=3)
    size = np.abs(some).max(axis=2)
    same: np.ndarray = apart <= 1e-7 * np.maximum(size[:, :, None], size[:, None])
    same &= used[:, :, None] & used[:, None]
    same[:, np.arange(used.shape[1]), np.arange(used.shape[1])] = False
    if twins is not None:
        same &= ~twins
    return same if same.any() else None


def finite(answers: np.ndarray) -> np.ndarray:
    """Which answers (n, B, *y) are finite throughout, (n, B)."""
    if answers.dtype.kind not in "fc":
        return np.ones(answers.shape[:2], dtype=bool)
    sound: np.ndarray = np.isfinite(answers).all(axis=tuple(range(2, answers.ndim)))
    return sound


def _discrete(answers: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Outputs (columns,) in which nearly every answer is one that its group gives twice."""
    ordered = np.sort(np.where(used[:, :, None], answers, np.nan), axis=1)
    same = ordered[:, 1:] == ordered[:, :-1]
    twice = np.zeros(answers.shape, dtype=bool)
    twice[:, 1:] |= same
    twice[:, :-1] |= same
    discrete: np.ndarray = twice.sum(axis=(0, 1)) > _DISCRETE * used.sum()
    return discrete
