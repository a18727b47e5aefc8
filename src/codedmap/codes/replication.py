"""Copies: every payload is a raw input, so every answer is exact. The baseline to beat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np

from ..contracts.answers import cast_values, check_slots, matrix, root_mean_square, rounding
from ..contracts.arguments import check_whole
from ..contracts.code import Estimate, check_budget, check_tasks, reject_frequent
from ..detection.replicas import compare
from ..errors import WAIT, InvalidArgument, NotEnoughAnswers, many
from ..results.trees import blanked, for_all_entries

Fill = Literal["mean"] | None
NO_MEAN = "have no mean"  # why some answers cannot be estimated, for `cannot_fill`
ROUNDED = "above 2**53 cannot stand beside an estimate, which would round them"  # likewise


@dataclass(frozen=True)
class Replication:
    """Copies: several workers compute the same task. Exact for any function.

    Slot n holds task n mod K. Takes inputs of any dtype, also text, objects and rows of different lengths. Answers of one input
    are compared: where a majority agrees the row is exact and other answers are rejected; where two
    disagree the row is an estimate with their difference as its standard error.

    Parameters
    ----------
    tasks, workers : int
        K and N >= K.
    fill : {None, "mean"}
        ``None``: decodable when every task has an answer. ``"mean"``: decodable from one answer on;
        a lost task gets the mean of its group's answers, with their standard deviation times
        √(1 + 1/n) as its standard error; for n = 1 that is infinite. `map` estimates rows of lost
        tasks from all answers of the job instead, where these are floating-point numbers.
    confirm : int
        A row is exact only where this many answers to its input agree. Other rows are MISSING.
    """

    tasks: int
    workers: int
    fill: Fill = None
    confirm: int = 1
    has_stderr: ClassVar[bool] = True
    job_estimates: ClassVar[bool] = True
    decodes_any_groups: ClassVar[bool] = True
    """As in `LinearCode`."""

    def __post_init__(self) -> None:
        check_budget(self.tasks, self.workers, 0)
        if self.workers < self.tasks:
            raise InvalidArgument(
                f"{many(self.workers, 'worker')} cannot hold a copy of each of {self.tasks} tasks: use at "
                "least as many workers as tasks, or a code that mixes"
            )
        if self.fill not in (None, "mean"):
            raise InvalidArgument(f'fill={self.fill!r} is unknown: choose None or "mean"')
        copies = self.workers // self.tasks
        if check_whole("confirm", self.confirm, 0) not in range(1, copies + 1):
            allowed = f"between 1 and {copies}" if copies > 1 else "1"
            raise InvalidArgument(
                f"confirm={self.confirm!r} must be {allowed}, the copies that "
                f"{self.workers} workers hold of each of {self.tasks} tasks"
            )

    @property
    def stragglers(self) -> int:
        """N // K - confirm: answers that may be missing, whichever they are."""
        return self.workers // self.tasks - self.confirm

    def encode(self, inputs: np.ndarray) -> CopyEncoding:
        """Encode B groups of K tasks, (K, B, *x), by copying."""
        check_tasks(inputs, self.tasks, self.workers)
        raw = tuple(slot % self.tasks for slot in range(self.workers))
        return CopyEncoding(inputs, raw, self.fill, self.confirm)


@dataclass(frozen=True)
class Uncoded(Replication):
    """One worker a task, as in a plain map. A lost answer is a lost task.

    Parameters
    ----------
    tasks : int
        K, and N as well.
    fill : {None, "mean"}
        As in `Replication`.
    """

    workers: int = field(init=False, repr=False)
    """N = K."""
    confirm: int = field(default=1, init=False, repr=False)
    """Every answer is the only one of its task."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "workers", self.tasks)
        super().__post_init__()


@dataclass(frozen=True, slots=True, eq=False)
class CopyEncoding:
    """Inputs copied to workers."""

    inputs: np.ndarray
    raw: tuple[int, ...]
    fill: Fill
    confirm: int

    @property
    def tasks(self) -> int:
        """K."""
        return len(self.inputs)

    @property
    def payloads(self) -> np.ndarray:
        """The payloads (N, B, *x); a copy, unless they are the inputs."""
        return self.inputs if len(self.raw) == self.tasks else self.inputs[list(self.raw)]

    def payload(self, slot: int) -> np.ndarray:
        """The payload of one slot, (B, *x): an input."""
        return np.asarray(self.inputs[self.raw[slot]])

    def decodable(self, answered: frozenset[int]) -> bool:
        """Whether every task has an answer; with a fill, whether any has."""
        if self.fill is not None:
            return bool(answered)
        return {self.raw[slot] for slot in answered} >= set(range(self.tasks))

    def decode(self, answers: Mapping[int, Any]) -> Estimate:
        """The answers themselves, compared where a task has several; see `Replication`."""
        check_slots(answers, len(self.raw))
        slots, stacked, rejected = matrix(answers, self.inputs.shape[1])
        if not self.decodable(frozenset(slots)):
            raise self._not_enough(slots, rejected)
        found = self.majority(slots, stacked, rejected)
        values, stderr = found.values, np.array(found.stderr)
        have = sorted({self.raw[slot] for slot in slots})
        lost = sorted(set(range(self.tasks)) - set(have))
        if lost:
            values, stderr[lost] = _filled(values, have, lost)
        return replace(found, values=values, stderr=for_all_entries(stderr, values.shape[2:]))

    def salvage(self, answers: Mapping[int, Any]) -> Estimate:
        """Tasks that have an answer; others are NaN, with an infinite standard error."""
        slots, stacked, rejected = matrix(answers, self.inputs.shape[1])
        estimate = self.majority(slots, stacked, rejected)
        lost = ~np.isin(np.arange(self.tasks), [self.raw[slot] for slot in slots])
        return replace(estimate, values=blanked(estimate.values, lost))

    def majority(
        self,
        slots: tuple[int, ...],
        stacked: np.ndarray,
        rejected: tuple[int, ...],
        wrong: np.ndarray | None = None,
    ) -> Estimate:
        """Majority answers of all tasks that have one; other values are undefined.

        ``wrong`` (F, B) marks answers known to be wrong.
        """
        groups = stacked.shape[1]
        values = np.zeros((self.tasks, *stacked.shape[1:]), stacked.dtype)
        votes = np.zeros((self.tasks, groups), dtype=int)
        stderr = np.zeros((self.tasks, groups))
        wrong_slots = set(rejected)
        holders: dict[int, list[int]] = {}
        for row, slot in enumerate(slots):
            holders.setdefault(self.raw[slot], []).append(row)
        for task, rows in holders.items():
            vote = compare(stacked[rows], None if wrong is None else wrong[rows])
            outvoted = reject_frequent(vote.outliers)
            wrong_slots |= {slots[rows[i]] for i in np.flatnonzero(outvoted.any(axis=1))}
            kept = [rows[i] for i in np.flatnonzero(~outvoted.all(axis=1))]
            if kept and len(kept) < len(rows):
                vote = compare(stacked[kept], None if wrong is None else wrong[kept])
            values[task], votes[task], stderr[task], _ = vote
        exact = votes >= self.confirm
        stderr[~exact & (stderr == 0)] = np.inf
        return Estimate(values, exact, stderr, tuple(sorted(wrong_slots)))

    def _not_enough(self, slots: tuple[int, ...], rejected: tuple[int, ...]) -> NotEnoughAnswers:
        lost = sorted(set(range(self.tasks)) - {self.raw[slot] for slot in slots})
        misshapen = f", {len(rejected)} left out for their shape" if rejected else ""
        return NotEnoughAnswers(
            f"{len(slots)} of {len(self.raw)} workers gave a usable answer{misshapen}, and no copy of "
            f"{_named(lost)} is among them",
            WAIT,
            "use more workers"
            if len(self.raw) > self.tasks
            else "give each task more than one worker (Replication)",
            'fill the gap with fill="mean"',
        )


def cannot_fill(dtype: np.dtype[Any], why: str, lost: str) -> NotEnoughAnswers:
    """The error that answers of this dtype cannot stand in for ``lost`` ones; ``why`` says what is wrong with them."""
    problem = f"answers of dtype {dtype} {why}, so nothing can stand in for {lost}"
    return NotEnoughAnswers(problem, WAIT, "use more workers")


@np.errstate(over="ignore")  # errors that overflow are infinite
def _filled(values: np.ndarray, have: list[int], lost: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Values with lost tasks replaced by their group's mean, and the standard error (B,) of that."""
    if values.dtype.kind not in "biufc":
        raise cannot_fill(values.dtype, NO_MEAN, _named(lost))
    wide = np.result_type(values.dtype, np.float32) if values.dtype.kind in "fc" else np.float64
    known = cast_values(values[have], np.dtype(wide))
    if known is None:
        raise cannot_fill(values.dtype, ROUNDED, _named(lost))
    finite = np.isfinite(known)
    count = finite.sum(axis=0)
    enough = np.maximum(count, 1)
    mean = (np.where(finite, known, 0) / enough).sum(axis=0)  # no sum overflows
    distance = np.abs(np.where(finite, known, mean) - mean)
    deviation = root_mean_square(np.moveaxis(distance, 0, -1)) * np.sqrt(len(have) / enough)
    # The spread of one answer is unknown, and the mean of none.
    error = deviation * np.sqrt((enough + 1) / np.maximum(count - 1, 1))
    error = np.where(count > 1, error, np.inf)
    mean = np.where(count > 0, mean, np.nan).astype(wide)
    spread = root_mean_square(error.reshape(values.shape[1], -1))
    values = values if values.dtype.kind in "fc" else values.astype(wide)
    values[lost] = mean
    # Equal answers have no spread, but the standard error of a mean is never below its rounding.
    return values, np.maximum(spread, rounding(mean[None])[0])


def _named(tasks: list[int]) -> str:
    listed = ", ".join(map(str, tasks[:8])) + (", …" if len(tasks) > 8 else "")
    return f"task {listed}" if len(tasks) == 1 else f"{len(tasks)} tasks ({listed})"
