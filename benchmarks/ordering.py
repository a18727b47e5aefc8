"""The search of `SplineCode(order="path")`, with one BLAS thread. First, `paths_through` for groups of points (Gaussian,
ten dimensions, float32), including distances, compared with the distances alone. The goals are microseconds at K = 8
and one second at K = 2,000. Then, grouping similar rows (16 columns, K = 20); *clustered* rows lie around one centre
per hundred rows.

| value | meaning |
|---|---|
| to given | length of the path, divided by that of the given order |
| to nearest | length of the path, divided by that of always going to the nearest remaining point |
| to random | mean distance to the nearest other row of the group, divided by that of random groups |
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from codedmap.coding.ordering import neighbours_together, paths_through, squared_distances

from .harness import Row, interleaved, threads

__all__ = ["run"]

_TASKS = 20


def run(*, quick: bool = False) -> list[Row]:
    """Rows of the table."""
    rows = []
    with threads(1):
        for groups, tasks in ((1, 8), (1, 20), (1, 200), (1, 2_000), (1_000, 20)):
            rows += _paths(groups, tasks, quick)
        for count in (100_000,) if quick else (100_000, 1_000_000):
            rows += _together(count, quick)
    return rows


def _paths(groups: int, tasks: int, quick: bool) -> list[Row]:
    points = _gaussian(groups, tasks, 10)
    calls: dict[str, Callable[[], object]] = {
        "squared_distances": lambda: squared_distances(points),
        "paths_through": lambda: paths_through(points),
    }
    alone, path = interleaved(calls, quick=quick).rows(
        {"groups": groups, "tasks": tasks}, "squared_distances"
    )
    apart = np.sqrt(squared_distances(points))
    ours = _length(apart, paths_through(points))
    path["to given"] = ours / _length(apart, np.tile(np.arange(tasks), (groups, 1)))
    path["to nearest"] = ours / _length(apart, np.array([_to_nearest(one) for one in apart]))
    return [_without_ratio(alone), _without_ratio(path)]


def _together(count: int, quick: bool) -> list[Row]:
    even = _gaussian(count, 16)
    centres = 4.0 * _gaussian(count // 100, 16)
    clustered = centres[np.random.default_rng(1).integers(0, len(centres), count)] + even
    calls: dict[str, Callable[[], object]] = {
        "even": lambda: neighbours_together(even, _TASKS),
        "clustered": lambda: neighbours_together(clustered, _TASKS),
    }
    rows = interleaved(calls, quick=quick, few=3).rows({"rows": count}, "even")
    for row, points in zip(rows, (even, clustered), strict=True):
        order = neighbours_together(points, _TASKS)
        random = np.random.default_rng(2).permutation(count)
        row["to random"] = _nearest(points, order) / _nearest(points, random)
        if row.get("ms"):
            row["rows/s"] = 1e3 * count / float(str(row["ms"]))
    return [_without_ratio(row) for row in rows]


def _gaussian(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def _length(apart: np.ndarray, paths: np.ndarray) -> float:
    steps = apart[np.arange(len(paths))[:, None], paths[:, :-1], paths[:, 1:]]
    return float(steps.sum())


def _to_nearest(apart: np.ndarray) -> list[int]:
    left, here, path = set(range(1, len(apart))), 0, [0]
    while left:
        here = min(left, key=apart[here].__getitem__)
        left.remove(here)
        path.append(here)
    return path


def _nearest(points: np.ndarray, order: np.ndarray) -> float:
    """Mean distance to the nearest other row of the group, over a thousand groups of this order."""
    groups = len(points) // _TASKS
    some = np.linspace(0, groups - 1, 1_000, dtype=int)
    members = points[order.reshape(_TASKS, groups)[:, some].T]
    squared = squared_distances(members)
    squared[:, range(_TASKS), range(_TASKS)] = np.inf
    return float(np.sqrt(squared.min(axis=2)).mean())


def _without_ratio(row: Row) -> Row:
    return {key: value for key, value in row.items() if not key.startswith("ratio")}
