"""`on_timeout`: rows that run longer than `call_timeout` fail, or are estimated from the others."""

import asyncio
import warnings

import numpy as np
import pytest

import codedmap as cm
from codedmap.errors import CallTimeout, InvalidArgument, RowFailed
from codedmap.testing import Scripted, late, never

X = np.linspace(0.0, 3.0, 40)[:, None]
LATE = {"chunk": 1, "hedge": None, "call_timeout": 1.0, "on_timeout": "estimate"}


def wave(batch):
    return np.sin(batch[:, 0])


class Hanging(Scripted):
    """An engine on which calls never end that hold certain inputs."""

    def __init__(self, workers, *inputs):
        super().__init__(workers)
        self.inputs = list(inputs)

    def submit(self, worker, fn, payload):
        hangs = any(one in self.inputs for one in np.ravel(payload.parts[0]).tolist())
        self._acts = {worker: iter([never() if hangs else late(0.01)])}
        return super().submit(worker, fn, payload)


def hanging(*rows):
    return Hanging(3, *X[list(rows), 0])


def rows_of(result, status):
    return np.flatnonzero(result.status == status).tolist()


@pytest.mark.parametrize("on_error", ["raise", "record"])
@pytest.mark.parametrize("deadline", [None, 60.0])
def test_a_row_that_ran_too_long_is_estimated(virtual_time, on_error, deadline):
    with hanging(5, 17) as engine:
        result = cm.map(wave, X, engine=engine, on_error=on_error, deadline=deadline, **LATE)
    rows = [5, 17]
    assert rows_of(result, cm.Status.ESTIMATED) == [*result.failures] == rows
    assert {type(error) for error in result.failures.values()} == {CallTimeout}
    assert result.exact.sum() == len(X) - 2
    np.testing.assert_array_equal(result.values[result.exact], wave(X)[result.exact])
    assert (result.stderr[rows] > 0.0).all()
    assert (np.abs(result.values - wave(X))[rows] < 0.1).all()
    assert result.check() is result
    assert f"timed out  2; the first, row {rows[0]}, with CallTimeout" in str(result)
    assert "  failed " not in str(result)


def test_without_it_the_row_fails(virtual_time):
    given = LATE | {"on_timeout": "fail"}
    with hanging(6) as engine:
        result = cm.map(wave, X, engine=engine, on_error="record", **given)
    assert len(rows_of(result, cm.Status.FAILED)) == 1
    with hanging(6) as engine, pytest.raises(RowFailed, match="still running after call_timeout=1"):
        cm.map(wave, X, engine=engine, **given)


def test_rows_that_failed_otherwise_are_not_estimated(virtual_time):
    def raises(batch):
        if batch[0, 0] == X[30, 0]:
            raise ValueError("no")
        return wave(batch)

    with hanging(6) as engine:
        result = cm.map(raises, X, engine=engine, on_error="record", **LATE)
    assert len(rows_of(result, cm.Status.ESTIMATED)) == 1
    assert rows_of(result, cm.Status.FAILED) == [30]
    assert len(result.failures) == 2


@pytest.mark.parametrize(
    ("fn", "inputs", "why"),
    [
        (lambda batch: ["text"] * len(batch), X, "the answers are not all real numbers"),
        (lambda batch: [len(text) for text in batch], [f"a{k}" for k in range(40)], "not numbers"),
        (wave, X[:3], "only one row was answered, and estimates need 2"),
    ],
)
@pytest.mark.parametrize("on_error", ["raise", "record"])
def test_a_row_that_cannot_be_estimated_fails_and_says_why(virtual_time, fn, inputs, why, on_error):
    few = len(inputs) == 3
    hang = list(np.ravel(inputs)[: 1 + few])
    with Hanging(3, *hang) as engine:
        if on_error == "record":
            result = cm.map(fn, inputs, engine=engine, on_error=on_error, **LATE)
            failed = rows_of(result, cm.Status.FAILED)
            assert len(failed) == 1 + few
            assert [*result.failures] == failed
            assert why in str(result.failures[failed[0]])
            assert "call_timeout=1" in str(result.failures[failed[0]])
        else:
            with pytest.raises(RowFailed, match=why) as caught:
                cm.map(fn, inputs, engine=engine, on_error=on_error, **LATE)
            assert isinstance(caught.value.__cause__, CallTimeout)
    assert len(engine.calls) == len(inputs)  # the others were computed


def test_rows_with_inputs_that_are_not_finite_fail(virtual_time):
    inputs = X.copy()
    inputs[6] = np.inf

    with Hanging(3, np.inf) as engine:
        result = cm.map(wave, inputs, engine=engine, on_error="record", **LATE)
    assert rows_of(result, cm.Status.FAILED) == [6]
    assert "inputs are NaN or infinite" in str(result.failures[6])


def test_it_warns_if_what_ran_too_long_depends_on_the_inputs(virtual_time):
    rng = np.random.default_rng(0)
    inputs = rng.random((400, 2))

    slow = np.flatnonzero(inputs[:, 0] > 0.9).tolist()
    engine = Hanging(4, *inputs[slow, 0])
    with engine, pytest.warns(UserWarning, match="rows are not missing at random"):
        result = cm.map(lambda b: b.sum(axis=1), inputs, engine=engine, **LATE)
    assert rows_of(result, cm.Status.ESTIMATED) == slow == [*result.failures]


def test_streams_and_loops_give_the_same():
    given = LATE | {"call_timeout": 0.5}

    async def in_a_loop():
        with hanging(6) as engine:
            alone = await cm.amap(wave, X, engine=engine, **given)
        with hanging(6) as engine:
            return [alone, *[r async for r in cm.astream(wave, X, engine=engine, **given)]]

    with hanging(6) as engine:
        results = [*cm.stream(wave, X, engine=engine, **given)]
    streamed = asyncio.run(in_a_loop())
    for result in (results[-1], streamed[0], streamed[-1]):
        assert len(rows_of(result, cm.Status.ESTIMATED)) == 1 == len(result.failures)
    assert not any((result.status == cm.Status.FAILED).any() for result in results + streamed)


def test_with_a_tolerance_too(virtual_time):
    with hanging(6) as engine:
        result = cm.map(wave, X, engine=engine, tolerance=1e-12, **LATE)
    assert rows_of(result, cm.Status.ESTIMATED) == [*result.failures] == [6]
    assert result.exact.sum() == len(X) - 1


def test_an_output_has_the_estimate_and_resuming_computes_the_row(virtual_time, tmp_path):
    out = tmp_path / "y.npy"
    with hanging(6) as engine:
        result = cm.map(wave, X, engine=engine, out=out, **LATE)
    (row,) = rows_of(result, cm.Status.ESTIMATED)
    assert np.load(tmp_path / "y.status.npy")[row] == cm.Status.ESTIMATED
    assert abs(result.values[row] - wave(X)[row]) < 0.1
    with Scripted(2) as engine:
        result = cm.map(wave, X, engine=engine, out=out, resume=True, **LATE)
    assert len(engine.calls) == 1
    assert result.exact.all()
    assert not result.failures
    np.testing.assert_array_equal(result.values, wave(X))


def test_an_output_of_integers_holds_no_estimate(virtual_time, tmp_path):
    given = LATE | {"out": tmp_path / "y.npy", "on_error": "record"}
    with hanging(6) as engine, pytest.warns(UserWarning, match="estimates are floating-point"):
        result = cm.map(lambda b: np.arange(len(b)), X, engine=engine, **given)
    (row,) = rows_of(result, cm.Status.FAILED)
    assert "takes no estimates" in str(result.failures[row])


def test_a_sweep_has_the_estimate_and_the_reason(virtual_time):
    def model(x):
        return {"y": np.sin(x)}

    design = {"x": np.r_[X[:, 0], X[0, 0]]}  # a row twice
    with hanging(6) as engine:
        result = cm.sweep(model, design, engine=engine, unique=True, **LATE)
    (row,) = rows_of(result, cm.Status.ESTIMATED)
    assert [*result.failures] == [row]
    assert result.table["status"][row] == "ESTIMATED"
    assert result.table["y_stderr"][row] > 0.0
    assert "call_timeout=1" in result.table["error"][row]
    assert result.table["error"][row - 1] is None
    assert "timed out  1;" in str(result)


@pytest.mark.parametrize(
    "code", [cm.Replication(1, 1), cm.Replication(1, 1, fill="mean"), cm.codes.KernelCode(1, 1, 0)]
)
@pytest.mark.parametrize("out", [False, True])
def test_with_a_code_too_a_row_alone_is_estimated(virtual_time, tmp_path, code, out):
    given = {"call_timeout": 1.0, "hedge": None, "code": code}
    if out:
        given |= {"out": tmp_path / "y.npy", "chunk": 40}
    with Hanging(1, X[5, 0]) as engine:
        result = cm.map(wave, X, engine=engine, on_timeout="estimate", **given)
    assert rows_of(result, cm.Status.ESTIMATED) == [5] == [*result.failures]
    assert isinstance(result.failures[5], CallTimeout)
    assert abs(result.values[5] - np.sin(X[5, 0])) < 0.1
    assert result.stderr[5] > 0.0
    np.testing.assert_array_equal(result.values[result.exact], wave(X)[result.exact])


def test_with_a_code_too_a_row_that_cannot_be_estimated_fails(virtual_time):
    texts = [f"a{k}" for k in range(6)]
    given = LATE | {"code": cm.Replication(1, 1)}
    with Hanging(1, "a3") as engine:
        result = cm.map(
            lambda b: [len(t) for t in b], texts, engine=engine, on_error="record", **given
        )
    assert rows_of(result, cm.Status.FAILED) == [3]
    assert "the inputs are not numbers" in str(result.failures[3])
    with (
        Hanging(1, "a3") as engine,
        pytest.raises(RowFailed, match=r"row 3 .*the inputs are not numbers"),
    ):
        cm.map(lambda b: [len(t) for t in b], texts, engine=engine, **given)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"on_timeout": "estimate"}, "call_timeout, which is not given"),
        ({"on_timeout": "retry", "call_timeout": 1.0}, 'must be "fail" or "estimate"'),
        ({"on_timeout": None}, 'must be "fail" or "estimate"'),
    ],
)
def test_what_cannot_work_is_said_before_anything_runs(given, says):
    with Scripted(2) as engine:
        with pytest.raises(InvalidArgument, match=says):
            cm.map(wave, X, engine=engine, **given)
        with pytest.raises(InvalidArgument, match=says):
            cm.sweep(abs, {"x": [1.0]}, engine=engine, **given)
    assert not engine.calls


def test_rows_of_an_iterator_cannot_be_estimated():
    with Scripted(2) as engine, pytest.raises(InvalidArgument, match="whose rows are not kept"):
        cm.map(wave, iter([X, X]), engine=engine, **LATE)
    assert not engine.calls


def test_no_warning_where_all_is_well(virtual_time):
    with warnings.catch_warnings(), hanging(6) as engine:
        warnings.simplefilter("error")
        cm.map(wave, X, engine=engine, **LATE)


def test_the_error_can_be_made_as_pickles_of_dask_make_it():
    """Where Dask was imported, a timeout came back from a worker as a RuntimeError."""
    assert type(CallTimeout.__new__(CallTimeout)) is CallTimeout
    assert str(CallTimeout("late", "wait")) == "late: wait"
