"""Decoding of a `KernelCode`: answers are passed through, estimated from, or rejected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..contracts.answers import matrix
from ..contracts.code import Estimate, check_interpolable, reject_frequent
from ..detection.replicas import compare
from ..errors import WAIT, NotEnoughAnswers
from ..estimation import Prior
from ..estimation.decoding import Decoder, Fit
from ..estimation.observations import Heard, finite
from .replication import CopyEncoding

__all__ = ["COPYING", "MIXING", "KernelEncoding"]

MIXING = "KernelCode must with a spread above 0"
COPYING = "KernelCode with spread=0, Replication"

_FREQUENT = 0.1
"""Share of groups with a wrong answer, beyond which no row of that worker is exact, and its NaN is rejected."""
_FREEDOM = 12
"""Degrees of freedom below which the scale of an estimate is a guess; the difference of copies is better then."""


@dataclass(frozen=True, slots=True, eq=False)
class KernelEncoding:
    """Inputs encoded by a `KernelCode`."""

    payloads: np.ndarray
    raw: tuple[int | None, ...]
    decoder: Decoder
    tasks: int
    calibration: float
    confirm: int
    _learned: list[Prior] = field(default_factory=list)

    @property
    def learned(self) -> Prior | None:
        """The prior of the last decoding that needed one."""
        return self._learned[-1] if self._learned else None

    def decodable(self, answered: frozenset[int]) -> bool:
        """From one answer on."""
        return bool(answered)

    def decode(self, answers: Mapping[int, Any]) -> Estimate:
        """Estimates of all tasks; see `Encoding.decode`."""
        slots, stacked, rejected = matrix(answers, self.payloads.shape[1])
        if not slots:
            raise NotEnoughAnswers(
                f"none of {len(self.raw)} workers gave a usable answer, and KernelCode needs one at "
                "least",
                WAIT,
            )
        direct, overruled = self._direct(slots, stacked, rejected)
        if stacked.dtype.kind not in "fc" and self._passed(direct, slots, stacked.dtype):
            return direct
        return _Composition(self, slots, stacked, direct, overruled).estimate()

    def salvage(self, answers: Mapping[int, Any]) -> Estimate:
        """Tasks whose own input was answered; others NaN, with an infinite standard error."""
        raw = {slot: answers[slot] for slot in answers if self.raw[slot] is not None}
        return self._copies.salvage(raw)

    @property
    def copying(self) -> bool:
        """Whether every payload is a raw input."""
        return None not in self.raw

    @property
    def _copies(self) -> CopyEncoding:
        raw = tuple(-1 if task is None else task for task in self.raw)
        confirm = self.confirm if self.copying else 1
        return CopyEncoding(self.payloads, raw, self.tasks, None, confirm)

    def _direct(
        self, slots: tuple[int, ...], stacked: np.ndarray, rejected: tuple[int, ...]
    ) -> tuple[Estimate, np.ndarray | None]:
        """Answers to raw inputs, by majority where there are copies, and where (K, B) a majority is overruled.

        Rows without an answer are undefined. The second is None if no two copies disagree.
        """
        held = {row: task for row, slot in enumerate(slots) if (task := self.raw[slot]) is not None}
        rows, tasks = list(held), list(held.values())
        if len(set(tasks)) < len(tasks) or (self.copying and self.confirm > 1):
            raw = tuple(slots[row] for row in rows)
            conflict = _replica_conflict(self.decoder, np.array(tasks), stacked[rows])
            if conflict is None:
                return self._copies.majority(raw, stacked[rows], rejected), None
            voted = self._copies.majority(raw, stacked[rows], rejected, conflict.rejected)
            return _with_conflict(voted, conflict)
        shape = (self.tasks, stacked.shape[1])
        values = np.zeros((*shape, *stacked.shape[2:]), stacked.dtype)
        exact = np.zeros(shape, dtype=bool)
        values[tasks], exact[tasks] = stacked[rows], True
        return Estimate(values, exact, np.where(exact, 0.0, np.inf), rejected), None

    def _passed(self, direct: Estimate, slots: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
        """Whether all tasks have an answer, where answers are not floating point."""
        if not self.copying:
            check_interpolable(dtype, MIXING, COPYING)
        lost = self.tasks - len({self.raw[slot] for slot in slots})
        if lost and dtype.kind not in "biu":
            raise NotEnoughAnswers(
                f"answers of dtype {dtype} have no mean, so nothing can stand in for {lost} of "
                f"{self.tasks} tasks",
                WAIT,
                "use more workers",
            )
        return lost == 0


@dataclass(slots=True, eq=False)
class _Composition:
    """One decoding: rejects wrong answers, and estimates the tasks without an exact one."""

    encoding: KernelEncoding
    slots: tuple[int, ...]
    stacked: np.ndarray
    direct: Estimate
    overruled: np.ndarray | None

    def estimate(self) -> Estimate:
        copying, confirm = self.encoding.copying, self.encoding.confirm
        have, mixed = self._rows()
        exact, stderr = self.direct.exact.copy(), np.array(self.direct.stderr)
        inexact = np.zeros_like(exact)
        inexact[have] = ~exact[have]
        unconfirmed = inexact & np.isinf(stderr) & (confirm > 1)
        if self.overruled is not None:
            unconfirmed |= self.overruled
        if confirm > 1 and not copying:
            unconfirmed, exact = exact, np.zeros_like(exact)
        disputed = inexact & ~unconfirmed
        observed, rejected = self._observations(have, mixed, exact | unconfirmed)
        # No prediction can confirm a value that is not finite.
        broken = np.zeros_like(exact)
        broken[have] = ~finite(self.direct.values[have])
        broken &= (unconfirmed & observed.used.any(axis=0)) | (
            exact & self._contradicted_nan(have, mixed)
        )
        unconfirmed &= ~broken
        exact &= ~broken
        wanted = ~exact & ~unconfirmed
        fit = self._fit(observed, wanted)
        outliers = observed.used & ~fit.used
        contradicted = np.zeros_like(exact)
        contradicted[have] = outliers[: len(have)]
        contradicted &= ~self._confirmed_by_copies()
        rejected |= outliers[len(have) :]
        if contradicted.any():
            kept = Heard(observed.slots, observed.answers, observed.used & ~outliers)
            fit = self._fit(kept, wanted | contradicted, fit.prior)
        wrong = {self.slots[mixed[row]] for row in np.flatnonzero(rejected.any(axis=1))}
        wrong_tasks = set(np.flatnonzero((contradicted | broken).any(axis=1)).tolist())
        wrong |= {slot for slot in self.slots if self.encoding.raw[slot] in wrong_tasks}
        exact &= ~contradicted
        # Wrong answers may go unnoticed in some groups, so a worker rejected in a tenth of them has no
        # exact rows.
        unreliable = exact & (contradicted.mean(axis=1) > _FREQUENT)[:, None]
        exact &= ~unreliable
        unconfirmed = (unconfirmed | unreliable) & ~contradicted
        values = self._values(wanted.any())
        stderr[exact] = 0.0
        if unconfirmed.any():
            alone = np.full_like(stderr, np.inf)
            alone[have] = fit.alone[: len(have)] * self.encoding.calibration
            stderr[unconfirmed] = alone[unconfirmed]
        self._fill(values, stderr, fit, (wanted | contradicted) & ~disputed)
        freedom = np.maximum(fit.used.sum(axis=0) - 1, 0).sum()
        if freedom < _FREEDOM and self.encoding.decoder.solver.known is None:
            disputed &= np.isinf(stderr)
        self._fill(values, stderr, fit, disputed, only_smaller=True)
        stderr = np.where(exact, 0.0, np.maximum(stderr, _representation_error(values)))
        return Estimate(values, exact, stderr, tuple(sorted({*self.direct.rejected, *wrong})))

    def _rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Tasks with an answer to their own input, and rows of the answers to mixtures."""
        raw = self.encoding.raw
        have = sorted({task for slot in self.slots if (task := raw[slot]) is not None})
        mixed = [row for row, slot in enumerate(self.slots) if raw[slot] is None]
        return np.array(have, dtype=int), np.array(mixed, dtype=int)

    def _contradicted_nan(self, have: np.ndarray, mixed: np.ndarray) -> np.ndarray:
        """Where (K, B) the answer to a raw input has NaN, but one to a mixture in its cell is finite.

        Such an answer is wrong. If that is so in more than a tenth of the groups, all NaN of that
        worker are. Infinity alone may be right (a log-probability) where its mixtures' are finite.
        """
        nan = np.zeros_like(self.direct.exact)
        values, mixtures = self.direct.values[have], self.stacked[mixed]
        if not len(mixed) or values.dtype.kind not in "fc":
            return nan
        nan[have] = np.isnan(values).any(axis=tuple(range(2, values.ndim)))
        if nan.any():
            homes = self.encoding.decoder.solver.geometry.cells.home[np.array(self.slots)[mixed]]
            contradicting = np.zeros_like(nan)
            row, group = np.nonzero(finite(mixtures))
            contradicting[homes[row, group], group] = True
            often = (nan & contradicting).mean(axis=1, keepdims=True) > _FREQUENT
            nan &= contradicting | often
        return nan

    def _observations(
        self, have: np.ndarray, mixed: np.ndarray, undisputed: np.ndarray
    ) -> tuple[Heard, np.ndarray]:
        """Observations for the regression, and which answers to mixtures are rejected as not finite."""
        raw, mixtures = self.direct.values[have], self.stacked[mixed]
        broken = ~finite(mixtures)
        rejected = reject_frequent(broken) if len(mixed) else broken
        # The input of task k sits in slot k, whichever copy of it was answered.
        slots = np.concatenate([have, np.array(self.slots, dtype=int)[mixed]])
        used = np.concatenate([undisputed[have] & finite(raw), ~(rejected | broken)])
        observed = Heard(slots, np.concatenate([raw, mixtures]), used)
        if self.encoding.decoder.solver.known is not None:
            self.encoding.decoder.solver.known.check_answers(observed.columns)
        return observed, rejected

    def _fit(self, observed: Heard, wanted: np.ndarray, prior: Prior | None = None) -> Fit:
        # A disputed answer is still a value for its own task.
        lost = wanted & ~observed.used.any(axis=0) & np.isinf(np.asarray(self.direct.stderr))
        if lost.any():
            raise NotEnoughAnswers(
                f"in {lost.any(axis=0).sum()} of {lost.shape[1]} groups all {len(self.slots)} "
                "answers were left out because their answers are not finite or contradict each "
                f"other, so nothing can stand in for {lost.sum()} lost ones",
                WAIT,
            )
        tasks = np.flatnonzero(wanted.any(axis=1))
        judge = prior is None and self.stacked.dtype.kind in "fc"
        outputs = int(np.prod(self.stacked.shape[2:], dtype=int))
        fit = self.encoding.decoder.fit(observed, tasks, outputs, prior, judge=judge)
        self.encoding._learned[:] = [fit.prior]
        return fit

    def _confirmed_by_copies(self) -> np.ndarray:
        """Where (K, B) two copies or more form a majority, which outweighs any residual."""
        agreed = np.zeros(self.direct.exact.shape, dtype=bool)
        if not self.encoding.copying:
            return agreed
        tasks = [self.encoding.raw[slot] for slot in self.slots]
        for task in {t for t in tasks if t is not None and tasks.count(t) > 1}:
            rows = [row for row, other in enumerate(tasks) if other == task]
            agreed[task] = compare(self.stacked[rows]).votes > 1
        agreed &= self.direct.exact
        return agreed

    def _values(self, estimates: bool) -> np.ndarray:
        values = self.direct.values
        if estimates and values.dtype.kind not in "fc":
            return values.astype(np.float64)
        return values.copy()

    def _fill(
        self,
        values: np.ndarray,
        stderr: np.ndarray,
        fit: Fit,
        where: np.ndarray,
        *,
        only_smaller: bool = False,
    ) -> None:
        """Write estimates; with ``only_smaller`` only where their standard error is below the present one."""
        shape = values.shape[2:]
        for row, task in enumerate(fit.tasks):
            stated = fit.stderr[row] * self.encoding.calibration
            groups = where[task] & (stated < stderr[task]) if only_smaller else where[task]
            if groups.any():
                found = fit.values[row, groups]
                if values.dtype.kind == "c":
                    found = np.ascontiguousarray(found).view(np.complex128)
                values[task, groups] = found.reshape(-1, *shape)
                stderr[task, groups] = stated[groups]


@dataclass(frozen=True, slots=True, eq=False)
class _ReplicaConflict:
    """Copies of the same input that disagree, compared with the answers to other inputs."""

    rejected: np.ndarray
    """(R, B) bool: copies that are rejected."""
    tasks: np.ndarray
    """(T,): tasks with copies."""
    apart: np.ndarray
    """(T, B): widest difference between copies where the conflict stays undecided, 0 elsewhere.

    Answers to other inputs then contradict a majority, or favour one of two copies, but not by much.
    """
    overruled: np.ndarray
    """(T, B) bool: where they contradict by so much that the one remaining copy is taken."""


def _replica_conflict(
    decoder: Decoder, tasks: np.ndarray, copies: np.ndarray
) -> _ReplicaConflict | None:
    """Copies to reject where some disagree; None if no two do.

    Parameters
    ----------
    decoder : Decoder
    tasks : ndarray of int, shape (R,)
        Task of each copy.
    copies : ndarray, shape (R, B, *y)
    """
    if copies.dtype.kind not in "fc":
        return None
    have, held = np.unique(tasks, return_inverse=True)
    values = np.empty((len(have), *copies.shape[1:]), copies.dtype)
    out, tied = np.zeros((2, *copies.shape[:2]), dtype=bool)
    for task in range(len(have)):
        rows = np.flatnonzero(held == task)
        vote = compare(copies[rows])
        values[task] = vote.values
        tied[rows] = (vote.votes == 0) & ~vote.outliers
        out[rows] = vote.outliers
    is_finite = finite(copies)
    if not (tied | (out & is_finite)).any():
        return None
    mask = is_finite.reshape(*is_finite.shape, *(1,) * (copies.ndim - 2))
    observed = Heard(have, values, finite(values))
    unlikely, implausible = decoder.quarrels(observed, np.where(mask, copies, 0), held, out | tied)
    # A majority is overruled only if it is implausible; of two copies the likelier one is taken.
    excluded = np.where(tied, unlikely, implausible)
    apart = np.zeros((len(have), copies.shape[1]))
    overruled = np.zeros(apart.shape, dtype=bool)
    for task in range(len(have)):
        rows = np.flatnonzero(held == task)
        left = tied[rows] & ~excluded[rows]
        # If all copies of a tie are excluded, the regression decides.
        excluded[rows] &= ~tied[rows] | left.any(axis=0)
        decided = (excluded[rows] & tied[rows]).any(axis=0)
        dissenting = out[rows] & is_finite[rows] & ~tied[rows].any(axis=0)
        against = dissenting.any(axis=0) & (implausible[rows] | out[rows]).all(axis=0)
        overruled[task] = against & (dissenting & ~implausible[rows]).any(axis=0)
        overruled[task] |= decided & (unlikely[rows] == implausible[rows]).all(axis=0)
        weakened = dissenting.any(axis=0) & (unlikely[rows] | out[rows]).all(axis=0)
        undecided = (decided | against | weakened) & ~overruled[task]
        if undecided.any():
            apart[task, undecided] = _widest_difference(
                copies[rows][:, undecided], is_finite[rows][:, undecided]
            )
    return _ReplicaConflict(
        np.where(tied, excluded, excluded | (~is_finite & out)), have, apart, overruled
    )


def _widest_difference(copies: np.ndarray, is_finite: np.ndarray) -> np.ndarray:
    """The widest difference (B,) between finite copies (c, B, *y), root mean square."""
    flat = copies.reshape(*copies.shape[:2], -1)
    most = np.zeros(flat.shape[1:])
    with np.errstate(over="ignore", invalid="ignore"):
        for one in range(1, len(flat)):
            for other in range(one):
                both = (is_finite[one] & is_finite[other])[:, None]
                most = np.maximum(most, np.where(both, np.abs(flat[one] - flat[other]), 0.0))
        size = np.sqrt(np.mean(most**2, axis=1))
    limit = np.finfo(np.float64)
    widest: np.ndarray = np.clip(size, limit.tiny, limit.max)
    return widest


def _with_conflict(voted: Estimate, conflict: _ReplicaConflict) -> tuple[Estimate, np.ndarray]:
    """The vote, not exact where copies are in conflict, and where (K, B) a majority is overruled."""
    exact, stderr = voted.exact.copy(), np.array(voted.stderr)
    apart, overruled = np.zeros_like(stderr), np.zeros_like(exact)
    apart[conflict.tasks], overruled[conflict.tasks] = conflict.apart, conflict.overruled
    overruled &= exact | np.isinf(stderr)  # several dissenters overrule only if they agree
    exact &= ~overruled & (apart == 0.0)
    stderr[overruled] = np.inf
    stderr[apart > 0.0] = apart[apart > 0.0]
    return Estimate(voted.values, exact, stderr, voted.rejected), overruled


def _representation_error(values: np.ndarray) -> np.ndarray:
    """Rounding (K, B) of a value in its dtype; no standard error is smaller."""
    kind = values.dtype if values.dtype.kind in "fc" else np.dtype(np.float64)
    size = np.abs(np.nan_to_num(values.reshape(*values.shape[:2], -1))).max(axis=2, initial=0)
    least: np.ndarray = (np.finfo(kind).eps * size + np.finfo(kind).tiny).astype(np.float64)
    return least
