"""The result of `sweep`, and Sobol indices of it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy

from ..contracts.arguments import check_whole
from ..errors import InvalidArgument, NotEnoughAnswers, many
from .map_result import MapResult
from .scatter import draw_rows
from .status import RowResult, Status, counts_in_words
from .summary import failures_lines, outputs_lines
from .trees import entries_of

_INDICES = "S1", "ST", "S2"
_FREEDOM = 5  # degrees of freedom of the scale that the errors of a draw share


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
        return "\n".join([*lines, *failures_lines(self.failures, self.status)])

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
        check_whole("draws", draws, 2)
        check_whole("seed", seed, 1)
        problem = self._problem if problem is None else problem
        if not isinstance(problem, Mapping):
            raise InvalidArgument(
                f"{problem=!r} is none of SALib's, and the design brought none: give that of which it is a sample"
            )
        analyze = importlib.import_module("SALib.analyze.sobol").analyze
        self._check_sampled(problem, calc_second_order)
        options |= {"calc_second_order": calc_second_order, "seed": seed}
        # Half-widths of draws are not used, so that the fewest resamples do.
        quick = {"calc_second_order": calc_second_order, "seed": seed, "num_resamples": 2}
        outputs = list(self._outputs())
        if not outputs:
            raise InvalidArgument(
                "no output is a real number: there are no indices of text and objects"
            )
        rng = np.random.default_rng(seed)
        found: dict[str, Any] = {}
        for name, values, stderr in outputs:
            indices = found[name] = analyze(problem, values, **options)
            count = draws if stderr.any() else 1
            drawn = [analyze(problem, y, **quick) for y in drawn_rows(values, stderr, count, rng)]
            for index in _INDICES:
                if index in indices:
                    differences = np.array([draw[index] for draw in drawn]) - indices[index]
                    indices[f"{index}_std"] = np.sqrt((differences**2).mean(axis=0))
        return found

    def _outputs(self) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """The name, the values (m,) and the standard errors (m,) of each entry of the outputs."""
        lost = [int((self.status == one).sum()) for one in (Status.FAILED, Status.MISSING)]
        if any(lost):
            raise NotEnoughAnswers(
                f"{lost[0]:,} of {len(self.status):,} rows failed and {lost[1]:,} are missing, and Sobol indices need all: "
                "estimate them from the others by codedmap.fill(X, y).values, which SALib takes, or have rows that are "
                "late estimated, by sweep(..., deadline=)"
            )
        stderr = entries_of(self.stderr)
        for name, output in entries_of(self.values).items():
            if output.dtype.kind not in "biuf":
                continue
            values = output.astype(np.float64)
            bad = ~np.isfinite(values)
            if bad.any():
                raise NotEnoughAnswers(
                    f"{name} is not finite in {bad.sum():,} rows (the first is row {bad.argmax()}), and Sobol "
                    "indices need all: let fn return finite numbers, or leave it out"
                )
            yield name, values, stderr[name]

    def _check_sampled(self, problem: Mapping[str, Any], second: bool) -> None:
        """Raise `InvalidArgument` if the rows are not a Saltelli sample: their indices would be meaningless."""
        names = list(problem["names"])
        unknown = [name for name in names if name not in self._inputs]
        if unknown:
            raise InvalidArgument(
                f"the problem names {', '.join(map(repr, unknown))}, and the design has the columns "
                f"{', '.join(self._inputs)}: give the problem of which it is a sample"
            )
        groups, count = importlib.import_module("SALib.util").extract_group_names(problem)
        group_of = list(problem.get("groups") or names)
        member = np.array([[group == own for own in group_of] for group in groups])
        rows, step = len(self.status), (2 if second else 1) * count + 2
        points = np.stack([self._inputs[name] for name in names], axis=1)
        wrong = None
        if rows % step:
            wrong = f"{many(rows, 'row')}, and such a sample has a multiple of {step}"
        else:
            block = points.reshape(-1, step, len(names))
            first, last = block[:, :1], block[:, -1:]
            expected = [first, np.where(member, last, first)]
            expected += [np.where(member, first, last)] * second + [last]
            differ = (np.concatenate(expected, axis=1) != block).any(axis=2).ravel()
            if differ.any():
                wrong = f"row {differ.argmax()} is not what such a sample has there"
        if wrong is not None:
            raise InvalidArgument(
                f"the design is not a sample of SALib.sample.sobol for {count} parameters or groups with "
                f"calc_second_order={second}: {wrong}. Give the sample as it is, in its order, and calc_second_order as it "
                "was made"
            )


def drawn_rows(
    values: np.ndarray, stderr: np.ndarray, draws: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Draws of the values by their standard errors, each of the same shape.

    The errors of one draw share a scale, because the standard errors of an output may all be too large or too small. With
    it intervals of Sobol indices hold. That neighbours have similar errors matters little (results/sweeps.md).
    """
    # Scales are quantiles: if they were drawn, the largest of a few would decide the standard deviation.
    shares = (np.arange(draws) + 0.5) / draws
    for scale in np.sqrt(_FREEDOM / scipy.special.chdtri(_FREEDOM, shares)):
        yield values + scale * stderr * rng.standard_normal(values.shape)
