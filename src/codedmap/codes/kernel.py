"""KernelCode: inputs and mixtures of neighbours, decoded by Gaussian-process regression.

Answers are passed through, estimated from, or rejected.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from ..coding.cells import Cells, cells_along
from ..coding.operators import as_real
from ..coding.ordering import neighbours_together, paths_through
from ..contracts.answers import cast_values, check_slots, matrix, root_mean_square, rounding
from ..contracts.arguments import check_whole, is_real
from ..contracts.code import (
    Estimate,
    check_budget,
    check_interpolable,
    check_mixable,
    check_tasks,
    reject_frequent,
)
from ..detection.nonfinite import nonfinite_answers
from ..detection.replicas import compare
from ..detection.residuals import OFF
from ..errors import WAIT, InvalidArgument, NotEnoughAnswers, many
from ..estimation.judging import Judgement, judged
from ..estimation.known import Known, flat, known_pair
from ..estimation.surrogate import estimates
from ..results.trees import for_all_entries
from .replication import NO_MEAN, ROUNDED, CopyEncoding, cannot_fill

_MIXING = "KernelCode must with a spread above 0"  # which code mixes, for messages
_COPYING = "KernelCode with spread=0, Replication"  # codes that do not mix, for messages

_FREQUENT = 0.1  # share of groups with wrong answers above which a worker is rejected in all groups
_ENOUGH = 12  # other answers, at least, by which one of two copies can be judged wrong
_FEWEST = 2  # answers, at least, that have a standard deviation
_LIKELIER = 4.0  # ratio of the residuals of two copies from which the larger is wrong
_EACH = 2e-4  # seconds, about, in which an answer is judged
_GROUPS = 3  # groups, at least, in which answers are judged, however little time there is

_Found = tuple[np.ndarray, np.ndarray, float]
"""Estimates of K tasks in B groups, (K, B, q), their standard errors, and the error of answers that were left out."""


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
            check_mixable(inputs, _MIXING, _COPYING)
        known = self.known if isinstance(self.known, Known) else None
        if known is not None:
            known.check(inputs)
        orders = np.broadcast_to(np.arange(tasks), (groups, tasks))
        if mixes:
            orders = paths_through(inputs.reshape(tasks, groups, -1).swapaxes(0, 1))
        cells = cells_along(orders, self.workers, self.spread if mixes else 0.0)
        slots = zip(cells.weight, cells.home[:, 0].tolist(), strict=True)
        raw = tuple(None if weight.any() else home for weight, home in slots)
        return KernelEncoding(inputs, raw, cells, known, self.confirm)

    def fitted(self, result: Any, inputs: Any) -> KernelCode:
        """A code that estimates from the exact rows of a result as well.

        Parameters
        ----------
        result : MapResult
            A result of the same function.
        inputs : array-like, shape (m, *x)
            The inputs of that call. Those of exact rows, and their answers, are added to ``known``.

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
        exact = np.flatnonzero(result.exact)
        points, answers = flat(rows[exact]), flat(values[exact])
        if isinstance(self.known, Known):
            self.known.check(rows[:, None])
            points, answers = self.known.joined(points, answers)
        return replace(self, known=Known(points, answers))


@dataclass(frozen=True, slots=True, eq=False)
class KernelEncoding:
    """Inputs encoded by a `KernelCode`."""

    inputs: np.ndarray
    raw: tuple[int | None, ...]
    """For each slot the task that it computes as it is, the same in all groups; None for a mixture."""
    cells: Cells
    known: Known | None
    confirm: int

    @property
    def payloads(self) -> np.ndarray:
        """The payloads (N, B, *x); made anew each time."""
        slots, groups = np.indices(self.cells.home.shape).reshape(2, -1)
        rows = self.cells.at(self.inputs, slots, groups)
        return rows.reshape(*self.cells.home.shape, *rows.shape[1:])

    def payload(self, slot: int) -> np.ndarray:
        """The payload of one slot, (B, *x); a view where it is an input."""
        task = self.raw[slot]
        if task is not None:
            return np.asarray(self.inputs[task])
        groups = np.arange(self.inputs.shape[1])
        return self.cells.at(self.inputs, np.full(len(groups), slot), groups)

    def points(self, slots: np.ndarray, groups: np.ndarray) -> np.ndarray:
        """Payloads of slots (n,) in groups (n,) as real columns (n, d); a column of zeros if they are no numbers."""
        if self.inputs.dtype.kind not in "biufc":
            return np.zeros((len(slots), 1))
        rows = self.cells.at(self.inputs, slots, groups)
        return as_real(rows.reshape(len(slots), self.inputs[0, 0].size))

    def decodable(self, answered: frozenset[int]) -> bool:
        """Whether there is an answer."""
        return bool(answered)

    def decode(self, answers: Mapping[int, Any]) -> Estimate:
        """Estimates of all tasks; see `Encoding.decode`."""
        found = self._decoded(answers, estimating=True, seconds=math.inf)
        stderr, outputs = np.asarray(found.stderr), found.values.shape[2:]
        return replace(
            found, stderr=stderr if stderr.ndim > 2 else for_all_entries(stderr, outputs)
        )

    def judge(self, answers: Mapping[int, Any], seconds: float = math.inf) -> Estimate:
        """As `decode`, but lost tasks have the mean of the answers if there is nothing else to estimate.

        If the answers to all groups would take more ``seconds`` to judge, workers are judged by some groups.
        """
        return self._decoded(answers, estimating=False, seconds=seconds)

    @np.errstate(under="ignore")  # a caller may have NumPy raise for it
    def _decoded(self, answers: Mapping[int, Any], *, estimating: bool, seconds: float) -> Estimate:
        check_slots(answers, len(self.raw))
        slots, stacked, rejected = matrix(answers, self.inputs.shape[1])
        if not slots:
            raise NotEnoughAnswers(
                f"none of {len(self.raw)} workers gave a usable answer, and KernelCode needs one at "
                "least",
                WAIT,
            )
        if stacked.dtype.kind not in "fc" and self._all_answered(slots, stacked.dtype):
            return self._copies.majority(slots, stacked, rejected)
        most = seconds / (_EACH * len(slots))
        decoding = _Decoding(self, slots, stacked, rejected, estimating=estimating, most=most)
        return decoding.estimate()

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
        return CopyEncoding(self.inputs, raw, None, self.confirm)

    def _all_answered(self, slots: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
        """Whether all tasks have an answer; raises if others cannot be estimated from answers of this dtype."""
        if not self.copying:
            check_interpolable(dtype, _MIXING, _COPYING)
        tasks = len(self.inputs)
        lost = tasks - len({self.raw[slot] for slot in slots})
        if lost and dtype.kind not in "biu":
            raise cannot_fill(dtype, NO_MEAN, f"{lost} of {tasks} tasks")
        return lost == 0


class _Decoding:
    """One decoding: rejects wrong answers, and estimates the tasks whose raw input has no answer."""

    def __init__(
        self,
        encoding: KernelEncoding,
        slots: tuple[int, ...],
        stacked: np.ndarray,
        misshapen: tuple[int, ...],
        *,
        estimating: bool,
        most: float,
    ) -> None:
        self._most = most  # groups, at most, in which answers are judged
        self._encoding, self._slots, self._stacked = encoding, np.array(slots), stacked
        self._misshapen, self._estimating = misshapen, estimating
        count, groups = stacked.shape[:2]
        self._flat = flat(stacked.reshape(count * groups, -1)).reshape(count, groups, -1)
        """As real columns, (F, B, q) float64."""
        self._finite = np.isfinite(self._flat).all(axis=2)
        self._holders: dict[int, list[int]] = {}
        """Rows of the answers to the raw input of each task."""
        for row, slot in enumerate(slots):
            if (task := encoding.raw[slot]) is not None:
                self._holders.setdefault(task, []).append(row)
        if encoding.known is not None:
            encoding.known.check_answers(self._flat.shape[2])

    def estimate(self) -> Estimate:
        broken = self._broken()
        single, contested = self._compared(~broken & self._finite)
        judgement = self._judgement(single | contested, contested)
        wrong = self._wrong(judgement, single, contested, broken)
        held = [row for rows in self._holders.values() for row in rows]
        vote = self._encoding._copies.majority(
            tuple(self._slots[held].tolist()), self._stacked[held], self._misshapen, wrong[held]
        )
        answered, tied, exact = self._state_of_tasks(wrong, contested, vote.exact)
        values = vote.values
        stderr = np.where(exact, 0.0, np.where(tied, np.asarray(vote.stderr), np.inf))
        needed = ~answered | tied
        found = None
        if not exact.all():
            find = self._estimated
            if not self._estimating and exact.any() and (exact | ~answered).all():
                find = self._averaged
            found = find(single & ~wrong, needed)
        if found is None and not answered.all():
            raise NotEnoughAnswers(
                f"the answers of {many(len(self._slots), 'worker')} were left out, because they are not finite or contradict each "
                f"other, so nothing can stand in for {many(int((~answered).sum()), 'lost row')}",
                WAIT,
            )
        if found is not None:
            estimated, errors, left_out = found
            spread = root_mean_square(errors)
            if values.dtype.kind not in "fc" and needed.any():
                if cast_values(values[answered], np.dtype(np.float64)) is None:
                    raise cannot_fill(
                        values.dtype, ROUNDED, many(int((~answered).sum()), "lost row")
                    )
                values = values.astype(np.float64)
            stderr[~exact & ~needed] = left_out
            # Copies that differ by less than the error of the estimate are better than the estimate.
            enough = (single & ~wrong).sum() >= _ENOUGH or self._encoding.known is not None
            better = needed & (~answered | (enough & (spread < stderr)))
            values[better] = _like(estimated[better], values)
            stderr[better] = spread[better]
        stderr = np.where(exact, 0.0, np.maximum(stderr, rounding(values)))
        stderr[~exact & nonfinite_answers(values)] = np.inf
        rejected = {*vote.rejected, *self._slots[wrong.any(axis=1)].tolist()}
        if self._estimating and found is not None and better.any():
            stderr = np.array(for_all_entries(stderr, values.shape[2:]))
            own = _moduli(errors[better], values)
            least = for_all_entries(rounding(values)[better], own.shape[1:])
            stderr[better] = np.maximum(own, least)
        return Estimate(values, exact, stderr, tuple(sorted(rejected)))

    @property
    def _mixed(self) -> np.ndarray:
        """(F,) bool: answers to mixtures."""
        return np.array([self._encoding.raw[slot] is None for slot in self._slots])

    def _broken(self) -> np.ndarray:
        """Answers (F, B) that are rejected because they are not finite.

        These are all such answers to mixtures, and NaN for a raw input if a mixture in its cell has a finite answer. If
        this occurs in more than a tenth of the groups, or in two and in most of those with such a mixture, all NaN of that
        worker are rejected. Infinity for a raw input may be right, such as a log-probability, although mixtures have
        finite answers.
        """
        mixed = self._mixed
        broken = reject_frequent(~self._finite & mixed[:, None])
        if not mixed.any() or self._finite[~mixed].all():
            return broken
        homes = self._encoding.cells.home[self._slots[mixed]]
        contradicting = np.zeros((len(self._encoding.inputs), homes.shape[1]), dtype=bool)
        row, group = np.nonzero(self._finite[mixed])
        contradicting[homes[row, group], group] = True
        for task, rows in self._holders.items():
            nan = np.isnan(self._flat[rows]).any(axis=2)
            near = contradicting[task]
            times = (nan & near).sum(axis=1, keepdims=True)
            often = (times > _FREQUENT * len(near)) | (times > max(near.sum() / 2, 1))
            broken[rows] = nan & (near | often)
        return broken

    def _compared(self, usable: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One answer (F, B) for each payload whose copies agree, and all answers to payloads whose copies differ."""
        single, contested = usable.copy(), np.zeros_like(usable)
        for rows in self._holders.values():
            if len(rows) > 1:
                count = usable[rows].sum(axis=0)
                votes = compare(self._stacked[rows], ~usable[rows]).votes
                split = (count > 1) & (votes < count)
                contested[rows] = usable[rows] & split
                first = np.cumsum(usable[rows], axis=0) == 1
                single[rows] = usable[rows] & first & ~split
        return single, contested

    def _judgement(self, judged_ones: np.ndarray, contested: np.ndarray) -> Judgement:
        inputs = self._encoding.inputs
        if inputs.dtype.hasobject or self._stacked.dtype.kind not in "fc" or not inputs.size:
            return Judgement(np.zeros_like(contested), np.full(contested.shape, np.nan))
        cells, slots, groups = self._encoding.cells, self._slots, contested.shape[1]
        drawn = np.arange(groups)
        if self._most < groups:
            drawn = np.random.default_rng(0).permutation(drawn)[: max(_GROUPS, int(self._most))]
        found = judged(
            lambda slots, groups: self._encoding.points(slots, drawn[groups]),
            slots,
            self._flat[:, drawn],
            judged_ones[:, drawn],
            contested[:, drawn],
            homes=cells.home[slots][:, drawn],
            neighbours=cells.neighbour[slots][:, drawn],
            ranks=cells.place[slots][:, drawn],
            kinds=self._mixed,
            rounding=float(np.finfo(self._stacked.dtype).eps),
        )
        if len(drawn) == groups:
            return found
        wrong, sizes = np.zeros_like(contested), np.full(contested.shape, np.nan)
        wrong[:, drawn], sizes[:, drawn] = found.wrong, found.sizes
        wrong |= found.wrong.mean(axis=1, keepdims=True) > _FREQUENT
        return Judgement(wrong, sizes)

    def _wrong(
        self, judgement: Judgement, single: np.ndarray, contested: np.ndarray, broken: np.ndarray
    ) -> np.ndarray:
        """Answers (F, B) that are rejected."""
        wrong = judgement.wrong.copy()
        for rows in self._holders.values():
            if len(rows) > 1:  # copies that agree are right, whatever their residual
                agreed = (self._finite[rows] & ~broken[rows]).sum(axis=0) > 1
                wrong[rows] &= ~(single[rows] & agreed)
        wrong |= wrong.mean(axis=1, keepdims=True) > _FREQUENT
        wrong |= broken
        sizes = judgement.sizes[~contested & ~np.isnan(judgement.sizes)]
        if len(sizes) < _ENOUGH:
            return wrong
        usual = OFF * np.median(sizes)
        for rows in self._holders.values():
            split = contested[rows].any(axis=0)
            if split.any():
                split &= compare(self._stacked[rows], wrong[rows]).votes == 0
                sizes = np.where(wrong[rows] | ~contested[rows], np.inf, judgement.sizes[rows])
                least = np.nan_to_num(sizes, nan=np.inf).min(axis=0)
                unlikely = (sizes > usual) & (sizes / _LIKELIER > least)
                wrong[rows] |= contested[rows] & unlikely & split & (least <= usual)
        return wrong

    def _state_of_tasks(
        self, wrong: np.ndarray, contested: np.ndarray, voted: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where (K, B) a task has an answer, where its copies differ without a majority, and where it is exact."""
        answered, tied = np.zeros_like(voted), np.zeros_like(voted)
        exact = voted.copy()
        for task, rows in self._holders.items():
            answered[task] = (~wrong[rows]).any(axis=0)
            split = contested[rows].any(axis=0)
            if split.any():
                every = compare(self._stacked[rows])
                tied[task] = split & (compare(self._stacked[rows], wrong[rows]).votes == 0)
                # A majority counts if one of its answers is not rejected.
                won = (every.votes > 0) & (~every.outliers & ~wrong[rows]).any(axis=0)
                exact[task] &= ~split | won
        exact &= answered & ~tied
        if self._encoding.confirm > 1 and not self._encoding.copying:
            exact[:] = False
        return answered, tied & answered, exact

    def _estimated(self, kept: np.ndarray, needed: np.ndarray) -> _Found | None:
        """Estimates of the tasks (K, B) that need one, from the answers (F, B) that are kept."""
        row, group = np.nonzero(kept)
        points, answers = self._points(self._slots[row], group), self._flat[kept]
        if self._encoding.known is not None:
            points, answers = self._encoding.known.joined(points, answers)
        if not len(points):
            return None
        outputs = answers.shape[1]
        values = np.zeros((*needed.shape, outputs))
        errors = np.full(values.shape, np.inf)
        if len(points) == 1:
            values[:] = answers[0]
            return values, errors, np.inf
        task, group = np.nonzero(needed)
        # If no task needs an estimate, any one is made for the error of answers left out.
        wanted = (task, group) if len(task) else (np.zeros(1, int), np.zeros(1, int))
        found = estimates(points, answers, self._points(*wanted), thorough=False)
        values[task, group] = found.values[: len(task)]
        errors[task, group] = found.stderr[: len(task)]
        return values, errors, float(root_mean_square(found.left_out[None])[0])

    def _points(self, slots: np.ndarray, groups: np.ndarray) -> np.ndarray:
        # In float64, because differences of small integers may be too large for their dtype.
        return self._encoding.points(slots, groups).astype(np.float64, copy=False)

    def _averaged(self, kept: np.ndarray, needed: np.ndarray) -> _Found | None:
        """The mean of the answers (F, B) that are kept for the tasks (K, B) that need one."""
        answers = self._flat[kept]
        if self._stacked.dtype.kind != "f" or len(answers) < _FEWEST:
            return self._estimated(kept, needed)
        shape = (*needed.shape, answers.shape[1])
        with np.errstate(over="ignore"):
            mean = np.broadcast_to(answers.mean(axis=0), shape)
            spread = float(root_mean_square(answers.std(axis=0, ddof=1)[None])[0])
        return mean, np.broadcast_to(spread, shape), spread


def _like(columns: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Real columns (n, q) as values (n, *y), none of them infinite in their dtype."""
    if values.dtype.kind in "fc":
        limits = np.finfo(values.dtype)
        columns = np.clip(columns, limits.min, limits.max)
    if values.dtype.kind == "c":
        columns = np.ascontiguousarray(columns, np.float64).view(np.complex128)
    return columns.reshape(-1, *values.shape[2:])


def _moduli(columns: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Standard errors of real columns (n, q) as those of values (n, *y)."""
    if values.dtype.kind == "c":
        columns = np.hypot(columns[:, ::2], columns[:, 1::2])
    return columns.reshape(-1, *values.shape[2:])
