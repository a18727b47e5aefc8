"""What codes would have made of sample rows: their answers once, then many sets of stragglers."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ..codes import KernelCode, Replication, Uncoded
from ..coding.groups import cut
from ..contracts.answers import Sheet
from ..contracts.code import Arranging, Code, Encoding, Estimate, Salvageable
from ..errors import InvalidAnswer, NotEnoughAnswers

__all__ = [
    "Outcomes",
    "Part",
    "Trial",
    "counts",
    "deviation",
    "prepared",
    "replayed",
]

_REPLAYED = 60
"""Waves up to which all are decoded; of more, about as many, chosen among waves that are alike,"""
_OF_A_KIND = 8
"""and so many of each kind."""

_TELLING = 30
"""Estimated rows below which standard errors cannot be judged."""
_LEAST = 1e-150
"""Standard error that can still be squared."""


class Part(NamedTuple):
    """Sample rows (m, *x), m a multiple of K, with their answers (m, *y)."""

    rows: np.ndarray
    answers: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """A code on a part of the sample, cut into groups as `map` would."""

    code: Code
    order: np.ndarray
    """(K · G,): where each of these tasks stands in the part."""
    inputs: np.ndarray
    """(K, G, *x)."""
    truth: np.ndarray
    """(K, G, *y)."""
    mixed: tuple[int, ...]
    """Slots whose payload is not an input, so that its answer is not known yet."""
    payloads: np.ndarray | None
    """(len(mixed) · G, *x): of these slots; None once they are answered."""
    answers: np.ndarray
    """(N, G, *y): to all payloads; zero where not known."""

    def told(self, answers: np.ndarray) -> Trial:
        """With the answers (len(mixed) · G, *y) to its payloads.

        Raises
        ------
        InvalidAnswer
            If they are not of the kind of the answers to inputs.
        """
        shape, kind = self.truth.shape[2:], self.truth.dtype
        if answers.shape[1:] != shape or not np.can_cast(answers.dtype, kind, "same_kind"):
            raise InvalidAnswer(
                f"for mixtures fn returns rows of shape {answers.shape[1:]} and dtype "
                f"{answers.dtype}, for inputs {shape} and {kind}"
            )
        every = self.answers.copy()
        if self.mixed:
            every[list(self.mixed)] = answers.reshape(len(self.mixed), *every.shape[1:])
        return replace(self, answers=every, payloads=None)

    def under(self, code: Code) -> Trial:
        """The same answers for a code that makes the same payloads."""
        return replace(self, code=code)


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """What a code made of a sample in many waves."""

    squares: np.ndarray
    """(waves,): mean squared error over all rows and outputs, in squared units."""
    by_row: np.ndarray
    """(m,): mean squared error over all waves and outputs, likewise, in the order of the sample."""
    agreement: float | None
    """Share of rows whose largest output is the right one; None unless there are several real ones."""
    exact: float
    """Share of rows that were exact."""
    misfit: float | None
    """Root mean square of error over standard error of the estimated rows; None with too few."""
    waiting: float
    """Share of waves that had to wait for more answers than were counted on."""
    rejecting: bool
    """Whether any answer was thought a lie; all were honest."""
    unit: float = 1.0
    """Of the errors, whose squares would be 0 or infinite in the outputs' own where these are small or large."""

    @property
    def rmse(self) -> float:
        """Over all waves."""
        return float(np.sqrt(self.squares.mean())) * self.unit

    @property
    def rmse_p95(self) -> float:
        """What 95 % of the waves stay below."""
        # Of n waves the k-th stays above a share k / (n + 1) of others like them.
        return float(np.quantile(np.sqrt(self.squares), 0.95, method="weibull")) * self.unit

    def as_good_as(self, other: Outcomes, errors: float = 2.0) -> bool:
        """Whether the other's lead is less than so many of its standard errors over the rows.

        With two, a lead that rests on four rows or fewer is none.
        """
        lead = self.by_row - other.by_row
        return bool(lead.mean() * np.sqrt(len(lead)) <= errors * lead.std())


def deviation(answers: np.ndarray) -> float:
    """Root mean square over the outputs of their standard deviations; 0 for a constant."""
    wide = _wide(answers.reshape(len(answers), -1))
    most = float(np.abs(wide).max())
    if most == 0.0:
        return 0.0
    found = most * float(np.sqrt((wide / most).var(axis=0).mean()))
    # What rounding makes of a constant is no deviation.
    return found if found > 8.0 * np.finfo(answers.dtype).eps * most else 0.0


def prepared(code: Code, part: Part) -> Trial:
    """The payloads that a code makes of a part, and which of their answers are known."""
    order = code.arranged(part.rows) if isinstance(code, Arranging) else None
    order = np.arange(len(part.rows)) if order is None else order
    [inputs], [truth] = (cut(array[order], code.tasks) for array in part)
    encoding = code.encode(inputs)
    raw: tuple[int | None, ...] = (None,) * code.workers
    if isinstance(code, (Replication, Uncoded, KernelCode)) and isinstance(encoding, Salvageable):
        raw = encoding.raw
    answers = np.zeros((code.workers, *truth.shape[1:]), truth.dtype)
    for slot, task in enumerate(raw):
        if task is not None:
            answers[slot] = truth[task]
    mixed = tuple(slot for slot, task in enumerate(raw) if task is None)
    payloads = encoding.payloads[list(mixed)] if mixed else inputs[:0]
    return Trial(
        code, order, inputs, truth, mixed, payloads.reshape(-1, *inputs.shape[2:]), answers
    )


def replayed(trials: Sequence[Trial], arrivals: np.ndarray, late: int, unit: float) -> Outcomes:
    """The outcome of every wave.

    Of many waves some are decoded, and each stands for others in which as many answers are waited
    for and as many tasks have answers of their own: how many rows are exact, and how many waves
    have to wait, is counted over all waves.

    Parameters
    ----------
    trials : sequence of Trial
        Parts of the sample, each decoded by itself.
    arrivals : ndarray of int, shape (waves, N)
        The slots in the order of their answers.
    late : int
        How many answers are not waited for, if the others can be decoded.
    unit : float
        A typical size of the answers, in which errors are computed.

    Raises
    ------
    NotEnoughAnswers
        If all answers of a wave cannot be decoded.
    """
    needed = arrivals.shape[1] - late
    tasks = sum(len(trial.order) for trial in trials)
    chosen, place = _chosen(trials[0], arrivals, needed)
    alike = np.bincount(place)
    squares, by_row = np.zeros(len(chosen)), []
    agreed, exact = 0.0, 0.0
    misfit, estimated, seen = 0.0, 0, 0
    waited, rejecting = 0, False
    for trial in trials:
        flat = (*trial.truth.shape[:2], -1)
        truth = _wide(trial.truth.reshape(flat))
        best = truth.argmax(axis=2)
        encoding = trial.code.encode(trial.inputs)
        errors = np.zeros(truth.shape[:2])
        for wave, (order, many) in enumerate(zip(arrivals[chosen], alike.tolist(), strict=True)):
            estimate, count = _decoded(encoding, order, needed, trial.answers)
            values = _wide(estimate.values.reshape(flat))
            error = (np.abs((values - truth) / unit) ** 2).mean(axis=2)
            errors += many * error
            squares[wave] += error.sum()
            agreed += many * float((values.argmax(axis=2) == best).sum())
            exact += many * float(estimate.exact.sum())
            waited += many * (count > needed)
            rejecting |= bool(estimate.rejected)
            if estimate.stderr is not None:
                unsure = ~estimate.exact & np.isfinite(estimate.stderr)
                stated = np.maximum(estimate.stderr[unsure] / unit, _LEAST)
                misfit += many * float((error[unsure] / stated**2).sum())
                estimated += many * int(unsure.sum())
                seen += int(unsure.sum())
        by_row.append(errors.ravel()[trial.order.argsort()] / len(arrivals))
    scores = truth.shape[2] > 1 and truth.dtype.kind == "f"
    every = tasks * len(arrivals)
    return Outcomes(
        squares=squares[place] / tasks,
        by_row=np.concatenate(by_row),
        agreement=agreed / every if scores else None,
        exact=exact / every,
        misfit=float(np.sqrt(misfit / estimated)) if seen >= _TELLING else None,
        waiting=waited / (len(trials) * len(arrivals)),
        rejecting=rejecting,
        unit=unit,
    )


def counts(code: Code, inputs: np.ndarray, arrivals: np.ndarray, late: int) -> np.ndarray:
    """How many answers each wave (waves, N) needs until it can be decoded, at least N - late."""
    encoding = code.encode(inputs)
    needed = arrivals.shape[1] - late
    return np.array([_count(encoding, order, needed) for order in arrivals])


def _chosen(trial: Trial, arrivals: np.ndarray, needed: int) -> tuple[np.ndarray, np.ndarray]:
    """Which waves to decode, and for every wave the place among these of the one that stands for it."""
    waves = len(arrivals)
    if waves <= _REPLAYED:
        return np.arange(waves), np.arange(waves)
    encoding = trial.code.encode(trial.inputs)
    ends = np.array([_count(encoding, order, needed) for order in arrivals])
    kinds = ends[:, None]
    if isinstance(encoding, Salvageable):
        raw = np.array([trial.code.tasks if task is None else task for task in encoding.raw])
        answered = np.arange(arrivals.shape[1]) < ends[:, None]
        tasks = np.where(answered, raw[arrivals], trial.code.tasks)
        tasks += np.arange(waves)[:, None] * (trial.code.tasks + 1)
        copies = np.bincount(tasks.ravel(), minlength=waves * (trial.code.tasks + 1))
        copies = copies.reshape(waves, -1)[:, :-1]
        enough = [(copies >= many).sum(axis=1) for many in {1, getattr(trial.code, "confirm", 1)}]
        kinds = np.stack([ends, *enough], axis=1)
    _, kind = np.unique(kinds, axis=0, return_inverse=True)
    chosen: list[int] = []
    place = np.empty(waves, dtype=int)
    for one in range(kind.max() + 1):
        members = np.flatnonzero(kind.ravel() == one)
        some = members[: max(_OF_A_KIND, round(_REPLAYED * len(members) / waves))]
        place[members] = len(chosen) + np.arange(len(members)) % len(some)
        chosen += some.tolist()
    return np.array(chosen), place


def _count(encoding: Encoding, order: np.ndarray, needed: int) -> int:
    def able(count: int) -> bool:
        return encoding.decodable(frozenset(order[:count].tolist()))

    if needed == len(order) or able(needed):
        return needed
    # More answers never hurt.
    return bisect_left(range(len(order)), True, needed + 1, key=able)


def _decoded(
    encoding: Encoding, order: np.ndarray, needed: int, answers: np.ndarray
) -> tuple[Estimate, int]:
    """The first estimate from ``needed`` answers or more, and from how many it is."""
    while True:
        needed = _count(encoding, order, needed)
        slots = np.sort(order[:needed])
        try:
            return encoding.decode(Sheet(tuple(slots.tolist()), answers[slots])), needed
        except NotEnoughAnswers:  # or too many of them were thought lies: the door waits on
            if needed == len(order):
                raise
            needed += 1


def _wide(values: np.ndarray) -> np.ndarray:
    return values.astype(np.complex128 if values.dtype.kind == "c" else np.float64)
