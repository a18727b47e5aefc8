"""Paths made shorter by reversing stretches (2-opt) and by moving a few points (or-opt).

Distances ``apart`` are (K + 1, K + 1): the last point has distance 0 to all others and stands at both
ends of every path, so that the ends need no special case.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

_MOVED = 3  # points that move together, at most


def path_lengths(apart: np.ndarray, paths: np.ndarray) -> np.ndarray:
    """The lengths (B,) of paths (B, K) by the distances (B, K + 1, K + 1) in their groups."""
    each = np.arange(len(paths))[:, None]
    total: np.ndarray = apart[each, paths[:, :-1], paths[:, 1:]].sum(axis=1)
    return total


def least_gain(apart: np.ndarray) -> np.ndarray:
    """By how much a change must shorten a path to count, (B,): distances have rounding errors."""
    gain: np.ndarray = 1e-7 * apart.max(axis=(1, 2))
    return gain


def nearest_neighbour_paths(apart: np.ndarray) -> np.ndarray:
    """Paths from one of the two points farthest apart to the nearest point left, and so on."""
    groups, side = apart.shape[:2]
    each = np.arange(groups)
    paths = np.empty((groups, side - 1), dtype=np.intp)
    passed = np.zeros((groups, side))
    passed[:, -1] = np.inf
    paths[:, 0] = here = apart.reshape(groups, -1).argmax(axis=1) // side
    for step in range(1, side - 1):
        passed[each, here] = np.inf
        paths[:, step] = here = (apart[each, here] + passed).argmin(axis=1)
    return paths


def improve_paths(apart: np.ndarray, paths: np.ndarray) -> np.ndarray:
    """Paths (B, K) after the best reversals, and the best moves where no reversal helps any more."""
    groups, tasks = paths.shape
    side = tasks + 1
    walks = np.full((groups, tasks + 2), tasks)
    walks[:, 1:-1] = paths
    live, walk, least = np.arange(groups)[:, None], walks, -least_gain(apart)
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
    one, other = best // side, best % side
    before, last = np.minimum(one, other)[:, None], np.maximum(one, other)[:, None]
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
    """All moves among so many places, and the pairs of places that each joins and separates.

    A move (to, first, last, reverse) puts the places from first to last behind the place ``to``.
    """
    to, first, more, reverse = np.indices((size - 1, size - 1, min(_MOVED, size - 3), 2))
    last = first + more
    sound = (first > 0) & (last < size - 1) & ((to < first - 1) | (to > last))
    moves = np.stack([to, first, last, reverse])[:, sound & ((more > 0) | (reverse == 0))]
    to, first, last, reverse = moves
    head, tail = np.where(reverse, last, first), np.where(reverse, first, last)
    new = [to * size + head, tail * size + to + 1, (first - 1) * size + last + 1]
    old = [to * size + to + 1, (first - 1) * size + first, last * size + last + 1]
    return moves, np.stack(new), np.stack(old)
