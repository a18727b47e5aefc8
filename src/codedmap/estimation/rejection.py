"""Who is believed: a prior that lies cannot mislead, the lies under it, and the prior of the rest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ..contracts.code import reject_frequent
from .evidence import Evidence
from .observations import Heard, Scale, condensed, equal_answers
from .other_cells import distances, foreign, versions
from .process import Prior, equal_payloads
from .replica_conflicts import everywhere, settled, usual
from .solving import WORKING, Part, Solver
from .suspects import Suspects

__all__ = ["Jury"]

_GROUPS, _ANSWERS = 50, 256
"""Groups, and answers of a group, that tell a prior."""
_CANDIDATES = 21
"""Priors compared at a time."""
_TWINS = 1e-6
"""Noise with which answers to equal payloads are judged: with less, taking one of them out of an
inverse would leave no digits of the others."""
_UNRELATED = 0.01
"""Length scale, in typical distances between inputs, below which no two answers are alike."""
_MOST = 0.25
"""Share of a group's answers that can be lies; were there more, the prior does not fit."""


class Jury:
    """Some answers, to choose a prior by, and a judgement of all of them."""

    def __init__(self, solver: Solver, heard: Heard, tasks: np.ndarray, suspicion: float) -> None:
        self._solver, self._heard, self._tasks = solver, heard, tasks
        self._suspicion = suspicion
        answers, groups = heard.used.shape
        self._answers = slice(None, None, -(-answers // _ANSWERS))
        some = len(range(answers)[self._answers])
        each = _CANDIDATES * (some + min(some, heard.columns) + 1) ** 2 + some * heard.columns
        count = max(1, min(_GROUPS, WORKING // 2 // each))
        self._groups = slice(None, None, -(-groups // count))
        geometry, groups = solver.geometry, self._groups
        self.scale = Scale.of(heard, groups, lambda: geometry.first(heard.slots, groups))
        self._evidence: Evidence | None = None

    @property
    def evidence(self) -> Evidence:
        """What the answers of some groups say of a prior."""
        if self._evidence is None:
            heard, geometry = self._heard, self._solver.geometry
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

    def relates(self, prior: Prior) -> bool:
        """Whether under this prior an answer says anything of another one."""
        unit = self._solver.geometry.unit(self._groups)
        return prior.length > _UNRELATED * unit

    def verdict(self, prior: Prior, *, adapts: bool) -> tuple[np.ndarray, Prior]:
        """Which answers (F, B) are left when lies are dropped, and the prior that then is best.

        The very same array as was heard, and the same prior, if there is no lie.
        """
        heard = self._heard
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
            dropped = self._settled(wary, dropped)
            if dropped.any():
                dropped &= ~self._usual(wary, dropped)
                dropped = everywhere(dropped, heard.used)
            dropped &= dropped.sum(axis=0) <= _MOST * heard.used.sum(axis=0)
        if not dropped.any():
            return heard.used, prior
        used = heard.used & ~reject_frequent(dropped)
        return used, self.evidence.likeliest(self.heard_by(used)) if adapts else prior

    def copies(
        self, prior: Prior, contested: np.ndarray, answers: np.ndarray, held: np.ndarray
    ) -> np.ndarray:
        """Squared residuals (R, B) of copies as the answers to other inputs predict them.

        Parameters
        ----------
        prior : Prior
        contested : ndarray, shape (F, B) bool
            Of the answers heard, one for each input: those that stand for several different ones.
        answers : ndarray, shape (R, B, *y)
            All copies.
        held : ndarray of int, shape (R,)
            To which of the answers heard each belongs.
        """
        heard = self._heard
        every = Heard(held, answers, np.ones(answers.shape[:2], dtype=bool))
        squares = np.empty(answers.shape[:2])
        for groups, suspects in self._everybody(prior, whole=True):
            alone, errors, variances = versions(suspects, contested[:, groups].T)
            with np.errstate(over="ignore", invalid="ignore"):
                apart = every.real(groups) - heard.real(groups)[:, held]
                off = errors[:, held] + np.clip(apart / self.scale.deviation, -1e6, 1e6)
            size = np.einsum("brq,brq->br", off, off) / heard.columns
            size /= np.maximum(variances[:, held], 1e-300)
            squares[:, groups] = np.where(contested[held, groups].T, size, alone[:, held]).T
        return squares

    def agreed(self, answers: np.ndarray, held: np.ndarray) -> np.ndarray:
        """Which copies (R, B) equal those of two other inputs or more, as hardly any others do."""
        heard = self._heard
        every = Heard(held, answers, heard.used[held])
        agreed = np.zeros(answers.shape[:2], dtype=bool)
        apart = held[:, None] != held
        for groups in self._solver.chunks(every, len(self._tasks)):
            mask = every.mask(groups)
            scaled = self.scale.applied(every.real(groups), mask)
            twins = equal_payloads(self._solver.geometry.layout(held, groups).squared()[0])
            alike = ~apart[None] if twins is None else twins | ~apart
            same = equal_answers(scaled, mask, np.broadcast_to(alike, (len(mask), *apart.shape)))
            if same is not None:
                of = held[:, None] == np.arange(len(heard.slots))
                some = ((same @ of) > 0).sum(axis=2) > 1
                # What a third agrees on is more likely how the function is.
                agreed[:, groups] = (some & (3 * some.sum(axis=1) <= len(held))[:, None]).T
        return agreed

    def _settled(self, prior: Prior, dropped: np.ndarray) -> np.ndarray:
        """The lies (F, B) after quarrels within cells, see `settled`."""
        heard, home = self._heard, self._solver.geometry.cells.home[self._heard.slots]
        squares = np.full(dropped.shape, np.nan)
        for _ in range(2):  # liars who are found at first have misled those who judge others
            for groups, suspects in self._everybody(prior):
                squares[:, groups] = foreign(suspects, dropped[:, groups].T, home[:, groups].T).T
            before, dropped = dropped, settled(squares, home, heard.used, dropped)
            if (before == dropped).all():
                break
        return dropped

    def _usual(self, prior: Prior, dropped: np.ndarray) -> np.ndarray:
        """The answers (F, B) dropped that are no further off than others may well be, see `usual`."""
        home = self._solver.geometry.cells.home[self._heard.slots]
        sizes, variances = np.empty((2, *dropped.shape))
        for groups, suspects in self._everybody(prior):
            size, variance = distances(suspects, dropped[:, groups].T)
            if suspects.same is not None:  # liars who agree are none the less likely for being near
                elsewhere = home[:, groups].T[:, :, None] != home[:, groups].T[:, None]
                mates = suspects.same & elsewhere & dropped[:, groups].T[:, None]
                size[mates.any(axis=2)] = np.inf
            sizes[:, groups], variances[:, groups] = size.T, variance.T
        return usual(sizes, variances, dropped)

    def _everybody(self, prior: Prior, *, whole: bool = False) -> Iterator[tuple[slice, Suspects]]:
        """Groups, as many as there is room for at a time, and all their answers."""
        used = self._heard.used
        for groups in self._solver.chunks(self._heard, len(self._tasks)):
            part = self._part(groups, used, prior)
            yield groups, self._suspects(part, groups, used, whole=whole)

    def _part(self, groups: slice, used: np.ndarray, prior: Prior) -> Part:
        part = self._solver.part(self._heard, groups, used, self._tasks, prior)
        if part.process.twins is not None and prior.noise < _TWINS:
            firmer = replace(prior, noise=_TWINS)
            part = self._solver.part(self._heard, groups, used, self._tasks, firmer)
        return part

    def _judged(self, prior: Prior, used: np.ndarray, dropped: np.ndarray | None) -> np.ndarray:
        """Answers (F, B) to drop; or, of those dropped, answers to take back."""
        found = np.zeros_like(used)
        for groups in self._solver.chunks(self._heard, len(self._tasks)):
            if dropped is not None and not dropped[:, groups].any():
                continue
            suspects = self._suspects(self._part(groups, used, prior), groups, used)
            out = None if dropped is None else dropped[:, groups].T
            found[:, groups] = (suspects.peeled() if out is None else suspects.cleared(out)).T
        return found

    def _suspects(
        self, part: Part, groups: slice, used: np.ndarray, *, whole: bool = False
    ) -> Suspects:
        mask, background = used[:, groups].T, part.process.at_payloads
        answers = self._heard.real(groups)
        if background is None:
            answers = self.scale.applied(answers, mask)
        else:
            answers = (answers - background) / self.scale.deviation
            answers = np.where(mask[:, :, None], np.clip(answers, -1e6, 1e6), 0.0)
        twins, columns = part.process.twins, answers.shape[2]
        same = equal_answers(answers, mask, twins)
        shown, suspicion = answers if whole else condensed(answers), self._suspicion
        return Suspects(
            part.solved[0], shown, mask, same, twins, columns, suspicion, part.process.flat
        )
