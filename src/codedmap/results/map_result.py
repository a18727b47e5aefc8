"""The result of `map`, or of a `stream` so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..contracts.answers import root_mean_square
from ..contracts.code import Code
from ..contracts.stopping import Outcome
from ..errors import InvalidArgument, many
from .calls import CallTable, draw_timeline
from .plan import Plan
from .scatter import columns_of, draw_rows
from .status import RowResult, Status, counts_in_words
from .summary import failures_lines, heading, workers_lines
from .trees import entries_of, error_leaves, leaves, read_columns, read_errors


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class MapResult(RowResult):
    """The values of all m rows and what is known of each; print it for a summary."""

    values: Any
    """(m, *y): row i is the value of input row i; NaN, or None among objects, where it is FAILED or MISSING.
    Where ``fn`` returns a tuple, dict or dataclass of arrays, one of these with a row per input in each. With ``out``
    what was written there, opened for reading: a memory map, Zarr arrays, or a ``pyarrow.parquet.ParquetFile``;
    integers are 0 where nothing is known."""
    stderr: Any
    """Standard errors, like ``values``: 0 where exact, infinite where nothing is known. None if the code has none, and
    with ``out`` if no row was estimated with one. In a Parquet file they are columns named ``<column>_stderr``."""
    status: np.ndarray
    """(m,) int8: a `Status` for each row."""
    failures: Mapping[int, BaseException]
    """Numbers of the rows that are FAILED, with their exceptions, which have the worker's traceback; and of those that ran
    too long, with ``on_timeout="estimate"``."""
    rejected: tuple[int, ...]
    """Workers with at least one rejected answer."""
    outcome: Outcome
    """Why waiting ended; `Outcome.WAITING` in all results of a `stream` but the last."""
    seconds: float
    """Seconds from the call of `map` to the last row."""
    worker_seconds: float = 0.0
    """Seconds of all calls with an answer together."""
    calls: CallTable = field(default_factory=CallTable)
    """All calls; those that still ran when the job ended are "abandoned"."""
    answered: tuple[int, ...] = ()
    """With a code: slots (indices of payloads) that had an answer when waiting ended, from whichever worker."""
    abandoned: tuple[int, ...] = ()
    """With a code: slots without an answer whose calls have not failed: stragglers, or merely the last. With
    `Outcome.WAITING` they still run."""
    failed: Mapping[int, BaseException] = field(default_factory=dict)
    """With a code: slots whose calls failed, with their exceptions."""
    code: Code | None = None
    """The code that was used."""
    plan: Plan | None = None
    """The plan that chose the code, with ``code="auto"``; None if a deadline passed before there was one."""
    hedges: int = 0
    """Calls that were sent again because they were late."""
    hurried: bool = False
    """Whether there was no time for estimates as good as those of `refill`."""
    _refill: Callable[[MapResult], MapResult] | None = None

    def refill(self) -> MapResult:
        """The same result with thorough estimates of the rows that are ESTIMATED or MISSING, as `fill` makes.

        They are made from the exact rows, and the answers that were known beforehand, and take the time that they need. Rows
        that FAILED are not estimated.

        Raises
        ------
        InvalidArgument
            If the inputs or the answers are not in memory, as with ``out``, or the result is not the last of a `stream`.
        NotEnoughAnswers
            If no row can be estimated: inputs or answers are not numbers, or too few rows are exact.
        """
        if not np.isin(self.status, (Status.ESTIMATED, Status.MISSING)).any():
            return self
        if self._refill is None:
            raise InvalidArgument(
                "this result has no inputs and answers in memory to estimate from: read them, make the answers NaN where status is "
                "not EXACT, and give them to codedmap.fill(X, y)"
            )
        return self._refill(self)

    def hurried_lines(self) -> list[str]:
        """A line if there was little time for estimates, and there may be better ones."""
        if not self.hurried or self._refill is None:
            return []
        return ["  hurried    estimates had little time: result.refill() makes thorough ones"]

    def row_stderr(self) -> np.ndarray | None:
        """(m,): the root mean square of the standard errors of each row's outputs; None if there are none."""
        if self.stderr is None:
            return None
        flat = [leaf.reshape(len(leaf), -1) for leaf in error_leaves(self.stderr)]
        return root_mean_square(np.concatenate(flat, axis=1))

    def timeline(self, axes: Any = None) -> Any:
        """Draw the calls: a bar for each, from its start to its end, in the line of its worker.

        Parameters
        ----------
        axes : matplotlib.axes.Axes, optional
            By default those of a new figure.

        Returns
        -------
        matplotlib.figure.Figure
            A notebook shows it; ``savefig`` writes it to a file.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        return draw_timeline(self.calls, axes)

    def plot(self, inputs: Any, output: int | str = 0, axes: Any = None) -> Any:
        """Draw an output against the inputs: what is exact, what is estimated, with standard errors, and where rows failed.

        Parameters
        ----------
        inputs : array, data frame, dict or tuple
            The inputs of the job, with m rows.
        output : int or str
            Its number, or its name: that of a key or field, followed by the index of an entry, such as "flow_2"; of an
            array "y", "y_0" and so on.
        axes : matplotlib.axes.Axes, or a sequence or array of them, optional
            One for each input that is drawn. By default those of a new figure, for the inputs with which the output
            varies most, at most six.

        Returns
        -------
        matplotlib.figure.Figure
            A notebook shows it; ``savefig`` writes it to a file.

        Raises
        ------
        InvalidArgument
            If there is no such output, it is not a real number, or the inputs do not have m rows.
        ImportError
            If matplotlib is not installed.
        """
        columns = columns_of(inputs)
        others = [len(column) for column in columns.values() if len(column) != len(self.status)]
        if others:
            raise InvalidArgument(
                f"the result has {many(len(self.status), 'row')} and the inputs have {others[0]:,}: give the inputs of this job"
            )
        values, stderr = self.values, read_errors(self.stderr)
        if hasattr(values, "read"):
            values = read_columns(values, self.status <= Status.ESTIMATED)
            if set(values) == {"values"} and not self.values.before:
                values, stderr = values["values"], (stderr or {}).get("values", {})
        outputs, errors = entries_of(values), {} if stderr is None else entries_of(stderr)
        return draw_rows(columns, outputs, errors, output, status=self.status, axes=axes)

    def __str__(self) -> str:
        resumed = not len(self.calls) and self.outcome is Outcome.EXACT
        if self.code is None or resumed:
            first = (
                f"{many(len(self.status), 'row')} in {self.seconds:.2f} s: {counts_in_words(self.status)}; "
                f"{self.outcome.value}"
            )
            second, rest = f"  calls      {self.calls}", failures_lines(self.failures, self.status)
            if resumed:
                second += ": every row was there already"
            if self.stderr is not None and (self.status == Status.ESTIMATED).any():
                rest.append(f"  estimates  standard error up to {self._worst():.3g}")
            rest += self.hurried_lines()
            nonfinite = self._nonfinite()
            if nonfinite.any():
                rows = f"{many(int(nonfinite.sum()), 'row')} (the first is {nonfinite.argmax()})"
                rest.append(f"  not finite entries of {rows}")
        else:
            running = "running" if self.outcome is Outcome.WAITING else "abandoned"
            groups = {running: self.abandoned, "rejected": self.rejected}
            first, second = heading(self), f"  rows       {self._rows()}"
            rest = [
                *failures_lines(self.failures, self.status),
                *workers_lines(groups, self.failed),
            ]
            if self.hedges:
                rest.append(f"  hedges     {self.hedges}")
            rest += self.hurried_lines()
        plan = [] if self.plan is None else [f"  plan       {self.plan.choice}"]
        return "\n".join([first, second, *plan, *rest])

    def _rows(self) -> str:
        total = len(self.status)
        exact, estimated, failed, missing = (int((self.status == s).sum()) for s in Status)
        errors = "this code has no standard errors"
        if estimated and self.stderr is not None:
            errors = f"standard error up to {self._worst():.3g}"
        counts = {
            f"estimated ({errors})": estimated,
            "failed": failed,
            "missing": missing,
            "with entries that are not finite": self._nonfinite().sum(),
        }
        parts = (f"{count:,} {what}" for what, count in counts.items() if count)
        return ", ".join([f"{exact:,} of {total:,} exact", *parts])

    def _worst(self) -> float:
        """The largest standard error of an estimate."""
        rows = self.status == Status.ESTIMATED
        return float(max(leaf[rows].max(initial=0.0) for leaf in error_leaves(self.stderr)))

    def _nonfinite(self) -> np.ndarray:
        """(m,) bool: rows with a value that is not finite; values in a file are not looked at."""
        nonfinite = np.zeros(len(self.status), dtype=bool)
        for leaf in leaves(self.values):
            if type(leaf) is np.ndarray and leaf.dtype.kind in "fc":  # not in a file
                own = leaf[: len(nonfinite)]  # an array that was given may have more rows
                nonfinite |= ~np.isfinite(own).all(axis=tuple(range(1, own.ndim)))
        return nonfinite & (self.status <= Status.ESTIMATED)
