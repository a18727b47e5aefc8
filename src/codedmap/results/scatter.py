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

_PANELS, _BESIDE = 6, 3  # inputs that are drawn, and panels beside each other
_WIDTH, _HEIGHT, _MARGIN = 3.2, 2.6, 0.6  # inches, of a panel and of the figure
_ROWS = 4000  # that are drawn, at most, of those that are exact, and of others
_CATEGORIES, _NAME = 12, 20  # that are named at an axis, and letters of such a name
_PARTS = 10  # of the rows in the order of an input, whose means are compared
_EXACT = {"color": "0.7", "markersize": 3, "label": "exact"}
_ESTIMATED = {"color": "C0", "markersize": 4, "elinewidth": 0.8, "label": "estimated"}
_EDGE = {"failed": {"color": "C3", "clip_on": False}, "missing": {"color": "C1", "clip_on": False}}
_LEGEND = {"loc": "best", "frameon": False, "fontsize": "small"}


def draw_rows(
    inputs: Mapping[str, np.ndarray],
    name: str,
    values: np.ndarray,
    stderr: np.ndarray | None,
    *,
    status: np.ndarray,
    axes: Sequence[Any] | None,
) -> Any:
    """A figure: a panel for each input (m,) with which an output varies most, and in it the rows."""
    if values.dtype.kind not in "biuf":
        raise InvalidArgument(
            f"output {name!r} is of dtype {values.dtype}, and only real numbers are drawn: choose another as output="
        )
    rng = np.random.default_rng(0)
    some = np.zeros(len(status), dtype=bool)
    for rows in (np.flatnonzero(status == 0), np.flatnonzero(status != 0)):
        some[rng.permutation(rows)[:_ROWS]] = True
    along = {label: _positions(column[some]) for label, column in inputs.items()}
    values, status = values[some].astype(np.float64), status[some]
    stderr = np.zeros(len(values)) if stderr is None else stderr[some]
    status = np.where((status <= Status.ESTIMATED) & ~np.isfinite(values), Status.MISSING, status)
    exact, estimated, failed, missing = (status == one for one in Status)
    order = _strongest([at for at, _ in along.values()], values, exact)
    shown = order[: _PANELS if axes is None else len(axes)]
    if axes is None:
        wide = min(_BESIDE, len(shown))
        high = -(-len(shown) // wide)
        figure = new_figure(width=_WIDTH * wide + _MARGIN, height=_HEIGHT * high + _MARGIN)
        axes = [figure.add_subplot(high, wide, k + 1) for k in range(len(shown))]
    for panel, label in zip(axes, [list(along)[k] for k in shown], strict=False):
        at, categories = along[label]
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
    """Where rows are along an axis; and the names of places, if the input is none of numbers."""
    if column.dtype.kind in "biufmM":
        return column, []
    text = np.array([str(value) for value in column])
    categories, places = np.unique(text, return_inverse=True)
    return places, categories.tolist() if len(categories) <= _CATEGORIES else []


def _strongest(inputs: Sequence[np.ndarray], values: np.ndarray, known: np.ndarray) -> list[int]:
    """Inputs, those first with which the means of an output over parts of the rows vary most."""
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
    """The inputs of a job as columns (m,): those of a frame, a dict or a tuple of inputs, or the numbers of each row."""
    if isinstance(inputs, tuple):
        parts = [columns_of(part) for part in inputs]
        return {f"{k}: {name}": c for k, part in enumerate(parts) for name, c in part.items()}
    if isinstance(inputs, Mapping) or hasattr(inputs, "columns"):
        names = list(inputs if isinstance(inputs, Mapping) else inputs.columns)
        return {label: np.asarray(inputs[n]) for label, n in zip(apart(names), names, strict=True)}
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


def apart(names: Iterable[Any]) -> list[str]:
    """Names as text, with a number after those that there are already."""
    found: list[str] = []
    for name in map(str, names):
        tried = (f"{name} ({number})" for number in count(2))
        found.append(next(one for one in chain([name], tried) if one not in found))
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
        f"{f' and {len(names) - 12:,} more' if len(names) > 12 else ''}: give one of these names, or a number"
    )
