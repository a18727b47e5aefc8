"""`map` without a code: every row exact, or what is wrong with it."""

from __future__ import annotations

import errno
import faulthandler
import gc
import io
import os
import pickle
import re
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
import weakref
from collections import UserDict, UserList
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    Executor,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from contextlib import nullcontext, suppress
from types import SimpleNamespace

import numpy as np
import pandas as pd
import polars
import pyarrow
import pytest

import codedmap as cm
from codedmap.errors import CallTimeout, CannotSend, RowFailed, WorkerCrashed
from codedmap.estimation import gaussian
from codedmap.testing import Act, Faulty, Scripted, crash, fail, late, never

from ..processes import eventually
from ..repeats import first
from ..results.test_trees import Box, Pair
from ..virtual import Virtual

X = np.linspace(0.0, 3.0, 40).reshape(20, 2)
RECORDS = np.array([(1.0, 2), (2.0, 3)], dtype=[("a", float), ("b", int)])


@pytest.fixture(scope="module")
def local():
    with cm.engines.Local(2) as engine:
        yield engine


@pytest.fixture
def pool():
    with ThreadPoolExecutor(3) as executor:
        yield executor


# Inputs and answers -----------------------------------------------------------------------------------


def test_rows_of_an_array(pool):
    result = cm.map(np.sin, X, engine=pool)
    np.testing.assert_array_equal(result.values, np.sin(X))
    assert (result.status == cm.Status.EXACT).all()
    assert result.outcome is cm.Outcome.EXACT
    assert result.stderr.shape == X.shape
    assert not result.stderr.any()
    assert result.check() is result
    assert result.worker_seconds > 0.0


def test_the_dtype_is_kept(pool):
    assert cm.map(np.sin, X.astype(np.float32), engine=pool).values.dtype == np.float32
    assert cm.map(lambda b: b, np.arange(9), engine=pool).values.dtype == np.arange(9).dtype


def test_a_list_of_anything(pool):
    words = ["a", "bcd", "ef", ""]
    assert cm.map(cm.itemwise(len), words, engine=pool).values.tolist() == [1, 3, 2, 0]
    upper = cm.map(cm.itemwise(str.upper), words, engine=pool).values
    assert upper.tolist() == ["A", "BCD", "EF", ""]
    records = [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
    assert cm.map(cm.itemwise(lambda r: r["a"] * r["b"]), records, engine=pool).values.tolist() == [
        2,
        12,
    ]


def test_one_long_text_costs_memory_once():
    """NumPy makes every entry as wide as the longest: one text of 100 kB among 6,000 took 2.4 GB, and seconds."""
    texts = ["word"] * 300
    texts[7] = "long " * 20_000
    lengths = [len(text) for text in texts]

    def length(text):
        return len(text)

    tracemalloc.start()
    with Scripted(2) as engine:
        found = [
            cm.map(cm.itemwise(len), texts, engine=engine).values,
            cm.map(
                cm.itemwise(lambda pair: len(pair[1])), list(enumerate(texts)), engine=engine
            ).values,
            cm.map(
                lambda batch: [texts[k] for k in batch], range(300), engine=engine, chunk=100
            ).values,
            cm.sweep(length, {"text": texts}, engine=engine).table["y"],
            cm.map(cm.itemwise(len), texts, engine=engine, code=cm.Replication(1, 2)).values,
        ]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found[2].tolist() == texts
    assert [one.tolist() for one in (*found[:2], *found[3:])] == [lengths] * 4
    assert peak < 20e6


def test_a_list_of_equal_rows_is_an_array(pool):
    result = cm.map(lambda batch: batch.sum(axis=1), X.tolist(), engine=pool)
    np.testing.assert_allclose(result.values, X.sum(axis=1))


def test_several_inputs(pool):
    result = cm.map(lambda a, b: a + b[:, 0], (X[:, 0], X), engine=pool)
    np.testing.assert_array_equal(result.values, 2 * X[:, 0])
    result = cm.map(cm.itemwise(lambda a, name: f"{name}{a}"), ([1, 2], ["x", "y"]), engine=pool)
    assert result.values.tolist() == ["x1", "y2"]


def test_data_frames(pool):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": X[:, 0], "b": X[:, 1]}, index=np.arange(20) * 7)
    result = cm.map(lambda batch: batch["a"] * batch["b"], frame, engine=pool)
    np.testing.assert_array_equal(result.values, X[:, 0] * X[:, 1])
    result = cm.map(cm.itemwise(lambda row: row["a"]), frame, engine=pool)
    np.testing.assert_array_equal(result.values, X[:, 0])
    result = cm.map(lambda batch: batch * 2, frame, engine=pool)
    np.testing.assert_array_equal(result.values["b"], 2 * X[:, 1])


def test_answers_of_several_parts(pool):
    result = cm.map(lambda b: {"sum": b.sum(axis=1), "rows": b}, X, engine=pool).values
    np.testing.assert_array_equal(result["sum"], X.sum(axis=1))
    np.testing.assert_array_equal(result["rows"], X)
    result = cm.map(cm.itemwise(lambda row: Pair(row[0], (row, "s"))), X, engine=pool).values
    assert isinstance(result, Pair)
    np.testing.assert_array_equal(result.right[0], X)
    assert result.right[1].tolist() == ["s"] * 20
    result = cm.map(cm.itemwise(lambda row: Box(row.sum(), None)), X, engine=pool).values
    assert isinstance(result, Box)
    assert result.label.tolist() == [None] * 20


def test_keyword_arguments(pool):
    result = cm.map(lambda b, power: b**power, X, kwargs={"power": 3}, engine=pool)
    np.testing.assert_array_equal(result.values, X**3)


def test_a_seed_gives_each_row_its_own_stream(pool):
    def draw(batch, rng):
        return np.array([stream.random() for stream in rng])

    one = cm.map(draw, X, seed=5, engine=pool, chunk=3).values
    two = cm.map(draw, X, seed=5, engine=pool, chunk=7).values
    three = cm.map(cm.itemwise(lambda row, rng: rng.random()), X, seed=5, engine=pool).values
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one, three)
    assert len(set(one)) == 20
    assert (cm.map(draw, X, seed=6, engine=pool).values != one).all()


@pytest.mark.parametrize("where", ["pool", "local"])
def test_batches_cannot_be_written_to(where, request):
    given = X.copy()

    def change(batch):
        batch += 1.0
        return batch

    with pytest.raises(
        RowFailed, match=r"read-only. fn writes into its input: let it work on a copy"
    ):
        cm.map(change, given, engine=request.getfixturevalue(where))
    np.testing.assert_array_equal(given, X)


# Rows that fail -----------------------------------------------------------------------------------------


def seventh(row):
    if row[0] == X[7, 0]:
        raise KeyError("seven")
    return row.sum()


def test_the_first_row_that_raises_is_named(pool):
    with pytest.raises(RowFailed, match=r"row 7 failed .* KeyError") as caught:
        cm.map(cm.itemwise(seventh), X, engine=pool)
    assert caught.value.row == 7
    assert isinstance(caught.value.__cause__, KeyError)
    assert isinstance(caught.value, cm.NotEnoughAnswers)


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (lambda k: [1] * (1 + (k == 3)), r"map of a codedmap\.Pool"),
        (lambda k: np.ma.array([k], mask=[k == 3]), "masked"),
    ],
)
def test_the_row_whose_answer_is_refused_is_named(pool, fn, message):
    with pytest.raises(cm.CodedmapError, match=r"^row 3\b.*" + message):
        cm.map(cm.itemwise(fn), range(4), engine=pool, chunk=1)


def test_an_error_is_named_whatever_its_text(pool):
    class Textless(ValueError):
        def __str__(self):
            raise RuntimeError("no text")

    def fn(batch):
        raise Textless if 0.0 in batch else ValueError("much " * 10_000)

    with pytest.raises(RowFailed, match="with Textless, whose text"):
        cm.map(fn, [0.0], engine=pool)
    with pytest.raises(RowFailed, match="and 49,500 characters more"):
        cm.map(fn, [1.0], engine=pool)
    recorded = cm.map(fn, [0.0], engine=pool, on_error="record", max_failures=None)
    assert "Textless" in str(recorded)


def test_where_fn_takes_one_input_the_error_says_how_to_lift_it(pool):
    with pytest.raises(RowFailed, match=r"no attribute 'upper'. .*lift .*codedmap.itemwise\(fn\)"):
        cm.map(lambda word: word.upper(), ["a", "b"], engine=pool)


@pytest.mark.parametrize("lift", [cm.itemwise, lambda fn: lambda b: np.array([fn(r) for r in b])])
def test_its_traceback_is_the_workers_and_begins_in_the_function(local, lift):
    with pytest.raises(RowFailed) as caught:
        cm.map(lift(seventh), X, engine=local)
    text = str(caught.value.__cause__.__cause__)
    assert f'File "{__file__}"' in text
    assert "in seventh" in text
    assert "codedmap/" not in text.replace(__file__, "")


def test_the_traceback_of_an_error_outside_of_the_function_is_whole(local):
    with pytest.raises(cm.InvalidAnswer) as caught:
        cm.map(lambda batch: batch[:0], X, engine=local)
    assert "in _computed" in str(caught.value.__cause__.__cause__)


@pytest.mark.parametrize("lift", [cm.itemwise, lambda fn: lambda b: np.array([fn(r) for r in b])])
def test_rows_that_raise_cost_only_themselves(pool, lift):
    result = cm.map(lift(seventh), X, engine=pool, on_error="record", chunk=6)
    assert np.flatnonzero(result.status == cm.Status.FAILED).tolist() == [7]
    assert np.isnan(result.values[7])
    assert np.flatnonzero(np.isinf(result.stderr)).tolist() == [7]
    np.testing.assert_allclose(np.delete(result.values, 7), np.delete(X.sum(axis=1), 7))
    assert list(result.failures) == [7]
    assert isinstance(result.failures[7], KeyError)
    with pytest.raises(cm.NotEnoughAnswers, match=r"1 of 20 rows failed .*row 7"):
        result.check()


class TooLow(Exception):
    """One that Python can pickle, and not unpickle."""

    def __init__(self, value, least):
        super().__init__(f"{value} is below {least}")
        self.value = value


@pytest.mark.parametrize("code", [None, cm.Replication(2, 4, fill="mean")])
def test_results_are_pickled_with_what_was_raised(pool, code):
    def fn(row):
        if row[0] < 0.2:
            raise TooLow(row[0], 0.2)
        return row.sum()

    inputs = np.linspace(0, 1, 20).reshape(10, 2)
    result = cm.map(cm.itemwise(fn), inputs, engine=pool, code=code, on_error="record")
    assert result.failures.keys() == {0, 1}
    again = pickle.loads(pickle.dumps(result))
    assert again.failures.keys() == {0, 1}
    assert type(again.failures[1]) is TooLow
    assert again.failures[1].value == inputs[1, 0]
    assert "in fn" in str(again.failures[1].__cause__)
    assert str(pickle.loads(pickle.dumps(again))) == str(result)


@pytest.mark.parametrize(
    "error", [CancelledError, BrokenExecutor, WorkerCrashed, cm.errors.EngineError], ids=str
)
@pytest.mark.parametrize("where", ["pool", "local"])
def test_what_fn_raises_for_workers_of_its_own_is_not_said_of_these(where, error):
    def fn(batch):
        if 2.0 in batch:
            raise error("of fn's own workers")
        return batch

    # None that another job has left calls to, for which it may end a worker meanwhile.
    with cm.engines.Local(2) if where == "local" else ThreadPoolExecutor(2) as engine:
        result = cm.map(fn, np.arange(5.0), engine=engine, on_error="record")
    assert [type(reason) for reason in result.failures.values()] == [error]
    assert [*result.failures] == [2]
    assert result.calls.count("crashed") == result.calls.count("not started") == 0


class OpensSlowly:
    """Twice the rows; to open it takes 2.5 s, which a file says."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return opened_slowly, (self.path,)

    def __call__(self, batch):
        return 2.0 * batch


def opened_slowly(path):
    with path.open("a") as file:
        file.write("opened\n")
    time.sleep(2.5)
    return OpensSlowly(path)


def test_a_function_that_takes_long_to_open_is_opened_where_there_are_rows_only(tmp_path):
    path = tmp_path / "opened"
    with cm.engines.Local(3) as engine:
        cm.map(np.sin, np.zeros(6), engine=engine, chunk=1)  # all workers are there
        result = cm.map(OpensSlowly(path), np.ones(1), engine=engine, hedge=None)
    assert result.values == [2.0]
    assert path.read_text() == "opened\n"


def test_without_retries_a_crash_costs_its_call_and_says_so():
    with Scripted(1, {0: crash()}) as engine:
        result = cm.map(np.sin, np.ones(6), engine=engine, retries=0, chunk=3, on_error="record")
    assert {str(error).partition(",")[0] for error in result.failures.values()} == {
        "ended its worker 1 time in a call of 3 rows"
    }


def test_rows_that_end_their_worker_cost_only_themselves(local):
    def ends(row):
        if row[0] in (X[3, 0], X[12, 0]):
            os._exit(3)
        if row[0] == X[5, 0]:
            raise ValueError(5)
        return row.sum()

    result = cm.map(cm.itemwise(ends), X, engine=local, on_error="record")
    assert np.flatnonzero(result.status == cm.Status.FAILED).tolist() == [3, 5, 12]
    assert isinstance(result.failures[3], WorkerCrashed)
    assert re.match("ended its worker ([3-9]|1.|20) times", str(result.failures[3]))
    assert result.exact.sum() == 17


@pytest.mark.parametrize("lift", first(1, [True, False]))
def test_with_copies_too_rows_that_end_their_worker_cost_only_themselves(local, lift):
    """All rows of their calls were missing, and an error did not name the row."""
    rows = np.random.default_rng(0).uniform(size=(20, 2))
    first, second = rows[[3, 17], 0]

    def ends(row):
        if row[0] in (first, second):
            os._exit(3)
        return row + 1.0

    fn = cm.itemwise(ends) if lift else (lambda batch: np.array([ends(row) for row in batch]))
    options = {"code": cm.Replication(1, 2), "engine": local}
    results = list(cm.stream(fn, rows, on_error="record", **options))
    for result in (cm.map(fn, rows, on_error="record", **options), results[-1]):
        assert result.outcome is cm.Outcome.COMPLETE
        assert [*result.failures] == [3, 17]
        assert all("ended its worker" in str(error) for error in result.failures.values())
        good = np.delete(np.arange(20), [3, 17])
        assert (result.status[good] == cm.Status.EXACT).all()
        np.testing.assert_array_equal(result.values[good], rows[good] + 1.0)
        np.testing.assert_array_equal(np.isinf(result.stderr[:, 0]), result.status > 0)
    with pytest.raises(cm.errors.RowFailed, match=r"^row (3|17) failed .* WorkerCrashed"):
        cm.map(fn, rows, **options)
    with pytest.raises(cm.NotEnoughAnswers, match="WorkerCrashed"):  # nothing is sent again
        cm.map(fn, rows, retries=0, **options)


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        (lambda batch: batch[1:], "fn returned 0 rows for a batch of 1"),
        (lambda batch: None, "a single value of type NoneType"),
        (lambda batch: np.hstack([batch, batch]), r"rows of shape \(2,\) .* and of shape \(4,\)"),
    ],
)
def test_with_copies_too_a_row_with_an_answer_of_another_form_fails_alone(odd, message):
    """All rows of its calls were missing, their workers rejected, and nothing said why."""
    rows = np.random.default_rng(0).uniform(size=(24, 2))

    def fn(batch):
        return odd(batch) if (batch[:, 0] == rows[9, 0]).any() else batch + 1.0

    with Scripted(6) as engine:
        result = cm.map(fn, rows, code=cm.Replication(3, 6), engine=engine, on_error="record")
        with pytest.raises((cm.InvalidAnswer, cm.errors.RowFailed), match=r"^rows? .*fn returned"):
            cm.map(fn, rows, code=cm.Replication(3, 6), engine=engine)
    assert [*result.failures] == [9]
    assert result.rejected == ()
    assert re.search(message, str(result.failures[9]))
    good = np.delete(np.arange(24), 9)
    assert (result.status[good] == cm.Status.EXACT).all()
    np.testing.assert_array_equal(result.values[good], rows[good] + 1.0)


def test_copies_of_batches_that_end_their_worker_are_computed_in_smaller_ones(local):
    def large(batch):
        if len(batch) > 5:
            os._exit(9)
        return batch + 1.0

    rows = np.random.default_rng(0).uniform(size=(24, 2))
    result = cm.map(large, rows, code=cm.Replication(1, 2), engine=local)
    assert result.outcome is cm.Outcome.EXACT
    np.testing.assert_array_equal(result.values, rows + 1.0)


@pytest.mark.parametrize("lift", [False, True])
@pytest.mark.parametrize("code", [None, cm.Replication(1, 2)])
def test_what_is_no_exception_costs_its_row_too(local, code, lift):
    class Panic(BaseException):
        """As extensions written in Rust raise."""

    def panics(batch):
        if (batch[..., 0] == X[4, 0]).any():
            raise Panic("out of range") if batch.ndim == 2 else SystemExit(4)
        return batch + 1.0

    fn = cm.itemwise(panics) if lift else panics
    result = cm.map(fn, X, code=code, engine=local, on_error="record")
    assert [*result.failures] == [4]
    assert type(result.failures[4]).__name__ == ("SystemExit" if lift else "Panic")
    good = np.delete(np.arange(len(X)), 4)
    np.testing.assert_array_equal(result.values[good], X[good] + 1.0)


def test_a_row_beyond_the_timeout_fails(local):
    def hangs(row):
        if row[0] == X[4, 0]:
            time.sleep(60.0)
        return row.sum()

    result = cm.map(
        cm.itemwise(hangs), X, engine=local, on_error="record", call_timeout=1.0, chunk=2
    )
    assert np.flatnonzero(result.status == cm.Status.FAILED).tolist() == [4]
    assert isinstance(result.failures[4], CallTimeout)
    assert isinstance(result.failures[4], TimeoutError)


class Opened:
    """A function that calls another as it is opened."""

    def __init__(self, opening):
        self.opening = opening

    def __reduce__(self):
        return self.opening, ()

    def __call__(self, batch):
        return batch


def test_what_is_imported_to_open_a_function_does_not_count_for_its_first_calls():
    """Rows of milliseconds all failed where a worker took longer than one may to import what they need."""
    with cm.engines.Local(1) as engine:
        result = cm.map(Opened(_slowly), [1.0, 4.0], engine=engine, call_timeout=0.5)
    assert result.values.tolist() == [1.0, 2.0]


def test_a_function_that_cannot_be_opened_is_no_failure_of_its_rows(local):
    """Each row failed with what was raised, as if it were to blame."""
    for on_error in ("raise", "record"):
        with pytest.raises(
            cm.EngineError, match=r"worker [01], on .* cannot open fn.*\(OSError: no disk\)"
        ):
            cm.map(Opened(_never), X, engine=local, on_error=on_error)
    assert cm.map(np.sin, X, engine=local).exact.all()


def test_a_function_that_ends_the_worker_that_opens_it_fails(local):
    with pytest.raises(RowFailed, match="ended its worker"):
        cm.map(Opened(_ends), [1.0, 2.0], engine=local)
    assert cm.map(np.sin, X, engine=local).exact.all()


def test_what_workers_keep_for_a_job_that_failed_is_released_at_once(local):
    """The error that was raised held the job, and this the error, until the garbage collector came."""

    class Raises:
        def __call__(self, batch):
            raise ValueError("no")

    fn = Raises()
    held = weakref.ref(fn)
    gc.disable()
    try:
        with suppress(RowFailed):
            cm.map(fn, X, engine=local)
        del fn
        assert eventually(lambda: held() is None)
    finally:
        gc.enable()


def test_an_answer_that_comes_after_its_job_does_not_wait_for_the_garbage_collector():
    """A late answer was put where its job takes events, to which it referred."""
    futures, go = [], threading.Event()

    class Engine(cm.engines.FromExecutor):
        def submit(self, worker, fn, payload):
            future = super().submit(worker, fn, payload)
            futures.append(weakref.ref(future))
            return future

    def waits(batch):
        assert batch[0] != 3 or go.wait(60)
        return batch

    gc.disable()
    try:
        with ThreadPoolExecutor(2) as pool:
            result = cm.map(
                waits, np.arange(4.0), engine=Engine(pool, 2), chunk=1, stop=cm.Share(0.75)
            )
            go.set()
        assert list(result.status == cm.Status.EXACT) == [True, True, True, False]
        assert [future() for future in futures] == [None] * len(futures)
    finally:
        gc.enable()


def test_a_timeout_in_the_first_call_of_a_worker_says_that_imports_count():
    naps = cm.itemwise(time.sleep)
    with cm.engines.Local(1) as engine:
        result = cm.map(naps, [60.0, 0.0], engine=engine, on_error="record", call_timeout=1.0)
    says = "in which imports that fn makes, and those of data frames, count: allow more time, or import in engine.setup"
    assert says in str(result.failures[0])
    naps = cm.itemwise(time.sleep)
    with cm.engines.Local(1) as engine:
        result = cm.map(
            naps, [0.0, 60.0], engine=engine, on_error="record", call_timeout=1.0, chunk=1
        )
    assert "see what keeps worker 0" in str(result.failures[1])
    with ProcessPoolExecutor(1) as executor:  # has no setup
        result = cm.map(naps, [2.0], engine=executor, on_error="record", call_timeout=0.1)
    assert "see what keeps worker 0" in str(result.failures[0])


def test_an_argument_that_a_model_refuses_is_not_said_to_need_itemwise(pool):
    def model(batch):
        raise cm.InvalidArgument("these inputs are float64: cast them")

    with pytest.raises(RowFailed, match=r"cast them\. Correct fn or this input, or go on"):
        cm.map(model, X, engine=pool)


def test_a_seed_is_said_to_give_a_keyword(pool):
    told = r"keyword argument 'rng'\. With a seed fn gets the keyword rng: let it take that, or"
    for code in (None, cm.Replication(1, 2)):
        with pytest.raises(RowFailed, match=told):
            cm.map(lambda batch: batch, X, engine=pool, seed=1, code=code)


def test_a_crash_is_not_said_to_need_itemwise():
    told = r"script says\. Correct fn or this input, or go on"
    with Scripted(1, {0: [crash()]}) as engine, pytest.raises(RowFailed, match=told):
        cm.map(np.sin, X[:1], engine=engine, retries=0)


def _slowly():
    time.sleep(2.0)
    return np.sqrt


def _never():
    raise OSError("no disk")


def _ends():
    os._exit(1)


def test_objects_and_integers_without_an_answer(pool):
    result = cm.map(
        cm.itemwise(lambda x: (1 // x, str(x))), [1, 0, 1], engine=pool, on_error="record"
    )
    np.testing.assert_array_equal(result.values[0], [1.0, np.nan, 1.0])
    assert result.values[1].tolist() == ["1", None, "1"]


def test_without_retries_no_row_is_named_for_another_of_its_call(pool):
    def fn(batch):
        if 5 in batch:
            raise ValueError("five")
        return batch

    message = r"^rows 4 to 7 failed .* five\. Correct fn or one of these inputs \(with retries=1"
    with pytest.raises(cm.errors.RowFailed, match=message):
        cm.map(fn, np.arange(12), engine=pool, chunk=4, retries=0)
    with pytest.raises(cm.errors.RowFailed, match=r"^row 5 failed .* this input, lift"):
        cm.map(fn, np.arange(12), engine=pool, chunk=4, retries=1)


# Workers that fail ----------------------------------------------------------------------------------------


def test_a_crash_costs_the_call_that_ran():
    with Scripted(3, {0: [crash()], 2: [crash(), crash()]}) as engine:
        result = cm.map(np.sin, X, engine=engine)
    np.testing.assert_array_equal(result.values, np.sin(X))
    assert result.calls.count("crashed") == 3


def test_a_stopped_worker_is_hedged():
    with Scripted(3, {1: never()}) as engine:
        result = cm.map(np.sin, X, engine=engine)
    np.testing.assert_array_equal(result.values, np.sin(X))
    assert result.hedges == 1


def test_without_hedges_a_late_call_is_waited_for():
    with Scripted(3, {1: [late(1.0)]}) as engine:
        result = cm.map(np.sin, X, engine=engine, hedge=None)
    assert result.hedges == 0
    assert result.seconds >= 1.0


def test_real_crashes(local):
    engine = Faulty(local, {0: [crash()], 1: [crash()]})
    result = cm.map(np.sin, X, engine=engine, chunk=2)
    np.testing.assert_array_equal(result.values, np.sin(X))
    assert result.calls.count("crashed") == 2


def test_calls_are_a_table():
    with Scripted(2, {1: [fail(ValueError("once"))]}) as engine:
        result = cm.map(np.sin, X, engine=engine, chunk=5)
    columns = result.calls.columns()
    assert (
        sum(
            len(rows)
            for rows, o in zip(columns["rows"], columns["outcome"], strict=True)
            if o == "answered"
        )
        == 20
    )
    assert columns["outcome"].count("raised") == 1
    assert {"first", "retry"} == set(columns["kind"])
    assert set(columns["worker"]) == {0, 1}
    assert all(0.0 <= start <= result.seconds for start in columns["start"])
    assert "6 calls: 5 answered, 1 raised" in str(result)


@pytest.mark.parametrize("lift", [True, False])
def test_rows_behind_slow_ones_of_their_call_go_elsewhere(monkeypatch, lift):
    """Ten rows of 1 s were all in one call; 3.5 s would be ideal."""
    engine, rows = Virtual(4, lambda worker, had: 0.0002), np.arange(2000.0)
    engine.install(monkeypatch)

    def fn(row):
        engine.sleep(1.0 if 1000 <= row < 1010 else 0.002)
        if row == 1001 and lift:
            raise ValueError("a slow row")
        return -row

    def batch_fn(batch):
        return [fn(row) for row in batch]

    result = cm.map(
        cm.itemwise(fn) if lift else batch_fn, rows, engine=engine, on_error="record", hedge=None
    )
    assert list(result.failures) == [1001] * lift
    np.testing.assert_array_equal(result.values[result.exact], -rows[result.exact])
    seen = [call.rows for call in result.calls]
    assert sorted(row for rows in seen for row in rows) == list(range(2000))
    assert max(map(len, seen)) >= 20
    assert max(sum(1000 <= row < 1010 for row in rows) for rows in seen) <= (1 if lift else 4)
    assert result.seconds < 7.0


# Stopping early -------------------------------------------------------------------------------------------


def slow(row):
    time.sleep(0.02)
    return np.array([np.sin(2 * row[0]), row[1]])


def test_what_is_missing_at_the_deadline_is_estimated(local):
    inputs = np.random.default_rng(3).random((400, 2))
    cm.map(cm.itemwise(slow), inputs[:4], engine=local)  # its workers may still be starting
    result = cm.map(cm.itemwise(slow), inputs, engine=local, deadline=2.0)
    estimated = result.status == cm.Status.ESTIMATED
    assert result.outcome is cm.Outcome.DEADLINE
    assert estimated.sum() + result.exact.sum() == 400
    assert estimated.any()
    right = np.stack([np.sin(2 * inputs[:, 0]), inputs[:, 1]], axis=1)
    np.testing.assert_array_equal(result.values[result.exact], right[result.exact])
    assert np.abs(result.values - right)[estimated].max() < 0.5
    assert result.stderr.shape == (400, 2)
    assert (result.stderr[estimated] > 0.0).all()
    assert (result.stderr[result.exact] == 0.0).all()
    assert result.seconds < 10.0


def test_what_cannot_be_estimated_is_missing():
    with Scripted(2, {1: never()}) as engine, pytest.warns(UserWarning, match="answers are not"):
        result = cm.map(cm.itemwise(str), [1, 2], engine=engine, deadline=0.2, hedge=None)
    assert result.status.tolist() == [cm.Status.EXACT, cm.Status.MISSING]
    assert result.values[0] == "1"
    assert result.values[1] is None
    with pytest.raises(cm.NotEnoughAnswers, match="1 are missing"):
        result.check()


@pytest.mark.parametrize(("answered", "said"), [(0, "no row"), (1, "only one row")])
def test_without_answers_in_time_rows_are_missing_and_why_is_said(answered, said):
    script = {0: [Act()] * answered + [never()]}
    said += (
        r" was answered in 0\.\d+ s, which includes the start of workers, and waiting for what else"
    )
    with Scripted(1, script) as engine, pytest.warns(UserWarning, match=f"MISSING.*{said}"):
        result = cm.map(np.sin, np.arange(4.0), engine=engine, deadline=0.3, hedge=None, chunk=1)
    assert result.exact.sum() == answered


@pytest.mark.usefixtures("virtual_time")
def test_a_call_that_is_abandoned_has_run_until_then():
    with (
        Scripted(1, {0: [late(1.0), never()]}) as engine,
        pytest.warns(UserWarning, match="MISSING"),
    ):
        result = cm.map(np.sin, np.arange(2.0), engine=engine, deadline=3.0, hedge=None, chunk=1)
    assert [(call.outcome, call.start) for call in result.calls] == [
        ("answered", 0.0),
        ("abandoned", 1.0),
    ]
    assert result.calls[1].seconds == pytest.approx(1.7)  # a tenth of the time is for estimates


@pytest.mark.usefixtures("virtual_time")
def test_calls_that_ran_too_long_have_timed_out_in_the_table_of_calls():
    with Scripted(2, {0: [never()], 1: [never()]}) as engine:
        options = {"call_timeout": 1.0, "hedge": None, "chunk": 1, "on_error": "record"}
        result = cm.map(np.sin, np.arange(4.0), engine=engine, **options)
    assert [call.outcome for call in result.calls].count("timed out") == 2
    assert result.calls.count("abandoned") == 0


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize(
    ("inputs", "dtype", "end"),
    [(np.arange(2.0), float, 2.4), (["a", "b"], float, 3.0), (np.arange(2.0), complex, 2.7)],
    ids=["estimated", "inputs are text", "answers are complex"],
)
def test_more_than_a_tenth_of_the_time_is_left_to_write_many_numbers(inputs, dtype, end):
    """If any are estimated."""
    with (
        Scripted(1, {0: [late(1.0), never()]}) as engine,
        pytest.warns(UserWarning, match="MISSING"),
    ):
        result = cm.map(
            lambda batch: np.zeros((len(batch), 3_000_000), dtype),
            inputs,
            engine=engine,
            deadline=3.0,
            hedge=None,
            chunk=1,
        )
    assert result.calls[1].start + result.calls[1].seconds == pytest.approx(end)


def first(batch):
    return batch[:, 0] ** 2


def test_of_inputs_that_are_not_finite_nothing_is_estimated_and_the_others_are(pool):
    inputs = np.random.default_rng(0).random((80, 2))
    odd = np.arange(80) % 8 == 0
    inputs[odd, 1] = np.nan
    with pytest.warns(UserWarning, match="MISSING.*because inputs are NaN or infinite"):
        result = cm.map(first, inputs, engine=pool, stop=cm.Share(0.5), chunk=1, hedge=None)
    missing, estimated = (result.status == s for s in (cm.Status.MISSING, cm.Status.ESTIMATED))
    assert missing.any()
    assert odd[missing].all()
    assert estimated.any()
    assert not odd[estimated].any()
    np.testing.assert_allclose(result.values[~missing], first(inputs)[~missing], atol=0.05)
    result = cm.map(first, inputs, engine=pool, tolerance=0.1, chunk=1, hedge=None)
    assert result.exact[odd].all()


def test_a_share_of_the_rows_is_enough():
    with Scripted(4, {1: never(), 2: never()}) as engine:
        result = cm.map(np.sin, X, engine=engine, stop=cm.Share(0.8), chunk=1, hedge=None)
    assert result.outcome is cm.Outcome.SHARE
    assert result.exact.sum() == 16
    assert (result.status[~result.exact] == cm.Status.ESTIMATED).all()


def test_failed_rows_are_not_estimated(pool):
    def fn(row):
        time.sleep(0.01)
        return seventh(row)

    result = cm.map(cm.itemwise(fn), X, engine=pool, on_error="record", deadline=30.0)
    assert np.flatnonzero(result.status == cm.Status.FAILED).tolist() == [7]
    assert np.isnan(result.values[7])


def test_a_stream_improves_and_ends_as_map_does(pool):
    results = list(cm.stream(cm.itemwise(lambda r: (time.sleep(0.01), r.sum())[1]), X, engine=pool))
    exact = [result.exact.sum() for result in results]
    assert exact == sorted(exact)
    assert exact[-1] == 20
    assert results[0].outcome is cm.Outcome.WAITING
    assert results[-1].outcome is cm.Outcome.EXACT
    known = results[0].exact
    np.testing.assert_array_equal(results[0].values[known], X.sum(axis=1)[known])
    assert np.isnan(results[0].values[~known]).all()


def test_a_stream_that_is_closed_abandons_its_calls(local):
    stream = cm.stream(cm.itemwise(lambda r: time.sleep(0.2)), X, engine=local)
    next(stream)
    stream.close()
    assert cm.map(np.sin, X, engine=local).exact.all()


# Engines ----------------------------------------------------------------------------------------------------


def test_without_an_engine_rows_run_on_this_machine():
    result = cm.map(cm.itemwise(lambda row: os.getpid()), X)
    assert os.getpid() not in result.values
    assert result.exact.all()


def test_inside_a_worker_rows_run_there(local):
    def nested(row):
        inner = cm.map(cm.itemwise(lambda x: (os.getpid(), threading.get_ident())), row)
        return os.getpid() == inner.values[0][0] and len(set(inner.values[1])) == 1

    assert cm.map(cm.itemwise(nested), X, engine=local).values.all()


def test_inside_a_worker_a_row_may_raise_what_ends_a_program(local):
    def inner(batch):
        if 1.0 in batch:
            raise SystemExit(2)
        return batch

    def outer(batch):
        return cm.map(inner, np.arange(3.0), chunk=1, on_error="record").status[None]

    result = cm.map(outer, [0], engine=local)
    assert result.values.tolist() == [[cm.Status.EXACT, cm.Status.FAILED, cm.Status.EXACT]]


def test_a_process_pool():
    with ProcessPoolExecutor(2) as executor:
        result = cm.map(cm.itemwise(lambda row: row.sum()), X, engine=executor)
    np.testing.assert_allclose(result.values, X.sum(axis=1))


def test_a_function_is_sent_once_to_each_worker(local, tmp_path):
    class Model:
        def __call__(self, batch):
            return batch

        def __setstate__(self, state):
            (tmp_path / f"{os.getpid()}-{time.monotonic_ns()}").touch()

        def __getstate__(self):
            return {"big": np.zeros(10)}

    cm.map(Model(), X, engine=local, chunk=1)
    assert 1 <= len(list(tmp_path.iterdir())) <= 2  # one worker may be fast enough for all


def test_what_workers_print_reaches_the_caller(local, capsys):
    def speaks(row):
        if row[0] == X[4, 0]:
            print("hello")
            print("error", file=sys.stderr)
        return row

    cm.map(cm.itemwise(speaks), X, engine=local)
    out = capsys.readouterr()
    assert "] hello" in out.out
    assert "] error" in out.out + out.err
    assert out.out.startswith("[worker ")


def test_what_a_batch_printed_before_it_raised_reaches_the_caller_once(local, capsys):
    def speaks(batch):
        print("hello")
        raise ValueError("after that")

    with pytest.raises(RowFailed, match="after that"):
        cm.map(speaks, X[:1], engine=local)
    assert capsys.readouterr().out.count("] hello") == 1


def test_attributes_of_an_exception_are_those_that_fn_gave_it(local):
    def fails(batch):
        error = ValueError("failed")
        error._output = 5
        raise error

    for engine in (local, Scripted(1)):
        with pytest.raises(RowFailed) as caught:
            cm.map(fails, X[:1], engine=engine)
        assert vars(caught.value.__cause__)["_output"] == 5


@pytest.mark.parametrize(
    "use",
    [
        lambda out: out.close(),
        lambda out: io.TextIOWrapper(out.buffer).write("wrapped\n"),
        lambda out: subprocess.run(["echo"], stdout=out, check=True),
        faulthandler.enable,
        lambda out: out.reconfigure(line_buffering=True),
    ],
    ids=["close", "wrap", "program", "faults", "reconfigure"],
)
def test_what_workers_print_to_is_a_file(use, local, capsys):
    def speaks(batch):
        use(sys.stdout)
        print("hello")
        return batch

    np.testing.assert_array_equal(cm.map(speaks, X, engine=local).values, X)
    assert "] hello" in capsys.readouterr().out


class Gone(io.StringIO):
    """The stream of a terminal that has hung up."""

    def isatty(self):
        return True

    def write(self, text):
        raise OSError(errno.EIO, "Input/output error")


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("stream", [Gone, closed, lambda: None])
def test_no_job_is_lost_because_nothing_can_be_shown(stream, local, monkeypatch):
    monkeypatch.setattr(sys, "stdout", stream())
    monkeypatch.setattr(sys, "stderr", stream())
    result = cm.map(cm.itemwise(lambda row: (print("hello"), row)[1]), X, engine=local)
    np.testing.assert_array_equal(result.values, X)


def test_what_workers_print_is_escaped_where_the_stream_has_no_such_characters(local, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    cm.map(cm.itemwise(lambda row: (print("\xe9\ud800"), row)[1]), X[:1], engine=local)
    stream.flush()
    assert stream.buffer.getvalue().endswith(b"] \\xe9\\ud800\n")


def test_what_threads_print_is_left_alone(pool, capsys):
    cm.map(lambda batch: (print("hello"), batch)[1], X, engine=pool, chunk=20)
    assert capsys.readouterr().out == "hello\n"


def test_a_resident_function(local):
    resident = cm.engines.Resident(np.sin, local)
    np.testing.assert_array_equal(cm.map(resident, X, engine=local).values, np.sin(X))
    np.testing.assert_array_equal(cm.map(resident, X).values, np.sin(X))
    with Scripted(1) as other, pytest.raises(cm.InvalidArgument, match="another engine"):
        cm.map(resident, X, engine=other)


# Bad input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"deadline": 0}, "Deadline.0. must be more than 0"),
        ({"deadline": -1.0}, "must be more than 0"),
        ({"tolerance": -1.0}, "must be a finite number of at least 0"),
        ({"retries": -1}, "retries=-1"),
        ({"retries": np.timedelta64(1, "s")}, "retries=.* must be a whole number"),
        ({"retries": 1.5}, "retries=1.5"),
        ({"call_timeout": 0}, "call_timeout=0 must be more than 0"),
        ({"call_timeout": 10**400}, "0 must be more than 0"),
        ({"deadline": 10**400}, r"0\) must be more than 0"),
        ({"on_error": "ignore"}, 'on_error=.ignore. must be "raise" or "record"'),
        ({"seed": -1}, "seed=-1"),
        ({"chunk": 0}, "chunk=0"),
        ({"chunk": np.array([1, 2])}, r"chunk=array\(\[1, 2\]\) must be a whole number"),
        ({"hedge": 0.5}, "hedge=0.5 must be a codedmap.Hedge"),
        ({"hedge": cm.Hedge(after=1.0)}, "without a code"),
        ({"stop": cm.Quorum(3)}, "there is no code"),
        ({"stop": cm.Deadline}, "is not a stopping rule"),
        ({"code": 3}, "is not a code"),
        ({"kwargs": [1]}, r"kwargs=\[1\] must be a mapping of names to values"),
        ({"kwargs": {1: 2}}, r"kwargs=\{1: 2\} must be a mapping of names to values"),
        ({"kwargs": {"rng": 1}, "seed": 1}, "kwargs has a value for 'rng', which seed gives"),
        ({"known": (np.ones(999),)}, r"^known is of type tuple, and must be a pair"),
        ({"engine": None, "code": cm.Uncoded(4)}, r"an engine is needed: .*Local\(workers=4\)"),
        ({"engine": 8}, "neither an engine nor an Executor"),
        ({"engine": cm.engines.Local}, "neither an engine nor an Executor"),
    ],
)
def test_bad_arguments(pool, arguments, message):
    with pytest.raises(cm.InvalidArgument, match=message):
        cm.map(np.sin, X, **{"engine": pool, **arguments})


def test_a_code_that_mixes_takes_no_seed():
    message = r"seed=1 gives each row .* SplineCode.* sends mixtures"
    with Scripted(4) as engine, pytest.raises(cm.InvalidArgument, match=message):
        cm.map(np.sin, X, code=cm.SplineCode(4, 4, 0), engine=engine, seed=1)


@pytest.mark.parametrize("stuck", [1, 2])
def test_with_copies_calls_that_run_too_long_end(virtual_time, stuck):
    """Copies took no call_timeout. Three rows have three seconds, and alone one each."""
    script = {0: [never()], 2: [never()] if stuck == 2 else []}
    with Scripted(4, script) as engine:
        result = cm.map(
            np.negative,
            X[:6],
            code=cm.Replication(2, 4),
            engine=engine,
            call_timeout=1.0,
            hedge=None,
        )
    np.testing.assert_array_equal(result.values, -X[:6])
    assert result.exact.all()
    assert result.seconds == pytest.approx(3.0 if stuck == 2 else 0.0)
    assert [type(error) for error in result.failed.values()] == [CallTimeout] * (stuck == 2) * 2


def test_with_copies_too_a_row_beyond_the_timeout_fails(local):
    def hangs(row):
        if row[0] == X[4, 0]:
            time.sleep(60.0)
        return row + 1.0

    result = cm.map(
        cm.itemwise(hangs), X[3:5], code=cm.Replication(1, 2), engine=local, on_error="record",
        call_timeout=1.0,
    )  # fmt: skip
    assert [*result.failures] == [1]
    assert isinstance(result.failures[1], CallTimeout)
    assert result.exact.sum() == 1


@pytest.mark.parametrize("chunk", [None, 2, "all"])
@pytest.mark.parametrize("lift", [True, False])
@pytest.mark.parametrize(
    "code",
    [cm.Replication(3, 6), cm.Replication(2, 5, confirm=2), cm.KernelCode(3, 6, 1, spread=0)],
)
def test_copies_of_a_row_draw_the_same_random_numbers(code, lift, chunk):
    """A code took no seed, and copies that draw their own contradict each other."""

    def of_one(row, rng):
        return row[0] + rng.standard_normal(2)

    def of_batch(batch, rng):
        return np.array([of_one(row, one) for row, one in zip(batch, rng, strict=True)])

    fn = cm.itemwise(of_one) if lift else of_batch
    X = np.random.default_rng(0).uniform(size=(31, 2))
    with Scripted(6) as engine:
        expected = cm.map(fn, X, engine=engine, seed=3).values
        result = cm.map(fn, X, code=code, engine=engine, seed=3, chunk=chunk, stop=cm.Everyone())
    assert result.exact.all()
    assert not result.rejected
    np.testing.assert_array_equal(result.values, expected)


@pytest.mark.parametrize("chunk", [1, 4])
@pytest.mark.parametrize("lift", [cm.itemwise, lambda fn: fn], ids=["itemwise", "batches"])
def test_records_with_fields_in_another_order_fail_alone(lift, chunk):
    """Beside one another they were tuples, in which b was where a is elsewhere."""

    def fn(x):
        other = np.ravel(x)[0] == 3
        made = np.zeros(
            np.shape(x), [("b", "f8"), ("a", "f8")] if other else [("a", "f8"), ("b", "f8")]
        )
        made["a"] = 1.0
        return made[()]

    with Scripted(2) as engine:
        result = cm.map(lift(fn), np.arange(1.0, 5), engine=engine, chunk=chunk, on_error="record")
    if lift is cm.itemwise or chunk == 1:
        assert result.status.tolist() == [0, 0, 2, 0]
        assert "with the fields a, b for some inputs and b, a" in str(result.failures[2])
        assert [result.values[row][0] for row in (0, 1, 3)] == [1.0] * 3
    else:
        assert result.values["a"].tolist() == [1.0] * 4


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((x for x in range(3)), r"the iterator gave an object of type int, .*list\(inputs\)"),
        (iter([]), "empty"),
        ([], "empty"),
        (np.empty((0, 3)), "empty"),
        (3.0, "float"),
        (np.float64(3.0), "single"),
        (SimpleNamespace(shape=()), "a single value"),  # as what is read from a file
        (100, r"type int: give range\(100\)"),
        ((1, 2), r"fn, and not of type int: give list\(inputs\), if the tuple"),
        ({"a": [1, 2]}, r"type dict: give pandas.DataFrame\(inputs\)"),
        (
            UserDict(a=X),
            "type UserDict: give one of the arrays in it",
        ),  # as groups of Zarr arrays
        ("text", r"path must be that of a \.parquet file"),
        ((X, X[:3]), "20, 3 rows"),
        ((), "empty tuple"),
        (np.ma.masked_equal([1, 2, 3], 2), "masked"),
        (iter([np.ma.masked_equal([[1, 2, 3]], 2)]), "masked"),
        (  # as of genfromtxt(names=True, usemask=True)
            np.ma.array(RECORDS, mask=[(False, False), (True, False)]),
            "1 of 4 numbers of the inputs are masked",
        ),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "2 columns .* are called 'a'"),
    ],
)
def test_bad_inputs(pool, inputs, message):
    with pytest.raises(cm.InvalidArgument, match=message):
        cm.map(np.sin, inputs, engine=pool)


class Metres(np.ndarray):
    """As a quantity of astropy."""

    unit = "m"


class Length:
    """As a quantity of pint."""

    dtype, shape = np.dtype(float), (3,)

    def __init__(self, magnitude, units="km"):
        self._both = magnitude, units

    magnitude = property(lambda self: self._both[0])
    units = property(lambda self: self._both[1])

    def __array__(self, dtype=None, copy=None):
        return np.array(self.magnitude, dtype)

    def __getitem__(self, at):
        return Length(self.magnitude[at], self.units)

    def __len__(self):
        return len(self.magnitude)


def test_masks_in_a_list_are_not_lost(pool):
    """Rows of equal length were made an array of what the masks hide."""
    rows = [np.ma.masked_less([1.0, number], 2.0) for number in range(4)]
    result = cm.map(cm.itemwise(lambda row: float(row.sum() or 0.0)), rows, engine=pool)
    assert result.values.tolist() == [0.0, 0.0, 2.0, 3.0]
    with pytest.raises(cm.InvalidArgument, match=r"^some numbers of the inputs are masked"):
        cm.map(np.sin, rows, code=cm.Uncoded(2), engine=pool)


def test_units_are_never_lost_silently(pool):
    """A metre and 100 centimetres were the answers 1.0 and 100.0."""
    for unit, quantities in (("m", np.ones(3).view(Metres)), ("km", Length(np.ones(3)))):
        message = f"^the unit of the inputs, {unit}, would be lost: .* .value .* .magnitude"
        with pytest.raises(cm.InvalidArgument, match=message):
            cm.map(np.sin, quantities, engine=pool)
        with pytest.raises(cm.InvalidArgument, match=f"unit of column 'a', {unit}, would"):
            cm.sweep(abs, {"a": quantities}, engine=pool)
        returned = f"unit of what fn returned, {unit}, would be lost"
        for fn in (lambda b, q=quantities: q[: len(b)], cm.itemwise(lambda _, q=quantities: q)):
            with pytest.raises((cm.InvalidAnswer, RowFailed), match=returned):
                cm.map(fn, np.ones(3), engine=pool)
        with pytest.raises(cm.InvalidArgument, match=f"unit of column 'a', {unit}, would"):
            cm.sweep(abs, {"a": [quantities[:1]] * 3}, engine=pool)
        for known in ((np.ones(3), quantities), (np.ones(3), [quantities[:1]] * 3)):
            with pytest.raises(cm.InvalidArgument, match=f"known inputs or answers, {unit}"):
                cm.map(np.sin, np.ones(3), known=known, deadline=9, engine=pool)
        pairs = cm.itemwise(lambda _, q=quantities: [q, q])
        with pytest.raises((cm.InvalidAnswer, RowFailed), match=returned):
            cm.map(pairs, np.ones(3), engine=pool)
        lost = "returned a quantity with a unit, which would be lost: convert"
        for fn in (lambda b, q=quantities: q[: len(b)], lambda b, q=quantities: [q] * len(b)):
            with pytest.raises(cm.InvalidAnswer, match=lost):
                cm.map(fn, np.ones(6), code=cm.Replication(2, 4), engine=pool)
    lengths = [Length(k) for k in (1.0, 2.0)]
    kept = cm.map(lambda b: [[q] for q in b], lengths, engine=pool).values
    assert [row[0].units for row in kept] == ["km"] * 2
    assert (
        cm.map(cm.itemwise(lambda q: q.units), lengths, engine=pool).values.tolist() == ["km"] * 2
    )
    shares = Length(np.ones(3), "dimensionless")
    assert cm.map(np.negative, shares, engine=pool).values.tolist() == [-1.0] * 3


def test_an_executor_of_unknown_size():
    class Odd(Executor):
        pass

    with pytest.raises(cm.InvalidArgument, match="FromExecutor"):
        cm.map(np.sin, X, engine=Odd())


def test_an_engine_without_workers():
    class Empty(Scripted):
        workers = 0

    with Empty(1) as engine, pytest.raises(cm.InvalidArgument, match="no workers"):
        cm.map(np.sin, X, engine=engine)


@pytest.mark.parametrize("on_error", ["raise", "record"])
@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (lambda b: b[:-1], "0 rows for a batch of 1"),
        (lambda b: b.sum(), "a single value for a batch of 1: .*itemwise"),
        (lambda b: None, "a single value"),
        (lambda b: {"a": b, "b": 3.0}, "a single value"),
        (lambda b: np.ma.masked_less(b, np.inf), "2 of 2 numbers of what fn returned are masked"),
        (cm.itemwise(lambda row: np.ma.masked), "1 of 1 numbers of what fn returned are masked"),
    ],
)
def test_a_function_that_returns_another_number_of_rows(pool, fn, message, on_error):
    with pytest.raises(cm.InvalidAnswer, match=message):
        cm.map(fn, X, engine=pool, on_error=on_error)


def shaped(row):
    return np.ones(3 if row[0] in (X[7, 0], X[8, 0]) else 2)


def keyed(row):
    return {"error": 1.0} if row[0] in (X[7, 0], X[8, 0]) else {"a": row[0], "b": 2.0}


@pytest.mark.parametrize("chunk", [1, 4, None])
@pytest.mark.parametrize(("fn", "word"), [(shaped, "shape"), (keyed, "keys")])
def test_a_row_whose_answer_is_unlike_the_others_fails(pool, fn, word, chunk):
    result = cm.map(cm.itemwise(fn), X, engine=pool, chunk=chunk, on_error="record")
    assert sorted(result.failures) == [7, 8]
    assert result.exact.sum() == len(X) - 2
    for error in result.failures.values():
        assert isinstance(error, cm.InvalidAnswer)
        assert word in str(error)
    with pytest.raises(cm.errors.RowFailed, match=f"row [78] failed .*{word}") as raised:
        cm.map(cm.itemwise(fn), X, engine=pool, chunk=chunk)
    assert isinstance(raised.value.__cause__, cm.InvalidAnswer)


def test_rows_of_an_iterator_may_hold_no_number():
    with Scripted(6) as engine:
        batches = iter(np.zeros((4, 5, 0)))
        result = cm.map(lambda b: b.sum(axis=1), batches, code=cm.Replication(3, 6), engine=engine)
    assert result.values.tolist() == [0.0] * 20


def test_where_most_answers_are_unlike_the_first_the_job_ends():
    calls = []

    def fn(row):
        calls.append(row[0])
        return np.ones(3 if row[0] == X[0, 0] else 2)

    message = r"row [1-9]: fn returned rows of shape.* unlike row 0"
    with Scripted(1) as engine, pytest.raises(cm.InvalidAnswer, match=message):
        cm.map(cm.itemwise(fn), X, engine=engine, chunk=1, on_error="record")
    assert len(calls) <= 10


@pytest.mark.parametrize("on_error", ["raise", "record"])
def test_a_batch_function_that_returns_too_few_rows_ends_the_job_at_once(pool, on_error):
    with pytest.raises(cm.InvalidAnswer, match="a single value for a batch"):
        cm.map(np.sum, X, engine=pool, on_error=on_error)


def test_a_batch_that_has_too_few_rows_is_cut_until_its_row_is_found(pool):
    def fn(batch):
        return batch[:-1] if (batch == X[-3]).all(axis=1).any() else batch

    result = cm.map(fn, X, engine=pool, chunk=4, on_error="record")
    assert list(result.failures) == [len(X) - 3]
    assert result.exact.sum() == len(X) - 1


def test_a_function_that_cannot_be_sent(local):
    lock = threading.Lock()
    with pytest.raises(CannotSend, match="lock"):
        cm.map(lambda b: (lock, b)[1], X, engine=local)

    def holds(x):
        return lock, x

    with pytest.raises(CannotSend, match=r"the function .*holds cannot be sent"):
        cm.map(cm.itemwise(holds), X, engine=local)
    with pytest.raises(CannotSend, match=r"^the inputs cannot be sent to another process: .*lock"):
        cm.map(cm.itemwise(str), [lock, lock], engine=local)
    with pytest.raises(CannotSend, match=r"^what kwargs holds cannot be sent to another .*lock"):
        cm.map(np.add, X, kwargs={"where": lock}, engine=local)


def test_a_closed_engine():
    engine = cm.engines.Local(1)
    engine.close()
    with pytest.raises(cm.EngineError, match="closed"):
        cm.map(np.sin, X, engine=engine)


def test_no_function():
    resident = cm.engines.Resident
    with Scripted(2) as engine:
        for wrong in (None, cm.itemwise("sin"), resident(3, engine)):
            with pytest.raises(cm.InvalidArgument, match="cannot be called"):
                cm.map(wrong, X, engine=engine)
        for wrong in (
            cm.itemwise(resident(np.sin, engine)),
            resident(resident(np.sin, engine), engine),
        ):
            with pytest.raises(cm.InvalidArgument, match=r"Resident\(itemwise\(fn\), engine\)"):
                cm.map(wrong, X, engine=engine)
        assert not engine.calls


# Progress ---------------------------------------------------------------------------------------------------


def test_decisions_are_logged(pool, caplog):
    with caplog.at_level("DEBUG", logger="codedmap"):
        cm.map(np.sin, X[:3], engine=pool, hedge=None)
    starts = [r for r in caplog.records if "Start" in r.getMessage()]
    assert len(starts) == 3


def test_without_a_terminal_progress_is_a_line_every_ten_seconds(pool, capsys, monkeypatch):
    from codedmap.results import progress_bar

    monkeypatch.setattr(progress_bar, "_SELDOM", 0.0)
    cm.map(np.sin, X, engine=pool, progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert lines
    assert re.match(r"codedmap: 20 of 20 rows after \d+ s, ", lines[-1])
    cm.map(np.sin, X, engine=pool)
    assert capsys.readouterr().err == ""


def test_calls_that_run_are_shown_before_the_first_answer(pool, monkeypatch):
    """Workers were said to be starting until a row of the simulator was done, be it for an hour."""
    from codedmap.results import progress_bar

    monkeypatch.setattr(progress_bar, "_SELDOM", 0.0)
    lines, seen = [], threading.Event()

    def note(line, **_):
        lines.append(line)
        if " running" in line:
            seen.set()

    monkeypatch.setattr(progress_bar, "print", note, raising=False)
    cm.map(lambda x: seen.wait(60) and x, X[:2], engine=pool, progress=True, chunk=1)
    assert any(
        re.search(r": 0 of 2 rows after \d+ s, 2 running \(row 0 for", line) for line in lines
    )


def test_progress_counts_crashes_before_the_first_answer(capsys, monkeypatch):
    """As long as a call runs for longer no row fails, and a job in which all others crash waits for it: which one is said."""
    from codedmap.results import progress_bar

    monkeypatch.setattr(progress_bar, "_SELDOM", 0.0)
    with Scripted(2, {0: crash(), 1: late(0.2)}) as engine:
        cm.map(np.sin, X[:2], engine=engine, progress=True)
    lines = [line for line in capsys.readouterr().err.splitlines() if ": 0 of 2 rows" in line]
    told = r"rows after \d+ s, 1 running \(row [01] for 0 s\), [12] crashed$"
    assert re.search(told, lines[-1])


def test_a_notebook_without_widgets_has_lines_in_place_of_a_bar(pool, capsys, monkeypatch):
    """Rich would warn at every change of the bar that ipywidgets are not installed."""
    from codedmap.results import progress_bar

    monkeypatch.setattr(progress_bar, "_SELDOM", 0.0)
    monkeypatch.setattr(progress_bar, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    cm.map(np.sin, X, engine=pool)
    assert re.match(r"codedmap: 20 of 20 rows", capsys.readouterr().err.splitlines()[-1])


def test_a_script_without_a_main_guard(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import codedmap as cm
            def square(x):
                return x * x
            print(cm.map(cm.itemwise(square), [1, 2, 3]).values.tolist())
            """
        )
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout == "[1, 4, 9]\n", done.stderr


def test_known_answers_help_to_estimate_what_is_missing():
    X = np.random.default_rng(0).uniform(size=(60, 2))

    def fn(batch):
        return np.sin(3 * batch[:, 0]) + batch[:, 1]

    options = {"chunk": 1, "hedge": None, "stop": cm.Share(0.13)}
    errors = []
    for known in (None, (X[30:], fn(X[30:]))):
        script = {0: [late(0.0)] * 4 + [never()]}
        with Scripted(1, script) as engine:
            result = cm.map(fn, X[:30], engine=engine, known=known, **options)
        lost = result.status == cm.Status.ESTIMATED
        assert lost.sum() == 26
        errors.append(np.abs(result.values - fn(X[:30]))[lost].max())
    assert errors[1] < errors[0] / 4


@pytest.mark.parametrize(
    ("known", "code", "said"),
    [
        (3, None, "must be a pair"),
        (
            (np.zeros((5, 3)), np.zeros(5)),
            None,
            "known inputs have 3 numbers a row, and the inputs 2",
        ),
        (
            (np.zeros((5, 2)), np.zeros(4)),
            None,
            "^known inputs .* same number of rows.* leave known out",
        ),
        (
            (np.zeros((5, 2)), list("abcde")),
            None,
            "^known inputs and answers must be numbers.* leave known out",
        ),
        ((np.zeros((5, 2)), np.full(5, np.nan)), None, "0 of 5 rows are finite.* known answers"),
        ((np.zeros((5, 2)), np.zeros(5)), cm.SplineCode(2, 4, 1), "which this code does not do"),
        ((np.zeros((5, 2)), np.zeros(5)), cm.Replication(2, 4), "which this code does not do"),
    ],
)
def test_known_answers_that_do_not_fit_are_refused(known, code, said):
    with Scripted(4) as engine, pytest.raises(cm.InvalidArgument, match=said):
        cm.map(np.sin, np.zeros((6, 2)), engine=engine, code=code, known=known)
    assert engine.calls == []


# Rows that are missing when a job stops, whatever the inputs and answers are

SQUARE = np.random.default_rng(0).uniform(size=(60, 3))


def wave(batch):
    return np.sin(3 * batch[:, 0]) + batch[:, 1]


def stopped(fn, inputs, **options):
    """Half of the rows are computed."""
    with ThreadPoolExecutor(1) as pool:
        return cm.map(fn, inputs, engine=pool, chunk=1, hedge=None, stop=cm.Share(0.5), **options)


@pytest.mark.parametrize(
    ("fn", "inputs"),
    [
        (wave, SQUARE),
        (lambda b: wave(b / 1e300), SQUARE * 1e300),
        (lambda b: wave(b / 1e-300), SQUARE * 1e-300),
        (lambda b: wave(b * [1e12, 1e-12, 1.0]), SQUARE / [1e12, 1e-12, 1.0]),
        (lambda b: wave(b) * 1e307, SQUARE),
        (lambda b: wave(b) * 1e-307, SQUARE),
        (lambda b: np.full(len(b), 2.0), SQUARE),
        (lambda b: np.zeros(len(b), np.float32), SQUARE),
        (lambda b: (3e4 * wave(b)).astype(np.float16), SQUARE),
        (lambda b: wave(b) > 0.5, SQUARE),
        (lambda b: np.random.default_rng(int(1e9 * b.sum())).normal(size=1), np.ones((60, 3))),
        (lambda b: b[:, 0], np.random.default_rng(0).normal(size=(60, 200))),
        (lambda b: b["a"] * 2.0, pd.DataFrame({"a": SQUARE[:, 0], "b": np.arange(60) > 20})),
    ],
    ids=[
        "plain", "large inputs", "small inputs", "wild units", "large", "small", "constant", "zero", "narrow", "bool",
        "equal inputs", "many inputs", "frame",
    ],
)  # fmt: skip
def test_what_is_missing_is_estimated(fn, inputs):
    result = stopped(fn, inputs)
    estimated = result.status == cm.Status.ESTIMATED
    assert estimated.sum() == 30
    assert result.exact.sum() == 30
    assert np.isfinite(result.values.astype(float)).all()
    assert (result.stderr[estimated] > 0).all()
    assert np.isfinite(result.stderr).all()


@pytest.mark.parametrize("out", [None, "out.parquet"])
def test_answers_that_cannot_be_estimated_are_missing_and_why_is_said(out, tmp_path):
    def fn(point):
        return {"a": point[0], "size": "big" if point[1] > 0.5 else "small"}

    path = None if out is None else tmp_path / out
    with pytest.warns(UserWarning, match=r"30 rows without an answer are MISSING.*dtype object"):
        result = stopped(cm.itemwise(fn), SQUARE, out=path)
    assert (result.status == cm.Status.MISSING).sum() == 30


def test_dicts_of_numbers_are_estimated_as_a_data_frame():
    dicts = [{"a": a, "b": b} for a, b in zip(SQUARE[:, 0].tolist(), range(60), strict=True)]
    fn = cm.itemwise(lambda point: point["a"] + point["b"])
    with pytest.warns(
        UserWarning, match=r"MISSING.*list of dicts.*give pandas.DataFrame\(inputs\)"
    ):
        assert stopped(fn, dicts).exact.sum() == 30
    assert (stopped(fn, pd.DataFrame(dicts)).status == cm.Status.ESTIMATED).sum() == 30


@pytest.mark.parametrize(
    ("fn", "inputs"),
    [
        (lambda n: 2**n, [10, 70]),
        (lambda n: n**20, range(99, 102)),
        (lambda n: type(n).__name__, [True, False]),
        (lambda x: type(x).__name__, [1.5, 2.5]),
    ],
)
def test_numbers_of_a_list_are_those_of_python_where_fn_takes_one(pool, fn, inputs):
    """Those of NumPy overflow: 2**70 was 0, and exact."""
    result = cm.map(cm.itemwise(fn), inputs, engine=pool)
    assert result.values.tolist() == [fn(one) for one in inputs]
    double = cm.map(lambda batch: 2 * batch, list(inputs), engine=pool)  # a batch is an array
    assert double.values.tolist() == [2 * one for one in inputs]
    mixed = cm.map(cm.itemwise(lambda a, b: (a, b)), (inputs, np.arange(len(inputs))), engine=pool)
    assert mixed.values[0].tolist() == list(inputs)


def test_a_view_of_memory_is_an_array(pool):
    inputs = np.arange(6.0).reshape(3, 2)
    np.testing.assert_array_equal(
        cm.map(np.tanh, memoryview(inputs), engine=pool).values, np.tanh(inputs)
    )


def test_numbers_of_a_list_are_points_from_which_rows_are_estimated():
    result = stopped(cm.itemwise(lambda x: 2 * x), list(range(60)))
    assert (result.status == cm.Status.ESTIMATED).sum() == 30
    np.testing.assert_allclose(result.values, 2.0 * np.arange(60), atol=0.1)


def test_messages_of_rows_that_fail_are_sentences(pool):
    def fails(x):
        raise ValueError("It did not converge.")

    with pytest.raises(RowFailed, match=r"with ValueError: It did not converge\. Correct"):
        cm.map(cm.itemwise(fails), [1.0], engine=pool)


def test_only_the_first_rows_of_a_call_are_named(pool):
    """A list of five looked as if it were all."""
    with pytest.raises(cm.InvalidAnswer, match=r"^rows [\d, to]+, \.\.\.: fn returned 39 rows"):
        cm.map(lambda batch: batch[1:], np.arange(400.0), engine=pool, deadline=60, chunk=40)


def test_an_answer_that_cannot_be_sent_is_named():
    said = r"the answer cannot be sent .*cannot pickle '_thread\.lock' object"
    with cm.engines.Local(1) as engine, pytest.raises(RowFailed, match=said):
        cm.map(cm.itemwise(lambda x: threading.Lock()), [1.0], engine=engine)


def test_rows_of_a_frame_that_come_back_in_another_order_are_refused(pool):
    """By their place they were the answers of each other's inputs."""
    frame = pd.DataFrame({"a": SQUARE[:, 0]})
    for fn in (lambda d: d.sort_values("a"), lambda d: d.sort_values("a")["a"]):
        with pytest.raises(cm.InvalidAnswer, match=r"another order.*answer.loc\[batch.index\]"):
            cm.map(fn, frame, engine=pool, chunk=20)
    for fn in (
        lambda d: d.sort_values("a")["a"].loc[d.index],
        lambda d: pd.Series(d["a"].to_numpy()),
        lambda d: d["a"].set_axis(d["a"]),
    ):
        for share in (None, cm.Share(1.0)):  # in the given and in a random order
            result = cm.map(fn, frame, engine=pool, chunk="all", stop=share)
            np.testing.assert_array_equal(result.values, SQUARE[:, 0])


@pytest.mark.parametrize(
    ("fn", "index"),
    [
        (lambda d: d["a"].sort_values(), [1, 1, 2, 2]),
        (lambda d: {"a": d["a"].sort_values()}, [1, 2, 3, 4]),
        (lambda d: (d["a"], d.sort_values("a")["a"]), [1, 2, 3, 4]),
        (lambda d: d["a"][::-1], pd.RangeIndex(4)),
        (lambda d: d["a"][::-1], [np.nan, 1.0, 1.0, 2.0]),
    ],
)
def test_the_order_of_rows_is_seen_in_parts_and_of_equal_labels(pool, fn, index):
    frame = pd.DataFrame({"a": [3.0, 1.0, 2.0, 0.0]}, index=index)
    for inputs, one in ((frame, fn), ((np.arange(4), frame), lambda _, d: fn(d))):
        with pytest.raises(cm.InvalidAnswer, match="in another order, by their index"):
            cm.map(one, inputs, engine=pool, chunk="all")


def test_inputs_with_one_index_in_another_order_are_refused(pool):
    """They were computed by their place, each with the values of another row."""
    a = pd.Series([1.0, 2.0, 3.0], index=[4, 5, 4])
    for other in (a[::-1].set_axis([5, 4, 4]), a.to_frame().set_axis([4, 4, 5])):
        with pytest.raises(cm.InvalidArgument, match=r"several inputs.*as by b.loc\[a.index\]"):
            cm.map(lambda a, b: a, (a, other), engine=pool)
        with pytest.raises(cm.InvalidArgument, match="known inputs and answers have the same"):
            cm.map(lambda a: a, a, engine=pool, known=(a, other), stop=cm.Share(0.5))
    assert cm.map(lambda a, b: b, (a, a.set_axis([7, 8, 9])), engine=pool).exact.all()


def test_known_answers_go_by_the_names_of_their_columns():
    """By their place they were answers of each other, and rows estimates of the other output."""
    x = np.linspace(0.0, 1.0, 60)
    inputs = pd.DataFrame({"x": x, "flag": np.arange(60) % 2 == 0})
    known = pd.DataFrame({"right": 9.0 + np.cos(3 * x), "left": np.sin(3 * x)})
    for kind, given in ((dict, known), (Pair, known), (Pair, dict(known))):
        result = stopped(
            lambda d, kind=kind: kind(left=np.sin(3 * d["x"]), right=9.0 + np.cos(3 * d["x"])),
            inputs,
            known=(inputs, given),
        )
        found = result.values if kind is dict else result.values._asdict()
        for name in known:
            np.testing.assert_allclose(found[name], known[name], atol=1e-3)


def test_known_answers_may_have_parts_as_those_of_fn():
    """They were refused, with a remark on shapes; a tuple of three was transposed where three rows were known."""
    x = np.linspace(0.0, 1.0, 60)
    parts = (x, x[::-1], np.ones(60)), (np.sin(3 * x), np.cos(3 * x))
    for inputs, answers in (parts, (parts[0], dict(zip("ab", parts[1], strict=True)))):
        known = cm.estimation.Known(inputs, answers)
        np.testing.assert_array_equal(known.inputs, np.stack(inputs, 1))
        np.testing.assert_array_equal(known.answers, np.stack(parts[1], 1))


def test_known_answers_that_are_masked_are_none():
    """What was under the mask was used, and estimates were off by that."""
    hidden = np.ma.array([1, 2, 99, 4], mask=[0, 0, 1, 0])
    known = cm.estimation.Known(np.arange(4), {"a": hidden, "b": np.ones(4)})
    assert known.answers[:, 0].tolist() == [1.0, 2.0, 4.0]
    assert len(cm.estimation.Known(hidden, np.arange(4))) == 3


def test_known_answers_of_which_some_have_names_of_outputs_are_not_used():
    x = np.linspace(0.0, 1.0, 60)
    named = "called low, snow, and those of fn high, low: they are"
    with pytest.warns(UserWarning, match=named) as warned:
        stopped(lambda x: {"high": x, "low": -x}, x, known=(x, {"low": -x, "snow": x}))
    assert warned[0].filename == __file__


def test_known_inputs_by_name_have_the_order_of_the_columns(pool):
    frame = pd.DataFrame({"a": np.arange(4.0), "b": np.ones(4)})
    known = {"b": np.ones(4), "a": np.arange(4.0)}, np.arange(4.0)
    with pytest.raises(
        cm.InvalidArgument, match="another order, 'a' where the other has 'b': give"
    ):
        cm.map(lambda d: d["a"], frame, engine=pool, known=known, stop=cm.Share(0.5))


@pytest.mark.parametrize(
    ("buffer", "code"),
    [
        (np.zeros(2), None),
        (np.zeros(2), cm.Uncoded(1)),
        ([0.0, 0.0], None),
        ({"y": np.zeros(2)}, None),
    ],
)
def test_fn_may_write_its_answers_into_one_array(buffer, code):
    """All rows of a call had the answer to its last one, and were exact."""

    def fn(x):
        array = buffer["y"] if isinstance(buffer, dict) else buffer
        array[0], array[1] = x, -x
        return buffer

    rows = np.arange(6.0)
    with ThreadPoolExecutor(1) as pool:
        values = cm.map(cm.itemwise(fn), rows, engine=pool, chunk=3, code=code, hedge=None).values
    array = values["y"] if isinstance(buffer, dict) else values
    np.testing.assert_array_equal(array, np.column_stack([rows, -rows]))


@pytest.mark.parametrize("code", [None, cm.Uncoded(1), cm.Uncoded(4)], ids=repr)
def test_fn_may_write_its_batches_into_one_array(code):
    """In the caller's process rows had the answers to a later batch, and were exact."""
    buffer = np.zeros((4, 2))

    def fn(batch):
        buffer[: len(batch)] = batch[:, None]
        return buffer[: len(batch)]

    with Scripted(4) as engine:
        found = cm.map(fn, np.arange(40.0), engine=engine, chunk=2, code=code).values
    np.testing.assert_array_equal(found, np.stack([np.arange(40.0)] * 2, axis=1))


@pytest.mark.parametrize(
    "buffer",
    [[[0.0], 1], [np.zeros(1), 1], [{0: 0.0}, 1], ([[0.0]], "a"), np.array([[0.0], None], object)],
    ids=repr,
)
def test_fn_may_write_into_what_its_answers_hold(pool, buffer):
    def fn(number):
        inner = buffer[0][0] if isinstance(buffer, tuple) else buffer[0]
        inner[0] = number
        return {"y": buffer}

    def first(answer):
        answer = answer["y"][0]
        return answer[0][0] if isinstance(buffer, tuple) else answer[0]

    with Scripted(1) as engine:
        for chunk in (1, "all"):
            found = cm.map(
                cm.itemwise(lambda k: (fn(k)["y"], None)), range(3), engine=engine, chunk=chunk
            ).values[0]
            column = found[0] if isinstance(buffer, tuple) else found
            inner = [row[0][0] for row in column]
            assert inner == [0, 1, 2]
        assert [first(one) for one in cm.Pool(engine).map(fn, range(3))] == [0, 1, 2]


def test_a_series_of_one_input_is_a_dict_of_its_labels(pool):
    """By their place values had each other's labels in some rows."""
    rows = range(6)
    fn = cm.itemwise(lambda k: pd.Series({"a": k, "b": -k} if k % 2 else {"b": -k, "a": k}))
    values = cm.map(fn, rows, engine=pool, chunk=1).values
    np.testing.assert_array_equal(values["a"], rows)
    np.testing.assert_array_equal(values["b"], -np.arange(6))
    for index in ([0, 1], ["a", "a"]):
        array = cm.map(cm.itemwise(lambda k, i=index: pd.Series([k, -k], i)), rows, engine=pool)
        assert array.values.shape == (6, 2)


@pytest.mark.parametrize("out", [None, "out.zarr", "out.parquet"])
def test_keys_of_answers_may_have_any_order(pool, out, tmp_path):
    """Values went to the keys of the first answer by their place, and were exact."""

    def fn(k):
        return {"a": k, "b": -k} if k % 2 else {"b": -k, "a": k}

    path = out and tmp_path / out
    values = cm.map(cm.itemwise(fn), range(6), engine=pool, chunk=1, out=path).values
    if out == "out.parquet":
        values = values.read().to_pydict()
    np.testing.assert_array_equal(values["a"][:], range(6))
    np.testing.assert_array_equal(values["b"][:], -np.arange(6))


@pytest.mark.parametrize("rows", [[1, "a", "b"], [1, 2, "b"], ["a", 1, None], [np.ones(2), None]])
@pytest.mark.parametrize("chunk", [1, "all"])
def test_answers_of_different_kinds_do_not_depend_on_chunks(pool, rows, chunk):
    """A number before two texts ended the job, for "2 rows for a batch of 3", and one text among numbers failed."""
    fn = cm.itemwise(lambda k: rows[k])
    result = cm.map(fn, range(len(rows)), engine=pool, chunk=chunk, on_error="record")
    found = [v for v, exact in zip(result.values, result.exact, strict=True) if exact]
    same = len(rows) == 3
    assert found == rows if same else len(found) == len(result.failures) == 1


def test_a_row_whose_copies_differ_from_all_others_counts_once(virtual_time):
    """Both copies counted, which made two rows of this kind, and one of the other."""
    rows = [np.ones(2), None]
    with Scripted(3, {0: [Act(), late(1.0)], 1: [late(1.0)], 2: [late(1.0)]}) as engine:
        result = cm.map(
            cm.itemwise(lambda k: rows[k]), range(2), engine=engine, chunk=1, on_error="record"
        )
    assert result.exact.tolist() == [True, False]
    assert "hedge" in [call.kind for call in result.calls]


def test_a_number_of_numpy_as_chunk_names_rows_that_fail(pool):
    with pytest.raises(cm.InvalidAnswer, match="rows 0 to 1: fn returned an empty dict"):
        cm.map(lambda batch: {}, X, engine=pool, chunk=np.int64(2))


def test_records_of_which_none_is_masked_are_inputs(pool):
    result = cm.map(lambda batch: batch["a"], np.ma.array(RECORDS), engine=pool)
    assert result.values.tolist() == [1.0, 2.0]


def test_an_output_without_numbers_has_no_errors_beside_one_that_is_estimated():
    def fn(batch):
        return {"y": batch, "none": np.zeros((len(batch), 0))}

    with Scripted(2, {0: [late(30.0)]}) as engine:  # the first row
        result = cm.map(fn, np.arange(40.0), engine=engine, stop=cm.Share(0.9), chunk=1)
        none = cm.map(
            lambda batch: fn(batch)["none"], np.arange(4.0), engine=engine, stop=cm.Share(1)
        )
    estimated = result.status == cm.Status.ESTIMATED
    assert "standard error up to" in str(result)
    np.testing.assert_array_equal(result.row_stderr() > 0, estimated)
    np.testing.assert_array_equal(none.row_stderr(), np.zeros(4))


@pytest.mark.parametrize("empty", [{}, (), pd.DataFrame(index=range(3))])
def test_an_answer_without_parts_is_refused(pool, empty):
    """All rows were exact, and NaN."""
    for fn in (lambda batch: empty, cm.itemwise(lambda x: empty)):
        with pytest.raises(cm.InvalidAnswer, match="returned an empty"):
            cm.map(fn, np.zeros(3), engine=pool)


@pytest.mark.parametrize(
    "column",
    [
        lambda values: pd.Series(values, dtype="Int64"),
        lambda values: pd.Series(values, dtype="int64[pyarrow]"),
        lambda values: polars.Series(values, dtype=polars.Int64),
        lambda values: polars.Series(values, dtype=polars.Int128),
        pyarrow.array,
        lambda values: pyarrow.chunked_array([values[:1], values[1:]]),
    ],
)
def test_whole_numbers_beside_nulls_are_not_rounded(pool, column):
    large = 2**53 + 1
    for form in (lambda one: one, lambda one: {"y": one}):
        found = cm.map(
            lambda _, form=form: form(column([large, None])), [0, 1], engine=pool, chunk="all"
        )
        values = found.values if form(0) == 0 else found.values["y"]
        assert values[0] == large
        assert values[1] is None or values[1] is pd.NA


def test_tables_of_arrow_are_dicts_of_columns_whose_times_keep_their_zone(pool):
    """They were rows of objects, whole numbers and flags among them floats, and times those of UTC without a zone."""
    times = list(pd.date_range("2020-03-28 22:00", periods=3, freq="h", tz="Europe/Berlin"))
    table = pyarrow.table({"t": times, "n": [2**53 + 1, None, 3], "s": ["a", "b", None]})
    values = cm.map(lambda _: table, np.zeros(3), engine=pool, chunk="all").values
    assert {name: list(column) for name, column in values.items()} == table.to_pydict()


@pytest.mark.parametrize(
    ("inputs", "code"),
    [
        ([2**53 + 1, 0.5], None),
        ([2**53 + 1, 0.5], cm.Uncoded(2)),
        ([[2**53 + 1, 0.5], [1, 2]], None),
        ([[2**53 + 1, 0.5], [1, 2]], cm.Uncoded(2)),
        (UserList([2**53 + 1, 0.5]), None),
        (pyarrow.array([2**53 + 1, None]), None),
        (polars.Series([2**53 + 1, None]), None),
    ],
)
def test_large_whole_numbers_reach_fn_as_they_are(inputs, code):
    """They were rounded by NumPy, beside floats and nulls."""
    seen = []

    def of_batch(batch):
        seen.extend(batch)
        return np.zeros(len(batch))

    with Scripted(2) as engine:
        for fn in (of_batch, cm.itemwise(lambda one: of_batch([one])[0])):
            cm.map(fn, inputs, code=code, engine=engine)
    firsts = [first for one in seen if (first := np.ravel(one)[0]) is not None]
    assert [int(first) for first in firsts if first > 1] == [2**53 + 1] * 2


def test_structs_of_polars_are_objects(pool):
    rows = [{"n": 2**53 + 1, "x": 0.5}] * 3
    values = cm.map(lambda _: polars.Series(rows), np.zeros(3), engine=pool, chunk="all").values
    assert values.tolist() == rows


@pytest.mark.parametrize(
    ("inputs", "estimated"),
    [
        (pd.Series, True),
        (lambda x: pd.Series(x, name="flow", dtype="Float32"), True),
        (lambda x: pd.DataFrame({"a": x, "b": pd.interval_range(0, periods=len(x))}), False),
        (
            lambda x: polars.DataFrame({"a": polars.Series(range(len(x)), dtype=polars.Int128)}),
            False,
        ),
    ],
)
def test_a_series_of_numbers_is_estimated_and_a_column_of_intervals_is_none(inputs, estimated):
    given = inputs(np.linspace(0.0, 1.0, 60))
    with nullcontext() if estimated else pytest.warns(UserWarning, match="are not numbers"):
        result = stopped(lambda batch: np.ones(len(batch)), given)
    assert (result.status == cm.Status.ESTIMATED).any() == estimated


def test_failures_are_in_the_order_of_rows():
    def fails(number):
        time.sleep(0.03 if number == 0 else 0.0)
        raise ValueError if number == 0 else KeyError("x" * 300)

    with ThreadPoolExecutor(2) as pool:
        result = cm.map(cm.itemwise(fails), range(4), engine=pool, chunk=1, on_error="record")
    assert list(result.failures) == [0, 1, 2, 3]
    assert str(result).endswith("failed     4; the first, row 0, with ValueError")
    with (
        ThreadPoolExecutor(2) as pool,
        pytest.raises(RowFailed, match=r"with ValueError\. Correct"),
    ):
        cm.map(cm.itemwise(fails), [0], engine=pool)


@pytest.mark.parametrize(
    ("fn", "inputs"),
    [
        (lambda b: np.asarray(b["a"]), pd.DataFrame({"a": SQUARE[:, 0], "k": list("abc") * 20})),
        (lambda b: np.array([float(len(text)) for text in b]), list(map(str, range(60)))),
    ],
    ids=["categories", "text"],
)
def test_what_cannot_be_estimated_is_missing_and_why_is_said(fn, inputs):
    with pytest.warns(UserWarning, match=r"30 rows without an answer are MISSING.*get_dummies"):
        result = stopped(fn, inputs)
    assert (result.status == cm.Status.MISSING).sum() == 30
    assert np.isnan(result.values[result.status == cm.Status.MISSING]).all()


@pytest.mark.parametrize(
    ("fn", "reason"),
    [
        (
            lambda b: np.where(np.arange(6) < 4, b[:, :1], np.nan),
            "fewer than 2 of 30 rows are finite in 2 of their 6 numbers, first in number 4",
        ),
        (lambda b: np.full(len(b), "a"), "dtype object. Let fn return numbers"),
        (lambda b: 1j * b[:, 0], "dtype complex128. Let fn return real and imaginary parts"),
        (lambda b: np.zeros((len(b), 0)), None),
    ],
    ids=["nan", "text", "complex", "nothing"],
)
def test_answers_from_which_nothing_can_be_estimated(fn, reason):
    with nullcontext() if reason is None else pytest.warns(UserWarning, match=reason):
        result = stopped(fn, SQUARE)
    assert (result.status == cm.Status.MISSING).sum() == 30
    assert np.isinf(result.stderr[result.status == cm.Status.MISSING]).all()


def test_standard_errors_of_estimated_rows_are_never_0(tmp_path):
    """Where all answers are equal they are so small that their squares are 0."""
    for out in (None, tmp_path / "out.npy"):
        result = stopped(lambda b: np.zeros((len(b), 2)), SQUARE, out=out)
        np.testing.assert_array_equal(result.row_stderr() == 0, result.exact)
        assert (np.asarray(result.stderr)[~result.exact] > 0).all()


def test_estimates_keep_to_their_tenth_of_the_deadline(monkeypatch):
    """Searches of 50 steps for each of eight outputs would take 20 s, and the tenth is 0.2 s."""

    class Slow(gaussian.Deviance):
        def __call__(self, place):
            time.sleep(0.05)
            return super().__call__(place)

    monkeypatch.setattr(gaussian, "Deviance", Slow)
    inputs = np.random.default_rng(0).uniform(size=(400, 3))
    weights = np.random.default_rng(1).normal(size=(3, 8))
    with Scripted(4, {3: never()}) as engine:
        begun = time.monotonic()
        result = cm.map(
            lambda batch: np.tanh(batch @ weights), inputs, engine=engine, deadline=2.0, hedge=None
        )
        assert time.monotonic() - begun < 4.0
    assert 0 < result.exact.sum() < 400
    assert (result.status <= cm.Status.ESTIMATED).all()


def test_only_inputs_that_are_computed_together_are_tried_together(monkeypatch):
    """Their calls may take a time of their own. A call of the others takes 0.05 s, or one row."""
    for fn_of, calls in (lambda fn: fn, range(20)), (cm.itemwise, range(200, 201)):
        engine = Virtual(2)
        engine.install(monkeypatch)

        def model(batch, engine=engine):
            engine.sleep(0.06)
            return 2 * batch

        result = cm.map(fn_of(model), np.arange(200.0), engine=engine)
        np.testing.assert_array_equal(result.values, 2 * np.arange(200.0))
        assert len(result.calls) in calls
