"""What schemes would have made of sample rows: their answers once, then many straggler sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ._answers import Sheet
from ._code import Code, Salvageable
from ._errors import InvalidAnswer
from .codes import KernelCode, Replication, Uncoded

__all__ = ["Outcomes", "Sample", "Trial", "answered", "replayed", "tried"]

Answer = Callable[[np.ndarray], np.ndarray]

_TELLING = 30
"""Estimated rows below which standard errors cannot be judged."""
_BATCH = 1 << 25
"""Bytes of payloads that fn is handed at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Sample rows cut into groups, with their true answers."""

    inputs: np.ndarray
    """(K, G, *x)."""
    answers: np.ndarray
    """(K, G, *y)."""


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """A code, a sample, and the answers (N, G, *y) to the payloads that it makes of it."""

    code: Code
    sample: Sample
    answers: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """What a code made of a sample in many waves."""

    squares: np.ndarray
    """(waves, G): mean squared error over all tasks and outputs of a group."""
    agreement: float | None
    """Share of rows whose largest output is the right one."""
    exact: float
    """Share of rows that were exact."""
    misfit: float | None
    """Root mean square of error over standard error of the estimated rows; None without any."""

    @property
    def rmse(self) -> float:
        """Over all waves."""
        return float(np.sqrt(self.squares.mean()))

    @property
    def rmse_p95(self) -> float:
        """What 95 % of the waves stay below."""
        return float(np.quantile(np.sqrt(self.squares.mean(axis=1)), 0.95))


def answered(fn: Answer, payloads: np.ndarray) -> np.ndarray:
    """``fn`` of payloads (n, B, *x), (n, B, *y), a few rows at a time.

    Raises
    ------
    InvalidAnswer
        If it does not return one array with a row per row.
    """
    rows = payloads.reshape(-1, *payloads.shape[2:])
    many = max(1, _BATCH // max(1, rows[:1].nbytes))
    parts = []
    for start in range(0, len(rows), many):
        batch = rows[start : start + many]
        answer = np.asarray(fn(batch))
        if answer.ndim == 0 or len(answer) != len(batch):
            raise InvalidAnswer(
                f"fn returned an array of shape {answer.shape} for {len(batch)} rows, but it must "
                "return one row per row: wrap a function of one input in codedmap.itemwise"
            )
        parts.append(answer)
    whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return whole.reshape(*payloads.shape[:2], *whole.shape[1:])


def tried(code: Code, sample: Sample, fn: Answer) -> Trial:
    """A code's payloads for a sample, computed; raw inputs are not computed again."""
    encoding = code.encode(sample.inputs)
    raw: tuple[int | None, ...] = (None,) * code.workers
    if isinstance(code, (Replication, Uncoded, KernelCode)) and isinstance(encoding, Salvageable):
        raw = encoding.raw
    answers = np.empty((code.workers, *sample.answers.shape[1:]), sample.answers.dtype)
    mixed = []
    for slot, task in enumerate(raw):
        if task is None:
            mixed.append(slot)
        else:
            answers[slot] = sample.answers[task]
    if mixed:
        answers[mixed] = answered(fn, encoding.payloads[mixed])
    return Trial(code, sample, answers)


def replayed(trials: Sequence[Trial], sets: Sequence[np.ndarray]) -> Outcomes:
    """The outcome of every set of responders.

    Parameters
    ----------
    trials : sequence of Trial
        Parts of the sample, each decoded by itself.
    sets : sequence of ndarray
        The slots that answer, in each wave.
    """
    squares: list[np.ndarray] = []
    agreed, exact, misfit, estimated = [], [], 0.0, 0
    for trial in trials:
        flat = (*trial.sample.answers.shape[:2], -1)
        truth = trial.sample.answers.reshape(flat)
        best = truth.argmax(axis=2)
        encoding = trial.code.encode(trial.sample.inputs)
        waves = []
        for slots in sets:
            estimate = encoding.decode(Sheet(tuple(slots.tolist()), trial.answers[slots]))
            values = estimate.values.reshape(flat)
            error = (np.abs(values - truth) ** 2).mean(axis=2)
            waves.append(error.mean(axis=0))
            agreed.append(float((values.argmax(axis=2) == best).mean()))
            exact.append(float(estimate.exact.mean()))
            if estimate.stderr is not None:
                unsure = ~estimate.exact & np.isfinite(estimate.stderr)
                misfit += float((error[unsure] / estimate.stderr[unsure] ** 2).sum())
                estimated += int(unsure.sum())
        squares.append(np.array(waves))
    outputs = int(np.prod(trials[0].sample.answers.shape[2:], dtype=int))
    return Outcomes(
        np.concatenate(squares, axis=1),
        float(np.mean(agreed)) if outputs > 1 else None,
        float(np.mean(exact)),
        float(np.sqrt(misfit / estimated)) if estimated >= _TELLING else None,
    )
