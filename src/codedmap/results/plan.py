"""The result of `plan`."""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..contracts.code import Code
from ..errors import InvalidArgument

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Plan", "PlanRow"]


_DISPENSABLE = ("p95", "p50 s", "RMSE", "cost", "exact", "K", "labels", "p99 s")
"""Columns in the order in which they are left out on a narrow terminal."""


@dataclass(frozen=True, slots=True, eq=False)
class PlanRow:
    """One scheme, measured on the sample."""

    scheme: str
    """Its name."""
    code: Code | None
    """For `map`; None for schemes that were left out. `Replication` and `Uncoded` wait for more than
    N - S answers by default: with a fill give them ``stop=Quorum(N - S)``."""
    tasks: int
    """K."""
    cost: float
    """Worker calls a task."""
    rmse: float
    """Expected root mean square error of all rows, in the unit of the outputs; NaN if left out."""
    rmse_p95: float
    """Error that 95 % of waves stay below."""
    agreement: float | None
    """Share of rows whose largest output is the right one; None for a single output."""
    exact: float
    """Share of rows that are exact."""
    p50: float | None
    """Seconds until half of the waves are done, under the latency model; None without one."""
    p99: float | None
    """Seconds until 99 % are."""
    waiting: float = 0.0
    """Share of waves that have to wait for more than N - S answers. Such a scheme is recommended only if
    there is no other."""
    note: str = ""
    """Why it was left out, or another remark."""
    copying: bool = False
    """Whether no payload is a mixture."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Which scheme to use, and the measurements of each; print it for the table.

    Made by `plan`.
    """

    rows: tuple[PlanRow, ...]
    """All schemes, the recommended one first, then by error."""
    workers: int
    """N."""
    stragglers: int
    """S."""
    deviation: float
    """Root mean square of the standard deviations of the outputs, to compare errors with; 0 if they are
    constant."""
    groups: int
    """Groups of sample rows on which each scheme was tried."""
    waves: int
    """Straggler sets over which exact rows and waits were counted: all sets if there are at most
    10,000; else, and under a latency model, drawn ones. Errors are measured on some 60 of them, or more."""
    advice: str
    """What to use, and why, in a sentence or two."""
    computed: int = 0
    """Rows that fn computed for the plan."""
    seconds: float = 0.0
    """Duration of planning."""
    remarks: tuple[str, ...] = ()
    """Remarks on the sample."""

    @property
    def code(self) -> Code:
        """The recommended code, with what it has learned from the sample."""
        code = self.rows[0].code
        if code is None:
            raise InvalidArgument("no scheme in this plan is a code")
        return code

    @property
    def choice(self) -> str:
        """The recommended scheme in a few words."""
        best = self.rows[0]
        text = f"{best.scheme}, {_many(best.tasks, 'task')}, {_many(self.stragglers, 'straggler')}"
        if best.rmse > 0.0:
            error = best.rmse / (self.deviation or 1.0)
            text += f", expected error {error:.2g}" + " of the deviation" * (self.deviation > 0)
        return f"{text} (planned on {_many(self.groups, 'group')})"

    def __str__(self) -> str:
        return self.text()

    def text(self, width: int | None = None) -> str:
        """The table as ``print`` shows it, or narrower: with fewer columns and folded notes.

        Parameters
        ----------
        width : int, optional
            Of the lines, in characters. Scheme and error are never left out.
        """
        columns = self._columns()
        lines = _lines(columns)
        for title in _DISPENSABLE:
            if width is None or len(lines[0]) <= width:
                break
            columns.pop(title, None)
            lines = _lines(columns)
        every = "all " * (self.waves == math.comb(self.workers, self.stragglers) > 1)
        head = (
            f"{_many(self.workers, 'worker')}, {_many(self.stragglers, 'straggler')}: "
            f"{every}{self.waves:,} straggler sets on {_many(self.groups, 'group')} of sample rows; "
            f"fn computed {_many(self.computed, 'row')}; {self.seconds:.1f} s"
        )
        notes = [f"  [{at}] {note}" for at, note in enumerate(self._notes(), 1)]
        words = [*notes, *(f"  {remark}" for remark in self.remarks), self.advice]
        if width is not None:
            head, *words = (_folded(text, width) for text in (head, *words))
        return "\n".join([head, *(line.rstrip() for line in lines), *words])

    def _notes(self) -> list[str]:
        return list(dict.fromkeys(row.note for row in self.rows if row.note))

    def _columns(self) -> dict[str, list[str]]:
        """The cells of the table by the head of their column."""
        rows, notes = self.rows, self._notes()
        marks = [f" [{notes.index(row.note) + 1}]" if row.note else "" for row in rows]
        unit = self.deviation or float("nan")
        cells = {
            "scheme": [f"{row.scheme}{mark}" for row, mark in zip(rows, marks, strict=True)],
            "K": [str(row.tasks) for row in rows],
            "cost": [f"{row.cost:.2f}" for row in rows],
            "RMSE": [_number(row.rmse) for row in rows],
            "RMSE/sd": [_number(row.rmse / unit) for row in rows],
            "p95": [_number(row.rmse_p95) for row in rows],
            "exact": [_share(row.exact) for row in rows],
        }
        if any(row.agreement is not None for row in rows):
            cells["labels"] = [_share(row.agreement) for row in rows]
        if any(row.p50 is not None for row in rows):
            cells["p50 s"] = [_seconds(row.p50) for row in rows]
            cells["p99 s"] = [_seconds(row.p99) for row in rows]
        if not self.deviation:
            del cells["RMSE/sd"]
        return cells

    def plot(self, ax: Any = None) -> Axes:
        """Error of each scheme, its cost, and its p99 where that is known.

        An open circle at the left end marks an error too small to draw.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            By default those of a new figure.

        Returns
        -------
        matplotlib Axes
        """
        import matplotlib.pyplot as plt  # noqa: PLC0415  optional

        if ax is None:
            ax = plt.subplots(figsize=(7.5, 4.5), layout="constrained")[1]
        shown = [row for row in self.rows if np.isfinite(row.rmse)]
        unit = self.deviation or 1.0
        least = 1e-4 * unit
        shown.sort(key=lambda row: row.rmse)
        names = [row.scheme for row in shown]
        errors = np.array([max(row.rmse, least) for row in shown]) / unit
        high = np.array([max(row.rmse_p95, least) for row in shown]) / unit
        at = np.arange(len(shown))[::-1]
        for y, row, error, worst in zip(at, shown, errors, high, strict=True):
            color = "C1" if row is self.rows[0] else "C0"
            ax.plot([error, worst], [y, y], color=color, lw=2, solid_capstyle="round")
            ax.plot(error, y, "o", color=color, mfc=color if row.rmse > least else "white")
            label = "  exact, " if row.rmse == 0.0 else "  "
            label += f"{row.cost:.1f} calls a task"
            if row.p99 is not None:
                label += f", p99 {_seconds(row.p99)}" + " s" * bool(np.isfinite(row.p99))
            ax.annotate(
                label, (worst, y), va="center", fontsize=8, color="0.35", annotation_clip=False
            )
        ax.set_yticks(at, names)
        ax.set_xscale("log")
        low, top = ax.get_xlim()
        ax.set_xlim(low, top * (top / low) ** 0.45)
        ax.set_xlabel(
            "error / deviation of the outputs: expected (dot) to 95th percentile of waves"
        )
        title = f"{_many(self.workers, 'worker')}, {_many(self.stragglers, 'straggler')}"
        ax.set_title(title, loc="left")
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
        drawn: Axes = ax
        return drawn


def _lines(columns: dict[str, list[str]]) -> list[str]:
    """Columns side by side, the first one aligned left, the others right."""
    placed = []
    for at, (title, cells) in enumerate(columns.items()):
        width = max(map(len, [title, *cells]))
        side = "<" if at == 0 else ">"
        placed.append([f"{cell:{side}{width}}" for cell in (title, *cells)])
    return ["  " + "  ".join(line) for line in zip(*placed, strict=True)]


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + "s" * (count != 1)


def _folded(text: str, width: int) -> str:
    indent = "      " if text.startswith(" ") else ""
    return textwrap.fill(text, max(20, width), subsequent_indent=indent, break_on_hyphens=False)


def _number(value: float) -> str:
    if np.isnan(value):
        return "-"
    return "0" if value == 0 else f"{value:.3g}"


def _share(value: float | None) -> str:
    if value is None or np.isnan(value):
        return "-"
    return f"{min(value, 0.999) if value < 1 else value:.1%}"  # not all is never shown as all


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if np.isfinite(value) else "never"
