"""The points of tasks and workers on the line [-1, 1], and interpolation from some to others."""

from __future__ import annotations

from math import cos, gcd, pi, sin
from typing import Literal

import numpy as np

from ..errors import InvalidArgument

Points = Literal["chebyshev", "uniform"]


def task_points(tasks: int, points: Points = "chebyshev") -> np.ndarray:
    """Points of K tasks, (K,) ascending.

    ``"chebyshev"``: cos((2k - 1)π / 2K), of the first kind, as in BACC (2009.08327) and LeTCC
    (2406.00300). ``"uniform"``: the centres of K equal cells.
    """
    if points == "chebyshev":
        return np.array([_cos_pi(2 * k - 1, 2 * tasks) for k in range(tasks, 0, -1)])
    if points == "uniform":
        return (2.0 * np.arange(tasks) + 1.0 - tasks) / tasks
    raise InvalidArgument(f'points={points!r} is unknown: choose "chebyshev" or "uniform"')


def worker_points(workers: int, points: Points = "chebyshev") -> np.ndarray:
    """Points of N workers, (N,) ascending, with both ends; the point of a single worker is 0.

    ``"chebyshev"``: cos((n - 1)π / (N - 1)), of the second kind. ``"uniform"``: evenly spaced.
    """
    if workers == 1:
        return np.zeros(1)
    if points == "chebyshev":
        return np.array([_cos_pi(n, workers - 1) for n in range(workers - 1, -1, -1)])
    return (2.0 * np.arange(workers) - (workers - 1)) / (workers - 1)


def barycentric(nodes: np.ndarray, at: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The rational interpolant with these weights, from values at ``nodes`` to values ``at``, (p, n)."""
    apart = at[:, None] - nodes
    on_node = apart == 0.0
    terms = weights / np.where(on_node, 1.0, apart)
    terms[on_node.any(axis=1)] = 0.0
    terms[on_node] = 1.0
    return np.asarray(terms / terms.sum(axis=1, keepdims=True))


def _cos_pi(p: int, q: int) -> float:
    # Task and worker points that are equal on paper have to be equal floats: a point that misses a node
    # by a rounding error makes Berrut's formula divide by that error. The reduced fraction, and the sine
    # in the middle half, give equal floats for equal angles, exact symmetry and an exact 0.
    d = gcd(p, q)
    p, q = p // d, q // d
    if 2 * p > q:
        return -_cos_pi(q - p, q)
    if 4 * p >= q:
        return sin(pi * (q - 2 * p) / (2 * q))
    return cos(pi * p / q)
