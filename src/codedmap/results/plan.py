"""The result of `plan`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..contracts.code import Code
from ..errors import many
from .calls import new_figure
from .status import Shown

_EXACT = "exact with hedging"
_LEAST = 1e-3  # smallest error that is shown as a number, in standard deviations of the outputs
_SHORTEST = 1e-3  # seconds of the shortest time that is shown as a number
_WIDEST = 20.0  # ratio of the ends of an error above which only the upper one is shown
WIDE = 2.0  # ratio of the ends of an error above which it is shown as a range
_CAUTION = 0.8
"""How far towards the upper end of its range an error must still be small enough: true ones lie beyond in 4 of 100."""


@dataclass(frozen=True, slots=True, eq=False)
class PlanRow:
    """One way to run the job, and what is expected of it."""

    scheme: str
    """Name of the way."""
    code: Code | None
    """The code to give to `map`, or None."""
    deadline: float | None
    """The deadline to give to `map` in seconds, or None."""
    seconds: float
    """Median time of the job in seconds."""
    p99: float
    """Seconds within which 99 in 100 such jobs have ended."""
    calls: float
    """Calls a row, those of hedges included."""
    exact: float
    """Share of rows that are exact."""
    error: float
    """Root mean square error of all rows, in standard deviations of the outputs; NaN if it is unknown."""
    range: tuple[float, float] | None = None
    """Where few calls were timed: the times in seconds between which 95 of 100 jobs end."""
    errors: tuple[float, float] | None = None
    """Where few rows were answered: the bounds of the error in 95 of 100 jobs."""

    @property
    def latest(self) -> float:
        """``p99``, or the upper end of ``range`` if that is more."""
        return self.p99 if self.range is None else max(self.p99, self.range[1])


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Plan(Shown):
    """Ways to run a job: how long each takes, how exact it is, and which one to use. Print it for the table.

    Made by `plan`.
    """

    rows: tuple[PlanRow, ...]
    """The ways: the recommended one first, the others by time."""
    tasks: int
    """Number of rows of the job."""
    workers: int
    """Number of workers of the job."""
    stragglers: int
    """S of the codes."""
    deviation: float
    """Root mean square of the outputs' standard deviations; NaN where answers are not numbers."""
    asked: float
    """The largest error that is allowed, in standard deviations of the outputs."""
    computed: int
    """Number of rows that were answered for the plan."""
    timed: int
    """Number of calls that were timed."""
    seconds: float
    """Seconds that planning took, calls included."""
    remarks: tuple[str, ...] = ()
    """Sentences on what was noticed, and on what was not looked at."""

    @property
    def code(self) -> Code | None:
        """The recommended code, or None."""
        return self.rows[0].code

    @property
    def deadline(self) -> float | None:
        """The recommended deadline in seconds, or None."""
        return self.rows[0].deadline

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of `map` for the recommended way."""
        found = {"code": self.code, "deadline": self.deadline}
        return {name: value for name, value in found.items() if value is not None}

    @property
    def choice(self) -> str:
        """The recommended way in a few words."""
        return _sentence(self.rows[0]).rstrip(".")

    @property
    def advice(self) -> str:
        """What to use, and what else there is, in a few sentences."""
        best = self.rows[0]
        if best.scheme != _EXACT:
            exact = next((row for row in self.rows if row.scheme == _EXACT), None)
            first = "" if exact is None else f"{_sentence(exact)} "
            worth = self._excess(best) or " Worth it."  # a deadline may leave no time for less
            return f"{first}{_sentence(best)}{worth}"
        near = [row for row in self.rows if row.error <= self.asked and row.seconds < best.seconds]
        others = near or [row for row in self.rows[1:] if not math.isnan(row.error)]
        if not others:
            return f"{_sentence(best)}"
        other = min(others, key=lambda row: row.seconds)
        return f"{_sentence(best)} {_sentence(other)}{self._excess(other, ' the', ' allowed')} Not worth it."

    def _excess(self, row: PlanRow, before: str = "", after: str = "") -> str:
        """That the error of a way is larger than allowed, or may be; empty if it is not."""
        if cautious_error(row) <= self.asked:
            return ""
        more = "Perhaps more" if row.error <= self.asked else "More"
        return f" {more} than{before} {_percent(self.asked)}{after}."

    def __str__(self) -> str:
        head = (
            f"{many(self.tasks, 'row')} on {many(self.workers, 'worker')}; planned in {self.seconds:.2g} s from "
            f"{many(self.computed, 'row')} answered and {many(self.timed, 'call')} timed"
        )
        lines = [line.rstrip() for line in _lines(self._columns())]
        return "\n".join([self.advice, *lines, head, *self.remarks])

    def _columns(self) -> dict[str, list[str]]:
        """The cells of the table by the head of their column."""
        rows = self.rows
        return {
            "way": [row.scheme for row in rows],
            "time": [_time(row) for row in rows],
            "p99": [_seconds(row.latest) for row in rows],
            "calls": [f"{row.calls:.2f}" for row in rows],
            "exact": [_share(row.exact) for row in rows],
            "error": [_error(row) for row in rows],
        }

    def plot(self, ax: Any = None) -> Any:
        """Time and error of each way; exact ones are drawn at the left edge.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            By default those of a new figure.

        Returns
        -------
        matplotlib Axes
        """
        if ax is None:
            ax = new_figure(7.5, 4.5).add_subplot()
        drawn = [
            row for row in self.rows if math.isfinite(row.seconds) and not math.isnan(row.error)
        ]
        for number, row in enumerate(drawn):
            error = max(row.error, _LEAST)
            ends = [max(end, _LEAST) for end in row.errors or (error, error)]
            label = row.scheme + " (recommended)" * (row is self.rows[0])
            shown = {"marker": "o", "color": f"C{number}", "label": label}
            ax.plot([ends[0], error, ends[1]], [row.seconds] * 3, markevery=[1], **shown)
        left = f"left edge: exact, or below {_LEAST:g}"
        ax.set(xscale="log", xlabel=f"error / deviation of the outputs ({left})", ylabel="seconds")
        ax.set_ylim(0.0, 1.1 * max((row.seconds for row in drawn), default=1.0))
        ax.legend()
        return ax


def cautious_error(row: PlanRow) -> float:
    """The error of a way, with some caution if it is uncertain."""
    if row.errors is not None:
        expected = row.error or _LEAST  # 0 where all rows are expected to be exact
        return float(expected ** (1.0 - _CAUTION) * row.errors[1] ** _CAUTION)
    return row.error if row.exact == 1.0 else row.error * WIDE ** (_CAUTION / 2.0)


def _sentence(row: PlanRow) -> str:
    name = row.scheme[0].upper() + row.scheme[1:]
    if row.scheme == _EXACT:
        return f"{name}: {_time(row)}."
    at = (
        f"{name} at {_seconds(row.deadline)}"
        if row.deadline is not None
        else f"{name}: {_time(row)}"
    )
    if row.exact == 1.0 and row.errors is None:
        error = "exact"
    else:
        error = "unknown error" if math.isnan(row.error) else f"{_error(row)} error"
    return f"{at}{':' if row.deadline is not None else ','} {error}, {row.calls:.1f} calls a row."


def _lines(columns: dict[str, list[str]]) -> list[str]:
    """Columns side by side, the first one aligned left, the others right."""
    padded = []
    for at, (title, cells) in enumerate(columns.items()):
        width = max(map(len, [title, *cells]))
        side = "<" if at == 0 else ">"
        padded.append([f"{cell:{side}{width}}" for cell in (title, *cells)])
    return ["  " + "  ".join(line) for line in zip(*padded, strict=True)]


def _error(row: PlanRow) -> str:
    if math.isnan(row.error):
        return "unknown"
    if row.errors is None:
        return _percent(row.error)
    low, high = row.errors
    if low < max(_LEAST, high / _WIDEST):
        return f"< {_percent(high)}"
    return f"{_percent(low).removesuffix(' %')} to {_percent(high)}"


def _percent(value: float) -> str:
    if value == 0.0:
        return "0"
    if value < _LEAST:
        return f"< {100 * _LEAST:g} %"
    return f"{100 * value:.0f} %" if value >= 1.0 else f"{100 * value:.2g} %"


def _share(value: float) -> str:
    return f"{min(value, 0.999) if value < 1 else value:.1%}"  # never shown as 100 %


def _time(row: PlanRow) -> str:
    if row.range is None or not math.isfinite(row.seconds):
        return _seconds(row.seconds)
    low, high = (_seconds(end) for end in row.range)
    return high if low == high else f"{low.removesuffix(' s')} to {high}"


def _seconds(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "never"
    if value >= 1.0:
        return f"{value:.0f} s" if value >= 100.0 else f"{value:.1f} s"
    return f"{value:.2g} s" if value >= _SHORTEST else f"< {_SHORTEST:g} s"
