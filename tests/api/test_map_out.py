"""`map` with ``out``: written as answers come, killed, damaged and resumed."""

from __future__ import annotations

import asyncio
import errno
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import zarr

import codedmap as cm
from codedmap.api import map as jobs
from codedmap.execution import coded
from codedmap.results.trees import error_leaves
from codedmap.storage import output as output_module
from codedmap.storage import zarr as zarr_module
from codedmap.testing import Act, Scripted, crash, fail, never

from ..repeats import crossed, first
from ..virtual import Virtual

X = np.random.default_rng(0).normal(size=(200, 3))
SUFFIXES = (".npy", ".zarr", ".parquet")
CODE = cm.Replication(2, 4)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Counted:
    """Squares rows, and notes which."""

    def __init__(self, fails=()):
        self.fails, self.rows = fails, []

    def __call__(self, x):
        self.rows.append(float(x[0]))
        if len(self.rows) - 1 in self.fails:
            raise ValueError("it fails")
        return x**2

    def __reduce__(self):  # what it has seen is none of what it computes
        return Counted, ()


class SlowAtHundred:
    """Squares rows, of which three take long."""

    def __init__(self, sleep=time.sleep):
        self.sleep = sleep

    def __call__(self, x):
        self.sleep(0.5 if x[0] in X[100:103, 0] else 0.001)
        return x**2

    def __reduce__(self):  # how it sleeps is none of what it computes
        return SlowAtHundred, ()


def squares(x):
    return x**2


def content(out) -> np.ndarray:
    out = Path(out)
    if out.suffix == ".npy":
        return np.load(out)
    if out.suffix == ".zarr":
        return zarr.open_group(out, mode="r")["values"][:]
    column = pq.read_table(out)["values"].combine_chunks()
    values = column.flatten().to_numpy(zero_copy_only=False)
    assert not column.null_count
    return values.reshape(-1, 3)


def mapped(fn=squares, inputs=X, *, out="out.npy", script=None, code=None, **options):
    """Without hedges: answers that wait while others are written look late, and rows are counted."""
    options = {"chunk": 5, "hedge": None, **options}
    with Scripted(4 if code is None else code.workers, script or {}) as engine:
        return cm.map(fn, inputs, engine=engine, out=out, code=code, **options)


def raising(number):
    """What the system raises with this errno, whatever it is called with."""

    def raises(*args, **options):
        raise OSError(number, os.strerror(number))

    return raises


def half_done(out, **options):
    """A job that ends after about half of its rows; which they are."""
    fn = Counted(fails=range(100, 110))
    with pytest.raises(cm.NotEnoughAnswers) as caught:
        mapped(cm.itemwise(fn), out=out, **options)
    [note] = [n for n in caught.value.__notes__ if "rows are exact" in n]
    assert f"{out}: the same call with resume=True goes on" in note
    return int(note.split()[0])


def test_a_note_says_how_many_rows_are_written(tmp_path):
    for rows, words in ((1, "1 row is exact"), (2, "2 rows are exact")):
        script = {0: [Act()] * rows + [fail(OSError("disk"))]}
        with Scripted(1, script) as engine, pytest.raises(cm.NotEnoughAnswers) as caught:
            cm.map(np.sin, np.ones(5), engine=engine, out=tmp_path / f"{rows}.npy", chunk=1)
        assert caught.value.__notes__[-1].startswith(words)


# What is written


@pytest.mark.parametrize("out", ["out.npy", "out.zarr", "out.parquet"])
@pytest.mark.parametrize("code", [None, CODE], ids=["rows", "coded"])
def test_values_are_what_was_written(out, code):
    result = mapped(out=out, code=code)
    np.testing.assert_array_equal(content(out), X**2)
    kind = {".npy": np.memmap, ".zarr": zarr.Array, ".parquet": pq.ParquetFile}[Path(out).suffix]
    assert isinstance(result.values, kind)
    assert result.exact.all()
    assert result.stderr is None
    assert "200" in str(result)
    again = pickle.loads(pickle.dumps(result)).values
    again = again.read()["values"].to_numpy() if out == "out.parquet" else again[:]
    np.testing.assert_array_equal(again.tolist(), X**2)
    assert Path(f"{out}.journal").exists()
    assert not Path(f"{out}.spool").exists()


@pytest.mark.parametrize(
    ("code", "iterator", "out"),
    first(
        3,
        [
            (cm.Uncoded(4, fill="mean"), False, "out.npy"),
            (cm.Uncoded(4, fill="mean"), True, "out.zarr"),
            (cm.KernelCode(4, 6, 1), True, "out.parquet"),
            (cm.Uncoded(4, fill="mean"), False, "out.parquet"),
            (cm.KernelCode(4, 6, 1), True, "out.npy"),
            (cm.KernelCode(4, 6, 1), False, "out.zarr"),
        ],
    ),
)
def test_rows_without_an_answer_are_estimated_from_all_others(out, code, iterator):
    """Their squares vary by 1.4, and a group of four says little of them."""
    options = {"chunk": 10, "retries": 0}
    if iterator:  # and there may be no rule
        options |= {"on_error": "record"}
    else:
        options |= {"stop": cm.Quorum(code.workers - 1)}
    given = iter(np.array_split(X, 5)) if iterator else X
    result = mapped(squares, given, out=out, code=code, script={1: crash()}, **options)
    estimated = result.status == cm.Status.ESTIMATED
    assert 20 < estimated.sum() < 100
    assert (result.status <= cm.Status.ESTIMATED).all()
    values = content(out)
    np.testing.assert_array_equal(values[~estimated], X[~estimated] ** 2)
    off = np.abs(values - X**2)[estimated]
    assert np.sqrt((off**2).mean()) < 0.5
    (stderr,) = error_leaves(result.stderr)
    assert (stderr[estimated] > 0).all()
    assert (stderr[~estimated] == 0).all()


def test_dicts_and_text():
    def fn(x):
        return {"sum": x.sum(axis=1), "name": [f"row {v:.3f}" for v in x[:, 0]], "all": x}

    def any_length(x):
        answer = fn(x)
        return {**answer, "name": np.array(answer["name"], np.dtypes.StringDType())}

    mapped(fn, out="out.parquet")
    frame = pd.read_parquet("out.parquet")
    mapped(any_length, out="same.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet("same.parquet"), frame)
    assert list(frame) == ["sum", "name", "all", "status"]
    np.testing.assert_array_equal(frame["sum"], X.sum(axis=1))
    assert frame["name"].tolist() == [f"row {v:.3f}" for v in X[:, 0]]
    result = mapped(lambda x: {"sum": x.sum(axis=1), "all": x}, out="out.zarr")
    np.testing.assert_array_equal(result.values["sum"][:], X.sum(axis=1))
    np.testing.assert_array_equal(result.values["all"][:], X)
    with pytest.raises(cm.InvalidAnswer, match=r"a dict of sum, all, and a \.npy file"):
        mapped(lambda x: {"sum": x.sum(axis=1), "all": x}, out="out.npy")
    with pytest.raises(cm.InvalidAnswer, match="fn returned a tuple, and an output holds"):
        mapped(lambda x: (x, x), out="new.zarr")
    with pytest.raises(cm.InvalidAnswer, match="a dict in which 'size' is a tuple, and an output"):
        mapped(lambda x: {"sum": x.sum(axis=1), "size": (x, x)}, out="new.zarr")


def test_why_no_standard_error_was_looked_at_is_said_when_a_table_is_finished():
    with pytest.warns(UserWarning, match="no standard error was looked at.*Let fn return numbers"):
        result = mapped(lambda x: [f"{v:.3f}" for v in x[:, 0]], out="out.parquet", tolerance=0.1)
    assert result.exact.all()
    assert not Path("out.parquet.spool").exists()


def test_a_list_of_text_with_a_code():
    words = [f"{'w' * k}" for k in range(1, 20)]
    for _ in range(2):
        result = mapped(
            lambda b: np.array([len(w) for w in b]),
            words,
            code=cm.Replication(3, 6),
            out="out.npy",
            resume=True,
        )
        assert result.exact.all()
        np.testing.assert_array_equal(np.load("out.npy"), range(1, 20))


@pytest.mark.parametrize("make", ["array", "memmap", "zarr", "float32"])
@pytest.mark.parametrize("code", [None, CODE], ids=["rows", "coded"])
def test_an_array_that_is_given(make, code):
    out = {
        "array": lambda: np.empty((200, 3)),
        "memmap": lambda: np.lib.format.open_memmap("o.npy", "w+", np.float64, (200, 3)),
        "zarr": lambda: zarr.zeros((200, 3), chunks=(7, 3)),
        "float32": lambda: np.empty((210, 3), np.float32),
    }[make]()
    result = mapped(out=out, code=code)
    assert result.values is out
    assert "200 of 200 exact" in str(result) or "200 exact" in str(result)
    np.testing.assert_allclose(out[:200], X**2, rtol=1e-6)
    assert list(map(str, Path().iterdir())) == (["o.npy"] if make == "memmap" else [])


@pytest.mark.parametrize("options", [{"deadline": 9.0}, {"code": cm.KernelCode(2, 4, 1)}], ids=repr)
def test_inputs_that_are_written_over_are_refused_where_rows_are_estimated_from_them(options):
    data = np.arange(40.0).reshape(20, 2)
    with Scripted(4) as engine:
        cm.map(np.sqrt, data, engine=engine, out=data)
        np.testing.assert_array_equal(data, np.sqrt(np.arange(40.0).reshape(20, 2)))
        with pytest.raises(cm.InvalidArgument, match="give a copy of the inputs"):
            cm.map(np.sqrt, data[:, 0], engine=engine, out=data[:, 0], **options)
        cm.map(np.sqrt, data[:, 0], engine=engine, out=data[:, 1], **options)
    np.testing.assert_array_equal(data[:, 1], np.sqrt(data[:, 0]))


def test_rows_that_fail_are_none_in_an_array_of_objects():
    def fn(x):
        if x[0] == X[3, 0]:
            raise ValueError("no")
        return "text"

    out = np.full(200, "before", object)
    mapped(cm.itemwise(fn), out=out, on_error="record")
    assert out.tolist() == ["text"] * 3 + [None] + ["text"] * 196


def test_times_in_an_array_of_objects_are_those_of_numpy():
    """They were whole numbers, or dates."""
    out = np.empty(200, object)
    mapped(lambda x: np.full(len(x), "2020-01-01", "M8[ns]"), out=out)
    assert set(out) == {np.datetime64("2020-01-01", "ns")}


def test_rows_that_fail_are_nan_in_an_array_of_floats_of_whole_numbers():
    def fn(x):
        if x[0] == X[3, 0]:
            raise ValueError("no")
        return 7

    out = np.full(200, -1.0)
    mapped(cm.itemwise(fn), out=out, on_error="record")
    np.testing.assert_array_equal(out, [7.0] * 3 + [np.nan] + [7.0] * 196)


def test_standard_errors_of_a_code_beside_an_array_with_more_rows():
    options = {"code": cm.KernelCode(4, 6, 1), "stop": cm.Quorum(5), "on_error": "record"}
    out = np.empty((210, 3))
    result = mapped(out=out, script={1: crash()}, retries=0, chunk=10, **options)
    assert result.stderr.shape == (200, 3)


@pytest.mark.parametrize("out", ["out.npy", "out.zarr", "out.parquet"])
def test_a_code_without_standard_errors_writes_none(out):
    with Scripted(6) as engine:
        result = cm.map(np.sin, X[:, 0], code=cm.SplineCode(3, 6, 1), engine=engine, out=out)
    assert result.stderr is None
    assert result.row_stderr() is None
    assert "this code has no standard errors" in str(result)


def test_estimates_that_no_output_can_hold_end_the_job():
    with (
        Scripted(6) as engine,
        pytest.raises(cm.InvalidAnswer, match="complex128, with values that Parquet cannot hold"),
    ):
        cm.map(
            lambda x: x + 1j, X[:, 0], code=cm.SplineCode(3, 6, 1), engine=engine, out="out.parquet"
        )
    assert not any(Path().iterdir())


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("out", first(1, ["out.parquet", "out.zarr"]))
def test_each_output_has_its_own_standard_errors(out):
    def fn(x):
        return {"sine": np.sin(x).astype(np.float32), "noise": np.sin(1e6 * x[:, 0])}

    script = {2: [never()], 3: [never()]}
    result = mapped(fn, out=out, script=script, deadline=2.5)
    estimated = result.status == cm.Status.ESTIMATED
    assert estimated.any()
    assert (result.row_stderr()[estimated] > 0).all()
    assert (result.row_stderr()[~estimated] == 0).all()
    if out == "out.zarr":
        group = zarr.open_group(out, mode="r")
        sine, noise = group["sine_stderr"][:], group["noise_stderr"][:]
        assert set(result.stderr) == {"sine", "noise"}
    else:
        table = pq.read_table(out)
        sine, noise = (np.array(table[f"{n}_stderr"].to_pylist()) for n in ("sine", "noise"))
        assert table.schema.field("sine_stderr").type.value_type == "float"
    assert sine.shape == (200, 3)
    assert noise.shape == (200,)
    assert (noise[~estimated] == 0).all()
    assert (noise[estimated] > 0.3).all()
    assert (sine[estimated].max(axis=1) < noise[estimated]).mean() > 0.5
    result = mapped(fn, out=out, deadline=60.0, resume=True)
    assert result.exact.all()
    assert result.stderr is None


@pytest.mark.parametrize("names", [["status"], ["a", "a_stderr"]])
@pytest.mark.parametrize("out", ["out.zarr", "out.parquet"])
def test_columns_that_the_output_has_itself_are_refused(out, names):
    with pytest.raises(cm.InvalidAnswer, match=f"a column {names[-1]}, which the output needs"):
        mapped(lambda x: dict.fromkeys(names, x), out=out)


@pytest.mark.parametrize("out", ["out.npy", "out.zarr", "out.parquet"])
def test_rows_that_fail_are_recorded_and_computed_again_on_resuming(out):
    result = mapped(cm.itemwise(Counted(fails=(3, 50))), out=out, on_error="record")
    assert sorted(result.status.tolist()) == [0] * 198 + [2] * 2
    assert len(result.failures) == 2
    again = Counted(fails=(3, 50))
    again.rows = [0.0] * 60  # so that nothing fails any more
    result = mapped(cm.itemwise(again), out=out, on_error="record", resume=True)
    assert result.exact.all()
    assert len(again.rows) == 62
    np.testing.assert_array_equal(content(out), X**2)


@pytest.mark.parametrize(
    ("iterator", "out"), crossed([False, True], ["out.npy", "out.zarr", "out.parquet"])
)
def test_what_a_call_gave_back_at_its_limit_is_not_computed_again(monkeypatch, out, iterator):
    engine = Virtual(4)
    engine.install(monkeypatch)
    fn = cm.itemwise(SlowAtHundred(engine.sleep))

    def computed(**options):
        inputs = iter(np.array_split(X, 7)) if iterator else X
        return cm.map(fn, inputs, engine=engine, out=out, hedge=None, **options)

    calls = computed().calls
    assert max(len(call.rows) for call in calls) > 3
    assert sum(bool({*call.rows} & {100, 101, 102}) for call in calls) == 3
    np.testing.assert_array_equal(content(out), X**2)
    result = computed(resume=True)
    assert result.exact.all()
    assert not len(result.calls)


@pytest.mark.parametrize("out", ["out.npy", "out.zarr", "out.parquet"])
def test_rows_that_are_late_are_estimated_and_computed_again_on_resuming(out):
    def fn(x):
        return np.sin(x.sum(axis=1))

    script = {2: [never()], 3: [never()]}
    result = mapped(fn, out=out, script=script, stop=cm.Share(0.95))
    estimated = result.status == cm.Status.ESTIMATED
    assert 5 <= estimated.sum() <= 10
    (stderr,) = error_leaves(result.stderr)
    assert (stderr[estimated] > 0).all()
    assert (stderr[~estimated] == 0).all()
    if out == "out.npy":
        values = np.load(out)
        np.testing.assert_array_equal(np.load("out.status.npy"), result.status)
        np.testing.assert_array_equal(np.load("out.stderr.npy"), stderr)
        truth = np.sin(X.sum(axis=1))
        assert (np.abs(values - truth)[estimated] < 10 * stderr[estimated]).all()
    result = mapped(fn, out=out, deadline=60.0, resume=True)
    assert result.exact.all()
    assert sum(len(record.rows) for record in result.calls) == estimated.sum()
    assert result.stderr is None
    assert not Path("out.stderr.npy").exists()


@pytest.mark.parametrize("chunk", [1, 3])
def test_numbers_of_a_list_are_pythons_own_with_a_code(chunk):
    """NumPy's overflow, as 3**40 does in an int64."""
    Path("broken").touch()

    def power(number):
        if number == 2 and Path("broken").exists():
            raise ValueError("not yet")
        return float(number**40)

    options = {"code": CODE, "chunk": chunk, "on_error": "record"}
    result = mapped(cm.itemwise(power), list(range(20)), **options)
    assert list(result.failures) == [2]
    Path("broken").unlink()
    result = mapped(cm.itemwise(power), list(range(20)), resume=True, **options)
    assert result.exact.all()
    assert result.values.tolist() == [float(number**40) for number in range(20)]
    again = mapped(cm.itemwise(power), list(range(20)), resume=True, **options)
    assert not again.calls


@pytest.mark.parametrize("code", [None, CODE], ids=repr)
def test_rows_done_before_count_for_a_share(code, monkeypatch):
    """On resuming it was one of the rows that were left: with half of them done, half of the others were computed."""
    totals = []
    real = jobs.job_progress
    monkeypatch.setattr(
        jobs, "job_progress", lambda shown, total, *unit: totals.append(total) or real(False, total)
    )
    options = {"code": code, "stop": cm.Share(0.5) | cm.Deadline(60)}
    before = mapped(**options)
    assert before.outcome is cm.Outcome.SHARE
    done = before.exact.sum()
    assert 100 <= done < 150
    again = mapped(**options, resume=True)
    assert again.outcome is cm.Outcome.SHARE
    begun = 0 if code is None else 20  # in chunks that are computed until it is asked
    assert again.exact.sum() <= done + begun
    more = mapped(**{**options, "stop": cm.Share(0.9) | cm.Deadline(60)}, resume=True)
    assert more.exact.sum() >= 180
    slots = 1 if code is None else 2  # answers to a row
    assert totals[:2] == [slots * 200, slots * (200 - done)]


def test_estimated_rows_of_a_code_are_computed_again_on_resuming():
    code = cm.KernelCode(4, 6, 2)
    options = {"code": code, "chunk": 10, "retries": 0}
    script = {0: never(), 1: never()}
    result = mapped(np.tanh, script=script, stop=cm.Quorum(4) & cm.Decodable(), **options)
    estimated = result.status == cm.Status.ESTIMATED
    assert estimated.any()
    assert (np.load("out.stderr.npy")[estimated] > 0).all()


@pytest.mark.parametrize("dtype", ["i8", "?", "f4"])
@pytest.mark.parametrize("code", [CODE, cm.Uncoded(4, fill="mean")], ids=repr)
def test_rows_beside_one_that_fails_keep_their_dtype(dtype, code):
    """With a code their group had been made floats, or objects, which the output did not hold."""

    def fn(x):
        if x[0] == X[107, 0]:
            raise ValueError("no")
        return np.int64(100 * x[0]).astype(dtype)

    result = mapped(cm.itemwise(fn), code=code, on_error="record")
    assert list(result.failures) == [107]
    kept = result.exact
    assert kept.sum() == 199
    expected = np.int64(100 * X[kept, 0]).astype(dtype)
    np.testing.assert_array_equal(np.load("out.npy")[kept], expected)
    assert np.load("out.npy").dtype == expected.dtype


@pytest.mark.parametrize(
    ("out", "code", "least"),
    first(
        3,
        [
            ("out.npy", None, 0),
            ("out.parquet", None, 2**53 + 1),
            ("out.zarr", cm.KernelCode(4, 6, 2, spread=0), 0),
            ("out.zarr", None, 0),
            ("out.npy", cm.KernelCode(4, 6, 2, spread=0), 0),
        ],
    ),
)
def test_estimates_that_the_output_does_not_hold_are_missing(out, code, least):
    def fn(x):
        return least + 2 * np.int64(100 * x[:, 0])

    stop = cm.Share(0.5) if code is None else cm.Quorum(3) & cm.Decodable()
    script = dict.fromkeys(range(3), never()) if code else {}
    with pytest.warns(UserWarning, match="are MISSING, because estimates are floating-point"):
        result = mapped(fn, out=out, code=code, stop=stop, script=script)
    assert set(result.status) == {cm.Status.EXACT, cm.Status.MISSING}
    stop = None if code is None else cm.Quorum(6)
    result = mapped(fn, out=out, code=code, stop=stop, resume=True)
    assert result.exact.all()
    values = result.values.read()["values"] if out == "out.parquet" else result.values[:]
    np.testing.assert_array_equal(values, fn(X))


def test_rows_that_are_missing_are_nan(monkeypatch):
    late = {n: [never()] for n in range(4)}
    with pytest.warns(UserWarning, match=r"200 rows .* are MISSING.* no row was answered in 0\."):
        result = mapped(lambda x: x[:, 0] > 0, script=late, deadline=0.3)
    assert (result.status == cm.Status.MISSING).all()
    assert np.isnan(np.load("out.npy")).all()
    result = mapped(lambda x: x[:, 0] > 0, deadline=60, resume=True)
    np.testing.assert_array_equal(np.load("out.npy"), X[:, 0] > 0)


# Resuming


@pytest.mark.parametrize("out", ["out.npy", "out.zarr", "out.parquet"])
@pytest.mark.parametrize("iterator", [False, True], ids=["array", "iterator"])
@pytest.mark.parametrize("code", [None, CODE], ids=["rows", "coded"])
def test_a_job_goes_on_where_it_ended_and_computes_nothing_twice(out, iterator, code):
    def inputs():
        return (X[i : i + 9] for i in range(0, 200, 9)) if iterator else X

    fn = Counted(fails=range(100, 900))
    with pytest.raises(cm.NotEnoughAnswers) as caught:
        mapped(cm.itemwise(fn), inputs(), out=out, code=code, retries=0)
    done = int(caught.value.__notes__[-1].split()[0])
    assert 20 <= done < 200
    again = Counted(fails=range(100, 900))
    again.rows = [0.0] * 1000
    result = mapped(cm.itemwise(again), inputs(), out=out, code=code, retries=0, resume=True)
    assert result.exact.all()
    np.testing.assert_array_equal(content(out), X**2)
    if code is None:
        assert len(again.rows) == 1000 + 200 - done
    else:
        assert len(again.rows) <= 1000 + 2 * (200 - done) + 4
    again.rows.clear()
    result = mapped(cm.itemwise(again), inputs(), out=out, code=code, retries=0, resume=True)
    assert not again.rows
    assert result.exact.all()
    np.testing.assert_array_equal(content(out), X**2)


def test_rows_of_many_calls_are_checked_by_reading_each_chunk_once(monkeypatch):
    assert len(mapped(out="out.zarr").calls) > 20
    found, read = [], zarr.Array.__getitem__
    monkeypatch.setattr(
        zarr.Array, "__getitem__", lambda self, at: [found.append(self.name), read(self, at)][1]
    )
    assert not len(mapped(out="out.zarr", resume=True).calls)
    assert found == ["/values"]


@pytest.mark.parametrize("out", ["out.npy", "out.zarr"])
def test_answers_without_numbers_are_not_computed_again(out):
    def fn(x):
        return np.zeros((len(x), 0))

    mapped(fn, out=out)
    assert not len(mapped(fn, out=out, resume=True).calls)


@pytest.mark.parametrize("code", [None, cm.Replication(2, 4)])
def test_a_complete_job_that_is_resumed_says_that_it_was_complete(code):
    mapped(code=code)
    resumed = str(mapped(code=code, resume=True)).splitlines()
    assert resumed[0].startswith("200 rows in "), "with a code, 0 of 4 workers had answered"
    assert resumed[1:] == ["  calls      no calls: every row was there already"]


def test_resume_begins_where_there_is_nothing():
    assert mapped(resume=True).exact.all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fn": np.sqrt}, "the function squares, and this one has the function sqrt"),
        ({"fn": lambda x: x**2}, "the function squares, and this one has"),
        ({"inputs": X[:100]}, "200 rows, and this one has 100 rows"),
        ({"inputs": X.astype(np.float32)}, "inputs of the form"),
        ({"inputs": X + np.eye(200, 3, -100)}, "the inputs of rows 100 to 104 are not those"),
        ({"code": CODE}, "a job with code=None, and this one has code=Replication"),
        ({"seed": 1}, "the function squares, which is not the same now"),
        ({"kwargs": {"a": 1}}, "the function squares, which is not the same now"),
        ({"version": "2"}, "a job with version=1, and this one has version=2"),
    ],
)
def test_another_job_is_refused_and_what_is_there_is_kept(change, message):
    mapped(version="1")
    before = {path: path.read_bytes() for path in Path().iterdir()}
    options = {"fn": squares, "inputs": X, "version": "1", **change}
    with pytest.raises(cm.InvalidArgument, match=message):
        mapped(**options, resume=True)
    assert {path: path.read_bytes() for path in Path().iterdir()} == before


def test_another_version_of_the_package_is_refused(monkeypatch):
    mapped()
    monkeypatch.setattr(cm, "__version__", "9.9")
    with pytest.raises(cm.InvalidArgument, match=r"and this one has version 9\.9 of codedmap"):
        mapped(resume=True)


def test_an_iterator_that_gives_other_rows_or_fewer():
    mapped(inputs=iter([X[:100], X[100:]]))
    with pytest.raises(cm.InvalidArgument, match="the inputs of rows 10 to 14 are not those"):
        mapped(inputs=iter([X + np.eye(200, 3, -10)]), resume=True)
    with pytest.raises(
        cm.InvalidArgument, match="ended after 100 rows, and 100 of those after them"
    ):
        mapped(inputs=iter([X[:100]]), resume=True)
    assert mapped(inputs=iter([X, X]), resume=True).exact.sum() == 400
    mapped(inputs=iter([X]), out="out.parquet")
    before = Path("out.parquet").read_bytes()
    with pytest.raises(cm.InvalidArgument, match="finished with 200 rows, and the iterator gives"):
        mapped(inputs=iter([X, X]), out="out.parquet", resume=True)
    assert Path("out.parquet").read_bytes() == before


def test_an_iterator_may_cut_its_rows_in_another_way():
    big = X.astype(">f8")
    mapped(inputs=iter(np.split(big, [33])), chunk=20)
    assert mapped(inputs=iter(np.split(big, [7, 23, 120])), resume=True).exact.all()


@pytest.mark.parametrize(("cuts", "suffix"), crossed([[60], [], [140]], SUFFIXES))
def test_an_iterator_that_gives_more_than_a_finished_job_had(suffix, cuts):
    """A finished Parquet file holds all rows that there can be: others were null then, and said to be exact."""
    out = f"out{suffix}"
    mapped(inputs=iter([X[:140]]), out=out)
    more = iter(np.split(X, cuts))
    if suffix != ".parquet":
        assert mapped(inputs=more, out=out, resume=True).exact.all()
        np.testing.assert_array_equal(content(out), X**2)
        return
    with pytest.raises(cm.InvalidArgument, match="was finished with 140 rows"):
        mapped(inputs=more, out=out, resume=True)
    np.testing.assert_array_equal(content(out), X[:140] ** 2)
    assert not Path(f"{out}.spool").exists()
    assert not len(mapped(inputs=iter([X[:140]]), out=out, resume=True).calls)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_iterator_that_ends_before_rows_that_are_damaged(suffix):
    out = f"out{suffix}"
    mapped(squares, iter([X]), out=out, chunk=70)
    for path in [path for path in Path().rglob("*") if path.suffix != ".journal"]:
        if path.is_file():
            path.write_bytes(path.read_bytes()[:-20])
    result = mapped(squares, iter([X[:140]]), out=out, resume=True)
    assert result.exact.all()
    np.testing.assert_array_equal(content(out), X[:140] ** 2)


def test_what_is_there_is_not_overwritten():
    mapped()
    with pytest.raises(cm.InvalidArgument, match="begun before: go on with it by resume=True"):
        mapped()
    Path("out.npy.journal").unlink()
    for resume in (False, True):
        with pytest.raises(cm.InvalidArgument, match=r"out\.npy exists, and no journal"):
            mapped(resume=resume)
    np.testing.assert_array_equal(np.load("out.npy"), X**2)


def test_two_writers_at_once():
    refused = []

    def fn(x):
        if not refused:
            with pytest.raises(cm.InvalidArgument, match="being written by another job"):
                mapped(resume=True)
            refused.append(True)
        return x**2

    with Scripted(1) as engine:
        cm.map(fn, X, engine=engine, out="out.npy", chunk=50)
    assert refused
    np.testing.assert_array_equal(np.load("out.npy"), X**2)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_output_that_was_removed_and_is_another_job_s_is_not_written_to(suffix):
    """A Parquet file of another job was replaced by the answers of the one that still ran."""
    out, begun = f"out{suffix}", []

    def fn(x):
        if not begun and x[0, 0] != X[0, 0]:
            begun.append(True)
            for path in Path().iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            with Scripted(1) as another:
                cm.map(lambda x: x**3, X, engine=another, out=out)
        return x**2

    with (
        Scripted(1) as engine,
        pytest.raises(cm.errors.OutputError, match="was removed while this job ran"),
    ):
        cm.map(fn, X, engine=engine, out=out, chunk=50)
    np.testing.assert_array_equal(content(out), X**3)
    assert not list(Path().glob("*.spool"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out": "out.csv"}, "must end in .npy, .zarr, .parquet"),
        ({"out": "nowhere/out.npy"}, "there is no folder nowhere"),
        ({"out": 3}, "neither a path ending in"),
        ({"out": list(range(999))}, "^out=.{80} is neither a path ending in"),
        ({"out": np.empty((10, 3))}, "room for 10 rows, and there are 200"),
        ({"out": np.empty((200, 3)), "resume": True}, "cannot be resumed: give a path"),
        ({"out": np.broadcast_to(0.0, (200, 3))}, "cannot be written to: give a copy"),
        ({"out": None, "resume": True}, "nothing is without out"),
        ({"out": "a" * 300 + ".npy"}, "File name too long"),
    ],
)
def test_bad_outputs(options, message):
    fn = Counted()
    with pytest.raises(cm.InvalidArgument, match=message):
        mapped(cm.itemwise(fn), **options)
    assert not fn.rows
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:, :2], "row 100 failed .* the same shape"),
        (lambda x: x.astype(np.complex128), "row 100 failed .*return the same dtype"),
    ],
    ids=["shape", "dtype"],
)
def test_answers_that_change_their_dtype_or_shape(change, message):
    def fn(x):
        return change(x) if x[0, 0] == X[100, 0] else x

    with pytest.raises(cm.errors.RowFailed, match=message):
        mapped(fn)
    assert (np.load("out.status.npy") == 0).sum() >= 50, "what was finished stays finished"


@pytest.mark.parametrize("out", ["out.npy", "out.zarr", "out.parquet"])
def test_a_row_whose_answer_is_unlike_the_others_fails_alone(out):
    def fn(x):
        return np.ones(2 if x[0] == X[100, 0] else 3)

    result = mapped(cm.itemwise(fn), out=out, on_error="record")
    assert "shape (3,) for some inputs" in str(result.failures[100]) or (
        "shapes (2,) and (3,)" in str(result.failures[100])
    )
    assert np.flatnonzero(~result.exact).tolist() == [100]


@pytest.mark.parametrize(
    ("out", "usual", "odd"),
    [
        ("out.npy", 0.5, 1j),
        ("out.npy", 0.5, "diverged"),
        ("out.zarr", 0.5, None),
        ("out.parquet", 0.5, 1j),
        ("out.parquet", "text", Decimal(3)),
        (np.empty(200), 0.5, "diverged"),
        (np.empty(200, np.float32), 0.5, 1e300),
    ],
    ids=["complex", "text", "none", "parquet", "decimal", "array", "range"],
)
def test_a_row_that_does_not_fit_beside_others_fails_alone(out, usual, odd):
    """It ended the job, also with on_error="record"."""

    def fn(x):
        return odd if x[0] == X[100, 0] else usual

    result = mapped(cm.itemwise(fn), out=out, on_error="record")
    message = str(result.failures[100])
    assert "return the same dtype for every row" in message or "return real numbers" in message
    assert np.flatnonzero(~result.exact).tolist() == [100]
    parquet = hasattr(result.values, "read")
    values = result.values.read()["values"].to_pylist() if parquet else result.values[:]
    assert np.delete(values, 100).tolist() == [usual] * 199


@pytest.mark.parametrize("out", first(1, ["out.npy", "out.zarr"]))
def test_only_the_rows_of_a_chunk_that_do_not_fit_fail_with_a_code(out):
    """They ended the job, also with on_error="record"."""

    def fn(x):
        return np.float64(1e300) if x[0] == X[100, 0] else np.float32(0.5)

    options = {"code": cm.Replication(2, 4), "chunk": 1}
    result = mapped(cm.itemwise(fn), out=out, on_error="record", **options)
    assert np.flatnonzero(~result.exact).tolist() == [100, 101]
    assert result.status[100] == cm.Status.FAILED
    assert "return the same dtype for every row" in str(result.failures[100])
    assert np.delete(content(out), [100, 101]).tolist() == [0.5] * 198
    with pytest.raises(cm.InvalidAnswer, match="rows 100 to 101: fn returned values"):
        mapped(cm.itemwise(fn), out=f"other_{out}", **options)


@pytest.mark.parametrize("version", [2, 3])
def test_xarray_opens_a_zarr_output(version):
    xarray = pytest.importorskip("xarray")
    with zarr.config.set({"default_zarr_format": version}):
        script = {2: [never()], 3: [never()]}
        mapped(lambda x: x**2, out="out.zarr", script=script, stop=cm.Share(0.95))
    with xarray.open_zarr("out.zarr", consolidated=False) as opened:
        assert opened["values"].dims == opened["stderr"].dims == ("row", "values_0")
        assert opened["status"].dims == ("row",)


def test_columns_of_the_same_name():
    with pytest.raises(cm.InvalidAnswer, match=r"keys \[1, '1'\]"):
        mapped(lambda x: {1: x, "1": x}, out="out.parquet")


@pytest.mark.parametrize("out", ["out.npy", "out.zarr", "out.parquet"])
def test_the_other_order_of_bytes_is_computed_once(out):
    for resume in (False, True):
        result = mapped(lambda x: (x**2).astype(">f8"), out=out, resume=resume)
        assert len(result.calls) == 40 * (not resume)
        np.testing.assert_array_equal(content(out), X**2)


@pytest.mark.parametrize("out", ["out.npy", "out.zarr", "out.parquet"])
def test_a_relative_path_stays_where_it_was(out, tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()

    def fn(x):
        monkeypatch.chdir(tmp_path / "other")
        return x**2

    mapped(fn, out=out)
    assert not list((tmp_path / "other").iterdir())
    np.testing.assert_array_equal(content(tmp_path / out), X**2)


class Seven:
    """Fails where a file says so."""

    def __init__(self, dtype):
        self.dtype = dtype

    def __call__(self, x):
        if Path("fail").exists():
            raise ValueError("no")
        return np.full(len(x), "7").astype(self.dtype)


@pytest.mark.parametrize(("dtype", "nothing"), [("i8", 0), ("M8[s]", "NaT"), ("U3", "")])
def test_rows_that_are_damaged_and_fail_then_hold_nothing(dtype, nothing):
    mapped(Seven(dtype))
    with Path("out.npy").open("r+b") as file:
        file.seek(200)
        file.write(b"\x01\x02\x03")
    Path("fail").touch()
    result = mapped(Seven(dtype), resume=True, on_error="record")
    failed = result.status == cm.Status.FAILED
    assert failed.sum() == 5
    np.testing.assert_array_equal(result.values[failed], np.full(5, nothing, dtype))


# Damage


def damaged(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    bit = rng.randrange(8 * len(data))
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


@pytest.mark.parametrize("suffix", first(1, SUFFIXES))
def test_flipped_bits_give_a_clear_error_or_the_right_result(suffix, tmp_path):
    out, rng = f"out{suffix}", random.Random(0)
    kept = tmp_path.with_name(f"{tmp_path.name}-kept")
    half_done(out)
    shutil.copytree(tmp_path, kept)
    refused = 0
    for _ in range(30):
        shutil.rmtree(tmp_path)
        shutil.copytree(kept, tmp_path)
        os.chdir(tmp_path)
        damaged(rng.choice(sorted(p for p in tmp_path.rglob("*") if p.is_file())), rng)
        again = Counted(fails=range(100, 110))
        again.rows = [0.0] * 1000
        result = None
        with suppress(cm.InvalidArgument):
            result = mapped(cm.itemwise(again), out=out, resume=True)
        if result is None:
            refused += 1
            with pytest.raises(cm.InvalidArgument, match=r"damaged|is of a job with"):
                mapped(cm.itemwise(again), out=out, resume=True)
        else:
            assert result.exact.all()
            np.testing.assert_array_equal(content(out), X**2)
    assert refused < 15


@pytest.mark.parametrize(
    ("line", "iterator", "suffix"), crossed(range(1, 5), [False, True], SUFFIXES)
)
def test_a_line_that_a_finished_job_has_lost_is_computed_again(suffix, iterator, line):
    out, journal = f"out{suffix}", Path(f"out{suffix}.journal")
    mapped(inputs=iter([X]) if iterator else X, out=out, chunk=70)
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[line] = b"x" + lines[line][1:]
    journal.write_bytes(b"".join(lines))
    result = mapped(inputs=iter([X]) if iterator else X, out=out, chunk=70, resume=True)
    assert result.exact.all()
    np.testing.assert_array_equal(content(out), X**2)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_job_of_which_every_row_fails(suffix):
    for _ in range(2):
        result = mapped(
            cm.itemwise(Counted(fails=range(400))),
            out=f"out{suffix}",
            on_error="record",
            max_failures=None,
            resume=True,
        )
        assert (result.status == cm.Status.FAILED).all()
    with pytest.raises(cm.CodedmapError):
        mapped(cm.itemwise(Counted(fails=range(400))), out=f"out{suffix}", resume=True)
    mapped(cm.itemwise(Counted()), out=f"out{suffix}", resume=True)
    np.testing.assert_array_equal(content(f"out{suffix}"), X**2)


@pytest.mark.parametrize(
    ("finished", "how", "suffix"),
    crossed([False, True], ["zeroed", "truncated", "removed"], SUFFIXES),
)
def test_outputs_that_are_zeroed_truncated_or_removed_are_computed_again(suffix, how, finished):
    out = f"out{suffix}"
    again = Counted(fails=range(100, 110))
    again.rows = [0.0] * 1000
    half_done(out)
    if finished:
        mapped(cm.itemwise(again), out=out, resume=True)
    files = [p for p in Path().rglob("*") if p.is_file() and p.suffix != ".journal"]
    for path in files:
        data = path.read_bytes()
        if how == "removed":
            path.unlink()
        else:
            path.write_bytes(bytes(len(data)) if how == "zeroed" else data[: len(data) // 3])
    result = mapped(cm.itemwise(again), out=out, resume=True)
    assert result.exact.all()
    np.testing.assert_array_equal(content(out), X**2)


def test_a_chunk_that_can_be_read_is_kept_beside_one_that_cannot(monkeypatch):
    """Of what the chunk holds the journal may have said before that it is done."""
    monkeypatch.setattr(zarr_module, "_CHUNK", 10 * X[0].nbytes)
    mapped(out="out.zarr", chunk=7)
    journal = Path("out.zarr.journal")
    first, form, *lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([first, form, *reversed(lines)]))
    Path("out.zarr/values/c/1/0").write_bytes(b"damaged")
    result = mapped(out="out.zarr", resume=True)
    np.testing.assert_array_equal(content("out.zarr"), X**2)
    assert sum(len(record.rows) for record in result.calls) == 14


def test_chunks_of_estimates_that_cannot_be_read(monkeypatch):
    monkeypatch.setattr(zarr_module, "_CHUNK", 10 * X[0].nbytes)
    mapped(out="out.zarr", stop=cm.Share(0.05))
    for path in Path("out.zarr/values/c").glob("*/0"):
        path.write_bytes(b"damaged")
    Path("out.zarr/stderr/zarr.json").write_bytes(b"damaged")
    assert mapped(out="out.zarr", resume=True).exact.all()
    np.testing.assert_array_equal(content("out.zarr"), X**2)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_output_that_cannot_be_read_for_now_is_not_computed_again(monkeypatch, suffix):
    fails = raising(errno.EIO)
    out = f"out{suffix}"
    done = half_done(out)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", fails)
        patch.setattr(zarr.Array, "__getitem__", fails)
        with pytest.raises(cm.errors.OutputError, match="Input/output error"):
            mapped(cm.itemwise(Counted(fails=range(100, 110))), out=out, resume=True)
    again = Counted(fails=range(100, 110))
    again.rows = [0.0] * 1000
    assert mapped(cm.itemwise(again), out=out, resume=True).exact.all()
    assert len(again.rows) == 1000 + 200 - done


@pytest.mark.parametrize("out", ["out.npy", "out.zarr"])
def test_an_output_that_is_removed_while_it_is_written(out):
    def fn(x):
        if x[0, 0] == X[100, 0]:
            Path(out).unlink() if out == "out.npy" else shutil.rmtree(out)
        return x**2

    with pytest.raises(cm.errors.OutputError, match="could not be written to"):
        mapped(fn, out=out, chunk=50)


def test_a_status_file_that_is_zeroed_says_nothing_on_resuming():
    done = half_done("out.npy")
    status = np.load("out.status.npy")
    assert (status == 0).sum() == done
    np.save("out.status.npy", np.zeros_like(status))
    again = Counted(fails=range(100, 110))
    again.rows = [0.0] * 1000
    assert mapped(cm.itemwise(again), out="out.npy", resume=True).exact.all()
    assert len(again.rows) == 1000 + 200 - done


@pytest.mark.parametrize("after", [0, 3, 12])
def test_a_full_disk_is_one_error_and_what_was_written_is_kept(monkeypatch, after):
    written, pwrite = [], os.pwrite

    def full(file, data, at):
        written.append(at)
        if len(written) > after + 1:  # of the header
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return pwrite(file, data, at)

    with monkeypatch.context() as patch:
        patch.setattr(output_module.os, "pwrite", full)
        with pytest.raises(cm.errors.OutputError, match=r"No space left on device\): make room"):
            mapped()
    if not after:
        assert not list(Path().iterdir()), "nothing has come of it"
    result = mapped(resume=True)
    np.testing.assert_array_equal(np.load("out.npy"), X**2)
    assert sum(len(record.rows) for record in result.calls) == 200 - 5 * after


@pytest.mark.parametrize("out", ["out.npy", "out.zarr"])
@pytest.mark.parametrize("code", [None, CODE], ids=["rows", "coded"])
@pytest.mark.parametrize("after", [1, 3, 5])
def test_the_status_is_true_where_a_disk_is_full(monkeypatch, out, code, after):
    """No row is said to be exact that could not be written, nor is a part of the status that could not."""
    count, steps = 0, {"pwrite": os.pwrite, "replace": os.replace}

    def full(name):
        def step(*args, **options):
            nonlocal count
            count += 1
            if count > after:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return steps[name](*args, **options)

        return step

    with monkeypatch.context() as patch:
        for name in steps:
            patch.setattr(os, name, full(name))
        with pytest.raises(cm.errors.OutputError, match="No space left on device"):
            mapped(out=out, code=code)
    path = Path("out.status.npy" if out == "out.npy" else "out.zarr")
    if not path.exists():
        return
    group = {"status": np.load(path)} if out == "out.npy" else zarr.open_group(out, mode="r")
    if "status" not in group:
        return
    status = group["status"][:]
    np.testing.assert_array_equal(content(out)[status == 0], X[status == 0] ** 2)


@pytest.mark.parametrize("suffix", [".npy", ".zarr"])
def test_a_disk_that_is_full_when_a_job_is_resumed_loses_nothing(monkeypatch, suffix):
    full = raising(errno.ENOSPC)
    out = f"out{suffix}"
    done = half_done(out)
    with monkeypatch.context() as patch:
        patch.setattr(output_module.os, "pwrite", full)
        patch.setattr(os, "replace", full)
        with pytest.raises(cm.errors.OutputError, match="No space left on device"):
            mapped(cm.itemwise(Counted(fails=range(100, 110))), out=out, resume=True)
    again = Counted(fails=range(100, 110))
    again.rows = [0.0] * 1000
    mapped(cm.itemwise(again), out=out, resume=True)
    np.testing.assert_array_equal(content(out), X**2)
    assert len(again.rows) == 1000 + 200 - done


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="mounts a small disk")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_disk_that_is_really_full(tmp_path, suffix):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        inputs = np.random.default_rng(0).normal(size=(20_000, 3))
        with pytest.raises(cm.errors.OutputError, match="No space left on device"):
            mapped(inputs=inputs, out=disk / f"out{suffix}", chunk=500)
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        result = mapped(inputs=inputs, out=disk / f"out{suffix}", chunk=500, resume=True)
        assert result.exact.all()
        np.testing.assert_array_equal(content(disk / f"out{suffix}"), inputs**2)
        del result
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_folder_that_cannot_be_written(monkeypatch, suffix):
    refused = raising(errno.EROFS)
    monkeypatch.setattr(os, "open", refused)
    fn = Counted()
    with pytest.raises(cm.InvalidArgument, match=r"Read-only file system\): choose another name"):
        mapped(cm.itemwise(fn), out=f"out{suffix}")
    assert not fn.rows


# Killed


class Died(BaseException):
    """Stands for the end of the process: nothing that follows does anything."""


@pytest.mark.parametrize(
    ("call", "suffix"),
    crossed(["open", "write", "pwrite", "fsync", "ftruncate", "replace"], [".npy", ".parquet"]),
)
def test_a_process_may_die_before_any_step(monkeypatch, suffix, call):
    inputs, died = X[:30], 0
    for nth in range(12):
        for path in Path().iterdir():
            path.unlink()
        count, dead = 0, False
        with monkeypatch.context() as patch:

            def dying(name, function, nth=nth):
                def step(*args, **options):
                    nonlocal count, dead
                    count += name == call
                    dead = dead or count > nth
                    if dead:
                        raise Died
                    return function(*args, **options)

                return step

            for name in ("open", "write", "pwrite", "fsync", "ftruncate", "replace", "unlink"):
                patch.setattr(os, name, dying(name, getattr(os, name)))
            first = Counted()
            with suppress(Died):
                mapped(cm.itemwise(first), inputs, out=f"out{suffix}")
        died += dead
        second = Counted()
        mapped(cm.itemwise(second), inputs, out=f"out{suffix}", resume=True)
        np.testing.assert_array_equal(content(f"out{suffix}"), inputs**2)
        assert len(first.rows) + len(second.rows) <= 30 + 4 * 5, "but for the calls in flight"
    assert died or (call, suffix) in {("pwrite", ".parquet"), ("ftruncate", ".parquet")}


def test_what_zarr_still_writes_beside_an_error_is_removed_too(monkeypatch):
    begun, write = [], zarr.storage.LocalStore.set

    async def slow(self, key, value, **options):
        if key == "status/zarr.json":
            begun.append(key)
            await asyncio.sleep(0.2)
        await write(self, key, value, **options)

    async def full(*args, **options):
        if begun:  # beside it
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(zarr.storage.LocalStore, "set", slow)
        patch.setattr(zarr.storage.LocalStore, "set_if_not_exists", full)
        with pytest.raises(cm.errors.OutputError, match="No space left"):
            mapped(out="out.zarr")
    time.sleep(0.3)
    assert not list(Path().iterdir())


def test_zarr_whose_first_import_was_interrupted(monkeypatch):
    monkeypatch.delattr(zarr, "core")  # Python does not add it when zarr is imported again
    assert mapped(out="out.zarr").exact.all()


def test_what_cannot_be_removed_can_be_resumed(monkeypatch):
    full = raising(errno.ENOSPC)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *args, **options: None)
        patch.setattr(zarr.Array, "__setitem__", full)
        with pytest.raises(cm.errors.OutputError, match="No space left"):
            mapped(out="out.zarr")
    assert Path("out.zarr").exists()
    assert mapped(out="out.zarr", resume=True).exact.all()


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("after", [1, 2])
def test_a_process_may_die_while_it_removes_what_came_to_nothing(monkeypatch, suffix, after):
    write, unlink, count = os.write, os.unlink, 0

    def full(file, data):
        if b'"values":"' in data:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, data)

    def dying(*args, **options):
        nonlocal count
        count += 1
        if count > after:
            raise Died
        return unlink(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        patch.setattr(os, "unlink", dying)
        with pytest.raises((Died, cm.errors.OutputError)):
            mapped(out=f"out{suffix}")
    assert mapped(out=f"out{suffix}", resume=True).exact.all()


KILLED = """
import os, sys, time
import numpy as np
import codedmap as cm
from codedmap.api import map as jobs
from codedmap.execution import coded

X = np.arange(3000.0).reshape(1000, 3)

def fn(x):
    with open("rows", "a") as file:
        file.write("".join(f"{int(v)}\\n" for v in x[:, 0]))
    time.sleep(0.002 * len(x))
    return x ** 2

with cm.engines.Local(2) as engine:
    cm.map(fn, X, engine=engine, out=sys.argv[1], chunk=4, resume=True, hedge=None)
    print("finished")
"""


def killed(suffix: str, kills: int, seed: int) -> None:
    """Kill the caller at random times and go on, until it has finished; count every row by a file."""
    Path("job.py").write_text(KILLED)
    out, rng, count = f"out{suffix}", random.Random(seed), 0
    finished = False
    while not finished:
        run = subprocess.Popen(
            [sys.executable, "job.py", out], stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, start_new_session=True,
        )  # fmt: skip
        if count < kills:
            before = Path("rows").stat().st_size if Path("rows").exists() else 0
            deadline = time.monotonic() + 60
            # Wherever it is: while it starts, reads its journal, computes or writes.
            moves = rng.random() < 0.7
            while moves and time.monotonic() < deadline and run.poll() is None:
                if Path("rows").exists() and Path("rows").stat().st_size > before:
                    break
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.3) if moves else rng.uniform(0, 1.5))
            run.send_signal(signal.SIGKILL)
            count += 1
        finished = "finished" in (run.communicate(timeout=120)[0] or "")
        with suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)  # its workers
    x = np.arange(3000.0).reshape(1000, 3)
    np.testing.assert_array_equal(content(out), x**2)
    times = Counter(map(int, Path("rows").read_text().split()))
    assert sorted(times) == list(range(0, 3000, 3)), "no row is lost"
    extra = sum(times.values()) - 1000
    assert extra <= count * 2 * 2 * 4, (
        "of each kill the calls in flight: two for each of two workers"
    )


@pytest.mark.parametrize("kills", first(1, [3, 6]))
def test_a_caller_that_is_killed_again_and_again_computes_only_calls_in_flight_twice(kills):
    killed(".npy", kills, seed=0)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("suffix", "seed"), [(".npy", 1), (".zarr", 2), (".parquet", 3)])
def test_a_hundred_kills(suffix, seed):
    killed(suffix, 34, seed)


FLAT = """
import resource, sys
import numpy as np
import codedmap as cm
from codedmap.api import map as jobs
from codedmap.execution import coded
from concurrent.futures import ThreadPoolExecutor

X = np.load("x.npy", mmap_mode="r")
with ThreadPoolExecutor(1) as pool:
    few = cm.map(np.negative, X[:1000], engine=pool, out="few" + sys.argv[1])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = cm.map(np.negative, X, engine=pool, out="out" + sys.argv[1])
    assert result.exact.all()
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize("suffix", first(1, SUFFIXES))
def test_memory_is_flat(suffix):
    rows = 2_000_000  # 64 MB, and as much of answers
    source = np.lib.format.open_memmap("x.npy", "w+", np.float64, (rows, 4))
    source[:] = np.arange(rows)[:, None]
    source.flush()
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FLAT), suffix], capture_output=True, text=True,
        check=False, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 60, "megabytes more than a job of a thousand rows"


@pytest.mark.parametrize("out", first(1, ["a.npy", "a.zarr", None]))
def test_rows_lost_by_a_code_are_computed_apart_and_written(out):
    def ends_its_worker(batch):
        if (batch[:, 0] == X[7, 0]).any():
            os._exit(3)
        return batch + 1.0

    np.save("x.npy", X[:40])
    given = X[:40] if out else np.load("x.npy", mmap_mode="r")
    options = {} if out is None else {"out": out}
    with cm.engines.Local(4) as engine:
        result = cm.map(
            ends_its_worker, given, code=CODE, engine=engine, on_error="record", chunk=5, **options
        )
        assert [*result.failures] == [7]
        assert result.outcome is cm.Outcome.COMPLETE
        good = np.delete(np.arange(40), 7)
        np.testing.assert_array_equal(np.asarray(result.values[:])[good], X[good] + 1.0)
        assert (result.status == np.where(np.arange(40) == 7, cm.Status.FAILED, 0)).all()
        if out is None:
            return
        again = cm.map(
            ends_its_worker,
            given,
            code=CODE,
            engine=engine,
            on_error="record",
            chunk=5,
            resume=True,
            **options,
        )
    assert [*again.failures] == [7]
    assert {row for call in again.calls for row in call.rows} == {7}


@pytest.mark.parametrize("code", [None, CODE])
def test_records_are_written_where_a_row_fails(code):
    def records(batch):
        if (batch == 7.0).any():
            raise ValueError("seven")
        rows = [(np.nan if row == 3.0 else row, int(row)) for row in batch]
        return np.array(rows, dtype=[("value", "f8"), ("number", "i4")])

    rows = np.arange(1.0, 13.0)
    with Scripted(4) as engine:
        options = {"engine": engine, "code": code, "chunk": 4, "on_error": "record"}
        result = cm.map(records, rows, out="records.npy", **options)
    assert [*result.failures] == [6]
    good = np.delete(np.arange(12), 6)
    assert (result.status[good] == cm.Status.EXACT).all()
    assert result.values["number"][good].tolist() == (good + 1).tolist()
    assert np.flatnonzero(np.isnan(result.values["value"][good])).tolist() == [2]


def test_a_resumed_iterator_whose_first_rows_are_done_knows_whose_inputs_payloads_are(monkeypatch):
    def parts(most):
        yield from np.split(X[:most], most // 5)
        if most == 20:
            raise OSError("a cable is loose")

    scheduled, made = [], coded.ChunkScheduler
    monkeypatch.setattr(coded, "ChunkScheduler", lambda job: scheduled.append(job) or made(job))
    with Scripted(4) as engine:
        options = {"engine": engine, "code": CODE, "chunk": 5, "out": "a.npy"}
        with pytest.raises(cm.InvalidArgument, match="a cable is loose"):
            cm.map(np.sin, parts(20), **options)
        result = cm.map(np.sin, parts(60), resume=True, **options)
    assert result.exact.all()
    assert scheduled[0].own == scheduled[1].own == {0: 0, 1: 1, 2: 0, 3: 1}


@pytest.mark.parametrize("code", [None, CODE])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_stream_writes_answers_as_map_does_and_gives_the_last_result(suffix, code):
    out = f"a{suffix}"
    with Scripted(4) as engine:
        options = {"engine": engine, "code": code, "chunk": 5, "out": out}
        with pytest.raises(cm.errors.RowFailed):
            list(cm.stream(cm.itemwise(Counted(fails=range(20, 999))), X[:40], **options))
        [result] = cm.stream(cm.itemwise(Counted()), X[:40], resume=True, **options)
        mapped_again = cm.map(cm.itemwise(Counted()), X[:40], resume=True, **options)
    assert result.exact.all()
    assert len(mapped_again.calls) == 0
    written = {".npy": np.load, ".zarr": lambda path: zarr.open_group(path, mode="r")["values"][:]}
    if suffix in written:
        np.testing.assert_array_equal(written[suffix](out), X[:40] ** 2)


def test_a_stream_that_is_left_at_once_leaves_no_file(folder):
    async def last():
        given = {"engine": engine, "out": "a.npy", "resume": False}
        return [result async for result in cm.astream(np.sin, X, **given)]

    with Scripted(2) as engine:
        cm.stream(np.sin, X, engine=engine, out="a.npy").close()
        assert [*folder.iterdir()] == []
        [result] = asyncio.run(last())
    np.testing.assert_array_equal(result.values, np.sin(X))


@pytest.mark.parametrize("inputs", [np.array(["a", None], dtype=object), [{"a": 1}, {"b": 2}]])
def test_a_code_writes_no_answers_to_objects(inputs, tmp_path):
    with pytest.raises(cm.InvalidArgument, match="are data frames or objects: leave out the code"):
        mapped(len, inputs, out=tmp_path / "out.npy", code=cm.Replication(2, 4))
