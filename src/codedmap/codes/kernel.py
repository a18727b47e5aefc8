"""KernelCode: inputs and mixtures of neighbours, decoded by Gaussian-process regression."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from ..coding.cells import cells_along
from ..coding.ordering import neighbours_together, paths_through
from ..contracts.arguments import check_whole, is_real
from ..contracts.code import check_budget, check_mixable, check_tasks
from ..errors import InvalidArgument, many
from ..estimation.known import Known, flat, known_pair
from .kernel_encoding import COPYING, MIXING, KernelEncoding


@dataclass(frozen=True)
class KernelCode:
    """Raw inputs and mixtures of neighbours: most rows are exact, the others have error bars.

    Three ideas. The tasks of a group are put along a short path, so that those that follow each
    other are alike. Every task has its own cell on the path: worker k < K computes task k itself,
    the others mixtures of a task with one of its two neighbours. And the decoder works in the space
    of the inputs. A task whose own input was answered is passed through as it is; the others are
    estimated from all answers by Gaussian-process regression, with standard errors that are
    calibrated by answers left out.

    It decodes from one answer on. Answers that the others contradict are rejected, if the evidence is
    strong. A raw answer that no answer nearby contradicts is returned as exact.

    Parameters
    ----------
    tasks, workers, stragglers : int
        K, N >= K, and S, how many answers the default stopping rule does not wait for.
    spread : float
        Between 0 and 1: how far the mixtures of a cell reach towards its neighbours. 0 makes copies,
        and takes inputs of any dtype; 1 fills the path evenly. Mixtures never leave the segment
        between two inputs. Small for rough functions, larger for smooth ones.
    known : tuple of array-like, or Known, optional
        Inputs (M, *x) and the answers (M, *y) to them that are known beforehand; rows are estimated from these too.
    confirm : int
        1, or 2: then a row is exact only where copies agree (``spread=0``); a raw answer without a
        second one keeps its value, with the standard error of answers that are estimated from all others.

    Notes
    -----
    Adaptive: a process is chosen by the answers of all groups that are decoded together. Regression: Rasmussen and
    Williams, Gaussian Processes for Machine Learning, 2006, chapters 2 and 5.
    """

    tasks: int
    workers: int
    stragglers: int
    spread: float = 0.2
    known: Known | tuple[Any, Any] | None = None
    confirm: int = 1
    has_stderr: ClassVar[bool] = True
    job_estimates: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_budget(self.tasks, self.workers, self.stragglers)
        if self.workers < self.tasks:
            raise InvalidArgument(
                f"{many(self.workers, 'worker')} cannot hold the raw input of each of {self.tasks} tasks: use "
                "at least as many workers as tasks, or a code that only mixes (SplineCode)"
            )
        if not is_real(self.spread) or not 0.0 <= self.spread <= 1.0:
            raise InvalidArgument(
                f"spread={self.spread!r} must be between 0 (copies) and 1 (an even path)"
            )
        if check_whole("confirm", self.confirm, 0) not in (1, 2):
            raise InvalidArgument(f"confirm={self.confirm!r} must be 1 or 2")
        if self.known is not None and not isinstance(self.known, Known):
            object.__setattr__(self, "known", Known(*known_pair(self.known)))

    def arranged(self, rows: np.ndarray) -> np.ndarray | None:
        """An order in which rows that are alike share a group; see `Code`."""
        return neighbours_together(rows, self.tasks) if rows.dtype.kind in "fc" else None

    def encode(self, inputs: np.ndarray) -> KernelEncoding:
        """Encode B groups of K tasks, (K, B, *x), of floating point, or anything with ``spread=0``; see `Code.encode`."""
        check_tasks(inputs, self.tasks, self.workers)
        tasks, groups = inputs.shape[:2]
        mixes = self.spread > 0.0 and self.workers > tasks
        if mixes:
            check_mixable(inputs, MIXING, COPYING)
        known = self.known if isinstance(self.known, Known) else None
        if known is not None:
            known.check(inputs)
        orders = np.broadcast_to(np.arange(tasks), (groups, tasks))
        if mixes:
            orders = paths_through(inputs.reshape(tasks, groups, -1).swapaxes(0, 1))
        cells = cells_along(orders, self.workers, self.spread if mixes else 0.0)
        of_slots = zip(cells.weight, cells.home[:, 0].tolist(), strict=True)
        raw = tuple(None if weight.any() else home for weight, home in of_slots)
        return KernelEncoding(inputs, raw, cells, known, self.confirm)

    def fitted(self, result: Any, inputs: Any) -> KernelCode:
        """A code that estimates from the exact rows of a result as well.

        Parameters
        ----------
        result : MapResult
            Of the same function.
        inputs : array-like, shape (m, *x)
            The inputs of that call. Its rows that are exact become ``known``, beside those that are already.

        Raises
        ------
        InvalidArgument
            If the result has other rows, or fewer than 3 exact ones and none were known before.
        """
        rows, values = np.asarray(inputs), np.asarray(result.values)
        if len(rows) != len(values):
            raise InvalidArgument(
                f"a result of {many(len(values), 'row')} does not belong to {many(len(rows), 'input')}"
            )
        sure = np.flatnonzero(result.exact)
        points, answers = flat(rows[sure]), flat(values[sure])
        if isinstance(self.known, Known):
            self.known.check(rows[:, None])
            points, answers = self.known.joined(points, answers)
        return replace(self, known=Known(points, answers))
