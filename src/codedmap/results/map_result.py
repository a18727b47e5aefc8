"""The result of `map`, or of a `stream` so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..contracts.code import Code
from ..contracts.stopping import Outcome
from .plan import Plan
from .summary import heading, workers_lines

__all__ = ["MapResult"]


@dataclass(frozen=True, slots=True, eq=False)
class MapResult:
    """The values of all m rows, and which workers answered; print it for a summary."""

    values: np.ndarray
    """(m, *y): row i is the value of input row i; NaN for rows that were not decoded, with ``throw=False``."""
    stderr: np.ndarray | None
    """(m,): standard error of the root mean square over a row's outputs; 0 where exact, infinite
    where nothing is known; None if the code has none."""
    exact: np.ndarray
    """(m,) bool: answered on its own raw input, and not rejected."""
    answered: tuple[int, ...]
    """Slots whose answer had come when waiting ended."""
    abandoned: tuple[int, ...]
    """Slots that were still running when waiting ended, stragglers or merely the last. With
    `Outcome.WAITING` they still run."""
    failed: Mapping[int, BaseException]
    """What went wrong, by slot."""
    rejected: tuple[int, ...]
    """Slots with at least one rejected answer."""
    outcome: Outcome
    """Why waiting ended; `Outcome.WAITING` in all results of a `stream` but the last."""
    seconds: float
    """From the first payload sent to the last row decoded."""
    learned: Any = None
    """What the code learned from the answers, for its own ``fitted``; None for most codes."""
    code: Code | None = None
    """The code that was used."""
    plan: Plan | None = None
    """The plan that chose the code, with ``code="auto"``."""
    hedges: int = 0
    """Tasks that were sent a second time; see `Hedge`."""
    saved: np.ndarray | None = None
    """(m,) bool: exact because a hedge answered first; None without hedging."""

    @property
    def calls(self) -> int:
        """Calls sent to workers, including hedges."""
        return len(self.answered) + len(self.abandoned) + len(self.failed) + self.hedges

    def __str__(self) -> str:
        running = "running" if self.outcome is Outcome.WAITING else "abandoned"
        lines = [
            heading(self.answered, self.abandoned, self.failed, self.seconds, self.outcome),
            f"  rows       {self._rows()}",
            *([] if self.plan is None else [f"  code       {self.plan.choice}"]),
            *workers_lines({running: self.abandoned, "rejected": self.rejected}, self.failed),
        ]
        if self.hedges:
            saved = 0 if self.saved is None else int(self.saved.sum())
            lines.append(f"  hedges     {self.hedges}: {saved:,} rows saved")
        return "\n".join(lines)

    def _rows(self) -> str:
        total = len(self.values)
        exact = int(self.exact.sum())
        parts = [f"{exact:,} of {total:,} exact"]
        if exact < total:
            rest = f"{total - exact:,} estimated"
            if self.stderr is None:
                rest += " (this code has no standard errors)"
            else:
                stated = self.stderr[~self.exact]
                known = stated[np.isfinite(stated)]
                if len(known):
                    rest += f" (standard error up to {known.max():.3g})"
                if len(known) < len(stated):
                    rest += f", {len(stated) - len(known):,} of these with nothing known"
            parts.append(rest)
        if self.values.dtype.kind in "fc":
            odd = int((~np.isfinite(self.values.reshape(total, -1)).all(axis=1)).sum())
            if odd:
                parts.append(f"{odd:,} with entries that are not finite")
        return ", ".join(parts)
