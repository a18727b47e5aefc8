"""What becomes of the answers to a `KernelCode`: passed through, estimated, or rejected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..contracts.answers import matrix
from ..contracts.code import Estimate, reject_frequent
from ..detection.replicas import compare
from ..errors import WAIT, InvalidAnswer, NotEnoughAnswers
from ..estimation import Prior
from ..estimation.decoding import Decoder, Fit
from ..estimation.observations import Heard, finite
from .kernel_copies import Quarrel, quarrel_among
from .replication import CopyEncoding

__all__ = ["KernelEncoding"]

_CAUGHT = 0.1
"""Share of groups in which a worker lied, beyond which none of its rows is marked exact, and its NaN
nowhere believed."""
_TELLING = 12
"""Answers beyond one a group, below which the scale of an estimate is a guess, and copies that differ tell more."""


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
        direct, overruling = self._direct(slots, stacked, rejected)
        if stacked.dtype.kind not in "fc" and self._passed(direct, slots, stacked.dtype):
            return direct
        return _Composition(self, slots, stacked, direct, overruling).estimate()

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
        """Answers to raw inputs, voted on where there are copies; other rows are undefined. And which of them (K, B),
        if any, are of one who was believed against a majority.
        """
        held = {row: task for row, slot in enumerate(slots) if (task := self.raw[slot]) is not None}
        rows, tasks = list(held), list(held.values())
        if len(set(tasks)) < len(tasks) or (self.copying and self.confirm > 1):
            raw = tuple(slots[row] for row in rows)
            quarrel = quarrel_among(self.decoder, np.array(tasks), stacked[rows])
            if quarrel is None:
                return self._copies.voted(raw, stacked[rows], rejected), None
            return _doubted(self._copies.voted(raw, stacked[rows], rejected, quarrel.lies), quarrel)
        shape = (self.tasks, stacked.shape[1])
        values = np.zeros((*shape, *stacked.shape[2:]), stacked.dtype)
        exact = np.zeros(shape, dtype=bool)
        values[tasks], exact[tasks] = stacked[rows], True
        return Estimate(values, exact, np.where(exact, 0.0, np.inf), rejected), None

    def _passed(self, direct: Estimate, slots: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
        """Whether answers that are no floating-point numbers can be returned as they are."""
        if not self.copying:
            raise InvalidAnswer(
                f"answers of dtype {dtype} cannot be interpolated, as KernelCode must with a spread "
                "above 0: return scores instead of labels, cast to float in fn if they are "
                "quantities, or use a code that copies (KernelCode with spread=0, Replication)"
            )
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
    """One decoding: who is believed, and what stands in for whom."""

    encoding: KernelEncoding
    slots: tuple[int, ...]
    stacked: np.ndarray
    direct: Estimate
    overruling: np.ndarray | None

    def estimate(self) -> Estimate:
        copying, confirm = self.encoding.copying, self.encoding.confirm
        have, mixed = self._rows()
        exact, stderr = self.direct.exact.copy(), np.array(self.direct.stderr)
        doubtful = np.zeros_like(exact)
        doubtful[have] = ~exact[have]
        unconfirmed = doubtful & np.isinf(stderr) & (confirm > 1)
        if self.overruling is not None:
            unconfirmed |= self.overruling
        if confirm > 1 and not copying:
            unconfirmed, exact = exact, np.zeros_like(exact)
        disputed = doubtful & ~unconfirmed
        heard, lies = self._heard(have, mixed, exact | unconfirmed)
        # What is not finite no prediction can confirm.
        broken = np.zeros_like(exact)
        broken[have] = ~finite(self.direct.values[have])
        broken &= (unconfirmed & heard.used.any(axis=0)) | (exact & self._undone(have, mixed))
        unconfirmed &= ~broken
        exact &= ~broken
        wanted = ~exact & ~unconfirmed
        fit = self._fitted(heard, wanted)
        found = heard.used & ~fit.used
        contradicted = np.zeros_like(exact)
        contradicted[have] = found[: len(have)]
        contradicted &= ~self._agreed()
        lies |= found[len(have) :]
        if contradicted.any():
            kept = heard.used & ~found
            again = Heard(heard.slots, heard.answers, kept)
            fit = self._fitted(again, wanted | contradicted, fit.prior)
        liars = {self.slots[mixed[row]] for row in np.flatnonzero(lies.any(axis=1))}
        blamed = set(np.flatnonzero((contradicted | broken).any(axis=1)).tolist())
        liars |= {slot for slot in self.slots if self.encoding.raw[slot] in blamed}
        exact &= ~contradicted
        # Who was caught in some groups is no witness in the others: a lie may just not stand out there.
        caught = exact & (contradicted.mean(axis=1) > _CAUGHT)[:, None]
        exact &= ~caught
        unconfirmed = (unconfirmed | caught) & ~contradicted
        values = self._values(wanted.any())
        stderr[exact] = 0.0
        if unconfirmed.any():
            alone = np.full_like(stderr, np.inf)
            alone[have] = fit.alone[: len(have)] * self.encoding.calibration
            stderr[unconfirmed] = alone[unconfirmed]
        self._fill(values, stderr, fit, (wanted | contradicted) & ~disputed)
        freedom = np.maximum(fit.used.sum(axis=0) - 1, 0).sum()
        if freedom < _TELLING and self.encoding.decoder.solver.known is None:
            disputed &= np.isinf(stderr)
        self._fill(values, stderr, fit, disputed, better=True)
        stderr = np.where(exact, 0.0, np.maximum(stderr, _least(values)))
        rejected = tuple(sorted({*self.direct.rejected, *liars}))
        return Estimate(values, exact, stderr, rejected)

    def _rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Tasks whose own input was answered, and rows of the mixtures that were."""
        raw = self.encoding.raw
        have = sorted({task for slot in self.slots if (task := raw[slot]) is not None})
        mixed = [row for row, slot in enumerate(self.slots) if raw[slot] is None]
        return np.array(have, dtype=int), np.array(mixed, dtype=int)

    def _undone(self, have: np.ndarray, mixed: np.ndarray) -> np.ndarray:
        """Where (K, B) the answer to a raw input has NaN, and one to a mixture in its cell has not.

        A lie then; and wherever else that worker says NaN, if it is caught so in more than a few groups. An
        infinity alone may be right (a log-probability), and none of its mixtures'.
        """
        undone = np.zeros_like(self.direct.exact)
        values, told = self.direct.values[have], self.stacked[mixed]
        if not len(mixed) or values.dtype.kind not in "fc":
            return undone
        undone[have] = np.isnan(values).any(axis=tuple(range(2, values.ndim)))
        if undone.any():
            homes = self.encoding.decoder.solver.geometry.cells.home[np.array(self.slots)[mixed]]
            sound = np.zeros_like(undone)
            row, group = np.nonzero(finite(told))
            sound[homes[row, group], group] = True
            often = (undone & sound).mean(axis=1, keepdims=True) > _CAUGHT
            undone &= sound | often
        return undone

    def _heard(
        self, have: np.ndarray, mixed: np.ndarray, trusted: np.ndarray
    ) -> tuple[Heard, np.ndarray]:
        """What the regression is told, and which mixtures' answers are lies for not being finite."""
        raw, told = self.direct.values[have], self.stacked[mixed]
        broken = ~finite(told)
        lies = reject_frequent(broken) if len(mixed) else broken
        # The input of task k sits in slot k, whichever copy of it was answered.
        slots = np.concatenate([have, np.array(self.slots, dtype=int)[mixed]])
        used = np.concatenate([trusted[have] & finite(raw), ~(lies | broken)])
        heard = Heard(slots, np.concatenate([raw, told]), used)
        if self.encoding.decoder.solver.known is not None:
            self.encoding.decoder.solver.known.check_answers(heard.columns)
        return heard, lies

    def _fitted(self, heard: Heard, wanted: np.ndarray, prior: Prior | None = None) -> Fit:
        # A disputed answer still stands for itself.
        lost = wanted & ~heard.used.any(axis=0) & np.isinf(np.asarray(self.direct.stderr))
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
        fit = self.encoding.decoder.fit(heard, tasks, outputs, prior, judge=judge)
        self.encoding._learned[:] = [fit.prior]
        return fit

    def _agreed(self) -> np.ndarray:
        """Where (K, B) two copies or more outvote all others: more than any residual says."""
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
        better: bool = False,
    ) -> None:
        """Put estimates in; ``better``: only where their standard error is the smaller one."""
        shape = values.shape[2:]
        for row, task in enumerate(fit.tasks):
            stated = fit.stderr[row] * self.encoding.calibration
            groups = where[task] & (stated < stderr[task]) if better else where[task]
            if groups.any():
                found = fit.values[row, groups]
                if values.dtype.kind == "c":
                    found = np.ascontiguousarray(found).view(np.complex128)
                values[task, groups] = found.reshape(-1, *shape)
                stderr[task, groups] = stated[groups]


def _doubted(voted: Estimate, quarrel: Quarrel) -> tuple[Estimate, np.ndarray]:
    """A vote less what copies that disagree leave in doubt, and where it was overruled (K, B)."""
    exact, stderr = voted.exact.copy(), np.array(voted.stderr)
    apart, overruling = np.zeros_like(stderr), np.zeros_like(exact)
    apart[quarrel.tasks], overruling[quarrel.tasks] = quarrel.apart, quarrel.overruled
    overruling &= exact | np.isinf(stderr)  # of several dissenters, if these agree
    exact &= ~overruling & (apart == 0.0)
    stderr[overruling] = np.inf
    stderr[apart > 0.0] = apart[apart > 0.0]
    return Estimate(voted.values, exact, stderr, voted.rejected), overruling


def _least(values: np.ndarray) -> np.ndarray:
    """The error (K, B) of writing a value down: no estimate is known better."""
    kind = values.dtype if values.dtype.kind in "fc" else np.dtype(np.float64)
    size = np.abs(np.nan_to_num(values.reshape(*values.shape[:2], -1))).max(axis=2, initial=0)
    least: np.ndarray = (np.finfo(kind).eps * size + np.finfo(kind).tiny).astype(np.float64)
    return least
