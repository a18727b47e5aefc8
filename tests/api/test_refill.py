"""Thorough estimates after a job, and Sobol indices of what is filled."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import codedmap as cm
from codedmap.testing import Scripted, late

from ..repeats import first

ESTIMATED, EXACT, FAILED = cm.Status.ESTIMATED, cm.Status.EXACT, cm.Status.FAILED
HURRIED = "  hurried    estimates had little time: result.refill() makes thorough ones"


def flows(x):
    return {"peak": np.sin(4 * x[:, 0]) * x[:, 1], "base": x[:, 2] ** 2}


@pytest.fixture(scope="module")
def job():
    """Inputs, and a job that ends when two thirds of the rows are there, with no time for thorough estimates."""
    points = np.random.default_rng(0).uniform(size=(120, 3))
    with ThreadPoolExecutor(2) as pool:
        return points, cm.map(flows, points, engine=pool, stop=cm.Share(0.66), chunk=2)


def test_refill_gives_what_fill_gives_from_the_exact_rows(job):
    points, result = job
    assert (result.status == ESTIMATED).any()
    before = pickle.dumps((result.values, result.stderr, result.status))
    again = result.refill()
    assert pickle.dumps((result.values, result.stderr, result.status)) == before
    np.testing.assert_array_equal(again.status, result.status)
    exact = result.status == EXACT
    answers = np.stack(list(flows(points).values()), axis=1)
    filled = cm.fill(points, np.where(exact[:, None], answers, np.nan))
    for column, name in enumerate(("peak", "base")):
        np.testing.assert_array_equal(again.values[name], filled.values[:, column])
        np.testing.assert_array_equal(again.stderr[name], filled.stderr[:, column])
    assert again.refill().status.tolist() == again.status.tolist()


def test_a_result_says_in_one_line_that_its_estimates_were_hurried(job):
    _, result = job
    assert str(result).splitlines().count(HURRIED) == 1
    assert HURRIED not in str(result.refill())
    assert str(result.refill()) == str(pickle.loads(pickle.dumps(result)).refill())


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize(("deadline", "hurried"), [(1.0, True), (1000.0, False)])
def test_a_tenth_of_a_deadline_may_be_too_short(deadline, hurried):
    points = np.random.default_rng(0).uniform(size=(60, 2))
    result = cm.map(
        lambda x: x[:, 0] * x[:, 1], points, engine=Scripted(3, {2: late(1e9)}),
        deadline=deadline, hedge=None, chunk=5,
    )  # fmt: skip
    assert (result.status == ESTIMATED).any()
    assert (HURRIED in str(result)) is result.hurried is hurried


@pytest.mark.parametrize("code", first(1, [None, cm.Replication(tasks=3, workers=6)]))
def test_rows_that_failed_are_not_estimated_and_missing_ones_are(code):
    def fails(x):
        if x[0] == 7:
            raise ValueError("seven")
        return float(x[0])

    points = np.arange(40.0)[:, None]
    with ThreadPoolExecutor(6) as pool:
        exact = cm.map(cm.itemwise(fails), points, engine=pool, on_error="record", code=code)
    status = exact.status.copy()
    assert status[7] == FAILED
    assert exact.refill() is exact
    status[[3, 11]] = cm.Status.MISSING
    result = pickle.loads(pickle.dumps(exact))
    result.status[:] = status
    again = result.refill()
    status[[3, 11]] = ESTIMATED
    np.testing.assert_array_equal(again.status, status)
    np.testing.assert_allclose(np.delete(again.values, 7), np.delete(points[:, 0], 7), atol=1e-2)
    assert np.isnan(again.values[7])
    assert (again.stderr[[3, 11]] > 0.0).all()
    assert (again.stderr[exact.status == EXACT][~np.isin(np.arange(39), [3, 10])] == 0.0).all()


def test_without_inputs_and_answers_in_memory_the_error_names_fill(tmp_path, job):
    points, _ = job
    with ThreadPoolExecutor(2) as pool:
        options = {"engine": pool, "stop": cm.Share(0.66), "chunk": 2}
        stored = cm.map(lambda x: x[:, 0], points, out=tmp_path / "y.npy", **options)
        assert HURRIED not in str(stored)
        with pytest.warns(UserWarning, match="MISSING"):
            parts = cm.map(lambda x: x[:, 0].astype(str), points, **options)
    for result, error, message in (
        (stored, cm.InvalidArgument, r"codedmap\.fill\(X, y\)"),
        (parts, cm.NotEnoughAnswers, "numbers"),
    ):
        with pytest.raises(error, match=message):
            result.refill()


PROBLEM = {"names": ["x", "z"], "bounds": [[-1.0, 1.0]] * 2, "num_vars": 2}


def test_a_sweep_that_is_refilled_keeps_its_table_and_its_indices():
    sampler = pytest.importorskip("SALib.sample.sobol")
    sample = sampler.sample(PROBLEM, 32, seed=1)
    with ThreadPoolExecutor(2) as pool:
        result = cm.sweep(
            lambda x, z: np.sin(x) + z**2, (PROBLEM, sample),
            engine=pool, stop=cm.Share(0.6), chunk=1, unique=True,
        )  # fmt: skip
    assert str(result).splitlines().count(HURRIED) == 1
    again = result.refill()
    assert HURRIED not in str(again)
    assert list(again.table.columns) == list(result.table.columns)
    np.testing.assert_array_equal(again.table["y"], again.values["y"])
    truth = np.sin(sample[:, 0]) + sample[:, 1] ** 2
    np.testing.assert_allclose(again.values["y"], truth, atol=1e-2)
    exact = pytest.importorskip("SALib.analyze.sobol").analyze(PROBLEM, truth, seed=1)
    np.testing.assert_allclose(again.sobol()["y"]["ST"], exact["ST"], atol=1e-2)


@pytest.mark.parametrize("framed", [False, True])
def test_what_is_filled_of_a_sample_has_the_indices_of_a_sweep(framed):
    sampler = pytest.importorskip("SALib.sample.sobol")
    analyze = pytest.importorskip("SALib.analyze.sobol").analyze
    sample = sampler.sample(PROBLEM, 32, seed=1)
    y = np.sin(sample[:, 0]) + sample[:, 1] ** 2
    design = sample
    if framed:  # columns go by their names
        design = pytest.importorskip("pandas").DataFrame({"z": sample[:, 1], "x": sample[:, 0]})
    whole = cm.fill(design, y).sobol(PROBLEM)["y"]
    for name, value in analyze(PROBLEM, y, seed=1).items():
        np.testing.assert_array_equal(whole[name], value)
    assert (whole["ST_std"] == 0.0).all()
    lost = np.where(np.arange(len(y)) % 5 == 2, np.nan, y)
    indices = cm.fill(design, lost).sobol(PROBLEM)["y"]
    np.testing.assert_allclose(indices["ST"], whole["ST"], atol=1e-2)
    assert (indices["ST_std"] > 0.0).all()
    with pytest.raises(cm.InvalidArgument, match="give that of which it is a sample"):
        cm.fill(design, lost).sobol()
    with pytest.raises(cm.NotEnoughAnswers, match="3 of 192 rows failed"):
        cm.fill(design, lost, failed=[2, 7, 12]).sobol(PROBLEM)
