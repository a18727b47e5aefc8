"""Answers of many groups to estimates and their standard errors, a few groups at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .observations import Heard
from .process import Prior
from .rejection import Jury
from .replica_conflicts import settled, surely
from .solving import Solver

__all__ = ["Decoder", "Fit"]

_STEADY = 10.0
"""Answers that the scale of all groups is worth beside a group's own."""


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


@dataclass(slots=True, eq=False)
class Decoder:
    """Regressions on groups of K tasks.

    Parameters
    ----------
    solver : Solver
    prior : Prior or None
        None to choose one from the answers.
    suspicion : float
        Residual, in standard deviations, beyond which an answer is judged a lie.
    """

    solver: Solver
    prior: Prior | None
    suspicion: float

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
            jury = Jury(self.solver, heard, tasks, self.suspicion)
            prior = prior or jury.evidence.likeliest(jury.heard_by(used))
            if judge and jury.scale.judged:
                # A prior under which nothing is alike says how to fill gaps; it contradicts nobody.
                says = self.solver.known is not None or jury.relates(prior)
                suspect = prior if says else jury.evidence.likeliest(jury.heard_by(used))
                used, found = jury.verdict(suspect, adapts=self.prior is None or not says)
                prior = found if self.prior is None else prior
        groups = used.shape[1]
        values = np.empty((len(tasks), groups, heard.columns))
        variance, alone = np.empty(values.shape[:2]), np.empty(used.shape)
        power = np.empty(groups)
        for some in self.solver.chunks(heard, len(tasks)):
            part = self.solver.part(heard, some, used, tasks, prior)
            rest, mean = self.solver.rest(heard, some, part.process, used)
            middle = part.operator @ rest
            middle += mean if part.process.at_tasks is None else part.process.at_tasks[:, tasks]
            values[:, some] = middle.transpose(1, 0, 2)
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
        with np.errstate(over="ignore", invalid="ignore"):
            errors = np.sqrt(variance * scale), np.sqrt(alone * scale)
        errors[0][np.isinf(variance)] = np.inf  # even if all answers there are were equal
        return Fit(tasks, values, *errors, used, prior)

    def _scale(self, power: np.ndarray, used: np.ndarray, prior: Prior, outputs: int) -> np.ndarray:
        """s² (B,), the mean over outputs: a group's own, steadied by that of all."""
        count = np.maximum(0, used.sum(axis=0) - (self.solver.known is None))
        total, weight = power.sum(), count.sum()
        if self.solver.known is not None:
            freedom = len(self.solver.known) - 1
            total += self.solver.known.under(prior).variance.sum() / outputs * freedom
            weight += freedom
        if weight <= 0:
            return np.full(len(power), np.inf)
        return np.asarray((_STEADY * total / weight + power) / (_STEADY + count))

    def quarrels(
        self, heard: Heard, answers: np.ndarray, held: np.ndarray, out: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Which copies (R, B) are likely lies, and which are by all odds, as answers to other inputs say.

        Parameters
        ----------
        heard : Heard
            One answer for each input, which may be a lie.
        answers : ndarray, shape (R, B, *y)
            All copies; those not finite are lies already.
        held : ndarray of int, shape (R,)
            To which of the answers heard each belongs.
        out : ndarray, shape (R, B) bool
            Lies as the copies of an input among themselves tell; all of them if that tells nothing.
        """
        contested = np.zeros_like(heard.used)
        for copy, of in enumerate(held):
            contested[of] |= out[copy] & heard.used[of]
        jury = Jury(self.solver, heard, np.zeros(0, dtype=int), self.suspicion)
        kept = jury.heard_by(heard.used & ~contested)
        if not jury.scale.judged or not kept.any():
            return out, out
        # Liars who agree on an answer give themselves away if they give it to different inputs too.
        agreed = jury.agreed(answers, held) & contested[held]
        betrayed = np.zeros_like(contested)
        np.logical_or.at(betrayed, held, agreed)
        told = np.where(betrayed[held], agreed, out)
        given = self.prior if self.solver.known is not None else None
        prior = given or jury.evidence.likeliest(kept)
        squares = jury.copies(prior, contested, answers, held)
        home = np.broadcast_to(held[:, None], out.shape)
        used = heard.used[held]
        return settled(squares, home, used, told), surely(squares, home, used, out)
