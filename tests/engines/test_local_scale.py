"""Known answers tell where a function is steep, and standard errors follow."""

from __future__ import annotations

import numpy as np

import codedmap as cm
from codedmap.estimation.known import Background, Known


def steep_on_the_right(x: np.ndarray) -> np.ndarray:
    value: np.ndarray = np.exp(1.5 * x[:, 0]) * np.sin(7.0 * x[:, 0]) * np.cos(7.0 * x[:, 1])
    return value


def waves(code: cm.KernelCode, count: int, rng: np.random.Generator):
    """Errors, standard errors and first inputs of the estimated rows."""
    found = []
    for _ in range(count):
        inputs = rng.uniform(-1.0, 1.0, (code.tasks, 10, 2))
        encoding = code.encode(inputs)
        late = rng.choice(code.workers, code.stragglers, replace=False)
        answers = {
            n: steep_on_the_right(encoding.payloads[n])
            for n in range(code.workers)
            if n not in late
        }
        estimate = encoding.decode(answers)
        truth = steep_on_the_right(inputs.reshape(-1, 2)).reshape(code.tasks, 10)
        some = ~estimate.exact
        found.append(
            (np.abs(estimate.values - truth)[some], estimate.stderr[some], inputs[some, 0])
        )
    return (np.concatenate(part) for part in zip(*found, strict=True))


def misfit(errors: np.ndarray, stated: np.ndarray) -> float:
    return float(np.sqrt(np.mean((errors / stated) ** 2)))


def test_standard_errors_follow_where_the_function_is_steep(monkeypatch):
    def unevenness():
        rng = np.random.default_rng(0)
        rows = rng.uniform(-1.0, 1.0, (200, 2))
        known = Known(rows, steep_on_the_right(rows))
        code = cm.KernelCode(tasks=12, workers=15, stragglers=4, known=known, suspicion=1e6)
        errors, stated, first = waves(code, 30, rng)
        left, right = first < -0.3, first > 0.3
        assert min(left.sum(), right.sum()) > 200
        return misfit(errors[right], stated[right]) / misfit(errors[left], stated[left])

    local = unevenness()
    monkeypatch.setattr(Background, "local", lambda self, products, size: np.ones(size.shape))
    same_everywhere = unevenness()
    assert same_everywhere > 2.5
    assert 1.0 < local < same_everywhere / 1.5


def test_a_function_equally_steep_everywhere_has_one_scale():
    rng = np.random.default_rng(1)
    rows = rng.uniform(-1.0, 1.0, (250, 3))
    prior = cm.estimation.Prior(0.5, smoothness="gaussian")
    every = np.concatenate([rows, rng.uniform(-1.0, 1.0, (300, 3))])
    covariance = np.exp(-2.0 * ((rows[:, None] - rows) ** 2).sum(axis=2)) + 1e-8 * np.eye(250)
    draws = np.linalg.cholesky(covariance) @ rng.standard_normal((250, 30))
    known = Known(rows, draws)
    background = known.under(prior)
    placed = known.placed(prior)
    fresh = placed.seen(every[250:])
    local = background.local((fresh @ placed.points.T)[None], (fresh**2).sum(axis=1)[None])
    assert np.isclose(background.surprise.mean(), 1.0)
    assert 0.9 < local.mean() < 1.1
    assert 0.5 < local.min() < local.max() < 2.0


def test_equal_known_rows_and_a_constant_function_leave_the_scale_alone():
    rows = np.repeat(np.linspace(0.0, 1.0, 4), 10)[:, None]
    for answers in (np.full(40, 3.0), rows[:, 0] ** 2):
        background = Background.of(Known(rows, answers), cm.estimation.Prior(1.0, 1e-4))
        placed = background.placed
        local = background.local(
            (placed.points @ placed.points.T)[None], (placed.points**2).sum(axis=1)[None]
        )
        assert np.isfinite(local).all()
        assert (local > 0.0).all()
    constant = Background.of(Known(rows, np.full(40, 3.0)), cm.estimation.Prior(1.0, 1e-4))
    assert constant.surprise.max() < 40.0


def test_three_known_answers_are_enough():
    known = Known(np.arange(3.0), np.array([0.0, 1.0, 0.5]))
    code = cm.KernelCode(tasks=4, workers=6, stragglers=2, known=known)
    inputs = np.linspace(0.0, 2.0, 8).reshape(4, 2)
    encoding = code.encode(inputs)
    estimate = encoding.decode({n: np.sin(encoding.payloads[n]) for n in (0, 2, 4, 5)})
    assert np.isfinite(estimate.stderr).all()
