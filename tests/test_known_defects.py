"""Known defects, by the title of the issue that repairs them, which then takes the mark away."""

from __future__ import annotations

import numpy as np
import pytest

import codedmap as cm
from codedmap.testing import Scripted, never

X = np.random.default_rng(0).normal(size=(40, 3))


def within(result: cm.MapResult, truth: np.ndarray, errors: float) -> bool:
    """Whether no estimated row is off by more than so many of its standard errors."""
    stderr = result.row_stderr()
    assert stderr is not None
    off = np.abs(result.values - truth).reshape(len(truth), -1).max(axis=1)
    estimated = ~result.exact
    assert estimated.any()
    return bool((off[estimated] <= errors * stderr[estimated]).all())


def test_a_row_that_only_fills_a_group_is_no_evidence():
    given = np.array([[0.0], [10.0]])
    with Scripted(3, {0: never()}) as engine:
        code = cm.Uncoded(3, fill="mean")
        result = cm.map(
            lambda batch: 1.0 * batch, given, code=code, engine=engine, stop=cm.Quorum(2)
        )
    assert within(result, given, 10.0)


@pytest.mark.parametrize("late", [(0, 2), (1, 3)], ids=str)
def test_the_standard_error_of_a_step_is_not_that_of_rounding(late):
    def steps(batch):
        return np.floor(3 * batch)

    given = np.random.default_rng(0).uniform(0, 1, (8, 1))
    with Scripted(4, dict.fromkeys(late, never())) as engine:
        result = cm.map(steps, given, code=cm.KernelCode(2, 4, 2), engine=engine)
    assert within(result, steps(given), 1e3)


@pytest.mark.parametrize("scale", [2.0**465, 2.0**515, 2.0**996])  # 1e140, 1e155, 1e300
@pytest.mark.parametrize("known", [False, True], ids=["alone", "known"])
def test_the_scale_of_the_inputs_makes_no_difference(scale, known):
    found = []
    for unit in (1.0, scale):

        def fn(batch, unit=unit):
            return np.tanh(batch / unit)

        leant_on = cm.estimation.Known(unit * X[:20], np.tanh(X[:20])) if known else None
        with Scripted(8, {0: never(), 3: never()}) as engine:
            code = cm.KernelCode(6, 8, 2, known=leant_on)
            found.append(cm.map(fn, unit * X[20:], code=code, engine=engine))
    small, large = found
    assert np.isfinite(large.values).all()
    np.testing.assert_allclose(large.values, small.values, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(large.stderr, small.stderr, rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize(
    ("inputs", "answers"),
    [([[1.0, 2.0], [3.0]], [1.0, 2.0]), ([[1.0, 2.0], [3.0, 4.0]], [[1.0], [2.0, 3.0]])],
    ids=["inputs", "answers"],
)
def test_known_answers_of_unequal_shape_are_refused(inputs, answers):
    with pytest.raises(cm.InvalidArgument):
        cm.estimation.Known(inputs, answers)
