"""Pictures of an output against the inputs: what is exact, what is estimated, and where rows failed or are missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, count
from numbers import Integral
from typing import Any

import numpy as np

from ..errors import InvalidArgument
from .calls import new_figure
from .status import Status

_PANELS, _BESIDE = 6, 3  # panels, one for each input, and panels beside each other, at most
_WIDTH, _HEIGHT, _MARGIN = 3.2, 2.6, 0.6  # inches, of a panel and around all
_ROWS = 4000  # exact rows that are drawn, at most, and as many others
_CATEGORIES, _NAME = 12, 20  # categories that an axis names, and letters of a name, at most
_PARTS = 10  # parts of the rows, in the order of an input, whose means are compared
_EXACT = {"color": "0.7", "markersize": 3, "label": "exact"}
_ESTIMATED = {"color": "C0", "markersize": 4, "elinewidth": 0.8, "label": "estimated"}
_EDGE = {"failed": {"color": "C3", "clip_on": False}, "missing": {"color": "C1", "clip_on": False}}
_LEGEND = {"loc": "best", "frameon": False, "fontsize": "small"}


def draw_rows(
    inputs: Mapping[str, np.ndarray],
    outputs: Mapping[str, np.ndarray],
    errors: Mapping[str, np.ndarray],
    output: int | str,
    *,
    status: np.ndarray,
    axes: Any,
) -> Any:
    """A figure with a panel for each of the inputs (m,) with which an output varies most; a panel shows the rows."""
    name = list(outputs)[chosen(outputs, output)]
    values, stderr = outputs[name], errors.get(name, np.zeros(len(status)))
    if values.dtype.kind not in "biuf":
        raise InvalidArgument(
            f"output {name!r} is of dtype {values.dtype}, and only real numbers are drawn: choose another as output="
        )
    rng = np.random.default_rng(0)
    drawn = np.zeros(len(status), dtype=bool)
    for rows in (np.flatnonzero(status == 0), np.flatnonzero(status != 0)):
        drawn[rng.permutation(rows)[:_ROWS]] = True
    positions = {label: _positions(column[drawn]) for label, column in inputs.items()}
    values, stderr, status = values[drawn].astype(np.float64), stderr[drawn], status[drawn]
    status = np.where((status <= Status.ESTIMATED) & ~np.isfinite(values), Status.MISSING, status)
    exact, estimated, failed, missing = (status == one for one in Status)
    order = _strongest([at for at, _ in positions.values()], values, exact)
    axes = None if axes is None else np.ravel(np.asarray(axes, dtype=object)).tolist()
    shown = order[: _PANELS if axes is None else len(axes)]
    if axes is None:
        columns = min(_BESIDE, len(shown))
        lines = -(-len(shown) // columns)
        figure = new_figure(width=_WIDTH * columns + _MARGIN, height=_HEIGHT * lines + _MARGIN)
        axes = [figure.add_subplot(lines, columns, k + 1) for k in range(len(shown))]
    for panel, label in zip(axes, [list(positions)[k] for k in shown], strict=False):
        at, categories = positions[label]
        panel.plot(at[exact], values[exact], ".", **_EXACT)
        if estimated.any():
            bars = stderr[estimated]
            panel.errorbar(at[estimated], values[estimated], bars, fmt=".", **_ESTIMATED)
        edge = panel.get_xaxis_transform()
        for rows, text in ((failed, "failed"), (missing, "missing")):
            if rows.any():
                low = np.zeros(rows.sum())
                panel.plot(at[rows], low, "|", transform=edge, label=text, **_EDGE[text])
        panel.set(xlabel=label, ylabel=name)
        if categories:
            panel.set_xticks(range(len(categories)), [one[:_NAME] for one in categories])
    axes[0].legend(**_LEGEND)
    return axes[0].figure


def _positions(column: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """The positions (m,) of rows along an axis, and their names if the input is not numbers."""
    if column.dtype.kind in "biufmM":
        return column, []
    text = np.array([str(value) for value in column])
    categories, positions = np.unique(text, return_inverse=True)
    return positions, categories.tolist() if len(categories) <= _CATEGORIES else []


def _strongest(inputs: Sequence[np.ndarray], values: np.ndarray, known: np.ndarray) -> list[int]:
    """The numbers of inputs, first those with which the means of an output over parts of the rows vary most."""
    values = values[known]
    if not len(values):
        return list(range(len(inputs)))
    spread = []
    for at in inputs:
        parts = np.array_split(
            values[np.argsort(at[known], kind="stable")], min(_PARTS, len(values))
        )
        spread.append(np.std([part.mean() for part in parts]))
    return [int(k) for k in np.argsort(-np.array(spread), kind="stable")]


def columns_of(inputs: Any) -> dict[str, np.ndarray]:
    """The inputs of a job as columns (m,): those of a frame, a dict or a tuple of inputs, or of the numbers in an array."""
    if isinstance(inputs, tuple):
        parts = [columns_of(part) for part in inputs]
        return {f"{k}: {name}": c for k, part in enumerate(parts) for name, c in part.items()}
    if isinstance(inputs, Mapping) or hasattr(inputs, "columns"):
        names = list(inputs if isinstance(inputs, Mapping) else inputs.columns)
        labels = zip(distinct_names(names), names, strict=True)
        return {label: np.asarray(inputs[name]) for label, name in labels}
    try:
        array = np.asarray(inputs)
    except ValueError:  # rows of different shapes
        array = np.zeros(0, dtype=object)
    if array.ndim == 0 or not array.size:
        raise InvalidArgument(
            f"inputs of type {type(inputs).__name__} cannot be drawn: give an array, a frame or a dict of columns, with a "
            "row for each row of the result"
        )
    flat = array.reshape(len(array), -1)
    return {f"input {k}": flat[:, k] for k in range(flat.shape[1])}


def distinct_names(names: Iterable[Any]) -> list[str]:
    """Names as text; a name that another column has already is followed by a number."""
    found: list[str] = []
    for name in map(str, names):
        numbered = (f"{name} ({number})" for number in count(2))
        found.append(next(new for new in chain([name], numbered) if new not in found))
    return found


def chosen(outputs: Iterable[str], output: int | str) -> int:
    """The number of an output that was chosen by its name or number; raises `InvalidArgument`."""
    names = list(outputs)
    if isinstance(output, str) and output in names:
        return names.index(output)
    if isinstance(output, Integral) and -len(names) <= output < len(names):
        return int(output) % len(names)
    raise InvalidArgument(
        f"output={output!r} is not an output; the outputs are {', '.join(names[:12]) or 'none'}"
        f"{f' and {len(names) - 12:,} more' if len(names) > 12 else ''}: give one of these names, or its number from 0"
    )
