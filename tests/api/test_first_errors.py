"""What users see first: other libraries' arguments, jobs whose rows all raise, tracebacks."""

import asyncio
import inspect
import re
import traceback
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import codedmap as cm
from codedmap.errors import InvalidArgument, RowFailed
from codedmap.testing import Scripted, crash
from tests.api.calls import raises, raises_by_name

X = np.arange(40.0)
PACKAGE = str(Path(cm.__file__).parent)


@pytest.fixture(scope="module")
def engines():
    with (
        cm.engines.Local(2) as workers,
        ThreadPoolExecutor(2) as threads,
        ProcessPoolExecutor(2) as processes,
    ):
        yield {"workers": workers, "threads": threads, "processes": processes}


# Arguments of other libraries -------------------------------------------------------------------------------


async def _all(results):
    return [result async for result in results]


ENTRIES = [
    lambda **given: cm.map(np.sin, X, **given),
    lambda **given: cm.sweep(np.sin, {"x": X}, **given),
    lambda **given: list(cm.stream(np.sin, X, **given)),
    lambda **given: asyncio.run(cm.amap(np.sin, X, **given)),
    lambda **given: asyncio.run(_all(cm.astream(np.sin, X, **given))),
]


@pytest.mark.parametrize("entry", ENTRIES)
def test_arguments_of_other_libraries_say_what_to_write_instead(entry):
    with pytest.raises(TypeError, match=r"engine=codedmap\.engines\.Local\(workers=4\)"):
        entry(workers=4)
    with pytest.raises(TypeError, match=r"deadline=4, .*call_timeout=4"):
        entry(timeout=4)
    with pytest.raises(TypeError, match="other"):
        entry(other=4)


@pytest.mark.parametrize("entry", [cm.map, cm.sweep])
def test_the_signature_has_no_such_arguments(entry):
    parameters = inspect.signature(entry).parameters
    assert "engine" in parameters
    assert not {"workers", "timeout"} & set(parameters)
    assert all(one.kind is not one.VAR_KEYWORD for one in parameters.values())


# Jobs whose rows all raise ----------------------------------------------------------------------------------


def computed(engine):
    """How many rows were computed."""
    return sum(len(payload.numbers) for _, payload in engine.calls)


@pytest.mark.parametrize("code", [None, cm.Replication(2, 2), cm.SplineCode(2, 2, 0)])
def test_a_job_whose_first_rows_all_raise_stops(code):
    given = {"code": code, "on_error": "record", "chunk": 1 if code is None else 5}
    with Scripted(2) as engine:
        with pytest.raises(RowFailed) as caught:
            cm.map(cm.itemwise(raises), X, engine=engine, **given)
        stopped = computed(engine)
        says = str(caught.value)
        assert says.startswith("the first 20 rows raised ValueError, and none has an answer: row ")
        assert "no root of" in says
        assert says.endswith("or go on with max_failures=None")
        assert isinstance(caught.value.__cause__, ValueError)
        result = cm.map(cm.itemwise(raises), X, engine=engine, max_failures=None, **given)
    assert (result.status == cm.Status.FAILED).all()
    assert stopped < computed(engine) - stopped


def test_a_limit_may_be_given():
    given = {"on_error": "record", "chunk": 1}
    with Scripted(2) as engine, pytest.raises(RowFailed, match="the first 3 rows raised"):
        cm.map(cm.itemwise(raises), X, engine=engine, max_failures=3, **given)
    assert computed(engine) < 10
    with Scripted(2) as engine, pytest.raises(RowFailed, match="all 40 rows raised ValueError"):
        cm.map(cm.itemwise(raises), X, engine=engine, max_failures=50, **given)
    for wrong in (0, 1.5, "all"):
        with pytest.raises(InvalidArgument, match="max_failures="):
            cm.map(cm.itemwise(raises), X, max_failures=wrong, **given)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("iterator", [False, True])
def test_so_does_one_of_fewer_rows(rows, iterator):
    inputs = iter([X[:rows]]) if iterator else X[:rows]
    says = "the only row raised" if rows == 1 else "all 3 rows raised"
    with Scripted(2) as engine, pytest.raises(RowFailed, match=says):
        cm.map(cm.itemwise(raises), inputs, engine=engine, on_error="record")


@pytest.mark.parametrize("where", [0, 7, 19])
@pytest.mark.parametrize("ends", ["answers", "raises another", "crashes"])
@pytest.mark.parametrize("code", [None, cm.Replication(1, 1)])
def test_one_row_that_ends_otherwise_is_enough_to_go_on(where, ends, code):
    class Engine(Scripted):
        def submit(self, worker, fn, payload):
            here = ends == "crashes" and where in np.ravel(payload.parts[0])
            self._acts = {worker: iter([crash()])} if here else {}
            return super().submit(worker, fn, payload)

    def fn(x):
        if x != where:
            raise ValueError("no")
        if ends == "answers":
            return x
        raise KeyError("other")

    with Engine(1) as engine:
        result = cm.map(
            cm.itemwise(fn), X, engine=engine, on_error="record", chunk=1, code=code, retries=0
        )
    failed = (result.status >= cm.Status.FAILED).sum()
    assert failed == len(X) - (ends == "answers")
    assert type(result.failures[30]) is ValueError


def test_after_twenty_rows_it_does_not_matter_what_ends_how():
    def fn(x):
        if x > 0:
            raise ValueError("no")
        return x

    with Scripted(1) as engine:
        result = cm.map(cm.itemwise(fn), X, engine=engine, on_error="record", chunk=1)
    assert result.exact.sum() == 1


def test_rows_of_a_call_that_answers_count_together():
    def fn(x):
        if x < 30:
            raise ValueError("no")
        return x

    for code in (None, cm.Replication(1, 1)):
        with Scripted(1) as engine:
            result = cm.map(
                cm.itemwise(fn), X, engine=engine, on_error="record", chunk=40, code=code
            )
        assert result.exact.sum() == 10


def test_rows_of_an_earlier_job_count(tmp_path):
    def fn(x):
        if x > 0:
            raise ValueError("no")
        return x

    out = tmp_path / "y.npy"
    given = {"on_error": "record", "chunk": 1, "out": out}
    with Scripted(1) as engine:
        cm.map(cm.itemwise(fn), X, engine=engine, **given)
        result = cm.map(cm.itemwise(fn), X, engine=engine, resume=True, **given)
    assert result.exact.sum() == 1


def test_a_sweep_stops_too_and_a_pool_raises_what_was_raised():
    with Scripted(2) as engine:
        with pytest.raises(RowFailed, match="all 3 rows raised ValueError"):
            cm.sweep(raises_by_name, {"x": [1.0, 2.0, 3.0]}, engine=engine)
        result = cm.sweep(raises_by_name, {"x": [1.0]}, engine=engine, max_failures=None)
        assert type(result.failures[0]) is ValueError
        with cm.Pool(engine) as pool, pytest.raises(ValueError, match="no root"):
            pool.map(raises, X)


# Tracebacks -------------------------------------------------------------------------------------------------


def _swept(fn, engine, **given):
    return cm.sweep(raises_by_name, {"x": X}, engine=engine, **given)


def _pooled(fn, engine):
    with cm.Pool(engine) as pool:
        return pool.map(raises, X)


def _imapped(fn, engine):
    with cm.Pool(engine) as pool:
        return list(pool.imap(raises, X))


CALLS = {
    "map": lambda fn, engine: cm.map(fn, X, engine=engine),
    "record": lambda fn, engine: cm.map(fn, X, engine=engine, on_error="record"),
    "copies": lambda fn, engine: cm.map(fn, X, engine=engine, code=cm.Replication(2, 2)),
    "mixtures": lambda fn, engine: cm.map(fn, X, engine=engine, code=cm.SplineCode(2, 2, 0)),
    "auto": lambda fn, engine: cm.map(fn, X, engine=engine, code="auto"),
    "stream": lambda fn, engine: list(cm.stream(fn, X, engine=engine)),
    "amap": lambda fn, engine: asyncio.run(cm.amap(fn, X, engine=engine)),
    "astream": lambda fn, engine: asyncio.run(_all(cm.astream(fn, X, engine=engine))),
    "sweep": _swept,
    "Pool.map": _pooled,
    "Pool.imap": _imapped,
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("lift", [True, False])
@pytest.mark.parametrize("where", ["workers", "threads", "processes"])
def test_few_frames_of_this_package_are_shown(engines, call, lift, where):
    fn = cm.itemwise(raises) if lift else raises
    with pytest.raises((RowFailed, ValueError)) as caught:
        CALLS[call](fn, engines[where])
    shown = "".join(traceback.format_exception(caught.value))
    assert shown.count(f'File "{PACKAGE}') <= 3
    assert re.search(r'File ".*calls\.py", line \d+, in raises\n', shown)
    assert "no root of" in shown


def test_few_frames_are_shown_of_a_sum():
    code = cm.codes.FractionalRepetition(workers=4, stragglers=1)
    with Scripted(4) as engine:
        parts = cm.CodedParts([X] * 4, code=code, engine=engine)
        with pytest.raises(cm.NotEnoughAnswers) as caught:
            cm.sum(raises, parts)
    shown = "".join(traceback.format_exception(caught.value))
    assert shown.count(f'File "{PACKAGE}') <= 3
    assert "in raises" in shown


def test_what_is_recorded_begins_in_the_function():
    with ThreadPoolExecutor(2) as pool:
        result = cm.map(raises, X, engine=pool, on_error="record", max_failures=None)
    shown = "".join(traceback.format_exception(result.failures[3]))
    assert PACKAGE not in shown
    assert "in raises" in shown
