"""A smoothing spline in 60 digits, from the textbook's pentadiagonal system: slow, and right."""

from __future__ import annotations

from itertools import pairwise

import mpmath
import numpy as np


def spline(knots: np.ndarray, y: np.ndarray, smoothing: float, at: np.ndarray) -> np.ndarray:
    """Values at ``at`` of the spline through (knots, y) that minimises (1/n) Σ (u - y)² + λ ∫ u''²."""
    with mpmath.workdps(60):
        t = [mpmath.mpf(float(v)) for v in knots]
        values = [mpmath.mpf(float(v)) for v in y]
        if len(t) == 1:
            return np.full(len(at), float(values[0]))
        h = [b - a for a, b in pairwise(t)]
        g, gamma = _solve(h, values, len(t) * mpmath.mpf(float(smoothing)))
        return np.array([float(_value(t, h, g, gamma, mpmath.mpf(float(x)))) for x in at])


def _solve(h: list, y: list, weight: object) -> tuple[list, list]:
    m = len(y) - 2
    q = [(1 / h[j], -1 / h[j] - 1 / h[j + 1], 1 / h[j + 1]) for j in range(m)]
    diagonal, below, far = [], [], []
    for j in range(m):  # R + a QᵀQ
        diagonal.append((h[j] + h[j + 1]) / 3 + weight * sum(v * v for v in q[j]))
        below.append(
            h[j + 1] / 6 + weight * (q[j][1] * q[j + 1][0] + q[j][2] * q[j + 1][1])
            if j + 1 < m
            else 0
        )
        far.append(weight * q[j][2] * q[j + 2][0] if j + 2 < m else 0)
    d, first, second = [], [], []
    for j in range(m):  # L D Lᵀ
        pivot = diagonal[j]
        pivot -= first[j - 1] ** 2 * d[j - 1] if j >= 1 else 0
        pivot -= second[j - 2] ** 2 * d[j - 2] if j >= 2 else 0
        d.append(pivot)
        coupling = first[j - 1] * second[j - 1] * d[j - 1] if j >= 1 else 0
        first.append((below[j] - coupling) / pivot)
        second.append(far[j] / pivot)
    b = [sum(q[j][i] * y[j + i] for i in range(3)) for j in range(m)]
    for j in range(m):
        b[j] -= first[j - 1] * b[j - 1] if j >= 1 else 0
        b[j] -= second[j - 2] * b[j - 2] if j >= 2 else 0
    b = [v / pivot for v, pivot in zip(b, d, strict=True)]
    for j in reversed(range(m)):
        b[j] -= first[j] * b[j + 1] if j + 1 < m else 0
        b[j] -= second[j] * b[j + 2] if j + 2 < m else 0
    g = list(y)
    for j in range(m):
        for i in range(3):
            g[j + i] -= weight * q[j][i] * b[j]
    return g, [mpmath.mpf(0), *b, mpmath.mpf(0)]


def _value(t: list, h: list, g: list, gamma: list, x: object) -> object:
    if x < t[0]:
        return g[0] - (t[0] - x) * ((g[1] - g[0]) / h[0] - h[0] / 6 * gamma[1])
    if x > t[-1]:
        return g[-1] + (x - t[-1]) * ((g[-1] - g[-2]) / h[-1] + h[-1] / 6 * gamma[-2])
    i = max(j for j in range(len(h)) if t[j] <= x)
    a, b = x - t[i], t[i + 1] - x
    line = (a * g[i + 1] + b * g[i]) / h[i]
    bend = (1 + a / h[i]) * gamma[i + 1] + (1 + b / h[i]) * gamma[i]
    return line - a * b / 6 * bend
