"""A smoothing spline that gross errors do not move: Tukey's bisquare by reweighting.

It minimises ``(1/n) Σ ρ(‖u(t_i) - y_i‖ / s) s² + λ ∫ u''²`` where ρ, a square near 0, is constant
beyond 8: further out an answer has no influence at all (Huber and Ronchetti 2009, section 4.8; for
splines Cox 1983, Annals of Statistics 11). s is a multiple of the median distance. There are several
minima, so it begins twice: without the answers that stand out from the others, and at a
running median, which not even many gross errors move.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..coding.operators import apply, values_dtype
from ..coding.precision import curve_precision, windows
from ..coding.spline import BandedSmoother, banded_smoother, smoother, smoothing_by_gcv
from ..contracts.answers import matrix
from ..contracts.code import Estimate, reject_frequent
from ..detection.outliers import stepwise_outliers
from ..detection.sketches import CLOSER, scaled, sketched
from .linear import LinearEncoding

_CUT = 8.0  # standard deviations; on normal noise as efficient as least squares
_TO_SD = 1.4826  # of a normal variable, from the median of its absolute value
_SWEEPS = 20
_WINDOW = 15  # of the running median at most
_FEWEST = 3  # answers with weight that make more than a line
_PROBES = 4
_NEAR = 0.5  # of what an answer is off without itself: a curve that is closer nearly interpolates
_AS_FAR = 4.0  # times as far as any of those that count
_FLOOR = 0.05  # of the first scale: what is closer than that to the curve is not looked at


@dataclass(frozen=True, slots=True, eq=False)
class RobustEncoding(LinearEncoding):
    """Inputs encoded by a code whose decoder is a smoothing spline, decoded by a robust one.

    Parameters
    ----------
    alpha, beta : ndarray, shapes (K,) and (N,)
        Where tasks and workers sit, ascending.
    smoothing : float or "gcv"
        λ of the decoder; for ``"gcv"`` chosen, group by group, from the answers that have weight.
    """

    alpha: np.ndarray
    beta: np.ndarray
    smoothing: float | Literal["gcv"]

    def decode(self, answers: Mapping[int, Any]) -> Estimate:
        """Estimates of all tasks; see `Encoding.decode`.

        An answer without weight in the end is rejected, as is one with a non-finite entry.
        """
        slots, stacked, rejected = matrix(answers, self.payloads.shape[1])
        groups = stacked.shape[1]
        self._check(slots, stacked.dtype)
        flat = stacked.reshape(len(slots), groups, -1)
        finite = np.isfinite(flat).all(axis=2)
        usable = ~reject_frequent(~finite)
        fits = [self._fit(slots, flat, usable[:, group], group) for group in range(groups)]
        wrong = reject_frequent(np.stack([weights == 0 for weights, _ in fits], axis=1))
        values = np.empty((self.code.tasks, *stacked.shape[1:]), values_dtype(stacked.dtype))
        for group, fit in enumerate(fits):
            weights, λ = fit
            if (weights[wrong[:, group]] > 0).any():
                weights, λ = self._fit(slots, flat, ~wrong[:, group], group)
            kept = weights > 0
            chosen = tuple(slot for slot, good in zip(slots, kept, strict=True) if good)
            self._check(chosen, stacked.dtype, ", the others left out because they are wrong")
            operator = smoother(self.beta[list(chosen)], self.alpha, λ, weights[kept])
            with np.errstate(over="ignore", invalid="ignore"):  # estimates may be infinite
                estimates = apply(operator, flat[kept, group])
            values[:, group] = estimates.reshape(values[:, group].shape)
        wrong_slots = (slots[row] for row in np.flatnonzero(wrong.any(axis=1)))
        exact = np.zeros(values.shape[:2], dtype=bool)
        return Estimate(values, exact, None, tuple(sorted({*rejected, *wrong_slots})))

    def _fit(
        self, slots: tuple[int, ...], flat: np.ndarray, usable: np.ndarray, group: int
    ) -> tuple[np.ndarray, float]:
        """Weights of all slots, (F,), and λ."""
        weights = usable.astype(float)
        rows = np.flatnonzero(usable)
        if len(rows) < _FEWEST:
            return weights, 0.0
        with np.errstate(over="ignore", invalid="ignore"):
            y = scaled(sketched(flat[:, group : group + 1], CLOSER)[rows, 0])
        named = tuple(slots[row] for row in rows)
        suspects = np.zeros(len(rows), dtype=bool)
        for held, core in windows(len(rows)):
            precision = self.code.cached_precision(named[held])
            if precision is not None:
                with np.errstate(divide="ignore", invalid="ignore"):
                    suspects[held][core] = stepwise_outliers(y[held], precision)[core]
        weights[rows], λ = bisquare_weights(self.beta[list(named)], y, self.smoothing, suspects)
        return weights, λ


def bisquare_weights(
    knots: np.ndarray, y: np.ndarray, smoothing: float | Literal["gcv"], suspects: np.ndarray
) -> tuple[np.ndarray, float]:
    """Weights (n,) in [0, 1] of answers (n, columns) at the knots; and λ, chosen if ``"gcv"``.

    Of the two fits, one begun without the suspects, (n,) bool, and one from a running median, it is
    that whose answers are closer to it, where all beyond the cut count alike.
    """
    distances = np.linalg.norm(y - _running_median(y), axis=1)
    scale = max(_scale(distances), float(np.finfo(float).tiny))
    starts = [~suspects, distances < _CUT * scale]
    fits = [_fitted(knots, y, smoothing, start, _FLOOR * scale) for start in starts]
    # A curve that bends to every wrong answer is close to all answers: they compete equally smooth.
    most = max(λ for _, λ, *_ in fits)
    rivals = [
        fit if fit[1] == most else _fitted(knots, y, most, fit[0] > 0, _FLOOR * scale)
        for fit in fits
    ]
    cut = _CUT * min(scale for *_, scale in rivals)
    losses = [(np.minimum(distances, cut) ** 2).sum() for _, _, distances, _ in rivals]
    best = int(np.argmin(losses))
    if rivals[best][1] != fits[best][1]:
        fits[best] = _fitted(knots, y, smoothing, rivals[best][0] > 0, _FLOOR * scale)
    weights, λ, *_ = fits[best]
    kept = _readmitted(knots, y, λ, weights)
    if kept is None:
        return weights, λ
    return kept.astype(float), _smoothing(knots[kept], y[kept], smoothing)


def _readmitted(
    knots: np.ndarray, y: np.ndarray, λ: float, weights: np.ndarray
) -> np.ndarray | None:
    """Answers no further off than the function itself bends, (n,) bool; None if these are kept already.

    A curve that nearly interpolates differs from its answers by how it bends, not by noise, and
    that varies along it by many powers of ten. So it takes in answers about as far from what the
    others predict as any of these.
    """
    kept = weights > 0
    few = int(kept.sum())
    if few == len(kept) or few <= _FEWEST or _own(_curve(knots, λ, kept), kept) > _NEAR:
        return None
    while not kept.all():
        most = _alone(knots[kept], y[kept]).max()
        fit = banded_smoother(knots[kept], knots, 0.0) @ y[kept]
        near = ~kept & (np.linalg.norm(y - fit, axis=1) <= _AS_FAR * most)
        if not near.any():
            near = _together(knots, y, kept, _AS_FAR * most)
        if not near.any():
            break
        kept |= near
    return kept if kept.sum() > few else None


def _together(knots: np.ndarray, y: np.ndarray, kept: np.ndarray, most: float) -> np.ndarray:
    """Some of a run of neighbours with which no answer is further off than so much, (n,) bool.

    Beyond an end, where they are extrapolated, each of them alone may be.
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[True], kept, [True]])))
    for start, stop in edges.reshape(-1, 2).tolist():
        run = np.zeros_like(kept)
        run[start:stop] = True
        while run.sum() > 1:
            some = kept | run
            off = np.zeros(len(kept))
            off[some] = _alone(knots[some], y[some])
            if off.max() <= most:
                return run
            run[np.where(run, off, -1.0).argmax()] = False  # a wrong one may be among them
    return np.zeros_like(kept)


def _alone(knots: np.ndarray, y: np.ndarray) -> np.ndarray:
    """How far each answer is from what an interpolant of the others predicts, (n,)."""
    off = np.zeros(len(knots))
    for held, core in windows(len(knots)):
        precision = curve_precision(knots[held])
        if precision is not None:
            matrix = precision.matrices[0]
            residuals = matrix @ y[held] / matrix.diagonal()[:, None]
            off[held][core] = np.linalg.norm(residuals, axis=1)[core]
    return off


def _smoothing(knots: np.ndarray, y: np.ndarray, smoothing: float | Literal["gcv"]) -> float:
    return smoothing_by_gcv(knots, y) if smoothing == "gcv" else float(smoothing)


def _curve(knots: np.ndarray, λ: float, kept: np.ndarray) -> BandedSmoother:
    return banded_smoother(knots[kept], knots, λ)


def _fitted(
    knots: np.ndarray,
    y: np.ndarray,
    smoothing: float | Literal["gcv"],
    start: np.ndarray,
    least: float,
) -> tuple[np.ndarray, float, np.ndarray, float]:
    """Weights, λ, distances from the curve, and their scale; begun from the curve of some answers."""
    weights, λ, scale = start.astype(float), 0.0, least
    distances = np.zeros(len(knots))
    for sweep in range(_SWEEPS):
        kept = weights > 0
        if kept.sum() < _FEWEST:
            return np.ones(len(knots)), λ, np.full(len(knots), np.inf), np.inf
        if sweep in (0, _SWEEPS // 2):
            λ = _smoothing(knots[kept], y[kept], smoothing)
        curve = banded_smoother(knots[kept], knots, λ, weights[kept])
        distances = np.linalg.norm(y - curve @ y[kept], axis=1)
        scale = max(_scale(distances) / _own(curve, kept), least)
        far = np.minimum(distances, _CUT * scale) / (_CUT * scale) if scale > 0 else distances > 0
        weights = (1.0 - far.astype(float) ** 2) ** 2
    return weights, λ, distances, scale


def _scale(distances: np.ndarray) -> float:
    return _TO_SD * float(np.median(distances))


def _own(curve: BandedSmoother, kept: np.ndarray) -> float:
    """By which share answers differ from the curve of what they differ from it without themselves."""
    count = int(kept.sum())
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (count, _PROBES))
    # 1 less the mean influence of an answer on the curve at its own place (Hutchinson's estimate).
    share = 1.0 - float((signs * (curve @ signs)[kept]).sum()) / (count * _PROBES)
    return min(max(share, float(np.finfo(float).eps)), 1.0)


def _running_median(y: np.ndarray) -> np.ndarray:
    """Of a few neighbours of each, (n, columns); near the ends of those that there are."""
    reach = min(_WINDOW, max(5, len(y) // 4)) // 2
    near = [y[max(0, i - reach) : i + reach + 1] for i in range(len(y))]
    return np.stack([np.median(window, axis=0) for window in near])
