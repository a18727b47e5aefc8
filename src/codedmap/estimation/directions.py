"""Which prior known answers speak for, and in which metric."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .evidence import Evidence
from .metric import Placed
from .process import Prior, inverse, sloped

__all__ = ["likeliest"]

_FEWEST = 20
"""Known answers from which a metric is asked for."""
_STEP, _STEPS_AWAY = 0.25, 2
"""Powers of the deviation along a direction that are tried, upwards or downwards."""
_COLUMNS = 32
"""Columns of an input that can each have a scale,"""
_EACH = 5
"""and the known answers that it takes for each."""
_DOUBT = 2.0
"""By which twice a log likelihood must be better for each number that it takes."""
_EVEN = 2.0
"""Penalty on the squared logarithm of each scale: a factor of two is one deviation."""
_WIDEST = 50.0
"""Factor by which a scale may differ from the others."""
_QUIETEST, _LOUDEST = 1e-9, 0.1
_STEPS = 60


class _Sample:
    """Known inputs and answers."""

    def __init__(self, inputs: np.ndarray, answers: np.ndarray, outputs: int) -> None:
        self.inputs, self.answers, self.outputs = inputs, answers, outputs
        self.used = np.ones((1, len(inputs)), dtype=bool)

    def best(self, metric: Prior) -> tuple[float, Prior]:
        """The likeliest prior in the metric of another, and minus twice its log likelihood."""
        apart = np.sqrt(Placed.of(self.inputs, metric).squared)
        away = apart[apart > 0.0]
        unit = float(np.median(away)) if away.size else 1.0
        evidence = Evidence(apart[None], self.answers, self.outputs, unit, _QUIETEST)
        found = evidence.likeliest(self.used)
        score = float(evidence.scores([found], self.used)[0])
        return score, replace(found, scales=metric.scales, power=metric.power)


def likeliest(inputs: np.ndarray, answers: np.ndarray, outputs: int) -> Prior:
    """The prior under which known answers are most likely.

    Beside the usual metric two kinds of others: principal directions of the inputs count by a power of their variance; and, where columns
    are few, each has a scale of its own (automatic relevance determination; Rasmussen and
    Williams 2006, section 5.1). One is taken only if it makes the answers likelier by more than the numbers it is
    made of can do by accident (Akaike 1974).

    Parameters
    ----------
    inputs : ndarray, shape (M, d)
    answers : ndarray, shape (1, M, q)
        On comparable scales.
    outputs : int
        How many outputs these were.
    """
    sample = _Sample(inputs, answers, outputs)
    best = sample.best(Prior(1.0))
    if (
        len(inputs) < _FEWEST
        or inputs.shape[1] < 2
        or not answers.any()
        or not _deviations(inputs).any()
    ):
        return best[1]
    found = [best, _powered(sample, best)]
    columns = int((_deviations(inputs) > 0.0).sum())
    if columns <= _COLUMNS and _EACH * columns <= len(inputs):
        found.append(_scaled(sample, best))
    return min(found, key=lambda one: one[0])[1]


def _deviations(inputs: np.ndarray) -> np.ndarray:
    """Of the columns (d,); 0 where only rounding varies, that of the mean of equal numbers for instance."""
    rounding = 8.0 * np.finfo(float).eps * np.abs(inputs).max(axis=0)
    return np.where(np.ptp(inputs, axis=0) > rounding, inputs.std(axis=0), 0.0)


def _powered(sample: _Sample, plain: tuple[float, Prior]) -> tuple[float, Prior]:
    best = plain
    for step in (_STEP, -_STEP):
        for steps in range(1, _STEPS_AWAY + 1):
            score, prior = sample.best(Prior(1.0, power=steps * step))
            if score + _DOUBT >= best[0]:
                break
            best = score + _DOUBT, prior
        if best is not plain:
            break
    return best


def _scaled(sample: _Sample, plain: tuple[float, Prior]) -> tuple[float, Prior]:
    deviation = _deviations(sample.inputs)
    varied = deviation > 0.0
    even = _normal(1.0 / np.where(varied, deviation, np.inf), deviation)
    score, prior = sample.best(Prior(1.0, scales=even))
    begin = min(plain, (score + _DOUBT, prior), key=lambda one: one[0])
    start = np.array(begin[1].scales or np.ones(len(deviation)))
    factors = np.ones(len(deviation))
    factors[varied], penalty = _descended(sample, start, varied, begin[1])
    score, prior = sample.best(Prior(1.0, scales=_normal(start * factors, deviation)))
    return min(begin, (score + penalty + _DOUBT * varied.sum(), prior), key=lambda one: one[0])


def _normal(scales: np.ndarray, deviation: np.ndarray) -> tuple[float, ...]:
    """Scales, to three digits, that leave the mean squared distance between inputs what it is."""
    relative = deviation / deviation.max()
    scales = scales / scales[deviation.argmax()]
    scales *= np.sqrt((relative**2).sum() / ((scales * relative) ** 2).sum())
    return tuple(float(f"{scale:.3g}") for scale in np.where(deviation > 0.0, scales, 1.0))


def _descended(
    sample: _Sample, start: np.ndarray, varied: np.ndarray, prior: Prior
) -> tuple[np.ndarray, float]:
    """Factors on the columns that vary which make the answers likelier, and the penalty on them."""
    from scipy.optimize import minimize  # noqa: PLC0415  a tenth of a second to import

    points = (sample.inputs * start)[:, varied] / prior.length
    squares = (points[:, None] - points[None]) ** 2
    answers = sample.answers[0]
    size, columns = points.shape
    bound, floor = np.log(_WIDEST), 1e-24 * (answers**2).sum()

    def loss(place: np.ndarray) -> tuple[float, np.ndarray]:
        weights, noise = np.exp(2.0 * place[:-1]), np.exp(place[-1])
        correlations, slopes = sloped(squares @ weights, prior.smoothness)
        correlations[np.diag_indices(size)] = 1.0 + noise
        projected, _, total = inverse(correlations[None].copy(), sample.used)
        told = projected[0] @ answers
        power = max(float((answers * told).sum()), floor)
        _, logdet = np.linalg.slogdet(correlations)
        score = (size - 1) * np.log(power) + logdet + np.log(total[0])
        pull = projected[0] - (size - 1) / power * (told @ told.T)
        away = place[:-1] - place[:-1].mean()
        steepness = np.tensordot(pull * slopes, squares, 2) * 2.0 * weights
        return score + _EVEN * away @ away, np.append(
            steepness + 2.0 * _EVEN * away, noise * np.trace(pull)
        )

    found = minimize(
        loss,
        np.append(np.zeros(columns), np.log(prior.noise)),
        jac=True,
        method="L-BFGS-B",
        bounds=[(-bound, bound)] * columns + [(np.log(_QUIETEST), np.log(_LOUDEST))],
        options={"maxiter": _STEPS},
    ).x[:-1]
    away = found - found.mean()
    return np.exp(away), float(_EVEN * away @ away)
