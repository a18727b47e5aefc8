"""Communication-computation efficient gradient coding (arXiv 1802.03475): answers of 1/m of the sum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.polynomial.polynomial import polyfromroots

from ..coding.gradient import GradientCode
from ..contracts.arguments import check_whole
from ..contracts.sum_code import check_sum_budget
from ..errors import InvalidArgument


@dataclass(frozen=True)
class PolynomialGradientCode(GradientCode):
    """The code of Ye and Abbe (arXiv 1802.03475): each worker sends 1/m of the sum.

    Worker n holds S + m parts, n … n + S + m - 1, which is the fewest possible. Its answer is the value
    at one point of polynomials that vanish for the parts which it does not hold; their N - S coefficients
    contain the m slices of the sum.

    Parameters
    ----------
    workers, stragglers, reduction : int
        N, S and m. Of many workers (40 and more) very few sets of N - S answers would enlarge rounding too
        much; there one more is waited for.
    matrix : {"gaussian", "vandermonde"}
        What takes coefficients to answers, (N, N - S). ``"vandermonde"`` is the paper's, of the points
        ±(1 + i/2); it loses all digits at N of about 30. From 10 workers on some S and m are refused, from 14
        on most.
        ``"gaussian"`` is drawn, up to eight times, and the one of the least `amplification` taken.
    seed : int
        Seeds the draws.

    Raises
    ------
    InvalidArgument
        If rounding errors would be enlarged more than 1e5 times.
    """

    workers: int
    stragglers: int
    reduction: int
    matrix: Literal["gaussian", "vandermonde"] = "gaussian"
    seed: int = 0

    def __post_init__(self) -> None:
        check_sum_budget(self.workers, self.stragglers, self.reduction)
        check_whole("seed", self.seed, 0)
        if self.matrix not in ("gaussian", "vandermonde"):
            raise InvalidArgument(
                f'matrix={self.matrix!r} is unknown: choose "gaussian" or "vandermonde"'
            )
        self.check()

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Coefficients (N, N, m)."""
        n, d, m = self.workers, self.load, self.reduction
        if self.matrix == "vandermonde":
            points = _points(n)
            V = np.vander(points, n - self.stragglers, increasing=True)
            blocks = np.stack([_vanishing(points[_outside(j, n, d)], m) for j in range(n)])
            coefficients: np.ndarray = np.einsum("jvr,nr->njv", blocks, V)
            for j in range(n):
                coefficients[_outside(j, n, d), j] = 0.0  # not only up to rounding
            return coefficients
        # V = QR: an answer vector is V b where the last S columns of Q are orthogonal to it, and
        # the m before them and R give the last m entries of b, which are to be the identity.
        Q, R = np.linalg.qr(rng.standard_normal((n, n - self.stragglers)), mode="complete")
        last = np.zeros((d, m))
        last[:m] = R[n - d : n - self.stragglers, n - d :]
        coefficients = np.zeros((n, n, m))
        for j in range(n):
            holders = (j - np.arange(d)) % n
            coefficients[holders, j] = np.linalg.solve(Q[holders, n - d :].T, last)
        return coefficients

    def instead(self) -> str:
        """Codes that are more stable, for a message."""
        first = 'matrix="gaussian", or ' if self.matrix == "vandermonde" else ""
        size = self.load
        near = [g for g in range(size, self.workers + 1) if self.workers % g == 0]
        return (
            f"{first}GroupedGradientCode({self.workers}, group={near[0] if near else size}, "
            f"reduction={self.reduction}), which is as stable as its groups are small"
        )


def _outside(part: int, workers: int, load: int) -> np.ndarray:
    """Workers that do not hold this part: the N - d after it."""
    return (part + 1 + np.arange(workers - load)) % workers


def _points(workers: int) -> np.ndarray:
    """The points of the workers, ±(1 + i/2), and 0 if their number is odd."""
    half = 1 + np.arange(workers // 2) / 2
    return np.concatenate([-half[::-1], np.zeros(workers % 2), half])


def _vanishing(roots: np.ndarray, count: int) -> np.ndarray:
    """Coefficients (count, len(roots) + count), from x⁰ up, of polynomials with these roots.

    The u-th is monic of degree len(roots) + u, and lacks the powers from len(roots) to the next but one.
    """
    first = np.zeros(len(roots) + count)
    first[: len(roots) + 1] = polyfromroots(roots)
    found = [first]
    for _ in range(1, count):
        shifted = np.roll(found[-1], 1)
        found.append(shifted - shifted[len(roots)] * first)
    return np.stack(found)
