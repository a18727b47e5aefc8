"""Which inputs share a group, and the order in which a curve passes through them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ..contracts.memory import check_room
from .operators import as_real

_COPIED = 1 << 22  # most numbers copied to float64 at a time: 32 MB
_SEARCHED = 1 << 16  # most distances searched at a time, so that they stay in the cache
_FEW = 100  # most points whose path is improved; that takes 5 ms a group of so many
_MOVED = 3  # most points that are moved together
_STEEP = 400  # points are scaled if a power of two beyond this would let squares overflow or vanish
_DIRECTIONS = 8  # principal directions in which rows are compared
_SAMPLE = 512  # rows from which the principal directions are computed
_WIDTH = 64  # rows from which the width of a part is computed, or up to twice as many


def squared_distances(points: np.ndarray) -> np.ndarray:
    """Squared distances (B, K, K) between the points (B, K, d) of each group.

    Symmetric, at least 0, and 0 on the diagonals; in float64, from any numeric dtype. Computed by inner products of the
    points relative to their mean, in O(B K² d) time, with copies of at most 32 MB of the points at a time.
    """
    groups, tasks, columns = points.shape
    check_room(
        2 * 8 * groups * tasks**2,
        f"distances between {tasks} tasks (number of groups: {groups:,})",
        "Use fewer tasks, or a code that does not look at them, such as SplineCode without order",
    )
    squared = np.zeros((groups, tasks, tasks))
    # The width depends on K and d alone, so that the result of a group does not depend on other groups.
    width = max(1, min(columns, _COPIED // tasks))
    many = max(1, _COPIED // (tasks * width))
    for group in range(0, groups, many):
        for column in range(0, columns, width):
            part = _real_copy(points[group : group + many, :, column : column + width])
            part -= np.add.reduce(part, axis=1, keepdims=True) / tasks
            squared[group : group + many] += part @ part.transpose(0, 2, 1)
    norms = squared.diagonal(axis1=1, axis2=2).copy()
    squared *= -2.0
    squared += norms[:, :, None] + norms[:, None, :]
    np.maximum(squared, 0.0, out=squared)
    each = np.arange(tasks)
    squared[:, each, each] = 0.0
    return squared


def paths_through(points: np.ndarray) -> np.ndarray:
    """`short_paths` (B, K) through the points (B, K, d) of each group; takes 32·K² bytes, or a megabyte if that is more."""
    groups, tasks = points.shape[:2]
    paths = np.empty((groups, tasks), dtype=np.intp)
    many = max(1, _SEARCHED // tasks**2)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        for group in range(0, groups, many):
            part = points[group : group + many]
            real = as_real(part)
            low, high = real.min(axis=(1, 2), initial=0.0), real.max(axis=(1, 2), initial=0.0)
            exponents = np.frexp(np.maximum(high, -low))[1]
            if (np.abs(exponents) > _STEEP).any():
                part = part / np.ldexp(1.0, exponents - 1)[:, None, None]
            squared = squared_distances(part)
            paths[group : group + many] = short_paths(squared)
    return paths


def short_paths(squared: np.ndarray) -> np.ndarray:
    """For each group an order of its points (B, K) in which the path through them is short, by squared distances (B, K, K).

    The first path goes to the nearest neighbour, or is the given order if that is shorter. If there are up to 100 points,
    stretches are reversed (2-opt) or up to three points moved (or-opt) as long as the path becomes shorter: the best of
    all such changes, in all groups at once, in about B·K³ time. So no path is longer than the given order, and rows along
    a line stay in order. A path starts at the end that comes first in the given order. A group with distances that are
    not finite keeps its order.
    """
    groups, tasks = squared.shape[:2]
    paths = np.tile(np.arange(tasks), (groups, 1))
    if tasks < 3:
        return paths
    # An added point has distance 0 to all others and is at both ends of every path, so that the ends need
    # no special case.
    apart = np.zeros((groups, tasks + 1, tasks + 1))
    np.sqrt(squared, out=apart[:, :-1, :-1])
    if not np.isfinite(apart.sum()):
        apart[~np.isfinite(apart).all(axis=(1, 2))] = 0.0
    start = _nearest_neighbour_paths(apart)
    shorter = _path_lengths(apart, start) < _path_lengths(apart, paths) - _least_gain(apart)
    paths[shorter] = start[shorter]
    if tasks <= _FEW:
        paths = _improve_paths(apart, paths)
    back = paths[:, 0] > paths[:, -1]
    paths[back] = paths[back, ::-1]
    return paths


def _path_lengths(apart: np.ndarray, paths: np.ndarray) -> np.ndarray:
    """The lengths (B,) of paths (B, K) by the distances (B, K + 1, K + 1) in their groups."""
    each = np.arange(len(paths))[:, None]
    return np.asarray(apart[each, paths[:, :-1], paths[:, 1:]].sum(axis=1))


def _least_gain(apart: np.ndarray) -> np.ndarray:
    """By how much a change must shorten a path to count, (B,): distances have rounding errors."""
    return np.asarray(1e-7 * apart.max(axis=(1, 2)))


def _nearest_neighbour_paths(apart: np.ndarray) -> np.ndarray:
    """Paths from one of the two points farthest apart to the nearest point left, and so on."""
    groups, side = apart.shape[:2]
    each = np.arange(groups)
    paths = np.empty((groups, side - 1), dtype=np.intp)
    passed = np.zeros((groups, side))
    passed[:, -1] = np.inf
    paths[:, 0] = current = apart.reshape(groups, -1).argmax(axis=1) // side
    for step in range(1, side - 1):
        passed[each, current] = np.inf
        paths[:, step] = current = (apart[each, current] + passed).argmin(axis=1)
    return paths


def _improve_paths(apart: np.ndarray, paths: np.ndarray) -> np.ndarray:
    """Paths (B, K) after the best reversals, and the best moves once no reversal helps any more."""
    groups, tasks = paths.shape
    side = tasks + 1
    walks = np.full((groups, tasks + 2), tasks)
    walks[:, 1:-1] = paths
    live, walk, least = np.arange(groups)[:, None], walks, -_least_gain(apart)
    while live.size:
        between = apart.take(walk[:, :, None] * side + (walk + live * side**2)[:, None])
        places, helps = _best_reversal(between, least)
        if not helps.all():
            stuck = ~helps
            places[stuck], helps[stuck] = _best_move(between[stuck], least[stuck])
            live, walk, places, least = live[helps], walk[helps], places[helps], least[helps]
        walk = walk.take(places + np.arange(len(walk))[:, None] * (tasks + 2))
        walks[live[:, 0]] = walk
    return walks[:, 1:-1]


def _best_reversal(between: np.ndarray, least: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The places (n, K + 2) in the order after the best reversal, and whether it helps."""
    side = between.shape[1] - 1
    step = between.diagonal(1, 1, 2)
    change = between[:, :-1, :-1] + between[:, 1:, 1:]
    change -= step[:, :, None]
    change -= step[:, None, :]
    flat = change.reshape(len(change), -1)
    flat[:, :: side + 1] = 0.0
    best = flat.argmin(axis=1)
    helps = flat[np.arange(len(flat)), best] < least
    row, column = best // side, best % side
    before, last = np.minimum(row, column)[:, None], np.maximum(row, column)[:, None]
    place = np.arange(side + 1)
    return np.where((place > before) & (place <= last), before + 1 + last - place, place), helps


def _best_move(between: np.ndarray, least: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The places (n, K + 2) in the order after the best move, and whether it helps."""
    size = between.shape[1]
    moves, new, old = _moves(size)
    flat = between.reshape(len(between), -1)
    change = flat[:, new].sum(axis=1) - flat[:, old].sum(axis=1)
    best = change.argmin(axis=1)
    helps = change[np.arange(len(best)), best] < least
    to, first, last, reverse = moves[:, best, None]
    place = np.arange(size)
    rank = np.where(reverse, last - place, place - first)
    moved = (place >= first) & (place <= last)
    return np.where(moved, to + (rank + 1) / (_MOVED + 1), place).argsort(axis=1), helps


@lru_cache(maxsize=32)
def _moves(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All moves (to, first, last, reverse) of places behind the place ``to``; the pairs that each joins, and separates."""
    to, first, more, reverse = np.indices((size - 1, size - 1, min(_MOVED, size - 3), 2))
    last = first + more
    sound = (first > 0) & (last < size - 1) & ((to < first - 1) | (to > last))
    moves = np.stack([to, first, last, reverse])[:, sound & ((more > 0) | (reverse == 0))]
    to, first, last, reverse = moves
    head, tail = np.where(reverse, last, first), np.where(reverse, first, last)
    new = [to * size + head, tail * size + to + 1, (first - 1) * size + last + 1]
    old = [to * size + to + 1, (first - 1) * size + first, last * size + last + 1]
    return moves, np.stack(new), np.stack(old)


def neighbours_together(rows: np.ndarray, tasks: int) -> np.ndarray:
    """A permutation (m,) that puts neighbours of rows (m, *x) into the same group when `groups.cut` cuts them.

    The rows are projected on their principal directions and halved along the one in which they vary
    most. So are the halves, until each part is a group. Rows that are not numbers keep their order, as do rows of
    a single group. Takes O(m (d + log m)) time and O(m) memory.
    """
    count = len(rows)
    groups = -(-count // tasks)
    if groups < 2 or rows.dtype.kind not in "biufc" or not rows.size:
        return np.arange(count)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        together = _halve_repeatedly(_project(rows.reshape(count, -1)), groups)
    task, group = np.divmod(np.arange(count), groups)
    return np.asarray(together[_group_begin(group, count, groups) + task])


def along_paths(rows: np.ndarray, tasks: int) -> np.ndarray:
    """As `neighbours_together`, with the rows of each group along a short path."""
    order = neighbours_together(rows, tasks)
    count = len(rows)
    groups = -(-count // tasks)
    flat, (size, larger) = rows.reshape(count, -1), divmod(count, groups)
    for alike, length in ((range(larger), size + 1), (range(larger, groups), size)):
        if alike:
            place = np.arange(length)[:, None] * groups + np.array(alike)
            members = order[place]
            paths = paths_through(flat[members].swapaxes(0, 1))
            order[place] = np.take_along_axis(members, paths.T, axis=0)
    return order


def _real_copy(numbers: np.ndarray) -> np.ndarray:
    """A copy in float64, with a complex number as two along the last axis."""
    return as_real(numbers).astype(np.float64, order="C")


def _group_begin(group: int | np.ndarray, count: int, groups: int) -> np.ndarray:
    """Where a group begins if groups follow one another, larger ones first."""
    size, larger = divmod(count, groups)
    return np.asarray(group * size + np.minimum(group, larger))


def _project(rows: np.ndarray) -> np.ndarray:
    """Rows (m, d) projected on the principal directions of a sample of them, (m, directions) float32."""
    count = len(rows)
    chosen = np.random.default_rng(0).choice(count, min(count, _SAMPLE), replace=False)
    sample = np.nan_to_num(_real_copy(rows[chosen]))
    scale = np.abs(sample).max(initial=0.0) or 1.0
    sample /= scale
    middle = sample.mean(axis=0)
    sample -= middle
    if sample.shape[1] <= len(sample):
        axes = np.linalg.eigh(sample.T @ sample)[1][:, -_DIRECTIONS:]
    else:
        axes = sample.T @ np.linalg.eigh(sample @ sample.T)[1][:, -_DIRECTIONS:]
        axes /= np.maximum(np.linalg.norm(axes, axis=0), 1e-9)
    # The sign of a direction is arbitrary: its largest entry is made positive.
    axes *= np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    projected = np.empty((count, axes.shape[1]), np.float32)
    many = max(1, _COPIED // max(1, len(axes)))
    for row in range(0, count, many):
        projected[row : row + many] = (_real_copy(rows[row : row + many]) / scale - middle) @ axes
    return projected


def _halve_repeatedly(points: np.ndarray, groups: int) -> np.ndarray:
    """An order of points (m, d) in which groups of near points follow one another."""
    order = np.arange(len(points))
    parts = [(0, groups)]  # the first group of each part, and the one after
    while parts:
        low, high = parts.pop()
        if high - low < 2:
            continue
        middle = (low + high) // 2
        begin, half, end = (
            int(_group_begin(group, len(points), groups)) for group in (low, middle, high)
        )
        members = order[begin:end]
        sample = points[members[:: max(1, len(members) // _WIDTH)]]
        along = points[members, sample.var(axis=0).argmax()]
        order[begin:end] = members[along.argpartition(half - begin)]
        parts += [(low, middle), (middle, high)]
    return order
