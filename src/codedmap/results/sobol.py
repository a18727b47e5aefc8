"""Sobol indices of outputs of which some are estimated."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import scipy

from ..contracts.arguments import check_whole
from ..errors import InvalidArgument, NotEnoughAnswers, many
from .status import Status

_INDICES = "S1", "ST", "S2"
_FREEDOM = 5  # degrees of freedom of the scale that the errors of a draw share


def indices_of(
    inputs: Mapping[str, np.ndarray],
    status: np.ndarray,
    values: Mapping[str, np.ndarray],
    stderr: Mapping[str, np.ndarray],
    problem: Any,
    *,
    second: bool,
    draws: int,
    seed: int,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """As `SweepResult.sobol`, of the entries (m,) of outputs and the columns (m,) of inputs."""
    check_whole("draws", draws, 2)
    check_whole("seed", seed, 1)
    if not isinstance(problem, Mapping):
        raise InvalidArgument(
            f"{problem=!r} is none of SALib's, and the design brought none: give that of which it is a sample"
        )
    analyze = importlib.import_module("SALib.analyze.sobol").analyze
    _check_sampled(inputs, len(status), problem, second)
    options = {**options, "calc_second_order": second, "seed": seed}
    # Half-widths of draws are not used, so that the fewest resamples do.
    quick = {"calc_second_order": second, "seed": seed, "num_resamples": 2}
    outputs = list(_outputs(status, values, stderr))
    if not outputs:
        raise InvalidArgument(
            "no output is a real number: there are no indices of text and objects"
        )
    rng = np.random.default_rng(seed)
    found: dict[str, Any] = {}
    for name, output, errors in outputs:
        indices = found[name] = analyze(problem, output, **options)
        count = draws if errors.any() else 1
        drawn = [analyze(problem, y, **quick) for y in drawn_rows(output, errors, count, rng)]
        for index in _INDICES:
            if index in indices:
                differences = np.array([draw[index] for draw in drawn]) - indices[index]
                indices[f"{index}_std"] = np.sqrt((differences**2).mean(axis=0))
    return found


def _outputs(
    status: np.ndarray, values: Mapping[str, np.ndarray], stderr: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """The name, the values (m,) and the standard errors (m,) of each entry of the outputs."""
    lost = [int((status == one).sum()) for one in (Status.FAILED, Status.MISSING)]
    if any(lost):
        raise NotEnoughAnswers(
            f"{lost[0]:,} of {len(status):,} rows failed and {lost[1]:,} are missing, and Sobol indices need all: "
            "estimate them from the others by codedmap.fill(X, y).sobol(problem), or have rows that are "
            "late estimated, by sweep(..., deadline=)"
        )
    for name, output in values.items():
        if output.dtype.kind not in "biuf":
            continue
        numbers = output.astype(np.float64)
        bad = ~np.isfinite(numbers)
        if bad.any():
            raise NotEnoughAnswers(
                f"{name} is not finite in {bad.sum():,} rows (the first is row {bad.argmax()}), and Sobol "
                "indices need all: let fn return finite numbers, or leave it out"
            )
        yield name, numbers, stderr[name]


def _check_sampled(
    inputs: Mapping[str, np.ndarray], rows: int, problem: Mapping[str, Any], second: bool
) -> None:
    """Raise `InvalidArgument` if the rows are not a Saltelli sample: their indices would be meaningless."""
    names = list(problem["names"])
    unknown = [name for name in names if name not in inputs]
    if unknown:
        raise InvalidArgument(
            f"the problem names {', '.join(map(repr, unknown))}, and the design has the columns "
            f"{', '.join(inputs)}: give the problem of which it is a sample"
        )
    groups, count = importlib.import_module("SALib.util").extract_group_names(problem)
    group_of = list(problem.get("groups") or names)
    member = np.array([[group == own for own in group_of] for group in groups])
    step = (2 if second else 1) * count + 2
    points = np.stack([inputs[name] for name in names], axis=1)
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
