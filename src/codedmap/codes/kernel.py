"""KernelCode: inputs and mixtures of neighbours, decoded by Gaussian-process regression."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from ..coding.ordering import neighbours_together, paths_through
from ..contracts.arguments import check_number, check_whole, is_real
from ..contracts.code import check_budget, check_mixable, check_tasks
from ..errors import InvalidArgument
from ..estimation import Known, Prior
from ..estimation.cells import cells_along
from ..estimation.decoding import Decoder
from ..estimation.geometry import Geometry
from ..estimation.solving import Solver
from .kernel_encoding import COPYING, MIXING, KernelEncoding

__all__ = ["KernelCode"]


@dataclass(frozen=True)
class KernelCode:
    """Raw inputs and mixtures of neighbours: most answers are exact, the other tasks have error bars.

    Three ideas. The tasks of a group are put along a short path, so that those that follow each
    other are alike. Every task has its own cell on the path: worker k < K computes task k itself,
    the others mixtures of a task with one of its two neighbours. And the decoder works in the space
    of the inputs: Gaussian-process regression on all answers, whose distances follow from the
    inputs' Gram matrix. A task whose own input was answered is passed through as it is; the others
    are estimated, and the posterior variance is their standard error.

    It decodes from one answer on. Answers that all other answers contradict are rejected.

    Parameters
    ----------
    tasks, workers, stragglers : int
        K, N >= K, and S, how many answers the default stop rule does not wait for.
    spread : float
        Between 0 and 1: how far the mixtures of a cell reach towards its neighbours. 0 makes copies,
        and takes inputs of any dtype; 1 fills the path evenly. Mixtures never leave the segment
        between two inputs. Small for rough functions, larger for smooth ones; `plan` measures it.
    prior : Prior, optional
        How fast and how smoothly the function varies. By default chosen in every wave by restricted
        likelihood from the answers of at most 50 groups.
    known : Known, optional
        Inputs whose answers are known beforehand; estimates lean on them wherever they are near.
        Standard errors follow how well those around predict each other. Takes time M² for each
        payload, for M known answers. Without a prior it is the one they speak for, which may count
        some directions of the inputs more than others.
    calibration : float
        Factor on all standard errors, above 0; `plan` measures it.
    confirm : int
        1, or 2: then a row is exact only where copies agree (``spread=0``); a raw answer without a
        second one keeps its value, with the standard error of its prediction from all other answers.
        An answer that is not finite is rejected, and its task estimated.
    suspicion : float
        An answer this many standard deviations off its prediction from all other answers is rejected.

    Notes
    -----
    Adaptive: the prior is shared by groups and outputs. Time is cubic in the answers of a group, and
    memory quadratic; known answers apart, 1,000 groups of 20 tasks and 40 answers take less than a
    second. Regression: Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006,
    chapters 2 and 5. Where a function is so smooth that an error is a ten-thousandth of its
    outputs' deviation or less, standard errors are rough guesses only.
    """

    tasks: int
    workers: int
    stragglers: int
    spread: float = 0.2
    prior: Prior | None = None
    known: Known | None = None
    calibration: float = 1.0
    confirm: int = 1
    suspicion: float = 5.0
    has_stderr: ClassVar[bool] = True
    job_estimates: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_budget(self.tasks, self.workers, self.stragglers)
        if self.workers < self.tasks:
            raise InvalidArgument(
                f"{self.workers} workers cannot hold the raw input of each of {self.tasks} tasks: use "
                "at least as many workers as tasks, or a code that only mixes (SplineCode)"
            )
        if not is_real(self.spread) or not 0.0 <= self.spread <= 1.0:
            raise InvalidArgument(
                f"spread={self.spread!r} must be between 0 (copies) and 1 (an even path)"
            )
        for name in ("calibration", "suspicion"):
            check_number(name, getattr(self, name), above=True)
        if check_whole("confirm", self.confirm, 0) not in (1, 2):
            raise InvalidArgument(f"confirm={self.confirm!r} must be 1 or 2")
        for name, kind in (("prior", Prior), ("known", Known)):
            value = getattr(self, name)
            if value is not None and not isinstance(value, kind):
                raise InvalidArgument(
                    f"{name}={value!r} must be a codedmap.estimation.{kind.__name__} or None"
                )
        if self.prior is not None and self.prior.power and self.known is None:
            raise InvalidArgument(
                f"power={self.prior.power:g} of the prior is about principal directions of known "
                "inputs: give known= as well"
            )
        if self.known is not None and self.prior is None:
            object.__setattr__(self, "prior", self.known.likeliest)

    def arranged(self, rows: np.ndarray) -> np.ndarray | None:
        """An order in which rows that are alike share a group; see `Arranging`."""
        return neighbours_together(rows, self.tasks) if rows.dtype.kind in "fc" else None

    def encode(self, inputs: np.ndarray) -> KernelEncoding:
        """Encode B groups of K tasks.

        Parameters
        ----------
        inputs : ndarray, shape (K, B, *x)
            Real or complex floating point, or anything with ``spread=0``; the dtype is kept.

        Raises
        ------
        InvalidArgument
            If the shape does not fit, or the dtype cannot be mixed.
        """
        check_tasks(inputs, self.tasks, self.workers)
        tasks, groups = inputs.shape[:2]
        mixes = self.spread > 0.0 and self.workers > tasks
        if mixes:
            check_mixable(inputs, MIXING, COPYING)
        if self.known is not None:
            self.known.check(inputs)
        if self.prior is not None:
            self.prior.check(inputs)
        orders = np.broadcast_to(np.arange(tasks), (groups, tasks))
        if mixes:
            orders = paths_through(inputs.reshape(tasks, groups, -1).swapaxes(0, 1))
        cells = cells_along(orders, self.workers, self.spread if mixes else 0.0)
        payloads = inputs if self.workers == tasks else cells.payloads(inputs)
        geometry = Geometry(inputs, cells, self.known, self.prior)
        decoder = Decoder(Solver(geometry, self.known), self.prior, self.suspicion)
        return KernelEncoding(payloads, cells.raw, decoder, tasks, self.calibration, self.confirm)

    def fitted(self, result: Any, inputs: Any = None) -> KernelCode:
        """A code with the prior of a result of `map`, for later calls.

        Parameters
        ----------
        result : MapResult
            Of this code: its prior is kept, so the next wave need not choose one.
        inputs : array-like, optional
            The inputs of that call, shape (m, *x). With them, rows answered exactly become ``known``,
            beside those that are already: the newest 256 of all. If in
            these some directions of the inputs count more than others, their prior is kept.

        Raises
        ------
        InvalidArgument
            If the result is not of a `KernelCode`, has other rows, or has fewer than 3 exact ones
            and none were known before.
        """
        prior = getattr(result, "learned", None)
        if not isinstance(prior, Prior):
            raise InvalidArgument(
                "there is nothing to learn from a result of another code than KernelCode, or of "
                "answers that are no floating-point numbers"
            )
        if inputs is None:
            return replace(self, prior=self.prior or prior)
        known = Known.of(result, inputs, self.known)
        if self.prior is None and (known.likeliest.scales or known.likeliest.power):
            prior = known.likeliest
        return replace(self, prior=self.prior or prior, known=known)
