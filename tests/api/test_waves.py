"""Runs of many waves: what is read and written, and that a run goes on whenever and however it died."""

from __future__ import annotations

import functools
import json
import logging
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

import codedmap as cm
from codedmap.storage import journal, sink
from codedmap.testing import Scripted, corrupt, crash, late, never

from .test_map import affine, inputs

CODE = cm.Replication(3, 6)


class Counted:
    """A function that remembers the rows it was asked for."""

    def __init__(self):
        self.seen = []

    def __call__(self, batch):
        self.seen += batch[:, 0].tolist()
        return affine(batch)

    def __getstate__(self):
        return {}


def begun(source, out=None, fn=affine, code=CODE, script=None, **options):
    engine = Scripted(code.workers, script or {})
    return cm.waves(fn, source, code=code, engine=engine, out=out, **options)


def written(path):
    path = Path(path)
    return {
        name: np.load(path.with_suffix(f".{name}.npy") if name != "values" else path)
        for name in ("values", "exact", "stderr")
        if name == "values" or path.with_suffix(f".{name}.npy").exists()
    }


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


# What is read and what is written


@pytest.mark.parametrize("rows", [None, 1, 7, 10, 100, 1000])
def test_waves_are_maps_one_after_another(rows):
    X = inputs(100)
    with closing(begun(X, "out.npy", rows=rows)) as waves:
        results = list(waves)
    each = rows or 100
    assert [len(result.values) for result in results] == [
        min(each, 100 - begin) for begin in range(0, 100, each)
    ]
    np.testing.assert_array_equal(np.concatenate([r.values for r in results]), affine(X))
    arrays = written("out.npy")
    np.testing.assert_array_equal(arrays["values"], affine(X))
    assert arrays["exact"].all()
    assert (arrays["stderr"] == 0).all()
    assert waves.finished
    assert waves.rows == waves.totals.rows == waves.totals.exact == 100
    assert waves.totals.waves == len(results)


def test_nothing_need_be_written():
    with closing(begun(inputs(20), rows=8)) as waves:
        assert [len(result.values) for result in waves] == [8, 8, 4]
    assert waves.rows == 20
    assert not list(Path().iterdir())


def test_files_hold_at_any_time_the_rows_that_are_done():
    X = inputs(20)
    with closing(begun(X, "out.npy", rows=8)) as waves:
        for done in (8, 16, 20):
            next(waves)
            np.testing.assert_array_equal(written("out.npy")["values"], affine(X[:done]))
            np.testing.assert_array_equal(np.load("out.npy", mmap_mode="r"), affine(X[:done]))


def test_a_code_without_standard_errors_writes_none():
    begun(inputs(40), "out.npy", code=cm.SplineCode(4, 8, 2), rows=10).run()
    assert set(written("out.npy")) == {"values", "exact"}
    assert not written("out.npy")["exact"].any()


@pytest.mark.parametrize(
    ("fn", "X"),
    [
        (lambda b: b[:, 0] > 0, inputs(20)),
        (lambda b: b.astype(np.float32), inputs(20)),
        (lambda b: b.reshape(len(b), 3, 1, 1) + 1j, inputs(20)),
        (np.char.upper, np.array(list("abcdefghij"))),
        (lambda b: b, np.arange(20).astype("datetime64[D]")),
    ],
)
def test_answers_of_any_shape_and_dtype(fn, X):
    begun(X, "out.npy", fn=fn, rows=6).run()
    np.testing.assert_array_equal(np.load("out.npy"), fn(X))
    assert np.load("out.npy").dtype == fn(X).dtype


def test_the_file_is_one_that_numpy_would_have_written():
    X = inputs(20)
    begun(X, "out.npy", rows=6).run()
    np.save("numpy.npy", affine(X))
    loaded = np.load("out.npy")
    assert loaded.flags.c_contiguous
    assert Path("out.npy").stat().st_size - Path("numpy.npy").stat().st_size < 128


@pytest.mark.parametrize("make", ["memmap", "dask", "zarr", "iterator", "batches"])
def test_sources_that_need_not_fit_into_memory(make):
    X = inputs(100)
    if make == "memmap":
        np.save("x.npy", X)
        source = np.load("x.npy", mmap_mode="r")
    elif make == "dask":
        source = pytest.importorskip("dask.array").from_array(X, chunks=(30, 3))
    elif make == "zarr":
        zarr = pytest.importorskip("zarr")
        source = zarr.create_array("x.zarr", shape=X.shape, chunks=(30, 3), dtype=X.dtype)
        source[:] = X
    else:
        parts = np.split(X, [10, 10, 47, 90])  # one of them has no rows
        source = iter(parts) if make == "iterator" else parts
    with closing(begun(source, "out.npy", rows=25 if make == "iterator" else None)) as waves:
        each = [len(result.values) for result in waves]
    expected = {
        "memmap": [100], "dask": [100], "zarr": [100],
        "iterator": [25, 25, 25, 25], "batches": [10, 37, 43, 10],
    }  # fmt: skip
    assert each == expected[make]
    np.testing.assert_array_equal(np.load("out.npy"), affine(X))


@pytest.mark.parametrize(
    ("shape", "chunks", "tasks", "rows"),
    [
        ((10**6, 1024), None, 3, 4095),  # of 8 KB each, in 32 MB, a multiple of 3
        ((10**6, 1024), (1000, 1024), 3, 4000),  # whole chunks
        ((10**6, 1024), (10_000, 10), 3, 10_000),  # a chunk is read whole anyway
        ((10**6, 1024), ((7000, 9000), (1024,)), 3, 9000),
        ((10, 10**9), None, 4, 4),
        ((10**9,), None, 20, 4194300),
    ],
)
def test_waves_take_32_megabytes_in_whole_chunks(shape, chunks, tasks, rows):
    class Given:
        dtype = np.dtype(float)

        def __getitem__(self, part):
            raise OverflowError(part.stop - part.start)

    Given.shape, Given.chunks = shape, chunks
    with pytest.raises(OverflowError, match=rf"^{rows}$"):
        begun(Given(), code=cm.Uncoded(tasks)).run()


@pytest.mark.parametrize("make", ["memmap", "array", "zarr", "group", "mapping"])
def test_outputs_with_slice_assignment(make):
    X, out = inputs(50), np.zeros((50, 2))
    wanted = {"values": out}
    if make == "memmap":
        out = np.lib.format.open_memmap("out.npy", "w+", float, (50, 2))
        wanted = {"values": out}
    elif make == "mapping":
        out = wanted = {"values": out, "exact": np.zeros(50, bool), "stderr": np.ones(50)}
    elif make in ("zarr", "group"):
        zarr = pytest.importorskip("zarr")
        group = zarr.open_group("out.zarr", mode="w")
        group.create_array("values", shape=(50, 2), dtype="f4", chunks=(7, 2))
        group.create_array("exact", shape=(50,), dtype="b1")
        out = group if make == "group" else group["values"]
        wanted = {"values": group["values"]}
        if make == "group":
            wanted["exact"] = group["exact"]
    begun(X, out, rows=12, journal="journal").run()
    np.testing.assert_allclose(wanted["values"][:], affine(X), rtol=1e-6)
    assert np.all(wanted.get("exact", np.ones(1))[:])
    assert not np.any(wanted.get("stderr", np.zeros(1))[:])
    waves = begun(X, out, rows=12, journal="journal", resume=True)
    assert waves.rows == 50
    assert list(waves) == []


def test_a_source_larger_than_the_memory_there_is():
    Path("job.py").write_text(
        """
import resource, sys
import numpy as np
import codedmap as cm

def total(batch):
    return batch.sum(axis=1)

X = np.load("x.npy", mmap_mode="r")
limit = 100 << 20  # beyond what is there now
used = int(open("/proc/self/status").read().split("VmData:")[1].split()[0]) << 10
assert X.nbytes > 2 * limit, X.nbytes
resource.setrlimit(resource.RLIMIT_DATA, (used + limit, used + limit))
try:
    np.array(X)
except MemoryError:
    with cm.testing.Scripted(4) as engine:
        engine.calls = type("Forgetful", (list,), {"append": lambda self, call: None})()
        waves = cm.waves(total, X, code=cm.Replication(2, 4), engine=engine, out="out.npy", rows=2000)
        print(waves.run().exact)
"""
    )
    shape = (80_000, 1024 // 3)  # 218 MB, mostly a hole in the file
    X = np.lib.format.open_memmap("x.npy", "w+", float, shape)
    X[::1000] = np.random.default_rng(0).normal(size=(80, shape[1]))
    X.flush()
    done = subprocess.run(
        [sys.executable, "job.py"], capture_output=True, text=True, check=False, timeout=100
    )
    assert done.stdout == "80000\n", done.stderr
    values = np.load("out.npy")
    np.testing.assert_array_equal(values[::1000], X[::1000].sum(axis=1))
    assert not values[1:1000].any()


# What it tells


def test_totals_add_up_and_print():
    script = {0: [never(), crash()], 4: [late(0.0), corrupt(lambda a: a[:1])]}
    code = cm.Replication(3, 6, fill="mean")
    waves = begun(inputs(30), "out.npy", code=code, script=script, rows=12, stop=cm.Quorum(5))
    totals = waves.run()
    assert totals.waves == 3
    assert totals.rows == 30
    assert totals.calls == 18
    assert totals.late == 1
    assert totals.failed == 1
    assert totals.rejected == 1
    assert totals.hedges == 0
    text = str(totals)
    assert text.startswith("30 rows in 3 waves, which took ")
    assert "18 sent, 1 late, 1 failed, 1 rejected" in text
    assert "hedges" not in text


def test_each_wave_is_added_up_once(monkeypatch):
    added, plus = [], cm.results.Totals.plus

    def counted(totals, record):
        added.append(record["begin"])
        return plus(totals, record)

    monkeypatch.setattr(cm.results.Totals, "plus", counted)
    waves = begun(inputs(80), "out.npy", rows=8)
    for _ in range(4):
        next(waves)
    waves.close()
    assert added == [0, 8, 16, 24]
    added.clear()
    waves = begun(inputs(80), "out.npy", rows=8, resume=True)
    totals = waves.run()
    assert added == list(range(0, 80, 8))
    assert (totals.waves, totals.rows, totals.exact, totals.calls) == (10, 80, 80, 60)
    assert waves.totals == totals


def test_totals_of_estimates_and_hedges():
    totals = begun(
        inputs(24),
        code=cm.Uncoded(4, fill="mean"),
        script={2: never()},
        rows=12,
        hedge=cm.Hedge(0.05),
    ).run()
    assert (totals.hedges, totals.calls) == (2, 10)
    assert "hedges     2" in str(totals)
    totals = begun(inputs(24), code=cm.SplineCode(4, 8, 2), rows=12).run()
    assert totals.stderr is None
    assert "24 estimated (this code has no standard errors)" in str(totals)
    code = cm.Uncoded(4, fill="mean")
    stop = cm.Deadline(0.05)
    totals = begun(inputs(24), code=code, script={2: never()}, rows=12, stop=stop).run()
    assert totals.exact == 18
    assert totals.stderr > 0
    assert f"6 estimated (standard error up to {totals.stderr:.3g})" in str(totals)


def test_each_wave_is_logged_and_no_handler_is_installed(caplog):
    assert not logging.getLogger("codedmap").handlers
    with caplog.at_level(logging.INFO, "codedmap"):
        begun(inputs(20), "out.npy", rows=8, script={1: crash()}).run()
        begun(inputs(20), "out.npy", resume=True).run()
    first, *_, last = caplog.records
    assert first.getMessage().startswith("rows 0 to 7: 5 of 6 calls answered in ")
    assert first.wave["failed"] == 1
    assert first.wave["begin"] == 0
    assert last.getMessage() == "resumed after 20 rows"
    assert len(caplog.records) == 4


def test_progress_is_drawn_on_a_terminal_only(capsys, monkeypatch):
    begun(inputs(20), rows=8, progress=True).run()
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    begun(inputs(20), "out.npy", rows=8, progress=True, script={1: crash()}).run()
    drawn = capsys.readouterr().err
    assert "20/20 rows" in drawn
    assert "failed" in drawn
    begun(iter([inputs(20)]), progress=True).run()
    assert "20 rows" in capsys.readouterr().err


# A run that is resumed


def test_a_run_goes_on_after_the_last_wave_and_computes_nothing_twice():
    X, fn = inputs(50), Counted()
    waves = begun(X, "out.npy", fn, rows=8)
    for _ in range(3):
        next(waves)
    waves.close()
    assert not waves.finished
    first = sorted(set(fn.seen))
    fn.seen.clear()
    waves = begun(X, "out.npy", fn, rows=10, resume=True)  # another size does not matter
    assert waves.rows == 24
    totals = waves.run()
    assert totals.rows == totals.exact == 50
    assert totals.waves == 6
    assert not set(first) & set(fn.seen)
    np.testing.assert_array_equal(written("out.npy")["values"], affine(X))
    again = begun(X, "out.npy", fn, resume=True)
    assert again.finished
    assert list(again) == []
    assert again.run() == totals


def test_an_iterator_is_gone_through_again_without_computing():
    X, fn = inputs(50), Counted()
    waves = begun(iter(np.split(X, 5)), "out.npy", fn)
    next(waves)
    next(waves)
    waves.close()
    fn.seen.clear()
    begun(iter(np.split(X, 10)), "out.npy", fn, resume=True).run()
    assert len(set(fn.seen)) == 30
    np.testing.assert_array_equal(written("out.npy")["values"], affine(X))


def test_resume_begins_a_run_where_there_is_none():
    begun(inputs(20), "out.npy", rows=8, resume=True).run()
    assert len(np.load("out.npy")) == 20


def test_a_wave_that_raises_says_which_rows_and_the_run_goes_on_later():
    X = inputs(40)
    X[33] = 7.0

    def picky(batch):
        if (batch == 7.0).any():
            raise ValueError("seven")
        return affine(batch)

    waves = begun(X, "out.npy", picky, rows=8)
    with pytest.raises(cm.NotEnoughAnswers, match="seven") as caught:
        waves.run()
    [note] = caught.value.__notes__
    assert note == (
        "this was in rows 32 to 39 of the source; the 32 rows before are in out.npy, and the same call "
        "with resume=True goes on from there"
    )
    np.testing.assert_array_equal(np.load("out.npy"), affine(X[:32]))


def test_ctrl_c_leaves_a_run_to_be_resumed():
    X = inputs(40)
    waves = begun(X, "out.npy", Interrupted(X[20, 0]), rows=8)
    with pytest.raises(KeyboardInterrupt) as caught:
        waves.run()
    assert "the 16 rows before are in out.npy" in caught.value.__notes__[0]
    np.testing.assert_array_equal(np.load("out.npy"), affine(X[:16]))
    begun(X, "out.npy", Interrupted(X[20, 0], armed=False), resume=True).run()
    np.testing.assert_array_equal(np.load("out.npy"), affine(X))


class Interrupted:
    def __init__(self, value, armed=True):
        self.value, self.armed = value, armed

    def __call__(self, batch):
        if self.armed and (batch[:, 0] == self.value).any():
            raise KeyboardInterrupt
        return affine(batch)

    def __getstate__(self):
        return {}


class Died(BaseException):
    """As if the process had ended here: nothing after it happens."""


@pytest.mark.parametrize("call", ["fsync", "pwrite", "write", "ftruncate", "open"])
def test_a_process_may_die_between_any_two_steps(monkeypatch, call):
    X, real = inputs(20), getattr(os, call)
    for deadly in range(100):
        folder = Path(f"{call}-{deadly}")
        folder.mkdir()
        out, count = folder / "out.npy", [0]

        def dying(*args, deadly=deadly, count=count):
            count[0] += 1
            if count[0] > deadly:
                raise Died
            return real(*args)

        fn = Counted()
        with monkeypatch.context() as patched:
            patched.setattr(sink.os, call, dying)  # the same module everywhere
            try:
                begun(X, out, fn, rows=8).run()
            except Died:
                survived = False
            else:
                survived = True
        done = (out.with_name("out.npy.journal")).exists() and sum(
            json.loads(line).get("rows", 0)
            for line in out.with_name("out.npy.journal").read_text().splitlines()[1:]
        )
        if out.exists() and done:
            assert len(np.load(out)) >= done
            np.testing.assert_array_equal(np.load(out), affine(X[: len(np.load(out))]))
        again = Counted()
        totals = begun(X, out, again, rows=8, resume=True).run()
        assert totals.rows == 20
        assert len(set(again.seen)) == 20 - done
        np.testing.assert_array_equal(np.load(out), affine(X))
        if survived:
            assert deadly >= 3
            return
    raise AssertionError("it never came to the end")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_journal_may_end_anywhere(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("torn")
    X, out = inputs(20), folder / "out.npy"
    begun(X, out, rows=8).run()
    journal = folder / "out.npy.journal"
    content = journal.read_bytes()
    cut = round(data.draw(st.floats(0, 1)) * len(content))
    journal.write_bytes(content[:cut])
    fn = Counted()
    begun(X, out, fn=affine, rows=8, resume=True).run()
    np.testing.assert_array_equal(np.load(out), affine(X))
    assert not fn.seen
    assert len(journal.read_bytes().splitlines()) == 5


# What is refused


@pytest.fixture
def half():
    """A run of which 16 of 40 rows are done."""
    X = inputs(40)
    waves = begun(X, "out.npy", rows=8)
    next(waves)
    next(waves)
    waves.close()
    return X


def other_function(batch):
    return affine(batch)


def changed(X, row):
    X = X.copy()
    X[row] += 1.0
    return X


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X: {"source": changed(X, 0)}, "rows 0 to 7 of the source are not those"),
        (lambda X: {"source": changed(X, 15)}, "rows 8 to 15 of the source are not those"),
        (lambda X: {"source": X[:-1]}, "a source of this many rows 40, and this one has 39"),
        (lambda X: {"source": X.astype(np.float32)}, "rows of this form .*<f8.*<f4"),
        (lambda X: {"source": iter([X])}, "this many rows 40, and this one has None"),
        (lambda X: {"code": cm.Replication(3, 3)}, r"the code Replication\(tasks=3, workers=6"),
        (
            lambda X: {"fn": other_function},
            r"the function tests.api.test_map.affine, and .*other_function",
        ),
        (lambda X: {"resume": False}, "tells of a run that was begun before: go on"),
    ],
)
def test_a_run_goes_on_only_as_it_was_begun(half, change, message):
    before = {path: path.read_bytes() for path in Path().iterdir()}
    with pytest.raises(cm.InvalidArgument, match=message):
        begun(**{"source": half, "out": "out.npy", "resume": True, **change(half)})
    assert before == {path: path.read_bytes() for path in Path().iterdir()}
    begun(half, "out.npy", resume=True).run()  # nor is it locked for ever


def test_a_function_that_is_called_the_same_but_is_another_is_refused():
    X = inputs(40)

    def made(weight):
        def fn(batch):
            return batch * weight

        return fn

    waves = begun(X, "out.npy", made(np.ones(3)), rows=8)
    next(waves)
    waves.close()
    begun(X, "out.npy", made(np.ones(3)), resume=True).close()
    with pytest.raises(cm.InvalidArgument, match="not the same any more"):
        begun(X, "out.npy", made(np.full(3, 2.0)), resume=True)
    with pytest.raises(cm.InvalidArgument, match="not the same any more"):
        begun(X, "out.npy", made([1.0, 1.0, 1.0]), resume=True)


def test_outputs_that_are_not_what_was_written_are_refused(half):
    content = Path("out.npy").read_bytes()
    Path("out.npy").write_bytes(content[:-8])
    with pytest.raises(cm.InvalidArgument, match="shorter than the 16 rows"):
        begun(half, "out.npy", resume=True)
    Path("out.npy").write_bytes(content[:-8] + bytes(8))
    with pytest.raises(
        cm.InvalidArgument, match=r"rows 8 to 15 of out.npy are not what was written"
    ):
        begun(half, "out.npy", resume=True)
    Path("out.npy").unlink()
    with pytest.raises(cm.InvalidArgument, match="cannot be written"):
        begun(half, "out.npy", resume=True)
    Path("out.npy").write_bytes(content)
    begun(half, "out.npy", resume=True).run()


def test_what_is_there_is_not_overwritten():
    for name in ("out.npy", "out.exact.npy", "out.stderr.npy"):
        Path(name).write_bytes(b"dear")
        for resume in (False, True):
            with pytest.raises(cm.InvalidArgument, match=f"{name} exists, and no journal"):
                begun(inputs(8), "out.npy", resume=resume)
        assert Path(name).read_bytes() == b"dear"
        Path(name).unlink()
    Path("notes").write_text("dear\n")
    with pytest.raises(cm.InvalidArgument, match="notes is no journal"):
        begun(inputs(8), "out.npy", journal="notes", resume=True)
    assert Path("notes").read_text() == "dear\n"


@pytest.mark.skipif(journal.fcntl is None, reason="there are no file locks")
def test_two_processes_do_not_write_to_the_same_outputs(half):
    first = begun(half, "out.npy", resume=True)
    with pytest.raises(cm.InvalidArgument, match="written by another process"):
        begun(half, "out.npy", resume=True)
    first.close()


def test_a_damaged_journal_is_refused(half):
    lines = Path("out.npy.journal").read_text().splitlines(keepends=True)
    Path("out.npy.journal").write_text(lines[0] + lines[1][:20] + "\n" + lines[2])
    with pytest.raises(cm.InvalidArgument, match="damaged"):
        begun(half, "out.npy", resume=True)
    Path("out.npy.journal").write_text(lines[0].replace('"codedmap": 1', '"codedmap": 99'))
    with pytest.raises(cm.InvalidArgument, match="another version"):
        begun(half, "out.npy", resume=True)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"source": 3}, "neither an array"),
        ({"source": "x.npy"}, "neither an array"),
        ({"source": np.zeros(())}, r"has shape \(\)"),
        ({"source": np.zeros((0, 3))}, r"has shape \(0, 3\)"),
        ({"rows": 0}, "rows=0"),
        ({"out": "out.npz"}, "ending in .npy"),
        ({"out": "no/out.npy"}, "no directory no"),
        ({"out": 3}, "neither the name of a .npy file"),
        ({"out": {"exact": np.zeros(8)}}, "neither the name of a .npy file"),
        ({"journal": "journal"}, "give out="),
        ({"resume": True}, "give out="),
        ({"out": np.zeros((8, 2)), "journal": "/dev/full"}, "no file that could be read again"),
        ({"out": np.zeros((8, 2)), "resume": True}, "give its path as journal="),
        ({"code": "auto"}, "let codedmap.plan choose"),
        ({"fn": 3}, "cannot be called"),
        ({"stop": cm.Quorum(9)}, "would not stop"),
        ({"hedge": 1.0}, "hedge=1.0"),
        ({"engine": 3}, "neither an engine"),
    ],
)
def test_arguments_are_checked_at_the_call(args, message):
    with Scripted(6) as engine:
        good = {"fn": affine, "source": inputs(8), "code": CODE, "engine": engine}
        args = good | args
        with pytest.raises(cm.InvalidArgument, match=message):
            cm.waves(args.pop("fn"), args.pop("source"), **args)
        assert not engine.calls
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([[1.0, 2.0]], "gave a list as a batch"),
        ([np.float64(3.0)], "single number"),
        ([np.zeros((2, 3)), np.zeros((2, 4))], r"shape \(4,\).*after others of shape \(3,\)"),
        ([np.zeros((2, 3)), np.zeros((2, 3), np.float32)], "dtype float32 after others"),
        ([], "no rows"),
        ([np.zeros((0, 3))], "no rows"),
        ([np.full((2, 3), np.nan)], "2 of 2 source rows hold NaN"),
        ([np.zeros((2, 3)), np.full((2, 3), np.nan)], r"2 of 2 .*\(the first is row 2\)"),
        ([np.ma.masked_less(np.zeros((2, 3)), 1.0)], "6 of 6 numbers of the sources are masked"),
    ],
)
def test_batches_that_do_not_fit(batches, message):
    with pytest.raises(cm.InvalidArgument, match=message):
        begun(iter(batches), "out.npy").run()


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (
            np.zeros((8, 3)),
            r"rows of shape \(2,\), and those that out takes have dtype float64 and shape \(3,\)",
        ),
        (np.zeros((7, 2)), "room for 7 values"),
        ({"values": np.zeros((8, 2)), "stderr": np.zeros(8)}, "this code has none"),
    ],
)
def test_outputs_that_do_not_fit(out, message):
    code = cm.SplineCode(3, 6, 1)
    with pytest.raises((cm.InvalidArgument, cm.InvalidAnswer), match=message):
        begun(inputs(8), out, code=code).run()


def test_answers_that_change_their_dtype_or_shape_are_refused_and_the_rest_stays():
    for change in (lambda b: b.astype(complex), lambda b: b[:, :1]):

        def fn(batch, change=change):
            answer = affine(batch)
            return answer if batch[0, 0] < 8 else change(answer)

        X = np.arange(16.0)[:, None] * np.ones(3)
        with pytest.raises(cm.InvalidAnswer, match="rows 8 to 15 have dtype"):
            begun(X, "out.npy", fn, rows=8).run()
        np.testing.assert_array_equal(np.load("out.npy"), affine(X[:8]))
        for path in Path().iterdir():
            path.unlink()


def test_without_throw_a_wave_of_which_nothing_is_known_is_nan():
    X = inputs(24)
    code = cm.LagrangeCode(3, 6, 1, degree=1)
    script = {n: [late(0.0), crash()] for n in range(6)}
    totals = begun(X, "out.npy", code=code, script=script, rows=8, throw=False).run()
    values = np.load("out.npy")
    assert np.isnan(values[8:16]).all()
    np.testing.assert_allclose(values[16:], affine(X[16:]), atol=1e-6)
    assert totals.unknown == 8
    assert "8 of these with nothing known" in str(totals)


def lost(waves=1, first=0):
    """A script in which some waves have not one answer: each worker crashes."""
    return {n: [late(0.0)] * first + [crash()] * waves for n in range(6)}


@pytest.mark.parametrize(("lost_first", "lost_waves"), [(0, 1), (0, 2), (1, 1)])
@pytest.mark.parametrize("given", [False, True])
def test_a_wave_without_one_answer_takes_the_form_of_the_others(lost_first, lost_waves, given):
    X = inputs(32)

    def fn(batch):
        return affine(batch).astype(np.float32)

    out = np.zeros((32, 2), np.float32) if given else "out.npy"
    script = lost(lost_waves, lost_first)
    waves = begun(X, out, fn, script=script, rows=8, throw=False)
    assert waves.run().rows == 32
    values = out if given else written(out)["values"]
    begin, end = 8 * lost_first, 8 * (lost_first + lost_waves)
    assert values.dtype == np.float32
    assert np.isnan(values[begin:end]).all()
    known = np.r_[:begin, end:32]
    np.testing.assert_array_equal(values[known], fn(X)[known])
    if not given:
        assert np.isinf(written(out)["stderr"][begin:end]).all()


def test_waves_of_unknown_form_are_written_with_the_first_that_has_one():
    X, options = inputs(32), {"rows": 8, "throw": False}
    waves = begun(X, "out.npy", script=lost(3), **options)
    for result in (next(waves), next(waves)):
        result.values[:] = 7  # it is the caller's
    assert waves.rows == 0
    waves.close()
    waves = begun(X, "out.npy", script=lost(1), resume=True, **options)
    next(waves)
    assert waves.rows == 0
    next(waves)
    assert waves.rows == 16
    waves.close()
    totals = begun(X, "out.npy", resume=True, **options).run()
    assert (totals.rows, totals.unknown) == (32, 8)
    values = np.load("out.npy")
    assert np.isnan(values[:8]).all()
    np.testing.assert_array_equal(values[8:], affine(X[8:]))


def test_a_run_in_which_nobody_ever_answers_has_an_end():
    script = {n: [never()] * 2 for n in range(6)}
    waves = begun(inputs(16), "out.npy", script=script, rows=8, throw=False, stop=cm.Deadline(0.1))
    assert waves.run().unknown == 16
    assert np.isnan(np.load("out.npy")).all()
    assert len(np.load("out.exact.npy")) == 16


def test_outputs_are_never_rounded_to_integers_cut_off_or_wrapped_around():
    X = np.arange(24.0).reshape(8, 3)
    for fn, dtype in [
        (lambda b: b.sum(axis=1) / 7, int),
        (lambda b: b.sum(axis=1) / 7, bool),
        (lambda b: b.sum(axis=1) * 1j, float),
        (lambda b: (b.sum(axis=1) * 1e12).astype(np.int64), np.int32),
        (lambda b: -1 - b.sum(axis=1).astype(np.int64), np.uint64),
        (lambda b: b.sum(axis=1) * 1e6, np.float16),
        (lambda b: np.array([f"{v:.3f}" for v in b[:, 0]]), "U2"),
    ]:
        out = np.zeros(8, dtype)
        with pytest.raises(cm.InvalidAnswer, match="those that out takes have dtype"):
            begun(X, out, fn).run()
        np.testing.assert_array_equal(out, np.zeros(8, dtype))


def test_outputs_may_hold_more_than_the_answers_or_less_precisely():
    X = np.arange(24.0).reshape(8, 3)

    def fn(batch):
        answer = batch.sum(axis=1)
        return answer.astype(np.int64) if batch[0, 0] < 9 else answer + 0.5

    want = np.concatenate([fn(X[:4]), fn(X[4:])])
    for dtype in (float, np.float32, complex, object):
        out = np.zeros(8, dtype)
        begun(X, out, fn, rows=4).run()
        np.testing.assert_array_equal(out, want)
    out = {"values": np.zeros(8, np.int16), "exact": np.zeros(8, np.int8)}
    begun(X, out, lambda b: b.sum(axis=1).astype(np.int64), rows=4).run()
    np.testing.assert_array_equal(out["values"], X.sum(axis=1))
    assert out["exact"].all()


def test_outputs_without_room_for_the_source_are_refused_before_anything_is_computed():
    fn = Counted()
    for out in (np.zeros((7, 2)), np.zeros(()), {"values": np.zeros((8, 2)), "exact": np.zeros(3)}):
        with pytest.raises(cm.InvalidArgument, match=r"room for [730] .*rows up to 8"):
            begun(inputs(8), out, fn)
    assert not fn.seen


def test_a_run_that_has_ended_early_does_not_pass_for_a_whole_one():
    X = inputs(40)
    waves = begun(X, "out.npy", rows=8)
    next(waves)
    waves.close()
    for use in (waves.run, waves.__next__):
        with pytest.raises(cm.InvalidArgument, match=r"closed.* the 8 rows before are in out.npy"):
            use()
    waves = begun(X, None, lambda b: 1 / 0, rows=8)
    with pytest.raises(cm.NotEnoughAnswers) as caught:
        waves.run()
    assert caught.value.__notes__ == ["this was in rows 0 to 7 of the source"]
    with pytest.raises(cm.InvalidArgument, match=r"an error has ended it.*begin another"):
        waves.run()
    waves = begun(X, "out.npy", resume=True)
    waves.run()
    assert waves.run().rows == 40
    assert list(waves) == []


def test_an_iterator_that_goes_on_after_the_end_of_a_finished_run_is_refused():
    X = inputs(40)
    begun(iter([X[:20]]), "out.npy").run()
    assert begun(iter([X[:20], X[:0]]), "out.npy", resume=True).run().rows == 20
    with pytest.raises(cm.InvalidArgument, match="had 20 rows in all, and has more now"):
        begun(iter([X[:20], X[20:]]), "out.npy", resume=True)


class Shaped:
    """An array with a shape of its own."""

    def __init__(self, shape, dtype="f8"):
        self.shape, self.dtype = shape, dtype

    def __getitem__(self, rows):
        return inputs(35)[rows]


def test_sources_that_are_not_what_they_seem():
    with pytest.raises(cm.InvalidArgument, match="must be known: for a Dask array"):
        begun(Shaped((np.nan, 3)))
    with pytest.raises(cm.InvalidArgument, match="'float33', which NumPy does not know"):
        begun(Shaped((35, 3), "float33"))
    with pytest.raises(cm.InvalidArgument, match="rows 30 to 39 of the source are 5 rows"):
        begun(Shaped((40, 3)), rows=10).run()
    with pytest.raises(cm.InvalidArgument, match=r"8 of 24 numbers of the sources are masked"):
        begun(np.ma.masked_array(inputs(8), mask=np.arange(24).reshape(8, 3) % 3 == 1)).run()
    with pytest.raises(cm.InvalidArgument, match="this is a single csr_array"):
        begun(scipy.sparse.csr_array(inputs(8))).run()


def test_no_file_of_a_run_is_written_over_another():
    X = inputs(8)
    for taken in ("out.npy", "./out.npy", "out.exact.npy", Path("out.stderr.npy").absolute()):
        with pytest.raises(cm.InvalidArgument, match="would be written over the journal, out"):
            begun(X, "out.npy", journal=taken)
    assert not list(Path().iterdir())
    np.save("x.npy", X)
    Path("same.npy").symlink_to("x.npy")
    for out in ("x.npy", "same.npy"):
        with pytest.raises(cm.InvalidArgument, match="would be written over the source"):
            begun(np.load("x.npy", mmap_mode="r"), out)
    np.testing.assert_array_equal(np.load("x.npy"), X)


HELPERS = """
WEIGHT = 2.0

def scale(batch):
    return batch * WEIGHT

class Base:
    def __call__(self, batch):
        return self.made(batch)
"""
MODEL = """
import functools, logging, threading
import helpers
import numpy as np
from helpers import Base
from scipy.interpolate import CubicSpline
from scipy.optimize import minimize
from scipy.stats import norm

SHIFT = 3
log, lock, rng = logging.getLogger("model"), threading.Lock(), np.random.default_rng()
curve = CubicSpline(np.arange(5.0), np.arange(5.0) ** 2)

class Model(Base):
    def made(self, batch):
        return self.shifted(batch)

    @staticmethod
    def shifted(batch):
        return batch + SHIFT

@functools.lru_cache
def cached(name):
    return {"a", "b", name}

def helped(batch):
    return helpers.scale(batch)

def makes(batch):
    return Model()(batch)

def uses(batch):
    with lock:
        log.info("called"), cached("x"), minimize, rng.normal()
    return norm.cdf(batch) + curve(batch)

model, method = Model(), Model().made
"""


def fingerprints(**changes):
    """Of everything in the modules above, in a new process, with some of their text changed, before and after use."""
    for name, source in (("helpers", HELPERS), ("model", MODEL)):
        text = functools.reduce(
            lambda text, change: text.replace(*change), changes.values(), source
        )
        Path(f"{name}.py").write_text(text)
    made = subprocess.run(
        [sys.executable, "-B", "-c", PRINTS],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "random"},
    )
    before, after = (json.loads(line) for line in made.stdout.splitlines())
    assert before == after
    return before


@functools.cache
def usual_fingerprints():
    """Of these modules unchanged, in the folder of the first test that asks."""
    return fingerprints()


PRINTS = """
import json, logging
import numpy as np
import model
from codedmap.storage.digest import fingerprint
names = ("helped", "makes", "uses", "model", "method")
for _ in range(2):
    print(json.dumps({name: fingerprint(getattr(model, name)) for name in names}))
    for name in names:
        getattr(model, name)(np.ones(2))
    logging.getLogger("model.inner").info("")
"""


def test_what_a_function_is_made_of_does_not_change_from_process_to_process_or_by_its_use():
    assert (
        usual_fingerprints()
        == fingerprints()
        == fingerprints(comment=("SHIFT = 3", "# three\nSHIFT = 3"))
    )


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("WEIGHT = 2.0", "WEIGHT = 2.5", {"helped"}),
        ("batch * WEIGHT", "batch / WEIGHT", {"helped"}),
        ("self.made(batch)", "self.made(-batch)", {"makes", "model", "method"}),
        ("batch + SHIFT", "batch - SHIFT", {"makes", "model", "method"}),
        ("SHIFT = 3", "SHIFT = 4", {"makes", "model", "method"}),
        ("** 2)", "** 3)", {"uses"}),
        ('"a", "b"', '"a", "c"', {"uses"}),
    ],
)
def test_what_a_function_calls_in_modules_of_the_users_own_counts(old, new, changed):
    before, after = usual_fingerprints(), fingerprints(change=(old, new))
    assert {name for name in before if before[name] != after[name]} == changed


# Real processes


KILLED = """
import os, sys, time
import numpy as np
import codedmap as cm

def slow(batch):
    time.sleep(0.02)
    fd = os.open("computed", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, b"".join(b"%d\\n" % int(row) for row in batch[:, 0]))
    os.close(fd)
    return batch[:, :2] * 2

if __name__ == "__main__":
    X = np.load("x.npy", mmap_mode="r")
    with cm.engines.Local(2) as engine:
        for _ in cm.waves(slow, X, code=cm.Uncoded(2), engine=engine, out="out.npy", rows=10, resume=True):
            print("wave", flush=True)
"""


def test_a_run_that_is_killed_again_and_again_comes_to_its_end():
    X = np.arange(300.0)[:, None] * np.ones(3)
    np.save("x.npy", X)
    Path("job.py").write_text(KILLED)
    rng, kills, most = np.random.default_rng(0), 0, 0
    for _ in range(40):
        with subprocess.Popen([sys.executable, "job.py"], stdout=subprocess.PIPE) as run:
            for _ in range(rng.integers(1, 9)):
                if not run.stdout.readline():
                    break
            run.kill()  # SIGKILL, at whatever it is doing
            run.stdout.read()
        if run.returncode == 0:
            break
        kills += 1
        values = np.load("out.npy")
        assert len(values) >= most
        most = len(values)
        np.testing.assert_array_equal(values, 2 * X[:most, :2])
    assert run.returncode == 0
    assert kills >= 3
    np.testing.assert_array_equal(np.load("out.npy"), 2 * X[:, :2])
    assert np.load("out.exact.npy").all()
    # Only the wave, of ten rows, in which it was killed is computed again.
    computed = np.bincount(np.loadtxt("computed", dtype=int), minlength=300)
    assert (computed >= 1).all()
    assert computed.sum() <= 300 + 10 * kills
