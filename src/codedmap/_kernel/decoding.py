"""Answers of many groups to estimates and their standard errors, a few groups at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from .._code import left_out
from .evidence import Evidence
from .geometry import Geometry
from .heard import Heard, Scale, centred, condensed
from .known import Known
from .process import Prior
from .regression import Regression, regression
from .suspects import Suspects, equal_answers

__all__ = ["Decoder", "Fit"]

_WORKING = 6 << 20
"""Numbers held at a time: 48 MB."""
_KEPT = 16 << 20
"""Numbers in operators kept for the next decoding: 128 MB."""
_STEADY = 10.0
"""Answers that the scale of all groups is worth beside a group's own."""
_GROUPS, _ANSWERS = 50, 256
"""Groups, and answers of a group, that tell a prior."""
_CANDIDATES = 21
"""Priors compared at a time."""
_TWINS = 1e-6
"""Noise with which answers to equal payloads are judged: with less, taking one of them out of an
inverse would leave no digits of the others."""
_MOST = 0.25
"""Share of a group's answers that can be lies; were there more, the prior does not fit."""


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """What a regression makes of answers."""

    tasks: np.ndarray
    """(T,): which were asked for."""
    values: np.ndarray
    """(T, B, columns) float64: of the tasks asked for, complex numbers as pairs."""
    stderr: np.ndarray
    """(T, B)."""
    alone: np.ndarray
    """(F, B): standard error of each answer as the others predict it."""
    used: np.ndarray
    """(F, B) bool: after lies were dropped."""
    prior: Prior


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Some groups, solved."""

    process: Regression
    solved: tuple[np.ndarray, ...]
    operator: np.ndarray
    variance: np.ndarray

    @property
    def size(self) -> int:
        return self.process.covariance.size * 2 + self.operator.size * 2


@dataclass(slots=True, eq=False)
class Decoder:
    """Regressions on groups of K tasks, with what can be used again kept.

    Parameters
    ----------
    geometry : Geometry
    prior : Prior or None
        None to choose one from the answers.
    known : Known or None
    suspicion : float
        Residual, in standard deviations, beyond which an answer is judged a lie.
    """

    geometry: Geometry
    prior: Prior | None
    known: Known | None
    suspicion: float
    _parts: dict[object, _Part] = field(default_factory=dict)

    def fit(
        self,
        heard: Heard,
        tasks: np.ndarray,
        outputs: int,
        prior: Prior | None = None,
        *,
        judge: bool = True,
    ) -> Fit:
        """Estimates of some tasks, and the lies among the answers.

        Parameters
        ----------
        heard : Heard
        tasks : ndarray of int, shape (T,)
        outputs : int
            Numbers in an answer; a complex one counts once.
        prior : Prior, optional
            To use instead of choosing one.
        judge : bool
            Whether to look for lies.
        """
        prior = prior or self.prior
        used = heard.used
        if judge or prior is None:
            jury = _Jury(self, heard, tasks)
            prior = prior or jury.evidence.likeliest(jury.heard_by(used))
            if judge and jury.scale.judged:
                used, prior = jury.verdict(prior)
        groups = used.shape[1]
        values = np.empty((len(tasks), groups, heard.columns))
        variance, alone = np.empty(values.shape[:2]), np.empty(used.shape)
        power = np.empty(groups)
        for some in self.chunks(heard, len(tasks)):
            part = self.part(heard, some, used, tasks, prior)
            rest, mean = self.rest(heard, some, part.process, used)
            found = part.operator @ rest
            found += mean if part.process.at_tasks is None else part.process.at_tasks[:, tasks]
            values[:, some] = found.transpose(1, 0, 2)
            variance[:, some] = part.variance.T
            projected = part.solved[0]
            power[some] = np.einsum("bfq,bfq->b", projected @ rest, rest) / outputs
            precision = np.diagonal(projected, axis1=1, axis2=2)
            local = part.process.local_payloads
            with np.errstate(over="ignore"):
                alone[:, some] = (local / np.maximum(precision, np.finfo(float).tiny)).T
        scale = self._scale(np.maximum(power, 0.0), used, prior, outputs)
        # Infinite where nothing was answered, or squares are beyond all numbers.
        scale[np.isnan(scale)] = np.inf
        with np.errstate(over="ignore"):
            errors = np.sqrt(variance * scale), np.sqrt(alone * scale)
        return Fit(tasks, values, *errors, used, prior)

    def _scale(self, power: np.ndarray, used: np.ndarray, prior: Prior, outputs: int) -> np.ndarray:
        """s² (B,), the mean over outputs: a group's own, steadied by that of all."""
        count = np.maximum(0, used.sum(axis=0) - (self.known is None))
        total, weight = power.sum(), count.sum()
        if self.known is not None:
            freedom = len(self.known) - 1
            total += self.known.under(prior).variance.sum() / outputs * freedom
            weight += freedom
        if weight <= 0:
            return np.full(len(power), np.inf)
        return np.asarray((_STEADY * total / weight + power) / (_STEADY + count))

    def part(
        self, heard: Heard, groups: slice, used: np.ndarray, tasks: np.ndarray, prior: Prior
    ) -> _Part:
        """Some groups solved; kept if every answer is used, so that the next wave need not."""
        mask = used[:, groups].T
        whole = bool(mask.all())
        key = (heard.slots.tobytes(), tasks.tobytes(), groups.start, groups.stop, prior)
        if whole and key in self._parts:
            return self._parts[key]
        process = regression(
            self.geometry.layout(heard.slots, groups),
            prior,
            self.known.under(prior) if self.known else None,
        )
        solved = process.solved(mask)
        part = _Part(process, solved, *process.operator(tasks, mask, solved))
        if whole:
            if sum(other.size for other in self._parts.values()) + part.size > _KEPT:
                self._parts.clear()
            self._parts[key] = part
        return part

    def rest(
        self, heard: Heard, groups: slice, process: Regression, used: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Answers (B, F, columns) less what is expected of them, 0 where not used; and the mean of a
        group, which is what is expected if nothing is known.
        """
        rest, mask = heard.real(groups), used[:, groups].T
        if process.at_payloads is None:
            return centred(rest, mask)
        rest -= process.at_payloads
        return np.where(mask[:, :, None], rest, 0.0), np.zeros(1)

    def chunks(self, heard: Heard, tasks: int) -> Iterator[slice]:
        """All groups, as many at a time as there is room to work."""
        answers, groups = heard.used.shape
        size = self.geometry.inputs.shape[0] + answers
        each = 6 * answers * size + 4 * (answers + tasks) * heard.columns
        if self.known is not None:
            each += 3 * size * len(self.known)
        many = max(1, _WORKING // each)
        for start in range(0, groups, many):
            yield slice(start, min(groups, start + many))


class _Jury:
    """Some answers, to choose a prior by, and a judgement of all of them."""

    def __init__(self, decoder: Decoder, heard: Heard, tasks: np.ndarray) -> None:
        self._decoder, self._heard, self._tasks = decoder, heard, tasks
        answers, groups = heard.used.shape
        self._answers = slice(None, None, -(-answers // _ANSWERS))
        some = len(range(answers)[self._answers])
        each = _CANDIDATES * (some + min(some, heard.columns) + 1) ** 2 + some * heard.columns
        count = max(1, min(_GROUPS, _WORKING // 2 // each))
        self._groups = slice(None, None, -(-groups // count))
        geometry, groups = decoder.geometry, self._groups
        self.scale = Scale.of(heard, groups, lambda: geometry.first(heard.slots, groups))
        self._evidence: Evidence | None = None

    @property
    def evidence(self) -> Evidence:
        """What the answers of some groups say of a prior."""
        if self._evidence is None:
            heard, geometry = self._heard, self._decoder.geometry
            layout = geometry.layout(heard.slots[self._answers], self._groups)
            answers = heard.real(self._groups, self._answers)
            answers = condensed(self.scale.applied(answers, self.heard_by(heard.used)))
            unit = geometry.unit(self._groups)
            apart = np.sqrt(layout.squared()[0])
            self._evidence = Evidence(apart, answers, heard.columns, unit)
        return self._evidence

    def heard_by(self, used: np.ndarray) -> np.ndarray:
        """Which of the answers (F, B) that tell the prior are used, as (B, F)."""
        return used[self._answers, self._groups].T

    def verdict(self, prior: Prior) -> tuple[np.ndarray, Prior]:
        """Which answers (F, B) are left when lies are dropped, and the prior that then is best.

        The very same array as was heard, and the same prior, if there is no lie.
        """
        heard, adapts = self._heard, self._decoder.prior is None
        wary = self.evidence.wary(self.heard_by(heard.used), prior) if adapts else prior
        dropped = np.zeros_like(heard.used)
        for _ in range(2 if adapts else 1):
            new = self._judged(wary, heard.used & ~dropped, None)
            if not new.any():
                break
            dropped |= new
            if adapts:
                wary = self.evidence.likeliest(self.heard_by(heard.used & ~dropped))
        if dropped.any():
            dropped &= ~self._judged(wary, heard.used, dropped)
            dropped &= dropped.sum(axis=0) <= _MOST * heard.used.sum(axis=0)
        if not dropped.any():
            return heard.used, prior
        used = heard.used & ~left_out(dropped)
        return used, self.evidence.likeliest(self.heard_by(used)) if adapts else prior

    def _judged(self, prior: Prior, used: np.ndarray, dropped: np.ndarray | None) -> np.ndarray:
        """Answers (F, B) to drop; or, of those dropped, answers to take back."""
        found = np.zeros_like(used)
        for groups in self._decoder.chunks(self._heard, len(self._tasks)):
            if dropped is not None and not dropped[:, groups].any():
                continue
            part = self._decoder.part(self._heard, groups, used, self._tasks, prior)
            if part.process.twins is not None and prior.noise < _TWINS:
                firmer = replace(prior, noise=_TWINS)
                part = self._decoder.part(self._heard, groups, used, self._tasks, firmer)
            suspects = self._suspects(part, groups, used)
            out = None if dropped is None else dropped[:, groups].T
            found[:, groups] = (suspects.peeled() if out is None else suspects.cleared(out)).T
        return found

    def _suspects(self, part: _Part, groups: slice, used: np.ndarray) -> Suspects:
        mask, background = used[:, groups].T, part.process.at_payloads
        answers = self._heard.real(groups)
        if background is None:
            answers = self.scale.applied(answers, mask)
        else:
            answers = (answers - background) / self.scale.deviation
            answers = np.where(mask[:, :, None], np.clip(answers, -1e6, 1e6), 0.0)
        twins, columns = part.process.twins, answers.shape[2]
        same = equal_answers(answers, mask, twins)
        shown, suspicion = condensed(answers), self._decoder.suspicion
        return Suspects(part.solved[0], shown, mask, same, twins, columns, suspicion)
