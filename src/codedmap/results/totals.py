"""The totals of the waves of a long run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from .map_result import MapResult

__all__ = ["Totals", "record_of"]


@dataclass(frozen=True, slots=True)
class Totals:
    """Totals of all waves of a run so far, including those before it was resumed; print it for a summary."""

    waves: int = 0
    """How many."""
    rows: int = 0
    """Rows in these."""
    exact: int = 0
    """Rows answered exactly."""
    unknown: int = 0
    """Rows that were not decoded, which are NaN, with ``throw=False``."""
    stderr: float | None = None
    """The largest finite standard error of all rows; None if the code has none."""
    calls: int = 0
    """Calls sent to workers."""
    late: int = 0
    """Calls that had not answered when their wave was over."""
    failed: int = 0
    """Calls that raised, or whose worker died."""
    rejected: int = 0
    """Workers with a rejected answer, added up over the waves."""
    hedges: int = 0
    """Tasks sent a second time."""
    seconds: float = 0.0
    """Time of the waves, without reading and writing."""

    @classmethod
    def of(cls, records: Iterable[Mapping[str, Any]]) -> Totals:
        """The totals of these records."""
        return reduce(cls.plus, records, cls())

    def plus(self, record: Mapping[str, Any]) -> Totals:
        """The totals with one more record."""
        sums: dict[str, Any] = {name: getattr(self, name) + record[name] for name in _COUNTS}
        known = [one for one in (self.stderr, record["stderr"]) if one is not None]
        return Totals(waves=self.waves + 1, stderr=max(known, default=None), **sums)

    def __str__(self) -> str:
        lines = [
            f"{self.rows:,} rows in {self.waves:,} waves, which took {self.seconds:.2f} s",
            f"  rows       {self._rows()}",
            f"  calls      {self.calls:,} sent, {self.late:,} late, {self.failed:,} failed, "
            f"{self.rejected:,} rejected",
        ]
        if self.hedges:
            lines.append(f"  hedges     {self.hedges:,}")
        return "\n".join(lines)

    def _rows(self) -> str:
        parts = [f"{self.exact:,} of {self.rows:,} exact"]
        if self.exact < self.rows:
            rest = f"{self.rows - self.exact:,} estimated"
            known = "this code has no standard errors"
            if self.stderr is not None:
                known = f"standard error up to {self.stderr:.3g}"
            parts.append(f"{rest} ({known})")
            if self.unknown:
                parts.append(f"{self.unknown:,} of these with nothing known")
        return ", ".join(parts)


_COUNTS = (
    "rows", "exact", "unknown", "calls", "late", "failed", "rejected", "hedges", "seconds"
)  # fmt: skip


def record_of(result: MapResult) -> dict[str, Any]:
    """The record of a wave, as JSON can hold it."""
    finite = None if result.stderr is None else result.stderr[np.isfinite(result.stderr)]
    unknown = 0 if result.stderr is None else int((~np.isfinite(result.stderr)).sum())
    return {
        "rows": len(result.values),
        "exact": int(result.exact.sum()),
        "unknown": unknown,
        "stderr": None if finite is None else float(finite.max(initial=0.0)),
        "calls": len(result.answered) + len(result.abandoned) + len(result.failed) + result.hedges,
        "answered": len(result.answered),
        "late": len(result.abandoned),
        "failed": len(result.failed),
        "rejected": len(result.rejected),
        "hedges": result.hedges,
        "outcome": result.outcome.value,
        "seconds": round(result.seconds, 6),
    }
