"""The ways to run a job, what each comes to, and which one to use."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .. import codes as table
from ..codes import Replication, Uncoded
from ..contracts.code import Code
from ..contracts.memory import check_memory
from ..errors import CodedmapError, InvalidArgument
from ..execution.missing import COMPUTING
from ..latency import LatencyModel
from ..results.plan import WIDE, Plan, PlanRow, cautious_error
from .errors import Errors, Expected
from .pilot import Pilot
from .replays import CALL, Coded, Exact, every_set, exact_share, run_coded, run_exact
from .times import Drawn, Measured

ERROR = 0.05  # the allowed error if none is given, in standard deviations of the outputs

_SHARE = 0.1  # share of the job's time that planning may take
LEAST = 0.15  # seconds that planning may take at least
_FEWEST = 3  # jobs in virtual time that are run although little time is left
_FIRST = 10  # jobs in virtual time before other ways than exact with hedging are looked at
_MOST = 200  # jobs in virtual time, at most
_ENOUGH = 200  # timed calls from which predicted times are single numbers and no ranges
_DOUBT = 0.1  # two standard errors of the mean time over this time from which times are ranges
_CODED = 8  # jobs in virtual time for each code, at most
_DECODED = 200  # straggler sets, at most, without which a code is tested to be decodable
_STEP = 1.1  # factor between two shares of rows with an answer that are looked at
_AS_FAST = 1.1  # factor by which a way must be faster than exact with hedging to be chosen
_NOTHING = 0.05  # seconds by which a way must be faster than exact with hedging to be chosen
_LATE = 5  # by default codes do without one of so many workers
_SMALL = 1e-3  # smaller lower ends of errors count as this where errors may be ranges
_ROUGH = 2.5  # factor by which errors of codes with estimates of their own are uncertain
_SHORTEST = 2.0  # seconds of the shortest job with time for estimates: a tenth of it is enough
_ESTIMATED = 2e-5  # seconds of one estimate among very many
_NONE = Expected(0.0, 0.0, 0.0)
_NUMBERS = {"tasks", "workers", "stragglers"}  # the arguments of codes that are compared by default


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A job, and what its plan has to keep."""

    rows: int  # m
    workers: int  # N
    error: float  # the largest that is allowed, in deviations of the outputs
    tolerance: float | None = None
    """The largest error of estimated rows, in the unit of the outputs."""
    deadline: float | None = None
    shortest: float = _SHORTEST
    """Seconds below which a job with a deadline leaves no time for estimates."""
    tasks: int | None = None
    stragglers: int | None = None
    latency: LatencyModel | None = None
    codes: Sequence[tuple[str, Code]] | None = None
    coded: bool = True  # whether codes may be used
    seed: int = 0


def budget_of(rows: int, answered: int, seconds: float) -> float:
    """Seconds that planning may take for a job of ``rows``, of which some were answered in so many seconds."""
    return max(LEAST, _SHARE * rows * seconds / max(1, answered))


def planned(ask: Question, pilot: Pilot, *, budget: float, spent: Callable[[], float]) -> Plan:
    """Compare the ways to run a job of which a call has ended; ``spent``: how many seconds of the ``budget`` are over."""
    return _Ways(ask, pilot, budget, spent).plan()


class _Ways:
    def __init__(
        self, ask: Question, pilot: Pilot, budget: float, spent: Callable[[], float]
    ) -> None:
        self.ask, self.pilot, self.budget, self.spent = ask, pilot, budget, spent
        lost = ask.stragglers
        self.late = lost if lost is not None else -(-ask.workers // _LATE) * (ask.workers > 1)
        self.times: Measured | Drawn
        if ask.latency is None:
            self.times = Measured(
                pilot.timed, ask.workers, lost or 0, ask.seed, pilot.overhead, batches=pilot.batches
            )
        else:
            self.times = Drawn(ask.latency, ask.workers, ask.seed, _MOST)
        self.timed = sum(call.ended for call in pilot.timed)
        self.few = ask.latency is None and (self.timed < _ENOUGH or self.times.doubt > _DOUBT)
        # On average half of a call has been computed.
        running = 0.5 * ask.workers * max(1.0, CALL / self.times.mean)
        self.jobs = Exact(ask.rows, running=running)
        self.skipped: list[str] = []
        self.remarks = list(pilot.remarks)

    def left(self) -> float:
        return self.budget - self.spent()

    @cached_property
    def errors(self) -> Errors:
        reserved = 0.3 * self.left()  # for codes, after errors are measured
        seconds = self.ask.deadline
        if seconds is None:  # short jobs have time for quick estimates only
            seconds = float(np.median(self.jobs.seconds))
            seconds = max(seconds, _SHORTEST) if seconds >= self.ask.shortest else math.inf
        return Errors(self.pilot, self.ask.seed, seconds, lambda: self.left() - reserved)

    def plan(self) -> Plan:
        ask, jobs = self.ask, self.jobs
        begun, number = time.perf_counter(), 0
        while not number or (
            number < _FIRST and self.left() > (0.2 if number < _FEWEST else 0.7) * self.budget
        ):
            run_exact(jobs, self.times, number)
            number += 1
        each = (time.perf_counter() - begun) / number
        # Exact codes first, then those that estimate as the job does: they take little time to look at.
        codes = sorted(self._codes(), key=lambda pair: not getattr(pair[1], "job_estimates", False))
        codes.sort(key=lambda pair: not isinstance(pair[1], Replication | Uncoded))
        exact = sum(isinstance(code, Replication | Uncoded) for _, code in codes)
        ways = [*self._coded(codes[:exact]), *self._estimated(), *self._coded(codes[exact:])]
        while number < _MOST and self.left() > 2.0 * each:
            run_exact(jobs, self.times, number)
            number += 1
        ways.insert(0, self._row("exact with hedging", jobs.seconds, jobs.calls))
        best = self._best(ways)
        ways.sort(key=lambda way: (way is not best, way.seconds))
        self._note_unknown()
        if ask.deadline is not None and best.latest > ask.deadline:
            self.remarks.append(
                f"no way of known error ends within {ask.deadline:.2g} s at the latest: allow more time, or give more workers"
            )
        deviation, allowed = self.errors.deviation, ask.error
        if ask.tolerance is not None and deviation > 0.0:
            allowed = ask.tolerance / deviation
        return Plan(
            tuple(ways), ask.rows, ask.workers, self.late, deviation, allowed, self.pilot.answered, self.timed,
            self.spent(), tuple(self.remarks),
        )  # fmt: skip

    def _note_unknown(self) -> None:
        pilot = self.pilot
        if not self.errors.known:
            reason = (
                "inputs or answers are not arrays of finite numbers, so that nothing is estimated"
            )
            if self.errors.no_time:
                reason = f"there was no time to look at errors within {self.budget:.2g} s: give a larger budget="
            elif len(pilot.points) or not pilot.answered:
                reason = f"{pilot.answered:,} answered: too few rows to say anything of errors"
            self.remarks.append(f"{reason}; only exact ways are recommended")
        if self.few:
            self.remarks.append(
                f"times are ranges, because few calls were timed, {self.timed:,}: {_ENOUGH} are needed, and more where they "
                "differ"
            )
        if self.skipped:
            names = ", ".join(self.skipped)
            text = f"not looked at within {self.budget:.2g} s: {names}; give a larger budget="
            self.remarks.append(text)

    # Ways ---------------------------------------------------------------------------------------------

    def _estimated(self) -> Iterator[PlanRow]:
        """Estimates at the given deadline, or at the earliest one with an allowed error."""
        ask = self.ask
        if not self.errors.known:
            return
        # By a deadline all rows may be answered; without one that would be no estimate.
        share, found = 1.0 if ask.deadline is None else _STEP, None
        while (share := share / _STEP) * ask.rows >= max(2.0, self.errors.fewest):
            seconds = float(np.median(self.jobs.answered(share))) / COMPUTING
            at = ask.deadline or seconds
            too_many = (1.0 - share) * ask.rows * _ESTIMATED > (1.0 - COMPUTING) * at
            if too_many or (ask.deadline is None and seconds < ask.shortest):
                break
            if ask.deadline is not None and seconds > ask.deadline:
                continue
            spare = at / seconds if share == 1.0 else 1.0  # by which all rows may take longer
            error = self._of_share(spare * share)
            calls = min(1.0, share + ask.workers / ask.rows)
            row = PlanRow(
                "estimates at a deadline", None, at, at, at, calls, share, error.error, None, _range(error)
            )  # fmt: skip
            if ask.deadline is not None:
                yield row
                return
            if found is not None and not self._allowed(row):
                break
            found = row
        if found is not None:
            yield found
        elif ask.deadline is not None:
            self.remarks.append(
                f"too few rows are answered within {ask.deadline:.2g} s to say anything of errors, or too many are left to be "
                "estimated in a tenth of it: allow more time"
            )

    def _of_share(self, share: float) -> Expected:
        """Errors if this share of the rows is answered, which may be more than all of them.

        The range allows for uncertain times of calls.
        """
        times = self.times
        most = share * (1.0 + times.doubt)
        least = share / (1.0 + times.doubt + self.few * times.unseen)
        low, middle, high = (
            self.errors.of(one * self.ask.rows).of_share(1.0 - one)
            for one in (min(1.0, most), min(1.0, share), min(1.0, least))
        )
        return Expected(middle.error, low.low, high.high)

    def _coded(self, codes: Sequence[tuple[str, Code]]) -> Iterator[PlanRow]:
        for at, (name, code) in enumerate(codes):
            until = self.left() * (1.0 - 1.0 / (len(codes) - at))
            if self.left() <= 0.0:
                self.skipped.append(name)
                continue
            try:
                check_memory(
                    self.ask.rows, 8 * math.prod(self.pilot.shape), code.tasks, code.workers
                )
                row = self._of_code(name, code, until)
            except CodedmapError as error:
                self.remarks.append(f"{name} cannot be used: {str(error).partition(': ')[0]}")
                continue
            yield row

    def _codes(self) -> Iterator[tuple[str, Code]]:
        ask, pilot = self.ask, self.pilot
        if ask.codes is not None:
            yield from ask.codes
            return
        workers, late = ask.workers, self.late
        if not ask.coded or not pilot.copied or workers < 2 or ask.rows < 2:
            return
        tasks = min(ask.tasks or workers // 2, ask.rows)
        if workers >= 2 * tasks:
            yield "copies", Replication(tasks, workers)
        tasks = min(ask.tasks or workers - late, ask.rows)
        if not late or not pilot.mixed:
            return
        for name in table.__all__:
            kind: Any = getattr(table, name)
            taken = inspect.signature(kind).parameters.values()
            if {one.name for one in taken if one.default is one.empty} == _NUMBERS:
                with suppress(InvalidArgument):  # a code may refuse these numbers
                    yield name, kind(tasks, workers, late)

    def _of_code(self, name: str, code: Code, until: float) -> PlanRow:
        """The time and error of a code, found while more than ``until`` seconds of the budget are left."""
        ask, found = self.ask, Coded()
        number = 0
        while not number or (number < _CODED and self.left() > until):
            run_coded(found, code, ask.rows, self.times, number)
            number += 1
        share = float(np.mean(found.exact))
        every, total = every_set(code.workers, code.stragglers, ask.seed)
        lost = ask.stragglers is not None and ask.latency is None
        if lost and all(found.decodable(frozenset(slots)) for slots in every[:_DECODED].tolist()):
            share = exact_share(found.own, code.tasks, every)
            if total > len(every):
                remark = f"of {total:,} straggler sets {len(every):,} were drawn"
                self.remarks += [remark] if remark not in self.remarks else []
        if share == 1.0:
            return self._row(name, found.seconds, found.calls, code=code)
        if getattr(code, "job_estimates", False):
            answers = share * ask.rows + float(np.mean(found.mixtures))
            error = self.errors.of(answers).of_share(1.0 - share)
        else:
            mean, tried = self.errors.decoded(
                code, self.pilot.shape, every, lambda: self.left() > until
            )
            share, error = 0.0, Expected(mean, mean / _ROUGH, mean * _ROUGH)
            if 0 < tried < len(every):
                left = len(every) - tried
                self.skipped.append(f"{left:,} of {len(every):,} straggler sets of {name}")
        return self._row(name, found.seconds, found.calls, share, error, code=code)

    # Comparing them -----------------------------------------------------------------------------------

    def _allowed(self, row: PlanRow) -> bool:
        """Whether the error of a way is small enough, with some caution if it is uncertain."""
        ask, error = self.ask, cautious_error(row)
        if ask.tolerance is not None:
            estimated = error / math.sqrt(1.0 - row.exact) if row.exact < 1.0 else 0.0
            return estimated * self.errors.deviation <= ask.tolerance
        return error <= ask.error

    def _best(self, rows: list[PlanRow]) -> PlanRow:
        """The fastest way with an allowed error; with a deadline, that with the smallest error in time."""
        exact, deadline = rows[0], self.ask.deadline
        if deadline is not None:
            in_time = [r for r in rows if r.latest <= deadline and not math.isnan(r.error)]
            return min(
                in_time, key=lambda row: (row.error, row is not exact, row.calls), default=exact
            )
        # If times are ranges, the slow end of another way has to be faster than the fast end of this one.
        least = exact.seconds if exact.range is None else exact.range[0]
        faster = []
        for row in rows[1:]:
            most = row.seconds if row.range is None else row.range[1]
            soon = most < math.inf and max(_AS_FAST * most, most + _NOTHING) <= least
            if soon and self._allowed(row):
                faster.append(row)
        near = 1.05 * min((row.seconds for row in faster), default=0.0)
        return min(
            faster, key=lambda row: (row.seconds > near, row.calls, row.error), default=exact
        )

    def _row(
        self,
        name: str,
        seconds: Sequence[float],
        calls: Sequence[float],
        exact: float = 1.0,
        error: Expected = _NONE,
        *,
        code: Code | None = None,
    ) -> PlanRow:
        ends = np.sort(np.asarray(seconds))
        low, middle, high, last = (
            float(ends[math.ceil(share * len(ends)) - 1]) for share in (0.025, 0.5, 0.975, 0.99)
        )
        between = None
        if self.few:
            doubt = 1.0 + self.times.doubt
            between = low / doubt, high * (doubt + self.times.unseen)
        mean = float(np.mean(calls))
        return PlanRow(
            name, code, None, middle, last, mean, exact, error.error, between, _range(error)
        )


def _range(error: Expected) -> tuple[float, float] | None:
    """The ends of the range of an error, if they are far apart."""
    wide = error.high > WIDE * max(error.low, _SMALL)
    return (error.low, error.high) if wide else None
