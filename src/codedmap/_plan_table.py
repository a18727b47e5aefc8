"""What a plan found, for reading."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ._code import Code
from ._errors import InvalidArgument

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Plan", "PlanRow"]


@dataclass(frozen=True, slots=True, eq=False)
class PlanRow:
    """One scheme, measured on the sample."""

    scheme: str
    """What it is called."""
    code: Code | None
    """Ready for `map`; None for schemes that are no code."""
    tasks: int
    """K."""
    cost: float
    """Worker calls a task."""
    rmse: float
    """Expected root mean square error of all rows, in the outputs' unit; NaN if left out."""
    rmse_p95: float
    """What 95 % of waves stay below."""
    agreement: float | None
    """Share of rows whose largest output is the right one; None for a single output."""
    exact: float
    """Share of rows that are exact."""
    p50: float | None
    """Seconds until half of the waves are done, under the latency model; None without one."""
    p99: float | None
    """Seconds until 99 % are."""
    note: str = ""
    """Why it was left out, or what else there is to say."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Which scheme to use, and what was measured of each; print it for the table.

    Made by `plan`.
    """

    rows: tuple[PlanRow, ...]
    """All schemes, the recommended one first, then by error."""
    workers: int
    """N."""
    stragglers: int
    """S."""
    deviation: float
    """Root mean square over the outputs of their standard deviations, to compare errors with."""
    groups: int
    """Groups of sample rows that each scheme was tried on."""
    waves: int
    """Straggler sets that were replayed on each."""
    advice: str
    """A sentence: what to use, and why."""

    @property
    def code(self) -> Code:
        """The recommended code, with all that was learned from the sample."""
        code = self.rows[0].code
        if code is None:
            raise InvalidArgument("no scheme in this plan is a code")
        return code

    def __str__(self) -> str:
        columns = ["scheme", "K", "cost", "RMSE", "RMSE/sd", "p95", "exact"]
        labels = any(row.agreement is not None for row in self.rows)
        timed = any(row.p50 is not None for row in self.rows)
        columns += ["labels"] * labels + ["p50 s", "p99 s"] * timed
        lines = [columns]
        notes = []
        for row in self.rows:
            mark = ""
            if row.note:
                notes.append(row.note)
                mark = f" [{len(notes)}]"
            error = [_number(row.rmse), _number(row.rmse / self.deviation), _number(row.rmse_p95)]
            line = [row.scheme + mark, str(row.tasks), f"{row.cost:.2f}", *error, _share(row.exact)]
            line += [_share(row.agreement)] * labels
            line += [_seconds(row.p50), _seconds(row.p99)] * timed
            lines.append(line)
        width = [max(len(line[i]) for line in lines) for i in range(len(columns))]
        text = [
            f"{self.workers} workers, {self.stragglers} stragglers: {self.waves} straggler sets on "
            f"{self.groups} groups of sample rows"
        ]
        for line in lines:
            cells = [line[0].ljust(width[0])]
            cells += [cell.rjust(w) for cell, w in zip(line[1:], width[1:], strict=True)]
            text.append("  " + "  ".join(cells).rstrip())
        text += [f"  [{at}] {note}" for at, note in enumerate(notes, 1)]
        return "\n".join([*text, self.advice])

    def plot(self, ax: Any = None) -> Axes:
        """Error of each scheme against its cost, or against its p99 where that is known.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            To draw on; by default a new figure's.

        Returns
        -------
        matplotlib Axes
        """
        import matplotlib.pyplot as plt  # noqa: PLC0415  optional

        if ax is None:
            ax = plt.subplots(figsize=(7.5, 4.5), layout="constrained")[1]
        timed = any(row.p99 is not None for row in self.rows)
        shown = [row for row in self.rows if np.isfinite(row.rmse)]
        least = 1e-4 * self.deviation
        shown.sort(key=lambda row: row.rmse)
        names = [row.scheme for row in shown]
        errors = np.array([max(row.rmse, least) for row in shown]) / self.deviation
        high = np.array([max(row.rmse_p95, least) for row in shown]) / self.deviation
        at = np.arange(len(shown))[::-1]
        for y, row, error, worst in zip(at, shown, errors, high, strict=True):
            color = "C1" if row is self.rows[0] else "C0"
            ax.plot([error, worst], [y, y], color=color, lw=2, solid_capstyle="round")
            ax.plot(error, y, "o", color=color)
            told = f"  {row.cost:.1f} calls a task"
            if timed and row.p99 is not None:
                told += f", p99 {row.p99:.3g} s"
            ax.annotate(
                told, (worst, y), va="center", fontsize=8, color="0.35", annotation_clip=False
            )
        ax.set_yticks(at, names)
        ax.set_xscale("log")
        low, top = ax.get_xlim()
        ax.set_xlim(low, top * (top / low) ** 0.45)
        ax.set_xlabel(
            "error / deviation of the outputs: expected (dot) to 95th percentile of waves"
        )
        ax.set_title(f"{self.workers} workers, {self.stragglers} stragglers", loc="left")
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
        drawn: Axes = ax
        return drawn


def _number(value: float) -> str:
    if np.isnan(value):
        return "-"
    return "0" if value == 0 else f"{value:.3g}"


def _share(value: float | None) -> str:
    return "-" if value is None or np.isnan(value) else f"{value:.1%}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
