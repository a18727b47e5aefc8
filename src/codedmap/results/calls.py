"""The calls of a job: a table, and a picture of it."""

from __future__ import annotations

import io
from collections import Counter, UserList
from collections.abc import Hashable
from typing import Any, NamedTuple

import numpy as np

from ..errors import many


class CallRecord(NamedTuple):
    """One call of a job."""

    rows: range | np.ndarray
    """Numbers of the rows that it computed; empty with a code, whose payloads are not rows."""
    chunk: int
    """Number of the chunk; without a code, of the call."""
    slot: int
    """With a code, the index of the payload."""
    worker: Hashable
    """Number of the worker in the engine."""
    host: str
    """Name of the machine where it ran; empty if it gave no answer."""
    start: float
    """Seconds from the call of `map` to the start of this call."""
    seconds: float
    """Seconds that ``fn`` took, or until the call was lost."""
    outcome: str
    """"answered", "late" (another call had answered), "crashed", "raised", "timed out", "not started" or
    "abandoned"."""
    kind: str
    """"first", "retry" or "hedge"."""


class CallTable(UserList[CallRecord]):
    """All calls of a job, in the order in which they ended.

    Parameters
    ----------
    records : sequence of CallRecord
    """

    def columns(self) -> dict[str, list[Any]]:
        """Each column as a list, as ``pandas.DataFrame`` takes them."""
        return {
            name: [record[field] for record in self]
            for field, name in enumerate(CallRecord._fields)
        }

    def count(self, value: Any) -> int:
        """How many calls had this outcome or are of this kind."""
        return sum(value in (record.outcome, record.kind) for record in self)

    def __str__(self) -> str:
        outcomes = Counter(record.outcome for record in self)
        kinds = Counter(r.kind for r in self if r.kind != "first")
        parts = [f"{count:,} {name}" for name, count in outcomes.most_common()]
        text = f"{many(len(self), 'call')}: {', '.join(parts)}" if parts else "no calls"
        return text + (f" ({', '.join(many(n, k) for k, n in kinds.items())})" if kinds else "")

    __repr__ = __str__


def new_figure(width: float = 8.0, height: float = 4.0) -> Any:
    """A figure of this size in inches, which a notebook shows even if pyplot was not imported."""
    from matplotlib.figure import Figure

    class Shown(Figure):
        def _repr_png_(self) -> bytes:
            content = io.BytesIO()
            self.savefig(content, format="png")
            return content.getvalue()

    return Shown(figsize=(width, height), layout="constrained")


_COLOURS = {
    "answered": "tab:blue",
    "late": "tab:gray",
    "abandoned": "tab:gray",
    "not started": "tab:gray",
    "crashed": "tab:red",
    "raised": "tab:orange",
    "timed out": "tab:purple",
}


def draw_timeline(calls: CallTable, axes: Any = None) -> Any:
    """A bar for each call from its start to its end, with a line of bars for each worker; see `MapResult.timeline`."""
    from matplotlib.patches import Patch

    if axes is None:
        axes = new_figure().add_subplot()
    workers = {name: line for line, name in enumerate(sorted({c.worker for c in calls}, key=str))}
    axes.barh(
        [workers[call.worker] for call in calls],
        [call.seconds for call in calls],
        left=[call.start for call in calls],
        height=0.8,
        color=[_COLOURS[call.outcome] for call in calls],
        edgecolor=["black" if call.kind == "hedge" else "white" for call in calls],
        linewidth=[1.0 if call.kind == "hedge" else 0.3 for call in calls],
    )
    seen = {call.outcome for call in calls}
    handles = [Patch(color=colour, label=name) for name, colour in _COLOURS.items() if name in seen]
    if any(call.kind == "hedge" for call in calls):
        handles.append(Patch(facecolor="none", edgecolor="black", label="hedge"))
    axes.legend(
        handles=handles,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=len(handles),
        frameon=False,
    )
    axes.set(xlabel="seconds", ylabel="worker", xlim=(0.0, None))
    axes.set_yticks(range(len(workers)), [str(name) for name in workers])
    return axes.figure
