"""KernelCode where answers are so alike that covariances are all but singular: the errors it states
against the same formula in 60 digits."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

import codedmap as cm

SMOOTHNESSES = ("matern32", "matern52", "gaussian")
TASKS, WORKERS, COLUMNS = 8, 24, 3


def correlation(one, other, prior):
    squared = sum(
        (mpmath.mpf(float(a)) - mpmath.mpf(float(b))) ** 2 for a, b in zip(one, other, strict=True)
    )
    apart = mpmath.sqrt(squared) / mpmath.mpf(prior.length)
    if prior.smoothness == "gaussian":
        return mpmath.exp(-(apart**2) / 2)
    if prior.smoothness == "matern32":
        return (1 + mpmath.sqrt(3) * apart) * mpmath.exp(-mpmath.sqrt(3) * apart)
    return (1 + mpmath.sqrt(5) * apart + 5 * apart**2 / 3) * mpmath.exp(-mpmath.sqrt(5) * apart)


def variances(points, targets, prior):
    """Of the estimates at targets (T, d) from answers at points (F, d), in units of s²."""
    with mpmath.workdps(60):
        count = len(points)
        covariance = mpmath.matrix(count)
        for i in range(count):
            for j in range(count):
                covariance[i, j] = correlation(points[i], points[j], prior)
            covariance[i, i] += mpmath.mpf(prior.noise)
        inverse = covariance**-1
        ones = mpmath.matrix([1] * count)
        total = (ones.T * inverse * ones)[0]
        found = []
        for target in targets:
            near = mpmath.matrix([correlation(point, target, prior) for point in points])
            solved = inverse * near
            short = 1 - (ones.T * solved)[0]
            found.append(float(1 - (near.T * solved)[0] + short**2 / total))
        return np.array(found)


@pytest.mark.parametrize("noise", [1e-10, 1e-8, 1e-4])
@pytest.mark.parametrize("length", [1.0, 10.0, 30.0, 100.0])
@pytest.mark.parametrize("smoothness", SMOOTHNESSES)
def test_stated_errors_are_right_however_alike_the_answers(smoothness, length, noise):
    prior = cm.estimation.Prior(length, noise, smoothness)
    code = cm.KernelCode(TASKS, WORKERS, 0, spread=0.8, prior=prior, suspicion=1e9)
    random = np.random.default_rng(int(length))
    inputs = random.standard_normal((TASKS, 1, COLUMNS))
    encoding = code.encode(inputs)
    raw = [slot for slot, task in enumerate(encoding.raw) if task in (1, 4, 6)]
    slots = [slot for slot in range(WORKERS) if slot not in raw]
    # s², which the answers tell, is the same for all tasks of a group.
    answers = random.standard_normal((WORKERS, 1, 1))
    estimate = encoding.decode({slot: answers[slot] for slot in slots})
    stated = estimate.stderr[:, 0]
    late = np.flatnonzero(~estimate.exact[:, 0])
    assert set(late) >= {1, 4, 6}
    expected = variances(encoding.payloads[slots, 0], inputs[late, 0], prior)
    expected = np.sqrt(np.maximum(expected, noise))
    scale = stated[late] / expected
    # Of the smallest noise there may be, rounding in the operator itself is a part: it adds to the error.
    np.testing.assert_allclose(scale, scale.min(), rtol=0.01 if noise > 1e-10 else 0.1)
