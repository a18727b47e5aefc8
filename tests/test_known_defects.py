"""Known defects, by the title of the issue that repairs them, which then takes the mark away."""

from __future__ import annotations

import numpy as np
import pytest

import codedmap as cm
from codedmap.testing import Scripted, never

X = np.random.default_rng(0).normal(size=(40, 3))
RECORDS = [{"mass": float(a), "speed": float(b)} for a, b, _ in X]


def estimates(defect: str, *kinds: type[BaseException]) -> pytest.MarkDecorator:
    return pytest.mark.xfail(strict=True, raises=kinds, reason=f"Estimates: {defect}")


def rows(defect: str, *kinds: type[BaseException]) -> pytest.MarkDecorator:
    return pytest.mark.xfail(strict=True, raises=kinds, reason=f"Rows: {defect}")


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


@estimates(
    "input scales of 1e140 and more", AssertionError, cm.InvalidArgument, np.linalg.LinAlgError
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # what comes back is worse
@pytest.mark.parametrize("scale", [1e140, 1e155, 1e300])
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


@rows("progress=True shows nothing while planning", AssertionError)
def test_progress_is_shown_while_planning(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    drawn = []

    def fn(batch):
        drawn.append(capsys.readouterr().err)
        return np.tanh(batch)

    with Scripted(8) as engine:
        result = cm.map(fn, X, code="auto", engine=engine, progress=True)
    assert "".join(drawn) + capsys.readouterr().err  # on a terminal, that is
    assert any(drawn[: -result.code.workers])  # before the calls of the wave itself


def momentum(batch):
    return np.array([[row["mass"] * row["speed"]] for row in batch])


@rows("plan and auto fail on records", AttributeError)
@pytest.mark.parametrize("auto", [False, True], ids=["plan", "auto"])
def test_records_can_be_planned_for(auto):
    with Scripted(8) as engine:
        np.testing.assert_array_equal(
            cm.map(momentum, RECORDS, code=cm.Replication(4, 8), engine=engine).values[:, 0],
            X[:, 0] * X[:, 1],
        )
        if auto:
            cm.map(momentum, RECORDS, code="auto", engine=engine)
        else:
            cm.plan(momentum, RECORDS, workers=8, tasks=4, stragglers=2)
