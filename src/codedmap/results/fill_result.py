"""The result of `fill`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import many
from .scatter import chosen, distinct_names, draw_rows
from .sobol import indices_of
from .status import Shown, Status, counts_in_words


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class FillResult(Shown):
    """Answers without gaps, and what is known of each; print it for a summary."""

    values: Any
    """Like ``y``: as given where known, in double precision, else estimated; NaN where a row is FAILED or MISSING."""
    stderr: Any
    """Like ``y``: 0 where known, a standard error above 0 where estimated, infinite where nothing is known. Of complex numbers
    its parts are those of their parts."""
    status: np.ndarray
    """(m,) int8: a `Status` for each row, the worst of its entries."""
    methods: tuple[str, ...]
    """For each output: how it was estimated."""
    left_out: np.ndarray
    """(q,): for each output the root mean square error of answers that are estimated from the others; NaN where no
    entry was estimated."""
    deviation: np.ndarray
    """(q,): for each output the standard deviation of the answers, to compare ``left_out`` with."""
    losses: str | None
    """The region where rows are lost more often than elsewhere, by their inputs or by outputs that are known, so that
    estimates may be biased; None if there is none."""
    outputs: tuple[str, ...]
    """Names of the outputs."""
    inputs: tuple[str, ...]
    """Names of the inputs."""
    _points: np.ndarray
    _flat: np.ndarray
    _errors: np.ndarray

    def __str__(self) -> str:
        lines = [f"{many(len(self.status), 'row')}: {counts_in_words(self.status)}"]
        width = max(map(len, self.outputs), default=0)
        shown = list(zip(self.outputs, self.methods, self.left_out, self.deviation, strict=True))
        for name, method, error, deviation in shown[:20]:
            share = f" ({error / deviation:.2%} of the deviation)" if deviation > 0.0 else ""
            off = (
                "" if np.isnan(error) else f"; off by {error:.3g}{share} where answers are left out"
            )
            lines.append(f"  {name:{width}}  {method}{off}")
        if len(shown) > 20:
            lines.append(f"  and {len(shown) - 20:,} more outputs")
        if self.losses is not None:
            lines.append(f"  not lost at random: {self.losses}")
        return "\n".join(lines)

    def sobol(
        self,
        problem: Mapping[str, Any] | None = None,
        *,
        calc_second_order: bool = True,
        draws: int = 50,
        seed: int = 1,
        **options: Any,
    ) -> dict[str, Any]:
        """Sobol indices of each output, as by `SweepResult.sobol`; X is a sample of SALib's for the ``problem``.

        The columns of an array are in the order of the problem's names.
        """
        names = list(problem["names"]) if isinstance(problem, Mapping) else []
        unnamed = self.inputs == tuple(f"x{k}" for k in range(len(names)))
        columns = names if unnamed else self.inputs
        return indices_of(
            dict(zip(columns, self._points.T, strict=True)),
            self.status,
            dict(zip(self.outputs, self._flat.T, strict=True)),
            dict(zip(self.outputs, self._errors.T, strict=True)),
            problem,
            second=calc_second_order,
            draws=draws,
            seed=seed,
            options=options,
        )

    def plot(self, output: int | str = 0, axes: Any = None) -> Any:
        """Draw an output against the inputs, as `MapResult.plot` does.

        Parameters
        ----------
        output : int or str
            Its number or name.
        axes : matplotlib.axes.Axes, or a sequence or array of them, optional
            One for each input that is drawn.
        """
        column = chosen(self.outputs, output)
        values, errors = self._flat[:, column], self._errors[:, column]
        known, estimated = errors == 0.0, (errors > 0.0) & np.isfinite(errors)
        lost = np.where(self.status == Status.FAILED, Status.FAILED, Status.MISSING)
        status = np.select([known, estimated], [Status.EXACT, Status.ESTIMATED], lost)
        inputs = dict(zip(distinct_names(self.inputs), self._points.T, strict=True))
        name = self.outputs[column]
        return draw_rows(inputs, {name: values}, {name: errors}, 0, status=status, axes=axes)
