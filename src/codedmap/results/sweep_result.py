"""The result of `sweep`, and Sobol indices of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import many
from .map_result import MapResult
from .scatter import draw_rows
from .sobol import indices_of
from .status import RowResult, counts_in_words
from .summary import failures_lines, outputs_lines
from .trees import entries_of


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class SweepResult(RowResult):
    """The outputs of all m rows of a design beside it, and what is known of each; print it for a summary."""

    table: Any
    """The design with a column for each output, ``<output>_stderr`` for each output that is a number, ``status``, and
    ``error`` if a row failed. Of the kind of the design; of a sample of SALib's a pandas frame. Standard errors are 0
    where a row is exact, and NaN where it has no value."""
    values: dict[str, np.ndarray]
    """(m, *y) for each output: NaN, or None among objects, where a row is FAILED or MISSING. Without any answer there
    are no outputs."""
    stderr: dict[str, np.ndarray]
    """(m, *y) for each output that is a number, as in the table."""
    status: np.ndarray
    """(m,) int8: a `Status` for each row."""
    failures: Mapping[int, BaseException]
    """Numbers of the rows that are FAILED, from 0, with their exceptions, which have the worker's traceback; and of those
    that ran too long, with ``on_timeout="estimate"``."""
    run: MapResult
    """The job: its calls and times. With ``unique=True`` its rows are the distinct ones."""
    _inputs: Mapping[str, np.ndarray]
    _problem: Mapping[str, Any] | None
    _equal: int
    _of: Callable[[MapResult], SweepResult]

    def __str__(self) -> str:
        rows = many(len(self.status), "row")
        if len(self.run.status) < len(self.status):
            rows += f" ({len(self.run.status):,} distinct)"
        lines = [
            f"{rows} in {self.run.seconds:.2f} s: {counts_in_words(self.status)}",
            f"  inputs     {', '.join(self._inputs)}",
            f"  outputs    {', '.join(self.values) or 'none'}",
        ]
        lines += outputs_lines(entries_of(self.values), entries_of(self.stderr), self.status)
        if self._equal:
            lines.append(
                f"  note       rows that equal earlier ones: {self._equal:,}; unique=True computes equal rows once"
            )
        return "\n".join(
            [*lines, *self.run.hurried_lines(), *failures_lines(self.failures, self.status)]
        )

    def refill(self) -> SweepResult:
        """The same result with thorough estimates, as `MapResult.refill`."""
        return self._of(self.run.refill())

    def timeline(self, axes: Any = None) -> Any:
        """Draw the calls, as `MapResult.timeline` does."""
        return self.run.timeline(axes)

    def plot(self, output: int | str = 0, axes: Any = None) -> Any:
        """Draw an output against the inputs of the design, as `MapResult.plot` does.

        Parameters
        ----------
        output : int or str
            Its number, or its name in a frame, such as "flow", or "flow_2" for an entry of an array.
        axes : matplotlib.axes.Axes, or a sequence or array of them, optional
            One for each input that is drawn.
        """
        outputs, errors = entries_of(self.values), entries_of(self.stderr)
        return draw_rows(self._inputs, outputs, errors, output, status=self.status, axes=axes)

    def sobol(
        self,
        problem: Mapping[str, Any] | None = None,
        *,
        calc_second_order: bool = True,
        draws: int = 50,
        seed: int = 1,
        **options: Any,
    ) -> dict[str, Any]:
        """Sobol indices of each output that is a real number, by ``SALib.analyze.sobol``.

        Rows that are estimated add to the uncertainty of the indices: they are drawn with their standard errors, and the
        indices computed for each draw. The errors of a draw share a scale, because standard errors are not known
        exactly either: together they have Student's distribution with 5 degrees of freedom.

        Parameters
        ----------
        problem : dict, optional
            SALib's problem. By default that of the design.
        calc_second_order : bool
            As for ``SALib.sample.sobol``, with which the sample was made.
        draws : int
            How often estimated rows are drawn; at least 2.
        seed : int
            Seed of the draws and of SALib's bootstrap; at least 1.
        **options
            Further arguments of ``SALib.analyze.sobol.analyze``, such as ``conf_level``.

        Returns
        -------
        dict
            For each output SALib's result: for each index ``S1``, ``ST`` and ``S2`` its value, ``S1_conf`` and so on its
            confidence half-width, and in addition ``S1_std`` and so on the root mean square difference of the draws from
            it, 0 if no row is estimated. An output that is the same in all rows has indices of 0.

        Raises
        ------
        InvalidArgument
            If there is no problem, or the rows are not a sample of ``SALib.sample.sobol`` for it, in its order.
        NotEnoughAnswers
            If a row is FAILED or MISSING, or an output is not finite.
        ImportError
            If SALib is not installed.
        """
        return indices_of(
            self._inputs,
            self.status,
            entries_of(self.values),
            entries_of(self.stderr),
            self._problem if problem is None else problem,
            second=calc_second_order,
            draws=draws,
            seed=seed,
            options=options,
        )
